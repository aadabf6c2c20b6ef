"""What the values of a label column mean. Decided once, for the whole column, and nowhere else."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Literal, TypeVar, get_args

from hf_llambert.tasks import label_messages as messages
from hf_llambert.tasks.logs import get_logger

_Key = TypeVar("_Key")
logger = get_logger(__name__)

ABSTAIN = -1
"""
The label id of a row without a label: the teacher gave no usable answer, or there is no gold. A label may be called -1
all the same: its id counts from 0, as any other's.
"""

LabelValues = Literal["auto", "names", "ids", "ids_from_1"]
"""What the values of a label column are: the labels' names, their ids from 0, or numbers that count them from 1."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})")
_NEVER_SHORT = frozenset(
    ["n", "na", "nan", "no", "non", "none", "not", "nil", "null", "unk", "unknown"]
)  # say that there is none, or deny
_SHORTEST = 3  # letters of an abbreviation
_CENTRED = (3, 5, 7)  # labels of scales that are coded from -1, -2 or -3 on
_NEGATED = re.compile(r"(?:not|non|no|kein|nicht|pas|sin)[ -]?")  # before a label's name
# Of these 0 is the first and 1 the second wherever both stand.
_NO_AND_YES = """
no yes, n y, false true, f t, nein ja, nee ja, nej ja, nei ja, non oui, no sí, no si, no sì, não sim, nie tak, ne ano, ne da,
нет да, ні так, hayır evet, ei kyllä, nem igen, όχι ναι, لا نعم, לא כן, नहीं हाँ, tidak ya, không có, 否 是, いいえ はい, 아니요 예,
off on, absent present, inactive active, incorrect correct, wrong right, irrelevant relevant, fail pass, reject accept
"""
# And of these -1 is the first and 1 the second.
_POLES = """
negative positive, neg pos, against favor, against favour, against for, con pro, anti pro, disagree agree, bad good,
worse better, low high, decrease increase, down up, bearish bullish, left right, contradiction entailment
"""


