import bz2
import functools
import gzip
import json
import lzma
import re
import shutil
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_llambert import StudentLabeler, label_pool, load_data, read_pool
from hf_llambert.data import check_column, claim_stage, read_note, stage_results
from hf_llambert.pool.sources import cast_table, pool_features, pool_pieces
from hf_llambert.reading import FileFormat
from hf_llambert.review.queue_file import read_queue
from hf_llambert.tasks.texts import why_unusable

NAMES = ["a[1]", "x*", "q?", "$HOME", "${HOME}", "{a,b}", "a::b", "~", "%41"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_signs_of_patterns_is_that_of_one_file(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    for other in ("a1", "xy", "qq", "a", "b"):
        (folder / f"{other}.csv").write_text("text\nanother file\n")
    (folder / f"{name}.csv").write_text("text\nthis file\n")
    (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(b'{"text": "this file"}\n'))
    pq.write_table(pa.table({"text": ["this file"]}), folder / f"{name}.parquet")
    for kind in ("csv", "jsonl.gz", "parquet"):
        path = folder / f"{name}.{kind}"
        assert load_data(path)["text"][:] == ["this file"]
        [piece] = pool_pieces(path)
        assert [row for table in piece.read(0) for row in table["text"].to_pylist()] == ["this file"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_with_signs_of_patterns_are_read(name, tmp_path):
    Dataset.from_dict({"text": ["saved"]}).save_to_disk(str(tmp_path / "plain"))
    (tmp_path / "plain").rename(tmp_path / name)
    assert load_data(tmp_path / name)["text"][:] == ["saved"]
    (tmp_path / f"{name}2").mkdir()
    pq.write_table(pa.table({"text": ["labelled"]}), tmp_path / f"{name}2" / "part-00000-00000.parquet")
    assert read_pool(tmp_path / f"{name}2")["text"][:] == ["labelled"]
    assert next(iter(read_pool(tmp_path / f"{name}2", streaming=True))) == {"text": "labelled"}


@pytest.mark.parametrize(
    ("rows", "line", "fields"),
    [
        (["a,b,1", "c,d,0"], 2, 3),  # every row: pandas takes the first field for an index
        (["a,1", "b, c,0"], 3, 3),
        (['"two\nlines",1', "", "b"], 5, 1),
        (["a,1,"], 2, 3),
    ],
)
def test_a_row_with_other_fields_than_the_header_is_refused_with_its_line(rows, line, fields, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["text,label", *rows]))
    with pytest.raises(
        ValueError, match=rf"d.csv' cannot be read as csv: line {line} has {fields} fields, the header 2"
    ):
        load_data(path)


LABELS = ["01", None, "1", "1.0", "NA", "None", "null", "true", " x"]


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_label_columns_of_a_csv_are_strings_as_written(packed, tmp_path):
    path = tmp_path / f"d.csv{packed}"
    content = "text,label,n\n" + "".join(f"t,{label or ''},{i}\n" for i, label in enumerate(LABELS))
    if packed == ".zst":
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(content.encode())
    else:
        pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packed]
        path.write_bytes(pack(content.encode()))
    data = load_data(path, label_columns=["label", "not there"])
    assert data["label"][:] == LABELS
    assert data.column_names == ["text", "label", "n"]
    assert data["n"][:] == list(range(len(LABELS)))


@pytest.mark.parametrize("array", [False, True])
def test_label_columns_of_json_are_strings_as_written(array, tmp_path):
    written = ["1", "1.0", "1e2", "true", "false", "null", '"01"', '"2020-01-01"', '"NA"', '""', str(10**40)]
    rows = [f'{{"n": {i}.5, "label": {value}}}' for i, value in enumerate(written)] + ['{"n": 0}']
    path = tmp_path / "d.json"
    path.write_text(f"[{','.join(rows)}]" if array else "\n".join(rows))
    data = load_data(path, label_columns=["label"])
    expected = ["1", "1.0", "1e2", "true", "false", None, "01", "2020-01-01", "NA", "", str(10**40), None]
    assert data["label"][:] == expected
    assert data["n"][:][:2] == [0.5, 1.5]
    path.write_text('{"label": ["a"]}')
    with pytest.raises(ValueError, match="column 'label' holds a list in row 1"):
        load_data(path, label_columns=["label"])


def test_a_column_of_numbers_that_turns_to_words_is_read_as_written(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("code\n" + "".join(f"{i:05d}\n" for i in range(12_000)) + "word\n")
    assert load_data(path)["code"][:3] == ["00000", "00001", "00002"]
    assert load_data(path)["code"][12_000] == "word"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("encoding", "looks"),
    [
        (name, f"it looks like {name}. Pass encoding='{name}'")
        for name in ("utf-16", "utf-16-le", "utf-32", "utf-32-be")
    ]
    + [("cp1252", r"at byte \d+ \(0xfc\) in line \d. Its bytes may be cp1252, .*: only who wrote it knows which")],
)
def test_another_encoding_is_said_and_can_be_passed(kind, encoding, looks, tmp_path):
    path = tmp_path / f"d.{kind}"
    path.write_bytes(("text\nführen\n" if kind == "csv" else '{"text": "führen"}\n').encode(encoding))
    with pytest.raises(
        ValueError, match=f"d.{kind}' cannot be read as .*: it is not utf-8.* {looks}.*--encoding {encoding}"
    ):
        load_data(path)
    assert load_data(path, encoding=encoding)["text"][:] == ["führen"]
    [piece] = pool_pieces(path, form=FileFormat(encoding=encoding))
    assert next(piece.read(0))["text"].to_pylist() == ["führen"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_byte_order_mark_is_no_text(kind, tmp_path):
    path = tmp_path / f"d.{kind}"
    path.write_bytes(("text\nä\n" if kind == "csv" else '{"text": "ä"}\n').encode("utf-8-sig"))
    assert load_data(path).to_dict() == {"text": ["ä"]}


@pytest.mark.parametrize(("mark", "given"), [(";", ";"), ("\t", "\\t"), ("|", "|")])
def test_another_delimiter_is_said_and_can_be_passed(mark, given, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"text{mark}label\na, b{mark}1\n")
    with pytest.raises(ValueError, match="looks separated by .* \\(--delimiter"):
        load_data(path)
    assert load_data(path, delimiter=given).to_dict() == {"text": ["a, b"], "label": [1]}


def test_formats_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "d.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match="no encoding 'utf-99'. Pass encoding"):
        load_data(tmp_path / "d.csv", encoding="utf-99")
    with pytest.raises(ValueError, match="must be one character"):
        load_data(tmp_path / "d.csv", delimiter=";;")
    with pytest.raises(ValueError, match="has no configurations. Leave config"):
        load_data(tmp_path / "d.csv", config="en")


def test_views_of_strings_are_strings(tmp_path):
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.string_view())}), tmp_path / "d.parquet")
    assert load_data(tmp_path / "d.parquet")["text"][:] == ["a", "b"]
    [piece] = pool_pieces(tmp_path / "d.parquet")
    assert next(piece.read(0))["text"].type == pa.large_string()


