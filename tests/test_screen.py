import ast
import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import hf_llambert
from hf_llambert.cli.plan import show_plan
from hf_llambert.quality.gate import show_gate
from hf_llambert.report.report import show_report
from hf_llambert.tasks.logs import VisibleFormatter, get_logger
from hf_llambert.tasks.screen import Screen

SOURCE = Path(hf_llambert.__file__).parent
HOSTILE = "[red]x[/red] [link=http://e]y[/link] :bomb: \x1b[2J\x1b]8;;http://e\x07\u202ez\x9b"
SHOWN = "[red]x[/red] [link=http://e]y[/link] :bomb: ␛[2J␛]8;;http://e␇‹U+202E›z‹U+009B›"


@pytest.fixture
def terminal(monkeypatch):
    """
    A wide terminal with colors, wherever the console looks: `datasets` replaces `os.environ` by a copy after a
    `map` in several processes, and `rich` keeps the one that it was imported with.
    """
    variables = {"COLUMNS": "400", "LINES": "50", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Console, "_environ", variables)


def plain(shown: str) -> str:
    """Without the colors that a table may have; any other escape stays."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_gate_shows_markup_and_control_characters_as_signs(terminal, capsys):
    one = {"name": HOSTILE, "wanted": HOSTILE, "got": HOSTILE, "passed": False, "why": HOSTILE}
    show_gate({"passed": False, "conditions": [one]})
    shown = plain(capsys.readouterr().out)
    assert shown.count(SHOWN) == 4
    assert "\x1b" not in shown


def test_report_shows_markup_and_control_characters_as_signs(terminal, capsys, monkeypatch):
    monkeypatch.setattr("hf_llambert.report.report.summary_rows", lambda report: [(HOSTILE, HOSTILE, "", "")])
    task = {"name": HOSTILE, "labels": ["a", "b"], "instruction": "{text}"}
    report = {"task": task, "n_annotated": 3, "n_silver": 2, "n_labelled": 1}
    show_report(report, f"runs/{HOSTILE}")
    shown = plain(capsys.readouterr().out)
    assert shown.count(SHOWN) == 3
    assert f"report: runs/{SHOWN.replace('//', '/')}/report.html\n" in shown
    assert "\x1b" not in shown


def test_plan_shows_markup_and_control_characters_as_signs(terminal, capsys):
    part = {"n": 1, "hours": None, "money": None, "input_tokens": None, "output_tokens": None}
    texts = {
        "longest": [3], "unit": HOSTILE, "median": 2, "n_cut": None, "limit": None, "n_counted": 1, "n_unusable": 0,
        "n_repeated": 0,
    }  # fmt: skip
    show_plan(
        {
            "task": HOSTILE, "teacher": HOSTILE, "sample": {"answered": 1, "asked_now": 1}, "currency": HOSTILE,
            "annotate": part, "teacher_for_all": part, "student": None, "break_even": None, "coverage": None,
            "agreement": None, "texts": texts, "notes": [HOSTILE],
        }
    )  # fmt: skip
    shown = plain(capsys.readouterr().out)
    assert shown.count(SHOWN) == 5
    assert "\x1b" not in shown


def test_whatever_is_printed_on_the_screen_is_text(terminal, capsys):
    from rich.text import Text

    screen = Screen(width=300)
    screen.print(HOSTILE)
    screen.print(Text(HOSTILE))  # of which rich has dropped the bell
    shown = plain(capsys.readouterr().out)
    assert [shown.count(one) for one in (SHOWN, SHOWN.replace("␇", ""))] == [1, 1]
    assert "\x1b" not in shown


def test_messages_show_control_characters_as_signs_to_every_handler(caplog):
    logger = get_logger("hf_llambert.some_module")
    logger.warning("said %s of %d", HOSTILE, 3)
    assert caplog.messages == [f"said {SHOWN} of 3"]
    assert get_logger("hf_llambert.some_module").filters == logger.filters
    assert len(logger.filters) == 1


def test_messages_of_other_libraries_and_tracebacks_are_visible_too():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logger = logging.Logger("another.library")
    logger.addHandler(handler)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("failed: %s", HOSTILE)
    assert stream.getvalue().count(SHOWN) == 2
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    "words", [["annotate", "--task"], ["gate"], ["ledger", "stats", "x"], []], ids=["late", "gate", "ledger", "none"]
)
def test_errors_of_usage_show_control_characters_as_signs(words):
    command = [sys.executable, "-m", "hf_llambert.cli", *words, "--no\x1b[2J\x07\u202e"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert not set("\x1b\x07\u202e") & set(done.stdout + done.stderr)


def test_no_module_writes_to_the_screen_by_another_way():
    forbidden = {
        "getLogger": "tasks/logs.py",
        "Console": "tasks/screen.py",
        "echo": "cli/options.py",
        "secho": "",
        "print": "",
    }
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
            if called in forbidden and owner not in ("screen", "console", "self"):
                assert forbidden[called] == name, f"{name}:{node.lineno} calls {called}"
