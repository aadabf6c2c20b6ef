"""The order in which the rows of two sources are drawn, computed without the Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

_CHUNK = 65_536


@dataclass(frozen=True)
class MixPlan:
    """
    Which row is drawn when: row numbers of `[silver | gold]` by position in the training.

    Within a source every pass is a fresh seeded permutation of all its rows. How many draws are gold is given at some
    `edges` and goes evenly between them, in whole numbers, so that no rounding can lose or repeat a row.

    Args:
        num_silver (`int`): Rows of the first source.
        num_gold (`int`): Rows of the second.
        edges (`tuple[int, ...]`): Positions, rising from 0 to the draws of the whole training.
        gold (`tuple[int, ...]`): Gold draws before each edge.
        seed (`int`): Seed of the permutations.
    """

    num_silver: int
    num_gold: int
    edges: tuple[int, ...]
    gold: tuple[int, ...]
    seed: int

    @property
    def total(self) -> int:
        """Draws of the whole training."""
        return self.edges[-1]

    def gold_drawn(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gold draws before each position. Behind the end the last share goes on."""
        edges, gold = np.array(self.edges), np.array(self.gold)
        cell = np.clip(np.searchsorted(edges, positions, side="right") - 1, 0, len(edges) - 2)
        width, step = edges[cell + 1] - edges[cell], gold[cell + 1] - gold[cell]
        return gold[cell] + (positions - edges[cell]) * step // width

    def share(self, position: int) -> float:
        """Share of gold around a position."""
        cell = min(int(np.searchsorted(self.edges, position, side="right")), len(self.edges) - 1)
        return (self.gold[cell] - self.gold[cell - 1]) / (self.edges[cell] - self.edges[cell - 1])

    def rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """The row numbers drawn at positions `start` to `stop`."""
        positions = np.arange(start, stop + 1)
        before = self.gold_drawn(positions)
        is_gold = np.diff(before) > 0
        out = np.empty(stop - start, np.int64)
        out[is_gold] = self.num_silver + self._permuted(1, self.num_gold, before[:-1][is_gold])
        out[~is_gold] = self._permuted(0, self.num_silver, (positions - before)[:-1][~is_gold])
        return out

    def _permuted(self, source: int, size: int, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.empty_like(draws)
        for turn in np.unique(draws // size):
            now = draws // size == turn
            out[now] = _permutation(self.seed, source, int(turn), size)[draws[now] % size]
        return out


@lru_cache(maxsize=4)
def _permutation(seed: int, source: int, turn: int, size: int) -> NDArray[np.int32]:
    """The order of one pass over a source; the passes under way are kept."""
    return np.random.default_rng([seed, source, turn]).permutation(size).astype(np.int32)


class MixSampler(Sampler[int]):
    """
    The order of one epoch: as many draws as the concatenated dataset has rows.

    Args:
        plan (`MixPlan`): Which row is drawn when.
        lengths (`Sequence[int]`, *optional*): Length of each row. Within each window, and within each source, longer rows
            then come first, so that rows of like length share a batch and little is padding. Which source is drawn when,
            and how often each row is, stays the same.
        window (`int`, *optional*): Draws in a window.
    """

    def __init__(self, plan: MixPlan, lengths: Sequence[int] | None = None, window: int = _CHUNK) -> None:
        self.plan = plan
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.window = window
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; accelerate calls this too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.plan.num_silver + self.plan.num_gold

    def __iter__(self) -> Iterator[int]:
        start, stop = self.epoch * len(self), (self.epoch + 1) * len(self)
        while start < stop:
            end = min(start + self.window, stop)
            if start < self.plan.total < end:
                end = self.plan.total  # what comes behind the end of the training must not change places with it
            rows = self.plan.rows(start, end)
            if self.lengths is not None:
                for source in (rows < self.plan.num_silver, rows >= self.plan.num_silver):
                    mine = rows[source]
                    rows[source] = mine[np.argsort(-self.lengths[mine], kind="stable")]
            yield from rows.tolist()
            start = end