def test_files_of_a_folder_may_have_columns_of_their_own(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"], "note": pa.nulls(1)}), folder / "1.parquet")
    pq.write_table(pa.table({"text": ["b"], "note": ["n"], "lang": ["en"]}), folder / "2.parquet")
    expected = {"text": ["a", "b"], "note": [None, "n"], "lang": [None, "en"]}
    assert load_data(folder).to_dict() == expected
    pq.write_table(pa.table({"text": [3]}), folder / "3.parquet")
    with pytest.raises(ValueError, match="3.parquet' .* column 'text' holds int64, expected string"):
        load_data(folder)


def test_a_folder_is_called_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.csv").write_text("text\na\n")
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "a"}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'in' mixes"):
        load_data("in")
    (tmp_path / "in" / "b.jsonl").unlink()
    (tmp_path / "in" / "deep" / "b.csv").write_text("text\na,b\n")
    with pytest.raises(ValueError, match="'in/deep/b.csv' cannot be read as csv"):
        load_data("in")


def test_numbers_are_no_texts(tmp_path):
    (tmp_path / "d.csv").write_text("text\n10115\n80331\n")
    with pytest.raises(ValueError, match="Column 'text' must hold strings, it holds int64. Pass text_column"):
        check_column(load_data(tmp_path / "d.csv"), "text", "text_column")


