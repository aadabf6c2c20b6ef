"""
A release of the UMLS Metathesaurus: concepts of some semantic types, their English names and child relations; and a
sub-ontology as a graph.

Columns and values are those of the UMLS Reference Manual, chapter 3 (https://www.ncbi.nlm.nih.gov/books/NBK9685), and of
https://www.nlm.nih.gov/research/umls/knowledge_sources/metathesaurus/release/abbreviations.html.
"""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import rich.progress
from datasets import Dataset
from rich.console import Console

from hf_llambert import whole_folder

LAYOUT = {
    "MRSTY.RRF": "CUI,TUI,STN,STY,ATUI,CVF",
    "MRREL.RRF": "CUI1,AUI1,STYPE1,REL,CUI2,AUI2,STYPE2,RELA,RUI,SRUI,SAB,SL,RG,DIR,SUPPRESS,CVF",
    "MRCONSO.RRF": "CUI,LAT,TS,LUI,STT,SUI,ISPREF,AUI,SAUI,SCUI,SDUI,SAB,TTY,CODE,STR,SRL,SUPPRESS,CVF",
}
"""The files that are read, in that order, and their columns. Each row ends with a `|`; one in a name is written `&#x7c;`."""
_FILES, _FILES_COLUMNS = "MRFILES.RRF", "FIL,DES,FMT,CLS,RWS,BTS"

