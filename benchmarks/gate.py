"""
What the gate says of a real run and of the same run poisoned: flipped labels, a class that is missing, a pool of another kind.

    python benchmarks/gate.py --run runs/imdb-quickstart

It starts from the quickstart's annotated reviews (nothing is asked again) and trains each student anew: some minutes each.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from hf_llambert import (
    StudentConfig,
    StudentLabeler,
    fastest_backend,
    label_pool,
    load_data,
    load_task,
    select_silver,
    show_gate,
    train_student,
    with_gold,
    write_report,
)
from hf_llambert.data import STAGE_FILE

FLIPPED, POOL = 0.4, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--conditions", type=Path, default=Path("recipes/gate.yaml"))
    parser.add_argument("--output", type=Path, default=Path("runs/gate"))
    parser.add_argument("--poisons", nargs="+", default=["none", "flips", "class", "pool"])
    given = parser.parse_args()
    found = {poison: judged(poison, given) for poison in given.poisons}
    names = [one["name"] for one in next(iter(found.values()))["conditions"]]
    print("| condition | wanted | " + " | ".join(found) + " |\n|" + "---|" * (len(found) + 2))
    for k, name in enumerate(names):
        cells = [gate["conditions"][k] for gate in found.values()]
        marks = [f"{cell['got']} {'✓' if cell['passed'] else '✗'}" for cell in cells]
        print(f"| {name} | {cells[0]['wanted']} | {' | '.join(marks)} |")
    print("| the gate | | " + " | ".join("passed" if gate["passed"] else "missed" for gate in found.values()) + " |")


def judged(poison: str, given: argparse.Namespace) -> dict:
    run = given.output / poison
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    task = load_task("imdb")
    annotated = load_from_disk(str(given.run / "annotated"))
    labels, random = np.array(annotated["llm_label"][:]), np.random.default_rng(0)
    if poison == "flips":
        flipped = random.permutation(len(labels))[: round(FLIPPED * len(labels))]
        labels[flipped] = 1 - labels[flipped]
    if poison == "class":  # the teacher hardly ever says "positive"; where it never does, training refuses already
        labels[np.flatnonzero(labels)[8:]] = 0
    feature = annotated.features["llm_label"]
    Dataset.save_to_disk(
        annotated.remove_columns("llm_label").add_column("llm_label", labels.tolist(), feature=feature),
        str(run / "annotated"),
    )
    stage = json.loads((given.run / "annotated" / STAGE_FILE).read_text())
    gold = np.array(annotated["label"][:])
    stage["results"]["quality"] = quality(task, labels, gold)
    (run / "annotated" / STAGE_FILE).write_text(json.dumps(stage))
    used = set(annotated["text"])
    reviews = load_data(given.assets / "imdb_train.parquet", num_rows=4000, seed=7)
    reviews = reviews.select([i for i, text in enumerate(reviews["text"]) if text not in used])
    held_out = with_gold(reviews.select(range(500)), "text", "label", task)
    pool = reviews.select(range(500, 500 + POOL)).select_columns("text")
    if poison == "pool":
        pool = load_data(given.assets / "bbc_news.parquet", num_rows=POOL, seed=7).select_columns("text")
    silver, selection = select_silver(load_data(run), task)
    settings = StudentConfig(
        str(run / "checkpoints"), use_cpu=True, num_train_epochs=4, per_device_train_batch_size=16, learning_rate=1e-4,
        seed=42, disable_tqdm=True,
    )  # fmt: skip
    train_student(
        task, str(given.assets / "all-MiniLM-L6-v2"), run / "student", settings, silver=silver, selection=selection,
        eval_data=held_out, eval_name="500 other reviews", max_length=128,
    )  # fmt: skip
    student = StudentLabeler(run / "student", backend=fastest_backend())
    label_pool(pool, student, run / "labels", show_progress=False)
    report = write_report(run, gate=given.conditions)
    print(f"\n{poison}:")
    show_gate(report["gate"])
    return report["gate"]


def quality(task, labels, gold) -> dict:
    from hf_llambert import AnnotationQuality

    return AnnotationQuality(keep_in_memory=True).compute(predictions=labels, references=gold, labels=task.labels)


if __name__ == "__main__":
    main()
