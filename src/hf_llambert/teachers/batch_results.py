"""The answers of one batch, read from what a service sent: in any order, some failed, some twice, some never asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import IO

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.batch_forms import Form
from hf_llambert.teachers.logprobs import NoLogprobs
from hf_llambert.teachers.protocol import Again, RowError, read_answer_body, read_json
from hf_llambert.teachers.recordings import clean
from hf_llambert.teachers.server import Served
from hf_llambert.teachers.transport import MOST_BYTES, one_line

_BAD = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Found:
    """
    What a batch's answers hold.

    Args:
        replies (`dict[str, Reply]`): By key, of the rows that are wanted.
        ours (`int`): Lines about rows of this batch.
        unasked (`int`): Lines about rows that the batch did not ask about, or about none.
        cached (`int`): Tokens in that the service read from its cache.
        why (`str`): Why some are missing.
    """

    replies: dict[str, Reply]
    ours: int
    unasked: int
    cached: int = 0
    why: str = ""


def read_results(
    file: IO[bytes],
    form: Form,
    teacher: Served,
    wanted: Mapping[str, TaskSpec],
    asked: Collection[str],
    redact: Callable[[str], str],
) -> Found:
    """
    Read a batch's answers.

    Args:
        file (`IO[bytes]`): Lines of JSON.
        form (`Form`): How the service writes them.
        teacher (`Served`): How the answers were asked for.
        wanted (`Mapping[str, TaskSpec]`): The task of each row that a reply is wanted of, by its name in the batch.
        asked (`Collection[str]`): The names of all rows of the batch.
        redact (`Callable[[str], str]`): Takes the key out of an answer.
    """
    replies: dict[str, Reply] = {}
    ours = unasked = cached = 0
    while line := file.readline(MOST_BYTES + 1):
        if len(line) > MOST_BYTES:  # the rest of it is passed over
            while line and not line.endswith(b"\n"):
                line = file.readline(MOST_BYTES)
            unasked += 1
            continue
        if not line.strip():
            continue
        name, said = _line(line, form)
        if name not in asked:
            unasked += 1
            continue
        ours += 1
        if name in wanted:
            reply = _reply(said, form, teacher, wanted[name])
            if reply.response is not None:
                reply = replace(reply, response=redact(reply.response))
            replies[name] = _better(replies.get(name), reply)
            cached += min(_cached(said, form), reply.input_tokens)
    return Found(replies, ours, unasked, cached)


def _line(line: bytes, form: Form) -> tuple[str, dict]:
    try:
        said = read_json(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(said, dict):
        return "", {}
    name = said.get(form.id_field)
    if name is None and isinstance(said.get("metadata"), Mapping):  # Gemini's answers that come without a file
        name = said["metadata"].get(form.id_field)
        said = {**said, form.id_field: name}
    return (name, said) if isinstance(name, str) else ("", {})


def _reply(said: dict, form: Form, teacher: Served, task: TaskSpec) -> Reply:
    try:
        line = form.answer(said)
        response = line.get("response") or {}
        body = response.get("body") or {}
        code = response.get("status_code")
        fault = line.get("error") or body.get("error")
        if fault or code != 200:
            # Not the service's own message: it may repeat a key.
            why = (fault.get("code") or fault.get("type")) if isinstance(fault, dict) else None
            told = [f"status {code!s:.40}"] if response else []
            return Reply(error=f"the batch service failed on this text: {clean(', '.join([*told, f'{why!s:.80}']))}")
        return read_answer_body(teacher, task, body, teacher.structured)
    except (Again, RowError, NoLogprobs) as error:
        return Reply(error=one_line(str(error)))
    except _BAD as error:
        return Reply(error=f"the answer cannot be read: {type(error).__name__}")


def _cached(said: dict, form: Form) -> int:
    """Tokens that were read from a cache, as the service counts them; 0 where it does not say."""
    try:
        count = form.answer(said)["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"]
    except _BAD:
        return 0
    return count if isinstance(count, int) and count > 0 else 0


def _better(before: Reply | None, now: Reply) -> Reply:
    """Of two answers about one row the one that is none of failure; none where they differ."""
    if before is None or before.error is not None:
        return now
    if now.error is not None or (before.response, before.scores) == (now.response, now.scores):
        return before
    return Reply(
        error="the service answered this text twice, and differently",
        input_tokens=before.input_tokens + now.input_tokens,
        output_tokens=before.output_tokens + now.output_tokens,
    )
