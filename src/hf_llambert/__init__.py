"""Label a big text corpus at the price of a small one: an LLM annotates a sample, a small encoder labels the rest."""

import importlib

__version__ = "0.1.0"

# The one list of public names is the stub beside, which type checkers read: a name a line, with the module that has it.
_LINES = __spec__.loader.get_data(f"{__path__[0]}/__init__.pyi").decode().splitlines()
_HOMES = {words[3]: words[1] for words in map(str.split, _LINES) if words[:1] == ["from"]}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604  (names only)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_llambert' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
