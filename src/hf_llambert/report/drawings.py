"""Which figures a report has, and drawing those that are not drawn yet."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_llambert import __version__
from hf_llambert.data import read_note, write_whole
from hf_llambert.headline import RIGHT
from hf_llambert.misfits import ANY
from hf_llambert.pool.manifest import file_checksum
from hf_llambert.report.evaluated import Evaluated, evaluated
from hf_llambert.report.figures import (
    draw_confidence,
    draw_confusions,
    draw_coverage,
    draw_curve,
    draw_labels,
    draw_levels,
    draw_reliability,
    draw_scale,
    draw_shares,
)
from hf_llambert.report.kinds import is_measured, right_rows
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.whole import whole_file

_DRAWN = "drawn.json"
_SLICES = 12
_MOST_PAIRS = 5000  # of gold and answers that are drawn
_OF_STUDENT = {
    "training.png": "Loss and accuracy by step of the student's training",
    "mix.png": "Silver and gold rows drawn by step of the training, and the learning rate",
}


@dataclass(frozen=True)
class Drawing:
    """
    A figure of a report.

    Args:
        name (`str`): Its file.
        alt (`str`): What it shows, for those who cannot see it.
        function (`Callable`): Draws it; its first argument is the path.
        arguments (`Mapping`): The others, of the types of JSON.
    """

    name: str
    alt: str
    function: Callable[..., None]
    arguments: Mapping[str, object]

    @property
    def digest(self) -> str:
        """What it is drawn from."""
        of = [__version__, self.function.__name__, dict(self.arguments)]
        return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]


def draw(run: Path, wanted: Sequence[Drawing]) -> list[tuple[str, str]]:
    """
    Have the figures in `run/figures`, and no others. One that was drawn from the same, and is as it was drawn, is not drawn
    again.

    Returns:
        `list[tuple[str, str]]`: File names with their alt texts.
    """
    folder = run / "figures"
    folder.mkdir(exist_ok=True)
    try:
        drawn = read_note(folder / _DRAWN, {ANY: str}) if (folder / _DRAWN).is_file() else {}
    except OSError:  # damaged: drawn anew
        drawn = {}
    there = {}
    for drawing in wanted:
        path = folder / drawing.name
        told = _told(drawing, path) if path.is_file() else ""
        if drawn.get(drawing.name) != told:
            with whole_file(path) as part:
                drawing.function(part, **drawing.arguments)
                told = _told(drawing, part)
        there[drawing.name] = told
    for old in folder.glob("*.png"):
        if old.name not in there:
            old.unlink(missing_ok=True)  # another report may be made at once
    if drawn != there:
        write_whole(folder / _DRAWN, json.dumps(there, indent=2) + "\n")
    return [(drawing.name, drawing.alt) for drawing in wanted]


def _told(drawing: Drawing, path: Path) -> str:
    """What a figure was drawn from and what is in its file: a report that stopped before its note may have left another."""
    return f"{drawing.digest} {file_checksum(path)}"


def run_drawings(run: Path) -> list[Drawing]:
    """The figures that a run's training left."""
    found = []
    for name, alt in _OF_STUDENT.items():
        source = run / "student" / name
        if source.is_file():
            arguments = {"source": str(source), "checksum": file_checksum(source)}
            found.append(Drawing(name, alt, _copy, arguments))
    return found


def by_question(drawn: Sequence[tuple[str, str]], wanted: Mapping[str, Sequence[Drawing]]) -> dict[str, list]:
    """
    File names and alt texts by question, those that are of none by no name; of an only question all of them.
    """
    of = {drawing.name: name for name, found in wanted.items() for drawing in found}
    out: dict[str, list] = {"": [], **{name: [] for name in wanted}}
    for file, alt in drawn:
        out[of.get(file, "")].append((file, alt))
    return out


def drawings(run: Path, report: Mapping, rows: Sequence[Mapping], task: TaskSpec, name: str = "") -> list[Drawing]:
    """
    The figures that can be drawn of a question.

    Args:
        run (`Path`): Folder of the run.
        report (`Mapping`): The report as the question sees it; see [`question_report`].
        rows (`Sequence[Mapping]`): The annotated rows with their answers to it.
        task (`TaskSpec`): The whole task.
        name (`str`, defaults to none): The question, where it is one of several.
    """
    question = task.parts[name].question
    names = {"teacher": "Teacher", "student": "Student"}
    measured = {names[k]: report[k] for k in names if is_measured(report[k])}
    both = [row for row in rows if question.is_answer(row["teacher"]) and question.is_answer(row["gold"])]
    pairs = {"Teacher": ([row["gold"] for row in both], [row["teacher"] for row in both])} if both else {}
    of_student = evaluated(run / "student", task, name)
    if of_student and of_student.gold:
        pairs["Student"] = (of_student.gold, of_student.answers)
    found = _OF_KIND[question.kind](question, measured, pairs)
    sure = {who: part for who, part in measured.items() if part.get("reliability")}
    if sure:
        alt = "Accuracy against confidence of " + " and ".join(n.lower() for n in sure)
        found.append(Drawing("calibration.png", alt, draw_reliability, {"qualities": sure}))
    scored = [row for row in rows if row["confidence"] is not None]
    if scored:
        right = None
        if all(question.is_answer(row["gold"]) for row in scored):
            right = right_rows(question, *([row[who] for row in scored] for who in ("teacher", "gold"))).tolist()
        arguments = {"confidences": [row["confidence"] for row in scored], "right": right}
        found.append(Drawing("confidence.png", "Histogram of the teacher's confidence", draw_confidence, arguments))
    answers = _answers(question, scored, of_student)
    if answers:
        alt = f"Accuracy of the surest answers of {' and '.join(answers).lower()}, by their share"
        found.append(Drawing("coverage.png", alt, draw_coverage, {"answers": answers}))
    found += _of_findings(report, RIGHT[question.kind])
    if not name:
        return found
    return [replace(one, name=f"{name}-{one.name}", alt=f"{name}: {one.alt}") for one in found]


