"""The plan of a run: tokens, hours and money, estimated from a small sample before the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from datasets import Dataset

from hf_llambert.annotation.asked import prefix
from hf_llambert.annotation.calibration import calibration_of
from hf_llambert.annotation.fields import check_fields
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.priors import Prior, prior_shares
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import check_column, optional_gold
from hf_llambert.gold import GoldColumns, LabelMap, Reading, gold_answers
from hf_llambert.planning.costs import Answer, Costs, Lengths, cached_money, money_of
from hf_llambert.planning.forecast import Estimate, Moments, break_even, scaled, share, summed
from hf_llambert.planning.prices import Price, PriceTable
from hf_llambert.planning.student_speed import student_speed
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import row_texts, why_unusable
from hf_llambert.teachers.base import asks_in_batches
from hf_llambert.teachers.local import TransformersTeacher
from hf_llambert.training.backends import Backend

_LONGEST = 5
_REASONS = 3  # the commonest, in a note


@dataclass(frozen=True)
class StudentPlan:
    """
    The student of a plan.

    Args:
        student (`str`): Directory or Hub id of an encoder.
        max_length (`int`, defaults to 256): Longest input in tokens.
        head_share (`float`, defaults to 0.5): Share of a cut text taken from its beginning.
        epochs (`float`, defaults to 6): Passes over the silver rows.
        batch_size (`int`, defaults to 16): Rows in a step.
        backend (`str`, defaults to `"torch"`): What labels the pool: torch, openvino or onnx.
    """

    student: str
    max_length: int = 256  # these are what training does unless told otherwise
    head_share: float = 0.5
    epochs: float = 6
    batch_size: int = 16
    backend: Backend = "torch"

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size must be positive, got {self.epochs} and {self.batch_size}.")


def make_plan(
    data: Dataset,
    labeler: LLMLabeler,
    *,
    num_annotated: int,
    num_pool: int | None = None,
    sample: int = 64,
    student: StudentPlan | None = None,
    prices: PriceTable | None = None,
    gold_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    calibration: Literal["none", "batch"] = "batch",
    prior: Prior | None = None,
    max_counted: int = 50_000,
    seed: int = 42,
) -> dict:
    """
    Ask the teacher about a small sample, and say what annotating, training and labelling will take.

    The sample is the first rows of what `load_data(..., num_rows=num_annotated, seed=seed)` takes, and its replies are in the
    labeler's ledger: `annotate` with that seed asks about the rest only, and a second plan asks nothing. Hours are those of
    this machine and of one process, without loading models.

    Args:
        data (`Dataset`): All texts.
        labeler (`LLMLabeler`): Task, teacher, ledger and text column.
        num_annotated (`int`): Rows that the teacher is to annotate.
        num_pool (`int`, *optional*): Texts to be labelled in the end. Defaults to the rows of `data`.
        sample (`int`, defaults to 64): Rows to ask about now.
        student (`StudentPlan`, *optional*): An encoder, to be measured for a few steps.
        prices (`PriceTable`, *optional*): What teacher and student cost; without it the plan has no money.
        gold_column (`str` or `Mapping[str, str]`, *optional*): People's labels, to measure the teacher's by; of several questions
            their columns by name.
        label_map (`Mapping`, *optional*): What other labels of that column are in the task; see [`with_gold`].
        label_values (`str`, defaults to `"auto"`): What that column holds: `names`, `ids` or `ids_from_1`.
        calibration (`str`, defaults to `"batch"`): `none` or `batch`, for the agreement with gold.
        prior (`Mapping[str, float]`, *optional*): Believed shares of the labels, as [`annotate`] takes them.
        max_counted (`int`, defaults to 50000): Most texts whose length is counted; of more a random part is.
        seed (`int`, defaults to 42): Seed of the rows.

    Returns:
        `dict`: JSON-ready. `annotate`, `teacher_for_all`, `student` and `break_even` hold estimates, each a dict of `value`,
        `low`, `high` (95 %): `input_tokens`, `output_tokens`, `hours`, and `money` (`None` without a price). Also `texts`
        (lengths, and how many are cut), `by_batch` (money where a batch service is asked, by the table; else `None`), `cached`
        (likewise where beginnings are cached),
        `coverage`, `agreement` (Wilson intervals; `agreement_is` says what counts as right where it is not the same label; of
        several questions also `questions`, those of each), and `notes` on what is not known.

    Raises:
        BlockingIOError: Another process asks the same with the same ledger.
        ValueError: A number, column or prior does not fit the data, the table has no price of the teacher, or no text of the
            sample was answered.
    """
    check_fields(data, labeler.text_column, labeler.task, gold_column)
    check_column(data, labeler.text_column, "text_column")
    if not 0 < num_annotated <= len(data):
        raise ValueError(f"num_annotated must be from 1 to the {len(data):,} rows of the data, got {num_annotated:,}.")
    for name, number in (("sample", sample), ("max_counted", max_counted), ("num_pool", num_pool)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be a positive number, got {number}.")
    model = str(labeler.teacher.settings().get("model", "teacher"))
    price = None if prices is None else prices.of(model, asks_in_batches(labeler.teacher))
    in_batch = None if price is None else price.in_batch
    student_price = None if prices is None or student is None else prices.find(student.student)
    _check_currency(price, student_price)
    if student_price is not None and student_price.by_token:
        raise ValueError(
            f"{prices.source}: a student is paid by the hour, not by the token. Give it per_hour or per_gpu_hour."  # type: ignore[union-attr]
        )
    shares = prior_shares(labeler.task, prior, calibration, {labeler.teacher.mode})
    num_pool = len(data) if num_pool is None else num_pool
    notes: list[str] = []

    shuffled = data.shuffle(seed=seed)
    asked = shuffled.select(range(min(sample, num_annotated)))
    gold = None
    if gold_column is not None:  # what is wrong with it is said before anybody is paid; decided by the whole column
        with optional_gold():
            gold = gold_answers(shuffled, labeler.task, gold_column, label_map, label_values)
    lengths = Lengths(labeler)
    with asking_turn([labeler]):
        answers, fresh = _answers(labeler, asked, lengths)
    annotated = _distinct(row_texts(shuffled.select(range(num_annotated)), labeler.text_column))
    counted = shuffled.select(range(min(max_counted, len(data))))
    usable = [text for text in row_texts(counted, labeler.text_column) if why_unusable(text) is None]
    distinct = _distinct(usable)
    texts, moments = _texts(lengths, labeler, distinct, len(counted), len(usable), len(data), notes)
    costs = Costs(labeler, answers, lengths, notes)

    if costs.tokens_unknown and price is not None and price.by_token:
        notes.append("The teacher's answers do not say how many tokens they took, so there is no money by the token.")
    annotating = costs.of(Moments.of(lengths.of(annotated)), price)
    whole = costs.of(moments.times(num_pool / len(counted)), price)
    found = _quality(labeler, asked, gold, calibration, shares, notes)
    coverage = found["coverage"]
    out: dict = {
        "task": labeler.task.name,
        "teacher": model,
        "sample": {"n": len(asked), "asked_now": fresh, "answered": len(answers)},
        "currency": None if price is None else price.currency,
        "texts": texts,
        "annotate": {"n": num_annotated, "n_asked": len(annotated), **annotating},
        "teacher_for_all": {"n": num_pool, **whole},
        "by_batch": None
        if in_batch is None or costs.tokens_unknown
        else {
            name: money_of(in_batch, part["hours"], part["input_tokens"], part["output_tokens"])
            for name, part in (("annotate", annotating), ("teacher_for_all", whole))
        },
        "cached": _cached(costs, price, annotating, len(annotated), whole, num_pool * len(distinct) / len(counted)),
        **found,
        "student": None,
        "break_even": None,
        "notes": notes,
    }
    notes += _price_notes(prices, model)
    if student is None:
        notes.append("No student was given, so its speed was not measured and nothing can be said about a break-even.")
        return out
    silver = num_annotated * (coverage["value"] if coverage else 1.0)
    speed = student_speed(
        student.student,
        labeler.task,
        _distinct(row_texts(asked, labeler.text_column)),
        max_length=student.max_length,
        head_share=student.head_share,
        batch_size=student.batch_size,
        backend=student.backend,
    )
    if price is not None and student_price is None:
        notes.append(f"{prices.source} has no price of the student '{student.student}': add per_hour of its machine.")  # type: ignore[union-attr]
    out["student"] = _student(student, speed, silver, num_pool, student_price, annotating)
    out["break_even"] = _break_even(out["student"], annotating, whole, num_pool)
    return out


def _price_notes(prices: PriceTable | None, model: str) -> list[str]:
    if prices is None:
        return ["No price table was given, so there is no money in this plan."]
    origin = prices.origin(model)
    return [f"The price of {model} is a published one, from {origin}; yours may differ."] if origin else []


def _cached(costs: Costs, price: Price | None, some: dict, asked: int, whole: dict, all_asked: float) -> dict | None:
    """Money where a service reads from its cache what all prompts begin with; see [`cached_money`]."""
    if price is None or (few := cached_money(some["money"], price, costs.shared_tokens, asked)) is None:
        return None
    every = cached_money(whole["money"], price, costs.shared_tokens, all_asked)
    return {"shared_tokens": costs.shared_tokens, "annotate": few, "teacher_for_all": every}


def _check_currency(first: Price | None, second: Price | None) -> None:
    if first is not None and second is not None and first.currency != second.currency:
        raise ValueError(
            f"The teacher is priced in {first.currency} and the student in {second.currency}. Put both in one currency."
        )


def _distinct(texts: Sequence[object]) -> list[str]:
    """The texts that would be asked about: usable ones, each once."""
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and why_unusable(text) is None))


def _answers(labeler: LLMLabeler, asked: Dataset, lengths: Lengths) -> tuple[list[Answer], int]:
    """What each text of the sample took, and how many had to be asked about now."""
    texts = _distinct(row_texts(asked, labeler.text_column))
    recalled = labeler.recalled(texts)
    columns = [recalled[f"{prefix(name)}_status"] for name in labeler.task.parts]
    fresh = [text for text, known in zip(texts, zip(*columns, strict=True), strict=True) if "failed" in known]
    if fresh and isinstance(labeler.teacher, TransformersTeacher):
        # What a first call takes, a long run does not notice. Another text, of the same length: nothing is asked twice.
        middle = sorted(fresh, key=len)[len(fresh) // 2]
        labeler.teacher.warm_up(lengths.task, " ".join(reversed(middle.split())))
    replies = labeler.replies(texts)
    found = [
        Answer(text, reply.seconds, reply.input_tokens, reply.output_tokens)
        for text in texts
        if (reply := replies[text]).error is None
    ]
    if not found:
        why = next((reply.error for reply in replies.values()), "no text is usable")
        raise ValueError(
            f"None of the {len(asked)} rows of the sample was answered ({why}), so nothing can be planned."
        )
    return found, len(fresh)


def _texts(
    lengths: Lengths, labeler: LLMLabeler, distinct: list[str], counted: int, usable: int, rows: int, notes: list[str]
) -> tuple[dict, Moments]:
    """How long the texts are and how many are cut, and the moments of those that would be asked about."""
    own, prompts, most = lengths.measured(distinct)
    cut = None if most is None else sum(n > most for n in own)
    if most is None:
        notes.append(f"How many texts the teacher cuts is not known here ({type(labeler.teacher).__name__}).")
    if counted < rows:
        notes.append(
            f"Lengths were counted in {counted:,} of {rows:,} rows, drawn at random. Texts that repeat are asked "
            f"about once; those that repeat elsewhere were not seen, so the teacher for all may take less."
        )
    found = {
        "n_rows": rows,
        "n_counted": counted,
        "n_unusable": counted - usable,
        "n_repeated": usable - len(distinct),
        "unit": lengths.unit,
        "median": float(np.median(own)) if own else 0.0,
        "longest": sorted(own, reverse=True)[:_LONGEST],
        "limit": most,
        "n_cut": cut,
        "cut": None if cut is None else _counted_share(cut, len(distinct), counted == rows),
    }
    return found, Moments.of(prompts)


def _counted_share(count: int, of: int, all_counted: bool) -> Estimate | None:
    """A share, with an interval unless everything was counted."""
    found = share(count, of)
    return found | {"low": found["value"], "high": found["value"]} if found and all_counted else found


def _quality(
    labeler: LLMLabeler,
    asked: Dataset,
    gold: Mapping[str, list] | None,
    calibration: str,
    shares: Mapping[str, Sequence[float]],
    notes: list[str],
) -> dict:
    """
    Share of the sample's rows with an answer, and share of right ones among those with gold; of several questions these of
    each as `questions`, and the share of rows with an answer to any.
    """
    found = labeler.recall(asked[:])
    parts = labeler.task.parts
    status = {name: found[f"{prefix(name)}_status"] for name in parts}
    rows = list(zip(*status.values(), strict=True))
    reached = [row for row in rows if "failed" not in row]
    if len(reached) < len(asked):
        notes.append(f"{len(asked) - len(reached)} rows of the sample failed; a rerun asks about them again.")
    for name in parts:
        reasons = Counter(reason for reason in found[f"{prefix(name)}_reason"] if reason)
        if reasons:
            shown = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(_REASONS))
            of = f" of {name}" if name else ""
            notes.append(f"{sum(reasons.values())} rows of the sample have no label{of}: {shown}.")
    if gold is None:
        notes.append("There is no gold, so nothing is known about how often the teacher is right.")
    agreement = {}
    for name, one in parts.items():
        seen = {end: found[f"{prefix(name)}_{end}"] for end in (one.question.answer_column, "scores")}
        answers = _calibrated(seen, one.question, calibration, shares.get(name))
        agreement[name] = _agreement(answers, (gold or {}).get(name), one.question)
        if name in (gold or {}) and agreement[name] is None:
            notes.append(f"No row of the sample has both a label and gold{f' of {name}' if name else ''}.")
    coverage = share(sum("ok" in row for row in reached), len(reached))
    if list(parts) == [""]:
        only = parts[""]
        named = {"agreement_is": only.question.agrees} if only.questions else {}
        return {"coverage": coverage, "agreement": agreement[""], **named}
    questions = {
        name: {
            "coverage": share(status[name].count("ok"), sum(one != "failed" for one in status[name])),
            "agreement": agreement[name],
            "agreement_is": one.question.agrees,
        }
        for name, one in parts.items()
    }
    return {"coverage": coverage, "agreement": None, "questions": questions}


def _calibrated(seen: Mapping[str, list], question: Question, calibration: str, prior: Sequence[float] | None) -> list:
    """The answers to a question, those with scores as they are after calibration."""
    answers, scores = list(seen[question.answer_column]), seen["scores"]
    scored = [i for i, one in enumerate(scores) if one is not None]
    matrix = [scores[i] for i in scored]
    found = calibration_of(calibration, question, matrix, prior=prior) if scored else None
    if found is not None:
        decided = question.decided(found.probabilities(matrix))[question.answer_column]
        for i, answer in zip(scored, decided, strict=True):
            answers[i] = answer
    return answers


def _agreement(answers: list, gold: Sequence | None, question: Question) -> Estimate | None:
    """Share of right answers among the rows that have gold too; see [`Question.right`]."""
    if gold is None:
        return None
    rows = [i for i, answer in enumerate(answers) if question.is_answer(answer) and question.is_answer(gold[i])]
    if not rows:
        return None
    right = question.right([answers[i] for i in rows], [gold[i] for i in rows])
    return share(int(right.sum()), len(rows))


def _student(
    student: StudentPlan,
    speed: dict[str, Estimate],
    silver: float,
    num_pool: int,
    price: Price | None,
    annotating: dict,
) -> dict:
    """Estimates for training and labelling, and for annotating, training and labelling together."""
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    hours = {
        "train": scaled(speed["train"], silver * student.epochs / 3600),
        "label": scaled(speed["label"], num_pool / 3600),
    }
    parts = {name: {"hours": one, "money": money_of(price, one, none, none)} for name, one in hours.items()}
    money = [annotating["money"], parts["train"]["money"], parts["label"]["money"]]
    return {
        **asdict(student),
        "seconds_per_training_row": speed["train"],
        "seconds_per_text": speed["label"],
        "train": {"n": round(silver), **parts["train"]},
        "label": {"n": num_pool, **parts["label"]},
        "in_all": {
            "hours": summed([annotating["hours"], *hours.values()]),
            "money": None if None in money else summed(money),
        },
    }


def _break_even(student: dict, annotating: dict, whole: dict, num_pool: int) -> dict:
    """Texts above which annotating, training and labelling with the student take less than the teacher for all."""
    out: dict = {}
    for what in ("hours", "money"):
        parts = (annotating[what], student["train"][what], student["label"][what], whole[what])
        if None in parts:
            out[what] = None
            continue
        annotated, trained, labelled, taught = parts
        each = [scaled(one, 1 / num_pool) for one in (taught, labelled)]
        out[what] = break_even(summed([annotated, trained]), *each)
    return out
