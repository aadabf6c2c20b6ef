"""Values of JSON are read as they stand."""

import json

import pytest

from hf_llambert import StudentLabeler, label_pool, load_data, read_pool
from hf_llambert.reading import json_rows
from hf_llambert.tasks.texts import why_unusable

FAR = [{"text": "x" * 100_000, "it": None}] * 110  # more than are read at once
BIG = 9007199254740993  # the least that float64 changes
VALUES = [
    (["2024-01-02", "2024-01-03"], None),
    (["2024-01-02T10:00:00+02:00", "2024-01-02T10:00:00Z"], None),
    (["2024-01-02", "unknown", None, "10:00:00"], None),
    ([["2024-01-02"], None, ["x"]], None),
    ([{"at": "2024-01-02"}, {"at": "never"}], None),
    ([1, None, 0.5], [1.0, None, 0.5]),
    ([BIG, None, 1], None),
    ([BIG, 0.5], [str(BIG), "0.5"]),
    ([2**53, 0.5], [2.0**53, 0.5]),
    ([12345678901234567890, 1, None], ["12345678901234567890", "1", None]),
    ([-(10**30), 2.50], [f"-1{'0' * 30}", "2.5"]),
    ([-(2**63), 2**63 - 1], None),
    ([[BIG], [1]], None),
    (["0012", "1.50", "true"], None),
    ([True, None, False], None),
]


@pytest.mark.parametrize(("values", "read"), VALUES)
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("array", [False, True])
def test_values_of_json_are_read_as_they_stand(values, read, far, array, tmp_path):
    rows = [{"text": "a", "it": value, "n": 1} for value in values]
    rows = [*rows[:1], *FAR[: 110 * far], *rows[1:]]
    content = json.dumps(rows) if array else "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / ("d.json" if array else "d.jsonl")).write_text(content)
    dataset = load_data(tmp_path)
    assert dataset.column_names == ["text", "it", "n"]
    found = dataset["it"][:]
    assert [*found[:1], *found[1 + 110 * far :]] == (values if read is None else read)
    assert dataset["n"][:][-1] == 1 and len(dataset) == len(rows)


@pytest.mark.parametrize("value", [[2**64], {"a": [-(2**63) - 1]}, [BIG, 0.5]])
def test_numbers_inside_of_values_that_would_be_changed_are_refused_with_their_line(value, tmp_path):
    (tmp_path / "d.jsonl").write_text(f'{{"text": "a"}}\n{json.dumps({"text": "b", "it": value})}\n')
    with pytest.raises(
        ValueError, match=r"line 2 holds -?\d+ inside column 'it', which would be changed. Write it as a string"
    ):
        load_data(tmp_path / "d.jsonl")


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [
        ("1", "0.5", [1.0, 0.5]),
        ("0.5", "1", [0.5, 1.0]),
        (str(BIG), "0.5", [str(BIG), "0.5"]),
        ("0.50", str(BIG), ["0.50", str(BIG)]),
        ("1", str(2**64), ["1", str(2**64)]),
        ('"2024-01-02"', '"x"', ["2024-01-02", "x"]),
        ("null", '"2024-01-02"', [None, "2024-01-02"]),
        ("[1]", "[0.5]", [[1.0], [0.5]]),
    ],
)
def test_types_of_json_are_decided_for_all_files_of_a_folder(first, second, read, student_dir, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "1.jsonl").write_text(f'{{"text": "a film", "s": {first}}}\n')
    (pool / "2.jsonl").write_text(f'{{"text": "b film", "s": {second}}}\n')
    assert load_data(pool)["s"][:] == read
    label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", show_progress=False)
    assert read_pool(tmp_path / "out")["s"][:] == read


@pytest.mark.parametrize(
    ("first", "second"), [("1", '"007"'), ('"007"', "1"), ("true", "1"), ("1", "[1]"), ("1", "true")]
)
def test_values_of_two_kinds_are_refused(first, second, student_dir, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "1.jsonl").write_text(f'{{"text": "a film", "id": {first}}}\n')
    (pool / "2.jsonl").write_text(f'{{"text": "b film"}}\n{{"text": "b film", "id": {second}}}\n')
    with pytest.raises(ValueError, match="2.jsonl' cannot be read .* column 'id' holds .*, expected"):
        load_data(pool)
    with pytest.raises(RuntimeError, match="'2.jsonl' cannot be read: column 'id' of row 2 holds .* where"):
        label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", show_progress=False)
    (tmp_path / "one.jsonl").write_text(f'{{"text": "a", "id": {first}}}\n{{"text": "b", "id": {second}}}\n')
    with pytest.raises(ValueError, match="from line 1 on: .*/id"):
        load_data(tmp_path / "one.jsonl")
    read = ["007" if value == '"007"' else value for value in (first, second)]
    if "[1]" not in read:
        assert load_data(tmp_path / "one.jsonl", label_columns=["id"])["id"][:] == read


def test_a_column_that_begins_late_is_there_from_the_first_row(student_dir, tmp_path):
    rows = [{"text": "a film"}, *FAR, {"text": "b film", "note": "n"}, *FAR[:2]]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_data(tmp_path / "d.jsonl")["note"][:] == [row.get("note") for row in rows]


