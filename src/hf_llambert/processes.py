"""Which of several processes this is."""

from __future__ import annotations

import atexit
import os

import torch
import torch.distributed.nn  # before there is a group: its functions keep the one of their import, and its threads, for ever
from accelerate import PartialState


def world_size() -> int:
    """How many processes `accelerate launch` or torchrun started."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def launched() -> tuple[int, int]:
    """Which process this is, counted from 0, and of how many, as a launcher's environment says; (0, 1) without one."""
    return int(os.environ.get("RANK", "0")), world_size()


def process_state() -> PartialState:
    """
    Rank and number of processes. On CPUs accelerate alone would take each of several processes for the only one. The
    group of processes is left when the interpreter ends.

    Raises:
        RuntimeError: Several processes were started and they do not know each other.
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    state = PartialState(cpu=on_cpu or not torch.accelerator.is_available())
    if state.num_processes != world_size():
        raise RuntimeError(
            f"{world_size()} processes were started, but each is on its own ({state.num_processes} in its group). On CPUs "
            f"set ACCELERATE_USE_CPU=true."
        )
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)
    return state


def _leave_group() -> None:
    # Threads of gloo that the interpreter's end meets abort the process now and then (std::terminate), its work done. Only
    # gloo: NCCL could wait here for a process that failed.
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()
