"""What small numbers commonly mean for labels of certain names: 0 is `negative` and 1 `positive`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hf_llambert.tasks.label_names import folded

_CENTRED = (3, 5, 7)  # labels of scales that are coded from -1, -2 or -3 on
_NEGATED = re.compile(r"(?:not|non|no|kein|nicht|pas|sin)[ -]?")  # before a label's name
# Of these 0 is the first and 1 the second wherever both stand.
_NO_AND_YES = """
no yes, n y, false true, f t, nein ja, nee ja, nej ja, nei ja, non oui, no sí, no si, no sì, não sim, nie tak, ne ano, ne da,
нет да, ні так, hayır evet, ei kyllä, nem igen, όχι ναι, لا نعم, לא כן, नहीं हाँ, tidak ya, không có, 否 是, いいえ はい, 아니요 예,
off on, absent present, inactive active, incorrect correct, wrong right, irrelevant relevant, fail pass, reject accept
"""
# And of these; -1 is the first too.
_POLES = """
negative positive, neg pos, negativ positiv, negativo positivo, négatif positif, negatief positief, negatywny pozytywny,
отрицательный положительный, negatif pozitif, olumsuz olumlu, 消极 积极, 负面 正面, 負面 正面, ネガティブ ポジティブ,
부정 긍정, سلبي إيجابي, against favor, against favour, against for, con pro, anti pro, disagree agree, bad good, schlecht gut,
mauvais bon, malo bueno, worse better, low high, decrease increase, down up, bearish bullish, left right, dislike like,
sad happy, hate love
"""
# And of these, where 1 is what is looked for.
_FOUND = """
ham spam, legitimate spam, legitimate phishing, legitimate fraud, legit fraud, legitimate fraudulent, genuine fraud,
benign malicious, benign malignant, benign toxic, safe unsafe, safe harmful, harmless harmful, clean toxic, clean spam,
normal abnormal, normal anomaly, normal toxic, normal hate, normal spam, neutral toxic, civil toxic, civil uncivil,
real fake, human machine, human ai, human generated, healthy sick, objective subjective, unacceptable acceptable,
ungrammatical grammatical, different same, different duplicate, distinct duplicate, literal sarcastic, literal ironic,
literal metaphorical, literal figurative, serious sarcastic, invalid valid, unhelpful helpful, useless useful,
impolite polite, unrelated related, unanswerable answerable, refuted supported, failure success, lost won,
disliked liked, unsatisfied satisfied, dissatisfied satisfied, unfavorable favorable, entailment contradiction,
entailment not_entailment, entailment non-entailment
"""
_OPPOSED = "contradiction entailment"  # -1 and 1, though not 0 and 1
# 0 beside what is looked for.
_REST = """
other others rest none nothing neither normal clean background neutral unrelated sonstiges andere autre otro
""".split()  # noqa: SIM905  # shorter to read
_ABSTAIN = -1


def common_meaning(numbers: set[int], labels: Sequence[str]) -> dict[int, str]:
    """What numbers that could be ids commonly mean for such labels, where that is another label; else nothing."""
    given, half = numbers - {_ABSTAIN}, len(labels) // 2
    if _ABSTAIN in numbers and given:
        low, high = (_pairs(f"{_NO_AND_YES},{_POLES},{_OPPOSED}", labels) or [(0, len(labels) - 1)])[0]
        if given == {1} and len(labels) == 2:
            return {_ABSTAIN: labels[low], 1: labels[high]}
        if len(labels) in _CENTRED and max(given) <= half:
            order = sorted(range(len(labels)), key=lambda i: (i == high, i != low, i if low < high else -i))
            return {number: labels[order[number + half]] for number in sorted(numbers)}
    if given and given <= {0, 1}:
        for pair in _pairs(f"{_NO_AND_YES},{_POLES},{_FOUND}", labels) or _rest(labels):
            if any(pair[number] != number for number in given):
                return {number: labels[pair[number]] for number in sorted(given)}
    return {}


def _pairs(listed: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """The places of those pairs of words that are both labels; and of `not x` and `x`, where the list says nothing of them."""
    names = {folded(label): i for i, label in enumerate(labels)}
    pairs: Iterable[list[str]] = (pair.split() for pair in listed.split(","))
    found = [(names[folded(a)], names[folded(b)]) for a, b in pairs if {folded(a), folded(b)} <= set(names)]
    negated = ((i, name[match.end() :]) for name, i in names.items() if (match := _NEGATED.match(name)))
    return found + [(i, names[rest]) for i, rest in negated if rest in names and (names[rest], i) not in found]


def _rest(labels: Sequence[str]) -> list[tuple[int, int]]:
    """The places of `other` or the like and of what is looked for, of two labels."""
    rest = [i for i, label in enumerate(labels) if folded(label) in _REST]
    return [(rest[0], 1 - rest[0])] if len(labels) == 2 and len(rest) == 1 else []
