import errno
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec, cli
from hf_llambert.annotation.ledger import unreadable
from hf_llambert.annotation.turns import asking_turn, one_at_a_time
from hf_llambert.shown import scrubbed, shown_command
from hf_llambert.tasks.texts import markdown_text, visible

HUB = {"teacher": "transformers", "model": "org/some-model", "revision": "a" * 40, "mode": "generate"}


@pytest.fixture
def published(tmp_path):
    """Writes a note with these settings of a teacher and these other fields, and gives its folder."""

    def write(settings, **more) -> str:
        note = {
            "task": TaskSpec("t", ("a", "b"), "{text}").to_dict(), "teacher": settings, "identity": {},
            "text_column": "text", "calibration": None, **more,
        }  # fmt: skip
        (tmp_path / "annotation.json").write_text(json.dumps(note))
        return str(tmp_path)

    return write


def test_model_of_the_hub_is_taken_with_its_harmless_numbers(published, tmp_path):
    folder = published(HUB | {"head_share": 0.25, "max_text_tokens": 99, "adapter": None, "model_is_local": False})
    teacher = LLMLabeler.from_dataset(folder, tmp_path / "ledger").teacher
    assert (teacher.model, teacher.revision, teacher.mode) == ("org/some-model", "a" * 40, "generate")
    assert (teacher.head_share, teacher.max_text_tokens) == (0.25, 99)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"teacher": "endpoint", "model": "m", "base_url": "https://evil.example", "api_key_variable": "MY_SECRET"},
            "api_key_variable, base_url, model",
        ),
        ({"teacher": "recorded", "path": "/etc/passwd"}, "path"),
        ({"teacher": ["transformers"], "model": "m"}, "model"),
        (HUB | {"adapter": "evil/adapter"}, "adapter"),
        (HUB | {"device": "cuda:7"}, "device"),
        (HUB | {"api_key_variable": "HOME"}, "api_key_variable"),
        (HUB | {"gguf_file": "../x.gguf"}, "gguf_file"),
        *(
            (HUB | {"revision": revision}, "revision")
            for revision in (
                "../../x",
                "a\x1b[2J",
                "main\n",
                "a//b",
                "a/./b",
                "/etc",
                "-x",
                "\uff41",
                "a" * 300,
                1,
                True,
            )
        ),
        (HUB | {"max_text_tokens": 10**400}, "max_text_tokens"),
        (HUB | {"temperature": math.inf}, "temperature"),
        (HUB | {"gguf_file": ".."}, "gguf_file"),
        (HUB | {"\x1b[2J": 1}, "␛"),
        (HUB | {"max_text_tokens": "9"}, "max_text_tokens"),
        (HUB | {"head_share": [1]}, "head_share"),
        (HUB | {"mode": {}}, "mode"),
        *(
            (HUB | {"model": model}, "model")
            for model in (
                "../x",
                "/x",
                "C:\\x",
                "~",
                "~/x",
                "src",
                3,
                ["m"],
                "a/b/c",
                "../../x",
                "/etc",
                "http://a.example/x",
            )
            + ("org/..", "org/x\n", "\u202eorg/x", "-x/--y", "\\\\host\\x", "file:///etc", [[["x"]]])
        ),
    ],
)
def test_what_may_lead_elsewhere_is_never_taken_from_a_dataset(published, tmp_path, monkeypatch, settings, named):
    monkeypatch.chdir(Path(__file__).parent.parent)  # where a folder 'src' is
    with pytest.raises(ValueError, match=rf"{named}[\s\S]*Pass teacher=\.\.\. with your own"):
        LLMLabeler.from_dataset(published(settings), tmp_path / "ledger")


