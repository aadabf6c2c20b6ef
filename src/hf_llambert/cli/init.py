"""`hf-llambert init`: a task file to begin with."""

from __future__ import annotations

import csv
import os
import re
import shlex
import sys
from collections.abc import Mapping
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

_QUESTIONS = """\
# A task of several questions about one text. All that can stand here: docs/questions.md.
{name}
# What all questions share: {{text}} is where the text goes; every other {{name}} is a column of the data.
{instruction}
# Change the questions to yours; take away what you do not ask. People's answers stand in columns of these names.
questions:
  - name: topic
    kind: choice                 # one of the labels. Put yes, no, on, off, null and numbers in quotes.
    labels: [sport, politics, other]
    ask: "What is it about: {{options}}?"

  - name: tags
    kind: choices                # any of the labels, none too
    labels: [names people, has numbers, quotes somebody]
    ask: "Which of these hold: {{options}}?"

  - name: quality
    kind: scale                  # a level; people's answers may lie between
    levels: [1, 2, 3, 4, 5]
    ask: How well is it written, from 1 (badly) to 5 (very well)?

# true: through the teacher's chat template. Small base models complete better than they obey: for them false, and with
# lead_in: in each question, words that begin the answer.
chat: true

# Of each question you may say too:
#     verbalizers:               # words that stand for a label in an answer; every label needs some
#       LABEL: [word, another]
#     descriptions:              # what labels mean; {{definitions}} in ask lists them
#       LABEL: in a few words
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
    questions: Annotated[
        bool, typer.Option("--questions", help="Write a file of several questions about one text, to change to yours.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where there is one.")] = False,
) -> None:
    """
    Write a task file with comments, from --labels, from the answers to three questions, or of several --questions; and say
    what is next.
    """
    from hf_llambert.whole import write_whole

    if output.is_dir():
        raise ValueError(
            f"'{output}' is a folder. Pass --output with the name of a file, such as {output / 'task.yaml'}."
        )
    if os.path.lexists(output) and not force:
        raise FileExistsError(f"'{output}' exists. Pass --force to replace it, or another --output.")
    if questions and labels:
        raise ValueError(
            "--labels are of a task of one question. With --questions they stand in the file, to change there."
        )
    if questions:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, questions_file(name or output.stem, instruction or "Text: {text}"))
        say(f"written to {output}: change its questions to yours")
        _say_next(output, name or output.stem)
        return
    if labels:
        task = _task(split_labels(labels), name or output.stem, instruction or _INSTRUCTION)
    elif sys.stdin.isatty():
        task = _asked(name or output.stem, instruction)
    else:
        raise ValueError("Pass --labels a,b,c: here is no terminal to ask on.")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, task_file(task))
    say(f"written to {output}")
    _say_next(output, task.name)


def _say_next(output: Path, name: str) -> None:
    folder = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "mine"
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
    values = {"name": task.name, "labels": list(task.labels), "system": task.system, "instruction": task.instruction}
    return _filled(_FILE, values)


def questions_file(name: str, instruction: str) -> str:
    """
    A YAML file of several questions with comments.

    Raises:
        ValueError: The name is empty, or the instruction shows no text or fits no task.
    """
    import yaml

    from hf_llambert import TaskSpec
    from hf_llambert.tasks.spec import shown_fields

    if not shown_fields(instruction):
        instruction = f"{instruction.rstrip()}\n\nText: {{text}}"
    text = _filled(_QUESTIONS, {"name": name, "instruction": instruction})
    TaskSpec.from_dict(yaml.safe_load(text), "--questions")
    return text


def _filled(template: str, values: Mapping[str, object]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as they are."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    written = {
        key: yaml.dump({key: value}, Dumper=Dumper, allow_unicode=True, width=10_000) for key, value in values.items()
    }
    return template.format(**written)


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
