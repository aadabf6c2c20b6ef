"""Publishes a run: checks everything first, then sends commits that can be interrupted and repeated."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hf_llambert.data import STAGE_FILE, read_note, scratch_folder
from hf_llambert.hub.cards import Publication, dataset_card, model_card
from hf_llambert.hub.commits import as_content, check_access, merged_card, patiently, send
from hf_llambert.hub.distilled import DistilledStudent
from hf_llambert.hub.files import PoolLabels, column_types, dataset_configs, dataset_files, model_files
from hf_llambert.hub.space import space_files
from hf_llambert.notes import ANY, ENCODER, read_stage
from hf_llambert.quality.gate import refuse_missed
from hf_llambert.report.report import write_report
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names
from hf_llambert.training.loading import student_kind
from hf_llambert.training.students import StudentLabeler

logger = get_logger(__name__)


def push_run(
    run: str | Path,
    publication: Publication,
    *,
    public: bool = False,
    gold: bool = False,
    space: bool = False,
    create_pr: bool = False,
    partial: bool = False,
    distilled: Sequence[str] = (),
) -> dict[str, str]:
    """
    Publish a run's dataset, its student and, if asked for, a demo, under one name on the Hub, and students that were
    distilled from it under that name with their kinds.

    Everything that can be checked is checked before anything is sent. Interrupted, the same call goes on: files that
    are there already are not sent again. What people wrote into an existing card stays, and so does every file that no push
    wrote. Each run has a tag.

    Args:
        run (`str` or `Path`): Folder with `annotated`, `student` or both, and `labels` where the pool was labelled.
        publication (`Publication`): Name, licence, languages.
        public (`bool`, defaults to `False`): Let everybody see it. Otherwise the repositories are private.
        gold (`bool`, defaults to `False`): Publish people's labels too.
        space (`bool`, defaults to `False`): Publish a Gradio demo of the student.
        create_pr (`bool`, defaults to `False`): Open pull requests instead of committing to `main`.
        partial (`bool`, defaults to `False`): Publish the labels of a pool that is not labelled to its end; the card says so.
        distilled (`Sequence[str]`, *optional*): `linear`, `static` or both: publish these students of the run too, as
            `our-team/reviews-linear` (see [`distill_student`]).

    Returns:
        `dict[str, str]`: Address of each repository, or of its pull request where there is something to propose: `dataset`,
        `model`, `space`, and `linear` and `static`.

    Raises:
        FileNotFoundError: The folder holds no run.
        PermissionError: No token, one that may not write, or a name of somebody else.
        ValueError: No licence, a name that the Hub refuses, labels that do not belong together or are not complete, a card
            that cannot be read, a public repository without `public`, or a distilled student that the run has not, or of
            another student than it has now.
        ConnectionError: The Hub could not be reached, or went on failing.
        GateMissed: The run has conditions (`gate.yaml`; see [`write_report`]) and misses one.
    """
    run = Path(run)
    plan = _Plan.of(run, publication, gold, space, partial, distilled)
    api = HfApi(library_name="hf_llambert")
    _check_access(api, plan, public, create_pr)
    out = {}
    with scratch_folder(run / "push") as folder:
        for one in plan.repositories:
            files, card = plan.files(one, folder), plan.card(one)
            labels = plan.labels if one.type == "dataset" else None
            student = None if labels is None else labels.student
            out[one.name] = _upload(api, one, files, card, student, create_pr)
            if public and not create_pr:
                patiently(api.update_repo_settings, one.repo_id, repo_type=one.type, private=False)
    return out


@dataclass(frozen=True)
class _Repository:
    """One of the repositories of a publication."""

    name: str  # as `push_run` returns it
    repo_id: str
    type: str  # as the Hub calls it: dataset, model or space
    distilled: DistilledStudent | None = None


@dataclass(frozen=True)
class _Plan:
    """A run that was read and checked for publication."""

    run: Path
    publication: Publication
    report: Mapping
    configs: dict[str, Dataset | PoolLabels]
    text_column: TextColumn
    kinds: tuple[str, ...]
    distilled: tuple[DistilledStudent, ...]

    @classmethod
    def of(
        cls,
        run: Path,
        publication: Publication,
        gold: bool,
        space: bool,
        partial: bool,
        distilled: Sequence[str] = (),
    ) -> _Plan:
        annotated, student = (_stage(run / name) for name in ("annotated", "student"))
        first = annotated or student
        if first is None:
            raise FileNotFoundError(
                f"'{run}' holds neither an annotated dataset nor a student to publish. Run hf-llambert annotate or train with "
                f"--output {run} first."
            )
        if not publication.license or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", publication.license):
            raise ValueError(
                f"A licence is needed, as the Hub names it (apache-2.0, mit, cc-by-4.0, other, ...), got "
                f"{publication.license!r}. It must be one that the texts and the models allow."
            )
        students = DistilledStudent.all_of(run, distilled, publication)
        for name in (publication.repo_id, *(one.repo_id for one in students)):
            try:
                validate_repo_id(name)
            except HFValidationError as error:
                raise ValueError(f"The Hub refuses the name '{name}': {error}") from error
        if publication.repo_id.count("/") != 1:
            raise ValueError(f"Expected a name such as our-team/reviews, got '{publication.repo_id}'.")
        if space and student is None:
            raise ValueError(f"A demo needs a student, and '{run}' has none. Run hf-llambert train first.")
        if space and student_kind(str(run / "student")) != ENCODER:
            raise ValueError("A demo runs an encoder, and this run's student is none. Publish without one (--space).")
        if space and len(TaskSpec.from_dict(first["config"]["task"]).parts) > 1:
            raise ValueError("A demo asks one question, and this task has several. Publish without one (--space).")
        if space and len(column_names(first["config"]["text_column"])) > 1:
            raise ValueError(
                "A demo shows one text, and this task shows several fields. Publish without one (--space)."
            )
        configs = dataset_configs(run, gold, partial) if annotated else {}
        report = write_report(run)
        refuse_missed(report)
        if "labels" in configs:
            report["left_out"].pop("labels", None)  # part of a pool: it is not in the figures, but it is published
        if student is not None:
            _check_labels(run / "student", TaskSpec.from_dict(report["task"]))
        if annotated and "settings" not in report["teacher"]:
            raise ValueError(
                f"'{run}' was annotated by an older version. Remove '{run / 'annotated'}' and annotate again; nothing is asked "
                f"again."
            )
        wanted = {"dataset": annotated is not None, "model": student is not None, "space": space}
        kinds = tuple(kind for kind, there in wanted.items() if there)
        return cls(run, publication, report, configs, first["config"]["text_column"], kinds, students)

    @property
    def repositories(self) -> tuple[_Repository, ...]:
        """All that is published, in the order in which it is sent."""
        return (
            *(_Repository(kind, self.publication.repo_id, kind) for kind in self.kinds),
            *(_Repository(one.kind, one.repo_id, "model", one) for one in self.distilled),
        )

    @property
    def labels(self) -> PoolLabels | None:
        """The labels of the pool, where they are published."""
        found = self.configs.get("labels")
        return found if isinstance(found, PoolLabels) else None

    def files(self, one: _Repository, folder: Path) -> dict[str, Path | bytes]:
        """Files of a repository by their place in it."""
        if one.distilled is not None:
            return one.distilled.files()
        if one.type == "dataset":
            return dataset_files(self.run, self.configs, folder)
        if one.type == "model":
            return model_files(self.run)
        column = str(self.text_column)  # one: several were refused
        return space_files(self.report, self.publication, self.configs.get("annotations"), column)

    def card(self, one: _Repository) -> str | None:
        """The card of a repository; a demo's is among its files."""
        if one.distilled is not None:
            return one.distilled.card(self.report, self.publication, "dataset" in self.kinds)
        if one.type == "dataset":
            configs = {
                name: {"rows": len(data), "columns": column_types(data.features)}
                for name, data in self.configs.items()
            }
            if self.labels is not None:
                configs["labels"]["partial"] = self.labels.partial
            return dataset_card(self.report, self.publication, configs)
        if one.type == "model":
            names = {student.kind: student.repo_id for student in self.distilled}
            return model_card(self.report, self.publication, "dataset" in self.kinds, names)
        return None


