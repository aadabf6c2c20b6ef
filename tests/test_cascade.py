import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets, load_dataset
from scipy.stats import binom

from conftest import make_reviews
from fakes import CountingTeacher
from hf_llambert import (
    BatchTeacher,
    LLMLabeler,
    StudentLabeler,
    TaskSpec,
    calibrate_cascade,
    cascade,
    cascade_summary,
    cli,
    pool_calibration,
    read_pool,
)
from hf_llambert.pool import certified
from hf_llambert.pool.certified import GRID, rows_needed
from hf_llambert.pool.thresholds import guaranteed_threshold
from hf_llambert.teachers.base import Reply

TASK = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
LLM = ["llm_label", "llm_confidence", "llm_scores", "llm_response", "llm_status", "llm_reason", "llm_truncated"]
N = 30


@pytest.fixture
def teacher(tmp_path):
    return CountingTeacher(str(tmp_path / "asked.txt"))


@pytest.fixture
def labeler(teacher, tmp_path):
    return LLMLabeler(TASK, teacher, tmp_path / "ledger")


@pytest.fixture
def labels(tmp_path):
    """Thirty labelled rows in shards of 12, 12 and 6. Row 4 has no text; rows 8 and 9 have one confidence."""
    rows = {
        "id": list(range(N)),
        "text": [f"text {i:02d} {'x' * (i % 3)}" for i in range(N)],
        "label": [i % 2 for i in range(N)],
        "student_label": [0] * N,
        "student_confidence": [0.5 + (7 * i % N) / (2 * N) for i in range(N)],
    }
    rows["student_confidence"][9] = rows["student_confidence"][8]
    rows["text"][4], rows["student_label"][4], rows["student_confidence"][4] = None, -1, None
    rows["student_scores"] = [None if c is None else [-0.1, -2.0] for c in rows["student_confidence"]]
    return write_labels(tmp_path / "labels", rows)


def write_labels(folder, rows, names=("negative", "positive"), size=12):
    features = Features(
        {
            "id": Value("int64"),
            "text": Value("string"),
            "label": ClassLabel(names=["neg", "pos"]),
            "student_label": ClassLabel(names=list(names)),
            "student_confidence": Value("float32"),
            "student_scores": List(Value("float32")),
        }
    )
    data = Dataset.from_dict(rows, features=features)
    folder.mkdir()
    for k, start in enumerate(range(0, len(data), size)):
        part = data.select(range(start, min(start + size, len(data))))
        part.to_parquet(str(folder / f"part-00000-{k:05d}.parquet"))
    return folder


def run(labels, labeler, output, **kwargs):
    return cascade(labels, labeler, output, show_progress=False, **kwargs)


def least_sure(labels, number):
    rows = [(c, i) for i, c in enumerate(read_pool(labels)["student_confidence"][:]) if c is not None]
    return sorted(i for _, i in sorted(rows)[:number])


def test_unsure_rows_go_to_the_teacher_and_all_rows_come_out_in_order(labels, labeler, teacher, tmp_path):
    results = run(labels, labeler, tmp_path / "out", below=0.7)
    before, out = read_pool(labels), read_pool(tmp_path / "out")
    assert [p.name for p in sorted((tmp_path / "out").glob("*.parquet"))] == [p.name for p in sorted(labels.iterdir())]
    assert out.column_names == [*before.column_names, *LLM, "cascade_label", "cascade_source"]
    assert out.select_columns(before.column_names).to_list() == before.to_list()
    assert out.features["cascade_label"].names == out.features["llm_label"].names == ["negative", "positive"]
    unsure = [i for i, c in enumerate(before["student_confidence"]) if c is not None and c < np.float32(0.7)]
    assert results["n_asked"] == len(unsure) == len(teacher.asked())
    alone = labeler({"text": [before["text"][i] for i in unsure]})
    for i, row in enumerate(out):
        if i in unsure:
            expected = {name: alone[name][unsure.index(i)] for name in LLM}
            assert {name: row[name] for name in LLM} == expected
            assert (row["cascade_label"], row["cascade_source"]) == (expected["llm_label"], "teacher")
        else:
            assert {row[name] for name in LLM} == {None}
            assert (row["cascade_label"], row["cascade_source"]) == (row["student_label"], "student")
    assert results["n"] == N
    assert results["n_changed"] == sum(out[i]["llm_label"] != out[i]["student_label"] for i in unsure)
    assert (results["n_failed"], results["n_abstained"], results["threshold"]) == (0, 0, 0.7)
    assert results["seconds"] == len(unsure) * 0.5
    assert load_dataset(str(tmp_path / "out"), split="train").to_list() == out.to_list()


