"""`dataset.map(llm_label, batched=True)`: the teacher as a map function."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value

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
from hf_llambert.teachers.base import Reply, Teacher, ask_branches

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
    `llm_truncated`; see [`~LLMLabeler.features`]. Each of several questions has its own: `llm_NAME_label`, ... A text that cannot be asked about (null, empty, no string) abstains
    with its reason; the rest of the batch goes on.

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
        replies = self._replies(texts, rank, progress, spending)
        return {text: _whole(of_text) for text, of_text in replies.items()}

    def _replies(
        self,
        texts: Sequence[object],
        rank: int | None = None,
        progress: Callable[[int], None] | None = None,
        spending: Spending | None = None,
    ) -> dict[str, tuple[Reply, ...]]:
        """As [`~LLMLabeler.replies`]: a reply for each of `_requests`."""
        usable = list(dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None))
        keys = {text: self._keys_of(text) for text in usable}
        found = self.ledger.get(key for of_text in keys.values() for key in of_text)
        known = {text: {k: found[key] for k, key in enumerate(of_text) if key in found} for text, of_text in keys.items()}
        groups: dict[tuple[int, ...], list[str]] = {}  # texts that lack the same replies are asked about together
        for text, there in known.items():
            if len(there) < len(self._requests):
                groups.setdefault(tuple(k for k in range(len(self._requests)) if k not in there), []).append(text)
        done = len(usable) - sum(map(len, groups.values()))
        if progress and done:
            progress(done)
        if groups:
            self.ledger.prepare()
        for lacking, missing in groups.items():
            left = missing
            while left and (room := spending.room(len(left)) if spending else len(left)):
                asked, left = left[:room], left[room:]
                for part in ask_branches(self.teacher, [self._requests[k] for k in lacking], asked, rank):
                    fresh = {asked[i]: dict(zip(lacking, replies, strict=True)) for i, replies in part.items()}
                    self.ledger.put(
                        {keys[text][k]: reply for text, some in fresh.items() for k, reply in some.items()}, self._identity
                    )
                    for text, some in fresh.items():
                        known[text] |= some
                    done += len(fresh)
                    if progress:
                        progress(len(fresh))
                    if spending:
                        spending.add_batch([_whole(tuple(some.values())) for some in fresh.values()])
                        if done < len(usable) and spending.over():
                            break
                if any(len(known[text]) < len(self._requests) for text in asked):
                    break
        lost = [text for text, there in known.items() if len(there) < len(self._requests)]
        if lost and spending and spending.why:
            spending.left_out += len(lost)
            for text in lost:
                known[text] |= {
                    k: Reply(error=spending.limits.reason) for k in range(len(self._requests)) if k not in known[text]
                }
        elif lost:
            raise RuntimeError(
                f"{type(self.teacher).__name__} left {len(lost)} of {sum(map(len, groups.values()))} texts without a reply. "
                f"The replies that came are in the ledger; run again."
            )
        return {text: tuple(there[k] for k in range(len(self._requests))) for text, there in known.items()}

    def recall(self, batch: Mapping[str, list], unasked: str = "not asked yet") -> dict[str, list]:
        """
        The columns of the labeler from the ledger alone; asks nothing. A text without a reply has failed, with its
        last error or, where it has none, with the reason `unasked`.
        """
        return self.recalled(row_texts(batch, self.text_column), unasked)

    def recalled(self, texts: Sequence[object], unasked: str = "not asked yet") -> dict[str, list]:
        """As [`~LLMLabeler.recall`], of texts."""
        usable = dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None)
        keys = {text: self._keys_of(text) for text in usable}
        every = [key for of_text in keys.values() for key in of_text]
        known = self.ledger.get(every)
        errors = self.ledger.errors(key for key in every if key not in known)
        replies = {
            text: tuple(known.get(key) or Reply(error=errors.get(key, unasked)) for key in of_text)
            for text, of_text in keys.items()
        }
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
        """The replies to these texts that are in the ledger, each once; several about a text, where it was asked several."""
        return list(self.ledger.get(self._keys(texts)).values())

    def _keys(self, texts: Sequence[object]) -> set[str]:
        usable = {text for text in texts if isinstance(text, str) and why_unusable(text) is None}
        return {key for text in usable for key in self._keys_of(text)}

    def answered_at(self, texts: Sequence[str]) -> dict[str, float]:
        """When each text whose replies are all in the ledger was answered, in seconds since 1970. Asks nothing."""
        keys = {text: self._keys_of(text) for text in texts}
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
        found = (self._scores(part, replies[text]) for text in texts)
        return [scores for scores in found if scores is not None]

    def features(self, base: Dataset | IterableDataset | Features | None = None) -> Features:
        """
        The features of the annotated dataset, for `map(..., features=...)`: those of `base` and the labeler's own.

        Without them `map` guesses the types, and `llm_label` is a plain integer.
        """
        own = Features(
            {
                f"{self.prefix(name)}_{end}": feature
                for name, one in self.task.parts.items()
                for end, feature in {**one.question.own_features(), **_COMMON}.items()
            }
        )
        present = base if isinstance(base, Features) or base is None else base.features
        refuse_own_columns(present or (), own)
        if base is not None and present is None:
            raise ValueError("This streaming dataset does not know its features. Pass Features({...}) of its columns.")
        return Features({**(present or {}), **own})

    def prefix(self, part: str = "") -> str:
        """How the columns of a question begin, by the names of [`TaskSpec.parts`]: `llm`, or `llm_NAME`."""
        return f"llm_{part}" if part else "llm"

    @property
    def calibration(self) -> Calibration:
        """The calibration of the only question; see `calibrations`."""
        (only,) = self.calibrations.values()
        return only

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

    def question(self) -> str:
        """
        A hash of the teacher and the question, without a text. Labelers with one ledger and one hash ask for the same
        replies.
        """
        return "+".join(self._keys_of(self.task.filled("")))

    @functools.cached_property
    def _requests(self) -> tuple[TaskSpec, ...]:
        """The tasks that are asked about each text, one reply each."""
        return tuple(dict.fromkeys(task for tasks in self._asked.values() for task in tasks))

    @functools.cached_property
    def _asked(self) -> dict[str, tuple[TaskSpec, ...]]:
        """Which of them answer which question."""
        if self.teacher.mode == "score":
            return self.task.branches
        if self.ask_apart:
            return {name: (one,) for name, one in self.task.parts.items()}
        return dict.fromkeys(self.task.parts, (self.task,))

    def _keys_of(self, text: str) -> tuple[str, ...]:
        """The ledger's keys of a text, one for each request."""
        return tuple(self._key(task, text) for task in self._requests)

    def _key(self, task: TaskSpec, text: str) -> str:
        asked: dict[str, object] = {"messages": task.messages(text), "chat": task.chat}
        if task.chat:
            asked["lead_in"] = task.lead_in
        if self.teacher.mode == "score":
            asked["words"] = task.verbalizers
        return reply_key(self._identity, asked)

    def _columns(self, texts: list, replies: Mapping[str, tuple[Reply, ...]]) -> dict[str, list]:
        out: dict[str, list] = {}
        for name, one in self.task.parts.items():
            question = one.question
            rows = [self._row(text, replies, name, one) for text in texts]
            scored = [i for i, row in enumerate(rows) if row["scores"] is not None]
            if scored:
                found = question.decided(self.calibrations[name].probabilities([rows[i]["scores"] for i in scored]))
                found["confidence"] = [float(np.float32(p)) for p in found["confidence"]]
                for k, i in enumerate(scored):
                    rows[i] |= {end: values[k] for end, values in found.items()}
            for end in (*question.own_features(), *_COMMON):
                out[f"{self.prefix(name)}_{end}"] = [row[end] for row in rows]
        return out

    def _of_part(self, name: str, replies: tuple[Reply, ...]) -> list[tuple[TaskSpec, Reply]]:
        """The replies that answer a question, with what was asked."""
        by_task = dict(zip(self._requests, replies, strict=True))
        return [(task, by_task[task]) for task in self._asked[name]]

    def _scores(self, name: str, replies: tuple[Reply, ...]) -> tuple[float, ...] | None:
        """The scores of a question, where all that answer it have some."""
        found = [reply.scores for _, reply in self._of_part(name, replies) if reply.scores is not None]
        if len(found) < len(self._asked[name]):
            return None
        return self.task.parts[name].question.joined(found)

    def _row(self, text: object, replies: Mapping[str, tuple[Reply, ...]], name: str, one: TaskSpec) -> dict:
        row: dict[str, object] = {**one.question.no_answer(), **dict.fromkeys(_COMMON)}
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
        if (scores := self._scores(name, replies[text])) is not None:
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
        if self.teacher.mode != "score":
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


_COMMON = Features(
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
    out = {}
    for name, one in task.parts.items():
        found = given.get(name) or uncalibrated(one.num_labels, one.question.kind)
        if (len(found.bias), found.kind) != (one.num_labels, one.question.kind):
            raise ValueError(
                f"The calibration has {len(found.bias)} biases for a {found.kind}, task '{one.name}' has {one.num_labels} "
                f"labels and is a {one.question.kind}."
            )
        out[name] = found
    return out


def _whole(replies: tuple[Reply, ...]) -> Reply:
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
