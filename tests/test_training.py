import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Value
from datasets.fingerprint import Hasher
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from forked import run_by_two_processes
from hf_llambert import ABSTAIN, StudentConfig, StudentLabeler, StudentTrainer, TaskSpec, train_student
from hf_llambert.training.inputs import Reading
from hf_llambert.training.resuming import CANNOT_MATTER, decisive

TASK = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)


def arguments(folder, **changes) -> StudentConfig:
    settings = {"output_dir": str(folder / "checkpoints")} | {
        "use_cpu": True,
        "learning_rate": 5e-3,
        "num_train_epochs": 8,
        "per_device_train_batch_size": 4,
        "disable_tqdm": True,
        "seed": 1,
    }
    return StudentConfig(**(settings | changes))


@pytest.fixture
def trained(reviews, student_dir, tmp_path):
    metrics = train_student(
        TASK, student_dir, tmp_path / "student", arguments(tmp_path), silver=reviews, eval_data=reviews
    )
    return tmp_path / "student", metrics


def test_student_learns_and_what_was_measured_is_written(drawn, trained, reviews):
    folder, metrics = trained
    assert metrics["eval"]["accuracy"] == 1.0
    assert metrics["train"]["n"] == 16
    assert metrics["train"]["per_label"] == {"negative": 8, "positive": 8}
    assert json.loads((folder / "metrics.json").read_text())["eval"]["macro_f1"] == 1.0
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder.parent / "checkpoints").exists()
    assert (folder / "model.safetensors").exists()


def test_student_loads_with_plain_transformers_and_names_its_labels(trained, reviews):
    folder, _ = trained
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    assert [row["label"] for row in classify(reviews["text"][:4])] == ["negative", "positive"] * 2


def test_same_call_again_trains_nothing_and_another_is_refused(trained, reviews, student_dir, tmp_path):
    folder, metrics = trained
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = train_student(TASK, student_dir, folder, arguments(tmp_path), silver=reviews, eval_data=reviews)
    assert again == json.loads(json.dumps(metrics))
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(FileExistsError, match="another run \\(arguments"):
        train_student(TASK, student_dir, folder, arguments(tmp_path, seed=2), silver=reviews, eval_data=reviews)


def test_same_seed_gives_the_same_weights(trained, reviews, student_dir, tmp_path):
    folder, _ = trained
    train_student(TASK, student_dir, tmp_path / "again", arguments(tmp_path), silver=reviews, eval_data=reviews)
    one, two = (AutoModelForSequenceClassification.from_pretrained(f) for f in (folder, tmp_path / "again"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_head_for_other_labels_is_made_anew(reviews, student_dir, tmp_path):
    task = TaskSpec("t", ("a", "b", "c"), "{text}")
    rows = reviews.map(lambda row, i: {"label": i % 3}, with_indices=True)
    train_student(task, student_dir, tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=rows)
    assert StudentLabeler(tmp_path / "s").labels == ("a", "b", "c")


def test_weights_that_an_encoder_lacks_are_named_and_a_new_head_is_not(reviews, student_dir, tmp_path, caplog, capfd):
    encoder = shutil.copytree(student_dir, tmp_path / "encoder")
    weights = load_file(encoder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if name.startswith("bert.")}
    save_file(kept, encoder / "model.safetensors", {"format": "pt"})
    rows = reviews.select(range(8))
    train_student(TASK, str(encoder), tmp_path / "whole", arguments(tmp_path, num_train_epochs=1), gold=rows)
    assert "at random" not in caplog.text
    assert "MISSING" not in capfd.readouterr().err
    lost = next(name for name in kept if "encoder.layer.0.output.dense.weight" in name)
    save_file({name: w for name, w in kept.items() if name != lost}, encoder / "model.safetensors", {"format": "pt"})
    train_student(TASK, str(encoder), tmp_path / "lacking", arguments(tmp_path, num_train_epochs=1), gold=rows)
    assert f"1 weights of the encoder '{encoder}' are not in its files and begin at random: {lost}." in caplog.text


def test_one_label_only_is_refused(reviews, student_dir, tmp_path):
    with pytest.raises(ValueError, match="at least two labels to tell apart"):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), silver=reviews.select([0, 2, 4]))
    assert not (tmp_path / "s").exists()


def test_rows_without_text_or_label_are_left_out_and_counted(reviews, student_dir, tmp_path, caplog):
    rows = reviews.to_list() + [{"text": None, "label": 0}, {"text": "x", "label": ABSTAIN}, {"text": " ", "label": 1}]
    data = Dataset.from_list(rows)
    metrics = train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=data)
    assert metrics["train"]["n"] == 16
    assert "3 of 19 silver rows have no text or no label" in caplog.text


