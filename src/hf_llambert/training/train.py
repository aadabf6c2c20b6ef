"""The training stage: labelled texts in, a folder with a measured student out."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig, get_peft_model
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from hf_llambert.data import check_column, content_hash, note_stage, stage_results, whole_folder
from hf_llambert.metrics import ClassificationQuality
from hf_llambert.models import content_id
from hf_llambert.tasks import ABSTAIN, TaskSpec
from hf_llambert.texts import why_unusable
from hf_llambert.training.figures import draw_mix, draw_training
from hf_llambert.training.losses import hard_targets, soften
from hf_llambert.training.students import Reading, StudentLabeler, longest_input, save_reading
from hf_llambert.training.trainer import StudentConfig, StudentTrainer

logger = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.parquet"


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
) -> dict:
    """
    Fine-tune a sequence classifier on silver labels, gold labels or both, and measure it on other gold labels.

    Args:
        task (`TaskSpec`): Names and order of the labels.
        student (`str`): Directory or Hub id of the encoder to start from.
        output (`str` or `Path`): Folder of the finished student, written whole or not at all. If it holds the result
            of this very call nothing is done.
        args (`StudentConfig`): Everything about the training; checkpoints go to its `output_dir`.
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
    labels = Counter(label for data in rows.values() for label in data["label"])
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
    done = stage_results(output, config)
    if done is not None:
        return done
    checkpoints_were_there = Path(str(args.output_dir)).exists()
    set_seed(args.seed)  # before the new classification head is drawn
    tokenizer, model = _load(task, student, revision)
    reading = Reading(min(max_length, longest_input(tokenizer, model)), head_share)
    eval_rows = None if eval_data is None else labelled_rows(eval_data, task, text_column, "evaluation")
    trainer = _trainer(model, tokenizer, reading, rows, eval_rows, task, copy.copy(args), text_column)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    results: dict = {
        "train": {
            "n": sum(len(data) for data in rows.values()),
            **{f"n_{name}": len(rows[name]) if name in rows else 0 for name in sources},
            "per_label": {name: labels[i] for i, name in task.id2label.items()},
            "seconds": time.perf_counter() - start,
            "seed": args.seed,
            "epochs": args.num_train_epochs,
            "processes": args.world_size,
            "student": Path(student).name if Path(student).is_dir() else student,
            "max_length": reading.max_length,
            "selection": list(selection),
            "history": trainer.state.log_history,
        }
    }
    if trainer.is_world_process_zero():
        with whole_folder(output) as part:
            _save(trainer, part)
            save_reading(part, reading, {"task": task.to_dict(), "arguments": _plain(args)})
            if eval_rows is not None:
                results["eval"] = evaluate_student(StudentLabeler(part, text_column), eval_rows, task, part)
            (part / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            draw_training(part / "training.png", trainer.state.log_history)
            if len(rows) == 2:
                draw_mix(part / "mix.png", trainer.state.log_history)
            note_stage(part, config, results)
        if not checkpoints_were_there and not Path(output).resolve().is_relative_to(
            Path(str(args.output_dir)).resolve()
        ):
            shutil.rmtree(str(args.output_dir), ignore_errors=True)  # what this very call made
    trainer.accelerator.wait_for_everyone()
    noted = stage_results(output, config)
    if noted is None:
        raise RuntimeError(f"The main process did not write '{output}'. Its error is above.")
    return noted


def evaluate_student(labeler: StudentLabeler, data: Dataset, task: TaskSpec, folder: str | Path | None = None) -> dict:
    """
    Measure a student on texts with gold labels in a `label` column. See [`ClassificationQuality`].

    With `folder`, its labels are written there too, for a paired comparison with another student (`compare_students`).
    """
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
    if folder is not None:
        Dataset.from_dict({"gold": data["label"][:], **out}).to_parquet(str(Path(folder) / EVALUATION_FILE))
    return {**(quality or {}), "texts_per_second": len(data) / labeler.seconds}


def out_of_fold(
    silver: Dataset,
    task: TaskSpec,
    student: str,
    output: str | Path,
    args: StudentConfig,
    folds: int = 3,
    **kwargs: object,
) -> np.ndarray:
    """
    What students that have not seen a row say of it, for [`drop_label_errors`].

    One student is trained for each fold on the rows of the others; finished folds in `output` are not trained again.

    Args:
        silver (`Dataset`): Rows with a `label`.
        task (`TaskSpec`): The labels.
        student (`str`): Encoder to start from.
        output (`str` or `Path`): Folder of the folds' students.
        args (`StudentConfig`): As the student itself will be trained.
        folds (`int`, defaults to 3): How many parts, each with rows of every label.
        kwargs: Further arguments of [`train_student`].

    Returns:
        `np.ndarray` of shape (rows, labels): Probabilities.
    """
    labels = silver["label"][:]
    fewest = min(Counter(labels).values())
    if not 2 <= folds <= fewest:
        raise ValueError(f"folds must be from 2 to {fewest} (the rows of the rarest label), got {folds}.")
    out = np.zeros((len(silver), task.num_labels))
    parts = StratifiedKFold(folds, shuffle=True, random_state=args.seed).split(labels, labels)
    for fold, (seen, held) in enumerate(parts):
        folder = Path(output) / f"fold-{fold}"
        train_student(task, student, folder, args, silver=silver.select(seen), eval_data=silver.select(held), **kwargs)  # type: ignore[arg-type]
        scores = Dataset.from_parquet(str(folder / EVALUATION_FILE))["student_scores"][:]
        out[held] = np.exp(scores)
        (folder / "model.safetensors").unlink(missing_ok=True)  # its answers are all that is needed
    return out


def labelled_rows(data: Dataset, task: TaskSpec, text_column: str, what: str) -> Dataset:
    """The rows that can be learnt from or measured on: with a text and a label."""
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


def training_rows(silver: Dataset | None, gold: Dataset | None, num_labels: int, args: StudentConfig) -> dict:
    """
    The columns `label`, `targets`, `weight` and `row` of [`StudentTrainer`] for `[silver | gold]`.

    Raises:
        ValueError: Soft targets or confidences are asked for and silver has none.
    """
    labels = [label for data in (silver, gold) if data is not None for label in data["label"]]
    targets = hard_targets(torch.tensor(labels), num_labels)
    weights = torch.ones(len(labels))
    num_silver = 0 if silver is None else len(silver)
    if silver is not None and args.soft_targets:
        if "probabilities" not in silver.column_names:
            raise ValueError(
                f"Column 'probabilities' not found in {silver.column_names}: soft_targets needs the teacher's "
                f"distributions. Annotate in score mode and pass calibration=... to select_silver."
            )
        targets[:num_silver] = soften(torch.tensor(silver["probabilities"][:]), args.target_temperature)
    if silver is not None and args.weight_by_confidence:
        if "llm_confidence" not in silver.column_names:
            raise ValueError(
                f"Column 'llm_confidence' not found in {silver.column_names}: no confidences to weigh by."
            )
        weights[:num_silver] = torch.tensor([1.0 if c is None else c for c in silver["llm_confidence"]])
    weights[num_silver:] *= args.gold_weight
    if args.class_balanced:
        totals = torch.zeros(num_labels).index_add(0, torch.tensor(labels), weights)
        weights /= totals[torch.tensor(labels)]
    return {
        "label": labels,
        "targets": soften(targets, smoothing=args.label_smoothing_factor).tolist(),
        "weight": (weights / weights.mean()).tolist(),
        "row": list(range(len(labels))),
    }


def _load(task: TaskSpec, student: str, revision: str | None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
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
    return tokenizer, model


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reading: Reading,
    rows: Mapping[str, Dataset],
    eval_rows: Dataset | None,
    task: TaskSpec,
    args: StudentConfig,
    text_column: str,
) -> StudentTrainer:
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # pinning is for copies to a GPU, and warns without one

    def encoded(data: Dataset) -> Dataset:
        texts = reading.encode(tokenizer, data[text_column][:])
        return Dataset.from_dict({"input_ids": texts, "label": data["label"][:]})

    measured: Dataset | dict[str, Dataset] | None = None if eval_rows is None else encoded(eval_rows)
    if args.dev_share:
        parts = {name: data.train_test_split(args.dev_share, seed=args.seed) for name, data in rows.items()}
        rows = {name: part["train"] for name, part in parts.items()}
        measured = {name: encoded(part["test"]) for name, part in parts.items()}
        args.metric_for_best_model = f"eval_{'gold' if 'gold' in rows else 'silver'}_accuracy"
    columns = training_rows(rows.get("silver"), rows.get("gold"), task.num_labels, args)
    texts = concatenate_datasets([data.select_columns(text_column) for data in rows.values()])
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
        train_dataset=Dataset.from_dict({"input_ids": reading.encode(tokenizer, texts[text_column][:]), **columns}),
        eval_dataset=measured,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=_scalar_metrics(task),
        callbacks=[args.mix_callback(len(rows["silver"]), len(rows["gold"]))] if len(rows) == 2 else None,
    )


def _save(trainer: StudentTrainer, folder: Path) -> None:
    """The student as plain transformers loads it: adapters merged."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.args.lora_rank:
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)  # type: ignore[union-attr]


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


def _plain(args: StudentConfig) -> dict:
    """The training arguments that were set, without paths, tokens and host names."""
    own = StudentConfig.__annotations__
    keep = (*own, "seed", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "bf16", "fp16")
    return {
        name: str(value) if not isinstance(value, (int, float, str)) else value
        for name in keep
        if (value := getattr(args, name)) is not None
    }
