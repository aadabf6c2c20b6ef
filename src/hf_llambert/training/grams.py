"""Words or characters, and those beside them, counted in columns of texts by Arrow and NumPy: no Python for each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from hf_llambert.tasks.scripts import SIGN
from hf_llambert.training.fast import pieces

Unit = Literal["words", "characters"]

LONGEST: Mapping[Unit, int] = {"words": 2, "characters": 4}
"""How many words or characters in a row are counted together at most."""
MOST_UNITS = 50_000
"""Different words, or characters, that are known."""
_BITS = 16  # of the number of a unit, in the number of a run of them
_WIDTH = 64  # bits of the number of a run
_BETWEEN_WORDS = r"[^\pL\pM\pN_]+"
_SPACES = r"\s+"
_WINDOW = 4096  # texts that are counted at once
_PRUNED = 2_000_000  # different runs in memory while they are counted
_LONGEST_WORD = 256  # bytes: what is longer is no word, and a few thousand of them would fill the memory


@dataclass(frozen=True)
class Grams:
    """
    What is counted in texts, in small letters: words and pairs of words, or runs of one to four characters.

    Args:
        unit (`"words"` or `"characters"`): What is counted.
        units (`pa.LargeStringArray`): The known words or characters, in the order of their features.
        runs (`Mapping[int, NDArray[np.int64]]`): The known runs of two units and more, by their length: ascending numbers,
            each made of those of its units. Their features follow those of the units.
        apart (`bool`, defaults to `False`): Whether each letter of a script without spaces is a word by itself, as in all that
            are fitted now. In students that are older a run of them is one word.
    """

    unit: Unit
    units: pa.LargeStringArray
    runs: Mapping[int, NDArray[np.int64]]
    apart: bool = False

    @property
    def size(self) -> int:
        """How many features."""
        return len(self.units) + sum(len(keys) for keys in self.runs.values())

    def fault_of_units(self) -> str | None:
        """What the units are not: what was expected, and what came; `None` where nothing is wrong."""
        names = self.units.to_pylist()
        different = len(set(names) - {""})
        if len(names) > MOST_UNITS or different < len(names):
            return (
                f"expected {MOST_UNITS:,} {self.unit} at most, none empty or twice, got {len(names):,}, {different:,} "
                f"different"
            )
        longer = [name for name in names if len(name) != 1] if self.unit == "characters" else []
        if longer:
            return f"expected characters, got {longer[0][:40]!r}"
        return None

    def fault_of_runs(self) -> str | None:
        """The same of the runs."""
        if set(self.runs) != set(range(2, LONGEST[self.unit] + 1)):
            return f"expected runs of 2 to {LONGEST[self.unit]} {self.unit}, got of {', '.join(map(str, self.runs)) or 'none'}"
        for length, keys in self.runs.items():
            if keys.dtype != np.int64 or keys.ndim != 1 or (keys[1:] <= keys[:-1]).any():
                return f"expected runs of {length} {self.unit} as ascending numbers, each once"
            parts = [(keys >> (_BITS * place)) & ((1 << _BITS) - 1) for place in range(length)]
            more = keys >> (_BITS * length) if length * _BITS < _WIDTH else keys[:0]
            if more.any() or any((part >= len(self.units)).any() for part in parts):
                return f"expected runs of {length} of the {len(self.units):,} {self.unit}, got some of others"
        return None

    @property
    def documents(self) -> str:
        """What is counted, for people."""
        return "words and pairs of words" if self.unit == "words" else "runs of one to four characters"

    def count(self, texts: pa.Array) -> sparse.csr_matrix:
        """How often each feature is in each text, float32 of shape (texts, features). Takes Arrow strings without nulls."""
        numbers, rows = self._numbers(texts)
        features, of = [numbers[numbers >= 0]], [rows[numbers >= 0]]
        first = len(self.units)
        for length, known in self.runs.items():
            keys, where = runs_of(numbers, rows, length)
            places = self._places[length].get_indexer(keys)
            features.append(places[places >= 0] + first)
            of.append(where[places >= 0])
            first += len(known)
        columns = np.concatenate(features).astype(np.int32)
        ones = np.ones(len(columns), dtype=np.float32)
        counts = sparse.coo_matrix((ones, (np.concatenate(of), columns)), shape=(len(texts), self.size))
        return counts.tocsc().tocsr()  # adds up what stands twice; half the time of sorting each row

    def _numbers(self, texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The number of each unit in its order, -1 for an unknown one, and which text it stands in."""
        units, rows = split_units(texts, self.unit, self.apart)
        if isinstance(units, pa.DictionaryArray):
            known = pc.fill_null(pc.index_in(units.dictionary, self.units), -1).to_numpy().astype(np.int64)
            return known[units.indices.to_numpy()], rows
        return self._of_characters[units], rows

    @cached_property
    def _places(self) -> Mapping[int, pd.Index]:
        """The known runs by their length, in tables that are whole before another thread can see them."""
        out = {length: pd.Index(known) for length, known in self.runs.items()}
        for table in out.values():
            table.get_indexer(table[:1])
        return out

    @cached_property
    def _of_characters(self) -> NDArray[np.int64]:
        """The number of each character of Unicode."""
        out = np.full(0x110000, -1, dtype=np.int64)
        out[_codes(self.units)] = np.arange(len(self.units))
        return out


