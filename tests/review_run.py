"""A small run to review, made without models."""

from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value

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
    counts = {"n_rows": n, "n_ok": n - 2, "n_abstained": 2, "n_failed": 0, "n_truncated": 0, "coverage": (n - 2) / n}
    results = {**counts, "reasons": {}, "labels": {name: teacher.count(i) for i, name in enumerate(task.labels)}}
    results |= {"seconds": 1.0, "texts_per_second": float(n), "settings": {}, "input_tokens": 0, "output_tokens": 0}
    results |= {"label_mass": None, "calibration": None, "mode": "generate"}
    note_stage(folder / "annotated", {"task": task.to_dict(), "text_column": column, "gold_column": None}, results)
    (folder / "compared").mkdir()
    student = [i % 2 if i % 5 else 1 - i % 2 for i in range(n)]
    compared = Dataset.from_dict({"student_label": student, "student_confidence": [0.9] * n})
    compared.to_parquet(str(folder / "compared" / "part-00000-00000.parquet"))
    return folder
