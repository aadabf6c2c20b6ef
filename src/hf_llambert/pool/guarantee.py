"""Finds the confidence below which the teacher must be asked for a promise about the labels to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np
from datasets import Dataset

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import check_column
from hf_llambert.gold import GoldColumns, LabelMap, Reading, gold_answers, refuse_unknown_question
from hf_llambert.pool.promise import Against, Guarantee, Promise, promised_of
from hf_llambert.pool.thresholds import certified_labels, certified_threshold, check_shares
from hf_llambert.processes import process_state
from hf_llambert.progress import progress_bar
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts, why_unusable
from hf_llambert.training.labeler import Labeler

logger = get_logger(__name__)

_STEPS = 10


def calibrate_cascade(
    gold_data: Dataset,
    student_labeler: Labeler,
    llm_labeler: LLMLabeler,
    target: float,
    confidence: float = 0.95,
    *,
    against: Literal["gold", "teacher"] = "gold",
    of: str = "",
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

    **Against the teacher** no gold is needed. The promise is then that of all rows to which the teacher would give a label, the
    cascade's is the teacher's own on a share of at least `target`. It says nothing of whether the teacher is right. The teacher
    is asked about all rows. Those on which it abstains are left out and counted: the student's label stays on such rows.

    **Of one label**, `of="recall:LABEL"`: of the rows that gold (or the teacher) calls LABEL, the share that the cascade calls
    so. `of="precision:LABEL"`: of the rows that the cascade calls LABEL, the share that gold (or the teacher) calls so. Only
    such rows count, so a rare label needs many rows in all. Where several labels may hold, it is whether this one does.

    Args:
        gold_data (`Dataset`): Texts with people's labels; against the teacher a random draw of the pool, without labels.
        student_labeler (`StudentLabeler` or `StudentCascade`): The student, computing as it does on the pool. Of two the
            promise is about both and the teacher together, provided that no gold chose the threshold between them.
        llm_labeler (`LLMLabeler`): The teacher, with the calibration that the cascade will use.
        target (`float`): Least accuracy, agreement with the teacher, recall or precision.
        confidence (`float`, defaults to 0.95): Probability that the promise is kept.
        against (`str`, defaults to `"gold"`): Whose labels count as right, people's or those of the `teacher`.
        of (`str`, defaults to none): `recall:LABEL` or `precision:LABEL`. None: of all labels.
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
    student_labeler.check_task(task)
    if not task.is_plain or against == "teacher":  # what a teacher may yet say is bounded for one choice alone
        each = calibrate_questions(
            gold_data,
            student_labeler,
            llm_labeler,
            target,
            confidence,
            against=against,
            of=of,
            gold_column=gold_column,
            label_map=label_map,
            label_values=label_values,
            show_progress=show_progress,
        )
        return each[""]
    promise = Promise(target, confidence, _checked(against), of)
    label = promised_of(of, task.question)
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
    if promise.measure == "precision":
        worst[gold != label] = label
    elif promise.measure == "recall":  # others do not count
        order = order[gold[order] == label]
    check_shares(target, confidence)
    found = certified_labels(sure, student, best, gold, promise, label)
    if isinstance(found, str):
        raise ValueError(found)
    told: list[object] = []
    turn = asking_turn([llm_labeler]) if process_state().is_main_process else nullcontext()
    with turn, progress_bar("asking about gold", len(order), show_progress) as progress:
        for part in np.array_split(order, _STEPS):
            shown = [texts[i] for i in part.tolist()]
            best[part] = worst[part] = _answers(shown, llm_labeler)
            told += shown
            progress(len(part))
            found, least = (certified_labels(sure, student, said, gold, promise, label) for said in (best, worst))
            if isinstance(found, str) or found == least:
                break
    if not isinstance(found, str):
        return _with_price(found, told, llm_labeler)
    seen = np.isin(np.arange(len(gold)), order) & (best == worst)
    if seen.sum() < len(order):
        such = promise.rows() if promise.measure == "recall" else "gold rows"
        found = (
            f"The teacher was right about {int((best == gold)[seen].sum()):,} of the {int(seen.sum()):,} {such} asked about "
            f"so far. Even if it were right about the other {int(len(order) - seen.sum()):,}: {found}"
        )
    raise ValueError(found)


def calibrate_questions(
    gold_data: Dataset,
    student_labeler: Labeler,
    llm_labeler: LLMLabeler,
    target: float,
    confidence: float = 0.95,
    *,
    against: Literal["gold", "teacher"] = "gold",
    of: str | Mapping[str, str] = "",
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
    all of them are right. The teacher is asked about all rows.

    Args:
        gold_data (`Dataset`): Texts with people's answers, as [`calibrate_cascade`] needs them; against the teacher without.
        student_labeler (`StudentLabeler` or `StudentCascade`): The student.
        llm_labeler (`LLMLabeler`): The teacher, with the calibrations that the cascade will use.
        target (`float`): Least share of right answers, of each question.
        confidence (`float`, defaults to 0.95): Probability that all of the promise is kept.
        against (`str`, defaults to `"gold"`): Whose answers count as right, people's or those of the `teacher`.
        of (`str` or `Mapping[str, str]`, defaults to none): For some questions, by name, of which label the promise is, as
            [`calibrate_cascade`] takes it. Of the others it is of all answers.
        gold_column (`Mapping[str, str]`, *optional*): Columns of people's answers by question; see [`gold_columns`].
        label_map (`Mapping`, *optional*): See [`with_gold`].
        label_values (`Mapping`, *optional*): See [`with_gold`].
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Raises:
        ValueError: A question has no gold, or no threshold of it can be certified.
        RuntimeError: The teacher could not be asked about some rows.
    """
    check_shares(target, confidence)
    labeler, data = llm_labeler, gold_data
    task = labeler.task
    student_labeler.check_task(task)
    of_part = promises_of(of, task)
    gold: Mapping[str, Sequence] = {}
    if _checked(against) == "gold":
        gold = gold_answers(data, task, gold_column, label_map, label_values)
        if lacking := [name for name in task.parts if name not in gold]:
            raise ValueError(
                f"There is no gold of {', '.join(lacking)}, so nothing can be promised about it. Name its column."
            )
    check_column(data, labeler.text_column, "text_column")
    texts = row_texts(data, labeler.text_column)
    ours = student_labeler.label(texts)
    turn = asking_turn([labeler]) if process_state().is_main_process else nullcontext()
    rows = "gold" if against == "gold" else "rows of the pool"
    with turn, progress_bar(f"asking about {rows}", len(texts), show_progress) as progress:
        theirs = labeler.label(texts)
        progress(len(texts))
    found = {}
    for name, one in task.parts.items():
        begin = f"llm_{name}" if name else "llm"
        _refuse_failed(theirs[f"{begin}_status"], theirs[f"{begin}_reason"], rows.replace("gold", "gold rows"))
        of_student, end = f"student_{name}" if name else "student", one.question.answer_column
        said = theirs[f"{begin}_{end}"]
        certified = certified_threshold(
            ours[f"{of_student}_confidence"],
            ours[f"{of_student}_{end}"],
            said,
            said if against == "teacher" else gold[name],
            one.question,
            Promise(target, 1 - (1 - confidence) / len(task.parts), against, of_part[name]),
        )
        if isinstance(certified, str):
            raise ValueError(f"{name}: {certified}" if name else certified)
        found[name] = _with_price(certified, texts, labeler)
    return found


