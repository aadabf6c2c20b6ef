"""What a comparison of prompts found, in sentences: for the terminal and the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

TASK_FILE = "tuned.yaml"
STUDIES = "docs/studies.md#prompts"


def tune_lines(results: Mapping, output: str | Path, words: str = "") -> list[str]:
    """
    What [`tune_task`] found, a sentence each.

    Args:
        results (`Mapping`): What it returned.
        output (`str` or `Path`): Folder of the run.
        words (`str`, defaults to none): What the command line says about data and teacher, for the command that comes next.
    """
    chosen = results["chosen"]
    return [
        *found_lines(results),
        *price_lines(results),
        *(f"left out: {name}: {' '.join(why.split())[:200]}" for name, why in results["left_out"].items()),
        f"written to {Path(output) / TASK_FILE}, with {Path(output) / 'tune.html'}; annotate with it: "
        f"{annotate_command(chosen, output, words)}",
    ]


def annotate_command(chosen: Mapping, output: str | Path, words: str = "") -> str:
    """The command that annotates as it was chosen."""
    task, folder = shlex.quote(str(Path(output) / TASK_FILE)), shlex.quote(str(output))
    file = next((word for word in shlex.split(words) if word.endswith((".yaml", ".yml"))), None)  # of the teacher
    mode = "" if file else f" --mode {chosen['mode']}"
    noted = f"  # with 'mode: {chosen['mode']}' in {file}" if file else ""
    return (
        f"hf-llambert annotate --task {task}{f' {words}' if words else ''}{mode} --calibration {chosen['calibration']} "
        f"--output {folder}{noted}"
    )


def found_lines(results: Mapping) -> Iterator[str]:
    """Which prompt is best, and how surely."""
    chosen, given, n = results["chosen"], results["given"], results["n_rows"]
    last = sum(one["n"] == n for one in results["prompts"])
    compared = f"{len(results['prompts'])} prompts compared, {last} of them on all {n:,} texts"
    if results["by"] != "gold":
        yield f"best: {way_name(chosen)}, of {compared}, by what its answers tell (information {chosen['information']:.3f})"
        yield (
            f"no gold entered: how often it is right is not known. In the studies a prompt chosen so was about 3 points behind "
            f"the best, and the interval reached to 11 ({STUDIES}); 100 gold rows (--gold) say it of yours"
        )
        return
    yield f"best: {way_name(chosen)}, {_share(chosen)} right; {compared}"
    if _same(chosen, given):
        yield "that is the prompt as given: no other was right more often"
    else:
        yield (
            f"the prompt as given: {_share(given)}; difference {_points(chosen['difference'])}, better with a probability of "
            f"{chosen['better']:.0%}"
        )
    yield (
        f"how sure: with a probability of {chosen['surely_best']:.0%} none of the others in the last round is right more often"
    )
    gain = "" if _same(chosen, given) else f", {_points(chosen['gain'])} to the prompt as given"
    yield (
        f"on other texts expect about {chosen['expected']:.1%}{gain}: the {n:,} texts that chose it flatter it, and later "
        f"promises of this run leave them out"
    )


def price_lines(results: Mapping) -> Iterator[str]:
    """What a text costs with the best prompt, and with the one that was given."""
    for name, one in (("best", results["chosen"]), ("as given", results["given"])):
        money = "" if one["money"] is None else f", {one['money'] * 1000:,.4g} {results['currency']} a thousand texts"
        yield (
            f"{name}: {one['input_tokens']:,.0f} tokens a text read, {one['output_tokens']:,.0f} written, "
            f"{one['seconds']:.2f} s{money}"
        )


def estimate_line(estimate: Mapping) -> str:
    """What will be asked at most, before anybody is."""
    steps = ", ".join(f"{one['prompts']} prompts on {one['rows']} texts" for one in estimate["rounds"])
    return f"at most {estimate['n_requests']:,} requests ({estimate['n_prompts']} prompts): {steps}"


def way_name(one: Mapping) -> str:
    """A prompt with its calibration."""
    return f"{one['name']}, calibration {one['calibration']}"


def _same(one: Mapping, other: Mapping) -> bool:
    return (one["name"], one["calibration"]) == (other["name"], other["calibration"])


def _share(one: Mapping) -> str:
    return f"{one['right']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def _points(found: Mapping) -> str:
    return f"{100 * found['value']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
