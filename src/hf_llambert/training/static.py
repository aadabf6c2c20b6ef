"""The static student: a row of logits for each token, and what it says of a text is the mean over the text's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hf_llambert.notes import damaged_note, read_note
from hf_llambert.training.fast import FastModel, are_finite, read_arrays, shapes_of
from hf_llambert.training.vectors import (
    CONFIG_FILE,
    MODEL_TYPE,
    TABLE_FILE,
    TOKENIZER_FILE,
    Tokens,
    plain_tokenizer,
    write_table,
)

_AGAIN = "Restore it, or train the student again."


@dataclass(frozen=True, eq=False)
class StaticModel(FastModel):
    """
    Logits of texts as means of their tokens' rows.

    Args:
        table (`NDArray[np.float32]` of shape (tokens, logits)): A row for each token, the bias in each.
        bias (`NDArray[np.float32]` of shape (logits,)): The logits of a text without a token that is known.
        tokens (`Tokens`): Whose rows they are. A text is read whole.
    """

    table: NDArray[np.float32]
    bias: NDArray[np.float32]
    tokens: Tokens

    kind: ClassVar[str] = "static"

    @property
    def size(self) -> int:
        return self.table.shape[1]

    def logits(self, texts: pa.Array) -> NDArray[np.float32]:
        if self.tokens.by_words:  # a word that comes a thousand times is read once
            words = pc.split_pattern(texts, " ")
            coded = words.flatten().dictionary_encode()
            sums, lengths = self._sums(*self.tokens.of_words(coded.dictionary))
            places, starts = coded.indices.to_numpy(), words.offsets.to_numpy()
            counts = csr_matrix((np.ones(len(places)), places, starts), shape=(len(texts), len(sums)))
            sums, lengths = counts @ sums, counts @ lengths
        else:
            sums, lengths = self._sums(*self.tokens.of(texts.to_pylist()))
        return np.where(lengths, sums / np.maximum(lengths, 1), self.bias).astype(np.float32)

    def _sums(self, ids: NDArray[np.int32], starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray]:
        """The sum of the rows of each word's or text's tokens, and how many these are."""
        counts = csr_matrix((np.ones(len(ids)), ids, starts), shape=(len(starts) - 1, len(self.table)))
        return counts @ self.table.astype(np.float64), np.diff(starts)[:, None]

    def save(self, folder: Path) -> None:
        """Write a folder that model2vec loads: `StaticModel.from_pretrained(folder).encode(texts)` are the logits."""
        note = {"hidden_dim": self.table.shape[1], "normalize": False}
        write_table(folder, {"embeddings": self.table, "bias": self.bias}, self.tokens, note)

    @classmethod
    def load(cls, folder: Path) -> StaticModel:
        """
        A static student from its folder.

        Raises:
            OSError: It is none, or damaged.
        """
        note = read_note(folder / CONFIG_FILE, {"model_type": str, "normalize": bool}, _AGAIN)
        if note["model_type"] != MODEL_TYPE or note["normalize"]:
            given = f"{note['model_type']!r}{' that normalizes' if note['normalize'] else ''}"
            raise damaged_note(folder / CONFIG_FILE, f"expected {MODEL_TYPE!r} without normalize, got {given}", _AGAIN)
        path = folder / TABLE_FILE
        arrays = read_arrays(path, _AGAIN)
        table, bias = arrays.get("embeddings"), arrays.get("bias")
        if table is None or bias is None or table.ndim != 2 or bias.shape != table.shape[1:]:
            raise damaged_note(
                path, f"expected embeddings (tokens, logits) and bias (logits,), got {shapes_of(arrays)}", _AGAIN
            )
        if not are_finite(table, bias):
            raise damaged_note(path, f"expected finite numbers in float32, got {shapes_of(arrays)}", _AGAIN)
        tokens, rows = plain_tokenizer(folder / TOKENIZER_FILE, table)
        return cls(rows, bias, tokens)
