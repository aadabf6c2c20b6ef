"""
Losses for labels that may be wrong or uncertain.

Each takes logits and target distributions, both (rows, labels), and gives one loss per row. A hard label is a distribution
with a single 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

GCE_POWER = 0.7
"""Exponent of generalised cross-entropy: 0 would be cross-entropy, 1 the mean absolute error. The paper's value."""
ELR_MOMENTUM, ELR_STRENGTH = 0.7, 3.0
"""Of early-learning regularisation, the paper's values for CIFAR-10."""
_FLOOR = 1e-4


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, nats per row."""
    return -(targets * logits.log_softmax(-1)).sum(-1)


def generalised_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """`(1 - p^q) / q`, which gives less weight to rows the model contradicts (Zhang and Sabuncu 2018, arXiv 1805.07836)."""
    p = logits.softmax(-1).clamp_min(1e-7)
    return (targets * (1 - p**GCE_POWER) / GCE_POWER).sum(-1)


def symmetric_kl(logits: Tensor, targets: Tensor) -> Tensor:
    """
    Kullback-Leibler divergence in both directions, nats per row.

    On hard labels this is symmetric cross-entropy (Wang et al. 2019, arXiv 1908.06112) less the model's entropy. Target
    probabilities below 0.0001 count as that much, since their logarithm would be infinite.
    """
    logp, logt = logits.log_softmax(-1), targets.clamp_min(_FLOOR).log()
    return ((targets - logp.exp()) * (logt - logp)).sum(-1)


class EarlyLearning:
    """
    Cross-entropy with early-learning regularisation (Liu et al. 2020, arXiv 2007.00151): a running mean of each row's
    own predictions holds the model to what it learnt first, before it began to memorise wrong labels.

    Args:
        num_rows (`int`): Rows of the training data.
        num_labels (`int`): Labels of the task.
    """

    def __init__(self, num_rows: int, num_labels: int) -> None:
        self.memory = torch.zeros(num_rows, num_labels)
        """The running means, (rows, labels), where the logits are; they belong into a checkpoint."""

    def __call__(self, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Loss of each row of the batch; `rows` are their numbers in the training data."""
        p = logits.softmax(-1).clamp(_FLOOR, 1 - _FLOOR)
        self.memory = self.memory.to(logits.device)
        agreed = (self.memory[rows] * p).sum(-1)
        return cross_entropy(logits, targets) + ELR_STRENGTH * (1 - agreed).clamp_min(_FLOOR).log()

    def remember(self, rows: Tensor, logits: Tensor) -> None:
        """Take the predictions of a batch, gathered from all processes, into the running means. Before the loss."""
        p = logits.detach().float().softmax(-1).clamp(_FLOOR, 1 - _FLOOR)
        p = p / p.sum(-1, keepdim=True)
        self.memory = self.memory.to(p.device)
        self.memory[rows] = ELR_MOMENTUM * self.memory[rows] + (1 - ELR_MOMENTUM) * p


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "gce": generalised_cross_entropy,
    "symmetric_kl": symmetric_kl,
}
"""Losses by the name of the training argument; `elr` beside them has a memory."""


def hard_targets(labels: Tensor, num_labels: int) -> Tensor:
    """Label ids (rows) as distributions (rows, labels)."""
    return functional.one_hot(labels, num_labels).float()


def soften(targets: Tensor, temperature: float = 1.0, smoothing: float = 0.0) -> Tensor:
    """
    Raise distributions to the power `1 / temperature` and mix them with `smoothing` of the uniform one, as label smoothing
    does (Szegedy et al. 2016, arXiv 1512.00567). A hard label is not changed by a temperature.
    """
    if temperature != 1:
        targets = targets ** (1 / temperature)
        targets = targets / targets.sum(-1, keepdim=True)
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]
