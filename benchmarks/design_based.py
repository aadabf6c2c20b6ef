"""
The example of docs/design_based.md: estimates from a review with known probabilities, beside the truth; and over many reviews.

    OMP_NUM_THREADS=1 python benchmarks/design_based.py --keep DIR      # some minutes

Needs `make assets`. The teacher counts words of praise and of blame, and is asked for by its recorded answers; people are IMDb's
own labels. The rows with the closest counts are named as suspects. The code of the page is run on the file that is exported.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars

from hf_llambert import (
    LLMLabeler,
    RecordedTeacher,
    Review,
    annotate,
    build_queue,
    load_data,
    load_task,
    sampling_table,
    write_queue,
)
from hf_llambert.review.drawing import choose_rows
from hf_llambert.review.sampling import write_table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "design_based.md"
PRAISE = {"great", "excellent", "wonderful", "best", "love", "loved", "beautiful", "perfect", "amazing", "superb"}
BLAME = {"bad", "worst", "boring", "awful", "terrible", "waste", "poor", "stupid", "dull", "nothing"}


def counted(text: str) -> int:
    """Words of praise less those of blame."""
    words = re.findall(r"[a-z]+", text.lower())
    return sum(word in PRAISE for word in words) - sum(word in BLAME for word in words)


def example() -> str:
    """The code of the page."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"'{PAGE}' has no code.")
    return found[1]


def make(keep: Path, rows: int, num: int, num_control: int) -> tuple[Dataset, list[int]]:
    """The run, its review and the exported file, in `keep`."""
    data = load_data(str(ROOT / "assets/imdb_train.parquet")).shuffle(seed=1).select(range(rows))
    counts = [counted(text) for text in data["text"][:]]
    answers = [
        {"text": t, "response": "excellent" if c > 0 else "terrible"}
        for t, c in zip(data["text"][:], counts, strict=True)
    ]
    keep.mkdir(parents=True)
    (keep / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    teacher = RecordedTeacher(str(keep / "answers.jsonl"), "counting words")
    run = keep / "run"
    labeler = LLMLabeler(load_task("imdb"), teacher, run / "ledger")
    annotate(data.select_columns(["text"]), labeler, run / "annotated", calibration="none", show_progress=False)
    suspects = sorted(range(rows), key=lambda i: abs(counts[i]))
    write_queue(run / "review", build_queue(run, num, num_control, suspects=suspects))
    review = Review(run / "review")
    with review.session("IMDb") as session:
        for place, row in enumerate(review.queue.rows):
            session.answer(place, data["label"][row.row])
    write_table(sampling_table(run), keep / "reviewed.parquet")
    return data, suspects


def truth(data: Dataset) -> tuple[float, float]:
    """Share and slope by everybody's labels."""
    words = np.log([len(text.split()) for text in data["text"][:]])
    gold = np.array(data["label"][:], dtype=float)
    return float(gold.mean()), float(np.polyfit(words, gold, 1)[0])


def many(data: Dataset, suspects: list[int], num: int, num_control: int, draws: int) -> None:
    """How far off, and how often within their intervals, the estimates of many reviews of the same rows are."""
    gold = np.array(data["label"][:], dtype=float)
    machine = np.array([counted(text) > 0 for text in data["text"][:]], dtype=float)
    share, n = gold.mean(), len(gold)
    found: dict[str, list] = {"people, weighted": [], "corrected": []}
    for seed in range(draws):
        chosen, certain = choose_rows(range(n), {("suspect", ""): suspects}, num, num_control, random.Random(seed))
        prob = np.full(n, (len(chosen) - len(certain)) / (n - len(certain)))
        prob[list(certain)] = 1.0
        known = np.isin(np.arange(n), list(chosen))
        for name, outcome in (
            ("people, weighted", np.where(known, gold / prob, 0.0)),
            ("corrected", machine + np.where(known, (gold - machine) / prob, 0.0)),
        ):
            found[name].append((outcome.mean() - share, 1.96 * outcome.std() / n**0.5))
    for name, each in found.items():
        off, half = np.array(each).T
        print(
            f"{name}: over {draws:,} reviews {off.mean():+.4f} off in the mean (standard error {off.std() / draws**0.5:.4f}), "
            f"interval ± {half.mean():.3f} has the truth in {(abs(off) <= half).mean():.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="A folder that is not there yet")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()
    disable_progress_bars()
    num, num_control = 300, 200
    data, suspects = make(arguments.keep, arguments.rows, num, num_control)
    shown = io.StringIO()
    here = Path.cwd()
    os.chdir(arguments.keep)
    try:
        with contextlib.redirect_stdout(shown):
            exec(compile(example(), PAGE.name, "exec"), {})
    finally:
        os.chdir(here)
    print(shown.getvalue(), end="")
    share, slope = truth(data)
    right = np.mean([(counted(t) > 0) == label for t, label in zip(data["text"][:], data["label"][:], strict=True)])
    print(f"in truth: share {share:.3f}, slope {slope:.3f}; the machine is right on {right:.1%}")
    many(data, suspects, num, num_control, arguments.draws)


if __name__ == "__main__":
    main()
