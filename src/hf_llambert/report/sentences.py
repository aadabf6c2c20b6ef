"""What was found, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

_LEVEL = 0.05


def finding_sentences(report: Mapping) -> list[str]:
    """What was found, a sentence each, for every form of a report."""
    out, noise, drift = [*report.get("left_out", {}).values()], report.get("noise"), report.get("drift")
    if noise and noise["share"] is not None:
        out.append(
            f"About {noise['share']:.1%} of the teacher's labels contradict how it labels similar texts (confident learning, no "
            f"gold; errors that it always makes are not counted)."
        )
    if report.get("advice"):
        said = report["advice"]["sentence"]
        out.append(f"{said[0].upper()}{said[1:]}.")
    if drift and drift["p"] is None:
        out.append(str(drift["why"]))
    elif drift:
        words = {side: ", ".join(drift["words"][side][:5]) for side in ("pool", "sample")}
        apart = "".join(f"; more in the {side}: {found}" for side, found in words.items() if found)
        if drift["p"] >= _LEVEL:
            out.append(
                f"The labelled pool reads like the annotated sample (a classifier tells them apart with AUC {drift['auc']:.2f}, "
                f"p = {drift['p']:.2g})."
            )
        else:
            out.append(
                f"The labelled pool is of another kind than the annotated sample (a classifier tells them apart with AUC "
                f"{drift['auc']:.2f}, p = {drift['p']:.1g}{apart}). The student's accuracy there may be another."
            )
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
