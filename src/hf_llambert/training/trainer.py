"""`StudentTrainer`: the stock `Trainer` for labels that may be wrong, uncertain, or come from two sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from hf_llambert.models import say_one_gpu
from hf_llambert.training.heads import SCALE_LOSSES, Head, summed_losses
from hf_llambert.training.losses import LOSSES, EarlyLearning, cross_entropy, hard_targets
from hf_llambert.training.mixing import SCHEDULES, MixCallback

OF_KIND = {"scale_loss": "scale", "threshold_share": "choices"}
"""Arguments that say nothing where a task has no question of that kind."""
_EXTRA_COLUMNS = ("targets", "weight", "row")
_MEMORY_FILE = "early_learning.safetensors"


@dataclass
class StudentConfig(TrainingArguments):
    """
    `transformers.TrainingArguments` with defaults for some hundred to some thousand labels, and the arguments below.

    Args:
        loss (`str`, defaults to `"cross_entropy"`): `cross_entropy`, `gce` (generalised cross-entropy), `elr`
            (early-learning regularisation) or `symmetric_kl`; see `training/losses.py`. `label_smoothing_factor` applies
            to all.
        soft_targets (`bool`, defaults to `False`): Learn the teacher's calibrated distribution, not only its best label.
        target_temperature (`float`, defaults to 1): Above 1 makes soft targets softer, below 1 harder.
        weight_by_confidence (`bool`, defaults to `False`): Weigh each silver row by the teacher's confidence.
        gold_weight (`float`, defaults to 1): Weight of a gold row against a silver row.
        class_balanced (`bool`, defaults to `False`): Weigh rows so that every label has the same total weight.
        freeze_encoder (`bool`, defaults to `False`): Train the classification head only.
        lora_rank (`int`, defaults to 0): Train low-rank adapters of this rank and the head; they are merged on save.
        attention_dropout (`float`, *optional*): Dropout of the encoder's attention, in place of its own (0.1 in most). 0 lets
            a CPU use fused attention, which trains long texts about twice as fast.
        dev_share (`float`, defaults to 0): Share of each source that is kept back from training. The epoch whose
            weights are kept is the one most accurate on it: on gold where there is gold, else on silver.
            With a task of several questions, or of another kind than `choice`: the one with the best mean over the questions
            of accuracy (`choice`), micro-F1 (`choices`) and Spearman's correlation (`scale`).
        scale_loss (`str`, defaults to `"cross_entropy"`): How a `scale` is learnt: `cross_entropy` on the distribution over
            its levels, where a value between two is shared by them, or `regression`, one logit by least squares. What was
            measured of them is in `benchmarks/RESULTS.md`.
        threshold_share (`float`, defaults to 0.1): With `choices` and no `dev_share`: share of each source that is kept back
            to choose above which probability each label holds. 0 leaves the thresholds at one half.
        mix (`str`, defaults to `"silver_then_gold"`): Schedule when there is both silver and gold: see [`MixCallback`],
            also for the four arguments that follow. The epochs over each source default to `num_train_epochs`.
        silver_epochs (`float`, *optional*): Passes over silver.
        gold_epochs (`float`, *optional*): Passes over gold.
        gold_learning_rate (`float`, *optional*): Peak learning rate of the second part of `silver_then_gold`. Defaults
            to `learning_rate`.
        gold_share (`float`, *optional*): Share of gold of `ratio`.
    """

    num_train_epochs: float = field(default=6, metadata={"help": "Passes over the training rows."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Rows in a batch on each device."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up; below 1, their share of all steps."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "random, sequential or group_by_length."}
    )
    logging_steps: float = field(default=5, metadata={"help": "Log every so many steps."})
    save_strategy: str = field(default="no", metadata={"help": "When to save checkpoints: no, epoch, steps."})

    loss: str = field(default="cross_entropy", metadata={"help": "cross_entropy, gce, elr or symmetric_kl."})
    soft_targets: bool = field(default=False, metadata={"help": "Learn the teacher's calibrated distribution."})
    target_temperature: float = field(default=1.0, metadata={"help": "Temperature of soft targets."})
    weight_by_confidence: bool = field(default=False, metadata={"help": "Weigh silver by the teacher's confidence."})
    gold_weight: float = field(default=1.0, metadata={"help": "Weight of a gold row against a silver row."})
    class_balanced: bool = field(default=False, metadata={"help": "Give every label the same total weight."})
    freeze_encoder: bool = field(default=False, metadata={"help": "Train the classification head only."})
    lora_rank: int = field(default=0, metadata={"help": "Train low-rank adapters of this rank, merged on save."})
    attention_dropout: float | None = field(
        default=None, metadata={"help": "Dropout of attention in place of the encoder's; 0 is faster on a CPU."}
    )
    dev_share: float = field(
        default=0.0, metadata={"help": "Share of the rows kept back to choose the epoch whose weights are kept."}
    )
    scale_loss: str = field(
        default="cross_entropy", metadata={"help": "How a scale is learnt: cross_entropy or regression."}
    )
    threshold_share: float = field(
        default=0.1, metadata={"help": "Share of the rows kept back to choose the thresholds of choices."}
    )
    mix: str = field(default="silver_then_gold", metadata={"help": f"With silver and gold: {', '.join(SCHEDULES)}."})
    silver_epochs: float | None = field(default=None, metadata={"help": "Passes over silver."})
    gold_epochs: float | None = field(default=None, metadata={"help": "Passes over gold."})
    gold_learning_rate: float | None = field(default=None, metadata={"help": "Peak learning rate of the gold part."})
    gold_share: float | None = field(default=None, metadata={"help": "Share of gold of ratio."})

    def __post_init__(self) -> None:
        for name, known in (("loss", (*LOSSES, "elr")), ("mix", SCHEDULES), ("scale_loss", SCALE_LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        for name in ("dev_share", "threshold_share", "attention_dropout"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise ValueError(f"{name} must be from 0 to less than 1, got {getattr(self, name)}.")
        for name in ("target_temperature", "gold_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}.")
        if self.lora_rank < 0 or (self.lora_rank and self.freeze_encoder):
            raise ValueError("lora_rank must be 0 or more, and 0 together with freeze_encoder.")
        if self.push_to_hub:
            raise ValueError(
                "push_to_hub would send a student that is not measured, or adapters alone, and put your token in a file. Leave "
                "it out, and publish the run when it is done: hf-llambert push RUN (push_run in Python)."
            )
        if not torch.accelerator.is_available():
            self.use_cpu = True  # else each of several processes would train alone
        if self.dev_share:
            self.eval_strategy = self.save_strategy = "epoch"
            self.load_best_model_at_end, self.save_total_limit = True, 1
            self.metric_for_best_model, self.greater_is_better = "eval_gold_accuracy", True
        super().__post_init__()
        if self.n_gpu > 1:
            say_one_gpu(self.n_gpu)
            self._n_gpu = 1  # DataParallel would multiply the batch
        if self.world_size > 1 and not self.accelerator_config.even_batches:  # type: ignore[union-attr]  # made one above
            raise ValueError(
                "even_batches=False leaves some processes without a last batch, and the others would wait for them for ever. "
                "Leave it on."
            )

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of warm-up, the last step never among them: it would learn nothing."""
        return min(super().get_warmup_steps(num_training_steps), max(num_training_steps - 1, 0))

    def mix_callback(self, num_silver: int, num_gold: int) -> MixCallback:
        """The callback that draws the rows as these arguments ask for; one of the numbers may be 0."""
        if not (num_silver and num_gold):
            return MixCallback(num_silver, num_gold, seed=self.seed)
        names = ("gold_share", "silver_epochs", "gold_epochs")
        stated: dict[str, float | None] = {name: getattr(self, name) for name in names}
        if self.mix == "silver_then_gold":
            stated["silver_epochs"] = self.silver_epochs or self.num_train_epochs
            stated["gold_epochs"] = self.gold_epochs or self.num_train_epochs
            stated["gold_learning_rate"] = self.gold_learning_rate or self.learning_rate
        elif self.gold_learning_rate is not None:
            stated["gold_learning_rate"] = self.gold_learning_rate  # refused there, with the reason
        return MixCallback(num_silver, num_gold, self.mix, seed=self.seed, **stated)


