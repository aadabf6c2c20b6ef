"""A teacher's seconds, tokens and money by the lengths of texts, estimated from a sample that it answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_llambert.annotation.asked import Asked
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.limits import busy_seconds
from hf_llambert.planning.forecast import Estimate, Forecast, Moments, scaled
from hf_llambert.planning.prices import Price
from hf_llambert.teachers.endpoint import EndpointTeacher
from hf_llambert.teachers.local import TransformersTeacher

_FEW_BATCHES = 4
CACHED_FROM = 1024
"""Tokens from which on services cache the beginning of a prompt."""


@dataclass(frozen=True)
class Answer:
    """
    Seconds and tokens of one text of the sample.

    Args:
        text (`str`): The text.
        seconds (`float`): Its share of the time, as the ledger notes it.
        input_tokens (`int`): Tokens of its prompt.
        output_tokens (`int`): Tokens of the answer.
    """

    text: str
    seconds: float
    input_tokens: int
    output_tokens: int


class Lengths:
    """
    Lengths of texts: of their prompts in tokens where the teacher's tokenizer is here, else in characters.

    Args:
        labeler (`LLMLabeler`): Task and teacher.
    """

    def __init__(self, labeler: LLMLabeler) -> None:
        # Of several prompts about a text the longest: by it a text is cut.
        requests = Asked(labeler.task, labeler.teacher.mode, labeler.ask_apart, {}).requests
        nothing = labeler.task.filled("")
        self.task = max(requests, key=lambda task: sum(len(turn["content"]) for turn in task.messages(nothing)))
        self.teacher = labeler.teacher
        self.unit = "tokens" if isinstance(self.teacher, TransformersTeacher) else "characters"

    def measured(self, texts: Sequence[str]) -> tuple[list[int], list[int], int | None]:
        """Length of each text, of what is asked about it, and the longest that is not cut (`None`: not known here)."""
        if isinstance(self.teacher, TransformersTeacher):
            return self.teacher.measure(self.task, texts)
        own = [len(text) for text in texts]
        most = self.teacher.max_text_chars if isinstance(self.teacher, EndpointTeacher) else None
        return own, [min(n, most or n) for n in own], most

    def of(self, texts: Sequence[str]) -> list[int]:
        """The length of the prompt about each text."""
        return self.measured(texts)[1]


class Costs:
    """
    Seconds, tokens and money of texts by their lengths, learnt from the sample.

    Args:
        labeler (`LLMLabeler`): Task, teacher and ledger.
        answers (`list[Answer]`): What the sample took.
        lengths (`Lengths`): How texts are measured.
        notes (`list[str]`): What is not known is added to it.
    """

    def __init__(self, labeler: LLMLabeler, answers: list[Answer], lengths: Lengths, notes: list[str]) -> None:
        teacher = labeler.teacher
        sizes = lengths.of([answer.text for answer in answers])
        seconds = [answer.seconds for answer in answers]
        shares_time = not teacher.overlaps and len(set(seconds)) > 1
        batches = np.unique(seconds, return_inverse=True)[1].tolist() if shares_time else None
        self.seconds = Forecast(sizes, seconds, batches)
        self.input = Forecast(sizes, [answer.input_tokens for answer in answers])
        self.output = Forecast(sizes, [answer.output_tokens for answer in answers])
        prompts = ["".join(turn["content"] for turn in lengths.task.messages(answer.text)) for answer in answers]
        alike = len(os.path.commonprefix(prompts)) if len(set(prompts)) > 1 else 0
        self.shared_tokens = alike * sum(answer.input_tokens for answer in answers) / max(sum(map(len, prompts)), 1)
        """About how many tokens all prompts begin with."""
        self.tokens_unknown = not any(answer.input_tokens or answer.output_tokens for answer in answers)
        # Requests of an endpoint are in flight together: their seconds add up to more than passed.
        self.at_once, self.most_at_once = 1.0, 1.0
        if isinstance(teacher, EndpointTeacher):
            self.at_once = max(at_once(labeler, answers), 1.0)
            self.most_at_once = max(float(teacher.concurrency), self.at_once)
            notes.append(
                f"On average {self.at_once:.1f} requests of the sample were in flight; with all {teacher.concurrency} places "
                f"full a long run is faster. The interval of the hours reaches that far."
            )
        elif not sum(seconds):
            notes.append("The teacher's answers took no time that is known (recorded, or a batch's): hours are 0.")
        elif batches is None and len(seconds) > 1:
            notes.append(
                "The sample filled one batch: how far the hours may be off is not known, and full batches may be "
                "faster. A larger sample says more."
            )
        elif batches is not None and self.seconds.batches < _FEW_BATCHES:
            notes.append(
                f"The sample filled {self.seconds.batches} batch(es): full batches may be faster. A larger sample says more."
            )

    def of(self, texts: Moments, price: Price | None) -> dict:
        """Estimates for texts of these lengths."""
        seconds = self.seconds.total(texts)
        hours = scaled(seconds, 1 / self.at_once / 3600)
        hours["low"] = min(hours["low"], seconds["low"] / self.most_at_once / 3600)
        read, written = self.input.total(texts), self.output.total(texts)
        if self.tokens_unknown and price is not None and price.by_token:
            price = None
        return {
            "input_tokens": read,
            "output_tokens": written,
            "hours": hours,
            "money": money_of(price, hours, read, written),
        }


def cached_money(money: Estimate | None, price: Price, shared_tokens: float, requests: float) -> Estimate | None:
    """Money where all requests but the first read from a cache what they begin with; `None` where nothing says so."""
    if money is None or price.cached_input_per_million is None or shared_tokens < CACHED_FROM:
        return None
    saved = max(requests - 1, 0) * shared_tokens
    saved *= max((price.input_per_million or 0.0) - price.cached_input_per_million, 0.0) / 1e6
    return {end: max(money[end] - saved, 0.0) for end in ("value", "low", "high")}


def money_of(price: Price | None, hours: Estimate, read: Estimate, written: Estimate) -> Estimate | None:
    """Money for so many hours and tokens; `None` without a price."""
    if price is None:
        return None
    return {end: price.cost(hours[end] * 3600, read[end], written[end]) for end in ("value", "low", "high")}


def at_once(labeler: LLMLabeler, answers: list[Answer]) -> float:
    """How many requests were in flight on average while any was, whichever runs they are from."""
    ended = labeler.answered_at([answer.text for answer in answers])
    busy = busy_seconds((ended[answer.text] - answer.seconds, ended[answer.text]) for answer in answers)
    return sum(answer.seconds for answer in answers) / busy if busy else 1.0
