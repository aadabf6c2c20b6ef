"""How sure a figure is: 95 % intervals of shares, means and differences, and the p of Fisher's test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri, stdtrit


def wilson_interval(hits: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of `n` rows (Wilson 1927), from 0 to 1 where there are none; `n` may be no whole number."""
    if not n:
        return 0.0, 1.0
    z2 = float(ndtri(0.975)) ** 2
    share = hits / n
    centre, half = share + z2 / (2 * n), math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if hits <= 0 else max(0.0, low)), (1.0 if hits >= n else min(1.0, high))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """
    Mean and 95 % interval (Student's t) of a figure over seeds: mean, low, high. NaN bounds for a single value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike | float = 0.0, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """
    How much more often the first of two students is right, measured on the same texts: difference, low, high (95 %).

    Texts are resampled, and runs with them (Efron and Tibshirani 1993). With three runs or more the interval covers other
    texts and, roughly, other seeds; with one run it is about other texts only. Against 0 it is the interval of the first
    one's accuracy.

    Args:
        first (`ArrayLike` of shape (runs, texts)): Whether each text was labelled right, by run (seed).
        second (`ArrayLike` of the same shape, *optional*): The same of the other student; its runs are paired with the
            first one's. Defaults to 0.
        resamples (`int`, defaults to 2000): Bootstrap samples.
        seed (`int`, defaults to 0): Seed of the resampling.

    Raises:
        ValueError: The two do not cover the same texts.
    """
    right = np.atleast_2d(np.asarray(first, dtype=float))
    if np.ndim(second) and np.atleast_2d(np.asarray(second)).shape != right.shape:
        raise ValueError(
            f"Expected both students on the same texts in as many runs, got shapes {right.shape} and "
            f"{np.atleast_2d(np.asarray(second)).shape}."
        )
    difference = right - np.asarray(second, dtype=float)
    runs, texts = difference.shape
    random = np.random.default_rng(seed)
    means = [
        difference[random.integers(runs, size=runs)].mean(0)[random.integers(texts, size=texts)].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def row_draws(n: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """
    How often each of `n` rows is drawn, for each bootstrap sample (Efron and Tibshirani 1993): 1,000 samples of up to 10,000
    rows, fewer of more, never under 200. The same for the same seed.
    """
    random = np.random.default_rng(seed)
    for _ in range(int(np.clip(10_000_000 // n, 200, 1000))):
        yield np.bincount(random.integers(n, size=n), minlength=n)


def percentile_interval(values: ArrayLike) -> tuple[float | None, float | None]:
    """
    The 95 % interval of a figure from its values in bootstrap samples. None where they say nothing: all are alike, or the
    figure has no value in more than one of ten samples (NaN).
    """
    found = np.asarray(values, dtype=float)
    known = found[np.isfinite(found)]
    if len(known) < 0.9 * len(found) or not len(known) or np.ptp(known) < 1e-12:
        return None, None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def fisher_p(table: Sequence[Sequence[int]]) -> float:
    """
    Two-sided p of Fisher's exact test for a table of two by two counts, as `scipy.stats.fisher_exact`, in a tenth of its time:
    hundreds are tested.
    """
    (a, b), (c, d) = table
    hits = np.arange(max(0, a - d), min(a + b, a + c) + 1)
    log_p = -(gammaln(hits + 1) + gammaln(a + b - hits + 1) + gammaln(a + c - hits + 1) + gammaln(d - a + hits + 1))
    log_p -= log_p.max()
    p = np.exp(log_p)
    return float(p[p <= p[a - hits[0]] * (1 + 1e-7)].sum() / p.sum())
