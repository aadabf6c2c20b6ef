"""Steps of datatrove, with its local executor: two workers, one of them killed."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from datatrove.data import Document

from conftest import make_cloze
from hf_llambert import (
    LLMLabeler,
    StudentLabeler,
    StudentStep,
    TeacherStep,
    TransformersTeacher,
    label_pool,
    read_pool,
)

SCRIPT = """
import os, signal, sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from hf_llambert import StudentStep

def die_once(data, rank=0, world_size=1):
    mark = Path(sys.argv[1]) / "killed"
    for k, document in enumerate(data):
        if rank == 1 and k == 12 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        yield document

if __name__ == "__main__":
    folder = sys.argv[1]
    pipeline = [
        ParquetReader(f"{folder}/in"),
        StudentStep(sys.argv[2], window=5, device="cpu"),
        die_once,
        ParquetWriter(f"{folder}/out", expand_metadata=True),
    ]
    LocalPipelineExecutor(pipeline, tasks=3, workers=2, logging_dir=f"{folder}/logs").run()
"""


def documents(texts):
    return [Document(text=text, id=str(i)) for i, text in enumerate(texts)]


def test_student_labels_documents_as_label_pool_does(student_dir, tmp_path):
    texts = ["a film that I liked", "", "dull and slow", "\ud800", "no"] * 3
    step = StudentStep(student_dir, window=4, device="cpu")
    out = list(step(iter(documents(texts))))
    assert [(d.id, d.text) for d in out] == [(str(i), text) for i, text in enumerate(texts)]
    labeler = StudentLabeler(student_dir)
    expected = labeler.label(texts)
    assert [d.metadata["student_label"] for d in out] == expected["student_label"]
    names = [None if i < 0 else labeler.labels[i] for i in expected["student_label"]]
    assert [d.metadata["student_label_name"] for d in out] == names
    assert out[0].metadata["student_scores"] == pytest.approx(expected["student_scores"][0], abs=1e-5)
    assert step.stats["unusable"].total == 6


def test_a_killed_worker_costs_only_its_task(student_dir, tmp_path):
    texts = [f"text number {i} " * (1 + i % 5) for i in range(60)]
    (tmp_path / "in").mkdir()
    for k in range(3):
        rows = range(20 * k, 20 * k + 20)
        table = pa.table({"text": [texts[i] for i in rows], "id": [str(i) for i in rows]})
        pq.write_table(table, tmp_path / "in" / f"{k}.parquet")
    script = tmp_path / "fleet.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path), student_dir]
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
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
    (first,) = (tmp_path / "out").glob("*00000.parquet")
    finished = first.stat().st_mtime_ns
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert first.stat().st_mtime_ns == finished
    out = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet")))
    label_pool(Dataset.from_dict({"text": texts}), StudentLabeler(student_dir), tmp_path / "pool", show_progress=False)
    expected = read_pool(tmp_path / "pool")
    assert out["text"].to_pylist() == texts
    assert out["student_label"].to_pylist() == expected["student_label"][:]


def test_teacher_annotates_documents_and_asks_nothing_again(teacher_dir, tmp_path, monkeypatch):
    texts = ["a film that I liked", "", "dull and slow"] * 2
    task, teacher = make_cloze(), TransformersTeacher(teacher_dir)
    step = TeacherStep(task, teacher, tmp_path / "ledger", window=3)
    out = list(step(iter(documents(texts))))
    expected = LLMLabeler(task, teacher, tmp_path / "other")({"text": texts})
    assert [d.metadata["llm_label"] for d in out] == expected["llm_label"]
    assert [d.metadata["llm_status"] for d in out] == expected["llm_status"]
    monkeypatch.setattr(TransformersTeacher, "ask", lambda *a, **k: pytest.fail("asked again"))
    again = list(TeacherStep(task, teacher, tmp_path / "ledger")(iter(documents(texts))))
    assert [d.metadata for d in again] == [d.metadata for d in out]


def test_steps_pickle_without_weights_and_refuse_an_empty_window(student_dir):
    import dill

    step = StudentStep(student_dir)
    list(step(iter(documents(["x"]))))
    assert len(dill.dumps(step)) < 5000
    with pytest.raises(ValueError, match="window must be a positive number"):
        StudentStep(student_dir, window=0)


def test_without_datatrove_the_extra_is_named():
    code = "import sys; sys.modules['datatrove'] = None; import hf_llambert; hf_llambert.StudentStep"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'hf-llambert[fleet]'" in done.stderr
