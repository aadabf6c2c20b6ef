"""How many labels are wrong, and which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hf_llambert.quality.words import Words, commonest, in_texts, tf_idf

_FOLDS = 5
_MOST_FEATURES = 50_000


def likely_label_errors(
    texts: Sequence[str],
    labels: ArrayLike,
    probabilities: ArrayLike | None = None,
    seed: int = 0,
    words: Words | None = None,
) -> tuple[float | None, NDArray[np.int64]]:
    """
    How many labels are wrong, as far as can be told without gold, and which most likely are: confident learning (Northcutt et
    al. 2021, arXiv 1911.00068; cleanlab).

    It finds labels that contradict how other rows are labelled: slips. An error that a teacher makes always is a rule to it,
    and is not counted: take the share as a lower bound, and gold where it matters.

    Args:
        texts (`Sequence[str]`): The texts.
        labels (`ArrayLike` of shape (rows,)): Their label ids.
        probabilities (`ArrayLike` of shape (rows, labels), *optional*): What a model that has not seen a row says of it; see
            [`out_of_fold`]. Defaults to those of a logistic regression over words and their pairs, by five folds: seconds.
        seed (`int`, defaults to 0): Seed of the folds.
        words (`Words`, *optional*): Where texts that were read before are kept.

    Returns:
        `tuple[float | None, NDArray]`: The share of wrong labels, and row numbers, the most suspect first, as many as that
        share. `None` and no rows where fewer than two labels have ten rows each: too few to learn from. Rows of rarer labels
        are left out.

    Raises:
        ImportError: cleanlab is not installed.
        ValueError: Lengths differ.
    """
    try:
        from cleanlab.count import num_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise ImportError("Estimating wrong labels needs cleanlab: pip install 'hf-llambert[noise]'.") from error
    ids = np.asarray(labels)
    if len(texts) != len(ids) or (probabilities is not None and len(np.asarray(probabilities)) != len(ids)):
        raise ValueError(
            f"Expected a label, and probabilities if any, for each of {len(texts):,} texts, got {len(ids):,}."
        )
    common = sorted(label for label, n in Counter(ids.tolist()).items() if n >= 2 * _FOLDS)
    rows = np.flatnonzero(np.isin(ids, common))
    if len(common) < 2:
        return None, np.array([], dtype=np.int64)
    given = np.searchsorted(common, ids[rows])
    if probabilities is None:
        p = _by_words([texts[i] for i in rows.tolist()], given, seed, words or Words())
        if p is None:
            return None, np.array([], dtype=np.int64)
    else:
        p = np.asarray(probabilities, dtype=np.float64)[rows][:, common]
        p = p / p.sum(axis=1, keepdims=True)
    count = int(num_label_issues(given, p))
    order = np.argsort(get_label_quality_scores(given, p), kind="stable")
    return count / len(rows), rows[order[:count]]


def _by_words(texts: Sequence[str], labels: NDArray[np.int64], seed: int, words: Words) -> NDArray[np.float64] | None:
    single, _ = words.counts(texts)
    counts = hstack([in_texts(single, 2), words.pairs(texts)]).tocsr()
    if not counts.shape[1]:
        return None
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(C=10, max_iter=1000)
    return cross_val_predict(
        model, tf_idf(commonest(counts, _MOST_FEATURES)), labels, cv=folds, method="predict_proba"
    )
