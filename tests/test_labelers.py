import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets.fingerprint import Hasher

from fakes import CountingTeacher
from hf_llambert import ABSTAIN, LLMLabeler, TaskSpec, TransformersTeacher, batch_calibration
from hf_llambert.annotation.ledger import Ledger

COLUMNS = ["llm_label", "llm_confidence", "llm_scores", "llm_response", "llm_status", "llm_reason", "llm_truncated"]


@pytest.fixture
def teacher(tmp_path):
    return CountingTeacher(str(tmp_path / "asked.txt"))


@pytest.fixture
def task():
    return TaskSpec("t", ("negative", "positive"), "{text}", chat=False)


@pytest.fixture
def texts():
    return Dataset.from_dict({"id": list(range(20)), "text": ["x" * (1 + i % 9) for i in range(20)]})


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger"


def annotate(texts, labeler, **kwargs):
    return texts.map(labeler, batched=True, batch_size=6, features=labeler.features(texts), **kwargs)


def test_rows_come_out_as_they_went_in_duplicates_included(texts, task, teacher, ledger):
    out = annotate(texts, LLMLabeler(task, teacher, ledger))
    assert out.column_names == ["id", "text", *COLUMNS]
    assert out["id"][:] == list(range(20))
    assert out["text"][:] == texts["text"][:]
    assert sorted(teacher.asked()) == sorted(set(texts["text"]))  # a duplicate is asked about once


def test_columns_have_the_types_of_the_contract(texts, task, teacher, ledger):
    features = annotate(texts, LLMLabeler(task, teacher, ledger)).features
    assert features["llm_label"] == ClassLabel(names=["negative", "positive"])
    assert features["llm_confidence"] == Value("float32")
    assert features["llm_scores"].feature == Value("float32")
    assert features["llm_truncated"] == Value("bool")


def test_plain_map_without_features_works_too(texts, task, teacher, ledger):
    out = texts.map(LLMLabeler(task, teacher, ledger), batched=True)
    assert set(COLUMNS) <= set(out.column_names)
    assert set(out["llm_label"]) == {0, 1}


def test_label_and_confidence_follow_the_scores(texts, task, teacher, ledger):
    for row in annotate(texts, LLMLabeler(task, teacher, ledger)):
        assert row["llm_label"] == max(range(2), key=lambda i: row["llm_scores"][i])  # noqa: B023
        assert 0.5 <= row["llm_confidence"] <= 1
        assert (row["llm_status"], row["llm_response"], row["llm_reason"]) == ("ok", None, None)


def test_streaming_gives_the_same_as_in_memory(texts, task, teacher, ledger):
    labeler = LLMLabeler(task, teacher, ledger)
    streamed = texts.to_iterable_dataset(num_shards=2).map(
        labeler, batched=True, batch_size=3, features=labeler.features(texts)
    )
    assert list(streamed) == list(annotate(texts, labeler))
    assert streamed.features["llm_label"].names == ["negative", "positive"]


def test_processes_give_the_same_as_one(texts, task, teacher, ledger):
    labeler = LLMLabeler(task, teacher, ledger)
    many = annotate(texts, labeler, num_proc=2, with_rank=True)
    assert many.to_list() == annotate(texts, LLMLabeler(task, teacher, ledger.with_name("other"))).to_list()


@pytest.mark.parametrize("num_proc", [None, 2])
def test_real_teacher_works_in_workers(reviews, cloze, teacher_dir, ledger, num_proc, monkeypatch):
    labeler = LLMLabeler(cloze, TransformersTeacher(teacher_dir), ledger)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.ones(512, 512) @ torch.ones(512, 512)  # starts the parent's threads, for which a fork must not wait
    labeler.replies(["loaded in the parent, before the fork"])
    out = annotate(reviews, labeler, num_proc=num_proc, with_rank=True)
    assert set(out["llm_status"]) == {"ok"}


