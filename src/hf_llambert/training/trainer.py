"""Fine-tuning a student with the stock `Trainer`."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_llambert.data import check_column, content_hash, note_stage, stage_results, whole_folder
from hf_llambert.metrics import ClassificationQuality
from hf_llambert.models import content_id
from hf_llambert.tasks import ABSTAIN, TaskSpec
from hf_llambert.texts import why_unusable
from hf_llambert.training.students import Reading, StudentLabeler, longest_input, save_reading

logger = logging.getLogger(__name__)

STUDENT_DEFAULTS: dict[str, object] = {
    "num_train_epochs": 6,
    "per_device_train_batch_size": 16,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "train_sampling_strategy": "group_by_length",
    "logging_steps": 5,
    "save_strategy": "no",
    "report_to": "none",
}
"""Training arguments that suit some hundred to some thousand labels. `warmup_steps` below 1 is a share of all steps."""


def train_student(
    train_data: Dataset,
    task: TaskSpec,
    student: str,
    output: str | Path,
    args: TrainingArguments,
    *,
    text_column: str = "text",
    max_length: int = 256,
    head_share: float = 0.5,
    revision: str | None = None,
    eval_data: Dataset | None = None,
) -> dict:
    """
    Fine-tune a sequence classifier on labelled texts and measure it on others.

    Args:
        train_data (`Dataset`): Texts with a `label` column of the task's ids, such as [`select_silver`] gives.
        task (`TaskSpec`): Names and order of the labels.
        student (`str`): Directory or Hub id of the encoder to start from.
        output (`str` or `Path`): Folder of the finished student, written whole or not at all. If it holds the result
            of this very call nothing is done.
        args (`TrainingArguments`): Everything about the training; checkpoints go to its `output_dir`.
        text_column (`str`, defaults to `"text"`): Column of the texts in both datasets.
        max_length (`int`, defaults to 256): Longest input in tokens; a longer text loses its middle.
        head_share (`float`, defaults to 0.5): Share of a cut text that is taken from its beginning.
        revision (`str`, *optional*): Revision of a Hub id.
        eval_data (`Dataset`, *optional*): Texts with gold labels in a `label` column. Only measured on, never learnt
            from; nothing is chosen by it unless `args` asks for it (`load_best_model_at_end`).

    Returns:
        `dict`: `train` (rows, seconds, loss history, seed) and, with `eval_data`, `eval` (see
        [`ClassificationQuality`]); also written to `metrics.json`.

    Raises:
        FileExistsError: `output` holds the results of another run.
        ValueError: No column, no usable row, or fewer than two labels to learn.
    """
    train_data = _labelled(train_data, task, text_column, "training")
    if len(set(train_data["label"])) < 2:
        raise ValueError(
            f"A student needs at least two labels to tell apart; all {len(train_data)} training rows have label "
            f"{sorted(set(train_data['label']))}."
        )
    config = {
        "task": task.to_dict(),
        "student": content_id(student, revision),
        "train_data": content_hash(train_data),
        "eval_data": None if eval_data is None else content_hash(eval_data),
        "text_column": text_column,
        "max_length": max_length,
        "head_share": head_share,
        "arguments": _decisive(args),
    }
    done = stage_results(output, config)
    if done is not None:
        return done
    checkpoints_were_there = Path(str(args.output_dir)).exists()
    set_seed(args.seed)  # before the new classification head is drawn
    tokenizer = AutoTokenizer.from_pretrained(student, revision=revision)
    model = AutoModelForSequenceClassification.from_pretrained(
        student,
        revision=revision,
        id2label=task.id2label,
        label2id={name: i for i, name in task.id2label.items()},
        ignore_mismatched_sizes=True,
        dtype=torch.float32,  # whatever the checkpoint has; mixed precision is for bf16 and fp16 of the arguments
        use_safetensors=True,
    )
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # pinning is for copies to a GPU, and warns without one
    reading = Reading(min(max_length, longest_input(tokenizer, model)), head_share)
    eval_rows = None if eval_data is None else _labelled(eval_data, task, text_column, "evaluation")
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=_encode(train_data, tokenizer, reading, text_column),
        eval_dataset=None if eval_rows is None else _encode(eval_rows, tokenizer, reading, text_column),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=_scalar_metrics(task),
    )
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    results: dict = {
        "train": {
            "n": len(train_data),
            "per_label": {name: train_data["label"][:].count(i) for i, name in task.id2label.items()},
            "seconds": time.perf_counter() - start,
            "seed": args.seed,
            "epochs": args.num_train_epochs,
            "processes": args.world_size,
            "student": Path(student).name if Path(student).is_dir() else student,
            "max_length": reading.max_length,
            "history": trainer.state.log_history,
        }
    }
    if trainer.is_world_process_zero():
        with whole_folder(output) as part:
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(part)
            tokenizer.save_pretrained(part)
            save_reading(part, reading, {"task": task.to_dict(), "arguments": _plain(args)})
            if eval_rows is not None:
                results["eval"] = evaluate_student(StudentLabeler(part, text_column), eval_rows, task)
            (part / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            _draw_training(part / "training.png", trainer.state.log_history)
            note_stage(part, config, results)
        if not checkpoints_were_there and not Path(output).resolve().is_relative_to(
            Path(str(args.output_dir)).resolve()
        ):
            shutil.rmtree(str(args.output_dir), ignore_errors=True)  # what this very call made
    trainer.accelerator.wait_for_everyone()
    return results


def evaluate_student(labeler: StudentLabeler, data: Dataset, task: TaskSpec) -> dict:
    """Measure a student on texts with gold labels in a `label` column. See [`ClassificationQuality`]."""
    if labeler.labels != task.labels:
        raise ValueError(f"The student has the labels {labeler.labels}, task '{task.name}' has {task.labels}.")
    labeler.warm_up()
    out = labeler.label(data[labeler.text_column][:])
    quality = ClassificationQuality(keep_in_memory=True).compute(
        predictions=out["student_label"],
        references=data["label"][:],
        labels=task.labels,
        confidences=out["student_confidence"],
    )
    return {**(quality or {}), "texts_per_second": len(data) / labeler.seconds}


def _labelled(data: Dataset, task: TaskSpec, text_column: str, what: str) -> Dataset:
    """The rows that can be learnt from or measured on."""
    check_column(data, text_column, "text_column")
    check_column(data, "label", "label_column")
    names = getattr(data.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise ValueError(
            f"The {what} data has the labels {names}, task '{task.name}' {list(task.labels)}. Use with_gold."
        )
    texts, labels = data[text_column][:], data["label"][:]
    usable = [i for i, label in enumerate(labels) if label not in (None, ABSTAIN) and why_unusable(texts[i]) is None]
    if len(usable) < len(data):
        logger.warning(
            "%d of %d %s rows have no text or no label and are left out.", len(data) - len(usable), len(data), what
        )
    if not usable:
        raise ValueError(f"None of the {len(data)} {what} rows has both a text and a label.")
    return data.select(usable)


def _encode(data: Dataset, tokenizer: object, reading: Reading, text_column: str) -> Dataset:
    columns = {"input_ids": reading.encode(tokenizer, data[text_column][:]), "label": data["label"][:]}  # type: ignore[arg-type]
    return Dataset.from_dict(columns)


def _scalar_metrics(task: TaskSpec) -> Callable[[EvalPrediction], dict[str, float]]:
    def compute(prediction: EvalPrediction) -> dict[str, float]:
        p = softmax(np.asarray(prediction.predictions), axis=1)
        quality = ClassificationQuality(keep_in_memory=True).compute(
            predictions=p.argmax(1), references=prediction.label_ids, labels=task.labels, confidences=p.max(1)
        )
        return {name: value for name, value in (quality or {}).items() if isinstance(value, (int, float))}

    return compute


_NO_MATTER = (
    "dir",
    "log",
    "hub",
    "report_to",
    "disable_tqdm",
    "run_name",
    "ddp",
    "save",
    "resume",
    "dataloader_",
    "local_rank",
)


def _decisive(args: TrainingArguments) -> dict:
    """All training arguments but those that cannot change the student: places, logging, checkpoints, workers."""
    return {
        name: json.loads(json.dumps(value, default=str))
        for name, value in args.to_dict().items()
        if not any(part in name for part in _NO_MATTER)
    }


def _plain(args: TrainingArguments) -> dict:
    """Training arguments without paths, tokens and host names."""
    keep = (*STUDENT_DEFAULTS, "seed", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "bf16", "fp16")
    return {
        name: str(value) if not isinstance(value, (int, float, str)) else value
        for name in keep
        if (value := getattr(args, name)) is not None
    }


def _draw_training(path: Path, history: list[dict]) -> None:
    """Loss by step and, where it was measured on the way, accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    loss = [(row["step"], row["loss"]) for row in history if "loss" in row]
    if loss:
        axes.plot(*zip(*loss, strict=True), color="#0072b2", label="training loss")
    axes.set(xlabel="step", ylabel="training loss", title="Training of the student", ylim=(0, None))
    accuracy = [(row["step"], row["eval_accuracy"]) for row in history if "eval_accuracy" in row]
    if accuracy:
        right = axes.twinx()
        right.plot(*zip(*accuracy, strict=True), "o-", color="#d55e00", label="accuracy on evaluation data")
        right.set(ylabel="accuracy on evaluation data", ylim=(0, 1))
    if loss or accuracy:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
