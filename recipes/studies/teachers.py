"""
Two or more teachers on the same texts: which is better, by how much, and at what price.

    accelerate launch recipes/studies/teachers.py --config recipes/studies/teachers.yaml
    ... --teacher meta-llama/Llama-2-70b-chat-hf --recorded FILE --teachers assets/SmolLM2-135M-Instruct   # answers given before
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from study import BLUE, ORANGE, RunArguments, make_teacher, run_recipe, short_name, split_rows, write_study

from hf_llambert import (
    ABSTAIN,
    EndpointTeacher,
    LLMLabeler,
    StudentConfig,
    annotate,
    load_data,
    load_task,
    load_teacher,
    paired_bootstrap,
)


@dataclass(kw_only=True)
class TeachersArguments(RunArguments):
    """What the comparison of teachers takes. The teacher_* arguments are for all that have no file of their own."""

    student: list[str] = field(default_factory=list, metadata={"help": "Not used: no student is trained."})
    teachers: list[str] = field(
        default_factory=list,
        metadata={"help": "Whom to compare teacher with: Hub ids, directories or YAML files of teachers."},
    )
    tasks: list[str] = field(
        default_factory=list,
        metadata={"help": "A task for each teacher, teacher first, with the same labels. Default: task for all."},
    )
    price_hour: float | None = field(
        default=None, metadata={"help": "What an hour of this machine costs, for the teachers that run on it."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teachers:
            raise ValueError("teachers must name at least one to compare teacher with.")
        if self.tasks and len(self.tasks) != len(self.teachers) + 1:
            raise ValueError(
                f"tasks takes one for each of the {len(self.teachers) + 1} teachers, teacher first; got {self.tasks}."
            )


def main(arguments: TeachersArguments, training: StudentConfig) -> dict:
    """Let each teacher annotate the same rows and compare their labels. Returns the content of `pairs.json`."""
    names = [Path(one).stem if _is_file(one) else short_name(one) for one in (arguments.teacher, *arguments.teachers)]
    if len(set(names)) < len(names):
        raise ValueError(f"Two teachers have one name: {names}. Give one of them a YAML file with another name.")
    _, rest = split_rows(arguments, load_task(arguments.task))
    number = len(rest) if arguments.num_annotated is None else arguments.num_annotated
    rows = rest.select([i for i, label in enumerate(rest["label"]) if label != ABSTAIN][:number])
    gold = np.array(rows["label"][:])
    table, labels = [], {}
    for k, name in enumerate(names):
        row, labels[name] = asked(arguments, k, name, rows)
        table.append(row)
    if not PartialState().is_main_process:
        return {}
    pairs = compared(labels, gold)
    run = Path(arguments.run)
    run.mkdir(parents=True, exist_ok=True)
    (run / "pairs.json").write_text(json.dumps(pairs, indent=2) + "\n", encoding="utf-8")
    write_study(
        run,
        f"Teachers on {Path(arguments.data).name}",
        "Which teacher labels better, by how much, and at what price?",
        table,
        {"Accuracy of each teacher, and difference of each pair, with 95 % intervals": draw(table, pairs)},
        [
            *(
                f"{row['teacher']}: {row['accuracy %']:.1%} ({row['low %']:.1%} to {row['high %']:.1%}) right."
                for row in table
            ),
            *(_sentence(pair) for pair in pairs),
        ],
        [
            f"{len(rows):,} texts with gold; an abstention counts as wrong. Intervals of 95 %: Wilson, and paired bootstrap over "
            f"texts for differences. p: McNemar's exact test, by Holm's correction over {len(pairs)} pairs. Kappa: Cohen's, on "
            f"the texts that both labelled.",
            f"Calibration: {arguments.calibration} where there are scores. Seconds and tokens as the ledger has them; recorded "
            f"answers cost nothing here.",
        ],
    )
    return {"pairs": pairs}


def asked(
    arguments: TeachersArguments, number: int, name: str, rows: Dataset
) -> tuple[dict[str, object], NDArray[np.int_]]:
    """A teacher's row of the table, and its labels."""
    if number == 0:
        teacher = make_teacher(arguments)
    elif _is_file(arguments.teachers[number - 1]):
        teacher = load_teacher(arguments.teachers[number - 1])
    else:
        teacher = make_teacher(dataclasses.replace(arguments, teacher=arguments.teachers[number - 1], recorded=None))
    task, given = load_task(arguments.task), load_task(arguments.tasks[number] if arguments.tasks else arguments.task)
    if given.labels != task.labels:
        raise ValueError(f"Task '{given.name}' of {name} has the labels {given.labels}, expected {task.labels}.")
    ledger, folder = arguments.ledger or Path(arguments.run) / "ledger", Path(arguments.run) / "annotated" / name
    labeler = LLMLabeler(given, teacher, ledger, arguments.text_column)
    results = annotate(rows, labeler, folder, calibration=arguments.calibration, gold_column="label")  # type: ignore[arg-type]
    annotated = load_data(folder)
    labels = np.array(annotated["llm_label"][:])
    right = labels == np.array(rows["label"][:])
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    money = None
    if isinstance(teacher, EndpointTeacher) and (teacher.price_input or teacher.price_output):
        spent = results["input_tokens"] * teacher.price_input + results["output_tokens"] * teacher.price_output
        money = spent / len(rows)  # the prices are for a million tokens
    elif arguments.price_hour is not None and results["seconds"]:
        money = results["seconds"] / 3600 * arguments.price_hour / len(rows) * 1e6
    return {
        "teacher": name,
        "task": given.name,
        "accuracy %": float(right.mean()),
        "low %": float(low),
        "high %": float(high),
        "coverage %": float((labels != ABSTAIN).mean()),
        "seconds a text": results["seconds"] / len(rows) or None,
        "tokens a text": (results["input_tokens"] + results["output_tokens"]) / len(rows) or None,
        "money a million texts": money,
    }, labels


