"""
How good a prompt does `hf-llambert tune` find from a worse start: 100 gold rows choose, other rows measure.

    python benchmarks/tuning.py --data imdb_train --json tuning-imdb.json     # 10 to 35 minutes on two cores
    python benchmarks/tuning.py --data bbc_news --json tuning-bbc.json
    python benchmarks/tuning.py --data imdb_train --rules 12       # half an hour more: would another rule have chosen better?

Needs `make assets`. The start has the right labels and an instruction that says nothing about them; its one variant has more
label words. The tuned prompt and the one that ships are asked about the same other rows, none of which chose.

With `--rules` the best 12 prompts without worked examples are asked about all those rows. 300 times 80 rows are drawn, each
rule chooses by them, and what it chose is measured on the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset

from hf_llambert import (
    LLMLabeler,
    TransformersTeacher,
    Tuning,
    annotate,
    load_data,
    load_task,
    load_variants,
    tune_lines,
    tune_task,
    tuned_texts,
)
from hf_llambert.annotation.calibration import calibration_of, uncalibrated
from hf_llambert.tuning.candidates import wordings
from hf_llambert.tuning.kept import ROWS_FILE, TUNE
from hf_llambert.tuning.lines import estimate_line
from hf_llambert.tuning.tune import CALIBRATIONS

ROOT = Path(__file__).parent.parent
STARTS: dict[str, dict[str, Any]] = {
    "imdb_train": {
        "name": "reviews",
        "labels": ["negative", "positive"],
        "boxes": "two",
        "words": {"negative": ["negative", "bad", "awful"], "positive": ["positive", "good", "great"]},
        "ships": "imdb",
        "max_text_tokens": 160,
        "others": (1000, 1400),  # those that the quickstart annotates
    },
    "bbc_news": {
        "name": "news",
        "labels": ["business", "entertainment", "politics", "sport", "tech"],
        "boxes": "five",
        "words": {
            "business": ["business", "economy", "companies"],
            "entertainment": ["entertainment", "film", "music"],
            "politics": ["politics", "the government", "the election"],
            "sport": ["sport", "football", "rugby"],
            "tech": ["technology", "computers", "the internet"],
        },
        "ships": str(ROOT / "recipes/tasks/bbc_news.yaml"),
        "max_text_tokens": 96,
        "others": (0, 500),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=sorted(STARTS), required=True)
    parser.add_argument("--teacher", default=str(ROOT / "assets/SmolLM2-135M-Instruct"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--num_gold", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default=None, help="Folder of the run. Default: runs/tuning-DATA")
    parser.add_argument("--rules", type=int, default=0, help="Prompts to compare rules of choosing on.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    start = STARTS[given.data]
    output = given.output or Path(f"runs/tuning-{given.data}")
    output.mkdir(parents=True, exist_ok=True)
    source = output / "start.yaml"
    source.write_text(yaml.safe_dump(_start(start), allow_unicode=True, sort_keys=False))
    teacher = TransformersTeacher(given.teacher, dtype=given.dtype, max_text_tokens=start["max_text_tokens"])
    rows = load_data(ROOT / f"assets/{given.data}.parquet").shuffle(seed=given.seed)
    first, end = start["others"]
    others, choosing = rows.select(range(first, end)), rows.select(range(end, len(rows)))
    began, busy = time.perf_counter(), time.process_time()
    results = tune_task(
        load_task(source),
        teacher,
        output,
        choosing,
        label_column="label",
        tuning=Tuning(load_variants(source), shots=given.shots, num_gold=given.num_gold, seed=given.seed),
        before=lambda estimate: print(estimate_line(estimate), flush=True),
    )
    took, busy = time.perf_counter() - began, time.process_time() - busy
    print(*tune_lines(results, output), sep="\n")
    print(f"{took:.0f} s, {busy:.0f} s of processor", flush=True)
    spent = tuned_texts(output)
    found = {"seconds": took, "processor_seconds": busy, "load": os.getloadavg(), **results}
    ways = {"tuned": (output / "tuned.yaml", results["chosen"]["calibration"]), "ships": (start["ships"], "batch")}
    for name, (task, calibration) in ways.items():
        labeler = LLMLabeler(load_task(task), teacher, output / "ledger")
        told = annotate(
            others, labeler, output / f"others-{name}", gold_column="label", calibration=calibration, unmeasured=spent
        )
        found[f"others_{name}"] = told
        value, low, high = (told["quality"][f"accuracy{end}"] for end in ("", "_low", "_high"))
        print(f"{name}: {value:.1%} ({low:.1%} to {high:.1%}) of {told['quality']['n']} others", flush=True)
    if given.rules:
        found["rules"] = _rules(results, source, teacher, output, others, given.rules)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2, default=str) + "\n")


def _rules(
    results: dict, source: Path, teacher: TransformersTeacher, output: Path, others: Dataset, number: int
) -> dict[str, float]:
    """Mean accuracy on other rows of what each rule chooses by 80."""
    task = load_task(source)
    kept = [json.loads(line) for line in (output / TUNE / ROWS_FILE).read_text().splitlines()]
    compared = [row for row in kept if row["use"] == "compare"]
    texts = [*(row["text"] for row in compared), *others["text"]]
    gold = np.array([*(task.labels.index(row["label"]) for row in compared), *others["label"]])
    first = [row for row in results["prompts"] if not row["n_shown"] and row["origin"] != "given"]
    first.sort(key=lambda row: (-row["n"], -max(one["right"] for one in row["calibrations"].values())))
    every = {one.name: one for one in wordings(task, load_variants(source), ["score"])}
    scores, nothing = {}, {}
    for name in [row["name"] for row in first[:number]]:
        labeler = LLMLabeler(every[name].task, teacher, output / "ledger")
        replies = labeler.replies(texts)
        scores[name] = np.array([replies[text].scores for text in texts])
        nothing[name] = labeler.content_free_scores()

    def figures(way: tuple[str, str], rows: np.ndarray) -> tuple[float, float, float]:
        """Share right, mean log-probability and mean probability of gold, calibrated on these rows."""
        name, method = way
        of_rows = scores[name][rows]
        found = calibration_of(method, task.question, of_rows, content_free=nothing[name])
        told = (found or uncalibrated(task.num_labels)).probabilities(of_rows)
        of_gold = told[np.arange(len(rows)), gold[rows]]
        return (told.argmax(1) == gold[rows]).mean(), np.log(of_gold + 1e-9).mean(), of_gold.mean()

    ways = [(name, method) for name in scores for method in CALIBRATIONS]
    batch = [way for way in ways if way[1] == "batch"]
    random = np.random.default_rng(0)
    told: dict[str, list[float]] = {}
    for _ in range(300):
        drawn = random.permutation(len(gold))
        here = {way: figures(way, drawn[:80]) for way in ways}
        there = {way: figures(way, drawn[80:])[0] for way in ways}
        chosen = {
            "right most often, as tune chooses": max(ways, key=lambda way: (here[way][0], here[way][2])),
            "the same, batch calibration only": max(batch, key=lambda way: (here[way][0], here[way][2])),
            "likeliest gold (log)": max(ways, key=lambda way: here[way][1]),
            "likeliest gold": max(ways, key=lambda way: here[way][2]),
            "none could know better": max(ways, key=there.__getitem__),
        }
        for rule, way in chosen.items():
            told.setdefault(rule, []).append(there[way])
    for rule, of_rule in told.items():
        print(f"{rule}: {np.mean(of_rule):.1%}, spread {np.std(of_rule):.1%}")
    return {rule: float(np.mean(of_rule)) for rule, of_rule in told.items()}


def _start(start: dict) -> dict:
    return {
        "name": start["name"],
        "labels": start["labels"],
        "chat": True,
        "instruction": "Somebody wrote the following, and it has to be put into one of our "
        f"{start['boxes']} boxes.\n\n{{text}}\n\nWhich box?",
        "variants": [{"name": "more words", "verbalizers": start["words"]}],
    }


if __name__ == "__main__":
    main()
