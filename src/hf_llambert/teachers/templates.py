"""Variables for chat templates, and the marks that open and close a thought."""

from __future__ import annotations

import inspect
import json
import re

from transformers import PreTrainedTokenizerBase

_OURS = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) - {"tools", "documents"}
_OURS |= {"messages", "self", "kwargs"}
# <think>, [THINK], <|START_THINKING|>, <|begin_of_thought|>, <reasoning>, <seed:think>, ◁think▷, with the end marks
# (</think>, <|END_THINKING|>, <think_end>) and gpt-oss' channels. Marks that switch thinking off (<no_think>) are neither.
_MARK = re.compile(
    r"[<\[◁][|/]*[\w:.\- ]{0,20}?(?:think|thought|reason|reflect|analysis|scratchpad|rationale|inner_prefix|inner_suffix)"
    r"[\w:.\- ]{0,20}\|?[>\]▷]|<\|channel\|?>\s*(?:analysis|thought|commentary|final)|<channel\|>",
    re.IGNORECASE,
)
_END = re.compile(r"^.\|?/|(?:^|[^a-z])(?:end|close|stop)(?:$|[^a-z])|suffix|final$|^<channel\|>$", re.IGNORECASE)
_OFF = re.compile(r"(?:^|[^a-z])(?:no|off|skip|without|disable)(?:$|[^a-z]|think)", re.IGNORECASE)


def template_arguments(given: str | None) -> dict[str, object]:
    """
    The variables for a chat template in a JSON object.

    Raises:
        ValueError: It is no JSON object, or sets what the prompt is made of.
    """
    if given is None:
        return {}
    expected = (
        f"""chat_template_kwargs must be a JSON object such as '{{"enable_thinking": false}}', got {given!r:.200}"""
    )
    try:
        found = json.loads(given)
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{expected}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{expected}.")
    if taken := sorted(_OURS & found.keys()):
        raise ValueError(
            f"chat_template_kwargs must not set {', '.join(taken)}: the task and the teacher decide that."
        )
    return found


def canonical(given: str | None) -> str | None:
    """One spelling of the same variables; `None` where there are none."""
    found = template_arguments(given)
    return json.dumps(found, sort_keys=True) if found else None


def open_thought(text: str) -> str:
    """The end of `text` from the mark that opens a thought which it does not close; empty where there is none."""
    opened = ""
    for mark in _MARK.finditer(text):
        if _END.search(mark.group()):
            opened = ""
        elif not _OFF.search(mark.group()) and not opened:
            opened = text[mark.start() :]
    return opened


def decoded(tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    """What was written, without control tokens. The marks of a thought stay, so that it is not read as the answer."""
    special = set(tokenizer.all_special_ids)
    marks = {i for i, t in tokenizer.added_tokens_decoder.items() if i in special and _MARK.fullmatch(t.content)}
    dropped = special - marks
    kept = [row if marks.isdisjoint(row) else [i for i in row if i not in dropped] for row in rows]
    return [str(tokenizer.decode(new, skip_special_tokens=marks.isdisjoint(new))) for new in kept]


def first_line(response: str) -> str | None:
    """The first line of a plain completion that has words in it; `None` where it does not end."""
    line, newline, _ = response.lstrip().partition("\n")
    return line.rstrip() if newline else None
