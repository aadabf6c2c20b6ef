"""What all recipes share: their arguments, the rows they read, the teacher they ask and the students they train."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray
from trl import TrlParser

from hf_llambert import (
    EndpointTeacher,
    LabelValues,
    LLMLabeler,
    RecordedTeacher,
    StudentConfig,
    TaskSpec,
    TokenVectors,
    TransformersTeacher,
    VLLMTeacher,
    annotate,
    check_column,
    column_names,
    load_data,
    load_task,
    load_teacher,
    parse_label_map,
    read_evaluation,
    row_texts,
    saved_calibration,
    select_silver,
    static_arguments,
    train_fast,
    train_student,
    with_gold,
)

FAST = ("linear", "static")
"""Students that are no encoders."""

Teacher = TransformersTeacher | EndpointTeacher | RecordedTeacher | VLLMTeacher


@dataclass(kw_only=True)
class RunArguments:
    """What every recipe takes beside the training arguments."""

    data: str = field(
        metadata={"help": "File, directory, saved dataset or Hub id of the texts and their gold labels."}
    )
    run: str = field(metadata={"help": "Folder of the run."})
    task: str = field(metadata={"help": "Built-in task or YAML file."})
    teacher: str = field(
        metadata={"help": "Hub id or directory of a language model, or a YAML file of any kind of teacher."}
    )
    student: list[str] = field(
        metadata={
            "help": "Hub ids or directories of the encoders to start from; in experiments linear and static too, which count "
            "words and average the first encoder's token vectors."
        }
    )
    data_split: str | None = field(default=None, metadata={"help": "Split of the data to learn from."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to hold out. Without it num_held_out rows of the data are."}
    )
    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    label_column: str = field(default="label", metadata={"help": "Column of the gold labels."})
    label_map: list[str] = field(
        default_factory=list,
        metadata={"help": "What labels of the data are in the task: pos=positive neg=negative. A mapping in YAML."},
    )
    label_values: LabelValues = field(
        default="auto",
        metadata={"help": "What the labels of the data are: names, ids, ids_from_1; auto: as they fit."},
    )
    num_annotated: int | None = field(default=None, metadata={"help": "Texts to annotate. Default: all."})
    num_held_out: int | None = field(default=None, metadata={"help": "Texts held out to measure on. Default: all."})
    split_seed: int = field(default=42, metadata={"help": "Seed of the split into held out, annotated and pool."})
    ledger: str | None = field(
        default=None, metadata={"help": "Folder of the replies; several runs may share it. Default: ledger in run."}
    )
    recorded: str | None = field(
        default=None,
        metadata={"help": "Ask nobody: the teacher's answers in a file, by text or by row number of the data."},
    )
    recorded_map: list[str] = field(
        default_factory=list,
        metadata={"help": "What recorded labels are in the task, as label_map says of the data's."},
    )
    recorded_values: LabelValues = field(
        default="auto", metadata={"help": "What recorded labels are: names, ids, ids_from_1; auto: as they fit."}
    )
    recorded_encoding: str = field(default="utf-8", metadata={"help": "Encoding of the recorded file."})
    recorded_delimiter: str = field(default=",", metadata={"help": "What stands between its fields."})
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
    num_seeds: int = field(default=1, metadata={"help": "Seeds of each training, from seed on."})
    max_length: int = field(default=256, metadata={"help": "Longest text the student reads, in tokens."})
    head_share: float = field(default=0.5, metadata={"help": "Share of a cut text taken from its beginning."})
    num_processes: int | None = field(default=None, metadata={"help": "Refuse to run on another number of processes."})

    def __post_init__(self) -> None:
        self.student = [self.student] if isinstance(self.student, str) else list(self.student)
        self.label_map, self.recorded_map = map_pairs(self.label_map), map_pairs(self.recorded_map)
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds must be 1 or more, got {self.num_seeds}.")
        parse_label_map(self.label_map)

    @property
    def gold_columns(self) -> str | Mapping[str, str] | None:
        """Columns of people's answers, as `with_gold` takes them."""
        return self.label_column

    @property
    def label_names(self) -> dict[str, str]:
        """`label_map` as a mapping."""
        return parse_label_map(self.label_map)


