"""The figures of a report. Colours are Okabe and Ito's, told apart by colour-blind readers too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincinv

from hf_llambert.tasks.texts import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERED = 30  # labels up to which a confusion matrix has room for its counts
_TALLEST = 400.0  # inches: Matplotlib draws no more than 65,536 pixels
BLUE, ORANGE = "#0072b2", "#d55e00"


def draw_confusions(path: Path, labels: Sequence[str], qualities: Mapping[str, Mapping]) -> None:
    """Confusion matrices side by side, each named with its accuracy and number of rows."""
    side = min(max(2.6, 0.55 * len(labels) + 1.4), 14.0)
    names = [shorten(label, 40, head_share=0.7) for label in labels]
    figure = _figure((side * len(qualities) + 0.6, side + 0.5))
    for axes, (name, quality) in zip(
        np.atleast_1d(figure.subplots(1, len(qualities))), qualities.items(), strict=True
    ):
        counts = np.array(quality["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts if len(labels) <= _NUMBERED else counts[:0]):
            axes.text(
                column,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.6 else "black",
            )
        size = min(10.0, 600 / len(labels))
        axes.set_xticks(range(len(labels)), names, rotation=label_turn(names, side), fontsize=size, parse_math=False)
        axes.set_yticks(range(len(labels)), names, fontsize=size, parse_math=False)
        axes.set(xlabel="answered", ylabel="gold", title=f"{name}\n{quality['accuracy']:.1%} of {quality['n']:,}")
    figure.savefig(path, dpi=150, format="png")


def draw_reliability(path: Path, qualities: Mapping[str, Mapping]) -> None:
    """Accuracy against confidence; on the diagonal confidence is true. Dots grow with the number of rows."""
    figure = _figure((4.6, 4.4))
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
    figure.savefig(path, dpi=150, format="png")


def draw_confidence(path: Path, confidences: Sequence[float], right: Sequence[bool] | None) -> None:
    """Histogram of the teacher's confidence, right answers apart from wrong ones where gold tells."""
    figure = _figure((5.4, 3.2))
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
    figure.savefig(path, dpi=150, format="png")


def draw_coverage(path: Path, answers: Mapping[str, tuple[Sequence[float], Sequence[bool]]]) -> None:
    """
    Accuracy of the surest answers against the share of texts that they are, with 95 % intervals (Clopper and Pearson).

    Args:
        path (`Path`): PNG to write.
        answers (`Mapping[str, tuple[Sequence[float], Sequence[bool]]]`): By who gave them: confidences, and whether right.
    """
    figure = _figure((5.4, 3.6))
    axes = figure.subplots()
    lowest = 1.0
    for color, (name, (confidences, right)) in zip((BLUE, ORANGE), answers.items(), strict=False):
        order = np.argsort(-np.asarray(confidences, dtype=float), kind="stable")
        rows = np.arange(1, len(order) + 1)
        hits = np.cumsum(np.asarray(right, dtype=int)[order])
        kept = rows >= min(20, len(rows))  # the share of fewer says nothing
        share, accuracy = rows[kept] / len(rows), (hits / rows)[kept]
        low = np.nan_to_num(betaincinv(hits, rows - hits + 1, 0.025), nan=0.0)[kept]
        high = np.nan_to_num(betaincinv(hits + 1, rows - hits, 0.975), nan=1.0)[kept]
        axes.plot(share, accuracy, color=color, label=name, linestyle="-" if color == BLUE else "--")
        axes.fill_between(share, low, high, color=color, alpha=0.15, linewidth=0)
        lowest = min(lowest, float(low.min()))
    axes.set(
        xlabel="share of the texts, the surest first",
        ylabel="accuracy",
        title="Accuracy of the surest",
        xlim=(0, 1),
        ylim=(max(0.0, lowest - 0.03), 1.01),
    )
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150, format="png")


