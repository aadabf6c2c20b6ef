"""`hf-llambert run`, `plan`, `annotate` and the other commands: one thin function each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from hf_llambert.cli.annotate import annotate
from hf_llambert.cli.distill import distill
from hf_llambert.cli.gate import gate
from hf_llambert.cli.init import init
from hf_llambert.cli.label import label
from hf_llambert.cli.ledger import ledger_app
from hf_llambert.cli.nearest import Command, no_such_option, own_options
from hf_llambert.cli.options import say
from hf_llambert.cli.plan import plan
from hf_llambert.cli.publish import push, report
from hf_llambert.cli.review import review
from hf_llambert.cli.run import run
from hf_llambert.cli.status import status
from hf_llambert.cli.train import train
from hf_llambert.cli.tune import tune
from hf_llambert.tasks.logs import VisibleFormatter
from hf_llambert.tasks.texts import visible


class _Commands(TyperGroup):
    """Commands whose errors of usage show the control characters of what was typed, or pasted, as signs."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _shown_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _shown_errors():
            return super().invoke(ctx)


@contextmanager
def _shown_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said = vars(error)  # click's; typer brings its own copy of click, whose classes have no public name
        if str(said.get("option_name")).startswith("--") and "possibilities" in said and said.get("ctx"):
            known = [*own_options(said["ctx"].command), *([] if said["ctx"].parent else ["debug"])]
            said |= {"message": no_such_option(said["option_name"][2:], known), "possibilities": None}
        if isinstance(said.get("message"), str):
            said["message"] = visible(said["message"])
        raise


def _reflowed(text: str | None) -> str:
    """A docstring without its line breaks but those between paragraphs: the terminal has its own width."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Label a big text corpus at the price of a small one: an LLM annotates a sample, a small encoder learns from it "
    "and labels the rest. hf-llambert --debug COMMAND shows where an error arose.",
)

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}  # the arguments of a class
for _command in (init, run, plan, tune, annotate, train, label, distill, status, report, review, gate, push):
    _settings = _ANY if _command in (run, plan, tune, annotate, train, label, distill) else {}
    app.command(cls=Command, context_settings=_settings, help=_reflowed(_command.__doc__))(_command)
app.add_typer(ledger_app, name="ledger")


def main() -> None:
    """Run the command line. An error that the user can mend is one sentence; --debug in front shows where it arose."""
    debug = "--debug" in sys.argv[1:2]
    if debug:
        sys.argv.pop(1)
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[handler])
    try:
        app()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if debug:
            raise
        say(f"Error: {error}", error=True)
        sys.exit(1)
    except KeyboardInterrupt:
        say("Stopped. What was answered is kept: the same command goes on from here.", error=True)
        sys.exit(130)
