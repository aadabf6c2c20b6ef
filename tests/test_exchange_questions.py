"""Reviews of several questions in Argilla and Label Studio, and back."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from hf_llambert import (
    Choice,
    Choices,
    Review,
    Scale,
    build_queue,
    export_review,
    import_review,
    review_settings,
    write_queue,
)
from hf_llambert.cli import app
from hf_llambert.review.drawing import CONTROL
from hf_llambert.review.exchanged import EXCHANGED
from hf_llambert.tasks.kinds import KINDS
from review_run import make_questions, make_questions_run

FORMATS = ("argilla", "label_studio")
USER = "11111111-2222-3333-4444-555555555555"


def review_of(folder, **changes) -> Review:
    run = make_questions_run(folder, make_questions(**changes))
    write_queue(run / "review", build_queue(run, 8, 2))
    return Review(run / "review")


@pytest.fixture
def review(tmp_path) -> Review:
    return review_of(tmp_path / "run")


def fill(record: dict, user: object = USER, **values: object) -> dict:
    """What a person's answers look like in the other tool's export: of Label Studio by type of control."""
    if "fields" in record:
        responses = {name: [{"value": value, "user_id": user}] for name, value in values.items()}
        return record | {"responses": responses, "status": "completed"}
    results = [
        {"from_name": name, "to_name": "text", "type": next(iter(value)), "value": value, "id": f"x{k}"}
        for k, (name, value) in enumerate(values.items())
    ]
    made = {"completed_by": user, "result": results, "created_at": "2026-03-09T21:52:49.513742Z", "lead_time": 4.2}
    return record | {"id": 7, "annotations": [made | {"was_cancelled": False}]}


def exported(review, path, format, **options) -> list[dict]:
    path.unlink(missing_ok=True)
    export_review(review, path, format, **options)
    return json.loads(path.read_text())


def labels_of(review: Review) -> dict:
    return {who: {key: answer.label for key, answer in given.items()} for who, given in review.standing().items()}


ANSWERED = {
    "argilla": {"tone": "positive", "topics": ["food", "people"], "length": 4},
    "label_studio": {
        "tone": {"choices": ["positive"]},
        "topics": {"choices": ["food", "people"]},
        "length": {"rating": 4},
    },
}
NONE_HOLDS = {"argilla": ["none of them"], "label_studio": {"choices": ["none of them"]}}


@pytest.mark.parametrize("format", FORMATS)
def test_answers_to_every_question_come_back(review, tmp_path, format):
    records = exported(review, tmp_path / "out.json", format)
    answered = ANSWERED[format]
    back = [
        fill(records[0], **answered),
        fill(records[1], topics=NONE_HOLDS[format]),
        fill(records[2], length=answered["length"]),
        *records[3:],
    ]
    (tmp_path / "back.json").write_text(json.dumps(back))
    ((name, number),) = import_review(review, tmp_path / "back.json").items()
    assert number == 5
    assert labels_of(review)[name] == {
        (0, "tone"): 1,
        (0, "topics"): [0, 3],
        (0, "length"): 4.0,
        (1, "topics"): [],
        (2, "length"): 4.0,
    }
    assert import_review(review, tmp_path / "back.json") == {name: 0}
    gold = review.gold()
    assert gold["topics"][:] == [[0, 3], [], None]


@pytest.mark.parametrize("format", FORMATS)
def test_answers_and_machines_survive_the_round_trip(review, tmp_path, format):
    with review.session("Ann") as ann, review.session("Bob") as bob:
        ann.answer(0, 1, "tone")
        ann.answer(0, [1, 2], "topics")
        ann.answer(0, 5, "length")
        bob.answer(0, [], "topics")
        bob.answer(3, 1, "length")
    before = labels_of(review)
    exported(review, tmp_path / "out.json", format, answers=True, machine_labels=True)
    assert import_review(review, tmp_path / "out.json") == {"Ann": 0, "Bob": 0}
    (review.folder / "answers").rename(tmp_path / "away")
    if format == "label_studio":  # the file of Argilla has ids made of the names
        assert import_review(review, tmp_path / "out.json") == {"Ann": 3, "Bob": 2}
        assert labels_of(review) == before
    else:
        assert sorted(import_review(review, tmp_path / "out.json").values()) == [2, 3]


def test_row_that_was_skipped_altogether_is_cancelled_in_label_studio(review, tmp_path):
    with review.session("Ann") as session:
        for name in ("tone", "topics", "length"):
            session.skip(0, name)
        session.skip(1, "tone")
        session.answer(1, [2], "topics")
    (first, second, *_) = exported(review, tmp_path / "out.json", "label_studio", answers=True)
    assert first["annotations"][0]["was_cancelled"] is True
    assert second["annotations"][0]["was_cancelled"] is False
    (review.folder / "answers").rename(tmp_path / "away")
    assert import_review(review, tmp_path / "out.json") == {"Ann": 4}
    assert labels_of(review)["Ann"] == {(0, "tone"): -1, (0, "topics"): None, (0, "length"): None, (1, "topics"): [2]}


def test_machines_answers_are_suggestions_and_predictions_of_every_question_of_rows_that_measure_nothing(
    review, tmp_path
):
    rows = review.queue.rows
    for row, record in zip(rows, exported(review, tmp_path / "a.json", "argilla", machine_labels=True), strict=True):
        said = record["suggestions"]
        if row.reason == CONTROL:
            assert said == {}
            continue
        topics, length = row.part("topics").teacher, row.part("length").teacher
        assert said["topics"]["value"] == [review.queue.task.parts["topics"].labels[i] for i in topics] or [
            "none of them"
        ]
        assert said["topics"]["score"] is None  # Argilla takes one for each label
        assert abs(said["length"]["value"] - length) <= 0.5
        assert ("tone" in said) == (row.part("tone").teacher != -1)
    tasks = exported(review, tmp_path / "l.json", "label_studio", machine_labels=True)
    for row, task in zip(rows, tasks, strict=True):
        by = {one["model_version"]: one for one in task["predictions"]}
        if row.reason == CONTROL:
            assert by == {}
            continue
        assert [result["from_name"] for result in by["student"]["result"]] == ["tone", "topics", "length"]
        assert {result["type"] for result in by["student"]["result"]} == {"choices", "rating"}
        sure = [row.part(name).student_confidence for name in row.questions]
        assert by["student"]["score"] == min(sure)
    assert not any(task["predictions"] for task in exported(review, tmp_path / "b.json", "label_studio"))


WRONG = [
    ("argilla", "tone", "angry", "has the label 'angry' for 'tone', expected one of"),
    ("argilla", "tone", ["positive"], r"has the label \['positive'\] for 'tone'"),
    ("argilla", "topics", "food", "has the label 'food' for 'topics', expected a list"),
    ("argilla", "topics", [], r"has the label \[\] for 'topics', expected a list"),
    ("argilla", "topics", ["food", "wine"], "has the label 'wine' for 'topics', expected one of"),
    ("argilla", "topics", ["food", "food"], "for 'topics', expected each label once"),
    ("argilla", "topics", ["none of them", "food"], "'none of them' beside labels, which contradicts them"),
    ("argilla", "length", 6, "has the label 6 for 'length', expected one of the levels 1, 2, 3, 4, 5"),
    ("argilla", "length", "4", "has the label '4' for 'length', expected one of the levels"),
    ("argilla", "length", True, "has the label True for 'length'"),
    ("label_studio", "tone", {"choices": ["positive", "negative"]}, "for 'tone', expected one choice"),
    ("label_studio", "topics", {"choices": ["wine"]}, "has the label 'wine' for 'topics'"),
    ("label_studio", "length", {"rating": 0}, "has the label 0 for 'length', expected one of the levels"),
    ("label_studio", "length", {"rating": 4.5}, "has the label 4.5 for 'length'"),
    ("label_studio", "length", {"number": 4}, "expected a rating"),
    ("label_studio", "length", {"choices": ["4"]}, "expected a rating"),
]


@pytest.mark.parametrize(("format", "name", "value", "message"), WRONG)
def test_wrong_value_is_refused_with_record_question_and_what_came(review, tmp_path, format, name, value, message):
    records = exported(review, tmp_path / "out.json", format)
    back = [fill(record, **ANSWERED[format]) for record in records]
    back[4] = fill(records[4], **{**ANSWERED[format], name: value})
    (tmp_path / "back.json").write_text(json.dumps(back))
    with pytest.raises(ValueError, match=rf"Row 5 of .*{message}.*Nothing was taken"):
        import_review(review, tmp_path / "back.json")
    assert review.standing() == {}


def test_question_without_an_answer_is_left_out_and_counted(review, tmp_path, caplog):
    records = exported(review, tmp_path / "out.json", "label_studio")
    given = {**ANSWERED["label_studio"], "comment": {"text": ["hm"]}}
    back = [fill(records[0], "a@b.org", **given), fill(records[1], "a@b.org", tone=given["tone"])]
    (tmp_path / "back.json").write_text(json.dumps(back))
    assert import_review(review, tmp_path / "back.json") == {"a@b.org": 4}
    assert "have no choice for 'topics', or are drafts or discarded, and are left out (row 2)" in caplog.text
    assert "for 'tone'" not in caplog.text


@pytest.mark.parametrize("format", FORMATS)
def test_answers_to_what_the_task_does_not_ask_are_left_out_and_counted(review, tmp_path, caplog, format):
    records = exported(review, tmp_path / "out.json", format)
    back = [fill(record, **ANSWERED[format], mood=ANSWERED[format]["tone"]) for record in records[:2]]
    (tmp_path / "back.json").write_text(json.dumps(back))
    assert list(import_review(review, tmp_path / "back.json").values()) == [6]
    assert "answer 'mood', which is no question of the task, and are left out (row 1, 2)" in caplog.text


def test_two_answers_to_one_question_are_refused(review, tmp_path):
    record = fill(exported(review, tmp_path / "out.json", "label_studio")[0], **ANSWERED["label_studio"])
    record["annotations"][0]["result"] += record["annotations"][0]["result"][-1:]
    (tmp_path / "back.json").write_text(json.dumps([record]))
    with pytest.raises(ValueError, match=r"Row 1 of .*\[4.0, 4.0\] for 'length', expected one choice"):
        import_review(review, tmp_path / "back.json")


def test_settings_ask_every_question_as_its_kind_is_asked(tmp_path):
    asked = (
        Choice("tone", ("<a>", 'b"c'), "?"),
        Choices("topics", ("x", "none of them"), "?"),
        Scale("stars", ("1", "2", "3"), "?"),
        Scale("grade", ("-1", "0", "1"), "?"),
        Scale("odd", ("0", "1", "10"), "?"),
        Scale("half", ("0", "0.5", "1.5"), "?"),
    )
    task = make_questions(questions=asked, instruction="{text}")
    review = review_of(tmp_path / "run")
    object.__setattr__(review.queue, "task", task)
    view = ET.fromstring(review_settings(review, "label_studio"))
    assert [(tag.tag, tag.get("name")) for tag in view] == [
        ("Text", "text"), ("Choices", "tone"), ("Choices", "topics"), ("Rating", "stars"), ("Number", "grade"),
        ("Choices", "odd"), ("Choices", "half"),
    ]  # fmt: skip
    assert [tag.get("choice") for tag in view.findall("Choices")] == ["single", "multiple", "single", "single"]
    assert [one.get("value") for one in view[1]] == ["<a>", 'b"c']
    assert [one.get("value") for one in view[2]] == ["x", "none of them", "(none of them)"]
    assert view[3].get("maxRating") == "3"
    assert {key: view[4].get(key) for key in ("min", "max", "step")} == {"min": "-1", "max": "1", "step": "1"}
    settings = review_settings(review, "argilla")
    assert 'rg.LabelQuestion("tone", labels=["<a>", "b\\"c"])' in settings
    assert 'rg.MultiLabelQuestion("topics", labels=["x", "none of them", "(none of them)"])' in settings
    assert 'rg.RatingQuestion("stars", values=[1, 2, 3])' in settings
    assert 'rg.LabelQuestion("grade", labels=["-1", "0", "1"])' in settings
    assert 'rg.RatingQuestion("odd", values=[0, 1, 10])' in settings
    assert 'rg.LabelQuestion("half"' in settings
    compile(settings, "settings", "eval")
    with pytest.raises(ValueError, match="got 'doccano'"):
        review_settings(review, "doccano")


@pytest.mark.parametrize("levels", [("1", "2", "3"), ("-1", "0", "1"), ("0", "0.1", "0.2", "0.3"), ("0", "1", "10")])
def test_every_level_survives_both_tools(levels):
    question = Scale("s", levels, "?")
    kind = EXCHANGED["scale"]
    for level in question.levels.tolist():
        assert kind.from_argilla(question, json.loads(json.dumps(kind.argilla(question, level)))) == level
        how, value = kind.label_studio(question, level)
        assert kind.from_label_studio(question, json.loads(json.dumps({how: value}))) == level


def test_every_kind_can_be_exchanged():
    assert set(EXCHANGED) == set(KINDS)


def test_question_called_as_a_field_of_the_other_tool_is_refused(tmp_path):
    asked = (Choice("text", ("a", "b"), "?"), make_questions().questions[2])
    review = review_of(tmp_path / "run")
    object.__setattr__(review.queue, "task", make_questions(questions=asked, instruction="{body}"))
    with pytest.raises(ValueError, match="both called 'text'"):
        export_review(review, tmp_path / "out.json", "argilla")


def test_one_question_of_several_labels_is_called_label(tmp_path):
    review = review_of(tmp_path / "run", questions=make_questions().questions[1:2])
    (first, *_) = exported(review, tmp_path / "out.json", "argilla", machine_labels=True)
    assert list(first["suggestions"]) == ["label"]
    (tmp_path / "back.json").write_text(json.dumps([fill(first, label=["sport"])]))
    ((name, _),) = import_review(review, tmp_path / "back.json").items()
    assert review.answers()[name][0].label == [2]
    (tmp_path / "back.json").write_text(json.dumps([fill(first, label=["wine"])]))
    with pytest.raises(ValueError, match="has the label 'wine', expected one of"):
        import_review(review, tmp_path / "back.json")


@pytest.mark.parametrize(("format", "said"), [("argilla", "rg.RatingQuestion"), ("label_studio", "<Rating name=")])
def test_command_says_what_the_other_tool_must_be_told(review, tmp_path, format, said):
    command = ["review", "--run", str(review.folder.parent), "--export", format, str(tmp_path / "out.json")]
    found = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "8 rows written" in found.output
    assert said in found.output


def test_results_are_about_the_first_of_several_columns(tmp_path):
    review = review_of(tmp_path / "run")
    rows = tuple(replace(row, text=f"{row.text}\ufdd1more") for row in review.queue.rows)
    task = replace(review.queue.task, instruction="{title}: {body}")
    review.queue = replace(review.queue, task=task, text_column=("title", "body"), rows=rows)
    (first, *_) = exported(review, tmp_path / "out.json", "label_studio", machine_labels=True)
    assert {one["to_name"] for guess in first["predictions"] for one in guess["result"]} == {"title"}
    assert [tag.get("toName") for tag in ET.fromstring(review_settings(review, "label_studio"))][2:] == ["title"] * 3
