"""Asking a teacher about texts that lack replies: each reply is in the ledger before the next is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_llambert.annotation.asked import whole
from hf_llambert.annotation.limits import Spending
from hf_llambert.teachers.base import Reply, ask_branches, asks_in_batches, asks_together
from hf_llambert.teachers.batch_notes import BatchNotes

if TYPE_CHECKING:
    from hf_llambert.annotation.labelers import LLMLabeler


@dataclass
class Asking:
    """Asks about texts that lack replies, and puts these into the ledger and into `known`."""

    labeler: LLMLabeler
    rank: int | None
    progress: Callable[[int], None] | None
    spending: Spending | None
    keys: dict[str, tuple[str, ...]]
    known: dict[str, dict[int, Reply]]
    wanted: int
    done: int

    def about(self, texts: list[str], lacking: tuple[int, ...]) -> None:
        """Ask what is `lacking`, by number of the request, about each text, until a cap is reached."""
        left, spending = texts, self.spending
        if asks_in_batches(self.labeler.teacher):
            if not (spending and spending.over()):
                self._noted(texts, lacking)
            return
        while left and (room := spending.room(len(left)) if spending else len(left)):
            asked, left = left[:room], left[room:]
            self._batch(asked, lacking)
            if any(k not in self.known[text] for text in asked for k in lacking):
                break

    def _noted(self, texts: list[str], lacking: tuple[int, ...]) -> None:
        """Ask about all texts together, with notes beside the ledger on what was submitted."""
        labeler, shown = self.labeler, 0
        places: dict[str, list[tuple[str, int]]] = {}  # texts of several fields may be asked about in the same words
        for text in texts:
            for k in lacking:
                places.setdefault(self.keys[text][k], []).append((text, k))
        rows = {key: (labeler._asked.requests[k], text) for key, [(text, k), *_] in places.items()}

        def tell(requests: int) -> bool:
            nonlocal shown
            done = requests // len(lacking)
            if self.progress and done > shown:
                self.progress(done - shown)
                shown = done
            return not (self.spending and self.spending.over())

        notes = BatchNotes(labeler.ledger.folder / "batches")
        for replies in labeler.teacher.ask_noted(rows, notes, tell):  # type: ignore[attr-defined]
            labeler.ledger.put(replies, labeler._identity)
            for key, reply in replies.items():
                for text, k in places[key]:
                    self.known[text][k] = reply
            if self.spending:
                self.spending.add_batch(list(replies.values()))
        whole_ones = sum(len(self.known[text]) == len(self.keys[text]) for text in texts)
        if self.progress:
            self.progress(whole_ones - shown)

    def _batch(self, texts: list[str], lacking: tuple[int, ...]) -> None:
        labeler = self.labeler
        # Asked one after the other, each reply is kept before the next request is asked about.
        turns = [lacking] if asks_together(labeler.teacher) else [(k,) for k in lacking]
        for turn in turns:
            tasks = [labeler._asked.requests[k] for k in turn]
            for part in ask_branches(labeler.teacher, tasks, texts, self.rank):
                fresh = {texts[i]: dict(zip(turn, replies, strict=True)) for i, replies in part.items()}
                kept = {self.keys[text][k]: reply for text, some in fresh.items() for k, reply in some.items()}
                labeler.ledger.put(kept, labeler._identity)
                if not self._goes_on(fresh):
                    return

    def _goes_on(self, fresh: dict[str, dict[int, Reply]]) -> bool:
        for text, some in fresh.items():
            self.known[text] |= some
        done = sum(len(self.known[text]) == len(self.keys[text]) for text in fresh)
        self.done += done
        if self.progress and done:
            self.progress(done)
        if not self.spending:
            return True
        self.spending.add_batch([whole(tuple(some.values())) for some in fresh.values()])
        return self.done >= self.wanted or not self.spending.over()
