"""
Anatomical concepts of the UMLS Metathesaurus: a sub-ontology, such as that of the nervous system, from your own release.

    accelerate launch recipes/umls.py --config recipes/umls.yaml --meta_dir /path/to/META --gold labels.json

The paper's second task (docs/umls.md): concepts and their child relations are read from the release, a teacher labels
some, students learn from these and from people's labels and are measured, one labels all concepts, and those with the
label asked for become a graph. Stopped and started again, it goes on where it stopped. No row of a release comes with this
project or leaves the run's folder.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from datasets import ClassLabel, Dataset

from common import run_recipe
from experiment import ExperimentArguments, Parts, run_experiment
from hf_llambert import (
    ABSTAIN,
    StudentConfig,
    TaskSpec,
    check_column,
    load_data,
    load_task,
    main_process_first,
    read_pool,
    wait_for_everyone,
    with_gold,
)
from metathesaurus import CONCEPTS, extract_concepts, ontology, write_ontology

logger = logging.getLogger(__name__)

# Of anatomy: the paper's. Names as in the Semantic Network: T017 Anatomical Structure, T021 Fully Formed Anatomical
# Structure, T022 Body System, T023 Body Part, Organ, or Organ Component, T024 Tissue, T025 Cell, T026 Cell Component,
# T029 Body Location or Region, T030 Body Space or Junction, T031 Body Substance, T125 Hormone, T192 Receptor.
SEMANTIC_TYPES = ["T017", "T021", "T022", "T023", "T024", "T025", "T026", "T029", "T030", "T031", "T125", "T192"]
# Abbreviations and acronyms by MRDOC.RRF: attribute type abbreviation (AA), abbreviation in any source (AB), acronym (ACR,
# MTH_ACR), short form of modifier (AM), clinical drug name in abbreviated format (CDA), obsolete (modifier) abbreviation
# (OA, OAM), qualifier abbreviation (QAB), root and versioned abbreviation of a source (RAB, VAB).
TERM_TYPES = ["AA", "AB", "ACR", "AM", "CDA", "MTH_ACR", "OA", "OAM", "QAB", "RAB", "VAB"]


@dataclass(kw_only=True)
class UmlsArguments(ExperimentArguments):
    """What the recipe takes beside the training arguments."""

    meta_dir: str = field(
        metadata={"help": "The folder META of a UMLS release, with MRCONSO.RRF, MRREL.RRF, MRSTY.RRF."}
    )
    gold: str = field(
        metadata={
            "help": 'People\'s labels by CUI: JSON ({"C0000001": true}), or a JSONL or CSV file of cui and label.'
        }
    )
    task: str = field(default="umls-neuro", metadata={"help": "Built-in task or YAML file."})
    graph_label: str = field(default="yes", metadata={"help": "Label of the concepts that make the graph."})
    semantic_types: list[str] = field(
        default_factory=lambda: SEMANTIC_TYPES, metadata={"help": "Semantic types (TUI) of the concepts."}
    )
    dropped_term_types: list[str] = field(
        default_factory=lambda: TERM_TYPES, metadata={"help": "Term types (TTY) whose names are left out."}
    )
    # The concepts are the data, and the licence forbids to publish them.
    data: str = field(init=False, default="")
    text_column: str = field(init=False, default="text")
    data_split: None = field(init=False, default=None)
    eval_split: None = field(init=False, default=None)
    extra_data: None = field(init=False, default=None)
    extra_split: None = field(init=False, default=None)
    pool_split: None = field(init=False, default=None)
    publish_as: None = field(init=False, default=None)
    license: None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [name for name in self.semantic_types if not re.fullmatch(r"T\d{3}", name)]
        if wrong or not self.semantic_types:
            raise ValueError(f"semantic_types are TUIs such as T023, got {wrong or self.semantic_types}.")


def read_gold(arguments: UmlsArguments, task: TaskSpec) -> dict[str, int]:
    """
    People's labels as the task's ids, by CUI; those without a label left out.

    Raises:
        ValueError: A CUI has two labels, a label is none of the task's, or there are fewer rows than classes.
    """
    pairs = [(str(cui).strip(), _label(cui, label, arguments)) for cui, label in _gold_pairs(arguments)]
    named = {"cui": [cui for cui, _ in pairs], arguments.label_column: [label for _, label in pairs]}
    truth = _truth({label for _, label in pairs if label is not None}, task, arguments.label_names)
    try:
        rows = with_gold(
            Dataset.from_dict(named),
            "cui",
            arguments.label_column,
            task,
            truth | arguments.label_names,
            arguments.label_values,
        )
    except ValueError as error:
        raise ValueError(f"'{arguments.gold}': {error}") from error
    gold: dict[str, int] = {}
    for cui, label in zip(rows["cui"], rows["label"], strict=True):
        if label != ABSTAIN and gold.setdefault(cui, label) != label:
            raise ValueError(
                f"'{arguments.gold}': expected one label for each CUI, got '{task.labels[gold[cui]]}' and "
                f"'{task.labels[label]}' for {cui}. Keep one of them."
            )
    _refuse_few(len(gold), "", arguments, task)
    return gold


def _gold_pairs(arguments: UmlsArguments) -> list[tuple]:
    path = Path(arguments.gold)
    if path.suffix == ".json" and path.is_file():
        try:
            # As pairs, since a mapping would hide a CUI that stands there twice.
            pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=list)
            if pairs and isinstance(pairs, list) and isinstance(pairs[0], tuple):
                return pairs
        except json.JSONDecodeError:
            pass  # JSON lines, perhaps
        except (UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"'{path}' is no JSON in UTF-8 ({error}). Write it as that.") from error
    try:
        rows = load_data(path, label_columns=["cui", arguments.label_column])
    except ValueError as error:  # which names options that this recipe has not
        said = re.sub(r"[Pp]ass (the right )?(encoding|delimiter).*", "Write it as UTF-8 with commas.", str(error))
        raise ValueError(said) from error
    if "cui" not in rows.column_names:
        raise ValueError(f"'{path}': expected the columns cui and {arguments.label_column}, got {rows.column_names}.")
    check_column(rows, arguments.label_column, "label_column")
    return list(zip(rows["cui"], rows[arguments.label_column], strict=True))


def _label(cui: object, value: object, arguments: UmlsArguments) -> str | None:
    """A label as it would be written; `None` where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(
        f"'{arguments.gold}': expected the label of {cui} to be a word, a number, true or false, got a "
        f"{type(value).__name__}. Give each CUI one label."
    )


