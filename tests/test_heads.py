"""The student of several questions: one stock classifier, its logits side by side."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, pipeline

from forked import run_by_two_processes
from hf_llambert import Choice, Choices, Scale, StudentConfig, StudentLabeler, TaskSpec, train_student
from hf_llambert.training.heads import Labels, Levels, Number, heads_of, noted_heads, summed_losses
from hf_llambert.training.rows import labelled_rows, training_rows
from hf_llambert.training.thresholds import best_thresholds

MOOD = Choice("mood", ("bad", "good"), "Which?")
TOPICS = Choices("topics", ("music", "actors", "none of it"), "Which?")
STARS = Scale("stars", ("1", "3", "5"), "How many?")
TASK = TaskSpec("t", (), "{text}", questions=(MOOD, TOPICS, STARS))


def arguments(folder, **changes) -> StudentConfig:
    settings = {"use_cpu": True, "learning_rate": 5e-3, "num_train_epochs": 20, "per_device_train_batch_size": 4}
    own = {"output_dir": str(folder / "checkpoints"), "disable_tqdm": True, "seed": 1, "report_to": []}
    return StudentConfig(**(own | settings | changes))


def answered(n: int = 32, **columns) -> Dataset:
    """Texts whose answers to all three questions are in their words; the last have no answer to one or two of them."""
    good, bad = "the actors were wonderful and I liked it", "the music was awful and the film dull"
    rows = {
        "text": [f"{(bad, good)[i % 2]} {'very ' * (i % 5)}number {i}" for i in range(n)],
        "mood": [i % 2 for i in range(n)],
        "topics": [[1 - (1 - i % 2)] if i % 2 else [0] for i in range(n)],
        "stars": [4.0 if i % 2 else 1.0 for i in range(n)],
    }
    rows["mood"][-1], rows["topics"][-2], rows["stars"][-1] = -1, None, None
    data = Dataset.from_dict(rows | columns)
    return data.cast_column("mood", ClassLabel(names=["bad", "good"])).cast_column(
        "topics", List(ClassLabel(names=list(TOPICS.labels)))
    )


@pytest.fixture(scope="session")
def several(student_dir, tmp_path_factory) -> Path:
    """A student of three questions."""
    folder = tmp_path_factory.mktemp("several")
    train_student(TASK, student_dir, folder / "s", arguments(folder), gold=answered(), eval_data=answered())
    return folder / "s"


def logits_of(folder, texts) -> np.ndarray:
    """Those that a plain pipeline gives."""
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    found = classify(texts, top_k=None, function_to_apply="none")
    order = AutoModelForSequenceClassification.from_pretrained(folder).config.label2id
    return np.array([[row["score"] for row in sorted(text, key=lambda one: order[one["label"]])] for text in found])


def test_note_says_whose_logits_are_which_and_a_stock_model_has_them(several):
    noted = json.loads((several / "training.json").read_text())["questions"]
    assert [(one["name"], one["kind"], one["first"], one["size"], one["loss"]) for one in noted] == [
        ("mood", "choice", 0, 2, "cross_entropy"),
        ("topics", "choices", 2, 3, "binary_cross_entropy"),
        ("stars", "scale", 5, 3, "cross_entropy"),
    ]
    assert len(noted[1]["thresholds"]) == 3
    config = json.loads((several / "config.json").read_text())
    assert list(config["id2label"].values()) == [
        *("mood: bad", "mood: good", "topics: music", "topics: actors", "topics: none of it"),
        *("stars: 1", "stars: 3", "stars: 5"),
    ]
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["problem_type"] == "multi_label_classification"


def test_plain_pipeline_gives_the_logits_that_the_labeler_decides_by(several):
    texts = answered()["text"][:6]
    logits, out = logits_of(several, texts), StudentLabeler(several).label(texts)
    assert np.allclose(np.array(out["student_topics_scores"]), logits[:, 2:5], atol=1e-5)
    for name, part in (("mood", logits[:, :2]), ("stars", logits[:, 5:])):
        logp = part - np.log(np.exp(part).sum(1, keepdims=True))
        assert np.allclose(np.array(out[f"student_{name}_scores"]), logp, atol=1e-5)
    expected = np.exp(np.array(out["student_stars_scores"])) @ STARS.levels
    assert np.allclose(out["student_stars_value"], expected, atol=1e-5)


def test_student_learns_every_question_from_rows_that_answer_some(several):
    found = json.loads((several / "metrics.json").read_text())
    assert found["eval"]["mood"]["accuracy"] == 1.0
    assert found["eval"]["topics"]["micro_f1"] == 1.0
    assert found["eval"]["stars"]["mae"] < 0.5
    assert (found["eval"]["mood"]["n"], found["eval"]["topics"]["n"]) == (31, 31)
    assert found["train"]["per_label"]["topics"]["none of it"] == 0
    table = Dataset.from_parquet(str(several / "evaluation.parquet"))
    assert table["mood"][-2:] == [1, -1] or table["mood"][-1] == -1
    assert {"text", "mood", "topics", "stars", "student_topics_labels", "student_stars_value"} <= set(
        table.column_names
    )


@pytest.mark.parametrize("question", [TOPICS, STARS, MOOD], ids=lambda question: question.kind)
@pytest.mark.parametrize("scale_loss", ["cross_entropy", "regression"])
def test_question_alone_has_columns_without_its_name(question, scale_loss, student_dir, tmp_path):
    task = TaskSpec("one", (), "{text}", questions=(question,))
    data = answered().select(range(30)).select_columns(["text", question.name]).rename_column(question.name, "label")
    args = arguments(tmp_path, scale_loss=scale_loss)
    found = train_student(task, student_dir, tmp_path / "s", args, gold=data, eval_data=data)["eval"]
    assert found["n"] == 30
    labeler = StudentLabeler(tmp_path / "s")
    out = labeler.label(data["text"][:4] + [None])
    assert set(out) == {f"student_{end}" for end in (*question.own_features(), "confidence", "scores")}
    assert labeler.questions[""].kind == question.kind
    assert labeler.labels == question.labels
    column = out[f"student_{question.answer_column}"]
    assert column[4] == question.missing
    assert question.right(column[:4], data["label"][:4]).all()
    noted = json.loads((tmp_path / "s" / "training.json").read_text())
    assert ("questions" in noted) == (question.kind != "choice")
    assert ("scale_loss" in noted["training"]["arguments"]) == (question.kind == "scale")
    assert ("threshold_share" in noted["training"]["arguments"]) == (question.kind == "choices")


def test_number_is_what_its_note_says_of_the_plain_logit(student_dir, tmp_path):
    task = TaskSpec("one", (), "{text}", questions=(STARS, MOOD))
    args = arguments(tmp_path, scale_loss="regression", dev_share=0.2)
    train_student(task, student_dir, tmp_path / "s", args, gold=answered().remove_columns("topics"))
    (note, _) = json.loads((tmp_path / "s" / "training.json").read_text())["questions"]
    assert (note["size"], note["loss"]) == (1, "regression")
    texts = answered()["text"][:4]
    out = StudentLabeler(tmp_path / "s").label(texts)
    logits = logits_of(tmp_path / "s", texts)[:, 0]
    assert np.allclose(out["student_stars_value"], np.clip(note["mean"] + note["width"] * logits, 1, 5), atol=1e-5)
    assert note["mean"] != 0
    assert 0 < note["spread"] < 3
    assert np.allclose(np.exp(np.array(out["student_stars_scores"])).sum(1), 1, atol=1e-5)


def rows_of(**columns) -> Dataset:
    own = {"text": ["x"] * 3, "mood": [0, 1, -1], "topics": [[0, 2], None, []], "stars": [2.0, None, 5.0]}
    return Dataset.from_dict({**own, **columns})


def test_targets_of_a_question_that_is_not_answered_are_missing_and_weigh_nothing(tmp_path):
    found = training_rows(None, rows_of(), heads_of(TASK), arguments(tmp_path))
    targets, weights = np.array(found["targets"]), np.array(found["weight"])
    assert np.isnan(targets).tolist() == [
        [False] * 8,
        [False] * 2 + [True] * 6,
        [True] * 2 + [False] * 6,
    ]
    assert targets[0].tolist() == [1, 0, 1, 0, 1, 0.5, 0.5, 0]
    assert ((weights == 0) == np.isnan(targets[:, [0, 2, 5]])).all()
    assert [weights[weights[:, k] > 0, k].mean() for k in range(3)] == pytest.approx([1, 1, 1])


def test_loss_of_a_row_is_the_sum_over_the_questions_that_it_answers(tmp_path):
    heads = heads_of(TASK)
    found = training_rows(None, rows_of(), heads, arguments(tmp_path))
    targets, weights = torch.tensor(found["targets"]), torch.ones(3, 3)
    logits = torch.randn(3, 8, requires_grad=True)
    loss = summed_losses(heads, logits, targets, weights, "cross_entropy")
    mood = -(targets[:2, :2] * logits[:2, :2].log_softmax(1)).sum(1)
    assert loss[1].item() == pytest.approx(mood[1].item())  # it answers nothing else
    binary = torch.nn.functional.binary_cross_entropy_with_logits(logits[0, 2:5], targets[0, 2:5], reduction="sum")
    stars = -(targets[0, 5:] * logits[0, 5:].log_softmax(0)).sum()
    assert loss[0].item() == pytest.approx((mood[0] + binary + stars).item(), rel=1e-5)
    loss.sum().backward()
    assert not logits.grad.isnan().any()
    assert (logits.grad[1, 2:] == 0).all()
    assert (logits.grad[2, :2] == 0).all()


def test_teachers_distributions_are_learnt_by_each_question_that_has_one(tmp_path):
    silver = rows_of(
        mood_probabilities=[[0.7, 0.3], None, None],
        topics_probabilities=[[0.9, 0.1, 0.6], None, [0.2, 0.2, 0.2]],
        stars_probabilities=[[0.2, 0.6, 0.2], None, [0.0, 0.5, 0.5]],
        llm_mood_confidence=[0.5, 1.0, None],
        llm_topics_confidence=[0.2, None, 0.6],
        llm_stars_confidence=[1.0, None, 0.5],
    )
    args = arguments(tmp_path, soft_targets=True, weight_by_confidence=True)
    found = training_rows(silver, None, heads_of(TASK), args)
    targets, weights = np.array(found["targets"]), np.array(found["weight"])
    assert targets[0] == pytest.approx([0.7, 0.3, 0.9, 0.1, 0.6, 0.2, 0.6, 0.2])
    assert targets[1, :2].tolist() == [0, 1]  # no distribution came with it
    assert weights[0, 0] / weights[1, 0] == pytest.approx(0.5)
    assert weights[0, 1] / weights[2, 1] == pytest.approx(1 / 3)
    head = heads_of(TASK, "regression")[2].fitted([1.0, 3.0, 5.0])
    assert head.mean + head.width * float(head.soft(torch.tensor([[0.0, 0.5, 0.5]]), 1.0)) == pytest.approx(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "gce"}, "question 'topics' of kind choices is learnt by binary_cross_entropy"),
        ({"loss": "elr"}, "remembers one distribution for a row, got 3 questions"),
        ({"class_balanced": True}, "class_balanced is for questions of kind choice, got question 'topics'"),
        ({"label_smoothing_factor": 0.1}, "would pull every value of question 'stars'"),
    ],
)
def test_argument_that_does_not_go_with_a_kind_is_refused_before_training(changes, message, student_dir, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path, **changes), gold=answered())
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("loss", ["gce", "symmetric_kl"])
def test_robust_losses_serve_distributions_over_labels_and_levels(loss, student_dir, tmp_path):
    task = TaskSpec("two", (), "{text}", questions=(MOOD, STARS))
    data = answered().remove_columns("topics")
    found = train_student(task, student_dir, tmp_path / "s", arguments(tmp_path, loss=loss), gold=data, eval_data=data)
    assert found["eval"]["mood"]["accuracy"] > 0.9
    with pytest.raises(ValueError, match="'stars' of kind scale is learnt by regression"):
        changed = arguments(tmp_path, loss=loss, scale_loss="regression")
        train_student(task, student_dir, tmp_path / "t", changed, gold=data)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"mood": [0] * 32}, "all 32 to the question 'mood' are 0"),
        ({"stars": [None] * 31 + [2.0]}, "all 1 to the question 'stars' are 2.0"),
        ({"topics": [None] * 32}, "No training row answers the question 'topics'"),
        ({"stars": [7.0] * 32}, r"Expected numbers from 1 to 5 in column 'stars' of the gold data, got \[7.0\]"),
        ({"topics": [[3]] * 32}, "Expected lists of ids from 0 to 2"),
    ],
)
def test_answers_that_nothing_can_be_learnt_from_are_refused_by_question(columns, message, student_dir, tmp_path):
    rows = {**{name: answered()[name][:] for name in ("text", "mood", "topics", "stars")}, **columns}
    with pytest.raises(ValueError, match=message):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), gold=Dataset.from_dict(rows))


def test_rows_without_any_answer_are_left_out_and_counted(caplog):
    rows = answered(4).to_list() + [{"text": "x", "mood": -1, "topics": None, "stars": None}]
    data = labelled_rows(Dataset.from_list(rows), TASK, "text", "gold")
    assert len(data) == 4  # two of them answer a part of the questions
    assert "1 of 5 gold rows have no text or no answer and are left out" in caplog.text


def test_question_without_a_column_is_said_and_the_others_are_used(caplog):
    data = answered(4).remove_columns(["topics", "stars"])
    assert len(labelled_rows(data, TASK, "text", "evaluation")) == 3
    assert "The evaluation data has no column topics and no stars" in caplog.text
    with pytest.raises(ValueError, match="Column 'mood' not found"):
        labelled_rows(data.remove_columns("mood"), TASK, "text", "evaluation")


def test_thresholds_are_those_of_the_best_f1_and_lie_between_probabilities():
    p = np.array([[0.4], [0.3], [0.2], [0.1], [0.05]] * 20)
    holds = np.array([[True], [True], [False], [False], [False]] * 20)
    (found,) = best_thresholds(p, holds)
    assert 0.2 < found < 0.3
    assert best_thresholds(np.full((5, 1), 0.3), np.ones((5, 1), bool))[0] < 0.3  # all or none
    assert best_thresholds(np.full((5, 1), 0.3), np.zeros((5, 1), bool)) == [0.5]
    with pytest.raises(ValueError, match=r"got none \(NaN\) in 1 of 2 rows"):
        best_thresholds(np.array([[0.3, np.nan], [0.2, 0.1]]), np.ones((2, 2), bool))


def test_thresholds_are_chosen_on_rows_that_are_not_learnt_from_or_left_at_one_half(student_dir, tmp_path):
    task = TaskSpec("one", (), "{text}", questions=(TOPICS,))
    data = answered().select(range(30)).select_columns(["text", "topics"]).rename_column("topics", "label")
    args = {"num_train_epochs": 1, "threshold_share": 0.2}
    found = train_student(task, student_dir, tmp_path / "a", arguments(tmp_path, **args), gold=data)["train"]
    assert (found["n"], found["n_dev"]) == (24, 6)
    (note,) = json.loads((tmp_path / "a" / "training.json").read_text())["questions"]
    assert note["thresholds"] == list(StudentLabeler(tmp_path / "a").heads[0].thresholds)
    args["threshold_share"] = 0
    found = train_student(task, student_dir, tmp_path / "b", arguments(tmp_path, **args), gold=data)["train"]
    assert found["n"] == 30
    assert "thresholds" not in json.loads((tmp_path / "b" / "training.json").read_text())["questions"][0]


def test_thresholds_are_of_the_rows_kept_back_each_with_its_own_answer(student_dir, tmp_path):
    task = TaskSpec("one", (), "{text}", questions=(TOPICS,))
    data = answered(160).select(range(150)).select_columns(["text", "topics"]).rename_column("topics", "label")
    args = arguments(tmp_path, threshold_share=0.5, num_train_epochs=2)
    train_student(task, student_dir, tmp_path / "s", args, gold=data)
    dev = data.train_test_split(0.5, seed=1)["test"]
    p = StudentLabeler(tmp_path / "s").label(dev["text"][:])["student_scores"]
    expected = best_thresholds(torch.tensor(p).double().sigmoid().numpy(), TOPICS.targets(dev["label"][:]) > 0)
    (note,) = json.loads((tmp_path / "s" / "training.json").read_text())["questions"]
    assert note["thresholds"] == pytest.approx(expected, abs=1e-4)


def test_rare_labels_begin_rare(student_dir):
    from hf_llambert.training.heads import begin_at_priors
    from hf_llambert.training.loading import new_classifier

    heads = heads_of(TASK)
    model = new_classifier(TASK, student_dir)[1]
    before = model.classifier.bias.detach().clone()
    answers = {"mood": [0] * 9, "topics": [[0]] * 8 + [[0, 1], None], "stars": [1.0] * 9}
    begin_at_priors(model, heads, answers)
    p = model.classifier.bias.detach().sigmoid()
    assert p[2:5].tolist() == pytest.approx([9.5 / 10, 1.5 / 10, 0.5 / 10])
    assert torch.equal(model.classifier.bias[:2], before[:2])


def test_no_label_holds_below_one_in_twenty():
    p = np.array([[0.04], [0.03], [0.02], [0.01]] * 20)
    assert best_thresholds(p, np.array([[True], [False], [False], [False]] * 20)) == [0.05]


def test_labels_are_decided_by_their_thresholds():
    head = Labels("t", TOPICS, 0, (0.9, 0.1, 0.5))
    found = head.columns(torch.tensor([[1.0, -1.0, 0.2], [-9.0, -9.0, -9.0]]))
    assert found["labels"].to_pylist() == [[1, 2], []]
    assert found["scores"][0].as_py() == pytest.approx([1.0, -1.0, 0.2])


def test_heads_survive_their_notes():
    heads = (Levels("a", MOOD), Labels("b", TOPICS, 2, (0.1, 0.2, 0.3)), Number("c", STARS, 5, 2.5, 0.5, 0.2))
    again = noted_heads([head.note() for head in heads])
    assert [head.note() for head in again] == [head.note() for head in heads]
    with pytest.raises(ValueError, match="the logits of question 'b' do not follow"):
        noted_heads([heads[0].note(), {**heads[1].note(), "first": 3}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tags"}, "expected a kind and its loss"),
        ({"labels": ["bad"]}, "two labels or more"),
        ({"labels": ["a", "b", "c"]}, "do not follow"),
        ({"first": "0"}, "expected a whole number at 'questions\\[0\\].first'"),
    ],
)
def test_damaged_note_of_questions_is_refused_by_its_place(several, tmp_path, change, message):
    note = json.loads((several / "training.json").read_text())
    note["questions"][0] |= change
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((several / name).read_bytes())
    (tmp_path / "training.json").write_text(json.dumps(note))
    with pytest.raises(OSError, match=message):
        StudentLabeler(tmp_path).label(["x"])


def test_note_of_other_logits_is_refused(several, student_dir, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((Path(student_dir) / name).read_bytes())
    (tmp_path / "training.json").write_bytes((several / "training.json").read_bytes())
    with pytest.raises(OSError, match="its questions have 8 logits, the model 2"):
        StudentLabeler(tmp_path).label(["x"])


TOGETHER = """
import sys
from datasets import Dataset
from hf_llambert import Choice, Choices, Scale, StudentConfig, TaskSpec, train_student

