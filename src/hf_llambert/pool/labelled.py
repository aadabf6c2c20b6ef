"""What the folders of a labelled pool and of its cascade hold, and whose labels they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset

from hf_llambert.data import STAGE_FILE, read_files
from hf_llambert.models import content_id, digest_file
from hf_llambert.notes import ENCODER, read_note, read_stage
from hf_llambert.pool.manifest import NOTES, run_digest, shard_files
from hf_llambert.pool.promise import promise_lines
from hf_llambert.reading import PLAIN, read_tables
from hf_llambert.tasks.parts import answer_column

_AGAIN = {"labels": "hf-llambert label", "compared": "hf-llambert report"}  # how they are made


@dataclass(frozen=True)
class Labels:
    """
    What `label_pool` left in a folder.

    Args:
        folder (`Path`): The folder.
        note (`dict`): Its note; see [`read_stage`].
        foreign (`str`, *optional*): Why these are not the labels of the run's student, a sentence. `None` where they are, and
            where the run has no student.
    """

    folder: Path
    note: dict
    foreign: str | None = None

    @property
    def student(self) -> str | None:
        """The content of the student that gave them; of two students that of the encoder."""
        return self.note["config"].get("student")

    @property
    def of_two(self) -> bool:
        """Whether a fast student gave some of them, so that they are not all the student's."""
        return "first" in self.note["config"]

    @property
    def made_by(self) -> str | None:
        """What tells these labels from others of the same pool: the student or, of two, both and the threshold."""
        first = self.note["config"].get("first")
        if first is None:
            return self.student
        below = "; ".join(f"{one:g} {name}".strip() for name, one in self.note["config"]["encoder_below"].items())
        return f"{self.student}, where {first['backend']} student {first['student']} is less sure than {below}"

    @cached_property
    def complete(self) -> bool:
        """Whether the pool is labelled to its end, and all its rows are there still."""
        results = self.note["results"]
        if not results or results.get("complete") is False:
            return False
        try:
            return sum(pq.read_metadata(path).num_rows for path in self._files()) == self.rows
        except (OSError, pa.ArrowException):  # a shard is damaged
            return False

    @property
    def rows(self) -> int:
        """How many rows the pool has; `complete` only."""
        return self.note["results"]["n_labelled"] + self.note["results"]["n_unusable"]

    @property
    def left_out(self) -> str | None:
        """Why a report says nothing of these labels, a sentence; `None` where it does."""
        if self.foreign is not None or self.complete:
            return self.foreign
        return (
            f"'{self.folder.name}' is left out: it is not labelled to its end. Run {_AGAIN[self.folder.name]} again."
        )

    def shards(self) -> list[Path]:
        """The Parquet files of the run that the note is of, in the order of the pool."""
        if self.complete:
            return self._files()
        run = run_digest(self.note["config"])
        return [path for path in self._files() if self._is_of(path, run)]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _is_of(self, path: Path, run: str) -> bool:
        note = self.folder / NOTES / f"{path.name}.json"
        if not note.is_file():
            return False
        noted = read_note(note, {"run": str, "size": int})
        return (noted["run"], noted["size"]) == (run, path.stat().st_size)


def run_student(run: Path) -> str | None:
    """The content of a run's student, as labels note it; `None` where the run has none."""
    student = run / "student"
    try:
        return content_id(str(student)) if student.is_dir() else None
    except FileNotFoundError:
        return "no model any more"


def read_labels(folder: Path) -> Labels | None:
    """The labels in a folder, whoever's they are; `None` where there are none."""
    note = folder / STAGE_FILE
    return Labels(folder, read_stage(note, "labels")) if note.is_file() else None


def run_labels(run: Path, name: str = "labels") -> Labels | None:
    """
    The labelled pool of a run, and whether its student gave the labels; `None` where there is none.

    Args:
        run (`Path`): Folder of the run.
        name (`str`, defaults to `"labels"`): Folder in it: `labels`, or `compared` for the annotated texts.

    Raises:
        OSError: The note is damaged.
    """
    found, here = read_labels(run / name), run_student(run)
    if found is None or here in (None, found.student):
        return found
    why = f"'{name}' is left out: {found.student} labelled it, and 'student' holds {here}. Overwrite it by {_AGAIN[name]}."
    return replace(found, foreign=why)


def read_pool(folder: str | Path, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows that [`label_pool`] wrote, in the order of the pool."""
    files = shard_files(folder)
    if not streaming:
        return read_files("parquet", files)
    features = Features.from_arrow_schema(pq.read_schema(files[0]))
    return IterableDataset.from_generator(_rows, features, gen_kwargs={"files": files})


def _rows(files: Sequence[Path]) -> Iterator[dict]:
    for path in files:
        for table in read_tables("parquet", path, PLAIN):
            yield from table.to_pylist()


def labels_identity(files: Sequence[Path]) -> str:
    """What the labels are that a cascade is of; its note has it as `labels`."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0".encode())
        digest_file(path, digest, sampled=True)
    return digest.hexdigest()[:32]


