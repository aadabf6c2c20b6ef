"""Above which probability a label holds, where several may."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EXPECTED = 10.0
"""Rows with a label that the student's own probabilities count as, beside those of people."""
_LEAST = 0.05
"""Below it a label does not hold: its F1 would be under 0.1 at best, and it would be given to every other text."""


def best_thresholds(probabilities: NDArray[np.float64], holds: NDArray[np.bool_]) -> list[float]:
    """
    For each label the threshold of the best F1; one half for a label that never holds.

    Args:
        probabilities (`NDArray` of shape (rows, labels)): Those of rows that the student has not learnt from.
        holds (`NDArray` of the same shape): Whether each label holds.

    Returns:
        `list[float]`: Probabilities, from 0.05 to 1; a label holds above them.

    Raises:
        ValueError: A probability is no number (NaN).
    """
    if lost := int(np.isnan(probabilities).any(1).sum()):
        raise ValueError(
            f"Expected probabilities, got none (NaN) in {lost:,} of {len(probabilities):,} rows. Leave these rows out, or train "
            f"the student with a smaller learning rate."
        )
    return [_best(p, y) for p, y in zip(probabilities.T, holds.T, strict=True)]


def _best(p: NDArray[np.float64], holds: NDArray[np.bool_]) -> float:
    if not holds.any():
        return 0.5
    order = np.argsort(-p, kind="stable")
    p, y = p[order], holds[order].astype(float)
    weight = _EXPECTED / max(p.sum(), 1e-9)
    hits = np.cumsum(y) + weight * np.cumsum(p)
    said = np.arange(1, len(p) + 1) * (1 + weight)
    f1 = 2 * hits / (said + y.sum() + weight * p.sum())
    ends = np.append(p[:-1] > p[1:], True)  # equals are on one side
    best = int(np.where(ends & (p > _LEAST), f1, -1).argmax())
    below = p[best + 1] if best + 1 < len(p) else 0.0
    return max(float((p[best] + below) / 2), _LEAST)
