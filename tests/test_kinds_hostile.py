"""Questions, answers and gold that fit two readings, or that a careless file, teacher or spreadsheet gives."""

import json

import pytest
from datasets import ClassLabel, Dataset, List

from hf_llambert import Choice, Choices, Scale, TaskSpec, with_gold
from hf_llambert.cli.gold import gold_options
from hf_llambert.gold import gold_answers, gold_readings
from hf_llambert.tasks.spec import Example

TONE = Choice("tone", ("good", "bad"), "Tone?")
TOPICS = Choices("topics", ("food", "staff"), "Topics?")
STARS = Scale("stars", ("1", "2", "3"), "Stars?", (("awful",), ("fair",), ("great",)))


def task(*questions, **kwargs):
    return TaskSpec("visit", instruction="{text}", questions=questions, **kwargs)


def answer(question, value):
    return task(TONE, question).read_answers(json.dumps({question.name: value}))[question.name]


@pytest.mark.parametrize("value", ["none", "None.", ["none"], [], "", "[]"])
def test_none_is_no_label_where_no_label_is_called_so(value):
    assert answer(TOPICS, value) == ([], None)


@pytest.mark.parametrize("labels", [{"labels": ("None", "food")}, {"verbalizers": (("none", "nothing"), ("food",))}])
def test_none_says_nothing_where_a_label_is_called_so_and_a_list_says_what_is_meant(labels):
    topics = Choices("topics", **{"labels": ("empty", "food"), "ask": "Topics?", **labels})
    found, reason = answer(topics, "none")
    assert found is None
    assert "may mean that no label holds" in reason
    assert answer(topics, ["none"]) == ([0], None)
    assert answer(topics, []) == ([], None)


@pytest.mark.parametrize("value", ["food, staff", "Staff; food", "food|staff"])
def test_labels_between_marks_are_a_list(value):
    assert answer(TOPICS, value) == ([0, 1], None)


@pytest.mark.parametrize("value", ["food, but bad", "food and staff", "food, drinks"])
def test_words_beside_labels_are_no_list(value):
    found, reason = answer(TOPICS, value)
    assert found is None
    assert reason.endswith("at 'topics'")
    assert not reason.startswith("has names")


def test_label_that_has_a_mark_in_it_is_one_label():
    assert answer(Choices("topics", ("food, drinks", "food", "drinks"), "Topics?"), "food, drinks") == ([0], None)


def test_key_in_another_case_is_the_question_and_two_that_differ_are_none():
    one = task(TONE, TOPICS)
    assert one.read_answers('{"Tone": "good", "TOPICS": []}') == {"tone": (0, None), "topics": ([], None)}
    assert one.read_answers('{"Tone": "good", "tone": "bad"}')["tone"] == (-1, "says 'tone' twice")
    assert one.read_answers('{"Tone": "good", "topics": []}', structured=True)["tone"][0] == -1


def test_truth_is_the_label_that_is_called_so():
    assert answer(Choice("spam", ("true", "false"), "Spam?"), False) == (1, None)
    assert answer(Choice("spam", ("spam", "ham"), "Spam?", (("True", "spam"), ("ham",))), True) == (0, None)
    assert answer(Choice("spam", ("spam", "ham"), "Spam?"), True)[0] == -1


def test_numbers_that_are_no_level_have_one_reason():
    reasons = {answer(STARS, value)[1] for value in (1.5, 2.5, 9, -3)}
    assert reasons == {"has a number at 'stars' that is no level"}


@pytest.mark.parametrize(
    "scale",
    [
        Scale("s", ("0.0", "0.5", "1.0"), "?"),
        Scale("s", (0, 0.5, 1), "?"),
        Scale("s", ["-1.0", "-0.0", "+1"], "?", [["bad"], ["so"], ["good"]], ["poor", "", "fine"]),
    ],
)
def test_levels_written_in_any_way_survive_the_file(scale, tmp_path):
    one = task(TONE, scale, examples=[Example("a", ("good", scale.labels[2]))])
    one.to_yaml(tmp_path / "task.yaml")
    assert TaskSpec.from_yaml(tmp_path / "task.yaml") == one
    assert scale.labels[2] == "1"
    assert "-0" not in scale.labels


def test_lists_are_taken_for_tuples():
    one = task(Choice("tone", ["good", "bad"], "Tone?"), TOPICS)
    assert one == task(TONE, TOPICS)
    assert list(one.parts) == ["tone", "topics"]
    today = TaskSpec("t", labels=["a", "b"], instruction="{text}", verbalizers=[["a"], ["b"]])
    assert today.parts[""].labels == ("a", "b")


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ((TONE, Choice("Tone", ("a", "b"), "?")), "not by case alone"),
        ((TONE, Choice("gold_tone", ("a", "b"), "?")), "'gold_tone' is called as a column that belongs to question 'tone'"),
        ((Choice("tone_probabilities", ("a", "b"), "?"), TONE), "'tone_probabilities' is called as a column"),
    ],
)  # fmt: skip
def test_names_that_would_share_columns_are_refused(questions, message):
    with pytest.raises(ValueError, match=message):
        task(*questions)


