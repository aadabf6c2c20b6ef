"""What stands around a student of several questions: labelling, seeds, folds, curves, active learning, adapters, a resume."""

import errno
import json
import math
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_llambert import (
    StudentLabeler,
    TaskSpec,
    label_pool,
    next_to_annotate,
    out_of_fold,
    out_of_fold_parts,
    read_evaluation,
    read_pool,
    student_silver,
    train_seeds,
    train_student,
    whole,
)
from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.quality.curves import learning_curve
from hf_llambert.tasks.parts import part_of
from hf_llambert.training.active import parts_of
from hf_llambert.training.compared import compare_students, read_seeds
from hf_llambert.training.thresholds import best_thresholds
from hf_llambert.training.trainer import StudentTrainer
from hf_llambert.whole import room_needed
from test_heads import MOOD, STARS, TASK, TOPICS, answered, arguments

TEXTS = ["the actors were wonderful", None, "the music was awful " * 20, " ", "the film dull", "very good"]
ANSWERS = ("student_mood_label", "student_topics_labels", "student_stars_label")
COLUMNS = [
    *("student_mood_label", "student_mood_confidence", "student_mood_scores"),
    *("student_topics_labels", "student_topics_confidence", "student_topics_scores"),
    *("student_stars_label", "student_stars_value", "student_stars_confidence", "student_stars_scores"),
]


@pytest.fixture(scope="module")
def several(student_dir, tmp_path_factory) -> Path:
    """A student of three questions, one of them by regression."""
    folder = tmp_path_factory.mktemp("several")
    args = arguments(folder, scale_loss="regression")
    train_student(TASK, student_dir, folder / "s", args, gold=answered(), eval_data=answered())
    return folder / "s"


def short(folder, **changes):
    return arguments(folder, **{"num_train_epochs": 1, **changes})


def test_unusable_texts_answer_nothing_and_keep_their_row(several):
    labeler = StudentLabeler(several)
    out = labeler.label(TEXTS)
    assert list(out) == COLUMNS
    for name, missing in zip(ANSWERS, (-1, None, -1), strict=True):
        assert [out[name][i] for i in (1, 3)] == [missing] * 2
    assert all(out[name][1] is None for name in COLUMNS if name not in ANSWERS)
    assert all(value is not None for name in COLUMNS for i, value in enumerate(out[name]) if i not in (1, 3))
    assert labeler.count_unusable(labeler.score(labeler.encode(TEXTS))) == 2


def test_answers_do_not_depend_on_batches_and_pickle_to_a_configuration(several):
    texts = [*answered()["text"], TEXTS[2]]
    one, many = (StudentLabeler(several, batch_tokens=n).label(texts) for n in (1, 100_000))
    assert all(one[name] == many[name] for name in ANSWERS)
    assert np.allclose(one["student_stars_value"], many["student_stars_value"], atol=1e-4)
    labeler = StudentLabeler(several)
    assert labeler.questions.keys() == TASK.parts.keys()
    assert len(pickle.dumps(labeler)) < 2000
    assert pickle.loads(pickle.dumps(labeler)).label(texts[:3]) == labeler.label(texts[:3])


def test_pool_has_the_columns_of_every_question(several, tmp_path):
    labeler, pool = StudentLabeler(several), Dataset.from_dict({"text": TEXTS * 3, "id": list(range(18))})
    found = label_pool(pool, labeler, tmp_path / "labels", 5, show_progress=False, task=TASK)
    assert (found["n_labelled"], found["n_unusable"]) == (12, 6)
    labelled = read_pool(tmp_path / "labels")
    assert labelled.column_names == ["text", "id", *COLUMNS]
    expected = labeler.label(TEXTS * 3)
    assert all(labelled[name][:] == expected[name] for name in ANSWERS)
    assert labelled.features["student_topics_labels"].feature.names == list(TOPICS.labels)
    mapped = pool.map(labeler, batched=True, features=labeler.features(pool))
    assert mapped["student_topics_labels"][:] == expected["student_topics_labels"]
    part = part_of(labelled, TASK, "stars")
    assert {"student_label", "student_value", "student_scores"} <= set(part.column_names)


