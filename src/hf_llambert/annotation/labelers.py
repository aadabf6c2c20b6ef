"""`dataset.map(llm_label, batched=True)`: the teacher as a map function."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datasets import Dataset, Features, IterableDataset

from hf_llambert import __version__
from hf_llambert.annotation.asked import COMMON, Asked, calibrations_of, prefix, whole
from hf_llambert.annotation.asking import Asking
from hf_llambert.annotation.calibration import CONTENT_FREE, Calibration
from hf_llambert.annotation.fields import refuse_unshown
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.annotation.limits import Spending, busy_seconds
from hf_llambert.annotation.published import published_note
from hf_llambert.data import refuse_own_columns
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, row_texts, why_unusable
from hf_llambert.teachers.base import Reply, Teacher, asks_in_batches

logger = get_logger(__name__)


class LLMLabeler:
    """
    Annotates batches of texts; made for `dataset.map(llm_label, batched=True)`.

    Adds the columns `llm_label`, `llm_confidence`, `llm_scores`, `llm_response`, `llm_status`, `llm_reason` and
    `llm_truncated`; see [`~LLMLabeler.features`]. Each of several questions has its own: `llm_NAME_label` and so on. A text
    that cannot be asked about (null, empty, no string) abstains with its reason; the rest of the batch goes on.

    Every reply is in the ledger before the next batch of the model begins, so an interrupted run asks nothing twice.
    The labeler pickles to its configuration, never to weights: `map` caches its result and `num_proc` works.

    Args:
        task (`TaskSpec`): What to ask.
        teacher (`Teacher`): Whom to ask.
        ledger (`str` or `Path`): Directory that keeps the replies.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts, which `{text}` of the task stands for.
            A task of other fields has their columns beside it; see [`TaskSpec.columns`].
        calibration (`Calibration` or `Mapping[str, Calibration]`, *optional*): Applied to scores; of several questions by name.
            Defaults to none.
        ask_apart (`bool`, defaults to `False`): Where text comes back: ask each of several questions by itself, not all in one
            request. (In score mode each has scores of its own anyway.)

    Example:

    ```python
    llm_label = LLMLabeler(load_task("imdb"), TransformersTeacher("HuggingFaceTB/SmolLM2-135M-Instruct"), "ledger")
    annotated = dataset.map(llm_label, batched=True, batch_size=4096, features=llm_label.features(dataset))
    ```

    The larger the batch that `map` hands over, the more rows of like length there are to compute together.
    """

    def __init__(
        self,
        task: TaskSpec,
        teacher: Teacher,
        ledger: str | Path,
        text_column: TextColumn = "text",
        calibration: Calibration | Mapping[str, Calibration] | None = None,
        ask_apart: bool = False,
    ) -> None:
        self.calibrations = calibrations_of(task, calibration)
        """By the names of [`TaskSpec.parts`]."""
        self.ask_apart = ask_apart
        self.task = task
        self.teacher = teacher
        self.ledger = Ledger(ledger)
        self.text_column = task.columns(text_column)

    @classmethod
    def from_dataset(
        cls,
        dataset: str,
        ledger: str | Path,
        teacher: Teacher | None = None,
        revision: str | None = None,
        text_column: TextColumn | None = None,
        member: str | None = None,
    ) -> LLMLabeler:
        """
        The labeler that annotated a published dataset: the same task, prompt, teacher and calibration again.

        Args:
            dataset (`str`): Hub id of a dataset that `hf-llambert push` published, or a directory with its files.
            ledger (`str` or `Path`): Directory that keeps the replies.
            teacher (`Teacher`, *optional*): In place of the teacher that is written down. Needed where that one was no model
                of the Hub: an endpoint, a path, an adapter, a file or a variable is never taken from a dataset.
            revision (`str`, *optional*): Revision of the dataset.
            text_column (`str` or `Sequence[str]`, *optional*): Column of the texts, or of all fields. Defaults to the dataset's.
            member (`str`, *optional*): Which one, where a jury annotated.

        Raises:
            FileNotFoundError: There is no such dataset, or it was not published by hf_llambert.
            ValueError: The note is damaged, or its teacher is not one that may be taken from a dataset.
        """
        note = published_note(dataset, revision, member)
        if teacher is None:
            teacher = note.make_teacher()
        elif scrubbed(teacher.identity()) != scrubbed(note.identity):
            logger.warning(
                "The teacher passed is %s, the dataset's was %s: answers may differ.",
                scrubbed(teacher.identity()),
                scrubbed(note.identity),
            )
        return cls(note.task, teacher, ledger, text_column or note.text_column, note.calibration, note.ask_apart)

    def __call__(self, batch: Mapping[str, list], rank: int | None = None) -> dict[str, list]:
        """Annotate a batch of columns. `rank` chooses the GPU under `map(num_proc=..., with_rank=True)`."""
        refuse_unshown(batch, self.text_column, self.task)
        refuse_own_columns(batch, self.features())
        for name in column_names(self.text_column):
            if not isinstance(batch[name], (list, tuple)) and not hasattr(batch[name], "to_pylist"):
                got = type(batch[name]).__name__
                raise ValueError(f"Expected a batch of texts, got {got}. Pass batched=True to map.")
        return self.label(row_texts(batch, self.text_column), rank)

    def label(self, texts: Sequence[object], rank: int | None = None) -> dict[str, list]:
        """The columns for a list of texts; see [`row_texts`]."""
        if asks_in_batches(self.teacher):
            raise ValueError(
                f"{type(self.teacher).__name__} is asked by annotate, which submits all rows together: map, and what else asks a "
                f"few rows at a time, would make a batch of each few. Use annotate, then map over what it wrote, or the endpoint "
                f"of the same model."
            )
        return self._asked.columns(texts, self._replies(texts, rank), self.calibrations)

    def replies(
        self,
        texts: Sequence[object],
        rank: int | None = None,
        progress: Callable[[int], None] | None = None,
        spending: Spending | None = None,
    ) -> dict[str, Reply]:
        """
        The reply to each usable text, from the ledger or from the teacher.

        Args:
            texts (`Sequence`): Texts; unusable ones are passed over.
            rank (`int`, *optional*): Number of this process, to choose a GPU.
            progress (`Callable[[int], None]`, *optional*): Called with the number of texts done since the last call.
            spending (`Spending`, *optional*): Caps, looked at before each batch; see [`Limits`].

        Returns:
            `dict[str, Reply]`: Replies by text. A failed one carries its error.
        """
        replies = self._replies(texts, rank, progress, spending)
        return {text: whole(of_text) for text, of_text in replies.items()}

    def _replies(
        self,
        texts: Sequence[object],
        rank: int | None = None,
        progress: Callable[[int], None] | None = None,
        spending: Spending | None = None,
    ) -> dict[str, tuple[Reply, ...]]:
        """As [`~LLMLabeler.replies`]: a reply for each of `_requests`."""
        usable = list(dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None))
        keys = {text: self._asked.keys(text) for text in usable}
        found = self.ledger.get(key for of_text in keys.values() for key in of_text)
        known = {
            text: {k: found[key] for k, key in enumerate(of_text) if key in found} for text, of_text in keys.items()
        }
        groups: dict[tuple[int, ...], list[str]] = {}  # texts that lack the same replies are asked about together
        for text, there in known.items():
            if len(there) < len(self._asked.requests):
                groups.setdefault(tuple(k for k in range(len(self._asked.requests)) if k not in there), []).append(
                    text
                )
        done = len(usable) - sum(map(len, groups.values()))
        if progress and done:
            progress(done)
        if groups:
            self.ledger.prepare()
        asking = Asking(self, rank, progress, spending, keys, known, len(usable), done)
        for lacking, missing in groups.items():
            asking.about(missing, lacking)
        lost = [text for text, there in known.items() if len(there) < len(self._asked.requests)]
        if lost and spending and spending.why:
            spending.left_out += len(lost)
            for text in lost:
                known[text] |= {
                    k: Reply(error=spending.limits.reason)
                    for k in range(len(self._asked.requests))
                    if k not in known[text]
                }
        elif lost:
            raise RuntimeError(
                f"{type(self.teacher).__name__} left {len(lost)} of {sum(map(len, groups.values()))} texts without a reply. "
                f"The replies that came are in the ledger; run again."
            )
        return {text: tuple(there[k] for k in range(len(self._asked.requests))) for text, there in known.items()}

    def recall(self, batch: Mapping[str, list], unasked: str = "not asked yet") -> dict[str, list]:
        """
        The columns of the labeler from the ledger alone; asks nothing. A text without a reply has failed, with its
        last error or, where it has none, with the reason `unasked`.
        """
        return self.recalled(row_texts(batch, self.text_column), unasked)

    def recalled(self, texts: Sequence[object], unasked: str = "not asked yet") -> dict[str, list]:
        """As [`~LLMLabeler.recall`], of texts."""
        usable = dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None)
        keys = {text: self._asked.keys(text) for text in usable}
        every = [key for of_text in keys.values() for key in of_text]
        known = self.ledger.get(every)
        errors = self.ledger.errors(key for key in every if key not in known)
        replies = {
            text: tuple(known.get(key) or Reply(error=errors.get(key, unasked)) for key in of_text)
            for text, of_text in keys.items()
        }
        return self._asked.columns(texts, replies, self.calibrations)

    def spent(self, texts: Sequence[object]) -> tuple[float, tuple[int, int]]:
        """
        What asking about these texts took, summed over processes and runs: seconds, and tokens in and out. Asks nothing.
        Where requests are in flight together, their seconds are those in which any was.
        """
        known = self.ledger.get(self._keys(texts))
        replies = known.values()
        tokens = sum(reply.input_tokens for reply in replies), sum(reply.output_tokens for reply in replies)
        if self.teacher.overlaps:
            ended = self.ledger.asked_at(known)
            return busy_seconds((ended[key] - reply.seconds, ended[key]) for key, reply in known.items()), tokens
        return sum(reply.seconds for reply in replies), tokens

    def known(self, texts: Sequence[object]) -> list[Reply]:
        """The replies to these texts that are in the ledger, each once; several about a text, where it was asked several."""
        return list(self.ledger.get(self._keys(texts)).values())

    def _keys(self, texts: Sequence[object]) -> set[str]:
        usable = {text for text in texts if isinstance(text, str) and why_unusable(text) is None}
        return {key for text in usable for key in self._asked.keys(text)}

    def answered_at(self, texts: Sequence[str]) -> dict[str, float]:
        """When each text whose replies are all in the ledger was answered, in seconds since 1970. Asks nothing."""
        keys = {text: self._asked.keys(text) for text in texts}
        times = self.ledger.asked_at(key for of_text in keys.values() for key in of_text)
        return {
            text: max(times[key] for key in of_text)
            for text, of_text in keys.items()
            if all(key in times for key in of_text)
        }

    def content_free_scores(self, part: str = "") -> list[tuple[float, ...]]:
        """
        Scores of texts that say nothing, for contextual calibration. Asked once, kept in the ledger.

        Args:
            part (`str`, defaults to the only question): By the names of [`TaskSpec.parts`].
        """
        if self.teacher.mode != "score":
            raise ValueError("Contextual calibration needs scores. Use a teacher with mode='score'.")
        texts = [self.task.filled(text) for text in CONTENT_FREE]
        replies = self._replies(texts)
        found = (self._asked.scores(part, replies[text]) for text in texts)
        return [scores for scores in found if scores is not None]

    def features(self, base: Dataset | IterableDataset | Features | None = None) -> Features:
        """
        The features of the annotated dataset, for `map(..., features=...)`: those of `base` and the labeler's own.

        Without them `map` guesses the types, and `llm_label` is a plain integer.
        """
        own = Features(
            {
                f"{prefix(name)}_{end}": feature
                for name, one in self.task.parts.items()
                for end, feature in {**one.question.own_features(), **COMMON}.items()
            }
        )
        present = base if isinstance(base, Features) or base is None else base.features
        refuse_own_columns(present or (), own)
        if base is not None and present is None:
            raise ValueError("This streaming dataset does not know its features. Pass Features({...}) of its columns.")
        return Features({**(present or {}), **own})

    @property
    def calibration(self) -> Calibration:
        """The calibration of the only question; see `calibrations`."""
        (only,) = self.calibrations.values()
        return only

    @property
    def asks_apart(self) -> bool:
        """Whether there are several questions that could be asked in one request and are not."""
        return self.ask_apart and self.teacher.mode != "score" and len(self.task.parts) > 1

    def __getstate__(self) -> dict[str, object]:
        """The configuration, the version and how often asking failed: what `map` must hash to be right to cache."""
        return {
            "version": __version__,
            "task": self.task,
            "teacher": self.teacher,
            "identity": json.dumps(self._identity, sort_keys=True),
            "ledger": str(self.ledger.folder.absolute()),
            "failures": self.ledger.failures(),
            "text_column": self.text_column,
            "calibration": self.calibrations,
            "ask_apart": self.ask_apart,
        }

    def __setstate__(self, state: dict) -> None:
        self.__init__(  # type: ignore[misc]  # the state is the arguments
            *(state[name] for name in ("task", "teacher", "ledger", "text_column", "calibration", "ask_apart"))
        )

    @functools.cached_property
    def _identity(self) -> dict[str, object]:
        return self.teacher.identity()

    @functools.cached_property
    def _asked(self) -> Asked:
        return Asked(self.task, self.teacher.mode, self.ask_apart, self._identity)

    def question(self) -> str:
        """
        A hash of the teacher and the question, without a text. Labelers with one ledger and one hash ask for the same
        replies.
        """
        return "+".join(self._asked.keys(self.task.filled("")))
