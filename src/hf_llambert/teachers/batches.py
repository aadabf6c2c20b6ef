"""Requests for a batch service, written to files: OpenAI's format, which vLLM's `run-batch` and many read, and others'."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hf_llambert.tasks.requests import tokens_for
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import why_unusable
from hf_llambert.teachers.base import check
from hf_llambert.teachers.batch_forms import Form
from hf_llambert.teachers.batch_services import SERVICES
from hf_llambert.teachers.protocol import response_format
from hf_llambert.whole import scratch_folder, sync

_TOO_LONG = "request is larger than a whole file may be"


@dataclass(frozen=True)
class BatchFiles:
    """
    What [`write_batch`] wrote.

    Args:
        files (`tuple[str, ...]`): The request files, in order.
        requests (`int`): Requests in them: different texts that can be asked about.
        duplicates (`int`): Texts that had a request already.
        left_out (`dict[str, int]`): How many texts have no request, by reason.
        prompt_characters (`int`): Characters of all prompts. English has about four to a token.
    """

    files: tuple[str, ...]
    requests: int
    duplicates: int
    left_out: dict[str, int]
    prompt_characters: int


def custom_id(task: TaskSpec, text: str) -> str:
    """The name of the request about `text`: a sha256 of exactly the messages that are asked."""
    return messages_id(task.messages(text))


def messages_id(messages: Sequence[Mapping[str, object]]) -> str:
    """See [`custom_id`]. A plain prompt is one user turn."""
    asked = json.dumps(messages, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()


def write_batch(
    task: TaskSpec,
    texts: Iterable[object],
    path: str | Path,
    model: str,
    *,
    max_tokens: int = 10,
    seed: int | None = 42,
    top_logprobs: int = 0,
    structured: bool = False,
    max_requests: int | None = None,
    max_bytes: int | None = None,
    service: str = "openai",
) -> BatchFiles:
    """
    Write a request about each text for a batch service. [`RecordedTeacher`] reads what the service answers.

    A chat task asks `/v1/chat/completions`, a plain one `/v1/completions`, at temperature 0. A request is named by what
    it asks, so its answer finds its text again without this file. `annotate` with a [`BatchTeacher`] does all of it.

    Args:
        task (`TaskSpec`): What to ask.
        texts (`Iterable`): The texts, one after another: they need not fit in memory. A repeated one is asked once; an
            unusable one is left out and counted.
        path (`str` or `Path`): The file, ending in .jsonl. Where one is not enough, `name-00001.jsonl` and so on.
        model (`str`): The model's name at the service.
        max_tokens (`int`, defaults to 10): Longest answer. One in JSON (several questions, or `choices`) may always have as
            many as the longest that answers, counted in bytes.
        seed (`int`, *optional*, defaults to 42): Seed of the service. `None` leaves it out.
        top_logprobs (`int`, defaults to 0): Ask for the log-probabilities of so many likeliest first tokens (20 at most),
            for `RecordedTeacher(mode="score")`. OpenAI allows 5 for a plain task.
        structured (`bool`, defaults to `False`): Ask for JSON with one of the labels, or with the answers to all questions, by
            a schema (`response_format`). Give that of labels more tokens: `{"label": "..."}` is longer than the label.
        max_requests (`int`, *optional*): Most requests of one file. Defaults to what the service takes (OpenAI: 50,000).
        max_bytes (`int`, *optional*): Largest file. Defaults to what the service takes (OpenAI: 200 million).
        service (`str`, defaults to `"openai"`): Whose format: `openai`, `openai-compatible`, `anthropic`, `mistral` or `gemini`.

    Raises:
        FileExistsError: A file of that name is there.
        ValueError: The path or a number does not make sense, no text is usable, or the task cannot be asked that way.
    """
    path = Path(path)
    check(service in SERVICES, "service", f"one of {', '.join(SERVICES)}", service)
    protocol = SERVICES[service]
    protocol.form.check(task, bool(top_logprobs))
    _check(task, path, max_tokens, top_logprobs, structured)
    max_requests = protocol.most_requests if max_requests is None else max_requests
    max_bytes = protocol.most_bytes if max_bytes is None else max_bytes
    if min(max_requests, max_bytes) < 1:
        raise ValueError(f"max_requests and max_bytes must be positive, got {max_requests} and {max_bytes}.")
    for there in (path, path.with_name(f"{path.stem}-00001.jsonl")):  # before hours of work, not only at the end
        if there.exists():
            raise FileExistsError(f"'{there}' exists already. Choose another file, or remove it.")
    body: dict[str, object] = {"model": model, "temperature": 0, "max_tokens": tokens_for(task, max_tokens)}
    if seed is not None:
        body["seed"] = seed
    if top_logprobs:
        body |= {"logprobs": True, "top_logprobs": top_logprobs} if task.chat else {"logprobs": top_logprobs}
    if structured:
        body["response_format"] = response_format(task)
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with scratch_folder(path) as folder:
        parts = _write(
            folder,
            _requests(task, texts, body, protocol.form, counts, left_out),
            max_requests,
            max_bytes,
            left_out,
            counts,
        )
        if not parts:
            raise ValueError(f"No text can be asked about: {dict(left_out) or 'there is none'}.")
        files = [path] if len(parts) == 1 else [path.with_name(f"{path.stem}-{part.name}") for part in parts]
        _publish(parts, files)
    return BatchFiles(
        tuple(map(str, files)), counts["requests"], counts["duplicates"], dict(left_out), counts["characters"]
    )


def _check(task: TaskSpec, path: Path, max_tokens: int, top_logprobs: int, structured: bool) -> None:
    if path.suffix != ".jsonl":
        raise ValueError(f"A request file must end in .jsonl, got '{path.name}'.")
    if max_tokens < 1 or not 0 <= top_logprobs <= 20:
        raise ValueError(
            f"max_tokens must be positive and top_logprobs from 0 to 20, got {max_tokens} and {top_logprobs}."
        )
    if task.chat and task.lead_in:
        raise ValueError(
            f"Task '{task.name}' begins the answer with lead_in {task.lead_in!r}, which a chat service cannot continue. "
            f"Move it into the instruction, or set chat: false."
        )
    if top_logprobs and task.is_json:
        raise ValueError(
            f"Task '{task.name}' is answered in JSON, whose first token says nothing about a label. Drop top_logprobs, or "
            f"write a batch for each task of task.branches."
        )
    if structured and not task.chat:
        raise ValueError(f"Task '{task.name}' is a plain completion, which has no response_format. Drop structured.")
    if structured and top_logprobs:
        raise ValueError("With structured=True the first token is a bracket, not a label. Drop top_logprobs.")


def _requests(
    task: TaskSpec,
    texts: Iterable[object],
    body: dict[str, object],
    form: Form,
    counts: Counter[str],
    left_out: Counter[str],
) -> Iterator[tuple[bytes, int]]:
    """A line for each text that can be asked about, and the characters of its prompt."""
    seen: set[bytes] = set()
    for text in texts:
        reason = why_unusable(text)
        if reason is not None or not isinstance(text, str):
            left_out[reason or ""] += 1
            continue
        name = custom_id(task, text)
        if (digest := bytes.fromhex(name[:32])) in seen:
            counts["duplicates"] += 1
            continue
        seen.add(digest)
        messages = task.messages(text)
        asked: dict[str, object] = {"messages": messages} if task.chat else {"prompt": messages[0]["content"]}
        line = form.line(name, {**body, **asked}, task.chat)
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n", sum(len(m["content"]) for m in messages)


def _write(
    folder: Path,
    requests: Iterator[tuple[bytes, int]],
    max_requests: int,
    max_bytes: int,
    left_out: Counter[str],
    counts: Counter[str],
) -> list[Path]:
    parts: list[Path] = []
    lines = size = 0
    with ExitStack() as stack:
        file = None
        for line, characters in requests:
            if len(line) > max_bytes:
                left_out[_TOO_LONG] += 1
                continue
            if file is None or lines == max_requests or size + len(line) > max_bytes:
                stack.close()
                parts.append(folder / f"{len(parts) + 1:05}.jsonl")
                file, lines, size = stack.enter_context(parts[-1].open("wb")), 0, 0
            file.write(line)
            lines, size = lines + 1, size + len(line)
            counts["requests"] += 1
            counts["characters"] += characters
    return parts


def _publish(parts: list[Path], files: list[Path]) -> None:
    """Give finished files their names: all of them or none."""
    there = [name for name in files if name.exists()]
    if there:
        raise FileExistsError(f"'{there[0]}' exists already. Choose another file, or remove it.")
    for part in parts:
        sync(part)
    done: list[Path] = []
    try:
        for part, name in zip(parts, files, strict=True):
            part.rename(name)
            done.append(name)
    except OSError:
        for name in done:
            name.unlink()
        raise