def _truth(values: set[str], task: TaskSpec, label_map: Mapping[str, str]) -> dict[str, str]:
    """
    What true and false are where the task has no such labels and nobody said: its yes and no, or its labels 1 and 0. Of
    other labels they are none, whatever their order.
    """
    names = {label.strip().casefold(): label for label in task.labels}
    given = {name.strip().casefold() for name in label_map}
    pairs = [(no, yes) for no, yes in (("no", "yes"), ("0", "1")) if no in names and yes in names]
    if not pairs or {"true", "false"} & (set(names) | given):
        return {}
    truth = dict(zip(("false", "true"), pairs[0], strict=True))
    return {value: names[truth[low]] for value in values if (low := value.strip().casefold()) in truth}


def _refuse_few(number: int, where: str, arguments: UmlsArguments, task: TaskSpec) -> None:
    if number < task.num_labels:
        raise ValueError(
            f"'{arguments.gold}': expected gold labels for each of the {task.num_labels} labels {list(task.labels)}, got "
            f"{number:,} rows{where}. Label more concepts."
        )


def make_parts(concepts: Dataset, gold: dict[str, int], arguments: UmlsArguments, task: TaskSpec) -> Parts:
    """
    Gold held out and gold to learn from, concepts for the teacher, and all of them as the pool.

    A concept with the same names as one held out, or as one before it, is not learnt from.
    """
    place = {cui: i for i, cui in enumerate(concepts["cui"])}
    known = {cui: label for cui, label in gold.items() if cui in place}
    unknown = [cui for cui in gold if cui not in place]
    if unknown and PartialState().is_main_process:
        logger.warning(
            f"{len(unknown):,} of {len(gold):,} gold CUIs are no concepts here and are left out ({', '.join(unknown[:3])}"
            f"{', ...' if len(unknown) > 3 else ''}): other semantic types, no child relation, or another release."
        )
    _refuse_few(len(known), f" that are concepts of '{arguments.meta_dir}'", arguments, task)
    if not 0 < (arguments.num_held_out or 0) < len(known):
        raise ValueError(
            f"Something must be held out to measure on: num_held_out must be from 1 to {len(known) - 1:,}, got "
            f"{arguments.num_held_out}."
        )
    labelled = concepts.select([place[cui] for cui in known])
    labelled = labelled.add_column("label", list(known.values()), feature=ClassLabel(names=list(task.labels)))
    labelled = labelled.shuffle(seed=arguments.split_seed)
    held_out = labelled.select(range(arguments.num_held_out))
    seen = set(held_out["text"])
    train = _unseen(labelled.select(range(len(held_out), len(labelled))), seen)
    train = train.select(range(min(arguments.num_annotated or len(train), len(train))))
    extra = None
    if arguments.num_extra:
        others = concepts.select([i for cui, i in place.items() if cui not in known])
        others = _unseen(others.shuffle(seed=arguments.split_seed), seen)
        if arguments.num_extra > len(others):
            raise ValueError(
                f"num_extra asks for {arguments.num_extra:,} concepts; {len(others):,} have no gold label."
            )
        extra = others.select(range(arguments.num_extra))
    pool = concepts
    if arguments.num_labelled is not None:
        pool = concepts.shuffle(seed=arguments.split_seed)
        pool = pool.select(range(min(arguments.num_labelled, len(pool))))
    return Parts(held_out, train, extra, pool if len(pool) else None)