@pytest.mark.parametrize(
    "more",
    [
        {"task": 3},
        {"text_column": ["text", 3]},
        {"members": [1]},
        {"calibration": {"method": "batch", "bias": ["x", "y"], "temperature": 1}},
        {"calibration": {"method": "batch", "bias": [0.1], "temperature": 1}},
        {"calibration": {"method": "batch", "bias": [0.1, float("nan")], "temperature": 1}},
        {"calibration": {"method": "batch", "bias": [10**400, 1], "temperature": 1}},
        {"calibration": {"method": "batch", "bias": [1e308, -1e308], "temperature": 1e-308}},
    ],
)
def test_field_of_a_wrong_type_is_one_sentence(published, tmp_path, more):
    with pytest.raises(ValueError, match="is not what hf-llambert push writes"):
        LLMLabeler.from_dataset(published(HUB, **more), tmp_path / "ledger")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(
            ({"labels": [f"a{bad}", "b"]}, "without control characters")
            for bad in ("\x1b[2J", "\u202e", "\x00", "\nx", "\ud800")
        ),
        ({"labels": ["a", "b"], "verbalizers": {"a": ["x\x9b"], "b": ["y"]}}, "without control characters"),
        ({"name": "\x1b[2J"}, "without control characters"),
        ({"labels": [str(i) for i in range(10**6)]}, "at most 10,000 labels, got 1,000,000"),
        ({"labels": [["a"], ["b"]]}, "labels that are strings"),
        ({"verbalizers": [["a"], ["b"]]}, "'verbalizers' must map"),
        ({"verbalizers": {"a": 1, "b": {}}}, "'verbalizers.a' must be a list"),
        ({"verbalizers": {"a": [["x"]], "b": ["y"]}}, "verbalizers of 'a' must be non-empty strings"),
        ({"instruction": "{text:>1000000000}"}, "exactly once"),
        ({"examples": ["a"]}, "exactly the keys text and label"),
        ({"evil": 1}, "unknown key"),
    ],
)
def test_hostile_task_of_a_dataset_is_one_short_sentence(published, tmp_path, change, said):
    task = {"name": "t", "labels": ["a", "b"], "instruction": "{text}"} | change
    with pytest.raises(ValueError, match="is not what hf-llambert push writes") as error:
        LLMLabeler.from_dataset(published(HUB, task=task), tmp_path / "ledger")
    assert said in str(error.value)
    assert len(str(error.value)) < 1000
    assert visible(str(error.value)) == str(error.value)


def test_template_of_a_dataset_is_words_and_no_program(published, tmp_path):
    instruction = "{% for i in range(10**9) %}{{ 7 * 7 }}{% endfor %} {text.__class__} {0} {text}"
    task = {"name": "../../x", "labels": ["क्‍ष", "b"], "instruction": instruction}
    taken = LLMLabeler.from_dataset(published(HUB, task=task), tmp_path / "ledger").task
    assert taken.fields == ("text.__class__", "text")  # the name of a column
    said = instruction.replace("{text.__class__}", "{text}").replace("{text}", "hello")
    assert taken.messages(taken.filled("hello"))[-1]["content"] == said


def test_many_names_of_a_stranger_are_counted_and_not_listed(published, tmp_path):
    many = {f"k{i}": i for i in range(50_000)}
    for folder in (lambda: published(HUB | many), lambda: published(HUB, members={name: {} for name in many})):
        with pytest.raises(ValueError, match=r"\(50,000 in all\)") as error:
            LLMLabeler.from_dataset(folder(), tmp_path / "ledger")
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--api_key_variable", "MY_KEY", "--seed", "3"], "--api_key_variable ... --seed 3"),
        (["--api_key_variable=MY_KEY"], "--api_key_variable=..."),
        (["--extra_body", '{"key": "abc"}'], "--extra_body ..."),
        (["--chat_template_kwargs={}"], "--chat_template_kwargs=..."),
        (["--base_url", "http://10.1.2.3:8000/v1"], "--base_url ..."),
        (["--base_url=https://gpu.internal/v1"], "--base_url=..."),
        (["--base_url", "https://api.example.com/v1"], "--base_url https://api.example.com/v1"),
        (["--data", "s3://b/x.csv?token=abc"], "--data s3://b/x.csv"),
        (["--data", "s3://me:word@b/x.csv"], "--data s3://b/x.csv"),
        (["sk-abcdefghij1234567890"], "..."),
        (["--x=AKIAABCDEFGHIJKLMNOP"], "--x=..."),
        (["--max_new_tokens", "5", "--batch_tokens=900"], "--max_new_tokens 5 --batch_tokens=900"),
        (["--data", "C:\\Users\\ana\\x.csv"], "--data x.csv"),
    ],
)
def test_command_is_shown_without_what_a_card_leaves_out(words, shown):
    assert shown_command(["hf-llambert", "annotate", *words]) == f"hf-llambert annotate {shown}"


