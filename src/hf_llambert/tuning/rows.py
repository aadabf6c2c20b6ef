"""The rows that a choice is made on: gold drawn and divided, or texts alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from datasets import Dataset

from hf_llambert.data import check_column
from hf_llambert.gold import GoldColumns, LabelMap, Reading, gold_answers
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts, text_digest, why_unusable
from hf_llambert.tuning.halving import spread
from hf_llambert.tuning.kept import EARLIER

logger = get_logger(__name__)

LEAST = 20
"""Fewer gold rows than this choose by chance."""


@dataclass(frozen=True)
class Rows:
    """
    What a choice is made on.

    Args:
        texts (`list[str]`): Texts that the ways of asking are compared on, in the order in which they are asked about.
        gold (`list`): People's answers to these as [`Question.gold`] has them; none where there is no gold.
        shown (`list[tuple[str, object]]`): Gold texts and answers kept apart, for worked examples.
        earlier (`frozenset[str]`, *optional*): Texts that chose what is compared now: none of these are.
    """

    texts: list[str]
    gold: list
    shown: list[tuple[str, object]]
    earlier: frozenset[str] = frozenset()

    def digest(self, task: TaskSpec) -> str:
        """A hash of all of it."""
        return hashlib.sha256(self.lines(task).encode()).hexdigest()[:32]

    def lines(self, task: TaskSpec) -> str:
        """As the run notes them: a line of JSON each, with the text, its label, what it was for, and its hash."""
        question = task.question
        rows: list[tuple[str, object, str]] = [(text, answer, "example") for text, answer in self.shown]
        rows += [(text, self.gold[k] if self.gold else None, "compare") for k, text in enumerate(self.texts)]
        rows += [(text, None, EARLIER) for text in sorted(self.earlier)]
        return "".join(
            json.dumps(
                {
                    "text": text,
                    "label": None if answer is None else question.in_words(answer),
                    "use": use,
                    "sha256": text_digest(text),
                }
            )
            + "\n"
            for text, answer, use in rows
        )


def gold_rows(
    data: Dataset,
    task: TaskSpec,
    text_column: TextColumn,
    label_column: GoldColumns,
    label_map: LabelMap | None,
    label_values: Reading,
    num_gold: int | None,
    num_examples: int,
    seed: int,
    in_prompts: Collection[str] = (),
    earlier: frozenset[str] = frozenset(),
) -> Rows:
    """
    Gold rows to choose by: a random draw, each text once, some of them for worked examples. Texts with different labels, those
    that stand in a prompt as its examples (`in_prompts`), and those that chose before are left out with a warning.

    Raises:
        ValueError: There are too few, or none of a label.
    """
    check_column(data, text_column, "text_column")
    question = task.question
    shuffled = data.shuffle(seed=seed)
    answers = gold_answers(shuffled, task, label_column, label_map, label_values)[""]
    seen: dict[str, object] = {}
    torn, in_prompt, chose = set(), set(), set()
    for text, answer in zip(row_texts(shuffled, text_column), answers, strict=True):
        if question.is_answer(answer) and why_unusable(text) is None:
            if seen.setdefault(text, answer) != answer:
                torn.add(text)
            if text in in_prompts:
                in_prompt.add(text)
            elif text in earlier:
                chose.add(text)
    seen = {text: answer for text, answer in seen.items() if text not in torn | in_prompt | chose}
    if torn:
        logger.warning("%d gold texts have different labels in different rows. They are left out.", len(torn))
    if in_prompt:
        logger.warning(
            "%d gold texts are examples in a prompt that is compared, which would copy their label. They are left out.",
            len(in_prompt),
        )
    if chose:
        logger.warning("%d gold texts chose this task in an earlier hf-llambert tune. They are left out.", len(chose))
    wanted = 100 if num_gold is None else num_gold
    if num_gold is not None and num_gold > len(seen):
        raise ValueError(
            f"num_gold asks for {num_gold:,} rows, and {len(seen):,} different texts with a label are left to choose by. Lower "
            f"it to {len(seen):,}, or leave it out."
        )
    rows = list(seen.items())[:wanted]
    if len(rows) < LEAST:
        raise ValueError(
            f"{len(rows):,} rows have a label, and fewer than {LEAST} choose by chance. Label {LEAST - len(rows):,} more, or "
            f"choose without gold (--label_column none)."
        )
    if not task.questions:
        _check_labels(rows, task)
    order = spread([str(answer) for _, answer in rows], seed)
    rows = [rows[k] for k in order]
    kept = min(num_examples, len(rows) - LEAST)
    shown = _for_examples(rows, kept)
    rest = [row for row in rows if row not in shown]
    return Rows([text for text, _ in rest], [answer for _, answer in rest], shown, earlier)


def _check_labels(rows: Sequence[tuple[str, object]], task: TaskSpec) -> None:
    counts = Counter(answer for _, answer in rows)
    rare = {label: counts[number] for number, label in enumerate(task.labels) if counts[number] < 2}
    if rare:
        named = ", ".join(f"'{label}' {number}" for label, number in rare.items())
        raise ValueError(
            f"Of {len(rows):,} gold rows too few have a label: {named}. Each label needs two at least, one to compare on and one "
            f"for worked examples. Add gold of it, or draw more rows (num_gold)."
        )


def _for_examples(rows: Sequence[tuple[str, object]], number: int) -> list[tuple[str, object]]:
    """So many rows, the labels in turn, and one of each left over."""
    left: dict[object, list[tuple[str, object]]] = {}
    for row in rows:
        left.setdefault(str(row[1]), []).append(row)
    taken: list[tuple[str, object]] = []
    while len(taken) < number and any(len(of_label) > 1 for of_label in left.values()):
        for of_label in left.values():
            if len(of_label) > 1 and len(taken) < number:
                taken.append(of_label.pop())
    return taken


def plain_rows(
    data: Dataset, text_column: TextColumn, number: int, seed: int, earlier: frozenset[str] = frozenset()
) -> Rows:
    """
    Texts to choose by without gold: a random draw, each once.

    Raises:
        ValueError: There are too few.
    """
    check_column(data, text_column, "text_column")
    texts = row_texts(data.shuffle(seed=seed), text_column)
    usable = list(dict.fromkeys(text for text in texts if why_unusable(text) is None and text not in earlier))[:number]
    if len(usable) < LEAST:
        raise ValueError(
            f"{len(usable):,} texts can be asked about, and fewer than {LEAST} choose by chance. Pass more."
        )
    return Rows(usable, [], [], earlier)
