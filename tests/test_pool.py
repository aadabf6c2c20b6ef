import dataclasses
import functools
import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, IterableDataset, load_dataset

from hf_llambert import StudentLabeler, TaskSpec, label_pool, load_data, processes, read_pool
from hf_llambert.pool import shards, share, sources
from hf_llambert.training.students import Encoded

STUDENT = ["student_label", "student_confidence", "student_scores"]


@pytest.fixture
def pool():
    rows = {"id": list(range(23)), "text": [f"text number {i} " * (1 + i % 3) for i in range(23)]}
    rows["text"][5] = None
    rows["text"][7] = rows["text"][6]
    return Dataset.from_dict(rows)


@pytest.fixture
def labeler(student_dir):
    return StudentLabeler(student_dir)


@pytest.fixture
def files(pool, tmp_path):
    """The pool in three files of 9, 9 and 5 rows; the second has two row groups."""
    folder = tmp_path / "files"
    folder.mkdir()
    for k, start in enumerate((0, 9, 18)):
        table = pa.table(pool.select(range(start, min(start + 9, 23))).to_dict())
        pq.write_table(table, folder / f"{k}.parquet", row_group_size=5)
    return folder


def label(pool, labeler, folder, **kwargs):
    return label_pool(pool, labeler, folder, kwargs.pop("rows_per_shard", 10), show_progress=False, **kwargs)


def shard_names(folder):
    return sorted(path.name for path in folder.glob("part-*.parquet"))


def counted(monkeypatch):
    """Notes how many texts the student computes at once."""
    calls, whole = [], StudentLabeler.score

    def score(self, encoded: Encoded, rank=None, progress=None):
        calls.append(encoded.n_texts)
        return whole(self, encoded, rank, progress)

    monkeypatch.setattr(StudentLabeler, "score", score)
    monkeypatch.setattr(StudentLabeler, "warm_up", lambda self: None)
    return calls


def test_rows_come_out_in_order_beside_their_columns(pool, labeler, tmp_path):
    results = label(pool, labeler, tmp_path / "labels")
    out = read_pool(tmp_path / "labels")
    assert out.column_names == ["id", "text", *STUDENT]
    assert out["id"][:] == pool["id"][:]
    assert out["text"][:] == pool["text"][:]
    expected = labeler.label(pool["text"])
    assert out["student_label"][:] == expected["student_label"]
    assert out["student_scores"][:][0] == pytest.approx(expected["student_scores"][0], abs=1e-5)
    assert out.features["student_label"].names == ["negative", "positive"]
    assert (results["n_labelled"], results["n_unusable"], results["complete"]) == (22, 1, True)
    assert load_data(tmp_path / "labels").to_dict() == out.to_dict()
    loaded = load_dataset(str(tmp_path / "labels"), split="train")
    assert loaded.to_dict() == out.to_dict()
    assert loaded.features == out.features


def test_class_labels_of_the_input_stay_class_labels(pool, labeler, tmp_path):
    pool = pool.add_column("label", [i % 2 for i in range(23)], feature=ClassLabel(names=["no", "yes"]))
    label(pool.select(range(22, -1, -1)), labeler, tmp_path / "labels")
    out = read_pool(tmp_path / "labels")
    assert out.features["label"].names == ["no", "yes"]
    assert out["id"][:] == list(range(22, -1, -1))


