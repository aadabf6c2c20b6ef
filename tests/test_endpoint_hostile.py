"""What a hostile or odd server sends, over real HTTP, and what becomes of it."""

import asyncio
import base64
import gzip
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import httpx2
import openai
import pytest

from hf_llambert import EndpointTeacher, LLMLabeler, TaskSpec
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.shown import is_private_host
from hf_llambert.teachers import asking
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.keys import endpoint_key, is_private, redactor
from hf_llambert.teachers.logprobs import label_log_probabilities
from hf_llambert.teachers.protocol import retry_after
from hf_llambert.teachers.transport import MOST_BYTES, post

TASK = TaskSpec("t", ("negative", "positive"), "Positive or negative?\n{text}")
SECRET = "sk-Very+secret/0123"
QUICK = {"first_wait": 0.001, "max_attempts": 2, "timeout": 20.0}


class HostileServer:
    """Answers a text with what the plan has for it: bytes, or (status, headers, bytes)."""

    def __init__(self, plan):
        self.bodies, self.headers = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.headers.append(dict(self.headers))
                text = body["messages"][-1]["content"].split("\n")[-1]
                answer = plan(body) if callable(plan) else plan.get(text, chat("positive"))
                status, headers, data = answer if isinstance(answer, tuple) else (200, {}, answer)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for part in [data] if isinstance(data, bytes) else data:
                        self.wfile.write(part)
                except OSError:
                    pass  # the other side has seen enough

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def chat(content, finish="stop", usage='{"prompt_tokens": 7, "completion_tokens": 1}', **message):
    choice = {"finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return f'{{"choices": [{json.dumps(choice)}], "usage": {usage}}}'.encode()


def scored(tokens, content="x"):
    """`tokens` by raw JSON number."""
    listed = ", ".join(f'{{"token": {json.dumps(token)}, "logprob": {p}}}' for token, p in tokens.items())
    return (
        f'{{"choices": [{{"finish_reason": "length", "message": {{"content": {json.dumps(content)}}}, '
        f'"logprobs": {{"content": [{{"top_logprobs": [{listed}]}}]}}}}]}}'
    ).encode()


def ask(server, texts=("a text",), task=TASK, **options):
    teacher = EndpointTeacher("m", server.url, **{**QUICK, **options})
    replies = {}
    for part in teacher.ask(task, texts):
        replies |= part
    return [replies[i] for i in range(len(texts))]


@pytest.fixture(autouse=True)
def alone_and_online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(asking, "_BUDGETS", {})


@pytest.mark.parametrize(
    ("finish", "kept"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("max tokens", "length"),
        ("incomplete", "length"),
        ("token_limit", "length"),
        ("FinishReason.SAFETY", "content_filter"),
        ("content-filter", "content_filter"),
        ("blocked by policy", "content_filter"),
        ("stop_token", "stop"),
        ({"type": "length"}, "length"),
        ({"type": "stop", "matched": 2}, None),
        ("context_window", "length"),
        ("tool_calls", None),
        (None, None),
        (7, None),
    ],
)
def test_how_an_answer_ended_comes_with_it(finish, kept):
    with HostileServer(lambda body: chat("negative", finish)) as server:
        (reply,) = ask(server)
    assert (reply.response, reply.finish, reply.structured) == ("negative", kept, False)


@pytest.mark.parametrize(
    "beside",
    [
        {"done_reason": "length"}, {"status": "incomplete"}, {"finishReason": "MAX_TOKENS"},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ],
)  # fmt: skip
def test_end_that_stands_elsewhere_in_the_body_is_heeded(beside):
    body = {"choices": [{"message": {"content": "positive"}}], **beside}
    with HostileServer(lambda asked: (200, {}, json.dumps(body).encode())) as server:
        (reply,) = ask(server)
    assert (reply.response, reply.finish) == ("positive", "length")


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize("content", [None, "", []])
def test_empty_answer_that_was_cut_or_filtered_is_kept_and_abstains(tmp_path, finish, content):
    with HostileServer(lambda body: chat(content, finish, reasoning_content="positive, I think")) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, **QUICK), tmp_path)
        out = labeler({"text": ["x"]})
        assert labeler({"text": ["x"]}) == out
    assert len(server.bodies) == 1
    assert (out["llm_label"], out["llm_status"]) == ([-1], ["abstained"])
    assert finish in out["llm_reason"][0]


@pytest.mark.parametrize("content", [None, "", " ", [{"type": "refusal", "refusal": "I cannot."}]])
def test_refusal_in_place_of_an_answer_abstains(tmp_path, content):
    with HostileServer(lambda body: chat(content, refusal="I cannot. negative")) as server:
        out = LLMLabeler(TASK, EndpointTeacher("m", server.url, **QUICK), tmp_path)({"text": ["x"]})
    assert (out["llm_label"], out["llm_status"]) == ([-1], ["abstained"])
    assert "content_filter" in out["llm_reason"][0]


