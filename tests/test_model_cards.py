"""The cards in model_cards/ are what the code renders."""

import importlib.util
import json
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

FOLDER = Path(__file__).parent.parent / "model_cards"
FOLDERS = sorted(path.parent for path in FOLDER.glob("*/facts.json"))


def load():
    spec = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_cards():
    assert [folder.name for folder in FOLDERS] == ["imdb-quickstart"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_cards_are_true(folder):
    for name, card in load().render(folder).items():
        assert (folder / name).read_text() == card, f"{name} is not what the code renders. Run: make cards"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_cards_say_what_was_measured(folder):
    report = json.loads((folder / "facts.json").read_text())["report"]
    model = ModelCard((folder / "model.md").read_text())
    found = {result.metric_type: result.metric_value for result in model.data.eval_results}
    assert found["accuracy"] == round(report["student"]["accuracy"], 4)
    assert DatasetCard((folder / "dataset.md").read_text()).data.license


def test_facts_are_taken_over_from_a_run(finished_run, tmp_path):
    render = load()
    render.take_over(finished_run, tmp_path / "tiny")
    publication = {"repo_id": "our-team/tiny", "license": "mit", "language": ["en"], "source_datasets": []}
    (tmp_path / "tiny" / "publication.json").write_text(json.dumps(publication))
    cards = render.render(tmp_path / "tiny")
    assert "20 texts asked about" in cards["dataset.md"]
    assert "# tiny" in cards["model.md"]
    assert (tmp_path / "tiny" / "figures" / "confusion.png").is_file()
