"""The protocols of batch services: how each takes a batch, says how far it is, gives its answers, and ends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hf_llambert.teachers.batch_fields import MARK, each, id_of, named, number_of, part, seconds_of
from hf_llambert.teachers.batch_forms import FORMS, Form
from hf_llambert.teachers.batch_notes import Note
from hf_llambert.teachers.batch_transport import MOST_RESULT_BYTES, Refused, Unsure, Wire
from hf_llambert.teachers.transport import MOST_BYTES, one_line

_CLOCKS = 3600.0  # seconds that two clocks may differ
_PAGES = 200


@dataclass(frozen=True)
class State:
    """
    How far a batch is.

    Args:
        said (`str`): In the service's words.
        ended (`bool`): Whether it will change no more.
        begun (`bool`): Whether the service has begun with it.
        done (`int`): Requests that are answered or have failed.
        places (`tuple[str, ...]`): Where its answers are, once it has ended.
        why (`str`): Why it ended, where that was not because all was answered.
        inline (`tuple[dict, ...]`): Answers that came with the state.
        full (`bool`): Whether it ended because the account has as much under way as it may have.
    """

    said: str
    ended: bool
    begun: bool
    done: int
    places: tuple[str, ...] = ()
    why: str = ""
    inline: tuple[dict, ...] = ()
    full: bool = False


class Service(ABC):
    """
    One service's protocol. All methods may raise what [`Wire`] raises.

    A submission that may have arrived, though no answer did, is looked for by [`~Service.find`] before another is sent.
    """

    name = ""
    address: str | None = None
    """Where it is, unless the user says otherwise."""
    variable: str | None = None
    """The environment variable that has the key for that address."""
    most_requests = 50_000
    most_bytes = 200_000_000
    like_endpoint = True
    """Whether a request has the words that an endpoint at the same address gets."""

    names = True
    """Whether a batch has its note's name there, so that one that is found is surely the note's."""

    @property
    def form(self) -> Form:
        """How its lines are written."""
        return FORMS[self.name]

    def headers(self, key: str) -> dict[str, str]:
        """What names the key."""
        return {"Authorization": f"Bearer {key}"}

    @abstractmethod
    def submit(self, wire: Wire, note: Note, file: Path, model: str, chat: bool) -> str:
        """Give it a file of requests; returns the batch's id."""

    @abstractmethod
    def find(self, wire: Wire, note: Note, taken: Collection[str]) -> str | None:
        """
        The id of a batch that was submitted under a note, if it was; not one of those `taken`.

        Raises:
            Refused: The service does not list batches.
        """

    @abstractmethod
    def state(self, wire: Wire, batch: str) -> State:
        """How far a batch is."""

    @abstractmethod
    def cancel(self, wire: Wire, batch: str) -> None:
        """End a batch; what is answered already stays."""

    def fetch(self, wire: Wire, place: str, file: IO[bytes], most: int) -> None:
        """Write the answers at a place to a file."""
        wire.fetch(place, file, most)

    def _listed(self, wire: Wire, path: str, params: Mapping[str, str | int], mark: str) -> Iterator[dict]:
        """The batches that the service lists, page by page; the next begins after the last's id, under `mark`."""
        asked = dict(params)
        for _ in range(_PAGES):
            page = wire.get(path, asked)
            found = each(page.get("data"))
            yield from found
            if not found or not page.get("has_more"):
                return
            asked[mark] = str(found[-1].get("id"))
        raise _too_many()


class OpenAI(Service):
    """Files and batches, as of OpenAI's API reference."""

    name = "openai"
    address: str | None = "https://api.openai.com/v1"
    variable: str | None = "OPENAI_API_KEY"

    def submit(self, wire: Wire, note: Note, file: Path, model: str, chat: bool) -> str:
        """See [`Service`]. The batch has its note's name as metadata."""
        asked = {
            "input_file_id": _upload(wire, note, file),
            "endpoint": "/v1/chat/completions" if chat else "/v1/completions",
            "completion_window": "24h",
            "metadata": {MARK: note.name},
        }
        return id_of(wire.carefully(lambda: wire.once("POST", "/batches", json=asked)), "id")

    def find(self, wire: Wire, note: Note, taken: Collection[str]) -> str | None:
        """See [`Service`]. By the note's name in the metadata; the newest are listed first."""
        for one in self._listed(wire, "/batches", {"limit": 100}, "after"):
            if named(one) == note.name and one.get("id") not in taken:
                return id_of(one, "id")
            if number_of(one.get("created_at")) and number_of(one["created_at"]) < note.noted_at - _CLOCKS:
                return None
        return None

    def state(self, wire: Wire, batch: str) -> State:
        """See [`Service`]."""
        found = wire.get(f"/batches/{batch}")
        said = id_of(found, "status")
        counts = part(found, "request_counts")
        ended = said in ("completed", "failed", "expired", "cancelled")
        places = [found.get("output_file_id"), found.get("error_file_id")] if ended else []
        faults = each(part(found, "errors").get("data"))
        fault = next((f": {one.get('code')} {one.get('message')}" for one in faults), "")
        return State(
            said,
            ended,
            said != "validating",
            number_of(counts.get("completed")) + number_of(counts.get("failed")),
            tuple(f"/files/{place}/content" for place in places if isinstance(place, str) and place),
            "" if said == "completed" else one_line(wire.redact(said + fault)),
            full=any(one.get("code") == "token_limit_exceeded" for one in faults),
        )

    def cancel(self, wire: Wire, batch: str) -> None:
        """See [`Service`]."""
        wire.patiently(lambda: wire.once("POST", f"/batches/{batch}/cancel"))


