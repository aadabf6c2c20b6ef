"""Datasets that `save_to_disk` wrote, the annotated rows of a run among them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

from hf_llambert.notes import damaged_note
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.texts import column_names


def read_saved(path: Path) -> Dataset | DatasetDict:
    """
    A dataset that `save_to_disk` wrote. The name of its folder does not matter.

    Raises:
        ValueError: Its notes are damaged.
    """
    try:
        return _load_saved(path).with_format(None)  # of all columns, whatever it was saved with
    except OSError:
        raise
    except Exception as error:  # whatever `datasets` makes of notes that are not its own
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'{path}' cannot be read as a saved dataset ({type(error).__name__}: {reason}). Its state.json, "
            f"dataset_info.json or dataset_dict.json is damaged: restore it, or save the dataset again."
        ) from error


def read_annotated(run: Path, config: Mapping) -> Dataset:
    """
    The annotated rows of a run.

    Args:
        run (`Path`): Its folder.
        config (`Mapping`): What its note of the annotation says; the columns that it names must be there.

    Raises:
        ValueError: The notes of the saved dataset are damaged.
        OSError: The note names a column that is not there.
    """
    rows = read_saved(run / "annotated")
    for name in ("text_column", "gold_column"):
        found = config.get(name) or ()
        each = (
            found.values() if isinstance(found, Mapping) else [found]
        )  # several questions have columns by their names
        for column in (one for columns in each for one in column_names(columns)):
            if column not in rows.column_names:
                expected = f"expected a column of {rows.column_names} at 'config.{name}', got {column!r}"
                raise damaged_note(run / "annotated" / STAGE_FILE, expected)
    return rows


def _load_saved(path: Path) -> Dataset | DatasetDict:
    if "::" not in str(path):
        return load_from_disk(str(path))
    with tempfile.TemporaryDirectory() as place:  # fsspec takes `::` for a chain; what is mapped into memory stays
        plain = Path(place) / "saved"
        plain.symlink_to(path.absolute(), target_is_directory=True)
        return load_from_disk(str(plain))