CONCEPTS, CHILDREN, NOTE = "concepts.parquet", "children.parquet", "release.json"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Metathesaurus:
    """
    The folder of a release, its files plain or compressed with gzip, read row by row.

    Args:
        folder (`str` or `Path`): The folder with MRSTY.RRF, MRREL.RRF and MRCONSO.RRF, `META` in a release.

    Raises:
        FileNotFoundError: One of them is not there.
        ValueError: The release's own MRFILES.RRF says that a file has other columns.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files = {name: self._find(name) for name in LAYOUT}
        self.num_rows: dict[str, int] = {}
        """How many rows each file had, once it is read."""
        self._expected: dict[str, int] = {}
        self._check_layout()

    def _find(self, name: str) -> Path:
        for path in (self.folder / name, self.folder / f"{name}.gz"):
            if path.is_file():
                return path
        if (self.folder / "META" / name).is_file():
            hint = f"Pass '{self.folder / 'META'}'."
        elif any(self.folder.glob(f"{name}.*.gz")):
            hint = f"It is there in pieces: join them, as with cat {name}.*.gz > {name}.gz."
        else:
            hint = "Pass the META folder of a UMLS release."
        raise FileNotFoundError(f"Expected {name} or {name}.gz in '{self.folder}', got neither. {hint}")

    def _check_layout(self) -> None:
        try:
            self.files[_FILES] = self._find(_FILES)
        except FileNotFoundError:  # a subset may lack it
            return
        for name, _, columns, _, count, *_ in self._read(_FILES, _FILES_COLUMNS):
            if name not in LAYOUT:
                continue
            if columns != LAYOUT[name]:
                raise ValueError(
                    f"'{self.files[_FILES]}' says that {name} has the columns {columns}; expected {LAYOUT[name]}. Use a "
                    f"release of the Metathesaurus in Rich Release Format."
                )
            self._expected[name] = self._expected.get(name, 0) + int(count)

    def rows(self, name: str, containing: str = "") -> Iterator[list[str]]:
        """
        The values of each row of a file, those without `containing` left out (a quick test before the row is split).

        Raises:
            ValueError: The file is empty, cut short, not UTF-8, or has a row of too few or too many columns.
        """
        yield from self._read(name, LAYOUT[name], containing)
        expected = self._expected.get(name, self.num_rows[name])
        if self.num_rows[name] != expected:
            raise ValueError(
                f"'{self.files[name]}': expected {expected:,} rows, as {_FILES} says, got {self.num_rows[name]:,}. "
                f"{_COPY_AGAIN} (where you left rows out yourself, remove {_FILES})."
            )

    def _read(self, name: str, columns: str, containing: str = "") -> Iterator[list[str]]:
        path, wanted, number, line = self.files[name], columns.count(",") + 1, 0, b""
        try:
            with _reading(path) as file:
                for number, line in enumerate(file, 1):
                    if line.count(b"|") != wanted or not line.endswith((b"|\n", b"|\r\n")):
                        raise ValueError(_wrong_row(path, number, columns, line))
                    row = line.decode()
                    if containing in row:
                        yield row.split("|")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"'{path}', line {number}: expected UTF-8, got the byte "
                f"0x{error.object[error.start]:02x}. {_COPY_AGAIN}: it is released in UTF-8."
            ) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"'{path}', after line {number}: expected a whole gzip file, got: {error}. {_COPY_AGAIN}."
            ) from error
        if not number:
            raise ValueError(f"'{path}': expected rows of {columns}, got an empty file. {_COPY_AGAIN}.")
        self.num_rows[name] = number

    def stamp(self) -> dict[str, list[int]]:
        """Size and time of each file, to know the release again by."""
        found = {path.name: path.stat() for path in self.files.values()}
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def read_concepts(
    release: Metathesaurus, semantic_types: Collection[str], dropped_term_types: Collection[str]
) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """
    The concepts of some semantic types that take part in a child relation with one another, and these relations.

    Memory holds what concerns concepts of these types only, however many others the release has.

    Args:
        release (`Metathesaurus`): The release.
        semantic_types (`Collection[str]`): TUIs, as `T023`.
        dropped_term_types (`Collection[str]`): TTYs whose names are left out, as `AB`.

    Returns:
        A table of `cui`, `text` (the names) and `semantic_types`, one of `parent` and `child`, and the counts.
    """
    types: dict[str, list[str]] = {}
    for cui, tui, *_ in release.rows("MRSTY.RRF"):
        if tui in semantic_types:
            types.setdefault(cui, []).append(tui)
    _refuse_nothing(types, release, "MRSTY.RRF", f"a concept of a semantic type among {', '.join(semantic_types)}")

    # REL is the "relationship of second concept or atom to first concept or atom" (NBK9685, MRREL.RRF): in a row with
    # CHD, CUI2 is a child of CUI1. The row with PAR says the same the other way round.
    edges: dict[tuple[str, str], None] = {}
    for row in release.rows("MRREL.RRF", containing="|CHD|"):
        parent, rel, child, suppress = row[0], row[3], row[4], row[14]
        if rel == "CHD" and suppress == "N" and parent != child and parent in types and child in types:
            edges[parent, child] = None
    _refuse_nothing(edges, release, "MRREL.RRF", "a child relation (REL CHD, SUPPRESS N) between two such concepts")

    linked = dict.fromkeys(cui for edge in edges for cui in edge)
    names: dict[str, dict[str, None]] = {}
    for row in release.rows("MRCONSO.RRF", containing="|ENG|"):
        cui, language, term_type, name, suppress = row[0], row[1], row[12], row[14], row[16]
        if language == "ENG" and suppress == "N" and term_type not in dropped_term_types and cui in linked:
            # Rows are sorted: the preferred name of a concept comes first, and so it does here.
            name = " ".join(html.unescape(name).lower().split())
            if name:
                names.setdefault(cui, {})[name] = None
    _refuse_nothing(names, release, "MRCONSO.RRF", "an English name (LAT ENG, SUPPRESS N) of such a concept")

    kept = [cui for cui in types if cui in names]
    children = [edge for edge in edges if edge[0] in names and edge[1] in names]
    concepts = pa.table(
        {
            "cui": kept,
            "text": ["; ".join(names[cui]) for cui in kept],
            "semantic_types": [types[cui] for cui in kept],
        }
    )
    relations = pa.table(
        {"parent": [edge[0] for edge in children], "child": [edge[1] for edge in children]},
        schema=pa.schema([("parent", pa.string()), ("child", pa.string())]),
    )
    counts = {"of_these_types": len(types), "in_child_relations": len(linked), "named": len(kept)}
    return concepts, relations, counts | {"child_relations": len(children)}


def _refuse_nothing(found: Collection, release: Metathesaurus, name: str, expected: str) -> None:
    if not found:
        raise ValueError(
            f"'{release.files[name]}': expected {expected}, got none in {release.num_rows[name]:,} rows. Use a release (or a "
            f"MetamorphoSys subset) that has them."
        )


def extract_concepts(
    meta_dir: str | Path, folder: str | Path, semantic_types: Sequence[str], dropped_term_types: Sequence[str]
) -> dict:
    """
    Read a release into `folder`, whole or not at all, or find it read: [`CONCEPTS`], [`CHILDREN`] and a note.

    Returns:
        `dict`: The note: `release` (the files and what was asked of them), `rows` of each file, and `counts`.

    Raises:
        FileExistsError: `folder` holds another release, or the same by other types.
    """
    folder, release = Path(folder), Metathesaurus(meta_dir)
    asked = {"semantic_types": list(semantic_types), "dropped_term_types": list(dropped_term_types)}
    asked = {"files": release.stamp(), **asked}
    if (folder / NOTE).is_file():
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        changed = [name for name in asked if asked[name] != note["release"][name]]
        if changed:
            raise FileExistsError(
                f"'{folder}' was read from another release or by other arguments ({', '.join(changed)} differ). Choose "
                f"another run, or remove '{folder}' to read again."
            )
        return note
    with whole_folder(folder) as part:
        concepts, children, counts = read_concepts(release, semantic_types, dropped_term_types)
        pq.write_table(concepts, part / CONCEPTS)
        pq.write_table(children, part / CHILDREN)
        note = {"release": asked, "rows": release.num_rows, "counts": counts}
        (part / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    return note


def ontology(labelled: Dataset, label: int, folder: str | Path) -> nx.DiGraph:
    """
    The concepts that the student gave a label, with their child relations, from parent to child.

    Args:
        labelled (`Dataset`): All concepts with the student's columns.
        label (`int`): The label.
        folder (`str` or `Path`): Where [`extract_concepts`] put the relations.
    """
    graph = nx.DiGraph()
    for row in labelled:
        if row["student_label"] == label:
            names = _NOT_XML.sub("", row["text"])
            first = names.split("; ")[0]
            graph.add_node(
                row["cui"], cui=row["cui"], name=first, label=first, names=names,
                semantic_types=" ".join(row["semantic_types"]), confidence=row["student_confidence"],
            )  # fmt: skip
    children = pq.read_table(Path(folder) / CHILDREN)
    edges = zip(children["parent"].to_pylist(), children["child"].to_pylist(), strict=True)
    graph.add_edges_from((parent, child) for parent, child in edges if parent in graph and child in graph)
    return graph


def write_ontology(graph: nx.DiGraph, run: str | Path) -> dict[str, int]:
    """Write a graph to `ontology.graphml` and `ontology.gexf` of the run, and count what it has."""
    for name, write in (("ontology.graphml", nx.write_graphml), ("ontology.gexf", nx.write_gexf)):
        part = Path(run) / f".{name}.part"
        write(graph, part)
        part.replace(Path(run) / name)
    return {
        "concepts": graph.number_of_nodes(),
        "child_relations": graph.number_of_edges(),
        "connected_parts": nx.number_weakly_connected_components(graph),
        "roots": sum(degree == 0 for _, degree in graph.in_degree()),
    }


_COPY_AGAIN = "Copy the file from the release again"


def _wrong_row(path: Path, number: int, columns: str, line: bytes) -> str:
    count = columns.count(",") + 1
    start = line[:60].decode(errors="replace").strip()
    if not line.endswith(b"\n"):
        return f"'{path}', line {number}, the last: expected an end of line, got '{start}', cut short. {_COPY_AGAIN}."
    return (
        f"'{path}', line {number}: expected {count} columns ({columns}), each ended by '|', got {line.count(b'|')} '|' in "
        f"'{start}'. {_COPY_AGAIN}."
    )


@contextmanager
def _reading(path: Path) -> Iterator[io.BufferedReader]:
    """A file for reading, plain or compressed, with a bar of the bytes read where that takes a while."""
    console, small = Console(stderr=True), path.stat().st_size < 1 << 20
    with rich.progress.open(
        path, "rb", buffering=0, description=f"reading {path.name}", console=console, disable=small
    ) as raw:
        file = io.BufferedReader(raw, 1 << 20)  # else the bar is told of each line
        yield io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 20) if path.suffix == ".gz" else file
