"""Students that were distilled from a run's encoder, as repositories of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_llambert.hub.cards import Publication, model_data, render
from hf_llambert.hub.files import student_files
from hf_llambert.hub.student_kinds import STUDENT_KINDS
from hf_llambert.notes import TRAINING, read_note, read_stage
from hf_llambert.pool.distilled import STUDENTS, read_distilled
from hf_llambert.report.stages import how_made
from hf_llambert.shown import scrubbed
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.inputs import TRAINING_FILE
from hf_llambert.training.students import StudentLabeler


@dataclass(frozen=True)
class DistilledStudent:
    """
    A student to publish beside its encoder.

    Args:
        kind (`str`): `linear` or `static`.
        folder (`Path`): Where it lies.
        repo_id (`str`): Its name on the Hub: that of the encoder with its kind.
        found (`Mapping`): What [`distill_student`] measured; see [`Distilled`].
    """

    kind: str
    folder: Path
    repo_id: str
    found: Mapping

    @classmethod
    def all_of(cls, run: Path, kinds: Sequence[str], publication: Publication) -> tuple[DistilledStudent, ...]:
        """
        Students of a run by their kinds, each once, in the order of their names.

        Raises:
            ValueError: The run has no such student, or one of another encoder or task than it has now.
            OSError: A note is damaged.
        """
        if not kinds:
            return ()
        note, why = read_distilled(run)
        if why is not None:
            raise ValueError(why)
        there = note["students"] if note else {}
        if strange := [kind for kind in kinds if kind not in there or not (run / STUDENTS / kind).is_dir()]:
            raise ValueError(
                f"'{run}' has no {strange[0]} student that was distilled from its encoder, but {', '.join(there) or 'none'}. "
                f"Run hf-llambert distill {run} --to {strange[0] if strange[0] in STUDENT_KINDS else 'linear'} first, or --to "
                f"auto for each kind."
            )
        found = [
            cls(kind, run / STUDENTS / kind, f"{publication.repo_id}-{kind}", there[kind]) for kind in sorted({*kinds})
        ]
        for one in found:
            task = TaskSpec.from_dict(read_stage(run / "student" / STAGE_FILE, "student")["config"]["task"])
            StudentLabeler(one.folder, task.fields).check_task(task)
            if not read_stage(one.folder / STAGE_FILE, "student")["results"].get("eval"):
                raise ValueError(f"'{one.folder}' was not measured. Run hf-llambert distill {run} again.")
        return tuple(found)

    def files(self) -> dict[str, Path | bytes]:
        """Its files by their place, but for the card."""
        return student_files(self.folder)

    def card(self, report: Mapping, publication: Publication, with_dataset: bool) -> str:
        """
        Its card.

        Args:
            report (`Mapping`): What [`write_report`] found of the run.
            publication (`Publication`): That of the encoder.
            with_dataset (`bool`): Whether the dataset is published too.
        """
        own = self._report(report)
        base = publication.repo_id if STUDENT_KINDS[self.kind].has_vectors else None
        data = model_data(own, publication, self.repo_id, self.kind, with_dataset, base)
        difference = self.found["difference"]
        return render(
            "distilled.md.jinja",
            data,
            own,
            publication,
            name=self.repo_id,
            found=self.found,
            compared={"": difference} if "low" in difference else difference,
            with_dataset=with_dataset,
        )

    def _report(self, report: Mapping) -> dict:
        """The report of the run with this student in the place of its encoder."""
        stage = read_stage(self.folder / STAGE_FILE, "student")
        how, results = how_made(read_note(self.folder / TRAINING_FILE, TRAINING)), stage["results"]
        own = {"what": "this student", "train": results["train"], **how}
        if "questions" in report:
            each = report["questions"].items()
            parts = {name: {**one, "student": {**results["eval"][name], **own}} for name, one in each}
            out = {**report, "student": own, "questions": parts}
        else:
            out = {**report, "student": {**results["eval"], **own}}
        made = {"distilled": scrubbed(stage["made"])} if "made" in stage else {}
        return {**out, "made": {**report["made"], **made}}
