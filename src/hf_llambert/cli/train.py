"""`hf-llambert train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hf_llambert.cli.gold import gold_options, label_columns, load_sample, needed_gold
from hf_llambert.cli.kept import untuned
from hf_llambert.cli.lines import curve_lines, quality_lines, seed_lines
from hf_llambert.cli.nearest import refuse_unknown
from hf_llambert.cli.options import (
    Baseline,
    Config,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    NumRows,
    Output,
    Seed,
    Task,
    TextColumn,
    Values,
    is_stated,
    say,
    values,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import StudentConfig, TaskSpec

_ENCODER, _FAST = "encoder", ("linear", "static")
_OF_ENCODERS = ("max_length", "head_share", "label_error_folds", "seeds", "curve", "baseline")
_OF_LINEAR = (
    *("soft_targets", "target_temperature", "weight_by_confidence", "gold_weight", "class_balanced"),
    *("label_smoothing_factor", "loss", "scale_loss", "threshold_share", "dev_share"),
    *("use_cpu", "disable_tqdm", "report_to"),  # which change nothing
)
"""Arguments of StudentConfig that a linear student takes; see [`train_fast`]."""


def train(
    context: typer.Context,
    task: Task,
    output: Output,
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            help="Hub id or directory of the encoder to start from; for --kind static also of a static model.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="encoder; or one that labels hundreds of times as fast: linear (words; no --student), static (token vectors).",
            autocompletion=values("encoder", *_FAST),
        ),
    ] = "encoder",
    silver: Annotated[str | None, typer.Option("--silver", help="Annotated dataset: a run's folder.")] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            "--gold", help="Texts with people's labels, to train on: instead of silver, or together with it."
        ),
    ] = None,
    eval_data: Annotated[
        str | None,
        typer.Option("--eval_data", help="Texts with people's labels, only to measure on."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of --gold.")] = None,
    eval_split: Annotated[str | None, typer.Option("--eval_split", help="Split of --eval_data.")] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    label_values: Values = "auto",
    num_rows: NumRows = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of the student on the Hub.")] = None,
    max_length: Annotated[int, typer.Option("--max_length", help="Longest input in tokens.")] = 256,
    head_share: Annotated[
        float, typer.Option("--head_share", help="Share of a cut text that is taken from its beginning.")
    ] = 0.5,
    min_confidence: Annotated[
        float, typer.Option("--min_confidence", help="Least confidence of the teacher in a silver row.")
    ] = 0.0,
    keep_share: Annotated[
        float, typer.Option("--keep_share", help="Keep this share of the silver rows of each label, the surest.")
    ] = 1.0,
    balance: Annotated[bool, typer.Option("--balance", help="Keep as many silver rows of each label.")] = False,
    agree_with: Annotated[
        list[str] | None,
        typer.Option("--agree_with", help="The same rows annotated by another teacher: keep where they agree."),
    ] = None,
    min_agreement: Annotated[
        float, typer.Option("--min_agreement", help="Least share of all teachers that gave the label.")
    ] = 1.0,
    label_error_folds: Annotated[
        int,
        typer.Option("--label_error_folds", help="Drop likely label errors, found by cleanlab with so many folds."),
    ] = 0,
    seed: Seed = 42,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Train with so many seeds; mean and 95 % interval on --eval_data.")
    ] = 1,
    curve: Annotated[
        bool, typer.Option("--curve", help="Train on parts of the labels too, to say what more labels would be worth.")
    ] = False,
    baseline: Baseline = True,
) -> None:
    """
    Train a student on silver labels, gold labels or both: fine-tune an encoder, or fit a fast one (--kind).

    Takes every argument of StudentConfig too, that is those of transformers.TrainingArguments (--num_train_epochs 3
    --learning_rate 2e-5) and --mix, --silver_epochs, --gold_epochs, --gold_learning_rate, --loss, --soft_targets,
    --weight_by_confidence, --gold_weight, --class_balanced, --freeze_encoder, --lora_rank, --attention_dropout, --dev_share. A
    linear student takes those that say what is learnt.
    """
    from hf_llambert import (
        StudentConfig,
        load_data,
        load_task,
        saved_calibration,
        select_silver,
        train_seeds,
        train_student,
        tuned_texts,
        with_gold,
        worth_lines,
    )

    if silver is None and gold is None:
        raise ValueError("Nothing to train on. Pass --silver, --gold or both.")
    if seeds < 1 or (seeds > 1 and eval_data is None):
        raise ValueError(f"Expected --seeds of 1 or more, and --eval_data to compare them on; got {seeds} seeds.")
    spec = load_task(task)
    shown = spec.columns(text_column)
    reading_gold = gold_options(label_map, label_values, spec)
    refuse_unknown(context, lambda: [StudentConfig], "hf-llambert train --help and transformers.TrainingArguments")
    args = _arguments_of(context, kind, student, output, seed)
    reading: dict = {
        "text_column": shown,
        "max_length": max_length,
        "head_share": head_share,
        "revision": revision,
    }
    form: dict = {"encoding": encoding, "delimiter": delimiter, "text_column": shown}
    configs = configs_of(config, gold, eval_data)
    kwargs: dict = {**reading, "baseline": baseline}
    if silver is not None:
        kwargs["silver"], kwargs["selection"] = select_silver(
            load_data(silver),
            spec,
            calibration=saved_calibration(silver),
            others=[load_data(other) for other in agree_with or []],
            min_agreement=min_agreement,
            min_confidence=min_confidence,
            keep_share=keep_share,
            balance=balance,
        )
        if label_error_folds and student is not None:
            kwargs["silver"] = _without_label_errors(
                kwargs["silver"], kwargs["selection"], spec, student, output, args, label_error_folds, reading
            )
    if gold is not None:
        named = label_column if spec.questions else label_column or "label"
        rows, reading_rows = load_sample(
            gold, split, num_rows, seed, spec, named, reading_gold, config=configs[0], **form
        )
        column = needed_gold(label_column, rows.column_names, spec, "--gold")
        kwargs["gold"] = with_gold(rows, shown, column, spec, **reading_rows)
    if eval_data is not None:
        written = label_columns(label_column, spec)
        rows = load_data(eval_data, eval_split, label_columns=written, config=configs[1], **form)
        rows = untuned(rows, shown, tuned_texts(output, task, silver), "--eval_data")
        column = needed_gold(label_column, rows.column_names, spec, "--eval_data")
        kwargs["eval_data"] = with_gold(rows, shown, column, spec, **reading_gold)
        source = Path(eval_data).name if Path(eval_data).exists() else eval_data
        kwargs["eval_name"] = f"{source}, {eval_split}" if eval_split else source
    if kind != _ENCODER or student is None:
        _train_fast(spec, kind, student, revision, output, args, kwargs)
        return
    if curve:
        _train_curve(spec, student, output, args, kwargs)
    if seeds > 1:
        summary = train_seeds(spec, student, output, args, seeds, **kwargs)
        for line in seed_lines(summary, spec):
            say(line)
    results = train_student(spec, student, output / "student", args, **kwargs)
    _say_results(results, spec)
    for line in worth_lines(results, spec, output) if "eval" in results else ():
        say(line)
    say(f"written to {output / 'student'}")


def _say_results(results: dict, spec: TaskSpec) -> None:
    say(f"trained on {results['train']['n']:,} labels in {results['train']['seconds']:.0f} s")
    for line in quality_lines(results["eval"], spec) if "eval" in results else ():
        say(line)


def _arguments_of(context: typer.Context, kind: str, student: str | None, output: Path, seed: int) -> StudentConfig:
    """The training arguments for a kind of student; what does not go with it is refused."""
    if kind not in (_ENCODER, *_FAST):
        raise ValueError(f"--kind must be {_ENCODER}, {' or '.join(_FAST)}; got {kind!r}.")
    if kind == _ENCODER:
        if student is None:
            raise ValueError("--student is missing: an encoder to start from. Without one: --kind linear.")
        return training_arguments(context.args, output, seed)
    linear = kind == "linear"
    if linear and student is not None:
        raise ValueError(
            f"A linear student starts from nothing. Leave --student {student} out, or pass --kind static."
        )
    if not linear and student is None:
        raise ValueError(
            "--student is missing: an encoder, or a static model, whose token vectors a static student takes."
        )
    options = [name for name in (*_OF_ENCODERS, *(("revision",) if linear else ())) if is_stated(context, name)]
    words = [word.partition("=")[0].removeprefix("--") for word in context.args if word.startswith("--")]
    options += [word for word in words if linear and word not in _OF_LINEAR]
    if options:
        raise ValueError(
            f"A {kind} student has no use for --{', --'.join(options)}. Leave that out, or train an encoder."
        )
    from hf_llambert import STATIC_DEFAULTS

    return training_arguments(context.args, output, seed, **({} if linear else STATIC_DEFAULTS))


def _train_fast(
    spec: TaskSpec,
    kind: str,
    student: str | None,
    revision: str | None,
    output: Path,
    args: StudentConfig,
    kwargs: dict,
) -> None:
    from hf_llambert import TokenVectors, train_fast

    shared = {name: value for name, value in kwargs.items() if name not in _OF_ENCODERS and name != "revision"}
    vectors = None if student is None else TokenVectors.load(student, revision, keep=output)
    results = train_fast(spec, kind, output / "student", args, **shared, vectors=vectors)  # type: ignore[arg-type]
    _say_results(results, spec)
    say(f"written to {output / 'student'}")


def configs_of(config: str | None, *sources: str | None) -> list[str | None]:
    """The configuration for each of the datasets that are on the Hub."""
    away = [source is not None and not Path(source).exists() for source in sources]
    if config is not None and not any(away):
        raise ValueError(
            f"--config '{config}' names a configuration of a dataset on the Hub, and no data is from there."
        )
    return [config if there else None for there in away]


def _train_curve(spec: TaskSpec, student: str, output: Path, args: StudentConfig, kwargs: dict) -> None:
    from hf_llambert import learning_curve

    if "eval_data" not in kwargs:
        raise ValueError("--curve needs --eval_data, texts with people's labels to measure its students on.")
    shared = {name: value for name, value in kwargs.items() if name not in ("eval_name", "selection", "eval_data")}
    part = shared.pop("silver") if "silver" in shared else shared.pop("gold")
    found = learning_curve(spec, student, output, args, part, kwargs["eval_data"], **shared)
    for line in curve_lines(found, spec):
        say(line)


def _without_label_errors(
    silver: Dataset,
    selection: list[dict],
    task: TaskSpec,
    student: str,
    output: Path,
    args: StudentConfig,
    folds: int,
    reading: dict,
) -> Dataset:
    from hf_llambert import drop_label_errors, out_of_fold

    probabilities = out_of_fold(silver, task, student, output / "folds", args, folds, **reading)
    silver, count = drop_label_errors(silver, task, probabilities)
    selection.append(count)
    say(f"{count['n']:,} silver rows are left without {count['rule'].removeprefix('no ')}s")
    return silver


def training_arguments(arguments: list[str], output: Path, seed: int, **defaults: object) -> StudentConfig:
    """`StudentConfig` from the words of a command line, with other defaults where they are stated."""
    from transformers import HfArgumentParser

    from hf_llambert import StudentConfig

    parser = HfArgumentParser(StudentConfig, allow_abbrev=False)  # type: ignore[arg-type]
    parser.error = _refuse  # type: ignore[method-assign]  # one sentence, not a page of usage
    parser.set_defaults(**{"output_dir": str(output / "checkpoints"), "seed": seed, **defaults})
    parsed, rest = parser.parse_args_into_dataclasses(args=arguments, return_remaining_strings=True)
    if rest:
        raise ValueError(
            f"Unknown arguments {rest}. See hf-llambert train --help, StudentConfig and transformers.TrainingArguments."
        )
    return parsed


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message[0].upper()}{message[1:]}. See hf-llambert train --help.")
