"""`benchmarks/gpu.py`, which is for a GPU, with tiny models on a CPU; and its arithmetic."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import fake_vllm

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))  # as a benchmark that is run sees its neighbours

import gpu  # noqa: E402
import gpu_floor  # noqa: E402
import gpu_models  # noqa: E402
import gpu_student  # noqa: E402
import gpu_teacher  # noqa: E402

VLLM_MISSING = "vLLM is not installed (pip install 'hf-llambert[vllm]')"


def entry(status: str = "done", device: str = "a", rows: tuple = (), **more: object) -> dict:
    return {"status": status, "device": device, "seconds": 1.0, "rows": list(rows), **more}


def row(key: str, value: float, **more: object) -> dict:
    return {"key": key, "what": f"what {key} is", "value": value, "unit": "texts/s", **more}


def test_floor_is_the_matrices_of_real_tokens_and_what_they_see():
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16)
    model = BertForSequenceClassification(config)
    read_once = gpu_floor.read_once(model)
    one_layer = 2 * (5 + 2) * (4 * 8 * 8 + 2 * 8 * 16) + 4 * 8 * (5 * 5 + 2 * 2)
    assert gpu_floor.model_flops(model, [5, 2], skipped=read_once) == 3 * one_layer
    assert gpu_floor.linear_shapes(model, read_once) == {(8, 8): 12, (8, 16): 3, (16, 8): 3}


def test_causal_token_sees_the_prefix_itself_and_what_is_before():
    assert gpu_floor.attention_flops(4, 3, [2, 1], prefix=5, causal=True) == 4 * 4 * 3 * (6 + 7 + 6)


def test_rate_of_a_matrix_product_is_operations_by_seconds(monkeypatch):
    monkeypatch.setattr(gpu_floor, "seconds_of", lambda run, device, rounds: 0.5)
    shapes = Counter({(4, 8): 2, (8, 2): 1})
    rate = gpu_floor.matmul_rate(shapes, 3, torch.device("cpu"), torch.float32, times=10)
    assert rate == pytest.approx(2 * 3 * (2 * 32 + 16) / (3 * 0.05))


def test_budget_of_an_l4_grows_with_the_rate():
    assert gpu_floor.l4_budget(121e12) == 876
    assert gpu_floor.l4_budget(786.5e12) == pytest.approx(876 * 6.5)


@pytest.mark.parametrize(("gigabytes", "layers"), [(1, 1), (104, 59), (160, 80)])
def test_largest_teacher_has_as_many_layers_as_fit(gigabytes, layers):
    assert gpu_models.layers_that_fit(gigabytes * 10**9, gpu_models.LARGE, 49_152) == layers


def test_parts_that_are_done_on_this_device_are_skipped():
    found = {"parts": {"teacher": entry(), "large": entry("failed"), "vllm": entry(device="b")}}
    asked = ["teacher", "large", "vllm", "pool"]
    assert gpu.left(found, asked, "a", again=False) == ["large", "vllm", "pool"]
    assert gpu.left(found, asked, "a", again=True) == asked


def test_part_that_fails_keeps_what_it_had_measured(tmp_path, capsys):
    def work(note):
        note(row("teacher.score", 12.0))
        raise ValueError("no such model")

    path = tmp_path / "gpu.json"
    assert gpu.run_part(path, "teacher", "a", work) is False
    part = json.loads(path.read_text())["parts"]["teacher"]
    assert (part["status"], part["error"]) == ("failed", "ValueError: no such model")
    assert part["rows"] == [row("teacher.score", 12.0)]
    assert "what teacher.score is: 12 texts/s" in capsys.readouterr().err


def test_part_past_its_bound_is_stopped():
    assert gpu.run_bounded(["sleep", "60"], 0.05) is False
    assert gpu.run_bounded(["true"], 60) is True


def test_part_that_was_stopped_is_out_of_time_and_keeps_its_rows(tmp_path, monkeypatch):
    path = tmp_path / "gpu.json"

    def stopped(command, seconds):
        gpu.run_part(path, "pool", "CPU, tiny models", lambda note: note(row("pool.l4", 5.0)))
        found = json.loads(path.read_text())
        found["parts"]["pool"]["status"] = "begun"
        gpu.write(path, found)
        return False

    monkeypatch.setattr(gpu, "run_bounded", stopped)
    words = ["--tiny", "--json", str(path), "--work", str(tmp_path / "work"), "--parts", "pool"]
    assert gpu.main(words) == 1
    part = json.loads(path.read_text())["parts"]["pool"]
    assert (part["status"], part["rows"]) == ("out of time", [row("pool.l4", 5.0)])
    assert "| pool | **out of time** |" in path.with_suffix(".md").read_text()


def test_without_a_gpu_only_tiny_models_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "nvidia", dict)
    with pytest.raises(SystemExit):
        gpu.main(["--json", str(tmp_path / "gpu.json"), "--work", str(tmp_path)])
    assert "nvidia-smi shows no GPU. Pass --tiny" in capsys.readouterr().err


def test_table_says_what_is_missing_by_name_and_what_was_reached():
    parts = {
        "teacher": entry(rows=[row("teacher.score", 900.0, share=0.61)]),
        "large": entry(rows=[row("large.score", 10.0, share=0.4)]),
        "vllm": entry(rows=[{"key": "vllm", "what": "vLLM", "missing": VLLM_MISSING}]),
        "student": entry(rows=[row("all-MiniLM-L6-v2.best", 1400.0, share=0.7, agreement=0.998)]),
        "memory": entry("failed", error="RuntimeError: Memory did not run out"),
    }
    lines = gpu.table({"environment": {"device": "a GPU", "driver": "580"}, "parts": parts}).splitlines()
    assert f"| vllm | vLLM | {VLLM_MISSING} |  |  |" in lines
    assert "| student | what all-MiniLM-L6-v2.best is | 1,400 texts/s | 70% | agreement 0.998 |" in lines
    assert "| memory | **failed** | RuntimeError: Memory did not run out | | |" in lines
    assert "| teacher (SmolLM2), share of the floor | 0.61 | 0.6, reached |" in lines
    assert "| teacher (the largest), share of the floor | 0.4 | 0.6, missed |" in lines
    assert "| student (MiniLM) against the largest teacher, texts/s | 140 | 135, reached |" in lines
    assert "| student (DistilBERT), share of the floor | not measured | 0.6 |" in lines


def test_batches_of_few_shapes_have_every_text_once_and_padding_of_one_token():
    rows = [[7] * n for n in (3, 30, 33, 64, 5)]
    tokens = gpu_student.Tokens(rows, 1, torch.device("cpu"))
    batches = list(tokens.batches(32, fixed=True))
    assert sorted(i for members, _, _ in batches for i in members) == [0, 1, 2, 3, 4]
    assert [width for _, width, _ in batches] == [64, 32]
    ids, mask = tokens.padded(([0], 4, 2))
    assert ids.tolist() == [[7, 7, 7, 1], [1, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


def test_pack_leaves_weights_behind(tmp_path):
    gpu_models.tiny_assets(tmp_path / "assets")
    for name in (gpu_models.TEACHER, gpu_models.ENCODER):
        (tmp_path / "assets" / name / "model.safetensors").write_bytes(b"0" * 1000)
    gpu.main(["--pack", str(tmp_path / "packed"), "--assets", str(tmp_path / "assets")])
    packed = {path.name for path in (tmp_path / "packed").rglob("*")}
    assert {"config.json", "tokenizer.json", "imdb_train.parquet"} <= packed
    assert "model.safetensors" not in packed


def test_parts_run_with_tiny_models_and_are_not_run_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **arguments: model)  # tracing takes longer than all else
    names = [name for name in gpu.PARTS if name not in ("processes", "distilbert")]
    words = ["--tiny", "--here", "--json", str(tmp_path / "gpu.json"), "--work", str(tmp_path / "work")]
    assert gpu.main([*words, "--parts", *names]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["status"] for name, part in found["parts"].items()} == dict.fromkeys(names, "done")
    rows = {one["key"]: one for part in found["parts"].values() for one in part["rows"]}
    assert rows["vllm"]["missing"] == VLLM_MISSING
    assert rows["all-MiniLM-L6-v2.CUDA graphs"]["missing"] == "CUDA graphs need a GPU"
    ways = [one for key, one in rows.items() if key.startswith("all-MiniLM-L6-v2.") and "times_plain" in one]
    assert [one["agreement"] for one in ways] == [1.0] * 5  # four ways and the kept one
    assert all(
        rows[f"{name}.{what}"]["share"] > 0 for name in ("teacher", "large") for what in ("score", "six questions")
    )
    assert rows["memory.teacher"]["value"] < 1e-4
    assert rows["memory.student"]["value"] < 1e-4
    assert rows["memory.training"]["value"] == 4
    assert "Tiny models, or no GPU" in (tmp_path / "gpu.md").read_text()
    monkeypatch.setattr(gpu, "load", None)
    assert gpu.main([*words, "--parts", *names]) == 0


def test_vllm_is_compared_with_the_local_teacher_where_it_is_installed(tmp_path, monkeypatch):
    fake_vllm.install(monkeypatch)
    monkeypatch.setattr(gpu_teacher, "installed", lambda name: True)
    gpu_models.tiny_assets(tmp_path / "assets")
    rows = []
    gpu_teacher.vllm(gpu_models.Bench(tmp_path / "assets", tmp_path / "work", True, rows.append))
    assert [one["key"] for one in rows] == ["vllm.score"]
    assert rows[0]["share"] > 0
    assert rows[0]["max_logprob_difference"] < 0.02  # the stand-in computes in the bfloat16 that is stored


@pytest.mark.slow
def test_parts_run_in_processes_of_their_own_and_two_processes_share_a_device(tmp_path):
    words = [
        "--tiny",
        "--parts",
        "distilbert",
        "processes",
        "--json",
        str(tmp_path / "gpu.json"),
        "--work",
        str(tmp_path / "work"),
    ]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["status"] for name, part in found["parts"].items()} == {
        "distilbert": "done",
        "processes": "done",
    }
    assert "torch.compile" in {one["key"].partition(".")[2] for one in found["parts"]["distilbert"]["rows"]}
    (agreed, *_) = found["parts"]["processes"]["rows"]
    assert (agreed["key"], agreed["value"]) == ("processes.labels", 100)
