"""
One program for a borrowed GPU: teachers, students and trainings on it, in parts of at most eight minutes.

    python benchmarks/gpu.py --json gpu.json                           # all parts, one after the other
    python benchmarks/gpu.py --json gpu.json --within 570              # as many as go into ten minutes; call it again
    python benchmarks/gpu.py --json gpu.json --parts teacher --again   # this one, although it is done
    python benchmarks/gpu.py --tiny --here --json tiny.json            # tiny models on a CPU: does it all run?
    python benchmarks/gpu.py --pack build/gpu    # to carry to a machine without a network; there: --assets build/gpu

Needs `make assets`, or what `--pack` copied of them: all but weights, 25 MB. A model without weights is built from its
config, with random ones: as fast, and the students are trained on the spot. Each part runs in a process of its own, is
stopped at its bound, and keeps what it had measured. Beside the JSON a table is written (.md).

The floor: the arithmetic of the texts' own tokens (matrices, and attention to what each token sees; no padding) at the speed of
matrix products of the model's own shapes in bf16, measured on the device. `device` measures a large square one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = {
    "device": ("gpu_teacher", "rates"),
    "teacher": ("gpu_teacher", "small"),
    "large": ("gpu_teacher", "large"),
    "vllm": ("gpu_teacher", "vllm"),
    "student": ("gpu_student", "minilm"),
    "distilbert": ("gpu_student", "distilbert"),
    "pool": ("gpu_student", "pool"),
    "training": ("gpu_training", "training"),
    "processes": ("gpu_training", "processes"),
    "memory": ("gpu_training", "memory"),
}
"""By name the module and the function."""
BOUND = 480.0  # seconds
LEAST_LEFT = 60.0  # seconds: with less no part is begun
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "vllm", "flash_attn")
LEAST_SHARE, LEAST_TIMES = 0.6, 135
DONE, BEGUN, FAILED, LATE = "done", "begun", "failed", "out of time"


def environment() -> dict[str, str]:
    """The device, its driver and the versions. Starts no CUDA: the parts want the GPU for themselves."""
    import torch

    found = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    gpu = nvidia()
    if not gpu:
        return {"device": f"CPU ({platform.machine()})", **found}
    cudnn = torch.backends.cudnn.version()
    return {**gpu, "cuda": str(torch.version.cuda), "cudnn": str(cudnn), **found}


def nvidia() -> dict[str, str]:
    """Name, driver and memory of the first GPU as nvidia-smi says; nothing without one, or where ACCELERATE_USE_CPU asks."""
    from hf_llambert.models import wants_cpu

    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {}
    if not said or wants_cpu():
        return {}
    return dict(zip(("device", "driver", "memory"), map(str.strip, said[0].split(",")), strict=True))


def read(path: Path) -> dict:
    """The JSON so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parts": {}}


def write(path: Path, found: Mapping) -> None:
    """Write the JSON whole or not at all: a part may be stopped at any time."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def left(found: Mapping, asked: Sequence[str], device: str, again: bool) -> list[str]:
    """Which of these parts are to be run: not those that are done on this device, unless they shall be run again."""
    return [
        name
        for name in asked
        if again
        or (found["parts"].get(name, {}).get("status"), found["parts"].get(name, {}).get("device")) != (DONE, device)
    ]


def run_part(path: Path, name: str, device: str, work: Callable[[Callable[[dict], None]], None]) -> bool:
    """Run a part in this process; what it notes is in the JSON at once. Returns whether it came to its end."""
    begun = time.perf_counter()
    rows: list[dict] = []

    def keep(status: str, **more: object) -> None:
        found = read(path)
        entry = {"status": status, "device": device, "seconds": time.perf_counter() - begun, "rows": rows, **more}
        found["parts"][name] = entry
        write(path, found)

    def note(row: dict) -> None:
        rows.append(row)
        keep(BEGUN)
        sys.stderr.write(f"{name}: {said(row)}\n")

    keep(BEGUN)
    try:
        work(note)
    except Exception as error:  # noqa: BLE001  (the other parts are measured all the same)
        traceback.print_exc()
        keep(FAILED, error=f"{type(error).__name__}: {error}"[:2000])
        return False
    keep(DONE)
    return True


def run_bounded(command: Sequence[str], seconds: float) -> bool:
    """Run a command with all its children for at most so long. Returns whether it ended by itself."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        for end in (signal.SIGTERM, signal.SIGKILL):  # a launcher ends its workers, which are in sessions of their own
            os.killpg(process.pid, end)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                continue
            break
        return False
    return True


