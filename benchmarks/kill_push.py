"""
`kill -9` at random moments of a push: whether the repositories are whole after the next one.

    OMP_NUM_THREADS=1 python benchmarks/kill_push.py --run runs/mine --instants 20

Needs a finished run. A local Hub answers over real HTTP. Each time a push to new repositories is killed at a seeded random
moment, up to 20 ms after one of its requests, and the same push is run again; one that had ended by then is no instant. The
files must equal those of a push that nobody killed, with one tag, and no large file may be stored twice. Before each push the
Hub forgets the content of all files, so that each sends all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from local_hub import LocalHub

KINDS = ("dataset", "model")
NAMESPACE = "tester"


def push(run: str, name: str) -> None:
    """One push, as a process of its own does it."""
    from hf_llambert import Publication, push_run

    push_run(run, Publication(name, "apache-2.0"))


def work(run: str) -> None:
    """Start a push, as a process of its own, for each name that comes in; says its process, and how it ended."""
    import hf_llambert.hub.files  # what a push needs is loaded once, and inherited
    import hf_llambert.report.report  # noqa: F401

    for line in sys.stdin:
        child = multiprocessing.get_context("fork").Process(target=push, args=(run, line.strip()))
        child.start()
        sys.stdout.write(f"{child.pid}\n")
        sys.stdout.flush()
        child.join()
        sys.stdout.write(f"{child.exitcode}\n")
        sys.stdout.flush()


class Pushes:
    """The process that starts pushes, and the Hub that they talk to."""

    def __init__(self, hub: LocalHub, run: str, home: Path) -> None:
        self.hub = hub
        command, env = [sys.executable, __file__, "--run", run, "--work"], {**hub.env(home), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def push(self, name: str, after: int | None = None, moment: float = 0.0) -> tuple[int, float, int]:
        """
        A push, killed `moment` seconds after so many requests where `after` is given. Gives how it ended, the seconds from
        its first request on, and the requests that the Hub had answered.
        """
        seen = len(self.hub.requests)
        self._say(name)
        pid = int(self._answer())
        self._wait_for(pid, seen + 1)
        begun = time.monotonic()
        if after is not None:
            self._wait_for(pid, seen + after)
            time.sleep(moment)
            if not self._has_ended(pid):
                os.kill(pid, signal.SIGKILL)
        code = int(self._answer())
        return code, time.monotonic() - begun, len(self.hub.requests) - seen

    def _wait_for(self, pid: int, requests: int) -> None:
        while len(self.hub.requests) < requests and not self._has_ended(pid):
            time.sleep(0.001)

    def _say(self, line: str) -> None:
        if self.process.stdin is None:
            raise RuntimeError("The process that pushes takes no names.")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _answer(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError("The process that pushes has ended.")
        return line

    def _has_ended(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def forget(self, blobs: Path) -> None:
        """Let the Hub have no content, and no count of what was stored."""
        for blob in blobs.iterdir():
            blob.unlink()
        self.hub.uploads.clear()

    def files(self, name: str) -> dict[tuple[str, str], bytes]:
        """All files of a publication, their own name left out of the cards."""
        own = name.partition("/")[2].encode()
        return {
            (kind, place): content.replace(own, b"NAME") if place == "README.md" else content
            for kind in KINDS
            for place, content in self.hub.files(kind, name).items()
        }


def main() -> None:
    """Kill, push again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.run)
        return
    draw = random.Random(arguments.seed)
    tries = same = killed = tagged = 0
    most, run = 0, Path(arguments.run)
    with tempfile.TemporaryDirectory() as folder, LocalHub(Path(folder)) as hub:
        pushes, blobs = Pushes(hub, arguments.run, Path(folder) / "home"), Path(folder) / "blobs"
        pushes.push(f"{NAMESPACE}/first")  # draws the report's figures, loads what is loaded late
        pushes.forget(blobs)
        code, seconds, requests = pushes.push(f"{NAMESPACE}/uninterrupted")
        if code:
            raise RuntimeError("The push that nobody killed failed.")
        expected = pushes.files(f"{NAMESPACE}/uninterrupted")
        size = sum(map(len, expected.values())) / 1e6
        sys.stdout.write(
            f"uninterrupted: {len(expected)} files, {size:.1f} MB, {requests} requests, {seconds:.2f} s\n"
        )
        while killed < arguments.instants:
            tries, k = tries + 1, tries
            pushes.forget(blobs)
            name = f"{NAMESPACE}/killed-{k}"
            code, _, at = pushes.push(name, draw.randrange(1, requests), draw.uniform(0, 0.02))
            after, _, more = pushes.push(name)
            equal = after == 0 and pushes.files(name) == expected
            tags = {kind: len(hub.tags(kind, name)) for kind in KINDS} if after == 0 else {}
            killed, same, tagged = killed + (code != 0), same + equal, tagged + (set(tags.values()) == {1})
            most = max([most, *hub.uploads.values()])
            ended = "killed" if code else "had ended"
            sys.stdout.write(
                f"{k + 1}: {ended} after {at} requests, {more} more; {'the same' if equal else 'DIFFERENT'}\n"
            )
            sys.stdout.flush()
        left = len(list(run.glob(".push*")))
        sys.stdout.write(
            f"{tries} pushes, {killed} killed while they pushed; {same} ended with the files of the uninterrupted push, "
            f"{tagged} with one tag in each repository; the most that one large file was stored: {most}; folders left behind: "
            f"{left}\n"
        )
    sys.exit(same < tries)


if __name__ == "__main__":
    main()
