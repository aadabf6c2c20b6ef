"""The report as one page, report.html: opens from disk, loads nothing, runs no script; texts are shown as text."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from hf_llambert.pool.distilled import distilled_summary
from hf_llambert.quality.report_parts import question_reports
from hf_llambert.report.kinds import OF_KIND, answer_words, is_measured, kind_of, more_figures
from hf_llambert.report.markdown import between, is_plain, mean_sentence, reviewed, summary_head, summary_rows
from hf_llambert.report.sentences import finding_sentences, question_sentences, stages_said, worth_told
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import visible


def report_page(
    report: Mapping,
    figures: Mapping[str, Sequence[tuple[Path, str]]],
    disagreements: Mapping[str, Sequence[Mapping]],
    task: TaskSpec,
    prompt: str,
) -> str:
    """
    The page of a report.

    Args:
        report (`Mapping`): The content of `report.json`.
        figures (`Mapping[str, Sequence[tuple[Path, str]]]`): PNG files, which are embedded, with their alternative texts, by
            question; those of none by no name.
        disagreements (`Mapping[str, Sequence[Mapping]]`): By question the rows to show, with `text`, `confidence` and the
            answers `teacher`, `student` and `gold`.
        task (`TaskSpec`): The task.
        prompt (`str`): What the teacher was asked.
    """
    # Autoescape is what keeps a <script> in a review a text.
    environment = Environment(
        loader=PackageLoader("hf_llambert.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    several = "questions" in report
    return environment.get_template("report.html.jinja").render(
        report=report,
        between=between,
        headline=_headline(report),
        facts=_facts(report),
        plain=is_plain(report),
        summary_head=summary_head(report),
        summary=summary_rows(report),
        worth=worth_told(report),
        found=finding_sentences(report) if several else [],
        reviewed=reviewed(report) if report.get("review") else [],
        missing=missing_parts(report),
        stages=stages_said(report),
        distilled=list(distilled_summary(report["distilled"])) if report.get("distilled") else [],
        figures=[(_embedded(path), alt) for path, alt in figures.get("", ())] if several else [],
        parts=[
            _part(name, seen, figures.get(name, ()), disagreements.get(name, ()), task.parts[name])
            for name, seen in question_reports(report).items()
        ],
        choices=report.get("choices"),
        prompt=prompt,
    )


def _part(
    name: str,
    report: Mapping,
    figures: Sequence[tuple[Path, str]],
    disagreements: Sequence[Mapping],
    task: TaskSpec,
) -> dict[str, object]:
    """What the page shows of a question."""
    kind = kind_of(task)
    measured = [part for part in ("teacher", "student") if is_measured(report[part])]
    return {
        "name": name,
        "kind": task.question.kind,
        "of_kind": kind,
        "report": report,
        "mean": mean_sentence(report["mean"]) if report.get("mean") else "",
        "more": {part: more_figures(kind, report[part]) for part in measured},
        "found": question_sentences(report) if name else finding_sentences(report),
        "figures": [(_embedded(path), alt) for path, alt in figures],
        "errors": [_shown(row, task.question) for row in disagreements],
        "errors_title": _errors_title(disagreements, task.question),
        "errors_order": kind.shown[:1].upper() + kind.shown[1:] if name else "The surest first",
    }


def missing_parts(report: Mapping) -> list[str]:
    """What the report cannot tell, and what would let it, a sentence each."""
    teacher, student, out = report["teacher"], report["student"], []
    seen = question_reports(report)
    unknown = [name for name, one in seen.items() if one["teacher"] and not is_measured(one["teacher"])]
    if teacher and unknown:
        of = "" if unknown == [""] else f" ({', '.join(unknown)})"
        out.append(
            f"Nobody's labels of the annotated texts{of}: how often the teacher is right is not known (--label_column)."
        )
    unmeasured = [name for name, one in seen.items() if not is_measured(one["student"])]
    if student is None:
        out.append("No student was trained (hf-llambert train).")
    elif unmeasured:
        of = "" if unmeasured == [""] else f" on {', '.join(unmeasured)}"
        out.append(f"The student was not measured{of}: train it with --eval_data, texts with people's labels.")
    if student and not report["labels"] and "labels" not in report.get("left_out", {}):
        out.append("The pool was not labelled (hf-llambert label).")
    if any(one.get("sources") == [] for one in seen.values()):
        out.append(
            "Fewer than 100 annotated texts with a label: how far columns such as their source foretell labels is not known."
        )
    for name, one in seen.items():
        few = [part for part in (one["teacher"], one["student"]) if is_measured(part) and part["n"] < 50]
        out += [
            f"Only {part['n']:,} texts with people's labels ({f'{name}, ' if name else ''}{part['what']}): the interval is wide, "
            f"more labels narrow it."
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
        who = "it and a fast student" if "by_stage" in report["labels"] else "it"
        parts.append(f"{who} labelled {report['n_labelled']:,} texts")
    said = "; ".join(parts) + "."
    for name, one in question_reports(report).items():
        if is_measured(one["student"]):
            kind = OF_KIND[TaskSpec.from_dict(one["task"]).question.kind]
            said += f" {f'{name}: on' if name else 'On'} {one['student']['n']:,} held-out texts {kind.said(one['student'])}."
    return said


def _facts(report: Mapping) -> list[tuple[str, str]]:
    teacher, student = report["teacher"], report["student"]
    out = []
    if teacher:
        out += [
            (f"coverage{f' of {name}' if name else ''}", f"{one['teacher']['coverage']:.1%}")
            for name, one in question_reports(report).items()
        ]
        out += [("the teacher took", _time(teacher["seconds"]))]
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


def _errors_title(rows: Sequence[Mapping], question: Question) -> str:
    measured = any(question.is_answer(row["gold"]) for row in rows)
    return "The worst errors" if measured else "Where teacher and student disagree"


def _shown(row: Mapping, question: Question) -> dict[str, str]:
    names = {who: answer_words(question, row[who]) for who in ("teacher", "student", "gold")}
    confidence = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
    return {**names, "confidence": confidence, "text": row["text"]}


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
