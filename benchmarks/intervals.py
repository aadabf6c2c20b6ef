"""
How often 95 % intervals contain the truth, over simulated draws: accuracy, prevalence, what more labels are worth, and how far a
column foretells labels.

    python benchmarks/intervals.py [--draws 1000] [--only foretold]
"""

import argparse

import numpy as np

from hf_llambert import Choice, class_prevalence, foretold_by, worth_of_labels
from hf_llambert.intervals import wilson_interval

SIZES = [50, 50, 50, 100, 100, 100, 200, 200, 400]
POOL = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=("foretold",))
    given = parser.parse_args()
    draws = given.draws
    print("| figure | setting | contained | median width |\n|---|---|---|---|")
    for n, values, apart in ((100, 3, 0.2), (200, 2, 0.0), (200, 5, 0.0), (200, 5, 0.35), (1000, 10, 0.2)):
        truth, setting = area(values, apart), f"{n:,} rows, {values} values, truth {area(values, apart):.2f}"
        show("foretold", setting, truth, draws, lambda r, n=n, v=values, a=apart: foretold(r, n, v, a)[:2])
        show(
            "foretold, less gold",
            setting,
            truth - 0.5,
            draws,
            lambda r, n=n, v=values, a=apart: foretold(r, n, v, a)[2:],
        )
    if given.only:
        return
    for n, truth in ((100, 0.85), (400, 0.87), (1000, 0.81), (1000, 0.97)):
        show(
            "accuracy", f"{n:,} gold rows, truth {truth:.0%}", truth, draws, lambda r, n=n, p=truth: accuracy(r, n, p)
        )
    for n in (50, 200, 1000):
        for share, right in ((0.5, 0.85), (0.5, 0.97), (0.2, 0.85), (0.05, 0.85)):
            setting = f"{n:,} gold rows, class of {share:.0%}, student right on {right:.0%}"
            show("prevalence", setting, share, draws, lambda r, n=n, s=share, a=right: prevalence(r, n, s, a))
    for exponent, slope in ((0.3, 0.8), (0.5, 1.5), (0.8, 4.0)):
        for texts, chance in ((500, 0.01), (1000, 0.005), (5000, 0.01)):
            gain = slope * (400.0**-exponent - 600.0**-exponent)
            setting = f"errors fall as n^-{exponent}, {texts:,} texts, trainings differ by {100 * chance} points"
            show(
                "worth of 200 more than 400 labels", setting, gain, draws,
                lambda r, c=exponent, b=slope, t=texts, d=chance: worth(r, c, b, t, d),
            )  # fmt: skip


def show(figure, setting, truth, draws, interval) -> None:
    random = np.random.default_rng(0)
    found = np.array([interval(random) for _ in range(draws)])
    contained = np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))
    print(f"| {figure} | {setting} | {contained:.1%} | {np.median(found[:, 1] - found[:, 0]):.3f} |", flush=True)


def accuracy(random, n, truth):
    return wilson_interval(int(random.binomial(n, truth)), n)


def prevalence(random, n, share, right):
    gold = (random.random(n) < share).astype(int)
    student = np.where(random.random(n) < right, gold, 1 - gold)
    given = int(random.binomial(POOL, share * right + (1 - share) * (1 - right)))
    found = class_prevalence(gold, student, [POOL - given, given], ("other", "it"))["it"]
    return found["low"], found["high"]


def rates(values, apart):
    """How often the label holds for each value."""
    return 0.5 + apart * np.linspace(-1, 1, values)


def area(values, apart):
    """The AUC of who knows them."""
    holds = rates(values, apart)
    below = np.cumsum(1 - holds) - (1 - holds)
    return float((holds * (below + 0.5 * (1 - holds))).sum() / (holds.sum() * (1 - holds).sum()))


def foretold(random, n, values, apart):
    """A teacher whose labels hang together with a column, and people's that do not."""
    column = random.integers(values, size=n)
    teacher, gold = (random.random(n) < rates(values, apart)[column]).astype(int), random.integers(2, size=n)
    labels = {"teacher": teacher.tolist(), "gold": gold.tolist()}
    found = foretold_by(column.tolist(), labels, Choice("label", ("a", "b")), seed=int(random.integers(1 << 30)))
    teacher, less = found["foretold"]["teacher"], found["less_gold"]["teacher"]
    return teacher["low"], teacher["high"], less["low"], less["high"]


def worth(random, exponent, slope, texts, chance):
    """Students on the same texts: what is hard for one is mostly hard for the others."""
    hard = random.random(texts)
    measured = []
    for n in SIZES:
        truth = 0.9 - slope * n**-exponent + random.normal(0, chance)
        own = np.where(random.random(texts) < 0.7, hard, random.random(texts))
        measured.append((own < truth).mean())
    found = worth_of_labels(SIZES, measured, 200)
    return found["low"], found["high"]


if __name__ == "__main__":
    main()
