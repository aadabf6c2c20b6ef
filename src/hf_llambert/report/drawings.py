"""Which figures a report has, and drawing those that are not drawn yet."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_llambert import __version__
from hf_llambert.data import read_note, write_whole
from hf_llambert.notes import ANY
from hf_llambert.pool.manifest import file_checksum
from hf_llambert.report.figures import (
    draw_confidence,
    draw_confusions,
    draw_coverage,
    draw_curve,
    draw_reliability,
    draw_shares,
)
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.compared import EVALUATION_FILE, read_evaluation
from hf_llambert.whole import whole_file

_DRAWN = "drawn.json"
_SLICES = 12
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


def drawings(run: Path, report: Mapping, rows: Sequence[Mapping], task: TaskSpec) -> list[Drawing]:
    """The figures that can be drawn of a run's report and its annotated rows."""
    found = []
    names = {"teacher": "Teacher", "student": "Student"}
    measured = {names[k]: report[k] for k in names if report[k] and report[k].get("confusion")}
    if measured:
        alt = "Confusion matrices of " + " and ".join(n.lower() for n in measured)
        arguments: dict = {"labels": task.labels, "qualities": measured}
        found.append(Drawing("confusion.png", alt, draw_confusions, arguments))
    sure = {name: part for name, part in measured.items() if part.get("reliability")}
    if sure:
        alt = "Accuracy against confidence of " + " and ".join(n.lower() for n in sure)
        found.append(Drawing("calibration.png", alt, draw_reliability, {"qualities": sure}))
    scored = [row for row in rows if row["confidence"] is not None]
    if scored:
        right = None
        if all(row["gold"] != ABSTAIN for row in scored):
            right = [row["teacher"] == row["gold"] for row in scored]
        arguments = {"confidences": [row["confidence"] for row in scored], "right": right}
        found.append(Drawing("confidence.png", "Histogram of the teacher's confidence", draw_confidence, arguments))
    answers = _answers(run, scored)
    if answers:
        alt = f"Accuracy of the surest answers of {' and '.join(answers).lower()}, by their share"
        found.append(Drawing("coverage.png", alt, draw_coverage, {"answers": answers}))
    found += _of_findings(report)
    for name, alt in _OF_STUDENT.items():
        source = run / "student" / name
        if source.is_file():
            arguments = {"source": str(source), "checksum": file_checksum(source)}
            found.append(Drawing(name, alt, _copy, arguments))
    return found


def _of_findings(report: Mapping) -> list[Drawing]:
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
                "line": report[who]["accuracy"],
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


def _answers(run: Path, scored: Sequence[Mapping]) -> dict[str, tuple[list[float], list[bool]]]:
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
