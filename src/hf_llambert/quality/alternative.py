"""Whether the teacher may stand in for people: the alternative annotator test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

from hf_llambert.tasks.question import Question

if TYPE_CHECKING:
    from hf_llambert.tasks.scale import Scale

LEAST_ROWS = 50
"""Rows that two reviewers or more answered, without which the test says nothing."""
LEAST_EACH = 30
"""Such rows of one reviewer, without which the teacher is not compared with them: Student's t needs as many."""
EPSILON = 0.1
"""The strictest of those that the authors advise: 0.1 beside crowd workers, 0.15 skilled people, 0.2 experts."""

_ROUNDING = 1e-9


def alternative_annotator_test(
    teacher: Sequence[object],
    reviewers: Mapping[str, Sequence[object]],
    question: Question,
    epsilon: float = EPSILON,
    q: float = 0.05,
) -> dict:
    """
    The alternative annotator test of Calderon, Reichart and Dror (2025, arXiv 2501.10970): whether the teacher's answers are as
    good as those of people.

    Each reviewer is left out in turn. On every row that they and another answered, the teacher's answer and theirs are compared
    with those of all others: the share of equal ones, for sets of labels the mean of Jaccard's similarity, for levels the
    root of the mean squared difference (the teacher's number counts as its nearest level, since people can give no other). Who
    is nearer to the others has the row, and both have it where they are equally near. The teacher wins against the reviewer
    where a one-sided paired t-test rejects that it has fewer rows by a share of `epsilon` or more, by the procedure of
    Benjamini and Yekutieli over all reviewers. It may stand in for them where it wins against half of them or more.

    Rows are to be a random sample of what the teacher will label, and reviewers to have answered alone, without seeing what a
    machine says. Of two reviewers each is all that the other is compared with; the authors advise three.

    Args:
        teacher (`Sequence`): The teacher's answers as gold has them. Where it gave none, it loses the row.
        reviewers (`Mapping[str, Sequence]`): By reviewer their answers to the same rows; the lack of one (-1, or `None`) where
            they skipped it.
        question (`Question`): What was asked; its kind says how answers are compared.
        epsilon (`float`, defaults to 0.1): By which share of rows the teacher may be worse, for what it saves: from 0 to below 1.
            To be chosen before the answers are seen.
        q (`float`, defaults to 0.05): Rate of false discoveries.

    Returns:
        `dict`: `n` rows with two answers or more, `n_abstained` of them without one of the teacher's, `epsilon`, `q`,
        `reviewers` by name with `n` rows, `teacher` and `person` (the share of rows that each has), `p`, `p_adjusted` (after
        Benjamini and Yekutieli) and `wins`, `winning_rate`, `advantage` (the mean of `teacher`), `passes`, and `p`: the smallest
        `q` at which it would pass. `too_few` has the rows of reviewers with fewer than 30, beside whom it is not tested.

    Raises:
        ValueError: `epsilon` or `q` is out of its range, answers are none of the question's or of another number, or there is
            too little to tell: fewer than two reviewers, fewer than 50 rows that two answered, or only one answer in all.
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"Expected epsilon, a share of rows, from 0 to below 1, got {epsilon}.")
    if not 0 < q < 1:
        raise ValueError(f"Expected q, a rate of false discoveries, between 0 and 1, got {q}.")
    said = _Said.of(teacher, reviewers, question)
    if why := said.lacking():
        raise ValueError(f"Too little to tell whether the teacher may stand in for people: {why}.")
    each = {name: _beside(said, name, epsilon) for name in said.tested}
    adjusted = _adjusted([one["p"] for one in each.values()])
    for one, p in zip(each.values(), adjusted, strict=True):
        one |= {"p_adjusted": p, "wins": p <= q}
    winning_rate = sum(one["wins"] for one in each.values()) / len(each)
    return {
        "n": len(said.shared),
        "n_abstained": sum(not question.is_answer(teacher[row]) for row in said.shared),
        "epsilon": float(epsilon),
        "q": float(q),
        "reviewers": each,
        "too_few": {name: n for name, n in said.counts.items() if name not in each},
        "winning_rate": winning_rate,
        "advantage": float(np.mean([one["teacher"] for one in each.values()])),
        "passes": winning_rate >= 0.5,
        "p": sorted(adjusted)[(len(adjusted) + 1) // 2 - 1],
    }


def lacking_answers(reviewers: Mapping[str, Sequence[object]], question: Question) -> str:
    """What answers lack for [`alternative_annotator_test`], in words; nothing where they are enough."""
    return _Said.of([question.missing] * max(map(len, reviewers.values()), default=0), reviewers, question).lacking()


@dataclass(frozen=True)
class _Said:
    """What teacher and reviewers said: `given` has people's answers of each row, by reviewer."""

    teacher: Sequence[object]
    given: list[dict[str, object]]
    question: Question
    counts: dict[str, int]

    @classmethod
    def of(cls, teacher: Sequence[object], reviewers: Mapping[str, Sequence[object]], question: Question) -> _Said:
        for name, those in (("the teacher", teacher), *reviewers.items()):
            if len(those) != len(teacher):
                raise ValueError(
                    f"Expected answers to the same {len(teacher):,} rows from all, got {len(those):,} of {name}. Leave a "
                    f"place for each row, with {question.missing} where there is no answer."
                )
            strange = [a for a in those if question.is_answer(a) and not question.is_own(a)]
            if strange:
                raise ValueError(f"Expected {question.own} as answers of {name}, got {strange[0]!r}.")
        rows = [
            {name: those[i] for name, those in reviewers.items() if question.is_answer(those[i])}
            for i in range(len(teacher))
        ]
        counts = {name: sum(name in row and len(row) > 1 for row in rows) for name in reviewers}
        return cls(teacher, rows, question, counts)

    @property
    def shared(self) -> list[int]:
        return [i for i, row in enumerate(self.given) if len(row) > 1]

    @property
    def tested(self) -> list[str]:
        return [name for name, n in self.counts.items() if n >= LEAST_EACH]

    def lacking(self) -> str:
        answering = sum(any(name in row for row in self.given) for name in self.counts)
        n, tested = len(self.shared), len(self.tested)
        if answering < 2:
            more = 2 - answering
            return f"{answering} of at least 2 reviewers have answered, {more} {'is' if more == 1 else 'are'} lacking"
        if n < LEAST_ROWS:
            return (
                f"{n:,} of at least {LEAST_ROWS} rows have answers of two reviewers or more, "
                f"{LEAST_ROWS - n} are lacking"
            )
        if tested < 2:
            return (
                f"{tested} of at least 2 reviewers have {LEAST_EACH} rows or more that another answered too, {2 - tested} "
                f"{'is' if tested else 'are'} lacking"
            )
        answers = [answer for i in self.shared for answer in self.given[i].values()]
        if all(answer == answers[0] for answer in answers):
            return (
                f"people gave one answer to all {n:,} rows, {self.question.in_words(answers[0])}, so that whoever always "
                f"says so would pass; it takes rows with other answers"
            )
        return ""


