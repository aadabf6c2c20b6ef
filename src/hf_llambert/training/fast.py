"""What all fast students share: they give logits of texts in Arrow columns, and are a few files without code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from hf_llambert.notes import damaged_note
from hf_llambert.tasks.texts import FIELD, HALF, why_unusable

LONGEST_TEXT = 1_000_000
"""Characters of a text that are read; what is behind them is not."""
_ROWS, _BYTES = 4096, 1 << 25  # that are computed at once
_SHOWN = 8  # arrays that an error names
_FEWEST = 256  # texts for which another thread is worth its while
_KEPT = (1 << 25) - (1 << 16)  # bytes: the largest array that glibc learns from


class FastModel(ABC):
    """A student that is no transformer: [`LinearModel`] or [`StaticModel`]."""

    kind: ClassVar[str]
    """What `training.json` calls it."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many logits a text has."""

    @abstractmethod
    def logits(self, texts: pa.Array) -> NDArray[np.float32]:
        """
        The logits of the student's heads, (texts, logits); each row depends on its own text only.

        Args:
            texts (`pa.Array`): Usable texts as Arrow strings without nulls. All of each is read.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model's files into a folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> FastModel:
        """
        Read what [`~FastModel.save`] wrote.

        Raises:
            OSError: A file is missing or damaged.
        """


def usable_strings(texts: Sequence[object] | pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The texts that can be read, as long Arrow strings without nulls, and their places; see [`why_unusable`]."""
    if not isinstance(texts, pa.Array):
        places = [i for i, text in enumerate(texts) if why_unusable(text) is None]
        return pa.array([str(texts[i]) for i in places], pa.large_string()), np.array(places, dtype=np.int64)
    strings = texts.cast(pa.large_string())
    whole = pc.and_not(pc.is_valid(strings), pc.match_substring(strings, HALF))
    filled = pc.greater(pc.binary_length(pc.utf8_trim_whitespace(pc.replace_substring(strings, FIELD, ""))), 0)
    usable = pc.fill_null(pc.and_(whole, filled), False)
    return strings.filter(usable), np.flatnonzero(usable.to_numpy(zero_copy_only=False))


def in_threads(logits: Callable[[pa.Array], NDArray[np.float32]], texts: pa.Array) -> NDArray[np.float32]:
    """The logits of texts, computed in pieces, on as many threads as PyTorch may use; at least one piece."""
    _keep_freed_memory()
    threads = max(min(torch.get_num_threads(), len(texts) // _FEWEST), 1)
    parts = list(pieces(texts, -(-len(texts) // threads)))
    if threads == 1 or len(parts) == 1:
        return np.concatenate([logits(part) for part in parts])
    with ThreadPoolExecutor(threads, thread_name_prefix="fast student") as pool:  # of its own: a fork may follow
        return np.concatenate(list(pool.map(logits, parts)))


@cache
def _keep_freed_memory() -> None:
    """
    Let arrays of a window be made of the memory of those before. glibc gives what is freed back to the system, which fills it
    with zeros when it is asked for again: a quarter of the time of a linear student. It keeps as much as twice the largest
    array that was freed, up to 32 MB; other allocators do not mind.
    """
    np.empty(_KEPT, np.uint8)


def pieces(texts: pa.Array, rows: int) -> Iterator[pa.Array]:
    """What is read of texts, in pieces of bounded rows and bytes; one at least."""
    if len(texts) and pc.max(pc.utf8_length(texts)).as_py() > LONGEST_TEXT:
        texts = pc.utf8_slice_codeunits(texts, 0, LONGEST_TEXT)
    ends, start = np.cumsum(pc.binary_length(texts).to_numpy()), 0
    while start < len(texts) or not start:
        limit = _BYTES + (ends[start - 1] if start else 0)
        stop = min(start + min(rows, _ROWS), max(int(np.searchsorted(ends, limit, "right")), start + 1))
        yield texts.slice(start, stop - start)
        start = max(stop, 1)


def read_arrays(path: Path, advice: str | None = None) -> dict[str, NDArray]:
    """The arrays of a safetensors file. Raises `OSError` where it is not there, or damaged, or has types of no arrays."""
    try:
        return load_file(path)
    except (SafetensorError, TypeError, AttributeError, ValueError) as error:  # the last ones: bfloat16 and the like
        raise damaged_note(path, error, advice) from error


def shapes_of(arrays: Mapping[str, NDArray]) -> str:
    """What a file holds, for an error."""
    shown = [f"{name[:40]} {array.dtype} {array.shape}" for name, array in sorted(arrays.items())]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "") or "nothing"


def are_finite(*arrays: NDArray) -> bool:
    """Whether all numbers are finite float32."""
    return all(array.dtype == np.float32 and bool(np.isfinite(array).all()) for array in arrays)