def split_units(
    texts: pa.Array, unit: Unit, apart: bool = False
) -> tuple[pa.DictionaryArray | NDArray[np.uint32], NDArray[np.int32]]:
    """
    The units of texts, one behind the other, and which text each is of. Words are strings; characters are their codes, many
    spaces in a row being one. With `apart` each letter of a script without spaces is a word.
    """
    if unit == "words":
        return _words(texts, apart)
    small = pc.replace_substring_regex(_small(texts), _SPACES, " ")
    return _codes(small), np.repeat(np.arange(len(texts), dtype=np.int32), pc.utf8_length(small).to_numpy())


def _words(texts: pa.Array, apart: bool) -> tuple[pa.DictionaryArray, NDArray[np.int32]]:
    """As [`split_units`]. What stands between spaces is looked into once, however often it comes."""
    chunks = pc.split_pattern(texts, " ")
    coded = chunks.flatten().dictionary_encode()
    small = _small(coded.dictionary)
    parts = pc.split_pattern_regex(_apart(small) if apart else small, _BETWEEN_WORDS)
    words = parts.flatten()
    filled = pc.not_equal(words, "")  # nothing stands before a sign that begins a chunk
    names = words.filter(filled).dictionary_encode()
    of = np.repeat(np.arange(len(parts)), pc.list_value_length(parts).to_numpy())[
        filled.to_numpy(zero_copy_only=False)
    ]
    starts, places = np.searchsorted(of, np.arange(len(parts) + 1)), coded.indices.to_numpy()
    lengths = np.diff(starts)[places]
    first = lengths.cumsum() - lengths
    where = np.repeat(starts[places] - first, lengths) + np.arange(lengths.sum())
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), pc.list_value_length(chunks).to_numpy())
    numbers = pa.array(names.indices.to_numpy()[where])
    return pa.DictionaryArray.from_arrays(numbers, names.dictionary), np.repeat(rows, lengths)


def _apart(texts: pa.Array) -> pa.Array:
    """The same with spaces around each letter of a script that has none."""
    others = texts.filter(pc.invert(pc.string_is_ascii(texts)))
    if not pc.any(pc.match_substring_regex(others, SIGN)).as_py():
        return texts
    return pc.replace_substring_regex(texts, f"({SIGN})", r" \1 ")


def _small(texts: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.utf8_normalize(texts, "NFKC"))


