"""The training stage: labelled texts in, a folder with a measured student out."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from hf_llambert.data import content_hash, note_stage, stage_results, whole_folder
from hf_llambert.models import content_id
from hf_llambert.notes import TRAINED
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.evaluation import evaluate_student, scalar_metrics
from hf_llambert.training.figures import draw_mix, draw_training
from hf_llambert.training.loading import SAFE, fit_pad_token, load_tokenizer, longest_input
from hf_llambert.training.rows import kept_back, labelled_rows, training_rows, warn_of_shared_texts
from hf_llambert.training.students import Reading, StudentLabeler, save_reading
from hf_llambert.training.trainer import StudentConfig, StudentTrainer

logger = logging.getLogger(__name__)

SILVER_FILE = "silver.parquet"
ADAPTER_FOLDER = "adapter"


def train_student(
    task: TaskSpec,
    student: str,
    output: str | Path,
    args: StudentConfig,
    *,
    silver: Dataset | None = None,
    gold: Dataset | None = None,
    eval_data: Dataset | None = None,
    text_column: str = "text",
    max_length: int = 256,
    head_share: float = 0.5,
    revision: str | None = None,
    selection: Sequence[dict] = (),
    eval_name: str = "held-out texts",
) -> dict:
    """
    Fine-tune a sequence classifier on silver labels, gold labels or both, and measure it on other gold labels.

    Args:
        task (`TaskSpec`): Names and order of the labels.
        student (`str`): Directory or Hub id of the encoder to start from.
        output (`str` or `Path`): Folder of the finished student, written whole or not at all. If it holds the result
            of this very call nothing is done.
        args (`StudentConfig`): Everything about the training. Checkpoints go to a folder of this call's own in its
            `output_dir`, so that `resume_from_checkpoint=True` goes on with this training and never with another; they stay
            if `save_strategy` asked for them.
        silver (`Dataset`, *optional*): Texts labelled by a teacher, from [`select_silver`].
        gold (`Dataset`, *optional*): Texts labelled by people, from [`with_gold`]. Beside silver, `args.mix` says when
            each is drawn.
        eval_data (`Dataset`, *optional*): Texts with gold labels in a `label` column. Only measured on, never learnt
            from; nothing is chosen by it unless `args` asks for it (`load_best_model_at_end` without `dev_share`).
        text_column (`str`, defaults to `"text"`): Column of the texts in all of them.
        max_length (`int`, defaults to 256): Longest input in tokens; a longer text loses its middle.
        head_share (`float`, defaults to 0.5): Share of a cut text that is taken from its beginning.
        revision (`str`, *optional*): Revision of a Hub id.
        selection (`Sequence[dict]`, *optional*): The counts of [`select_silver`], noted for the report.
        eval_name (`str`, defaults to `"held-out texts"`): What `eval_data` is, for the report and the model card.

    Returns:
        `dict`: `train` (rows, seconds, loss history, seed) and, with `eval_data`, `eval` (see
        [`ClassificationQuality`]); also written to `metrics.json`.

    Raises:
        FileExistsError: `output` holds the results of another run.
        ValueError: No column, no usable row, or fewer than two labels to learn.
    """
    sources = {"silver": silver, "gold": gold}
    rows = {name: labelled_rows(d, task, text_column, name) for name, d in sources.items() if d is not None}
    if not rows:
        raise ValueError("Nothing to train on. Pass silver, gold or both.")
    labels = _labels(rows)
    if len(labels) < 2:
        raise ValueError(
            f"A student needs at least two labels to tell apart; all {sum(labels.values())} training rows have label "
            f"{sorted(labels)}."
        )
    config = {
        "task": task.to_dict(),
        "student": content_id(student, revision),
        **{name: content_hash(rows[name]) if name in rows else None for name in sources},
        "eval_data": None if eval_data is None else content_hash(eval_data),
        "text_column": text_column,
        "max_length": max_length,
        "head_share": head_share,
        "arguments": _decisive(args),
    }
    done = stage_results(output, config, TRAINED)
    if done is not None:
        return done
    args = _own_folder(args, config)
    rows, dev = kept_back(rows, args, text_column)
    eval_rows = None if eval_data is None else labelled_rows(eval_data, task, text_column, "evaluation")
    if eval_rows is not None:
        warn_of_shared_texts(rows, eval_rows, text_column)
    set_seed(args.seed)  # before the new classification head is drawn
    tokenizer, model = _load(task, student, revision)
    reading = Reading(min(max_length, longest_input(tokenizer, model)), head_share)
    trainer = _trainer(model, tokenizer, reading, rows, dev or eval_rows, task, args, text_column)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    results: dict = {
        "train": {
            "n": sum(len(data) for data in rows.values()),
            **{f"n_{name}": len(rows[name]) if name in rows else 0 for name in sources},
            "n_dev": sum(len(data) for data in dev.values()),
            "per_label": {name: _labels(rows)[i] for i, name in task.id2label.items()},
            "seconds": time.perf_counter() - start,
            "seed": args.seed,
            "epochs": round(trainer.state.epoch or 0, 2),
            "processes": args.world_size,
            "student": Path(student).name if Path(student).is_dir() else student,
            "max_length": reading.max_length,
            "selection": list(selection),
            "history": trainer.state.log_history,
        }
    }
    if trainer.is_world_process_zero():
        with whole_folder(output) as part:
            _save(trainer, part, reading, results["train"]["student"])
            if "silver" in rows:
                rows["silver"].to_parquet(str(part / SILVER_FILE))
            save_reading(part, reading, {"task": task.to_dict(), "arguments": _plain(args)})
            if eval_rows is not None:
                measured = evaluate_student(StudentLabeler(part, text_column), eval_rows, task, part)
                results["eval"] = {**measured, "source": eval_name}
            (part / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            draw_training(part / "training.png", trainer.state.log_history)
            if len(rows) == 2:
                draw_mix(part / "mix.png", trainer.state.log_history)
            note_stage(part, config, results)
    if args.push_to_hub:
        trainer.push_to_hub()
    if trainer.is_world_process_zero() and (args.save_strategy == "no" or dev):
        shutil.rmtree(str(args.output_dir), ignore_errors=True)
        with contextlib.suppress(OSError):  # where others are at work, or were
            Path(str(args.output_dir)).parent.rmdir()
    trainer.accelerator.wait_for_everyone()
    noted = stage_results(output, config, TRAINED)
    if noted is None:
        raise RuntimeError(f"The main process did not write '{output}'. Its error is above.")
    return noted


def _own_folder(args: StudentConfig, config: Mapping[str, object]) -> StudentConfig:
    """The arguments with checkpoints in a folder that no other training uses, to go on with if there are any."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    own = copy.copy(args)
    own.output_dir = str(Path(str(args.output_dir)) / digest)
    if str(args.resume_from_checkpoint).lower() in ("true", "false", "none"):
        asked = str(args.resume_from_checkpoint).lower() == "true"
        there = asked and Path(own.output_dir).is_dir()
        own.resume_from_checkpoint = get_last_checkpoint(own.output_dir) if there else None
    return own


