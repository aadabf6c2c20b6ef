"""
Where teacher and student err more often than elsewhere, and whether the student amplifies its teacher's bias.

    accelerate launch recipes/studies/bias.py --config recipes/studies/bias.yaml

Both are measured on texts that neither has seen: the student learns from other texts that the teacher annotated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from accelerate import PartialState
from datasets import ClassLabel, Dataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control, ttest_ind
from study import (
    BLUE,
    GREY,
    ORANGE,
    RunArguments,
    annotated,
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
    LLMLabeler,
    StudentConfig,
    TaskSpec,
    annotate,
    check_column,
    length_slices,
    load_data,
    load_task,
    saved_calibration,
    value_slices,
)

NEGATION = re.compile(
    r"\b(?:not?|never|none|nobody|nothing|nowhere|neither|nor|cannot|without|hardly)\b|n['’]t\b", re.I
)
_RESAMPLES = 2000


@dataclass(kw_only=True)
class BiasArguments(RunArguments):
    """What the study of bias takes."""

    slice_columns: list[str] = field(
        default_factory=list, metadata={"help": "Columns of the data whose values are slices, such as source."}
    )
    groups: str | None = field(
        default=None,
        metadata={"help": "YAML file of named regular expressions: texts in which one is found are a slice."},
    )
    min_slice: int = field(default=30, metadata={"help": "Smallest slice to look at; as many texts must be outside."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_slice < 2:
            raise ValueError(f"min_slice must be 2 or more, got {self.min_slice}.")


def main(arguments: BiasArguments, training: StudentConfig) -> list[dict]:
    """Annotate, train with each seed, and compare errors slice by slice. Returns the table."""
    task, column, run = load_task(arguments.task), arguments.text_column, Path(arguments.run)
    held_out, rest = split_rows(arguments, task)
    usable = [i for i, text in enumerate(held_out[column]) if (text or "").strip()]
    held_out = held_out.select([i for i in usable if held_out["label"][i] != ABSTAIN])
    slices(held_out, task, arguments)  # a mistake there shows before anybody is asked
    number = len(rest) if arguments.num_annotated is None else arguments.num_annotated
    silver, selection, _ = annotated(arguments, task, rest.select(range(min(number, len(rest)))))
    labels = teacher_labels(arguments, task, held_out)
    students = np.array(
        [
            ~learn(
                task,
                arguments.student[0],
                run / "students" / str(seed),
                seeded(training, seed),
                arguments,
                eval_data=held_out,
                silver=silver,
                selection=selection,
            )
            for seed in range(training.seed, training.seed + arguments.num_seeds)
        ]
    )
    if not PartialState().is_main_process:
        return []
    answered = labels != ABSTAIN
    teacher = (labels != np.array(held_out["label"][:]))[answered]
    found = slices(held_out.select(np.flatnonzero(answered).tolist()), task, arguments)
    table = compared(found, teacher, students[:, answered])
    names = f"{short_name(arguments.teacher)} and {short_name(arguments.student[0])}"
    write_study(
        run,
        f"Bias: {names} on {Path(arguments.data).name}",
        "Where do teacher and student err more often than elsewhere, and does the student amplify it?",
        table,
        {"Error rates by slice, and how much larger the student's gaps are than the teacher's": draw(table)},
        findings(table, teacher, students[:, answered]),
        [
            f"{len(silver):,} silver texts, {arguments.num_seeds} seeds; {answered.sum():,} held-out texts, seen by neither in "
            f"training; {(~answered).sum():,} more on which the teacher abstained are left out.",
            "A gap is the error rate in a slice less that outside of it; amplified is the student's gap less the teacher's. "
            "Intervals of 95 %: Wilson for rates (of the student's mean over seeds), bootstrap over texts and seeds for gaps. p: "
            "Welch's t-test on texts' errors, Benjamini and Hochberg's correction over all slices of a column; slices overlap.",
        ],
    )
    return table


def slices(rows: Dataset, task: TaskSpec, arguments: BiasArguments) -> dict[str, NDArray[np.bool_]]:
    """
    The slices large enough to look at, by name, as masks over the rows.

    Raises:
        ValueError: No such column, one with too many values, a file of groups that is none, or no slice is large enough.
    """
    texts = rows[arguments.text_column][:]
    gold = np.array(rows["label"][:])
    words = np.array([len(text.split()) for text in texts])
    negations = np.array([len(NEGATION.findall(text)) for text in texts]) / np.maximum(words, 1)
    found = {f"class: {name}": gold == i for i, name in task.id2label.items()}
    found |= _named(length_slices(texts))
    found["negations: none"] = negations == 0
    found["negations: more than most"] = negations > np.median(negations)
    for name in arguments.slice_columns:
        check_column(rows, name, "slice_columns")
        feature, values = rows.features[name], rows[name][:]
        if isinstance(feature, ClassLabel):
            values = [None if value is None else feature.int2str(value) for value in values]
        found |= _named(value_slices(name, values))
    for name, pattern in read_groups(arguments.groups).items():
        found[f"group: {name}"] = np.array([pattern.search(text) is not None for text in texts])
    large = {
        name: mask
        for name, mask in found.items()
        if arguments.min_slice <= mask.sum() <= len(mask) - arguments.min_slice
    }
    if not large:
        raise ValueError(
            f"No slice of the {len(texts):,} texts has {arguments.min_slice}. Hold out more, or lower min_slice."
        )
    return large


def _named(found: dict[tuple[str, str], NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    return {f"{kind}: {name}": mask for (kind, name), mask in found.items()}


def read_groups(path: str | None) -> dict[str, re.Pattern]:
    """
    Named regular expressions of a YAML file, case ignored.

    Raises:
        ValueError: The file is no mapping of names to expressions; the message names it and the name.
    """
    if path is None:
        return {}
    try:
        groups = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"The file of groups '{path}' cannot be read: {error}") from error
    if not isinstance(groups, dict):
        raise ValueError(f"{path}: expected names of groups with a regular expression each, got {groups!r}.")
    out = {}
    for name, pattern in groups.items():
        try:
            out[str(name)] = re.compile(pattern, re.IGNORECASE)
        except (TypeError, re.error) as error:
            raise ValueError(f"{path}: group '{name}' is no regular expression: {error}.") from error
    return out


def teacher_labels(arguments: BiasArguments, task: TaskSpec, held_out: Dataset) -> NDArray[np.int_]:
    """The teacher's labels of the held-out texts, by the calibration of the annotated ones."""
    labeler = LLMLabeler(
        task,
        make_teacher(arguments),
        arguments.ledger or Path(arguments.run) / "ledger",
        arguments.text_column,
        calibration=saved_calibration(arguments.run),
    )
    folder = Path(arguments.run) / "held_out_annotated"
    annotate(held_out, labeler, folder, calibration="none", gold_column="label")
    return np.array(load_data(folder)["llm_label"][:])


