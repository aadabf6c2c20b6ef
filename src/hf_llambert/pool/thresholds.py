"""The threshold of a cascade that a promise certainly holds at, from the labels of both and those that count as right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_llambert.pool.certified import STARTS, TOP, Counted, certified_share
from hf_llambert.pool.promise import Against, Guarantee, Promise, promised_of
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import ABSTAIN


def guaranteed_threshold(
    student_confidence: ArrayLike,
    student_label: ArrayLike,
    teacher_label: ArrayLike,
    gold: ArrayLike | None,
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
        gold (`ArrayLike` of the same shape, *optional*): People's labels. Rows with -1 are left out. `None`: the teacher's
            labels count as right. Then everything asked is right by construction, and one walk has all of the risk.
        target (`float`): Least accuracy, or agreement with the teacher.
        confidence (`float`, defaults to 0.95): Probability that the promise is kept, over draws of gold rows. These must be
            drawn at random from what is to be labelled, and must not be those that the student was trained on, nor those
            that the prompt or the calibration was chosen by.

    Raises:
        ValueError: No threshold can be certified; the message says how many gold rows would do.
    """
    check_shares(target, confidence)
    sure = np.asarray(student_confidence, dtype=np.float32)
    against: Against = "teacher" if gold is None else "gold"
    given = (student_label, teacher_label, teacher_label if gold is None else gold)
    student, teacher, truth = (np.asarray(column) for column in given)
    if not sure.shape == student.shape == teacher.shape == truth.shape or sure.ndim != 1:
        shapes = [column.shape for column in (sure, student, teacher, truth)]
        raise ValueError(f"Expected four columns of one length, got the shapes {shapes}.")
    found = certified_labels(sure, student, teacher, truth, Promise(target, confidence, against))
    if isinstance(found, str):
        raise ValueError(found)
    return found


def certified_threshold(
    student_confidence: Sequence[float],
    student: Sequence,
    teacher: Sequence,
    truth: Sequence,
    question: Question,
    promise: Promise,
) -> Guarantee | str:
    """
    As [`guaranteed_threshold`] for a question of any kind ([`Question.right`]), or one of its labels ([`Question.holds`]); or
    why no threshold can be certified. `truth` has the answers that count as right: those of whom the promise is against.
    """
    labelled = [k for k in range(len(truth)) if question.is_answer(student[k])]
    kept = [k for k in labelled if question.is_answer(truth[k])]
    if not kept:
        return _nothing(promise)
    right, ours = [truth[k] for k in kept], [student[k] for k in kept]
    decided = [teacher[k] if question.is_answer(teacher[k]) else student[k] for k in kept]
    sure = np.array([student_confidence[k] for k in kept], dtype=np.float32)
    label = promised_of(promise.of, question)
    by_student, by_teacher = (_counted(answers, right, question, promise, label) for answers in (ours, decided))
    found = certified_share(sure, by_student, by_teacher, promise, _starts(promise))
    return _with_abstained(found, len(labelled) - len(kept))


def certified_labels(
    sure: NDArray[np.float32],
    student: NDArray,
    teacher: NDArray,
    truth: NDArray,
    promise: Promise,
    label: int | None = None,
) -> Guarantee | str:
    """As [`certified_threshold`] of ids of labels, -1 where there is none; `label` is that which the promise is of."""
    labelled = student != ABSTAIN
    kept = labelled & (truth != ABSTAIN)
    if not kept.any():
        return _nothing(promise)
    true, sides = truth[kept], list[Counted]()
    for decided in (student[kept], np.where(teacher == ABSTAIN, student, teacher)[kept]):
        counted = np.ones_like(true, dtype=bool)
        if label is not None:
            counted = true == label if promise.measure == "recall" else decided == label
        sides.append((counted, counted & (decided == true)))
    found = certified_share(sure[kept], sides[0], sides[1], promise, _starts(promise))
    return _with_abstained(found, int(labelled.sum() - kept.sum()))


def check_shares(target: float, confidence: float) -> None:
    """Raise a `ValueError` where one is no share."""
    if not (0 < target < 1 and 0 < confidence < 1):
        raise ValueError(f"target and confidence must lie between 0 and 1, got {target} and {confidence}.")


def _starts(promise: Promise) -> Sequence[int]:
    return STARTS if promise.against == "gold" else TOP


def _nothing(promise: Promise) -> str:
    whose = "a gold label" if promise.against == "gold" else f"a label of the {promise.against}"
    return f"No row has both {whose} and a student's label, so there is nothing to measure."


def _with_abstained(found: Guarantee | str, number: int) -> Guarantee | str:
    """What was found, with the number of rows without a label that counts; of gold nobody means a row without to count."""
    return found if isinstance(found, str) or found.against == "gold" else replace(found, n_abstained=number)


def _counted(answers: Sequence, truth: Sequence, question: Question, promise: Promise, label: int | None) -> Counted:
    """Which rows a promise is of where these answers stand, and which of them are right."""
    if label is None:
        return np.ones(len(truth), dtype=bool), question.right(answers, truth)
    said, true = question.holds(answers, label), question.holds(truth, label)
    return (true if promise.measure == "recall" else said), said & true
