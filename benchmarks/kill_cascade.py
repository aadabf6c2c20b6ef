"""
`kill -9` at random instants of a cascade: does every run end as one that nobody killed, and what is asked again?

    OMP_NUM_THREADS=1 python benchmarks/kill_cascade.py --instants 20 --processes 1
    OMP_NUM_THREADS=1 python benchmarks/kill_cascade.py --instants 20 --processes 2

Needs `make assets` (for tokenizers; student and teacher are tiny models), or a student and a causal language model. The
student labels a pool, once. Each time a calibration and cascade over it are killed, with all their processes, when a seeded
random number of batches answered and shards written is reached and a random part of the time of one has gone by, and started
again until they end. The rows must equal those of the uninterrupted run, and only texts of the batch that was in the model
may be answered twice.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset
from killing import TASK, LoggedTeacher, Run, asked_again, batches, make_parser, make_student, make_teacher, same_rows

from hf_llambert import LLMLabeler, StudentLabeler, cascade, label_pool, pool_calibration
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.pool import cascade as cascade_whole
from hf_llambert.pool import cascade_shards
from hf_llambert.processes import main_process_first

ROWS, ASKED, CALIBRATED, WINDOW = 400, 300, 60, 60


def make_labels(student: Path, labels: Path) -> None:
    """A pool of short texts, different from one another, labelled in ten shards."""
    texts = [f"text {i}: the film was {'good' if i % 3 else 'dull'}" + " and long" * (i % 7) for i in range(ROWS)]
    pool = Dataset.from_dict({"id": list(range(ROWS)), "text": texts})
    label_pool(pool, StudentLabeler(student, device="cpu"), labels, ROWS // 10, show_progress=False)


def ask(labels: Path, teacher: Path, folder: Path) -> None:
    """One process of a run, as the command does it. A window is small here, or all texts would be one."""
    for module in (cascade_whole, cascade_shards):
        module.WINDOW = WINDOW  # type: ignore[attr-defined]
    asked = LoggedTeacher(str(teacher), batch_tokens=120, device="cpu", log=str(folder / "log"))
    labeler = LLMLabeler(TASK, asked, folder / "ledger")
    with main_process_first():
        found = pool_calibration(labels, labeler, number=CALIBRATED, show_progress=False)
        labeler.ledger.close()
    labeler = LLMLabeler(TASK, asked, folder / "ledger", calibration=found)
    cascade(labels, labeler, folder / "cascade", below=1, max_asked=ASKED, show_progress=False)


def shards(folder: Path) -> list[Path]:
    """The finished shards of a cascade."""
    return sorted((folder / "cascade").glob("part-*.parquet"))


def rows(folder: Path) -> list[dict]:
    """What a cascade wrote."""
    return [row for path in shards(folder) for row in pq.read_table(path, use_threads=False).to_pylist()]


def steps(folder: Path) -> int:
    """Batches answered and shards written."""
    return len(batches(folder)) + len(shards(folder))


def main() -> None:
    """Kill, finish, compare."""
    parser = make_parser(__doc__, seed=42)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--teacher", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        student, teacher = arguments.student or place / "student", arguments.teacher or place / "teacher"
        labels, whole = place / "labels", place / "whole"
        if arguments.student is None:
            Run(lambda: make_student(student)).finish()
        if arguments.teacher is None:
            Run(lambda: make_teacher(teacher)).finish()
        Run(lambda: make_labels(student, labels)).finish()

        def start(output: Path) -> Run:
            output.mkdir(exist_ok=True)
            return Run(lambda: ask(labels, teacher, output), arguments.processes)

        seconds = start(whole).seconds_from(lambda: steps(whole) > 0)
        count, expected = steps(whole), rows(whole)
        asked, again = len(Ledger(whole / "ledger")), asked_again(batches(whole), 0)[0]
        sys.stdout.write(
            f"uninterrupted: {len(expected)} rows, {asked} replies kept, {again} texts asked twice, "
            f"{len(batches(whole))} batches, {len(shards(whole))} shards, {seconds:.1f} s from the first batch on\n"
        )
        good = ran = most_texts = most_batches = 0
        for instant in range(arguments.instants):
            output, wanted = place / str(instant), draw.randrange(1, count)
            reached = partial(lambda output, wanted: steps(output) >= wanted, output, wanted)
            killed = start(output).kill_after(reached, draw.uniform(0, seconds / count))
            done, there = len(batches(output)), len(shards(output))
            start(output).finish()
            texts, before = asked_again(batches(output), done)
            equal = same_rows(rows(output), expected) and len(Ledger(output / "ledger")) == asked
            good, ran = good + equal, ran + killed
            most_texts, most_batches = max(most_texts, texts), max(most_batches, before)
            sys.stdout.write(
                f"{instant + 1}: killed {f'after {done} batches and {there} shards' if killed else 'after its end'}; "
                f"{'the same' if equal else 'DIFFERENT'}; asked again: {texts} texts of {before} batches\n"
            )
            sys.stdout.flush()
        sys.stdout.write(
            f"{good} of {arguments.instants} ended with the rows of the uninterrupted run and as many replies; {ran} were "
            f"killed before their end; asked again after one kill at most {most_texts} texts, of {most_batches} batches "
            f"({arguments.processes} process(es))\n"
        )
    sys.exit(good < arguments.instants or most_batches > arguments.processes)


if __name__ == "__main__":
    main()
