"""What more labels are worth: the student's accuracy by the number of labels it learnt from, and a little beyond."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtri

from hf_llambert.data import write_whole
from hf_llambert.headline import MAIN
from hf_llambert.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from hf_llambert.training.trainer import StudentConfig

CURVE_FILE = "curve.json"
_EXPONENTS = np.linspace(0.1, 1.0, 19)
"""How fast errors fall with labels; learning curves of text classifiers lie between (Hestness et al. 2017, arXiv 1712.00409)."""

_DRAWS = {0.125: 3, 0.25: 3, 0.5: 2, 1.0: 1}
"""Students by their share of the labels: the small ones are cheap and vary most."""


def learning_curve(
    task: TaskSpec,
    student: str,
    run: str | Path,
    args: StudentConfig,
    data: Dataset,
    eval_data: Dataset,
    **kwargs: object,
) -> dict:
    """
    Train students on parts of the labels and note how accurate each is, in `run/curve.json`.

    Three draws of an eighth, three of a quarter, two of a half and all of them: nine students, in all
    three times the training of one. Interrupted, the same call goes on with the student it stopped at.

    Args:
        task (`TaskSpec`): The labels.
        student (`str`): Encoder to start from.
        run (`str` or `Path`): Folder of the run.
        args (`StudentConfig`): As the student itself is trained.
        data (`Dataset`): Rows with a `label`, silver or gold.
        eval_data (`Dataset`): Texts with gold labels, to measure on.
        kwargs: Further arguments of [`train_student`].

    Returns:
        `dict`: `sizes` and `accuracy` of each student, `n_eval`, and `n_train`, the rows of the one on all of them. See
        [`worth_of_labels`]. Of several questions, or of another kind, `questions` has by name `figure` (that of [`MAIN`]), its
        `values` (null where it has none) and `n_eval` in place of `accuracy` and `n_eval`.

    Raises:
        ValueError: Fewer than 32 labels.
    """
    from hf_llambert.training.train import train_student

    if len(data) < 32:
        raise ValueError(f"A learning curve takes 32 labels or more, got {len(data)}.")
    given = {**kwargs, "baseline": False}
    sizes, evals, found = [], list[dict](), {}
    for share, draws in _DRAWS.items():
        for draw in range(draws):
            rows = np.random.default_rng([args.seed, draw]).permutation(len(data))[: round(share * len(data))]
            mine = copy.copy(args)
            mine.seed = args.seed + draw
            folder = Path(run) / "curve" / f"{len(rows)}-{draw}"
            found = train_student(task, student, folder, mine, silver=data.select(rows), eval_data=eval_data, **given)  # type: ignore[arg-type]
            sizes.append(len(rows))
            evals.append(found["eval"])
            (folder / "model.safetensors").unlink(missing_ok=True)  # its figure is all that is needed
    curve = {"sizes": sizes, **_reached(task, evals), "n_train": found["train"]["n"]}
    if args.process_index == 0:
        write_whole(Path(run) / CURVE_FILE, json.dumps(curve, indent=2) + "\n")
    return curve


def _reached(task: TaskSpec, evals: Sequence[Mapping]) -> dict:
    """What the students of a curve reached, from their figures on gold."""
    out = {}
    for name, one in task.parts.items():
        of = [(found[name] if name else found) for found in evals if not name or name in found]
        figure = MAIN[one.question.kind]
        if len(of) == len(evals):
            values = [found.get(figure) for found in of]
            out[name or one.question.name] = {"figure": figure, "values": values, "n_eval": of[-1]["n"]}
    if not task.questions:
        (only,) = out.values()
        return {"accuracy": only["values"], "n_eval": only["n_eval"]}
    return {"questions": out}


def worth_of_labels(sizes: Sequence[int], accuracy: Sequence[float], more: int) -> dict:
    """
    How much accuracy `more` labels would bring, with a 95 % interval.

    Errors are taken to fall as a + b n^-c. For each c from 0.1 to 1, a and b are fitted by least squares; the interval is
    what some c allows (profile likelihood, F distribution), so that it counts the chance of training and of the texts
    measured on, and that c is not known.

    Args:
        sizes (`Sequence[int]`): Labels that each student learnt from.
        accuracy (`Sequence[float]`): Accuracy of each, from 0 to 1.
        more (`int`): Labels to add to the largest size; the further, the less can be said: at most as many again.

    Returns:
        `dict`: `labels` (the largest size), `more`, `gain` with `low` and `high` (shares: 0.01 is a point), and `sentence`.

    Raises:
        ValueError: Fewer than five students or three different sizes, or `more` out of range.
    """
    n, right = np.asarray(sizes, dtype=float), np.asarray(accuracy, dtype=float)
    if len(n) != len(right) or len(n) < 5 or len(np.unique(n)) < 3 or (n < 1).any() or not np.isfinite(right).all():
        raise ValueError(
            f"A learning curve takes five students or more of three sizes or more, each with its accuracy, got {len(n)} of "
            f"{len(np.unique(n))}."
        )
    most = int(n.max())
    if not 1 <= more <= most:
        raise ValueError(f"more must be from 1 to {most:,}, as many labels as there are; got {more:,}.")
    fits = [_fit(n, right, exponent, more) for exponent in _EXPONENTS]
    least = min(rest for _, _, rest in fits)
    freedom = len(n) - 3
    bound = least * (1 + fdtri(1, freedom, 0.95) / freedom)
    low, high = np.inf, -np.inf
    for gain, worth, rest in fits:
        if rest <= bound:
            half = float(np.sqrt((bound - rest) * worth))
            low, high = min(low, gain - half), max(high, gain + half)
    gain = next(gain for gain, _, rest in fits if rest == least)
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    said = f"another {more:,} labels on top of {most:,} are worth {100 * gain:+.1f} points ({interval})"
    if high < 0.005:
        said += ": next to nothing"
    elif low < 0 < high:
        said += ": too little, or too few texts measured on, to tell from nothing"
    return {
        "labels": most,
        "more": more,
        "gain": float(gain),
        "low": float(low),
        "high": float(high),
        "sentence": said,
    }


def _fit(n: NDArray[np.float64], right: ArrayLike, exponent: float, more: int) -> tuple[float, float, float]:
    """For one exponent: the gain, its variance in units of that of the rest, and the squares left over."""
    design = np.stack([np.ones_like(n), n**-exponent], axis=1)
    found, _, _, _ = np.linalg.lstsq(design, np.asarray(right), rcond=None)
    rest = float(((np.asarray(right) - design @ found) ** 2).sum())
    step = float((n.max() + more) ** -exponent - n.max() ** -exponent)
    worth = step**2 * float(np.linalg.inv(design.T @ design)[1, 1])
    return float(step * found[1]), worth, rest
