"""The student's columns, made of its logits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Features, List, Value
from numpy.typing import NDArray
from torch import Tensor

from hf_llambert.training.heads import Head, named_columns


def own_features(heads: Sequence[Head]) -> Features:
    """The columns of a student's answers."""
    own = Features()
    for head in heads:
        scores = {"confidence": Value("float32"), "scores": List(Value("float32"))}
        own |= named_columns(head.name, {**head.question.own_features(), **scores})
    return own


def answer_columns(
    heads: Sequence[Head],
    logits: Tensor,
    of_text: NDArray[np.int64],
    n_texts: int,
    long_texts: str = "truncate",
) -> dict[str, pa.Array]:
    """
    The columns of answers, with nothing where a text could not be read or the model gave no numbers.

    Args:
        heads (`Sequence[Head]`): Whose logits are which.
        logits (`Tensor` of shape (rows, logits)): On the CPU.
        of_text (`NDArray` of shape (rows,)): Which text each row is of, ascending; several rows where long texts are read in
            parts.
        n_texts (`int`): How many texts there are.
        long_texts (`str`, defaults to `"truncate"`): How parts are joined; see [`StudentLabeler`].
    """
    of_part = None
    if long_texts != "truncate" and len(of_text):
        of_text, parts = np.unique(of_text, return_inverse=True)
        of_part = torch.tensor(parts)
    nan = (~logits.isfinite()).any(-1).nonzero().flatten()  # infinite ones become NaN
    lost = np.unique((nan if of_part is None else of_part[nan]).numpy())
    places = np.full(n_texts, -1)
    places[of_text] = np.arange(len(of_text))
    places[of_text[lost]] = -1
    if len(lost):
        warnings.warn(
            f"The student gave no numbers (NaN) for {len(lost):,} of {n_texts:,} texts, which have no answer. Use "
            f"dtype='float32', or train it with a smaller learning rate."
        )
    out: dict[str, pa.Array] = {}
    schema = own_features(heads).arrow_schema
    for head in heads:
        nothing = head.question.no_answer()
        found = head.columns(head.evidence(head.of(logits), of_part, long_texts)) if len(of_text) else {}
        for end in (*nothing, "confidence", "scores"):
            name = next(iter(named_columns(head.name, {end: None})))
            kind = schema.field(name).type
            column = found[end].cast(kind) if found else pa.array([], kind)
            if (places < 0).any() or len(column) != n_texts:
                column = column.take(pa.array(places, mask=places < 0))
                if nothing.get(end) is not None:
                    column = pc.fill_null(column, pa.scalar(nothing[end], kind))
            out[name] = column
    return out
