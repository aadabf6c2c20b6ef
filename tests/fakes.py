"""A teacher that answers at once, to test what stands around teachers."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_llambert import TaskSpec
from hf_llambert.teachers.base import Mode, Reply


@dataclass(frozen=True)
class CountingTeacher:
    """
    Scores a text by its length, two texts at a time, and writes every text it was asked about to a file.

    `dies_after` kills the process, as the kernel would; `fails_on` makes texts that contain it fail.
    """

    log: str
    mode: Mode = "score"
    dies_after: int = 0
    fails_on: str = ""
    version: int = 1
    overlaps = False

    def identity(self) -> dict[str, object]:
        return {"teacher": "counting", "mode": self.mode, "version": self.version}

    def settings(self) -> dict[str, object]:
        return self.identity()

    def asked(self) -> list[str]:
        path = Path(self.log)
        return path.read_text().splitlines() if path.exists() else []

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        for start in reversed(range(0, len(texts), 2)):
            if self.dies_after and len(self.asked()) >= self.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            part = {}
            for i in range(start, min(start + 2, len(texts))):
                with Path(self.log).open("a") as file:
                    file.write(texts[i] + "\n")
                part[i] = self._reply(task, texts[i])
            yield part

    def _reply(self, task: TaskSpec, text: str) -> Reply:
        if self.fails_on and self.fails_on in text:
            return Reply(error="no connection")
        if self.mode == "generate":
            return Reply(response=task.labels[len(text) % task.num_labels] if len(text) % 5 else "who knows")
        return Reply(scores=tuple(-1.0 - (len(text) + i) % 3 for i in range(task.num_labels)), seconds=0.5)
