"""How common each class is in the pool: the student's count, put right by gold labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hf_llambert.intervals import wilson_interval

_PSEUDO = 0.5
"""Rows by which the student is taken to have erred in each direction, beyond those seen: none seen is not none."""


def class_prevalence(
    gold: ArrayLike, student: ArrayLike, counts: Sequence[int], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """
    Share of each class in the pool, with prediction-powered 95 % intervals (PPI++; Angelopoulos, Duchi and Zrnic 2023, arXiv
    2311.01453).

    The student's count of the pool is corrected by how it errs on texts with gold labels, as far as the count is worth it
    (their lambda); so the interval holds whatever the student is like, and narrows the better it is. It is Wilson's, of as
    many rows as would vary so little: of the gold rows alone where the student says nothing. It takes gold texts that were
    **drawn at random from the pool**; gold of another kind makes it wrong, which [`measure_drift`] shows.

    Args:
        gold (`ArrayLike` of shape (rows,)): People's label ids of a random sample.
        student (`ArrayLike` of shape (rows,)): The student's label ids of the same texts.
        counts (`Sequence[int]`): How many texts of the pool the student gave each label.
        labels (`Sequence[str]`): Names of the labels.

    Returns:
        `dict`: By class `share`, `low` and `high`, and `counted`, the student's own share.

    Raises:
        ValueError: Fewer than two gold rows, an empty pool, lengths that differ, or ids that are none.
    """
    truth, given, pool = np.asarray(gold), np.asarray(student), np.asarray(counts, dtype=float)
    if truth.shape != given.shape or truth.ndim != 1:
        raise ValueError(f"Expected a student's label for each gold label, got {given.shape} for {truth.shape}.")
    if len(pool) != len(labels) or pool.sum() < 1 or (pool < 0).any():
        raise ValueError(f"Expected how often each of the {len(labels)} labels was given to the pool, got {counts}.")
    if len(truth) < 2:
        raise ValueError(f"Prevalence takes two gold labels or more, got {len(truth)}.")
    strange = sorted({*truth.tolist(), *given.tolist()} - set(range(len(labels))))
    if strange:
        raise ValueError(f"Expected label ids from 0 to {len(labels) - 1}, got {strange}.")
    shares = pool / pool.sum()
    return {
        name: {**_interval(truth == k, given == k, float(shares[k]), pool.sum()), "counted": float(shares[k])}
        for k, name in enumerate(labels)
    }


def _interval(truth: np.ndarray, given: np.ndarray, counted: float, size: float) -> dict[str, float]:
    n, y, f = len(truth), truth.astype(float), given.astype(float)
    spread = counted * (1 - counted)
    trust = 0.0
    if spread and n > 2:
        trust = float(np.clip(np.cov(y, f)[0, 1] / ((1 + n / size) * spread), 0, 1))

    def variance(trust: float) -> float:
        rest = y - trust * f
        unseen = np.concatenate([rest, rest.mean() + np.array([-1.0, 1.0])])
        weight = np.concatenate([np.ones(n), [_PSEUDO, _PSEUDO]])
        return float(trust**2 * spread / size + np.average((unseen - rest.mean()) ** 2, weights=weight) / n)

    share = float(np.clip(trust * counted + (y - trust * f).mean(), 0, 1))
    rows = n * variance(0.0) / variance(trust)
    low, high = wilson_interval(share * rows, rows)
    return {"share": share, "low": low, "high": high}