def test_unusable_texts_abstain_with_their_reason_and_the_rest_goes_on(task, teacher, ledger):
    rows = Dataset.from_dict({"text": ["fine", None, "", "  \n", "also fine"]})
    out = annotate(rows, LLMLabeler(task, teacher, ledger))
    assert out["llm_reason"][:] == [None, "text is null", "text is empty", "text is empty", None]
    assert out["llm_status"][:] == ["ok", "abstained", "abstained", "abstained", "ok"]
    assert out["llm_label"][1] == ABSTAIN
    assert out["llm_confidence"][1] is None
    assert sorted(teacher.asked()) == ["also fine", "fine"]


def test_texts_that_are_no_strings_abstain(task, teacher, ledger):
    out = annotate(Dataset.from_dict({"text": [1, 2]}), LLMLabeler(task, teacher, ledger))
    assert out["llm_reason"][:] == ["text is int, expected a string"] * 2


def test_only_unusable_texts_need_no_teacher(task, teacher, ledger):
    out = annotate(Dataset.from_dict({"text": ["", None]}), LLMLabeler(task, teacher, ledger))
    assert out["llm_status"][:] == ["abstained"] * 2
    assert not Path(ledger).exists()


def test_missing_column_is_named_with_what_there_is(texts, task, teacher, ledger):
    with pytest.raises(ValueError, match=r"Column 'review' not found in \['id', 'text'\]. Pass text_column"):
        texts.map(LLMLabeler(task, teacher, ledger, text_column="review"), batched=True)


def test_unbatched_map_is_explained(texts, task, teacher, ledger):
    with pytest.raises(ValueError, match="Pass batched=True"):
        texts.map(LLMLabeler(task, teacher, ledger))


def test_generated_answers_are_parsed_and_unusable_ones_keep_their_words(texts, task, tmp_path, ledger):
    teacher = CountingTeacher(str(tmp_path / "asked.txt"), mode="generate")
    out = annotate(texts, LLMLabeler(task, teacher, ledger))
    for row in out:
        if len(row["text"]) % 5 == 0:
            assert (row["llm_status"], row["llm_label"]) == ("abstained", ABSTAIN)
            assert (row["llm_reason"], row["llm_response"]) == ("names no label", "who knows")
        else:
            assert (row["llm_status"], row["llm_label"]) == ("ok", len(row["text"]) % 2)
    assert set(out["llm_scores"]) == {None}


def test_rerun_asks_nothing(texts, task, teacher, ledger):
    first = annotate(texts, LLMLabeler(task, teacher, ledger))
    asked = teacher.asked()
    again = annotate(texts, LLMLabeler(task, teacher, ledger), load_from_cache_file=False)
    assert teacher.asked() == asked
    assert again.to_list() == first.to_list()


@pytest.mark.parametrize("num_proc", [None, 2])
def test_killed_run_asks_nothing_twice_but_the_batch_it_died_in(texts, task, teacher, ledger, num_proc, tmp_path):
    unique = Dataset.from_dict({"text": [f"text {i}" for i in range(20)]})
    unique.save_to_disk(tmp_path / "data")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from datasets import load_from_disk\nfrom fakes import CountingTeacher\n"
        "from hf_llambert import LLMLabeler, TaskSpec\n"
        "task = TaskSpec('t', ('negative', 'positive'), '{text}', chat=False)\n"
        f"labeler = LLMLabeler(task, CountingTeacher({teacher.log!r}, dies_after=9), {str(ledger)!r})\n"
        f"load_from_disk({str(tmp_path / 'data')!r}).map(labeler, batched=True, batch_size=4, num_proc={num_proc})\n"
    )
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert died.returncode != 0
    before = teacher.asked()
    kept = len(Ledger(ledger))
    assert 0 < len(before) < 20
    assert len(before) - kept <= 2 * (num_proc or 1)  # at most the batch of two that each process was at
    out = annotate(unique, LLMLabeler(task, teacher, ledger))
    assert set(out["llm_status"]) == {"ok"}
    assert len(teacher.asked()) - len(before) == 20 - kept


