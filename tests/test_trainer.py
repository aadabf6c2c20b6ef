import json
import shutil

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    TrainerCallback,
)

from hf_llambert import (
    StudentConfig,
    StudentLabeler,
    StudentTrainer,
    evaluate_student,
    out_of_fold,
    paired_bootstrap,
    train_seeds,
    train_student,
    with_gold,
)
from hf_llambert.intervals import mean_interval
from hf_llambert.models import say_one_gpu
from hf_llambert.training.compared import compare_students, read_seeds
from hf_llambert.training.heads import heads_of
from hf_llambert.training.resuming import last_whole_checkpoint
from hf_llambert.training.rows import kept_back, training_rows
from test_training import TASK, arguments

HEADS = heads_of(TASK)


def weights(folder):
    return dict(AutoModelForSequenceClassification.from_pretrained(folder).named_parameters())


def same(one, two, part=""):
    a, b = weights(one), weights(two)
    return all(torch.equal(a[name], b[name]) for name in a if part in name)


def gold_of(reviews):
    return reviews.select(range(4, 16)).map(lambda row: {"text": "a slow film: " + row["text"]})


def fit(reviews, student_dir, folder, tmp_path, **changes):
    extra = {k: changes.pop(k) for k in ("gold", "eval_data", "selection") if k in changes}
    args = arguments(tmp_path, **({"num_train_epochs": 2} | changes))
    return train_student(TASK, student_dir, tmp_path / folder, args, silver=reviews, **extra)


@pytest.mark.parametrize("loss", ["cross_entropy", "gce", "elr", "symmetric_kl"])
def test_student_learns_with_every_loss(reviews, student_dir, tmp_path, loss):
    found = fit(reviews, student_dir, "s", tmp_path, loss=loss, num_train_epochs=12, eval_data=reviews)
    assert found["eval"]["accuracy"] >= 0.9


def test_losses_differ_and_each_makes_another_run(reviews, student_dir, tmp_path):
    fit(reviews, student_dir, "ce", tmp_path)
    for loss in ("gce", "elr", "symmetric_kl"):
        fit(reviews, student_dir, loss, tmp_path, loss=loss)
        assert not same(tmp_path / "ce", tmp_path / loss)
    with pytest.raises(FileExistsError, match="another run"):
        fit(reviews, student_dir, "ce", tmp_path, loss="gce")


