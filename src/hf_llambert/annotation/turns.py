"""One start at a time: a second one in the same folder would ask, and pay, for the same texts."""

from __future__ import annotations

import errno
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HELD: set[str] = set()  # by this process, to which the system's lock says nothing
_GUARD = threading.Lock()


@contextmanager
def one_at_a_time(output: Path) -> Iterator[None]:
    """
    Hold the lock of a folder, in the file `.NAME.lock` beside it, while the block runs. The system frees it with the
    process, however that ends. Where the disk knows no locks, or nothing can be written, the block runs without.

    Raises:
        BlockingIOError: Another process holds it; the message names that process.
    """
    path = output.absolute().parent / f".{output.name}.lock"
    with _GUARD:
        if str(path) in _HELD:
            raise _taken(output, "this very process")
        _HELD.add(str(path))
    try:
        file = _locked(path, output)
        try:
            yield
        finally:
            if file is not None:
                with suppress(OSError):
                    path.unlink()  # before the lock goes: who waits sees that the name is another file's
                os.close(file)
    finally:
        _HELD.discard(str(path))


def _locked(path: Path, output: Path) -> int | None:
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
                raise _taken(output, who or "another process") from error
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


def _taken(output: Path, who: str) -> BlockingIOError:
    return BlockingIOError(
        f"'{output}' is being annotated by {who}, and a second start would ask for the same texts again. Wait until it "
        f"has ended, or choose another --output."
    )
