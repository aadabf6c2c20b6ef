"""What students answered when they were measured, and how they compare on the same texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_llambert.intervals import paired_bootstrap
from hf_llambert.notes import SEEDS, read_note, read_stage
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.spec import TaskSpec

EVALUATION_FILE = "evaluation.parquet"
SEEDS_FILE = "seeds.json"
_Answers = dict[int, tuple[str, dict[str, NDArray[np.bool_]]]]


def read_evaluation(folder: str | Path) -> Dataset:
    """
    What a student answered on the texts that it was measured on, in their order: `text`, `gold`, `student_label`,
    `student_confidence`, `student_scores`. Of several questions gold is in columns called as they are, and the student's
    have their names in theirs; see [`part_of`].

    Raises:
        FileNotFoundError: The folder holds no student, or one that was not measured.
    """
    path = Path(folder) / EVALUATION_FILE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' has no {EVALUATION_FILE}. Train it with eval_data (--eval_data).")
    return Dataset.from_parquet(str(path))


def compare_students(first: str | Path, second: str | Path) -> dict:
    """
    How much more accurate the first of two students is, measured on the same held-out texts; see [`paired_bootstrap`]. An
    answer of several labels is right where all are, one on a scale where it is at most half a step from gold.

    Args:
        first (`str` or `Path`): Folder of a student that was trained with `eval_data`, or of a run with several seeds.
        second (`str` or `Path`): The other one.

    Returns:
        `dict`: `difference` and its 95 % interval `low`, `high`, `runs` and `n` (texts); of several questions such a
        `dict` for each that both answered, by name.

    Raises:
        FileNotFoundError: A folder has no evaluation.
        ValueError: They were measured on different texts.
    """
    answers, others = _answers(Path(first)), _answers(Path(second))
    texts, other_texts = ({digest for digest, _ in found.values()} for found in (answers, others))
    if texts != other_texts:
        raise ValueError(
            f"'{first}' and '{second}' were not measured on the same texts. Train both with the same eval_data."
        )
    found = _differences(answers, others)
    if not found:
        raise ValueError(f"'{first}' and '{second}' were not measured on a question that both answer.")
    return found[""] if list(found) == [""] else found


def compare_rows(first: Path, second: Path) -> dict:
    """As [`compare_students`], of two that were measured on the same rows, whatever they were chosen from."""
    found = _differences(_answers(first), _answers(second))
    return found[""] if list(found) == [""] else found


def _differences(answers: _Answers, others: _Answers) -> dict[str, dict]:
    """The differences of the questions that both were measured on."""
    seeds = sorted(set(answers) & set(others))
    pairs = [(answers[seed][1], others[seed][1]) for seed in seeds]
    if not pairs:  # other seeds: any student of one against any of the other
        pairs = [(next(iter(answers.values()))[1], next(iter(others.values()))[1])]
    names = [name for name in pairs[0][0] if all(name in side for pair in pairs for side in pair)]
    return {name: _compared([(one[name], other[name]) for one, other in pairs]) for name in names}


def _compared(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> dict[str, float]:
    right, other_right = (np.array(side) for side in zip(*pairs, strict=True))
    difference, low, high = paired_bootstrap(right, other_right)
    return {"difference": difference, "low": low, "high": high, "runs": len(pairs), "n": right.shape[1]}


def read_seeds(run: str | Path) -> dict | None:
    """What [`train_seeds`] wrote about the student that is in a run's folder now; `None` where there is nothing."""
    path = Path(run) / SEEDS_FILE
    if not path.is_file() or not (Path(run) / "student" / STAGE_FILE).is_file():
        return None
    summary = read_note(path, SEEDS)
    return summary if summary["training"] == training_digest(Path(run) / "student") else None


def training_digest(folder: Path) -> str:
    """A digest of how a student was trained, its seed apart."""
    config = read_stage(folder / STAGE_FILE, "student")["config"]
    config["arguments"] = {name: value for name, value in config["arguments"].items() if name != "seed"}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32]


def _answers(folder: Path) -> _Answers:
    """
    By seed: a digest of the texts, and for each question whether the student was right about those that gold answers, of a
    student's or a run's folder.
    """
    folders = [folder] if (folder / EVALUATION_FILE).is_file() else [folder / "student"]
    summary = read_seeds(folder)
    if summary is not None:
        folders += [folder / "seeds" / str(seed) for seed in summary["seeds"][1:]]
    answers = {}
    for each in folders:
        table = read_evaluation(each)
        config = read_stage(each / STAGE_FILE, "student")["config"]
        task = TaskSpec.from_dict(config["task"])
        right = {}
        for name, part in task.parts.items():
            gold, question = table[name or "gold"][:], part.question
            given = table[answer_column(name, question.answer_column)][:]
            rows = [i for i, answer in enumerate(gold) if question.is_answer(answer)]
            if rows:
                right[name] = question.right([given[i] for i in rows], [gold[i] for i in rows])
        answers[config["arguments"]["seed"]] = (config["eval_data"], right)
    return answers
