"""Tasks of questions: their files, their words, their branches, and how one JSON object answers them."""

import json
import math

import numpy as np
import pytest

from hf_llambert import TaskSpec, row_texts
from hf_llambert.tasks.kinds import KINDS, Choice, Choices, Scale
from hf_llambert.tasks.spec import Example

SICK = """
name: sick
instruction: |-
  First: {sentence_a}
  Second: {sentence_b}
questions:
  - name: entailment
    kind: choice
    labels: [entailment, neutral, contradiction]
    descriptions: {neutral: neither follows from the other}
    ask: "Does the second follow from the first, contradict it, or neither: {options}?"
  - name: relatedness
    kind: scale
    levels: [1, 2, 3, 4, 5]
    ask: How related are the two, from 1 to 5?
  - name: topics
    kind: choices
    labels: [people, animals, sport]
    ask: "What is it about: {options}?"
examples:
  - sentence_a: A dog runs.
    sentence_b: An animal moves.
    entailment: entailment
    relatedness: 4
    topics: [animals]
"""


@pytest.fixture
def sick(tmp_path):
    (tmp_path / "sick.yaml").write_text(SICK)
    return TaskSpec.from_yaml(tmp_path / "sick.yaml")


def row(first, second):
    return row_texts({"a": [first], "b": [second]}, ("a", "b"))[0]


def test_questions_survive_yaml(sick, tmp_path):
    assert [type(question) for question in sick.questions] == [Choice, Scale, Choices]
    sick.to_yaml(tmp_path / "again.yaml")
    assert TaskSpec.from_yaml(tmp_path / "again.yaml") == sick
    for part in sick.parts.values():
        assert TaskSpec.from_dict(part.to_dict()) == part


def test_task_of_labels_is_one_choice_called_label(question):
    assert isinstance(question.question, Choice)
    assert question.question.name == "label"
    assert question.parts == {"": question}
    assert question.branches == {"": (question,)}


def test_branch_asks_as_a_task_of_labels_with_the_same_words_would(sick):
    alone = TaskSpec("alone", sick.questions[0].labels, sick.instruction + "\n\n" + sick.questions[0].filled())
    (branch,) = TaskSpec("sick", instruction=sick.instruction, questions=sick.questions).branches["entailment"]
    text = row("A man sings.", "Nobody sings.")
    assert branch.messages(text) == alone.messages(text)
    assert branch.verbalizers == alone.verbalizers


def test_branches_begin_alike_and_a_worked_example_answers_every_question(sick):
    text = row("A man sings.", "Nobody sings.")
    branches = [branch for found in sick.branches.values() for branch in found]
    assert len(branches) == 1 + 1 + 3  # one for each label of which several hold
    turns = [branch.messages(text) for branch in branches]
    assert all(one[:-1] == turns[0][:-1] for one in turns)
    assert [turn["content"] for turn in turns[0] if turn["role"] == "assistant"] == ["entailment", "4", "no", "yes"]
    shown = "First: A man sings.\nSecond: Nobody sings.\n\n"
    assert all(one[-1]["content"].startswith(shown) for one in turns)
    assert turns[2][-1]["content"].endswith("people: yes or no?")
    assert branches[2].labels == ("yes", "no")


def test_label_of_choices_stands_where_its_place_is():
    asked = Choices("tone", ("joy", "anger"), "Does it express {label}?", (("joy",), ("anger", "rage")), ("", ""))
    assert [ask for ask, _ in asked.texts()] == ["Does it express joy?", "Does it express anger?"]
    assert asked.filled() == "Does it express joy or anger?"
    assert asked.joined([(-1.0, -3.0), (-2.0, -0.5)]) == (2.0, -1.5)


def test_one_request_asks_all_and_says_what_json_it_wants(sick):
    turns = sick.messages(row("A", "B"))
    assert json.loads(turns[1]["content"]) == {"entailment": "entailment", "relatedness": 4, "topics": ["animals"]}
    last = turns[-1]["content"]
    assert last.startswith("First: A\nSecond: B\n\nentailment: Does the second")
    assert '"entailment": "entailment", "neutral" or "contradiction"' in last
    assert '"relatedness": a number, 1, 2, 3, 4 or 5' in last


