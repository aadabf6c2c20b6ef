"""How far a column of the data alone, such as the source of a text, foretells its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from hf_llambert.intervals import percentile_interval, row_draws
from hf_llambert.quality.slices import different_values, is_no_value
from hf_llambert.tasks.question import Question

LEAST_ROWS = 40
"""Rows without which nothing is said."""
GOLD = "gold"
"""Whose labels the others are compared with, where they are there."""
NO_VALUE, RARE = "(no value)", "(rare values)"
"""What rows without a value, and those with rare ones, are called together."""

_FOLDS = 10
_RARE = 10  # rows of a value that is looked at by itself
_AT_ONCE = 2_000_000  # numbers in memory


def foretold_by(
    values: Sequence[object], labels: Mapping[str, Sequence], question: Question, name: str = "column", seed: int = 0
) -> dict:
    """
    How far a column alone foretells each set of labels: the area under the ROC curve (AUC) of guessing by the value. 0.5 is
    chance. A teacher's or a student's AUC far above that of people's labels says that it looks at the source of a text more than
    people do.

    The guess for a row is how often the label holds among rows with its value in nine tenths of the data, of which the row is
    none (ten folds; a value that is not there is guessed at the mean of all). Only rows of one fold are compared, which were
    guessed alike, so the AUC of a column that says nothing is 0.5 on average, not more. Where there are more than two labels it
    is the mean over all of them, each against the others, weighted by how often they hold, as `average="weighted"` in
    scikit-learn; on a scale the share of pairs of rows with different numbers that are guessed in their order (concordance).
    Intervals (95 %) are of the bootstrap over rows, guesses made anew, all copies of a row in its fold; those of differences are
    of the same rows.

    Args:
        values (`Sequence`): The value of each row, 20 different at most. Rows without one (`None`, NaN) are a value of their
            own, and so are all values of fewer than ten rows together.
        labels (`Mapping[str, Sequence]`): Answers as gold has them by whose they are; people's are called `gold`. Rows that
            any of them lacks are left out of all.
        question (`Question`): What they answer.
        name (`str`, defaults to `"column"`): What to call the column in errors.
        seed (`int`, defaults to 0): Seed of the folds and of the bootstrap.

    Returns:
        `dict`: `n` rows and how many have each of the `values`; `foretold`, by whose labels `auc`, `low` and `high`;
        `less_gold`, by whose labels `difference` (AUC less that of gold), `low` and `high`; and `why`, where something could
        not be said, else `None`. What could not is `None` too.

    Raises:
        ValueError: Lengths differ, no labels were given, or the column has more than 20 values.
    """
    if not labels:
        raise ValueError("Expected the labels of at least one, such as {'teacher': [...]}, got none.")
    for who, given in labels.items():
        if len(given) != len(values):
            raise ValueError(
                f"Expected a label of '{who}' for each of {len(values):,} rows of '{name}', got {len(given):,}."
            )
    different_values(name, values)
    known = [k for k in range(len(values)) if all(question.is_answer(given[k]) for given in labels.values())]
    groups = _pooled([values[k] for k in known])
    nothing = {"auc": None, "low": None, "high": None}
    out: dict = {"n": len(known), "values": dict(sorted(Counter(groups).items())), "why": None}
    out |= {"foretold": {who: dict(nothing) for who in labels}, "less_gold": {}}
    if len(known) < LEAST_ROWS or len(out["values"]) < 2:
        few = len(known) < LEAST_ROWS
        found = f"{len(known):,} rows with all labels" if few else f"only {', '.join(out['values'])}"
        wanted = f"{LEAST_ROWS} rows or more" if few else "two values of ten rows or more each, rare ones together,"
        return out | {"why": f"To say how far '{name}' foretells labels takes {wanted}; there are {found}."}
    codes = np.unique(groups, return_inverse=True)[1]
    fold = np.random.default_rng(seed).permutation(len(known)) % _FOLDS
    drawn: dict[str, NDArray[np.float64]] = {}
    for who, given in labels.items():
        orders = question.orders([given[k] for k in known])
        auc = _auc(orders, codes, fold, seed)
        if np.isfinite(auc[0]):
            drawn[who] = auc
            low, high = percentile_interval(auc[1:])
            out["foretold"][who] = {"auc": float(auc[0]), "low": low, "high": high}
        else:
            out["why"] = f"All rows have one label of '{who}', so nothing foretells it."
    people = drawn.pop(GOLD, None)
    if people is not None:
        for who, auc in drawn.items():
            less = auc - people
            low, high = percentile_interval(less[1:])
            out["less_gold"][who] = {"difference": float(less[0]), "low": low, "high": high}
    return out


def _pooled(values: Sequence[object]) -> list[str]:
    names = [NO_VALUE if is_no_value(value) else str(value) for value in values]
    counts = Counter(names)
    return [name if counts[name] >= _RARE else RARE for name in names]


def _auc(orders: NDArray[np.float64], codes: NDArray, fold: NDArray, seed: int) -> NDArray[np.float64]:
    """The AUC of all rows, then that of each bootstrap sample; NaN where no two rows differ."""
    weights = (orders > orders.min(axis=0)).sum(axis=0)
    each = np.array([_concordance(y, codes, fold, seed) for y in orders.T[weights > 0]])
    if not len(each):
        return np.full(1, np.nan)
    known = np.isfinite(each)
    total = weights[weights > 0][:, None] * known
    with np.errstate(invalid="ignore"):
        return (np.where(known, each, 0) * total).sum(axis=0) / total.sum(axis=0)


def _concordance(y: NDArray[np.float64], codes: NDArray, fold: NDArray, seed: int) -> NDArray[np.float64]:
    """The share of pairs within folds that are guessed in their order, of all rows and of each bootstrap sample."""
    levels, level = np.unique(y, return_inverse=True)
    if len(levels) > 2:  # of the rows of each fold, which has fewer
        parts = [np.unique(y[fold == one], return_inverse=True) for one in range(_FOLDS)]
        levels = np.zeros((_FOLDS, max(len(part[0]) for part in parts)))
        for one, (own, numbers) in enumerate(parts):
            levels[one, : len(own)] = own
            level[fold == one] = numbers
    shape = (_FOLDS, levels.shape[-1], int(codes.max()) + 1)
    place = np.ravel_multi_index((fold, level, codes), shape)
    size = int(np.prod(shape))
    draws, found = row_draws(len(y), seed), [_shares(np.bincount(place, minlength=size).reshape(1, *shape), levels)]
    some: list[NDArray]
    while some := list(_counted(islice(draws, max(_AT_ONCE // size, 1)), place, size)):
        found.append(_shares(np.array(some).reshape(-1, *shape), levels))
    return np.concatenate(found)


def _counted(draws: Iterator[NDArray], place: NDArray, size: int) -> Iterator[NDArray]:
    for draw in draws:
        yield np.bincount(place, weights=draw, minlength=size)


def _shares(counts: NDArray, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Of counts of shape (samples, folds, levels, values): of pairs of rows of a fold and of different levels those that are
    guessed in their order, ties as halves.
    """
    sums, rows = (counts * levels[..., None]).sum(axis=2), counts.sum(axis=2)
    sums, rows = sums.sum(axis=1, keepdims=True) - sums, rows.sum(axis=1, keepdims=True) - rows  # of the other folds
    with np.errstate(invalid="ignore"):
        mean = sums.sum(axis=-1, keepdims=True) / rows.sum(axis=-1, keepdims=True)
        guess = ((sums + mean) / (rows + 1)).round(12)  # one row more at the mean of all
    higher = np.sign(guess[..., :, None] - guess[..., None, :]) / 2 + 0.5
    lower = np.cumsum(counts, axis=2, dtype=float) - counts
    pairs = np.swapaxes(counts, -1, -2) @ lower
    with np.errstate(invalid="ignore"):
        return (pairs * higher).sum(axis=(1, 2, 3)) / pairs.sum(axis=(1, 2, 3))
