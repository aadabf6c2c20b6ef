"""What says that a label is not meant: English denials before and after it, refusals, takebacks, marks that strike out."""

from __future__ import annotations

import re

_NEGATION = (
    r"(?:not|no|non|never|neither|nor|none|nothing|nowhere|without|hardly|barely|rarely|seldom|scarcely|few|cannot|unable|"
    r"unsure|unclear|uncertain|unlikely|impossible|difficult|doubt\w*|disagree|opposite|reverse|whether|if|false|"
    r"fails? to|lacks?|lacking|wrong|incorrect|incorrectly|untrue|inaccurate|misleading|except|"
    r"exclud\w+|rejected|rul(?:e|es|ed|ing) out|avoid\w*|discard\w*|refus\w+|least likely|away from|antithesis|stretch|"
    r"nope|everything but|all but|instead of|rather than|far from|anything but|less than|\w+n't|"
    r"(?:is|was|are|were|do|does|did|has|have|would|could|should|ca|wo|ai)nt)"
)
_NEGATED_BEFORE = re.compile(rf"(?<!\w){_NEGATION}(?!\w)")
_NEGATED_AFTER = re.compile(
    r"[^\w\n]{0,3}[?¿؟՞]|['\"]?\s*[:=]\s*['\"]?(?:no\b|not\b|none\b|false|never|hardly|unlikely|\d)|"
    r"\W{0,6}(?:(?:is|was|would be|seems|does|do|can|could|would|will|may|might)\s+"
    r"(?:not\b|be ruled out|be excluded|unlikely|doubtful|wrong|incorrect|false|hardly|untrue|inaccurate|misleading|"
    r"a stretch|the (?:wrong|opposite|antithesis|least likely))|"
    r"(?:is|was|be|been|being|are|were)\s+(?:rejected|excluded|ruled out|discarded|avoided|refused)\b|"
    r"\w+\s+be(?:en)?\s+(?:rejected|excluded|ruled out|discarded|avoided|refused)\b|"
    r"(?:not|nope|nah|no|wrong|incorrect|untrue|false)(?=\W*(?:\n|\Z)|[.!)])|"
    r"(?:is|was|does|do|would|could|ca|wo|ai)n't\b|cannot\b)|\s+(?:that|about)\b"
)
_NOT_THEN = re.compile(
    r"(?<!\w)(?:(?:not|never|nope)\s?[:;.…]{1,4}|(?:wrong|incorrect|excluded|rejected)\s?:)[\s'\"(]*$"
)
# A Greek question ends with a semicolon.
ASKS = re.compile(r"[?¿؟՞⁇]|[\u0370-\u03ff]\W*;\W*\Z")
STRUCK = re.compile(r"~~|❌|✗|✘|✖|❎|🚫|⛔|👎|\[ \]")
REFUSED = re.compile(
    r"(?:cannot|can't|could not|couldn't|unable to|not able to|impossible to)\s+(?:really\s+)?"
    r"(?:answer|tell|determine|say|judge|decide|know)(?!\w)"
)
_TURN = re.compile(r"(?<!\w)(?:(?<!anything )but|however|yet|rather|instead)(?!\w)(?! (?:of|than))")
_IT = r"(?:this|that|it|the above|(?:the|my|this|that) (?:answer|label|category|classification))"
_TAKEN_BACK = re.compile(
    rf"(?:\A|(?<=[.!?;:,\n(-]))\W{{0,4}}(?:(?:but|no|wait|actually|sorry|well|however|so|and)[ ,]{{1,3}}){{0,3}}(?:"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s?(?:not|n't)\s+(?:\w+\s+)?(?:correct|right|true|accurate|it)\b|"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s+(?:\w+\s+){{0,2}}(?:wrong|incorrect|untrue|inaccurate|mistaken|false)"
    r"(?:\s(?:answer|label|category|class|classification|choice|one))?\s*(?:[.!;,)\n]|\Z)|"
    rf"(?:because|since|as|for)\s{_IT}\s?(?:is|was|'s)\s?(?:not (?:correct|right|true)|wrong|incorrect|untrue|false)"
    r"\s*(?:[.!;,)\n]|\Z)|"
    r"(?:scratch|strike|ignore|disregard|forget)\s(?:that|this|it|the above)\b|(?:just )?(?:kidding|joking)\b|never ?mind\b|"
    r"on second thought|i (?:take (?:that|it|this) back|was wrong|made a mistake|changed my mind)|my (?:mistake|bad)\b|"
    r"(?:correction|edit|edited|update|erratum)\s?[:–—-]|(?:oops|whoops)\b|"
    r"(?:wrong|incorrect|nope|not|no|untrue|false)\s*(?:[.!\n]|\Z))"
)


def denies(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether an English word of denial stands before a label in its clause, or after it."""
    marks = [(match.end(), True) for match in _NEGATED_BEFORE.finditer(rest)]
    marks += [(match.end(), False) for match in re.finditer(r"[.!?;:\n]", rest)]
    marks += [(match.end(), False) for match in _TURN.finditer(rest)]
    marks.sort()
    denied, k = False, 0
    for span in spans:
        while k < len(marks) and marks[k][0] <= span.start():
            denied, k = marks[k][1], k + 1
        if (
            denied
            or _NEGATED_AFTER.match(rest, span.end())
            or _NOT_THEN.search(rest[max(0, span.start() - 20) : span.start()])
        ):
            return True
    return False


def may_deny(text: str) -> bool:
    """Whether an English text has any word of denial, or asks."""
    return bool(_NEGATED_BEFORE.search(text) or _TAKEN_BACK.search(text) or ASKS.search(text))


def takes_back(text: str) -> bool:
    """Whether an English text after a label says that the label is wrong: "This is not correct", "Scratch that"."""
    return _TAKEN_BACK.search(text) is not None
