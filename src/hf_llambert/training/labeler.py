"""What labels texts as a student does, for `map` and for a pool: one student, or two of which each answers what it can."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset
from numpy.typing import NDArray
from torch import Tensor

from hf_llambert import __version__
from hf_llambert.data import refuse_missing, refuse_own_columns
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, TextColumn, column_names, row_texts
from hf_llambert.training.columns import own_features
from hf_llambert.training.heads import Head

if TYPE_CHECKING:
    from hf_llambert.training.students import StudentLabeler


@dataclass(frozen=True)
class Encoded:
    """
    Texts as a student reads them.

    Args:
        n_texts (`int`): How many texts there were.
        rows (`list[list[int]]`): Token ids of what an encoder reads.
        of_text (`Sequence[int]`): Which text each of them is of, ascending; an unusable text has none.
        logits (`Tensor`, *optional*): What a static or linear student, which computes as it reads, makes of each.
        first (`Mapping[str, pa.Array]`, *optional*): The columns of the fast student, where there are two.
    """

    n_texts: int
    rows: list[list[int]]
    of_text: Sequence[int] | NDArray[np.int64]
    logits: Tensor | None = None
    first: Mapping[str, pa.Array] | None = None


class Labeler(ABC):
    """What [`label_pool`], the cascade and `dataset.map(..., batched=True)` label with: a student, or two of them."""

    text_column: TextColumn
    """Column of the texts, or columns of the fields."""
    identity: str
    """What decides the labels, but for how it is computed."""
    seconds: float = 0.0
    """Seconds spent on tokenising and the models since this object was made."""
    _heads: tuple[Head, ...] | None = None

    @property
    @abstractmethod
    def encoder(self) -> StudentLabeler:
        """The student whose precision matters."""

    @property
    @abstractmethod
    def reads_strings(self) -> bool:
        """Whether Arrow strings are read as they are."""

    @abstractmethod
    def encode(self, texts: Sequence[object] | pa.Array, rank: int | None = None) -> Encoded:
        """
        Read texts, for [`~Labeler.score`]: the two may run at the same time on different texts. Texts of one field may be
        Arrow strings, which a static or linear student reads as they are.
        """

    @abstractmethod
    def score(
        self, encoded: Encoded, rank: int | None = None, progress: Callable[[int], None] | None = None
    ) -> dict[str, pa.Array]:
        """
        The columns of [`~Labeler.label`] for encoded texts, as Arrow arrays of the types of `features`.

        Args:
            encoded (`Encoded`): The texts.
            rank (`int`, *optional*): Number of this process, to choose a GPU.
            progress (`Callable[[int], None]`, *optional*): Called after each batch with the number of texts done since the
                last call; all of them are told in the end.

        Raises:
            RuntimeError: One text by itself does not fit in memory. Larger batches are halved, with one warning.
        """

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """What decides the labels: the students' content, and how they are computed and read."""

    @abstractmethod
    def agreement(self, texts: Sequence[str]) -> float:
        """
        Share of texts with the label, or the answers to all questions, that the same encoder gives in float32 on PyTorch.
        """

    @abstractmethod
    def _read_heads(self) -> tuple[Head, ...]:
        """What `heads` is."""

    def __call__(self, batch: Mapping[str, list], rank: int | None = None) -> dict[str, list]:
        """Label a batch of columns. `rank` chooses the GPU under `map(num_proc=..., with_rank=True)`."""
        refuse_missing(list(batch), self.text_column)
        refuse_own_columns(batch, self.features())
        return self.label(row_texts(batch, self.text_column), rank)

    def label(self, texts: Sequence[object], rank: int | None = None) -> dict[str, list]:
        """The student's columns for a list of texts; see [`row_texts`]."""
        start = time.perf_counter()
        out = self.score(self.encode(texts, rank), rank)
        self.seconds += time.perf_counter() - start
        return {name: column.to_pylist() for name, column in out.items()}

    def own_features(self) -> Features:
        """The columns that are added."""
        return own_features(self.heads)

    def features(self, base: Dataset | IterableDataset | Features | None = None) -> Features:
        """The features of the labelled dataset, for `map(..., features=...)`."""
        own = self.own_features()
        present = base if isinstance(base, Features) or base is None else base.features
        if base is not None and present is None:
            raise ValueError("This streaming dataset does not know its features. Pass Features({...}) of its columns.")
        refuse_own_columns(present or (), own)
        return Features({**(present or {}), **own})

    @property
    def heads(self) -> tuple[Head, ...]:
        """Whose logits are which, in the order of the questions; read from the student's notes, which loads no model."""
        if self._heads is None:  # a fork may follow
            self._heads = self._read_heads()
        return self._heads

    @property
    def questions(self) -> dict[str, Question]:
        """The questions that the student answers by name; one alone has the empty name."""
        return {head.name: head.question for head in self.heads}

    @property
    def labels(self) -> tuple[str, ...]:
        """
        The student's label names, in the order of ids and scores.

        Raises:
            ValueError: It answers several questions; see `questions`.
        """
        if len(self.heads) > 1:
            raise ValueError(
                f"Student '{self.encoder.student}' answers several questions ({', '.join(self.questions)}). Take one: "
                f"labeler.questions[NAME].labels."
            )
        return self.heads[0].question.labels

    def check_task(self, task: TaskSpec) -> None:
        """Raise `ValueError` where the student has not learnt the questions and labels of `task`."""
        own, asked = asked_of(self.questions), asked_of({name: part.question for name, part in task.parts.items()})
        if own == asked:
            return
        if len(own) == len(asked) == 1 and (given := own.get("")) and given[0] == asked[""][0]:
            raise ValueError(f"The student has the labels {given[1]}, task '{task.name}' has {asked[''][1]}.")
        raise ValueError(f"The student answers {in_words(own)}. Task '{task.name}' asks {in_words(asked)}.")

    def count_unusable(self, columns: Mapping[str, pa.Array]) -> int:
        """How many texts had nothing to read, by the columns of [`~Labeler.score`]."""
        return columns[answer_column(self.heads[0].name, "confidence")].null_count

    def warm_up(self) -> None:
        """Load the models and run each once, so that timing what follows measures labeling only."""
        self.label([FIELD.join("." for _ in column_names(self.text_column))])
        self.seconds = 0.0

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("seconds", "_heads")} | {"version": __version__}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= {k: v for k, v in state.items() if k != "version"}


_Asked = dict[str, tuple[str, tuple[str, ...]]]


def asked_of(questions: Mapping[str, Question]) -> _Asked:
    """Kind and labels of each question, which two must share to answer the same."""
    return {name: (question.kind, question.labels) for name, question in questions.items()}


def in_words(asked: _Asked) -> str:
    """What [`asked_of`] found, for people."""
    return "; ".join(
        f"{name or 'one question'}: {kind} of {', '.join(labels)}" for name, (kind, labels) in asked.items()
    )