@pytest.mark.parametrize("kind", ["parquet", "json", "csv", "jsonl.gz", "arrow", "stream"])
def test_every_kind_of_input_gives_the_same_labels(kind, files, pool, labeler, tmp_path):
    expected = labeler.label(pool["text"])["student_label"]
    folder = tmp_path / "pool"
    folder.mkdir()
    if kind == "parquet":
        source = files
    elif kind == "stream":
        source = load_dataset(
            "parquet", data_files=[str(p) for p in sorted(files.iterdir())], split="train", streaming=True
        )
    else:
        source = folder
        for k in range(2):
            part = pool.select(range(12 * k, min(12 * k + 12, 23)))
            path = folder / f"{k}.{kind}"
            if kind == "csv":
                part.to_csv(str(path), index=False)
            elif kind == "arrow":
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, part.data.table.schema) as writer:
                    writer.write_table(part.with_format("arrow")[:])
            else:
                part.to_json(str(path), compression="gzip" if kind.endswith("gz") else None)
    results = label(source, labeler, tmp_path / "labels", rows_per_shard=4)
    out = read_pool(tmp_path / "labels")
    assert out["id"][:] == list(range(23))
    assert out["student_label"][:] == expected
    assert results["n_labelled"] == 22


def test_a_saved_dataset_is_a_pool_too(pool, labeler, tmp_path):
    pool.save_to_disk(str(tmp_path / "saved"))
    label(tmp_path / "saved", labeler, tmp_path / "labels")
    assert read_pool(tmp_path / "labels")["id"][:] == list(range(23))


