"""OpenAI's protocol: the request about a text, and how its answer is read."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping

from hf_llambert.tasks.requests import first_object, obeys_schema, schema_of, tokens_for
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.logprobs import TOP, NotLogprobs, first_tokens, scored
from hf_llambert.teachers.server import Served

_MOST_TOKENS = 10**8  # more is no count
_FINISHES = {
    "stop": "stop stop_sequence end_turn eos eos_token complete completed",
    "length": "length max_tokens max_length max_output_tokens model_length model_context_window_exceeded incomplete",
    "content_filter": "content_filter content_filtered safety recitation blocklist prohibited_content refusal",
    "broken": "error abort aborted cancelled network_error insufficient_system_resource timeout",
}
ENDS = (
    *("finish_reason", "native_finish_reason", "stop_reason", "incomplete_details", "done_reason", "status"),
    *("finishReason", "stopReason", "doneReason", "finish", "llm_finish_reason", "llm_finish"),
)
"""Under which name services and tables say why an answer ended."""
_FINISH = {word: name for name, words in _FINISHES.items() for word in words.split()}
_LIKE_FINISH = (  # of words that no server is known to say; the first that fits
    ("content_filter", re.compile("filter|safety|block|prohibit|recit|refus|moderat|sensitive|spii")),
    ("length", re.compile("length|limit|incomplete|max|exceed|truncat|context|window")),
    ("stop", re.compile("stop|eos|end_of|end_turn")),
    ("length", re.compile("token")),
)
_PARAMETERS = ("max_tokens", "temperature", "seed", "top_logprobs", "logprobs", "chat_template_kwargs")
_INSTEAD = re.compile(
    r"(?:use|try|with)\W{1,3}([a-z_]{3,40})\W{1,3}instead|instead\W{1,3}use\W{1,3}([a-z_]{3,40})", re.I
)
_REFUSES = re.compile(
    r"unsupported|not supported|does not support|doesn't support|not allowed|not permitted|unrecogni[sz]ed|unknown|unexpected|"
    r"deprecated|only the default|extra",
    re.I,
)


class Again(Exception):
    """
    An attempt failed in a way that another may not. `pause` is what the server asked for, in seconds; `billed` that the
    server may have answered all the same.
    """

    def __init__(self, reason: str, overloaded: bool = False, pause: float = 0.0, billed: bool = False) -> None:
        super().__init__(reason)
        self.overloaded, self.pause, self.billed = overloaded, pause, billed


class RowError(Exception):
    """This text cannot be asked about; the others can."""

    def __init__(self, reason: str, status: int, billed: bool = False) -> None:
        super().__init__(reason)
        self.status, self.billed = status, billed


class NotOne(ValueError):
    """An answer has several choices."""


class ParameterRefused(RowError):
    """The server does not take a parameter of the request; `request_parameters` leaves it out."""


class Unreadable(ValueError):
    """
    JSON that cannot be read with certainty: a number of more digits than Python reads, a field that says two things.
    """


def read_json(body: bytes | str) -> object:
    """
    A server's JSON.

    Raises:
        Unreadable: A number has thousands of digits, or a field stands twice with different values.
        ValueError: It is none.
        RecursionError: It is nested too deeply.
    """
    try:
        return json.loads(body, object_pairs_hook=_once)
    except (json.JSONDecodeError, UnicodeDecodeError, Unreadable):
        raise
    except ValueError:
        raise Unreadable("holds a number of thousands of digits") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    out = dict(pairs)
    if len(out) < len(pairs) and any(out[name] != value for name, value in pairs):
        raise Unreadable("holds a field twice, with different values")
    return out


def only_choice(body: object) -> dict:
    """
    The one choice of an answer. Requests ask for one, so of several none is taken.

    Raises:
        NotOne: There are several.
        TypeError, KeyError, IndexError: It is no answer.
    """
    choices = body["choices"]  # type: ignore[index]
    choice = choices[0]
    if len(choices) > 1:
        raise NotOne(f"the answer has {len(choices):,} choices, and one was asked for")
    return choice


def response_format(task: TaskSpec) -> dict[str, object]:
    """The `response_format` that asks for JSON with one of the labels, or with the answers to all questions."""
    if task.is_json:
        return {"type": "json_schema", "json_schema": {"name": "answers", "strict": True, "schema": schema_of(task)}}
    label = {"type": "string", "enum": list(task.labels)}
    schema = {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}


def request_body(teacher: Served, task: TaskSpec, text: str, structured: bool) -> dict:
    """What is posted about a text, without the model's name."""
    score = teacher.mode == "score"
    messages = task.messages(text)
    out: dict = {"messages": messages} if task.chat else {"prompt": messages[0]["content"]}
    out |= {"temperature": teacher.temperature, "max_tokens": 1 if score else tokens_for(task, teacher.max_new_tokens)}
    if teacher.temperature:
        out["seed"] = teacher.seed
    if score:
        out |= {"logprobs": True, "top_logprobs": TOP} if task.chat else {"logprobs": TOP}
    if structured and not score:
        out["response_format"] = response_format(task)
    out |= teacher.extra()
    for name, new in teacher.parameters().items():
        if name in out:
            value = out.pop(name)
            out |= {} if new is None else {new: value}
    return out


