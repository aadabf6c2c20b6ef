"""What the values of a label column mean. Decided once, for the whole column, and nowhere else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from hf_llambert.tasks import label_messages as messages
from hf_llambert.tasks.codes import common_meaning
from hf_llambert.tasks.label_names import Names, is_missing, number_of, written
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

ABSTAIN = -1
"""
The label id of a row without a label: the teacher gave no usable answer, or there is no gold. A label may be called -1
all the same: its id counts from 0, as any other's.
"""

LabelValues = Literal["auto", "names", "ids", "ids_from_1"]
"""What the values of a label column are: the labels' names, their ids from 0, or numbers that count them from 1."""

_PADDED = re.compile(r"\s*0\d")


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

    A column is all names or all ids. A name may be spelled in another case, with another dash or with invisible signs, or be
    cut as is common (`neg` for `negative`, with a warning) where exactly one label begins so and none of these stands there
    in full; `1`, `1.0` and `01` are one name where the task has only one of them, and `1` is `1 star` where no other label
    begins with it. Ids count from 0, and are assumed only where no number could be a name. Null, an empty cell and NaN are
    no label, and so is -1 where no label is called so. Texts that are names are names; numbers that could be names and,
    differently, ids are refused, and so are numbers that commonly mean something else than an id: -1, 0 and 1 of three
    labels, and 0 and 1 of `positive` and `negative`.

    Args:
        values (`Iterable`): The values of the whole column; repeated ones count once.
        labels (`Sequence[str]`): The task's labels in their order.
        column (`str`): What to call the column in errors.
        label_map (`Mapping[str, str]`, *optional*): What some values are: `{"sci/tech": "tech"}`. An empty label means none.
            One map may serve several columns: a value that this one has not is warned of.
        label_values (`str`, defaults to `"auto"`): `names`, `ids` or `ids_from_1`, where the values alone do not tell.
        skip_strange (`bool`, defaults to `False`): Leave out values that are neither a name nor a number of a label, and
            decide about the others; where some numbers are names, those that are none, too.
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
    # Who maps 0 to anything but the first label says that the numbers are no ids.
    no_ids = any(_id(distinct[key], len(labels), 0, None) not in (None, label) for key, label in mapped.items())
    found, read = _read(rest, labels, column, how, skip_strange, option, no_ids)
    if how == "auto" and any(number_of(distinct[key]) is not None for key in mapped):
        names = Names(labels)
        ids = [
            written(value)
            for key, value in rest.items()
            if found == "ids" and read.get(key, ABSTAIN) != names.find(value)
        ]
        if ids := [value for value in ids if number_of(value) is not None and number_of(value) != ABSTAIN]:
            raise ValueError(messages.beside_mapped(ids, column, option))
    return found, mapped | out | read


def name_id(value: object, labels: Sequence[str]) -> int | None:
    """The id of the label that a value names in full, or `None`."""
    return Names(labels).find(value)


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


def gold_reading(
    label_map: Mapping | None, label_values: LabelValues | Mapping[str, LabelValues]
) -> dict[str, object]:
    """How gold was said to be read, of several questions by their names, for a stage's notes; nothing where nothing was said."""
    return ({"label_map": dict(label_map)} if label_map else {}) | (
        {} if label_values in ("auto", {}) else {"label_values": label_values}
    )


def _mapped(
    distinct: Mapping[tuple, object], label_map: Mapping[str, str], labels: Sequence[str], column: str, option: str
) -> dict[tuple[str, object], int]:
    """The ids of the values that a label map names."""
    unknown = sorted(set(label_map.values()) - {*labels, ""})
    if unknown:
        raise ValueError(messages.map_to_nowhere(unknown, labels, option))
    names = Names(list(label_map))
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
    no_ids: bool,
) -> tuple[LabelValues, dict[tuple[str, object], int]]:
    all_of_it = _Column(values, labels, column, option)
    part = _Column({k: v for k, v in values.items() if all_of_it.reads(k)}, labels, column, option)
    some = part if skip_strange else all_of_it
    if how != "auto":
        if how not in some.whole:
            raise some.unread(how)
    elif all_of_it.has_names_among_numbers():
        how = "names"  # then no number is an id in silence
        if all_of_it.fits_ids() and not no_ids:
            raise ValueError(messages.names_and_other_numbers(*all_of_it.told(), all_of_it.ids, all_of_it.odd, option))
        if not skip_strange:
            raise all_of_it.unread()
        some = _Column({k: v for k, v in values.items() if k not in all_of_it.strange}, labels, column, option)
    elif "names" in some.whole:
        how, named, ids = "names", some.whole["names"], {} if no_ids else some.whole.get("ids", {})
        if ids not in ({}, named):
            if not all(isinstance(value, str) for value in some.values.values()):
                raise ValueError(messages.names_or_ids(some.held, labels, column, option))
            logger.warning("%s", messages.names_that_could_be_ids(some.held, ids, labels, column, option))
    else:
        if "ids" not in some.whole:
            raise some.unread()
        if len(values) > 2 * len(part.values) or not all_of_it.fits_ids():
            raise all_of_it.unread()  # a few numbers among other words or numbers are no column of ids
        how = "ids"
        _check_ids(some)
    if how == "names" and some.short:
        logger.warning("%s", messages.read_as(some.held, some.short, labels, column, option))
    return how, some.whole[how]