def test_question_called_as_the_column_of_the_texts_is_refused():
    with pytest.raises(ValueError, match="'tone' is called as the column of the texts"):
        task(TONE, TOPICS).columns("tone")
    assert task(TONE, TOPICS).columns("review") == "review"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": [{"text": "hi", "tone": "good", "topics": [["food"]]}]}, "a list of those that hold"),
        ({"examples": [{"text": "hi", "tone": "good", "topics": "food"}]}, "a list of those that hold"),
        ({"examples": [{"text": "hi", "tone": "good", "topics": ["food", "food"]}]}, "a list of those that hold"),
        ({"labels": [{"good": "it is"}, "bad"], "descriptions": {"bad": "it is not"}}, "labels must be non-empty strings"),
        ({"labels": [{"good": "it is"}, "bad"], "verbalizers": {"bad": "bad"}}, "labels must be non-empty strings"),
    ],
)  # fmt: skip
def test_values_of_another_shape_are_refused_in_words(change, message):
    data = task(TONE, TOPICS).to_dict()
    for name, value in change.items():
        (data if name == "examples" else data["questions"][0])[name] = value
    with pytest.raises(ValueError, match=message):
        TaskSpec.from_dict(data)


def test_braces_in_a_description_stay():
    topics = Choices(
        "topics", ("food", "staff"), "Is it {label}?\n{definitions}", (), ("what {label} and {options} are", "")
    )
    asked = task(TONE, topics).branches["topics"][1].messages("hi")[-1]["content"]
    assert asked.endswith("Is it staff?\n- staff")
    assert "- food: what {label} and {options} are" in task(TONE, topics).messages("hi")[-1]["content"]
    assert topics.texts()[0][0] == "Is it food?\n- food: what {label} and {options} are"


def test_map_of_a_scale_reads_numbers_and_spellings_and_goes_to_the_scale(caplog):
    assert STARS.gold([1, 2, 9], "s", {"9": ""}) == [1.0, 2.0, None]
    assert STARS.gold([1.0, 9.0], "s", {"9": "2.5"}) == [1.0, 2.5]
    assert STARS.gold(["N/A", "1"], "s", {"n/a": ""}) == [None, 1.0]
    assert STARS.gold(["Great", " awful "], "s") == [3.0, 1.0]
    assert not caplog.records
    STARS.gold([1, 2], "s", {"9": ""})
    assert "which column 's' does not hold" in caplog.text
    for level in ("99", "super"):
        with pytest.raises(ValueError, match=f"numbers from 1 to 3, the scale 'stars', or to nothing; got '{level}'"):
            STARS.gold(["NA", 1], "s", {"NA": level})


@pytest.mark.parametrize("read", [gold_answers, gold_readings])
def test_option_that_an_error_advises_can_be_typed_as_it_stands(read):
    one = task(TONE, TOPICS)
    data = Dataset.from_dict({"text": ["a", "b"], "tone": [0, 1], "topics": [["food"], ["it rains"]]})
    with pytest.raises(ValueError, match="--label_values tone=ids") as error:
        read(data, one)
    assert "--label_map tone:0=bad" in str(error.value)
    assert "label_values={'tone': 'ids'} in Python" in str(error.value)
    said = gold_options(None, "tone=ids", one)
    with pytest.raises(ValueError, match="--label_map 'topics:it rains=LABEL'"):
        read(data, one, **said)
    said = gold_options(["topics:it rains="], "tone=ids", one)
    assert gold_answers(data, one, **said) == {"tone": [0, 1], "topics": [[0], []]}


def test_classes_of_each_question_are_read_by_name():
    data = Dataset.from_dict(
        {"text": ["a", "b", "c"], "tone": [0, 1, -1], "topics": [[0], [], None], "stars": [0, 2, -1]}
    )
    data = data.cast_column("tone", ClassLabel(names=["bad", "good"])).cast_column(
        "stars", ClassLabel(names=["3", "2", "1"])
    )
    data = data.cast_column("topics", List(ClassLabel(names=["staff", "food"])))
    found = with_gold(data, "text", None, task(TONE, TOPICS, STARS))
    assert found["tone"][:] == [1, 0, -1]
    assert found["topics"][:] == [[1], [], None]
    assert found["stars"][:] == [3.0, 1.0, None]