def test_student_of_other_questions_is_refused_in_words(several, tmp_path):
    other = TaskSpec("o", (), "{text}", questions=(MOOD, STARS))
    with pytest.raises(ValueError, match="answers mood: choice of bad, good; topics: choices of.*Task 'o' asks mood"):
        label_pool(answered(), StudentLabeler(several), tmp_path / "x", task=other)
    with pytest.raises(ValueError, match=r"answers several questions \(mood, topics, stars\)"):
        _ = StudentLabeler(several).labels


@pytest.mark.parametrize("how", ["mean", "max"])
def test_parts_of_long_texts_are_joined_for_each_question(several, how):
    long, single = TEXTS[2], StudentLabeler(several, long_texts=how)
    out = single.label([*TEXTS, long * 3])
    assert all(out[name][1] in (None, -1) for name in COLUMNS)
    cut = StudentLabeler(several).label(TEXTS)
    assert out["student_mood_scores"][0] == pytest.approx(cut["student_mood_scores"][0], abs=1e-5)
    assert out["student_topics_scores"][0] == pytest.approx(cut["student_topics_scores"][0], abs=1e-4)
    encoded = single.encode([long * 3])
    parts = torch.cat(
        [single._load(None).forward(torch.tensor([row]), torch.ones(1, len(row), dtype=int)) for row in encoded.rows]
    )
    assert len(parts) > 1
    p = parts[:, 2:5].detach().sigmoid()
    joined = p.mean(0) if how == "mean" else p.amax(0)
    assert out["student_topics_scores"][-1] == pytest.approx(joined.logit().tolist(), abs=1e-3)
    head = single.heads[2]
    values = head.mean + head.width * parts[:, 5].detach()
    value = float(values.mean() if how == "mean" else values.max())
    assert out["student_stars_value"][-1] == pytest.approx(min(max(value, 1), 5), abs=1e-3)


@pytest.mark.parametrize(("backend", "dtype"), [("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32")])
def test_other_backends_answer_every_question_alike(several, backend, dtype):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[backend])
    texts, labeler = answered()["text"], StudentLabeler(several, backend=backend, dtype=dtype)
    out, exact = labeler.label(texts), StudentLabeler(several).label(texts)
    if dtype == "float32":
        for name in COLUMNS:
            if name.endswith(("scores", "value")):
                assert np.allclose(out[name], exact[name], atol=1e-3), name
    agreed = np.mean([all(out[name][i] == exact[name][i] for name in ANSWERS) for i in range(len(texts))])
    assert labeler.agreement(texts) == pytest.approx(agreed)
    assert agreed == 1 or dtype == "int8"


def test_agreement_counts_rows_that_are_equal_in_all_questions(several, monkeypatch):
    labeler = StudentLabeler(several)
    assert labeler.agreement(TEXTS[:1]) == 1
    exact = StudentLabeler.label

    def otherwise(self, texts, rank=None):
        out = exact(self, texts, rank)
        if self is labeler:  # one question of one text is answered in another way
            out["student_topics_labels"] = [[0, 1, 2], *out["student_topics_labels"][1:]]
        return out

    monkeypatch.setattr(StudentLabeler, "label", otherwise)
    assert labeler.agreement([TEXTS[0], TEXTS[4]]) == 0.5


def test_embeddings_are_those_of_the_encoder(several):
    found = StudentLabeler(several).embed(answered()["text"][:3])
    assert found.shape == (3, 32)


