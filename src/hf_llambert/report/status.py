"""What is in the folder of a run, what is next and what it cost, from its notes alone: nothing heavy is imported."""

from __future__ import annotations

import json
import platform
import shlex
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from hf_llambert.annotation.ledger import ledger_files, open_ledger_file, unreadable
from hf_llambert.models import content_id
from hf_llambert.notes import read_note, read_stage
from hf_llambert.planning.prices import load_prices, run_cost
from hf_llambert.report.run_note import RunNote, read_run_note
from hf_llambert.tasks.spec import TaskSpec, builtin_tasks, load_task
from hf_llambert.whole import is_alive

State = Literal["done", "part", "old", "none", "damaged"]
_STAGES = {"annotate": "annotated", "train": "student", "label": "labels"}
_NOTE = "stage.json"
_TOTALS = "SELECT count(*), total(input_tokens), total(output_tokens), total(seconds), max(asked_at) FROM replies"


@dataclass(frozen=True)
class StageStatus:
    """
    One stage of a run.

    Args:
        name (`str`): `annotate`, `train`, `label` or `report`.
        state (`str`): `done`, `part` (begun), `old` (done, of something else than what is there now), `none`, `damaged`.
        rows (`int`, *optional*): Rows that are done.
        of (`int`, *optional*): How many there will be, where that is known.
        when (`str`, *optional*): When its note, or the last of it, was written; ISO 8601.
        says (`str`, defaults to `""`): What came of it, or what is wrong.
    """

    name: str
    state: State
    rows: int | None = None
    of: int | None = None
    when: str | None = None
    says: str = ""


_Look = Callable[[Path, Mapping[str, dict], RunNote | None], StageStatus]


def run_status(run: str | Path, prices: str | Path | None = None) -> dict:
    """
    What is in a run's folder.

    Args:
        run (`str` or `Path`): The folder.
        prices (`str` or `Path`, *optional*): Price table, to count money by. Defaults to the one that `hf-llambert run` was
            given.

    Returns:
        `dict`: `run`, `task` (its name), `stages` (a list; see [`StageStatus`]), `finished` (nothing is left to do), `passed`
        (`None` without a gate), `next` (a command, `None` where nothing is left; words in capitals are not known here), `cost`
        (`input_tokens`, `output_tokens`, `seconds` by stage, `money` and `currency` or `None`) and `notes` (what else is to
        be said).

    Raises:
        FileNotFoundError: There is no such folder, or nothing of a run in it.
        ValueError: The price table cannot be read, or lacks a model.
    """
    run, notes = Path(run), list[str]()
    if not run.is_dir():
        raise FileNotFoundError(f"There is no folder '{run}'. hf-llambert run makes one, with --output.")
    asked = None
    try:
        asked = read_run_note(run)
    except OSError as error:
        notes.append(str(error))
    found: dict[str, dict] = {}
    looks = {"annotate": _annotate, "train": _train, "label": _label}
    stages = [_look(run, name, look, found, asked) for name, look in looks.items()]
    if asked is None and not notes and all(one.state == "none" for one in stages):
        whose = f" It is one stage of the run '{run.parent}'." if (run / _NOTE).is_file() else ""
        raise FileNotFoundError(f"'{run}' holds nothing of a run: no annotated texts, no student, no labels.{whose}")
    if stages[0].state == "none" and "train" in found and not found["train"]["results"]["train"]["n_silver"]:
        stages[0] = StageStatus("annotate", "done", says="not needed: the student learnt from people's labels alone")
    report, passed = _report(run, found, stages)
    stages.append(report)
    finished = all(one.state == "done" for one in stages)
    table = prices or (asked.asked.get("prices") if asked is not None else None)
    return {
        "run": str(run),
        "task": _task(found, asked).get("name"),
        "stages": [asdict(one) for one in stages],
        "finished": finished,
        "passed": passed,
        "next": None if finished else _next(run, stages, found, asked),
        "cost": _cost(run, found, None if table is None else Path(str(table)), notes, stated=prices is not None),
        "notes": notes,
    }


