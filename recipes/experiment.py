"""
The paper's experiment for any task: students by gold labels, by a teacher's labels, and by both, on the same held-out texts.

    accelerate launch recipes/experiment.py --config my.yaml   # your own data, task and teacher

Stopped and started again, it goes on where it stopped; with several processes each asks about and labels its share.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset, Value, concatenate_datasets

from common import FAST, RunArguments, learn, make_teacher, run_recipe, seeded, short_name, split_rows
from hf_llambert import (
    ABSTAIN,
    LLMLabeler,
    Publication,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    annotate,
    check_column,
    column_names,
    compare_labels,
    distill_student,
    distilled_summary,
    label_pool,
    load_data,
    load_gate,
    load_task,
    push_run,
    row_texts,
    saved_calibration,
    select_silver,
    show_gate,
    show_report,
    wait_for_everyone,
    why_unusable,
    write_report,
)
from table import Measured, make_table, published, write_table

COLUMNS: dict[str, tuple[tuple[str, ...], bool]] = {
    "gold": ((), True),
    "silver": (("train",), False),
    "silver_extra": (("train", "extra"), False),
    "extra": (("extra",), False),
    "combined": (("extra",), True),
}
"""What a student learns from: the parts that the teacher annotated, and whether the gold labels of train come after them."""


@dataclass(kw_only=True)
class ExperimentArguments(RunArguments):
    """What an experiment takes beside the training arguments."""

    columns: list[str] = field(
        default_factory=lambda: ["silver", "gold"],
        metadata={
            "help": "What the students learn from: gold (train), silver (train as the teacher labelled it), silver_extra (train "
            "and extra by the teacher), extra (by the teacher), combined (extra by the teacher, or train where there is no "
            "extra, then train's gold). The first column's student labels the pool."
        },
    )
    extra_data: str | None = field(default=None, metadata={"help": "Extra texts from elsewhere than the data."})
    extra_split: str | None = field(default=None, metadata={"help": "Split of the extra texts, their gold unseen."})
    num_extra: int | None = field(
        default=None, metadata={"help": "Extra texts. Default: all of extra_data or extra_split, if there is one."}
    )
    pool_split: str | None = field(
        default=None, metadata={"help": "Split to label. Without it num_labelled further rows of the data are."}
    )
    num_labelled: int | None = field(
        default=None, metadata={"help": "Texts for the student to label; 0 for none. Default: all that are left."}
    )
    num_folds: int = field(
        default=1,
        metadata={
            "help": "In place of num_held_out: each of so many parts of the data is held out in turn, in a run of its own below "
            "run, and the table is of all of them."
        },
    )
    num_compared: int = field(
        default=0, metadata={"help": "Held-out texts that the teacher labels too, to compare it with its students."}
    )
    distill_to: str = field(
        default="", metadata={"help": "linear, static or auto: distil the student that labelled the pool."}
    )
    prompt_choice: str = field(
        default="not stated", metadata={"help": "How prompt and settings were chosen (report)."}
    )
    published: str | None = field(default=None, metadata={"help": "imdb or umls: show the paper's figures beside."})
    publish_as: str | None = field(
        default=None, metadata={"help": "Name on the Hub to push dataset and student to, privately: our-team/reviews."}
    )
    gate: str | None = field(
        default=None, metadata={"help": "YAML file of conditions that the run must meet, or nothing is published."}
    )
    license: str | None = field(default=None, metadata={"help": "Licence of what is pushed, as the Hub names it."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.columns = [self.columns] if isinstance(self.columns, str) else list(dict.fromkeys(self.columns))
        unknown = [name for name in self.columns if name not in COLUMNS]
        if unknown or not self.columns:
            raise ValueError(f"columns are some of {', '.join(COLUMNS)}; got {self.columns}.")
        names = [short_name(student) for student in self.student]
        if len(set(names)) < len(names):
            raise ValueError(f"Two students have one name: {names}. Run them one by one.")
        if not names or self.student[0] in FAST:
            raise ValueError(f"The first student is the run's own and must be an encoder; got {self.student}.")
        of_one_split = (
            "num_held_out", "eval_split", "num_labelled", "num_compared", "publish_as", "gate", "distill_to",
        )  # fmt: skip
        given = [name for name in of_one_split if getattr(self, name)]
        if self.num_folds < 1 or self.num_folds > 1 and given:
            raise ValueError(
                f"num_folds is 1 or more, and with several folds nothing else is held out, labelled or published; got "
                f"num_folds {self.num_folds}{''.join(f', {name} {getattr(self, name)}' for name in given)}."
            )
        if self.published is not None:
            published(self.published)
        if self.gate is not None:
            load_gate(self.gate)  # what is wrong with it is said before the work
        if self.distill_to not in ("", "linear", "static", "auto"):
            raise ValueError(f"distill_to is linear, static or auto; got {self.distill_to!r}.")
        if self.distill_to and self.num_labelled == 0:
            raise ValueError("distill_to needs texts that the student has labelled, and num_labelled is 0.")
        if self.publish_as and not self.license:
            raise ValueError("publish_as needs a license: one that the texts and the models allow.")


@dataclass(frozen=True)
class Parts:
    """
    The rows of an experiment, no text in two of them but for the pool, which may hold any.

    Args:
        held_out (`Dataset`): Texts to measure on, gold in `label` as the task's ids.
        train (`Dataset`): Texts to learn from, gold in `label`.
        extra (`Dataset`, *optional*): Further texts, for the teacher alone. A gold label is not looked at.
        pool (`Dataset`, *optional*): Texts for the student to label.
    """

    held_out: Dataset
    train: Dataset
    extra: Dataset | None = None
    pool: Dataset | None = None


def read_parts(arguments: ExperimentArguments, task: TaskSpec, fold: int = 0) -> Parts:
    """Held out, train, extra and pool from one shuffle of the data or from its splits."""
    held_out, rest = split_rows(arguments, task, fold, arguments.num_folds)
    column = task.columns(arguments.text_column)
    number = min(arguments.num_annotated or len(rest), len(rest))
    train, rest = rest.select(range(number)), rest.select(list(range(number, len(rest))))
    extra = None
    if arguments.extra_data is not None or arguments.extra_split is not None:
        source = arguments.extra_data or arguments.data
        extra = load_data(source, arguments.extra_split, arguments.num_extra, arguments.split_seed)
        check_column(extra, column, "text_column")
        known = {*row_texts(held_out, column), *row_texts(train, column)}
        extra = extra.select([i for i, text in enumerate(row_texts(extra, column)) if text not in known])
    elif arguments.num_extra:
        if arguments.num_extra > len(rest):
            raise ValueError(
                f"num_extra asks for {arguments.num_extra:,} texts; {len(rest):,} are left of '{arguments.data}' after those "
                f"held out and num_annotated."
            )
        extra, rest = rest.select(range(arguments.num_extra)), rest.select(list(range(arguments.num_extra, len(rest))))
    if arguments.num_labelled == 0 or arguments.num_folds > 1:
        return Parts(held_out, train, extra)
    if arguments.pool_split is not None:
        pool = load_data(arguments.data, arguments.pool_split, arguments.num_labelled, arguments.split_seed)
    else:
        pool = rest.select(range(min(arguments.num_labelled or len(rest), len(rest))))
    if not len(pool):
        raise ValueError(
            f"No texts are left to label: all {len(train):,} of the data are annotated. Lower num_annotated, or set "
            f"num_labelled to 0."
        )
    return Parts(held_out, train, extra, pool)


def run_experiment(
    task: TaskSpec, parts: Parts, arguments: ExperimentArguments, training: StudentConfig, what: str
) -> dict:
    """
    Annotate, train each student by each column with each seed, measure, label the pool, report, and publish if asked to.

    Args:
        what (`str`): What the held-out texts are, for the report.

    Returns:
        `dict`: `table` (also in `table.json`), `measured` (what it was made of) and, on the main process, the content of
        `report.json`.
    """
    run, column, state = Path(arguments.run), task.columns(arguments.text_column), PartialState()
    labels, texts = parts.held_out["label"][:], row_texts(parts.held_out, column)
    usable = [i for i, text in enumerate(texts) if labels[i] != ABSTAIN and why_unusable(text) is None]
    held_out = parts.held_out.select(usable)
    if not 0 <= arguments.num_compared <= len(held_out):
        raise ValueError(f"num_compared must be from 0 to {len(held_out)}, got {arguments.num_compared}.")
    asked = _to_annotate(parts, arguments, task)
    if asked is not None:
        labeler = LLMLabeler(task, make_teacher(arguments), arguments.ledger or run / "ledger", column)
        annotate(asked, labeler, run / "annotated", calibration=arguments.calibration, gold_column="label")  # type: ignore[arg-type]

    right = {student: {name: [] for name in arguments.columns} for student in arguments.student}
    rows: dict[str, int] = {}
    for student, name, seed in product(
        arguments.student, arguments.columns, range(training.seed, training.seed + arguments.num_seeds)
    ):
        folder = _folder(arguments, training, student, name, seed)
        sources = _sources(parts, arguments, task, name)
        rows[name] = sum(len(sources[source]) for source in ("silver", "gold") if source in sources)
        right[student][name].append(
            learn(
                task, student, folder, seeded(training, seed), arguments, eval_data=held_out, eval_name=what,
                keep=folder.parent == run, baseline=folder == run / "student", **sources,
            )
        )  # fmt: skip
    teacher = _teacher_on(held_out.select(range(arguments.num_compared)), arguments, task)
    measured = Measured(right, rows, teacher)
    table = table_of(arguments, measured, what)
    if parts.pool is not None:
        labeler = StudentLabeler(run / "student", column)
        label_pool(parts.pool, labeler, run / "labels", rows_per_shard=min(10_000, -(-len(parts.pool) // 16)))
        if arguments.distill_to:
            distill_student(run, arguments.distill_to)  # type: ignore[arg-type]  # checked there
    compare_labels(run)
    report = {}
    if state.is_main_process:
        report = write_report(run, choices=_choices(arguments, training), gate=arguments.gate)
        write_table(run, table)
        for line in distilled_summary(report["distilled"]) if arguments.distill_to else ():
            print(line)
        if "gate" in report:
            show_gate(report["gate"])
        show_report(report, run)
        if arguments.publish_as and report.get("gate", {"passed": True})["passed"]:
            for kind, address in push_run(run, Publication(arguments.publish_as, str(arguments.license))).items():
                print(f"{kind}: {address}")
    wait_for_everyone()
    if "gate" in report and not report["gate"]["passed"]:
        raise SystemExit(1)  # what it has said is above
    return {"table": table, "measured": measured, **report}


def run_folds(task: TaskSpec, arguments: ExperimentArguments, training: StudentConfig, name: str) -> dict:
    """
    The experiment with each fold held out in turn: a run each in `fold-1`, `fold-2`, ..., and one table of all texts.

    Returns:
        `dict`: `table` (also in `table.json`).
    """
    folds = []
    for fold in range(arguments.num_folds):
        run = Path(arguments.run) / f"fold-{fold + 1}"
        one = dataclasses.replace(
            arguments, run=str(run), ledger=arguments.ledger or str(Path(arguments.run) / "ledger")
        )
        parts = read_parts(one, task, fold)
        what = f"{len(parts.held_out):,} rows of {name}, fold {fold + 1} of {arguments.num_folds}"
        folds.append(
            run_experiment(
                task, parts, one, seeded(training, training.seed, output_dir=str(run / "checkpoints")), what
            )["measured"]
        )
    measured = Measured.joined(folds)
    number = len(next(iter(next(iter(measured.right.values())).values()))[0])
    table = table_of(
        arguments, measured, f"{number:,} rows of {name}, each held out in one of {arguments.num_folds} folds"
    )
    if PartialState().is_main_process:
        write_table(Path(arguments.run), table)
    wait_for_everyone()
    return {"table": table}


def main_of(arguments: ExperimentArguments, training: StudentConfig) -> dict:
    """The experiment on a dataset with gold labels, as the recipes of single datasets run it."""
    task = load_task(arguments.task)
    name = Path(arguments.data).name if Path(arguments.data).exists() else arguments.data
    if arguments.num_folds > 1:
        return run_folds(task, arguments, training, name)
    parts = read_parts(arguments, task)
    what = f"{len(parts.held_out):,} rows of {name}"
    what += f", {arguments.eval_split}" if arguments.eval_split else ", held out"
    return run_experiment(task, parts, arguments, training, what)


def _to_annotate(parts: Parts, arguments: ExperimentArguments, task: TaskSpec) -> Dataset | None:
    """The rows that some column needs annotated; those of extra without gold. `part` tells which they are."""
    needed = {part for name in arguments.columns for part in _silver_parts(name, parts)}
    if "extra" in needed and parts.extra is None:
        raise ValueError(
            f"The columns {', '.join(arguments.columns)} need extra texts for the teacher: pass extra_data, "
            f"extra_split or num_extra."
        )
    if needed == {"train"}:
        return parts.train
    if not needed:
        return None
    chosen = {name: rows for name in ("train", "extra") if name in needed and (rows := getattr(parts, name))}
    label, columns = parts.train.features["label"], column_names(task.columns(arguments.text_column))
    shared = [name for name in parts.train.column_names if name != "label"]
    shared = [name for name in shared if all(name in rows.column_names for rows in chosen.values())]
    missing = [column for column in columns if column not in shared]
    if missing:
        raise ValueError(f"Column '{missing[0]}' not found in the extra texts, {parts.extra.column_names}.")  # type: ignore[union-attr]
    out = []
    for name, rows in chosen.items():
        gold = rows["label"][:] if name == "train" else [ABSTAIN] * len(rows)
        labelled = rows.select_columns(shared).add_column("label", gold, feature=label)
        for column in columns:
            labelled = labelled.cast_column(column, Value("string"))
        out.append(labelled.add_column("part", [name] * len(rows)))
    return concatenate_datasets(out)


def _silver_parts(name: str, parts: Parts) -> tuple[str, ...]:
    """What a column's silver is of; combined is of train where there is nothing extra."""
    return ("train",) if name == "combined" and parts.extra is None else COLUMNS[name][0]


