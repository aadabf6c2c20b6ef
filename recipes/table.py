"""The table of an experiment: what was measured, for people, as Markdown and as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from common import short_name
from hf_llambert import paired_bootstrap

NAMES = {
    "gold": "gold train",
    "silver": "LLM-labelled train",
    "silver_extra": "LLM-labelled train + extra",
    "extra": "LLM-labelled extra",
    "combined": "combined",
}
_COLOURS = {
    "gold": "#0072b2",
    "silver": "#d55e00",
    "silver_extra": "#cc79a7",
    "extra": "#e69f00",
    "combined": "#009e73",
}


@dataclass(frozen=True)
class Measured:
    """
    What was found on held-out texts.

    Args:
        right (`dict`): By student and column an array for each seed: whether each text was labelled right.
        rows (`dict`): By column the number of labels learnt from.
        teacher (`dict`, *optional*): `right` of the teacher on the first of these texts, and its `coverage`.
    """

    right: dict[str, dict[str, list]]
    rows: dict[str, int]
    teacher: dict | None

    @classmethod
    def joined(cls, folds: Sequence[Measured]) -> Measured:
        """All folds as one; the labels learnt from are those of a fold on average. The teacher's are left out."""
        first = folds[0]
        right = {
            student: {
                name: [
                    np.concatenate(runs) for runs in zip(*(fold.right[student][name] for fold in folds), strict=True)
                ]
                for name in columns
            }
            for student, columns in first.right.items()
        }
        return cls(right, {name: round(np.mean([fold.rows[name] for fold in folds])) for name in first.rows}, None)


def make_table(measured: Measured, task: str, what: str, teacher_name: str, order: Sequence[str]) -> dict:
    """
    Accuracy of each student by each column with its interval, and what each is worth against gold.

    Args:
        task (`str`): Name of the task.
        what (`str`): What the held-out texts are.
        teacher_name (`str`): Name of the teacher.
        order (`Sequence[str]`): The columns in their order.
    """
    right, rows, teacher = measured.right, measured.rows, measured.teacher
    students: dict = {}
    for student, columns in right.items():
        name = short_name(student)
        students[name] = {}
        for column, runs in columns.items():
            cell = _interval(runs) | {"n_train": rows[column], "values": [float(one.mean()) for one in runs]}
            if "gold" in columns and column != "gold":
                cell["less_gold"] = _interval(runs, columns["gold"])
            students[name][column] = cell
            if teacher is not None:
                cell["teacher"] = _against(teacher["right"], runs[0][: len(teacher["right"])])
    seeds = len(next(iter(next(iter(right.values())).values())))
    table: dict = {
        "task": task, "held_out": what, "seeds": seeds, "columns": list(order), "students": students, "teacher": None,
        "teacher_name": teacher_name,
    }  # fmt: skip
    if teacher is not None:
        table["teacher"] = _interval([teacher["right"]]) | {
            "n": len(teacher["right"]), "coverage": teacher["coverage"],
        }  # fmt: skip
    return table


def _interval(runs: Sequence, others: Sequence | None = None) -> dict[str, float]:
    """Mean and 95 % interval over texts and seeds, of one or of a difference; in shares."""
    mean, low, high = paired_bootstrap(np.array(runs), 0.0 if others is None else np.array(others))
    return {"mean": mean, "low": low, "high": high}


def _against(teacher: np.ndarray, student: np.ndarray) -> dict[str, float]:
    """A student and its teacher on the same texts: their difference, and McNemar's exact test of it."""
    only_student, only_teacher = int((student & ~teacher).sum()), int((teacher & ~student).sum())
    changed = only_student + only_teacher
    p = float(binomtest(only_student, changed).pvalue) if changed else 1.0
    return _interval([student], [teacher]) | {"n": len(teacher), "p": p}


def published(task: str) -> dict:
    """
    The paper's accuracies in percent (arXiv 2403.15938): students, columns, and how they were measured.

    Raises:
        ValueError: The paper has no such task.
    """
    figures = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
    if task not in figures:
        raise ValueError(f"published takes one of {', '.join(figures)}; got {task!r}.")
    return figures[task]


def shown_cell(cell: Mapping) -> str:
    """Mean and 95 % interval in percent."""
    return f"{100 * cell['mean']:.2f} ({100 * cell['low']:.2f} to {100 * cell['high']:.2f})"


