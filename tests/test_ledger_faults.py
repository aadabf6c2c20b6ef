"""What stands where a ledger or one of its files should, and disks and descriptors that are used up."""

import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hf_llambert import ledger_stats
from hf_llambert.annotation.ledger import Ledger, ledger_files
from hf_llambert.teachers.base import Reply

WHO = {"teacher": "t"}


def kept(folder, *keys):
    """A ledger file with an answer under each key."""
    ledger = Ledger(folder)
    ledger.put({key: Reply(response=f"about {key}") for key in keys}, WHO)
    ledger.close()
    return folder


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def readers(folder):
    return (
        lambda: Ledger(folder).get(["a"]),
        lambda: Ledger(folder).errors(["a"]),
        lambda: len(Ledger(folder)),
        lambda: ledger_stats(folder),
    )


@pytest.mark.parametrize("what", ["folder", "dangling", "loop", "garbage", "half"])
def test_what_is_no_ledger_file_is_named_and_its_neighbours_are_there_without_it(tmp_path, what):
    folder = kept(tmp_path / "ledger", "a")
    bad = folder / "x.sqlite"
    whole = ledger_files(folder)[0].read_bytes()
    if what == "folder":
        bad.mkdir()
    elif what in ("dangling", "loop"):
        bad.symlink_to(bad if what == "loop" else tmp_path / "nowhere.sqlite")
    else:
        bad.write_bytes(b"garbage" * 1000 if what == "garbage" else whole[: len(whole) // 2])
    for read in readers(folder):
        with pytest.raises(OSError, match=r"The ledger file '.*x\.sqlite' cannot be read") as error:
            read()
        assert ("neither a folder nor a broken link" in str(error.value)) == (what in ("folder", "dangling", "loop"))
    kept(folder, "b")  # what is paid for is written beside it
    (bad.rmdir if what == "folder" else bad.unlink)()
    assert {key: reply.response for key, reply in Ledger(folder).get("ab").items()} == {"a": "about a", "b": "about b"}
    assert ledger_stats(folder)["replies"] == 2


@pytest.mark.parametrize("target", ["nowhere", "ledger"])
def test_ledger_that_is_a_broken_link_is_refused_before_anybody_is_asked(tmp_path, target):
    (tmp_path / "ledger").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match=r"A part of '.*/ledger' is a file or a broken link: .*--ledger"):
        Ledger(tmp_path / "ledger").prepare()


def test_ledger_under_a_file_is_refused_before_anybody_is_asked(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"A part of '.*file/ledger' is a file or a broken link: .*--ledger"):
        Ledger(tmp_path / "file" / "ledger").prepare()
    with pytest.raises(FileNotFoundError, match="holds no ledger"):
        ledger_stats(tmp_path / "file")


def test_few_descriptors_are_used_for_many_files_and_all_are_closed(tmp_path):
    folder = tmp_path / "ledger"
    keys = [f"k{i}" for i in range(60)]
    for key in keys:
        kept(folder, key)
    gc.collect()  # what other tests left open
    before = open_files()
    ledger = Ledger(folder)
    assert len(ledger.get(keys)) == len(ledger) == 60
    assert open_files() - before <= 50
    ledger.close()
    assert open_files() == before
    assert ledger_stats(folder)["replies"] == 60
    assert open_files() == before


def test_too_many_open_files_are_said_and_nothing_is_lost(tmp_path):
    folder = kept(tmp_path / "ledger", "a", "b")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    for read in (*readers(folder), lambda: Ledger(folder).prepare()):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            with pytest.raises(OSError, match=r"Too many files are open: raise the limit \(ulimit -n\)"):
                read()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(Ledger(folder).get("ab")) == 2


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="mounts a disk")
def test_full_disk_is_said_and_what_was_paid_for_is_read(small_disk):
    ledger, sent = Ledger(small_disk / "ledger"), 0
    with pytest.raises(OSError, match=r"The disk is full.*--ledger.*only what is missing is asked"):
        for sent in range(1000):
            ledger.put({f"k{sent}": Reply(response="x" * 4000)}, WHO)
    keys = [f"k{i}" for i in range(1000)]
    assert 10 < sent < 200
    assert len(ledger.get(keys)) == sent  # on the disk that is still full
    del ledger
    script = f"from hf_llambert.annotation.ledger import Ledger; print(len(Ledger({str(small_disk / 'ledger')!r})))"
    other = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert other.stdout == f"{sent}\n", other.stderr
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(2**20))
    with pytest.raises(OSError, match="The disk is full"):
        Ledger(small_disk / "another").prepare()
    (small_disk / "filler").unlink()
    assert not list((small_disk / "another").iterdir())  # no half a file
