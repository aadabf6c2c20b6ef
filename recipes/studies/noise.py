"""
What wrong labels cost: a share of the gold labels is flipped, and students trained on them are measured on clean gold.

    accelerate launch recipes/studies/noise.py --config recipes/studies/noise.yaml

End to end against a frozen encoder, flips at random against flips of one kind. No teacher is asked. Stopped and started
again, it goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study import (
    BLUE,
    GREY,
    ORANGE,
    RunArguments,
    learn,
    run_recipe,
    seeded,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import StudentConfig, load_task, paired_bootstrap, wait_for_everyone

PUBLISHED_SHARES = [0, 1, 2, 5, 10, 20, 30, 40, 45, 48, 48.5, 48.8, 49, 50]
PUBLISHED = {
    "end to end": [
        96.54, 96.50, 96.47, 96.35, 96.23, 95.90, 95.76, 94.82, 92.99, 75.67, 70.92, 66.86, 65.52, 47.13
    ],
    "frozen encoder": [
        76.27, 77.84, 78.93, 78.27, 78.14, 77.04, 74.29, 68.12, 60.36, 54.72, 54.16, 53.72, 53.57, 51.96
    ],
}  # fmt: skip
"""Accuracy of roberta-large on IMDb's test reviews by the percentage of mislabelled train reviews (arXiv 2403.15938)."""
COLOURS = {"end to end": BLUE, "frozen encoder": ORANGE}


