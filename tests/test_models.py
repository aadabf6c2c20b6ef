"""Where models run, what this process keeps of them, and what is refused a fork."""

import gc
import json
import shutil
import weakref

import pytest
import torch

from hf_llambert import StudentLabeler, TransformersTeacher, train_student
from hf_llambert.models import choose_device, free_models, say_one_gpu
from hf_llambert.stages import note_stage
from hf_llambert.training import loaded as loaded_students
from hf_llambert.training import students
from test_training import TASK, arguments


@pytest.fixture
def four_gpus(monkeypatch):
    """A process that sees four GPUs; whoever starts CUDA in it fails."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was started before a fork"))
    say_one_gpu.cache_clear()


def test_one_process_uses_one_of_several_gpus_and_says_so_once(four_gpus, caplog):
    assert {choose_device() for _ in range(3)} == {"cuda:0"}
    assert caplog.text.count("4 GPUs are visible and one process was started: it uses one of them") == 1


def test_launched_processes_and_workers_use_a_gpu_each_without_a_word(four_gpus, monkeypatch, caplog):
    assert choose_device(rank=6) == "cuda:2"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == "cuda:3"
    assert not caplog.text


def test_the_cpu_is_chosen_where_accelerate_was_told_to_use_it(four_gpus, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device() == "cpu"
    assert choose_device("cuda:1") == "cuda:1"


def test_a_note_names_the_gpus_without_starting_cuda(four_gpus, tmp_path):
    note_stage(tmp_path, {}, {})
    assert "4 × GPU" in (tmp_path / "stage.json").read_text()


def test_a_student_trained_on_the_cpu_is_measured_there(reviews, student_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)  # a machine with GPUs
    args = arguments(tmp_path, num_train_epochs=1, use_cpu=True)
    found = train_student(TASK, student_dir, tmp_path / "s", args, silver=reviews, eval_data=reviews)
    assert found["eval"]["n"] == 16


def test_no_model_that_was_loaded_earlier_stays_in_memory_through_a_training(
    reviews, student_dir, teacher_dir, cloze, tmp_path, monkeypatch
):
    labeler = StudentLabeler(student_dir)
    teacher = TransformersTeacher(teacher_dir)
    labeler.warm_up()
    teacher.warm_up(cloze, "a film")
    models = [weakref.ref(labeler._load(None).model), weakref.ref(teacher._load(None).model)]
    gc.collect()
    assert all(model() is not None for model in models)
    found = []
    monkeypatch.setattr(
        "hf_llambert.training.train._train", lambda *_: found.extend(model() for model in models) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), silver=reviews)
    assert found == [None, None]


def test_a_teacher_that_asks_for_its_attention_is_loaded_without(teacher_dir, tmp_path):
    folder = shutil.copytree(teacher_dir, tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text()) | {
        "output_attentions": True,
        "output_hidden_states": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    found = TransformersTeacher(str(folder))._load(None).model.config
    assert not (found.output_attentions or found.output_hidden_states)
    assert found._attn_implementation == "sdpa"


def test_lower_precision_and_float32_are_never_loaded_at_a_time(student_dir, monkeypatch):
    monkeypatch.setattr(loaded_students, "cpu_computes", lambda dtype: True)
    loaded = []
    whole = StudentLabeler.label

    def label(self, texts, rank=None):
        out = whole(self, texts, rank)
        loaded.append([key[3] for key in students._LOADED])
        return out

    monkeypatch.setattr(StudentLabeler, "label", label)
    labeler = StudentLabeler(student_dir, dtype="bfloat16")
    labeler.warm_up()
    assert labeler.agreement(["a good film", "dull"]) == 1.0
    assert loaded[1:] == [["float32"], ["bfloat16"]]
    free_models()
    assert not students._LOADED