ONE = {"text": "a", "label": 1, "more": {"x": [1, 2]}}


@pytest.mark.parametrize("columns", [[], ["label"]])
@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ('{"text":"a","label":1}{"text":"b","label":2}\n{"text":"c","label":3}', [1, 2, 3]),
        ('{"text":"a","label":1} {"text":"b","label":2}', [1, 2]),
        (json.dumps(ONE, indent=2), [1]),
        (f"{json.dumps(ONE, indent=2)}\n\n{json.dumps(ONE, indent=4)}\n", [1, 1]),
        (f"\n{json.dumps([ONE, ONE], indent=2)}\n", [1, 1]),
        (json.dumps(ONE | {"label": 2**64}, indent=2), [str(2**64)]),
    ],
)
def test_objects_are_rows_however_they_are_spaced(content, labels, columns, tmp_path):
    (tmp_path / "d.json").write_text(content)
    read = load_data(tmp_path / "d.json", label_columns=columns)["label"][:]
    assert read == (list(map(str, labels)) if columns else labels)


@pytest.mark.parametrize("columns", [[], ["label"]])
def test_a_row_that_has_a_column_twice_is_refused(columns, tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text":"a","label":"x","label":"y"}\n')
    with pytest.raises(ValueError, match="'label' twice|/label\\) was specified twice"):
        load_data(tmp_path / "d.jsonl", label_columns=columns)


@pytest.mark.parametrize("broken", ['{"text":"b"', '{"text":"b"}}', "b", '{"text":"b"},', "null", "[1]", "7"])
@pytest.mark.parametrize("columns", [[], ["label"]])
def test_a_broken_line_is_named(broken, columns, tmp_path):
    (tmp_path / "d.jsonl").write_text(f'{{"text":"a","label":1}}\n{broken}\n{{"text":"c","label":2}}\n')
    with pytest.raises(ValueError, match="line 2 is no JSON|from line 1 on: JSON parse error"):
        load_data(tmp_path / "d.jsonl", label_columns=columns)


@pytest.mark.parametrize("columns", [[], ["label"]])
def test_objects_over_several_lines_are_read_across_what_is_read_at_once(columns, tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "_BLOCK", 100)
    monkeypatch.setattr(json_rows, "_SNIFFED", 10)
    rows = [{"text": f"row {k} }}\n{{", "label": 1.50, "more": {"x": [k], "y": {"z": "}"}}} for k in range(50)]
    path = tmp_path / "d.json"
    written = "\n".join(json.dumps(row, indent=k % 3) for k, row in enumerate(rows)).replace("1.5,", "1.50,")
    path.write_text(written)
    read = load_data(path, label_columns=columns)[:]
    assert read["text"] == [row["text"] for row in rows] and [one["x"][0] for one in read["more"]] == list(range(50))
    assert read["label"] == ["1.50" if columns else 1.5] * 50
    path.write_text(written + '\n\n{\n"text": "a"\n"b"}')
    line = written.count("\n") + 3
    with pytest.raises(ValueError, match=rf"line {line} is no JSON \(Expecting ',' delimiter\)"):
        load_data(path, label_columns=columns)
    monkeypatch.setattr(json_rows, "_LONGEST", 1000)  # what is no JSON is not read to its end
    path.write_text('{"text": "a"}\n{"text": \n' + "1 " * 1000 + '\n{"text": ' + "[" * 10 + "\n" * 5000)
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        load_data(path)


def test_half_a_character_of_an_object_over_several_lines_is_that_rows(tmp_path):
    path = tmp_path / "d.json"
    path.write_text('{\n "text": "a \\ud800",\n "n": 1\n}\n{\n "text": "b",\n "n": 2\n}\n')
    assert [why_unusable(text) for text in load_data(path)["text"][:]] == ["text is not valid Unicode", None]


@pytest.mark.parametrize(
    "content", ['{"text": "a", "n": 1e400}', '{"text": "a",\n"n": 1e400}', '[{"text": "a", "n": -1e400}]']
)
def test_a_number_too_large_for_float64_is_refused(content, tmp_path):
    path = tmp_path / "d.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="too large for float64|too big to be stored in double"):
        load_data(path)


@pytest.mark.parametrize("value", [{}, [{}], {"a": {}}])
def test_objects_without_any_field_are_refused_in_what_a_pool_keeps(value, student_dir, tmp_path):
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "a film", "it": value}))
    assert load_data(tmp_path / "d.jsonl")["it"][:] == [value]
    labeler = StudentLabeler(student_dir)
    with pytest.raises(RuntimeError, match="column 'it' holds objects without any field, .* Leave it out with keep="):
        label_pool(tmp_path / "d.jsonl", labeler, tmp_path / "all", show_progress=False)
    label_pool(tmp_path / "d.jsonl", labeler, tmp_path / "labels", keep=["text"], show_progress=False)
    assert read_pool(tmp_path / "labels")["text"][:] == ["a film"]
