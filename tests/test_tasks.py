import re

import pytest
import yaml

from hf_llambert import ABSTAIN, TaskSpec, load_task
from hf_llambert.tasks.spec import builtin_tasks

GOOD = {"name": "t", "labels": ["a label", "other"], "instruction": "Text: {text}"}


def test_builtin_tasks_are_those_documented():
    assert builtin_tasks() == ["bbc-news", "imdb", "umls-neuro"]


@pytest.mark.parametrize("name", ["imdb", "umls-neuro", "bbc-news"])
def test_task_survives_yaml(name, tmp_path):
    task = load_task(name)
    task.to_yaml(tmp_path / "task.yaml")
    assert TaskSpec.from_yaml(tmp_path / "task.yaml") == task
    assert load_task(str(tmp_path / "task.yaml")) == task


def test_text_with_braces_is_spliced_literally():
    task = TaskSpec.from_dict(GOOD)
    assert task.messages("{text} {0} {x}")[-1]["content"] == "Text: {text} {0} {x}"


def test_plain_prompt_shows_examples_then_text_then_lead_in():
    task = TaskSpec.from_dict(
        GOOD | {"chat": False, "lead_in": "It is ", "examples": [{"text": "one", "label": "other"}]}
    )
    assert task.messages("two") == [{"role": "user", "content": "Text: one\nIt is other\n\nText: two\nIt is"}]


def test_chat_shows_system_and_examples_as_turns(question):
    assert [m["role"] for m in question.messages("x")] == ["system", "user", "assistant", "user"]
    assert question.messages("x")[2]["content"] == "positive"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labls": []}, "unknown key 'labls'. Did you mean 'labels'?"),
        ({"frobnicate": 1}, "unknown key 'frobnicate'. Known keys: name, labels"),
        ({"labels": None}, "'labels' must be a list"),
        ({"labels": ["one"]}, "at least two different labels"),
        ({"labels": ["one", "one"]}, "at least two different labels"),
        ({"labels": [False, True]}, "YAML reads yes, no, on and off as booleans"),
        ({"labels": ["one", " "]}, "non-empty strings"),
        ({"labels": ["one", 2]}, "non-empty strings"),
        ({"instruction": "no place"}, "must contain {text} exactly once"),
        ({"instruction": "{text} {text}"}, "must contain {text} exactly once"),
        ({"verbalizers": {"a label": ["x"]}}, "must have exactly the keys"),
        ({"verbalizers": {"a label": ["x"], "other": ["X."]}}, "stands for both"),
        ({"verbalizers": {"a label": ["..."], "other": ["y"]}}, "no letter or digit"),
        ({"verbalizers": {"a label": [], "other": ["y"]}}, "no verbalizer"),
        ({"verbalizers": ["x", "y"]}, "must map each label to its words"),
        ({"examples": [{"text": "x", "label": "third"}]}, "not one of the labels"),
        ({"examples": [{"text": "x"}]}, "exactly the keys text and label"),
        ({"examples": [{"text": None, "label": "other"}]}, "non-empty string"),
        ({"system": "be good", "chat": False}, "no system turn"),
        ({"chat": "yes please"}, "chat true or false"),
        ({"name": ""}, "non-empty string"),
    ],
)
def test_wrong_task_is_refused_in_words(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TaskSpec.from_dict(GOOD | change)


@pytest.mark.parametrize("key", ["name", "labels", "instruction"])
def test_missing_key_is_named_with_its_file(key, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in GOOD.items() if k != key}))
    with pytest.raises(ValueError, match=f"task.yaml: key '{key}' is missing"):
        TaskSpec.from_yaml(path)