def trainer(reviews, student_dir, folder, **changes):
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    model = AutoModelForSequenceClassification.from_pretrained(
        student_dir, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    columns = {
        "input_ids": tokenizer(reviews["text"][:]).input_ids, "label": reviews["label"][:],
        "weight": [0.5 + (i % 3) / 2 for i in range(16)], "row": list(range(16)),
        "text": reviews["text"][:],
    }  # fmt: skip
    settings = {"learning_rate": 1e-3, "num_train_epochs": 2, "train_sampling_strategy": "sequential"}
    settings |= {"use_cpu": True, "disable_tqdm": True, "max_grad_norm": 0.0, "per_device_train_batch_size": 8}
    args = StudentConfig(str(folder), **(settings | changes))
    return StudentTrainer(
        model, args, train_dataset=Dataset.from_dict(columns), data_collator=DataCollatorWithPadding(tokenizer)
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "elr"])
def test_accumulated_batches_equal_a_large_one_with_weighted_rows(reviews, student_dir, tmp_path, loss):
    one = trainer(reviews, student_dir, tmp_path / "a", loss=loss)
    two = trainer(
        reviews, student_dir, tmp_path / "b", loss=loss, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    one.train()
    two.train()
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_a_row_counts_the_same_in_whichever_batch_of_a_step_it_stands(reviews, student_dir, tmp_path):
    settings = {"num_train_epochs": 1, "warmup_steps": 0, "optim": "sgd", "learning_rate": 0.1}
    one = trainer(reviews, student_dir, tmp_path / "a", per_device_train_batch_size=16, **settings)
    few = {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 4}  # 5, 5, 5 and 1 row
    two = trainer(reviews, student_dir, tmp_path / "b", **few, **settings)
    for each in (one, two):
        assert each.train().global_step == 1
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_lack_of_memory_makes_batches_smaller_and_nothing_else(reviews, student_dir, tmp_path, monkeypatch):
    forward = BertForSequenceClassification.forward

    def short_of_memory(self, input_ids, **rest):
        if len(input_ids) > 8 and self.training:
            raise RuntimeError("CUDA out of memory.")
        return forward(self, input_ids, **rest)

    AutoTokenizer.from_pretrained(student_dir).save_pretrained(tmp_path / "start")
    AutoModelForSequenceClassification.from_pretrained(
        student_dir, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).save_pretrained(tmp_path / "start")
    student_dir, gold = str(tmp_path / "start"), gold_of(reviews)
    stated = {"silver_epochs": 3, "gold_epochs": 2, "gold": gold}
    fit(reviews, student_dir, "small", tmp_path, **stated, per_device_train_batch_size=8)
    monkeypatch.setattr(BertForSequenceClassification, "forward", short_of_memory)
    found = fit(
        reviews, student_dir, "s", tmp_path, **stated, per_device_train_batch_size=9, auto_find_batch_size=True
    )
    seen = found["train"]["history"][-1]
    assert (seen["silver_seen"], seen["gold_seen"]) == (3 * 16, 2 * 12)
    assert same(tmp_path / "small", tmp_path / "s")


def test_weights_of_rows_reach_the_loss(reviews, student_dir, tmp_path):
    found = trainer(reviews, student_dir, tmp_path)
    found.model.train()
    inputs = {k: v.to("cpu") for k, v in next(iter(found.get_train_dataloader())).items()}
    weight = inputs["weight"].clone()
    model = found.model.eval()
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    each = torch.nn.functional.cross_entropy(logits, inputs["labels"], reduction="none")
    model.train()
    assert found.compute_loss(model, dict(inputs)).item() == pytest.approx((each * weight).mean().item(), abs=1e-4)
    model.eval()
    assert found.compute_loss(model, dict(inputs)).item() == pytest.approx(each.mean().item(), abs=1e-5)


def test_memory_of_elr_survives_a_resume(reviews, student_dir, tmp_path):
    settings = {"loss": "elr", "num_train_epochs": 4, "save_strategy": "steps", "save_steps": 3}
    whole = trainer(reviews, student_dir, tmp_path / "c", **settings)
    whole.train()
    rest = trainer(reviews, student_dir, tmp_path / "c", **settings)
    rest.train(resume_from_checkpoint=str(tmp_path / "c" / "checkpoint-3"))
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole._early.memory, rest._early.memory)


def test_elr_without_row_numbers_says_so(reviews, student_dir, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(student_dir)
    with pytest.raises(ValueError, match="column 'row' that numbers its rows"):
        StudentTrainer(model, StudentConfig(str(tmp_path), use_cpu=True, loss="elr"), train_dataset=reviews)


def test_frozen_encoder_trains_the_head_only(reviews, student_dir, tmp_path):
    fit(reviews, student_dir, "s", tmp_path, freeze_encoder=True)
    assert same(student_dir, tmp_path / "s", "bert.")
    assert not same(student_dir, tmp_path / "s", "classifier")


def test_adapters_are_merged_and_plain_transformers_loads_the_student(reviews, student_dir, tmp_path):
    found = fit(reviews, student_dir, "s", tmp_path, lora_rank=4, num_train_epochs=12, eval_data=reviews)
    assert not (tmp_path / "s" / "adapter_config.json").exists()
    merged = weights(tmp_path / "s")
    assert merged.keys() == weights(student_dir).keys()
    assert not same(student_dir, tmp_path / "s", "attention.self.query.weight")
    assert same(student_dir, tmp_path / "s", "embeddings")
    assert found["eval"]["accuracy"] >= 0.9


def test_best_epoch_of_adapters_is_merged(reviews, student_dir, tmp_path):
    found = fit(reviews, student_dir, "s", tmp_path, lora_rank=4, dev_share=0.25, num_train_epochs=6)
    measured = [row["eval_silver_accuracy"] for row in found["train"]["history"] if "eval_silver_accuracy" in row]
    dev = reviews.train_test_split(0.25, seed=1)["test"]
    labels = StudentLabeler(tmp_path / "s").label(dev["text"][:])["student_label"]
    assert np.mean(np.array(labels) == np.array(dev["label"][:])) == pytest.approx(max(measured))


def silver_rows(**columns):
    return Dataset.from_dict({"text": ["x"] * 4, "label": [0, 1, 1, 1], **columns})


def config(tmp_path, **changes):
    return StudentConfig(str(tmp_path), use_cpu=True, **changes)


def test_soft_targets_are_the_teachers_and_gold_stays_hard(tmp_path):
    p = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]
    gold = Dataset.from_dict({"text": ["y"], "label": [1]})
    found = training_rows(silver_rows(probabilities=p), gold, HEADS, config(tmp_path, soft_targets=True))
    assert np.allclose(found["targets"], [*p, [0.0, 1.0]])
    softer = training_rows(
        silver_rows(probabilities=p), None, HEADS, config(tmp_path, soft_targets=True, target_temperature=3)
    )
    assert softer["targets"][0][0] < 0.9
    smoothed = training_rows(silver_rows(), None, HEADS, config(tmp_path, label_smoothing_factor=0.2))
    assert np.allclose(smoothed["targets"][0], [0.9, 0.1])


