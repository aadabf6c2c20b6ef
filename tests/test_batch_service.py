"""Batch services, each by a stand-in after its published schema. No service was asked."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import Dataset

from batch_server import NAMES, BatchServer
from hf_llambert import (
    BatchTeacher,
    EndpointTeacher,
    Limits,
    LLMLabeler,
    RecordedTeacher,
    TaskSpec,
    annotate,
    load_data,
    write_batch,
)
from hf_llambert.teachers import batch_service
from hf_llambert.teachers.batch_notes import BatchNotes
from hf_llambert.teachers.batch_service import Batches
from hf_llambert.teachers.batch_services import OpenAI
from hf_llambert.teachers.batch_transport import Unsure, Wire, _pieces

TASK = TaskSpec("t", ("negative", "positive"), "Positive or negative?\n{text}", system="One word.")
TEXTS = [f"{'good' if i % 2 else 'bad'} film number {i}" for i in range(6)]
KEY = "a-secret-key-0"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(batch_service, "_BUDGETS", {})
    monkeypatch.setenv("BATCH_KEY", KEY)
    with BatchServer() as server:
        yield server


@pytest.fixture(params=NAMES)
def service(request):
    return request.param


def teacher_at(server, service, **more):
    given = {"api_key_variable": "BATCH_KEY", "poll_seconds": 0.001, **more}
    return BatchTeacher("some-model", service, server.at(service), **given)


def ask(server, service, folder, texts=TEXTS, **more):
    teacher = teacher_at(server, service, **more)
    labeler = LLMLabeler(TASK, teacher, folder / "ledger")
    return labeler.replies(texts)


def labels(replies):
    return [reply.response for reply in replies.values()]


EXPECTED = ["negative", "positive"] * 3


def test_answers_in_any_order_find_their_rows(server, service, tmp_path):
    server.shuffled = True
    replies = ask(server, service, tmp_path, batch_requests=4)
    assert labels(replies) == EXPECTED
    words = len((TASK.instruct(TEXTS[0])).split())
    assert {(reply.input_tokens, reply.output_tokens) for reply in replies.values()} == {(words, 1)}
    assert len(server.batches) == 2
    assert {reply.finish for reply in replies.values()} == {"stop"}


def test_answered_rows_are_not_asked_again_and_failed_ones_are(server, service, tmp_path):
    server.fates = {"number 2": "failed"}
    replies = ask(server, service, tmp_path)
    assert [reply.error is None for reply in replies.values()] == [True, True, False, True, True, True]
    assert "failed on this text" in replies[TEXTS[2]].error
    server.fates = {}
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert sorted(server.asked.values()) == [1, 1, 1, 1, 1, 2]


def test_expired_and_missing_rows_fail_with_the_reason(server, service, tmp_path):
    server.fates = {"number 1": "expired", "number 4": "missing"}
    replies = ask(server, service, tmp_path)
    assert "expired" in replies[TEXTS[1]].error or "DEADLINE_EXCEEDED" in replies[TEXTS[1]].error
    assert "without an answer about this text" in replies[TEXTS[4]].error
    assert [replies[TEXTS[i]].response for i in (0, 2, 3, 5)] == ["negative", "negative", "positive", "positive"]


def test_answers_that_were_not_asked_for_are_counted_and_not_used(server, tmp_path, caplog):
    server.extra = 3
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert "answered 3 row(s) that were not asked" in caplog.text


def test_row_that_is_answered_twice_and_differently_fails(server, tmp_path):
    server.fates = {"number 3": "twice"}
    replies = ask(server, "openai", tmp_path)
    assert replies[TEXTS[3]].error == "the service answered this text twice, and differently"
    assert sum(reply.error is None for reply in replies.values()) == 5


def test_torn_line_costs_its_row_alone(server, service, tmp_path):
    server.fates = {"number 3": "torn"}
    replies = ask(server, service, tmp_path)
    assert sum(reply.error is None for reply in replies.values()) == 5
    assert replies[TEXTS[3]].error is not None


class Killed(BaseException):
    """Stands for a kill: nothing of the library runs after it."""


def kill_after(monkeypatch, place, name):
    """Let the process be killed when a method has returned; once."""
    was = getattr(place, name)

    def killed(self, *args, **kwargs):
        was(self, *args, **kwargs)
        monkeypatch.setattr(place, name, was)
        raise Killed

    monkeypatch.setattr(place, name, killed)


def test_kill_between_submission_and_note_submits_nothing_twice(server, service, tmp_path, monkeypatch):
    protocol = type(teacher_at(server, service).protocol)
    kill_after(monkeypatch, protocol, "submit")
    with pytest.raises(Killed):
        ask(server, service, tmp_path)
    (note,) = BatchNotes(tmp_path / "ledger" / "batches").all()
    assert (note.id, len(server.batches)) == (None, 1)
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_kill_between_note_and_submission_submits_once(server, tmp_path, monkeypatch):
    kill_after(monkeypatch, BatchNotes, "new")
    with pytest.raises(Killed):
        ask(server, "openai", tmp_path)
    assert not server.batches
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_kill_while_waiting_goes_on_with_the_noted_batches(server, service, tmp_path, monkeypatch):
    server.never = True

    def killed(seconds):
        raise Killed

    monkeypatch.setattr("time.sleep", killed)
    with pytest.raises(Killed):
        ask(server, service, tmp_path, batch_requests=4)
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("BATCH_KEY", KEY)
    server.never = False
    assert labels(ask(server, service, tmp_path, batch_requests=4)) == EXPECTED
    assert (len(server.batches), set(server.asked.values())) == (2, {1})


def test_kill_before_the_answers_are_kept_fetches_them_again(server, tmp_path, monkeypatch):
    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("hf_llambert.annotation.ledger.Ledger.put", killed)
        ask(server, "openai", tmp_path)
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_submission_that_arrived_without_an_answer_is_found(server, service, tmp_path):
    server.lose = 1
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_submission_that_did_not_arrive_is_sent_again(server, service, tmp_path):
    server.dead = 1
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_kill_before_it_is_sent_again_leaves_its_note(server, tmp_path, monkeypatch):
    server.dead = 1
    kill_after(monkeypatch, Batches, "_look_for")
    with pytest.raises(Killed):
        ask(server, "openai", tmp_path)
    assert [note.id for note in BatchNotes(tmp_path / "ledger" / "batches").all()] == [None]
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_batch_of_another_that_looks_alike_is_not_taken(server, tmp_path):
    stranger = server.begin("anthropic", [(f"{k:064x}", "good") for k in range(6)])
    server.dead = 1
    assert labels(ask(server, "anthropic", tmp_path)) == EXPECTED
    (note,) = BatchNotes(tmp_path / "ledger" / "batches").all()
    assert note.done
    assert stranger not in (note.id,)


def unfinished(server, service, folder, **more):
    """A run that ends while its batches are under way."""
    server.never = True
    with pytest.raises(TimeoutError):
        ask(server, service, folder, max_wait_hours=1e-9, **more)
    server.never = False


def test_key_of_another_account_loses_no_batch(server, tmp_path):
    unfinished(server, "openai", tmp_path)
    server.faults.append(lambda handler: handler.say({"error": {"message": "no such batch"}}, 404))
    with pytest.raises(ConnectionError, match="too young to be gone. Run again with the key of the account that subm"):
        ask(server, "openai", tmp_path)
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_batch_that_is_listed_late_is_submitted_once(server, tmp_path):
    server.lose = 1
    none_yet = {"object": "list", "data": [], "has_more": False}
    server.faults.extend([None, None, *[lambda handler: handler.say(none_yet)] * 3])
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_refusal_after_a_submission_that_may_have_arrived_forgets_nothing(server, tmp_path):
    server.lose = 1
    none_yet = {"object": "list", "data": [], "has_more": False}
    refused = {"error": {"message": "billing limit"}}
    server.faults.extend([None, None, *[lambda handler: handler.say(none_yet)] * 5])
    server.faults.append(lambda handler: handler.say(refused, 400))
    with pytest.raises(ValueError, match="billing limit"):
        ask(server, "openai", tmp_path)
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_answers_that_are_refused_for_now_stay_to_be_fetched(server, tmp_path):
    server.faults.extend([None] * 3 + [lambda handler: handler.say({"error": {"message": "not now"}}, 400)])
    with pytest.raises(ConnectionError, match="refuses the answers of batch openai-1: 400 not now"):
        ask(server, "openai", tmp_path)
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_endless_list_of_batches_leaves_the_choice(server, service, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_llambert.teachers.batch_services._PAGES", 0)
    server.lose = 1
    with pytest.raises(ValueError, match="does not say whether it has it .*more than 0 pages"):
        ask(server, service, tmp_path)
    assert set(server.asked.values()) == {1}


def test_gateway_that_is_unavailable_may_have_submitted(server, tmp_path):
    """Its batch is looked for; that of an overloaded service is sent again at once."""

    def taken(status):
        return lambda handler: handler.say({"error": {"message": "upstream reset"}}, status)

    server.faults.extend([None, taken(503)])
    ask(server, "openai", tmp_path)
    assert "GET /v1/batches" in server.calls
    server.faults.append(taken(529))
    ask(server, "anthropic", tmp_path)
    assert "GET /v1/messages/batches" not in server.calls


def test_second_call_in_one_process_reserves_nothing_twice(server, tmp_path):
    for _ in range(3):
        unfinished(server, "openai", tmp_path, max_requests=6)
        list(server.batches.values())[0]["polls"] = 0
    (budget,) = batch_service._BUDGETS.values()
    assert budget.used_requests == budget.used_tokens == 0
    assert [batch["cancelled"] for batch in server.batches.values()] == [False]


def test_batch_that_may_be_anothers_is_not_cancelled(server, tmp_path):
    stranger = server.begin("anthropic", [(f"{k:064x}", "good") for k in range(6)])
    server.dead = 1
    unfinished(server, "anthropic", tmp_path)
    replies = ask(server, "anthropic", tmp_path, max_requests=2)
    assert not server.batches[stranger]["cancelled"]
    assert [reply.error is None for reply in replies.values()] == [True] * 2 + [False] * 4


ODD = {"id": "x", "status": "running", "processing_status": "in_progress", "request_counts": [1], "errors": [1]}


@pytest.mark.parametrize("odd", [{}, {**ODD, "metadata": "m", "error": "e", "batchStats": 3, "response": [2]}])
def test_odd_state_of_a_batch_is_asked_again(server, service, tmp_path, odd):
    submitted = {"openai": 2, "mistral": 2, "anthropic": 1, "gemini": 3}[service]
    server.faults.extend([None] * submitted + [lambda handler: handler.say(odd)])
    assert labels(ask(server, service, tmp_path)) == EXPECTED


@pytest.mark.parametrize("place", ["@evil.example/x", ".evil.example/x", "https://[", "http://api.anthropic.com/x"])
def test_address_that_leads_elsewhere_is_refused(place):
    wire = Wire("anthropic", "https://api.anthropic.com", {}, KEY)
    with pytest.raises(ConnectionError, match="key and texts go to 'api.anthropic.com' alone"):
        wire.url(place)
    same = "https://api.anthropic.com:443/x"
    assert wire.url(same) == same


def test_answer_that_trickles_in_is_given_up():
    class Trickle:
        def iter_raw(self, size):
            while True:
                yield b"x"

    with pytest.raises(Unsure, match="comes at less than 1,000 bytes a second"):
        list(_pieces(Trickle(), -1.0))


def test_service_that_lists_no_batches_leaves_the_choice(server, tmp_path, monkeypatch):
    kill_after(monkeypatch, OpenAI, "submit")
    with pytest.raises(Killed):
        ask(server, "openai", tmp_path)
    server.lists = False
    with pytest.raises(ValueError, match=r"write the batch's id into '.*' .*; if not, remove that file"):
        ask(server, "openai", tmp_path)
    (file,) = (tmp_path / "ledger" / "batches").glob("*.json")
    file.write_text(file.read_text().replace('"id": null', '"id": "openai-1"'))
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_batch_that_never_ends_ends_at_the_deadline_and_goes_on(server, tmp_path):
    server.never = True
    with pytest.raises(
        TimeoutError, match=r"has not ended within max_wait_hours.*the same command waits for it again"
    ):
        ask(server, "openai", tmp_path, max_wait_hours=1e-9)
    server.never = False
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_ctrl_c_says_how_to_go_on(server, tmp_path, monkeypatch, caplog):
    def interrupted(seconds):
        raise KeyboardInterrupt

    server.never = True
    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(server, "openai", tmp_path)
    assert "openai-1 goes on at the service; the same command fetches the answers" in caplog.text


def busy(handler):
    handler.say({"error": {"message": "slow down"}}, 429, **{"Retry-After": "0.002"})


def test_busy_service_is_asked_again(server, service, tmp_path):
    server.faults.extend([busy, None] * 50)  # each request the first time
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}
    assert len(server.faults) <= 94  # three requests at least


def test_endless_pause_is_not_waited_for(server, tmp_path):
    server.faults.append(lambda handler: handler.say({}, 429, **{"Retry-After": "99999"}))
    with pytest.raises(ConnectionError, match=r"does not answer \(for 99,999 s\)"):
        ask(server, "openai", tmp_path)
    assert not list((tmp_path / "ledger" / "batches").glob("*.json"))


def test_redirects_are_not_followed(server, tmp_path):
    server.faults.append(lambda handler: handler.say({}, 307, Location="http://evil.example/v1"))
    with pytest.raises(ConnectionError, match=r"sends the request on to 'evil\.example' \(307\)"):
        ask(server, "openai", tmp_path)


def test_answers_on_another_host_are_not_fetched(server, tmp_path):
    server.url = "http://evil.example"
    with pytest.raises(
        ConnectionError, match=r"sends to 'evil\.example', and key and texts go to '127\.0\.0\.1' alone"
    ):
        teacher = BatchTeacher(
            "m", "anthropic", f"http://127.0.0.1:{server.http.server_address[1]}", "BATCH_KEY", poll_seconds=0.001
        )
        LLMLabeler(TASK, teacher, tmp_path).replies(TEXTS)


def test_answers_that_are_too_large_are_not_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_service, "most_bytes_of", lambda requests: 100)
    with pytest.raises(ValueError, match="gives more than 100 bytes of answers"):
        ask(server, "openai", tmp_path)


def test_wrong_key_is_refused_without_being_shown(server, service, tmp_path, monkeypatch):
    monkeypatch.setenv("BATCH_KEY", "another-secret-key-9")
    with pytest.raises(PermissionError, match=r"refuses: 401 Incorrect API key.*Check BATCH_KEY") as caught:
        ask(server, service, tmp_path)
    assert "another-secret-key-9" not in str(caught.value)
    assert not list((tmp_path / "ledger" / "batches").glob("*.json"))


def test_key_that_is_a_word_of_a_label_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv("BATCH_KEY", "positive-and-1")
    task = TaskSpec("t", ("negative", "positive-and-1"), "{text}")
    with pytest.raises(ValueError, match=r"The key in BATCH_KEY is, or stands in, a word of label 2 of task 't'"):
        LLMLabeler(task, teacher_at(server, "openai"), tmp_path).replies(TEXTS)
    assert not server.calls


def test_service_that_is_not_there_is_said(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    teacher = BatchTeacher("m", "openai-compatible", "http://127.0.0.1:9/v1", "BATCH_KEY")
    with pytest.raises(
        ConnectionError, match=r"does not answer \(after 8 attempts\): 'http://127.0.0.1:9/v1' cannot be"
    ):
        LLMLabeler(TASK, teacher, tmp_path).replies(TEXTS)
    wrong = BatchTeacher("m", "openai", server.url + "/v2", "BATCH_KEY")
    with pytest.raises(ConnectionError, match="has no batches such as the service 'openai'"):
        LLMLabeler(TASK, wrong, tmp_path).replies(TEXTS)


def test_batch_that_fails_whole_says_why(server, tmp_path):
    server.fail_all = "token_limit_exceeded"
    for service in ("openai", "mistral", "gemini"):
        replies = ask(server, service, tmp_path)
        assert all("token_limit_exceeded" in reply.error for reply in replies.values())


def test_batches_beyond_what_an_account_may_have_under_way_wait_for_others(server, tmp_path, caplog):
    server.room = 4
    assert labels(ask(server, "openai", tmp_path / "some", batch_requests=2)) == EXPECTED
    assert "openai-3 is submitted again when others have ended: failed: token_limit_exceeded" in caplog.text
    assert len(server.batches) == 4
    server.room = 1
    replies = ask(server, "openai", tmp_path / "none", batch_requests=2)
    assert all("token_limit_exceeded" in reply.error for reply in replies.values())
    assert len(server.batches) == 7


def test_broken_upload_begins_anew_at_gemini(server, tmp_path):
    def broken(handler):
        handler.connection.close()
        handler.close_connection = True

    server.faults.extend([None, broken])
    assert labels(ask(server, "gemini", tmp_path)) == EXPECTED
    assert server.calls.count("POST /upload/v1beta/files") == 2


def test_neither_key_nor_text_is_written_into_notes(server, service, tmp_path):
    unfinished(server, service, tmp_path)  # of one that has ended the keys of rows are gone, too
    for file in (tmp_path / "ledger").rglob("*"):
        held = file.read_bytes() if file.is_file() else b""
        assert KEY.encode() not in held
        assert b"film number" not in held


def test_rows_beyond_a_cap_are_not_submitted(server, service, tmp_path):
    replies = ask(server, service, tmp_path, max_requests=4)
    assert [reply.error is None for reply in replies.values()] == [True] * 4 + [False] * 2
    assert "the budget is spent: raise max_requests" in replies[TEXTS[5]].error
    assert len(server.asked) == 4
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_money_is_counted_before_submission_and_by_what_was_counted_after(server, tmp_path):
    prices = {"price_input": 1e6, "price_output": 0.0}  # one unit a token
    replies = ask(server, "openai", tmp_path, max_cost=1.0, **prices)
    assert not server.batches
    assert all("max_cost" in reply.error for reply in replies.values())
    replies = ask(server, "openai", tmp_path, max_cost=250.0, **prices)
    first = len(server.batches)
    assert first >= 1
    spent = sum(reply.input_tokens for reply in replies.values())
    assert 0 < spent <= 250


def test_tokens_read_from_a_cache_count_at_their_price(server, tmp_path):
    """Of each answer's tokens the stand-in of Anthropic has read two from its cache."""
    prices = {"price_input": 1e6, "price_cached_input": 0.0, "max_cost": 1e6}
    replies = ask(server, "anthropic", tmp_path, **prices)
    (budget,) = batch_service._BUDGETS.values()
    assert budget.used_cost == sum(reply.input_tokens for reply in replies.values()) - 2 * len(TEXTS)
    with pytest.raises(ValueError, match="price_cached_input must be from 0 to price_input"):
        BatchTeacher("m", "openai", price_input=1.0, price_cached_input=2.0)


