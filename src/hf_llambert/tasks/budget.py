"""Batches within a budget of tokens that halves when memory runs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.texts import length_batches

T = TypeVar("T")
logger = get_logger(__name__)


class TokenBudget:
    """The most padded tokens of a batch of one model. Halved when memory runs out, for the rest of the process."""

    def __init__(self) -> None:
        self._most = 2**31

    def compute(
        self, lengths: Sequence[int], batch_tokens: int, work: Callable[[list[int]], T]
    ) -> Iterator[tuple[list[int], T | None]]:
        """
        Work on batches of similar length, the longest rows first. One that does not fit in memory is cut and tried again;
        the first time a warning says so.

        Args:
            lengths (`Sequence[int]`): Tokens of each row.
            batch_tokens (`int`): Largest padded tokens of a batch, as long as memory allows.
            work (`Callable`): Takes row numbers and returns their result.

        Yields:
            `tuple[list[int], T | None]`: Row numbers and their result, `None` for a single row that does not fit.
        """
        batches = deque(length_batches(lengths, min(batch_tokens, self._most)))
        while batches:
            batch = batches.popleft()
            done: T | None = None
            fits = True
            try:
                done = work(batch)
            except RuntimeError as error:
                if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                    raise
                fits = False
            if not fits:  # outside of except, where the error would keep the tensors alive
                clear_device_cache(garbage_collection=True)
            if fits or len(batch) == 1:
                yield batch, done
                continue
            first, self._most = self._most == 2**31, max(len(batch) * lengths[batch[0]] // 2, 1)
            if first:
                logger.warning(
                    "Out of memory: batches have at most %d tokens from here on. Pass batch_tokens=%d or less.",
                    self._most,
                    self._most,
                )
            rest = [row for part in (batch, *batches) for row in part]
            parts = length_batches([lengths[row] for row in rest], min(batch_tokens, self._most))
            batches = deque([rest[k] for k in part] for part in parts)