def compared(labels: dict[str, NDArray[np.int_]], gold: NDArray[np.int_]) -> list[dict]:
    """For each pair of teachers: agreement, kappa, difference in accuracy with its interval, McNemar's p by Holm."""
    pairs = []
    for one, other in combinations(labels, 2):
        a, b = labels[one], labels[other]
        both = (a != ABSTAIN) & (b != ABSTAIN)
        alike = len({*a[both], *b[both]}) < 2  # kappa is not defined where only one label was ever given
        mean, low, high = paired_bootstrap(a == gold, b == gold)
        pairs.append(
            {
                "pair": [one, other],
                "equal": float((a == b)[both].mean()) if both.any() else None,
                "kappa": None if alike else float(cohen_kappa_score(a[both], b[both])),
                "only_first_right": int(((a == gold) & (b != gold)).sum()),
                "only_second_right": int(((b == gold) & (a != gold)).sum()),
                "difference": mean,
                "low": low,
                "high": high,
            }
        )
    for pair, p in zip(pairs, holm([mcnemar(pair) for pair in pairs]), strict=True):
        pair["p"] = p
    return pairs


def mcnemar(pair: dict) -> float:
    """The exact test of whether two are right equally often on the same texts (McNemar 1947)."""
    changed = pair["only_first_right"] + pair["only_second_right"]
    return float(binomtest(pair["only_first_right"], changed).pvalue) if changed else 1.0


def holm(values: list[float]) -> list[float]:
    """p-values corrected for how many they are, such that any false rejection is as rare as said (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(np.array(values)[order] * factors), 1)
    out = np.empty(len(values))
    out[order] = corrected
    return out.tolist()


def draw(table: list[dict], pairs: list[dict]) -> Figure:
    """Accuracies, and differences of pairs, with their intervals."""
    figure = Figure(figsize=(10, 1.4 + 0.4 * max(len(table), len(pairs))), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, row in enumerate(reversed(table)):
        left.plot([row["low %"], row["high %"]], [place, place], color=BLUE, lw=2)
        left.plot(row["accuracy %"], place, "o", color=BLUE)
    left.set_yticks(range(len(table)), [row["teacher"] for row in reversed(table)])
    left.set(xlabel="agreement with gold, 95 % interval", ylim=(-0.6, len(table) - 0.4))
    left.xaxis.set_major_formatter("{x:.0%}")
    for place, pair in enumerate(reversed(pairs)):
        right.plot([100 * pair["low"], 100 * pair["high"]], [place, place], color=ORANGE, lw=2)
        right.plot(100 * pair["difference"], place, "o", color=ORANGE)
    right.axvline(0, color="black", lw=0.8)
    right.set_yticks(range(len(pairs)), [" −\n".join(pair["pair"]) for pair in reversed(pairs)])
    right.set(xlabel="difference in points, 95 % interval", ylim=(-0.6, len(pairs) - 0.4))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _is_file(teacher: str) -> bool:
    return Path(teacher).suffix in (".yaml", ".yml")


def _sentence(pair: dict) -> str:
    told = "" if pair["p"] < 0.05 else ", not to be told from chance"
    kappa = "not defined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
    equal = "no text" if pair["equal"] is None else f"{pair['equal']:.1%} of the texts"
    return (
        f"{pair['pair'][0]} less {pair['pair'][1]}: {100 * pair['difference']:+.1f} points ({100 * pair['low']:+.1f} to "
        f"{100 * pair['high']:+.1f}), p {pair['p']:.2g}{told}; they agree on {equal}, kappa {kappa}."
    )


if __name__ == "__main__":
    run_recipe(TeachersArguments, main)
