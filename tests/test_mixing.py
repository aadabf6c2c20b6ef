import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from datasets import Dataset, concatenate_datasets
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from forked import run_by_two_processes
from hf_llambert import MixCallback
from hf_llambert.training.draws import MixPlan, MixSampler
from mix_run import Recorder, rows, run

SILVER, GOLD = 21, 8
MIXES = {
    "concat": {"schedule": "concat"},
    "concat of stated epochs": {"schedule": "concat", "silver_epochs": 2, "gold_epochs": 4},
    "silver then gold": {"schedule": "silver_then_gold", "silver_epochs": 2, "gold_epochs": 3},
    "two learning rates": {
        "schedule": "silver_then_gold", "silver_epochs": 2, "gold_epochs": 3, "gold_learning_rate": 0.02,
    },
    "ratio": {"schedule": "ratio", "gold_share": 0.4},
}  # fmt: skip


def config(folder, mix, batch=4, **changes):
    arguments = {
        "output_dir": str(folder / "checkpoints"), "per_device_train_batch_size": batch, "num_train_epochs": 3,
        "save_strategy": "no", "seed": 5,
    }  # fmt: skip
    arguments |= changes.pop("arguments", {})
    return {"silver": SILVER, "gold": GOLD, "mix": mix, "arguments": arguments, **changes}


def sources(drawn):
    """Draws of each silver row and of each gold row, as two sorted lists."""
    counts = Counter(drawn)
    return sorted(counts[i] for i in range(SILVER)), sorted(counts[i] for i in range(SILVER, SILVER + GOLD))


def flat(found):
    return [row for batch in found["rows"] for row in batch]


def test_concat_draws_every_row_once_an_epoch_and_differently_each_time(tmp_path):
    _, found = run(config(tmp_path, MIXES["concat"]))
    drawn = flat(found)
    epochs = [drawn[k : k + SILVER + GOLD] for k in range(0, len(drawn), SILVER + GOLD)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(SILVER + GOLD))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_silver_then_gold_draws_the_stated_epochs_one_after_the_other(tmp_path):
    trainer, found = run(config(tmp_path, MIXES["silver then gold"], batch=3))
    drawn = flat(found)
    assert all(row < SILVER for row in drawn[: 2 * SILVER])
    assert all(row >= SILVER for row in drawn[2 * SILVER :])
    silver, gold = sources(drawn[: 2 * SILVER + 3 * GOLD])
    assert (silver, gold) == ([2] * SILVER, [3] * GOLD)
    assert len(drawn) - (2 * SILVER + 3 * GOLD) < 3
    assert trainer.state.log_history[-2]["silver_seen"] == 2 * SILVER
    assert trainer.state.log_history[-2]["gold_seen"] == len(drawn) - 2 * SILVER


