"""Figures of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

_BLUE, _ORANGE, _YELLOW = "#0072b2", "#d55e00", "#e69f00"  # tell apart with every kind of colour vision


def draw_training(path: str | Path, history: Sequence[dict]) -> None:
    """Loss by step and, where it was measured on the way, accuracy, from `trainer.state.log_history`."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    loss = [(row["step"], row["loss"]) for row in history if "loss" in row]
    if loss:
        axes.plot(*zip(*loss, strict=True), color=_BLUE, label="training loss")
    axes.set(xlabel="step", ylabel="training loss", title="Training of the student")
    if all(value >= 0 for _, value in loss):  # that of elr falls below 0
        axes.set_ylim(bottom=0)
    measured = {
        "eval_accuracy": ("evaluation data", _ORANGE),
        "eval_gold_accuracy": ("gold kept back", _ORANGE),
        "eval_silver_accuracy": ("silver kept back", _YELLOW),
    }
    right = None
    for key, (name, colour) in measured.items():
        points = [(row["step"], row[key]) for row in history if key in row]
        if points:
            right = right or axes.twinx()
            right.plot(*zip(*points, strict=True), "o-", color=colour, label=f"accuracy on {name}")
            right.set(ylabel="accuracy", ylim=(0, 1))
    if loss or right:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def draw_mix(path: str | Path, history: Sequence[dict]) -> None:
    """How many rows of each source were drawn by each step, and the learning rate, from `trainer.state.log_history`."""
    points = [row for row in history if "silver_seen" in row and "learning_rate" in row]
    steps = [0] + [row["step"] for row in points]
    figure = Figure(figsize=(6, 4), layout="constrained")
    drawn, rate = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    for key, name, colour in (("silver_seen", "silver", _BLUE), ("gold_seen", "gold", _YELLOW)):
        drawn.plot(steps, [0] + [row[key] for row in points], color=colour, label=name)
    drawn.set(ylabel="rows drawn so far", ylim=(0, None), title="What was drawn when")
    drawn.legend(frameon=False)
    rate.plot(steps[1:], [row["learning_rate"] for row in points], color=_ORANGE)
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    figure.savefig(path, dpi=150)
