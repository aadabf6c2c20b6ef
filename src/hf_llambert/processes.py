"""Which of several processes this is, and waiting for the others."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed.nn  # before there is a group: its functions keep the one of their import, and its threads, for ever
from accelerate import PartialState
from torch.distributed.distributed_c10d import _get_default_store

from hf_llambert.models import wants_cpu
from hf_llambert.tasks.logs import get_logger

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")
logger = get_logger(__name__)

_LOOK_AGAIN = 0.2  # seconds
_SAY_AGAIN = 60.0  # seconds
_MEETINGS = itertools.count()


def world_size() -> int:
    """How many processes `accelerate launch` or torchrun started."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def process_state() -> PartialState:
    """
    Rank and number of processes. On CPUs accelerate alone would take each of several processes for the only one. The
    group of processes is left when the interpreter ends.

    Raises:
        RuntimeError: Several processes were started and they do not know each other.
    """
    state = PartialState(cpu=wants_cpu() or not torch.accelerator.is_available())
    if state.num_processes != world_size():
        raise RuntimeError(
            f"{world_size()} processes were started, but each is on its own ({state.num_processes} in its group). On CPUs "
            f"set ACCELERATE_USE_CPU=true."
        )
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)
    return state


def launched() -> tuple[int, int]:
    """Which process this is, counted from 0, and of how many a launcher started; (0, 1) without one."""
    state = process_state()
    return state.process_index, state.num_processes


def everyones(value: T) -> list[T]:
    """
    What each process has, in order of rank. All must call it equally often. It waits for all of them, however long that
    takes (a collective of the group gives up after minutes), and says every minute for whom.

    Args:
        value: What this process has, of the types of JSON.
    """
    state = process_state()
    if state.num_processes == 1:
        return [value]
    name = f"hf_llambert/{next(_MEETINGS)}"
    return _met(_get_default_store(), name, state.process_index, state.num_processes, value)


def wait_for_everyone() -> None:
    """Wait until all processes have come here; see [`everyones`]."""
    everyones(None)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, then in the others, which wait as in [`everyones`]."""
    is_main = process_state().is_main_process
    if not is_main:
        wait_for_everyone()
    yield
    if is_main:
        wait_for_everyone()


def tell_others(done: str) -> None:
    """Store what this process has done so far, for the messages of processes that wait for it."""
    if torch.distributed.is_initialized():
        _get_default_store().set(f"hf_llambert/done/{torch.distributed.get_rank()}", done)


def _met(store: Store, name: str, rank: int, count: int, value: T) -> list[T]:
    store.set(f"{name}/{rank}", json.dumps(value))
    said = time.monotonic()
    while missing := [other for other in range(count) if not store.check([f"{name}/{other}"])]:
        if time.monotonic() - said >= _SAY_AGAIN:
            said = time.monotonic()
            logger.warning("Process %d waits for %s.", rank, "; ".join(_doing(store, other) for other in missing))
        time.sleep(_LOOK_AGAIN)
    values = [json.loads(store.get(f"{name}/{other}")) for other in range(count)]
    store.add(f"{name}/read", 1)
    while rank == 0 and store.add(f"{name}/read", 0) < count:  # it may hold the store: it leaves last
        time.sleep(_LOOK_AGAIN)
    return values


def _doing(store: Store, rank: int) -> str:
    key = f"hf_llambert/done/{rank}"
    done = store.get(key).decode() if store.check([key]) else "nothing told yet"
    return f"process {rank} ({done})"


def _leave_group() -> None:
    # Threads of gloo that the interpreter's end meets abort the process now and then (std::terminate), its work done. Only
    # gloo: NCCL could wait here for a process that failed.
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()
