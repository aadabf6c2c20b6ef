"""English signs that a label is not meant: denials before and after it, refusals, corrections, struck-out text."""

from __future__ import annotations

import re

from hf_llambert.tasks.frames import has_doubts, is_undecided

_NEGATED_BEFORE = re.compile(
    r"(?<!\w)(?:not|no|non|never|neither|nor|none|nothing|nowhere|without|hardly|barely|rarely|seldom|scarcely|cannot|unable|"
    r"unlikely|impossible|doubt\w*|opposite|whether|if|false|wrong|incorrect\w*|untrue|misleading|except|far from|instead of|"
    r"(?:rather|less|more) than|anything but|everything but|all but|\w+n't|(?:is|was|are|were|do|does|did|ca|wo)nt)(?!\w)"
)
_NEGATED_AFTER = re.compile(
    r"[^\w\n]{0,3}[?¿؟՞]|\W{0,6}(?:(?:is|was|would be|seems|does|do|can|could|would|may|might)\s+(?:not\b|be ruled out|unlikely|"
    r"wrong|incorrect|false|hardly|untrue|misleading)|(?:is|was|does|do|would|could|ca|wo|ai)n't\b|cannot\b)"
)
# A Greek question ends with a semicolon.
ASKS = re.compile(r"[?¿؟՞⁇]|[\u0370-\u03ff]\W*;\W*\Z")
STRUCK = re.compile(r"~~|❌|✗|✘|✖|❎|🚫|⛔|👎|\[ \]")
REFUSED = re.compile(
    r"(?<!\w)(?:i(?:'m| am)? (?:cannot|can not|can't|could not|couldn't|won't|will not|would not|wouldn't|"
    r"decline|refuse|not allowed|(?:must|have to|will|would) decline|don't have (?:feelings|opinions|access))|"
    r"(?:unable|not able|impossible|not possible) to|"
    r"(?:as|i am|i'm)(?: just| only)? an? (?:ai|artificial intelligence|(?:large )?language model|llm|virtual assistant|chatbot)|"
    r"please (?:provide|share|give|send|paste|enter|specify|clarify|ask|rephrase|wait)|(?:not enough|insufficient) information|"
    r"(?:need|require)s? (?:more|additional|further) (?:information|context|details))(?!\w)"
)
# What explains a label that decides nothing: "Neutral. There is not enough information to tell."
_UNDECIDED = re.compile(
    r"(?<!\w)(?:(?:not enough|insufficient) information|(?:impossible|not possible) to (?:know|tell|say|determine))(?!\w)"
)
# A name beside one of these may say how sure the answer is.
_MEASURE_BEFORE = re.compile(
    r"(?:confidence|certainty|probability|likelihood|sureness)(?: level| score| rating)?\s?(?:is|was|:|=|-)?\W{0,4}$"
)
_MEASURE_AFTER = re.compile(r"[ \"'*-]{0,3}(?:confidence|certainty|probability|likelihood)(?!\w)")
# "No, that is wrong" and "No, definitely not" say no of what was asked.
_AGREES = re.compile(
    r"\s?[,;–—-]\s?(?:(?:that|this|it)(?: is|'s)(?: not|n't)? \w+|(?:\w+ )?not(?: at all| really)?)(?=\s*(?:[.!,;\n]|\Z))"
)
_CLAUSE_END = re.compile(r"[.!?;:\n]|,\s?(?:and )?(?:so|therefore|thus|hence|but|yet)(?!\w)")
_IT = r"(?:this|that|it|the above|(?:the|my|this|that) (?:answer|label|category|classification))"
_TAKEN_BACK = re.compile(
    rf"(?:\A|(?<=[.!?;:,\n(-]))\W{{0,4}}(?:(?:but|no|wait|actually|sorry|well|however|so|and)[ ,]{{1,3}}){{0,3}}(?:"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s?(?:not|n't)\s+(?:\w+\s+)?(?:correct|right|true|accurate|it)\b|"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s+(?:\w+\s+){{0,2}}(?:wrong|incorrect|untrue|inaccurate|mistaken|false)"
    r"(?:\s(?:answer|label|category|class|classification|choice|one))?\s*(?:[.!;,)\n]|\Z)|"
    rf"(?:because|since|as|for)\s{_IT}\s?(?:is|was|'s)\s?(?:not (?:correct|right|true)|wrong|incorrect|untrue|false)"
    r"\s*(?:[.!;,)\n]|\Z)|"
    r"(?:wrong|incorrect|nope|not|no|untrue|false)\s*(?:[.!\n]|\Z))"
)


def denies(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether an English word of denial stands before a label in its clause, or after it."""
    done = 0
    for span in spans:
        clause = _CLAUSE_END.split(rest[max(done, span.start() - 150) : span.start()])[-1]
        done = span.end()
        if _NEGATED_BEFORE.search(clause) or _NEGATED_AFTER.match(rest, span.end()):
            return True
    return False


def refuses(text: str, label: str) -> bool:
    """Whether an English text that states a label refuses to answer."""
    return REFUSED.search(_UNDECIDED.sub(" ", text) if is_undecided(label) else text) is not None


def is_measure(span: re.Match[str]) -> bool:
    """Whether a name may say how sure an answer is: "Confidence: high", "high confidence"."""
    before = span.string[max(0, span.start() - 40) : span.start()]
    return bool(_MEASURE_BEFORE.search(before) or _MEASURE_AFTER.match(span.string, span.end()))


def may_deny(text: str) -> bool:
    """Whether an English text has any word of denial, or asks."""
    return bool(_NEGATED_BEFORE.search(text) or _TAKEN_BACK.search(text) or ASKS.search(text))


def takes_back(text: str, label: str = "") -> bool:
    """Whether an English text after a label says that the label is wrong: "This is not correct", "Scratch that"."""
    agrees = _AGREES.match(text) if label == "no" else None
    text = text[agrees.end() :] if agrees else text
    return has_doubts(text, label) or _TAKEN_BACK.search(text) is not None