def test_concat_of_stated_epochs_draws_each_source_as_often_as_stated(tmp_path):
    _, found = run(config(tmp_path, MIXES["concat of stated epochs"], batch=2))
    drawn = flat(found)[: 2 * SILVER + 4 * GOLD]
    assert sources(drawn) == ([2] * SILVER, [4] * GOLD)
    middle = sum(row >= SILVER for row in drawn[: len(drawn) // 2])
    assert abs(middle - 2 * GOLD) <= 1


def test_share_of_gold_is_the_stated_one_throughout(tmp_path):
    _, found = run(config(tmp_path, MIXES["ratio"], arguments={"num_train_epochs": 20}))
    gold = np.array([row >= SILVER for row in flat(found)])
    tenth = len(gold) // 10
    assert gold[:tenth].mean() == pytest.approx(0.4, abs=0.08)
    assert gold[-tenth:].mean() == pytest.approx(0.4, abs=0.08)
    silver, people = sources(flat(found))
    assert max(silver) - min(silver) <= 1
    assert max(people) - min(people) <= 1


def test_logs_say_how_much_of_each_source_was_seen(tmp_path):
    trainer, found = run(config(tmp_path, MIXES["ratio"]))
    for entry in trainer.state.log_history[:-1]:
        drawn = flat({"rows": found["rows"][: entry["step"]]})
        assert entry["gold_seen"] == sum(row >= SILVER for row in drawn)
        assert entry["silver_seen"] == len(drawn) - entry["gold_seen"]


def test_dropped_last_batches_are_not_counted(tmp_path):
    trainer, found = run(config(tmp_path, MIXES["ratio"], arguments={"dataloader_drop_last": True}))
    assert len(flat(found)) == 3 * 28
    assert trainer.state.log_history[-2]["gold_seen"] == sum(row >= SILVER for row in flat(found))


def test_max_steps_keeps_the_proportion_of_the_parts(tmp_path):
    _, found = run(config(tmp_path, MIXES["silver then gold"], arguments={"max_steps": 10}))
    drawn = flat(found)
    expected = round(len(drawn) * 2 * SILVER / (2 * SILVER + 3 * GOLD))
    assert [row >= SILVER for row in drawn] == [k >= expected for k in range(len(drawn))]


def test_arguments_may_be_used_for_another_training(tmp_path):
    from mix_run import Recorder

    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=4)
    for silver, gold, mix, steps in (
        (8, 4, MIXES["silver then gold"], 7),
        (16, 8, MIXES["silver then gold"], 14),
        (8, 4, MIXES["ratio"], 9),
    ):
        data = concatenate_datasets([rows(0, silver), rows(silver, gold)])
        trainer = Trainer(Recorder(), args, train_dataset=data, callbacks=[MixCallback(silver, gold, **mix)])
        trainer.train()
        assert trainer.state.global_step == steps


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_scheduler_type": "linear"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0.01}},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.01}},
    ],
    ids=lambda schedule: schedule["lr_scheduler_type"],
)
def test_second_part_has_a_learning_rate_of_its_own(tmp_path, schedule):
    mix = MIXES["two learning rates"]
    changes = {"arguments": {"warmup_steps": 0.2, **schedule}}
    _, found = run(config(tmp_path, mix, **changes))
    rates = [entry["learning_rate"] for entry in found["log"] if "learning_rate" in entry]
    steps = 2 * 8 - 4  # two epochs of 29 rows are 16 steps, of which silver's 42 rows take the first 12
    alone = [
        run(config(tmp_path, {}, with_mix=False, arguments=changes["arguments"] | change))[1]["log"]
        for change in ({"max_steps": steps}, {"max_steps": len(rates) - steps, "learning_rate": 0.02})
    ]
    expected = [entry["learning_rate"] for log in alone for entry in log if "learning_rate" in entry]
    assert rates == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", MIXES)
def test_resume_in_the_middle_of_an_epoch_changes_nothing(tmp_path, name):
    _, whole = run(config(tmp_path, MIXES[name]))
    stopped = {"arguments": {"save_strategy": "steps", "save_steps": 5}, "stop_at": 5}
    run(config(tmp_path, MIXES[name], **stopped))
    checkpoint = str(tmp_path / "checkpoints" / "checkpoint-5")
    _, rest = run(config(tmp_path, MIXES[name], resume=checkpoint))
    assert rest["rows"] == whole["rows"][5:]
    assert rest["weights"] == whole["weights"]
    assert rest["log"][-2]["gold_seen"] == whole["log"][-2]["gold_seen"]


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"dataloader_num_workers": 2},
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    ],
)
def test_workers_and_accumulation_draw_the_same_rows_also_after_a_resume(tmp_path, settings):
    mix = MIXES["ratio"]
    _, plain = run(config(tmp_path, mix))
    _, found = run(config(tmp_path, mix, arguments=settings | {"save_strategy": "steps", "save_steps": 11}))
    assert flat(found) == flat(plain)
    assert found["log"][-2]["gold_seen"] == plain["log"][-2]["gold_seen"]
    _, rest = run(config(tmp_path, mix, arguments=settings, resume=str(tmp_path / "checkpoints" / "checkpoint-11")))
    assert flat(rest) == flat(plain)[SILVER + GOLD + 3 * 4 :]
    assert rest["weights"] == found["weights"]


