"""
Static students beside scikit-learn's TF-IDF with a logistic regression, on the same rows.

    OMP_NUM_THREADS=1 python benchmarks/static_students.py --keep DIR                  # five minutes on a core that is free
    OMP_NUM_THREADS=1 python benchmarks/static_students.py --keep DIR --data DATA  # goemotions_train.jsonl too
    OMP_NUM_THREADS=1 python benchmarks/static_students.py --keep DIR --arguments '{"learning_rate": 0.01}'
    OMP_NUM_THREADS=1 python benchmarks/static_students.py --keep DIR --speed     # texts a second of a core, the tokenizer's too

Needs `make assets`; the vectors of MiniLM's tokens are made once (a minute) and kept in DIR. Rows are shuffled once; the first
ones are measured on, the next ones are learnt from.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset, disable_progress_bars
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from hf_llambert import Choices, TaskSpec
from hf_llambert.training.heads import Labels, heads_of
from hf_llambert.training.static import StaticModel
from hf_llambert.training.static_training import fit_static, static_arguments
from hf_llambert.training.vectors import TokenVectors

ROOT = Path(__file__).parent.parent
ENCODER = ROOT / "assets/all-MiniLM-L6-v2"
SIZES = {"imdb": (400, 2000, 10_000, 23_000), "bbc": (100, 1000), "icd": (2000, 10_000), "goemotions": (2000, 10_000)}
FILES = {"imdb": "imdb_train", "bbc": "bbc_news", "icd": "icd_chapters"}
HELD = {"bbc": 1200}
TUNED = 0.1  # share of the rows to learn from by which thresholds are chosen, where several labels may hold


def read(name: str, data: Path | None) -> tuple[TaskSpec, list[str], list]:
    """The task, the texts and their answers, shuffled."""
    if name in FILES:
        rows = pq.read_table(ROOT / "assets" / f"{FILES[name]}.parquet")
        texts, answers = rows["text"].to_pylist(), [int(one) for one in rows["label"].to_pylist()]
        task = TaskSpec(name, tuple(f"label {i}" for i in range(max(answers) + 1)), "{text}")
    else:
        lines = (data / f"{name}_train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        labels = tuple(sorted({label for row in rows for label in row["emotions"]}))
        task = TaskSpec(name, (), "{text}", questions=(Choices("emotions", labels, "Which?"),))
        texts, answers = (
            [row["text"] for row in rows],
            [[labels.index(one) for one in row["emotions"]] for row in rows],
        )
    order = np.random.default_rng(0).permutation(len(texts))
    return task, [texts[i] for i in order], [answers[i] for i in order]


def figure(head, logits: np.ndarray, answers: list) -> float:
    """Accuracy in percent; where several labels may hold micro-F1."""
    found = head.columns(head.evidence(torch.tensor(logits).float()))
    if not isinstance(head, Labels):
        return 100 * float(np.mean(np.array(found["label"]) == answers))
    labels = found["labels"].to_pylist()
    hits = sum(len(set(own) & set(gold)) for own, gold in zip(labels, answers, strict=True))
    return 200 * hits / (sum(map(len, labels)) + sum(map(len, answers)))


def tuned_figure(head, logits: np.ndarray, answers: list, tuning: list) -> float:
    """The figure of the first logits, with thresholds chosen by those behind them."""
    if tuning:
        head = head.tuned(torch.tensor(logits[len(answers) :]).float(), tuning)
    return figure(head, logits[: len(answers)], answers)


def tfidf(texts: list[str], head, answers: list, held: list[str]) -> np.ndarray:
    """Logits of the held texts by TF-IDF of words and pairs of words and a logistic regression."""
    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    learnt = counts.fit_transform(texts)
    if isinstance(head, Labels):
        model = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(learnt, head.question.targets(answers))
        return model.decision_function(counts.transform(held))
    model = LogisticRegression(max_iter=1000).fit(learnt, answers)
    logits = np.full((len(held), head.size), -30.0)
    logits[:, model.classes_] = model.predict_log_proba(counts.transform(held))
    return logits


def quality(arguments: argparse.Namespace, vectors: TokenVectors) -> None:
    changes = json.loads(arguments.arguments)
    print("| rows | static | s of a core | TF-IDF | s of a core |\n|---|---|---|---|---|")
    for name in arguments.only or [*FILES, *(["goemotions"] if arguments.data else [])]:
        task, texts, answers = read(name, arguments.data)
        head, first = heads_of(task)[0], HELD.get(name, 2000)
        for size in (size for size in SIZES[name] if size <= arguments.most):
            back = round(TUNED * size) if isinstance(head, Labels) else 0
            rows, kept = slice(first, first + size - back), slice(first + size - back, first + size)
            asked, tuning = [*texts[:first], *texts[kept]], answers[kept]
            gold = Dataset.from_dict({"text": texts[rows], "label": answers[rows]})
            own, took = [], []
            for seed in range(1, arguments.seeds + 1):
                given = {"seed": seed, "use_cpu": True, "report_to": [], "disable_tqdm": True, **changes}
                start = time.process_time()
                args = static_arguments(tempfile.mkdtemp(), **given)
                student, _ = fit_static(vectors, task, [head], args, None, gold, "text")
                own.append(tuned_figure(head, student.logits(pa.array(asked)), answers[:first], tuning))
                took.append(time.process_time() - start)
            start = time.process_time()
            other = tuned_figure(head, tfidf(texts[rows], head, answers[rows], asked), answers[:first], tuning)
            spread = f" ({min(own):.1f} to {max(own):.1f})" if len(own) > 1 else ""
            print(
                f"| {name} {size} | {statistics.mean(own):.1f}{spread} | {statistics.mean(took):.1f} | {other:.1f} | "
                f"{time.process_time() - start:.1f} |",
                flush=True,
            )


def speed(vectors: TokenVectors) -> None:
    """Texts a second of a core, of a student with two logits and with 28, and of its tokenizer alone; one text of 10 MB."""
    table = np.zeros((vectors.tokens.size, 2), np.float32)
    student = StaticModel(table, table[0], vectors.tokens)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    student.logits(pa.array(["the film was good " * 600_000]))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"one text of 10.8 MB: {time.process_time() - start:.1f} s, {grown:.0f} MiB more memory at its peak")
    reviews = pq.read_table(ROOT / "assets/imdb_train.parquet")["text"].slice(0, 4000).combine_chunks()
    codes = pq.read_table(ROOT / "assets/icd_chapters.parquet")["text"].slice(0, 40_000).combine_chunks()
    for name, texts in (("reviews", reviews), ("diagnoses", codes)):
        rng = np.random.default_rng(0)
        tables = {size: rng.normal(size=(vectors.tokens.size, size)).astype(np.float32) for size in (2, 28)}
        students = {size: StaticModel(table, table[0], vectors.tokens) for size, table in tables.items()}
        ways = {f"{size} logits": student.logits for size, student in students.items()}
        plain = texts.to_pylist()
        ways["tokenizer alone"] = lambda _, plain=plain: [
            vectors.tokens.tokenizer.encode_batch_fast(plain[i : i + 1000], add_special_tokens=False)
            for i in range(0, len(plain), 1000)
        ]
        for way, run in ways.items():
            rates = []
            for _ in range(3):
                start = time.process_time()
                run(texts)
                rates.append(len(texts) / (time.process_time() - start))
            print(
                f"{name}, {way}: {statistics.median(rates):,.0f} texts/s of a core ({min(rates):,.0f} to {max(rates):,.0f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--most", type=int, default=10_000, help="rows to learn from")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--arguments", default="{}", help="of StudentConfig, as JSON")
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    disable_progress_bars()
    vectors = TokenVectors.load(ENCODER, dimensions=arguments.dimensions, keep=arguments.keep)
    if arguments.speed:
        speed(vectors)
    else:
        quality(arguments, vectors)


if __name__ == "__main__":
    main()
