import json
import re

import pytest
from typer.testing import CliRunner

from hf_llambert import Review, build_queue, export_review, import_review, write_queue
from hf_llambert.cli import app
from hf_llambert.review.drawing import CONTROL
from review_run import make_run

FORMATS = ("argilla", "label_studio")


@pytest.fixture
def review(tmp_path, cloze) -> Review:
    run = make_run(tmp_path / "run", cloze)
    write_queue(run / "review", build_queue(run, 10, 3))
    return Review(run / "review")


def fill(record: dict, label: object, user: object = "11111111-2222-3333-4444-555555555555") -> dict:
    """What a person's answer looks like in the other tool's export."""
    if "fields" in record:
        return record | {"responses": {"label": [{"value": label, "user_id": user}]}, "status": "completed"}
    result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}, "id": "x"}]
    annotation = {
        "completed_by": user,
        "result": result,
        "created_at": "2026-03-09T21:52:49.513742Z",
        "lead_time": 4.2,
    }
    return record | {"id": 7, "annotations": [annotation | {"was_cancelled": False}]}


def labels_of(review: Review) -> dict:
    return {name: {place: answer.label for place, answer in given.items()} for name, given in review.answers().items()}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_answers_given_elsewhere_come_back(review, tmp_path, format, suffix):
    out, back = tmp_path / f"out.{suffix}", tmp_path / f"back.{suffix}"
    assert export_review(review, out, format) == 10
    read = json.loads(out.read_text()) if suffix == "json" else [json.loads(x) for x in out.read_text().splitlines()]
    filled = [fill(record, ["negative", "positive"][k % 2]) for k, record in enumerate(read[:6])] + read[6:]
    back.write_text(json.dumps(filled) if suffix == "json" else "\n".join(map(json.dumps, filled)))
    (name,) = import_review(review, back)
    assert labels_of(review) == {name: {k: k % 2 for k in range(6)}}
    assert all(answer.at.endswith("+00:00") for answer in review.answers()[name].values())
    assert import_review(review, back) == {name: 0}


@pytest.mark.parametrize("format", FORMATS)
def test_answers_survive_the_round_trip_under_their_reviewers_names(review, tmp_path, format):
    for who, label in (("Ann", 0), ("Bob", 1)):
        with review.session(who) as session:
            session.answer(0, label)
            session.answer(3, 1)
    export_review(review, tmp_path / "out.json", format, answers=True)
    before = labels_of(review)
    assert import_review(review, tmp_path / "out.json") == {"Ann": 0, "Bob": 0}
    assert labels_of(review) == before


def test_skips_survive_label_studio(review, tmp_path):
    with review.session("Ann") as session:
        session.skip(0)
    export_review(review, tmp_path / "out.json", "label_studio", answers=True)
    (review.folder / "answers").rename(tmp_path / "away")
    assert import_review(review, tmp_path / "out.json") == {"Ann": 1}
    assert labels_of(review) == {"Ann": {0: -1}}


@pytest.mark.parametrize("format", FORMATS)
def test_machines_labels_are_exported_only_when_asked_for_and_not_of_rows_that_measure(review, tmp_path, format):
    key = {"argilla": "suggestions", "label_studio": "predictions"}[format]
    export_review(review, tmp_path / "blind.json", format)
    export_review(review, tmp_path / "seen.json", format, machine_labels=True)
    assert not any(record[key] for record in json.loads((tmp_path / "blind.json").read_text()))
    labels = review.queue.task.labels
    for row, record in zip(review.queue.rows, json.loads((tmp_path / "seen.json").read_text()), strict=True):
        if row.reason == CONTROL:
            assert not record[key]
        elif format == "argilla":
            said = {name: found["value"] for name, found in record["suggestions"].items()}
            assert said == ({"label": labels[row.teacher]} if row.teacher != -1 else {})
        else:
            said = {p["model_version"]: p["result"][0]["value"]["choices"] for p in record["predictions"]}
            assert said.get("student") == [labels[row.student]]
            assert said.get("teacher") == ([labels[row.teacher]] if row.teacher != -1 else None)


