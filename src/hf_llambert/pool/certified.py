"""Which threshold of a cascade can be certified: tests of a fixed sequence of hypotheses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, binom

GRID: tuple[float, ...] = (1.0, *expit(np.linspace(9.9, -4.95, 99)).tolist(), 0.0)
"""The thresholds that are tried, fixed beforehand. Even in the log-odds: a student's confidences crowd near 1."""

_MOST_ROWS = 1_000_000_000
_STARTS = (0, int(np.argmin(np.abs(np.array(GRID) - 0.9))))


@dataclass(frozen=True)
class Guarantee:
    """
    With `confidence`, labels are right with a probability of at least `target` where the teacher decides about rows with
    a student's confidence below `threshold`.

    Args:
        threshold (`float`): The least threshold that was certified. 0 asks nobody.
        target (`float`): The accuracy promised.
        confidence (`float`): Probability, over draws of gold rows, that the promise is kept.
        n (`int`): Gold rows it rests on.
        accuracy (`float`): Of the cascade on them, at this threshold.
        lower (`float`): Clopper and Pearson's one-sided lower bound of that accuracy.
        share_asked (`float`): Share of the gold rows below the threshold.
    """

    threshold: float
    target: float
    confidence: float
    n: int
    accuracy: float
    lower: float
    share_asked: float


def certified_right(
    sure: NDArray[np.float32],
    by_student: NDArray[np.bool_],
    by_teacher: NDArray[np.bool_],
    target: float,
    confidence: float,
    starts: Sequence[int] = _STARTS,
) -> Guarantee | str:
    """
    The guarantee of the least threshold that can be certified, or why none can.

    Args:
        sure (`NDArray` of shape (rows,)): The student's confidences.
        by_student (`NDArray` of the same shape): Whether the student is right.
        by_teacher (`NDArray` of the same shape): Whether the teacher is or, where it gives no answer, the student.
        target (`float`): The accuracy to promise.
        confidence (`float`): Probability, over draws of rows, that the promise is kept.
        starts (`Sequence[int]`, *optional*): Where walks down the grid begin, each with its share of the risk.
    """
    n = len(sure)
    right, asked = _on_grid(sure, by_student, by_teacher)
    certified = _last_certified(binom.sf(right - 1, n, target), 1 - confidence, starts)
    if certified is None:
        return _why_not(right, asked, n, target, confidence, starts)
    i, risk = certified
    k = int(right[i])
    lower = float(beta.ppf(risk, k, n - k + 1))
    return Guarantee(GRID[i], target, confidence, n, k / n, lower, int(asked[i]) / n)


def _on_grid(
    sure: NDArray[np.float32], student_right: NDArray[np.bool_], teacher_right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each threshold: rows that the cascade gets right, rows asked about."""
    order = np.argsort(sure)
    asked = np.searchsorted(sure[order], np.array(GRID, dtype=np.float32), side="left")
    by_teacher, by_student = (np.append(0, np.cumsum(right[order])) for right in (teacher_right, student_right))
    return by_teacher[asked] + by_student[-1] - by_student[asked], asked


def _last_certified(p_values: NDArray[np.float64], risk: float, starts: Sequence[int]) -> tuple[int, float] | None:
    """The last hypothesis of the grid that is rejected, and the chance of error that it was tested at."""
    found, left = None, 0.0
    for i, p in enumerate(p_values):
        left += risk / len(starts) if i in starts else 0.0
        if p <= left:
            found = (i, left)
        else:
            left = 0.0
    return found


def _why_not(
    right: NDArray[np.int64],
    asked: NDArray[np.int64],
    n: int,
    target: float,
    confidence: float,
    starts: Sequence[int],
) -> str:
    risk = (1 - confidence) / len(starts)
    tried = [f"{right[i] / n:.1%} with {asked[i]:,} asked about (threshold {GRID[i]:.2g})" for i in starts]
    accuracy = max(int(right[i]) for i in starts) / n
    rows = rows_needed(accuracy, target, risk)
    advice = (
        "Lower the target, or take a better teacher or student."
        if rows is None
        else f"At {accuracy:.1%} about {rows:,} gold rows would do. Bring more, or lower the target."
    )
    return (
        f"An accuracy of {target:.1%} cannot be promised with {confidence:.0%} confidence: of {n:,} gold rows the cascade gets "
        f"right {' and '.join(tried)}. {advice}"
    )


def rows_needed(accuracy: float, target: float, risk: float) -> int | None:
    """About how many gold rows certify `target` at the accuracy seen; `None` where none ever would, or over a billion."""
    if accuracy <= target:
        return None

    def enough(n: int) -> bool:
        return bool(binom.sf(math.floor(accuracy * n + 1e-9) - 1, n, target) <= risk)

    high = 1
    while not enough(high):
        high *= 2
        if high > _MOST_ROWS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
