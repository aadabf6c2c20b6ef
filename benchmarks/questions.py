"""
Students of several questions, scales and many labels, on the train parts of SICK, GoEmotions and the translated STS benchmark.

    OMP_NUM_THREADS=1 python benchmarks/questions.py --data DATA --only sick     # an hour on a core that is free
    OMP_NUM_THREADS=1 python benchmarks/questions.py --data DATA --speed       # texts a second, four questions against one

Needs `make assets`, and in DATA, a JSON object a line: sick_train.jsonl (sentence_a, sentence_b, entailment, relatedness),
goemotions_train.jsonl (text, emotions: a list) and stsb_{de,fr,zh}_train.jsonl (sentence_a, sentence_b, similarity). One fifth of
each, drawn once, is measured on and otherwise not used; each design is trained by several seeds. Every training is kept in
--output: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, List, disable_progress_bars
from transformers.utils import logging as transformers_logging

from hf_llambert import Choice, Choices, Scale, StudentConfig, StudentLabeler, TaskSpec, row_texts, train_student

ROOT = Path(__file__).parent.parent
STUDENT = str(ROOT / "assets/all-MiniLM-L6-v2")
ENTAILMENT = Choice("entailment", ("contradiction", "entailment", "neutral"), "Which?")
RELATEDNESS = Scale("relatedness", ("1", "2", "3", "4", "5"), "How related are the two?")
SIMILARITY = Scale("similarity", ("0", "1", "2", "3", "4", "5"), "How similar are the two?")
PAIR = "First: {sentence_a}\nSecond: {sentence_b}"
PAIRS = {"learning_rate": 1e-4, "num_train_epochs": 4, "per_device_train_batch_size": 16}
EMOTIONS = {"learning_rate": 3e-4, "num_train_epochs": 4, "per_device_train_batch_size": 32}
MAIN = {"choice": ("accuracy",), "scale": ("spearman", "pearson", "mae"), "choices": ("macro_f1", "micro_f1")}


def designs(data: Path) -> dict[str, tuple]:
    """By name: task, rows, training arguments, longest input."""
    sick, both = read(data / "sick_train.jsonl"), TaskSpec("sick", (), PAIR, questions=(ENTAILMENT, RELATEDNESS))
    out = {
        "sick, both": (both, sick, PAIRS, 64),
        "sick, entailment alone": (replace(both, questions=(ENTAILMENT,)), sick, PAIRS, 64),
        "sick, both, regression": (both, sick, PAIRS | {"scale_loss": "regression"}, 64),
    }
    alone = TaskSpec("sick", (), PAIR, questions=(RELATEDNESS,))
    for loss in ("cross_entropy", "regression"):
        out[f"sick, relatedness alone, {loss}"] = (alone, sick, PAIRS | {"scale_loss": loss}, 64)
    for language in ("de", "fr", "zh"):
        rows, task = read(data / f"stsb_{language}_train.jsonl"), TaskSpec("sts", (), PAIR, questions=(SIMILARITY,))
        for loss in ("cross_entropy", "regression"):
            out[f"sts {language}, {loss}"] = (task, rows, PAIRS | {"scale_loss": loss}, 96)
    rows = read(data / "goemotions_train.jsonl")
    labels = tuple(sorted({label for row in rows["emotions"] for label in row}))
    task = TaskSpec("goemotions", (), "{text}", questions=(Choices("emotions", labels, "Which?"),))
    out["goemotions"] = (task, rows, EMOTIONS, 48)
    return out


def read(path: Path) -> Dataset:
    with path.open(encoding="utf-8") as file:
        return Dataset.from_list([json.loads(line) for line in file])


def prepared(rows: Dataset, task: TaskSpec) -> Dataset:
    """The rows with canonical gold, as a student takes it."""
    kept = {name: rows[name][:] for name in task.fields}
    for name, part in task.parts.items():
        question = part.question
        kept[name or "label"] = question.gold(rows[question.name][:], question.name)
    data = Dataset.from_dict(kept)
    for name, part in task.parts.items():
        feature = {
            "choice": ClassLabel(names=list(part.labels)),
            "choices": List(ClassLabel(names=list(part.labels))),
        }.get(part.question.kind)
        if feature is not None:
            data = data.cast_column(name or "label", feature)
    return data


def trained(name: str, design: tuple, output: Path, seed: int, changes: dict) -> dict:
    """The figures by question of one training."""
    task, rows, arguments, max_length = design
    order = np.random.default_rng(0).permutation(len(rows))
    held, learnt = order[: len(rows) // 5], order[len(rows) // 5 :]
    data = prepared(rows, task)
    texts = row_texts(data, task.columns())
    known = {texts[i] for i in held}
    learnt = [i for i in learnt if texts[i] not in known]
    folder = output / f"{name.replace(', ', '-').replace(' ', '_')}" / str(seed)
    args = StudentConfig(
        str(output / "checkpoints"),
        **{"seed": seed, "disable_tqdm": True, "logging_steps": 50, "report_to": [], "use_cpu": True},
        **arguments | changes,
    )
    found = train_student(
        task, STUDENT, folder, args, gold=data.select(learnt), eval_data=data.select(held), max_length=max_length
    )
    questions = {part.question.name: (part.question.kind, key) for key, part in task.parts.items()}
    return {
        question: {figure: (found["eval"][key] if key else found["eval"])[figure] for figure in MAIN[kind]}
        for question, (kind, key) in questions.items()
    } | {"minutes": found["train"]["seconds"] / 60, "n": found["train"]["n"], "held": len(held)}


def quality(arguments: argparse.Namespace) -> None:
    for name, design in designs(arguments.data).items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        changes = json.loads(arguments.arguments)
        found = []
        for seed in range(1, arguments.seeds + 1):
            found.append(trained(f"{name}{arguments.suffix}", design, arguments.output, seed, changes))
            print(f"{name}{arguments.suffix}, seed {seed}: {json.dumps(found[-1])}", flush=True)
        for question, figures in found[0].items():
            if isinstance(figures, dict):
                for figure in figures:
                    values = [one[question][figure] for one in found]
                    shown = ", ".join(f"{value:.4f}" for value in values)
                    print(
                        f"{name}{arguments.suffix} | {question} | {figure} | {statistics.mean(values):.4f} | {shown}"
                    )


def speed(arguments: argparse.Namespace) -> None:
    """Texts a second of a student of one question and one of four, in turns; medians."""
    rows = read(arguments.data / "goemotions_train.jsonl")
    texts = rows["text"][: arguments.texts]
    one = Choice("mood", ("bad", "good"), "Which?")
    several = (
        one,
        Choice("topic", tuple("abcdefgh"), "Which?"),
        Choices("emotions", tuple(f"e{i}" for i in range(28)), "Which?"),
        Scale("strength", ("0", "1", "2", "3", "4", "5"), "How much?"),
    )
    with tempfile.TemporaryDirectory() as place:
        labelers = {}
        for number, questions in ((1, (one,)), (4, several)):
            task = TaskSpec("speed", (), "{text}", questions=questions)
            data = {"text": texts[:64]}
            random = np.random.default_rng(0)
            for name, part in task.parts.items():
                choices = part.question.kind == "choices"
                drawn = random.integers(0, 2, 64).tolist()
                data[name or "label"] = [[x] for x in drawn] if choices else drawn
            args = StudentConfig(f"{place}/c", max_steps=1, report_to=[], disable_tqdm=True, use_cpu=True)
            train_student(task, STUDENT, f"{place}/{number}", args, gold=Dataset.from_dict(data), max_length=128)
            labelers[number] = StudentLabeler(f"{place}/{number}", backend=arguments.backend)
            labelers[number].warm_up()
        clocks = {
            "wall clock": time.perf_counter,
            "CPU time": time.process_time,
        }  # the second is fair on a busy machine
        found: dict[str, dict[int, list[float]]] = {clock: {1: [], 4: []} for clock in clocks}
        for round_ in range(arguments.rounds):
            for number in (1, 4) if round_ % 2 else (4, 1):
                starts = {name: clock() for name, clock in clocks.items()}
                labelers[number].label(texts)
                for name, clock in clocks.items():
                    found[name][number].append(len(texts) / (clock() - starts[name]))
        for name, rates in found.items():
            one_, four = (statistics.median(rates[number]) for number in (1, 4))
            ratios = [four / single for four, single in zip(rates[4], rates[1], strict=True)]
            print(f"{arguments.backend}, {name}: one question {one_:.1f} texts/s, four {four:.1f}, ratio of medians "
                  f"{four / one_:.3f}, median of ratios {statistics.median(ratios):.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/questions"))
    parser.add_argument("--only", nargs="*", default=[], help="designs whose names contain one of these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arguments", default="{}", help="other training arguments, as JSON")
    parser.add_argument("--suffix", default="", help="what to call a design with other arguments")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--texts", type=int, default=1000, help="of each round of --speed")
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    if arguments.speed:
        speed(arguments)
    else:
        quality(arguments)


if __name__ == "__main__":
    main()