def test_a_pool_is_cast_only_in_what_is_kept(student_dir, tmp_path):
    pool, labeler = tmp_path / "pool", StudentLabeler(student_dir)
    pool.mkdir()
    pq.write_table(pa.table({"id": [1], "text": ["a good film"], "x": [1]}), pool / "1.parquet")
    pq.write_table(pa.table({"id": [2], "text": ["a dull film"], "x": ["one"], "y": [0]}), pool / "2.parquet")
    label_pool(pool, labeler, tmp_path / "labels", keep=["id", "text"], show_progress=False)
    assert read_pool(tmp_path / "labels")["id"][:] == [1, 2]
    with pytest.raises(RuntimeError, match=r"'2.parquet' cannot be read: expected the columns \['id', 'text', 'x'\]"):
        label_pool(pool, labeler, tmp_path / "all", show_progress=False)
    pq.write_table(pa.table({"id": [2, 3], "text": ["a", "b"], "x": ["7", "one"]}), pool / "2.parquet")
    with pytest.raises(RuntimeError, match="'2.parquet' cannot be read: column 'x' of row 1 holds string where int64"):
        label_pool(pool, labeler, tmp_path / "typed", show_progress=False)


def test_an_empty_column_of_the_first_file_takes_the_type_of_the_next(student_dir, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    pq.write_table(pa.table({"text": ["a film"], "note": pa.nulls(1)}), pool / "1.parquet")
    pq.write_table(pa.table({"text": ["a film"], "note": ["n"]}), pool / "2.parquet")
    label_pool(pool, StudentLabeler(student_dir), tmp_path / "labels", show_progress=False)
    assert read_pool(tmp_path / "labels")["note"][:] == [None, "n"]


DAMAGED = [b"[" * 100_000, b'{"config": ', b"\x80\x00\xff", b"[1, 2]", b"null", b'{"config": 3, "results": []}', b""]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_note_is_a_sentence(content, student_dir, tmp_path):
    note = tmp_path / "s" / "stage.json"
    note.parent.mkdir()
    note.write_bytes(content)
    for use in (lambda: stage_results(note.parent, {}), lambda: claim_stage(note.parent, {}, overwrite=True)):
        with pytest.raises(OSError, match="stage.json' is damaged .* Restore it, or remove"):
            use()
    if content[:1] != b"{" or content.endswith(b" "):
        with pytest.raises(OSError, match="is damaged"):
            read_note(note)


def test_a_sound_note_is_read(tmp_path):
    (tmp_path / "n.json").write_text(json.dumps({"a": 1}))
    assert read_note(tmp_path / "n.json", {"a": int}) == {"a": 1}


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[]", b"\x80", b'{"rows": 3}', b'{"rows": [1]}', b'{"rows": [{"row": 1}]}']
)
def test_a_damaged_queue_of_a_review_is_a_sentence(content, tmp_path):
    (tmp_path / "queue.json").write_bytes(content)
    with pytest.raises(OSError, match="queue.json' is damaged .*Restore it; the answers beside it belong to it"):
        read_queue(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[]", b"\x80", b'{"piece": "a"}', b'{"reason": 3}', b"wrong type"]
)
def test_a_damaged_note_of_a_shard_is_as_if_it_were_not_there(content, student_dir, tmp_path):
    pool, labeler = Dataset.from_dict({"text": ["a good film", "a dull film"]}), StudentLabeler(student_dir)
    label_pool(pool, labeler, tmp_path / "labels", show_progress=False)
    [note] = (tmp_path / "labels" / ".manifest").glob("part-*.json")
    if content == b"wrong type":
        content = json.dumps(json.loads(note.read_text()) | {"rows": "2", "chunk": [0]}).encode()
    note.write_bytes(content)
    assert label_pool(pool, labeler, tmp_path / "labels", show_progress=False)["n_labelled"] == 2
    assert read_pool(tmp_path / "labels")["text"][:] == ["a good film", "a dull film"]


