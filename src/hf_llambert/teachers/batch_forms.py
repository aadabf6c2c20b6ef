"""The lines of requests and answers of batch services: OpenAI's, and how Anthropic's, Mistral's and Gemini's become it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from hf_llambert.tasks.spec import TaskSpec

_TURNS = {"assistant": "model", "user": "user"}


class Form(ABC):
    """How a service writes requests and answers; a line each."""

    name = ""
    id_field = "custom_id"
    completes = False
    """Whether a plain prompt can be asked."""
    scores = False
    """Whether answers can have log-probabilities that are read here."""

    @abstractmethod
    def line(self, name: str, body: Mapping[str, object], chat: bool) -> dict[str, object]:
        """
        A request as a line.

        Args:
            name (`str`): By which its answer is found.
            body (`Mapping`): What is asked, in OpenAI's words.
            chat (`bool`): Whether it is a chat, not a plain prompt.
        """

    @abstractmethod
    def fits(self, line: Mapping) -> bool:
        """Whether a line is an answer of this form."""

    @abstractmethod
    def answer(self, line: Mapping) -> dict:
        """An answer in OpenAI's words. Raises what a damaged line raises: `TypeError`, `KeyError` and the like."""

    @abstractmethod
    def question(self, line: Mapping) -> tuple[list, object]:
        """The turns that a request asks, and its `response_format` in OpenAI's words."""

    def check(self, task: TaskSpec, scored: bool) -> None:
        """
        Refuse a task that cannot be asked in this form.

        Raises:
            ValueError: It is a plain completion or wants scores, and the service has none.
        """
        if not task.chat and not self.completes:
            raise ValueError(
                f"Task '{task.name}' is a plain completion, and the batches of {self.name} only chat. Set chat: true in the task."
            )
        if scored and not self.scores:
            raise ValueError(
                f"The batches of {self.name} give no log-probabilities that are read here. Use mode='generate', without "
                f"top_logprobs."
            )


class _OpenAI(Form):
    name, completes, scores = "openai", True, True

    def line(self, name: str, body: Mapping[str, object], chat: bool) -> dict[str, object]:
        url = "/v1/chat/completions" if chat else "/v1/completions"
        return {"custom_id": name, "method": "POST", "url": url, "body": dict(body)}

    def fits(self, line: Mapping) -> bool:
        return "custom_id" in line and ("response" in line or "error" in line)

    def answer(self, line: Mapping) -> dict:
        return dict(line)

    def question(self, line: Mapping) -> tuple[list, object]:
        body = line.get("body") or {}
        messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
        return messages, body.get("response_format")


class _Compatible(_OpenAI):
    name = "openai-compatible"


class _Mistral(_OpenAI):
    """Answers are OpenAI's; the seed has another name."""

    name, completes, scores = "mistral", False, False

    def line(self, name: str, body: Mapping[str, object], chat: bool) -> dict[str, object]:
        asked = {("random_seed" if key == "seed" else key): value for key, value in body.items()}
        return {"custom_id": name, "body": asked}


