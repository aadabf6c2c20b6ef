"""Slices of the data on which labels are right less often than elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import CountVectorizer

from hf_llambert.intervals import fisher_p, wilson_interval
from hf_llambert.quality.words import Words
from hf_llambert.tasks.scripts import count_words, has_signs

MOST_VALUES = 20
"""Different values of a column that is looked at."""

_CANDIDATES = 200  # words that are tested; all of them count in the correction
_SHOWN_WORDS = 20
_ANY_WORD = r"(?u)\b\w+\b"

Slice = tuple[str, str]
"""Kind and name."""


def find_slices(
    texts: Sequence[str],
    right: ArrayLike,
    *,
    columns: Mapping[str, Sequence] | None = None,
    keywords: Sequence[str] | None = None,
    embeddings: ArrayLike | None = None,
    num_clusters: int = 8,
    min_slice: int = 30,
    seed: int = 0,
    words: Words | None = None,
) -> list[dict]:
    """
    How often labels are right in each slice of the data, against all other texts.

    Slices are quarters by length, keywords, clusters of embeddings and the values of columns. None is chosen by looking at
    what is right, and every one that is tested counts in the correction, so that 5 % of adjusted p-values below 0.05 are
    expected to be chance, not more. How far a column alone foretells the labels themselves, right or wrong, is said by
    [`foretold_by`].

    Args:
        texts (`Sequence[str]`): The texts.
        right (`ArrayLike` of shape (texts,)): Whether the label of each is right.
        columns (`Mapping[str, Sequence]`, *optional*): Values of each text by the name of their column, 20 different at most.
        keywords (`Sequence[str]`, *optional*): Words, case ignored. Defaults to the 200 that stand in most texts without
            standing in more than half of them, of the first 4,000 characters of each, of which the 20 most associated with
            errors are returned.
        embeddings (`ArrayLike` of shape (texts, width), *optional*): What k-means clusters. Without it there are no clusters.
        num_clusters (`int`, defaults to 8): Clusters.
        min_slice (`int`, defaults to 30): Smallest slice to look at; as many texts must be outside.
        seed (`int`, defaults to 0): Seed of k-means.
        words (`Words`, *optional*): Where texts that were read before are kept.

    Returns:
        `list[dict]`: Slices with the largest loss first: `kind`, `name`, `n`, `accuracy` with its 95 % Wilson interval `low`
        and `high`, `difference` (accuracy less that outside), `p` of Fisher's exact test, two-sided, and `p_adjusted` by
        Benjamini and Hochberg (1995). Empty where no slice is large enough.

    Raises:
        ValueError: Lengths differ, a column has too many values, or `min_slice` or `num_clusters` makes no sense.
    """
    if min_slice < 2:
        raise ValueError(f"min_slice must be 2 or more, got {min_slice}.")
    correct = np.asarray(right, dtype=bool)
    for what, length in (("right", len(correct)), *((f"Column '{n}'", len(v)) for n, v in (columns or {}).items())):
        if length != len(texts):
            raise ValueError(f"Expected a value for each of the {len(texts):,} texts, {what} has {length:,}.")
    words = words or Words()
    masks = length_slices(texts)
    for name, values in (columns or {}).items():
        masks |= value_slices(name, values)
    if embeddings is not None:
        masks |= _described(cluster_slices(embeddings, num_clusters, seed), texts, words)
    masks |= keyword_slices(texts, keywords, min_slice, words)
    large = {key: mask for key, mask in masks.items() if min_slice <= mask.sum() <= len(mask) - min_slice}
    rows = [_compared(key, mask, correct) for key, mask in large.items()]
    if not rows:
        return []
    for row, p in zip(rows, false_discovery_control([row["p"] for row in rows]), strict=True):
        row["p_adjusted"] = float(p)
    by_word = [row for row in rows if row["kind"] == "keyword"]
    shown = by_word if keywords is not None else sorted(by_word, key=lambda row: row["p"])[:_SHOWN_WORDS]
    kept = [row for row in rows if row["kind"] != "keyword"] + shown
    return sorted(kept, key=lambda row: (row["difference"], row["name"]))


def length_slices(texts: Sequence[str]) -> dict[Slice, NDArray[np.bool_]]:
    """
    Quarters by number of words, as masks over the texts; where a script has no spaces each letter is one. Fewer where many texts
    are equally long.
    """
    words = np.array([count_words(text) for text in texts])
    if not len(words):
        return {}
    bounds = np.quantile(words, (0, 0.25, 0.5, 0.75, 1)).astype(int)
    quarters = np.digitize(words, bounds[1:4], right=True)
    return {("words", f"{bounds[k] + (k > 0):,} to {bounds[k + 1]:,}"): quarters == k for k in range(4)}


def value_slices(name: str, values: Sequence) -> dict[Slice, NDArray[np.bool_]]:
    """
    The values of a column, as masks; a text without a value is in none.

    Raises:
        ValueError: More than 20 different values.
    """
    kinds = different_values(name, values)
    return {(name, str(kind)): np.array([value == kind for value in values]) for kind in kinds}


def different_values(name: str, values: Sequence) -> list:
    """
    The different values of a column in the order of their names, without missing ones (`None`, NaN).

    Raises:
        ValueError: More than 20 different values.
    """
    kinds = sorted({value for value in values if not is_no_value(value)}, key=str)
    if len(kinds) > MOST_VALUES:
        raise ValueError(
            f"Column '{name}' has {len(kinds):,} values, more than {MOST_VALUES}: too many slices. Group them."
        )
    return kinds


def is_no_value(value: object) -> bool:
    """Whether a cell of a column is empty: `None` or NaN."""
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def cluster_slices(embeddings: ArrayLike, num_clusters: int = 8, seed: int = 0) -> dict[Slice, NDArray[np.bool_]]:
    """
    Clusters of texts by their embeddings (k-means in small batches, a fixed seed), as masks.

    Raises:
        ValueError: Fewer than two clusters.
    """
    if num_clusters < 2:
        raise ValueError(f"num_clusters must be 2 or more, got {num_clusters}.")
    points = np.asarray(embeddings, dtype=np.float32)
    different = len(np.unique(points, axis=0))
    if different < 2:
        return {}
    means = MiniBatchKMeans(min(num_clusters, different), random_state=seed, n_init=3, batch_size=1024)
    found = means.fit_predict(points)
    return {("cluster", f"cluster {k + 1}"): found == k for k in range(num_clusters) if (found == k).any()}


def keyword_slices(
    texts: Sequence[str],
    keywords: Sequence[str] | None = None,
    min_slice: int = 30,
    words: Words | None = None,
) -> dict[Slice, NDArray[np.bool_]]:
    """
    The texts in which a word stands, as masks, case ignored. Where a script has no spaces between words, each two neighbouring
    letters are one; a given word is looked for as it is.

    Args:
        keywords (`Sequence[str]`, *optional*): The words. Defaults to the 200 in most texts, at least `min_slice` and half of
            all at most.
        words (`Words`, *optional*): Where texts that were read before are kept.
    """
    if keywords is None:
        table, names = (words or Words()).counts(texts, letters=True)
    else:
        names = np.array(sorted({word.lower() for word in keywords if word.strip()}), dtype=object)
        if not len(texts) or not len(names):
            return {}
        table = CountVectorizer(vocabulary=names.tolist(), token_pattern=_ANY_WORD).fit_transform(texts)
        if apart := [k for k, name in enumerate(names) if has_signs(name)]:  # these stand between no spaces
            held = np.array([[names[k] in text.lower() for k in apart] for text in texts])
            table = table.tolil()
            table[:, apart] = held
            table = table.tocsr()
    counts = np.bincount(table.indices, minlength=table.shape[1])
    order = np.argsort(-counts, kind="stable").tolist()  # the names are sorted
    if keywords is None:
        order = [k for k in order if min_slice <= counts[k] <= len(texts) / 2][:_CANDIDATES]
    columns = table.tocsc()
    return {("keyword", str(names[k])): np.asarray(columns[:, [k]].todense()).ravel() > 0 for k in order}


def _described(
    clusters: dict[Slice, NDArray[np.bool_]], texts: Sequence[str], words: Words
) -> dict[Slice, NDArray[np.bool_]]:
    """Clusters named by the three words that most more of their texts have than of the others."""
    counts, names = words.counts(texts, letters=True)
    known = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) <= len(texts) / 2)
    if not len(known):  # no text has a word that others lack
        return clusters
    table, names, out = (counts[:, known] > 0).astype(float), names[known], {}
    for (kind, name), inside in clusters.items():
        if inside.all():
            out[kind, name] = inside
            continue
        more = np.asarray(table[inside].mean(axis=0) - table[~inside].mean(axis=0)).ravel()
        best = [names[k] for k in np.argsort(-more, kind="stable")[:3] if more[k] > 0]
        out[kind, f"{name} ({', '.join(best)})" if best else name] = inside
    return out


def _compared(key: Slice, inside: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict:
    counts = [[int((right & part).sum()), int((~right & part).sum())] for part in (inside, ~inside)]
    n, outside = int(inside.sum()), int((~inside).sum())
    low, high = wilson_interval(counts[0][0], n)
    accuracy = counts[0][0] / n
    return {
        "kind": key[0],
        "name": key[1],
        "n": n,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "difference": accuracy - counts[1][0] / outside,
        "p": fisher_p(counts),
    }
