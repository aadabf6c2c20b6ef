"""A local Hub over real HTTP, and a client in a process of its own; import the fixtures where they are needed."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from local_hub import LocalHub

TESTS = Path(__file__).parent


class Client:
    """Runs code in a process of its own against a Hub."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, TESTS / "hub_client.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )

    def run(self, code: str) -> str:
        self.process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if answer["error"]:
            raise RuntimeError(answer["error"])
        return answer["out"]

    def push(self, run: Path, repo_id: str, license: str = "apache-2.0", **more: object) -> dict:
        arguments = "".join(f", {name}={value!r}" for name, value in more.items())
        return json.loads(
            self.run(f"""
                import json
                from hf_llambert import Publication, push_run
                blank_figures()
                print(json.dumps(push_run({str(run)!r}, Publication({repo_id!r}, {license!r}, ("en",)){arguments})))
            """)
        )


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LocalHub(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def environment(hub, tmp_path_factory) -> dict[str, str]:
    return {**os.environ, **hub.env(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def client(environment):
    client = Client(environment)
    yield client
    client.process.stdin.close()
    client.process.wait(60)
