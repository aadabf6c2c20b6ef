"""Loads encoders: safetensors only, no remote code, with a pad token and the number of tokens that they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from hf_llambert.data import damaged_note, read_note
from hf_llambert.notes import ANY, ENCODER, READING
from hf_llambert.tasks.choice import Choice
from hf_llambert.tasks.choices import Choices
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.heads import HEADS, Head, Labels, Levels, heads_of, label_names, noted_heads, problem_type
from hf_llambert.training.inputs import TRAINING_FILE

logger = get_logger(__name__)

SAFE: dict[str, Any] = {
    "trust_remote_code": False,  # left out, transformers asks whether to run code that comes along
    "use_safetensors": True,
    "output_attentions": False,  # whatever the checkpoint asks for: they would be kept of every layer
    "output_hidden_states": False,
}
"""Arguments of every `from_pretrained` of a model."""

_INDEX, _ADAPTER = "model.safetensors.index.json", "adapter_config.json"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers log errors only."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load_tokenizer(model: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises `ValueError` where its weights are not safe to load; see [`check_weights`]."""
    check_weights(model, revision)
    return AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)


def new_classifier(
    task: TaskSpec,
    student: str,
    revision: str | None = None,
    heads: Sequence[Head] | None = None,
    attention_dropout: float | None = None,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """
    An encoder to train, with its tokenizer: in float32, its head new where it has another number of labels. Warns where
    weights of the encoder itself are not in its files. `heads` default to those of the task.

    Raises:
        ValueError: Its weights are not safe to load, or its configuration has no dropout of attention to set.
    """
    heads = heads or heads_of(task)
    names = label_names(heads)
    tokenizer = load_tokenizer(student, revision)
    with quiet_transformers():  # it reports that the head is new, as it always is
        model, info = AutoModelForSequenceClassification.from_pretrained(
            student,
            revision=revision,
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type=problem_type(heads),  # whatever the start model was for: pipeline chooses by it
            ignore_mismatched_sizes=True,
            **_dropout(student, revision, attention_dropout),
            dtype=torch.float32,  # whatever the checkpoint has; mixed precision is for bf16 and fp16 of the arguments
            output_loading_info=True,
            **SAFE,
        )
    new = sorted(name for name in info["missing_keys"] if name.startswith(f"{model.base_model_prefix}."))
    if new:
        shown = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
        logger.warning(
            "%d weights of the encoder '%s' are not in its files and begin at random: %s.", len(new), student, shown
        )
    fit_pad_token(tokenizer, model)
    return tokenizer, model


_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
"""What configurations call it: BERT and those after it, DistilBERT and ModernBERT."""


def _dropout(student: str, revision: str | None, value: float | None) -> dict[str, float]:
    """What sets the dropout of attention of an encoder; nothing where it keeps its own."""
    if value is None:
        return {}
    config = load_config(student, revision)
    names = [name for name in _ATTENTION_DROPOUT if hasattr(config, name)]
    if not names:
        raise ValueError(
            f"The configuration of '{student}' ({config.model_type}) has none of {', '.join(_ATTENTION_DROPOUT)}. Leave "
            f"attention_dropout out."
        )
    return {names[0]: value}


def check_weights(model: str, revision: str | None = None) -> None:
    """
    Check that a model's weights are safetensors before they are loaded: loading other files may run code in them.

    Raises:
        ValueError: They are not, or an index or adapter leads elsewhere; the message says what to do.
        OSError: The index is damaged.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = _index_of(model, revision)
    mend = "Expected safetensors: convert it with model.save_pretrained(...), or pass another student."
    for index in folder.glob("*.index.json") if Path(model).is_dir() else [folder / _INDEX]:
        if index.is_file() and ".safetensors" in index.name:
            files = [str(file) for file in read_note(index, {"weight_map": {ANY: str}})["weight_map"].values()]
            strange = sorted({file for file in files if not file.endswith(".safetensors") or Path(file).name != file})
            if strange:
                raise ValueError(f"'{index}' names {', '.join(strange[:3])}. {mend}")
    if not Path(model).is_dir():
        return
    if (folder / _ADAPTER).is_file():
        raise ValueError(
            f"'{model}' holds an adapter, expected a whole model. Merge it first (merge_and_unload of peft)."
        )
    named = getattr(load_config(model, revision), "transformers_weights", None)
    if named is not None and not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise ValueError(f"'{folder / 'config.json'}' has its weights in {named}. {mend}")
    others = sorted(path.name for end in ("bin", "pt", "pth", "h5", "msgpack") for path in folder.glob(f"*.{end}"))
    if others and not any(folder.glob("*.safetensors")):
        raise ValueError(f"'{model}' has its weights in {', '.join(others[:3])} only. {mend}")


def load_config(model: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a model. Raises `OSError` where that of a folder is damaged, or not there."""
    path, shape = Path(model) / "config.json", {"id2label?": ({ANY: str}, None), "label2id?": ({ANY: int}, None)}
    if path.is_file():
        read_note(path, shape)
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001  (whatever transformers makes of values that are none)
        raise damaged_note(path, f"{type(error).__name__}: {error!s:.200}") from error


def _index_of(model: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, _INDEX, revision=revision)).parent
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return Path(model)  # none: one file, which loading finds or not


