"""
Are the errors errors? Texts on which teacher, student and gold disagree, for people to judge, and what they found.

    accelerate launch recipes/studies/error_analysis.py --config recipes/studies/error_analysis.yaml
    ... --judged anna.csv ben.csv   # errors.csv as two people have filled it in; asks and trains nothing

A judge opens `errors.csv` in any spreadsheet and writes a label of the task, `mixed` or `unclear` into the column `judgement`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from matplotlib.figure import Figure
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from study import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RunArguments,
    annotated,
    learn,
    make_teacher,
    run_recipe,
    short_name,
    split_rows,
    write_study,
)

from hf_llambert import (
    ABSTAIN,
    LLMLabeler,
    StudentConfig,
    TaskSpec,
    annotate,
    load_data,
    load_task,
    read_evaluation,
    saved_calibration,
)

ERRORS_FILE, KEY_FILE = "errors.csv", "errors_key.json"
MODELS = ("teacher", "student")
NO_LABEL = ("mixed", "unclear")
"""What a judge may say beside the task's labels."""

_LONGEST_CELL = 32_000  # a spreadsheet cuts a cell at 32,767 characters
_FORMULA = ("=", "+", "-", "@")


@dataclass(kw_only=True)
class ErrorArguments(RunArguments):
    """What the error analysis takes."""

    num_errors: int = field(
        default=200, metadata={"help": "Texts to judge: a random sample of those on which not all agree."}
    )
    labels_shown: str = field(
        default="hidden",
        metadata={
            "help": "To the judge: hidden; shuffled, as label_1 to label_3 in an order drawn for each text; or named."
        },
    )
    judged: list[str] = field(
        default_factory=list, metadata={"help": f"Filled-in copies of {ERRORS_FILE}, one of each judge."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_errors < 1:
            raise ValueError(f"num_errors must be 1 or more, got {self.num_errors}.")
        if self.labels_shown not in ("hidden", "shuffled", "named"):
            raise ValueError(f"labels_shown takes hidden, shuffled or named, got {self.labels_shown!r}.")


def main(arguments: ErrorArguments, training: StudentConfig) -> dict:
    """Export the errors, or read them back judged. Returns the key, or the results of the judges."""
    task = load_task(arguments.task)
    if arguments.judged:
        return judge(arguments, task) if PartialState().is_main_process else {}
    labels, held_out = label(arguments, training, task)
    return export(arguments, task, labels, held_out) if PartialState().is_main_process else {}


def label(arguments: ErrorArguments, training: StudentConfig, task: TaskSpec) -> tuple[dict[str, list[int]], Dataset]:
    """Labels of gold, teacher and student on held-out texts that neither has seen in training, and the texts."""
    run, column = Path(arguments.run), arguments.text_column
    held_out, rest = split_rows(arguments, task)
    usable = [i for i, text in enumerate(held_out[column]) if (text or "").strip()]
    held_out = held_out.select([i for i in usable if held_out["label"][i] != ABSTAIN])
    number = len(rest) if arguments.num_annotated is None else arguments.num_annotated
    silver, selection, _ = annotated(arguments, task, rest.select(range(min(number, len(rest)))))
    student = run / "students" / str(training.seed)
    learn(
        task,
        arguments.student[0],
        student,
        training,
        arguments,
        eval_data=held_out,
        silver=silver,
        selection=selection,
    )
    labeler = LLMLabeler(
        task, make_teacher(arguments), arguments.ledger or run / "ledger", column, calibration=saved_calibration(run)
    )
    annotate(held_out, labeler, run / "held_out_annotated", calibration="none", gold_column="label")
    return {
        "gold": held_out["label"][:],
        "teacher": load_data(run / "held_out_annotated")["llm_label"][:],
        "student": read_evaluation(student)["student_label"][:],
    }, held_out


def export(arguments: ErrorArguments, task: TaskSpec, labels: Mapping[str, list[int]], held_out: Dataset) -> dict:
    """
    Write `errors.csv` for the judges and `errors_key.json`, which says who gave which label.

    Raises:
        FileExistsError: Other errors were exported there before.
    """
    run = Path(arguments.run)
    texts = held_out[arguments.text_column][:]
    drawn = Random(arguments.split_seed)
    apart = [i for i in range(len(texts)) if len({given[i] for given in labels.values()} - {ABSTAIN}) > 1]
    chosen = drawn.sample(apart, min(arguments.num_errors, len(apart)))  # a random order too
    if not chosen:
        raise ValueError(f"Teacher, student and gold agree on all {len(texts):,} held-out texts. Hold out more.")
    key = {
        "task": task.name,
        "labels": list(task.labels),
        "labels_shown": arguments.labels_shown,
        "n_held_out": len(texts),
        "n_apart": len(apart),
        "accuracy": {name: float(np.mean(np.array(labels[name]) == np.array(labels["gold"]))) for name in MODELS},
        "errors": {
            f"t{i}": {
                "text": _digest(cell(texts[i])),
                **{name: _name(given[i], task) for name, given in labels.items()},
            }
            for i in chosen
        },
    }
    rows = [_exported(f"t{i}", texts[i], key["errors"][f"t{i}"], arguments.labels_shown, drawn) for i in chosen]
    _write_once(run, key, rows)
    table = _table_of_disagreement(labels, task)
    write_study(
        run,
        f"Errors of {short_name(arguments.teacher)} and {short_name(arguments.student[0])}",
        "On which held-out texts do teacher, student and gold disagree?",
        table,
        {
            "How many held-out texts of each gold label the teacher, the student or both label otherwise": _draw_counts(
                table
            )
        },
        [
            f"On {len(apart):,} of {len(texts):,} held-out texts not all three agree; accuracy of the teacher "
            f"{key['accuracy']['teacher']:.1%}, of the student {key['accuracy']['student']:.1%}.",
            f"{len(chosen):,} of them are in {run / ERRORS_FILE}, to be judged.",
        ],
        [f"Labels {arguments.labels_shown} to the judges. Read back with --judged FILE FILE ... ."],
    )
    return key


def cell(text: str) -> str:
    """A text as a cell of a spreadsheet: no control characters, no formula, short enough, valid UTF-8."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode()
    text = text.strip()
    if len(text) > _LONGEST_CELL:
        text = f"{text[: _LONGEST_CELL // 2]} [...] {text[-_LONGEST_CELL // 2 :]}"
    return f"'{text}" if text.startswith(_FORMULA) else text  # the apostrophe makes it text


def read_judged(path: str | Path, key: Mapping) -> dict[str, str]:
    """
    One judge's judgements by id; rows without one are left out.

    Args:
        path (`str` or `Path`): A filled-in copy of `errors.csv`, saved by any spreadsheet.
        key (`Mapping`): Content of `errors_key.json`.

    Raises:
        ValueError: The file is no such copy, or says what it may not; the message names the file, and row and line.
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}. Save it as CSV UTF-8.") from error
    head = content.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # spreadsheets write what their country writes
    allowed = {name.casefold(): name for name in (*key["labels"], *NO_LABEL)}
    out: dict[str, str] = {}
    seen: set[str] = set()
    for where, row in _records(path, content, delimiter):
        name = row["id"].strip()
        if name not in key["errors"]:
            raise ValueError(f"{where}: id {name!r} was not exported. Judge the {ERRORS_FILE} of this very run.")
        if name in seen:
            raise ValueError(f"{where}: id {name!r} stands there twice.")
        if _digest(row["text"]) != key["errors"][name]["text"]:
            raise ValueError(f"{where}: the text of {name} was changed. Judge texts as they were exported.")
        seen.add(name)
        given = row["judgement"].strip()
        if given and given.casefold() not in allowed:
            raise ValueError(f"{where}: judgement {given!r} is none of {', '.join(allowed.values())}.")
        if given:
            out[name] = allowed[given.casefold()]
    return out


def judge(arguments: ErrorArguments, task: TaskSpec) -> dict:
    """
    What the judges say of each model's errors, and how far they agree.

    Raises:
        FileNotFoundError: Nothing was exported in this run.
        ValueError: See [`read_judged`]; or nobody judged anything.
    """
    run = Path(arguments.run)
    if not (run / KEY_FILE).is_file():
        raise FileNotFoundError(f"'{run}' has no {KEY_FILE}. Export the errors first: run without judged.")
    key = json.loads((run / KEY_FILE).read_text(encoding="utf-8"))
    if key["labels"] != list(task.labels):
        raise ValueError(
            f"The errors of '{run}' were exported for {key['labels']}, task '{task.name}' has {task.labels}."
        )
    names = [Path(path).stem for path in arguments.judged]
    if len(set(names)) < len(names):
        raise ValueError(f"Each judge's file needs a name of its own, got {names}.")
    judges = {name: read_judged(path, key) for name, path in zip(names, arguments.judged, strict=True)}
    if not any(judges.values()):
        raise ValueError(f"No row of {', '.join(arguments.judged)} has a judgement.")
    everyone = {"all judges": majority(judges)} if len(judges) > 1 else {}
    table = [verdict(who, model, given, key) for who, given in {**everyone, **judges}.items() for model in MODELS]
    agreed = agreement(judges)
    notes = [
        f"{name} judged {len(given):,} of {len(key['errors']):,} texts, {len(key['errors']) - len(given):,} have no judgement."
        for name, given in judges.items()
    ]
    write_study(
        run / "judged",
        f"Errors of teacher and student, judged: {key['task']}",
        "How many of the models' errors against gold were right after all?",
        table,
        {"What the judges say of each model's errors, as shares": _draw_verdicts(table[:2])},
        [*_verdict_lines(table[:2]), *_agreement_lines(agreed)],
        [
            *notes,
            "Intervals of 95 %: Wilson. Several judges decide by majority; a tie is unclear. Judged accuracy is the model's "
            "accuracy on the held-out texts with the share of its errors that was right after all added; texts on which it "
            "agrees with gold were not judged.",
        ],
    )
    return {"table": table, "agreement": agreed}


def majority(judges: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What most judges of a text say; `unclear` where two judgements are as frequent."""
    out = {}
    for name in dict.fromkeys(name for given in judges.values() for name in given):
        votes = Counter(given[name] for given in judges.values() if name in given).most_common(2)
        tied = len(votes) > 1 and votes[0][1] == votes[1][1]
        out[name] = "unclear" if tied else votes[0][0]
    return out


def verdict(who: str, model: str, given: Mapping[str, str], key: Mapping) -> dict:
    """A row of the table: a model's errors against gold, as a judge sees them."""
    errors = [
        (judgement, key["errors"][name])
        for name, judgement in given.items()
        if key["errors"][name][model] not in (None, key["errors"][name]["gold"])
    ]
    kinds = Counter(
        judgement
        if judgement in NO_LABEL
        else "right"
        if judgement == error[model]
        else "wrong"
        if judgement == error["gold"]
        else "both wrong"
        for judgement, error in errors
    )
    row: dict[str, object] = {"model": model, "judge": who, "errors judged": len(errors)}
    for kind in ("right", "mixed", "unclear", "wrong", "both wrong"):
        row[f"{kind} %"] = kinds[kind] / len(errors) if errors else None
    for name, count in (("right", kinds["right"]), ("right or mixed", kinds["right"] + kinds["mixed"])):
        bounds = binomtest(count, len(errors)).proportion_ci(method="wilson") if errors else (None, None)
        row |= {f"{name} low %": bounds[0] and float(bounds[0]), f"{name} high %": bounds[1] and float(bounds[1])}
    accuracy = key["accuracy"][model]
    judged = accuracy + (1 - accuracy) * row["right %"] if errors else None  # type: ignore[operator]
    return row | {"accuracy %": accuracy, "judged accuracy %": judged}


def agreement(judges: Mapping[str, Mapping[str, str]]) -> dict:
    """Cohen's kappa of each pair of judges, and Krippendorff's alpha (nominal) of all; `None` where not defined."""
    pairs = []
    for one, other in combinations(judges, 2):
        both = [name for name in judges[one] if name in judges[other]]
        a, b = ([judges[who][name] for name in both] for who in (one, other))
        kappa = float(cohen_kappa_score(a, b)) if len({*a, *b}) > 1 else None
        equal = sum(x == y for x, y in zip(a, b, strict=True)) / len(both) if both else None
        pairs.append({"judges": [one, other], "n": len(both), "equal": equal, "kappa": kappa})
    return {"pairs": pairs, "alpha": krippendorff(judges)}


def krippendorff(judges: Mapping[str, Mapping[str, str]]) -> float | None:
    """
    Krippendorff's alpha for nominal values and any number of judges, texts that some left out included (Krippendorff 2011,
    Computing Krippendorff's Alpha-Reliability). `None` where no text has two judgements, or only one value was ever given.
    """
    names = {name for given in judges.values() for name in given}
    units = [[given[name] for given in judges.values() if name in given] for name in names]
    units = [values for values in units if len(values) > 1]
    total = Counter(value for values in units for value in values)
    n = sum(total.values())
    if len(total) < 2:
        return None
    observed = sum(sum(a != b for a in values for b in values) / (len(values) - 1) for values in units)
    expected = sum(total[a] * total[b] for a in total for b in total if a != b) / (n - 1)
    return 1 - observed / expected


def _exported(name: str, text: str, error: Mapping, shown: str, drawn: Random) -> dict[str, str]:
    given = {who: error[who] or "no answer" for who in (*MODELS, "gold")}
    labels = list(given.values())
    drawn.shuffle(labels)
    if shown == "shuffled":
        given = {f"label_{k}": one for k, one in enumerate(labels, 1)}
    row = {"id": name, "text": cell(text), **({} if shown == "hidden" else {k: cell(v) for k, v in given.items()})}
    return {**row, "judgement": "", "comment": ""}


def _write_once(run: Path, key: Mapping, rows: Sequence[Mapping[str, str]]) -> None:
    """Write both files unless they are there: judgements may stand in one, and copies of it be at work elsewhere."""
    if (run / KEY_FILE).is_file() and json.loads((run / KEY_FILE).read_text(encoding="utf-8")) != key:
        raise FileExistsError(
            f"'{run}' holds other errors, which may have been judged. Choose another run, or move {ERRORS_FILE} and "
            f"{KEY_FILE} away."
        )
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    if (run / ERRORS_FILE).exists() and not (run / KEY_FILE).is_file():
        raise FileExistsError(
            f"'{run / ERRORS_FILE}' is there without {KEY_FILE}. Move it away, or choose another run."
        )
    (run / KEY_FILE).write_text(json.dumps(key, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not (run / ERRORS_FILE).exists():
        # With a byte order mark, by which spreadsheets know UTF-8.
        (run / ERRORS_FILE).write_text(buffer.getvalue(), encoding="utf-8-sig", newline="")


def _records(path: str | Path, content: str, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each record of a CSV file stands, in words, and its fields by name."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    number, line, names = 0, 1, None
    while True:
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise ValueError(f"{path}: row {number + 1}, line {line}: no CSV: {error}.") from error
        number += 1
        where = f"{path}: row {number}, line {line}"
        line = reader.line_num + 1
        if not any(value.strip() for value in values):
            continue
        if names is None:
            names = [value.strip() for value in values]
            missing = {"id", "text", "judgement"} - set(names)
            if missing or len(set(names)) < len(names):
                raise ValueError(f"{where}: expected the columns id, text and judgement once each, got {names}.")
        elif len(values) != len(names):
            raise ValueError(f"{where}: expected {len(names)} cells, got {len(values)}.")
        else:
            yield where, dict(zip(names, values, strict=True))
    if names is None:
        raise ValueError(f"{path}: the file is empty.")


def _digest(text: str) -> str:
    """Of a text whose blanks, line ends and leading apostrophe a spreadsheet may have changed."""
    return hashlib.sha256(" ".join(text.strip().removeprefix("'").split()).encode()).hexdigest()[:16]


def _name(label: int, task: TaskSpec) -> str | None:
    return None if label == ABSTAIN else task.labels[label]


def _table_of_disagreement(labels: Mapping[str, list[int]], task: TaskSpec) -> list[dict]:
    gold, teacher, student = (np.array(labels[name]) for name in ("gold", "teacher", "student"))
    table = []
    for k, name in [*task.id2label.items(), (None, "all")]:
        rows = gold == k if k is not None else gold >= 0
        off = [(given != gold) & rows for given in (teacher, student)]
        table.append(
            {
                "gold": name,
                "texts": int(rows.sum()),
                "all agree": int((rows & ~off[0] & ~off[1]).sum()),
                "only teacher off": int((off[0] & ~off[1]).sum()),
                "only student off": int((off[1] & ~off[0]).sum()),
                "both off": int((off[0] & off[1]).sum()),
            }
        )
    return table


def _draw_counts(table: Sequence[dict]) -> Figure:
    return _bars(
        [row["gold"] for row in table[:-1]],
        {
            name: ([row[name] for row in table[:-1]], colour)
            for name, colour in (("only teacher off", BLUE), ("only student off", ORANGE), ("both off", GREY))
        },
        "held-out texts",
    )


def _draw_verdicts(table: Sequence[dict]) -> Figure:
    colours = {"right": GREEN, "mixed": BLUE, "unclear": GREY, "wrong": ORANGE, "both wrong": "black"}
    kinds = {name: ([row[f"{name} %"] or 0 for row in table], colour) for name, colour in colours.items()}
    return _bars([row["model"] for row in table], kinds, "share of the model's judged errors")


def _bars(names: Sequence[str], parts: Mapping[str, tuple[list, str]], what: str) -> Figure:
    """Stacked horizontal bars."""
    figure = Figure(figsize=(8, 1.6 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for name, (values, colour) in parts.items():
        bars = axes.barh(range(len(names)), values, left=left, color=colour, label=name)
        shown = [f"{v:.0%}" if isinstance(v, float) else f"{v:,}" for v in values]
        axes.bar_label(
            bars, [s if v else "" for s, v in zip(shown, values, strict=True)], label_type="center", color="white"
        )
        left += values
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(what)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(parts), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def _verdict_lines(table: Sequence[dict]) -> list[str]:
    return [
        f"{row['model']}: of {row['errors judged']:,} judged errors {row['right %']:.1%} were right after all "
        f"({row['right low %']:.1%} to {row['right high %']:.1%}), {row['mixed %']:.1%} are mixed; right or mixed "
        f"{row['right or mixed low %']:.1%} to {row['right or mixed high %']:.1%}."
        if row["errors judged"]
        else f"{row['model']}: none of its errors was judged."
        for row in table
    ]


def _agreement_lines(agreed: Mapping) -> list[str]:
    lines = [
        f"{' and '.join(pair['judges'])}: {pair['n']:,} texts in common, {pair['equal']:.1%} judged alike, Cohen's kappa "
        f"{_defined(pair['kappa'])}."
        for pair in agreed["pairs"]
        if pair["n"]
    ]
    return [*lines, f"Krippendorff's alpha of all judges: {_defined(agreed['alpha'])}."] if lines else []


def _defined(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    run_recipe(ErrorArguments, main)
