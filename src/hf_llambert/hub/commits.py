"""Shared by all publications: checks of access, one commit of what changed, repeating calls that failed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi, ModelCard
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from hf_llambert.hub.cards import merge_cards
from hf_llambert.notes import read_note
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
_FIRST_WAIT, _ATTEMPTS = 1.0, 6  # seconds; doubled each time
_PASSING = (408, 429, 500, 502, 503, 504)  # HTTP statuses of trouble that passes
_OVERTAKEN = 412  # somebody else committed meanwhile
_CARD = "README.md"
_WRITTEN = "hf_llambert.json"
"""
In each repository: which files were written here, and by which student the labels are. The next push deletes those of them
that are no longer, and nothing else.
"""


def check_access(
    api: HfApi, repo_id: str, kinds: Sequence[str], public: bool, create_pr: bool = False
) -> dict[str, str | None]:
    """
    Check that the token may write to the repositories, before anything is sent.

    Args:
        api (`HfApi`): The client.
        repo_id (`str`): Their name.
        kinds (`Sequence[str]`): Which of `dataset`, `model` and `space`.
        public (`bool`): Whether they may be public.
        create_pr (`bool`, defaults to `False`): A pull request is enough, which takes a repository that is there.

    Returns:
        `dict[str, str]`: Of each repository that is there, its last commit.

    Raises:
        PermissionError: No token, one that may not write, or a name of somebody else.
        ValueError: A public repository without `public`, or none for a pull request.
        ConnectionError: The Hub could not be reached, or went on failing.
    """
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
    heads = {}
    for kind in kinds:
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
        heads[kind] = info.sha
    return heads


def send(
    api: HfApi,
    repo_id: str,
    kind: str,
    files: Mapping[str, Path | bytes],
    title: str,
    card: str | None,
    *,
    stays: Callable[[str, str | None], bool] | None = None,
    student: str | None = None,
    create_pr: bool = False,
) -> str | None:
    """
    Send what is not there yet in one commit, and delete what was written here and does not stay. [`patiently`] may
    repeat it: each attempt looks first at what is there.

    Args:
        api (`HfApi`): The client.
        repo_id (`str`): The repository.
        kind (`str`): `dataset`, `model` or `space`.
        files (`Mapping[str, Path | bytes]`): What to send, by place.
        title (`str`): Of the commit.
        card (`str`, *optional*): The card, which is merged with that there. Without one that there stays.
        stays (`Callable`, *optional*): Whether a file stays that an earlier call wrote and this one does not have, given its
            place and the student of the labels there; so do sections of the card that `card` has not. Defaults to none.
        student (`str`, *optional*): Content of the student of the labels that are sent.
        create_pr (`bool`, defaults to `False`): Open a pull request, unless an open one has this title.

    Returns:
        `str`: The commit, or the address of the pull request; `None` where there is nothing to propose.
    """
    if create_pr:
        for discussion in api.get_repo_discussions(repo_id, repo_type=kind, discussion_type="pull_request"):
            if discussion.title == title and discussion.status in ("open", "draft"):
                return discussion.url  # of an earlier attempt whose answer was lost
    head = api.repo_info(repo_id, repo_type=kind).sha
    there = set(api.list_repo_files(repo_id, repo_type=kind, revision=head))
    noted = _noted(api, repo_id, kind, head) if _WRITTEN in there else {"files": []}
    written = {place for place in noted["files"] if isinstance(place, str)} & there
    staying = {place for place in written if stays is not None and stays(place, noted.get("student"))}
    note = {"files": sorted({*files, *staying}), **({"student": student} if student else {})}
    content = {**files, _WRITTEN: (json.dumps(note, indent=2) + "\n").encode()}
    if card is not None:
        content[_CARD] = merged_card(api, repo_id, kind, head, card, part=stays is not None).encode()
    elif _CARD in there:
        content.pop(_CARD, None)  # a demo's settings may be people's by now
    info = api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(path, as_content(source)) for path, source in content.items()),
            *(CommitOperationDelete(path) for path in sorted(written - staying - {*content, _CARD})),
        ],
        commit_message=title,
        repo_type=kind,
        parent_commit=head,
        create_pr=create_pr,
    )
    return info.pr_url or (None if create_pr else info.oid)


def _noted(api: HfApi, repo_id: str, kind: str, revision: str | None) -> dict:
    """The note of the last push: which files it wrote."""
    path = Path(api.hf_hub_download(repo_id, _WRITTEN, repo_type=kind, revision=revision))
    advice = f"Remove {_WRITTEN} from the {kind} '{repo_id}': the push then deletes nothing there."
    return read_note(path, {"files": list, "student?": str}, advice)


def merged_card(api: HfApi, repo_id: str, kind: str, revision: str | None, card: str, part: bool = False) -> str:
    """A card in which what people wrote into that on the Hub stays; see [`merge_cards`]."""
    try:
        path = api.hf_hub_download(repo_id, _CARD, repo_type=kind, revision=revision)
    except EntryNotFoundError:
        return card
    existing = Path(path).read_text(encoding="utf-8")
    return merge_cards(existing, card, DatasetCard if kind == "dataset" else ModelCard, part)


def as_content(source: Path | bytes) -> str | bytes:
    """A file as the Hub's client takes it."""
    return source if isinstance(source, bytes) else str(source)


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
    """Whether an error may be gone when the call is repeated."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (*_PASSING, _OVERTAKEN)
    if isinstance(error, RuntimeError):  # an upload that failed after the client's own attempts
        return error.__cause__ is not None and _passes(error.__cause__)
    # A gateway's page where the client expects JSON, or no answer at all.
    return isinstance(error, (HTTPError, json.JSONDecodeError))
