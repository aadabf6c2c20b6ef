"""A question that one of the labels answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_llambert.tasks.names import normalize
from hf_llambert.tasks.question import Parse, Question
from hf_llambert.tasks.questions import ABSTAIN, LabelValues, label_ids, label_reading

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Features
    from numpy.typing import NDArray


class Choice(Question):
    """One of the labels. Columns: `label`."""

    kind = "choice"
    answer_column = "label"
    gold_is_name = True

    def own_features(self) -> Features:
        from datasets import ClassLabel, Features

        return Features({"label": ClassLabel(names=list(self.labels))})

    def no_answer(self) -> dict[str, object]:
        return {"label": ABSTAIN}

    def decide(
        self, probabilities: NDArray[np.float64], thresholds: Sequence[float] | None = None
    ) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {"label": pa.array(probabilities.argmax(1)), "confidence": pa.array(probabilities.max(1))}

    def column(self, answers: Sequence[object]) -> dict[str, list]:
        return {"label": list(answers)}

    def is_answer(self, answer: object) -> bool:
        return answer is not None and answer != ABSTAIN

    def right(self, answers: Sequence, gold: Sequence) -> NDArray[np.bool_]:
        import numpy as np

        return np.asarray(answers) == np.asarray(gold)

    def holds(self, answers: Sequence, label: int) -> NDArray[np.bool_]:
        import numpy as np

        return np.asarray(answers, dtype=np.int64) == label

    def apart(self, one: object, other: object) -> float:
        return float(one != other)

    def named(self, answer: object) -> list[str]:
        return [self.labels[answer]]  # type: ignore[call-overload]

    def gold(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> list:
        return label_ids(values, self.labels, column, label_map, label_values)

    def reading(
        self,
        values: Sequence[object],
        column: str,
        label_map: Mapping[str, str] | None = None,
        label_values: LabelValues = "auto",
    ) -> LabelValues:
        return label_reading(values, self.labels, column, label_map, label_values)

    def targets(self, answers: Sequence[object]) -> NDArray[np.float64]:
        import numpy as np

        out = np.full((len(answers), len(self.labels)), np.nan)
        for i, answer in enumerate(answers):
            if self.is_answer(answer):
                out[i] = np.eye(len(self.labels))[int(answer)]  # type: ignore[call-overload]
        return out

    def orders(self, answers: Sequence[object]) -> NDArray[np.float64]:
        """Whether it is each of the labels; of two, whether it is the second."""
        return self.targets(answers)[:, 1 if len(self.labels) == 2 else 0 :]

    def untargeted(self, targets: NDArray[np.float64]) -> list:
        import numpy as np

        return [ABSTAIN if np.isnan(row).any() else int(row.argmax()) for row in targets]

    def read(self, value: object, parse: Parse) -> tuple[object, str | None]:
        if isinstance(value, str) and value in self.labels:
            return self.labels.index(value), None
        if isinstance(value, bool):
            words = {
                normalize(word): i for i, words in enumerate(self.verbalizers) for word in (*words, self.labels[i])
            }
            found = words.get(json.dumps(value), ABSTAIN)
            return found, None if found != ABSTAIN else f"has no label at '{self.name}'"
        if not isinstance(value, str | int | float):
            return ABSTAIN, f"has no label at '{self.name}'"
        return parse(f"{value:g}" if isinstance(value, float) else str(value))

    def written(self, answer: object) -> object:
        return answer

    def schema(self) -> dict[str, object]:
        return {"type": "string", "enum": list(self.labels)}

    def wanted(self) -> str:
        *first, last = (json.dumps(label, ensure_ascii=False) for label in self.labels)
        return f"{', '.join(first)} or {last}"
