"""Every byte that a push sends of a run whose teacher and whose servers said more than is anybody's business."""

import io
import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from conftest import make_reviews
from hf_llambert import EndpointTeacher, LLMLabeler, TaskSpec, annotate, write_report
from hf_llambert.shown import scrubbed, scrubbed_reason, scrubbed_text, shown_command
from hub_fixtures import client, environment, hub  # noqa: F401  (fixtures)
from test_endpoint_hostile import HostileServer, chat

SECRETS = (
    "10.0.0.5", "fd00::7", "gpu-07", "db.corp", "127.0.0.1", "hunter2", "Zm9vOmJhcg", "ana/models", "sk-live", "tok3n",
)  # fmt: skip
SAID = (
    "upstream http://10.0.0.5:8000/v1/chat?key=tok3n is down",
    "connect to 10.0.0.5:8000 failed (host [fd00::7]:8001)",
    "gpu-07:8000 refused ana:hunter2@db.corp/models",
    "Authorization: Basic Zm9vOmJhcg==, api_key='sk-live', sk-live-0123456789abcdef",
    "no such file: /home/ana/models/llama.gguf",
)


@pytest.fixture
def told_run(finished_run, tmp_path, monkeypatch):
    """A finished run whose texts were annotated by a private endpoint that failed on some, each time with another message."""
    run = shutil.copytree(finished_run, tmp_path / "told")
    shutil.rmtree(run / "annotated")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ["annotate", "--base_url", "http://10.0.0.5:8000/v1", "--extra_body=@/home/ana/models/x.json", "--headers"]
    words += ['{"a": "hunter2"}', "--data", "ana:hunter2@db.corp", "--names", '["sk-live"]', "--output", "told"]
    monkeypatch.setattr(sys, "argv", ["hf-llambert", *words])

    def plan(body):
        text = body["messages"][-1]["content"]
        k = int(text.rpartition(" ")[2])
        if k < len(SAID):
            return 400, {}, json.dumps({"error": {"message": SAID[k]}}).encode()
        return chat("positive" if k % 2 else "negative")

    task = TaskSpec("tiny", ("negative", "positive"), "Positive or negative? {text}")
    with HostileServer(plan) as server:
        teacher = EndpointTeacher("org/m", server.url, first_wait=0.001, extra_body='{"user": "hunter2"}')
        labeler = LLMLabeler(task, teacher, run / "ledger-2")
        made = annotate(make_reviews(20), labeler, run / "annotated", gold_column="label", show_progress=False)
    assert made["n_failed"] == 5
    shutil.rmtree(run / "baseline")
    shutil.rmtree(run / "figures")
    return run


def test_no_byte_that_is_pushed_names_a_private_host_a_key_or_a_place(hub, client, told_run):
    here = load_from_disk(str(told_run / "annotated"))["llm_reason"][:]
    assert "10.0.0.5" in here[0]  # at home the reasons stay as they were
    client.push(told_run, "tester/told", space=True)
    report = write_report(told_run)
    assert sum(report["teacher"]["reasons"].values()) == 5
    seen = 0
    for kind in ("dataset", "model", "space"):
        for place, content in hub.files(kind, "tester/told").items():
            said = [content.decode("utf-8", "replace")]
            if place.endswith(".parquet"):
                said = [json.dumps(pq.read_table(io.BytesIO(content)).to_pylist(), default=str)]
            if place.endswith(".parquet") and "annotations" in place:
                reasons = [row["llm_reason"] for row in json.loads(said[0])]
                assert [why is not None for why in reasons] == [True] * 5 + [False] * 15
                assert all(why.startswith("refused: 400 ") for why in reasons[:5])
            seen += 1
            found = [secret for secret in SECRETS for text in said if secret in text]
            assert not found, (kind, place, found)
    assert seen > 15


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "'http://10.0.0.5:8000/v1' cannot be reached (after 6 attempts)",
            "'...' cannot be reached (after 6 attempts)",
        ),
        ("refused: 400 see https://platform.example.com/docs", "refused: 400 see https://platform.example.com/docs"),
        ("connect to 8.8.8.8:53 and 192.168.7.1, localhost:80", "connect to 8.8.8.8:53 and ..., ..."),
        ("fe80::1 and ::1 and [::1]:80 at 12:30:45", "... and ... and ... at 12:30:45"),
        ("nodes a.cluster.internal, b.lan:9 and model.v1", "nodes ..., ... and model.v1"),
        ("ana:word@host.example.com refused", "host.example.com refused"),
        ("mail to ana@example.com: no", "mail to ana@example.com: no"),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "...", "x": 1}'),
        ("X-Api-Key: abc; password=d'e", "X-Api-Key: ...; password=...'e"),
        ("the context is 4096 tokens: 5000 were sent", "the context is 4096 tokens: 5000 were sent"),
        (r"at C:\Users\ana\x.py and /srv/app/main.py:7", "at ... and ...:7"),
        ("either/or and 3/4 and s3://b/x", "either/or and 3/4 and s3://b/x"),
    ],
)
def test_reason_is_published_without_places_and_keys(said, shown):
    assert scrubbed_reason(said) == shown


def test_reasons_that_become_equal_are_counted_together():
    note = {"reasons": {"http://10.0.0.5/v1 is down": 2, "http://10.0.0.6/v1 is down": 3}, "n": {"localhost:80": 1}}
    assert scrubbed(note) == {"reasons": {"... is down": 5}, "n": {"localhost:80": 1}}


def test_versions_names_and_times_stay_as_they_are():
    for text in ("torch 2.13.0.1", "imdb:plain", "org/model@main", "v1.2.3.4-rc", "seed: 3", "password", "10 of 20.5"):
        assert scrubbed_text(text) == text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--names", '["sk-live"]'], "--names ..."),
        (["--names", " 'x'"], "--names ' '\"'\"'x'\"'\"''"),
        (["--headers", "X: y", "--seed", "1"], "--headers ... --seed 1"),
        (["--extra_body", "@/home/ana/x.json"], "--extra_body ..."),
        (["--config", "@/home/ana/x.json"], "--config ..."),
        (["--data", "ana:word@db.example.com"], "--data db.example.com"),
        (["--data", "ana:word@10.0.0.5/x"], "--data .../x"),
        (["--host", "10.0.0.5:8000"], "--host ..."),
        (["--apiKey", "abc"], "--apiKey ..."),
        (["--teacher.api_key=abc"], "--teacher.api_key=..."),
        (["api_key=abc"], "api_key=..."),
        (["-H", "Authorization: Token abc"], "-H 'Authorization: ...'"),
    ],
)
def test_command_is_shown_without_lists_files_and_logins(words, shown):
    assert shown_command(["hf-llambert", "annotate", *words]) == f"hf-llambert annotate {shown}"
