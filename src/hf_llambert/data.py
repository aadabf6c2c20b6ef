"""Datasets from files, folders and the Hub; samples of them; people's labels as ids."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError

from hf_llambert import __version__
from hf_llambert.notes import damaged_note, read_note
from hf_llambert.reading import (
    PLAIN,
    FileFormat,
    MixedTypes,
    check_labels,
    fitted,
    joined_schema,
    read_tables,
    refuse_look_alikes,
    suited,
)
from hf_llambert.reading.folders import data_files, is_saved_dataset
from hf_llambert.reading.hub_files import csv_options, hub_files
from hf_llambert.reading.saved import read_saved
from hf_llambert.stages import STAGE_FILE, claim_stage, note_stage, stage_results
from hf_llambert.tasks.label_names import look_alikes
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import ABSTAIN, LabelValues
from hf_llambert.tasks.texts import TextColumn, column_names
from hf_llambert.whole import scratch_folder, whole_file, whole_folder, write_whole

__all__ = [
    "STAGE_FILE",
    "check_column",
    "check_texts",
    "claim_stage",
    "content_hash",
    "damaged_note",
    "data_files",
    "hub_errors",
    "is_saved_dataset",
    "load_data",
    "named_values",
    "note_stage",
    "read_files",
    "read_note",
    "read_saved",
    "refuse_own_columns",
    "scratch_folder",
    "stage_results",
    "whole_folder",
    "write_whole",
]


def load_data(
    source: str | Path,
    split: str | None = None,
    num_rows: int | None = None,
    seed: int = 42,
    *,
    label_columns: Sequence[str] = (),
    encoding: str = "utf-8",
    delimiter: str = ",",
    config: str | None = None,
    text_column: TextColumn = "text",
) -> Dataset:
    """
    Read a dataset.

    Args:
        source (`str` or `Path`): A .parquet, .jsonl, .ndjson, .json, .csv, .tsv or .arrow file (compressed or not), a directory
            of such files, a dataset written by `save_to_disk`, or a Hub id.
        split (`str`, *optional*): Split of a Hub dataset or a saved `DatasetDict`. Needed when there are several.
        num_rows (`int`, *optional*): Take a random sample of so many rows. A larger sample with the same seed begins
            with the rows of a smaller one.
        seed (`int`, defaults to 42): Seed of the sample.
        label_columns (`Sequence[str]`, defaults to none): Columns of CSV and JSON to read as strings, as they are written:
            `01` stays `01`. An empty cell of a CSV and a JSON null are null.
        encoding (`str`, defaults to `"utf-8"`): Encoding of CSV and JSON files.
        delimiter (`str`, defaults to `","`): What stands between the fields of a CSV; in a .tsv it is a tab.
        config (`str`, *optional*): Configuration of a Hub dataset. Needed when there are several.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts, or of several fields. Half a
            character in JSON (a lone surrogate) makes its row unusable there; in other columns U+FFFD stands for it.

    Raises:
        FileNotFoundError: There is no such file, directory or Hub dataset.
        ValueError: It is empty, holds fewer rows than asked for, the split or configuration is missing or unknown, or a
            file is not what its name and the arguments say.
    """
    dataset = _read(
        source, split, config, FileFormat(encoding, delimiter, label_columns, tuple(column_names(text_column)))
    )
    if not len(dataset):
        raise ValueError(f"'{source}' has no rows.")
    return dataset if num_rows is None else draw_rows(dataset, num_rows, seed, source)


def draw_rows(dataset: Dataset, num_rows: int, seed: int, source: str | Path = "the data") -> Dataset:
    """
    A random sample of so many rows; see [`load_data`].

    Raises:
        ValueError: There are fewer.
    """
    if not 0 < num_rows <= len(dataset):
        raise ValueError(f"Asked for {num_rows:,} rows of '{source}', which has {len(dataset):,}.")
    return dataset.shuffle(seed=seed).select(range(num_rows))


def check_column(dataset: Dataset, column: TextColumn, argument: str) -> None:
    """Raise a `ValueError` that names the argument to pass when `dataset` has no such column, or one without texts."""
    refuse_missing(dataset.column_names, column, argument)
    if argument == "text_column":
        for name in column_names(column):
            check_texts(dataset.features, name)


def refuse_missing(present: Sequence[str], column: TextColumn, argument: str = "text_column") -> None:
    """Raise a `ValueError` that names the first column of `column` that is not among those `present`."""
    names = column_names(column)
    for name in names:
        if name not in present:
            how = f"Pass {argument}=... ."
            if len(names) > 1:
                how = (
                    f"{', '.join(names)} are read together: rename the column, or pass all in order, {argument}=[...]."
                )
            raise ValueError(f"Column '{name}' not found in {list(present)}. {how}")


def check_texts(features: Features, column: str) -> None:
    """Raise a `ValueError` when a column holds something else than strings, such as numbers."""
    kind = features.arrow_schema.field(column).type
    if not any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)):
        raise ValueError(
            f"Column '{column}' must hold strings, it holds {kind}. Pass text_column=... with the column of the texts."
        )


def refuse_own_columns(present: Iterable[str], own: Iterable[str]) -> None:
    """Raise a `ValueError` where data has a column already that a labeler would add."""
    if taken := sorted(set(present) & set(own)):
        raise ValueError(
            f"The data has the column{'s' * (len(taken) > 1)} {', '.join(map(repr, taken))} already, and labeling would "
            f"overwrite what is there. Rename it (dataset.rename_column) or leave it out (dataset.remove_columns)."
        )


def question_gold(
    dataset: Dataset,
    column: str,
    question: Question,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> list:
    """
    People's answers to a question as [`Question.gold`] has them, from a column of any type.

    A `ClassLabel`, or a list of them, is read by its names, which are the task's or commonly short for them (`neg` for
    `negative`), in any order. What a value means is decided for the whole column; see [`label_meanings`].

    Raises:
        ValueError: The column fits two readings or none, or `label_map` has a value that the data has not.
    """
    _check_label_column(dataset, column)
    feature = dataset.features[column]
    names = class_names(feature)
    if not names:
        return question.gold(dataset[column][:], column, label_map, label_values)
    if not isinstance(feature, ClassLabel):
        rows = named_values(dataset, column)
        return question.gold([*rows, names], column, label_map, label_values)[: len(rows)]
    classes = question.gold(names, column, label_map, label_values)
    if len(set(map(str, classes))) < len(names) and not label_map:  # a map may join classes
        raise ValueError(f"Classes {names} of column '{column}' are not those of task: {question.labels}.")
    return [question.missing if v is None or v == ABSTAIN else classes[v] for v in dataset[column][:]]


def class_names(feature: object) -> list[str]:
    """Names of a `ClassLabel`, or of a list of them; none of other features."""
    inner = getattr(feature, "feature", feature)
    return list(inner.names) if isinstance(inner, ClassLabel) else []


def question_reading(
    dataset: Dataset,
    column: str,
    question: Question,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> LabelValues:
    """
    What a whole column of people's answers holds, `names`, `ids` or `ids_from_1`, so that some of its rows are read as all
    are. A `ClassLabel` says itself what its values are, so `label_values` stays.

    Raises:
        ValueError: As [`question_gold`].
    """
    _check_label_column(dataset, column)
    if class_names(dataset.features[column]):
        return label_values
    return question.reading(dataset[column][:], column, label_map, label_values)


def _check_label_column(dataset: Dataset, column: str) -> None:
    if column not in dataset.column_names:
        like = look_alikes(column, dataset.column_names)
        raise ValueError(
            f"Column '{column}' not found in {dataset.column_names}. Name the column of people's labels: --label_column "
            f"(label_column or gold_column in Python)." + (f" Is it {' or '.join(map(repr, like))}?" if like else "")
        )


@contextmanager
def optional_gold() -> Iterator[None]:
    """Add to an error about people's labels that labels are optional."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} Or measure by none: --label_column none (no gold_column in Python).") from error


