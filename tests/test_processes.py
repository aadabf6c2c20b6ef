import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hf_llambert import processes
from hf_llambert.processes import process_state

SCRIPT = """
import atexit, sys
from pathlib import Path

def threads():
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm") if "gloo" in path.read_text()]

atexit.register(lambda: print("left" if not threads() else threads()))  # registered first, called last
import torch
from torch.nn.parallel import DistributedDataParallel
from hf_llambert.processes import everyones, process_state, tell_others

def step():  # a model that is still there would keep the group
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()

state = process_state()
assert process_state().num_processes == 2 and threads()
step()
if "fail" in sys.argv and state.process_index == 1:
    raise RuntimeError("out of memory")
tell_others("a step")
assert everyones([state.process_index]) == [[0], [1]]
"""


def launch(tmp_path, *arguments):
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "script.py", *arguments],
        cwd=tmp_path,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_no_thread_of_the_group_outlives_the_work(tmp_path):
    done = launch(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.fullmatch(r"(left\s*){2}", done.stdout)  # both write at once


def test_a_process_that_fails_ends_the_others_though_they_wait_for_it(tmp_path):
    done = launch(tmp_path, "fail")
    assert done.returncode != 0
    assert "out of memory" in done.stderr


def test_one_process_is_a_group_of_its_own():
    state = process_state()
    assert (state.process_index, state.num_processes) == (0, 1)


def test_processes_that_do_not_know_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"2 processes were started, but each is on its own \(1 in its group\)"):
        process_state()


def meeting(monkeypatch, *acts):
    """Each act, with the store and its rank, in a thread, as a process of its own."""
    monkeypatch.setattr(processes, "_LOOK_AGAIN", 0.001)
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result(60) for one in [pool.submit(act, store, rank) for rank, act in enumerate(acts)]]


def test_all_processes_learn_what_each_has_in_order(monkeypatch):
    def act(store, rank):
        return processes._met(store, "m", rank, 3, {"rank": rank})

    assert meeting(monkeypatch, act, act, act) == [[{"rank": 0}, {"rank": 1}, {"rank": 2}]] * 3


def test_who_waits_says_for_whom_and_what_they_have_done(monkeypatch):
    monkeypatch.setattr(processes, "_SAY_AGAIN", 0.0)
    said, heard = [], {"nothing told yet": threading.Event(), "labeling: 12 of 40 texts": threading.Event()}

    def warning(text, *values):
        said.append(text % values)
        for what, event in heard.items():
            if what in said[-1]:
                event.set()

    monkeypatch.setattr(processes.logger, "warning", warning)

    def early(store, rank):
        return processes._met(store, "m", rank, 2, None)

    def late(store, rank):
        for what, event in heard.items():
            if what.startswith("labeling"):
                store.set("hf_llambert/done/1", what)
            assert event.wait(60)
        return processes._met(store, "m", rank, 2, None)

    meeting(monkeypatch, early, late)
    assert list(dict.fromkeys(said)) == [f"Process 0 waits for process 1 ({what})." for what in heard]


def test_process_that_holds_the_store_leaves_last(monkeypatch):
    left = []

    def first(store, rank):
        processes._met(store, "m", rank, 2, None)
        left.append((rank, store.add("m/read", 0)))

    def second(store, rank):
        processes._met(store, "m", rank, 2, None)

    meeting(monkeypatch, first, second)
    assert left == [(0, 2)]
