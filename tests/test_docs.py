"""The pages build without a warning, lead nowhere in vain, load nothing from elsewhere, and leave nothing out."""

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

import hf_llambert
from hf_llambert.cli import app
from hf_llambert.quality.gate_figures import FIGURES

ROOT = Path(__file__).parent.parent
NEEDED = ("mkdocs", "material", "mkdocstrings_handlers.python")
NAV = (ROOT / ".github" / "mkdocs.yml").read_text(encoding="utf-8")


class Page(HTMLParser):
    """The ids, the links and what is loaded of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loaded, self.text = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id") or given.get("name"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(given["href"])
        elif given.get("src"):
            self.loaded.append(given["src"])

    def handle_data(self, data):
        self.text.append(data)


def missing_parts() -> list[str]:
    missing = []
    for name in NEEDED:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            missing.append(name)
    return missing


def build(pages: Path, site: Path) -> subprocess.CompletedProcess:
    words = ["make", "--silent", "pages", f"VENV={sys.prefix}", f"PAGES={pages}", f"SITE={site}"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")
    }  # of make -j
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if missing_parts():
        pytest.skip(f"{missing_parts()} not installed (requirements/docs.txt)")
    folder = tmp_path_factory.mktemp("pages")
    done = build(folder / "pages", folder / "site")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return (folder / "site").resolve()


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html")}


def test_every_document_is_built(site, pages):
    for source in [*ROOT.glob("docs/*.md"), ROOT / "recipes" / "README.md"]:
        path = site / source.relative_to(ROOT).with_suffix(".html")
        assert path in pages or path.with_name("index.html") in pages, source.name


def test_every_document_stands_in_the_navigation():
    standing = set(re.findall(r"^ +- [^#\n]*: (\S+\.md)$", NAV, re.MULTILINE))
    assert {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} - standing == set()
    assert {"README.md", "recipes/README.md", "benchmarks/RESULTS.md", "CHANGELOG.md"} <= standing


def test_links_within_the_pages_lead_somewhere(site, pages):
    lost = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                lost.append(f"{path.relative_to(site)} -> {link}")
    assert lost == []


def test_pages_load_nothing_from_other_servers(site, pages):
    elsewhere = re.compile(r"^(https?:)?//")
    assert [link for page in pages.values() for link in page.loaded if elsewhere.match(link)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", styles) == []


def test_every_public_name_is_described(site, pages):
    found = pages[site / "reference" / "python.html"].ids
    names = set(hf_llambert.__all__) - {"__version__"}
    assert {name for name in names if f"hf_llambert.{name}" not in found} == set()


def test_docstrings_leave_no_markup_of_theirs(site, pages):
    text = "".join(pages[site / "reference" / "python.html"].text)
    assert re.findall(r".{0,40}(?:\]\[|`|\*optional\*).{0,40}", text) == []
    assert re.search(
        r"silver *\(Dataset \| None, default: None *\) +– +Texts labelled by a teacher", " ".join(text.split())
    )


def every_command(command: typer.core.TyperGroup, path: str):
    for name, child in command.commands.items():
        yield f"{path} {name}", child
        if hasattr(child, "commands"):
            yield from every_command(child, f"{path} {name}")


def test_every_command_and_option_is_described(site, pages):
    text = "".join(pages[site / "reference" / "commands.html"].text)
    sections = dict(re.findall(r"(hf-llambert[\w -]*)¶(.*?)(?=hf-llambert[\w -]*¶|\Z)", text, re.DOTALL))
    for path, command in every_command(typer.main.get_command(app), "hf-llambert"):
        for parameter in command.params:
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
            assert parameter.name == "help" or re.search(rf"{name}\b", sections[path]), f"{path} {name}"


@pytest.mark.parametrize("name", ["flow.svg", "way.svg"])
def test_figures_of_the_way_say_what_they_show(name):
    figure = ElementTree.parse(ROOT / "docs" / name).getroot()
    spoken = {child.tag.split("}")[1]: (child.get("id"), child.text.strip()) for child in list(figure)[:2]}
    assert figure.get("aria-labelledby").split() == [spoken["title"][0], spoken["desc"][0]]
    assert figure.get("role") == "img"
    assert all(word in spoken["desc"][1] for word in ("teacher", "ledger", "silver", "gold", "student", "pool"))


def prose(text):
    """Lines that a person wraps: no code, tables, images or headings; code spans and links' targets left out."""
    fence = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fence = not fence
        elif not fence and not line.lstrip().startswith(("|", "!", "#", "<")):
            yield re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)


DOCUMENTS = [
    path for folder in (".", "docs", "recipes", "benchmarks") for path in sorted((ROOT / folder).glob("*.md"))
]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.name)
def test_lines_of_documents_are_at_most_a_hundred_columns_wide(page):
    assert [line for line in prose(page.read_text(encoding="utf-8")) if len(line) > 100] == []


def test_page_on_the_gate_has_every_figure():
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / "gate.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(FIGURES)
