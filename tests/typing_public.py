"""Types of the public names, as somebody who uses the package sees them. mypy reads this in `make quality`; it is never run.

Each `type: ignore` stands where a mistake must be seen: mypy complains when it is not.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from datasets import Dataset
from typing_extensions import assert_type

from hf_llambert import (
    ABSTAIN,
    Calibration,
    ChosenBelow,
    EndpointTeacher,
    GateMissed,
    Guarantee,
    LabelValues,
    Limits,
    LLMLabeler,
    Price,
    PriceTable,
    Publication,
    RecordedTeacher,
    Review,
    ReviewSession,
    StudentCascade,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    TransformersTeacher,
    VLLMTeacher,
    __version__,
    annotate,
    batch_calibration,
    calibrate,
    calibrate_cascade,
    cascade,
    choose_below,
    label_pool,
    load_prices,
    load_task,
    load_teacher,
    next_to_annotate,
    push_run,
    review_summary,
    saved_calibration,
    select_silver,
    serve_review,
    train_student,
    with_gold,
    write_report,
)

assert_type(__version__, str)
assert_type(ABSTAIN, int)


def tasks() -> TaskSpec:
    task = TaskSpec("mine", ("no", "yes"), "{text}")
    assert_type(task.labels, tuple[str, ...])
    assert_type(task.num_labels, int)
    assert_type(TaskSpec.from_dict({"name": "mine", "labels": ["no", "yes"]}), TaskSpec)
    TaskSpec("mine", "no, yes", "{text}")  # type: ignore[arg-type]
    task.labels = ("yes", "no")  # type: ignore[misc]  # frozen
    assert_type(load_task(Path("mine.yaml")), TaskSpec)
    return load_task("imdb")


def teachers(task: TaskSpec) -> LLMLabeler:
    labeler = LLMLabeler(task, TransformersTeacher("a/model", dtype="float32", max_text_tokens=160), "ledger")
    for teacher in (
        EndpointTeacher("model", "http://localhost:8000/v1"),
        VLLMTeacher("a/model"),
        load_teacher("model"),
    ):
        LLMLabeler(task, teacher, Path("ledger"), text_column="review")
    TransformersTeacher("a/model", mode="ask")  # type: ignore[arg-type]
    LLMLabeler(task, "a/model", "ledger")  # type: ignore[arg-type]
    LLMLabeler("imdb", RecordedTeacher, "ledger")  # type: ignore[arg-type]
    return labeler


def annotating(sample: Dataset, labeler: LLMLabeler, values: LabelValues) -> None:
    sample.map(labeler, batched=True, with_rank=True, features=labeler.features(sample))
    sample.map(labeler, batched=True, features=labeler.features(sample.features))
    assert_type(labeler({"text": ["great"]})["llm_label"], list)
    found = batch_calibration([[0.0, -1.0]])
    assert_type(found, Calibration)
    silver, counts = select_silver(calibrate(sample, labeler.task, found), labeler.task)
    assert_type(len(counts), int)
    with_gold(silver, "text", "label", labeler.task, label_values=values)

    prices = load_prices("prices.yaml")
    assert_type(prices, PriceTable)
    assert_type(prices.of("a/model"), Price)
    limits = Limits(max_cost=2.0, cost=prices.of("a/model").cost)
    result = annotate(sample, {"one": labeler, "two": labeler}, "run", jury="mace", limits=limits)
    assert_type(saved_calibration("run"), Calibration | dict[str, Calibration] | None)
    assert_type(result, dict)
    annotate(sample, labeler, "run", calibration="none", label_values="ids")
    annotate(sample, labeler, "run", jury="loudest")  # type: ignore[arg-type]
    annotate(sample, labeler, "run", "batch")  # type: ignore[call-arg]  # by name only


def training(task: TaskSpec, silver: Dataset, gold: Dataset) -> StudentLabeler:
    args = StudentConfig("run/checkpoints", num_train_epochs=2, mix="ratio", gold_share=0.5)
    assert_type(args.gold_share, float | None)
    train_student(task, "an/encoder", Path("run/student"), args, silver=silver, gold=gold, eval_data=gold)
    train_student(task, "an/encoder", "run/student", args, silver)  # type: ignore[call-arg]  # by name only
    return StudentLabeler("run/student", backend="openvino", long_texts="mean")


def labelling(pool: Dataset, student: StudentLabeler, labeler: LLMLabeler) -> None:
    assert_type(student({"text": ["great"]})["student_label"], list)
    assert_type(next_to_annotate(["great"], 1, student, "entropy"), list[int])
    label_pool(pool, student, "run/labels", keep=["id"], on_shard=lambda path: path.unlink())
    label_pool(Path("pool.parquet"), student, "run/labels", process=(0, 2))
    label_pool(pool, labeler, "run/labels")  # type: ignore[arg-type]  # students only
    chosen = choose_below(StudentLabeler("run/students/linear"), student, ["great"])
    assert_type(chosen, ChosenBelow)
    both = StudentCascade(StudentLabeler("run/students/linear"), student, chosen.below)
    label_pool(pool, both, "run/labels")
    StudentCascade(both, student, 0.9)  # type: ignore[arg-type]  # two students, not three
    assert_type(calibrate_cascade(pool, both, labeler, target=0.9), Guarantee)
    promise = calibrate_cascade(pool, student, labeler, target=0.9)
    assert_type(promise, Guarantee)
    cascade("run/labels", labeler, "run/cascade", below=promise.threshold)
    cascade("run/labels", labeler, "run/cascade")  # type: ignore[call-arg]  # no threshold


def reviewing_and_publishing(run: Path) -> None:
    session = Review(run).session("Ann")
    assert_type(session, ReviewSession)
    page: AbstractContextManager[str] = serve_review(session)
    with session, page as address:
        assert_type(address, str)
    assert_type(review_summary(run), dict | None)
    write_report(run, gate={"accuracy": {"at_least": 0.9}})
    try:
        assert_type(push_run(run, Publication("me/mine", "cc-by-4.0", ("en",)), public=True), dict[str, str])
    except GateMissed as missed:
        raise SystemExit(str(missed)) from missed
