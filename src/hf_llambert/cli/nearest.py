"""Errors that name the option, the argument or the command that was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

_MOST = 3  # names in one hint


class Command(TyperCommand):
    """A command that says, where an option is missing or unknown, which of what was typed may be a misspelling of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command`."""
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            missing = getattr(getattr(error, "param", None), "opts", None)  # click's MissingParameter
            if missing and not getattr(error, "message", None):
                known = own_options(self)
                hints = [
                    no_such_option(word, known)
                    for word in option_names(typed)
                    if word not in known and set(nearest(word, known)[:1]) & {one.lstrip("-") for one in missing}
                ]
                vars(error)["message"] = " ".join(hints)
            raise


def own_options(command: Any) -> list[str]:
    """The options of a command by their names, without dashes."""
    given = (name for one in command.params for name in (*one.opts, *one.secondary_opts))
    return [name.removeprefix("--") for name in given if name.startswith("--")]


def option_names(words: Iterable[str]) -> list[str]:
    """The options among the words of a command line, by their names."""
    return [word[2:].partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]


def refuse_unknown(context: typer.Context, classes: Callable[[], Sequence[type]], where: str) -> None:
    """
    Raise where a further argument of a command is none of the classes that take them; the nearest names are said.

    Args:
        context (`typer.Context`): Of the command; `context.args` are the further arguments.
        classes (`Callable`): Gives the dataclasses whose arguments they may be. Called only where there are any.
        where (`str`): Where these arguments are listed, for the error.

    Raises:
        ValueError: An argument is unknown.
    """
    names = option_names(context.args)
    if not names:
        return
    known = [one.name for cls in classes() for one in dataclasses.fields(cls) if one.init]
    for name in names:
        plain = name.replace("-", "_")
        if plain not in known and plain.removeprefix("no_") not in known:
            raise ValueError(no_such_option(name, [*own_options(context.command), *known], where))


def no_such_option(name: str, known: Iterable[str], where: str = "") -> str:
    """A sentence about an unknown option, with the nearest of those that there are."""
    found = " or ".join(f"--{one}" for one in nearest(name, known))
    return f"No such option --{name}." + (f" Did you mean {found}?" if found else f" See {where}." if where else "")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Names that are spelled nearly so, the nearest first; else those that have it as a part."""
    plain, names = name.lower().replace("-", "_"), list(dict.fromkeys(known))
    having = [one for one in names if len(plain) > 2 and f"_{plain}_" in f"_{one}_"][:_MOST]
    return (
        difflib.get_close_matches(plain, names, _MOST, 0.75)
        or having
        or difflib.get_close_matches(plain, names, 1, 0.6)
    )
