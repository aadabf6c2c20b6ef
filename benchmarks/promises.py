"""
How often promises of a cascade are broken, over simulated draws: against gold and against the teacher, of all labels, of the
recall and of the precision of one.

    OMP_NUM_THREADS=1 python benchmarks/promises.py               # two minutes
    OMP_NUM_THREADS=1 python benchmarks/promises.py --tries 10    # what asking again until it is granted does, a minute

Needs no assets. A world of 200,000 rows has three labels, of which the last is rare; a student that is right more often where it
is surer; and a teacher that is right with a fixed chance and now and then gives no label. Each draw takes rows of it at random
(with repetition) and certifies a threshold as `calibrate_cascade` does; what is then true of the whole world is counted. The
target lies 0.05 points above what is true at one threshold, where promising too much is easiest. With 95 % confidence 50 of 1,000
promises may be broken, in expectation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hf_llambert.pool.promise import Guarantee, Promise
from hf_llambert.pool.thresholds import certified_labels

ROWS, SHARES = 200_000, (0.6, 0.3, 0.1)
LEVELS = np.array([0.55, 0.65, 0.75, 0.85, 0.95, 0.995], dtype=np.float32)
RIGHT = np.array([0.52, 0.60, 0.72, 0.84, 0.93, 0.99])
LABELS = ("common", "less", "rare")


@dataclass(frozen=True)
class World:
    """A pool of which everything is known: the share that the teacher gets right, and that it gives no label."""

    teacher: float
    silent: float = 0.02

    @cached_property
    def columns(self) -> tuple[NDArray[np.float32], NDArray, NDArray, NDArray]:
        """Confidence and label of the student, label of the teacher, gold."""
        random = np.random.default_rng(7)
        gold = random.choice(len(SHARES), ROWS, p=SHARES)
        level = random.integers(len(LEVELS), size=ROWS)
        student, teacher = (self._said(gold, right, random) for right in (RIGHT[level], self.teacher))
        return LEVELS[level], student, np.where(random.random(ROWS) < self.silent, -1, teacher), gold

    @staticmethod
    def _said(gold: NDArray, right: NDArray | float, random: np.random.Generator) -> NDArray:
        wrong = (gold + random.integers(1, len(SHARES), ROWS)) % len(SHARES)
        return np.where(random.random(ROWS) < right, gold, wrong)

    def truth(self, promise: Promise, threshold: float) -> float:
        """The share that is promised, in the whole world."""
        sure, student, teacher, gold = self.columns
        decided = np.where((sure < np.float32(threshold)) & (teacher >= 0), teacher, student)
        right = gold if promise.against == "gold" else teacher
        counted = right >= 0
        if promise.of:
            counted &= (right if promise.measure == "recall" else decided) == LABELS.index(promise.label)
        return float((decided == right)[counted].mean())

    def draws(self, promise: Promise, rows: int, number: int) -> Iterator[Guarantee | None]:
        """What each of so many draws of rows certifies; `None` where nothing can be."""
        random = np.random.default_rng(11)
        label = LABELS.index(promise.label) if promise.of else None
        for _ in range(number):
            mine = random.integers(ROWS, size=rows)
            sure, student, teacher, gold = (column[mine] for column in self.columns)
            truth = gold if promise.against == "gold" else teacher
            found = certified_labels(sure, student, teacher, truth, promise, label)
            yield None if isinstance(found, str) else found


def simulated(world: World, against: str, of: str, place: float, rows: int, number: int) -> dict[str, float]:
    """
    How many of so many promises are broken where the target is just above what is true at a threshold.

    Returns:
        `dict`: `target`, `promised` and `broken` draws, `asked` (the mean share below the threshold that was found) and
            `needed` (the share below the least of the grid that keeps the promise in truth).
    """
    target = world.truth(Promise(0.5, 0.95, against, of), place) + 0.0005
    promise = Promise(target, 0.95, against, of)
    found = [one for one in world.draws(promise, rows, number) if one is not None]
    true = {threshold: world.truth(promise, threshold) for threshold in {one.threshold for one in found}}
    asked = [float((world.columns[0] < np.float32(one.threshold)).mean()) for one in found]
    keeping = [at for at in (1.0, *LEVELS.tolist(), 0.0) if world.truth(promise, at) >= target]
    return {
        "target": target,
        "promised": len(found),
        "broken": sum(true[one.threshold] < target for one in found),
        "asked": float(np.mean(asked)) if asked else float("nan"),
        "needed": min((float((world.columns[0] < np.float32(at)).mean()) for at in keeping), default=float("nan")),
    }


def retried(world: World, rows: int, tries: int, number: int) -> list[float]:
    """
    The share of draws in which an accuracy that no threshold keeps was promised, after one try, two and so on: each with as many
    gold rows more as the first had.
    """
    target = max(world.truth(Promise(0.5, 0.95), at) for at in (1.0, *LEVELS.tolist(), 0.0)) + 0.0005
    random, first = np.random.default_rng(13), np.zeros(tries)
    for _ in range(number):
        mine = random.integers(ROWS, size=rows * tries)
        sure, student, teacher, gold = (column[mine] for column in world.columns)
        for place in range(tries):
            now = slice(rows * (place + 1))
            found = certified_labels(sure[now], student[now], teacher[now], gold[now], Promise(target, 0.95))
            if not isinstance(found, str):
                first[place] += 1
                break
    return (np.cumsum(first) / number).tolist()


PLACES = (0.6, 0.7, 0.8, 0.9)
SETTINGS = [
    ("gold", "", 400), ("teacher", "", 400), ("teacher", "", 2000),
    ("gold", "recall:rare", 2000), ("gold", "precision:rare", 2000),
    ("teacher", "recall:rare", 2000), ("teacher", "precision:rare", 2000),
    ("gold", "recall:common", 400), ("gold", "precision:common", 400),
]  # fmt: skip
TEACHERS = (0.97, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument(
        "--tries", type=int, default=0, help="Ask so often, each time with more gold, until it is promised."
    )
    arguments = parser.parse_args()
    if arguments.tries:
        for chance in TEACHERS:
            for rows in (100, 400):
                broken = retried(World(chance), rows, arguments.tries, arguments.draws)
                print(
                    f"teacher right {chance:.0%}, {rows} rows a try: {', '.join(f'{one:.1%}' for one in broken)}",
                    flush=True,
                )
        return
    print("| against | of | rows | teacher right | target | promised | asked | least | broken |")
    print("|---|---|---|---|---|---|---|---|---|")
    most = 0
    for against, of, rows in SETTINGS:
        for chance in TEACHERS:
            world = World(chance)
            for place in PLACES:
                one = simulated(world, against, of, place, rows, arguments.draws)
                most = max(most, int(one["broken"]))
                print(
                    f"| {against} | {of or 'all'} | {rows:,} | {chance:.0%} | {one['target']:.2%} | {one['promised']:,} | "
                    f"{one['asked']:.1%} | {one['needed']:.1%} | {one['broken']} |",
                    flush=True,
                )
    print(f"\nAt most {most} of {arguments.draws:,} were broken.")


if __name__ == "__main__":
    main()
