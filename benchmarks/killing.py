"""What `kill.py`, `kill_cascade.py`, `kill_pool.py` and `kill_training.py` share: runs that are killed, and tiny models."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from hf_llambert import TaskSpec, TransformersTeacher
from hf_llambert.teachers.base import Reply

ASSETS = Path(__file__).parent.parent / "assets"
TASK = TaskSpec("kill", ("negative", "positive"), "{text}", chat=False)


def make_parser(description: str | None, seed: int) -> argparse.ArgumentParser:
    """What each script takes: how many kills, on how many processes, drawn from which seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=seed)
    return parser


class Run:
    """
    Work in processes forked from this one, which has imported everything and computed nothing.

    Args:
        work (`Callable`): What each of them does.
        processes (`int`, defaults to 1): How many; they find each other as those of a launcher do.
    """

    def __init__(self, work: Callable[[], None], processes: int = 1) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (its processes write there)
        self.failed = False
        port = _free_port() if processes > 1 else 0
        self.running = [self._fork(work, rank, processes, port) for rank in range(processes)]

    def _fork(self, work: Callable[[], None], rank: int, processes: int, port: int) -> int:
        if child := os.fork():
            return child
        try:
            os.dup2(self.errors.fileno(), 1)
            os.dup2(self.errors.fileno(), 2)
            if processes > 1:
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
                group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
                os.environ.update({name: str(value) for name, value in {**place, **group}.items()})
            work()
        except BaseException:  # noqa: BLE001  (a child must not go on as its parent)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    def has_ended(self) -> bool:
        """Whether none of its processes runs any more."""
        for child in list(self.running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self.running.remove(child)
                self.failed |= status != 0
        return not self.running

    def kill(self) -> bool:
        """Kill all its processes at once. Gives whether any ran."""
        ran = not self.has_ended()
        for child in self.running:
            os.kill(child, signal.SIGKILL)
        while self.running:
            os.waitpid(self.running.pop(), 0)
        return ran

    def kill_after(self, is_there: Callable[[], bool], seconds: float) -> bool:
        """Kill it so many seconds after something is there. Gives whether it ran then; its own failure is an error here."""
        while not self.has_ended() and not is_there():
            time.sleep(0.001)
        time.sleep(seconds)
        ran = self.kill()
        self._check()
        return ran

    def finish(self) -> None:
        """Wait for its end; its failure is an error here."""
        while not self.has_ended() and not self.failed:
            time.sleep(0.005)
        self.kill()
        self._check()

    def seconds_from(self, is_there: Callable[[], bool]) -> float:
        """Wait for its end. Gives the seconds since something was there."""
        while not self.has_ended() and not is_there():
            time.sleep(0.001)
        begun = time.monotonic()
        self.finish()
        return time.monotonic() - begun

    def _check(self) -> None:
        if self.failed:
            self.errors.seek(0)
            raise RuntimeError(self.errors.read().decode(errors="replace")[-4000:])


def _free_port() -> int:
    """Below those that the system gives to others, who could take it until the processes are there."""
    while True:
        with socket.socket() as place, suppress(OSError):
            place.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            return place.getsockname()[1]


@dataclass(frozen=True)
class LoggedTeacher(TransformersTeacher):
    """Writes down which texts the model answered, batch by batch, before anybody can keep the answers."""

    log: str = ""

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """As any teacher, with a line in the log for each batch."""
        for part in super().ask(task, texts, rank):
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(json.dumps([texts[i] for i in part]) + "\n")
            yield part


def batches(folder: Path) -> list[list[str]]:
    """What the log of a folder says; the last line may be torn."""
    path = folder / "log"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def asked_again(asked: Sequence[Sequence[str]], before: int) -> tuple[int, int]:
    """Texts that the model answered more than once, and how many of the `before` first batches held one of them."""
    again = {text for text, count in Counter(text for batch in asked for text in batch).items() if count > 1}
    return len(again), sum(bool(again & set(batch)) for batch in asked[:before])


def same_rows(rows: Sequence[dict], expected: Sequence[dict]) -> bool:
    """Whether two lists of rows are equal, the teacher's scores to 0.001: other texts of a batch move their last bits."""
    exact = {"llm_scores": None, "llm_confidence": None}
    return len(rows) == len(expected) and all(
        {**a, **exact} == {**b, **exact}
        and all(abs(x - y) < 1e-3 for x, y in zip(a["llm_scores"] or (), b["llm_scores"] or (), strict=True))
        for a, b in zip(rows, expected, strict=True)
    )


def make_student(folder: Path) -> None:
    """A BERT of two layers that has learnt nothing, with MiniLM's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "all-MiniLM-L6-v2", trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(TASK.labels)), **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)


def make_teacher(folder: Path) -> None:
    """A Llama of two layers that has learnt nothing, with SmolLM2's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "SmolLM2-135M-Instruct", trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.5, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
