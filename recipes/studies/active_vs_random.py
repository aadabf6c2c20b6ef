"""
Does it pay to let the student choose what the teacher is asked about: active learning against random texts.

    accelerate launch recipes/studies/active_vs_random.py --config recipes/studies/active_vs_random.yaml --recorded labels.csv

Each strategy runs recipes/active.py with the same budget, seeds and candidates, all with one ledger. Stopped and started
again, it goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study import BLUE, GREEN, GREY, ORANGE, run_recipe, seeded, short_name, write_study

from active import ActiveArguments
from active import main as run_active
from hf_llambert import StudentConfig, paired_bootstrap, read_evaluation, wait_for_everyone

COLOURS = {"random": GREY, "margin": BLUE, "entropy": ORANGE, "diverse": GREEN}


@dataclass(kw_only=True)
class StudyArguments(ActiveArguments):
    """What this study takes: all of recipes/active.py, and more than one strategy and seed."""

    strategy: str = field(default="random", metadata={"help": "What the others are compared with."})
    strategies: list[str] = field(
        default_factory=lambda: ["margin", "entropy", "diverse"], metadata={"help": "The others."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.strategies = [name for name in dict.fromkeys(self.strategies) if name != self.strategy]
        unknown = sorted({self.strategy, *self.strategies} - set(COLOURS))
        if unknown or not self.strategies:
            raise ValueError(f"strategies are some of {', '.join(COLOURS)}, not only {self.strategy}; got {unknown}.")
        if self.budget - self.num_dev <= self.round_size:
            raise ValueError(
                f"Expected two rounds or more, got budget {self.budget}, num_dev {self.num_dev}, round_size {self.round_size}."
            )
        if not self.num_held_out:
            raise ValueError("Strategies are compared on gold: pass label_column, and num_held_out above 0.")


def right_of(
    strategy: str, seed: int, arguments: StudyArguments, training: StudentConfig
) -> tuple[list[int], NDArray]:
    """Run a strategy, or find it done: labels asked for by round, and whether each held-out text was labelled right."""
    run = Path(arguments.run) / strategy / str(seed)
    settings = {one.name: getattr(arguments, one.name) for one in dataclasses.fields(ActiveArguments)}
    settings |= {"strategy": strategy, "run": str(run), "num_seeds": 1, "patience": arguments.budget}
    settings["baseline"] = False  # the rounds are compared
    settings["ledger"] = arguments.ledger or str(Path(arguments.run) / "ledger")
    args = seeded(training, seed, output_dir=str(run / "checkpoints"))
    asked = [point["annotated"] for point in run_active(ActiveArguments(**settings), args)["curve"]]
    rounds = sorted(run.glob("round-*/held_out"), key=lambda path: int(path.parent.name.split("-")[1]))
    found = [read_evaluation(folder) for folder in rounds]
    return asked, np.array([np.array(one["student_label"][:]) == np.array(one["gold"][:]) for one in found])


def main(arguments: StudyArguments, training: StudentConfig) -> list[dict]:
    """Run all strategies with all seeds; write table, figure and page. Returns the table."""
    seeds = range(training.seed, training.seed + arguments.num_seeds)
    names = (arguments.strategy, *arguments.strategies)
    runs = {name: [right_of(name, seed, arguments, training) for seed in seeds] for name in names}
    # A round whose answers have one label only trains no student.
    shared = sorted(set.intersection(*(set(asked) for one in runs.values() for asked, _ in one)))
    right = {
        name: np.array([[measured[asked.index(n)] for n in shared] for asked, measured in one])
        for name, one in runs.items()
    }
    table = []
    for strategy, one in right.items():
        for k, labels in enumerate(shared):
            accuracy, low, high = paired_bootstrap(one[:, k])
            less, less_low, less_high = paired_bootstrap(one[:, k], right[arguments.strategy][:, k])
            table.append(
                {"strategy": strategy, "asked": labels, "silver": labels - arguments.num_dev, "accuracy %": accuracy,
                 "low %": low, "high %": high, "difference %": less, "difference, low %": less_low,
                 "difference, high %": less_high}
            )  # fmt: skip
    if PartialState().is_main_process:
        findings = [_sentence(name, arguments.strategy, shared, right) for name in arguments.strategies]
        how = [
            f"Student {short_name(arguments.student[0])}, trained anew in each round on all answers so far; texts of up to "
            f"{arguments.max_length} tokens, {arguments.num_held_out:,} held-out texts, {arguments.num_seeds} seeds.",
            f"Teacher {arguments.teacher}. The first round is random for all; then each chooses {arguments.round_size:,} texts "
            f"of {arguments.num_pool:,}. {arguments.num_dev:,} of the texts asked about were not learnt from.",
            f"Differences are from {arguments.strategy}, paired by seed and text. Intervals: 95 %, bootstrap over texts and "
            f"seeds.",
        ]
        alt = "Accuracy against the number of labels for each strategy, and its difference from random with intervals"
        question = (
            f"Is a student better when it chooses its texts, at the same budget, than with {arguments.strategy}?"
        )
        figures = {alt: draw(table, arguments.strategy)}
        write_study(arguments.run, "Active learning", question, table, figures, findings, how)
    wait_for_everyone()
    return table


def _sentence(name: str, other: str, asked: list[int], right: dict[str, NDArray]) -> str:
    def shown(first: NDArray, second: NDArray) -> str:
        less, low, high = paired_bootstrap(first, second)
        told = "" if low > 0 or high < 0 else ", not to be told from chance"
        return f"{100 * less:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}{told})"

    later = slice(min(1, len(asked) - 1), None)
    return (
        f"{name} less {other}: {shown(right[name][:, -1], right[other][:, -1])} at {asked[-1]:,} texts asked about; "
        f"{shown(right[name][:, later].mean(1), right[other][:, later].mean(1))} on average of the rounds after the first."
    )


def draw(table: list[dict], other: str) -> Figure:
    """Learning curves on the left, differences with their intervals on the right."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    curves, differences = figure.subplots(1, 2)
    names = list(dict.fromkeys(row["strategy"] for row in table))
    step = 0.03 * (table[-1]["asked"] - table[0]["asked"])
    for k, name in enumerate(names):
        mine = [row for row in table if row["strategy"] == name]
        x = np.array([row["asked"] for row in mine])
        curves.plot(x, [100 * row["accuracy %"] for row in mine], "-o", color=COLOURS[name], label=name)
        if name != other:
            low, high = ([100 * row[f"difference, {end} %"] for row in mine] for end in ("low", "high"))
            beside = x + (k - 2) * step
            differences.plot(beside, [100 * row["difference %"] for row in mine], "o", color=COLOURS[name])
            differences.vlines(beside, low, high, color=COLOURS[name])
    differences.axhline(0, color=GREY, linewidth=1)
    curves.set(xlabel="texts asked about", ylabel="accuracy on held-out gold, percent")
    differences.set(xlabel="texts asked about", ylabel=f"less {other}, points")
    for axes in (curves, differences):
        axes.set_xticks(sorted({row["asked"] for row in table}))
    curves.legend(frameon=False)
    return figure


if __name__ == "__main__":
    run_recipe(StudyArguments, main)
