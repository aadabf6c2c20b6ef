import json
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer
from trl import SFTConfig

from conftest import make_reviews
from hf_llambert import LLMLabeler, PromptEncoder, TransformersTeacher, load_task

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
import adapt_teacher


@pytest.fixture
def arguments(teacher_dir, question, tmp_path):
    data = make_reviews(40)
    data.to_parquet(str(tmp_path / "data.parquet"))
    question.to_yaml(tmp_path / "task.yaml")
    return adapt_teacher.AdaptArguments(
        teacher_dir,
        str(tmp_path / "data.parquet"),
        str(tmp_path / "run"),
        task=str(tmp_path / "task.yaml"),
        num_rows=16,
        num_held_out=10,
        max_text_tokens=40,
    )


def training(folder, **more):
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 100}
    settings = {"num_train_epochs": 20, "learning_rate": 1e-2, "per_device_train_batch_size": 8, **more}
    return SFTConfig(str(folder), use_cpu=True, bf16=False, **settings, **quiet)


def test_prompts_learnt_are_those_asked_and_only_answers_count(teacher_dir, question):
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(teacher_dir), question)
    data = make_reviews(4)
    for row, text, label in zip(
        adapt_teacher.training_rows(encoder, data, "text", 40), data["text"], data["label"], strict=True
    ):
        prompt, answer = encoder.encode(text), [*encoder.words[label][0], encoder.tokenizer.eos_token_id]
        assert row["input_ids"] == prompt + answer
        assert row["completion_mask"] == [0] * len(prompt) + [1] * len(answer)


def test_loss_is_on_the_answers_alone(arguments, tmp_path):
    trainer = adapt_teacher.adapter_trainer(arguments, training(tmp_path / "checkpoints"), make_reviews(8))
    (batch,) = trainer.get_train_dataloader()
    tokenizer, task = trainer.processing_class, load_task(arguments.task)
    answers = {(*words[0], tokenizer.eos_token_id) for words in PromptEncoder(tokenizer, task).words}
    assert {tuple(token for token in row if token != -100) for row in batch["labels"].tolist()} == answers


def test_adapter_learns_and_is_another_teacher(arguments, tmp_path):
    results = adapt_teacher.main(arguments, training(tmp_path / "checkpoints"))
    likelihood = {}
    for name in results:
        held_out = load_from_disk(str(tmp_path / "run" / name))
        scores = [row[label] for row, label in zip(held_out["llm_scores"], held_out["label"], strict=True)]
        likelihood[name] = sum(scores) / len(scores)
    assert likelihood["adapted"] > likelihood["plain"] + 1
    adapter = tmp_path / "run/adapter"
    assert (adapter / "adapter_model.safetensors").is_file()
    plain, adapted = (TransformersTeacher(arguments.teacher, adapter=a) for a in (None, str(adapter)))
    assert plain.identity() != adapted.identity()
    task = load_task(arguments.task)
    keys = {LLMLabeler(task, teacher, tmp_path / "run/ledger")._asked.keys("x") for teacher in (plain, adapted)}
    assert len(keys) == 2
    before = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    assert adapt_teacher.main(arguments, training(tmp_path / "checkpoints")) == results  # nothing is done again
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="adapter of another training"):
        adapt_teacher.main(arguments, training(tmp_path / "checkpoints", seed=1))
    assert "hf_" not in json.dumps(json.loads((adapter / "adapted.json").read_text()))


def test_too_few_gold_rows_are_refused(arguments, tmp_path):
    arguments.num_rows = 100
    with pytest.raises(ValueError, match="at most the 40 rows that have a gold label; got 100 and 10"):
        adapt_teacher.main(arguments, training(tmp_path))


def test_gold_of_other_names_is_mapped_and_what_fits_two_readings_refused(arguments, tmp_path):
    data = make_reviews(40)
    spelled = data.remove_columns("label").add_column("label", [("schlecht", "gut")[i] for i in data["label"]])
    spelled.to_parquet(str(tmp_path / "data.parquet"))
    with pytest.raises(ValueError, match="--label_map gut=LABEL"):
        adapt_teacher.main(arguments, training(tmp_path / "checkpoints"))
    said = {"schlecht": "negative", "gut": "positive"}
    mapped = adapt_teacher.AdaptArguments("t", "d", "r", label_map=said)
    assert mapped.label_map == ["schlecht=negative", "gut=positive"]
    arguments.label_map = mapped.label_map
    results = adapt_teacher.main(arguments, training(tmp_path / "checkpoints", max_steps=1))
    assert results["plain"]["n"] == 10
