"""
Where words are enough: encoders, linear and static students by the same labels, and small ones distilled from the encoder.

    accelerate launch recipes/studies/fast_students.py --config recipes/studies/fast_students.yaml --recorded D --questions D
    accelerate launch recipes/studies/fast_students.py --config recipes/studies/fast_students.yaml --only bbc icd

A set whose files are in a folder that is not named is left out. Each student is kept in the run's folder, and so is what it
was measured to: stopped and started again, or run set by set with --only, the study goes on where it stopped, and its table,
figure and page have all sets that are done.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study import (
    BLUE,
    GREEN,
    ORANGE,
    RunArguments,
    annotated,
    check_processes,
    run_script,
    seeded,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import (
    ABSTAIN,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    TokenVectors,
    column_names,
    distill_student,
    load_data,
    load_task,
    read_evaluation,
    row_texts,
    train_fast,
    train_student,
)
from hf_llambert.pool.distill import STUDENTS
from hf_llambert.tasks.parts import answer_column
from hf_llambert.training.backends import fastest_backend
from hf_llambert.training.train_fast import FAST_KINDS, fast_arguments

OWN, DISTILLED = "the labels", "the encoder"
"""What a student learnt from; the distilled ones from the encoder's labels of other texts, and from the labels too."""
COLOURS = {"encoder": BLUE, "linear": ORANGE, "static": GREEN}
MARKERS = {OWN: "o", DISTILLED: "^"}
RESAMPLES = 2000
TIMED = {"encoder": 200, "linear": 8000, "static": 8000}
"""Texts by which the speed of each is measured, three times."""
CELL = "cell.json"


def _accuracy(answers: Sequence, gold: Sequence) -> tuple[NDArray, NDArray]:
    return np.equal(answers, gold).astype(float), np.ones(len(gold))


def _micro_f1(answers: Sequence, gold: Sequence) -> tuple[NDArray, NDArray]:
    pairs = [(set(one), set(other)) for one, other in zip(answers, gold, strict=True)]
    return np.array([2.0 * len(a & b) for a, b in pairs]), np.array([float(len(a) + len(b)) for a, b in pairs])


FIGURES: Mapping[str, tuple[str, Callable]] = {"choice": ("accuracy", _accuracy), "choices": ("micro-F1", _micro_f1)}
"""The figure of a kind of question, and its parts by text: it is the sum of the first ones by that of the second ones."""


@dataclass(frozen=True)
class Set:
    """
    One set of data.

    Args:
        data (`str`): Texts with gold labels, to hold out and, without `texts`, to learn from.
        task (`str`): Built-in task or YAML file, of one question.
        sizes (`Sequence[int]`): How many labels are learnt from; of more than there are, all.
        texts (`str`, *optional*): Other texts to learn from, which the teacher labelled.
        recorded (`str`, *optional*): The teacher's labels. Without it gold is learnt.
        teacher (`str`, *optional*): Whose they are.
        label_column (`str`, defaults to `"label"`): Column of gold.
        num_held_out (`int`, defaults to 1000): Texts to measure on.
        max_length (`int`, defaults to 128): Longest text that the encoder reads, in tokens.
        head_share (`float`, defaults to 0.5): Share of a cut text taken from its beginning.
        num_train_epochs (`float`, defaults to 2): Epochs of the encoder.
        learning_rate (`float`, defaults to 1e-4): Of the encoder.
    """

    data: str
    task: str
    sizes: Sequence[int]
    texts: str | None = None
    recorded: str | None = None
    teacher: str = ""
    label_column: str = "label"
    num_held_out: int = 1000
    max_length: int = 128
    head_share: float = 0.5
    num_train_epochs: float = 2
    learning_rate: float = 1e-4


