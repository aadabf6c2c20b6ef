"""The report of a run: report.json for programs, report.html and report.md with figures for people."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import yaml
from datasets import Dataset

from hf_llambert import __version__
from hf_llambert.data import STAGE_FILE, read_note, write_whole
from hf_llambert.gold import gold_answers
from hf_llambert.misfits import ANY
from hf_llambert.notes import TRAINING
from hf_llambert.planning.prices import load_prices, run_cost
from hf_llambert.pool.distilled import read_distilled
from hf_llambert.pool.labelled import read_pool, run_labels
from hf_llambert.pool.manifest import file_checksum, shard_files
from hf_llambert.quality.gate import GATE_FILE, check_gate, load_gate
from hf_llambert.quality.report_parts import question_reports
from hf_llambert.reading.saved import read_annotated
from hf_llambert.report.disagreements import count_disagreements, shown_rows
from hf_llambert.report.drawings import by_question, draw, drawings, run_drawings
from hf_llambert.report.evaluated import less_baseline
from hf_llambert.report.markdown import report_markdown, shown_prompt, summary_head, summary_rows
from hf_llambert.report.page import report_page
from hf_llambert.report.sentences import worth_told
from hf_llambert.report.stages import (
    advice,
    check_sizes,
    how_made,
    measured_alike,
    notes_of_student,
    part_stages,
    shared_stages,
    stage_figures,
    stage_note,
    student_less_teacher,
)
from hf_llambert.review.summary import review_summary
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import part_of
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, row_texts, text_digest
from hf_llambert.training.compared import EVALUATION_FILE, compare_students, read_seeds
from hf_llambert.training.inputs import TRAINING_FILE
from hf_llambert.training.worth import beside_words

logger = get_logger(__name__)


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
    if _is_compared(run, row_texts(texts, column), column, TaskSpec.from_dict(stage["config"]["task"])):
        return
    # torch and transformers, which a report that is made again does not need
    from hf_llambert.pool.shards import label_pool
    from hf_llambert.training.students import StudentLabeler

    # Whatever is there is of an earlier student; nobody made it by hand.
    labeler = StudentLabeler(run / "student", column)
    label_pool(texts, labeler, run / "compared", show_progress=False, overwrite=True)


def _is_compared(run: Path, texts: list, column: TextColumn, task: TaskSpec) -> bool:
    """Whether this run's student has labelled these texts, all of them, and its labels can be read."""
    try:
        return _compared_labels(run, texts, column, task)[0] is not None
    except ValueError:  # a shard is damaged
        return False


