"""Fields of what batch services answer, which may hold anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from hf_llambert.teachers.batch_transport import Unsure

MARK = "hf_llambert"
"""The field of a batch's metadata that has its note's name."""

_WORD = re.compile(r"[\w./:-]{1,200}", re.ASCII)


def part(found: Mapping, name: str) -> Mapping:
    """An object in an answer; an empty one where there is none."""
    value = found.get(name)
    return value if isinstance(value, Mapping) else {}


def each(value: object) -> list[dict]:
    """The objects of a list in an answer."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def id_of(found: Mapping, name: str) -> str:
    """An id or a state. It becomes a part of addresses, so it is one word, with slashes at most."""
    value = found.get(name)
    if not isinstance(value, str) or not _WORD.fullmatch(value) or ".." in value:
        raise Unsure(f"the answer has no {name}")
    return value


def named(batch: Mapping) -> object:
    """The name of the note that a batch's metadata holds."""
    metadata = batch.get("metadata")
    return metadata.get(MARK) if isinstance(metadata, Mapping) else None


def number_of(value: object) -> int:
    """A count, which may be written as text; 0 where it is none."""
    number = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        return max(int(value), 0) if number else 0  # type: ignore[call-overload]  # Gemini's are strings
    except (ValueError, OverflowError):
        return 0


def seconds_of(said: object) -> float:
    """Seconds since 1970 of an RFC 3339 time; infinity where it is none."""
    try:
        return datetime.fromisoformat(str(said).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return float("inf")