def read_answer_body(teacher: Served, task: TaskSpec, body: object, structured: bool = False) -> Reply:
    """
    The reply in a server's answer. An answer that was cut or filtered is one, even an empty one.

    Args:
        teacher (`Served`): Who was asked.
        task (`TaskSpec`): What.
        body (`object`): The answer's JSON.
        structured (`bool`, defaults to `False`): Whether the request carried `response_format`.

    Raises:
        Again: It is none, or an empty one.
        RowError: It cannot be read; asking again would not help.
        NoLogprobs: It has not what score mode reads.
    """
    try:
        choice = only_choice(body)
        content, tokens = written(choice), counted(body)  # type: ignore[arg-type]
        likeliest = first_tokens(choice) if teacher.mode == "score" else {}
        finish = finished(choice, body)  # type: ignore[arg-type]
        broken = finish == "broken" or choice.get("error") or body.get("error")  # type: ignore[attr-defined]
    except NotLogprobs as error:
        raise RowError(f"the answer cannot be used: {error}", 0, billed=True) from None
    except NotOne as error:
        raise RowError(str(error), 0, billed=True) from None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise Again("the answer is not the JSON of a completion", billed=True) from None
    if broken:
        raise Again("the server broke the answer off", billed=True)
    if teacher.mode == "score" and finish != "content_filter":
        return scored(task, likeliest, content, tokens, teacher.greedy(), thought_of(choice))
    if finish not in ("length", "content_filter") and not (content and content.strip()):
        raise Again("the answer is empty", billed=True)
    if task.is_json and not task.chat and (ended := first_object(content or "")) is not None:
        content, finish = ended, "stop"  # a plain completion goes on
    return Reply(None, content, False, 0.0, *tokens, finish=finish, structured=structured)


def written(choice: Mapping) -> str | None:
    """
    The text of an answer, chat or completion; a refusal where there is nothing else. Of parts only those of type text
    count: thoughts are no answer, nor is `reasoning_content`.
    """
    if "message" not in choice:
        return _text(choice["text"])
    message = choice["message"]
    content = _text(message.get("content"))
    return content or _text(message.get("refusal")) or content


def thought_of(choice: Mapping) -> str:
    """The thought that a server keeps apart from the answer, `""` where there is none: a template may have opened it."""
    message = choice.get("message")
    said = [message.get(name) for name in ("reasoning_content", "reasoning")] if isinstance(message, Mapping) else []
    return next((_text(one) or "" for one in said if _text(one)), "")


def _text(content: object) -> str | None:
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    return clean(content) if isinstance(content, str) else None


