"""
One recorded answer as a reply's response or scores. A value that can be neither raises `ValueError`, for its row
alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from hf_llambert.tasks.label_messages import named, said_by_map
from hf_llambert.tasks.label_names import written
from hf_llambert.tasks.questions import ABSTAIN, value_key
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.recordings import Answer, clean

NOTHING = "the recorded file has no answer about this text"
_LEAST_PROBABILITY = 1e-12


def text_of(value: object) -> str:
    """A recorded answer as text."""
    if value is None:
        raise ValueError(NOTHING)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # a column of 1 and 2 with a gap is read as 1.0 and 2.0
        if math.isnan(value):
            raise ValueError(NOTHING)
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return clean(str(value))


def label_name(task: TaskSpec, value: object, meanings: Mapping[tuple[str, object], object]) -> str:
    """A label's name, which the task reads as that label; nothing for an abstention."""
    label = meanings.get(value_key(value))
    if label is None:
        raise ValueError(
            f"the recorded label {written(value)[:80]!r} is none of the labels {named(task.labels)}; say what it is: "
            f"{said_by_map(written(value)[:80], 'LABEL', 'recorded')} (recorded_map in Python)"
        )
    return "" if label == ABSTAIN else task.labels[label]  # type: ignore[call-overload]


def scores_of(task: TaskSpec, value: object, probabilities: bool) -> tuple[float, ...]:
    """Log-probabilities in label order, from a list or, in a CSV file, from its JSON."""
    if isinstance(value, str):
        value = json.loads(value)
    what = "probabilities" if probabilities else "log-probabilities"
    expected = f"expected {task.num_labels} {what}, got {str(value)[:100]}"
    if not isinstance(value, list) or len(value) != task.num_labels:
        raise ValueError(expected)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value):
        raise ValueError(f"{expected}; they must be finite")
    if not probabilities:
        if max(value) > 1e-6 or sum(map(math.exp, value)) > 1.001:
            raise ValueError(f"{expected}, which are no logarithms of probabilities")
        return tuple(min(float(v), 0.0) for v in value)
    if min(value) < 0 or not 0 < sum(value) <= 1.001:
        raise ValueError(f"{expected}, which are no probabilities")
    return tuple(math.log(max(v, _LEAST_PROBABILITY)) for v in value)


def word_scores(task: TaskSpec, value: object) -> tuple[float, ...]:
    """Each label's score from the likeliest first tokens. A label that is not among them has none, not a guessed one."""
    tokens = value if isinstance(value, dict) else {}
    scores = []
    for label, words in zip(task.labels, task.verbalizers, strict=True):
        mine = [math.exp(p) for token, p in tokens.items() if token.strip() in words]
        if not mine or not sum(mine):
            raise ValueError(f"no word of label '{label}' is among the recorded likeliest first tokens")
        scores.append(math.log(min(sum(mine), 1.0)))
    return tuple(scores)


def key_of(answer: Answer) -> str:
    """An answer's value, to compare it with another's."""
    return json.dumps(answer.value, sort_keys=True, default=str)
