"""A student in memory, whatever computes it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from hf_llambert.models import cpu_computes
from hf_llambert.notes import damaged_note
from hf_llambert.tasks.budget import TokenBudget
from hf_llambert.training.backends import Backend, Forward, onnx_forward, openvino_forward, torch_forward
from hf_llambert.training.fast import FastModel
from hf_llambert.training.inputs import TRAINING_FILE, Reading
from hf_llambert.training.linear import LinearModel
from hf_llambert.training.loading import (
    SAFE,
    fit_pad_token,
    load_tokenizer,
    longest_input,
    noted_reading,
    positions,
    student_heads,
)
from hf_llambert.training.static import StaticModel

FAST: dict[str, type[FastModel]] = {kind.kind: kind for kind in (LinearModel, StaticModel)}
"""Students that are no encoders, by their kind."""


@dataclass(frozen=True)
class Loaded:
    """A student in memory: its tokenizer, how it reads, and what computes its logits."""

    tokenizer: PreTrainedTokenizerBase
    reading: Reading
    forward: Forward
    model: PreTrainedModel | None  # where PyTorch computes
    budget: TokenBudget = field(default_factory=TokenBudget)


def load_student(
    student: str, revision: str | None, device: str, backend: Backend, dtype: str, attention: str | None = None
) -> Loaded:
    """
    Load a student, to label with it.

    Args:
        student (`str`): Directory or Hub id.
        revision (`str`, *optional*): Revision of a Hub id.
        device (`str`): Where it computes.
        backend (`str`): `torch`, `openvino` or `onnx`.
        dtype (`str`): In which it computes.
        attention (`str`, *optional*): With torch; see [`StudentLabeler`].

    Raises:
        ValueError: It is no trained classifier.
        OSError: Its notes are damaged.
    """
    torch_too = backend == "torch"
    if device == "cpu" and dtype in ("bfloat16", "float16") and not cpu_computes(dtype):
        warnings.warn(f"This CPU has no {dtype} arithmetic: up to 80 times slower than dtype='float32'.")
    tokenizer = load_tokenizer(student, revision)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        student,
        revision=revision,
        dtype=getattr(torch, dtype if torch_too else "float32"),
        attn_implementation=attention,
        output_loading_info=True,
        **SAFE,
    )
    if info["missing_keys"]:
        raise ValueError(
            f"'{student}' is no trained classifier: it has no weights for {', '.join(sorted(info['missing_keys']))}. "
            f"Pass a student that hf-llambert train made, or another sequence classification model."
        )
    fit_pad_token(tokenizer, model)
    model.to(device).eval()
    reading = _reading(student, revision, tokenizer, model)
    separator = reading.type_separator(tokenizer, model)
    if torch_too:
        return Loaded(tokenizer, reading, torch_forward(model, separator), model)
    convert = openvino_forward if backend == "openvino" else onnx_forward
    return Loaded(tokenizer, reading, convert(model, dtype, separator), None)


def load_fast(student: str, revision: str | None, kind: str) -> FastModel:
    """
    Load a static or linear student.

    Raises:
        ValueError: There is no such kind.
        OSError: A file of it is damaged.
    """
    if kind not in FAST:
        raise ValueError(
            f"'{student}/{TRAINING_FILE}' says that it is a student of kind {kind!r}; known are encoder, {', '.join(FAST)}. "
            f"Use a newer version of hf-llambert."
        )
    folder = Path(student)
    if not folder.is_dir():
        folder = Path(snapshot_download(student, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    try:
        model = FAST[kind].load(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"'{student}' is a {kind} student without {Path(error.filename or '').name or error}. Restore it, or train the "
            f"student again."
        ) from error
    noted = sum(head.size for head in student_heads(str(folder), None))
    if model.size != noted:
        raise damaged_note(
            folder / TRAINING_FILE,
            f"its questions have {noted} logits, the model {model.size}",
            "Restore it, or train the student again.",
        )
    return model


def _reading(
    student: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> Reading:
    noted = noted_reading(student, revision)
    if "max_length" not in noted:
        return Reading(longest_input(tokenizer, model))
    try:
        reading = Reading(**noted)
    except (ValueError, TypeError) as error:
        raise OSError(
            f"'{student}/{TRAINING_FILE}' is damaged ({error}). Restore it, or train the student again."
        ) from error
    return replace(reading, max_length=min(reading.max_length, positions(model)))
