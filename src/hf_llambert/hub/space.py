"""The demo that `push --space` publishes: a Gradio app with the facts of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from datasets import Dataset
from huggingface_hub import SpaceCardData

from hf_llambert.hub.cards import Publication
from hf_llambert.report.markdown import summary_head, summary_rows
from hf_llambert.tasks.texts import markdown_text

_EXAMPLES = 6
_LONGEST = 1500  # characters of an example
_GRADIO = "6.31.0"  # what the demo was tried with


def space_files(
    report: Mapping, publication: Publication, annotated: Dataset | None, text_column: str
) -> dict[str, Path | bytes]:
    """
    Files of the demo's repository by their place in it.

    Args:
        report (`Mapping`): What [`write_report`] found.
        publication (`Publication`): Names the student that the demo loads.
        annotated (`Dataset`, *optional*): The annotated texts; some short ones become examples, with the teacher's stored answer.
        text_column (`str`): Column of the texts.
    """
    name = publication.repo_id.split("/")[-1]
    card = SpaceCardData(
        title=name,
        sdk="gradio",
        sdk_version=_GRADIO,
        python_version="3.11",
        app_file="app.py",
        license=publication.license,
        models=[publication.repo_id],
        datasets=[publication.repo_id] if annotated is not None else None,
        tags=["hf_llambert"],
        pinned=False,
    )
    versions = {name: version(name).partition("+")[0] for name in ("torch", "transformers")}  # without +cpu
    facts = {
        "title": name,
        "model": publication.repo_id,
        "introduction": f"# {markdown_text(name)}\n\nA small model that learnt from the labels of a large one. Not for "
        "decisions about people. What you type is sent to this Space and not kept by it.",
        "figures": _figures(report),
        "examples": [] if annotated is None else _examples(annotated, report["task"]["labels"], text_column),
    }
    app = resources.files("hf_llambert.hub") / "templates" / "space" / "app.py"
    return {
        "README.md": f"---\n{card.to_yaml()}\n---\n".encode(),
        "app.py": app.read_bytes(),
        "facts.json": (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(),
        "requirements.txt": "".join(f"{name}=={number}\n" for name, number in versions.items()).encode(),
    }


def _figures(report: Mapping) -> str:
    rows = "".join(f"| {markdown_text(who)} | {accuracy} | {f1} |\n" for who, accuracy, f1, _ in summary_rows(report))
    _, main, second, _ = summary_head(report)
    return f"| | {main} | {second} |\n|---|---|---|\n{rows}"


def _examples(annotated: Dataset, labels: list[str], text_column: str) -> list[dict]:
    """The first short texts of each label in turn, with the teacher's answer."""
    columns = annotated.select_columns([text_column, "llm_label", "llm_confidence"])
    by_label: dict[int, list[dict]] = {i: [] for i in range(len(labels))}
    for row in columns:
        label, confidence, text = row["llm_label"], row["llm_confidence"], row[text_column]
        if label in by_label and isinstance(text, str) and len(text) <= _LONGEST and len(by_label[label]) < _EXAMPLES:
            by_label[label].append(
                {"text": text, "teacher": {labels[label]: 1.0 if confidence is None else confidence}}
            )
        if all(len(rows) == _EXAMPLES for rows in by_label.values()):
            break
    turns = [rows[k] for k in range(_EXAMPLES) for rows in by_label.values() if k < len(rows)]
    return turns[:_EXAMPLES]