class _Anthropic(Form):
    name = "anthropic"

    def line(self, name: str, body: Mapping[str, object], chat: bool) -> dict[str, object]:
        asked = dict(body)
        system, turns = _split(asked.pop("messages"))  # type: ignore[arg-type]
        asked.pop("seed", None)  # it has none
        schema = _schema(asked.pop("response_format", None))
        out = {**asked, "messages": turns}
        if system is not None:
            out["system"] = system
        if schema is not None:
            out["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return {"custom_id": name, "params": out}

    def fits(self, line: Mapping) -> bool:
        result = line.get("result")
        return "custom_id" in line and isinstance(result, Mapping) and "type" in result

    def answer(self, line: Mapping) -> dict:
        result = line["result"]
        out: dict = {"custom_id": line["custom_id"], "response": None, "error": None}
        if result["type"] != "succeeded":
            fault = result.get("error") or {}
            fault = fault.get("error") or fault  # an error in the envelope of one
            return {**out, "error": {"code": fault.get("type") or result["type"]}}
        message = result["message"]
        usage = message.get("usage") or {}
        cached = _number(usage.get("cache_read_input_tokens"))
        read = _number(usage.get("input_tokens")) + cached + _number(usage.get("cache_creation_input_tokens"))
        choice = {
            "message": {"role": "assistant", "content": message["content"]},
            "finish_reason": message.get("stop_reason"),
        }
        return {**out, "response": _response([choice], read, _number(usage.get("output_tokens")), cached)}

    def question(self, line: Mapping) -> tuple[list, object]:
        asked = line.get("params") or {}
        system = [] if asked.get("system") is None else [{"role": "system", "content": asked["system"]}]
        schema = ((asked.get("output_config") or {}).get("format") or {}).get("schema")
        return [*system, *(asked.get("messages") or [])], _response_format(schema)


class _Gemini(Form):
    name, id_field = "gemini", "key"

    def line(self, name: str, body: Mapping[str, object], chat: bool) -> dict[str, object]:
        asked = dict(body)
        asked.pop("model", None)  # the batch names it
        system, turns = _split(asked.pop("messages"))  # type: ignore[arg-type]
        schema = _schema(asked.pop("response_format", None))
        named = {"temperature": "temperature", "max_tokens": "maxOutputTokens", "seed": "seed"}
        config = {new: asked.pop(old) for old, new in named.items() if old in asked}
        if schema is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        more = asked.pop("generationConfig", {})
        out: dict[str, object] = {
            **asked,
            "contents": [{"role": _TURNS[turn["role"]], "parts": [{"text": turn["content"]}]} for turn in turns],
            "generationConfig": {**config, **(more if isinstance(more, Mapping) else {})},
        }
        if system is not None:
            out["systemInstruction"] = {"parts": [{"text": system}]}
        return {"key": name, "request": out}

    def fits(self, line: Mapping) -> bool:
        return "key" in line and (_is_gemini(line.get("response")) or isinstance(line.get("error"), Mapping))

    def answer(self, line: Mapping) -> dict:
        out: dict = {"custom_id": line["key"], "response": None, "error": None}
        if line.get("error"):
            fault = line["error"]
            return {**out, "error": {"code": fault.get("status") or fault.get("code")}}
        response = line["response"]
        choices = [_candidate(one) for one in response.get("candidates") or []]
        if not choices and (response.get("promptFeedback") or {}).get("blockReason"):
            choices = [{"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}]
        usage = response.get("usageMetadata") or {}
        wrote = _number(usage.get("candidatesTokenCount")) + _number(usage.get("thoughtsTokenCount"))
        cached = _number(usage.get("cachedContentTokenCount"))
        return {**out, "response": _response(choices, _number(usage.get("promptTokenCount")), wrote, cached)}

    def question(self, line: Mapping) -> tuple[list, object]:
        asked = line.get("request") or {}
        system = asked.get("systemInstruction") or asked.get("system_instruction")
        turns = [{"role": "system", "content": _joined(system)}] if system else []
        for one in asked.get("contents") or []:
            role = "assistant" if one.get("role") == "model" else "user"
            turns.append({"role": role, "content": _joined(one)})
        config = asked.get("generationConfig") or asked.get("generation_config") or {}
        return turns, _response_format(config.get("responseJsonSchema"))


def _split(messages: list[Mapping]) -> tuple[str | None, list[dict]]:
    """The system turn, and the others."""
    system = next((turn["content"] for turn in messages if turn["role"] == "system"), None)
    return system, [dict(turn) for turn in messages if turn["role"] != "system"]


def _schema(response_format: object) -> object:
    return None if response_format is None else response_format["json_schema"]["schema"]  # type: ignore[index]


def _response_format(schema: object) -> object:
    """A schema of one of the labels, or of answers to questions, as it is asked of OpenAI."""
    if not isinstance(schema, Mapping):
        return None
    name = "label" if list(schema.get("properties") or ()) == ["label"] else "answers"
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _response(choices: list[dict], read: int, wrote: int, cached: int) -> dict:
    usage = {"prompt_tokens": read, "completion_tokens": wrote, "prompt_tokens_details": {"cached_tokens": cached}}
    return {"status_code": 200, "body": {"choices": choices, "usage": usage}}


def _candidate(candidate: Mapping) -> dict:
    parts = (candidate.get("content") or {}).get("parts") or []
    said = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
    return {"message": {"role": "assistant", "content": said}, "finish_reason": candidate.get("finishReason")}


def _joined(turn: Mapping) -> str:
    return "".join(part.get("text") or "" for part in turn.get("parts") or [])


def _is_gemini(response: object) -> bool:
    return isinstance(response, Mapping) and ("candidates" in response or "promptFeedback" in response)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


FORMS: dict[str, Form] = {form.name: form for form in (_OpenAI(), _Anthropic(), _Mistral(), _Gemini(), _Compatible())}
"""By the service's name."""

_READ = [FORMS[name] for name in ("openai", "anthropic", "gemini")]  # Mistral answers in OpenAI's form


def form_of(line: Mapping, place: str) -> Form | None:
    """
    The form of an answer's line; `None` where it is none.

    Args:
        line (`Mapping`): The line's JSON.
        place (`str`): Where it stands, for the error.

    Raises:
        ValueError: It can be read as the answers of two services.
    """
    found = [form for form in _READ if form.fits(line)]
    if len(found) > 1:
        names = " and ".join(form.name for form in found)
        raise ValueError(
            f"{place} can be read as an answer of {names}: it has {', '.join(map(str, line))}. Leave in each line the fields of "
            f"one service."
        )
    return found[0] if found else None
