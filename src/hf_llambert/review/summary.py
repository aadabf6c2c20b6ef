"""Figures of a review: how far reviewers agree, and how often teacher and student are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_llambert.intervals import wilson_interval
from hf_llambert.pool.labelled import run_student
from hf_llambert.review.answers import Answer
from hf_llambert.review.drawing import RANDOM, REASONS
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import Queue, QueueRow, annotated_rows, said_by_machines
from hf_llambert.review.queue_file import QUEUE_FILE
from hf_llambert.review.session import Review
from hf_llambert.review.standing_in import standing_in, standing_lines
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import row_texts

REVIEW_FOLDER = "review"


def review_summary(run: str | Path) -> dict | None:
    """
    What the people's answers in a run say.

    Only the rows drawn at random measure teacher and student; the others were chosen to be hard, and people are
    right less often there too. The student learnt from the teacher's labels of these very texts, so that its figure flatters
    it; held-out texts with gold labels (`--eval_data`) measure it better.

    Args:
        run (`str` or `Path`): Folder of the run, with `review`.

    Returns:
        `dict`: `None` when no review was begun; else `n_rows` of the queue, `n_answered` (labelled by someone), `n_ties`,
        `reviewers` (by name: `n_answered`, `n_skipped`, `last`), `agreement` (see below), `control` (`n` rows labelled of
        `n_drawn`; `teacher` and `student` with `accuracy`, 95 % Wilson interval `low` and `high`, and `n`, or `None`),
        `alternative` (whether the teacher may stand in for people, as [`alternative_annotator_test`] with `alpha` and `lacking`;
        `None` where nobody asked for it and fewer than two reviewers answered rows drawn at random),
        `n_teacher_overruled` and `n_student_overruled` (rows of all kinds on which people say otherwise; `None` for a student
        that was not there yet, or was another, which `left_out` says) and `reasons` (by reason: `n`, and those on which the
        teacher is overruled). Where `annotated` holds other labels of the queue's rows now than when it was made, what the
        teacher said is `None` too, and `other_labels` and `left_out` say so. The agreement has `n` rows that two or more
        labelled, `equal`, Cohen's `kappa` (two reviewers only) and Krippendorff's `alpha`. Of several questions: `n_rows`,
        `n_answered` (rows with an answer to any) and `questions` with all of the above for each by its name. Teacher and student
        are right with the same labels, all of them, or at most half a step from people's level of a scale; there they have
        `mae` too, the mean distance.

    Raises:
        OSError: Queue or answers are damaged.
    """
    folder = Path(run) / REVIEW_FOLDER
    if not (folder / QUEUE_FILE).is_file():
        return None
    return _of_now(Review(folder), Path(run))


def _of_now(review: Review, run: Path) -> dict:
    """The summary without what a student or teacher said whose labels the run holds no more."""
    summary, by, here = _summary(review), review.queue.student, run_student(run)
    parts, left_out = summary.get("questions", {"": summary}), []
    if by is not None and here is not None and by != here:
        for one in parts.values():
            one["control"]["student"] = one["n_student_overruled"] = None
        left_out.append(f"what the student said is left out: the queue has it of {by}, and 'student' holds {here}")
    for name, why in other_labels(review.queue, run).items():
        found = parts[name]
        found["alternative"] = found["control"]["teacher"] = found["n_teacher_overruled"] = None
        for one in found["reasons"].values():
            one["n_teacher_overruled"] = None
        found["other_labels"] = f"what the teacher said is left out: {why}"
        left_out.append(f"{name}: {found['other_labels']}" if name else found["other_labels"])
    if left_out:
        summary["left_out"] = "; ".join(left_out)
    return summary


def other_labels(queue: Queue, run: Path) -> dict[str, str]:
    """
    Why what the queue has of the teacher is not what `annotated` holds now, or cannot be compared with that, by the name of the
    question. Nothing where it is the same, or where `annotated` is not there to tell.
    """
    if not (run / "annotated").exists():
        return {}
    try:
        annotated, task, column = annotated_rows(run)
    except (OSError, ValueError) as error:
        return dict.fromkeys(queue.task.parts, f"'annotated' cannot be read: {error}")
    rows, texts = queue.rows, row_texts(annotated, column)
    if any(row.row >= len(texts) or texts[row.row] != row.text for row in rows):
        return dict.fromkeys(queue.task.parts, "'annotated' does not hold the rows that the queue was made of")
    out = {}
    for name, one in queue.task.parts.items():
        asked, now = one.question, task.parts.get(name)
        if now is None or (now.question.kind, *now.question.labels) != (asked.kind, *asked.labels):
            out[name] = "'annotated' answers another question than the queue was made of"
            continue
        said = said_by_machines(annotated, None, task, name)
        if n := sum(said[row.row]["teacher"] != row.part(name).teacher for row in rows):
            out[name] = (
                f"'annotated' holds other labels than the queue, of {n:,} of its {len(rows):,} rows; move the folder 'review' "
                f"away and make another (hf-llambert review)"
            )
    return out


def _summary(review: Review) -> dict:
    found = {name: _part_summary(review, name) for name in review.queue.task.parts}
    if "" in found:
        return found[""]
    answered = {place for name in found for place in review.labels(name)}
    return {"n_rows": len(review.queue.rows), "n_answered": len(answered), "questions": found}


def _part_summary(review: Review, name: str) -> dict:
    """The summary of one question."""
    queue = review.queue.part(name)
    question = queue.task.question
    answers, labels, rows = review.answers(name), review.labels(name), queue.rows
    agreed = [(rows[place], label) for place, label in labels.items() if question.is_answer(label)]
    control = [(row, label) for row, label in agreed if row.reason in RANDOM]
    has_student = any(question.is_answer(row.student) for row in rows)
    return {
        "n_rows": len(rows),
        "n_answered": len(labels),
        "n_ties": len(labels) - len(agreed),
        "reviewers": {name: _reviewer(given, question) for name, given in answers.items()},
        "agreement": agreement(answers, question),
        "control": {
            "n": len(control),
            "n_drawn": sum(row.reason in RANDOM for row in rows),
            "teacher": _right(control, "teacher", question),
            "student": _right(control, "student", question),
        },
        "alternative": standing_in(queue, answers),
        "n_teacher_overruled": _overruled(agreed, "teacher", question),
        "n_student_overruled": _overruled(agreed, "student", question) if has_student else None,
        "reasons": {
            reason: {"n": len(those), "n_teacher_overruled": _overruled(those, "teacher", question)}
            for reason in REASONS
            if (those := [(row, label) for row, label in agreed if row.reason == reason])
        },
    }


def review_lines(review: Review) -> list[str]:
    """What a review says, in sentences."""
    return summary_lines(_of_now(review, review.folder.parent))


def summary_lines(summary: Mapping) -> list[str]:
    """What [`review_summary`] found, in sentences."""
    if "questions" not in summary:
        lines = _lines(summary)
    else:
        lines = [f"{summary['n_answered']:,} of {summary['n_rows']:,} rows have an answer"]
        for name, found in summary["questions"].items():
            lines += [f"{name}: {line}" for line in _lines(found)]
    return [*lines, *([summary["left_out"]] if "left_out" in summary else [])]


def _lines(summary: Mapping) -> list[str]:
    """What was found about one question, in sentences."""
    lines = [f"{summary['n_answered']:,} of {summary['n_rows']:,} rows labelled"]
    for name, given in summary["reviewers"].items():
        lines.append(f"{name}: {given['n_answered']:,} labelled, {given['n_skipped']:,} skipped")
    agreed, control = summary["agreement"], summary["control"]
    if agreed is not None:
        measures = [("Cohen's kappa", agreed["kappa"]), ("Krippendorff's alpha", agreed["alpha"])]
        shown = "".join(f", {name} {value:.2f}" for name, value in measures if value is not None)
        lines.append(
            f"reviewers agree on {agreed['equal']:.0%} of the {agreed['n']:,} rows that two or more labelled{shown}; "
            f"{summary['n_ties']:,} ties"
        )
        if each := [f"{name} {value:.2f}" for name, value in agreed.get("labels", {}).items() if value is not None]:
            lines.append(f"Krippendorff's alpha by label: {', '.join(each)}")
    for name in ("teacher", "student"):
        if control[name] is not None:
            part = control[name]
            more = f", {part['mae']:.2f} off in the mean" if "mae" in part else ""
            lines.append(
                f"{name} right on {part['accuracy']:.0%} of the {part['n']:,} rows drawn at random (95 % interval "
                f"{part['low']:.0%} to {part['high']:.0%}{more}"
                + ("; it learnt from these texts)" if name == "student" else ")")
            )
    if summary.get("alternative"):
        lines += standing_lines(summary["alternative"])
    counts = {who: summary[f"n_{who}_overruled"] for who in ("teacher", "student")}
    said = [f"the {who} on {n:,}{' rows of all' * (not k)}" for k, (who, n) in enumerate(_known(counts).items())]
    return [*lines, *([f"people overrule {', '.join(said)}"] if said else [])]


def _known(counts: Mapping[str, int | None]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if n is not None}


def agreement(answers: Mapping[str, Mapping[int, Answer]], question: Question) -> dict | None:
    """
    How far reviewers agree, on the rows that two or more of them answered.

    Returns:
        `dict`: `n` rows, `equal` (share of pairs of answers that are equal, rows alike), `kappa` (Cohen's, only for
        two reviewers and one of the labels), `alpha` (Krippendorff's, any number of reviewers: for names; for sets of labels
        by Jaccard's distance, and `labels` has the alpha of each; for levels by the square of their difference). kappa and
        alpha are `None` where only one answer was ever given. `None` when no row has two answers.
    """
    given = {
        name: {place: answer.label for place, answer in those.items() if question.is_answer(answer.label)}
        for name, those in answers.items()
    }
    given = {name: those for name, those in given.items() if those}
    units = [[those[place] for those in given.values() if place in those] for place in _places(given)]
    shared = [unit for unit in units if len(unit) > 1]
    if not shared:
        return None
    kind = reviewed(question)
    kappa = kind.kappa(shared) if len(given) == 2 else None
    found = {"n": len(shared), "equal": _equal(shared), "kappa": kappa, "alpha": kind.alpha(question, shared)}
    by_label = kind.alphas(question, shared)
    return {**found, "labels": by_label} if by_label else found


def _places(given: Mapping[str, Mapping]) -> list[int]:
    return sorted({place for those in given.values() for place in those})


def _equal(units: Sequence[Sequence]) -> float:
    """Share of equal pairs within a row, averaged over rows."""
    shares = []
    for unit in units:
        pairs = len(unit) * (len(unit) - 1)
        counts = Counter(tuple(answer) if isinstance(answer, list) else answer for answer in unit)
        shares.append(sum(count * (count - 1) for count in counts.values()) / pairs)
    return float(np.mean(shares))


def _reviewer(given: Mapping[int, Answer], question: Question) -> dict:
    labelled = sum(question.is_answer(answer.label) for answer in given.values())
    return {
        "n_answered": labelled,
        "n_skipped": len(given) - labelled,
        "last": max((answer.at for answer in given.values()), default=None),
    }


def _right(rows: Sequence[tuple[QueueRow, object]], who: str, question: Question) -> dict | None:
    """Accuracy with its 95 % Wilson interval, on the rows that the machine gave an answer."""
    known = [(getattr(row, who), label) for row, label in rows if question.is_answer(getattr(row, who))]
    if not known:
        return None
    kind = reviewed(question)
    right = sum(not question.apart(theirs, label) for theirs, label in known)
    low, high = wilson_interval(right, len(known))
    return {"accuracy": right / len(known), "low": low, "high": high, "n": len(known), **kind.errors(known)}


def _overruled(rows: Sequence[tuple[QueueRow, object]], who: str, question: Question) -> int:
    known = [(getattr(row, who), label) for row, label in rows if question.is_answer(getattr(row, who))]
    return sum(bool(question.apart(theirs, label)) for theirs, label in known)
