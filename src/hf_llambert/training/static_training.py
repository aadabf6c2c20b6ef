"""
Trains static students.

In training one is a table of token vectors, their mean over a text and a linear head. The head of a mean is the mean of the
head, so the two become one table in the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts
from hf_llambert.training.ending import refuse_lost
from hf_llambert.training.evaluation import CHOSEN_BY, scalar_metrics
from hf_llambert.training.heads import Head, begin_at_priors, is_plain, label_names
from hf_llambert.training.rows import all_answers, measured_labels, training_rows
from hf_llambert.training.static import StaticModel
from hf_llambert.training.trainer import StudentConfig, StudentTrainer
from hf_llambert.training.vectors import TokenVectors
from hf_llambert.whole import room_needed

STATIC_DEFAULTS: Mapping[str, object] = {
    "num_train_epochs": 5,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 256,
    "learning_rate": 1e-2,
    "train_sampling_strategy": "random",  # rows of like length save nothing: nothing is padded
    "logging_steps": 50,
}
"""What suits a static student where [`StudentConfig`] has what suits an encoder. Measured: `benchmarks/RESULTS.md`."""

_BEGIN = 4.8  # root mean square length of the training texts' means, whatever the vectors' own scale is
_LEAST = 1e-3  # of the spread of the vectors themselves: so much of it at least is taken for that of the means


def static_arguments(output_dir: str, **given: object) -> StudentConfig:
    """Training arguments of a static student: those given, else [`STATIC_DEFAULTS`], else those of [`StudentConfig`]."""
    return StudentConfig(output_dir, **{**STATIC_DEFAULTS, **given})  # type: ignore[arg-type]


class Averages(nn.Module):
    """
    A static student in training: mean of the vectors of a text's tokens, and a linear head that begins at 0.

    Args:
        vectors (`Tensor` of shape (tokens, dimensions)): Where the vectors begin.
        names (`Mapping[int, str]`): A name for each logit; see [`label_names`].
        frozen (`bool`, defaults to `False`): Train the head only.
    """

    def __init__(self, vectors: Tensor, names: Mapping[int, str], frozen: bool = False) -> None:
        super().__init__()
        self.config = PreTrainedConfig(id2label=dict(names))
        self.table = nn.EmbeddingBag(vectors.shape[0], vectors.shape[1], _weight=vectors, mode="mean")
        self.table.weight.requires_grad_(not frozen)
        self.head = nn.Linear(vectors.shape[1], len(names))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, starts: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        """
        Logits of texts.

        Args:
            input_ids (`Tensor`): The tokens of all texts, one behind the other.
            starts (`Tensor`): Where each text's begin.
            labels (`Tensor`, *optional*): Not looked at. By it the Trainer knows that there are labels to measure on.
        """
        return SequenceClassifierOutput(logits=self.head(self.table(input_ids, starts)))


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A batch of [`Averages`] from rows with `input_ids` and the columns of [`StudentTrainer`]."""
    batch = {"labels": torch.tensor([row["label"] for row in rows])}  # first: by it the Trainer counts the rows
    batch |= {
        name: torch.tensor([row[name] for row in rows]) for name in ("targets", "weight", "row") if name in rows[0]
    }
    ids = [torch.tensor(row["input_ids"], dtype=torch.long) for row in rows]
    starts = torch.tensor([0, *(len(one) for one in ids[:-1])]).cumsum(0)
    return {**batch, "input_ids": torch.cat(ids), "starts": starts}


