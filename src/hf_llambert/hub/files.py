"""The files of a run that are published, for the dataset repository and for the model repository."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset, Features

from hf_llambert.annotation.published import ANNOTATION_FILE
from hf_llambert.annotation.silver import select_silver
from hf_llambert.data import STAGE_FILE, class_names
from hf_llambert.misfits import Shape
from hf_llambert.notes import read_note, read_stage
from hf_llambert.pool.labelled import run_labels
from hf_llambert.reading.saved import read_annotated
from hf_llambert.shown import scrubbed, scrubbed_reason
from hf_llambert.tasks.parts import GOLD
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.inputs import TRAINING_FILE
from hf_llambert.training.linear import VOCABULARY_FILE, WEIGHTS_FILE
from hf_llambert.training.train import ADAPTER_FOLDER, SILVER_FILE

LABELS = "labels"
"""Folder of a labelled pool's shards, in a repository."""

_SHARD_BYTES = 256 * 2**20  # of Arrow data; Parquet is about half of it
_MODEL_FILES = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    WEIGHTS_FILE,
    VOCABULARY_FILE,
)
_MORE_MODEL_FILES = ("vocab.*", "merges.txt", "added_tokens.json", "*.model", "*.jinja", TRAINING_FILE)
_PUBLISHED: Shape = {
    "config": {"gold_column": object, "teacher": object},
    "results": {"settings": dict},
    "made": {"hf_llambert": str},
}


