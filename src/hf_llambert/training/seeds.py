"""One student by several seeds."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_llambert.data import write_whole
from hf_llambert.intervals import mean_interval
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.compared import SEEDS_FILE, training_digest
from hf_llambert.training.train import train_student
from hf_llambert.training.trainer import StudentConfig

FIGURES: Mapping[str, Sequence[str]] = {
    "choice": ("accuracy", "macro_f1"),
    "choices": ("micro_f1", "macro_f1", "subset_accuracy"),
    "scale": ("spearman", "pearson", "mae"),
}
"""The figures of each kind that are told over seeds."""
_SIGNED = ("spearman", "pearson")


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
        kwargs: Further arguments of [`train_student`], `eval_data` among them. A linear student is fitted beside the first
            seed's alone.

    Returns:
        `dict`: `seeds`, and `accuracy` and `macro_f1` with `values`, `mean`, and the 95 % interval `low`, `high` of the mean
        over seeds (two seeds say next to nothing); also written to `run/seeds.json`. Of several questions, or another kind
        than `choice`, `questions` has such figures by the question's name; those without a value for some seed are left out.

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
        given = kwargs if seed == args.seed else {**kwargs, "baseline": False}
        found.append(train_student(task, student, folder, mine, **given)["eval"])  # type: ignore[arg-type]
    summary: dict = {"seeds": list(range(args.seed, args.seed + seeds))}
    parts = {name: part.question for name, part in task.parts.items()}
    each = {name: [result[name] if name else result for result in found] for name in parts if name in (*found[0], "")}
    summary["n"] = max(results[0]["n"] for results in each.values())
    spreads = {name: _spreads(results, FIGURES[parts[name].kind]) for name, results in each.items()}
    if task.is_plain:
        summary |= spreads[""]
    else:
        summary["questions"] = {parts[name].name: found for name, found in spreads.items()}
    summary["training"] = training_digest(run / "student")
    if args.process_index == 0:
        write_whole(run / SEEDS_FILE, json.dumps(summary, indent=2) + "\n")
    return summary


def _spreads(results: Sequence[Mapping], figures: Sequence[str]) -> dict[str, dict]:
    """Figures of one question over seeds: values, mean and its interval, within what the figure can be."""
    out = {}
    for figure in figures:
        values = [result[figure] for result in results]
        if None not in values:
            mean, low, high = mean_interval(values)
            least, most = (0.0, math.inf) if figure == "mae" else (-1.0 if figure in _SIGNED else 0.0, 1.0)
            out[figure] = {"values": values, "mean": mean, "low": max(low, least), "high": min(high, most)}
    return out
