"""`hf-llambert init`: a task file to begin with."""

from __future__ import annotations

import csv
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.options import say

if TYPE_CHECKING:
    from hf_llambert import TaskSpec

_INSTRUCTION = "Which label fits this text best: {options}?"
_SYSTEM = "You sort texts. Answer with the label alone."
_FILE = """\
# A task: what is asked about each text, and what the answers are. All that can stand here: docs/tasks.md.
{name}
# Their order is the order of ids and scores everywhere. Put yes, no, on, off, null and numbers in quotes.
{labels}
# How the teacher is to answer.
{system}
# The question. {{text}} is where the text goes; {{options}} becomes the labels, as in "a, b or c".
{instruction}
# true: through the teacher's chat template. Small base models complete better than they obey: for them false, without
# system, and with a lead_in.
chat: true

# Take the # away for what you need:
# lead_in: "Label:"              # begins the answer, which the teacher continues
# permute_options: true          # another order of {{options}} for each text
# verbalizers:                   # words that stand for a label in an answer; every label needs some
#   LABEL: [word, another]
# descriptions:                  # what labels mean; {{definitions}} in the instruction lists them
#   LABEL: in a few words
# examples:                      # worked examples before the text
#   - text: A text like yours.
#     label: LABEL
"""


def init(
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            help='The labels with commas between them; "a, b" in quotes is one. May be repeated. Default: asks.',
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the task. Default: that of the file.")] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            "--instruction",
            help="The question. {text}, or {COLUMN}, is where it goes, else the text comes last; {options} becomes the labels.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="File to write.")] = Path("task.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file where there is one.")] = False,
) -> None:
    """Write a task file with comments, from --labels or from the answers to three questions, and say what is next."""
    from hf_llambert.whole import write_whole

    if output.is_dir():
        raise ValueError(
            f"'{output}' is a folder. Pass --output with the name of a file, such as {output / 'task.yaml'}."
        )
    if os.path.lexists(output) and not force:
        raise FileExistsError(f"'{output}' exists. Pass --force to replace it, or another --output.")
    if labels:
        task = _task(split_labels(labels), name or output.stem, instruction or _INSTRUCTION)
    elif sys.stdin.isatty():
        task = _asked(name or output.stem, instruction)
    else:
        raise ValueError("Pass --labels a,b,c: here is no terminal to ask on.")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, task_file(task))
    say(f"written to {output}")
    folder = re.sub(r"[^\w.-]+", "-", task.name).strip("-.") or "mine"
    say(
        f"next: hf-llambert run {shlex.quote(str(output))} --data DATA --teacher TEACHER --student STUDENT "
        f"--output {shlex.quote(f'runs/{folder}')}"
    )


def split_labels(given: list[str]) -> list[str]:
    """
    The labels of a command line: rows of a CSV.

    Raises:
        ValueError: A quotation mark is not closed, or a label is empty.
    """
    found = []
    for line in given:
        try:
            rows = list(csv.reader([line], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise ValueError(
                f'Expected labels such as a,b,c or "with, a comma",b in --labels, got {line!r} ({error}).'
            ) from error
        found += [label.strip() for row in rows for label in row]
    if not all(found):
        raise ValueError(
            f"Expected a label before and after each comma in --labels, got {', '.join(map(repr, given))}."
        )
    return found


def task_file(task: TaskSpec) -> str:
    """The task as a YAML file with comments. What the user wrote stands in values alone, never in comments."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as they are."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    values = {"name": task.name, "labels": list(task.labels), "system": task.system, "instruction": task.instruction}
    return _FILE.format(
        **{
            key: yaml.dump({key: value}, Dumper=Dumper, allow_unicode=True, width=10_000)
            for key, value in values.items()
        }
    )


def _task(labels: list[str], name: str, instruction: str) -> TaskSpec:
    from hf_llambert import TaskSpec
    from hf_llambert.tasks.spec import shown_fields

    if not shown_fields(instruction):
        instruction = f"{instruction.rstrip()}\n\nText: {{text}}"
    return TaskSpec(name, tuple(labels), instruction, system=_SYSTEM)


def _asked(name: str, instruction: str | None) -> TaskSpec:
    """A task from answers on the terminal; what does not make sense is asked again."""
    while True:
        given = typer.prompt("Labels, with commas between them")
        try:
            labels = split_labels([given])
            _task(labels, "task", _INSTRUCTION)
            break
        except ValueError as error:
            say(str(error), error=True)
    name = typer.prompt("Name of the task", default=name)
    while True:
        question = instruction or typer.prompt("Question to the teacher", default=_INSTRUCTION)
        try:
            return _task(labels, name, question)
        except ValueError as error:
            if instruction:
                raise
            say(str(error), error=True)
