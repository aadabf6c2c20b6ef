"""The figures that stand for all others, by the kind of a question; see [`METRICS`]. Nothing heavy is imported here."""

from __future__ import annotations

MAIN = {"choice": "accuracy", "choices": "micro_f1", "scale": "spearman"}
"""The figure that a report names first and that training goes by; more is better. It may be None."""

RIGHT = {"choice": "accuracy", "choices": "subset_accuracy", "scale": "within_half_step"}
"""The share of right answers, as [`Question.right`] has it, which has a 95 % Wilson interval."""

NAMES = {"accuracy": "accuracy", "micro_f1": "micro-F1", "spearman": "Spearman"}
"""What the figures of [`MAIN`] are called."""


def shown(name: str, value: float | None) -> str:
    """A figure of [`MAIN`] as it is shown: a share in percent, others as they are."""
    if value is None:
        return "no value"
    return f"{value:.1%}" if name == "accuracy" else f"{value:.3f}"
