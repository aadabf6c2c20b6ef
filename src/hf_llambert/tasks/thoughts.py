"""The thoughts in an answer, between marks that models write."""

from __future__ import annotations

import re

_THOUGHT = (
    r"(?:[\w-]{1,20}:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratch[_-]?pad|inner_?(?:thoughts?|monologue)|"
    r"internal_?(?:thoughts?|monologue)|chain_of_thought|cot|rationale)"
)
_THOUGHT_MARKS = re.compile(
    rf"(?P<open><\s?[|｜]?\s?{_THOUGHT}(?:\s[^<>]{{0,100}})?[|｜]?>|\[{_THOUGHT}\]|◁think▷|<\|(?:begin_of_thought|start_thinking|think)\|>|"
    r"<\|?channel\|?>(?!\s*final)|<unused94>|\Aanalysis(?=[A-Z]))|"
    rf"(?P<close><\s?[|｜]?\s?/\s?[|｜]?{_THOUGHT}\s?[|｜]?\s?>|\[/{_THOUGHT}\]|◁/think▷|<\|(?:end_of_thought|end_thinking|/think)\|>|"
    r"<\|channel\|>\s*final\b[^<]{0,80}(?:<\|message\|>)?|<channel\|>|<unused95>|assistantfinal(?=\S))",
    re.IGNORECASE,
)


def without_thoughts(response: str) -> str:
    """An answer without what stands between the marks of a thought; nothing where a thought is left open."""
    marks = list(_THOUGHT_MARKS.finditer(response))
    if not marks:
        return response
    if marks[-1]["open"]:
        return ""
    head = response[: marks[0].start()] if marks[0]["open"] else ""
    return f"{head}\n{response[marks[-1].end() :]}"
