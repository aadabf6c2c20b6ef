"""Tests whether words are English, by the lists of english.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_TAIL = re.compile(r"\s*(?:[,;…–—]|-+\s)([^.,;:!?()\n]*)[.!\s]*\Z")


@dataclass(frozen=True)
class _English:
    evident: frozenset[str]
    usual: frozenset[str]
    weakening: frozenset[str]


@lru_cache(maxsize=1)
def _known() -> _English:
    text = (resources.files("hf_llambert") / "tasks" / "english.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    return _English(*(frozenset(data[name]) for name in ("evident", "usual", "weakening")))


def looks_english(words: list[str]) -> bool:
    """Whether one of the words is English and of no other language, or most of them are usual English ones."""
    if not _known().evident.isdisjoint(words):
        return True
    words = [word for word in words if set(word) != {"x"}]  # labels are blanked out
    usual = [word for word in words if is_usual(word)]
    if not any(len(word) > (3 if len(words) > 1 else 4) for word in usual):
        return False
    return len(usual) == len(words) or len(words) > 2 and 3 * len(usual) >= 2 * len(words)


def is_usual(word: str) -> bool:
    """Whether a word is a usual English one that neither weakens nor denies a label."""
    known = _known()
    if word in known.weakening:
        return False
    return word in known.evident or word in known.usual or (len(word) > 4 and word.endswith("ly"))


def ends_in_unknown(after: str) -> bool:
    """Whether what follows a label in its sentence is a pause and one or two words of which none is usual English."""
    tail = _TAIL.match(after)
    words = WORDS.findall(tail[1]) if tail else []
    return 0 < len(words) < 3 and not any(is_usual(word) for word in words)
