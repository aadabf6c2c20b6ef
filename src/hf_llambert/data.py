"""Reading texts from wherever they are, and writing folders whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from hf_llambert import __version__
from hf_llambert.tasks.questions import ABSTAIN, LabelValues, label_ids, warn_about_gold
from hf_llambert.tasks.spec import TaskSpec

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


def refuse_own_columns(present: Iterable[str], own: Iterable[str]) -> None:
    """Raise a `ValueError` where data has a column already that a labeler would add."""
    if taken := sorted(set(present) & set(own)):
        raise ValueError(
            f"The data has the column{'s' * (len(taken) > 1)} {', '.join(map(repr, taken))} already, and labeling would "
            f"overwrite what is there. Rename it (dataset.rename_column) or leave it out (dataset.remove_columns)."
        )


def gold_labels(
    dataset: Dataset,
    column: str,
    task: TaskSpec,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> list[int]:
    """
    People's labels as ids of the task, -1 where there is none, whatever they are called in the data.

    Accepts names, ids, and a `ClassLabel` whose names are the task's or the beginning of exactly one of them (`neg` for
    `negative`), in any order. What a value means is decided for the whole column; see [`label_meanings`].

    Raises:
        ValueError: The column fits two readings or none, or `label_map` has a value that the data has not.
    """
    check_column(dataset, column, "label_column")
    feature, values = dataset.features[column], dataset[column][:]
    if not isinstance(feature, ClassLabel):
        return label_ids(values, task.labels, column, label_map, label_values)
    ids = label_ids(feature.names, task.labels, column, label_map, label_values)
    if len(set(ids)) < len(ids) and not label_map:  # a map may join classes
        raise ValueError(f"Classes {feature.names} of column '{column}' are not those of task: {task.labels}.")
    return [ABSTAIN if v is None or v == ABSTAIN else ids[v] for v in values]


def named_values(dataset: Dataset, column: str) -> list[object]:
    """The values of a label column as they are, those of a `ClassLabel` as their names."""
    feature, values = dataset.features[column], dataset[column][:]
    if not isinstance(feature, ClassLabel):
        return list(values)
    return [None if v is None or v == ABSTAIN else feature.names[v] for v in values]


def with_gold(
    dataset: Dataset,
    text_column: str,
    label_column: str,
    task: TaskSpec,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> Dataset:
    """
    The texts with a `label` column of the task's ids, from people's labels. Warns of texts with several labels and of
    labels that no row has.

    Args:
        dataset (`Dataset`): Texts and labels.
        text_column (`str`): Column of the texts.
        label_column (`str`): Column of the labels: all names of the task (or what begins exactly one of these, `neg` for
            `negative`), or all ids. A null, an empty cell or NaN means no label, and -1 where no label is called so.
        task (`TaskSpec`): The task.
        label_map (`Mapping[str, str]`, *optional*): What other labels of the data are in the task: `{"sci/tech": "tech"}`. An
            empty label means none.
        label_values (`str`, defaults to `"auto"`): `names`, `ids` or `ids_from_1`, where the values alone do not tell.

    Raises:
        ValueError: No such column, or labels that fit two readings or none.
    """
    check_column(dataset, text_column, "text_column")
    labels = gold_labels(dataset, label_column, task, label_map, label_values)
    texts = dataset.select_columns(text_column)
    warn_about_gold(texts[text_column][:], labels, task.labels, label_column)
    return texts.add_column("label", labels, feature=ClassLabel(names=list(task.labels)))


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


def shown_command(argv: Sequence[str]) -> str | None:
    """
    A command as another user would type it, to be published: no folder of this machine, no credential. `None` where
    there is none, as in a notebook.
    """
    program = Path(argv[0]) if argv and argv[0] else None
    if program is None or (program.name != "hf-llambert" and "recipes" not in program.parts):
        return None
    words = ["hf-llambert"] if program.name == "hf-llambert" else ["accelerate", "launch", f"recipes/{program.name}"]
    hidden = False
    for argument in argv[1:]:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if hidden or "hub_token" in option or _CREDENTIAL.search(argument):
            words.append(f"{option}{equals}..." if value or hidden else option)
        else:
            words.append(option + equals + (_without_place(value) if value else ""))
        hidden = "hub_token" in option and not equals
    return shlex.join(words)


def _without_place(value: str) -> str:
    """A path of this machine as its last part; anything else as it is."""
    path = Path(value)
    return path.name if path.is_absolute() or path.parts[:1] in (("..",), ("~",)) else value


_CREDENTIAL = re.compile(r"hf_[A-Za-z0-9]{16,}|//[^/@]*@")


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
