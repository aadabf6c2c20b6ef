"""Which rows people should read: some drawn at random, the others because their label is doubtful."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONTROL, TEST, OTHER = "random", "for_test", "other"
RANDOM = (CONTROL, TEST)
"""Reasons of rows that were drawn at random. Only these measure, and nobody is shown what machines say of them."""
REASONS = {
    CONTROL: "drawn at random, to measure by",
    TEST: "drawn at random, for the test whether the teacher may stand in for people",
    "disagree": "teacher and student disagree",
    "suspect": "suspected label error",
    "unsure": "the teacher was unsure",
    "abstained": "the teacher gave no label",
    OTHER: "another question of the row was doubtful",
}
"""Why a row is in a queue, and how it is said to a person. `OTHER` is how a question sees rows chosen for another."""


@dataclass(frozen=True)
class Drawn:
    """
    How the rows of a queue came into it, as far as a design-based analysis needs it ([`sampling_table`]).

    Args:
        num_rows (`int`): The rows that could be drawn: those with a usable text, each text once.
        certain (`tuple[int, ...]`): Numbers of the rows of the queue that would be there whatever had been drawn at random: those
            chosen because their label is doubtful, and those drawn at random that would have been chosen so. The others of the
            queue are a simple random sample of all other rows.
    """

    num_rows: int
    certain: tuple[int, ...]


def choose_rows(
    rows: Sequence[int],
    reasons: Mapping[tuple[str, str], list[int]],
    num: int,
    num_control: int,
    draw: random.Random,
    for_test: int = 0,
) -> tuple[dict[int, tuple[str, str]], tuple[int, ...]]:
    """
    Which rows are to be read, with reason and question, and which of them were certain to be; see [`Drawn`].

    Args:
        rows (`Sequence[int]`): Those that can be drawn.
        reasons (`Mapping[tuple[str, str], list[int]]`): Rows that are doubtful by reason and question, those that matter first.
        num (`int`): How many to choose, at most.
        num_control (`int`): How many of them at random, first.
        draw (`random.Random`): Draws.
        for_test (`int`, defaults to 0): How many more at random, for the test whether the teacher may stand in for people.
    """
    control = sorted(draw.sample(sorted(rows), min(num_control, len(rows))))
    chosen = dict.fromkeys(control, (CONTROL, ""))
    if for_test:
        left = [row for row in sorted(rows) if row not in chosen]
        chosen |= dict.fromkeys(draw.sample(left, min(for_test, len(left))), (TEST, ""))
    certain = _fill(chosen, reasons, min(num, len(rows)))
    return chosen, certain


def _fill(
    chosen: dict[int, tuple[str, str]], reasons: Mapping[tuple[str, str], list[int]], num: int
) -> tuple[int, ...]:
    """
    Take from each reason in turn, until `num` are chosen or none is left. Returns the rows that were looked at, all of which are
    chosen now, whether they were before or not. Of the others nothing was looked at, so those of them that were chosen before,
    at random, are a random sample of all that were not looked at.
    """
    left = {reason: iter(rows) for reason, rows in reasons.items()}
    seen = set()
    while left and len(chosen) < num:
        for reason in list(left):
            if len(chosen) >= num:
                break
            for row in left[reason]:
                seen.add(row)
                if row not in chosen:
                    chosen[row] = reason
                    break
            else:
                del left[reason]
    return tuple(sorted(seen))