def test_broken_or_empty_yaml_is_named(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("name: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        TaskSpec.from_yaml(path)
    path.write_text("")
    with pytest.raises(ValueError, match="expected a mapping"):
        TaskSpec.from_yaml(path)


def test_unknown_task_lists_the_built_in_ones():
    with pytest.raises(ValueError, match="bbc-news, imdb, umls-neuro"):
        load_task("imbd")


SECTIONS = {"name": "s", "labels": ["business", "sport", "tech"], "instruction": "Which of {options}?\n{text}"}


def test_options_stand_where_the_instruction_wants_them():
    task = TaskSpec.from_dict(SECTIONS)
    assert task.messages("a {options} b")[-1]["content"] == "Which of business, sport or tech?\na {options} b"


def test_options_take_another_order_for_each_text_and_the_same_for_the_same_text(tmp_path):
    task = TaskSpec.from_dict({**SECTIONS, "permute_options": True})
    orders = [task.messages(str(i))[-1]["content"].split("?")[0] for i in range(600)]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 6
    assert min(counts.values()) > 60
    task.to_yaml(tmp_path / "t.yaml")
    again = TaskSpec.from_yaml(tmp_path / "t.yaml")
    assert again == task
    assert again.messages("7") == task.messages("7")
    assert task.messages("7")[-1]["content"] == "Which of tech, business or sport?\n7"  # on every machine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": "{options} {options} {text}"}, "may contain {options} once"),
        ({"instruction": "{text}", "permute_options": True}, "permute_options needs {options}"),
        ({"permute_options": "always"}, "permute_options is true or false"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TaskSpec.from_dict({**SECTIONS, **change})


def test_cut_or_filtered_answer_is_no_label():
    task = TaskSpec("t", ("negative", "positive"), "{text}")
    assert task.read("positive", finish="stop") == (1, None)
    for finish in ("length", "content_filter"):
        label, reason = task.read("positive", finish=finish)
        assert label == ABSTAIN
        assert finish in reason


CODEBOOK = {
    "name": "tickets",
    "labels": ["billing", "bug", "yes"],
    "instruction": "Which kind?\n{definitions}\nAnswer {options}.\n\n{text}",
    "descriptions": {"bug": "something does not\n  work: {text} {options}", "billing": "money"},
}


def test_definitions_are_the_labels_words_with_their_descriptions():
    task = TaskSpec.from_dict(CODEBOOK)
    assert task.messages("{definitions}")[-1]["content"] == (
        "Which kind?\n- billing: money\n- bug: something does not work: {text} {options}\n- yes\n"
        "Answer billing, bug or yes.\n\n{definitions}"
    )
    assert TaskSpec.from_dict(task.to_dict()) == task


def test_definitions_stand_in_the_order_of_permuted_options():
    task = TaskSpec.from_dict({**CODEBOOK, "permute_options": True})
    orders = set()
    for text in "abcdefgh":
        content = task.messages(text)[-1]["content"]
        words = [line[2:].split(":")[0] for line in content.splitlines() if line.startswith("- ")]
        assert f"Answer {words[0]}, {words[1]} or {words[2]}." in content
        orders.add(tuple(words))
    assert len(orders) > 1


def test_description_that_is_not_shown_changes_no_question():
    plain = {key: value for key, value in CODEBOOK.items() if key != "descriptions"} | {"instruction": "{text}"}
    described = TaskSpec.from_dict({**plain, "descriptions": CODEBOOK["descriptions"]})
    assert described.messages("x") == TaskSpec.from_dict(plain).messages("x")
    assert "descriptions" not in TaskSpec.from_dict(plain).to_dict()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"descriptions": {"bugs": "x"}}, "must map labels of .*'bug'.* got {'bugs': 'x'}"),
        ({"descriptions": {True: "x"}}, "YAML reads yes and no as booleans"),
        ({"descriptions": ["x", "y", "z"]}, "must map labels"),
        ({"descriptions": {"bug": " "}}, "description of 'bug' must be a non-empty string"),
        ({"descriptions": {"bug": 3}}, "description of 'bug' must be a non-empty string, got 3"),
        ({"descriptions": None}, "{definitions} once, where the labels have descriptions"),
        ({"instruction": "{definitions}{definitions}{text}"}, "{definitions} once"),
    ],
)
def test_codebook_that_makes_no_sense_is_refused(changed, reason):
    with pytest.raises(ValueError, match=reason):
        TaskSpec.from_dict({**CODEBOOK, **changed})