def clean(text: str) -> str:
    """Text without lone surrogates, which no file takes."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def finished(choice: Mapping, body: Mapping | None = None) -> str | None:
    """
    Why an answer ended, in OpenAI's words whoever says it and under whichever of [`ENDS`], in the choice or the body around
    it; `broken` for a server's fault, `None` where nobody said. A refusal in place of an answer was filtered, and "stop"
    counts less than another reason that stands beside it.
    """
    message = choice.get("message") or {}
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    refused = _text(message.get("refusal")) or any(isinstance(p, dict) and p.get("type") == "refusal" for p in parts)
    if refused and not (_text(content) or "").strip():
        return "content_filter"
    said = [_finish(place.get(name)) for place in (choice, body or {}) for name in ENDS]
    said = [one for one in said if one is not None]
    others = [one for one in said if one != "stop"]
    return (others or said or [None])[0]


def _finish(reason: object) -> str | None:
    if isinstance(reason, Mapping):  # {"type": "length"}, {"reason": "max_output_tokens"}
        said = [_finish(one) for one in reason.values()]
        return next((one for one in said if one not in (None, "stop")), None)
    if not isinstance(reason, str):
        return None
    word = re.sub(r"[\s-]+", "_", reason.strip().lower().rpartition(".")[2])
    return _FINISH.get(word) or next((name for name, like in _LIKE_FINISH if like.search(word)), None)


def counted(body: Mapping) -> tuple[int, int]:
    """Tokens in and out as the server counted them; zeros where it did not, or what it says is no count."""
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(value: object) -> int:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return int(value) if fine else 0  # type: ignore[call-overload]


def obeys(content: str | None, task: TaskSpec) -> bool:
    """Whether an answer is the JSON that structured output promises."""
    if task.is_json:
        return obeys_schema(task, content)
    try:
        return json.loads(content or "")["label"] in task.labels
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def retry_after(header: str | None) -> float:
    """Seconds of a Retry-After header, which may be a date; 0 where it says nothing, infinity where it is endless."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
        return seconds if seconds > 0 else 0.0
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
        except OverflowError:
            return math.inf
        except (ValueError, TypeError, IndexError):
            return 0.0


def server_message(body: bytes) -> tuple[str, str | None]:
    """What a server said in an error, and the parameter that it names. Neither is trusted: see [`one_line`]."""
    text = body.decode("utf-8", "replace")
    try:
        return _message(json.loads(body), text)
    except (ValueError, RecursionError):
        return text, None


def _message(answer: object, otherwise: str) -> tuple[str, str | None]:
    said: object = None
    parameter = None
    if isinstance(answer, dict):
        said = answer.get("error") or answer.get("detail") or answer.get("message")
    if isinstance(said, dict):
        parameter = said.get("param")
        said = said.get("message") or said
    try:
        return str(said or otherwise), parameter if isinstance(parameter, str) else None
    except RecursionError:
        return "", None


def body_error(body: object) -> str | None:
    """What a server says in an answer of status 200 that is an error in place of a completion."""
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):
        return _message(body, "")[0]
    return None


def refused_parameter(teacher: Served, said: str, named: str | None) -> str | None:
    """What to do about a parameter that a server refuses; `None` where its message is about something else."""
    now = teacher.parameters()
    sent = {now.get(name, name): name for name in _PARAMETERS}
    word = re.search(r"(?<![\w])(" + "|".join(re.escape(n) for n in sent if n) + r")(?![\w])", said)
    found = named or (word[1] if word else None)
    if found not in sent or not _REFUSES.search(said):
        return None
    instead = _INSTEAD.search(said)
    new = next((name for name in instead.groups() if name), None) if instead else None
    if new is None and found == "max_tokens":
        new = "max_completion_tokens"
    change = json.dumps({**now, sent[found]: new})
    return f"the server takes no {found}; pass --request_parameters '{change}'"
