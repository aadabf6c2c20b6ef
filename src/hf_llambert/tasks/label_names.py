"""Which label a single value names, however it is spelled: case, blanks, dashes, numbers, common abbreviations."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import TypeVar

from hf_llambert.tasks.names import DASHES

_Key = TypeVar("_Key")
_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})")
# A number that a name begins with, and that is no end of a range ("18-64"), of a fraction or of a longer number.
_BEGUN = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,9})?)(?![\w.,/]|\s?(?:-|to\b|bis\b|à\b)\s?\d)(?=\W)")
_DASH = re.compile(rf"[{DASHES}]".replace("\u00ad", ""))
_HUGE = 400  # digits: no label's number is longer, and a decimal's exponent may be
_FLOAT64_DIGITS = 9  # a float of fewer digits was not rounded from a shorter one
# What words that begin a label are commonly cut to.
_SHORT = {
    "positive": "pos posit",
    "negative": "neg negat",
    "neutral": "neu neut neutr",
    "entailment": "ent entail",
    "contradiction": "con cont contr contra contrad contradict",
    "objective": "obj",
    "subjective": "subj",
    "relevant": "rel",
    "irrelevant": "irr irrel",
    "duplicate": "dup dupl",
    "mathematics": "math maths",
    "technology": "tech",
    "information": "info",
    "positiv": "pos",
    "positivo": "pos",
    "positif": "pos",
    "positief": "pos",
    "negativ": "neg",
    "negativo": "neg",
    "negatief": "neg",
    "neutro": "neu neut",
    "neutre": "neu neut",
    "neutraal": "neu neut",
    "pozytywny": "poz",
    "negatywny": "neg",
    "neutralny": "neu",
}


def is_missing(value: object) -> bool:
    """Whether a value says that there is no label: null, NaN, or an empty cell, though invisible signs are in it."""
    if isinstance(value, str):
        return not any(c.isalnum() for c in value) and not _seen(value).strip()
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or (isinstance(value, float) and math.isnan(value))


def written(value: object) -> str:
    """A value as a file would have it: `true`, `1`, `1.5`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 4 * _HUGE:  # Python writes no number of thousands of digits
        return f"a number of about {int(value.bit_length() * math.log10(2)):,} digits"
    return str(value)


def number_of(value: object) -> Fraction | None:
    """A value as a number, when it is one or spells one. A float is the number that it is written as: 0.1 is 1/10."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) < _HUGE else None
    if isinstance(value, Real):
        return Fraction(repr(float(value))) if math.isfinite(value) else None
    if isinstance(value, str) and _NUMBER.fullmatch(text := _plain(value).strip()):
        return Fraction(text)
    return None


def folded(name: str) -> str:
    """
    A name in one case, with one blank for blanks and underscores, one dash for all, and nothing invisible. Its other symbols
    stay: C, C++ and C# are three.
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", _plain(name).casefold())).strip()


def look_alikes(column: str, columns: Iterable[str]) -> list[str]:
    """Columns whose name is that of another but for case, blanks and invisible signs: `Label` and ` label` for `label`."""
    return [name for name in columns if name != column and folded(name) == folded(column)]


class Names:
    """Label ids by name, however a name is spelled."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.exact = {label: i for i, label in enumerate(labels)}
        self.folded = _unique((folded(label), i) for i, label in enumerate(labels))
        self.numeric = _unique((number_of(label), i) for i, label in enumerate(labels))
        self.begun = _unique((_begun(label), i) for i, label in enumerate(labels))

    def find(self, value: object) -> int | None:
        """The id of the label that a value names, or `None`."""
        text = written(value).strip()
        if text in self.exact:
            return self.exact[text]
        number = number_of(value)
        if number is not None:
            found = self.numeric.get(number)
            return self._rounded(value) if found is None and isinstance(value, float) else found
        return self.folded.get(folded(text)) if isinstance(value, str | bool) else None

    def find_begun(self, value: object) -> int | None:
        """The id of the one label that begins with a number: 1 for `1 star`."""
        number = number_of(value)
        return None if number is None else self.begun.get(number)

    def abbreviations(self, values: Mapping[tuple, object], in_full: set[int | None]) -> dict[tuple, int]:
        """
        The ids of values that are commonly short for the first word of exactly one label and begin no other, none of which
        occurs in full: `neg` for `negative`.
        """
        out: dict[tuple, int] = {}
        for key, value in values.items():
            short = folded(value).rstrip(".") if isinstance(value, str) else ""
            starts = [(name, i) for name, i in self.folded.items() if short and name.startswith(short)]
            if len(starts) == 1 and short in _SHORT.get(re.split(r"\W", starts[0][0], maxsplit=1)[0], "").split():
                out[key] = starts[0][1]
        return {} if in_full & set(out.values()) else out

    def _rounded(self, value: float) -> int | None:
        """The id of the one label whose number a float of 32 or 16 bits was: 0.10000000149011612 for `0.1`."""
        if len(re.sub(r"\D", "", repr(value))) <= _FLOAT64_DIGITS:
            return None
        near = {i for number, i in self.numeric.items() for bits in "fe" if _as_float(number, bits) == value}
        return near.pop() if len(near) == 1 else None


def _as_float(number: Fraction, bits: str) -> float | None:
    try:
        return float(struct.unpack(bits, struct.pack(bits, float(number)))[0])
    except OverflowError:
        return None


def _begun(name: str) -> Fraction | None:
    found = _BEGUN.match(_plain(name).strip())
    return None if found is None or number_of(name) is not None else Fraction(found[1])


def _seen(text: str) -> str:
    """A text without signs of no width. A soft hyphen at its end may be a minus, so it stays."""
    inner = "".join(c for c in text[:-1] if unicodedata.category(c) != "Cf" and c not in "\ufe0e\ufe0f")
    last = text[-1:]
    kept = last == "\u00ad" or (last and unicodedata.category(last) != "Cf" and last not in "\ufe0e\ufe0f")
    return inner + last if kept else inner


def _plain(text: str) -> str:
    """A text in common letters, digits and dashes, without signs of no width."""
    text = "".join(c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in _seen(text))
    return _DASH.sub("-", text)  # m² stays


def _unique(pairs: Iterable[tuple[_Key | None, int]]) -> dict[_Key, int]:
    """A mapping without the keys that stand for several labels."""
    out: dict[_Key, int] = {}
    twice = set()
    for key, i in pairs:
        if key is None:
            continue
        if out.setdefault(key, i) != i:
            twice.add(key)
    return {key: i for key, i in out.items() if key not in twice}
