"""`hf-llambert annotate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.gold import gold_column, gold_options, load_sample, prior_of
from hf_llambert.cli.lines import answer_lines, unanswered
from hf_llambert.cli.options import (
    AskApart,
    Backend,
    Config,
    Data,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    Ledger,
    MaxCost,
    MaxHours,
    NumRows,
    Output,
    Prices,
    Prior,
    Seed,
    Split,
    TextColumn,
    Values,
    say,
    task_names,
    values,
)
from hf_llambert.cli.teachers import limits_of, named_teachers, prices_of, refuse_unknown_of_teacher
from hf_llambert.tasks.texts import row_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import TaskSpec


def annotate(
    context: typer.Context,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            help="A built-in task (imdb, umls-neuro, bbc-news) or a YAML file. Several: a jury.",
            autocompletion=task_names,
        ),
    ],
    data: Data,
    output: Output,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher", help="Hub id or directory of a language model, or a YAML file of a teacher. Several: a jury."
        ),
    ] = None,
    backend: Backend = "transformers",
    split: Split = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    label_values: Values = "auto",
    ask_apart: AskApart = False,
    num_rows: NumRows = None,
    seed: Seed = 42,
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            help="none, batch, contextual, or fitted (needs gold).",
            autocompletion=values("none", "batch", "contextual", "fitted"),
        ),
    ] = "batch",
    calibration_rows: Annotated[
        int, typer.Option("--calibration_rows", help="With fitted: rows whose gold labels it is fitted on.")
    ] = 0,
    prior: Prior = None,
    jury: Annotated[
        str,
        typer.Option(
            "--jury",
            help="How several teachers decide: majority, dawid_skene, mace or mean.",
            autocompletion=values("majority", "dawid_skene", "mace", "mean"),
        ),
    ] = "dawid_skene",
    ledger: Ledger = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    prices: Prices = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
    write_batch: Annotated[
        Path | None,
        typer.Option("--write_batch", help="Ask nobody: write the request file for a batch API, and stop."),
    ] = None,
) -> None:
    """
    Ask a teacher about a sample and save its labels. Interrupted, it goes on where it stopped.

    Takes every argument of the teacher's class too. transformers: --mode score|generate, --dtype, --quantization, --adapter,
    --gguf_file, --max_text_tokens, --batch_tokens, --max_new_tokens, --temperature, ... endpoint: --base_url, --mode,
    --concurrency, --max_requests, ... batch: --service openai|anthropic|mistral|gemini|openai-compatible, ... vllm: --mode,
    --tensor_parallel_size, ... recorded: --path, --texts, ...
    All of them: docs/teachers.md.
    """
    from hf_llambert import LLMLabeler, load_prices, load_task, tuned_texts
    from hf_llambert import annotate as run

    tasks = [load_task(one) for one in task]
    if write_batch is None:
        refuse_unknown_of_teacher(context, backend)
    shown = tasks[0].columns(text_column)
    form = {"encoding": encoding, "delimiter": delimiter, "config": config, "text_column": shown}
    reading = gold_options(label_map, label_values, tasks[0])
    measured = tasks[0] if write_batch is None else None  # which looks at no gold
    dataset, reading = load_sample(data, split, num_rows, seed, measured, label_column, reading, **form)
    if write_batch is not None:
        _write_batch(tasks, dataset, shown, teacher or [], write_batch, context.args)
        return
    teachers = named_teachers(teacher or [], backend, context.args, seed)
    place = ledger or output / "ledger"
    labelers = {
        _member_name([name] * (len(teachers) > 1) + [spec.name] * (len(tasks) > 1)): LLMLabeler(
            spec, asked, place, text_column, ask_apart=ask_apart
        )
        for name, asked in teachers
        for spec in tasks
    }
    if len(labelers) < len(teachers) * len(tasks):
        raise ValueError("Two members of the jury have one name. Name the tasks, or the teachers' YAML files, apart.")
    paid = prices_of(labelers, None if prices is None else load_prices(prices))
    limits = limits_of(labelers, dataset, max_cost, max_hours, paid)
    results = run(
        dataset,
        labelers if len(labelers) > 1 else next(iter(labelers.values())),
        output / "annotated",
        calibration=calibration,  # type: ignore[arg-type]  # checked there
        jury=jury,  # type: ignore[arg-type]
        gold_column=gold_column(label_column, dataset.column_names, tasks[0]),
        **reading,
        calibration_rows=calibration_rows,
        prior=prior_of(prior, tasks[0]),
        limits=limits,
        unmeasured=tuned_texts(output, *task),
    )
    for name, found in {**results.get("members", {}), "": results}.items():
        for line in answer_lines(found, tasks[0], name):
            say(line)
    if paid is not None:
        each = results.get("members") or dict.fromkeys(paid, results)
        cost = sum(
            price.cost(each[name]["seconds"], each[name]["input_tokens"], each[name]["output_tokens"])
            for name, price in paid.items()
        )
        say(f"cost of these replies: {cost:,.4g} {next(iter(paid.values())).currency}")
    say(f"written to {output / 'annotated'}")
    if missed := unanswered(results):
        say(missed, error=True)
        raise typer.Exit(1)


def _write_batch(
    tasks: list[TaskSpec],
    data: Dataset,
    text_column: str | Sequence[str],
    teachers: list[str],
    path: Path,
    arguments: list[str],
) -> None:
    import argparse

    from hf_llambert import check_column, write_batch

    if len(tasks) != 1 or len(teachers) != 1:
        raise ValueError("--write_batch takes one --task and one --teacher, the model's name at the batch service.")
    check_column(data, text_column, "text_column")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--max_new_tokens", type=int, default=10)
    parser.add_argument("--top_logprobs", type=int, default=0)
    parser.add_argument("--structured", action="store_true")
    parser.add_argument("--service", default="openai")
    given, rest = parser.parse_known_args(arguments)
    if rest:
        raise ValueError(
            f"--write_batch takes --service, --max_new_tokens, --top_logprobs and --structured, not {rest}."
        )
    written = write_batch(
        tasks[0],
        row_texts(data, text_column),
        path,
        teachers[0],
        max_tokens=given.max_new_tokens,
        top_logprobs=given.top_logprobs,
        structured=given.structured,
        service=given.service,
    )
    say(
        f"{written.requests:,} requests in {len(written.files)} file(s), {written.prompt_characters:,} characters; "
        f"{written.duplicates:,} repeated texts are asked once, {sum(written.left_out.values()):,} unusable ones not at all"
    )
    for file in written.files:
        say(f"written to {file}")


def _member_name(parts: list[str]) -> str:
    """How a member's columns begin: by what tells it from the others."""
    name = re.sub(r"\W+", "_", "_".join(parts)).strip("_").lower()
    return name if name.isidentifier() and name not in ("llm", "student") else f"by_{name}"
