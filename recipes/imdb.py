"""
Film reviews: a teacher annotates a sample, a student learns from it and labels many more.

    accelerate launch recipes/imdb.py --config recipes/imdb_quickstart.yaml   # 2 CPU cores, no Hub (make quickstart)
    accelerate launch recipes/imdb.py --config recipes/imdb.yaml              # the paper's setting: GPUs and the Hub

Every argument of the YAML file can also be given on the command line. Stopped and started again, it goes on where it
stopped; with several processes each asks about and labels its share.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from trl import TrlParser

from hf_llambert import (
    LLMLabeler,
    StudentConfig,
    StudentLabeler,
    TransformersTeacher,
    annotate,
    check_column,
    compare_labels,
    label_pool,
    load_data,
    load_task,
    saved_calibration,
    select_silver,
    show_report,
    train_student,
    with_gold,
    write_report,
)

_LAUNCH_HINT = (
    "accelerate launch --multi_gpu --num_processes {n} --num_machines 1 --mixed_precision no --dynamo_backend no "
    "(with ACCELERATE_USE_CPU=true on CPUs; --cpu --num_processes silently runs one process)"
)


@dataclass
class RecipeArguments:
    """What the recipe does beside the training arguments."""

    teacher: str = field(metadata={"help": "Hub id or directory of the teacher."})
    student: str = field(metadata={"help": "Hub id or directory of the encoder to start from."})
    data: str = field(metadata={"help": "Texts to annotate, with gold labels to measure by."})
    run: str = field(metadata={"help": "Folder of the run."})
    task: str = field(default="imdb", metadata={"help": "Built-in task or YAML file."})
    data_split: str | None = field(default=None, metadata={"help": "Split of the data to annotate."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to hold out. Without it num_held_out rows of the data are."}
    )
    pool_split: str | None = field(
        default=None, metadata={"help": "Split to label. Without it num_labelled further rows of the data are."}
    )
    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    label_column: str = field(default="label", metadata={"help": "Column of the gold labels."})
    num_annotated: int | None = field(default=None, metadata={"help": "Texts to annotate. Default: all."})
    num_held_out: int | None = field(default=None, metadata={"help": "Texts held out to measure on. Default: all."})
    num_labelled: int | None = field(default=None, metadata={"help": "Texts for the student to label. Default: all."})
    split_seed: int = field(default=42, metadata={"help": "Seed of the split into held out, annotated and pool."})
    teacher_revision: str | None = field(default=None, metadata={"help": "Revision of the teacher."})
    teacher_mode: str = field(default="score", metadata={"help": "score or generate."})
    teacher_dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    teacher_device: str | None = field(
        default=None, metadata={"help": "Such as auto, to spread one teacher over GPUs."}
    )
    teacher_text_tokens: int | None = field(
        default=None, metadata={"help": "Longest text the teacher reads, in tokens."}
    )
    teacher_temperature: float = field(default=0.0, metadata={"help": "0 is greedy; generate mode only."})
    calibration: str = field(default="batch", metadata={"help": "none, batch or contextual."})
    max_length: int = field(default=256, metadata={"help": "Longest text the student reads, in tokens."})
    head_share: float = field(default=0.5, metadata={"help": "Share of a cut text taken from its beginning."})
    baseline: bool = field(default=True, metadata={"help": "Train the same student on as many gold labels too."})
    num_processes: int | None = field(default=None, metadata={"help": "Refuse to run on another number of processes."})
    prompt_choice: str = field(
        default="not stated", metadata={"help": "How prompt and settings were chosen (report)."}
    )


def split_rows(arguments: RecipeArguments) -> tuple[Dataset, Dataset, Dataset]:
    """
    The texts to hold out, to annotate and to label, disjoint, from one shuffle of the data or from its splits.

    A text that is also held out, or was drawn twice, is not annotated, so that nothing held out is learnt from.
    """
    data = load_data(arguments.data, arguments.data_split).shuffle(seed=arguments.split_seed)
    column = arguments.text_column
    check_column(data, column, "text_column")
    if arguments.eval_split is None:
        cut = arguments.num_held_out or 0
        if not 0 < cut < len(data):
            raise ValueError(f"num_held_out must be from 1 to {len(data) - 1} without an eval_split, got {cut}.")
        held_out, rest = data.select(range(cut)), data.select(range(cut, len(data)))
    else:
        held_out, rest = (
            load_data(arguments.data, arguments.eval_split, arguments.num_held_out, arguments.split_seed),
            data,
        )
    seen, kept = set(held_out[column]), []
    for i, text in enumerate(rest[column]):
        if text not in seen:
            seen.add(text)
            kept.append(i)
    rest = rest.select(kept)
    annotated = rest.select(range(min(arguments.num_annotated or len(rest), len(rest))))
    if arguments.pool_split is not None:
        pool = load_data(arguments.data, arguments.pool_split, arguments.num_labelled, arguments.split_seed)
    else:
        rest = rest.select(range(len(annotated), len(rest)))
        pool = rest.select(range(min(arguments.num_labelled or len(rest), len(rest))))
    if not len(pool):
        raise ValueError(
            f"No texts are left to label: all {len(annotated):,} of the data are annotated. Lower num_annotated."
        )
    return held_out, annotated, pool


def main(arguments: RecipeArguments, training: StudentConfig) -> dict:
    """Annotate, train, label, report. Returns the content of `report.json` (empty but on the main process)."""
    state = PartialState()
    if arguments.num_processes not in (None, state.num_processes):
        raise ValueError(
            f"Asked for {arguments.num_processes} processes, but {state.num_processes} run. Start with "
            f"{_LAUNCH_HINT.format(n=arguments.num_processes)}."
        )
    task, run = load_task(arguments.task), Path(arguments.run)
    held_out, sample, pool = split_rows(arguments)
    evaluation = with_gold(held_out, arguments.text_column, arguments.label_column, task)

    teacher = TransformersTeacher(
        arguments.teacher,
        revision=arguments.teacher_revision,
        mode=arguments.teacher_mode,  # type: ignore[arg-type]
        dtype=arguments.teacher_dtype,  # type: ignore[arg-type]
        device=arguments.teacher_device,
        max_text_tokens=arguments.teacher_text_tokens,
        temperature=arguments.teacher_temperature,
    )
    annotate(
        sample,
        LLMLabeler(task, teacher, run / "ledger", arguments.text_column),
        run / "annotated",
        calibration=arguments.calibration,  # type: ignore[arg-type]
        gold_column=arguments.label_column,
    )

    silver, selection = select_silver(load_data(run / "annotated"), task, calibration=saved_calibration(run))
    reading = {
        "text_column": arguments.text_column,
        "max_length": arguments.max_length,
        "head_share": arguments.head_share,
        "eval_data": evaluation,
        "eval_name": f"{len(evaluation):,} rows of {_name(arguments.data)}"
        + (f", {arguments.eval_split}" if arguments.eval_split else ", held out"),
    }
    train_student(task, arguments.student, run / "student", training, silver=silver, selection=selection, **reading)
    if arguments.baseline:
        gold_column = "gold_label" if arguments.label_column == "label" else arguments.label_column
        as_many = with_gold(silver, arguments.text_column, gold_column, task)
        train_student(task, arguments.student, run / "baseline", training, gold=as_many, **reading)

    labeler = StudentLabeler(run / "student", arguments.text_column)
    label_pool(pool, labeler, run / "labels", rows_per_shard=min(10_000, -(-len(pool) // 16)))
    compare_labels(run)
    report = {}
    if state.is_main_process:
        report = write_report(run, choices=_choices(arguments, training))
        show_report(report, run)
    state.wait_for_everyone()
    return report


def _name(data: str) -> str:
    return Path(data).name if Path(data).exists() else data


def _choices(arguments: RecipeArguments, training: StudentConfig) -> dict[str, str]:
    return {
        "prompt, label words, lengths and training arguments": arguments.prompt_choice,
        "held-out texts": f"drawn first, with seed {arguments.split_seed}; a text equal to one of them is annotated nowhere; "
        "their gold labels are read once, to measure the finished students",
        "calibration": f"{arguments.calibration}, from the teacher's scores of the annotated texts alone, with a uniform "
        "prior; no gold label enters",
        "early stopping": "none: the number of epochs is fixed and the last weights are kept"
        if not training.load_best_model_at_end
        else f"the best epoch on {training.dev_share:.0%} of the training rows, kept back"
        if training.dev_share
        else "the best checkpoint on the held-out texts: their figures are optimistic",
        "seeds": f"{training.seed} for the training, {arguments.split_seed} for the split; the first that were tried",
    }


if __name__ == "__main__":
    parser = TrlParser((RecipeArguments, StudentConfig))
    parser.set_defaults(output_dir=None)
    recipe_arguments, training_arguments = parser.parse_args_and_config()
    training_arguments.output_dir = str(Path(recipe_arguments.run) / "checkpoints")
    try:
        main(recipe_arguments, training_arguments)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("HF_LLAMBERT_DEBUG"):
            raise
        sys.exit(f"Error: {error}")
