"""Scripts that have no spaces between words: where their letters stand, and how a text is cut into words there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_LETTERS = (
    (0x0E01, 0x0E4E),  # Thai
    (0x0E81, 0x0ECE),  # Lao
    (0x1000, 0x103F),  # Burmese, without its digits and stops
    (0x1050, 0x108F),
    (0x109A, 0x109F),
    (0x1780, 0x17D3),  # Khmer
    (0x17D7, 0x17D7),
    (0x17DC, 0x17DD),
    (0x2E80, 0x2FD5),  # parts of Chinese characters
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x303C),
    (0x3041, 0x309F),  # Hiragana
    (0x30A1, 0x30FA),  # Katakana, without the dot between words
    (0x30FC, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9EF),  # Burmese of other languages
    (0xA9FA, 0xA9FE),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese; Korean has spaces."""


def _class(marks: bool) -> str:
    """The marks among the letters, or the others, as a class of a pattern."""
    out: list[list[int]] = []
    for first, last in _LETTERS:
        if last - first >= _LARGE:
            out += [] if marks else [[first, last]]
            continue
        for code in range(first, last + 1):
            if unicodedata.category(chr(code)).startswith("M") != marks:
                continue
            if out and out[-1][1] == code - 1:
                out[-1][1] = code
            else:
                out.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in out)


_LARGE = 0x200  # letters of a block that has no marks
SIGN = f"[{_class(marks=False)}][{_class(marks=True)}]*"
"""A pattern, for `re` and for RE2: a letter of these scripts with its marks."""

_SIGN = re.compile(SIGN)
_RUN = re.compile(f"((?:{SIGN})+)")


def has_signs(text: str) -> bool:
    """Whether a text has letters of a script without spaces."""
    return not text.isascii() and _SIGN.search(text) is not None


def words_in(text: str, find: Callable[[str], list[str]]) -> list[str]:
    """
    The words of a text in their order. In runs of letters of scripts without spaces each pair of neighbours stands for a word:
    where these begin nobody can tell without a dictionary. One that stands alone is left out, as words of one letter are.

    Args:
        text (`str`): The text.
        find (`Callable`): The words of all other text.
    """
    if not has_signs(text):
        return find(text)
    out: list[str] = []
    for k, part in enumerate(_RUN.split(text)):
        if k % 2:
            some = _SIGN.findall(part)
            out += [a + b for a, b in zip(some, some[1:], strict=False)]
        else:
            out += find(part)
    return out


def count_words(text: str) -> int:
    """
    How many words: what stands between spaces, and each letter where a script has none. Beside such letters, marks without a
    letter or digit are no words.
    """
    if not has_signs(text):
        return len(text.split())
    others = sum(any(map(str.isalnum, part)) for part in _RUN.sub(" ", text).split())
    return others + len(_SIGN.findall(text))