@pytest.mark.parametrize(
    ("beside", "kept"),
    [
        ({"native_finish_reason": "MAX_TOKENS"}, "length"),
        ({"stop_reason": "length"}, "length"),
        ({"stop_reason": "</answer>"}, "stop"),
        ({"stop_reason": 2}, "stop"),
        ({"error": None}, "stop"),
    ],
)
def test_reason_beside_stop_counts(beside, kept):
    choice = {"finish_reason": "stop", "message": {"content": "negative"}, **beside}
    with HostileServer(lambda body: json.dumps({"choices": [choice]}).encode()) as server:
        assert ask(server)[0].finish == kept


def test_error_in_a_choice_is_the_failure_of_its_row():
    bad = {"finish_reason": "stop", "message": {"content": "negative"}, "error": {"code": 502, "message": "upstream"}}
    with HostileServer({"bad": json.dumps({"choices": [bad]}).encode()}) as server:
        one, two = ask(server, ["bad", "good"])
    assert one.error == "the server broke the answer off (after 2 attempts)"
    assert (two.response, two.error) == ("positive", None)


def test_error_in_place_of_an_answer_is_told_without_the_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    plan = {"bad": json.dumps({"error": {"message": f"upstream of {SECRET} is down", "code": 429}}).encode()}
    with HostileServer(plan) as server:
        bad, good = ask(server, ["bad", "good"], api_key_variable="MY_KEY")
    assert bad.error == "the server says upstream of *** is down (after 2 attempts)"
    assert good.response == "positive"


def test_only_parts_of_type_text_are_the_answer():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "positive"}]},
        {"type": "text", "text": "nega"},
        {"type": "reasoning", "text": "positive"},
        {"type": "text", "text": "tive"},
    ]
    with HostileServer(lambda body: chat(parts)) as server:
        assert ask(server)[0].response == "negative"


def test_structured_is_said_only_of_answers_that_were_asked_for_so():
    with HostileServer(lambda body: chat('{"label": "negative"}')) as server:
        assert ask(server, structured=True)[0].structured
    refuses = (400, {}, b'{"error": {"message": "response_format is not supported"}}')
    with HostileServer(lambda body: refuses if "response_format" in body else chat("negative")) as server:
        (reply,) = ask(server, structured=True)
    assert (reply.response, reply.structured) == ("negative", False)


RELATED = TaskSpec("t", ("related", "unrelated"), "{text}")


@pytest.mark.parametrize(
    ("labels", "tokens", "winner"),
    [
        (("related", "unrelated"), {"un": 0.95, "related": 0.02, "The": 0.015, "Related": 0.005}, 1),
        (("correct", "incorrect"), {" In": 0.9, "correct": 0.05, "x": 0.01}, 1),
        (("typical", "atypical"), {"a": 0.9, "typical": 0.05, "x": 0.01}, 1),
        (("negative", "positive"), {"positive": 0.5, "x": 0.2}, 1),
        (("negative", "positive"), {"x": 0.5, "positive": 0.1}, None),  # nobody knows what negative had
        (("negative", "positive"), {"positive": 0.4}, None),
    ],
)
def test_unseen_label_never_wins_and_short_pieces_count(labels, tokens, winner):
    with HostileServer(lambda body: scored({t: math.log(p) for t, p in tokens.items()})) as server:
        (reply,) = ask(server, task=TaskSpec("t", labels, "{text}"), mode="score")
    best = None if reply.scores is None else max(range(2), key=reply.scores.__getitem__)
    assert (best, reply.finish, reply.error) == (winner, None, None)


@pytest.mark.parametrize("number", ["1000", "5", "NaN", "-Infinity", "1e999", "-1e999", "true", '"-0.1"', "null"])
def test_what_is_no_logprob_fails_its_row_alone(number):
    plan = {"bad": scored({"positive": number, "x": -3}), "good": scored({"positive": -0.1, "x": -3})}
    with HostileServer(plan) as server:
        bad, good = ask(server, ["bad", "good"], mode="score")
    assert bad.error == "the answer cannot be used: a logprob must be a finite number not above 0"
    assert good.scores[1] == pytest.approx(-0.1)


LISTED = '{"token": %s, "logprob": %s}'


def first_token(content, *listed, finish="length"):
    return (
        f'{{"choices": [{{"finish_reason": "{finish}", "message": {{"content": "{content}"}}, "logprobs": {{"content": '
        f'[{{"top_logprobs": [{", ".join(LISTED % one for one in listed)}]}}]}}}}]}}'
    ).encode()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (first_token("negative", ('"positive"', -0.1), ('"negative"', -3)), "failed", "text is another label"),
        (first_token("negative", ("null", -0.1), ('"negative"', -3)), "failed", "a token must be a string"),
        (first_token("negative", ('["negative"]', -0.1)), "failed", "a token must be a string"),
        (first_token("x", *[(f'"{k}"', -20) for k in range(2000)]), "failed", "2,000 likeliest tokens came"),
        (first_token("positive", ('"positive"', -0.1), finish="content_filter"), "abstained", "content_filter"),
    ],
)
def test_first_tokens_that_say_two_things_are_no_label(tmp_path, body, status, reason):
    with HostileServer({"bad": body, "good": scored({"positive": -0.1, "x": -3})}) as server:
        out = LLMLabeler(TASK, EndpointTeacher("m", server.url, mode="score", **QUICK), tmp_path)(
            {"text": ["bad", "good"]}
        )
    assert (out["llm_label"], out["llm_status"]) == ([-1, 1], [status, "ok"])
    assert reason in out["llm_reason"][0]


