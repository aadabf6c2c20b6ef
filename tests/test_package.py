import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hf_llambert

SOURCE = Path(hf_llambert.__file__).parent
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "templates" not in path.parts)
# A module imports only from what stands before it. Within a folder anything goes but circles.
ORDER = [
    "__init__", "shown", "whole", "tasks", "models", "processes", "progress", "intervals", "metrics", "notes", "stages",
    "reading", "data", "teachers", "annotation", "training", "pool", "quality", "planning",
    "review", "report", "hub", "cli",
]  # fmt: skip


def test_importing_the_package_imports_nothing_heavy():
    heavy = "torch transformers datasets evaluate sklearn matplotlib numpy yaml typer rich gradio"
    code = f"import sys, hf_llambert; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_every_public_name_can_be_had():
    for name in hf_llambert.__all__:
        assert getattr(hf_llambert, name) is not None


def test_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(n.module.removeprefix("hf_llambert."), a.name) for n in block.body for a in n.names}
    assert seen == {(module, name) for name, module in hf_llambert._HOMES.items()}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LLMLabeller"):
        hf_llambert.LLMLabeller  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_import_only_from_folders_above(path):
    part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if part in ("__init__", "cli"):
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