def draw_shares(
    path: Path,
    rows: Sequence[tuple[str, float, float, float]],
    title: str,
    xlabel: str,
    *,
    marked: Sequence[bool] = (),
    mark: str = "",
    line: float | None = None,
    line_name: str = "",
    others: Sequence[float] = (),
    others_name: str = "",
) -> None:
    """
    Shares with their intervals, one under the other.

    Args:
        path (`Path`): PNG to write.
        rows (`Sequence[tuple[str, float, float, float]]`): Name, share, low, high, from the top.
        title (`str`): Title.
        xlabel (`str`): What is shared.
        marked (`Sequence[bool]`, *optional*): Rows drawn as orange squares, which `mark` explains.
        line (`float`, *optional*): A share to compare with, which `line_name` explains.
        others (`Sequence[float]`, *optional*): A second share of each row, as a hollow diamond, which `others_name` explains.
    """
    figure = _figure((6, min(1.4 + 0.32 * len(rows), _TALLEST)))
    axes = figure.subplots()
    places = np.arange(len(rows))
    share, low, high = np.array([row[1:] for row in rows]).T
    is_marked = np.array(marked, dtype=bool) if len(marked) else np.zeros(len(rows), dtype=bool)
    for mask, color, shape, name in ((~is_marked, BLUE, "o", "95 % interval"), (is_marked, ORANGE, "s", mark)):
        if mask.any():
            reach = np.maximum([(share - low)[mask], (high - share)[mask]], 0)
            axes.errorbar(share[mask], places[mask], xerr=reach, fmt=shape, color=color, capsize=3, label=name)
    if len(others):
        axes.scatter(others, places, marker="D", facecolors="none", edgecolors="black", zorder=3, label=others_name)
    if line is not None:
        axes.axvline(line, color="grey", linestyle=":", label=line_name)
    axes.set_yticks(places, [shorten(name, 40, head_share=0.7) for name, *_ in rows], parse_math=False)
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    figure.suptitle(title)  # over the names too, which may be long
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150, format="png")


def draw_curve(path: Path, advice: Mapping) -> None:
    """Accuracy of students by the number of labels that they learnt from, and what more labels are expected to bring."""
    figure = _figure((5.4, 3.6))
    axes = figure.subplots()
    sizes, accuracy = np.array(advice["sizes"]), np.array(advice["accuracy"])
    axes.scatter(sizes, accuracy, color=BLUE, label=f"students, on {advice['n_eval']:,} texts")
    steps = np.unique(sizes)
    means = np.array([accuracy[sizes == step].mean() for step in steps])
    axes.plot(steps, means, color=BLUE)
    gain = np.array([advice["gain"], advice["low"], advice["high"]])
    reach = np.array([[gain[0] - gain[1]], [gain[2] - gain[0]]])
    axes.errorbar(
        advice["labels"] + advice["more"], means[-1] + gain[0], yerr=reach, fmt="s", color=ORANGE, capsize=3,
        label=f"expected with {advice['more']:,} more, 95 % interval",
    )  # fmt: skip
    axes.set_xscale("log")
    ticks = [*steps, advice["labels"] + advice["more"]]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="labels learnt from", ylabel=advice.get("figure", "accuracy"), title="Learning curve")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150, format="png")


