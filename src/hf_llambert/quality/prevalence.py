"""How common each class is in the pool: the student's count, put right by gold labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

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
    many rows as would vary so much, with Student's t for few. It takes gold texts that were **drawn at random from the
    pool**; gold of another kind makes it wrong, which [`measure_drift`] shows.

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
    rest = y - trust * f
    share = trust * counted + rest.mean()
    unseen = np.concatenate([rest, rest.mean() + np.array([-1.0, 1.0])])
    weight = np.concatenate([np.ones(n), [_PSEUDO, _PSEUDO]])
    variance = trust**2 * spread / size + np.average((unseen - rest.mean()) ** 2, weights=weight) / n
    return {"share": float(np.clip(share, 0, 1)), **_wilson(float(np.clip(share, 0, 1)), variance, n)}


def _wilson(share: float, variance: float, n: int) -> dict[str, float]:
    """Wilson's interval of a share that varies as one of `rows` rows does."""
    # A share of 0 or 1 seems not to vary; as in Wilson's centre, two rows more of each kind.
    inner = (share * n + 2) / (n + 4)
    rows = max(inner * (1 - inner) / variance, 1.0)
    z = float(t.ppf(0.975, max(n - 1, 1)))
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return {"low": float(max(centre - half, 0.0)), "high": float(min(centre + half, 1.0))}
