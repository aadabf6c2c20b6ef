"""`hf-llambert tune`: which way of asking is best."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.gold import gold_column, gold_options, label_columns
from hf_llambert.cli.options import (
    Backend,
    Config,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    Ledger,
    MaxCost,
    MaxHours,
    Output,
    Prices,
    Seed,
    Split,
    Task,
    TextColumn,
    Values,
    is_stated,
    say,
    values,
)
from hf_llambert.cli.teachers import limits_of, named_teachers, prices_of, refuse_unknown_of_teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import Limits, TaskSpec
    from hf_llambert.teachers.base import Teacher


def tune(
    context: typer.Context,
    task: Task,
    output: Output,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Texts, with people's labels or without: a file, directory or Hub id."),
    ] = None,
    gold: Annotated[
        str | None, typer.Option("--gold", help="Texts with people's labels, in place of --data: these choose.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Hub id or directory of a language model, or a YAML file of a teacher."),
    ] = None,
    backend: Backend = "transformers",
    split: Split = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    label_values: Values = "auto",
    num_gold: Annotated[
        int | None, typer.Option("--num_gold", help="Gold rows to use. Default: 100, or as many as there are.")
    ] = None,
    num_examples: Annotated[
        int, typer.Option("--num_examples", help="How many of them are kept apart for worked examples.")
    ] = 20,
    num_texts: Annotated[int, typer.Option("--num_texts", help="Without gold: texts to compare on.")] = 80,
    shots: Annotated[
        list[int] | None,
        typer.Option("--shots", help="Worked examples of each label; may be repeated. Default: 0, 1 and 2."),
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option(
            "--modes",
            help="score, generate, or both (repeated). Default: the teacher's.",
            autocompletion=values("score", "generate"),
        ),
    ] = None,
    built_in: Annotated[
        bool, typer.Option("--built_in/--no_built_in", help="Compare built-in ways of asking too.")
    ] = True,
    writer: Annotated[
        str | None,
        typer.Option(
            "--writer",
            help="Hub id or directory of a language model, or a YAML file of a teacher, that writes further instructions by what "
            "the teacher gets wrong (extra: tune).",
        ),
    ] = None,
    num_written: Annotated[int, typer.Option("--num_written", help="With --writer: how many.")] = 4,
    seed: Seed = 42,
    ledger: Ledger = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    prices: Prices = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
) -> None:
    """
    Find out which way of asking is best, how surely, and at what price: OUTPUT/tuned.yaml is the task to annotate with.

    Compared are the task, its variants (`variants:` in its file) and built-in ways, with and without worked examples and with
    each calibration, on 100 texts that people labelled, or on texts alone. Takes every argument of the teacher's class too, as
    annotate does.
    """
    from hf_llambert import Tuning, load_data, load_task, load_variants, tune_lines, tune_task, tuned_texts
    from hf_llambert.tuning.lines import estimate_line

    if (data is None) == (gold is None):
        raise ValueError("Pass --data, texts with people's labels or without, or --gold, texts with people's labels.")
    refuse_unknown_of_teacher(context, backend)
    spec = load_task(task)
    shown = spec.columns(text_column)
    form: dict = {"encoding": encoding, "delimiter": delimiter, "config": config, "text_column": shown}
    rows = load_data(data or gold or "", split, label_columns=label_columns(label_column, spec), **form)
    column = gold_column(label_column, rows.column_names, spec)
    if gold is not None and column is None:
        raise ValueError(
            f"--gold '{gold}' has no column of people's labels among {rows.column_names}. Pass --label_column."
        )
    if Path(task).is_file() and Path(task).resolve() == (output / "tuned.yaml").resolve():
        raise ValueError(
            f"'{task}' is what this command writes. Name another --output, or the task that it was made of."
        )
    in_output = Path(task).parent.resolve() == output.resolve()  # what chose there is this call's own, and not earlier
    _refuse_idle(context, by_gold=column is not None)
    [(_, asked)] = named_teachers([teacher] if teacher else [], backend, context.args, seed)
    asked, limits = _limited(spec, asked, output, text_column, rows, max_cost, max_hours, prices)
    tuning = Tuning(
        load_variants(task),
        writer=None if writer is None else named_teachers([writer], "transformers", [], seed)[0][1],
        num_written=num_written,
        built_in=built_in,
        shots=tuple(shots or (0, 1, 2)),
        modes=tuple(modes or ()),  # type: ignore[arg-type]  # checked there
        num_gold=num_gold,
        num_examples=num_examples,
        num_texts=num_texts,
        seed=seed,
    )
    results = tune_task(
        spec,
        asked,
        output,
        rows,
        label_column=column,
        tuning=tuning,
        text_column=text_column,
        **gold_options(label_map, label_values, spec),
        ledger=ledger,
        limits=limits,
        before=lambda estimate: say(estimate_line(estimate)),
        earlier=tuned_texts(None if in_output else task),
    )
    options = {"text_column": text_column, "teacher": teacher, "ledger": ledger}
    options |= {"split": split, "config": config, "encoding": encoding, "delimiter": delimiter} if data else {}
    given = {name: str(value) for name, value in options.items() if is_stated(context, name)}
    words = _words(data, given, backend, context.args)
    for line in tune_lines(results, output, words):
        say(line)


def _refuse_idle(context: typer.Context, by_gold: bool) -> None:
    """Refuse options that would change nothing."""
    of_gold = dict.fromkeys(("num_gold", "num_examples", "shots"), "without gold")
    idle = {"num_texts": "where gold chooses"} if by_gold else of_gold
    if not is_stated(context, "writer"):
        idle["num_written"] = "without --writer"
    for name, where in idle.items():
        if is_stated(context, name):
            raise ValueError(f"--{name} changes nothing {where}. Leave it out.")


def _limited(
    task: TaskSpec,
    teacher: Teacher,
    output: Path,
    text_column: str,
    rows: Dataset,
    max_cost: float | None,
    max_hours: float | None,
    prices: Path | None,
) -> tuple[Teacher, Limits | None]:
    """The teacher, with the cap that an endpoint keeps itself, and the caps; the price where one is known."""
    from hf_llambert import Limits, LLMLabeler, load_prices

    labeler = LLMLabeler(task, teacher, output / "ledger", text_column)
    paid = prices_of({"llm": labeler}, None if prices is None else load_prices(prices))
    limits = limits_of({"llm": labeler}, rows.select([]), max_cost, max_hours, paid)
    if limits is None or limits.cost is None:
        price = None if paid is None else paid["llm"]
        hours = None if limits is None else limits.max_hours
        limits = None if price is None else Limits(cost=price.cost, max_hours=hours, currency=price.currency)
        limits = limits or (Limits(max_hours=hours) if hours is not None else None)
    return labeler.teacher, limits


def _words(data: str | None, given: Mapping[str, str], backend: str, arguments: Sequence[str]) -> str:
    """
    The words of the command that say where data and teacher are, but for the way of asking, which was chosen. The gold that
    chose is not what is annotated next: `DATA` stands for that.
    """
    kept, skip = [], False
    for word in arguments:
        if skip or word == "--mode" or word.startswith("--mode="):
            skip = word == "--mode"
            continue
        kept.append(word)
    words = ["--data", data or "DATA"]
    words += [word for name, value in given.items() for word in (f"--{name}", value)]
    words += ["--backend", backend] if backend != "transformers" else []
    return shlex.join([*words, *kept])
