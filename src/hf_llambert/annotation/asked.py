"""What is asked about a text to answer the questions of a task, and how the replies become columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Features, List, Value

from hf_llambert.annotation.calibration import Calibration, uncalibrated
from hf_llambert.annotation.ledger import reply_key
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import why_unusable
from hf_llambert.teachers.base import Mode, Reply

logger = get_logger(__name__)


def prefix(part: str = "") -> str:
    """How the columns of a question begin, by the names of [`TaskSpec.parts`]: `llm`, or `llm_NAME`."""
    return f"llm_{part}" if part else "llm"


@dataclass(frozen=True)
class Asked:
    """
    What is asked about each text: one request or several, each with a reply and a key in the ledger.

    Args:
        task (`TaskSpec`): The task.
        mode (`str`): The teacher's. In score mode there is a request for each branch of a question.
        ask_apart (`bool`): In generate mode: a request for each question, not one for all.
        identity (`Mapping`): The teacher's.
    """

    task: TaskSpec
    mode: Mode
    ask_apart: bool
    identity: Mapping[str, object]

    @functools.cached_property
    def requests(self) -> tuple[TaskSpec, ...]:
        """The tasks that are asked about each text, one reply each."""
        return tuple(dict.fromkeys(task for tasks in self.by_part.values() for task in tasks))

    @functools.cached_property
    def by_part(self) -> dict[str, tuple[TaskSpec, ...]]:
        """Which of them answer which question."""
        if self.mode == "score":
            return self.task.branches
        if self.ask_apart:
            return {name: (one,) for name, one in self.task.parts.items()}
        return dict.fromkeys(self.task.parts, (self.task,))

    def keys(self, text: str) -> tuple[str, ...]:
        """The ledger's keys of a text, one for each request."""
        return tuple(self._key(task, text) for task in self.requests)

    def _key(self, task: TaskSpec, text: str) -> str:
        asked: dict[str, object] = {"messages": task.messages(text), "chat": task.chat}
        if task.chat:
            asked["lead_in"] = task.lead_in
        if self.mode == "score":
            asked["words"] = task.verbalizers
        return reply_key(self.identity, asked)

    def columns(
        self,
        texts: Sequence[object],
        replies: Mapping[str, tuple[Reply, ...]],
        calibrations: Mapping[str, Calibration],
    ) -> dict[str, list]:
        """The columns of texts from a reply to each request, by text."""
        out: dict[str, list] = {}
        for name, one in self.task.parts.items():
            question = one.question
            rows = [self._row(text, replies, name, one) for text in texts]
            scored = [i for i, row in enumerate(rows) if row["scores"] is not None]
            if scored:
                found = question.decided(calibrations[name].probabilities([rows[i]["scores"] for i in scored]))
                for k, i in enumerate(scored):
                    rows[i] |= {end: _as_stored(values[k]) for end, values in found.items()}
            for end in (*question.own_features(), *COMMON):
                out[f"{prefix(name)}_{end}"] = [row[end] for row in rows]
        return out

    def _of_part(self, name: str, replies: tuple[Reply, ...]) -> list[tuple[TaskSpec, Reply]]:
        """The replies that answer a question, with what was asked."""
        by_task = dict(zip(self.requests, replies, strict=True))
        return [(task, by_task[task]) for task in self.by_part[name]]

    def scores(self, name: str, replies: tuple[Reply, ...]) -> tuple[float, ...] | None:
        """The scores of a question, where all that answer it have some."""
        found = [reply.scores for _, reply in self._of_part(name, replies) if reply.scores is not None]
        if len(found) < len(self.by_part[name]):
            return None
        return self.task.parts[name].question.joined(found)

    def _row(self, text: object, replies: Mapping[str, tuple[Reply, ...]], name: str, one: TaskSpec) -> dict:
        row: dict[str, object] = {**one.question.no_answer(), **dict.fromkeys(COMMON)}
        row |= {"status": "abstained", "truncated": False, "reason": why_unusable(text)}
        if row["reason"] is not None or not isinstance(text, str):
            return row
        own = self._of_part(name, replies[text])
        responses = list(dict.fromkeys(reply.response for _, reply in own if reply.response is not None))
        row |= {
            "response": "\n".join(responses) if responses else None,
            "truncated": any(reply.truncated for _, reply in own),
        }
        if errors := [reply.error for _, reply in own if reply.error is not None]:
            return row | {"status": "failed", "reason": errors[0]}
        if (scores := self.scores(name, replies[text])) is not None:
            return row | {"scores": np.asarray(scores, np.float32).tolist(), "status": "ok"}
        try:
            answer, reason = self._read(own, name, one)
        except Exception as error:  # noqa: BLE001  (one answer, whatever is in it, stops no run)
            answer, reason = one.question.missing, f"the answer cannot be read ({type(error).__name__})"
        (found,) = zip(*one.question.column([answer]).values(), strict=True)
        row |= dict(zip(one.question.own_features(), found, strict=True))
        return row | {"reason": reason, "status": "abstained" if reason else "ok"}

    def _read(self, own: list[tuple[TaskSpec, Reply]], name: str, one: TaskSpec) -> tuple[object, str | None]:
        """The answer to a question from replies that are text, or the lack of one with the reason."""
        if self.mode != "score":
            ((task, reply),) = own
            found = task.read_answers(reply.response, reply.finish, reply.structured)
            return found[name] if name in found else found[""]
        labels = []
        for task, reply in own:
            label, reason = (
                (int(np.argmax(reply.scores)), None)
                if reply.scores is not None
                else task.read(reply.response, reply.finish, reply.structured)
            )
            if label == ABSTAIN:
                return one.question.missing, reason
            labels.append(label)
        return one.question.of_branches(labels), None