def _check_ids(column: _Column) -> None:
    """Refuse ids that commonly mean something else, and warn of those that may count from 1."""
    ids, told = column.whole["ids"], column.told()
    if meant := common_meaning(set(ids.values()), column.labels):
        raise ValueError(messages.common_codes(column.held, ids, meant, *told[1:], column.option))
    if ids and 0 not in ids.values() and any(i > 0 for i in ids.values()):
        from_1 = column.whole["ids_from_1"]
        logger.warning("%s", messages.ids_without_zero(column.held, ids, from_1, *told[1:], column.option))


class _Column:
    """
    The different values of a label column and every way to read them.

    Attributes:
        readings (`dict`): The label of each value as a name, an id, or a number that counts from 1, or `None`.
        whole (`dict`): Those readings that read every value.
        short (`dict`): Values that are read as names because they are commonly short for them.
        numbers (`set`): Values that are numbers and not -1 for no label.
        strange (`set`): Values that are no names.
    """

    def __init__(self, values: Mapping[tuple, object], labels: Sequence[str], name: str, option: str) -> None:
        self.values, self.labels, self.name, self.option = values, labels, name, option
        self.held = {key: written(value) for key, value in values.items()}
        names = Names(labels)
        minus = None if names.find(ABSTAIN) is not None else ABSTAIN
        found = {key: ABSTAIN if _is(v, minus) else names.find(v) for key, v in values.items()}
        found |= {key: names.find_begun(values[key]) for key, i in found.items() if i is None}
        left = {key: values[key] for key, i in found.items() if i is None}
        self.short = names.abbreviations(left, set(found.values()))
        self.readings = {
            "names": {**found, **self.short},
            "ids": {key: _id(v, len(labels), 0, minus) for key, v in values.items()},
            "ids_from_1": {key: _id(v, len(labels), 1, minus) for key, v in values.items()},
        }
        fits = {name: {k: i for k, i in found.items() if i is not None} for name, found in self.readings.items()}
        self.whole = {name: read for name, read in fits.items() if len(read) == len(values)}
        self.numbers = {key for key, v in values.items() if number_of(v) is not None and not _is(v, minus)}
        self.strange = set(values) - set(fits["names"])
        self.ids = fits["ids"]
        self.odd = [self.held[key] for key in values if key in self.numbers & self.strange]

    def reads(self, key: tuple) -> bool:
        """Whether a value has any reading."""
        return any(found[key] is not None for found in self.readings.values())

    def has_names_among_numbers(self) -> bool:
        """Whether some of the numbers are names, and others not."""
        return bool(self.odd) and not self.numbers <= self.strange

    def fits_ids(self) -> bool:
        """Whether all numbers could be ids, and nothing else is a name."""
        return all(key in self.ids for key in self.values if key in self.numbers or key not in self.strange)

    def told(self) -> tuple[dict[tuple, str], Sequence[str], str]:
        """The first arguments of every message: the values, the labels and the name of the column."""
        return self.held, self.labels, self.name

    def unread(self, how: LabelValues = "auto") -> ValueError:
        """What is raised where no reading fits, or not the one that was asked for."""
        told = messages.none_fits(self.held, self.readings, self.labels, self.name, how, self.option)
        return ValueError(told)


def _is(value: object, number: int | None) -> bool:
    return number is not None and number_of(value) == number


def _id(value: object, num_labels: int, first: int, missing: int | None) -> int | None:
    number = number_of(value)
    if (
        number is None or number.denominator != 1 or isinstance(value, str) and _PADDED.match(value)
    ):  # nobody counts 00, 01, 02
        return None
    if missing is not None and number == missing:
        return ABSTAIN
    place = int(number) - first
    return place if 0 <= place < num_labels else None