def test_tokens_that_are_written_alike_add_up_and_one_that_is_listed_twice_counts_once():
    plan = {
        "alike": first_token("positive", ('"positive"', -1.2), ('"positive"', -1.3), ('"negative"', -0.9)),
        "twice": first_token("negative", ('"negative"', -0.5), ('"negative"', -0.5), ('"positive"', -1)),
    }
    with HostileServer(plan) as server:
        alike, twice = ask(server, list(plan), mode="score", temperature=1.0)
    assert alike.scores == pytest.approx((-0.9, math.log(math.exp(-1.2) + math.exp(-1.3))))
    assert twice.scores == pytest.approx((-0.5, -1))


TWICE = "the answer holds a field twice, with different values"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"choices": [{"message": {"content": "positive", "content": "negative"}}]}', TWICE),
        (
            '{"choices": [{"finish_reason": "length", "finish_reason": "stop", "message": {"content": "negative"}}]}',
            TWICE,
        ),
        (
            '{"choices": [{"message": {"content": "negative"}}], "choices": [{"message": {"content": "positive"}}]}',
            TWICE,
        ),
        (
            '{"choices": [{"index": 1, "message": {"content": "negative"}}, {"index": 0, "message": {"content": "positive"}}]}',
            "the answer has 2 choices, and one was asked for",
        ),
        ('{"choices": [{"message": {"content": "negative"}}], "usage": {"a": 1, "a": 1}}', None),
    ],
)
def test_body_that_says_two_things_fails_its_row_at_once(body, reason):
    with HostileServer({"bad": body.encode()}) as server:
        bad, good = ask(server, ("bad", "good"))
        assert len(server.bodies) == 2
    assert (bad.error, good.response) == (reason, "positive")


@pytest.mark.parametrize("extra", ['{"n": 2}', '{"stream": true}', '{"messages": []}', '{"model": "other"}'])
def test_parameters_that_ask_something_else_are_refused(extra):
    with pytest.raises(ValueError, match=r"extra_body must leave (n|stream|messages|model) as it is"):
        EndpointTeacher("m", "http://h/v1", extra_body=extra)
    assert EndpointTeacher("m", "http://h/v1", extra_body='{"n": 1, "stream": false}').extra() == {
        "n": 1,
        "stream": False,
    }


@pytest.mark.parametrize(
    ("tokens", "labels", "expected", "unclear"),
    [
        ({"Ġnegative": 0.6, "▁positive": 0.2, "Ċpositive": 0.1}, ["negative", "positive"], [0.6, 0.3], 0),
        ({"\u22121": 0.4, "\u2013": 0.3, "▁\u2010": 0.1, "1": 0.1}, ["-1", "1"], [0.8, 0.1], 0),
        ({"-": 0.5, "\u2014": 0.2, "0": 0.1}, ["-2", "-1", "0"], [None, None, 0.1], 0.7),
        ({"favorable": 0.6, "favor": 0.1, "against": 0.1}, ["favor", "against"], [0.1, 0.1], 0.6),
        ({"Ġpositively": 0.3, "Positive": 0.5}, ["negative", "positive"], [None, 0.5], 0.3),
        ({"Answer": 0.5, "B": 0.3}, ["A", "B"], [None, 0.3], 0),
        ({"ġdid": 0.3, "Ġold": 0.5}, ["Ġdid", "old"], [0.3, 0.5], 0),
        ({"ĠA": 0.5, "Ġarts": 0.3}, ["arts", "sport"], [0.3, None], 0.5),
    ],
)
def test_pieces_count_for_the_label_that_they_begin(tokens, labels, expected, unclear):
    likeliest = {token: math.log(p) for token, p in tokens.items()}
    found, left = label_log_probabilities(likeliest, [[label] for label in labels])
    assert [None if p is None else pytest.approx(math.exp(p)) for p in found] == expected
    assert left == pytest.approx(unclear)


