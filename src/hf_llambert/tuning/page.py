"""What a choice writes for people: the task file, a page and its figure. Texts and names are shown as text."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader

from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import shorten, visible
from hf_llambert.tuning.lines import TASK_FILE, annotate_command, found_lines, price_lines, way_name
from hf_llambert.whole import whole_file, write_whole

logger = get_logger(__name__)

_COLORS = {"given": "#000000", "variant": "#0072b2", "built-in": "#d55e00", "written": "#009e73"}
"""Okabe and Ito's."""
_SIGNS = {"given": "s", "variant": "o", "built-in": "D", "written": "^"}
_DRAWN = 25


def write_pages(output: Path, results: Mapping) -> None:
    """Write `tuned.yaml`, `tune.png` and `tune.html` into a run, from the note of its choice. A task file that is there stays."""
    chosen = results["chosen"]
    about = [
        f"Chosen by hf-llambert tune: {way_name(chosen)}.",
        "Annotate with it: " + annotate_command(chosen, "RUN", "--data DATA --teacher TEACHER"),
    ]
    head = "".join(f"# {' '.join(visible(line).split())}\n" for line in about)
    task = yaml.safe_dump(results["task"], sort_keys=False, allow_unicode=True)
    if not (output / TASK_FILE).exists():
        write_whole(output / TASK_FILE, head + task)
    elif (output / TASK_FILE).read_bytes() != (head + task).encode():
        logger.warning("'%s' was changed since it was chosen, and stays as it is.", output / TASK_FILE)
    with whole_file(output / "tune.png") as part:
        draw(part, results)
    write_whole(output / "tune.html", tune_page(results, output / "tune.png"))


def tune_page(results: Mapping, figure: Path) -> str:
    """The page of a choice: opens from disk, loads nothing, runs no script."""
    environment = Environment(
        loader=PackageLoader("hf_llambert.tuning"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = lambda value: visible(value) if type(value) is str else value
    task = TaskSpec.from_dict(results["task"])
    fields = [f"[{name}]" for name in task.fields]
    asked = task.messages("\ufdd1".join(fields))
    return environment.get_template("tune.html.jinja").render(
        name=task.name,
        found=list(found_lines(results)),
        prices=list(price_lines(results)),
        rows=[_row(one, results) for one in ordered(results)],
        by=results["by"],
        currency=results["currency"],
        left_out=results["left_out"],
        rounds=results["rounds"],
        asked=asked,
        answer=task.lead_in if task.chat else "",
        yaml=yaml.safe_dump(results["task"], sort_keys=False, allow_unicode=True),
        n_examples=results["n_examples"],
        n_rows=results["n_rows"],
        figure=base64.b64encode(figure.read_bytes()).decode(),
    )


def best_calibration(one: Mapping, by: str) -> str:
    """The calibration that a prompt did best with."""
    of_each = one["calibrations"]
    return max(of_each, key=lambda name: of_each[name]["right"]) if by == "gold" else next(iter(of_each))


def ordered(results: Mapping) -> list[Mapping]:
    """The prompts, those first that stayed longest, and of these the best."""

    def place(one: Mapping) -> tuple[float, float]:
        figures = one["calibrations"][best_calibration(one, results["by"])]
        return one["n"], figures["right"] if results["by"] == "gold" else figures["information"]

    return sorted(results["prompts"], key=place, reverse=True)


def _row(one: Mapping, results: Mapping) -> dict[str, Any]:
    calibration = best_calibration(one, results["by"])
    chosen, given = results["chosen"], results["given"]
    if one["name"] == chosen["name"]:
        calibration = chosen["calibration"]
    figures = one["calibrations"][calibration]
    marks = [mark for mark, way in (("best", chosen), ("as given", given)) if mark != way["name"] == one["name"]]
    return {
        **one,
        **figures,
        "calibration": calibration,
        "marks": ", ".join(marks),
        "marked": bool(marks) or one["name"] == given["name"],
        "each": {name: of_one.get("right", of_one.get("information")) for name, of_one in one["calibrations"].items()},
    }


def draw(path: Path, results: Mapping) -> None:
    """
    Each prompt at the round in which it left: how often it is right with its interval, or how much its answers tell, and
    beside it the tokens that a text takes.
    """
    from matplotlib.figure import Figure  # half a second, which no other command pays

    shown = ordered(results)[:_DRAWN]
    by_gold = results["by"] == "gold"
    figure = Figure(figsize=(9, 1.6 + 0.3 * len(shown)), layout="constrained")
    axes, tokens = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    last = max(one["n"] for one in results["prompts"])
    for origin, color in _COLORS.items():
        places = [k for k, one in enumerate(shown) if one["origin"] == origin]
        if not places:
            continue
        rows = [_row(shown[k], results) for k in places]
        value = np.array([row["right"] if by_gold else row["information"] for row in rows], dtype=float)
        reach = None
        if by_gold:
            reach = np.maximum([value - [r["low"] for r in rows], [r["high"] for r in rows] - value], 0)
        full = [color if row["n"] == last else "white" for row in rows]
        axes.errorbar(value, places, xerr=reach, fmt="none", ecolor=color, elinewidth=1, capsize=2)
        axes.scatter(value, places, c=full, edgecolors=color, marker=_SIGNS[origin], zorder=3, s=36)
        axes.scatter([], [], c=color, marker=_SIGNS[origin], label=origin)
        tokens.barh(places, [row["input_tokens"] + row["output_tokens"] for row in rows], color=color, height=0.6)
    axes.scatter([], [], c="white", edgecolors="grey", label="left in an earlier round, on fewer texts")
    given = results["given"]["right" if by_gold else "information"]
    axes.axvline(given, color="grey", linestyle=":", label="the prompt as given")
    best = results["chosen"]["name"]
    names = [f"{'best: ' if one['name'] == best else ''}{shorten(visible(one['name']), 60, 0.7)}" for one in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    axes.set(xlabel=_axis(results), ylim=(len(shown) - 0.4, -0.6))
    tokens.set(xlabel="tokens a text")
    more = len(results["prompts"]) - len(shown)
    title = f"Which prompt is best: {results['n_rows']:,} texts" + (
        f", {more} weaker prompts not drawn" if more else ""
    )
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of a script that the font lacks
        figure.savefig(path, dpi=150, format="png")


def _axis(results: Mapping) -> str:
    if results["by"] == "gold":
        return "share right with its best calibration, 95 % interval (Wilson)"
    return "information of its answers, batch calibration (no gold)"
