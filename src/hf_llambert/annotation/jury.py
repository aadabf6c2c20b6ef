"""Several teachers, or several prompts, decide together: one label and one posterior for each text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from datasets import Dataset, Features
from numpy.typing import NDArray

from hf_llambert.annotation.calibration import Calibration, uncalibrated
from hf_llambert.tasks.questions import ABSTAIN

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
    features: Features,
    method: JuryMethod = "dawid_skene",
    calibrations: Mapping[str, Calibration] | None = None,
    seed: int = 42,
) -> tuple[Dataset, dict]:
    """
    Combine several annotators of the same rows into the ordinary columns `llm_label`, `llm_confidence`, ...

    `llm_scores` is the logarithm of the posterior, so that a student can be trained on it with `soft_targets`. Where no
    member gave a label, or two labels are exactly as likely, the jury abstains.

    Args:
        annotated (`Dataset`): With columns `NAME_label`, `NAME_scores` and so on of each member.
        members (`Sequence[str]`): Their names.
        features (`Features`): Those of the columns to add: a member's [`LLMLabeler.features`].
        method (`str`, defaults to `"dawid_skene"`): See [`posterior`]; or `mean`, of the members' probabilities, which
            needs scores.
        calibrations (`Mapping[str, Calibration]`, *optional*): What turns each member's scores into probabilities, for
            `mean`.
        seed (`int`, defaults to 42): Of the method, where it draws.

    Returns:
        `tuple[Dataset, dict]`: The rows with the jury's columns, and how the members agree: `agreement` of each with the
        jury, `pairs` (share of equal labels and Cohen's kappa), `believed` (see [`posterior`]), `n_ties`.

    Raises:
        ValueError: The method is unknown, or `mean` without scores.
    """
    votes, num_labels = {name: annotated[f"{name}_label"][:] for name in members}, features["llm_label"].num_classes
    believed: dict[str, float] = {}
    if method == "mean":
        probabilities = _mean(annotated, members, num_labels, calibrations or {})
    else:
        probabilities, believed = posterior(votes, num_labels, method, seed)
    best = probabilities.max(1)
    tied = (np.isclose(probabilities, best[:, None], rtol=0, atol=1e-9).sum(1) > 1) & (best > 0)
    decided = (best > 0) & ~tied
    labels = np.where(decided, probabilities.argmax(1), ABSTAIN)
    clipped = np.clip(probabilities, _SMALLEST, None)
    scores = np.log(clipped / clipped.sum(1, keepdims=True))
    failed = np.all([[s == "failed" for s in annotated[f"{name}_status"]] for name in members], axis=0)
    reason = np.select(
        [decided, tied, failed], ["", "the jury is tied", "no teacher could be asked"], "no member gave a label"
    )
    columns: dict[str, list] = {
        "llm_label": [int(label) for label in labels],
        "llm_confidence": [float(p) if d else None for p, d in zip(best, decided, strict=True)],
        "llm_scores": [row.tolist() if d else None for row, d in zip(scores, decided, strict=True)],
        "llm_response": [None] * len(annotated),
        "llm_status": np.select([decided, failed & ~tied], ["ok", "failed"], "abstained").tolist(),
        "llm_reason": [str(why) or None for why in reason],
        "llm_truncated": np.any([annotated[f"{name}_truncated"][:] for name in members], axis=0).tolist(),
    }
    for name, feature in features.items():
        annotated = annotated.add_column(name, columns[name], feature=feature)
    return annotated, {"n_ties": int(tied.sum()), "believed": believed, **_compared_votes(votes, labels)}


def _mean(
    annotated: Dataset, members: Sequence[str], num_labels: int, calibrations: Mapping[str, Calibration]
) -> NDArray[np.float64]:
    total, given = np.zeros((len(annotated), num_labels)), np.zeros((len(annotated), 1))
    for name in members:
        column, labels = annotated[f"{name}_scores"], annotated[f"{name}_label"][:]
        rows = [i for i, scores in enumerate(column) if scores is not None]
        if len(rows) < sum(label != ABSTAIN for label in labels):
            raise ValueError(
                f"The jury method mean needs scores, and '{name}' gave none. Use majority or dawid_skene."
            )
        if rows:
            calibration = calibrations.get(name) or uncalibrated(num_labels)
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