def test_epoch_is_chosen_by_the_mean_over_the_questions(student_dir, tmp_path):
    args = arguments(tmp_path, dev_share=0.25, num_train_epochs=3)
    found = train_student(TASK, student_dir, tmp_path / "s", args, silver=answered(), gold=answered(24))["train"]
    logged = [row for row in found["history"] if "eval_gold_mean" in row]
    assert len(logged) >= 3
    for row in logged:
        each = [
            row["eval_gold_mood_accuracy"],
            row["eval_gold_topics_micro_f1"],
            row.get("eval_gold_stars_spearman", 0),
        ]
        assert row["eval_gold_mean"] == pytest.approx(np.mean(each))
    assert found["n_dev"] == 14
    assert "thresholds" in json.loads((tmp_path / "s" / "training.json").read_text())["questions"][1]


def test_adapters_are_merged_into_a_student_of_several_questions(student_dir, tmp_path):
    args = short(tmp_path, lora_rank=2)
    train_student(TASK, student_dir, tmp_path / "s", args, gold=answered(), eval_data=answered())
    assert (tmp_path / "s" / "adapter" / "adapter_model.safetensors").exists()
    assert load_file(tmp_path / "s" / "model.safetensors")["classifier.weight"].shape[0] == 8
    assert list(StudentLabeler(tmp_path / "s").label(TEXTS)) == COLUMNS


def test_training_goes_on_at_its_checkpoint_to_the_same_weights(student_dir, tmp_path, monkeypatch):
    given = {"save_strategy": "epoch", "num_train_epochs": 3}
    data = {"gold": answered(), "silver": answered(24)}
    train_student(TASK, student_dir, tmp_path / "whole", arguments(tmp_path / "a", **given), **data)
    args = arguments(tmp_path / "b", **given)
    train_student(TASK, student_dir, tmp_path / "part", args, **data)
    shutil.rmtree(tmp_path / "part")
    (last, *_) = sorted((tmp_path / "b").glob("checkpoints/*/checkpoint-*"), key=lambda path: -int(path.name[11:]))
    shutil.rmtree(last)
    again = arguments(tmp_path / "b", **given, resume_from_checkpoint=True)
    train_student(TASK, student_dir, tmp_path / "part", again, **data)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_smaller_batches_are_found_where_memory_runs_out(student_dir, tmp_path, monkeypatch):
    from hf_llambert.training import trainer

    exact = trainer.summed_losses

    def small_only(heads, logits, *rest):
        if len(logits) > 2:
            raise RuntimeError("CUDA out of memory.")
        return exact(heads, logits, *rest)

    monkeypatch.setattr(trainer, "summed_losses", small_only)
    args = short(tmp_path, auto_find_batch_size=True)
    found = train_student(TASK, student_dir, tmp_path / "s", args, gold=answered().select(range(16)))
    assert found["train"]["epochs"] == 1


def test_seeds_are_told_by_question(student_dir, tmp_path):
    found = train_seeds(TASK, student_dir, tmp_path, short(tmp_path), 2, gold=answered(), eval_data=answered())
    assert set(found["questions"]) == {"mood", "topics", "stars"}
    assert len(found["questions"]["mood"]["accuracy"]["values"]) == 2
    assert found["questions"]["topics"]["micro_f1"]["high"] <= 1
    assert found["n"] == 31
    assert read_seeds(tmp_path) == json.loads(json.dumps(found))
    compared = compare_students(tmp_path, tmp_path)
    assert set(compared) == {"mood", "topics", "stars"}
    assert (compared["stars"]["difference"], compared["stars"]["runs"], compared["mood"]["n"]) == (0, 2, 31)