def broken(record: dict, what: str) -> object:
    """A record with one thing wrong."""
    argilla = "fields" in record
    if what == "label":
        return fill(record, "neutral")
    if what == "no label":
        return fill(record, "")
    if what == "user":
        return fill(record, "positive", user=None)
    if what == "text":
        return record | ({"fields": {"text": "x"}} if argilla else {"data": record["data"] | {"text": "x"}})
    if what == "id":
        return record | ({"id": "abc"} if argilla else {"data": record["data"] | {"review_id": None}})
    if what == "no id":
        return {k: v for k, v in record.items() if k not in ("id", "data")}
    if what == "responses":
        return record | {"responses": {"label": "positive"}, "annotations": ["positive"]}
    return 3


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["label", "no label", "user", "text", "id", "no id", "responses", "number"])
def test_malformed_row_is_named_and_nothing_is_taken(review, tmp_path, format, what):
    export_review(review, tmp_path / "out.json", format)
    read = json.loads((tmp_path / "out.json").read_text())
    filled = [fill(record, "positive") for record in read]
    filled[4] = broken(read[4], what)
    (tmp_path / "back.json").write_text(json.dumps(filled))
    with pytest.raises(ValueError, match=r"Row 5 of .*Nothing was taken"):
        import_review(review, tmp_path / "back.json")
    assert review.answers() == {}


