"""Forecasts of what many texts will take, from a small sample: regressions on length, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.stats import t

from hf_llambert.intervals import wilson_interval

Estimate = dict[str, float]
"""`value` and the bounds of its 95 % interval, `low` and `high`."""


@dataclass(frozen=True)
class Moments:
    """
    Sums over the lengths of some texts, which may be too many to keep. A forecast needs no more of them.

    Args:
        n (`float`): How many texts.
        first (`float`): Sum of their lengths.
        second (`float`): Sum of their squared lengths.
    """

    n: float
    first: float
    second: float

    @classmethod
    def of(cls, lengths: Sequence[int] | NDArray) -> Moments:
        """The moments of these lengths."""
        sizes = np.asarray(lengths, dtype=float)
        return cls(float(len(sizes)), float(sizes.sum()), float((sizes**2).sum()))

    def times(self, factor: float) -> Moments:
        """The moments of `factor` times as many texts of the same kind."""
        return Moments(self.n * factor, self.first * factor, self.second * factor)


class Forecast:
    """
    What a text takes (seconds or tokens) by its length: a + b·length + c·length², none of them negative, by least squares.

    The three terms are what a row costs, what a token costs, and what attention adds in long texts. The interval is by the
    jackknife over batches, whose rows share their time (Efron and Tibshirani 1993), with Student's t for few batches; it
    covers the chance of the sample and of the rest, not a machine that is busier later.

    Args:
        lengths (`Sequence[int]`): Length of each text of the sample.
        taken (`Sequence[float]`): What each took.
        batches (`Sequence[int]`, *optional*): Which texts were computed together, as numbers. Defaults to none.

    Raises:
        ValueError: There is nothing to learn from.
    """

    def __init__(self, lengths: Sequence[int], taken: Sequence[float], batches: Sequence[int] | None = None) -> None:
        if not len(lengths):
            raise ValueError("A forecast needs a text at least that was answered, got none.")
        sizes, y = np.asarray(lengths, dtype=float), np.asarray(taken, dtype=float)
        self._unit = max(float(sizes.mean()), 1.0)
        x = _design(sizes / self._unit)
        self._coefficients = _fit(x, y)
        groups = np.arange(len(y)) if batches is None else np.unique(np.asarray(batches), return_inverse=True)[1]
        members = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)]
        self.batches = len(members)
        residual = y - x @ self._coefficients
        # Rows of one batch are off together, so their errors add up.
        self._row_variance = float(np.mean([residual[rows].sum() ** 2 / len(rows) for rows in members]))
        without = [np.flatnonzero(groups != g) for g in range(self.batches)] if self.batches > 1 else []
        self._without = np.array([_fit(x[rows], y[rows]) for rows in without])

    def total(self, texts: Moments) -> Estimate:
        """What so many texts of such lengths take together."""
        z = np.array([texts.n, texts.first / self._unit, texts.second / self._unit**2])
        value = float(z @ self._coefficients)
        if self.batches < 2:
            return {"value": value, "low": value, "high": value}
        variance = np.var(self._without @ z) * (self.batches - 1) + self._row_variance * texts.n
        half = float(t.ppf(0.975, self.batches - 1) * np.sqrt(variance))
        return {"value": value, "low": max(value - half, 0.0), "high": value + half}


def _design(z: NDArray) -> NDArray:
    return np.stack([np.ones_like(z), z, z**2], 1)


def _fit(x: NDArray, y: NDArray) -> NDArray:
    """Coefficients of 0 or more (Lawson and Hanson 1974), scaled so that they give the sample's own total."""
    found = nnls(x, y)[0]
    total = float((x @ found).sum())
    return found * (float(y.sum()) / total) if total > 0 else found


def share(count: int, of: int) -> Estimate | None:
    """A share with its Wilson interval; `None` where `of` is 0."""
    if not of:
        return None
    low, high = wilson_interval(count, of)
    return {"value": count / of, "low": low, "high": high, "n": of}


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """An estimate in another unit."""
    return {name: value * factor for name, value in estimate.items()}


def summed(parts: Sequence[Estimate]) -> Estimate:
    """A sum of estimates. Its bounds are the sums of theirs: never too narrow."""
    return {name: float(sum(part[name] for part in parts)) for name in ("value", "low", "high")}


def mean_estimate(values: ArrayLike) -> Estimate:
    """A mean with its interval by Student's t; of a single value there is none, and the bounds are the value."""
    found = np.asarray(values, dtype=float)
    mean = float(found.mean())
    n = len(found)
    half = float(t.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return {"value": mean, "low": max(mean - half, 0.0), "high": mean + half}


def break_even(fixed: Estimate, teacher: Estimate, student: Estimate) -> Estimate | None:
    """
    The number of texts from which on the fixed cost of a student is earned back; `None` when it never is.

    Args:
        fixed (`dict`): What annotating and training cost.
        teacher (`dict`): What the teacher costs for one text.
        student (`dict`): What the student costs for one text.
    """
    gain = teacher["value"] - student["value"]
    if gain <= 0:
        return None
    least, most = teacher["high"] - student["low"], teacher["low"] - student["high"]
    found = {"value": fixed["value"] / gain, "low": fixed["low"] / least}
    return found | {"high": fixed["high"] / most} if most > 0 else found
