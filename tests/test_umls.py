import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from trl import TrlParser

from experiment import Parts
from hf_llambert import StudentConfig, TaskSpec, read_pool
from metathesaurus import LAYOUT, Metathesaurus, extract_concepts, ontology, read_concepts, write_ontology
from umls import SEMANTIC_TYPES, TERM_TYPES, UmlsArguments, main, make_parts, read_gold

RECIPES = Path(__file__).parent.parent / "recipes"
COPY = "Copy the file from the release again"


def sty(cui, tui="T023"):
    return f"{cui}|{tui}|A1.2.3.1|Body Part, Organ, or Organ Component|AT17683839|256|\n"


def conso(cui, name, lat="ENG", tty="PT", suppress="N"):
    return (
        f"{cui}|{lat}|P|L0000001|PF|S0000001|Y|A0000001||M0000001|D000001|MSH|{tty}|D000001|{name}|0|{suppress}|256|\n"
    )


def rel(first, second, kind="CHD", suppress="N"):
    return f"{first}|A0000001|AUI|{kind}|{second}|A0000002|AUI|isa|R0000001||MSH|MSH|||{suppress}||\n"


def cui(number):
    return f"C{number:07}"


@pytest.fixture
def release():
    """The rows of a small release with all that a real one has: C1 > C2 > C3, and others."""
    return {
        "MRSTY.RRF": [
            sty("C0000001"), sty("C0000002"), sty("C0000002", "T024"), sty("C0000003"), sty("C0000003", "T047"),
            sty("C0000004"), sty("C0000005"), sty("C0000006", "T047"), sty("C0000007"),
        ],
        "MRREL.RRF": [
            rel("C0000001", "C0000002"), rel("C0000002", "C0000001", "PAR"), rel("C0000001", "C0000002"),
            rel("C0000002", "C0000003"), rel("C0000003", "C0000003"), rel("C0000001", "C0000004", suppress="O"),
            rel("C0000004", "C0000001", "RB"), rel("C0000001", "C0000006"), rel("C0000003", "C0000005"),
            rel("", "C0000004"), rel("C0000007", "C0000006"), "||SCUI|RO|C0000007||SCUI|CHD|R1||MSH|MSH|||N||\n",
        ],
        "MRCONSO.RRF": [
            conso("C0000001", "Brain"), conso("C0000001", "brain"), conso("C0000001", "Encephalon"),
            conso("C0000001", "Gehirn", lat="GER"), conso("C0000001", "BR", tty="AB"), conso("C0000001", "Old", suppress="O"),
            conso("C0000001", "Edited", suppress="E"), conso("C0000001", "Unwished", suppress="Y"),
            conso("C0000001", "ENG", lat="FRE"),
            conso("C0000002", "Lobe &#x7c; part"), conso("C0000002", "S&amp;T  gyrus"),
            conso("C0000003", "Broca’s area"), conso("C0000004", "Liver"), conso("C0000005", ""),
            conso("C0000006", "Stroke"), conso("C0000007", "Toe"), conso("C0000003", "ACR1", tty="ACR"),
        ],
    }  # fmt: skip


