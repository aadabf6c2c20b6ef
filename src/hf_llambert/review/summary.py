"""Figures of a review: how far reviewers agree, and how often teacher and student are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_llambert.intervals import wilson_interval
from hf_llambert.pool.labelled import run_student
from hf_llambert.review.answers import Answer
from hf_llambert.review.queue import CONTROL, QUEUE_FILE, REASONS, QueueRow
from hf_llambert.review.session import Review
from hf_llambert.tasks.questions import ABSTAIN

REVIEW_FOLDER = "review"


def review_summary(run: str | Path) -> dict | None:
    """
    What the people's answers in a run say.

    Only the control rows, drawn at random, measure teacher and student; the others were chosen to be hard, and people are
    right less often there too. The student learnt from the teacher's labels of these very texts, so that its figure flatters
    it; held-out texts with gold labels (`--eval_data`) measure it better.

    Args:
        run (`str` or `Path`): Folder of the run, with `review`.

    Returns:
        `dict`: `None` when no review was begun; else `n_rows` of the queue, `n_answered` (labelled by someone), `n_ties`,
        `reviewers` (by name: `n_answered`, `n_skipped`, `last`), `agreement` (see below), `control` (`n` rows labelled of
        `n_drawn`; `teacher` and `student` with `accuracy`, 95 % Wilson interval `low` and `high`, and `n`, or `None`),
        `n_teacher_overruled` and `n_student_overruled` (rows of all kinds on which people say otherwise; `None` for a student
        that was not there yet, or was another, which `left_out` says) and `reasons` (by reason: `n`, and those on which the
        teacher is overruled). The agreement has `n` rows that two or more labelled, `equal`, Cohen's `kappa` (two reviewers
        only) and Krippendorff's `alpha`.

    Raises:
        OSError: Queue or answers are damaged.
    """
    folder = Path(run) / REVIEW_FOLDER
    if not (folder / QUEUE_FILE).is_file():
        return None
    review = Review(folder)
    summary, by, here = _summary(review), review.queue.student, run_student(Path(run))
    if by is not None and here is not None and by != here:
        summary["control"]["student"] = summary["n_student_overruled"] = None
        summary["left_out"] = (
            f"what the student said is left out: the queue has it of {by}, and 'student' holds {here}"
        )
    return summary


def _summary(review: Review) -> dict:
    answers, labels, rows = review.answers(), review.labels(), review.queue.rows
    agreed = [(rows[place], label) for place, label in labels.items() if label != ABSTAIN]
    control = [(row, label) for row, label in agreed if row.reason == CONTROL]
    return {
        "n_rows": len(rows),
        "n_answered": len(labels),
        "n_ties": len(labels) - len(agreed),
        "reviewers": {name: _reviewer(given) for name, given in answers.items()},
        "agreement": agreement(answers, review.queue.task.num_labels),
        "control": {
            "n": len(control),
            "n_drawn": sum(row.reason == CONTROL for row in rows),
            "teacher": _right(control, "teacher"),
            "student": _right(control, "student"),
        },
        "n_teacher_overruled": _overruled(agreed, "teacher"),
        "n_student_overruled": _overruled(agreed, "student") if any(row.student != ABSTAIN for row in rows) else None,
        "reasons": {
            reason: {"n": len(those), "n_teacher_overruled": _overruled(those, "teacher")}
            for reason in REASONS
            if (those := [(row, label) for row, label in agreed if row.reason == reason])
        },
    }


def review_lines(review: Review) -> list[str]:
    """What a review says, in sentences."""
    return summary_lines(_summary(review))


def summary_lines(summary: Mapping) -> list[str]:
    """What [`review_summary`] found, in sentences."""
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
    for name in ("teacher", "student"):
        if control[name] is not None:
            part = control[name]
            lines.append(
                f"{name} right on {part['accuracy']:.0%} of the {part['n']:,} rows drawn at random (95 % interval "
                f"{part['low']:.0%} to {part['high']:.0%}"
                + ("; it learnt from these texts)" if name == "student" else ")")
            )
    said = f"people overrule the teacher on {summary['n_teacher_overruled']:,} rows of all"
    if summary["n_student_overruled"] is not None:
        said += f", the student on {summary['n_student_overruled']:,}"
    return [*lines, said, *([summary["left_out"]] if "left_out" in summary else [])]


def agreement(answers: Mapping[str, Mapping[int, Answer]], num_labels: int) -> dict | None:
    """
    How far reviewers agree, on the rows that two or more of them labelled.

    Returns:
        `dict`: `n` rows, `equal` (share of pairs of labels that are equal, rows alike), `kappa` (Cohen's, only for
        two reviewers), `alpha` (Krippendorff's for names, any number of reviewers). kappa and alpha are `None` where only
        one label was ever given. `None` when no row has two labels.
    """
    given = {
        name: {place: answer.label for place, answer in those.items() if answer.label != ABSTAIN}
        for name, those in answers.items()
    }
    given = {name: those for name, those in given.items() if those}
    units = [[those[place] for those in given.values() if place in those] for place in _places(given)]
    shared = [unit for unit in units if len(unit) > 1]
    if not shared:
        return None
    kappa = None
    if len(given) == 2:
        from sklearn.metrics import cohen_kappa_score

        first, second = zip(*shared, strict=True)
        if len({*first, *second}) > 1:
            kappa = float(cohen_kappa_score(first, second))
    alpha = krippendorff_alpha(shared, num_labels)
    return {"n": len(shared), "equal": _equal(shared), "kappa": kappa, "alpha": alpha}


def krippendorff_alpha(units: Sequence[Sequence[int]], num_labels: int) -> float | None:
    """
    Krippendorff's alpha for names (nominal data): 1 is full agreement, 0 what chance would give.

    Args:
        units (`Sequence[Sequence[int]]`): The labels that each row was given, by however many reviewers.
        num_labels (`int`): Labels of the task; ids are below it.

    Returns:
        `float`: By the coincidence matrix of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability".
        `None` where it is not defined: only one label in all rows with two or more.
    """
    coincidences = np.zeros((num_labels, num_labels))
    for unit in units:
        if len(unit) > 1:
            counts = np.bincount(unit, minlength=num_labels).astype(float)
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(axis=0)
    n = totals.sum()
    by_chance = n**2 - (totals**2).sum()
    if not by_chance:
        return None
    return float(1 - (n - 1) * (n - np.trace(coincidences)) / by_chance)


def _places(given: Mapping[str, Mapping[int, int]]) -> list[int]:
    return sorted({place for those in given.values() for place in those})


def _equal(units: Sequence[Sequence[int]]) -> float:
    """Share of equal pairs within a row, averaged over rows."""
    shares = []
    for unit in units:
        pairs = len(unit) * (len(unit) - 1)
        shares.append(sum(count * (count - 1) for count in Counter(unit).values()) / pairs)
    return float(np.mean(shares))


def _reviewer(given: Mapping[int, Answer]) -> dict:
    labelled = sum(answer.label != ABSTAIN for answer in given.values())
    return {
        "n_answered": labelled,
        "n_skipped": len(given) - labelled,
        "last": max((answer.at for answer in given.values()), default=None),
    }


def _right(rows: Sequence[tuple[QueueRow, int]], who: str) -> dict | None:
    """Accuracy with its 95 % Wilson interval, on the rows that the machine gave a label."""
    known = [(getattr(row, who), label) for row, label in rows if getattr(row, who) != ABSTAIN]
    if not known:
        return None
    right = sum(theirs == label for theirs, label in known)
    low, high = wilson_interval(right, len(known))
    return {"accuracy": right / len(known), "low": low, "high": high, "n": len(known)}


def _overruled(rows: Sequence[tuple[QueueRow, int]], who: str) -> int:
    return sum(getattr(row, who) not in (ABSTAIN, label) for row, label in rows)
