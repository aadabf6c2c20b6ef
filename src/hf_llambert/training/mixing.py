"""
Mixing LLM-labelled and gold rows inside a stock `Trainer`.

The training dataset is the plain concatenation `[silver | gold]`. Which row is drawn when is a pure function of the
schedule, the seed and the position in the training, so nothing has to be remembered across a resume, and every process
computes the same order. A callback hands that order to the DataLoader the Trainer has already built.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from accelerate.data_loader import DataLoaderDispatcher
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler
from transformers.trainer_callback import ExportableState

from hf_llambert.data import content_hash
from hf_llambert.training.draws import MixPlan, MixSampler

SCHEDULES: tuple[str, ...] = ("concat", "silver_then_gold", "ratio")
_OPTIONS = ("silver_epochs", "gold_epochs", "gold_learning_rate", "gold_share")
_OWN_STEPS = "_max_steps_of_mix"
_WINDOW = 50  # batches within which rows are grouped by length, as the Trainer's own sampler does


class MixCallback(TrainerCallback, ExportableState):
    """
    Draw silver and gold rows on a schedule in `transformers.Trainer` and the trainers of trl.

    ```python
    mix = MixCallback(len(silver), len(gold), "silver_then_gold", silver_epochs=3, gold_epochs=2)
    Trainer(model, args, train_dataset=concatenate_datasets([silver, gold]), callbacks=[mix]).train()
    ```

    `train_sampling_strategy="group_by_length"` is honoured: rows of like length share a batch where the schedule allows.
    Exact on any number of processes and workers and after a resume in the middle of an epoch. A resume with other data
    or another schedule is refused. Every log entry and `trainer_state.json` say how much of each source was seen
    (`silver_seen`, `gold_seen`) and which share is drawn now (`gold_share`).

    One source alone, with `concat`, is drawn in the same way: a fresh permutation each epoch, the same on any number of
    processes and after a resume.

    Args:
        num_silver (`int`): Rows of the first part of the training dataset.
        num_gold (`int`): Rows of the second part.
        schedule (`str`, defaults to `"concat"`): `concat`: both, evenly interleaved, as often as the training arguments or
            `silver_epochs` and `gold_epochs` say. `silver_then_gold`: first all epochs over silver, then all over gold,
            on the same weights. `ratio`: a fixed share of gold.
        silver_epochs (`float`, *optional*): Passes over silver, for `silver_then_gold` and `concat`. Together with
            `gold_epochs` this decides how long the training is, unless `max_steps` is set: then only the proportion.
        gold_epochs (`float`, *optional*): Passes over gold.
        gold_learning_rate (`float`, *optional*): For `silver_then_gold`: peak learning rate of the second part, which
            then has warm-up and decay of its own, as if it were a second training. Without it one schedule of the
            learning rate spans both parts.
        gold_share (`float`, *optional*): Share of gold of `ratio` (defaults to 0.5).
        seed (`int`, defaults to 42): Seed of the order.

    Raises:
        ValueError: An empty source, an unknown schedule, an argument that the schedule does not take; at the start of
            the training a streaming dataset, a dataset of another size, or a checkpoint of another mix.
    """

    def __init__(
        self,
        num_silver: int,
        num_gold: int,
        schedule: str = "concat",
        *,
        silver_epochs: float | None = None,
        gold_epochs: float | None = None,
        gold_learning_rate: float | None = None,
        gold_share: float | None = None,
        seed: int = 42,
    ) -> None:
        for name, rows in (("num_silver", num_silver), ("num_gold", num_gold)):
            if rows < 1 and (schedule != "concat" or rows < 0 or num_silver + num_gold < 1):
                raise ValueError(
                    f"{name} is {rows}: there is nothing to mix. One source alone takes schedule 'concat'."
                )
        if schedule not in SCHEDULES:
            raise ValueError(f"Unknown schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}.")
        self.num_silver, self.num_gold, self.schedule, self.seed = num_silver, num_gold, schedule, seed
        self.silver_epochs, self.gold_epochs = silver_epochs, gold_epochs
        self.gold_learning_rate, self.gold_share = gold_learning_rate, gold_share
        self._check_arguments()
        self.progress: dict[str, object] = {}
        """What is written to `trainer_state.json`."""
        self._plan: MixPlan | None = None
        self._sampler: MixSampler | None = None
        self._draws_per_step = self._draws_per_epoch = self._steps_per_epoch = 0

    def _check_arguments(self) -> None:
        takes = {
            "concat": {"silver_epochs", "gold_epochs"},
            "silver_then_gold": {"silver_epochs", "gold_epochs", "gold_learning_rate"},
            "ratio": {"gold_share"},
        }[self.schedule]
        given = {key: value for key in _OPTIONS if (value := getattr(self, key)) is not None}
        if unused := sorted(set(given) - takes):
            raise ValueError(f"Schedule {self.schedule} does not take {unused}; it takes {sorted(takes)}.")
        for key in {"silver_epochs", "gold_epochs", "gold_learning_rate"} & set(given):
            if not 0 < given[key] < math.inf:
                raise ValueError(f"{key} must be a positive number, got {given[key]}.")
        if self.gold_share is not None and not 0 <= self.gold_share <= 1:
            raise ValueError(f"gold_share must be from 0 to 1, got {self.gold_share}.")
        epochs = {"silver_epochs", "gold_epochs"} & set(given)
        if len(epochs) == 1 or (self.schedule == "silver_then_gold" and not epochs):
            raise ValueError(f"Schedule {self.schedule} needs both silver_epochs and gold_epochs; got {given}.")

    def state(self) -> dict:
        """What a checkpoint holds of this callback."""
        names = ("num_silver", "num_gold", "schedule", *_OPTIONS, "seed")
        args = {name: getattr(self, name) for name in names}
        return {"args": args, "attributes": {"progress": dict(self.progress)}}

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Make the training as long as the epochs over each source say."""
        self.set_length(args, args.train_batch_size)

    def set_length(self, args: TrainingArguments, batch: int) -> None:
        """Set `args.max_steps` to what the epochs over each source need with so many rows in a batch on each device."""
        if args.max_steps == getattr(args, _OWN_STEPS, None):
            args.max_steps = -1  # set for an earlier Trainer with these very arguments
        draws = self._stated_draws()
        if draws is not None and args.max_steps <= 0:
            self._measure(args, batch)
            args.max_steps = self._step_at(sum(draws))
            setattr(args, _OWN_STEPS, args.max_steps)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        lr_scheduler: object = None,
        **kwargs: object,
    ) -> None:
        """Plan the whole training and hand the order to the DataLoader."""
        dataset = self._check_loader(train_dataloader)
        self._measure(args, state.train_batch_size or args.train_batch_size)
        loader_steps = max(1, math.ceil(len(train_dataloader) / args.gradient_accumulation_steps))  # type: ignore[arg-type]
        if loader_steps != self._steps_per_epoch:
            raise ValueError(
                f"Expected {self._steps_per_epoch} steps an epoch for {len(dataset):,} rows in steps of "  # type: ignore[arg-type]
                f"{self._draws_per_step}, the DataLoader makes {loader_steps}. MixCallback needs the Trainer's own one."
            )
        draws = self._stated_draws()
        if draws and args.max_steps == getattr(args, _OWN_STEPS, None) and self._step_at(sum(draws)) != args.max_steps:
            raise ValueError(
                f"auto_find_batch_size made batches of {state.train_batch_size} rows, and this Trainer cannot make its "
                f"{args.max_steps:,} steps more. Pass per_device_train_batch_size={state.train_batch_size}, or use "
                f"StudentTrainer."
            )
        self._plan = self._make_plan(state.max_steps)
        lengths = _lengths(dataset, args)
        window = self._draws_per_step * max(1, min(len(dataset) // (self._draws_per_step * 4), _WINDOW))  # type: ignore[arg-type]
        new = {**self._spec(dataset, state.max_steps), "group_by_length": lengths is not None}
        stored = _stored(state).get(type(self).__name__)
        if state.global_step:
            if args.ignore_data_skip:
                raise ValueError("Resuming a mix goes on with the next row: leave ignore_data_skip off.")
            self._check_same(stored, new)
        self.progress = {"mix": new}
        # A checkpoint of a run without this callback does not know it, and the next save would fail.
        _stored(state).setdefault(type(self).__name__, self.state())
        if self.gold_learning_rate is not None:
            self._two_learning_rates(args, state, lr_scheduler)
        self._sampler = MixSampler(self._plan) if lengths is None else MixSampler(self._plan, lengths, window)
        train_dataloader.set_sampler(self._sampler)  # type: ignore[union-attr]
        self._count(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Tell the sampler which epoch it is: accelerate does not reach it behind the samplers of a resume."""
        if self._sampler is not None:
            self._sampler.set_epoch(state.global_step // self._steps_per_epoch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count, so that a checkpoint saved now carries the right numbers, and keep the learning rate with the step."""
        self._count(state)
        if self.gold_learning_rate is not None:
            _at_step(kwargs["lr_scheduler"], state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict | None = None,
        **kwargs: object,
    ) -> None:
        """Add what was seen of each source to the log."""
        if self._plan is None or logs is None:
            return
        seen = self._count(state)
        logs.update(seen)  # for callbacks that come later
        if state.log_history:
            state.log_history[-1].update(seen)  # for trainer_state.json

    def _check_loader(self, loader: DataLoader | None) -> object:
        dataset = getattr(loader, "dataset", None)
        if loader is None or isinstance(dataset, IterableDataset) or isinstance(loader, DataLoaderDispatcher):
            raise ValueError(
                "MixCallback draws rows by their number, which a streaming dataset (or dispatch_batches=True) does not "
                "allow. Load the training rows with streaming=False."
            )
        rows, expected = len(dataset), self.num_silver + self.num_gold  # type: ignore[arg-type]
        if rows != expected:
            raise ValueError(
                f"Expected train_dataset to be concatenate_datasets([silver, gold]) with {self.num_silver:,} + "
                f"{self.num_gold:,} = {expected:,} rows, got {rows:,}. (Packing and filtering in the trainer change the "
                f"number of rows: do that before.)"
            )
        return dataset

    def _measure(self, args: TrainingArguments, batch: int) -> None:
        """Find out how many rows one optimizer step and one epoch of the concatenated dataset draw."""
        if not args.accelerator_config.split_batches:  # type: ignore[union-attr]  # made one by TrainingArguments
            batch *= args.world_size
        rows = self.num_silver + self.num_gold
        batches = rows // batch if args.dataloader_drop_last else math.ceil(rows / batch)
        self._draws_per_step = batch * args.gradient_accumulation_steps
        self._draws_per_epoch = min(rows, batches * batch)
        self._steps_per_epoch = max(1, math.ceil(batches / args.gradient_accumulation_steps))

    def _stated_draws(self) -> tuple[int, int] | None:
        """Draws of silver and of gold, where the epochs over each were stated."""
        if self.silver_epochs is None or self.gold_epochs is None:
            return None
        return max(1, round(self.silver_epochs * self.num_silver)), max(1, round(self.gold_epochs * self.num_gold))

    def _make_plan(self, max_steps: int) -> MixPlan:
        total = self._position(max_steps)
        stated = self._stated_draws()
        if stated is None:
            share = self.num_gold / (self.num_silver + self.num_gold)
            if self.schedule == "ratio":
                share = 0.5 if self.gold_share is None else self.gold_share
            return self._plan_of([0, total], [0, round(total * share)])
        silver, gold_draws = stated
        if self._step_at(silver + gold_draws) != max_steps:  # max_steps was set: keep the proportion
            silver = min(max(1, round(total * silver / (silver + gold_draws))), total - 1)
            gold_draws = total - silver
        if self.schedule == "concat":
            return self._plan_of([0, silver + gold_draws], [0, gold_draws])
        return self._plan_of([0, silver, silver + gold_draws], [0, 0, gold_draws])

    def _plan_of(self, edges: list[int], gold: list[int]) -> MixPlan:
        return MixPlan(self.num_silver, self.num_gold, tuple(edges), tuple(gold), self.seed)

    def _spec(self, dataset: object, max_steps: int) -> dict[str, object]:
        plan = self._plan
        order = hashlib.sha256(repr(plan).encode()).hexdigest()[:16]
        return {
            "num_silver": self.num_silver,
            "num_gold": self.num_gold,
            "schedule": self.schedule,
            "seed": self.seed,
            "draws_per_step": self._draws_per_step,
            "max_steps": max_steps,
            "gold_learning_rate": self.gold_learning_rate,
            "order": order,
            "data": content_hash(dataset) if isinstance(dataset, Dataset) else None,
        }

    def _check_same(self, stored: object, new: Mapping[str, object]) -> None:
        old = stored.get("attributes", {}).get("progress", {}).get("mix") if isinstance(stored, dict) else None
        if old is None:
            return  # the run had no mix before: it begins here
        changed = [f"{key}: {old.get(key)!r} there, {new[key]!r} now" for key in new if old.get(key) != new[key]]
        if changed:
            raise ValueError(
                f"The checkpoint was trained on another mix ({'; '.join(changed)}). Resume with the same data, schedule, "
                f"batch sizes and processes, or train anew."
            )

    def _two_learning_rates(self, args: TrainingArguments, state: TrainerState, scheduler: object) -> None:
        max_steps, scheduler = state.max_steps, _bare(scheduler)
        if type(scheduler) is not LambdaLR:
            raise ValueError(
                f"gold_learning_rate needs a learning rate that is a function of the step (linear, cosine, constant, "
                f"...); this training has {type(scheduler).__name__}. Choose another lr_scheduler_type."
            )
        switch = min(self._step_at(self._plan.edges[1]), max_steps - 1)  # type: ignore[union-attr]
        rate: float = self.gold_learning_rate  # type: ignore[assignment]
        first = _lr_factors(args, args.learning_rate, max(switch, 1))
        second, scale = _lr_factors(args, rate, max_steps - switch), rate / args.learning_rate

        def factor(step: int) -> float:
            return first(step) if step < switch else scale * second(step - switch)

        scheduler.lr_lambdas = [factor] * len(scheduler.lr_lambdas)
        _at_step(scheduler, state.global_step)  # what the first step takes was computed when the scheduler was made

    def _position(self, step: int) -> int:
        """Draws before an optimizer step; the last step of an epoch may have fewer."""
        rows = self.num_silver + self.num_gold
        epochs, steps = divmod(step, self._steps_per_epoch)
        return epochs * rows + min(steps * self._draws_per_step, self._draws_per_epoch)

    def _step_at(self, position: int) -> int:
        """The first step that begins at or after a position."""
        epochs, rest = divmod(position, self.num_silver + self.num_gold)
        return epochs * self._steps_per_epoch + min(math.ceil(rest / self._draws_per_step), self._steps_per_epoch)

    def _count(self, state: TrainerState) -> dict[str, float]:
        if self._plan is None:
            return {}
        position = self._position(state.global_step)
        starts = np.arange(position // len(self._sampler) + 1) * len(self._sampler)  # type: ignore[arg-type]
        ends = np.minimum(starts + self._draws_per_epoch, position)  # behind them dataloader_drop_last drops rows
        gold = int((self._plan.gold_drawn(ends) - self._plan.gold_drawn(starts)).sum())
        seen = {"silver_seen": int((ends - starts).sum()) - gold, "gold_seen": gold}
        self.progress |= seen
        return {"gold_share": round(self._plan.share(position), 4), **seen}


def _stored(state: TrainerState) -> dict[str, object]:
    """What a checkpoint holds of each callback, by its name; TrainerState makes a dict of the list it is given."""
    return state.stateful_callbacks  # type: ignore[return-value]


def _bare(scheduler: object) -> object:
    return getattr(scheduler, "scheduler", scheduler)  # of accelerate's wrapper


def _at_step(scheduler: object, step: int) -> None:
    """Set the learning rate of a step. By itself the scheduler falls behind where fp16 skips steps."""
    bare: LambdaLR = _bare(scheduler)  # type: ignore[assignment]
    bare.last_epoch = step
    for group, rate, factor in zip(bare.optimizer.param_groups, bare.base_lrs, bare.lr_lambdas, strict=True):
        group["lr"] = rate * factor(step)
    bare._last_lr = [group["lr"] for group in bare.optimizer.param_groups]  # what the log says


def _lengths(dataset: object, args: TrainingArguments) -> list[int] | None:
    """Length of each row, where the training arguments ask to group by it and the dataset tells."""
    if args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, Dataset):
        return None
    if args.length_column_name in dataset.column_names:
        return list(dataset[args.length_column_name])
    if "input_ids" not in dataset.column_names:
        return None
    return [len(row) for row in dataset["input_ids"]]


def _lr_factors(args: TrainingArguments, rate: float, steps: int) -> Callable[[int], float]:
    """The factors of the learning rate that a training of so many steps with this peak would have."""
    scheduler = get_scheduler(
        args.lr_scheduler_type,
        torch.optim.SGD([torch.zeros(1)], lr=rate),  # by which a schedule divides the least rate that was stated
        num_warmup_steps=min(args.get_warmup_steps(steps), max(steps - 1, 0)),  # the last step learns something
        num_training_steps=steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,  # type: ignore[arg-type]
    )
    return scheduler.lr_lambdas[0]