def save(rows, folder, compressed=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        content = "".join(lines).encode()
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def layout(rows):
    return [
        f"{name}|What it is|{LAYOUT[name]}|{LAYOUT[name].count(',') + 1}|{len(lines)}|1|\n"
        for name, lines in rows.items()
    ]


def read(meta):
    return read_concepts(Metathesaurus(meta), SEMANTIC_TYPES, TERM_TYPES)


EXPECTED = [
    {"cui": "C0000001", "text": "brain; encephalon", "semantic_types": ["T023"]},
    {"cui": "C0000002", "text": "lobe | part; s&t gyrus", "semantic_types": ["T023", "T024"]},
    {"cui": "C0000003", "text": "broca’s area", "semantic_types": ["T023"]},
]
EDGES = [{"parent": "C0000001", "child": "C0000002"}, {"parent": "C0000002", "child": "C0000003"}]


@pytest.mark.parametrize("compressed", [(), tuple(LAYOUT), ("MRREL.RRF", "MRFILES.RRF")])
@pytest.mark.parametrize("with_layout", [False, True])
def test_concepts_are_those_of_the_types_in_child_relations_with_their_english_names(
    release, tmp_path, compressed, with_layout
):
    if with_layout:
        release["MRFILES.RRF"] = [*layout(release), "CHANGE/DELETEDCUI.RRF|Deleted|PCUI,PSTR|2|0|0|\n"]
    concepts, children, counts = read(save(release, tmp_path, compressed))
    assert concepts.to_pylist() == EXPECTED
    assert children.to_pylist() == EDGES
    assert counts == {"of_these_types": 6, "in_child_relations": 4, "named": 3, "child_relations": 2}


def test_windows_line_ends_are_read(release, tmp_path):
    lines = {name: [line.replace("\n", "\r\n") for line in rows] for name, rows in release.items()}
    assert read(save(lines, tmp_path))[0].to_pylist() == EXPECTED


def test_what_is_kept_does_not_grow_with_concepts_of_other_types(release, tmp_path):
    peaks = []
    for number in (15_000, 45_000):
        others = [cui(1000 + i) for i in range(number)]
        more = {
            "MRSTY.RRF": [sty(one, "T047") for one in others],
            "MRREL.RRF": [rel(one, "C0000001") for one in others],
            "MRCONSO.RRF": [conso(one, f"a disease of long name, {one}") for one in others],
        }
        meta = Metathesaurus(save({name: release[name] + more[name] for name in release}, tmp_path / str(number)))
        tracemalloc.start()
        concepts, children, counts = read_concepts(meta, SEMANTIC_TYPES, TERM_TYPES)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert meta.num_rows["MRCONSO.RRF"] == number + len(release["MRCONSO.RRF"])
        assert (counts["of_these_types"], counts["in_child_relations"], counts["named"]) == (6, 4, 3)
        assert (len(concepts), len(children)) == (3, 2)
    assert peaks[1] < peaks[0] + 200_000  # a hundred bytes for each of the others would be three million


def spoil(release, name, number, change):
    release[name][number - 1] = change(release[name][number - 1])


@pytest.mark.parametrize(
    ("name", "number", "change", "why"),
    [
        ("MRSTY.RRF", 2, lambda line: line.replace("|256|", "|"), r"MRSTY.RRF', line 2: expected 6 columns \(CUI,TUI,"),
        ("MRREL.RRF", 5, lambda line: line[:-1] + "|\n", r"line 5: expected 16 columns .*, got 17 '|' in 'C0000003"),
        ("MRCONSO.RRF", 4, lambda line: line[:-2] + "\n", r"line 4: expected 18 columns .* got 17"),
        ("MRCONSO.RRF", 3, lambda line: "\n", "line 3: expected 18 columns .* got 0"),
        ("MRCONSO.RRF", 17, lambda line: line[:40], "line 17, the last: expected an end of line, got 'C0000003.*cut short"),
        ("MRREL.RRF", 12, lambda line: line[:-1], "line 12, the last: expected an end of line"),
    ],
)  # fmt: skip
def test_row_of_another_shape_is_refused_with_its_line(release, tmp_path, name, number, change, why):
    spoil(release, name, number, change)
    with pytest.raises(ValueError, match=why) as refused:
        read(save(release, tmp_path))
    assert COPY in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_latin_1_bytes_are_refused_with_their_line(release, tmp_path):
    save(release, tmp_path)
    spoil(release, "MRCONSO.RRF", 4, lambda line: line.replace("Gehirn", "Gehör"))
    (tmp_path / "MRCONSO.RRF").write_bytes("".join(release["MRCONSO.RRF"][:4]).encode("latin-1"))
    with pytest.raises(ValueError, match=f"MRCONSO.RRF', line 4: expected UTF-8, got the byte 0xf6. {COPY}"):
        read(tmp_path)


@pytest.mark.parametrize("name", LAYOUT)
def test_empty_file_is_refused(release, tmp_path, name):
    release[name] = []
    with pytest.raises(ValueError, match=f"{name}': expected rows of CUI.*, got an empty file"):
        read(save(release, tmp_path))


@pytest.mark.parametrize("spoilt", [lambda content: content[:-20], lambda content: b"PK" + content])
def test_broken_gzip_is_refused(release, tmp_path, spoilt):
    path = save(release, tmp_path, ["MRREL.RRF"]) / "MRREL.RRF.gz"
    path.write_bytes(spoilt(path.read_bytes()))
    with pytest.raises(ValueError, match="MRREL.RRF.gz', after line [0-9]+: expected a whole gzip file, got: .*again"):
        read(tmp_path)


@pytest.mark.parametrize("name", LAYOUT)
def test_missing_file_is_named(release, tmp_path, name):
    del release[name]
    with pytest.raises(
        FileNotFoundError, match=f"Expected {name} or {name}.gz in '.*', got neither. Pass the META folder"
    ):
        Metathesaurus(save(release, tmp_path))


def test_folder_above_and_files_in_pieces_are_explained(release, tmp_path):
    save(release, tmp_path / "2024AB" / "META")
    with pytest.raises(FileNotFoundError, match="Pass '.*2024AB/META'"):
        Metathesaurus(tmp_path / "2024AB")
    meta = tmp_path / "2024AB" / "META"
    (meta / "MRREL.RRF").rename(meta / "MRREL.RRF.aa.gz")
    with pytest.raises(FileNotFoundError, match=r"in pieces: join them, as with cat MRREL.RRF.\*.gz > MRREL.RRF.gz"):
        Metathesaurus(meta)


def test_other_columns_by_the_releases_own_account_are_refused(release, tmp_path):
    rows = layout(release)
    rows[1] = rows[1].replace("CUI1,AUI1,STYPE1", "CUI1,STYPE1,AUI1")
    with pytest.raises(
        ValueError, match="MRFILES.RRF' says that MRREL.RRF has the columns CUI1,STYPE1.*; expected CUI1,AUI1"
    ):
        Metathesaurus(save({**release, "MRFILES.RRF": rows}, tmp_path))


def test_fewer_rows_than_the_release_says_are_refused(release, tmp_path):
    rows = layout(release)
    release["MRREL.RRF"].pop()
    with pytest.raises(ValueError, match="MRREL.RRF': expected 12 rows, as MRFILES.RRF says, got 11"):
        read(save({**release, "MRFILES.RRF": rows}, tmp_path))


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("MRSTY.RRF", "|T02", "|T04", "MRSTY.RRF': expected a concept of a semantic type among T017.*, got none in 9 rows"),
        ("MRREL.RRF", "|CHD|", "|RO|", "MRREL.RRF': expected a child relation .*, got none in 12 rows"),
        ("MRCONSO.RRF", "|ENG|", "|SPA|", "MRCONSO.RRF': expected an English name .*, got none in 17 rows"),
    ],
)  # fmt: skip
def test_release_without_what_is_needed_is_refused(release, tmp_path, name, old, new, why):
    release[name] = [line.replace(old, new) for line in release[name]]
    with pytest.raises(ValueError, match=why):
        read(save(release, tmp_path))


