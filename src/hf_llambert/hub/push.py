"""Publishing a run: everything is checked first, then sent in commits that can be interrupted and repeated."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from datasets import Dataset
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
    ModelCard,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from hf_llambert.data import STAGE_FILE, read_note, scratch_folder
from hf_llambert.hub.cards import Publication, dataset_card, merge_cards, model_card
from hf_llambert.hub.files import column_types, dataset_configs, dataset_files, is_complete, model_files
from hf_llambert.hub.space import space_files
from hf_llambert.notes import ANY, read_stage
from hf_llambert.quality.gate import refuse_missed
from hf_llambert.quality.report import write_report
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
_FIRST_WAIT, _ATTEMPTS = 1.0, 6  # seconds; doubled each time
_PASSING = (408, 429, 500, 502, 503, 504)  # HTTP statuses of trouble that passes
_OVERTAKEN = 412  # somebody else committed meanwhile
_CARD = "README.md"
_WRITTEN = "hf_llambert.json"
"""In each repository: which files a push wrote. The next push deletes those of them that are no longer, and nothing else."""


def push_run(
    run: str | Path,
    publication: Publication,
    *,
    public: bool = False,
    gold: bool = False,
    space: bool = False,
    create_pr: bool = False,
    partial: bool = False,
) -> dict[str, str]:
    """
    Publish a run's dataset, its student and, if asked for, a demo, under one name on the Hub.

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

    Returns:
        `dict[str, str]`: Address of each repository, or of its pull request where there is something to propose: `dataset`,
        `model`, `space`.

    Raises:
        FileNotFoundError: The folder holds no run.
        PermissionError: No token, one that may not write, or a name of somebody else.
        ValueError: No licence, a name that the Hub refuses, labels that do not belong together or are not complete, a card
            that cannot be read, or a public repository without `public`.
        ConnectionError: The Hub could not be reached, or went on failing.
        GateMissed: The run has conditions (`gate.yaml`; see [`write_report`]) and misses one.
    """
    run = Path(run)
    plan = _Plan.of(run, publication, gold, space, partial)
    api = HfApi(library_name="hf_llambert")
    _check_access(api, plan, public, create_pr)
    out = {}
    with scratch_folder(run / "push") as folder:
        for kind in plan.kinds:
            files, card = plan.files(kind, folder), plan.card(kind)
            out[kind] = _upload(api, publication.repo_id, kind, files, card, create_pr)
            if public and not create_pr:
                patiently(api.update_repo_settings, publication.repo_id, repo_type=kind, private=False)
    return out


@dataclass(frozen=True)
class _Plan:
    """A run that was read and found fit to be published."""

    run: Path
    publication: Publication
    report: Mapping
    configs: dict[str, Dataset]
    text_column: str
    kinds: tuple[str, ...]
    partial: bool

    @classmethod
    def of(cls, run: Path, publication: Publication, gold: bool, space: bool, partial: bool) -> _Plan:
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
        try:
            validate_repo_id(publication.repo_id)
        except HFValidationError as error:
            raise ValueError(f"The Hub refuses the name '{publication.repo_id}': {error}") from error
        if publication.repo_id.count("/") != 1:
            raise ValueError(f"Expected a name such as our-team/reviews, got '{publication.repo_id}'.")
        if space and student is None:
            raise ValueError(f"A demo needs a student, and '{run}' has none. Run hf-llambert train first.")
        configs = dataset_configs(run, gold, partial) if annotated else {}
        report = write_report(run)
        refuse_missed(report)
        if student is not None:
            names = read_note(run / "student" / "config.json", {"id2label": {ANY: str}})["id2label"]
            labels = [names.get(str(i)) for i in range(len(names))]
            if labels != report["task"]["labels"]:
                raise ValueError(
                    f"The student has the labels {labels}, the annotated dataset {report['task']['labels']}: they are not "
                    f"of one run. Train a student on this dataset, or publish the run that it belongs to."
                )
        if annotated and "settings" not in report["teacher"]:
            raise ValueError(
                f"'{run}' was annotated by an older version. Remove '{run / 'annotated'}' and annotate again; nothing is asked "
                f"again."
            )
        wanted = {"dataset": annotated is not None, "model": student is not None, "space": space}
        kinds = tuple(kind for kind, there in wanted.items() if there)
        return cls(run, publication, report, configs, first["config"]["text_column"], kinds, partial)

    def files(self, kind: str, folder: Path) -> dict[str, Path | bytes]:
        """Files of a repository by their place in it."""
        if kind == "dataset":
            return dataset_files(self.run, self.configs, folder)
        if kind == "model":
            return model_files(self.run)
        return space_files(self.report, self.publication, self.configs.get("annotations"), self.text_column)

    def card(self, kind: str) -> str | None:
        """The card of a repository; a demo's is among its files."""
        if kind == "dataset":
            configs = {
                name: {"rows": len(data), "columns": column_types(data.features)}
                for name, data in self.configs.items()
            }
            if "labels" in configs:
                configs["labels"]["partial"] = not is_complete(self.run / "labels")
            return dataset_card(self.report, self.publication, configs)
        return model_card(self.report, self.publication, "dataset" in self.kinds) if kind == "model" else None


