"""Damaged notes through the commands that read them: a sentence with the file, what was expected and what came."""

import errno
import json
import os
import shutil
import stat

import pytest

from conftest import make_cloze, make_reviews
from hf_llambert import (
    LLMLabeler,
    Review,
    StudentConfig,
    StudentLabeler,
    TransformersTeacher,
    annotate,
    build_queue,
    label_pool,
    push_run,
    saved_calibration,
    train_student,
    write_queue,
    write_report,
)
from hf_llambert.annotation.published import published_note
from hf_llambert.cli import main
from hf_llambert.hub.cards import Publication
from hf_llambert.hub.files import annotation_note
from hf_llambert.notes import ANNOTATION, ANY, SEEDS, misfit, read_note, read_stage, task_shape
from hf_llambert.stages import note_stage, stage_results
from hf_llambert.whole import write_whole

pytestmark = pytest.mark.usefixtures("undrawn_reports")

BYTES = {
    "empty": b"",
    "cut": None,
    "not UTF-8": b"\xff\xfe\x80",
    "deep": b"[" * 100_000,
    "deep inside": b'{"config": ' + b'{"a": ' * 50_000,
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"3",
    "string": b'"config"',
    "empty object": b"{}",
}


def damaged(content, damage):
    if damage == "cut":
        return content[: len(content) // 2]
    return BYTES[damage]


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def report(run):
    write_report(run)


def review(run):
    build_queue(run)


def label(run):
    label_pool(
        make_reviews(40).select(range(30, 40)), StudentLabeler(run / "student"), run / "labels", show_progress=False
    )


def train(run):
    args = StudentConfig(str(run / "c"), use_cpu=True, num_train_epochs=1, report_to=[], disable_tqdm=True)
    train_student(make_cloze(), str(run / "student"), run / "student", args, gold=make_reviews(4))


def push(run):
    push_run(run, Publication("team/x", license="mit"))


USES = [
    ("annotated/stage.json", report),
    ("annotated/stage.json", review),
    ("annotated/stage.json", push),
    ("student/stage.json", report),
    ("student/stage.json", train),
    ("student/stage.json", push),
    ("student/training.json", report),
    ("student/training.json", lambda run: StudentLabeler(run / "student").label(["a"])),
    ("student/config.json", lambda run: StudentLabeler(run / "student").labels),
    ("student/config.json", push),
    ("labels/stage.json", report),
    ("labels/stage.json", label),
]


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize(("name", "use"), USES, ids=[f"{name}-{k}" for k, (name, _) in enumerate(USES)])
def test_a_damaged_note_is_a_sentence_that_names_it(name, use, damage, run):
    path = run / name
    path.write_bytes(damaged(path.read_bytes(), damage))
    with pytest.raises((OSError, ValueError), match=path.name) as raised:
        use(run)
    assert len(str(raised.value)) < 1000


INNER = [
    ("annotated/stage.json", "config", {}, "expected a task at 'config.task', which is missing"),
    ("annotated/stage.json", "config", [1], "expected an object at 'config', got a list: \\[1\\]"),
    ("annotated/stage.json", "config.task", 3, "config.task: expected a task"),
    ("annotated/stage.json", "config.task.labels", 3, "config.task: expected a task"),
    (
        "annotated/stage.json",
        "config.text_column",
        3,
        "expected a string or a list at 'config.text_column', got a whole number: 3",
    ),
    ("annotated/stage.json", "config.gold_column", {}, "expected a string or null at 'config.gold_column'"),
    (
        "annotated/stage.json",
        "results.coverage",
        "1",
        "expected a number from 0 to 1 at 'results.coverage', got a string",
    ),
    (
        "annotated/stage.json",
        "results.n_rows",
        True,
        "expected a whole number from 0 at 'results.n_rows', got true or false",
    ),
    ("annotated/stage.json", "results.reasons", {"a": "b"}, "expected a whole number from 0 at 'results.reasons.a'"),
    ("annotated/stage.json", "results.quality.confusion", [[1, 2], [3]], "expected a square table of whole numbers"),
    ("annotated/stage.json", "results.quality.per_class", {}, "expected figures of 2 labels at 'results.quality'"),
    ("annotated/stage.json", "results.quality.per_class", [], "expected an object at 'results.quality.per_class'"),
    ("annotated/stage.json", "results.quality.reliability", [[1]], "expected a list of bins"),
    ("annotated/stage.json", "results", {}, "expected a whole number from 0 at 'results.n_rows', which is missing"),
    ("student/stage.json", "results", {}, "expected an object at 'results.train', which is missing"),
    (
        "annotated/stage.json",
        "results.quality.per_class.positive.precision_low",
        [],
        "expected a number from 0 to 1 or null at 'results.quality.per_class.positive.precision_low', got a list",
    ),
    (
        "student/stage.json",
        "results.eval.per_class.positive.recall_high",
        "x",
        "'results.eval.per_class.positive.recall",
    ),
    (
        "annotated/stage.json",
        "results.calibration",
        {"method": "batch", "bias": 3, "temperature": 1},
        "results.calibration.bias",
    ),
    ("annotated/stage.json", "made", {"command": 3}, "'made.command'"),
    ("student/stage.json", "results.train", [], "expected an object at 'results.train'"),
    (
        "student/stage.json",
        "results.train.n_silver",
        "9",
        "expected a whole number from 0 at 'results.train.n_silver'",
    ),
    ("student/stage.json", "results.train.selection", [3], "expected an object at 'results.train.selection\\[0\\]'"),
    ("student/stage.json", "results.eval", 3, "'results.eval'"),
    ("student/stage.json", "results.linear", 3, "expected an object at 'results.linear', got a whole number: 3"),
    ("student/stage.json", "results.linear.unit", None, "expected a string at 'results.linear.unit', got null"),
    (
        "student/stage.json",
        "results.linear.eval.accuracy",
        2,
        "expected a number from 0 to 1 at 'results.linear.eval.acc",
    ),
    (
        "student/stage.json",
        "results.linear.eval.per_class",
        {},
        "expected figures of 2 labels at 'results.linear.eval'",
    ),
    (
        "student/stage.json",
        "results.linear.difference",
        {},
        "'results.linear.difference.difference', which is missing",
    ),
    ("student/stage.json", "results.linear.difference.low", "0", "from -1 to 1 at 'results.linear.difference.low'"),
    ("student/stage.json", "config.arguments", 3, "expected an object at 'config.arguments'"),
    ("student/training.json", "training", 3, "expected an object at 'training'"),
    ("student/training.json", "training.arguments", [3], "expected an object at 'training.arguments'"),
    ("student/training.json", "reading.max_length", "64", "expected a whole number at 'reading.max_length'"),
    ("labels/stage.json", "results.n_labelled", "many", "expected a whole number from 0 at 'results.n_labelled'"),
    ("annotated/stage.json", "config.text_column", "zz", "expected a column of .* at 'config.text_column', got 'zz'"),
    ("annotated/stage.json", "config.gold_column", "zz", "expected a column of .* at 'config.gold_column', got 'zz'"),
    (
        "annotated/stage.json",
        "results.quality.mcc",
        10**400,
        "expected a number from -1 to 1 at 'results.quality.mcc'",
    ),
    ("annotated/stage.json", "results.n_rows", 10**400, "expected a whole number from 0 at 'results.n_rows'"),
    ("labels/stage.json", "results.seconds", None, "expected a number from 0 at 'results.seconds', got null"),
    ("labels/stage.json", "results.seconds", float("nan"), "expected a number from 0 at 'results.seconds', got a n"),
    ("annotated/stage.json", "results.n_failed", -1, "expected a whole number from 0 at 'results.n_failed'"),
    ("annotated/stage.json", "results.coverage", 0.5, "results: expected 'n_ok' of 'n_rows' to be 'coverage', got 20"),
    (
        "annotated/stage.json",
        "results.n_rows",
        0,
        "results: expected 'n_ok' of 'n_rows' to be 'coverage', got 20 of 0",
    ),
    ("annotated/stage.json", "results.quality.accuracy", -1, "expected a number from 0 to 1 at 'results.quality.acc"),
    (
        "annotated/stage.json",
        "results.quality.accuracy",
        0.9,
        "quality: expected 0.55, as 'confusion' has it, at 'acc",
    ),
    ("annotated/stage.json", "results.quality.n", 21, "quality: expected 20 rows, as 'confusion' has, at 'n', got 21"),
    ("annotated/stage.json", "results.quality.per_class.positive.support", 0, "to sum to each 'support', got .10, 0."),
    ("annotated/stage.json", "results.quality.confusion", [[-1]], "expected a square table of whole numbers"),
    ("annotated/stage.json", "results.quality.reliability", [[2, 1, 1]], "expected a list of bins"),
    (
        "annotated/stage.json",
        "results.calibration.temperature",
        0,
        "expected a number from 0.001 at 'results.calibrat",
    ),
    ("annotated/stage.json", "results.settings.top_k", "\ud800", "surrogates not allowed"),
    ("student/stage.json", "results.eval.ece", float("inf"), "expected a number from 0 to 1 at 'results.eval.ece'"),
    ("labels/stage.json", "results.texts_per_second", -1, "expected a number from 0 or null at 'results.texts_per_s"),
    ("labels/stage.json", "config.student", [], "expected a string or null at 'config.student'"),
]


@pytest.mark.parametrize(("name", "place", "value", "said"), INNER)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(name, place, value, said, run):
    path = run / name
    note = json.loads(path.read_text())
    *inside, last = place.split(".")
    holder = note
    for key in inside:
        holder = holder[key]
    holder[last] = value
    path.write_text(json.dumps(note))
    with pytest.raises(OSError, match=f"{path.name}' is damaged .*{said}.*\\. Restore it, or remove"):
        write_report(run)


def with_counts(run, **counts):
    path = run / "labels" / "stage.json"
    note = json.loads(path.read_text())
    path.write_text(json.dumps(note | {"results": note["results"] | counts}))


def test_other_rows_than_the_note_counts_are_no_whole_pool(run):
    with_counts(run, n_labelled=11)
    assert "not labelled to its end" in write_report(run)["left_out"]["labels"]


def test_rows_with_a_label_are_as_many_as_the_note_counts(run):
    with_counts(run, n_labelled=9, n_unusable=1)
    with pytest.raises(OSError, match="expected 10 rows with a label, .* at 'results.n_labelled', got 9"):
        write_report(run)


def test_annotated_rows_are_read_whole_whatever_columns_they_were_saved_to_show(run):
    path = run / "annotated" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_format_columns": ["text"]}))
    assert write_report(run)["n_annotated"] == 20


def test_another_run_is_told_by_the_few_values_that_differ(tmp_path):
    there = {"arguments": {"seed": 1, "epochs": 3, "long": "a" * 1000}, **{f"k{i}": 0 for i in range(9)}}
    note_stage(tmp_path, there, {})
    with pytest.raises(
        FileExistsError, match=r"run \(arguments.long: .* now; arguments.seed: 1 there, 2 now; .*and 6 more"
    ):
        stage_results(tmp_path, {"arguments": {"seed": 2, "epochs": 3, "long": "b" * 1000}})
    with pytest.raises(FileExistsError) as raised:
        stage_results(tmp_path, {"arguments": {"seed": 2, "epochs": 3, "long": "b" * 1000}})
    assert len(str(raised.value)) < 1000


NOTED = {"seeds": [1, 2], "n": 9, "training": "x"}
SPREAD = {"values": [0.5, 0.6], "mean": 0.55, "low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ({"seeds": [1]}, "a value for each of two seeds or more"),
        ({"accuracy": SPREAD | {"values": [0.5]}}, "a value for each of two seeds or more"),
        ({"macro_f1": SPREAD | {"mean": float("nan")}}, "expected a number from 0 to 1 at 'macro_f1.mean'"),
    ],
)
def test_a_note_of_seeds_has_a_share_for_each(note, said):
    sound = {**NOTED, "accuracy": SPREAD, "macro_f1": SPREAD}
    assert misfit(sound, SEEDS) is None
    assert said in (misfit(sound | note, SEEDS) or "")


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"rows": -1}, {"unusable": True}, {"unusable": 11}, {"start": 10**400}, {"seconds": -1}]
)
def test_a_shard_whose_note_is_damaged_is_computed_again(wrong, run):
    [path] = (run / "labels" / ".manifest").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    label(run)
    results = read_stage(run / "labels" / "stage.json", "labels")["results"]
    assert (results["n_labelled"], results["n_unusable"]) == (10, 0)


