"""A run of a task of three questions about one text, with answers that are made up: no model is trained."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec, annotate
from hf_llambert.metrics import METRICS
from hf_llambert.models import content_id
from hf_llambert.tasks.kinds import Choice, Choices, Scale
from hf_llambert.teachers.base import Reply

TASK = TaskSpec(
    "sick",
    instruction="Visit: {text}",
    questions=(
        Choice("tone", ("good", "bad", "neither"), "Is it {options}?"),
        Scale("quality", ("1", "2", "3", "4", "5"), "How good, from 1 to 5?"),
        Choices("topics", ("food", "staff", "price"), "What is it about: {options}?"),
    ),
    chat=False,
)
FILL = {"tone": ["lovely warm", "dull cold", "it was there"], "topics": ["soup bread", "waiter service", "bill money"]}


def visits(n, seed):
    """Texts that say what is true of them, and people's answers."""
    random = np.random.default_rng(seed)
    tone, stars = random.integers(3, size=n), random.choice([1.0, 2.0, 2.5, 3.0, 4.0, 5.0], n)
    topics = random.random((n, 3)) < (0.6, 0.3, 0.1)
    texts = [
        f"{FILL['tone'][t]} {' '.join(FILL['topics'][k] for k in np.flatnonzero(row))} level{s:g} of visit {seed} {i}"
        for i, (t, s, row) in enumerate(zip(tone, stars, topics, strict=True))
    ]
    named = [[TASK.questions[2].labels[k] for k in np.flatnonzero(row)] for row in topics]
    return Dataset.from_dict({"text": texts, "tone": tone, "quality": stars, "topics": named})


@dataclass(frozen=True)
class ReadingTeacher(CountingTeacher):
    """Reads what the text says, a little wrong: every fifth is off."""

    def _reply(self, task: TaskSpec, text: str) -> Reply:
        off = int(text.rsplit(maxsplit=1)[-1]) % 5 == 0
        if task.labels == ("yes", "no"):
            topic = re.findall(r"(\w+): yes or no", task.messages(text)[-1]["content"])[-1]
            found = FILL["topics"][TASK.questions[2].labels.index(topic)] in text
            return Reply(scores=(-0.2, -2.0) if found != (off and topic == "price") else (-2.0, -0.2), seconds=0.1)
        if task.labels == TASK.questions[1].labels:
            value = float(re.findall(r"level([\d.]+)", text)[0]) + 1.2 * off
            return Reply(scores=tuple(-0.05 - (value - k) ** 2 for k in range(1, 6)), seconds=0.1)
        tone = next(k for k, words in enumerate(FILL["tone"]) if words in text)
        return Reply(scores=tuple(-0.1 if k == (tone + off) % 3 else -3.0 for k in range(3)), seconds=0.1)


def answered(data, seed):
    """A student's columns: right about four in five."""
    random = np.random.default_rng(seed)
    n, out = len(data), {}
    off = random.random(n) < 0.2
    tone = (np.array(data["tone"][:]) + off) % 3
    out |= {"student_tone_label": tone, "student_tone_confidence": 0.95 - 0.3 * random.random(n) - 0.2 * off}
    value = np.clip(np.array(data["quality"][:]) + random.normal(0, 0.4, n) + off, 1, 5)
    out |= {"student_quality_value": value, "student_quality_label": np.rint(value).astype(int) - 1}
    out["student_quality_confidence"] = 0.9 - 0.4 * random.random(n) - 0.2 * off
    given = [[k for k, name in enumerate(TASK.questions[2].labels) if name in row] for row in data["topics"]]
    out["student_topics_labels"] = [[*row[1:]] if wrong else row for row, wrong in zip(given, off, strict=True)]
    out["student_topics_confidence"] = 0.9 - 0.3 * random.random(n) - 0.2 * off
    return {name: list(values) for name, values in out.items()}


def gold_of(data):
    """People's answers as they are prepared."""
    return {one.name: one.gold(data[one.name][:], one.name) for one in TASK.questions}


def note(folder: Path, config: dict, results: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").write_text(json.dumps({"config": config, "results": results}))


def counting_words(found: dict) -> dict:
    """The note of a linear student that is as good, and twice as fast; at one question the encoder is certainly better."""
    paired = {
        name: {"difference": 0.01, "low": -0.02, "high": 0.04, "runs": 1, "n": one["n"]} for name, one in found.items()
    }
    paired["quality"] |= {"difference": 0.1, "low": 0.05, "high": 0.15}
    each = {name: {**one, "texts_per_second": 400.0} for name, one in found.items()}
    return {"unit": "words", "features": 99, "seconds": 0.5, "eval": each, "difference": paired}


def student(run: Path, held_out: Dataset) -> None:
    """A student that was measured, without weights that are any."""
    answers, gold, found = answered(held_out, 5), gold_of(held_out), {}
    for one in TASK.questions:
        quality = METRICS[one.kind](keep_in_memory=True).compute(
            predictions=answers[f"student_{one.name}_{one.answer_column}"],
            references=gold[one.name],
            labels=one.labels,
            confidences=answers[f"student_{one.name}_confidence"],
        )
        found[one.name] = {**quality, "source": "held-out visits", "texts_per_second": 200.0}
    train = {"n": 250, "n_silver": 250, "n_gold": 0, "seed": 1, "seconds": 9.0, "student": "tiny"}
    train |= {"epochs": 3, "processes": 1, "max_length": 64}
    train["per_label"] = {one.name: dict.fromkeys(one.labels, 80) for one in TASK.questions}
    train["selection"] = [
        {"question": one.name, "rule": "usable", "n": 240, "per_label": dict.fromkeys(one.labels, 80)}
        for one in TASK.questions
    ]
    config = {"task": TASK.to_dict(), "text_column": "text", "eval_data": "held", "arguments": {"seed": 1}}
    note(run / "student", config, {"train": train, "eval": found, "linear": counting_words(found)})
    (run / "student" / "model.safetensors").write_bytes(b"none")
    reading = {"max_length": 64, "head_share": 0.5, "fields": ["text"]}
    training = {"reading": reading, "training": {"arguments": {"seed": 1, "mix": "none"}}}
    (run / "student" / "training.json").write_text(json.dumps(training))
    rows = {"text": held_out["text"][:], **gold, **answers}
    Dataset.from_dict(rows).to_parquet(str(run / "student" / "evaluation.parquet"))


def labels(run: Path, pool: Dataset) -> None:
    """The pool as the student labelled it."""
    folder = run / "labels"
    folder.mkdir()
    pq.write_table(pa.table({"text": pool["text"][:], **answered(pool, 7)}), folder / "part-00000.parquet")
    config = {"text_column": "text", "student": content_id(str(run / "student"))}
    done = {"n_labelled": len(pool), "n_unusable": 0, "seconds": 2.0, "texts_per_second": 100.0, "complete": True}
    note(folder, config, done)


def make_kind_run(folder: Path, n: int = 200) -> Path:
    """The folder of the run: annotated, a student, a labelled pool."""
    run = folder / "run"
    labeler = LLMLabeler(TASK, ReadingTeacher(str(folder / "asked")), run / "ledger")
    gold = {one.name: one.name for one in TASK.questions}
    annotate(visits(n, 1), labeler, run / "annotated", calibration="none", show_progress=False, gold_column=gold)
    student(run, visits(300, 2))
    labels(run, visits(500, 3))
    return run
