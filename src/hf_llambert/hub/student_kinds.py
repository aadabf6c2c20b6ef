"""What cards say of each kind of student: its library, and what its logits are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from hf_llambert.notes import ENCODER
from hf_llambert.training.heads import Head, Labels, Number, noted_heads


@dataclass(frozen=True)
class StudentKind:
    """
    What a card says of a kind of student. How it is loaded, and its limits, are in the template `KIND.md.jinja`.

    Args:
        library (`str`): What loads it, as the Hub names it.
        tags (`tuple[str, ...]`): Of a card's metadata.
        has_vectors (`bool`): Whether its weights begin with those of the model that it was made from.
    """

    library: str
    tags: tuple[str, ...] = ()
    has_vectors: bool = False


STUDENT_KINDS: Mapping[str, StudentKind] = {
    ENCODER: StudentKind("transformers"),
    "linear": StudentKind("hf_llambert", ("linear", "tf-idf")),
    "static": StudentKind("model2vec", ("static", "static-embeddings"), has_vectors=True),
}


@dataclass(frozen=True)
class Logits:
    """
    The logits of one question, for a card.

    Args:
        question (`str`): Its name; an only one has none.
        first (`int`): The first of them.
        last (`int`): The last.
        names (`tuple[str, ...]`): A name for each.
        answer (`str`): What makes answers of them.
    """

    question: str
    first: int
    last: int
    names: tuple[str, ...]
    answer: str


def shown_logits(notes: Sequence[Mapping]) -> list[Logits]:
    """The logits of each question, from the notes of the heads in `training.json`."""
    return [
        Logits(
            head.name,
            head.first,
            head.first + head.size - 1,
            head.question.labels if head.size == len(head.question.labels) else (head.name or "the number",),
            _ANSWERS[head.question.kind, head.loss](head),
        )
        for head in noted_heads(notes)
    ]


def _by_threshold(head: Head) -> str:
    thresholds = cast(Labels, head).thresholds or (0.5,) * head.size
    named = ", ".join(f"{one:.4g} ({name})" for name, one in zip(head.question.labels, thresholds, strict=True))
    return f"the sigmoid of each is the probability that its label holds; it holds above {named}: thresholds in training.json"


def _by_number(head: Head) -> str:
    number, labels = cast(Number, head), head.question.labels
    return f"{number.mean:.6g} + {number.width:.6g} times it, kept from {labels[0]} to {labels[-1]}, is the answer"


_ANSWERS: Mapping[tuple[str, str], Callable[[Head], str]] = {
    ("choice", "cross_entropy"): lambda _: (
        "their softmax has the probability of each label; the largest is the answer"
    ),
    ("choices", "binary_cross_entropy"): _by_threshold,
    ("scale", "cross_entropy"): lambda _: (
        "their softmax has the probability of each level; the mean level is the answer"
    ),
    ("scale", "regression"): _by_number,
}
"""By the kind of a question and its loss: what makes answers of its logits."""
