import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kill.py"


@pytest.mark.slow
def test_two_processes_killed_at_a_random_instant_end_as_if_nobody_had(teacher_dir):
    command = [sys.executable, str(SCRIPT), "--model", teacher_dir, "--instants", "1", "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    assert "1 ended with the uninterrupted dataset" in summary
    assert int(summary.split("asked again: ")[1].split()[0]) <= 2
