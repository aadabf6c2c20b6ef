"""Reading texts from wherever they are, and writing folders whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from hf_llambert import __version__
from hf_llambert.shown import shown_command
from hf_llambert.tasks.answers import normalize
from hf_llambert.tasks.spec import ABSTAIN, TaskSpec

_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
STAGE_FILE = "stage.json"


def load_data(source: str | Path, split: str | None = None, num_rows: int | None = None, seed: int = 42) -> Dataset:
    """
    Read a dataset.

    Args:
        source (`str` or `Path`): A .parquet, .jsonl, .json, .csv or .arrow file (compressed or not), a directory of such
            files, a dataset written by `save_to_disk`, or a Hub id.
        split (`str`, *optional*): Split of a Hub dataset or a saved `DatasetDict`. Needed when there are several.
        num_rows (`int`, *optional*): Take a random sample of so many rows. A larger sample with the same seed begins
            with the rows of a smaller one.
        seed (`int`, defaults to 42): Seed of the sample.

    Raises:
        FileNotFoundError: There is no such file, directory or Hub dataset.
        ValueError: It is empty, holds fewer rows than asked for, or the split is missing or unknown.
    """
    dataset = _read(source, split)
    if not len(dataset):
        raise ValueError(f"'{source}' has no rows.")
    if num_rows is None:
        return dataset
    if not 0 < num_rows <= len(dataset):
        raise ValueError(f"Asked for {num_rows:,} rows of '{source}', which has {len(dataset):,}.")
    return dataset.shuffle(seed=seed).select(range(num_rows))


def check_column(dataset: Dataset, column: str, argument: str) -> None:
    """Raise a `ValueError` that names the argument to pass when `dataset` has no such column."""
    if column not in dataset.column_names:
        raise ValueError(f"Column '{column}' not found in {dataset.column_names}. Pass {argument}=... .")


def gold_labels(
    dataset: Dataset, column: str, task: TaskSpec, label_map: Mapping[str, str] | None = None
) -> list[int]:
    """
    People's labels as ids of the task, whatever they are called in the data.

    Accepts ids, names, and a `ClassLabel` whose names are the task's or the beginning of exactly one of them (`neg` for
    `negative`), in any order. A null or -1 means no label. `label_map` says what other values of the data are in the task.

    Raises:
        ValueError: A value names none of the task's labels, or `label_map` has one that the data has not.
    """
    check_column(dataset, column, "label_column")
    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):
        names = _mapped(feature.names, label_map or {}, task, column)
        ids = [label_id(name, task, column) for name in names]
        if len(set(ids)) < len(ids) and not label_map:  # a map may join classes
            raise ValueError(f"Classes {feature.names} of column '{column}' are not those of task: {task.labels}.")
        return [ABSTAIN if v is None or v == ABSTAIN else ids[v] for v in values]
    distinct = list(dict.fromkeys(values))
    known = dict(zip(distinct, _mapped(distinct, label_map or {}, task, column), strict=True))
    known = {v: label_id(name, task, column) for v, name in known.items()}
    return [known[v] for v in values]


def _mapped(values: Sequence, label_map: Mapping[str, str], task: TaskSpec, column: str) -> list:
    """The values, those in `label_map` as the task's labels that stand there."""
    strange = sorted(set(label_map) - {str(value) for value in values})
    unknown = sorted(set(label_map.values()) - set(task.labels))
    if strange or unknown:
        raise ValueError(
            f"label_map goes from labels of column '{column}' to those of task '{task.name}', {list(task.labels)}; "
            f"{' and '.join(map(repr, strange or unknown))} is not among "
            f"{sorted(map(str, values))[:30] if strange else 'these'}."
        )
    return [label_map.get(str(value), value) for value in values]


def with_gold(
    dataset: Dataset,
    text_column: str,
    label_column: str,
    task: TaskSpec,
    label_map: Mapping[str, str] | None = None,
) -> Dataset:
    """
    The texts with a `label` column of the task's ids, from people's labels.

    Args:
        dataset (`Dataset`): Texts and labels.
        text_column (`str`): Column of the texts.
        label_column (`str`): Column of the labels: ids or names of the task, or names that begin exactly one of these
            (`neg` for `negative`). A null or -1 means no label.
        task (`TaskSpec`): The task.
        label_map (`Mapping[str, str]`, *optional*): What other labels of the data are in the task: `{"sci/tech": "tech"}`.

    Raises:
        ValueError: No such column, or a label that is none of the task's.
    """
    check_column(dataset, text_column, "text_column")
    labels = gold_labels(dataset, label_column, task, label_map)
    texts = dataset.select_columns(text_column)
    return texts.add_column("label", labels, feature=ClassLabel(names=list(task.labels)))


def label_id(value: object, task: TaskSpec, column: str) -> int:
    """One label of a column as the task's id; see [`gold_labels`]. Raises `ValueError` when it is none of them."""
    if value is None or value == ABSTAIN:
        return ABSTAIN
    names = [normalize(label) for label in task.labels]
    if not isinstance(value, str) and str(value) in task.labels:
        return task.labels.index(str(value))
    if isinstance(value, float) and value.is_integer():  # a column of ids with gaps
        value = int(value)
        if value == ABSTAIN:
            return ABSTAIN
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < task.num_labels:
        return value
    if isinstance(value, str):
        key = normalize(value)
        starts = [i for i, name in enumerate(names) if key and name.startswith(key)]
        if key in names:
            return names.index(key)
        if len(starts) == 1:
            return starts[0]
    raise ValueError(
        f"Column '{column}' holds {value!r}, which is none of the labels of task '{task.name}': expected an id from 0 "
        f"to {task.num_labels - 1} or one of {list(task.labels)}. A label_map says which of them it is."
    )