def test_rows_are_weighed_by_confidence_source_and_class(tmp_path):
    gold = Dataset.from_dict({"text": ["y"], "label": [0]})
    silver = silver_rows(llm_confidence=[0.5, 1.0, None, 0.5])
    found = training_rows(silver, gold, HEADS, config(tmp_path, weight_by_confidence=True, gold_weight=2))["weight"]
    assert np.allclose(np.array(found) / found[0], [1, 2, 2, 1, 4])
    assert np.mean(found) == pytest.approx(1)
    balanced = np.array(training_rows(silver_rows(), gold, HEADS, config(tmp_path, class_balanced=True))["weight"])
    assert balanced[[0, 4]].sum() == pytest.approx(balanced[[1, 2, 3]].sum())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"soft_targets": True}, "needs the teacher's distributions"),
        ({"weight_by_confidence": True}, "no confidences"),
    ],
)
def test_what_silver_does_not_have_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training_rows(silver_rows(), None, HEADS, config(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "focal"}, "loss must be one of cross_entropy, gce, symmetric_kl, elr; got 'focal'"),
        ({"mix": "random"}, "mix must be one of concat"),
        ({"dev_share": 1.0}, "dev_share must be from 0"),
        ({"target_temperature": 0}, "target_temperature must be a positive"),
        ({"lora_rank": 4, "freeze_encoder": True}, "lora_rank must be 0"),
        ({"attention_dropout": 1.0}, "attention_dropout must be from 0 to less than 1, got 1.0"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_silver_and_gold_are_mixed_and_drawn(drawn, reviews, student_dir, tmp_path):
    found = fit(
        reviews, student_dir, "s", tmp_path, gold=gold_of(reviews), silver_epochs=2, gold_epochs=3, logging_steps=1,
    )  # fmt: skip
    assert (found["train"]["n_silver"], found["train"]["n_gold"], found["train"]["n"]) == (16, 12, 28)
    last = found["train"]["history"][-1]
    assert last["silver_seen"] == 32
    assert last["gold_seen"] >= 36
    assert (tmp_path / "s" / "mix.png").read_bytes().startswith(b"\x89PNG")


def test_best_epoch_is_kept_by_gold_where_there_is_gold_else_by_silver(reviews, student_dir, tmp_path):
    for gold, kept in ((gold_of(reviews), "gold"), (None, "silver")):
        found = fit(reviews, student_dir, kept, tmp_path, gold=gold, dev_share=0.25, num_train_epochs=6, mix="concat")
        history = found["train"]["history"]
        measured = [row[f"eval_{kept}_accuracy"] for row in history if f"eval_{kept}_accuracy" in row]
        assert len(measured) == 6
        assert any("eval_silver_accuracy" in row for row in history)
        parts = gold_of(reviews) if gold is not None else reviews
        dev = parts.train_test_split(0.25, seed=1)["test"]
        labels = StudentLabeler(tmp_path / kept).label(dev["text"][:])["student_label"]
        assert np.mean(np.array(labels) == np.array(dev["label"][:])) == pytest.approx(max(measured))
    assert not (tmp_path / "checkpoints").exists()


def test_nothing_to_train_on_is_refused(student_dir, tmp_path):
    with pytest.raises(ValueError, match="Pass silver, gold or both"):
        train_student(TASK, student_dir, tmp_path / "s", arguments(tmp_path))


def test_out_of_fold_says_of_each_row_what_others_taught(reviews, student_dir, tmp_path):
    truth = reviews["label"][:] * 3
    texts = [f"{text} {'and ' * k}slow" for k in range(3) for text in reviews["text"]]
    labels = [1 - label if i == 3 else label for i, label in enumerate(truth)]
    wrong = Dataset.from_dict({"text": texts, "label": labels})
    args = arguments(tmp_path)
    p = out_of_fold(wrong, TASK, student_dir, tmp_path / "folds", args, folds=4)
    assert p.shape == (48, 2)
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert p[3].argmax() == truth[3]
    assert (p.argmax(1) == np.array(truth)).mean() >= 0.9
    again = out_of_fold(wrong, TASK, student_dir, tmp_path / "folds", args, folds=4)
    assert np.array_equal(p, again)
    assert not list(tmp_path.glob("**/linear.safetensors"))  # nobody asks what counting words makes of a fold
    with pytest.raises(ValueError, match="Expected from 2 folds to as many as the rarest label"):
        out_of_fold(wrong, TASK, student_dir, tmp_path / "f", args, folds=40)


def test_seeds_give_a_mean_with_an_interval_and_the_first_is_the_student(reviews, student_dir, tmp_path):
    args = arguments(tmp_path, num_train_epochs=1)
    found = train_seeds(TASK, student_dir, tmp_path, args, 3, silver=reviews, eval_data=reviews)
    assert found["seeds"] == [1, 2, 3]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(found["accuracy"]["values"]))
    assert found["accuracy"]["low"] >= 0 and found["accuracy"]["high"] <= 1  # t-intervals of few seeds are wider
    assert json.loads((tmp_path / "seeds.json").read_text()) == found
    assert not same(tmp_path / "student", tmp_path / "seeds" / "2")
    assert args.seed == 1
    with pytest.raises(ValueError, match="at least 2 seeds"):
        train_seeds(TASK, student_dir, tmp_path / "x", args, 1, silver=reviews, eval_data=reviews)
    with pytest.raises(ValueError, match="Seeds are compared on texts with gold labels"):
        train_seeds(TASK, student_dir, tmp_path / "x", args, 2, silver=reviews)
    other = tmp_path / "other"
    train_seeds(TASK, student_dir, other, args, 2, silver=reviews.select(range(8)), eval_data=reviews)
    compared = compare_students(tmp_path, other)
    assert (compared["runs"], compared["n"]) == (2, 16)
    expected = np.mean(found["accuracy"]["values"][:2])
    expected -= json.loads((other / "seeds.json").read_text())["accuracy"]["mean"]
    assert compared["difference"] == pytest.approx(expected)


