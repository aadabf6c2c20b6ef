"""report.html: opens from disk, loads nothing, shows texts as text."""

from html.parser import HTMLParser

import pytest
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec, annotate, write_report
from hf_llambert.report.page import missing_parts

HOSTILE = "</style></td><script>alert(1)</script><img src=x onerror=alert(2)> \" ' {{ 7 * 7 }} {% raw %} \u2028 &amp; "
TASK = TaskSpec("<b>task</b>", ("negative", "positive"), "{text} </pre><script>1</script>", chat=False)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page_of(tmp_path, texts, gold):
    run = tmp_path / "run"
    data = Dataset.from_dict({"text": texts, "label": gold} if gold else {"text": texts})
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), run / "ledger")
    annotate(data, labeler, run / "annotated", gold_column="label" if gold else None)
    report = write_report(run)
    return Page((run / "report.html").read_text(encoding="utf-8")), report


@pytest.fixture
def page(tmp_path):
    texts = [f"{'xy'[i % 2]}{'x' * i} {HOSTILE}" for i in range(12)]
    return page_of(tmp_path, texts, [i % 2 for i in range(12)])[0]


def test_page_runs_no_script_and_loads_nothing(page):
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_hostile_texts_are_shown_as_they_are(page):
    assert HOSTILE.strip().replace("\u2028", "‹U+2028›") in page.text
    assert "49" not in page.text.split("The worst errors")[1].split("How to make it again")[0]
    assert "<b>task</b>" in page.text


def test_every_figure_has_its_alternative_text_and_is_inside_the_page(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in images)


def test_page_reads_on_a_phone_and_for_screen_readers(page):
    assert any(a.get("name") == "viewport" for tag, a in page.tags if tag == "meta")
    assert next(a for tag, a in page.tags if tag == "html")["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == 1
    assert all(below - above <= 1 for above, below in zip(headings, headings[1:], strict=False))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_without_gold_the_page_says_what_is_missing(tmp_path):
    page, report = page_of(tmp_path, [f"text {i}" for i in range(4)], None)
    assert "Nobody's labels of the annotated texts" in page.text
    assert "No student was trained" in page.text
    assert len(missing_parts(report)) == 2


def test_five_gold_labels_are_called_few(tmp_path):
    page, _ = page_of(tmp_path, [f"text {i}" for i in range(5)], [0, 1, 0, 1, 0])
    assert "Only 5 texts with people's labels" in page.text


def test_gate_of_the_run_is_shown(tmp_path):
    from hf_llambert.report.page import report_page

    _, report = page_of(tmp_path, ["a", "b"], [0, 1])
    gate = {
        "passed": False,
        "conditions": [{"name": "coverage", "wanted": "0.95", "got": "0.5", "passed": False, "why": "<i>"}],
    }
    page = Page(report_page({**report, "gate": gate}, {}, {}, TASK, "prompt"))
    assert "✗ missed" in page.text
    assert "<i>" in page.text