@pytest.mark.parametrize("format", FORMATS)
def test_row_that_is_there_twice_is_refused(review, tmp_path, format):
    export_review(review, tmp_path / "out.json", format)
    read = [fill(record, "positive") for record in json.loads((tmp_path / "out.json").read_text())]
    (tmp_path / "back.json").write_text(json.dumps([*read, read[0]]))
    with pytest.raises(ValueError, match=r"Row 11 of .* is there twice"):
        import_review(review, tmp_path / "back.json")
    assert review.answers() == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "{}", "must hold a list of records, got dict"),
        ("x.json", "[]", "no answer to any"),
        ("x.jsonl", "\n{", "Row 2 of .* is not JSON"),
    ],
)
def test_file_that_is_no_export_is_refused(review, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        import_review(review, tmp_path / name)


def test_rows_of_another_review_are_refused(review, tmp_path, cloze):
    other = make_run(tmp_path / "other", cloze)
    write_queue(other / "review", build_queue(other, 8, 3))
    export_review(Review(other / "review"), tmp_path / "out.json", "argilla")
    with pytest.raises(ValueError, match=r"Row 1 of .* none of this review"):
        import_review(review, tmp_path / "out.json")


def test_nothing_is_taken_while_a_reviewer_of_the_file_is_answering(review, tmp_path):
    export_review(review, tmp_path / "out.json", "label_studio")
    read = json.loads((tmp_path / "out.json").read_text())
    (tmp_path / "back.json").write_text(
        json.dumps([fill(read[0], "positive", "ann@example.org"), fill(read[1], "positive", "bob@example.org")])
    )
    with review.session("bob@example.org"), pytest.raises(RuntimeError, match="open already"):
        import_review(review, tmp_path / "back.json")
    assert labels_of(review) == {"ann@example.org": {}, "bob@example.org": {}}
    assert import_review(review, tmp_path / "back.json") == {"ann@example.org": 1, "bob@example.org": 1}


def test_command_exports_and_imports(review, tmp_path):
    run, file = review.folder.parent, tmp_path / "out.json"
    command = ["review", "--run", str(run)]
    found = CliRunner().invoke(app, [*command, "--export", "label_studio", str(file)], catch_exceptions=False)
    assert "10 rows written" in found.output
    read = [fill(record, "positive", 3) for record in json.loads(file.read_text())]
    file.write_text(json.dumps(read))
    found = CliRunner().invoke(app, [*command, "--import", str(file)], catch_exceptions=False)
    assert "label_studio-3: 10 answers" in found.output
    assert (run / "review" / "gold").is_dir()


def test_export_overwrites_nothing_and_knows_its_formats(review, tmp_path):
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export_review(review, tmp_path / "out.json", "argilla")
    with pytest.raises(ValueError, match="got 'doccano'"):
        export_review(review, tmp_path / "new.json", "doccano")
    with pytest.raises(FileNotFoundError, match="no file"):
        import_review(review, tmp_path / "new.json")


def test_of_two_answers_by_one_person_the_latest_counts_whatever_their_order(review, tmp_path):
    export_review(review, tmp_path / "out.json", "label_studio")
    (record, *_) = json.loads((tmp_path / "out.json").read_text())
    later, earlier = (fill(record, label)["annotations"][0] for label in ("positive", "negative"))
    earlier["created_at"] = "2026-01-09T21:52:49Z"
    (tmp_path / "back.json").write_text(json.dumps([record | {"annotations": [later, earlier]}]))
    (name,) = import_review(review, tmp_path / "back.json")
    assert labels_of(review) == {name: {0: 1}}


def test_file_with_a_byte_order_mark_is_read(review, tmp_path):
    export_review(review, tmp_path / "out.json", "argilla")
    filled = [fill(record, "negative") for record in json.loads((tmp_path / "out.json").read_text())]
    (tmp_path / "back.json").write_text(json.dumps(filled), encoding="utf-8-sig")
    assert set(import_review(review, tmp_path / "back.json").values()) == {10}


@pytest.mark.parametrize("content", [b'["caf\xe9"]', b"[" * 100_000], ids=["latin 1", "deep"])
def test_file_that_is_no_text_or_too_deep_is_named(review, tmp_path, content):
    (tmp_path / "back.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*back\.json' is not"):
        import_review(review, tmp_path / "back.json")


def test_time_that_no_calendar_has_is_told_with_its_row(review, tmp_path):
    export_review(review, tmp_path / "out.json", "label_studio")
    record = fill(json.loads((tmp_path / "out.json").read_text())[0], "positive")
    record["annotations"][0]["created_at"] = "0001-01-01T00:00:00+14:00"
    (tmp_path / "back.json").write_text(json.dumps([record]))
    with pytest.raises(ValueError, match="Row 1 of .*expected a time"):
        import_review(review, tmp_path / "back.json")


@pytest.mark.parametrize(
    "result",
    [
        [],
        None,
        [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": []}}],
        [{"from_name": "label", "to_name": "text", "type": "choices", "value": {}}],
        [{"from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": ["hm"]}}],
    ],
)
def test_annotation_without_a_choice_is_left_out_and_counted(review, tmp_path, caplog, result):
    export_review(review, tmp_path / "out.json", "label_studio")
    read = json.loads((tmp_path / "out.json").read_text())
    filled = [fill(record, "positive", "ann@example.org") for record in read[:3]]
    filled[1]["annotations"][0]["result"] = result
    (tmp_path / "back.json").write_text(json.dumps(filled))
    assert import_review(review, tmp_path / "back.json") == {"ann@example.org": 2}
    assert labels_of(review) == {"ann@example.org": {0: 1, 2: 1}}
    assert "1 annotations of" in caplog.text
    assert "(row 2)" in caplog.text


@pytest.mark.parametrize("value", ["posit", 1, True, "1", {"a": 1}, "<b>positive</b>", "positive, negative"])
@pytest.mark.parametrize("format", FORMATS)
def test_strange_label_is_refused_by_name(review, tmp_path, format, value):
    export_review(review, tmp_path / "out.json", format)
    record = json.loads((tmp_path / "out.json").read_text())[0]
    (tmp_path / "back.json").write_text(json.dumps([fill(record, value)]))
    with pytest.raises(ValueError, match=rf"Row 1 of .* has the label {re.escape(repr(value))}, expected one of"):
        import_review(review, tmp_path / "back.json")


@pytest.mark.parametrize(
    "change", [{"value": None}, {"status": "discarded"}, {"status": "draft"}, {"status": "DRAFT", "value": None}]
)
def test_response_of_argilla_that_is_none_or_not_submitted_is_left_out_and_counted(review, tmp_path, caplog, change):
    export_review(review, tmp_path / "out.json", "argilla")
    filled = [fill(record, "positive") for record in json.loads((tmp_path / "out.json").read_text())[:3]]
    for record in filled:
        record["responses"]["label"][0]["status"] = "submitted"
    filled[1]["responses"]["label"][0] |= change
    (tmp_path / "back.json").write_text(json.dumps(filled))
    (name,) = import_review(review, tmp_path / "back.json")
    assert labels_of(review) == {name: {0: 1, 2: 1}}
    assert "1 annotations of" in caplog.text
    assert "(row 2)" in caplog.text


def test_cancelled_annotation_is_a_skip_and_counted(review, tmp_path, caplog):
    export_review(review, tmp_path / "out.json", "label_studio")
    filled = [fill(record, "positive", "a@b.org") for record in json.loads((tmp_path / "out.json").read_text())[:2]]
    filled[1]["annotations"][0]["was_cancelled"] = True
    (tmp_path / "back.json").write_text(json.dumps(filled))
    import_review(review, tmp_path / "back.json")
    assert labels_of(review) == {"a@b.org": {0: 1, 1: -1}}
    assert "1 annotations of" in caplog.text
    assert "were cancelled (skipped), and are no labels (row 2)" in caplog.text