def extract(meta, folder, types=SEMANTIC_TYPES):
    return extract_concepts(meta, folder, types, TERM_TYPES)


def test_concepts_are_kept_and_a_rerun_reads_nothing(release, tmp_path, monkeypatch):
    meta, folder = save(release, tmp_path / "META"), tmp_path / "run" / "concepts"
    note = extract(meta, folder)
    assert pq.read_table(folder / "concepts.parquet").to_pylist() == EXPECTED
    assert note["rows"] == {name: len(lines) for name, lines in release.items()}
    monkeypatch.setattr("metathesaurus.read_concepts", None)  # would raise if it were called
    assert extract(meta, folder) == note
    with pytest.raises(FileExistsError, match=r"\(semantic_types differ\). Choose another run, or remove"):
        extract(meta, folder, ["T023"])
    os.utime(meta / "MRREL.RRF", (0, 0))
    with pytest.raises(FileExistsError, match=r"was read from another release .* \(files differ\)"):
        extract(meta, folder)


def test_killed_extraction_leaves_nothing_half_written(release, tmp_path):
    meta, folder = save(release, tmp_path / "META"), tmp_path / "run" / "concepts"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(RECIPES)!r})
import metathesaurus
write = metathesaurus.pq.write_table
def write_one(table, path):
    if os.path.basename(path) == "children.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    write(table, path)
