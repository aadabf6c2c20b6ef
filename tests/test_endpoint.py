import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from datasets import Dataset

from conftest import make_cloze
from endpoint_server import FAULTS, EndpointServer
from hf_llambert import EndpointTeacher, LLMLabeler, TaskSpec, annotate
from hf_llambert.teachers import asking
from hf_llambert.teachers.kinds import make_teacher
from hf_llambert.teachers.logprobs import label_log_probabilities
from hf_llambert.teachers.pacing import Budget, Pacer

TASK = TaskSpec("t", ("negative", "positive"), "Positive or negative?\n{text}", system="One word.")
QUICK = {"first_wait": 0.02, "timeout": 5.0, "max_attempts": 12}
TEXTS = [f"{'good' if i % 2 else 'bad'} film number {i}" for i in range(20)]


def ask(teacher, texts=TEXTS, task=TASK):
    replies = {}
    for part in teacher.ask(task, texts):
        assert not replies.keys() & part.keys()
        replies |= part
    assert len(replies) == len(texts)
    return [replies[i] for i in range(len(texts))]


@pytest.fixture
def server():
    with EndpointServer() as server:
        yield server


@pytest.fixture(autouse=True)
def alone_and_online(monkeypatch):
    """The servers of these tests are on the loopback; no budget is left over from another test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(asking, "_BUDGETS", {})


def test_offline_mode_is_explained(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        ask(EndpointTeacher("m", server.url))


def test_generate_asks_each_text_once_and_counts_tokens(server):
    replies = ask(EndpointTeacher("m", server.url))
    assert [reply.response for reply in replies] == ["negative", "positive"] * 10
    assert replies[0].input_tokens == len(TASK.messages(TEXTS[0])[-1]["content"].split())
    assert (server.requests, max(server.answered.values())) == (20, 1)
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "One word."}
    assert server.bodies[0]["model"] == "m"
    assert server.bodies[0]["temperature"] == 0


def test_score_reads_every_spelling_of_a_label_and_bounds_what_is_not_listed(server):
    (reply,) = ask(EndpointTeacher("m", server.url, mode="score"), ["a good film"])
    negative, positive = reply.scores
    assert positive == pytest.approx(-0.2231, abs=1e-3)  # 0.7 + 0.1
    assert negative == pytest.approx(-2.9957, abs=1e-3)  # at most the smallest that was listed, and what is left: 0.05
    assert server.bodies[0]["max_tokens"] == 1


def test_plain_task_goes_to_completions(server):
    task = make_cloze()
    assert ask(EndpointTeacher("m", server.url), ["good"], task)[0].response == "positive"
    (reply,) = ask(EndpointTeacher("m", server.url, mode="score"), ["good"], TASK_PLAIN)
    assert reply.scores[1] > reply.scores[0]
    assert server.bodies[0]["prompt"] == task.messages("good")[0]["content"]


TASK_PLAIN = TaskSpec("p", ("negative", "positive"), "{text}\nIt is", chat=False)


def test_structured_output_is_asked_for_and_disobedience_is_parsed_and_told(caplog):
    with EndpointServer(wrong_share=0.5) as server:
        replies = ask(EndpointTeacher("m", server.url, structured=True))
        labels = [TASK.parse(reply.response) for reply in replies]
        enum = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
    assert enum == ["negative", "positive"]
    assert 0 < labels.count(-1) < 20
    assert all(label in (-1, i % 2) for i, label in enumerate(labels))
    assert f"{labels.count(-1)} of 20 answers ignored structured output" in caplog.text


def test_two_thousand_rows_on_a_server_that_fails_a_third_of_the_time(tmp_path):
    texts = [f"{'good' if i % 3 else 'bad'} review {i}" for i in range(2000)]
    with EndpointServer(fault_share=0.3, wrong_share=0.02) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, **QUICK), tmp_path / "ledger")
        out = labeler({"text": texts})
        assert set(FAULTS) == set(server.faults)
        assert max(server.answered.values()) == 1
        before = server.requests
        assert labeler({"text": texts}) == out
        failed = out["llm_status"].count("failed")
        assert server.requests - before <= failed * QUICK["max_attempts"]
    assert len(out["llm_label"]) == 2000
    assert failed == 0
    assert all(label in (-1, int(i % 3 > 0)) for i, label in enumerate(out["llm_label"]))
    assert 0 < out["llm_label"].count(-1) < 100


def test_row_that_fails_for_good_fails_alone_and_is_asked_again(tmp_path):
    with EndpointServer(fault_share=1.0) as server:
        teacher = EndpointTeacher("m", server.url, timeout=0.2, first_wait=0.01, max_attempts=2)
        labeler = LLMLabeler(TASK, teacher, tmp_path / "ledger")
        assert set(labeler({"text": TEXTS})["llm_status"]) == {"failed"}
        server.fault_share = 0.0
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url), tmp_path / "ledger")
        again = labeler({"text": TEXTS})
    assert set(again["llm_status"]) == {"ok"}
    assert len(labeler.ledger) == 20


def test_so_many_requests_are_in_flight_as_asked_for():
    with EndpointServer(seconds=0.3) as server:
        ask(EndpointTeacher("m", server.url, concurrency=64), [f"text {i}" for i in range(256)])
        assert server.peak == 64


def test_processes_share_concurrency_and_caps(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with EndpointServer(seconds=0.05) as server:
        teacher = EndpointTeacher("m", server.url, concurrency=32, max_requests=40)
        replies = ask(teacher)
    assert server.peak <= 8
    assert server.requests == 10
    assert sum(reply.error is not None for reply in replies) == 10


def test_pacer_halves_once_for_requests_sent_together_and_grows_again():
    async def run():
        pacer, limits = Pacer(16), []
        async with pacer.slot() as sent:
            for _ in range(30):
                pacer.complaint(sent)
        limits.append(pacer.limit)
        async with pacer.slot() as later:
            pacer.complaint(later)
        limits.append(pacer.limit)
        for _ in range(400):
            pacer.content()
        return [*limits, pacer.limit]

    assert asyncio.run(run()) == [8.0, 4.0, 16]


def test_rare_complaints_do_not_slow_everybody():
    async def run():
        pacer = Pacer(64)
        for k in range(1000):
            async with pacer.slot() as sent:
                pacer.complaint(sent) if k % 10 == 0 else pacer.content()
        return pacer.limit

    assert asyncio.run(run()) == 64


@pytest.mark.parametrize(
    "caps", [{"max_requests": 7}, {"max_tokens": 400}, {"max_cost": 0.0004, "price_input": 1.0, "price_output": 2.0}]
)
def test_cap_is_kept_and_the_rest_waits_for_a_rerun(server, caps, tmp_path):
    texts = [text + " and so on" * 5 for text in TEXTS]
    teacher = EndpointTeacher("m", server.url, **caps)
    labeler = LLMLabeler(TASK, teacher, tmp_path / "ledger")
    out = labeler({"text": texts})
    done = out["llm_status"].count("ok")
    assert 0 < done < 20
    assert server.requests == done <= caps.get("max_requests", 20)
    assert sum(server.answered.values()) == done
    reasons = {reason for reason in out["llm_reason"] if reason}
    assert reasons == {"the budget is spent: raise max_requests, max_tokens or max_cost, and run again"}
    replies = labeler.replies(texts).values()
    used = sum(reply.input_tokens + reply.output_tokens for reply in replies)
    assert used <= caps.get("max_tokens", 400)
    more = LLMLabeler(TASK, EndpointTeacher("m", server.url), tmp_path / "ledger")
    assert set(more({"text": texts})["llm_status"]) == {"ok"}
    assert max(server.answered.values()) == 1


def test_budget_counts_what_is_in_flight():
    budget = Budget(tokens=100)
    first = budget.reserve(100, 10)
    assert budget.reserve(100, 10) is None
    budget.settle(first, 100, (20, 1))
    assert budget.used_tokens == 21
    assert budget.reserve(100, 10) is not None


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, PermissionError, "refuses: 401 .*api_key_variable, or hf auth login"),
        (404, ConnectionError, "knows no such model or address: 404 .*usually ends in /v1"),
    ],
)
def test_endpoint_that_refuses_everything_stops_the_run_at_once(server, status, error, message):
    server.refuse = status
    with pytest.raises(error, match=message):
        ask(EndpointTeacher("m", server.url, concurrency=2), [f"text {i}" for i in range(500)])
    assert server.requests < 10


def test_refused_text_fails_alone(server):
    server.refuse = 413
    replies = ask(EndpointTeacher("m", server.url))
    assert {reply.error for reply in replies} == {"refused: 413 no such model"}
    assert server.requests == 20


def test_server_that_is_not_there_stops_the_run():
    teacher = EndpointTeacher("m", "http://127.0.0.1:9/v1", first_wait=0.01, max_attempts=2)
    with pytest.raises(ConnectionError, match="'http://127.0.0.1:9/v1' cannot be reached, .* run again"):
        ask(teacher, [f"text {i}" for i in range(5000)])


def test_server_that_dies_stops_the_run_and_what_came_is_kept(server, tmp_path):
    teacher = EndpointTeacher("m", server.url, first_wait=0.01, max_attempts=2, concurrency=4)
    labeler = LLMLabeler(TASK, teacher, tmp_path / "ledger")

    def progress(count):
        server.refuse = 500

    with pytest.raises(ConnectionError, match="Stopped: 500 no such model, .* in a row"):
        labeler.replies([f"text {i}" for i in range(5000)], progress=progress)
    assert 0 < len(labeler.ledger) == sum(server.answered.values()) < 100


def test_server_that_asks_for_a_long_pause_stops_the_run(server):
    server.refuse, server.retry_after = 429, "86400"
    with pytest.raises(ConnectionError, match="left alone for 86,400 s"):
        ask(EndpointTeacher("m", server.url))


def test_server_without_structured_output_is_asked_without(caplog):
    with EndpointServer(speaks=["chat"]) as server:
        replies = ask(EndpointTeacher("m", server.url, structured=True))
    assert [reply.response for reply in replies] == ["negative", "positive"] * 10
    assert caplog.text.count("may take no response_format") == 1


def test_endpoint_without_logprobs_says_what_to_do():
    with EndpointServer(speaks=["chat"]) as server:
        with pytest.raises(ValueError, match="gives no logprobs, which mode='score' reads. Use mode='generate'"):
            ask(EndpointTeacher("m", server.url, mode="score"), ["x"])
        assert server.requests <= 1


def test_requests_come_back_after_a_cut():
    async def run():
        pacer, entered = Pacer(4), []
        pacer.limit = 1.0

        async def work(i):
            async with pacer.slot():
                entered.append(i)
                if i:
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                pacer.limit = 4.0  # what good answers do

        tasks = [asyncio.create_task(work(i)) for i in range(4)]
        for _ in range(20):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        return entered

    assert asyncio.run(run()) == [0, 1, 2, 3]


SECRET = "sk-very-secret-0123456789"


def test_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MY_KEY", SECRET)
    with EndpointServer(needs_key=SECRET) as server:
        teacher = EndpointTeacher("m", server.url, api_key_variable="MY_KEY")
        data = Dataset.from_dict({"text": TEXTS})
        results = annotate(data, LLMLabeler(TASK, teacher, tmp_path / "l"), tmp_path / "out", show_progress=False)
        assert results["n_ok"] == 20
        server.needs_key = "another"
        with pytest.raises(PermissionError) as refused:
            ask(teacher, ["another text"])
    assert server.keys == {f"Bearer {SECRET}"}
    shown = [repr(teacher), json.dumps([teacher.identity(), teacher.settings()]), str(refused.value), caplog.text]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(SECRET not in text for text in shown)
    assert all(SECRET.encode() not in data for data in [pickle.dumps(teacher), *written])


def test_no_key_is_sent_where_none_was_meant_for(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    ask(EndpointTeacher("m", server.url), ["x"])
    assert server.keys == {"Bearer -"}


def test_redirect_is_not_followed_and_its_host_is_named(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    with EndpointServer() as other:
        server.redirect = other.url.replace("127.0.0.1", "localhost") + "/chat/completions"
        with pytest.raises(ConnectionError, match="'localhost' .307., and no redirect is followed.*base_url"):
            ask(EndpointTeacher("m", server.url, api_key_variable="MY_KEY"), ["good"])
    assert (other.requests, other.keys) == (0, set())


def test_empty_variable_is_said_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(PermissionError, match="MY_KEY is empty"):
        ask(EndpointTeacher("m", server.url, api_key_variable="MY_KEY"))
    assert server.requests == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "http://me:pass@host/v1"}, "no user, password or query"),
        ({"base_url": "https://host/v1?key=1"}, "no user, password or query"),
        ({"base_url": "host:8000"}, "begin with http"),
        ({"base_url": "http://h/v1", "provider": "together"}, "one of the Hub's"),
        ({"mode": "guess"}, "score or generate"),
        ({"max_cost": 3.0}, "needs price_input"),
        ({"concurrency": 0}, "concurrency must be more than 0"),
        ({"concurrency": 101}, "concurrency must be at most 100"),
        ({"extra_body": "[1]"}, "extra_body must be a JSON object"),
    ],
)
def test_wrong_setting_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        EndpointTeacher("m", **change)


def test_task_that_no_endpoint_can_be_asked_is_refused():
    lead_in = TaskSpec("t", ("a", "b"), "{text}", lead_in="It is")
    with pytest.raises(ValueError, match="no chat endpoint takes a begun answer"):
        EndpointTeacher("m", "http://h/v1").ask(lead_in, ["x"])
    with pytest.raises(ValueError, match="the Hub's providers only chat"):
        EndpointTeacher("m").ask(TASK_PLAIN, ["x"])


def test_settings_make_the_same_teacher_unless_the_server_is_private():
    public = EndpointTeacher("m", "https://api.example.com/v1", temperature=0.5, extra_body='{"top_p": 0.9}')
    settings = public.settings()
    assert settings.pop("base_url_is_local") is False
    assert make_teacher(settings) == public
    for private in ("http://127.0.0.1:8000/v1", "http://gpu-box:8000/v1", "http://10.0.0.7/v1"):
        found = EndpointTeacher("m", private).settings()
        assert found["base_url_is_local"]
        assert "base_url" not in found


def test_identity_changes_with_what_is_asked_and_not_with_how_fast():
    base = EndpointTeacher("m", "http://h/v1")
    same = EndpointTeacher("m", "http://h/v1/", concurrency=3, timeout=1, max_requests=9)
    assert base.identity() == same.identity()
    for change in ({"mode": "score"}, {"structured": True}, {"temperature": 1.0}, {"max_new_tokens": 3}):
        assert EndpointTeacher("m", "http://h/v1", **change).identity() != base.identity()


def test_words_that_begin_alike_are_not_guessed_apart():
    labels, unclear = label_log_probabilities({"sport": -0.1}, [["sport"], ["sports news"]])
    assert (labels, unclear > 0.9) == ([None, None], True)
    labels, unclear = label_log_probabilities({"pos": -0.1, "a": -3.0}, [["negative"], ["positive"], ["arts"]])
    assert labels == [None, pytest.approx(-0.1), pytest.approx(-3.0)]
    labels, unclear = label_log_probabilities({"no": -0.1, "A": -3.0}, [["no"], ["not sure"], ["arts"]])
    assert (labels, unclear) == ([pytest.approx(-0.1), None, None], pytest.approx(0.0498, abs=1e-4))


def test_answer_in_which_no_label_is_likely_is_kept_as_text(tmp_path):
    task = TaskSpec("t", ("cat", "dog"), "{text}")
    with EndpointServer() as server:
        out = LLMLabeler(task, EndpointTeacher("m", server.url, mode="score"), tmp_path)({"text": ["good"]})
    assert (out["llm_scores"], out["llm_response"], out["llm_status"]) == ([None], ["positive"], ["abstained"])


def test_being_sent_away_uses_up_no_attempts(server):
    def well_again():  # after so many refusals, however slow the machine
        if server.requests > 60:
            server.refuse = None
        else:
            server.loop.call_later(0.02, well_again)

    server.refuse = 429
    server.loop.call_soon_threadsafe(well_again)
    replies = ask(EndpointTeacher("m", server.url, first_wait=0.01, max_attempts=2))
    assert all(reply.response for reply in replies)
    assert server.requests > 60


def test_key_is_not_sent_in_the_clear(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    with pytest.raises(PermissionError, match="in the clear"):
        ask(EndpointTeacher("m", "http://api.example.com/v1", api_key_variable="MY_KEY"))


def test_long_text_loses_its_middle_and_says_so(server):
    (reply,) = ask(EndpointTeacher("m", server.url, max_text_chars=40), ["good " * 100])
    assert reply.truncated
    assert len(server.bodies[0]["messages"][-1]["content"]) < 80


def test_it_works_where_an_event_loop_runs_already(server):
    async def notebook():
        return ask(EndpointTeacher("m", server.url))

    assert len(asyncio.run(notebook())) == 20


def test_leaving_early_stops_what_is_in_flight():
    with EndpointServer(seconds=0.02) as server:
        parts = EndpointTeacher("m", server.url, concurrency=4).ask(TASK, [f"text {i}" for i in range(10_000)])
        assert next(parts)
        parts.close()
        assert server.requests < 100
        assert not any(thread.name == "endpoint" for thread in threading.enumerate())


KILLED = """
import os, signal, sys
from hf_llambert import EndpointTeacher, LLMLabeler, TaskSpec
task = TaskSpec("t", ("negative", "positive"), "Positive or negative?\\n{text}", system="One word.")
labeler = LLMLabeler(task, EndpointTeacher("m", sys.argv[1], concurrency=8), sys.argv[2])
done = 0
def progress(count):
    global done
    done += count
    if done >= 60:
        os.kill(os.getpid(), signal.SIGKILL)
labeler.replies([f"good text {i}" for i in range(200)], progress=progress)
"""


def test_kill_9_loses_at_most_what_was_in_flight(tmp_path):
    with EndpointServer(seconds=0.01) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "ledger")]
        died = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url), tmp_path / "ledger")
        out = labeler({"text": [f"good text {i}" for i in range(200)]})
        assert out["llm_label"] == [1] * 200
        assert sum(count - 1 for count in server.answered.values()) <= 32