def _labels(rows: Mapping[str, Dataset]) -> Counter[int]:
    return Counter(label for data in rows.values() for label in data["label"])


def _load(task: TaskSpec, student: str, revision: str | None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    tokenizer = load_tokenizer(student, revision)
    model = AutoModelForSequenceClassification.from_pretrained(
        student,
        revision=revision,
        id2label=task.id2label,
        label2id={name: i for i, name in task.id2label.items()},
        ignore_mismatched_sizes=True,
        dtype=torch.float32,  # whatever the checkpoint has; mixed precision is for bf16 and fp16 of the arguments
        **SAFE,
    )
    fit_pad_token(tokenizer, model)
    return tokenizer, model


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reading: Reading,
    rows: Mapping[str, Dataset],
    measured_on: Dataset | Mapping[str, Dataset] | None,
    task: TaskSpec,
    args: StudentConfig,
    text_column: str,
) -> StudentTrainer:
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # pinning is for copies to a GPU, and warns without one

    def encoded(data: Dataset) -> Dataset:
        texts = reading.encode(tokenizer, data[text_column][:])
        return Dataset.from_dict({"input_ids": texts, "label": data["label"][:]})

    measured: Dataset | dict[str, Dataset] | None = None
    if isinstance(measured_on, Mapping):
        measured = {name: encoded(data) for name, data in measured_on.items()}
        args.metric_for_best_model = f"eval_{'gold' if 'gold' in measured else 'silver'}_accuracy"
    elif measured_on is not None:
        measured = encoded(measured_on)
    columns = training_rows(rows.get("silver"), rows.get("gold"), task.num_labels, args)
    texts = [
        text for data in rows.values() for text in data[text_column][:]
    ]  # large_string and string do not concatenate
    if args.freeze_encoder:
        model.base_model.requires_grad_(False)
    if args.lora_rank:
        lora = LoraConfig(
            r=args.lora_rank, lora_alpha=2 * args.lora_rank, target_modules="all-linear", task_type="SEQ_CLS"
        )
        model = get_peft_model(model, lora)  # type: ignore[assignment]
    return StudentTrainer(
        model,
        args,
        train_dataset=Dataset.from_dict({"input_ids": reading.encode(tokenizer, texts), **columns}),
        eval_dataset=measured,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=scalar_metrics(task),
        callbacks=[args.mix_callback(len(rows["silver"]), len(rows["gold"]))] if len(rows) == 2 else None,
    )


def _save(trainer: StudentTrainer, folder: Path, reading: Reading, start: str) -> None:
    """The student as plain transformers loads it: adapters merged, and kept beside it."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.args.lora_rank:
        model.peft_config["default"].base_model_name_or_path = start  # a name, no path of this machine
        model.save_pretrained(folder / ADAPTER_FOLDER)
        (folder / ADAPTER_FOLDER / "README.md").unlink(missing_ok=True)  # an empty form
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer = trainer.processing_class
    tokenizer.model_max_length = reading.max_length  # type: ignore[union-attr]  # what pipeline(truncation=True) cuts to
    tokenizer.save_pretrained(folder)  # type: ignore[union-attr]


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


def _plain(args: StudentConfig) -> dict:
    """The training arguments that were set, without paths, tokens and host names."""
    own = StudentConfig.__annotations__
    keep = (*own, "seed", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "bf16", "fp16")
    return {
        name: str(value) if not isinstance(value, (int, float, str)) else value
        for name in keep
        if (value := getattr(args, name)) is not None
    }
