"""Options that messages tell people to pass exist where they are told."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
import typer.main

from hf_llambert import StudentConfig
from hf_llambert.cli import app
from hf_llambert.tasks import label_messages
from hf_llambert.tasks.questions import label_meanings
from hf_llambert.teachers.kinds import KINDS, teacher_class

SOURCES = Path(__file__).parent.parent / "src" / "hf_llambert"
OPTION = re.compile(r"(?<![\w-])--([a-z][\w-]*)")
OF_BATCHES = {"top_logprobs", "structured", "max_new_tokens"}
OF_OTHERS = {"debug", "help"}
OF_ACCELERATE = {"multi_gpu", "num_processes", "num_machines", "mixed_precision", "dynamo_backend", "cpu"}


def of_commands() -> dict[str, set[str]]:
    """The options of each command."""
    found: dict[str, set[str]] = {}

    def add(command, name):
        for option in command.params:
            for spelled in (*option.opts, *option.secondary_opts):
                found.setdefault(name, set()).add(spelled.removeprefix("--"))
        for sub, inner in getattr(command, "commands", {}).items():
            add(inner, f"{name} {sub}".strip())

    add(typer.main.get_command(app), "")
    return found


def of_teachers() -> set[str]:
    return {field.name for kind in KINDS for field in dataclasses.fields(teacher_class(kind))}


def told(tree: ast.AST) -> set[str]:
    """The options in strings that are no docstrings, such as messages."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {name for one in strings if id(one) not in docs for name in OPTION.findall(one.value)}


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_options_in_messages_exist(path):
    commands = of_commands()
    known = set().union(*commands.values()) | of_teachers() | OF_BATCHES | OF_OTHERS | OF_ACCELERATE
    known |= {field.name for field in dataclasses.fields(StudentConfig)}
    assert not told(ast.parse(path.read_text(encoding="utf-8"))) - known


def test_reading_of_labels_has_the_options_that_are_told_in_every_command_that_reads_some():
    commands = of_commands()
    for name in ("annotate", "train", "label", "plan"):
        assert {"label_map", "label_values", "label_column"} <= commands[name]
    assert {"recorded_map", "recorded_values", "recorded_encoding", "recorded_delimiter"} <= of_teachers()


@pytest.mark.parametrize("option", ["label", "recorded"])
@pytest.mark.parametrize(
    ("values", "labels", "kwargs"),
    [
        (["a", "?"], ("a", "b"), {}),
        (["a", "1"], ("a", "b"), {}),
        ([1, 2], ("a", "b"), {}),
        ([1, 2], ("1", "2", "3"), {}),
        ([-1, 0, 1], ("a", "b", "c"), {}),
        ([0, 1], ("yes", "no"), {}),
        ([0, 1], ("a", "b"), {"label_values": "names"}),
        ([1, 3], ("a", "b", "c", "d"), {"label_map": {"3": "a"}}),
        (["a"], ("a", "b"), {"label_map": {"x": "y"}}),
        (["a"], ("a", "b"), {"label_values": "guess"}),
    ],
)
def test_each_refusal_of_a_label_column_names_its_own_options_on_the_command_line_and_in_python(
    option, values, labels, kwargs
):
    with pytest.raises(ValueError, match=f"{option}_(map|values)") as refused:
        label_meanings(values, labels, "column", option=option, **kwargs)
    said = str(refused.value)
    known = of_commands()["annotate"] | of_teachers()
    assert set(OPTION.findall(said)) <= known
    other = "recorded" if option == "label" else "label"
    assert not re.search(rf"\b{other}_(map|values)", said)
    assert len(said) < 600
    for name in set(OPTION.findall(said)):
        assert re.search(rf"(?<!--)\b{name}\b", said), f"{name} is not said for Python"


def test_warnings_name_the_options_too():
    held = {("int", 1): "1"}
    ids = {("int", 1): 1}
    for said in (
        label_messages.ids_without_zero(held, ids, {("int", 1): 0}, ("a", "b", "c"), "column", "recorded"),
        label_messages.names_that_could_be_ids(held, ids, ("1", "2"), "column", "recorded"),
    ):
        assert "--recorded_values" in said
        assert "label_values" not in said
