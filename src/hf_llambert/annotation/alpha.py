"""Krippendorff's alpha: how far annotators, people or teachers, agree beyond chance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Answer = TypeVar("_Answer", bound=Hashable)


def krippendorff_alpha(units: Sequence[Sequence[int]], num_labels: int) -> float | None:
    """
    Krippendorff's alpha for names (nominal data): 1 is full agreement, 0 what chance would give.

    Args:
        units (`Sequence[Sequence[int]]`): The labels that each row was given, by however many reviewers.
        num_labels (`int`): Labels of the task; ids are below it.

    Returns:
        `float`: By the coincidence matrix of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability".
        `None` where it is not defined: only one label in all rows with two or more.
    """
    coincidences = np.zeros((num_labels, num_labels))
    for unit in units:
        if len(unit) > 1:
            counts = np.bincount(unit, minlength=num_labels).astype(float)
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(axis=0)
    n = totals.sum()
    by_chance = n**2 - (totals**2).sum()
    if not by_chance:
        return None
    return float(1 - (n - 1) * (n - np.trace(coincidences)) / by_chance)


def answers_alpha(units: Sequence[Sequence[_Answer]], apart: Callable[[_Answer, _Answer], float]) -> float | None:
    """
    Krippendorff's alpha for answers that are more or less alike.

    Args:
        units (`Sequence[Sequence]`): The answers that each row was given, by however many reviewers.
        apart (`Callable`): How far two different answers lie apart: for numbers (interval data) the square of their
            difference, which [`interval_alpha`] counts in one pass.

    Returns:
        `float`: As [`krippendorff_alpha`]. `None` where all answers in rows with two or more are the same.
    """
    given = [unit for unit in units if len(unit) > 1]
    kinds = {answer: i for i, answer in enumerate(dict.fromkeys(answer for unit in given for answer in unit))}
    distances = np.array([[0.0 if a == b else apart(a, b) for a in kinds] for b in kinds])
    coincidences = np.zeros((len(kinds), len(kinds)))
    for unit in given:
        counts = np.bincount([kinds[answer] for answer in unit], minlength=len(kinds)).astype(float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(axis=0)
    by_chance = float((np.outer(totals, totals) * distances).sum()) if kinds else 0.0
    if not by_chance:
        return None
    return float(1 - (totals.sum() - 1) * (coincidences * distances).sum() / by_chance)


def interval_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """
    Krippendorff's alpha for numbers (interval data): 1 is full agreement, 0 what chance would give.

    Args:
        units (`Sequence[Sequence[float]]`): The numbers that each row was given, by however many annotators.

    Returns:
        `float`: By squared differences, Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability". `None` where it is
        not defined: no two numbers in any row, or all of them equal.
    """
    shared = [np.asarray(unit, dtype=np.float64) for unit in units if len(unit) > 1]
    if not shared:
        return None
    every = np.concatenate(shared)
    expected = 2 * every.var() * len(every) / (len(every) - 1)
    observed = sum(2 * unit.var() * len(unit) ** 2 / (len(unit) - 1) for unit in shared) / len(every)
    return float(1 - observed / expected) if expected > 0 else None


def weighted_alphas(
    units: Sequence[Sequence[_Answer]], apart: Callable[[_Answer, _Answer], float], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """
    Krippendorff's alpha as [`answers_alpha`] has it, where each row counts as often as its weight says.

    Args:
        units (`Sequence[Sequence]`): The answers that each row was given.
        apart (`Callable`): How far two different answers lie apart.
        weights (`NDArray` of shape (samples, rows)): How often each row counts.

    Returns:
        `NDArray` of shape (samples,): NaN where it is not defined.
    """
    kinds = {answer: i for i, answer in enumerate(dict.fromkeys(answer for unit in units for answer in unit))}
    distances = np.array([[0.0 if a == b else apart(a, b) for a in kinds] for b in kinds]).reshape(len(kinds), -1)
    counts = np.array([np.bincount([kinds[a] for a in unit], minlength=len(kinds)) for unit in units], dtype=float)
    sizes = counts.sum(axis=1)
    counts, weights = counts[sizes > 1], weights[:, sizes > 1]
    observed = np.einsum("ui,ij,uj->u", counts, distances, counts) / (sizes[sizes > 1] - 1)
    totals = weights @ counts
    by_chance = np.einsum("si,ij,sj->s", totals, distances, totals)
    n = totals.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance > 0, 1 - (n - 1) * (weights @ observed) / by_chance, np.nan)
