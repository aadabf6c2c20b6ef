"""One student by several seeds, and the comparison of two variants on the same texts."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_llambert.data import STAGE_FILE, write_whole
from hf_llambert.metrics import mean_interval, paired_bootstrap
from hf_llambert.notes import SEEDS, read_note, read_stage
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.evaluation import EVALUATION_FILE, read_evaluation
from hf_llambert.training.train import train_student
from hf_llambert.training.trainer import StudentConfig

SEEDS_FILE = "seeds.json"


def train_seeds(
    task: TaskSpec, student: str, run: str | Path, args: StudentConfig, seeds: int, **kwargs: object
) -> dict:
    """
    Train the same student with `seeds` seeds in a row, from `args.seed` on.

    The first is the run's student, in `run/student`, whatever the others reach: a seed picked by its result would flatter
    it. The others are in `run/seeds/SEED`. Interrupted, the same call goes on with the seed it stopped at.

    Args:
        task (`TaskSpec`): The labels.
        student (`str`): Encoder to start from.
        run (`str` or `Path`): Folder of the run.
        args (`StudentConfig`): The arguments of each.
        seeds (`int`): How many.
        kwargs: Further arguments of [`train_student`], `eval_data` among them.

    Returns:
        `dict`: `seeds`, and `accuracy` and `macro_f1` with `values`, `mean`, and the 95 % interval `low`, `high` of the mean
        over seeds (two seeds say next to nothing); also written to `run/seeds.json`.

    Raises:
        ValueError: Fewer than two seeds, or no `eval_data` to measure on.
    """
    if seeds < 2:
        raise ValueError(f"Expected at least 2 seeds, got {seeds}.")
    if kwargs.get("eval_data") is None:
        raise ValueError("Seeds are compared on texts with gold labels: pass eval_data (--eval_data).")
    run, found = Path(run), []
    for seed in range(args.seed, args.seed + seeds):
        mine = copy.copy(args)
        mine.seed = seed
        folder = run / "student" if seed == args.seed else run / "seeds" / str(seed)
        found.append(train_student(task, student, folder, mine, **kwargs)["eval"])  # type: ignore[arg-type]
    summary: dict = {"seeds": list(range(args.seed, args.seed + seeds)), "n": found[0]["n"]}
    for figure in ("accuracy", "macro_f1"):
        values = [result[figure] for result in found]
        mean, low, high = mean_interval(values)
        summary[figure] = {"values": values, "mean": mean, "low": max(low, 0.0), "high": min(high, 1.0)}
    summary["training"] = _training(run / "student")
    if args.process_index == 0:
        write_whole(run / SEEDS_FILE, json.dumps(summary, indent=2) + "\n")
    return summary


def compare_students(first: str | Path, second: str | Path) -> dict[str, float]:
    """
    How much more accurate the first of two students is, measured on the same held-out texts; see [`paired_bootstrap`].

    Args:
        first (`str` or `Path`): Folder of a student that was trained with `eval_data`, or of a run with several seeds.
        second (`str` or `Path`): The other one.

    Returns:
        `dict`: `difference` and its 95 % interval `low`, `high`, `runs` and `n` (texts).

    Raises:
        FileNotFoundError: A folder has no evaluation.
        ValueError: They were measured on different texts.
    """
    answers, others = _answers(Path(first)), _answers(Path(second))
    texts, other_texts = ({digest for digest, _ in found.values()} for found in (answers, others))
    if texts != other_texts:
        raise ValueError(
            f"'{first}' and '{second}' were not measured on the same texts. Train both with the same eval_data."
        )
    seeds = sorted(set(answers) & set(others))
    pairs = [(answers[seed][1], others[seed][1]) for seed in seeds]
    if not pairs:  # other seeds: any student of one against any of the other
        pairs = [(next(iter(answers.values()))[1], next(iter(others.values()))[1])]
    right, other_right = (np.array(side) for side in zip(*pairs, strict=True))
    difference, low, high = paired_bootstrap(right, other_right)
    return {"difference": difference, "low": low, "high": high, "runs": len(pairs), "n": right.shape[1]}


def read_seeds(run: str | Path) -> dict | None:
    """What [`train_seeds`] wrote about the student that is in a run's folder now; `None` where there is nothing."""
    path = Path(run) / SEEDS_FILE
    if not path.is_file() or not (Path(run) / "student" / STAGE_FILE).is_file():
        return None
    summary = read_note(path, SEEDS)
    return summary if summary["training"] == _training(Path(run) / "student") else None


def _training(folder: Path) -> str:
    """A digest of how a student was trained, its seed apart."""
    config = read_stage(folder / STAGE_FILE, "student")["config"]
    config["arguments"] = {name: value for name, value in config["arguments"].items() if name != "seed"}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32]


def _answers(folder: Path) -> dict[int, tuple[str, NDArray[np.bool_]]]:
    """By seed: a digest of the texts, and whether the student was right about each, of a student's or a run's folder."""
    folders = [folder] if (folder / EVALUATION_FILE).is_file() else [folder / "student"]
    summary = read_seeds(folder)
    if summary is not None:
        folders += [folder / "seeds" / str(seed) for seed in summary["seeds"][1:]]
    answers = {}
    for each in folders:
        table = read_evaluation(each)
        config = read_stage(each / STAGE_FILE, "student")["config"]
        right = np.array(table["student_label"][:]) == np.array(table["gold"][:])
        answers[config["arguments"]["seed"]] = (config["eval_data"], right)
    return answers
