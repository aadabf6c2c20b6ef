"""A teacher that is served: any endpoint that speaks OpenAI's chat or completion protocol, the Hub's among them."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hf_llambert.processes import world_size
from hf_llambert.tasks import TaskSpec
from hf_llambert.teachers.base import Mode, Reply
from hf_llambert.teachers.pacing import Budget, Pacer, backoff
from hf_llambert.teachers.protocol import (
    Again,
    RowError,
    obeys,
    read_answer_body,
    request_body,
    retry_after,
    server_message,
)
from hf_llambert.texts import GAP

if TYPE_CHECKING:
    from huggingface_hub import AsyncInferenceClient

logger = logging.getLogger(__name__)

_NO_KEY = "-"  # without one, huggingface_hub would send the Hub's token to whatever server base_url names
_CONNECTIONS = 100  # of httpx
_UNREACHABLE = "cannot be reached"
_OURS = ("huggingface.co", "hf.co")
_NOT_AGAIN = (400, 404, 405, 413, 422)  # the request itself is wrong; asking again changes nothing
_REFUSED = (401, 402, 403)


@dataclass(frozen=True)
class EndpointTeacher:
    """
    A served model, asked over HTTP through `huggingface_hub.AsyncInferenceClient`: vLLM, TGI, llama.cpp, Ollama, OpenAI, or
    the Hub's Inference Providers. A chat task goes to `/chat/completions`, a plain one to `/completions`.

    The server applies the chat template and sees the text as it is: whether control tokens in a text stay text is up to
    it. Texts become part of a JSON string, nothing else.

    Args:
        model (`str`): The model's name there.
        base_url (`str`, *optional*): Such as `http://localhost:8000/v1`. Defaults to the Hub's Inference Providers.
        provider (`str`, *optional*): Which of the Hub's providers. Defaults to the Hub's choice.
        api_key_variable (`str`, *optional*): The environment variable that holds the key. Without it `OPENAI_API_KEY` goes
            to api.openai.com and the Hub's token to the Hub, and nothing to any other server.
        mode (`"generate"` or `"score"`, defaults to `"generate"`): Parse what the model writes; or read the probabilities
            of the answer's first token, where the server gives logprobs. A label whose words are not among the 20
            likeliest tokens gets the upper bound that these leave.
        structured (`bool`, defaults to `False`): Ask for JSON with one of the labels (`response_format`). An answer that
            does not obey is parsed as any other.
        max_new_tokens (`int`, defaults to 16): Longest answer. Models that think first need hundreds.
        temperature (`float`, defaults to 0): 0 takes the likeliest token.
        seed (`int`, defaults to 42): Seed of sampling, sent when the temperature is not 0.
        max_text_chars (`int`, *optional*): Longest text in characters; a longer one loses its middle.
        extra_body (`str`, *optional*): JSON object of more parameters, such as
            `{"chat_template_kwargs": {"enable_thinking": false}}`.
        concurrency (`int`, defaults to 64): Most requests in flight, all processes together. Halves when the server is
            overloaded (429, 503) and grows again.
        timeout (`float`, defaults to 120): Seconds that one request may take.
        max_attempts (`int`, defaults to 6): Requests for one text before it counts as failed.
        deadline (`float`, defaults to 900): Seconds after which a text that still fails is given up.
        first_wait (`float`, defaults to 1): Seconds of the first backoff at most; doubles with each attempt up to 60.
        max_requests (`int`, *optional*): Cap on requests, of one run, all processes together. Texts beyond a cap fail with
            that reason; a rerun asks about them.
        max_tokens (`int`, *optional*): Cap on tokens, in and out.
        max_cost (`float`, *optional*): Cap on money; needs the prices.
        price_input (`float`, defaults to 0): Money for a million tokens in.
        price_output (`float`, defaults to 0): Money for a million tokens out.
    """

    model: str
    base_url: str | None = None
    provider: str | None = None
    api_key_variable: str | None = None
    mode: Mode = "generate"
    structured: bool = False
    max_new_tokens: int = 16
    temperature: float = 0.0
    seed: int = 42
    max_text_chars: int | None = None
    extra_body: str | None = None
    concurrency: int = 64
    timeout: float = 120.0
    max_attempts: int = 6
    deadline: float = 900.0
    first_wait: float = 1.0
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    price_input: float = 0.0
    price_output: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in ("score", "generate"):
            raise ValueError(f"mode must be score or generate, got {self.mode!r}.")
        if self.concurrency > _CONNECTIONS:
            raise ValueError(
                f"concurrency must be at most {_CONNECTIONS}, the connections of one client, got {self.concurrency}. Start more "
                f"processes."
            )
        for name in ("max_new_tokens", "concurrency", "timeout", "max_attempts", "deadline"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)!r}.")
        if self.structured and self.mode == "score":
            raise ValueError("With structured the answer begins with a bracket, not a label. Use it in generate mode.")
        if self.max_cost is not None and not (self.price_input or self.price_output):
            raise ValueError("max_cost needs price_input and price_output, in money for a million tokens.")
        if self.base_url is not None:
            url = urlsplit(self.base_url)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ValueError(f"base_url must begin with http:// or https:// and a host, got {self.base_url!r}.")
            if url.username or url.password or url.query or url.fragment:
                raise ValueError(
                    "base_url must hold no user, password or query, which would be written down with it. Put the key into an "
                    "environment variable and name that with api_key_variable."
                )
            if self.provider:
                raise ValueError(f"provider '{self.provider}' is one of the Hub's; drop it, or drop base_url.")
        self._extra()

    def identity(self) -> dict[str, object]:
        """What decides a reply, as far as this side can know: endpoint, model and how it is asked. See [`Teacher`]."""
        out: dict[str, object] = {"teacher": "endpoint", "base_url": self._url}
        names = ["model", "provider", "mode", "structured", "temperature", "max_text_chars", "extra_body"]
        names += ["max_new_tokens"] if self.mode == "generate" else []
        names += ["seed"] if self.temperature else []
        return out | {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere; an address of a private network is left out. See [`Teacher`]."""
        here = ("base_url", "api_key_variable", "concurrency", "max_requests", "max_tokens", "max_cost")
        out: dict[str, object] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in here
        }
        private = self._url is not None and _is_private(urlsplit(self._url).hostname or "")
        out |= {"teacher": "endpoint", "base_url_is_local": private}
        return out if private else {**out, "base_url": self._url}

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Ask about each text, many at a time; replies are given as they come. See [`Teacher`].

        Raises:
            ValueError: The task cannot be asked through an endpoint, or the endpoint gives no logprobs.
            PermissionError: The endpoint refuses the key.
            ConnectionError: There is no such endpoint or model, before any text was answered.
        """
        if task.chat and task.lead_in:
            raise ValueError(
                f"Task '{task.name}' begins the answer with a lead-in, and no chat endpoint takes a begun answer. Use "
                f"--backend transformers or vllm, or a task without lead_in."
            )
        if not task.chat and self.base_url is None:
            raise ValueError(
                f"Task '{task.name}' is a plain completion, and the Hub's providers only chat. Set base_url to a server with "
                f"/completions, or chat: true in the task."
            )
        return _stream(_Asking(self, task, texts))

    @property
    def _url(self) -> str | None:
        return self.base_url.rstrip("/") if self.base_url else None

    def _extra(self) -> dict:
        if self.extra_body is None:
            return {}
        try:
            extra = json.loads(self.extra_body)
        except ValueError as error:
            raise ValueError(f"extra_body must be a JSON object, got {self.extra_body!r}: {error}") from error
        if not isinstance(extra, dict):
            raise ValueError(f"extra_body must be a JSON object, got {self.extra_body!r}.")
        return extra

    def _key(self) -> str | None:
        """The key, read when it is needed and kept nowhere. `None` lets huggingface_hub take the Hub's token."""
        if self.api_key_variable:
            key = os.environ.get(self.api_key_variable)
            if not key:
                raise PermissionError(f"The environment variable {self.api_key_variable} is empty. Put the key there.")
            if self._url and self._url.startswith("http:") and not _is_private(urlsplit(self._url).hostname or ""):
                raise PermissionError(f"A key is not sent to '{self._url}' in the clear. Use https.")
            return key
        host = (urlsplit(self._url).hostname or "") if self._url else _OURS[0]
        if any(host == ours or host.endswith("." + ours) for ours in _OURS):
            return None
        return os.environ.get("OPENAI_API_KEY", _NO_KEY) if host == "api.openai.com" else _NO_KEY


