"""
One student for all languages, or one each? Both are trained and measured on the same held-out rows of every language.

    accelerate launch recipes/multilingual.py --config recipes/multilingual.yaml --languages de=DE.jsonl fr=FR.jsonl zh=ZH.jsonl

Each language has its file and its task. Where the files are translations of each other, row by row or by a column, a row is
held out in all languages or in none, so that no student has read a held-out row in another language. People's labels are learnt,
or with --teacher a teacher's, who is asked in each language. Stopped and started again, it goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from common import RunArguments, annotated, check_processes, map_pairs, read_data, run_script, seeded, short_name
from hf_llambert import (
    StudentConfig,
    TaskSpec,
    check_column,
    column_names,
    load_task,
    parse_label_map,
    read_evaluation,
    row_texts,
    train_student,
    wait_for_everyone,
)

ALL = "all"
"""Folder and name of the student of all languages."""
RESAMPLES = 1000


def accuracy(answers: Sequence, gold: Sequence) -> float:
    """The share of right answers."""
    return float(np.mean(np.equal(answers, gold)))


def micro_f1(answers: Sequence, gold: Sequence) -> float:
    """F1 of all labels of all rows."""
    pairs = [(set(one), set(other)) for one, other in zip(answers, gold, strict=True)]
    return 2 * sum(len(a & b) for a, b in pairs) / max(sum(len(a) + len(b) for a, b in pairs), 1)


def spearman(answers: Sequence, gold: Sequence) -> float:
    """Spearman's correlation; NaN where all answers are one."""
    if min(np.ptp(answers), np.ptp(gold)) == 0:
        return float("nan")
    return float(spearmanr(answers, gold).statistic)


FIGURES: Mapping[str, tuple[str, Callable[[Sequence, Sequence], float]]] = {
    "choice": ("accuracy", accuracy),
    "choices": ("micro-F1", micro_f1),
    "scale": ("Spearman", spearman),
}
"""The figure of the table, by the kind of the question."""


@dataclass(kw_only=True)
class MultilingualArguments:
    """What this recipe takes beside the training arguments."""

    languages: list[str] = field(
        metadata={"help": "The rows of each language, LANGUAGE=FILE, in YAML a mapping; as --data of other recipes."}
    )
    tasks: list[str] = field(
        metadata={"help": "The task of each, LANGUAGE=TASK, in YAML a mapping: the same question in each language."}
    )
    run: str = field(metadata={"help": "Folder of the run."})
    student: str = field(metadata={"help": "Hub id or directory of the encoder to start from."})
    label_column: str = field(default="label", metadata={"help": "Column of people's labels, in all files."})
    text_column: str = field(default="text", metadata={"help": "Column of the texts, where a task has no fields."})
    translations: str = field(
        default="rows",
        metadata={
            "help": "What are translations of each other: rows of the same number; nothing; or a column, those with the same "
            "value in it."
        },
    )
    num_held_out: int = field(default=400, metadata={"help": "Rows of each language to measure on."})
    num_train: int | None = field(
        default=None, metadata={"help": "Rows of each language to learn from. Default: all."}
    )
    split_seed: int = field(default=42, metadata={"help": "Seed of the split."})
    teacher: str | None = field(
        default=None,
        metadata={"help": "Who labels the rows to learn from. Default: nobody, people's labels are learnt."},
    )
    recorded: list[str] = field(
        default_factory=list,
        metadata={"help": "The teacher's answers given before, LANGUAGE=FILE, in YAML a mapping."},
    )
    calibration: str = field(default="batch", metadata={"help": "Of the teacher: none, batch or contextual."})
    num_seeds: int = field(default=1, metadata={"help": "Seeds of each training, from seed on."})
    own_epochs: float | None = field(
        default=None,
        metadata={
            "help": "Epochs of the students of one language, which have fewer rows and so fewer steps. Default: num_train_epochs."
        },
    )
    max_length: int = field(default=128, metadata={"help": "Longest text the student reads, in tokens."})
    num_processes: int | None = field(default=None, metadata={"help": "Refuse to run on another number of processes."})

    def __post_init__(self) -> None:
        for name in ("languages", "tasks", "recorded"):
            setattr(self, name, map_pairs(getattr(self, name)))
        files, tasks, recorded = self.files, self.task_files, self.answers
        if len(files) < 2 or ALL in files:
            raise ValueError(f"languages takes two or more, none called '{ALL}'; got {', '.join(files) or 'none'}.")
        if self.own_epochs is not None and self.own_epochs <= 0:
            raise ValueError(f"own_epochs must be above 0, got {self.own_epochs}.")
        if lacking := sorted(set(files) - set(tasks)):
            raise ValueError(f"There is no task in {', '.join(lacking)}: pass tasks {lacking[0]}=FILE.")
        if recorded and (set(recorded) != set(files) or self.teacher is None):
            raise ValueError(
                "recorded takes a file for each of the languages, and teacher says whose answers they are."
            )
        if min(self.num_held_out, self.num_seeds) < 1 or (self.num_train is not None and self.num_train < 1):
            raise ValueError(
                f"num_held_out, num_train and num_seeds must be 1 or more, got {self.num_held_out}, {self.num_train}, "
                f"{self.num_seeds}."
            )

    @property
    def files(self) -> dict[str, str]:
        """The file of each language."""
        return parse_label_map(self.languages, "languages")

    @property
    def task_files(self) -> dict[str, str]:
        """The task of each language."""
        return parse_label_map(self.tasks, "tasks")

    @property
    def answers(self) -> dict[str, str]:
        """The recorded answers of each language."""
        return parse_label_map(self.recorded, "recorded")

    def of(self, language: str) -> RunArguments:
        """What recipes of one language take."""
        return RunArguments(
            data=self.files[language], run=self.run, task=self.task_files[language], teacher=self.teacher or "",
            student=[self.student], label_column=self.label_column, text_column=self.text_column,
            recorded=self.answers.get(language), calibration=self.calibration,
        )  # fmt: skip


