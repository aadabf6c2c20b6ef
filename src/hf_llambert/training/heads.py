"""The logits of a student: those of its questions side by side, and what each question makes of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_llambert.notes import AGREE, Shape
from hf_llambert.tasks.kinds import KINDS
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.losses import LOSSES, soften
from hf_llambert.training.thresholds import best_thresholds

SCALE_LOSSES = ("cross_entropy", "regression")
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Head:
    """
    The logits of one question. Its loss is its class: [`Levels`], [`Labels`] or [`Number`].

    Args:
        name (`str`): The question, by the names of [`TaskSpec.parts`].
        question (`Question`): Its kind and labels.
        first (`int`, defaults to 0): The first of its logits.
    """

    name: str
    question: Question
    first: int = 0

    loss: ClassVar[str]
    """What `training.json` calls it."""
    takes: ClassVar[frozenset[str]]
    """Which of the losses, and other arguments, of [`StudentConfig`] go with it."""

    @property
    def size(self) -> int:
        """How many logits."""
        return len(self.question.labels)

    @property
    def names(self) -> list[str]:
        """A name for each logit."""
        return self.question.logit_names(self.name)[0]

    def of(self, logits: Tensor) -> Tensor:
        """Its own of all logits or targets, (rows, logits)."""
        return logits[:, self.first : self.first + self.size]

    def fitted(self, answers: Sequence[object]) -> Head:
        """The head for training on these answers, as gold has them."""
        return self

    def prior(self, answers: Sequence[object]) -> Tensor | None:
        """Where the biases of its logits begin, (size,), by the answers to learn from; `None`: where the model has them."""
        return None

    def tuned(self, logits: Tensor, answers: Sequence[object]) -> Head:
        """The head after training, by its logits, (rows, size), for rows that it has not learnt from."""
        return self

    def targets(self, answers: Sequence[object]) -> Tensor:
        """What is learnt from answers as gold has them, (rows, size); NaN where there is none."""
        return torch.tensor(self.question.targets(answers), dtype=torch.float32)

    def untargeted(self, targets: Tensor) -> list:
        """The answers as gold has them that its own targets, (rows, size), were made of."""
        return self.question.untargeted(targets.double().numpy())

    def soft(self, probabilities: Tensor, temperature: float) -> Tensor:
        """What is learnt from the teacher's probabilities, (rows, labels)."""
        return soften(probabilities, temperature)

    def smoothed(self, targets: Tensor, smoothing: float) -> Tensor:
        """Targets with label smoothing."""
        return soften(targets, smoothing=smoothing)

    def losses(self, logits: Tensor, targets: Tensor, loss: str = "cross_entropy") -> Tensor:
        """The loss of each row, of its own logits and targets without NaN."""
        return LOSSES[loss](logits, targets)

    def evidence(self, logits: Tensor, of_part: Tensor | None = None, how: str = "mean") -> Tensor:
        """
        What the columns are made of, from its own logits: for one of the labels their log-probabilities.

        Args:
            logits (`Tensor` of shape (parts, size)): Its own logits.
            of_part (`Tensor` of shape (parts,), *optional*): The number of the text that each part is of. Defaults to texts
                in one piece.
            how (`str`, defaults to `"mean"`): `mean` or `max` of the parts' probabilities.
        """
        scores = logits.log_softmax(-1)
        if of_part is None:
            return scores
        joined = joined_parts(scores.exp(), of_part, how)
        return (joined / joined.sum(-1, keepdim=True)).log()

    def columns(self, evidence: Tensor) -> dict[str, pa.Array]:
        """The columns of answers by their ends; see [`~Head.evidence`]."""
        return {**self.question.decide(evidence.exp().numpy()), "scores": arrow_rows(evidence)}

    def note(self) -> dict[str, object]:
        """The head as `training.json` has it."""
        return {
            "name": self.name,
            "kind": self.question.kind,
            "labels": list(self.question.labels),
            "first": self.first,
            "size": self.size,
            "loss": self.loss,
        }


