"""The stages of `hf-llambert run`: what plan, annotate, train, label and report do, by the functions that they call."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hf_llambert.cli.gold import label_columns
from hf_llambert.cli.lines import annotated_line, questions_of, trained_line, unanswered
from hf_llambert.cli.options import reason_lines, say
from hf_llambert.cli.run_rows import Drawn, Rows
from hf_llambert.cli.teachers import limits_of, prices_of

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import Limits, LLMLabeler, Price, StudentConfig, TaskSpec
    from hf_llambert.teachers.base import Teacher

_SPENT = ("not asked", "the budget is spent")  # how the reasons begin of rows that a cap kept from being asked about


@dataclass(frozen=True)
class Caps:
    """What annotating may cost: money, and hours of this run."""

    cost: float | None
    hours: float | None


@dataclass(frozen=True)
class Way:
    """
    Everything that a run is made of.

    Args:
        task (`TaskSpec`): What is asked.
        drawn (`Drawn`): What the command line says about rows.
        rows (`Rows`): The rows.
        output (`Path`): Folder of the run.
        ledger (`Path`): Folder of the replies.
        teacher (`Callable`): Makes the teacher.
        student (`str`): The encoder to start from.
        training (`StudentConfig`): All about the training.
        max_length (`int`): The student's longest input in tokens.
        calibration (`str`): As `annotate` takes it.
        caps (`Caps`): What annotating may cost.
        prices (`Path`, *optional*): The price table.
        conditions (`Path`, *optional*): Those of the gate.
        gold (`Dataset`, *optional*): Texts with people's labels to train on.
        ask_apart (`bool`): Ask each of several questions by itself.
        prior (`dict`, *optional*): Believed shares of labels, as `annotate` takes them.
        baseline (`bool`): Whether a linear student is fitted beside the encoder.
        report (`dict`): Content of `report.json`, once that stage is done.
    """

    task: TaskSpec
    drawn: Drawn
    rows: Rows
    output: Path
    ledger: Path
    teacher: Callable[[], Teacher]
    student: str
    training: StudentConfig
    max_length: int
    calibration: str
    caps: Caps
    prices: Path | None
    conditions: Path | None
    gold: Dataset | None
    ask_apart: bool
    prior: dict | None
    baseline: bool
    report: dict = field(default_factory=dict)

    def plan(self) -> dict:
        """What all of it will take, as `hf-llambert plan` says it."""
        from hf_llambert import StudentPlan, fastest_backend, load_prices, make_plan

        labeler, _, _ = self._labeler()
        epochs, batch = self.training.num_train_epochs, self.training.per_device_train_batch_size
        return make_plan(
            self.rows.rest,
            labeler,
            num_annotated=len(self.rows.sample),
            num_pool=self.rows.num_pool,
            student=StudentPlan(
                self.student, self.max_length, epochs=epochs, batch_size=batch, backend=fastest_backend()
            ),
            prices=None if self.prices is None else load_prices(self.prices),
            gold_column=self.rows.gold_column,
            **self.rows.reading,
            calibration="none" if self.calibration == "none" else "batch",
            prior=self.prior,
            seed=self.drawn.seed,
        )

    def stages(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """The stages in their order, by name; each does what is left of it and says in a line what came of it."""
        yield "annotate", self._annotate
        yield "train", self._train
        yield "label", self._label
        yield "report", self._report

    def _labeler(self) -> tuple[LLMLabeler, Limits | None, Price | None]:
        """Teacher and task, with the caps that are left of the money."""
        from hf_llambert import LLMLabeler, load_prices

        labeler = LLMLabeler(self.task, self.teacher(), self.ledger, self.drawn.text_column, ask_apart=self.ask_apart)
        paid = prices_of({"llm": labeler}, None if self.prices is None else load_prices(self.prices))
        limits = limits_of({"llm": labeler}, self.rows.sample, self.caps.cost, self.caps.hours, paid)
        return labeler, limits, None if paid is None else paid["llm"]

    def _annotate(self) -> str:
        from hf_llambert import annotate
        from hf_llambert.data import STAGE_FILE
        from hf_llambert.notes import read_stage

        noted = self.output / "annotated" / STAGE_FILE
        if (self.output / "student" / STAGE_FILE).is_file() and noted.is_file():
            found = read_stage(noted, "annotated")[
                "results"
            ]  # rows that failed are not asked again: they were left out
            price = None
        else:
            labeler, limits, price = self._labeler()
            found = annotate(
                self.rows.sample,
                labeler,
                self.output / "annotated",
                calibration=self.calibration,  # type: ignore[arg-type]  # checked there
                gold_column=self.rows.gold_column,
                **self.rows.reading,
                prior=self.prior,
                limits=limits,
                unmeasured=self.drawn.tuned,
            )
        self._refuse_unfinished(found)
        line = annotated_line(found, self.task)
        if price is not None:
            cost = price.cost(found["seconds"], found["input_tokens"], found["output_tokens"])
            line += f"; {cost:,.4g} {price.currency}"
        return line

    def _refuse_unfinished(self, found: Mapping) -> None:
        """End where a cap was reached, or no text got a label."""
        each = questions_of(found).values()
        spent = [{r: n for r, n in one.get("reasons", {}).items() if r.startswith(_SPENT)} for one in each]
        left, missed = max(sum(of_one.values()) for of_one in spent), unanswered(found)
        if not left and not missed:
            return
        for line in dict.fromkeys(line for one in each for line in reason_lines(one)):
            say(line, error=True)
        if left:
            say(
                f"{left:,} of {found['n_rows']:,} texts were not asked about, so nothing was trained. Run again with a larger "
                f"cap, or with a smaller --num_annotated.",
                error=True,
            )
        else:
            say(str(missed), error=True)
        raise typer.Exit(1)

    def _train(self) -> str:
        from hf_llambert import load_data, saved_calibration, select_silver, train_student, worth_lines

        sources: dict[str, Dataset] = {}
        column = self.drawn.text_column
        calibration = saved_calibration(self.output)
        sources["silver"], selection = select_silver(load_data(self.output), self.task, calibration=calibration)
        if self.gold is not None:
            sources["gold"] = self.gold
        if self.rows.held_out is not None:
            sources["eval_data"] = self.rows.held_out
        with redirect_stdout(io.StringIO()):  # the losses, line after line; they stand in the report
            found = train_student(
                self.task,
                self.student,
                self.output / "student",
                self.training,
                **sources,
                text_column=column,
                max_length=self.max_length,
                selection=selection,
                eval_name=self.rows.what or "held-out texts",
                baseline=self.baseline,
            )
        shutil.rmtree(self.output / "checkpoints" / "run", ignore_errors=True)
        with suppress(OSError):  # where others are
            (self.output / "checkpoints").rmdir()
        line = f"{found['train']['n']:,} labels in {found['train']['seconds']:,.0f} s"
        if quality := found.get("eval"):
            beside = worth_lines(found, self.task, self.output)
            return "\n".join([f"{line}; {trained_line(quality, self.task)}", *(f"    {one}" for one in beside)])
        return f"{line}; not measured: that takes --eval_data or --num_held_out"

    def _label(self) -> str:
        from hf_llambert import StudentLabeler, fastest_backend, label_pool

        labeler = StudentLabeler(self.output / "student", self.drawn.text_column, backend=fastest_backend())
        whole = self.rows.pool is None
        columns = label_columns(self.drawn.label_column, self.task)
        found = label_pool(
            self.drawn.data if self.rows.pool is None else self.rows.pool,
            labeler,
            self.output / "labels",
            task=self.task,
            **({"split": self.drawn.split, "label_columns": columns, **self.drawn.form} if whole else {}),
        )
        if not found["n_labelled"]:
            raise ValueError(f"No text could be labelled: column '{self.drawn.text_column}' holds none.")
        line = f"{found['n_labelled']:,} texts"
        line += f", {found['n_unusable']:,} unusable" if found["n_unusable"] else ""
        line += f", {found['texts_per_second']:,.1f} texts/s" if found["texts_per_second"] else ""
        among = "annotated and held out" if self.drawn.num_held_out else "annotated"
        return line + (f"; those {among} are among them" if whole else "")

    def _report(self) -> str:
        from hf_llambert import compare_labels, load_prices, write_report

        compare_labels(self.output)
        prices = self.prices
        if prices is not None and load_prices(prices).find(self.student) is None:
            prices = None  # the report's cost is that of all stages
        self.report.update(write_report(self.output, gate=self.conditions, prices=prices))
        return str(self.output / "report.html")
