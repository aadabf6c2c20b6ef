"""Errors about files of another encoding: where reading fails, and which encodings the bytes allow."""

from __future__ import annotations

import codecs
from typing import IO

_BLOCK = 1 << 20  # bytes that are looked at at once
_SHARE = 4  # of so many bytes one is zero where text is UTF-16 and mostly Latin
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)
"""Byte order marks, the encodings that leave them out, and those that take them for text."""
_USUAL = ("cp1252", "cp1250", "cp1251", "koi8-r", "cp1253", "cp1254", "cp932", "euc_jp", "gb18030", "big5", "euc_kr")
"""Encodings that texts are still found in; ISO 8859-1, which takes any bytes at all, says nothing."""


_PACKED = {
    b"\x1f\x8b": "compressed by gzip. Give it a name that ends in .gz",
    b"BZh": "compressed by bzip2. Give it a name that ends in .bz2",
    b"\xfd7zXZ": "compressed by xz. Give it a name that ends in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd. Give it a name that ends in .zst",
    b"PK\x03\x04": "a zip archive or a spreadsheet. Unpack it, or save it as a CSV in UTF-8",
    b"PAR1": "a Parquet file. Give it a name that ends in .parquet",
}
"""How files begin that are no text, and what to do with them."""


def utf16_or_32(head: bytes) -> str | None:
    """UTF-16 or UTF-32, where the first bytes of a file show it: by a byte order mark or by zeros on one side only."""
    for mark, name, _ in BOMS[1:]:
        if head.startswith(mark):
            return name
    head = head[: len(head) // 4 * 4]
    zeros = [head[k::4].count(0) for k in range(4)]
    if not sum(zeros) or (sum(zeros) * _SHARE < len(head) and _is_in(head, "utf-8")):
        return None
    if len(head) >= 8 and min(zeros[2:]) == len(head) // 4 and not zeros[0]:
        return "utf-32-le"
    if len(head) >= 8 and min(zeros[:2]) == len(head) // 4 and not zeros[3]:
        return "utf-32-be"
    first, second = zeros[0] + zeros[2], zeros[1] + zeros[3]
    for name, here, there in (("utf-16-le", second, first), ("utf-16-be", first, second)):
        if here > there * 8 and _is_in(head, name):
            return name
    return None


def wrong_encoding(file: IO[bytes], codec: str, called: str) -> ValueError:
    """
    The error about a file that is not of the encoding it is read as: the line, the byte, and which encodings its bytes
    allow. Which of them it is only the user can know.

    Args:
        file (`IO[bytes]`): The file, at its beginning.
        codec (`str`): How it was read.
        called (`str`): What the user calls that.
    """
    decoder, line, at = codecs.getincrementaldecoder(codec)(), 1, 0
    head, where, around = b"", "", b""
    with file:
        while block := file.read(_BLOCK):
            head = head or block
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(codec, "ignore").count("\n")
                bad = error.object[error.start : error.start + 1].hex()
                where, around = f" at byte {at - held + error.start + 1:,} (0x{bad}) in line {line:,}", block
                break
            except UnicodeError:  # no byte order mark
                break
            line, at = line + text.count("\n"), at + len(block)
    packed = next((said for mark, said in _PACKED.items() if head.startswith(mark)), None)
    if packed is not None:
        return ValueError(f"it is {packed}")
    wide = "utf-8" if head.startswith(codecs.BOM_UTF8) else utf16_or_32(head)
    if wide is not None:
        return ValueError(
            f"it is not {called}{where}, it looks like {wide}. Pass encoding='{wide}' (--encoding {wide})"
        )
    fits = [name for name in ("utf-8", *_USUAL) if codecs.lookup(name).name != codec and _is_in(around or head, name)]
    if not fits:
        return ValueError(
            f"it is not {called}{where}, and none of the usual encodings either: it may be damaged, or no text. If you know "
            f"its encoding, pass encoding=... (--encoding)"
        )
    return ValueError(
        f"it is not {called}{where}. Its bytes may be {', '.join(fits)}: only who wrote it knows which, and another one "
        f"reads wrong letters. Pass encoding=... (--encoding), such as --encoding {fits[0]} if it is that"
    )


def _is_in(content: bytes, encoding: str) -> bool:
    """Whether bytes, maybe cut at the end, are text of an encoding, without control characters."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeError:
        return False
    return not any("\x7f" <= sign <= "\x9f" or "\ue000" <= sign <= "\uf8ff" for sign in set(text))