def draw_labels(path: Path, title: str, per_class: Mapping[str, Mapping]) -> None:
    """Precision, recall and F1 of each label, the commonest first, with the gold rows that have it."""
    order = sorted(per_class, key=lambda name: (-per_class[name]["support"], name))
    figure = _figure((6.4, min(1.6 + 0.42 * len(order), _TALLEST)))
    axes = figure.subplots()
    places = np.arange(len(order))
    drawn = (("precision", -0.24, BLUE, "o"), ("recall", 0.0, ORANGE, "s"), ("f1", 0.24, "black", "D"))
    for name, shift, color, shape in drawn:
        share = np.array([per_class[label][name] for label in order])
        ends = [
            np.array([per_class[label].get(f"{name}_{end}") for label in order], dtype=float)
            for end in ("low", "high")
        ]
        reach = np.nan_to_num(np.maximum([share - ends[0], ends[1] - share], 0))
        axes.errorbar(
            share, places + shift, xerr=reach if name != "f1" else None, fmt=shape, color=color, capsize=2, markersize=4,
            linewidth=1, label={"f1": "F1"}.get(name, f"{name}, 95 % interval"),
        )  # fmt: skip
    names = [f"{shorten(label, 34, head_share=0.7)} ({per_class[label]['support']:,})" for label in order]
    axes.set_yticks(places, names, parse_math=False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set(xlabel="share (gold rows with the label in brackets)", xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6))
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150, format="png")


def draw_scale(path: Path, levels: Sequence[float], pairs: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Answers against people's: a box of the answers to the texts whose gold is nearest to each level, side by side."""
    figure = _figure((4.4 * len(pairs) + 0.4, 4.2))
    middle = (np.array(levels[1:]) + np.array(levels[:-1])) / 2
    step = float(np.diff(levels).min())
    for axes, color, (who, (gold, answers)) in zip(
        np.atleast_1d(figure.subplots(1, len(pairs), sharey=True)), (BLUE, ORANGE), pairs.items(), strict=False
    ):
        near = np.searchsorted(middle, np.array(gold))
        there = np.unique(near)
        axes.plot([levels[0], levels[-1]], [levels[0], levels[-1]], color="grey", linestyle=":", label="as people say")
        axes.boxplot(
            [np.array(answers)[near == k] for k in there], positions=[levels[k] for k in there], widths=0.5 * step,
            manage_ticks=False, patch_artist=True, medianprops={"color": "black"},
            boxprops={"facecolor": color, "alpha": 0.45}, flierprops={"markersize": 2, "markeredgecolor": color},
        )  # fmt: skip
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.set_yticks(levels, [f"{level:g}" for level in levels])
        edge = 0.6 * step
        axes.set(xlim=(levels[0] - edge, levels[-1] + edge), ylim=(levels[0] - edge, levels[-1] + edge))
        axes.set(xlabel="gold, nearest level", ylabel="answered", title=f"{who}, {len(gold):,} texts")
        axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=150, format="png")


def draw_levels(path: Path, levels: Sequence[float], pairs: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """How often each level is given, by people and by those who answered the same texts."""
    figure = _figure((4.4 * len(pairs) + 0.4, 3.4))
    middle = (np.array(levels[1:]) + np.array(levels[:-1])) / 2
    places = np.arange(len(levels))
    for axes, color, (who, sides) in zip(
        np.atleast_1d(figure.subplots(1, len(pairs), sharey=True)), (BLUE, ORANGE), pairs.items(), strict=False
    ):
        for shift, shade, hatch, name, values in zip(
            (-0.2, 0.2), ("0.6", color), ("//", ""), ("gold", who.lower()), sides, strict=True
        ):
            counts = np.bincount(np.searchsorted(middle, np.array(values)), minlength=len(levels))
            axes.bar(
                places + shift, counts / counts.sum(), 0.4, color=shade, hatch=hatch, edgecolor="white", label=name
            )
        axes.set_xticks(places, [f"{level:g}" for level in levels])
        axes.set(xlabel="nearest level", ylabel="share of the texts", title=f"{who}, {len(sides[0]):,} texts")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")


def _figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure  # half a second, which a report that draws nothing anew does not pay

    return Figure(figsize=size, layout="constrained")


def label_turn(names: Sequence[str], width: float) -> int:
    """Degrees by which names under a matrix `width` inches wide are turned, so that none lies over the next."""
    if max(map(len, names)) * 0.08 <= (width - 1.1) / len(names):  # inches of a letter, and of a cell
        return 0
    return 45 if len(names) <= 10 else 90
