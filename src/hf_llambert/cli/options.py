"""What the commands share: options, and how they speak."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.tasks.texts import shorten, visible

_LONGEST = 300  # characters of a reason that are shown


def values(*names: str) -> Callable[[str], list[str]]:
    """What completes an option that takes one of some names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def task_names(incomplete: str) -> list[str]:
    """What completes a task: the built-in ones, and where none begins so the shell's own files."""
    from hf_llambert.tasks.spec import builtin_tasks

    return [name for name in builtin_tasks() if name.startswith(incomplete)]


TEACHERS = values("transformers", "vllm", "endpoint", "recorded", "batch")

Task = Annotated[
    str,
    typer.Option(
        "--task", help="A built-in task (imdb, umls-neuro, bbc-news) or a YAML file.", autocompletion=task_names
    ),
]

Data = Annotated[
    str,
    typer.Option("--data", help="A .jsonl, .csv or .parquet file, a directory of them, a saved dataset or a Hub id."),
]

Split = Annotated[str | None, typer.Option("--split", help="Split of a Hub or saved dataset.")]

TextColumn = Annotated[str, typer.Option("--text_column", help="Column of the texts.")]

LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label_column",
        help="Column of people's labels. Default: 'label' if there is one; none: there is no gold. Of several questions: "
        "QUESTION=COLUMN, with commas between; default: columns named as the questions.",
    ),
]

LabelMap = Annotated[
    list[str] | None,
    typer.Option(
        "--label_map",
        help="What a label of the data is in the task: pos=positive; nothing after = is no label. Of several questions: "
        "QUESTION:pos=positive.",
    ),
]

Values = Annotated[
    str,
    typer.Option(
        "--label_values",
        help="What the label column holds: names, ids (from 0) or ids_from_1. auto: whichever the whole column fits. Of several "
        "questions: QUESTION=ids, with commas between.",
        autocompletion=values("auto", "names", "ids", "ids_from_1"),
    ),
]

Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no_baseline",
        help="Fit a linear student on the same labels too, to say what the encoder is worth beyond counting words (seconds).",
    ),
]

Encoding = Annotated[str, typer.Option("--encoding", help="Encoding of CSV and JSON files, such as utf-16 or cp1252.")]

Delimiter = Annotated[str, typer.Option("--delimiter", help="What stands between the fields of a CSV, such as ';'.")]

Config = Annotated[str | None, typer.Option("--config", help="Configuration of a Hub dataset that has several.")]

NumRows = Annotated[int | None, typer.Option("--num_rows", help="Take a random sample of so many rows. Default: all.")]

Prior = Annotated[
    list[str] | None,
    typer.Option(
        "--prior",
        help="Share of texts that a label is believed to have, for --calibration: good=0.7, one for each label. Of several "
        "questions: QUESTION:good=0.7.",
    ),
]

AskApart = Annotated[
    bool,
    typer.Option(
        "--ask_apart", help="Where text comes back: ask each of several questions by itself, not all in one request."
    ),
]

Ledger = Annotated[
    Path | None,
    typer.Option("--ledger", help="Folder of the replies; several runs may share it. Default: OUTPUT/ledger."),
]

Seed = Annotated[int, typer.Option("--seed", help="Seed of the sample and of the training.")]

Prices = Annotated[
    Path | None,
    typer.Option("--prices", help="YAML file with the prices of models, or genai-prices (docs/plan.md)."),
]

Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        help="Who runs the teacher: transformers, vllm, endpoint, recorded, or batch (a batch service).",
        autocompletion=TEACHERS,
    ),
]

MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max_cost",
        help="Stop before so much money is spent on annotating, all runs together. Needs --prices, or --price_input.",
    ),
]

MaxHours = Annotated[
    float | None, typer.Option("--max_hours", help="Stop when annotating, in this run, has taken so many hours.")
]

Output = Annotated[Path, typer.Option("--output", help="Folder of the run.")]


def pairs(counts: dict) -> str:
    """Names and values on one line."""
    return json.dumps(counts, ensure_ascii=False)[1:-1].replace('"', "")


def refuse_gated(*folders: Path) -> None:
    """Raise where a run has a gate: what is sent while it is made cannot be judged before."""
    for folder in folders:
        if os.path.lexists(folder / "gate.yaml"):
            raise ValueError(
                f"'{folder}' has a gate, and what is sent while it is made cannot be judged by it. Leave out --push_to_hub, then "
                f"run hf-llambert gate and hf-llambert push."
            )


def is_stated(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def say(text: str, error: bool = False) -> None:
    """One line to the user. Of several processes the first speaks for all, but each of its own errors."""
    if error or os.environ.get("RANK", "0") == "0":
        typer.echo(visible(text), err=error)


def reason_lines(results: Mapping, most: int = 3) -> list[str]:
    """The commonest reasons why rows have no label, with their counts; a sentence each."""
    found = sorted(results.get("reasons", {}).items(), key=lambda one: (-one[1], one[0]))
    lines = [f"  {count:,} × {shorten(' '.join(reason.split()), _LONGEST, 0.7)}" for reason, count in found[:most]]
    rest = sum(count for _, count in found[most:])
    return [*lines, f"  {rest:,} for {len(found) - most:,} other reasons"] if rest else lines