def content_hash(dataset: Dataset) -> str:
    """A digest of column names, types and every value: the same data has the same one, wherever it was read from."""
    digest = hashlib.sha256(repr(sorted(dataset.features.items())).encode())
    for batch in dataset.select_columns(sorted(dataset.column_names)).with_format(None).iter(batch_size=1000):
        digest.update(json.dumps(batch, default=str).encode())
    return digest.hexdigest()[:32]


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A temporary folder beside another, removed at the end; that of a process that was killed goes with the next."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    host = platform.node()
    for litter in beside.parent.glob(f".{beside.name}.{host}.*.part"):
        if not _alive(int(litter.name.split(".")[-2])):
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
        for path in part.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            raise FileExistsError(f"'{folder}' was written by another process meanwhile. What it wrote is kept.")
        part.rename(folder)


def stage_results(folder: str | Path, config: Mapping[str, object]) -> dict | None:
    """
    What a stage noted when it was done with this very configuration, or `None` when `folder` is not there yet.

    Raises:
        FileExistsError: `folder` holds something else; the message names what differs.
    """
    folder = Path(folder)
    if not folder.exists():
        return None
    if not (folder / STAGE_FILE).is_file():
        raise FileExistsError(f"'{folder}' exists and was not made by hf-llambert. Choose another output.")
    noted = json.loads((folder / STAGE_FILE).read_text(encoding="utf-8"))
    config = json.loads(json.dumps(config))
    if noted["config"] != config:
        keys = sorted(k for k in {*config, *noted["config"]} if config.get(k) != noted["config"].get(k))
        changes = "; ".join(f"{k}: {noted['config'].get(k)!r} there, {config.get(k)!r} now" for k in keys)
        raise FileExistsError(f"'{folder}' holds the results of another run ({changes}). Choose another output.")
    return noted["results"]


def claim_stage(folder: Path, config: Mapping[str, object], overwrite: bool = False) -> None:
    """
    Make a stage's folder, or see that it is this configuration's. Several processes may do so at once.

    Raises:
        FileExistsError: `folder` holds something else and `overwrite` is off, or was not made here.
    """
    if not folder.exists():
        with scratch_folder(folder) as part:
            note_stage(part, config, {})
            with suppress(OSError):  # another process was first
                part.rename(folder)
    try:
        stage_results(folder, config)
    except FileExistsError:
        if not overwrite or not (folder / STAGE_FILE).is_file():
            raise
        note_stage(folder, config, {})


def note_stage(folder: Path, config: Mapping[str, object], results: Mapping[str, object]) -> None:
    """Write down, inside a stage's folder, how it was made and what came of it."""
    made = {"command": shown_command(sys.argv), "machine": _machine(), "hf_llambert": __version__}
    note = {"config": config, "results": results, "made": made}
    write_whole(folder / STAGE_FILE, json.dumps(note, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: on a full disk the old one stays."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _machine() -> str:
    """What a stage ran on, in words, without the name of the machine."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    return f"CPU, {os.cpu_count()} cores"


def _read(source: str | Path, split: str | None) -> Dataset:
    path = Path(source)
    if path.is_dir() and (path / "annotated").is_dir():  # the folder of a run
        path = path / "annotated"
    if is_saved_dataset(path):
        return _one_split(load_from_disk(str(path)), source, split)
    if path.exists():
        return _read_files(*data_files(path))
    try:
        if split is None:
            return _one_split(load_dataset(str(source)), source, None)
        return load_dataset(str(source), split=split)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise FileNotFoundError(
            f"'{source}' is no file or directory here, and no dataset of that name could be had from the Hub: {error}"
        ) from error


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def data_files(source: str | Path) -> tuple[str, list[Path]]:
    """
    The kind (`parquet`, `json`, `csv` or `arrow`) and the files of a file or directory, in the order of their names.

    Raises:
        FileNotFoundError: The directory holds none.
        ValueError: A file of another kind, or files of several kinds.
    """
    path = Path(source)
    if path.is_file():
        files = [path]
        if _kind(path) is None:
            raise ValueError(f"'{path}' is not one of {', '.join(_FORMATS)}.")
    else:
        visible = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
        files = sorted(p for p in visible if _kind(p) and p.name != STAGE_FILE)
    if not files:
        raise FileNotFoundError(f"'{path}' holds no {', '.join(_FORMATS)} file and no saved dataset.")
    kinds = {str(_kind(p)) for p in files}
    if len(kinds) > 1:
        raise ValueError(f"'{files[0].parent}' mixes {sorted(kinds)} files. Keep files of one kind in a directory.")
    if not any(p.stat().st_size for p in files):
        raise ValueError(f"'{files[0]}' is empty.")
    return kinds.pop(), files


def reading_options(kind: str) -> dict[str, object]:
    """Arguments of `load_dataset` for a kind of file. Without these, pandas reads texts such as "None" or "NA" as missing."""
    return {"keep_default_na": False, "na_values": [""]} if kind == "csv" else {}


def _kind(path: Path) -> str | None:
    name = path.with_suffix("") if path.suffix in _COMPRESSED else path
    return _FORMATS.get(name.suffix)


def _read_files(kind: str, files: Sequence[Path]) -> Dataset:
    try:
        return load_dataset(kind, data_files=[str(p) for p in files], split="train", **reading_options(kind))
    except DatasetGenerationError as error:
        raise ValueError(f"'{files[0].parent}' cannot be read as {kind}: {error.__cause__ or error}") from error
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"'{files[0]}' has no rows.") from error
        raise


def _one_split(data: Dataset | DatasetDict, source: object, split: str | None) -> Dataset:
    if not isinstance(data, DatasetDict):
        return data
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        raise ValueError(f"'{source}' has the splits {list(data)}; got split={split!r}. Pass one of them.")
    return data[split]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