metathesaurus.pq.write_table = write_one
metathesaurus.extract_concepts({str(meta)!r}, {str(folder)!r}, {SEMANTIC_TYPES}, {TERM_TYPES})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not folder.exists()
    extract(meta, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["concepts"]
    assert sorted(path.name for path in folder.iterdir()) == ["children.parquet", "concepts.parquet", "release.json"]


@pytest.fixture
def task():
    return TaskSpec(name="neuro", labels=("no", "yes"), instruction="Names: {text}", chat=False)


@pytest.fixture
def make(student_dir, teacher_dir, tmp_path, task):
    task.to_yaml(tmp_path / "task.yaml")

    def arguments(gold=None, name="gold.json", **changes):
        path = tmp_path / name
        if gold is not None:
            path.write_text(gold if isinstance(gold, str) else json.dumps(gold))
        given = {
            "meta_dir": str(tmp_path / "META"), "gold": str(path), "run": str(tmp_path / "run"), "student": student_dir,
            "teacher": teacher_dir, "task": str(tmp_path / "task.yaml"), "num_held_out": 4, "max_length": 32,
        }  # fmt: skip
        return UmlsArguments(**{**given, **changes})

    return arguments


GOLD = {"C0000001": 1, "C0000002": 0}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"C0000001": True, "C0000002": False}, "g.json"),
        ({"C0000001": "yes", "C0000002": "No ", "C0000003": None}, "g.json"),
        ({"C0000001": 1, "C0000002": "0", "C0000003": -1}, "g.json"),
        ([{"cui": "C0000001", "label": "yes"}, {"cui": "C0000002", "label": "no"}], "g.json"),
        ('{"cui": "C0000001", "label": true}\n{"cui": "C0000002", "label": false}\n', "g.jsonl"),
        ('{"cui": "C0000001", "label": 1}\n{"cui": "C0000002", "label": 0}\n', "g.json"),
        ("cui,label\nC0000001,yes\nC0000002,no\nC0000001,yes\n", "g.csv"),
        ("cui,label\nC0000001,True\nC0000002,False\n", "g.csv"),
        ("cui,label,by\nC0000001,1,me\nC0000002,0,me\nC0000003,,me\n", "g.csv"),
    ],
)
def test_gold_labels_are_read_however_they_are_written(make, task, content, name):
    assert read_gold(make(content, name), task) == GOLD


def test_gold_labels_of_other_names_are_mapped(make, task):
    content = "cui,kind\nC0000001,nerve\nC0000002,bone\n"
    arguments = make(content, "g.csv", label_column="kind", label_map={"nerve": "yes", "bone": "no"})
    assert read_gold(arguments, task) == GOLD


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        ({"C0000001": "perhaps", "C0000002": "no"}, "g.json", "g.json': Column 'label' holds 'perhaps', which is none of"),
        ('{"C0000001": true, "C0000002": true, "C0000001": false}', "g.json", "one label for each CUI, got 'yes' and 'no'"),
        ("cui,label\nC0000001,1\nC0000001,0\n", "g.csv", "got 'yes' and 'no' for C0000001"),
        ({"C0000001": True}, "g.json", r"each of the 2 labels \['no', 'yes'\], got 1 rows. Label more"),
        ("cui,answer\nC0000001,1\n", "g.csv", "Column 'label' not found"),
        ("concept,label\nC0000001,1\n", "g.csv", "g.csv': expected the columns cui and label, got"),
    ],
)  # fmt: skip
def test_gold_labels_that_cannot_be_are_refused(make, task, content, name, why):
    with pytest.raises(ValueError, match=why):
        read_gold(make(content, name), task)


