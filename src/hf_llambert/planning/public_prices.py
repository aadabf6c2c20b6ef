"""Published prices, as the package genai-prices has them, for models that the user's own table does not name."""

from __future__ import annotations

from importlib.metadata import version

NAME = "genai-prices"
"""What a price table, or --prices, calls them."""

_TOKENS = 1000  # few enough for the first of prices that grow with the prompt
_BATCH = {"processing": "batch"}


def public_source() -> str:
    """The package and its version, which is as old as its prices: nothing is fetched."""
    return f"{NAME} {version(NAME)}"


def require_public_prices() -> None:
    """
    See that the package is there.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import genai_prices  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Prices from {NAME} need that package. Install it with: pip install 'hf-llambert[prices]', or give the prices in a "
            f"table of your own."
        ) from error


def public_price(model: str) -> dict[str, object] | None:
    """The published price of a model in US dollars, as a table's line; `None` where there is none."""
    from genai_prices import Usage, calc_price

    def dollars(usage: Usage, in_batch: bool) -> float:
        found = calc_price(usage, model, price_context=_BATCH if in_batch else None)
        return float(found.total_price) * 1e6 / _TOKENS

    read, wrote = Usage(input_tokens=_TOKENS, output_tokens=0), Usage(input_tokens=0, output_tokens=_TOKENS)
    cached = Usage(input_tokens=_TOKENS, cache_read_tokens=_TOKENS, output_tokens=0)
    try:
        out: dict[str, object] = {
            "currency": "USD",
            "input_per_million": dollars(read, False),
            "output_per_million": dollars(wrote, False),
            "cached_input_per_million": dollars(cached, False),
        }
        variants = calc_price(read, model).model.price_variants or []
    except (LookupError, ValueError):
        return None
    if any(variant.when == _BATCH for variant in variants):
        out |= {
            "batch_input_per_million": dollars(read, True),
            "batch_output_per_million": dollars(wrote, True),
            "batch_cached_input_per_million": dollars(cached, True),
        }
    return out
