import re
from pathlib import Path

import pytest
import yaml

from hf_llambert import TaskSpec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_task_of_the_readme_and_of_the_docs_is_valid():
    for text in (README, (ROOT / "docs" / "tasks.md").read_text()):
        block = re.search(r"```yaml\n(name:.*?)```", text, re.DOTALL)[1]
        assert TaskSpec.from_dict(yaml.safe_load(block)).name == "support-tickets"


def test_files_that_the_documents_link_to_exist():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\((?!https?:|figures/)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.real
def test_python_example_of_the_readme_runs(assets, tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    small = example.replace("range(100)", "range(20)").replace("range(100, 300)", "range(20, 30)")
    small = small.replace('checkpoints")', 'checkpoints", max_steps=2)').replace("160", "64")
    assert "max_steps=2" in small
    assert small.count("20") > example.count("20")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(assets.resolve())
    exec(compile(small, "README.md", "exec"), {})
    assert re.search(r" (negative|positive)\n$", capsys.readouterr().out)
