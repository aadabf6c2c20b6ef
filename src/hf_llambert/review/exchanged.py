"""How answers to each kind of question are written in Argilla and Label Studio, read back, and asked for there."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import numpy as np

from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import name_id

if TYPE_CHECKING:
    from hf_llambert.tasks.scale import Scale


class Exchanged(ABC):
    """Answers to questions of one kind in other tools; here they are as gold has them ([`Question.gold`])."""

    @abstractmethod
    def argilla(self, question: Question, answer: object) -> object:
        """The value of a response or suggestion."""

    @abstractmethod
    def from_argilla(self, question: Question, value: object) -> object:
        """The answer in a response. Raises `ValueError` where it is none to the question, with what came."""

    @abstractmethod
    def asked_by_argilla(self, question: Question, name: str) -> str:
        """The question in the settings of a dataset, as Python."""

    def label_studio(self, question: Question, answer: object) -> tuple[str, object]:
        """Type and value of a result; the value stands by the name of its type."""
        return "choices", self.argilla(question, answer)

    def from_label_studio(self, question: Question, value: Mapping) -> object | None:
        """The answer in the value of a result, `None` where nothing was chosen. Raises as [`~Exchanged.from_argilla`]."""
        return self.from_argilla(question, value["choices"]) if value.get("choices") else None

    @abstractmethod
    def asked_by_label_studio(self, question: Question, name: str, field: str) -> str:
        """The question in the labelling configuration, as XML."""

    def is_scored(self) -> bool:
        """Whether a suggestion of Argilla may have the confidence of the whole answer."""
        return True


class _Choice(Exchanged):
    def argilla(self, question: Question, answer: object) -> object:
        return question.named(answer)[0]

    def from_argilla(self, question: Question, value: object) -> object:
        return _id(question, value)

    def asked_by_argilla(self, question: Question, name: str) -> str:
        return f"rg.LabelQuestion({_py(name)}, labels={_py(list(question.labels))})"

    def label_studio(self, question: Question, answer: object) -> tuple[str, object]:
        return "choices", question.named(answer)

    def from_label_studio(self, question: Question, value: Mapping) -> object | None:
        chosen = value.get("choices")
        if not chosen:
            return None
        if not isinstance(chosen, list) or len(chosen) != 1:
            raise ValueError(f"{chosen!r}, expected one choice")
        return _id(question, chosen[0])

    def asked_by_label_studio(self, question: Question, name: str, field: str) -> str:
        return _choices(name, field, "single", question.labels)


class _Choices(Exchanged):
    """Neither tool can say that no label holds, so there is a choice for it."""

    def argilla(self, question: Question, answer: object) -> object:
        return question.named(answer) or [none_of(question)]

    def from_argilla(self, question: Question, value: object) -> object:
        none = none_of(question)
        if not isinstance(value, list) or not value:
            raise ValueError(f"{value!r}, expected a list of {[*question.labels, none]}")
        if none in value:
            if len(value) > 1:
                raise ValueError(f"{value!r}: '{none}' beside labels, which contradicts them")
            return []
        ids = [_id(question, one) for one in value]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{value!r}, expected each label once")
        return sorted(ids)

    def asked_by_argilla(self, question: Question, name: str) -> str:
        return f"rg.MultiLabelQuestion({_py(name)}, labels={_py([*question.labels, none_of(question)])})"

    def asked_by_label_studio(self, question: Question, name: str, field: str) -> str:
        return _choices(name, field, "multiple", (*question.labels, none_of(question)))

    def is_scored(self) -> bool:
        return False  # Argilla takes one for each label only


class _Scale(Exchanged):
    """A rating or a number where the tool has one for the levels, else a choice of one."""

    def argilla(self, question: Question, answer: object) -> object:
        (level,) = _scale(question).nearest([answer])
        return int(_scale(question).levels[level]) if _is_rating(question) else question.labels[level]

    def from_argilla(self, question: Question, value: object) -> object:
        return _level(question, value) if _is_rating(question) else _level_called(question, value)

    def asked_by_argilla(self, question: Question, name: str) -> str:
        if _is_rating(question):
            return f"rg.RatingQuestion({_py(name)}, values={[int(level) for level in _scale(question).levels]})"
        return f"rg.LabelQuestion({_py(name)}, labels={_py(list(question.labels))})"

    def label_studio(self, question: Question, answer: object) -> tuple[str, object]:
        (level,) = _scale(question).nearest([answer])
        how, number = _control(question), _scale(question).levels[level].item()
        if how == "choices":
            return how, [question.labels[level]]
        return how, int(number) if number.is_integer() else number

    def from_label_studio(self, question: Question, value: Mapping) -> object | None:
        how = _control(question)
        given = value.get(how)
        if given in (None, []):
            if any(value.get(other) for other in ("choices", "rating", "number")):
                raise ValueError(f"{dict(value)!r}, expected a {how}")
            return None
        if how != "choices":
            return _level(question, given)
        if not isinstance(given, list) or len(given) != 1:
            raise ValueError(f"{given!r}, expected one choice")
        return _level_called(question, given[0])

    def asked_by_label_studio(self, question: Question, name: str, field: str) -> str:
        how, levels = _control(question), _scale(question).levels
        names = f"name={quoteattr(name)} toName={quoteattr(field)}"
        if how == "rating":
            return f'<Rating {names} maxRating="{len(levels)}"/>'
        if how == "number":
            return f'<Number {names} min="{levels[0]:g}" max="{levels[-1]:g}" step="{levels[1] - levels[0]:g}"/>'
        return _choices(name, field, "single", question.labels)


def none_of(question: Question) -> str:
    """What the choice is called that no label holds; never as a label."""
    said = "none of them"
    while name_id(said, question.labels) is not None:
        said = f"({said})"
    return said


def _id(question: Question, value: object) -> int:
    """The label that another tool's row names; it was given the names, so it gives no ids back."""
    found = name_id(value, question.labels) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r}, expected one of {list(question.labels)}")
    return found


def _level(question: Question, value: object) -> float:
    for level in _scale(question).levels.tolist():
        if type(value) in (int, float) and math.isclose(value, level, abs_tol=1e-9):  # type: ignore[arg-type]
            return level
    raise ValueError(f"{value!r}, expected one of the levels {', '.join(question.labels)}")


def _level_called(question: Question, value: object) -> float:
    return float(_scale(question).levels[_id(question, value)])


def _is_rating(question: Question) -> bool:
    """Whether the levels are whole numbers from 0 to 10, the only ones that Argilla rates by."""
    levels = _scale(question).levels
    return bool(levels[0] >= 0 and levels[-1] <= 10 and all(level.is_integer() for level in levels.tolist()))


def _control(question: Question) -> str:
    """The control of Label Studio: a rating counts from 1, a number has equal steps."""
    levels = _scale(question).levels
    if levels.tolist() == list(range(1, len(levels) + 1)) and len(levels) <= 10:
        return "rating"
    return "number" if np.allclose(np.diff(levels), levels[1] - levels[0]) else "choices"


def _scale(question: Question) -> Scale:
    return question  # type: ignore[return-value]  # by the table below


def _choices(name: str, field: str, choice: str, labels: tuple[str, ...]) -> str:
    values = "".join(f"<Choice value={quoteattr(label)}/>" for label in labels)
    return f'<Choices name={quoteattr(name)} toName={quoteattr(field)} choice="{choice}">{values}</Choices>'


def _py(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


EXCHANGED: dict[str, Exchanged] = {"choice": _Choice(), "choices": _Choices(), "scale": _Scale()}
"""By kind of question."""
