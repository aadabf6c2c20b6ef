"""The note in each stage's folder: how it was made and what came of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hf_llambert import __version__
from hf_llambert.notes import Shape, read_note
from hf_llambert.shown import shown_command
from hf_llambert.whole import scratch_folder, write_whole

STAGE_FILE = "stage.json"
_SHOWN = 5  # differences


def stage_results(folder: str | Path, config: Mapping[str, object], shape: Shape = dict) -> dict | None:
    """
    What a stage noted when it was done with this very configuration, or `None` when `folder` is not there yet.

    Args:
        folder (`str` or `Path`): The stage's folder.
        config (`Mapping`): What decides its results.
        shape (`Shape`, *optional*): Of what it noted.

    Raises:
        FileExistsError: `folder` holds something else; the message names what differs.
        OSError: The note is damaged.
    """
    folder = Path(folder)
    if not folder.exists():
        return None
    if not (folder / STAGE_FILE).is_file():
        raise FileExistsError(f"'{folder}' exists and was not made by hf-llambert. Choose another output.")
    noted = read_note(folder / STAGE_FILE, {"config": dict, "results": dict})
    config = json.loads(json.dumps(config))
    if noted["config"] != config:
        changes = _differences(noted["config"], config)
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise FileExistsError(
            f"'{folder}' holds the results of another run ({'; '.join(changes[:_SHOWN])}{more}). Choose another output."
        )
    return read_note(folder / STAGE_FILE, {"results": shape})["results"]


def _differences(there: object, now: object, place: str = "") -> list[str]:
    """What differs in two configurations, each by its own name."""
    if isinstance(there, dict) and isinstance(now, dict):
        names = sorted({*there, *now})
        inside = [_differences(there.get(k), now.get(k), f"{place}.{k}" if place else k) for k in names]
        return [one for found in inside for one in found]
    if there != now and isinstance(there, list) and isinstance(now, list) and _are_named(there) and _are_named(now):
        before, after = ({one["name"]: one for one in listed} for listed in (there, now))
        if found := _differences(before, after, place):  # else only their order differs
            return found
    shown = [_short(repr(value)) for value in (there, now)]
    return [f"{place}: {shown[0]} there, {shown[1]} now"] if there != now else []


def _are_named(listed: list) -> bool:
    """Whether these are mappings that each have a name of their own, as the questions of a task."""
    names = [one.get("name") if isinstance(one, dict) else None for one in listed]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _short(shown: str) -> str:
    return shown if len(shown) <= 100 else f"{shown[:50]}…{shown[-50:]}"


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


def _machine() -> str:
    """What a stage ran on, in words, without the name of the machine."""
    import torch

    if count := torch.cuda.device_count():  # the name starts CUDA, after which no process may fork
        return f"{count} × {torch.cuda.get_device_name() if torch.cuda.is_initialized() else 'GPU'}"
    return f"CPU, {os.cpu_count()} cores"
