"""Student and teacher as steps of a datatrove pipeline, for fleets: its executors schedule, retry and complete the tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from datasets import Features, Value

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.data import refuse_own_columns
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import column_names, row_texts
from hf_llambert.teachers.base import Teacher
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

    column: str
    type = "LABELS"

    def __init__(self, labeler: StudentLabeler | LLMLabeler, labels: Sequence[str], window: int) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window must be a positive number of documents, got {window}.")
        self.labeler, self.labels, self.window = labeler, tuple(labels), window

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
        return Features({**features, f"{self.column}_name": Value("string")}).arrow_schema

    def run(self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """See datatrove's `PipelineStep`."""
        documents: Iterator[Document] = iter(data or ())
        while window := list(islice(documents, self.window)):
            with self.track_time("window"):
                columns = self.labeler.label(row_texts(self._shown(window), self.labeler.text_column))
            names = {*columns, f"{self.column}_name"}
            for i, (document, state) in enumerate(zip(window, self.states(columns), strict=True)):
                label = columns[self.column][i]
                name = None if label == ABSTAIN else self.labels[label]
                refuse_own_columns(document.metadata, names)
                document.metadata |= {key: values[i] for key, values in columns.items()}
                document.metadata[f"{self.column}_name"] = name
                self.stat_update(state, *([] if name is None else [f"label {name}"]))
                yield document

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


class StudentStep(_Step):
    """
    Labels documents with a student: the columns of [`StudentLabeler`] and `student_label_name` go to their metadata. No
    document is dropped; one without a usable text has -1. The model is loaded in the worker, never pickled.

    Args:
        student (`str` or `Path`): Directory or Hub id of a trained student, at the same place on every machine.
        window (`int`, defaults to 4096): Documents among which texts are sorted by length.
        kwargs: Further arguments of [`StudentLabeler`].

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
    column = "student_label"

    def __init__(self, student: str | Path, window: int = _WINDOW, **kwargs: object) -> None:
        labeler = StudentLabeler(student, **kwargs)  # type: ignore[arg-type]
        super().__init__(labeler, labeler.labels, window)

    def states(self, columns: Mapping[str, list]) -> list[str]:
        """`labelled` or `unusable`."""
        return ["unusable" if label == ABSTAIN else "labelled" for label in columns[self.column]]


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
    column = "llm_label"

    def __init__(self, task: TaskSpec, teacher: Teacher, ledger: str | Path, window: int = _WINDOW) -> None:
        super().__init__(LLMLabeler(task, teacher, ledger), task.labels, window)

    def states(self, columns: Mapping[str, list]) -> list[str]:
        """`ok`, `abstained` or `failed`."""
        return columns["llm_status"]

    def run(self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """See datatrove's `PipelineStep`."""
        yield from super().run(data, rank, world_size)
        if failed := self.stats["failed"].total:
            logger.warning(
                f"The teacher failed on {failed:,} documents of task {rank}. To ask about them again, remove "
                f"completions/{rank:05d} from the logging_dir and run again; the others come from the ledger."
            )