def _sources(parts: Parts, arguments: ExperimentArguments, task: TaskSpec, name: str) -> dict:
    """The arguments of `train_student` that say what a column's students learn from."""
    out: dict = {}
    silver_parts, with_gold = _silver_parts(name, parts), COLUMNS[name][1]
    if silver_parts:
        folder = Path(arguments.run) / "annotated"
        rows = load_data(folder)
        if "part" in rows.column_names:
            rows = rows.select([i for i, part in enumerate(rows["part"]) if part in silver_parts])
        out["silver"], out["selection"] = select_silver(rows, task, calibration=saved_calibration(folder))
    if with_gold:
        out["gold"] = parts.train.select_columns([*column_names(task.columns(arguments.text_column)), "label"])
    return out


def _folder(arguments: ExperimentArguments, training: StudentConfig, student: str, name: str, seed: int) -> Path:
    """Where a student is kept: the run's own and the one by gold beside it, which the report reads, or with the others."""
    run = Path(arguments.run)
    if student == arguments.student[0] and seed == training.seed:
        if name == arguments.columns[0]:
            return run / "student"
        if name == "gold":
            return run / "baseline"
    return run / "students" / short_name(student) / name / str(seed)


def _teacher_on(held_out: Dataset, arguments: ExperimentArguments, task: TaskSpec) -> dict | None:
    """The teacher's own labels of held-out texts, by the calibration of the annotated ones."""
    if not len(held_out):
        return None
    run = Path(arguments.run)
    calibration = saved_calibration(run) if (run / "annotated").is_dir() else None
    labeler = LLMLabeler(
        task, make_teacher(arguments), arguments.ledger or run / "ledger", arguments.text_column,
        **({} if calibration is None else {"calibration": calibration}),
    )  # fmt: skip
    results = annotate(held_out, labeler, run / "held_out_annotated", calibration="none", gold_column="label")
    labelled = load_data(run / "held_out_annotated")
    right = np.array(labelled["llm_label"][:]) == np.array(labelled["label"][:])
    return {"right": right, "coverage": results["coverage"]}


