import os
import re
import subprocess
import sys

import pytest

from hf_llambert.processes import process_state

SCRIPT = """
import atexit, sys
from pathlib import Path

def threads():
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm") if "gloo" in path.read_text()]

atexit.register(lambda: print("left" if not threads() else threads()))  # registered first, called last
import torch
from torch.nn.parallel import DistributedDataParallel
from hf_llambert.processes import process_state

def step():  # a model that is still there would keep the group
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()

state = process_state()
assert process_state().num_processes == 2 and threads()
step()
if "fail" in sys.argv and state.process_index == 1:
    raise RuntimeError("out of memory")
state.wait_for_everyone()
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
