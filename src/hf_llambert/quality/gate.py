"""The gate: conditions that a run must meet before anything of it is published."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from hf_llambert.notes import misfit

GATE_FILE = "gate.yaml"
_KEYS = {"at_least", "at_most", "certain"}


class GateMissed(RuntimeError):
    """A run does not meet its conditions, so that nothing of it is published."""


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


@dataclass(frozen=True)
class Condition:
    """
    What is asked of a figure.

    Args:
        name (`str`): The figure; see [`FIGURES`].
        at_least (`float`, *optional*): Least value.
        at_most (`float`, *optional*): Largest value. One of the two is needed.
        certain (`bool`, defaults to `False`): Ask it of the end of the 95 % interval, not of the estimate.
    """

    name: str
    at_least: float | None = None
    at_most: float | None = None
    certain: bool = False

    def __post_init__(self) -> None:
        if self.name not in FIGURES:
            near = difflib.get_close_matches(self.name, FIGURES, 1)
            raise ValueError(
                f"The gate knows no figure '{self.name}'.{f' Did you mean {near[0]}?' if near else ''} It knows "
                f"{', '.join(FIGURES)}."
            )
        bounds = [self.at_least, self.at_most]
        numbers = [b for b in bounds if b is not None and misfit(b, float) is None and math.isfinite(b)]
        if len(numbers) != 1 or len([b for b in bounds if b is not None]) != 1:
            raise ValueError(
                f"Condition '{self.name}' takes a number as at_least or as at_most, one of them; got {bounds}."
            )
        if not isinstance(self.certain, bool):
            raise ValueError(f"certain of condition '{self.name}' is true or false, got {self.certain!r}.")

    def judge(self, figure: Figure | str) -> dict:
        """Whether a figure meets it; one that is not there, with the reason why, does not."""
        wanted = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        out = {"name": self.name, "wanted": wanted + (", certainly" if self.certain else "")}
        if isinstance(figure, str):
            return out | {"got": "not measured", "value": None, "passed": False, "why": figure}
        got = f"{figure.value:.3g}"
        if figure.low is not None and figure.high is not None:
            got += f" ({figure.low:.3g} to {figure.high:.3g})"
        got += f", {figure.of}" if figure.of else ""
        value: float | None = float(figure.value)
        if self.certain:
            value = figure.low if self.at_least is not None else figure.high
        if value is None or math.isnan(value):
            why = "it has no interval, so nothing is certain" if self.certain else "it is not a number"
            return out | {"got": got, "value": float(figure.value), "passed": False, "why": why}
        passed = value >= self.at_least if self.at_least is not None else value <= self.at_most  # type: ignore[operator]
        return out | {"got": got, "value": float(figure.value), "passed": bool(passed), "why": ""}


def load_gate(source: str | Path | Mapping) -> list[Condition]:
    """
    Conditions from YAML: `figure: {at_least: 0.8}` or `{at_most: ...}`, with `certain: true` where the 95 % interval must
    meet it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or names figures or keys that there are not.
    """
    found, name = source, "the gate"
    if not isinstance(source, Mapping):
        name = f"'{source}'"
        try:
            text = Path(source).read_text(encoding="utf-8")
            found, tree = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
        names = [key.value for key, _ in tree.value] if isinstance(tree, yaml.MappingNode) else []
        twice = sorted({str(key) for key in names if names.count(key) > 1})
        if twice:  # YAML would keep the last alone
            raise ValueError(f"{name} has two conditions for {', '.join(twice)}. Keep one for each figure.")
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"Expected figures with their conditions in {name}, such as 'coverage: {{at_least: 0.95}}'.")
    for figure, asked in found.items():
        if not isinstance(asked, Mapping) or not set(asked) <= _KEYS:
            raise ValueError(
                f"Expected {{at_least: number}} or {{at_most: number}}, and certain: true if wanted, for '{figure}' in {name}; "
                f"got {asked!r}."
            )
    return [Condition(str(figure), **asked) for figure, asked in found.items()]


def check_gate(report: Mapping, conditions: Sequence[Condition]) -> dict:
    """
    Judge a run by its report.

    Args:
        report (`Mapping`): The content of `report.json`; see [`write_report`].
        conditions (`Sequence[Condition]`): All must be met. A figure that was not measured meets none.

    Returns:
        `dict`: `passed`, and `conditions` with `name`, `wanted`, `got`, `value`, `passed` and `why` of each.
    """
    judged = [condition.judge(FIGURES[condition.name](report)) for condition in conditions]
    return {"passed": all(one["passed"] for one in judged), "conditions": judged}


def refuse_missed(report: Mapping) -> None:
    """
    Raise where the report of a run says that it misses its gate.

    Raises:
        GateMissed: With what is missed.
    """
    gate = report.get("gate")
    if gate and not gate["passed"]:
        missed = [one for one in gate["conditions"] if not one["passed"]]
        said = "; ".join(f"{one['name']} {one['got']}, wanted {one['wanted']}" for one in missed)
        raise GateMissed(
            f"The run misses its gate, so nothing is published: {said}. Mend what is behind it, or change the conditions with "
            f"hf-llambert gate."
        )


def show_gate(gate: Mapping) -> None:
    """Print what was asked and what was reached."""
    from hf_llambert.tasks.screen import Screen

    rows = []
    for one in gate["conditions"]:
        mark = ("✓ passed", "green") if one["passed"] else ("✗ missed", "bold red")
        rows.append((one["name"], one["wanted"], one["got"], mark, one["why"] or ""))
    title = "The gate: " + ("passed" if gate["passed"] else "missed")
    Screen().table(("condition", "wanted", "got", "", ""), rows, title)


def _measured(part: str, name: str) -> Callable[[Mapping], Figure | str]:
    """A figure of teacher or student against gold."""

    def find(report: Mapping) -> Figure | str:
        found = report[part]
        if found is None:
            return f"there is no {part}"
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


def _recall(report: Mapping) -> Figure | str:
    classes = (report["student"] or {}).get("per_class")
    if not classes:
        return _measured("student", "accuracy")(report)
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
    counts = (report.get("pool") or {}).get("counts")
    if not counts:
        return _no_pool(report) or "the pool was not labelled"
    name, n = min(counts.items(), key=lambda item: item[1])
    return Figure(n / max(sum(counts.values()), 1), of=f"the rarest, {name}")


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


def _eval_rows(report: Mapping) -> Figure | str:
    return Figure((report["student"] or {}).get("n") or 0)


FIGURES: dict[str, Callable[[Mapping], Figure | str]] = {
    "coverage": _annotated("coverage"),
    "failed": _annotated("n_failed", share=True),
    "teacher_accuracy": _measured("teacher", "accuracy"),
    "accuracy": _measured("student", "accuracy"),
    "macro_f1": _macro_f1,
    "ece": _measured("student", "ece"),
    "each_class_recall": _recall,
    "eval_rows": _eval_rows,
    "student_less_teacher": _difference("student_less_teacher", "both must be measured against people's labels"),
    "student_less_baseline": _difference("student_less_baseline", "there is no baseline measured on the same texts"),
    "each_class_silver": _silver,
    "each_class_share": _share,
    "noise": _noise,
    "slice_difference": _slice,
    "drift_p": _drift("p"),
    "drift_auc": _drift("auc"),
}
"""
What conditions can be about. Accuracies, shares and differences count from 0 to 1: two points are 0.02.

`coverage`, `failed`: shares of the annotated texts. `teacher_accuracy`: on annotated texts with gold. `accuracy`, `macro_f1`,
`ece`, `each_class_recall` (of the worst class), `eval_rows`: the student's on held-out gold. `student_less_teacher`,
`student_less_baseline`: differences of accuracy. `each_class_silver`: silver rows of the rarest class. `each_class_share`: share
of the pool that the rarest class was given. `noise`: see [`likely_label_errors`]. `slice_difference`: accuracy of the worst slice
less that elsewhere, 0 if none is worse beyond chance. `drift_p`, `drift_auc`: see [`measure_drift`].
"""
