"""CSV and JSON of the Hub, read as files that are here: `datasets` guesses types and takes some texts for missing values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import cast

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetBuilder, Features, Value
from datasets.table import table_cast
from huggingface_hub import HfFileSystem, hf_hub_download
from huggingface_hub.hf_file_system import HfFileSystemResolvedRepositoryPath

from hf_llambert.reading.folders import kind_of
from hf_llambert.reading.formats import FileFormat
from hf_llambert.reading.tables import read_tables
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

_KNOWN = {"name", "version", "data_dir", "data_files", "description", "sep", "delimiter", "encoding", "features"}
"""Options of a card that the readers here have too, or that say nothing about cells."""


@dataclass(frozen=True)
class HubFiles:
    """
    Files of one split of a dataset of the Hub.

    Args:
        kind (`str`): csv or json.
        urls (`list[str]`): Where they are, commit included.
        form (`FileFormat`): What the user or the dataset's card says of them.
        names (`Features`): `ClassLabel` columns that the card declares.
    """

    kind: str
    urls: list[str]
    form: FileFormat
    names: Features

    def paths(self) -> list[Path]:
        """The files, fetched into the Hub's cache where they are not there yet."""
        return [fetched(url) for url in self.urls]

    def tables(self, url: str, form: FileFormat, start: int, size: int) -> Iterator[pa.Table]:
        """The rows of one of the files, fetched now, from a row number on."""
        for table in read_tables(self.kind, fetched(url), form, start, size):
            features = self._named(Features.from_arrow_schema(table.schema))
            yield table_cast(table, features.arrow_schema)

    def named(self, rows: Dataset) -> Dataset:
        """Rows of the files with the names of their labels."""
        return rows.cast(self._named(rows.features)) if self.names else rows

    def _named(self, features: Features) -> Features:
        return Features({name: self.names.get(name, feature) for name, feature in features.items()})


def hub_files(builder: DatasetBuilder, split: str | None, form: FileFormat) -> HubFiles | None:
    """
    The files of a split, where they are CSV or JSON that the readers here can read. Columns that the dataset's card calls
    strings are read as written. Warns where `datasets` has to read CSV or JSON.
    """
    if builder.name not in ("csv", "json"):
        return None
    files = builder.config.data_files or {}
    named = str(next(iter(files))) if split is None and len(files) == 1 else split
    urls = [str(file) for file in files.get(named, [])] if named is not None else []
    default = type(builder.config)()
    options = [one.name for one in fields(default) if one.name not in _KNOWN]
    changed = [name for name in options if getattr(builder.config, name) != getattr(default, name)]
    others = [url for url in urls if kind_of(Path(url)) != builder.name or not _is_fetched(url)]
    if not urls and (named is None or "[" not in named):
        return None  # which splits there are is said by who reads it
    reasons = [f"its card sets {', '.join(changed)}"] if changed else []
    reasons += [f"no other can read '{others[0]}'"] if others else []
    reasons += [f"the split is {named!r}"] if not urls else []
    if reasons:
        logger.warning(
            "The %s of '%s' is read by `datasets`, as %s: it guesses types and may take texts such as NA for missing ones, so "
            "cells may differ from those of the same files read here. Download the files and pass their folder to read them "
            "as they are written.",
            builder.name.upper(),
            builder.repo_id or builder.dataset_name,
            " and ".join(reasons),
        )
        return None
    features = builder.info.features or {}
    written = [
        name for name, one in features.items() if isinstance(one, Value) and one.dtype in ("string", "large_string")
    ]
    names = Features({name: one for name, one in features.items() if isinstance(one, ClassLabel)})
    if form.delimiter == "," and builder.name == "csv":
        form = replace(form, delimiter=builder.config.sep)
    if form.encoding == "utf-8" and builder.config.encoding:
        form = replace(form, encoding=builder.config.encoding)
    return HubFiles(builder.name, urls, replace(form, label_columns=(*form.label_columns, *written)), names)


def _is_fetched(url: str) -> bool:
    """Whether a file is here or in a repository of datasets, and none inside of an archive."""
    return "::" not in url and ("://" not in url or url.startswith("hf://datasets/"))


def fetched(url: str) -> Path:
    """A file of the Hub in its cache, under its own name; one that is here is left there."""
    if not url.startswith("hf://"):
        return Path(url)
    place = cast(HfFileSystemResolvedRepositoryPath, HfFileSystem().resolve_path(url))
    return Path(hf_hub_download(place.repo_id, place.path_in_repo, repo_type=place.repo_type, revision=place.revision))


def csv_options(form: FileFormat) -> dict:
    """How pandas reads a CSV of the Hub as those here are read: "NA" and "null" are texts, and labels stay as written."""
    return {
        "keep_default_na": False,
        "na_values": [""],
        "converters": dict.fromkeys((*form.text_columns, *form.label_columns), str),
    }
