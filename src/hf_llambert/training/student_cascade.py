"""Two students as one: a fast one labels what it is sure of, an encoder the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from datasets import Features, Value
from numpy.typing import NDArray

from hf_llambert.notes import ENCODER
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.training.columns import own_features
from hf_llambert.training.heads import Head
from hf_llambert.training.labeler import Encoded, Labeler, asked_of, in_words
from hf_llambert.training.students import StudentLabeler

Below = float | Mapping[str, float]


class StudentCascade(Labeler):
    """
    Labels with a fast student, and with an encoder the texts of which the fast one is less sure than a threshold in any
    question; made for [`label_pool`], `map`, [`cascade`] and [`calibrate_cascade`] like a [`StudentLabeler`].

    Of several questions the encoder reads a text for all of them, and where the fast student was sure enough of one, its own
    answer to that stays. The columns are those of a [`StudentLabeler`], and `student_source` (`student_NAME_source` of
    several questions): which of the two answered, `linear`, `static` or `encoder`; null where neither did. **Confidences and
    scores are each student's own**, and a 0.9 of one need not be right as often as a 0.9 of the other.

    Args:
        fast (`StudentLabeler`): A linear or static student.
        encoder (`StudentLabeler`): An encoder that learnt the same questions and labels.
        below (`float` or `Mapping[str, float]`): The encoder labels texts of which the fast student's confidence is below
            this, of several questions below any of theirs, by name or one for all. At 1 it labels all, at 0 none. See
            [`choose_below`] for one that needs no gold.

    Raises:
        ValueError: They are not a fast student and an encoder of the same questions, labels and columns; or a threshold is
            missing, of no question, or not from 0 to 1.
    """

    def __init__(self, fast: StudentLabeler, encoder: StudentLabeler, below: Below) -> None:
        check_pair(fast, encoder)
        self.fast, self._encoder = fast, encoder
        self.below = thresholds_of(below, fast.questions)
        """The threshold of each question by name; one alone has the empty name."""
        self.text_column = encoder.text_column
        noted = json.dumps([fast.identity, encoder.identity, self.below], sort_keys=True)
        self.identity = hashlib.sha256(noted.encode()).hexdigest()[:32]

    @property
    def encoder(self) -> StudentLabeler:
        """The second student."""
        return self._encoder

    @property
    def reads_strings(self) -> bool:
        """Arrow strings are for the fast student."""
        return True

    def encode(self, texts: Sequence[object] | pa.Array, rank: int | None = None) -> Encoded:
        """Label texts with the fast student, and tokenise for the encoder those that it is unsure of."""
        read = self.fast.encode(texts, rank)
        first = self.fast.score(read, rank)
        usable = np.asarray(read.of_text, dtype=np.int64)
        rows = usable[self.unsure(first)[usable]]
        if not len(rows):
            return Encoded(len(texts), [], [], first=first)
        unsure = texts.take(pa.array(rows)) if isinstance(texts, pa.Array) else [texts[i] for i in rows.tolist()]
        second = self.encoder.encode(unsure, rank)
        return replace(
            second, n_texts=len(texts), of_text=rows[np.asarray(second.of_text, dtype=np.int64)], first=first
        )

    def score(
        self, encoded: Encoded, rank: int | None = None, progress: Callable[[int], None] | None = None
    ) -> dict[str, pa.Array]:
        """Label with the encoder what was tokenised; see [`~Labeler.score`]."""
        first = encoded.first or {}
        second = self.encoder.score(replace(encoded, first=None), rank, progress)
        out: dict[str, pa.Array] = {}
        for head in self.heads:
            sure = answer_column(head.name, "confidence")
            answered = second[sure].is_valid().to_numpy(zero_copy_only=False)
            by_encoder = answered & self._unsure(first, head.name)
            places = pa.array(np.where(by_encoder, encoded.n_texts, 0) + np.arange(encoded.n_texts))
            for name in own_features([head]):
                out[name] = pa.concat_arrays([first[name], second[name]]).take(places)
            unanswered = ~out[sure].is_valid().to_numpy(zero_copy_only=False)
            source = np.where(by_encoder, ENCODER, self.fast.kind)
            out[answer_column(head.name, "source")] = pa.array(source, pa.string(), mask=unanswered)
        return out

    def unsure(self, first: Mapping[str, pa.Array | list]) -> NDArray[np.bool_]:
        """Which texts the encoder must read, by the fast student's columns; an unusable one counts too."""
        return np.any([self._unsure(first, name) for name in self.below], axis=0)

    def _unsure(self, first: Mapping[str, pa.Array | list], name: str) -> NDArray[np.bool_]:
        """Of which texts the fast student is less sure than a question's threshold, or has no answer."""
        sure = np.array(first[answer_column(name, "confidence")], dtype=np.float32)  # null becomes NaN
        below = self.below[name]
        return np.ones(len(sure), dtype=bool) if below >= 1 else ~(sure >= np.float32(below))

    def own_features(self) -> Features:
        """The columns that are added."""
        out = Features()
        for head in self.heads:
            out |= {**own_features([head]), answer_column(head.name, "source"): Value("string")}
        return out

    def settings(self) -> dict[str, object]:
        """See [`~Labeler.settings`]; `student` is the encoder."""
        return {**self.encoder.settings(), "first": self.fast.settings(), "encoder_below": dict(self.below)}

    def agreement(self, texts: Sequence[str]) -> float:
        """See [`~Labeler.agreement`]; as if the encoder labelled all of them."""
        return self.encoder.agreement(texts)

    def _read_heads(self) -> tuple[Head, ...]:
        return self.encoder.heads


def check_pair(fast: StudentLabeler, encoder: StudentLabeler) -> None:
    """Raise `ValueError` where two students are not a fast one and an encoder that answer the same."""
    if fast.kind == ENCODER:
        raise ValueError(
            f"'{fast.student}' is an encoder; the first of two students is a fast one, such as the linear student that is "
            f"trained beside every encoder, in its folder baseline."
        )
    if encoder.kind != ENCODER:
        raise ValueError(f"'{encoder.student}' is a {encoder.kind} student; the second of two students is an encoder.")
    own, others = asked_of(fast.questions), asked_of(encoder.questions)
    if own != others:
        raise ValueError(
            f"Two students that label together answer the same questions with the same labels. '{fast.student}' answers "
            f"{in_words(own)}; '{encoder.student}' answers {in_words(others)}. Train them on the same task."
        )
    if fast.text_column != encoder.text_column:
        raise ValueError(
            f"Two students that label together read the same columns. '{fast.student}' reads {fast.text_column!r}, "
            f"'{encoder.student}' {encoder.text_column!r}. Pass text_column=... to both."
        )


def thresholds_of(below: Below, questions: Mapping[str, Question]) -> dict[str, float]:
    """
    The threshold of each question, from one for all or one for each by name.

    Raises:
        ValueError: One is missing, of no question, or not from 0 to 1.
    """
    given = dict(below) if isinstance(below, Mapping) else dict.fromkeys(questions, below)
    if list(questions) == [""]:
        given = {"" if name == questions[""].name else name: one for name, one in given.items()}
    if set(given) != set(questions):
        names = ", ".join(name or questions[name].name for name in questions)
        raise ValueError(f"Expected a threshold of each question ({names}), got {below}.")
    if not all(0 <= one <= 1 for one in given.values()):
        raise ValueError(f"A threshold is a confidence from 0 to 1, got {below}.")
    return {name: float(given[name]) for name in questions}
