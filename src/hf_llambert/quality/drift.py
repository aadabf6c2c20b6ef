"""Whether the pool is of another kind than the annotated sample: a classifier that tries to tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from hf_llambert.intervals import fisher_p, wilson_interval
from hf_llambert.quality.words import Words, commonest, in_texts, letter_counts, tf_idf
from hf_llambert.tasks.scripts import count_words
from hf_llambert.tasks.texts import why_unusable

LEAST_TEXTS = 40
"""Texts of each kind without which nothing can be said: 20 to learn from, 20 to test on."""

_MOST_FEATURES = 20_000
_CANDIDATES, _SHOWN = 500, 10

Embed = Callable[[Sequence[str]], ArrayLike]


def measure_drift(
    sample: Sequence[object],
    pool: Sequence[object],
    embed: Embed | None = None,
    max_texts: int = 1000,
    seed: int = 0,
    words: Words | None = None,
) -> dict:
    """
    Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): a logistic regression learns from half of the
    texts which of them are of the sample, and is tested on the other half. If it does better than chance, they differ.

    As many texts of each, every one different. A text of both counts once: one of its occurrences, drawn at random, says of
    which it is. So neither a pool that holds the sample, nor texts that come often, are drift, while a sample drawn with a
    preference is.

    Args:
        sample (`Sequence`): The annotated texts. Unusable ones are left out.
        pool (`Sequence`): Texts of the pool, or a random sample of them.
        embed (`Callable`, *optional*): Texts to numbers, (texts, width), such as [`embed_texts`] with an encoder. Not a
            student that was trained on the sample: it knows its own texts again, which looks like drift. Defaults to weights
            of words and letters, and lengths.
        max_texts (`int`, defaults to 1000): Most texts of each.
        seed (`int`, defaults to 0): Seed of the draw.
        words (`Words`, *optional*): Where texts that were read before are kept.

    Returns:
        `dict`: On the texts tested: `auc` (0.5 is chance), `accuracy` with its 95 % Wilson interval `low` and `high`, and `p`,
        one-sided, of Mann and Whitney's test of the scores, which is uniform where there is no drift; `n_sample` and
        `n_pool` used, `n_shared` texts that occurred in both; and `words` that tell them apart beyond chance:
        `{"sample": [...], "pool": [...]}`. Where there are too few texts `auc`, `accuracy` and `p` are `None` and `why` says
        so.

    Raises:
        ValueError: `max_texts` is too small.
    """
    if max_texts < LEAST_TEXTS:
        raise ValueError(f"max_texts must be {LEAST_TEXTS} or more, got {max_texts}.")
    random = np.random.default_rng(seed)
    ours, theirs, shared = _sides(sample, pool, random)
    n = min(len(ours), len(theirs), max_texts) // 2 * 2  # halves
    out: dict = {"auc": None, "accuracy": None, "low": None, "high": None, "p": None, "n_shared": shared}
    out |= {"n_sample": n, "n_pool": n, "words": {"sample": [], "pool": []}}
    if n < LEAST_TEXTS:
        return out | {
            "n_sample": len(ours),
            "n_pool": len(theirs),
            "why": f"Drift takes {LEAST_TEXTS} different texts of each, got {len(ours):,} of the sample and {len(theirs):,} of "
            f"the pool ({shared:,} were in both). Annotate or label more.",
        }
    texts = [side[i] for side in (ours, theirs) for i in random.permutation(len(side))[:n]]
    words = words or Words()
    numbers = _word_weights(texts, words) if embed is None else np.asarray(embed(texts), dtype=np.float32)
    is_sample = np.repeat([True, False], n)
    learn = np.tile(np.arange(n) < n // 2, 2)
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=1.0, max_iter=1000))
    model.fit(numbers[learn], is_sample[learn])
    scores, truth = model.decision_function(numbers[~learn]), is_sample[~learn]
    test = mannwhitneyu(scores[truth], scores[~truth], alternative="greater")
    right = int(((scores > 0) == truth).sum())
    low, high = wilson_interval(right, len(truth))
    return out | {
        "auc": float(test.statistic / (truth.sum() * (~truth).sum())),
        "accuracy": right / len(truth),
        "low": low,
        "high": high,
        "p": float(test.pvalue),
        "words": _words_apart(texts, is_sample, words),
    }


def _sides(
    sample: Sequence[object], pool: Sequence[object], random: np.random.Generator
) -> tuple[list[str], list[str], int]:
    """
    The different texts of each side, and how many were on both.

    A text goes where one of its occurrences, drawn at random, stands. To take it away from one side, or from both, would
    leave the frequent texts on one of them only, which a classifier learns.
    """
    counts: dict[str, list[int]] = {}
    for side, texts in enumerate((sample, pool)):
        for text in texts:
            if why_unusable(text) is None:
                counts.setdefault(str(text), [0, 0])[side] += 1
    sides: tuple[list[str], list[str]] = ([], [])
    drawn = random.random(len(counts))
    for (text, (first, second)), chance in zip(counts.items(), drawn, strict=True):
        sides[int(chance * (first + second) >= first)].append(text)
    return (*sides, sum(first > 0 < second for first, second in counts.values()))


def _word_weights(texts: Sequence[str], words: Words) -> csr_matrix:
    """TF-IDF of words and of letters in a row (for scripts without blanks), and the logarithms of lengths."""
    parts = [csr_matrix(np.log1p([[len(text), count_words(text)] for text in texts]))]
    counts = in_texts(words.counts(texts, letters=True)[0], 2)
    if counts.shape[1]:
        parts.append(tf_idf(commonest(counts, _MOST_FEATURES)))
    letters = in_texts(letter_counts(texts), 2)
    if letters.shape[1]:
        parts.append(tf_idf(commonest(letters, _MOST_FEATURES)))
    return hstack(parts).tocsr()


def _words_apart(texts: Sequence[str], is_sample: NDArray[np.bool_], words: Words) -> dict[str, list[str]]:
    """Words in more texts of one side than of the other beyond chance (Fisher's exact test, Bonferroni's correction)."""
    table, names = words.counts(texts, letters=True)
    ours, theirs = (np.bincount(table[side].indices, minlength=table.shape[1]) for side in (is_sample, ~is_sample))
    tried = np.argsort(-(ours + theirs), kind="stable")[:_CANDIDATES]
    tried = tried[(ours + theirs)[tried] > 1]
    n = int(is_sample.sum())
    found = []
    for word, a, b in zip(names[tried], ours[tried].tolist(), theirs[tried].tolist(), strict=True):
        p = fisher_p([[a, n - a], [b, n - b]]) * len(tried)
        if p < 0.05:
            found.append((p, str(word), a > b))
    found.sort()
    return {
        name: [word for _, word, of_sample in found if of_sample == mine][:_SHOWN]
        for name, mine in (("sample", True), ("pool", False))
    }
