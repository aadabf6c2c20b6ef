"""Which annotated rows become training data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike

from hf_llambert.annotation.asked import calibrations_of, prefix
from hf_llambert.annotation.calibration import Calibration
from hf_llambert.data import content_hash
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import GOLD, part_of
from hf_llambert.tasks.spec import TaskSpec

logger = get_logger(__name__)


def select_silver(
    annotated: Dataset,
    task: TaskSpec,
    *,
    calibration: Calibration | Mapping[str, Calibration] | None = None,
    others: Sequence[Dataset] = (),
    min_agreement: float = 1.0,
    min_confidence: float = 0.0,
    keep_share: float = 1.0,
    balance: bool = False,
) -> tuple[Dataset, list[dict]]:
    """
    The rows to learn from, with a `label` column, and how many each rule left.

    The rules are applied in this order: usable label, agreement, confidence, share, balance. Rows keep their order. Of several
    questions each has a column of its name, with an answer in the rows that the rules left it; a row stays that any has.

    Args:
        annotated (`Dataset`): With the columns of [`LLMLabeler`].
        task (`TaskSpec`): The task that it was annotated for.
        calibration (`Calibration` or `Mapping[str, Calibration]`, *optional*): Adds the column `probabilities`, the calibrated
            distribution of each row, for soft targets; of several questions `NAME_probabilities`. Pass what gave `llm_label`
            ([`saved_calibration`]); a row without scores gets all on its label.
        others (`Sequence[Dataset]`, *optional*): The same rows annotated by other teachers.
        min_agreement (`float`, defaults to 1): With `others`: the least share of all teachers, this one included, that
            gave the row's label. One that abstained did not.
        min_confidence (`float`, defaults to 0): The least `llm_confidence`. A row without one is dropped if this is set.
        keep_share (`float`, defaults to 1): Share of the rows of each label to keep, the most confident first.
        balance (`bool`, defaults to `False`): Keep as many rows of each label as the rarest has, the most confident
            first.

    Returns:
        `tuple[Dataset, list[dict]]`: The silver rows; `label` is the teacher's label, a gold `label` column becomes
        `gold_label`. And for each rule `{"rule", "n", "per_label"}`, of several questions with its `question`.

    Raises:
        ValueError: A missing column, other rows in `others`, a share outside 0 to 1, or fewer than two labels left.
    """
    for name, share in (("min_agreement", min_agreement), ("min_confidence", min_confidence)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {share}.")
    if not 0 < keep_share <= 1:
        raise ValueError(f"keep_share must be above 0 and at most 1, got {keep_share}.")
    calibrations = calibrations_of(task, calibration) if calibration is not None else {}
    kept: dict[str, np.ndarray] = {}
    counts: list[dict] = []
    for name, one in task.parts.items():
        part = part_of(annotated, task, name)
        rules = _Rules(part, one, name)
        kept[name] = rules.kept(
            [part_of(other, task, name) for other in others], min_agreement, min_confidence, keep_share, balance
        )
        counts += rules.counts
    logger.info("silver: %s", counts)
    return _silver(annotated, task, kept, calibrations), counts


def _silver(
    annotated: Dataset, task: TaskSpec, kept: dict[str, np.ndarray], calibrations: Mapping[str, Calibration]
) -> Dataset:
    """The rows that are kept for any question, with its answers where they are kept for it."""
    rows = sorted({int(row) for of_part in kept.values() for row in of_part})
    silver = annotated.select(rows)
    for name, one in task.parts.items():
        question, target = one.question, name or GOLD
        taken = {f"gold_{target}"} & set(silver.column_names) if target in silver.column_names else set()
        probabilities = f"{name}_probabilities" if name else "probabilities"
        taken |= {probabilities} & set(silver.column_names) if calibrations else set()
        if taken:
            raise ValueError(f"Columns {sorted(taken)} would be written over. Rename or remove them first.")
        if target in silver.column_names:
            silver = silver.rename_column(target, f"gold_{target}")
        column = f"{prefix(name)}_{question.answer_column}"
        chosen = set(kept[name].tolist())
        answers = [
            answer if row in chosen else question.missing for row, answer in zip(rows, silver[column], strict=True)
        ]
        silver = silver.add_column(target, answers, feature=annotated.features[column])
        if calibrations:
            given = _probabilities(part_of(silver, task, name, ["llm"]), answers, calibrations[name], one)
            silver = silver.add_column(probabilities, given)
    return silver


_CALIBRATE = {
    "choice": "calibrate the scores (batch)",
    "choices": "say what share of texts each label has, so that its scores are calibrated (--prior; docs/questions.md)",
    "scale": "calibrate the scores (batch)",
}


class _Rules:
    """The rules of [`select_silver`] applied to one question, in their order; each is counted."""

    def __init__(self, annotated: Dataset, task: TaskSpec, name: str) -> None:
        _check_annotated([annotated], task)
        self.annotated, self.task, self.name = annotated, task, name
        self.answers = annotated[f"llm_{task.question.answer_column}"][:]
        self.ok = np.array([status == "ok" for status in annotated["llm_status"]], dtype=bool)
        self.counts: list[dict] = []
        self._note("annotated", np.flatnonzero(self.ok), len(self.answers))

    def kept(
        self, others: Sequence[Dataset], min_agreement: float, min_confidence: float, keep_share: float, balance: bool
    ) -> np.ndarray:
        """The rows that are left."""
        _check_annotated(others, self.task)
        confidence = np.array([-1.0 if c is None else c for c in self.annotated["llm_confidence"]])
        if (keep_share < 1 or balance) and (confidence[self.ok] < 0).any():
            raise ValueError(
                "keep_share and balance keep the surest rows, but some usable rows have no llm_confidence. Annotate in score "
                "mode."
            )
        kept = np.flatnonzero(self.ok)
        self._note("usable label", kept)
        if others:
            kept = kept[_share_of_teachers(self.annotated, others, self.task)[kept] >= min_agreement]
            self._note(f"agreement of at least {min_agreement:.0%} of {len(others) + 1} teachers", kept)
        if min_confidence:
            kept = kept[confidence[kept] >= min_confidence]
            self._note(f"confidence of at least {min_confidence:g}", kept)
        if keep_share < 1 or balance:
            kept = self._surest(kept, confidence, keep_share, balance)
        self._check(kept)
        return kept

    def _surest(self, kept: np.ndarray, confidence: np.ndarray, keep_share: float, balance: bool) -> np.ndarray:
        if "label" not in self.task.question.own_features():
            raise ValueError(
                f"keep_share and balance take rows label by label, and several may hold in '{self.task.question.name}'. Select "
                f"by min_confidence."
            )
        labels = np.array(self.annotated["llm_label"][:])
        if keep_share < 1:
            counted = {i: int((labels[kept] == i).sum()) for i in range(self.task.num_labels)}
            rooms = {i: math.ceil(round(keep_share * count, 9)) for i, count in counted.items()}
            kept = surest_rows(kept, labels, confidence, rooms)
            self._note(f"surest {keep_share:.0%} of each label", kept)
        if balance and len(kept):
            rarest = min(int((labels[kept] == i).sum()) for i in set(labels[kept].tolist()))
            kept = surest_rows(kept, labels, confidence, dict.fromkeys(range(self.task.num_labels), rarest))
            self._note("as many of each label", kept)
        return kept

    def _note(self, rule: str, rows: np.ndarray, n: int | None = None) -> None:
        named = Counter(name for row in rows for name in self.task.question.named(self.answers[row]))
        per_label = {label: named[label] for label in self.task.labels}
        of_question = {"question": self.name} if self.name else {}
        self.counts.append({**of_question, "rule": rule, "n": len(rows) if n is None else n, "per_label": per_label})

    def _check(self, kept: np.ndarray) -> None:
        question, last = self.task.question, self.counts[-1]
        answers = [self.answers[row] for row in kept]
        if any(answer != answers[0] for answer in answers):
            return
        status = dict(Counter(self.annotated["llm_status"]))
        where = f" for '{question.name}'" if self.name else ""
        raise ValueError(
            f"A student needs at least two labels to tell apart{where}, but of {len(self.annotated)} annotated rows ({status}) "
            f"the usable labels are {last['per_label']} after {last['rule']}. Annotate more rows, {_CALIBRATE[question.kind]}, "
            f"check the verbalizers, or select less strictly."
            + (" Annotating again asks about those that failed." if status.get("failed") else "")
        )


def drop_label_errors(silver: Dataset, task: TaskSpec, probabilities: ArrayLike) -> tuple[Dataset, dict]:
    """
    Drop the rows whose label is likely wrong, by confident learning (Northcutt et al. 2021, arXiv 1911.00068; cleanlab).

    Args:
        silver (`Dataset`): Rows with a `label`.
        task (`TaskSpec`): The labels.
        probabilities (`ArrayLike` of shape (rows, labels)): Probabilities by students that were not trained on the
            row; see [`out_of_fold`].

    Returns:
        `tuple[Dataset, dict]`: The rows left, and the count as in [`select_silver`].

    Raises:
        ImportError: cleanlab is not installed.
        ValueError: Not one row of probabilities for each row of `silver`.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError("Finding label errors needs cleanlab: pip install 'hf-llambert[noise]'.") from error
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(silver), task.num_labels):
        raise ValueError(f"Expected probabilities of shape {(len(silver), task.num_labels)}, got {p.shape}.")
    if not np.isfinite(p).all():
        raise ValueError(
            "Some probabilities are not numbers: a training of the folds' students diverged. Lower the learning rate."
        )
    labels = np.array(silver["label"][:])
    suspect = find_label_issues(labels, p, n_jobs=1)
    left = silver.select(np.flatnonzero(~suspect).tolist())
    return left, {"rule": "no likely label error", "n": len(left), "per_label": _per_label(labels[~suspect], task)}


