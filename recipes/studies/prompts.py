"""
How much the prompt matters, and whether a good one can be chosen without gold labels.

    accelerate launch recipes/studies/prompts.py --config recipes/studies/prompts.yaml

The same texts are asked about with several wordings, numbers of worked examples and ways of asking; calibrations cost nothing
more. All replies are in one ledger: a study that was stopped goes on, and another rule or calibration asks nothing.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path

import numpy as np
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import binomtest, spearmanr
from study import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RunArguments,
    learn,
    make_teacher,
    run_recipe,
    seeded,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import (
    ABSTAIN,
    Calibration,
    LLMLabeler,
    StudentConfig,
    TaskSpec,
    annotate,
    batch_calibration,
    calibrate,
    load_data,
    load_task,
    paired_bootstrap,
    saved_calibration,
    select_silver,
)

RULES = {"information": "information %", "confidence": "confidence %", "agreement": "agreement with others %"}
"""Columns of the table that can choose a prompt without gold: the highest wins."""

_CALIBRATIONS = {"none": GREY, "batch": BLUE, "contextual": ORANGE}


@dataclass(kw_only=True)
class PromptsArguments(RunArguments):
    """What the study of prompts takes; `task` is the first wording."""

    prompts: list[str] = field(
        default_factory=list,
        metadata={"help": "Further wordings: task files or built-in tasks with the same labels as task."},
    )
    shots: list[int] = field(
        default_factory=lambda: [0],
        metadata={
            "help": "Numbers of worked examples: those of the task file, or else the shortest gold texts, label by label."
        },
    )
    modes: list[str] = field(default_factory=lambda: ["score"], metadata={"help": "score, generate or both."})
    calibrations: list[str] = field(
        default_factory=lambda: list(_CALIBRATIONS), metadata={"help": "Some of none, batch, contextual."}
    )
    rule: str = field(
        default="information",
        metadata={"help": f"What chooses a prompt without gold: {', '.join(RULES)}. See docs/studies.md."},
    )
    num_dev: int = field(default=0, metadata={"help": "Gold rows to choose a prompt by; 0 for no such choice."})
    num_example_rows: int = field(default=100, metadata={"help": "Gold rows that worked examples are taken from."})
    train_students: bool = field(default=False, metadata={"help": "Train and measure a student behind each prompt."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("modes", ("score", "generate")), ("calibrations", _CALIBRATIONS), ("rule", RULES)):
            given = getattr(self, name)
            given = [given] if isinstance(given, str) else given
            if not given or set(given) - set(known):
                raise ValueError(f"{name} takes {', '.join(known)}; got {given}.")
        if min(self.shots, default=-1) < 0 or min(self.num_dev, self.num_example_rows) < 0:
            raise ValueError(f"shots, num_dev and num_example_rows are 0 or more, got {self.shots}.")
        if self.recorded is not None:
            raise ValueError("Recorded answers were given to one prompt. Pass a teacher that can be asked.")


@dataclass(frozen=True)
class Variant:
    """
    One way of asking and what it gave.

    Args:
        task (`TaskSpec`): The prompt, worked examples included.
        mode (`str`): `score` or `generate`.
        calibration (`Calibration`, *optional*): Of the scores.
        annotated (`Dataset`): All rows with the labels of this calibration; the dev rows first.
        results (`dict`): Of [`annotate`], for all calibrations of a prompt.
    """

    task: TaskSpec
    mode: str
    calibration: Calibration | None
    annotated: Dataset
    results: dict

    @property
    def method(self) -> str:
        """Name of the calibration."""
        return self.calibration.method if self.calibration else "none"

    @property
    def prompt(self) -> tuple[str, int, str]:
        """What the teacher is asked: wording, number of worked examples, mode."""
        return self.task.name, len(self.task.examples), self.mode

    @property
    def labels(self) -> NDArray[np.int_]:
        """The labels, -1 where the teacher abstained."""
        return np.array(self.annotated["llm_label"][:])

    def __str__(self) -> str:
        name, shots, mode = self.prompt
        return f"{name}, {shots}-shot, {mode if mode == 'generate' else self.method}"


def main(arguments: PromptsArguments, training: StudentConfig) -> dict:
    """Ask with every prompt, choose, and compare the choices. Returns the content of `choice.json`."""
    wordings = read_wordings(arguments)
    held_out, examples, dev, rows = read_rows(arguments, wordings[0])
    asked = rows if dev is None else concatenate_datasets([dev, rows])
    variants = ask(arguments, wordings, examples, asked)
    first = len(asked) - len(rows)
    students = [behind(one, arguments, training, held_out, first) for one in variants]
    if not PartialState().is_main_process:
        return {}
    gold = np.array(asked["label"][:])
    table = [measured(one, variants, gold, first) | student for one, student in zip(variants, students, strict=True)]
    choice = choose(variants, table, gold, first, arguments)
    run = Path(arguments.run)
    run.mkdir(parents=True, exist_ok=True)
    (run / "choice.json").write_text(json.dumps(choice, indent=2) + "\n", encoding="utf-8")
    variants[choice["chosen_without_gold"]["row"]].task.to_yaml(run / "chosen.yaml")
    write_study(
        run,
        f"Prompts: {short_name(arguments.teacher)} on {Path(arguments.data).name}",
        "How much does the prompt matter, and can a good one be chosen without gold labels?",
        table,
        {"Accuracy of each prompt with its 95 % interval, and against the rule that chose": draw(table, choice)},
        findings(table, choice),
        [
            f"Teacher {short_name(arguments.teacher)}, the same {len(rows):,} texts for every prompt, cut to "
            f"{arguments.teacher_text_tokens or 'the context of'} tokens; an abstention counts as wrong. Intervals: 95 %, "
            f"Wilson; differences: paired bootstrap over texts.",
            f"Information: of the label in nats over its maximum, from the teacher's calibrated probabilities. Agreement: "
            f"with the majority of the other prompts, batch-calibrated, where it is not tied. {first:,} other gold rows for "
            f"the choice by gold; worked examples from {len(examples):,} others. No prompt saw the held-out texts.",
            f"Asking took {sum(one.results['seconds'] for one in _by_prompt(variants)):,.0f} s of computing.",
        ],
    )
    return choice


def read_wordings(arguments: PromptsArguments) -> list[TaskSpec]:
    """The wordings; all have the same labels, and names of their own."""
    wordings = [load_task(task) for task in [arguments.task, *arguments.prompts]]
    names = [task.name for task in wordings]
    if len(set(names)) < len(names):
        raise ValueError(f"Each wording needs a name of its own, got {names}. Change name: in the task files.")
    for task in wordings[1:]:
        if task.labels != wordings[0].labels:
            raise ValueError(
                f"All wordings need the same labels in the same order; '{task.name}' has {list(task.labels)}, "
                f"'{names[0]}' has {list(wordings[0].labels)}."
            )
    return wordings


def read_rows(arguments: PromptsArguments, task: TaskSpec) -> tuple[Dataset, Dataset, Dataset | None, Dataset]:
    """
    The rows held out, for worked examples, to choose by (if any) and to ask about. The last three are taken from the end
    of the shuffle, so that a recipe with the same split_seed annotates others.
    """
    held_out, rest = split_rows(arguments, task)
    order = range(len(rest) - 1, -1, -1)
    known = [i for i in order if rest["label"][i] != ABSTAIN]
    example_rows = arguments.num_example_rows if max(arguments.shots) else 0
    dev = known[example_rows : example_rows + arguments.num_dev]
    taken = {*known[:example_rows], *dev}
    asked = [i for i in order if i not in taken][: arguments.num_annotated]
    if len(dev) < arguments.num_dev or not asked:
        raise ValueError(
            f"'{arguments.data}' has {len(rest):,} rows that are not held out, too few for num_example_rows "
            f"{example_rows}, num_dev {arguments.num_dev} and rows to ask about."
        )
    if all(rest["label"][i] == ABSTAIN for i in asked):
        raise ValueError("None of the rows to ask about has a gold label to measure by. Raise num_annotated.")
    return held_out, rest.select(known[:example_rows]), rest.select(dev) if dev else None, rest.select(asked)


def with_examples(task: TaskSpec, shots: int, rows: Dataset, text_column: str) -> TaskSpec:
    """
    The task with so many worked examples: its own first ones, or else gold rows, of each label in turn the shortest left.

    The shortest, since a worked example is never cut and is paid for with every text.

    Raises:
        ValueError: There are not enough gold rows of a label.
    """
    if len(task.examples) >= shots:
        return dataclasses.replace(task, examples=task.examples[:shots])
    texts = {label: [] for label in task.labels}
    usable = [row for row in zip(rows[text_column], rows["label"], strict=True) if (row[0] or "").strip()]
    for text, label in sorted(usable, key=lambda row: len(row[0])):
        texts[task.labels[label]].append(text)
    examples = []
    for _, label in zip(range(shots), cycle(task.labels), strict=False):
        if not texts[label]:
            raise ValueError(
                f"{shots} worked examples need more gold texts of '{label}' than the {len(rows)} rows kept for examples "
                f"have. Raise num_example_rows, or put examples into the task files."
            )
        examples.append({"text": texts[label].pop(0), "label": label})
    return TaskSpec.from_dict(task.to_dict() | {"examples": examples})


def ask(arguments: PromptsArguments, wordings: list[TaskSpec], examples: Dataset, rows: Dataset) -> list[Variant]:
    """Annotate the rows by every prompt, and label them by every calibration."""
    variants = []
    for wording, shots, mode in product(wordings, arguments.shots, arguments.modes):
        task = with_examples(wording, shots, examples, arguments.text_column)
        teacher = make_teacher(dataclasses.replace(arguments, teacher_mode=mode))
        labeler = LLMLabeler(task, teacher, arguments.ledger or Path(arguments.run) / "ledger", arguments.text_column)
        folder = Path(arguments.run) / "annotated" / f"{task.name}-{shots}-{teacher.mode}"
        # Contextual, so that its few texts without content are asked about too; the others need the scores alone.
        results = annotate(rows, labeler, folder, calibration="contextual", gold_column="label")
        annotated = load_data(folder)
        scores = [row for row in annotated["llm_scores"] if row is not None]
        found = {
            "none": Calibration("none", (0.0,) * task.num_labels),
            "batch": batch_calibration(scores) if scores else None,
            "contextual": saved_calibration(folder),
        }
        for name in arguments.calibrations if scores else ["none"]:
            variants.append(
                Variant(
                    task,
                    teacher.mode,
                    found[name] if scores else None,
                    calibrate(annotated, task, found[name]),
                    results,
                )
            )
    return variants


def behind(
    variant: Variant, arguments: PromptsArguments, training: StudentConfig, held_out: Dataset, first: int
) -> dict:
    """Columns of the students that learn from a prompt's labels of the rows from `first` on; none where not asked for."""
    if not arguments.train_students:
        return {}
    rows = variant.annotated.select(range(first, len(variant.annotated)))
    mean = low = high = None
    if len({*rows["llm_label"]} - {ABSTAIN}) > 1:
        silver, _ = select_silver(rows, variant.task)
        name = "-".join(map(str, (*variant.prompt, variant.method)))
        right = [
            learn(
                variant.task,
                arguments.student[0],
                Path(arguments.run) / "students" / name / str(seed),
                seeded(training, seed),
                arguments,
                eval_data=held_out,
                silver=silver,
            )
            for seed in range(training.seed, training.seed + arguments.num_seeds)
        ]
        mean, low, high = paired_bootstrap(np.array(right))
    return {"student %": mean, "student low %": low, "student high %": high}


