"""A question that any of the labels answer, or none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_llambert.tasks.label_names import is_missing
from hf_llambert.tasks.names import normalize
from hf_llambert.tasks.question import Parse, Question, listed
from hf_llambert.tasks.questions import ABSTAIN, LabelValues, label_ids, label_reading

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Features
    from numpy.typing import ArrayLike, NDArray


_NONE = "none"
"""What says that no label holds, unless a label is called so."""
_MARKS = re.compile("[,;|]")


@dataclass(frozen=True)
class Choices(Question):
    """
    Any of the labels, none too. Columns: `labels`, a list of ids.

    Score mode asks about each label by itself, yes or no. `{label}` in `ask` is where its word stands; without one the word
    goes on a line of its own. A score is a log-odds: the log-probability of yes less that of no.

    Args:
        yes_no (`tuple[str, str]`, defaults to `("yes", "no")`): The words of those answers.
    """

    yes_no: tuple[str, str] = ("yes", "no")

    kind = "choices"
    answer_column = "labels"
    agrees = "all labels as in gold"
    keys = (*Question.keys, "yes_no")
    is_json = True
    gold_may_be_columns = True

    def own_features(self) -> Features:
        from datasets import ClassLabel, Features, List

        return Features({"labels": List(ClassLabel(names=list(self.labels)))})

    def no_answer(self) -> dict[str, object]:
        return {"labels": None}

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        import numpy as np
        from scipy.special import expit

        return expit(np.asarray(scores, dtype=np.float64))

    def decide(
        self, probabilities: NDArray[np.float64], thresholds: Sequence[float] | None = None
    ) -> dict[str, pa.Array]:
        """The labels above their thresholds. The confidence is the probability of all of it, labels taken as independent."""
        import numpy as np
        import pyarrow as pa

        holds = probabilities > (0.5 if thresholds is None else np.asarray(thresholds))
        sure = np.where(holds, probabilities, 1 - probabilities).prod(1)
        ends = np.append(0, np.cumsum(holds.sum(1)))
        labels = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.nonzero(holds)[1]))
        return {"labels": labels, "confidence": pa.array(sure)}

    def column(self, answers: Sequence[object]) -> dict[str, list]:
        return {"labels": list(answers)}

    def is_own(self, answer: object) -> bool:
        return isinstance(answer, list) and all(super(Choices, self).is_own(label) for label in answer)

    @property
    def own(self) -> str:
        return f"lists of {super().own}"

    def right(self, answers: Sequence, gold: Sequence) -> NDArray[np.bool_]:
        """Whether all labels of a row are people's, and no other."""
        import numpy as np

        return np.array([set(one) == set(other) for one, other in zip(answers, gold, strict=True)], dtype=bool)

    def holds(self, answers: Sequence, label: int) -> NDArray[np.bool_]:
        import numpy as np

        return np.array([label in answer for answer in answers], dtype=bool)

    def apart(self, one: object, other: object) -> float:
        """The share of the labels in either that are not in both (Jaccard's distance)."""
        first, second = set(one), set(other)  # type: ignore[call-overload]
        return len(first ^ second) / max(len(first | second), 1)

    def named(self, answer: object) -> list[str]:
        return [self.labels[i] for i in answer]  # type: ignore[attr-defined]

    def gold(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> list:
        rows = [self._items(value, column, label_map or {}) for value in values]
        ids = iter(
            label_ids([item for row in rows for item in row or ()], self.labels, column, label_map, label_values)
        )
        found = [None if row is None else [next(ids) for _ in row] for row in rows]
        return [None if row is None else sorted({i for i in row if i != ABSTAIN}) for row in found]

    def reading(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> LabelValues:
        items = [item for value in values for item in self._items(value, column, label_map or {}) or ()]
        return label_reading(items, self.labels, column, label_map, label_values)

    def _items(self, value: object, column: str, label_map: Mapping[str, str]) -> list | None:
        """The labels in a cell: a list, a list in JSON, or names between `;`, `|` or `,`."""
        if hasattr(value, "tolist"):  # of NumPy
            value = value.tolist()
        if isinstance(value, list | tuple):
            return list(value)
        if is_missing(value) and value != "[]":
            return None
        if not isinstance(value, str):
            return [value]
        text = value.strip()
        if text.startswith("["):
            try:
                items = json.loads(text)
            except ValueError as error:
                raise ValueError(
                    f"Column '{column}' of people's labels has {text[:80]!r}, expected a list of labels in JSON: {error}."
                ) from error
            return items if isinstance(items, list) else [items]
        known = {*self.labels, *label_map}
        parted = {mark: [part.strip() for part in text.split(mark)] for mark in ";|," if mark in text}
        if text in known or not parted:
            return [text]
        if len(parted) > 1 and not any(mark in name for name in known for mark in parted):
            raise ValueError(
                f"Column '{column}' of people's labels has {text[:80]!r}, which holds {' and '.join(parted)}: which one parts "
                f"the labels? Give lists in JSON, such as {json.dumps(list(self.labels[:2]), ensure_ascii=False)}."
            )
        free = [mark for mark in parted if not any(mark in name for name in known)]
        return [part for part in parted[(free or list(parted))[0]] if part]

    def targets(self, answers: Sequence[object]) -> NDArray[np.float64]:
        import numpy as np

        out = np.full((len(answers), len(self.labels)), np.nan)
        for i, answer in enumerate(answers):
            if answer is not None:
                out[i] = 0.0
                out[i, list(answer)] = 1.0  # type: ignore[call-overload]
        return out

    def untargeted(self, targets: NDArray[np.float64]) -> list:
        import numpy as np

        return [None if np.isnan(row).any() else np.flatnonzero(row > 0.5).tolist() for row in targets]

    def read(self, value: object, parse: Parse) -> tuple[object, str | None]:
        words = {normalize(word) for word in (*(word for words in self.verbalizers for word in words), *self.labels)}
        if isinstance(value, str):
            if normalize(value) == _NONE and _NONE in words:
                return None, f"says none at '{self.name}', which is a label and may mean that no label holds"
            parts = [part for part in _MARKS.split(value) if part.strip()]
            in_a_row = (
                normalize(value) not in words and len(parts) > 1 and all(normalize(part) in words for part in parts)
            )
            value = parts if in_a_row else [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return None, f"has no list of labels at '{self.name}'"
        if len(value) == 1 and normalize(value[0]) in {"", _NONE} - words:
            return [], None
        found: set[int] = set()
        for item in dict.fromkeys(value):
            label, reason = (self.labels.index(item), None) if item in self.labels else parse(item)
            if label == ABSTAIN:
                return None, f"{reason or 'has no label'} at '{self.name}'"
            found.add(label)
        return sorted(found), None

    def written(self, answer: object) -> object:
        return list(answer)  # type: ignore[call-overload]  # checked by `has`

    def said(self, answer: object) -> object:
        return [self.labels[i] for i in answer]  # type: ignore[attr-defined]

    def longest(self) -> object:
        return list(self.labels)

    def schema(self) -> dict[str, object]:
        return {"type": "array", "items": {"type": "string", "enum": list(self.labels)}}

    def wanted(self) -> str:
        return f"a list of those that hold of {', '.join(json.dumps(x, ensure_ascii=False) for x in self.labels)}; [] if none"

    def texts(self) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
        yes, no = self.yes_no
        out: list[tuple[str, tuple[tuple[str, ...], ...]]] = []
        for word, meaning in zip(self.words(), self.descriptions, strict=True):
            ask = self._fill(
                options=listed(self.words()),
                definitions=f"- {word}: {meaning}" if meaning else f"- {word}",
                label=word,
            )
            ask = ask if "{label}" in self.ask else f"{ask}\n{word}: {yes} or {no}?"
            out.append((ask, ((yes,), (no,))))
        return out

    def joined(self, scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
        return tuple(yes - no for yes, no in scores)

    def of_branches(self, labels: Sequence[int]) -> object:
        return [i for i, label in enumerate(labels) if label == 0]

    def shown(self, answer: object) -> list[tuple[str, str]]:
        """Every label that holds, and the first that does not."""
        absent = [label for label in self.labels if label not in answer][:1]  # type: ignore[operator]
        turns = []
        for label, (ask, _) in zip(self.labels, self.texts(), strict=True):
            if label in absent or label in answer:  # type: ignore[operator]
                turns.append((ask, f"{self.lead_in} {self.yes_no[label in absent]}".strip()))
        return turns

    def filled(self, options: str | None = None, definitions: str | None = None) -> str:
        words = self.words()
        lines = [f"- {w}: {d}" if d else f"- {w}" for w, d in zip(words, self.descriptions, strict=True)]
        return self._fill(
            definitions="\n".join(lines) if definitions is None else definitions,
            options=listed(words) if options is None else options,
            label=listed(words),  # all are asked about at once
        )

    def to_dict(self) -> dict[str, object]:
        return {**super().to_dict(), "yes_no": list(self.yes_no)}

    def has(self, answer: object) -> bool:
        known = isinstance(answer, tuple) and all(isinstance(x, str) and x in self.labels for x in answer)
        return known and len(set(answer)) == len(answer)  # type: ignore[arg-type, call-overload]

    def fault(self) -> str | None:
        fine = len(self.yes_no) == 2 and all(isinstance(word, str) and word.strip() for word in self.yes_no)
        if not fine or self.yes_no[0] == self.yes_no[1]:
            return f"yes_no must be two different words, in quotes in YAML; got {list(self.yes_no)!r}"
        return None
