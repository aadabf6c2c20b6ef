"""Shared by teachers and students: the identity of a model, its device and its float type."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert.tasks.logs import get_logger

if TYPE_CHECKING:
    from hashlib import _Hash

logger = get_logger(__name__)

_WEIGHTS = (".safetensors", ".gguf")
_MATTERS = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt")
_OURS = ("stage.json", "metrics.json")  # notes beside a student; they do not change its answers
_CHUNK = 1 << 16
_SAMPLES = 64


def content_id(
    model: str, revision: str | None = None, gguf_file: str | None = None, config_file: str = "config.json"
) -> str:
    """
    The identity of a model, independent of its place: a Hub id with the commit it resolved to, or a digest of a
    directory's files.

    Weight files are told apart by their size and by 64 places spread over them, so that a 140 GB model needs no full
    reading.

    Raises:
        FileNotFoundError: `model` is neither a directory with a model nor a Hub id.
    """
    folder = Path(model)
    if not folder.is_dir():
        return _hub_id(model, revision, gguf_file, config_file)
    names = [gguf_file] if gguf_file else sorted(p.name for p in folder.iterdir() if _is_part(p))
    if not any(Path(name).suffix in _WEIGHTS and (folder / name).is_file() for name in names):
        raise FileNotFoundError(f"'{model}' holds no model: expected {gguf_file or 'a .safetensors file'} in it.")
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode())
        digest_file(folder / name, digest, sampled=Path(name).suffix in _WEIGHTS)
    return f"sha256:{digest.hexdigest()[:32]}"


def model_cache() -> dict:
    """A dictionary for the models that a module keeps loaded in this process; [`free_models`] empties it."""
    _CACHES.append({})
    return _CACHES[-1]


def free_models() -> None:
    """
    Forget the teachers and students that this process has loaded, and free their memory and that of any other unused
    model. They are loaded again when they are used again.
    """
    from accelerate.utils.memory import clear_device_cache

    for loaded in _CACHES:
        loaded.clear()
    clear_device_cache(garbage_collection=True)


_CACHES: list[dict] = []


def wants_cpu() -> bool:
    """Whether `ACCELERATE_USE_CPU` asks for the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def choose_device(device: str | None = None, rank: int | None = None) -> str:
    """The device asked for, else this process's GPU, else the CPU; the CPU also where `ACCELERATE_USE_CPU` is true."""
    import torch

    if device:
        return device
    count = (
        0 if wants_cpu() else torch.cuda.device_count()
    )  # does not start CUDA, as is_available does: a fork may follow
    if not count:
        return "cpu"
    if rank is None and count > 1 and "LOCAL_RANK" not in os.environ:
        say_one_gpu(count)
    return f"cuda:{(int(os.environ.get('LOCAL_RANK', '0')) if rank is None else rank) % count}"


@cache
def say_one_gpu(count: int) -> None:
    """Warn, once in a process, that it uses one of the `count` GPUs that it sees."""
    logger.warning(
        "%d GPUs are visible and one process was started: it uses one of them. For all, start it with accelerate launch "
        "--num_processes %d.",
        count,
        count,
    )


def choose_dtype(device: str) -> str:
    """The fastest float type that the device computes natively. bfloat16 without it was 80 times slower on a CPU."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def cpu_computes(dtype: str) -> bool:
    """Whether this CPU has arithmetic for a float type. Without it a matrix product is up to 80 times slower."""
    import torch

    if dtype == "float32":
        return True
    found = torch.cpu.get_capabilities()
    flags = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16")}
    return any(found.get(flag) for flag in flags.get(dtype, ()))


def limit_worker_threads() -> None:
    """
    One thread in a worker of `map(num_proc=...)`. Call it before the worker's first computation.

    In a forked worker the threads that the parent may have started are gone, and waiting for them hangs. In any other,
    all workers with all threads slow each other more than tenfold, unless `OMP_NUM_THREADS` gives each its share.
    """
    import torch

    if _forked or (_is_worker() and "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(1)


def _is_worker() -> bool:
    """Whether this is another process's child, also of the copy of multiprocessing that datasets and datatrove use."""
    modules = (sys.modules.get(name) for name in ("multiprocessing", "multiprocess"))
    return any(module is not None and module.parent_process() is not None for module in modules)


_forked = False


def _note_fork() -> None:
    global _forked  # noqa: PLW0603  (what a fork changes is the process itself)
    _forked = True


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_note_fork)


def _hub_id(model: str, revision: str | None, gguf_file: str | None, config_file: str) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    file = gguf_file or config_file
    try:
        path = Path(hf_hub_download(model, file, revision=revision))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"'{model}' is not a directory here, and no model of that name could be had from the Hub: {error}"
        ) from error
    commit = path.parents[len(Path(file).parts) - 1].name  # .../snapshots/<commit>/<file>
    return f"{model}@{commit}" + (f":{gguf_file}" if gguf_file else "")


def _is_part(path: Path) -> bool:
    return path.is_file() and path.suffix in _MATTERS and path.name not in _OURS


def digest_file(path: Path, digest: _Hash, sampled: bool) -> None:
    """Add a file to a digest; with `sampled`, its size and 64 places spread over it, however large it is."""
    size = path.stat().st_size
    digest.update(f"{size}\0".encode())
    with path.open("rb") as file:
        if not sampled or size <= 2 * _SAMPLES * _CHUNK:
            digest.update(file.read())
            return
        for k in range(_SAMPLES):
            file.seek((size - _CHUNK) * k // (_SAMPLES - 1))
            digest.update(file.read(_CHUNK))
