"""`hf-llambert plan`: what a run will take, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.gold import gold_column, gold_options, label_columns, prior_of, warn_of_look_alikes
from hf_llambert.cli.options import (
    AskApart,
    Backend,
    Config,
    Data,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    Output,
    Prices,
    Prior,
    Seed,
    Split,
    Task,
    TextColumn,
    Values,
    say,
    values,
)
from hf_llambert.cli.teachers import named_teachers, refuse_unknown_of_teacher

if TYPE_CHECKING:
    from collections.abc import Callable


def plan(
    context: typer.Context,
    task: Task,
    data: Data,
    output: Output,
    num_annotated: Annotated[int, typer.Option("--num_annotated", help="Rows that the teacher is to annotate.")],
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
    ask_apart: AskApart = False,
    num_pool: Annotated[
        int | None, typer.Option("--num_pool", help="Texts to be labelled in the end. Default: all of the data.")
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Rows to ask about now.")] = 64,
    student: Annotated[
        str | None, typer.Option("--student", help="Directory or Hub id of an encoder, measured for a few steps.")
    ] = None,
    max_length: Annotated[int, typer.Option("--max_length", help="The student's longest input in tokens.")] = 256,
    head_share: Annotated[
        float, typer.Option("--head_share", help="Share of a text that the student cuts taken from its beginning.")
    ] = 0.5,
    num_train_epochs: Annotated[float, typer.Option("--num_train_epochs", help="Passes of the training.")] = 6,
    batch_size: Annotated[int, typer.Option("--per_device_train_batch_size", help="Rows in a training step.")] = 16,
    prices: Prices = None,
    calibration: Annotated[
        str, typer.Option("--calibration", help="none or batch.", autocompletion=values("none", "batch"))
    ] = "batch",
    prior: Prior = None,
    seed: Seed = 42,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="Folder of the replies. Default: OUTPUT/ledger, where annotate looks."),
    ] = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the plan to this file too.")] = None,
) -> None:
    """
    Ask a teacher about a few rows and say what the whole run will take: tokens, hours and money, with 95 % intervals.

    The rows are among those that annotate --num_rows takes with the same seed, so they are not asked about again. Takes every
    argument of the teacher's class too, as annotate does.
    """
    from hf_llambert import LLMLabeler, StudentPlan, fastest_backend, load_data, load_prices, load_task, make_plan

    if calibration not in ("none", "batch"):
        raise ValueError(
            f"A plan knows --calibration none or batch, got {calibration!r}: the others ask or learn more."
        )
    refuse_unknown_of_teacher(context, backend)
    table = None if prices is None else load_prices(prices)  # before anybody is asked
    spec = load_task(task)
    shown = spec.columns(text_column)
    form = {"encoding": encoding, "delimiter": delimiter, "config": config, "text_column": shown}
    dataset = load_data(data, split, label_columns=label_columns(label_column, spec), **form)  # type: ignore[arg-type]
    warn_of_look_alikes(label_column, dataset.column_names, spec)
    [(_, asked)] = named_teachers([teacher] if teacher else [], backend, context.args, seed)
    labeler = LLMLabeler(spec, asked, ledger or output / "ledger", text_column, ask_apart=ask_apart)
    found = make_plan(
        dataset,
        labeler,
        num_annotated=num_annotated,
        num_pool=num_pool,
        sample=sample,
        student=None
        if student is None
        else StudentPlan(student, max_length, head_share, num_train_epochs, batch_size, fastest_backend()),
        prices=table,
        gold_column=gold_column(label_column, dataset.column_names, spec),
        **gold_options(label_map, label_values, spec),
        calibration=calibration,  # type: ignore[arg-type]  # checked above
        prior=prior_of(prior, spec),
        seed=seed,
    )
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    show_plan(found)


def show_plan(plan: dict) -> None:
    """Draw a plan on the terminal."""
    from rich.box import SIMPLE_HEAD

    from hf_llambert.tasks.screen import Screen

    answered, now = plan["sample"]["answered"], plan["sample"]["asked_now"]
    say(f"{plan['task']} with {plan['teacher']}: 95 % intervals, from {answered} texts ({now} asked now)")
    headings = ("", "texts", "time", *([plan["currency"]] if plan["currency"] else []))
    annotate, whole, student = plan["annotate"], plan["teacher_for_all"], plan["student"]
    rows = [("annotate", annotate["n"], annotate)]
    if student is not None:
        rows += [("train", student["train"]["n"], student["train"])]
        rows += [("label", student["label"]["n"], student["label"])]
        rows += [("all three", None, student["in_all"])]
    rows += [("teacher alone", whole["n"], whole)]
    cells = [
        (
            name,
            "" if n is None else f"{n:,}",
            _range(part["hours"], _times),
            *([_range(part["money"], _moneys)] if plan["currency"] else []),
        )
        for name, n, part in rows
    ]
    # As wide as its numbers, none is cut.
    lines = ("all three", "teacher alone")
    Screen(width=500).table(headings, cells, numbers=True, box=SIMPLE_HEAD, sections=lines)
    for line in _lines(plan):
        say(line)


def _lines(plan: dict) -> list[str]:
    """What does not fit into the table."""
    out, even, texts = [], plan["break_even"], plan["texts"]
    for name, part in (("to annotate", plan["annotate"]), ("of the teacher alone", plan["teacher_for_all"])):
        out.append(
            f"tokens {name}: {_range(part['input_tokens'], _counts)} in, {_range(part['output_tokens'], _counts)} out"
        )
    if plan.get("by_batch"):  # plans of earlier versions lack these two
        some, every = (_range(plan["by_batch"][name], _moneys) for name in ("annotate", "teacher_for_all"))
        out.append(f"by batch (--backend batch): {some} {plan['currency']} to annotate, {every} of the teacher alone")
    if plan.get("cached"):
        some, every = (_range(plan["cached"][name], _moneys) for name in ("annotate", "teacher_for_all"))
        out.append(
            f"if the {plan['cached']['shared_tokens']:,.0f} tokens that all prompts begin with are read from a cache: "
            f"{some} {plan['currency']} to annotate, {every} of the teacher alone"
        )
    for what, unit in (("hours", "time"), ("money", "money")):
        if even is not None and even[what] is not None:
            out.append(f"in {unit} the student pays above {_range(even[what], _counts)} texts")
        elif even is not None and (what == "hours" or plan["student"]["in_all"]["money"] is not None):
            out.append(f"in {unit} the student never pays: it takes no less for a text than the teacher")
    if plan["coverage"]:
        out.append(f"coverage {_range(plan['coverage'], _percents)} of {plan['coverage']['n']}")
    if plan["agreement"]:
        said = _range(plan["agreement"], _percents)
        out.append(f"{plan.get('agreement_is', 'agreement with gold')} {said} of {plan['agreement']['n']}")
    for name, one in plan.get("questions", {}).items():
        figures = {"coverage": one["coverage"], one["agreement_is"]: one["agreement"]}
        told = [f"{what} {_range(share, _percents)} of {share['n']}" for what, share in figures.items() if share]
        out.append(f"{name}: {', '.join(told)}")
    longest = ", ".join(f"{n:,}" for n in texts["longest"])
    out.append(f"longest texts: {longest} {texts['unit']} (median {texts['median']:,.0f})")
    if texts["n_cut"] is not None:
        most, of = texts["limit"], texts["n_counted"] - texts["n_unusable"] - texts["n_repeated"]
        out.append(
            f"longer than the {most:,} {texts['unit']} that the teacher reads, and cut: {texts['n_cut']:,} of {of:,}"
        )
    if texts["n_unusable"] or texts["n_repeated"]:
        out.append(f"{texts['n_unusable']:,} texts are unusable, {texts['n_repeated']:,} repeated (asked once)")
    return out + [f"note: {note}" for note in plan["notes"]]


def _range(estimate: dict | None, shown: Callable[[list[float]], tuple[list[str], str]]) -> str:
    """A value with its 95 % interval, in one unit."""
    if estimate is None:
        return "–"
    numbers = [estimate[end] for end in ("value", "low", "high") if end in estimate]
    (value, low, *high), unit = shown(numbers)
    if high == [low]:
        return f"{value}{unit}"
    return f"{value} ({low} to {high[0] if high else '?'}){unit}"


def _times(hours: list[float]) -> tuple[list[str], str]:
    units = ((24 * 365, " years"), (24, " days"), (1, " h"), (1 / 60, " min"), (1 / 3600, " s"))
    size, unit = next(((size, unit) for size, unit in units if hours[0] >= 2 * size), units[-1])
    return [f"{number / size:,.1f}" for number in hours], unit


def _counts(numbers: list[float]) -> tuple[list[str], str]:
    size, unit = next(((size, unit) for size, unit in ((1e9, " bn"), (1e6, " M")) if numbers[0] >= size), (1, ""))
    return [f"{number / size:,.2f}" if unit else f"{number:,.0f}" for number in numbers], unit


def _moneys(amounts: list[float]) -> tuple[list[str], str]:
    return [f"{amount:,.2f}" if amounts[0] >= 1 else f"{amount:#.2g}" for amount in amounts], ""


def _percents(parts: list[float]) -> tuple[list[str], str]:
    return [f"{part:.1%}" for part in parts], ""
