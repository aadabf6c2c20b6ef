"""Which files of a model are read: safetensors alone, because others can hold code."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_ADVICE = "Such files can hold code. Ask its maker for safetensors, or convert it where you trust it."


def check_weights(model: str | None, revision: str | None = None, adapter: str | None = None) -> None:
    """
    Refuse a model, or an adapter, that has no safetensors, before anything of it is loaded.

    Args:
        model (`str`, *optional*): A local directory, or a Hub id, of which only what is here already is looked at.
        revision (`str`, *optional*): Of a Hub id.
        adapter (`str`, *optional*): The same, of an adapter.

    Raises:
        ValueError: The weights, or those that an index names, are not safetensors.
    """
    if model is not None:
        _check(model, revision, "model", f"model '{model}'")
    if adapter is not None:
        _check(adapter, None, "adapter_model", f"adapter '{adapter}'")


def _check(place: str, revision: str | None, stem: str, what: str) -> None:
    index_name = f"{stem}.safetensors.index.json"
    if (index := _here(place, index_name, revision)) is not None:
        for part in _parts(index, what):
            if not part.endswith(".safetensors") or Path(part).name != part:
                raise ValueError(f"'{index_name}' of {what} names {part[:100]!r}, not a .safetensors file. {_ADVICE}")
    folder = Path(place)
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    own = "" if stem == "model" else stem  # models also come as consolidated.safetensors
    if not any(name.startswith(own) and name.endswith(".safetensors") for name in names):
        found = [name for name in names if name.endswith((*_PICKLED, ".bin.index.json"))]
        raise ValueError(
            f"The {what} has no {stem}.safetensors"
            + (f", but {', '.join(found[:3])}" if found else "")
            + f". {_ADVICE}"
        )
    if stem == "model" and "adapter_config.json" in names:  # transformers loads the adapter beside a model unasked
        _check(place, revision, "adapter_model", f"adapter in '{place}'")


def _here(model: str, name: str, revision: str | None) -> Path | None:
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _parts(index: Path, what: str) -> list[str]:
    """The files that an index names."""
    try:
        weights = json.loads(index.read_bytes())["weight_map"]
        return sorted({str(part) for part in weights.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"'{index.name}' of {what} is no index of weights: {error}") from error


def lora_rank(adapter: str) -> int:
    """The rank of vLLM's that fits an adapter. Raises `ValueError` where none does."""
    from peft import PeftConfig

    rank = getattr(PeftConfig.from_pretrained(adapter), "r", None)  # JSON alone: it has no code to trust
    fitting = next((size for size in _LORA_RANKS if isinstance(rank, int) and rank <= size), None)
    if fitting is None:
        raise ValueError(f"vLLM serves LoRA adapters up to rank {_LORA_RANKS[-1]}; '{adapter}' has r={rank!r}.")
    return fitting