def test_out_of_fold_answers_of_each_question_cover_all_rows(student_dir, tmp_path):
    data = answered().map(lambda row, i: {"text": f"{row['text']} {i}"}, with_indices=True)
    found = out_of_fold_parts(data, TASK, student_dir, tmp_path / "f", short(tmp_path), 2)
    assert {name: p.shape for name, p in found.items()} == {"mood": (32, 2), "topics": (32, 3), "stars": (32, 3)}
    assert all((p > 0).all() for p in found.values())
    assert np.allclose(found["stars"].sum(1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="Use out_of_fold_parts"):
        out_of_fold(data, TASK, student_dir, tmp_path / "f", short(tmp_path), 2)


def test_learning_curve_follows_each_question(student_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_llambert.quality.curves._DRAWS", {0.5: 1, 1.0: 1})
    data = Dataset.from_list(answered().to_list() * 2)
    found = learning_curve(TASK, student_dir, tmp_path, short(tmp_path), data, answered())
    assert found["sizes"] == [32, 64]
    assert {name: one["figure"] for name, one in found["questions"].items()} == {
        "mood": "accuracy",
        "topics": "micro_f1",
        "stars": "spearman",
    }
    for one in found["questions"].values():
        assert one["n_eval"] == 31
        assert all(value is None or -1 <= value <= 1 for value in one["values"])


@pytest.mark.parametrize("by", ["entropy", "margin"])
def test_texts_whose_answers_are_least_sure_together_come_first(several, by):
    labeler, texts = StudentLabeler(several), answered()["text"]
    out = labeler.label(texts)
    parts = [
        part for name in labeler.questions for part in parts_of(labeler.questions[name], out[f"student_{name}_scores"])
    ]
    assert len(parts) == 5  # a distribution for each of mood and stars, one a label of topics
    joint = np.stack([_joint([np.exp(part[i]) for part in parts]) for i in range(len(texts))])
    ranked = np.sort(joint, axis=1)
    doubt = -(joint * np.log(joint)).sum(1) if by == "entropy" else ranked[:, -2] - ranked[:, -1]
    first = next_to_annotate(texts, 1, labeler, by)[0]
    assert doubt[first] == pytest.approx(doubt.max(), abs=1e-6)


def _joint(parts):
    """The probabilities of all answers to all questions together."""
    out = np.ones(1)
    for p in parts:
        out = np.outer(out, p).ravel()
    return out


def test_students_own_sure_answers_become_silver_by_question(several, student_dir, tmp_path):
    labelled = answered().select_columns("text").map(StudentLabeler(several), batched=True)
    least = sorted(labelled["student_topics_confidence"])[16]
    silver = student_silver(labelled, TASK, least)
    assert {"mood", "topics", "stars", "mood_probabilities", "llm_topics_confidence"} <= set(silver.column_names)
    for row in silver:
        assert (row["topics"] is None) == (row["llm_topics_confidence"] is None)
        assert row["topics"] is None or row["llm_topics_confidence"] >= least
        assert row["mood"] != -1 or row["topics"] is not None or row["stars"] is not None
    args = short(tmp_path, soft_targets=True, weight_by_confidence=True)
    everything = student_silver(labelled, TASK, 0.0)
    assert len(everything) == 32
    assert train_student(TASK, student_dir, tmp_path / "s", args, silver=everything)["train"]["n_silver"] > 24


def test_evaluation_keeps_answers_gold_and_scores_of_each_question(several):
    table = read_evaluation(several)
    assert {*COLUMNS, "text", "mood", "topics", "stars"} == set(table.column_names)
    stars = part_of(table, TASK, "stars")
    assert stars["label"][:3] == answered()["stars"][:3]


def test_fleet_labels_every_question_of_a_document(several):
    pytest.importorskip("datatrove")
    from datatrove.data import Document

    from hf_llambert import StudentStep

    step = StudentStep(several, window=4, device="cpu")
    out = list(step(iter([Document(text=text, id=str(i)) for i, text in enumerate(TEXTS)])))
    expected = StudentLabeler(several).label(TEXTS)
    assert [d.metadata["student_topics_labels"] for d in out] == expected["student_topics_labels"]
    assert out[0].metadata["student_mood_label_name"] == MOOD.labels[expected["student_mood_label"][0]]
    named = [[TOPICS.labels[i] for i in ids] for ids in expected["student_topics_labels"] if ids is not None]
    assert [d.metadata["student_topics_labels_name"] for d in out if d.text and d.text.strip()] == named
    assert out[1].metadata["student_stars_label_name"] is None
    assert step.stats["unusable"].total == 2
    schema = step.schema()
    assert {*COLUMNS, "student_topics_labels_name", "student_stars_label_name"} <= set(schema.names)


@pytest.mark.parametrize("lost", [slice(1), slice(None)])
def test_rows_without_numbers_choose_no_threshold_and_are_counted(lost, student_dir, tmp_path, monkeypatch, caplog):
    task = TaskSpec("one", (), "{text}", questions=(TOPICS,))
    data = answered().select(range(30)).select_columns(["text", "topics"]).rename_column("topics", "label")
    kept = []

    def predict(trainer, rows):
        found = real(trainer, rows)
        found.predictions[lost] = math.nan
        kept.append((found.predictions.copy(), found.label_ids))
        return found

    real = StudentTrainer.predict
    monkeypatch.setattr(StudentTrainer, "predict", predict)
    args = arguments(tmp_path, num_train_epochs=1, threshold_share=0.2)
    train_student(task, student_dir, tmp_path / "s", args, gold=data)
    (logits, targets), n = kept[0], len(range(6)[lost])
    assert f"no numbers (NaN) for {n} of 6 rows kept back" in caplog.text
    noted = json.loads((tmp_path / "s" / "training.json").read_text())["questions"][0].get("thresholds")
    p = torch.tensor(logits[n:]).double().sigmoid().numpy()
    assert noted == (None if n == 6 else best_thresholds(p, targets[n:] > 0))


def test_training_that_ends_without_numbers_saves_nothing_and_says_so(student_dir, tmp_path):
    plain = answered().rename_column("mood", "label").filter(lambda row: row["label"] >= 0)
    for task, data in ((TASK, answered()), (TaskSpec("one", ("bad", "good"), "{text}"), plain)):
        args = arguments(tmp_path, learning_rate=math.inf, num_train_epochs=1)
        with pytest.raises(RuntimeError, match=r"went astray: \d+ of \d+ tensors .* smaller learning_rate"):
            train_student(task, student_dir, tmp_path / task.name, args, gold=data)
        assert not (tmp_path / task.name).exists()


def test_training_that_another_process_is_at_begins_no_second_time(student_dir, tmp_path):
    args = arguments(tmp_path, num_train_epochs=1)
    with (
        one_at_a_time(tmp_path / "run" / "student"),
        pytest.raises(BlockingIOError, match="'.*student' is being written by this very process"),
    ):
        train_student(TASK, student_dir, tmp_path / "run" / "student", args, gold=answered())
    found = train_student(TASK, student_dir, tmp_path / "run" / "student", args, gold=answered())
    with one_at_a_time(tmp_path / "run" / "student"):  # what is done is done
        assert train_student(TASK, student_dir, tmp_path / "run" / "student", args, gold=answered()) == found
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["student"]


@pytest.mark.parametrize("what", ["model.safetensors", "training.json", "metrics.json"])
def test_full_disk_is_named_and_the_same_call_goes_on(what, student_dir, tmp_path, monkeypatch):
    def full(path, *args, **kwargs):
        if path.name.startswith((what, f".{what}")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    args = arguments(tmp_path, num_train_epochs=1)
    real = whole.sync
    with monkeypatch.context() as broken:
        broken.setattr(whole, "sync", full)
        with pytest.raises(
            OSError, match=r"s.*' cannot be written: No space left on device. Make room, then run again"
        ):
            train_student(TASK, student_dir, tmp_path / "s", args, gold=answered(), eval_data=answered())
    assert (tmp_path / "s").exists() == (what == "metrics.json")
    found = train_student(TASK, student_dir, tmp_path / "s", args, gold=answered(), eval_data=answered())
    assert set(found["eval"]) == {"mood", "topics", "stars"}
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_error_of_the_disk_that_safetensors_tells_is_one(tmp_path):
    with (
        pytest.raises(OSError, match="'x' cannot be written: No space left on device") as told,
        room_needed(Path("x")),
    ):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert told.value.errno == errno.ENOSPC
    for other in (
        SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)"),
        OSError("x"),
    ):
        with pytest.raises(type(other), match=str(other).split("(")[0]), room_needed(Path("x")):
            raise other
