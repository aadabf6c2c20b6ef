"""Rate and caps of an endpoint: adaptive concurrency, Retry-After, caps on requests, tokens and money."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

_FIRST_GUESS = 0.5  # tokens a byte, before the endpoint has counted any
_MARGIN = 1.2
_MEMORY, _TOO_MANY = 0.02, 0.2  # the last fifty answers or so


class Pacer:
    """
    Bounds the requests in flight: half as many when more than a fifth of the answers are complaints of overload, one more for
    each round of good answers (additive increase, multiplicative decrease, as TCP does), and none before the time that the
    endpoint asked to be left alone. A rare complaint slows only the request that got it.

    Args:
        most (`int`): Most requests in flight.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.in_flight = 0
        self._quiet_until = 0.0
        self._last_cut = 0.0
        self._complaints = 0.0  # their share, a moving average
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Wait for a place and hold it. Gives the time at which the request was let go, for [`~Pacer.complaint`]."""
        clock = asyncio.get_running_loop().time
        async with self._changed:
            while True:
                pause = self._quiet_until - clock()
                if pause <= 0 and self.in_flight < max(1, int(self.limit)):
                    break
                if pause > 0:
                    self._changed.release()
                    try:
                        await asyncio.sleep(pause)
                    finally:
                        await self._changed.acquire()
                else:
                    await self._changed.wait()
            self.in_flight += 1
        try:
            yield clock()
        finally:
            self.in_flight -= 1
            async with self._changed:
                self._changed.notify_all()  # the limit may have grown by more than this place

    def content(self) -> None:
        """Note a good answer: the limit grows."""
        self._complaints *= 1 - _MEMORY
        self.limit = min(self.most, self.limit + 1 / max(self.limit, 1))

    def complaint(self, sent: float, pause: float = 0.0) -> None:
        """Note a complaint of overload. Requests sent before the last cut do not cut the limit again."""
        now = asyncio.get_running_loop().time()
        self._quiet_until = max(self._quiet_until, now + pause)
        self._complaints += _MEMORY * (1 - self._complaints)
        if self._complaints > _TOO_MANY and sent >= self._last_cut:
            self.limit, self._last_cut = max(1.0, self.limit / 2), now


def backoff(attempt: int, first: float, most: float) -> float:
    """Seconds to wait before another attempt: exponential with full jitter (Brooker 2015)."""
    return random.uniform(0, min(most, first * 2**attempt))


@dataclass
class Budget:
    """
    Caps on what an endpoint is asked, per process. What is in flight counts with a cautious estimate, so that the caps are
    not overshot; the endpoint's own counts take its place when they come.

    Args:
        requests (`int`, *optional*): Most requests.
        tokens (`int`, *optional*): Most tokens, in and out.
        cost (`float`, *optional*): Most money.
        price_input (`float`, defaults to 0): Money for a million tokens in.
        price_output (`float`, defaults to 0): Money for a million tokens out.
    """

    requests: float | None = None
    tokens: float | None = None
    cost: float | None = None
    price_input: float = 0.0
    price_output: float = 0.0
    used_requests: int = 0
    used_tokens: float = 0.0
    used_cost: float = 0.0
    _bytes: int = 0
    _counted: int = 0

    def share(self, processes: int) -> Budget:
        """The part of one of several processes."""
        return replace(
            self,
            requests=None if self.requests is None else self.requests / processes,
            tokens=None if self.tokens is None else self.tokens / processes,
            cost=None if self.cost is None else self.cost / processes,
        )

    def reserve(self, size: int, most_output: int) -> tuple[float, float] | None:
        """Take what a request of `size` bytes may need, as (tokens in, tokens out); `None` when a cap forbids it."""
        per_byte = self._counted / self._bytes * _MARGIN if self._counted else _FIRST_GUESS
        need = size * per_byte + 8, float(most_output)
        cost = self._price(*need)
        for cap, used, more in (
            (self.requests, self.used_requests, 1),
            (self.tokens, self.used_tokens, sum(need)),
            (self.cost, self.used_cost, cost),
        ):
            if cap is not None and used + more > cap:
                return None
        self._add(1, *need)
        return need

    def take(self, requests: int, reserved: tuple[float, float]) -> None:
        """Count requests that an earlier run has sent, whatever the caps say."""
        self._add(requests, *reserved)

    def over(self) -> bool:
        """Whether more is used, or reserved, than a cap allows."""
        used = (self.used_requests, self.used_tokens, self.used_cost)
        return any(
            cap is not None and now > cap
            for cap, now in zip((self.requests, self.tokens, self.cost), used, strict=True)
        )

    def settle(self, reserved: tuple[float, float], size: int, counted: tuple[int, int] | None) -> None:
        """Replace a reservation by what was counted; without a count (the request failed) nothing was billed."""
        self._add(0, -reserved[0], -reserved[1])
        if counted is not None:
            self._add(0, *counted)
            self._bytes, self._counted = self._bytes + size, self._counted + counted[0]

    def _add(self, requests: int, tokens_in: float, tokens_out: float) -> None:
        self.used_requests += requests
        self.used_tokens += tokens_in + tokens_out
        self.used_cost += self._price(tokens_in, tokens_out)

    def _price(self, tokens_in: float, tokens_out: float) -> float:
        return (tokens_in * self.price_input + tokens_out * self.price_output) / 1e6
