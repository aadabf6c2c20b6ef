"""The shell completes commands, options and names of values, and loads nothing heavy for it."""

import os
import subprocess
import sys

import pytest

HEAVY = "torch transformers datasets pyarrow pandas numpy sklearn"
PROGRAM = f"""
import atexit, sys
from hf_llambert.cli import main
atexit.register(lambda: print(*[m for m in "{HEAVY}".split() if m in sys.modules], file=sys.stderr))
sys.argv[0] = "hf-llambert"
main()
"""


def completed(*words: str) -> list[str]:
    asked = {"COMP_WORDS": " ".join(["hf-llambert", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | asked | {"_HF_LLAMBERT_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["an"], ["annotate"]),
        (["ledger", "co"], ["compact"]),
        (["label", "--max_as"], ["--max_asked"]),
        (["annotate", "--task", ""], ["bbc-news", "imdb", "umls-neuro"]),
        (["train", "--task", "im"], ["imdb"]),
        (["plan", "--backend", "e"], ["endpoint"]),
        (["label", "--dtype", "fl"], ["float32", "float16"]),
        (["annotate", "--task", "./mine"], []),  # the shell's own files then
        (["annotate", "--data", ""], []),
    ],
)
def test_word_is_completed_and_nothing_heavy_loaded(words, expected):
    assert completed(*words) == expected


def test_bash_takes_the_script(tmp_path):
    command = tmp_path / "hf-llambert"
    command.write_text(f"#!{sys.executable}\nfrom hf_llambert.cli import main\nmain()\n")
    command.chmod(0o755)
    script = """
        eval "$(hf-llambert --show-completion)"
        complete -p hf-llambert
        COMP_WORDS=(hf-llambert gate --con); COMP_CWORD=2
        _hf_llambert_completion hf-llambert
        echo "${COMPREPLY[@]}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == [
        "complete -o default -F _hf_llambert_completion hf-llambert",
        "--conditions",
    ], done.stderr
