"""Which annotated rows become training data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike

from hf_llambert.annotation.calibration import Calibration
from hf_llambert.data import content_hash
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec

logger = get_logger(__name__)


def select_silver(
    annotated: Dataset,
    task: TaskSpec,
    *,
    calibration: Calibration | None = None,
    others: Sequence[Dataset] = (),
    min_agreement: float = 1.0,
    min_confidence: float = 0.0,
    keep_share: float = 1.0,
    balance: bool = False,
) -> tuple[Dataset, list[dict]]:
    """
    The rows to learn from, with a `label` column, and how many each rule left.

    The rules are applied in this order: usable label, agreement, confidence, share, balance. Rows keep their order.

    Args:
        annotated (`Dataset`): With the columns of [`LLMLabeler`].
        task (`TaskSpec`): The task that it was annotated for.
        calibration (`Calibration`, *optional*): Adds the column `probabilities`, the calibrated distribution of each row,
            for soft targets. Pass the one that gave `llm_label`; a row without scores gets all on its label.
        others (`Sequence[Dataset]`, *optional*): The same rows annotated by other teachers.
        min_agreement (`float`, defaults to 1): With `others`: the least share of all teachers, this one included, that
            gave the row's label. One that abstained did not.
        min_confidence (`float`, defaults to 0): The least `llm_confidence`. A row without one is dropped if this is set.
        keep_share (`float`, defaults to 1): Share of the rows of each label to keep, the most confident first.
        balance (`bool`, defaults to `False`): Keep as many rows of each label as the rarest has, the most confident
            first.

    Returns:
        `tuple[Dataset, list[dict]]`: The silver rows; `label` is the teacher's label, a gold `label` column becomes
        `gold_label`. And for each rule `{"rule", "n", "per_label"}`.

    Raises:
        ValueError: A missing column, other rows in `others`, a share outside 0 to 1, or fewer than two labels left.
    """
    for name, share in (("min_agreement", min_agreement), ("min_confidence", min_confidence)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {share}.")
    if not 0 < keep_share <= 1:
        raise ValueError(f"keep_share must be above 0 and at most 1, got {keep_share}.")
    _check_annotated([annotated, *others], task, with_probabilities=calibration is not None)
    labels = np.array(annotated["llm_label"][:])
    confidence = np.array([-1.0 if c is None else c for c in annotated["llm_confidence"]])
    ok = np.array([status == "ok" for status in annotated["llm_status"]], dtype=bool)
    if (keep_share < 1 or balance) and (confidence[ok] < 0).any():
        raise ValueError(
            "keep_share and balance keep the surest rows, but some usable rows have no llm_confidence. Annotate in score mode."
        )
    kept = np.flatnonzero(ok)
    counts = [{"rule": "annotated", "n": len(labels), "per_label": _per_label(labels[ok], task)}]

    def note(rule: str) -> None:
        counts.append({"rule": rule, "n": len(kept), "per_label": _per_label(labels[kept], task)})

    note("usable label")
    if others:
        kept = kept[_share_of_teachers(annotated, others)[kept] >= min_agreement]
        note(f"agreement of at least {min_agreement:.0%} of {len(others) + 1} teachers")
    if min_confidence:
        kept = kept[confidence[kept] >= min_confidence]
        note(f"confidence of at least {min_confidence:g}")
    if keep_share < 1:
        rooms = {i: math.ceil(round(keep_share * int((labels[kept] == i).sum()), 9)) for i in range(task.num_labels)}
        kept = surest_rows(kept, labels, confidence, rooms)
        note(f"surest {keep_share:.0%} of each label")
    if balance and len(kept):
        rarest = min(int((labels[kept] == i).sum()) for i in set(labels[kept].tolist()))
        kept = surest_rows(kept, labels, confidence, dict.fromkeys(range(task.num_labels), rarest))
        note("as many of each label")
    logger.info("silver: %s", counts)
    if len(set(labels[kept].tolist())) < 2:
        status = dict(Counter(annotated["llm_status"]))
        raise ValueError(
            f"A student needs at least two labels to tell apart, but of {len(annotated)} annotated rows ({status}) "
            f"the usable labels are {counts[-1]['per_label']} after {counts[-1]['rule']}. Annotate more rows, calibrate "
            f"the scores (batch), check the verbalizers, or select less strictly."
        )
    silver = annotated.select(kept.tolist())
    if "label" in silver.column_names:
        silver = silver.rename_column("label", "gold_label")
    silver = silver.add_column("label", silver["llm_label"][:], feature=annotated.features["llm_label"])
    if calibration is not None:
        silver = silver.add_column("probabilities", _probabilities(silver, calibration, task))
    return silver, counts


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


def _check_annotated(datasets: Sequence[Dataset], task: TaskSpec, with_probabilities: bool) -> None:
    for data in datasets:
        missing = {"llm_label", "llm_status", "llm_confidence"} - set(data.column_names)
        if missing:
            raise ValueError(
                f"Columns {sorted(missing)} not found in {data.column_names}. Pass a dataset annotated by LLMLabeler."
            )
        names = getattr(data.features["llm_label"], "names", None)
        if names is not None and tuple(names) != task.labels:
            raise ValueError(f"The dataset was annotated with labels {names}, the task has {list(task.labels)}.")
    columns = set(datasets[0].column_names)
    taken = {"gold_label"} & columns if "label" in columns else set()
    taken |= {"probabilities"} & columns if with_probabilities else set()
    if taken:
        raise ValueError(f"Columns {sorted(taken)} would be written over. Rename or remove them first.")


def _per_label(labels: np.ndarray, task: TaskSpec) -> dict[str, int]:
    return {name: int((labels == i).sum()) for i, name in task.id2label.items()}


def _share_of_teachers(annotated: Dataset, others: Sequence[Dataset]) -> np.ndarray:
    """Share of the teachers that gave each row's label."""
    labels = np.array(annotated["llm_label"][:])
    agree = np.ones(len(labels))
    own = [name for name in annotated.column_names if not name.startswith("llm_")]
    rows = content_hash(annotated.select_columns(own))
    for other in others:
        if not {*own, "llm_label"} <= set(other.column_names) or content_hash(other.select_columns(own)) != rows:
            raise ValueError(
                f"Expected the other teachers' datasets to have the same {len(labels):,} rows in the same order in columns "
                f"{own}. Annotate the same data with each teacher."
            )
        agree += np.array(other["llm_label"][:]) == labels
    return agree / (len(others) + 1)


def surest_rows(kept: np.ndarray, labels: np.ndarray, confidence: np.ndarray, rooms: dict[int, int]) -> np.ndarray:
    """The `rooms[label]` most confident rows of each label, in their old order; the earlier of equals."""
    chosen: list[int] = []
    for label, room in rooms.items():
        rows = kept[labels[kept] == label]
        chosen += rows[np.argsort(-confidence[rows], kind="stable")][:room].tolist()
    return np.array(sorted(chosen), dtype=int)


def _probabilities(silver: Dataset, calibration: Calibration, task: TaskSpec) -> list[list[float]]:
    out = np.eye(task.num_labels)[silver["label"][:]]
    scores = silver["llm_scores"][:] if "llm_scores" in silver.column_names else []
    rows = [i for i, row in enumerate(scores) if row is not None]
    if rows:
        out[rows] = calibration.probabilities([scores[i] for i in rows])
    return out.tolist()
