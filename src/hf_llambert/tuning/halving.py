"""The statistics of a comparison: how many rows each round has, who goes on, and how sure the choice is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

_FIRST = 20  # rows of the first round
_FINALISTS = 4
_RESAMPLES = 4_000


@dataclass(frozen=True)
class Round:
    """
    A round of successive halving.

    Args:
        rows (`int`): How many rows each prompt of this round has been asked about at its end.
        prompts (`int`): How many prompts take part.
        fresh (`int`, defaults to 0): How many of these join in this round: the better wordings with worked examples.
    """

    rows: int
    prompts: int
    fresh: int = 0


def rounds(wordings: int, sets: int, rows: int) -> list[Round]:
    """
    The rounds of successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943). First all wordings, without worked
    examples; then the best third, alone and with each set of examples; then each round has half the prompts of the one before
    and twice the rows. The last has all rows.

    Args:
        wordings (`int`): Wordings.
        sets (`int`): Sets of worked examples.
        rows (`int`): Rows that there are.
    """
    found = [Round(min(_FIRST, rows), wordings)]
    if sets:
        kept = min(wordings, max(_FINALISTS, -(-wordings // 3)))
        found.append(Round(found[0].rows, kept * (1 + sets), kept * sets))
    while found[-1].rows < rows:
        last = found[-1]
        left = max(min(_FINALISTS, last.prompts), (last.prompts + 1) // 2)
        twice = last.rows * 2
        found.append(Round(rows if left <= _FINALISTS or twice > rows else twice, left))
    return found


def most_requests(plan: Sequence[Round]) -> int:
    """How many requests all rounds take at most."""
    before = [0, *(one.rows for one in plan)]
    return sum(
        (one.prompts - one.fresh) * (one.rows - had) + one.fresh * one.rows
        for one, had in zip(plan, before, strict=False)
    )


def spread(classes: Sequence[object], seed: int) -> list[int]:
    """
    An order of rows in which every beginning has about the shares of the classes that all have: what a first round sees is
    like the whole.

    Args:
        classes (`Sequence`): The class of each row.
        seed (`int`): Of the order within each class.
    """
    random = np.random.default_rng(seed)
    places: dict[object, list[int]] = {}
    for row in random.permutation(len(classes)).tolist():
        places.setdefault(classes[row], []).append(row)
    at = [((k + 0.5) / len(rows), row) for rows in places.values() for k, row in enumerate(rows)]
    return [row for _, row in sorted(at)]


@dataclass(frozen=True)
class Choice:
    """
    What was chosen among ways of asking that were all measured on the same rows, and how sure that is.

    Args:
        best (`int`): Place of the way that is right most often.
        difference (`tuple[float, float, float]`): How much more often it is right than the first way: value, and the ends of
            the 95 % interval, on the rows that chose it.
        expected (`float`): What accuracy to expect of it on other rows: that of what is chosen on resampled rows, measured on
            the rows left out.
        gain (`tuple[float, float, float]`): How much more often than the first way it may be expected to be right on other
            rows; the interval is that of `difference`, moved as far.
        surely_best (`float`): Probability that none of the others is right more often.
        better (`float`): Probability that it is right more often than the first way.
    """

    best: int
    difference: tuple[float, float, float]
    expected: float
    gain: tuple[float, float, float]
    surely_best: float
    better: float


def choose(right: NDArray[np.bool_], tie: Sequence[float], seed: int = 0) -> Choice:
    """
    Choose the way that is right most often.

    The rows that choose flatter what they choose. `expected` corrects for that by choosing anew in bootstrap samples and
    measuring on the rows that a sample lacks (Tsamardinos, Greasidou and Borboudakis 2018, arXiv 1708.07180, BBC-CV).
    Probabilities are of the Bayesian bootstrap (Rubin 1981) over rows.

    Args:
        right (`NDArray` of shape (ways, rows)): Whether each way is right about each row. The first is the given one.
        tie (`Sequence[float]`): What decides between ways that are right equally often: the highest.
        seed (`int`, defaults to 0): Of the resampling.
    """
    hits = np.asarray(right, dtype=float)
    ways, rows = hits.shape
    order = np.lexsort((-np.arange(ways), np.asarray(tie, dtype=float), hits.mean(1)))
    best = int(order[-1])
    if hits[0].mean() >= hits[best].mean():
        best = 0  # nothing is gained by a change
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.ones(rows), _RESAMPLES)
    means = weights @ hits.T
    apart = means[:, best] - means[:, 0]
    others = np.delete(means, best, axis=1)
    surely = float((means[:, best] >= others.max(1) - 1e-12).mean()) if ways > 1 else 1.0
    expected, gain = _elsewhere(hits, np.asarray(tie, dtype=float), random)
    value = float((hits[best] - hits[0]).mean())
    low, high = (float(end) for end in np.quantile(apart, (0.025, 0.975)))
    return Choice(
        best,
        (value, low, high),
        expected,
        (gain, low + gain - value, high + gain - value),
        surely,
        float((apart > 1e-12).mean()),
    )


def _elsewhere(
    hits: NDArray[np.float64], tie: NDArray[np.float64], random: np.random.Generator
) -> tuple[float, float]:
    """Accuracy, and difference to the first way, of what is chosen in bootstrap samples, on the rows that these lack."""
    ways, rows = hits.shape
    rank = np.argsort(np.argsort(tie)) / (10 * ways * rows)  # decides ties only
    found = []
    for _ in range(_RESAMPLES // 2):
        drawn = random.integers(rows, size=rows)
        out = np.ones(rows, dtype=bool)
        out[drawn] = False
        if out.any():
            merit = hits[:, drawn].mean(1) + rank
            chosen = 0 if hits[0, drawn].mean() >= hits[:, drawn].mean(1).max() else int(merit.argmax())
            found.append((hits[chosen, out].mean(), (hits[chosen, out] - hits[0, out]).mean()))
    value, gain = np.array(found).mean(0) if found else (hits.mean(), 0.0)
    return float(value), float(gain)


def information(probabilities: NDArray[np.float64]) -> float:
    """
    How much an answer tells: the mutual information of text and label over its maximum (Sorensen et al. 2022, arXiv
    2203.11364). High where the teacher is sure of each text and yet says different labels of different texts.

    Args:
        probabilities (`NDArray` of shape (rows, labels)): Calibrated.
    """
    return float((_entropy(probabilities.mean(0)) - _entropy(probabilities).mean()) / np.log(probabilities.shape[1]))


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return -xlogy(probabilities, probabilities).sum(-1)


def agreement(labels: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, float]]:
    """
    How often each prompt agrees with the majority of the others, where that is not tied.

    Args:
        labels (`Mapping[str, Sequence[int]]`): Label ids of the same rows by prompt, -1 where there is none.
    """
    table = np.array(list(labels.values()))
    for place, name in enumerate(labels):
        others = np.delete(table, place, axis=0)
        votes = np.stack([(others == label).sum(0) for label in range(int(table.max(initial=0)) + 1)])
        clear = (votes == votes.max(0)).sum(0) == 1
        same = (votes.argmax(0) == table[place])[clear & (votes.max(0) > 0)]
        yield name, float(same.mean()) if len(same) else 0.0
