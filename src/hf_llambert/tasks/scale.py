"""A question that a level of a scale answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_llambert.tasks.label_messages import map_of_absent
from hf_llambert.tasks.label_names import Names, is_missing, number_of
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.question import Parse, Question
from hf_llambert.tasks.questions import ABSTAIN, LabelValues

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Features
    from numpy.typing import NDArray


logger = get_logger(__name__)


class Scale(Question):
    """
    A level of a scale. Columns: `label`, the level, and `value`, the expectation. Gold may lie between levels.

    The labels are the levels, in rising order, as numbers are written shortest (`1` for `1.0`); the verbalizers are their
    words.
    """

    kind = "scale"
    answer_column = "value"
    agrees = "within half a step of gold"
    keys = ("name", "kind", "levels", "ask", "verbalizers", "descriptions", "lead_in")

    def __post_init__(self) -> None:
        if isinstance(self.labels, list | tuple):
            object.__setattr__(self, "labels", tuple(map(level_name, self.labels)))
        super().__post_init__()

    @property
    def levels(self) -> NDArray[np.float64]:
        """The levels as numbers, rising."""
        import numpy as np

        return np.array([float(label) for label in self.labels])

    def own_features(self) -> Features:
        from datasets import ClassLabel, Features, Value

        return Features({"label": ClassLabel(names=list(self.labels)), "value": Value("float32")})

    def no_answer(self) -> dict[str, object]:
        return {"label": ABSTAIN, "value": None}

    def decide(
        self, probabilities: NDArray[np.float64], thresholds: Sequence[float] | None = None
    ) -> dict[str, pa.Array]:
        """The likeliest level, its probability, and the expectation."""
        import pyarrow as pa

        return {
            "label": pa.array(probabilities.argmax(1)),
            "value": pa.array(probabilities @ self.levels),
            "confidence": pa.array(probabilities.max(1)),
        }

    def column(self, answers: Sequence[object]) -> dict[str, list]:
        return {"label": self.nearest(answers), "value": list(answers)}

    def answers(self, labels: Sequence[int]) -> list:
        return [None if label == ABSTAIN else float(self.levels[label]) for label in labels]

    def to_dict(self) -> dict[str, object]:
        out = super().to_dict()
        del out["labels"]
        for name in ("verbalizers", "descriptions"):
            if isinstance(named := out.get(name), dict):
                out[name] = {_number(label): value for label, value in named.items()}
        levels = [_number(label) for label in self.labels]
        return {"name": self.name, "kind": self.kind, "levels": levels, **out}

    def nearest(self, answers: Sequence[object]) -> list[int]:
        """The id of the level that each answer is nearest to, the lower of two; -1 without an answer."""
        levels = self.levels
        return [
            ABSTAIN if answer is None else int(abs(levels - float(answer)).argmin())  # type: ignore[arg-type]
            for answer in answers
        ]

    def is_own(self, answer: object) -> bool:
        number = isinstance(answer, int | float) and not isinstance(answer, bool)
        return number and float(self.labels[0]) <= answer <= float(self.labels[-1])  # type: ignore[operator]

    @property
    def own(self) -> str:
        return f"numbers from {self.labels[0]} to {self.labels[-1]}"

    @property
    def half_step(self) -> float:
        """Half the distance of the two levels that are nearest to each other."""
        levels = self.levels
        return float((levels[1:] - levels[:-1]).min() / 2)

    def right(self, answers: Sequence, gold: Sequence) -> NDArray[np.bool_]:
        """Whether each answer is at most half a step from people's."""
        import numpy as np

        off = np.abs(np.asarray(answers, dtype=float) - np.asarray(gold, dtype=float))
        return off <= self.half_step + 1e-6 * np.ptp(self.levels)  # answers are float32

    def holds(self, answers: Sequence, label: int) -> NDArray[np.bool_]:
        raise ValueError(
            f"'{self.name}' is a scale, and an answer between two levels is none of them: nothing can be promised of the level "
            f"{self.labels[label]} alone. Promise it of all answers, which are right at most half a step off."
        )

    def apart(self, one: object, other: object) -> float:
        """The distance where it is more than half a step."""
        return 0.0 if self.right([one], [other])[0] else abs(float(one) - float(other))  # type: ignore[arg-type]

    def logit_names(self, part: str) -> list[list[str]]:
        """A logit for each level, or one for the number."""
        return [*super().logit_names(part), [part or self.name]]

    def named(self, answer: object) -> list[str]:
        return [self.labels[self.nearest([answer])[0]]]

    def in_words(self, answer: object) -> str:
        """The number, to a hundredth or finer where the levels are near each other."""
        decimals = max(2, 1 - math.floor(math.log10(self.half_step)))
        return f"{round(float(answer), decimals) + 0.0:.{decimals}f}".rstrip("0").rstrip(".")  # type: ignore[arg-type]

    def gold(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> list:
        if label_values != "auto":
            raise ValueError(
                f"Gold of the scale '{self.name}' is read as numbers, so label_values says nothing; got {label_values!r}."
            )
        out: list[float | None] = []
        strange = []
        places, said = Names(list(label_map or {})), [self._mapped(level) for level in (label_map or {}).values()]
        seen: set[int] = set()
        for value in values:
            number = None
            if not is_missing(value):
                if (place := places.find(value)) is not None:
                    seen.add(place)
                    number = said[place]
                elif (number := self._number(value)) is None:
                    strange.append(value)
            out.append(number)
        if strange:
            shown = ", ".join(repr(value)[:40] for value in list(dict.fromkeys(map(str, strange)))[:3])
            raise ValueError(
                f"Column '{column}' of the scale '{self.name}' takes numbers from {self.labels[0]} to {self.labels[-1]}, got "
                f"{shown} in {len(strange):,} of {len(out):,} rows. Name what else they are with label_map, or leave them empty."
            )
        if absent := [value for place, value in enumerate(label_map or {}) if place not in seen]:
            held = [str(value) for value in dict.fromkeys(map(str, values)) if not is_missing(value)]
            logger.warning("%s", map_of_absent(absent, held, column, "label"))
        return out

    def _mapped(self, level: str) -> float | None:
        """What a label map says that a value is; `None` where it is no answer."""
        number = self._number(level) if level else None
        if level and number is None:
            raise ValueError(
                f"label_map goes to numbers from {self.labels[0]} to {self.labels[-1]}, the scale '{self.name}', or to nothing; "
                f"got {level!r}."
            )
        return number

    def _number(self, value: object) -> float | None:
        """A value as a number of the scale: it is one, or a word of a level; `None` where it is neither."""
        words = [(word, i) for i, words in enumerate(self.verbalizers) for word in words]
        found = Names([word for word, _ in words]).find(value) if isinstance(value, str) else None
        if found is not None:
            return float(self.labels[words[found][1]])
        number = number_of(value)
        fits = number is not None and float(self.labels[0]) <= float(number) <= float(self.labels[-1])
        return float(number) if number is not None and fits else None

    def targets(self, answers: Sequence[object]) -> NDArray[np.float64]:
        """Distributions over the levels whose expectation is the answer: on a level, or shared by the two beside it."""
        levels = self.levels
        import numpy as np

        out = np.full((len(answers), len(levels)), np.nan)
        for i, answer in enumerate(answers):
            if answer is not None:
                out[i] = [np.interp(float(answer), levels, row) for row in np.eye(len(levels))]  # type: ignore[arg-type]
        return out

    def orders(self, answers: Sequence[object]) -> NDArray[np.float64]:
        """The numbers."""
        import numpy as np

        return np.asarray(answers, dtype=np.float64).reshape(-1, 1)

    def untargeted(self, targets: NDArray[np.float64]) -> list:
        import numpy as np

        levels = self.levels
        values = np.clip(targets @ levels, levels[0], levels[-1]).tolist()
        return [None if math.isnan(value) else value for value in values]

    def read(self, value: object, parse: Parse) -> tuple[object, str | None]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value in self.levels:
                return float(value), None
            return None, f"has a number at '{self.name}' that is no level"
        if not isinstance(value, str):
            return None, f"has no level at '{self.name}'"
        label, reason = parse(value)
        return (None if label == ABSTAIN else float(self.levels[label])), reason

    def written(self, answer: object) -> object:
        return _number(str(answer))

    def said(self, answer: object) -> object:
        return _number(str(answer))

    def fault(self) -> str | None:
        try:
            levels = [float(label) for label in self.labels]
        except ValueError:
            return f"levels must be numbers, got {list(self.labels)}; their words go into verbalizers"
        if not all(math.isfinite(level) for level in levels) or sorted(set(levels)) != levels:
            return f"levels must be different finite numbers in rising order, got {list(self.labels)}"
        return None

    def schema(self) -> dict[str, object]:
        levels = [_number(label) for label in self.labels]
        return {"type": "integer" if all(isinstance(x, int) for x in levels) else "number", "enum": levels}

    def wanted(self) -> str:
        return f"a number, {', '.join(self.labels[:-1])} or {self.labels[-1]}"


def level_name(value: object) -> object:
    """A level as numbers are written shortest: 1, 1.0 and "1.0" are one. What is no number stays."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    return f"{number + 0.0:.12g}"  # no -0


def _number(label: str) -> int | float:
    value = float(label)
    return int(value) if value.is_integer() else value
