"""`tune_task`: asks a teacher in several ways about the same texts, and says which way is best and how surely."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from hf_llambert.annotation.calibration import CONTENT_FREE
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.annotation.limits import Limits, check_caps
from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.data import check_column
from hf_llambert.gold import GoldColumns, LabelMap, Reading
from hf_llambert.misfits import ANY, COUNT, Shape
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.progress import progress_bar
from hf_llambert.stages import note_stage, stage_results
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn
from hf_llambert.teachers.base import Mode, Teacher, asks_in_batches
from hf_llambert.teachers.recorded import RecordedTeacher
from hf_llambert.tuning.asking import Answers, Asker, with_mode
from hf_llambert.tuning.candidates import (
    Prompt,
    example_sets,
    shots_that_fit,
    unique,
    with_examples,
    wordings,
    wordings_digest,
)
from hf_llambert.tuning.found import merit, results_of
from hf_llambert.tuning.halving import Round, most_requests, rounds
from hf_llambert.tuning.kept import ROWS_FILE, TUNE
from hf_llambert.tuning.lines import TASK_FILE
from hf_llambert.tuning.page import write_pages
from hf_llambert.tuning.rows import Rows, gold_rows, plain_rows
from hf_llambert.tuning.written import most_calls, write_wordings
from hf_llambert.whole import whole_folder, write_whole

CALIBRATIONS = ("batch", "none", "contextual")
"""The first is what annotate does unless told otherwise: what the given prompt is compared by."""
_NOTE: Shape = {"by": str, "n_rows": COUNT, "prompts": [{ANY: object}], "chosen": dict, "task": dict}


@dataclasses.dataclass(frozen=True)
class Tuning:
    """
    What [`tune_task`] compares.

    Args:
        variants (`Mapping[str, TaskSpec]`, *optional*): Of [`load_variants`].
        written (`Mapping[str, TaskSpec]`, *optional*): Wordings by an LLM, by name.
        writer (`Teacher`, *optional*): An LLM that writes further wordings, by what the teacher gets wrong on the gold kept
            apart. Needs the extra `tune` (GEPA).
        num_written (`int`, defaults to 4): How many.
        built_in (`bool`, defaults to `True`): Compare built-in ways too, which hold for any labels.
        shots (`Sequence[int]`, defaults to 0, 1 and 2): Numbers of worked examples of each label, from gold kept apart.
        modes (`Sequence[str]`, *optional*): `score`, `generate` or both. Defaults to the teacher's.
        calibrations (`Sequence[str]`, defaults to `batch`, `none` and `contextual`): Calibrations of scores.
        num_gold (`int`, *optional*): Gold rows to use. Defaults to 100, or as many as there are.
        num_examples (`int`, defaults to 20): How many of these worked examples are taken from; nothing is compared on them.
        num_texts (`int`, defaults to 80): Without gold: texts to compare on.
        seed (`int`, defaults to 42): Which rows are drawn, and in which order.

    Raises:
        ValueError: A number or a name makes no sense.
    """

    variants: Mapping[str, TaskSpec] = dataclasses.field(default_factory=dict)
    written: Mapping[str, TaskSpec] = dataclasses.field(default_factory=dict)
    writer: Teacher | None = None
    num_written: int = 4
    built_in: bool = True
    shots: Sequence[int] = (0, 1, 2)
    modes: Sequence[Mode] = ()
    calibrations: Sequence[str] = CALIBRATIONS
    num_gold: int | None = None
    num_examples: int = 20
    num_texts: int = 80
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.calibrations or set(self.calibrations) - set(CALIBRATIONS):
            raise ValueError(f"calibrations are some of {', '.join(CALIBRATIONS)}, got {list(self.calibrations)}.")
        if set(self.modes) - {"score", "generate"}:
            raise ValueError(f"modes are score, generate or both, got {list(self.modes)}.")
        few_gold = self.num_gold is not None and self.num_gold < 1
        if self.writer is not None and self.num_written < 1:
            raise ValueError(f"num_written must be 1 or more where somebody writes, got {self.num_written}.")
        if min(self.shots, default=0) < 0 or self.num_examples < 0 or few_gold or self.num_texts < 1:
            raise ValueError(
                f"shots and num_examples are 0 or more, num_gold and num_texts 1 or more; got {list(self.shots)}, "
                f"{self.num_examples}, {self.num_gold} and {self.num_texts}."
            )


def tune_task(
    task: TaskSpec,
    teacher: Teacher,
    output: str | Path,
    data: Dataset,
    *,
    label_column: GoldColumns = None,
    tuning: Tuning | None = None,
    text_column: TextColumn = "text",
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    ledger: str | Path | None = None,
    limits: Limits | None = None,
    before: Callable[[Mapping], None] | None = None,
    earlier: frozenset[str] = frozenset(),
    show_progress: bool = True,
) -> dict:
    """
    Ask a teacher in several ways about the same texts, and choose the way that is right most often.

    Compared are the task as it is given, its variants, built-in ways, each with and without worked examples, and calibrations
    of the scores, which ask nothing more (contextual: three texts a prompt). Every prompt is asked about some texts; the better
    half goes on to twice as many, until few are left on all. Writes the best as a task file `OUTPUT/tuned.yaml`, a page
    `OUTPUT/tune.html` with its figure, and how it came about into `OUTPUT/tune`; there `rows.jsonl` has the gold rows, which
    later promises leave out ([`tuned_texts`]). Replies are in the ledger: a call that was stopped goes on, and the same call
    again asks nothing.

    Without gold the prompt is chosen whose answers tell most: sure of each text, and yet different between texts (mutual
    information). In the studies that was about 3 points behind the best prompt (docs/studies.md#prompts).

    Args:
        task (`TaskSpec`): A task of one question.
        teacher (`Teacher`): Whom to ask.
        output (`str` or `Path`): Folder of the run.
        data (`Dataset`): Texts, with people's labels where they choose.
        label_column (`str`, *optional*): Column of people's labels. Without it the choice is made by the texts alone.
        tuning (`Tuning`, *optional*): What is compared.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): As of [`LLMLabeler`].
        label_map (`Mapping`, *optional*): What other labels of the data are in the task; see [`with_gold`].
        label_values (`str`, defaults to `"auto"`): What the column holds: `names`, `ids` or `ids_from_1`.
        ledger (`str` or `Path`, *optional*): Folder of the replies. Defaults to `OUTPUT/ledger`.
        limits (`Limits`, *optional*): Caps on money and hours.
        before (`Callable`, *optional*): Called with `n_requests` (the most that will be asked), `n_prompts`, `n_rows` and
            `rounds` before anybody is asked.
        earlier (`frozenset[str]`, *optional*): Texts that chose this task before, of [`tuned_texts`]. Nothing is compared on
            them, and later promises leave them out too.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `dict`: `chosen` (the prompt, its calibration and how sure that is), `given` (the same of the task as given),
        `prompts` with all figures, `rounds`, `left_out`; also in `OUTPUT/tune/stage.json`.

    Raises:
        FileExistsError: `output` holds the choice of another call, or a `tuned.yaml` that no call chose.
        Stopped: A cap was reached or the teacher could not be asked; what was answered is kept.
        ValueError: The task has several questions, the teacher cannot be asked in other words, or there is too little gold.
    """
    tuning, output = tuning or Tuning(), Path(output)
    limits = limits or Limits()
    _check(task, teacher, label_column, tuning)
    check_caps(limits, [teacher])
    column = task.columns(text_column)
    check_column(data, column, "text_column")
    num_examples = tuning.num_examples if tuning.writer or shots_that_fit(task, tuning.shots) else 0
    rows = (
        plain_rows(data, column, tuning.num_texts, tuning.seed, earlier)
        if label_column is None
        else gold_rows(
            data,
            task,
            column,
            label_column,
            label_map,
            label_values,
            tuning.num_gold,
            num_examples,
            tuning.seed,
            {example.text for one in (task, *tuning.variants.values()) for example in one.examples},
            earlier,
        )
    )
    config = _config(task, teacher, column, rows, tuning)
    folder = output / TUNE
    if process_state().is_main_process:
        with one_at_a_time(folder):
            if stage_results(folder, config, _NOTE) is None:
                if (output / TASK_FILE).exists():
                    raise FileExistsError(
                        f"'{output / TASK_FILE}' is there and '{folder}', which says how it was chosen, is not. Move it away, or "
                        f"choose another output."
                    )
                results = _compared(
                    task,
                    teacher,
                    Path(ledger or output / "ledger"),
                    column,
                    rows,
                    tuning,
                    limits,
                    before,
                    show_progress,
                )
                with whole_folder(folder) as part:
                    write_whole(part / ROWS_FILE, rows.lines(task))
                    note_stage(part, config, results)
            results = stage_results(folder, config, _NOTE) or {}
            write_pages(output, results)
    wait_for_everyone()
    found = stage_results(folder, config, _NOTE)
    if found is None:
        raise RuntimeError(f"The main process did not write '{folder}'. Its error is above; the replies are kept.")
    return found


def _check(task: TaskSpec, teacher: Teacher, label_column: GoldColumns, tuning: Tuning) -> None:
    if len(task.parts) > 1:
        raise ValueError(
            f"Task '{task.name}' has several questions ({', '.join(task.parts)}), and a prompt is chosen for one at a time. "
            f"Write each as a task of its own, tune these, and put the words that won into the questions."
        )
    if isinstance(teacher, RecordedTeacher):
        raise ValueError("Recorded answers were given to one prompt. Tune with a teacher that can be asked.")
    if asks_in_batches(teacher):
        raise ValueError(
            "A batch service answers after hours, and each round of a comparison waits for the one before. Tune with the "
            "endpoint of the same model (--backend endpoint), then annotate by batch."
        )
    if tuning.writer is not None:
        _check_writer(task, tuning.writer, label_column)
    if label_column is None and (teacher.mode != "score" or "generate" in tuning.modes or task.questions):
        raise ValueError(
            "Without gold a prompt is chosen by the probabilities of labels: that needs a task with labels and a teacher with "
            "--mode score. Label some texts (hf-llambert review), and pass them with --gold."
        )
    for name, one in {**tuning.variants, **tuning.written}.items():
        if one.question.labels != task.question.labels or one.fields != task.fields:
            raise ValueError(
                f"Variant '{name}' has the labels {list(one.question.labels)} and shows {', '.join(one.fields)}; the task has "
                f"{list(task.question.labels)} and shows {', '.join(task.fields)}. A variant asks the same in other words."
            )


def _check_writer(task: TaskSpec, writer: Teacher, label_column: GoldColumns) -> None:
    if label_column is None or task.questions:
        raise ValueError(
            "An LLM writes by what the teacher gets wrong: that needs a task with labels, and gold (--gold)."
        )
    if isinstance(writer, RecordedTeacher) or asks_in_batches(writer):
        raise ValueError("The writer must be an LLM that can be asked at once: a local model or an endpoint.")


def _config(task: TaskSpec, teacher: Teacher, column: TextColumn, rows: Rows, tuning: Tuning) -> dict:
    """What decides the choice."""
    return {
        "task": task.to_dict(),
        "teacher": teacher.identity(),
        "text_column": column,
        "variants": {name: one.to_dict() for name, one in tuning.variants.items()},
        "written": {name: one.to_dict() for name, one in tuning.written.items()},
        **({} if tuning.writer is None else {"writer": tuning.writer.identity(), "num_written": tuning.num_written}),
        "wordings": wordings_digest(wordings(task, tuning.variants, tuning.modes or [teacher.mode], tuning.built_in)),
        "shots": sorted(set(tuning.shots)),
        "modes": list(tuning.modes) or [teacher.mode],
        "calibrations": list(tuning.calibrations),
        "rows": rows.digest(task),
        "seed": tuning.seed,
    }


def _compared(
    task: TaskSpec,
    teacher: Teacher,
    ledger: Path,
    column: TextColumn,
    rows: Rows,
    tuning: Tuning,
    limits: Limits,
    before: Callable[[Mapping], None] | None,
    show_progress: bool,
) -> dict:
    """Ask round by round, and choose."""
    modes = list(dict.fromkeys(tuning.modes or [teacher.mode]))
    for mode in modes:
        with_mode(teacher, mode)  # which may refuse it
    shown = [(text, task.question.named(answer)[0]) for text, answer in rows.shown]
    sets = example_sets(task, shown, tuning.shots, tuning.seed)
    prompts = wordings(task, tuning.variants, modes, tuning.built_in, tuning.written)
    more = 0 if tuning.writer is None else tuning.num_written * len(modes)
    plan = rounds(len(prompts) + more, len(sets), len(rows.texts))
    n_prompts = len(prompts) + more + sum(one.fresh for one in plan)
    of_nothing = len(CONTENT_FREE) * n_prompts if "contextual" in tuning.calibrations and "score" in modes else 0
    estimate: dict = {
        "n_prompts": n_prompts,
        "n_rows": len(rows.texts),
        "n_requests": most_requests(plan)
        + of_nothing
        + (most_calls(len(rows.shown), tuning.num_written) if more else 0),
        "rounds": [dataclasses.asdict(one) for one in plan],
    }
    if before is not None:
        before(estimate)
    with progress_bar("tuning", estimate["n_requests"], show_progress) as progress:
        asker = Asker(
            teacher, Ledger(ledger), column, tuning.calibrations, limits, progress, _not_tried(task, rows, tuning)
        )
        asker.begin([*prompts, *with_examples(prompts, sets)], [*rows.texts, *(text for text, _ in rows.shown)])
        try:
            if tuning.writer is not None:
                written = write_wordings(
                    task, tuning.writer, asker, modes[0], rows.shown, tuning.num_written, tuning.seed
                )
                prompts = wordings(task, tuning.variants, modes, tuning.built_in, {**tuning.written, **written})
                plan = rounds(len(prompts), len(sets), len(rows.texts))
            found, left = _halved(prompts, sets, rows, plan, asker)
        finally:
            asker.close()
    estimate["rounds"] = [dataclasses.asdict(one) for one in plan]
    return results_of(task, found, left, rows, estimate, asker.left_out, limits)


def _not_tried(task: TaskSpec, rows: Rows, tuning: Tuning) -> dict[str, str]:
    """Numbers of worked examples that cannot be compared, and why."""
    if not rows.gold or task.questions:
        return {}
    fit = shots_that_fit(task, tuning.shots)
    fewest = min(sum(answer == number for _, answer in rows.shown) for number in range(task.num_labels))
    return {
        f"worked examples, {count} of each label": f"only {fewest} of the rarest label are kept apart for it"
        if count in fit
        else f"of {task.num_labels} labels these are more than a prompt is given"
        for count in sorted(set(tuning.shots) - {0})
        if count not in fit or count > fewest
    }


def _halved(
    prompts: Sequence[Prompt], sets: Sequence, rows: Rows, plan: Sequence[Round], asker: Asker
) -> tuple[dict[Prompt, Answers], dict[Prompt, int]]:
    """The answers of each prompt to as many rows as it was asked about, and the round in which each left."""
    found: dict[Prompt, Answers] = {}
    left: dict[Prompt, int] = {}
    going = list(prompts)
    for number, one in enumerate(plan):
        if number:
            stay = one.prompts - one.fresh
            ranked = sorted(going, key=lambda prompt: merit(found[prompt], rows), reverse=True)
            kept = [going[0], *(prompt for prompt in ranked if prompt != going[0])][:stay]  # the given one stays
            left |= {prompt: number - 1 for prompt in going if prompt not in kept}
            going = [prompt for prompt in going if prompt in kept]
            if one.fresh:
                going += unique([*prompts, *with_examples(going, sets)])[len(prompts) :]
        for prompt in list(going):
            answers = asker.ask(prompt, rows.texts[: one.rows])
            if answers is None:
                going.remove(prompt)
                found.pop(prompt, None)  # of an earlier round, on fewer rows than the others
            else:
                found[prompt] = answers
    return found, left