@pytest.mark.parametrize(
    "message",
    [
        "Config name is missing.\nPlease pick one among the available configs: ['de', 'en']\nExample of usage: ...",
        "BuilderConfig 'fr' not found. Available: ['de', 'en']",
    ],
)
def test_a_dataset_with_several_configurations_names_them(message, monkeypatch):
    def load(name, config, **kwargs):
        raise ValueError(message)

    monkeypatch.setattr("hf_llambert.data.load_dataset_builder", load)
    with pytest.raises(ValueError, match=r"'our/data' has the configurations \['de', 'en'\]; .* \(--config\)"):
        load_data("our/data", config="fr")


@pytest.mark.parametrize("name", ["a.jsonl", "b.json"])
def test_columns_of_json_keep_their_order_when_one_is_read_as_written(tmp_path, name):
    row = '{"text": "good", "label": 1, "id": "x"}'
    (tmp_path / name).write_text(f"[{row}]" if name == "b.json" else row + "\n")
    dataset = load_data(tmp_path / name, label_columns=["label", "other"])
    assert dataset.column_names == ["text", "label", "id"]
    assert dataset[0]["label"] == "1"


@pytest.mark.parametrize("encoding", ["rot13", "base64", "undefined", "nothing"])
def test_encoding_that_is_none_of_texts_is_refused(encoding):
    with pytest.raises(ValueError, match=f"no encoding '{encoding}'"):
        FileFormat(encoding)


@pytest.mark.parametrize(
    ("notes", "kept"),
    [({"state.json": "[]", "dataset_info.json": "[]"}, True), ({"dataset_dict.json": "[" * 100_000}, False)],
)
def test_saved_dataset_with_damaged_notes_is_refused_in_a_sentence(tmp_path, notes, kept):
    saved = tmp_path / "saved"
    if kept:
        Dataset.from_dict({"text": ["good"]}).save_to_disk(saved)
    saved.mkdir(exist_ok=True)
    for name, text in notes.items():
        (saved / name).write_text(text)
    with pytest.raises(ValueError, match="saved' cannot be read as a saved dataset .*save the dataset again"):
        load_data(saved)


def test_rows_of_a_csv_are_those_of_its_lines_whatever_is_blank(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b'text,label,note\ngood,1,a\r\r,0,b\n\n   \n" x\rz",1,"say ""hi"""\r\n')
    assert load_data(path)[:] == {
        "text": ["good", None, " x\rz"],
        "label": [1, 0, 1],
        "note": ["a", "b", 'say "hi"'],
    }
    path.write_text('text\ngood\n  \n\nbad\n""\n')
    assert load_data(path)["text"][:] == ["good", "  ", "bad", None]


def test_a_quote_that_nothing_closes_is_named_with_its_line(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('text\ngood\n"bad\nand so on\n')
    with pytest.raises(ValueError, match="line 3 opens a double quote that nothing closes"):
        load_data(path)


def test_texts_of_a_pool_stay_as_written_where_later_ones_look_like_numbers(student_dir, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "1.csv").write_text("text,code,n\na good film,a7,1\n")
    (pool / "2.csv").write_text("text,code,n,more\n1.50,007,2,x\n3,,3,y\n")
    (pool / "3.csv").write_text("text,n,code\ntrue,4,2020-01-01\n")
    label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", keep=["text", "code", "n"], show_progress=False)
    rows = read_pool(tmp_path / "out")
    assert rows["text"][:] == ["a good film", "1.50", "3", "true"]
    assert rows["code"][:] == ["a7", "007", None, "2020-01-01"]
    assert rows["n"][:] == [1, 2, 3, 4]


@pytest.mark.parametrize("value", ["7", "1.5", "true"])
def test_a_pool_turns_no_other_values_to_texts(value, student_dir, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "1.jsonl").write_text('{"text": "a good film"}\n')
    (pool / "2.jsonl").write_text(f'{{"text": {value}}}\n')
    with pytest.raises(RuntimeError, match="'2.jsonl' cannot be read: column 'text' of row 1 holds .* where string"):
        label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", show_progress=False)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("other", [["positive", "negative"], None])
def test_files_that_number_their_labels_differently_are_not_joined(kind, other, tmp_path):
    for name, names in (("1", ["negative", "positive"]), ("2", other)):
        label = ClassLabel(names=names) if names else Value("int64")
        dataset = Dataset.from_dict(
            {"text": ["a", "b"], "label": [0, 1]}, Features({"text": Value("string"), "label": label})
        )
        (tmp_path / name).mkdir()
        if kind == "parquet":
            dataset.to_parquet(tmp_path / name / "x.parquet")
        else:
            dataset.save_to_disk(tmp_path / "saved")
            next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / name / "x.arrow")
            shutil.rmtree(tmp_path / "saved")
    for read in (load_data, pool_pieces):
        with pytest.raises(
            ValueError, match=rf"2/x.{kind}' cannot be read .*'label' holds .* where '.*1/x.{kind}' holds"
        ):
            read(tmp_path)
    assert load_data(tmp_path / "1").features["label"].names == ["negative", "positive"]


