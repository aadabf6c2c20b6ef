"""What the conditions of a gate can be about: figures of a run, found in its report."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hf_llambert.quality.report_parts import question_report


@dataclass(frozen=True)
class Figure:
    """
    What a run reached.

    Args:
        value (`float`): The figure.
        low (`float`, *optional*): Lower end of its 95 % interval.
        high (`float`, *optional*): Upper end.
        of (`str`, defaults to `""`): What it is the figure of, such as the worst class.
    """

    value: float
    low: float | None = None
    high: float | None = None
    of: str = ""


def _measured(part: str, name: str) -> Callable[[Mapping], Figure | str]:
    """A figure of teacher or student against gold."""

    def find(report: Mapping) -> Figure | str:
        found = report[part]
        if found is None:
            return f"there is no {part}"
        if found.get(name) is None and name in (found.get("undefined") or {}):
            return str(found["undefined"][name])
        if found.get(name) is None:
            return "nobody's labels to measure by: " + ("--label_column" if part == "teacher" else "train --eval_data")
        return Figure(found[name], found.get(f"{name}_low"), found.get(f"{name}_high"))

    return find


def _macro_f1(report: Mapping) -> Figure | str:
    found = _measured("student", "macro_f1")(report)
    if isinstance(found, str):
        return found
    classes = report["student"].get("per_class") or {}
    absent = [name for name, one in classes.items() if not one["support"]]
    over = f"over {len(classes) - len(absent)} of {len(classes)} classes, without gold of {', '.join(absent)}"
    return Figure(found.value, of=over if absent else "")


def _annotated(name: str, share: bool = False) -> Callable[[Mapping], Figure | str]:
    def find(report: Mapping) -> Figure | str:
        if report["teacher"] is None:
            return "nothing was annotated"
        return Figure(report["teacher"][name] / (report["n_annotated"] if share else 1))

    return find


def _difference(name: str, why: str) -> Callable[[Mapping], Figure | str]:
    def find(report: Mapping) -> Figure | str:
        found = report.get(name)
        return Figure(found["difference"], found["low"], found["high"]) if found else why

    return find


def _beyond_words(report: Mapping) -> Figure | str:
    found = (report["student"] or {}).get("linear")
    if not found:
        return "nobody counted words on the same texts: train --eval_data, without --no_baseline"
    return Figure(*(found["difference"][name] for name in ("difference", "low", "high")))


def _recall(report: Mapping) -> Figure | str:
    classes = (report["student"] or {}).get("per_class")
    if not classes:
        return _measured("student", "per_class")(report)
    unseen = [name for name, one in classes.items() if not one["support"]]
    if unseen:
        return f"no gold row of {', '.join(unseen)}"
    name, worst = min(classes.items(), key=lambda item: item[1]["recall"])
    # The lowest is certain only where that of each class is: a class with few rows may be worse than it seems.
    ends = [[one.get(f"recall_{end}") for one in classes.values()] for end in ("low", "high")]
    low, high = (None if None in found else min(found) for found in ends)
    return Figure(worst["recall"], low, high, f"the lowest, of {name}")


def _silver(report: Mapping) -> Figure | str:
    selection = (report["student"] or {}).get("train", {}).get("selection")
    if not selection:
        return "no student was trained on silver"
    name, n = min(selection[-1]["per_label"].items(), key=lambda item: item[1])
    return Figure(n, of=f"the fewest, of {name}")


def _share(report: Mapping) -> Figure | str:
    pool = report.get("pool") or {}
    counts = pool.get("counts")
    if not counts:
        return _no_pool(report) or "the pool was not labelled"
    name, n = min(counts.items(), key=lambda item: item[1])
    return Figure(n / max(pool.get("n", sum(counts.values())), 1), of=f"the rarest, {name}")


def _no_pool(report: Mapping) -> str | None:
    """Why a labelled pool that is there is not looked at."""
    return (report.get("left_out") or {}).get("labels")


def _drift(name: str) -> Callable[[Mapping], Figure | str]:
    def find(report: Mapping) -> Figure | str:
        drift = report.get("drift")
        if not drift:
            return _no_pool(report) or "annotated texts and a labelled pool that keeps its texts are needed"
        return drift["why"] if drift[name] is None else Figure(drift[name])

    return find


def _noise(report: Mapping) -> Figure | str:
    noise = report.get("noise")
    if not noise:
        return "cleanlab is needed: pip install 'hf-llambert[noise]'"
    return "too few labels to tell" if noise["share"] is None else Figure(noise["share"])


def _slice(report: Mapping) -> Figure | str:
    found = [row for rows in (report.get("slices") or {}).values() for row in rows or []]
    if not found:
        return "too few texts with people's labels"
    worse = [row for row in found if row["p_adjusted"] < 0.05 and row["difference"] < 0]
    if not worse:
        return Figure(0.0, of="no slice is worse beyond chance")
    worst = min(worse, key=lambda row: row["difference"])
    return Figure(worst["difference"], of=f"{worst['kind']} {worst['name']}")


def _beside_people(find: Callable[[Mapping], Figure | str]) -> Callable[[Mapping], Figure | str]:
    """A figure of the test whether the teacher may stand in for people."""

    def figure(report: Mapping) -> Figure | str:
        review = report.get("review") or {}
        found = review.get("alternative")
        if not found:
            return (
                review.get("other_labels")
                or "no two people answered rows drawn at random: hf-llambert review --for_test 60"
            )
        return found["lacking"] or find(found)

    return figure


def _alpha(found: Mapping) -> Figure | str:
    alpha = found["alpha"]
    if alpha["teacher"] is None:
        return "only one answer was given, so that chance cannot be told from agreement"
    return Figure(
        alpha["teacher"],
        alpha["low"],
        alpha["high"],
        f"people {alpha['people']:.2f}" if alpha["people"] is not None else "",
    )


def _eval_rows(report: Mapping) -> Figure | str:
    return Figure((report["student"] or {}).get("n") or 0)


_OF_KIND = {
    "choice": ("accuracy", "macro_f1", "ece", "each_class_recall"),
    "choices": ("subset_accuracy", "micro_f1", "macro_f1", "ece", "each_class_recall"),
    "scale": ("spearman", "pearson", "mae", "rmse", "kappa", "accuracy", "within_half_step", "f1", "ece"),
}
"""The figures that a kind of question has and another may not have, of the student."""
_OF_TEACHER = {
    "choice": ("accuracy",),
    "choices": ("subset_accuracy", "micro_f1", "macro_f1"),
    "scale": ("spearman", "mae", "kappa", "accuracy", "within_half_step"),
}
_OF_TEXTS = ("failed", "drift_p", "drift_auc")
"""Figures that are of no question."""
_MEASURED = dict.fromkeys(name for names in _OF_KIND.values() for name in names)
_MEASURED_TEACHER = dict.fromkeys(name for names in _OF_TEACHER.values() for name in names)

FIGURES: dict[str, Callable[[Mapping], Figure | str]] = {
    "coverage": _annotated("coverage"),
    "failed": _annotated("n_failed", share=True),
    **{f"teacher_{name}": _measured("teacher", name) for name in _MEASURED_TEACHER},
    **{name: _measured("student", name) for name in _MEASURED},
    "macro_f1": _macro_f1,
    "each_class_recall": _recall,
    "eval_rows": _eval_rows,
    "student_less_teacher": _difference("student_less_teacher", "both must be measured against people's labels"),
    "student_less_baseline": _difference("student_less_baseline", "there is no baseline measured on the same texts"),
    "better_than_baseline": _beyond_words,
    "each_class_silver": _silver,
    "each_class_share": _share,
    "noise": _noise,
    "slice_difference": _slice,
    "drift_p": _drift("p"),
    "drift_auc": _drift("auc"),
    "stands_in": _beside_people(lambda found: Figure(found["winning_rate"])),
    "stands_in_p": _beside_people(lambda found: Figure(found["p"])),
    "stands_in_advantage": _beside_people(lambda found: Figure(found["advantage"])),
    "stands_in_alpha": _beside_people(_alpha),
}
"""
What conditions can be about. Accuracies, shares and differences count from 0 to 1: two points are 0.02.

