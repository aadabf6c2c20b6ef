"""What the studies share: a table, a figure and a page of what was found."""

from __future__ import annotations

import base64
import csv
import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))  # a script sees its own folder only; recipes/common.py is above

from common import (  # noqa: E402, F401  (the studies import them from here)
    RunArguments,
    annotated,
    check_processes,
    learn,
    make_teacher,
    run_recipe,
    run_script,
    seeded,
    short_name,
    split_rows,
)

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#767676"
"""Okabe and Ito's colours, told apart by colour-blind readers too."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
div { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } pre { overflow-x: auto; white-space: pre-wrap; }
""".strip()


def write_study(
    folder: str | Path,
    title: str,
    question: str,
    rows: Sequence[Mapping[str, object]],
    figures: Mapping[str, Figure],
    findings: Sequence[str],
    how: Sequence[str],
) -> None:
    """
    Write `table.json`, `table.csv`, one PNG for each figure and `page.html`, which needs no other file.

    Args:
        folder (`str` or `Path`): Folder of the study.
        title (`str`): Its name.
        question (`str`): What it asks, in one sentence.
        rows (`Sequence[Mapping]`): The table; all rows have the same columns. Shares are numbers from 0 to 1 and are shown
            as percentages where the column's name ends with `%`.
        figures (`Mapping[str, Figure]`): The figures by their alt texts; the first is `figure.png`, the next `figure2.png`.
        findings (`Sequence[str]`): What came out, in sentences with figures and intervals.
        how (`Sequence[str]`): How it was measured: models, rows, seeds, time.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    (folder / "table.json").write_text(
        json.dumps({"title": title, "findings": list(findings), "how": list(how), "rows": list(rows)}, indent=2)
        + "\n",
        encoding="utf-8",
    )
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    images = []
    for number, (alt, figure) in enumerate(figures.items(), 1):
        path = folder / f"figure{number if number > 1 else ''}.png"
        figure.savefig(path, dpi=150)
        data = base64.b64encode(path.read_bytes()).decode()
        images.append(f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></p>')
    cells = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(shown(name, row[name]))}</td>" for name in columns) + "</tr>"
        for row in rows
    )
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(question)}</p>
<ul>{"".join(f"<li>{html.escape(line)}</li>" for line in findings)}</ul>
{"".join(images)}
<div><table><thead><tr>{heads}</tr></thead><tbody>
{cells}
</tbody></table></div>
<h2>How it was measured</h2>
<ul>{"".join(f"<li>{html.escape(line)}</li>" for line in how)}</ul>
</body></html>
"""
    (folder / "page.html").write_text(page, encoding="utf-8")
    for line in findings:
        print(line)
    print(f"page: {folder / 'page.html'}")


def shown(column: str, value: object) -> str:
    """A cell of the table for people."""
    if value is None:
        return "–"
    if column.endswith("%") and isinstance(value, (int, float)):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