ANSWER = {"entailment": "neutral", "relatedness": 3, "topics": ["sport", "people"]}


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(ANSWER),
        f"Here you are:\n```json\n{json.dumps(ANSWER, indent=1)}\n```",
        f'<think>{{"entailment": "entailment"}}</think>{json.dumps(ANSWER)}',
        json.dumps({**ANSWER, "relatedness": "3", "entailment": "Neutral.", "why": "because"}),
        json.dumps(ANSWER) + json.dumps(ANSWER),
    ],
)
def test_object_answers_every_question(sick, written):
    assert sick.read_answers(written) == {
        "entailment": (1, None),
        "relatedness": (3.0, None),
        "topics": ([0, 2], None),
    }


@pytest.mark.parametrize(
    ("change", "missing", "reason"),
    [
        ({"relatedness": None}, "relatedness", "has no 'relatedness'"),
        ({"relatedness": 4.5}, "relatedness", "no level"),
        ({"relatedness": True}, "relatedness", "no level"),
        ({"entailment": "perhaps"}, "entailment", ""),
        ({"entailment": ["neutral"]}, "entailment", "no label"),
        ({"topics": ["sport", "food"]}, "topics", "at 'topics'"),
        ({"topics": {"sport": True}}, "topics", "no list"),
    ],
)
def test_answer_to_the_other_questions_is_kept(sick, change, missing, reason):
    found = sick.read_answers(json.dumps({**ANSWER, **change}))
    assert reason in found.pop(missing)[1]
    assert all(why is None for _, why in found.values())


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "not the JSON object"),
        (None, "not the JSON object"),
        ("neutral", "not the JSON object"),
        ('{"entailment": "neutral"', "not the JSON object"),
        ('{"entailment": "neutral", "entailment": "entailment"}', "twice"),
        (json.dumps(ANSWER) + json.dumps({**ANSWER, "relatedness": 1}), "differ"),
    ],
)
def test_no_object_or_two_that_differ_answer_nothing(sick, written, reason):
    found = sick.read_answers(written)
    assert list(found) == ["entailment", "relatedness", "topics"]
    assert all(reason in why for _, why in found.values())
    assert [answer for answer, _ in found.values()] == [-1, None, None]


def test_cut_answer_answers_nothing(sick):
    assert all("cut" in why for _, why in sick.read_answers(json.dumps(ANSWER), "length").values())


def test_none_of_the_labels_is_an_answer(sick):
    for value in ([], "none"):
        assert sick.read_answers(json.dumps({**ANSWER, "topics": value}))["topics"] == ([], None)


def test_kinds_decide_from_probabilities():
    choice = Choice("c", ("a", "b"))
    assert choice.decided(np.array([[0.2, 0.8]])) == {"label": [1], "confidence": [0.8]}
    choices = Choices("t", ("a", "b", "c"))
    found = choices.decided(np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.1]]))
    assert found["labels"] == [[0, 2], []]
    assert found["confidence"] == pytest.approx([0.9 * 0.8 * 0.6, 0.9**3])
    assert choices.decided(np.array([[0.9, 0.2, 0.6]]), (0.95, 0.1, 0.5))["labels"] == [[1, 2]]
    scale = Scale("s", ("0", "2", "4"))
    found = scale.decided(np.array([[0.5, 0.25, 0.25]]))
    assert found == {"label": [0], "value": [1.5], "confidence": [0.5]}


def test_gold_between_levels_is_shared_by_the_two_beside_it():
    scale = Scale("s", ("1", "2", "4"))
    assert scale.targets([1.0, 2.5, 4.0]).tolist() == [[1, 0, 0], [0, 0.75, 0.25], [0, 0, 1]]
    assert (scale.targets([2.5]) @ scale.levels).tolist() == [2.5]
    assert np.isnan(scale.targets([None])).all()


