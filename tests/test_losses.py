import numpy as np
import pytest
import torch
from scipy.stats import entropy

from hf_llambert.training.losses import (
    LOSSES,
    EarlyLearning,
    cross_entropy,
    generalised_cross_entropy,
    hard_targets,
    soften,
    symmetric_kl,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 4.0, 0.0]])
LABELS = torch.tensor([0, 2, 0])
SOFT = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]])


def test_cross_entropy_and_label_smoothing_are_those_of_torch():
    hard = hard_targets(LABELS, 3)
    expected = torch.nn.functional.cross_entropy(LOGITS, LABELS, reduction="none")
    assert torch.allclose(cross_entropy(LOGITS, hard), expected)
    smoothed = torch.nn.functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.2)
    assert torch.allclose(cross_entropy(LOGITS, soften(hard, smoothing=0.2)), smoothed, atol=1e-6)


def test_symmetric_kl_is_the_divergence_both_ways():
    p = LOGITS.softmax(-1).numpy()
    expected = [entropy(t, q) + entropy(q, t) for t, q in zip(SOFT.numpy(), p, strict=True)]
    assert symmetric_kl(LOGITS, SOFT).tolist() == pytest.approx(expected, rel=1e-4)
    assert symmetric_kl(SOFT.log(), SOFT).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_generalised_cross_entropy_follows_its_formula_and_is_bounded():
    hard = hard_targets(LABELS, 3)
    p = LOGITS.softmax(-1)[torch.arange(3), LABELS]
    assert torch.allclose(generalised_cross_entropy(LOGITS, hard), (1 - p**0.7) / 0.7)
    assert generalised_cross_entropy(torch.tensor([[-50.0, 50.0]]), torch.tensor([[1.0, 0.0]])).item() < 1 / 0.7 + 1e-6


@pytest.mark.parametrize("name", ["gce", "symmetric_kl", "elr"])
def test_robust_losses_pull_less_at_a_contradicted_label_than_cross_entropy(name):
    wrong = torch.tensor([[1.0, 0.0]])

    def pull(loss):
        logits = torch.tensor([[-4.0, 4.0]], requires_grad=True)
        loss(logits, wrong).sum().backward()
        return -logits.grad[0, 0].item()

    memory = EarlyLearning(1, 2)
    for _ in range(20):
        memory.remember(torch.tensor([0]), torch.tensor([[-4.0, 4.0]]))
    robust = {**LOSSES, "elr": lambda logits, targets: memory(logits, targets, torch.tensor([0]))}[name]
    if name == "symmetric_kl":  # pulls harder at first, but is bounded where cross-entropy grows for ever
        far = torch.tensor([[-400.0, 400.0]])
        assert torch.isfinite(robust(far, wrong)).all()
    else:
        assert pull(robust) < pull(cross_entropy)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_with_a_finite_gradient_at_the_extremes(name):
    logits = torch.tensor([[300.0, -300.0], [-300.0, 300.0], [0.0, 0.0]], requires_grad=True)
    loss = LOSSES[name](logits, hard_targets(torch.tensor([0, 0, 1]), 2))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    assert (loss >= -1e-6).all()


def test_memory_is_the_running_mean_of_each_rows_own_predictions():
    memory = EarlyLearning(4, 2)
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    p = logits.softmax(-1)
    memory.remember(torch.tensor([3, 1]), logits)
    memory.remember(torch.tensor([3, 1]), logits)
    expected = 0.3 * p * (1 + 0.7)
    assert torch.allclose(memory.memory[[3, 1]], expected, atol=1e-5)
    assert memory.memory[[0, 2]].abs().sum() == 0


def test_memory_stays_where_the_logits_are_and_waits_for_nothing():
    memory = EarlyLearning(4, 2)
    logits, rows = torch.zeros(2, 2, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")  # cannot be read
    memory.remember(rows, logits)
    assert memory(logits, torch.zeros(2, 2, device="meta"), rows).device.type == "meta"
    assert memory.memory.device.type == "meta"


def test_temperature_softens_distributions_and_leaves_hard_labels():
    soft = soften(SOFT, temperature=2.0)
    assert torch.allclose(soft.sum(-1), torch.ones(3))
    assert (entropy(soft.numpy(), axis=1) > entropy(SOFT.numpy(), axis=1)).all()
    assert soft.argmax(-1).tolist() == SOFT.argmax(-1).tolist()
    hard = hard_targets(LABELS, 3)
    assert torch.equal(soften(hard, temperature=3.0), hard)
    assert np.allclose(soften(SOFT, temperature=1.0), SOFT)
