"""Annotating several questions where something is said wrongly, changed in between, or nobody answers."""

import dataclasses
import json
import re

import pytest

from fakes import CountingTeacher
from hf_llambert import Choice, LLMLabeler, RecordedTeacher, TaskSpec, annotate, make_plan, select_silver
from hf_llambert.annotation.asked import calibrations_of
from hf_llambert.annotation.calibration import uncalibrated
from hf_llambert.cli.lines import annotated_line, answer_lines
from hf_llambert.hub.files import annotation_note
from hf_llambert.teachers.base import Reply
from test_questions_annotate import STARS, TASK, TONE, Leaning, data, labeler, run  # noqa: F401  (a fixture)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"tone": {"good": 0.7, "bad": 0.7}}, "sum to 1, got .* that of 'tone'"),
        ({"stars": {"1": 0.2, "2": 0.2, "3": float("nan")}}, "sum to 1, got .* that of 'stars'"),
        ({"topics": {"food": 0, "staff": 0.5}}, "between 0 and 1 for 'topics'"),
        ({"tone": {"good": "most", "bad": 0.3}}, "prior of numbers"),
    ],
)
def test_shares_that_cannot_be_are_refused_before_anybody_is_asked(data, tmp_path, prior, message):  # noqa: F811
    one = labeler(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path, labelers=one, prior=prior)
    assert one.teacher.asked() == []


def test_prior_that_no_calibration_would_use_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="A prior is for batch and contextual"):
        run(data, tmp_path, calibration="none", prior={"tone": {"good": 0.7, "bad": 0.3}})


PRIOR = {"tone": {"good": 0.7, "bad": 0.3}}


def test_prior_is_refused_where_no_teacher_gives_scores_before_anybody_is_asked(data, tmp_path):  # noqa: F811
    one = labeler(tmp_path, mode="generate")
    with pytest.raises(ValueError, match=r"mode='generate' it gives none: nothing would use .*--mode score"):
        run(data, tmp_path, labelers=one, prior=PRIOR)
    with pytest.raises(ValueError, match="it gives none: nothing would use"):
        make_plan(data, one, num_annotated=10, prior=PRIOR)
    assert one.teacher.asked() == []


def test_prior_is_for_the_members_of_a_jury_that_give_scores(data, tmp_path):  # noqa: F811
    task = dataclasses.replace(TASK, questions=(TONE,))
    members = {name: labeler(tmp_path, task, mode=name) for name in ("score", "generate")}
    results, _ = run(data, tmp_path, labelers=members, jury="majority", prior=PRIOR["tone"])
    assert results["members"]["score"]["calibration"]["method"] == "batch"
    assert results["members"]["generate"]["calibration"] is None


@pytest.mark.parametrize("method", ["contextual", "fitted"])
def test_calibration_without_scores_is_told_and_the_default_is_not(method, data, tmp_path, caplog):  # noqa: F811
    task = dataclasses.replace(TASK, questions=(TONE,))
    one = labeler(tmp_path, task, mode="generate")
    fit = {"calibration": method, "gold_column": "tone", "calibration_rows": 10 * (method == "fitted")}
    assert run(data, tmp_path, "a", one, **fit)[0]["calibration"] is None
    assert f"calibration='{method}' is of scores, and with mode='generate' a teacher gives none" in caplog.text
    caplog.clear()
    run(data, tmp_path, "b", one)
    assert not caplog.records


def test_question_added_to_the_file_is_named_and_the_ledger_answers_the_others(data, tmp_path):  # noqa: F811
    run(data, tmp_path)
    more = dataclasses.replace(TASK, questions=(*TASK.questions, Choice("service", ("slow", "quick"), "Service?")))
    one = labeler(tmp_path, more)
    before = len(one.teacher.asked())
    with pytest.raises(
        FileExistsError, match=r"task.questions.service: None there.*Choose another output.*--ledger"
    ) as error:
        run(data, tmp_path, labelers=one)
    assert str(one.ledger.folder) in str(error.value)
    assert "tone" not in str(error.value)
    run(data, tmp_path, name="again", labelers=one)
    assert len(one.teacher.asked()) == before + len(data)


def test_changed_words_of_a_question_and_another_order_are_told(data, tmp_path):  # noqa: F811
    run(data, tmp_path)
    other = dataclasses.replace(TASK, questions=(dataclasses.replace(TONE, ask="Good or bad?"), *TASK.questions[1:]))
    with pytest.raises(FileExistsError, match=re.escape("task.questions.tone.ask: 'Is it {options}?' there")):
        run(data, tmp_path, labelers=labeler(tmp_path, other))
    with pytest.raises(FileExistsError, match="task.questions"):
        run(data, tmp_path, labelers=labeler(tmp_path, dataclasses.replace(TASK, questions=TASK.questions[::-1])))


def test_jury_whose_other_member_asks_apart_is_another_run(data, tmp_path):  # noqa: F811
    def jury(*apart):
        teachers = [Leaning(str(tmp_path / "a"), mode="generate", version=k) for k in range(len(apart))]
        return {
            f"m{k}": LLMLabeler(TASK, teacher, tmp_path / "ledger", ask_apart=one)
            for k, (teacher, one) in enumerate(zip(teachers, apart, strict=True))
        }

    run(data, tmp_path, labelers=jury(True, False), jury="majority")
    with pytest.raises(FileExistsError, match="members.m0.ask_apart: True there, None now"):
        run(data, tmp_path, labelers=jury(False, True), jury="majority")