def count_stages(files: Sequence[Path], questions: Iterable[str]) -> dict:
    """
    How many texts of a labelled pool each of two students answered, as `by_stage`: of several questions by name; empty where
    one student labelled it.

    Args:
        files (`Sequence[Path]`): Its shards.
        questions (`Iterable[str]`): Names of the questions; one alone has the empty name.
    """
    found = {}
    for name in questions:
        column = answer_column(name, "source")
        if column not in pq.read_schema(files[0]).names:
            return {}
        counts: Counter[str | None] = Counter()
        for path in files:
            for one in pq.read_table(path, columns=[column])[column].value_counts().to_pylist():
                counts[one["values"]] += one["counts"]
        found[name] = in_order(counts)
    return {"by_stage": found[""] if list(found) == [""] else found}


def in_order(counts: Mapping[str | None, int]) -> dict[str, int]:
    """Counts by stage, the fastest first, without those of no stage."""
    order = sorted(filter(None, counts), key=lambda stage: (stage == "teacher", stage == ENCODER))
    return {stage: counts[stage] for stage in order}


def stage_sentences(by_stage: Mapping, gold: Mapping | None = None) -> list[str]:
    """
    What each stage answered, in sentences.

    Args:
        by_stage (`Mapping`): How many texts each answered.
        gold (`Mapping`, *optional*): `by_stage` of the gold of a cascade: how many of its answers are right.
    """
    total = sum(by_stage.values())
    lines = []
    for stage, count in by_stage.items():
        who = stage if stage in (ENCODER, "teacher") else f"{stage} student"
        line = f"the {who} answered {count:,} of {total:,} texts ({count / max(total, 1):.1%})"
        if right := (gold or {}).get(stage):
            line += (
                f"; {right['value']:.1%} right ({right['low']:.1%} to {right['high']:.1%}, {right['n']:,} gold rows)"
            )
        lines.append(line)
    return lines


def cascade_summary(results: Mapping) -> list[str]:
    """What [`cascade`] bought, in sentences."""
    n, asked = results["n"], results["n_asked"]
    promised = promises_said(results)
    lines = [f"asked about {asked:,} of {n:,} rows, changed {results['n_changed']:,} labels"]
    if results["gold"]:
        gained, *rest = _gained(results["gold"], "accuracy")
        lines = [f"{lines[0]}; {gained}", *rest]
    if "by_stage" in results:
        lines += stage_sentences(results["by_stage"], (results["gold"] or {}).get("by_stage"))
    for name, one in results.get("questions", {}).items():
        lines.append(f"{name}: the teacher decided {one['n_by_teacher']:,}, changed {one['n_changed']:,}")
        if one["gold"]:
            gained, *rest = _gained(one["gold"], "right")
            lines[-1] += f"; {gained}"
            lines += [f"{name}: {line}" for line in rest]
        if "by_stage" in one:
            told = stage_sentences(one["by_stage"], (one["gold"] or {}).get("by_stage"))
            lines += [f"{name}: {line}" for line in told]
    below, threshold = results["below"], results["threshold"]
    if isinstance(below, Mapping):
        lines += [
            f"the budget ended at a confidence of {threshold[name]:.3f} in {name}; rows below {one:.3f} were meant"
            for name, one in below.items()
            if threshold[name] < one
        ]
    elif threshold < below:
        lines.append(f"the budget ended at a confidence of {threshold:.3f}; rows below {below:.3f} were meant")
    if results["n_failed"]:
        lines.append(f"{results['n_failed']:,} rows failed and keep the student's label; the same command asks again")
    if results["n_abstained"]:
        lines.append(f"the teacher abstained on {results['n_abstained']:,} rows, which keep the student's label")
    return [*promised, *lines]


def promises_said(results: Mapping) -> list[str]:
    """What a cascade promises, in sentences, by what it noted; nothing where nothing was certified."""
    promises = results.get("promise", {})
    below, threshold = (
        one if isinstance(one, Mapping) else dict.fromkeys(promises, one)
        for one in (results["below"], results["threshold"])
    )
    kept = {name: below[name] == threshold[name] and not results["n_failed"] for name in promises}
    return promise_lines(promises, kept)


def _gained(gold: Mapping, what: str) -> list[str]:
    """What gold says of a cascade, in sentences."""
    whole = gold["all"]
    student, both, gain = (whole[key] for key in ("student", "cascade", "difference"))
    out = [
        f"{what} {student['value']:.1%} -> {both['value']:.1%}, {100 * gain['value']:+.1f} points "
        f"({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}, {whole['n']:,} gold rows)"
    ]
    if part := gold["asked"]:
        out.append(
            f"of the {part['n']:,} gold rows among those asked about the student was right on "
            f"{part['student']['value']:.1%}, the cascade is on {part['cascade']['value']:.1%}"
        )
    return out
