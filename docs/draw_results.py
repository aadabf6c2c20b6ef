"""
Draws docs/results.png from the first table of docs/results.md: accuracy against what a million texts cost.

    python docs/draw_results.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLOURS = {"teacher": "#999999", "SmolLM2-135M": "#d55e00", "Llama-2-70b": "#0072b2", "people": "#009e73"}
"""Whose labels a student learnt from; teachers learnt from nobody here."""
_ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<labels>[^|]+) \| (?P<mean>[\d.]+) % \((?P<low>[\d.]+) to (?P<high>[\d.]+)\) "
    r"\| (?P<rate>[\d,.]+) \|",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Point:
    """
    A row of the table.

    Args:
        what (`str`): The model.
        labels (`str`): How many labels it learnt from, and whose.
        accuracy (`tuple[float, float, float]`): In percent, with the ends of the 95 % interval.
        texts_per_second (`float`): On two cores.
    """

    what: str
    labels: str
    accuracy: tuple[float, float, float]
    texts_per_second: float

    @property
    def hours(self) -> float:
        """Hours of a core for a million texts."""
        return 2 * 1e6 / self.texts_per_second / 3600

    @property
    def source(self) -> str:
        """Which of `COLOURS` it has."""
        return next((name for name in COLOURS if name in self.labels), "teacher")


def read_points(page: str) -> list[Point]:
    """The rows of the first table that have a speed."""
    table = page.split("\n\n", 1)[1].split("\n## ", 1)[0]
    return [
        Point(
            row["what"],
            row["labels"],
            (float(row["mean"]), float(row["low"]), float(row["high"])),
            float(row["rate"].replace(",", "")),
        )
        for row in _ROW.finditer(table)
    ]


def main() -> None:
    """Draw a point for each row, with its interval."""
    points = read_points((HERE / "results.md").read_text(encoding="utf-8"))
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    for point in points:
        mean, low, high = point.accuracy
        axes.plot([point.hours] * 2, [low, high], color=COLOURS[point.source], linewidth=2)
        axes.plot(point.hours, mean, "o", color=COLOURS[point.source], markersize=8)
        axes.annotate(f" {point.what}", (point.hours, mean), xytext=(5, -3), textcoords="offset points", fontsize=9)
    for source, colour in COLOURS.items():
        shown = "a teacher itself" if source == "teacher" else f"learnt from labels of {source}"
        axes.plot([], [], "o", color=colour, label=shown)
    axes.set(xscale="log", xlabel="hours of one core for a million film reviews", ylabel="accuracy, percent")
    axes.set_xlim(min(point.hours for point in points) / 2, max(point.hours for point in points) * 8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(HERE / "results.png", dpi=130)


if __name__ == "__main__":
    main()
