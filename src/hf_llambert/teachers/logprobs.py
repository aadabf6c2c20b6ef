"""Score mode at an endpoint: scores of the labels from the probabilities of an answer's first token."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from hf_llambert.tasks.names import normalize
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.transport import one_line

TOP = 20
"""As many alternatives to a token as OpenAI and vLLM give."""
_ROUNDING = 1e-3  # by which a logprob may be above 0
_MOST_TOKENS = 50 * TOP  # more alternatives were not asked for
_MOST_MASS = 1.05  # of probabilities that were rounded
_SHORT = 3  # letters; shorter pieces begin words of every kind
_BLANKS = "\u0120\u2581\u010a\u0109"  # as vocabularies write a blank and a line's end
_LONE_DASH = re.compile(r"\s*[-\u2010-\u2015\u2212]\s*")
_THOUGHT = re.compile(
    r"\s*(?:[<\[\u25c1]\|?(?:[\w-]{1,20}:)?(?:begin_of_|start_|inner_?|internal_?)?(?:think|thought|reason|channel|analysis|"
    r"scratchpad|reflection|monologue|chain_of|cot\b|rationale)|<unused94>)",
    re.I,
)


class NoLogprobs(ValueError):
    """The endpoint answered without the log-probabilities that score mode reads."""


class NotLogprobs(ValueError):
    """The values given as log-probabilities cannot be log-probabilities."""


def first_tokens(choice: Mapping) -> dict[str, float]:
    """
    The likeliest first tokens of an answer with their log-probabilities; none where the server gave none.

    Raises:
        NotLogprobs: Some are above 0 or not finite, together they are more than all there is, or they are of no tokens.
    """
    logprobs = choice.get("logprobs") or {}
    if logprobs.get("content"):
        found = [(one["token"], one["logprob"]) for one in logprobs["content"][0]["top_logprobs"]]
    else:
        found = list((logprobs.get("top_logprobs") or [{}])[0].items())
    if len(found) > _MOST_TOKENS:
        raise NotLogprobs(f"{len(found):,} likeliest tokens came, and {TOP} were asked for")
    for token, p in found:
        if not isinstance(token, str):
            raise NotLogprobs("a token must be a string")
        if isinstance(p, bool) or not isinstance(p, int | float) or not -1e6 < p <= _ROUNDING:
            raise NotLogprobs("a logprob must be a finite number not above 0")
    tokens: dict[str, float] = {}
    for token, p in dict.fromkeys(found):  # a server may list the token that it chose once more
        tokens[token] = _log_sum(tokens[token], p) if token in tokens else min(float(p), 0.0)
    if sum(math.exp(p) for p in tokens.values()) > _MOST_MASS:
        raise NotLogprobs("the logprobs' probabilities come to more than 1")
    return tokens


def _log_sum(one: float, two: float) -> float:
    """The log-probability of two tokens that are written alike."""
    high, low = max(one, two), min(one, two)
    return min(high + math.log1p(math.exp(low - high)), 0.0)


def scored(
    task: TaskSpec,
    likeliest: Mapping[str, float],
    content: str | None,
    tokens: tuple[int, int],
    greedy: bool = False,
    thought: str = "",
) -> Reply:
    """
    The reply that says what first tokens say about the labels.

    Args:
        task (`TaskSpec`): What was asked.
        likeliest (`Mapping[str, float]`): Log-probabilities by token; see [`first_tokens`].
        content (`str`, *optional*): The answer's text.
        tokens (`tuple[int, int]`): Tokens in and out.
        greedy (`bool`, defaults to `False`): Whether the likeliest token was asked for: then a text that is another label's
            contradicts the log-probabilities.
        thought (`str`, defaults to `""`): What the server took for a thought; then the first token is of that.

    Raises:
        NoLogprobs: There are none.
    """
    if not likeliest:
        raise NoLogprobs("The endpoint gives no logprobs, which mode='score' reads. Use mode='generate'.")
    first = max(likeliest, key=likeliest.__getitem__)
    if thought.strip() or _THOUGHT.match(first.lstrip(_BLANKS)):
        return Reply(
            error=f"the model begins with a thought, '{one_line(thought or first)[:40]}', not with the answer; turn that off "
            f"with chat_template_kwargs, such as '{{\"enable_thinking\": false}}', or use mode='generate'"
        )
    words = _words(task.verbalizers)
    says, means = (_owners(normalize(one.lstrip(_BLANKS)), words) for one in (content or "", first))
    if greedy and len(says) == len(means) == 1 and says != means:
        return Reply(
            error="the answer's text is another label than its likeliest first token: its log-probabilities belong to something "
            "else; use mode='generate'"
        )
    labels, unclear = label_log_probabilities(likeliest, task.verbalizers)
    seen = sorted((math.exp(p) for p in labels if p is not None), reverse=True)
    if unclear > (seen[0] - sum(seen[1:2]) if seen else 0.0):
        return Reply(
            error="the likeliest tokens begin the words of several labels, or go on beyond one; use mode='generate', or other "
            "verbalizers"
        )
    # What was not listed is at most as likely as the least that was, and as what is left.
    left = max(1 - sum(math.exp(p) for p in likeliest.values()), 1e-9)
    bound = min(*likeliest.values(), math.log(left))
    # Without a label above that bound, who wins would be their order's doing.
    known = bool(seen) and (None not in labels or math.log(seen[0]) > bound)
    scores = tuple(bound if p is None else min(p, 0.0) for p in labels) if known else None
    return Reply(scores, content, False, 0.0, *tokens)


def label_log_probabilities(
    likeliest: Mapping[str, float], verbalizers: Sequence[Sequence[str]]
) -> tuple[list[float | None], float]:
    """
    The log-probability of each label from those of first tokens: of all that begin, or are, one of its words and no other
    label's. `None` where there is none. Also the probability of tokens that could be several labels', or go on beyond a
    label's word ("favorable" of "favor").
    """
    sums: list[float] = [0.0] * len(verbalizers)
    unclear = 0.0
    words = _words(verbalizers)
    for token, log_p in likeliest.items():
        piece = "-" if _LONE_DASH.fullmatch(token.lstrip(_BLANKS)) else normalize(token)
        owners = _owners(piece, words)
        if not owners and token[:1] in _BLANKS:
            piece = normalize(token.lstrip(_BLANKS))
            owners = _owners(piece, words)
        # "I" and "A" begin sentences of every kind.
        bare = token.lstrip(_BLANKS).strip()
        sentence = bare in ("I", "A") and not any(bare in names for names in verbalizers)
        if len(owners) == 1 and not sentence:
            sums[owners.pop()] += math.exp(log_p)
        elif owners or any(_goes_beyond(piece, word) for word, _ in words):
            unclear += math.exp(log_p)
    return [math.log(p) if p else None for p in sums], unclear


def _words(verbalizers: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    return [(normalize(word), label) for label, names in enumerate(verbalizers) for word in names]


def _owners(piece: str, words: Sequence[tuple[str, int]]) -> set[int]:
    """The labels one of whose words a piece begins, or is."""
    begun = {label for word, label in words if piece and word.startswith(piece)}
    whole = {label for word, label in words if word == piece}
    if len(piece) < _SHORT and len(whole) == 1:  # "no" is no beginning of "nothing", but "C" may be of "C++"
        return {label for word, label in words if word.startswith(piece) and not word[len(piece) :][:1].isalpha()}
    return begun


def _goes_beyond(piece: str, word: str) -> bool:
    """Whether a piece is a longer word than a label's; a letter or two begin words of every kind."""
    return len(word) >= _SHORT and piece.startswith(word) and piece[len(word) :][:1].isalpha()
