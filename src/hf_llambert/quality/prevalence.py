"""How common each label is in the pool, and the mean of a scale: what the student counts, put right by gold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from hf_llambert.intervals import wilson_interval
from hf_llambert.tasks.kinds import Choices

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


def label_prevalence(
    gold: Sequence[Sequence[int]],
    student: Sequence[Sequence[int]],
    counts: Sequence[int],
    size: int,
    labels: Sequence[str],
) -> dict[str, dict[str, float]]:
    """
    Share of the pool's texts of which each label holds, where several may, as [`class_prevalence`] has it for each.

    Args:
        gold (`Sequence[Sequence[int]]`): People's label ids of a random sample of texts.
        student (`Sequence[Sequence[int]]`): The student's of the same texts.
        counts (`Sequence[int]`): To how many texts of the pool the student gave each label.
        size (`int`): Texts in the pool.
        labels (`Sequence[str]`): Names of the labels.

    Returns:
        `dict`: By label `share`, `low` and `high`, and `counted`, the student's own share.

    Raises:
        ValueError: Fewer than two texts with gold, lengths that differ, or counts that are none of `size` texts.
    """
    pool = np.asarray(counts, dtype=float)
    if len(pool) != len(labels) or size < 1 or (pool < 0).any() or (pool > size).any():
        raise ValueError(
            f"Expected how many of {size:,} texts were given each of the {len(labels)} labels, got {counts}."
        )
    _check_pairs(len(gold), len(student))
    question = Choices("labels", tuple(labels))
    truth, given = question.targets(gold) > 0, question.targets(student) > 0
    shares = pool / size
    return {
        name: {**_interval(truth[:, k], given[:, k], float(shares[k]), size), "counted": float(shares[k])}
        for k, name in enumerate(labels)
    }


def scale_mean(
    gold: ArrayLike, student: ArrayLike, counted: float, variance: float, size: int, bounds: tuple[float, float]
) -> dict[str, float]:
    """
    Mean of a scale over the pool, with a prediction-powered 95 % interval (PPI++; Angelopoulos, Duchi and Zrnic 2023, arXiv
    2311.01453): the student's mean, corrected by how far it is off on texts with gold, as far as it is worth it. It is
    Student's t of the gold rows and of one more that is half the scale off: none seen is not none. It takes gold texts that
    were **drawn at random from the pool**.

    Args:
        gold (`ArrayLike` of shape (rows,)): People's numbers of a random sample.
        student (`ArrayLike` of shape (rows,)): The student's of the same texts.
        counted (`float`): Mean of the student's numbers over the pool.
        variance (`float`): Their variance.
        size (`int`): Texts in the pool.
        bounds (`tuple[float, float]`): The ends of the scale.

    Returns:
        `dict`: `value`, `low`, `high`, and `counted`, the student's own mean.

    Raises:
        ValueError: Fewer than two gold rows, an empty pool or lengths that differ.
    """
    y, f = np.asarray(gold, dtype=float), np.asarray(student, dtype=float)
    _check_pairs(len(y), len(f))
    if size < 1:
        raise ValueError(f"Expected a pool of one text or more, got {size}.")
    n, trust = len(y), 0.0
    if variance > 0 and n > 2:
        trust = float(np.clip(np.cov(y, f)[0, 1] / ((1 + n / size) * variance), 0, 1))
    rest = y - trust * f
    value = trust * counted + float(rest.mean())
    unseen = np.concatenate([rest, rest.mean() + np.array([-0.5, 0.5]) * (bounds[1] - bounds[0])])
    spread = np.average((unseen - rest.mean()) ** 2, weights=[*np.ones(n), _PSEUDO, _PSEUDO])
    half = float(stdtrit(n - 1, 0.975) * np.sqrt(trust**2 * variance / size + spread / (n - 1)))
    value, low, high = (float(np.clip(one, *bounds)) for one in (value, value - half, value + half))
    return {"value": value, "low": low, "high": high, "counted": float(counted)}


def _check_pairs(gold: int, student: int) -> None:
    if gold != student:
        raise ValueError(f"Expected a student's answer for each of people's, got {student:,} for {gold:,}.")
    if gold < 2:
        raise ValueError(f"Prevalence takes two texts with people's answers or more, got {gold}.")


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
