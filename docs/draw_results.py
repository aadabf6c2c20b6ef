"""
Draws docs/results.png from the first table of docs/results.md: accuracy against what a million texts cost.

    python docs/draw_results.py
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLOURS = {"teacher": "#999999", "SmolLM2-135M": "#d55e00", "Llama-2-70b": "#0072b2", "people": "#009e73"}
"""Whose labels a student learnt from; teachers learnt from nobody here."""
_ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<labels>[^|]+) \| (?P<mean>[\d.]+) % \((?P<low>[\d.]+) to (?P<high>[\d.]+)\) "
    r"\| (?P<rate>[\d,.]+|–) \|",
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
        texts_per_second (`float`, *optional*): On two cores; `None` where it was not measured.
    """

    what: str
    labels: str
    accuracy: tuple[float, float, float]
    texts_per_second: float | None

    @property
    def hours(self) -> float:
        """Hours of a core for a million texts; NaN where the speed was not measured."""
        return math.nan if self.texts_per_second is None else 2 * 1e6 / self.texts_per_second / 3600

    @property
    def source(self) -> str:
        """Which of `COLOURS` it has."""
        return next((name for name in COLOURS if name in self.labels), "teacher")


def read_points(page: str) -> list[Point]:
    """The rows of the first table."""
    table = page.split("\n\n", 1)[1].split("\n## ", 1)[0]
    return [
        Point(
            row["what"],
            row["labels"],
            (float(row["mean"]), float(row["low"]), float(row["high"])),
            None if row["rate"] == "–" else float(row["rate"].replace(",", "")),
        )
        for row in _ROW.finditer(table)
    ]


def main() -> None:
    """Draw a point with its interval for each row, and a line where the speed is not known."""
    points = read_points((HERE / "results.md").read_text(encoding="utf-8"))
    measured = [point for point in points if not math.isnan(point.hours)]
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    places: set[float] = set()
    for point in measured:
        mean, low, high = point.accuracy
        place = point.hours
        while place in places:
            place *= 1.12  # beside the other of this speed
        places.add(place)
        axes.plot([place] * 2, [low, high], color=COLOURS[point.source], linewidth=2)
        axes.plot(place, mean, "o", color=COLOURS[point.source], markersize=8)
        axes.annotate(f" {point.what}", (place, mean), xytext=(10, -3), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlim=(min(places) / 2, max(places) * 20))
    for point in points:
        if math.isnan(point.hours):
            axes.axhline(point.accuracy[0], color=COLOURS[point.source], linestyle=":")
            axes.annotate(
                f"{point.what} ", (axes.get_xlim()[1], point.accuracy[0]), ha="right", va="bottom", fontsize=9
            )
    for source, colour in COLOURS.items():
        shown = "a teacher itself" if source == "teacher" else f"learnt from labels of {source}"
        axes.plot([], [], "o", color=colour, label=shown)
    axes.set(xlabel="hours of one core for a million film reviews", ylabel="accuracy, percent")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(HERE / "results.png", dpi=110)


if __name__ == "__main__":
    main()
