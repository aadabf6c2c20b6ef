"""People's answers to each question of a task, wherever and however they are written."""

import json
import logging

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_llambert import Choice, Choices, Scale, TaskSpec, load_data, with_gold
from hf_llambert.gold import gold_answers, gold_columns, gold_readings

QUESTIONS = (
    Choice("section", ("business", "sport"), "Which?"),
    Choices("tone", ("joy", "anger", "fear"), "Which?"),
    Scale("length", ("1", "2", "3"), "How long?"),
)
TASK = TaskSpec("news", instruction="{text}", questions=QUESTIONS)
ROWS = {
    "text": ["a", "b", "c"],
    "section": ["sport", "business", None],
    "tone": [["fear", "joy"], [], None],
    "length": [2.5, 1.0, None],
}
ANSWERS = {"section": [1, 0, -1], "tone": [[0, 2], [], None], "length": [2.5, 1.0, None]}


def only(name):
    return TaskSpec("one", instruction="{text}", questions=tuple(q for q in QUESTIONS if q.name == name))


def test_columns_named_as_the_questions_have_their_answers():
    assert gold_answers(Dataset.from_dict(ROWS), TASK) == ANSWERS


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_answers_are_the_same_from_every_kind_of_file(suffix, tmp_path):
    rows = (
        {**ROWS, "tone": [json.dumps(x) if x is not None else None for x in ROWS["tone"]]} if suffix == "csv" else ROWS
    )
    path = tmp_path / f"d.{suffix}"
    getattr(Dataset.from_dict(rows), {"jsonl": "to_json"}.get(suffix, f"to_{suffix}"))(str(path))
    assert gold_answers(load_data(path, label_columns=["section"]), TASK) == ANSWERS


def test_classes_are_read_by_name_in_any_order():
    tones = List(ClassLabel(names=["fear", "anger", "joy"]))
    features = Features(
        {
            "text": Value("string"),
            "section": ClassLabel(names=["Sport", "business"]),
            "tone": tones,
            "length": ClassLabel(names=["3", "1", "2"]),
        }
    )
    rows = {"text": ["a", "b", "c"], "section": [0, 1, None], "tone": [[0, 2], [], None], "length": [0, 1, None]}
    found = gold_answers(Dataset.from_dict(rows, features=features), TASK)
    assert found == {**ANSWERS, "length": [3.0, 1.0, None]}


def test_class_that_the_question_has_not_is_refused_though_no_row_has_it():
    features = Features({"tone": List(ClassLabel(names=["joy", "anger", "fear", "disgust"]))})
    with pytest.raises(ValueError, match="disgust"):
        gold_answers(Dataset.from_dict({"tone": [[0]]}, features=features), TASK, {"tone": "tone"})


def test_column_for_each_label_says_whether_it_holds():
    rows = Dataset.from_dict({"joy": [1, 0, None], "anger": [False, True, None], "fear": ["true", "0", ""]})
    columns = gold_columns(rows.column_names, TASK)
    assert columns == {"tone": ["joy", "anger", "fear"]}
    assert gold_answers(rows, TASK, columns) == {"tone": [[0, 2], [1], None]}
    named = rows.rename_columns({"joy": "tone_joy", "anger": "tone_anger", "fear": "tone_fear"})
    assert gold_answers(named, TASK) == {"tone": [[0, 2], [1], None]}


@pytest.mark.parametrize(
    ("values", "message"),
    [([1, 2], "takes 0 and 1"), ([1, None], "empty cells beside others"), (["perhaps", "1"], "got 'perhaps'")],
)
def test_column_for_a_label_that_says_something_else_is_refused(values, message):
    rows = Dataset.from_dict({"joy": values, "anger": [0, 1], "fear": [0, 1]})
    with pytest.raises(ValueError, match=message):
        gold_answers(rows, TASK)


def test_columns_for_labels_of_which_one_holds_are_refused():
    rows = Dataset.from_dict({"business": [1], "sport": [0]})
    with pytest.raises(ValueError, match="Expected one column of people's answers to 'section', got business, sport"):
        gold_answers(rows, TASK, {"section": ["business", "sport"]})


def test_mapping_names_columns_and_the_other_questions_have_no_answers(caplog):
    rows = Dataset.from_dict(ROWS).rename_column("length", "minutes")
    assert gold_answers(rows, TASK, {"length": "minutes"}) == {"length": ANSWERS["length"]}
    assert caplog.text == ""