def _look(run: Path, name: str, look: _Look, found: dict[str, dict], asked: RunNote | None) -> StageStatus:
    """One stage; its note, where it is done, is put into `found`. What is wrong with it is its status."""
    folder = run / _STAGES[name]
    try:
        if (folder / _NOTE).is_file():
            note = read_stage(folder / _NOTE, _STAGES[name])
            if note["results"]:
                found[name] = note
        elif folder.exists():
            raise OSError(f"'{folder}' has no {_NOTE}: it was not made by hf-llambert, or not all of it is there.")
        return look(run, found, asked)
    except (OSError, sqlite3.Error) as error:
        return StageStatus(name, "damaged", says=str(error))


def _annotate(run: Path, found: Mapping[str, dict], asked: RunNote | None) -> StageStatus:
    if "annotate" not in found:
        replies = _ledger(run)
        of = asked.rows.get("annotated") if asked is not None else None
        if not replies["replies"]:
            return StageStatus("annotate", "none", of=of)
        several = asked is not None and _asks_several(_task(found, asked))
        says = (
            f"replies in the ledger{', one or several about each text' if several else ''}{_at_it(run, 'annotated')}"
        )
        return StageStatus("annotate", "part", replies["replies"], None if several else of, replies["last"], says)
    results = found["annotate"]["results"]
    counts = []
    for name, of_one in results.get("questions", {"": results}).items():
        said = [f"{of_one[f'n_{what}']:,} {what}" for what in ("ok", "abstained", "failed") if of_one[f"n_{what}"]]
        if of_one.get("quality"):
            said.append(f"agreement with gold {_figure(of_one['quality'], 'accuracy ')}")
        counts += [f"{name}: {', '.join(said)}"] if name else said
    if results["n_failed"]:
        counts.append("the same command asks about those that failed")
    return StageStatus(
        "annotate", "done", results["n_rows"], results["n_rows"], _when(run / "annotated"), "; ".join(counts)
    )


def _train(run: Path, found: Mapping[str, dict], asked: RunNote | None) -> StageStatus:
    if "train" not in found:
        state = _last_state(run)
        if state is None:
            return StageStatus("train", "none")
        return StageStatus("train", "part", says=state)
    results, when = found["train"]["results"], _when(run / "student")
    n = results["train"]["n"]
    if not (run / "student" / "metrics.json").is_file():
        return StageStatus("train", "part", n, n, when, "trained, not measured yet: the same command measures it")
    quality = results.get("eval")
    if quality and "n" not in quality:  # several questions
        each = [f"{name} {_figure(one)} on {one['n']:,}" for name, one in quality.items() if one]
        says = f"held-out texts: {', '.join(each)}" if each else "not measured"
    else:
        says = f"{_figure(quality)} on {quality['n']:,} held-out texts" if quality else "not measured"
    selection = results["train"]["selection"]
    if "annotate" in found and selection and selection[0]["n"] > found["annotate"]["results"]["n_rows"]:
        return StageStatus("train", "old", n, n, when, f"learnt from another annotation than is there now; {says}")
    return StageStatus("train", "done", n, n, when, says)


def _figure(quality: Mapping, unsaid: str = "") -> str:
    """The figure that says how good answers are, by the kind of their question; without the words `unsaid`."""
    if "spearman" in quality:
        value = quality["spearman"]
        return "no Spearman" if value is None else f"Spearman {value:.3f}"
    if "micro_f1" in quality:
        value = quality["micro_f1"]
        return "no micro-F1" if value is None else f"micro-F1 {value:.3f}"
    return f"accuracy {quality['accuracy']:.1%}".removeprefix(unsaid)


def _label(run: Path, found: Mapping[str, dict], asked: RunNote | None) -> StageStatus:
    folder = run / "labels"
    of = asked.rows.get("pool") if asked is not None else None
    if not (folder / _NOTE).is_file():
        return StageStatus("label", "none", of=of)
    student, by = run / "student", read_stage(folder / _NOTE, "labels")["config"].get("student")
    with suppress(FileNotFoundError):  # no weights any more
        if student.is_dir() and by not in (None, content_id(str(student))):
            says = "by another student than is there now"
            return StageStatus("label", "old", when=_when(folder), says=f"{says}: label with --overwrite")
    if "label" not in found:
        rows, when = _shards(folder)
        return StageStatus("label", "part", rows, of, when, f"in finished shards{_at_it(run, 'labels')}")
    results = found["label"]["results"]
    rows, shards = results["n_labelled"] + results["n_unusable"], _shards(folder)[0]
    if results.get("complete") is False or shards < rows:
        return StageStatus("label", "part", min(shards, rows), rows, _when(folder), "shards are missing")
    says = f"{results['n_unusable']:,} unusable" if results["n_unusable"] else ""
    return StageStatus("label", "done", rows, rows, _when(folder), says)