def test_students_measured_on_other_texts_or_not_at_all_are_not_compared(reviews, student_dir, tmp_path):
    fit(reviews, student_dir, "a", tmp_path, eval_data=reviews)
    fit(reviews, student_dir, "b", tmp_path, eval_data=reviews.select(range(1, 9)))
    fit(reviews, student_dir, "c", tmp_path)
    others = reviews.map(lambda row: {"text": row["text"] + " too"})
    fit(reviews, student_dir, "d", tmp_path, eval_data=others)
    with pytest.raises(ValueError, match="not measured on the same texts"):
        compare_students(tmp_path / "a", tmp_path / "d")
    with pytest.raises(ValueError, match="not measured on the same texts"):
        compare_students(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="has no evaluation.parquet.*eval_data"):
        compare_students(tmp_path / "a", tmp_path / "c")


def test_seeds_of_an_earlier_student_are_not_those_of_a_new_one(reviews, student_dir, tmp_path):
    train_seeds(
        TASK, student_dir, tmp_path, arguments(tmp_path, num_train_epochs=1), 2, silver=reviews, eval_data=reviews
    )
    assert read_seeds(tmp_path)["seeds"] == [1, 2]
    assert compare_students(tmp_path, tmp_path)["runs"] == 2
    shutil.rmtree(tmp_path / "student")
    assert read_seeds(tmp_path) is None
    fit(reviews, student_dir, "student", tmp_path, eval_data=reviews, num_train_epochs=3)
    assert read_seeds(tmp_path) is None
    assert compare_students(tmp_path, tmp_path)["runs"] == 1


