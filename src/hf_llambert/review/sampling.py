"""The reviewed sample as design-based analyses take it: every row, what people said of some, and how likely each was drawn."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from datasets import Dataset, Features, Value

from hf_llambert.pool.labelled import read_pool, run_labels
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import annotated_rows, said_by_machines
from hf_llambert.review.session import Review
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts, why_unusable
from hf_llambert.whole import whole_file

logger = get_logger(__name__)

Machine = Literal["teacher", "student"]
_MOST_MISSING = 0.1
"""Of the rows that were reached, the share without an answer that is still exported."""


@dataclass(frozen=True)
class Sampled:
    """
    How likely rows were to be labelled by people, as to one question.

    Args:
        certain (`float`): The probability of a row that was chosen whatever had been drawn at random.
        random (`float`): That of any other row.
        n_certain (`int`): Rows of the first kind that people labelled.
        n_random (`int`): Rows of the second kind that they labelled.
        reached (`int`): Rows of the queue that were reached.
        n_missing (`int`): Of them without an answer.
    """

    certain: float
    random: float
    n_certain: int
    n_random: int
    reached: int
    n_missing: int


def sampling_table(run: str | Path, predictions: Machine = "teacher") -> Dataset:
    """
    All annotated rows of a run, with a machine's labels, people's labels of the rows that they reviewed, and the known
    probability with which each row was drawn for that: what design-based supervised learning (Egami, Hinck, Stewart and Wei
    2023, arXiv 2306.04746; R package `dsl`) and other design-based estimators take.

    The probabilities are exact given what was looked at when the queue was made ([`build_queue`]). Its random rows are drawn
    from all texts. Then rows are taken from lists of doubtful ones, in which every row that was looked at is in the queue
    afterwards, drawn before or taken now: these are certain, 1. Of the rows that were never looked at, those drawn at random are
    a simple random sample: the number of them in the queue by the number of all of them. As the queue's order is random too,
    people who answer its first k of n rows have labelled each with k/n times that probability (but for a queue whose first rows
    are those of `for_test`: that one is to be answered to its end).

    A row that was reached but has no answer (skipped, a tie) is missing not at random. Up to a tenth of those reached may be;
    they count as not drawn, with the probabilities of the others of their kind lowered to match, which is right only if they
    are like the others, and a warning says how many they are.

    Args:
        run (`str` or `Path`): Folder of a run with `annotated` and `review`.
        predictions (`str`, defaults to `"teacher"`): Whose labels are `predicted`: those of the `teacher` or the `student`, which
            must not have learnt from people's labels of this review.

    Returns:
        `Dataset`: The annotated rows, in order, duplicates included: the columns of the user's (texts too), `row` (the number
            in the annotated dataset), `predicted` and `reviewed` (names of labels, or numbers of a scale; empty where there is
            no answer), `sampling_prob` and `reason` (why the row was in the queue). Of several questions `predicted_NAME`,
            `reviewed_NAME` and `sampling_prob_NAME`; where several labels may hold, 1 or 0 for each: `predicted_LABEL`. Rows
            with the same text share its answer and its probability; a row without a usable text cannot be drawn, and has the
            probability 0.

    Raises:
        FileNotFoundError: The run has no review, or no labels of the student for its annotated rows.
        ValueError: The queue does not say how its rows were drawn, too many rows have no answer, no row that was drawn at random
            has one, or a column of the user's has the name of one of these.
    """
    run = Path(run)
    review = Review(run / "review")
    annotated, task, column = annotated_rows(run)
    if review.queue.drawn is None:
        raise ValueError(
            f"The queue in '{run / 'review'}' does not say how its rows were drawn: it was made by an earlier version. Move the "
            f"folder away and make another (hf-llambert review), then answer that."
        )
    first: dict[object, int] = {}
    texts = row_texts(annotated, column)
    places = {row.row: place for place, row in enumerate(review.queue.rows)}
    if any(row >= len(texts) or texts[row] != review.queue.rows[place].text for row, place in places.items()):
        raise ValueError(
            f"'{run / 'annotated'}' does not hold the rows that the queue in '{run / 'review'}' was made of."
        )
    owner = [first.setdefault(text, i) if why_unusable(text) is None else None for i, text in enumerate(texts)]
    columns: dict[str, list] = {"row": list(range(len(texts)))}
    features: dict[str, Value] = {"row": Value("int64")}
    for name, one in task.parts.items():
        end = f"_{name}" if name else ""
        sampled, labels = _sampled(review, name), review.labels(name)
        given = [None if row is None else labels.get(places.get(row, -1)) for row in owner]
        machine = [said[predictions] for said in _machine(run, annotated, task, name, predictions)]
        for begin, answers in (("predicted", machine), ("reviewed", given)):
            question = one.question
            cells = [reviewed(question).cells(question, question.missing if a is None else a) for a in answers]
            for part in cells[0] if cells else ():
                column_name = f"{begin}{end}{part}"
                columns[column_name] = [cell[part] for cell in cells]
                features[column_name] = _feature(columns[column_name])
        certain = {*review.queue.drawn.certain}
        columns[f"sampling_prob{end}"] = [
            0.0 if row is None else sampled.certain if row in certain else sampled.random for row in owner
        ]
        features[f"sampling_prob{end}"] = Value("float64")
    columns["reason"] = [review.queue.rows[places[row]].reason if row in places else None for row in owner]
    features["reason"] = Value("string")
    kept = [name for name in annotated.column_names if not name.startswith("llm_")]
    if taken := [name for name in kept if name in columns]:
        raise ValueError(
            f"The data has a column '{taken[0]}', and so has what is exported. Rename it in '{run / 'annotated'}' "
            f"(Dataset.rename_column), or annotate again."
        )
    added = Dataset.from_dict(columns, features=Features(features))
    out = annotated.select_columns(kept)
    for name in added.column_names:
        out = out.add_column(name, added[name][:], feature=added.features[name])
    return out


def sampling_lines(table: Dataset) -> list[str]:
    """What [`sampling_table`] found, in sentences."""
    lines = []
    for name in table.column_names:
        begin, _, end = name.partition("sampling_prob")
        if begin or (end and not end.startswith("_")):
            continue
        shares = [one for one in table[name][:] if one]
        values = sorted(set(shares))
        each = ", ".join(f"{value:.4g} on {shares.count(value):,} rows" for value in values)
        of = f"{end[1:]}: " if end else ""
        unusable = len(table) - len(shares)
        lines.append(
            f"{of}probability of being labelled by people: {each}"
            + (f"; {unusable:,} rows without a usable text could not be drawn: leave them out" if unusable else "")
        )
    return lines


def write_table(table: Dataset, path: str | Path) -> None:
    """
    Write a table as Parquet or CSV, as the name of the file ends. It appears whole or not at all.

    Raises:
        FileExistsError: The file exists.
        ValueError: It ends otherwise, or CSV cannot hold a column.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"Expected a file that ends in .parquet or .csv, got '{path.name}'.")
    if path.exists():
        raise FileExistsError(f"'{path}' exists already. Choose another file, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = table.with_format("arrow")[:]
    if path.suffix == ".csv":
        nested = [field.name for field in found.schema if hasattr(field.type, "num_fields") and field.type.num_fields]
        if nested:
            raise ValueError(f"Column '{nested[0]}' holds lists or objects, which CSV has not. Write a .parquet file.")
    with whole_file(path) as part:
        if path.suffix == ".parquet":
            pq.write_table(found, part)
            return
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(found.column_names)
            rows.writerows(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _machine(run: Path, annotated: Dataset, task: TaskSpec, name: str, who: Machine) -> list[dict]:
    """What teacher and student say of each row, to one question."""
    if who not in ("teacher", "student"):
        raise ValueError(f"Expected the labels of the teacher or the student, got '{who}'.")
    compared = None
    if who == "student":
        found = run_labels(run, "compared")
        if not (run / "compared").is_dir() or (found is not None and found.left_out is not None):
            why = f" {found.left_out}" if found is not None else ""
            raise FileNotFoundError(
                f"There are no labels of the student for the annotated rows of '{run}'.{why} Run hf-llambert report {run} first."
            )
        compared = read_pool(run / "compared")
        if len(compared) != len(annotated):
            raise ValueError(
                f"'{run / 'compared'}' has {len(compared):,} rows, the annotated dataset {len(annotated):,}."
            )
    return said_by_machines(annotated, compared, task, name)


def _sampled(review: Review, name: str) -> Sampled:
    """How likely rows were to be labelled; see [`sampling_table`]."""
    queue, question = review.queue, review.queue.task.parts[name].question
    labels = review.labels(name)
    answered = {place for place, label in labels.items() if question.is_answer(label)}
    seen = {place for said in review.answers(name).values() for place in said}
    of = f"'{name}': " if name else ""
    if not answered:
        raise ValueError(f"{of}Nobody has labelled a row in '{review.folder}' yet.")
    reached = max(seen) + 1
    if queue.for_test and reached < len(queue.rows):
        raise ValueError(
            f"{of}The rows of --for_test come before the others, so that known probabilities take answers to the whole queue; "
            f"{reached:,} of its {len(queue.rows):,} rows were reached. Answer the others too."
        )
    missing = [place for place in range(reached) if place not in answered]
    if len(missing) > _MOST_MISSING * reached:
        raise ValueError(
            f"{of}{_unanswered(missing, seen, labels, reached)}: too many for known probabilities, as people leave out what is "
            f"hard. Answer them (the page opens skipped rows again), or answer the queue in its order."
        )
    certain = {*queue.drawn.certain} if queue.drawn is not None else set()
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for place in range(len(queue.rows)):
        kinds[queue.rows[place].row in certain].append(place)
    out: dict[bool, tuple[float, int]] = {}
    n_other = queue.drawn.num_rows - len(certain) if queue.drawn is not None else 0
    for kind, places in kinds.items():
        drawn = 1.0 if kind else len(places) / max(n_other, 1)
        mine = [place for place in places if place < reached]
        known = [place for place in mine if place in answered]
        out[kind] = (drawn * reached / len(queue.rows) * (len(known) / len(mine) if mine else 1.0), len(known))
    if n_other and not out[False][1]:
        what = "Answer more of the queue." if kinds[False] else "Make a queue with more random rows (--num_control)."
        raise ValueError(
            f"{of}None of the {n_other:,} rows that were not chosen for a reason is drawn at random and labelled, so nothing "
            f"is known about them. {what}"
        )
    if missing:
        logger.warning(
            "%s%s. They count as not drawn, which is right only if they are like the others: else an estimate of a share may be "
            "off, by up to some %.1f points were all rows as likely drawn.",
            of,
            _unanswered(missing, seen, labels, reached),
            100 * len(missing) / reached,
        )
    return Sampled(out[True][0], out[False][0], out[True][1], out[False][1], reached, len(missing))


def _unanswered(missing: Sequence[int], seen: set[int], labels: Mapping[int, object], reached: int) -> str:
    tied = sum(place in labels for place in missing)
    passed = sum(place not in seen for place in missing)
    counts = {"skipped": len(missing) - tied - passed, "tied": tied, "passed over": passed}
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    return f"{len(missing):,} of the {reached:,} rows that were reached have no answer ({told})"


def _feature(values: Sequence[object]) -> Value:
    """The type of a column of answers."""
    known = next((one for one in values if one is not None), "")
    return Value("string" if isinstance(known, str) else "int64" if isinstance(known, int) else "float64")