@pytest.mark.parametrize("token", ["<think>", "[THINK]", "<|channel|>", "Ġ<reasoning", "\n<seed:think>", "◁think▷"])
def test_answer_that_begins_with_a_thought_has_no_scores(token):
    plan = {"bad": scored({token: -0.1, "negative": -3, "positive": -4}), "good": scored({"positive": -0.1, "x": -3})}
    with HostileServer(plan) as server:
        bad, good = ask(server, ["bad", "good"], mode="score")
    assert bad.scores is None
    assert "begins with a thought" in bad.error
    assert "chat_template_kwargs" in bad.error
    assert good.scores[1] == pytest.approx(-0.1)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_no_score_is_read_in_a_thought_that_the_template_opened(name):
    """As llama.cpp and vLLM answer: the first token is of the thought, and no mark of one stands in it."""
    bad = json.loads(scored({"The": -0.1, "negative": -3, "positive": -4}))
    bad["choices"][0]["message"] = {"role": "assistant", "content": "", name: "The"}
    with HostileServer({"bad": json.dumps(bad).encode(), "good": scored({"positive": -0.1, "x": -3})}) as server:
        bad, good = ask(server, ["bad", "good"], mode="score")
    assert (bad.scores, good.scores[1]) == (None, pytest.approx(-0.1))
    assert "begins with a thought, 'The'" in bad.error


def test_text_refused_with_structured_output_is_asked_again_alone(caplog):
    def plan(body):
        if "response_format" not in body:
            return chat("negative")
        bad = body["messages"][-1]["content"].endswith("bad")
        return (400, {}, b'{"error": "schema"}') if bad else chat('{"label": "positive"}')

    with HostileServer(plan) as server:
        replies = ask(server, ["one", "bad", "two", "bad", "three"], structured=True, concurrency=1)
    assert [reply.structured for reply in replies] == [True, False, True, False, True]
    assert [TASK.read(r.response, r.finish, r.structured)[0] for r in replies] == [1, 0, 1, 0, 1]
    assert len(server.bodies) == 7
    assert "response_format" not in caplog.text


def test_first_text_that_is_refused_either_way_leaves_structured_output_on():
    def plan(body):
        bad = body["messages"][-1]["content"].endswith("bad")
        return (400, {}, b'{"error": "too long"}') if bad else chat('{"label": "positive"}')

    with HostileServer(plan) as server:
        bad, good = ask(server, ["bad", "good"], structured=True, concurrency=1)
    assert bad.error == "refused: 400 too long"
    assert good.structured


BAD_BODIES = [
    b"[" * 100_000,
    b'{"choices": [{"message": {"content": ' + b"[" * 100_000,
    b"[]",
    b"7",
    b'"text"',
    b"null",
    b"",
    b"\xff\xfe\x00",
    b'{"choices": {"message": 1}}',
    b'{"choices": [[]]}',
    b'{"choices": [{"message": {"content": 7}}]}',
    b'{"choices": [{"message": {"content": "positive"}}], "usage": {"prompt_tokens": ' + b"9" * 6000 + b"}}",
]


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", BAD_BODIES)
def test_body_that_cannot_be_read_is_the_failure_of_its_row(tmp_path, status, body):
    with HostileServer({"bad": (status, {}, body)}) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, **QUICK), tmp_path)
        out = labeler({"text": ["one", "bad", "two", "three"]})
    assert out["llm_status"] == ["ok", "failed", "ok", "ok"]
    assert len(labeler.ledger) == 3


@pytest.mark.parametrize("count", [str(2**70), "1e999", "-5", "true", '"20"', "NaN", "[1]", "{}", "null", "-1e999"])
def test_what_is_no_count_counts_nothing_and_lifts_no_cap(tmp_path, count):
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": {count}}}'
    with HostileServer(lambda body: chat("negative", usage=usage)) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, max_tokens=600, concurrency=1, **QUICK), tmp_path)
        texts = [f"text {i}" for i in range(20)]
        out = labeler({"text": texts})
        known = labeler.known(texts)
    assert {(reply.input_tokens, reply.output_tokens) for reply in known} == {(0, 0)}
    assert 1 < out["llm_status"].count("ok") < 12
    assert len(server.bodies) == out["llm_status"].count("ok")


def test_lone_surrogate_is_replaced_and_what_is_kept_is_what_was_returned(tmp_path):
    with HostileServer(
        {"bad": chat("negative \ud83d"), "worse": (400, {}, b'{"error": {"message": "\\udc00"}}')}
    ) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, **QUICK), tmp_path)
        out = labeler({"text": ["bad", "worse", "fine"]})
        assert labeler({"text": ["bad"]})["llm_response"] == [out["llm_response"][0]] == ["negative \ufffd"]
    assert out["llm_status"][1:] == ["failed", "ok"]


def test_ledger_never_loses_a_neighbour(tmp_path):
    ledger = Ledger(tmp_path)
    bad = {
        "a": Reply(scores=(math.nan, -1.0)),
        "b": Reply(response="x", input_tokens="many"),
        "c": Reply(response=object()),
    }
    odd = {"d": Reply(response="\udfff", input_tokens=2**70, output_tokens=-3), "e": Reply(error="\ud800")}
    ledger.put({**bad, **odd, "f": Reply(response="kept")}, {"who": 1})
    assert ledger.get("abcdef") == {
        "d": Reply(response="\ufffd", input_tokens=2**53),
        "f": Reply(response="kept"),
    }
    assert set(ledger.errors("abcdef")) == {"a", "b", "c", "e"}