_Pairs = Mapping[str, tuple[list, list]]
"""Gold and answers, by who gave them."""


def _of_choice(question: Question, measured: Mapping[str, Mapping], pairs: _Pairs) -> list[Drawing]:  # noqa: ARG001
    if not measured:
        return []
    alt = "Confusion matrices of " + " and ".join(n.lower() for n in measured)
    arguments: dict = {"labels": question.labels, "qualities": measured}
    return [Drawing("confusion.png", alt, draw_confusions, arguments)]


def _of_choices(question: Question, measured: Mapping[str, Mapping], pairs: _Pairs) -> list[Drawing]:  # noqa: ARG001
    out = []
    for who, quality in measured.items():
        alt = f"Precision, recall and F1 of each label, of the {who.lower()}, and how many gold rows have it"
        arguments: dict = {"title": f"{who} by label", "per_class": quality["per_class"]}
        out.append(Drawing(f"labels-{who.lower()}.png", alt, draw_labels, arguments))
    return out


def _of_scale(question: Question, measured: Mapping[str, Mapping], pairs: _Pairs) -> list[Drawing]:  # noqa: ARG001
    if not pairs:
        return []
    few = {who: [side[:_MOST_PAIRS] for side in both] for who, both in pairs.items()}
    arguments: dict = {"levels": [float(label) for label in question.labels], "pairs": few}
    who = " and ".join(pairs).lower()
    return [
        Drawing("scale.png", f"Answers of {who} by people's, as boxes", draw_scale, arguments),
        Drawing(
            "levels.png", f"How often people, {' and '.join(pairs).lower()} give each level", draw_levels, arguments
        ),
    ]


_OF_KIND: dict[str, Callable[[Question, Mapping[str, Mapping], _Pairs], list[Drawing]]] = {
    "choice": _of_choice,
    "choices": _of_choices,
    "scale": _of_scale,
}


def _of_findings(report: Mapping, right: str) -> list[Drawing]:
    found = []
    for who, slices in report["slices"].items():
        if slices:
            shown = slices[:_SLICES]
            arguments: dict = {
                "rows": [(f"{row['kind']}: {row['name']}", row["accuracy"], row["low"], row["high"]) for row in shown],
                "title": f"Accuracy of the {who} by slice, the worst first",
                "xlabel": "accuracy",
                "marked": [row["p_adjusted"] < 0.05 and row["difference"] < 0 for row in shown],
                "mark": "worse than elsewhere (p < 0.05, corrected)",
                "line": report[who][right],
                "line_name": "all texts",
            }
            alt = f"Accuracy of the {who} on slices of the data, with 95 % intervals"
            found.append(Drawing(f"slices-{who}.png", alt, draw_shares, arguments))
    if report["prevalence"]:
        arguments = {
            "rows": [(name, one["share"], one["low"], one["high"]) for name, one in report["prevalence"].items()],
            "title": "How common each class is in the pool",
            "xlabel": "share of the labelled pool",
            "others": [one["counted"] for one in report["prevalence"].values()],
            "others_name": "as the student counts",
        }
        alt = "Share of each class in the pool, with 95 % intervals, and the student's count"
        found.append(Drawing("prevalence.png", alt, draw_shares, arguments))
    if report["advice"]:
        alt = f"Learning curve: {report['advice']['sentence']}"
        found.append(Drawing("curve.png", alt, draw_curve, {"advice": report["advice"]}))
    return found


def _copy(path: Path, source: str, checksum: str) -> None:  # noqa: ARG001  (it tells whether to copy again)
    shutil.copyfile(source, path)


def _answers(
    question: Question, scored: Sequence[Mapping], of_student: Evaluated | None
) -> dict[str, tuple[list[float], list[bool]]]:
    """Confidences, and whether right, where both are known: the teacher's on annotated texts, the student's held-out ones."""
    rows = [row for row in scored if question.is_answer(row["gold"])]
    out = {}
    if rows:
        right = right_rows(question, *([row[who] for row in rows] for who in ("teacher", "gold"))).tolist()
        out["Teacher"] = ([row["confidence"] for row in rows], right)
    if of_student and of_student.gold:
        out["Student"] = (of_student.confidences, of_student.right(question))
    return out
