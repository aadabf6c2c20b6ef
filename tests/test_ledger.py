import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec
from hf_llambert.annotation.ledger import Ledger, reply_key
from hf_llambert.teachers.base import Reply

WHO = {"teacher": "x"}
REPLY = Reply(scores=(-0.1, -2.3456789012345678), response=None, truncated=True, seconds=0.25)


def test_reply_comes_back_as_it_went_in(tmp_path):
    Ledger(tmp_path / "l").put({"a": REPLY, "b": Reply(response="ja \x00 ✓")}, WHO)
    assert Ledger(tmp_path / "l").get(["a", "b", "c"]) == {"a": REPLY, "b": Reply(response="ja \x00 ✓")}


def test_how_an_answer_ended_is_kept(tmp_path):
    cut = Reply(response="it is pos", finish="length", structured=True)
    Ledger(tmp_path / "l").put({"a": cut}, WHO)
    assert Ledger(tmp_path / "l").get(["a"]) == {"a": cut}


def test_reading_an_absent_ledger_makes_nothing(tmp_path):
    ledger = Ledger(tmp_path / "l")
    assert ledger.get(["a"]) == {}
    assert len(ledger) == 0
    assert not (tmp_path / "l").exists()


def test_more_keys_than_sql_takes(tmp_path):
    ledger = Ledger(tmp_path)
    replies = {f"k{i}": Reply(response=str(i)) for i in range(2500)}
    ledger.put(replies, WHO)
    assert ledger.get([*replies, "other"]) == replies