def map_pairs(given: object) -> list[str]:
    """
    A map of labels as pairs, from a mapping in YAML or the words of a command line.

    Raises:
        ValueError: A word that YAML takes for something else stands without quotes.
    """
    if isinstance(given, Mapping):
        for value, label in given.items():
            if (
                isinstance(value, bool | None)
                or not isinstance(label, str | int | float | None)
                or label in (True, False)
            ):
                raise ValueError(
                    f"Expected a map of labels to labels of the task, got {value!r}: {label!r}. In YAML put words such as yes, "
                    f"no, on, true and null in quotes."
                )
        return [f"{value}={'' if label is None else label}" for value, label in given.items()]
    return list(given)  # type: ignore[call-overload, no-any-return]


Arguments = TypeVar("Arguments", bound=RunArguments)


def read_data(arguments: RunArguments, task: TaskSpec, split: str | None, what: str) -> Dataset:
    """A split of the data with people's answers as the task has them, in columns as of `with_gold`; its other columns stay."""
    column, named = task.columns(arguments.text_column), arguments.gold_columns
    columns = {"": named} if isinstance(named, str) else named or {name: name for name in task.parts}
    written = [columns[name] for name, one in task.parts.items() if name in columns and one.question.gold_is_name]
    data = load_data(arguments.data, split, label_columns=written, text_column=column)
    check_column(data, column, "text_column")
    gold = with_gold(data, column, named, task, arguments.label_names, arguments.label_values)
    for name, one in task.parts.items():
        known = sum(map(one.question.is_answer, gold[name or "label"]))
        if known < one.num_labels:
            raise ValueError(
                f"Expected gold labels for each of the {one.num_labels} labels{f' of {name!r}' if name else ''} in {what}, got "
                f"{known} rows with one. Look at column '{columns.get(name, name)}' of '{arguments.data}'."
            )
    taken = {*column_names(column), *(name or "label" for name in task.parts)}
    others = [name for name in data.column_names if name not in taken]
    return concatenate_datasets([gold, data.select_columns(others)], axis=1) if others else gold


def split_rows(arguments: RunArguments, task: TaskSpec, fold: int = 0, num_folds: int = 1) -> tuple[Dataset, Dataset]:
    """
    The texts held out and all others, shuffled and disjoint, with gold as of `with_gold`.

    A text that is also held out, or comes twice, is not among the others, so that nothing held out is learnt from.

    Args:
        fold (`int`): Of several folds, the one that is held out, from 0 on.
        num_folds (`int`): Parts into which the shuffled data are cut, each as large as the others or a row smaller.
    """
    data = read_data(arguments, task, arguments.data_split, "the data").shuffle(seed=arguments.split_seed)
    column = task.columns(arguments.text_column)
    if num_folds > 1:
        rows = np.array_split(np.arange(len(data)), num_folds)
        held_out, rest = data.select(rows.pop(fold)), data.select(np.concatenate(rows))
    elif arguments.eval_split is None:
        cut = arguments.num_held_out or 0
        if not 0 < cut < len(data):
            raise ValueError(
                f"Something must be held out to measure on: pass eval_split, a split of '{arguments.data}', or num_held_out "
                f"from 1 to {len(data) - 1}; got num_held_out {arguments.num_held_out}."
            )
        held_out, rest = data.select(range(cut)), data.select(range(cut, len(data)))
    else:
        held_out, rest = read_data(arguments, task, arguments.eval_split, "eval_split"), data
        if arguments.num_held_out is not None:
            if not 0 < arguments.num_held_out <= len(held_out):
                raise ValueError(f"num_held_out must be from 1 to {len(held_out)}, got {arguments.num_held_out}.")
            held_out = held_out.shuffle(seed=arguments.split_seed).select(range(arguments.num_held_out))
    seen, kept = set(row_texts(held_out, column)), []
    for i, text in enumerate(row_texts(rest, column)):
        if text not in seen:
            seen.add(text)
            kept.append(i)
    return held_out, rest.select(kept)


