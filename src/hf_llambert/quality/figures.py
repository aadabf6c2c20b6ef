"""The figures of a report. Colours are Okabe and Ito's, told apart by colour-blind readers too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE = "#0072b2", "#d55e00"


def draw_confusions(path: Path, labels: Sequence[str], qualities: Mapping[str, Mapping]) -> None:
    """Confusion matrices side by side, each named with its accuracy and number of rows."""
    side = max(2.6, 0.55 * len(labels) + 1.4)
    figure = Figure(figsize=(side * len(qualities) + 0.6, side + 0.5), layout="constrained")
    for axes, (name, quality) in zip(
        np.atleast_1d(figure.subplots(1, len(qualities))), qualities.items(), strict=True
    ):
        counts = np.array(quality["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.6 else "black",
            )
        axes.set_xticks(range(len(labels)), labels, rotation=45 if len(labels) > 3 else 0)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="answered", ylabel="gold", title=f"{name}\n{quality['accuracy']:.1%} of {quality['n']:,}")
    figure.savefig(path, dpi=150)


def draw_reliability(path: Path, qualities: Mapping[str, Mapping]) -> None:
    """Accuracy against confidence; on the diagonal confidence is true. Dots grow with the number of rows."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for color, (name, quality) in zip((BLUE, ORANGE), qualities.items(), strict=False):
        confidence, accuracy, rows = np.array(quality["reliability"]).T
        axes.plot(confidence, accuracy, color=color, label=f"{name}, error {quality['ece']:.3f}")
        axes.scatter(confidence, accuracy, s=8 + 200 * rows / rows.sum(), color=color)
    low = min(min(point[0] for point in quality["reliability"]) for quality in qualities.values())
    axes.set(
        xlabel="confidence", ylabel="accuracy", title="Calibration", xlim=(max(0, low - 0.05), 1.02), ylim=(0, 1.02)
    )
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


def draw_confidence(path: Path, confidences: Sequence[float], right: Sequence[bool] | None) -> None:
    """Histogram of the teacher's confidence, right answers apart from wrong ones where gold tells."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes: Axes = figure.subplots()
    values = np.array(confidences)
    bins = np.linspace(min(values.min(), 0.95), 1, 21).tolist()
    if right is None:
        axes.hist(values, bins=bins, color=BLUE)
    else:
        mask = np.array(right, dtype=bool)
        axes.hist(
            [values[mask], values[~mask]], bins=bins, stacked=True, color=[BLUE, ORANGE], label=["right", "wrong"]
        )
        axes.legend(frameon=False)
    axes.set(xlabel="confidence of the teacher", ylabel="texts", title="How sure the teacher was")
    figure.savefig(path, dpi=150)
