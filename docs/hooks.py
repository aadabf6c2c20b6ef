"""What mkdocs and griffe ask while the pages are built: the reference, written from the code.

`on_files` adds two pages: every command, from the typer application, and every public name, from `hf_llambert.__all__`,
whose docstrings mkdocstrings then reads without importing anything heavy. `Docstrings` turns the docstrings of this house
into those that it understands.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from typer import Typer
    from typer.models import CommandInfo, TyperInfo

SOURCE = Path(__file__).resolve().parent.parent / "src"
STAGES = {
    "tasks": "The task",
    "data": "Data",
    "metrics": "Metrics",
    "teachers": "Teachers",
    "annotation": "Annotating",
    "training": "Training",
    "pool": "Labelling the pool",
    "quality": "Quality",
    "hub": "The Hub",
}
"""Headings of the page of public names; a folder of the package that is not here gets its own name."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference to those that were found on disk."""
    from mkdocs.structure.files import File

    for path, content in (("reference/commands.md", commands_page()), ("reference/python.md", python_page())):
        files.append(File.generated(config, path, content=content))
    return files


def python_page() -> str:
    """Every public name, in the order in which the data meets the folders of the package."""
    homes = _package("hf_llambert")._HOMES
    stages: dict[str, list[str]] = {}
    for name in sorted(homes, key=str.lower):
        stages.setdefault(homes[name].split(".")[1], []).append(name)
    order = sorted(stages, key=lambda stage: [*STAGES, stage].index(stage))
    titles = {stage: STAGES.get(stage, stage.capitalize()) for stage in order}
    lines = [
        "# Python",
        "",
        "Everything that `hf_llambert` exports, written from its docstrings. Importing the package loads no model and "
        "nothing heavy; each name is imported when it is first used.",
        "",
    ]
    lines += [
        f"- **{titles[stage]}**: {', '.join(f'[`{n}`][hf_llambert.{n}]' for n in stages[stage])}" for stage in order
    ]
    for stage in order:
        lines += ["", f"## {titles[stage]}"]
        for name in stages[stage]:
            lines += ["", f"::: hf_llambert.{name}"]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    from typer.models import CommandInfo

    lines = [
        "# Command line",
        "",
        "Every command, written from the code; `hf-llambert COMMAND --help` says the same. With `--debug` before the command "
        "it tells more of what goes on, and where an error arose.",
    ]
    for level, path, command in commands(_package("hf_llambert.cli").app, "hf-llambert"):
        lines += ["", f"{'#' * level} {path}", "", _prose(_help(command))]
        if not isinstance(command, CommandInfo):
            continue
        parameters = _parameters(command.callback)
        usage = [path, *(row.names[0].upper() for row in parameters if row.is_argument), "[OPTIONS]"]
        if (command.context_settings or {}).get("allow_extra_args"):
            usage.append("[ARGUMENTS OF THE CLASS]")
        lines += ["", "```text", " ".join(usage), "```", "", "| | default | |", "|---|---|---|"]
        lines += [row.markdown() for row in sorted(parameters, key=lambda row: not row.required)]
    return "\n".join(lines) + "\n"


def commands(app: Typer, path: str, level: int = 2) -> Iterator[tuple[int, str, CommandInfo | TyperInfo]]:
    """Each command and group of commands, with its whole name and its depth (2 = the first)."""
    for command in app.registered_commands:
        yield level, f"{path} {command.name or command.callback.__name__}", command
    for group in app.registered_groups:
        name = f"{path} {group.name}"
        yield level, name, group
        yield from commands(group.typer_instance, name, level + 1)


def _help(command: CommandInfo | TyperInfo) -> str:
    callback = getattr(command, "callback", None)
    if callback is not None:
        return inspect.getdoc(callback) or ""
    return command.typer_instance.info.help  # type: ignore[union-attr]


def _package(name: str):  # noqa: ANN202
    """A module of this working tree, whatever else is installed."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
    return importlib.import_module(name)


def _prose(text: str) -> str:
    """Help as Markdown: options and capitals in code, nothing taken for markup."""
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())
    text = text.replace("*", r"\*").replace("<", "&lt;").replace("|", r"\|")
    text = re.sub(r"\bdocs/(\w+\.md)", r"[docs/\1](../docs/\1)", text)
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]*(?:/--[\w-]+)?)", r"`\1`", text)


class Row(typing.NamedTuple):
    """One argument or option of a command."""

    names: tuple[str, ...]
    kind: str
    default: object
    required: bool
    help: str

    @property
    def is_argument(self) -> bool:
        """Whether it goes by its place, not by a name with dashes."""
        return not self.names[0].startswith("-")

    def markdown(self) -> str:
        """The row of the table."""
        name = self.names[0].upper() if self.is_argument else " ".join(("/".join(self.names), self.kind)).strip()
        shown = "" if self.default is None or self.default is False or self.default == "" else f"`{self.default}`"
        return f"| `{name}` | {'*required*' if self.required else shown} | {_prose(self.help)} |"


def _parameters(callback: Callable[..., None]) -> list[Row]:
    """From the signature, which is where typer reads them too."""
    hints = typing.get_type_hints(callback, include_extras=True)
    rows = []
    for parameter in inspect.signature(callback).parameters.values():
        hint = hints[parameter.name]
        if not hasattr(hint, "__metadata__"):  # Python 3.10 sets `| None` around what has a default of None
            hint = next((one for one in typing.get_args(hint) if hasattr(one, "__metadata__")), None)
        if hint is None:  # the context
            continue
        kind, info = hint.__origin__, hint.__metadata__[0]
        declared = [one for one in (info.default, *(info.param_decls or ())) if str(one).startswith("-")]
        names = tuple(declared[0].split("/")) if declared else (parameter.name,)
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        rows.append(Row(names, _kind(kind), default, required, info.help or ""))
    return rows


def _kind(hint: object) -> str:
    """What stands after an option: nothing after a switch."""
    inner = [one for one in typing.get_args(hint) if one is not type(None)]
    if inner:
        return _kind(inner[0]) + (" ..." if typing.get_origin(hint) is list else "")
    return {bool: "", int: "N", float: "X", str: "TEXT", Path: "PATH"}[hint]


class Docstrings(griffe.Extension):
    """Hugging Face's docstrings to griffe: types come from the signature, and links become links."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of each object that is loaded."""
        if obj.docstring is None:
            return
        text = re.sub(
            r"^(\s+\*{0,2}\w+) \(`[^)\n]*(?:\([^)\n]*\)[^)\n]*)*\):", r"\1:", obj.docstring.value, flags=re.MULTILINE
        )
        text = re.sub(
            r"(?<=Returns:\n)(\s+)`([^`\n]+)`(?: ([^:`\n]+:))?",
            lambda m: f"{m[1]}{m[2]}: {m[3]}" if m[3] else m[1] + m[2],
            text,
        )
        names = _package("hf_llambert")._HOMES

        def link(found: re.Match) -> str:
            owner = found[1].split(".")[0]
            return f"[`{found[1]}`][hf_llambert.{found[1]}]" if owner in names else f"`{found[1]}`"

        obj.docstring.value = re.sub(r"\[`~?([\w.]+)`\](?!\[|\()", link, text)