class Compatible(OpenAI):
    """A server of one's own that has OpenAI's files and batches."""

    name, address, variable = "openai-compatible", None, None


class Mistral(Service):
    """Files and batch jobs, as of Mistral's API reference."""

    name, address, variable = "mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"
    most_requests, most_bytes = 100_000, 500_000_000

    def submit(self, wire: Wire, note: Note, file: Path, model: str, chat: bool) -> str:
        """See [`Service`]. The job has its note's name as metadata."""
        asked = {
            "input_files": [_upload(wire, note, file)],
            "model": model,
            "endpoint": "/v1/chat/completions",
            "metadata": {MARK: note.name},
            "timeout_hours": 24,
        }
        return id_of(wire.carefully(lambda: wire.once("POST", "/batch/jobs", json=asked)), "id")

    def find(self, wire: Wire, note: Note, taken: Collection[str]) -> str | None:
        """See [`Service`]. By the note's name in the metadata."""
        for page in range(_PAGES):
            found = each(wire.get("/batch/jobs", {"page": page, "page_size": 100}).get("data"))
            for one in found:
                if named(one) == note.name and one.get("id") not in taken:
                    return id_of(one, "id")
            if not found:
                return None
        raise _too_many()

    def state(self, wire: Wire, batch: str) -> State:
        """See [`Service`]."""
        found = wire.get(f"/batch/jobs/{batch}")
        said = id_of(found, "status")
        ended = said in ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
        places = [found.get("output_file"), found.get("error_file")] if ended else []
        fault = next((f": {one.get('message')}" for one in each(found.get("errors"))), "")
        return State(
            said,
            ended,
            said != "QUEUED",
            number_of(found.get("completed_requests")),
            tuple(f"/files/{place}/content" for place in places if isinstance(place, str) and place),
            "" if said == "SUCCESS" else one_line(wire.redact(said.lower() + fault)),
        )

    def cancel(self, wire: Wire, batch: str) -> None:
        """See [`Service`]."""
        wire.patiently(lambda: wire.once("POST", f"/batch/jobs/{batch}/cancel"))


class Anthropic(Service):
    """Message batches, as of Anthropic's API reference."""

    name, address, variable = "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"
    most_requests, most_bytes = 100_000, 250_000_000
    like_endpoint = names = False

    def headers(self, key: str) -> dict[str, str]:
        """See [`Service`]."""
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def submit(self, wire: Wire, note: Note, file: Path, model: str, chat: bool) -> str:
        """See [`Service`]. A batch has neither a name nor metadata here."""
        size = file.stat().st_size + len(b'{"requests":[]}') - 1  # of the last line's end nothing is sent
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}

        def send() -> dict:
            return wire.once("POST", "/v1/messages/batches", content=_as_array(file), headers=headers)

        return id_of(wire.carefully(send), "id")

    def find(self, wire: Wire, note: Note, taken: Collection[str]) -> str | None:
        """See [`Service`]. The newest that came after the note with as many requests; its answers show whether it is this one."""
        for one in self._listed(wire, "/v1/messages/batches", {"limit": 100}, "after_id"):
            if seconds_of(one.get("created_at")) < note.noted_at - _CLOCKS:
                return None
            counts = part(one, "request_counts")
            if sum(map(number_of, counts.values())) == note.requests and one.get("id") not in taken:
                return id_of(one, "id")
        return None

    def state(self, wire: Wire, batch: str) -> State:
        """See [`Service`]."""
        found = wire.get(f"/v1/messages/batches/{batch}")
        said, counts = id_of(found, "processing_status"), part(found, "request_counts")
        place = found.get("results_url")
        done = sum(number_of(counts.get(name)) for name in ("succeeded", "errored", "canceled", "expired"))
        ended = said == "ended"
        lost = [name for name in ("canceled", "expired") if number_of(counts.get(name))]
        places = (place,) if ended and isinstance(place, str) else ()
        return State(said, ended, done > 0, done, places, " and ".join(lost))

    def cancel(self, wire: Wire, batch: str) -> None:
        """See [`Service`]."""
        wire.patiently(lambda: wire.once("POST", f"/v1/messages/batches/{batch}/cancel"))