@pytest.mark.parametrize("damage", [b"", b"null", b"[1]", b'{"features": 3}', b'{"features": {"text": []}}'])
@pytest.mark.parametrize("use", [report, review, push])
def test_damaged_notes_of_the_annotated_rows_are_a_sentence(use, damage, run):
    (run / "annotated" / "dataset_info.json").write_bytes(damage)
    with pytest.raises(ValueError, match="annotated' cannot be read as a saved dataset .*dataset_info.json"):
        use(run)


def test_fields_that_an_older_note_lacks_are_not_needed(run):
    path = run / "annotated" / "stage.json"
    note = json.loads(path.read_text())
    del note["config"]["teacher"], note["config"]["gold_column"]
    path.write_text(json.dumps(note))
    assert write_report(run)["teacher_identity"] is None


@pytest.mark.parametrize("place", ["config.gold_column", "config.teacher", "results.settings", "made"])
def test_nothing_is_published_of_a_note_that_lacks_what_is_published(place, run):
    path = run / "annotated" / "stage.json"
    note = json.loads(path.read_text())
    *inside, last = place.split(".")
    del (note[inside[0]] if inside else note)[last]
    path.write_text(json.dumps(note))
    with pytest.raises(OSError, match=f"stage.json' is damaged \\(expected .* at '{place}', which is missing"):
        push(run)