def test_failed_rows_are_marked_and_asked_again(texts, task, teacher, ledger):
    broken = dataclasses.replace(teacher, fails_on="xxxxx")
    out = annotate(texts, LLMLabeler(task, broken, ledger))
    failed = [row for row in out if "xxxxx" in row["text"]]
    assert {row["llm_status"] for row in failed} == {"failed"}
    assert {row["llm_reason"] for row in failed} == {"no connection"}
    assert {row["llm_label"] for row in failed} == {ABSTAIN}
    asked = len(teacher.asked())
    # The same call again must not come from map's cache. The teacher is well now.
    again = annotate(texts, LLMLabeler(task, dataclasses.replace(broken, fails_on=""), ledger))
    assert set(again["llm_status"]) == {"ok"}
    assert len(teacher.asked()) - asked == len({row["text"] for row in failed})


def test_map_result_with_failures_is_not_served_from_the_cache(texts, task, teacher, ledger):
    broken = dataclasses.replace(teacher, fails_on="xxxxx")
    before = Hasher.hash(LLMLabeler(task, broken, ledger))
    annotate(texts, LLMLabeler(task, broken, ledger))
    assert Hasher.hash(LLMLabeler(task, broken, ledger)) != before


def test_teacher_that_leaves_texts_out_is_an_error_that_keeps_the_rest(texts, task, teacher, ledger, monkeypatch):
    whole = CountingTeacher.ask
    monkeypatch.setattr(CountingTeacher, "ask", lambda *a, **k: list(whole(*a, **k))[:1])
    with pytest.raises(RuntimeError, match="left .* of .* texts without a reply"):
        LLMLabeler(task, teacher, ledger).replies(texts["text"])
    assert len(Ledger(ledger)) > 0


def test_parser_calibration_and_threshold_ask_nothing(texts, task, tmp_path, ledger):
    teacher = CountingTeacher(str(tmp_path / "asked.txt"), mode="generate")
    annotate(texts, LLMLabeler(task, teacher, ledger))
    asked = len(teacher.asked())
    other_words = dataclasses.replace(task, verbalizers=(("negative", "bad"), ("positive", "who knows")))
    out = annotate(texts, LLMLabeler(other_words, teacher, ledger))
    assert set(out["llm_status"]) == {"ok"}
    assert len(teacher.asked()) == asked


def test_recalibrating_asks_nothing(texts, task, teacher, ledger):
    out = annotate(texts, LLMLabeler(task, teacher, ledger))
    asked = len(teacher.asked())
    annotate(texts, LLMLabeler(task, teacher, ledger, calibration=batch_calibration(out["llm_scores"])))
    assert len(teacher.asked()) == asked


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "Text: {text}"},
        {"verbalizers": (("bad",), ("good",))},
        {"chat": True},
        {"chat": True, "lead_in": "It is"},
    ],
)
def test_changed_prompt_asks_again(texts, task, teacher, ledger, change):
    annotate(texts, LLMLabeler(task, teacher, ledger))
    asked = len(teacher.asked())
    annotate(texts, LLMLabeler(dataclasses.replace(task, **change), teacher, ledger))
    assert len(teacher.asked()) == 2 * asked


def test_changed_teacher_asks_again(texts, task, teacher, ledger):
    annotate(texts, LLMLabeler(task, teacher, ledger))
    asked = len(teacher.asked())
    annotate(texts, LLMLabeler(task, dataclasses.replace(teacher, version=2), ledger))
    assert len(teacher.asked()) == 2 * asked


def test_fingerprint_is_stable_and_carries_no_weights(cloze, teacher_dir, reviews, ledger):
    labeler = LLMLabeler(cloze, TransformersTeacher(teacher_dir), ledger)
    before = Hasher.hash(labeler)
    annotate(reviews, labeler)
    assert Hasher.hash(labeler) == before == Hasher.hash(LLMLabeler(cloze, TransformersTeacher(teacher_dir), ledger))
    assert len(pickle.dumps(labeler)) < 4000
    other = LLMLabeler(dataclasses.replace(cloze, lead_in="It was"), TransformersTeacher(teacher_dir), ledger)
    assert Hasher.hash(other) != before


def test_second_map_comes_from_the_cache(tmp_path, task, teacher, ledger, texts):
    texts.save_to_disk(tmp_path / "data")
    data = Dataset.load_from_disk(str(tmp_path / "data"))
    first, second = (annotate(data, LLMLabeler(task, teacher, ledger)) for _ in range(2))
    assert first._fingerprint == second._fingerprint
    assert first.cache_files == second.cache_files


