"""Several processes, machines and schedulers, as far as one machine can try them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from datasets import load_dataset

from forked import free_port
from hf_llambert import load_data, read_pool
from test_recipes import config, data_file, here  # noqa: F401  (fixtures)

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
BIN = str(Path(sys.executable).parent)


def program(folder: Path, name: str, body: str) -> None:
    """A stand-in for a program of Slurm's."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\nset -eu\n{body}\n")
    (folder / name).chmod(0o755)


def environment(tools: Path, **more: str) -> dict[str, str]:
    path = f"{tools}:{BIN}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"} | more


def run(words, env, **kwargs):
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=400, **kwargs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_has_only_keys_that_accelerate_knows(path):
    loaded = load_config_from_file(str(path))
    assert loaded.num_processes >= loaded.num_machines >= 1
    commands = re.findall(r"--config_file (\S+)", path.read_text())
    assert commands == [f"recipes/accelerate/{path.name}"]


@pytest.mark.slow
def test_the_slurm_script_joins_two_machines(config, tmp_path, here):
    """The script as it is submitted; srun and scontrol are stand-ins that take two processes here for two nodes."""
    tools = tmp_path / "bin"
    program(tools, "scontrol", 'test "$1 $2 $3" = "show hostnames n[1-2]"; echo 127.0.0.1; seq 100000')
    node = 'while [[ "$1" == --* ]]; do shift; done\nfor node in 1 0; do SLURM_NODEID=$node "$@" & pids+=($!); done\n'
    program(tools, "srun", "pids=()\n" + node + 'for pid in "${pids[@]}"; do wait "$pid"; done')
    cpu = yaml.safe_load((ROOT / "recipes" / "accelerate" / "multi_node.yaml").read_text())
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(cpu | {"use_cpu": True, "mixed_precision": "no"}))
    env = environment(
        tools, SLURM_JOB_NODELIST="n[1-2]", SLURM_JOB_NUM_NODES="2", SLURM_GPUS_ON_NODE="1", SLURM_JOB_ID="7",
        ACCELERATE_CONFIG=str(tmp_path / "cpu.yaml"), MAIN_PROCESS_PORT=str(free_port()),
    )  # fmt: skip
    arguments = ["--columns", "silver", "--train_sampling_strategy", "random", "--per_device_train_batch_size"]
    script = ["bash", "recipes/slurm/recipe.sbatch", "recipes/imdb.py", "--config", str(config), *arguments]
    run([*script, "4", "--num_processes", "2"], env, cwd=ROOT)
    here("imdb", "--config", config, *arguments, 8, "--run", tmp_path / "alone")
    both, alone = tmp_path / "run", tmp_path / "alone"
    report = json.loads((both / "report.json").read_text())
    assert report["student"]["train"]["processes"] == 2
    assert len(list((both / "ledger").glob("*.sqlite"))) == 2
    assert load_data(both)["llm_label"][:] == load_data(alone)["llm_label"][:]
    assert read_pool(both / "labels")["student_label"][:] == read_pool(alone / "labels")["student_label"][:]


def test_the_slurm_script_without_a_recipe_says_how_to_use_it():
    done = subprocess.run(
        ["bash", "recipes/slurm/recipe.sbatch"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Usage: sbatch" in done.stderr


@pytest.fixture
def corpus(tmp_path, finished_run):
    rows = load_data(finished_run)
    (tmp_path / "corpus").mkdir()
    for k in range(2):
        part = rows.select(range(k * 10, k * 10 + 10)).select_columns(["text"])
        part.to_parquet(str(tmp_path / "corpus" / f"{k}.parquet"))
    return rows, ["--student", str(finished_run / "student"), "--data", str(tmp_path / "corpus"), "--tasks", "2"]


FLEET = [sys.executable, str(ROOT / "recipes" / "fleet.py")]


def labelled(folder: Path) -> dict[str, int]:
    found = load_dataset("parquet", data_files=str(folder / "data" / "*.parquet"), split="train")
    return dict(zip(found["text"], found["student_label"], strict=True))


@pytest.mark.slow
def test_fleet_labels_a_pool_here_and_by_a_slurm_cluster(corpus, tmp_path):
    rows, arguments = corpus
    tools = tmp_path / "bin"
    # The first job labels; the second, after it, adds up the statistics.
    program(
        tools,
        "sbatch",
        f'[ -e "{tmp_path}/submitted.sh" ] || cp "${{@: -1}}" "{tmp_path}/submitted.sh"; echo "Submitted batch job 5"',
    )
    program(tools, "srun", 'while [[ "$1" =~ ^(-.*|[0-9]+)$ ]]; do shift; done; exec "$@"')
    program(tools, "scontrol", "echo localhost")
    env = environment(tools)
    run([*FLEET, *arguments, "--workers", "1", "--output", str(tmp_path / "local")], env)
    here = labelled(tmp_path / "local")
    assert set(here) == set(rows["text"])
    slurm = ["--executor", "slurm", "--partition", "cpu", "--output", str(tmp_path / "slurm")]
    run([*FLEET, *arguments, *slurm], env)
    assert "#SBATCH --partition=cpu" in (tmp_path / "submitted.sh").read_text()
    for task in range(2):  # as the cluster would run the array
        job = {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_JOB_ID": "5",
            "SLURM_ARRAY_JOB_ID": "5",
            "RUN_OFFSET": "0",
            "SLURM_NODELIST": "localhost",
        }
        run(["bash", str(tmp_path / "submitted.sh")], env | job)
    assert labelled(tmp_path / "slurm") == here


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--tasks", "3"], "tasks must be from 1 to 2"),
        (["--text_column", "review"], "Column 'review' not found"),
        (["--executor", "slurm"], "pass --partition"),
        (["--executor", "cloud"], "executor must be local, slurm or ray"),
    ],
)
def test_fleet_refuses_what_cannot_work_in_a_sentence(corpus, tmp_path, here, more, why):
    with pytest.raises(SystemExit, match=f"^Error: .*{why}"):
        here("fleet", *corpus[1], "--output", tmp_path / "out", *more)


def test_the_command_for_hugging_face_jobs_is_one_that_hf_takes(tmp_path):
    page = (ROOT / "docs" / "distribution.md").read_text()
    (command,) = re.findall(r"hf jobs run (.*?)\n```", page.replace("\\\n", " "), re.DOTALL)
    env = environment(tmp_path, HF_TOKEN="hf_" + "a" * 34, HF_HOME=str(tmp_path))
    shown = run(["hf", "jobs", "run", "--dry-run", *shlex.split(command)], env, cwd=ROOT)
    assert "secrets  HF_TOKEN=***" in shown
    assert "Job not submitted" in shown