sys.path.insert(0, sys.argv[2])
from test_heads import TASK, answered

args = StudentConfig("checkpoints", num_train_epochs=1, per_device_train_batch_size=4, disable_tqdm=True)
found = train_student(TASK, sys.argv[1], "student", args, silver=answered(24), gold=answered(), eval_data=answered())
assert args.world_size == 2 and found["train"]["processes"] == 2
"""


def test_two_processes_train_one_student_of_several_questions(student_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    (tmp_path / "together.py").write_text(TOGETHER)
    run_by_two_processes(tmp_path, Path("together.py"), student_dir, Path(__file__).parent)
    assert set(json.loads((tmp_path / "student" / "metrics.json").read_text())["eval"]) == {"mood", "topics", "stars"}


def rewritten(folder, tmp_path, change) -> Path:
    """A copy of a student with another note."""
    out = tmp_path / "rewritten"
    shutil.copytree(folder, out)
    note = json.loads((out / "training.json").read_text())
    change(note)
    (out / "training.json").write_text(json.dumps(note))
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda note: note.pop("questions"), "names no questions, and the model is for multi_label_classification"),
        (lambda note: note["questions"].pop(), "have 5 logits, the model 8"),
        (lambda note: note["questions"][1].update(name="mood"), "name the logits mood: bad, mood: good, mood: music"),
        (lambda note: note["questions"][0].update(labels=["good", "bad"]), "name the logits mood: good, mood: bad"),
        (lambda note: note["questions"][1].update(thresholds=[0.5, math.nan, 0.5]), "expected thresholds from 0 to 1"),
        (lambda note: note["questions"][1].update(thresholds=[0.5, 2.0, 0.5]), "expected thresholds from 0 to 1"),
    ],
)
def test_note_that_is_not_of_the_model_is_refused(several, tmp_path, change, message):
    with pytest.raises(OSError, match=message):
        StudentLabeler(rewritten(several, tmp_path, change)).label(["good"])


@pytest.mark.parametrize("long_texts", ["truncate", "mean"])
def test_text_without_numbers_has_no_answer(several, tmp_path, long_texts):
    broken = rewritten(several, tmp_path, lambda note: None)
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"][:] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"no numbers \(NaN\) for 2 of 3 texts"):
        out = StudentLabeler(broken, long_texts=long_texts).label(["good film", None, "bad film " * 99])
    assert out["student_mood_label"] == [-1] * 3
    for name in ("student_topics_labels", "student_stars_value", "student_stars_confidence", "student_mood_scores"):
        assert out[name] == [None] * 3
