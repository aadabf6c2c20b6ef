"""Below which confidence of a fast student an encoder labels instead: chosen by what the two say of the pool, without gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hf_llambert.pool.certified import TOP, certified_right, rows_needed
from hf_llambert.pool.promise import Promise
from hf_llambert.pool.sources import Piece, table_texts
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import TextColumn, why_unusable
from hf_llambert.training.student_cascade import StudentCascade, check_pair
from hf_llambert.training.students import StudentLabeler

_READ, _BLOCK = 100_000, 5_000  # rows


@dataclass(frozen=True)
class ChosenBelow:
    """
    The threshold of a fast student before an encoder, and what it comes to on the texts that it was chosen by.

    Args:
        below (`dict[str, float]`): The threshold of each question by name, for [`StudentCascade`]; one alone has the empty
            name. 1, the encoder for all, where none could be certified.
        share_kept (`float`): The share of the encoder's labels that had to be kept.
        confidence (`float`): Probability, over draws of texts, that it is, of all questions.
        n (`int`): Texts that both labelled.
        share_fast (`float`): Share of them that the encoder need not read.
        kept (`dict[str, float]`): Share of the encoder's answers that the two together give, by question.
        lower (`dict[str, float]`): Clopper and Pearson's one-sided lower bound of it.
    """

    below: dict[str, float]
    share_kept: float
    confidence: float
    n: int
    share_fast: float
    kept: dict[str, float]
    lower: dict[str, float]

    def sentences(self, kind: str) -> list[str]:
        """What was chosen, for people; `kind` is that of the fast student."""
        lines = []
        for name, below in self.below.items():
            of = f"{name}: " if name else ""
            if below >= 1:
                fewest = rows_needed(1.0, self.share_kept, (1 - self.confidence) / len(self.below))
                why = f"; fewer than {fewest:,} cannot tell" if fewest is not None and self.n < fewest else ""
                lines.append(
                    f"{of}the encoder answers all: of {self.n:,} texts no threshold is certain to keep {self.share_kept:.1%} of "
                    f"its labels{why}"
                )
                continue
            lines.append(
                f"{of}the {kind} student is believed from a confidence of {below:.4f} on: {self.kept[name]:.1%} of the encoder's "
                f"labels are kept, with {100 * self.confidence:g}% confidence at least {self.lower[name]:.1%}"
            )
        if self.share_fast:
            lines.append(f"the {kind} student answers {self.share_fast:.1%} of {self.n:,} texts itself")
        return lines


def choose_below(
    fast: StudentLabeler,
    encoder: StudentLabeler,
    texts: Sequence[object],
    agreement: float = 0.995,
    confidence: float = 0.95,
) -> ChosenBelow:
    """
    The least threshold at which a fast student and an encoder together certainly give almost all of the encoder's labels.

    Thresholds of a grid fixed beforehand are tested from "the encoder for all" downward, each by the exact binomial test,
    until one cannot be certified (a fixed sequence, as in [`guaranteed_threshold`]). Of several questions each has its own,
    and the risk is split evenly over them. An answer on a scale is kept where the two are at most half a step apart, one of
    several labels where all are the same.

    No gold is looked at. So a promise that gold certifies afterwards ([`calibrate_cascade`]) is about all stages.

    Args:
        fast (`StudentLabeler`): A linear or static student.
        encoder (`StudentLabeler`): An encoder that learnt the same questions and labels. It reads all of `texts`.
        texts (`Sequence`): A random draw from the pool; for 0.995 at least 598 usable ones, better some thousands.
        agreement (`float`, defaults to 0.995): Least share of the encoder's labels to keep, of each question.
        confidence (`float`, defaults to 0.95): Probability, over draws of texts, that it is.

    Returns:
        `ChosenBelow`: Its `below` is for [`StudentCascade`].

    Raises:
        ValueError: The two do not answer the same, a share is wrong, or no text is usable.
    """
    check_pair(fast, encoder)
    if not (0 < agreement < 1 and 0 < confidence < 1):
        raise ValueError(f"agreement and confidence must lie between 0 and 1, got {agreement} and {confidence}.")
    usable = [text for text in texts if why_unusable(text) is None]
    if not usable:
        raise ValueError(f"None of the {len(texts):,} texts is usable, so no threshold can be chosen by them.")
    first, second = fast.label(usable), encoder.label(usable)
    below, kept, lower = {}, {}, {}
    risk = (1 - confidence) / len(fast.questions)
    for name, question in fast.questions.items():
        column, sure = answer_column(name, question.answer_column), first[answer_column(name, "confidence")]
        found = certified_below(question, sure, first[column], second[column], agreement, 1 - risk)
        below[name], kept[name], lower[name] = found or (1.0, 1.0, 1.0)
    read = StudentCascade(fast, encoder, below).unsure(first)
    return ChosenBelow(below, agreement, confidence, len(usable), 1 - float(read.mean()), kept, lower)


def certified_below(
    question: Question, sure: Sequence, ours: Sequence, theirs: Sequence, agreement: float, confidence: float
) -> tuple[float, float, float] | None:
    """The least threshold, the share of the encoder's answers that are kept, and its bound; `None` without any below 1."""
    known = [i for i in range(len(sure)) if question.is_answer(ours[i]) and question.is_answer(theirs[i])]
    if not known:
        return None
    same = question.right([ours[i] for i in known], [theirs[i] for i in known])
    surest = np.array([sure[i] for i in known], dtype=np.float32)
    found = certified_right(surest, same, np.ones_like(same), Promise(agreement, confidence, "encoder"), TOP)
    if isinstance(found, str) or found.threshold >= 1:
        return None
    return found.threshold, found.share, found.lower


def sample_texts(pieces: Sequence[Piece], column: TextColumn, number: int, seed: int = 0) -> list[str]:
    """
    Usable texts of a pool at random: of at most 100,000 rows, which are blocks of 5,000 that lie anywhere where rows are
    counted before they are read (Parquet, datasets), elsewhere the first rows of files in random order.

    Args:
        pieces (`Sequence[Piece]`): The pool. What of it cannot be read is passed over.
        column (`str` or `Sequence[str]`): Column of the texts.
        number (`int`): How many texts, at most.
        seed (`int`, defaults to 0): Of the draw.
    """
    random = np.random.default_rng(seed)
    keys, kept = np.zeros(0), list[str]()
    for table in _tables(pieces, random):
        texts = [str(text) for text in table_texts(table, column) if why_unusable(text) is None]
        keys, kept = np.append(keys, random.random(len(texts))), kept + texts
        chosen = np.argsort(keys)[:number]
        keys, kept = keys[chosen], [kept[i] for i in chosen.tolist()]
    return kept


def _tables(pieces: Sequence[Piece], random: np.random.Generator) -> Iterator[pa.Table]:
    first = max(_READ // max(len(pieces), 1), _BLOCK)
    blocks = [
        (piece, start, start + (first if piece.num_rows is None else _BLOCK))
        for piece in pieces
        for start in range(0, 1 if piece.num_rows is None else piece.num_rows, _BLOCK)
    ]
    left = _READ
    for b in random.permutation(len(blocks)).tolist():
        piece, at, stop = blocks[b]
        with suppress(Exception):  # said when the piece is labelled
            for table in piece.read(at):
                part = table.slice(0, min(stop - at, left))
                at, left = at + part.num_rows, left - part.num_rows
                yield part
                if at >= stop or not left:
                    break
        if not left:
            return
