"""Several questions about one text, each a branch behind it."""

from dataclasses import dataclass, field

import pytest

from hf_llambert import TaskSpec
from hf_llambert.teachers import base
from hf_llambert.teachers.base import Reply, ask_branches

TASKS = [TaskSpec(name, ("a", "b"), f"{{text}}\n\n{name}") for name in ("tone", "topic", "length")]


def collected(parts):
    out = {}
    for part in parts:
        assert not out.keys() & part.keys()
        out |= part
    return [out[i] for i in range(len(out))]


@dataclass
class Plain:
    """A user's own teacher, which knows nothing about branches."""

    mode: str = "score"
    overlaps: bool = False
    asked: list = field(default_factory=list)

    def ask(self, task, texts, rank=None):
        self.asked.append((task.name, list(texts), rank))
        for i in reversed(range(len(texts))):
            yield {i: Reply(error="no") if texts[i] == "bad" else Reply(scores=(-1.0, -float(len(texts[i]))))}


class Together(Plain):
    def ask_branches(self, tasks, texts, rank=None):
        yield {i: tuple(Reply(response=f"{task.name} {text}") for task in tasks) for i, text in enumerate(texts)}


def test_teacher_without_branches_is_asked_one_task_after_the_other(monkeypatch):
    monkeypatch.setattr(base, "_TOGETHER", 2)
    teacher, texts = Plain(), ["one", "bad", "three"]
    replies = collected(ask_branches(teacher, TASKS, texts, 1))
    assert [one[0] for one in teacher.asked] == ["tone", "topic", "length"] * 2
    assert {one[2] for one in teacher.asked} == {1}
    assert [len(of_text) for of_text in replies] == [3, 3, 3]
    assert [of_text[0].scores for of_text in replies] == [(-1.0, -3.0), None, (-1.0, -5.0)]
    assert [reply.error for reply in replies[1]] == ["no"] * 3


def test_teacher_with_branches_is_asked_once():
    teacher = Together()
    replies = collected(ask_branches(teacher, TASKS, ["x", "y"]))
    assert [[reply.response for reply in of_text] for of_text in replies] == [
        ["tone x", "topic x", "length x"],
        ["tone y", "topic y", "length y"],
    ]
    assert not teacher.asked


@pytest.mark.parametrize("teacher", [Plain(), Together()])
def test_one_task_is_asked_as_ever(teacher):
    assert collected(ask_branches(teacher, TASKS[:1], ["x"])) == [(Reply(scores=(-1.0, -1.0)),)]
    assert teacher.asked == [("tone", ["x"], None)]