class Stop(TrainerCallback):
    """Stops a training as a kill would, after a checkpoint."""

    def on_save(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


def test_resume_goes_on_with_the_same_training_and_never_with_another(reviews, student_dir, tmp_path, monkeypatch):
    saving = {"save_strategy": "epoch", "num_train_epochs": 3}
    fit(reviews, student_dir, "whole", tmp_path, **saving)
    checkpoints = tmp_path / "checkpoints"
    assert len(list(checkpoints.glob("*/checkpoint-*"))) == 3
    other = reviews.map(lambda row: {"label": 1 - row["label"]})
    fit(other, student_dir, "other", tmp_path, **saving, resume_from_checkpoint="True")
    assert not same(tmp_path / "whole", tmp_path / "other")
    assert len(list(checkpoints.iterdir())) == 2

    shutil.rmtree(checkpoints)
    with monkeypatch.context() as patch:
        whole = StudentTrainer.__init__
        patch.setattr(
            StudentTrainer, "__init__", lambda self, *a, **k: (whole(self, *a, **k), self.add_callback(Stop()))[0]
        )
        with pytest.raises(KeyboardInterrupt):
            fit(reviews, student_dir, "killed", tmp_path, **saving)
    found = fit(reviews, student_dir, "killed", tmp_path, **saving, resume_from_checkpoint="True")
    assert same(tmp_path / "whole", tmp_path / "killed")
    assert found["train"]["history"][-1]["epoch"] == 3


def test_one_source_resumes_in_the_middle_of_an_epoch_as_if_nothing_had_been(reviews, student_dir, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 3}
    fit(reviews, student_dir, "whole", tmp_path, **saving)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*/checkpoint-5")
    fit(reviews, student_dir, "rest", tmp_path, **saving, resume_from_checkpoint=str(checkpoint))
    assert same(tmp_path / "whole", tmp_path / "rest")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "cut"), ("optimizer.pt", "cut"), ("trainer_state.json", "cut"), ("rng_state.pth", "cut"),
        ("model.safetensors", "gone"), ("trainer_state.json", "gone"),
    ],
)  # fmt: skip
def test_torn_checkpoint_is_passed_over_for_the_whole_one_before_it(
    reviews, student_dir, tmp_path, caplog, name, damage
):
    checkpoints = tmp_path / "c"
    trainer(reviews, student_dir, checkpoints, save_strategy="epoch").train()
    (checkpoints / "checkpoint-10").mkdir()  # killed as it began
    torn = checkpoints / "checkpoint-4" / name
    if damage == "cut":
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    else:
        torn.unlink()
    assert last_whole_checkpoint(checkpoints) == str(checkpoints / "checkpoint-2")
    assert "checkpoint-4' is not whole" in caplog.text and "checkpoint-10' is not whole" in caplog.text


def test_no_checkpoint_at_all_is_a_training_from_the_start(tmp_path):
    assert last_whole_checkpoint(tmp_path / "none") is None


def test_pushing_while_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="hf-llambert push RUN"):
        arguments(tmp_path, push_to_hub=True)


