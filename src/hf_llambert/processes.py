"""Which of several processes this is."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def world_size() -> int:
    """How many processes `accelerate launch` or torchrun started."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def launched() -> tuple[int, int]:
    """Which process this is, counted from 0, and of how many, as a launcher's environment says; (0, 1) without one."""
    return int(os.environ.get("RANK", "0")), world_size()


def process_state() -> PartialState:
    """
    Rank and number of processes. On CPUs accelerate alone would take each of several processes for the only one.

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
    return state
