"""The options of `hf-llambert label` that promise something about the labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_llambert.cli.gold import gold_column, label_columns
from hf_llambert.cli.kept import untuned
from hf_llambert.cli.options import say, values

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import Guarantee, Labeler, LLMLabeler, TaskSpec
    from hf_llambert.cli.cascade import Asking
    from hf_llambert.pool.promise import Promise

_CONFIDENCE = 0.95

GuaranteeTarget = Annotated[
    float | None,
    typer.Option(
        "--guarantee",
        help="Find that threshold, so that labels are this accurate, such as 0.95: by --gold or, with --against teacher, so that "
        "they agree with the teacher's.",
    ),
]
AgainstWhom = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Whose labels --guarantee counts as right: gold (the default) or teacher, for which rows of the pool are drawn.",
        autocompletion=values("gold", "teacher"),
    ),
]
GuaranteeRows = Annotated[
    int | None,
    typer.Option(
        "--guarantee_rows",
        help="With --against teacher: how many rows of the pool to draw. Default: what the promise needs, 5,000 at most.",
    ),
]
GuaranteeOf = Annotated[
    list[str] | None,
    typer.Option(
        "--guarantee_of",
        help="Promise recall:LABEL or precision:LABEL, of one label alone. Of several questions QUESTION=recall:LABEL; may be "
        "repeated.",
    ),
]
Gold = Annotated[
    str | None,
    typer.Option("--gold", help="With --guarantee: texts with people's labels that the student was not trained on."),
]


def check_promise(
    target: float | None, against: str | None, rows: int | None, of: list[str] | None, gold: str | None
) -> None:
    """
    Refuse options of a promise that do not fit together, before anything is loaded.

    Raises:
        ValueError: They do not.
    """
    given = {"--against": against, "--guarantee_rows": rows, "--guarantee_of": of or None}
    named = [option for option, value in given.items() if value is not None]
    if named and target is None:
        raise ValueError(f"{' and '.join(named)} say what --guarantee promises. Add --guarantee 0.95, or drop them.")
    if against not in (None, "gold", "teacher"):
        raise ValueError(
            f"--against takes gold or teacher, got '{against}'. What a fast student keeps of an encoder's labels is promised by "
            f"--first with --encoder_agreement."
        )
    if target is not None and not 0 < target < 1:
        raise ValueError(f"--guarantee takes a share between 0 and 1, such as 0.95; got {target}.")
    if against == "teacher" and gold is not None:
        raise ValueError(
            "--gold has people's labels, and --against teacher asks for none: rows of the pool are drawn. Drop one of them."
        )
    if rows is not None and against != "teacher":
        raise ValueError("--guarantee_rows says how many rows --against teacher draws; by gold those of --gold count.")
    if rows is not None and rows < 1:
        raise ValueError(f"--guarantee_rows takes 1 or more, got {rows}.")


def promised_of(given: list[str], task: TaskSpec) -> dict[str, str]:
    """
    `--guarantee_of`, by the names of [`TaskSpec.parts`].

    Raises:
        ValueError: It is no recall or precision of a label of the task, or is not said of a question once.
    """
    from hf_llambert.pool.guarantee import promises_of

    if len(task.parts) == 1:
        if len(given) > 1:
            raise ValueError(f"--guarantee_of takes one promise, got {', '.join(given)}.")
        return promises_of("".join(given), task)
    found: dict[str, str] = {}
    for word in given:
        name, equals, of = word.partition("=")
        if not equals:
            promises_of(word, task)  # which says what is expected
        if name in found:
            raise ValueError(f"--guarantee_of says of '{name}' both '{found[name]}' and '{of}'.")
        found[name] = of
    return promises_of(found, task)


def wanted_promises(asking: Asking, target: float) -> dict[str, Promise]:
    """What is to be promised of each question, the risk split evenly over them."""
    from hf_llambert.pool.promise import Promise

    risk = (1 - _CONFIDENCE) / len(asking.task.parts)
    return {name: Promise(target, 1 - risk, asking.against, of) for name, of in asking.of.items()}


def promises_of_asking(
    asking: Asking, output: Path, student: Labeler, labeler: LLMLabeler, target: float
) -> dict[str, Guarantee]:
    """What can be promised of each question, by the gold that was named or by what the teacher says of rows of the pool."""
    from hf_llambert import calibrate_cascade, calibrate_questions, load_data

    several = len(asking.task.parts) > 1
    if asking.against == "teacher":
        data = _drawn(asking, output, labeler, target)
        given: dict = {"against": "teacher"}
        if several:
            return calibrate_questions(data, student, labeler, target, of=asking.of, **given)
        return {"": calibrate_cascade(data, student, labeler, target, of=asking.of[""], **given)}
    read = label_columns(asking.label_column, asking.task) if several else [asking.label_column or "label"]
    data = load_data(str(asking.gold), label_columns=read, text_column=student.text_column, **asking.form)
    data = untuned(data, student.text_column, asking.tuned, "--gold")
    if several:
        column = gold_column(asking.label_column, data.column_names, asking.task)
        return calibrate_questions(
            data, student, labeler, target, of=asking.of, gold_column=column, **asking.reading_gold
        )
    given = {"gold_column": read[0], **asking.reading_gold}
    return {"": calibrate_cascade(data, student, labeler, target, of=asking.of[""], **given)}


def _drawn(asking: Asking, output: Path, labeler: LLMLabeler, target: float) -> Dataset:
    """The rows of the pool on which the teacher's labels are promised."""
    from hf_llambert.pool.promised_rows import PoolRows
    from hf_llambert.processes import process_state

    pool = PoolRows(output / "labels", asking.task, labeler.text_column)
    promises = wanted_promises(asking, target)
    default, needed = pool.number(promises)
    number = min(asking.rows or default, len(pool))
    if number < needed.least:
        named = promises[next(iter(promises))].named()
        raise ValueError(
            f"{named[0].upper()}{named[1:]} cannot be promised by {number:,} of the pool's {len(pool):,} "
            f"labelled rows: at least {needed.least:,} are needed even where all agree. "
            + (
                "Draw more (--guarantee_rows)"
                if len(pool) >= needed.least
                else "Ask about all (--ask_teacher_below 1)"
            )
            + ", or lower --guarantee."
        )
    if asking.max_asked is not None and number > asking.max_asked:
        raise ValueError(
            f"The promise takes {number:,} rows that the teacher is asked about, and --max_asked allows {asking.max_asked:,}. "
            f"Raise it, or draw fewer (--guarantee_rows)."
        )
    if process_state().is_main_process:
        say(
            f"the teacher is asked about {number:,} of the pool's {len(pool):,} rows, drawn at random: {needed.wanted:,} "
            f"{'of that label ' if any(asking.of.values()) else ''}certify {target:.1%} where {needed.share:.1%} of the labels "
            f"are right; --guarantee_rows draws another number"
        )
    return pool.draw(number, asking.seed)
