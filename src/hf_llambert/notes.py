"""Reads the JSON notes of runs and checks their shape: a full disk, an editor or a kill may have damaged them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hf_llambert.misfits import (
    AGREE,
    AMOUNT,
    ANY,
    COUNT,
    DIFFERENCE,
    ROUNDING,
    SHARE,
    Chosen,
    Shape,
    Within,
    misfit,
    shown_value,
)
from hf_llambert.tasks.kinds import KINDS
from hf_llambert.tasks.spec import TaskSpec


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


def kind_shape(value: object) -> str | None:
    """Whether a value is a kind of question."""
    return None if isinstance(value, str) and value in KINDS else f"expected one of {', '.join(KINDS)}"


def empty_shape(value: object) -> str | None:
    """Whether a value is the empty object, the results of a stage that is not finished."""
    return None if value == {} else "expected an empty object"


def _quality_agrees(quality: Mapping) -> str | None:
    """Check the figures that the table of counts determines: what was expected and came, or `None`."""
    table, n = quality["confusion"], quality["n"]
    supports = [found["support"] for found in quality.get("per_class", {}).values()]
    if len(supports) == len(table) and [sum(row) for row in table] != supports:
        return f"expected the rows of 'confusion' to sum to each 'support', got {supports}"
    if sum(map(sum, table)) != n or not n:
        return f"expected {sum(map(sum, table))} rows, as 'confusion' has, at 'n', got {n}"
    share = sum(row[i] for i, row in enumerate(table)) / n
    if abs(share - quality["accuracy"]) > ROUNDING:
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


CALIBRATION: Shape = {
    "kind?": kind_shape,
    "method": str,
    "bias": [Within(float, -1000, 1000)],
    "temperature": Within(float, 0.001),
}
_PER_CLASS: Shape = {
    ANY: {
        **dict.fromkeys(("precision", "recall", "f1"), SHARE),
        **dict.fromkeys(("precision_low?", "precision_high?", "recall_low?", "recall_high?"), (SHARE, None)),
        "support": COUNT,
    }
}
_OF_ALL_KINDS: Shape = {"ece?": SHARE, "reliability?": bins_shape, "coverage?": SHARE}
_UNSURE: Shape = (SHARE, None)
_QUALITY: Shape = {
    **dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "macro_f1"), SHARE),
    "mcc": DIFFERENCE,
    "n": COUNT,
    **_OF_ALL_KINDS,
    "macro_f1_classes?": [str],
    "per_class": _PER_CLASS,
    "confusion": matrix_shape,
    AGREE: _quality_agrees,
}
_CHOICES_QUALITY: Shape = {
    "n": COUNT,
    **dict.fromkeys(("subset_accuracy", "subset_accuracy_low", "subset_accuracy_high"), SHARE),
    **{f"{name}{end}": _UNSURE for name in ("micro_f1", "macro_f1") for end in ("", "_low", "_high")},
    **_OF_ALL_KINDS,
    "macro_f1_classes": [str],
    "per_class": _PER_CLASS,
    "undefined": {ANY: str},
}
_SCALE_QUALITY: Shape = {
    "n": COUNT,
    **dict.fromkeys(("mae", "rmse"), AMOUNT),
    **dict.fromkeys(("mae_low", "mae_high"), (AMOUNT, None)),
    "pearson": (DIFFERENCE, None),
    **{f"{name}{end}": (DIFFERENCE, None) for name in ("spearman", "kappa") for end in ("", "_low", "_high")},
    **{f"{name}{end}": SHARE for name in ("accuracy", "within_half_step") for end in ("", "_low", "_high")},
    **{f"f1{end}": _UNSURE for end in ("", "_low", "_high")},
    "cut": float,
    **_OF_ALL_KINDS,
    "confusion": matrix_shape,
    "undefined": {ANY: str},
    AGREE: _quality_agrees,
}


def _quality_of(value: object) -> Shape:
    told = value if isinstance(value, Mapping) else {}
    return _CHOICES_QUALITY if "subset_accuracy" in told else _SCALE_QUALITY if "mae" in told else _QUALITY


QUALITY: Shape = Chosen(_quality_of)
"""Figures of answers to one question; see [`METRICS`]."""
_COUNTS: Shape = {
    **dict.fromkeys(("n_rows", "n_ok", "n_abstained", "n_failed", "n_truncated"), COUNT),
    "reasons": {ANY: COUNT},
    "labels": {ANY: COUNT},
    "coverage": SHARE,
    "label_mass": (AMOUNT, None),
    "calibration": (CALIBRATION, None),
    "quality?": (QUALITY, None),
    AGREE: _counts_agree,
}
_SPENT: Shape = {
    "seconds": AMOUNT,
    "input_tokens?": (COUNT, None),
    "output_tokens?": (COUNT, None),
    "texts_per_second": (AMOUNT, None),
    "mode": str,
    "settings?": dict,
}
_DECIDED: Shape = {
    "method": str,
    "n_ties": COUNT,
    "agreement": {ANY: (SHARE, None)},
    "believed": {ANY: (SHARE, None)},
}
_ANNOTATION: Shape = {
    **_COUNTS,
    **_SPENT,
    "members?": {ANY: {**_COUNTS, **_SPENT, "settings": dict}},
    "jury?": _DECIDED,
}
_MEASURED_ONCE = ("label_mass", "calibration")  # a jury has none
_OF_QUESTION: Shape = {f"{name}?" if name in _MEASURED_ONCE else name: shape for name, shape in _COUNTS.items()}
_SEVERAL: Shape = {
    **dict.fromkeys(("n_rows", "n_failed", "n_truncated"), COUNT),
    **_SPENT,
    "questions": {ANY: {**_OF_QUESTION, "jury?": (_DECIDED, None)}},
}
_ANNOTATION_OF_SEVERAL: Shape = {**_SEVERAL, "members?": {ANY: {**_SEVERAL, "settings": dict}}}
ANNOTATION: Shape = Chosen(
    lambda value: _ANNOTATION_OF_SEVERAL if isinstance(value, Mapping) and "questions" in value else _ANNOTATION
)


def is_of_several(figures: Mapping) -> bool:
    """Whether figures are by the names of questions, `{NAME: figures}`, and not those of one question."""
    return bool(figures) and all(isinstance(one, Mapping) for one in figures.values())


_EVAL: Shape = Chosen(
    lambda value: {ANY: QUALITY} if isinstance(value, Mapping) and is_of_several(value) else _measured(value)
)


def _measured(value: object) -> Shape:
    """The shape of figures of one question, with the speed of measuring."""
    return {**_quality_of(value), "texts_per_second?": (AMOUNT, None)}


_PAIRED: Shape = {**dict.fromkeys(("difference", "low", "high"), DIFFERENCE), "n": COUNT}
_SELECTION: Shape = [{"rule": str, "n": COUNT, "per_label": {ANY: COUNT}}]
TRAINED: Shape = {
    "train": {
        **dict.fromkeys(("n", "n_silver", "n_gold"), COUNT),
        "seed": int,
        "seconds": AMOUNT,
        "student": str,
        "selection": Chosen(lambda value: {ANY: _SELECTION} if isinstance(value, Mapping) else _SELECTION),
    },
    "eval?": (_EVAL, None),
    "linear?": {
        "unit": str,
        "features": COUNT,
        "seconds": AMOUNT,
        "eval": _EVAL,
        "difference": Chosen(
            lambda value: {ANY: _PAIRED} if isinstance(value, Mapping) and is_of_several(value) else _PAIRED
        ),
    },
}
_BY_STAGE: Shape = {ANY: COUNT}
LABELLED: Shape = {
    "n_labelled": COUNT,
    "n_unusable": COUNT,
    "seconds": AMOUNT,
    "texts_per_second": (AMOUNT, None),
    "complete?": bool,
    "agreement?": Chosen(lambda value: {ANY: SHARE} if isinstance(value, Mapping) else SHARE),
    "by_stage?": Chosen(
        lambda value: {ANY: _BY_STAGE} if isinstance(value, Mapping) and is_of_several(value) else _BY_STAGE
    ),
}
_MEASURED: Shape = {"value": SHARE, "low": SHARE, "high": SHARE}
_BOUGHT: Shape = {
    "n": COUNT,
    "student": _MEASURED,
    "cascade": _MEASURED,
    "difference": dict.fromkeys(("value", "low", "high"), DIFFERENCE),
}
_GOLD_BOUGHT: Shape = (
    {"all": (_BOUGHT, None), "asked": (_BOUGHT, None), "by_stage?": {ANY: {"n": COUNT, **_MEASURED}}},
    None,
)
_BY_QUESTION: Shape = Chosen(lambda value: {ANY: SHARE} if isinstance(value, Mapping) else SHARE)
GUARANTEE: Shape = {
    **dict.fromkeys(("threshold", "target", "confidence", "share", "lower", "share_asked"), SHARE),
    **dict.fromkeys(("n", "n_rows", "n_abstained", "n_told?", "input_tokens?", "output_tokens?"), COUNT),
    **dict.fromkeys(("against", "of"), str),
}
CASCADED: Shape = {
    **dict.fromkeys(("n", "n_asked", "n_changed", "n_abstained", "n_failed"), COUNT),
    "below": _BY_QUESTION,
    "threshold": _BY_QUESTION,
    "questions?": {
        ANY: {
            **dict.fromkeys(("n_by_teacher", "n_changed", "n_abstained", "n_failed"), COUNT),
            "reasons": {ANY: COUNT},
            "gold": _GOLD_BOUGHT,
            "by_stage?": _BY_STAGE,
        }
    },
    "seconds?": AMOUNT,
    "input_tokens?": COUNT,
    "output_tokens?": COUNT,
    "reasons?": {ANY: COUNT},
    "gold": _GOLD_BOUGHT,
    "by_stage?": _BY_STAGE,
    "promise?": {ANY: GUARANTEE},
}
_GOLD_COLUMN: Shape = Chosen(lambda value: [str] if isinstance(value, list) else (str, None))
CALIBRATIONS: Shape = Chosen(
    lambda value: {ANY: CALIBRATION} if isinstance(value, Mapping) and is_of_several(value) else CALIBRATION
)
TEXT_COLUMN: Shape = (str, [str])
ANNOTATION_CONFIG: Shape = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "gold_column?": Chosen(
        lambda value: {ANY: _GOLD_COLUMN} if isinstance(value, Mapping) and value else _GOLD_COLUMN
    ),
    "label_map?": ({ANY: Chosen(lambda value: {ANY: str} if isinstance(value, Mapping) else str)}, None),
    "label_values?": Chosen(lambda value: {ANY: str} if isinstance(value, Mapping) else str),
    "teacher?": dict,
    "labeler_calibration?": (CALIBRATIONS, None),
    "members?": {ANY: {"task": task_shape, "teacher": dict}},
}
TRAINING_CONFIG: Shape = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "eval_data?": (str, None),
    "arguments": {"seed": int},
}
ENCODER = "encoder"
"""The kind of students that are transformers; others are noted beside them."""
READING: Shape = {"max_length?": int, "head_share?": float, "fields?": [str]}
"""How a student reads; one that reads all of a text has no `max_length`."""
TRAINING: Shape = {
    "reading": READING,
    "training": {"arguments": {ANY: (str, int, float, bool)}},
    "kind?": str,
}
_SPREAD: Shape = {"values": [SHARE], "mean": SHARE, "low": SHARE, "high": SHARE}
_FREE_SPREAD: Shape = {"values": [float], "mean": float, "low": (float, None), "high": (float, None)}
_SEEDS: Shape = {
    "seeds": [int],
    "n": COUNT,
    "accuracy": _SPREAD,
    "macro_f1": _SPREAD,
    "training": str,
    AGREE: _seeds_agree,
}
_SEEDS_OF_SEVERAL: Shape = {
    "seeds": [int],
    "n": COUNT,
    "training": str,
    "questions": {ANY: {ANY: _FREE_SPREAD}},
}
SEEDS: Shape = Chosen(
    lambda value: _SEEDS_OF_SEVERAL if isinstance(value, Mapping) and "questions" in value else _SEEDS
)
_MADE: Shape = {"command": (str, None), "machine": str, "hf_llambert": str}
_LABELLED_BY: Shape = {
    "text_column": TEXT_COLUMN,
    "student?": (str, None),
    "first?": {"student": str, "backend": str},
    "encoder_below?": {ANY: SHARE},
}
_STAGES: Mapping[str, tuple[Shape, Shape]] = {
    "annotated": (ANNOTATION_CONFIG, ANNOTATION),
    "student": (TRAINING_CONFIG, TRAINED),
    "labels": (_LABELLED_BY, LABELLED),
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
            raise damaged_note(path, f"expected a JSON object, got {shown_value(note)}", advice)
        wrong = misfit(note, shape)
    except RecursionError as error:
        raise damaged_note(path, "it is nested too deeply", advice) from error
    except ValueError as error:
        raise damaged_note(path, error, advice) from error
    if wrong is not None:
        raise damaged_note(path, wrong, advice)
    return note


def damaged_note(path: Path, reason: object, advice: str | None = None) -> OSError:
    """The error that says that a note is damaged, and what to do."""
    advice = advice or f"Restore it, or remove '{path.parent}' and make it again."
    return OSError(f"'{path}' is damaged ({reason}). {advice}")