def test_budget_takes_the_least_sure_rows_and_the_earlier_of_equals(labels, labeler, teacher, tmp_path):
    before = read_pool(labels)
    for number in range(6):
        results = run(labels, labeler, tmp_path / str(number), below=0.9, max_asked=number)
        out = read_pool(tmp_path / str(number))
        chosen = [i for i, status in enumerate(out["llm_status"]) if status]
        assert chosen == least_sure(labels, number)
        assert results["n_asked"] == number
        assert results["threshold"] == (max(before["student_confidence"][i] for i in chosen) if chosen else 0)
    rank = sorted(c for c in before["student_confidence"] if c is not None).index(before["student_confidence"][8])
    run(labels, labeler, tmp_path / "tie", below=1, max_asked=rank + 1)
    status = read_pool(tmp_path / "tie")["llm_status"][:]
    assert (status[8], status[9]) == ("ok", None)
    generous = run(labels, labeler, tmp_path / "generous", below=0.55, max_asked=1000)
    assert generous["threshold"] == 0.55


def test_nothing_below_the_threshold_asks_nobody_and_all_below_asks_about_every_usable_row(
    labels, labeler, teacher, tmp_path
):
    results = run(labels, labeler, tmp_path / "none", below=0.5)
    assert (results["n_asked"], results["n_changed"], teacher.asked()) == (0, 0, [])
    out = read_pool(tmp_path / "none")
    assert out["cascade_label"][:] == out["student_label"][:]
    assert set(out["cascade_source"]) == {"student"}
    assert cascade_summary(results) == ["asked about 0 of 30 rows, changed 0 labels"]
    assert run(labels, labeler, tmp_path / "all", below=1)["n_asked"] == N - 1
    unusable = read_pool(tmp_path / "all")[4]
    assert (unusable["cascade_label"], unusable["cascade_source"], unusable["llm_status"]) == (-1, "student", None)


