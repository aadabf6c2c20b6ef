"""The options of `hf-llambert label` that send what the student is unsure of to a teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.gold import by_question, gold_column, label_columns
from hf_llambert.cli.options import TEACHERS, reason_lines, say
from hf_llambert.cli.promise import check_promise, promised_of, promises_of_asking, wanted_promises

if TYPE_CHECKING:
    from hf_llambert import Labeler, LLMLabeler, TaskSpec
    from hf_llambert.pool.cascade import Below
    from hf_llambert.pool.promise import Against
    from hf_llambert.teachers.base import Teacher

_CALIBRATED_ON = 256  # rows

AskBelow = Annotated[
    list[str] | None,
    typer.Option(
        "--ask_teacher_below",
        help="Ask a teacher where the student's confidence is below this, such as 0.7. Of several questions one for all, or "
        "QUESTION=0.7 for each; may be repeated.",
    ),
]
MaxAsked = Annotated[
    int | None, typer.Option("--max_asked", help="Most texts to ask the teacher about, the least sure first.")
]
TeacherName = Annotated[
    str | None, typer.Option("--teacher", help="Hub id or directory of a language model, or a YAML file of a teacher.")
]
TeacherBackend = Annotated[
    str,
    typer.Option(
        "--teacher_backend",
        help="Who runs the teacher: transformers, vllm, endpoint or recorded.",
        autocompletion=TEACHERS,
    ),
]
LedgerFolder = Annotated[
    Path | None, typer.Option("--ledger", help="Folder of the teacher's replies. Default: OUTPUT/ledger.")
]


@dataclass(frozen=True)
class Asking:
    """What is to be asked of whom, once the student is done."""

    task: TaskSpec
    teacher: Teacher
    below: float | dict[str, float] | None
    target: float | None
    against: Against
    rows: int | None
    of: dict[str, str]
    seed: int
    gold: str | None
    max_asked: int | None
    label_column: str | None
    reading_gold: dict
    reading_pool: dict
    ledger: Path
    form: dict
    tuned: frozenset[str] = frozenset()


def plan_asking(
    output: Path,
    *,
    task: str | None,
    below: list[str] | None,
    target: float | None,
    gold: str | None,
    max_asked: int | None,
    teacher: str | None,
    against: str | None = None,
    rows: int | None = None,
    of: list[str] | None = None,
    backend: str,
    arguments: Sequence[str],
    seed: int,
    label_column: str | None,
    reading_gold: dict,
    ledger: Path | None,
    encoding: str = "utf-8",
    delimiter: str = ",",
) -> Asking | None:
    """
    What the options ask for, checked before the student labels anything; `None` where no teacher is to be asked.

    Raises:
        ValueError: They do not fit together.
    """
    from hf_llambert import load_task, tuned_texts
    from hf_llambert.teachers.kinds import load_teacher, teacher_from_arguments

    check_promise(target, against, rows, of, gold)
    if not below and target is None:
        if teacher or gold or max_asked is not None or arguments:
            given = [*(["--teacher"] if teacher else []), *(["--gold"] if gold else []), *arguments]
            raise ValueError(
                f"No teacher is asked without --ask_teacher_below or --guarantee. Add one of them, or drop "
                f"{' '.join(given or ['--max_asked'])}."
            )
        return None
    if below and target is not None:
        raise ValueError("--guarantee finds the threshold that --ask_teacher_below gives. Pass one of them.")
    by_gold = against != "teacher"
    if by_gold and (target is None) != (gold is None):
        raise ValueError(
            "--guarantee and --gold belong together: the promise is certified on texts with people's labels. Without any, "
            "promise agreement with the teacher: --against teacher."
        )
    if by_gold and target is not None and label_column == "none":
        raise ValueError(
            "--guarantee certifies on people's labels, and --label_column none says that there are none. Name the column of "
            "--gold that has them."
        )
    if task is None or (teacher is None and backend == "transformers"):
        raise ValueError("To ask a teacher, pass --task and --teacher.")
    if teacher is not None and Path(teacher).suffix in (".yaml", ".yml"):
        if arguments:
            raise ValueError(f"The arguments {list(arguments)} belong to no teacher. Put them into {teacher}.")
        asked = load_teacher(teacher)
    else:
        asked = teacher_from_arguments(backend, [*arguments, *(("--model", teacher) if teacher else ())], seed)
    spec, form = load_task(task), {"encoding": encoding, "delimiter": delimiter}
    tuned = tuned_texts(output, task)
    limits = below_of(below, spec) if below else None
    promised = promised_of(of or [], spec)
    if gold is not None:
        _check_gold(gold, label_column, spec, reading_gold, form, tuned)
    return Asking(
        spec,
        asked,
        limits,
        target,
        against or "gold",  # type: ignore[arg-type]  # checked above
        rows,
        promised,
        seed,
        gold,
        max_asked,
        label_column,
        reading_gold,
        reading_gold,
        ledger or output / "ledger",
        form,
        tuned,
    )


def below_of(given: list[str], task: TaskSpec) -> float | dict[str, float]:
    """
    `--ask_teacher_below` as `cascade` takes it: a number, or one for each of several questions by name.

    Raises:
        ValueError: It is no confidence, or is not said of each question once.
    """
    from hf_llambert.pool.cascade import flat, thresholds

    text = ",".join(given)
    if "=" not in text:
        return confidence_of(text, "ask_teacher_below", 0.7)
    said = by_question(text, task, "ask_teacher_below")
    return flat(thresholds({name: confidence_of(one, "ask_teacher_below", 0.7) for name, one in said.items()}, task))


def confidence_of(text: str, option: str, such_as: float) -> float:
    """A number of an option that takes confidences. Raises `ValueError` where it is none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(
            f"--{option} takes confidences from 0 to 1, such as {such_as}, or QUESTION={such_as}; got {text!r}."
        )
    return number


