"""The requests of one call to an endpoint: many at a time, repeated where that helps, replies yielded as they come."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hf_llambert.processes import world_size
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.requests import tokens_for
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import GAP
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.keys import check_labels, redactor
from hf_llambert.teachers.logprobs import NoLogprobs
from hf_llambert.teachers.pacing import Budget, Pacer, backoff
from hf_llambert.teachers.protocol import (
    Again,
    ParameterRefused,
    RowError,
    Unreadable,
    body_error,
    obeys,
    read_answer_body,
    read_json,
    refused_parameter,
    request_body,
    retry_after,
    server_message,
)
from hf_llambert.teachers.server import Served
from hf_llambert.teachers.transport import TooLong, make_client, one_line, post

if TYPE_CHECKING:
    import httpx2

logger = get_logger(__name__)

_UNREACHABLE = "cannot be reached"
_NOT_AGAIN = (400, 404, 405, 413, 422)  # the request itself is wrong; asking again changes nothing
_UNPAID = 402
_REFUSED = (401, _UNPAID, 403)
_FEW = 20  # failed texts in a row that stop nothing, however little is in flight
_UNSCORED = 3  # first answers without logprobs that stop the run


class _PutOff(Exception):
    """Raised for a text that is not asked about because the run is about to stop."""


class _KeyRefused(PermissionError):
    """The endpoint refused the key before it answered anything."""


class Requests:
    """The requests of one call of `ask`, and their state."""

    def __init__(self, teacher: Served, task: TaskSpec, texts: Sequence[str]) -> None:
        self.teacher, self.task, self.texts = teacher, task, texts
        self.done: queue.SimpleQueue[tuple[int, Reply] | BaseException | None] = queue.SimpleQueue()
        caps = (teacher.max_requests, teacher.max_tokens, teacher.max_cost)
        self.budget = _budget(teacher, Budget(*caps, teacher.price_input, teacher.price_output).share(world_size()))
        self.structured = teacher.structured
        self.answered = self.obeyed = self.disobeyed = self.lost = self.unscored = 0
        self.redact = redactor("")
        self.refused = 0  # texts in a row for which the key was refused
        self.refusals: list[tuple[int, _KeyRefused]] = []
        self.left: list[int] = []  # texts that were put off when the run was about to stop
        self.sending: set[asyncio.Task | None] = set()  # with requests under way
        self.stopping = False

    async def run(self) -> None:
        """Ask about everything; what comes back, and at the end `None` or the error that stopped it, goes to `done`."""
        teacher = self.teacher
        try:
            most = max(1, teacher.concurrency // world_size())
            self.key = teacher.key()
            self.redact = redactor(self.key)
            check_labels(self.task.parts.values(), self.redact, teacher.api_key_variable)
            async with make_client(self.key, teacher.address) as self.client:
                self.pacer = Pacer(most)
                positions: Iterator[int] = iter(range(len(self.texts)))
                while (error := await self._ask_until_it_fails(positions, most)) is not None:
                    if not (isinstance(error, _KeyRefused) and self.answered):
                        raise error
                    for position, refusal in self.refusals:  # others were answered meanwhile: it is about these texts
                        self.done.put((position, Reply(error=str(refusal))))
                    positions = chain(self.left, positions)
                    self.refusals, self.left = [], []
            if self.disobeyed:
                logger.warning(
                    "%d of %d answers ignored structured output: only %s counts.",
                    self.disobeyed,
                    self.answered,
                    "what the schema has" if self.task.is_json else "a bare label",
                )
            self.done.put(None)
        except BaseException as error:  # noqa: BLE001  (goes to the thread that waits)
            self.done.put(error)

    async def _ask_until_it_fails(self, positions: Iterator[int], most: int) -> Exception | None:
        """
        Ask until all is answered or an error stops the run, and return that error. Requests under way then are waited
        for, since they may be paid for; texts that were not asked about stay in `left`.
        """
        self.stopping = False
        workers = [asyncio.ensure_future(self._work(positions)) for _ in range(min(most, len(self.texts)))]
        try:
            done, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            first = [one.exception() for one in done]
            self.stopping = any(error is not None for error in first)
            for worker in pending - self.sending:
                worker.cancel()
            ended = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        errors = [error for error in [*first, *ended] if isinstance(error, Exception)]
        return next((error for error in errors if not isinstance(error, _KeyRefused)), errors[0] if errors else None)

    async def _work(self, positions: Iterator[int]) -> None:
        for position in positions:
            try:
                reply = await self._reply(self.texts[position])
            except _KeyRefused as error:
                self.refusals.append((position, error))
                raise
            except (_PutOff, asyncio.CancelledError):
                self.left.append(position)
                return
            self.done.put((position, reply))
            while self.done.qsize() > self.pacer.most:  # not written yet: a kill would lose them
                await asyncio.sleep(0.005)
            if self.stopping:
                return

    async def _reply(self, text: str) -> Reply:
        """The reply to a text after as many attempts as it takes or is allowed."""
        teacher, start, attempts = self.teacher, time.monotonic(), 0
        text, cut = _cut(text, teacher.max_text_chars)
        refused: RowError | None = None  # with response_format
        while True:
            structured = self.structured and refused is None
            try:
                reply = await self._attempt(text, structured)
                if refused is not None and self.structured and not self.obeyed:  # else it is this text
                    logger.warning("The endpoint may take no response_format (%s): asking without it.", refused)
                    self.structured = False
                return dataclasses.replace(reply, truncated=cut)
            except RowError as error:
                if not structured or error.status != 400 or isinstance(error, ParameterRefused):
                    return Reply(error=str(error))
                refused = error
                continue
            except Again as error:
                attempts += not error.overloaded  # to be sent away is no failure; the deadline ends it
                wait = max(error.pause, backoff(attempts, teacher.first_wait, 60.0))
                tried = f"after {attempts} attempts" if attempts >= teacher.max_attempts else None
                if tried is None and time.monotonic() - start + wait > teacher.deadline:
                    tried = f"given up: deadline {teacher.deadline:g} s"
                if tried is not None:
                    self._check_that_some_succeed(str(error), tried)
                    return Reply(error=f"{error} ({tried})")
            if self.stopping:
                raise _PutOff
            await asyncio.sleep(wait)

    async def _attempt(self, text: str, structured: bool) -> Reply:
        """One request. The budget is charged with what it took."""
        payload = request_body(self.teacher, self.task, text, structured)
        size = len(json.dumps(payload).encode())
        reserved = self.budget.reserve(size, tokens_for(self.task, self.teacher.max_new_tokens))
        if reserved is None:
            raise RowError("the budget is spent: raise max_requests, max_tokens or max_cost, and run again", 0)
        counted: tuple[int, int] | None = None
        try:
            async with self.pacer.slot() as sent:
                self.sending.add(asyncio.current_task())
                begun = time.monotonic()
                body = await self._post(payload)
            reply = self._read(body, structured)
            counted = (reply.input_tokens or int(reserved[0]), reply.output_tokens or int(reserved[1]))
            self.pacer.content()
            self.answered, self.lost, self.refused = self.answered + 1, 0, 0
            if structured:
                obeyed = obeys(reply.response, self.task)
                self.obeyed, self.disobeyed = self.obeyed + obeyed, self.disobeyed + (not obeyed)
            return dataclasses.replace(reply, seconds=time.monotonic() - begun)
        except NoLogprobs as error:
            counted = int(reserved[0]), int(reserved[1])
            self.unscored += 1
            if not self.answered and self.unscored >= min(_UNSCORED, len(self.texts)):
                raise
            raise RowError(str(error), 0) from None  # this answer only
        except (Again, RowError) as error:
            if error.billed:  # nobody knows what the server did: count it in full
                counted = int(reserved[0]), int(reserved[1])
            if isinstance(error, Again) and error.overloaded:
                self.pacer.complaint(sent, error.pause)
            raise
        finally:
            self.sending.discard(asyncio.current_task())
            self.budget.settle(reserved, size, counted)

    def _read(self, body: object, structured: bool) -> Reply:
        """The reply in an answer, without the key if the server put it there. Any error fails this text alone."""
        if said := body_error(body):
            raise Again(f"the server says {one_line(self.redact(said))}", billed=True)
        try:
            reply = read_answer_body(self.teacher, self.task, body, structured)
            return (
                reply if reply.response is None else dataclasses.replace(reply, response=self.redact(reply.response))
            )
        except (Again, NoLogprobs, RowError):
            raise
        except Exception as error:  # noqa: BLE001  (a server can send anything)
            raise RowError(f"the answer cannot be read: {type(error).__name__}", 0, billed=True) from None

    def _check_that_some_succeed(self, reason: str, tried: str) -> None:
        self.lost += 1
        if self.lost > max(_FEW, 2 * self.pacer.most) or (not self.answered and _UNREACHABLE in reason):
            raise ConnectionError(
                f"Stopped: {reason}, {self.lost} text(s) in a row ({tried}). What was answered is kept; run again when the "
                f"endpoint is well."
            )

    async def _post(self, payload: dict) -> object:
        """
        The JSON of the server's answer. Errors on the way are raised as `Again`, as `RowError`, or as one that stops
        the run.
        """
        import httpx2
        from huggingface_hub import constants

        teacher = self.teacher
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(
                "HF_HUB_OFFLINE is set, and with it no endpoint is asked, not even a local one. Unset it."
            )
        place, content = (
            "/chat/completions" if self.task.chat else "/completions",
            {"model": teacher.served_model, **payload},
        )
        try:
            answer = await asyncio.wait_for(post(self.client, place, content), teacher.timeout)
            if answer.is_success:
                return read_json(answer.content)
        except TooLong as error:
            raise RowError(str(error), 0, billed=True) from None
        except Unreadable as error:
            raise RowError(f"the answer {error}", 0, billed=True) from None
        except RecursionError:
            raise RowError("the answer is nested too deeply", 0, billed=True) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise Again(f"no answer within {teacher.timeout:g} s", billed=True) from None
        except (httpx2.HTTPError, OSError) as error:
            if isinstance(error, httpx2.ConnectError):
                raise Again(f"'{teacher.url or 'the Hub'}' {_UNREACHABLE}") from None
            raise Again(f"the connection broke: {type(error).__name__}", billed=True) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise Again("the answer is not the JSON of a completion", billed=True) from None
        raise self._refusal(answer)

    def _refusal(self, answer: httpx2.Response) -> Exception:
        status, headers = answer.status_code, answer.headers
        said, parameter = server_message(answer.content)
        hint = refused_parameter(self.teacher, said, parameter) if status in (400, 422) else None
        said = one_line(self.redact(said))
        if 300 <= status < 400:
            return self._redirected(status, headers.get("Location") or "")
        if status in _REFUSED:
            return self._key_refused(status, said)
        if status in _NOT_AGAIN:
            if not self.answered and status in (404, 405):
                return ConnectionError(
                    f"The endpoint '{self.teacher.url or 'the Hub'}' knows no such model or address: {status} {said}. Check "
                    f"base_url (it usually ends in /v1) and model '{self.teacher.model}'."
                )
            kind, hint = (RowError, "") if hint is None else (ParameterRefused, f"{self.redact(hint)}: ")
            return kind(f"refused: {hint}{status} {said}", status)
        pause = retry_after(headers.get("Retry-After"))
        if pause > self.teacher.deadline:
            return ConnectionError(
                f"The endpoint asks to be left alone for {pause:,.6g} s ({status} {said}), longer than deadline allows. What was "
                f"answered is kept; run again then."
            )
        return Again(f"{status} {said}".strip(), status in (429, 503), pause)

    def _key_refused(self, status: int, said: str) -> Exception:
        where = self.teacher.api_key_variable or "the key (api_key_variable, or hf auth login for the Hub)"
        refusal = f"The endpoint refuses: {status} {said}. Check {where}."
        self.refused += 1
        if status == _UNPAID or not self.answered:
            return PermissionError(refusal) if status == _UNPAID else _KeyRefused(refusal)
        # What answers other texts takes the key: a moderation layer, say, refuses this one.
        about_one = self.refused <= max(_FEW, 2 * self.pacer.most)
        return RowError(f"refused: {status} {said}", status) if about_one else PermissionError(refusal)

    def _redirected(self, status: int, location: str) -> Exception:
        try:
            host = urlsplit(location).hostname or "itself"
        except ValueError:
            host = "an address that is none"
        said = (
            f"'{self.teacher.url or 'the Hub'}' sends the request on to '{one_line(self.redact(host))}' ({status}), and no "
            f"redirect is followed, so that texts and key go nowhere else. If you trust that address, pass it as base_url."
        )
        return RowError(said, status) if self.answered else ConnectionError(said)


def stream(requests: Requests) -> Iterator[dict[int, Reply]]:
    """Run the requests in a thread with a loop of its own (a notebook's runs already) and give what comes back."""
    loop = asyncio.new_event_loop()
    running: list[asyncio.Task] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        running.append(loop.create_task(requests.run()))
        try:
            loop.run_until_complete(running[0])
        finally:
            loop.close()

    thread = threading.Thread(target=work, name="endpoint", daemon=True)
    thread.start()
    try:
        while True:
            items = [requests.done.get()]
            while not requests.done.empty():
                items.append(requests.done.get())
            if part := dict(item for item in items if isinstance(item, tuple)):
                yield part
            if isinstance(items[-1], BaseException):
                raise items[-1]
            if items[-1] is None:
                return
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in running])
        thread.join()


_BUDGETS: dict[Served, Budget] = {}


def may_pass(error: str) -> bool:
    """Whether a reply failed by an outage, a load or a cap, and not by what was asked: another time it may come."""
    passing = rf"^(429|50[234])\b|{_UNREACHABLE}|^no answer within |^the connection broke|^the budget is spent"
    return re.search(passing, error) is not None


def _budget(teacher: Served, fresh: Budget) -> Budget:
    """What this process has left of a teacher's caps, which count for the whole run and not for one call."""
    return _BUDGETS.setdefault(teacher, fresh)


def _cut(text: str, most: int | None) -> tuple[str, bool]:
    if most is None or len(text) <= most:
        return text, False
    half = max((most - len(GAP)) // 2, 1)
    return text[:half] + GAP + text[-half:], True
