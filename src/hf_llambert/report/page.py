"""The report as one page, report.html: opens from disk, loads nothing, runs no script; texts are shown as text."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from hf_llambert.report.markdown import between, reviewed
from hf_llambert.report.sentences import finding_sentences
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import visible


def report_page(
    report: Mapping,
    summary: Sequence[tuple[str, str, str, str]],
    figures: Sequence[tuple[Path, str]],
    disagreements: Sequence[Mapping],
    prompt: str,
) -> str:
    """
    The page of a report.

    Args:
        report (`Mapping`): The content of `report.json`.
        summary (`Sequence[tuple[str, str, str, str]]`): Who, accuracy with its interval, macro-F1, texts per second.
        figures (`Sequence[tuple[Path, str]]`): PNG files, which are embedded, with their alternative texts.
        disagreements (`Sequence[Mapping]`): Rows to show, with `text`, `confidence` and the label ids `teacher`, `student`
            and `gold`.
        prompt (`str`): What the teacher was asked.
    """
    # Autoescape is what keeps a <script> in a review a text.
    environment = Environment(
        loader=PackageLoader("hf_llambert.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    return environment.get_template("report.html.jinja").render(
        report=report,
        between=between,
        headline=_headline(report),
        facts=_facts(report),
        summary=summary,
        found=finding_sentences(report),
        reviewed=reviewed(report) if report.get("review") else [],
        missing=missing_parts(report),
        figures=[(_embedded(path), alt) for path, alt in figures],
        errors=[_shown(row, report["task"]["labels"]) for row in disagreements],
        errors_title=_errors_title(disagreements),
        choices=report.get("choices"),
        prompt=prompt,
    )


def missing_parts(report: Mapping) -> list[str]:
    """What the report cannot tell, and what would let it, a sentence each."""
    teacher, student, out = report["teacher"], report["student"], []
    if teacher and teacher.get("accuracy") is None:
        out.append(
            "Nobody's labels of the annotated texts: how often the teacher is right is not known (--label_column)."
        )
    if student is None:
        out.append("No student was trained (hf-llambert train).")
    elif student.get("accuracy") is None:
        out.append("The student was not measured: train it with --eval_data, texts with people's labels.")
    if student and not report["labels"] and "labels" not in report.get("left_out", {}):
        out.append("The pool was not labelled (hf-llambert label).")
    few = [part for part in (teacher, student) if part and part.get("accuracy") is not None and part["n"] < 50]
    out += [
        f"Only {part['n']:,} texts with people's labels ({part['what']}): the interval is wide, more labels narrow it."
        for part in few
    ]
    return out


def _headline(report: Mapping) -> str:
    teacher, student, parts = report["teacher"], report["student"], []
    if teacher:
        parts.append(
            f"{(teacher.get('settings') or {}).get('model') or 'A teacher'} annotated {report['n_annotated']:,} texts"
        )
    if student:
        name = Path(student["train"]["student"]).name
        parts.append(f"{name} learnt from {student['train']['n']:,} labels")
    if report["labels"]:
        parts.append(f"it labelled {report['n_labelled']:,} texts")
    said = "; ".join(parts) + "."
    if student and student.get("accuracy") is not None:
        said += (
            f" On {student['n']:,} held-out texts it agrees with people on {student['accuracy']:.1%} "
            f"({student['accuracy_low']:.1%} to {student['accuracy_high']:.1%})."
        )
    return said


def _facts(report: Mapping) -> list[tuple[str, str]]:
    teacher, student = report["teacher"], report["student"]
    out = []
    if teacher:
        out += [("coverage", f"{teacher['coverage']:.1%}"), ("the teacher took", _time(teacher["seconds"]))]
        tokens = (teacher.get("input_tokens") or 0) + (teacher.get("output_tokens") or 0)
        out += [("the teacher's tokens", f"{tokens:,}")] if tokens else []
    if student:
        out.append(("training took", _time(student["train"]["seconds"])))
    if report["labels"]:
        out.append(("labelling took", _time(report["labels"]["seconds"])))
    if report.get("cost"):
        out.append(("all of it cost", f"{report['cost']['total']:,.4g} {report['cost']['currency']}"))
    return out


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _errors_title(rows: Sequence[Mapping]) -> str:
    measured = any(row["gold"] != ABSTAIN for row in rows)
    return "The worst errors" if measured else "Where teacher and student disagree"


def _shown(row: Mapping, labels: Sequence[str]) -> dict[str, str]:
    names = {who: labels[row[who]] if row[who] != ABSTAIN else "–" for who in ("teacher", "student", "gold")}
    confidence = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
    return {**names, "confidence": confidence, "text": row["text"]}


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
