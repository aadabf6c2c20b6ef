"""Prices of models, from a table that the user writes. None is shipped: prices differ by contract, and change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from hf_llambert.planning.public_prices import NAME as PUBLIC
from hf_llambert.planning.public_prices import public_price, public_source, require_public_prices

_FORM = (
    "a mapping from model to its price, such as 'my-model: {input_per_million: 0.1, output_per_million: 0.4, currency: EUR}' "
    "or 'my-model: {per_hour: 2.5, currency: EUR}'"
)

_BY_TOKEN = ("input_per_million", "output_per_million")
_BY_BATCH = ("batch_input_per_million", "batch_output_per_million", "batch_cached_input_per_million")
_BESIDE = ("cached_input_per_million", *_BY_BATCH)
_OTHERS = "others"


@dataclass(frozen=True)
class Price:
    """
    What one model costs: by the token, or by the hour of the machine that runs it.

    Args:
        currency (`str`): Such as `EUR`. Only shown; nothing is converted.
        input_per_million (`float`, *optional*): Money for a million tokens read.
        output_per_million (`float`, *optional*): Money for a million tokens written. With only one of the two the other is 0.
        per_hour (`float`, *optional*): Money for an hour of the machine.
        per_gpu_hour (`float`, *optional*): Money for an hour of one GPU.
        gpus (`int`, defaults to 1): GPUs that run the model, with `per_gpu_hour`.
        batch_input_per_million (`float`, *optional*): Money for a million tokens read in a batch.
        batch_output_per_million (`float`, *optional*): Money for a million tokens written in a batch. Both or none.
        cached_input_per_million (`float`, *optional*): Money for a million tokens that the service reads from its cache. Plans
            say what that may save; the cap of a batch service counts it.
        batch_cached_input_per_million (`float`, *optional*): The same in a batch.

    Raises:
        ValueError: A number is negative or none, or it is not clear what is paid for.
    """

    currency: str
    input_per_million: float | None = None
    output_per_million: float | None = None
    per_hour: float | None = None
    per_gpu_hour: float | None = None
    gpus: int = 1
    batch_input_per_million: float | None = None
    batch_output_per_million: float | None = None
    cached_input_per_million: float | None = None
    batch_cached_input_per_million: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.currency, str) or not self.currency.strip():
            raise ValueError(f"currency must be a name such as EUR, got {self.currency!r}.")
        for name in (*_BY_TOKEN, *_BESIDE, "per_hour", "per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not _is_amount(value):
                raise ValueError(f"{name} must be a number of 0 or more, got {value!r}.")
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, int) or self.gpus < 1:
            raise ValueError(f"gpus must be a whole number of 1 or more, got {self.gpus!r}.")
        if self.gpus != 1 and self.per_gpu_hour is None:
            raise ValueError("gpus goes with per_gpu_hour. Drop it, or give the price of one GPU.")
        by_token = any(getattr(self, name) is not None for name in _BY_TOKEN)
        if not by_token and any(getattr(self, name) is not None for name in _BESIDE):
            raise ValueError(f"{', '.join(_BESIDE)} stand beside input_per_million and output_per_million. Add these.")
        if (self.batch_input_per_million is None) != (self.batch_output_per_million is None):
            raise ValueError(
                "batch_input_per_million and batch_output_per_million go together. Give both, 0 where it is free."
            )
        ways = (
            by_token,
            self.per_hour is not None,
            self.per_gpu_hour is not None,
        )
        if sum(ways) != 1:
            raise ValueError(
                "A price is per_hour, or per_gpu_hour, or input_per_million and output_per_million: one of the three, got "
                f"{'none' if not any(ways) else 'several'}."
            )

    @property
    def by_token(self) -> bool:
        """Whether tokens are paid for, not time."""
        return self.per_hour is None and self.per_gpu_hour is None

    @property
    def in_batch(self) -> Price | None:
        """The price in a batch; `None` where that is not known."""
        read, wrote = self.batch_input_per_million, self.batch_output_per_million
        cached = self.batch_cached_input_per_million
        return None if read is None else Price(self.currency, read, wrote, cached_input_per_million=cached)

    def cost(self, seconds: float, input_tokens: float, output_tokens: float) -> float:
        """Money for so many seconds of work in which so many tokens were read and written."""
        if self.by_token:
            return (
                input_tokens * (self.input_per_million or 0) + output_tokens * (self.output_per_million or 0)
            ) / 1e6
        return seconds / 3600 * (self.per_hour if self.per_hour is not None else self.gpus * (self.per_gpu_hour or 0))


@dataclass(frozen=True)
class PriceTable:
    """
    Prices by model, as [`load_prices`] reads them.

    Args:
        prices (`Mapping[str, Price]`): By the model's name.
        source (`str`, defaults to `"prices"`): Where they are from, for errors.
        public (`bool`, defaults to `False`): Whether other models have the price that the package genai-prices has.
    """

    prices: Mapping[str, Price]
    source: str = "prices"
    public: bool = False

    def find(self, model: str) -> Price | None:
        """The price of a model by its whole name, or by the last part of a path; `None` when the table has neither."""
        own = self.prices.get(model) or self.prices.get(Path(model).name)
        if own is not None or not self.public:
            return own
        found = public_price(model)
        return None if found is None else Price(**found)  # type: ignore[arg-type]

    def origin(self, model: str) -> str | None:
        """Where the price of a model is from, if it is no line of the table itself."""
        own = model in self.prices or Path(model).name in self.prices
        return None if own or not self.public or self.find(model) is None else public_source()

    def of(self, model: str, in_batch: bool = False) -> Price:
        """
        The price of a model, as [`~PriceTable.find`].

        Args:
            model (`str`): The model's name.
            in_batch (`bool`, defaults to `False`): Its price at a batch service.

        Raises:
            ValueError: The table does not have it; the message lists the models that it has.
        """
        price = self.find(model)
        if price is None:
            raise ValueError(
                f"{self.source} has no price of '{model}'; it has {', '.join(self.prices) or 'no model'}. Add a line such as "
                f"'{Path(model).name}: {{input_per_million: ..., output_per_million: ..., currency: ...}}', or with per_hour "
                f"for a machine of one's own."
            )
        if not in_batch:
            return price
        if price.in_batch is None:
            raise ValueError(
                f"{self.source} has no price of '{model}' in a batch, which differs from that of single requests. Add "
                f"batch_input_per_million and batch_output_per_million to its line."
            )
        return price.in_batch


def load_prices(path: str | Path) -> PriceTable:
    """
    Read a price table from a YAML file, such as

    ```yaml
    my-served-model:                # paid by the token: money for a million
      input_per_million: 0.10
      output_per_million: 0.40
      batch_input_per_million: 0.05   # where there is a batch service: what it takes
      batch_output_per_million: 0.20
      currency: EUR
    SmolLM2-135M-Instruct:          # runs on a machine that is paid by the hour
      per_hour: 0.08                # or per_gpu_hour, with gpus: 4
      currency: EUR
    others: genai-prices            # published prices of models that are not above: pip install 'hf-llambert[prices]'
    ```

    `genai-prices` in place of a file stands for published prices alone.

    Raises:
        ValueError: There is no such file, it is no YAML, or an entry has an unknown key or a number that cannot be a price.
    """
    if str(path) == PUBLIC and not Path(path).exists():
        require_public_prices()
        return PriceTable({}, public_source(), public=True)
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"The price table '{path}' cannot be read: {error}") from error
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"{path}: expected {_FORM}; got {found!r}.")
    public = isinstance(found.get(_OTHERS), str)
    if public:
        if found[_OTHERS] != PUBLIC:
            raise ValueError(f"{path}: {_OTHERS} must be {PUBLIC}, got {found[_OTHERS]!r}.")
        require_public_prices()
    known = [field.name for field in fields(Price)]
    prices = {}
    for model, entry in found.items():
        if public and model == _OTHERS:
            continue
        if not isinstance(model, str) or not isinstance(entry, Mapping):
            raise ValueError(f"{path}: expected {_FORM}; got {model!r}: {entry!r}.")
        unknown = [str(name) for name in entry if name not in known]
        if unknown:
            raise ValueError(f"{path}: the price of '{model}' has {', '.join(known)}, not {', '.join(unknown)}.")
        if "currency" not in entry:
            raise ValueError(f"{path}: the price of '{model}' has no currency. Add a line such as currency: EUR.")
        try:
            prices[model] = Price(**entry)
        except ValueError as error:
            raise ValueError(f"{path}: the price of '{model}': {error}") from error
    return PriceTable(prices, str(path), public)


def run_cost(report: Mapping, table: PriceTable) -> dict:
    """
    What a run has cost by a price table: the teacher's tokens or time, the student's time.

    Args:
        report (`Mapping`): The content of `report.json`; see [`write_report`].
        table (`PriceTable`): Prices of the teacher, or of each member of a jury, and of the student where one was trained.

    Returns:
        `dict`: `annotate`, `train`, `label` (`None` where that was not done), `total` and `currency`.

    Raises:
        ValueError: A model is not in the table, or the prices are in several currencies.
    """
    teacher, student, labels = report["teacher"], report["student"], report["labels"]
    asked = (list(teacher["members"].values()) if teacher["mode"] == "jury" else [teacher]) if teacher else []
    used = [
        (table.of(str(said.get("model")), said.get("teacher") == "batch"), one)
        for one in asked
        if (said := one["settings"])
    ]
    out: dict = {"annotate": None, "train": None, "label": None}
    if used:
        out["annotate"] = sum(p.cost(one["seconds"], one["input_tokens"], one["output_tokens"]) for p, one in used)
    prices = [price for price, _ in used]
    if student:
        price = table.of(student["train"]["student"])
        if price.by_token:
            raise ValueError(
                f"{table.source}: a student is paid by the hour, not by the token. Give it per_hour or per_gpu_hour."
            )
        prices.append(price)
        out["train"] = price.cost(student["train"]["seconds"], 0, 0)
        out["label"] = price.cost(labels["seconds"], 0, 0) if labels else None
    currencies = sorted({price.currency for price in prices})
    if len(currencies) > 1:
        raise ValueError(f"{table.source}: expected one currency, got {', '.join(currencies)}. Convert them.")
    return out | {"total": sum(part for part in out.values() if part is not None), "currency": currencies[0]}


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
