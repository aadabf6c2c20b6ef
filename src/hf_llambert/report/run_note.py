"""What `hf-llambert run` was asked to do, beside what it made: `run.json` in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from hf_llambert import __version__
from hf_llambert.whole import write_whole

RUN_FILE = "run.json"
STAGES = ("annotated", "student", "labels")
_DECIDES = {
    **dict.fromkeys(("max_cost", "max_hours", "prices", "conditions", "output", "ledger"), "nothing"),
    **dict.fromkeys(("student", "max_length", "gold", "further", "baseline"), "student"),
    "num_pool": "labels",
}
"""The first stage that an option decides; of all others it is the first of all."""
_SMALL = 1 << 20  # bytes of a file that is told by its content


@dataclass(frozen=True)
class RunNote:
    """
    What was asked, and how far it is.

    Args:
        asked (`Mapping`): Every option, and the task.
        inputs (`Mapping`): Sizes and content or times of the files that were named; see [`stamp`].
        command (`str`, *optional*): The command to go on with; `None` where it named a credential.
        agreed (`str`, *optional*): When its plan was agreed to, ISO 8601.
        finished (`str`, *optional*): When all was done.
        passed (`bool`, defaults to `True`): Whether it met its gate.
        lines (`list[str]`): What was said of each stage.
        rows (`Mapping[str, int]`): How many are to be `annotated`, and labelled (`pool`).
        stages (`Mapping[str, int]`): When the note of each stage was written, in nanoseconds.
        version (`str`): Of hf_llambert.
    """

    asked: Mapping[str, object]
    inputs: Mapping[str, object]
    command: str | None = None
    agreed: str | None = None
    finished: str | None = None
    passed: bool = True
    lines: list[str] = field(default_factory=list)
    rows: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)
    version: str = __version__

    def is_of(self, other: RunNote) -> bool:
        """Whether both are of one run: the same was asked of the same files, but for the conditions of the gate and prices."""
        free = {"conditions": None, "prices": None}
        mine, theirs = (({**one.asked, **free}, {**one.inputs, **free}, one.version) for one in (self, other))
        return mine == theirs

    def is_finished(self, other: RunNote, run: Path) -> bool:
        """Whether all that `other` asks for was done, and is there as it was left."""
        return (
            self.finished is not None
            and self.asked == other.asked
            and self.inputs == other.inputs
            and self.version == other.version
            and self.stages == written_at(run)
            and (run / "report.html").is_file()
        )

    def not_in(self, other: RunNote, run: Path) -> list[str]:
        """The options by which `other` asks for something else than what this run has already made, by their names."""
        made = written_at(run)
        mine, theirs = (
            {**{f"{name} (file)": one for name, one in n.inputs.items()}, **n.asked} for n in (self, other)
        )
        changed = [name for name in theirs if mine.get(name) != theirs[name]]
        return [name for name in changed if _DECIDES.get(name.removesuffix(" (file)"), "annotated") in made]

    def changed(self, **changes: object) -> RunNote:
        """The same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def write(self, run: Path) -> None:
        """Write it down, whole or not at all."""
        run.mkdir(parents=True, exist_ok=True)
        write_whole(run / RUN_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_run_note(run: Path) -> RunNote | None:
    """
    The note in a run's folder; `None` where there is none.

    Raises:
        OSError: It is damaged.
    """
    from hf_llambert.notes import ANY, read_note

    path = run / RUN_FILE
    if not path.is_file():
        return None
    said = dict.fromkeys(("command", "agreed", "finished"), (str, None))
    shape = {"asked": dict, "inputs": {ANY: object}, **said, "passed": bool, "lines": [str], "stages": {ANY: int}}
    shape |= {"rows": {ANY: int}, "version": str}
    note = read_note(path, shape, f"Remove '{path}': what is in the folder beside it is used all the same.")
    return RunNote(**{name: note[name] for name in shape})


def now() -> str:
    """The time, ISO 8601, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def written_at(run: Path) -> dict[str, int]:
    """When the note of each stage of a run was written, in nanoseconds since 1970."""
    notes = {name: run / name / "stage.json" for name in STAGES}
    return {name: path.stat().st_mtime_ns for name, path in notes.items() if path.is_file()}


def stamp(source: str | Path | None) -> object:
    """
    Sizes of a file, or of all files of a folder, with times, or the content where it is small: by them a change is seen. `None`
    for what is not here.
    """
    if source is None or not Path(source).exists():
        return None
    path = Path(source)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return [[str(one.relative_to(path)), *_content(one)] for one in files]


def _content(path: Path) -> tuple[int, int | str]:
    stat = path.stat()
    if stat.st_size > _SMALL:
        return stat.st_size, stat.st_mtime_ns
    return stat.st_size, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