def test_batches_not_begun_are_cancelled_where_the_cap_is_passed(server, tmp_path, caplog):
    """An earlier run submitted more than this one may have."""
    server.never = True
    with pytest.raises(TimeoutError):
        ask(server, "openai", tmp_path, batch_requests=2, max_wait_hours=1e-9)
    for batch in server.batches.values():
        batch["polls"] = 0
    list(server.batches.values())[0]["polls"] = 5
    server.never = False
    server.polls = 3
    replies = ask(server, "openai", tmp_path, batch_requests=2, max_requests=2)
    assert [batch["cancelled"] for batch in server.batches.values()] == [False, True, True]
    assert labels(replies)[:2] == ["negative", "positive"]
    assert [reply.error is None for reply in replies.values()] == [True] * 2 + [False] * 4
    assert "openai-3 (2 requests) is cancelled" in caplog.text


def test_rows_of_a_larger_sample_stay_to_be_fetched(server, tmp_path):
    server.never = True
    with pytest.raises(TimeoutError):
        ask(server, "openai", tmp_path, max_wait_hours=1e-9)
    server.never = False
    assert labels(ask(server, "openai", tmp_path, TEXTS[:2])) == EXPECTED[:2]
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED
    assert set(server.asked.values()) == {1}


def test_answers_that_the_service_has_no_more_are_asked_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_service, "_KEPT", 0)
    server.never = True
    with pytest.raises(TimeoutError):
        ask(server, "openai", tmp_path, max_wait_hours=1e-9)
    server.never = False
    server.batches.clear()
    replies = ask(server, "openai", tmp_path)
    assert all("the service has it no more" in reply.error for reply in replies.values())
    assert labels(ask(server, "openai", tmp_path)) == EXPECTED


