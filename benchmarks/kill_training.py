"""
`kill -9` at random instants of a training with checkpoints: does every run end with the weights of one that nobody killed?

    OMP_NUM_THREADS=1 python benchmarks/kill_training.py --instants 20

Needs `make assets` (for a tokenizer; the student is a tiny BERT with dropout). Each time a training is killed at a seeded
random moment, and started again until it ends; its weights must equal those of the uninterrupted run to the last bit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from hf_llambert import StudentConfig, TaskSpec, train_student

TOKENIZER = str(Path(__file__).parent.parent / "assets/all-MiniLM-L6-v2")
TASK = TaskSpec("kill", ("negative", "positive"), "{text}", chat=False)


def make_student(folder: Path) -> None:
    """A BERT of two layers that has learnt nothing."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)


def train(student: Path, output: Path) -> None:
    """A training on silver and then gold, with a checkpoint every four steps, that goes on where it stopped."""

    def rows(start: int, stop: int) -> Dataset:
        texts = [f"the film was {'good' if i % 2 else 'dull'}" + " and long" * (i % 7) for i in range(start, stop)]
        return Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(start, stop)]})

    args = StudentConfig(
        f"{output}-checkpoints",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        save_strategy="steps",
        save_steps=4,
        save_total_limit=3,
        resume_from_checkpoint="true",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    train_student(TASK, str(student), output, args, silver=rows(0, 200), gold=rows(200, 240))


def start(work: Callable[[], None]) -> int:
    """Run in a process of its own, forked from this one, which imported everything and computed nothing."""
    if child := os.fork():
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        work()
    except BaseException:  # noqa: BLE001  (a child must not go on as its parent)
        os._exit(1)
    os._exit(0)


def finished(child: int) -> None:
    """Wait for a run; an error of it is one here."""
    if code := os.waitpid(child, 0)[1]:
        raise RuntimeError(f"A training ended with status {code}.")


def digest(output: Path) -> str:
    """Of a student's weights."""
    return hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    disable_progress_bars()
    draw = random.Random(arguments.seed)
    place = Path(tempfile.mkdtemp())
    try:
        student, whole = place / "start", place / "whole"
        finished(start(lambda: make_student(student)))
        begun = time.perf_counter()
        finished(start(lambda: train(student, whole)))
        seconds, found = time.perf_counter() - begun, []
        for k in range(arguments.instants):
            output = place / str(k)
            child = start(lambda output=output: train(student, output))  # type: ignore[misc]
            time.sleep(draw.uniform(0, seconds))
            killed = os.waitpid(child, os.WNOHANG)[0] == 0
            if killed:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            kept = sorted(int(path.name.split("-")[-1]) for path in place.glob(f"{k}-checkpoints/*/checkpoint-*"))
            finished(start(lambda output=output: train(student, output)))  # type: ignore[misc]
            found.append((killed, killed and bool(kept), digest(output) == digest(whole)))
            sys.stdout.write(f"{k}: killed {killed}, checkpoints then {kept}, same weights {found[-1][2]}\n")
            sys.stdout.flush()
        sys.stdout.write(
            f"{sum(k for k, _, _ in found)} of {len(found)} trainings killed, {sum(c for _, c, _ in found)} of them with "
            f"checkpoints; {sum(same for _, _, same in found)} ended with the uninterrupted run's weights "
            f"({seconds:.1f} seconds uninterrupted)\n"
        )
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
