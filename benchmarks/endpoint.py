"""
What asking an endpoint costs beside the endpoint, and what is left after `kill -9`: this package and distilabel.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=0 python benchmarks/endpoint.py
    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=0 python benchmarks/endpoint.py --rival /path/to/venv/bin/python  # has distilabel[openai]

A server of its own, which speaks OpenAI's chat protocol on the loopback and answers each request after 20 ms, is asked about
4,000 texts; then again, with a kill when about half have been answered, and a second run of the same command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from aiohttp import web

ROWS, DELAY = 4000, 0.02
TEXTS = [f"{'good' if i % 3 else 'bad'} review number {i} of the film" for i in range(ROWS)]
QUESTION = "Positive or negative?\n{text}"


def serve() -> None:
    """Answer until killed; GET /count says how many requests were answered."""
    answered = 0

    async def chat(request: web.Request) -> web.Response:
        nonlocal answered
        body = await request.json()
        await asyncio.sleep(DELAY)
        answered += 1
        label = "positive" if "good" in body["messages"][-1]["content"] else "negative"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": label}}
        usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}
        head = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    async def count(request: web.Request) -> web.Response:
        return web.json_response(answered)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/count", count)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    asyncio.run(run())


def ours(url: str, folder: str) -> int:
    """Ask through this package. Returns the rows that came back."""
    from hf_llambert import EndpointTeacher, LLMLabeler, TaskSpec

    task = TaskSpec("t", ("negative", "positive"), QUESTION, system="One word.")
    labeler = LLMLabeler(task, EndpointTeacher("m", f"{url}/v1"), folder)
    return labeler({"text": TEXTS})["llm_status"].count("ok")


def distilabel(url: str, folder: str) -> int:
    """Ask through distilabel's own pipeline, with its cache. Returns the rows that came back."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    sampling = {"max_new_tokens": 16, "temperature": 0.0}
    with Pipeline("bench", cache_dir=folder) as pipe:
        load = LoadDataFromDicts(data=[{"instruction": QUESTION.format(text=text)} for text in TEXTS], batch_size=64)
        llm = OpenAILLM(model="m", base_url=f"{url}/v1", api_key="none", generation_kwargs=sampling)
        load >> TextGeneration(llm=llm, system_prompt="One word.", input_batch_size=64)
    return len(pipe.run(use_cache=True)["default"]["train"])


def start(python: str, who: str, url: str, folder: Path) -> subprocess.Popen:
    """One run in a process group of its own."""
    command = [python, __file__, "--ask", who, "--url", url, "--folder", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def said(folder: Path) -> str:
    """The last line that a run wrote about itself."""
    lines = (folder.parent / f"{folder.name}.log").read_text().splitlines()
    return next((line.removeprefix("RESULT ") for line in reversed(lines) if line.startswith("RESULT ")), "no result")


def measure(who: str, python: str, url: str, place: Path, limit: float) -> None:
    """A whole run, then one that is killed and started again."""

    def count() -> int:
        with urllib.request.urlopen(f"{url}/count") as answer:
            return json.loads(answer.read())

    def finish(process: subprocess.Popen) -> None:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    before, began, folder = count(), time.perf_counter(), place / f"{who}-whole"
    finish(start(python, who, url, folder))
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{who}: {said(folder)}, whole process {seconds:.1f} s, {count() - before} requests\n")
    before, folder = count(), place / f"{who}-killed"
    process = start(python, who, url, folder)
    while count() - before < ROWS // 2 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)
    killed = count()
    finish(start(python, who, url, folder))
    sys.stdout.write(
        f"{who}: killed after {killed - before} requests; then {said(folder)}, {count() - killed} more requests\n"
    )
    sys.stdout.flush()


def main() -> None:
    """Start the server and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", help="a Python that has distilabel[openai]")
    parser.add_argument("--limit", type=float, default=200, help="seconds that a run may take")
    for name in ("--ask", "--url", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask == "serve":
        serve()
    elif arguments.ask:
        began, busy = time.perf_counter(), time.process_time()
        rows = (ours if arguments.ask == "hf_llambert" else distilabel)(arguments.url, arguments.folder)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        processor = f"{busy / ROWS * 1000:.2f} ms of this process's processor a request"
        sys.stdout.write(f"RESULT {rows} rows, {seconds:.1f} s of asking, {processor}\n")
    else:
        command = [sys.executable, __file__, "--ask", "serve"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = server.stdout.readline().strip()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                measure("hf_llambert", sys.executable, url, Path(place), arguments.limit)
                if arguments.rival:
                    measure("distilabel", arguments.rival, url, Path(place), arguments.limit)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
