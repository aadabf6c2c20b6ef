"""The options of `hf-llambert label` that let a fast student label what it is sure of, before the encoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.cascade import confidence_of
from hf_llambert.cli.options import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset

    from hf_llambert import ChosenBelow, StudentCascade, StudentLabeler

_KEPT = 0.995
_LOOKED_AT = 4_000  # texts
NOTE = "first_stage.json"

First = Annotated[
    str | None,
    typer.Option(
        "--first",
        help="Directory or Hub id of a fast student (linear or static) of the same task: it labels what it is sure of, and "
        "--student the rest.",
    ),
]
EncoderBelow = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder_below",
        help="With --first: the encoder labels where the fast student's confidence is below this, such as 0.9. Of several "
        "questions one for all, or QUESTION=0.9 for each; may be repeated.",
    ),
]
EncoderAgreement = Annotated[
    float | None,
    typer.Option(
        "--encoder_agreement",
        help="With --first: find that threshold from 4,000 texts of the pool, so that at least this share of the encoder's "
        "labels is certainly kept. Default: 0.995.",
    ),
]


def check_first(first: str | None, below: list[str] | None, agreement: float | None) -> None:
    """
    Refuse options that do not fit together, before anything is loaded.

    Raises:
        ValueError: They do not.
    """
    if first is None and (below or agreement is not None):
        given = "--encoder_below" if below else "--encoder_agreement"
        raise ValueError(f"{given} is about the fast student that --first names. Add --first, or drop {given}.")
    if below and agreement is not None:
        raise ValueError("--encoder_agreement finds the threshold that --encoder_below gives. Pass one of them.")
    if agreement is not None and not 0 < agreement < 1:
        raise ValueError(f"--encoder_agreement takes a share between 0 and 1, such as 0.995; got {agreement}.")
    for word in ",".join(below or []).split(",") if below else ():
        confidence_of(word.rpartition("=")[2], "encoder_below", 0.9)


def with_first(
    encoder: StudentLabeler,
    first: str,
    text_column: str,
    below: list[str] | None,
    agreement: float | None,
    pool: Dataset | str,
    output: Path,
    seed: int,
    split: str | None,
    form: Mapping,
) -> StudentCascade:
    """
    The fast student and the encoder as one labeler, with the threshold that was given; else with one that is chosen by what
    they say of some texts of the pool, which is noted in `OUTPUT/first_stage.json` and said.

    Raises:
        ValueError: `first` is no fast student, or not of the encoder's questions and labels; or a threshold is of no
            question.
    """
    from hf_llambert import StudentCascade, StudentLabeler
    from hf_llambert.training.student_cascade import check_pair

    fast = StudentLabeler(first, text_column)
    check_pair(fast, encoder)
    if below:
        return StudentCascade(fast, encoder, _below(below))
    chosen = _chosen(fast, encoder, agreement or _KEPT, pool, output, seed, split, form)
    for line in chosen.sentences(fast.kind):
        say(line)
    return StudentCascade(fast, encoder, chosen.below)


def students_said(results: Mapping) -> list[str]:
    """What each of two students labelled, by the results of `label_pool`."""
    from hf_llambert.notes import is_of_several
    from hf_llambert.pool.labelled import stage_sentences

    counts = results.get("by_stage", {})
    return [
        f"{name}: {line}" if name else line
        for name, one in (counts if is_of_several(counts) else {"": counts}).items()
        for line in stage_sentences(one)
    ]


def _below(given: list[str]) -> float | dict[str, float]:
    words = [word.strip() for word in ",".join(given).split(",")]
    if len(words) == 1 and "=" not in words[0]:
        return confidence_of(words[0], "encoder_below", 0.9)
    out: dict[str, float] = {}
    for word in words:
        name, equals, number = word.partition("=")
        if not equals or name in out:
            raise ValueError(
                f"--encoder_below takes one number for all questions, or QUESTION=0.9 once for each; got {', '.join(words)}."
            )
        out[name] = confidence_of(number, "encoder_below", 0.9)
    return out


def _chosen(
    fast: StudentLabeler,
    encoder: StudentLabeler,
    agreement: float,
    pool: Dataset | str,
    output: Path,
    seed: int,
    split: str | None,
    form: Mapping,
) -> ChosenBelow:
    """What was chosen for these students and this pool; chosen once, so that every process and every later call agree."""
    from hf_llambert import ChosenBelow, choose_below
    from hf_llambert.data import write_whole
    from hf_llambert.misfits import ANY, COUNT, SHARE, Shape
    from hf_llambert.notes import read_note
    from hf_llambert.pool.first_stage import sample_texts
    from hf_llambert.pool.sources import pool_pieces
    from hf_llambert.processes import everyones, process_state
    from hf_llambert.reading import FileFormat
    from hf_llambert.tasks.texts import column_names

    shares, by_question = ("share_kept", "confidence", "share_fast"), ("below", "kept", "lower")
    shape: Shape = {"n": COUNT, **dict.fromkeys(shares, SHARE), **dict.fromkeys(by_question, {ANY: SHARE})}
    found: dict | None = None
    if process_state().is_main_process:
        columns = tuple(column_names(encoder.text_column))
        form = dict(form)
        config = form.pop("config", None)
        pieces = pool_pieces(pool, split, FileFormat(text_columns=columns, **form), config)
        of = [fast.settings(), encoder.settings(), agreement, seed, columns, [piece.identity for piece in pieces]]
        digest = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]
        note = output / NOTE
        noted: dict = read_note(note, {"of": str, "chosen": shape}) if note.is_file() else {"of": ""}
        if noted["of"] == digest:
            found = noted["chosen"]
        else:
            texts = sample_texts(pieces, encoder.text_column, _LOOKED_AT, seed)
            found = asdict(choose_below(fast, encoder, texts, agreement))
            output.mkdir(parents=True, exist_ok=True)
            write_whole(note, json.dumps({"of": digest, "chosen": found}, indent=2) + "\n")
    return ChosenBelow(**(everyones(found)[0] or {}))