def test_body_that_is_too_long_costs_nothing_and_fails_alone():
    def endless():
        while True:
            yield b" " * 65536

    bomb = gzip.compress(gzip.compress(b"\0" * 200_000_000))
    once = gzip.compress(b" " * 50_000_000)
    plan = {
        "endless": (200, {}, endless()),
        "endless error": (400, {}, endless()),
        "bomb": (200, {"Content-Encoding": "gzip"}, once),
        "other": (200, {"Content-Encoding": "br"}, bomb),
        "packed": (200, {"Content-Encoding": "gzip"}, gzip.compress(chat("negative"))),
    }
    with HostileServer(plan) as server:
        replies = dict(zip([*plan, "fine"], ask(server, [*plan, "fine"]), strict=True))
    too_long = f"the answer is longer than {MOST_BYTES:,} bytes"
    assert [replies[name].error for name in ("endless", "bomb")] == [too_long] * 2
    assert replies["endless error"].error.startswith("refused: 400")
    assert replies["other"].error is not None
    assert [replies[name].response for name in ("packed", "fine")] == ["negative", "positive"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("inf", math.inf), ("1e400", math.inf), ("nan", 0), ("-5", 0), ("soon", 0), ("", 0), (None, 0), ("2.5", 2.5)],
)
def test_pause_that_is_asked_for_is_a_number(header, seconds):
    assert retry_after(header) == seconds


@pytest.mark.parametrize(("header", "shown"), [("inf", "inf"), ("1e308", r"1e\+308")])
def test_endless_pause_stops_the_run(header, shown):
    answer = (429, {"Retry-After": header}, b"{}")
    with HostileServer(lambda body: answer) as server, pytest.raises(ConnectionError, match=f"alone for {shown} s"):
        ask(server)


def test_server_that_is_overloaded_for_ever_stops_the_run():
    with HostileServer(lambda body: (429, {}, b"{}")) as server:
        with pytest.raises(
            ConnectionError, match=r"Stopped: 429 .*21 text\(s\) in a row \(given up: deadline 0.001 s"
        ):
            ask(server, [f"text {k}" for k in range(1000)], deadline=0.001, concurrency=2)
        assert len(server.bodies) < 500


def reasoning_model(body):
    for name, said in (
        ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model."),
    ):
        if name in body:
            return 400, {}, json.dumps({"error": {"message": said, "param": name}}).encode()
    return chat("negative")


def test_refused_parameter_says_what_to_pass_until_it_works():
    with HostileServer(reasoning_model) as server:
        (reply,) = ask(server, structured=True)
        first = '{"max_tokens": "max_completion_tokens"}'
        assert f"--request_parameters '{first}'" in reply.error
        (reply,) = ask(server, request_parameters=first)
        second = '{"max_tokens": "max_completion_tokens", "temperature": null}'
        assert f"--request_parameters '{second}'" in reply.error
        (reply,) = ask(server, request_parameters=second)
    assert reply.response == "negative"
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert len(server.bodies) == 3