def test_two_runs_that_fetch_one_batch_are_both_right(server, service, tmp_path):
    """As on a disk without locks; annotate itself lets one at a time."""
    server.never = True
    with pytest.raises(TimeoutError):
        ask(server, service, tmp_path, max_wait_hours=1e-9)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(ask, server, service, tmp_path) for _ in range(2)]
        assert server.long_waited.wait(20)  # for both
        server.never = False
        assert [labels(run.result()) for run in runs] == [EXPECTED] * 2
    assert set(server.asked.values()) == {1}
    assert labels(ask(server, service, tmp_path)) == EXPECTED
    assert len(server.batches) == 1


def test_progress_is_what_the_service_says_and_ends_at_all_rows(server, tmp_path):
    server.polls = 4
    told = []
    labeler = LLMLabeler(TASK, teacher_at(server, "openai"), tmp_path)
    labeler.replies(TEXTS, progress=told.append)
    assert told == [1, 1, 4]


def test_damaged_note_is_refused(server, tmp_path):
    folder = tmp_path / "ledger" / "batches"
    folder.mkdir(parents=True)
    (folder / "llambert-1.json").write_text('{"name": ')
    with pytest.raises(ValueError, match="The note '.*llambert-1.json' on a batch cannot be read"):
        ask(server, "openai", tmp_path)
    assert not server.batches


