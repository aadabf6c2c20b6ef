"""From replies in the ledger to the annotated dataset and the results of the stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from hf_llambert.annotation.asked import prefix
from hf_llambert.annotation.calibration import Calibration, calibrate, calibration_of, scored_rows
from hf_llambert.annotation.jury import JuryMethod, jury_columns
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.limits import Limits
from hf_llambert.data import STAGE_FILE
from hf_llambert.metrics import ANNOTATION_METRICS
from hf_llambert.notes import CALIBRATION, CALIBRATIONS, read_note
from hf_llambert.tasks.parts import ENDS, part_of, with_parts
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts

WINDOW = 4096  # rows that are sorted by length together; more bring nothing


@dataclass(frozen=True)
class Assembling:
    """
    How the dataset of [`annotate`] is put together.

    Args:
        calibration (`str`): `none`, `batch`, `contextual` or `fitted`.
        gold (`Mapping[str, list]`): People's answers by question, where there are some; see [`gold_answers`].
        calibration_rows (`int`): Rows at the beginning whose gold fits the calibration.
        prior (`Mapping[str, Sequence[float]]`): Believed shares by question.
        limits (`Limits`): Caps, whose reason rows have that were not asked about.
    """

    calibration: str
    gold: Mapping[str, list]
    calibration_rows: int
    prior: Mapping[str, Sequence[float]]
    limits: Limits

    def of_one(self, data: Dataset, labeler: LLMLabeler) -> tuple[Dataset, dict]:
        """The data with a labeler's columns from its ledger, calibrated, and the results."""
        annotated, results, _ = self._member(data, labeler)
        return annotated, results

    def of_jury(self, data: Dataset, labelers: Mapping[str, LLMLabeler], method: JuryMethod) -> tuple[Dataset, dict]:
        """The data with the columns of every member and of the jury, and the results."""
        members, calibrations = {}, {}
        for name, labeler in labelers.items():
            data, members[name], calibrations[name] = self._member(data, labeler)
            own = member_columns(name, labeler.task)
            data = data.rename_columns({old: new for old, new in own.items() if old in data.column_names})
        task = next(iter(labelers.values())).task
        found: dict[str, dict] = {}
        decided: list[Dataset] = []
        for part, one in task.parts.items():
            seen, agreement = jury_columns(
                part_of(data, task, part, list(labelers)),
                list(labelers),
                one,
                method,
                {name: of_member[part] for name, of_member in calibrations.items()},
            )
            of_jury = [column for column in seen.column_names if column.startswith("llm_")]
            decided.append(seen.select_columns(of_jury).rename_columns({c: f"{prefix(part)}{c[3:]}" for c in of_jury}))
            found[part] = {
                **_counts(seen, one),
                "label_mass": None,
                "calibration": None,
                "jury": {"method": method, **agreement},
            } | self._quality(seen, one, part)
        data = concatenate_datasets([data, *decided], axis=1)
        return data, _jury_results(data, task, members, found, method)

    def _member(self, data: Dataset, labeler: LLMLabeler) -> tuple[Dataset, dict, dict[str, Calibration]]:
        # Everything is in the ledger, so a cached result would save nothing and could be of a failed attempt.
        annotated = data.map(
            labeler.recall,
            batched=True,
            batch_size=WINDOW,
            fn_kwargs={"unasked": self.limits.reason},
            features=labeler.features(data),
            load_from_cache_file=False,
            desc="assembling",
        )
        parts, found, used = {}, {}, {}
        for name, one in labeler.task.parts.items():
            part = part_of(annotated, labeler.task, name)
            calibration = self._found(part, labeler, one, name)
            parts[name] = part if calibration is None else calibrate(part, one, calibration)
            used[name] = calibration or labeler.calibrations[name]
            found[name] = {
                **_counts(parts[name], one),
                "label_mass": _label_mass(part, one),
                "calibration": None if calibration is None else calibration.to_dict(),
            } | self._quality(parts[name], one, name)
        annotated = parts[""] if "" in parts else with_parts(annotated, labeler.task, parts)
        return annotated, _results(annotated, labeler, found), used

    def _found(self, part: Dataset, labeler: LLMLabeler, task: TaskSpec, name: str) -> Calibration | None:
        scored, scores = scored_rows(part)
        if self.calibration == "none" or not scored:
            return None
        prior, gold = self.prior.get(name), self.gold.get(name) or []
        if self.calibration == "contextual" and labeler.teacher.mode == "score":
            nothing = labeler.content_free_scores(name)
            return calibration_of("contextual", task.question, scores, content_free=nothing, prior=prior)
        if self.calibration == "batch":
            return calibration_of("batch", task.question, scores, prior=prior)
        if name and not gold:
            return None  # there is gold for other questions
        is_answer = task.question.is_answer
        fit = [k for k, row in enumerate(scored) if row < self.calibration_rows and gold and is_answer(gold[row])]
        return calibration_of(
            "fitted", task.question, scores[fit], gold=[gold[scored[k]] for k in fit] if gold else []
        )

    def _quality(self, part: Dataset, task: TaskSpec, name: str) -> dict:
        """How good a question's answers are by gold; empty without gold."""
        if name not in self.gold:
            return {}
        question, gold = task.question, self.gold[name]
        rows = [i for i in range(self.calibration_rows, len(gold)) if question.is_answer(gold[i])]
        answers, confidences = part[f"llm_{question.answer_column}"][:], part["llm_confidence"][:]
        answered = [i for i in rows if question.is_answer(answers[i])]
        if not answered:
            return {"quality": None}
        metric = ANNOTATION_METRICS[question.kind](keep_in_memory=True)
        return {
            "quality": metric.compute(
                predictions=[answers[i] for i in rows],
                references=[gold[i] for i in rows],
                labels=question.labels,
                confidences=None if any(confidences[i] is None for i in answered) else [confidences[i] for i in rows],
            )
        }


