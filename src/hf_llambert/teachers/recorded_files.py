"""What [`RecordedTeacher`] is given: files of a batch, and pairs that name labels and columns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_llambert.tasks.label_names import written
from hf_llambert.tasks.questions import parse_label_map
from hf_llambert.teachers.batch_forms import form_of
from hf_llambert.teachers.batch_recordings import json_lines


def map_pairs(given: object) -> tuple[str, ...] | None:
    """A map of labels as pairs, from a mapping, pairs, or the lists of them that a command line gives."""
    if given is None:
        return None
    pairs: list[object] = []
    if isinstance(given, Mapping):
        for value, label in given.items():
            if not isinstance(value, str | int | float) or not isinstance(label, str | None):
                raise ValueError(
                    f"recorded_map takes values and labels of the task, got {value!r}: {label!r}. In YAML put words such as "
                    f"yes, no, true and null in quotes."
                )
            pairs.append(f"{written(value)}={label or ''}")
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for one in given:
            pairs += one if isinstance(one, list | tuple) else [one]
    if not all(isinstance(pair, str) for pair in pairs) or (not pairs and not isinstance(given, Mapping)):
        raise ValueError(f"recorded_map takes a mapping or pairs such as pos=positive, got {given!r}.")
    texts = tuple(str(pair) for pair in pairs)
    parse_label_map(texts, "recorded_map")
    return texts


def column_pairs(given: object) -> tuple[str, ...] | None:
    """Columns by question as `QUESTION=COLUMN`, from a mapping, pairs, or the lists of them that a command line gives."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = [f"{name}={column}" for name, column in given.items()]
    listed = given if isinstance(given, list | tuple) else [given]
    texts = tuple(str(pair) for one in listed for pair in (one if isinstance(one, list | tuple) else [one]))
    names = [text.partition("=")[0] for text in texts]
    if not texts or not isinstance(given, str | list | tuple) or not all(names) or len(set(names)) < len(names):
        raise ValueError(f"label_columns takes pairs such as tone=gold_tone, one for each question, got {given!r}.")
    return texts


def files_of(place: str) -> list[Path]:
    """A file, or the files of a batch in a directory."""
    path = Path(place)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or directory '{path}'.")
    return sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]


def batch_files(place: str) -> list[Path]:
    """The files of a batch's output; none where `place` is something else."""
    path = Path(place)
    if not path.exists() or (path.is_file() and path.suffix != ".jsonl"):
        return []
    files = [file for file in files_of(place) if file.stat().st_size]
    if not files:
        return []
    _, number, line = next(json_lines(files[0]), (0, 0, {}))
    return files if form_of(line, f"Line {number:,} of '{files[0]}'") is not None else []


def digest_of(files: Sequence[Path]) -> str:
    """A digest of what files hold."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()[:32]


def stamp(place: str) -> tuple:
    """Changes when a file here changes."""
    path = Path(place)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files)


def shown_place(place: str) -> str:
    """A place here by its name, a Hub id as it is."""
    return Path(place).resolve().name if Path(place).exists() else place