def compared(
    found: dict[str, NDArray[np.bool_]], teacher: NDArray[np.bool_], students: NDArray[np.bool_]
) -> list[dict]:
    """
    Error rates in each slice, gaps to the other texts, and the student's gap less the teacher's.

    Args:
        found (`dict[str, NDArray]`): Masks over the texts.
        teacher (`NDArray` of shape (texts,)): Where the teacher erred.
        students (`NDArray` of shape (seeds, texts)): Where each student erred.
    """
    mean, table = students.mean(0), []
    for name, inside in found.items():
        row: dict[str, object] = {"slice": name, "n": int(inside.sum())}
        for who, errors in (("teacher", teacher.astype(float)), ("student", mean)):
            share = float(errors[inside].mean())
            low, high = binomtest(round(share * inside.sum()), int(inside.sum())).proportion_ci(method="wilson")
            row |= {f"{who} errors %": share, f"{who} low %": float(low), f"{who} high %": float(high)}
            row |= {f"{who} gap %": _gap(errors, inside), f"{who} p": _p(errors, inside)}
        row["amplified %"], row["amplified low %"], row["amplified high %"] = amplified(inside, teacher, students)
        row["amplified p"] = _p(mean - teacher, inside)
        table.append(row)
    for column in ("teacher p", "student p", "amplified p"):
        for row, p in zip(table, false_discovery_control([row[column] for row in table]), strict=True):
            row[column] = float(p)
    return table


