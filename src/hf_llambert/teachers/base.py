"""The interface of a teacher, and its reply about one text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hf_llambert.tasks.spec import TaskSpec

Mode = Literal["score", "generate"]
_TOGETHER = 1024  # texts of which each task is asked before the next texts


@dataclass(frozen=True)
class Reply:
    """
    What came back about one text.

    Args:
        scores (`tuple[float, ...]`, *optional*): Log-probability of each label's words, in label order, natural
            logarithm, not normalised. `None` when only text came back.
        response (`str`, *optional*): The answer as text. `None` when only scores came back.
        truncated (`bool`, defaults to `False`): Whether the text was cut to fit.
        seconds (`float`, defaults to 0): This row's share of the time that asking took.
        input_tokens (`int`, defaults to 0): Tokens of the prompt, as the teacher counts or bills them.
        output_tokens (`int`, defaults to 0): Tokens that it wrote.
        error (`str`, *optional*): Why nothing came back. Such a reply is not kept: a rerun asks again.
        finish (`str`, *optional*): Why the writing ended, in the words of OpenAI's `finish_reason`: `stop`, `length` (cut),
            `content_filter`. `None` where nobody said.
        structured (`bool`, defaults to `False`): Whether the answer was asked for as JSON with exactly one of the labels.
    """

    scores: tuple[float, ...] | None = None
    response: str | None = None
    truncated: bool = False
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    finish: str | None = None
    structured: bool = False


class Teacher(Protocol):
    """
    The interface of a teacher. An instance holds its configuration alone: it pickles small and loads models when first
    asked.
    """

    @property
    def mode(self) -> Mode:
        """`score` when the teacher returns scores, `generate` when it returns text."""
        ...

    @property
    def overlaps(self) -> bool:
        """Whether its requests are in flight together, so that their seconds add up to more than passed."""
        ...

    def identity(self) -> dict[str, object]:
        """
        Everything on this side that can change a reply, JSON-ready: model, resolved revision, dtype, sampling. No
        credential. Two teachers with one identity share answers in the ledger.
        """
        ...

    def settings(self) -> dict[str, object]:
        """
        What another machine needs to ask in the same way, to be published, JSON-ready: Hub ids with their commits, local
        models by the name of their folder, no path and no credential.
        """
        ...

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Ask about each text. Yields `{position in texts: reply}` as batches come back, in any order, every position
        once. `rank` is the process number under `map(num_proc=..., with_rank=True)`.
        """
        ...


def check(fine: bool, name: str, expected: str, got: object) -> None:
    """Raise a `ValueError` that names the argument unless it is `fine`."""
    if not fine:
        raise ValueError(f"{name} must be {expected}, got {got!r}.")


def asks_together(teacher: Teacher) -> bool:
    """Whether a teacher reads a text once for several tasks; see [`ask_branches`]."""
    return getattr(teacher, "ask_branches", None) is not None


def asks_in_batches(teacher: Teacher) -> bool:
    """Whether a teacher wants all rows together and notes what it was given; see [`BatchTeacher`]."""
    return getattr(teacher, "ask_noted", None) is not None


def ask_branches(
    teacher: Teacher, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
) -> Iterator[dict[int, tuple[Reply, ...]]]:
    """
    Ask several tasks about each text. A teacher that reads a text once for all of them has a method of this name, with these
    arguments without the first; any other is asked one task after the other.

    Args:
        teacher (`Teacher`): Who is asked.
        tasks (`Sequence[TaskSpec]`): Tasks whose prompts begin alike, the text included: those of [`TaskSpec.branches`].
        texts (`Sequence[str]`): The texts.
        rank (`int`, *optional*): See [`Teacher`].

    Yields:
        `dict[int, tuple[Reply, ...]]`: By position in `texts`, in any order, every position once: a reply to each task, in
        the order of `tasks`. Their seconds and tokens add up to what was computed.
    """
    together = getattr(teacher, "ask_branches", None)
    if together is None or len(tasks) == 1:
        return ask_apart(teacher, tasks, texts, rank)
    return together(tasks, texts, rank)


def ask_apart(
    teacher: Teacher, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
) -> Iterator[dict[int, tuple[Reply, ...]]]:
    """Ask one task after the other by [`Teacher.ask`]. A text is yielded when it has all its replies; see [`ask_branches`]."""
    if len(tasks) == 1:
        for part in teacher.ask(tasks[0], texts, rank):
            yield {i: (reply,) for i, reply in part.items()}
        return
    for start in range(0, len(texts) if tasks else 0, _TOGETHER):
        window = texts[start : start + _TOGETHER]
        found: list[dict[int, Reply]] = []
        for task in tasks[:-1]:
            found.append({})
            for part in teacher.ask(task, window, rank):
                found[-1] |= part
        for part in teacher.ask(tasks[-1], window, rank):
            whole = {i: reply for i, reply in part.items() if all(i in of_task for of_task in found)}
            yield {start + i: (*(of_task[i] for of_task in found), reply) for i, reply in whole.items()}


def check_branch(task: TaskSpec) -> None:
    """
    Refuse a task that score mode cannot ask as it stands.

    Raises:
        ValueError: JSON answers it: it has several questions, or one that several labels may answer.
    """
    if task.is_json:
        names = ", ".join(question.name for question in task.questions)
        raise ValueError(
            f"Task '{task.name}' asks {names} in one request that JSON answers, and score mode asks one label of several each "
            f"time. Ask the tasks of task.branches (LLMLabeler does), or use mode='generate'."
        )