class Gemini(Service):
    """Files and batches, as of the Gemini API's reference."""

    name, address, variable = "gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"
    most_requests, most_bytes = 100_000, 1_900_000_000
    like_endpoint = False

    def headers(self, key: str) -> dict[str, str]:
        """See [`Service`]."""
        return {"x-goog-api-key": key}

    def submit(self, wire: Wire, note: Note, file: Path, model: str, chat: bool) -> str:
        """See [`Service`]. The batch has its note's name."""
        size = str(file.stat().st_size)
        begin = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": size,
            "X-Goog-Upload-Header-Content-Type": "application/jsonl",
        }
        send = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize", "Content-Length": size}

        place = ""

        def start() -> str:
            asked = {"file": {"display_name": note.name}}
            place = wire.answer("POST", "/upload/v1beta/files", json=asked, headers=begin)[1].get("X-Goog-Upload-URL")
            if not place:
                raise Unsure("no address to upload to came back")
            return place

        def upload() -> str:
            nonlocal place
            place = place or wire.patiently(start)
            try:
                with file.open("rb") as lines:
                    return id_of(part(wire.once("POST", place, content=lines, headers=send), "file"), "name")
            except Unsure as error:
                if not error.surely_not:  # a part may have arrived, and offset 0 is refused there
                    place = ""
                raise

        uploaded = wire.patiently(upload)
        batch = {"batch": {"display_name": note.name, "input_config": {"file_name": uploaded}}}
        path = f"/v1beta/models/{model.removeprefix('models/')}:batchGenerateContent"
        return id_of(wire.carefully(lambda: wire.once("POST", path, json=batch)), "name")

    def find(self, wire: Wire, note: Note, taken: Collection[str]) -> str | None:
        """See [`Service`]. By the note's name."""
        asked: dict[str, str | int] = {"pageSize": 100}
        for _ in range(_PAGES):
            page = wire.get("/v1beta/batches", asked)
            for one in each(page.get("operations") or page.get("batches")):
                told = part(one, "metadata") or one
                if told.get("displayName") == note.name and one.get("name") not in taken:
                    return id_of(one, "name")
            if not page.get("nextPageToken"):
                return None
            asked["pageToken"] = str(page["nextPageToken"])
        raise _too_many()

    def state(self, wire: Wire, batch: str) -> State:
        """See [`Service`]."""
        found = wire.get(f"/v1beta/{batch}")
        told = part(found, "metadata") or found
        word = str(told.get("state") or "").rpartition("STATE_")[2]
        stats = part(told, "batchStats")
        output = {**part(told, "output"), **part(found, "response")}  # it has stood in either
        ended = bool(found.get("done")) or word in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
        fault = part(found, "error")
        why = "" if word == "SUCCEEDED" else f"{word.lower() or 'ended'} {fault.get('message') or ''}".strip()
        inline = output.get("inlinedResponses") or {}
        inline = inline.get("inlinedResponses") if isinstance(inline, dict) else inline
        place = output.get("responsesFile")
        return State(
            word.lower(),
            ended,
            word != "PENDING",
            number_of(stats.get("successfulRequestCount")) + number_of(stats.get("failedRequestCount")),
            (f"/download/v1beta/{place}:download?alt=media",) if ended and isinstance(place, str) else (),
            one_line(wire.redact(why)),
            tuple(each(inline)) if ended else (),
        )

    def cancel(self, wire: Wire, batch: str) -> None:
        """See [`Service`]."""
        wire.patiently(lambda: wire.once("POST", f"/v1beta/{batch}:cancel"))


SERVICES: dict[str, Service] = {one.name: one for one in (OpenAI(), Anthropic(), Mistral(), Gemini(), Compatible())}
"""By name."""


def most_bytes_of(requests: int) -> int:
    """Most bytes of the answers to so many requests."""
    return min(MOST_RESULT_BYTES, requests * MOST_BYTES)


def _upload(wire: Wire, note: Note, file: Path) -> str:
    """Upload a file of requests, as OpenAI and Mistral take it; returns its id. A file alone is no batch: it may be repeated."""

    def once() -> str:
        with file.open("rb") as lines:
            sent = {"file": (f"{note.name}.jsonl", lines, "application/jsonl")}
            return id_of(wire.once("POST", "/files", data={"purpose": "batch"}, files=sent), "id")

    return wire.patiently(once)


def _as_array(file: Path) -> Iterator[bytes]:
    """The lines of a file as a JSON array in an object, piece by piece."""
    yield b'{"requests":['
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            yield b"," * bool(number) + line.rstrip(b"\n")
    yield b"]}"


def _too_many() -> Refused:
    return Refused(200, f"it lists more than {_PAGES} pages of batches")
