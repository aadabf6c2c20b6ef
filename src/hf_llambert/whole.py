"""Files and folders that are written whole or not at all: beside, onto the disk, then under their names."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    The path of a temporary file beside `path`; it takes the place of `path` when the block ends without an error.

    On a full disk or after a kill the old file stays.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in UTF-8. See [`whole_file`]."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A temporary folder beside another, removed at the end; that of a process that was killed goes with the next."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    host = platform.node()
    for litter in beside.parent.glob(f".{beside.name}.{host}.*.part"):
        if not is_alive(int(litter.name.split(".")[-2])):
            shutil.rmtree(litter, ignore_errors=True)
    part = beside.parent / f".{beside.name}.{host}.{uuid.uuid4().hex[:8]}.{os.getpid()}.part"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """
    A temporary folder beside `folder` that takes its name when the block ends without an error.

    Raises:
        FileExistsError: `folder` exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"'{folder}' exists already. Choose another output, or remove it.")
    with scratch_folder(folder) as part:
        yield part
        for path in (*part.rglob("*"), part):
            sync(path)
        if folder.exists():
            raise FileExistsError(f"'{folder}' was written by another process meanwhile. What it wrote is kept.")
        part.rename(folder)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that they survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # mounted buckets have no such thing
            raise
    finally:
        os.close(number)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
