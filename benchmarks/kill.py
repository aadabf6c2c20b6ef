"""
`kill -9` at random instants of an annotation: what is lost, and what is asked again.

    OMP_NUM_THREADS=1 python benchmarks/kill.py --instants 20 --processes 1
    OMP_NUM_THREADS=1 python benchmarks/kill.py --instants 20 --processes 2

Needs `make assets` (for a tokenizer; the teacher is a tiny model), or a causal language model. Each time a run is killed, with
all its processes, at a seeded random moment of its asking, and started again until it ends. Its dataset must then equal that
of a run that nobody killed. Asked again are the texts that the model answered more than once: at most those of one batch for
each process and kill.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from datasets import Dataset, load_from_disk
from killing import LoggedTeacher, Run, asked_again, batches, make_parser, make_teacher, same_rows

from hf_llambert import LLMLabeler, annotate, load_task

ROWS = 240


def work(model: str, folder: Path) -> None:
    """One run, as a process (or several) of its own does it."""
    texts = [f"review {i}: the film was {'good' if i % 3 else 'dull'}" + " and long" * (i % 7) for i in range(ROWS)]
    teacher = LoggedTeacher(model, batch_tokens=120, device="cpu", log=str(folder / "log"))
    labeler = LLMLabeler(load_task("imdb"), teacher, folder / "ledger")
    annotate(Dataset.from_dict({"text": texts}), labeler, folder / "annotated", show_progress=False)


def rows(folder: Path) -> list[dict]:
    """What a run annotated."""
    return load_from_disk(str(folder / "annotated")).to_list()


def main() -> None:
    """Kill, finish, compare."""
    parser = make_parser(__doc__, seed=0)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        model = arguments.model or f"{place}/teacher"
        if arguments.model is None:
            Run(partial(make_teacher, Path(model))).finish()

        def start(folder: Path) -> Run:
            folder.mkdir(exist_ok=True)
            return Run(partial(work, model, folder), arguments.processes)

        whole = Path(place) / "uninterrupted"
        seconds = start(whole).seconds_from(lambda: bool(batches(whole)))
        count, expected = len(batches(whole)), rows(whole)
        sys.stdout.write(f"uninterrupted: {count} batches, {seconds:.1f} s from the first on\n")
        found = []
        for k in range(arguments.instants):
            folder, wanted = Path(place) / str(k), draw.randrange(1, count)
            reached = partial(lambda folder, wanted: len(batches(folder)) >= wanted, folder, wanted)
            killed = start(folder).kill_after(reached, draw.uniform(0, seconds / count))
            done = len(batches(folder))
            start(folder).finish()
            texts, again = asked_again(batches(folder), done)
            found.append(
                {
                    "killed": killed,
                    "batches_before": done,
                    "asked_again": texts,
                    "batches_again": again,
                    "same": same_rows(rows(folder), expected),
                }
            )
            sys.stdout.write(f"{k}: {found[-1]}\n")
            sys.stdout.flush()
        sys.stdout.write(
            f"{sum(r['killed'] for r in found)} of {len(found)} runs killed before their end, "
            f"{sum(r['killed'] and r['batches_before'] < count for r in found)} of them before the last batch; "
            f"{sum(r['same'] for r in found)} ended with the uninterrupted dataset; most batches asked again: "
            f"{max(r['batches_again'] for r in found)} ({arguments.processes} process(es))\n"
        )


if __name__ == "__main__":
    main()
