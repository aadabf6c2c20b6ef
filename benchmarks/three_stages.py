"""
Three stages on real students: what they cost, and how often their promises are broken over simulated draws.

    OMP_NUM_THREADS=1 python benchmarks/three_stages.py --keep DIR      # some minutes, most of them the encoder's

Needs `make assets`. MiniLM learns names of diagnoses (21 chapters) from gold, and a linear student the encoder's own labels of
other names. Both label a world of further names once. Each draw does all that a user does: texts of the world choose the linear
student's threshold (`choose_below`), gold rows certify the teacher's (`calibrate_cascade`); what is then true of the whole world
is counted. The teacher is simulated: right about each name with a fixed chance.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset, disable_progress_bars

from hf_llambert import StudentCascade, StudentConfig, StudentLabeler, TaskSpec, train_fast, train_student
from hf_llambert.pool.first_stage import certified_below
from hf_llambert.pool.thresholds import guaranteed_threshold

ROOT = Path(__file__).parent.parent
GOLD, DISTILLED, WORLD = 2_500, 8_000, 6_000  # names: learnt by the encoder, by the linear student, labelled by all
AGREEMENTS, TEACHERS, PLACES = (0.98, 0.995), (0.97, 0.9), (0.15, 0.25, 0.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="Folder of the students, made once")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=4000, help="Texts that choose the first threshold")
    parser.add_argument("--gold", type=int, default=400, help="Gold rows that certify the second")
    arguments = parser.parse_args()
    disable_progress_bars()
    fast, encoder, texts, gold = students(arguments.keep)
    world = World(fast, encoder, texts, gold)
    world.cost(0.995)
    print("| encoder's labels to keep | chosen threshold | linear answers | kept in truth, least | broken |")
    print("|---|---|---|---|---|")
    for agreement in AGREEMENTS:
        first_promise(world, agreement, arguments)
    print("\n| teacher right | target | first threshold | promised | asked | broken |\n|---|---|---|---|---|---|")
    for teacher in TEACHERS:
        for place in PLACES:
            for agreement in (None, *AGREEMENTS):
                whole_promise(world, teacher, place, agreement, arguments)


def students(keep: Path) -> tuple[StudentLabeler, StudentLabeler, list[str], np.ndarray]:
    """The linear student, the encoder, and the world with its gold."""
    rows = pq.read_table(ROOT / "assets/icd_chapters.parquet")
    order = np.random.default_rng(0).permutation(rows.num_rows)[: GOLD + DISTILLED + WORLD]
    texts, gold = np.array(rows["text"].to_pylist())[order], rows["label"].to_numpy()[order]
    task = TaskSpec("icd", tuple(f"chapter {i}" for i in range(gold.max() + 1)), "{text}")
    learnt, distilled, world = np.split(np.arange(len(order)), [GOLD, GOLD + DISTILLED])
    args = StudentConfig(
        str(keep / "checkpoints"), report_to=[], use_cpu=True, disable_tqdm=True, num_train_epochs=2, learning_rate=2e-4,
        per_device_train_batch_size=32, seed=1,
    )  # fmt: skip
    given = Dataset.from_dict({"text": texts[learnt], "label": gold[learnt]})
    train_student(task, str(ROOT / "assets/all-MiniLM-L6-v2"), keep / "encoder", args, gold=given, baseline=False)
    encoder = StudentLabeler(keep / "encoder")
    if not (keep / "linear" / "metrics.json").is_file():
        own = encoder.label(texts[distilled].tolist())
        silver = {"text": texts[distilled], "label": own["student_label"]}
        silver["probabilities"] = np.exp(np.array(own["student_scores"], dtype=np.float32)).tolist()
        soft = StudentConfig(str(keep / "checkpoints"), report_to=[], use_cpu=True, soft_targets=True)
        train_fast(task, "linear", keep / "linear", soft, silver=Dataset.from_dict(silver))
    return StudentLabeler(keep / "linear"), encoder, texts[world].tolist(), gold[world]


class World:
    """What both students say of every name."""

    def __init__(self, fast: StudentLabeler, encoder: StudentLabeler, texts: list[str], gold: np.ndarray) -> None:
        self.fast, self.encoder, self.texts, self.gold = fast, encoder, texts, gold
        self.question = fast.questions[""]
        kept = Path(encoder.student).parent / "world.json"
        if not kept.is_file():
            kept.write_text(json.dumps([fast.label(texts), encoder.label(texts)]))
        first, second = json.loads(kept.read_text())
        self.sure, self.other_sure = (np.float32(one["student_confidence"]) for one in (first, second))
        self.label, self.other = (np.array(one["student_label"]) for one in (first, second))
        right, others = (float((labels == gold).mean()) for labels in (self.label, self.other))
        alike = (self.label == self.other).mean()
        print(f"{len(gold):,} names: linear {right:.1%} right, encoder {others:.1%}, alike {alike:.1%}", flush=True)

    def together(self, below: float) -> tuple[np.ndarray, np.ndarray]:
        """Confidence and label of the two students together."""
        unsure = (self.sure < np.float32(below)) | (below >= 1)
        return np.where(unsure, self.other_sure, self.sure), np.where(unsure, self.other, self.label)

    def chosen(self, rows: np.ndarray, agreement: float) -> float:
        """The first threshold, from these rows."""
        columns = (one[rows].tolist() for one in (self.sure, self.label, self.other))
        found = certified_below(self.question, *columns, agreement, 0.95)
        return 1.0 if found is None else found[0]

    def cost(self, agreement: float) -> None:
        """CPU seconds of the encoder alone and of both; and that the labels are those computed here."""
        below = self.chosen(np.random.default_rng(0).choice(len(self.gold), 4000, replace=False), agreement)
        both = StudentCascade(self.fast, self.encoder, below)
        some = self.texts[:4000]
        for name, labeler in (("encoder", self.encoder), ("both", both)):
            labeler.warm_up()
            start = time.process_time()
            found = labeler.label(some)
            print(f"{name}: {len(some) / (time.process_time() - start):,.0f} texts a CPU second")
        differ = int((np.array(found["student_label"]) != self.together(below)[1][:4000]).sum())
        share = found["student_source"].count("linear") / len(some)
        print(f"at {below:.4f} the linear student answers {share:.1%}; {differ} labels are not those of the arrays\n")


def first_promise(world: World, agreement: float, arguments: argparse.Namespace) -> None:
    random = np.random.default_rng(1)
    found = [
        world.chosen(random.integers(len(world.gold), size=arguments.sample), agreement)
        for _ in range(arguments.draws)
    ]
    kept = np.array([(world.together(below)[1] == world.other).mean() for below in found])
    answered = np.mean([(world.sure >= np.float32(below)).mean() if below < 1 else 0.0 for below in found])
    print(
        f"| {agreement:.1%} | {np.median(found):.4f} | {answered:.1%} | {kept.min():.2%} | {(kept < agreement).sum()} of "
        f"{arguments.draws:,} |",
        flush=True,
    )


def whole_promise(
    world: World, chance: float, place: float, agreement: float | None, arguments: argparse.Namespace
) -> None:
    """Just above what is true at a threshold of the teacher, where promising too much is easiest."""
    random, n = np.random.default_rng(2), len(world.gold)
    teacher = np.where(random.random(n) < chance, world.gold, (world.gold + 1) % len(world.question.labels))
    fixed = world.chosen(random.integers(n, size=arguments.sample), agreement or AGREEMENTS[0])

    def truth(below: float, threshold: float) -> float:
        sure, label = world.together(below)
        return float((np.where(sure < np.float32(threshold), teacher, label) == world.gold).mean())

    target = truth(fixed, place) + 0.0005
    promised, broken, asked = 0, 0, []
    for _ in range(arguments.draws):
        below = fixed
        if agreement is not None:
            below = world.chosen(random.integers(n, size=arguments.sample), agreement)
        sure, label = world.together(below)
        rows = random.integers(n, size=arguments.gold)
        try:
            promise = guaranteed_threshold(sure[rows], label[rows], teacher[rows], world.gold[rows], target)
        except ValueError:
            continue
        promised += 1
        asked.append(float((sure < np.float32(promise.threshold)).mean()))
        broken += truth(below, promise.threshold) < target
    how = f"fixed, {fixed:.4f}" if agreement is None else f"chosen in each draw, {agreement:.1%}"
    share = f"{np.mean(asked):.1%}" if asked else ""
    print(
        f"| {chance:.0%} | {target:.2%} | {how} | {promised:,} | {share} | {broken} of {arguments.draws:,} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