@pytest.mark.parametrize(
    "words", [["report"], ["push", "--to", "team/x", "--license", "mit"], ["review", "--reviewer", "Ann", "--run"]]
)
def test_commands_end_with_the_sentence_and_no_traceback(words, run, monkeypatch, capsys):
    (run / "annotated" / "stage.json").write_text('{"config": {}, "results": {}}')
    monkeypatch.setattr("sys.argv", ["hf-llambert", *words, str(run)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "annotated/stage.json' is damaged (expected a task at 'config.task', which is missing)" in said


def test_a_finished_stage_without_its_figures_is_no_result(run, teacher_dir):
    path = run / "annotated" / "stage.json"
    note = json.loads(path.read_text())
    path.write_text(json.dumps(note | {"results": {"n_failed": "0"}}))
    labeler = LLMLabeler(make_cloze(), TransformersTeacher(teacher_dir), run / "ledger")
    with pytest.raises(OSError, match="expected a whole number from 0 at 'results.n_rows', which is missing"):
        annotate(make_reviews(20), labeler, run / "annotated", gold_column="label", show_progress=False)
    path.write_text(json.dumps(note | {"config": note["config"] | {"labeler_calibration": [3]}}))
    with pytest.raises(OSError, match="at 'config.labeler_calibration', got a list"):
        saved_calibration(run)


QUEUES = [
    ("rows", [1], "rows\\[0\\]"),
    ("rows", {"row": 1}, "expected a list at 'rows'"),
    ("rows", [], "there are no rows"),
    ("task", 3, "expected a task"),
    ("text_column", None, "expected a string or a list at 'text_column', got null"),
    ("num", "100", "'num'"),
    ("text", 3, "'rows\\[0\\].text', got a whole number: 3"),
    ("teacher", "negative", "'rows\\[0\\].teacher'"),
    ("teacher", 7, "rows\\[0\\] has a label or reason that there is not"),
    ("teacher", True, "'rows\\[0\\].teacher', got true or false"),
    ("teacher_confidence", "0.3", "'rows\\[0\\].teacher_confidence'"),
    ("reason", ["random"], "'rows\\[0\\].reason'"),
    ("colour", "red", "unexpected keyword argument 'colour'"),
]


@pytest.mark.parametrize(("name", "value", "said"), QUEUES)
def test_a_queue_with_a_value_of_the_wrong_kind_is_a_sentence(name, value, said, run):
    write_queue(run / "review", build_queue(run, num=4, num_control=2))
    path = run / "review" / "queue.json"
    note = json.loads(path.read_text())
    (note if name in note else note["rows"][0])[name] = value
    path.write_text(json.dumps(note))
    for use in (lambda: Review(run / "review"), lambda: write_report(run)):
        with pytest.raises(OSError, match=f"queue.json' is damaged .*{said}.*Restore it; the answers beside it"):
            use()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"reviewer": 3, "queue": "x"}', "Line 1 .*expected a reviewer's name, got 3"),
        ("[]", "Line 1"),
        ('{"reviewer": "Ann"}', "Line 1"),
        ("3", "Line 1"),
        ("", "Line 1"),
        (None, "Line 2 .*row True is not in the queue"),
    ],
)
def test_damaged_answers_are_a_sentence(line, said, run):
    write_queue(run / "review", build_queue(run, num=4, num_control=2))
    with Review(run / "review").session("Ann") as session:
        session.answer(0, 1)
    [path] = (run / "review" / "answers").glob("*.jsonl")
    head = path.read_text().splitlines()[0]
    path.write_text(f"{line}\n" if line is not None else f'{head}\n{{"row": true, "label": 1, "at": "x"}}\n')
    with pytest.raises(OSError, match=said):
        Review(run / "review").answers()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("task", 3), ("task", []), ("task", {"name": 3}), ("task", {"name": "a", "labels": 3, "instruction": "{text}"}),
        ("text_column", 3), ("calibration", 3), ("calibration", {"method": "batch", "bias": 3, "temperature": 1}),
        ("members", 3), ("members", {"llm": 3}), (None, b"["), (None, b"\xff"), (None, b"3"),
        (None, b'{"task": ' + b"[" * 100_000),
    ],
)  # fmt: skip
def test_a_damaged_note_of_a_published_dataset_is_a_sentence(place, value, run, tmp_path):
    note = annotation_note(run)
    if place is not None:
        note = json.dumps(json.loads(note) | {place: value}).encode()
    (tmp_path / "annotation.json").write_bytes(note if place is not None else value)
    with pytest.raises(ValueError, match="annotation.json.* of '.*' is not what hf-llambert push writes"):
        published_note(str(tmp_path), member="llm" if place == "members" else None)


