"""A teacher that is served: any endpoint that speaks OpenAI's chat or completion protocol, the Hub's among them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.asking import Asking, stream
from hf_llambert.teachers.base import Mode, Reply
from hf_llambert.teachers.keys import endpoint_key, is_plain_host, is_private
from hf_llambert.teachers.transport import CONNECTIONS

_FIXED = ("model", "messages", "prompt")
_ONE = {"n": 1, "stream": False}  # one answer, whole


@dataclass(frozen=True)
class EndpointTeacher:
    """
    A served model, asked over HTTP: vLLM, TGI, llama.cpp, Ollama, OpenAI, or
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
            does not obey counts only if it is a bare label.
        max_new_tokens (`int`, defaults to 16): Longest answer. Models that think first need hundreds.
        temperature (`float`, defaults to 0): 0 takes the likeliest token.
        seed (`int`, defaults to 42): Seed of sampling, sent when the temperature is not 0.
        max_text_chars (`int`, *optional*): Longest text in characters; a longer one loses its middle.
        extra_body (`str`, *optional*): JSON object of more parameters, such as
            `{"top_p": 0.9}`.
        chat_template_kwargs (`str`, *optional*): JSON object of arguments of the server's chat template, such as
            `{"enable_thinking": false}`.
        request_parameters (`str`, *optional*): JSON object that renames parameters of the request, or leaves them out, for a
            server that refuses some: `{"max_tokens": "max_completion_tokens", "temperature": null}` for OpenAI's reasoning
            models.
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
    chat_template_kwargs: str | None = None
    request_parameters: str | None = None
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
        if self.concurrency > CONNECTIONS:
            raise ValueError(
                f"concurrency must be at most {CONNECTIONS}, the connections of one client, got {self.concurrency}. Start more "
                f"processes."
            )
        for name in ("max_new_tokens", "concurrency", "timeout", "max_attempts", "deadline"):
            if not getattr(self, name) > 0:  # NaN is not
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)!r}.")
        for name in ("max_requests", "max_tokens", "max_cost", "price_input", "price_output"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not 0 <= value < math.inf):
                raise ValueError(f"{name} must be a number of 0 or more, got {value!r}.")
        if self.structured and self.mode == "score":
            raise ValueError("With structured the answer begins with a bracket, not a label. Use it in generate mode.")
        if self.max_cost is not None and not (self.price_input or self.price_output):
            raise ValueError("max_cost needs price_input and price_output, in money for a million tokens.")
        if self.base_url is not None:
            _check_address(self.base_url)
            if self.provider:
                raise ValueError(f"provider '{self.provider}' is one of the Hub's; drop it, or drop base_url.")
        extra = {} if self.extra_body is None else _json_object("extra_body", self.extra_body)
        _check_extra(extra)
        if self.extra() and self.chat_template_kwargs is not None and "chat_template_kwargs" in extra:
            raise ValueError("chat_template_kwargs stands in extra_body too. Give it once.")
        self.parameters()

    def identity(self) -> dict[str, object]:
        """What decides a reply, as far as this side can know: endpoint, model and how it is asked. See [`Teacher`]."""
        out: dict[str, object] = {"teacher": "endpoint", "base_url": self.url}
        names = ["model", "provider", "mode", "structured", "temperature", "max_text_chars", "extra_body"]
        names += ["max_new_tokens"] if self.mode == "generate" else []
        names += ["seed"] if self.temperature else []
        names += [n for n in ("chat_template_kwargs", "request_parameters") if getattr(self, n) is not None]
        return out | {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere; an address of a private network is left out. See [`Teacher`]."""
        here = ("base_url", "api_key_variable", "concurrency", "max_requests", "max_tokens", "max_cost")
        out: dict[str, object] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in here
        }
        private = self.url is not None and is_private(urlsplit(self.url).hostname or "")
        out |= {"teacher": "endpoint", "base_url_is_local": private}
        return out if private else {**out, "base_url": self.url}

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
        if not task.chat and self.chat_template_kwargs is not None:
            raise ValueError(
                f"Task '{task.name}' is a plain completion, without a chat template. Drop chat_template_kwargs."
            )
        return stream(Asking(self, task, texts))

    @property
    def url(self) -> str | None:
        """Where requests go, without a slash at the end; `None` for the Hub."""
        return self.base_url.rstrip("/") if self.base_url else None

    def extra(self) -> dict:
        """More parameters of every request."""
        extra = {} if self.extra_body is None else _json_object("extra_body", self.extra_body)
        if self.chat_template_kwargs is not None:
            extra["chat_template_kwargs"] = _json_object("chat_template_kwargs", self.chat_template_kwargs)
        return extra

    def greedy(self) -> bool:
        """Whether the request asks for the likeliest token."""
        return self.temperature == 0 and "temperature" not in self.extra() | self.parameters()

    def parameters(self) -> dict[str, str | None]:
        """New names of the request's parameters; `None` for those that are left out."""
        if self.request_parameters is None:
            return {}
        names = _json_object("request_parameters", self.request_parameters)
        for old, new in names.items():
            fixed = old in _FIXED or (isinstance(new, str) and new in _FIXED)
            if fixed or not (new is None or (isinstance(new, str) and new)):
                raise ValueError(
                    f"request_parameters must give a parameter's new name, or null to leave it out, as in "
                    f'{{"max_tokens": "max_completion_tokens", "temperature": null}}, got {old!r}: {new!r}.'
                )
        return names

    def key(self) -> str:
        """The key, read when it is needed and kept nowhere. See [`~teachers.keys.endpoint_key`]."""
        return endpoint_key(self.api_key_variable, self.url)


def _check_extra(extra: dict) -> None:
    """Raise a `ValueError` for parameters that ask something else than about one text, or for another answer than one."""
    for name, value in extra.items():
        if name in _FIXED or value != _ONE.get(name, value):
            raise ValueError(
                f"extra_body must leave {name} as it is: each request is about one text and gets one answer, got {name} "
                f"{value!r:.60}. Drop it."
            )


def _check_address(address: str) -> None:
    """Raise a `ValueError` for a base_url that is no address, may be read as another, or holds a secret."""
    if re.search(r"[\s\\\x00-\x20\x7f]", address):
        raise ValueError(f"base_url must hold no blank and no backslash, got {address!r}.")
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise ValueError(
            f"base_url must be an address such as http://localhost:8000/v1, got {address!r}: {error}."
        ) from None
    if port == 0:
        raise ValueError(f"base_url must hold a port from 1 to 65535, or none, got {address!r}.")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"base_url must begin with http:// or https:// and a host, got {address!r}.")
    if not is_plain_host(url.hostname):
        raise ValueError(
            f"base_url must hold a host of ASCII letters, digits, dots and hyphens, got {ascii(url.hostname)}. Write a "
            f"name in another script as the DNS has it (xn--...)."
        )
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(
            "base_url must hold no user, password or query, which would be written down with it. Put the key into an "
            "environment variable and name that with api_key_variable."
        )


def _json_object(name: str, text: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} must be a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, got {text!r}.")
    return value