def test_annotate_by_batch_is_annotate(server, service, tmp_path):
    server.fates = {"number 5": "failed"}
    data = Dataset.from_dict({"text": [*TEXTS, TEXTS[0], "", None], "label": [0, 1] * 3 + [0, 0, 0]})
    labeler = LLMLabeler(TASK, teacher_at(server, service), tmp_path / "ledger")
    results = annotate(data, labeler, tmp_path / "out", gold_column="label", show_progress=False)
    rows = load_data(tmp_path / "out")
    assert rows["llm_label"][:] == [0, 1, 0, 1, 0, -1, 0, -1, -1]
    assert rows["llm_status"][:] == ["ok"] * 5 + ["failed", "ok", "abstained", "abstained"]
    assert results["n_failed"] == 1
    server.fates = {}
    annotate(data, labeler, tmp_path / "out", gold_column="label", show_progress=False)
    assert load_data(tmp_path / "out")["llm_label"][:6] == [0, 1] * 3
    assert sum(server.asked.values()) == 7


def test_rows_that_are_asked_about_in_the_same_words_share_a_request(server, tmp_path):
    task = TaskSpec("t", ("negative", "positive"), "{title} {text}")
    labeler = LLMLabeler(task, teacher_at(server, "openai"), tmp_path, ("title", "text"))
    assert labels(labeler.replies(["good old\ufdd1film", "good\ufdd1old film"])) == ["positive"] * 2
    assert list(server.asked.values()) == [1]


