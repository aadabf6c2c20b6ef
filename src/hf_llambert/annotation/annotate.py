"""The annotating stage: a sample in, a folder with the annotated sample out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, get_args

from datasets import Dataset

from hf_llambert.annotation.assembling import WINDOW, Assembling, member_columns
from hf_llambert.annotation.calibration import Calibration, uncalibrated
from hf_llambert.annotation.fields import check_fields
from hf_llambert.annotation.jury import JuryMethod
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.limits import Limits, Spending, check_caps
from hf_llambert.annotation.priors import Prior, prior_shares, warn_of_unscored
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import (
    STAGE_FILE,
    check_column,
    content_hash,
    note_stage,
    optional_gold,
    refuse_own_columns,
    stage_results,
    whole_folder,
)
from hf_llambert.gold import (
    GoldColumns,
    LabelMap,
    Reading,
    gold_answers,
    gold_columns,
    warn_about_answers,
)
from hf_llambert.notes import ANNOTATION
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.progress import progress_bar
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import gold_reading
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import column_names, row_texts, text_digest
from hf_llambert.teachers.base import asks_in_batches

logger = get_logger(__name__)

CalibrationMethod = Literal["none", "batch", "contextual", "fitted"]


def annotate(
    data: Dataset,
    labeler: LLMLabeler | Mapping[str, LLMLabeler],
    output: str | Path,
    *,
    calibration: CalibrationMethod = "batch",
    jury: JuryMethod = "dawid_skene",
    gold_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    calibration_rows: int = 0,
    prior: Prior | None = None,
    limits: Limits | None = None,
    unmeasured: Collection[str] = (),
    show_progress: bool = True,
) -> dict:
    """
    Ask the teacher about every row, calibrate, and save the annotated dataset.

    Under `accelerate launch` each process asks about its share of the rows; the main process then puts the dataset
    together from the ledger, which all must see.

    Args:
        data (`Dataset`): The sample.
        labeler (`LLMLabeler` or `Mapping[str, LLMLabeler]`): Task, teacher, ledger and text column. Several, by name,
            are a jury: each has its own columns (`NAME_label`, `NAME_confidence`, ...), and `llm_label` is what they
            decide together. Their tasks may be worded differently but have the same labels.
        output (`str` or `Path`): Folder of the annotated dataset, written whole or not at all. If it holds the result
            of this very call nothing is done, but that failed rows are asked about again.
        calibration (`str`, defaults to `"batch"`): `none`, `batch`, `contextual` or `fitted`. Replies that are not
            scores are left as they are.
        jury (`str`, defaults to `"dawid_skene"`): With several labelers, how they decide: `dawid_skene`, `mace`, `majority`,
            or `mean` of their probabilities, which needs scores.
        gold_column (`str` or `Mapping[str, str]`, *optional*): People's labels, to measure the teacher by; of several questions
            the columns by their names. Used for nothing else, except for `calibration_rows`.
        label_map (`Mapping[str, str]`, *optional*): What other labels of the gold column are in the task; see [`with_gold`].
        label_values (`str`, defaults to `"auto"`): What the gold column holds: `names`, `ids` or `ids_from_1`.
        calibration_rows (`int`, defaults to 0): With `fitted`, the first rows whose gold labels fit the calibration.
            They are left out of the measurement.
        prior (`Mapping[str, float]`, *optional*): Share of texts that each label is believed to have, for `batch` and
            `contextual`; of several questions by their names. Defaults to uniform. A question with several labels at a time has
            no default: without a prior `batch` leaves its scores as they are. Refused where the teacher gives no scores.
        limits (`Limits`, *optional*): Caps on money and hours, all labelers together. Rows beyond them fail with that
            reason, and a rerun asks about them.
        unmeasured (`Collection[str]`, defaults to none): Texts whose gold labels the teacher is not measured by, nor its scores
            fitted on, such as those that chose its prompt ([`tuned_texts`]); a warning counts them.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `dict`: Counts, speed, the calibration, and `quality` (see [`AnnotationQuality`]) when there is gold.

    Raises:
        FileExistsError: `output` holds the results of another run.
        BlockingIOError: Another process writes `output`, or asks the same with the same ledger.
        ValueError: No such column, no rows, `fitted` without gold, labelers that cannot be one jury, or a `max_cost` for an
            endpoint, which has its own.
    """
    state = process_state()
    output = Path(output)
    alone = not isinstance(labeler, Mapping)
    labelers = labeler if isinstance(labeler, Mapping) else {"llm": labeler}
    limits = limits or Limits()
    check_caps(limits, [one.teacher for one in labelers.values()])
    first = _check_members(labelers, alone)
    check_fields(data, first.text_column, first.task, gold_column)
    check_column(data, first.text_column, "text_column")
    for name in labelers:
        ends = [column.removeprefix("llm_") for column in first.features()]
        refuse_own_columns(data.column_names, [f"{own}_{end}" for own in {name, "llm"} for end in ends])
    if jury not in get_args(JuryMethod):
        raise ValueError(f"jury must be dawid_skene, majority, mace or mean, got {jury!r}.")
    _check_calibration(calibration, gold_column, calibration_rows, len(data))
    gold: dict[str, list] = {}
    if gold_column is not None:
        with optional_gold():
            columns = gold_columns(data.column_names, first.task, gold_column)
            gold = gold_answers(data, first.task, gold_column, label_map, label_values)
        warn_about_answers(row_texts(data, first.text_column), gold, first.task, columns)
    passed_over = _pass_over(gold, data, first, unmeasured)
    modes = {one.teacher.mode for one in labelers.values()}
    shares = prior_shares(first.task, prior, calibration, modes)
    warn_of_unscored(calibration, modes)
    config = {
        "task": first.task.to_dict(),
        "teacher": first.teacher.identity() if alone else {"teacher": "jury", "method": jury},
        "data": content_hash(data),
        "calibration": calibration,
        "calibration_rows": calibration_rows,
        "labeler_calibration": _noted(first.task, first.calibrations if alone else {}),
        "text_column": first.text_column,
        "gold_column": gold_column,
        **gold_reading(label_map, label_values),
        **({"prior": shares} if shares else {}),
        **({"unmeasured": passed_over} if passed_over else {}),
        **({"ask_apart": True} if alone and first.asks_apart else {}),
    }
    if not alone:
        config["members"] = {
            name: {
                "task": one.task.to_dict(),
                "teacher": one.teacher.identity(),
                "calibration": _noted(one.task, one.calibrations),
                **({"ask_apart": True} if one.asks_apart else {}),
            }
            for name, one in labelers.items()
        }
    done = _done(output, config, first)
    if done is not None and not done["n_failed"]:
        return done
    with asking_turn(labelers.values(), output) if state.is_main_process else nullcontext():
        wait_for_everyone()  # nobody asks before the main process has its turn
        assembling = Assembling(calibration, gold, calibration_rows, shares, limits)
        return _asked(data, labelers, None if alone else jury, output, config, assembling, show_progress)


def _asked(
    data: Dataset,
    labelers: Mapping[str, LLMLabeler],
    jury: JuryMethod | None,
    output: Path,
    config: dict,
    assembling: Assembling,
    show_progress: bool,
) -> dict:
    """The part of [`annotate`] under the locks: ask, then assemble the dataset from the ledger."""
    state = process_state()
    done = stage_results(output, config, ANNOTATION)  # of a process that has ended meanwhile, too
    if done is not None and not done["n_failed"]:
        return done
    start, end = (len(data) * k // state.num_processes for k in (state.process_index, state.process_index + 1))
    spending = _begun(assembling.limits, data, labelers, range(start, end), state.num_processes)
    with progress_bar(
        "annotating", (end - start) * len(labelers), show_progress and state.is_main_process
    ) as progress:
        for name, one in labelers.items():
            spending.turn_to(name)
            _ask(data, one, range(start, end), progress, spending)
            if assembling.calibration == "contextual" and one.teacher.mode == "score" and state.is_main_process:
                one.content_free_scores(next(iter(one.task.parts)))
            one.ledger.close()  # so that the main process, maybe on another machine, finds all of it in the files
    spending.warn()
    wait_for_everyone()
    if state.is_main_process:
        if done is not None:
            shutil.rmtree(output)  # it holds failed rows; all that came back is in the ledger
        with whole_folder(output) as part:
            annotated, results = (
                assembling.of_one(data, next(iter(labelers.values())))
                if jury is None
                else assembling.of_jury(data, labelers, jury)
            )
            annotated.save_to_disk(part)
            note_stage(part, config, results)
    wait_for_everyone()
    noted = stage_results(output, config, ANNOTATION)
    if noted is None:
        raise RuntimeError(f"The main process did not write '{output}'. Its error is above; the replies are kept.")
    return noted


def _pass_over(gold: dict[str, list], data: Dataset, labeler: LLMLabeler, texts: Collection[str]) -> list[str]:
    """Take people's answers to some texts out of `gold`. Returns the digests of those that are in the data."""
    hit = (
        [row for row, text in enumerate(row_texts(data, labeler.text_column)) if text in texts]
        if gold and texts
        else []
    )
    for name, answers in gold.items():
        gold[name] = list(answers)
        for row in hit:
            gold[name][row] = labeler.task.parts[name].question.missing
    if hit:
        logger.warning(
            "%s of the %s rows chose the prompt (hf-llambert tune): they are annotated, and the teacher is not measured on them.",
            f"{len(hit):,}",
            f"{len(data):,}",
        )
    return sorted({text_digest(text) for text in row_texts(data.select(hit), labeler.text_column)}) if hit else []


