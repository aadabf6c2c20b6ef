"""Files and folders that are written whole or not at all: beside, onto the disk, then under their names."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskFull(OSError):
    """A file or folder that could not be written for want of room; nothing of it is there."""


@contextmanager
def room_needed(path: Path) -> Iterator[None]:
    """
    Say what could not be written, and what to do, where the disk is full in the block.

    Raises:
        DiskFull: The disk is full, or its quota used up; what safetensors says of it included.
    """
    from safetensors import SafetensorError  # an error of the disk is none of its own to it

    try:
        yield
    except DiskFull:
        raise
    except (OSError, SafetensorError) as error:
        said = re.search(r"(?:os error |\[Errno )(\d+)", str(error))  # of safetensors; of a folder that was copied
        number = getattr(error, "errno", None) or (int(said[1]) if said else None)
        if number not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = DiskFull(
            f"'{path}' cannot be written: {os.strerror(number)}. Make room, then run again; what was finished is kept."
        )
        full.errno = number
        raise full from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """
    The path of a temporary file beside `path`; it takes the place of `path` when the block ends without an error.

    On a full disk or after a kill the old file stays.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with room_needed(path):
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
    with room_needed(folder), scratch_folder(folder) as part:
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