def member_columns(name: str, task: TaskSpec) -> dict[str, str]:
    """The columns of a jury's member by those of a labeler alone."""
    return {
        f"{prefix(part)}_{end}": f"{name}{prefix(part).removeprefix('llm')}_{end}"
        for part in task.parts
        for end in ENDS
    }


def saved_calibration(folder: str | Path) -> Calibration | dict[str, Calibration] | None:
    """
    The calibration that gave the labels of an annotated dataset in `folder` (or a run's folder), or one for each of several
    questions by name; `None` without one.
    """
    folder = Path(folder)
    note = next((path for path in (folder / "annotated" / STAGE_FILE, folder / STAGE_FILE) if path.is_file()), None)
    if note is None:
        return None
    shape = {"config": {"labeler_calibration": CALIBRATIONS}, "results": {"calibration?": (CALIBRATION, None)}}
    stage = read_note(note, shape)
    before, results = stage["config"]["labeler_calibration"], stage["results"]
    if "questions" in results:
        return {
            name: _of_note(of_question.get("calibration") or before[name])
            for name, of_question in results["questions"].items()
        }
    return _of_note(results.get("calibration") or before)


def _of_note(found: Mapping) -> Calibration:
    return Calibration(found["method"], tuple(found["bias"]), found["temperature"], found.get("kind", "choice"))


def _label_mass(part: Dataset, task: TaskSpec) -> float | None:
    """The mean probability that the teacher puts on the words of all labels; `None` where each is asked about by itself."""
    _, scores = scored_rows(part)
    if not len(scores) or len(task.branches[""]) > 1:
        return None
    return float(np.exp(np.logaddexp.reduce(scores, axis=1)).mean())


def _counts(part: Dataset, task: TaskSpec) -> dict:
    question, status = task.question, Counter(part["llm_status"][:])
    answers = filter(question.is_answer, part[f"llm_{question.answer_column}"])
    return {
        "n_rows": len(part),
        "n_ok": status["ok"],
        "n_abstained": status["abstained"],
        "n_failed": status["failed"],
        "n_truncated": sum(part["llm_truncated"][:]),
        "reasons": dict(Counter(reason for reason in part["llm_reason"][:] if reason)),
        "labels": dict(Counter(name for answer in answers for name in question.named(answer))),
        "coverage": status["ok"] / len(part),
    }


def _results(annotated: Dataset, labeler: LLMLabeler, found: Mapping[str, dict]) -> dict:
    """The results of a labeler: those of its only question, or of each beside what was spent on all."""
    seconds, tokens = labeler.spent(row_texts(annotated, labeler.text_column))
    reasons = [annotated[f"{prefix(name)}_reason"][:] for name in found]
    asked = sum(any(reason is None for reason in row) for row in zip(*reasons, strict=True))
    spent = {
        "seconds": seconds,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "texts_per_second": asked / seconds if seconds else None,
    }
    how = {"mode": labeler.teacher.mode, "settings": labeler.teacher.settings()}
    if "" in found:
        own = dict(found[""])
        measured = {name: own.pop(name) for name in ("label_mass", "calibration")}
        quality = {"quality": own.pop("quality")} if "quality" in own else {}
        return {**own, **spent, **measured, **how, **quality}
    return {**_rows(annotated, found), **spent, **how, "questions": dict(found)}


def _rows(annotated: Dataset, parts: Mapping[str, dict]) -> dict:
    """Rows that failed, or were cut, in any question."""

    def of(end: str, hit: object) -> int:
        columns = [annotated[f"{prefix(name)}_{end}"][:] for name in parts]
        return sum(hit in row for row in zip(*columns, strict=True))

    return {"n_rows": len(annotated), "n_failed": of("status", "failed"), "n_truncated": of("truncated", True)}


def _jury_results(
    annotated: Dataset, task: TaskSpec, members: dict[str, dict], found: dict[str, dict], method: JuryMethod
) -> dict:
    """
    The results of the jury. `n_failed` counts rows about which a member could not be asked; a rerun asks about them.
    """
    seconds = sum(of_member["seconds"] for of_member in members.values())
    spent = {
        "n_failed": sum(of_member["n_failed"] for of_member in members.values()),
        "seconds": seconds,
        "input_tokens": sum(of_member["input_tokens"] for of_member in members.values()),
        "output_tokens": sum(of_member["output_tokens"] for of_member in members.values()),
        "texts_per_second": len(annotated) / seconds if seconds else None,
    }
    how: dict = {"mode": "jury", "settings": {"teacher": "jury", "method": method}}
    if len(task.parts) > 1:
        return {**_rows(annotated, found), **spent, **how, "members": members, "questions": found}
    own = dict(found[""])
    jury, quality = own.pop("jury"), {"quality": own.pop("quality")} if "quality" in own else {}
    return {
        **own,
        **spent,
        **how,
        "jury": jury,
        "members": members,
        **quality,
    }
