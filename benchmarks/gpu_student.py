"""The student's parts of `gpu.py`: ways to compute it, each against the plain one; and a pool from Parquet to Parquet."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pool as rivals
import torch
from gpu_floor import l4_budget, linear_shapes, matmul_rate, model_flops, read_once, seconds_of, square_rate
from gpu_models import ENCODER, Bench, encoder, has_weights, lengths_of, reviews
from transformers import AutoModelForSequenceClassification

from hf_llambert import StudentConfig, StudentLabeler, label_pool, load_task, train_student
from hf_llambert.models import free_models
from hf_llambert.tasks.texts import length_batches
from hf_llambert.training.labeler import Encoded
from hf_llambert.training.loading import SAFE

DISTIL = "DistilBERT"
STUDENTS = {DISTIL: 100, ENCODER: 256}
"""Which students, and how many tokens of a text each reads."""
BUDGET, STEP = 65_536, 32
LEAST_AGREEMENT = 0.995
FLASH = "flash_attn is not installed (pip install flash-attn)"
GRAPHS = "CUDA graphs need a GPU"

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Batch = tuple[list[int], int, int]
"""Rows, to how many tokens they are padded, and to how many rows."""


def trained(bench: Bench, name: str, length: int) -> Path:
    """A student of real labels, whose margins are real too. Made once; a GPU needs about a minute."""
    folder = bench.work / f"student-{name}-{length}"
    if has_weights(folder):
        return folder
    train = bench.rows(20_000, 32)
    args = StudentConfig(
        output_dir=str(bench.work / "checkpoints"),
        num_train_epochs=bench.rows(3, 1),
        learning_rate=1e-4,
        per_device_train_batch_size=bench.rows(64, 16),
        logging_steps=50,
        bf16=bench.device.type == "cuda" and bench.dtype == "bfloat16",
        report_to="none",
        disable_tqdm=True,
        use_cpu=bench.device.type == "cpu",
    )
    gold, held = reviews(bench, train), reviews(bench, bench.rows(2000, 16), skip=train)
    task, start = load_task("imdb"), str(encoder(bench, name))
    found = train_student(
        task, start, folder, args, gold=gold, eval_data=held, max_length=length, head_share=1.0, baseline=False
    )
    what = f"{name}: accuracy of a training on {train:,} reviews"
    bench.note({"key": f"{name}.accuracy", "what": what, "value": 100 * found["eval"]["accuracy"], "unit": "%"})
    return folder


def minilm(bench: Bench) -> None:
    """MiniLM, or its like of random weights before its training, by each way of computing it."""
    measure(bench, ENCODER)


def distilbert(bench: Bench) -> None:
    """A student of the size of DistilBERT, by each way of computing it."""
    measure(bench, DISTIL)


@torch.inference_mode()
def ours(labeler: StudentLabeler, encoded: Encoded) -> torch.Tensor:
    """The logits of tokenised texts, as the package computes them."""
    return labeler._forward(encoded, None, None)[0]


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, and where they are computed."""

    rows: Sequence[Sequence[int]]
    pad: int
    device: torch.device

    def batches(self, step: int, fixed: bool) -> Iterator[Batch]:
        """
        Batches of texts that are padded to a multiple of `step` tokens; with `fixed` each to the rows of the first of its
        length, so that there are few shapes.
        """
        longest, widths = max(lengths_of(self.rows)), {}
        for i, n in enumerate(lengths_of(self.rows)):
            widths.setdefault(min(-(-n // step) * step, longest), []).append(i)
        for width, members in sorted(widths.items(), reverse=True):
            many = min(max(BUDGET // width, 1), len(members))
            for start in range(0, len(members), many):
                batch = members[start : start + many]
                yield batch, width, many if fixed else len(batch)

    def by_budget(self) -> Iterator[Batch]:
        """Batches of similar length, as the package cuts them."""
        lengths = lengths_of(self.rows)
        for batch in length_batches(lengths, BUDGET):
            yield batch, lengths[batch[0]], len(batch)

    def padded(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of a batch, on their way to the device; rows beyond the batch see one token."""
        members, width, count = batch
        lengths = np.zeros(count, np.int64)
        lengths[: len(members)] = [len(self.rows[i]) for i in members]
        own = np.arange(width) < lengths[:, None]
        ids = np.full((count, width), self.pad, np.int64)
        ids[own] = np.fromiter(chain.from_iterable(self.rows[i] for i in members), np.int64, int(lengths.sum()))
        own[len(members) :, 0] = True
        both = torch.from_numpy(ids), torch.from_numpy(own.astype(np.int64))
        if self.device.type == "cuda":
            both = both[0].pin_memory(), both[1].pin_memory()
        return both[0].to(self.device, non_blocking=True), both[1].to(self.device, non_blocking=True)

    @torch.inference_mode()
    def logits(self, batches: Iterator[Batch], forward: Forward) -> torch.Tensor:
        """The logits of all texts in their order. Nothing is waited for before the end."""
        order: list[int] = []
        parts = []
        for batch in batches:
            order += batch[0]
            parts.append(forward(*self.padded(batch))[: len(batch[0])].float())
        return torch.cat(parts).cpu()[torch.tensor(order).argsort()]


class Graphs:
    """A forward pass as CUDA graphs, one for each shape, captured when it comes first."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.known: dict[torch.Size, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self.memory = torch.cuda.graph_pool_handle()

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if ids.shape not in self.known:
            still, seen = ids.clone(), mask.clone()
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    self.forward(still, seen)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.memory):
                out = self.forward(still, seen)
            self.known[ids.shape] = graph, still, seen, out
        graph, still, seen, out = self.known[ids.shape]
        still.copy_(ids)
        seen.copy_(mask)
        graph.replay()
        return out.clone()


def ways(bench: Bench, folder: Path, texts: list[str]) -> dict[str, Callable[[], torch.Tensor] | str]:
    """By name what computes the logits of these texts, or why it cannot be tried here. The plain way comes first."""
    labeler = StudentLabeler(folder, device=str(bench.device), dtype=bench.dtype)
    encoded, loaded = labeler.encode(texts), labeler._load(None)
    model, device = loaded.model, bench.device
    tokens = Tokens(encoded.rows, loaded.tokenizer.pad_token_id, device)
    free = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=model.dtype, attn_implementation="sdpa", **SAFE
    )
    free.to(device).eval()
    # Compiling for a CPU takes longer than all else with tiny models: there only the capture of the program is tried.
    compiled = torch.compile(model, dynamic=True, backend="eager" if bench.tiny else "inductor")

    def masked(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).logits

    def flash() -> torch.Tensor:
        other = StudentLabeler(folder, device=str(device), dtype=bench.dtype, attention="flash_attention_2")
        return ours(other, encoded)

    found: dict[str, Callable[[], torch.Tensor] | str] = {
        "plain": lambda: ours(labeler, encoded),
        "copied from pinned memory, beside the computing": lambda: tokens.logits(tokens.by_budget(), masked),
        "texts of one length together, no mask": lambda: tokens.logits(
            tokens.batches(1, False), lambda ids, mask: free(input_ids=ids).logits
        ),
        "torch.compile": lambda: tokens.logits(
            tokens.batches(STEP, False), lambda ids, mask: compiled(input_ids=ids, attention_mask=mask).logits
        ),
        "flash_attention_2": flash if importlib.util.find_spec("flash_attn") else FLASH,
    }
    if device.type == "cuda":
        graphs = Graphs(masked)
        found["CUDA graphs"] = lambda: tokens.logits(tokens.batches(STEP, True), graphs)
    else:
        found["CUDA graphs"] = GRAPHS
    return found


def measure(bench: Bench, name: str) -> None:
    """
    Texts a second, share of the floor and agreement with float32 of each way, on the same tokenised texts. The fastest that
    agrees as much as is asked for, or as the plain way does, is kept.
    """
    length = STUDENTS[name]
    folder = trained(bench, name, length)
    texts = list(reviews(bench, bench.rows(20_000, 24))["text"])
    exact = StudentLabeler(folder, device=str(bench.device), dtype="float32")
    labels = ours(exact, exact.encode(texts)).argmax(1)
    free_models()
    tried = ways(bench, folder, texts)
    loaded = StudentLabeler(folder, device=str(bench.device), dtype=bench.dtype)._load(None)
    heads = read_once(loaded.model)
    rate = matmul_rate(linear_shapes(loaded.model, heads), bench.rows(BUDGET, 64), bench.device, loaded.model.dtype)
    title = f"{name}, {length} tokens"
    note = {"key": f"{name}.rate", "what": f"{title}: matrix products of its shapes"}
    bench.note({**note, "value": rate / 1e12, "unit": "TFLOP/s"})
    lengths = lengths_of(loaded.reading.encode(loaded.tokenizer, texts))
    floor = model_flops(loaded.model, lengths, skipped=heads) / rate
    best: dict = {}
    plain, least = 0.0, LEAST_AGREEMENT
    for way, run in tried.items():
        row = {"key": f"{name}.{way}", "what": f"{title}: {way}"}
        if isinstance(run, str):
            bench.note({**row, "missing": run})
            continue
        try:
            agreement = float((run().argmax(1) == labels).float().mean())
            seconds = seconds_of(run, bench.device)
        except Exception as error:  # noqa: BLE001  (a way that fails is a finding; the others are measured)
            bench.note({**row, "missing": f"failed: {type(error).__name__}: {error!s:.200}"})
            continue
        if way == "plain":
            plain, least = seconds, min(least, agreement)
        row |= {"value": len(texts) / seconds, "unit": "texts/s", "share": floor / seconds}
        row |= {"agreement": agreement, **({"times_plain": plain / seconds} if plain else {})}
        bench.note(row)
        if agreement >= least and row["value"] > best.get("value", 0):
            best = row
    if best:
        bench.note({**best, "key": f"{name}.best", "what": f"{title}: kept, {best['key'].partition('.')[2]}"})


def pool(bench: Bench) -> None:
    """A pool of Parquet to Parquet beside `pipeline` and `datasets.map`, all in one type."""
    length = STUDENTS[DISTIL]
    folder = trained(bench, DISTIL, length)
    rows = reviews(bench, bench.rows(100_000, 24)).select_columns("text")
    rows.to_parquet(str(bench.work / "pool.parquet"))
    texts = list(rows["text"])
    few = texts[: bench.rows(10_000, 8)]
    labeler = StudentLabeler(folder, device=str(bench.device))
    labeler.warm_up()

    def noted(what: str, count: int, seconds: float, **more: object) -> None:
        row = {"key": f"pool.{what}", "what": f"{DISTIL}, {length} tokens: {what}", "value": count / seconds}
        bench.note({**row, "unit": "texts/s", **more})

    output, shard = bench.work / "labels", bench.rows(20_000, 8)
    done = label_pool(bench.work / "pool.parquet", labeler, output, shard, False, overwrite=True)
    settings = {"dtype": labeler.settings()["dtype"], "agreement": done.get("agreement")}
    noted("label_pool, from Parquet to Parquet", len(texts), done["seconds"], **settings)
    noted("tokenising alone", len(few), seconds_of(lambda: labeler.encode(few), bench.device, 1))
    free_models()
    job = {"student": str(folder), "texts": few, "sizes": [4] if bench.tiny else [32, 128, 512], "length": length}
    job |= {"device": str(bench.device), "dtype": bench.dtype}
    done = rivals.run_pipeline(job)
    noted('pipeline("text-classification")', len(few), done["seconds"], batch_size=done["size"])
    noted("datasets.map, padded batches of 512", len(few), rivals.run_map(job)["seconds"])
    rate = square_rate(bench.device, getattr(torch, bench.dtype), bench.rows(8192, 256))
    what = "an L4's 876 texts/s of DistilBERT, scaled by the rate of bf16"
    bench.note({"key": "pool.l4", "what": what, "value": l4_budget(rate), "unit": "texts/s"})