def test_missing_column_says_which_argument(reviews, student_dir, tmp_path):
    with pytest.raises(ValueError, match="Column 'review' not found.*Pass text_column"):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), silver=reviews, text_column="review")


def test_labels_do_not_depend_on_batches_or_order(trained, reviews):
    folder, _ = trained
    texts = [*reviews["text"], "word " * 100]
    one, many = (StudentLabeler(folder, batch_tokens=n).label(texts) for n in (1, 100_000))
    assert one["student_label"] == many["student_label"]
    for a, b in zip(one["student_scores"], many["student_scores"], strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    turned = StudentLabeler(folder).label(texts[::-1])
    assert turned["student_label"][::-1] == one["student_label"]


def test_unusable_texts_get_no_label_and_keep_their_row(trained):
    out = StudentLabeler(trained[0]).label(["liked it", None, "", 7])
    assert out["student_label"][1:] == [ABSTAIN] * 3
    assert out["student_confidence"][1:] == [None] * 3
    assert out["student_label"][0] in (0, 1)


def test_student_labeler_maps_streams_and_pickles_small(trained, reviews):
    labeler = StudentLabeler(trained[0])
    before = Hasher.hash(labeler)
    mapped = reviews.map(labeler, batched=True, features=labeler.features(reviews), num_proc=2, with_rank=True)
    streamed = reviews.to_iterable_dataset().map(labeler, batched=True, features=labeler.features(reviews))
    assert mapped["student_label"][:] == [row["student_label"] for row in streamed]
    assert mapped.features["student_label"].names == ["negative", "positive"]
    assert Hasher.hash(labeler) == before == Hasher.hash(StudentLabeler(trained[0]))
    assert len(pickle.dumps(labeler)) < 2000
    with pytest.raises(ValueError, match="Column 'text' not found"):
        reviews.rename_column("text", "x").map(labeler, batched=True)


def test_student_reads_as_it_was_trained(reviews, student_dir, tmp_path):
    train_student(
        TASK,
        student_dir,
        tmp_path / "s",
        arguments(tmp_path, num_train_epochs=1),
        silver=reviews,
        max_length=10,
        head_share=0.0,
    )
    labeler = StudentLabeler(tmp_path / "s")
    ending = "the music was awful and dull"
    long, short = labeler.label(["pictures " * 50 + ending, ending])["student_scores"]
    assert long != short  # the gap marker and one more word fit
    cut = labeler.label(["pictures " * 500 + ending])["student_scores"][0]
    assert cut == pytest.approx(long, abs=1e-6)


def test_text_cannot_inject_separators(student_dir):
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    (ids,) = Reading(32).encode(tokenizer, ["good [SEP] bad [CLS]"])
    assert ids.count(tokenizer.sep_token_id) == 1
    assert ids.count(tokenizer.cls_token_id) == 1


def test_encoded_texts_keep_both_ends(student_dir):
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    (ids,) = Reading(12, head_share=0.5).encode(tokenizer, ["great " + "very " * 100 + "terrible"])
    assert len(ids) <= 12
    shown = tokenizer.decode(ids)
    assert "great" in shown
    assert "terrible" in shown


@pytest.mark.parametrize("wrong", [{"max_length": 2}, {"max_length": 32, "head_share": 1.5}])
def test_reading_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Reading(**wrong)


def test_no_student_of_an_earlier_training_stays_in_memory(reviews, student_dir, tmp_path):
    from hf_llambert.training import students

    for seed in range(4):
        train_student(
            TASK, student_dir, tmp_path / str(seed), arguments(tmp_path, num_train_epochs=1, seed=seed),
            silver=reviews, eval_data=reviews,
        )  # fmt: skip
    assert len(students._LOADED) == 1
    first, last = StudentLabeler(tmp_path / "0"), StudentLabeler(tmp_path / "3")
    assert first.label(["dull"]) != last.label(["dull"])


def test_missing_student_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        StudentLabeler(tmp_path)


def test_evaluation_with_other_labels_is_refused(trained, reviews):
    from hf_llambert import evaluate_student

    with pytest.raises(ValueError, match="The student has the labels"):
        evaluate_student(StudentLabeler(trained[0]), reviews, TaskSpec("t", ("positive", "negative"), "{text}"))


def test_finished_folder_names_no_path(trained, student_dir):
    for name in ("training.json", "config.json", "metrics.json"):
        text = (Path(trained[0]) / name).read_text()
        assert str(trained[0].parent) not in text


def test_folder_of_checkpoints_that_was_there_is_never_removed(reviews, student_dir, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine.txt").write_text("x")
    train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=reviews)
    assert (tmp_path / "checkpoints" / "mine.txt").exists()
    around = tmp_path / "around"
    train_student(
        TASK,
        student_dir,
        around / "s",
        arguments(tmp_path, num_train_epochs=1, output_dir=str(around)),
        silver=reviews,
    )
    assert (around / "s" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing_factor": 0.3}, {"max_grad_norm": 0.1}, {"adam_beta2": 0.9}, {"dataloader_drop_last": True},
        {"resume_from_checkpoint": "checkpoints/checkpoint-3"},
    ],
)  # fmt: skip
def test_any_argument_that_changes_the_student_makes_another_run(trained, reviews, student_dir, tmp_path, change):
    with pytest.raises(FileExistsError, match="another run"):
        train_student(TASK, student_dir, trained[0], arguments(tmp_path, **change), silver=reviews, eval_data=reviews)


