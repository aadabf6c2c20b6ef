"""Whether the teacher may stand in for people, by a review's rows that were drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_llambert.annotation.alpha import weighted_alphas
from hf_llambert.quality.alternative import alternative_annotator_test, lacking_answers
from hf_llambert.review.answers import Answer
from hf_llambert.review.drawing import RANDOM
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import Queue
from hf_llambert.tasks.question import Question

_RESAMPLES = 1000


def standing_in(queue: Queue, answers: Mapping[str, Mapping[int, Answer]]) -> dict | None:
    """
    The test of one question, on the rows drawn at random.

    Args:
        queue (`Queue`): The queue as the question sees it.
        answers (`Mapping`): Everybody's answers to it, by reviewer and place in the queue.

    Returns:
        `dict`: As [`alternative_annotator_test`], with `lacking` (nothing) and `alpha` as [`alphas`]. Where there are too few
        answers only `epsilon` and `lacking`: what is lacking, in words. `None` where nobody asked for the test and fewer than
        two reviewers answered such rows.
    """
    question = queue.task.question
    places = [place for place, row in enumerate(queue.rows) if row.reason in RANDOM]
    given = {
        name: [those[place].label if place in those else question.missing for place in places]
        for name, those in answers.items()
    }
    given = {name: those for name, those in given.items() if any(map(question.is_answer, those))}
    if not queue.for_test and len(given) < 2:
        return None
    if why := lacking_answers(given, question):
        return {"epsilon": queue.epsilon, "lacking": why}
    teacher = [queue.rows[place].teacher for place in places]
    found = alternative_annotator_test(teacher, given, question, queue.epsilon)
    return {**found, "lacking": "", "alpha": alphas(teacher, given, question)}


def alphas(teacher: Sequence[object], reviewers: Mapping[str, Sequence[object]], question: Question) -> dict:
    """
    How far people agree beyond chance, and how far with the teacher in the place of one of them, on the rows that two or more
    answered. Rows without an answer of the teacher's are as if it had skipped them.

    Returns:
        `dict`: Krippendorff's alpha of `people`; `teacher`: its mean over the teacher in each one's place, with its 95 %
        interval `low` and `high`; `difference` of the two, with `difference_low` and `difference_high`. Intervals are by
        bootstrap over rows, 1,000 times with a fixed seed. `None` where alpha is not defined.
    """
    rows = [i for i in range(len(teacher)) if sum(question.is_answer(those[i]) for those in reviewers.values()) > 1]
    weights = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_RESAMPLES)
    every = np.concatenate([np.ones((1, len(rows))), weights])
    apart = reviewed(question).distance(question)

    def of(who: Sequence[Sequence[object]]) -> np.ndarray:
        said = [[those[i] for those in who if question.is_answer(those[i])] for i in rows]
        return weighted_alphas([[tuple(a) if isinstance(a, list) else a for a in unit] for unit in said], apart, every)

    people = of(list(reviewers.values()))
    beside = []
    for name in reviewers:
        own = [
            answer if question.is_answer(reviewers[name][i]) else question.missing for i, answer in enumerate(teacher)
        ]
        beside.append(of([own if other == name else those for other, those in reviewers.items()]))
    mixed = np.mean(beside, axis=0)
    value, low, high = _interval(mixed)
    difference, difference_low, difference_high = _interval(mixed - people)
    return {
        "people": _interval(people)[0],
        "teacher": value,
        "low": low,
        "high": high,
        "difference": difference,
        "difference_low": difference_low,
        "difference_high": difference_high,
    }


def _interval(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """The first value, and the middle 95 % of the others; nothing where it is not defined."""
    if np.isnan(values[0]):
        return None, None, None
    others = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(others, [2.5, 97.5]) if len(others) else (np.nan, np.nan)
    return float(values[0]), float(low), float(high)


def standing_lines(found: Mapping) -> list[str]:
    """What [`standing_in`] found, in sentences."""
    if found["lacking"]:
        return [f"whether the teacher may stand in for people cannot be told yet: {found['lacking']}"]
    each, epsilon = found["reviewers"], found["epsilon"]
    verdict = "the teacher may" if found["passes"] else "it is not shown that the teacher may"
    wins = sum(one["wins"] for one in each.values())
    lines = [
        f"{verdict} stand in for people (alternative annotator test, p {_p(found['p'])}): it wins against {wins} of "
        f"{len(each)} reviewers, and half of them are needed"
    ]
    shares = "; ".join(
        f"teacher {one['teacher']:.0%} and {name} {one['person']:.0%} of {one['n']:,} rows (p {_p(one['p_adjusted'])})"
        for name, one in each.items()
    )
    lost = (
        f"; {found['n_abstained']:,} rows that the teacher gave no label are lost by it"
        if found["n_abstained"]
        else ""
    )
    lines.append(f"as near to the other reviewers as the one beside it, or nearer: {shares}{lost}")
    if found["too_few"]:
        few = ", ".join(f"{name} ({n:,})" for name, n in found["too_few"].items())
        lines.append(f"not compared, for fewer than 30 rows that another answered too: {few}")
    alpha = found["alpha"]
    if alpha["people"] is not None and alpha["teacher"] is not None:
        lines.append(
            f"agreement beyond chance (Krippendorff's alpha): people {alpha['people']:.2f}, with the teacher in the place of "
            f"one of them {alpha['teacher']:.2f} (95 % interval {alpha['low']:.2f} to {alpha['high']:.2f}; difference "
            f"{alpha['difference']:+.2f}, {alpha['difference_low']:+.2f} to {alpha['difference_high']:+.2f})"
        )
    lines.append(
        f"this assumes that the {found['n']:,} rows are a random sample of what the teacher labels, that reviewers answered "
        f"alone and saw no machine's label before, and that for what it saves the teacher may be worse on {epsilon:.0%} of "
        f"the rows (epsilon {epsilon:g})"
    )
    if len(each) == 2:
        lines.append(
            "with two reviewers each is measured by one other person only, whose own habits count in full: the authors of the "
            "test advise three or more"
        )
    return lines


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
