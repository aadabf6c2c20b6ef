"""Backends that compute a student: PyTorch, OpenVINO or ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hf_llambert.models import choose_device
from hf_llambert.tasks.texts import length_batches
from hf_llambert.training.loading import quiet_transformers

Backend = Literal["torch", "openvino", "onnx"]
Forward = Callable[[Tensor, Tensor], Tensor]
"""From token ids and attention mask, int64 of shape (texts, tokens), to logits, float32 of shape (texts, labels)."""

DTYPES: dict[str, tuple[str, ...]] = {
    "torch": ("float32", "bfloat16", "float16"),
    "openvino": ("float32", "bfloat16"),
    "onnx": ("float32", "int8"),
}
_TOLERANCE = 1e-3  # of logits, for a converted model in float32


def fastest_backend() -> Backend:
    """OpenVINO on a CPU where it is installed, in float32 a fifth faster than PyTorch; else PyTorch."""
    found = importlib.util.find_spec("openvino") is not None and choose_device() == "cpu"
    return "openvino" if found else "torch"


def _whole_mask(*args: object, **kwargs: object) -> Tensor | None:
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(*args, **{**kwargs, **skips})  # type: ignore[arg-type]


_MASKED = "sdpa_masked"
AttentionInterface.register(_MASKED, sdpa_attention_forward)
AttentionMaskInterface.register(_MASKED, _whole_mask)


def always_masked(model: PreTrainedModel) -> None:
    """
    Have SDPA get a mask in every batch. transformers leaves it out where nothing is padded: SDPA then takes other kernels, so
    that the scores of a text depend on its neighbours, and a GPU is waited for in each batch to see whether all is 1.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_MASKED)


def torch_forward(model: PreTrainedModel, separator: int | None = None) -> Forward:
    """The forward pass of the model by PyTorch. `separator`: see [`Reading.type_separator`]."""
    always_masked(model)

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        given = types_of(ids, mask, separator) | {"input_ids": ids, "attention_mask": mask}
        return model(**{name: tensor.to(model.device) for name, tensor in given.items()}).logits.float()

    return forward


def padded(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """
    Token ids and attention mask of rows, padded to the longest on the tokenizer's side. Its own `pad`, which gives the same,
    takes about 20 times as long.
    """
    lengths = np.array([len(row) for row in rows])
    columns = np.arange(lengths.max())
    left = tokenizer.padding_side == "left"
    own = (columns[::-1] if left else columns) < lengths[:, None]
    ids = np.full(own.shape, tokenizer.pad_token_id, np.int64)
    ids[own] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return torch.from_numpy(ids), torch.from_numpy(own.astype(np.int64))


def types_of(ids: Tensor, mask: Tensor, separator: int | None) -> dict[str, Tensor]:
    """
    `token_type_ids` of pairs, by the model's name for them: 1 after the first separator, but for padding; none without a
    separator.
    """
    if separator is None:
        return {}
    found = (ids == separator).long()
    return {"token_type_ids": ((found.cumsum(1) - found) > 0).long() * mask}


@torch.inference_mode()
def mean_hidden(
    encoder: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[list[int]],
    batch_tokens: int = 4096,
    separator: int | None = None,
) -> Tensor:
    """Mean of an encoder's last hidden states over the tokens of each text, float32, (texts, width)."""
    order, parts = [], []
    for batch in length_batches([len(row) for row in rows], batch_tokens):
        inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt").to(
            next(encoder.parameters()).device
        )
        types = types_of(inputs["input_ids"], inputs["attention_mask"], separator)
        hidden = encoder(**inputs, **types).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        parts.append(((hidden * mask).sum(1) / mask.sum(1)).cpu())
        order += batch
    return torch.cat(parts)[torch.tensor(order).argsort()]


def openvino_forward(model: PreTrainedModel, dtype: str, separator: int | None = None) -> Forward:
    """
    The model converted to OpenVINO, on the CPU.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot convert this model, or computes something else.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports to others without asking
    try:
        import openvino
    except ImportError as error:
        raise ImportError(_missing("OpenVINO", "openvino")) from error
    ids, mask = _example(model)
    try:
        with _quietly():
            converted = openvino.convert_model(
                _Plain(model, separator).eval(), example_input={"input_ids": ids, "attention_mask": mask}
            )
    except Exception as error:
        raise RuntimeError(_inconvertible("OpenVINO", error)) from error
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads
    }
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        outputs = request.infer({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        return torch.from_numpy(outputs[0].copy())

    return _checked(forward, model, separator, "OpenVINO") if dtype == "float32" else forward


def onnx_forward(model: PreTrainedModel, dtype: str, separator: int | None = None) -> Forward:
    """
    The model exported to ONNX, in ONNX Runtime on the CPU; its weights and activations as 8-bit integers with
    `dtype="int8"` (dynamic quantisation, a scale for each channel).

    Raises:
        ImportError: ONNX Runtime or the exporter is not installed.
        RuntimeError: The model cannot be exported, or what was exported computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch.onnx needs it)
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ImportError(_missing("ONNX Runtime", "onnx")) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        try:
            with _quietly():
                torch.onnx.export(
                    _Plain(model, separator).eval(),
                    _example(model),
                    str(path),
                    input_names=["input_ids", "attention_mask"],
                    output_names=["logits"],
                    dynamic_shapes=(sizes, sizes),
                    dynamo=True,
                    verbose=False,
                )
        except Exception as error:
            raise RuntimeError(_inconvertible("ONNX", error)) from error
        if dtype == "int8":
            quantised = path.with_name("int8.onnx")
            quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=True)
            path = quantised
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        (logits,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        return torch.from_numpy(logits)

    return _checked(forward, model, separator, "ONNX Runtime") if dtype == "float32" else forward


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the warnings of exporters about branches and opsets; the exported model is checked."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        yield


class _Plain(torch.nn.Module):
    """A model of two tensors in and one out, as exporters need it."""

    def __init__(self, model: PreTrainedModel, separator: int | None) -> None:
        super().__init__()
        self.model, self.separator = model, separator

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        types = types_of(input_ids, attention_mask, self.separator)
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits


def _example(model: PreTrainedModel, texts: int = 2, tokens: int = 16) -> tuple[Tensor, Tensor]:
    """Texts of which one is padded, or an exporter would leave the mask out."""
    ids = torch.arange(texts * tokens).reshape(texts, tokens) % min(100, model.config.vocab_size)
    mask = torch.ones_like(ids)
    mask[-1, tokens // 2 :] = 0
    pad = model.config.pad_token_id
    return ids.masked_fill(mask == 0, 0 if pad is None else pad), mask


def _checked(forward: Forward, model: PreTrainedModel, separator: int | None, name: str) -> Forward:
    for shape in ((3, 24), (1, 9)):
        ids, mask = _example(model, *shape)
        if separator is not None:
            ids[:, 3] = separator
        with torch.inference_mode():
            apart = float((forward(ids, mask) - torch_forward(model, separator)(ids, mask)).abs().max())
        if not apart < _TOLERANCE:
            raise RuntimeError(
                f"{name} computes other logits than PyTorch for this student, by {apart:.2g}. Use backend='torch'."
            )
    return forward


def _missing(name: str, extra: str) -> str:
    return f"backend='{extra}' needs {name}, which is not installed. Run: pip install 'hf-llambert[{extra}]'"


def _inconvertible(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return (
        f"{name} cannot convert this student ({reason[0] if reason else type(error).__name__}). Use backend='torch'."
    )
