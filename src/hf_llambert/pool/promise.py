"""What a cascade promises: of which rows, against whose labels, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hf_llambert.tasks.parts import nearest_name
from hf_llambert.tasks.question import Question

Against = Literal["gold", "teacher", "encoder"]
"""Whose labels count as right."""

_OF = ("recall", "precision")


@dataclass(frozen=True)
class Promise:
    """
    What is to be promised.

    Args:
        target (`float`): Least share of right labels.
        confidence (`float`): Probability, over draws of rows, that the promise is kept.
        against (`str`, defaults to `"gold"`): Whose labels count as right: `gold`, people's; `teacher`; `encoder`.
        of (`str`, defaults to none): Of which labels: `recall:LABEL`, of those that are LABEL; `precision:LABEL`, of those that
            the cascade calls LABEL. None: of all.
    """

    target: float
    confidence: float
    against: Against = "gold"
    of: str = ""

    @property
    def measure(self) -> str:
        """`recall`, `precision` or none."""
        return self.of.partition(":")[0]

    @property
    def label(self) -> str:
        """The label that it is of; it may have colons in its name."""
        return self.of.partition(":")[2]

    @property
    def whose(self) -> str:
        """Who gave the labels that count as right, as a possessive; people are not named."""
        return "" if self.against == "gold" else f"the {self.against}'s "

    def named(self) -> str:
        """The promise as the subject of a sentence."""
        if self.of:
            return f"a {self.measure} of {self.whose}'{self.label}' of {self.target:.1%}"
        share = "accuracy" if self.against == "gold" else f"agreement with the {self.against}"
        return f"an {share} of {self.target:.1%}"

    def rows(self) -> str:
        """What the rows are that it is of, in the plural."""
        rows = "gold rows" if self.against == "gold" else "rows of the pool"
        if self.measure == "recall":
            return f"{rows} that {'are' if self.against == 'gold' else f'the {self.against} calls'} '{self.label}'"
        return f"{rows} that are called '{self.label}'" if self.of else rows


@dataclass(frozen=True)
class Guarantee:
    """
    With `confidence`, a share of at least `target` of the labels are right where the teacher decides about rows with a
    student's confidence below `threshold`.

    Args:
        threshold (`float`): The least threshold that was certified. 0 asks nobody.
        target (`float`): The share promised.
        confidence (`float`): Probability, over draws of rows, that the promise is kept.
        n (`int`): Rows it rests on; of a label, those of that label.
        share (`float`): Share of them that the cascade gets right, at this threshold.
        lower (`float`): Clopper and Pearson's one-sided lower bound of that share.
        share_asked (`float`): Share of the rows drawn that lie below the threshold.
        n_rows (`int`): The rows drawn.
        against (`str`, defaults to `"gold"`): Whose labels count as right: `gold`, `teacher` or `encoder`.
        of (`str`, defaults to none): The label that it is about, as `recall:LABEL` or `precision:LABEL`.
        n_abstained (`int`, defaults to 0): Rows drawn to which the teacher, whose labels count as right, gave none. Nothing is
            promised about their like, on which the student's label stays.
        n_told (`int`, defaults to 0): Different texts of them that the teacher was asked about to find this.
        input_tokens (`int`, defaults to 0): Tokens that it read about them; those of a cascade's own rows are among them.
        output_tokens (`int`, defaults to 0): Tokens that it wrote.
    """

    threshold: float
    target: float
    confidence: float
    n: int
    share: float
    lower: float
    share_asked: float
    n_rows: int
    against: Against = "gold"
    of: str = ""
    n_abstained: int = 0
    n_told: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def promise(self) -> Promise:
        """What is promised, without what it rests on."""
        return Promise(self.target, self.confidence, self.against, self.of)

    def sentence(self, decides: str = "teacher") -> str:
        """What was found, for people; `decides` says who labels below the threshold."""
        rows = "gold rows" if self.against == "gold" else "rows of the pool"
        return (
            f"below a confidence of {self.threshold:.4f} the {decides} decides, on {self.share_asked:.1%} of {self.n_rows:,} "
            f"{rows}: {self.measured()}"
        )

    def paid(self) -> str:
        """What finding it took, for people; empty where nobody was asked."""
        if not self.n_told:
            return ""
        rows = "gold rows" if self.against == "gold" else "rows drawn"
        return (
            f"finding that took the teacher's answers about {self.n_told:,} {rows}: {self.input_tokens:,} tokens read, "
            f"{self.output_tokens:,} written, in the ledger for all that follows"
        )

    def measured(self) -> str:
        """How much of what is promised was found, and what is certain of it."""
        known = f"with {100 * self.confidence:g}% confidence"
        said, who = self.promise, f"the {self.against}"
        if not self.of and self.against == "gold":
            found = f"{self.share:.1%} of them right, {known} at least {self.lower:.1%}"
        elif not self.of:
            found = f"it agrees with {who} on {self.share:.1%} of them, {known} on at least {self.lower:.1%}"
        elif said.measure == "recall":
            are = "are" if self.against == "gold" else f"{who} calls"
            found = f"of the {self.n:,} that {are} '{said.label}' it calls {self.share:.1%} so, {known} at least {self.lower:.1%}"
        else:
            are = f"{self.share:.1%} are" if self.against == "gold" else f"{who} calls {self.share:.1%} so"
            found = f"of the {self.n:,} that it calls '{said.label}' {are}, {known} at least {self.lower:.1%}"
        if self.n_abstained:
            found += f"; {who} gave no label to {self.n_abstained:,} more, and nothing is promised about such rows"
        return found


def promise_lines(promises: Mapping[str, Mapping], kept: Mapping[str, bool]) -> list[str]:
    """
    What a cascade promises, in sentences.

    Args:
        promises (`Mapping[str, Mapping]`): Each question's [`Guarantee`] as a `dict`, by name.
        kept (`Mapping[str, bool]`): Whether all below its threshold was asked about, by name.
    """
    lines: list[str] = []
    paid = ""
    for name, one in promises.items():
        found = Guarantee(**one)
        of, sure = f"{name}: " if name else "", f"with {100 * found.confidence:g}% confidence"
        if kept[name]:
            lines.append(f"{of}promised {sure}: {found.promise.named()}; {found.sentence()}")
        else:
            lines.append(
                f"{of}{found.promise.named()} is not promised: not all below its threshold was asked about. Raise max_asked, or "
                f"where rows failed run again. It would be: {found.sentence()}"
            )
        paid = found.paid()  # all questions are asked together
    return [*lines, paid] if paid else lines


def promised_of(of: str, question: Question) -> int | None:
    """
    The id of the label that a promise is about; `None` where it is about all.

    Args:
        of (`str`): `recall:LABEL`, `precision:LABEL`, or empty.
        question (`Question`): Whose label.

    Raises:
        ValueError: It is neither, the question has no such label, or its answers are no labels.
    """
    if not of:
        return None
    measure, colon, label = of.partition(":")
    such = f"recall:{question.labels[0]} or precision:{question.labels[0]}"
    if measure not in _OF or not colon:
        raise ValueError(f"Expected what is promised as {such}, got '{of}'.")
    if label not in question.labels:
        near = nearest_name(label, question.labels)
        raise ValueError(
            f"'{of}' promises something of the label '{label}', and '{question.name}' has the labels "
            f"{', '.join(question.labels)}." + (f" Did you mean '{near}'?" if near else "")
        )
    number = question.labels.index(label)
    question.holds([], number)
    return number