COMMON = Features(
    {
        "confidence": Value("float32"),
        "scores": List(Value("float32")),
        "response": Value("string"),
        "status": Value("string"),
        "reason": Value("string"),
        "truncated": Value("bool"),
    }
)
"""The ends of the columns that a question of every kind has."""


def _as_stored(value: object) -> object:
    return float(np.float32(value)) if isinstance(value, float) else value


def calibrations_of(
    task: TaskSpec, calibration: Calibration | Mapping[str, Calibration] | None
) -> dict[str, Calibration]:
    """
    A calibration for each question, by the names of [`TaskSpec.parts`]: what was passed, or none.

    Raises:
        ValueError: One is of no question, or has another number of labels or another kind.
    """
    given = calibration if isinstance(calibration, Mapping) else {} if calibration is None else {"": calibration}
    if unknown := sorted(set(given) - set(task.parts)):
        raise ValueError(
            f"Expected calibrations by the names of the questions of task '{task.name}', {list(task.parts)}; got {unknown}."
        )
    if isinstance(calibration, Mapping) and (absent := [name for name in task.parts if name not in given]):
        logger.warning(
            "There are calibrations for %s and none for %s: its scores are taken as they are.",
            ", ".join(given) or "no question",
            ", ".join(absent),
        )
    out = {}
    for name, one in task.parts.items():
        found = given.get(name) or uncalibrated(one.num_labels, one.question.kind)
        if len(found.bias) != one.num_labels:
            raise ValueError(
                f"The calibration has {len(found.bias)} biases, task '{one.name}' has {one.num_labels} labels."
            )
        if found.kind != one.question.kind:
            raise ValueError(f"The calibration is of a {found.kind}, task '{one.name}' asks a {one.question.kind}.")
        out[name] = found
    return out


def whole(replies: tuple[Reply, ...]) -> Reply:
    """Several replies about a text as one: the sum of what they took, and the first error. One reply is itself."""
    if len(replies) == 1:
        return replies[0]
    return Reply(
        truncated=any(reply.truncated for reply in replies),
        seconds=sum(reply.seconds for reply in replies),
        input_tokens=sum(reply.input_tokens for reply in replies),
        output_tokens=sum(reply.output_tokens for reply in replies),
        error=next((reply.error for reply in replies if reply.error is not None), None),
    )
