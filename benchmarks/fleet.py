"""
The student as a datatrove step: two workers, one of them killed, on the local executor and on Ray.

    python benchmarks/fleet.py --student runs/mine/student --executors local ray --json fleet.json

Needs `make assets`, a student, `pip install 'hf-llambert[fleet]'` and, for Ray, `pip install 'datatrove[ray]'`. The reviews lie
in eight files, a task each. When a third of task 1 is labelled its worker is killed with SIGKILL; what the executor makes of that
is printed. Where it does not recover by itself, everything is killed and run again. In the end the labels must be those of
`label_pool`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from hf_llambert import StudentLabeler, StudentStep, label_pool, read_pool

ROOT = Path(__file__).parent.parent
REVIEWS = ROOT / "assets" / "imdb_train.parquet"
TASKS = 8


class KillOnce:
    """Kills the worker of task 1 in the middle, the first time."""

    def __init__(self, folder: str, after: int) -> None:
        self.folder, self.after = folder, after

    def __call__(self, data: Iterator, rank: int = 0, world_size: int = 1) -> Iterator:
        mark = Path(self.folder) / "killed"
        for k, document in enumerate(data):
            if rank == 1 and k == self.after and not mark.exists():
                mark.touch()
                # Ray's actor runs its task in a process of its own and is the one that a machine would lose.
                os.kill(os.getppid() if "RAY_NODEID" in os.environ else os.getpid(), signal.SIGKILL)
            yield document


def run(name: str, folder: Path, student: str, after: int) -> None:
    """The pipeline, as a user writes it."""
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    pipeline = [
        ParquetReader(str(folder / "in")),
        StudentStep(student, window=after),
        KillOnce(str(folder), after),
        ParquetWriter(str(folder / "out"), expand_metadata=True),
    ]
    if name == "local":
        from datatrove.executor import LocalPipelineExecutor

        LocalPipelineExecutor(pipeline, tasks=TASKS, workers=2, logging_dir=str(folder / "logs")).run()
    else:
        import ray
        from datatrove.executor import RayPipelineExecutor

        ray.init(num_cpus=2, include_dashboard=False)
        RayPipelineExecutor(pipeline, tasks=TASKS, workers=2, mem_per_cpu_gb=1, logging_dir=str(folder / "logs")).run()


def completed(folder: Path) -> int:
    return len(list((folder / "logs" / "completions").glob("0*")))


def end(process: subprocess.Popen) -> None:
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=30)
    process.wait()


def attempt(name: str, folder: Path, student: str, after: int) -> str:
    """Start the pipeline and wait until it ends or nothing moves any more."""
    command = [
        sys.executable,
        __file__,
        "--run",
        name,
        "--folder",
        str(folder),
        "--student",
        student,
        "--after",
        str(after),
    ]
    with (folder / f"{name}.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            time.sleep(0.5)
            if completed(folder) == TASKS - 1 and name == "local" and (folder / "killed").exists():
                time.sleep(20)
                if process.poll() is None and completed(folder) == TASKS - 1:
                    end(process)
                    return "waits for ever for the killed worker's task; ended by hand"
    return "ended by itself" if process.returncode == 0 else f"ended with exit code {process.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True)
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--executors", nargs="+", default=["local"], choices=["local", "ray"])
    parser.add_argument("--json")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--after", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, Path(arguments.folder), arguments.student, arguments.after)
        return
    texts = Dataset.from_parquet(str(REVIEWS)).shuffle(seed=1).select(range(arguments.rows))["text"][:]
    each = arguments.rows // TASKS
    found: dict = {"rows": arguments.rows}
    with tempfile.TemporaryDirectory() as place:
        pool, labeler = Dataset.from_dict({"text": texts}), StudentLabeler(arguments.student)
        label_pool(pool, labeler, Path(place) / "pool", show_progress=False)
        expected = read_pool(Path(place) / "pool")["student_label"][:]
        for name in arguments.executors:
            folder = Path(place) / name
            (folder / "in").mkdir(parents=True)
            for k in range(TASKS):
                part = range(k * each, (k + 1) * each)
                table = pa.table({"text": [texts[i] for i in part], "id": [str(i) for i in part]})
                pq.write_table(table, folder / "in" / f"{k:05d}.parquet")
            tries = []
            begin = time.monotonic()
            while completed(folder) < TASKS and len(tries) < 4:
                tries.append(attempt(name, folder, arguments.student, each // 3))
                when = "a worker killed" if (folder / "killed").exists() else "nobody killed"
                counted = f"{completed(folder)} of {TASKS} tasks completed"
                print(f"{name}, attempt {len(tries)}: {when}; {tries[-1]}; {counted}", flush=True)
            out = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "out").glob("*.parquet")))
            same = out["text"].to_pylist() == texts[: TASKS * each]
            agree = sum(a == b for a, b in zip(out["student_label"].to_pylist(), expected, strict=False))
            found[name] = {
                "attempts": tries,
                "rows_in_order": same,
                "same_labels": agree,
                "seconds": time.monotonic() - begin,
            }
            print(
                f"{name}: {out.num_rows} rows, in order: {same}, labels of label_pool: {agree} of {out.num_rows}",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
