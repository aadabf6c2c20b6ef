"""Names of labels: how an answer and a name are folded, and where in an answer a whole name stands."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from hf_llambert.tasks.frames import UNSPACED

_PAUSE = re.compile(r"\s*(?:[.,!;:()\[\]{}\"\n–—。、|<-]|'(?!\w)|$)|\s+(?:because|since|as|given|due to)(?!\w)")
# A letter with one of these behind it is the answer; with any verb, a letter that is spoken of.
_IS_RIGHT = re.compile(
    r"\s+(?:is|would be|seems|looks)\s+(?:clearly |definitely )?(?:the )?(?:correct|right|best|true|most \w+)(?!\w)"
)
_SPOKEN_OF = re.compile(
    r"\s+(?:is|was|are|were|and|or|vs|versus|than|seems|looks|has|does|do|can|would|could|may|might|isn't|doesn't|but|not)(?!\w)"
)
_ELIDED = re.compile(r"\w'$")
_PLAIN_QUOTES = str.maketrans("“”„«»‘’", '"""""\'\'')
_OUTER = " \t\n.,!?;:'\"`()[]{}。、।｡؟،؛¡¿「」『』【】《》〈〉"
DASHES = "\u00ad\u02d7\u058a\u2010-\u2015\u2043\u207b\u208b\u2212\u2796\ufe58\ufe63\uff0d"
_MINUS = re.compile(rf"(?<!\w)[{DASHES}](?=\d)|(?<!\w)\u2212\s{{1,3}}(?=\d)")
# An em dash joins numbers, but parts words.
_HYPHEN = re.compile(r"(?<=\w)[\u2010-\u2013\u2212](?=\w)|(?<=\d)[\u2014\u2015](?=\d)")
_APOSTROPHE = re.compile(r"(?<=\w)[\u00b4`\u02b9\u02bc\u02c8\u2032\u201b](?=\w)")
# "A–" is a grade as "A-" is; "A — because" is not.
_GRADE_MINUS = re.compile(rf"(?<!\w)([^\W\d_])[{DASHES}](?!\w)")
_SIGNS = str.maketrans({"≤": "<=", "⩽": "<=", "≦": "<=", "≥": ">=", "⩾": ">=", "≧": ">="})
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
_COMPARED = re.compile(r"[<>]=?[^\w\s<>]?\d")
_COMPARISON = re.compile(r"^\s*([<>]=?)\s{1,3}(?=\S)")
_PLUS = re.compile(r"(?<![\w+])\+(?=\d)")
_UNSPACED = re.compile(rf"[{UNSPACED}]")

_OTHER_CODE = r"(?!\s?[.:]\s?\d|\s?[.:]\w|\s?\.[*\-]|[!†‡])"

_DEGREE = (
    r"(?:somewhat|mostly|largely|mainly|very|quite|rather|fairly|highly|slightly|moderately|mildly|strongly|weakly|extremely|"
    r"generally|partly|partially|almost|nearly|half|predominantly|primarily|overwhelmingly|substantially|technically|basically|"
    r"essentially|pretty|kind of|sort of|a bit|a little|too|so|really|super)"
)
_DEGREE_BEFORE = re.compile(rf"(?<!\w){_DEGREE}\W*$")
_SUFFIX = re.compile(r"(?<!\w)(\w{3,40}?)(?:d[ıiuü]r|t[ıiuü]r)(?!\w)")
_NUMBERED = re.compile(r"\W{0,3}([a-h]|\d{1,2})\s?[.):]\s+(?=([^\n]{1,200}?)\s*(?:\Z|\n))")
_SHORT_NOT = re.compile(r"(?<!\w)(is|are|was|were|does|do|did|has)n't(?= )")
_OPPOSITE = ("not ", "non ", "no ", "not", "non", "un", "in", "im", "ir", "il", "dis")


def normalize(text: str) -> str:
    """Case-folded text with plain quotes, without underscores, invisible characters and outer punctuation."""
    text = fold(text).strip()
    for _ in range(20):  # marks within marks
        bare = _unmarked(text)
        if bare == text:
            break
        text = bare
    return text


