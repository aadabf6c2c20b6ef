"""What was found, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from hf_llambert.pool.labelled import promises_said, stage_sentences
from hf_llambert.quality.report_parts import question_reports
from hf_llambert.report.kinds import OF_KIND
from hf_llambert.tasks.spec import TaskSpec

_LEVEL = 0.05


def finding_sentences(report: Mapping) -> list[str]:
    """What was found, a sentence each, for every form of a report; of several questions what is of the texts."""
    out = [*report.get("left_out", {}).values()]
    if "questions" in report:
        return out + _drift_sentences(report)
    before, after = _question_sentences(report)
    return [*out, *before, *_drift_sentences(report), *after]


def question_sentences(report: Mapping) -> list[str]:
    """What was found about one of several questions, in the report as it sees it."""
    before, after = _question_sentences(report)
    return [*before, *after]


def stages_said(report: Mapping) -> list[str]:
    """
    What a cascade promises of the pool, and what each of two students, and the teacher after them, answered, a sentence each.
    """
    found = report["cascade"] or report["labels"] or {}
    parts = {"": found}
    if "questions" in found:
        parts = found["questions"]
    elif "questions" in report:
        parts = {name: {"by_stage": counts} for name, counts in found.get("by_stage", {}).items()}
    promised = promises_said(report["cascade"]) if report["cascade"] else []
    return promised + [
        f"{name}: {line}" if name else line
        for name, one in parts.items()
        for line in stage_sentences(one.get("by_stage", {}), (one.get("gold") or {}).get("by_stage"))
    ]


def worth_told(report: Mapping, advice: bool = True) -> list[str]:
    """
    What the encoder is worth beyond counting words, a sentence for each question that both were measured on; with what to do
    about it.
    """
    out = []
    for name, seen in question_reports(report).items():
        found = (seen.get("student") or {}).get("linear")
        if found:
            said = found["sentence"] + (f": {found['advice']}" if advice and found["advice"] else "")
            said = f"{name}: {said}" if name else said
            out.append(f"{said[0].upper()}{said[1:]}.")
    return out


def _question_sentences(report: Mapping) -> tuple[list[str], list[str]]:
    noise, out = report.get("noise"), []
    task = TaskSpec.from_dict(report["task"])
    if note := OF_KIND[task.question.kind].note(task.question):
        out.append(note)
    if noise and noise["share"] is not None:
        out.append(
            f"About {noise['share']:.1%} of the teacher's labels contradict how it labels similar texts (confident learning, no "
            f"gold; errors that it always makes are not counted)."
        )
        per_label = {name: share for name, share in (noise.get("per_label") or {}).items() if share}
        worst = sorted(per_label.items(), key=lambda one: -one[1])[:3]
        if worst:
            out.append(f"Most in {', '.join(f'{name} ({share:.1%})' for name, share in worst)}, of all texts.")
    if report.get("advice"):
        said = report["advice"]["sentence"]
        out.append(f"{said[0].upper()}{said[1:]}.")
    return out, [*_source_sentences(report), *_slice_sentences(report)]


def _drift_sentences(report: Mapping) -> list[str]:
    drift = report.get("drift")
    if not drift:
        return []
    if drift["p"] is None:
        return [str(drift["why"])]
    words = {side: ", ".join(drift["words"][side][:5]) for side in ("pool", "sample")}
    apart = "".join(f"; more in the {side}: {found}" for side, found in words.items() if found)
    if drift["p"] >= _LEVEL:
        return [
            f"The labelled pool reads like the annotated sample (a classifier tells them apart with AUC {drift['auc']:.2f}, "
            f"p = {drift['p']:.2g})."
        ]
    return [
        f"The labelled pool is of another kind than the annotated sample (a classifier tells them apart with AUC "
        f"{drift['auc']:.2f}, p = {drift['p']:.1g}{apart}). The student's accuracy there may be another."
    ]


def _slice_sentences(report: Mapping) -> list[str]:
    out = []
    for who, found in (report.get("slices") or {}).items():
        worse = [row for row in found or [] if row["p_adjusted"] < _LEVEL and row["difference"] < 0][:3]
        out += [
            f"The {who} is right less often where {row['kind']} is {row['name']}: {row['accuracy']:.1%} ({row['low']:.1%} to "
            f"{row['high']:.1%}) of {row['n']:,}, {100 * row['difference']:+.1f} points against the rest."
            for row in worse
        ]
        if found and not worse:
            out.append(
                f"No slice was found on which the {who} is right less often than elsewhere, of {len(found)} shown."
            )
    return out


def _source_sentences(report: Mapping) -> list[str]:
    out, looked_at = (
        [],
        [found for found in report.get("sources") or [] if found["foretold"]["teacher"]["auc"] is not None],
    )
    for found in looked_at:
        column, told = f"Column {found['column']} alone foretells", found["foretold"]
        for who, less in found["less_gold"].items():
            if less["low"] is not None and less["low"] > 0:
                out.append(
                    f"{column} the {who}'s labels better than people's, with AUC {_between(told[who], 'auc')} against "
                    f"{_between(told['gold'], 'auc')}: {_between(less, 'difference', '+.2f')}, on {found['n']:,} texts. The "
                    f"{who} follows it more than people do."
                )
        if "gold" not in told:
            sure = [who for who, one in told.items() if one["low"] is not None and one["low"] > 0.5]
            out += [
                f"{column} the {who}'s labels with AUC {_between(told[who], 'auc')} (0.5: not at all), on {found['n']:,} texts; "
                f"whether it foretells people's too is not known, for lack of them."
                for who in sure
            ]
    if looked_at and not out:
        names = ", ".join(found["column"] for found in looked_at)
        than = (
            "better than people's" if any("gold" in found["foretold"] for found in looked_at) else "better than chance"
        )
        out.append(f"No column was found that foretells the labels certainly {than}, of {names}.")
    return out


def _between(found: Mapping, name: str, form: str = ".2f") -> str:
    between = "" if found["low"] is None else f" ({found['low']:{form}} to {found['high']:{form}})"
    return f"{found[name]:{form}}{between}"
