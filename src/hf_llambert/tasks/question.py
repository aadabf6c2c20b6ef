"""One question of a task, and what every kind of it owns: [`Choice`], [`Choices`], [`Scale`]."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hf_llambert.tasks.questions import LabelValues

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Features
    from numpy.typing import ArrayLike, NDArray

_PLACE = re.compile(r"\{(\w+)\}")

Parse = Callable[[str], "tuple[int, str | None]"]
"""Reads an answer that is text: the id of a label and, where that is -1, the reason."""


@dataclass(frozen=True)
class Question(ABC):
    """
    One question of a task. Its kind is its class: [`Choice`], [`Choices`] or [`Scale`].

    Args:
        name (`str`): Its name: letters, digits and `_`. Gold stands in a column of this name.
        labels (`tuple[str, ...]`): The labels, or the levels of a scale as they are written, in the order of their ids.
        ask (`str`, defaults to none): The words of the question, after the fields of the task. `{options}` becomes the labels'
            first words, `{definitions}` a line for each label with its description.
        verbalizers (`tuple[tuple[str, ...], ...]`, *optional*): For each label the words that name it in an answer.
        descriptions (`tuple[str, ...]`, *optional*): For each label what it means.
        lead_in (`str`, defaults to none): Words that begin the answer in score mode, or where it is asked apart.
    """

    name: str
    labels: tuple[str, ...]
    ask: str = ""
    verbalizers: tuple[tuple[str, ...], ...] = ()
    descriptions: tuple[str, ...] = ()
    lead_in: str = ""

    kind: ClassVar[str]
    """What the YAML file calls it."""
    answer_column: ClassVar[str]
    """The end of the name of the column that has the answer as gold has it."""
    keys: ClassVar[tuple[str, ...]] = ("name", "kind", "labels", "ask", "verbalizers", "descriptions", "lead_in")
    """Keys in the YAML file."""
    is_json: ClassVar[bool] = False
    """Whether the answer is JSON where text comes back, even if nothing else is asked."""
    agrees: ClassVar[str] = "agreement with gold"
    """What the share of right answers is called; see [`~Question.right`]."""
    gold_is_name: ClassVar[bool] = False
    """Whether gold is one name a row, which files are read for as it is written: `01` stays `01`."""
    gold_may_be_columns: ClassVar[bool] = False
    """Whether gold may stand in a column for each label, that says whether it holds."""

    def __post_init__(self) -> None:
        for name in ("labels", "verbalizers", "descriptions"):
            object.__setattr__(self, name, as_tuples(getattr(self, name)))
        if not self.verbalizers:
            object.__setattr__(self, "verbalizers", tuple((label,) for label in self.labels))
        if not self.descriptions:
            object.__setattr__(self, "descriptions", ("",) * len(self.labels))
        if isinstance(self.lead_in, str):
            object.__setattr__(self, "lead_in", self.lead_in.strip())

    def logit_names(self, part: str) -> list[list[str]]:
        """
        What the logits of a student may be called that answers it: for each way of learning it their names.

        Args:
            part (`str`): The question, by the names of [`TaskSpec.parts`].
        """
        return [[f"{part}: {label}" if part else label for label in self.labels]]

    @abstractmethod
    def own_features(self) -> Features:
        """The columns of an answer, without the beginnings of their names: features by end."""

    @abstractmethod
    def no_answer(self) -> dict[str, object]:
        """The columns of a row without an answer."""

    @property
    def missing(self) -> object:
        """What stands in the answer's column where there is no answer."""
        return self.no_answer()[self.answer_column]

    @abstractmethod
    def named(self, answer: object) -> list[str]:
        """The names of the labels in an answer."""

    def in_words(self, answer: object) -> str:
        """An answer as people read it."""
        return ", ".join(self.named(answer)) or "none of the labels"

    def answers(self, labels: Sequence[int]) -> list:
        """Answers as gold has them from the ids of single labels, -1 where there is none."""
        return list(labels)

    def to_dict(self) -> dict[str, object]:
        """The question as the YAML file has it."""
        own: dict[str, object] = {
            "name": self.name,
            "kind": self.kind,
            "labels": list(self.labels),
            "ask": self.ask,
            "lead_in": self.lead_in,
            "verbalizers": {k: list(v) for k, v in zip(self.labels, self.verbalizers, strict=True)},
            "descriptions": {k: v for k, v in zip(self.labels, self.descriptions, strict=True) if v},
        }
        return {key: value for key, value in own.items() if value}

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, (rows, labels), of scores of the same shape. They sum to 1 in a row unless several labels hold."""
        import numpy as np  # here and in the kinds: naming a task is to cost nothing
        from scipy.special import softmax

        return softmax(np.asarray(scores, dtype=np.float64), axis=-1)

    def decided(
        self, probabilities: NDArray[np.float64], thresholds: Sequence[float] | None = None
    ) -> dict[str, list]:
        """As [`~Question.decide`], as lists."""
        return {name: column.to_pylist() for name, column in self.decide(probabilities, thresholds).items()}

    @abstractmethod
    def decide(
        self, probabilities: NDArray[np.float64], thresholds: Sequence[float] | None = None
    ) -> dict[str, pa.Array]:
        """
        The columns of answers, and their `confidence`.

        Args:
            probabilities (`NDArray` of shape (rows, labels)): See [`~Question.probabilities`].
            thresholds (`Sequence[float]`, *optional*): Where several labels may hold: the probability above which each does.
                Defaults to one half.
        """

    @abstractmethod
    def column(self, answers: Sequence[object]) -> dict[str, list]:
        """The columns of answers as gold has them, without confidences."""

    def is_answer(self, answer: object) -> bool:
        """Whether a value of the answer's column is an answer, and not the lack of one."""
        return answer is not None

    def is_own(self, answer: object) -> bool:
        """Whether an answer is one as gold has them."""
        return type(answer) is int and 0 <= answer < len(self.labels)

    @property
    def own(self) -> str:
        """What answers as gold has them are, in words."""
        return f"ids from 0 to {len(self.labels) - 1}"

    @abstractmethod
    def right(self, answers: Sequence, gold: Sequence) -> NDArray[np.bool_]:
        """Whether each answer is what people said, both as gold has them and without missing ones."""

    @abstractmethod
    def holds(self, answers: Sequence, label: int) -> NDArray[np.bool_]:
        """
        Whether each answer, as gold has them and without missing ones, says that this label holds.

        Raises:
            ValueError: Answers of this kind are no labels.
        """

    @abstractmethod
    def apart(self, one: object, other: object) -> float:
        """How far two answers lie apart, both as gold has them; 0 where nobody would say that they differ."""

    @abstractmethod
    def gold(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> list:
        """
        People's answers as they are in `answer_column`: an id (-1: none), a list of ids or a number (`None`: none).

        Args:
            values (`Sequence`): Those of the whole column; those of a `ClassLabel` by name.
            column (`str`): What to call it in errors.
            label_map (`Mapping[str, str]`, *optional*): See [`label_meanings`].
            label_values (`str`, defaults to `"auto"`): See [`label_meanings`].

        Raises:
            ValueError: Some values cannot be read, or fit two readings.
        """

    def reading(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> LabelValues:
        """What a whole column holds, so that some of its rows are read as all are; arguments as in [`~Question.gold`]."""
        return label_values

    @abstractmethod
    def targets(self, answers: Sequence[object]) -> NDArray[np.float64]:
        """What a student learns from answers as gold has them: (rows, labels), NaN in rows without one."""

    def orders(self, answers: Sequence[object]) -> NDArray[np.float64]:
        """
        By what answers as gold has them can be put in order: (rows, orders), without missing ones. Whether each of the labels
        holds, unless the kind says more.
        """
        return self.targets(answers)

    @abstractmethod
    def untargeted(self, targets: NDArray[np.float64]) -> list:
        """The answers as gold has them from what a student learns of them; see [`~Question.targets`]."""

    @abstractmethod
    def read(self, value: object, parse: Parse) -> tuple[object, str | None]:
        """
        The answer in a value of JSON, or the lack of one with the reason.

        Args:
            value (`object`): The value.
            parse (`Callable`): Reads a text that names one label.
        """

    @abstractmethod
    def written(self, answer: object) -> object:
        """The answer of a worked example as a value of JSON."""

    def said(self, answer: object) -> object:
        """An answer as gold has it as a value of JSON."""
        return self.labels[answer]  # type: ignore[call-overload]

    def longest(self) -> object:
        """The longest value of JSON that answers it."""
        return max((self.written(label) for label in self.labels), key=lambda value: len(json.dumps(value)))

    @abstractmethod
    def schema(self) -> dict[str, object]:
        """JSON schema of an answer."""

    @abstractmethod
    def wanted(self) -> str:
        """What an answer in JSON must be, in words."""

    def words(self) -> list[str]:
        """For each label the word that stands for it in a prompt."""
        return [words[0] for words in self.verbalizers]

    def texts(self) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
        """
        How score mode asks: the words of each branch, and the words of its answers. The scores of a question are made of
        those of its branches by [`~Question.joined`].
        """
        return [(self.filled(), self.verbalizers)]

    def joined(self, scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """The scores of the question from those of its branches."""
        (only,) = scores
        return tuple(only)

    def of_branches(self, labels: Sequence[int]) -> object:
        """The answer from the labels of its branches, as gold has it."""
        (only,) = self.answers(list(labels))
        return only

    def shown(self, answer: object) -> list[tuple[str, str]]:
        """How a worked example asks and answers in score mode: words and answer of one turn or several."""
        (ask, _), label = self.texts()[0], str(answer)
        return [(ask, f"{self.lead_in} {self.verbalizers[self.labels.index(label)][0]}".strip())]

    def filled(self, options: str | None = None, definitions: str | None = None) -> str:
        """The words of the question, its places filled."""
        words = self.words()
        lines = [f"- {w}: {d}" if d else f"- {w}" for w, d in zip(words, self.descriptions, strict=True)]
        return self._fill(
            definitions="\n".join(lines) if definitions is None else definitions,
            options=listed(words) if options is None else options,
        )

    def _fill(self, **places: str) -> str:
        """`ask` with what stands in its places, each filled once: what fills one is not looked through for others."""
        return _PLACE.sub(lambda found: places.get(found[1], found[0]), self.ask)

    def has(self, answer: object) -> bool:
        """Whether a worked example may answer so."""
        return isinstance(answer, str) and answer in self.labels

    def fault(self) -> str | None:
        """What is wrong with what only this kind has, in words; `None` where nothing is."""
        return None


def as_tuples(value: object) -> object:
    """Lists as tuples, within lists too, so that a task can be hashed; anything else as it is."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


def listed(words: Sequence[str]) -> str:
    """Words as a prompt has them: a, b or c."""
    return f"{', '.join(words[:-1])} or {words[-1]}"