@pytest.mark.parametrize("labels", [("No", "Yes"), ("Yes", "No"), ("0", "1"), ("1", "0")])
def test_truth_is_the_yes_or_the_one_of_a_task_however_these_are_spelled_and_ordered(make, labels):
    task = TaskSpec(name="neuro", labels=labels, instruction="Names: {text}", chat=False)
    for gold in ({"C0000001": True, "C0000002": False}, {"C0000001": "TRUE", "C0000002": "false"}):
        found = read_gold(make(gold, "g.json"), task)
        assert [labels[i] for i in found.values()] == [labels[i] for i in sorted(range(2), key=lambda i: labels[i])][
            ::-1
        ]


def test_truth_is_none_of_other_labels_whatever_their_order(make):
    task = TaskSpec(name="neuro", labels=("neural", "other"), instruction="Names: {text}", chat=False)
    gold = {"C0000001": True, "C0000002": False}
    with pytest.raises(ValueError, match="'false', 'true', which are none of the labels.*--label_map false=LABEL"):
        read_gold(make(gold, "g.json"), task)
    said = make(gold, "g.json", label_map={"true": "neural", "false": "other"})
    assert read_gold(said, task) == {"C0000001": 0, "C0000002": 1}


def test_what_people_say_that_truth_is_goes_before_what_is_usual(make, task):
    gold = {"C0000001": "True", "C0000002": "False"}
    said = make(gold, "g.json", label_map={"true": "no", "false": "yes"})
    assert read_gold(said, task) == {"C0000001": 0, "C0000002": 1}


def test_gold_file_with_a_mark_and_with_nan_is_read_and_another_encoding_refused(make, task, tmp_path):
    text = '{"C0000001": true, "C0000002": false, "C0000003": NaN}'
    arguments = make("", "g.json")
    (tmp_path / "g.json").write_bytes(text.encode("utf-8-sig"))
    assert read_gold(arguments, task) == GOLD
    (tmp_path / "g.json").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="g.json' is no JSON in UTF-8"):
        read_gold(arguments, task)
    arguments = make("", "g.csv")
    (tmp_path / "g.csv").write_bytes("cui,label\nC0000001,yes\n".encode("utf-16"))
    with pytest.raises(ValueError, match="looks like utf-16. Write it as UTF-8 with commas"):
        read_gold(arguments, task)


@pytest.mark.parametrize("value", [["yes"], {"label": "yes"}, []])
def test_gold_label_that_is_no_single_value_is_refused_with_its_concept(make, task, value):
    with pytest.raises(ValueError, match="expected the label of C0000001 to be a word"):
        read_gold(make({"C0000001": value, "C0000002": "no"}, "g.json"), task)


def test_missing_gold_file_is_named(make, task):
    with pytest.raises(FileNotFoundError, match="gold.json' is no file"):
        read_gold(make(), task)


def concepts_of(texts):
    return Dataset.from_dict(
        {"cui": [cui(i) for i in range(len(texts))], "text": texts, "semantic_types": [["T023"]] * len(texts)}
    )