def _done(output: Path, config: dict, labeler: LLMLabeler) -> dict | None:
    """As [`stage_results`]; its error says how to keep what was answered."""
    try:
        return stage_results(output, config, ANNOTATION)
    except FileExistsError as error:
        if not (output / STAGE_FILE).is_file():
            raise
        raise FileExistsError(
            f"{error} With the ledger of this one (--ledger {labeler.ledger.folder}) what was asked in the same words is not "
            f"asked again."
        ) from error


def _noted(task: TaskSpec, calibrations: Mapping[str, Calibration]) -> dict:
    """Calibrations as a stage notes them: that of the only question, or those of several by name."""
    noted = {
        name: (calibrations.get(name) or uncalibrated(one.num_labels, one.question.kind)).to_dict()
        for name, one in task.parts.items()
    }
    return noted.get("", noted)


def _check_calibration(calibration: CalibrationMethod, gold_column: GoldColumns, gold_rows: int, rows: int) -> None:
    if not rows:
        raise ValueError("The dataset has no rows to annotate.")
    if calibration not in get_args(CalibrationMethod):
        raise ValueError(f"calibration must be none, batch, contextual or fitted, got {calibration!r}.")
    if calibration == "fitted" and (gold_column is None or not 0 < gold_rows < rows):
        raise ValueError(
            f"Fitted calibration needs gold labels: pass gold_column and calibration_rows between 1 and {rows - 1}; "
            f"got {gold_column!r} and {gold_rows}. Batch calibration needs none."
        )


