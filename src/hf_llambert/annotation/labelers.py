"""`dataset.map(llm_label, batched=True)`: the teacher as a map function."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value

from hf_llambert import __version__
from hf_llambert.annotation.calibration import CONTENT_FREE, Calibration, uncalibrated
from hf_llambert.annotation.ledger import Ledger, reply_key
from hf_llambert.annotation.limits import Spending
from hf_llambert.annotation.published import published_note
from hf_llambert.data import refuse_own_columns
from hf_llambert.shown import scrubbed
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, empty_fields, row_texts, why_unusable
from hf_llambert.teachers.base import Reply, Teacher

logger = get_logger(__name__)


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one of these spans of (start, end)."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def refuse_unshown(columns: Iterable[str], wanted: TextColumn, task: TaskSpec) -> None:
    """Raise a `ValueError` where data lacks a column that the prompt shows; it names the field."""
    present = list(columns)
    for name, field in zip(column_names(wanted), task.fields, strict=True):
        if name not in present:
            how = (
                "Pass text_column=... to the labeler."
                if field == "text"
                else f"The prompt of task '{task.name}' shows {{{field}}}: rename the column, or mend the instruction."
            )
            raise ValueError(f"Column '{name}' not found in {present}. {how}")


def check_fields(data: Dataset, column: TextColumn, task: TaskSpec, gold_column: str | None) -> None:
    """
    Look at the columns that the prompt shows, before anybody is asked. Rows that lack some of several fields are asked
    about; a warning counts them.

    Raises:
        ValueError: A column is missing, or one of several holds the gold labels.
    """
    refuse_unshown(data.column_names, column, task)
    names = column_names(column)
    if len(names) == 1:
        return
    if gold_column in names:
        raise ValueError(
            f"The prompt of task '{task.name}' shows the column '{gold_column}' of the gold labels. Measure by another "
            f"(gold_column=..., --label_column), or take it out of the instruction."
        )
    for name, count in empty_fields(data, names).items():
        logger.warning(
            "%d of %d rows have nothing in column '%s' and something in another field; they are asked about as they are.",
            count,
            len(data),
            name,
        )


class LLMLabeler:
    """
    Annotates batches of texts; made for `dataset.map(llm_label, batched=True)`.

    Adds the columns `llm_label`, `llm_confidence`, `llm_scores`, `llm_response`, `llm_status`, `llm_reason` and
    `llm_truncated`; see [`~LLMLabeler.features`]. A text that cannot be asked about (null, empty, no string) abstains
    with its reason; the rest of the batch goes on.

    Every reply is in the ledger before the next batch of the model begins, so an interrupted run asks nothing twice.
    The labeler pickles to its configuration, never to weights: `map` caches its result and `num_proc` works.

    Args:
        task (`TaskSpec`): What to ask.
        teacher (`Teacher`): Whom to ask.
        ledger (`str` or `Path`): Directory that keeps the replies.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts, which `{text}` of the task stands for.
            A task of other fields has their columns beside it; see [`TaskSpec.columns`].
        calibration (`Calibration`, *optional*): Applied to scores. Defaults to none.

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
        calibration: Calibration | None = None,
    ) -> None:
        if calibration is not None and len(calibration.bias) != task.num_labels:
            raise ValueError(
                f"The calibration has {len(calibration.bias)} biases, task '{task.name}' has {task.num_labels} labels."
            )
        self.task = task
        self.teacher = teacher
        self.ledger = Ledger(ledger)
        self.text_column = task.columns(text_column)
        self.calibration = calibration or uncalibrated(task.num_labels)

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
        return cls(note.task, teacher, ledger, text_column or note.text_column, note.calibration)

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
        return self._columns(list(texts), self.replies(texts, rank=rank))

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
        usable = list(dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None))
        keys = {text: self._key(text) for text in usable}
        known = self.ledger.get(keys.values())
        replies = {text: known[key] for text, key in keys.items() if key in known}
        missing = [text for text in usable if text not in replies]
        if progress and replies:
            progress(len(replies))
        if missing:
            self.ledger.prepare()
        left = missing
        while left and (room := spending.room(len(left)) if spending else len(left)):
            asked, left = left[:room], left[room:]
            for part in self.teacher.ask(self.task, asked, rank):
                fresh = {asked[i]: reply for i, reply in part.items()}
                self.ledger.put({keys[text]: reply for text, reply in fresh.items()}, self._identity)
                replies |= fresh
                if progress:
                    progress(len(fresh))
                if spending:
                    spending.add_batch(list(fresh.values()))
                    if len(replies) < len(usable) and spending.over():
                        break
            if not all(text in replies for text in asked):
                break
        lost = [text for text in missing if text not in replies]
        if lost and spending and spending.why:
            spending.left_out += len(lost)
            return replies | {text: Reply(error=spending.limits.reason) for text in lost}
        if lost:
            raise RuntimeError(
                f"{type(self.teacher).__name__} left {len(lost)} of {len(missing)} texts without a reply. The replies "
                f"that came are in the ledger; run again."
            )
        return replies

    def recall(self, batch: Mapping[str, list], unasked: str = "not asked yet") -> dict[str, list]:
        """
        The columns of the labeler from the ledger alone; asks nothing. A text without a reply has failed, with its
        last error or, where it has none, with the reason `unasked`.
        """
        return self.recalled(row_texts(batch, self.text_column), unasked)

    def recalled(self, texts: Sequence[object], unasked: str = "not asked yet") -> dict[str, list]:
        """As [`~LLMLabeler.recall`], of texts."""
        keys = {text: self._key(text) for text in texts if isinstance(text, str) and why_unusable(text) is None}
        known = self.ledger.get(keys.values())
        errors = self.ledger.errors(key for key in keys.values() if key not in known)
        replies = {text: known.get(key) or Reply(error=errors.get(key, unasked)) for text, key in keys.items()}
        return self._columns(list(texts), replies)

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
        """The replies to these texts that are in the ledger, each once. Asks nothing."""
        return list(self.ledger.get(self._keys(texts)).values())

    def _keys(self, texts: Sequence[object]) -> set[str]:
        return {self._key(text) for text in texts if isinstance(text, str) and why_unusable(text) is None}

    def answered_at(self, texts: Sequence[str]) -> dict[str, float]:
        """When each text that is in the ledger was answered, in seconds since 1970. Asks nothing."""
        keys = {text: self._key(text) for text in texts}
        times = self.ledger.asked_at(keys.values())
        return {text: times[key] for text, key in keys.items() if key in times}

    def content_free_scores(self) -> list[tuple[float, ...]]:
        """Scores of texts that say nothing, for contextual calibration. Asked once, kept in the ledger."""
        if self.teacher.mode != "score":
            raise ValueError("Contextual calibration needs scores. Use a teacher with mode='score'.")
        texts = [self.task.filled(text) for text in CONTENT_FREE]
        replies = self.replies(texts)
        return [scores for text in texts if (scores := replies[text].scores) is not None]

    def features(self, base: Dataset | IterableDataset | Features | None = None) -> Features:
        """
        The features of the annotated dataset, for `map(..., features=...)`: those of `base` and the labeler's own.

        Without them `map` guesses the types, and `llm_label` is a plain integer.
        """
        own = Features(
            {
                "llm_label": ClassLabel(names=list(self.task.labels)),
                "llm_confidence": Value("float32"),
                "llm_scores": List(Value("float32")),
                "llm_response": Value("string"),
                "llm_status": Value("string"),
                "llm_reason": Value("string"),
                "llm_truncated": Value("bool"),
            }
        )
        present = base if isinstance(base, Features) or base is None else base.features
        refuse_own_columns(present or (), own)
        if base is not None and present is None:
            raise ValueError("This streaming dataset does not know its features. Pass Features({...}) of its columns.")
        return Features({**(present or {}), **own})

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
            "calibration": self.calibration,
        }

    def __setstate__(self, state: dict) -> None:
        self.__init__(  # type: ignore[misc]  # the state is the arguments
            state["task"], state["teacher"], state["ledger"], state["text_column"], state["calibration"]
        )

    @functools.cached_property
    def _identity(self) -> dict[str, object]:
        return self.teacher.identity()

    def question(self) -> str:
        """
        A hash of the teacher and the question, without a text. Labelers with one ledger and one hash ask for the same
        replies.
        """
        return self._key(self.task.filled(""))

    def _key(self, text: str) -> str:
        asked: dict[str, object] = {"messages": self.task.messages(text), "chat": self.task.chat}
        if self.task.chat:
            asked["lead_in"] = self.task.lead_in
        if self.teacher.mode == "score":
            asked["words"] = self.task.verbalizers
        return reply_key(self._identity, asked)

    def _columns(self, texts: list, replies: dict[str, Reply]) -> dict[str, list]:
        rows = [self._row(text, replies) for text in texts]
        scored = [i for i, row in enumerate(rows) if row["llm_scores"] is not None]
        if scored:
            probabilities = self.calibration.probabilities([rows[i]["llm_scores"] for i in scored])
            for i, p in zip(scored, probabilities, strict=True):
                rows[i] |= {"llm_label": int(p.argmax()), "llm_confidence": float(np.float32(p.max()))}
        return {name: [row[name] for row in rows] for name in self.features()}

    def _row(self, text: object, replies: dict[str, Reply]) -> dict:
        row: dict[str, object] = dict.fromkeys(self.features())
        row |= {"llm_label": ABSTAIN, "llm_status": "abstained", "llm_truncated": False}
        row["llm_reason"] = why_unusable(text)
        if row["llm_reason"] is not None or not isinstance(text, str):
            return row
        reply = replies[text]
        row |= {"llm_response": reply.response, "llm_truncated": reply.truncated}
        if reply.error is not None:
            return row | {"llm_status": "failed", "llm_reason": reply.error}
        if reply.scores is not None:
            return row | {"llm_scores": np.asarray(reply.scores, np.float32).tolist(), "llm_status": "ok"}
        try:
            label, reason = self.task.read(reply.response, reply.finish, reply.structured)
        except Exception as error:  # noqa: BLE001  (one answer, whatever is in it, stops no run)
            label, reason = ABSTAIN, f"the answer cannot be read ({type(error).__name__})"
        return row | {"llm_label": label, "llm_reason": reason, "llm_status": "abstained" if reason else "ok"}
