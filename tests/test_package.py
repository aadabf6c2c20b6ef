import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_llambert

SOURCE = Path(hf_llambert.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "templates" not in path.parts)
# A module imports only from what stands before it. Within a folder anything goes but circles.
ORDER = [
    "__init__", "shown", "whole", "tasks", "models", "processes", "progress", "intervals", "headline", "metrics",
    "misfits", "notes", "stages",
    "reading", "data", "gold", "teachers", "annotation", "tuning", "training", "pool", "quality", "planning",
    "review", "report", "hub", "cli",
]  # fmt: skip


def test_importing_the_package_imports_nothing_heavy():
    heavy = "torch transformers datasets evaluate sklearn matplotlib numpy yaml typer rich gradio openai"
    code = f"import sys, hf_llambert; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_every_public_name_can_be_had():
    for name in hf_llambert.__all__:
        assert getattr(hf_llambert, name) is not None


def test_stub_has_one_public_name_a_line():
    statements = ast.parse((SOURCE / "__init__.pyi").read_text()).body
    names = {
        alias.name: node.module for node in statements if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names == hf_llambert._HOMES
    assert hf_llambert.__all__ == [*sorted(names), "__version__"]
    assert set(dir(hf_llambert)) == set(hf_llambert.__all__)


def test_unknown_name_is_an_attribute_error_that_names_the_nearest():
    with pytest.raises(AttributeError, match="LLMLabeller"):
        hf_llambert.LLMLabeller  # noqa: B018
    code = "import hf_llambert; hf_llambert.LLMLabeller"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert shown.endswith("has no attribute 'LLMLabeller'. Did you mean: 'LLMLabeler'?\n")


def test_package_is_imported_from_an_archive(tmp_path):
    shutil.make_archive(str(tmp_path / "package"), "zip", SOURCE.parent, SOURCE.name)
    code = "import hf_llambert; print(hf_llambert.__file__, *hf_llambert.TaskSpec('t', ('a', 'b'), '{text}').labels)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "package.zip")}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(tmp_path / "package.zip" / "hf_llambert" / "__init__.py"), "a", "b"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_import_only_from_folders_above(path):
    part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__", "cli"):
        return
    imported = [
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_llambert.")
    ]
    for module in imported:
        assert ORDER.index(module.split(".")[1]) <= ORDER.index(part), f"{path} imports {module}"


def test_every_module_imports_by_itself():
    for path in MODULES:
        name = ".".join(("hf_llambert", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        importlib.import_module(name)


@pytest.fixture
def extras_script():
    """.github/extras.py, and what pyproject.toml says."""
    tomllib = pytest.importorskip("tomllib")
    spec = importlib.util.spec_from_file_location("extras", ROOT / ".github" / "extras.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_extras_that_exclude_each_other_are_told_and_the_rest_is_held_together(extras_script, monkeypatch):
    script, project = extras_script
    pairs = [{one["extra"] for one in group} for group in project["tool"]["uv"]["conflicts"]]
    assert set.union(*pairs) <= set(project["project"]["optional-dependencies"])
    assert "`[vllm]` and `[review]` exclude each other" in (ROOT / "docs" / "quickstart.md").read_text()
    asked = []

    def resolve(extras, python):
        asked.append(set(extras))
        return not any(pair <= set(extras) for pair in pairs), "no"

    monkeypatch.setattr(script, "resolve", resolve)
    assert script.check(project, "3.12") == []
    assert all({extra} in asked for extra in project["project"]["optional-dependencies"])
    assert set.union(*pairs) <= set.union(*[extras for extras in asked if len(extras) > 2])
    monkeypatch.setattr(script, "resolve", lambda extras, python: (True, ""))
    assert all("Take them out of tool.uv.conflicts" in said for said in script.check(project, "3.12"))
    monkeypatch.setattr(script, "resolve", lambda extras, python: (len(extras) < 2, "because"))
    assert {said.split(". ")[-1] for said in script.check(project, "3.12")} == {"because"}