def _check_members(labelers: Mapping[str, LLMLabeler], alone: bool) -> LLMLabeler:
    """Check that the labelers can be one jury. Returns the first."""
    if not alone and len(labelers) < 2:
        raise ValueError(f"A jury has two members or more, got {list(labelers)}. Pass the labeler itself.")
    first = next(iter(labelers.values()))
    for name, one in labelers.items():
        if not name.isidentifier() or (not alone and name in ("llm", "student")):
            raise ValueError(
                f"The name of a member begins its columns: expected letters, digits and _, not llm or student, which the jury's "
                f"and the student's begin with; got {name!r}."
            )
        shown, others = column_names(first.text_column), column_names(one.text_column)
        same = list(one.task.parts) == list(first.task.parts) and all(
            (mine.labels, mine.question.kind) == (theirs.labels, theirs.question.kind)
            for mine, theirs in zip(one.task.parts.values(), first.task.parts.values(), strict=True)
        )
        if not same or set(others) != set(shown):
            raise ValueError(
                f"The members of a jury need the same labels in the same order and the same text column, or columns; "
                f"{_labels(one.task)} in '{', '.join(others)}' ({name}) are not {_labels(first.task)} in "
                f"'{', '.join(shown)}'."
            )
    owned = [column for name, one in labelers.items() for column in member_columns(name, one.task).values()]
    if twice := sorted(column for column, count in Counter(owned).items() if count > 1):
        raise ValueError(
            f"Two members of the jury would write the column '{twice[0]}': a member's name and a question's make another's. "
            f"Name the members of {list(labelers)} otherwise."
        )
    return first


def _labels(task: TaskSpec) -> object:
    parts = {name: list(one.labels) for name, one in task.parts.items()}
    return parts.get("", parts)


def _begun(limits: Limits, data: Dataset, labelers: Mapping[str, LLMLabeler], rows: range, processes: int) -> Spending:
    """What this process may spend, less what earlier runs spent on its rows."""
    spending = limits.begin(processes)
    if limits.max_cost is not None:
        for name, one in labelers.items():
            spending.turn_to(name)
            spending.add(one.known(row_texts(data[rows.start : rows.stop], one.text_column)))
    return spending


def _ask(data: Dataset, labeler: LLMLabeler, rows: range, progress: Callable[[int], None], spending: Spending) -> None:
    """
    Ask about these rows, window by window, so that memory does not grow with them; in batches all at once. The replies are in
    the ledger.
    """
    window = max(len(rows), 1) if asks_in_batches(labeler.teacher) else WINDOW
    for start in range(rows.start, rows.stop, window):
        texts = row_texts(data[start : min(start + window, rows.stop)], labeler.text_column)
        told = 0

        def tell(count: int) -> None:
            nonlocal told
            told += count  # noqa: B023  (called within this turn of the loop only)
            progress(count)

        labeler.replies(texts, progress=tell, spending=spending)
        progress(len(texts) - told)  # repeated and unusable texts
