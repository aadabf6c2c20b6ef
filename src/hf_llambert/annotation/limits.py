"""What annotating may cost at most: money and hours, looked at between batches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hf_llambert.teachers.base import Reply, Teacher
from hf_llambert.teachers.endpoint import EndpointTeacher

logger = logging.getLogger(__name__)

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
class Spending:
    """
    What one process has spent of its [`Limits`].

    Args:
        limits (`Limits`): The caps.
        money (`float`, *optional*): This process's share of the money.
    """

    limits: Limits
    money: float | None
    spent: float = 0.0
    left_out: int = 0
    why: str | None = None
    _cost: Cost | None = None
    _begun: float = field(default_factory=time.monotonic)
    _dearest: float = 0.0
    _longest: float = 0.0
    _last: float | None = None

    def turn_to(self, name: str) -> None:
        """Count with the cost of this member of a jury from now on."""
        cost = self.limits.cost
        self._cost = cost.get(name) if isinstance(cost, Mapping) else cost
        if cost is not None and self._cost is None:
            raise ValueError(f"Limits has no cost of '{name}', only of {', '.join(cost)}. Add it.")  # type: ignore[arg-type]
        self._dearest, self._longest, self._last = 0.0, 0.0, None

    def add(self, seconds: float, input_tokens: float, output_tokens: float) -> float:
        """Count what was spent, in this run or an earlier one, and give its cost."""
        cost = 0.0 if self._cost is None else self._cost(seconds, input_tokens, output_tokens)
        self.spent += cost
        return cost

    def add_batch(self, replies: Iterable[Reply]) -> None:
        """Count a batch that came back just now. The next one is expected to take no more than the dearest so far."""
        now = time.monotonic()
        cost = sum(self.add(reply.seconds, reply.input_tokens, reply.output_tokens) for reply in replies)
        self._dearest = max(self._dearest, cost)
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now

    def over(self) -> bool:
        """Whether nothing more may be asked: a cap is reached, or another batch would pass it."""
        limits, hours = self.limits, (time.monotonic() - self._begun) / 3600
        if self.money is not None and (self.spent >= self.money or self.spent + self._dearest > self.money):
            self.why = f"{self.spent:,.6g} of {self.money:,.6g} {limits.currency}".rstrip() + " is spent"
        elif limits.max_hours is not None and hours + self._longest / 3600 >= limits.max_hours:
            self.why = f"{hours:,.3g} of {limits.max_hours:,.6g} hours are over"
        else:
            return False
        return True

    def warn(self) -> None:
        """Say how many texts were left out, where any were."""
        if self.left_out:
            logger.warning(
                "%s and another batch may not fit: %s texts were not asked about. What was answered is kept; the same command "
                "with a larger limit asks about these only.",
                self.why,
                f"{self.left_out:,}",
            )


def check_caps(limits: Limits, teachers: Iterable[Teacher]) -> None:
    """Refuse to cap the money of an endpoint here: requests in flight would be paid and lost."""
    for teacher in teachers:
        if limits.max_cost is not None and isinstance(teacher, EndpointTeacher):
            raise ValueError(
                f"EndpointTeacher '{teacher.model}' has caps of its own, which count what is in flight. Pass max_cost, "
                f"price_input and price_output to it, not max_cost to annotate."
            )
