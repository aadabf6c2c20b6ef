"""Shared by all models: which texts are unusable, how texts are cut, and batches of similar length."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALF = "\ufdd0"
"""Stands in a text where a file had half a character; a code point that Unicode gives no character, ever."""

GAP = " … "
"""Stands where the middle of a cut text was."""


def why_unusable(text: object) -> str | None:
    """Why a value of the text column cannot be labelled, or `None` when it can."""
    if text is None:
        return "text is null"
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, expected a string"
    if not text.strip():
        return "text is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text is not valid Unicode"
    return "text is not valid Unicode" if HALF in text else None


def cut_text(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int, head_share: float) -> tuple[str, bool]:
    """
    Shorten a text to about `max_tokens` tokens by dropping its middle.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A fast tokenizer (it must know where its tokens stand in the text).
        text (`str`): The text.
        max_tokens (`int`): Tokens to keep.
        head_share (`float`): Share of them taken from the beginning; the rest comes from the end.

    Returns:
        `tuple[str, bool]`: The text and whether it was cut.
    """
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    offsets = encoded["offset_mapping"]
    if len(offsets) <= max_tokens:
        return text, False
    return cut_between(text, offsets, max_tokens, head_share), True


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

    New lines and tabs stay, and letters of every script do.
    """
    return _UNSEEN.sub(_sign, text.replace("\r\n", "\n"))


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"


def markdown_text(text: str) -> str:
    """A text escaped for Markdown, on one line: it becomes no HTML, link or table cell."""
    shown = html.escape(visible(" ".join(text.split())), quote=False)
    shown = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|~" else c for c in shown)
    for character, entity in (("://", "&#58;//"), ("www.", "www&#46;"), ("@", "&#64;"), ("$", "&#36;")):
        shown = shown.replace(character, entity)  # no links, mentions or formulas either
    return shown
