"""`hf-llambert run`: the whole way, from a task and texts to labels and a report."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.gold import gold_options, prior_of
from hf_llambert.cli.nearest import no_such_option, option_names, own_options
from hf_llambert.cli.options import (
    AskApart,
    Backend,
    Baseline,
    Config,
    Data,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    Ledger,
    MaxCost,
    MaxHours,
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
from hf_llambert.cli.plan import show_plan
from hf_llambert.cli.run_rows import NUM_ANNOTATED, Drawn, read_gold, read_rows
from hf_llambert.cli.run_stages import Caps, Way
from hf_llambert.cli.teachers import named_teachers
from hf_llambert.cli.train import configs_of, training_arguments
from hf_llambert.report.run_note import RUN_FILE, RunNote, now, read_run_note, stamp, written_at
from hf_llambert.shown import HIDDEN, is_secret, without_credentials

_CALIBRATIONS = ("none", "batch", "contextual")


def run(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Argument(
            help="A built-in task (imdb, umls-neuro, bbc-news) or a YAML file; hf-llambert init writes one.",
            autocompletion=task_names,
        ),
    ],
    data: Data,
    student: Annotated[str, typer.Option("--student", help="Hub id or directory of the encoder to start from.")],
    output: Output,
    teacher: Annotated[
        list[str] | None,
        typer.Option("--teacher", help="Hub id or directory of a language model, or a YAML file of a teacher."),
    ] = None,
    backend: Backend = "transformers",
    split: Split = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    label_values: Values = "auto",
    ask_apart: AskApart = False,
    num_annotated: Annotated[
        int | None,
        typer.Option(
            "--num_annotated",
            help=f"Rows that the teacher is to annotate. Default: {NUM_ANNOTATED:,}, or all where there are fewer.",
        ),
    ] = None,
    num_held_out: Annotated[
        int | None,
        typer.Option(
            "--num_held_out",
            help="Rows of --data with people's labels to measure the student on; no text of theirs is annotated.",
        ),
    ] = None,
    num_pool: Annotated[
        int | None,
        typer.Option(
            "--num_pool", help="Rows to label, none of them annotated or held out. Default: all of --data, those too."
        ),
    ] = None,
    eval_data: Annotated[
        str | None,
        typer.Option("--eval_data", help="Texts with people's labels, only to measure on. None of them is annotated."),
    ] = None,
    eval_split: Annotated[str | None, typer.Option("--eval_split", help="Split of --eval_data.")] = None,
    gold: Annotated[
        str | None, typer.Option("--gold", help="Texts with people's labels, to train on together with the teacher's.")
    ] = None,
    calibration: Annotated[
        str,
        typer.Option("--calibration", help="none, batch or contextual.", autocompletion=values(*_CALIBRATIONS)),
    ] = "batch",
    prior: Prior = None,
    ledger: Ledger = None,
    max_length: Annotated[int, typer.Option("--max_length", help="The student's longest input in tokens.")] = 256,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    prices: Prices = None,
    conditions: Annotated[
        Path | None,
        typer.Option("--conditions", help="YAML file of conditions that the run must meet (docs/gate.md)."),
    ] = None,
    baseline: Baseline = True,
    seed: Seed = 42,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to go on when the plan was shown.")] = False,
) -> None:
    """
    Annotate, train, label and report in one go: first a plan and a question, then a line for each stage.

    Interrupted, the same command goes on where it stopped. Exits with 1 where the run misses its --conditions; nothing is
    published. Takes every argument of the teacher's class as annotate does (--max_text_tokens, --mode, --base_url, ...) and
    of StudentConfig as train does (--num_train_epochs, --learning_rate, --mix, ...).
    """
    from hf_llambert import load_gate, load_task, tuned_texts
    from hf_llambert.annotation.turns import one_at_a_time
    from hf_llambert.models import content_id

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("hf-llambert run is one process. Launch annotate, train and label themselves instead.")
    if len(teacher or []) > 1:
        raise ValueError(
            "hf-llambert run asks one teacher. A jury of several: hf-llambert annotate --teacher A --teacher B."
        )
    spec = load_task(task)
    given = {name: value for name, value in context.params.items() if name not in ("yes", "context")}
    further = _without_secrets(context.args)
    named: dict[str, str | Path | None] = {"data": data, "student": student, "gold": gold, "eval_data": eval_data}
    named |= {"teacher": teacher[0] if teacher else None, "prices": prices, "conditions": conditions}
    wanted = RunNote(
        json.loads(json.dumps({**given, "task": spec.to_dict(), "further": further}, default=str)),
        {name: stamp(source) for name, source in named.items()},
        _command(),
    )
    there = read_run_note(output)
    if there is not None and there.is_finished(wanted, output):
        _say_finished(there, output)
        return
    agreed = there.agreed if there is not None and there.is_of(wanted) else None
    if agreed is None:
        _refuse_other(there, wanted, output)
        if not yes and not sys.stdin.isatty():
            raise ValueError(
                "hf-llambert run shows its plan and asks before it goes on, and here is no terminal to ask on. Pass --yes to go "
                "on without the question, or look at the plan alone: hf-llambert plan."
            )
    for_teacher, for_student = _divided(context, backend)
    training = training_arguments(
        for_student,
        output,
        seed,
        output_dir=str(output / "checkpoints" / "run"),
        save_strategy="epoch",
        save_total_limit=1,
        resume_from_checkpoint="True",
        disable_tqdm=not sys.stderr.isatty(),
    )
    configs = configs_of(config, data, gold, eval_data)
    form = {"encoding": encoding, "delimiter": delimiter}
    drawn = Drawn(
        data,
        split,
        spec.columns(text_column),
        label_column,
        gold_options(label_map, label_values, spec),
        {**form, "config": configs[0]},
        num_annotated,
        num_held_out,
        num_pool,
        eval_data,
        eval_split,
        configs[2],
        seed,
        tuned_texts(output, task),
    )
    if calibration not in _CALIBRATIONS:
        raise ValueError(f"hf-llambert run knows --calibration {', '.join(_CALIBRATIONS)}; got {calibration!r}.")
    believed = prior_of(prior, spec)
    from hf_llambert.annotation.priors import prior_shares

    prior_shares(spec, believed, calibration)
    if conditions is not None:  # what is wrong with it, or with the student's name, is said before anybody is asked
        load_gate(conditions)
    content_id(student)
    with _quiet():
        way = Way(
            spec,
            drawn,
            read_rows(drawn, spec),
            output,
            ledger or output / "ledger",
            lambda: named_teachers(teacher or [], backend, for_teacher, seed)[0][1],
            student,
            training,
            max_length,
            calibration,
            Caps(max_cost, max_hours),
            prices,
            conditions,
            None if gold is None else read_gold(drawn, gold, {**form, "config": configs[1]}, spec),
            ask_apart,
            believed,
            baseline,
        )
        with one_at_a_time(output / RUN_FILE):
            if agreed is not None:
                say(f"going on with the plan of {agreed}")
            else:
                if there is None:
                    wanted.write(output)  # so that status knows what to go on with
                _agree(way, yes)
                agreed = now()
            rows = {"annotated": len(way.rows.sample), "pool": way.rows.num_pool}
            note = wanted.changed(agreed=agreed, rows=rows)
            note.write(output)
            _go(way, note)


def _refuse_other(there: RunNote | None, wanted: RunNote, output: Path) -> None:
    """Raise where a run with other arguments is there, before anybody is asked in vain."""
    if there is not None and (changed := there.not_in(wanted, output)):
        names = ", ".join("further arguments" if name == "further" else f"--{name}" for name in changed)
        raise FileExistsError(
            f"'{output}' holds a run with other {names.replace('--task', 'TASK')}. Choose another --output, or type the command "
            f"as it was: {there.command or 'it is not kept, for a credential is in it'}. What was answered is kept: with "
            f"--ledger {there.asked.get('ledger') or output / 'ledger'} nothing is asked again in the same words."
        )


def _agree(way: Way, yes: bool) -> None:
    """Show the plan and, but for `--yes`, ask whether to go on."""
    say("planning: the teacher is asked about some texts first")
    show_plan(way.plan())
    if not yes and not typer.confirm("Go on?"):
        say("Nothing more is asked. What was answered is kept.")
        raise typer.Exit(1)


def _go(way: Way, note: RunNote) -> None:
    """Do what is not done yet, a line for each stage, and write down that all is."""
    from hf_llambert import show_gate, show_report

    for number, (name, stage) in enumerate(way.stages(), 1):
        line = f"{number}/4 {name:<8}  {stage()}"
        note.lines.append(line)
        say(line)
    gate = way.report.get("gate")
    passed = gate is None or bool(gate["passed"])
    note.changed(finished=now(), passed=passed, stages=written_at(way.output)).write(way.output)
    show_report(way.report, way.output)
    if gate is not None:
        show_gate(gate)
    if not passed:
        raise typer.Exit(1)


def _say_finished(note: RunNote, output: Path) -> None:
    say(f"'{output}' was finished on {note.finished}; nothing is left to do")
    for line in note.lines:
        say(line)
    if not note.passed:
        say("It missed its conditions: hf-llambert gate says which.", error=True)
        raise typer.Exit(1)


def _divided(context: typer.Context, backend: str) -> tuple[list[str], list[str]]:
    """
    The further arguments, those of the teacher and those of the training.

    Raises:
        ValueError: One is of neither; the message names the nearest, or the command that has it.
    """
    from hf_llambert import StudentConfig
    from hf_llambert.teachers.kinds import teacher_class

    of_class = [
        {one.name for one in dataclasses.fields(cls) if one.init} for cls in (teacher_class(backend), StudentConfig)
    ]
    parts: tuple[list[str], list[str]] = ([], [])
    part = None
    for word in context.args:
        for name in option_names([word]):
            plain = name.replace("-", "_")
            part = next((k for k in (0, 1) if {plain, plain.removeprefix("no_")} & of_class[k]), None)
            if part is None:
                raise ValueError(_unknown(context, name, of_class[0] | of_class[1]))
        if part is None:
            raise ValueError(f"Expected an option before '{word}': one task is taken, and everything else by name.")
        parts[part].append(word)
    return parts


def _unknown(context: typer.Context, name: str, known: set[str]) -> str:
    commands = getattr(context.parent.command, "commands", {}) if context.parent else {}
    having = [f"hf-llambert {other}" for other, one in commands.items() if name in own_options(one)]
    if having:
        return (
            f"hf-llambert run has no --{name}; {' and '.join(having)} has. The commands one by one (annotate, train, label, "
            f"report) go on in the folder of a run."
        )
    return no_such_option(name, [*own_options(context.command), *sorted(known)], "hf-llambert run --help")


@contextmanager
def _quiet() -> Iterator[None]:
    """One line a stage: no bars and notes of what others do in between."""
    import datasets
    from transformers.utils import logging

    level, shown, bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()


def _without_secrets(words: Sequence[str]) -> list[str]:
    """Words of a command line, what stands in for a credential hidden: it decides nothing, and is written nowhere."""
    out: list[str] = []
    for word in words:
        option, equals, _ = word.partition("=")
        if is_secret(option) and equals:
            out.append(f"{option}={HIDDEN}")
        elif out and out[-1].startswith("--") and "=" not in out[-1] and is_secret(out[-1]):
            out.append(HIDDEN)
        else:
            out.append(without_credentials(word))
    return out


def _command() -> str | None:
    """What was typed, to type it again; `None` where a credential is in it."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    return shlex.join(["hf-llambert", *words]) if words == _without_secrets(words) else None
