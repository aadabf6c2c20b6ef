"""
Several questions about one text: a student by the teacher's answers and one by people's, measured on the same held-out texts.

    accelerate launch recipes/questions.py --config recipes/bbc_questions.yaml   # 2 CPU cores, no Hub (after make assets)
    accelerate launch recipes/questions.py --config recipes/icd_questions.yaml

People's answers stand in columns that are named as the questions, or as label_column says. Stopped and started again, it
goes on where it stopped; with several processes each asks about and labels its share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from common import RunArguments, make_teacher, map_pairs, run_recipe, split_rows
from hf_llambert import (
    LLMLabeler,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    annotate,
    column_names,
    compare_labels,
    label_pool,
    load_data,
    load_gate,
    load_task,
    parse_label_map,
    saved_calibration,
    select_silver,
    show_gate,
    show_report,
    train_student,
    wait_for_everyone,
    write_report,
)

FIGURES = {"choice": "accuracy", "choices": "micro_f1", "scale": "spearman"}
"""The figure of the table, by the kind of a question."""
LEARNT = {"silver": "student", "gold": "baseline"}
"""Folder of the student, by what it learnt from: the teacher's answers, or people's."""


@dataclass(kw_only=True)
class QuestionsArguments(RunArguments):
    """What the recipe takes beside the training arguments."""

    label_column: list[str] = field(  # type: ignore[assignment]
        default_factory=list,
        metadata={
            "help": "Columns of people's answers, QUESTION=COLUMN, in YAML a mapping. Default: as the questions."
        },
    )
    prior: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Believed shares of labels, QUESTION:LABEL=SHARE, in YAML a mapping of mappings; for calibration."
        },
    )
    num_labelled: int = field(default=0, metadata={"help": "Further texts for the student to label."})
    ask_apart: bool = field(
        default=False, metadata={"help": "Where text comes back: ask each question by itself, not all in one request."}
    )
    gate: str | None = field(default=None, metadata={"help": "YAML file of conditions that the run must meet."})
    prompt_choice: str = field(
        default="not stated", metadata={"help": "How prompt and settings were chosen (report)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_column = map_pairs(self.label_column)
        if self.gate is not None:
            load_gate(self.gate)  # what is wrong with it is said before the work
        if self.label_map or self.label_values != "auto" or self.num_seeds > 1 or len(self.student) > 1:
            raise ValueError(
                "This recipe takes one student, one seed, and answers that are named as in the task: prepare the data, or use "
                "hf-llambert run, which has --label_map and --label_values."
            )

    @property
    def shares(self) -> dict[str, dict[str, float]]:
        """`prior` by questions, as `annotate` takes it."""
        if isinstance(self.prior, Mapping):
            return dict(self.prior)
        out: dict[str, dict[str, float]] = {}
        for said, share in parse_label_map(self.prior, "prior").items():
            name, _, label = said.partition(":")
            out.setdefault(name, {})[label] = float(share)
        return out

    @property
    def gold_columns(self) -> Mapping[str, str] | None:
        """Columns of people's answers, as `with_gold` takes them."""
        return parse_label_map(self.label_column, "label_column") or None


def main(arguments: QuestionsArguments, training: StudentConfig) -> dict:
    """Annotate, train by silver and by gold, measure, label and report. Returns the table, which is in `table.json` too."""
    run, task, state = Path(arguments.run), load_task(arguments.task), PartialState()
    if len(task.parts) < 2:
        raise ValueError(f"Task '{task.name}' has one question: recipes/experiment.py is for that.")
    held_out, rest = split_rows(arguments, task)
    number = min(arguments.num_annotated or len(rest), len(rest))
    train, pool = (
        rest.select(range(number)),
        rest.select(range(number, min(len(rest), number + arguments.num_labelled))),
    )
    place, column = arguments.ledger or run / "ledger", task.columns(arguments.text_column)
    labeler = LLMLabeler(task, make_teacher(arguments), place, column, ask_apart=arguments.ask_apart)
    teacher = annotate(
        train, labeler, run / "annotated", calibration=arguments.calibration,  # type: ignore[arg-type]
        gold_column={name: name for name in task.parts}, prior=arguments.shares or None,
    )  # fmt: skip
    silver, selection = select_silver(load_data(run), task, calibration=saved_calibration(run))
    table: dict = {name: {} for name in task.parts}
    for name, found in teacher["questions"].items():
        table[name]["teacher"] = cell(found.get("quality"), task.parts[name])
    reading = {"max_length": arguments.max_length, "head_share": arguments.head_share, "text_column": column}
    what = f"{len(held_out):,} rows of {Path(arguments.data).name}, held out"
    sources: dict[str, dict] = {
        "silver": {"silver": silver, "selection": selection},
        "gold": {"gold": train.select_columns([*column_names(column), *task.parts])},
    }
    for learnt, folder in LEARNT.items():
        given = {
            **reading,
            **sources[learnt],
            "eval_data": held_out,
            "eval_name": what,
            "baseline": folder == "student",
        }
        results = train_student(task, arguments.student[0], run / folder, training, **given)
        for name, found in results["eval"].items():
            table[name][learnt] = cell(found, task.parts[name])
    if len(pool):
        label_pool(pool, StudentLabeler(run / "student", column), run / "labels")
    compare_labels(run)
    if state.is_main_process:
        report = write_report(run, choices=choices(arguments), gate=arguments.gate)
        (run / "table.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        (run / "table.md").write_text("\n".join(lines(table, what)) + "\n", encoding="utf-8")
        print("\n".join(lines(table, what)))
        if "gate" in report:
            show_gate(report["gate"])
        show_report(report, run)
    wait_for_everyone()
    if state.is_main_process and not report.get("gate", {"passed": True})["passed"]:
        raise SystemExit(1)  # what it has said is above
    return table


def cell(quality: Mapping | None, task: TaskSpec) -> dict | None:
    """A figure with its 95 % interval, and the rows that it is of."""
    if not quality:
        return None
    name = FIGURES[task.question.kind]
    return {"figure": name, "value": quality[name], "low": quality[f"{name}_low"], "high": quality[f"{name}_high"]} | {
        "n": quality["n"]
    }


def lines(table: Mapping[str, Mapping], what: str) -> list[str]:
    """The table in Markdown."""
    out = ["| question | figure | teacher, on what it annotated | learnt from the teacher | learnt from people |"]
    out.append("|---|---|---|---|---|")
    for name, cells in table.items():
        figure = next((one["figure"] for one in cells.values() if one), "")
        shown = [shown_cell(cells.get(by)) for by in ("teacher", *LEARNT)]
        out.append(f"| {name} | {figure} | {' | '.join(shown)} |")
    return [*out, "", f"Students on {what}; 95 % intervals."]


def shown_cell(found: Mapping | None) -> str:
    """A figure with its interval, as far as there is one."""
    if found is None or found["value"] is None:
        return "–"
    between = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{found['value']:.3f}{between}"


def choices(arguments: QuestionsArguments) -> dict[str, str]:
    """What was chosen and how, for the report."""
    return {
        "prompt, label words, lengths and training arguments": arguments.prompt_choice,
        "held-out texts": f"drawn first, with seed {arguments.split_seed}; a text equal to one of them is annotated nowhere",
    }


if __name__ == "__main__":
    run_recipe(QuestionsArguments, main)
