"""A teacher that answers by the batch: cheaper, and within a day."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args
from urllib.parse import urlsplit

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Mode, Reply, check, check_branch
from hf_llambert.teachers.batch_notes import BatchNotes
from hf_llambert.teachers.batch_service import Batches
from hf_llambert.teachers.batch_services import SERVICES, Service
from hf_llambert.teachers.endpoint import EndpointTeacher
from hf_llambert.teachers.keys import endpoint_key, is_private

ServiceName = Literal["openai", "anthropic", "mistral", "gemini", "openai-compatible"]


@dataclass(frozen=True)
class BatchTeacher:
    """
    A model at a batch service. [`annotate`] submits all rows in batches, notes each beside the ledger, waits, and keeps the
    answers like any others. Killed while it waits, the same call goes on: nothing is submitted twice.

    Only [`annotate`] and [`make_plan`] ask it: `dataset.map` and a cascade would make a batch of every few rows.

    Args:
        model (`str`): The model's name there.
        service (`str`): `openai`, `anthropic`, `mistral`, `gemini`, or `openai-compatible` for a server with OpenAI's files and
            batches.
        base_url (`str`, *optional*): Another address than the service's own, such as `http://localhost:8000/v1`.
        api_key_variable (`str`, *optional*): The environment variable that holds the key. Defaults to `OPENAI_API_KEY`,
            `ANTHROPIC_API_KEY`, `MISTRAL_API_KEY` or `GEMINI_API_KEY` at the service's own address, to none elsewhere.
        mode (`"generate"` or `"score"`, defaults to `"generate"`): See [`EndpointTeacher`]. Scores are OpenAI's alone.
        structured (`bool`, defaults to `False`): See [`EndpointTeacher`].
        max_new_tokens (`int`, defaults to 16): See [`EndpointTeacher`].
        temperature (`float`, defaults to 0): 0 takes the likeliest token.
        seed (`int`, defaults to 42): Seed of sampling, sent when the temperature is not 0, where the service takes one.
        extra_body (`str`, *optional*): JSON object of more parameters of each request, in the service's words.
        request_parameters (`str`, *optional*): See [`EndpointTeacher`].
        batch_requests (`int`, *optional*): Most requests of one batch. Defaults to what the service takes.
        poll_seconds (`float`, defaults to 15): Pause before the service is asked how far it is; grows to 20 times that.
        max_wait_hours (`float`, defaults to 48): Hours after which this run waits no longer. The batches go on.
        timeout (`float`, defaults to 120): Seconds that the service may be silent.
        max_requests (`int`, *optional*): Cap on requests. What a cap forbids is not submitted; batches that the service has not
            begun are cancelled where others took more than was reckoned.
        max_tokens (`int`, *optional*): Cap on tokens, in and out.
        max_cost (`float`, *optional*): Cap on money; needs the prices.
        price_input (`float`, defaults to 0): Money for a million tokens in, in a batch.
        price_output (`float`, defaults to 0): Money for a million tokens out, in a batch.
        price_cached_input (`float`, *optional*): Money for a million tokens in that the service reads from its cache. Defaults
            to `price_input`.
    """

    model: str
    service: ServiceName
    base_url: str | None = None
    api_key_variable: str | None = None
    mode: Mode = "generate"
    structured: bool = False
    max_new_tokens: int = 16
    temperature: float = 0.0
    seed: int = 42
    extra_body: str | None = None
    request_parameters: str | None = None
    batch_requests: int | None = None
    poll_seconds: float = 15.0
    max_wait_hours: float = 48.0
    timeout: float = 120.0
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    price_input: float = 0.0
    price_output: float = 0.0
    price_cached_input: float | None = None

    overlaps = False

    def __post_init__(self) -> None:
        check(self.service in SERVICES, "service", f"one of {', '.join(get_args(ServiceName))}", self.service)
        if self.base_url is None and self.protocol.address is None:
            raise ValueError(f"The service '{self.service}' has no address of its own. Pass base_url.")
        cached = self.price_cached_input
        check(cached is None or 0 <= cached <= self.price_input, "price_cached_input", "from 0 to price_input", cached)
        for name in ("poll_seconds", "max_wait_hours"):
            check(getattr(self, name) > 0, name, "more than 0", getattr(self, name))
        check(
            self.batch_requests is None or self.batch_requests > 0, "batch_requests", "positive", self.batch_requests
        )
        if self.mode == "score" and not self.protocol.form.scores:
            raise ValueError(
                f"The batches of {self.service} give no log-probabilities that are read here. Use mode='generate'."
            )
        self.served  # noqa: B018  (checks the rest)

    @property
    def protocol(self) -> Service:
        """The service's protocol."""
        return SERVICES[self.service]

    @property
    def address(self) -> str:
        """Where the service is."""
        return (self.base_url or self.protocol.address or "").rstrip("/")

    @functools.cached_property
    def served(self) -> EndpointTeacher:
        """The endpoint whose requests these are."""
        own = {field.name for field in fields(EndpointTeacher)}
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in own and f.name != "base_url"}
        return EndpointTeacher(base_url=self.address, **given)

    def key(self) -> str:
        """The key, read when it is needed and kept nowhere. See [`~teachers.keys.endpoint_key`]."""
        own = self.address == self.protocol.address
        return endpoint_key(self.api_key_variable or (self.protocol.variable if own else None), self.address)

    def identity(self) -> dict[str, object]:
        """
        What decides a reply. Where requests are those that an endpoint at the same address gets, its identity: answers that it
        gave, to a plan's sample say, are not asked for again. See [`Teacher`].
        """
        if self.protocol.like_endpoint and (self.protocol.form.scores or not self.temperature):
            return self.served.identity()
        return {**self.served.identity(), "teacher": "batch", "service": self.service}

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere; an address of a private network is left out. See [`Teacher`]."""
        names = ("model", "service", "mode", "structured", "max_new_tokens", "temperature", "seed", "extra_body")
        out = {name: getattr(self, name) for name in (*names, "request_parameters")}
        private = is_private(urlsplit(self.address).hostname or "")
        out |= {"teacher": "batch", "base_url_is_local": private}
        return out if private else {**out, "base_url": self.base_url}

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Refuse: without a place for notes on batches a kill would lose what is paid for.

        Raises:
            ValueError: Always. [`annotate`] asks by [`~BatchTeacher.ask_noted`].
        """
        raise ValueError(
            "A batch service is asked by annotate (and plan), which submits all rows together and notes the batches in the "
            "ledger; here a few rows at a time would be a batch each. Use annotate, or the endpoint of the same model."
        )

    def ask_noted(
        self, rows: Mapping[str, tuple[TaskSpec, str]], notes: BatchNotes, tell: Callable[[int], bool]
    ) -> Iterator[dict[str, Reply]]:
        """
        Submit rows in batches, wait, and give the replies; also of batches that an earlier run submitted.

        Args:
            rows (`Mapping[str, tuple[TaskSpec, str]]`): What is asked about which text, by the ledger's key.
            notes (`BatchNotes`): Where batches are noted.
            tell (`Callable[[int], bool]`): Called with the number of rows done so far; says whether to go on waiting.

        Returns:
            `Iterator[dict[str, Reply]]`: Replies by key, every key once. When the next are asked for, these must be on the disk.

        Raises:
            ValueError: A task cannot be asked in batches, or the service refuses a batch.
            PermissionError: The service refuses the key.
            ConnectionError: There is no such service, or it does not answer any more.
            TimeoutError: The batches have not ended within `max_wait_hours`.
        """
        for task in dict.fromkeys(task for task, _ in rows.values()):
            self.protocol.form.check(task, self.mode == "score")
            if self.mode == "score":
                check_branch(task)
            if task.chat and task.lead_in:
                raise ValueError(
                    f"Task '{task.name}' begins the answer with a lead-in, and no batch service takes a begun answer. Use a task "
                    f"without lead_in."
                )
        return Batches(self, rows, notes, tell).run()