def _check_annotated(datasets: Sequence[Dataset], task: TaskSpec) -> None:
    question = task.question
    own = [f"llm_{end}" for end in (*question.own_features(), "status", "confidence")]
    for data in datasets:
        if missing := set(own) - set(data.column_names):
            raise ValueError(
                f"Columns {sorted(missing)} not found in {data.column_names}. Pass a dataset annotated by LLMLabeler."
            )
        feature = data.features[own[0]]
        names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
        if names is not None and tuple(names) != task.labels:
            raise ValueError(f"The dataset was annotated with labels {names}, the task has {list(task.labels)}.")


def _per_label(labels: np.ndarray, task: TaskSpec) -> dict[str, int]:
    return {name: int((labels == i).sum()) for i, name in task.id2label.items()}


def _share_of_teachers(annotated: Dataset, others: Sequence[Dataset], task: TaskSpec) -> np.ndarray:
    """Share of the teachers that gave each row's answer; of a scale, one that is at most half a step from it."""
    question, column = task.question, f"llm_{task.question.answer_column}"
    answers = annotated[column][:]
    agree = np.ones(len(answers))
    own = [name for name in annotated.column_names if not name.startswith("llm_")]
    rows = content_hash(annotated.select_columns(own))
    for other in others:
        if not {*own, column} <= set(other.column_names) or content_hash(other.select_columns(own)) != rows:
            raise ValueError(
                f"Expected the other teachers' datasets to have the same {len(answers):,} rows in the same order in columns "
                f"{own}. Annotate the same data with each teacher."
            )
        theirs = other[column][:]
        both = [i for i in range(len(answers)) if question.is_answer(answers[i]) and question.is_answer(theirs[i])]
        if both:
            agree[both] += question.right([theirs[i] for i in both], [answers[i] for i in both])
    return agree / (len(others) + 1)


def surest_rows(kept: np.ndarray, labels: np.ndarray, confidence: np.ndarray, rooms: dict[int, int]) -> np.ndarray:
    """The `rooms[label]` most confident rows of each label, in their old order; the earlier of equals."""
    chosen: list[int] = []
    for label, room in rooms.items():
        rows = kept[labels[kept] == label]
        chosen += rows[np.argsort(-confidence[rows], kind="stable")][:room].tolist()
    return np.array(sorted(chosen), dtype=int)


def _probabilities(
    silver: Dataset, answers: Sequence, calibration: Calibration, task: TaskSpec
) -> list[list[float] | None]:
    """The calibrated distribution of each row with an answer; without scores all on the answer."""
    out = task.question.targets(answers)
    there = np.asarray(~np.isnan(out).any(1))
    scores = silver["llm_scores"][:] if "llm_scores" in silver.column_names else []
    rows = [i for i, row in enumerate(scores) if row is not None and there[i]]
    if rows:
        out[rows] = calibration.probabilities([scores[i] for i in rows])
    return [row.tolist() if known else None for row, known in zip(out, there, strict=True)]
