"""Finds the confidence below which the teacher must be asked for the labels to reach a stated accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import check_column
from hf_llambert.gold import GoldColumns, LabelMap, Reading, gold_answers
from hf_llambert.pool.certified import Guarantee, certified_right
from hf_llambert.processes import process_state
from hf_llambert.progress import progress_bar
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import row_texts
from hf_llambert.training.labeler import Labeler

logger = get_logger(__name__)

_STEPS = 10


def guaranteed_threshold(
    student_confidence: ArrayLike,
    student_label: ArrayLike,
    teacher_label: ArrayLike,
    gold: ArrayLike,
    target: float,
    confidence: float = 0.95,
) -> Guarantee:
    """
    The least threshold of a cascade whose accuracy is certainly enough, from rows with gold labels.

    Each threshold of a fixed grid is a hypothesis "the cascade's accuracy is below the target", tested by the exact
    binomial test (learn then test, Angelopoulos et al. 2021, arXiv 2110.01052). They are tested in a fixed order, from
    everything asked downward, until one cannot be certified; as a teacher that is no better than the student would
    end that at once, a second walk begins at 0.9. Each has half of the chance of error, and the first leaves its half to
    the second where it arrives there (the fallback procedure, Wiens and Dmitrienko 2005).

    Going upward, from nobody asked to the first threshold that passes, would ask less about gold but is valid only with
    Bonferroni's correction, and in simulation that asked about 2 to 15 percentage points more of the pool, the larger
    bill by far. The plain walk from the top alone found nothing in 99 % of draws where the teacher by itself fell short of
    the target and the cascade did not; the second start found it in 35 % (500 gold rows) to 98 % (3,000).

    Args:
        student_confidence (`ArrayLike` of shape (rows,)): The student's confidence in each row.
        student_label (`ArrayLike` of the same shape): Its label ids. Rows with -1 are left out.
        teacher_label (`ArrayLike` of the same shape): The teacher's; -1 leaves the decision to the student.
        gold (`ArrayLike` of the same shape): People's labels. Rows with -1 are left out.
        target (`float`): Least accuracy.
        confidence (`float`, defaults to 0.95): Probability that the promise is kept, over draws of gold rows. These must be
            drawn at random from what is to be labelled, and must not be those that the student was trained on, nor those
            that the prompt or the calibration was chosen by.

    Raises:
        ValueError: No threshold can be certified; the message says how many gold rows would do.
    """
    if not (0 < target < 1 and 0 < confidence < 1):
        raise ValueError(f"target and confidence must lie between 0 and 1, got {target} and {confidence}.")
    sure = np.asarray(student_confidence, dtype=np.float32)
    student, teacher, truth = (np.asarray(column) for column in (student_label, teacher_label, gold))
    if not sure.shape == student.shape == teacher.shape == truth.shape or sure.ndim != 1:
        shapes = [column.shape for column in (sure, student, teacher, truth)]
        raise ValueError(f"Expected four columns of one length, got the shapes {shapes}.")
    found = _certified(sure, student, teacher, truth, target, confidence)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def calibrate_cascade(
    gold_data: Dataset,
    student_labeler: Labeler,
    llm_labeler: LLMLabeler,
    target: float,
    confidence: float = 0.95,
    *,
    gold_column: GoldColumns = "label",
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    show_progress: bool = True,
) -> Guarantee:
    """
    Find the threshold for [`cascade`] that keeps a promise about accuracy: let the student label rows with gold labels,
    ask the teacher about them, and certify by exact binomial tests in a fixed order (docs/cascade.md).

    **The gold rows must not be those that the student was trained on**, on which it is surer and more often right than on
    others, nor those that prompt or calibration were chosen by; and they must be a random draw from the pool. The promise
    is about rows like them.

    Of a task of several questions: [`calibrate_questions`]. On a scale an answer is right at most half a step off people's; where
    several labels may hold, where all of them are right.

    The teacher is asked about the rows in ten steps, those that the student is least sure of first, and no further than
    the answers can change what comes out: a teacher that cannot reach the target is found out early.

    Args:
        gold_data (`Dataset`): Texts with people's labels.
        student_labeler (`StudentLabeler` or `StudentCascade`): The student, computing as it does on the pool. Of two the
            promise is about both and the teacher together, provided that no gold chose the threshold between them.
        llm_labeler (`LLMLabeler`): The teacher, with the calibration that the cascade will use.
        target (`float`): Least accuracy.
        confidence (`float`, defaults to 0.95): Probability that the promise is kept.
        gold_column (`str`, defaults to `"label"`): Column of people's labels.
        label_map (`Mapping[str, str]`, *optional*): What other labels of the data are in the task; see [`with_gold`].
        label_values (`str`, defaults to `"auto"`): What the column holds: `names`, `ids` or `ids_from_1`.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Raises:
        ValueError: No threshold can be certified, student and teacher have other labels, or the task has several questions.
        RuntimeError: The teacher could not be asked about some rows. The replies that came are in the ledger.
    """
    task = llm_labeler.task
    if len(task.parts) > 1:
        raise ValueError(f"Task '{task.name}' has several questions, each with its promise. Use calibrate_questions.")
    if task.question.kind not in _IN_STEPS:
        each = calibrate_questions(
            gold_data,
            student_labeler,
            llm_labeler,
            target,
            confidence,
            gold_column=gold_column,
            label_map=label_map,
            label_values=label_values,
            show_progress=show_progress,
        )
        return each[""]
    check_labels(student_labeler.labels, llm_labeler)
    check_column(gold_data, llm_labeler.text_column, "text_column")
    gold = np.array(gold_answers(gold_data, task, gold_column, label_map, label_values)[""])
    rows = np.flatnonzero(gold != ABSTAIN)
    texts, gold = row_texts(gold_data.select(rows.tolist()), llm_labeler.text_column), gold[rows]
    usable = [text for text in texts if isinstance(text, str)]
    if repeated := len(usable) - len(set(usable)):
        logger.warning(
            "%d of the %d gold rows repeat the text of another and count as rows of their own. Unless the pool repeats them as "
            "often, the promise is too good: give each text once.",
            repeated,
            len(texts),
        )
    out = student_labeler.label(texts)
    sure = np.array(out["student_confidence"], dtype=np.float32)  # null becomes NaN, which is sorted last
    student = np.array(out["student_label"])
    order = np.argsort(sure, kind="stable")[: int((student != ABSTAIN).sum())]
    best, worst = gold.copy(), (gold + 1) % task.num_labels  # what the teacher may yet say
    found: Guarantee | str = guaranteed_threshold(sure, student, best, gold, target, confidence)
    turn = asking_turn([llm_labeler]) if process_state().is_main_process else nullcontext()
    with turn, progress_bar("asking about gold", len(order), show_progress) as progress:
        for part in np.array_split(order, _STEPS):
            best[part] = worst[part] = _answers([texts[i] for i in part.tolist()], llm_labeler)
            progress(len(part))
            found, least = (_certified(sure, student, said, gold, target, confidence) for said in (best, worst))
            if isinstance(found, str) or found == least:
                break
    if not isinstance(found, str):
        return found
    seen = best == worst
    if seen.sum() < len(order):
        found = (
            f"The teacher was right about {int((best == gold)[seen].sum()):,} of the {int(seen.sum()):,} gold rows asked about "
            f"so far. Even if it were right about the other {int(len(order) - seen.sum()):,}: {found}"
        )
    raise ValueError(found)


_IN_STEPS = ("choice",)
"""Kinds of an only question of which what the teacher may yet say can be bounded."""


def calibrate_questions(
    gold_data: Dataset,
    student_labeler: Labeler,
    llm_labeler: LLMLabeler,
    target: float,
    confidence: float = 0.95,
    *,
    gold_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    show_progress: bool = True,
) -> dict[str, Guarantee]:
    """
    As [`calibrate_cascade`] for a task of several questions: a threshold for each, for [`cascade`].

    The promise is that **of each question** the cascade's answers are right with a probability of at least `target`, of all
    questions at once with `confidence`: the risk is split evenly over them (Bonferroni). It is not that all answers to a text
    are right together. On a scale an answer is right at most half a step off people's; where several labels may hold, where
    all of them are right. The teacher is asked about all gold rows.

    Args:
        gold_data (`Dataset`): Texts with people's answers, as [`calibrate_cascade`] needs them.
        student_labeler (`StudentLabeler` or `StudentCascade`): The student.
        llm_labeler (`LLMLabeler`): The teacher, with the calibrations that the cascade will use.
        target (`float`): Least share of right answers, of each question.
        confidence (`float`, defaults to 0.95): Probability that all of the promise is kept.
        gold_column (`Mapping[str, str]`, *optional*): Columns of people's answers by question; see [`gold_columns`].
        label_map (`Mapping`, *optional*): See [`with_gold`].
        label_values (`Mapping`, *optional*): See [`with_gold`].
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Raises:
        ValueError: A question has no gold, or no threshold of it can be certified.
        RuntimeError: The teacher could not be asked about some rows.
    """
    if not (0 < target < 1 and 0 < confidence < 1):
        raise ValueError(f"target and confidence must lie between 0 and 1, got {target} and {confidence}.")
    labeler, data = llm_labeler, gold_data
    gold = gold_answers(data, labeler.task, gold_column, label_map, label_values)
    task = labeler.task
    lacking = [name for name in task.parts if name not in gold]
    if lacking:
        raise ValueError(
            f"There is no gold of {', '.join(lacking)}, so nothing can be promised about it. Name its column."
        )
    check_column(data, labeler.text_column, "text_column")
    texts = row_texts(data, labeler.text_column)
    ours = student_labeler.label(texts)
    turn = asking_turn([labeler]) if process_state().is_main_process else nullcontext()
    with turn, progress_bar("asking about gold", len(texts), show_progress) as progress:
        theirs = labeler.label(texts)
        progress(len(texts))
    found = {}
    for name, one in task.parts.items():
        begin = f"llm_{name}" if name else "llm"
        _refuse_failed(theirs[f"{begin}_status"], theirs[f"{begin}_reason"])
        of_student, end = f"student_{name}" if name else "student", one.question.answer_column
        certified = certified_threshold(
            ours[f"{of_student}_confidence"],
            ours[f"{of_student}_{end}"],
            theirs[f"{begin}_{end}"],
            gold[name],
            one.question,
            target,
            1 - (1 - confidence) / len(task.parts),
        )
        if isinstance(certified, str):
            raise ValueError(f"{name}: {certified}" if name else certified)
        found[name] = certified
    return found


def certified_threshold(
    student_confidence: Sequence[float],
    student: Sequence,
    teacher: Sequence,
    gold: Sequence,
    question: Question,
    target: float,
    confidence: float,
) -> Guarantee | str:
    """
    As [`guaranteed_threshold`] for a question of any kind ([`Question.right`]); or why no threshold can be certified.
    """
    kept = [k for k in range(len(gold)) if question.is_answer(gold[k]) and question.is_answer(student[k])]
    if not kept:
        return "No row has both a gold label and a student's label, so there is nothing to measure."
    truth, ours = [gold[k] for k in kept], [student[k] for k in kept]
    decided = [teacher[k] if question.is_answer(teacher[k]) else student[k] for k in kept]
    sure = np.array([student_confidence[k] for k in kept], dtype=np.float32)
    return certified_right(sure, question.right(ours, truth), question.right(decided, truth), target, confidence)


def check_labels(student: Sequence[str], labeler: LLMLabeler, part: str = "") -> None:
    """Refuse a student and a teacher that do not have the same labels in the same order."""
    labels = labeler.task.parts[part].labels
    if tuple(student) != labels:
        of = f" of '{part}'" if part else ""
        raise ValueError(
            f"The student has the labels {tuple(student)}{of}, task '{labeler.task.name}' has {labels}. Pass the "
            f"task that the student has learnt."
        )


def _certified(
    sure: NDArray[np.float32], student: NDArray, teacher: NDArray, truth: NDArray, target: float, confidence: float
) -> Guarantee | str:
    """As [`guaranteed_threshold`], or why no threshold can be certified."""
    kept = (truth != ABSTAIN) & (student != ABSTAIN)
    n = int(kept.sum())
    if not n:
        return "No row has both a gold label and a student's label, so there is nothing to measure."
    by_teacher = np.where(teacher == ABSTAIN, student, teacher) == truth
    return certified_right(sure[kept], (student == truth)[kept], by_teacher[kept], target, confidence)


def _answers(texts: list[object], labeler: LLMLabeler) -> list[int]:
    columns = labeler.label(texts)
    _refuse_failed(columns["llm_status"], columns["llm_reason"])
    return columns["llm_label"]


def _refuse_failed(status: list, reasons: list) -> None:
    if failed := status.count("failed"):
        reason = next(r for r, s in zip(reasons, status, strict=True) if s == "failed")
        raise RuntimeError(
            f"The teacher could not be asked about {failed:,} gold rows ({reason}). What it answered is kept; run again."
        )
