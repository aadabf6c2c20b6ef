"""The report of a run: report.json for programs, report.html and report.md with figures for people."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

import yaml
from datasets import Dataset

from hf_llambert.data import STAGE_FILE, damaged_note, gold_labels, read_note, write_whole
from hf_llambert.notes import ANY, TRAINING, read_stage
from hf_llambert.planning.prices import load_prices, run_cost
from hf_llambert.pool.shards import label_pool, read_pool
from hf_llambert.quality.gate import GATE_FILE, check_gate, load_gate
from hf_llambert.quality.labelled import run_labels
from hf_llambert.reading.saved import read_annotated
from hf_llambert.report.figures import (
    draw_confidence,
    draw_confusions,
    draw_coverage,
    draw_curve,
    draw_reliability,
    draw_shares,
)
from hf_llambert.report.findings import find_all, notes_of_student, student_less_teacher
from hf_llambert.report.markdown import report_markdown, shown_prompt, summary_rows
from hf_llambert.report.page import report_page
from hf_llambert.review.summary import review_summary
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import shorten
from hf_llambert.training.evaluation import EVALUATION_FILE, read_evaluation
from hf_llambert.training.seeds import compare_students, read_seeds
from hf_llambert.training.students import TRAINING_FILE, StudentLabeler

logger = get_logger(__name__)

_EXAMPLES = 12
_SLICES = 12
_SHOWN = 400  # characters of a text
_KINDS = {"baseline": "student"}


def compare_labels(run: str | Path) -> None:
    """
    Let a run's student label the annotated texts into `compared`, for the report's disagreements. Nothing is done where
    there is no student, or no annotation. Every process of `accelerate launch` must call it.
    """
    run = Path(run)
    stage = _stage(run / "annotated")
    if stage is not None and (run / "student").is_dir():
        texts = read_annotated(run, stage["config"])
        labeler = StudentLabeler(run / "student", stage["config"]["text_column"])
        texts = texts.select_columns(labeler.text_column)
        # Whatever is there is of an earlier student; nobody made it by hand.
        label_pool(texts, labeler, run / "compared", show_progress=False, overwrite=True)


def write_report(
    run: str | Path,
    choices: Mapping[str, str] | None = None,
    against: str | Path | None = None,
    gate: str | Path | Mapping | None = None,
    prices: str | Path | None = None,
) -> dict:
    """
    Read what is in a run's folder and write `report.json`, `report.html`, `report.md` and `figures/`.

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
    (run / "figures").mkdir(exist_ok=True)
    figures = _draw(run, report, compared, task)
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
    stages = {name: _stage(run / name) for name in ("annotated", "student", "baseline")}
    of_student, left_out = notes_of_student(run)
    stages |= of_student
    first = stages["annotated"] or stages["student"]
    if first is None:
        raise FileNotFoundError(
            f"'{run}' holds neither an 'annotated' folder nor a 'student'. Run hf-llambert annotate --output {run} first."
        )
    task = TaskSpec.from_dict(first["config"]["task"])
    _check_sizes(run, stages, task)
    report = _figures_of(stages, task)
    training = run / "student" / TRAINING_FILE
    if report["student"] and training.is_file():
        note = read_note(training, TRAINING)
        report["student"] |= {"reading": note["reading"], "arguments": note["training"]["arguments"]}
    if _measured_alike(stages["student"], stages["baseline"]):
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
    report |= find_all(run, task.labels, annotated, config, compared, run / "labels" if stages["labels"] else None)
    report["left_out"] = left_out
    for why in left_out.values():
        logger.warning("%s", why)
    report["review"] = review_summary(run)
    report["made"] = {name: stage["made"] for name, stage in stages.items() if stage is not None and "made" in stage}
    return report, compared, task


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


def _measured_alike(first: dict | None, second: dict | None) -> bool:
    """Whether two students were measured, and on the same texts."""
    texts = [stage["config"]["eval_data"] if stage else None for stage in (first, second)]
    return texts[0] is not None and texts[0] == texts[1]


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


def _stage(folder: Path) -> dict | None:
    path = folder / STAGE_FILE
    return read_stage(path, _KINDS.get(folder.name, folder.name)) if path.is_file() else None


def _check_sizes(run: Path, stages: Mapping[str, dict | None], task: TaskSpec) -> None:
    """Raise an `OSError` where figures are not of so many labels as the task has."""
    for name, place in (("annotated", "quality"), ("student", "eval"), ("baseline", "eval")):
        quality = (stages[name] or {"results": {}})["results"].get(place)
        if quality and {len(quality["confusion"]), len(quality["per_class"])} != {task.num_labels}:
            path = run / name / STAGE_FILE
            raise damaged_note(path, f"expected figures of {task.num_labels} labels at 'results.{place}'")
        found = (stages[name] or {"results": {}})["results"].get("calibration")
        if found and len(found["bias"]) != task.num_labels:
            path = run / name / STAGE_FILE
            raise damaged_note(path, f"expected a bias for each of {task.num_labels} labels, got {found['bias']}")