def test_questions_without_a_column_are_named_once(caplog):
    rows = Dataset.from_dict({"text": ["a"], "section": ["sport"], "Tone": ["joy"]})
    with_gold(rows, "text", None, TASK)
    assert caplog.text.count("No column has people's answers to 'tone' and 'length'") == 1
    assert "Is 'Tone' that of 'tone'?" in caplog.text


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, r"No column of \['text', 'minutes'\] has people's answers to 'section', 'tone' and 'length'"),
        ("minutes", r"'minutes' is one column.*several questions \(section, tone, length\).*section=minutes"),
        ({"lenght": "minutes"}, "has no question 'lenght'. Did you mean 'length'"),
        ({"mood": "minutes"}, "has no question 'mood'. Its questions: section, tone, length"),
        ({"length": "minute"}, "Column 'minute' not found .* answers to 'length'. Did you mean 'minutes'"),
        ({}, "got none"),
    ],
)
def test_wrong_columns_and_questions_are_named_with_the_nearest(columns, message):
    with pytest.raises(ValueError, match=message):
        gold_answers(Dataset.from_dict({"text": ["a"], "minutes": [1]}), TASK, columns)


def test_map_and_values_are_said_of_a_question():
    rows = Dataset.from_dict({**ROWS, "section": [2, 1, 1], "length": ["2", "n/a", "3"]})
    found = gold_answers(rows, TASK, None, {"length": {"n/a": ""}}, {"section": "ids_from_1"})
    assert (found["section"], found["length"]) == ([1, 0, 0], [2.0, None, 3.0])
    for arguments, message in (
        (({"n/a": ""}, "auto"), "label_map says not of which one.*'section': {'value': 'label'}"),
        ((None, "ids"), "label_values says not of which one.*--label_values section=ids"),
        (({"sections": {"a": "sport"}}, "auto"), "no question 'sections'. Did you mean 'section'"),
        ((None, {"size": "ids"}), "no question 'size'"),
    ):
        with pytest.raises(ValueError, match=message):
            gold_answers(rows, TASK, None, *arguments)


@pytest.mark.parametrize("name", ["section", "tone", "length"])
def test_prepared_gold_of_one_question_of_any_kind_is_the_column_label(name):
    task = only(name)
    for columns in (name, None, {name: name}):
        found = with_gold(Dataset.from_dict(ROWS), "text", columns, task)
        assert found.column_names == ["text", "label"]
        assert found["label"][:] == ANSWERS[name]
    assert found.features["label"] == with_gold(Dataset.from_dict(ROWS), "text", None, TASK).features[name]


def test_prepared_gold_of_several_questions_is_in_columns_of_their_names():
    found = with_gold(Dataset.from_dict(ROWS), "text", None, TASK)
    assert found.column_names == ["text", "section", "tone", "length"]
    assert {name: found[name][:] for name in ANSWERS} == ANSWERS
    assert found.features["tone"] == List(ClassLabel(names=["joy", "anger", "fear"]))
    again = with_gold(found, "text", None, TASK)
    assert again.to_dict() == found.to_dict()
    assert again.features == found.features


def test_question_without_answers_has_an_empty_column():
    found = with_gold(Dataset.from_dict(ROWS), "text", {"length": "length"}, TASK)
    assert (found["section"][:], found["tone"][:]) == ([-1] * 3, [None] * 3)


def test_only_question_with_two_columns_is_not_guessed():
    rows = Dataset.from_dict({**ROWS, "label": [1, 2, 3]})
    with pytest.raises(ValueError, match="Columns 'length' and 'label' both may have people's answers to 'length'"):
        with_gold(rows, "text", None, only("length"))
    assert with_gold(rows, "text", "label", only("length"))["label"][:] == [1.0, 2.0, 3.0]


def test_contradicting_answers_and_absent_labels_are_warned_of_by_question(caplog):
    rows = {
        "text": ["a", "a", "b"],
        "section": ["sport", "business", "sport"],
        "tone": [["joy"], ["joy"], ["fear"]],
        "length": [1, 2, 2.5],
    }
    with caplog.at_level(logging.WARNING):
        with_gold(Dataset.from_dict(rows), "text", None, TASK)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(". ")[0] for line in said] == [
        "1 of 2 different texts have several labels in column 'section'",
        "Column 'tone' has no row of 1 of the 3 labels: 'anger'",
        "1 of 2 different texts have several values in column 'length'",
    ]


def test_reading_of_the_whole_column_is_kept_for_its_rows():
    task = TaskSpec("t", instruction="{text}", questions=(Choice("stars", ("a", "b", "c"), "?"), QUESTIONS[2]))
    rows = Dataset.from_dict({"stars": [1, 2, 0], "length": [1, 2, 3]})
    assert gold_readings(rows, task) == {"stars": "ids"}
    assert gold_readings(rows, task, {"length": "length"}) == "auto"
    assert gold_readings(rows, only("length"), "length") == "auto"
    assert gold_readings(rows, TaskSpec("t", ("a", "b", "c"), "{text}"), "stars") == "ids"