def _unseen(rows: Dataset, seen: set[str]) -> Dataset:
    """The rows whose text is not among those seen; they are, from here on."""
    kept = []
    for i, text in enumerate(rows["text"]):
        if text not in seen:
            seen.add(text)
            kept.append(i)
    return rows.select(kept)


def main(arguments: UmlsArguments, training: StudentConfig) -> dict:
    """Extract, experiment, label, draw the graph. Returns what [`run_experiment`] does, and `ontology`, its counts."""
    task, run, state = load_task(arguments.task), Path(arguments.run), PartialState()
    if arguments.graph_label not in task.labels:
        raise ValueError(
            f"graph_label must be a label of task '{task.name}', {list(task.labels)}; got {arguments.graph_label!r}."
        )
    gold = read_gold(arguments, task)
    folder = run / "concepts"
    with main_process_first():
        note = extract_concepts(arguments.meta_dir, folder, arguments.semantic_types, arguments.dropped_term_types)
        concepts = load_data(folder / CONCEPTS)
    if state.is_main_process:
        print(
            "{of_these_types:,} concepts of these semantic types, {in_child_relations:,} of them in {child_relations:,} "
            "child relations with one another, {named:,} of these with an English name.".format(**note["counts"])
        )
    arguments.data = str(folder / CONCEPTS)  # recorded answers may be by its rows
    parts = make_parts(concepts, gold, arguments, task)
    report = run_experiment(task, parts, arguments, training, f"{len(parts.held_out):,} gold concepts held out")
    if parts.pool is not None and state.is_main_process:
        graph = ontology(read_pool(run / "labels"), task.labels.index(arguments.graph_label), folder)
        report["ontology"] = write_ontology(graph, run)
        print(
            f"The graph of '{arguments.graph_label}' is in {run / 'ontology.graphml'} and .gexf: "
            "{concepts:,} concepts, {child_relations:,} child relations, {connected_parts:,} connected parts, "
            "{roots:,} roots.".format(**report["ontology"])
        )
    wait_for_everyone()
    return report


if __name__ == "__main__":
    run_recipe(UmlsArguments, main)