def test_settings_are_published_without_keys_and_private_addresses():
    settings = {
        "teacher": "endpoint", "model": "m", "base_url": "http://192.168.1.7/v1", "extra_body": '{"api": "abc", "n": 1}',
        "api_key_variable": "MY_KEY", "max_new_tokens": 10,
    }  # fmt: skip
    expected = settings | {"base_url": "...", "extra_body": ["api", "n"], "api_key_variable": "..."}
    per_class = {"token": {"precision": 0.5}, "headers": {"precision": 1.0}}  # labels, no settings
    task = {"instruction": "See http://localhost/x?a=b. {text}"}
    note = {"identity": settings, "per_class": per_class, "task": task}
    assert scrubbed(note) == {"identity": expected, "per_class": per_class, "task": task}


def test_control_characters_are_shown_as_signs():
    hostile = "a\x1b[2Jb\x07\x08\rc\x9bd\u202ee\u2066\x7f\ud800\nnew\tline é 猫 👩\u200d🔬"
    shown = "a␛[2Jb␇␈␍c‹U+009B›d‹U+202E›e‹U+2066›␡‹U+D800›\nnew\tline é 猫 👩\u200d🔬"
    assert visible(hostile) == shown
    assert markdown_text("a\x1b\u202e*") == "a␛‹U\\+202E›\\*"


def test_error_on_the_screen_shows_escapes_as_signs(monkeypatch, capsys):
    def fail():
        raise ValueError("the server said \x1b]0;owned\x07")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["hf-llambert"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "Error: the server said ␛]0;owned␇\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), "Restore or remove it"),
        (sqlite3.DatabaseError("file is not a database"), "Restore or remove it"),
        (sqlite3.OperationalError("database or disk is full"), "The disk is full"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "The disk is full"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many files are open"),
        (sqlite3.OperationalError("no such table: replies"), "It is a database of something else"),
        (sqlite3.OperationalError("database is locked"), "Another process holds it"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "mend the rights"),
        (sqlite3.OperationalError("unable to open database file"), "See that 'x.sqlite' is there, a file"),
        (sqlite3.OperationalError("disk I/O error"), "See that the disk is there"),
    ],
)
def test_only_aunreadable_file_is_to_be_removed(error, said):
    message = str(unreadable(Path("x.sqlite"), error))
    assert said in message
    assert ("Restore or remove" in message) == (said == "Restore or remove it")


def test_database_of_something_else_in_a_ledger_is_said_by_every_reader(tmp_path):
    from hf_llambert import ledger_stats
    from hf_llambert.annotation.ledger import Ledger

    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    for read in (lambda: ledger_stats(tmp_path), lambda: Ledger(tmp_path).get(["a"]), lambda: len(Ledger(tmp_path))):
        with pytest.raises(OSError, match=r"other\.sqlite' cannot be read \(no such table.*move it to another folder"):
            read()


