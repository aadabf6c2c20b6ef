"""What share of texts each label is believed to have, for the calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hf_llambert.annotation.calibration import check_prior
from hf_llambert.gold import refuse_unknown_question
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec

logger = get_logger(__name__)

Prior = Mapping[str, float] | Mapping[str, Mapping[str, float]]
"""Shares by label; of several questions by their names."""


def prior_shares(
    task: TaskSpec, prior: Prior | None, calibration: str = "batch", modes: Collection[str] = ("score",)
) -> dict[str, list[float]]:
    """
    A prior as shares in the order of the labels, by the names of the parts.

    Args:
        task (`TaskSpec`): The task.
        prior (`Mapping`, *optional*): As in [`annotate`].
        calibration (`str`, defaults to `"batch"`): As in [`annotate`].
        modes (`Collection[str]`, defaults to `("score",)`): Those of the teachers that are asked.

    Raises:
        ValueError: It is of no question, lacks a label, cannot be, or nothing would use it.
    """
    if not prior:
        return {}
    if calibration not in ("batch", "contextual"):
        raise ValueError(
            f"A prior is for batch and contextual calibration, got calibration={calibration!r}. Leave one out."
        )
    if "score" not in modes:
        raise ValueError(
            "A prior is for the scores of a teacher, and with mode='generate' it gives none: nothing would use the prior. Leave "
            "it out (--prior), or ask with mode='score' (--mode score)."
        )
    by_part: dict = {"": prior} if "" in task.parts else dict(prior)
    out = {}
    for name, given in by_part.items():
        if name not in task.parts:
            refuse_unknown_question(name, task)
        labels = task.parts[name].labels
        if not isinstance(given, Mapping) or set(given) != set(labels):
            raise ValueError(
                f"Expected a prior with a share for each label of {list(labels)}, by name; got {given!r}. Of several questions "
                f"they stand by the questions' names."
            )
        try:
            out[name] = [float(given[label]) for label in labels]
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected a prior of numbers, such as 0.2, got {given!r}.") from error
        check_prior(task.parts[name].question, out[name])
    return out


def warn_of_unscored(calibration: str, modes: Collection[str]) -> None:
    """Warn where a calibration was asked for that no teacher gives scores for. `batch` is the default, and changes nothing."""
    if calibration in ("contextual", "fitted") and "score" not in modes:
        logger.warning(
            "calibration='%s' is of scores, and with mode='generate' a teacher gives none: its answers stay as they are. Ask "
            "with mode='score', or leave the calibration out.",
            calibration,
        )
