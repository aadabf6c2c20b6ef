"""`hf-llambert gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    conditions: Annotated[
        Path | None,
        typer.Option("--conditions", help="YAML file of conditions. Default: those that the run was last judged by."),
    ] = None,
) -> None:
    """
    Judge a run by conditions. Exits with 1 where it misses any; push then publishes nothing.

    The conditions are kept in RUN/gate.yaml. What they can be about: docs/gate.md.
    """
    from hf_llambert import show_gate, write_report

    found = write_report(run, gate=conditions)
    if "gate" not in found:
        raise ValueError(f"'{run}' has no gate.yaml yet. Pass --conditions with a YAML file of conditions.")
    show_gate(found["gate"])
    if not found["gate"]["passed"]:
        raise typer.Exit(1)