def fit_pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """
    Make a tokenizer and its model pad with the same token. Without a pad token another one of the tokenizer's is
    taken.

    Raises:
        ValueError: It has no special token at all.
    """
    given = tokenizer.pad_token is None
    if given:
        tokens = (
            tokenizer.eos_token,
            tokenizer.unk_token,
            tokenizer.sep_token,
            tokenizer.cls_token,
            tokenizer.bos_token,
        )
        chosen = next((token for token in tokens if token is not None), None)
        if chosen is None:
            raise ValueError(
                "The student's tokenizer has no pad token, and no eos, unk or sep to pad with. Set tokenizer.pad_token and "
                "save it with tokenizer.save_pretrained(...)."
            )
        tokenizer.pad_token = chosen
    config = model.config.get_text_config()
    if given or getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def longest_input(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """The most tokens that a model takes, special tokens included."""
    return min(tokenizer.model_max_length, positions(model))


def positions(model: PreTrainedModel) -> int:
    """
    How many tokens a model has positions for: what its configuration says, and no more than the rows of each table of
    positions from the first one that it looks up. The family of RoBERTa looks up the rows behind its pad token's.
    """
    noted = getattr(model.config, "max_position_embeddings", None)
    found = [noted if isinstance(noted, int) and noted > 0 else 2**31]  # XLNet has -1: it counts from token to token
    model_was_training = model.training
    token = 0 if getattr(model.config, "pad_token_id", None) else 1
    tables = _PositionTables(_PROBED)
    model.eval()
    try:
        with (
            torch.no_grad(),
            tables,
            suppress(Exception),
        ):  # a model that takes more than tokens says so when it is used
            model.base_model(input_ids=torch.full((1, _PROBED), token, device=model.device))
    finally:
        model.train(model_was_training)
    return min(found + tables.found)


_PROBED = 8  # tokens of the input by which tables of positions are found


class _PositionTables(TorchFunctionMode):
    """Finds the tables in which a text of one repeated token looks up one row after the other, and how many are left."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.found: list[int] = []
        self._steps = torch.arange(length)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.embedding and len(args) > 1:
            rows, table = args[0].flatten()[: len(self._steps)].cpu(), args[1]
            if len(rows) == len(self._steps) and torch.equal(rows - rows[0], self._steps):
                self.found.append(table.shape[0] - int(rows[0]))
        return func(*args, **(kwargs or {}))


def read_reading(path: Path) -> dict:
    """The part of a student's note with its settings for reading texts. Raises `OSError` where the note is damaged."""
    advice = "Restore it, or train the student again."
    reading = read_note(path, {"reading": READING}, advice)["reading"]
    if not set(reading) <= {"max_length", "head_share", "fields"}:
        raise damaged_note(path, f"{json.dumps(reading)[:80]} is no way to read", advice)
    if "fields" in reading:
        if not reading["fields"]:
            raise damaged_note(path, "expected a field at 'reading.fields', got none", advice)
        reading["fields"] = tuple(reading["fields"])
    return reading


def noted_reading(student: str, revision: str | None) -> dict:
    """What is noted beside a student of how it reads texts; see [`read_reading`]. Empty where it was not trained here."""
    path = _note_of(student, revision)
    return {} if path is None else read_reading(path)


def student_heads(student: str, revision: str | None) -> tuple[Head, ...]:
    """
    Whose logits are which: what is noted beside a student; of one from elsewhere, what its configuration says.

    Raises:
        OSError: The note is damaged, or is not of these logits.
        ValueError: It is from elsewhere, and its logits are not those of labels.
    """
    path, advice = _note_of(student, revision), "Restore it, or train the student again."
    if student_kind(student, revision) != ENCODER:
        return _heads_in(read_note(path, {"questions": HEADS}, advice), path, advice)  # type: ignore[arg-type]
    config = load_config(student, revision)
    labels = (config.id2label or {}).items()
    names = tuple(name for _, name in sorted(labels, key=lambda item: int(item[0])))
    noted = {} if path is None else read_note(path, {"questions?": HEADS}, advice)
    if path is None or not noted.get("questions"):
        kind = getattr(config, "problem_type", None)
        if path is not None and kind not in (None, "single_label_classification"):
            raise damaged_note(path, f"it names no questions, and the model is for {kind}", advice)
        return (_head_of(student, kind, names),)
    heads = _heads_in(noted, path, advice)
    if (logits := sum(head.size for head in heads)) != len(names):
        raise damaged_note(path, f"its questions have {logits} logits, the model {len(names)}", advice)
    own = tuple(label_names(heads).values())
    if own != names and (heads[0].name or heads[0].size > 1):  # the note has no name of an only question
        raise damaged_note(
            path, f"its questions name the logits {', '.join(own)}, the model {', '.join(names)}", advice
        )
    return heads


def _heads_in(note: dict, path: Path, advice: str) -> tuple[Head, ...]:
    if not note["questions"]:
        raise damaged_note(path, "expected a question at 'questions', got none", advice)
    try:
        return noted_heads(note["questions"])
    except (ValueError, TypeError) as error:
        raise damaged_note(path, error, advice) from error


def student_kind(student: str, revision: str | None = None) -> str:
    """`encoder`, or what the note beside a student says: `static` or `linear`. Raises `OSError` where it is damaged."""
    path = _note_of(student, revision)
    return ENCODER if path is None else read_note(path, {"kind?": str}).get("kind", ENCODER)


def _head_of(student: str, problem_type: str | None, names: tuple[str, ...]) -> Head:
    """What a model from elsewhere answers, as a `pipeline` takes it: softmax over its labels, or sigmoids."""
    if problem_type == "multi_label_classification":
        return Labels("", Choices("label", names))
    if problem_type == "regression" or len(names) < 2:
        raise ValueError(
            f"Expected a student with a logit for each of its labels, got '{student}': {len(names)} logit(s), problem_type "
            f"{problem_type or 'not said'} in its configuration. Its numbers are of a scale that is not known here. Train a "
            f"student from it (hf-llambert train --student), or pass one of labels."
        )
    return Levels("", Choice("label", names))


def _note_of(student: str, revision: str | None) -> Path | None:
    """Where the note beside a student is; `None` where there is none."""
    path = Path(student) / TRAINING_FILE
    if not Path(student).is_dir():
        try:
            path = Path(hf_hub_download(student, TRAINING_FILE, revision=revision))
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return None
    return path if path.is_file() else None