def test_gold_of_a_scale_is_numbers_within_it():
    scale = Scale("s", ("1", "2", "3"), "", (("1", "low"), ("2",), ("3", "high")))
    assert scale.gold([1, "2.5", "high", None, "", math.nan, 3.0], "s") == [1.0, 2.5, 3.0, None, None, None, 3.0]
    assert scale.gold(["bad", 2], "s", {"bad": "1"}) == [1.0, 2.0]
    with pytest.raises(ValueError, match="takes numbers from 1 to 3, got '4'"):
        scale.gold([1, 4], "s")
    with pytest.raises(ValueError, match="got 'medium'"):
        scale.gold(["medium"], "s")


def test_gold_of_choices_is_lists_json_or_names_between_marks():
    choices = Choices("t", ("joy", "anger", "fear"))
    assert choices.gold([["joy", "fear"], [], None], "t") == [[0, 2], [], None]
    assert choices.gold(['["joy", "fear"]', "[]", "", "anger"], "t") == [[0, 2], [], None, [1]]
    assert choices.gold(["fear; joy", "anger"], "t") == [[0, 2], [1]]
    assert choices.gold([[2, 0], [1]], "t") == [[0, 2], [1]]
    with pytest.raises(ValueError, match="which one parts"):
        choices.gold(["joy; anger, fear"], "t")
    with pytest.raises(ValueError, match="hate"):
        choices.gold([["joy", "hate"]], "t")


def test_answers_of_single_labels_are_as_gold_has_them():
    assert Scale("s", ("1", "3")).answers([1, -1]) == [3.0, None]
    assert Choice("c", ("a", "b")).answers([1, -1]) == [1, -1]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_no_answer_fit_the_features(kind):
    question = KINDS[kind]("q", ("1", "2"))
    assert set(question.no_answer()) == set(question.own_features())
    assert not question.is_answer(question.missing)
    assert question.own_features().encode_example(question.no_answer()) is not None
    (answer,) = question.gold([["1"] if kind == "choices" else "1"], "q")
    assert question.is_answer(answer)
    assert set(question.column([answer])) == set(question.own_features())


def changed(**question):
    return {
        "name": "t",
        "instruction": "{text}",
        "questions": [{"name": "q", "kind": "choice", "labels": ["a", "b"], "ask": "Which?", **question}],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(kind="tags"), "kind must be one of choice, choices, scale, got 'tags'"),
        (changed(label=["a"]), "unknown key 'label' of kind choice. Did you mean 'labels'"),
        (changed(kind="scale"), "unknown key 'labels' of kind scale"),
        (changed(labels=["a"]), "at least two different labels"),
        (changed(labels=["yes", False]), "YAML reads yes, no"),
        (changed(name="my question"), "letters, digits and _"),
        (changed(name="text"), "called as a field"),
        (changed(ask=" "), "needs 'ask'"),
        (changed(ask="Is {text} good?"), "has {text} in 'ask'. Fields stand in the instruction"),
        (changed(ask="Is {labels} good?"), "unknown place {labels}"),
        (changed(ask="Is it {label}?"), "unknown place {label}"),
        (changed(ask="{definitions}"), "ask may contain {definitions} once, where the labels have descriptions"),
        (changed(verbalizers={"a": ["x"], "b": ["x"]}), "stands for both"),
        ({**changed(), "labels": ["a", "b"]}, "'labels' belongs to each of the questions"),
        ({**changed(), "questions": []}, "'questions' is empty"),
        ({**changed(), "questions": changed()["questions"] * 2}, "different names"),
        ({**changed(), "instruction": "{text} {options}"}, "{options} belongs into 'ask'"),
        ({**changed(), "examples": [{"text": "x", "q": "c"}]}, "example answer 'c' is none to question 'q'"),
        ({**changed(), "examples": [{"text": "x"}]}, "exactly the keys text and q"),
    ],
)
def test_questions_that_make_no_sense_are_refused_in_words(data, message):
    with pytest.raises(ValueError, match=".*") as caught:
        TaskSpec.from_dict(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"kind": "scale", "levels": ["low", "high"]}, "levels must be numbers"),
        ({"kind": "scale", "levels": [2, 1]}, "rising order"),
        ({"kind": "scale", "levels": [1, 1.0]}, "rising order"),
        ({"kind": "choices", "labels": ["a", "b"], "yes_no": ["yes", "yes"]}, "two different words"),
        ({"kind": "choices", "labels": ["a", "b"], "yes_no": [True, False]}, "two different words, in quotes"),
    ],
)
def test_levels_and_words_of_yes_and_no_are_checked(question, message):
    with pytest.raises(ValueError, match=message):
        TaskSpec.from_dict(
            {"name": "t", "instruction": "{text}", "questions": [{"name": "q", "ask": "How?", **question}]}
        )


