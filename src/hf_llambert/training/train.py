"""The training stage: labelled texts in, a folder with a measured student out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.data import content_hash, note_stage, stage_results, whole_folder, write_whole
from hf_llambert.models import content_id, free_models
from hf_llambert.notes import TRAINED
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts
from hf_llambert.training.ending import gathered, refuse_lost, tuned
from hf_llambert.training.evaluation import CHOSEN_BY, evaluate_student, scalar_metrics
from hf_llambert.training.figures import draw_mix, draw_training
from hf_llambert.training.heads import Head, begin_at_priors, heads_of, is_plain
from hf_llambert.training.inputs import Reading, save_reading, token_types
from hf_llambert.training.loading import longest_input, new_classifier
from hf_llambert.training.resuming import decisive, own_folder
from hf_llambert.training.rows import (
    all_answers,
    check_arguments,
    check_variety,
    for_thresholds,
    kept_back,
    labelled_rows,
    measured_labels,
    rows_note,
    training_rows,
    warn_of_shared_texts,
)
from hf_llambert.training.students import StudentLabeler
from hf_llambert.training.train_fast import METRICS_FILE, words_baseline
from hf_llambert.training.trainer import OF_KIND, StudentConfig, StudentTrainer
from hf_llambert.whole import room_needed

SILVER_FILE, GOLD_FILE = "silver.parquet", "gold.parquet"
"""Beside a student: what it learnt. Gold is not published."""
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
    text_column: TextColumn = "text",
    max_length: int = 256,
    head_share: float = 0.5,
    revision: str | None = None,
    selection: Sequence[dict] = (),
    eval_name: str = "held-out texts",
    baseline: bool = True,
) -> dict:
    """
    Fine-tune a sequence classifier on silver labels, gold labels or both, and measure it on other gold labels.

    The student is on disk before it is measured: where measuring fails, the same call measures it and trains nothing.

    Args:
        task (`TaskSpec`): Names and order of the labels.
        student (`str`): Directory or Hub id of the encoder to start from.
        output (`str` or `Path`): Folder of the student, written whole or not at all. If it holds the result of this very
            call nothing is done.
        args (`StudentConfig`): Everything about the training. Checkpoints go to a folder of this call's own in its
            `output_dir`, so that `resume_from_checkpoint=True` goes on with this training and never with another; they stay
            if `save_strategy` asked for them.
        silver (`Dataset`, *optional*): Texts labelled by a teacher, from [`select_silver`].
        gold (`Dataset`, *optional*): Texts labelled by people, from [`with_gold`]. Beside silver, `args.mix` says when
            each is drawn.
        eval_data (`Dataset`, *optional*): Texts with gold labels in a `label` column. Only measured on, never learnt
            from; nothing is chosen by it unless `args` asks for it (`load_best_model_at_end` without `dev_share`).
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts in all of them. A task of other
            fields has their columns beside it; see [`TaskSpec.columns`].
        max_length (`int`, defaults to 256): Longest input in tokens; a longer text loses its middle.
        head_share (`float`, defaults to 0.5): Share of a cut text that is taken from its beginning.
        revision (`str`, *optional*): Revision of a Hub id.
        selection (`Sequence[dict]`, *optional*): The counts of [`select_silver`], noted for the report.
        eval_name (`str`, defaults to `"held-out texts"`): What `eval_data` is, for the report and the model card.
        baseline (`bool`, defaults to `True`): With `eval_data`: fit a linear student on the same rows too, in `baseline` within
            `output`, to say what the encoder is worth beyond counting words. It takes seconds, and says so where it fails.

    Returns:
        `dict`: `train` (rows, seconds, loss history, seed) and, with `eval_data`, `eval` (see
        [`ClassificationQuality`]) and `linear`, the baseline (see [`words_baseline`]); also written to `metrics.json`.

    Raises:
        BlockingIOError: Another process writes `output`.
        FileExistsError: `output` holds the results of another run.
        ValueError: No column, no usable row, or fewer than two labels to learn.
        RuntimeError: Training ended in weights that are no numbers; nothing was saved.
    """
    process_state()  # or each of several processes on CPUs would train alone
    text_column = task.columns(text_column)
    sources = {"silver": silver, "gold": gold}
    rows = {name: labelled_rows(d, task, text_column, name) for name, d in sources.items() if d is not None}
    if not rows:
        raise ValueError("Nothing to train on. Pass silver, gold or both.")
    heads = heads_of(task, args.scale_loss)
    check_arguments(heads, args)
    check_variety(rows, task)
    config = {
        "task": task.to_dict(),
        "student": content_id(student, revision),
        **{name: content_hash(rows[name]) if name in rows else None for name in sources},
        "eval_data": None if eval_data is None else content_hash(eval_data),
        "text_column": text_column,
        "max_length": max_length,
        "head_share": head_share,
        "arguments": decisive(args, _kinds(heads)),
        "processes": args.world_size,
    }
    output, asked = Path(output), Reading(max_length, head_share, task.fields)
    if (done := _finished(output, config)) is not None:
        return done
    with one_at_a_time(output) if process_state().is_main_process else nullcontext():
        wait_for_everyone()  # nobody begins before the main process has its turn
        if (done := _finished(output, config)) is not None:  # by a process that has ended meanwhile
            return done
        noted = stage_results(output, config, TRAINED)
        args, learnt = own_folder(args, config), rows
        rows, dev = kept_back(rows, args.dev_share or for_thresholds(heads, rows, args), args.seed, text_column)
        eval_rows = None if eval_data is None else labelled_rows(eval_data, task, text_column, "evaluation")
        if noted is None:
            if eval_rows is not None:
                warn_of_shared_texts(rows, dev, eval_rows, text_column)
            free_models()  # a teacher, or the student of another seed, fold or point of a curve
            heads = tuple(head.fitted(all_answers(rows.values(), head.name, head.question)) for head in heads)
            _train(
                task,
                student,
                revision,
                output,
                args,
                config,
                asked,
                heads,
                rows,
                dev,
                eval_rows,
                text_column,
                selection,
            )
            free_models()  # model, gradients and optimizer make room for measuring
        noted = stage_results(output, config, TRAINED)
        if noted is None:
            raise RuntimeError(f"The main process did not write '{output}'. Its error is above.")
        if process_state().is_main_process:
            labeler = StudentLabeler(output, text_column, device="cpu" if args.use_cpu else None)
            linear = None
            if baseline and eval_rows is not None:
                linear = partial(
                    words_baseline, task, output, args, eval_data=eval_rows, text_column=text_column, rows=learnt
                )
            with room_needed(output):
                noted = _measure(output, config, noted, eval_rows, task, labeler, eval_name, linear)
        wait_for_everyone()
        return stage_results(output, config, TRAINED) or noted


def _finished(output: Path, config: Mapping[str, object]) -> dict | None:
    """What this very call noted when it was done. All have looked before one writes, or some would wait for ever."""
    noted = stage_results(output, config, TRAINED)
    done = noted is not None and (output / METRICS_FILE).is_file()
    wait_for_everyone()
    return noted if done else None


def _train(
    task: TaskSpec,
    student: str,
    revision: str | None,
    output: Path,
    args: StudentConfig,
    config: Mapping[str, object],
    asked: Reading,
    heads: Sequence[Head],
    rows: Mapping[str, Dataset],
    dev: Mapping[str, Dataset],
    eval_rows: Dataset | None,
    text_column: TextColumn,
    selection: Sequence[dict],
) -> None:
    """Train, and save the student before anything else is done with it."""
    set_seed(args.seed)  # before the new classification head is drawn
    tokenizer, model = new_classifier(task, student, revision, heads, args.attention_dropout)
    begin_at_priors(model, heads, {head.name: all_answers(rows.values(), head.name, head.question) for head in heads})
    reading = replace(asked, max_length=min(asked.max_length, longest_input(tokenizer, model)))
    trainer, encoded = _trainer(model, tokenizer, reading, heads, rows, dev, eval_rows, args, text_column)
    start = time.perf_counter()
    with room_needed(Path(str(args.output_dir))):
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    refuse_lost(trainer.accelerator.unwrap_model(trainer.model))
    heads = tuned(trainer, encoded, heads, dev)
    name = Path(student).name if Path(student).is_dir() else student
    results = {
        "train": {
            **rows_note(rows, dev, heads),
            "seconds": time.perf_counter() - start,
            "seed": args.seed,
            "epochs": round(trainer.state.epoch or 0, 2),
            "processes": args.world_size,
            "student": name,
            "max_length": reading.max_length,
            "selection": list(selection),
            "history": trainer.state.log_history,
        }
    }
    trained = trainer.accelerator.unwrap_model(trainer.accelerator.unwrap_model(trainer.model))
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        weights = (
            trainer.accelerator.get_state_dict(trainer.deepspeed)
            if trainer.is_deepspeed_enabled
            else gathered(trainer.model_wrapped)
        )
        if trainer.is_world_process_zero():
            trained = _adapted(new_classifier(task, student, revision, heads, args.attention_dropout)[1], args)
            trained.load_state_dict(weights)
    if trainer.is_world_process_zero():
        with whole_folder(output) as part:
            _save(trained, tokenizer, part, reading, name)
            for source, file in (("silver", SILVER_FILE), ("gold", GOLD_FILE)):
                if source in rows:
                    rows[source].to_parquet(str(part / file))
            training = {"task": task.to_dict(), "arguments": _plain(args, _kinds(heads))}
            save_reading(part, reading, training, () if is_plain(heads) else [head.note() for head in heads])
            note_stage(part, config, results)
        if args.save_strategy == "no" or args.dev_share:
            shutil.rmtree(str(args.output_dir), ignore_errors=True)
            with suppress(OSError):  # where others are at work, or were
                Path(str(args.output_dir)).parent.rmdir()
    wait_for_everyone()
    trainer.accelerator.free_memory()


def _measure(
    output: Path,
    config: Mapping[str, object],
    noted: dict,
    eval_rows: Dataset | None,
    task: TaskSpec,
    labeler: StudentLabeler,
    eval_name: str,
    linear: Callable[[], dict] | None,
) -> dict:
    """Measure a trained student on texts with gold labels and draw its figures; the notes of it come last."""
    history = noted["train"]["history"]
    draw_training(output / "training.png", history)
    if noted["train"]["n_silver"] and noted["train"]["n_gold"]:
        draw_mix(output / "mix.png", history)
    if eval_rows is not None:
        measured = evaluate_student(labeler, eval_rows, task, output)
        each = measured.items() if len(task.parts) > 1 else [("", measured)]
        found = {name: {**quality, "source": eval_name} for name, quality in each}
        noted = {**noted, "eval": found if len(task.parts) > 1 else found[""]}
        note_stage(output, config, noted)
    if linear is not None:
        noted = {**noted, "linear": linear()}
        note_stage(output, config, noted)
    write_whole(output / METRICS_FILE, json.dumps(noted, indent=2) + "\n")
    return noted


def _kinds(heads: Sequence[Head]) -> set[str]:
    return {head.question.kind for head in heads}


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reading: Reading,
    heads: Sequence[Head],
    rows: Mapping[str, Dataset],
    dev: Mapping[str, Dataset],
    eval_rows: Dataset | None,
    args: StudentConfig,
    text_column: TextColumn,
) -> tuple[StudentTrainer, Callable[[Dataset], Dataset]]:
    """The trainer, and what makes its inputs of rows."""
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # pinning is for copies to a GPU, and warns without one

    separator = reading.type_separator(tokenizer, model)

    def inputs(texts: list) -> dict[str, list]:
        rows = reading.encode(tokenizer, texts)
        types = {} if separator is None else {"token_type_ids": [token_types(row, separator) for row in rows]}
        return {"input_ids": rows, **types}

    def encoded(data: Dataset) -> Dataset:
        return Dataset.from_dict({**inputs(row_texts(data, text_column)), "label": measured_labels(data, heads)})

    measured: Dataset | dict[str, Dataset] | None = None
    if args.dev_share:
        measured = {name: encoded(data) for name, data in dev.items()}
        best = "accuracy" if is_plain(heads) else CHOSEN_BY
        args.metric_for_best_model = f"eval_{'gold' if 'gold' in measured else 'silver'}_{best}"
    elif eval_rows is not None:
        measured = encoded(eval_rows)
    columns = training_rows(rows.get("silver"), rows.get("gold"), heads, args)
    texts = [
        text for data in rows.values() for text in row_texts(data, text_column)
    ]  # large_string and string do not concatenate
    trainer = StudentTrainer(
        _adapted(model, args),
        args,
        () if is_plain(heads) else heads,
        train_dataset=Dataset.from_dict({**inputs(texts), **columns}),
        eval_dataset=measured,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=scalar_metrics(heads),
        callbacks=[args.mix_callback(*(len(rows.get(source, ())) for source in ("silver", "gold")))],
    )
    return trainer, encoded


def _adapted(model: PreTrainedModel, args: StudentConfig) -> PreTrainedModel:
    """A model with what is not trained frozen, or with adapters."""
    if args.freeze_encoder:
        model.base_model.requires_grad_(False)
    if not args.lora_rank:
        return model
    lora = LoraConfig(
        r=args.lora_rank, lora_alpha=2 * args.lora_rank, target_modules="all-linear", task_type="SEQ_CLS"
    )
    return get_peft_model(model, lora)  # type: ignore[return-value]


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, reading: Reading, start: str
) -> None:
    """The student as plain transformers loads it: adapters merged, and kept beside it."""
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = start  # a name, no path of this machine
        model.save_pretrained(str(folder / ADAPTER_FOLDER))
        (folder / ADAPTER_FOLDER / "README.md").unlink(missing_ok=True)  # an empty form
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.model_max_length = reading.max_length  # what pipeline(truncation=True) cuts to
    tokenizer.save_pretrained(folder)


def _plain(args: StudentConfig, kinds: Collection[str]) -> dict:
    """The training arguments that were set, without paths, tokens and host names."""
    own = [name for name in StudentConfig.__annotations__ if OF_KIND.get(name, "choice") in {*kinds, "choice"}]
    keep = (*own, "seed", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type", "bf16", "fp16")
    return {
        name: str(value) if not isinstance(value, (int, float, str)) else value
        for name in keep
        if (value := getattr(args, name)) is not None
    }
