"""A cascade over three questions: a text goes up when any is unsure, and each keeps what it was sure of."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_llambert import LLMLabeler, calibrate_questions, cascade, cascade_summary
from hf_llambert.pool.cascade import choose_texts, thresholds
from hf_llambert.pool.promise import Promise
from hf_llambert.pool.thresholds import certified_threshold
from kind_run import TASK, ReadingTeacher, answered, visits

GOLD = {one.name: one.name for one in TASK.questions}


def with_scores(columns, task=TASK):
    """A student's columns as its features have them."""
    out = dict(columns)
    n = len(next(iter(columns.values())))
    return out | {f"student_{one.name}_scores": [[0.0] * len(one.labels)] * n for one in task.questions}


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    for shard in range(2):
        data = visits(60, 10 + shard)
        pq.write_table(
            pa.table({**data[:], **with_scores(answered(data, shard))}), folder / f"part-{shard:05d}.parquet"
        )
    return folder


@pytest.fixture
def labeler(tmp_path):
    return LLMLabeler(TASK, ReadingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")


BELOW = {"tone": 0.7, "quality": 0.5, "topics": 0.0}


def test_text_goes_up_when_any_question_is_unsure(labels, labeler, tmp_path):
    found = cascade(labels, labeler, tmp_path / "out", below=BELOW, gold_column=GOLD, show_progress=False)
    data = Dataset.from_parquet(sorted(map(str, (tmp_path / "out").glob("*.parquet"))))
    unsure = {name: np.array(data[f"student_{name}_confidence"][:]) < np.float32(one) for name, one in BELOW.items()}
    asked = unsure["tone"] | unsure["quality"]
    assert found["n_asked"] == asked.sum() == len(set(labeler.teacher.asked()))
    assert (found["below"], found["threshold"]) == (BELOW, BELOW)
    for question in TASK.questions:
        name, end = question.name, question.answer_column
        source = np.array(data[f"cascade_{name}_source"][:])
        assert ((source == "teacher") == unsure[name]).all()
        llm, student, both = (data[f"{who}_{name}_{end}"][:] for who in ("llm", "student", "cascade"))
        decided = [llm[k] if unsure[name][k] else student[k] for k in range(len(data))]
        close = [np.float32(one) if end == "value" else one for one in decided]  # as the column has it
        assert both == close
        assert [one is None for one in data[f"llm_{name}_status"][:]] == (~asked).tolist()
    assert found["questions"]["topics"]["n_by_teacher"] == 0
    assert found["questions"]["tone"]["n_by_teacher"] == unsure["tone"].sum()
    whole = found["questions"]["quality"]["gold"]["all"]
    assert whole["n"] == 120
    assert whole["cascade"]["value"] == pytest.approx(
        np.mean(TASK.questions[1].right(data["cascade_quality_value"][:], data["quality"][:]))
    )
    lines = cascade_summary(found)
    assert lines[1].startswith(f"tone: the teacher decided {unsure['tone'].sum():,}")


def test_second_call_asks_nothing(labels, labeler, tmp_path):
    first = cascade(labels, labeler, tmp_path / "out", below=BELOW, show_progress=False)
    before = len(labeler.teacher.asked())
    assert cascade(labels, labeler, tmp_path / "out", below=BELOW, show_progress=False) == first
    assert len(labeler.teacher.asked()) == before


def test_budget_takes_those_that_are_furthest_below():
    sure = {"a": np.float32([0.1, 0.5, 0.9, np.nan]), "b": np.float32([0.9, 0.3, 0.88, 0.2])}
    below = {"a": 0.6, "b": 0.9}
    chosen, threshold = choose_texts(sure, below, None)
    assert chosen.tolist() == [True, True, True, True]
    chosen, threshold = choose_texts(sure, below, 2)
    assert chosen.tolist() == [False, True, False, True]  # 0.6 and 0.7 below; the first 0.5, the third 0.02
    assert threshold == {"a": pytest.approx(0.0, abs=1e-6), "b": pytest.approx(0.3)}
    assert not choose_texts(sure, below, 0)[0].any()


@pytest.mark.parametrize(
    ("below", "message"),
    [({"tone": 0.5}, "no threshold of quality, topics"), ({"tune": 0.5}, "Did you mean 'tone'")],
)
def test_thresholds_are_of_the_questions(below, message):
    with pytest.raises(ValueError, match=message):
        thresholds(below, TASK)


class Student:
    """Answers as it was made up to, by the text."""

    def __init__(self, data, seed):
        self.known = {text: k for k, text in enumerate(data["text"][:])}
        self.columns = answered(data, seed)

    def check_task(self, task):
        assert task == TASK

    def label(self, texts):
        return {name: [column[self.known[text]] for text in texts] for name, column in self.columns.items()}


def test_each_question_has_a_promise_and_the_risk_is_split(labeler):
    data = visits(1500, 4)
    found = calibrate_questions(data, Student(data, 3), labeler, 0.7, gold_column=GOLD, show_progress=False)
    assert list(found) == ["tone", "quality", "topics"]
    for one in found.values():
        assert one.confidence == pytest.approx(1 - 0.05 / 3)
        assert one.lower >= 0.7
        assert one.n == 1500
    with pytest.raises(ValueError, match=r"^tone: An accuracy of 99.0% cannot be promised"):
        calibrate_questions(data, Student(data, 3), labeler, 0.99, gold_column=GOLD, show_progress=False)
    with pytest.raises(ValueError, match="no gold of topics"):
        calibrate_questions(
            data,
            Student(data, 3),
            labeler,
            0.7,
            gold_column={"tone": "tone", "quality": "quality"},
            show_progress=False,
        )


def test_promise_about_a_scale_is_kept():
    """At most 5 % of draws may break it: of 200, more than 20 do in one of 1,000."""
    question, random = TASK.questions[1], np.random.default_rng(0)

    def draw(n):
        gold = random.integers(1, 6, n).astype(float)
        sure = random.random(n)
        student = np.clip(gold + random.normal(0, 1.2 - sure, n), 1, 5)
        teacher = np.clip(gold + random.normal(0, 0.25, n), 1, 5)
        return sure, student, teacher, gold

    sure, student, teacher, gold = draw(100_000)
    broken = 0
    for _ in range(200):
        found = certified_threshold(*draw(400), question, Promise(0.8, 0.95))
        if isinstance(found, str):
            continue
        decided = np.where(sure < np.float32(found.threshold), teacher, student)
        broken += question.right(decided, gold).mean() < 0.8
    assert broken <= 20
