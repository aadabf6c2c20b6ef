import gzip
import logging
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset, load_dataset_builder

import hf_llambert.data
import hf_llambert.pool.sources
from hf_llambert import StudentLabeler, label_pool, load_data, read_pool
from hf_llambert.pool.sources import cast_table, pool_features, pool_pieces
from hf_llambert.reading import PLAIN, FileFormat, hub_files


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


HUB_ROWS = {
    "train.csv": "text,label,n,zip\nNA,01,1,007\nNone,NA,2,12\nnull,1.0,,1\n1.50,null,4,2\n",
    "train.jsonl": '{"text": "2024-01-02", "label": 1.50, "n": 12345678901234567890}\n{"text": "NA", "label": "a", "n": 1}\n',
    "train.tsv": "text\tlabel\ta,b\nNA\t01\tnull\n",
    "train.json": '[{"text": "2024-01-02T00:00:00", "label": null, "n": {"a": "2024-01-02"}}]',
}


def _hub(folder, monkeypatch, card=""):
    """A dataset of the Hub, whose files are here."""
    (folder / "README.md").write_text(f"---\n{card}\n---\n")
    for module in (hf_llambert.data, hf_llambert.pool.sources):
        monkeypatch.setattr(module, "load_dataset", lambda name, *a, **k: load_dataset(str(folder), *a, **k))
        monkeypatch.setattr(module, "load_dataset_builder", lambda *a: load_dataset_builder(str(folder)))
    monkeypatch.setattr(hub_files, "fetched", Path)


def _pool_rows(source, form=PLAIN):
    pieces = pool_pieces(source, form=form)
    features = pool_features(pieces)
    tables = [cast_table(table, features) for piece in pieces for table in piece.read(0)]
    return pa.concat_tables(tables).to_pydict(), features


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("name", HUB_ROWS)
def test_csv_and_json_of_the_hub_are_read_as_files_that_are_here(name, split, tmp_path, monkeypatch):
    folder = _folder(tmp_path / "hub", **{name: HUB_ROWS[name]})
    here = load_data(folder / name, label_columns=["label"])
    _hub(folder, monkeypatch)
    there = load_data("some/where", split, label_columns=["label"])
    assert there[:] == here[:] and there.features == here.features
    form = FileFormat(label_columns=["label"])
    assert _pool_rows("some/where", form)[0] == _pool_rows(folder / name, form)[0] == here[:]


def test_files_of_a_csv_of_the_hub_have_the_types_that_suit_all(tmp_path, monkeypatch):
    folder = _folder(tmp_path / "hub", **{"train-1.csv": "text,n\na,1\n", "train-2.csv": "text,n\nb,02\n"})
    _hub(folder, monkeypatch)
    rows = {"text": ["a", "b"], "n": ["1", "02"]}
    assert load_data("some/where")[:] == _pool_rows("some/where")[0] == rows


CARD = """configs:
- config_name: default
  data_files: x.csv
  sep: ';'
dataset_info:
  features:
  - {name: text, dtype: string}
  - {name: label, dtype: {class_label: {names: {'0': neg, '1': pos}}}}
  - {name: zip, dtype: string}"""


@pytest.mark.parametrize("labels", [["0", "1", ""], ["neg", "pos", ""]])
def test_what_a_card_says_of_a_csv_is_taken(labels, tmp_path, monkeypatch):
    rows = "".join(
        f"{text};{label};{k}\n" for k, (text, label) in enumerate(zip(["NA", "7", ""], labels, strict=True))
    )
    folder = _folder(tmp_path / "hub", **{"x.csv": f"text;label;zip\n{rows}"})
    _hub(folder, monkeypatch, CARD)
    wanted = {"text": ["NA", "7", None], "label": [0, 1, None], "zip": ["0", "1", "2"]}
    read, (pool, features) = load_data("some/where"), _pool_rows("some/where")
    assert read[:] == pool == wanted
    assert read.features["label"].names == features["label"].names == ["neg", "pos"]


@pytest.mark.parametrize(
    ("card", "said"), [(CARD.replace("sep: ';'", "comment: '#'"), "its card sets comment"), ("", "split is")]
)
def test_what_only_datasets_can_read_is_warned_of(card, said, tmp_path, monkeypatch, caplog):
    folder = _folder(tmp_path / "hub", **{"x.csv": "text,label,zip\na,0,b\nc,1,d\n"})
    _hub(folder, monkeypatch, card)
    assert len(load_data("some/where", "train[:1]")) == 1
    assert said in caplog.text and "may take texts such as NA for missing ones" in caplog.text


def test_a_file_of_the_hub_is_fetched_at_its_commit_under_its_own_name(tmp_path, monkeypatch):
    asked = []
    place = SimpleNamespace(repo_id="a/b", path_in_repo="data/x.csv.gz", repo_type="dataset", revision="c0ffee")
    monkeypatch.setattr(hub_files.HfFileSystem, "resolve_path", lambda self, url: asked.append(url) or place)
    monkeypatch.setattr(
        hub_files, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(tmp_path / "x.csv.gz")
    )
    url = "hf://datasets/a/b@c0ffee/data/x.csv.gz"
    assert hub_files.fetched(url) == tmp_path / "x.csv.gz"
    assert asked == [url, (("a/b", "data/x.csv.gz"), {"repo_type": "dataset", "revision": "c0ffee"})]
