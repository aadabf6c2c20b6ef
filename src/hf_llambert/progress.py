"""Progress bars with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(description: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """
    A bar on standard error, or ten lines where that is no terminal (a log file, CI).

    Gives a function to call with the number of texts done since its last call.
    """
    if not show or not total:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    start, count = time.monotonic(), 0
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(done: int) -> None:
            nonlocal count
            tenth, count = count * 10 // total, count + done
            rate = count / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=done, rate=f"{rate:,.1f} texts/s")
            if bar.disable and count * 10 // total > tenth:
                left = (total - count) / rate
                console.print(
                    f"{description}: {count:,}/{total:,}, {rate:,.1f} texts/s, {left:,.0f} s left",
                    highlight=False,
                    soft_wrap=True,
                )

        yield advance