def said(row: Mapping) -> str:
    """A line of what was measured."""
    if "missing" in row:
        return f"{row['what']}: {row['missing']}"
    share = f", {row['share']:.0%} of the floor" if "share" in row else ""
    return f"{row['what']}: {number(row['value'])} {row['unit']}{share}"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def goals(found: Mapping) -> list[tuple[str, str, str]]:
    """What was asked for, what was found, and whether that is enough."""
    rows = {row["key"]: row for part in found["parts"].values() for row in part["rows"] if "missing" not in row}

    def value(key: str, name: str = "value") -> float | None:
        return rows.get(key, {}).get(name)

    def ratio(above: float | None, below: float | None) -> float | None:
        return above / below if above is not None and below else None

    fast, slow = value("all-MiniLM-L6-v2.best"), value("large.score")
    asked = [
        ("teacher (SmolLM2), share of the floor", value("teacher.score", "share"), LEAST_SHARE),
        ("teacher (the largest), share of the floor", value("large.score", "share"), LEAST_SHARE),
        ("student (MiniLM), share of the floor", value("all-MiniLM-L6-v2.best", "share"), LEAST_SHARE),
        ("student (DistilBERT), share of the floor", value("DistilBERT.best", "share"), LEAST_SHARE),
        ("student (MiniLM) against the largest teacher, texts/s", ratio(fast, slow), LEAST_TIMES),
        ("student (DistilBERT, 100 tokens), texts/s", value("DistilBERT.best"), value("pool.l4")),
        ("the same from Parquet to Parquet", value("pool.label_pool, from Parquet to Parquet"), value("pool.l4")),
    ]
    return [
        (what, "not measured" if got is None else number(got), "" if least is None else verdict(got, least))
        for what, got, least in asked
    ]


def verdict(got: float | None, least: float) -> str:
    """Whether a figure is enough."""
    if got is None:
        return number(least)
    return f"{number(least)}, {'reached' if got >= least else 'missed'}"


def table(found: Mapping) -> str:
    """Everything as Markdown."""
    lines = ["| on | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found["environment"].items()), ""]
    lines += ["| part | what | found | share of the floor | more |", "|---|---|---|---|---|"]
    shown = ("key", "what", "value", "unit", "share", "missing")
    for name in [name for name in PARTS if name in found["parts"]]:
        part = found["parts"][name]
        for row in part["rows"]:
            got = row.get("missing") or f"{number(row['value'])} {row['unit']}"
            share = f"{row['share']:.0%}" if "share" in row else ""
            more = "; ".join(
                f"{key.replace('_', ' ')} {number(x) if isinstance(x, int | float) else x}"
                for key, x in row.items()
                if key not in shown and x is not None
            )
            lines.append(f"| {name} | {row['what']} | {got} | {share} | {more} |")
        if part["status"] != DONE:
            error = part.get("error", "").partition("\n")[0]
            lines.append(f"| {name} | **{part['status']}** | {error[:200]} | | |")
    if "driver" not in found["environment"] or "models" in found["environment"]:
        return "\n".join([*lines, "", "Tiny models, or no GPU: these figures say that it runs, and nothing else."])
    lines += ["", "| asked for | found | at least |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {got} | {least} |" for what, got, least in goals(found))])