def main(arguments: MultilingualArguments, training: StudentConfig) -> dict:
    """Train, measure and compare. Returns the table, which is in `table.json` too."""
    check_processes(arguments.num_processes)
    tasks = tasks_of(arguments)
    first = next(iter(tasks.values()))
    held_out, learnt = split(arguments, tasks)
    source = "gold" if arguments.teacher is None else "silver"
    if arguments.teacher is not None:
        learnt = {
            name: annotated(arguments.of(name), tasks[name], rows, f"annotated-{name}")[0]
            for name, rows in learnt.items()
        }
    measured = concatenate_datasets(list(held_out.values()))
    groups = {ALL: concatenate_datasets(list(learnt.values())), **learnt}
    found: dict[str, list[Dataset]] = {}
    for name, rows in groups.items():
        for seed in range(training.seed, training.seed + arguments.num_seeds):
            folder = Path(arguments.run) / "students" / name / str(seed)
            epochs = arguments.own_epochs if name != ALL and arguments.own_epochs else training.num_train_epochs
            args = seeded(training, seed, num_train_epochs=epochs)
            train_student(
                first, arguments.student, folder, args, **{source: rows},  # type: ignore[arg-type]
                eval_data=measured, eval_name=f"{len(measured):,} held-out rows of {len(tasks)} languages",
                text_column=first.columns(arguments.text_column), max_length=arguments.max_length, baseline=False,
            )  # fmt: skip
            found.setdefault(name, []).append(read_evaluation(folder))
    table = compared(first, held_out, {name: len(rows) for name, rows in groups.items()}, found)
    own = arguments.own_epochs or training.num_train_epochs
    table |= {
        "epochs": {ALL: training.num_train_epochs, "own": own},
        "source": source,
        "teacher": arguments.teacher and short_name(arguments.teacher),
    }
    if PartialState().is_main_process:
        write_table(Path(arguments.run), table)
    wait_for_everyone()
    return table


def tasks_of(arguments: MultilingualArguments) -> dict[str, TaskSpec]:
    """The task of each language: one question, the same in all of them."""
    out = {name: load_task(arguments.task_files[name]) for name in arguments.files}
    asked = {}
    for name, task in out.items():
        if list(task.parts) != [""]:
            raise ValueError(f"This recipe takes tasks of one question, '{task.name}' has {len(task.parts)}.")
        asked[name] = (task.question.kind, task.question.labels, task.fields)
    one, *others = asked
    for other in others:
        if asked[other] != asked[one]:
            raise ValueError(
                f"The tasks of all languages must ask for the same labels about the same columns; {one} has {asked[one]}, "
                f"{other} has {asked[other]}."
            )
    return out