`coverage`, `failed`: shares of the annotated texts. `teacher_accuracy`: on annotated texts with gold. `accuracy`, `macro_f1`,
`ece`, `each_class_recall` (of the worst class), `eval_rows`: the student's on held-out gold. Where several labels may hold also
`subset_accuracy`, `micro_f1`; of a scale `spearman`, `pearson`, `mae`, `rmse`, `kappa`, `within_half_step`, `f1` at the cut
(`accuracy` is of the nearest level); see [`METRICS`]. A teacher's are `teacher_` and the name. `student_less_teacher`,
`student_less_baseline` (the same encoder on gold labels), `better_than_baseline` (counting words: the linear student of the same
labels): differences of accuracy, or of what is right in [`RIGHT`]. `each_class_silver`: silver rows of the rarest class.
`each_class_share`: share of the pool that the rarest class was given. `noise`: see [`likely_label_errors`].
`stands_in` (winning rate: the test is passed from 0.5 on), `stands_in_p`, `stands_in_advantage`: see
[`alternative_annotator_test`]; `stands_in_alpha`: Krippendorff's alpha with the teacher in the place of a reviewer.
`slice_difference`: accuracy of the worst slice less that elsewhere, 0 if none is worse beyond chance. `drift_p`, `drift_auc`:
see [`measure_drift`].
"""


def figure_of(report: Mapping, question: str, figure: str) -> Figure | str:
    """
    A figure of a run, or why there is none.

    Args:
        report (`Mapping`): The content of `report.json`.
        question (`str`): The question that it is of; nothing for the only one.
        figure (`str`): Its name; see [`FIGURES`].

    Raises:
        ValueError: There is no such question, it has no such figure, or it is not said which of several is meant.
    """
    if question or "questions" in report:
        report = _report_of(report, question, figure)
    questions = (report.get("task") or {}).get("questions") or []
    _refuse_foreign(questions[0]["kind"] if len(questions) == 1 else "choice", figure)
    return FIGURES[figure](report)


def _report_of(report: Mapping, question: str, figure: str) -> Mapping:
    names = list(report.get("questions") or [one["name"] for one in report["task"].get("questions") or []])
    if not question:
        if figure in _OF_TEXTS:
            return report
        raise ValueError(
            f"The task asks {', '.join(names)}: of which is '{figure}' in the gate? Write {names[0]}.{figure}."
        )
    if question not in names:
        near = difflib.get_close_matches(question, names, 1)
        there = f"It has {', '.join(names)}." if names else f"It has one question: write '{figure}'."
        raise ValueError(
            f"The gate asks '{question}.{figure}', and the task has no question '{question}'. "
            f"{f'Did you mean {near[0]}? ' if near else ''}{there}"
        )
    if "questions" not in report:
        return report
    review = ((report.get("review") or {}).get("questions") or {}).get(question)
    return {**question_report(report, question), "review": review}


def figures_of(kind: str) -> list[str]:
    """The figures that a question of a kind has."""
    own = {*_OF_KIND[kind], *(f"teacher_{name}" for name in _OF_TEACHER[kind])}
    of_some = {*_MEASURED, *(f"teacher_{name}" for name in _MEASURED_TEACHER)}
    return [name for name in FIGURES if name in own or name not in of_some]


def _refuse_foreign(kind: str, figure: str) -> None:
    if figure in figures_of(kind):
        return
    is_teachers = figure.startswith("teacher_")
    own = [name for name in figures_of(kind) if name.startswith("teacher_") == is_teachers]
    near = difflib.get_close_matches(figure, own, 1)
    raise ValueError(
        f"A question of kind {kind} has no '{figure}' for the gate.{f' Did you mean {near[0]}?' if near else ''} It has "
        f"{', '.join(own)}."
    )