@dataclass(frozen=True, eq=False)
class _Start:
    """
    The vectors of the tokens that are read in training, and how they were moved: `scale * (vector - centre)`. Others need
    no gradient.
    """

    used: NDArray[np.int32]
    centre: NDArray[np.float32]
    scale: float
    vectors: Tensor = field(repr=False)

    @classmethod
    def of(
        cls, vectors: NDArray[np.float32], ids: NDArray[np.int32], starts: NDArray[np.int64], also: NDArray
    ) -> _Start:
        """From the tokens of the training texts, and other tokens that must be there `also`."""
        used = np.unique(np.concatenate([ids, also]))
        table = torch.from_numpy(vectors[used])
        own = torch.from_numpy(np.searchsorted(used, ids).astype(np.int64))
        read = torch.from_numpy(np.diff(starts) > 0)
        means = functional.embedding_bag(own, table, torch.from_numpy(starts[:-1]), mode="mean")[read]
        centre = means.mean(0)
        width, least = (float((one - centre).square().sum(-1).mean().sqrt()) for one in (means, table))
        width = max(width, _LEAST * least)  # all texts may have the same tokens
        scale = _BEGIN / width if width > 0 else 1.0
        return cls(used, centre.numpy(), scale, (table - centre) * scale)

    def folded(self, model: Averages, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The table of logits of all tokens, and the bias."""
        weight, bias = (one.detach().float().cpu().numpy() for one in (model.head.weight, model.head.bias))
        table = (vectors - self.centre) @ (self.scale * weight.T)
        table[self.used] = model.table.weight.detach().float().cpu().numpy() @ weight.T
        return table + bias, bias.copy()


def fit_static(
    vectors: TokenVectors,
    task: TaskSpec,
    heads: Sequence[Head],
    args: StudentConfig,
    silver: Dataset | None,
    gold: Dataset | None,
    text_column: TextColumn,
    dev: Mapping[str, Dataset] | None = None,
) -> tuple[StaticModel, dict]:
    """
    Train a static student.

    Args:
        vectors (`TokenVectors`): Where the vectors begin. Those of tokens that no text here has stay as they are.
        task (`TaskSpec`): The task.
        heads (`Sequence[Head]`): Whose logits are which, fitted to the answers; see [`~Head.fitted`].
        args (`StudentConfig`): The arguments; [`static_arguments`] has defaults that suit.
        silver (`Dataset`, *optional*): From [`labelled_rows`].
        gold (`Dataset`, *optional*): From [`labelled_rows`].
        text_column (`str` or `Sequence[str]`): Column of the texts.
        dev (`Mapping[str, Dataset]`, *optional*): With `dev_share` the rows by which the epoch is chosen; see [`kept_back`].

    Returns:
        `tuple[StaticModel, dict]`: The student, and of the training `seconds`, `epochs`, `tokens` (how many different ones
        the texts have) and `history`.

    Raises:
        ValueError: An argument that a static student does not take, or texts without a token that the tokenizer knows.
        RuntimeError: Training ended in weights that are no numbers.
    """
    if args.attention_dropout is not None:
        raise ValueError("A static student has no attention. Leave attention_dropout out.")
    if args.lora_rank:
        raise ValueError("A static student has no layers for adapters. Leave lora_rank out.")
    rows = {name: data for name, data in (("silver", silver), ("gold", gold)) if data is not None}
    start = time.perf_counter()
    set_seed(args.seed)
    ids, starts = vectors.tokens.of([text for data in rows.values() for text in row_texts(data, text_column)])
    if not len(ids):
        raise ValueError(f"The tokenizer of '{vectors.source}' knows no token of the texts. Take another encoder.")
    held = {name: vectors.tokens.of(row_texts(data, text_column)) for name, data in (dev or {}).items()}
    begin = _Start.of(vectors.vectors, ids, starts, np.concatenate([ids[:0], *(one for one, _ in held.values())]))
    model = Averages(begin.vectors, label_names(heads), args.freeze_encoder)
    begin_at_priors(model, heads, {head.name: all_answers(rows.values(), head.name, head.question) for head in heads})

    def dataset(read: tuple[NDArray[np.int32], NDArray[np.int64]], columns: dict[str, list]) -> Dataset:
        places = np.searchsorted(begin.used, read[0]).astype(np.int32)
        return Dataset.from_dict({"input_ids": np.split(places, read[1][1:-1]), **columns})

    measured = {
        name: dataset(held[name], {"label": measured_labels(data, heads)}) for name, data in (dev or {}).items()
    }
    if args.dev_share and measured:
        best = "accuracy" if is_plain(heads) else CHOSEN_BY
        args.metric_for_best_model = f"eval_{'gold' if 'gold' in measured else 'silver'}_{best}"
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False
    trainer = StudentTrainer(
        model,
        args,
        () if is_plain(heads) else heads,
        train_dataset=dataset((ids, starts), training_rows(silver, gold, heads, args)),
        eval_dataset=measured or None,
        data_collator=collate,
        compute_metrics=scalar_metrics(heads),
        callbacks=[args.mix_callback(*(len(rows.get(source, ())) for source in ("silver", "gold")))],
    )
    with room_needed(Path(str(args.output_dir))):
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trained: Averages = trainer.accelerator.unwrap_model(trainer.model)
    refuse_lost(trained)
    table, bias = begin.folded(trained, vectors.vectors)
    noted = {
        "seconds": time.perf_counter() - start,
        "epochs": round(trainer.state.epoch or 0, 2),
        "tokens": len(begin.used),
        "history": trainer.state.log_history,
    }
    trainer.accelerator.free_memory()
    return StaticModel(table, bias, vectors.tokens), noted
