"""The training stage of students that are no encoders: linear ones, and static ones."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from datasets import Dataset

from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.data import check_column, content_hash, note_stage, stage_results, whole_folder, write_whole
from hf_llambert.notes import TRAINED
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts
from hf_llambert.training.compared import compare_rows
from hf_llambert.training.evaluation import evaluate_student
from hf_llambert.training.fast import FastModel, in_threads
from hf_llambert.training.heads import Head, heads_of
from hf_llambert.training.inputs import save_notes
from hf_llambert.training.linear import LinearModel, choose_unit, fit_linear
from hf_llambert.training.resuming import decisive, own_folder
from hf_llambert.training.rows import (
    all_answers,
    answers_of,
    check_arguments,
    check_variety,
    for_thresholds,
    kept_back,
    labelled_rows,
    rows_note,
    training_rows,
    warn_of_shared_texts,
)
from hf_llambert.training.static_training import fit_static, static_arguments
from hf_llambert.training.students import StudentLabeler
from hf_llambert.training.trainer import StudentConfig
from hf_llambert.training.vectors import TokenVectors
from hf_llambert.whole import room_needed, scratch_folder

FastKind = Literal["linear", "static"]
METRICS_FILE = "metrics.json"
"""Written last: a student's folder without it was trained and not measured yet."""
BASELINE = "baseline"
"""Beside an encoder: the linear student of the same rows."""
FAST_KINDS: tuple[FastKind, ...] = ("linear", "static")


def train_fast(
    task: TaskSpec,
    kind: FastKind,
    output: str | Path,
    args: StudentConfig,
    *,
    silver: Dataset | None = None,
    gold: Dataset | None = None,
    eval_data: Dataset | None = None,
    text_column: TextColumn = "text",
    selection: Sequence[dict] = (),
    eval_name: str = "held-out texts",
    vectors: TokenVectors | None = None,
    overwrite: bool = False,
) -> dict:
    """
    Fit a student that labels hundreds of times as many texts a second as an encoder, and measure it like one.

    `linear` is TF-IDF and a logistic regression. It counts words and pairs of words, or runs of one to four characters where
    these get more of a quarter of the rows right (tried where texts are short or have no spaces), 200,000 of them at most and
    fewer of many labels. Of `args` it takes what is learnt and how rows are weighed (`soft_targets`, `target_temperature`,
    `weight_by_confidence`, `gold_weight`, `class_balanced`, `label_smoothing_factor`, `loss`, `scale_loss`,
    `threshold_share`); silver and gold are learnt together, and nothing is drawn.

    `static` is a table of token vectors, averaged over a text, and a linear head; both are trained as an encoder is, with all
    of `args` ([`static_arguments`] has defaults that suit), from `vectors` of an encoder or of a static model.

    Args:
        task (`TaskSpec`): Names and order of the labels.
        kind (`"linear"` or `"static"`): Which student.
        output (`str` or `Path`): Folder of the student, written whole or not at all. If it holds the result of this very
            call nothing is done.
        args (`StudentConfig`): What is learnt from the rows.
        silver (`Dataset`, *optional*): Texts labelled by a teacher or another student; see [`train_student`].
        gold (`Dataset`, *optional*): Texts labelled by people.
        eval_data (`Dataset`, *optional*): Texts with gold labels, only measured on.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts. Several fields are read as one
            text.
        selection (`Sequence[dict]`, *optional*): The counts of [`select_silver`], noted for the report.
        eval_name (`str`, defaults to `"held-out texts"`): What `eval_data` is.
        vectors (`TokenVectors`, *optional*): Where a static student begins; see [`TokenVectors.load`].
        overwrite (`bool`, defaults to `False`): Replace a student of other rows or arguments.

    Returns:
        `dict`: As of [`train_student`].

    Raises:
        BlockingIOError: Another process writes `output`.
        FileExistsError: `output` holds the results of another run.
        ValueError: No such kind, no column, no usable row, fewer than two labels, or an argument that it cannot take.
        RuntimeError: A static student's training ended in weights that are no numbers; nothing was saved.
    """
    if kind not in FAST_KINDS:
        raise ValueError(f"kind must be one of {', '.join(FAST_KINDS)}, got {kind!r}.")
    text_column, output = task.columns(text_column), Path(output)
    sources = {"silver": silver, "gold": gold}
    rows = {name: labelled_rows(d, task, text_column, name) for name, d in sources.items() if d is not None}
    if not rows:
        raise ValueError("Nothing to train on. Pass silver, gold or both.")
    heads = heads_of(task, args.scale_loss)
    check_arguments(heads, args)
    check_variety(rows, task)
    if kind == "linear" and args.loss == "elr":
        raise ValueError("loss='elr' looks at epochs, and a linear student has none. Leave loss out.")
    if (kind == "static") != (vectors is not None):
        raise ValueError(
            f"Expected vectors for a static student and for no other, got {'them' if vectors else 'none'} for a {kind} one. "
            f"Take them from an encoder: TokenVectors.load(...)."
        )
    training = _Training(
        task, kind, output, args, heads, rows, eval_data, text_column, selection, eval_name, vectors, overwrite
    )
    done = training.noted()
    wait_for_everyone()  # all have looked before one writes
    if done is None and process_state().is_main_process:
        if eval_data is not None:
            check_column(eval_data, text_column, "text_column")
            warn_of_shared_texts(rows, {}, eval_data, text_column)
        with one_at_a_time(output):
            training.make()
    wait_for_everyone()
    if (noted := done or training.noted()) is None:
        raise RuntimeError(f"The main process did not write '{output}'. Its error is above.")
    return noted


