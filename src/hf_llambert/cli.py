"""`hf-llambert annotate | train | label | report | push`: one thin function each."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import StudentConfig, TaskSpec
    from hf_llambert.teachers.base import Teacher

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Label a big text corpus at the price of a small one: an LLM annotates a sample, a small encoder learns from it "
    "and labels the rest.",
)

Task = Annotated[str, typer.Option("--task", help="A built-in task (imdb, umls-neuro, bbc-news) or a YAML file.")]
Data = Annotated[
    str,
    typer.Option("--data", help="A .jsonl, .csv or .parquet file, a directory of them, a saved dataset or a Hub id."),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of a Hub or saved dataset.")]
TextColumn = Annotated[str, typer.Option("--text_column", help="Column of the texts.")]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label_column", help="Column of people's labels, to measure by. Default: 'label' if there is one."),
]
NumRows = Annotated[int | None, typer.Option("--num_rows", help="Take a random sample of so many rows.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sample and of the training.")]
Output = Annotated[Path, typer.Option("--output", help="Folder of the run.")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def annotate(
    context: typer.Context,
    task: Annotated[
        list[str],
        typer.Option("--task", help="A built-in task (imdb, umls-neuro, bbc-news) or a YAML file. Several: a jury."),
    ],
    data: Data,
    output: Output,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher", help="Hub id or directory of a language model, or a YAML file of a teacher. Several: a jury."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", help="Who runs the model: transformers, vllm, endpoint or recorded.")
    ] = "transformers",
    split: Split = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = None,
    num_rows: NumRows = None,
    seed: Seed = 42,
    calibration: Annotated[
        str, typer.Option("--calibration", help="none, batch, contextual, or fitted (needs gold).")
    ] = "batch",
    calibration_rows: Annotated[
        int, typer.Option("--calibration_rows", help="With fitted: rows whose gold labels it is fitted on.")
    ] = 0,
    jury: Annotated[
        str, typer.Option("--jury", help="How several teachers decide: majority, dawid_skene, mace or mean.")
    ] = "dawid_skene",
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="Folder of the replies; several runs may share it. Default: OUTPUT/ledger."),
    ] = None,
    write_batch: Annotated[
        Path | None,
        typer.Option("--write_batch", help="Ask nobody: write the request file for a batch API, and stop."),
    ] = None,
) -> None:
    """
    Ask a teacher about a sample and save its labels. Interrupted, it goes on where it stopped.

    Takes every argument of the teacher's class too. transformers: --mode score|generate, --dtype, --quantization, --adapter,
    --gguf_file, --max_text_tokens, --batch_tokens, --max_new_tokens, --temperature, ... endpoint: --base_url, --mode,
    --concurrency, --max_cost, ... vllm: --mode, --tensor_parallel_size, ... recorded: --path, --texts, ...
    All of them: docs/teachers.md.
    """
    from hf_llambert import LLMLabeler, load_data, load_task
    from hf_llambert import annotate as run

    tasks = [load_task(one) for one in task]
    dataset = load_data(data, split, num_rows, seed)
    if write_batch is not None:
        _write_batch(tasks, dataset, text_column, teacher or [], write_batch, context.args)
        return
    teachers = _teachers(teacher or [], backend, context.args, seed)
    place = ledger or output / "ledger"
    labelers = {
        _member_name([name] * (len(teachers) > 1) + [spec.name] * (len(tasks) > 1)): LLMLabeler(
            spec, asked, place, text_column
        )
        for name, asked in teachers
        for spec in tasks
    }
    if len(labelers) < len(teachers) * len(tasks):
        raise ValueError("Two members of the jury have one name. Name the tasks, or the teachers' YAML files, apart.")
    results = run(
        dataset,
        labelers if len(labelers) > 1 else next(iter(labelers.values())),
        output / "annotated",
        calibration=calibration,  # type: ignore[arg-type]  # checked there
        jury=jury,  # type: ignore[arg-type]
        gold_column=label_column or ("label" if "label" in dataset.column_names else None),
        calibration_rows=calibration_rows,
    )
    for name, found in {**results.get("members", {}), "": results}.items():
        _say(
            f"{name}{': ' if name else ''}{found['n_rows']:,} texts: {found['n_ok']:,} ok, {found['n_abstained']:,} "
            f"abstained, {found['n_failed']:,} failed. Labels: {_pairs(found['labels'])}"
        )
        if found.get("quality"):
            quality = found["quality"]
            _say(
                f"agreement with gold {quality['accuracy']:.1%} ({quality['accuracy_low']:.1%} to "
                f"{quality['accuracy_high']:.1%}), coverage {found['coverage']:.1%}"
            )
    _say(f"written to {output / 'annotated'}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    task: Task,
    student: Annotated[str, typer.Option("--student", help="Hub id or directory of the encoder to start from.")],
    output: Output,
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
    num_rows: NumRows = None,
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
) -> None:
    """
    Fine-tune a student on silver labels, gold labels or both.

    Takes every argument of StudentConfig too, that is those of transformers.TrainingArguments (--num_train_epochs 3
    --learning_rate 2e-5) and --mix, --silver_epochs, --gold_epochs, --gold_learning_rate, --loss, --soft_targets,
    --weight_by_confidence, --gold_weight, --class_balanced, --freeze_encoder, --lora_rank, --dev_share.
    """
    from hf_llambert import (
        load_data,
        load_task,
        saved_calibration,
        select_silver,
        train_seeds,
        train_student,
        with_gold,
    )

    if silver is None and gold is None:
        raise ValueError("Nothing to train on. Pass --silver, --gold or both.")
    if seeds < 1 or (seeds > 1 and eval_data is None):
        raise ValueError(f"Expected --seeds of 1 or more, and --eval_data to compare them on; got {seeds} seeds.")
    spec = load_task(task)
    column = label_column or "label"
    args = _training_arguments(context.args, output, seed)
    reading: dict = {
        "text_column": text_column,
        "max_length": max_length,
        "head_share": head_share,
        "revision": revision,
    }
    kwargs: dict = dict(reading)
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
        if label_error_folds:
            kwargs["silver"] = _without_label_errors(
                kwargs["silver"], kwargs["selection"], spec, student, output, args, label_error_folds, reading
            )
    if gold is not None:
        kwargs["gold"] = with_gold(load_data(gold, split, num_rows, seed), text_column, column, spec)
    if eval_data is not None:
        kwargs["eval_data"] = with_gold(load_data(eval_data, eval_split), text_column, column, spec)
        source = Path(eval_data).name if Path(eval_data).exists() else eval_data
        kwargs["eval_name"] = f"{source}, {eval_split}" if eval_split else source
    if seeds > 1:
        summary = train_seeds(spec, student, output, args, seeds, **kwargs)
        for name, found in (("accuracy", summary["accuracy"]), ("macro-F1", summary["macro_f1"])):
            _say(
                f"{name} over {seeds} seeds: {found['mean']:.1%}, 95 % interval {found['low']:.1%} to {found['high']:.1%}"
            )
    results = train_student(spec, student, output / "student", args, **kwargs)
    _say(f"trained on {results['train']['n']:,} labels in {results['train']['seconds']:.0f} s")
    if "eval" in results:
        quality = results["eval"]
        _say(
            f"accuracy {quality['accuracy']:.1%} ({quality['accuracy_low']:.1%} to {quality['accuracy_high']:.1%}), "
            f"macro-F1 {quality['macro_f1']:.3f} on {quality['n']:,} held-out texts"
        )
    _say(f"written to {output / 'student'}")


@app.command()
def label(
    data: Data,
    student: Annotated[str, typer.Option("--student", help="Directory or Hub id of a trained student.")],
    output: Output,
    split: Split = None,
    text_column: TextColumn = "text",
    num_rows: NumRows = None,
    seed: Seed = 42,
    batch_tokens: Annotated[int, typer.Option("--batch_tokens", help="Padded tokens in one forward pass.")] = 4096,
    rows_per_shard: Annotated[int, typer.Option("--rows_per_shard", help="Rows in each Parquet file.")] = 10_000,
) -> None:
    """Label a whole corpus with a student, as Parquet beside the input's columns."""
    from hf_llambert import StudentLabeler, label_pool, load_data

    if (Path(student) / "student").is_dir():  # the folder of a run
        student = str(Path(student) / "student")
    labeler = StudentLabeler(student, text_column, batch_tokens=batch_tokens)
    results = label_pool(load_data(data, split, num_rows, seed), labeler, output / "labels", rows_per_shard)
    _say(
        f"{results['n_labelled']:,} texts labelled, {results['n_unusable']:,} unusable, "
        f"{results['texts_per_second']:,.1f} texts/s"
    )
    _say(f"written to {output / 'labels'}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Another run measured on the same --eval_data: paired bootstrap of the students."
        ),
    ] = None,
) -> None:
    """Write and show the report of a run: report.md, report.json and figures."""
    from hf_llambert import compare_labels, show_report, write_report

    compare_labels(run)
    found = write_report(run, against=against)
    show_report(found, run)
    if against is not None:
        found = found["against"]
        _say(
            f"accuracy of this run's student less that of {against}: {found['difference']:+.1%}, 95 % interval "
            f"{found['low']:+.1%} to {found['high']:+.1%} (paired bootstrap; {found['runs']} pair(s) of students, "
            f"{found['n']:,} texts)"
        )


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[str, typer.Option("--to", help="Name on the Hub of dataset and student, such as our-team/reviews.")],
    license: Annotated[
        str, typer.Option("--license", help="Licence as the Hub names it: apache-2.0, cc-by-4.0, other, ...")
    ] = "",
    language: Annotated[
        list[str] | None, typer.Option("--language", help="Language of the texts, such as en. May be repeated.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base_model", help="Hub id of the encoder, when a local copy was trained.")
    ] = None,
    source_dataset: Annotated[
        list[str] | None, typer.Option("--source_dataset", help="Hub id of a dataset that the texts are from.")
    ] = None,
    public: Annotated[bool, typer.Option("--public/--private", help="Let everybody see it.")] = False,
    gold: Annotated[bool, typer.Option("--gold", help="Publish people's labels too.")] = False,
    space: Annotated[bool, typer.Option("--space", help="Publish a demo of the student too.")] = False,
    create_pr: Annotated[
        bool, typer.Option("--create_pr", help="Open pull requests on repositories that exist.")
    ] = False,
) -> None:
    """
    Publish a run on the Hub: the dataset, the student, their cards. Interrupted, the same command goes on.

    The token is that of hf auth login, or HF_TOKEN.
    """
    from hf_llambert import Publication, push_run

    publication = Publication(to, license, tuple(language or ()), base_model, tuple(source_dataset or ()))
    published = push_run(run, publication, public=public, gold=gold, space=space, create_pr=create_pr)
    for kind, address in published.items():
        _say(f"{kind}: {address}")