def test_several_questions_asked_apart_share_batches(server, tmp_path):
    questions = [
        {"name": name, "kind": "choice", "ask": f"Is it {name}?", "labels": ["negative", "positive"]}
        for name in ("fun", "new")
    ]
    task = TaskSpec.from_dict({"name": "two", "instruction": "{text}", "questions": questions})
    labeler = LLMLabeler(task, teacher_at(server, "openai"), tmp_path, ask_apart=True)
    found = annotate(Dataset.from_dict({"text": TEXTS}), labeler, tmp_path / "out", show_progress=False)
    assert found["n_failed"] == 0
    assert (len(server.batches), len(server.asked)) == (1, 12)


def test_endpoint_and_batch_of_one_model_share_answers(server):
    batch = BatchTeacher("m", "openai", "http://127.0.0.1:1/v1")
    assert batch.identity() == EndpointTeacher("m", "http://127.0.0.1:1/v1").identity()
    others = [BatchTeacher("m", name, "http://127.0.0.1:1/v1").identity() for name in ("anthropic", "gemini")]
    assert len({json.dumps(one) for one in others}) == 2


def test_map_and_labels_of_few_rows_are_refused(server, tmp_path):
    labeler = LLMLabeler(TASK, teacher_at(server, "openai"), tmp_path)
    with pytest.raises(ValueError, match="is asked by annotate, which submits all rows together"):
        Dataset.from_dict({"text": TEXTS}).map(labeler, batched=True)
    with pytest.raises(ValueError, match="noted|notes"):
        list(labeler.teacher.ask(TASK, TEXTS))
    assert not server.batches


