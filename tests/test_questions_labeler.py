"""The teacher as a map function where a task has several questions."""

import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, List, Value

from fakes import CountingTeacher
from hf_llambert import Choice, Choices, LLMLabeler, Scale, TaskSpec
from hf_llambert.annotation.calibration import Calibration
from hf_llambert.teachers.base import Reply

QUESTIONS = (
    Choice("tone", ("good", "bad"), "Is it {options}?"),
    Choices("topics", ("food", "staff", "price"), "What is it about: {options}?"),
    Scale("stars", ("1", "2", "3"), "How many stars?"),
)
TASK = TaskSpec("visit", instruction="Visit: {text}", questions=QUESTIONS, chat=False)
ENDS = ["confidence", "scores", "response", "status", "reason", "truncated"]


@pytest.fixture
def data():
    return Dataset.from_dict({"text": ["x" * (1 + i % 7) for i in range(12)] + [None, " "]})


def labeled(data, labeler, **kwargs):
    return data.map(labeler, batched=True, batch_size=5, features=labeler.features(data), **kwargs)


class Answering(CountingTeacher):
    """Writes what `answers` holds, a text by a text."""

    def _reply(self, task, text):
        return Reply(response=ANSWERS[task.name].get(text, ANSWERS[task.name][""]))


ANSWERS: dict = {}


@pytest.fixture
def answers():
    ANSWERS.clear()
    yield ANSWERS
    ANSWERS.clear()


def test_every_question_has_its_columns_and_rows_stay(data, tmp_path):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")
    out = labeled(data, labeler)
    assert out["text"][:] == data["text"][:]
    own = {"tone": ["label"], "topics": ["labels"], "stars": ["label", "value"]}
    assert out.column_names == ["text", *(f"llm_{q}_{end}" for q, ends in own.items() for end in [*ends, *ENDS])]
    assert out.features["llm_tone_label"] == ClassLabel(names=["good", "bad"])
    assert out.features["llm_topics_labels"] == List(ClassLabel(names=["food", "staff", "price"]))
    assert out.features["llm_stars_value"] == Value("float32")
    assert out["llm_topics_status"][-2:] == ["abstained", "abstained"]
    assert out["llm_topics_labels"][-2:] == [None, None]
    assert out["llm_stars_reason"][-2:] == ["text is null", "text is empty"]