def _report(run: Path, found: Mapping[str, dict], stages: Sequence[StageStatus]) -> tuple[StageStatus, bool | None]:
    """The report, whether it is of what is there now, and what the gate in it says."""
    path = run / "report.json"
    if not path.is_file():
        return StageStatus("report", "none"), None
    when = _time(path.stat().st_mtime)
    try:
        shape = {"teacher": (dict, None), "student": (dict, None), "labels": (dict, None)}
        report = read_note(path, {**shape, "gate?": {"passed": bool}}, f"Write it anew: hf-llambert report {run}")
    except OSError as error:
        return StageStatus("report", "damaged", says=str(error)), None
    gate = report.get("gate")
    passed = None if gate is None else bool(gate["passed"])
    says = "" if passed is None else f"the gate is {'passed' if passed else 'missed'}"
    theirs = (report["teacher"], (report["student"] or {}).get("train"), report["labels"])
    ours = [found[name]["results"] if name in found else None for name in _STAGES]
    ours[1] = None if ours[1] is None else ours[1]["train"]
    old = [(one or {}).get("seconds") for one in theirs] != [(one or {}).get("seconds") for one in ours]
    if old and not any(one.state == "old" for one in stages):  # it leaves out what is of another student
        return StageStatus(
            "report", "old", when=when, says="; ".join(["of what was there before", *filter(None, [says])])
        ), passed
    return StageStatus("report", "done", when=when, says=says), passed


def _next(run: Path, stages: Sequence[StageStatus], found: Mapping[str, dict], asked: RunNote | None) -> str | None:
    """The command that goes on; words in capitals stand for what is not known here."""
    if asked is not None and asked.finished is None:
        named = [
            f"--{name} {shlex.quote(str(asked.asked[name]))}" for name in ("data", "student") if name in asked.asked
        ]
        return asked.command or " ".join(["hf-llambert run TASK", *named, f"--output {shlex.quote(str(run))} ..."])
    stage = next(one for one in stages if one.state != "done")
    config = (found.get("annotate") or found.get("train") or {"config": {}})["config"]
    folder, task = shlex.quote(str(run)), shlex.quote(_task_name(_task(found, asked)))
    column = _named_text(config)
    more = "" if column == "text" else f" --text_column {shlex.quote(column)}"
    if stage.state == "damaged" and stage.name != "report":
        return None
    return {
        "annotate": f"hf-llambert annotate --task {task} --data DATA --teacher TEACHER{more} --output {folder}",
        "train": f"hf-llambert train --task {task} --silver {folder} --student STUDENT{more} --output {folder}"
        + (" --resume_from_checkpoint true" if stage.state == "part" and stage.rows is None else ""),
        "label": f"hf-llambert label --student {folder} --data DATA{more} --output {folder}"
        + (" --overwrite" if stage.state == "old" else ""),
        "report": f"hf-llambert report {folder}",
    }[stage.name]


def _asks_several(task: Mapping) -> bool:
    """Whether a teacher may be asked several requests about a text, so that replies are no rows."""
    try:
        return sum(map(len, TaskSpec.from_dict(task).branches.values())) > 1
    except (ValueError, KeyError):
        return False


def _task(found: Mapping[str, dict], asked: RunNote | None) -> Mapping:
    """The task as the notes have it; empty where none does."""
    noted = [one["config"].get("task") for one in found.values()] + [asked.asked.get("task") if asked else None]
    return next((one for one in noted if isinstance(one, Mapping)), {})


