"""
Active learning under a budget: the student says which texts the teacher is asked about next.

    accelerate launch recipes/active.py --config recipes/active_quickstart.yaml   # 2 CPU cores, no Hub (after make assets)

Round by round the teacher annotates what the student is least sure of, and a student learns from all answers so far. It
stops when the budget is spent or the learning curve is flat. The curve is the student's agreement with the teacher on
texts drawn at random and kept apart, so no gold label decides anything; gold, where there is some, only measures the
students. Stopped and started again, it goes on where it stopped. Another budget is another run; give it the same ledger, and
nothing is asked twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, concatenate_datasets

from common import RunArguments, make_teacher, run_recipe
from hf_llambert import (
    ABSTAIN,
    LLMLabeler,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    annotate,
    check_column,
    column_names,
    evaluate_student,
    is_flat,
    load_data,
    load_task,
    next_to_annotate,
    read_evaluation,
    row_texts,
    saved_calibration,
    select_silver,
    student_silver,
    train_student,
    wait_for_everyone,
    whole_folder,
    with_gold,
    worth_lines,
)


@dataclass(kw_only=True)
class ActiveArguments(RunArguments):
    """What the recipe takes beside the training arguments."""

    task: str = field(default="imdb", metadata={"help": "Built-in task or YAML file."})
    label_column: str | None = field(default=None, metadata={"help": "Column of gold labels, to measure by."})
    num_held_out: int = field(default=0, metadata={"help": "Texts with gold held out for that."})
    budget: int = field(default=400, metadata={"help": "Texts the teacher is asked about in all."})
    num_dev: int = field(default=100, metadata={"help": "Of these, random ones kept apart for the learning curve."})
    round_size: int = field(default=100, metadata={"help": "Texts annotated in each round."})
    num_pool: int = field(default=2000, metadata={"help": "Texts the student chooses from in each round."})
    strategy: str = field(default="margin", metadata={"help": "random, entropy, margin or diverse."})
    patience: int = field(default=2, metadata={"help": "Stop after so many rounds without a gain ..."})
    min_gain: float = field(default=0.005, metadata={"help": "... of at least this agreement with the teacher."})
    self_training: float = field(
        default=0.0,
        metadata={"help": "Above 0: the last student also learns its own labels of at least this confidence."},
    )
    baseline: bool = field(
        default=True,
        metadata={"help": "Fit a linear student on the last student's labels too, where texts are held out."},
    )


def check(arguments: ActiveArguments) -> None:
    """Refuse what would fail only after the teacher was asked, and what means nothing here."""
    for name in ("round_size", "num_pool", "patience"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be a positive number, got {getattr(arguments, name)}.")
    strategies = ("random", "entropy", "margin", "diverse")
    if arguments.strategy not in strategies:
        raise ValueError(f"strategy must be one of {', '.join(strategies)}; got {arguments.strategy!r}.")
    given = {
        "eval_split": arguments.eval_split,
        "num_annotated": arguments.num_annotated,
        "num_seeds": arguments.num_seeds > 1,
        "student": len(arguments.student) > 1,
    }
    if any(given.values()):
        raise ValueError(
            f"Active learning takes budget instead of num_annotated, num_held_out instead of eval_split, and one student and one "
            f"seed a run; got {', '.join(name for name, value in given.items() if value)}."
        )
    if not 0 <= arguments.self_training <= 1:
        raise ValueError(f"self_training must be a confidence from 0 to 1, got {arguments.self_training}.")


def split_rows(arguments: ActiveArguments) -> tuple[Dataset | None, Dataset, Dataset]:
    """The texts to hold out, those of the learning curve and the pool, from one shuffle; each text once."""
    column = load_task(arguments.task).columns(arguments.text_column)
    labels = [] if arguments.label_column is None else [arguments.label_column]
    data = load_data(arguments.data, arguments.data_split, label_columns=labels)
    check_column(data, column, "text_column")
    first: dict[object, int] = {}
    for i, text in enumerate(row_texts(data, column)):
        first.setdefault(text, i)
    whole, rows = data, list(first.values())
    data = data.select(rows).shuffle(seed=arguments.split_seed)
    parts = (arguments.num_held_out, arguments.num_dev)
    if not 0 < arguments.num_dev < arguments.budget or sum(parts) >= len(data):
        raise ValueError(
            f"Expected num_dev from 1 to less than the budget, and texts left after num_held_out and num_dev; got num_dev "
            f"{arguments.num_dev}, budget {arguments.budget}, num_held_out {arguments.num_held_out}, {len(data):,} texts."
        )
    held_out = None
    if arguments.num_held_out:
        if arguments.label_column is None:
            raise ValueError("num_held_out texts are measured on by their gold labels: pass label_column.")
        # What the labels are is decided by all of them, not by those that happen to be held out.
        reading = (arguments.label_names, arguments.label_values)
        gold = with_gold(whole, column, arguments.label_column, load_task(arguments.task), *reading)
        held_out = gold.select(rows).shuffle(seed=arguments.split_seed).select(range(parts[0]))
    return held_out, data.select(range(parts[0], sum(parts))), data.select(range(sum(parts), len(data)))


def main(arguments: ActiveArguments, training: StudentConfig) -> dict:
    """Annotate and train in rounds. Returns the content of `active.json`."""
    check(arguments)
    run, task = Path(arguments.run), load_task(arguments.task)
    column = task.columns(arguments.text_column)
    ledger = arguments.ledger or run / "ledger"
    held_out, dev, pool = split_rows(arguments)
    teacher = make_teacher(arguments)

    def learn(silver: Dataset, name: str, **kwargs: object) -> dict:
        reading = {"text_column": column, "max_length": arguments.max_length, "head_share": arguments.head_share}
        folder = run / name / "student"
        return train_student(task, arguments.student[0], folder, training, silver=silver, **reading, **kwargs)  # type: ignore[arg-type]

    annotate(
        dev,
        LLMLabeler(task, teacher, ledger, column),
        run / "dev" / "annotated",
        calibration=arguments.calibration,  # type: ignore[arg-type]
    )
    # What the student finds hard is no fair sample, so all rounds use the calibration of the random texts.
    calibration = saved_calibration(run / "dev")
    labeler = LLMLabeler(task, teacher, ledger, column, calibration=calibration)
    dev_silver = select_silver(load_data(run / "dev"), task)[0].select_columns([*column_names(column), "label"])
    parts, curve, student, stopped = [], [], None, None
    spent = len(dev)
    while stopped is None:
        name = f"round-{len(parts)}"
        texts = row_texts(pool.select(range(min(arguments.num_pool, len(pool)))), column)
        number = min(arguments.round_size, arguments.budget - spent)
        strategy = arguments.strategy if student else "random"
        chosen = next_to_annotate(texts, number, student, strategy, training.seed + len(parts))  # type: ignore[arg-type]
        (chosen,) = broadcast_object_list([chosen])  # a rounding error on another process must not choose other texts
        annotate(pool.select(chosen), labeler, run / name / "annotated", calibration="none")
        parts.append(load_data(run / name))
        pool = pool.select(sorted(set(range(len(pool))) - set(chosen)))
        spent += len(chosen)
        answers = concatenate_datasets(parts)
        if len(set(answers["llm_label"]) - {ABSTAIN}) < 2 and spent < arguments.budget and len(pool):
            continue  # nothing to tell apart yet: another random round
        silver, selection = select_silver(answers, task, calibration=calibration)
        found = learn(silver, name, eval_data=dev_silver, selection=selection, baseline=False)
        student = StudentLabeler(run / name / "student", column)
        curve.append({"annotated": spent, "silver": len(silver), "agreement": found["eval"]["accuracy"]})
        if held_out is not None:
            curve[-1]["accuracy"] = _accuracy(student, held_out, task, run / name / "held_out")
        stopped = _why_stop(arguments, spent, [point["agreement"] for point in curve], pool)

    silver = silver.select_columns([*column_names(column), "label", "llm_confidence", "probabilities"])
    own = None
    if arguments.self_training and len(pool):
        own = _own_labels(student, pool, task, arguments)
        silver = concatenate_datasets([silver, own])
    last = learn(silver, "final", eval_data=held_out, baseline=arguments.baseline)
    result = {"strategy": arguments.strategy, "curve": curve, "stopped": stopped, "asked": spent}
    result |= {"n_own_labels": len(own) if own is not None else 0, "n_silver": last["train"]["n_silver"]}
    result |= {"eval": last.get("eval"), "worth": list(worth_lines(last, task, run / "final"))}
    if PartialState().is_main_process:
        (run / "active.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        _show(result, run)
    wait_for_everyone()
    return result


def _why_stop(arguments: ActiveArguments, spent: int, curve: list[float], pool: Dataset) -> str | None:
    if spent >= arguments.budget:
        return "the budget is spent"
    if is_flat(curve, arguments.patience, arguments.min_gain):
        return f"no gain of {arguments.min_gain:.1%} in {arguments.patience} rounds"
    return None if len(pool) else "no text is left"


def _accuracy(student: StudentLabeler, held_out: Dataset, task: TaskSpec, folder: Path) -> float:
    """A round's student on held-out gold, measured once."""
    if PartialState().is_main_process and not folder.is_dir():
        with whole_folder(folder) as part:
            evaluate_student(student, held_out, task, part)
    wait_for_everyone()
    found = read_evaluation(folder)
    return float(np.mean(np.array(found["student_label"][:]) == np.array(found["gold"][:])))


def _own_labels(student: StudentLabeler, pool: Dataset, task: TaskSpec, arguments: ActiveArguments) -> Dataset:
    texts = pool.select(range(min(arguments.num_pool, len(pool)))).select_columns(column_names(student.text_column))
    labelled = texts.map(student, batched=True, features=student.features(texts), load_from_cache_file=False)
    return student_silver(labelled, task, arguments.self_training)


def _show(result: dict, run: Path) -> None:
    for point in result["curve"]:
        print(
            f"{point['annotated']:,} texts asked about: agreement with the teacher {point['agreement']:.1%}"
            + (f", accuracy {point['accuracy']:.1%}" if "accuracy" in point else "")
        )
    if result["n_own_labels"]:
        print(f"{result['n_own_labels']:,} of the last student's labels are its own.")
    print(f"Stopped: {result['stopped']}. The student is in {run / 'final' / 'student'}.")
    if result["eval"] is not None:
        print(
            "Accuracy on {n:,} held-out texts: {accuracy:.1%} ({accuracy_low:.1%} to {accuracy_high:.1%})".format(
                **result["eval"]
            )
        )
    for line in result["worth"]:
        print(line)


if __name__ == "__main__":
    run_recipe(ActiveArguments, main)