def make_parser() -> argparse.ArgumentParser:
    """What the program takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="run only these")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--again", action="store_true", help="also what is done")
    parser.add_argument("--tiny", action="store_true", help="tiny models, few texts; also on a CPU")
    parser.add_argument("--assets", type=Path, help="of `make assets`, or what --pack copied of them")
    parser.add_argument(
        "--work", type=Path, help="folder for students and pools; default: in the folder for passing files"
    )
    parser.add_argument("--bound", type=float, default=BOUND, help="seconds for a part")
    parser.add_argument(
        "--within", type=float, default=math.inf, help="seconds for all; the rest is left for another call"
    )
    parser.add_argument("--here", action="store_true", help="in this process, without a bound")
    parser.add_argument("--pack", type=Path, help="copy what a machine without a network needs, and end")
    parser.add_argument("--one_of_two", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--student", type=Path, help=argparse.SUPPRESS)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for and not done; write JSON and table. 1 where a part of it is not done in the end."""
    given = (parser := make_parser()).parse_args(words)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all is here, and the machine may have no network
    end = time.monotonic() + given.within
    if given.pack:
        from gpu_models import pack

        size = pack(given.assets or ROOT / "assets", given.pack)
        sys.stdout.write(f"{size / 1e6:.0f} MB in {given.pack}\n")
        return 0
    given.work = given.work or Path(tempfile.gettempdir()) / f"hf-llambert-gpu{'-tiny' if given.tiny else ''}"
    given.work.mkdir(parents=True, exist_ok=True)
    if given.one_of_two:
        from gpu_training import one_of_two

        one_of_two(bench(given, lambda row: None), given.one_of_two, given.student)
        return 0
    here = {**environment(), **({"models": "tiny"} if given.tiny else {})}
    device = here["device"] + (", tiny models" if given.tiny else "")
    if "driver" not in here and not given.tiny:
        parser.error("nvidia-smi shows no GPU. Pass --tiny to see on a CPU that everything runs.")
    found = read(given.json)
    write(given.json, {**found, "environment": here})
    todo = left(found, given.parts, device, given.again)
    if given.here:
        for name in todo:
            run_part(given.json, name, device, lambda note, name=name: load(name)(bench(given, note)))
    else:
        run_apart(given, todo, device, end)
    found = read(given.json)
    given.json.with_suffix(".md").write_text(table(found) + "\n", encoding="utf-8")
    if not given.here or len(given.parts) > 1:
        sys.stdout.write(table(found) + "\n")
    return int(bool(left(found, given.parts, device, again=False)))


def run_apart(given: argparse.Namespace, todo: Sequence[str], device: str, end: float) -> None:
    """Run each part in a process of its own, until too little time is left."""
    for name in todo:
        left_over = end - time.monotonic()
        if left_over < LEAST_LEFT:
            sys.stderr.write(f"{name} and what follows is left for another call.\n")
            return
        command = [sys.executable, __file__, "--here", "--again", "--parts", name, "--json", str(given.json)]
        command += ["--work", str(given.work), *(["--tiny"] if given.tiny else [])]
        command += ["--assets", str(given.assets)] if given.assets else []
        ended = run_bounded(command, min(given.bound, left_over))
        found = read(given.json)
        if found["parts"].get(name, {}).get("status") not in (DONE, FAILED):
            lost = {"device": device, "seconds": given.bound, "rows": []}
            found["parts"][name] = {**lost, **found["parts"].get(name, {}), "status": FAILED if ended else LATE}
            write(given.json, found)


def load(name: str) -> Callable:
    """The function of a part. What it needs is imported with it."""
    from importlib import import_module

    module, function = PARTS[name]
    return getattr(import_module(module), function)


def bench(given: argparse.Namespace, note: Callable[[dict], None]) -> object:
    """What a part is given."""
    from gpu_models import TEACHER, Bench, tiny_assets

    assets = given.assets or ROOT / "assets"
    if given.tiny and not given.assets:
        assets = given.work / "assets"
        if not (assets / TEACHER).exists():
            tiny_assets(assets)
    return Bench(assets, given.work, given.tiny, note)


if __name__ == "__main__":
    sys.exit(main())
