"""What every engine is asked, and what the teacher of transformers answers with the same weights."""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_llambert import TaskSpec, load_task
from hf_llambert.tasks.kinds import Choice, Choices, Scale
from hf_llambert.teachers.base import Reply, Teacher

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "assets" / "SmolLM2-135M-Instruct")
REVIEWS = (
    "A wonderful film. The actors are superb and I could not stop smiling.",
    "Two hours of my life that I will never get back. Dreadful script, awful acting.",
    "I loved every minute of it.",
    "Boring and badly made; we walked out.",
    "ends oddly \n\n ",
    "Ünïcödé \U0001f926\U0001f3fd, a great review!",
)
QUESTION = replace(
    load_task(ROOT / "recipes" / "tasks" / "imdb_question.yaml"),
    verbalizers=(("Negative", "negative"), ("Positive", "positive")),
)
"""A chat task whose words are single tokens."""
PLAIN = TaskSpec(
    "plain",
    ("negative", "positive"),
    "Movie review: {text}",
    chat=False,
    lead_in="Overall, the movie was",
    verbalizers=(("terrible", "boring", "bad", "horrible"), ("excellent", "wonderful", "great", "fantastic")),
)
SEVERAL = TaskSpec(
    "several",
    instruction="Review: {text}",
    questions=(
        Choice("tone", ("good", "bad"), "Is the reviewer's tone good or bad?"),
        Scale("stars", ("1", "2", "3"), "How many stars of three?"),
        Choices("topics", ("acting", "music"), "Does the review speak of the {label}?"),
    ),
)


def replies(teacher: Teacher, task: TaskSpec, texts: Sequence[str] = REVIEWS) -> list[Reply]:
    """A reply to each text."""
    found = {i: reply for part in teacher.ask(task, texts) for i, reply in part.items()}
    return [found[i] for i in range(len(texts))]


@lru_cache
def expected(task: TaskSpec) -> list[Reply]:
    """What `TransformersTeacher` scores in float32."""
    from hf_llambert import TransformersTeacher  # the Pythons of the engines have not all that it needs

    return replies(TransformersTeacher(MODEL, dtype="float32"), task)


@lru_cache
def written(task: TaskSpec, tokens: int) -> list[str | None]:
    """What `TransformersTeacher` writes in float32."""
    from hf_llambert import TransformersTeacher

    teacher = TransformersTeacher(MODEL, dtype="float32", mode="generate", max_new_tokens=tokens)
    return [reply.response for reply in replies(teacher, task)]


def labels(found: Sequence[Reply]) -> list[int]:
    """The likeliest label of each; -1 where there are no scores."""
    return [max(range(len(r.scores)), key=r.scores.__getitem__) if r.scores else -1 for r in found]


def apart(found: Sequence[Reply], wanted: Sequence[Reply]) -> float:
    """The largest difference of two scores; infinite where one has none."""
    pairs = [(one.scores or (math.inf,), two.scores or ()) for one, two in zip(found, wanted, strict=True)]
    return max(abs(a - b) if len(x) == len(y) else math.inf for x, y in pairs for a, b in zip(x, y or x, strict=False))


def post(address: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON that a server answers, its errors too."""
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def cached_tokens(address: str, model: str, text: str) -> int:
    """Tokens of a long prompt that the server had from an earlier one which begins alike."""
    shared = "The film is about a man and his dog. " * 20
    for ending in ("The end.", text):
        answer = post(f"{address}/completions", {"model": model, "prompt": shared + ending, "max_tokens": 1})
    return int((answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
