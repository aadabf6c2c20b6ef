"""llama.cpp's server (the wheel xllamacpp) through EndpointTeacher, on the quickstart's weights as GGUF files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asked import PLAIN, QUESTION, REVIEWS, SEVERAL, apart, cached_tokens, expected, labels, post, replies, written

from engines import llamacpp, serving
from hf_llambert import EndpointTeacher
from hf_llambert.tasks.requests import obeys_schema
from hf_llambert.teachers.protocol import obeys

NAME = "smollm2"
THINKING = str(Path(__file__).parent / "thinking.jinja")
BRIEF_THOUGHT = json.dumps({"grammar": 'root ::= [a-zA-Z ,.]{10,40} "\\n</think>\\n\\n" ("positive" | "negative")'})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The weights in float32, four slots."""
    log = tmp_path_factory.mktemp("log") / "llamacpp.log"
    with serving(llamacpp("F32", "--parallel", "4"), log) as (url, _):
        yield url


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The packaged file behind a chat template that opens a thought, as those of reasoning models do."""
    log = tmp_path_factory.mktemp("log") / "thinker.log"
    with serving(llamacpp("Q4_1", "--parallel", "1", "--chat-template-file", THINKING), log) as (url, _):
        yield url


def test_a_token_has_the_probability_that_transformers_gives_it(server: str) -> None:
    task = replace(QUESTION, verbalizers=(("Negative",), ("Positive",)))
    for text, wanted in zip(REVIEWS, expected(task), strict=True):
        body = {"messages": task.messages(text), "max_tokens": 1, "temperature": 0, "logprobs": True}
        answer = post(f"{server}/chat/completions", {**body, "top_logprobs": 500})
        likely = {
            one["token"]: one["logprob"] for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        }
        assert (likely["Negative"], likely["Positive"]) == pytest.approx(wanted.scores, abs=0.01)


def test_chat_scores_choose_the_labels_of_transformers(server: str) -> None:
    found = replies(EndpointTeacher(NAME, server, mode="score"), QUESTION)
    assert labels(found) == labels(expected(QUESTION))


def test_more_logprobs_bring_chat_scores_to_those_of_transformers(server: str) -> None:
    teacher = EndpointTeacher(NAME, server, mode="score", extra_body='{"top_logprobs": 500}')
    # What is left are other spellings of the words ("POSITIVE"), which exact scores do not have.
    assert apart(replies(teacher, QUESTION), expected(QUESTION)) < 0.1


def test_plain_scores_choose_the_labels_of_transformers(server: str) -> None:
    found = replies(EndpointTeacher(NAME, server, mode="score"), PLAIN)
    assert labels(found) == labels(expected(PLAIN))


def test_answers_are_those_of_transformers_whatever_the_slots(server: str) -> None:
    for concurrency in (1, 4):
        teacher = EndpointTeacher(NAME, server, max_new_tokens=12, concurrency=concurrency)
        assert [reply.response for reply in replies(teacher, QUESTION)] == written(QUESTION, 12)


def test_structured_answers_are_json(server: str) -> None:
    teacher = EndpointTeacher(NAME, server, structured=True, max_new_tokens=32)
    assert all(obeys(reply.response, QUESTION) for reply in replies(teacher, QUESTION))
    assert all(obeys_schema(SEVERAL, reply.response) for reply in replies(teacher, SEVERAL))


def test_what_prompts_begin_with_is_read_once(server: str) -> None:
    assert cached_tokens(server, NAME, "Another ending.") > 150


def test_prompt_beyond_the_context_fails_alone_and_says_so(server: str) -> None:
    first, second = replies(EndpointTeacher(NAME, server, max_new_tokens=4), QUESTION, ["a " * 9000, REVIEWS[0]])
    assert "exceeds the available context size" in (first.error or "")
    assert second.response


def test_thoughts_are_no_answer(thinker: str) -> None:
    teacher = EndpointTeacher(NAME, thinker, max_new_tokens=60, extra_body=BRIEF_THOUGHT)
    found = replies(teacher, QUESTION)
    assert {reply.response for reply in found} <= {"positive", "negative"}
    assert all(reply.output_tokens > 5 for reply in found)  # the thought was paid for
    endless = replies(EndpointTeacher(NAME, thinker, max_new_tokens=12), QUESTION, REVIEWS[:2])
    assert [(reply.response, reply.finish) for reply in endless] == [("", "length")] * 2


def test_no_score_is_read_in_a_thought(thinker: str) -> None:
    thought = json.dumps({"grammar": 'root ::= [A-Z] [a-z ]{10,40} "\\n</think>\\n\\n" "positive"'})
    found = replies(EndpointTeacher(NAME, thinker, mode="score", extra_body=thought), QUESTION, REVIEWS[:2])
    assert all("begins with a thought" in (reply.error or "") for reply in found)


def test_thought_that_is_turned_off_leaves_scores(thinker: str) -> None:
    variables = '{"enable_thinking": false}'
    found = replies(EndpointTeacher(NAME, thinker, mode="score", chat_template_kwargs=variables), QUESTION)
    assert all(reply.scores for reply in found)