@dataclass(kw_only=True)
class FastArguments:
    """What this study takes beside the training arguments."""

    sets: dict = field(metadata={"help": "The sets of data by name, in YAML; see Set."})
    student: str = field(metadata={"help": "Hub id or directory of the encoder to start from."})
    run: str = field(metadata={"help": "Folder of the study."})
    only: list[str] = field(default_factory=list, metadata={"help": "Run these sets only. Default: all."})
    recorded: str | None = field(default=None, metadata={"help": "Folder that {recorded} stands for in paths."})
    questions: str | None = field(default=None, metadata={"help": "Folder that {questions} stands for in paths."})
    most_rows: int = field(
        default=6000, metadata={"help": "Most labels that an encoder learns from; others take all."}
    )
    most_pool: int = field(default=10_000, metadata={"help": "Most texts that the encoder labels for the others."})
    most_epochs: float = field(default=4, metadata={"help": "Most epochs of an encoder."})

    def __post_init__(self) -> None:
        known = {one.name for one in fields(Set)}
        for name, given in self.sets.items():
            if unknown := sorted(set(given) - known):
                raise ValueError(f"Set '{name}' has {unknown}; expected some of {sorted(known)}.")
        if unknown := sorted(set(self.only) - set(self.sets)):
            raise ValueError(f"only takes some of {', '.join(self.sets)}; got {unknown}.")
        if min(self.most_rows, self.most_pool) < 1 or self.most_epochs <= 0:
            raise ValueError(
                f"most_rows, most_pool and most_epochs must be positive, got {self.most_rows}, {self.most_pool}, "
                f"{self.most_epochs}."
            )

    def found(self) -> dict[str, Set]:
        """The sets whose folders are named, with their paths filled in."""
        folders = {"recorded": self.recorded, "questions": self.questions}
        out = {}
        for name, given in self.sets.items():
            lacking = [
                folder
                for folder, path in folders.items()
                if path is None and any(f"{{{folder}}}" in str(value) for value in given.values())
            ]
            if name in self.only and lacking:
                raise ValueError(f"Set '{name}' needs --{lacking[0]}, the folder of its files.")
            if not lacking:
                filled = {k: v.format(**folders) if isinstance(v, str) else v for k, v in given.items()}
                out[name] = Set(**filled)
        return out


def main(arguments: FastArguments, training: StudentConfig) -> list[dict]:
    """Train and measure every cell; write table, figure and page. Returns the table."""
    check_processes(1)  # what several would share is too little
    sets = arguments.found()
    if not sets:
        raise ValueError("No set has its files. Name their folders: --recorded, --questions.")
    for name, one in sets.items():
        if not arguments.only or name in arguments.only:
            run_set(name, one, arguments, training)
    table = [row for name in sets for row in cells(Path(arguments.run) / name)]
    how = []
    for name in dict.fromkeys(row["set"] for row in table):
        one, held = sets[name], next(row["held out"] for row in table if row["set"] == name)
        source = f"labels of {one.teacher or 'the teacher'}" if one.recorded else "people's labels"
        how.append(
            f"{name}: {source}, {held:,} held-out texts with gold; encoder at {one.max_length} tokens and "
            f"{min(one.num_train_epochs, arguments.most_epochs):g} epochs, of {arguments.most_rows:,} labels at most."
        )
    if left := [name for name in arguments.sets if name not in {row["set"] for row in table}]:
        how.append(f"Left out, or not run yet: {', '.join(left)}.")
    how += [
        f"Encoder: {short_name(arguments.student)}, one seed ({training.seed}). Linear and static students are fitted on the "
        f"same labels, all of them; distilled ones on these and on the encoder's probabilities for up to "
        f"{arguments.most_pool:,} other texts of the training part.",
        "Texts a second: medians of three, texts in memory, on as many cores as the study had; the encoder on the fastest "
        "backend that is installed. They are of this machine and whatever else ran on it.",
        f"Intervals: 95 %, bootstrap over texts ({RESAMPLES:,} samples), differences paired; they do not cover other seeds.",
        f"Trainings of encoders {sum(row['minutes'] for row in table if row['student'] == 'encoder'):.0f} minutes in all, of "
        f"all students {sum(row['minutes'] for row in table):.0f}.",
    ]
    alt = "Accuracy against texts a second of encoders, linear and static students, a panel for each set"
    write_study(
        arguments.run, "Where words are enough", "How much accuracy does a student of words cost, for how much speed?",
        table, {alt: draw(table)}, findings(table), how,
    )  # fmt: skip
    return table


