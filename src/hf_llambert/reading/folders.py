"""Which files of a folder are data, and of which kind."""

from __future__ import annotations

from pathlib import Path

from hf_llambert.reading.formats import PACKED
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

FORMATS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_OTHERS = (".pq", ".feather", ".orc", ".avro", ".xlsx", ".xls", ".ods", ".tab", ".jsonlines")
_OTHER_PACKED = (".zip", ".7z", ".rar", ".lz4", ".lzma", ".br", ".z", ".sz")
"""Endings of files that hold rows and are not read, as the second after those that are."""
_NOTES = {STAGE_FILE, "state.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json"}


def kind_of(path: Path) -> str | None:
    """What a file's name says that it is (`parquet`, `json`, `csv` or `arrow`), in capitals or not; `None` for no data."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def data_files(source: str | Path) -> tuple[str, list[Path]]:
    """
    The kind (`parquet`, `json`, `csv` or `arrow`) and the files of a file or directory, in the order of their names.
    Hidden files, notes of `datasets` and what is no data are left out, which is logged.

    Raises:
        FileNotFoundError: The directory holds none.
        ValueError: A file of another kind, or files of several kinds.
    """
    path = Path(source)
    if path.is_file():
        files, kind = [path], kind_of(path)
        if kind is None:
            raise ValueError(f"'{path}' is not one of {', '.join(FORMATS)}.")
    else:
        files, others = _looked_through(path)
        if not files and not others:
            raise FileNotFoundError(f"'{path}' holds no {', '.join(FORMATS)} file and no saved dataset.")
        kind = _one_kind(path, files, others)
    if not any(p.stat().st_size for p in files):
        raise ValueError(f"'{path}' is empty.")
    return kind, files


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`; notes of that name beside data of other kinds do not make it one."""
    if not (path / "state.json").is_file() and not (path / "dataset_dict.json").is_file():
        return False
    return any(path.glob("*.arrow")) or any(path.glob("*/*.arrow")) or not any(_looked_through(path, log=False))


def _looked_through(folder: Path, log: bool = True) -> tuple[list[Path], list[Path]]:
    """The files of a folder that can be read, and those that hold rows and cannot."""
    files, others, ignored = [], [], 0
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.name in _NOTES:
            continue
        if kind_of(path) is not None:
            files.append(path)
        elif _holds_rows(path):
            others.append(path)
        else:
            ignored += 1
    if ignored and log:
        logger.info("%d file(s) in '%s' are left out: by their names they are no data.", ignored, folder)
    return files, others


def _holds_rows(path: Path) -> bool:
    """Whether a file's name says that it holds rows, though none that can be read."""
    before, last = path.stem.lower(), path.suffix.lower()
    packed = last in (*PACKED, *_OTHER_PACKED)
    return last in _OTHERS or (packed and before.endswith((*FORMATS, *_OTHERS)))


def _one_kind(folder: Path, files: list[Path], others: list[Path]) -> str:
    first: dict[str, Path] = {}
    for path in files:
        first.setdefault(str(kind_of(path)), path)
    for path in others:
        first.setdefault(f"unreadable {''.join(path.suffixes[-2:])}", path)
    kinds = sorted(first)
    if len(kinds) > 1 or others:
        named = " and ".join(f"{kind} ('{first[kind].relative_to(folder)}')" for kind in kinds)
        if len(kinds) == 1:
            raise ValueError(f"'{folder}' holds {named} only. Save it as one of {', '.join(FORMATS)}.")
        raise ValueError(
            f"'{folder}' mixes files of {named}. Keep files of one kind in a directory, or name one of them."
        )
    return kinds[0]