class Levels(Head):
    """A logit for each label of which one holds, or for each level: cross-entropy on their distribution."""

    loss = "cross_entropy"
    takes = frozenset((*LOSSES, "elr"))


@dataclass(frozen=True)
class Labels(Head):
    """
    A logit for each label, the log-odds that it holds: binary cross-entropy, summed over the labels.

    Args:
        thresholds (`tuple[float, ...]`, *optional*): The probability above which each label holds. Defaults to one half.
    """

    thresholds: tuple[float, ...] | None = None

    loss = "binary_cross_entropy"
    takes = frozenset(("cross_entropy",))

    def prior(self, answers: Sequence[object]) -> Tensor | None:
        """Log-odds of each label among the answers: a rare one need not be unlearnt first."""
        holds = self.question.targets(answers)
        holds = holds[~np.isnan(holds[:, 0])]
        return torch.tensor((holds.sum(0) + 0.5) / (len(holds) + 1)).logit().float()

    def tuned(self, logits: Tensor, answers: Sequence[object]) -> Head:
        holds = self.question.targets(answers)
        answered = ~np.isnan(holds[:, 0])
        if not answered.any():
            return self
        p = logits.double().sigmoid().numpy()[answered]
        return replace(self, thresholds=tuple(best_thresholds(p, holds[answered] > 0)))

    def soft(self, probabilities: Tensor, temperature: float) -> Tensor:
        yes, no = probabilities ** (1 / temperature), (1 - probabilities) ** (1 / temperature)
        return yes / (yes + no)

    def smoothed(self, targets: Tensor, smoothing: float) -> Tensor:
        return targets * (1 - smoothing) + smoothing / 2

    def losses(self, logits: Tensor, targets: Tensor, loss: str = "cross_entropy") -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)

    def evidence(self, logits: Tensor, of_part: Tensor | None = None, how: str = "mean") -> Tensor:
        """Log-odds."""
        return logits if of_part is None else joined_parts(logits.sigmoid(), of_part, how).logit()

    def columns(self, evidence: Tensor) -> dict[str, pa.Array]:
        decided = self.question.decide(evidence.sigmoid().numpy(), self.thresholds)
        return {**decided, "scores": arrow_rows(evidence)}

    def note(self) -> dict[str, object]:
        given = {} if self.thresholds is None else {"thresholds": list(self.thresholds)}
        return {**super().note(), **given}