@dataclass(frozen=True)
class PoolLabels:
    """
    Shards of a labelled pool, which are published as they are, under their own names: a pool may be larger than the disk.

    Args:
        shards (`tuple[Path, ...]`): The files.
        student (`str`, *optional*): Content of the student, or of both.
        partial (`bool`): Whether the pool is not labelled to its end.
        hidden (`frozenset[str]`): Columns that stay here.
        reasons (`tuple[str, ...]`): Columns of reasons, which are scrubbed.
    """

    shards: tuple[Path, ...]
    student: str | None
    partial: bool
    hidden: frozenset[str]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.shards)

    @property
    def features(self) -> Features:
        """The features of what is published."""
        found = Features.from_arrow_schema(pq.read_schema(self.shards[0]))
        return Features({name: feature for name, feature in found.items() if name not in self.hidden})

    def files(self, folder: Path) -> dict[str, Path]:
        """The files by their place in the repository; those with something to hide as copies in `folder`."""
        return {shard_place(path): self._published(path, folder) for path in self.shards}

    def _published(self, path: Path, folder: Path) -> Path:
        if not {*self.hidden, *self.reasons} & set(pq.read_schema(path).names):
            return path
        copy = folder / shard_place(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        published(Dataset(pq.read_table(path)), self.hidden, self.reasons).to_parquet(str(copy))
        return copy


def shard_place(shard: Path) -> str:
    """Where a shard of a labelled pool stands in a repository."""
    return f"{LABELS}/{shard.name}"


def dataset_configs(run: Path, gold: bool, partial: bool = False) -> dict[str, Dataset | PoolLabels]:
    """
    The configurations of the published dataset: `annotations`, `silver` and, where the run's student labelled the pool,
    `labels`.

    Args:
        run (`Path`): Folder of the run.
        gold (`bool`): Keep people's labels. Without it their column is left out everywhere.
        partial (`bool`, defaults to `False`): Take the labels of a pool that is not labelled to its end.

    Raises:
        ValueError: The labels of two of them differ, or the pool is not labelled to its end.
    """
    config = _annotated(run)["config"]
    task = TaskSpec.from_dict(config["task"])
    own = {name or GOLD for name in task.parts}
    reasons = tuple(
        f"{prefix(part, who)}_reason" for who in ("llm", *config.get("members", {})) for part in task.parts
    )
    annotated = read_annotated(run, config)
    if (run / "student" / SILVER_FILE).is_file():
        silver = Dataset.from_parquet(str(run / "student" / SILVER_FILE))
    else:
        silver, _ = select_silver(annotated, task)
    people = {GOLD, *own, *(f"gold_{name}" for name in own), *gold_names(config.get("gold_column"))}
    hidden = frozenset() if gold else frozenset(people)
    configs: dict[str, Dataset | PoolLabels] = {"annotations": annotated, "silver": silver}
    labels = _pool_labels(run, partial, hidden, reasons)
    if labels is not None:
        configs["labels"] = labels
    for name, data in configs.items():
        for part, one in task.parts.items():
            ends = {"annotations": prefix(part), "silver": "", "labels": prefix(part, "student")}
            column = f"{ends[name]}_{one.question.answer_column}" if ends[name] else part or GOLD
            names = class_names(data.features[column])
            if names and tuple(names) != one.labels:
                raise ValueError(
                    f"The {name} have the labels {names}, the task of the annotations has {list(one.labels)}: they are not of "
                    f"one run. Label again with this run's student."
                )
        if isinstance(data, Dataset):  # the answers of silver are the teacher's
            configs[name] = published(data, hidden - own if name == "silver" else hidden, reasons)
    return configs


def prefix(part: str, who: str = "llm") -> str:
    """The beginning of the names of columns of answers to a question."""
    return f"{who}_{part}" if part else who


def gold_names(column: object) -> list[str]:
    """The columns of people's labels, as a note has them."""
    if isinstance(column, Mapping):
        return [name for one in column.values() for name in gold_names(one)]
    return [str(one) for one in column] if isinstance(column, list) else [column] if isinstance(column, str) else []


def _pool_labels(run: Path, partial: bool, hidden: frozenset[str], reasons: tuple[str, ...]) -> PoolLabels | None:
    found = run_labels(run)
    if found is None or found.foreign is not None:  # which the report says
        return None
    labels = PoolLabels(tuple(found.shards()), found.made_by, not found.complete, hidden, reasons)
    if labels.partial and not partial:
        raise ValueError(
            f"'{found.folder}' holds {len(labels):,} rows of a pool that is not labelled to its end. Run hf-llambert label "
            f"again, or pass --partial (partial=True): the card will say so."
        )
    return labels if labels.shards else None


def published(data: Dataset, hidden: Collection[str], reasons: Sequence[str]) -> Dataset:
    """The data without the hidden columns, its reasons scrubbed."""
    return _with_scrubbed(data.remove_columns([name for name in data.column_names if name in hidden]), reasons)


def _with_scrubbed(data: Dataset, columns: Sequence[str]) -> Dataset:
    """The data with its columns of reasons scrubbed; see [`scrubbed_reason`]."""
    order = data.column_names
    for name in columns:
        if name not in order:
            continue
        shown = {why: None if why is None else scrubbed_reason(why) for why in data.unique(name)}
        if any(why != to for why, to in shown.items()):
            values = [shown[why] for why in data[name][:]]
            data = data.remove_columns(name).add_column(name, values, feature=data.features[name])
    return data.select_columns(order)


def write_shards(configs: Mapping[str, Dataset | PoolLabels], folder: Path) -> dict[str, Path]:
    """
    Write each configuration as Parquet files of some 100 MB, but for shards that are there; local files by their place in the
    repository.
    """
    files: dict[str, Path] = {}
    for name, data in configs.items():
        if isinstance(data, PoolLabels):
            files |= data.files(folder)
            continue
        shards = max(1, -(-data.data.nbytes // _SHARD_BYTES))
        for k in range(shards):
            place = f"{name}/train-{k:05d}-of-{shards:05d}.parquet"
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            data.shard(shards, k, contiguous=True).to_parquet(str(path))
            files[place] = path
    return files


def column_types(features: Features) -> dict[str, str]:
    """Column names with their types in words, for a card."""
    return {
        name: "one of " + ", ".join(feature.names) if hasattr(feature, "names") else _kind(feature)
        for name, feature in features.items()
    }


def _annotated(run: Path) -> dict:
    """The note of the annotation, with all that is published of it, or kept back because of it."""
    path = run / "annotated" / STAGE_FILE
    read_note(path, _PUBLISHED)
    return read_stage(path, "annotated")


def annotation_note(run: Path) -> bytes:
    """How the dataset was annotated, for [`LLMLabeler.from_dataset`]."""
    stage = _annotated(run)
    config, results = stage["config"], stage["results"]
    note = {
        "task": config["task"],
        "teacher": results["settings"],
        "identity": config["teacher"],
        "calibration": _calibrations(results),
        "text_column": config["text_column"],
        **({"ask_apart": True} if config.get("ask_apart") is True else {}),
        **({"members": members} if (members := _members(config, results)) else {}),
        "hf_llambert": stage["made"]["hf_llambert"],
    }
    return (json.dumps(scrubbed(note), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _calibrations(results: Mapping) -> dict | None:
    """The calibration of the only question, or those of several by their names."""
    if "questions" not in results:
        return results["calibration"]
    return {name: one.get("calibration") for name, one in results["questions"].items()}


def _members(config: dict, results: dict) -> dict[str, dict]:
    return {
        name: {
            "task": member["task"],
            "identity": member["teacher"],
            "teacher": results["members"][name]["settings"],
            "calibration": _calibrations(results["members"][name]),
            **({"ask_apart": True} if member.get("ask_apart") is True else {}),
        }
        for name, member in config.get("members", {}).items()
    }


def dataset_files(run: Path, configs: Mapping[str, Dataset | PoolLabels], folder: Path) -> dict[str, Path | bytes]:
    """Files of the dataset repository by their place in it, but for the card."""
    return {**write_shards(configs, folder), ANNOTATION_FILE: annotation_note(run), **_figures(run)}


def model_files(run: Path) -> dict[str, Path | bytes]:
    """Files of the model repository by their place in it, but for the card."""
    student = run / "student"
    files = student_files(student)
    adapter = student / ADAPTER_FOLDER
    files |= {f"{ADAPTER_FOLDER}/{path.name}": path for path in sorted(adapter.glob("adapter_*"))}
    drawn: dict[str, Path | bytes] = {
        f"figures/{name}": student / name for name in ("training.png", "mix.png") if (student / name).is_file()
    }
    return files | _figures(run) | drawn


def student_files(student: Path) -> dict[str, Path | bytes]:
    """What loads a student of any kind, by its place: never the rows that it learnt or was measured on."""
    found = (path for pattern in (*_MODEL_FILES, *_MORE_MODEL_FILES) for path in student.glob(pattern))
    return {path.name: path for path in sorted(found) if path.is_file()}


def _figures(run: Path) -> dict[str, Path | bytes]:
    return {f"figures/{path.name}": path for path in sorted((run / "figures").glob("*.png"))}


def _kind(feature: object) -> str:
    inner = getattr(feature, "feature", None)
    return f"list of {_kind(inner)}" if inner is not None else str(getattr(feature, "dtype", feature))
