"""
Whether the package can be installed with each of its extras, and with all of them that do not exclude each other.

    python -m pip install uv
    python .github/extras.py 3.12

Only metadata is read, from the package index. Which extras exclude each other stands in pyproject.toml (tool.uv.conflicts); a
pair that can be installed together after all is an error too, so that it is taken out there.
"""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent


def resolve(extras: list[str], python: str) -> tuple[bool, str]:
    """
    Whether versions of everything fit together, and what uv says.

    Raises:
        ConnectionError: uv failed for another reason.
    """
    wanted = [word for extra in extras for word in ("--extra", extra)]
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *wanted, "--quiet", "--no-header"]
    command += ["--no-annotate", "--python-version", python, "--python-platform", "linux"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "No solution found" not in done.stderr:
        raise ConnectionError(f"Expected versions or none from uv, got: {done.stderr}")
    return done.returncode == 0, done.stdout + done.stderr


def together(first: str, extras: list[str], excluded: set[frozenset[str]]) -> list[str]:
    """An extra and all others that can be installed with it and with each other."""
    chosen = [first]
    for extra in extras:
        if extra not in chosen and not any(frozenset((extra, one)) in excluded for one in chosen):
            chosen.append(extra)
    return sorted(chosen)


def check(project: dict, python: str) -> list[str]:
    """What is wrong with the extras, in sentences."""
    extras = sorted(project["project"]["optional-dependencies"])
    groups = [[one["extra"] for one in group] for group in project["tool"]["uv"]["conflicts"]]
    excluded = {frozenset(pair) for group in groups for pair in combinations(group, 2)}
    alone = [[], *([extra] for extra in extras)]
    most = sorted({tuple(together(extra, extras, excluded)) for extra in extras})
    wrong = []
    for chosen in [*alone, *map(list, most)]:
        fits, said = resolve(chosen, python)
        sys.stdout.write(f"{'yes' if fits else 'NO'}: {', '.join(chosen) or 'without extras'}\n")
        if not fits:
            wrong.append(f"Expected versions for the extras {chosen}, got none. {said}")
    for pair in sorted(map(sorted, excluded)):
        fits, _ = resolve(pair, python)
        sys.stdout.write(f"{'YES' if fits else 'no'}: {', '.join(pair)}\n")
        if fits:
            wrong.append(f"Expected {pair} to exclude each other, and they fit. Take them out of tool.uv.conflicts.")
    return wrong


if __name__ == "__main__":
    found = check(tomllib.loads((ROOT / "pyproject.toml").read_text()), sys.argv[1])
    if found:
        raise SystemExit("\n".join(found))
