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


def test_readme_is_short_and_begins_with_one_figure_and_one_table():
    assert len(README.splitlines()) <= 150
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^\|[-|]+\|$", README, re.MULTILINE)) == 1
    first = README.split("\n## On the command line\n")[0]
    assert [sign in first for sign in ("docs/way.svg", "make quickstart", "make test", "|---|")] == [True] * 4


def test_figures_of_the_readme_stand_in_the_results():
    results = (ROOT / "docs" / "results.md").read_text()
    figures = set(re.findall(r"\d+\.\d+ %|\d[\d,]* labels|about \d+ times", README))
    assert len(figures) >= 9
    known = " ".join(results.split())
    assert {figure for figure in figures if figure not in known} - {"25,000 labels"} == set()
    assert "gold train | 96.54 %" in results
    assert re.search(r"\*combined\*.*96\.68 %", results)


def test_make_targets_that_the_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]:
        blocks = re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL)
        lines = [line.partition("#")[0] for block in blocks for line in re.findall(r"^make (.*)", block, re.MULTILINE)]
        lines += re.findall(r"`make ([a-z -]+)`", document.read_text())
        assert {word for line in lines for word in line.split()} <= targets, document.name


def test_files_that_the_documents_link_to_exist():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\((?!https?:|figures/)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.real
def test_python_example_of_the_readme_runs(assets, tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    small = example.replace("range(100)", "range(20)").replace("range(100, 300)", "range(20, 30)")
    assert small.count("range(20") == 2
    small = small.replace('checkpoints")', 'checkpoints", max_steps=2)').replace("160", "64")
    assert "max_steps=2" in small
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(assets.resolve())
    exec(compile(small, "README.md", "exec"), {})
    assert re.search(r" (negative|positive)\n$", capsys.readouterr().out)
