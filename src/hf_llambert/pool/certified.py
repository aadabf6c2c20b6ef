"""Which threshold of a cascade can be certified: tests of a fixed sequence of hypotheses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, binom

from hf_llambert.pool.promise import Guarantee, Promise

GRID: tuple[float, ...] = (1.0, *expit(np.linspace(9.9, -4.95, 99)).tolist(), 0.0)
"""The thresholds that are tried, fixed beforehand. Even in the log-odds: a student's confidences crowd near 1."""

_MOST_ROWS = 1_000_000_000
STARTS = (0, int(np.argmin(np.abs(np.array(GRID) - 0.9))))
"""Where walks begin: from everything asked and, for a teacher that falls short by itself, from 0.9."""
TOP = (0,)
"""Where they begin where everything asked is right by construction."""


Counted = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Of each row: whether it is one of those that the promise is of, and whether it is and its label is right."""


def certified_right(
    sure: NDArray[np.float32],
    by_student: NDArray[np.bool_],
    by_teacher: NDArray[np.bool_],
    promise: Promise,
    starts: Sequence[int] = STARTS,
) -> Guarantee | str:
    """As [`certified_share`] of all rows, from whether the student, and whether the teacher, is right about each."""
    every = np.ones_like(by_student)
    return certified_share(sure, (every, by_student), (every, by_teacher), promise, starts)


def certified_share(
    sure: NDArray[np.float32],
    by_student: Counted,
    by_teacher: Counted,
    promise: Promise,
    starts: Sequence[int] = STARTS,
) -> Guarantee | str:
    """
    The guarantee of the least threshold that can be certified, or why none can.

    Which rows the promise is of may depend on who decides about them, and so on the threshold: those that the cascade gives a
    label, where its precision is promised. Each test stays exact. At a threshold fixed beforehand, rows drawn independently
    fall into "the cascade says LABEL" independently of each other; given how many do, the number of right ones among them is
    binomial with the true precision. So its p-value is valid given that number, hence on average over it, and a fixed sequence
    needs no more: it stops at the first hypothesis that is not rejected, however the tests hang together. (The recall of a
    label is the simpler case: its rows, those that are LABEL in truth, are the same at every threshold.)

    Args:
        sure (`NDArray` of shape (rows,)): The student's confidences.
        by_student (`Counted`): Where the student decides: which rows count, and which count and are right.
        by_teacher (`Counted`): The same where the teacher does (or, where it gives no answer, the student).
        promise (`Promise`): What is to be promised.
        starts (`Sequence[int]`, *optional*): Where walks down the grid begin, each with its share of the risk.
    """
    order = np.argsort(sure)
    asked = np.searchsorted(sure[order], np.array(GRID, dtype=np.float32), side="left")
    counted, right = (
        _on_grid(asked, student[order], teacher[order])
        for student, teacher in zip(by_student, by_teacher, strict=True)
    )
    risk = 1 - promise.confidence
    certified = _last_certified(binom.sf(right - 1, counted, promise.target), risk, starts)
    if certified is None:
        return _why_not(right, counted, asked, len(sure), promise, starts)
    i, risk = certified
    k, n = int(right[i]), int(counted[i])
    return Guarantee(
        threshold=GRID[i],
        target=promise.target,
        confidence=promise.confidence,
        n=n,
        share=k / n,
        lower=float(beta.ppf(risk, k, n - k + 1)),
        share_asked=int(asked[i]) / len(sure),
        n_rows=len(sure),
        against=promise.against,
        of=promise.of,
    )


def _on_grid(asked: NDArray[np.int64], student: NDArray[np.bool_], teacher: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each threshold how many rows, the least sure first, are so where so many are asked about."""
    by_teacher, by_student = (np.append(0, np.cumsum(rows)) for rows in (teacher, student))
    return by_teacher[asked] + by_student[-1] - by_student[asked]


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
    counted: NDArray[np.int64],
    asked: NDArray[np.int64],
    drawn: int,
    promise: Promise,
    starts: Sequence[int],
) -> str:
    risk = (1 - promise.confidence) / len(starts)
    shares = [int(right[i]) / max(int(counted[i]), 1) for i in starts]
    share, n = max(zip(shares, (int(counted[i]) for i in starts), strict=True))
    named, rows = promise.named(), promise.rows()
    said = f"{named[0].upper()}{named[1:]} cannot be promised with {100 * promise.confidence:g}% confidence"
    if not any(int(counted[i]) for i in starts):
        least = rows_needed(1.0, promise.target, risk)
        more = "Bring more" if promise.against == "gold" else "Draw more"
        return f"{said}: of {drawn:,} rows none are {rows}, and {least:,} are needed even if all are right. {more}."
    at = [f"{asked[i]:,} asked about (threshold {GRID[i]:.2g})" for i in starts]
    if promise.measure == "precision":  # another number of rows at each threshold
        of = f"of the {rows} these are right:"
        tried = [f"{one:.1%} of {counted[i]:,} with {how}" for i, one, how in zip(starts, shares, at, strict=True)]
    else:
        of = f"of {n:,} {rows} the cascade gets right"
        tried = [f"{one:.1%} with {how}" for one, how in zip(shares, at, strict=True)]
    needed = rows_needed(share, promise.target, risk)
    if needed is None:
        advice = "Lower the target, or take a better teacher or student."
        if promise.against != "gold":
            advice = "Lower the target, or take a better student."
    else:
        such = "" if not promise.of else f", some {math.ceil(needed * drawn / n):,} drawn in all"
        more = "Bring" if promise.against == "gold" else "Draw"
        advice = f"At {share:.1%} about {needed:,} {rows} would do{such}. {more} more, or lower the target."
    return f"{said}: {of} {' and '.join(tried)}. {advice}"


def rows_needed(accuracy: float, target: float, risk: float) -> int | None:
    """About how many rows certify `target` at the accuracy seen; `None` where none ever would, or over a billion."""
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