def runs_of(
    numbers: NDArray[np.int64], rows: NDArray[np.int32], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Each run of so many known units in one text as a number, and which text it is of."""
    count = max(len(numbers) - length + 1, 0)
    keys, whole = np.zeros(count, dtype=np.int64), rows[:count] == rows[length - 1 :]
    for k in range(length):
        part = numbers[k : k + count]
        keys = (keys << _BITS) | part
        whole &= part >= 0
    return keys[whole], rows[:count][whole]


def fit_grams(texts: pa.ChunkedArray, unit: Unit, most: int) -> Grams:
    """
    The grams that are in most of the texts, in two of them at least where there are enough; of equally many the first in
    order. Words of more than 256 bytes are passed over. Memory is bounded by the number of features, whatever the texts.

    Args:
        texts (`pa.ChunkedArray`): Strings without nulls.
        unit (`"words"` or `"characters"`): What to count.
        most (`int`): Most features; units are half of them at most, and 50,000.
    """
    counted = _Counted()
    for part in windows(texts):
        units, rows = split_units(part, unit, apart=True)
        if isinstance(units, pa.DictionaryArray):
            numbers, names = units.indices.to_numpy().astype(np.int64), units.dictionary
            short = pc.less_equal(pc.binary_length(names), _LONGEST_WORD)
            counts = _in_texts(numbers, rows, len(names))[short.to_numpy(zero_copy_only=False)]
            counted.add(names.filter(short), counts)
        else:
            known, numbers = np.unique(units, return_inverse=True)
            names = pa.array([chr(code) for code in known], pa.large_string())
            counted.add(names, _in_texts(numbers, rows, len(names)))
    units = counted.commonest(min(most // 2, MOST_UNITS))
    grams = Grams(unit, units, {}, apart=True)
    runs = {}
    for length in range(2, LONGEST[unit] + 1):
        counted = _Counted()
        for part in windows(texts):
            keys, rows = runs_of(*grams._numbers(part), length)
            known, numbers = np.unique(keys, return_inverse=True)
            counted.add(pa.array(known), _in_texts(numbers, rows, len(known)))
        room = (most - len(units)) // (LONGEST[unit] - 1)
        runs[length] = np.sort(counted.commonest(room).to_numpy())
    return Grams(unit, units, runs, apart=True)


def windows(texts: pa.ChunkedArray) -> Iterator[pa.Array]:
    """What is read of the texts, in pieces small enough to be counted at once."""
    for start in range(0, len(texts), _WINDOW):
        yield from pieces(texts.slice(start, _WINDOW).combine_chunks(), _WINDOW)


class _Counted:
    """In how many texts each thing is."""

    def __init__(self) -> None:
        self._table: pa.Table | None = None
        self._texts = 0

    def add(self, things: pa.Array, counts: NDArray[np.int64]) -> None:
        """Add the counts of some texts."""
        new = pa.table({"thing": things, "count": counts})
        joined = new if self._table is None else pa.concat_tables([self._table, new])
        self._table = joined.group_by("thing").aggregate([("count", "sum")]).rename_columns(["thing", "count"])
        if self._table.num_rows > _PRUNED:
            self._table = _sorted(self._table).slice(0, _PRUNED // 2)

    def commonest(self, most: int) -> pa.Array:
        """Those in most texts, at least in two where any is."""
        table = _sorted(self._table)
        often = table.filter(pc.greater_equal(table["count"], 2))
        return (often if often.num_rows else table).slice(0, most)["thing"].combine_chunks()


def _sorted(table: pa.Table | None) -> pa.Table:
    if table is None:
        raise ValueError("There are no texts to count.")
    return table.sort_by([("count", "descending"), ("thing", "ascending")])


def _in_texts(numbers: NDArray[np.int64], rows: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """In how many texts each number is."""
    both = np.unique(rows.astype(np.int64) * max(size, 1) + numbers)
    return np.bincount(both % max(size, 1), minlength=size)


def _codes(texts: pa.Array) -> NDArray[np.uint32]:
    return np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
