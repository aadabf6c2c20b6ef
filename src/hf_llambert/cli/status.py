"""`hf-llambert status`: what is in a run, what is next, what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.options import Prices, say

_LEFT = 3  # the exit status where something is left to do
_SHOWN = {"none": "not begun", "old": "outdated"}


def status(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    prices: Prices = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """
    What is in a run, what is next, and what it cost; quickly, from its notes.

    Exits with 0 where nothing is left to do, with 3 where something is, and with 1 where it is no run, something in it is
    damaged or it misses its gate.
    """
    from hf_llambert.report.status import run_status

    found = run_status(run, prices)
    if as_json:
        say(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for line in _lines(found):
            say(line)
    if any(one["state"] == "damaged" for one in found["stages"]) or (found["finished"] and found["passed"] is False):
        raise typer.Exit(1)
    if not found["finished"]:
        raise typer.Exit(_LEFT)


def _lines(found: dict) -> list[str]:
    """One line for each stage, then what is next and what it cost."""
    out = [f"{found['run']}: {found['task'] or 'task not known yet'}"]
    for one in found["stages"]:
        rows = "" if one["rows"] is None else f"{one['rows']:,}"
        if one["of"] is not None and one["of"] != one["rows"]:
            rows += f" of {one['of']:,}" if rows else f"of {one['of']:,}"
        when = (one["when"] or "")[:16].replace("T", " ")
        line = f"  {one['name']:<9} {_SHOWN.get(one['state'], one['state']):<10} {rows:>16}  {when:<16}  {one['says']}"
        out.append(line.rstrip())
    cost, seconds = found["cost"], found["cost"]["seconds"]
    parts = [f"{seconds[name]:,.0f} s to {name}" for name in seconds if seconds[name] is not None]
    if cost["input_tokens"] is not None:
        parts.insert(0, f"{cost['input_tokens']:,.0f} tokens in, {cost['output_tokens']:,.0f} out")
    if cost["money"] is not None:
        parts.append(f"{cost['money']:,.4g} {cost['currency']}")
    if parts:
        out.append(f"cost: {'; '.join(parts)}")
    out += [f"note: {note}" for note in found["notes"]]
    if found["next"] is not None:
        out.append(f"next: {found['next']}")
    elif found["finished"]:
        out.append("next: nothing is left to do" + ("" if found["passed"] is not False else " but to meet the gate"))
    else:
        out.append("next: mend what is damaged, as it says above")
    return out
