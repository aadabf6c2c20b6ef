"""
A process that knows a local Hub, for the tests: the library's Hub settings are read once, at import.

Reads code as JSON, a line each, runs it, and answers with what it printed or the error.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

time.sleep = lambda seconds: None  # no test waits


def blank_figures() -> None:
    """Draw nothing from here on: a push renders a report's figures, most of what it does here, and others look at those."""
    from matplotlib.figure import Figure

    Figure.savefig = lambda figure, path, **how: Path(path).write_bytes(b"\x89PNG\r\n\x1a\n")


def main() -> None:
    names: dict = {"blank_figures": blank_figures}
    answers = sys.stdout
    for line in sys.stdin:
        printed, error = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(json.loads(line), "<test>", "exec"), names)
        except BaseException as raised:  # noqa: BLE001  (told to the test)
            error = f"{type(raised).__name__}: {raised}"
        answers.write(json.dumps({"out": printed.getvalue(), "error": error}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
