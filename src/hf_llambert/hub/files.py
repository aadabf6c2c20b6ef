"""What of a run is published: a dataset repository's files and a model repository's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, Features

from hf_llambert.annotation.published import ANNOTATION_FILE
from hf_llambert.annotation.silver import select_silver
from hf_llambert.data import STAGE_FILE
from hf_llambert.notes import Shape, read_note, read_stage
from hf_llambert.pool.shards import read_pool
from hf_llambert.reading.saved import read_annotated
from hf_llambert.shown import scrubbed, scrubbed_reason
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.inputs import TRAINING_FILE
from hf_llambert.training.train import ADAPTER_FOLDER, SILVER_FILE

_SHARD_BYTES = 256 * 2**20  # of Arrow data; Parquet is about half of it
_MODEL_FILES = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
)
_MORE_MODEL_FILES = ("vocab.*", "merges.txt", "added_tokens.json", "*.model", "*.jinja", TRAINING_FILE)
_PUBLISHED: Shape = {
    "config": {"gold_column": (str, None), "teacher": object},
    "results": {"settings": dict},
    "made": {"hf_llambert": str},
}


def dataset_configs(run: Path, gold: bool, partial: bool = False) -> dict[str, Dataset]:
    """
    The configurations of the published dataset: `annotations`, `silver` and, where the pool was labelled, `labels`.

    Args:
        run (`Path`): Folder of the run.
        gold (`bool`): Keep people's labels. Without it their column is left out everywhere.
        partial (`bool`, defaults to `False`): Take the labels of a pool that is not labelled to its end.

    Raises:
        ValueError: The labels of two of them differ, or the pool is not labelled to its end.
    """
    config = _annotated(run)["config"]
    task = TaskSpec.from_dict(config["task"])
    annotated = read_annotated(run, config)
    if (run / "student" / SILVER_FILE).is_file():
        silver = Dataset.from_parquet(str(run / "student" / SILVER_FILE))
    else:
        silver, _ = select_silver(annotated, task)
    configs = {"annotations": annotated, "silver": silver}
    if (run / "labels").is_dir():
        configs["labels"] = read_pool(run / "labels")
        if not partial and not is_complete(run / "labels"):
            raise ValueError(
                f"'{run / 'labels'}' holds {len(configs['labels']):,} rows of a pool that is not labelled to its end. Run "
                f"hf-llambert label again, or pass --partial (partial=True): the card will say so."
            )
    gold_column = config["gold_column"]
    for name, data in configs.items():
        column = {"annotations": "llm_label", "silver": "label", "labels": "student_label"}[name]
        names = tuple(data.features[column].names)
        if names != task.labels:
            raise ValueError(
                f"The {name} have the labels {list(names)}, the task of the annotations has {list(task.labels)}: they are not of "
                f"one run. Label again with this run's student."
            )
        hidden = {"gold_label", "label", gold_column} - (
            {"label"} if name == "silver" else set()
        )  # there the teacher's
        if not gold:
            configs[name] = data.remove_columns([c for c in data.column_names if c in hidden])
    reasons = ["llm_reason", *(f"{member}_reason" for member in config.get("members", {}))]
    return {name: _with_scrubbed(data, reasons) for name, data in configs.items()}


def _with_scrubbed(data: Dataset, columns: Sequence[str]) -> Dataset:
    """The data with what stands in columns of reasons as it may be published."""
    order = data.column_names
    for name in columns:
        if name not in order:
            continue
        shown = {why: None if why is None else scrubbed_reason(why) for why in data.unique(name)}
        if any(why != to for why, to in shown.items()):
            values = [shown[why] for why in data[name][:]]
            data = data.remove_columns(name).add_column(name, values, feature=data.features[name])
    return data.select_columns(order)


def is_complete(labels: Path) -> bool:
    """Whether a pool was labelled to its end by the student that its note names."""
    path = labels / STAGE_FILE
    return path.is_file() and bool(read_note(path, {"results": dict})["results"].get("complete"))


def write_shards(configs: dict[str, Dataset], folder: Path) -> dict[str, Path]:
    """Write each configuration as Parquet files of some 100 MB; local files by their place in the repository."""
    files = {}
    for name, data in configs.items():
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
        "calibration": results["calibration"],
        "text_column": config["text_column"],
        **({"members": members} if (members := _members(config, results)) else {}),
        "hf_llambert": stage["made"]["hf_llambert"],
    }
    return (json.dumps(scrubbed(note), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _members(config: dict, results: dict) -> dict[str, dict]:
    return {
        name: {
            "task": member["task"],
            "identity": member["teacher"],
            "teacher": results["members"][name]["settings"],
            "calibration": results["members"][name]["calibration"],
        }
        for name, member in config.get("members", {}).items()
    }


def dataset_files(run: Path, configs: dict[str, Dataset], folder: Path) -> dict[str, Path | bytes]:
    """Files of the dataset repository by their place in it, but for the card."""
    return {**write_shards(configs, folder), ANNOTATION_FILE: annotation_note(run), **_figures(run)}


def model_files(run: Path) -> dict[str, Path | bytes]:
    """Files of the model repository by their place in it, but for the card."""
    student = run / "student"
    found = (path for pattern in (*_MODEL_FILES, *_MORE_MODEL_FILES) for path in student.glob(pattern))
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(found) if path.is_file()}
    adapter = student / ADAPTER_FOLDER
    files |= {f"{ADAPTER_FOLDER}/{path.name}": path for path in sorted(adapter.glob("adapter_*"))}
    drawn: dict[str, Path | bytes] = {
        f"figures/{name}": student / name for name in ("training.png", "mix.png") if (student / name).is_file()
    }
    return files | _figures(run) | drawn


def _figures(run: Path) -> dict[str, Path | bytes]:
    return {f"figures/{path.name}": path for path in sorted((run / "figures").glob("*.png"))}


def _kind(feature: object) -> str:
    inner = getattr(feature, "feature", None)
    return f"list of {_kind(inner)}" if inner is not None else str(getattr(feature, "dtype", feature))