@pytest.mark.parametrize("depth", [200, 2000, 100_000])
@pytest.mark.parametrize("columns", [[], ["label"]])
def test_json_nested_too_deeply_is_named_with_its_line(depth, columns, tmp_path):
    flat = json.dumps({"text": "[" * 200 + '"' + "{" * 200, "x": [[1]]})
    deep = '{"text": "a", "x": ' + "[" * depth + "]" * depth + "}"
    path = tmp_path / "d.jsonl"
    path.write_text(f"{flat}\n\n{deep}\n")
    with pytest.raises(ValueError, match="d.jsonl' cannot be read as json: line 3 .*nested too deeply"):
        load_data(path, label_columns=columns)
    path.write_text(f"{flat}\n{flat}\n")
    assert len(load_data(path, label_columns=columns)) == 2
    for content in (
        f"[{flat}, {deep}]",
        f"[{flat}, {deep}]".replace("[", "[\n"),
        deep.replace("[", "[\n"),
        '{"text": "a", "x": ' + '{"x":\n' * depth + "1" + "}\n" * depth + "}",
        '{"text": "a", "x": ' + "[\n" * depth,
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match="nested too deeply|is no JSON"):
            load_data(path, label_columns=columns)


TEXTS = {
    "shift_jis": "日本語の文章です",
    "gb18030": "中文的文章内容",
    "koi8-r": "привет мир",
    "cp1251": "привет мир",
    "cp1252": "führen",
    "euc_kr": "한국어 문장",
}


