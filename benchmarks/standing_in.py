"""
How often the alternative annotator test lets a teacher pass that is as much worse than people as it forgives, and one that is
as good; what one careless person does to it; how sure its t-test is where few rows differ; and how often the interval of its
agreement beyond chance contains the truth. Over simulated answers.

    python benchmarks/standing_in.py [--draws 1000]
"""

import argparse
from itertools import product

import numpy as np
from scipy.special import stdtr
from scipy.stats import binom

from hf_llambert import Choice, alternative_annotator_test
from hf_llambert.annotation.alpha import krippendorff_alpha
from hf_llambert.review.standing_in import alphas

LABELS = ("a", "b", "c")
QUESTION = Choice("q", LABELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("| people right on | reviewers | rows | epsilon | teacher epsilon worse | half of it | as good |")
    print("|---|---|---|---|---|---|---|")
    for right, people, rows, epsilon in product((0.85, 0.95), (2, 3), (60, 100, 200), (0.1, 0.2)):
        found = []
        for behind in (epsilon, epsilon / 2, 0.0):
            teacher = accuracy_behind(behind, right, people)
            random = np.random.default_rng(0)
            passed = [passes(random, rows, [right] * people, teacher, epsilon) for _ in range(draws)]
            found.append(f"{np.mean(passed):.1%} (right on {teacher:.1%})")
        print(f"| {right:.0%} | {people} | {rows} | {epsilon} | {' | '.join(found)} |", flush=True)
    print("\n| people right on | teacher right on | rows | epsilon 0.1 | epsilon 0.2 |\n|---|---|---|---|---|")
    for people, rows in product(((0.95, 0.7), (0.95, 0.95, 0.7), (0.95, 0.7, 0.7)), (60, 200)):
        found = []
        for epsilon in (0.1, 0.2):
            random = np.random.default_rng(0)
            found.append(np.mean([passes(random, rows, people, 0.7, epsilon) for _ in range(draws)]))
        said = ", ".join(f"{right:.0%}" for right in people)
        print(f"| {said} | 70% | {rows} | {' | '.join(f'{share:.1%}' for share in found)} |", flush=True)
    print("\n| rows | rejects, beside one reviewer, a share of exactly epsilon 0.1 |\n|---|---|")
    for rows in (30, 50, 100, 200):
        print(f"| {rows} | {too_sure(rows, 0.1):.1%} |")
    print("\n| people right on | reviewers | rows | alpha with the teacher: contained | difference: contained |")
    print("|---|---|---|---|---|")
    for right, people, rows in product((0.85, 0.95), (2, 3), (60, 200)):
        inside = contained(right, people, rows, draws)
        print(f"| {right:.0%} | {people} | {rows} | {inside[0]:.1%} | {inside[1]:.1%} |", flush=True)


def passes(random, rows, people, teacher, epsilon) -> bool:
    given = {f"reviewer {k}": answers(random, rows, right) for k, right in enumerate(people)}
    return alternative_annotator_test(answers(random, rows, teacher), given, QUESTION, epsilon)["passes"]


def answers(random, rows, right) -> list[int]:
    """The truth is the row's number; who errs says one of the other labels."""
    wrong = random.integers(1, len(LABELS), rows) * (random.random(rows) >= right)
    return ((np.arange(rows) + wrong) % len(LABELS)).tolist()


def accuracy_behind(behind, right, people) -> float:
    """How often a teacher must be right to have as many rows fewer than each reviewer has, in expectation."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fewer(middle, right, people) > behind else (low, middle)
    return high


def fewer(teacher, right, people) -> float:
    """By how much of the rows a reviewer has more than the teacher, over all that they may say."""
    total = 0.0
    for own, person, *others in product(range(len(LABELS)), repeat=people + 1):
        chance = chance_of(own, teacher) * np.prod([chance_of(one, right) for one in (person, *others)])
        near = others.count(own), others.count(person)
        total += chance * (float(near[1] >= near[0]) - float(near[0] >= near[1]))
    return total


def chance_of(answer, right) -> float:
    return right if answer == 0 else (1 - right) / (len(LABELS) - 1)


def too_sure(rows, epsilon, level=0.05) -> float:
    """
    Exactly how often the t-test rejects where each row is lost with a probability of epsilon and never won, so that it should
    not reject in more than `level`.
    """
    lost = np.arange(rows + 1)
    share = lost / rows
    error = np.sqrt(share * (1 - share) / (rows - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, stdtr(rows - 1, (share - epsilon) / error), share >= epsilon)
    return float(binom.pmf(lost, rows, epsilon)[p <= level].sum())


def contained(right, people, rows, draws) -> tuple[float, float]:
    """How often the intervals contain alphas of 200,000 rows, for a teacher right on 5 points fewer."""
    random = np.random.default_rng(1)
    given = [answers(random, 200_000, right) for _ in range(people)]
    own = answers(random, 200_000, right - 0.05)
    truth = pair_alpha([*given[1:], own])
    beside = truth - pair_alpha(given)
    inside = []
    for _ in range(draws):
        some = {f"reviewer {k}": answers(random, rows, right) for k in range(people)}
        found = alphas(answers(random, rows, right - 0.05), some, QUESTION)
        inside.append(
            (
                found["low"] <= truth <= found["high"],
                found["difference_low"] <= beside <= found["difference_high"],
            )
        )
    return tuple(np.mean(inside, axis=0))


def pair_alpha(given) -> float:
    return krippendorff_alpha(list(zip(*given, strict=True)), len(LABELS))


if __name__ == "__main__":
    main()