def _check_access(api: HfApi, plan: _Plan, public: bool, create_pr: bool) -> None:
    repo_id = plan.publication.repo_id
    try:
        me = patiently(api.whoami)
    except LocalTokenNotFoundError as error:
        raise PermissionError("No token of the Hub was found. Run hf auth login, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise PermissionError(
                "The Hub does not know this token. Run hf auth login, or set HF_TOKEN anew."
            ) from error
        raise
    role = (me.get("auth", {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise PermissionError(
            "This token may only read. Make one that may write at https://huggingface.co/settings/tokens."
        )
    mine = {me["name"], *(org["name"] for org in me.get("orgs", []))}
    namespace = repo_id.partition("/")[0]
    if namespace not in mine and not create_pr:
        raise PermissionError(
            f"'{namespace}' is neither you nor an organisation of yours ({', '.join(sorted(mine))}). Choose a name there, or "
            f"pass --create_pr to propose the change to a repository that exists."
        )
    for kind in plan.kinds:
        try:
            info = patiently(api.repo_info, repo_id, repo_type=kind)
        except RepositoryNotFoundError as error:
            if create_pr:
                raise ValueError(
                    f"There is no {kind} '{repo_id}' to open a pull request on. Push without --create_pr first."
                ) from error
            continue
        if not info.private and not public:
            raise ValueError(
                f"The {kind} '{repo_id}' is public. Pass --public to publish there, or choose another name."
            )
        card = plan.card(kind)
        if card is not None:
            patiently(_merged_card, api, repo_id, kind, info.sha, card)


def _upload(
    api: HfApi, repo_id: str, kind: str, files: Mapping[str, Path | bytes], card: str | None, create_pr: bool
) -> str:
    """Send what is not there yet in one commit and tag it. Returns the address of the repository or pull request."""
    tag = f"run-{_digest(files, card)}"
    title = f"hf_llambert {tag}"
    if not create_pr:
        sdk = "gradio" if kind == "space" else None
        patiently(api.create_repo, repo_id, repo_type=kind, private=True, exist_ok=True, space_sdk=sdk)

    def commit() -> str | None:
        if create_pr:
            discussions = api.get_repo_discussions(repo_id, repo_type=kind, discussion_type="pull_request")
            for discussion in discussions:
                if discussion.title == title and discussion.status in ("open", "draft"):
                    return discussion.url  # of an earlier attempt whose answer was lost
        head = api.repo_info(repo_id, repo_type=kind).sha
        there = set(api.list_repo_files(repo_id, repo_type=kind, revision=head))
        written = _written(api, repo_id, kind, head) if _WRITTEN in there else set()
        content = {**files, _WRITTEN: (json.dumps({"files": sorted(files)}, indent=2) + "\n").encode()}
        if card is not None:
            content[_CARD] = _merged_card(api, repo_id, kind, head, card).encode()
        elif _CARD in there:
            del content[_CARD]  # a demo's settings may be people's by now
        stale = sorted((written & there) - {*content, _CARD})
        info = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path, _content(source)) for path, source in content.items()),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message=title,
            repo_type=kind,
            parent_commit=head,
            create_pr=create_pr,
        )
        return info.pr_url or (None if create_pr else info.oid)

    done = patiently(commit)
    prefix = "" if kind == "model" else f"{kind}s/"
    address = f"{api.endpoint}/{prefix}{repo_id}"
    if create_pr:
        if done is None:
            logger.warning("The %s '%s' is all this already: there is nothing to propose.", kind, repo_id)
        return done or address
    patiently(api.create_tag, repo_id, tag=tag, revision=done, repo_type=kind, exist_ok=True)
    return address


