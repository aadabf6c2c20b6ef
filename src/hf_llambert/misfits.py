"""What a value of a JSON note must be like, and where one is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Shape = Any
"""
What a value of a note must be:

- a type: `int` is no boolean, `float` takes whole numbers too; `None` is null;
- [`Within`]: a number within bounds;
- a tuple: any one of its shapes;
- a list of one shape: a list of such values;
- a mapping: an object that has these fields, of these shapes; a name that ends in `?` may be missing, and the key `ANY`
  stands for every other name, `AGREE` for a function that says where fields that fit contradict one another;
- [`Chosen`]: one of several shapes, which the value itself tells;
- a function that returns why a value does not fit, or `None` where it does.
"""

ANY, AGREE = "", "="
_MOST = 2**63  # no count and no figure is more
ROUNDING = 1e-5  # a mean of ones may come out a little above
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True)
class Within:
    """
    A number within bounds; never NaN.

    Args:
        kind (`type`): `int` or `float`.
        low (`float`, defaults to 0): The least.
        high (`float`, *optional*): The largest.
    """

    kind: type
    low: float = 0
    high: float = _MOST

    def __contains__(self, value: float) -> bool:
        return self.low - ROUNDING <= value <= self.high + ROUNDING

    def __str__(self) -> str:
        return f"{_NAMES[self.kind]} from {self.low}{f' to {self.high}' if self.high < _MOST else ''}"


@dataclass(frozen=True)
class Chosen:
    """
    One of several shapes.

    Args:
        pick (`Callable`): Which one a value must be of.
    """

    pick: Callable[[object], Shape]


COUNT, AMOUNT, SHARE = Within(int), Within(float), Within(float, high=1)
DIFFERENCE = Within(float, -1, 1)


def misfit(value: object, shape: Shape, place: str = "") -> str | None:
    """Where a value is not of a shape, what was expected there and what came; `None` where it fits."""
    while isinstance(shape, Chosen):
        shape = shape.pick(value)
    if isinstance(shape, tuple):
        return _misfit_of_all(value, shape, place)
    if isinstance(shape, Mapping):
        return _misfit_of_object(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list):
        return _first(misfit(one, shape[0], f"{place}[{k}]") for k, one in enumerate(value))
    if isinstance(shape, list):
        return _wrong(place, "a list", value)
    if isinstance(shape, (type, Within)) or shape is None:
        return None if _is_a(value, shape) else _wrong(place, _name(shape), value)
    said = shape(value)
    return None if said is None else f"{place or 'it'}: {said}, got {shown_value(value)}"


def _misfit_of_all(value: object, shapes: tuple[Shape, ...], place: str) -> str | None:
    shapes = tuple(one.pick(value) if isinstance(one, Chosen) else one for one in shapes)
    found = [misfit(value, one, place) for one in shapes]
    if None in found:
        return None
    nearest = next((said for one, said in zip(shapes, found, strict=True) if type(value) is type(one)), None)
    return nearest or _wrong(place, _name(shapes), value)


def _misfit_of_object(value: object, shape: Mapping[str, Shape], place: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(place, "an object", value)
    inside = f"{place}." if place else ""
    for name, one in shape.items():
        known = name.removesuffix("?")
        if name == AGREE:
            said = one(value)
            wrong = None if said is None else f"{place or 'it'}: {said}"
        elif name == ANY:
            wrong = _first(misfit(v, one, f"{inside}{k}") for k, v in value.items() if k not in shape)
        elif known in value:
            wrong = misfit(value[known], one, f"{inside}{known}")
        else:
            wrong = None if name.endswith("?") else f"expected {_name(one)} at '{inside}{known}', which is missing"
        if wrong is not None:
            return wrong
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _is_a(value: object, kind: type | Within | None) -> bool:
    if isinstance(kind, Within):
        return _is_a(value, kind.kind) and value in kind  # type: ignore[operator]  # a number
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind in (bool, object)
    if isinstance(value, int) and abs(value) > _MOST:
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _wrong(place: str, expected: str, value: object) -> str:
    return f"expected {expected}{f' at {place!r}' if place else ''}, got {shown_value(value)}"


def _name(shape: Shape) -> str:
    if isinstance(shape, type):
        return _NAMES.get(shape, shape.__name__)
    if isinstance(shape, Within):
        return str(shape)
    if isinstance(shape, tuple):
        return " or ".join(_name(one) for one in shape)
    if isinstance(shape, (Mapping, Chosen, list)):
        return _NAMES[list if isinstance(shape, list) else dict]
    if shape is None:
        return "null"
    return {"task_shape": "a task", "empty_shape": "an empty object"}.get(shape.__name__, "a table")


def shown_value(value: object) -> str:
    """A value as an error shows it: its type, and the beginning of it."""
    shown = json.dumps(value, ensure_ascii=False)
    return f"{_NAMES[type(value)]}: {shown[:60]}{'…' * (len(shown) > 60)}" if value is not None else "null"
