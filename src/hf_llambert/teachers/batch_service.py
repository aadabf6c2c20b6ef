"""The loop of all batch services: write, note, submit, note, wait, fetch. What is paid for is on the disk at every step."""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert.processes import world_size
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.requests import tokens_for
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.batch_notes import BatchNotes, Note, shown
from hf_llambert.teachers.batch_results import Found, read_results
from hf_llambert.teachers.batch_services import State, most_bytes_of
from hf_llambert.teachers.batch_transport import Refused, Unsure, Wire
from hf_llambert.teachers.keys import check_labels
from hf_llambert.teachers.pacing import Budget
from hf_llambert.teachers.protocol import request_body
from hf_llambert.whole import scratch_folder

if TYPE_CHECKING:
    from hf_llambert.teachers.batch import BatchTeacher

logger = get_logger(__name__)

_REFUSED_KEY = (401, 402, 403)
_GONE = (404, 410)
_KEPT = 28 * 86400.0  # seconds that services keep a batch and its answers, at least
_LOOKS, _RECENT = 5, 3600.0  # looks for a batch submitted within so many seconds: lists lag behind
_SLOWEST = 20  # times the first pause
_AT_ONCE = 1000  # replies that are handed over together
_SPENT = "the budget is spent: raise max_requests, max_tokens or max_cost, and run again"


