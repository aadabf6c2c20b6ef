"""Measures how fast an encoder trains and labels on this machine, by a few steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_llambert.models import choose_device, free_models, limit_worker_threads
from hf_llambert.planning.forecast import Estimate, mean_estimate
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.backends import Backend
from hf_llambert.training.heads import heads_of, is_plain
from hf_llambert.training.inputs import Reading, save_reading
from hf_llambert.training.loading import longest_input, new_classifier
from hf_llambert.training.students import StudentLabeler

_STEPS = 5  # the first of them warms up
_LABEL_ROUNDS = 4


def student_speed(
    student: str,
    task: TaskSpec,
    texts: Sequence[str],
    *,
    max_length: int = 512,
    head_share: float = 1.0,
    batch_size: int = 16,
    backend: Backend = "torch",
) -> dict[str, Estimate]:
    """
    Train a copy of an encoder for a few steps and label with it, float32, on this process's GPU or the CPU.

    The steps go through the sample from short to long texts, as `group_by_length` does, so that their mean is that of a
    training. Nothing is kept of the copy.

    Args:
        student (`str`): Directory or Hub id of an encoder.
        task (`TaskSpec`): The task, for the number of labels.
        texts (`Sequence[str]`): Usable texts like those of the training.
        max_length (`int`, defaults to 512): Longest input in tokens.
        head_share (`float`, defaults to 1): Share of a cut text taken from its beginning.
        batch_size (`int`, defaults to 16): Rows in a step.
        backend (`str`, defaults to `"torch"`): What computes when labelling: torch, openvino or onnx.

    Returns:
        `dict`: `train`, seconds for one row in one epoch, and `label`, seconds for one text, each as `value`, `low`, `high`.

    Raises:
        ValueError: There are no texts.
    """
    if not texts:
        raise ValueError("Measuring a student needs a usable text at least, got none.")
    limit_worker_threads()
    device = choose_device()
    tokenizer, model = new_classifier(task, student)
    model.to(device).train()  # type: ignore[arg-type]  # its stub lost self
    reading = Reading(min(max_length, longest_input(tokenizer, model)), head_share, task.fields)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "student"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        heads = heads_of(task)
        save_reading(folder, reading, {}, () if is_plain(heads) else [head.note() for head in heads])
        steps = _train_seconds(model, tokenizer, reading.encode(tokenizer, list(texts)), batch_size, device)
        del model
        free_models()  # with its gradients and optimizer: they would take memory from the labelling
        labelling = _label_seconds(StudentLabeler(folder, backend=backend), list(texts))
    return {"train": mean_estimate(steps[1:]), "label": mean_estimate(labelling)}


def _train_seconds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    batch_size: int,
    device: str,
) -> list[float]:
    """Seconds for one row, of each step."""
    batches = _spread(sorted(rows, key=len), batch_size)
    loader: DataLoader = DataLoader(
        [{"input_ids": row} for batch in batches for row in batch],  # type: ignore[arg-type]
        batch_size=batch_size,
        collate_fn=DataCollatorWithPadding(tokenizer),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    steps = []
    for inputs in loader:
        start = time.perf_counter()
        model(**inputs.to(device)).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        _finish(device)
        steps.append((time.perf_counter() - start) / len(inputs["input_ids"]))
    return steps


def _spread(rows: list[list[int]], batch_size: int) -> list[list[list[int]]]:
    """Full batches of similar length, one to warm up (of the middle) and some spread over all lengths."""
    if len(rows) < batch_size:
        rows = (rows * batch_size)[:batch_size]
    starts = [round(k * (len(rows) - batch_size) / (_STEPS - 2)) for k in range(_STEPS - 1)]
    middle = (len(rows) - batch_size) // 2
    return [rows[start : start + batch_size] for start in (middle, *starts)]


def _label_seconds(labeler: StudentLabeler, texts: list[str]) -> list[float]:
    """Seconds for one text, of each round."""
    labeler.label(texts)  # a warm-up with the shapes that come
    found = []
    for _ in range(_LABEL_ROUNDS):
        before = labeler.seconds
        labeler.label(texts)
        found.append((labeler.seconds - before) / len(texts))
    return found


def _finish(device: str) -> None:
    """Wait for a GPU, which computes after the call has returned."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