def test_arguments_of_the_template_are_sent_and_part_of_who_was_asked():
    with HostileServer({}) as server:
        ask(server, chat_template_kwargs='{"enable_thinking": false}')
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    plain = EndpointTeacher("m", "http://h/v1")
    assert not plain.identity().keys() & {"chat_template_kwargs", "request_parameters"}
    for option in ("chat_template_kwargs", "request_parameters"):
        assert option in EndpointTeacher("m", "http://h/v1", **{option: "{}"}).identity()
        with pytest.raises(ValueError, match=f"{option} must be a JSON object"):
            EndpointTeacher("m", **{option: "[1]"})


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "134744072",
        "0x08080808",
        "8.8.8.8.",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "::ffff:8.8.8.8",
        "a.example",
        "203.0.113.5",
        "2001:4860::1",
        "127.0.0.1.",
    ],
)
def test_public_and_numeric_hosts_get_no_key_in_the_clear(host, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    shown = f"[{host}]" if ":" in host else host
    for scheme in ("http", "HTTP"):
        with pytest.raises(PermissionError, match="in the clear. Use https") as refused:
            endpoint_key("MY_KEY", f"{scheme}://{shown}/v1")
        assert SECRET not in str(refused.value)
    assert endpoint_key("MY_KEY", f"https://{shown}/v1") == SECRET


def test_private_hosts_are_known():
    hosts = (
        "localhost 127.0.0.1 10.1.2.3 192.168.0.9 172.16.5.5 ::1 ::ffff:10.0.0.1 fd00::1 gpu-box node.local 0.0.0.0"
    )
    assert all(is_private(host) for host in hosts.split())


ODD_HOSTS = [
    "evil\u3002com",
    "evil\uff61com",
    "evil\uff0ecom",
    "evil%2ecom",
    "evil·com",
    "evil.com;.local",
    "ｌocalhost",
    "a,b",
]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_host_that_another_reader_may_take_for_another_is_refused_and_gets_no_key(host, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    assert not is_private(host)
    with pytest.raises(PermissionError, match="in the clear"):
        endpoint_key("MY_KEY", f"http://{host}/v1")
    with pytest.raises(ValueError, match="base_url must hold a host of ASCII letters"):
        EndpointTeacher("m", f"http://{host}/v1")
    assert is_private_host(host)
    assert EndpointTeacher("m", "http://my_gpu-box:8000/v1").settings()["base_url_is_local"]


def test_address_of_no_host_is_said_before_anything_is_sent():
    with pytest.raises(ConnectionError, match=r"'http://999.1.1.1/v1' is no address: .*Check base_url"):
        [*EndpointTeacher("m", "http://999.1.1.1/v1").ask(TASK, ["x"])]


@pytest.mark.parametrize("place", ["127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:-1", "[::1", "[x]"])
def test_address_that_is_none_is_said_at_once(place):
    with pytest.raises(ValueError, match="base_url must"):
        EndpointTeacher("m", f"http://{place}/v1")


def test_every_credential_is_checked(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_token")
    assert endpoint_key(None, "https://API.openai.com/v1") == SECRET
    assert endpoint_key(None, "https://Router.HuggingFace.co/v1") == "hf_token"
    for host in ("api.openai.com.evil.org", "eapi.openai.com", "evilhuggingface.co", "x.hf.co"):
        assert endpoint_key(None, f"https://{host}/v1") == "-"
    for host in ("api.openai.com", "huggingface.co"):
        with pytest.raises(PermissionError, match="in the clear"):
            endpoint_key(None, f"HTTP://{host}/v1")


@pytest.mark.parametrize("key", [SECRET + "\n", " " + SECRET, SECRET + "\r", "sk-é" + SECRET, "sk a", "sk\0a", "“sk”"])
def test_key_that_is_none_is_said_at_once_and_not_shown(key, monkeypatch):
    monkeypatch.setattr("os.environ", {"MY_KEY": key})
    with pytest.raises(PermissionError, match="MY_KEY holds no key: keys are printable ASCII") as refused:
        endpoint_key("MY_KEY", "https://h/v1")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        SECRET.replace("/", "\\/"),
        "".join(f"\\u{ord(c):04x}" for c in SECRET),
        "sk-Very%2Bsecret%2F0123",
    ],
)
def test_key_in_any_form_is_starred(form):
    assert redactor(SECRET)(f"Bearer {form}!") == "Bearer ***!"


@pytest.mark.parametrize("before", ["", "s", "sk-"])
def test_long_row_of_backslashes_is_read_once_and_the_key_behind_it_starred(before):
    """From each backslash on it would be read for hours."""
    row = before + "\\" * 300_000
    shown = redactor(SECRET)(row + SECRET)
    assert shown == row + "***"


def test_key_that_the_server_echoes_is_kept_nowhere(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MY_KEY", SECRET)
    long = json.dumps({"error": {"message": "x" * 190 + SECRET}}).encode()
    plan = {
        "answer": chat(f"positive {SECRET}"),
        "refusal": chat(None, refusal=f"No, {SECRET}"),
        "error": (400, {}, json.dumps({"error": f"bad key {SECRET}"}).encode()),
        "long": (500, {}, long),
        "html": (422, {}, f"<p>{SECRET}</p>".encode()),
    }
    with HostileServer(plan) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, api_key_variable="MY_KEY", **QUICK), tmp_path)
        out = labeler({"text": list(plan)})
        plan["refused"] = (401, {}, f'{{"error": "no {SECRET}"}}'.encode())
        with pytest.raises(PermissionError, match=r"no \*\*\*") as refused:
            labeler({"text": ["refused"]})
    labeler.ledger.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert out["llm_response"][0] == "positive ***"
    assert SECRET[:9] not in json.dumps(out) + str(refused.value) + caplog.text
    assert SECRET[:9].encode() not in written


@pytest.fixture
def held_back(monkeypatch):
    """Makes a plan in which texts with "slow" are answered only after an error was about to stop the run."""
    stopping = threading.Event()

    def note(self, value):
        vars(self)["is_stopping"] = value
        if value:
            stopping.set()

    monkeypatch.setattr(
        asking.Requests, "stopping", property(lambda self: vars(self)["is_stopping"], note), raising=False
    )

    def made(plan):
        def answer(body):
            text = body["messages"][-1]["content"].split("\n")[-1]
            if "slow" in text:
                assert stopping.wait(30)
            return plan(text)

        return answer

    return made


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_about_one_text_fails_that_text_alone(status, held_back):
    no = (status, {}, b'{"error": "moderated"}')
    with HostileServer(held_back(lambda text: no if text == "bad" else chat("positive"))) as server:
        first = ask(server, ("bad", "slow 1", "slow 2", "after 1", "after 2"), concurrency=3)
        later = ask(server, ("a", "b", "bad", "c"), concurrency=1)
    assert [reply.response for reply in first] == [None, *["positive"] * 4]
    assert f"{status} moderated" in first[0].error
    assert [reply.response for reply in later] == ["positive", "positive", None, "positive"]
    assert later[2].error == f"refused: {status} moderated"