def run_set(name: str, one: Set, arguments: FastArguments, training: StudentConfig) -> None:
    """Train and measure the students of one set that are not there yet."""
    task, folder = load_task(one.task), Path(arguments.run) / name
    held_out, learnt, source = rows_of(one, task, arguments, folder)
    for size in sorted({min(size, len(learnt)) for size in one.sizes}):
        place = folder / str(size)
        labels, rest = learnt.select(range(size)), learnt.select(list(range(size, len(learnt))))
        own = {"eval_data": held_out, "eval_name": f"{len(held_out):,} held-out texts of {name}"}
        text = task.columns("text")
        encoder = place / "student"
        if not (place / "encoder" / CELL).is_file():
            args = seeded(
                training, training.seed, learning_rate=one.learning_rate,
                num_train_epochs=min(one.num_train_epochs, arguments.most_epochs),
            )  # fmt: skip
            rows = labels.select(range(min(size, arguments.most_rows)))
            reading = {"text_column": text, "max_length": one.max_length, "head_share": one.head_share}
            train_student(task, arguments.student, encoder, args, **{source: rows}, **own, **reading)  # type: ignore[arg-type]
            note(name, "encoder", OWN, size, len(rows), encoder, encoder, place / "encoder", task)
        for kind in FAST_KINDS:
            if not (place / kind / CELL).is_file():
                vectors = None
                if kind == "static":
                    vectors = TokenVectors.load(arguments.student, keep=Path(arguments.run) / "vectors")
                args = fast_arguments(kind, str(place / "checkpoints"), seed=training.seed)
                made = place / "own" / kind
                train_fast(task, kind, made, args, text_column=text, vectors=vectors, **{source: labels}, **own)  # type: ignore[arg-type]
                note(name, kind, OWN, size, size, made, encoder, place / kind, task)
            cell = place / f"{kind}-distilled"
            if len(rest) and not (cell / CELL).is_file():
                pool = rest.select(range(min(len(rest), arguments.most_pool))).select_columns(column_names(text))
                seed = training.seed
                found = distill_student(place, kind, num_rows=len(pool), pool=pool, seed=seed, show_progress=False)
                rows_learnt = min(size, arguments.most_rows) + found["students"][kind]["num_rows"]
                note(name, kind, DISTILLED, size, rows_learnt, place / STUDENTS / kind, encoder, cell, task)


def rows_of(one: Set, task: TaskSpec, arguments: FastArguments, folder: Path) -> tuple[Dataset, Dataset, str]:
    """The texts held out, those with labels to learn from, and what the labels are: silver or gold."""
    given = RunArguments(
        data=one.data, run=str(folder), task=one.task, teacher=one.teacher, student=[arguments.student],
        recorded=one.recorded, calibration="none", num_held_out=one.num_held_out, label_column=one.label_column,
    )  # fmt: skip
    held_out, rest = split_rows(given, task)
    if one.texts is not None:
        column = task.columns("text")
        rest = load_data(one.texts).select_columns(column_names(column)).shuffle(seed=given.split_seed)
        seen, kept = set(row_texts(held_out, column)), []
        for i, text in enumerate(row_texts(rest, column)):
            if text not in seen:
                seen.add(text)
                kept.append(i)
        rest = rest.select(kept)
        rest = rest.add_column("label", [ABSTAIN] * len(rest), feature=held_out.features["label"])
    if one.recorded is None:
        question = next(iter(task.parts.values())).question
        rest = rest.select([i for i, answer in enumerate(rest["label"][:]) if question.is_answer(answer)])
        return held_out, rest.select_columns([*column_names(task.columns("text")), "label"]), "gold"
    silver, _, _ = annotated(given, task, rest)
    return held_out, silver, "silver"


def note(
    name: str, kind: str, source: str, labels: int, rows: int, student: Path, encoder: Path, cell: Path, task: TaskSpec
) -> None:
    """Measure a student beside the encoder of the same labels and keep what was found."""
    question = next(iter(task.parts.values())).question
    figure, parts = FIGURES[question.kind]
    mine, other = (_parts(read_evaluation(folder), task, parts) for folder in (student, encoder))
    value, low, high = ratio_interval(*mine)
    less, less_low, less_high = ratio_interval(*mine, *other)
    trained = json.loads((student / "metrics.json").read_text(encoding="utf-8"))["train"]
    row = {
        "set": name, "student": kind, "learnt from": source, "labels": labels, "rows": rows, "figure": figure,
        "value %": value, "low %": low, "high %": high,
        "less encoder %": less, "less encoder, low %": less_low, "less encoder, high %": less_high,
        "texts/s": speed(student, kind, read_evaluation(student), task), "held out": len(mine[0]),
        "minutes": round(trained["seconds"] / 60, 2),
    }  # fmt: skip
    cell.mkdir(parents=True, exist_ok=True)
    part = cell / f".{CELL}"
    part.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    part.replace(cell / CELL)
    print(f"{name}, {labels:,} labels, {kind} by {source}: {value:.1%}, {row['texts/s']:,.0f} texts/s", flush=True)