def promises_of(of: str | Mapping[str, str], task: TaskSpec) -> dict[str, str]:
    """
    What the promise about each question is of (see [`calibrate_cascade`]), by the names of [`TaskSpec.parts`].

    Raises:
        ValueError: A question or a label is unknown, or it is not said which of several questions is meant.
    """
    if isinstance(of, str):
        if of and len(task.parts) > 1:
            raise ValueError(
                f"Task '{task.name}' has several questions, and '{of}' says not of which one. Name it: "
                f"--guarantee_of {next(iter(task.parts))}={of} (a mapping in Python)."
            )
        of = dict.fromkeys(task.parts, of)
    for name in of:
        if name not in task.parts:
            refuse_unknown_question(name, task)
    out = {name: of.get(name, "") for name in task.parts}
    for name, one in task.parts.items():
        promised_of(out[name], one.question)
    return out


def check_labels(student: Sequence[str], labeler: LLMLabeler, part: str = "") -> None:
    """Refuse a student and a teacher that do not have the same labels in the same order."""
    labels = labeler.task.parts[part].labels
    if tuple(student) != labels:
        of = f" of '{part}'" if part else ""
        raise ValueError(
            f"The student has the labels {tuple(student)}{of}, task '{labeler.task.name}' has {labels}. Pass the "
            f"task that the student has learnt."
        )


def _checked(against: Against) -> Against:
    if against not in ("gold", "teacher"):
        raise ValueError(f"A cascade promises against gold or teacher, got against='{against}'.")
    return against


def _with_price(found: Guarantee, texts: list[object], labeler: LLMLabeler) -> Guarantee:
    """The same with what asking about the rows that it rests on took."""
    read, written = labeler.spent(texts)[1]
    told = {text for text in texts if isinstance(text, str) and why_unusable(text) is None}
    return replace(found, n_told=len(told), input_tokens=read, output_tokens=written)


def _answers(texts: list[object], labeler: LLMLabeler) -> list[int]:
    columns = labeler.label(texts)
    _refuse_failed(columns["llm_status"], columns["llm_reason"])
    return columns["llm_label"]


def _refuse_failed(status: list, reasons: list, rows: str = "gold rows") -> None:
    if failed := status.count("failed"):
        reason = next(r for r, s in zip(reasons, status, strict=True) if s == "failed")
        raise RuntimeError(
            f"The teacher could not be asked about {failed:,} {rows} ({reason}). What it answered is kept: run again. A text "
            f"that fails each time voids a promise: take it out."
        )
