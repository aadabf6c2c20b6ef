"""Shared by all models: a row as one text, which texts are unusable, how texts are cut, and batches of similar length."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALF = "\ufdd0"
"""Stands in a text where a file had half a character; a code point that Unicode gives no character, ever."""

FIELD = "\ufdd1"
"""Stands between the fields of a row that has several; a code point as [`HALF`], so that no field has it."""

GAP = " … "
"""Stands where the middle of a cut text was."""

TextColumn = str | Sequence[str]
"""The column of the texts, or those of several fields in the order of the task's."""


@dataclass(frozen=True)
class Unusable:
    """In place of a text that cannot be made of a row's fields: the reason."""

    reason: str


def row_texts(columns: Mapping[str, Sequence], column: TextColumn) -> list:
    """
    What each row shows, as one text: the value of its column, or the values of several with U+FDD1 between them.

    A null among several is an empty field. Where all are null, or one is no string, the row has the reason instead.

    Args:
        columns (`Mapping[str, Sequence]`): A dataset or a batch of it.
        column (`str` or `Sequence[str]`): The column of the texts, or those of several fields; see [`TaskSpec.columns`].
    """
    if isinstance(column, str):
        return list(columns[column][:])
    return [_joined(dict(zip(column, row, strict=True))) for row in zip(*(columns[n][:] for n in column), strict=True)]


def _joined(fields: Mapping[str, object]) -> str | Unusable:
    if all(value is None for value in fields.values()):
        return Unusable(f"{' and '.join(fields)} are null")
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            return Unusable(f"{name} is {type(value).__name__}, expected a string")
        if isinstance(value, str) and FIELD in value:
            return Unusable(f"{name} is not valid Unicode")
    return FIELD.join("" if value is None else str(value) for value in fields.values())


def empty_fields(columns: Mapping[str, Sequence], names: Sequence[str]) -> dict[str, int]:
    """How many rows have nothing in a column though another of `names` has something, for each where some have."""
    counts = dict.fromkeys(names, 0)
    for row in zip(*(columns[name][:] for name in names), strict=True):
        empty = [value is None or (isinstance(value, str) and not value.strip()) for value in row]
        if not all(empty):
            for name, one in zip(names, empty, strict=True):
                counts[name] += one
    return {name: count for name, count in counts.items() if count}


def columns_of(fields: Sequence[str], column: TextColumn, who: str) -> TextColumn:
    """
    The columns of fields.

    Args:
        fields (`Sequence[str]`): Their names. `text` is whichever column is named the text's.
        column (`str` or `Sequence[str]`): The column of the texts: that of the field `text`, or of the only field where it is
            not called `text` itself; the other fields have columns of their names. Several are the columns, in order.
        who (`str`): Whose fields they are, for the error.

    Raises:
        ValueError: Not as many columns as fields.
    """
    if isinstance(column, str):
        alone = len(fields) == 1 and column != "text"
        return _one_or_several([column if name == "text" or alone else name for name in fields])
    if len(column) != len(fields):
        raise ValueError(
            f"{who} shows {len(fields)} columns ({', '.join(fields)}), got {len(column)}: {', '.join(column)}."
        )
    return _one_or_several(column)


def _one_or_several(names: Sequence[str]) -> TextColumn:
    return names[0] if len(names) == 1 else tuple(names)


def column_names(column: TextColumn) -> list[str]:
    """
    The columns of the texts as a list.

    Args:
        column (`str` or `Sequence[str]`): One or several.
    """
    return [column] if isinstance(column, str) else list(column)