@pytest.mark.parametrize("name", MIXES)
def test_rows_of_like_length_share_batches_and_each_is_drawn_as_often(tmp_path, name):
    grouping = {"train_sampling_strategy": "group_by_length"}
    _, plain = run(config(tmp_path, MIXES[name], batch=2))
    _, grouped = run(config(tmp_path, MIXES[name], batch=2, arguments=grouping))
    assert [row >= SILVER for row in flat(grouped)] == [row >= SILVER for row in flat(plain)]
    whole = (SILVER + GOLD) * (len(flat(plain)) // (SILVER + GOLD))
    for start in range(0, whole, SILVER + GOLD):  # in each epoch the very same rows
        epoch = slice(start, start + SILVER + GOLD)
        assert sorted(flat(grouped)[epoch]) == sorted(flat(plain)[epoch])

    def spread(found):
        batches = [[(7 * row) % 13 for row in batch] for batch in found["rows"]]
        return np.mean([max(batch) - min(batch) for batch in batches])

    assert spread(grouped) < 0.9 * spread(plain)
    stopped = {"arguments": {**grouping, "save_strategy": "steps", "save_steps": 5}, "stop_at": 5}
    run(config(tmp_path, MIXES[name], batch=2, **stopped))
    checkpoint = str(tmp_path / "checkpoints" / "checkpoint-5")
    _, rest = run(config(tmp_path, MIXES[name], batch=2, arguments=grouping, resume=checkpoint))
    assert rest["rows"] == grouped["rows"][5:]
    with pytest.raises(ValueError, match="group_by_length: True there, False now"):
        run(config(tmp_path, MIXES[name], batch=2, resume=checkpoint))


def two_processes(tmp_path, settings):
    settings["out"] = str(tmp_path / "found")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    run_by_two_processes(
        tmp_path, Path(__file__).parent / "mix_run.py", tmp_path / "config.json", ACCELERATE_USE_CPU="true"
    )
    ranks = [json.loads(Path(f"{settings['out']}.{rank}").read_text()) for rank in (0, 1)]
    assert [rank["world"] for rank in ranks] == [2, 2]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    steps = [a + b for a, b in zip(ranks[0]["rows"], ranks[1]["rows"], strict=True)]
    return steps, ranks[0]


@pytest.mark.parametrize("name", ["concat", "two learning rates", "ratio"])
def test_two_processes_draw_what_one_draws_with_twice_the_batch(tmp_path, name):
    _, one = run(config(tmp_path, MIXES[name]))
    steps, two = two_processes(tmp_path, config(tmp_path, MIXES[name], batch=2))
    assert len(steps) == len(one["rows"])
    for alone, together in zip(one["rows"], steps, strict=True):
        assert together[: len(alone)] == alone or len(alone) % 4  # accelerate fills the last batch of an epoch up
        assert set(alone) <= set(together)
    full = [k for k, alone in enumerate(one["rows"]) if len(alone) == 4]
    assert [steps[k] for k in full] == [one["rows"][k] for k in full]
    assert two["log"][-2]["gold_seen"] == one["log"][-2]["gold_seen"]


def test_one_source_alone_is_drawn_once_an_epoch_by_two_processes_and_after_a_resume(tmp_path):
    grouped = {"train_sampling_strategy": "group_by_length", "save_strategy": "steps", "save_steps": 5}
    settings = {"silver": 64, "gold": 0, "arguments": grouped}
    whole, full = two_processes(tmp_path, config(tmp_path, {}, batch=4, **settings))
    for epoch in range(3):
        drawn = [row for step in whole[8 * epoch : 8 * epoch + 8] for row in step]
        assert sorted(drawn) == list(range(64))
    resume = str(tmp_path / "checkpoints" / "checkpoint-5")
    rest, found = two_processes(tmp_path, config(tmp_path, {}, batch=4, resume=resume, **settings))
    assert rest == whole[5:]
    assert found["weights"] == full["weights"]


def test_gold_alone_is_counted_as_gold(tmp_path):
    _, found = run(config(tmp_path, {}, silver=0, gold=10))
    assert [(row["silver_seen"], row["gold_seen"], row["gold_share"]) for row in found["log"][:3]] == [
        (0, 4, 1.0), (0, 8, 1.0), (0, 10, 1.0),
    ]  # fmt: skip


def test_a_part_of_one_step_is_learnt(tmp_path):
    mix = {"schedule": "silver_then_gold", "silver_epochs": 1, "gold_epochs": 1, "gold_learning_rate": 0.02}
    arguments = {"warmup_steps": 0.1}
    _, found = run(config(tmp_path, mix, batch=21, arguments=arguments))
    assert [row["learning_rate"] for row in found["log"][:2]] == [0.1, 0.02]
    assert not np.allclose(
        found["weights"], run(config(tmp_path, mix, batch=21, arguments={"learning_rate": 1e-9}))[1]["weights"]
    )


def test_steps_that_fp16_skips_do_not_delay_the_second_learning_rate(tmp_path, monkeypatch):
    mix = MIXES["two learning rates"]
    _, whole = run(config(tmp_path, mix))
    steps = []
    monkeypatch.setattr(  # as when the scale of the gradients was too high in the first three steps
        Accelerator, "optimizer_step_was_skipped", property(lambda self: steps.append(0) or len(steps) <= 3)
    )
    _, found = run(config(tmp_path, mix))
    assert len(steps) == whole["steps"] > 3
    assert [row.get("learning_rate") for row in found["log"]] == [row.get("learning_rate") for row in whole["log"]]


def test_two_processes_resume_in_the_middle_of_an_epoch(tmp_path):
    mix = MIXES["silver then gold"]
    saving = {"arguments": {"save_strategy": "steps", "save_steps": 5}}
    whole, full = two_processes(tmp_path, config(tmp_path, mix, batch=2, **saving))
    resume = str(tmp_path / "checkpoints" / "checkpoint-5")
    rest, found = two_processes(tmp_path, config(tmp_path, mix, batch=2, resume=resume))
    assert rest == whole[5:]
    assert found["weights"] == full["weights"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shift": 1.0}, "data: '"),
        ({"mix": {"schedule": "concat"}}, "schedule: 'ratio' there, 'concat' now"),
        ({"mix": {"schedule": "ratio", "gold_share": 0.5}}, "order: '"),
        ({"mix": MIXES["ratio"] | {"seed": 7}}, "seed: 42 there, 7 now"),
        ({"silver": 20, "gold": 9}, "num_silver: 21 there, 20 now"),
    ],
)
def test_resume_with_another_mix_is_refused_and_says_what_changed(tmp_path, change, named):
    saving = {"arguments": {"save_strategy": "steps", "save_steps": 3}, "stop_at": 3}
    run(config(tmp_path, MIXES["ratio"], **saving))
    resume = {"resume": str(tmp_path / "checkpoints" / "checkpoint-3")}
    with pytest.raises(ValueError, match=f"another mix.*{named}"):
        run({**config(tmp_path, MIXES["ratio"]), **resume, **change})


