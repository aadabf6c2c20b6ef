"""Intervals contain the truth; findings of runs with much gold, five gold rows, and none."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from scipy.stats import binomtest

from fakes import CountingTeacher
from hf_llambert import (
    ClassificationQuality,
    LLMLabeler,
    StudentLabeler,
    TaskSpec,
    annotate,
    class_prevalence,
    compare_labels,
    label_pool,
    learning_curve,
    likely_label_errors,
    load_data,
    select_silver,
    train_student,
    worth_of_labels,
    write_report,
)
from hf_llambert.report.findings import pool_texts
from hf_llambert.report.pooled import pool_answers
from hf_llambert.report.sentences import finding_sentences
from test_training import arguments

TASK = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
SIZES = [50, 50, 50, 100, 100, 100, 200, 200, 400]


def draws_with_truth(truth, interval, draws=300):
    random = np.random.default_rng(0)
    return np.mean([low <= truth <= high for low, high in (interval(random) for _ in range(draws))])


def test_a_student_that_says_nothing_leaves_wilsons_interval_of_the_gold_rows():
    gold = np.repeat([1, 0], [3, 97])
    for student in (np.zeros(100, dtype=int), 1 - gold):
        found = class_prevalence(gold, student, [9_000, 1_000], TASK.labels)["positive"]
        wilson = binomtest(3, 100).proportion_ci(method="wilson")
        assert (found["share"], found["low"], found["high"]) == pytest.approx((0.03, wilson.low, wilson.high))


@pytest.mark.parametrize(("share", "right"), [(0.5, 0.85), (0.1, 0.9), (0.1, 0.6), (0.03, 0.5), (0.03, 0.9)])
def test_prevalence_intervals_contain_the_truth(share, right):
    def interval(random):
        gold = (random.random(300) < share).astype(int)
        student = np.where(random.random(300) < right, gold, 1 - gold)
        given = random.binomial(20_000, share * right + (1 - share) * (1 - right))
        found = class_prevalence(gold, student, [20_000 - given, given], TASK.labels)["positive"]
        return found["low"], found["high"]

    assert 0.92 <= draws_with_truth(share, interval) <= 0.98


def test_prevalence_puts_a_lopsided_student_right():
    gold = np.repeat([0, 1], [80, 20])
    student = np.repeat([0, 1, 1], [40, 40, 20])  # half of the negatives are called positive
    found = class_prevalence(gold, student, [4_000, 6_000], TASK.labels)["positive"]
    assert found["counted"] == 0.6
    assert found["share"] == pytest.approx(0.2, abs=1e-9)
    assert found["low"] < 0.2 < found["high"] < 0.35


def test_a_student_that_is_always_right_narrows_the_interval():
    gold = np.tile([0, 1], 100)
    widths = [
        one["high"] - one["low"]
        for student in (gold, np.zeros(200, dtype=int))
        for one in [class_prevalence(gold, student, [50_000, 50_000], TASK.labels)["positive"]]
    ]
    assert widths[0] < widths[1] / 2


@pytest.mark.parametrize("student", [[0, 0, 0, 0, 0], [0, 1, 0, 1, 0]])
def test_five_gold_rows_say_little_and_say_so(student):
    found = class_prevalence([0, 0, 1, 1, 0], student, [900, 100], TASK.labels)["positive"]
    assert found["high"] - found["low"] > 0.5
    assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1


def test_a_class_that_is_never_seen_may_be_there():
    labels = ("a", "b", "c")
    found = class_prevalence([0, 1] * 50, [0, 1] * 50, [500, 500, 0], labels)["c"]
    assert found["share"] == 0
    assert 0.001 < found["high"] < 0.1


@pytest.mark.parametrize(
    ("gold", "student", "counts", "said"),
    [
        ([0], [0], [5, 5], "two gold labels or more, got 1"),
        ([0, 1], [0], [5, 5], "for each gold label"),
        ([0, 1], [0, 1], [0, 0], "how often each of the 2 labels"),
        ([0, 2], [0, 1], [5, 5], r"from 0 to 1, got \[2\]"),
    ],
)
def test_prevalence_of_what_is_none_is_refused(gold, student, counts, said):
    with pytest.raises(ValueError, match=said):
        class_prevalence(gold, student, counts, TASK.labels)


def test_intervals_of_what_labels_are_worth_contain_the_truth():
    def accuracy(n):
        return 0.9 - 1.5 * n**-0.5

    def interval(random):
        measured = [random.binomial(1000, accuracy(n)) / 1000 for n in SIZES]
        found = worth_of_labels(SIZES, measured, 200)
        return found["low"], found["high"]

    assert 0.92 <= draws_with_truth(accuracy(600) - accuracy(400), interval) <= 0.995


def test_labels_that_bring_nothing_are_said_to():
    found = worth_of_labels(SIZES, [0.8, 0.801, 0.799, 0.8, 0.801, 0.799, 0.8, 0.8, 0.8], 100)
    assert found["high"] < 0.005
    assert "next to nothing" in found["sentence"]
    rising = worth_of_labels(SIZES, [0.6 + 0.05 * np.log2(n / 50) for n in SIZES], 400)
    assert rising["low"] > 0.02


@pytest.mark.parametrize(
    ("sizes", "more", "said"), [([50, 100, 200, 400], 10, "five students"), (SIZES, 401, "1 to 400")]
)
def test_too_short_a_curve_is_refused(sizes, more, said):
    with pytest.raises(ValueError, match=said):
        worth_of_labels(sizes, [0.8] * len(sizes), more)


def texts_and_labels(n, flipped, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=n)
    words = [["dull", "slow", "poor", "weak"], ["fine", "great", "warm", "keen"]]
    fill = ["the", "film", "plot", "cast"]
    texts = [" ".join([*random.choice(words[k], 3), *random.choice(fill, random.integers(2, 9))]) for k in labels]
    wrong = random.random(n) < flipped
    return texts, np.where(wrong, 1 - labels, labels), np.flatnonzero(wrong)


@pytest.mark.parametrize("flipped", [0.0, 0.1, 0.3])
def test_share_of_flipped_labels_is_found_without_gold(flipped):
    texts, labels, wrong = texts_and_labels(600, flipped)
    share, suspects = likely_label_errors(texts, labels)
    assert share == pytest.approx(len(wrong) / 600, abs=0.04)
    if flipped:
        assert len(set(suspects.tolist()) & set(wrong.tolist())) > 0.7 * len(wrong)


def test_too_few_labels_to_tell_errors_are_said_to_be():
    share, suspects = likely_label_errors(["a b"] * 12, [0] * 10 + [1] * 2)
    assert share is None
    assert len(suspects) == 0
    with pytest.raises(ValueError, match="for each of 2 texts"):
        likely_label_errors(["a", "b"], [0])


def test_recall_and_precision_have_intervals():
    quality = ClassificationQuality(keep_in_memory=True).compute(
        predictions=[0] * 8 + [1] * 2, references=[0] * 10, labels=("a", "b", "c")
    )
    found = quality["per_class"]
    assert found["a"]["recall_low"] == pytest.approx(0.490, abs=0.001)  # Wilson, 8 of 10
    assert found["a"]["recall_high"] == pytest.approx(0.943, abs=0.001)
    assert (found["c"]["recall_low"], found["c"]["recall_high"]) == (0, 1)


def test_pool_is_counted_and_sampled_shard_by_shard(tmp_path):
    for k in range(3):
        labels = [0, 1, -1, 1][: 4 - k]
        table = pa.table({"text": [f"{k}-{i}" for i in range(len(labels))], "student_label": labels})
        pq.write_table(table, tmp_path / f"part-0000{k}-00000.parquet")
    question = TaskSpec("t", ("a", "b", "c"), "{text}").question
    assert pool_answers(tmp_path, question) == {"counts": {"a": 3, "b": 4, "c": 0}}
    assert sorted(pool_texts(tmp_path, "text")) == ["0-0", "0-1", "0-2", "0-3", "1-0", "1-1", "1-2", "2-0", "2-1"]
    assert pool_texts(tmp_path, "review") is None


def labelled_data():
    texts, labels, _ = texts_and_labels(240, 0.0)
    return Dataset.from_dict({"text": texts, "label": labels, "kind": ["a", "b"] * 120})


@pytest.fixture(scope="module")
def run(student_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    data = labelled_data()
    run = folder / "run"
    labeler = LLMLabeler(TASK, CountingTeacher(str(folder / "asked")), run / "ledger")
    annotate(data, labeler, run / "annotated", gold_column="label")
    silver, _ = select_silver(load_data(run), TASK)
    settings = arguments(folder, num_train_epochs=1)
    learning_curve(TASK, student_dir, run, settings, silver, data.select(range(120)))
    train_student(TASK, student_dir, run / "student", settings, silver=silver, eval_data=data.select(range(120)))
    pool = Dataset.from_dict({"text": [f"{text} again" for text in data["text"]]})
    label_pool(pool, StudentLabeler(run / "student"), run / "labels", show_progress=False)
    compare_labels(run)
    return run


def test_findings_of_a_finished_run_are_in_every_form_of_its_report(run):
    report = write_report(run)
    assert report["noise"]["n"] == 240
    assert sum(one["share"] for one in report["prevalence"].values()) == pytest.approx(1, abs=0.01)
    assert report["drift"]["p"] < 0.01  # every text of the pool ends with "again"
    assert "again" in report["drift"]["words"]["pool"]
    kinds = {row["kind"] for row in report["slices"]["teacher"]}
    assert {"words", "keyword", "column kind"} <= kinds
    assert report["slices"]["student"]
    (source,) = report["sources"]
    assert (source["column"], source["n"], source["values"]) == ("kind", 240, {"a": 120, "b": 120})
    assert set(source["foretold"]) == {"teacher", "student", "gold"}
    assert report["advice"]["labels"] == 240
    assert {"slices-teacher.png", "slices-student.png", "prevalence.png", "curve.png"} <= {
        path.name for path in (run / "figures").iterdir()
    }
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    for sentence in finding_sentences(report):
        assert sentence.split(" (")[0].replace("'", "&#39;") in page
    assert "What was found" in text
    json.dumps(report, allow_nan=False)


def test_curve_goes_on_where_it_stopped(run, student_dir, tmp_path):
    before = (run / "curve.json").read_text()
    written = {path: path.stat().st_mtime_ns for path in (run / "curve").rglob("metrics.json")}
    assert len(written) == len(SIZES)
    silver, _ = select_silver(load_data(run), TASK)
    gold = labelled_data().select(range(120))
    learning_curve(TASK, student_dir, run, arguments(tmp_path, num_train_epochs=1), silver, gold)
    assert (run / "curve.json").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_without_gold_what_needs_none_is_still_found(tmp_path, student_dir):
    texts, _, _ = texts_and_labels(120, 0.0)
    run = tmp_path / "run"
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), run / "ledger")
    annotate(Dataset.from_dict({"text": texts}), labeler, run / "annotated")
    report = write_report(run)
    assert report["noise"]["share"] is not None
    assert report["prevalence"] is report["advice"] is report["drift"] is report["slices"]["teacher"] is None


def test_damaged_curve_is_left_out_with_a_warning(run, tmp_path, caplog):
    shutil.copytree(run, tmp_path / "run")
    for content in ("{", "{}", '{"sizes": [1, 2], "accuracy": [0.5, null], "n_eval": 3}'):
        (tmp_path / "run" / "curve.json").write_text(content)
        assert write_report(tmp_path / "run")["advice"] is None
    assert caplog.text.count("is no learning curve") == 3


def test_curve_of_another_student_is_left_out_with_a_warning(run, tmp_path, caplog):
    shutil.copytree(run, tmp_path / "run")
    curve = json.loads((run / "curve.json").read_text())
    (tmp_path / "run" / "curve.json").write_text(json.dumps({**curve, "n_train": 239}))
    assert write_report(tmp_path / "run")["advice"] is None
    assert "is of another number of labels than the student" in caplog.text


def test_pool_that_is_not_all_labelled_is_not_counted(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "labels" / "stage.json"
    note = json.loads(path.read_text())
    note["results"]["complete"] = False
    path.write_text(json.dumps(note))
    report = write_report(tmp_path / "run")
    assert report["pool"] is report["prevalence"] is report["drift"] is None
