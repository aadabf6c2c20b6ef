"""
Sentence frames that may stand around a label, in many languages, and explanations after it. Read from frames.yaml.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from hf_llambert.tasks.english import WORDS, ends_in_unknown, is_usual, looks_english

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3105-\u318f\u31a0-\u31ff"
    "\u3400-\u9fff\ua960-\ua97f\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts in which words do not stand between spaces, as ranges of a character class."""

_MARKS = re.compile(r"[\"'`´’‘“”„«»「」『』【】《》〈〉(){}\[\]<>:=,、،؛;~|#*_→⇒\\/–—-]+")
_STOPS = " \t\n\r.!。｡।۔…·•¡"
_PAUSE = re.compile(r"[,;:(.\n–—\- 。、，]+")
_I_SAY = re.compile(
    r"(?:\A\W*|[,;:.(\n–—-]\s*|(?<!\w)(?:that|because|and|but|so|what|if|think|believe|fear|sorry|well|actually|then) )i(?!\w)"
    r"(?:'(?:m|d|ll|ve))? (?:(?:am|would|will|have|can|also|just|only|still|very|so|\w+ly) ){0,3}"
)
_OF_LABELS = re.compile(
    r"(?<!\w)(?:this|that|the|my|another|other|different|second|first|above|previous|better|"
    r"neither|either|no|correct|right)(?: \w+)? "
    r"(?:answer|label|classification|category|prediction|verdict)s?(?!\w)"
)
_ANOTHER_LABEL = re.compile(
    r"(?<!\w)(?:another|other|different|second|better|alternative) (?:answer|label|classification|category)(?!\w)"
)
_CLAUSE = re.compile(r"[.!?;:,\n()\[\]–—]+|\s-\s")
_CLAIM = re.compile(r"(?:it|this|that|he|she|they|there) (?:is|was|are|were|do|does|did|has|have|can)( not|n t)?")
_ANY_WORDS = {"~": r"(?:\S+ ){1,6}", "...": r"(?:\S+ )*"}
_LONGEST_BESIDE = 400  # characters before a label, and of pauses after it, in which a frame is looked for


@dataclass(frozen=True)
class _Frames:
    spaced: re.Pattern[str]
    unspaced: re.Pattern[str]
    stated: re.Pattern[str]
    takebacks: re.Pattern[str]
    i_may: re.Pattern[str]
    begins: dict[str, re.Pattern[str]]
    holds: dict[str, re.Pattern[str]]
    openers: frozenset[str]
    claims: frozenset[str]
    foreign: frozenset[str]
    prepositions: frozenset[str]
    yes: frozenset[str]
    no: frozenset[str]
    denying: frozenset[str]
    undecided: frozenset[str]