def notes(table: Mapping) -> list[str]:
    """What was measured, the teacher on the same texts, and what each column is worth against gold."""
    seeds = "one seed" if table["seeds"] == 1 else f"{table['seeds']} seeds"
    first = next(iter(table["students"].values()))
    lines = [
        f"Accuracy in percent on {table['held_out']}; 95 % intervals (bootstrap over texts"
        + (" and seeds" if table["seeds"] > 1 else "")
        + f"), {seeds}. Labels learnt from: "
        + ", ".join(f"{NAMES[name]} {first[name]['n_train']:,}" for name in table["columns"])
        + "."
    ]
    if table["teacher"]:
        lines.append(
            f"The teacher itself, {table['teacher_name']}, on the first {table['teacher']['n']:,} of them: "
            f"{shown_cell(table['teacher'])}, coverage {table['teacher']['coverage']:.1%}; no answer counts as wrong."
        )
    for student, cells in table["students"].items():
        for name, cell in ((name, cells[name]) for name in table["columns"]):
            teacher = "the teacher" if table["seeds"] == 1 else "the teacher (first seed)"
            for other, key in (("gold train", "less_gold"), (teacher, "teacher")):
                if key in cell:
                    found = cell[key]
                    p = f", McNemar p = {found['p']:.2g}" if "p" in found else ""
                    lines.append(
                        f"{student}, {NAMES[name]} less {other}: {100 * found['mean']:+.2f} points "
                        f"({100 * found['low']:+.2f} to {100 * found['high']:+.2f}{p})."
                    )
    return lines


def table_lines(table: Mapping) -> list[str]:
    """The table as Markdown, the paper's figures below ours where it has some."""
    columns = table["columns"]
    lines = [
        "| student | " + " | ".join(NAMES[name] for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for student, cells in table["students"].items():
        lines.append(f"| {student} | " + " | ".join(shown_cell(cells[name]) for name in columns) + " |")
    for student, cells in table.get("published", {}).get("students", {}).items():
        lines.append(f"| *{student}, published* | " + " | ".join(str(cells.get(name, "–")) for name in columns) + " |")
    lines += ["", *(f"- {line}" for line in notes(table))]
    if "published" in table:
        lines.append(f"- Published (arXiv 2403.15938): {table['published']['how']}")
    return lines


def show_table(table: Mapping) -> None:
    """Print it."""
    shown = Table(title="accuracy by what was learnt from (95 % interval)")
    for heading in ("student", *(NAMES[name] for name in table["columns"])):
        shown.add_column(heading)
    for student, cells in table["students"].items():
        shown.add_row(student, *(shown_cell(cells[name]) for name in table["columns"]))
    for student, cells in table.get("published", {}).get("students", {}).items():
        shown.add_row(f"{student}, published", *(str(cells.get(name, "–")) for name in table["columns"]), style="dim")
    console = Console()
    console.print(shown)
    for line in notes(table):
        console.print(line, highlight=False)


def write_table(run: Path, table: dict) -> None:
    """Print a table and write it as `table.json`, `table.md` and `table.png`."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "table.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    (run / "table.md").write_text("\n".join(table_lines(table)) + "\n", encoding="utf-8")
    draw_table(run / "table.png", table)
    show_table(table)


def draw_table(path: str | Path, table: Mapping) -> None:
    """Draw accuracies with their intervals, one line a student and column; the paper's figures as hollow dots."""
    groups = [(student, cells, True) for student, cells in table["students"].items()]
    groups += [(f"{student},\npublished", cells, False) for student, cells in _published_in(table).items()]
    count = len(table["columns"])
    figure = Figure(figsize=(7, 0.8 + 0.26 * (count + 1) * len(groups)), layout="constrained")
    axes = figure.subplots()
    for place, (_, cells, ours) in enumerate(groups):
        for k, name in enumerate(table["columns"]):
            y, colour = place * (count + 1) + k, _COLOURS[name]
            if ours:
                cell = cells[name]
                axes.plot([100 * cell["low"], 100 * cell["high"]], [y, y], color=colour, linewidth=2)
                axes.plot(100 * cell["mean"], y, "o", color=colour)
            elif name in cells:
                axes.plot(float(str(cells[name]).split()[0]), y, "o", color=colour, markerfacecolor="white")
    if table["teacher"]:
        axes.axvline(100 * table["teacher"]["mean"], color="grey", linestyle=":", label="teacher")
    for name in table["columns"]:
        axes.plot([], [], "o", color=_COLOURS[name], label=NAMES[name])
    axes.set_yticks(
        [place * (count + 1) + (count - 1) / 2 for place in range(len(groups))], [group[0] for group in groups]
    )
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on held-out gold, percent")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=150)


def _published_in(table: Mapping) -> Mapping:
    """The paper's students that have a figure in one of the columns."""
    students = table.get("published", {}).get("students", {})
    return {name: cells for name, cells in students.items() if set(cells) & set(table["columns"])}
