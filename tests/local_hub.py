"""
A Hugging Face Hub on 127.0.0.1, for tests of what is sent to the Hub and read from it. Nothing reaches a network.

    with LocalHub(tmp_path / "hub") as hub:
        hub.fail("/api/repos/create")  # the next attempt to make a repository is answered with 503
        subprocess.run([sys.executable, "push.py"], env=hub.env(tmp_path / "home"), check=True)
        assert hub.files("model", "tester/student")["README.md"].startswith(b"---")

The clients take the address of the Hub from the environment when they are imported, so they run in processes of
their own. A repository's history is kept in memory, the content of files in a folder. Types of repositories are
spelt as huggingface_hub spells them: "model", "dataset", "space".
"""

import base64
import hashlib
import json
import os
import re
import secrets
import string
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote

import yaml  # for README.md; the clients need it too

# What a new repository's .gitattributes sends to the large file storage, besides files that are large or binary.
LARGE_SUFFIXES = (
    ".arrow", ".bin", ".ckpt", ".gguf", ".gz", ".h5", ".joblib", ".model", ".msgpack", ".npy", ".npz", ".onnx",
    ".parquet", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".zip", ".zst",
)  # fmt: skip
LARGE_SIZE = 10 * 1024 * 1024
PAGE_OF_DISCUSSIONS = 10
NAME = re.compile(r"(?=.{1,96}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
METADATA = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
WRITE_TOKEN_NEEDED = "Forbidden: you must use a write token to upload to a repository."
PULL_REQUEST_NEEDED = "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request"


@dataclass(frozen=True)
class Request:
    """
    A request as it came in.

    Args:
        method, path, query: As sent; the path still percent-encoded. A path that does not start with a slash is an
            address elsewhere, for which the client took us for its proxy.
        status: Of the answer, also of one that was lost on the way; 0 if the connection was closed instead.
        received: Bytes of the body that were read.
    """

    method: str
    path: str
    query: str
    status: int
    received: int


@dataclass(frozen=True)
class File:
    """A file of a commit: its git id, and the SHA-256 that is its id in the large file storage (None if not there)."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self) -> str:
        """The id a client compares with its own copy; also the name of the blob."""
        return self.sha256 or self.oid

    def large_info(self, name: str) -> dict[str, Any]:
        """The "lfs" entry of a listing, with the SHA-256 under the name that this listing has for it."""
        if self.sha256 is None:
            return {}
        return {"lfs": {name: self.sha256, "size": self.size, "pointerSize": len(pointer(self.sha256, self.size))}}


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    files: dict[str, File]


@dataclass(frozen=True)
class PullRequest:
    number: int
    title: str
    description: str
    author: str
    base: str
    created_at: str
    status: str = "open"

    @property
    def revision(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass
class Repo:
    """A repository: commits by id, and full names of references (refs/heads/main, refs/tags/v1, refs/pr/1)."""

    type: str
    id: str
    private: bool
    created_at: str
    gated: str | bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)

    @property
    def page(self) -> str:
        """Path of the repository's page, with which addresses of its files start."""
        return f"/{self.id}" if self.type == "model" else f"/{self.type}s/{self.id}"

    def reference(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request; None for anything else."""
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def commit(self, revision: str) -> Commit:
        name = self.reference(revision)
        if name is not None:
            return self.commits[self.refs[name]]
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            found = [commit for oid, commit in self.commits.items() if oid.startswith(revision)]
            if len(found) == 1:
                return found[0]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str) -> Iterator[Commit]:
        """The commits that lead to a revision, newest first."""
        commit = self.commit(revision)
        yield commit
        while commit.parent is not None:
            commit = self.commits[commit.parent]
            yield commit

    def add(self, name: str, parent: str | None, title: str, description: str, files: dict[str, File]) -> Commit:
        """Add a commit and let the reference `name` point to it."""
        commit = Commit(secrets.token_hex(20), parent, title, description, now(), files)
        self.commits[commit.oid] = commit
        self.refs[name] = commit.oid
        return commit

    def names(self, prefix: str) -> dict[str, str]:
        """Short names of branches, tags or pull requests, with the commits they point to."""
        return {name.removeprefix(prefix): oid for name, oid in self.refs.items() if name.startswith(prefix)}


@dataclass
class Fault:
    """What happens to the next `times` matching requests instead of, or after, what they ask for."""

    kind: str
    method: str
    pattern: str
    times: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0


@dataclass
class Answer:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"


class HubError(Exception):
    """An answer that says no: its code is what the client turns into an exception of its own."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None, **more: Any
    ):
        super().__init__(message)
        self.answer = as_json({"error": message, **more}, status, headers)
        self.answer.headers["X-Error-Message"] = message
        if code is not None:
            self.answer.headers["X-Error-Code"] = code


class LocalHub:
    """
    The server and what a test may ask of it. Attributes may be changed at any time.

    Args:
        root (`Path`): Folder for the content of files; made if missing.

    `user` and `orgs` are the namespaces that may be written to, `role` is that of the token: "write" or "read".
    `requests` are all that came in, in the order of their answers. `uploads` counts the large files that were stored,
    by SHA-256; `sent` the small ones in accepted commits, by (type, repository, path, SHA-256).
    """

    def __init__(self, root: Path):
        self.user = "tester"
        self.orgs = ["our-team"]
        self.role = "write"
        # Made up anew each time: one in the source would be taken for a leak by scanners for secrets.
        self.token = "hf_" + "".join(secrets.choice(string.ascii_letters) for _ in range(34))
        self.requests: list[Request] = []
        self.uploads: Counter[str] = Counter()
        self.sent: Counter[tuple[str, str, str, str]] = Counter()
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.upload_key = secrets.token_hex(8)
        self._faults: list[Fault] = []
        self._blobs = Path(root) / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path) -> dict[str, str]:
        """
        The environment for a client: this process's, with this Hub for the real one.

        It is the proxy for all other addresses too and refuses them: datasets asks some even where it can do without.
        """
        mine = re.compile("HF_(?!LLAMBERT_)|HUGGING|TRANSFORMERS_")
        proxies = ("http_proxy", "https_proxy", "all_proxy")
        return {
            **{name: value for name, value in os.environ.items() if not mine.match(name)},
            **{name: self.url for proxy in proxies for name in (proxy, proxy.upper())},
            "no_proxy": "127.0.0.1,localhost",
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }

    # Faults. Patterns are regular expressions: of the method the whole, of the path any part.

    def fail(
        self,
        pattern: str,
        method: str = ".*",
        status: int = 503,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next matching requests with an error, before anything is done."""
        self._faults.append(Fault("fail", method, pattern, times, status, headers or {}))

    def drop(self, pattern: str, method: str = ".*", times: int = 1, after: int = 0) -> None:
        """Close the connection of the next matching requests when `after` bytes of the body were read."""
        self._faults.append(Fault("drop", method, pattern, times, after=after))

    def lose(self, pattern: str, method: str = ".*", times: int = 1) -> None:
        """Do what the next matching requests ask for, but close the connection instead of answering."""
        self._faults.append(Fault("lose", method, pattern, times))

    def take_fault(self, method: str, path: str) -> Fault:
        """The first fault that is waiting for such a request, which uses it up once; else one of kind "none"."""
        with self.lock:
            for fault in self._faults:
                if fault.times > 0 and re.fullmatch(fault.method, method) and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return Fault("none", method, path, 0)

    # What is there.

    def files(self, repo_type: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        with self.lock:
            files = self.repos[repo_type, repo_id].commit(revision).files
        return {path: self.blob(file.key).read_bytes() for path, file in sorted(files.items())}

    def commits(self, repo_type: str, repo_id: str, revision: str = "main") -> list[str]:
        """The titles of the commits, newest first. The last is the Hub's own, with .gitattributes."""
        with self.lock:
            return [commit.title for commit in self.repos[repo_type, repo_id].history(revision)]

    def tags(self, repo_type: str, repo_id: str) -> dict[str, str]:
        """The commit that each tag points to."""
        with self.lock:
            return self.repos[repo_type, repo_id].names("refs/tags/")

    def pulls(self, repo_type: str, repo_id: str) -> list[PullRequest]:
        with self.lock:
            return list(self.repos[repo_type, repo_id].pulls)

    def private(self, repo_type: str, repo_id: str) -> bool:
        with self.lock:
            return self.repos[repo_type, repo_id].private

    def put(
        self,
        repo_type: str,
        repo_id: str,
        files: dict[str, bytes],
        title: str = "From somebody else",
        private: bool = False,
    ) -> str:
        """Commit to main as somebody else would, whoever the repository belongs to; returns the commit's id."""
        kept = {path: self.keep(content, is_large(path, content, len(content))) for path, content in files.items()}
        with self.lock:
            repo = self.repos.get((repo_type, repo_id)) or self.create(repo_type, repo_id, private)
            head = repo.commit("main")
            return repo.add("refs/heads/main", head.oid, title, "", {**head.files, **kept}).oid

    # The store. Content is named after its hash and never changes, so that only the repositories need the lock.

    def create(self, repo_type: str, repo_id: str, private: bool) -> Repo:
        repo = self.repos[repo_type, repo_id] = Repo(repo_type, repo_id, private, now())
        rules = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES)
        repo.add("refs/heads/main", None, "initial commit", "", {".gitattributes": self.keep(rules.encode())})
        return repo

    def blob(self, key: str) -> Path:
        return self._blobs / key

    def keep(self, content: bytes, large: bool = False) -> File:
        """Write content where `blob` finds it, whole or not at all."""
        if large:
            sha256 = hashlib.sha256(content).hexdigest()
            file = File(git_oid(pointer(sha256, len(content))), len(content), sha256)
        else:
            file = File(git_oid(content), len(content))
        unfinished = self._blobs / f"unfinished-{secrets.token_hex(8)}"
        unfinished.write_bytes(content)
        unfinished.replace(self.blob(file.key))
        return file


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # connections that wait; clients open many at once
    hub: LocalHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong, unless the client only hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