def is_missing(value: object) -> bool:
    """Whether a value says that there is no label: null, an empty cell or NaN."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def label_ids(
    values: Sequence[object],
    labels: Sequence[str],
    column: str,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> list[int]:
    """
    The values of a label column as ids, -1 where there is no label. See [`label_meanings`] for the rules and the errors.
    """
    meanings = label_meanings(values, labels, column, label_map, label_values)
    return [meanings[value_key(value)] for value in values]


def label_meanings(
    values: Iterable[object],
    labels: Sequence[str],
    column: str,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
    skip_strange: bool = False,
    option: str = "label",
) -> dict[tuple[str, object], int]:
    """
    Which label each different value of a column is, by [`value_key`].

    A column is all names or all ids. A name may be spelled in another case, or be the beginning, three letters or more, of
    a word that begins exactly one label (`neg` for `negative`) of which none stands there in full; `1`, `1.0` and `01` are
    one name where the task has only one of them. Ids count from 0. Null, an empty cell and NaN are no label, and so is -1
    where no label is called so. Texts that are names are names; numbers that could be names and, differently, ids are
    refused, and so are numbers that commonly mean something else than an id: -1, 0 and 1 of three labels, and 0 and 1 of
    `yes` and `no`.

    Args:
        values (`Iterable`): The values of the whole column; repeated ones count once.
        labels (`Sequence[str]`): The task's labels in their order.
        column (`str`): What to call the column in errors.
        label_map (`Mapping[str, str]`, *optional*): What some values are: `{"sci/tech": "tech"}`. An empty label means none.
            One map may serve several columns: a value that this one has not is warned of.
        label_values (`str`, defaults to `"auto"`): `names`, `ids` or `ids_from_1`, where the values alone do not tell.
        skip_strange (`bool`, defaults to `False`): Leave out values that are neither a name nor a number of a label, and
            decide about the others.
        option (`str`, defaults to `"label"`): How the options begin that errors name: `label` of `label_map` and
            `label_values`.

    Raises:
        ValueError: The values fit two readings, or none; `label_map` has a label that the task has not.
    """
    return _decided(values, labels, column, label_map, label_values, skip_strange, option)[1]


def label_reading(
    values: Iterable[object],
    labels: Sequence[str],
    column: str,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> LabelValues:
    """What a column holds, `names`, `ids` or `ids_from_1`: to read some of its rows as all are. See [`label_meanings`]."""
    return _decided(values, labels, column, label_map, label_values, False, "label")[0]


def _decided(
    values: Iterable[object],
    labels: Sequence[str],
    column: str,
    label_map: Mapping[str, str] | None,
    how: LabelValues,
    skip_strange: bool,
    option: str,
) -> tuple[LabelValues, dict[tuple[str, object], int]]:
    if how not in get_args(LabelValues):
        raise ValueError(f"{option}_values must be one of {', '.join(get_args(LabelValues))}, got {how!r}.")
    distinct = {value_key(value): value for value in values}
    mapped = _mapped(distinct, label_map or {}, labels, column, option)
    rest = {key: value for key, value in distinct.items() if key not in mapped}
    out = dict.fromkeys((key for key, value in rest.items() if is_missing(value)), ABSTAIN)
    rest = {key: value for key, value in rest.items() if key not in out}
    found, read = _read(rest, labels, column, how, skip_strange, option)
    if how == "auto" and any(_number(distinct[key]) is not None for key in mapped):
        names = _Names(labels)
        ids = [written(value) for key, value in rest.items() if read.get(key, ABSTAIN) != names.find(value)]
        if ids := [value for value in ids if _number(value) is not None and _number(value) != ABSTAIN]:
            raise ValueError(messages.beside_mapped(ids, column, option))
    return found, mapped | out | read


def name_id(value: object, labels: Sequence[str]) -> int | None:
    """The id of the label that a value names in full, or `None`."""
    return _Names(labels).find(value)


def value_key(value: object) -> tuple[str, object]:
    """A value as a key: 1, 1.0, True and "1" are four, all NaN are one."""
    if isinstance(value, float) and math.isnan(value):
        return "float", None
    if not isinstance(value, str | int | float | bool | None):
        return type(value).__name__, repr(value)
    return type(value).__name__, value


def parse_label_map(pairs: Iterable[str], option: str = "label_map") -> dict[str, str]:
    """
    `["pos=positive", "neg=negative"]` as a mapping. The last `=` parts value and label; `option` is what errors call it.

    Raises:
        ValueError: A pair without `=`, or a value with two labels.
    """
    out: dict[str, str] = {}
    for pair in pairs:
        value, equals, label = pair.rpartition("=")
        if not equals:
            raise ValueError(f"{option} takes pairs such as pos=positive, got {pair!r}.")
        if out.setdefault(value, label) != label:
            raise ValueError(f"{option} says that {value!r} is both '{out[value]}' and '{label}'.")
    return out


def gold_reading(label_map: Mapping[str, str] | None, label_values: LabelValues) -> dict[str, object]:
    """How gold was said to be read, for a stage's notes; nothing where nothing was said."""
    return ({"label_map": dict(label_map)} if label_map else {}) | (
        {} if label_values == "auto" else {"label_values": label_values}
    )


