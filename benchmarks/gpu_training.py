"""The trainings' parts of `gpu.py`: a step, its precisions, two processes on one GPU, and running out of memory."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path

import torch
from datasets import Dataset
from gpu_floor import linear_shapes, matmul_rate, model_flops, read_once, synchronize
from gpu_models import TEACHER, Bench, encoder, lengths_of, reviews, teacher
from gpu_student import DISTIL, ours, trained
from gpu_teacher import QUESTION
from teacher import TOKENS
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from hf_llambert import StudentConfig, StudentLabeler, StudentTrainer, label_pool, load_task, read_pool, train_student
from hf_llambert.models import free_models
from hf_llambert.processes import launched, world_size
from hf_llambert.training.inputs import Reading
from hf_llambert.training.loading import new_classifier

LENGTH = 256
PRECISIONS = {"float32": {}, "bfloat16": {"bf16": True}, "float16": {"fp16": True}}
FP16 = "float16 trains on GPUs only"


@dataclass
class Clock(TrainerCallback):
    """When the steps that count began and ended."""

    device: torch.device
    skipped: int
    begun: float = 0.0
    ended: float = 0.0
    steps: int = field(default=0)

    def on_step_end(self, args: TrainingArguments, state: object, control: object, **kwargs: object) -> None:
        """Look at the clock after the last step that is skipped, and after the last."""
        self.steps += 1
        if self.steps in (self.skipped, args.max_steps):
            synchronize(self.device)
            self.begun, self.ended = self.ended, time.perf_counter()


def settings(bench: Bench, folder: str, batch: int, steps: int, **more: object) -> dict[str, object]:
    """The training arguments that the plain trainer and ours have in common."""
    here = bench.device.type == "cpu"
    return {
        "output_dir": str(bench.work / folder),
        "per_device_train_batch_size": batch,
        "max_steps": steps,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "train_sampling_strategy": "group_by_length",
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": here,
        "dataloader_pin_memory": not here,
        **more,
    }


def training(bench: Bench) -> None:
    """A step of `StudentTrainer` beside one of `Trainer`, in bf16, and what each precision takes and learns."""
    batch, steps, skipped = bench.rows(64, 4), bench.rows(110, 3), bench.rows(10, 1)
    start = str(encoder(bench, DISTIL))
    tokenizer, model = new_classifier(load_task("imdb"), start)
    gold = reviews(bench, bench.rows(8192, 24))
    ids = Reading(LENGTH).encode(tokenizer, list(gold["text"]))
    data = Dataset.from_dict({"input_ids": ids, "label": gold["label"]})
    dtype = torch.bfloat16
    heads = read_once(model)
    rate = matmul_rate(linear_shapes(model, heads), bench.rows(batch * LENGTH, 64), bench.device, dtype)
    lengths = lengths_of(ids)
    flops = (
        3 * model_flops(model, lengths, skipped=heads) / len(lengths) * batch
    )  # backward takes twice as many as forward

    def run(kind: type[Trainer], precision: str) -> tuple[float, float]:
        """Seconds of a step, and the mean loss."""
        torch.manual_seed(0)
        model = new_classifier(load_task("imdb"), start)[1]  # anew: a trainer leaves its precision in the model
        clock = Clock(bench.device, skipped)
        arguments = settings(bench, "steps", batch, steps, **PRECISIONS[precision])
        args = StudentConfig(**arguments) if kind is StudentTrainer else TrainingArguments(**arguments)
        mixes = [args.mix_callback(0, len(data))] if isinstance(args, StudentConfig) else []
        trainer = kind(
            model,
            args,
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            callbacks=[clock, *mixes],
        )
        loss = trainer.train().training_loss
        return (clock.ended - clock.begun) / (steps - skipped), loss

    def noted(key: str, what: str, seconds: float, loss: float, **more: object) -> None:
        row = {"key": f"training.{key}", "what": f"{DISTIL}, {batch} × {LENGTH} tokens: {what}", "loss": loss}
        bench.note({**row, "value": batch / seconds, "unit": "texts/s", "share": flops / rate / seconds, **more})
        if not math.isfinite(loss):
            raise RuntimeError(f"{what}: the loss is {loss}.")

    plain, loss = run(Trainer, "bfloat16")
    noted("plain", "a step of the plain Trainer, bfloat16", plain, loss)
    for precision in PRECISIONS:
        if precision == "float16" and bench.device.type == "cpu":
            bench.note({"key": "training.float16", "what": f"{DISTIL}: float16", "missing": FP16})
            continue
        seconds, loss = run(StudentTrainer, precision)
        what = f"a step of StudentTrainer, {precision}"
        noted(precision, what, seconds, loss, **({"times_plain": plain / seconds} if precision == "bfloat16" else {}))


def share(bench: Bench, folder: Path, student: Path | None) -> dict:
    """Train and label, as one of however many processes were started; `student` labels, or what was trained."""
    cpu = bench.device.type == "cpu"
    # NCCL wants a GPU for each process.
    backend = {"ddp_backend": "gloo"} if world_size() > 1 else {}
    args = StudentConfig(
        **settings(bench, f"{folder.name}-steps", bench.rows(32, 4), bench.rows(60, 2), **backend),
        bf16=not cpu and bench.dtype == "bfloat16",
    )
    gold = reviews(bench, bench.rows(4000, 16))
    start, began = str(encoder(bench, DISTIL)), time.perf_counter()
    done = train_student(load_task("imdb"), start, folder / "student", args, gold=gold, max_length=LENGTH)
    seconds = time.perf_counter() - began
    labeler = StudentLabeler(student or folder / "student", device=None if not cpu else "cpu")
    labeler.warm_up()
    began = time.perf_counter()
    label_pool(folder.parent / "shared.parquet", labeler, folder / "labels", bench.rows(5000, 8), False)
    found = {"training": seconds, "labeling": time.perf_counter() - began}
    return {"processes": launched()[1], "trained": done["train"]["processes"], **found}


def processes(bench: Bench) -> None:
    """A training and a pool by two processes that share one GPU, against one process."""
    one, two = bench.work / "one", bench.work / "two"
    for folder in (one, two):  # of a run that was stopped: what is done would not be timed
        shutil.rmtree(folder, ignore_errors=True)
    encoder(bench, DISTIL)  # before two would make it at once
    reviews(bench, bench.rows(40_000, 24)).select_columns("text").to_parquet(str(bench.work / "shared.parquet"))
    alone = share(bench, one, None)
    free_models()
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    script = [str(Path(__file__).with_name("gpu.py")), "--one_of_two", str(two), "--student", str(one / "student")]
    script += ["--assets", str(bench.assets), "--work", str(bench.work), *(["--tiny"] if bench.tiny else [])]
    place = {"ACCELERATE_USE_CPU": "true"} if bench.device.type == "cpu" else {}
    done = subprocess.run([*launch, *script], env={**os.environ, **place}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Two processes ended with {done.returncode}:\n{done.stderr[-3000:]}")
    both = json.loads(done.stdout.strip().splitlines()[-1])
    if (both["processes"], both["trained"]) != (2, 2):
        raise RuntimeError(f"Expected two processes, got {both}.")
    labels = [read_pool(folder / "labels")["student_label"][:] for folder in (one, two)]
    agreement = sum(a == b for a, b in zip(*labels, strict=True)) / len(labels[0])
    row = {"key": "processes.labels", "what": f"{DISTIL}: two processes on one device, labels as one process's"}
    bench.note({**row, "value": 100 * agreement, "unit": "%"})
    for name, what in {"training": "a training of as many steps", "labeling": "a pool"}.items():
        row = {"key": f"processes.{name}", "what": f"{DISTIL}: two processes on one device, {what}"}
        bench.note({**row, "value": both[name] / alone[name], "unit": "times the seconds of one"})


def one_of_two(bench: Bench, folder: Path, student: Path) -> None:
    """What each of the two processes runs."""
    if torch.cuda.device_count() == 1:
        os.environ["LOCAL_RANK"] = "0"  # both have the one GPU: accelerate hands DDP the GPU of that number
    found = share(bench, folder, student)
    if launched()[0] == 0:
        sys.stdout.write(json.dumps(found) + "\n")


@contextmanager
def little_memory(model: PreTrainedModel, used: int, rows: int) -> Iterator[None]:
    """
    Leave about half of what a run needed: of the GPU's memory; on a CPU, where nothing runs out, the model raises as PyTorch
    does as soon as a batch has more than half as many token ids.

    Args:
        model: In memory.
        used: Bytes that the run took beside what was there before, at its peak.
        rows: Token ids of its largest batch.
    """
    device = model.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + used // 2) / total, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    forward = model.forward

    @wraps(forward)  # its arguments say which columns a trainer keeps
    def small_only(*args: object, **kwargs: object) -> object:
        if kwargs["input_ids"].numel() > rows // 2:
            raise torch.OutOfMemoryError("CUDA out of memory. (simulated at the edge)")
        return forward(*args, **kwargs)

    model.forward = small_only
    try:
        yield
    finally:
        model.forward = forward


def peak(model: PreTrainedModel, run: Callable[[], object]) -> tuple[object, int, int]:
    """What a run gives, how many bytes of a GPU it took beside what was there, and the token ids of its largest batch."""
    seen = [0]

    def look(module: object, args: object, kwargs: dict) -> None:
        seen.append(kwargs["input_ids"].numel())

    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    cuda = model.device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        found = run()
    finally:
        handle.remove()
    return found, (torch.cuda.max_memory_allocated() - before if cuda else 0), max(seen)


def memory(bench: Bench) -> None:
    """Too little memory for teacher, student and training, provoked: each must end with what it gives with enough."""
    asked = teacher(bench.assets / TEACHER, max_text_tokens=TOKENS, device=str(bench.device), dtype=bench.dtype)
    engine, task = asked._load(None), load_task(QUESTION)
    texts = list(reviews(bench, bench.rows(1024, 12))["text"])

    def noted(key: str, what: str, apart: float, tokens: int) -> None:
        row = {"key": f"memory.{key}", "what": f"memory runs out: {what}", "value": apart, "tokens": tokens}
        bench.note({**row, "unit": "largest difference"})

    def scores() -> list[tuple[float, ...]]:
        replies = {i: reply for part in asked.ask(task, texts) for i, reply in part.items()}
        if lost := [reply.error for reply in replies.values() if reply.scores is None]:
            raise RuntimeError(f"{len(lost)} texts have no scores: {lost[0]}")
        return [replies[i].scores for i in range(len(texts))]

    expected, used, rows = peak(engine.model, scores)
    with little_memory(engine.model, used, rows):
        found = scores()
    check_halved("teacher", engine._budget._most)
    apart = max(
        abs(a - b) for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=True)
    )
    noted("teacher", "the teacher's scores", apart, engine._budget._most)
    del engine
    free_models()
    labeler = StudentLabeler(trained(bench, DISTIL, 100), device=str(bench.device), dtype=bench.dtype)
    encoded, loaded = labeler.encode(texts * bench.rows(8, 1)), labeler._load(None)
    if loaded.model is None:
        raise RuntimeError("The student has no model of PyTorch.")
    expected, used, rows = peak(loaded.model, lambda: ours(labeler, encoded))
    with little_memory(loaded.model, used, rows):
        logits = ours(labeler, encoded)
    check_halved("student", loaded.budget._most)
    noted("student", "the student's logits", float((logits - expected).abs().max()), loaded.budget._most)
    del loaded
    free_models()
    smaller_batches(bench)


def check_halved(what: str, budget: int) -> None:
    """Memory must have run out, or nothing was shown."""
    if budget == 2**31:
        raise RuntimeError(f"Memory did not run out for the {what}: nothing was shown.")


def smaller_batches(bench: Bench) -> None:
    """A training that finds its batch size where memory runs out."""
    tokenizer, model = new_classifier(load_task("imdb"), str(encoder(bench, DISTIL)))
    batch = bench.rows(64, 8)
    gold = reviews(bench, 2 * batch)
    ids = [(row * LENGTH)[:LENGTH] for row in Reading(LENGTH).encode(tokenizer, list(gold["text"]))]  # all as long
    data = Dataset.from_dict({"input_ids": ids, "label": gold["label"]})
    model.to(bench.device)

    def train(name: str, **more: object) -> int:
        """Two steps. Returns the batch size in the end."""
        args = StudentConfig(**settings(bench, name, batch, 2, **more))
        trainer = StudentTrainer(
            model,
            args,
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            callbacks=[args.mix_callback(0, len(data))],
        )
        trainer.train()
        return trainer._train_batch_size

    _, used, rows = peak(model, lambda: train("enough"))
    model.zero_grad(set_to_none=True)
    free_models()
    with little_memory(model, used, rows):
        found = train("little", auto_find_batch_size=True)
    if not found < batch:
        raise RuntimeError(f"Memory did not run out in the training: batches of {found}.")
    row = {"key": "memory.training", "what": f"memory runs out: a training of batches of {batch} ends with batches of"}
    bench.note({**row, "value": found, "unit": "texts"})