def test_first_reply_to_a_question_stays(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put({"a": Reply(response="1")}, WHO)
    ledger.put({"a": Reply(response="2")}, WHO)
    assert ledger.get(["a"])["a"].response == "1"


def test_errors_are_counted_and_not_kept(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put({"a": Reply(error="timeout")}, WHO)
    assert ledger.get(["a"]) == {}
    assert (len(ledger), ledger.failures()) == (0, 1)


def _write(folder, name):
    ledger = Ledger(folder)
    for i in range(50):
        ledger.put({f"{name}-{i}": Reply(response=str(i))}, WHO)


def test_processes_write_at_once_into_files_of_their_own(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(list(tmp_path.glob("*.sqlite"))) == 2
    assert len(Ledger(tmp_path)) == 100


def _read_all_the_while(folder, errors, stop):
    try:
        while not stop.is_set():
            Ledger(folder).get(["a-0"])
    except OSError as error:
        errors.put(str(error))


def test_reading_while_others_begin_to_write_never_fails(tmp_path):
    context = multiprocessing.get_context("spawn")
    errors, stop = context.Queue(), context.Event()
    reader = context.Process(target=_read_all_the_while, args=(tmp_path, errors, stop))
    reader.start()
    for i in range(100):
        Ledger(tmp_path).put({f"a-{i}": REPLY}, WHO)
    stop.set()
    reader.join()
    assert errors.empty()
    assert len(Ledger(tmp_path)) == 100


def test_child_of_a_fork_opens_its_own_file(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put({"parent": REPLY}, WHO)
    worker = multiprocessing.get_context("fork").Process(target=ledger.put, args=({"child": REPLY}, WHO))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert ledger.get(["parent", "child"]).keys() == {"parent", "child"}
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def _write_and_die(folder):
    ledger = Ledger(folder)
    ledger.put({"a": REPLY}, WHO)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_put_survives_kill_9(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert Ledger(tmp_path).get(["a"]) == {"a": REPLY}


def _fill_the_disk(folder):
    # A limit on file size stands for a full disk: SQLite sees the write fail in the same way.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = Ledger(folder)
    ledger.put({"kept": REPLY}, WHO)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        ledger.put({"lost": Reply(response="x" * 1_000_000)}, WHO)
    except OSError as error:
        Path(folder, "error.txt").write_text(str(error)[:500])


def test_full_disk_is_explained_and_loses_nothing(tmp_path):
    worker = multiprocessing.get_context("spawn").Process(target=_fill_the_disk, args=(tmp_path,))
    worker.start()
    worker.join()
    message = (tmp_path / "error.txt").read_text()
    assert "cannot be written" in message
    assert "The replies up to here are kept" in message
    assert Ledger(tmp_path).get(["kept", "lost"]) == {"kept": REPLY}


def test_ledger_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "l").write_text("")
    with pytest.raises(NotADirectoryError, match="must be a directory"):
        Ledger(tmp_path / "l")


def test_damaged_file_is_named(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(OSError, match=r"x\.sqlite' cannot be read.*Restore or remove it"):
        Ledger(tmp_path).get(["a"])


def test_key_depends_on_who_and_what_and_not_on_the_order_of_names():
    assert reply_key({"a": 1, "b": 2}, "x") == reply_key({"b": 2, "a": 1}, "x")
    keys = {reply_key(WHO, "x"), reply_key(WHO, "y"), reply_key({"teacher": "y"}, "x"), reply_key(WHO, ["x"])}
    assert len(keys) == 4


def test_files_are_plain_sqlite(tmp_path):
    Ledger(tmp_path).put({"a": REPLY}, WHO)
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT identity FROM identities").fetchall() == [('{"teacher": "x"}',)]


def test_closed_ledger_has_everything_in_its_file_and_opens_again(tmp_path):
    ledger = Ledger(tmp_path / "l")
    ledger.put({"a": REPLY}, WHO)
    ledger.close()
    assert [p.suffix for p in (tmp_path / "l").iterdir()] == [".sqlite"]
    assert ledger.get(["a"]) == {"a": REPLY}
    ledger.put({"b": REPLY}, WHO)
    assert len(ledger) == 2


def test_torn_last_write_loses_only_itself(tmp_path):
    ledger = Ledger(tmp_path / "l")
    for name in "abc":
        ledger.put({name: REPLY}, WHO)
    copy = tmp_path / "after-the-power-cut"
    shutil.copytree(tmp_path / "l", copy)
    (log,) = copy.glob("*-wal")
    whole = log.read_bytes()
    log.write_bytes(whole[:-100] + b"\x00" * 60)
    assert Ledger(copy).get(["a", "b", "c"]).keys() == {"a", "b"}


def test_ledger_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.put({"a": REPLY}, WHO)
    ledger.close()
    files = sorted(tmp_path.iterdir())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert Ledger(tmp_path).get(["a", "b"]) == {"a": REPLY}
    assert sorted(tmp_path.iterdir()) == files


def test_log_of_a_killed_process_where_nothing_can_be_written_is_explained(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.put({"a": REPLY}, WHO)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OSError, match="Copy the ledger to a place that can be written"):
        Ledger(tmp_path).get(["a"])


def test_place_that_cannot_be_written_is_said_before_anybody_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    teacher = CountingTeacher(str(tmp_path / "log"))
    labeler = LLMLabeler(TaskSpec("t", ("a", "b"), "{text}"), teacher, tmp_path / "file/ledger")
    with pytest.raises(OSError, match="cannot be written"):
        labeler({"text": ["a text"]})
    assert teacher.asked() == []


def test_more_files_than_are_kept_open_are_all_read(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_llambert.annotation.ledger._KEPT_OPEN", 2)
    for k in range(5):
        Ledger(tmp_path).put({str(k): Reply(response=str(k))}, WHO)
    ledger = Ledger(tmp_path)
    assert [ledger.get(map(str, range(5)))[str(k)].response for k in range(5)] == list("01234")
    assert len(ledger) == 5


def test_why_asking_failed_is_remembered(tmp_path):
    ledger = Ledger(tmp_path)
    for error in ("timeout", "no connection"):
        ledger.put({"a": Reply(error=error), "b": REPLY}, WHO)
    assert ledger.errors(["a", "b", "c"]) == {"a": "no connection"}