def _written(api: HfApi, repo_id: str, kind: str, revision: str | None) -> set[str]:
    """The files that the last push says that it wrote."""
    path = Path(api.hf_hub_download(repo_id, _WRITTEN, repo_type=kind, revision=revision))
    advice = f"Remove {_WRITTEN} from the {kind} '{repo_id}': the push then deletes nothing there."
    files = read_note(path, {"files": list}, advice)["files"]
    return {place for place in files if isinstance(place, str)}


def _merged_card(api: HfApi, repo_id: str, kind: str, revision: str | None, card: str) -> str:
    try:
        path = api.hf_hub_download(repo_id, _CARD, repo_type=kind, revision=revision)
    except EntryNotFoundError:
        return card
    existing = Path(path).read_text(encoding="utf-8")
    return merge_cards(existing, card, DatasetCard if kind == "dataset" else ModelCard)


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Repeat a call to the Hub that fails for a reason that passes, waiting longer each time or as long as the Hub says.

    Every call given to it may be repeated: a commit finds the files there that an earlier attempt sent.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return call(*args, **kwargs)
        except OfflineModeIsEnabled as error:
            raise ConnectionError("HF_HUB_OFFLINE is set, so nothing can be sent. Unset it and push again.") from error
        except (HTTPError, OSError, RuntimeError, json.JSONDecodeError) as error:
            if not _passes(error):
                raise
            response = getattr(error, "response", None)
            if attempt + 1 == _ATTEMPTS:
                raise ConnectionError(
                    f"The Hub went on failing ({str(error).splitlines()[0]}). What was sent is kept: the same command goes "
                    f"on from here."
                ) from error
            wait = _FIRST_WAIT * 2**attempt
            if response is not None and response.headers.get("Retry-After", "").isdigit():
                wait = float(response.headers["Retry-After"])
            logger.info("the Hub failed (%s); again in %.0f s", str(error).partition("\n")[0], wait)
            time.sleep(wait)
    raise AssertionError  # never reached


def _passes(error: BaseException) -> bool:
    """Whether the trouble may be over when the call is repeated."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (*_PASSING, _OVERTAKEN)
    if isinstance(error, RuntimeError):  # an upload that failed after the client's own attempts
        return error.__cause__ is not None and _passes(error.__cause__)
    # A gateway's page where the client expects JSON, or no answer at all.
    return isinstance(error, (HTTPError, json.JSONDecodeError))


def _digest(files: Mapping[str, Path | bytes], card: str | None) -> str:
    digest = hashlib.sha256((card or "").encode())
    for place, source in sorted(files.items()):
        digest.update(place.encode() + CommitOperationAdd(place, _content(source)).upload_info.sha256)
    return digest.hexdigest()[:12]


def _content(source: Path | bytes) -> str | bytes:
    return source if isinstance(source, bytes) else str(source)


def _stage(folder: Path) -> dict | None:
    path = folder / STAGE_FILE
    return read_stage(path, path.parent.name) if path.is_file() else None