def _check_gold(
    gold: str, column: str | None, task: TaskSpec, reading: dict, form: dict, tuned: frozenset[str]
) -> None:
    """Refuse gold that cannot be read, or that all chose the prompt, before anybody labels or is asked."""
    from hf_llambert import load_data
    from hf_llambert.gold import gold_answers
    from hf_llambert.tuning.kept import leave_out

    several = len(task.parts) > 1
    try:
        read = label_columns(column, task) if several else [column or "label"]
        data = load_data(gold, label_columns=read, **form)
        of = gold_column(column, data.column_names, task) if several else column or "label"
        found = gold_answers(data, task, of, **reading)
    except ValueError as error:
        raise ValueError(f"--gold '{gold}': {error}") from error
    if tuned and isinstance(shown := task.columns("text"), str):
        leave_out(data, shown, tuned, "--gold")
    for name, answers in found.items():
        if not any(map(task.parts[name].question.is_answer, answers)):
            raise ValueError(
                f"--gold '{gold}' has no row with a label in column '{name or column or 'label'}'. Pass --label_column."
            )


def ask_teacher(asking: Asking, output: Path, student: Labeler, overwrite: bool = False) -> dict:
    """
    Run the cascade over `OUTPUT/labels` into `OUTPUT/cascade`, and say what it bought.

    Args:
        asking (`Asking`): From [`plan_asking`].
        output (`Path`): Folder of the run, whose labels are complete.
        student (`Labeler`): The student that made them, or two.
        overwrite (`bool`, defaults to `False`): Replace the results of another call.
    """
    from hf_llambert import LLMLabeler, cascade, cascade_summary, read_pool
    from hf_llambert.pool.cascade_claim import refuse_taken
    from hf_llambert.pool.cascade_results import pool_answers_of_people
    from hf_llambert.processes import main_process_first, process_state

    labels = output / "labels"
    below: Below | None = asking.below
    state = process_state()
    columns = read_pool(labels, streaming=True).column_names or []
    found = gold_column(asking.label_column, columns, asking.task)
    if asking.target is not None and isinstance(found, str) and found not in columns:  # the column of --gold alone
        found = None
    if found is not None:  # before anybody is asked
        if isinstance(found, str) and found not in columns:
            raise ValueError(f"Column '{found}' not found in {columns}. Pass another --label_column, or none.")
        pool_answers_of_people(labels, asking.task, found, **_reading(asking.reading_pool))
    if asking.target is not None and not overwrite:
        wanted = wanted_promises(asking, asking.target)
        unasked = LLMLabeler(asking.task, asking.teacher, asking.ledger, student.text_column)
        given = {"max_asked": asking.max_asked, "gold_column": found, **(asking.reading_pool if found else {})}
        refuse_taken(labels, unasked, output / "cascade", wanted, **given)
    with main_process_first():  # the others find the replies in the ledger
        labeler = _labeler(asking, output, student)
        if asking.target is not None:
            promises = promises_of_asking(asking, output, student, labeler, asking.target)
            below = promises[""] if list(promises) == [""] else promises
        labeler.ledger.close()
    results = cascade(
        labels,
        labeler,
        output / "cascade",
        below=below or 0.0,
        max_asked=asking.max_asked,
        gold_column=found,
        **(asking.reading_pool if found else {}),
        overwrite=overwrite,
    )
    if not state.is_main_process:
        return results
    for line in [*cascade_summary(results), *reason_lines(results)]:
        say(line)
    say(f"written to {output / 'cascade'}")
    if results["n_asked"] and results["n_abstained"] + results["n_failed"] == results["n_asked"]:
        say("The teacher gave no label to any text; the reasons stand above.", error=True)
        raise typer.Exit(1)
    return results


def _reading(given: dict) -> dict:
    return {"label_map": None, "label_values": "auto", **given}


def _labeler(asking: Asking, output: Path, student: Labeler) -> LLMLabeler:
    """The teacher as it annotated this run; else calibrated on what the student is least sure of."""
    from hf_llambert import LLMLabeler, TaskSpec, pool_calibration, saved_calibration
    from hf_llambert.data import STAGE_FILE, read_note
    from hf_llambert.pool.cascade import thresholds

    labeler = LLMLabeler(asking.task, asking.teacher, asking.ledger, student.text_column)
    note, found = output / "annotated" / STAGE_FILE, None
    if note.is_file():
        made = read_note(note, {"config": {"task": dict, "teacher": dict}})["config"]
        same_task = TaskSpec.from_dict(made["task"]).to_dict() == asking.task.to_dict()  # JSON has no numbers as keys
        if same_task and made["teacher"] == asking.teacher.identity():
            found = saved_calibration(output)
    if found is None and len(asking.task.parts) == 1:
        number = _CALIBRATED_ON if asking.max_asked is None else min(_CALIBRATED_ON, asking.max_asked)
        found = pool_calibration(
            output / "labels",
            labeler,
            below=1.0 if asking.below is None else thresholds(asking.below, asking.task)[""],
            number=number,
        )
    elif found is None and asking.teacher.mode == "score":
        say(
            f"The teacher's scores are not calibrated: '{output / 'annotated'}' is no annotation of this task by this teacher. "
            f"Annotate a sample into '{output}' with it first (hf-llambert annotate), and the cascade takes the calibration."
        )
    return LLMLabeler(asking.task, asking.teacher, asking.ledger, student.text_column, found)