def test_cap_on_hours_ends_the_waiting(server, tmp_path):
    server.never = True
    data = Dataset.from_dict({"text": TEXTS})
    labeler = LLMLabeler(TASK, teacher_at(server, "openai"), tmp_path / "ledger")
    found = annotate(data, labeler, tmp_path / "out", limits=Limits(max_hours=2e-5), show_progress=False)
    assert found["n_failed"] == 6
    with pytest.raises(ValueError, match="BatchTeacher 'some-model' has caps of its own"):
        annotate(data, labeler, tmp_path / "new", limits=Limits(1.0, lambda *_: 0.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"service": "azure"},
            "service must be one of openai, anthropic, mistral, gemini, openai-compatible, got 'azure'",
        ),
        ({"service": "openai-compatible"}, "has no address of its own. Pass base_url"),
        ({"service": "anthropic", "mode": "score"}, "give no log-probabilities"),
        ({"service": "openai", "poll_seconds": math.nan}, "poll_seconds must be more than 0"),
        ({"service": "openai", "batch_requests": 0}, "batch_requests must be positive"),
        ({"service": "openai", "max_cost": 1.0}, "max_cost needs price_input and price_output"),
    ],
)
def test_senseless_arguments_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        BatchTeacher("m", **given)


def test_key_of_a_service_goes_to_no_other_address(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert BatchTeacher("m", "anthropic").key() == KEY
    assert BatchTeacher("m", "anthropic", "https://elsewhere.example").key() == "-"
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(PermissionError, match="ANTHROPIC_API_KEY is empty"):
        BatchTeacher("m", "anthropic").key()


def write(tmp_path, service, **more):
    written = write_batch(TASK, TEXTS, tmp_path / f"{service}.jsonl", "some-model", service=service, **more)
    (file,) = written.files
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def test_requests_are_written_in_the_form_of_each_service(tmp_path):
    lines = {name: write(tmp_path, name, structured=True)[1] for name in NAMES}
    text = TASK.instruct(TEXTS[1])
    schema = lines["openai"]["body"]["response_format"]["json_schema"]["schema"]
    assert lines["openai"]["body"]["messages"][0] == {"role": "system", "content": "One word."}
    assert lines["mistral"]["body"] | {"seed": 42} == lines["openai"]["body"] | {"random_seed": 42}
    assert lines["anthropic"] == {
        "custom_id": lines["openai"]["custom_id"],
        "params": {
            "model": "some-model", "max_tokens": 10, "temperature": 0, "system": "One word.",
            "messages": [{"role": "user", "content": text}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
    }  # fmt: skip
    assert lines["gemini"] == {
        "key": lines["openai"]["custom_id"],
        "request": {
            "systemInstruction": {"parts": [{"text": "One word."}]},
            "contents": [{"role": "user", "parts": [{"text": text}]}],
            "generationConfig": {
                "temperature": 0, "maxOutputTokens": 10, "seed": 42,
                "responseMimeType": "application/json", "responseJsonSchema": schema,
            },
        },
    }  # fmt: skip


def answer_lines(service, name):
    """An answer, one that was cut, and one that failed, as a service writes them; then one whose answer is no answer."""
    if service == "anthropic":
        message = {"role": "assistant", "content": [{"type": "text", "text": "positive"}], "stop_reason": "end_turn"}
        message["usage"] = {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 3}
        error = {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "x"}}}
        results = [
            {"type": "succeeded", "message": message},
            {"type": "succeeded", "message": {**message, "stop_reason": "max_tokens"}},
            error,
            {"type": "succeeded", "message": 5},
        ]
        return [{"custom_id": one, "result": result} for one, result in zip(name, results, strict=True)]
    if service == "gemini":
        candidate = {"content": {"parts": [{"text": "positive"}], "role": "model"}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 1}
        return [
            {"key": name[0], "response": {"candidates": [candidate], "usageMetadata": usage}},
            {"key": name[1], "response": {"candidates": [{**candidate, "finishReason": "MAX_TOKENS"}]}},
            {"key": name[2], "error": {"code": 13, "status": "INTERNAL", "message": "x"}},
            {"key": name[3], "response": {"candidates": 5}},
        ]
    body = {"choices": [{"message": {"content": "positive"}, "finish_reason": "stop"}]}
    body["usage"] = {"prompt_tokens": 10, "completion_tokens": 1}
    cut = {"choices": [{"message": {"content": "positive"}, "finish_reason": "length"}]}
    return [
        {"custom_id": name[0], "response": {"status_code": 200, "body": body}, "error": None},
        {"custom_id": name[1], "response": {"status_code": 200, "body": cut}, "error": None},
        {"custom_id": name[2], "response": {"status_code": 500, "body": {"error": {"code": "x"}}}, "error": None},
        {"custom_id": name[3], "response": {"status_code": 200, "body": 5}, "error": None},
    ]


def test_answers_are_read_in_the_form_of_each_service(service, tmp_path):
    names = [line.get("custom_id") or line["key"] for line in write(tmp_path, service)]
    lines = answer_lines(service, names[:4])
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, reversed(lines))))
    (replies,) = RecordedTeacher(tmp_path / "out.jsonl", "m").ask(TASK, TEXTS)
    assert (replies[0].response, replies[0].input_tokens, replies[0].output_tokens) == ("positive", 10, 1)
    assert (replies[1].response, replies[1].finish) == ("positive", "length")
    assert replies[2].error.startswith("the batch service failed on this text")
    assert replies[3].error == "the batch service's answer about this text has not the expected shape"
    assert replies[4].error is not None


