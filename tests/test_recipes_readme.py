"""Every command of the recipes' pages can be typed as it stands there; the small ones are run."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from trl import TrlParser

from hf_llambert import StudentConfig, load_task
from hf_llambert.cli import app
from hf_llambert.teachers.kinds import teacher_class

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def commands(page: Path, kind: str = r"bash[^\n]*") -> list[list[str]]:
    """The words of each command in the page's blocks of a kind, without comments and variables, continued lines joined."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for line in found if (words := [word for word in line if not re.fullmatch(r"[A-Z_]+=\S*", word)])]


def script_in(words: list[str]) -> int | None:
    """Where a command names a recipe."""
    return next((i for i, word in enumerate(words) if re.fullmatch(r"recipes/[\w/]+\.py", word)), None)


RECIPES = {" ".join(words): words for page in PAGES for words in commands(page) if script_in(words) is not None}
SMALL = {" ".join(words): words for words in commands(PAGES[0], "bash small")}


class Parsed(BaseException):
    """Arguments were read; the recipe goes no further."""


@pytest.mark.parametrize("command", RECIPES)
def test_command_of_a_page_is_understood_by_its_recipe(command, monkeypatch):
    words = RECIPES[command]
    place = script_in(words)
    script = ROOT / words[place]
    original = TrlParser.parse_args_and_config

    def parse(self, args=None, **kwargs):
        without = ["--bf16", "false"] if "--bf16" in self._option_string_actions else []  # this machine may have none
        raise Parsed(original(self, [*sys.argv[1:], *without], **kwargs)[0])

    monkeypatch.setattr(TrlParser, "parse_args_and_config", parse)
    monkeypatch.setattr(sys, "argv", [str(script), *words[place + 1 :]])
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.chdir(ROOT)
    with pytest.raises(Parsed) as found:
        runpy.run_path(str(script), run_name="__main__")
    task = getattr(found.value.args[0], "task", None)
    assert task is None or min(one.num_labels for one in load_task(task).parts.values()) >= 2


def of_the_command_line(words: list[str]) -> list[str]:
    """The words after `hf-llambert`, or nothing where a command is another program's."""
    starts = [i for i, word in enumerate(words) if word in ("hf-llambert", "hf_llambert.cli")]
    return words[starts[0] + 1 :] if starts else []


TYPED = {" ".join(words): words for page in PAGES for line in commands(page) if (words := of_the_command_line(line))}


@pytest.mark.parametrize("command", TYPED)
def test_command_of_a_page_exists_with_its_options(command):
    words = TYPED[command]
    found = typer.main.get_command(app)
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    if found.context_settings.get("allow_extra_args"):  # the arguments of a teacher's class or of the student's
        kinds = [teacher_class(kind) for kind in ("transformers", "vllm", "endpoint", "recorded", "batch")]
        options |= {f"--{name}" for kind in (*kinds, StudentConfig) for name in kind.__dataclass_fields__}
    assert {word for word in words if word.startswith("--")} <= options


def test_pages_name_every_recipe():
    named = {words[script_in(words)] for words in RECIPES.values()}
    runnable = {str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/**/*.py") if "__main__" in path.read_text()}
    assert runnable - named == {"recipes/quickstart_assets.py"}  # make assets


@pytest.mark.real
@pytest.mark.parametrize(
    "command", [list(SMALL)[0], *(pytest.param(k, marks=pytest.mark.slow) for k in list(SMALL)[1:])]
)
def test_small_command_runs_as_written(command, assets, tmp_path, monkeypatch):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "assets").symlink_to(assets.resolve())
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "report: runs/" in done.stdout