def fast_arguments(kind: FastKind, output_dir: str, **given: object) -> StudentConfig:
    """Training arguments of a fast student; see [`static_arguments`]."""
    given = {"report_to": [], "use_cpu": True, "disable_tqdm": True, **given}
    make = static_arguments if kind == "static" else StudentConfig
    return make(output_dir, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Training:
    """The training of a fast student, with what [`train_fast`] was given; `rows` can be learnt from, `heads` are of the task."""

    task: TaskSpec
    kind: str
    output: Path
    args: StudentConfig
    heads: tuple[Head, ...]
    rows: Mapping[str, Dataset]
    eval_data: Dataset | None
    text_column: TextColumn
    selection: Sequence[dict] = ()
    eval_name: str = "held-out texts"
    vectors: TokenVectors | None = None
    overwrite: bool = False

    @cached_property
    def config(self) -> dict:
        """What decides the student."""
        return {
            "task": self.task.to_dict(),
            "student": self.kind,
            **{name: content_hash(self.rows[name]) if name in self.rows else None for name in ("silver", "gold")},
            "eval_data": None if self.eval_data is None else content_hash(self.eval_data),
            "text_column": self.text_column,
            "arguments": decisive(self.args, {part.question.kind for part in self.task.parts.values()}),
            **({"vectors": self.vectors.source} if self.vectors else {}),
        }

    def noted(self) -> dict | None:
        """The results of a student that is trained and measured."""
        fitted = self._fitted()
        return fitted if (self.output / METRICS_FILE).is_file() else None

    def _fitted(self) -> dict | None:
        """The results of a student that is trained."""
        try:
            return stage_results(self.output, self.config, TRAINED)
        except FileExistsError:
            if self.overwrite and (self.output / STAGE_FILE).is_file():
                return None  # of other rows or arguments
            raise

    def make(self) -> None:
        """Fit and measure on one process; what was fitted already is only measured."""
        if self._fitted() is None:
            if self.output.exists():
                with scratch_folder(self.output) as part:  # a kill leaves all of it or nothing
                    self.output.rename(part / "another")
            self._fit()
        with room_needed(self.output):
            self._measure()

    def _fit(self) -> None:
        task, kind, output, args, config = self.task, self.kind, self.output, self.args, self.config
        rows, heads, text_column, vectors, selection = (
            self.rows, self.heads, self.text_column, self.vectors, self.selection
        )  # fmt: skip
        start = time.perf_counter()
        rows, dev = kept_back(rows, args.dev_share or for_thresholds(heads, rows, args), args.seed, text_column)
        heads = tuple(head.fitted(all_answers(rows.values(), head.name, head.question)) for head in heads)
        model: FastModel
        if vectors is None:
            model, how = _linear(rows, heads, args, text_column)
        else:
            args = own_folder(args, config)
            model, how = fit_static(vectors, task, heads, args, rows.get("silver"), rows.get("gold"), text_column, dev)
            shutil.rmtree(str(args.output_dir), ignore_errors=True)
        heads = _tuned(model, heads, dev, text_column)
        results = {
            "train": {
                **rows_note(rows, dev, heads),
                "seconds": time.perf_counter() - start,
                "seed": args.seed,
                "student": kind,
                "selection": list(selection),
                **({"vectors": vectors.source} if vectors else {}),
                **how,
            }
        }
        with whole_folder(output) as part:
            model.save(part)
            note = {
                "kind": kind,
                "reading": {"fields": list(task.fields)},
                "questions": [head.note() for head in heads],
            }
            save_notes(part, note, {"task": task.to_dict(), "arguments": {"seed": args.seed, "loss": args.loss}})
            note_stage(part, config, results)

    def _measure(self) -> None:
        """Measure a fast student on texts with gold labels; the notes of it come last."""
        noted = stage_results(self.output, self.config, TRAINED) or {}
        if self.eval_data is not None:
            measured = evaluate_student(
                StudentLabeler(self.output, self.text_column), self.eval_data, self.task, self.output
            )
            each = measured.items() if len(self.task.parts) > 1 else [("", measured)]
            found = {name: {**quality, "source": self.eval_name} for name, quality in each}
            noted = {**noted, "eval": found if len(self.task.parts) > 1 else found[""]}
            note_stage(self.output, self.config, noted)
        write_whole(self.output / METRICS_FILE, json.dumps(noted, indent=2) + "\n")


def _linear(
    rows: Mapping[str, Dataset], heads: Sequence[Head], args: StudentConfig, text_column: TextColumn
) -> tuple[LinearModel, dict]:
    """A linear student, and what is noted of it."""
    found = training_rows(rows.get("silver"), rows.get("gold"), heads, args)
    weights = torch.tensor(found["weight"], dtype=torch.float32)
    texts = [text for data in rows.values() for text in row_texts(data, text_column)]
    learnt = (
        pa.chunked_array([pa.array(texts, pa.large_string())]),
        torch.tensor(found["targets"], dtype=torch.float32),
        weights if weights.ndim == 2 else weights.unsqueeze(-1),
        heads,
    )
    unit, tried = choose_unit(*learnt, args.loss)
    model = fit_linear(*learnt, unit, loss=args.loss)
    return model, {"features": model.grams.size, "unit": unit, "tried": tried}


def _tuned(
    model: FastModel, heads: Sequence[Head], dev: Mapping[str, Dataset], text_column: TextColumn
) -> tuple[Head, ...]:
    """The heads with what is chosen by the rows kept back; see `tuned` of `training/train.py`."""
    if not dev:
        return tuple(heads)
    data = dev["gold" if "gold" in dev else "silver"]
    texts = pa.array(row_texts(data, text_column), pa.large_string())
    logits = torch.from_numpy(in_threads(model.logits, texts))
    return tuple(head.tuned(head.of(logits), answers_of(data, head.name, head.question)) for head in heads)


def words_baseline(
    task: TaskSpec,
    folder: Path,
    args: StudentConfig,
    *,
    eval_data: Dataset,
    text_column: TextColumn,
    rows: Mapping[str, Dataset],
) -> dict:
    """
    What counting words reaches: the linear student of an encoder's rows, in `folder/baseline`, beside the encoder.

    Args:
        task (`TaskSpec`): The task.
        folder (`Path`): Folder of the encoder, measured on `eval_data`.
        args (`StudentConfig`): The arguments of its training.
        eval_data (`Dataset`): What both are measured on.
        text_column (`str` or `Sequence[str]`): Column of the texts.
        rows (`Mapping[str, Dataset]`): `silver`, `gold` or both, that it learnt from.

    Returns:
        `dict`: `unit`, `features`, `seconds` of fitting, `eval` as that of the encoder, and `difference`: how much more the
        encoder gets right on the same texts, with its interval; see [`compare_students`].
    """
    plain = copy.copy(args)
    plain.loss = "cross_entropy" if args.loss == "elr" else args.loss
    output, heads = folder / BASELINE, heads_of(task, plain.scale_loss)
    training = _Training(task, "linear", output, plain, heads, rows, eval_data, text_column)
    if training.noted() is None:
        training.make()  # here and now: other processes do not wait for this
    found = training.noted() or {}
    fitted = {name: found["train"][name] for name in ("unit", "features", "seconds")}
    return {**fitted, "eval": found["eval"], "difference": compare_rows(folder, output)}