def split(
    arguments: MultilingualArguments, tasks: Mapping[str, TaskSpec]
) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """
    The rows held out of each language and those to learn from, in a random order. Rows that are translations of each other, or
    have the same text, are on the same side in all languages; a text that comes twice in a language is there once.
    """
    data = {name: read_data(arguments.of(name), task, None, f"the rows in {name}") for name, task in tasks.items()}
    columns = {name: task.columns(arguments.text_column) for name, task in tasks.items()}
    texts = {name: row_texts(data[name], columns[name]) for name in data}
    groups = grouped({name: keys_of(name, data, arguments) for name in data}, texts)
    order = np.random.default_rng(arguments.split_seed).permutation(len(groups))
    held: dict[str, list[int]] = {name: [] for name in data}
    learnt: dict[str, list[int]] = {name: [] for name in data}
    for k in order.tolist():
        mine: dict[str, dict[str, int]] = {}
        for name, row in groups[k]:
            if tasks[name].question.is_answer(data[name]["label"][row]):
                mine.setdefault(name, {}).setdefault(texts[name][row], row)
        side = held if any(len(held[name]) < arguments.num_held_out for name in mine) else learnt
        for name, rows in mine.items():
            side[name] += rows.values()
    for name in data:
        if len(held[name]) < arguments.num_held_out or not learnt[name]:
            raise ValueError(
                f"num_held_out must leave rows to learn from; {arguments.num_held_out:,} of {name} are to be held out, which has "
                f"{len(held[name]) + len(learnt[name]):,} different rows with a label."
            )
    kept = {name: [*column_names(columns[name]), "label"] for name in data}
    sizes = ((held, arguments.num_held_out), (learnt, arguments.num_train))
    first, second = (
        {name: data[name].select(rows[name][:most]).select_columns(kept[name]) for name in data}
        for rows, most in sizes
    )
    return first, second


def keys_of(language: str, data: Mapping[str, Dataset], arguments: MultilingualArguments) -> list:
    """What the translations of each row share with it."""
    rows, how = data[language], arguments.translations
    if how == "nothing":
        return [(language, k) for k in range(len(rows))]
    if how == "rows":
        first, *others = data
        advice = "Name a column that says which rows are (--translations COLUMN), or --translations nothing."
        for other in others:
            gold, theirs = (data[name]["label"][:] for name in (first, other))
            if len(gold) != len(theirs):
                raise ValueError(
                    f"Rows of the same number are not translations of each other: {first} has {len(gold):,} rows, {other} "
                    f"{len(theirs):,}. {advice}"
                )
            if different := [k for k in range(len(gold)) if gold[k] != theirs[k]]:
                raise ValueError(
                    f"Rows of the same number are not translations of each other: people's label of row {different[0]:,} is "
                    f"{gold[different[0]]} in {first} and {theirs[different[0]]} in {other}, so of {len(different):,} rows. "
                    f"{advice}"
                )
        return list(range(len(rows)))
    check_column(rows, how, "translations")
    values = [(language, k) if value is None else value for k, value in enumerate(rows[how][:])]
    if not any(set(values) & set(other[how][:]) for name, other in data.items() if name != language):
        raise ValueError(f"No row in {language} has a value of '{how}' that a row of another language has.")
    return values


def grouped(keys: Mapping[str, Sequence], texts: Mapping[str, Sequence]) -> list[list[tuple[str, int]]]:
    """Rows of all languages, by language and number, in groups that share a key or a text, whatever its language."""
    above: dict = {}

    def top(one: object) -> object:
        while above.setdefault(one, one) != one:
            one = above[one]
        return one

    for name in keys:
        for key, text in zip(keys[name], texts[name], strict=True):
            above[top(("text", text))] = top(("key", key))
    out: dict = {}
    for name in keys:
        for k, key in enumerate(keys[name]):
            out.setdefault(top(("key", key)), []).append((name, k))
    return list(out.values())


def compared(
    task: TaskSpec,
    held_out: Mapping[str, Dataset],
    sizes: Mapping[str, int],
    found: Mapping[str, Sequence[Dataset]],
) -> dict:
    """By language the figure of each student on its held-out rows, and what the one of all is more than its own."""
    figure, measure = FIGURES[task.question.kind]
    table: dict = {"figure": figure, "seeds": len(found[ALL]), "rows": dict(sizes), "languages": {}}
    start = 0
    for name, rows in held_out.items():
        part = range(start, start + len(rows))
        start += len(rows)
        gold = found[ALL][0].select(part)["gold"][:]
        column = f"student_{task.question.answer_column}"
        answers = {who: [one.select(part)[column][:] for one in runs] for who, runs in found.items()}
        table["languages"][name] = {
            "n": len(gold),
            "students": {who: interval(measure, gold, runs) for who, runs in answers.items()},
            "all_less_own": interval(measure, gold, answers[ALL], answers[name]),
        }
    return table