def test_scores_are_those_of_each_branch_asked_alone(data, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"))
    out = labeled(data, LLMLabeler(TASK, teacher, tmp_path / "ledger"))
    (tone,), topics = TASK.branches["tone"], TASK.branches["topics"]
    for text, found, odds in zip(data["text"][:12], out["llm_tone_scores"], out["llm_topics_scores"], strict=False):
        assert found == pytest.approx(teacher._reply(tone, text).scores)
        assert odds == pytest.approx([yes - no for yes, no in (teacher._reply(one, text).scores for one in topics)])
    p = np.exp(np.array(out["llm_stars_scores"][0]))
    assert out["llm_stars_value"][0] == pytest.approx((p / p.sum()) @ [1, 2, 3])


def test_nothing_is_asked_twice_and_a_new_question_asks_only_itself(data, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"))
    fewer = TaskSpec("visit", instruction=TASK.instruction, questions=QUESTIONS[:2], chat=False)
    labeled(data, LLMLabeler(fewer, teacher, tmp_path / "ledger"))
    texts = len(set(data["text"][:12]))
    assert len(teacher.asked()) == texts * 4  # one branch of tone, three of topics
    out = labeled(data, LLMLabeler(TASK, teacher, tmp_path / "ledger"))
    assert len(teacher.asked()) == texts * 5
    again = LLMLabeler(TASK, teacher, tmp_path / "ledger").recall(data[:])
    assert len(teacher.asked()) == texts * 5
    assert again == {name: out[name][:] for name in again}


def test_question_of_several_has_the_replies_of_a_task_that_asks_it_alone(data, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"))
    labeled(data, LLMLabeler(TASK, teacher, tmp_path / "ledger"))
    before = len(teacher.asked())
    for name, one in TASK.parts.items():
        out = labeled(data, LLMLabeler(one, teacher, tmp_path / "ledger"))
        assert f"llm_{name}_scores" not in out.column_names
        assert "llm_scores" in out.column_names
    assert len(teacher.asked()) == before


def test_branch_that_failed_fails_its_question_alone_and_is_asked_again(tmp_path):
    class Failing(CountingTeacher):
        def _reply(self, task, text):
            return (
                Reply(error="broken")
                if "staff: yes" in task.messages("")[0]["content"]
                else super()._reply(task, text)
            )

    data = {"text": ["a", "bb"]}
    failing = Failing(str(tmp_path / "asked"))
    out = LLMLabeler(TASK, failing, tmp_path / "ledger")(data)
    assert out["llm_topics_status"] == ["failed", "failed"]
    assert out["llm_topics_reason"] == ["broken", "broken"]
    assert out["llm_topics_labels"] == [None, None]
    assert out["llm_tone_status"] == out["llm_stars_status"] == ["ok", "ok"]
    asked = len(failing.asked())
    out = LLMLabeler(TASK, CountingTeacher(failing.log), tmp_path / "ledger")(data)
    assert out["llm_topics_status"] == ["ok", "ok"]
    assert len(failing.asked()) == asked + 2  # the one branch of two texts


def test_one_object_answers_all_and_three_of_four_are_kept(tmp_path, answers):
    answers["visit"] = {
        "": '{"tone": "good", "topics": ["price", "food"], "stars": 3}',
        "b": '{"tone": "perhaps", "topics": [], "stars": 2}',
        "c": "I cannot say.",
    }
    teacher = Answering(str(tmp_path / "asked"), mode="generate")
    out = LLMLabeler(TASK, teacher, tmp_path / "ledger")({"text": ["a", "b", "c"]})
    assert out["llm_tone_label"] == [0, -1, -1]
    assert out["llm_topics_labels"] == [[0, 2], [], None]
    assert out["llm_stars_value"] == [3.0, 2.0, None]
    assert out["llm_stars_label"] == [2, 1, -1]
    assert out["llm_tone_status"] == ["ok", "abstained", "abstained"]
    assert out["llm_topics_status"] == ["ok", "ok", "abstained"]
    assert out["llm_stars_response"] == [answers["visit"].get(text, answers["visit"][""]) for text in "abc"]
    assert out["llm_tone_confidence"] == [None, None, None]
    assert len(teacher.asked()) == 3


def test_asked_apart_each_question_is_a_request(tmp_path, answers):
    answers["visit-tone"] = {"": "Bad."}
    answers["visit-topics"] = {"": '{"topics": ["staff"]}'}
    answers["visit-stars"] = {"": "2"}
    teacher = Answering(str(tmp_path / "asked"), mode="generate")
    out = LLMLabeler(TASK, teacher, tmp_path / "ledger", ask_apart=True)({"text": ["a"]})
    assert (out["llm_tone_label"], out["llm_topics_labels"], out["llm_stars_value"]) == ([1], [[1]], [2.0])
    assert (out["llm_tone_response"], out["llm_stars_response"]) == (["Bad."], ["2"])
    assert len(teacher.asked()) == 3


def test_calibrations_are_by_question(tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"))
    up = Calibration("batch", (-20.0, 0.0, 20.0), kind="scale")
    out = LLMLabeler(TASK, teacher, tmp_path / "ledger", calibration={"stars": up})({"text": ["a", "bb"]})
    assert out["llm_stars_label"] == [2, 2]
    assert out["llm_stars_value"] == pytest.approx([3.0, 3.0], abs=1e-4)
    with pytest.raises(ValueError, match=r"by the names of the questions.*got \['taste'\]"):
        LLMLabeler(TASK, teacher, tmp_path / "ledger", calibration={"taste": up})
    with pytest.raises(ValueError, match="is of a scale, task 'visit-topics' asks a choices"):
        LLMLabeler(TASK, teacher, tmp_path / "ledger", calibration={"topics": up})


def test_labeler_pickles_and_processes_and_streams_agree(data, tmp_path):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")
    out = labeled(data, labeler)
    assert pickle.loads(pickle.dumps(labeler))(data[:]) == labeler(data[:])
    assert labeled(data, labeler, num_proc=2).to_dict() == out.to_dict()
    stream = data.to_iterable_dataset().map(labeler, batched=True, features=labeler.features(data))
    assert list(stream) == list(out)


def test_replies_sum_what_the_branches_took(tmp_path):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")
    (reply,) = labeler.replies(["a"]).values()
    assert reply.seconds == 0.5 * 5
    assert labeler.spent(["a"])[0] == 0.5 * 5
    assert set(labeler.answered_at(["a", "b"])) == {"a"}


def test_killed_run_asks_only_what_is_left(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_questions_labeler import *
teacher = CountingTeacher({str(tmp_path / "asked")!r}, dies_after=int(sys.argv[1]))
LLMLabeler(TASK, teacher, {str(tmp_path / "ledger")!r})({{"text": ["x" * n for n in range(1, 9)]}})
"""
    died = subprocess.run([sys.executable, "-c", code, "17"], check=False)
    assert died.returncode == -signal.SIGKILL
    before = (tmp_path / "asked").read_text().splitlines()
    subprocess.run([sys.executable, "-c", code, "0"], check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 8 * 5
    assert len(before) == 18


def test_changed_ask_asks_again_and_a_description_that_is_not_shown_does_not(tmp_path):
    teacher = CountingTeacher(str(tmp_path / "asked"))
    LLMLabeler(TASK, teacher, tmp_path / "ledger")({"text": ["a"]})
    described = TaskSpec(
        "visit",
        instruction=TASK.instruction,
        questions=(replace(QUESTIONS[0], descriptions=("nice", "")), *QUESTIONS[1:]),
        chat=False,
    )
    LLMLabeler(described, teacher, tmp_path / "ledger")({"text": ["a"]})
    assert len(teacher.asked()) == 5
    other = TaskSpec(
        "visit",
        instruction=TASK.instruction,
        questions=(replace(QUESTIONS[0], ask="Was it {options}?"), *QUESTIONS[1:]),
        chat=False,
    )
    LLMLabeler(other, teacher, tmp_path / "ledger")({"text": ["a"]})
    assert len(teacher.asked()) == 6


def test_ledger_of_yesterday_answers(tmp_path):
    """Keys that the version before questions wrote, for these very tasks and texts."""
    expected = json.loads((Path(__file__).parent / "data" / "ledger_keys.json").read_text())
    teacher = CountingTeacher(str(tmp_path / "asked"))
    tasks = {
        "chat": TaskSpec("chat", ("a", "b"), "Is this {options}? {text}", system="Be brief.", lead_in="Answer:"),
        "plain": TaskSpec("plain", ("no", "yes"), "Q: {text}", chat=False, verbalizers=(("no", "nope"), ("yes",))),
    }
    found = {}
    for name, task in tasks.items():
        for mode in ("score", "generate"):
            labeler = LLMLabeler(task, replace(teacher, mode=mode), tmp_path / "ledger")
            found[f"{name} {mode}"] = labeler.question()
    assert found == expected