def measured(variant: Variant, variants: list[Variant], gold: NDArray[np.int_], first: int) -> dict:
    """A row of the table: what a prompt gave on the rows from `first` on, the dev rows left out."""
    rows = slice(first, None)
    labels, results = variant.labels[rows], variant.results
    right, known = labels == gold[rows], gold[rows] != ABSTAIN
    low, high = binomtest(int(right[known].sum()), int(known.sum())).proportion_ci(method="wilson")
    most = np.log(variant.task.num_labels)
    information = confidence = None
    if variant.calibration is not None:
        scores = [one for one in variant.annotated["llm_scores"][rows] if one is not None]
        probabilities = variant.calibration.probabilities(scores)
        information = float((_entropy(probabilities.mean(0)) - _entropy(probabilities).mean()) / most)
        confidence = float(probabilities.max(1).mean())
    shares = np.array([(labels == label).sum() for label in range(variant.task.num_labels)])
    name, shots, mode = variant.prompt
    return {
        "prompt": name,
        "shots": shots,
        "mode": mode,
        "calibration": variant.method,
        "coverage %": float((labels != ABSTAIN).mean()),
        "accuracy %": float(right[known].mean()),
        "low %": float(low),
        "high %": float(high),
        "information %": information,
        "confidence %": confidence,
        "agreement with others %": _agreement(variant, variants, rows),
        "label mass %": results["label_mass"],
        "evenness %": float(_entropy(shares / max(shares.sum(), 1)) / most),
        "tokens a text": (results["input_tokens"] + results["output_tokens"]) / results["n_rows"],
        "seconds a text": results["seconds"] / results["n_rows"],
    }


