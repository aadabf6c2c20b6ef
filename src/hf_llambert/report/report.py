"""The report of a run: report.json for programs, report.html and report.md with figures for people."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import yaml
from datasets import Dataset

from hf_llambert import __version__
from hf_llambert.data import STAGE_FILE, gold_labels, read_note, write_whole
from hf_llambert.notes import ANY, TRAINING
from hf_llambert.planning.prices import load_prices, run_cost
from hf_llambert.pool.labelled import read_pool, run_labels
from hf_llambert.pool.manifest import file_checksum, shard_files
from hf_llambert.quality.gate import GATE_FILE, check_gate, load_gate
from hf_llambert.reading.saved import read_annotated
from hf_llambert.report.drawings import draw, drawings
from hf_llambert.report.markdown import report_markdown, shown_prompt, summary_rows
from hf_llambert.report.page import report_page
from hf_llambert.report.stages import (
    advice,
    check_sizes,
    measured_alike,
    notes_of_student,
    stage_figures,
    stage_note,
    student_less_teacher,
)
from hf_llambert.review.summary import review_summary
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, row_texts, shorten_fields
from hf_llambert.training.compared import EVALUATION_FILE, compare_students, read_seeds
from hf_llambert.training.inputs import TRAINING_FILE

logger = get_logger(__name__)

_EXAMPLES = 12
_SHOWN = 400  # characters of a text


def compare_labels(run: str | Path) -> None:
    """
    Let a run's student label the annotated texts into `compared`, for the report's disagreements. Nothing is done where
    there is no student, or no annotation. Every process of `accelerate launch` must call it.
    """
    run = Path(run)
    stage = stage_note(run / "annotated")
    if stage is None or not (run / "student").is_dir():
        return
    column = stage["config"]["text_column"]
    texts = read_annotated(run, stage["config"]).select_columns(column_names(column))
    if _is_compared(run, row_texts(texts, column), column):
        return
    # torch and transformers, which a report that is made again does not need
    from hf_llambert.pool.shards import label_pool
    from hf_llambert.training.students import StudentLabeler

    # Whatever is there is of an earlier student; nobody made it by hand.
    labeler = StudentLabeler(run / "student", column)
    label_pool(texts, labeler, run / "compared", show_progress=False, overwrite=True)


def _is_compared(run: Path, texts: list, column: TextColumn) -> bool:
    """Whether this run's student has labelled these texts, all of them, and its labels can be read."""
    try:
        return _compared_labels(run, texts, column)[0] is not None
    except ValueError:  # a shard is damaged
        return False


def _compared_labels(run: Path, texts: list, column: TextColumn) -> tuple[list[int] | None, str | None]:
    """
    The labels that the run's student gave these texts in `compared`, `None` where it gave them to others or to none; and why
    they are left out, where they are.
    """
    found = run_labels(run, "compared")
    if found is None or found.left_out is not None:
        return None, None if found is None else found.left_out
    table = read_pool(run / "compared")
    shown = set(column_names(column)) <= set(table.column_names)
    if not shown or row_texts(table, column) != texts:  # of earlier annotations
        return None, None
    return table["student_label"][:], None