def test_requests_with_ids_of_their_own_are_matched_in_every_form(service, tmp_path):
    lines = write(tmp_path, service)
    field = "key" if service == "gemini" else "custom_id"
    for number, line in enumerate(lines):
        line[field] = f"r-{number}"
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = answer_lines(service, [f"r-{number}" for number in range(4)])
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, out)))
    teacher = RecordedTeacher(tmp_path / "out.jsonl", "m", requests=tmp_path / "asked.jsonl")
    (replies,) = teacher.ask(TASK, TEXTS)
    assert replies[0].response == "positive"


def test_line_that_two_services_may_have_written_is_refused(tmp_path):
    line = {"custom_id": "a", "response": None, "result": {"type": "expired"}}
    (tmp_path / "out.jsonl").write_text(json.dumps(line))
    with pytest.raises(ValueError, match="can be read as an answer of openai and anthropic"):
        list(RecordedTeacher(tmp_path / "out.jsonl", "m").ask(TASK, TEXTS))


def test_form_that_cannot_ask_a_task_refuses_it(tmp_path):
    plain = TaskSpec("p", ("negative", "positive"), "{text}", chat=False)
    with pytest.raises(ValueError, match="Task 'p' is a plain completion, and the batches of gemini only chat"):
        write_batch(plain, TEXTS, tmp_path / "a.jsonl", "m", service="gemini")
    with pytest.raises(ValueError, match="give no log-probabilities"):
        write_batch(TASK, TEXTS, tmp_path / "a.jsonl", "m", service="mistral", top_logprobs=5)
    with pytest.raises(ValueError, match="service must be one of openai"):
        write_batch(TASK, TEXTS, tmp_path / "a.jsonl", "m", service="azure")


