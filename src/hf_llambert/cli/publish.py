"""`hf-llambert report` and `push`: what a run shows of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_llambert.cli.lines import against_lines
from hf_llambert.cli.options import say, values


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Another run measured on the same --eval_data: paired bootstrap of the students."
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Price table, as plan takes it: what the run has cost.")
    ] = None,
) -> None:
    """Write and show the report of a run: report.html, report.md, report.json and figures."""
    from hf_llambert import compare_labels, show_report, write_report

    compare_labels(run)
    found = write_report(run, against=against, prices=prices)
    show_report(found, run)
    if against is not None:
        for line in against_lines(found, against):
            say(line)


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[str, typer.Option("--to", help="Name on the Hub of dataset and student, such as our-team/reviews.")],
    license: Annotated[
        str, typer.Option("--license", help="Licence as the Hub names it: apache-2.0, cc-by-4.0, other, ...")
    ] = "",
    language: Annotated[
        list[str] | None, typer.Option("--language", help="Language of the texts, such as en. May be repeated.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base_model", help="Hub id of the encoder, when a local copy was trained.")
    ] = None,
    source_dataset: Annotated[
        list[str] | None, typer.Option("--source_dataset", help="Hub id of a dataset that the texts are from.")
    ] = None,
    public: Annotated[bool, typer.Option("--public/--private", help="Let everybody see it.")] = False,
    gold: Annotated[bool, typer.Option("--gold", help="Publish people's labels too.")] = False,
    space: Annotated[bool, typer.Option("--space", help="Publish a demo of the student too.")] = False,
    create_pr: Annotated[
        bool, typer.Option("--create_pr", help="Open pull requests on repositories that exist.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Publish labels of a pool that is not labelled to its end.")
    ] = False,
    distilled: Annotated[
        list[str] | None,
        typer.Option(
            "--distilled",
            help="Publish this student of RUN/students too, as NAME-linear or NAME-static. May be repeated.",
            autocompletion=values("linear", "static"),
        ),
    ] = None,
) -> None:
    """
    Publish a run on the Hub: the dataset, the student, their cards. Interrupted, the same command goes on.

    The token is that of hf auth login, or HF_TOKEN.
    """
    from hf_llambert import Publication, push_run

    publication = Publication(to, license, tuple(language or ()), base_model, tuple(source_dataset or ()))
    asked = {"public": public, "gold": gold, "space": space, "create_pr": create_pr, "partial": partial}
    published = push_run(run, publication, **asked, distilled=distilled or ())
    for kind, address in published.items():
        say(f"{kind}: {address}")