def _figures_of(stages: Mapping[str, dict | None], task: TaskSpec) -> dict:
    annotation, student, baseline, labels, cascaded = (
        stage["results"] if (stage := stages[name]) else None
        for name in ("annotated", "student", "baseline", "labels", "cascade")
    )
    teacher = None
    if annotation:
        counts = {name: value for name, value in annotation.items() if name not in ("quality", "n_rows")}
        quality = annotation.get("quality") or {}
        what = "teacher, on the annotated sample"
        teacher = {"what": what, **counts, **quality, "coverage": annotation["coverage"]}
    out: dict = {
        "task": task.to_dict(),
        "teacher_identity": stages["annotated"]["config"].get("teacher") if stages["annotated"] else None,
        "n_annotated": annotation["n_rows"] if annotation else None,
        "n_silver": student["train"]["n_silver"] if student else None,
        "n_labelled": labels["n_labelled"] if labels else None,
        "teacher": teacher,
        "student": None,
        "baseline": None,
        "labels": labels or None,
        "cascade": cascaded or None,
    }
    if stages["annotated"] and "members" in stages["annotated"]["config"]:
        out["members"] = stages["annotated"]["config"]["members"]
    if student:
        out["student"] = {
            "what": "student, on held-out gold",
            **(student.get("eval") or {}),
            "train": student["train"],
        }
        if labels:
            out["student"]["texts_per_second"] = labels["texts_per_second"]
    if baseline:
        what = "baseline: the same student on gold labels"
        out["baseline"] = {"what": what, **(baseline.get("eval") or {}), "train": baseline["train"]}
    return out


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
    student, texts = [ABSTAIN] * len(annotated), annotated[config["text_column"]][:]
    found = run_labels(run, "compared")
    why = found.left_out if found is not None else None
    if found is not None and why is None:
        table = read_pool(run / "compared")
        if table[config["text_column"]][:] == texts:  # else it is of earlier annotations
            student = table["student_label"][:]
    columns = zip(
        texts,
        annotated["llm_label"][:],
        annotated["llm_confidence"][:],
        annotated["llm_status"][:],
        student,
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
    return [{**row, "text": shorten(row["text"], _SHOWN, head_share=0.5)} for row in worst]


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


def _draw(run: Path, report: Mapping, rows: list[dict], task: TaskSpec) -> list[tuple[str, str]]:
    """Draw what can be drawn into `run/figures`; file names with their alt texts."""
    folder, drawn = run / "figures", []
    for old in folder.glob("*.png"):  # of what the run had earlier
        old.unlink()
    names = {"teacher": "Teacher", "student": "Student"}
    measured = {names[k]: report[k] for k in names if report[k] and report[k].get("confusion")}
    if measured:
        draw_confusions(folder / "confusion.png", task.labels, measured)
        drawn.append(("confusion.png", "Confusion matrices of " + " and ".join(n.lower() for n in measured)))
    sure = {name: part for name, part in measured.items() if part.get("reliability")}
    if sure:
        draw_reliability(folder / "calibration.png", sure)
        drawn.append(("calibration.png", "Accuracy against confidence of " + " and ".join(n.lower() for n in sure)))
    scored = [row for row in rows if row["confidence"] is not None]
    if scored:
        right = None
        if all(row["gold"] != ABSTAIN for row in scored):
            right = [row["teacher"] == row["gold"] for row in scored]
        draw_confidence(folder / "confidence.png", [row["confidence"] for row in scored], right)
        drawn.append(("confidence.png", "Histogram of the teacher's confidence"))
    answers = _answers(run, scored)
    if answers:
        draw_coverage(folder / "coverage.png", answers)
        drawn.append(
            ("coverage.png", f"Accuracy of the surest answers of {' and '.join(answers).lower()}, by their share")
        )
    drawn += _draw_findings(folder, report)
    for name, alt in (
        ("training.png", "Loss and accuracy by step of the student's training"),
        ("mix.png", "Silver and gold rows drawn by step of the training, and the learning rate"),
    ):
        if (run / "student" / name).is_file():
            shutil.copyfile(run / "student" / name, folder / name)
            drawn.append((name, alt))
    return drawn


def _draw_findings(folder: Path, report: Mapping) -> list[tuple[str, str]]:
    drawn = []
    for who, found in report["slices"].items():
        if found:
            rows = [
                (f"{row['kind']}: {row['name']}", row["accuracy"], row["low"], row["high"]) for row in found[:_SLICES]
            ]
            worse = [row["p_adjusted"] < 0.05 and row["difference"] < 0 for row in found[:_SLICES]]
            draw_shares(
                folder / f"slices-{who}.png", rows, f"Accuracy of the {who} by slice, the worst first", "accuracy",
                marked=worse, mark="worse than elsewhere (p < 0.05, corrected)",
                line=report[who]["accuracy"], line_name="all texts",
            )  # fmt: skip
            drawn.append((f"slices-{who}.png", f"Accuracy of the {who} on slices of the data, with 95 % intervals"))
    if report["prevalence"]:
        rows = [(name, one["share"], one["low"], one["high"]) for name, one in report["prevalence"].items()]
        draw_shares(
            folder / "prevalence.png", rows, "How common each class is in the pool", "share of the labelled pool",
            others=[one["counted"] for one in report["prevalence"].values()], others_name="as the student counts",
        )  # fmt: skip
        drawn.append(
            ("prevalence.png", "Share of each class in the pool, with 95 % intervals, and the student's count")
        )
    if report["advice"]:
        draw_curve(folder / "curve.png", report["advice"])
        drawn.append(("curve.png", f"Learning curve: {report['advice']['sentence']}"))
    return drawn


def _answers(run: Path, scored: list[dict]) -> dict[str, tuple[list[float], list[bool]]]:
    """Confidences, and whether right, where both are known: the teacher's on annotated texts, the student's held-out ones."""
    rows = [row for row in scored if row["gold"] != ABSTAIN]
    out = {}
    if rows:
        out["Teacher"] = ([row["confidence"] for row in rows], [row["teacher"] == row["gold"] for row in rows])
    if (run / "student" / EVALUATION_FILE).is_file():
        table = read_evaluation(run / "student")
        gold, given = table["gold"][:], table["student_label"][:]
        out["Student"] = (table["student_confidence"][:], [a == b for a, b in zip(gold, given, strict=True)])
    return out
