"""The page on the architecture names files and functions that exist, and every floor in the order of the imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_llambert.tasks.kinds import KINDS
from test_package import ORDER, SOURCE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ITEMS = [item for item in re.split(r"\n(?=\d+\. |\||- |\n)", PAGE) if re.search(r"`[\w/]+\.(?:py|yaml)`", item)]
FILE = re.compile(r"`((?!tests/)[\w/]+\.(?:py|yaml))`")
FLOORS = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", PAGE.split("## The floors")[1], re.MULTILINE)


def test_page_has_the_items_that_the_tests_below_read():
    assert len(ITEMS) > 30


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.strip()[:40])
def test_named_files_exist_and_have_the_names_that_stand_beside_them(item):
    files = [SOURCE / path for path in FILE.findall(item)]
    assert [path for path in files if not path.is_file()] == []
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    names = [name for dotted in re.findall(r"`([A-Za-z_][\w.]*)`", FILE.sub("", item)) for name in dotted.split(".")]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("folder", sorted(set(re.findall(r"`(\w+)/`", PAGE))))
def test_named_folders_exist(folder):
    assert (SOURCE / folder).is_dir()


def test_floors_are_those_of_the_imports_in_their_order():
    assert [floor for floor in ORDER if floor not in ("__init__", "__main__")] == FLOORS


def test_every_module_and_folder_of_the_package_stands_on_a_floor():
    there = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__main__", "__pycache__", "builtin_tasks", *FLOORS} == set()


SOUGHT = {
    "An answer becomes a label": "annotation/asked.py",
    "A row is drawn for the sample": "data.py",
    "A row is drawn in the training": "training/draws.py",
    "A shard is written": "pool/share.py",
    "A text's control tokens are made harmless": "teachers/prompting.py",
    "A price is applied": "planning/prices.py",
    "A new teacher goes": "teachers/kinds.py",
}


@pytest.mark.parametrize("place", SOUGHT)
def test_what_a_newcomer_seeks_stands_first_with_its_file(place):
    (item,) = [item for item in ITEMS if item.startswith(f"- **{place}**")]
    assert SOUGHT[place] in FILE.findall(item)
    assert PAGE.index(item) < PAGE.index("## The way of one text")


def test_files_and_names_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = [ROOT / path for path in re.findall(r"(?<![\w/])((?:src|tests|benchmarks|\.github)/[\w/.]+\.\w+)", text)]
    assert len(files) > 20
    assert [path for path in files if not path.is_file()] == []
    assert [path for path in re.findall(r"`(src/[\w/]+/)`", text) if not (ROOT / path).is_dir()] == []
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    places = text.split("## Where does it go?")[1].split("## House rules")[0]
    assert [name for name in re.findall(r"`(\w+)`", places) if not re.search(rf"\b{name}\b", code)] == []


def test_command_for_one_test_in_contributing_finds_it():
    file, word = re.search(r"pytest (tests/\w+\.py) -k (\w+)", (ROOT / "CONTRIBUTING.md").read_text()).groups()
    assert len(re.findall(rf"^def test_\w*{word}", (ROOT / file).read_text(), re.MULTILINE)) == 1


def tables_of_kinds() -> Iterator[tuple[str, str, set[str]]]:
    """The mappings from kinds of questions in the package: file, name and kinds."""
    for path in sorted(SOURCE.rglob("*.py")):
        for line in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Dict):
                keys = {key.value for key in line.value.keys if isinstance(key, ast.Constant)}
                if len(keys & set(KINDS)) > 1:
                    name = line.targets[0] if isinstance(line, ast.Assign) else line.target
                    yield path.relative_to(ROOT).as_posix(), ast.unparse(name), keys


@pytest.mark.parametrize(("file", "name", "kinds"), list(tables_of_kinds()))
def test_every_table_of_kinds_has_all_of_them_and_contributing_names_its_file(file, name, kinds):
    assert kinds == set(KINDS), f"{name} of {file}"
    assert file in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("**A new kind of question.**")[1]