def make_teacher(arguments: RunArguments) -> Teacher:
    """The teacher that the arguments name: a model, one described in a YAML file, or answers given before."""
    if arguments.recorded is not None:
        form = {"encoding": arguments.recorded_encoding, "delimiter": arguments.recorded_delimiter}
        columns = []
        with suppress(ValueError):  # the teacher says what is wrong with it
            columns = load_data(arguments.recorded, **form).column_names  # type: ignore[arg-type]
        shown = load_task(arguments.task).columns(arguments.text_column)
        by_row = not set(column_names(shown)) <= set(columns)
        return RecordedTeacher(
            arguments.recorded,
            arguments.teacher,
            texts=arguments.data if by_row else None,
            texts_split=arguments.data_split if by_row else None,
            text_column=shown,  # type: ignore[arg-type]
            recorded_map=arguments.recorded_map or None,
            recorded_values=arguments.recorded_values,
            recorded_encoding=arguments.recorded_encoding,
            recorded_delimiter=arguments.recorded_delimiter,
        )
    if Path(arguments.teacher).suffix in (".yaml", ".yml"):
        fields = {one.name: one.default for one in dataclasses.fields(RunArguments)}
        given = [n for n in fields if n.startswith("teacher_") and getattr(arguments, n) != fields[n]]
        if given:
            raise ValueError(f"{', '.join(given)} go into the teacher's own file '{arguments.teacher}'.")
        return load_teacher(arguments.teacher)
    return TransformersTeacher(
        arguments.teacher,
        revision=arguments.teacher_revision,
        mode=arguments.teacher_mode,  # type: ignore[arg-type]
        dtype=arguments.teacher_dtype,  # type: ignore[arg-type]
        device=arguments.teacher_device,
        max_text_tokens=arguments.teacher_text_tokens,
        temperature=arguments.teacher_temperature,
    )


def annotated(
    arguments: RunArguments, task: TaskSpec, rows: Dataset, name: str = "annotated"
) -> tuple[Dataset, list[dict], dict]:
    """
    Let the teacher annotate rows with gold in `label` into a folder of the run.

    Returns:
        The silver rows (gold is in `gold_label`, -1 where there is none), how many each rule of selection left, and the
        results of [`annotate`].
    """
    folder = Path(arguments.run) / name
    ledger = arguments.ledger or Path(arguments.run) / "ledger"
    labeler = LLMLabeler(task, make_teacher(arguments), ledger, arguments.text_column)
    results = annotate(rows, labeler, folder, calibration=arguments.calibration, gold_column="label")  # type: ignore[arg-type]
    silver, selection = select_silver(load_data(folder), task, calibration=saved_calibration(folder))
    return silver, selection, results


def learn(
    task: TaskSpec,
    student: str,
    folder: Path,
    training: StudentConfig,
    arguments: RunArguments,
    *,
    eval_data: Dataset,
    keep: bool = False,
    baseline: bool = False,
    **kwargs: object,
) -> NDArray[np.bool_]:
    """
    Train a student, or find it trained, and say of each held-out text whether it labelled it right.

    Args:
        folder (`Path`): Folder of the student. Without `keep` its weights are removed once it is measured.
        training (`StudentConfig`): All about the training, the seed included; see [`seeded`].
        eval_data (`Dataset`): The held-out texts with gold in `label`.
        baseline (`bool`): Fit a linear student on the same rows too; see [`train_student`].
        kwargs: `silver`, `gold` and other arguments of [`train_student`].
    """
    given = {"text_column": arguments.text_column, "eval_data": eval_data, **kwargs}
    if student in FAST:
        _learn_fast(task, student, folder, training, arguments, given)
    else:
        reading = {"max_length": arguments.max_length, "head_share": arguments.head_share}
        train_student(task, student, folder, training, baseline=baseline, **reading, **given)  # type: ignore[arg-type]
        if not keep and training.process_index == 0:
            (folder / "model.safetensors").unlink(missing_ok=True)
    found = read_evaluation(folder)
    return np.array(found["student_label"][:]) == np.array(found["gold"][:])