class Batches:
    """One call of `ask_noted`: the batches of these rows."""

    def __init__(
        self,
        teacher: BatchTeacher,
        rows: Mapping[str, tuple[TaskSpec, str]],
        notes: BatchNotes,
        tell: Callable[[int], bool],
    ) -> None:
        self.teacher, self.rows, self.notes, self.tell = teacher, rows, notes, tell
        self.service = teacher.protocol
        self.form = self.service.form
        caps = (teacher.max_requests, teacher.max_tokens, teacher.max_cost)
        self.budget = _BUDGETS.setdefault(teacher, Budget(*caps, teacher.price_input, teacher.price_output))
        self.open: list[Note] = []
        self.waiting: deque[str] = deque()
        self.states: dict[str, State] = {}
        self.cancelled: set[str] = set()
        self.given = 0
        self.unasked = 0
        self.full = False  # as much is under way as the account may have

    def run(self) -> Iterator[dict[str, Reply]]:
        """See [`BatchTeacher.ask_noted`]."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(
                "HF_HUB_OFFLINE is set, and with it no batch service is asked, not even a local one. Unset it."
            )
        if world_size() > 1:
            raise ValueError(
                "A batch service needs no second process: start annotate once, without accelerate launch."
            )
        key = self.teacher.key()
        self.wire = Wire(
            self.service.name,
            self.teacher.address,
            self.service.headers(key),
            key,
            self.teacher.timeout,
            first_wait=min(1.0, self.teacher.poll_seconds),
        )
        tasks = dict.fromkeys(one for whole, _ in self.rows.values() for one in whole.parts.values())
        check_labels(tasks, self.wire.redact, self.teacher.api_key_variable or self.service.variable)
        try:
            yield from self._run()
        except KeyboardInterrupt:
            if self.open:
                logger.warning("%s goes on at the service; the same command fetches the answers.", shown(self.open))
            raise
        finally:
            for note in self.open:  # the next call in this process reserves it anew
                self._release(note)
            self.wire.close()
            if self.unasked:
                logger.warning(
                    "The service '%s' answered %s row(s) that were not asked; they are not used.",
                    self.service.name,
                    f"{self.unasked:,}",
                )

    def _run(self) -> Iterator[dict[str, Reply]]:
        self._take_up()
        begun = time.monotonic()
        pause = self.teacher.poll_seconds
        while self.waiting or self.open:
            if not (self.full and self.open):
                yield from self._submit_all()
            self._cancel_what_is_forbidden()
            ended = [note for note in list(self.open) if self._poll(note).ended]
            ended.sort(key=lambda note: not self._state(note).full)  # while those that made room are counted as open
            for note in ended:
                yield from self._settle(note)
            if ended:
                pause = self.teacher.poll_seconds
                continue
            if not self.open:
                break
            if not self.tell(self.given + sum(min(self._state(n).done, len(n.keys)) for n in self.open)):
                logger.warning("%s goes on at the service; the same command fetches the answers.", shown(self.open))
                return
            if time.monotonic() - begun + pause > self.teacher.max_wait_hours * 3600:
                raise TimeoutError(
                    f"{shown(self.open)} has not ended within max_wait_hours {self.teacher.max_wait_hours:g}. It goes on at the "
                    f"service: the same command waits for it again, and submits nothing twice. What was answered is kept."
                )
            time.sleep(pause)
            pause = min(pause * 1.5, self.teacher.poll_seconds * _SLOWEST)
        yield from self._given({key: Reply(error=_SPENT) for key in self.waiting})

    def _take_up(self) -> None:
        """Go on with the batches that an earlier run noted and that ask about rows of this one."""
        known = set()
        for note in self.notes.all():
            mine = note.service == self.service.name and note.address == self.teacher.address
            if note.done or not mine or not any(key in self.rows for key in note.keys):
                continue
            if note.id is None:
                found = self._look_for(note)
                if found is None:  # it never arrived
                    self.notes.drop(note)
                    continue
                note = found  # noqa: PLW2901
            self.open.append(note)
            self.budget.take(note.requests, note.reserved)
            known |= set(note.keys)
        self.waiting.extend(key for key in self.rows if key not in known)
        if self.open:
            logger.warning("Going on with %s, submitted by an earlier run.", shown(self.open))

    def _look_for(self, note: Note) -> Note | None:
        """The note with the id that the service gave its batch; `None` where it has none such."""
        taken = {one.id for one in self.notes.all() if one.id is not None} | set(note.others)
        looks = _LOOKS if time.time() - note.noted_at < _RECENT else 1
        try:
            for look in range(1, looks + 1):
                found = self.wire.patiently(lambda: self.service.find(self.wire, note, taken))
                if found is not None or look == looks:
                    break
                time.sleep(self.wire.first_wait * 2**look)
        except Refused as error:
            self._refuse_key(error)
            raise ValueError(
                f"A batch of {note.requests:,} rows was about to be submitted when the last run ended, and the service "
                f"'{self.service.name}' does not say whether it has it ({error}). If it has, write the batch's id into "
                f'\'{self.notes.path(note)}\' ("id": "..."); if not, remove that file. Then run again.'
            ) from None
        if found is None:
            return None
        note = replace(note, id=found, found=True)
        self.notes.put(note)
        return note

    def _submit_all(self) -> Iterator[dict[str, Reply]]:
        """Submit what waits, in as many batches as it takes, as far as the caps allow."""
        submitted = []
        while self.waiting:
            with scratch_folder(self.notes.folder / "requests") as folder:  # what a kill leaves goes with the next run
                file = folder / "requests.jsonl"
                keys, size, reserved, too_long = self._write(file)
                yield from self._given(too_long)
                if not keys:
                    break
                note = self.notes.new(self.service.name, self.teacher.address, keys, size, reserved)
                note = self._submit(note, file, self.rows[keys[0]][0].chat)
            self.open.append(note)
            submitted.append(note)
        if submitted:
            logger.warning(
                "Submitted %s request(s) to the service '%s': %s. The answers may take a day. Interrupted, the same command "
                "goes on from here and submits nothing twice.",
                f"{sum(note.requests for note in submitted):,}",
                self.service.name,
                shown(submitted),
            )

    def _write(self, file: Path) -> tuple[list[str], int, tuple[float, float], dict[str, Reply]]:
        """Write the next rows into a file, as many as a batch and the caps allow."""
        most = min(self.teacher.batch_requests or self.service.most_requests, self.service.most_requests)
        keys: list[str] = []
        size, read, wrote = 0, 0.0, 0.0
        too_long = {}
        chat = None
        with file.open("wb") as lines:
            while self.waiting and len(keys) < most:
                key = self.waiting[0]
                task, text = self.rows[key]
                if chat not in (None, task.chat):
                    break
                line = self._line(key, task, text)
                if len(line) > self.service.most_bytes:
                    too_long[self.waiting.popleft()] = Reply(error="the request is larger than a whole batch may be")
                    continue
                if size + len(line) > self.service.most_bytes:
                    break
                need = self.budget.reserve(len(line), tokens_for(task, self.teacher.max_new_tokens))
                if need is None:
                    break
                lines.write(line)
                keys.append(self.waiting.popleft())
                size, read, wrote, chat = size + len(line), read + need[0], wrote + need[1], task.chat
        return keys, size, (read, wrote), too_long

    def _line(self, key: str, task: TaskSpec, text: str) -> bytes:
        body = request_body(self.teacher.served, task, text, self.teacher.structured)
        line = self.form.line(key, {"model": self.teacher.model, **body}, task.chat)
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def _submit(self, note: Note, file: Path, chat: bool) -> Note:
        """Submit a batch that is noted, and note its id. What may have arrived is looked for before it is sent again."""
        surely_not = True
        for attempt in range(1, self.wire.attempts + 1):
            try:
                batch = self.service.submit(self.wire, note, file, self.teacher.model, chat)
                note = replace(note, id=batch)
                self.notes.put(note)
                return note
            except Unsure as error:  # it may have arrived
                surely_not = False
                self.wire.pause(error, attempt)
                found = self._look_for(note)
                if found is not None:
                    return found
            except ConnectionError:
                if surely_not:
                    self.notes.drop(note)
                raise
            except Refused as error:
                if surely_not:  # else an earlier attempt may have arrived, and the next run looks for it
                    self.notes.drop(note)
                self._refuse_key(error)
                if error.status in (404, 405):
                    raise ConnectionError(
                        f"'{self.teacher.address}' has no batches such as the service '{self.service.name}', or no model "
                        f"'{self.teacher.model}': {error}. Check service, base_url and model."
                    ) from None
                raise ValueError(
                    f"The service '{self.service.name}' refuses a batch of {note.requests:,} requests ({note.size:,} bytes): "
                    f"{error}. Nothing of it was submitted. Where it is too large, pass a smaller batch_requests."
                ) from None
        raise RuntimeError("no attempt was allowed")

    def _poll(self, note: Note) -> State:
        """How far a batch is; ended where the service has it no more."""
        try:
            state = self.wire.patiently(lambda: self.service.state(self.wire, str(note.id)))
        except Refused as error:
            self._refuse_key(error)
            if error.status not in _GONE:
                raise ConnectionError(
                    f"The service '{self.service.name}' says nothing about batch {note.id}: {error}. Run again later: it is "
                    f"noted."
                ) from None
            if time.time() - note.noted_at < _KEPT:
                raise ConnectionError(
                    f"The service '{self.service.name}' knows no batch {note.id} ({error}), which is too young to be gone. Run "
                    f"again with the key of the account that submitted it; its answers are paid for. If it was removed there, "
                    f"remove '{self.notes.path(note)}'."
                ) from None
            state = State("gone", True, True, 0, why=f"the service has it no more: {error}")
        self.states[note.name] = state
        return state

    def _state(self, note: Note) -> State:
        return self.states.get(note.name) or State("unknown", False, True, 0)

    def _cancel_what_is_forbidden(self) -> None:
        """Where more is used, or under way, than the caps allow: cancel what is surely ours and not begun, the last first."""
        for note in reversed(self.open):
            if not self.budget.over():
                return
            if (note.found and not self.service.names) or note.name in self.cancelled or self._poll(note).begun:
                continue
            try:
                self.service.cancel(self.wire, str(note.id))
            except Refused:
                continue  # it has begun, or ended, meanwhile
            self.cancelled.add(note.name)
            self.budget.take(-note.requests, (-note.reserved[0], -note.reserved[1]))
            logger.warning("Batch %s (%s requests) is cancelled: %s.", note.id, f"{note.requests:,}", _SPENT)

    def _settle(self, note: Note) -> Iterator[dict[str, Reply]]:
        """Fetch the answers of a batch that has ended, and hand them over; its note is done when they are on the disk."""
        state = self._state(note)
        self.full = state.full and any(not self._state(other).full for other in self.open)
        if self.full:
            logger.warning("Batch %s is submitted again when others have ended: %s.", note.id, state.why)
            self.open.remove(note)
            self._release(note)
            self.notes.drop(note)
            self.waiting.extend(key for key in note.keys if key in self.rows)
            return
        wanted = {key: self.rows[key][0] for key in note.keys if key in self.rows}
        found = self._fetch(note, state, wanted)
        self.open.remove(note)
        if note.found and found.unasked and not found.ours:
            self._not_ours(note)
            return
        self.unasked += found.unasked
        why = _SPENT if note.name in self.cancelled else f"batch {note.id} ended without an answer about this text"
        why += "" if note.name in self.cancelled or not (state.why or found.why) else f" ({found.why or state.why})"
        replies = {key: found.replies.get(key) or Reply(error=why) for key in wanted}
        self._count(note, list(replies.values()), found.cached)
        yield from self._given(replies)
        left = tuple(key for key in note.keys if key not in self.rows)  # of a larger sample: they stay to be fetched
        self.notes.put(replace(note, keys=left, done=not left))

    def _release(self, note: Note) -> None:
        """Reserve nothing for a batch any more."""
        if note.name not in self.cancelled:
            self.budget.take(-note.requests, (-note.reserved[0], -note.reserved[1]))

    def _count(self, note: Note, replies: list[Reply], cached: int) -> None:
        """Count what a batch took, in place of what was reserved for it."""
        counted = [(reply.input_tokens, reply.output_tokens) for reply in replies if reply.input_tokens]
        took = sum(read for read, _ in counted), sum(wrote for _, wrote in counted)
        reserved = (0.0, 0.0) if note.name in self.cancelled else note.reserved
        if len(counted) == note.requests:
            self.budget.settle(reserved, note.size, took)
        elif counted or all(reply.error is not None for reply in replies):
            self.budget.settle(reserved, 0, None)
            self.budget.take(0, took)
        # a service that counts nothing took what was reserved
        if self.teacher.price_cached_input is not None:
            self.budget.used_cost -= cached * (self.teacher.price_input - self.teacher.price_cached_input) / 1e6

    def _not_ours(self, note: Note) -> None:
        """Look for another batch that may be a note's; submit its rows where there is none."""
        self._release(note)
        again = replace(note, id=None, found=False, others=(*note.others, str(note.id)))
        self.notes.put(again)
        found = self._look_for(again)
        if found is None:
            self.notes.drop(again)
            self.waiting.extend(key for key in note.keys if key in self.rows)
        else:
            self.open.append(found)
            self.budget.take(found.requests, found.reserved)

    def _fetch(self, note: Note, state: State, wanted: Mapping[str, TaskSpec]) -> Found:
        with tempfile.TemporaryFile(prefix="hf-llambert-batch-") as file:
            why = ""
            for line in state.inline:
                file.write(json.dumps(line).encode() + b"\n")
            for place in state.places:
                try:
                    self.service.fetch(self.wire, place, file, most_bytes_of(note.requests) - file.tell())
                except Refused as error:
                    self._refuse_key(error)
                    if error.status not in _GONE:
                        raise ConnectionError(
                            f"The service '{self.service.name}' refuses the answers of batch {note.id}: {error}. Run again: they "
                            f"are noted, and paid for."
                        ) from None
                    why = f"the service gives its answers no more: {error}"
                if file.tell() and place != state.places[-1]:
                    file.write(b"\n")
            file.seek(0)
            found = read_results(file, self.form, self.teacher.served, wanted, set(note.keys), self.wire.redact)
        return replace(found, why=why)

    def _given(self, replies: dict[str, Reply]) -> Iterator[dict[str, Reply]]:
        items = list(replies.items())
        for start in range(0, len(items), _AT_ONCE):
            part = dict(items[start : start + _AT_ONCE])
            self.given += len(part)
            yield part

    def _refuse_key(self, error: Refused) -> None:
        """Raise a `PermissionError` where it is the key, or the account, that is refused."""
        if error.status in _REFUSED_KEY:
            variable = self.teacher.api_key_variable or self.service.variable or "the key (api_key_variable)"
            raise PermissionError(f"The service '{self.service.name}' refuses: {error}. Check {variable}.") from None


_BUDGETS: dict[BatchTeacher, Budget] = {}
