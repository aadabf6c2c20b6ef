"""
How well 64 rows predict: `make_plan` against the annotation that follows, on the quickstart's teacher and reviews.

    OMP_NUM_THREADS=1 python benchmarks/plan.py --rows 400 --samples 5 --json plan.json    # about half an hour on a core

Needs `make assets`. Each sample has its own seed, so other reviews. The plan is made first; then all its rows are annotated
with a ledger of their own, in the same process, so that nothing is known and the model is loaded, and the two are compared:
the hours with the clock and with the seconds that the ledger notes, the tokens with those that it notes.

With `--cpu_seconds` every clock is the CPU time of this process (with one thread: what the wall clock would show on a machine
that does nothing else). Use it where others work on the same cores: else their coming and going is what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from hf_llambert import LLMLabeler, TransformersTeacher, annotate, load_data, load_task, make_plan
from hf_llambert.teachers import engine

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--asked", type=int, default=64)
    parser.add_argument("--max_text_tokens", type=int, default=160)
    parser.add_argument("--cpu_seconds", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    clock = time.process_time if given.cpu_seconds else time.perf_counter
    engine.time = SimpleNamespace(perf_counter=clock)
    task = load_task("imdb")
    teacher = TransformersTeacher(str(ROOT / "assets/SmolLM2-135M-Instruct"), max_text_tokens=given.max_text_tokens)
    data = load_data(ROOT / "assets/imdb_train.parquet")
    found = []
    for seed in range(given.first_seed, given.first_seed + given.samples):
        with tempfile.TemporaryDirectory() as place:
            planned = make_plan(
                data,
                LLMLabeler(task, teacher, Path(place) / "ledger"),
                num_annotated=given.rows,
                sample=given.asked,
                gold_column="label",
                max_counted=given.rows,
                seed=seed,
            )
            rows = data.shuffle(seed=seed).select(range(given.rows))
            start = clock()
            results = annotate(
                rows, LLMLabeler(task, teacher, Path(place) / "other"), Path(place) / "annotated", gold_column="label"
            )
            wall = clock() - start
        found.append(_compared(seed, planned, results, wall))
        print(json.dumps(found[-1]), flush=True)
        if given.json:
            summary = {name: median(abs(one[name]) for one in found) for name in ("clock", "seconds", "input_tokens")}
            note = {"arguments": vars(given) | {"json": None}, "load": os.getloadavg(), "median_error": summary}
            given.json.write_text(json.dumps({**note, "samples": found}, indent=2) + "\n")
    for name in ("clock", "seconds", "input_tokens"):
        print(f"{name}: median error {median(abs(one[name]) for one in found):.1%}")
    inside = sum(one["low_s"] <= one["clock_s"] <= one["high_s"] for one in found)
    print(f"the clock was within the plan's interval in {inside} of {len(found)}")


def _compared(seed: int, planned: dict, results: dict, wall: float) -> dict:
    hours, tokens = planned["annotate"]["hours"], planned["annotate"]["input_tokens"]
    seconds = hours["value"] * 3600
    return {
        "seed": seed,
        "planned_s": round(seconds, 2),
        "low_s": round(hours["low"] * 3600, 2),
        "high_s": round(hours["high"] * 3600, 2),
        "clock_s": round(wall, 2),
        "ledger_s": round(results["seconds"], 2),
        "planned_tokens": round(tokens["value"]),
        "tokens": results["input_tokens"],
        "clock": seconds / wall - 1,
        "seconds": seconds / results["seconds"] - 1,
        "input_tokens": tokens["value"] / results["input_tokens"] - 1,
        "agreement_planned": planned["agreement"],
        "agreement": results["quality"]["accuracy"],
    }


if __name__ == "__main__":
    main()