def test_error_of_a_request_under_way_stops_the_run_too(held_back):
    answers = {"bad": (401, {}, b'{"error": "moderated"}'), "slow unpaid": (402, {}, b'{"error": "no money left"}')}
    plan = held_back(lambda text: answers.get(text) or chat("positive"))
    with HostileServer(plan) as server, pytest.raises(PermissionError, match="402 no money left"):
        ask(server, ("bad", "slow 1", "slow unpaid"), concurrency=3)


def test_key_that_is_withdrawn_stops_the_run():
    calls = iter(range(1000))
    with HostileServer(
        lambda body: chat("positive") if next(calls) < 5 else (401, {}, b'{"error": "revoked"}')
    ) as server:
        with pytest.raises(PermissionError, match="401 revoked"):
            ask(server, [f"text {k}" for k in range(200)], concurrency=2)
        assert 5 < len(server.bodies) < 60


@pytest.mark.parametrize(("status", "error"), [(402, PermissionError), (405, ConnectionError)])
def test_fatal_error_waits_for_what_is_paid_for(tmp_path, status, error, held_back):
    """The other request was let go before; its answer comes after the fatal one, and is kept."""
    plan = held_back(lambda text: (status, {}, b"no") if text == "bad" else chat("positive"))
    with HostileServer(plan) as server:
        labeler = LLMLabeler(TASK, EndpointTeacher("m", server.url, concurrency=2, **QUICK), tmp_path)
        with pytest.raises(error):
            labeler({"text": ["slow", "bad", "never sent"]})
        assert len(labeler.ledger) == 1
        assert labeler.recall({"text": ["slow"]})["llm_response"] == ["positive"]
        assert len(server.bodies) == 2


def test_number_of_thousands_of_digits_fails_its_row_at_once():
    plan = {"a": chat("positive", usage=f'{{"prompt_tokens": {"9" * 5000}}}')}
    with HostileServer(plan) as server:
        bad, good = ask(server, ("a", "b"))
        assert len(server.bodies) == 2
    assert "a number of thousands of digits" in bad.error
    assert good.response == "positive"


@pytest.mark.parametrize("name", ["max_requests", "max_tokens", "max_cost", "price_input", "price_output"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True])
def test_cap_that_caps_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number of 0 or more"):
        EndpointTeacher("m", "http://localhost/v1", **{"price_input": 1.0, name: value})


@pytest.mark.parametrize("count", ["-5", "1e999", "NaN", "true", '"7"', "[7]", "-1e999"])
def test_counts_that_are_none_lift_no_cap(count):
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": {count}}}'
    texts = [f"text {k}" for k in range(20)]
    with HostileServer(lambda body: chat("positive", usage=usage)) as server:
        replies = ask(server, texts, max_tokens=300, concurrency=1)
    answered = sum(reply.error is None for reply in replies)
    assert 0 < answered < 5
    assert all("the budget is spent" in reply.error for reply in replies if reply.error)


def test_private_host_is_asked_past_a_proxy_of_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    with HostileServer({}) as proxy, HostileServer({}) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert ask(server, api_key_variable="MY_KEY")[0].response == "positive"
        assert proxy.bodies == []


STAND_INS = ["positive", "none", "EMPTY", "-", "x", "no-key-required", "negative", "abc123"]


@pytest.mark.parametrize("key", STAND_INS)
def test_stand_in_for_a_key_leaves_answers_alone_and_goes_to_no_public_host(key, monkeypatch):
    monkeypatch.setenv("MY_KEY", key)
    assert redactor(key)(f"the answer is {key}") == f"the answer is {key}"
    assert endpoint_key("MY_KEY", "http://localhost:8000/v1") == key
    with HostileServer({}) as server:
        assert ask(server, api_key_variable="MY_KEY")[0].response == "positive"
    if key != "-":
        with pytest.raises(PermissionError, match="MY_KEY holds a word or a few characters, no key"):
            endpoint_key("MY_KEY", "https://api.example.com/v1")


@pytest.mark.parametrize("user", ["", "a", "me:", "user:", ":", "x:y:"])
def test_key_in_base64_is_starred(user):
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redactor(SECRET)(f"Basic {encode((user + SECRET).encode()).decode()}")
        sure = encode(bytes(len(user) % 3) + SECRET.encode()).decode()[2:-4]
        assert "***" in shown
        assert sure not in shown