def test_resume_that_skips_no_data_is_refused(tmp_path):
    saving = {"arguments": {"save_strategy": "steps", "save_steps": 3}, "stop_at": 3}
    run(config(tmp_path, MIXES["ratio"], **saving))
    resume = {"resume": str(tmp_path / "checkpoints" / "checkpoint-3"), "arguments": {"ignore_data_skip": True}}
    with pytest.raises(ValueError, match="leave ignore_data_skip off"):
        run(config(tmp_path, MIXES["ratio"], **resume))


def test_callback_is_restored_by_the_trainer_and_may_join_on_resume(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 5}
    _, whole = run(config(tmp_path, MIXES["ratio"], arguments=saving))
    checkpoint = str(tmp_path / "checkpoints" / "checkpoint-5")
    restored = {"restore_callback_states_from_checkpoint": True}
    _, rest = run(config(tmp_path, MIXES["ratio"], arguments=restored, resume=checkpoint))
    assert rest["rows"] == whole["rows"][5:]
    plain = tmp_path / "plain"
    run(config(plain, {}, with_mix=False, arguments=saving, stop_at=5))
    _, joined = run(
        config(plain, MIXES["ratio"], arguments=saving, resume=str(plain / "checkpoints" / "checkpoint-5"))
    )
    assert joined["rows"] == whole["rows"][5:]