def _unmarked(text: str) -> str:
    """One round of stripping: "C#", "A*" and "<5" are names of their own, "# heading", "**bold**" and "<b>" are markup."""
    text = text.strip(_OUTER)
    for mark in ("***", "**", "*"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)].strip(_OUTER)
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    text = text.lstrip("#*").rstrip("<>")
    if not _COMPARED.match(text):
        text = text.lstrip("<>")
    stem = text.rstrip("#*")
    tail = text[len(stem) :]
    if tail.startswith("#") and set(tail[1:]) == {"*"}:
        tail = "#"
    return stem + tail if len(tail) == 1 and (stem[-1:].isalnum() or tail == "#") else stem


def fold(text: str) -> str:
    """Case-folded text with plain quotes, hyphens and minus signs, without underscores and invisible characters."""
    text = text.replace("\\_", "_")  # Markdown
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = _GRADE_MINUS.sub(r"\1-", text.translate(_SIGNS))
    text = _PLUS.sub("", _MINUS.sub("-", _HYPHEN.sub("-", _APOSTROPHE.sub("'", text))))
    # ½ and ² would become digits of their own.
    text = text.translate({ord(c): "x" for c in set(text) if unicodedata.category(c) == "No"})
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.translate({ord(c): None for c in set(text) if unicodedata.category(c) in ("Cf", "Cs")})
    text = text.translate(_PLAIN_QUOTES)
    return re.sub(r"[ \t]+", " ", text.replace("_", " "))


def key(text: str) -> str:
    """A name as it is looked up: "human interest", "human-interest" and "human_interest" are one, "Sci / Tech" is "sci/tech"."""
    text = re.sub(r"(?<=\w)[\s\-]+(?=\w)", " ", normalize(text))
    return re.sub(r"(?<=\S)\s+(?=[^\w\s])|(?<=[^\w\s])(?<!\A.)\s+(?=\S)", "", text)


@lru_cache(maxsize=64)
def vocabulary(words: tuple[tuple[str, ...], ...]) -> tuple[dict[str, int], re.Pattern[str]]:
    """Label id by name, and a pattern that finds whole names, the longest first."""
    ids: dict[str, int] = {}
    for label, names in enumerate(words):
        for name in names:
            ids.setdefault(key(name), label)
    for name, label in _opposites(ids).items() if len(words) == 2 else ():
        ids.setdefault(name, label)
    for name, label in _other_spellings(ids).items():
        ids.setdefault(name, label)
    return ids, re.compile("|".join(_whole(name) for name in sorted(ids, key=len, reverse=True)))


def plain_names(text: str, ids: dict[str, int]) -> str:
    """A folded answer without what is written around a name: "olumludur" is "olumlu", "B. positive" is "positive"."""
    text = _SUFFIX.sub(lambda match: match[1] if match[1] in ids else match[0], text)
    numbered = _NUMBERED.match(text)
    if numbered and numbered[1] not in ids and key(numbered[2]) in ids and key(text) not in ids:
        text = text[numbered.end() :]
    return _SHORT_NOT.sub(r"\1 not", text) if any(name.startswith("not ") for name in ids) else text


def _opposites(ids: dict[str, int]) -> dict[str, int]:
    """For labels like "toxic" and "non-toxic": other ways to write the second, by its id."""
    out: dict[str, int] = {}
    for name, label in ids.items():
        opposite = next(
            (ids[other] for head in _OPPOSITE if (other := head + name) in ids and ids[other] != label), None
        )
        if opposite is not None and len(name) > 2:
            out |= {head + name: opposite for head in ("not ", "not a ", "not an ", "non ", "non")}
            out |= {f"un {name}": opposite} if f"un{name}" in ids else {}
    return out


def _other_spellings(ids: dict[str, int]) -> dict[str, int]:
    """Other ways to write names: "sci-tech" and "scitech" of "sci/tech", and "4" where the labels are "1 star" to "5 stars"."""
    out: dict[str, int] = {}
    for name, label in ids.items():
        parts = re.fullmatch(r"([a-z]{2,})/([a-z]{2,})", name)
        if parts and ids.keys().isdisjoint(parts.groups()):
            out |= {f"{parts[1]} {parts[2]}": label, f"{parts[1]}{parts[2]}": label}
    stars = {name: re.fullmatch(r"(\d) stars?", name) for name in ids}
    numbers = {match[1]: ids[name] for name, match in stars.items() if match}
    if len(numbers) == len(set(ids.values())) == len(ids):
        out |= numbers | {f"{number} star": label for number, label in numbers.items()}
    return out


