"""
`kill -9` at random instants of a training with checkpoints: does every run end with the weights of one that nobody killed?

    OMP_NUM_THREADS=1 python benchmarks/kill_training.py --instants 20

Needs `make assets` (for a tokenizer; the student is a tiny BERT with dropout). Each time a training is killed at a seeded
random moment, and started again until it ends; its weights must equal those of the uninterrupted run to the last bit.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from datasets import Dataset, disable_progress_bars
from killing import TASK, Run, make_student

from hf_llambert import StudentConfig, train_student


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
        Run(partial(make_student, student)).finish()
        begun = time.perf_counter()
        Run(partial(train, student, whole)).finish()
        seconds, found = time.perf_counter() - begun, []
        for k in range(arguments.instants):
            output = place / str(k)
            killed = Run(partial(train, student, output)).kill_after(lambda: True, draw.uniform(0, seconds))
            kept = sorted(int(path.name.split("-")[-1]) for path in place.glob(f"{k}-checkpoints/*/checkpoint-*"))
            Run(partial(train, student, output)).finish()
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