@dataclass(frozen=True)
class Number(Head):
    """
    One logit for a scale: least squares. The value is `mean + width * logit`, kept within the scale; the scores are those of
    a normal distribution around it, so that a confidence says how near a level it is.

    Args:
        mean (`float`, defaults to 0): Mean of the values that it was trained on.
        width (`float`, defaults to 1): Their standard deviation.
        spread (`float`, defaults to 1): Standard deviation of the student's error.
    """

    mean: float = 0.0
    width: float = 1.0
    spread: float = 1.0

    loss = "regression"
    takes = frozenset(("cross_entropy",))

    @property
    def size(self) -> int:
        return 1

    @property
    def names(self) -> list[str]:
        return self.question.logit_names(self.name)[-1]

    @property
    def levels(self) -> Tensor:
        """The levels as numbers."""
        return torch.tensor([float(label) for label in self.question.labels])

    def fitted(self, answers: Sequence[object]) -> Head:
        values = [float(answer) for answer in answers if answer is not None]  # type: ignore[arg-type]
        if not values:
            return self
        return replace(self, mean=float(np.mean(values)), width=max(float(np.std(values)), _SMALLEST))

    def tuned(self, logits: Tensor, answers: Sequence[object]) -> Head:
        apart = (self.values(logits) - self.mean - self.width * self.targets(answers).squeeze(-1)).double()
        apart = apart[~apart.isnan()]
        least = 0.1 * float(self.levels.diff().min())  # nearer than that no confidence is right
        return replace(self, spread=max(float((apart**2).mean().sqrt()), least)) if len(apart) else self

    def targets(self, answers: Sequence[object]) -> Tensor:
        values = torch.tensor([np.nan if answer is None else float(answer) for answer in answers])  # type: ignore[arg-type]
        return ((values - self.mean) / self.width).float().unsqueeze(-1)

    def untargeted(self, targets: Tensor) -> list:
        values = self.values(targets).tolist()
        return [None if math.isnan(value) else value for value in values]

    def soft(self, probabilities: Tensor, temperature: float) -> Tensor:
        values = soften(probabilities, temperature) @ self.levels
        return ((values - self.mean) / self.width).unsqueeze(-1)

    def losses(self, logits: Tensor, targets: Tensor, loss: str = "cross_entropy") -> Tensor:
        return ((logits - targets) ** 2).squeeze(-1)

    def values(self, logits: Tensor) -> Tensor:
        """The values, (rows,), of its own logits."""
        levels = self.levels
        return (self.mean + self.width * logits.squeeze(-1)).clamp(levels[0], levels[-1])

    def evidence(self, logits: Tensor, of_part: Tensor | None = None, how: str = "mean") -> Tensor:
        """Its own logit; of several parts their mean or the largest."""
        return logits if of_part is None else joined_parts(logits, of_part, how)

    def columns(self, evidence: Tensor) -> dict[str, pa.Array]:
        values = self.values(evidence)
        scores = (-0.5 * ((values.unsqueeze(-1) - self.levels) / self.spread) ** 2).log_softmax(-1)
        decided = self.question.decide(scores.exp().numpy())
        return {**decided, "value": pa.array(values.numpy()), "scores": arrow_rows(scores)}

    def note(self) -> dict[str, object]:
        return {**super().note(), "mean": self.mean, "width": self.width, "spread": self.spread}


_HEADS: Mapping[str, type[Head]] = {head.loss: head for head in (Levels, Labels, Number)}
_LOSSES: Mapping[str, tuple[str, ...]] = {"choice": (Levels.loss,), "choices": (Labels.loss,), "scale": SCALE_LOSSES}


def heads_of(task: TaskSpec, scale_loss: str = SCALE_LOSSES[0]) -> tuple[Head, ...]:
    """The heads of a student for a task, not trained; see [`StudentConfig`] for `scale_loss`."""
    heads: list[Head] = []
    for name, part in task.parts.items():
        own = _LOSSES[part.question.kind]
        head = _HEADS[scale_loss if scale_loss in own else own[0]]
        heads.append(head(name, part.question, sum(before.size for before in heads)))
    return tuple(heads)


def is_plain(heads: Sequence[Head]) -> bool:
    """Whether a student is of one choice: its configuration says all, and it has ids as labels."""
    return len(heads) == 1 and heads[0].question.kind == "choice"


def label_names(heads: Sequence[Head]) -> dict[int, str]:
    """`id2label` of a student: a name for each of its logits."""
    return dict(enumerate(name for head in heads for name in head.names))


def problem_type(heads: Sequence[Head]) -> str:
    """What transformers calls it. Logits of several questions are no distribution: a `pipeline` looks at each by itself."""
    types = {"cross_entropy": "single_label_classification", "regression": "regression"}
    return types.get(heads[0].loss, "multi_label_classification") if len(heads) == 1 else "multi_label_classification"


def summed_losses(heads: Sequence[Head], logits: Tensor, targets: Tensor, weights: Tensor | None, loss: str) -> Tensor:
    """
    For each row the sum of its questions' losses.

    Args:
        heads (`Sequence[Head]`): Whose logits are which.
        logits (`Tensor` of shape (rows, logits)): The student's.
        targets (`Tensor` of the same shape): See [`~Head.targets`].
        weights (`Tensor` of shape (rows, heads), *optional*): In the loss. Without, it is plain cross-entropy unweighted.
        loss (`str`): See [`StudentConfig`].
    """
    sums = torch.zeros(len(logits), device=logits.device)
    for place, head in enumerate(heads):
        mine = head.of(targets)
        answered = ~mine.isnan().any(-1)
        found = head.losses(head.of(logits), mine.nan_to_num(0.0), "cross_entropy" if weights is None else loss)
        found = found if weights is None else found * weights[:, place]
        sums = sums + torch.where(answered, found, 0.0)
    return sums