def choose(
    variants: list[Variant], table: list[dict], gold: NDArray[np.int_], first: int, arguments: PromptsArguments
) -> dict:
    """
    The prompt that each rule chooses, that a few gold rows choose, and the best in hindsight, with how far from it each is.
    """
    known = first + np.flatnonzero(gold[first:] != ABSTAIN)
    right = np.array([one.labels == gold for one in variants])
    best = int(right[:, known].mean(1).argmax())

    def chosen(row: int) -> dict:
        mean, low, high = paired_bootstrap(right[best, known], right[row, known])
        return {
            "row": row,
            "prompt": str(variants[row]),
            "accuracy": table[row]["accuracy %"],
            "behind_best": [mean, low, high],
        }

    rules = {}
    for name, column in RULES.items():
        values = [-np.inf if row[column] is None else row[column] for row in table]
        if np.isfinite(values).any():
            rules[name] = chosen(int(np.argmax(values))) | {"rank_correlation": _correlation(values, table)}
    if arguments.rule not in rules:
        raise ValueError(
            f"rule '{arguments.rule}' has nothing to choose by: agreement needs two prompts or more, the others scores."
        )
    return {
        "rule": arguments.rule,
        "chosen_without_gold": rules[arguments.rule],
        "rules": rules,
        "chosen_with_dev": chosen(int(right[:, :first].mean(1).argmax())) | {"num_dev": first} if first else None,
        "best_in_hindsight": chosen(best),
        "mean_of_all": float(right[:, known].mean()),
    }