def test_several_gpus_of_one_process_are_not_used_in_silence(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(StudentConfig, "n_gpu", property(lambda self: getattr(self, "_n_gpu", None) or 4))
    say_one_gpu.cache_clear()
    args = arguments(tmp_path, per_device_train_batch_size=8)
    assert args.train_batch_size == 8
    assert "4 GPUs are visible and one process was started" in caplog.text


def test_batches_that_some_processes_would_wait_for_are_refused(tmp_path, monkeypatch):
    uneven = {"accelerator_config": {"even_batches": False}}
    arguments(tmp_path, **uneven)
    monkeypatch.setattr(StudentConfig, "world_size", 2)
    with pytest.raises(ValueError, match="even_batches=False leaves some processes without a last batch"):
        arguments(tmp_path, **uneven)


def test_text_kept_back_is_in_no_source_that_is_learnt_from(reviews, student_dir, tmp_path):
    gold = reviews.add_column("shown", reviews["text"][:]).select_columns(
        ["text", "label"]
    )  # people labelled the same
    rows, dev = kept_back({"silver": reviews, "gold": gold}, 0.25, 1, "text")
    held = {text for data in dev.values() for text in data["text"]}
    assert not held & {text for data in rows.values() for text in data["text"]}
    found = fit(reviews, student_dir, "s", tmp_path, gold=gold, dev_share=0.25, mix="concat")["train"]
    assert (found["n_silver"], found["n_gold"], found["n_dev"]) == (len(rows["silver"]), len(rows["gold"]), 8)
    assert sum(found["per_label"].values()) == found["n"] == len(rows["silver"]) + len(rows["gold"])
    with pytest.raises(ValueError, match="dev_share 0.01 of the silver rows .16. leaves none on one side"):
        fit(reviews, student_dir, "t", tmp_path, dev_share=0.01)


def test_texts_that_choose_the_epoch_and_are_measured_on_are_warned_of(reviews, student_dir, tmp_path, caplog):
    dev = kept_back({"silver": reviews}, 0.25, 1, "text")[1]["silver"]
    fit(reviews, student_dir, "s", tmp_path, dev_share=0.25, eval_data=dev)
    assert "4 of 4 silver texts that choose the epoch are also measured on" in caplog.text
    assert "to train on are also" not in caplog.text


def test_texts_both_learnt_and_measured_are_warned_of(reviews, student_dir, tmp_path, caplog):
    fit(reviews, student_dir, "s", tmp_path, eval_data=reviews.select(range(4)))
    assert "4 of 16 silver texts to train on are also measured on" in caplog.text


def test_labels_that_are_no_ids_are_explained(reviews, student_dir, tmp_path):
    for wrong in ([2] * 16, ["positive"] * 16):
        data = Dataset.from_dict({"text": reviews["text"][:], "label": wrong[:15] + [wrong[0]]})
        data = data.map(lambda row, i: {"label": row["label"] if i else row["label"]}, with_indices=True)
        with pytest.raises(ValueError, match="Expected ids from 0 to 1 in column 'label' of the silver data"):
            fit(data, student_dir, "s", tmp_path)


def test_evaluation_refuses_other_label_orders_and_passes_over_blank_texts(reviews, student_dir, tmp_path):
    fit(reviews, student_dir, "s", tmp_path)
    labeler = StudentLabeler(tmp_path / "s")
    turned = with_gold(reviews, "text", "label", TASK).cast_column("label", ClassLabel(names=["positive", "negative"]))
    with pytest.raises(ValueError, match="Use with_gold"):
        evaluate_student(labeler, turned, TASK)
    blank = Dataset.from_dict({"text": [None, *reviews["text"]], "label": [0, *reviews["label"]]})
    assert evaluate_student(labeler, blank, TASK)["n"] == 16


def test_equal_texts_are_in_one_fold(student_dir, tmp_path, monkeypatch):
    texts = [f"take {k}" for k in range(9)] * 2
    data = Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(9)] * 2})
    seen = []

    def note(task, student, folder, args, silver, eval_data, **kwargs):
        seen.append((set(silver["text"]), set(eval_data["text"])))
        folder.mkdir(parents=True)
        Dataset.from_dict({"student_scores": [[-0.7, -0.7]] * len(eval_data)}).to_parquet(
            folder / "evaluation.parquet"
        )

    monkeypatch.setattr("hf_llambert.training.folds.train_student", note)
    out_of_fold(data, TASK, student_dir, tmp_path / "folds", arguments(tmp_path), folds=3)
    assert len(seen) == 3
    assert all(not learnt & held for learnt, held in seen)
    with pytest.raises(ValueError, match="1 of 18 silver rows have no text or no label"):
        out_of_fold(
            data.map(lambda row, i: {"text": row["text"] if i else " "}, with_indices=True), TASK, student_dir,
            tmp_path / "blank", arguments(tmp_path),
        )  # fmt: skip


def test_mean_interval_is_students_t():
    mean, low, high = mean_interval([0.8, 0.82, 0.84])
    assert mean == pytest.approx(0.82)
    assert high - mean == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-5)
    assert mean - low == pytest.approx(high - mean)
    assert np.isnan(mean_interval([0.8])[1])


def test_paired_bootstrap_knows_a_real_difference_from_chance():
    random = np.random.default_rng(1)
    hard = random.random(1000)
    first = np.array([hard + random.normal(0, 0.05, 1000) < 0.85 for _ in range(3)])
    second = np.array([hard + random.normal(0, 0.05, 1000) < 0.80 for _ in range(3)])
    difference, low, high = paired_bootstrap(first, second)
    assert difference == pytest.approx(first.mean() - second.mean())
    assert 0 < low < difference < high
    assert paired_bootstrap(first, second) == (difference, low, high)
    alone = paired_bootstrap(first[0])
    half = 1.96 * np.sqrt(first[0].mean() * (1 - first[0].mean()) / 1000)
    assert alone[2] - alone[1] == pytest.approx(2 * half, rel=0.15)
    _, low, high = paired_bootstrap(first, first[::-1])
    assert low < 0 < high
    with pytest.raises(ValueError, match="same texts in as many runs"):
        paired_bootstrap(first, second[:, 1:])
