"""Two processes that know each other, forked from that of the tests: what torchrun's would import is there already."""

import multiprocessing
import os
import runpy
import socket
import sys
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_by_two_processes(folder: Path, script: Path, *arguments: object, **environment: str) -> None:
    """Run a script as torchrun does with two processes, in a folder; when one fails, the other is ended."""
    port = free_port()
    context = multiprocessing.get_context("fork")
    environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [str(script), *map(str, arguments)]
    workers = [context.Process(target=_begin, args=(rank, folder, command, environment)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    while running := [worker.sentinel for worker in workers if worker.is_alive()]:
        wait(running)
        if any(worker.exitcode for worker in workers):
            for worker in workers:
                worker.kill()
    shown = "".join((folder / f"shown_by_{rank}.txt").read_text()[-3000:] for rank in (0, 1))
    assert [worker.exitcode for worker in workers] == [0, 0], shown


def _begin(rank: int, folder: Path, command: list[str], environment: dict[str, str]) -> None:
    os.chdir(folder)
    with Path(f"shown_by_{rank}.txt").open("w") as shown:
        for stream in (1, 2):
            os.dup2(shown.fileno(), stream)
        sys.stdout = sys.stderr = shown
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), **environment}
        for state in (PartialState, AcceleratorState, GradientState):
            state._shared_state.clear()
        sys.argv = command
        code = 1
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except BaseException:  # noqa: BLE001  (written down for the test)
            traceback.print_exc()
        if torch.distributed.is_initialized() and not code:
            torch.distributed.destroy_process_group()
        shown.flush()
        os._exit(code)  # no exit handlers of the tests' process
