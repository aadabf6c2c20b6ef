import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def killed_once(script: str, **options: object) -> str:
    """What a benchmark says in its last line, after one instant on two processes."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(FOLDER / script), "--instants", "1", "--processes", "2", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_two_processes_killed_at_a_random_instant_end_as_if_nobody_had(teacher_dir):
    summary = killed_once("kill.py", model=teacher_dir)
    assert "1 ended with the uninterrupted dataset" in summary
    assert int(summary.split("asked again: ")[1].split()[0]) <= 2


@pytest.mark.slow
def test_cascade_of_two_processes_killed_at_a_random_instant_ends_as_if_nobody_had(student_dir, teacher_dir):
    summary = killed_once("kill_cascade.py", student=student_dir, teacher=teacher_dir)
    assert "1 of 1 ended with the rows of the uninterrupted run and as many replies" in summary