def test_negative_levels_are_levels():
    data = {"name": "q", "kind": "scale", "levels": [-1, 0, 1.5], "ask": "How?"}
    task = TaskSpec.from_dict({"name": "t", "instruction": "{text}", "questions": [data]})
    assert task.labels == ("-1", "0", "1.5")
    assert task.read_answers("-1") == {"": (-1.0, None)}
    assert task.read_answers("1.5") == {"": (1.5, None)}


def test_question_of_several_is_not_guessed(sick):
    with pytest.raises(ValueError, match=r"several questions \(entailment, relatedness, topics\)"):
        _ = sick.question


def test_worked_examples_of_a_plain_task_are_the_same_in_every_branch():
    kinds = (Choice("tone", ("good", "bad"), "Which tone?", (), (), "It is"), Scale("stars", ("1", "2"), "How many?"))
    task = TaskSpec(
        "t", instruction="{text}", questions=kinds, chat=False, examples=(Example("Fine.", ("good", "2")),)
    )
    tone, stars = (branch.messages("Dull.")[0]["content"] for found in task.branches.values() for branch in found)
    shown = "Fine.\n\nWhich tone?\nIt is good\n\nHow many? 2\n\nDull.\n\n"
    assert tone == f"{shown}Which tone?\nIt is"
    assert stars == f"{shown}How many?"


def test_lead_in_of_choices_begins_its_branches_and_no_json():
    task = TaskSpec(
        "t", instruction="{text}", questions=(Choices("q", ("a", "b"), "Is it {label}?", (), (), "It is"),), chat=False
    )
    assert task.messages("x")[0]["content"].endswith("[] if none")
    assert task.branches[""][0].messages("x")[0]["content"].endswith("Is it a?\nIt is")


@pytest.mark.parametrize(
    ("question", "answer", "words"),
    [
        (Choice("q", ("a", "b"), "?"), 1, "b"),
        (Choices("q", ("a", "b"), "?"), [0, 1], "a, b"),
        (Choices("q", ("a", "b"), "?"), [], "none of the labels"),
        (Scale("q", ("1", "5"), "?"), np.float32(3.456), "3.46"),
        (Scale("q", ("1", "5"), "?"), 5.0, "5"),
        (Scale("q", ("0.001", "0.002"), "?"), 0.001264, "0.00126"),
        (Scale("q", ("0", "100000"), "?"), 12345.6, "12345.6"),
        (Scale("q", ("-1", "1"), "?"), -0.001, "0"),
    ],
)
def test_answer_is_told_in_words(question, answer, words):
    assert question.in_words(answer) == words


@pytest.mark.parametrize(
    ("question", "one", "other", "apart"),
    [
        (Choice("q", ("a", "b"), "?"), 0, 1, 1.0),
        (Choice("q", ("a", "b"), "?"), 1, 1, 0.0),
        (Choices("q", ("a", "b", "c"), "?"), [0, 1], [1, 2], 2 / 3),
        (Choices("q", ("a", "b", "c"), "?"), [], [2], 1.0),
        (Choices("q", ("a", "b", "c"), "?"), [], [], 0.0),
        (Scale("q", ("1", "2", "5"), "?"), 2.0, 2.5, 0.0),
        (Scale("q", ("1", "2", "5"), "?"), 2.0, 3.0, 1.0),
    ],
)
def test_answers_lie_as_far_apart_as_their_kind_says(question, one, other, apart):
    assert question.apart(one, other) == question.apart(other, one) == pytest.approx(apart)
    assert (apart == 0) == question.right([one], [other])[0]