_Route = Callable[..., Answer]
_ROUTES: list[tuple[re.Pattern[str], re.Pattern[str], _Route, bool]] = []
_ID = r"(?P<repo_id>[^/]+(?:/[^/]+)?)"  # without a namespace it is never found, but that too must be answered
_API = rf"/api/(?P<repo_type>models|datasets|spaces)/{_ID}"
_PAGE = rf"/(?P<repo_type>datasets/|spaces/)?{_ID}"
_REVISION = r"(?P<revision>[^/]+)"


def _route(method: str, path: str, locked: bool = True) -> Callable[[_Route], _Route]:
    """
    Answer such requests with the decorated method, which gets the path's named groups, unquoted.

    Args:
        locked (`bool`, *optional*, defaults to `True`): Whether it holds the Hub's lock while it works; not if it
            reads or writes much content.
    """

    def note(function: _Route) -> _Route:
        _ROUTES.append((re.compile(method), re.compile(path), function, locked))
        return function

    return note


class _Handler(BaseHTTPRequestHandler):
    """One request after the other of one connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer goes out in one piece
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_request(self) -> None:
        self.hub = self.server.hub
        path, _, query = self.path.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.body = bytearray()
        fault = self.hub.take_fault(self.command, path)
        whole = self.read_body(fault.after if fault.kind == "drop" else None)
        answer = None
        if whole and fault.kind != "drop":
            answer = failing(fault) if fault.kind == "fail" else self.find_answer(path)
        status = answer.status if answer else 0
        # Noted before the client hears of it: a test may look as soon as the client has finished.
        with self.hub.lock:
            self.hub.requests.append(Request(self.command, path, query, status, len(self.body)))
        if answer is None or fault.kind == "lose":
            self.close_connection = True
        else:
            self.send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_CONNECT = handle_request

    def read_body(self, limit: int | None) -> bool:
        """Read the body, or its first `limit` bytes. False if the client went away in the middle."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.read_piece(int(self.headers.get("Content-Length") or 0), limit)
        while limit is None or len(self.body) < limit:
            size = self.rfile.readline().split(b";")[0].strip()
            if not size or not self.read_piece(int(size, 16), limit):
                return False
            self.rfile.readline()
            if int(size, 16) == 0:
                break
        return True

    def read_piece(self, size: int, limit: int | None) -> bool:
        if limit is not None:
            size = min(size, limit - len(self.body))
        piece = self.rfile.read(size)
        self.body += piece
        return len(piece) == size

    def find_answer(self, path: str) -> Answer:
        for method, pattern, function, locked in _ROUTES:
            match = pattern.fullmatch(path)
            if match is None or not method.fullmatch(self.command):
                continue
            values = {name: value and unquote(value) for name, value in match.groupdict().items()}
            if "repo_type" in values:
                values["repo_type"] = (values["repo_type"] or "models").rstrip("/").removesuffix("s")
            try:
                if not locked:
                    return function(self, **values)
                with self.hub.lock:
                    return function(self, **values)
            except HubError as error:
                return error.answer
            except Exception as error:  # a mistake in this file: shown to the client and in the test's output
                traceback.print_exc()
                return HubError(500, f"The local Hub failed: {error!r}").answer
        return HubError(404, f"No route of the local Hub: {self.command} {path}").answer

    def send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value.encode("ascii", "replace").decode().replace("\n", " "))
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    # Who may do what.

    def has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def check_token(self) -> None:
        if self.has_token():
            return
        if self.headers.get("Authorization"):
            raise HubError(401, "Invalid credentials in Authorization header")
        # The client takes a 401 for a missing repository, but only from an https address; here the code tells it so.
        of_repo = re.match(r"/api/(models|datasets|spaces)/.|/.+/resolve/.", self.path)
        raise HubError(401, "Invalid username or password.", "RepoNotFound" if of_repo else None)

    def check_write_role(self) -> None:
        self.check_token()
        if self.hub.role == "read":
            raise HubError(403, WRITE_TOKEN_NEEDED)

    def is_ours(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.hub.user, *self.hub.orgs)

    def is_visible(self, repo: Repo) -> bool:
        return not repo.private or (self.has_token() and self.is_ours(repo.id))

    def readable(self, repo_type: str, repo_id: str) -> Repo:
        repo = self.hub.repos.get((repo_type, repo_id))
        if repo is None or not self.is_visible(repo):
            raise HubError(404, "Repository not found", "RepoNotFound")
        if self.headers.get("Authorization"):
            self.check_token()
        return repo

    def writable(self, repo_type: str, repo_id: str, by_pull_request: bool = False) -> Repo:
        self.check_token()
        repo = self.readable(repo_type, repo_id)
        self.check_write_role()
        if not by_pull_request and not self.is_ours(repo_id):
            raise HubError(403, PULL_REQUEST_NEEDED)
        return repo

    def opens_pull_request(self) -> bool:
        return self.query.get("create_pr", "").lower() in ("1", "true")

    # The account and its repositories.

    @_route("GET", "/api/whoami-v2")
    def whoami(self) -> Answer:
        self.check_token()
        hub = self.hub
        access = {"displayName": "test", "role": hub.role, "createdAt": now()}
        return as_json(
            {
                "type": "user",
                "id": hub.user,
                "name": hub.user,
                "fullname": hub.user,
                "email": "tester@example.org",
                "emailVerified": True,
                "canPay": False,
                "isPro": False,
                "periodEnd": None,
                "avatarUrl": "",
                "orgs": [
                    {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "write"}
                    for name in hub.orgs
                ],
                "auth": {"type": "access_token", "accessToken": access},
            }
        )

    @_route("POST", "/api/repos/create")
    def create(self) -> Answer:
        self.check_write_role()
        wanted = json.loads(self.body)
        repo_type, name = wanted.get("type") or "model", wanted["name"]
        namespace = wanted.get("organization") or self.hub.user
        repo_id = f"{namespace}/{name}"
        bad = "--" in repo_id or ".." in repo_id or name.endswith((".git", ".ipynb"))
        if bad or not NAME.fullmatch(name) or repo_type not in ("model", "dataset", "space"):
            raise HubError(400, f"Invalid repo name: {repo_id}")
        if not self.is_ours(repo_id):
            message = f'You don\'t have the rights to create a {repo_type} under the namespace "{namespace}"'
            raise HubError(403, message)
        existing = self.hub.repos.get((repo_type, repo_id))
        if existing is not None:
            message = f"You already created this {repo_type} repo"
            raise HubError(409, message, url=self.hub.url + existing.page)
        private = wanted.get("private") is True or wanted.get("visibility") == "private"
        repo = self.hub.create(repo_type, repo_id, private)
        return as_json({"url": self.hub.url + repo.page, "name": repo_id, "id": repo_id})

    @_route("DELETE", "/api/repos/delete")
    def delete(self) -> Answer:
        wanted = json.loads(self.body)
        repo_id = f"{wanted.get('organization') or self.hub.user}/{wanted['name']}"
        repo = self.writable(wanted.get("type") or "model", repo_id)
        del self.hub.repos[repo.type, repo.id]
        return as_json({})

    @_route("PUT", rf"{_API}/settings")
    def update_settings(self, repo_type: str, repo_id: str) -> Answer:
        repo = self.writable(repo_type, repo_id)
        wanted = json.loads(self.body)
        if "visibility" in wanted or "private" in wanted:
            repo.private = wanted.get("private") is True or wanted.get("visibility") == "private"
        repo.gated = wanted.get("gated", repo.gated)
        return as_json({"private": repo.private, "gated": repo.gated})

    @_route("GET", rf"{_API}/auth-check(?P<write>/write)?")
    def auth_check(self, repo_type: str, repo_id: str, write: str | None) -> Answer:
        if write:
            self.writable(repo_type, repo_id)
        else:
            self.readable(repo_type, repo_id)
        return as_json({})

    @_route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> Answer:
        wanted = json.loads(self.body)
        errors, warnings = check_readme(wanted["content"], wanted.get("repoType") or "model")
        answer = {
            "errors": [{"message": message} for message in errors],
            "warnings": [{"message": message} for message in warnings],
        }
        return as_json(answer, 400 if errors else 200)

    # Reading.

    @_route("GET", "/api/(?P<repo_type>models|datasets|spaces)")
    def list_repos(self, repo_type: str) -> Answer:
        author, search = self.query.get("author"), self.query.get("search", "").lower()
        return as_json(
            [
                {"_id": repo.id, "id": repo.id, "private": repo.private, "createdAt": repo.created_at, "tags": []}
                for repo in self.hub.repos.values()
                if repo.type == repo_type
                and self.is_visible(repo)
                and author in (None, repo.id.partition("/")[0])
                and search in repo.id.lower()
            ]
        )

    @_route("GET", rf"{_API}(?:/revision/{_REVISION})?")
    def info(self, repo_type: str, repo_id: str, revision: str | None) -> Answer:
        repo = self.readable(repo_type, repo_id)
        commit = repo.commit(revision or "main")
        files: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if "blobs" in self.query:
            for entry in files:
                file = commit.files[entry["rfilename"]]
                entry |= {"size": file.size, "blobId": file.oid, **file.large_info("sha256")}
        card = self.read_card(commit)
        answer = {
            "_id": repo_id,
            "id": repo_id,
            "modelId": repo_id,
            "author": repo_id.partition("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": repo.created_at,
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [str(tag) for tag in as_list(card.get("tags"))],
            "cardData": card,
            "siblings": files,
        }
        if repo_type == "model":
            answer["pipeline_tag"] = card.get("pipeline_tag") or self.guess_pipeline(commit)
            answer["library_name"] = card.get("library_name")
        return as_json(answer)

    def read_card(self, commit: Commit) -> dict[str, Any]:
        file = commit.files.get("README.md")
        try:
            return read_metadata(self.hub.blob(file.key).read_text()) or {} if file else {}
        except (ValueError, yaml.YAMLError):
            return {}

    def guess_pipeline(self, commit: Commit) -> str | None:
        """The task of a model, by its architecture, where the card does not say it."""
        file = commit.files.get("config.json")
        architectures = json.loads(self.hub.blob(file.key).read_bytes()).get("architectures") if file else None
        classifies = any(name.endswith("ForSequenceClassification") for name in architectures or [])
        return "text-classification" if classifies else None

    @_route("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<folder>.*))?")
    def tree(self, repo_type: str, repo_id: str, revision: str, folder: str | None) -> Answer:
        commit = self.readable(repo_type, repo_id).commit(revision)
        top = PurePosixPath((folder or "").strip("/"))
        recursive = self.query.get("recursive", "").lower() in ("true", "1")
        folders: set[PurePosixPath] = set()
        files: list[str] = []
        for path in sorted(commit.files):
            inside = [parent for parent in PurePosixPath(path).parents if top in parent.parents]
            if top in PurePosixPath(path).parents:
                folders.update(parent for parent in inside if recursive or parent.parent == top)
                files += [path] if recursive or not inside else []
        if not files and not folders and top.name:
            raise HubError(404, f"{top} does not exist on {revision}", "EntryNotFound")
        return as_json(self.entries(commit, [*map(str, sorted(folders)), *files]))

    @_route("POST", rf"{_API}/paths-info/{_REVISION}")
    def paths_info(self, repo_type: str, repo_id: str, revision: str) -> Answer:
        commit = self.readable(repo_type, repo_id).commit(revision)
        if "json" in self.headers.get("Content-Type", ""):
            paths = as_list(json.loads(self.body)["paths"])
        else:
            fields = parse_qsl(self.body.decode())
            paths = [value for name, value in fields if name == "paths"]
            self.query |= {name: value for name, value in fields if name == "expand"}
        return as_json(self.entries(commit, [path.strip("/") for path in paths]))

    def entries(self, commit: Commit, paths: list[str]) -> list[dict[str, Any]]:
        """What listings say of those paths that are there."""
        found: list[dict[str, Any]] = []
        for path in paths:
            if path in commit.files:
                file = commit.files[path]
                found.append(
                    {"type": "file", "path": path, "size": file.size, "oid": file.oid, **file.large_info("oid")}
                )
            elif any(name.startswith(f"{path}/") for name in commit.files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())})
        if self.query.get("expand", "").lower() in ("true", "1"):
            for entry in found:
                entry["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
        return found

    @_route("GET", rf"{_API}/refs")
    def list_refs(self, repo_type: str, repo_id: str) -> Answer:
        repo = self.readable(repo_type, repo_id)

        def listed(prefix: str) -> list[dict[str, str]]:
            names = repo.names(prefix).items()
            return [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in names]

        answer = {"branches": listed("refs/heads/"), "tags": listed("refs/tags/"), "converts": []}
        if "include_prs" in self.query:
            answer["pullRequests"] = listed("refs/pr/")
        return as_json(answer)

    @_route("GET", rf"{_API}/commits/{_REVISION}")
    def list_commits(self, repo_type: str, repo_id: str, revision: str) -> Answer:
        return as_json(
            [
                {
                    "id": commit.oid,
                    "title": commit.title,
                    "message": commit.description,
                    "date": commit.date,
                    "authors": [{"user": self.hub.user}],
                }
                for commit in self.readable(repo_type, repo_id).history(revision)
            ]
        )

    @_route("GET|HEAD", rf"{_PAGE}/resolve/{_REVISION}/(?P<path>.+)", locked=False)
    def download(self, repo_type: str, repo_id: str, revision: str, path: str) -> Answer:
        with self.hub.lock:
            commit = self.readable(repo_type, repo_id).commit(revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            # The client remembers by this commit that the file is not there.
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        file = commit.files[path]
        headers |= {"ETag": f'"{file.key}"', "Accept-Ranges": "bytes"}
        if file.sha256 is not None:
            headers |= {"X-Linked-ETag": f'"{file.key}"', "X-Linked-Size": str(file.size)}
        start, stop, status = 0, file.size, 200
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is not None and any(wanted.groups()):
            first, last = wanted.groups()
            start = int(first) if first else max(file.size - int(last), 0)
            stop = min(int(last) + 1, file.size) if first and last else file.size
            if start >= stop:
                headers["Content-Range"] = f"bytes */{file.size}"
                raise HubError(416, "The requested range is not satisfiable", headers=headers)
            headers["Content-Range"], status = f"bytes {start}-{stop - 1}/{file.size}", 206
        with self.hub.blob(file.key).open("rb") as content:
            content.seek(start)
            return Answer(content.read(stop - start), status, headers, "application/octet-stream")

    # Pull requests.

    @_route("GET", rf"{_API}/discussions")
    def list_discussions(self, repo_type: str, repo_id: str) -> Answer:
        repo = self.readable(repo_type, repo_id)
        found = [
            self.discussion(repo, pull)
            for pull in reversed(repo.pulls)
            if self.query.get("type", "all") in ("all", "pull_request")
            and self.query.get("status", "all") in ("all", pull.status)
            and self.query.get("author") in (None, pull.author)
        ]
        start = int(self.query.get("p", 0)) * PAGE_OF_DISCUSSIONS
        page = found[start : start + PAGE_OF_DISCUSSIONS]
        return as_json({"discussions": page, "count": len(found), "start": start, "numClosedDiscussions": 0})

    @_route("GET", rf"{_API}/discussions/(?P<number>\d+)")
    def discussion_details(self, repo_type: str, repo_id: str, number: str) -> Answer:
        repo = self.readable(repo_type, repo_id)
        pull = next((pull for pull in repo.pulls if pull.number == int(number)), None)
        if pull is None:
            raise HubError(404, f"No discussion {number}")
        event = {"createdAt": pull.created_at, "author": {"name": pull.author}}
        said = {"raw": pull.description, "html": pull.description, "updatedAt": pull.created_at}
        shown = {"edited": False, "hidden": False, "latest": said, "history": []}
        merged = {commit.oid for commit in repo.history(pull.base)}
        own = [commit for commit in repo.history(pull.revision) if commit.oid not in merged]
        events = [{"id": f"{pull.number:024x}", "type": "comment", "data": shown, **event}]
        events += [
            {"id": commit.oid, "type": "commit", "data": {"subject": commit.title, "oid": commit.oid}, **event}
            for commit in reversed(own)
        ]
        changes = {"base": f"refs/heads/{pull.base}"}
        details = {"events": events, "changes": changes, "filesWithConflicts": [], "diff": ""}
        return as_json({**self.discussion(repo, pull), **details})

    def discussion(self, repo: Repo, pull: PullRequest) -> dict[str, Any]:
        return {
            "num": pull.number,
            "title": pull.title,
            "author": {"name": pull.author},
            "createdAt": pull.created_at,
            "status": pull.status,
            "isPullRequest": True,
            "repo": {"name": repo.id, "type": repo.type},
        }

    # Writing.

    @_route("POST", rf"{_API}/branch/(?P<name>[^/]+)")
    def create_branch(self, repo_type: str, repo_id: str, name: str) -> Answer:
        start = json.loads(self.body or b"{}").get("startingPoint")
        return self.create_ref(self.writable(repo_type, repo_id), f"refs/heads/{name}", start or "main")

    @_route("POST", rf"{_API}/tag/{_REVISION}")
    def create_tag(self, repo_type: str, repo_id: str, revision: str) -> Answer:
        name = json.loads(self.body)["tag"]
        return self.create_ref(self.writable(repo_type, repo_id), f"refs/tags/{name}", revision)

    def create_ref(self, repo: Repo, name: str, revision: str) -> Answer:
        if not re.fullmatch(r"refs/(heads|tags)/(?!refs/)[^\s~^:?*\[\\]+", name):
            raise HubError(400, f"Invalid reference: {name}")
        oid = repo.commit(revision).oid
        if name in repo.refs:
            raise HubError(409, f"Reference already exists: {name}")
        repo.refs[name] = oid
        return as_json({})

    @_route("DELETE", rf"{_API}/(?P<kind>branch|tag)/(?P<name>[^/]+)")
    def delete_ref(self, repo_type: str, repo_id: str, kind: str, name: str) -> Answer:
        repo = self.writable(repo_type, repo_id)
        name = f"refs/{'heads' if kind == 'branch' else 'tags'}/{name}"
        if name == "refs/heads/main":
            raise HubError(403, "The main branch cannot be deleted")
        if name not in repo.refs:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        del repo.refs[name]
        return as_json({})

    @_route("POST", rf"{_API}/preupload/{_REVISION}")
    def preupload(self, repo_type: str, repo_id: str, revision: str) -> Answer:
        by_pull_request = self.opens_pull_request() or revision.startswith("refs/pr/")
        existing = self.writable(repo_type, repo_id, by_pull_request).commit(revision).files
        modes = []
        for wanted in json.loads(self.body)["files"]:
            path = wanted["path"]
            large = is_large(path, base64.b64decode(wanted.get("sample", "")), wanted["size"])
            oid = existing[path].key if path in existing else None
            mode = "lfs" if large else "regular"
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return as_json({"files": modes})

    @_route("POST", rf"{_PAGE}\.git/info/lfs/objects/batch")
    def announce_large(self, repo_type: str, repo_id: str) -> Answer:
        wanted = json.loads(self.body)
        branch = wanted.get("ref", {}).get("name")  # none if the files are for a new pull request
        self.writable(repo_type, repo_id, by_pull_request=branch is None or branch.startswith("refs/pr/"))
        objects = []
        for item in wanted["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if not self.hub.blob(item["oid"]).exists():
                address = f"{self.hub.url}/_lfs/{item['oid']}"
                upload = {"href": f"{address}?key={self.hub.upload_key}", "header": {}}
                entry["actions"] = {"upload": upload, "verify": {"href": f"{address}/verify", "header": {}}}
            objects.append(entry)
        return as_json({"transfer": "basic", "objects": objects})

    @_route("PUT", "/_lfs/(?P<oid>[0-9a-f]{64})", locked=False)
    def upload_large(self, oid: str) -> Answer:
        if self.query.get("key") != self.hub.upload_key:  # no token here: the storage is not the Hub's
            raise HubError(403, "Not an address that the Hub gave out")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "The content does not have the announced SHA-256")
        self.hub.keep(bytes(self.body), large=True)
        with self.hub.lock:
            self.hub.uploads[oid] += 1
        return as_json({})

    @_route("POST", "/_lfs/(?P<oid>[0-9a-f]{64})/verify")
    def verify_large(self, oid: str) -> Answer:
        self.check_token()
        blob = self.hub.blob(oid)
        if not blob.exists() or blob.stat().st_size != json.loads(self.body)["size"]:
            raise HubError(404, "The file was not uploaded")
        return as_json({})

    @_route("POST", rf"{_API}/commit/{_REVISION}", locked=False)
    def commit(self, repo_type: str, repo_id: str, revision: str) -> Answer:
        opens = self.opens_pull_request()
        by_pull_request = opens or revision.startswith("refs/pr/")
        with self.hub.lock:
            self.writable(repo_type, repo_id, by_pull_request)
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        changes = [(line["key"], line["value"]) for line in lines if line["key"] != "header"]
        added = {value["path"]: self.added(kind, value) for kind, value in changes if kind in ("file", "lfsFile")}
        with self.hub.lock:  # from here on it happens as one, or not at all
            repo = self.writable(repo_type, repo_id, by_pull_request)
            head, parent = repo.commit(revision), header.get("parentCommit")
            name = repo.reference(revision)
            if name is None or name.startswith("refs/tags/"):
                raise HubError(404, f"Not a branch: {revision}", "RevisionNotFound")
            if opens:
                head = repo.commit(parent) if parent else head
            elif parent and not head.oid.startswith(parent):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = changed(head.files, changes, added)
            title, description = header["summary"], header.get("description", "")
            pull = None
            if opens:
                base = name.removeprefix("refs/heads/")
                pull = PullRequest(len(repo.pulls) + 1, title, description, self.hub.user, base, now())
                repo.pulls.append(pull)
                name = pull.revision
            made = repo.add(name, head.oid, title, description, files)
            for kind, value in changes:
                if kind == "file":
                    sha256 = hashlib.sha256(base64.b64decode(value["content"])).hexdigest()
                    self.hub.sent[repo_type, repo_id, value["path"], sha256] += 1
        page = self.hub.url + repo.page
        return as_json(
            {
                "success": True,
                "commitOid": made.oid,
                "commitUrl": f"{page}/commit/{made.oid}",
                "hookOutput": "",
                "pullRequestUrl": f"{page}/discussions/{pull.number}" if pull else None,
            }
        )

    def added(self, kind: str, value: dict[str, Any]) -> File:
        """The file that a line of a commit adds, with its content in the store."""
        if any(part in ("", ".", "..", ".git") for part in value["path"].split("/")):
            raise HubError(400, f"Invalid path: {value['path']}")
        if kind == "file":
            return self.hub.keep(base64.b64decode(value["content"]))
        blob = self.hub.blob(value["oid"])
        if not re.fullmatch("[0-9a-f]{64}", value["oid"]) or not blob.exists():
            raise HubError(400, f"A large file was not uploaded: {value['path']}")
        size = blob.stat().st_size
        return File(git_oid(pointer(value["oid"], size)), size, value["oid"])


def changed(
    files: dict[str, File], changes: list[tuple[str, dict[str, Any]]], added: dict[str, File]
) -> dict[str, File]:
    """The files of a commit after what its lines ask for."""
    files = dict(files)
    for kind, value in changes:
        path = value["path"]
        if kind in ("file", "lfsFile"):
            files[path] = added[path]
        elif kind == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif kind == "deletedFolder":
            files = {name: file for name, file in files.items() if not name.startswith(f"{path.rstrip('/')}/")}
        else:
            raise HubError(400, f"Unknown operation: {kind}")
    return files


def failing(fault: Fault) -> Answer:
    """As the real one fails: a page in HTML from the gateway in front of it, JSON from the Hub itself."""
    if fault.status >= 500:
        page = f"<html><body><h1>{fault.status}</h1></body></html>".encode()
        return Answer(page, fault.status, dict(fault.headers), "text/html")
    return HubError(fault.status, f"The local Hub was told to answer {fault.status}.", headers=fault.headers).answer


def check_readme(content: str, repo_type: str) -> tuple[list[str], list[str]]:
    """What the Hub says of a card's metadata: errors, with which it is not accepted, and warnings."""
    try:
        metadata = read_metadata(content)
    except (ValueError, yaml.YAMLError) as error:
        return [f"The metadata is not valid YAML: {error}"], []
    if not metadata:
        missing = "empty or missing yaml metadata in repo card"
        return ([missing], []) if repo_type == "space" else ([], [missing])
    errors = []
    for key, kind in (("base_model", "model"), ("datasets", "dataset")):
        for value in as_list(metadata.get(key)):
            namespace, _, name = str(value).rpartition("/")
            if not NAME.fullmatch(name) or not (namespace == "" or NAME.fullmatch(namespace)):
                message = f'"{key}" with value "{value}" is not valid. Use a {kind} id from https://hf.co/{kind}s.'
                errors.append(message)
    for key in ("language", "license"):
        errors += [
            f'"{key}" must only contain lowercase characters'
            for value in as_list(metadata.get(key))
            if not isinstance(value, str) or value != value.lower()
        ]
    if not isinstance(metadata.get("tags", []), list):
        errors.append('"tags" must be an array')
    return errors, []


def read_metadata(content: str) -> dict[str, Any] | None:
    """The YAML at the head of a README.md; None without one."""
    match = METADATA.match(content)
    if match is None:
        return None
    metadata = yaml.safe_load(match[1])
    if not isinstance(metadata, dict | None):
        raise ValueError(f"Expected a mapping, got {type(metadata).__name__}.")
    return metadata


def is_large(path: str, sample: bytes, size: int) -> bool:
    """Whether a file goes to the large file storage: by name, size, or because it is binary."""
    return path.endswith(LARGE_SUFFIXES) or size >= LARGE_SIZE or b"\0" in sample


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value, default=str).encode(), status, dict(headers or {}))


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
