"""Instructions that an LLM writes, by GEPA (Agrawal et al. 2025, arXiv 2507.19457), tried by our teacher on gold kept apart."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Mode, Teacher
from hf_llambert.tuning.asking import Answers, Asker, with_mode
from hf_llambert.tuning.candidates import WRITTEN, Prompt

logger = get_logger(__name__)

_REFLECTION = TaskSpec("writing", ("a", "b"), "{text}")  # its answer is read as it is; the labels are never looked for
_LEAST_ROOM = 1024  # tokens of an instruction that is written
_PLACE = re.compile(r"\{([^\W\d][\w.-]*)\}")
_TRIES = 3  # reflections for each instruction that is wanted


def most_calls(rows: int, number: int) -> int:
    """How often the teacher is asked at most while so many instructions are written, on so many rows."""
    return rows * (number + 1) + 6 * _TRIES * number


def write_wordings(
    task: TaskSpec,
    writer: Teacher,
    asker: Asker,
    mode: Mode,
    rows: Sequence[tuple[str, object]],
    number: int,
    seed: int,
) -> dict[str, TaskSpec]:
    """
    Instructions for a task that an LLM wrote, which looked at what the teacher gets wrong; the best first.

    Args:
        task (`TaskSpec`): The task as given: what is written begins from its instruction.
        writer (`Teacher`): Who writes.
        asker (`Asker`): Asks the teacher.
        mode (`str`): The teacher's.
        rows (`Sequence[tuple[str, object]]`): Texts and people's answers, none of them compared on later.
        number (`int`): How many instructions.
        seed (`int`): Which rows are looked at when.

    Raises:
        ImportError: The extra is not installed.
        ValueError: There are no rows to write by.
    """
    if not rows:
        raise ValueError(
            "An LLM writes instructions by what the teacher gets wrong: that needs gold kept apart (num_examples)."
        )
    try:
        import gepa
        from gepa.core.adapter import EvaluationBatch
    except ImportError as error:
        raise ImportError(
            "To let an LLM write instructions, install the extra: pip install 'hf-llambert[tune]'."
        ) from error

    trying = _Trying(task, asker, mode, EvaluationBatch)
    writing = _Writing(writer, asker, _TRIES * number)
    found = gepa.optimize(
        seed_candidate={"instruction": task.instruction},
        trainset=list(rows),
        valset=list(rows),
        adapter=trying,
        reflection_lm=writing,
        reflection_prompt_template=_prompt(task),
        max_metric_calls=most_calls(len(rows), number),
        stop_callbacks=lambda state: writing.left < 1 or len(state.program_candidates) > number,
        logger=_Log(),
        seed=seed,
        display_progress_bar=False,
    )
    order = sorted(range(1, len(found.candidates)), key=lambda k: -found.val_aggregate_scores[k])
    specs = [trying.task_of(found.candidates[k]["instruction"]) for k in order]
    kept = list(dict.fromkeys(spec for spec in specs if spec is not None and spec != task))[:number]
    return {f"written {k}": spec for k, spec in enumerate(kept, 1)}


class _Trying:
    """What GEPA asks of us: what a candidate is worth on some rows, and what was wrong."""

    propose_new_texts = None

    def __init__(self, task: TaskSpec, asker: Asker, mode: Mode, batch: Callable[..., Any]) -> None:
        self.task, self.asker, self.mode, self.batch = task, asker, mode, batch

    def task_of(self, instruction: str) -> TaskSpec | None:
        """The task with an instruction that was written; `None` where it cannot be one."""
        places = {*self.task.fields, "options", *(["definitions"] if any(self.task.descriptions) else [])}
        words = _PLACE.sub(lambda place: place[0] if place[1] in places else place[1], instruction).strip()
        lacking = [name for name in self.task.fields if f"{{{name}}}" not in words]
        words = "\n\n".join([words, *(f"{{{name}}}" for name in lacking)])
        try:
            spec = dataclasses.replace(self.task, instruction=words)
        except ValueError:
            return None
        return spec if spec.fields == self.task.fields else None  # in their order, as rows hold them

    def evaluate(self, batch: list, candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """How probable the teacher finds what people said; without scores, whether it says so."""
        spec = self.task_of(candidate["instruction"])
        answers = (
            None
            if spec is None
            else self.asker.try_out(Prompt("written", spec, self.mode, WRITTEN), [t for t, _ in batch])
        )
        scores = [0.0] * len(batch) if answers is None else _worth(answers, [gold for _, gold in batch])
        given = [None] * len(batch) if answers is None else next(iter(answers.answers.values()))
        return self.batch(
            outputs=list(given),
            scores=scores,
            trajectories=[(text, gold, answer) for (text, gold), answer in zip(batch, given, strict=True)]
            if capture_traces
            else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, str]]]:
        """What the writer reads: texts, answers, and what people said."""
        question = self.task.question
        rows = []
        for text, gold, answer in eval_batch.trajectories or ():
            said = question.in_words(answer) if question.is_answer(answer) else "no label"
            right = question.is_answer(answer) and bool(question.right([answer], [gold])[0])
            told = "That is right." if right else f"That is wrong: people say {question.in_words(gold)}."
            rows.append({"Inputs": text.replace("\ufdd1", "\n"), "Generated Outputs": said, "Feedback": told})
        return dict.fromkeys(components_to_update, rows)


def _worth(answers: Answers, gold: Sequence[object]) -> list[float]:
    question = answers.prompt.task.question
    if answers.probabilities:
        name = "none" if "none" in answers.probabilities else next(iter(answers.probabilities))
        found = np.nansum(question.targets(gold) * answers.probabilities[name], axis=1)
        return [float(one) for one in found]
    (given,) = answers.answers.values()
    return [
        float(question.is_answer(one) and bool(question.right([one], [said])[0]))
        for one, said in zip(given, gold, strict=True)
    ]


class _Writing:
    """The LLM that writes, through the ledger: asked again, it says the same and is not paid."""

    def __init__(self, writer: Teacher, asker: Asker, most: int) -> None:
        teacher = with_mode(writer, "generate")
        room = getattr(teacher, "max_new_tokens", None)
        if isinstance(room, int) and room < _LEAST_ROOM:
            teacher = dataclasses.replace(teacher, max_new_tokens=_LEAST_ROOM)  # type: ignore[type-var]
        self.labeler = asker.labeler(_REFLECTION, teacher, "text")
        self.left = most

    def __call__(self, prompt: str | list[dict[str, Any]]) -> str:
        self.left -= 1
        text = prompt if isinstance(prompt, str) else "\n\n".join(str(turn.get("content", "")) for turn in prompt)
        (reply,) = self.labeler.replies([text]).values()
        if reply.error is not None:
            raise RuntimeError(f"The writer could not be asked ({reply.error}). What was answered is kept; run again.")
        return reply.response or ""


class _Log:
    """GEPA's messages, for --debug only."""

    def log(self, message: str) -> None:
        logger.debug("%s", message)


def _prompt(task: TaskSpec) -> str:
    places = ", ".join(f"{{{name}}}" for name in task.fields)
    return (
        f"An assistant sorts texts into {', '.join(task.labels)}. Its instruction is:\n```\n<curr_param>\n```\n\n"
        f"What it answered, and what people say:\n```\n<side_info>\n```\n\n"
        f"Write a better instruction: short, about the task and not about these texts. Write {places} where the text goes. "
        f"Put the instruction between lines of ```."
    )
