import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from local_hub import LocalHub

PRELUDE = """
import json, os, sys, time
from pathlib import Path

waits = []
time.sleep = waits.append  # what a client would wait for before it tries again

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

api = HfApi()
folder = Path(sys.argv[1])
said = {}


def attempt(name, call, **kwargs):
    \"\"\"Note what comes of a call: a name of its exception, the status, and what it says.\"\"\"
    try:
        said[name] = str(call(**kwargs))
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        said[name] = [type(error).__name__, status, str(error)]
"""


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        yield hub


def run_client(hub: LocalHub, folder: Path, script: str, **env: str) -> dict:
    """What a script notes in `said`, run in a process that takes the local Hub for the real one."""
    done = subprocess.run(
        [sys.executable, "-c", f"{PRELUDE}\n{script}\nprint(json.dumps(said))", folder],
        env={**hub.env(folder / "home"), "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def ask(hub: LocalHub, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a request without any client."""
    try:
        with urllib.request.urlopen(urllib.request.Request(hub.url + path, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_what_is_uploaded_is_what_is_downloaded(hub, tmp_path):
    weights = os.urandom(11 * 1024 * 1024)
    (tmp_path / "weights.dat").write_bytes(weights)
    said = run_client(
        hub,
        tmp_path,
        """
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

api.create_repo("tester/student", private=True)
api.create_repo("tester/student", exist_ok=True)
attempt("again", api.create_repo, repo_id="tester/student")
attempt("bad card", api.upload_file, path_or_fileobj=b"---\\nlicense: [\\n---\\n", path_in_repo="README.md",
        repo_id="tester/student")
operations = [
    CommitOperationAdd("README.md", b"---\\nlicense: mit\\n---\\n# Student"),
    CommitOperationAdd("data/weights.dat", str(folder / "weights.dat")),
    CommitOperationAdd("data/note.txt", b"small"),
]
first = api.create_commit("tester/student", operations, commit_message="Add all")
operations = [CommitOperationAdd("data/weights.dat", str(folder / "weights.dat")), CommitOperationDelete("data/note.txt")]
second = api.create_commit("tester/student", operations, commit_message="Delete the note", parent_commit=first.oid)
attempt("late", api.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="tester/student",
        parent_commit=first.oid)
said["files"] = sorted(api.list_repo_files("tester/student"))
said["expected commit"] = api.model_info("tester/student").sha == second.oid
snapshot = Path(snapshot_download("tester/student"))
said["snapshot"] = sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())
said["same"] = (snapshot / "data/weights.dat").read_bytes() == (folder / "weights.dat").read_bytes()
said["old note"] = Path(hf_hub_download("tester/student", "data/note.txt", revision=first.oid)).read_text()
attempt("missing", hf_hub_download, repo_id="tester/student", filename="data/note.txt")
api.update_repo_settings("tester/student", private=False)
""",
    )
    assert said["again"][1] == 409
    assert said["bad card"][0] == "ValueError" and "not valid YAML" in said["bad card"][2]
    assert said["late"][1] == 412
    assert said["files"] == said["snapshot"] == [".gitattributes", "README.md", "data/weights.dat"]
    assert said["expected commit"] and said["same"]
    assert said["old note"] == "small"
    assert said["missing"][0] == "RemoteEntryNotFoundError"

    sha256 = hashlib.sha256(weights).hexdigest()
    assert hub.files("model", "tester/student")["data/weights.dat"] == weights
    assert hub.commits("model", "tester/student") == ["Delete the note", "Add all", "initial commit"]
    assert hub.uploads == {sha256: 1}
    assert {key[2]: times for key, times in hub.sent.items()} == {"README.md": 1, "data/note.txt": 1}
    assert not hub.private("model", "tester/student")
    assert max(request.received for request in hub.requests) == len(weights)
    page = "/tester/student/resolve/main/data/weights.dat"
    assert ask(hub, page, Range="bytes=100-199") == (206, weights[100:200])
    assert ask(hub, page, Range="bytes=-7") == (206, weights[-7:])
    assert ask(hub, page, Range=f"bytes={len(weights)}-")[0] == 416


def test_datasets_and_transformers_work_against_it(hub, student_dir, tmp_path):
    said = run_client(
        hub,
        tmp_path,
        f"""
from datasets import Dataset, load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, pipeline

rows = Dataset.from_dict({{"text": ["a great film", "a bad film"], "label": [1, 0]}})
rows.push_to_hub("our-team/reviews", "first", private=True)
rows.select([0]).push_to_hub("our-team/reviews", "second")
said["rows"] = [load_dataset("our-team/reviews", name, split="train")["text"][:] for name in ("first", "second")]

model = AutoModelForSequenceClassification.from_pretrained({student_dir!r})
tokenizer = AutoTokenizer.from_pretrained({student_dir!r})
args = TrainingArguments(str(folder / "run"), hub_model_id="tester/trained", use_cpu=True, max_steps=1, report_to=[])
tokenized = rows.map(lambda row: tokenizer(row["text"]))
trainer = Trainer(model, args, train_dataset=tokenized, processing_class=tokenizer)
trainer.train()
trainer.push_to_hub("Trained", tags=["film"])
loaded = AutoModelForSequenceClassification.from_pretrained("tester/trained")
said["same"] = all((a == b).all().item() for a, b in zip(model.parameters(), loaded.parameters()))
said["label"] = pipeline(model="tester/trained")("a great film")[0]["label"]
""",
    )
    assert said["rows"] == [["a great film", "a bad film"], ["a great film"]]
    assert said["same"]
    assert said["label"] in ("negative", "positive")
    assert hub.private("dataset", "our-team/reviews")
    assert hub.commits("model", "tester/trained")[0] == "Trained"
    assert b"- film" in hub.files("model", "tester/trained")["README.md"]
    elsewhere = {request.path for request in hub.requests if not request.path.startswith("/")}
    assert all("://datasets-server." in address for address in elsewhere)  # where datasets looks for a viewer's data


def test_pull_requests_can_be_opened_read_and_added_to(hub, tmp_path):
    hub.put("dataset", "somebody/theirs", {"data.csv": b"theirs"})
    said = run_client(
        hub,
        tmp_path,
        """
from huggingface_hub import hf_hub_download

common = {"repo_id": "somebody/theirs", "repo_type": "dataset"}
opened = api.upload_file(path_or_fileobj=b"ours", path_in_repo="data.csv", create_pr=True,
                         commit_message="Change the data", **common)
said["opened"] = [opened.pr_revision, opened.pr_num, opened.pr_url]
api.upload_file(path_or_fileobj=b"\\0more", path_in_repo="more.bin", revision="refs/pr/1", commit_message="More", **common)
found = list(api.get_repo_discussions(discussion_type="pull_request", discussion_status="open", **common))
said["found"] = [(pull.title, pull.num, pull.status, pull.author, pull.repo_type) for pull in found]
details = api.get_discussion_details(discussion_num=1, **common)
said["details"] = [details.target_branch, [event.summary for event in details.events if event.type == "commit"]]
said["theirs"] = Path(hf_hub_download(filename="data.csv", **common)).read_text()
said["ours"] = Path(hf_hub_download(filename="data.csv", revision="refs/pr/1", **common)).read_text()
said["refs"] = [ref.ref for ref in api.list_repo_refs(include_pull_requests=True, **common).pull_requests]
""",
    )
    assert said["opened"] == ["refs/pr/1", 1, f"{hub.url}/datasets/somebody/theirs/discussions/1"]
    assert said["found"] == [["Change the data", 1, "open", "tester", "dataset"]]
    assert said["details"] == ["refs/heads/main", ["Change the data", "More"]]
    assert (said["theirs"], said["ours"]) == ("theirs", "ours")
    assert said["refs"] == ["refs/pr/1"]
    assert [pull.title for pull in hub.pulls("dataset", "somebody/theirs")] == ["Change the data"]
    assert hub.files("dataset", "somebody/theirs")["data.csv"] == b"theirs"
    assert hub.files("dataset", "somebody/theirs", "refs/pr/1")["more.bin"] == b"\0more"


def test_faults_are_seen_by_the_client(hub, tmp_path):
    hub.put("model", "tester/student", {})
    hub.fail("/api/repos/create")
    hub.fail("/preupload/", status=429, headers={"Retry-After": "7"})
    hub.drop("/_lfs/", method="PUT", after=1024 * 1024)
    hub.fail("/commit/", times=1)
    hub.drop("/commit/", times=1, after=10)
    hub.lose("/commit/")
    hub.fail("/data.bin", method="HEAD", status=500)
    said = run_client(
        hub,
        tmp_path,
        """
from huggingface_hub import hf_hub_download

attempt("create", api.create_repo, repo_id="tester/other")
data = os.urandom(3 * 1024 * 1024)
upload = {"path_or_fileobj": data, "path_in_repo": "data.bin", "repo_id": "tester/student", "commit_message": "Data"}
for name in ("failed", "dropped", "lost", "after"):
    attempt(name, api.upload_file, **upload)
attempt("download", hf_hub_download, repo_id="tester/student", filename="data.bin")
said["waits"] = waits
""",
    )
    assert said["create"][:2] == ["HfHubHTTPError", 503] and ("model", "tester/other") not in hub.repos
    # The client tries again by itself before a commit, but not the commit.
    assert said["waits"] == [8.0, 1]
    assert [request.status for request in hub.requests if request.method == "PUT"] == [0, 200]
    assert set(hub.uploads.values()) == {1}
    assert said["failed"][:2] == ["HfHubHTTPError", 503]
    assert said["dropped"][1] is None and said["lost"][:2] == ["RemoteProtocolError", None]
    assert hub.commits("model", "tester/student") == ["Data", "From somebody else", "initial commit"]
    assert [request.status for request in hub.requests if "/commit/" in request.path] == [503, 0, 200]
    assert said["after"].endswith(hub.repos["model", "tester/student"].refs["refs/heads/main"])
    assert said["download"].endswith("data.bin")
    assert [request.status for request in hub.requests if request.method == "HEAD"] == [500, 200]


def test_what_the_token_may_not_do_is_refused(hub, tmp_path):
    hub.put("model", "tester/student", {"note.txt": b"secret"}, private=True)
    hub.put("model", "somebody/theirs", {"note.txt": b"theirs"})
    hub.put("model", "somebody/secret", {"note.txt": b"secret"}, private=True)
    hub.role = "read"
    reading = """
said["role"] = api.whoami()["auth"]["accessToken"]["role"]
said["note"] = Path(api.hf_hub_download("tester/student", "note.txt")).read_text()
attempt("create", api.create_repo, repo_id="tester/new")
attempt("commit", api.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="tester/student")
attempt("pull request", api.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="tester/student", create_pr=True)
attempt("settings", api.update_repo_settings, repo_id="tester/student", private=False)
attempt("tag", api.create_tag, repo_id="tester/student", tag="v1")
"""
    said = run_client(hub, tmp_path, reading)
    assert (said.pop("role"), said.pop("note")) == ("read", "secret")
    assert {name: error[1] for name, error in said.items()} == dict.fromkeys(said, 403)
    assert hub.private("model", "tester/student") and not hub.tags("model", "tester/student")

    hub.role = "write"
    writing = """
attempt("create", api.create_repo, repo_id="somebody/new")
attempt("commit", api.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="somebody/theirs")
attempt("delete", api.delete_repo, repo_id="somebody/theirs")
attempt("private", api.model_info, repo_id="somebody/secret")
attempt("without token", api.model_info, repo_id="tester/student", token=False)
attempt("bad token", api.whoami, token="hf_another")
attempt("anonymous commit", api.upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="somebody/theirs", token=False)
said["public"] = Path(api.hf_hub_download("somebody/theirs", "note.txt", token=False)).read_text()
"""
    said = run_client(hub, tmp_path, writing)
    assert said.pop("public") == "theirs"
    found = {name: tuple(error[:2]) for name, error in said.items()}
    assert found == {
        "create": ("HfHubHTTPError", 403),
        "commit": ("HfHubHTTPError", 403),
        "delete": ("HfHubHTTPError", 403),
        "private": ("RepositoryNotFoundError", 404),
        "without token": ("RepositoryNotFoundError", 404),
        "bad token": ("HfHubHTTPError", 401),
        "anonymous commit": ("RepositoryNotFoundError", 401),
    }


def test_a_tag_keeps_its_commit_and_cannot_be_made_twice(hub, tmp_path):
    first = hub.put("space", "our-team/demo", {"app.py": b"1"})
    said = run_client(
        hub,
        tmp_path,
        """
common = {"repo_id": "our-team/demo", "repo_type": "space"}
api.create_tag(tag="v1", **common)
api.upload_file(path_or_fileobj=b"2", path_in_repo="app.py", **common)
attempt("again", api.create_tag, tag="v1", **common)
attempt("no such", api.create_tag, tag="v2", revision="v3", **common)
api.create_tag(tag="v1", exist_ok=True, **common)
api.create_tag(tag="latest", **common)
api.create_branch(branch="old", revision="v1", **common)
said["tagged"] = Path(api.hf_hub_download(filename="app.py", revision="v1", **common)).read_text()
api.delete_tag(tag="latest", **common)
""",
    )
    assert said["again"][1] == 409
    assert said["no such"][0] == "RevisionNotFoundError"
    assert said["tagged"] == "1"
    assert hub.tags("space", "our-team/demo") == {"v1": first}
    assert hub.files("space", "our-team/demo", "old")["app.py"] == b"1"
    assert hub.files("space", "our-team/demo")["app.py"] == b"2"


@pytest.mark.parametrize("name", ["a--b", "a..b", "a.git", "-a", "a b", ""])
def test_names_that_the_hub_refuses_are_bad_requests(hub, name):
    request = urllib.request.Request(
        f"{hub.url}/api/repos/create",
        json.dumps({"name": name, "type": "model"}).encode(),
        {"Authorization": f"Bearer {hub.token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 400
    assert not hub.repos


def test_readme_checks_say_what_is_wrong(hub):
    def check(content: str, repo_type: str) -> tuple[int, list[str], list[str]]:
        body = json.dumps({"content": content, "repoType": repo_type}).encode()
        try:
            answer = urllib.request.urlopen(urllib.request.Request(f"{hub.url}/api/validate-yaml", body))
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            said = json.load(answer)
        return answer.status, [m["message"] for m in said["errors"]], [m["message"] for m in said["warnings"]]

    assert check("---\nlicense: mit\ntags: [film]\n---\n# Card", "model") == (200, [], [])
    assert check("# Card", "dataset") == (200, [], ["empty or missing yaml metadata in repo card"])
    assert check("# Card", "space")[0] == 400
    assert check("---\njust words\n---\n", "dataset")[0] == 400
    status, errors, _ = check("---\nbase_model: /tmp/run/student\n---\n", "model")
    assert status == 400 and "Use a model id" in errors[0]