def written(value: object) -> str:
    """A value as a file would have it: `true`, `1`, `1.5`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def warn_about_gold(texts: Sequence[object], ids: Sequence[int], labels: Sequence[str], column: str) -> None:
    """Warn of texts that have several gold labels and of labels that no row has."""
    seen: dict[object, set[int]] = {}
    for text, label in zip(texts, ids, strict=True):
        if label != ABSTAIN and isinstance(text, str):
            seen.setdefault(text, set()).add(label)
    if contradicted := sum(len(found) > 1 for found in seen.values()):
        logger.warning(
            "%d of %d different texts have several labels in column '%s'. Whoever labels them cannot be right about all "
            "their rows; decide which one counts.",
            contradicted,
            len(seen),
            column,
        )
    given = set().union(*seen.values()) if seen else set()
    absent = [label for i, label in enumerate(labels) if i not in given]
    if absent and given:
        logger.warning(
            "Column '%s' has no row of %d of the %d labels: %s. Macro-F1 is taken over the others.",
            column,
            len(absent),
            len(labels),
            messages.shown(absent),
        )


def _mapped(
    distinct: Mapping[tuple, object], label_map: Mapping[str, str], labels: Sequence[str], column: str, option: str
) -> dict[tuple[str, object], int]:
    """The ids of the values that a label map names."""
    unknown = sorted(set(label_map.values()) - {*labels, ""})
    if unknown:
        raise ValueError(messages.map_to_nowhere(unknown, labels, option))
    names = _Names(list(label_map))
    targets = [labels.index(label) if label else ABSTAIN for label in label_map.values()]
    found = {key: names.find(value) for key, value in distinct.items() if not is_missing(value)}
    out = {key: place for key, place in found.items() if place is not None}
    if absent := sorted(name for place, name in enumerate(label_map) if place not in out.values()):
        held = [written(value) for value in distinct.values() if not is_missing(value)]
        logger.warning("%s", messages.map_of_absent(absent, held, column, option))
    return {key: targets[place] for key, place in out.items()}


def _read(
    values: Mapping[tuple, object],
    labels: Sequence[str],
    column: str,
    how: LabelValues,
    skip_strange: bool,
    option: str,
) -> tuple[LabelValues, dict[tuple[str, object], int]]:
    names = _Names(labels)
    minus = None if names.find(ABSTAIN) is not None else ABSTAIN
    readings: dict[str, dict[tuple, int | None]] = {
        "names": {
            key: minus if minus is not None and _number(v) == minus else names.find(v) for key, v in values.items()
        },
        "ids": {key: _id(v, len(labels), 0, minus) for key, v in values.items()},
        "ids_from_1": {key: _id(v, len(labels), 1, minus) for key, v in values.items()},
    }
    readings["names"] |= names.abbreviations(
        {key: v for key, v in values.items() if readings["names"][key] is None}, set(readings["names"].values())
    )
    everything, all_readings = values, readings
    if skip_strange:
        values = {key: v for key, v in values.items() if any(found[key] is not None for found in readings.values())}
        readings = {name: {key: found[key] for key in values} for name, found in readings.items()}
    fits = {name: {k: i for k, i in found.items() if i is not None} for name, found in readings.items()}
    whole = {name: found for name, found in fits.items() if len(found) == len(values)}
    held = {key: written(value) for key, value in values.items()}
    if how != "auto":
        if how not in whole:
            raise ValueError(messages.none_fits(held, readings, labels, column, how, option))
        return how, whole[how]
    if "names" in whole and ("ids" not in whole or whole["ids"] == whole["names"] or _are_texts(values.values())):
        if "ids" in whole and whole["ids"] != whole["names"]:
            logger.warning("%s", messages.names_that_could_be_ids(held, whole["ids"], labels, column, option))
        return "names", whole["names"]
    if "names" in whole:
        raise ValueError(messages.names_or_ids(held, labels, column, option))
    if "ids" not in whole:
        raise ValueError(messages.none_fits(held, readings, labels, column, how, option))
    ids = whole["ids"]
    if len(everything) > 2 * len(values):  # a few numbers among other words are no column of ids
        held = {key: written(value) for key, value in everything.items()}
        raise ValueError(messages.none_fits(held, all_readings, labels, column, how, option))
    if meant := _common_meaning(set(ids.values()), labels):
        raise ValueError(messages.common_codes(held, ids, meant, labels, column, option))
    if values and 0 not in ids.values() and any(i > 0 for i in ids.values()):
        logger.warning("%s", messages.ids_without_zero(held, ids, whole["ids_from_1"], labels, column, option))
    return "ids", ids


def _common_meaning(numbers: set[int], labels: Sequence[str]) -> dict[int, str]:
    """What numbers that could be ids commonly mean for such labels, where that is another label; else nothing."""
    given, half = numbers - {ABSTAIN}, len(labels) // 2
    truth, poles = _pairs(_NO_AND_YES, labels), _pairs(_POLES, labels)
    if ABSTAIN in numbers and given:
        low, high = ([*truth, *poles] or [(0, len(labels) - 1)])[0]
        if given == {1} and len(labels) == 2:
            return {ABSTAIN: labels[low], 1: labels[high]}
        if len(labels) in _CENTRED and max(given) <= half:
            order = sorted(range(len(labels)), key=lambda i: (i == high, i != low, i if low < high else -i))
            return {number: labels[order[number + half]] for number in sorted(numbers)}
    if given and given <= {0, 1}:
        for pair in truth:
            if any(pair[number] != number for number in given):
                return {number: labels[pair[number]] for number in sorted(given)}
    return {}


def _pairs(listed: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """The places of those pairs of words that are both labels; and of `not x` and `x`, whatever x is."""
    folded = {_folded(label): i for i, label in enumerate(labels)}
    pairs = [pair.split() for pair in listed.split(",")]
    found = [(folded[_folded(a)], folded[_folded(b)]) for a, b in pairs if {_folded(a), _folded(b)} <= set(folded)]
    negated = ((i, name[match.end() :]) for name, i in folded.items() if (match := _NEGATED.match(name)))
    return found + [(i, folded[rest]) for i, rest in negated if rest in folded]


class _Names:
    """Label ids by name, however a name is spelled."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.exact = {label: i for i, label in enumerate(labels)}
        self.folded = _unique((_folded(label), i) for i, label in enumerate(labels))
        self.numeric = _unique((_number(label), i) for i, label in enumerate(labels))

    def find(self, value: object) -> int | None:
        """The id of the label that a value names, or `None`."""
        text = written(value).strip()
        if text in self.exact:
            return self.exact[text]
        number = None if isinstance(value, bool) else _number(value)
        if number is not None:
            return self.numeric.get(number)
        return self.folded.get(_folded(text)) if isinstance(value, str | bool) else None

    def abbreviations(self, values: Mapping[tuple, object], in_full: set[int | None]) -> dict[tuple, int]:
        """The ids of values that begin a word of exactly one label, none of which occurs in full: `neg` for `negative`."""
        out: dict[tuple, int] = {}
        for key, value in values.items():
            short = _folded(value) if isinstance(value, str) else ""
            if len(short) < _SHORTEST or short in _NEVER_SHORT:
                continue
            starts = [i for name, i in self.folded.items() if name.startswith(short) and name[len(short)].isalnum()]
            if len(starts) == 1:
                out[key] = starts[0]
        return {} if in_full & set(out.values()) else out


def _folded(name: str) -> str:
    """A name in one case, with one blank for blanks and underscores. Its symbols stay: C, C++ and C# are three."""
    plain = "".join(
        c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in name
    )  # m² stays
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", plain).casefold()).strip()


def _unique(pairs: Iterable[tuple[_Key | None, int]]) -> dict[_Key, int]:
    """A mapping without the keys that stand for several labels."""
    out: dict[_Key, int] = {}
    twice = set()
    for key, i in pairs:
        if key is None:
            continue
        if out.setdefault(key, i) != i:
            twice.add(key)
    return {key: i for key, i in out.items() if key not in twice}


def _number(value: object) -> Fraction | None:
    """A value as a number, when it is one or spells one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Fraction(value) if math.isfinite(value) else None
    if isinstance(value, str) and _NUMBER.fullmatch(text := value.strip().replace("−", "-")):
        return Fraction(text)
    return None


def _id(value: object, num_labels: int, first: int, missing: int | None) -> int | None:
    number = _number(value)
    if number is None or number.denominator != 1 or re.match(r"\s*0\d", str(value)):  # nobody counts 00, 01, 02
        return None
    if missing is not None and number == missing:
        return ABSTAIN
    place = int(number) - first
    return place if 0 <= place < num_labels else None


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