def test_streaming_is_refused(tmp_path):
    silver, gold = rows(0, 6), rows(6, 2)
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", max_steps=2)
    from mix_run import Recorder

    trainer = Trainer(
        Recorder(),
        args,
        train_dataset=concatenate_datasets([silver, gold]).to_iterable_dataset(),
        callbacks=[MixCallback(6, 2)],
    )
    with pytest.raises(ValueError, match="streaming dataset.*streaming=False"):
        trainer.train()


def test_dataset_of_another_size_is_refused(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    from mix_run import Recorder

    trainer = Trainer(Recorder(), args, train_dataset=rows(0, 9), callbacks=[MixCallback(6, 2)])
    with pytest.raises(ValueError, match=r"6 \+ 2 = 8 rows, got 9"):
        trainer.train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_silver": 0, "num_gold": 0}, "num_silver is 0: there is nothing to mix"),
        ({"num_gold": 0, "schedule": "ratio"}, "num_gold is 0.*One source alone takes schedule 'concat'"),
        ({"num_silver": -1}, "num_silver is -1"),
        ({"schedule": "alternate"}, "Unknown schedule 'alternate': expected one of concat"),
        ({"schedule": "silver_then_gold"}, "needs both silver_epochs and gold_epochs"),
        ({"schedule": "concat", "gold_epochs": 2}, "needs both"),
        ({"schedule": "ratio", "gold_share": 1.5}, "gold_share must be from 0 to 1"),
        ({"schedule": "ratio", "gold_epochs": 2}, r"ratio does not take \['gold_epochs'\]"),
        ({"schedule": "ratio", "gold_learning_rate": 1e-5}, r"does not take \['gold_learning_rate'\]"),
        ({"schedule": "concat", "silver_epochs": -1, "gold_epochs": 1}, "silver_epochs must be a positive"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixCallback(**({"num_silver": 4, "num_gold": 2} | arguments))


def test_smaller_batches_after_a_lack_of_memory_are_refused_where_the_length_is_set(tmp_path, monkeypatch):
    forward = Recorder.forward

    def short_of_memory(self, x, **rest):
        if len(x) > 3:
            raise RuntimeError("CUDA out of memory.")
        return forward(self, x, **rest)

    monkeypatch.setattr(Recorder, "forward", short_of_memory)
    found = {"auto_find_batch_size": True, "accelerator_config": {"split_batches": False}}
    with pytest.raises(
        ValueError, match="made batches of 3 rows.*per_device_train_batch_size=3, or use StudentTrainer"
    ):
        run(config(tmp_path, MIXES["silver then gold"], arguments=found))


def test_gold_learning_rate_needs_a_schedule_by_step(tmp_path):
    arguments = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}
    with pytest.raises(ValueError, match="this training has ReduceLROnPlateau"):
        run(config(tmp_path, MIXES["two learning rates"], arguments=arguments))


def test_big_sources_are_planned_in_little_memory():
    plan = MixPlan(7_000_000, 800_000, (0, 10_000_000, 12_000_000), (0, 0, 2_000_000), seed=1)
    sampler = MixSampler(plan)
    sampler.set_epoch(1)
    first = [row for row, _ in zip(sampler, range(200_000), strict=False)]
    assert len(set(first)) == 200_000
    assert max(first) < 7_000_000
    positions = np.array([9_999_999, 10_000_000, 10_000_001])
    assert plan.gold_drawn(positions).tolist() == [0, 0, 1]


def test_trainer_of_trl_mixes_too(tmp_path, teacher_dir):
    def rows_of(word, number):
        return Dataset.from_dict({"prompt": [f"{word} {k}:" for k in range(number)], "completion": [" yes"] * number})

    args = SFTConfig(
        str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_steps=6, per_device_train_batch_size=2,
        logging_steps=1, save_strategy="no", max_length=32, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(teacher_dir),
        args,
        train_dataset=concatenate_datasets([rows_of("silver", 9), rows_of("gold", 4)]),
        processing_class=AutoTokenizer.from_pretrained(teacher_dir),
        callbacks=[MixCallback(9, 4, "ratio", gold_share=0.5)],
    )
    trainer.train()
    last = trainer.state.log_history[-2]
    assert (last["silver_seen"], last["gold_seen"]) == (6, 6)
