"""
`kill -9` at random instants of labeling a pool: does every run end exactly as one that nobody killed?

    OMP_NUM_THREADS=1 python benchmarks/kill_pool.py --instants 20 --processes 1
    OMP_NUM_THREADS=1 python benchmarks/kill_pool.py --instants 20 --processes 2

Needs `make assets` and a student (`--student`, such as runs/mine). Each time a run is killed, with all its processes, at a
seeded random moment, and started again until it ends; its rows, labels and scores must equal those of the uninterrupted run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from hf_llambert import StudentLabeler, label_pool

ROOT = Path(__file__).parent.parent


def work(pool: str, student: str, output: str, rows_per_shard: int) -> None:
    """One run, as a process (or several) of its own does it."""
    label_pool(pool, StudentLabeler(student, device="cpu"), output, rows_per_shard, show_progress=False)


def start(arguments: argparse.Namespace, output: Path) -> subprocess.Popen:
    launch = [sys.executable]
    if arguments.processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(arguments.processes)]
    command = [*launch, __file__, "--work", str(output), "--pool", arguments.pool, "--student", arguments.student]
    command += ["--rows_per_shard", str(arguments.rows_per_shard)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill(process: subprocess.Popen) -> None:
    """All processes of a run at once; a launcher's workers are in sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)
    process.wait()


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def content(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in shards(folder))


def killed_run(arguments: argparse.Namespace, output: Path, chance: random.Random, seconds: float) -> int:
    """A run that is killed once while it labels, and started again until it ends. Gives the shards at the kill."""
    process = start(arguments, output)
    while process.poll() is None and not (output / "stage.json").is_file():
        time.sleep(0.01)
    moment = time.monotonic() + chance.uniform(0, seconds)
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.005)
    there = len(shards(output))
    alive = process.poll() is None
    kill(process)
    again = start(arguments, output)
    _, errors = again.communicate()
    if again.returncode:
        raise RuntimeError(errors.decode()[-2000:])
    return there if alive else -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", default=str(ROOT / "assets/imdb_train.parquet"))
    parser.add_argument("--student", required=True)
    parser.add_argument("--rows_per_shard", type=int, default=50)
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.pool, arguments.student, arguments.work, arguments.rows_per_shard)
        return
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = start(arguments, Path(folder) / "whole")
        while whole.poll() is None and not (Path(folder) / "whole" / "stage.json").is_file():
            time.sleep(0.01)
        begun = time.monotonic()
        _, errors = whole.communicate()
        if whole.returncode:
            raise RuntimeError(errors.decode()[-2000:])
        seconds = time.monotonic() - begun
        expected = content(Path(folder) / "whole")
        print(
            f"uninterrupted: {expected.num_rows} rows, {len(shards(Path(folder) / 'whole'))} shards, {seconds:.1f} s"
        )
        same = missed = 0
        for instant in range(arguments.instants):
            output = Path(folder) / "killed"
            there = killed_run(arguments, output, chance, seconds)
            equal = content(output).equals(expected)
            same, missed = same + equal, missed + (there < 0)
            when = "after its end" if there < 0 else f"with {there} shards there"
            print(f"{instant + 1}: killed {when}; {'the same' if equal else 'DIFFERENT'}", flush=True)
            shutil.rmtree(output)
        print(
            f"{same} of {arguments.instants} ended exactly as the uninterrupted run; {missed} were killed after their end"
        )
    sys.exit(same < arguments.instants)


if __name__ == "__main__":
    main()
