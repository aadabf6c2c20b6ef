"""The linear student: TF-IDF of words or characters, and a logistic regression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse
from scipy.optimize import minimize

from hf_llambert.notes import damaged_note, read_note
from hf_llambert.training.fast import FastModel, are_finite, read_arrays, shapes_of
from hf_llambert.training.grams import LONGEST, Grams, Unit, fit_grams, split_units, windows
from hf_llambert.training.heads import Head, summed_losses

WEIGHTS_FILE = "linear.safetensors"
VOCABULARY_FILE = "vocabulary.json"
_MOST_FEATURES = 200_000
_MOST_WEIGHTS = 4_000_000  # of features times logits: 16 MB on the disk, some 500 MB while they are fitted
_MOST_BYTES = 1 << 26  # of a vocabulary: 50,000 words of a thousand letters
_MOST_IDF = 100  # of a word in one of more texts than there can be
_AGAIN = "Restore it, or train the student again."
_STEPS = 200
STRENGTH = 10.0
_TRIED = 2000  # texts by which the unit is chosen
_SHORT = 400  # characters: of longer texts, runs of characters take long and brought nothing
_LONG_WORDS = 12  # characters a word: nobody writes spaces there


@dataclass(frozen=True)
class LinearModel(FastModel):
    """
    Logits that are linear in the TF-IDF of a text: each count `c` of a feature becomes `(1 + log c) * idf`, and a text's
    numbers are divided by their Euclidean norm, as scikit-learn's `TfidfVectorizer(sublinear_tf=True)` has it.

    Args:
        grams (`Grams`): What is counted.
        idf (`NDArray[np.float32]` of shape (features,)): The inverse document frequency of each feature.
        weights (`NDArray[np.float32]` of shape (features, logits)): Weights of the logits.
        bias (`NDArray[np.float32]` of shape (logits,)): Their biases.
    """

    grams: Grams
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    kind: ClassVar[str] = "linear"

    @property
    def size(self) -> int:
        return len(self.bias)

    def logits(self, texts: pa.Array) -> NDArray[np.float32]:
        return weighed(self.grams.count(texts), self.idf) @ self.weights + self.bias

    def save(self, folder: Path) -> None:
        arrays = {"idf": self.idf, "weights": self.weights, "bias": self.bias}
        runs = {f"runs_of_{length}": keys for length, keys in self.grams.runs.items()}
        save_file({**arrays, **runs}, folder / WEIGHTS_FILE)
        note = {"unit": self.grams.unit, "apart": self.grams.apart, "units": self.grams.units.to_pylist()}
        config = {"model_type": f"hf_llambert.{self.kind}", "library_name": "hf_llambert"}
        for name, content in ((VOCABULARY_FILE, note), ("config.json", config)):
            (folder / name).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LinearModel:
        notes, path = folder / VOCABULARY_FILE, folder / WEIGHTS_FILE
        if (size := notes.stat().st_size) > _MOST_BYTES:
            raise damaged_note(notes, f"expected at most {_MOST_BYTES:,} bytes, got {size:,}", _AGAIN)
        note = read_note(notes, {"unit": str, "apart?": bool, "units": [str]}, _AGAIN)
        unit = note["unit"]
        if unit not in LONGEST:
            raise damaged_note(notes, f"expected words or characters at 'unit', got {unit!r}", _AGAIN)
        arrays = read_arrays(path, _AGAIN)
        runs = {n: arrays.pop(name) for n in range(2, LONGEST[unit] + 1) if (name := f"runs_of_{n}") in arrays}
        grams = Grams(unit, pa.array(note["units"], pa.large_string()), runs, note.get("apart", False))
        for file, fault in ((notes, grams.fault_of_units()), (path, grams.fault_of_runs())):
            if fault is not None:
                raise damaged_note(file, fault, _AGAIN)
        sizes = {name: array.shape for name, array in arrays.items()}
        logits = sizes.get("bias", ())[:1]
        if sizes != {"idf": (grams.size,), "weights": (grams.size, *logits), "bias": logits} or not logits:
            raise damaged_note(
                path,
                f"expected idf, weights and bias of the {grams.size:,} features in {VOCABULARY_FILE}, got {shapes_of(arrays)}",
                _AGAIN,
            )
        if not are_finite(*arrays.values()) or not ((arrays["idf"] >= 1) & (arrays["idf"] <= _MOST_IDF)).all():
            raise damaged_note(
                path, f"expected finite numbers in float32, and idf from 1 to {_MOST_IDF}, got others", _AGAIN
            )
        return cls(grams, **arrays)


def weighed(counts: sparse.csr_matrix, idf: NDArray[np.float32]) -> sparse.csr_matrix:
    """TF-IDF of counts; in place."""
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    filled = np.diff(counts.indptr) > 0
    squares = np.add.reduceat(counts.data**2, counts.indptr[:-1][filled]) if filled.any() else np.zeros(0)
    norms = np.ones(counts.shape[0], dtype=np.float32)
    norms[filled] = np.sqrt(squares)
    counts.data /= np.repeat(norms, np.diff(counts.indptr))
    return counts


def fit_linear(
    texts: pa.ChunkedArray,
    targets: torch.Tensor,
    weights: torch.Tensor,
    heads: Sequence[Head],
    unit: Unit,
    strength: float = STRENGTH,
    loss: str = "cross_entropy",
) -> LinearModel:
    """
    Fit the losses of the heads with an L2 penalty by L-BFGS, as scikit-learn's `LogisticRegression` does for one choice.

    Args:
        texts (`pa.ChunkedArray`): Strings without nulls.
        targets (`Tensor` of shape (texts, logits)): What is learnt; NaN where a question is not answered.
        weights (`Tensor` of shape (texts, heads)): Of each row in the loss of each question.
        heads (`Sequence[Head]`): Whose logits are which.
        unit (`"words"` or `"characters"`): What is counted.
        strength (`float`, defaults to 10): The loss counts so many times against the penalty; `C` of scikit-learn. Of 1, 10
            and 100 it was best or within a point of the best on IMDb reviews, BBC News and names of the ICD.
        loss (`str`, defaults to `"cross_entropy"`): See [`StudentConfig`].
    """
    size = sum(head.size for head in heads)
    grams = fit_grams(texts, unit, min(_MOST_FEATURES, _MOST_WEIGHTS // size))
    counts = sparse.vstack([grams.count(part) for part in windows(texts)], format="csr")
    idf = np.log((1 + counts.shape[0]) / (1 + np.bincount(counts.indices, minlength=grams.size))) + 1
    idf = idf.astype(np.float32)
    rows = weighed(counts, idf)
    found = _fitted(rows, targets, weights, heads, strength, loss)
    return LinearModel(grams, idf, found[:-1], found[-1])


def _fitted(
    rows: sparse.csr_matrix,
    targets: torch.Tensor,
    weights: torch.Tensor,
    heads: Sequence[Head],
    strength: float,
    loss: str,
) -> NDArray[np.float32]:
    """Weights, and the biases as their last row."""
    columns, size = rows.T.tocsr(), sum(head.size for head in heads)

    def measure(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(-1, size)
        logits = torch.tensor(rows @ both[:-1] + both[-1], dtype=torch.float32, requires_grad=True)
        total = strength * summed_losses(heads, logits, targets, weights, loss).sum()
        (slope,) = torch.autograd.grad(total, logits)
        steps = slope.double().numpy()
        slopes = np.concatenate([columns @ steps + both[:-1], steps.sum(0, keepdims=True)])
        return total.item() + 0.5 * float((both[:-1] ** 2).sum()), slopes.ravel()

    start = np.zeros((rows.shape[1] + 1, size))
    found = minimize(measure, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "maxcor": 5})
    return found.x.reshape(-1, size).astype(np.float32)


def choose_unit(
    texts: pa.ChunkedArray, targets: torch.Tensor, weights: torch.Tensor, heads: Sequence[Head], loss: str
) -> tuple[Unit, dict[str, float] | None]:
    """
    What to count. Where texts are short, or have no spaces, whichever gets more of a quarter of the rows (of 2,000 at most)
    right that it has not learnt; elsewhere words.

    Returns:
        `tuple`: The unit; and the share that each got right, where they were tried.
    """
    order = np.random.default_rng(0).permutation(len(texts))[:_TRIED]
    held, learnt = order[: len(order) // 4], order[len(order) // 4 :]
    looked_at = texts.take(pa.array(np.sort(order)))
    characters = pc.sum(pc.utf8_length(looked_at)).as_py() / len(looked_at)
    words = sum(len(split_units(part, "words")[0]) for part in windows(looked_at)) / len(looked_at)
    if not len(held) or (characters > _SHORT and characters < _LONG_WORDS * words):
        return "words", None
    tried: dict[str, float] = {}
    for unit in LONGEST:
        model = fit_linear(texts.take(pa.array(learnt)), targets[learnt], weights[learnt], heads, unit, loss=loss)
        logits = torch.from_numpy(np.concatenate([model.logits(part) for part in windows(texts.take(pa.array(held)))]))
        tried[unit] = float(np.mean([_right(head, head.of(logits), head.of(targets[held])) for head in heads]))
    return ("characters" if tried["characters"] > tried["words"] else "words"), tried


def _right(head: Head, logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of answers that are right, of those that are there; see [`~Question.right`]."""
    question, gold = head.question, head.untargeted(targets)
    answers = head.columns(head.evidence(logits))[question.answer_column].to_pylist()
    known = [i for i, answer in enumerate(gold) if question.is_answer(answer)]
    return float(np.mean(question.right([answers[i] for i in known], [gold[i] for i in known]))) if known else 0.0