def _check_labels(student: Path, task: TaskSpec) -> None:
    """Raise `ValueError` where a student has not learnt the questions and labels of a task."""
    if student_kind(str(student)) != ENCODER:
        StudentLabeler(student, task.fields).check_task(task)
        return
    names = read_note(student / "config.json", {"id2label": {ANY: str}})["id2label"]
    labels, ways = [names.get(str(i)) for i in range(len(names))], logit_names(task)
    if labels not in ways:
        raise ValueError(
            f"The student has the labels {labels}, the annotated dataset {ways[0]}: they are not "
            f"of one run. Train a student on this dataset, or publish the run that it belongs to."
        )


def logit_names(task: TaskSpec) -> list[list[str]]:
    """What the logits of a student of a task may be called: those of a scale one by one, or a single one of its number."""
    found: list[list[str]] = [[]]
    for name, one in task.parts.items():
        found = [[*before, *way] for before in found for way in one.question.logit_names(name)]
    return found


def _check_access(api: HfApi, plan: _Plan, public: bool, create_pr: bool) -> None:
    """Check that everything may be sent, including merged cards."""
    names = dict.fromkeys(one.repo_id for one in plan.repositories)
    for repo_id in names:
        own = {one.type: one for one in plan.repositories if one.repo_id == repo_id}
        for kind, head in check_access(api, repo_id, tuple(own), public, create_pr).items():
            card = plan.card(own[kind])
            if card is not None:
                patiently(merged_card, api, repo_id, kind, head, card)


def _upload(
    api: HfApi,
    one: _Repository,
    files: Mapping[str, Path | bytes],
    card: str | None,
    student: str | None,
    create_pr: bool,
) -> str:
    """Send what is not there yet in one commit and tag it. Returns the address of the repository or pull request."""
    repo_id, kind, tag = one.repo_id, one.type, f"run-{_digest(files, card)}"
    title = f"hf_llambert {tag}"
    if not create_pr:
        sdk = "gradio" if kind == "space" else None
        patiently(api.create_repo, repo_id, repo_type=kind, private=True, exist_ok=True, space_sdk=sdk)
    done = patiently(send, api, repo_id, kind, files, title, card, student=student, create_pr=create_pr)
    prefix = "" if kind == "model" else f"{kind}s/"
    address = f"{api.endpoint}/{prefix}{repo_id}"
    if create_pr:
        if done is None:
            logger.warning("The %s '%s' is all this already: there is nothing to propose.", kind, repo_id)
        return done or address
    patiently(api.create_tag, repo_id, tag=tag, revision=done, repo_type=kind, exist_ok=True)
    return address


def _digest(files: Mapping[str, Path | bytes], card: str | None) -> str:
    digest = hashlib.sha256((card or "").encode())
    for place, source in sorted(files.items()):
        digest.update(place.encode() + CommitOperationAdd(place, as_content(source)).upload_info.sha256)
    return digest.hexdigest()[:12]


def _stage(folder: Path) -> dict | None:
    path = folder / STAGE_FILE
    return read_stage(path, path.parent.name) if path.is_file() else None
