"""
How fast rows of CSV and JSON lines are read, against `datasets`, and how much memory that takes.

    python benchmarks/reading.py --folder FOLDER

Writes 200,000 rows (about 100 MB) of each and reads each several times, with nothing of it in the caches of `datasets`, each
time in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import sys, time
import datasets
from hf_llambert import load_data
datasets.disable_progress_bars()
reader, kind, path, cache = sys.argv[1:]
datasets.config.HF_DATASETS_CACHE = cache
start, worked = time.perf_counter(), time.process_time()
if reader == "ours":
    rows = len(load_data(path))
else:
    rows = len(datasets.load_dataset(kind, data_files=path, split="train", cache_dir=cache))
seconds, worked = time.perf_counter() - start, time.process_time() - worked
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(rows, seconds, worked, peak / 1024)
"""


def write_rows(folder: Path, num_rows: int) -> dict[str, Path]:
    """The same rows as a CSV and as JSON lines: a number, a text of about 480 characters, a label, a score, an id."""
    draw = random.Random(0)
    words = [f"{draw.choice('bcdfglmnprst')}{draw.choice('aeiou')}{k % 997}" for k in range(5000)]
    paths = {"csv": folder / "rows.csv", "json": folder / "rows.jsonl"}
    with (
        paths["csv"].open("w", encoding="utf-8", newline="") as table,
        paths["json"].open("w", encoding="utf-8") as lines,
    ):
        writer = csv.writer(table)
        writer.writerow(["id", "text", "label", "score", "code"])
        for k in range(num_rows):
            text = " ".join(draw.choices(words, k=80)) + (', "and so on"\nthe end' if k % 10 == 0 else ".")
            row = {"id": k, "text": text, "label": k % 5, "score": round(draw.random(), 6), "code": f"{k:08}"}
            writer.writerow(row.values())
            lines.write(f"{json.dumps(row)}\n")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Where the files are written.")
    parser.add_argument("--num_rows", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    paths = write_rows(args.folder, args.num_rows)
    for kind, path in paths.items():
        for reader in ("ours", "datasets"):
            runs = []
            for _ in range(args.times):
                with tempfile.TemporaryDirectory(dir=args.folder) as cache:
                    told = [sys.executable, "-c", READ, reader, kind, str(path), cache]
                    done = subprocess.run(told, capture_output=True, text=True, check=True)
                runs.append([float(value) for value in done.stdout.split()])
            rows, seconds, worked, peak = (statistics.median(values) for values in zip(*runs, strict=True))
            size = path.stat().st_size / 1e6
            print(
                f"{kind} ({size:.0f} MB, {rows:,.0f} rows), {reader}: {seconds:.2f} s ({worked:.2f} s of a core), "
                f"at most {peak:,.0f} MiB of memory (each: {', '.join(f'{run[1]:.2f}' for run in runs)} s)"
            )


if __name__ == "__main__":
    main()
