"""`hf-llambert init`: labels in, a commented task file out that is read back as it was meant."""

import functools
import re

import pytest
import yaml

from hf_llambert import TaskSpec, load_task
from hf_llambert.cli.init import split_labels, task_file


@pytest.fixture
def init(typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return functools.partial(typed, "init")


def test_labels_make_a_task_that_says_what_is_next(init, tmp_path):
    shown = init("--labels", "billing,bug,question", "--output", "tickets.yaml")
    assert shown.splitlines() == [
        "written to tickets.yaml",
        "next: hf-llambert run tickets.yaml --data DATA --teacher TEACHER --student STUDENT --output runs/tickets",
    ]
    task = load_task(tmp_path / "tickets.yaml")
    assert (task.name, task.labels) == ("tickets", ("billing", "bug", "question"))
    asked = task.messages("My card was charged twice.")
    assert asked[-1]["content"] == (
        "Which label fits this text best: billing, bug or question?\n\nText: My card was charged twice."
    )
    assert sum(line.startswith("#") for line in (tmp_path / "tickets.yaml").read_text().splitlines()) >= 8


STRANGE = [
    "yes", "no", "on", "null", "~", "1.5", "0x1F", "2026-01-01", "a: b", "- dash", "# hash", "{", "{text}", "{options}",
    "[x", "sci, tech", 'say "hi"', "it's", "%tag", "&anchor", "*star", "!!python/object:x", "<<", "=", "|", ">", "fun 🎉",
    "日本", "back\\slash", "é", "?", "@at", "`tick`", "x\u2028y", "tab\there", "'", "---", "...",
]  # fmt: skip


@pytest.mark.parametrize("label", [one for one in STRANGE if any(letter.isalnum() for letter in one)])
def test_labels_are_data_and_never_yaml(init, tmp_path, label):
    quoted = '"' + label.replace('"', '""') + '"'
    init("--labels", f"{quoted},other", "--name", label, "--force")
    task = load_task(tmp_path / "task.yaml")
    assert task.labels == (label, "other")
    assert task.name == label
    assert f"{label} or other" in task.messages("a text")[-1]["content"]


def test_any_text_in_the_file_is_read_back_unchanged():
    for text in STRANGE:
        for where in (text, f"{text}\n{text}", f" {text} \n", f"\n{text}", f"{text}: |-\n  x\n#y"):
            task = TaskSpec(where or "x", ("a", "b"), re.sub(r"{\w+}", "", where) + " {text}", system=where)
            assert TaskSpec.from_dict(yaml.safe_load(task_file(task))) == task


def test_labels_with_commas_and_quotes_are_told_apart():
    assert split_labels(["a, b ,c"]) == ["a", "b", "c"]
    assert split_labels(['"sci, tech",sport', 'it"s']) == ["sci, tech", "sport", 'it"s']
    assert split_labels(['"say ""hi"""']) == ['say "hi"']


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", 'a,"b'], "Expected labels such as a,b,c"),
        (["--labels", "a,,b"], "Expected a label before and after each comma"),
        (["--labels", "a\nb"], "Expected labels such as a,b,c"),
        (["--labels", "one"], "expected at least two different labels, got ['one']"),
        (["--labels", "a,a"], "expected at least two different labels"),
        (["--labels", "Sport,sport"], "stands for both"),
        (["--labels", "a,b", "--instruction", "{text}{text}"], "must contain {text} exactly once"),
        (["--labels", "a,b", "--output", "."], "'.' is a folder. Pass --output with the name of a file"),
        ([], "Pass --labels a,b,c: here is no terminal to ask on."),
        (["--label", "a,b"], "No such option --label. Did you mean --labels?"),
    ],
)
def test_mistakes_are_a_sentence_and_write_nothing(init, tmp_path, words, said):
    code = 2 if words[:1] == ["--label"] else 1
    assert said in " ".join(init(*words, expect=code).replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_by_force(init, tmp_path):
    (tmp_path / "task.yaml").write_text("mine")
    assert "'task.yaml' exists. Pass --force to replace it" in init("--labels", "a,b", expect=1)
    assert (tmp_path / "task.yaml").read_text() == "mine"
    (tmp_path / "link.yaml").symlink_to(tmp_path / "gone.yaml")
    assert "exists" in init("--labels", "a,b", "--output", "link.yaml", expect=1)
    init("--labels", "a,b", "--force")
    assert load_task(tmp_path / "task.yaml").labels == ("a", "b")


def test_question_without_text_gets_it_at_the_end(init, tmp_path):
    init("--labels", "yes,no", "--instruction", "Is it urgent? Answer {options}.", "--output", "new/urgent.yaml")
    task = load_task(tmp_path / "new" / "urgent.yaml")
    assert task.messages("Help!")[-1]["content"] == "Is it urgent? Answer yes or no.\n\nText: Help!"
    init("--labels", "yes,no", "--instruction", "Text: {text}. Urgent?", "--force")
    assert load_task(tmp_path / "task.yaml").instruction == "Text: {text}. Urgent?"


def test_on_a_terminal_it_asks_and_asks_again(init, tmp_path):
    shown = init(answers=["one", 'ham,"spam', "ham,spam", "mail", "{text} {text}", "Spam? {text}"])
    assert "at least two different labels" in shown
    assert "must contain {text} exactly once" in shown
    task = load_task(tmp_path / "task.yaml")
    assert (task.name, task.labels, task.instruction) == ("mail", ("ham", "spam"), "Spam? {text}")


def test_on_a_terminal_defaults_are_taken(init, tmp_path):
    shown = init("--output", "my mail.yaml", answers=["ham,spam", "", ""])
    assert "next: hf-llambert run 'my mail.yaml'" in shown
    assert shown.rstrip().endswith("--output runs/my-mail")
    assert load_task(tmp_path / "my mail.yaml").name == "my mail"


def test_question_about_several_columns_gets_no_text_beside_them(init, tmp_path):
    init("--labels", "same,other", "--instruction", "{first}\n{second}\n{options}?", "--output", "pair.yaml")
    assert load_task(tmp_path / "pair.yaml").fields == ("first", "second")
