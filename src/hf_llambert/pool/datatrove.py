"""Student and teacher as steps of a datatrove pipeline, for fleets: its executors schedule, retry and complete the tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from datasets import Features, List, Value

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.data import refuse_own_columns
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import column_names, row_texts
from hf_llambert.teachers.base import Teacher
from hf_llambert.training.labeler import Labeler
from hf_llambert.training.student_cascade import StudentCascade
from hf_llambert.training.students import StudentLabeler

try:
    from datatrove.pipeline.base import PipelineStep
    from datatrove.utils.logging import logger
except ImportError as error:
    raise ImportError(
        "Steps of a fleet need datatrove, which is not installed. Run: pip install 'hf-llambert[fleet]'"
    ) from error

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.readers.base import BaseReader

_WINDOW = 4096  # documents among which texts are sorted by length


def keep_empty_texts(reader: BaseReader, data: dict, path: str, id_in_file: int | str) -> dict:
    """
    Keeps the rows whose text is null or empty, which datatrove's readers drop, with a blank in place of their text:
    `ParquetReader("corpus", adapter=keep_empty_texts)`.
    """
    document = reader._default_adapter(data, path, id_in_file)
    return document | {"text": document["text"] or " "}


class _Step(PipelineStep):
    """Documents in, the same documents out with more metadata, a window at a time."""

    owner: str
    type = "LABELS"

    def __init__(self, labeler: Labeler | LLMLabeler, questions: Mapping[str, Question], window: int) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window must be a positive number of documents, got {window}.")
        self.labeler, self.questions, self.window = labeler, dict(questions), window

    @abstractmethod
    def states(self, columns: Mapping[str, list]) -> list[str]:
        """Under which name each document is counted."""

    def schema(self, documents: pa.Schema | None = None) -> pa.Schema:
        """
        The columns of labelled documents, for `ParquetWriter(..., expand_metadata=True, schema=...)`. Without it datatrove
        guesses them from a task's first document, and the task fails where a null of that one is a value later.

        Args:
            documents (`pyarrow.Schema`, *optional*): What the documents bring along: the schema of the input's files, or
                of the step before. Metadata that is not in it is not written. Defaults to `text` and `id`.
        """
        own = {"text": Value("string"), "id": Value("string")}
        brought = Features.from_arrow_schema(documents) if documents is not None else {}
        features = self.labeler.features(Features({**own, **brought}))
        names = {name: List(Value("string")) if several else Value("string") for name, _, several in self._named()}
        return Features({**features, **names}).arrow_schema

    def _named(self) -> Iterator[tuple[str, Question, bool]]:
        """The column of the names of each question's labels, the question, and whether they are lists."""
        for name, question in self.questions.items():
            several = "labels" in question.own_features()
            yield f"{answer_column(name, 'labels' if several else 'label', self.owner)}_name", question, several

    def run(self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """See datatrove's `PipelineStep`."""
        documents: Iterator[Document] = iter(data or ())
        while window := list(islice(documents, self.window)):
            with self.track_time("window"):
                columns = self.labeler.label(row_texts(self._shown(window), self.labeler.text_column))
            for column, question, several in self._named():
                ids = columns[column.removesuffix("_name")]
                columns[column] = [
                    _name_of(question, found) if several else _name_of(question, [found]) for found in ids
                ]
                if not several:
                    columns[column] = [names[0] if names else None for names in columns[column]]
            for i, (document, state) in enumerate(zip(window, self.states(columns), strict=True)):
                refuse_own_columns(document.metadata, columns)
                document.metadata |= {key: values[i] for key, values in columns.items()}
                self.stat_update(state, *self._told(columns, i))
                yield document

    def _told(self, columns: Mapping[str, list], row: int) -> list[str]:
        """Under which names the labels of a document are counted."""
        told = []
        for (column, _, several), name in zip(self._named(), self.questions, strict=True):
            found = columns[column][row]
            told += [
                f"label {f'{name}: ' if name else ''}{one}" for one in (found or () if several else [found]) if one
            ]
        return told

    def _shown(self, window: Sequence[Document]) -> dict[str, list]:
        """What the labeler reads: the documents' texts as `text` (or its one column), other fields from their metadata."""
        names = column_names(self.labeler.text_column)
        own = names[0] if len(names) == 1 else "text"
        for name in names:
            if name != own and not any(name in document.metadata for document in window):
                raise ValueError(
                    f"There is no document with '{name}' in its metadata, which has {list(window[0].metadata)}. Read the column "
                    f"that the task shows, or pass text_column=... ."
                )
        return {
            name: [document.text if name == own else document.metadata.get(name) for document in window]
            for name in names
        }


def _name_of(question: Question, ids: Sequence[int] | None) -> list[str] | None:
    """The names of labels; `None` without an answer."""
    return None if ids is None else [question.labels[label] for label in ids if label != ABSTAIN]


class StudentStep(_Step):
    """
    Labels documents with a student: the columns of [`StudentLabeler`] and `student_label_name` go to their metadata (of
    several questions `student_NAME_label_name` or, where several labels may hold, `student_NAME_labels_name`). No
    document is dropped; one without a usable text has -1. The model is loaded in the worker, never pickled.

    Args:
        student (`str` or `Path`): Directory or Hub id of a trained student, at the same place on every machine.
        window (`int`, defaults to 4096): Documents among which texts are sorted by length.
        first (`str` or `Path`, *optional*): A fast student, which labels what it is sure of; see [`StudentCascade`].
        below (`float` or `Mapping[str, float]`, *optional*): With `first`: the confidence below which `student` labels.
        kwargs: Further arguments of [`StudentLabeler`].

    Raises:
        ValueError: Only one of `first` and `below` is given, or the two students do not answer the same.

    Example:

    ```python
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from hf_llambert import StudentStep

    student = StudentStep("runs/mine/student")
    writer = ParquetWriter("labelled", expand_metadata=True, schema=student.schema())
    pipeline = [ParquetReader("corpus"), student, writer]
    LocalPipelineExecutor(pipeline, tasks=100, workers=2, logging_dir="logs").run()
    ```
    """

    name = "student of hf_llambert"
    owner = "student"

    def __init__(
        self,
        student: str | Path,
        window: int = _WINDOW,
        first: str | Path | None = None,
        below: float | Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        labeler: Labeler = StudentLabeler(student, **kwargs)  # type: ignore[arg-type]
        if (first is None) != (below is None):
            raise ValueError("first and below belong together: the fast student, and when it is not believed.")
        if first is not None and below is not None:
            fast = StudentLabeler(first, kwargs.get("text_column", "text"))  # type: ignore[arg-type]
            labeler = StudentCascade(fast, labeler.encoder, below)
        super().__init__(labeler, labeler.questions, window)

    def states(self, columns: Mapping[str, list]) -> list[str]:
        """`labelled` or `unusable`."""
        sure = columns[answer_column(next(iter(self.questions)), "confidence")]
        return ["unusable" if confidence is None else "labelled" for confidence in sure]


class TeacherStep(_Step):
    """
    Annotates documents with a teacher through its ledger: the columns of [`LLMLabeler`] and `llm_label_name` go to their
    metadata. A task that is killed and started again asks nothing twice. A task with failed documents counts as completed;
    its log says how to ask about them again.

    Args:
        task (`TaskSpec`): What to ask.
        teacher (`Teacher`): Whom to ask.
        ledger (`str` or `Path`): Directory that keeps the replies, on a disk that all machines see; each process writes a
            file of its own.
        window (`int`, defaults to 4096): Documents that are asked about at once.
    """

    name = "teacher of hf_llambert"
    owner = "llm"

    def __init__(self, task: TaskSpec, teacher: Teacher, ledger: str | Path, window: int = _WINDOW) -> None:
        questions = {name: part.question for name, part in task.parts.items()}
        super().__init__(LLMLabeler(task, teacher, ledger), questions, window)

    def states(self, columns: Mapping[str, list]) -> list[str]:
        """`ok`, `abstained` or `failed`: of several questions the worst."""
        each = zip(*(columns[answer_column(name, "status", "llm")] for name in self.questions), strict=True)
        return [next((bad for bad in ("failed", "abstained") if bad in found), found[0]) for found in each]

    def run(self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """See datatrove's `PipelineStep`."""
        yield from super().run(data, rank, world_size)
        if failed := self.stats["failed"].total:
            logger.warning(
                f"The teacher failed on {failed:,} documents of task {rank}. To ask about them again, remove "
                f"completions/{rank:05d} from the logging_dir and run again; the others come from the ledger."
            )