@pytest.mark.parametrize(("encoding", "text"), TEXTS.items())
def test_encodings_that_bytes_allow_are_named_and_no_other(encoding, text, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(f"text,n\nplain,1\n{text},2\n".encode(encoding))
    with pytest.raises(
        ValueError, match=r"it is not utf-8 at byte \d+ \(0x..\) in line 3. Its bytes may be"
    ) as raised:
        load_data(path)
    named = re.search("may be ([^:]+):", str(raised.value))[1].split(", ")
    assert {"shift_jis": "cp932"}.get(encoding, encoding) in named
    for name in named:
        path.read_bytes().decode(name)
    assert load_data(path, encoding=encoding)["text"][:] == ["plain", text]


@pytest.mark.parametrize("byte", [0x81, 0x8D, 0x8F, 0x90, 0x9D])
def test_bytes_that_cp1252_has_not_are_never_called_that(byte, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"text\nabc " + bytes([byte]) + b" d\n")
    with pytest.raises(ValueError, match=f"at byte 10 \\(0x{byte:x}\\) in line 2. .*--encoding") as raised:
        load_data(path)
    assert "cp1252" not in str(raised.value).split("cannot be read")[1]


def test_what_is_in_no_usual_encoding_is_said_so(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"text\n" + bytes(range(0x7F, 0x100)) + b"\n")
    with pytest.raises(ValueError, match="none of the usual encodings either: it may be damaged, or no text"):
        load_data(path)


def test_a_byte_far_down_is_found_with_its_line(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"text\n" + "é\n".encode() * 700_000 + b"f\xfchren\n")
    with pytest.raises(ValueError, match=r"at byte 2,100,007 \(0xfc\) in line 700,002. Its bytes may be cp1252"):
        load_data(path)


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_of_few_zeros_is_known(order, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes("text\n中文的文章内容,没有拉丁字母\n".encode(f"utf-16-{order}"))
    with pytest.raises(ValueError, match=f"it looks like utf-16-{order}. Pass encoding='utf-16-{order}'"):
        load_data(path)


def test_a_zero_byte_in_a_text_is_a_text(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"text,n\na\0b,1\n")
    assert load_data(path)[:] == {"text": ["a\0b"], "n": [1]}


WRITTEN = [
    (["1", "", "-3"], [1, None, -3]),
    (["1234567890123456789", "", "2"], [1234567890123456789, None, 2]),
    (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
    (["9223372036854775808", "1"], None),
    (["12345678901234567890", "1"], None),
    (["00123", "4"], None),
    (["-0", "1"], None),
    (["+1", "1"], None),
    (["1 000", "1"], None),
    ([" 1", "2"], None),
    (["1_000", "2"], None),
    (["\u0661", "2"], None),
    (["0.5", "", "1e-07"], [0.5, None, 1e-07]),
    (["0.1", "1.5"], [0.1, 1.5]),
    (["1.10", "1.2"], None),
    (["1.5", "2"], None),
    (["0.12345678901234567890", "1.5"], None),
    (["1e400", "1.5"], None),
    (["nan", "1.5"], None),
    (["inf", "1.5"], None),
    (["True", "", "False"], [True, None, False]),
    (["true", "false"], [True, False]),
    (["True", "false"], None),
    (["NA", "None", "null", "NaN", "1"], None),
    (["", ""], None),
]


@pytest.mark.parametrize(("written", "read"), WRITTEN)
@pytest.mark.parametrize("far", [False, True])
def test_a_column_of_a_csv_is_of_numbers_only_where_all_are_written_back_as_they_stand(written, read, far, tmp_path):
    beside = [written[0]] * (12_000 if far else 0)
    rows = [*beside, *written]
    (tmp_path / "d.csv").write_text("text,c\n" + "".join(f"t,{value}\n" for value in rows))
    data = load_data(tmp_path / "d.csv")
    expected = [value or None for value in written] if read is None else read
    assert data["c"][:][-len(written) :] == expected
    assert [type(value) for value in data["c"][:][-len(written) :]] == [type(value) for value in expected]
    [piece] = pool_pieces(tmp_path / "d.csv")
    assert [value for table in piece.read(0) for value in table["c"].to_pylist()] == data["c"][:]


def test_types_are_decided_for_all_files_of_a_folder(student_dir, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.csv").write_text("text,id,n,x\na good film,7,1,1\n")
    (folder / "2.csv").write_text("text,id,n,x\na dull film,007,2,2.5\n")
    expected = {"text": ["a good film", "a dull film"], "id": ["7", "007"], "n": [1, 2], "x": ["1", "2.5"]}
    assert load_data(folder).to_dict() == expected
    labeler = StudentLabeler(student_dir)
    label_pool(folder, labeler, tmp_path / "labels", show_progress=False)
    assert {name: read_pool(tmp_path / "labels")[name][:] for name in expected} == expected
    (folder / "3.csv").write_text("text,id,n,x\na film,1,03,1\n")
    with pytest.raises(FileExistsError, match="1.csv, 2.csv changed since"):
        label_pool(folder, labeler, tmp_path / "labels", show_progress=False)


HALVES = [r"\ud800", r"a \uDC00 b", r"\ud83d\u0041", r"\ude00\ud83d", r"\ud83d\\ude00"]


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("half", HALVES)
def test_half_a_character_is_a_row_failure_and_its_neighbours_are_read(half, array, student_dir, tmp_path, caplog):
    rows = [
        '{"text": "a good film \\ud83d\\ude00", "label": 1, "id": "x"}',
        f'{{"text": "a film {half}", "label": 1.50, "id": "y", "more": {{"k": ["b {half}", null], "n": 1e2}}}}',
        f'{{"text": "a dull film", "label": 0, "id": "z {half}"}}',
    ]
    path = tmp_path / "d.json"
    path.write_text(f"[{','.join(rows)}]" if array else "\n".join(rows))
    for columns in ([], ["label"]):
        caplog.clear()
        data = load_data(path, label_columns=columns)
        assert [why_unusable(text) for text in data["text"][:]] == [None, "text is not valid Unicode", None]
        assert data["text"][0] == "a good film 😀"
        assert "\ufffd" in data["id"][2]
        assert data["label"][:] == (["1", "1.50", "0"] if columns else [1, 1.5, 0])
        assert [record.getMessage()[:10] for record in caplog.records] == ["2 value(s)"]
    label_pool(path, StudentLabeler(student_dir), tmp_path / "labels", show_progress=False)
    labels = read_pool(tmp_path / "labels")
    assert [label == -1 for label in labels["student_label"][:]] == [False, True, False]
    assert load_data(path, text_column="id")["text"][:][1].count("\ufffd") >= 1


def test_whole_characters_beside_halves_are_kept(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(r'{"text": "\\ud800 \ud83d\ude00", "n": 1}' + "\n")
    assert load_data(path)["text"][:] == ["\\ud800 😀"]


@pytest.mark.parametrize("mark", [";", ",", "\t"])
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_a_first_line_of_excel_is_no_row(mark, before, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"{before}sep={mark}\r\ntext{mark}n\r\na{mark}1\r\n", encoding="utf-8", newline="")
    assert load_data(path, delimiter=mark)[:] == {"text": ["a"], "n": [1]}
    with pytest.raises(
        ValueError, match="its first line says that .* separates its fields, expected '\\|'. Pass delim"
    ):
        load_data(path, delimiter="|")


def test_what_is_packed_under_the_name_of_a_csv_is_said_so(tmp_path):
    content, path = "text\nführen\n".encode(), tmp_path / "d.csv"
    packed = {
        "by gzip. Give it a name that ends in .gz": gzip.compress(content),
        "by bzip2": bz2.compress(content),
        "by xz": lzma.compress(content),
        "by zstd": pa.Codec("zstd").compress(content, asbytes=True),
        "a zip archive or a spreadsheet": b"PK\x03\x04\xff\xfe",
    }
    for said, written in packed.items():
        path.write_bytes(written)
        with pytest.raises(ValueError, match=f"cannot be read as csv: it is .*{said}"):
            load_data(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_files_that_spell_a_column_differently_are_refused_with_both_names(tmp_path, kind):
    for name, column in (("a", "label"), ("b", "Label")):
        row = f"text,{column}\nx,pos\n" if kind == "csv" else json.dumps({"text": "x", column: "pos"}) + "\n"
        (tmp_path / f"{name}.{kind}").write_text(row)
    with pytest.raises(ValueError, match=r"b\.(csv|jsonl)' .*the column 'Label', and files before it 'label'"):
        load_data(tmp_path)
    one = tmp_path / "one.csv"
    one.write_text("text,label,Label\nx,1,2\n")
    assert load_data(one).column_names == ["text", "label", "Label"]


@pytest.mark.parametrize("label_columns", [[], ["label"]])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_name_that_stands_twice_in_a_json_object_is_refused(tmp_path, name, label_columns):
    rows = ['{"text": "a", "label": "pos"}', '{"text": "b", "label": "neg", "label": "pos"}']
    (tmp_path / name).write_text("[" + ",".join(rows) + "]" if name == "t.json" else "\n".join(rows))
    with pytest.raises(ValueError, match="label"):
        load_data(tmp_path / name, label_columns=label_columns)
    if label_columns:
        with pytest.raises(ValueError, match="'label' twice"):
            load_data(tmp_path / name, label_columns=label_columns)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_byte_order_mark_is_no_text_of_any_encoding_and_no_other_encoding_is_read_past_it(encoding, kind, tmp_path):
    path = tmp_path / f"d.{kind}"
    rows = "text,n\nführen,1\n" if kind == "csv" else '{"text": "führen", "n": 1}\n'
    path.write_bytes(f"\ufeff{rows}".encode(encoding))
    assert load_data(path, encoding=encoding)[:] == {"text": ["führen"], "n": [1]}
    for other in ("cp1252", "latin-1", "utf-16-be" if encoding == "utf-16-le" else "utf-16-le"):
        with pytest.raises(ValueError, match=f"it looks like {encoding[:6].rstrip('-')}"):
            load_data(path, encoding=other)


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, functools.partial(pa.compress, codec="zstd")]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow"])
def test_a_packed_file_that_is_cut_or_changed_is_refused_in_a_sentence(pack, kind, tmp_path):
    text = "text\n" + "".join(f"{k * 7919 % 10007}\n" for k in range(3000))
    content = bytes(pack(text.encode()))
    suffix = {b"\x1f": "gz", b"B": "bz2", b"\xfd": "xz", b"\x28": "zst"}[content[:1]]
    path = tmp_path / f"d.{kind}.{suffix}"
    middle = len(content) // 2
    changed = content[:middle] + bytes(100) + content[middle + 100 :]
    for damaged in (
        content[:middle],
        *([changed] if suffix != "zst" else []),
    ):  # pyarrow writes zstd without a checksum
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"d.{kind}.{suffix}' cannot be read as .*is cut or damaged"):
            load_data(path)


WORDS = pa.array(["a", "b"])
KINDS = [(WORDS.dictionary_encode(), WORDS), (WORDS.cast(pa.string_view()), WORDS.cast(pa.large_string()))]


@pytest.mark.parametrize(("values", "plain"), KINDS)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_categories_and_views_inside_of_lists_of_every_kind_are_what_they_stand_for(values, plain, kind, tmp_path):
    def nested(words):
        long, fixed = pa.LargeListArray.from_arrays([0, 2], words), pa.FixedSizeListArray.from_arrays(words, 2)
        table = {"text": ["x"], "long": long, "fixed": fixed, "list": pa.ListArray.from_arrays([0, 2], words)}
        return pa.table(table | {"deep": pa.StructArray.from_arrays([long], ["in"])})

    path = tmp_path / f"d.{kind}"
    with pa.ipc.new_stream(path, nested(values).schema) as stream:
        stream.write_table(nested(values))
    if kind == "parquet":
        pq.write_table(nested(values), path)
    (piece,) = pool_pieces(path)
    (table,) = piece.read(0)
    read = cast_table(table, pool_features([piece]))
    assert read.to_pydict() == load_data(path)[:] == nested(plain).to_pydict()
    assert read.schema.field("long").type.value_type in (pa.string(), pa.large_string())


def test_maps_are_lists_of_keys_and_values(tmp_path):
    column = pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string(), pa.int64()))
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["x", "y", "z"], "map": column}), path)
    assert load_data(path)["map"][:] == [[{"key": "k", "value": 1}, {"key": "l", "value": None}], [], None]
    (piece,) = pool_pieces(path)
    assert cast_table(next(piece.read(0)), pool_features([piece]))["map"].to_pylist() == load_data(path)["map"][:]


@pytest.mark.parametrize(
    ("first", "second"), [(pa.array([Decimal("0.1234567890123456789")]), [0.5]), (["a"], [b"a"]), ([["a"]], [[b"a"]])]
)
def test_values_that_another_file_would_make_others_are_refused(first, second, student_dir, tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    for a, b in ((first, second), (second, first)):
        pq.write_table(pa.table({"text": ["a film"], "it": a}), folder / "1.parquet")
        pq.write_table(pa.table({"text": ["a film"], "it": b}), folder / "2.parquet")
        with pytest.raises(ValueError, match="2.parquet' cannot be read as parquet: column 'it' holds .*, expected"):
            load_data(folder)
        if b == [0.5]:
            continue  # a decimal number that it is exactly
        with pytest.raises(RuntimeError, match="column 'it' of row 1 holds .* where .* was expected"):
            label_pool(folder, StudentLabeler(student_dir), tmp_path / f"of {a}", show_progress=False)
