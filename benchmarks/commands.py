"""
Seconds that the commands take which people type most, as whole processes.

    python benchmarks/commands.py runs/imdb-quickstart

Medians of five calls after one that is not counted, on a machine that does nothing else. The run is copied, so that
nothing in it changes. Bytecode is kept between calls, whatever the environment says, as where the package is installed.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from typer.main import get_command

from hf_llambert.cli import app

CALLS = 5
CONDITIONS = "coverage: {at_least: 0.5}\n"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(*arguments, before=lambda: None):
    """The median, least and most of some calls of `python -m hf_llambert`; `before` is called ahead of each."""
    took = []
    for _ in range(CALLS + 1):
        before()
        start = time.perf_counter()
        command = [sys.executable, "-m", "hf_llambert", *arguments]
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:]), min(took[1:]), max(took[1:])


def forget(run):
    """Remove what a report keeps for the next one. What the student says of the annotated texts is part of the run."""
    (run / "findings.json").unlink(missing_ok=True)
    shutil.rmtree(run / "figures", ignore_errors=True)


def main(source):
    names = sorted(get_command(app).commands)
    helps = {name: seconds(name, "--help") for name in names}
    slowest = max(helps, key=helps.get)
    rows = {
        "`--help`": seconds("--help"),
        f"`COMMAND --help`, the slowest of {len(names)} (`{slowest}`)": helps[slowest],
    }
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        shutil.copytree(source, run)
        conditions = Path(place) / "gate.yaml"
        conditions.write_text(CONDITIONS)
        gate = ("gate", str(run), "--conditions", str(conditions))
        rows["`status RUN`"] = seconds("status", str(run))
        rows["`ledger stats RUN/ledger`"] = seconds("ledger", "stats", str(run / "ledger"))
        rows["`report RUN`, the first time"] = seconds("report", str(run), before=lambda: forget(run))
        rows["`report RUN`, nothing changed"] = seconds("report", str(run))
        rows["`gate RUN`, the first time"] = seconds(*gate, before=lambda: forget(run))
        rows["`gate RUN`, nothing changed"] = seconds(*gate)
    print("| command | median | least to most |\n|---|---|---|")
    for name, (median, least, most) in rows.items():
        print(f"| {name} | {median:.2f} s | {least:.2f} to {most:.2f} s |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
