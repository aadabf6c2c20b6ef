"""Whose a cascade's folder is: what decides its rows, noted before anybody is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.data import STAGE_FILE, claim_stage, stage_results
from hf_llambert.gold import GoldColumns, LabelMap, Reading
from hf_llambert.misfits import ANY, Shape
from hf_llambert.notes import GUARANTEE, read_note
from hf_llambert.pool.labelled import labels_identity
from hf_llambert.pool.manifest import shard_files
from hf_llambert.pool.promise import Promise
from hf_llambert.tasks.questions import gold_reading

_CLOSE = 1e-4  # confidences by another batch size or another machine differ by less
_OF_RUN = ("threshold", "n_told", "input_tokens", "output_tokens")  # of a promise: what may differ from call to call
_NOTED: Shape = {"config": {"promise?": {ANY: GUARANTEE}}}


def claim(output: Path, config: Mapping[str, object], overwrite: bool) -> None:
    """As `claim_stage`; what is replaced is removed first."""
    try:
        claim_stage(output, config)
    except FileExistsError:
        if not overwrite or not (output / STAGE_FILE).is_file():
            raise
        for path in output.glob("part-*.parquet"):  # before the note: what is there would pass for this call's
            path.unlink()
        claim_stage(output, config, overwrite)


def refuse_taken(
    labels: str | Path,
    labeler: LLMLabeler,
    output: str | Path,
    promises: Mapping[str, Promise],
    *,
    max_asked: int | None,
    gold_column: GoldColumns,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
) -> None:
    """
    Refuse what [`cascade`] would, before anybody is asked to find out what can be promised.

    Args:
        promises (`Mapping[str, Promise]`): What is to be promised of each question.

    Raises:
        FileExistsError: `output` holds the results of another call.
    """
    if not (Path(output) / STAGE_FILE).is_file():
        return
    noted = read_note(Path(output) / STAGE_FILE, _NOTED)["config"]
    config = cascade_config(
        shard_files(labels), labeler, max_asked, gold_column, gold_reading(label_map, label_values)
    )
    there = noted.get("promise") or {}
    config |= {name: noted[name] for name in ("calibration", "below") if name in noted}
    config["promise"] = {name: {**there.get(name, {}), **asdict(one)} for name, one in promises.items()}
    stage_results(output, config)


def cascade_config(
    files: Sequence[Path], labeler: LLMLabeler, max_asked: int | None, gold_column: GoldColumns, reading: dict
) -> dict:
    """What decides a cascade and is known before anything was computed."""
    return {
        "labels": labels_identity(files),
        "task": labeler.task.to_dict(),
        "teacher": labeler.teacher.identity(),
        "text_column": labeler.text_column,
        "max_asked": max_asked,
        "gold_column": gold_column,
        **reading,
    }


def as_promised(output: Path, config: dict) -> dict:
    """
    The configuration of an earlier call that promised the same, if there was one: rows were asked by its thresholds. What
    finding the promise took may differ, and earlier versions did not note it.
    """
    if "promise" not in config or not (output / STAGE_FILE).is_file():
        return config
    noted = read_note(output / STAGE_FILE, _NOTED)["config"]
    (before, same), (now, here) = _thresholds_apart(noted), _thresholds_apart(json.loads(json.dumps(config)))
    return noted if same == here and np.allclose(before, now, rtol=0, atol=_CLOSE) else config


def _thresholds_apart(config: Mapping) -> tuple[list[float], dict]:
    """The thresholds of a configuration's promises, and the rest of it."""
    promises = config.get("promise") or {}
    rest = {name: {key: value for key, value in one.items() if key not in _OF_RUN} for name, one in promises.items()}
    return [one["threshold"] for one in promises.values()], {**config, "below": None, "promise": rest}
