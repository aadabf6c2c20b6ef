"""
Draws docs/mixing.png: every row that a real `Trainer` with `MixCallback` drew, on 160 silver and 40 gold rows.

    python docs/draw_mixing.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import Trainer, TrainingArguments

from hf_llambert import MixCallback

SILVER, GOLD = 160, 40
SCHEDULES = {
    "concat": {"schedule": "concat"},
    "silver_then_gold, 2 and 4 epochs": {"schedule": "silver_then_gold", "silver_epochs": 2, "gold_epochs": 4},
    "ratio, gold_share 0.5": {"schedule": "ratio", "gold_share": 0.5},
}


class Recorder(torch.nn.Module):
    """Remembers the rows it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[int] = []

    def forward(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        """Any loss will do."""
        self.rows += row.tolist()
        return {"loss": (self.weight * row.float()).sum()}


def drawn_rows(mix: dict) -> list[int]:
    """The rows in the order in which the Trainer drew them."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, use_cpu=True, report_to="none", save_strategy="no", num_train_epochs=2, disable_tqdm=True
        )
        model = Recorder()
        data = Dataset.from_dict({"row": list(range(SILVER + GOLD))})
        Trainer(model, args, train_dataset=data, callbacks=[MixCallback(SILVER, GOLD, **mix)]).train()
    return model.rows


def main() -> None:
    """Draw one panel for each schedule."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    for axes, (name, mix) in zip(figure.subplots(len(SCHEDULES)), SCHEDULES.items(), strict=True):
        rows = drawn_rows(mix)
        for source, colour in (("silver", "#0072b2"), ("gold", "#d55e00")):
            mine = [(k, row) for k, row in enumerate(rows) if (row >= SILVER) == (source == "gold")]
            axes.scatter(*zip(*mine, strict=True), s=5, color=colour, label=f"{source}: {len(mine)} draws")
        axes.set_title(name, loc="left", fontsize=10, family="monospace")
        axes.set(ylabel="row", yticks=[0, SILVER, SILVER + GOLD], xlim=(-2, len(rows) + 2))
        axes.axhline(SILVER - 0.5, color="#999999", linewidth=0.5)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=3)
    axes.set_xlabel("draw in the training")
    figure.savefig(Path(__file__).parent / "mixing.png", dpi=110)


if __name__ == "__main__":
    main()
