"""The gate: conditions that a run must meet before anything of it is published."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from hf_llambert.misfits import misfit
from hf_llambert.quality.gate_figures import FIGURES, Figure, figure_of

GATE_FILE = "gate.yaml"
_KEYS = {"at_least", "at_most", "certain"}


class GateMissed(RuntimeError):
    """A run does not meet its conditions, so that nothing of it is published."""


@dataclass(frozen=True)
class Condition:
    """
    What is asked of a figure.

    Args:
        name (`str`): The figure; see [`FIGURES`]. Of one of several questions `QUESTION.figure`.
        at_least (`float`, *optional*): Least value.
        at_most (`float`, *optional*): Largest value. One of the two is needed.
        certain (`bool`, defaults to `False`): Ask it of the end of the 95 % interval, not of the estimate.
    """

    name: str
    at_least: float | None = None
    at_most: float | None = None
    certain: bool = False

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            near = difflib.get_close_matches(self.figure, FIGURES, 1)
            raise ValueError(
                f"The gate knows no figure '{self.figure}'.{f' Did you mean {near[0]}?' if near else ''} It knows "
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

    @property
    def question(self) -> str:
        """The question that it is about; nothing where none is named."""
        return self.name.rpartition(".")[0]

    @property
    def figure(self) -> str:
        """The figure, without its question."""
        return self.name.rpartition(".")[2]

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
    meet it. Of one of several questions `QUESTION.figure: {...}`, or `QUESTION: {figure: {...}, ...}`.

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
        names = _written_names(tree)
        twice = sorted({str(key) for key in names if names.count(key) > 1})
        if twice:  # YAML would keep the last alone
            raise ValueError(f"{name} has two conditions for {', '.join(twice)}. Keep one for each figure.")
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"Expected figures with their conditions in {name}, such as 'coverage: {{at_least: 0.95}}'.")
    flat = dict(pair for one, asked in found.items() for pair in _flat(str(one), asked))
    for figure, asked in flat.items():
        if not isinstance(asked, Mapping) or not set(asked) <= _KEYS:
            raise ValueError(
                f"Expected {{at_least: number}} or {{at_most: number}}, and certain: true if wanted, for '{figure}' in {name}; "
                f"got {asked!r}."
            )
    return [Condition(figure, **asked) for figure, asked in flat.items()]


def _flat(name: str, asked: Mapping) -> list[tuple[str, Mapping]]:
    """A condition by its figure; those of a question by `QUESTION.figure`."""
    if isinstance(asked, Mapping) and asked and all(isinstance(one, Mapping) for one in asked.values()):
        return [(f"{name}.{figure}", one) for figure, one in asked.items()]
    return [(name, asked)]


def _written_names(tree: yaml.Node | None) -> list[str]:
    """The names of conditions as they stand in a file, those that YAML would drop too."""
    out = []
    for key, value in tree.value if isinstance(tree, yaml.MappingNode) else []:
        inner = value.value if isinstance(value, yaml.MappingNode) else []
        if inner and all(isinstance(one, yaml.MappingNode) for _, one in inner):
            out += [f"{key.value}.{figure.value}" for figure, _ in inner]
        else:
            out.append(str(key.value))
    return out


def check_gate(report: Mapping, conditions: Sequence[Condition]) -> dict:
    """
    Judge a run by its report.

    Args:
        report (`Mapping`): The content of `report.json`; see [`write_report`].
        conditions (`Sequence[Condition]`): All must be met. A figure that was not measured meets none.

    Returns:
        `dict`: `passed`, and `conditions` with `name`, `wanted`, `got`, `value`, `passed` and `why` of each.

    Raises:
        ValueError: A condition is about a question that the task has not, or about a figure that the question has not; or it
            does not say which of several questions it is about.
    """
    judged = [one.judge(figure_of(report, one.question, one.figure)) for one in conditions]
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