@dataclass(kw_only=True)
class NoiseArguments(RunArguments):
    """What this study takes beside the training arguments."""

    teacher: str = field(default="", metadata={"help": "Not asked."})
    shares: list[float] = field(
        default_factory=lambda: [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5],
        metadata={"help": "Shares of the labels that are flipped."},
    )
    frozen_learning_rate: float = field(
        default=1e-2, metadata={"help": "Peak learning rate where only the head is trained, which needs a higher one."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = sorted({0.0, *self.shares})  # the clean labels are what all others are compared with
        if not 0 <= self.shares[0] <= self.shares[-1] < 1:
            raise ValueError(f"shares must be from 0 to less than 1, got {self.shares}.")


def flipped(labels: NDArray, share: float, flips: str, num_labels: int, seed: int) -> NDArray:
    """
    Labels of which a share is wrong; of a larger share the same and more.

    Args:
        flips (`str`): `random`: any label becomes any other. `one way`: labels become the next one; where there are but two,
            only the first becomes the second, and no more than there are.
    """
    random, wrong = np.random.default_rng(seed), labels.copy()
    rows = np.flatnonzero(labels == 0) if flips == "one way" and num_labels == 2 else np.arange(len(labels))
    rows = random.permutation(rows)[: round(share * len(labels))]
    steps = random.integers(1, num_labels, size=len(labels))[: len(rows)] if flips == "random" else 1
    wrong[rows] = (wrong[rows] + steps) % num_labels
    return wrong


def main(arguments: NoiseArguments, training: StudentConfig) -> list[dict]:
    """Flip, train and measure; write table, figure and page. Returns the table."""
    task = load_task(arguments.task)
    held_out, rest = split_rows(arguments, task)
    rows = rest.filter(lambda label: label >= 0, input_columns="label", load_from_cache_file=False)
    rows = rows.select(range(min(arguments.num_annotated or len(rows), len(rows))))
    seeds = range(training.seed, training.seed + arguments.num_seeds)
    table, clean = [], {}
    for training_of, flips, share in product(COLOURS, ("random", "one way"), arguments.shares):
        noisy = [flipped(np.array(rows["label"][:]), share, flips, task.num_labels, seed) for seed in seeds]
        changes: dict = {}
        if training_of == "frozen encoder":
            changes = {"freeze_encoder": True, "learning_rate": arguments.frozen_learning_rate}
        right = np.array([
            _right(
                task, rows, labels, held_out, arguments, seeded(training, seed, **changes),
                Path(arguments.run) / "students" / training_of.replace(" ", "-")
                / (f"{flips.replace(' ', '-')}-{share:g}" if share else "clean") / str(seed),
            )
            for seed, labels in zip(seeds, noisy, strict=True)
        ])  # fmt: skip
        clean.setdefault(training_of, right)
        accuracy, low, high = paired_bootstrap(right)
        less, less_low, less_high = paired_bootstrap(right, clean[training_of])
        wrong = np.mean([labels != np.array(rows["label"][:]) for labels in noisy])
        table.append(
            {"training": training_of, "flips": flips, "flipped %": float(wrong), "accuracy %": accuracy, "low %": low,
             "high %": high, "less clean %": less, "less clean, low %": less_low, "less clean, high %": less_high}
        )  # fmt: skip
    if PartialState().is_main_process:
        alt = (
            "Accuracy against the share of flipped labels, end to end and with a frozen encoder, here and as published"
        )
        how = [
            f"Student {short_name(arguments.student[0])}, {len(rows):,} texts of up to {arguments.max_length} tokens, "
            f"{training.num_train_epochs:g} epochs, {len(held_out):,} held-out texts with clean gold, {len(seeds)} seeds; "
            f"each seed flips other labels.",
            "Intervals: 95 %, bootstrap over texts and seeds; differences from clean labels are paired.",
            "One way flips no more labels than the first class has; a training set with one label left is not trained on: "
            "its student would give that label to every text.",
        ]
        question = "What do wrong labels cost, and does it matter how they are wrong and what is trained?"
        write_study(arguments.run, "Label noise", question, table, {alt: draw(table)}, _findings(table), how)
    wait_for_everyone()
    return table


def _right(
    task: object, rows: Dataset, labels: NDArray, held_out: Dataset, arguments: NoiseArguments,
    training: StudentConfig, folder: Path,
) -> NDArray:  # fmt: skip
    """Whether each held-out text is labelled right by a student of these labels."""
    if len(set(labels.tolist())) == 1:
        gold = np.array(held_out["label"][:])
        return gold[gold >= 0] == labels[0]
    noisy = rows.remove_columns("label").add_column("label", labels.tolist(), feature=rows.features["label"])
    return learn(task, arguments.student[0], folder, training, arguments, eval_data=held_out, gold=noisy)


def _findings(table: list[dict]) -> list[str]:
    """The largest share that costs nothing to be told from chance, and one way against random at the same share."""
    out = []
    for training_of, flips in product(COLOURS, ("random", "one way")):
        mine = [row for row in table if (row["training"], row["flips"]) == (training_of, flips)]
        worse = next((row for row in mine if row["less clean, high %"] < 0), None)
        start = f"{training_of}, flips {flips}: {mine[0]['accuracy %']:.1%} with clean labels; "
        if worse is None:
            out.append(f"{start}no share up to {mine[-1]['flipped %']:.0%} costs accuracy beyond chance.")
        else:
            out.append(
                f"{start}the first share whose cost is beyond chance is {worse['flipped %']:.0%}: "
                f"{100 * worse['less clean %']:+.1f} points ({100 * worse['less clean, low %']:+.1f} to "
                f"{100 * worse['less clean, high %']:+.1f})."
            )
        last = mine[-1]
        out.append(
            f"{training_of}, flips {flips}, {last['flipped %']:.0%}: {last['accuracy %']:.1%} ({last['low %']:.1%} to "
            f"{last['high %']:.1%})."
        )
    return out


def draw(table: list[dict]) -> Figure:
    """What was measured on the left, the paper's curves in grey on the right."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    ours, paper = figure.subplots(1, 2, sharex=True, sharey=True)
    for (training_of, colour), (flips, line) in product(COLOURS.items(), (("random", "-"), ("one way", "--"))):
        mine = [row for row in table if (row["training"], row["flips"]) == (training_of, flips)]
        x = [100 * row["flipped %"] for row in mine]
        y = [100 * row["accuracy %"] for row in mine]
        ours.plot(x, y, line + "o", color=colour, label=f"{training_of}, {flips}")
        ours.vlines(x, *([100 * row[end] for row in mine] for end in ("low %", "high %")), color=colour, alpha=0.6)
    for (name, values), line in zip(PUBLISHED.items(), ("-", ":"), strict=True):
        paper.plot(PUBLISHED_SHARES, values, line + "o", color=GREY, label=name)
    ours.set(title="here", xlabel="flipped labels, percent", ylabel="accuracy on clean held-out gold, percent")
    paper.set(title="published: roberta-large, 25,000 reviews, random", xlabel="flipped labels, percent")
    for axes in (ours, paper):
        axes.legend(frameon=False, fontsize="small", loc="lower left")
    return figure


if __name__ == "__main__":
    run_recipe(NoiseArguments, main)
