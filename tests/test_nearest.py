"""An unknown option, command or argument is answered with the one that was probably meant."""

import subprocess
import sys

import pytest

from hf_llambert import cli
from hf_llambert.cli.nearest import nearest


@pytest.fixture
def refused(monkeypatch, capsys):
    """What the command says where it refuses, on one line."""

    def run(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["hf-llambert", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code
        return " ".join(capsys.readouterr().err.replace("│", " ").split())

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["annotat"], "No such command 'annotat'. Did you mean 'annotate'?"),
        (["ledger", "stat"], "No such command 'stat'. Did you mean 'stats'?"),
        (["report", "r", "--aganst", "x"], "No such option --aganst. Did you mean --against?"),
        (["report", "r", "--against-run", "x"], "No such option --against-run. Did you mean --against?"),
        (["--debu", "report", "r"], "No such option --debu. Did you mean --debug?"),
        (["gate", "r", "--xyz"], "No such option --xyz."),
    ],
)
def test_nearest_command_and_option_are_named(refused, words, said):
    shown = refused(*words)
    assert said in shown
    assert shown.count("Did you mean") == said.count("Did you mean")


def test_missing_option_that_was_misspelt_is_recognised(refused):
    shown = refused("annotate", "--tsk", "imdb", "--data", "x", "--output", "y", "--mode", "score")
    assert "Missing option '--task'. No such option --tsk. Did you mean --task?" in shown
    assert "--mode" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max_text_token", "3"], "No such option --max_text_token. Did you mean --max_text_tokens"),
        (["--num-rows", "3"], "No such option --num-rows. Did you mean --num_rows"),
        (["--backend", "endpoint", "--base_ur=http://x"], "No such option --base_ur. Did you mean --base_url?"),
        (["--xyz", "3"], "No such option --xyz. See docs/teachers.md for a teacher of the kind transformers."),
    ],
)
def test_arguments_of_a_teacher_and_options_beside_them_are_named(refused, tmp_path, words, said):
    shown = refused("annotate", "--task", "imdb", "--data", "x", "--teacher", "t", "--output", tmp_path / "r", *words)
    assert said in shown
    assert not (tmp_path / "r").exists()


def test_arguments_of_a_training_are_named(refused):
    shown = refused("train", "--task", "imdb", "--student", "s", "--silver", "r", "--output", "r", "--epochs", "3")
    assert "No such option --epochs. Did you mean --num_train_epochs or --silver_epochs or --gold_epochs?" in shown


def test_option_of_label_is_named_where_no_teacher_is_asked(refused):
    shown = refused("label", "--data", "x", "--student", "s", "--output", "r", "--num_row", "3")
    assert "No such option --num_row. Did you mean --num_rows?" in shown


def test_switch_with_no_before_it_is_an_argument_of_its_class(refused):
    words = ["--student", "s", "--silver", "nowhere/at/all", "--output", "r", "--no_group_by_lenght"]
    assert "No such option --no_group_by_lenght" in refused("train", "--task", "imdb", *words)
    words[-1] = "--no_dataloader_pin_memory"
    assert "No such option" not in refused("train", "--task", "imdb", *words)


def test_nothing_near_is_nothing():
    assert nearest("", ["a", "b"]) == []
    assert nearest("zzzz", ["max_text_tokens"]) == []


def test_package_is_a_command_too():
    shown = subprocess.run(
        [sys.executable, "-m", "hf_llambert", "gat", "x"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, "Did you mean 'gate'?" in shown.stderr) == (2, True)
    assert "python -m hf_llambert" in shown.stderr
