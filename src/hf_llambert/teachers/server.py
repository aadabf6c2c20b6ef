"""The settings of a served teacher: its model, how it is asked, and its caps."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from hf_llambert.teachers.base import Mode
from hf_llambert.teachers.keys import endpoint_key, is_plain_host
from hf_llambert.teachers.transport import CONNECTIONS

ROUTER = "https://router.huggingface.co/v1"
"""The Hub's Inference Providers, which speak OpenAI's protocol."""

_FIXED = ("model", "messages", "prompt")
_ONE = {"n": 1, "stream": False}  # one answer, whole


@dataclass(frozen=True)
class Served:
    """A served model and how it is asked; the arguments are those of [`~teachers.endpoint.EndpointTeacher`]."""

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

    @property
    def url(self) -> str | None:
        """Where requests go, without a slash at the end; `None` for the Hub."""
        return self.base_url.rstrip("/") if self.base_url else None

    @property
    def address(self) -> str:
        """Where requests go, the Hub's too."""
        return self.url or ROUTER

    @property
    def served_model(self) -> str:
        """The model's name there: the Hub's router reads the provider behind it."""
        return self.model if self.provider in (None, "auto") else f"{self.model}:{self.provider}"

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
