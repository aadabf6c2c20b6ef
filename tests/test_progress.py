import pytest

from hf_llambert import progress
from hf_llambert.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("total", [None, 1000])
def test_log_has_a_line_every_five_seconds(clock, capsys, total):
    with progress_bar("labeling", total) as advance:
        for _ in range(30):
            clock[0] += 1
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[0] == ("labeling: 5, 1.0 texts/s" if total is None else "labeling: 5/1,000, 1.0 texts/s, 995 s left")


def test_quick_work_is_told_by_tenths(clock, capsys):
    with progress_bar("labeling", 100) as advance:
        for _ in range(100):
            clock[0] += 0.01
            advance(1)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"labeling: {10 * k}/100" for k in range(1, 11)
    ]


def test_who_waits_learns_of_a_process_that_shows_nothing(clock, capsys, monkeypatch):
    told = []
    monkeypatch.setattr(progress, "tell_others", told.append)
    with progress_bar("labeling", 40, show=False) as advance:
        clock[0] += 6
        advance(3)
        advance(1)
    assert told == ["labeling: 3/40, 0.5 texts/s, 74 s left", "labeling: 4/40, 0.7 texts/s, 54 s left"]
    assert capsys.readouterr().err == ""
