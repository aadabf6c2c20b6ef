"""Several teachers, or several prompts, decide together: one label and one posterior for each text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from numpy.typing import NDArray
from scipy.special import logit

from hf_llambert.annotation.alpha import interval_alpha
from hf_llambert.annotation.asked import COMMON
from hf_llambert.annotation.calibration import Calibration, uncalibrated
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec

JuryMethod = Literal["dawid_skene", "majority", "mace", "mean"]
_FEWEST = 3
_SMALLEST = 1e-6  # probability of what a method excludes, so that its logarithm is finite


def posterior(
    votes: Mapping[str, Sequence[int]], num_labels: int, method: JuryMethod = "dawid_skene", seed: int = 42
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """
    Probabilities of the labels given what each member said.

    Args:
        votes (`Mapping[str, Sequence[int]]`): For each member its label ids, one for each text, -1 where it abstained.
        num_labels (`int`): Number of labels.
        method (`str`, defaults to `"dawid_skene"`): `majority`: the share of votes. `dawid_skene`: members' confusion
            matrices and the posterior by expectation maximisation (Dawid and Skene 1979). `mace`: members who know or
            guess (Hovy et al. 2013). The last two learn from the votes alone whom to believe; through crowd-kit.
        seed (`int`, defaults to 42): Of MACE's random restarts.

    Returns:
        `tuple`: Probabilities, (texts, labels), rows of zeros where nobody voted; and for the last two methods how good
        each member is believed to be: its expected accuracy, or with MACE the share of texts that it does not guess.

    Raises:
        ImportError: crowd-kit is not installed.
        ValueError: The method is unknown, the members' votes differ in number, or fewer than three vote where a method
            has to learn whom to believe.
    """
    if method not in get_args(JuryMethod) or method == "mean":
        raise ValueError(f"The posterior of votes is by majority, dawid_skene or mace, got {method!r}.")
    table = np.array([list(member) for member in votes.values()])  # ragged rows fail here
    if table.ndim != 2 or not table.size:
        raise ValueError("Expected as many votes from each member, and at least one.")
    counts = np.stack([(table == label).sum(0) for label in range(num_labels)], 1).astype(np.float64)
    voted = counts.sum(1) > 0
    if method == "majority" or not voted.any():
        return counts / np.maximum(counts.sum(1, keepdims=True), 1), {}
    try:
        import pandas as pd
        from crowdkit.aggregation import MACE, DawidSkene
    except ImportError as error:
        raise ImportError(
            f"The jury method {method} needs crowd-kit. Install it with pip install 'hf-llambert[jury]', or use majority."
        ) from error
    members, rows = np.nonzero(table != ABSTAIN)
    if len(set(members)) < _FEWEST:
        raise ValueError(
            f"The jury method {method} learns from {_FEWEST} members or more whom to believe; {len(set(members))} gave labels. "
            f"Use majority, or mean where they give scores."
        )
    frame = pd.DataFrame({"task": rows, "worker": members, "label": table[members, rows]})
    frame = frame.sort_values("label", kind="stable")  # MACE mixes labels up that do not come in their order
    if method == "dawid_skene":
        model: DawidSkene | MACE = DawidSkene(n_iter=100)
    else:  # an integer seed would begin all of MACE's restarts alike
        model = MACE(n_restarts=5, random_state=np.random.RandomState(seed))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit calls pandas in ways that pandas is about to drop
        model.fit(frame)
    found = model.probas_.reindex(index=range(len(voted)), columns=range(num_labels)).fillna(0.0).to_numpy()  # type: ignore[union-attr]
    found = found / np.maximum(found.sum(1, keepdims=True), _SMALLEST)
    order = list(dict.fromkeys(frame["worker"]))
    if isinstance(model, MACE):
        return found, {list(votes)[member]: float(model.spamming_[k, 1]) for k, member in enumerate(order)}
    share, believed = found[voted].mean(0), {}
    for k, name in enumerate(votes):
        if k in order:
            errors = model.errors_.loc[k]  # type: ignore[union-attr]
            errors = errors.reindex(index=range(num_labels), columns=range(num_labels)).fillna(0.0)
            believed[name] = float(share @ np.diag(errors))
    return found, believed


def jury_columns(
    annotated: Dataset,
    members: Sequence[str],
    task: TaskSpec,
    method: JuryMethod = "dawid_skene",
    calibrations: Mapping[str, Calibration] | None = None,
    seed: int = 42,
) -> tuple[Dataset, dict]:
    """
    Combine several annotators of the same rows into the ordinary columns `llm_label`, `llm_confidence`, ... Where several
    labels may hold each is decided by itself; on a scale the jury's answer is the mean, whatever the method.

    `llm_scores` is the logarithm of the posterior, so that a student can be trained on it with `soft_targets`. Where no
    member gave a label, or two labels are exactly as likely, the jury abstains.

    Args:
        annotated (`Dataset`): With columns `NAME_label`, `NAME_scores` and so on of each member.
        members (`Sequence[str]`): Their names.
        task (`TaskSpec`): The task of one question that they answered.
        method (`str`, defaults to `"dawid_skene"`): See [`posterior`]; or `mean`, of the members' probabilities, which
            needs scores.
        calibrations (`Mapping[str, Calibration]`, *optional*): What turns each member's scores into probabilities, for
            `mean`.
        seed (`int`, defaults to 42): Of the method, where it draws.

    Returns:
        `tuple[Dataset, dict]`: The rows with the jury's columns, and how the members agree: `agreement` of each with the
        jury, `pairs` (share of equal labels and Cohen's kappa), `believed` (see [`posterior`]), `n_ties`; of a scale
        Krippendorff's `alpha`, and `agreement` is being at most half a step from the jury.

    Raises:
        ValueError: The method is unknown, or `mean` without scores.
    """
    question = task.question
    found = _JURIES[question.kind](annotated, members, task, method, calibrations or {}, seed)
    decided, tied = found.decided, found.tied
    failed = np.all([[s == "failed" for s in annotated[f"{name}_status"]] for name in members], axis=0)
    reason = np.select(
        [decided, tied, failed], ["", "the jury is tied", "no teacher could be asked"], "no member gave a label"
    )
    none = {**question.no_answer(), "confidence": None, "scores": None}
    columns = {
        end: [value if d else none[end] for value, d in zip(values, decided, strict=True)]
        for end, values in found.columns.items()
    }
    columns |= {
        "response": [None] * len(annotated),
        "status": np.select([decided, failed & ~tied], ["ok", "failed"], "abstained").tolist(),
        "reason": [str(why) or None for why in reason],
        "truncated": np.any([annotated[f"{name}_truncated"][:] for name in members], axis=0).tolist(),
    }
    features = Features({f"llm_{end}": feature for end, feature in {**question.own_features(), **COMMON}.items()})
    own = Dataset.from_dict({column: columns[column.removeprefix("llm_")] for column in features}, features=features)
    return concatenate_datasets([annotated, own], axis=1), {"n_ties": int(tied.sum()), **found.agreement}


@dataclass(frozen=True)
class _Found:
    """
    What a jury decided: columns by the ends of their names, in which rows it did and in which it is tied, and how its members
    agree.
    """

    columns: dict[str, list]
    decided: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    agreement: dict


def _choice_jury(
    annotated: Dataset,
    members: Sequence[str],
    task: TaskSpec,
    method: JuryMethod,
    calibrations: Mapping[str, Calibration],
    seed: int,
) -> _Found:
    votes = {name: annotated[f"{name}_label"][:] for name in members}
    believed: dict[str, float] = {}
    if method == "mean":
        probabilities = _mean(annotated, members, task, calibrations)
    else:
        probabilities, believed = posterior(votes, task.num_labels, method, seed)
    best = probabilities.max(1)
    tied = (np.isclose(probabilities, best[:, None], rtol=0, atol=1e-9).sum(1) > 1) & (best > 0)
    decided = (best > 0) & ~tied
    labels = np.where(decided, probabilities.argmax(1), ABSTAIN)
    columns = {
        "label": labels.tolist(),
        "confidence": best.tolist(),
        "scores": np.log(_floored(probabilities)).tolist(),
    }
    return _Found(columns, decided, tied, {"believed": believed, **_compared_votes(votes, labels)})


def _choices_jury(
    annotated: Dataset,
    members: Sequence[str],
    task: TaskSpec,
    method: JuryMethod,
    calibrations: Mapping[str, Calibration],
    seed: int,
) -> _Found:
    """Each label is decided by itself, as one of two."""
    given = {name: task.question.targets(annotated[f"{name}_labels"][:]) for name in members}
    voted = ~np.all([np.isnan(votes).any(1) for votes in given.values()], axis=0)
    if method == "mean":
        probabilities, believed = _mean(annotated, members, task, calibrations), {}
    else:
        probabilities, believed = np.zeros((len(annotated), task.num_labels)), dict.fromkeys(members, 0.0)
        for k in range(task.num_labels):
            votes = {name: np.nan_to_num(of[:, k], nan=ABSTAIN).astype(int).tolist() for name, of in given.items()}
            found, of_label = posterior(votes, 2, method, seed)
            probabilities[:, k] = found[:, 1]
            believed = {name: believed[name] + of_label.get(name, 0.0) / task.num_labels for name in believed}
        believed = believed if method in ("dawid_skene", "mace") else {}
    tied = voted & np.isclose(probabilities, 0.5, rtol=0, atol=1e-9).any(1)
    columns = task.question.decided(probabilities)
    columns["scores"] = logit(np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)).tolist()
    decided = voted & ~tied
    chosen = probabilities > 0.5
    agreement = {
        name: float((of[both] == chosen[both]).mean()) if (both := decided & ~np.isnan(of).any(1)).any() else None
        for name, of in given.items()
    }
    return _Found(columns, decided, tied, {"believed": believed, "agreement": agreement, "pairs": []})


def _scale_jury(
    annotated: Dataset,
    members: Sequence[str],
    task: TaskSpec,
    method: JuryMethod,  # noqa: ARG001  (a mean, whatever is asked for: levels are numbers)
    calibrations: Mapping[str, Calibration],
    seed: int,  # noqa: ARG001
) -> _Found:
    """The mean of the members' distributions, those of members without scores being all on their values."""
    question = task.question
    values = {name: annotated[f"{name}_value"][:] for name in members}
    total, voters = np.zeros((len(annotated), task.num_labels)), np.zeros(len(annotated))
    for name, given in values.items():
        shares = question.targets(given)
        scores = annotated[f"{name}_scores"]
        rows = [i for i, row in enumerate(scores) if row is not None]
        if rows:
            calibration = calibrations.get(name) or uncalibrated(task.num_labels, question.kind)
            shares[rows] = calibration.probabilities([scores[i] for i in rows])
        there = ~np.isnan(shares).any(1)
        total[there] += shares[there]
        voters += there
    decided = voters > 0
    mean = total / np.maximum(voters, 1)[:, None]
    columns = question.decided(mean)
    columns["scores"] = np.log(_floored(mean)).tolist()
    units = [[value for value in row if value is not None] for row in zip(*values.values(), strict=True)]
    agreement: dict[str, float | None] = {}
    for name, given in values.items():
        rows = [i for i, value in enumerate(given) if value is not None]
        near = question.right([given[i] for i in rows], [columns["value"][i] for i in rows]) if rows else None
        agreement[name] = None if near is None else float(near.mean())
    none = np.zeros(len(annotated), dtype=bool)
    return _Found(
        columns, decided, none, {"believed": {}, "agreement": agreement, "pairs": [], "alpha": interval_alpha(units)}
    )


_JURIES = {"choice": _choice_jury, "choices": _choices_jury, "scale": _scale_jury}


def _floored(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probabilities, _SMALLEST, None)
    return clipped / clipped.sum(1, keepdims=True)


def _mean(
    annotated: Dataset, members: Sequence[str], task: TaskSpec, calibrations: Mapping[str, Calibration]
) -> NDArray[np.float64]:
    question, num_labels = task.question, task.num_labels
    total, given = np.zeros((len(annotated), num_labels)), np.zeros((len(annotated), 1))
    for name in members:
        column, answers = annotated[f"{name}_scores"], annotated[f"{name}_{question.answer_column}"][:]
        rows = [i for i, scores in enumerate(column) if scores is not None]
        if len(rows) < sum(map(question.is_answer, answers)):
            raise ValueError(
                f"The jury method mean needs scores, and '{name}' gave none. Use majority or dawid_skene."
            )
        if rows:
            calibration = calibrations.get(name) or uncalibrated(num_labels, question.kind)
            total[rows] += calibration.probabilities([column[i] for i in rows])
            given[rows] += 1
    return total / np.maximum(given, 1)


def _compared_votes(votes: Mapping[str, Sequence[int]], labels: NDArray[np.int_]) -> dict:
    from sklearn.metrics import cohen_kappa_score

    out: dict = {"agreement": {}, "pairs": []}
    for name, given in votes.items():
        both = (np.asarray(given) != ABSTAIN) & (labels != ABSTAIN)
        out["agreement"][name] = float((np.asarray(given) == labels)[both].mean()) if both.any() else None
    for one, other in combinations(votes, 2):
        a, b = np.asarray(votes[one]), np.asarray(votes[other])
        both = (a != ABSTAIN) & (b != ABSTAIN)
        alike = len(set(a[both]) | set(b[both])) < 2  # kappa is not defined where only one label was ever given
        out["pairs"].append(
            {
                "members": [one, other],
                "n": int(both.sum()),
                "equal": float((a == b)[both].mean()) if both.any() else None,
                "kappa": None if alike else float(cohen_kappa_score(a[both], b[both])),
            }
        )
    return out
