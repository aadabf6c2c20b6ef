"""
A training whose rows are written down, run in this process or under torchrun: python mix_run.py CONFIG.json

The config: trainer arguments, `mix` (arguments of MixCallback), `silver`, `gold` (rows), `out` (where to write).
"""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from hf_llambert import MixCallback


class Recorder(torch.nn.Module):
    """A linear model that remembers the rows of each training batch."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.rows = []

    def forward(self, x, labels, row, length):
        if self.training:
            self.rows.append(row.tolist())
        logits = self.linear(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= self.step


def rows(start, number, shift=0.0):
    random = torch.Generator().manual_seed(start)
    x = torch.randn(number, 3, generator=random) + shift
    ids = range(start, start + number)
    columns = {"x": x.tolist(), "labels": (x.sum(1) > 0).long().tolist(), "row": list(ids)}
    return Dataset.from_dict(columns | {"length": [(7 * k) % 13 for k in ids]})


def run(config):
    set_seed(0)
    silver, gold = rows(0, config["silver"]), rows(config["silver"], config["gold"], config.get("shift", 0.0))
    both = concatenate_datasets([part for part in (silver, gold) if len(part)])
    model = Recorder()
    arguments = {"learning_rate": 0.1, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
    args = TrainingArguments(**(arguments | config["arguments"]))
    callbacks = (
        [MixCallback(config["silver"], config["gold"], **config["mix"])] if config.get("with_mix", True) else []
    )
    if "stop_at" in config:
        callbacks.append(StopAt(config["stop_at"]))
    trainer = Trainer(model, args, train_dataset=both, eval_dataset=silver, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=config.get("resume"))
    return trainer, {
        "rows": model.rows,
        "weights": model.linear.weight.tolist(),
        "log": trainer.state.log_history,
        "steps": trainer.state.global_step,
        "world": args.world_size,
    }


if __name__ == "__main__":
    config = json.loads(Path(sys.argv[1]).read_text())
    trainer, found = run(config)
    Path(f"{config['out']}.{trainer.args.process_index}").write_text(json.dumps(found))
    trainer.accelerator.end_training()
    # The result is written. Threads of gloo that the interpreter's end meets abort the process now and then (std::terminate).
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
