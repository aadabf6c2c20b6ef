"""
`kill -9` at random instants of an annotation: what is lost, and what is asked again.

    OMP_NUM_THREADS=1 python benchmarks/kill.py --instants 20 --processes 1
    OMP_NUM_THREADS=1 python benchmarks/kill.py --instants 20 --processes 2

Needs `make assets`. Each time a run is killed, with all its processes, at a seeded random moment of its asking, and started
again until it ends. Its dataset must then equal that of a run that nobody killed. Asked again are the texts that the model
answered more than once: at most those of one batch for each process and kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from datasets import Dataset, load_from_disk

from hf_llambert import LLMLabeler, TaskSpec, TransformersTeacher, annotate, load_task
from hf_llambert.teachers.base import Reply

ROOT = Path(__file__).parent.parent
TEACHER = str(ROOT / "assets/SmolLM2-135M-Instruct")
ROWS = 240


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


def work(model: str, folder: Path) -> None:
    """One run, as a process (or several) of its own does it."""
    texts = [f"review {i}: the film was {'good' if i % 3 else 'dull'}" + " and long" * (i % 7) for i in range(ROWS)]
    teacher = LoggedTeacher(model, batch_tokens=120, device="cpu", log=str(folder / "log"))
    labeler = LLMLabeler(load_task("imdb"), teacher, folder / "ledger")
    annotate(Dataset.from_dict({"text": texts}), labeler, folder / "annotated", show_progress=False)


def start(model: str, folder: Path, processes: int) -> subprocess.Popen:
    """A run in a process group of its own."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        launch += [
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
        ]
    command = [*launch, __file__, "--work", str(folder), "--model", model]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen) -> None:
    """Wait for the end of a run; an error of it is one here."""
    error = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(error.decode()[-2000:])


def batches(folder: Path) -> list[list[str]]:
    """What the log says; the last line may be torn."""
    path = folder / "log"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def killed_run(model: str, folder: Path, processes: int, batch: int, moment: float) -> dict:
    """Kill a run `moment` seconds after so many batches, finish it, and say what was asked again."""
    process = start(model, folder, processes)
    while len(batches(folder)) < batch and process.poll() is None:
        time.sleep(0.002)
    time.sleep(moment)
    alive = process.poll() is None
    if alive:  # the launcher's workers are in sessions of their own
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.communicate()
    done = len(batches(folder))
    finished(start(model, folder, processes))
    asked = Counter(text for batch in batches(folder) for text in batch)
    again = {text for text, count in asked.items() if count > 1}
    return {
        "killed": alive,
        "batches_before": done,
        "asked_again": len(again),
        "batches_again": sum(bool(again & set(batch)) for batch in batches(folder)[:done]),
        "rows": load_from_disk(str(folder / "annotated")).to_list(),
    }


def main() -> None:
    """Kill, finish, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TEACHER)
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.model, arguments.work)
        return
    draw = random.Random(arguments.seed)
    place = Path(tempfile.mkdtemp())
    try:
        whole = place / "uninterrupted"
        whole.mkdir()
        finished(start(arguments.model, whole, arguments.processes))
        count = len(batches(whole))
        expected = load_from_disk(str(whole / "annotated")).to_list()
        found = []
        for k in range(arguments.instants):
            folder = place / str(k)
            folder.mkdir()
            result = killed_run(
                arguments.model, folder, arguments.processes, draw.randrange(1, count), draw.uniform(0, 0.2)
            )
            same = len(result["rows"]) == len(expected) and all(
                {**a, "llm_scores": None, "llm_confidence": None} == {**b, "llm_scores": None, "llm_confidence": None}
                and all(abs(x - y) < 1e-3 for x, y in zip(a["llm_scores"], b["llm_scores"], strict=True))
                for a, b in zip(result.pop("rows"), expected, strict=True)
            )
            found.append({**result, "same": same})
            sys.stdout.write(f"{k}: {found[-1]}\n")
            sys.stdout.flush()
        sys.stdout.write(
            f"{sum(r['killed'] for r in found)} of {len(found)} runs killed while they asked; "
            f"{sum(r['same'] for r in found)} ended with the uninterrupted dataset; most batches asked again: "
            f"{max(r['batches_again'] for r in found)} ({arguments.processes} process(es))\n"
        )
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
