"""No code that lies beside a model is run: every call that loads one says so."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOADS = ("from_pretrained", "from_config", "pipeline")
# Adapters are JSON and weights: there is no code of theirs to trust, and no argument to say so.
NO_CODE = ("PeftModel", "PeftConfig", "StudentLabeler", "StaticModel")


def calls(tree: ast.AST) -> list[tuple[ast.Call, ast.AST]]:
    """Calls that load a model, and the function that each stands in."""
    found = []

    def walk(node: ast.AST, inside: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                name = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
                owner = getattr(child.func.value, "id", "") if isinstance(child.func, ast.Attribute) else ""
                if name in LOADS and owner not in (*NO_CODE, "self"):
                    found.append((child, inside))
            walk(child, child if isinstance(child, ast.FunctionDef) else inside)

    walk(tree, tree)
    return found


def is_safe(call: ast.Call, inside: ast.AST) -> bool:
    for keyword in call.keywords:
        if keyword.arg == "trust_remote_code":
            return isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg is None and isinstance(keyword.value, ast.Name):
            name = keyword.value.id
            if name == "SAFE":
                return True
            for node in ast.walk(inside):
                given = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
                target = (node.targets[0] if isinstance(node, ast.Assign) else node.target) if given else None
                if isinstance(target, ast.Name) and target.id == name:
                    pairs = zip(node.value.keys, node.value.values, strict=True)
                    return any(
                        getattr(key, "value", None) == "trust_remote_code" and getattr(value, "value", None) is False
                        for key, value in pairs
                    )
    return False


def sources() -> list[Path]:
    return [path for folder in ("src", "recipes", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_call_that_loads_a_model_refuses_code_of_strangers():
    found = [(path, *one) for path in sources() for one in calls(ast.parse(path.read_text(encoding="utf-8")))]
    assert len(found) > 15
    unsafe = [f"{path.relative_to(ROOT)}:{call.lineno}" for path, call, inside in found if not is_safe(call, inside)]
    assert not unsafe


@pytest.mark.parametrize(
    ("code", "safe"),
    [
        ("AutoModel.from_pretrained(x)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", True),
        ("AutoModel.from_pretrained(x, **SAFE)", True),
        ("def f():\n    k = {'trust_remote_code': False}\n    AutoModel.from_pretrained(x, **k)", True),
        ("def f():\n    k = {'trust_remote_code': True}\n    AutoModel.from_config(x, **k)", False),
        ("pipeline('x', model=y)", False),
    ],
)
def test_check_itself_tells_safe_calls_from_others(code, safe):
    ((call, inside),) = calls(ast.parse(code))
    assert is_safe(call, inside) is safe


def test_safe_is_what_its_name_says():
    from hf_llambert.training.loading import SAFE

    assert SAFE["trust_remote_code"] is False
    assert SAFE["use_safetensors"] is True
