"""A teacher that is served: any endpoint that speaks OpenAI's chat or completion protocol, the Hub's among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.asking import Requests, stream
from hf_llambert.teachers.base import Reply, ask_apart, check_branch
from hf_llambert.teachers.keys import is_private
from hf_llambert.teachers.server import Served


@dataclass(frozen=True)
class EndpointTeacher(Served):
    """
    A served model, asked over HTTP: vLLM, TGI, llama.cpp, Ollama, OpenAI, or
    the Hub's Inference Providers. A chat task goes to `/chat/completions`, a plain one to `/completions`.

    The server applies the chat template and sees the text as it is: whether control tokens in a text stay text depends
    on the server. Texts become part of a JSON string, nothing else.

    Args:
        model (`str`): The model's name there.
        base_url (`str`, *optional*): Such as `http://localhost:8000/v1`. Defaults to the Hub's Inference Providers.
        provider (`str`, *optional*): Which of the Hub's providers its router is to ask. Defaults to the Hub's choice.
        api_key_variable (`str`, *optional*): The environment variable that holds the key. Without it `OPENAI_API_KEY` goes
            to api.openai.com and the Hub's token to the Hub, and nothing to any other server.
        mode (`"generate"` or `"score"`, defaults to `"generate"`): Parse what the model writes; or read the probabilities
            of the answer's first token, where the server gives logprobs. A label whose words are not among the 20
            likeliest tokens gets the upper bound that these leave.
        structured (`bool`, defaults to `False`): Ask for JSON with one of the labels, or with the answers to all questions, by
            a schema (`response_format`). An answer that does not obey counts only if it is a bare label; of several
            questions, what the schema has.
        max_new_tokens (`int`, defaults to 16): Longest answer. Models that think first need hundreds. An answer in JSON
            (several questions, or `choices`) may always have as many as the longest that answers, counted in bytes.
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

    overlaps = True

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
        self._check(task)
        return stream(Requests(self, task, texts))

    def ask_branches(
        self, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
    ) -> Iterator[dict[int, tuple[Reply, ...]]]:
        """
        Ask several questions about each text, a request for each. See [`~teachers.base.ask_branches`].

        Raises:
            ValueError, PermissionError, ConnectionError: See [`~EndpointTeacher.ask`].
        """
        for task in tasks:  # before any is asked
            self._check(task)
        return ask_apart(self, tasks, texts, rank)

    def _check(self, task: TaskSpec) -> None:
        """Raise a `ValueError` for a task that cannot be asked this way."""
        if self.mode == "score":
            check_branch(task)
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