def _whole(name: str) -> str:
    """A pattern of a name where it is no part of another word, number or name with symbols."""
    parts = []
    for i, part in enumerate(pieces := re.findall(r"\w+|\s|[^\w\s]", name)):
        if part == " ":
            parts.append(r"[\s\-]+")
        elif part in "<>" and i == 0 and len(pieces) > 1:
            parts.append(rf"{part}\s{{0,3}}")
        elif not part[0].isalnum() and 0 < i < len(pieces) - 1:
            parts.append(rf"\s{{0,3}}{re.escape(part)}\s{{0,3}}")
        else:
            parts.append(re.escape(part))
    spaced = rf"[^\W{UNSPACED}]"
    before, after = r"(?<!\d[.,/])(?<!\w[+/&@#=])(?<!\w/ )(?<!\w /)(?<!\w / )(?<!& )", ""
    if name[0].isdigit():
        before += r"(?<![<>≤≥~≈±])(?<![<>≤≥~≈±] )(?<![<>!]=)(?<![<>!]= )"
    if name[0] in "<>":
        before += r"(?<![<>=~≈!-])"
    if not re.match(rf"[{UNSPACED}]", name):
        before += rf"(?<!{spaced})(?<!-)"
    if not name[-1].isalnum():
        after = r"(?![\w+#*\-])"
    elif not re.search(rf"[{UNSPACED}]$", name):
        after = rf"(?!{spaced}|-\w|[.,/']\d|\s*%|[+#]|[&@=^]\w|\s?[/&]\s?\w)"
        if name[-1].isdigit():
            after += r"(?! \d{3}(?!\d))"
        if len(name) <= 2:
            after += r"(?![*\-])"
    # "E11.X", "E11. 65" and "E11.-" are other codes than "E11".
    return before + "".join(parts) + after + (_OTHER_CODE if is_code(name) else "")


def label_of(text: str, ids: dict[str, int]) -> int | None:
    """The label with a name; "> 50K" is ">50K", unless 50K, which may be quoted, is a label too."""
    label = ids.get(key(text))
    return ids.get(key(_COMPARISON.sub(r"\1", text))) if label is None else label


def stands_alone(span: re.Match[str]) -> bool:
    """Whether `no` and single letters, which are also ordinary words of a sentence, are an answer here."""
    letter = is_letter(span[0])
    if span[0] != "no" and not letter:
        return True
    if _ELIDED.search(span.string[max(0, span.start() - 2) : span.start()]):
        return False
    return bool(
        _PAUSE.match(span.string, span.end())
        or _UNSPACED.match(span.string, span.end())
        or letter
        and _IS_RIGHT.match(span.string, span.end())
    )


def is_spoken_of(span: re.Match[str]) -> bool:
    """Whether a single letter is meant, though perhaps not as the answer: "A is better than B", but no "a", "I" or "c'est"."""
    text, end = span.string, span.end()
    if (
        not is_letter(span[0])
        or text[end : end + 1] == "'"
        or _ELIDED.search(text[max(0, span.start() - 2) : span.start()])
    ):
        return False
    return span[0] not in "ai" or _SPOKEN_OF.match(text, end) is not None


def is_code(name: str) -> bool:
    """Whether a name is a code of letters and digits that ends with a digit, as "E11.9" is."""
    return re.fullmatch(r"[a-z]+\d[a-z\d.]*(?<=\d)", name) is not None


def is_letter(name: str) -> bool:
    """Whether a name is a single letter of a script whose words are longer."""
    return len(name) == 1 and name.isalpha() and not _UNSPACED.match(name)


def is_part_of_name(span: re.Match[str], ids: dict[str, int]) -> bool:
    """Whether a name may be a piece of a longer one: "mostly, true" and "somewhat true" where "mostly true" is a label too."""
    name = key(span[0])
    before = span.string[max(0, span.start() - 60) : span.start()]
    words_before = re.sub(r"\W+", " ", before).rstrip()
    words_after = re.sub(r"\W+", " ", span.string[span.end() : span.end() + 60]).lstrip()
    for longer in ids:
        if longer.endswith(f" {name}"):
            head = longer[: -len(name) - 1]
            if re.search(rf"(?<!\w){re.escape(head)}\Z", words_before):
                return True
            if re.fullmatch(_DEGREE, head) and _DEGREE_BEFORE.search(before):
                return True
        if longer.startswith(f"{name} ") and re.match(rf"{re.escape(longer[len(name) + 1 :])}(?!\w)", words_after):
            return True
    return False
