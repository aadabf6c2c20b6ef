"""What the answers of several prompts come to: how good each is, which is best, and how surely."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hf_llambert.annotation.limits import Limits
from hf_llambert.intervals import wilson_interval
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tuning.asking import Answers
from hf_llambert.tuning.candidates import Prompt
from hf_llambert.tuning.halving import Choice, agreement, choose, information
from hf_llambert.tuning.rows import Rows


def merit(one: Answers, rows: Rows) -> tuple[float, float]:
    """What a round ranks by: how often the best calibration is right, then how probable it finds what is."""
    if not rows.gold:
        first = next(iter(one.probabilities.values()), None)
        return 0.0 if first is None else _information(first), 0.0
    return max((float(_right(one, name, rows).mean()), _belief(one, name, rows)) for name in one.answers)


def _right(one: Answers, calibration: str, rows: Rows) -> NDArray[np.bool_]:
    """Whether each answer is right; a missing one is not."""
    question, answers = one.prompt.task.question, one.answers[calibration]
    out = np.zeros(len(answers), dtype=bool)
    there = [row for row, answer in enumerate(answers) if question.is_answer(answer)]
    if there:
        out[there] = question.right([answers[row] for row in there], [rows.gold[row] for row in there])
    return out


def _belief(one: Answers, calibration: str, rows: Rows) -> float:
    """The mean probability of what people said; 0 without scores."""
    if calibration not in one.probabilities:
        return 0.0
    found = one.probabilities[calibration]
    return float(np.nansum(one.prompt.task.question.targets(rows.gold[: len(found)]) * found) / len(found))


def _information(probabilities: NDArray[np.float64]) -> float:
    """How much the answers tell; those that a text lacks tell nothing."""
    known = _known(probabilities)
    return information(known) * len(known) / len(probabilities) if len(known) else 0.0


def _known(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return probabilities[~np.isnan(probabilities).any(1)]


def results_of(
    task: TaskSpec,
    found: Mapping[Prompt, Answers],
    left: Mapping[Prompt, int],
    rows: Rows,
    estimate: Mapping,
    left_out: Mapping[str, str],
    limits: Limits,
) -> dict:
    """The note: what each prompt gave, which way was chosen and how surely."""
    finalists = [prompt for prompt in found if prompt not in left]
    ways = [(prompt, name) for prompt in finalists for name in found[prompt].answers]
    agreeing = dict(
        agreement(
            {str(k): found[prompt].answers[next(iter(found[prompt].answers))] for k, prompt in enumerate(finalists)}
        )
        if not task.questions and len(finalists) > 2
        else ()
    )
    if rows.gold:
        right = np.array([_right(found[prompt], name, rows) for prompt, name in ways])
        chosen = choose(right, [_belief(found[prompt], name, rows) for prompt, name in ways])
        best = ways[chosen.best]
        sure = _sure(chosen)
    else:
        scored = [(p, next(iter(found[p].probabilities))) for p in finalists if found[p].probabilities]
        if not scored:
            raise ValueError(
                "No prompt got probabilities of the labels, and without gold there is nothing else to choose by. Label some "
                "texts, and pass them with --gold."
            )
        best = max(scored, key=lambda way: merit(found[way[0]], rows))
        sure = {}
    table = []
    for prompt, one in found.items():
        table.append(
            _row(one, rows, limits)
            | {
                "left": left.get(prompt),
                "agreement": agreeing.get(str(finalists.index(prompt))) if prompt in finalists else None,
            }
        )
    by_name = {row["name"]: row for row in table}
    return {
        "by": "gold" if rows.gold else "information",
        "n_rows": len(rows.texts),
        "n_examples": len(rows.shown),
        **estimate,
        "left_out": dict(left_out),
        "currency": limits.currency,
        "prompts": table,
        "given": _way(by_name[finalists[0].name], ways[0][1]),
        "chosen": {**_way(by_name[best[0].name], best[1]), **sure},
        "task": dataclasses.replace(best[0].task, name=task.name).to_dict(),
    }


def _sure(chosen: Choice) -> dict:
    return {
        "difference": dict(zip(("value", "low", "high"), chosen.difference, strict=True)),
        "expected": chosen.expected,
        "gain": dict(zip(("value", "low", "high"), chosen.gain, strict=True)),
        "surely_best": chosen.surely_best,
        "better": chosen.better,
    }


def _row(one: Answers, rows: Rows, limits: Limits) -> dict:
    """The figures of a prompt."""
    cost = limits.cost if callable(limits.cost) else None
    calibrations = {}
    for name, answers in one.answers.items():
        there = sum(map(one.prompt.task.question.is_answer, answers))
        figures: dict = {"coverage": there / len(answers)}
        if rows.gold:
            hits = int(_right(one, name, rows).sum())
            low, high = wilson_interval(hits, len(answers))
            figures |= {"right": hits / len(answers), "low": low, "high": high}
        if not one.prompt.task.questions and (name in one.probabilities or not rows.gold):
            given = one.probabilities.get(name, np.empty((0, 2)))
            known = _known(given)
            figures["information"] = _information(given)
            figures["confidence"] = float(known.max(1).mean()) if len(known) else 0.0
        calibrations[name] = figures
    return {
        "name": one.prompt.name,
        "origin": one.prompt.origin,
        "mode": one.prompt.mode,
        "n": len(next(iter(one.answers.values()))),
        "n_shown": len(one.prompt.task.examples),
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        "seconds": one.seconds,
        "money": None if cost is None else cost(one.seconds, one.input_tokens, one.output_tokens),
        "calibrations": calibrations,
    }


def _way(row: Mapping, calibration: str) -> dict:
    """The figures of a prompt with one calibration."""
    own = {name: value for name, value in row.items() if name != "calibrations"}
    return {**own, "calibration": calibration, **row["calibrations"][calibration]}