def begin_at_priors(model: nn.Module, heads: Sequence[Head], answers: Mapping[str, Sequence[object]]) -> None:
    """
    Set the biases of a new model's last layer to where its heads begin; nothing where that layer has none.

    Args:
        model (`nn.Module`): A sequence classification model.
        heads (`Sequence[Head]`): Whose logits are which.
        answers (`Mapping[str, Sequence]`): The answers to each question to learn from, by name.
    """
    size = sum(head.size for head in heads)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features == size]
    if not layers or layers[-1].bias is None:
        return
    for head in heads:
        prior = head.prior(answers[head.name])
        if prior is not None:
            layers[-1].bias.data[head.first : head.first + head.size] = prior


def arrow_rows(values: Tensor) -> pa.ListArray:
    """The rows of a matrix as a column of lists."""
    rows, width = values.shape
    ends = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.contiguous().view(-1).numpy()))


def joined_parts(values: Tensor, of_part: Tensor, how: str) -> Tensor:
    """Mean or largest value for each text from those of its parts, numbered from 0."""
    places = of_part.unsqueeze(-1).expand_as(values)
    empty = torch.zeros(int(of_part.max()) + 1, values.shape[-1])
    return empty.scatter_reduce(0, places, values, "mean" if how == "mean" else "amax", include_self=False)


_Value = TypeVar("_Value")


def named_columns(name: str, columns: Mapping[str, _Value], owner: str = "student") -> dict[str, _Value]:
    """Columns by their whole names, from those by their ends."""
    return {answer_column(name, end, owner): value for end, value in columns.items()}


def _agrees(note: Mapping) -> str | None:
    """Check a note of a head: what was expected, or `None`."""
    if note["loss"] not in _LOSSES.get(note["kind"], ()):
        return f"expected a kind and its loss, got {note['kind']!r} and {note['loss']!r}"
    if len(note.get("thresholds", note["labels"])) != len(note["labels"]) or len(note["labels"]) < 2:
        return "expected two labels or more, and a threshold for each"
    if not all(0 <= one <= 1 for one in note.get("thresholds", ())):  # NaN is no threshold
        return f"expected thresholds from 0 to 1, got {note['thresholds']}"
    found = [note.get(name, 1.0) for name in ("mean", "width", "spread")]
    if not all(map(math.isfinite, found)) or min(found[1:]) <= 0:
        return f"expected a finite mean, and width and spread above 0, got {found}"
    return None


HEADS: Shape = [
    {
        **dict.fromkeys(("name", "kind", "loss"), str),
        "labels": [str],
        **dict.fromkeys(("first", "size"), int),
        "thresholds?": [float],
        **dict.fromkeys(("mean?", "width?", "spread?"), float),
        AGREE: _agrees,
    }
]
"""The shape of `questions` in `training.json`."""


def noted_heads(notes: Sequence[Mapping]) -> tuple[Head, ...]:
    """
    The heads of a student from their notes.

    Raises:
        ValueError: They do not stand side by side, or a question makes no sense.
    """
    heads: list[Head] = []
    for note in notes:
        question = KINDS[note["kind"]](note["name"] or "label", tuple(note["labels"]))
        if fault := question.fault():
            raise ValueError(f"question '{note['name']}': {fault}")
        own = {key: note[key] for key in ("mean", "width", "spread") if key in note}
        if "thresholds" in note:
            own["thresholds"] = tuple(note["thresholds"])
        head = _HEADS[note["loss"]](note["name"], question, note["first"], **own)
        if head.first != sum(before.size for before in heads) or head.size != note["size"]:
            raise ValueError(f"the logits of question '{note['name']}' do not follow those before")
        heads.append(head)
    return tuple(heads)