@lru_cache(maxsize=1)
def _known() -> _Frames:
    text = (resources.files("hf_llambert") / "tasks" / "frames.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(unicodedata.normalize("NFKC", text))
    slots = {name: _options(words, {}) for name, words in data["slots"].items()}
    stated = [_template(frame, " ", slots) for frame in data["frames"]["stated"]]
    spaced = [_template(frame, " ", slots) for frames in data["frames"].values() for frame in frames]
    unspaced = [_template(frame, "", {}) for frames in data["unspaced_frames"].values() for frame in frames]
    data["reasons"] += data["unspaced_reasons"]
    return _Frames(
        re.compile("|".join(spaced)),
        re.compile("|".join(unspaced)),
        re.compile("|".join(stated).replace("\n", r"(?:\S+ ){1,3}")),
        re.compile("|".join(_template(clause, " ", slots) for clause in data["takebacks"])),
        re.compile(_whole_words(data["i_may"])),
        {name: re.compile(rf"[\W_]{{0,8}}(?:{_whole_words(data[name])})") for name in _BEGINS},
        {name: re.compile(_whole_words(data[name])) for name in _HOLDS},
        *(frozenset(clean(word.casefold()) for word in data[name]) for name in ("openers", "claims")),
        *(
            frozenset(word.casefold() for word in data[name])
            for name in ("foreign", "prepositions", "yes", "no", "denying", "undecided")
        ),
    )


_BEGINS = ("reasons", "explains", "turns", "clauses", "therefore", "closers", "answers", "musing")
_HOLDS = (
    "denials",
    "slips",
    "dodges",
    "mentions",
    "contrary",
    "doubts",
    "opposites",
    "supports",
    "heads",
    "nothing",
    "invented",
)


def _template(frame: str, gap: str, slots: dict[str, str]) -> str:
    """A frame as a pattern of the words before the label, a line end for the label, and the words after it."""
    out = ""
    for choice, optional, word in re.findall(r"\{([^}]*)\}|\[([^\]]*)\]|(\S+)", frame):
        options = _options(choice or optional or word, slots)
        if word in _ANY_WORDS:
            out += _ANY_WORDS[word]
            continue
        out += "\n" if word == "X" else rf"(?:(?:{options}){gap})" + ("?" if optional else "")
    return out


def _options(words: str, slots: dict[str, str]) -> str:
    """A pattern of words parted by |, with the patterns of slots in place of their names."""
    options = [re.split(r"\$(\w+)", option) for option in words.split("|")]
    for parts in options:
        parts[::2] = [re.escape(re.sub(r"['-]", " ", part).casefold()) for part in parts[::2]]
        parts[1::2] = [f"(?:{slots[name]})" for name in parts[1::2]]
    return "|".join("".join(parts) for parts in options)


def _whole_words(words: list[str]) -> str:
    """A pattern of words, whole where words stand between spaces; what all share is tried once, which is far faster."""
    escaped = {re.escape(word.casefold()): re.match(rf"[{UNSPACED}]", word.casefold()) for word in words}
    spaced = "|".join(word if word.endswith(":") else rf"{word}(?!\w)" for word, apart in escaped.items() if not apart)
    return "|".join([rf"(?<!\w)(?:{spaced})", *(word for word, apart in escaped.items() if apart)])


def clean(text: str) -> str:
    """Folded words without marks, stops and symbols, one blank between them; a question mark stays."""
    text = "".join(c for c in _MARKS.sub(" ", text) if unicodedata.category(c) not in ("So", "Sk") and c != "\ufe0f")
    return " ".join(text.strip(_STOPS).split())


def is_statement(before: str, name: str, after: str) -> bool:
    """Whether the words of a sentence before and after a label are a known frame, and the rest of it an explanation."""
    known = _known()
    if len(before) > _LONGEST_BESIDE:
        before = before[before.rfind(",", 0, -1) :] if "," in before[-_LONGEST_BESIDE:] else before
    start = _clause_start(before)
    if start is None or len(before) - start > _LONGEST_BESIDE:
        return False
    before = clean(before[start:])
    if before.split(" ")[0] == "no" and name[:2] in ("no", "un", "in"):
        before = before[2:].strip()  # "No, the comment is not toxic."
    if name in known.prepositions:
        after = re.sub(r"\A (?:of )?(?!those|all |any|people)[\w ]{1,40}(?=\s*(?:[.,!;\n]|\Z))", "", after)
    yes_or_no = is_yes_or_no(name)
    ends = [(len(after), len(after))]
    ends += [pause.span() for pause in _PAUSE.finditer(after, 0, min(len(after), _LONGEST_BESIDE))][:24]
    for end, tail in ends:
        if after[end:tail].strip("-") == "" and "-" in after[end:tail] and " " not in after[end:tail]:
            continue  # a hyphen within a word
        beside = (before and before + " ") + "\n" + ((beside := clean(after[:end])) and beside + " ")
        framed = beside == "\n" or known.spaced.fullmatch(beside) or known.unspaced.fullmatch(beside.replace(" ", ""))
        if framed and (
            not clean(after[end:])
            or (
                _answers_yes_or_no(name, after[end:tail], after[tail:])
                if yes_or_no and not before
                else _explains(after[end:tail], after[tail:], after)
            )
        ):
            return True
    return False


def is_yes_or_no(name: str) -> bool:
    """Whether a name is a yes or a no of some language."""
    return name in _known().yes | _known().no


def is_undecided(name: str) -> bool:
    """Whether a label says that nothing can be decided, so that a lack of information explains it."""
    return name in _known().undecided


def _clause_start(before: str) -> int | None:
    """Where in the words before a label its own clause starts; `None` where another clause says something else."""
    known = _known()
    start = 0
    if known.begins["clauses"].match(before) and "," in before:
        start = before.rfind(",") + 1
    else:
        pauses = [p.end() for p in re.finditer(r"[,;]\s|\s[–—-]\s", before)][-6:]
        start = next((p for p in pauses if known.begins["therefore"].match(before, p)), 0)
    said = before[:start]
    if not said or known.begins["clauses"].match(said):
        return start if not said or is_english(said) else None
    return start if is_english(said) and not known.stated.fullmatch(clean(said) + " ") else None


def _explains(pause: str, tail: str, after: str) -> bool:
    """Whether what stands after a frame and a pause explains it."""
    known = _known()
    if not re.search(r"[^\W\d_]", tail) or known.begins["turns"].match(tail) or "?" in tail or speaks_of_itself(tail):
        return False
    if known.begins["reasons"].match(tail):
        return not is_foreign_denial(tail)
    if re.search(r"[:(–—\n]|-\s", pause):
        return is_harmless(tail) and not ends_in_unknown(after)
    if "," in pause or ";" in pause:
        begins = known.begins["explains"].match(tail)
        if begins is None or is_foreign_denial(tail):
            return False
        return len(begins[0].strip()) > 3 or is_harmless(tail) and not ends_in_unknown(after)
    return False


def _answers_yes_or_no(name: str, pause: str, tail: str) -> bool:
    """Whether what stands after a yes or a no and a pause is its claim again or an explanation of it."""
    known = _known()
    said = re.split(r"[.!?\n。]", tail, maxsplit=1)[0]
    if (claim := _CLAIM.fullmatch(clean(said))) and bool(claim[1]) != (name in known.no):
        return False  # "No, it is."
    if known.holds["slips"].search(tail) or (name not in known.no and is_foreign_denial(tail)):
        return False
    if known.begins["reasons"].match(tail) or not pause.strip(" ") or known.holds["dodges"].search(said):
        return known.begins["reasons"].match(tail) is not None
    alone = tail == said and len(words := WORDS.findall(said)) == 1 and words[0].isascii()
    mentions = known.begins["answers"].match(tail) or known.holds["mentions"].search(said)
    return bool(alone or mentions) or clean(said) in known.claims


def is_foreign_denial(text: str) -> bool:
    """Whether a text has a word with which another language than English denies."""
    known = _known()
    text = text.replace("非常", "")
    return not known.foreign.isdisjoint(WORDS.findall(text)) or known.holds["denials"].search(text) is not None


def is_english(sentence: str) -> bool:
    """Whether a sentence, its labels blanked out, has a word that only English has, and nothing of other languages."""
    return looks_english(WORDS.findall(sentence)) and not (
        is_foreign_denial(sentence) or any(_is_foreign_letter(c) for c in set(sentence))
    )


def is_harmless(sentence: str) -> bool:
    """Whether a sentence that names no label cannot take back what another names."""
    known = _known()
    said = clean(sentence)
    if not said or said in known.openers or is_english(sentence):
        return True
    words = WORDS.findall(sentence)
    if is_foreign_denial(sentence):
        return False
    turned = known.holds["slips"].search(sentence) or known.holds["contrary"].search(sentence)
    if known.holds["mentions"].search(sentence) and not turned:
        return True
    return bool(known.begins["reasons"].match(sentence)) or not words or 2 * sum(map(is_usual, words)) > len(words)


def has_doubts(text: str, label: str = "") -> bool:
    """Whether a text says in English that its label may be another; that the opposite is so explains a label that denies."""
    known = _known()
    denies = label in known.no or label in known.denying
    if known.holds["doubts"].search(text) or not denies and known.holds["opposites"].search(text):
        return True
    return any(known.takebacks.fullmatch(clean(clause) + " ") for clause in _CLAUSE.split(text))


def speaks_of_itself(text: str) -> bool:
    """Whether an English text after a label speaks of its label or of who answers, other than to explain the label."""
    known = _known()
    if any(not known.i_may.match(text, said.end()) for said in _I_SAY.finditer(text)):
        return True
    if not _OF_LABELS.search(text):
        return False
    return not known.holds["supports"].search(text) or (
        "no other" not in text and _ANOTHER_LABEL.search(text) is not None
    )


def may_precede(sentence: str) -> bool:
    """Whether a sentence without a label may stand before the one that states it: it states nothing else."""
    known = _known()
    said = clean(sentence)
    if has_doubts(sentence) or any(known.holds[name].search(sentence) for name in ("nothing", "invented")):
        return False
    if not said or said in known.openers or known.spaced.fullmatch(said + " \n") or sentence.lstrip().startswith("#"):
        return True
    if sentence.rstrip().endswith(":"):
        return is_harmless(sentence)
    return len(said.split()) > 3 and is_harmless(sentence) and not known.stated.fullmatch(said + " ")


def may_follow(sentence: str) -> bool:
    """Whether a sentence without a label may stand after the one that states it: it neither denies it nor thinks on."""
    known = _known()
    if known.begins["closers"].match(sentence):
        return True
    stated = known.holds["heads"].search(sentence.replace(" is based on ", " "))
    if "?" in sentence or known.begins["musing"].match(sentence) or stated or speaks_of_itself(sentence):
        return False
    return is_harmless(sentence)


def _is_foreign_letter(letter: str) -> bool:
    return letter.isalpha() and not letter.isascii() and not unicodedata.name(letter, "").startswith("LATIN")
