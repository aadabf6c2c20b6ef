"""OpenAI's protocol: what is posted about a text, and what an answer says."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_llambert.tasks.answers import normalize
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

    from hf_llambert.teachers.endpoint import EndpointTeacher

_TOP = 20  # as many alternatives to a token as OpenAI and vLLM give


class Again(Exception):
    """
    An attempt failed in a way that another may not. `pause` is what the server asked for, in seconds; `billed` that the
    server may have answered all the same.
    """

    def __init__(self, reason: str, overloaded: bool = False, pause: float = 0.0, billed: bool = False) -> None:
        super().__init__(reason)
        self.overloaded, self.pause, self.billed = overloaded, pause, billed


class NoLogprobs(ValueError):
    """The endpoint answered without what score mode reads."""


class RowError(Exception):
    """This text cannot be asked about; the others can."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def one_label(task: TaskSpec) -> dict[str, object]:
    """The `response_format` that asks for JSON with one of the labels."""
    label = {"type": "string", "enum": list(task.labels)}
    schema = {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}


def request_body(teacher: EndpointTeacher, task: TaskSpec, text: str, structured: bool) -> dict:
    """What is posted about a text, without the model's name."""
    score = teacher.mode == "score"
    messages = task.messages(text)
    out: dict = {"messages": messages} if task.chat else {"prompt": messages[0]["content"]}
    out |= {"temperature": teacher.temperature, "max_tokens": 1 if score else teacher.max_new_tokens}
    if teacher.temperature:
        out["seed"] = teacher.seed
    if score:
        out |= {"logprobs": True, "top_logprobs": _TOP} if task.chat else {"logprobs": _TOP}
    if structured and not score:
        out["response_format"] = one_label(task)
    return out | teacher.extra()


def read_answer_body(teacher: EndpointTeacher, task: TaskSpec, body: Mapping) -> Reply:
    """
    The reply in a server's answer.

    Raises:
        Again: It is none, or an empty one.
    """
    try:
        choice = body["choices"][0]
        content, tokens = written(choice), counted(body)
        likeliest = first_tokens(choice) if teacher.mode == "score" else {}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise Again("the answer is not the JSON of a completion") from None
    if teacher.mode == "score":
        return _scored(task, likeliest, content, tokens)
    if not isinstance(content, str) or not content.strip():
        raise Again("the answer is empty")
    return Reply(response=content, input_tokens=tokens[0], output_tokens=tokens[1])


def written(choice: Mapping) -> str | None:
    """The text of an answer, chat or completion; a refusal where there is nothing else."""
    if "message" not in choice:
        return choice["text"]
    message = choice["message"]
    return message.get("content") or message.get("refusal") or message.get("content")


def counted(body: Mapping) -> tuple[int, int]:
    """Tokens in and out as the server counted them; zeros where it did not."""
    usage = body.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def first_tokens(choice: Mapping) -> dict[str, float]:
    """The likeliest first tokens of an answer with their log-probabilities; none where the server gave none."""
    logprobs = choice.get("logprobs") or {}
    if logprobs.get("content"):
        return {str(found["token"]): float(found["logprob"]) for found in logprobs["content"][0]["top_logprobs"]}
    return {str(token): float(p) for token, p in (logprobs.get("top_logprobs") or [{}])[0].items()}


def _scored(task: TaskSpec, likeliest: Mapping[str, float], content: object, tokens: tuple[int, int]) -> Reply:
    response = content if isinstance(content, str) else None
    finite = {token: p for token, p in likeliest.items() if math.isfinite(p)}
    if not finite:
        raise NoLogprobs("The endpoint gives no logprobs, which mode='score' reads. Use mode='generate'.")
    labels, unclear = label_log_probabilities(finite, task.verbalizers)
    if unclear > sum(math.exp(p) for p in labels if p is not None):
        return Reply(error="the labels' words begin with the same token; use mode='generate', or other verbalizers")
    if all(p is None for p in labels):  # equal bounds would choose the first label
        return Reply(response=response, input_tokens=tokens[0], output_tokens=tokens[1])
    smallest = min(finite.values())
    left = max(1 - sum(math.exp(p) for p in finite.values()), 1e-9)
    bound = min(smallest, math.log(left))
    scores = tuple(bound if p is None else p for p in labels)
    return Reply(scores=scores, response=response, input_tokens=tokens[0], output_tokens=tokens[1])


def label_log_probabilities(
    likeliest: Mapping[str, float], verbalizers: Sequence[Sequence[str]]
) -> tuple[list[float | None], float]:
    """
    The log-probability of each label from those of first tokens: of all that begin, or are, one of its words and no other
    label's. `None` where there is none. Also the probability of tokens that could be several labels'.
    """
    sums: list[float] = [0.0] * len(verbalizers)
    unclear = 0.0
    for token, log_p in likeliest.items():
        piece = normalize(token)
        owners = {
            label
            for label, words in enumerate(verbalizers)
            for word in map(normalize, words)
            if piece and word.startswith(piece) and len(piece) >= min(3, len(word))
        }
        if len(owners) == 1:
            sums[owners.pop()] += math.exp(log_p)
        elif owners:
            unclear += math.exp(log_p)
    return [math.log(p) if p else None for p in sums], unclear


def obeys(content: str | None, labels: Sequence[str]) -> bool:
    """Whether an answer is the JSON that structured output promises."""
    try:
        return json.loads(content or "")["label"] in labels
    except (ValueError, TypeError, KeyError):
        return False


def retry_after(header: str | None) -> float:
    """Seconds of a Retry-After header, which may be a date."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
        except ValueError:
            return 0.0


def server_message(error: HfHubHTTPError) -> str:
    """What the server said, on one line; its body is not trusted to be short or free of what we sent."""
    response = error.response
    try:
        said = response.json()["error"]
        said = said["message"] if isinstance(said, dict) else said
    except (ValueError, KeyError, TypeError):
        said = response.text
    return " ".join(str(said).split())[:200]
