import gzip
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset, load_dataset_builder

import hf_llambert.data
from hf_llambert import StudentLabeler, label_pool, load_data, read_pool
from hf_llambert.pool.sources import _read_url
from hf_llambert.reading import FileFormat


def _folder(path, **files):
    path.mkdir()
    for name, content in files.items():
        place = path / name.replace("__", ".")
        place.write_bytes(content) if isinstance(content, bytes) else place.write_text(content)
    return path


def test_all_files_of_a_folder_are_read_whatever_the_case_of_their_names(student_dir, tmp_path):
    tables = {"a__csv": "text,id\na film,1\n", "B__CSV": "text,id\nb film,2\n", "c__tsv": "text\tid\nc, film\t3\n"}
    tables["d__Tsv__GZ"] = gzip.compress(b"text\tid\nd film\t4\n")
    pool = _folder(tmp_path / "in", **tables)
    rows = [("a film", 1), ("b film", 2), ("c, film", 3), ("d film", 4)]
    dataset = load_data(pool)
    assert sorted(zip(dataset["text"][:], dataset["id"][:], strict=True)) == rows
    label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", show_progress=False)
    labelled = read_pool(tmp_path / "out")
    assert sorted(zip(labelled["text"][:], labelled["id"][:], strict=True)) == rows
    lines = _folder(
        tmp_path / "lines", a__JSONL='{"text": "a"}\n', b__ndjson='{"text": "b"}', C__Json='[{"text": "c"}]'
    )
    assert sorted(load_data(lines)["text"][:]) == ["a", "b", "c"]
    pq.write_table(pa.table({"text": ["a film"]}), tmp_path / "X.PARQUET")
    label_pool(tmp_path / "X.PARQUET", StudentLabeler(student_dir), tmp_path / "upper", show_progress=False)
    assert read_pool(tmp_path / "upper")["text"][:] == load_data(tmp_path / "X.PARQUET")["text"][:] == ["a film"]


def test_fields_of_a_tsv_stand_between_tabs(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text("text\tid\na;b\t1\n")
    assert load_data(path, delimiter="\\t")[:] == load_data(path)[:] == {"text": ["a;b"], "id": [1]}
    with pytest.raises(
        ValueError, match=r"called .tsv, .* delimiter ';' was passed. Leave delimiter \(--delimiter\) out"
    ):
        load_data(path, delimiter=";")
    path.write_text("text,id\na,1\n")
    with pytest.raises(ValueError, match="looks separated by ','. Call it .csv"):
        load_data(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("b.JSONL", r"csv \('a.csv'\) and json \('b.JSONL'\)"),
        ("b.xlsx", r"csv \('a.csv'\) and unreadable .xlsx \('b.xlsx'\)"),
        ("b.csv.zip", r"csv \('a.csv'\) and unreadable .csv.zip \('b.csv.zip'\)"),
        ("b.feather", r"csv \('a.csv'\) and unreadable .feather \('b.feather'\)"),
    ],
)
def test_data_of_two_kinds_is_refused_with_both(name, kind, tmp_path):
    folder = _folder(tmp_path / "in", **{"a.csv": "text\na\n", name: "x"})
    with pytest.raises(ValueError, match=f"'.*in' mixes files of {kind}. Keep files of one kind"):
        load_data(folder)


def test_unreadable_data_alone_is_named(tmp_path):
    folder = _folder(tmp_path / "in", **{"b.xlsx": "x"})
    with pytest.raises(ValueError, match=r"holds unreadable .xlsx \('b.xlsx'\) only. Save it as one of .jsonl"):
        load_data(folder)


def test_what_is_no_data_is_left_out_and_counted(tmp_path, caplog):
    others = {
        "README.md": "# x",
        "notes.txt": "x",
        ".hidden.csv": "text\nno\n",
        "x.png": "x",
        "a.csv.md5": "x",
        "LICENSE": "",
    }
    folder = _folder(tmp_path / "in", **others, **{"a.csv": "text\na\n"})
    with caplog.at_level(logging.INFO, "hf_llambert"):
        assert load_data(folder)["text"][:] == ["a"]
    assert [r.message for r in caplog.records if "left out" in r.message] == [
        f"5 file(s) in '{folder}' are left out: by their names they are no data."
    ]


@pytest.mark.parametrize("note", ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"])
def test_notes_of_datasets_beside_files_are_no_data(note, tmp_path):
    folder = _folder(tmp_path / "in", **{note: '{"default": {"splits": []}}', "train.jsonl": '{"text": "a"}\n'})
    assert load_data(folder)[:] == {"text": ["a"]}
    Dataset.from_dict({"text": ["saved"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "seen.csv").write_text("text\nno\n")
    assert load_data(tmp_path / "saved")[:] == {"text": ["saved"]}


@pytest.mark.parametrize("split", [None, "train"])
def test_a_csv_of_the_hub_is_read_as_one_that_is_here(split, tmp_path, monkeypatch):
    rows = "text,label,n\nNA,01,1\nNone,NA,2\nnull,1.0,\n1.50,null,4\n"
    folder = _folder(tmp_path / "hub", **{"train.csv": rows})
    monkeypatch.setattr(hf_llambert.data, "load_dataset", lambda name, *a, **k: load_dataset(str(folder), *a, **k))
    monkeypatch.setattr(hf_llambert.data, "load_dataset_builder", lambda *a: load_dataset_builder(str(folder)))
    read = load_data("some/where", split, label_columns=["label"])[:]
    assert read == load_data(folder, label_columns=["label"])[:]
    assert read["text"] == ["NA", "None", "null", "1.50"] and read["label"] == ["01", "NA", "1.0", "null"]
    (table,) = _read_url("csv", str(folder / "train.csv"), FileFormat(label_columns=["label"]), 0)
    assert table["text"].to_pylist() == read["text"] and table["label"].to_pylist() == read["label"]
