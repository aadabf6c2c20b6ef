"""Teachers from the words of a command line, and what they may cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hf_llambert.cli.nearest import refuse_unknown
from hf_llambert.tasks.texts import row_texts
from hf_llambert.teachers.base import asks_in_batches

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import Limits, LLMLabeler, Price, PriceTable
    from hf_llambert.teachers.base import Teacher

_NOTHING = 1e-12  # what is left of a budget that is spent; an endpoint's cap cannot be 0


def named_teachers(given: list[str], backend: str, arguments: list[str], seed: int) -> list[tuple[str, Teacher]]:
    """The teachers that were named, the arguments being for those that are no YAML files."""
    from hf_llambert.teachers.kinds import load_teacher, teacher_from_arguments

    files = [name for name in given if Path(name).suffix in (".yaml", ".yml")]
    if arguments and given and len(files) == len(given):
        raise ValueError(f"The arguments {arguments} belong to no teacher. Put them into {', '.join(files)}.")
    return [
        (Path(name).stem, load_teacher(name))
        if name in files
        else (
            Path(name).name,
            teacher_from_arguments(backend, [*arguments, *(("--model", name) if name else ())], seed),
        )
        for name in given or [""]  # some kinds need no model's name
    ]


def refuse_unknown_of_teacher(context: typer.Context, backend: str) -> None:
    """
    Raise where a further argument of a command is none of its teacher's class; the nearest names are said.

    Raises:
        ValueError: There is no such argument, or no such kind of teacher.
    """
    from hf_llambert.teachers.kinds import teacher_class

    refuse_unknown(context, lambda: [teacher_class(backend)], f"docs/teachers.md for a teacher of the kind {backend}")


def prices_of(labelers: Mapping[str, LLMLabeler], table: PriceTable | None) -> dict[str, Price] | None:
    """
    The price of each labeler's teacher, all in one currency; `None` without a table.

    Raises:
        ValueError: A price is missing, or they are in several currencies.
    """
    if table is None:
        return None
    found = {name: table.of(_model(one), asks_in_batches(one.teacher)) for name, one in labelers.items()}
    currencies = sorted({price.currency for price in found.values()})
    if len(currencies) > 1:
        raise ValueError(f"The teachers are priced in {' and '.join(currencies)}. Put them in one currency.")
    return found


def limits_of(
    labelers: Mapping[str, LLMLabeler],
    data: Dataset,
    max_cost: float | None,
    max_hours: float | None,
    prices: Mapping[str, Price] | None,
) -> Limits | None:
    """
    The caps of a command line. An endpoint, or a batch service, gets its own cap on money, less what earlier runs spent on
    these rows.

    Raises:
        ValueError: The caps do not make sense, a price is missing, or several members would share an endpoint's cap.
    """
    from hf_llambert import Limits
    from hf_llambert.annotation.limits import caps_itself

    if max_cost is None or not any(caps_itself(one.teacher) for one in labelers.values()):
        if max_cost is not None and prices is None:
            models = " and ".join(_model(one) for one in labelers.values())
            raise ValueError(f"--max_cost needs --prices FILE with the price of {models}.")
        if max_cost is None and max_hours is None:
            return None
        costs = {name: price.cost for name, price in (prices or {}).items()}
        currency = next((price.currency for price in (prices or {}).values()), "")
        return Limits(max_cost, costs if len(costs) > 1 else next(iter(costs.values()), None), max_hours, currency)
    if len(labelers) > 1:
        raise ValueError(
            "--max_cost is of one endpoint or batch service. Of a jury give each teacher its own max_cost, in its YAML file."
        )
    [(name, one)] = labelers.items()
    _cap(one, data, max_cost, None if prices is None else prices[name])
    return None if max_hours is None else Limits(max_hours=max_hours)


def _cap(labeler: LLMLabeler, data: Dataset, max_cost: float, price: Price | None) -> None:
    """Give the labeler's endpoint, or batch service, its price and what is left of its money."""
    from hf_llambert import BatchTeacher
    from hf_llambert.annotation.limits import caps_itself

    teacher = labeler.teacher
    if not caps_itself(teacher):
        return
    if not max_cost > 0:
        raise ValueError(f"max_cost must be a positive number, got {max_cost!r}.")
    if price is not None:
        if not price.by_token:
            raise ValueError(
                f"--max_cost of an endpoint or batch service is by the token, the price of '{teacher.model}' is by the hour."
            )
        if teacher.price_input or teacher.price_output:
            raise ValueError("Give the price once: in --prices, or as --price_input and --price_output.")
        teacher = dataclasses.replace(
            teacher, price_input=price.input_per_million or 0.0, price_output=price.output_per_million or 0.0
        )
        if isinstance(teacher, BatchTeacher):
            teacher = dataclasses.replace(teacher, price_cached_input=price.cached_input_per_million)
    _, (read, written) = labeler.spent(row_texts(data, labeler.text_column))
    spent = (read * teacher.price_input + written * teacher.price_output) / 1e6
    labeler.teacher = dataclasses.replace(teacher, max_cost=max(max_cost - spent, _NOTHING))


def _model(labeler: LLMLabeler) -> str:
    return str(labeler.teacher.settings().get("model", "teacher"))