def named_values(dataset: Dataset, column: str) -> list[object]:
    """The values of a label column as they are, those of a `ClassLabel`, or of a list of them, as their names."""
    feature, values = dataset.features[column], dataset[column][:]
    names = class_names(feature)
    if not names:
        return list(values)
    if isinstance(feature, ClassLabel):
        return [None if v is None or v == ABSTAIN else names[v] for v in values]
    return [None if row is None else [names[v] for v in row if v is not None and v != ABSTAIN] for row in values]


def content_hash(dataset: Dataset) -> str:
    """A digest of column names, types and every value: the same data has the same one, wherever it was read from."""
    digest = hashlib.sha256(repr(sorted(dataset.features.items())).encode())
    for batch in dataset.select_columns(sorted(dataset.column_names)).with_format(None).iter(batch_size=1000):
        digest.update(json.dumps(batch, default=str).encode())
    return digest.hexdigest()[:32]


def _read(source: str | Path, split: str | None, config: str | None, form: FileFormat) -> Dataset:
    path = Path(source)
    if path.is_dir() and (path / "annotated").is_dir():  # the folder of a run
        path = path / "annotated"
    if config is not None and path.exists():
        raise ValueError(f"'{source}' is here and has no configurations. Leave config (--config) out.")
    if is_saved_dataset(path):
        return _one_split(read_saved(path), source, split)
    if path.exists():
        return read_files(*data_files(path), form)
    with hub_errors(source, config):
        builder = load_dataset_builder(str(source), config)
        hub = hub_files(builder, split, form)
        if hub is None:
            options = csv_options(form) if builder.name == "csv" and builder.info.features is None else {}
            if split is None:
                return _one_split(load_dataset(str(source), config, **options), source, None)
            return load_dataset(str(source), config, split=split, **options)
        paths = hub.paths()
    return hub.named(read_files(hub.kind, paths, hub.form))