def test_batch_service_is_asked_from_the_command_line(server, tmp_path, typed):
    (tmp_path / "task.yaml").write_text("name: t\nlabels: [negative, positive]\ninstruction: 'Which?\n\n  {text}'\n")
    Dataset.from_dict({"text": TEXTS, "label": ["negative", "positive"] * 3}).to_csv(str(tmp_path / "data.csv"))
    line = "{input_per_million: 2, output_per_million: 2, currency: EUR"
    command = [
        "annotate", "--task", tmp_path / "task.yaml", "--data", tmp_path / "data.csv", "--backend", "batch", "--service",
        "mistral", "--teacher", "m", "--base_url", server.at("mistral"), "--api_key_variable", "BATCH_KEY",
        "--poll_seconds", 0.001, "--prices", tmp_path / "prices.yaml", "--max_cost", 1, "--output", tmp_path / "run",
    ]  # fmt: skip
    (tmp_path / "prices.yaml").write_text(f"m: {line}}}\n")
    assert "has no price of 'm' in a batch" in typed(*command, expect=1)
    assert not server.calls
    (tmp_path / "prices.yaml").write_text(f"m: {line}, batch_input_per_million: 1, batch_output_per_million: 1}}\n")
    shown = typed(*command)
    assert "6 texts: 6 ok" in shown
    assert "agreement with gold 100.0%" in shown
    words = sum(len(f"Which?\n{text}".split()) + 1 for text in TEXTS)
    assert f"cost of these replies: {words / 1e6:,.4g} EUR" in shown
