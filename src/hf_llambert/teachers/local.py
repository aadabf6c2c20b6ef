"""A teacher that runs here: any causal language model that transformers loads, GGUF files and adapters included."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GgufConfig

from hf_llambert.models import choose_device, choose_dtype, content_id, limit_worker_threads
from hf_llambert.tasks import TaskSpec
from hf_llambert.teachers.base import Mode, Reply
from hf_llambert.teachers.prompting import PromptEncoder, exclusive_words
from hf_llambert.texts import length_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CONTEXT_MARGIN = 8  # cutting a text moves token boundaries; the prompt may come out a few tokens longer


@dataclass(frozen=True)
class TransformersTeacher:
    """
    A causal language model asked through transformers, in this process.

    *Score* mode reads the probability of each label's words after the prompt and never leaves the label set.
    *Generate* mode lets the model write and parses what it wrote.

    Args:
        model (`str`): A Hub id or a local directory.
        revision (`str`, *optional*): Branch, tag or commit of a Hub id. The commit it stands for enters the ledger.
        gguf_file (`str`, *optional*): Name of a GGUF file in `model`; it is dequantized when loaded.
            [`~TransformersTeacher.convert`] once makes later starts faster.
        adapter (`str`, *optional*): A PEFT adapter (Hub id or directory), merged into the model when loaded.
        mode (`"score"` or `"generate"`, defaults to `"score"`): How to ask.
        dtype (`str`, defaults to `"auto"`): `float32`, `float16` or `bfloat16`. `auto` takes the fastest that the
            device computes natively: float32 on a CPU, bfloat16 or float16 on a GPU.
        quantization (`"4bit"` or `"8bit"`, *optional*): Load through bitsandbytes (needs a GPU).
        device (`str`, *optional*): Such as `cpu`, `cuda:1`, or `auto` to spread one model over all GPUs. Defaults to
            this process's GPU, else the CPU.
        max_text_tokens (`int`, *optional*): Longest text in tokens; a longer one loses its middle. Defaults to what
            the model's context leaves.
        head_share (`float`, defaults to 0.5): Share of a cut text taken from its beginning.
        batch_tokens (`int`, defaults to 4096): Padded tokens in one forward pass.
        max_new_tokens (`int`, defaults to 10): Longest answer in generate mode.
        temperature (`float`, defaults to 0): 0 takes the likeliest token; more samples.
        top_k (`int`, defaults to 50): Tokens that sampling draws from.
        seed (`int`, defaults to 42): Seed of sampling.
    """

    model: str
    revision: str | None = None
    gguf_file: str | None = None
    adapter: str | None = None
    mode: Mode = "score"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    device: str | None = None
    max_text_tokens: int | None = None
    head_share: float = 0.5
    batch_tokens: int = 4096
    max_new_tokens: int = 10
    temperature: float = 0.0
    top_k: int = 50
    seed: int = 42

    def __post_init__(self) -> None:
        _check(self.mode in ("score", "generate"), "mode", "score or generate", self.mode)
        _check(self.dtype in ("auto", "float32", "float16", "bfloat16"), "dtype", "auto or a float type", self.dtype)
        _check(self.quantization in (None, "4bit", "8bit"), "quantization", "4bit or 8bit", self.quantization)
        _check(0 <= self.head_share <= 1, "head_share", "a number from 0 to 1", self.head_share)
        _check(self.batch_tokens > 0, "batch_tokens", "a positive number", self.batch_tokens)
        _check(self.max_new_tokens > 0, "max_new_tokens", "a positive number", self.max_new_tokens)
        _check(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        if self.max_text_tokens is not None:
            _check(self.max_text_tokens > 0, "max_text_tokens", "a positive number", self.max_text_tokens)

    def identity(self) -> dict[str, object]:
        """What decides a reply: model content, dtype, quantisation, adapter, cutting and sampling. See [`Teacher`]."""
        out: dict[str, object] = {
            "teacher": "transformers",
            "model": content_id(self.model, self.revision, self.gguf_file),
            "adapter": content_id(self.adapter, config_file="adapter_config.json") if self.adapter else None,
            "dtype": self._dtype(choose_device(self.device)),
            "quantization": self.quantization,
            "max_text_tokens": self.max_text_tokens,
            "head_share": self.head_share,
            "mode": self.mode,
        }
        if self.mode == "generate":
            out["max_new_tokens"] = self.max_new_tokens
            if self.temperature:
                out |= {"temperature": self.temperature, "top_k": self.top_k, "seed": self.seed}
        return out

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere. See [`Teacher`]."""
        here = ("model", "revision", "adapter", "device", "batch_tokens")
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in here}
        out = {**fields, "teacher": "transformers", "dtype": self._dtype(choose_device(self.device))}
        for name, revision in (("model", self.revision), ("adapter", None)):
            place = getattr(self, name)
            if place is None:
                continue
            local = Path(place).is_dir()
            out[name] = Path(place).resolve().name if local else place
            out[f"{name}_is_local"] = local
            if name == "model" and not local:
                out["revision"] = content_id(place, revision, self.gguf_file).split("@")[1].split(":")[0]
        return out

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Ask about each text, in batches of similar length. See [`Teacher`].

        Raises:
            ValueError: The task does not fit the model: no chat template, no room for a text, or label words that the
                tokenizer cannot tell apart.
        """
        tokenizer, model = self._load(rank)
        encoder = PromptEncoder(tokenizer, task)
        words = encoder.words if self.mode == "score" else []
        room = self._room(tokenizer, model, encoder, words)
        prompts, refused = [], {}
        for i, text in enumerate(texts):
            try:
                prompts.append(encoder.fit(text, room, self.head_share))
            except ValueError as error:  # this text only: the frame of the prompt was encoded above
                refused[i] = Reply(error=str(error))
                prompts.append(([tokenizer.pad_token_id], False))
        if refused:
            yield refused
        for batch in length_batches([len(ids) for ids, _ in prompts], self.batch_tokens):
            start = time.perf_counter()
            ids, mask = _left_pad([prompts[i][0] for i in batch], tokenizer.pad_token_id, model.device)
            if self.mode == "score":
                answers = [_scored(row) for row in _score(model, ids, mask, words)]
            else:
                answers = [Reply(response=text) for text in self._generate(tokenizer, model, ids, mask)]
            share = (time.perf_counter() - start) / len(batch)
            yield {
                i: replace(answer, truncated=prompts[i][1], seconds=share)
                for i, answer in zip(batch, answers, strict=True)
                if i not in refused
            }

    def convert(self, output: str | Path) -> None:
        """
        Save the loaded model and its tokenizer as a plain safetensors directory: a GGUF file dequantized, an adapter
        merged. The result has the same weights and loads in a fraction of the time.
        """
        tokenizer, model = self._load(None)
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)

    def _dtype(self, device: str) -> str:
        return choose_dtype(device) if self.dtype == "auto" else self.dtype

    def _load(self, rank: int | None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        """The tokenizer and model, loaded once in each process."""
        limit_worker_threads()
        device = choose_device(self.device, rank)
        key = (self.model, self.revision, self.gguf_file, self.adapter, self._dtype(device), self.quantization, device)
        if key not in _LOADED:
            _LOADED[key] = self._load_anew(device)
        return _LOADED[key]

    def _load_anew(self, device: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        dtype = self._dtype(device)
        if device == "cpu" and dtype != "float32":
            warnings.warn(f"{dtype} on a CPU may be up to 80 times slower than float32; pass dtype='float32'.")
        kwargs: dict[str, object] = {"revision": self.revision, "dtype": getattr(torch, dtype)}
        if self.gguf_file:
            kwargs |= {"gguf_file": self.gguf_file, "quantization_config": GgufConfig(dequantize=True)}
        else:
            kwargs["use_safetensors"] = True
        if self.quantization:
            if not torch.cuda.is_available():
                raise ValueError(f"quantization='{self.quantization}' needs a GPU and there is none. Drop it.")
            four = self.quantization == "4bit"
            kwargs["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=four, load_in_8bit=not four, bnb_4bit_compute_dtype=getattr(torch, dtype)
            )
            kwargs["device_map"] = device
        elif device == "auto":
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise ValueError("device='auto' spreads one model over all GPUs: run one process, not several.")
            kwargs["device_map"] = "auto"
        tokenizer = AutoTokenizer.from_pretrained(
            self.model, revision=self.revision, **({"gguf_file": self.gguf_file} if self.gguf_file else {})
        )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id or 0  # masked out, so any id will do
        model = AutoModelForCausalLM.from_pretrained(self.model, **kwargs)
        if self.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, self.adapter, use_safetensors=True).merge_and_unload()
        if "device_map" not in kwargs:
            model.to(device)  # type: ignore[arg-type]  # its stub lost self
        return tokenizer, model.eval()

    def _room(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        words: list[list[tuple[int, ...]]],
    ) -> int:
        """Tokens that a text may have."""
        context = min(getattr(model.config, "max_position_embeddings", None) or 2**31, tokenizer.model_max_length)
        answer = max(len(ids) for label in words for ids in label) if words else self.max_new_tokens
        room = context - encoder.overhead - answer - _CONTEXT_MARGIN
        if room < 1:
            raise ValueError(
                f"The prompt of task '{encoder.task.name}' takes {encoder.overhead + answer} tokens without a text, "
                f"but '{self.model}' reads {context}. Use fewer or shorter examples, or another model."
            )
        return min(room, self.max_text_tokens or room)

    @torch.inference_mode()
    def _generate(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor
    ) -> list[str]:
        config = copy.deepcopy(model.generation_config)
        config.update(
            max_new_tokens=self.max_new_tokens,
            max_length=None,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=self.temperature > 0,
            temperature=self.temperature or None,
            top_k=self.top_k if self.temperature else None,
            top_p=None,
        )
        with torch.random.fork_rng(enabled=self.temperature > 0):
            if self.temperature:
                # From the batch itself, so that a resumed run does not repeat the draws of its first batch.
                torch.manual_seed(self.seed + zlib.crc32(ids.cpu().numpy().tobytes()))
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # type: ignore[operator]
        return tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


_LOADED: dict[tuple, tuple[PreTrainedTokenizerBase, PreTrainedModel]] = {}


def _check(fine: bool, name: str, expected: str, got: object) -> None:
    if not fine:
        raise ValueError(f"{name} must be {expected}, got {got!r}.")


def _scored(scores: list[float]) -> Reply:
    if all(map(math.isfinite, scores)):
        return Reply(scores=tuple(scores))
    return Reply(error="the model gave no finite scores; a wider dtype (bfloat16, float32) may help")


def _left_pad(rows: list[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (rows, longest row). Padding goes left, so that every prompt ends in the last column."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


@torch.inference_mode()
def _score(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, words: list[list[tuple[int, ...]]]
) -> list[list[float]]:
    """
    Log-probability of each label: of any of its words, and of no longer listed word. Shape (rows, labels).

    One forward pass reads every first token; each word of several tokens takes one more, short pass over the cache.
    """
    listed = exclusive_words(words)
    long_words = [word for word in listed if len(word) > 1]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=bool(long_words), logits_to_keep=1
    )
    first = out.logits[:, -1].float().log_softmax(-1)
    scores = {word: first[:, word[0]] for word in listed}
    for word in long_words:
        feed = torch.tensor([word[:-1]], device=ids.device).expand(len(ids), -1)
        steps = torch.arange(1, feed.shape[1] + 1, device=ids.device)
        logits = model(
            input_ids=feed,
            attention_mask=torch.cat([mask, torch.ones_like(feed)], 1),
            position_ids=positions[:, -1:] + steps,
            past_key_values=copy.deepcopy(out.past_key_values),  # a forward pass writes into its cache
            use_cache=True,
        ).logits
        rest = (
            logits.float()
            .log_softmax(-1)
            .gather(2, torch.tensor(word[1:], device=ids.device).expand(len(ids), -1)[..., None])
        )
        scores[word] = scores[word] + rest[..., 0].sum(1)
    alone = {word: _minus(scores[word], [scores[longer] for longer in children]) for word, children in listed.items()}
    labels = [torch.stack([alone[ids_] for ids_ in dict.fromkeys(label)]).logsumexp(0) for label in words]
    return torch.stack(labels, 1).double().cpu().tolist()


def _minus(log_p: torch.Tensor, log_parts: list[torch.Tensor]) -> torch.Tensor:
    """log(p − Σ parts), where the parts are within p but for rounding."""
    if not log_parts:
        return log_p
    share = (torch.stack(log_parts).logsumexp(0) - log_p).exp().clamp(max=1 - 1e-6)
    return log_p + torch.log1p(-share)
