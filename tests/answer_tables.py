"""What the tests of answers share: label sets, tables of answers, and the check of one of them."""

from hf_llambert import ABSTAIN, TaskSpec

SENTIMENT = ("positive", "negative")
STARS = ("1", "2", "3", "4", "5")
YES_NO = ("yes", "no")
OPTIONS = ("A", "B", "C", "D")


def table(*rows):
    """`(labels, label or ABSTAIN, answer)` for each answer of rows of `(labels, label, *answers)`."""
    return [(labels, label, answer) for labels, label, *answers in rows for answer in answers]


def read(labels, answer):
    return TaskSpec(name="t", labels=labels, instruction="{text}").read(answer)


def check(labels, label, answer):
    found, reason = read(labels, answer)
    assert found == label, reason
    assert (reason is None) == (label != ABSTAIN)