def test_interrupted_cascade_goes_on_and_asks_nothing_twice(labels, labeler, teacher, tmp_path, monkeypatch):
    for module in ("cascade", "cascade_shards"):
        monkeypatch.setattr(f"hf_llambert.pool.{module}.WINDOW", 5)
    whole, dying = CountingTeacher.ask, 7

    def interrupted(self, task, texts, rank=None):
        for part in whole(self, task, texts, rank):
            yield part
            if len(self.asked()) >= dying:
                raise KeyboardInterrupt

    monkeypatch.setattr(CountingTeacher, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(labels, labeler, tmp_path / "out", below=0.7)
    assert not list((tmp_path / "out").glob(".part-*"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("part-*.parquet")}
    assert len(before) == 1
    monkeypatch.setattr(CountingTeacher, "ask", whole)
    results = run(labels, labeler, tmp_path / "out", below=0.7)
    asked = teacher.asked()
    assert len(asked) == len(set(asked)) == results["n_asked"]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert run(labels, labeler, tmp_path / "out", below=0.7) == results
    assert teacher.asked() == asked
    run(labels, LLMLabeler(TASK, teacher, tmp_path / "fresh"), tmp_path / "at once", below=0.7)
    assert read_pool(tmp_path / "out").to_list() == read_pool(tmp_path / "at once").to_list()


def test_repeated_text_costs_once_over_all_shards(labels, labeler, teacher, tmp_path, monkeypatch):
    for module in ("cascade", "cascade_shards"):
        monkeypatch.setattr(f"hf_llambert.pool.{module}.WINDOW", 5)
    rows = read_pool(labels).to_dict()
    rows["text"] = [f"text {i % 3}" for i in range(N)]
    results = run(
        write_labels(tmp_path / "again", {**rows, "student_label": [0] * N}), labeler, tmp_path / "out", below=1
    )
    assert results["n_asked"] == N - 1  # one has no confidence
    assert len(teacher.asked()) == 3
    assert results["seconds"] == 3 * 0.5
    assert results["input_tokens"] == sum(r.input_tokens for r in labeler.known(rows["text"]))


def test_a_lost_shard_is_written_again(labels, labeler, teacher, tmp_path):
    results = run(labels, labeler, tmp_path / "out", below=0.7)
    before, asked = read_pool(tmp_path / "out").to_list(), teacher.asked()
    (tmp_path / "out" / "part-00000-00001.parquet").unlink()
    assert run(labels, labeler, tmp_path / "out", below=0.7) == results
    assert read_pool(tmp_path / "out").to_list() == before
    assert teacher.asked() == asked


def test_failed_rows_keep_the_students_label_and_are_asked_again(labels, labeler, teacher, tmp_path):
    broken = LLMLabeler(TASK, dataclasses.replace(teacher, fails_on="xx"), tmp_path / "ledger")
    results = run(labels, broken, tmp_path / "out", below=0.7)
    failed = [row for row in read_pool(tmp_path / "out") if row["llm_status"] == "failed"]
    assert results["n_failed"] == len(failed) > 0
    assert {row["text"].count("x") for row in failed} == {2 + 1}  # the word text has one
    assert all((row["cascade_label"], row["cascade_source"]) == (0, "student") for row in failed)
    assert f"{len(failed)} rows failed" in cascade_summary(results)[-1]
    asked = len(teacher.asked())
    results = run(labels, labeler, tmp_path / "out", below=0.7)
    assert results["n_failed"] == 0
    assert len(teacher.asked()) - asked == len(failed)
    assert set(read_pool(tmp_path / "out")["llm_status"]) == {"ok", None}


def test_abstaining_teacher_leaves_the_decision_to_the_student(labels, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked.txt"), mode="generate")
    results = run(labels, LLMLabeler(TASK, teacher, tmp_path / "ledger"), tmp_path / "out", below=1)
    out = [row for row in read_pool(tmp_path / "out") if row["llm_status"] == "abstained"]
    assert results["n_abstained"] == len(out) > 0
    assert all((row["cascade_label"], row["cascade_source"]) == (row["student_label"], "student") for row in out)
    assert {row["llm_response"] for row in out} == {"who knows"}


def test_gold_tells_what_the_teacher_bought(labels, labeler, tmp_path):
    results = run(labels, labeler, tmp_path / "out", below=0.7, gold_column="label")
    out = [row for row in read_pool(tmp_path / "out") if row["student_label"] != -1]
    for name, rows in (("all", out), ("asked", [row for row in out if row["llm_status"]])):
        found = results["gold"][name]
        student = np.mean([row["student_label"] == row["label"] for row in rows])
        both = np.mean([row["cascade_label"] == row["label"] for row in rows])
        assert (found["n"], found["student"]["value"], found["cascade"]["value"]) == (len(rows), student, both)
        assert found["difference"]["value"] == pytest.approx(both - student)
        assert found["difference"]["low"] <= both - student <= found["difference"]["high"]
        assert found["student"]["low"] < student < found["student"]["high"]
    first, second = cascade_summary(results)
    assert first.startswith(
        f"asked about {results['n_asked']} of 30 rows, changed {results['n_changed']} labels; accuracy "
    )
    assert "points (" in first
    assert second.startswith(
        f"of the {results['gold']['asked']['n']} gold rows among those asked about the student was"
    )


def test_another_configuration_is_refused_unless_overwritten(labels, labeler, tmp_path):
    run(labels, labeler, tmp_path / "out", below=0.6)
    with pytest.raises(FileExistsError, match="another run \\(below: 0.6 there, 0.7 now"):
        run(labels, labeler, tmp_path / "out", below=0.7)
    results = run(labels, labeler, tmp_path / "out", below=0.7, overwrite=True)
    out = read_pool(tmp_path / "out")
    assert results["n_asked"] == sum(status is not None for status in out["llm_status"])
    rows = read_pool(labels).to_dict()
    write_labels(tmp_path / "others", {**rows, "student_confidence": [0.6] * N})
    with pytest.raises(FileExistsError, match="another run \\(labels"):
        run(tmp_path / "others", labeler, tmp_path / "out", below=0.7)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part-0.parquet").write_text("by hand")
    with pytest.raises(FileExistsError, match="was not made by hf-llambert"):
        run(labels, labeler, tmp_path / "mine", below=0.7, overwrite=True)


def test_labels_that_do_not_fit_are_refused_before_anybody_is_asked(labels, labeler, teacher, tmp_path):
    rows = read_pool(labels).to_dict()
    other = write_labels(tmp_path / "other", rows, names=("positive", "negative"))
    with pytest.raises(ValueError, match="The student has the labels \\('positive', 'negative'\\), task 't' has"):
        run(other, labeler, tmp_path / "out", below=0.7)
    with pytest.raises(ValueError, match="Column 'review' not found.*so that its text is kept"):
        run(labels, LLMLabeler(TASK, teacher, tmp_path / "ledger", "review"), tmp_path / "out", below=0.7)
    with pytest.raises(ValueError, match="Column 'stars' not found"):
        run(labels, labeler, tmp_path / "out", below=0.7, gold_column="stars")
    with pytest.raises(ValueError, match="holds '10', .* which are none of the labels"):
        run(labels, labeler, tmp_path / "gold", below=0.7, gold_column="id")
    with pytest.raises(ValueError, match="below from 0 to 1"):
        run(labels, labeler, tmp_path / "out", below=70)
    with pytest.raises(FileNotFoundError, match="holds no part-"):
        run(tmp_path, labeler, tmp_path / "out", below=0.7)
    run(labels, labeler, tmp_path / "first", below=0)
    with pytest.raises(ValueError, match="has the columns|have the columns \\['llm_label'"):
        run(tmp_path / "first", labeler, tmp_path / "out", below=0.7)
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "plain" / "part-0.parquet")
    with pytest.raises(ValueError, match="Columns .*student_label.* not found"):
        run(tmp_path / "plain", labeler, tmp_path / "out", below=0.7)
    by_batch = LLMLabeler(TASK, BatchTeacher("m", "openai"), tmp_path / "batches")
    with pytest.raises(ValueError, match="BatchTeacher would make, and wait a day for, a batch of each"):
        run(labels, by_batch, tmp_path / "out", below=0.7)
    assert teacher.asked() == []


def test_calibration_asks_only_about_rows_that_the_cascade_asks_about(labels, labeler, teacher, tmp_path):
    found = pool_calibration(labels, labeler, below=0.9, number=6, show_progress=False)
    assert found.method == "batch"
    texts = read_pool(labels)["text"]
    assert sorted(teacher.asked()) == sorted(texts[i] for i in least_sure(labels, 6))
    calibrated = LLMLabeler(TASK, teacher, tmp_path / "ledger", calibration=found)
    assert run(labels, calibrated, tmp_path / "out", below=0.9, max_asked=8)["n_asked"] == len(teacher.asked()) == 8
    words = LLMLabeler(TASK, dataclasses.replace(teacher, mode="generate"), tmp_path / "ledger")
    assert pool_calibration(labels, words).method == "none"
    assert len(teacher.asked()) == 8


# What is known of a small world: how often each is right at each confidence, which are equally frequent.
LEVELS = np.array([0.55, 0.65, 0.75, 0.85, 0.95, 0.995], dtype=np.float32)
STUDENT = np.array([0.52, 0.60, 0.72, 0.84, 0.93, 0.99])


def draw(rng, n, teacher):
    """Gold rows: confidences, and whether student and teacher are right (1)."""
    at = rng.integers(len(LEVELS), size=n)
    return LEVELS[at], (rng.random(n) < STUDENT[at]).astype(int), (rng.random(n) < teacher).astype(int)


def true_accuracy(threshold, teacher):
    return float(np.where(np.float32(threshold) > LEVELS, teacher, STUDENT).mean())


def first_that_passes(sure, student, teacher, gold, target):
    """What is not valid: upward from nobody asked to the first threshold that looks certain."""
    order = np.argsort(sure)
    asked = np.searchsorted(sure[order], np.float32(GRID), side="left")
    right = certified._on_grid(asked, (student == gold)[order], (teacher == gold)[order])
    passing = [i for i, k in enumerate(right) if binom.sf(k - 1, len(gold), target) <= 0.05]
    return GRID[passing[-1]] if passing else None


# Just above the accuracy of one threshold, where promising too much is easiest; the last teacher falls short by itself.
@pytest.mark.parametrize(
    ("teacher", "least_found", "target"),
    [
        (0.95, 0.99, true_accuracy(0.60, 0.95) + 0.0005),
        (0.95, 0.90, true_accuracy(0.70, 0.95) + 0.0005),
        (0.95, 0.20, true_accuracy(0.80, 0.95) + 0.0005),
        (0.86, 0.30, true_accuracy(0.60, 0.86) + 0.0005),
        (0.86, 0.01, true_accuracy(0.90, 0.86) + 0.0005),
    ],
)
def test_the_promise_is_broken_in_at_most_one_of_twenty_draws(teacher, least_found, target):
    rng = np.random.default_rng(2110)
    draws, found, broken = 1000, 0, 0
    for _ in range(draws):
        gold_rows = draw(rng, 400, teacher)
        try:
            promise = guaranteed_threshold(*gold_rows, np.ones(400, int), target)
        except ValueError:
            continue
        found += 1
        broken += true_accuracy(promise.threshold, teacher) < target
    assert found >= least_found * draws
    assert broken <= binom.ppf(0.999, draws, 0.05)


def test_the_simulation_notices_a_promise_without_correction():
    rng, target, broken = np.random.default_rng(2110), true_accuracy(0.9, 0.86) + 0.0005, 0
    for _ in range(1000):
        found = first_that_passes(*draw(rng, 400, 0.86), np.ones(400, int), target)
        broken += found is not None and true_accuracy(found, 0.86) < target
    assert broken > binom.ppf(0.999, 1000, 0.05)


def test_guarantee_is_what_counting_gives():
    sure = np.repeat(np.float32([0.6, 0.97]), 200)
    student = np.array([0] * 100 + [1] * 100 + [1] * 198 + [0] * 2)
    teacher = np.array([1] * 195 + [0] * 5 + [1] * 190 + [-1] * 10)
    promise = guaranteed_threshold(sure, student, teacher, np.ones(400, int), 0.9)
    assert 0.6 < promise.threshold < 0.63  # one step of the grid lower nobody would be asked
    assert (promise.n, promise.share_asked, promise.share) == (400, 0.5, 393 / 400)
    assert binom.sf(392, 400, promise.lower) == pytest.approx(0.05)
    wider = guaranteed_threshold(
        [*sure, 0.5, None], [*student, 0, -1], [*teacher, 0, 1], [*np.ones(400, int), -1, 1], 0.9
    )
    assert wider == promise  # rows without gold, or without a student's label, say nothing
    assert guaranteed_threshold(sure, np.ones(400, int), teacher, np.ones(400, int), 0.9).threshold == 0


def test_promise_that_cannot_be_kept_says_how_many_gold_rows_would_do():
    sure, ones = np.full(40, 0.8, np.float32), np.ones(40, int)
    teacher = np.array([1] * 38 + [0] * 2)
    with pytest.raises(
        ValueError, match=r"of 40 gold rows .* 95.0% with 40 asked about .* At 95.0% about (\d+) gold"
    ) as e:
        guaranteed_threshold(sure, 0 * ones, teacher, ones, 0.9)
    rows = rows_needed(0.95, 0.9, 0.025)
    assert f"about {rows} gold rows" in str(e.value)
    assert binom.sf(int(0.95 * rows) - 1, rows, 0.9) <= 0.025
    assert 120 < rows < 250
    with pytest.raises(ValueError, match="Lower the target, or take a better teacher"):
        guaranteed_threshold(sure, 0 * ones, teacher, ones, 0.96)
    assert rows_needed(0.9, 0.9, 0.05) is None
    assert rows_needed(0.9 + 1e-12, 0.9, 0.05) is None  # no number of rows that a computer counts
    with pytest.raises(ValueError, match="No row has both"):
        guaranteed_threshold(sure, 0 * ones, teacher, -ones, 0.9)
    with pytest.raises(ValueError, match="four columns of one length"):
        guaranteed_threshold(sure, 0 * ones, teacher[:3], ones, 0.9)
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        guaranteed_threshold(sure, 0 * ones, teacher, ones, 95)


@dataclasses.dataclass(frozen=True)
class TellingTeacher(CountingTeacher):
    """Right about every text, or wrong about every one."""

    right: bool = True

    def _reply(self, task, text):
        if self.fails_on and self.fails_on in text:
            return Reply(error="no connection")
        return Reply(response=task.labels[("wonderful" in text) == self.right])


@pytest.fixture
def student(student_dir):
    return StudentLabeler(student_dir)


def asking(tmp_path, **kwargs):
    return LLMLabeler(TASK, TellingTeacher(str(tmp_path / "asked.txt"), "generate", **kwargs), tmp_path / "ledger")


def spent(labeler, rows):
    """The tokens that the teacher read and wrote about rows, as a promise notes them."""
    return dict(zip(("input_tokens", "output_tokens"), labeler.spent(rows["text"][:])[1], strict=True))


def test_threshold_from_gold_is_that_of_the_whole_table(student, tmp_path):
    gold = make_reviews(120)
    labeler = asking(tmp_path)
    promise = calibrate_cascade(gold, student, labeler, 0.9, show_progress=False)
    columns = student.label(gold["text"][:])
    expected = guaranteed_threshold(
        columns["student_confidence"], columns["student_label"], gold["label"][:], gold["label"][:], 0.9
    )
    told = len(labeler.teacher.asked())
    assert promise == dataclasses.replace(expected, n_told=told, **spent(labeler, gold))
    assert told <= 120
    calibrate_cascade(gold, student, labeler, 0.9, show_progress=False)
    assert len(labeler.teacher.asked()) == len(set(labeler.teacher.asked()))


def test_teacher_that_cannot_reach_the_target_is_found_out_early(student, tmp_path):
    labeler = asking(tmp_path, right=False)
    message = "right about 0 of the [0-9]+ gold rows asked about so far. Even if it were right about the other [0-9]+: An acc"
    with pytest.raises(ValueError, match=message):
        calibrate_cascade(make_reviews(120), student, labeler, 0.9, show_progress=False)
    assert 0 < len(labeler.teacher.asked()) <= 36


def test_gold_that_cannot_be_asked_about_promises_nothing(student, tmp_path):
    with pytest.raises(RuntimeError, match="could not be asked about [0-9]+ gold rows \\(no connection\\)"):
        calibrate_cascade(make_reviews(120), student, asking(tmp_path, fails_on="7"), 0.6, show_progress=False)
    other = dataclasses.replace(TASK, labels=("positive", "negative"), verbalizers=())
    with pytest.raises(ValueError, match="The student has the labels"):
        calibrate_cascade(make_reviews(9), student, LLMLabeler(other, asking(tmp_path).teacher, tmp_path / "l"), 0.6)


def test_gold_that_repeats_texts_is_said_to_promise_too_much(student, tmp_path, caplog):
    gold = make_reviews(60)
    promise = calibrate_cascade(gold, student, asking(tmp_path), 0.5, show_progress=False)
    assert not caplog.records
    twice = concatenate_datasets([gold, gold])
    assert calibrate_cascade(twice, student, asking(tmp_path), 0.5, show_progress=False).n == 2 * promise.n
    [record] = caplog.records
    assert "60 of the 120 gold rows repeat the text of another" in record.message


# On the command line


@pytest.fixture
def command(cloze, reviews, teacher_dir, student_dir, tmp_path):
    cloze.to_yaml(tmp_path / "task.yaml")
    make_reviews(40).to_json(str(tmp_path / "gold.jsonl"))
    reviews.to_json(str(tmp_path / "reviews.jsonl"))
    return {
        "--student": student_dir,
        "--data": tmp_path / "reviews.jsonl",
        "--output": tmp_path / "run",
        "--backend": "torch",
        "--task": tmp_path / "task.yaml",
        "--teacher": teacher_dir,
        "--max_text_tokens": 40,
    }


def call(options):
    cli.app(["label", *[str(word) for pair in options.items() for word in pair]], standalone_mode=False)


def test_label_asks_a_teacher_and_says_what_it_bought(command, tmp_path, capsys):
    call({**command, "--ask_teacher_below": 0.99, "--max_asked": 5})
    shown = capsys.readouterr().out
    assert "16 texts labelled" in shown
    assert "asked about 5 of 16 rows, changed" in shown
    assert "16 gold rows)" in shown
    assert "the budget ended at a confidence of" in shown
    out = read_pool(tmp_path / "run" / "cascade")
    assert out["cascade_source"][:].count("teacher") == 5
    noted = json.loads((tmp_path / "run" / "cascade" / "stage.json").read_text())
    assert noted["config"]["calibration"]["method"] == "batch"
    assert noted["results"]["n_asked"] == 5


def test_label_keeps_a_promise_or_says_that_it_cannot(command, tmp_path, capsys):
    with pytest.raises(
        ValueError, match="An accuracy of 99.0% cannot be promised with 95% confidence: of 40 gold rows"
    ):
        call({**command, "--guarantee": 0.99, "--gold": tmp_path / "gold.jsonl"})
    call({**command, "--guarantee": 0.05, "--gold": tmp_path / "gold.jsonl"})
    shown = capsys.readouterr().out
    assert "below a confidence of 0.0000 the teacher decides, on 0.0% of 40 gold rows: " in shown
    assert "asked about 0 of 16 rows" in shown


def test_pool_that_was_labelled_before_a_teacher_is_asked_is_the_same_pool(command, tmp_path, capsys):
    plain = {name: value for name, value in command.items() if name not in ("--teacher", "--max_text_tokens")}
    call(plain)
    before = (tmp_path / "run" / "labels" / "part-00000-00000.parquet").stat().st_mtime_ns
    call({**command, "--ask_teacher_below": 0.99, "--max_asked": 5})
    assert "asked about 5 of 16 rows" in capsys.readouterr().out
    assert (tmp_path / "run" / "labels" / "part-00000-00000.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "No teacher is asked without --ask_teacher_below or --guarantee. Add one of them, or drop --teacher"),
        ({"--ask_teacher_below": 0.7, "--guarantee": 0.9, "--gold": "x"}, "Pass one of them"),
        ({"--guarantee": 0.9}, "--guarantee and --gold belong together"),
        ({"--ask_teacher_below": 0.7, "--gold": "x"}, "--guarantee and --gold belong together"),
        ({"--ask_teacher_below": 0.7, "--task": None}, "pass --task and --teacher"),
        ({"--ask_teacher_below": 0.7, "--teacher": None}, "pass --task and --teacher"),
        (
            {"--ask_teacher_below": 0.7, "--max_text_tokns": 4},
            "No such option --max_text_tokns. Did you mean --max_text_tokens",
        ),
        ({"--ask_teacher_below": 70}, "--ask_teacher_below takes confidences from 0 to 1, .* got '70'"),
        ({"--ask_teacher_below": "nan"}, "takes confidences from 0 to 1"),
        ({"--ask_teacher_below": "much"}, "takes confidences from 0 to 1"),
        ({"--ask_teacher_below": "tone=0.7"}, "Task 'tiny' has no question 'tone'"),
        ({"--ask_teacher_below": 0.7, "--teacher": "mine.yaml"}, "belong to no teacher. Put them into mine.yaml"),
    ],
)
def test_mistakes_are_told_before_the_student_labels(command, tmp_path, change, message):
    options = {name: value for name, value in {**command, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        call(options)
    assert not (tmp_path / "run").exists()


def test_guarantee_without_labels_is_refused_with_a_sentence(command, tmp_path):
    wanted = {"--guarantee": 0.5, "--gold": tmp_path / "gold.jsonl", "--label_column": "none"}
    with pytest.raises(ValueError, match="--label_column none says that there are none"):
        call({**command, **wanted})
    assert not (tmp_path / "run").exists()


def test_gold_that_cannot_be_read_is_told_before_the_student_labels(command, tmp_path):
    wanted = {"--guarantee": 0.5, "--gold": tmp_path / "gold.jsonl"}
    (tmp_path / "gold.jsonl").write_text('{"text": "a", "label": "good"}\n')
    with pytest.raises(ValueError, match="--gold .*'good', which is none of the labels.*--label_map good=LABEL"):
        call({**command, **wanted})
    (tmp_path / "gold.jsonl").write_text('{"text": "a", "label": null}\n')
    with pytest.raises(ValueError, match="no row with a label"):
        call({**command, **wanted})
    with pytest.raises(ValueError, match="Column 'stars' not found"):
        call({**command, **wanted, "--label_column": "stars"})
    assert not (tmp_path / "run").exists()


def test_pools_own_labels_are_checked_before_gold_is_asked_about(command, tmp_path):
    rows = make_reviews(16)
    rows.remove_columns("label").add_column("label", ["odd"] * 16).to_json(str(tmp_path / "reviews.jsonl"))
    wanted = {"--guarantee": 0.05, "--gold": tmp_path / "gold.jsonl"}
    with pytest.raises(ValueError, match="People's labels of the pool: .*'odd', which is none"):
        call({**command, **wanted})
    assert not (tmp_path / "run" / "ledger").exists()
    with pytest.raises(ValueError, match="Column 'stars' not found"):
        call({**command, "--ask_teacher_below": 0.5, "--label_column": "stars", "--output": tmp_path / "other"})
    assert not (tmp_path / "other" / "ledger").exists()


def test_guarantee_by_a_column_that_only_gold_has_measures_no_pool(command, tmp_path):
    make_reviews(40).rename_column("label", "stars").to_json(str(tmp_path / "gold.jsonl"))
    call({**command, "--guarantee": 0.05, "--gold": tmp_path / "gold.jsonl", "--label_column": "stars"})
    noted = json.loads((tmp_path / "run" / "cascade" / "stage.json").read_text())
    assert noted["results"]["gold"] is None


def test_gold_means_the_same_in_every_shard(labels, labeler, tmp_path):
    """Alone, the last shard's 1 would be a name; the first shard's 0 shows that all may be ids."""
    task = TaskSpec("t", ("1", "2"), "{text}", chat=False)
    rows = read_pool(labels).to_dict()
    rows["id"] = [0] * (N // 2) + [1] * (N - N // 2)
    numbered = write_labels(tmp_path / "numbered", rows, names=task.labels)
    numbers = LLMLabeler(task, labeler.teacher, tmp_path / "numbers")
    with pytest.raises(ValueError, match="'1' can be names of the labels .*'0' is none of them; or all are ids"):
        run(numbered, numbers, tmp_path / "out", below=0, gold_column="id")
    asked = {"below": 0, "gold_column": "id", "label_values": "ids"}
    found = run(numbered, numbers, tmp_path / "out", **asked)["gold"]["all"]
    right = [a == b for a, b in zip(rows["student_label"], rows["id"], strict=True) if a >= 0]
    assert (found["n"], found["student"]["value"]) == (len(right), pytest.approx(sum(right) / len(right)))


def test_why_the_teacher_gave_no_label_is_counted(labels, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"), mode="generate", fails_on="text 1")
    results = run(labels, LLMLabeler(TASK, teacher, tmp_path / "ledger"), tmp_path / "out", below=1.0)
    assert results["reasons"]["no connection"] == results["n_failed"] == 10
    assert sum(results["reasons"].values()) == results["n_abstained"] + results["n_failed"]
