"""A small run to review, made without models."""

from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value

from hf_llambert import Choice, Choices, Scale, TaskSpec
from hf_llambert.data import note_stage


def make_run(folder: Path, task, n=40, column="text", text="text ", wrong=()) -> Path:
    """Annotated and compared rows: the teacher abstains on the first two, the student contradicts it on every fifth."""
    label = ClassLabel(names=task.labels)
    teacher = [-1 if i < 2 else (i + (i in wrong)) % 2 for i in range(n)]
    words = ("it was dull and awful", "it was great and funny")
    annotated = Dataset.from_dict(
        {
            column: [f"{text}{i} {words[i % 2]}" for i in range(n)],
            "llm_label": teacher,
            "llm_confidence": [None if i < 2 else 0.5 + (i % 20) / 50 for i in range(n)],
            "llm_status": ["abstained" if i < 2 else "ok" for i in range(n)],
        },
        features=Features(
            {
                column: Value("string"),
                "llm_label": label,
                "llm_confidence": Value("float32"),
                "llm_status": Value("string"),
            }
        ),
    )
    annotated.save_to_disk(str(folder / "annotated"))
    results = made_results(n, {name: teacher.count(i) for i, name in enumerate(task.labels)})
    note_stage(folder / "annotated", {"task": task.to_dict(), "text_column": column, "gold_column": None}, results)
    (folder / "compared").mkdir()
    student = [i % 2 if i % 5 else 1 - i % 2 for i in range(n)]
    compared = Dataset.from_dict({"student_label": student, "student_confidence": [0.9] * n})
    compared.to_parquet(str(folder / "compared" / "part-00000-00000.parquet"))
    return folder


def made_results(n: int, labels: dict) -> dict:
    """What the note of an annotation says of rows of which the first two have no label."""
    counts = {"n_rows": n, "n_ok": n - 2, "n_abstained": 2, "n_failed": 0, "n_truncated": 0, "coverage": (n - 2) / n}
    results = {**counts, "reasons": {}, "labels": labels}
    results |= {"seconds": 1.0, "texts_per_second": float(n), "settings": {}, "input_tokens": 0, "output_tokens": 0}
    return results | {"label_mass": None, "calibration": None, "mode": "generate"}


def make_questions(**changes) -> TaskSpec:
    """A task with a question of each kind."""
    topics = ("people", "animals", "sport", "food")
    asked = (
        Choice("tone", ("negative", "positive"), "Is it {options}?", (), ("it complains", "")),
        Choices("topics", topics, "What is it about: {options}?"),
        Scale(
            "length",
            ("1", "2", "3", "4", "5"),
            "How long is it?",
            (("1", "short"), ("2",), ("3",), ("4",), ("5", "long")),
        ),
    )
    return TaskSpec(**{"name": "notes", "instruction": "Note: {text}", "questions": asked, **changes})


def make_questions_run(folder: Path, task: TaskSpec, n=40, text="note ", compared=True) -> Path:
    """
    Annotated rows of `make_questions`, or of one of its questions. The teacher gives no tone to the first two; the student
    contradicts its tone on every fifth row, its topics on every seventh and its length on every ninth.
    """
    answers = {
        "tone": ([-1 if i < 2 else i % 2 for i in range(n)], [i % 2 ^ (not i % 5) for i in range(n)]),
        "topics": (
            [[i % 4] if i % 3 else [] for i in range(n)],
            [[i % 4] * (i % 3 > 0) + [3] * (i % 7 == 6) for i in range(n)],
        ),
        "length": ([1 + i % 5 * 0.9 for i in range(n)], [1 + i % 5 * 0.9 + 2 * (i % 9 == 8) for i in range(n)]),
    }
    answers["topics"] = tuple([sorted(set(row)) for row in rows] for rows in answers["topics"])
    answers["length"] = tuple([min(5.0, value) for value in rows] for rows in answers["length"])
    columns = {"llm": {"text": [f"{text}{i}" for i in range(n)]}, "student": {}}
    features = {"llm": {"text": Value("string")}, "student": {}}
    for name, one in task.parts.items():
        question = one.question
        for who, given in zip(("llm", "student"), answers[question.name], strict=True):
            begin = f"{who}_{name}_" if name else f"{who}_"
            found = {
                **question.column(given),
                "confidence": [None if who == "llm" and i < 2 else 0.5 + i / 99 for i in range(n)],
            }
            columns[who] |= {f"{begin}{end}": values for end, values in found.items()}
            features[who] |= {f"{begin}{end}": feature for end, feature in question.own_features().items()}
            features[who][f"{begin}confidence"] = Value("float32")
    Dataset.from_dict(columns["llm"], features=Features(features["llm"])).save_to_disk(str(folder / "annotated"))
    results = {**made_results(n, {}), "questions": {name: made_results(n, {}) for name in task.parts if name}}
    config = {"task": task.to_dict(), "text_column": "text", "gold_column": None}
    note_stage(folder / "annotated", config, results)
    if compared:
        (folder / "compared").mkdir()
        rows = Dataset.from_dict(columns["student"], features=Features(features["student"]))
        rows.to_parquet(str(folder / "compared" / "part-00000-00000.parquet"))
    return folder
