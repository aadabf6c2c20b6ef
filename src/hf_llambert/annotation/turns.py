"""Locks that let one process at a time write a folder, or ask the same with one ledger: nothing is paid for twice."""

from __future__ import annotations

import errno
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_llambert.annotation.labelers import LLMLabeler

_HELD: set[str] = set()  # by this process, to which the system's lock says nothing
_GUARD = threading.Lock()


@contextmanager
def asking_turn(labelers: Iterable[LLMLabeler], output: Path | None = None) -> Iterator[None]:
    """
    Hold the locks of a folder of results and of what is asked of whom in each labeler's ledger, while the block runs. Another
    task, or another teacher, may be asked in the same ledger meanwhile.

    Raises:
        BlockingIOError: See [`one_at_a_time`].
    """
    with ExitStack() as stack:
        if output is not None:
            stack.enter_context(one_at_a_time(output))
        for ledger, question in sorted({(one.ledger.folder, one.question()) for one in labelers}):
            stack.enter_context(_lock(ledger, question[:16], _shared))
        yield


@contextmanager
def one_at_a_time(output: Path, part: str = "") -> Iterator[None]:
    """
    Hold the lock of a folder, in the file `.NAME.lock` beside it, while the block runs. The system frees it with the
    process, however that ends. On a disk without locks, or where nothing can be written, the block runs without a
    lock.

    Args:
        output (`Path`): The folder.
        part (`str`, *optional*): Which part of it, where several processes write one each.

    Raises:
        BlockingIOError: Another process holds it; the message names that process.
    """
    with _lock(output, part, _written):
        yield


@contextmanager
def _lock(folder: Path, part: str, why: Callable[[Path, str], str]) -> Iterator[None]:
    whole = folder.resolve()  # one folder has one lock, whatever way leads there
    path = whole.parent / f".{whole.name}{'-' if part else ''}{part}.lock"
    with _GUARD:
        if str(path) in _HELD:
            raise BlockingIOError(why(folder, "this very process"))
        _HELD.add(str(path))
    try:
        file = _locked(path, lambda who: why(folder, who))
        try:
            yield
        finally:
            if file is not None:
                with suppress(OSError):
                    path.unlink()  # before the lock goes: who waits sees that the name is another file's
                os.close(file)
    finally:
        _HELD.discard(str(path))


def _locked(path: Path, why: Callable[[str], str]) -> int | None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return None
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None  # what follows says why nothing can be written
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process, not inherited by its children
        except OSError as error:
            who = os.pread(file, 200, 0).decode(errors="replace")
            os.close(file)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(why(who or "another process")) from error
            return None
        if _is_at(path, file):
            with suppress(OSError):
                os.ftruncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {platform.node()}".encode(), 0)
            return file
        os.close(file)  # its holder has ended and removed it meanwhile


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _written(output: Path, who: str) -> str:
    return (
        f"'{output}' is being written by {who}, and a second start would do, and pay for, the same again. Wait until it has "
        f"ended, or choose another --output."
    )


def _shared(ledger: Path, who: str) -> str:
    return (
        f"The ledger '{ledger}' is in use by {who}, which asks the same teacher the same question: both would pay for the texts "
        f"that they share. Wait until it has ended, or choose another --ledger."
    )