def test_content_free_texts_are_asked_once(task, teacher, ledger):
    labeler = LLMLabeler(task, teacher, ledger)
    assert labeler.content_free_scores() == labeler.content_free_scores()
    assert len(teacher.asked()) == 3
    with pytest.raises(ValueError, match="needs scores"):
        LLMLabeler(task, dataclasses.replace(teacher, mode="generate"), ledger).content_free_scores()


def test_seconds_are_remembered_by_the_ledger(task, teacher, ledger):
    LLMLabeler(task, teacher, ledger).replies(["a", "b", "a", None])
    assert LLMLabeler(task, teacher, ledger).spent(["a", "b", "a", None, "never asked"]) == (1.0, (0, 0))


def test_calibration_of_another_task_is_refused(task, teacher, ledger):
    with pytest.raises(ValueError, match="has 3 biases, task 't' has 2 labels"):
        LLMLabeler(task, teacher, ledger, calibration=batch_calibration([[0.0, 0.0, 0.0]]))


def test_streaming_dataset_of_unknown_columns_is_explained(task, teacher, ledger, texts):
    streamed = texts.to_iterable_dataset().map(lambda row: row)
    with pytest.raises(ValueError, match="does not know its features"):
        LLMLabeler(task, teacher, ledger).features(streamed)
    features = LLMLabeler(task, teacher, ledger).features(Features({"text": Value("string")}))
    assert list(features) == ["text", *COLUMNS]


@pytest.fixture
def published(teacher_dir, question, tmp_path) -> Path:
    """A directory with the note of a published dataset whose teacher was a Hub id."""
    teacher = TransformersTeacher(teacher_dir, mode="generate", max_new_tokens=4)
    settings = teacher.settings() | {"model": "org/model", "model_is_local": False, "revision": "a" * 40}
    note = {
        "task": question.to_dict(), "teacher": settings, "identity": teacher.identity(), "text_column": "review",
        "calibration": {"method": "batch", "bias": [0.1, -0.1], "temperature": 1.0},
    }  # fmt: skip
    (tmp_path / "annotation.json").write_text(json.dumps(note))
    return tmp_path


def test_labeler_of_a_published_dataset_has_its_task_teacher_and_calibration(published, question):
    labeler = LLMLabeler.from_dataset(str(published), published / "ledger")
    assert (labeler.task, labeler.text_column) == (question, "review")
    assert (labeler.teacher.model, labeler.teacher.revision) == ("org/model", "a" * 40)
    assert (labeler.teacher.mode, labeler.teacher.max_new_tokens) == ("generate", 4)
    assert labeler.calibration.bias == (0.1, -0.1)


def test_other_teacher_for_a_published_dataset_is_warned_of(published, teacher_dir, caplog):
    same = TransformersTeacher(teacher_dir, mode="generate", max_new_tokens=4)
    assert LLMLabeler.from_dataset(str(published), published / "ledger", same).teacher == same
    assert not caplog.records
    LLMLabeler.from_dataset(str(published), published / "ledger", TransformersTeacher(teacher_dir))
    assert "answers may differ" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": {"name": "x"}}, "is not what hf-llambert push writes"),
        ({"calibration": 3}, "is not what hf-llambert push writes"),
        ({"teacher": {"teacher": "oracle"}}, "of the kind 'oracle', and only a model of the Hub.*teacher="),
        (
            {"teacher": {"teacher": "transformers", "model": "m", "evil": 1}},
            "never taken from a dataset: evil.*teacher=",
        ),
        (
            {"teacher": {"teacher": "transformers", "model": "m", "model_is_local": True}},
            r"what only its annotator has: model \(m\)",
        ),
    ],
)
def test_note_that_cannot_be_followed_is_explained(published, change, message):
    note = json.loads((published / "annotation.json").read_text())
    (published / "annotation.json").write_text(json.dumps(note | change))
    with pytest.raises(ValueError, match=message):
        LLMLabeler.from_dataset(str(published), published / "ledger")


def test_directory_without_a_note_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="was not published by hf-llambert push"):
        LLMLabeler.from_dataset(str(tmp_path), tmp_path / "ledger")