def test_parts_are_drawn_by_the_seed_and_share_no_text(make, task, caplog):
    concepts = concepts_of([f"organ {i % 36}" for i in range(40)])  # four have the names of others
    gold = {cui(i): i % 2 for i in range(12)} | {"C9999998": 1, "C9999999": 0}
    parts = make_parts(concepts, gold, make(num_extra=20), task)
    assert "2 of 14 gold CUIs are no concepts here and are left out (C9999998, C9999999)" in caplog.text
    assert isinstance(parts, Parts)
    assert [len(rows) for rows in (parts.held_out, parts.train, parts.extra, parts.pool)] == [4, 8, 20, 40]
    texts = [*parts.held_out["text"], *parts.train["text"], *parts.extra["text"]]
    assert len(set(texts)) == len(texts)
    for rows in (parts.held_out, parts.train):
        assert [gold[one] for one in rows["cui"]] == rows["label"][:]
    again = make_parts(concepts, gold, make(num_extra=10), task)
    assert again.held_out["cui"][:] == parts.held_out["cui"][:]
    assert again.extra["cui"][:] == parts.extra["cui"][:10]
    other = make_parts(concepts, gold, make(split_seed=7, num_annotated=3, num_labelled=5), task)
    assert other.held_out["cui"][:] != parts.held_out["cui"][:]
    assert (len(other.train), other.extra, len(other.pool)) == (3, None, 5)
    assert make_parts(concepts, gold, make(num_labelled=0), task).pool is None


@pytest.mark.parametrize(
    ("number", "changes", "why"),
    [
        (1, {}, "got 1 rows that are concepts of"),
        (8, {"num_held_out": 8}, "num_held_out must be from 1 to 7, got 8"),
        (8, {"num_held_out": None}, "Something must be held out"),
        (8, {"num_extra": 40}, "num_extra asks for 40 concepts; 12 have no gold label"),
    ],
)
def test_too_few_rows_are_refused(make, task, number, changes, why):
    gold = {cui(i): i % 2 for i in range(number)} | {"C9999999": 0}
    with pytest.raises(ValueError, match=why):
        make_parts(concepts_of([f"organ {i}" for i in range(20)]), gold, make(**changes), task)


def labelled(texts, labels):
    rows = concepts_of(texts)
    return rows.add_column("student_label", labels).add_column(
        "student_confidence", [0.5 + i / 16 for i in range(len(labels))]
    )


@pytest.mark.parametrize("positive", [True, False])
def test_graph_is_the_same_when_it_is_read_back(tmp_path, positive):
    texts = ["brain; encephalon", 'broca\x01’s <area> & "more"', "𝛼 \ufffe cell", "liver", "lone nerve"]
    rows = labelled(texts, [1, 1, 1, 0, 1] if positive else [0] * 5)
    edges = [(0, 1), (1, 2), (0, 3), (3, 4), (2, 0)]
    table = pa.table({"parent": [cui(a) for a, _ in edges], "child": [cui(b) for _, b in edges]})
    pq.write_table(table, tmp_path / "children.parquet")
    graph = ontology(rows, 1, tmp_path)
    counts = write_ontology(graph, tmp_path)
    expected = [(cui(a), cui(b)) for a, b in ((0, 1), (1, 2), (2, 0))] if positive else []
    assert sorted(graph.edges) == sorted(expected)
    assert counts == dict(
        zip(
            ("concepts", "child_relations", "connected_parts", "roots"),
            (4, 3, 2, 1) if positive else (0, 0, 0, 0),
            strict=True,
        )
    )
    if positive:
        assert graph.nodes[cui(0)] == {
            "cui": cui(0), "name": "brain", "label": "brain", "names": "brain; encephalon", "semantic_types": "T023",
            "confidence": 0.5,
        }  # fmt: skip
        assert graph.nodes[cui(1)]["name"] == 'broca’s <area> & "more"'
        assert graph.nodes[cui(2)]["name"] == "𝛼  cell"
    for found in (nx.read_graphml(tmp_path / "ontology.graphml"), nx.read_gexf(tmp_path / "ontology.gexf")):
        assert found.is_directed()
        assert dict(found.nodes(data=True)) == dict(graph.nodes(data=True))
        assert sorted(found.edges) == sorted(graph.edges)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "children.parquet",
        "ontology.gexf",
        "ontology.graphml",
    ]


