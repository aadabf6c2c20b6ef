"""
Teach the teacher: LoRA on a few gold rows in the task's own prompt, so that it answers the better there.

    accelerate launch recipes/adapt_teacher.py --config recipes/adapt_teacher_quickstart.yaml  # 2 CPU cores, after make assets

The adapter is then a teacher: `hf-llambert annotate --adapter RUN/adapter`. The prompts it learns from are token for token
those that it is asked with, the loss is on the answer alone, and the plain and the adapted teacher are both measured on gold
rows kept apart. Replies of the two have different keys in the ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from common import map_pairs, parse_arguments
from hf_llambert import (
    ABSTAIN,
    LabelValues,
    LLMLabeler,
    PromptEncoder,
    TransformersTeacher,
    annotate,
    load_data,
    load_task,
    parse_label_map,
    row_texts,
    wait_for_everyone,
    whole_folder,
    with_gold,
)

_NOTE = "adapted.json"


@dataclass
class AdaptArguments:
    """What the recipe does beside the training arguments."""

    teacher: str = field(metadata={"help": "Hub id or directory of the teacher."})
    data: str = field(metadata={"help": "Texts with gold labels."})
    run: str = field(metadata={"help": "Folder of the run."})
    task: str = field(default="imdb", metadata={"help": "Built-in task or YAML file."})
    data_split: str | None = field(default=None, metadata={"help": "Split of the data."})
    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    label_column: str = field(default="label", metadata={"help": "Column of the gold labels."})
    label_map: list[str] = field(
        default_factory=list,
        metadata={"help": "What labels of the data are in the task: pos=positive neg=negative. A mapping in YAML."},
    )
    label_values: LabelValues = field(
        default="auto",
        metadata={"help": "What the labels of the data are: names, ids, ids_from_1; auto: as they fit."},
    )
    num_rows: int = field(default=200, metadata={"help": "Gold rows to learn from."})
    num_held_out: int = field(default=200, metadata={"help": "Gold rows to measure on."})
    split_seed: int = field(default=42, metadata={"help": "Seed of the shuffle; the held-out rows are drawn first."})
    revision: str | None = field(default=None, metadata={"help": "Revision of the teacher."})
    max_text_tokens: int = field(default=512, metadata={"help": "Longest text; a longer one loses its middle."})
    mode: str = field(default="score", metadata={"help": "How the two teachers are measured: score or generate."})
    calibration: str = field(default="batch", metadata={"help": "none, batch or contextual."})
    lora_rank: int = field(default=8, metadata={"help": "Rank of the adapter; its alpha is twice that."})

    def __post_init__(self) -> None:
        self.label_map = map_pairs(self.label_map)
        parse_label_map(self.label_map)


def training_rows(encoder: PromptEncoder, rows: Dataset, column: str | Sequence[str], max_text_tokens: int) -> Dataset:
    """
    Prompts with their answers as token ids, and a mask that is 1 on the answer.

    The answer is the label's first word, in a chat with the end of the turn behind it, so that a teacher that writes stops.
    """
    end = [encoder.tokenizer.eos_token_id] if encoder.task.chat else []
    out: dict[str, list] = {"input_ids": [], "completion_mask": []}
    for text, label in zip(row_texts(rows, column), rows["label"], strict=True):
        prompt, _ = encoder.fit(text, max_text_tokens, 0.5)
        answer = [*encoder.words[label][0], *end]
        out["input_ids"].append([*prompt, *answer])
        out["completion_mask"].append([0] * len(prompt) + [1] * len(answer))
    return Dataset.from_dict(out)


def adapter_trainer(arguments: AdaptArguments, training: SFTConfig, rows: Dataset) -> SFTTrainer:
    """The trainer, with the loss on the answers alone."""
    task = load_task(arguments.task)
    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher, revision=arguments.revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    dtype = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        arguments.teacher,
        revision=arguments.revision,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
    )
    rank = arguments.lora_rank
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    data = training_rows(
        PromptEncoder(tokenizer, task), rows, task.columns(arguments.text_column), arguments.max_text_tokens
    )
    training.completion_only_loss = True  # trl's default would learn the prompts of tokenised rows too
    training.max_length = None  # and would cut the answers off long ones
    return SFTTrainer(model, args=training, train_dataset=data, processing_class=tokenizer, peft_config=lora)


def train_adapter(arguments: AdaptArguments, training: SFTConfig, rows: Dataset, output: Path) -> None:
    """Train and save the adapter, unless this very training has been saved."""
    task = load_task(arguments.task)
    settings = {"arguments": asdict(arguments) | {"run": ""}, "task": task.to_dict(), "rows": rows._fingerprint}
    settings["training"] = {
        k: getattr(training, k) for k in ("learning_rate", "num_train_epochs", "max_steps", "seed")
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    if (output / _NOTE).is_file():
        if json.loads((output / _NOTE).read_text(encoding="utf-8"))["digest"] != digest:
            raise FileExistsError(
                f"'{output}' holds an adapter of another training. Choose another --run, or remove it."
            )
        return
    trainer = adapter_trainer(arguments, training, rows)
    trainer.train()
    if trainer.accelerator.is_main_process:
        with whole_folder(output) as part:
            trainer.model.save_pretrained(part, safe_serialization=True)
            (part / _NOTE).write_text(json.dumps({"digest": digest, **settings}, indent=1), encoding="utf-8")
    wait_for_everyone()


def main(arguments: AdaptArguments, training: SFTConfig) -> dict:
    """Train the adapter and measure both teachers. Returns their agreement with gold."""
    run, task = Path(arguments.run), load_task(arguments.task)
    data = load_data(arguments.data, arguments.data_split, label_columns=[arguments.label_column]).shuffle(
        seed=arguments.split_seed
    )
    label_map = parse_label_map(arguments.label_map)
    data = with_gold(
        data, task.columns(arguments.text_column), arguments.label_column, task, label_map, arguments.label_values
    )
    data = data.filter(lambda row: row["label"] != ABSTAIN)
    wanted = arguments.num_held_out + arguments.num_rows
    if not 0 < arguments.num_held_out < wanted <= len(data):
        raise ValueError(
            f"num_rows and num_held_out must be positive and together at most the {len(data):,} rows that have a gold "
            f"label; got {arguments.num_rows} and {arguments.num_held_out}."
        )
    held_out, rows = data.select(range(arguments.num_held_out)), data.select(range(arguments.num_held_out, wanted))
    train_adapter(arguments, training, rows, run / "adapter")
    results = {}
    for name, adapter in (("plain", None), ("adapted", str(run / "adapter"))):
        teacher = TransformersTeacher(
            arguments.teacher,
            revision=arguments.revision,
            adapter=adapter,
            mode=arguments.mode,  # type: ignore[arg-type]
            max_text_tokens=arguments.max_text_tokens,
            device="cpu" if training.use_cpu else None,
        )
        found = annotate(
            held_out,
            LLMLabeler(task, teacher, run / "ledger", arguments.text_column),
            run / name,
            calibration=arguments.calibration,  # type: ignore[arg-type]
            gold_column="label",
        )
        results[name] = {"coverage": found["coverage"], **(found["quality"] or {})}
    if PartialState().is_main_process:
        for name, found in results.items():
            if "accuracy" in found:
                interval = f"{found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}"
                sys.stdout.write(f"{name}: {found['accuracy']:.1%} ({interval}, n={found['n']:,})\n")
        sys.stdout.write(f"the adapter: {run / 'adapter'}\n")
    return results


if __name__ == "__main__":
    try:
        adapt_arguments, training_arguments = parse_arguments(
            (AdaptArguments, SFTConfig), bf16=False, gradient_checkpointing=False
        )
        training_arguments.output_dir = str(Path(adapt_arguments.run) / "checkpoints")
        main(adapt_arguments, training_arguments)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("HF_LLAMBERT_DEBUG"):
            raise
        sys.exit(f"Error: {error}")