def interval(
    measure: Callable[[Sequence, Sequence], float],
    gold: Sequence,
    runs: Sequence[Sequence],
    others: Sequence[Sequence] | None = None,
) -> dict:
    """
    Mean of a figure over seeds, or how much more it is than of other students with the same seeds, with its 95 % interval: rows
    and seeds are resampled, the same for both.
    """

    def value(rows: NDArray[np.int64], seeds: NDArray[np.int64]) -> float:
        some = [gold[k] for k in rows]
        each = [measure([runs[seed][k] for k in rows], some) for seed in seeds]
        less = [measure([others[seed][k] for k in rows], some) for seed in seeds] if others is not None else [0.0]
        return float(np.mean(each) - np.mean(less))

    random, n = np.random.default_rng(0), len(gold)
    drawn = [value(random.integers(n, size=n), random.integers(len(runs), size=len(runs))) for _ in range(RESAMPLES)]
    whole = value(np.arange(n), np.arange(len(runs)))
    known = [one for one in drawn if np.isfinite(one)]
    if not np.isfinite(whole) or len(known) < 0.9 * RESAMPLES:
        return {"value": whole if np.isfinite(whole) else None, "low": None, "high": None}
    low, high = np.quantile(known, (0.025, 0.975))
    return {"value": whole, "low": float(low), "high": float(high)}


def write_table(run: Path, table: Mapping) -> None:
    """The table in JSON and Markdown, and its figure."""
    (run / "table.json").write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (run / "table.md").write_text("\n".join(lines(table)) + "\n", encoding="utf-8")
    draw(table).savefig(run / "table.png", dpi=150)
    print("\n".join(lines(table)))


def lines(table: Mapping) -> list[str]:
    """The table in Markdown."""
    names = list(table["languages"])
    out = [f"| language | rows | {ALL} | its own | {ALL} less own | another's, best |", "|---|---|---|---|---|---|"]
    for name, one in table["languages"].items():
        students = one["students"]
        others = [who for who in names if who != name and students[who]["value"] is not None]
        best = max(others, key=lambda who: students[who]["value"], default=None)
        foreign = f"{best} {cell(students[best])}" if best else "–"
        cells = [cell(students[ALL]), cell(students[name]), cell(one["all_less_own"], "+.3f"), foreign]
        out.append(f"| {name} | {one['n']:,} | {' | '.join(cells)} |")
    learnt = ", ".join(f"{name} {number:,}" for name, number in table["rows"].items())
    whose = "people's labels" if table["teacher"] is None else f"labels of {table['teacher']}"
    seeds = "one seed" if table["seeds"] == 1 else f"{table['seeds']} seeds"
    return [
        *out,
        "",
        f"{table['figure']} against people's labels of held-out rows; 95 % intervals (bootstrap over rows"
        f"{' and seeds' if table['seeds'] > 1 else ''}), {seeds}. Learnt from {whose}: {learnt} rows, "
        f"{table['epochs'][ALL]:g} epochs ({table['epochs']['own']:g} of one language).",
    ]


def cell(found: Mapping, form: str = ".3f") -> str:
    """A figure with its interval, as far as there is one."""
    if found["value"] is None:
        return "–"
    between = "" if found["low"] is None else f" ({found['low']:{form}} to {found['high']:{form}})"
    return f"{found['value']:{form}}{between}"


def draw(table: Mapping) -> Figure:
    """For each language the student of all, its own, and those of the others."""
    names = list(table["languages"])
    figure = Figure(figsize=(7, 1.2 + 0.9 * len(names)), layout="constrained")
    axes = figure.subplots()
    styles = {ALL: ("#0072b2", "o"), "its own": ("#d55e00", "s"), "another's": ("#767676", ".")}
    for place, name in enumerate(names):
        students = table["languages"][name]["students"]
        for k, (who, one) in enumerate(students.items()):
            if one["value"] is not None:
                colour, marker = styles["its own" if who == name else who if who == ALL else "another's"]
                y = place + 0.7 * (k + 0.5) / len(students) - 0.35
                if one["low"] is not None:
                    axes.plot([one["low"], one["high"]], [y, y], color=colour, linewidth=2)
                axes.plot(one["value"], y, marker, color=colour)
                axes.annotate(
                    who, (one["value"], y), (0, 4), textcoords="offset points", ha="center", fontsize="x-small"
                )
    for who, (colour, marker) in styles.items():
        axes.plot([], [], marker, color=colour, label=who)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel=f"{table['figure']} on held-out rows")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, title="student that learnt from the rows of")
    return figure


if __name__ == "__main__":
    run_script(MultilingualArguments, main)
