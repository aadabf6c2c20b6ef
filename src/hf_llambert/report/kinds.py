"""How a report shows answers to each kind of question, and the figures of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_llambert.headline import MAIN
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec

_NAMES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kappa": "quadratic kappa",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "ece": "expected calibration error",
    "subset_accuracy": "all labels right",
    "accuracy": "accuracy",
    "within_half_step": "at most half a step off",
}


@dataclass(frozen=True)
class OfKind:
    """
    What a report says of a kind of question.

    Args:
        summary (`Callable`): Of figures: the main one with its interval, and the second.
        said (`Callable`): What a student reaches, after "On 100 held-out texts".
        more (`tuple[str, ...]`): Figures on the line under the table of labels.
        shown (`str`): Which disagreements are shown, in words.
        columns (`str`): How the columns of its answers are read.
        is_told (`bool`): Whether `more` stands on the page and in the cards too, not in the report's text alone.
        note (`Callable`): What must be known to read the figures, a sentence; or nothing.
    """

    summary: Callable[[Mapping], tuple[str, str]]
    said: Callable[[Mapping], str]
    more: tuple[str, ...]
    columns: str
    is_told: bool = True
    shown: str = "those of which the teacher was surest"
    note: Callable[[Question], str] = lambda _: ""


def kind_of(task: TaskSpec) -> OfKind:
    """What a report says of the kind of a task's only question."""
    return OF_KIND[task.question.kind]


def answer_words(question: Question, answer: object) -> str:
    """An answer in words, a dash where there is none."""
    return question.in_words(answer) if question.is_answer(answer) else "–"


def is_measured(figures: Mapping | None) -> bool:
    """Whether there was gold to measure by."""
    return bool(figures) and "n" in figures and any(name in figures for name in MAIN.values())  # type: ignore[operator]


def figure(found: Mapping, name: str, form: str = ".3f") -> str:
    """A figure with its interval, where it was noted; why it has no value, where it has none."""
    if found.get(name) is None:
        return f"not defined ({(found.get('undefined') or {}).get(name, 'no gold')})"
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    between = "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"
    return f"{found[name]:{form}}{between}"


def more_figures(kind: OfKind, found: Mapping) -> str:
    """The figures that stand in no table, on a line."""
    names = {**_NAMES, "f1": f"F1 of being at least {found.get('cut', 0):g}"}
    return ", ".join(f"{names[name]} {figure(found, name)}" for name in kind.more if name in found)


def right_rows(question: Question, answers: Sequence, gold: Sequence) -> NDArray[np.bool_]:
    """Whether each answer is right; not where one of the two is missing."""
    known = [k for k in range(len(answers)) if question.is_answer(answers[k]) and question.is_answer(gold[k])]
    out = np.zeros(len(answers), dtype=bool)
    if known:
        out[known] = question.right([answers[k] for k in known], [gold[k] for k in known])
    return out


def over_classes(quality: Mapping) -> str:
    """Over how many classes macro-F1 is taken, where gold has not all of them."""
    classes = quality.get("per_class") or {}
    with_gold = sum(one["support"] > 0 for one in classes.values())
    return f" (over {with_gold} of {len(classes)} classes)" if with_gold < len(classes) else ""


def plain_summary(found: Mapping) -> tuple[str, str]:
    """Accuracy and macro-F1 where one label answers, without their names."""
    accuracy = (
        f"{found['accuracy']:.1%} ({found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}, n={found['n']:,})"
    )
    return accuracy, f"{found['macro_f1']:.3f}{over_classes(found)}"


def _choice_summary(found: Mapping) -> tuple[str, str]:
    main, second = plain_summary(found)
    return f"accuracy {main}", f"macro-F1 {second}"


def _choices_summary(found: Mapping) -> tuple[str, str]:
    return (
        f"micro-F1 {figure(found, 'micro_f1')}, n={found['n']:,}",
        f"macro-F1 {figure(found, 'macro_f1')}{over_classes(found)}",
    )


def _scale_summary(found: Mapping) -> tuple[str, str]:
    return (
        f"Spearman {figure(found, 'spearman')}, n={found['n']:,}",
        f"mean absolute error {figure(found, 'mae')}",
    )


def _choice_said(found: Mapping) -> str:
    return f"it agrees with people on {found['accuracy']:.1%} ({found['accuracy_low']:.1%} to {found['accuracy_high']:.1%})"


OF_KIND = {
    "choice": OfKind(
        summary=_choice_summary,
        said=_choice_said,
        more=("mcc", "ece"),
        columns="`label` is -1 where there is no answer; `scores` are log-probabilities, in label order",
        is_told=False,
    ),
    "choices": OfKind(
        summary=_choices_summary,
        said=lambda found: f"it has micro-F1 {figure(found, 'micro_f1')} against people's labels",
        more=("subset_accuracy", "ece"),
        columns="`labels` is a list, null where there is no answer; `scores` are log-odds of each label",
        shown="those that share the fewest of their labels",
        note=lambda _: "Several labels may hold: an answer is right where all of them are, and no other.",
    ),
    "scale": OfKind(
        summary=_scale_summary,
        said=lambda found: f"it orders them as people do with Spearman {figure(found, 'spearman')}",
        more=("mae", "rmse", "pearson", "spearman", "kappa", "accuracy", "within_half_step", "f1", "ece"),
        columns="`value` is the expectation and `label` the likeliest level; null and -1 where there is no answer; `scores` are "
        "log-probabilities of the levels",
        shown="those that are furthest apart; less than half a step is no difference",
        note=lambda question: (
            f"An answer is right where it is at most half a step ({question.half_step:g}) off. How many of the teacher's answers "  # type: ignore[attr-defined]
            f"are wrong is not estimated without gold: on a scale near misses are no slips."
        ),
    ),
}
