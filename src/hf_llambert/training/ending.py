"""What is done when a training has ended: its weights are looked at and gathered, and the heads get what is chosen then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from datasets import Dataset
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from hf_llambert.tasks.logs import get_logger
from hf_llambert.training.heads import Head, is_plain
from hf_llambert.training.trainer import StudentTrainer

logger = get_logger(__name__)


def refuse_lost(model: torch.nn.Module) -> None:
    """Raise a `RuntimeError` where training ended in weights that are no numbers."""
    weights = dict(model.named_parameters())
    lost = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if lost:
        raise RuntimeError(
            f"The training went astray: {len(lost):,} of {len(weights):,} tensors of weights have no numbers (NaN) in them, such "
            f"as {lost[0]}. Nothing was saved. Train with a smaller learning_rate, or without fp16."
        )


def gathered(model: torch.nn.Module) -> dict:
    """
    All weights of a model that is split over the processes (FSDP), on the CPU of the main process; nothing on the others.
    Every process must call this.
    """
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def tuned(
    trainer: StudentTrainer,
    encoded: Callable[[Dataset], Dataset],
    heads: Sequence[Head],
    dev: Mapping[str, Dataset],
) -> tuple[Head, ...]:
    """
    The heads with what is chosen after training, by the rows kept back: gold where there is gold, else silver. Rows for
    which the student gives no numbers do not count, with a warning.
    """
    if not dev or is_plain(heads):
        return tuple(heads)
    found = trainer.predict(encoded(dev["gold" if "gold" in dev else "silver"]))
    logits, targets = torch.tensor(found.predictions).float(), torch.tensor(found.label_ids)  # grouped by length, both
    lost = logits.isnan().any(-1)
    if lost.any():
        logger.warning(
            "The student gave no numbers (NaN) for %s of %s rows kept back, which nothing is chosen by. Train it in float32, "
            "or with a smaller learning rate.",
            f"{int(lost.sum()):,}",
            f"{len(lost):,}",
        )
    logits, targets = logits[~lost], targets[~lost]
    return tuple(head.tuned(head.of(logits), head.untargeted(head.of(targets))) for head in heads)
