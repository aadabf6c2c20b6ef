"""
`kill -9` at random instants of labeling a pool: does every run end exactly as one that nobody killed?

    OMP_NUM_THREADS=1 python benchmarks/kill_pool.py --kind jsonl --instants 20 --processes 1
    OMP_NUM_THREADS=1 python benchmarks/kill_pool.py --kind jsonl --instants 20 --processes 2

Needs `make assets` (for a tokenizer; the student is a tiny BERT), or a pool and a student. Each time a run is killed, with all
its processes, when a seeded random number of its shards is there and a random part of a shard's time has gone by, and started
again until it ends. Its files must be those of the uninterrupted run, byte for byte.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
from killing import Run, make_parser, make_student

from hf_llambert import StudentLabeler, label_pool

FILES = (57, 90, 131, 150)


def make_pool(folder: Path, kind: str) -> None:
    """Four files of short texts, some of them missing. Two end where a shard of ten rows does."""
    folder.mkdir()
    for k, rows in enumerate(FILES):
        texts = [f"file {k}, row {i}: the film was {'good' if i % 3 else 'dull'}" for i in range(rows)]
        data = pd.DataFrame({"id": range(rows), "text": [None if i % 17 == 5 else t for i, t in enumerate(texts)]})
        path = folder / f"{k}.{kind}"
        if kind == "jsonl":
            data.to_json(path, orient="records", lines=True)
        elif kind == "csv":
            data.to_csv(path, index=False)
        else:
            data.to_parquet(path)


def shards(folder: Path) -> list[Path]:
    """The finished files of a labelled pool."""
    return sorted(folder.glob("part-*.parquet"))


def content(folder: Path) -> dict[str, bytes]:
    """The files of a labelled pool; of its notes, which say how long it took, the names alone."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() if p.suffix == ".parquet" else b"" for p in files}


def label(pool: str, student: Path, output: Path, rows_per_shard: int) -> None:
    """One process of a run."""
    label_pool(pool, StudentLabeler(student, device="cpu"), output, rows_per_shard, show_progress=False)


def main() -> None:
    """Kill, finish, compare."""
    parser = make_parser(__doc__, seed=42)
    parser.add_argument("--kind", choices=["jsonl", "csv", "parquet"], default="jsonl")
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--rows_per_shard", type=int, default=10)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pool, student = arguments.pool or place / "pool", arguments.student or place / "student"
        if arguments.pool is None:
            Run(lambda: make_pool(pool, arguments.kind)).finish()
        if arguments.student is None:
            Run(lambda: make_student(student)).finish()

        def start(output: Path) -> Run:
            return Run(lambda: label(str(pool), student, output, arguments.rows_per_shard), arguments.processes)

        seconds = start(place / "whole").seconds_from(lambda: bool(shards(place / "whole")))
        count, expected = len(shards(place / "whole")), content(place / "whole")
        sys.stdout.write(f"uninterrupted: {count} shards, {seconds:.1f} s from the first on\n")
        same = within = ran = 0
        for instant in range(arguments.instants):
            output, wanted = place / str(instant), draw.randrange(1, count)
            reached = partial(lambda output, wanted: len(shards(output)) >= wanted, output, wanted)
            killed = start(output).kill_after(reached, draw.uniform(0, seconds / count))
            there = len(shards(output))
            start(output).finish()
            equal = content(output) == expected
            same, ran, within = same + equal, ran + killed, within + (killed and 0 < there < count)
            when = f"with {there} shards there" if killed else "after its end"
            sys.stdout.write(f"{instant + 1}: killed {when}; {'the same' if equal else 'DIFFERENT'}\n")
            sys.stdout.flush()
        sys.stdout.write(
            f"{same} of {arguments.instants} ended exactly as the uninterrupted run; {ran} were killed before their end, "
            f"{within} of them between the first shard and the last ({arguments.processes} process(es))\n"
        )
    sys.exit(same < arguments.instants)


if __name__ == "__main__":
    main()
