"""`hf-llambert ledger`: look into the stored replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.options import pairs, say

ledger_app = typer.Typer(
    no_args_is_help=True, help="Look into a ledger of replies, take them out, make one file of many."
)


LedgerFolder = Annotated[Path, typer.Argument(help="Folder of the ledger, such as runs/mine/ledger.")]


@ledger_app.command()
def stats(
    folder: LedgerFolder,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Who was asked, how often, and what it took."""
    from hf_llambert import ledger_stats

    found = ledger_stats(folder)
    if as_json:
        say(json.dumps(found, indent=2, ensure_ascii=False))
        return
    say(
        f"{found['replies']:,} replies in {found['files']:,} file(s) of {found['bytes'] / 2**20:,.1f} MB, "
        f"{found['failures']:,} failures; {found['first']} to {found['last']}"
    )
    say(f"{found['input_tokens']:,} tokens in, {found['output_tokens']:,} out, {found['seconds']:,.0f} s of asking")
    for asked in found["asked"]:
        who = {name: value for name, value in asked["identity"].items() if value is not None}
        say(f"{asked['replies']:>10,}  {pairs(who)}")


@ledger_app.command()
def export(
    folder: LedgerFolder,
    to: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")],
) -> None:
    """Write every reply to one file."""
    from hf_llambert import export_ledger

    say(f"{export_ledger(folder, to):,} replies written to {to}")


@ledger_app.command()
def compact(
    folder: LedgerFolder,
    all_hosts: Annotated[
        bool, typer.Option("--all_hosts", help="Take other machines' files too. No process there may be running.")
    ] = False,
) -> None:
    """Make one file of those that ended processes left."""
    from hf_llambert import compact_ledger

    found = compact_ledger(folder, all_hosts)
    say(f"{found['merged']:,} files made one, {found['replies']:,} replies; {found['left']:,} files left as they are")
