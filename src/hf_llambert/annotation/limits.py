"""Caps on the money and the hours of an annotation, checked between batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from hf_llambert.tasks.logs import get_logger
from hf_llambert.teachers.base import Reply, Teacher
from hf_llambert.teachers.batch import BatchTeacher
from hf_llambert.teachers.endpoint import EndpointTeacher

logger = get_logger(__name__)

Cost = Callable[[float, float, float], float]
"""Money for (seconds, tokens in, tokens out)."""


@dataclass(frozen=True)
class Limits:
    """
    Caps on one annotation. When one is reached the rest of the rows fail with that reason, everything that was answered is
    kept, and a later call with a larger cap asks about the rest only.

    Args:
        max_cost (`float`, *optional*): Most money for all rows, what earlier runs spent on them included.
        cost (`Callable` or `Mapping[str, Callable]`, *optional*): Money for (seconds, tokens in, tokens out), such as
            [`Price.cost`]; of a jury, by the member's name. Needed with `max_cost`.
        max_hours (`float`, *optional*): Most hours of this run by the clock, loading the teacher included.
        currency (`str`, defaults to `""`): Shown beside the money.

    Raises:
        ValueError: A cap is no positive number, or money is capped and nothing says what is paid.
    """

    max_cost: float | None = None
    cost: Cost | Mapping[str, Cost] | None = None
    max_hours: float | None = None
    currency: str = ""

    def __post_init__(self) -> None:
        for name in ("max_cost", "max_hours"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be a positive number, got {value!r}.")
        if self.max_cost is not None and self.cost is None:
            raise ValueError("max_cost needs to know what is paid: pass cost, such as that of a price table.")

    def begin(self, processes: int = 1) -> Spending:
        """Start the clock, for one of so many processes that share the money."""
        return Spending(self, None if self.max_cost is None else self.max_cost / processes)

    @property
    def reason(self) -> str:
        """Why a row has no answer that these caps kept from being asked about."""
        if self.max_cost is None and self.max_hours is None:
            return "not asked yet"
        caps = [] if self.max_cost is None else [f"max_cost {self.max_cost:,.6g} {self.currency}".rstrip()]
        caps += [] if self.max_hours is None else [f"max_hours {self.max_hours:,.6g}"]
        return f"not asked: a limit was reached ({', '.join(caps)}); raise it and run again"


@dataclass
class _Taken:
    """What one teacher took so far."""

    cost: Cost | None
    texts: int = 0
    paid: float = 0.0
    dearest_batch: float = 0.0
    longest_batch: float = 0.0
    last_batch: float | None = None


class Spending:
    """
    What one process has spent of its [`Limits`].

    Args:
        limits (`Limits`): The caps.
        money (`float`, *optional*): This process's share of the money.
    """

    def __init__(self, limits: Limits, money: float | None) -> None:
        self.limits, self.money = limits, money
        self.spent = 0.0
        self.left_out = 0
        self.why: str | None = None
        """Why texts are not asked about, once that is so."""
        self._begun = time.monotonic()
        self._teachers: dict[str, _Taken] = {}
        self._now = _Taken(None)

    def turn_to(self, name: str) -> None:
        """Count for this labeler from now on."""
        cost = self.limits.cost
        if isinstance(cost, Mapping):
            if name not in cost:
                raise ValueError(f"Limits has no cost of '{name}', only of {', '.join(cost)}. Add it.")
            cost = cost[name]
        self._now = self._teachers.setdefault(name, _Taken(cost))
        self._now.last_batch = None

    def add(self, replies: Collection[Reply]) -> float:
        """Count what these replies took, in this run or an earlier one, and give their cost."""
        now = self._now
        if now.cost is None:
            return 0.0
        cost = sum(now.cost(reply.seconds, reply.input_tokens, reply.output_tokens) for reply in replies)
        now.texts, now.paid, self.spent = now.texts + len(replies), now.paid + cost, self.spent + cost
        return cost

    def add_batch(self, replies: Collection[Reply]) -> None:
        """Count a batch that came back just now. The next one is expected to take no more than the dearest so far."""
        now, clock = self._now, time.monotonic()
        now.dearest_batch = max(now.dearest_batch, self.add(replies))
        if now.last_batch is not None:
            now.longest_batch = max(now.longest_batch, clock - now.last_batch)
        now.last_batch = clock

    def room(self, texts: int) -> int:
        """How many of so many texts may be asked about next, as far as is known what one costs."""
        if self.over():
            return 0
        if self.money is None or not self._now.paid:
            return texts
        room = int((self.money - self.spent) / (self._now.paid / self._now.texts))
        if room < 1:
            self._spent_up()
        return min(room, texts)

    def over(self) -> bool:
        """Whether nothing more may be asked: a cap is reached, or another batch would pass it."""
        most, hours = self.limits.max_hours, (time.monotonic() - self._begun) / 3600
        if self.money is not None and (self.spent >= self.money or self.spent + self._now.dearest_batch > self.money):
            self._spent_up()
        elif most is not None and hours + self._now.longest_batch / 3600 >= most:
            self.why = f"{hours:,.3g} of {most:,.6g} hours are over"
        else:
            return False
        return True

    def _spent_up(self) -> None:
        self.why = f"{self.spent:,.6g} of {self.money:,.6g} {self.limits.currency}".rstrip() + " is spent"

    def warn(self) -> None:
        """Say how many texts were left out, where any were."""
        if self.left_out:
            logger.warning(
                "%s and no more fits: %s texts were not asked about. What was answered is kept; the same command "
                "with a larger limit asks about these only.",
                self.why,
                f"{self.left_out:,}",
            )


def caps_itself(teacher: Teacher) -> TypeGuard[EndpointTeacher | BatchTeacher]:
    """Whether a teacher counts what is under way against caps of its own."""
    return isinstance(teacher, EndpointTeacher | BatchTeacher)


def check_caps(limits: Limits, teachers: Iterable[Teacher]) -> None:
    """Refuse to cap the money of an endpoint or a batch service here: requests under way would be paid and lost."""
    for teacher in teachers:
        if limits.max_cost is not None and caps_itself(teacher):
            raise ValueError(
                f"{type(teacher).__name__} '{teacher.model}' has caps of its own, which count what is in flight. Pass max_cost, "
                f"price_input and price_output to it, not max_cost to annotate."
            )


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one of these spans of (start, end)."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy
