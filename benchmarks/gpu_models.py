"""Models and texts of `gpu.py`: from `assets/`, or built from a config where there are no weights or no assets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hf_llambert import TransformersTeacher, load_task
from hf_llambert.models import choose_device, choose_dtype
from hf_llambert.teachers.engine import Engine

TEACHER, ENCODER, REVIEWS = "SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "imdb_train.parquet"
LARGE = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_key_value_heads": 8}
"""A layer of Llama 2 70B, of which as many are built as fit."""
SHARE_FOR_WEIGHTS = 0.7


@dataclass(frozen=True)
class Bench:
    """
    What every part is given.

    Args:
        assets: Folder of the teacher, the encoder and the reviews; weights may be missing.
        work: Folder for what is made on the way; it may be thrown away.
        tiny: Tiny models and few texts, to see that everything runs.
        note: Writes down a figure, as soon as there is one.
    """

    assets: Path
    work: Path
    tiny: bool
    note: Callable[[dict], None] = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return torch.device(choose_device())

    @property
    def dtype(self) -> str:
        """The type in which models run: bfloat16 on a GPU that has it."""
        return choose_dtype(choose_device())

    def rows(self, many: int, few: int) -> int:
        """How many texts, or few of them with tiny models."""
        return few if self.tiny else many


def has_weights(folder: Path) -> bool:
    """Whether a model's weights are there, not only its config and tokenizer."""
    return any(folder.glob("*.safetensors"))


def reviews(bench: Bench, count: int, skip: int = 0) -> Dataset:
    """Reviews with people's labels, in the order of a seeded shuffle; again from the beginning where they are not enough."""
    data = Dataset.from_parquet(str(bench.assets / REVIEWS)).shuffle(seed=42)
    data = data.select([(skip + i) % len(data) for i in range(count)])
    return data.cast_column("label", ClassLabel(names=list(load_task("imdb").labels)))


@dataclass(frozen=True)
class BuiltTeacher(TransformersTeacher):
    """A teacher whose model is built from the config in its folder, on the device, and never stands on a disk."""

    def _load_anew(self, device: str) -> Engine:
        tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
        config = AutoConfig.from_pretrained(self.model, trust_remote_code=False)
        torch.manual_seed(0)
        with torch.device(device):
            dtype = getattr(torch, self._dtype(device))
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        return Engine(tokenizer, model.to(device).eval())


def teacher(folder: Path, **arguments: object) -> TransformersTeacher:
    """The teacher in a folder, built from its config where its weights are not there."""
    kind = TransformersTeacher if has_weights(folder) else BuiltTeacher
    return kind(str(folder), **arguments)


def large_teacher(bench: Bench) -> Path:
    """A folder with the config of the largest model of that width that leaves the GPU room to work, and a tokenizer."""
    folder = bench.work / "large-teacher"
    source = AutoTokenizer.from_pretrained(bench.assets / TEACHER, trust_remote_code=False)
    sizes = LARGE
    if bench.tiny:
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    layers = 3
    if bench.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(bench.device)
        layers = layers_that_fit(int(SHARE_FOR_WEIGHTS * free), sizes, len(source))
    special = {"pad_token_id": source.pad_token_id, "bos_token_id": None, "eos_token_id": source.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(source), num_hidden_layers=layers, max_position_embeddings=4096, **sizes, **special
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    source.save_pretrained(folder)
    return folder


def layers_that_fit(memory: int, sizes: dict[str, int], vocabulary: int, most: int = 80) -> int:
    """How many layers of these sizes fit into so many bytes, two for each parameter; at least one, at most those of 70B."""
    wide, inner = sizes["hidden_size"], sizes["intermediate_size"]
    keys = wide * sizes["num_key_value_heads"] // sizes["num_attention_heads"]
    layer = 2 * wide * wide + 2 * wide * keys + 3 * wide * inner
    return max(1, min(most, (memory // 2 - 2 * vocabulary * wide) // layer))


def encoder(bench: Bench, name: str) -> Path:
    """A folder with an encoder to train: MiniLM, or a DistilBERT built from its config with MiniLM's tokenizer."""
    source = bench.assets / ENCODER
    if name == ENCODER and has_weights(source):
        return source
    folder = bench.work / f"start-{name}"
    if has_weights(folder):
        return folder
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if name != ENCODER:
        small = {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2} if bench.tiny else {}
        config = DistilBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **small)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # it has no types of tokens
    torch.manual_seed(0)
    saved(AutoModel.from_config(config, trust_remote_code=False), folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved(model: PreTrainedModel, folder: Path) -> Path:
    """The folder in which a model was saved."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    return folder


def pack(assets: Path, folder: Path) -> int:
    """Copy what the benchmark needs but for weights, to carry it to a machine without a network. Returns bytes."""
    for name in (TEACHER, ENCODER):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (assets / name).iterdir():
            if path.is_file() and path.suffix != ".safetensors":
                shutil.copy(path, folder / name / path.name)
    shutil.copy(assets / REVIEWS, folder / REVIEWS)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


WORDS = ("positive negative good bad unsaid yes no comedy drama horror watch avoid 1 2 3 4 5", "a great film", "dull")


def tiny_assets(folder: Path) -> None:
    """The same layout with configs of a layer or two, a tokenizer of bytes and reviews of some words."""
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_of.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bytes_of.train_from_iterator(WORDS, trainer)
    template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    template += "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    names = {"pad_token": "<pad>", "eos_token": "</s>", "model_max_length": 1024}
    chat = PreTrainedTokenizerFast(tokenizer_object=bytes_of, bos_token="<s>", chat_template=template, **names)
    chat.save_pretrained(folder / TEACHER)
    bytes_of.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, special.index(name)) for name in ("<s>", "</s>")]
    )
    plain = PreTrainedTokenizerFast(tokenizer_object=bytes_of, cls_token="<s>", sep_token="</s>", **names)
    plain.model_input_names = ["input_ids", "attention_mask"]
    plain.save_pretrained(folder / ENCODER)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": len(chat)}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    decoder = LlamaConfig(num_hidden_layers=2, num_key_value_heads=2, max_position_embeddings=1024, **sizes, **ends)
    for config, name, kind in (
        (decoder, TEACHER, "LlamaForCausalLM"),
        (BertConfig(num_hidden_layers=1, pad_token_id=0, **sizes), ENCODER, "BertModel"),
    ):
        config.architectures = [kind]
        config.save_pretrained(folder / name)
    said = ("a great film and I liked it", "dull and bad")
    texts = [f"{said[i % 2]}, {'really ' * (i % 7)}number {i}" for i in range(64)]
    Dataset.from_dict({"text": texts, "label": [1 - i % 2 for i in range(64)]}).to_parquet(str(folder / REVIEWS))


def lengths_of(rows: Sequence[Sequence[int]]) -> list[int]:
    """Tokens of each row."""
    return list(map(len, rows))


def origin(bench: Bench, name: str) -> str:
    """Whether a model's weights are those of the assets, for the table."""
    return "its own weights" if has_weights(bench.assets / name) else "random weights, built from its config"
