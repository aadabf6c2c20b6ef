"""Student and teacher as steps of a datatrove pipeline, for fleets: its executors schedule, retry and complete the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.tasks import ABSTAIN, TaskSpec
from hf_llambert.teachers.base import Teacher
from hf_llambert.training.students import StudentLabeler

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise ImportError(
        "Steps of a fleet need datatrove, which is not installed. Run: pip install 'hf-llambert[fleet]'"
    ) from error

if TYPE_CHECKING:
    from datatrove.data import Document

_WINDOW = 4096  # documents among which texts are sorted by length


class _Step(PipelineStep):
    """Documents in, the same documents out with more metadata, a window at a time."""

    def __init__(self, labels: Sequence[str], column: str, window: int) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window must be a positive number of documents, got {window}.")
        self.labels, self.column, self.window = tuple(labels), column, window

    def columns(self, texts: list[str]) -> Mapping[str, list]:
        """What is added to each document's metadata."""
        raise NotImplementedError

    def run(self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """See datatrove's `PipelineStep`."""
        documents: Iterator[Document] = iter(data or ())
        while window := list(islice(documents, self.window)):
            with self.track_time("window"):
                columns = self.columns([document.text for document in window])
            for i, document in enumerate(window):
                label = columns[self.column][i]
                name = None if label == ABSTAIN else self.labels[label]
                document.metadata |= {key: values[i] for key, values in columns.items()}
                document.metadata[f"{self.column}_name"] = name
                self.stat_update("unusable" if name is None else f"label {name}")
                self.update_doc_stats(document)
                yield document


class StudentStep(_Step):
    """
    Labels documents with a student: the columns of [`StudentLabeler`] and `student_label_name` go to their metadata. No
    document is dropped; one without a usable text has -1.

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

    pipeline = [ParquetReader("corpus"), StudentStep("runs/mine/student"), ParquetWriter("labelled")]
    LocalPipelineExecutor(pipeline, tasks=100, workers=2, logging_dir="logs").run()
    ```
    """

    name = "student of hf_llambert"
    type = "LABELS"

    def __init__(self, student: str | Path, window: int = _WINDOW, **kwargs: object) -> None:
        self.labeler = StudentLabeler(student, **kwargs)  # type: ignore[arg-type]
        super().__init__(self.labeler.labels, "student_label", window)

    def columns(self, texts: list[str]) -> Mapping[str, list]:
        """See [`StudentLabeler`]."""
        return self.labeler.label(texts)


class TeacherStep(_Step):
    """
    Annotates documents with a teacher through its ledger: the columns of [`LLMLabeler`] and `llm_label_name` go to their
    metadata. A task that is killed and started again asks nothing twice.

    Args:
        task (`TaskSpec`): What to ask.
        teacher (`Teacher`): Whom to ask.
        ledger (`str` or `Path`): Directory that keeps the replies, on a disk that all machines see; each process writes a
            file of its own.
        window (`int`, defaults to 4096): Documents that are asked about at once.
    """

    name = "teacher of hf_llambert"
    type = "LABELS"

    def __init__(self, task: TaskSpec, teacher: Teacher, ledger: str | Path, window: int = _WINDOW) -> None:
        super().__init__(task.labels, "llm_label", window)
        self.labeler = LLMLabeler(task, teacher, ledger)

    def columns(self, texts: list[str]) -> Mapping[str, list]:
        """See [`LLMLabeler`]."""
        return self.labeler({self.labeler.text_column: texts})
