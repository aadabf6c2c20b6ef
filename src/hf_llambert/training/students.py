"""Loading students, and the student as a map function."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_llambert import __version__
from hf_llambert.models import choose_device, choose_dtype, content_id, limit_worker_threads
from hf_llambert.tasks import ABSTAIN
from hf_llambert.texts import cut_text, length_batches, why_unusable

TRAINING_FILE = "training.json"


@dataclass(frozen=True)
class Reading:
    """
    How a student reads a text. Written beside the student, so that it reads later as it did in training.

    Args:
        max_length (`int`): Longest input in tokens, special tokens included.
        head_share (`float`, defaults to 1): Share of a cut text that is taken from its beginning.
    """

    max_length: int
    head_share: float = 1.0

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise ValueError(f"max_length must be at least 8 tokens, got {self.max_length}.")
        if not 0 <= self.head_share <= 1:
            raise ValueError(f"head_share must be a number from 0 to 1, got {self.head_share}.")

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with the model's special tokens, cut to fit. The text itself never becomes one."""
        rows = tokenizer(list(texts), split_special_tokens=True, verbose=False).input_ids
        room = self.max_length - tokenizer.num_special_tokens_to_add()
        for i, row in enumerate(rows):
            if len(row) > self.max_length:
                short, _ = cut_text(tokenizer, texts[i], room, self.head_share)
                rows[i] = tokenizer(
                    short, split_special_tokens=True, truncation=True, max_length=self.max_length
                ).input_ids
        return rows