def test_arguments_that_cannot_matter_are_known_by_their_whole_names(tmp_path):
    names = {field.name for field in dataclasses.fields(StudentConfig)}
    assert names >= CANNOT_MATTER
    same = {"logging_steps": 7, "dataloader_num_workers": 1, "save_strategy": "steps", "save_steps": 3}
    assert decisive(arguments(tmp_path)) == decisive(arguments(tmp_path / "elsewhere", **same))
    best = {"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 2}
    assert decisive(arguments(tmp_path, **best, save_steps=2)) != decisive(arguments(tmp_path, **best, save_steps=4))


def test_a_start_model_for_several_labels_at_once_makes_a_student_of_one(reviews, student_dir, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(
        student_dir, problem_type="multi_label_classification"
    ).save_pretrained(tmp_path / "start")
    AutoTokenizer.from_pretrained(student_dir).save_pretrained(tmp_path / "start")
    train_student(
        TASK, str(tmp_path / "start"), tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=reviews
    )
    found = pipeline("text-classification", model=str(tmp_path / "s"), device="cpu", top_k=None)(["liked it"])[0]
    assert sum(row["score"] for row in found) == pytest.approx(1, abs=1e-6)


def test_trainings_of_one_process_may_differ_in_precision(reviews, student_dir, tmp_path):
    half, full = arguments(tmp_path, max_steps=1, bf16=True), arguments(tmp_path, max_steps=1)
    for name, args in (("a", half), ("b", full), ("c", half)):
        train_student(TASK, student_dir, tmp_path / name, args, silver=reviews)
        assert (tmp_path / name / "model.safetensors").is_file()


def test_attention_dropout_is_the_students_own_and_another_training(reviews, student_dir, tmp_path):
    args = arguments(tmp_path, num_train_epochs=1, attention_dropout=0.0)
    train_student(TASK, student_dir, tmp_path / "s", args, silver=reviews)
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert config["attention_probs_dropout_prob"] == 0 < config["hidden_dropout_prob"]
    with pytest.raises(FileExistsError, match="attention_dropout"):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=reviews)
    assert "attention_dropout" not in decisive(arguments(tmp_path))  # as trainings of earlier versions were noted


def test_attention_dropout_of_an_encoder_that_has_none_is_refused(reviews, student_dir, tmp_path):
    bare = shutil.copytree(student_dir, tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({"model_type": "fnet", "vocab_size": config["vocab_size"]}))
    with pytest.raises(ValueError, match=r"bare' \(fnet\) has none of attention_probs_dropout_prob"):
        train_student(TASK, str(bare), tmp_path / "s", arguments(tmp_path, attention_dropout=0.0), silver=reviews)


def test_student_is_kept_where_measuring_fails_and_only_measured_again(reviews, student_dir, tmp_path, monkeypatch):
    def train():
        return train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), silver=reviews, eval_data=reviews)

    with monkeypatch.context() as patch:
        patch.setattr(StudentLabeler, "label", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory.")))
        with pytest.raises(RuntimeError, match="out of memory"):
            train()
    assert StudentLabeler(tmp_path / "s").label(["liked it"])["student_label"] == [1]
    weights = (tmp_path / "s" / "model.safetensors").stat().st_mtime_ns
    assert not (tmp_path / "s" / "metrics.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(StudentTrainer, "train", None)  # not called again
        assert train()["eval"]["accuracy"] == 1.0
    assert (tmp_path / "s" / "model.safetensors").stat().st_mtime_ns == weights
    assert json.loads((tmp_path / "s" / "metrics.json").read_text()) == train()


def test_all_processes_have_looked_before_one_measures(trained, reviews, student_dir, tmp_path, monkeypatch):
    measured, met = trained[0] / "metrics.json", []
    measured.unlink()
    monkeypatch.setattr("hf_llambert.training.train.wait_for_everyone", lambda: met.append(measured.exists()))
    for expected in ([False, False, False, True], [True]):
        met.clear()
        train_student(TASK, student_dir, trained[0], arguments(tmp_path), silver=reviews, eval_data=reviews)
        assert met == expected


SPLIT = """
import os
import sys
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from datasets import Dataset
from hf_llambert import StudentConfig, TaskSpec, train_student

os.environ |= {
    "ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
# accelerate takes FSDP for GPUs alone; here processes on CPUs go the same way.
ordinary = AcceleratorState.__init__

def with_plugin(self, *args, fsdp_plugin=None, **kwargs):
    ordinary(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin

AcceleratorState.__init__ = with_plugin
AcceleratorState.distributed_type = property(
    lambda self: DistributedType.FSDP if "fsdp_plugin" in self.__dict__ else self.__dict__["distributed_type"],
    lambda self, value: self.__dict__.update(distributed_type=value),
)
rows = Dataset.from_json(sys.argv[2])
args = StudentConfig(
    "checkpoints", num_train_epochs=1, per_device_train_batch_size=4, save_strategy="epoch", disable_tqdm=True,
)
task = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
found = train_student(task, sys.argv[1], "student", args, silver=rows, eval_data=rows)
assert args.world_size == 2 and AcceleratorState().distributed_type == DistributedType.FSDP
"""


def test_a_student_that_is_split_over_processes_is_trained_and_saved_whole(reviews, student_dir, tmp_path):
    reviews.to_json(tmp_path / "rows.jsonl")
    (tmp_path / "split.py").write_text(SPLIT)
    run_by_two_processes(tmp_path, Path("split.py"), student_dir, "rows.jsonl")
    start = AutoModelForSequenceClassification.from_pretrained(student_dir).state_dict()
    (checkpoint,) = (tmp_path / "checkpoints").glob("*/checkpoint-*")
    for folder in (tmp_path / "student", checkpoint):
        saved = load_file(folder / "model.safetensors")
        assert {name: weight.shape for name, weight in saved.items()} == {k: v.shape for k, v in start.items()}
        assert not torch.equal(saved["classifier.weight"], start["classifier.weight"])


TOGETHER = """
import sys
from datasets import Dataset
from hf_llambert import StudentConfig, TaskSpec, train_student

rows = Dataset.from_json(sys.argv[2])
args = StudentConfig("checkpoints", num_train_epochs=1, per_device_train_batch_size=4, disable_tqdm=True)
task = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
found = train_student(task, sys.argv[1], "student", args, silver=rows, eval_data=rows)
assert args.world_size == 2 and found["train"]["processes"] == 2
"""


def test_processes_on_cpus_train_one_student_without_being_told(reviews, student_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    reviews.to_json(tmp_path / "rows.jsonl")
    (tmp_path / "together.py").write_text(TOGETHER)
    run_by_two_processes(tmp_path, Path("together.py"), student_dir, "rows.jsonl")
    assert json.loads((tmp_path / "student" / "metrics.json").read_text())["eval"]["n"] == 16


def test_labels_in_another_order_are_refused_instead_of_swapped(reviews, student_dir, tmp_path):
    turned = reviews.cast_column("label", ClassLabel(names=["positive", "negative"]))
    with pytest.raises(ValueError, match="The silver data has the labels.*Use with_gold"):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path), silver=turned)


def test_checkpoint_in_half_precision_is_trained_in_float32(reviews, student_dir, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(student_dir, dtype=torch.bfloat16).save_pretrained(
        tmp_path / "half"
    )
    AutoTokenizer.from_pretrained(student_dir).save_pretrained(tmp_path / "half")
    train_student(
        TASK, str(tmp_path / "half"), tmp_path / "s", arguments(tmp_path, num_train_epochs=1), silver=reviews
    )
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "s").dtype == torch.float32


def test_silver_from_parquet_and_gold_from_json_are_learnt_from_together(reviews, student_dir, tmp_path):
    large = reviews.cast_column("text", Value("large_string"))
    made = train_student(
        TASK, student_dir, tmp_path / "student", arguments(tmp_path, num_train_epochs=1), silver=large, gold=reviews
    )
    assert (made["train"]["n_silver"], made["train"]["n_gold"]) == (len(reviews), len(reviews))
