"""What a distilled student keeps of the encoder's labels, or of people's, certified on texts that it did not learn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset

from hf_llambert.pool.promise import Against, Promise
from hf_llambert.pool.promised_rows import rows_for
from hf_llambert.pool.thresholds import certified_threshold
from hf_llambert.tasks.parts import GOLD, answer_column
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts
from hf_llambert.training.compared import read_evaluation
from hf_llambert.training.students import StudentLabeler

_CONFIDENCE = 0.95


def check_against(guarantee: float | None, against: str) -> None:
    """
    Refuse a promise that cannot be made here, before anything is read.

    Raises:
        ValueError: The share is none, or nobody here gives such labels.
    """
    if guarantee is not None and not 0 < guarantee < 1:
        raise ValueError(f"A guarantee is a share between 0 and 1, such as 0.95; got {guarantee}.")
    if against == "teacher":
        raise ValueError(
            "A distilled student is compared with the encoder or with gold: nobody is asked while it is made. What it keeps of "
            "the teacher's labels is promised where the teacher is asked: hf-llambert label --student RUN/students/KIND "
            "--guarantee 0.95 --against teacher."
        )
    if against not in ("encoder", "gold"):
        raise ValueError(f"A distilled student is compared with the encoder or with gold, got '{against}'.")


@dataclass
class Kept:
    """
    Texts of the pool that are kept back, and what is to be promised by them.

    Args:
        task (`TaskSpec`): The task.
        column (`str` or `Sequence[str]`): Column of the texts.
        guarantee (`float`, *optional*): The share to promise.
        against (`str`): `encoder` or `gold`.
        kinds (`int`): How many students are certified; the risk is split over them.
        rows (`Dataset`, *optional*): The texts, with the encoder's answers.
    """

    task: TaskSpec
    column: TextColumn
    guarantee: float | None
    against: Against
    kinds: int
    rows: Dataset | None = None

    def promise(self, looked: int = 1) -> Promise:
        """The promise about each question; `looked` students of each kind were made, and one chosen, by the rows it rests on."""
        risk = (1 - _CONFIDENCE) / (len(self.task.parts) * self.kinds * (looked if self.against == "gold" else 1))
        return Promise(self.guarantee or 0.5, 1 - risk, self.against)

    @property
    def wanted(self) -> int:
        """How many texts to keep back."""
        return rows_for(self.promise()).wanted if self.guarantee is not None and self.against == "encoder" else 0

    def promises(self, folder: Path, encoder: Path, looked: int) -> dict[str, dict]:
        """The guarantee of each question, or `why` there is none, of the student in a folder before the encoder."""
        if self.rows is None:
            ours, theirs = (read_evaluation(one).to_dict() for one in (folder, encoder))
        else:
            ours = StudentLabeler(folder, self.column).label(row_texts(self.rows, self.column))
            theirs = self.rows.to_dict()
        found = {}
        for name, part in self.task.parts.items():
            question = part.question
            answers = answer_column(name, question.answer_column)
            said = theirs[answers] if self.rows is None else theirs[name or GOLD]
            truth = theirs[name or "gold"] if self.rows is None else said
            sure = ours[answer_column(name, "confidence")]
            one = certified_threshold(sure, ours[answers], said, truth, question, self.promise(looked))
            found[name] = {"why": one} if isinstance(one, str) else asdict(one)
        return found


def kept_back(texts: Dataset, num_rows: int, kept: Kept) -> tuple[Dataset, Dataset | None]:
    """
    The texts to learn from, and those to keep back: of few a fifth.

    Raises:
        ValueError: They are too few for the promise.
    """
    if not kept.wanted:
        return texts, None
    number = max(len(texts) - num_rows, min(kept.wanted, len(texts) // 5))
    if number < (least := rows_for(kept.promise()).least):
        raise ValueError(
            f"{number:,} of the {len(texts):,} texts of the pool can be kept back, and {least:,} are needed to promise "
            f"{kept.guarantee:.1%} even where all labels agree. Give more texts (--pool), lower --guarantee, or promise against "
            f"gold (--against gold)."
        )
    learnt = len(texts) - number
    return texts.select(range(learnt)), texts.select(range(learnt, len(texts)))
