"""Reads the JSON notes of runs and checks their shape: a full disk, an editor or a kill may have damaged them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_llambert.tasks.spec import TaskSpec

Shape = Any
"""
What a value of a note must be:

- a type: `int` is no boolean, `float` takes whole numbers too; `None` is null;
- [`Within`]: a number within bounds;
- a tuple: any one of its shapes;
- a list of one shape: a list of such values;
- a mapping: an object that has these fields, of these shapes; a name that ends in `?` may be missing, and the key `ANY`
  stands for every other name, `AGREE` for a function that says where fields that fit contradict one another;
- a function that returns why a value does not fit, or `None` where it does.
"""

ANY, AGREE = "", "="
_MOST = 2**63  # no count and no figure is more
_ROUNDING = 1e-5  # a mean of ones may come out a little above
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True)
class Within:
    """
    A number within bounds; never NaN.

    Args:
        kind (`type`): `int` or `float`.
        low (`float`, defaults to 0): The least.
        high (`float`, *optional*): The largest.
    """

    kind: type
    low: float = 0
    high: float = _MOST

    def __contains__(self, value: float) -> bool:
        return self.low - _ROUNDING <= value <= self.high + _ROUNDING

    def __str__(self) -> str:
        return f"{_NAMES[self.kind]} from {self.low}{f' to {self.high}' if self.high < _MOST else ''}"


COUNT, AMOUNT, SHARE = Within(int), Within(float), Within(float, high=1)
_DIFFERENCE = Within(float, -1, 1)


def task_shape(value: object) -> str | None:
    """Whether a value is a task as [`TaskSpec.to_dict`] writes it."""
    try:
        TaskSpec.from_dict(value)  # type: ignore[arg-type]  # it checks
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        return f"expected a task ({error!s:.200})"
    return None


def matrix_shape(value: object) -> str | None:
    """Whether a value is a square table of whole numbers."""
    rows = value if isinstance(value, list) else []
    if rows and all(misfit(row, [COUNT]) is None and len(row) == len(rows) for row in rows):
        return None
    return "expected a square table of whole numbers"


def bins_shape(value: object) -> str | None:
    """Whether a value is a list of bins: confidence, accuracy, rows."""
    rows = value if isinstance(value, list) else []
    if rows and all(misfit(one, [AMOUNT]) is None and len(one) == 3 and max(one[:2]) in SHARE for one in rows):
        return None
    return "expected a list of bins: confidence, accuracy, rows"


def empty_shape(value: object) -> str | None:
    """Whether a value is the empty object, the results of a stage that is not finished."""
    return None if value == {} else "expected an empty object"


def _quality_agrees(quality: Mapping) -> str | None:
    """Check the figures that the table of counts determines: what was expected and came, or `None`."""
    table, n = quality["confusion"], quality["n"]
    supports = [found["support"] for found in quality["per_class"].values()]
    if len(supports) == len(table) and [sum(row) for row in table] != supports:
        return f"expected the rows of 'confusion' to sum to each 'support', got {supports}"
    if sum(map(sum, table)) != n or not n:
        return f"expected {sum(map(sum, table))} rows, as 'confusion' has, at 'n', got {n}"
    share = sum(row[i] for i, row in enumerate(table)) / n
    if abs(share - quality["accuracy"]) > _ROUNDING:
        return f"expected {share:.6g}, as 'confusion' has it, at 'accuracy', got {quality['accuracy']}"
    return None


def _counts_agree(counts: Mapping) -> str | None:
    if abs(counts["n_ok"] - counts["coverage"] * counts["n_rows"]) > 0.5 or not counts["n_rows"]:
        return (
            f"expected 'n_ok' of 'n_rows' to be 'coverage', got {counts['n_ok']} of {counts['n_rows']} and "
            f"{counts['coverage']}"
        )
    return None


def _seeds_agree(seeds: Mapping) -> str | None:
    found = {len(seeds["seeds"]), len(seeds["accuracy"]["values"]), len(seeds["macro_f1"]["values"])}
    return None if len(found) == 1 and found.isdisjoint((0, 1)) else "expected a value for each of two seeds or more"


CALIBRATION: Shape = {"method": str, "bias": [Within(float, -1000, 1000)], "temperature": Within(float, 0.001)}
QUALITY: Shape = {
    **dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "macro_f1"), SHARE),
    "mcc": _DIFFERENCE,
    "n": COUNT,
    "ece?": SHARE,
    "reliability?": bins_shape,
    "macro_f1_classes?": [str],
    "coverage?": SHARE,
    "per_class": {
        ANY: {
            **dict.fromkeys(("precision", "recall", "f1"), SHARE),
            **dict.fromkeys(("precision_low?", "precision_high?", "recall_low?", "recall_high?"), (SHARE, None)),
            "support": COUNT,
        }
    },
    "confusion": matrix_shape,
    AGREE: _quality_agrees,
}
_COUNTS: Shape = {
    **dict.fromkeys(("n_rows", "n_ok", "n_abstained", "n_failed", "n_truncated"), COUNT),
    "reasons": {ANY: COUNT},
    "labels": {ANY: COUNT},
    "coverage": SHARE,
    "seconds": AMOUNT,
    "input_tokens?": (COUNT, None),
    "output_tokens?": (COUNT, None),
    "texts_per_second": (AMOUNT, None),
    "label_mass": (AMOUNT, None),
    "calibration": (CALIBRATION, None),
    "mode": str,
    "settings?": dict,
    "quality?": (QUALITY, None),
    AGREE: _counts_agree,
}
ANNOTATION: Shape = {
    **_COUNTS,
    "members?": {ANY: {**_COUNTS, "settings": dict}},
    "jury?": {
        "method": str,
        "n_ties": COUNT,
        "agreement": {ANY: (SHARE, None)},
        "believed": {ANY: (SHARE, None)},
    },
}
TRAINED: Shape = {
    "train": {
        **dict.fromkeys(("n", "n_silver", "n_gold"), COUNT),
        "seed": int,
        "seconds": AMOUNT,
        "student": str,
        "selection": [{"rule": str, "n": COUNT, "per_label": {ANY: COUNT}}],
    },
    "eval?": ({**QUALITY, "texts_per_second?": (AMOUNT, None)}, None),
}
LABELLED: Shape = {
    "n_labelled": COUNT,
    "n_unusable": COUNT,
    "seconds": AMOUNT,
    "texts_per_second": (AMOUNT, None),
    "complete?": bool,
    "agreement?": SHARE,
}
_MEASURED: Shape = {"value": SHARE, "low": SHARE, "high": SHARE}
_BOUGHT: Shape = {
    "n": COUNT,
    "student": _MEASURED,
    "cascade": _MEASURED,
    "difference": dict.fromkeys(("value", "low", "high"), _DIFFERENCE),
}
CASCADED: Shape = {
    **dict.fromkeys(("n", "n_asked", "n_changed", "n_abstained", "n_failed"), COUNT),
    "below": SHARE,
    "threshold": SHARE,
    "seconds?": AMOUNT,
    "input_tokens?": COUNT,
    "output_tokens?": COUNT,
    "reasons?": {ANY: COUNT},
    "gold": ({"all": (_BOUGHT, None), "asked": (_BOUGHT, None)}, None),
}
TEXT_COLUMN: Shape = (str, [str])
ANNOTATION_CONFIG: Shape = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "gold_column?": (str, None),
    "label_map?": ({ANY: str}, None),
    "label_values?": str,
    "teacher?": dict,
    "labeler_calibration?": (CALIBRATION, None),
    "members?": {ANY: {"task": task_shape, "teacher": dict}},
}
TRAINING_CONFIG: Shape = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "eval_data?": (str, None),
    "arguments": {"seed": int},
}
TRAINING: Shape = {
    "reading": {"max_length": int, "head_share?": float, "fields?": [str]},
    "training": {"arguments": {ANY: (str, int, float, bool)}},
}
_SPREAD: Shape = {"values": [SHARE], "mean": SHARE, "low": SHARE, "high": SHARE}
SEEDS: Shape = {
    "seeds": [int],
    "n": COUNT,
    "accuracy": _SPREAD,
    "macro_f1": _SPREAD,
    "training": str,
    AGREE: _seeds_agree,
}
_MADE: Shape = {"command": (str, None), "machine": str, "hf_llambert": str}
_STAGES: Mapping[str, tuple[Shape, Shape]] = {
    "annotated": (ANNOTATION_CONFIG, ANNOTATION),
    "student": (TRAINING_CONFIG, TRAINED),
    "labels": ({"text_column": TEXT_COLUMN, "student?": (str, None)}, LABELLED),
    "cascade": ({"task": task_shape, "text_column": TEXT_COLUMN, "labels?": (str, None)}, CASCADED),
}


def read_stage(path: Path, kind: str) -> dict:
    """
    The note of a finished or a begun stage.

    Args:
        path (`Path`): Its `stage.json`.
        kind (`str`): `annotated`, `student`, `labels` or `cascade`.

    Returns:
        `dict`: `config`, `results` (of labels and a cascade empty where they are not done) and, but for old ones, `made`.

    Raises:
        OSError: There is none, or it is damaged.
    """
    config, results = _STAGES[kind]
    if kind in ("labels", "cascade"):  # the others appear when they are done
        results = (results, empty_shape)
    return read_note(path, {"config": config, "results": results, "made?": _MADE})


def read_note(path: Path, shape: Shape = dict, advice: str | None = None) -> dict:
    """
    A note that this library wrote as a JSON object.

    Args:
        path (`Path`): The file.
        shape (`Shape`, *optional*): What must be in it.
        advice (`str`, *optional*): What to do where it is damaged. Defaults to making its folder again.

    Raises:
        OSError: There is no such file, or it is damaged: not UTF-8, cut off, nested too deeply, or of another shape. The
            message names the place in it, what was expected there and what came.
    """
    try:
        written = path.read_text(encoding="utf-8")
        note = json.loads(written)
        if "\\u" in written:  # maybe half a character, which nothing can be written with
            json.dumps(note, ensure_ascii=False).encode()
        if not isinstance(note, dict):
            raise damaged_note(path, f"expected a JSON object, got {_shown(note)}", advice)
        wrong = misfit(note, shape)
    except RecursionError as error:
        raise damaged_note(path, "it is nested too deeply", advice) from error
    except ValueError as error:
        raise damaged_note(path, error, advice) from error
    if wrong is not None:
        raise damaged_note(path, wrong, advice)
    return note


def misfit(value: object, shape: Shape, place: str = "") -> str | None:
    """Where a value is not of a shape, what was expected there and what came; `None` where it fits."""
    if isinstance(shape, tuple):
        return _misfit_of_all(value, shape, place)
    if isinstance(shape, Mapping):
        return _misfit_of_object(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list):
        return _first(misfit(one, shape[0], f"{place}[{k}]") for k, one in enumerate(value))
    if isinstance(shape, list):
        return _wrong(place, "a list", value)
    if isinstance(shape, (type, Within)) or shape is None:
        return None if _is_a(value, shape) else _wrong(place, _name(shape), value)
    said = shape(value)
    return None if said is None else f"{place or 'it'}: {said}, got {_shown(value)}"


def _misfit_of_all(value: object, shapes: tuple[Shape, ...], place: str) -> str | None:
    found = [misfit(value, one, place) for one in shapes]
    if None in found:
        return None
    nearest = next((said for one, said in zip(shapes, found, strict=True) if type(value) is type(one)), None)
    return nearest or _wrong(place, _name(shapes), value)


def _misfit_of_object(value: object, shape: Mapping[str, Shape], place: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(place, "an object", value)
    inside = f"{place}." if place else ""
    for name, one in shape.items():
        known = name.removesuffix("?")
        if name == AGREE:
            said = one(value)
            wrong = None if said is None else f"{place or 'it'}: {said}"
        elif name == ANY:
            wrong = _first(misfit(v, one, f"{inside}{k}") for k, v in value.items() if k not in shape)
        elif known in value:
            wrong = misfit(value[known], one, f"{inside}{known}")
        else:
            wrong = None if name.endswith("?") else f"expected {_name(one)} at '{inside}{known}', which is missing"
        if wrong is not None:
            return wrong
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _is_a(value: object, kind: type | Within | None) -> bool:
    if isinstance(kind, Within):
        return _is_a(value, kind.kind) and value in kind  # type: ignore[operator]  # a number
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind in (bool, object)
    if isinstance(value, int) and abs(value) > _MOST:
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _wrong(place: str, expected: str, value: object) -> str:
    return f"expected {expected}{f' at {place!r}' if place else ''}, got {_shown(value)}"


def _name(shape: Shape) -> str:
    if isinstance(shape, type):
        return _NAMES.get(shape, shape.__name__)
    if isinstance(shape, Within):
        return str(shape)
    if isinstance(shape, tuple):
        return " or ".join(_name(one) for one in shape)
    if isinstance(shape, (Mapping, list)):
        return _NAMES[dict if isinstance(shape, Mapping) else list]
    if shape is None:
        return "null"
    return {task_shape: "a task", empty_shape: "an empty object"}.get(shape, "a table")


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return f"{_NAMES[type(value)]}: {shown[:60]}{'…' * (len(shown) > 60)}" if value is not None else "null"


def damaged_note(path: Path, reason: object, advice: str | None = None) -> OSError:
    """The error that says that a note is damaged, and what to do."""
    advice = advice or f"Restore it, or remove '{path.parent}' and make it again."
    return OSError(f"'{path}' is damaged ({reason}). {advice}")