class StudentTrainer(Trainer):
    """
    `transformers.Trainer` with per-row targets and weights and the losses of [`StudentConfig`].

    The training dataset may have, beside the model's inputs and `label`, the columns `targets` (a distribution over the
    labels, learnt instead of `label`), `weight` (of the row in the loss; 1 on average) and, for the loss `elr`, `row` (the
    number of the row). Evaluation measures plain cross-entropy against `label`.

    With `heads` a row has a target for each logit (NaN where it does not answer a question) and a weight for each
    question; its loss is the sum of those of its questions. `label` of evaluation data is then such targets too.

    Args:
        model (`PreTrainedModel`): A sequence classification model.
        args (`StudentConfig`): The arguments.
        heads (`Sequence[Head]`, defaults to none): Whose logits are which, where not all are those of one choice.
        kwargs: As in `Trainer`.
    """

    args: StudentConfig
    loss_is_scaled_for_ga = True

    def __init__(self, model: nn.Module, args: StudentConfig, heads: Sequence[Head] = (), **kwargs: object) -> None:
        self._heads = tuple(heads)
        self._early: EarlyLearning | None = None
        self._at_start: tuple[dict[str, Tensor], Tensor | None] | None = None
        if AcceleratorState._shared_state.get("_mixed_precision", args.mixed_precision) != args.mixed_precision:
            AcceleratorState._reset_state()  # another training of this process had another precision
        super().__init__(model=model, args=args, **kwargs)  # type: ignore[arg-type]
        self.model_accepts_loss_kwargs = True  # have the rows of a step counted: see compute_loss
        if self.is_fsdp_enabled:
            split_below_embeddings(model)
        if args.loss == "elr":
            data = self.train_dataset
            if not isinstance(data, Dataset) or "row" not in data.column_names:
                raise ValueError("Loss elr needs a training Dataset with a column 'row' that numbers its rows from 0.")
            self._early = EarlyLearning(len(data), model.config.num_labels)  # type: ignore[union-attr, arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """
        Sum of the rows' weighted losses, divided by the rows of the whole optimizer step on all processes
        (`num_items_in_batch`): a row counts the same in whichever batch of a step it stands.
        """
        labels = inputs.pop("labels")
        targets, weight, rows = (inputs.pop(name, None) for name in _EXTRA_COLUMNS)
        outputs = model(**inputs)
        logits = outputs.logits.float()
        if not model.training or targets is None:
            targets = labels if labels.is_floating_point() else hard_targets(labels, logits.shape[-1])
        if self._heads and self._early is None:
            shares = weight if model.training else None
            losses, weight = summed_losses(self._heads, logits, targets, shares, self.args.loss), None
        elif not model.training:
            losses = cross_entropy(logits, targets)
        elif self._early is not None and rows is not None:
            self._early.remember(*self.accelerator.gather((rows, logits.detach())))
            losses = self._early(logits, targets, rows)
        else:
            losses = LOSSES[self.args.loss](logits, targets)
        if weight is not None and model.training:
            losses = losses * weight
        if num_items_in_batch is None or not model.training:
            loss = losses.mean()
        else:
            shared = self.args.average_tokens_across_devices  # rows were counted, and gradients are averaged, over all
            loss = losses.sum() / num_items_in_batch * (self.args.world_size if shared else 1)
        return (loss, outputs) if return_outputs else loss

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: DataLoader
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """As in `Trainer`. Where memory ran out and batches are smaller now: from the same weights, for as many rows."""
        if args.auto_find_batch_size and (model := self.model) is not None:
            memory = None if self._early is None else self._early.memory
            if self._at_start is None:
                weights = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
                self._at_start = weights, None if memory is None else memory.clone()
            else:
                model.load_state_dict(self._at_start[0])
                if memory is not None and self._at_start[1] is not None:
                    memory.copy_(self._at_start[1])
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MixCallback):
                callback.set_length(args, self._train_batch_size)
        return super().set_initial_training_values(args, dataloader)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and in a checkpoint the memory of the loss `elr`."""
        super().save_model(output_dir, _internal_call)
        if self._early is not None and _internal_call and self.args.should_save:
            save_file({"memory": self._early.memory}, Path(str(output_dir)) / _MEMORY_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._early is not None:
            self._early.memory = load_file(Path(resume_from_checkpoint) / _MEMORY_FILE)["memory"]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        known: list[str] = self._signature_columns or []
        self._signature_columns = [*dict.fromkeys([*known, *_EXTRA_COLUMNS])]  # type: ignore[assignment]


def split_below_embeddings(model: nn.Module) -> None:
    """
    Leave what stands around the input embeddings (BERT's `BertEmbeddings`) out of what FSDP splits as one: accelerate splits
    the embeddings by themselves and fails where they are split already.
    """
    embeddings = model.get_input_embeddings()  # type: ignore[operator]  # of every PreTrainedModel
    around = {
        type(module).__name__
        for module in model.modules()
        if module is not embeddings and any(part is embeddings for part in module.modules())
    }
    model._no_split_modules = set(model._no_split_modules or ()) - around  # type: ignore[arg-type, assignment]
