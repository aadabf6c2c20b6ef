"""What was distilled from a run's student, as its note has it, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from hf_llambert.misfits import AMOUNT, ANY, COUNT, DIFFERENCE, SHARE, Chosen, Shape
from hf_llambert.notes import GUARANTEE, is_of_several, read_note
from hf_llambert.pool.labelled import run_student
from hf_llambert.pool.promise import Guarantee

STUDENTS = "students"
"""Folder of a run with the students distilled from its encoder."""
DISTILLED_FILE = "distilled.json"
_PAIRED: Shape = {**dict.fromkeys(("difference", "low", "high"), DIFFERENCE), "n": COUNT}
_DISTILLED: Shape = {
    "kind": str,
    "folder": str,
    "num_rows": COUNT,
    **dict.fromkeys(("right", "encoder", "agreement"), SHARE),
    **dict.fromkeys(("texts_per_second", "times"), AMOUNT),
    "guarantee?": (
        {ANY: Chosen(lambda value: {"why": str} if isinstance(value, Mapping) and "why" in value else GUARANTEE)},
        None,
    ),
    "difference": Chosen(
        lambda value: {ANY: _PAIRED} if isinstance(value, Mapping) and is_of_several(value) else _PAIRED
    ),
}
_NOTE: Shape = {
    "students": {ANY: _DISTILLED},
    "curve": [_DISTILLED],
    "within": SHARE,
    "chosen": str,
    "from": (str, None),
}


def read_distilled(run: Path) -> tuple[dict | None, str | None]:
    """
    What was distilled from the student that a run has now, or a sentence why it is left out; neither where nothing was.

    Raises:
        OSError: The note is damaged.
    """
    path = run / STUDENTS / DISTILLED_FILE
    if not path.is_file():
        return None, None
    note = read_note(path, _NOTE)
    if note["from"] == run_student(run):
        return note, None
    return (
        None,
        f"'{STUDENTS}' is left out: it was distilled from another student. Run hf-llambert distill {run.name} again.",
    )


def distilled_summary(found: Mapping) -> Iterator[str]:
    """What [`distill_student`] made, in sentences: each student beside the encoder, and which one to use."""
    for one in found["students"].values():
        several = {} if "low" in one["difference"] else one["difference"]
        compared = "; ".join(
            f"{f'{name} ' if name else ''}{100 * part['difference']:+.1f} points ({100 * part['low']:+.1f} to "
            f"{100 * part['high']:+.1f}, {part['n']:,} texts)"
            for name, part in (several or {"": one["difference"]}).items()
        )
        yield (
            f"{one['kind']}, from {one['num_rows']:,} texts: {one['right']:.1%} right, the encoder {one['encoder']:.1%}: "
            f"{compared}; the encoder's answers on {one['agreement']:.1%}; {one['texts_per_second']:,.0f} texts/s, "
            f"{one['times']:,.0f} times the encoder's"
        )
        for name, guarantee in (one.get("guarantee") or {}).items():
            yield f"{one['kind']}{f', {name}' if name else ''}: {_promised(one['kind'], guarantee)}"
    points = f"{100 * found['within']:g} point{'' if found['within'] == 0.01 else 's'}"
    if found["chosen"] == "encoder":
        yield f"none is certainly within {points} of the best: use the encoder, distil more texts, or measure on more gold"
    else:
        yield f"use {found['chosen']}: the fastest that is certainly within {points} of the best"


def _promised(kind: str, guarantee: Mapping) -> str:
    """What was certified of a student, in words."""
    if "why" in guarantee:
        return str(guarantee["why"])
    one = Guarantee(**guarantee)
    if one.threshold > 0:
        return one.sentence("encoder")
    rows = "gold rows" if one.against == "gold" else "rows of the pool"
    return f"the {kind} student alone, on {one.n_rows:,} {rows}: {one.measured()}"