def _learn_fast(
    task: TaskSpec, kind: str, folder: Path, training: StudentConfig, arguments: RunArguments, given: dict
) -> None:
    """Fit a student of words, which has training arguments of its own; it needs no more of `training` than its seed."""
    own = {"seed": training.seed, "use_cpu": True, "report_to": [], "disable_tqdm": training.disable_tqdm}
    if kind == "linear":
        train_fast(task, "linear", folder, StudentConfig(training.output_dir, **own), **given)  # type: ignore[arg-type]
    else:
        encoder = next(one for one in arguments.student if one not in FAST)
        vectors = TokenVectors.load(encoder, keep=Path(arguments.run) / "vectors")
        train_fast(task, "static", folder, static_arguments(training.output_dir, **own), vectors=vectors, **given)  # type: ignore[arg-type]


def seeded(training: StudentConfig, seed: int, **changes: object) -> StudentConfig:
    """The same training with another seed, and other changes."""
    changed = copy.copy(training)
    for name, value in {"seed": seed, **changes}.items():
        if not hasattr(changed, name):
            raise ValueError(f"StudentConfig has no argument '{name}'.")
        setattr(changed, name, value)
    return changed


def short_name(student: str) -> str:
    """The name of a model, without its owner or folder."""
    return Path(student).name


def run_recipe(arguments_type: type[Arguments], main: Callable[[Arguments, StudentConfig], object]) -> None:
    """Parse YAML and command line, run, and end with one sentence where something is wrong."""

    def checked(arguments: Arguments, training: StudentConfig) -> None:
        check_processes(arguments.num_processes)
        load_task(arguments.task)
        main(arguments, training)

    run_script(arguments_type, checked)


def run_script(arguments_type: type, main: Callable[..., object]) -> None:
    """As [`run_recipe`], for arguments that are not of one task; `run` is the folder."""
    try:
        arguments, training = parse_arguments((arguments_type, StudentConfig))
        training.output_dir = str(Path(arguments.run) / "checkpoints")
        main(arguments, training)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("HF_LLAMBERT_DEBUG"):
            raise
        sys.exit(f"Error: {error}")


def parse_arguments(types: Sequence[type], words: Sequence[str] | None = None, **defaults: object) -> tuple:
    """
    One instance of each dataclass, from YAML (`--config`) and the words of a command line.

    Raises:
        ValueError: An argument is unknown; the message names the nearest that there is.
    """
    parser = TrlParser(types)
    parser.set_defaults(output_dir=None, **defaults)
    *found, rest = parser.parse_args_and_config(words, return_remaining_strings=True)
    known = [one.name for cls in types for one in dataclasses.fields(cls) if one.init]
    for word in rest:
        name = word.removeprefix("--").partition("=")[0]
        near = difflib.get_close_matches(name, known, 1)
        raise ValueError(f"There is no argument '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""))
    return tuple(found)


def check_processes(expected: int | None) -> None:
    """Refuse another number of processes than was asked for."""
    state = PartialState()
    if expected not in (None, state.num_processes):
        raise ValueError(
            f"Asked for {expected} processes, but {state.num_processes} run. Start with accelerate launch --multi_gpu "
            f"--num_processes {expected} --num_machines 1 --mixed_precision no --dynamo_backend no (with "
            f"ACCELERATE_USE_CPU=true on CPUs; --cpu --num_processes silently runs one process)."
        )