def text_digest(text: str) -> str:
    """The SHA-256 of a text, by which notes name it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def why_unusable(text: object) -> str | None:
    """
    Why a text cannot be labelled, or `None` when it can.

    Args:
        text (`object`): A value of the text column, or what [`row_texts`] made of several.
    """
    if text is None:
        return "text is null"
    if isinstance(text, Unusable):
        return text.reason
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, expected a string"
    if not text.replace(FIELD, "").strip():
        return "text is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text is not valid Unicode"
    return "text is not valid Unicode" if HALF in text else None


def cut_text(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int, head_share: float) -> tuple[str, bool]:
    """
    Shorten a text to about `max_tokens` tokens by dropping its middle; of several fields that of the longest.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer (it must know where its tokens stand in the text).
        text (`str`): The text.
        max_tokens (`int`): Tokens to keep.
        head_share (`float`): Share of them taken from the beginning; the rest comes from the end.

    Returns:
        `tuple[str, bool]`: The text and whether it was cut.
    """
    if FIELD in text:
        return _cut_fields(tokenizer, text.split(FIELD), max_tokens, head_share)
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    offsets = encoded["offset_mapping"]
    if len(offsets) <= max_tokens:
        return text, False
    return cut_between(text, offsets, max_tokens, head_share), True


def _cut_fields(
    tokenizer: PreTrainedTokenizerBase, fields: Sequence[str], max_tokens: int, head_share: float
) -> tuple[str, bool]:
    lengths = [
        len(tokenizer(field, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)
        for field in fields
    ]
    rooms = fair_shares(lengths, max_tokens)
    cut = [
        ("" if not room else cut_text(tokenizer, field, room, head_share)[0]) if length > room else field
        for field, length, room in zip(fields, lengths, rooms, strict=True)
    ]
    return FIELD.join(cut), rooms != lengths


def fair_shares(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each length stays in `room`: the longest are cut, to one length, and the others are left whole."""
    shares, left = list(lengths), room
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for k, i in enumerate(order):
        shares[i] = min(lengths[i], max(left, 0) // (len(order) - k))
        left -= shares[i]
    return shares


def cut_between(text: str, offsets: Sequence[tuple[int, int]], max_tokens: int, head_share: float) -> str:
    """As [`cut_text`], for a text of more tokens whose `offsets` (where each begins and ends in it) are known."""
    head = round(max_tokens * head_share)
    tail = max_tokens - head
    if head and tail:
        tail = max(tail - 2, 1)  # the gap costs a token or two
    first = text[: offsets[head - 1][1]] if head else ""
    last = text[offsets[-tail][0] :] if tail else ""
    return first + GAP + last if first and last else first + last


def shorten(text: str, max_characters: int, head_share: float) -> str:
    """A text without its middle when it is longer than `max_characters`: what no model would read costs no tokenising."""
    if len(text) <= max_characters:
        return text
    head = round(max_characters * head_share)
    first, last = text[:head], text[len(text) - (max_characters - head) :]
    return first + GAP + last if first and last else first + last


def shorten_fields(text: str, max_characters: int, head_share: float) -> str:
    """As [`shorten`], each field by itself."""
    fields = text.split(FIELD)
    rooms = fair_shares([len(field) for field in fields], max_characters)
    return FIELD.join(shorten(field, room, head_share) for field, room in zip(fields, rooms, strict=True))


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """
    Cut rows into batches of similar length whose padded size stays within a token budget.

    Args:
        lengths (`Sequence[int]`): Tokens of each row.
        batch_tokens (`int`): Largest rows × longest row. A row longer than that gets a batch of its own.

    Yields:
        `list[int]`: Row numbers, longest rows first, so that running out of memory shows at the start.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * max(lengths[batch[0]], 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """
    A text with signs for what a screen would obey or hide: `␛` for escape, `‹U+202E›` for a bidirectional override.

    New lines and tabs stay, and letters of every script do. Fields stand on lines of their own.
    """
    return _UNSEEN.sub(_sign, text.replace("\r\n", "\n").replace(FIELD, "\n"))


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"


def markdown_text(text: str) -> str:
    """A text escaped for Markdown, on one line: it becomes no HTML, link or table cell."""
    shown = html.escape(visible(" ".join(text.replace(FIELD, " / ").split())), quote=False)
    shown = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|~" else c for c in shown)
    for character, entity in (("://", "&#58;//"), ("www.", "www&#46;"), ("@", "&#64;"), ("$", "&#36;")):
        shown = shown.replace(character, entity)  # no links, mentions or formulas either
    return shown
