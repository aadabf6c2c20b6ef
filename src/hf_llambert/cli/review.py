"""`hf-llambert review`."""

from __future__ import annotations

import json
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.options import say, values

if TYPE_CHECKING:
    from hf_llambert import Review


def review(
    run: Annotated[Path, typer.Option("--run", help="Folder of an annotated run.")],
    reviewer: Annotated[str | None, typer.Option("--reviewer", help="Who answers.")] = None,
    num: Annotated[int | None, typer.Option("--num", help="Rows in the queue, when it is made. Default: 100.")] = None,
    num_control: Annotated[
        int | None,
        typer.Option("--num_control", help="How many of them are drawn at random. Default: a fifth, less --for_test."),
    ] = None,
    for_test: Annotated[
        int | None,
        typer.Option(
            "--for_test",
            help="How many rows more of them are drawn at random, such as 60, to test whether the teacher may stand in for "
            "people: two people or more must answer them. They come first.",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            help="On which share of the rows the teacher may be worse in that test, for what it saves: its authors advise "
            "0.1 beside crowd workers, 0.15 skilled people, 0.2 experts. Default: 0.1. Kept with the queue.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawing and of the order.")] = 42,
    suspects: Annotated[
        Path | None,
        typer.Option(
            "--suspects",
            help="A JSON list of row numbers whose label is likely wrong, the likeliest first; of several questions an object "
            "with a list for each. Default: found by cleanlab.",
        ),
    ] = None,
    show_labels: Annotated[
        bool,
        typer.Option(
            "--show_labels",
            help="Show what teacher and student say, except of rows drawn at random. People then tend to agree with them.",
        ),
    ] = False,
    port: Annotated[int | None, typer.Option("--port", help="Default: the first free one from 7860.")] = None,
    no_browser: Annotated[bool, typer.Option("--no_browser", help="Say the address, open nothing.")] = False,
    export: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--export",
            metavar="FORMAT FILE",
            help="Write the rows for another tool, argilla or label_studio, and end. With --show_labels, with what teacher "
            "and student say. dsl: all annotated rows with the probability with which each was drawn, as .parquet or .csv.",
        ),
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            "--predictions",
            help="With --export dsl: whose labels stand beside people's, teacher or student. Default: teacher.",
            autocompletion=values("teacher", "student"),
        ),
    ] = None,
    import_file: Annotated[
        Path | None, typer.Option("--import", help="Take answers from a file of Argilla or Label Studio, and end.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Say what was answered, write it as gold, and end.")
    ] = False,
) -> None:
    """
    Read the rows that matter most, and answer by keyboard, on a page that only this machine sees.

    Interrupted, the same command goes on. Several people answer the same rows under their own names. What they say is gold
    for the next training: hf-llambert train --gold RUN/review/gold.
    """
    from hf_llambert import export_review, import_review, review_settings, serve_review

    if sum((export is not None, import_file is not None, summary)) > 1:
        raise ValueError("Pass one of --export, --import and --summary.")
    if predictions is not None and (export is None or export[0] != "dsl"):
        raise ValueError("--predictions is of --export dsl FILE. Add that, or drop it.")
    if export is not None and export[0] == "dsl":
        _export_sample(run, export[1], predictions or "teacher")
        return
    page = export is None and import_file is None and not summary
    if page and reviewer is None:
        raise ValueError("Who answers? Pass --reviewer NAME.")
    found = _review(run, num, num_control, seed, suspects, for_test, epsilon)
    if export is not None:
        number = export_review(found, export[1], export[0], machine_labels=show_labels)
        say(f"{number:,} rows written to {export[1]}")
        if found.queue.task.questions:
            say(f"{'Settings' if export[0] == 'argilla' else 'Labelling configuration'}:")
            say(review_settings(found, export[0]))
        return
    if import_file is not None:
        for name, added in import_review(found, import_file).items():
            say(f"{name}: {added:,} answers")
    if page and reviewer is not None:
        with found.session(reviewer) as session, serve_review(session, port, show_labels) as address:
            say(f"{address} (stop with Ctrl-C; every answer is kept)")
            if not no_browser:
                webbrowser.open(address)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
    _say_summary(found)


def _export_sample(run: Path, path: Path, predictions: str) -> None:
    from hf_llambert import sampling_table
    from hf_llambert.review.sampling import sampling_lines, write_table

    table = sampling_table(run, predictions)  # type: ignore[arg-type]  # checked there
    write_table(table, path)
    for line in sampling_lines(table):
        say(line)
    say(f"{len(table):,} rows written to {path}")


def _review(
    run: Path,
    num: int | None,
    num_control: int | None,
    seed: int,
    suspects: Path | None,
    for_test: int | None,
    epsilon: float | None,
) -> Review:
    """The review of a run; its queue is made when there is none."""
    from hf_llambert import Review

    folder = run / "review"
    if not (folder / "queue.json").exists():
        from hf_llambert import build_queue, compare_labels, write_queue

        compare_labels(run)
        test = for_test or 0
        rows = max(100, test) if num is None else num
        control = max(rows // 5 - test, 0) if num_control is None else num_control
        forgiven = {} if epsilon is None else {"epsilon": epsilon}
        write_queue(folder, build_queue(run, rows, control, seed, _suspects(run, suspects), test, **forgiven))
    found = Review(folder)
    wanted = {"num": num, "num_control": num_control, "for_test": for_test, "epsilon": epsilon}
    for name, asked in wanted.items():
        there = getattr(found.queue, name)
        if asked not in (None, there):
            raise ValueError(
                f"'{folder}' holds a queue made with --{name} {there}, asked for {asked}. Go on without --{name}, or move "
                f"the folder away to begin anew."
            )
    return found


def _suspects(run: Path, path: Path | None) -> list[int] | dict[str, list[int]]:
    """The rows that a file names, or that are found where cleanlab is installed."""
    from hf_llambert import suspected_errors

    if path is None:
        try:
            return suspected_errors(run)
        except ImportError as error:
            say(f"The queue is made without suspected label errors. {error}", error=True)
            return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        rows = None
    lists = list(rows.values()) if isinstance(rows, dict) else [rows]
    if not all(isinstance(one, list) and all(type(row) is int for row in one) for one in lists):
        raise ValueError(
            f"'{path}' must hold a JSON list of row numbers, or of several questions an object of such lists."
        )
    return rows


def _say_summary(found: Review) -> None:
    from hf_llambert import review_lines

    for line in review_lines(found):
        say(line)
    if found.has_gold:
        say(f"gold for the next training: --gold {found.save_gold()}")