def test_a_release_becomes_students_labels_and_a_graph(make, tmp_path, capsys, monkeypatch):
    parts = ["nerve", "cortex", "ganglion", "nucleus"]
    names = {cui(i): (f"{parts[i % 4]} {i}" if i % 2 else f"bone and muscle {i}") for i in range(60)}
    rows = {
        "MRSTY.RRF": [sty(one) for one in names],
        "MRREL.RRF": [rel(cui(i // 2), cui(i)) for i in range(1, 60)],
        "MRCONSO.RRF": [conso(one, name.title()) for one, name in names.items()],
    }
    save(rows | {"MRFILES.RRF": layout(rows)}, tmp_path / "META", compressed=["MRREL.RRF"])
    gold = {cui(i): i % 2 == 1 for i in range(20)} | {"C9999999": True}
    arguments = make(
        gold, columns=["combined", "gold", "extra"], num_extra=16, num_held_out=8, num_compared=8, published="umls"
    )
    training = StudentConfig(
        str(tmp_path / "checkpoints"), use_cpu=True, num_train_epochs=1, learning_rate=5e-3, disable_tqdm=True, seed=1
    )
    report = main(arguments, training)
    run = tmp_path / "run"
    (cells,) = report["table"]["students"].values()
    assert {name: cell["n_train"] for name, cell in cells.items()} == {"combined": 28, "gold": 12, "extra": 16}
    labels = read_pool(run / "labels")
    assert labels["cui"][:] == list(names)
    shown = capsys.readouterr().out
    assert (
        "60 concepts of these semantic types, 60 of them in 59 child relations with one another, 60 of these" in shown
    )
    chosen = {one for one, label in zip(labels["cui"], labels["student_label"], strict=True) if label == 1}
    graph = nx.read_graphml(run / "ontology.graphml")
    assert set(graph) == chosen
    assert report["ontology"]["concepts"] == len(chosen)
    assert f"ontology.graphml and .gexf: {len(chosen)} concepts, " in shown.replace("\n", "")
    # Again: nothing is read, asked or trained, and the graph is the same.
    monkeypatch.setattr("metathesaurus.read_concepts", None)
    monkeypatch.setattr("hf_llambert.training.train.StudentTrainer", None)
    assert main(arguments, training)["ontology"] == report["ontology"]
    shutil.rmtree(run / "concepts")
    with pytest.raises(ValueError, match="graph_label must be a label of task 'neuro'"):
        main(make(graph_label="neuro"), training)


def parse(*arguments):
    parser = TrlParser((UmlsArguments, StudentConfig))
    parser.set_defaults(output_dir=None)
    return parser.parse_args_and_config([str(a) for a in arguments])


GIVEN = ("--config", RECIPES / "umls.yaml", "--bf16", "false", "--meta_dir", "META", "--gold", "gold.json")


def test_shipped_configuration_is_the_papers():
    arguments, training = parse(*GIVEN)
    assert (arguments.num_extra, arguments.num_held_out, arguments.num_seeds) == (10_000, 1_000, 5)
    assert (training.num_train_epochs, training.per_device_train_batch_size, training.learning_rate) == (10, 16, 5e-6)
    assert arguments.semantic_types == SEMANTIC_TYPES


@pytest.mark.parametrize("name", ["data_split", "publish_as", "text_column", "extra_split"])
def test_what_the_recipe_does_not_take_is_refused(name):
    with pytest.raises(ValueError, match=name):
        parse(*GIVEN, f"--{name}", "x")


def test_semantic_types_are_tuis(make):
    with pytest.raises(ValueError, match=r"semantic_types are TUIs such as T023, got \['anatomy'\]"):
        make(semantic_types=["T023", "anatomy"])