ledger_app = typer.Typer(
    no_args_is_help=True, help="Look into a ledger of replies, take them out, make one file of many."
)
app.add_typer(ledger_app, name="ledger")
LedgerFolder = Annotated[Path, typer.Argument(help="Folder of the ledger, such as runs/mine/ledger.")]


@ledger_app.command()
def stats(
    folder: LedgerFolder,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Who was asked, how often, and what it took."""
    from hf_llambert import ledger_stats

    found = ledger_stats(folder)
    if as_json:
        _say(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _say(
        f"{found['replies']:,} replies in {found['files']:,} file(s) of {found['bytes'] / 2**20:,.1f} MB, "
        f"{found['failures']:,} failures; {found['first']} to {found['last']}"
    )
    _say(f"{found['input_tokens']:,} tokens in, {found['output_tokens']:,} out, {found['seconds']:,.0f} s of asking")
    for asked in found["asked"]:
        who = asked["identity"] or {"teacher": "unknown: asked by an older version"}
        _say(f"{asked['replies']:>10,}  {_pairs({name: value for name, value in who.items() if value is not None})}")


@ledger_app.command()
def export(
    folder: LedgerFolder,
    to: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")],
) -> None:
    """Write every reply to one file."""
    from hf_llambert import export_ledger

    _say(f"{export_ledger(folder, to):,} replies written to {to}")


@ledger_app.command()
def compact(
    folder: LedgerFolder,
    all_hosts: Annotated[
        bool, typer.Option("--all_hosts", help="Take other machines' files too. No process there may be running.")
    ] = False,
) -> None:
    """Make one file of those that ended processes left."""
    from hf_llambert import compact_ledger

    found = compact_ledger(folder, all_hosts)
    _say(f"{found['merged']:,} files made one, {found['replies']:,} replies; {found['left']:,} files left as they are")


def main() -> None:
    """Run the command line. An error that the user can mend is one sentence; --debug in front shows where it arose."""
    debug = "--debug" in sys.argv[1:2]
    if debug:
        sys.argv.pop(1)
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        _say(f"Error: {error}", error=True)
        sys.exit(1)
    except KeyboardInterrupt:
        _say("Stopped. What was answered is kept: the same command goes on from here.", error=True)
        sys.exit(130)


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
    _say(f"{count['n']:,} silver rows are left without {count['rule'].removeprefix('no ')}s")
    return silver


def _teachers(given: list[str], backend: str, arguments: list[str], seed: int) -> list[tuple[str, Teacher]]:
    """The teachers that were named, the arguments being for those that are no YAML files."""
    from hf_llambert.teachers.kinds import load_teacher

    files = [name for name in given if Path(name).suffix in (".yaml", ".yml")]
    if arguments and given and len(files) == len(given):
        raise ValueError(f"The arguments {arguments} belong to no teacher. Put them into {', '.join(files)}.")
    return [
        (Path(name).stem, load_teacher(name))
        if name in files
        else (
            Path(name).name,
            _teacher_from_arguments(backend, [*arguments, *(("--model", name) if name else ())], seed),
        )
        for name in given or [""]  # some kinds need no model's name
    ]


def _teacher_from_arguments(backend: str, arguments: list[str], seed: int) -> Teacher:
    from transformers import HfArgumentParser

    from hf_llambert.teachers.kinds import teacher_class

    cls = teacher_class(backend)
    parser = HfArgumentParser(cls, allow_abbrev=False)  # type: ignore[arg-type]
    parser.error = _refuse  # type: ignore[method-assign]  # one sentence, not a page of usage
    if "seed" in cls.__dataclass_fields__:  # type: ignore[attr-defined]
        parser.set_defaults(seed=seed)
    made, rest = parser.parse_args_into_dataclasses(args=arguments, return_remaining_strings=True)
    if rest:
        raise ValueError(f"Unknown arguments {rest} of a teacher of the kind {backend}. See docs/teachers.md.")
    return made


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message[0].upper()}{message[1:]}. See docs/teachers.md.")


def _write_batch(
    tasks: list[TaskSpec], data: Dataset, text_column: str, teachers: list[str], path: Path, arguments: list[str]
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
    given, rest = parser.parse_known_args(arguments)
    if rest:
        raise ValueError(f"--write_batch takes --max_new_tokens, --top_logprobs and --structured, not {rest}.")
    written = write_batch(
        tasks[0],
        data[text_column],
        path,
        teachers[0],
        max_tokens=given.max_new_tokens,
        top_logprobs=given.top_logprobs,
        structured=given.structured,
    )
    _say(
        f"{written.requests:,} requests in {len(written.files)} file(s), {written.prompt_characters:,} characters; "
        f"{written.duplicates:,} repeated texts are asked once, {sum(written.left_out.values()):,} unusable ones not at all"
    )
    for file in written.files:
        _say(f"written to {file}")


def _member_name(parts: list[str]) -> str:
    """How a member's columns begin: by what tells it from the others."""
    name = re.sub(r"\W+", "_", "_".join(parts)).strip("_").lower()
    return name if name.isidentifier() and name != "llm" else f"by_{name}"


def _training_arguments(arguments: list[str], output: Path, seed: int) -> StudentConfig:
    from transformers import HfArgumentParser

    from hf_llambert import StudentConfig

    parser = HfArgumentParser(StudentConfig, allow_abbrev=False)  # type: ignore[arg-type]
    parser.set_defaults(output_dir=str(output / "checkpoints"), seed=seed)
    parsed, rest = parser.parse_args_into_dataclasses(args=arguments, return_remaining_strings=True)
    if rest:
        raise ValueError(
            f"Unknown arguments {rest}. See hf-llambert train --help, StudentConfig and transformers.TrainingArguments."
        )
    return parsed


def _pairs(counts: dict) -> str:
    return json.dumps(counts, ensure_ascii=False)[1:-1].replace('"', "")


def _say(text: str, error: bool = False) -> None:
    typer.echo(text, err=error)


if __name__ == "__main__":
    main()
