"""
How much of a budget should go to people: gold and silver labels in several shares, for as many labels and for as much money.

    accelerate launch recipes/studies/gold_ratio.py --config recipes/studies/gold_ratio.yaml --recorded labels.csv

Stopped and started again, it goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study import (
    BLUE,
    ORANGE,
    RunArguments,
    annotated,
    learn,
    run_recipe,
    seeded,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import StudentConfig, TaskSpec, load_task, paired_bootstrap, wait_for_everyone

MIXES = ("concat", "silver_then_gold")
RESAMPLES = 1000


@dataclass(kw_only=True)
class RatioArguments(RunArguments):
    """What this study takes beside the training arguments."""

    shares: list[float] = field(
        default_factory=lambda: [0, 0.25, 0.5, 0.75, 1],
        metadata={"help": "Shares of gold: of the labels in the first comparison, of the money in the second."},
    )
    budget: int = field(default=400, metadata={"help": "Labels in all, in the first comparison."})
    money: float | None = field(
        default=None, metadata={"help": "Money in all, in the second. Default: the price of half the budget as gold."}
    )
    gold_price: float = field(default=0.1, metadata={"help": "Price of a label by people."})
    silver_price: float = field(default=0.02, metadata={"help": "Price of a label by the teacher."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = sorted(set(self.shares))
        if len(self.shares) < 2 or not 0 <= self.shares[0] <= self.shares[-1] <= 1:
            raise ValueError(f"shares must be two or more different numbers from 0 to 1, got {self.shares}.")
        if min(self.gold_price, self.silver_price) <= 0 or self.budget < 2:
            raise ValueError(
                f"budget must be 2 labels or more and prices above 0, got {self.budget}, gold_price {self.gold_price} and "
                f"silver_price {self.silver_price}."
            )
        if self.money is None:
            self.money = self.budget * self.gold_price / 2

    def splits(self) -> list[tuple[str, float, int, int]]:
        """Comparison, share of gold, number of gold labels and of silver labels."""
        out = []
        for share in self.shares:
            gold = round(share * self.budget)
            out.append(("labels", share, gold, self.budget - gold))
        for share in self.shares:
            spent = (share * self.money / self.gold_price, (1 - share) * self.money / self.silver_price)
            out.append(("money", share, *(int(number + 1e-6) for number in spent)))
        return out


def main(arguments: RatioArguments, training: StudentConfig) -> list[dict]:
    """Annotate, train each split and measure; write table, figure and page. Returns the table."""
    task = load_task(arguments.task)
    held_out, rest = split_rows(arguments, task)
    splits = arguments.splits()
    needed = max(gold + silver for *_, gold, silver in splits)
    wanted = min(arguments.num_annotated or needed + needed // 20, len(rest))
    rows, selection, results = annotated(arguments, task, rest.select(range(wanted)))
    rows = rows.filter(lambda label: label >= 0, input_columns="gold_label", load_from_cache_file=False)
    if len(rows) < needed:
        raise ValueError(
            f"The splits need {needed:,} texts with gold and a usable answer, and of {wanted:,} there are {len(rows):,}. Lower "
            f"budget or money; or raise num_annotated, with another run and the ledger of this one."
        )
    table, right = [], []
    for comparison, share, gold, silver in splits:
        for mix in MIXES if gold and silver else (None,):
            right.append(_right(task, rows, gold, silver, mix, held_out, arguments, training))
            accuracy, low, high = paired_bootstrap(right[-1])
            table.append(
                {"same": comparison, "gold share %": share, "gold": gold, "silver": silver, "mix": mix,
                 "cost": round(gold * arguments.gold_price + silver * arguments.silver_price, 6),
                 "accuracy %": accuracy, "low %": low, "high %": high}
            )  # fmt: skip
    findings = []
    for comparison in ("labels", "money"):
        mine = [k for k, row in enumerate(table) if row["same"] == comparison]
        findings += compare([table[k] for k in mine], np.array([right[k] for k in mine]))
    if PartialState().is_main_process:
        how = [
            f"Student {short_name(arguments.student[0])}, texts of up to {arguments.max_length} tokens, "
            f"{training.num_train_epochs:g} epochs, {len(held_out):,} held-out texts, {arguments.num_seeds} seeds; each seed "
            f"draws other texts.",
            f"Teacher {arguments.teacher}: {results['quality']['accuracy']:.1%} of {len(rows):,} labels agree with gold.",
            f"A gold label costs {arguments.gold_price:g}, a silver one {arguments.silver_price:g}.",
            "Intervals: 95 %, bootstrap over texts and seeds, differences paired. The best was chosen after looking, so its "
            "distances from the others are a little too large.",
        ]
        alt = "Accuracy against the share of gold, for as many labels on the left and for as much money on the right"
        question = "Which share of the labels, or of the money, should be gold?"
        write_study(arguments.run, "Gold against silver", question, table, {alt: draw(table)}, findings, how)
    wait_for_everyone()
    return table


def _right(
    task: TaskSpec, rows: Dataset, gold: int, silver: int, mix: str | None, held_out: Dataset,
    arguments: RatioArguments, training: StudentConfig,
) -> NDArray:  # fmt: skip
    """Whether each held-out text was labelled right, by seed. A text has one label: gold or silver."""
    right = []
    for seed in range(training.seed, training.seed + arguments.num_seeds):
        mine, sources = rows.shuffle(seed=seed), {}
        if gold:
            people = mine.select(range(gold)).remove_columns("label")
            sources["gold"] = people.rename_column("gold_label", "label")
        if silver:
            sources["silver"] = mine.select(range(gold, gold + silver))
        folder = Path(arguments.run) / "students" / f"gold-{gold}-silver-{silver}" / (mix or "alone") / str(seed)
        args = seeded(training, seed, **({} if mix is None else {"mix": mix}))
        right.append(learn(task, arguments.student[0], folder, args, arguments, eval_data=held_out, **sources))
    return np.array(right)


def compare(rows: list[dict], right: NDArray) -> list[str]:
    """
    Which of these is the best, and from which it can be told. Adds to each row how often it was the best in bootstrap
    samples and how far it is from the best.

    Args:
        rows (`list[dict]`): Rows of the table.
        right (`NDArray` of shape (rows, seeds, texts)): Whether each text was labelled right.
    """
    best = int(np.argmax(right.mean((1, 2))))
    won = _wins(right)
    close = []
    for k, row in enumerate(rows):
        less, low, high = paired_bootstrap(right[k], right[best])
        row |= {"best in %": won[k], "less best %": less, "less best, low %": low, "less best, high %": high}
        if k != best and high >= 0:
            close.append(_named(row))
    top, same = rows[best], f"For the same {rows[0]['same']}"
    told = f"not to be told from chance: {'; '.join(close)}" if close else "all others are worse beyond chance"
    out = [
        f"{same}, the best of {len(rows)} was {_named(top)}: {top['accuracy %']:.1%} ({top['low %']:.1%} to "
        f"{top['high %']:.1%}), the best in {won[best]:.0%} of bootstrap samples; {told}."
    ]
    ends = {name: k for k, row in enumerate(rows) for name in ("gold", "silver") if not row[_OTHER[name]]}
    if len(ends) == 2:
        out.append(f"{same}, gold alone less silver alone: {_points(right[ends['gold']], right[ends['silver']])}.")
    concat, then = (right[[row["mix"] == mix for row in rows]] for mix in MIXES)
    if len(concat):
        out.append(f"{same}, over all shares, silver then gold less concat: {_points(then.mean(0), concat.mean(0))}.")
    return out


_OTHER = {"gold": "silver", "silver": "gold"}


def _wins(right: NDArray) -> NDArray:
    """In which share of bootstrap samples of seeds and texts each is the best; equals share it."""
    random, (count, seeds, texts) = np.random.default_rng(0), right.shape
    won = np.zeros(count)
    for _ in range(RESAMPLES):
        mean = right[:, random.integers(seeds, size=seeds)].mean(1)[:, random.integers(texts, size=texts)].mean(1)
        top = np.isclose(mean, mean.max())
        won += top / top.sum()
    return won / RESAMPLES


def _named(row: dict) -> str:
    return f"{row['gold']:,} gold and {row['silver']:,} silver" + (f", {row['mix']}" if row["mix"] else "")


def _points(first: NDArray, second: NDArray) -> str:
    less, low, high = paired_bootstrap(first, second)
    return f"{100 * less:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def draw(table: list[dict]) -> Figure:
    """One panel for each comparison, one line for each mix."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, comparison in zip(panels, ("labels", "money"), strict=True):
        for shift, (mix, colour) in enumerate(zip(MIXES, (BLUE, ORANGE), strict=True)):
            mine = [row for row in table if row["same"] == comparison and row["mix"] in (mix, None)]
            x = [100 * row["gold share %"] + shift for row in mine]  # beside each other, not on top
            axes.plot(x, [100 * row["accuracy %"] for row in mine], "-o", color=colour, label=mix.replace("_", " "))
            axes.vlines(x, *([100 * row[end] for row in mine] for end in ("low %", "high %")), color=colour, alpha=0.6)
        axes.set(title=f"for the same {comparison}", xlabel=f"share of gold of the {comparison}, percent")
    panels[0].set_ylabel("accuracy on held-out gold, percent")
    panels[0].legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    run_recipe(RatioArguments, main)