@contextmanager
def hub_errors(source: object, config: str | None) -> Iterator[None]:
    """Raise errors of the Hub as one sentence, with the configurations that there are."""
    try:
        yield
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise FileNotFoundError(
            f"'{source}' is no file or directory here, and no dataset of that name could be had from the Hub: {error}"
        ) from error
    except ValueError as error:
        if not re.search(r"config name is missing|BuilderConfig .* not found", str(error), re.IGNORECASE):
            raise
        named = re.search(r"(\[[^\]]*\])", str(error))
        raise ValueError(
            f"'{source}' has the configurations {named[1] if named else 'that its page lists'}; got config={config!r}. "
            f"Pass one of them as config=... (--config)."
        ) from error


def read_files(kind: str, files: Sequence[Path], form: FileFormat = PLAIN) -> Dataset:
    """
    The rows of files, with the columns of all; mapped into memory from a copy among the caches of `datasets`.

    Raises:
        ValueError: A file cannot be read, or has a column of another type than those before it; the message names it.
    """
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([__version__, kind, stats, repr(form)]).encode()).hexdigest()[:32]
    copy = Path(datasets.config.HF_DATASETS_CACHE) / "hf_llambert" / f"{digest}.arrow"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(copy) as part:
            read = suited(kind, files, form)
            wider = _copy_tables(kind, files, read, part, None)
            while wider is not None:
                wider = _copy_tables(kind, files, read, part, wider)
    return Dataset.from_file(str(copy))


def _copy_tables(
    kind: str, files: Sequence[Path], form: FileFormat, copy: Path, schema: pa.Schema | None
) -> pa.Schema | None:
    """Write the rows of files as Arrow. Returns the columns to begin again with where these were too few or too narrow."""
    writer = None
    labels: dict[str, tuple[str, object]] = {}
    try:
        for path in files:
            try:
                for table in read_tables(kind, path, form):
                    check_labels(labels, table.schema, str(path))
                    schema = table.schema if schema is None else schema
                    refuse_look_alikes(schema.names, table.schema.names)
                    wider = joined_schema(schema, table.schema)
                    if wider != schema:
                        if not writer:
                            schema = wider
                        else:
                            return wider
                    writer = writer or pa.ipc.new_stream(str(copy), schema)
                    writer.write_table(fitted(table, schema))
            except MixedTypes as error:
                raise MixedTypes(error.column, f"'{path}' cannot be read as {kind}: {error}.") from error
            except (ValueError, OSError, pa.ArrowException) as error:
                reason = " ".join(str(error).split())[:1000] or type(error).__name__
                raise ValueError(f"'{path}' cannot be read as {kind}: {reason}.") from error
        if writer is None:
            raise ValueError(f"'{files[0]}' has no rows." if len(files) == 1 else f"'{_folder(files)}' has no rows.")
    finally:
        if writer is not None:
            writer.close()
    return None


def _folder(files: Sequence[Path]) -> Path:
    """The folder that holds all of some files."""
    return Path(os.path.commonpath([path.absolute().parent for path in files]))


def _one_split(data: Dataset | DatasetDict, source: object, split: str | None) -> Dataset:
    if not isinstance(data, DatasetDict):
        return data
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        raise ValueError(f"'{source}' has the splits {list(data)}; got split={split!r}. Pass one of them.")
    return data[split]
