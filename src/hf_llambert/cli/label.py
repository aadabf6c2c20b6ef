"""`hf-llambert label`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.cascade import (
    AskBelow,
    LedgerFolder,
    MaxAsked,
    TeacherBackend,
    TeacherName,
    ask_teacher,
    plan_asking,
)
from hf_llambert.cli.first import EncoderAgreement, EncoderBelow, First, check_first, students_said, with_first
from hf_llambert.cli.gold import gold_options, label_columns, load_sample
from hf_llambert.cli.options import (
    Config,
    Delimiter,
    Encoding,
    LabelColumn,
    LabelMap,
    NumRows,
    Output,
    Seed,
    Split,
    TextColumn,
    Values,
    refuse_gated,
    say,
    task_names,
    values,
)
from hf_llambert.cli.promise import AgainstWhom, Gold, GuaranteeOf, GuaranteeRows, GuaranteeTarget
from hf_llambert.cli.teachers import refuse_unknown_of_teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import Labeler


def label(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="A .parquet, .jsonl, .csv or .arrow file or a directory of them, which is read piece by piece; a saved "
            "dataset or a Hub id.",
        ),
    ],
    student: Annotated[
        str, typer.Option("--student", help="Directory or Hub id of a trained student, or a run's folder.")
    ],
    output: Output,
    split: Split = None,
    text_column: TextColumn = "text",
    num_rows: NumRows = None,
    seed: Seed = 42,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="Refuse a student that has other labels than this task.", autocompletion=task_names
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a student on the Hub.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Column of the input to write; may be repeated. Default: all.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            help="torch, openvino or onnx; auto: openvino on a CPU where it is installed.",
            autocompletion=values("auto", "torch", "openvino", "onnx"),
        ),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="float32, bfloat16, float16 or int8; auto: float32 on a CPU, half on a GPU.",
            autocompletion=values("auto", "float32", "bfloat16", "float16", "int8"),
        ),
    ] = "auto",
    attention: Annotated[
        str | None, typer.Option("--attention", help="Such as flash_attention_2, which computes no padding.")
    ] = None,
    long_texts: Annotated[
        str,
        typer.Option(
            "--long_texts",
            help="truncate; or read long texts in parts: mean or max of their scores.",
            autocompletion=values("truncate", "mean", "max"),
        ),
    ] = "truncate",
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch_tokens", help="Padded tokens in one forward pass. Default: 1,024; GPU 65,536."),
    ] = None,
    rows_per_shard: Annotated[int, typer.Option("--rows_per_shard", help="Rows in each Parquet file.")] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace labels of another student or pool.")] = False,
    process: Annotated[
        str | None,
        typer.Option("--process", help="Such as 3/8: the share of process 3 (from 0) of 8, started by itself."),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option("--push_to_hub", help="Dataset on the Hub to upload each shard to, as it is finished."),
    ] = None,
    public: Annotated[bool, typer.Option("--public/--private", help="Let everybody see it.")] = False,
    first: First = None,
    encoder_below: EncoderBelow = None,
    encoder_agreement: EncoderAgreement = None,
    ask_teacher_below: AskBelow = None,
    guarantee: GuaranteeTarget = None,
    against: AgainstWhom = None,
    guarantee_of: GuaranteeOf = None,
    guarantee_rows: GuaranteeRows = None,
    gold: Gold = None,
    max_asked: MaxAsked = None,
    teacher: TeacherName = None,
    teacher_backend: TeacherBackend = "transformers",
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    label_values: Values = "auto",
    ledger: LedgerFolder = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = ",",
    config: Config = None,
) -> None:
    """
    Label a whole corpus with a student, as Parquet beside the input's columns.

    Interrupted, the same command goes on where it stopped; under accelerate launch each process takes its share. With --first
    a fast student labels what it is sure of, and --student the rest. With --ask_teacher_below or --guarantee a teacher is
    asked about what the student is unsure of; the teacher's own arguments are those of annotate.
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from hf_llambert import ShardUploads, StudentLabeler, label_pool, load_task

    refuse_unknown_of_teacher(context, teacher_backend)
    check_first(first, encoder_below, encoder_agreement)
    spec = load_task(task) if task else None
    asking = plan_asking(
        output,
        task=task,
        below=ask_teacher_below,
        target=guarantee,
        against=against,
        rows=guarantee_rows,
        of=guarantee_of,
        gold=gold,
        max_asked=max_asked,
        teacher=teacher,
        backend=teacher_backend,
        arguments=context.args,
        seed=seed,
        label_column=label_column,
        reading_gold=gold_options(label_map, label_values, spec),
        ledger=ledger,
        encoding=encoding,
        delimiter=delimiter,
    )
    form: dict = {"encoding": encoding, "delimiter": delimiter, "config": config}
    if push_to_hub:
        refuse_gated(output, Path(student), Path(student).parent)
    if (Path(student) / "student").is_dir():  # the folder of a run
        student = str(Path(student) / "student")
    encoder = StudentLabeler(
        student,
        text_column,
        revision,
        batch_tokens,
        backend=_backend(backend, student, revision),  # type: ignore[arg-type]  # checked there
        dtype=dtype,
        attention=attention,
        long_texts=long_texts,  # type: ignore[arg-type]
    )
    pool: str | Dataset = data
    if num_rows is not None:
        of, given = (None, {}) if asking is None else (asking.task, asking.reading_pool)
        drawn = {**form, "text_column": encoder.text_column}
        pool, reading = load_sample(data, split, num_rows, seed, of, label_column, given, **drawn)
        asking = None if asking is None else replace(asking, reading_pool=reading)
    elif spec is not None:  # gold may be used, now or by a later call that asks a teacher: it is one pool to both
        form["label_columns"] = label_columns(label_column, spec)
    read = form if num_rows is None else {}
    labeler: Labeler = encoder
    if first is not None:
        if spec is not None:
            encoder.check_task(spec)
        limits = (encoder_below, encoder_agreement)
        labeler = with_first(encoder, first, text_column, *limits, pool, output, seed, split, read)
    with ExitStack() as stack:
        uploads = stack.enter_context(ShardUploads(push_to_hub, public)) if push_to_hub else None
        results = label_pool(
            pool,
            labeler,
            output / "labels",
            rows_per_shard,
            split=split,
            keep=keep or None,
            task=spec,
            overwrite=overwrite,
            process=_process(process),
            on_shard=uploads,
            **read,
        )
    speed = f", {results['texts_per_second']:,.1f} texts/s" if results["texts_per_second"] else ""
    say(f"{results['n_labelled']:,} texts labelled, {results['n_unusable']:,} unusable{speed}")
    for line in students_said(results):
        say(line)
    if "agreement" in results:
        say(
            f"{labeler.settings()['dtype']} gives the label of float32 on {results['agreement']:.1%} of the texts compared"
        )
    if not results["complete"]:
        say("Other processes have not finished their shares.")
    say(f"written to {output / 'labels'}")
    if uploads is not None:
        say(f"uploaded to {uploads.address}")
    if results["complete"] and not results["n_labelled"]:
        say(f"No text could be labelled: column '{text_column}' holds none. Pass another --text_column.", error=True)
        raise typer.Exit(1)
    if asking is not None and results["complete"]:
        ask_teacher(asking, output, labeler, overwrite)


def _backend(given: str, student: str, revision: str | None) -> str:
    """What computes the student: of an encoder the fastest; a linear or static one has no choice."""
    from hf_llambert import fastest_backend
    from hf_llambert.notes import ENCODER
    from hf_llambert.training.loading import student_kind

    if given != "auto":
        return given
    return fastest_backend() if student_kind(student, revision) == ENCODER else "torch"


def _process(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    number, slash, count = given.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ValueError(f"--process must be such as 3/8, the first being 0/8, got '{given}'.")
    return int(number), int(count)