def amplified(
    inside: NDArray[np.bool_], teacher: NDArray[np.bool_], students: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """The student's gap less the teacher's, with the bounds of its 95 % bootstrap interval over texts and seeds."""
    more = students.astype(float) - teacher
    random = np.random.default_rng(0)
    parts = more[:, inside], more[:, ~inside]
    values = []
    for _ in range(_RESAMPLES):
        seeds = random.integers(len(more), size=len(more))
        means = [part[seeds].mean(0)[random.integers(part.shape[1], size=part.shape[1])].mean() for part in parts]
        values.append(means[0] - means[1])
    low, high = np.quantile(values, (0.025, 0.975))
    return _gap(more.mean(0), inside), float(low), float(high)


def findings(table: Sequence[dict], teacher: NDArray[np.bool_], students: NDArray[np.bool_]) -> list[str]:
    """What came out, in sentences."""
    out = [f"Errors on all {len(teacher):,} texts: teacher {teacher.mean():.1%}, student {students.mean():.1%}."]
    for who in ("teacher", "student"):
        told = sorted((row for row in table if row[f"{who} p"] < 0.05), key=lambda row: -abs(row[f"{who} gap %"]))
        named = ", ".join(f"{row['slice']} ({100 * row[f'{who} gap %']:+.1f} points)" for row in told)
        out.append(f"Slices in which the {who} errs differently than elsewhere: {named or 'none beyond chance'}.")
    for row in table:
        if row["amplified p"] < 0.05:
            what = "leans against its teacher's gap"
            if row["amplified %"] * row["teacher gap %"] > 0:
                what = "amplifies its teacher's gap" if row["teacher p"] < 0.05 else "has a gap of its own"
            out.append(
                f"{row['slice']}: the student {what}; it is {100 * row['amplified %']:+.1f} points from the teacher's ("
                f"{100 * row['amplified low %']:+.1f} to {100 * row['amplified high %']:+.1f})."
            )
    if len(out) == 3:
        out.append("In no slice is the student's gap another than the teacher's beyond chance.")
    return out


def draw(table: Sequence[dict]) -> Figure:
    """Error rates of both by slice, and the student's gap less the teacher's."""
    figure = Figure(figsize=(11, 1.4 + 0.42 * len(table)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for place, row in enumerate(reversed(table)):
        for who, colour, shift in (("teacher", BLUE, 0.14), ("student", ORANGE, -0.14)):
            left.plot([row[f"{who} low %"], row[f"{who} high %"]], [place + shift] * 2, color=colour, lw=1.5)
            left.plot(row[f"{who} errors %"], place + shift, "o", color=colour, ms=5)
        colour = "black" if row["amplified p"] < 0.05 else GREY
        right.plot([100 * row["amplified low %"], 100 * row["amplified high %"]], [place] * 2, color=colour, lw=1.5)
        right.plot(100 * row["amplified %"], place, "o", color=colour, ms=5)
    left.set_yticks(range(len(table)), [f"{row['slice']} (n={row['n']:,})" for row in reversed(table)], fontsize=9)
    left.set(xlabel="errors, 95 % interval", xlim=(0, None))
    left.xaxis.set_major_formatter("{x:.0%}")
    for who, colour in (("teacher", BLUE), ("student", ORANGE)):
        left.plot([], [], "o-", color=colour, label=who)
    left.legend(frameon=False, fontsize=9)
    right.axvline(0, color="black", lw=0.8)
    right.set(xlabel="student's gap − teacher's, points, 95 % interval\n(black: beyond chance after correction)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _gap(errors: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    return float(errors[inside].mean() - errors[~inside].mean())


def _p(errors: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Of Welch's t-test; 1 where nothing varies."""
    if np.ptp(errors[inside]) == np.ptp(errors[~inside]) == 0:
        return 1.0 if _gap(errors, inside) == 0 else 0.0
    return float(ttest_ind(errors[inside], errors[~inside], equal_var=False).pvalue)


if __name__ == "__main__":
    run_recipe(BiasArguments, main)