class _Asking:
    """One call of `ask`: the state of its requests."""

    def __init__(self, teacher: EndpointTeacher, task: TaskSpec, texts: Sequence[str]) -> None:
        self.teacher, self.task, self.texts = teacher, task, texts
        self.done: queue.SimpleQueue[tuple[int, Reply] | BaseException | None] = queue.SimpleQueue()
        caps = (teacher.max_requests, teacher.max_tokens, teacher.max_cost)
        self.budget = _budget(teacher, Budget(*caps, teacher.price_input, teacher.price_output).share(world_size()))
        self.structured = teacher.structured
        self.answered = self.disobeyed = self.lost = 0

    async def run(self) -> None:
        """Ask about everything; what comes back, and at the end `None` or the error that stopped it, goes to `done`."""
        from huggingface_hub import AsyncInferenceClient

        teacher = self.teacher
        try:
            most = max(1, teacher.concurrency // world_size())
            kwargs = {"base_url": teacher._url} if teacher._url else {"provider": teacher.provider or "auto"}
            client = AsyncInferenceClient(api_key=teacher._key(), timeout=teacher.timeout, **kwargs)  # type: ignore[arg-type]
            async with client:
                self.pacer = Pacer(most)
                positions = iter(range(len(self.texts)))
                workers = [
                    asyncio.ensure_future(self._work(client, positions)) for _ in range(min(most, len(self.texts)))
                ]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
            if self.disobeyed:
                logger.warning(
                    "%d of %d answers ignored structured output and were parsed as free text.",
                    self.disobeyed,
                    self.answered,
                )
            self.done.put(None)
        except BaseException as error:  # noqa: BLE001  (goes to the thread that waits)
            self.done.put(error)

    async def _work(self, client: AsyncInferenceClient, positions: Iterator[int]) -> None:
        for position in positions:
            self.done.put((position, await self._reply(client, self.texts[position])))
            while self.done.qsize() > self.pacer.most:  # not written yet: a kill would lose them
                await asyncio.sleep(0.005)

    async def _reply(self, client: AsyncInferenceClient, text: str) -> Reply:
        """The reply to a text after as many attempts as it takes or is allowed."""
        teacher, start, attempts = self.teacher, time.monotonic(), 0
        text, cut = _cut(text, teacher.max_text_chars)
        while True:
            structured = self.structured
            try:
                return dataclasses.replace(await self._attempt(client, text), truncated=cut)
            except RowError as error:
                if not structured or error.status != 400:
                    return Reply(error=str(error))
                if self.structured:
                    logger.warning("The endpoint may take no response_format (%s): asking without it.", error)
                    self.structured = False
                continue
            except Again as error:
                attempts += not error.overloaded  # to be sent away is no failure; the deadline ends it
                wait = max(error.pause, backoff(attempts, teacher.first_wait, 60.0))
                if attempts >= teacher.max_attempts:
                    self._check_that_some_succeed(str(error))
                    return Reply(error=f"{error} (after {attempts} attempts)")
                if time.monotonic() - start + wait > teacher.deadline:
                    return Reply(error=f"{error} (given up: deadline {teacher.deadline:g} s)")
            await asyncio.sleep(wait)

    async def _attempt(self, client: AsyncInferenceClient, text: str) -> Reply:
        """One request. The budget is charged with what it took."""
        payload = request_body(self.teacher, self.task, text, self.structured)
        size = len(json.dumps(payload).encode())
        reserved = self.budget.reserve(size, self.teacher.max_new_tokens)
        if reserved is None:
            raise RowError("the budget is spent: raise max_requests, max_tokens or max_cost, and run again", 0)
        counted: tuple[int, int] | None = None
        try:
            async with self.pacer.slot() as sent:
                begun = time.monotonic()
                body = await self._post(client, payload)
            reply = read_answer_body(self.teacher, self.task, body)
            counted = (reply.input_tokens or int(reserved[0]), reply.output_tokens)
            self.pacer.content()
            self.answered, self.lost = self.answered + 1, 0
            if self.structured and not obeys(reply.response, self.task.labels):
                self.disobeyed += 1
            return dataclasses.replace(reply, seconds=time.monotonic() - begun)
        except Again as error:
            if error.billed:  # nobody knows what the server did: count it in full
                counted = int(reserved[0]), int(reserved[1])
            if error.overloaded:
                self.pacer.complaint(sent, error.pause)
            raise
        finally:
            self.budget.settle(reserved, size, counted)

    def _check_that_some_succeed(self, reason: str) -> None:
        self.lost += 1
        if self.lost > 2 * self.pacer.most or (not self.answered and _UNREACHABLE in reason):
            raise ConnectionError(
                f"Stopped: {reason}, {self.lost} text(s) in a row after {self.teacher.max_attempts} attempts each. What was "
                f"answered is kept; run again when the endpoint is well."
            )

    async def _post(self, client: AsyncInferenceClient, payload: dict) -> Mapping:
        """The server's answer. Everything that can go wrong on the way becomes one of three errors."""
        import httpx2
        from huggingface_hub import get_token
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
        from huggingface_hub.inference._common import RequestParameters

        teacher = self.teacher
        try:
            if teacher._url is None:
                messages, rest = payload["messages"], {k: v for k, v in payload.items() if k != "messages"}
                call: Coroutine = client.chat_completion(messages, model=teacher.model, extra_body=rest)
            else:
                # chat_completion would rewrite response_format as TGI wants it, and there is no method for /completions;
                # the client's transport, timeouts and errors are the same.
                place = "chat/completions" if self.task.chat else "completions"
                headers = {"Authorization": f"Bearer {client.token or get_token() or _NO_KEY}"}
                content = {"model": teacher.model, **payload}
                call = client._inner_post(
                    RequestParameters(f"{teacher._url}/{place}", "unknown", None, content, None, headers)
                )
            answer = await asyncio.wait_for(call, teacher.timeout)
            return json.loads(answer) if isinstance(answer, bytes) else answer
        except HfHubHTTPError as error:
            raise self._refusal(error.response.status_code, server_message(error), error.response.headers) from None
        except OfflineModeIsEnabled:
            raise ConnectionError(
                "HF_HUB_OFFLINE is set, and with it huggingface_hub asks no endpoint, not even a local one. Unset it."
            ) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise Again(f"no answer within {teacher.timeout:g} s", billed=True) from None
        except (httpx2.HTTPError, OSError) as error:
            if isinstance(error, httpx2.ConnectError):
                raise Again(f"'{teacher._url or 'the Hub'}' {_UNREACHABLE}") from None
            raise Again(f"the connection broke: {type(error).__name__}", billed=True) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise Again("the answer is not the JSON of a completion") from None

    def _refusal(self, status: int, said: str, headers: Mapping[str, str]) -> Exception:
        if status in _REFUSED:
            where = self.teacher.api_key_variable or "the key (api_key_variable, or hf auth login for the Hub)"
            return PermissionError(f"The endpoint refuses: {status} {said}. Check {where}.")
        if status in _NOT_AGAIN:
            if not self.answered and status in (404, 405):
                return ConnectionError(
                    f"The endpoint '{self.teacher._url or 'the Hub'}' knows no such model or address: {status} {said}. Check "
                    f"base_url (it usually ends in /v1) and model '{self.teacher.model}'."
                )
            return RowError(f"refused: {status} {said}", status)
        pause = retry_after(headers.get("Retry-After"))
        if pause > self.teacher.deadline:
            return ConnectionError(
                f"The endpoint asks to be left alone for {pause:,.0f} s ({status} {said}), longer than deadline allows. What was "
                f"answered is kept; run again then."
            )
        return Again(f"{status} {said}".strip(), status in (429, 503), pause)


def _stream(asking: _Asking) -> Iterator[dict[int, Reply]]:
    """Run the requests in a thread with a loop of its own (a notebook's runs already) and give what comes back."""
    loop = asyncio.new_event_loop()
    running: list[asyncio.Task] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        running.append(loop.create_task(asking.run()))
        try:
            loop.run_until_complete(running[0])
        finally:
            loop.close()

    thread = threading.Thread(target=work, name="endpoint", daemon=True)
    thread.start()
    try:
        while True:
            part, end = {}, False
            items = [asking.done.get()]
            while not asking.done.empty():
                items.append(asking.done.get())
            stopped = None
            for item in items:
                if isinstance(item, tuple):
                    part[item[0]] = item[1]
                else:
                    end, stopped = True, item
            if part:
                yield part
            if stopped is not None:
                raise stopped
            if end:
                return
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in running])
        thread.join()


_BUDGETS: dict[EndpointTeacher, Budget] = {}


def _budget(teacher: EndpointTeacher, fresh: Budget) -> Budget:
    """What this process has left for a teacher: the caps are of the run, not of one call."""
    return _BUDGETS.setdefault(teacher, fresh)


def _cut(text: str, most: int | None) -> tuple[str, bool]:
    if most is None or len(text) <= most:
        return text, False
    half = max((most - len(GAP)) // 2, 1)
    return text[:half] + GAP + text[-half:], True


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))
