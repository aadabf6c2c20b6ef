"""What people's answers to each kind of question are: which count, what most say, and how much they agree."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from hf_llambert.annotation.alpha import answers_alpha, interval_alpha, krippendorff_alpha
from hf_llambert.tasks.question import Question

if TYPE_CHECKING:
    from hf_llambert.tasks.scale import Scale

_ROUNDING = 1e-5  # of numbers that were kept in 32 bits


class Reviewed(ABC):
    """People's answers to questions of one kind, all as gold has them ([`Question.gold`])."""

    several = False
    """Whether several labels may hold, so that an answer is confirmed when it is complete."""
    by_number = False
    """Whether a person types the label itself, not its place."""

    @abstractmethod
    def is_given(self, question: Question, answer: object) -> bool:
        """Whether a person may answer so."""

    def expected(self, question: Question) -> str:
        """What a person's answer must be, in words."""
        return f"a label from 0 to {len(question.labels) - 1}"

    def is_said(self, question: Question, answer: object) -> bool:
        """Whether a machine may answer so."""
        return self.is_given(question, answer)

    @abstractmethod
    def cells(self, question: Question, answer: object) -> dict[str, str | float | int | None]:
        """An answer in a table, or the lack of one: values by the ends of the names of their columns."""

    @abstractmethod
    def most(self, question: Question, answers: Sequence) -> object:
        """What most people say; the lack of an answer where they tie."""

    @abstractmethod
    def alpha(self, question: Question, units: Sequence[Sequence]) -> float | None:
        """Krippendorff's alpha of the answers that each row was given; `None` where it is not defined."""

    def distance(self, question: Question) -> Callable[[Any, Any], float]:
        """How far two different answers lie apart in that alpha."""
        return question.apart

    def alphas(self, question: Question, units: Sequence[Sequence]) -> dict[str, float | None]:
        """The alpha of each label, where several may hold."""
        return {}

    def kappa(self, units: Sequence[Sequence]) -> float | None:
        """Cohen's kappa of pairs of answers, where they are names."""
        return None

    def errors(self, pairs: Sequence[tuple]) -> dict[str, float]:
        """More figures of a machine's answers beside people's."""
        return {}

    @abstractmethod
    def classes(self, question: Question, answers: Sequence) -> list[list[int]]:
        """Answers as classes, one list or one for each label, in which label errors are looked for."""


class _Choice(Reviewed):
    def is_given(self, question: Question, answer: object) -> bool:
        return type(answer) is int and 0 <= answer < len(question.labels)

    def cells(self, question: Question, answer: object) -> dict[str, str | float | int | None]:
        return {"": question.named(answer)[0] if question.is_answer(answer) else None}

    def most(self, question: Question, answers: Sequence) -> object:
        (answer, n), *others = Counter(answers).most_common(2)
        return question.missing if others and others[0][1] == n else answer

    def alpha(self, question: Question, units: Sequence[Sequence]) -> float | None:
        return krippendorff_alpha(units, len(question.labels))

    def kappa(self, units: Sequence[Sequence]) -> float | None:
        from sklearn.metrics import cohen_kappa_score

        first, second = zip(*units, strict=True)
        return float(cohen_kappa_score(first, second)) if len({*first, *second}) > 1 else None

    def classes(self, question: Question, answers: Sequence) -> list[list[int]]:
        return [list(answers)]


class _Choices(Reviewed):
    several = True

    def expected(self, question: Question) -> str:
        return f"a sorted list of labels from 0 to {len(question.labels) - 1}, or []"

    def is_given(self, question: Question, answer: object) -> bool:
        if not isinstance(answer, list) or not all(type(label) is int for label in answer):
            return False
        return answer == sorted(set(answer)) and set(answer) <= set(range(len(question.labels)))

    def cells(self, question: Question, answer: object) -> dict[str, str | float | int | None]:
        """For each label whether it holds, 1 or 0."""
        given = question.is_answer(answer)
        return {
            f"_{label}": int(question.holds([answer], i)[0]) if given else None
            for i, label in enumerate(question.labels)
        }

    def most(self, question: Question, answers: Sequence) -> object:
        """Each label that more than half give. Where half give one, nobody knows whether it holds, and they tie."""
        votes = Counter(label for answer in answers for label in answer)
        if any(2 * n == len(answers) for n in votes.values()):
            return question.missing
        return sorted(label for label, n in votes.items() if 2 * n > len(answers))

    def alpha(self, question: Question, units: Sequence[Sequence]) -> float | None:
        return answers_alpha([[tuple(a) for a in unit] for unit in units], question.apart)

    def distance(self, question: Question) -> Callable[[Any, Any], float]:
        """How far two different answers lie apart in that alpha."""
        return question.apart

    def alphas(self, question: Question, units: Sequence[Sequence]) -> dict[str, float | None]:
        return {
            name: krippendorff_alpha([[int(i in answer) for answer in unit] for unit in units], 2)
            for i, name in enumerate(question.labels)
        }

    def classes(self, question: Question, answers: Sequence) -> list[list[int]]:
        return [[int(i in answer) for answer in answers] for i in range(len(question.labels))]


class _Scale(Reviewed):
    by_number = True

    def expected(self, question: Question) -> str:
        return f"a level: {', '.join(question.labels)}"

    def is_given(self, question: Question, answer: object) -> bool:
        return type(answer) in (int, float) and answer in _scale(question).levels.tolist()

    def is_said(self, question: Question, answer: object) -> bool:
        """Any number of the scale, such as an expectation."""
        levels = _scale(question).levels
        number = float(answer) if type(answer) in (int, float) else math.nan  # type: ignore[arg-type]
        return bool(levels[0] - _ROUNDING <= number <= levels[-1] + _ROUNDING)

    def cells(self, question: Question, answer: object) -> dict[str, str | float | int | None]:
        return {"": float(answer) if question.is_answer(answer) else None}  # type: ignore[arg-type]

    def most(self, question: Question, answers: Sequence) -> object:
        return float(median(answers))

    def alpha(self, question: Question, units: Sequence[Sequence]) -> float | None:
        return interval_alpha(units)

    def distance(self, question: Question) -> Callable[[Any, Any], float]:
        return lambda one, other: (float(one) - float(other)) ** 2

    def errors(self, pairs: Sequence[tuple]) -> dict[str, float]:
        """The mean distance."""
        return {"mae": sum(abs(float(one) - float(other)) for one, other in pairs) / len(pairs)}

    def classes(self, question: Question, answers: Sequence) -> list[list[int]]:
        return [_scale(question).nearest(answers)]


def _scale(question: Question) -> Scale:
    return question  # type: ignore[return-value]  # by the table below


REVIEWED: dict[str, Reviewed] = {"choice": _Choice(), "choices": _Choices(), "scale": _Scale()}
"""By kind of question."""


def reviewed(question: Question) -> Reviewed:
    """What people's answers to a question are."""
    return REVIEWED[question.kind]
