"""Progress bars with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hf_llambert.processes import tell_others

_SILENCE = 5  # seconds


@contextmanager
def progress_bar(description: str, total: int | None, show: bool = True) -> Iterator[Callable[[int], None]]:
    """
    A bar on standard error; where that is no terminal (a log file, CI) a line every five seconds and every tenth.

    Gives a function to call with the number of texts done since its last call. Of several processes, those that wait for
    this one learn what it has done, whether it is shown or not.
    """
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
    show = show and total != 0
    start, count = time.monotonic(), 0
    said = start
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(done: int) -> None:
            nonlocal count, said
            before, count = count, count + done
            now = time.monotonic()
            rate = count / max(now - start, 1e-9)
            bar.update(task, advance=done, rate=f"{rate:,.1f} texts/s")
            tenth = count * 10 // total > before * 10 // total if total else False
            if not tenth and now - said < _SILENCE:
                return
            said = now
            of = f"{count:,}" if total is None else f"{count:,}/{total:,}"
            left = f", {(total - count) / rate:,.0f} s left" if total and rate else ""
            line = f"{description}: {of}, {rate:,.1f} texts/s{left}"
            tell_others(line)
            if show and bar.disable:
                console.print(line, soft_wrap=True)

        yield advance
