"""One student by several seeds, and the comparison of two variants on the same texts."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_llambert.data import STAGE_FILE
from hf_llambert.metrics import mean_interval, paired_bootstrap
from hf_llambert.tasks import TaskSpec
from hf_llambert.training.train import EVALUATION_FILE, train_student
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
        over seeds; also written to `run/seeds.json`.

    Raises:
        ValueError: Fewer than two seeds, or no `eval_data` to measure on.
    """
    if seeds < 2 or kwargs.get("eval_data") is None:
        raise ValueError(f"Seeds are compared on eval_data, and at least 2 of them; got {seeds} seeds.")
    run, found = Path(run), []
    for seed in range(args.seed, args.seed + seeds):
        mine = copy.copy(args)
        mine.seed = seed
        mine.output_dir = str(Path(str(args.output_dir)) / f"seed-{seed}")
        folder = run / "student" if seed == args.seed else run / "seeds" / str(seed)
        found.append(train_student(task, student, folder, mine, **kwargs)["eval"])  # type: ignore[arg-type]
    summary: dict = {"seeds": list(range(args.seed, args.seed + seeds)), "n": found[0]["n"]}
    for figure in ("accuracy", "macro_f1"):
        values = [result[figure] for result in found]
        summary[figure] = dict(zip(("values", "mean", "low", "high"), (values, *mean_interval(values)), strict=True))
    if args.process_index == 0:
        (run / SEEDS_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
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
    (right, texts), (other_right, other_texts) = _answers(Path(first)), _answers(Path(second))
    if texts != other_texts:
        raise ValueError(
            f"'{first}' and '{second}' were not measured on the same texts ({right.shape[1]:,} and "
            f"{other_right.shape[1]:,}). Train both with the same eval_data."
        )
    runs = min(len(right), len(other_right))
    difference, low, high = paired_bootstrap(right[:runs], other_right[:runs])
    return {"difference": difference, "low": low, "high": high, "runs": runs, "n": right.shape[1]}


def _answers(folder: Path) -> tuple[NDArray[np.bool_], str]:
    """Whether each student of a folder was right about each text, (seeds, texts), and a digest of the texts."""
    folders = [folder] if (folder / EVALUATION_FILE).is_file() else [folder / "student"]
    if (folder / SEEDS_FILE).is_file():
        _, *others = json.loads((folder / SEEDS_FILE).read_text(encoding="utf-8"))["seeds"]
        folders += [folder / "seeds" / str(seed) for seed in others]
    right, texts = [], ""
    for each in folders:
        if not (each / EVALUATION_FILE).is_file():
            raise FileNotFoundError(f"'{each}' has no {EVALUATION_FILE}. Train it with eval_data (--eval_data).")
        table = Dataset.from_parquet(str(each / EVALUATION_FILE))
        right.append(np.array(table["student_label"][:]) == np.array(table["gold"][:]))
        texts = json.loads((each / STAGE_FILE).read_text(encoding="utf-8"))["config"]["eval_data"]
    return np.array(right), texts
