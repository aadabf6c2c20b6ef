"""`distill_student`: a run's encoder labels texts of the pool, and a student hundreds of times as fast learns them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset, List, Value, concatenate_datasets

from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.data import draw_rows
from hf_llambert.notes import ENCODER, read_stage
from hf_llambert.pool.distill_promise import Kept, check_against, kept_back
from hf_llambert.pool.distill_rows import alike, fresh, place, rows_at
from hf_llambert.pool.distilled import DISTILLED_FILE, STUDENTS, read_distilled
from hf_llambert.pool.labelled import Labels, run_labels, run_student
from hf_llambert.pool.manifest import shard_files
from hf_llambert.pool.shards import label_pool
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.stages import STAGE_FILE
from hf_llambert.tasks.parts import GOLD, answer_column
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, TextColumn, column_names, row_texts
from hf_llambert.training.backends import fastest_backend
from hf_llambert.training.columns import own_features
from hf_llambert.training.compared import EVALUATION_FILE, compare_rows, read_evaluation
from hf_llambert.training.loading import student_heads, student_kind
from hf_llambert.training.students import StudentLabeler
from hf_llambert.training.train import GOLD_FILE, SILVER_FILE
from hf_llambert.training.train_fast import FAST_KINDS, METRICS_FILE, FastKind, fast_arguments, train_fast
from hf_llambert.training.trainer import StudentConfig
from hf_llambert.training.vectors import TokenVectors
from hf_llambert.whole import write_whole

_FIRST = 2_500  # rows of the first point of a curve
_FLAT = 0.005  # of accuracy: less than this from twice the rows is flat


@dataclass(frozen=True)
class Distilled:
    """
    One student that was distilled, measured on the run's held-out texts beside its encoder.

    Args:
        kind (`str`): `linear` or `static`.
        num_rows (`int`): Texts of the pool that it learnt from, labelled by the encoder.
        folder (`str`): Its folder, in that of the run.
        right (`float`): Share of held-out texts that it gets right; of several questions the mean over them.
        encoder (`float`): The same of the encoder.
        difference (`dict`): How much more it gets right than the encoder (`difference`, `low`, `high`), by question where
            there are several.
        agreement (`float`): Share of held-out texts with the encoder's answers, of several questions to all.
        texts_per_second (`float`): Its speed on the held-out texts.
        times (`float`): How many times that is the encoder's.
        guarantee (`dict`, *optional*): By question, the [`Guarantee`] of the threshold below which the encoder labels (0: the
            student alone keeps it) as a `dict`; or `why` there is none.
    """

    kind: str
    num_rows: int
    folder: str
    right: float
    encoder: float
    difference: dict
    agreement: float
    texts_per_second: float
    times: float
    guarantee: dict | None = None


def distill_student(
    run: str | Path,
    to: FastKind | Literal["auto"] = "linear",
    *,
    num_rows: int = 20_000,
    pool: Dataset | None = None,
    within: float = 0.01,
    args: Mapping[str, StudentConfig] | None = None,
    seed: int = 42,
    guarantee: float | None = None,
    against: Literal["encoder", "gold"] = "encoder",
    show_progress: bool = True,
) -> dict:
    """
    Distil the student of a run into one that labels hundreds of times as many texts a second.

    The run's encoder labels texts of the pool, with probabilities; the small student learns these, with the silver and gold
    that the encoder learnt, and is measured on the same held-out texts. It lies in `RUN/students/KIND` and is a student like
    any other. The same call again does only what is missing.

    Args:
        run (`str` or `Path`): Folder of a run, whose `student` was trained with `eval_data`.
        to (`"linear"`, `"static"` or `"auto"`, defaults to `"linear"`): What to make of it. `auto` makes each kind from more
            and more texts, twice as many each time, until twice as many bring less than half a point or `num_rows` are used.
        num_rows (`int`, defaults to 20,000): Most texts of the pool to learn from. Held-out texts are never among them.
        pool (`Dataset`, *optional*): Texts without labels. Defaults to those of `RUN/labels`, which are labelled already.
        within (`float`, defaults to 0.01): How much less than the best student, the encoder among them, one may get right to
            be recommended; at the lower end of the interval of their difference.
        args (`Mapping[str, StudentConfig]`, *optional*): The arguments of each kind; `soft_targets` is on.
        seed (`int`, defaults to 42): Which texts are drawn.
        guarantee (`float`, *optional*): Certify, with 95 % confidence over all questions, that so large a share of labels is
            right: by each student alone, or with the encoder below the least threshold for which that can be certified.
        against (`str`, defaults to `"encoder"`): Whose labels count as right: the `encoder`'s, on texts of the pool that are kept
            back and not learnt, a fifth at most; or `gold`, on the run's held-out texts.
        show_progress (`bool`, defaults to `True`): Draw progress bars.

    Returns:
        `dict`: `students`, a [`Distilled`] as a `dict` for each kind, `curve` with those on fewer texts, and `chosen`: the
        fastest that is certainly `within` of the best, or `encoder`; also written to `RUN/students/distilled.json`.

    Raises:
        BlockingIOError: Another process distils the same run.
        FileNotFoundError: The run has no student, was not measured, or has no labelled pool and none is given.
        ValueError: An argument makes no sense, or the pool has too few texts.
    """
    kinds: Sequence[FastKind] = FAST_KINDS if to == "auto" else (to,)
    if not set(kinds) <= set(FAST_KINDS):
        raise ValueError(f"to must be auto, {', '.join(FAST_KINDS)}; got {to!r}.")
    if num_rows < 1 or not 0 <= within < 1:
        raise ValueError(f"Expected num_rows of 1 or more, and within from 0 to 1; got {num_rows} and {within}.")
    check_against(guarantee, against)
    source = _Run(Path(run))
    folder = source.run / STUDENTS
    with one_at_a_time(folder) if process_state().is_main_process else nullcontext():
        if "static" in kinds:
            source.need_vectors()  # before texts are labelled
        kept = Kept(source.task, source.column, guarantee, against, len(kinds))
        texts = source.texts(pool, num_rows + kept.wanted, seed, show_progress)
        texts, kept.rows = kept_back(texts, num_rows, kept)
        found: dict[str, Distilled] = {}
        curve: list[Distilled] = []
        for kind in kinds:
            for rows in _points(len(texts)) if to == "auto" else [len(texts)]:
                mine = copy.copy((args or {}).get(kind) or fast_arguments(kind, str(folder / "checkpoints")))
                mine.soft_targets, mine.seed = True, seed
                made = source.distilled(kind, texts.select(range(rows)), mine, folder / f"{kind}-{rows}")
                flat = kind in found and made.right - found[kind].right < _FLAT
                found[kind] = made
                curve.append(made)
                if flat:
                    break
        before, _ = read_distilled(source.run)
        for kind, one in (before or {"students": {}})["students"].items():
            if (folder / kind / METRICS_FILE).is_file():  # by an earlier call, from the same encoder
                found.setdefault(kind, Distilled(**one))
        looked = len(_points(len(texts))) if to == "auto" else 1
        found = source.certified(found, kinds, kept, looked)
        if process_state().is_main_process:
            for one in found.values():
                if one.kind in kinds:
                    place(source.run / one.folder, folder / one.kind)
        wait_for_everyone()
        results = {
            "students": {one.kind: asdict(one) for one in found.values()},
            "curve": [asdict(one) for one in curve],
            "within": within,
            "from": run_student(source.run),
            "chosen": source.chosen(list(found.values()), within),
        }
        if process_state().is_main_process:
            write_whole(folder / DISTILLED_FILE, json.dumps(results, indent=2) + "\n")
        wait_for_everyone()
        return results


def _points(rows: int) -> list[int]:
    """How many texts each point of a curve has: twice as many each time, and all of them in the end."""
    return [*(_FIRST * 2**k for k in range(64) if _FIRST * 2**k < rows), rows]


class _Run:
    """A run whose encoder is to be distilled."""

    def __init__(self, run: Path) -> None:
        self.run, self.student = run, run / "student"
        if not (self.student / STAGE_FILE).is_file():
            raise FileNotFoundError(f"'{run}' has no student to distil. Run hf-llambert train --output {run} first.")
        if (kind := student_kind(str(self.student))) != ENCODER:
            raise ValueError(
                f"The student of '{run}' is {kind}: as fast as what could be distilled. Distil a run's encoder."
            )
        stage = read_stage(self.student / STAGE_FILE, "student")
        config, results = stage["config"], stage["results"]
        self.task = TaskSpec.from_dict(config["task"])
        given = config["text_column"]
        self.column: TextColumn = tuple(given) if isinstance(given, list) else given
        if "eval" not in results or not (self.student / EVALUATION_FILE).is_file():
            raise FileNotFoundError(
                f"The student of '{run}' was not measured, so nothing that is distilled from it could be compared with it. "
                f"Train it with texts that people labelled (--eval_data)."
            )
        self.measured = read_evaluation(self.student)
        noted = results["eval"] if len(self.task.parts) == 1 else next(iter(results["eval"].values()))
        self.speed = noted["texts_per_second"]
        self.held_out = self._held_out()
        self.learnt = {
            name: Dataset.from_parquet(str(self.student / file))
            for name, file in (("silver", SILVER_FILE), ("gold", GOLD_FILE))
            if (self.student / file).is_file()
        }

    def _held_out(self) -> Dataset:
        """The texts that the encoder was measured on, with people's answers."""
        one = isinstance(self.column, str)
        shown = [[text] if one else text.split(FIELD) for text in self.measured["text"][:]]
        rows = Dataset.from_dict(
            dict(zip(column_names(self.column), map(list, zip(*shown, strict=True)), strict=True))
        )
        for name in self.task.parts:
            column = name or "gold"
            feature = self.measured.features[column]
            rows = rows.add_column(name or GOLD, self.measured[column][:], feature=feature)
        return rows

    @cached_property
    def vectors(self) -> TokenVectors:
        """The vectors of the encoder's tokens; made once, which takes a minute for a small encoder."""
        return TokenVectors.load(self.student, keep=self.run / STUDENTS)

    def need_vectors(self) -> None:
        """Raise an `ImportError` or a `ValueError` where there can be no static student."""
        try:
            _ = self.vectors
        except (ImportError, ValueError) as error:
            raise type(error)(f"{error} Or distil it into a linear student (--to linear).") from error

    def texts(self, pool: Dataset | None, num_rows: int, seed: int, show_progress: bool) -> Dataset:
        """So many texts of the pool with the encoder's answers and probabilities, as [`train_fast`] takes silver."""
        known = {text for data in (self.held_out, *self.learnt.values()) for text in row_texts(data, self.column)}
        if pool is None:
            labels = self._labels()
            most = min(labels.rows, num_rows + len(known))
            places = np.random.default_rng(seed).permutation(labels.rows)[:most]
            drawn = rows_at(labels, places, self._read())
            return self._answers(fresh(drawn, known, self.column, num_rows))
        names = column_names(self.column)
        if lacking := [name for name in names if name not in pool.column_names]:
            raise ValueError(
                f"Column '{lacking[0]}' not found in {pool.column_names}, and the student reads it. Rename the pool's column."
            )
        pool = pool.select_columns(names)
        drawn = draw_rows(pool, min(len(pool), num_rows + len(known)), seed)
        drawn = fresh(drawn, known, self.column, num_rows)
        folder = self.run / STUDENTS / "labelled"
        labeler = StudentLabeler(self.student, self.column, backend=fastest_backend())
        label_pool(drawn, labeler, folder, show_progress=show_progress, task=self.task, overwrite=True)
        return self._answers(Dataset.from_parquet([str(path) for path in shard_files(folder)]))

    def _read(self) -> list[str]:
        """The columns of a labelled pool that are read."""
        return [*column_names(self.column), *own_features(student_heads(str(self.student), None))]

    def _labels(self) -> Labels:
        """The labelled pool of the run."""
        labels = run_labels(self.run)
        if labels is None:
            raise FileNotFoundError(
                f"'{self.run}' has no labelled pool to learn from. Pass texts without labels (--pool), or run hf-llambert "
                f"label --student {self.run} --output {self.run}/labels first."
            )
        if labels.left_out is not None:
            raise ValueError(labels.left_out)
        if labels.of_two:
            raise ValueError(
                f"'{labels.folder}' holds answers of a fast student too (label --first), and a student is distilled from the "
                f"encoder's. Pass texts without labels (--pool)."
            )
        columns = pq.read_schema(labels.shards()[0]).names
        if lacking := [name for name in self._read() if name not in columns]:
            raise ValueError(
                f"'{labels.folder}' has no column {', '.join(lacking)}. Label the pool so that its texts are kept, or pass texts "
                f"without labels (--pool)."
            )
        return labels

    def _answers(self, labelled: Dataset) -> Dataset:
        """Labelled rows as silver: the encoder's answer to each question, and the probabilities that it gave."""
        rows = labelled.select_columns(column_names(self.column))
        for name, part in self.task.parts.items():
            question = part.question
            scores = labelled[answer_column(name, "scores")][:]
            answers = labelled[answer_column(name, question.answer_column)][:]
            given = [None if one is None else question.probabilities([one])[0].tolist() for one in scores]
            feature = question.own_features()[question.answer_column]
            rows = rows.add_column(name or GOLD, answers, feature=feature)
            column = f"{name}_probabilities" if name else "probabilities"
            rows = rows.add_column(column, given, feature=List(Value("float64")))
        return rows

    def distilled(self, kind: FastKind, texts: Dataset, args: StudentConfig, folder: Path) -> Distilled:
        """Train a student on texts that the encoder labelled and on what the encoder learnt, and measure both."""
        silver = texts
        if "silver" in self.learnt:
            silver = concatenate_datasets([texts, alike(self.learnt["silver"], texts.features)])
        found = train_fast(
            self.task,
            kind,
            folder,
            args,
            silver=silver,
            gold=self.learnt.get("gold"),
            eval_data=self.held_out,
            text_column=self.column,
            eval_name=f"the held-out texts of {self.run.name}",
            vectors=self.vectors if kind == "static" else None,
            overwrite=True,
        )
        mine = read_evaluation(folder)
        of_part = found["eval"] if len(self.task.parts) > 1 else {"": found["eval"]}
        speed = next(iter(of_part.values()))["texts_per_second"]
        return Distilled(
            kind,
            len(texts),
            str(folder.relative_to(self.run)),
            self._right(mine),
            self._right(self.measured),
            compare_rows(folder, self.student),
            self._agreement(mine),
            speed,
            speed / self.speed,
        )

    def certified(
        self, found: dict[str, Distilled], kinds: Sequence[FastKind], kept: Kept, looked: int
    ) -> dict[str, Distilled]:
        """The students with what can be promised of those that were made now; `looked`: how many of each kind were made."""
        if kept.guarantee is None:
            return found
        made = {kind: kept.promises(self.run / found[kind].folder, self.student, looked) for kind in kinds}
        return found | {kind: replace(found[kind], guarantee=one) for kind, one in made.items()}

    def _right(self, table: Dataset) -> float:
        """The share of answers that are right; of several questions the mean over them."""
        shares = []
        for name, part in self.task.parts.items():
            question, gold = part.question, table[name or "gold"][:]
            answers = table[answer_column(name, question.answer_column)][:]
            known = [i for i, answer in enumerate(gold) if question.is_answer(answer)]
            if known:
                shares.append(question.right([answers[i] for i in known], [gold[i] for i in known]).mean())
        return float(np.mean(shares))

    def _agreement(self, table: Dataset) -> float:
        """The share of held-out texts with the encoder's answers to all questions; on a scale its level."""
        names = [answer_column(n, next(iter(part.question.own_features()))) for n, part in self.task.parts.items()]
        mine, encoder = (list(zip(*(one[name][:] for name in names), strict=True)) for one in (table, self.measured))
        return sum(a == b for a, b in zip(mine, encoder, strict=True)) / len(mine)

    def chosen(self, found: Sequence[Distilled], within: float) -> str:
        """The fastest student that is certainly within so much of the best; see [`distill_student`]."""
        best = max(found, key=lambda one: one.right)
        folder = self.run / STUDENTS / best.kind if best.right > best.encoder else self.student
        for one in sorted(found, key=lambda one: -one.texts_per_second):
            mine = self.run / STUDENTS / one.kind
            if mine == folder:
                return one.kind
            difference = compare_rows(mine, folder)
            each = [difference] if "low" in difference else list(difference.values())
            if min(part["low"] for part in each) >= -within:
                return one.kind
        return "encoder"