def _compared_labels(
    run: Path, texts: list, column: TextColumn, task: TaskSpec
) -> tuple[dict[str, list] | None, str | None]:
    """
    The answers that the run's student gave these texts in `compared`, by question, `None` where it gave them to others or to
    none; and why they are left out, where they are.
    """
    found = run_labels(run, "compared")
    if found is None or found.left_out is not None:
        return None, None if found is None else found.left_out
    table = read_pool(run / "compared")
    shown = set(column_names(column)) <= set(table.column_names)
    if not shown or row_texts(table, column) != texts:  # of earlier annotations
        return None, None
    return {
        name: part_of(table, task, name)[f"student_{one.question.answer_column}"][:]
        for name, one in task.parts.items()
    }, None


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
        `n_silver`, `n_labelled`, and the task; in `student` also `linear`, what counting words reaches. A stage that was not
        run has `None`. So has one that is not of this student or not done: `left_out` says why, by folder.

    Raises:
        FileNotFoundError: The folder has neither an annotated dataset nor a student.
        ValueError: The two students were not measured on the same texts.
    """
    run = Path(run)
    conditions = load_gate(gate) if gate is not None else None  # what is wrong with it is said at once
    table = load_prices(prices) if prices is not None else None
    report, compared, task = _gathered(run, against)
    if conditions is not None:
        check_gate(report, conditions)  # that its conditions are about what there is
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
    seen = question_reports(report)
    wanted = {name: drawings(run, one, compared.get(name) or [], task, name) for name, one in seen.items()}
    drawn = draw(run, [*(one for of_question in wanted.values() for one in of_question), *run_drawings(run)])
    figures = by_question(drawn, wanted)
    written = json.dumps(_finite(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(run / "report.json", written)
    shown = {name: shown_rows(rows, task.parts[name].question) for name, rows in compared.items()}
    write_whole(run / "report.md", report_markdown(report, figures, shown, task))
    embedded = {name: [(run / "figures" / file, alt) for file, alt in found] for name, found in figures.items()}
    page = report_page(report, embedded, shown, task, shown_prompt(task))
    write_whole(run / "report.html", page)
    return report


def _gathered(run: Path, against: str | Path | None) -> tuple[dict, dict[str, list[dict]], TaskSpec]:
    """All figures of a run, the annotated rows as they are compared, by question, and its task."""
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
    training = run / "student" / TRAINING_FILE
    how = {}
    if stages["student"] and training.is_file():
        note = read_note(training, TRAINING)
        how = how_made(note)
    annotated, compared = None, dict[str, list[dict]]()
    if stages["annotated"] is not None:
        annotated = read_annotated(run, stages["annotated"]["config"])
        compared, why = _compared_rows(run, annotated, stages["annotated"]["config"], task)
        left_out |= {"compared": why} if why else {}
    others = None if against is None else compare_students(run, against)
    if others is not None and against is not None:
        of_each = others if len(task.parts) > 1 else {"": others}
        others = {name: {"run": Path(against).name, **found} for name, found in of_each.items()}
    parts = {
        name: _of_question(run, stages, task, name, how, (others or {}).get(name), compared.get(name))
        for name in task.parts
    }
    if list(parts) == [""]:
        report = parts[""]
    else:
        report = stage_figures(shared_stages(stages), task)
        if report["student"]:
            report["student"] |= how
        report["questions"] = parts
    config = stages["annotated"]["config"] if stages["annotated"] else {}
    pool = run / "labels" if stages["labels"] else None

    def find() -> dict:
        # scikit-learn, which a report that is made again does not need
        from hf_llambert.report.findings import find_all

        return find_all(run, task, annotated, config, compared, pool)

    found = _findings(run, task, pool, find)
    for name, of_question in found.pop("questions", {}).items():
        parts[name] |= of_question
    report |= found
    if "questions" not in report:
        report["advice"] = advice(run, task)
    report["distilled"], why = read_distilled(run)
    left_out |= {"students": why} if why else {}
    report["left_out"] = left_out
    for why in left_out.values():
        logger.warning("%s", why)
    report["review"] = review_summary(run)
    report["made"] = {name: stage["made"] for name, stage in stages.items() if stage is not None and "made" in stage}
    return report, compared, task


_OF_TEXTS = ("teacher_identity", "n_labelled", "labels", "cascade", "members")
"""What stands in the report itself, not with each of several questions."""


def _of_question(
    run: Path,
    stages: Mapping[str, dict | None],
    task: TaskSpec,
    name: str,
    how: Mapping,
    against: Mapping | None,
    rows: list[dict] | None,
) -> dict:
    """The figures of one question; of an only one with those of the texts."""
    one = task.parts[name]
    report = stage_figures(part_stages(stages, task, name), one)
    if report["student"] and stages["student"]:
        report["student"] |= how
        words = beside_words(stages["student"]["results"], task, name)
        report["student"] |= {"linear": words} if words is not None else {}
    if measured_alike(stages["student"], stages["baseline"]):
        difference = less_baseline(run, task, name) if name else compare_students(run / "student", run / "baseline")
        report |= {"student_less_baseline": difference} if difference else {}
    difference = student_less_teacher(report["student"], report["teacher"], one.question.kind)
    if difference is not None:
        report["student_less_teacher"] = difference
    seeds = read_seeds(run)
    if seeds is not None and "questions" in seeds:
        of_this = seeds.pop("questions").get(one.question.name)
        seeds = None if of_this is None else {**seeds, **of_this}
    report |= {"seeds": seeds} if seeds is not None else {}
    report |= {"against": dict(against)} if against is not None else {}
    report["disagreements"] = count_disagreements(rows or [], one.question)
    if name:
        kept = {key: value for key, value in report.items() if key not in _OF_TEXTS}
        report = {**kept, "advice": advice(run, task, name)}
    return report


def _findings(run: Path, task: TaskSpec, pool: Path | None, find: Callable[[], dict]) -> dict:
    """What `find` finds, noted in `run/findings.json` by the content of what it reads, and found once."""
    of, path = _read_by_findings(run, task, pool), run / "findings.json"
    try:
        noted = read_note(path, {"of": str, "found": dict, "checksum": str}) if path.is_file() else None
    except OSError:  # damaged: found anew
        noted = None
    if noted is None or noted["of"] != of or noted["checksum"] != _checksum(noted["found"]):
        found = json.loads(json.dumps(find()))
        noted = {"of": of, "found": found, "checksum": _checksum(found)}
        write_whole(path, json.dumps(noted, indent=2, ensure_ascii=False) + "\n")
    return noted["found"]


def _read_by_findings(run: Path, task: TaskSpec, pool: Path | None) -> str:
    """
    A digest of what findings are made of: rows, notes and names of labels, and by which versions. A shard of the pool is told
    by its size and time.
    """
    files = [path for path in sorted((run / "annotated").glob("*")) if path.is_file()]
    files += [path for path in sorted((run / "compared").glob("*")) if path.is_file()]
    files += [path for path in (run / "student" / EVALUATION_FILE,) if path.is_file()]
    versions = {name: _version(name) for name in ("cleanlab", "scikit-learn", "scipy", "numpy")}
    read: list = [__version__, versions, _asked(task), [(path.name, file_checksum(path)) for path in files]]
    if pool is not None:
        stats = [(path.name, path.stat()) for path in shard_files(pool)]
        read += [file_checksum(pool / STAGE_FILE), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:32]


def _asked(task: TaskSpec) -> list:
    """What answers are read by: the labels; of several questions, or of another kind, these too."""
    if not task.questions:
        return list(task.labels)
    return [[question.name, question.kind, list(question.labels)] for question in task.questions]


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
    screen.table(summary_head(report), summary_rows(report), title)
    for line in worth_told(report):
        screen.print(line, soft_wrap=True)
    screen.print(f"report: {Path(run) / 'report.html'}", soft_wrap=True)


def _compared_rows(
    run: Path, annotated: Dataset, config: Mapping, task: TaskSpec
) -> tuple[dict[str, list[dict]], str | None]:
    """
    Of each question the annotated rows with teacher's, student's and people's answers, where there are any; and why the
    student's are left out, where they are.
    """
    gold: dict[str, list] = {}
    if config.get("gold_column"):
        gold = gold_answers(
            annotated, task, config["gold_column"], config.get("label_map"), config.get("label_values", "auto")
        )
    texts = row_texts(annotated, config["text_column"])
    if unmeasured := set(config.get("unmeasured", ())):  # by the digests of the texts
        hit = [isinstance(text, str) and text_digest(text) in unmeasured for text in texts]
        for name, answers in gold.items():
            nothing = task.parts[name].question.missing
            gold[name] = [nothing if out else answer for answer, out in zip(answers, hit, strict=True)]
    student, why = _compared_labels(run, texts, config["text_column"], task)
    out = {}
    for name, one in task.parts.items():
        question, part = one.question, part_of(annotated, task, name)
        nothing = [question.missing] * len(annotated)
        columns = zip(
            texts,
            part[f"llm_{question.answer_column}"][:],
            part["llm_confidence"][:],
            part["llm_status"][:],
            nothing if student is None else student[name],
            gold.get(name, nothing),
            strict=True,
        )
        out[name] = [
            {"text": text, "teacher": teacher, "confidence": sure, "status": status, "student": learnt, "gold": g}
            for text, teacher, sure, status, learnt, g in columns
        ]
    return out, why
