"""Steps of datatrove, with its local executor: two workers, one of them killed."""

import importlib
import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress

import dill
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter

from conftest import make_cloze
from fakes import CountingTeacher
from hf_llambert import (
    LLMLabeler,
    StudentCascade,
    StudentConfig,
    StudentLabeler,
    StudentStep,
    TeacherStep,
    TransformersTeacher,
    keep_empty_texts,
    label_pool,
    read_pool,
    train_fast,
)

STUDENT = ["student_label", "student_confidence", "student_scores"]
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from hf_llambert import StudentStep

def die(data, rank=0, world_size=1):
    for k, document in enumerate(data):
        if rank == 1 and k == 12:
            (Path(sys.argv[1]) / "killed").write_text(str(torch.get_num_threads()))
            os.kill(os.getpid(), signal.SIGKILL)
        yield document

if __name__ == "__main__":
    folder = sys.argv[1]
    student = StudentStep(sys.argv[2], window=5, device="cpu")
    writer = ParquetWriter(f"{folder}/out", expand_metadata=True, schema=student.schema())
    pipeline = [ParquetReader(f"{folder}/in"), student, die, writer]
    LocalPipelineExecutor(pipeline, tasks=3, workers=2, logging_dir=f"{folder}/logs").run()
"""


def documents(texts):
    return [Document(text=text, id=str(i)) for i, text in enumerate(texts)]


def execute(folder, *steps, tasks=1):
    return LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=str(folder)).run()


def table_of(folder):
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


def metadata(out, name):
    return [document.metadata[name] for document in out]


def test_student_labels_documents_as_the_labeler_does_and_counts_them(student_dir):
    texts = [None, "a film that I liked", "", "dull and slow", "\ud800", "  ", "no"] * 3
    step = StudentStep(student_dir, window=4, device="cpu")
    out = list(step(iter(documents(texts))))
    assert [(d.id, d.text) for d in out] == [(str(i), text) for i, text in enumerate(texts)]
    labeler = StudentLabeler(student_dir)
    expected = labeler.label(texts)
    assert metadata(out, "student_label") == expected["student_label"]
    names = [None if i < 0 else labeler.labels[i] for i in expected["student_label"]]
    assert metadata(out, "student_label_name") == names
    assert metadata(out, "student_confidence")[0] is None
    assert out[1].metadata["student_scores"] == pytest.approx(expected["student_scores"][1], abs=1e-5)
    assert (step.stats["labelled"].total, step.stats["unusable"].total) == (9, 12)
    assert step.stats[f"label {names[1]}"].total == names.count(names[1])


def test_every_row_of_jsonl_comes_out_as_label_pool_labels_it_though_the_first_text_is_empty(student_dir, tmp_path):
    texts = ["", None, "  ", *(f"text number {i} " * (1 + i % 5) for i in range(20)), None]
    (tmp_path / "in").mkdir()
    lines = (json.dumps({"id": str(i), "text": text, "stars": i}) for i, text in enumerate(texts))
    (tmp_path / "in" / "0.jsonl").write_text("\n".join(lines) + "\n")
    student = StudentStep(student_dir, window=7, device="cpu")
    reader = JsonlReader(str(tmp_path / "in"), adapter=keep_empty_texts)
    schema = student.schema(pa.schema({"stars": pa.int64()}))
    as_parquet = ParquetWriter(str(tmp_path / "out"), expand_metadata=True, schema=schema, batch_size=2)
    as_jsonl = JsonlWriter(str(tmp_path / "lines"), compression=None)
    execute(tmp_path / "logs", reader, student, as_jsonl, as_parquet)
    label_pool(Dataset.from_dict({"text": texts}), StudentLabeler(student_dir), tmp_path / "pool", show_progress=False)
    expected = read_pool(tmp_path / "pool")
    out = load_dataset("parquet", data_files=str(tmp_path / "out" / "*.parquet"), split="train")
    assert out.column_names == ["text", "id", "stars", *STUDENT, "student_label_name"]
    assert {name: out.features[name] for name in STUDENT} == {name: expected.features[name] for name in STUDENT}
    assert out["stars"][:] == list(range(24))
    assert [text.strip() for text in out["text"]] == [(text or "").strip() for text in texts]
    assert out["student_label"][:] == expected["student_label"][:]
    lines = [json.loads(line) for line in (tmp_path / "lines" / "00000.jsonl").read_text().splitlines()]
    assert [line["metadata"]["student_label"] for line in lines] == expected["student_label"][:]


def test_a_killed_worker_costs_only_its_task(student_dir, tmp_path):
    texts = [f"text number {i} " * (1 + i % 5) for i in range(60)]
    (tmp_path / "in").mkdir()
    for k in range(3):
        rows = range(20 * k, 20 * k + 20)
        table = pa.table({"text": [texts[i] for i in rows], "id": [str(i) for i in rows]})
        pq.write_table(table, tmp_path / "in" / f"{k}.parquet")
    script = tmp_path / "fleet.py"
    script.write_text(SCRIPT)
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, str(script), str(tmp_path), student_dir]
    log = (tmp_path / "log").open("w+")
    running = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    done = [tmp_path / "logs" / "completions" / f"0000{k}" for k in (0, 2)]
    deadline = time.monotonic() + 300
    while not (all(path.exists() for path in done) and (tmp_path / "killed").exists()):
        assert running.poll() is None, (tmp_path / "log").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the executor does not notice; a scheduler's time limit would end it
    for member in [*psutil.Process(running.pid).children(recursive=True), psutil.Process(running.pid)]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    running.wait()
    assert (tmp_path / "killed").read_text() == "1"  # two workers with all threads would fight for the cores
    first = tmp_path / "out" / "000_00000.parquet"
    finished = first.stat().st_mtime_ns
    for out, logs in (("out", "logs"), ("uninterrupted", "other_logs")):
        student = StudentStep(student_dir, window=5, device="cpu")
        writer = ParquetWriter(str(tmp_path / out), expand_metadata=True, schema=student.schema())
        execute(tmp_path / logs, ParquetReader(str(tmp_path / "in")), student, writer, tasks=3)
    assert first.stat().st_mtime_ns == finished
    again, whole = (table_of(tmp_path / name) for name in ("out", "uninterrupted"))
    exact = ["text", "id", "student_label", "student_label_name"]
    assert again.select(exact) == whole.select(exact)
    assert again["student_confidence"].to_pylist() == pytest.approx(whole["student_confidence"].to_pylist(), abs=1e-5)
    assert again["text"].to_pylist() == texts
    label_pool(Dataset.from_dict({"text": texts}), StudentLabeler(student_dir), tmp_path / "pool", show_progress=False)
    assert again["student_label"].to_pylist() == read_pool(tmp_path / "pool")["student_label"][:]


def test_teacher_annotates_documents_and_asks_nothing_again(teacher_dir, tmp_path, monkeypatch):
    texts = ["a film that I liked", "", "dull and slow"] * 2
    task, teacher = make_cloze(), TransformersTeacher(teacher_dir)
    step = TeacherStep(task, teacher, tmp_path / "ledger", window=3)
    out = list(step(iter(documents(texts))))
    expected = LLMLabeler(task, teacher, tmp_path / "other")({"text": texts})
    for name in expected:
        assert metadata(out, name) == expected[name]
    names = [None if i < 0 else task.labels[i] for i in expected["llm_label"]]
    assert metadata(out, "llm_label_name") == names
    assert (step.stats["ok"].total, step.stats["abstained"].total) == (4, 2)
    monkeypatch.setattr(TransformersTeacher, "ask", lambda *a, **k: pytest.fail("asked again"))
    again = list(TeacherStep(task, teacher, tmp_path / "ledger")(iter(documents(texts))))
    assert [d.metadata for d in again] == [d.metadata for d in out]


def teacher_pipeline(folder, **given):
    teacher = TeacherStep(make_cloze(), CountingTeacher(str(folder / "asked"), **given), folder / "ledger", window=4)
    schema = teacher.schema(pq.read_schema(folder / "in" / "0.parquet"))
    writer = ParquetWriter(str(folder / "out"), expand_metadata=True, schema=schema, batch_size=3)
    return [ParquetReader(str(folder / "in")), teacher, writer]


@pytest.fixture
def asked_rows(tmp_path):
    texts = [f"text {'very ' * (i % 3)}number {i}" for i in range(10)] + ["  "]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": texts, "stars": range(11)}), tmp_path / "in" / "0.parquet")
    return texts


def test_a_teachers_task_that_is_killed_asks_only_what_is_missing(asked_rows, tmp_path):
    child = os.fork()
    if child == 0:  # SIGKILL ends it before it gets any further
        execute(tmp_path / "logs", *teacher_pipeline(tmp_path, dies_after=6))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    asked = CountingTeacher(str(tmp_path / "asked"))
    assert len(asked.asked()) == 6
    execute(tmp_path / "logs", *teacher_pipeline(tmp_path))
    assert sorted(asked.asked()) == sorted(asked_rows[:10])
    out = table_of(tmp_path / "out")
    assert out["text"].to_pylist() == asked_rows
    assert out["stars"].to_pylist() == list(range(11))
    assert out["llm_reason"].to_pylist() == [None] * 10 + ["text is empty"]


def test_documents_on_which_the_teacher_failed_are_told_about_and_asked_again_on_demand(asked_rows, tmp_path, capfd):
    stats = execute(tmp_path / "logs", *teacher_pipeline(tmp_path, fails_on="number 7"))
    assert next(step for step in stats.stats if "teacher" in step.name)["failed"].total == 1
    log = (tmp_path / "logs" / "logs" / "task_00000.log").read_text()
    assert "failed on 1 documents of task 0. To ask about them again, remove completions/00000" in log
    assert table_of(tmp_path / "out")["llm_status"].to_pylist().count("failed") == 1
    (tmp_path / "logs" / "completions" / "00000").unlink()
    execute(tmp_path / "logs", *teacher_pipeline(tmp_path))
    asked = CountingTeacher(str(tmp_path / "asked")).asked()
    assert len(asked) == 11 and asked.count(asked_rows[7]) == 2
    assert table_of(tmp_path / "out")["llm_status"].to_pylist() == ["ok"] * 10 + ["abstained"]


@pytest.mark.parametrize("pickler", [dill, pickle], ids=["dill", "pickle"])
def test_steps_pickle_without_weights(pickler, student_dir, teacher_dir, tmp_path):
    student = StudentStep(student_dir)
    teacher = TeacherStep(make_cloze(), TransformersTeacher(teacher_dir), tmp_path / "ledger")
    for step in (student, teacher):
        out = list(step(iter(documents(["a film"]))))
        packed = pickler.dumps(step)
        assert len(packed) < 8000
        again = list(pickler.loads(packed)(iter(documents(["a film"]))))
        assert [d.metadata for d in again] == [d.metadata for d in out]


def test_an_empty_window_is_refused(student_dir):
    with pytest.raises(ValueError, match="window must be a positive number of documents, got 0"):
        StudentStep(student_dir, window=0)


def test_without_datatrove_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datatrove.pipeline.base", None)
    monkeypatch.delitem(sys.modules, "hf_llambert.pool.datatrove")
    with pytest.raises(ImportError, match=r"pip install 'hf-llambert\[fleet\]'"):
        importlib.import_module("hf_llambert.pool.datatrove")


def test_metadata_of_the_user_is_not_overwritten(student_dir):
    mine = Document(text="a fine film", id="1", metadata={"student_label": "good, says our editor"})
    with pytest.raises(ValueError, match="has the column 'student_label' already"):
        list(StudentStep(student_dir).run(iter([mine])))
    assert mine.metadata == {"student_label": "good, says our editor"}


def test_two_students_label_documents_as_the_labeler_of_both_does(student_dir, tmp_path):
    texts = [f"the film was {word} {i}" for i in range(12) for word in ("wonderful", "dull", "wonderful dull")]
    data = Dataset.from_dict({"text": texts, "label": [1, 0, 0] * 12})
    args = StudentConfig(str(tmp_path / "c"), report_to=[], use_cpu=True)
    train_fast(make_cloze(), "linear", tmp_path / "linear", args, gold=data)
    fast, encoder = StudentLabeler(tmp_path / "linear"), StudentLabeler(student_dir, device="cpu")
    below = max(fast.label(texts)["student_confidence"])
    step = StudentStep(student_dir, 7, tmp_path / "linear", below, device="cpu")
    out = list(step.run(iter(documents([*texts, None]))))
    expected = StudentCascade(fast, encoder, below).label([*texts, None])
    assert metadata(out, "student_source") == expected["student_source"]
    assert metadata(out, "student_label") == expected["student_label"]
    assert set(expected["student_source"]) == {"linear", "encoder", None}
    assert "student_source" in step.schema().names
    with pytest.raises(ValueError, match="first and below belong together"):
        StudentStep(student_dir, first=tmp_path / "linear")
