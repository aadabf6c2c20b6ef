"""
Gold, silver, and ways of using both, on real reviews, concepts and Llama-2-70b labels; noise; one table each.

    OMP_NUM_THREADS=2 python benchmarks/mixing.py --json mixing.json        # about three hours on 2 cores
    OMP_NUM_THREADS=2 python benchmarks/mixing.py --quick --json quick.json # one seed, fewer rows, within 20 minutes

Needs `make assets`, and in --data the files of the LlamBERT authors' public repository (MIT licence, commit 9b53c25):
imdb_train_llama2_70b_labels.csv, umls_neuro_gold_train.jsonl, umls_neuro_llama2_70b_train.jsonl. Every training is kept in
--output: the same command goes on where it stopped, and --only and --seeds share the work between processes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, disable_progress_bars, load_dataset
from sklearn.model_selection import KFold
from transformers.utils import logging as transformers_logging

from hf_llambert import (
    StudentConfig,
    StudentLabeler,
    drop_label_errors,
    evaluate_student,
    load_task,
    out_of_fold,
    paired_bootstrap,
    train_student,
)
from hf_llambert.training.compared import EVALUATION_FILE
from hf_llambert.training.inputs import TRAINING_FILE

ROOT = Path(__file__).parent.parent
STUDENT = str(ROOT / "assets/all-MiniLM-L6-v2")
REVIEWS, CONCEPTS = load_task("imdb"), load_task("umls-neuro")
NOISE = (0.0, 0.2, 0.4, 0.1, 0.3)
ROBUST = {
    "cross-entropy": {},
    "label smoothing 0.1": {"label_smoothing_factor": 0.1},
    "generalised cross-entropy": {"loss": "gce"},
    "early-learning regularisation": {"loss": "elr"},
    "symmetric KL": {"loss": "symmetric_kl"},
}
# Dataset 1 of the paper's table 5 (roberta-large, IMDb, 25,000 labels, end to end), to stand beside the noise table.
PAPER_NOISE = {0.0: 0.9654, 0.1: 0.9623, 0.2: 0.9590, 0.3: 0.9576, 0.4: 0.9482}

Runs = dict[str, list[np.ndarray]]


class Bench:
    """Trains and keeps what was right; nothing is trained twice."""

    def __init__(self, output: Path, data: Path, quick: bool, seeds: list[int]) -> None:
        self.output, self.data, self.quick, self.seeds = output, data, quick, seeds
        self.size = {"silver": 400, "gold": 100, "held": 300} if quick else {"silver": 2000, "gold": 500, "held": 1000}
        self.concepts = {"silver": 1500, "folds": 1, "noisy": 200} if quick else {
            "silver": 10_000, "folds": 5, "noisy": 500}  # fmt: skip
        self.noise = (0.0, 0.4) if quick else NOISE

    def train(
        self, task, name, held, max_length, seed, student=STUDENT, silver=None, gold=None, keep=False, **changes
    ):
        """Whether each held-out text was labelled right."""
        folder = self.output / name
        args = StudentConfig(
            output_dir=str(self.output / f"{name}-checkpoints"),
            **{"learning_rate": 1e-4, "disable_tqdm": True, "seed": seed, "logging_steps": 20, **changes},
        )
        print(f"{name} ...", flush=True)
        given: dict = {"eval_data": held, "max_length": max_length, "baseline": False}
        train_student(task, student, folder, args, silver=silver, gold=gold, **given)
        if not keep:
            (folder / "model.safetensors").unlink(missing_ok=True)
        return right(folder)

    def in_two_parts(self, task, name, held, max_length, seed, epochs, silver, **arguments):
        """
        Silver only, and silver then gold, from one training.

        Silver only is what that training has learnt when gold begins (give or take one step): its learning rate has come
        down to 0 there, as at the end of a training on silver alone.
        """
        switch = math.ceil(epochs * len(silver) / 16)
        only, checkpoints = self.output / f"{name} (silver only)", self.output / f"{name}-checkpoints"
        save = {"save_strategy": "steps", "save_steps": switch, "save_only_model": True}
        if not only.exists():
            shutil.rmtree(self.output / name, ignore_errors=True)
        both = self.train(task, name, held, max_length, seed, silver=silver, silver_epochs=epochs, **arguments, **save)
        if not only.exists():
            first = next(checkpoints.glob(f"*/checkpoint-{switch}"))
            shutil.copy(self.output / name / TRAINING_FILE, first)
            part = only.with_name(f"{only.name}.part")
            part.mkdir(exist_ok=True)
            evaluate_student(StudentLabeler(first), held, task, part)
            part.rename(only)
            shutil.rmtree(checkpoints)
        return right(only), both

    def imdb(self) -> Runs:
        reviews = load_dataset("parquet", data_files=str(ROOT / "assets/imdb_train.parquet"), split="train")
        labels = np.genfromtxt(self.data / "imdb_train_llama2_70b_labels.csv", delimiter=",", names=True, dtype=int)
        by_teacher = np.full(len(reviews), -1)
        by_teacher[labels["row"]] = labels["llm_label"]
        gold = np.array(reviews["label"][:])
        if not 0.94 < (by_teacher == gold).mean() < 0.96:
            sys.exit("The labels do not fit the reviews: expected about 95 % agreement with gold.")
        held = (
            with_labels(reviews, np.arange(len(reviews)), gold, REVIEWS)
            .shuffle(seed=0)
            .select(range(self.size["held"]))
        )
        known = set(held["text"])
        free = np.array([i for i, text in enumerate(reviews["text"]) if text not in known and by_teacher[i] >= 0])
        runs: Runs = {}
        for seed in self.seeds:
            rows = np.random.default_rng(seed).permutation(free)
            first, second = rows[: self.size["silver"]], rows[self.size["silver"] :][: self.size["gold"]]
            silver = with_labels(reviews, first, by_teacher, REVIEWS)
            few, many = (with_labels(reviews, r, gold, REVIEWS) for r in (second, first))
            both = {"silver": silver, "gold": few}
            variants = {
                f"gold only, {len(few):,}": {"gold": few, "num_train_epochs": 4},
                f"gold only, {len(many):,}": {"gold": many, "num_train_epochs": 2},
                f"concat, {len(silver):,} + {len(few):,}": {**both, "mix": "concat", "num_train_epochs": 2},
                "silver then gold": {**both, "gold_epochs": 2},
            }
            for name, arguments in variants.items():
                folder = f"imdb/{seed}/{name}"
                if name == "silver then gold":
                    only, found = self.in_two_parts(REVIEWS, folder, held, 128, seed, 2, **arguments)
                    runs.setdefault(f"silver only, {len(silver):,}", []).append(only)
                    runs.setdefault(name, []).append(found)
                else:
                    runs.setdefault(name, []).append(self.train(REVIEWS, folder, held, 128, seed, **arguments))
        return dict(sorted(runs.items(), key=lambda item: not item[0].startswith("silver")))

    def _concepts(self) -> tuple[Dataset, Dataset]:
        gold, silver = (
            load_dataset("json", data_files=str(self.data / f"umls_neuro_{name}.jsonl"), split="train")
            for name in ("gold_train", "llama2_70b_train")
        )
        known, labels = set(gold["text"]), np.array(silver["llm_label"][:])
        fresh = np.array([i for i, text in enumerate(silver["text"]) if text not in known and labels[i] >= 0])
        silver = with_labels(silver, fresh, labels, CONCEPTS)
        return with_labels(gold, np.arange(len(gold)), np.array(gold["label"][:]), CONCEPTS), silver

    def umls(self) -> Runs:
        """Five folds of the gold concepts; each fold has a seed of its own, for silver too."""
        gold, silver = self._concepts()
        parts: dict[str, list[np.ndarray]] = {}
        for fold, (seen, held) in enumerate(KFold(5, shuffle=True, random_state=0).split(gold)):
            if fold >= self.concepts["folds"]:
                break
            train, test, seed = gold.select(seen), gold.select(held), fold + 1
            rows = silver.shuffle(seed=seed).select(range(min(self.concepts["silver"], len(silver))))
            base = f"umls/{fold}"
            alone = self.train(CONCEPTS, f"{base}/gold", test, 64, seed, gold=train, num_train_epochs=4)
            only, both = self.in_two_parts(
                CONCEPTS, f"{base}/both", test, 64, seed, 1, silver=rows, gold=train, gold_epochs=2
            )
            parts.setdefault(f"gold only, {len(train):,}", []).append(alone)
            parts.setdefault(f"silver only, {len(rows):,}", []).append(only)
            parts.setdefault("silver then gold", []).append(both)
        return {name: [np.concatenate(folds)] for name, folds in parts.items()}

    def noise_table(self) -> Runs:
        """Labels flipped at random; measured on all gold concepts, none of which is learnt from."""
        gold, silver = self._concepts()
        runs: Runs = {}
        rows = silver.shuffle(seed=1).select(range(self.concepts["noisy"]))
        for share in self.noise:
            labels = np.array(rows["label"][:])
            flipped = np.random.default_rng(1).permutation(len(labels))[: round(share * len(labels))]
            labels[flipped] = 1 - labels[flipped]
            noisy = with_labels(rows, np.arange(len(rows)), labels, CONCEPTS)
            base = f"noise/{share:.1f}"
            settings = {"num_train_epochs": 4, "seed": 1, "held": gold, "max_length": 64}
            for name, changes in ROBUST.items():
                found = self.train(CONCEPTS, f"{base}/{name}", silver=noisy, **settings, **changes)
                runs[f"{name}, {share:.0%} flipped"] = [found]
            args = StudentConfig(
                output_dir=str(self.output / f"{base}/folds-checkpoints"), learning_rate=1e-4, num_train_epochs=4,
                disable_tqdm=True, seed=1, logging_steps=20,
            )  # fmt: skip
            p = out_of_fold(noisy, CONCEPTS, STUDENT, self.output / base / "folds", args, 2, max_length=64)
            clean, _ = drop_label_errors(noisy, CONCEPTS, p)
            found = self.train(CONCEPTS, f"{base}/cleanlab", silver=clean, **settings)
            runs[f"cleanlab pruning, {share:.0%} flipped"] = [found]
            kept = set(clean["text"])
            wrong = [i for i in flipped if rows[int(i)]["text"] not in kept]
            print(f"cleanlab at {share:.0%}: dropped {len(rows) - len(clean)}, {len(wrong)} of {len(flipped)} flipped")
        return runs


def with_labels(data: Dataset, rows: np.ndarray, labels: np.ndarray, task) -> Dataset:
    texts = data.select(rows.tolist()).select_columns("text")
    return texts.add_column("label", labels[rows].tolist(), feature=ClassLabel(names=list(task.labels)))


def right(folder: Path) -> np.ndarray:
    rows = Dataset.from_parquet(str(folder / EVALUATION_FILE))
    return np.array(rows["gold"][:]) == np.array(rows["student_label"][:])


def table(title: str, runs: Runs, against: str | None) -> dict[str, dict[str, float]]:
    """Print a table; the accuracies with their intervals."""
    found, reference = {}, None if against is None else np.array(runs[against])
    print(
        f"\n{title}\n\n| | accuracy (95 % interval; of one run: over texts only) |"
        + ("" if against is None else f" less `{against}` |")
    )
    print("|---|---|" + ("" if against is None else "---|"))
    for name, seeds in runs.items():
        mean, low, high = paired_bootstrap(seeds)
        found[name] = {"accuracy": mean, "low": low, "high": high, "runs": len(seeds), "texts": len(seeds[0])}
        line = f"| {name} | {mean:.2%} ({low:.2%} to {high:.2%}) |"
        if reference is not None and name != against:
            line += " {:+.2%} ({:+.2%} to {:+.2%}) |".format(*paired_bootstrap(seeds, reference))
        print(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=("imdb", "umls", "noise"), default=("imdb", "umls", "noise"))
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help="of IMDb; the other two have one")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/llambert")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if not (options.data / "imdb_train_llama2_70b_labels.csv").is_file():
        sys.exit(f"No Llama-2-70b labels in '{options.data}'. Pass --data FOLDER; see --help for what it must hold.")
    if not Path(STUDENT).is_dir():
        sys.exit("No student. Run: make assets")
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    output = options.output or ROOT / "runs" / ("mixing-quick" if options.quick else "mixing")
    bench = Bench(output, options.data, options.quick, options.seeds or ([1] if options.quick else [1, 2, 3]))
    found: dict[str, dict] = {}
    if "imdb" in options.only:
        runs = bench.imdb()
        found["imdb"] = table("IMDb, Llama-2-70b's labels", runs, f"silver only, {bench.size['silver']:,}")
    if "umls" in options.only:
        runs = bench.umls()
        found["umls"] = table("UMLS, Llama-2-70b's labels", runs, next(iter(runs)))
    if "noise" in options.only:
        found["noise"] = table("UMLS, silver labels flipped", bench.noise_table(), None)
        print("The paper (roberta-large, IMDb):", ", ".join(f"{k:.0%} {v:.2%}" for k, v in PAPER_NOISE.items()))
    if options.json:
        flat = {f"{part}/{name}": value for part, rows in found.items() for name, value in rows.items()}
        options.json.write_text(json.dumps(flat, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