@pytest.fixture
def hub(monkeypatch):
    """The Hub's router is the given server, and the Hub's token one that looks like one."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: HUB_TOKEN)
    return lambda server: monkeypatch.setattr("hf_llambert.teachers.server.ROUTER", server.url)


HUB_TOKEN = "hf_" + "t" * 20


def ask_hub(*texts, **options):
    replies = {}
    for part in EndpointTeacher("org/model", concurrency=1, **{**QUICK, **options}).ask(TASK, texts or ("a text",)):
        replies |= part
    return [replies[i] for i in range(len(replies))]


def test_providers_of_the_hub_are_asked_through_its_router_by_the_same_client(hub):
    assert EndpointTeacher("org/model").address == "https://router.huggingface.co/v1"
    plan = {"long": b" " * MOST_BYTES + chat("positive")}
    with HostileServer(plan) as server:
        hub(server)
        short, long = ask_hub("a text", "long")
        (named,), _ = ask_hub(provider="together"), ask_hub(provider="auto")
        plan["redirected"] = (307, {"Location": "https://evil.example/x"}, b"")
        with pytest.raises(ConnectionError, match=r"'the Hub' sends the request on to 'evil\.example'"):
            ask_hub("redirected")
    assert (short.response, named.response) == ("positive", "positive")
    assert f"longer than {MOST_BYTES:,} bytes" in long.error
    assert [body["model"] for body in server.bodies] == ["org/model"] * 2 + ["org/model:together"] + ["org/model"] * 2
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {HUB_TOKEN}"}
    assert server.bodies[0]["max_tokens"] == 16
    assert server.bodies[0]["messages"][-1]["content"].endswith("a text")


def test_only_a_token_of_the_hub_goes_to_the_hub(hub, monkeypatch):
    monkeypatch.setenv("THEIRS", SECRET)
    monkeypatch.setenv("MINE", "hf_" + "m1" * 10)
    with HostileServer({}) as server:
        hub(server)
        with pytest.raises(PermissionError, match="THEIRS holds no token of the Hub .*provider's base_url"):
            ask_hub(provider="together", api_key_variable="THEIRS")
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        with pytest.raises(PermissionError, match="need a token"):
            ask_hub()
        assert server.bodies == []
        ask_hub(api_key_variable="MINE")
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer hf_" + "m1" * 10]


def test_break_that_no_library_names_is_a_broken_connection():
    def end(request):
        raise anyio.EndOfStream  # what anyio says where TLS ends early

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(end))
    client = openai.AsyncOpenAI(api_key="x", base_url="http://h/v1", max_retries=0, http_client=http)
    with pytest.raises(httpx2.ReadError):
        asyncio.run(post(client, "/completions", {}))


def test_no_cookie_is_kept():
    with HostileServer(lambda body: (200, {"Set-Cookie": "a=b"}, chat("positive"))) as server:
        ask(server, ("one", "two"), concurrency=1)
    assert ["cookie" in headers for headers in server.headers] == [False, False]


def test_nothing_that_the_client_finds_in_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", SECRET)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Mine: {SECRET}\nAuthorization: Bearer {SECRET}\nHost: h")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with HostileServer({}) as server:
        assert ask(server)[0].response == "positive"
    (headers,) = server.headers
    assert headers.pop("User-Agent")
    assert headers == {
        "Host": server.url.split("/")[2], "Content-Length": headers["Content-Length"],
        "Authorization": "Bearer -", "Content-Type": "application/json", "Accept": "application/json",
        "Accept-Encoding": "identity",
    }  # fmt: skip


@pytest.mark.parametrize("charset", ["bz2", "zlib", "idna", "utf-7", "no-such", "rot13"])
def test_error_in_a_charset_of_the_servers_choice_is_read_as_utf_8(charset):
    headers = {"Content-Type": f"application/json; charset={charset}"}
    with HostileServer(lambda body: (400, headers, '{"error": "caf\u00e9"}'.encode())) as server:
        (reply,) = ask(server)
    assert reply.error == "refused: 400 caf\u00e9"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("gpt-4", "gpt-4o-2024"), None),
        (("gpt-4", "GPT-4O-2024 mini"), None),
        (("old", "new"), (("gpt-4",), ("newer", "gpt-4o-2024"))),
    ],
)
def test_key_that_is_a_label_is_refused_before_anything_is_sent(monkeypatch, labels, words):
    monkeypatch.setenv("MY_KEY", "gpt-4o-2024")
    task = TaskSpec("t", labels, "{text}", verbalizers=words or ())
    with HostileServer({}) as server:
        with pytest.raises(
            ValueError, match=r"The key in MY_KEY is, or stands in, a word of label 2 .*nothing was sent"
        ) as error:
            ask(server, task=task, api_key_variable="MY_KEY")
        assert "gpt-4o-2024" not in str(error.value).lower()
        assert server.bodies == []
        (reply,) = ask(server, task=TASK, api_key_variable="MY_KEY")
    assert reply.response == "positive"
