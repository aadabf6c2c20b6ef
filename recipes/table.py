"""The table of an experiment: for people, as Markdown and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

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
