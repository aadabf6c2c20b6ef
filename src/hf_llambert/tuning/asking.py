"""Asks the teacher with each prompt, through the ledger and under the caps, and labels its scores by each calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hf_llambert.annotation.calibration import CONTENT_FREE, Calibration, calibration_of, uncalibrated
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.annotation.limits import Limits, Spending, caps_itself
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn
from hf_llambert.teachers.asking import may_pass
from hf_llambert.teachers.base import Mode, Teacher
from hf_llambert.tuning.candidates import GIVEN, VARIANT, Prompt


@dataclass
class Answers:
    """
    What a prompt gave on the first texts.

    Args:
        prompt (`Prompt`): The prompt.
        answers (`dict[str, list]`): By calibration an answer to each text, as gold has them.
        probabilities (`dict[str, NDArray]`): By calibration those of the labels, (rows, labels), where there are scores.
        calibrations (`dict[str, Calibration]`): What gave them.
        seconds (`float`): What asking took, a text.
        input_tokens (`float`): Tokens of the prompt, a text.
        output_tokens (`float`): Tokens written, a text.
    """

    prompt: Prompt
    answers: dict[str, list]
    probabilities: dict[str, NDArray[np.float64]]
    calibrations: dict[str, Calibration]
    seconds: float
    input_tokens: float
    output_tokens: float


class Stopped(RuntimeError):
    """The comparison is not finished: a cap was reached, or the teacher could not be asked. What was answered is kept."""


@dataclass
class Asker:
    """
    Asks one teacher in several ways.

    Args:
        teacher (`Teacher`): Whom to ask.
        ledger (`Ledger`): Where replies are kept, of all prompts together.
        text_column (`str` or `Sequence[str]`): Column of the texts.
        calibrations (`Sequence[str]`): Some of `none`, `batch` and `contextual`.
        limits (`Limits`): Caps on all of it.
        progress (`Callable[[int], None]`): Told how many texts are done.
    """

    teacher: Teacher
    ledger: Ledger
    text_column: TextColumn
    calibrations: Sequence[str]
    limits: Limits
    progress: Callable[[int], None]
    left_out: dict[str, str] = field(default_factory=dict)
    """Prompts that could not be asked, with the reason."""
    _labelers: dict[tuple[str, Mode], LLMLabeler] = field(default_factory=dict)
    """By what is asked: prompts that ask the same have one."""
    _spending: Spending | None = None
    _done: dict[Prompt, int] = field(default_factory=dict)
    _texts: Sequence[str] = ()

    def begin(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Start the clock, and count what earlier runs spent on asking these prompts about these texts."""
        self._texts = texts
        self._spending = self.limits.begin()
        self._spending.turn_to("llm")
        if self.limits.max_cost is not None:
            for prompt in prompts:
                self._labeler(prompt)

    def ask(self, prompt: Prompt, texts: Sequence[str]) -> Answers | None:
        """
        The answers of a prompt to texts; `None` where it cannot be asked, which is noted in `left_out`.

        Raises:
            Stopped: A cap was reached, or some texts could not be asked about.
            ValueError: The given task, or a variant of it, does not fit the teacher.
        """
        own = prompt.origin in (GIVEN, VARIANT)
        try:
            labeler = self._labeler(prompt)
            columns = self._columns(labeler, prompt, texts)
        except ValueError as error:
            if own:
                raise ValueError(f"{prompt.name}: {error}") from error
            self.left_out[prompt.name] = str(error)
            return None
        statuses = zip(columns["llm_status"], columns["llm_reason"], strict=True)
        failed = [str(reason) for status, reason in statuses if status == "failed"]
        over = bool(failed) and self._over(failed[0])
        if failed and len(failed) == len(texts) and not own and not over and not any(map(may_pass, failed)):
            self.left_out[prompt.name] = failed[0]
            return None
        if failed:
            why = "a limit was reached" if over else failed[0]
            raise Stopped(
                f"'{prompt.name}': {len(failed):,} of {len(texts):,} texts have no reply ({why}). Nothing is chosen yet; what "
                f"was answered is kept, and the same command asks about the rest only."
            )
        return self._answers(prompt, labeler, columns, texts)

    def try_out(self, prompt: Prompt, texts: Sequence[str]) -> Answers | None:
        """As [`~Asker.ask`], of a prompt that is no candidate yet: that it cannot be asked is nothing to note."""
        found = self.ask(prompt, texts)
        self.left_out.pop(prompt.name, None)
        return found

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()

    def _over(self, reason: str) -> bool:
        return bool(self._spending and self._spending.why) or reason.startswith("the budget is spent")

    def _columns(self, labeler: LLMLabeler, prompt: Prompt, texts: Sequence[str]) -> Mapping[str, list]:
        told = 0
        before = self._done.get(prompt, 0)

        def tell(count: int) -> None:
            nonlocal told
            fresh = max(told + count - max(before, told), 0)
            told += count
            if fresh:
                self.progress(fresh)

        if prompt not in self._done and (nothing := self._texts_of_nothing(labeler)):
            labeler.replies(nothing, progress=self.progress, spending=self._spending)
        with asking_turn([labeler]):
            labeler.replies(texts, progress=tell, spending=self._spending)
        self._done[prompt] = max(before, len(texts))
        return labeler.recalled(texts, self.limits.reason)

    def _texts_of_nothing(self, labeler: LLMLabeler) -> list[str]:
        """The texts without content that contextual calibration asks about."""
        wanted = labeler.teacher.mode == "score" and "contextual" in self.calibrations
        return [labeler.task.filled(text) for text in CONTENT_FREE] if wanted else []

    def _labeler(self, prompt: Prompt) -> LLMLabeler:
        """The labeler of a prompt, what it took earlier counted; an endpoint's own cap is what is left of it."""
        teacher = with_mode(self.teacher, prompt.mode)
        found = self._labelers.get(prompt.asks)
        if found is None:
            found = self._labelers[prompt.asks] = self.labeler(prompt.task, teacher)
            if self._spending and self.limits.max_cost is not None:
                self._spending.add(found.known([*self._texts, *self._texts_of_nothing(found)]))
        if caps_itself(teacher) and teacher.max_cost is not None:
            found.teacher = dataclasses.replace(teacher, max_cost=max(teacher.max_cost - self._paid(), 1e-12))
        return found

    def labeler(self, task: TaskSpec, teacher: Teacher, text_column: TextColumn | None = None) -> LLMLabeler:
        """A labeler with this ledger: one for all, as each has files open."""
        made = LLMLabeler(task, teacher, self.ledger.folder, text_column or self.text_column)
        made.ledger = self.ledger
        return made

    def _paid(self) -> float:
        """What an endpoint was paid in this call so far, all prompts together."""
        asked = [one.spent([*self._texts, *self._texts_of_nothing(one)])[1] for one in self._labelers.values()]
        read, written = (sum(column) for column in zip(*asked, strict=True)) if asked else (0, 0)
        return (read * self.teacher.price_input + written * self.teacher.price_output) / 1e6  # type: ignore[attr-defined]

    def _answers(
        self, prompt: Prompt, labeler: LLMLabeler, columns: Mapping[str, list], texts: Sequence[str]
    ) -> Answers:
        question = prompt.task.question
        seconds, (read, written) = labeler.spent(texts)
        answers: dict[str, list] = {}
        probabilities: dict[str, NDArray[np.float64]] = {}
        used: dict[str, Calibration] = {}
        written_answers = columns[f"llm_{question.answer_column}"]
        scored = [row for row, scores in enumerate(columns["llm_scores"]) if scores is not None]
        if not scored:
            answers["none"] = list(written_answers)
        scores = np.array([columns["llm_scores"][row] for row in scored], dtype=np.float64)
        for method, found in self._calibrations(labeler, scores).items() if scored else ():
            of_rows = found.probabilities(scores)
            decided = question.decided(of_rows)[question.answer_column]
            own = list(written_answers)
            for row, answer in zip(scored, decided, strict=True):
                own[row] = answer
            full = np.full((len(texts), of_rows.shape[1]), np.nan)
            full[scored] = of_rows
            answers[method], probabilities[method], used[method] = own, full, found
        rows = len(texts)
        return Answers(prompt, answers, probabilities, used, seconds / rows, read / rows, written / rows)

    def _calibrations(self, labeler: LLMLabeler, scores: NDArray[np.float64]) -> dict[str, Calibration]:
        """Those that there are for these scores; none at all where there is no other."""
        question, found = labeler.task.question, {}
        as_they_are = uncalibrated(len(question.labels), question.kind)
        for method in self.calibrations:
            asked = method == "contextual" and labeler.teacher.mode == "score"
            nothing = labeler.content_free_scores() if asked else []
            if method == "none":
                found[method] = as_they_are
            elif method != "contextual" or nothing:
                one = calibration_of(method, question, scores, content_free=nothing)
                found |= {} if one is None else {method: one}
        return found or {"none": as_they_are}


def with_mode(teacher: Teacher, mode: Mode) -> Teacher:
    """The same teacher asked in this way."""
    return teacher if teacher.mode == mode else dataclasses.replace(teacher, mode=mode)  # type: ignore[type-var]