def table_of(arguments: ExperimentArguments, measured: Measured, what: str) -> dict:
    """The table of what was measured, the paper's figures with it where they are asked for."""
    task, teacher = load_task(arguments.task).name, short_name(arguments.teacher)
    table = make_table(measured, task, what, teacher, [name for name in COLUMNS if name in arguments.columns])
    return table if arguments.published is None else table | {"published": published(arguments.published)}


def _choices(arguments: ExperimentArguments, training: StudentConfig) -> dict[str, str]:
    return {
        "prompt, label words, lengths and training arguments": arguments.prompt_choice,
        "held-out texts": f"drawn first, with seed {arguments.split_seed}; a text equal to one of them is annotated nowhere; "
        "their gold labels are read once, to measure the finished students",
        "calibration": "none"
        if arguments.calibration == "none"
        else f"{arguments.calibration}, from the teacher's scores of the annotated texts alone, with a uniform prior; no gold "
        "label enters",
        "early stopping": "none: the number of epochs is fixed and the last weights are kept"
        if not training.load_best_model_at_end
        else f"the best epoch on {training.dev_share:.0%} of the training rows, kept back"
        if training.dev_share
        else "the best checkpoint on the held-out texts: their figures are optimistic",
        "seeds": f"{training.seed} for the training, {arguments.split_seed} for the split; the first that were tried",
    }


if __name__ == "__main__":
    run_recipe(ExperimentArguments, main_of)
