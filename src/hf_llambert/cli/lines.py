"""What the commands say of each question of a task: counts of its answers, and how good they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hf_llambert.cli.options import pairs, reason_lines
from hf_llambert.headline import MAIN, NAMES

if TYPE_CHECKING:
    from hf_llambert import TaskSpec

_NAMES = {**NAMES, "macro_f1": "macro-F1", "mae": "MAE"}
_RIGHT = {"choice": "accuracy", "choices": "share with all labels right", "scale": "share within half a step"}
_BESIDE = {"choice": "macro_f1", "choices": "macro_f1", "scale": "mae"}


def questions_of(results: Mapping) -> dict[str, Mapping]:
    """Results by question, as the notes of a stage have them; of the only one by the empty name."""
    return dict(results["questions"]) if "questions" in results else {"": results}


def figure(quality: Mapping, name: str) -> str:
    """A figure with its 95 % interval: a share in percent, others as they are."""
    value, low, high = (quality.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return f"none ({quality.get('undefined', {}).get(name, 'it has no value')})"

    def one(number: float) -> str:
        return f"{number:.1%}" if name == "accuracy" else f"{number:.3f}"

    return one(value) + (f" ({one(low)} to {one(high)})" if low is not None and high is not None else "")


def main_figure(quality: Mapping, kind: str) -> str:
    """The figure that a kind of question is measured by, with its name."""
    return f"{_NAMES[MAIN[kind]]} {figure(quality, MAIN[kind])}"


def answer_lines(results: Mapping, task: TaskSpec, member: str = "") -> Iterator[str]:
    """What came of annotating: the counts, the reasons and the agreement with gold of each question."""
    found = questions_of(results)
    beginning = f"{member}: " if member else ""
    if "" not in found:
        failed = f", {results['n_failed']:,} failed" if results["n_failed"] else ""
        yield f"{beginning}{results['n_rows']:,} texts, {len(found)} questions{failed}"
    for name, one in found.items():
        counts = f"{one['n_ok']:,} ok, {one['n_abstained']:,} abstained, {one['n_failed']:,} failed. Labels: "
        if name:
            yield f"{beginning}{name}: {counts}{pairs(one['labels']) or 'none'}"
        else:
            yield f"{beginning}{one['n_rows']:,} texts: {counts}{pairs(one['labels'])}"
        yield from reason_lines(one)
        if quality := one.get("quality"):
            kind = task.parts[name].question.kind
            said = figure(quality, "accuracy") if kind == "choice" else main_figure(quality, kind)
            yield f"{f'{name}: ' if name else ''}agreement with gold {said}, coverage {one['coverage']:.1%}"


def quality_lines(found: Mapping, task: TaskSpec) -> Iterator[str]:
    """How good a student is on held-out texts, a line for each question."""
    for name, one in task.parts.items():
        quality, kind = (found.get(name) if name else found), one.question.kind
        if not quality:
            yield f"{name}: not measured, no held-out text has people's answers to it"
            continue
        known = len(quality.get("macro_f1_classes", one.labels))
        yield (
            (f"{name}: " if name else "")
            + f"{main_figure(quality, kind)}, {_NAMES[_BESIDE[kind]]} {quality[_BESIDE[kind]] or 0:.3f} on {quality['n']:,} "
            + "held-out texts"
            + (f" (over {known} of {one.num_labels} classes)" if known < one.num_labels else "")
        )


def seed_lines(summary: Mapping, task: TaskSpec) -> Iterator[str]:
    """What [`train_seeds`] found, two lines for each question."""
    number, several = len(summary["seeds"]), "questions" in summary
    for name, one in task.parts.items():
        question, begin = one.question, f"{name}: " if name else ""
        found = summary["questions"].get(question.name) if several else summary
        if found is None:
            yield f"{begin}not measured, no held-out text has people's answers to it"
            continue
        for each in (MAIN[question.kind], _BESIDE[question.kind]):
            spread = found.get(each)
            if spread is None:
                yield f"{begin}{_NAMES[each]} over {number} seeds: none, some of them has no value"
                continue
            form = ".3f" if several and each != "accuracy" else ".1%"
            mean, low, high = (format(spread[end], form) for end in ("mean", "low", "high"))
            yield f"{begin}{_NAMES[each]} over {number} seeds: {mean}, 95 % interval {low} to {high}"


def curve_lines(curve: Mapping, task: TaskSpec) -> Iterator[str]:
    """What more labels are worth by a [`learning_curve`], a line for each question."""
    from hf_llambert import worth_of_labels

    sizes = curve["sizes"]
    more = min(500, max(sizes))
    if "questions" not in curve:
        yield worth_of_labels(sizes, curve["accuracy"], more)["sentence"]
        return
    for name, one in task.parts.items():
        begin, found = f"{name}: " if name else "", curve["questions"].get(one.question.name)
        if found is None:
            yield f"{begin}not measured, no held-out text has people's answers to it"
        elif None in found["values"]:
            yield f"{begin}{_NAMES[found['figure']]} has no value for some students, so nothing is said of more labels"
        else:
            yield f"{begin}in {_NAMES[found['figure']]} {worth_of_labels(sizes, found['values'], more)['sentence']}"


def against_lines(report: Mapping, other: object) -> Iterator[str]:
    """How a run's student compares with that of another, a line for each question."""
    from hf_llambert import TaskSpec

    task = TaskSpec.from_dict(report["task"])
    for name, one in task.parts.items():
        begin, found = f"{name}: " if name else "", (report["questions"][name] if name else report).get("against")
        if found is None:
            yield f"{begin}not compared, no held-out text has people's answers to it for both"
            continue
        yield (
            f"{begin}{_RIGHT[one.question.kind]} of this run's student less that of {other}: {found['difference']:+.1%}, "
            f"95 % interval {found['low']:+.1%} to {found['high']:+.1%} (paired bootstrap; {found['runs']} pair(s) of "
            f"students, {found['n']:,} texts)"
        )


def unanswered(results: Mapping) -> str | None:
    """A sentence where no text got an answer to a question; `None` where each has some."""
    without = [name for name, one in questions_of(results).items() if not one["n_ok"]]
    if not without:
        return None
    if without == [""]:
        return "No text got a label; the reasons stand above."
    return f"No text got an answer to {', '.join(without)}; the reasons stand above."


def annotated_line(results: Mapping, task: TaskSpec) -> str:
    """What came of annotating, on one line; of several questions each in its turn."""
    parts, several = [], "questions" in results
    for name, one in questions_of(results).items():
        given = pairs(one["labels"]) or "no label"
        line = f"{one['n_ok']:,} of {one['n_rows']:,} {'answered' if several else 'texts labelled'} ({given})"
        for what in ("abstained", "failed"):
            line += f", {one[f'n_{what}']:,} {what}" if one[f"n_{what}"] else ""
        if quality := one.get("quality"):
            kind = task.parts[name].question.kind
            said = figure(quality, "accuracy") if kind == "choice" else main_figure(quality, kind)
            line += f"; agreement with gold {said}"
        parts.append(f"{name}: {line}" if name else line)
    return " | ".join(parts)


def trained_line(found: Mapping, task: TaskSpec) -> str:
    """How good a student is on held-out texts, on one line."""
    if "n" in found:
        return f"{main_figure(found, task.question.kind)} on {found['n']:,} held-out texts"
    return (
        ", ".join(
            f"{name} {main_figure(found[name], one.question.kind)} on {found[name]['n']:,}"
            if found.get(name)
            else f"{name} not measured"
            for name, one in task.parts.items()
        )
        + " held-out texts"
    )