_HOLDER = """
import sys
from pathlib import Path
from hf_llambert.annotation.turns import one_at_a_time
with one_at_a_time(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_start_is_refused_until_the_first_is_gone(tmp_path):
    output = tmp_path / "run/annotated"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    taken = pytest.raises(BlockingIOError, match=f"annotated' is being written by process {holder.pid} on ")
    with taken, one_at_a_time(output):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with one_at_a_time(output), pytest.raises(BlockingIOError, match="this very process"), one_at_a_time(output):
        pass
    with one_at_a_time(output), one_at_a_time(tmp_path / "run/other"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


@pytest.fixture
def labeler(tmp_path):
    teacher = CountingTeacher(str(tmp_path / "log"))
    return LLMLabeler(TaskSpec("t", ("negative", "positive"), "{text}"), teacher, tmp_path / "ledger")


def starts(labeler, reviews, tmp_path):
    """Everything that asks a teacher, by name."""
    from hf_llambert import annotate, cascade, make_plan, pool_calibration

    rows = {
        "text": ["a", "b"],
        "student_label": [0, 1],
        "student_confidence": [0.1, 0.2],
        "student_scores": [[0.0] * 2] * 2,
    }
    types = {"text": Value("string"), "student_label": ClassLabel(names=["negative", "positive"])}
    types |= {"student_confidence": Value("float32"), "student_scores": List(Value("float32"))}
    (tmp_path / "labels").mkdir()
    Dataset.from_dict(rows, Features(types)).to_parquet(str(tmp_path / "labels/part-0.parquet"))
    return {
        "annotate": lambda: annotate(reviews, labeler, tmp_path / "out", show_progress=False),
        "plan": lambda: make_plan(reviews, labeler, num_annotated=8, sample=4),
        "cascade": lambda: cascade(tmp_path / "labels", labeler, tmp_path / "out", below=1, show_progress=False),
        "pool_calibration": lambda: pool_calibration(tmp_path / "labels", labeler, show_progress=False),
    }


@pytest.mark.parametrize("start", ["annotate", "plan", "cascade", "pool_calibration"])
def test_nobody_asks_while_another_start_asks_the_same(tmp_path, reviews, labeler, start):
    begin = starts(labeler, reviews, tmp_path)[start]
    with (
        asking_turn([labeler]),
        pytest.raises(BlockingIOError, match="this very process, which asks the same teacher"),
    ):
        begin()
    if start in ("annotate", "cascade"):
        with one_at_a_time(tmp_path / "out"), pytest.raises(BlockingIOError, match="a second start would do, and pay"):
            begin()
    assert labeler.teacher.asked() == []
    begin()
    assert len(labeler.teacher.asked()) in (2, 4, len(reviews))


def test_two_outputs_with_one_ledger_are_refused_only_where_they_ask_the_same(tmp_path, reviews, labeler):
    from hf_llambert import annotate

    (tmp_path / "link").symlink_to(tmp_path / "ledger")  # another way to the same folder
    same = LLMLabeler(labeler.task, labeler.teacher, tmp_path / "link")
    other = LLMLabeler(TaskSpec("u", ("negative", "positive"), "Well? {text}"), labeler.teacher, tmp_path / "ledger")
    with asking_turn([labeler], tmp_path / "first"):
        with pytest.raises(BlockingIOError, match="choose another --ledger"):
            annotate(reviews, same, tmp_path / "second", show_progress=False)
        assert annotate(reviews, other, tmp_path / "third", show_progress=False)["n_failed"] == 0
        elsewhere = LLMLabeler(labeler.task, labeler.teacher, tmp_path / "{of} my own")
        assert annotate(reviews, elsewhere, tmp_path / "fourth", show_progress=False)["n_failed"] == 0


def test_two_starts_of_one_share_of_a_pool_are_refused(tmp_path, reviews, student_dir):
    from hf_llambert import StudentLabeler, label_pool

    student, output = StudentLabeler(student_dir), tmp_path / "labels"
    with one_at_a_time(output, "0-of-2"):
        with pytest.raises(BlockingIOError, match="labels' is being written by this very process"):
            label_pool(reviews, student, output, show_progress=False, process=(0, 2))
        assert not label_pool(reviews, student, output, show_progress=False, process=(1, 2))["complete"]
    assert label_pool(reviews, student, output, show_progress=False, process=(0, 2))["complete"]


def test_reasons_are_on_the_screen_and_nothing_right_is_a_failure(tmp_path, capsys):
    TaskSpec("t", ("a", "b"), "{text}").to_yaml(tmp_path / "task.yaml")
    rows = [{"text": f"text {k}"} for k in range(3)] + [{"text": None}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"text": row["text"], "response": "neither \x1b[2J of them"} for row in rows[:3]]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    command = ["annotate", "--task", "task.yaml", "--data", "data.jsonl", "--output", "run"]
    more = ["--backend", "recorded", "--path", "answers.jsonl", "--model", "m"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert cli.app([*command, *more], standalone_mode=False) == 1
    shown = capsys.readouterr()
    assert "  3 × " in shown.out
    assert "  1 × text is null" in shown.out
    assert "No text got a label" in shown.err
    assert "\x1b" not in shown.out + shown.err
