"""Notes on batches that a service was given, beside the ledger: nothing is submitted twice, and nothing is forgotten."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hf_llambert.whole import write_whole

_KEY = re.compile(r"[0-9a-f]{64}")
_SHOWN = 5  # ids in a message


@dataclass(frozen=True)
class Note:
    """
    A batch. It is noted before it is submitted, without an id; then with the id that the service gave it.

    Args:
        name (`str`): By which the service knows it, where services know batches by names.
        service (`str`): The service.
        address (`str`): Where that is.
        keys (`tuple[str, ...]`): The ledger's keys of the rows that it asks about; they name the requests.
        requests (`int`): How many those were when it was submitted.
        size (`int`): Bytes of the requests.
        noted_at (`float`): When it was first noted, in seconds since 1970.
        reserved (`tuple[float, float]`): Tokens in and out that it may take.
        id (`str`, *optional*): The service's name for it.
        others (`tuple[str, ...]`): Ids that seemed to be this batch's, and were not.
        found (`bool`): Whether the id was found in the service's list, not given in answer to the submission.
        done (`bool`): Whether its answers are in the ledger.
    """

    name: str
    service: str
    address: str
    keys: tuple[str, ...]
    requests: int
    size: int
    noted_at: float
    reserved: tuple[float, float] = (0.0, 0.0)
    id: str | None = None
    others: tuple[str, ...] = ()
    found: bool = False
    done: bool = False


class BatchNotes:
    """
    The notes of one ledger: a small JSON file for each batch, written whole and onto the disk. No text and no key is in them.

    Args:
        folder (`Path`): Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, service: str, address: str, keys: Sequence[str], size: int, reserved: tuple[float, float]) -> Note:
        """Note a batch that is about to be submitted; on the disk when this returns."""
        name = f"llambert-{uuid.uuid4().hex}"
        note = Note(name, service, address, tuple(keys), len(keys), size, time.time(), reserved)
        self.put(note)
        return note

    def put(self, note: Note) -> None:
        """Write a note; on the disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(note), json.dumps(asdict(note)))

    def drop(self, note: Note) -> None:
        """Remove the note of a batch that was never submitted."""
        self.path(note).unlink(missing_ok=True)

    def path(self, note: Note) -> Path:
        """The file of a note."""
        return self.folder / f"{note.name}.json"

    def all(self) -> list[Note]:
        """
        All notes, the oldest first.

        Raises:
            ValueError: One is damaged.
        """
        try:
            files = sorted(self.folder.glob("llambert-*.json"))
        except OSError:
            files = []
        return sorted((_read(file) for file in files), key=lambda note: note.noted_at)


def shown(notes: Sequence[Note]) -> str:
    """Batches in a message: the ids of the first, and how many more."""
    more = f" and {len(notes) - _SHOWN:,} more" if len(notes) > _SHOWN else ""
    return f"batch {', '.join(str(note.id) for note in notes[:_SHOWN])}{more}"


def _read(path: Path) -> Note:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = {**found, "keys": tuple(found["keys"]), "others": tuple(found["others"])}
        found["reserved"] = (float(found["reserved"][0]), float(found["reserved"][1]))
        names = {field.name for field in fields(Note)}
        if set(found) != names or not all(_KEY.fullmatch(key) for key in found["keys"]):
            raise ValueError("it has other fields")
        return Note(**found)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"The note '{path}' on a batch cannot be read ({type(error).__name__}). Remove it only if that batch has no answers "
            f"that you want: its rows are then asked about, and paid for, again."
        ) from error