def _parts(evaluation: Dataset, task: TaskSpec, parts: Callable) -> tuple[NDArray, NDArray]:
    question = next(iter(task.parts.values())).question
    answers, gold = evaluation[answer_column("", question.answer_column)][:], evaluation["gold"][:]
    known = [i for i, answer in enumerate(gold) if question.is_answer(answer)]
    return parts([answers[i] for i in known], [gold[i] for i in known])


def ratio_interval(
    over: NDArray, under: NDArray, other_over: NDArray | None = None, other_under: NDArray | None = None
) -> tuple[float, float, float]:
    """
    A figure that is a sum over texts by another, or how much more it is than another's on the same texts: value, low, high
    (95 %, bootstrap over texts).
    """

    def figure(counts: NDArray | float) -> float:
        value = (counts * over).sum() / max((counts * under).sum(), 1e-12)
        if other_over is None:
            return value
        return value - (counts * other_over).sum() / max((counts * other_under).sum(), 1e-12)

    random, n = np.random.default_rng(0), len(over)
    drawn = [figure(np.bincount(random.integers(n, size=n), minlength=n)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(figure(np.ones(n))), float(low), float(high)


def speed(folder: Path, kind: str, evaluation: Dataset, task: TaskSpec) -> float:
    """Texts a second of a student on texts in memory."""
    labeler = StudentLabeler(folder, **({"backend": fastest_backend()} if kind == "encoder" else {}))
    labeler.warm_up()
    texts = evaluation["text"][:]
    texts = (texts * -(-TIMED[kind] // len(texts)))[: TIMED[kind]] if kind != "encoder" else texts[: TIMED[kind]]
    given = pa.array(texts, pa.large_string()) if len(task.fields) == 1 else texts
    rates = []
    for _ in range(3):
        begin = time.perf_counter()
        labeler.score(labeler.encode(given))
        rates.append(len(texts) / (time.perf_counter() - begin))
    return statistics.median(rates)


def cells(folder: Path) -> list[dict]:
    """What was found of one set so far, by labels and kind."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*/*/{CELL}")]
    kinds = list(COLOURS)
    return sorted(rows, key=lambda row: (row["labels"], kinds.index(row["student"]), row["learnt from"] != OWN))


def findings(table: Sequence[dict]) -> list[str]:
    """For each set and number of labels: the encoder, and the best of the fast students beside it."""
    out = []
    for name, labels in dict.fromkeys((row["set"], row["labels"]) for row in table):
        mine = [row for row in table if (row["set"], row["labels"]) == (name, labels)]
        encoder = next((row for row in mine if row["student"] == "encoder"), None)
        fast = [row for row in mine if row["student"] != "encoder"]
        if encoder is None or not fast:
            continue
        best = max(fast, key=lambda row: row["value %"])
        points = [100 * best[f"less encoder{end} %"] for end in ("", ", low", ", high")]
        out.append(
            f"{name}, {labels:,} labels: encoder {encoder['value %']:.1%} {encoder['figure']} at {encoder['texts/s']:,.0f} "
            f"texts/s; the best of {len(fast)} fast students, {best['student']} by {best['learnt from']}, {points[0]:+.1f} "
            f"points ({points[1]:+.1f} to {points[2]:+.1f}) at {best['texts/s'] / encoder['texts/s']:,.0f} times the speed."
        )
    return out


def draw(table: Sequence[dict]) -> Figure:
    """One panel for each set; a marker's size grows with the number of labels."""
    names = list(dict.fromkeys(row["set"] for row in table))
    across = min(len(names), 3)
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.4 * across + 1, 3.2 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        mine = [row for row in table if row["set"] == name]
        sizes = sorted({row["labels"] for row in mine})
        for row in mine:
            colour, wide = COLOURS[row["student"]], 4 + 3 * sizes.index(row["labels"])
            ends = [[100 * abs(row["value %"] - row[end])] for end in ("low %", "high %")]
            axes.errorbar(
                row["texts/s"], 100 * row["value %"], ends, fmt=MARKERS[row["learnt from"]], color=colour, markersize=wide,
                fillstyle="full" if row["learnt from"] == OWN else "none", elinewidth=0.8, alpha=0.9,
            )  # fmt: skip
        axes.set(xscale="log", title=f"{name}: {', '.join(f'{size:,}' for size in sizes)} labels")
        axes.set(xlabel="texts a second", ylabel=f"{mine[0]['figure']}, percent")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for kind, colour in COLOURS.items():
        panels[0].plot([], [], "o", color=colour, label=kind)
    panels[0].plot([], [], "^", color="black", fillstyle="none", label="distilled")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    run_script(FastArguments, main)
