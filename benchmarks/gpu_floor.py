"""What `gpu.py` measures against: the arithmetic of real tokens over the device's own speed of a matrix product."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import nn

L4_TEXTS_A_SECOND = 876  # DistilBERT, 100 tokens ("1 Billion Classifications")
L4_BF16 = 121e12  # dense bf16 operations a second, the vendor's data sheet


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device, rounds: int = 3) -> float:
    """Median seconds of a run, the device waited for before and after. It must have been warmed up."""
    found = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def linear_shapes(model: nn.Module, skipped: Sequence[nn.Module] = ()) -> Counter[tuple[int, int]]:
    """How many matrices of which (inputs, outputs) each token goes through; a head that reads single positions is skipped."""
    left_out = {id(module) for module in skipped}
    return Counter(
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, nn.Linear) and id(module) not in left_out
    )


def read_once(model: nn.Module) -> list[nn.Module]:
    """The parts of a classifier that read one token of a text, by their names in transformers."""
    return [module for name, module in model.named_modules() if any(part in name for part in ("pooler", "classifier"))]


def flops_of(shapes: Counter[tuple[int, int]], tokens: int) -> int:
    """Operations of so many tokens in these matrices."""
    return 2 * tokens * sum(count * wide * out for (wide, out), count in shapes.items())


def attention_flops(width: int, layers: int, lengths: Sequence[int], prefix: int = 0, causal: bool = False) -> int:
    """
    Operations of attention: each token with each that it sees, twice.

    Args:
        width: Of all heads that ask, together.
        layers: How many.
        lengths: Tokens of each text, those of a shared prefix not among them.
        prefix: Tokens that all texts share and see.
        causal: Whether a token sees only itself and those before it.
    """
    pairs = sum(n * prefix + (n * (n + 1) // 2 if causal else n * n) for n in lengths)
    return 4 * width * layers * pairs


def model_flops(
    model: nn.Module, lengths: Sequence[int], prefix: int = 0, causal: bool = False, skipped: Sequence[nn.Module] = ()
) -> int:
    """Operations that a model of transformers needs for the real tokens of these texts, padding not counted."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    shapes = linear_shapes(model, skipped)
    return flops_of(shapes, sum(lengths)) + attention_flops(width, config.num_hidden_layers, lengths, prefix, causal)


def matmul_rate(
    shapes: Counter[tuple[int, int]], rows: int, device: torch.device, dtype: torch.dtype, times: int = 10
) -> float:
    """
    Operations a second of matrix products of these shapes, each as often as the model has it, on random numbers.

    Args:
        shapes: (inputs, outputs) and how many of them.
        rows: Tokens in a product: those of a batch.
        device: Where.
        dtype: In which type.
        times: Products timed together, after three that are not; the best of three such times counts.
    """
    seconds = operations = 0.0
    for (wide, out), count in shapes.items():
        left = torch.randn(rows, wide, device=device, dtype=dtype)
        right = torch.randn(wide, out, device=device, dtype=dtype)

        def products(left: torch.Tensor = left, right: torch.Tensor = right) -> None:
            for _ in range(times):
                left @ right

        for _ in range(3):
            left @ right
        best = min(seconds_of(products, device, rounds=1) for _ in range(3))
        seconds += count * best / times
        operations += count * 2.0 * rows * wide * out
    return operations / seconds


def square_rate(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second of one large square product: what the device can do at all."""
    return matmul_rate(Counter({(size, size): 1}), size, device, dtype)


def l4_budget(rate: float) -> float:
    """Texts a second to exceed on this device: those of an L4, scaled by the rate of bf16."""
    return L4_TEXTS_A_SECOND * rate / L4_BF16
