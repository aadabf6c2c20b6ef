"""The teachers' parts of `gpu.py`: score, generate and six questions by the local engine; score by vLLM."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
from gpu_floor import linear_shapes, matmul_rate, model_flops, seconds_of, square_rate
from gpu_models import TEACHER, Bench, has_weights, large_teacher, lengths_of, origin, reviews, saved, teacher
from teacher import QUESTIONS, ROOT, TOKENS
from transformers import AutoTokenizer

from hf_llambert import TaskSpec, TransformersTeacher, VLLMTeacher, load_task
from hf_llambert.models import free_models

QUESTION = ROOT / "recipes/tasks/imdb_question.yaml"
NEW_TOKENS = 10
VLLM = "vLLM is not installed (pip install 'hf-llambert[vllm]')"


def rates(bench: Bench) -> None:
    """What the device can do at all."""
    dtype = getattr(torch, bench.dtype)
    size = bench.rows(8192, 256)
    rate = square_rate(bench.device, dtype, size)
    title = f"a {size} × {size} matrix product in {bench.dtype}"
    bench.note({"key": "device.square", "what": title, "value": rate / 1e12, "unit": "TFLOP/s"})
    fast = torch.rand(bench.rows(2**30, 2**18), device=bench.device)
    other = torch.empty_like(fast)
    seconds = seconds_of(lambda: other.copy_(fast), bench.device)
    moved = 2 * fast.numel() * fast.element_size() / seconds
    bench.note({"key": "device.copy", "what": "a copy, bytes read and written", "value": moved / 1e9, "unit": "GB/s"})


def small(bench: Bench) -> None:
    """SmolLM2-135M, or its like of random weights."""
    ours = teacher(bench.assets / TEACHER, max_text_tokens=TOKENS, device=str(bench.device), dtype=bench.dtype)
    measure(bench, ours, "teacher", f"{TEACHER} ({origin(bench, TEACHER)})", bench.rows(4096, 8))


def large(bench: Bench) -> None:
    """The largest model that can be built from a config and leaves room to work."""
    folder = large_teacher(bench)
    ours = teacher(folder, max_text_tokens=TOKENS, device=str(bench.device), dtype=bench.dtype)
    model = ours._load(None).model
    size = sum(p.numel() for p in model.parameters())
    layers = model.config.num_hidden_layers
    title = f"{size / 1e9:.1f}B parameters, {layers} layers as of Llama 2 70B (random weights, built from a config)"
    measure(bench, ours, "large", title, bench.rows(384, 4))


def prompts_of(ours: TransformersTeacher, task: TaskSpec, texts: list[str]) -> tuple[list[list[int]], int]:
    """The prompts about these texts, and how many tokens they share at the beginning."""
    encoders, _, room = ours._encoding(ours._load(None), [task])
    ids = [prompt for (prompt,) in ours._prompts(encoders, texts, room)[1]]
    return ids, encoders[0].shared(ids)


def measure(bench: Bench, ours: TransformersTeacher, key: str, title: str, count: int) -> None:
    """Score, generate and six questions of one teacher, each with its share of the floor."""
    engine, task = ours._load(None), load_task(QUESTION)
    model, device = engine.model, engine.model.device
    head = [model.get_output_embeddings()]  # read at single positions only
    budget = ours._budget(engine)
    rate = matmul_rate(linear_shapes(model, head), bench.rows(budget, 64), device, model.dtype)
    note = {"key": f"{key}.rate", "what": f"{title}: matrix products of its shapes"}
    bench.note({**note, "value": rate / 1e12, "unit": "TFLOP/s"})
    texts = list(reviews(bench, count)["text"])
    encoders, tries, room = ours._encoding(engine, [task])
    ids, shared = prompts_of(ours, task, texts)
    own = [n - shared for n in lengths_of(ids)]
    floor = model_flops(model, own, shared, causal=True, skipped=head) / rate

    def noted(what: str, seconds: float, least: float | None, **more: object) -> None:
        row = {"key": f"{key}.{what}", "what": f"{title}: {what}", "value": count / seconds, "unit": "texts/s"}
        bench.note({**row, **({} if least is None else {"share": least / seconds}), **more})

    warm = texts[: max(8, count // 16)]
    for _ in ours.ask(task, warm):
        pass
    noted("score", seconds_of(lambda: list(ours.ask(task, texts)), device), floor)
    ready = seconds_of(lambda: list(engine.score(ids, shared, tries[0], budget)), device)
    noted("score, prompts made before", ready, floor)
    noted("prompts alone", seconds_of(lambda: ours._prompts(encoders, texts, room), device, 1), None)
    writes = replace(ours, mode="generate", max_new_tokens=NEW_TOKENS)
    few = texts[: max(4, count // 4)]
    list(writes.ask(task, few[:8]))
    replies = {i: reply for part in writes.ask(task, few) for i, reply in part.items()}
    written = [own[i] + reply.output_tokens for i, reply in replies.items()]
    least = model_flops(model, written, shared, causal=True, skipped=head) / rate
    seconds = seconds_of(lambda: list(writes.ask(task, few)), device, 1)
    noted(
        f"generate, at most {NEW_TOKENS} tokens", seconds * count / len(few), least * count / len(few), texts=len(few)
    )
    several = TaskSpec("several", instruction="Review: {text}", questions=QUESTIONS)
    branches = [branch for found in several.branches.values() for branch in found]
    encoders, _, room = ours._encoding(engine, branches)
    _, prompts, _, _ = ours._prompts(encoders, few, room)
    shared = encoders[0].shared(of_text[0] for of_text in prompts)
    read = [engine.tokens_read(of_text)[0] - shared for of_text in prompts]
    least = model_flops(model, read, shared, causal=True, skipped=head) / rate
    list(ours.ask_branches(branches, warm))
    one = seconds_of(lambda: list(ours.ask(branches[0], few)), device)
    every = seconds_of(lambda: list(ours.ask_branches(branches, few)), device)
    seconds, least = every * count / len(few), least * count / len(few)
    noted("six questions", seconds, least, texts=len(few), times_one=every / one)


def vllm(bench: Bench) -> None:
    """SmolLM2-135M by vLLM, where it is installed."""
    if not installed("vllm"):
        bench.note({"key": "vllm", "what": "vLLM", "missing": VLLM})
        return
    folder = bench.assets / TEACHER
    if not has_weights(folder):
        folder = saved_teacher(bench)
    here = teacher(folder, max_text_tokens=TOKENS, device=str(bench.device), dtype=bench.dtype)
    texts, task = list(reviews(bench, bench.rows(4096, 8))["text"]), load_task(QUESTION)
    expected = {i: reply.scores for part in here.ask(task, texts[:64]) for i, reply in part.items()}
    ids, shared = prompts_of(here, task, texts)
    model = here._load(None).model
    head = [model.get_output_embeddings()]
    rate = matmul_rate(
        linear_shapes(model, head), bench.rows(here._budget(here._load(None)), 64), bench.device, model.dtype
    )
    floor = model_flops(model, [n - shared for n in lengths_of(ids)], shared, causal=True, skipped=head) / rate
    del model, head
    free_models()  # the engine wants the GPU for itself
    served = VLLMTeacher(
        str(folder), dtype=bench.dtype, gpu_memory_utilization=0.6, max_model_len=1024, max_text_tokens=TOKENS
    )
    found = {i: reply.scores for part in served.ask(task, texts[:64]) for i, reply in part.items()}
    apart = max(abs(a - b) for i in expected for a, b in zip(expected[i] or (), found[i] or (), strict=True))
    seconds = seconds_of(lambda: list(served.ask(task, texts)), torch.device("cpu"))
    row = {"key": "vllm.score", "what": f"{TEACHER} by vLLM: score", "value": len(texts) / seconds, "unit": "texts/s"}
    bench.note({**row, "share": floor / seconds, "max_logprob_difference": apart})


def installed(name: str) -> bool:
    """Whether a package is here."""
    return importlib.util.find_spec(name) is not None


def saved_teacher(bench: Bench) -> Path:
    """The teacher built from its config, on the disk, for engines that load it themselves."""
    folder = bench.work / TEACHER
    if not has_weights(folder):
        model = teacher(bench.assets / TEACHER, device="cpu", dtype="bfloat16")._load(None).model
        saved(model, folder)
        AutoTokenizer.from_pretrained(bench.assets / TEACHER, trust_remote_code=False).save_pretrained(folder)
    return folder