def test_asking_apart_what_is_asked_apart_anyway_is_the_same_run(data, tmp_path):  # noqa: F811
    results, _ = run(data, tmp_path)
    one = LLMLabeler(TASK, Leaning(str(tmp_path / "asked")), tmp_path / "ledger", ask_apart=True)
    assert run(data, tmp_path, labelers=one)[0] == results


@pytest.mark.parametrize(("names", "message"), [(("student", "b"), "not llm or student"), (("a", "a_b"), "'a_b_c_")])
def test_members_whose_columns_would_be_anothers_are_refused(data, tmp_path, names, message):  # noqa: F811
    task = TaskSpec(
        "t", instruction="{text}", questions=(Choice("b_c", ("x", "y"), "?"), Choice("c", ("x", "y"), "??"))
    )
    jury = {name: LLMLabeler(task, CountingTeacher(str(tmp_path / "a")), tmp_path / "ledger") for name in names}
    with pytest.raises(ValueError, match=message):
        annotate(data, jury, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "a").exists()


def test_question_without_a_calibration_among_others_is_warned_of(caplog):
    calibrations_of(TASK, {"tone": uncalibrated(2), "stars": uncalibrated(3, "scale")})
    assert "calibrations for tone, stars and none for topics" in caplog.text
    caplog.clear()
    calibrations_of(TASK, None)
    assert not caplog.records


class Denying(Leaning):
    """Says that no text is about anything; of stars it says nothing where it fails."""

    def _reply(self, task, text):
        asked = task.messages("")[0]["content"]
        if "about" in asked:
            return Reply(scores=(-3.0, -0.1))
        return Reply(error="no connection") if "stars" in asked and self.version > 1 else super()._reply(task, text)


def test_teacher_that_says_yes_to_nothing_is_told_of_the_prior(data, tmp_path):  # noqa: F811
    one = LLMLabeler(TASK, Denying(str(tmp_path / "asked")), tmp_path / "ledger")
    results, annotated = run(data, tmp_path, labelers=one)
    assert "topics: 40 ok, 0 abstained, 0 failed. Labels: none" in list(answer_lines(results, TASK))
    assert "topics: 40 of 40 answered (no label)" in annotated_line(results, TASK)
    with pytest.raises(ValueError, match=r"for 'topics'.*--prior; docs/questions.md"):
        select_silver(annotated, TASK)


def test_question_that_failed_everywhere_is_told_to_be_asked_again(data, tmp_path):  # noqa: F811
    task = dataclasses.replace(TASK, questions=(TONE, STARS))
    one = LLMLabeler(task, Denying(str(tmp_path / "asked"), version=2), tmp_path / "ledger")
    _, annotated = run(data, tmp_path, labelers=one)
    with pytest.raises(ValueError, match=r"for 'stars'.*'failed': 40.*Annotating again asks"):
        select_silver(annotated, task)


@pytest.mark.parametrize("apart", [True, False])
def test_published_questions_are_asked_as_they_were(data, tmp_path, apart, caplog):  # noqa: F811
    teacher = Leaning(str(tmp_path / "asked"), mode="generate")
    one = LLMLabeler(TASK, teacher, tmp_path / "ledger", ask_apart=apart)
    run(data, tmp_path, labelers=one)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "annotation.json").write_bytes(annotation_note(tmp_path / "run"))
    again = LLMLabeler.from_dataset(str(tmp_path / "there"), tmp_path / "ledger", teacher=teacher)
    assert again.task == TASK
    assert again.ask_apart is apart
    assert again.question() == one.question()
    assert not caplog.records
    note = json.loads((tmp_path / "there" / "annotation.json").read_text())
    (tmp_path / "there" / "annotation.json").write_text(json.dumps({**note, "ask_apart": "yes"}))
    with pytest.raises(ValueError, match="ask_apart must be true or false"):
        LLMLabeler.from_dataset(str(tmp_path / "there"), tmp_path / "ledger", teacher=teacher)


ANSWERS = [{"tone": "good", "topics": ["food"], "stars": 2}, {"tone": "bad", "topics": [], "stars": 3}]


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        (ANSWERS, {"label_columns": ["tone", "topics", "stars"]}),
        ([{"response": one} for one in ANSWERS], {}),
        ([{"response": json.dumps(one)} for one in ANSWERS], {}),
    ],
)
def test_recorded_lists_and_objects_are_read_from_lines_of_json(tmp_path, rows, how):
    lines = (json.dumps({"text": f"text {k}", **row}) + "\n" for k, row in enumerate(rows))
    (tmp_path / "answers.jsonl").write_text("".join(lines))
    one = LLMLabeler(TASK, RecordedTeacher(tmp_path / "answers.jsonl", "somebody", **how), tmp_path / "ledger")
    found = one.label(["text 0", "text 1"])
    assert found["llm_tone_label"] == [0, 1]
    assert found["llm_topics_labels"] == [[0], []]
    assert found["llm_stars_value"] == [2.0, 3.0]
