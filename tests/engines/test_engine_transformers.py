"""`transformers serve` through EndpointTeacher."""

from collections.abc import Iterator

import pytest
from asked import MODEL, QUESTION, REVIEWS, replies, written

from engines import program, serving
from hf_llambert import EndpointTeacher


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The model in float32."""
    options = ("--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32")
    command = [program("transformers", "transformers"), "serve", MODEL, *options]
    with serving(command, tmp_path_factory.mktemp("log") / "transformers.log") as (url, _):
        yield url


def test_answers_are_those_of_transformers(server: str) -> None:
    teacher = EndpointTeacher(MODEL, server, max_new_tokens=12, concurrency=2)
    assert [reply.response for reply in replies(teacher, QUESTION)] == written(QUESTION, 12)


def test_server_without_logprobs_is_told_apart(server: str) -> None:
    with pytest.raises(ValueError, match="gives no logprobs"):
        replies(EndpointTeacher(MODEL, server, mode="score", max_attempts=1), QUESTION, REVIEWS[:2])


def test_structured_output_that_is_ignored_is_noticed(server: str, caplog: pytest.LogCaptureFixture) -> None:
    teacher = EndpointTeacher(MODEL, server, structured=True, max_new_tokens=12)
    found = replies(teacher, QUESTION, REVIEWS[:2])
    assert [reply.response for reply in found] == written(QUESTION, 12)[:2]
    assert "2 of 2 answers ignored structured output" in caplog.text


def test_model_that_is_not_served_fails_with_the_servers_words(server: str) -> None:
    (reply,) = replies(EndpointTeacher("no/such-model", server, max_attempts=1), QUESTION, REVIEWS[:1])
    assert "Server is pinned to" in (reply.error or "")
