"""Progress bars with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SILENCE = 60  # seconds


@contextmanager
def progress_bar(description: str, total: int | None, show: bool = True) -> Iterator[Callable[[int], None]]:
    """
    A bar on standard error, or ten lines where that is no terminal (a log file, CI); without a total, one line a minute.

    Gives a function to call with the number of texts done since its last call.
    """
    if not show or total == 0:
        yield lambda done: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from hf_llambert.tasks.screen import Screen

    console = Screen(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    start, count = time.monotonic(), 0
    said = start
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(done: int) -> None:
            nonlocal count, said
            before, count = count, count + done
            now = time.monotonic()
            rate = count / max(now - start, 1e-9)
            bar.update(task, advance=done, rate=f"{rate:,.1f} texts/s")
            due = now - said >= _SILENCE if total is None else count * 10 // total > before * 10 // total
            if bar.disable and due:
                said = now
                of = f"{count:,}" if total is None else f"{count:,}/{total:,}"
                left = "" if total is None else f", {(total - count) / rate:,.0f} s left"
                console.print(
                    f"{description}: {of}, {rate:,.1f} texts/s{left}",
                    soft_wrap=True,
                )

        yield advance