def test_only_missing_shards_are_computed(pool, labeler, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    calls = counted(monkeypatch)
    whole = StudentLabeler.score

    def dies_in_the_second_shard(self, encoded, rank=None, progress=None):
        if len(calls) == 1:
            raise KeyboardInterrupt
        return whole(self, encoded, rank, progress)

    monkeypatch.setattr(StudentLabeler, "score", dies_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        label(pool, labeler, folder)
    assert shard_names(folder) == ["part-00000-00000.parquet"]
    assert not list(folder.glob(".part-*"))
    monkeypatch.setattr(StudentLabeler, "score", whole)
    label(pool, labeler, folder)
    assert calls == [10, 10, 3]
    label(pool, labeler, folder)
    assert calls == [10, 10, 3]
    assert read_pool(folder)["id"][:] == pool["id"][:]


@pytest.mark.parametrize("source", ["dataset", "jsonl"])
def test_damaged_or_lost_shards_are_computed_again(source, pool, labeler, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    if source == "jsonl":
        pool.to_json(str(tmp_path / "pool.jsonl"))
    given = pool if source == "dataset" else tmp_path / "pool.jsonl"
    label(given, labeler, folder)
    whole = read_pool(folder).to_dict()
    calls = counted(monkeypatch)
    for damage in ("flip", "cut", "remove"):
        path = folder / "part-00000-00001.parquet"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(data if damage == "flip" else data[:-1])
        label(given, labeler, folder)
        assert read_pool(folder).to_dict() == whole
    assert calls == [10, 10, 10]


def test_manifest_says_where_each_shard_is_from(files, labeler, tmp_path):
    folder = tmp_path / "labels"
    label(files, labeler, folder, rows_per_shard=6)
    notes = [json.loads(path.read_text()) for path in sorted((folder / ".manifest").glob("*.json"))]
    assert [(n["source"], n["start"], n["rows"], n["last"]) for n in notes] == [
        ("0.parquet", 0, 6, False), ("0.parquet", 6, 3, True), ("1.parquet", 0, 6, False), ("1.parquet", 6, 3, True),
        ("2.parquet", 0, 5, True),
    ]  # fmt: skip
    assert {n["student"] for n in notes} == {labeler.identity}
    assert all(len(n["checksum"]) == 64 for n in notes)


def test_labels_of_another_pool_or_student_are_refused_unless_overwritten(pool, labeler, tmp_path, student_dir):
    folder = tmp_path / "labels"
    label(pool, labeler, folder, rows_per_shard=5)
    with pytest.raises(FileExistsError, match="another run \\(pool: the dataset changed since"):
        label(pool.select(range(3)), labeler, folder, rows_per_shard=5)
    other = Path(shutil.copytree(student_dir, tmp_path / "other"))
    (other / "vocab-note.txt").write_text("another student")
    with pytest.raises(FileExistsError, match="another run \\(student"):
        label(pool, StudentLabeler(other), folder, rows_per_shard=5)
    label(pool.select(range(8)), StudentLabeler(other), folder, rows_per_shard=5, overwrite=True)
    assert read_pool(folder)["id"][:] == list(range(8))
    assert len(list((folder / ".manifest").iterdir())) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("by hand")
    with pytest.raises(FileExistsError, match="was not made by hf-llambert"):
        label(pool, labeler, tmp_path / "mine", overwrite=True)


def dies_after(monkeypatch, number, shards):
    """Labels so many shards of one window each, and is killed."""
    calls, whole = counted(monkeypatch), StudentLabeler.score

    def score(self, encoded, rank=None, progress=None):
        if len(calls) == number:
            raise KeyboardInterrupt
        return whole(self, encoded, rank, progress)

    with monkeypatch.context() as patched:
        patched.setattr(StudentLabeler, "score", score)
        with pytest.raises(KeyboardInterrupt):
            shards()


def results_in(folder):
    return json.loads((folder / "stage.json").read_text())["results"]


@pytest.mark.parametrize("what", ["student", "pool"])
def test_overwrite_that_was_killed_holds_no_rows_of_another(
    what, pool, files, labeler, student_dir, tmp_path, monkeypatch
):
    folder = tmp_path / "labels"
    label(files, labeler, folder, rows_per_shard=5)
    other = labeler
    if what == "student":
        shutil.copytree(student_dir, tmp_path / "other")
        (tmp_path / "other" / "vocab-note.txt").write_text("another student")
        other = StudentLabeler(tmp_path / "other")
    else:
        for k, start in enumerate((0, 9, 18)):
            rows = pool.select(range(start, min(start + 9, 23))).to_dict()
            pq.write_table(pa.table({**rows, "id": [100 + i for i in rows["id"]]}), files / f"{k}.parquet")
    dies_after(monkeypatch, 2, lambda: label(files, other, folder, rows_per_shard=5, overwrite=True))
    assert results_in(folder) == {}
    notes = [json.loads(path.read_text()) for path in (folder / ".manifest").glob("part-*.json")]
    assert {(note["student"], note["piece"]) for note in notes} == {(other.identity, 0)}
    assert len(read_pool(folder)) == 9
    results = label(files, other, folder, rows_per_shard=5)
    assert (results["complete"], results["n_labelled"]) == (True, 22)
    assert read_pool(folder)["id"][:] == [i + (0 if what == "student" else 100) for i in range(23)]


def test_pool_that_grew_or_was_damaged_is_not_complete_until_it_is(files, labeler, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    label(files, labeler, folder)
    pq.write_table(pa.table({"id": [23], "text": ["a new one"]}), files / "3.parquet")
    dies_after(monkeypatch, 0, lambda: label(files, labeler, folder))
    assert results_in(folder) == {}
    label(files, labeler, folder)
    path = folder / "part-00001-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    dies_after(monkeypatch, 0, lambda: label(files, labeler, folder))
    assert results_in(folder) == {}
    assert label(files, labeler, folder)["n_labelled"] == 23


def test_a_changed_file_is_refused_a_new_one_is_labelled(files, labeler, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    label(files, labeler, folder)
    calls = counted(monkeypatch)
    pq.write_table(pa.table({"id": [23], "text": ["a new one"]}), files / "3.parquet")
    label(files, labeler, folder)
    assert calls == [1]
    assert read_pool(folder)["id"][:] == list(range(24))
    pq.write_table(pa.table({"id": [99], "text": ["other rows"]}), files / "1.parquet")
    with pytest.raises(FileExistsError, match="pool: 1.parquet changed since"):
        label(files, labeler, folder)
    label(files, labeler, folder, overwrite=True)
    assert calls == [1, 1]  # only that one
    assert read_pool(folder)["id"][:] == [*range(9), 99, *range(18, 24)]


@pytest.mark.parametrize("kind", ["footer", "page", "columns", "twice", "type"])
def test_a_broken_file_is_named_and_the_rest_labelled(kind, files, labeler, tmp_path):
    path, folder = files / "1.parquet", tmp_path / "labels"
    good = path.read_bytes()
    if kind == "footer":
        path.write_bytes(good[:-20])
    elif kind == "page":
        data = bytearray(good)
        data[100:300] = b"\xff" * 200
        path.write_bytes(data)
    elif kind == "columns":
        pq.write_table(pa.table({"text": ["a"]}), path)
    elif kind == "twice":
        pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    else:
        pq.write_table(pa.table({"id": ["no number"], "text": ["a"]}), path)
    with pytest.raises(RuntimeError, match=r"1 of 3 pieces .* '1.parquet' cannot be read: .* 14 rows of the rest"):
        label(files, labeler, folder)
    assert read_pool(folder)["id"][:] == [*range(9), *range(18, 23)]
    with pytest.raises(RuntimeError, match=r"'1.parquet' cannot be read"):
        label(files, labeler, folder)
    path.write_bytes(good)
    assert label(files, labeler, folder)["n_labelled"] == 22
    assert read_pool(folder)["id"][:] == list(range(23))


def test_a_file_that_breaks_off_keeps_the_shards_before_the_break(labeler, tmp_path):
    path = tmp_path / "pool.csv"  # pandas reads ten thousand rows at once
    lines = ["text", *[f"text {i}" for i in range(12_000)]]
    lines[11_000] += ",a field too many"
    path.write_text("\n".join(lines))
    with pytest.raises(RuntimeError, match="'pool.csv' cannot be read: .* The 8,000 rows of the rest are labelled"):
        label(path, labeler, tmp_path / "labels", rows_per_shard=4000)
    assert read_pool(tmp_path / "labels")["text"][:] == [f"text {i}" for i in range(8000)]


def test_a_row_group_of_many_shards_is_read_once(labeler, tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": [f"a good film {i}" for i in range(10)]}), tmp_path / "one.parquet")
    starts = []
    read = sources.read_parquet
    monkeypatch.setattr(sources, "read_parquet", lambda *given: starts.append(given[1]) or read(*given))
    found = label(tmp_path / "one.parquet", labeler, tmp_path / "labels", rows_per_shard=4)
    assert (starts, found["n_labelled"]) == ([0], 10)
    (tmp_path / "labels" / shard_names(tmp_path / "labels")[1]).unlink()
    label(tmp_path / "one.parquet", labeler, tmp_path / "labels", rows_per_shard=4)
    assert starts == [0, 4]


def test_shards_behind_a_damaged_row_group_are_labelled(labeler, tmp_path):
    file = tmp_path / "damaged.parquet"
    texts = [f"a good film, {i} of them " + "x" * 200 for i in range(12)]
    pq.write_table(pa.table({"text": texts}), file, row_group_size=4, compression="none", use_dictionary=False)
    column = pq.ParquetFile(file).metadata.row_group(1).column(0)
    with file.open("r+b") as damaged:
        damaged.seek(column.data_page_offset)
        damaged.write(b"\xff" * 40)
    with pytest.raises(RuntimeError, match="'damaged.parquet' cannot be read: .* The 4 rows of the rest"):
        label(file, labeler, tmp_path / "labels", rows_per_shard=4)
    assert read_pool(tmp_path / "labels")["text"][:] == texts[8:]


def test_bad_texts_are_unusable_and_nothing_else(labeler, tmp_path):
    texts = [None, "", " \n", "fine", "x" * 10_000_000, "good film " * 1_000_000]
    path = tmp_path / "bad.parquet"
    raw = pa.array([b"\xff\xfe not UTF-8", b"fine too"], pa.binary()).view(pa.string())
    table = pa.concat_tables([pa.table({"text": pa.array(texts, pa.string())}), pa.table({"text": raw})])
    pq.write_table(table, path)
    results = label(path, labeler, tmp_path / "labels")
    assert (results["n_labelled"], results["n_unusable"]) == (4, 4)
    out = pq.read_table(tmp_path / "labels" / "part-00000-00000.parquet")
    labels = out["student_label"].to_pylist()
    assert [x == -1 for x in labels] == [True, True, True, False, False, False, True, False]
    assert out["text"].combine_chunks().view(pa.binary())[6].as_py() == b"\xff\xfe not UTF-8"
    assert labeler.label(["good film " * 1_000_000])["student_label"] == [labels[5]]


def test_pieces_without_rows_count_as_done(labeler, tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "0.csv").write_text("id,text\n")
    (tmp_path / "pool" / "1.csv").write_text("id,text\n1,one\n")
    assert label(tmp_path / "pool", labeler, tmp_path / "labels")["n_labelled"] == 1
    assert shard_names(tmp_path / "labels") == ["part-00001-00000.parquet"]
    with pytest.raises(ValueError, match="no rows"):
        label(tmp_path / "pool" / "0.csv", labeler, tmp_path / "none")


def test_wrong_pools_are_refused(pool, labeler, tmp_path, student_dir):
    with pytest.raises(ValueError, match="Column 'text' not found"):
        label(pool.remove_columns("text"), labeler, tmp_path / "labels")
    with pytest.raises(ValueError, match="must hold strings, it holds int64"):
        label(pool, StudentLabeler(student_dir, "id"), tmp_path / "labels")
    with pytest.raises(ValueError, match="no rows"):
        label(pool.select([]), labeler, tmp_path / "labels")
    with pytest.raises(ValueError, match="has the columns \\['student_label'\\] already"):
        label(pool.add_column("student_label", [0] * 23), labeler, tmp_path / "labels")
    with pytest.raises(ValueError, match="no column \\['idd'\\] to keep"):
        label(pool, labeler, tmp_path / "labels", keep=["idd"])
    with pytest.raises(ValueError, match="The student has the labels"):
        label(pool, labeler, tmp_path / "labels", task=TaskSpec("t", ("positive", "negative"), "{text}"))
    with pytest.raises(ValueError, match="process from 0 to their number, got 10, 3/3"):
        label(pool, labeler, tmp_path / "labels", process=(3, 3))
    with pytest.raises(FileNotFoundError, match="holds no part-"):
        read_pool(tmp_path)
    with pytest.raises(FileNotFoundError, match="no dataset of that name"):
        label("nobody/nothing", labeler, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_kept_columns_are_written_and_no_others(pool, labeler, tmp_path):
    label(pool.add_column("student_label", [0] * 23), labeler, tmp_path / "labels", keep=["id"])
    assert read_pool(tmp_path / "labels").column_names == ["id", *STUDENT]


def test_a_full_disk_loses_only_the_shard_at_hand(pool, labeler, tmp_path, monkeypatch):
    whole = share.ShardFile.finish

    def full(self):
        if self.path.name.endswith("1.parquet"):
            raise OSError(28, "No space left on device")
        return whole(self)

    monkeypatch.setattr(share.ShardFile, "finish", full)
    with pytest.raises(OSError, match="labels' cannot be written: No space left on device. Make room, then run again"):
        label(pool, labeler, tmp_path / "labels")
    assert shard_names(tmp_path / "labels") == ["part-00000-00000.parquet"]
    assert not list((tmp_path / "labels").glob(".part-*"))
    monkeypatch.setattr(share.ShardFile, "finish", whole)
    assert label(pool, labeler, tmp_path / "labels")["complete"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_processes_started_alone_share_the_work_and_the_last_one_finishes(kind, files, pool, labeler, tmp_path):
    folder = tmp_path / "labels"
    source = files if kind == "parquet" else jsonl_files(pool, tmp_path / "lines", (9, 9, 5))
    for k in (2, 0):
        assert not label(source, labeler, folder, rows_per_shard=3, process=(k, 3))["complete"]
    before = shard_names(folder)
    assert label(source, labeler, folder, rows_per_shard=3, process=(1, 3))["complete"]
    assert len(shard_names(folder)) > len(before)
    assert read_pool(folder)["id"][:] == list(range(23))
    # Another number of processes goes on from the same shards.
    (folder / shard_names(folder)[-1]).unlink()
    assert label(source, labeler, folder, rows_per_shard=3)["complete"]
    assert read_pool(folder)["id"][:] == list(range(23))


def jsonl_files(pool, folder, rows):
    folder.mkdir()
    for k, number in enumerate(rows):
        pool.select(range(sum(rows[:k]), sum(rows[:k]) + number)).to_json(str(folder / f"{k}.jsonl"))
    return folder


@pytest.mark.parametrize("broken", ["0.jsonl", "1.jsonl"])
def test_a_file_that_fails_once_ends_both_processes_and_the_rerun_completes(
    broken, pool, labeler, tmp_path, monkeypatch
):
    source, folder = jsonl_files(pool, tmp_path / "lines", (14, 9)), tmp_path / "labels"
    reading = Reading(monkeypatch)
    reading.breaks[broken] = 7
    ended = {}
    for k in range(2):
        try:
            ended[k] = label(source, labeler, folder, rows_per_shard=3, process=(k, 2))["complete"]
        except RuntimeError as error:
            ended[k] = str(error)
    owner = int(broken[0])
    assert (
        f"1 of 2 pieces of the pool could not be read. '{broken}' cannot be read: the network is gone." in ended[owner]
    )
    assert ended[1 - owner] is False
    assert label(source, labeler, folder, rows_per_shard=3, process=(owner, 2))["complete"]
    assert read_pool(folder)["id"][:] == list(range(23))


def test_a_file_that_fails_once_ends_both_processes_of_a_launcher(pool, labeler, tmp_path, monkeypatch):
    source, folder = jsonl_files(pool, tmp_path / "lines", (14, 9)), tmp_path / "labels"
    reading = Reading(monkeypatch)
    reading.breaks["1.jsonl"] = 7
    ended = launched(monkeypatch, 2, lambda: label(source, labeler, folder, rows_per_shard=3))
    assert [type(one) for one in ended] == [RuntimeError, RuntimeError]
    assert {str(one) for one in ended} == {
        "1 of 2 pieces of the pool could not be read. '1.jsonl' cannot be read: the network is gone. The 20 rows of the rest "
        f"are labelled in '{folder}'. Mend or remove what is broken and run again."
    }
    first, second = launched(monkeypatch, 2, lambda: label(source, labeler, folder, rows_per_shard=3))
    assert first == second
    assert (first["complete"], first["n_labelled"]) == (True, 22)
    assert read_pool(folder)["id"][:] == list(range(23))


def launched(monkeypatch, count, work):
    """What the work comes to in each of several processes, which are threads here, or its error."""
    here, store = threading.local(), torch.distributed.HashStore()
    monkeypatch.setattr(processes, "_LOOK_AGAIN", 0.001)
    monkeypatch.setattr(shards, "launched", lambda: (here.rank, count))

    def everyones(value):
        here.meeting += 1
        return processes._met(store, str(here.meeting), here.rank, count, value)

    monkeypatch.setattr(shards, "everyones", everyones)

    def process(rank):
        here.rank, here.meeting = rank, 0
        try:
            return work()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(process, range(count), timeout=60))


def test_pool_is_not_complete_while_another_process_mends_a_shard(pool, labeler, tmp_path):
    folder = tmp_path / "labels"
    for k in (0, 1):
        label(pool, labeler, folder, process=(k, 2))
    being_written = folder / ".part-00000-00001.parquet.0a1b2c3d.part"

    def mend(shard):  # what the other process does with a damaged shard of its own, meanwhile
        (folder / ".manifest" / "part-00000-00001.parquet.json").unlink(missing_ok=True)
        being_written.touch()

    assert label(pool, labeler, folder, process=(0, 2), on_shard=mend)["complete"] is False
    assert being_written.exists()
    assert label(pool, labeler, folder, process=(1, 2))["complete"] is True
    assert read_pool(folder)["id"][:] == list(range(23))


def test_damage_to_a_shard_of_another_process_is_named(pool, labeler, tmp_path):
    folder = tmp_path / "labels"
    for k in (0, 1):
        label(pool, labeler, folder, process=(k, 2))
    shard = folder / "part-00000-00001.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(RuntimeError, match="part-00000-00001.parquet' holds 0 rows .* Remove it and run again"):
        label(pool, labeler, folder, process=(0, 2))
    assert label(pool, labeler, folder, process=(1, 2))["complete"] is True


def test_processes_whose_gpus_round_differently_label_in_one_precision(pool, student_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_llambert.training.students.choose_dtype", lambda device: "bfloat16")
    monkeypatch.setattr("hf_llambert.training.loaded.cpu_computes", lambda dtype: True)
    found = iter([0.996, 0.99])
    monkeypatch.setattr(StudentLabeler, "agreement", lambda self, texts: next(found))
    ended = launched(monkeypatch, 2, lambda: label(pool, StudentLabeler(student_dir), tmp_path / "labels"))
    assert [one["complete"] for one in ended] == [True, True]
    assert read_pool(tmp_path / "labels")["id"][:] == list(range(23))
    assert json.loads((tmp_path / "labels" / "stage.json").read_text())["config"]["dtype"] == "float32"


def test_one_file_is_one_processs_work(pool, labeler, tmp_path, monkeypatch):
    pool.to_json(str(tmp_path / "pool.jsonl"))
    reading = Reading(monkeypatch)
    for k, complete in ((1, False), (0, True)):
        found = label(tmp_path / "pool.jsonl", labeler, tmp_path / "labels", rows_per_shard=2, process=(k, 2))
        assert found["complete"] is complete
    assert reading.rows == 23
    assert read_pool(tmp_path / "labels")["id"][:] == list(range(23))


def test_rerun_parses_a_file_once_however_many_shards_are_missing(pool, labeler, tmp_path, monkeypatch):
    pool.to_json(str(tmp_path / "pool.jsonl"))
    folder = tmp_path / "labels"
    label(tmp_path / "pool.jsonl", labeler, folder, rows_per_shard=2)
    for name in shard_names(folder)[:-1]:
        (folder / name).unlink()
    reading, calls = Reading(monkeypatch), counted(monkeypatch)
    label(tmp_path / "pool.jsonl", labeler, folder, rows_per_shard=2)
    assert reading.rows == 22
    assert calls == [2] * 11
    (folder / shard_names(folder)[2]).unlink()
    label(tmp_path / "pool.jsonl", labeler, folder, rows_per_shard=2)
    assert reading.rows == 22 + 6  # no further than the missing one
    assert read_pool(folder)["id"][:] == list(range(23))


def test_a_file_that_ends_with_a_shard_is_known_to_end_there(pool, labeler, tmp_path, monkeypatch):
    pool.select(range(12)).to_json(str(tmp_path / "pool.jsonl"))
    folder = tmp_path / "labels"
    assert label(tmp_path / "pool.jsonl", labeler, folder, rows_per_shard=4)["complete"]
    assert len(shard_names(folder)) == 3
    reading = Reading(monkeypatch)
    assert label(tmp_path / "pool.jsonl", labeler, folder, rows_per_shard=4)["complete"]
    assert reading.rows == 0


def test_largest_files_are_given_out_first():
    sizes = [1, 9, None, 5, 4, 0]
    pieces = [
        sources.Piece(str(k), str(k), 100 if size is None else None, iter, size=size or 0)
        for k, size in enumerate(sizes)
    ]
    assert share._owners(pieces, 2) == {1: 0, 3: 1, 4: 1, 0: 0, 5: 1}


class Reading:
    """Counts the rows that are parsed of files, and breaks one off after so many, once."""

    def __init__(self, monkeypatch):
        self.rows, self.breaks = 0, {}
        whole = share.Share._read

        def read(own, piece, start):
            read = functools.partial(self.read, piece.name, piece.read)
            return whole(own, dataclasses.replace(piece, read=read), start)

        monkeypatch.setattr(share.Share, "_read", read)

    def read(self, name, read, start):
        at = 0
        for table in read(0):
            for row in range(table.num_rows):
                if at == self.breaks.get(name):
                    del self.breaks[name]
                    raise OSError("the network is gone")
                at, self.rows = at + 1, self.rows + 1
                if at > start:
                    yield table.slice(row, 1)


def test_a_stream_without_a_length_is_read_to_its_end(labeler, tmp_path):
    def rows():
        yield from ({"id": i, "text": f"text {i}"} for i in range(12))

    stream = IterableDataset.from_generator(rows)
    label(stream, labeler, tmp_path / "labels", rows_per_shard=4)
    assert read_pool(tmp_path / "labels")["id"][:] == list(range(12))
    assert len(shard_names(tmp_path / "labels")) == 3


def test_a_row_that_is_lost_on_the_way_is_noticed(pool, labeler, tmp_path, monkeypatch):
    monkeypatch.setattr(shards.pq, "read_metadata", lambda path: type("Footer", (), {"num_rows": 9}))
    with pytest.raises(RuntimeError, match="holds 9 rows .* expected 10"):
        label(pool, labeler, tmp_path / "labels")


def test_windows_do_not_change_what_comes_out(pool, labeler, tmp_path, monkeypatch):
    label(pool, labeler, tmp_path / "one")
    monkeypatch.setattr(share, "_WINDOW", 4)
    label(pool, labeler, tmp_path / "two")
    one, two = (read_pool(tmp_path / name) for name in ("one", "two"))
    assert one["student_label"][:] == two["student_label"][:]
    assert one["id"][:] == two["id"][:]


def test_finished_shards_are_told_about_once_each_time(pool, labeler, tmp_path):
    told = []
    label(pool, labeler, tmp_path / "labels", on_shard=lambda path: told.append(path.name))
    assert told == shard_names(tmp_path / "labels")
    label(pool, labeler, tmp_path / "labels", on_shard=lambda path: told.append(path.name))
    assert told == 2 * shard_names(tmp_path / "labels")


def test_lower_precision_is_compared_first_and_refused_where_labels_move(pool, student_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_llambert.training.loaded.cpu_computes", lambda dtype: True)
    labeler = StudentLabeler(student_dir, dtype="bfloat16")
    compared = []

    def agreement(self, texts):
        compared.append(len(texts))
        return share_alike

    monkeypatch.setattr(StudentLabeler, "agreement", agreement)
    share_alike = 0.99
    with pytest.raises(ValueError, match="only 99.00% of the texts compared keep the label that float32"):
        label(pool, labeler, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
    share_alike = 0.996
    for _ in range(2):
        assert label(pool, labeler, tmp_path / "labels")["agreement"] == 0.996
    assert compared == [22, 22]  # not again where it was noted


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_runs_killed_at_random_instants_end_as_if_nobody_had(processes, student_dir, tmp_path):
    rows = {"id": range(400), "text": [f"text number {i} " * (1 + i % 7) for i in range(400)]}
    (tmp_path / "pool").mkdir()
    for k in range(2):
        pq.write_table(
            pa.table({n: list(v)[200 * k : 200 * k + 200] for n, v in rows.items()}), tmp_path / f"pool/{k}.parquet"
        )
    script = Path(__file__).parent.parent / "benchmarks" / "kill_pool.py"
    command = [
        sys.executable,
        str(script),
        "--pool",
        tmp_path / "pool",
        "--student",
        student_dir,
        "--rows_per_shard",
        40,
    ]
    done = subprocess.run(
        [*map(str, command), "--instants", "1", "--processes", str(processes)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 of 1 ended exactly as the uninterrupted run" in done.stdout