def _beside(said: _Said, name: str, epsilon: float) -> dict:
    """The teacher beside one reviewer, before others are taken into account."""
    far, question = FAR[said.question.kind], said.question
    teacher, person = [], []
    for i in said.shared:
        row = said.given[i]
        if name in row:
            others = [answer for other, answer in row.items() if other != name]
            theirs = far(question, row[name], others)
            own = far(question, said.teacher[i], others) if question.is_answer(said.teacher[i]) else math.inf
            teacher.append(own <= theirs + _ROUNDING)
            person.append(theirs <= own + _ROUNDING)
    fewer = np.asarray(person, dtype=float) - np.asarray(teacher, dtype=float)
    return {
        "n": len(fewer),
        "teacher": float(np.mean(teacher)),
        "person": float(np.mean(person)),
        "p": _p_below(fewer, epsilon),
    }


def _p_below(values: np.ndarray, bound: float) -> float:
    """One-sided p of Student's t-test that the mean is the bound or more. Where all values are one, 0 or 1."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if not error:
        return 0.0 if mean < bound else 1.0
    return float(stdtr(len(values) - 1, (mean - bound) / error))


def _adjusted(p: Sequence[float]) -> list[float]:
    """
    p values that are to be compared with the rate of false discoveries itself: Benjamini and Yekutieli (2001), "The control of
    the false discovery rate in multiple testing under dependency".
    """
    m, least = len(p), 1.0
    factor = m * sum(1 / k for k in range(1, m + 1))
    out = [0.0] * m
    for rank, place in reversed(list(enumerate(np.argsort(p, kind="stable").tolist(), start=1))):
        least = min(least, p[place] * factor / rank)
        out[place] = least
    return out


def _mean_apart(question: Question, answer: object, others: Sequence[object]) -> float:
    return math.fsum(question.apart(answer, other) for other in others) / len(others)


def _levels_apart(question: Question, answer: object, others: Sequence[object]) -> float:
    """The root of the mean squared difference of nearest levels."""
    scale: Scale = question  # type: ignore[assignment]  # by the table below
    own, *theirs = scale.levels[scale.nearest([answer, *others])].tolist()
    return math.sqrt(math.fsum((own - one) ** 2 for one in theirs) / len(theirs))


FAR: dict[str, Callable[[Question, object, Sequence[object]], float]] = {
    "choice": _mean_apart,
    "choices": _mean_apart,
    "scale": _levels_apart,
}
"""By kind of question, how far an answer is from those of others."""
