"""The kinds of questions."""

from __future__ import annotations

from hf_llambert.tasks.choice import Choice
from hf_llambert.tasks.choices import Choices
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.scale import Scale

KINDS: dict[str, type[Question]] = {kind.kind: kind for kind in (Choice, Choices, Scale)}
"""The kinds by the name that a task file gives them."""
