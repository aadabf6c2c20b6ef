import json
import platform
import signal
import sqlite3
import subprocess
import sys

import pytest
from datasets import load_dataset
from typer.testing import CliRunner

from hf_llambert import compact_ledger, export_ledger, ledger_stats
from hf_llambert.annotation import ledger as ledger_module
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.cli import app
from hf_llambert.teachers.base import Reply

WHO, OTHER, THIRD = ({"teacher": "t", "model": model} for model in ("one", "two", "three"))


@pytest.fixture
def folder(tmp_path):
    """A ledger of four processes that have ended, with one reply twice."""
    folder = tmp_path / "ledger"
    for k, who in enumerate((WHO, OTHER, WHO)):
        ledger = Ledger(folder)
        replies = {f"{k}-{i}": Reply(scores=(-1.0 * i, -2.0), seconds=0.5, input_tokens=10) for i in range(4)}
        ledger.put({**replies, "twice": Reply(response="yes", output_tokens=2), "no": Reply(error="timeout")}, who)
        ledger.close()
    ledger = Ledger(folder)
    ledger.put({"old": Reply(scores=(-0.5, -1.5), seconds=0.25)}, THIRD)
    ledger.close()
    for number, path in enumerate(sorted(folder.glob("*.sqlite"))):
        path.rename(folder / f"{platform.node()}-{2**22 + 7 + number}-0000000{number}.sqlite")  # beyond any process
    return folder


def everything(folder):
    return [json.loads(line) for line in export(folder).read_text().splitlines()]


def export(folder, name="out.jsonl"):
    export_ledger(folder, folder.parent / name)
    return folder.parent / name


def test_stats_count_each_reply_once_and_say_who_was_asked(folder):
    found = ledger_stats(folder)
    assert (found["files"], found["replies"], found["failures"]) == (4, 14, 3)
    assert (found["input_tokens"], found["output_tokens"], found["seconds"]) == (120, 2, 6.25)
    assert "2026" < found["first"] <= found["last"]
    assert sum(asked["replies"] for asked in found["asked"]) == 14
    assert [asked["identity"] for asked in found["asked"]] == [WHO, OTHER, THIRD]


def test_export_has_every_reply_once_in_the_order_of_keys(folder):
    rows = everything(folder)
    assert [row["key"] for row in rows] == sorted({row["key"] for row in rows})
    assert len(rows) == 14
    table = load_dataset("parquet", data_files=str(export(folder, "out.parquet")), split="train")
    assert [dict(row) for row in table] == rows


def test_export_leaves_no_half_file(folder, monkeypatch):
    monkeypatch.setattr(ledger_module.json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["ledger"]
    with pytest.raises(ValueError, match="ends in .jsonl or .parquet"):
        export_ledger(folder, "out.csv")


def test_compact_makes_one_file_with_everything(folder):
    before = everything(folder)
    assert compact_ledger(folder) == {"merged": 4, "left": 0, "replies": 14}
    (path,) = folder.glob("*.sqlite*")
    assert path.name.startswith("compact-")
    assert everything(folder) == before
    assert Ledger(folder).failures() == 3
    assert ledger_stats(folder)["asked"][0]["identity"] == WHO
    assert compact_ledger(folder) == {"merged": 0, "left": 1, "replies": 0}


def test_compact_leaves_running_processes_and_other_machines_alone(folder):
    writer = Ledger(folder)
    writer.put({"mine": Reply(response="1")}, WHO)
    (folder / "another-host-1-00000000.sqlite").write_bytes(sorted(folder.iterdir())[0].read_bytes())
    assert compact_ledger(folder)["left"] == 2
    writer.put({"more": Reply(response="2")}, WHO)
    assert len(Ledger(folder).get(["mine", "more", "old", "2-3"])) == 4
    assert compact_ledger(folder, all_hosts=True) == {"merged": 2, "left": 1, "replies": 14}


def test_reader_goes_on_while_its_files_are_compacted(folder):
    reader = Ledger(folder)
    assert "0-1" in reader.get(["0-1"])
    compact_ledger(folder)
    assert len(reader.get(["0-1", "1-1", "old"])) == 3


def test_two_compacts_at_once_are_refused(folder):
    from filelock import FileLock

    with FileLock(folder / ".compact.lock"), pytest.raises(RuntimeError, match="Another compact runs"):
        compact_ledger(folder)


KILLED = """
import os, signal, sys
from hf_llambert.annotation import ledger_tools
from pathlib import Path
at = int(sys.argv[2])
def count(inner):
    def call(*args, **kwargs):
        global at
        at -= 1
        if at < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **kwargs)
    return call
ledger_tools._sorted = count(ledger_tools._sorted)
Path.replace, Path.unlink = count(Path.replace), count(Path.unlink)
os.fsync = count(os.fsync)
ledger_tools.compact_ledger(sys.argv[1])
"""


@pytest.mark.parametrize("instant", [2, 4, 5, 6, 8])
def test_compact_killed_at_any_instant_loses_nothing(folder, instant):
    before = everything(folder)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(instant)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert everything(folder) == before
    compact_ledger(folder)
    assert everything(folder) == before
    assert not list(folder.glob("*.part*"))


@pytest.mark.parametrize(("layout", "whose"), [(7, "a newer"), (1, "an unreleased")])
def test_another_layout_is_refused_before_anything_is_asked(folder, layout, whose):
    connection = sqlite3.connect(next(folder.glob("*.sqlite")))
    connection.execute(f"PRAGMA user_version = {layout}")
    connection.close()
    with pytest.raises(OSError, match=rf"by {whose} hf_llambert \(layout {layout}; this version reads 2\). Use the"):
        Ledger(folder).get(["x"])


def test_nothing_to_look_at_is_said(tmp_path):
    for call in (ledger_stats, compact_ledger, lambda folder: export_ledger(folder, tmp_path / "x.jsonl")):
        with pytest.raises(FileNotFoundError, match="holds no ledger"):
            call(tmp_path)


def test_command_line_shows_takes_out_and_compacts(folder):
    run = CliRunner().invoke
    out = run(app, ["ledger", "stats", str(folder)]).output
    assert "14 replies in 4 file(s)" in out
    assert "1  model: three, teacher: t" in out
    assert json.loads(run(app, ["ledger", "stats", str(folder), "--json"]).output)["replies"] == 14
    assert "14 replies written" in run(app, ["ledger", "export", str(folder), str(folder.parent / "x.jsonl")]).output
    assert "4 files made one, 14 replies; 0 files left" in run(app, ["ledger", "compact", str(folder)]).output