def write_report(
    run: str | Path,
    choices: Mapping[str, str] | None = None,
    against: str | Path | None = None,
    gate: str | Path | Mapping | None = None,
    prices: str | Path | None = None,
) -> dict:
    """
    Read what is in a run's folder and write `report.json`, `report.html`, `report.md` and `figures/`. What was found is kept
    in `findings.json`, for the next report that reads the same.

    Args:
        run (`str` or `Path`): Folder with `annotated`, `student` or both and, where they were made, `baseline`, `labels`
            and `compared` (see [`compare_labels`]) and `cascade`.
        choices (`Mapping[str, str]`, *optional*): How what was chosen (prompt, seeds, ...) was chosen, for the report. Defaults
            to what the last report of this run said.
        against (`str` or `Path`, *optional*): Another run, whose student is compared with this one's on the same texts.
        gate (`str`, `Path` or `Mapping`, *optional*): Conditions that the run must meet; see [`load_gate`]. They are kept in
            `run/gate.yaml`, and every later report, and `push_run`, judges by them. Nothing is raised here.
        prices (`str` or `Path`, *optional*): Price table for `cost`; see [`load_prices`] and [`run_cost`].

    Returns:
        `dict`: The content of `report.json`: `teacher`, `student` and `baseline` with their figures, `n_annotated`,
        `n_silver`, `n_labelled`, and the task. A stage that was not run has `None`. So has one that is not of this student
        or not done: `left_out` says why, by folder.

    Raises:
        FileNotFoundError: The folder has neither an annotated dataset nor a student.
        ValueError: The two students were not measured on the same texts.
    """
    run = Path(run)
    conditions = load_gate(gate) if gate is not None else None  # what is wrong with it is said at once
    table = load_prices(prices) if prices is not None else None
    report, compared, task = _gathered(run, against)
    report = cast(dict, scrubbed(report))  # a report is passed on
    if table is not None:
        report["cost"] = run_cost(report, table)
    choices = _old_choices(run) if choices is None else choices
    if choices:
        report["choices"] = dict(choices)
    if conditions is not None:
        asked = {
            one.name: {k: v for k, v in asdict(one).items() if k != "name" and v is not None and v is not False}
            for one in conditions
        }
        write_whole(run / GATE_FILE, yaml.safe_dump(asked, sort_keys=False))
    elif os.path.lexists(run / GATE_FILE):  # a link to a file that is gone is no leave to publish
        conditions = load_gate(run / GATE_FILE)
    if conditions is not None:
        report["gate"] = check_gate(report, conditions)
    figures = draw(run, drawings(run, report, compared, task))
    written = json.dumps(_finite(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(run / "report.json", written)
    shown = _shown_rows(compared)
    write_whole(run / "report.md", report_markdown(report, figures, shown, task))
    embedded = [(run / "figures" / name, alt) for name, alt in figures]
    page = report_page(report, summary_rows(report), embedded, shown, shown_prompt(task))
    write_whole(run / "report.html", page)
    return report


def _gathered(run: Path, against: str | Path | None) -> tuple[dict, list[dict], TaskSpec]:
    """All figures of a run, its annotated rows as they are compared, and its task."""
    stages = {name: stage_note(run / name) for name in ("annotated", "student", "baseline")}
    of_student, left_out = notes_of_student(run)
    stages |= of_student
    first = stages["annotated"] or stages["student"]
    if first is None:
        raise FileNotFoundError(
            f"'{run}' holds neither an 'annotated' folder nor a 'student'. Run hf-llambert annotate --output {run} first."
        )
    task = TaskSpec.from_dict(first["config"]["task"])
    check_sizes(run, stages, task)
    report = stage_figures(stages, task)
    training = run / "student" / TRAINING_FILE
    if report["student"] and training.is_file():
        note = read_note(training, TRAINING)
        report["student"] |= {"reading": note["reading"], "arguments": note["training"]["arguments"]}
    if measured_alike(stages["student"], stages["baseline"]):
        report["student_less_baseline"] = compare_students(run / "student", run / "baseline")
    difference = student_less_teacher(report["student"], report["teacher"])
    if difference is not None:
        report["student_less_teacher"] = difference
    seeds = read_seeds(run)
    if seeds is not None:
        report["seeds"] = seeds
    if against is not None:
        report["against"] = {"run": Path(against).name, **compare_students(run, against)}
    annotated, compared = None, list[dict]()
    if stages["annotated"] is not None:
        annotated = read_annotated(run, stages["annotated"]["config"])
        compared, why = _compared_rows(run, annotated, stages["annotated"]["config"], task)
        left_out |= {"compared": why} if why else {}
    report["disagreements"] = _count_disagreements(compared)
    config = stages["annotated"]["config"] if stages["annotated"] else {}
    pool = run / "labels" if stages["labels"] else None

    def find() -> dict:
        # scikit-learn, which a report that is made again does not need
        from hf_llambert.report.findings import find_all

        return find_all(run, task.labels, annotated, config, compared, pool)

    report |= _findings(run, task.labels, pool, find)
    report["advice"] = advice(run)
    report["left_out"] = left_out
    for why in left_out.values():
        logger.warning("%s", why)
    report["review"] = review_summary(run)
    report["made"] = {name: stage["made"] for name, stage in stages.items() if stage is not None and "made" in stage}
    return report, compared, task


def _findings(run: Path, labels: Sequence[str], pool: Path | None, find: Callable[[], dict]) -> dict:
    """What `find` finds, noted in `run/findings.json` by the content of what it reads, and found once."""
    of, path = _read_by_findings(run, labels, pool), run / "findings.json"
    try:
        noted = read_note(path, {"of": str, "found": dict, "checksum": str}) if path.is_file() else None
    except OSError:  # damaged: found anew
        noted = None
    if noted is None or noted["of"] != of or noted["checksum"] != _checksum(noted["found"]):
        found = json.loads(json.dumps(find()))
        noted = {"of": of, "found": found, "checksum": _checksum(found)}
        write_whole(path, json.dumps(noted, indent=2, ensure_ascii=False) + "\n")
    return noted["found"]


def _read_by_findings(run: Path, labels: Sequence[str], pool: Path | None) -> str:
    """
    A digest of what findings are made of: rows, notes and names of labels, and by which versions. A shard of the pool is told
    by its size and time.
    """
    files = [path for path in sorted((run / "annotated").glob("*")) if path.is_file()]
    files += [path for path in (run / "student" / EVALUATION_FILE,) if path.is_file()]
    versions = {name: _version(name) for name in ("cleanlab", "scikit-learn", "scipy", "numpy")}
    read: list = [__version__, versions, list(labels), [(path.name, file_checksum(path)) for path in files]]
    if pool is not None:
        stats = [(path.name, path.stat()) for path in shard_files(pool)]
        read += [file_checksum(pool / STAGE_FILE), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:32]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _checksum(found: Mapping) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


def _old_choices(run: Path) -> dict[str, str] | None:
    path = run / "report.json"
    try:
        return read_note(path, {"choices?": ({ANY: str}, None)}).get("choices") if path.is_file() else None
    except OSError:
        logger.warning("'%s' was damaged and is made anew, without how things were chosen. Pass choices again.", path)
        return None


def _finite(value: object) -> object:
    """The same with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_report(report: Mapping, run: str | Path) -> None:
    """Print the table that ends a run."""
    from hf_llambert.tasks.screen import Screen

    title = (
        f"{report['task']['name']}: {report['n_annotated'] or 0:,} annotated, {report['n_silver'] or 0:,} silver, "
        f"{report['n_labelled'] or 0:,} labelled"
    )
    screen = Screen()
    screen.table(("", "accuracy (95 % interval)", "macro-F1", "texts/s"), summary_rows(report), title)
    screen.print(f"report: {Path(run) / 'report.html'}", soft_wrap=True)


def _compared_rows(run: Path, annotated: Dataset, config: Mapping, task: TaskSpec) -> tuple[list[dict], str | None]:
    """
    The annotated rows with teacher's, student's and gold labels by id, where there are any; and why the student's are left
    out, where they are.
    """
    gold = [ABSTAIN] * len(annotated)
    if config.get("gold_column"):
        gold = gold_labels(
            annotated, config["gold_column"], task, config.get("label_map"), config.get("label_values", "auto")
        )
    texts = row_texts(annotated, config["text_column"])
    student, why = _compared_labels(run, texts, config["text_column"])
    columns = zip(
        texts,
        annotated["llm_label"][:],
        annotated["llm_confidence"][:],
        annotated["llm_status"][:],
        [ABSTAIN] * len(annotated) if student is None else student,
        gold,
        strict=True,
    )
    rows = [
        {"text": text, "teacher": teacher, "confidence": confidence, "status": status, "student": learnt, "gold": g}
        for text, teacher, confidence, status, learnt, g in columns
    ]
    return rows, why


def _disagree(row: Mapping) -> bool:
    return len({label for label in (row["teacher"], row["student"], row["gold"]) if label != ABSTAIN}) > 1


def _shown_rows(rows: list[dict]) -> list[dict]:
    """The disagreements of which the teacher was surest, long texts without their middles."""
    worst = sorted((row for row in rows if _disagree(row)), key=lambda row: -(row["confidence"] or 0))[:_EXAMPLES]
    return [{**row, "text": shorten_fields(row["text"], _SHOWN, head_share=0.5)} for row in worst]


def _count_disagreements(rows: list[dict]) -> dict[str, int]:
    pairs = {
        "teacher_gold": ("teacher", "gold"),
        "student_gold": ("student", "gold"),
        "teacher_student": ("teacher", "student"),
    }
    return {
        name: sum(row[a] != row[b] for row in rows if ABSTAIN not in (row[a], row[b]))
        for name, (a, b) in pairs.items()
    }