def findings(table: list[dict], choice: dict) -> list[str]:
    """What came out, in sentences."""
    worst, best = min(table, key=_accuracy), choice["best_in_hindsight"]
    out = [
        f"{len(table)} ways of asking give from {_accuracy(worst):.1%} to {best['accuracy']:.1%} (mean "
        f"{choice['mean_of_all']:.1%}); the best in hindsight, which is flattered by chance, is {best['prompt']}."
    ]
    for name, found in choice["rules"].items():
        chosen = " (the rule that was set)" if name == choice["rule"] else ""
        out.append(
            f"Without gold, by {name}{chosen}: {found['prompt']}, {found['accuracy']:.1%}, {_behind(found)}; rank "
            f"correlation of {name} and accuracy {_shown(found['rank_correlation'])}."
        )
    if found := choice["chosen_with_dev"]:
        out.append(f"By {found['num_dev']} gold rows: {found['prompt']}, {found['accuracy']:.1%}, {_behind(found)}.")
    return out


def draw(table: list[dict], choice: dict) -> Figure:
    """Accuracies with intervals, best first, and accuracy against the rule's column."""
    order = sorted(range(len(table)), key=lambda row: _accuracy(table[row]))
    figure = Figure(figsize=(11, 1.6 + 0.24 * len(table)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    names = []
    chosen = {"no gold": choice["chosen_without_gold"]["row"]}
    if choice["chosen_with_dev"]:
        chosen["dev gold"] = choice["chosen_with_dev"]["row"]
    column = RULES[choice["rule"]]
    for place, row in enumerate(order):
        one = table[row]
        colour = GREEN if one["mode"] == "generate" else _CALIBRATIONS[one["calibration"]]
        left.plot([one["low %"], one["high %"]], [place, place], color=colour, lw=1.5)
        left.plot(one["accuracy %"], place, "o", color=colour, ms=5)
        marks = "".join(f" ← {name}" for name, number in chosen.items() if number == row)
        if marks:
            left.annotate(marks, (one["high %"], place), va="center", fontsize=8)
        names.append(f"{one['prompt']}, {one['shots']}-shot")
        if one[column] is not None:
            right.plot(one[column], one["accuracy %"], "o", color=colour, ms=5)
            if row in chosen.values():
                right.plot(one[column], one["accuracy %"], "o", mfc="none", mec="black", ms=10)
    left.set_yticks(range(len(names)), names, fontsize=8)
    left.set(xlabel="agreement with gold, 95 % interval", xlim=(0, 1.18))
    left.set_xticks(np.linspace(0, 1, 6))
    right.set(xlabel=column.removesuffix(" %") + (" of the label" if choice["rule"] == "information" else ""))
    right.set(ylabel="agreement with gold", ylim=(0, 1.02))
    for axes in (left, right):
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
    right.yaxis.set_major_formatter("{x:.0%}")
    legend = {GREEN: "generated", GREY: "not calibrated", BLUE: "batch", ORANGE: "contextual"}
    shown = {line.get_color() for line in left.lines}
    for colour, name in legend.items():
        if colour in shown:
            right.plot([], [], "o", color=colour, label=name)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _by_prompt(variants: list[Variant]) -> list[Variant]:
    """One variant of each prompt, the batch-calibrated one where there is one."""
    found: dict[tuple, Variant] = {}
    for one in variants:
        if one.prompt not in found or one.method == "batch":
            found[one.prompt] = one
    return list(found.values())


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return -xlogy(probabilities, probabilities).sum(-1)


def _agreement(variant: Variant, variants: list[Variant], rows: slice) -> float | None:
    """Share of labels equal to the majority of the other prompts, where that is not tied; `None` without others."""
    others = [one.labels[rows] for one in _by_prompt(variants) if one.prompt != variant.prompt]
    if not others:
        return None
    counts = np.array([(np.array(others) == label).sum(0) for label in range(variant.task.num_labels)])
    decided = (counts == counts.max(0)).sum(0) == 1
    if not decided.any():
        return None
    return float((variant.labels[rows] == counts.argmax(0))[decided].mean())


def _correlation(values: list[float], table: list[dict]) -> float | None:
    """Spearman's, of a rule's values with the accuracies; `None` where it is not defined."""
    if len(set(values)) < 2 or len({_accuracy(row) for row in table}) < 2:
        return None
    return float(spearmanr(values, [_accuracy(row) for row in table]).statistic)


def _accuracy(row: dict) -> float:
    return row["accuracy %"]


def _shown(correlation: float | None) -> str:
    return "not defined" if correlation is None else f"{correlation:.2f}"


def _behind(found: dict) -> str:
    mean, low, high = found["behind_best"]
    return f"{100 * mean:.1f} points behind the best ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    run_recipe(PromptsArguments, main)