def _named_text(config: Mapping) -> str:
    """The column that stands for `{text}`; several columns have it only where the task shows it."""
    column = config.get("text_column", "text")
    if isinstance(column, str):
        return column
    try:
        fields = TaskSpec.from_dict(config["task"]).fields
    except (ValueError, KeyError):
        return "text"
    return next((name for name, field in zip(column, fields, strict=False) if field == "text"), "text")


def _task_name(task: Mapping) -> str:
    """A built-in task by its name; of another the file is not known here."""
    name = task.get("name")
    with suppress(ValueError):  # no task of this version: then it is none of its own
        if name in builtin_tasks() and load_task(str(name)) == TaskSpec.from_dict(task):
            return str(name)
    return "TASK"


def _cost(run: Path, found: Mapping[str, dict], prices: Path | None, notes: list[str], stated: bool) -> dict:
    """Tokens, seconds and, where prices are known, money; of annotating that is not done what the ledger holds."""
    results = {name: found[name]["results"] if name in found else None for name in _STAGES}
    asked = results["annotate"]
    if asked is None:
        with suppress(OSError, sqlite3.Error):  # said of the stage
            asked = _ledger(run)
    trained = results["train"]["train"] if results["train"] else None
    parts = {"annotate": asked, "train": trained, "label": results["label"]}
    cost: dict = {name: (asked or {}).get(name) for name in ("input_tokens", "output_tokens")}
    cost["seconds"] = {name: (one or {}).get("seconds") for name, one in parts.items()}
    cost |= {"money": None, "currency": None}
    if prices is None or not found:
        return cost
    try:
        taken = {"teacher": results["annotate"], "student": results["train"], "labels": results["label"]}
        paid = run_cost(taken, load_prices(prices))
        cost |= {"money": paid["total"], "currency": paid["currency"]}
    except (ValueError, LookupError) as error:
        if stated:
            raise ValueError(str(error)) from error
        notes.append(f"no money is counted: {error}")
    return cost


def _ledger(run: Path) -> dict:
    """What the ledger in a run holds."""
    whole = {"replies": 0, "input_tokens": 0, "output_tokens": 0, "seconds": 0.0}
    last = None
    for path in ledger_files(run / "ledger"):
        with closing(open_ledger_file(path)) as connection:
            try:
                row = connection.execute(_TOTALS).fetchone()
            except sqlite3.DatabaseError as error:
                raise unreadable(path, error) from error
        whole = {name: value + of for (name, value), of in zip(whole.items(), row, strict=False)}
        last = max((at for at in (last, row[-1]) if at is not None), default=None)
    return {**whole, "last": None if last is None else _time(last)}


def _shards(labels: Path) -> tuple[int, str | None]:
    """Rows of the shards that are there as their notes say, and when the last was written."""
    rows, last = 0, None
    for note in sorted((labels / ".manifest").glob("part-*.json")):
        shard = labels / note.name.removesuffix(".json")
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            noted = json.loads(note.read_text(encoding="utf-8"))
            if noted["rows"] and shard.stat().st_size == noted["size"]:
                rows += int(noted["rows"])
                last = max(last or 0.0, shard.stat().st_mtime)
    return rows, None if last is None else _time(last)


def _last_state(run: Path) -> str | None:
    """How far the training is that left the newest checkpoint."""
    found = sorted(run.glob("checkpoints/**/checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        return "begun" if any(run.glob("checkpoints/*")) else None
    try:
        state = json.loads(found[-1].read_text(encoding="utf-8"))
        return f"step {int(state['global_step']):,} of {int(state['max_steps']):,} is in a checkpoint"
    except (ValueError, TypeError, KeyError, RecursionError, UnicodeDecodeError):
        return "begun"


def _at_it(run: Path, name: str) -> str:
    """Says which process of this machine writes a folder, where one does."""
    with suppress(OSError):
        words = (run / f".{name}.lock").read_text(encoding="utf-8", errors="replace").split()
        if words[:1] == ["process"] and words[1:2] and words[1].isdecimal() and words[-1] == platform.node():
            return f"; process {words[1]} is at it" if is_alive(int(words[1])) else ""
    return ""


def _when(folder: Path) -> str:
    return _time((folder / _NOTE).stat().st_mtime)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