def longest_input(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """The most tokens that a model takes, special tokens included."""
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    return min(tokenizer.model_max_length, context)


class StudentLabeler:
    """
    Labels batches of texts with a trained student; made for `dataset.map(student_label, batched=True)`.

    Adds `student_label` (-1 for an unusable text), `student_confidence` and `student_scores` (log-probabilities in label
    order). Pickles to its configuration, never to weights.

    Args:
        student (`str` or `Path`): Directory or Hub id of a sequence classification model.
        text_column (`str`, defaults to `"text"`): Column of the texts.
        revision (`str`, *optional*): Revision of a Hub id.
        batch_tokens (`int`, defaults to 4096): Padded tokens in one forward pass.
        device (`str`, *optional*): Defaults to this process's GPU, else the CPU.

    Raises:
        FileNotFoundError: There is no such student.
    """

    def __init__(
        self,
        student: str | Path,
        text_column: str = "text",
        revision: str | None = None,
        batch_tokens: int = 4096,
        device: str | None = None,
    ) -> None:
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens must be a positive number, got {batch_tokens}.")
        self.student = str(student)
        self.text_column = text_column
        self.revision = revision
        self.batch_tokens = batch_tokens
        self.device = device
        self.identity = content_id(self.student, revision)
        self.seconds = 0.0
        """Seconds spent on tokenising and the model since this object was made."""

    @classmethod
    def from_pretrained(cls, student: str | Path, **kwargs: object) -> StudentLabeler:
        """The same as the constructor, by the name that users of transformers look for."""
        return cls(student, **kwargs)  # type: ignore[arg-type]

    def __call__(self, batch: Mapping[str, list], rank: int | None = None) -> dict[str, list]:
        """Label a batch of columns. `rank` chooses the GPU under `map(num_proc=..., with_rank=True)`."""
        if self.text_column not in batch:
            raise ValueError(
                f"Column '{self.text_column}' not found in {list(batch)}. Pass text_column=... to the labeler."
            )
        return self.label(list(batch[self.text_column]), rank)

    @torch.inference_mode()
    def label(self, texts: Sequence[object], rank: int | None = None) -> dict[str, list]:
        """Columns `student_label`, `student_confidence`, `student_scores` for a list of texts."""
        tokenizer, model, reading = self._load(rank)
        start = time.perf_counter()
        usable = [i for i, text in enumerate(texts) if why_unusable(text) is None]
        out: dict[str, list] = {
            "student_label": [ABSTAIN] * len(texts),
            "student_confidence": [None] * len(texts),
            "student_scores": [None] * len(texts),
        }
        rows = reading.encode(tokenizer, [str(texts[i]) for i in usable]) if usable else []
        for batch in length_batches([len(row) for row in rows], self.batch_tokens):
            inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt").to(model.device)
            scores = model(**inputs).logits.float().log_softmax(-1).cpu()
            for i, row in zip(batch, scores, strict=True):
                out["student_label"][usable[i]] = int(row.argmax())
                out["student_confidence"][usable[i]] = float(row.max().exp())
                out["student_scores"][usable[i]] = row.tolist()
        self.seconds += time.perf_counter() - start
        return out

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Mean of the encoder's last hidden states over the tokens of each text, float32, (texts, width)."""
        tokenizer, model, reading = self._load(None)
        rows = reading.encode(tokenizer, texts)
        out: list[Tensor | None] = [None] * len(rows)
        for batch in length_batches([len(row) for row in rows], self.batch_tokens):
            inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt").to(model.device)
            hidden = model.base_model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1)
            for i, row in zip(batch, ((hidden * mask).sum(1) / mask.sum(1)).cpu(), strict=True):
                out[i] = row
        return torch.stack([row for row in out if row is not None])

    def features(self, base: Dataset | IterableDataset | Features | None = None) -> Features:
        """The features of the labelled dataset, for `map(..., features=...)`."""
        own = Features(
            {
                "student_label": ClassLabel(names=list(self.labels)),
                "student_confidence": Value("float32"),
                "student_scores": List(Value("float32")),
            }
        )
        present = base if isinstance(base, Features) or base is None else base.features
        if base is not None and present is None:
            raise ValueError("This streaming dataset does not know its features. Pass Features({...}) of its columns.")
        return Features({**(present or {}), **own})

    @property
    def labels(self) -> tuple[str, ...]:
        """The student's label names, in the order of ids and scores."""
        config = AutoConfig.from_pretrained(self.student, revision=self.revision)  # no model: a fork may follow
        names = config.id2label or {}
        return tuple(name for _, name in sorted(names.items(), key=lambda item: int(item[0])))

    def warm_up(self) -> None:
        """Load the model and run it once, so that timing what follows measures labeling only."""
        self.label(["."])
        self.seconds = 0.0

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "seconds"} | {"version": __version__}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= {k: v for k, v in state.items() if k != "version"} | {"seconds": 0.0}

    def _load(self, rank: int | None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, Reading]:
        limit_worker_threads()
        device = choose_device(self.device, rank)
        key = (self.identity, device)
        if key not in _LOADED:
            tokenizer = AutoTokenizer.from_pretrained(self.student, revision=self.revision)
            model = AutoModelForSequenceClassification.from_pretrained(
                self.student, revision=self.revision, dtype=getattr(torch, choose_dtype(device)), use_safetensors=True
            )
            model.to(device).eval()
            while len(_LOADED) >= _MOST_LOADED:
                _LOADED.pop(next(iter(_LOADED)))  # the oldest: trainings by seed or fold must not fill the memory
            _LOADED[key] = tokenizer, model, self._reading(tokenizer, model)
        return _LOADED[key]

    def _reading(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Reading:
        path = Path(self.student) / TRAINING_FILE
        if not Path(self.student).is_dir():
            try:
                path = Path(hf_hub_download(self.student, TRAINING_FILE, revision=self.revision))
            except (EntryNotFoundError, LocalEntryNotFoundError):
                return Reading(longest_input(tokenizer, model))
        if not path.is_file():
            return Reading(longest_input(tokenizer, model))
        return Reading(**json.loads(path.read_text(encoding="utf-8"))["reading"])


_MOST_LOADED = 2
_LOADED: dict[tuple[str, str], tuple[PreTrainedTokenizerBase, PreTrainedModel, Reading]] = {}


def save_reading(folder: Path, reading: Reading, training: Mapping[str, object]) -> None:
    """Write beside a student how it reads and how it was trained."""
    note = {"reading": asdict(reading), "training": training, "hf_llambert": __version__}
    (folder / TRAINING_FILE).write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
