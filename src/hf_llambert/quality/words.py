"""The words of texts, read once for everything that counts them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer

from hf_llambert.tasks.scripts import has_signs, words_in

_READ = 4000  # characters of a text
_WORD = re.compile(r"\b\w\w+\b")


class Words:
    """
    Counts of the words of texts, case ignored: of two characters or more, in the first 4,000 characters of a text. Where a
    script has no spaces between words, each two neighbouring letters are one. What was read is kept, so that a text that is
    asked about again is not read again.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._read: dict[str, NDArray[np.int64]] = {}

    def counts(self, texts: Sequence[str], *, letters: bool = False) -> tuple[csr_matrix, NDArray[np.object_]]:
        """
        How often each word stands in each text.

        Args:
            texts (`Sequence[str]`): The texts.
            letters (`bool`, defaults to `False`): Leave out words with a digit or an underscore.

        Returns:
            `tuple[csr_matrix, NDArray]`: Counts of shape (texts, words), and the words in alphabetical order. Words that none of
            the texts has are left out.
        """
        rows, read = self._rows(texts)
        table = _counted(rows, read, len(texts), len(self._ids))
        present = np.flatnonzero(np.bincount(table.indices, minlength=table.shape[1]))
        names = np.array(list(self._ids), dtype=object)[present]
        order = np.argsort(names, kind="stable")
        if letters:
            order = np.array([k for k in order.tolist() if names[k].isalpha() or has_signs(names[k])], dtype=np.int64)
        return table[:, present[order]], names[order]

    def pairs(self, texts: Sequence[str]) -> csr_matrix:
        """How often each pair of neighbours stands in each text, of shape (texts, pairs); pairs of one text are left out."""
        rows, read = self._rows(texts)
        inside = rows[:-1] == rows[1:]
        both, place = np.unique(read[:-1][inside] * max(len(self._ids), 1) + read[1:][inside], return_inverse=True)
        return in_texts(_counted(rows[:-1][inside], place, len(texts), len(both)), 2)

    def _rows(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The words of all texts in a row, by their numbers, and which text each is of."""
        for text in texts:
            if text not in self._read:
                found = words_in(text[:_READ].lower(), _WORD.findall)
                self._read[text] = np.array([self._ids.setdefault(w, len(self._ids)) for w in found], dtype=np.int64)
        read = [self._read[text] for text in texts]
        rows = np.repeat(np.arange(len(read)), [len(one) for one in read])
        return rows, np.concatenate([np.array([], dtype=np.int64), *read])


def letter_counts(texts: Sequence[str]) -> csr_matrix:
    """
    How often each two and three letters in a row stand in each text, case ignored, of shape (texts, rows of letters): within
    words and at their edges, as `analyzer="char_wb"` of scikit-learn counts them, in half the time.
    """
    words = [" ".join(text[:_READ].lower().split()) for text in texts]
    joined = [f" {text} " if text else "" for text in words]
    codes = np.frombuffer("".join(joined).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    rows = np.repeat(np.arange(len(joined)), [len(text) for text in joined])
    known = np.flatnonzero(np.bincount(codes, minlength=1))
    letters = np.zeros(int(known.max(initial=0)) + 1, dtype=np.int64)
    letters[known] = np.arange(len(known))
    numbers, parts = letters[codes], []
    for length in (2, 3):
        last = len(codes) - length + 1
        inside = rows[: max(last, 0)] == rows[length - 1 :]
        if length == 3:
            inside &= codes[1:-1] != ord(" ")  # else they are of two words
        found = sum((numbers[k : last + k] * len(known) ** k for k in range(length)), np.zeros(len(inside), np.int64))
        kinds, columns = np.unique(found[inside], return_inverse=True)
        parts.append(_counted(rows[: len(inside)][inside], columns, len(texts), len(kinds)))
    return hstack(parts).tocsr()


def in_texts(counts: csr_matrix, least: int, most: float = np.inf) -> csr_matrix:
    """The columns of words that stand in `least` to `most` of the texts."""
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    return counts[:, np.flatnonzero((texts >= least) & (texts <= most))]


def commonest(counts: csr_matrix, number: int) -> csr_matrix:
    """The columns of the `number` words that stand most often, in their order."""
    if counts.shape[1] <= number:
        return counts
    total = np.asarray(counts.sum(axis=0)).ravel()
    return counts[:, np.sort(np.argsort(-total, kind="stable")[:number])]


def tf_idf(counts: csr_matrix) -> csr_matrix:
    """Weights of words (logarithms of counts, inverse document frequency), each text of length one."""
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _counted(rows: NDArray[np.int64], columns: NDArray[np.int64], num_rows: int, num_columns: int) -> csr_matrix:
    table = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(num_rows, num_columns))
    table.sum_duplicates()
    return table
