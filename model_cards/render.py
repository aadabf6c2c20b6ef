"""
The cards of the recipes' results, as `hf-llambert push` renders them.

    python model_cards/render.py                       # every card again, from the facts beside it
    python model_cards/render.py runs/imdb-quickstart  # take over a run's facts first
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from hf_llambert import Publication, write_report
from hf_llambert.hub.cards import dataset_card, model_card
from hf_llambert.hub.files import column_types, dataset_configs

HERE = Path(__file__).parent


def take_over(run: Path, folder: Path) -> None:
    """Write down what the cards of a run say: its report and its columns. No text of the data is among it."""
    old = json.loads((run / "report.json").read_text(encoding="utf-8")) if (run / "report.json").is_file() else {}
    report = write_report(run, old.get("choices"))
    configs = dataset_configs(run, gold=False)
    described = {name: {"rows": len(d), "columns": column_types(d.features)} for name, d in configs.items()}
    folder.mkdir(exist_ok=True)
    facts = {"report": report, "configs": described}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "figures", ignore_errors=True)
    shutil.copytree(run / "figures", folder / "figures")


def render(folder: Path) -> dict[str, str]:
    """The cards of a folder by their file names."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    given = json.loads((folder / "publication.json").read_text(encoding="utf-8"))
    given |= {name: tuple(given[name]) for name in ("language", "source_datasets")}
    publication = Publication(**given)
    return {
        "dataset.md": dataset_card(facts["report"], publication, facts["configs"]),
        "model.md": model_card(facts["report"], publication),
    }


def main(runs: list[str]) -> None:
    """Take over the runs named, then render every folder."""
    for run in map(Path, runs):
        take_over(run, HERE / run.name)
    for facts in sorted(HERE.glob("*/facts.json")):
        for name, card in render(facts.parent).items():
            (facts.parent / name).write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