def test_damaged_choices_of_an_old_report_are_left_out(run, caplog):
    for content in (b"[]", b'{"choices": 3}', b'{"choices": {"a": [1]}}', b"\xff", b""):
        (run / "report.json").write_bytes(content)
        caplog.clear()
        assert "choices" not in write_report(run)
        assert "report.json' was damaged" in caplog.text


def test_a_shape_says_what_was_expected_and_what_came():
    assert misfit({"a": [1, 2]}, {"a": [int]}) is None
    assert misfit({"a": [1, None]}, {"a": [int]}) == "expected a whole number at 'a[1]', got null"
    assert misfit({"a": 1}, {"a": float, "b?": str}) is None
    assert misfit({"a": 1, "b": 2}, {"a": float, ANY: str}) == "expected a string at 'b', got a whole number: 2"
    assert misfit(None, (str, None)) is None
    assert misfit("x" * 100, (int, None)) == f'expected a whole number or null, got a string: "{"x" * 59}…'
    assert misfit(True, int) == "expected a whole number, got true or false: true"
    assert "expected a task" in (misfit({"labels": []}, task_shape) or "")
    assert misfit({}, ANNOTATION) is not None


def test_sound_notes_of_a_run_are_read(finished_run):
    for name, kind in (
        ("annotated", "annotated"),
        ("student", "student"),
        ("baseline", "student"),
        ("labels", "labels"),
    ):
        assert read_stage(finished_run / name / "stage.json", kind)["results"]


def test_a_note_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "n.json"
    write_whole(path, '{"a": 1}')

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, '{"a": 2, "b": "..."}')
    assert read_note(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["n.json"]


def test_a_folder_of_a_mounted_bucket_that_knows_no_fsync_is_no_fault(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(number)

    monkeypatch.setattr("os.fsync", fsync)
    write_whole(tmp_path / "n.json", "{}")
    assert (tmp_path / "n.json").read_text() == "{}"
