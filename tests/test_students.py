import dataclasses

import pytest
import torch

from hf_llambert import StudentLabeler
from hf_llambert.tasks.budget import TokenBudget

TEXTS = [f"text number {i} " * (1 + i % 7) for i in range(40)] + [None]


@pytest.fixture
def labeler(student_dir):
    return StudentLabeler(student_dir, batch_tokens=400)


def out_of_memory_above(labeler, limit, monkeypatch):
    """Let the student fail as a full GPU would. Gives the sizes of the batches that are tried."""
    loaded, tried = labeler._load(None), []

    def forward(ids, mask):
        tried.append(ids.numel())
        if ids.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loaded.forward(ids, mask)

    full = dataclasses.replace(loaded, forward=forward, budget=TokenBudget())
    monkeypatch.setattr(StudentLabeler, "_load", lambda self, rank: full)
    return tried


def test_out_of_memory_halves_the_budget_warns_once_and_goes_on(labeler, monkeypatch, caplog):
    before = labeler.label(TEXTS)
    tried = out_of_memory_above(labeler, 120, monkeypatch)
    for _ in range(2):
        after = labeler.label(TEXTS)
        assert after["student_label"] == before["student_label"]
        for one, other in zip(after["student_scores"][:-1], before["student_scores"][:-1], strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    assert sum(size > 120 for size in tried) == 2  # 400 and 200, and not again
    [record] = caplog.records
    assert "Out of memory: batches have at most" in record.message


def test_one_text_too_large_for_the_memory_is_said_in_a_sentence(labeler, monkeypatch):
    out_of_memory_above(labeler, 20, monkeypatch)
    with pytest.raises(
        RuntimeError, match="Out of memory on one text of [0-9]+ tokens, with no other beside it. Use a"
    ):
        labeler.label(TEXTS)


def test_another_error_of_the_student_is_not_taken_for_full_memory(labeler, monkeypatch):
    def forward(ids, mask):
        raise RuntimeError("shapes do not fit")

    broken = dataclasses.replace(labeler._load(None), forward=forward)
    monkeypatch.setattr(StudentLabeler, "_load", lambda self, rank: broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        labeler.label(TEXTS)


def test_agreement_is_computed_in_the_batches_that_were_asked_for(student_dir, monkeypatch):
    asked, whole = [], TokenBudget.compute

    def compute(self, lengths, batch_tokens, work):
        asked.append(batch_tokens)
        return whole(self, lengths, batch_tokens, work)

    monkeypatch.setattr(TokenBudget, "compute", compute)
    assert StudentLabeler(student_dir, batch_tokens=77).agreement(TEXTS[:5]) == 1.0
    assert asked == [77, 77]


@pytest.mark.parametrize("long_texts", ["truncate", "mean"])
def test_progress_is_told_after_each_batch_and_counts_every_text(student_dir, long_texts):
    labeler, told = StudentLabeler(student_dir, batch_tokens=100, long_texts=long_texts), []
    labeler.score(labeler.encode(TEXTS), progress=told.append)
    assert sum(told) == len(TEXTS)
    assert len(told) > 3
    labeler.score(labeler.encode([None, ""]), progress=told.append)
    assert told[-1] == 2
