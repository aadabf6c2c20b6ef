"""A teacher that runs here: any causal language model that transformers loads, GGUF files and adapters included."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig, GgufConfig

from hf_llambert.models import (
    choose_device,
    choose_dtype,
    content_id,
    cpu_computes,
    limit_worker_threads,
    model_cache,
)
from hf_llambert.processes import world_size
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Mode, Reply, ask_apart, ask_branches, check, check_branch
from hf_llambert.teachers.engine import Engine
from hf_llambert.teachers.prompting import PromptEncoder, fit_all
from hf_llambert.teachers.templates import canonical, template_arguments
from hf_llambert.teachers.tries import WordTrie
from hf_llambert.teachers.weights import check_weights

_CPU_BATCH = {"score": 900, "generate": 3600}  # writing wants more rows: each step reads all weights
_GPU_BATCH = 32_768
_WARM_ROWS = 8
_COUNTED_TOGETHER = 1000  # texts
_MOST_PROMPTS = 4096  # of several questions, in memory at a time
_LEAST_WINDOW = 128  # texts whose batches are of similar length


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
        attention (`str`, *optional*): `sdpa`, `eager`, `flash_attention_2` or another that transformers knows. Defaults to
            its choice.
        device (`str`, *optional*): Such as `cpu`, `cuda:1`, or `auto` to spread one model over all GPUs. Defaults to
            this process's GPU, else the CPU.
        max_text_tokens (`int`, *optional*): Longest text in tokens; a longer one loses its middle. Defaults to what
            the model's context leaves.
        head_share (`float`, defaults to 0.5): Share of a cut text taken from its beginning.
        batch_tokens (`int`, *optional*): Padded tokens in one forward pass, without the prefix that all prompts share.
            On a CPU it defaults to what measured fastest, 900, or 3,600 in generate mode; on a GPU to 32,768. Halved
            whenever memory runs out.
        max_new_tokens (`int`, defaults to 64): Longest answer in generate mode. A longer one is cut, and is no label. An
            answer in JSON (several questions, or `choices`) may always have as many as the longest that answers.
        temperature (`float`, defaults to 0): 0 takes the likeliest token; more samples.
        top_k (`int`, defaults to 50): Tokens that sampling draws from.
        seed (`int`, defaults to 42): Seed of sampling.
        chat_template_kwargs (`str`, *optional*): JSON object of variables for the model's chat template, such as
            `{"enable_thinking": false}`.
    """

    model: str
    revision: str | None = None
    gguf_file: str | None = None
    adapter: str | None = None
    mode: Mode = "score"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    attention: str | None = None
    device: str | None = None
    max_text_tokens: int | None = None
    head_share: float = 0.5
    batch_tokens: int | None = None
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 50
    seed: int = 42
    chat_template_kwargs: str | None = None

    overlaps = False

    def __post_init__(self) -> None:
        check(self.mode in ("score", "generate"), "mode", "score or generate", self.mode)
        check(self.dtype in ("auto", "float32", "float16", "bfloat16"), "dtype", "auto or a float type", self.dtype)
        check(self.quantization in (None, "4bit", "8bit"), "quantization", "4bit or 8bit", self.quantization)
        check(0 <= self.head_share <= 1, "head_share", "a number from 0 to 1", self.head_share)
        check(self.max_new_tokens > 0, "max_new_tokens", "a positive number", self.max_new_tokens)
        check(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        for name in ("max_text_tokens", "batch_tokens"):
            value = getattr(self, name)
            check(value is None or value > 0, name, "a positive number", value)
        template_arguments(self.chat_template_kwargs)

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
        if (variables := canonical(self.chat_template_kwargs)) is not None:
            out["chat_template_kwargs"] = variables
        if self.mode == "generate":
            out["max_new_tokens"] = self.max_new_tokens
            if self.temperature:
                out |= {"temperature": self.temperature, "top_k": self.top_k, "seed": self.seed}
        return out

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere. See [`Teacher`]."""
        here = ("model", "revision", "adapter", "attention", "device", "batch_tokens")
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
        if self.mode == "score":
            for scored in self.ask_branches([task], texts, rank):
                yield {i: reply for i, (reply,) in scored.items()}
            return
        engine = self._load(rank)
        (encoder,), _, room = self._encoding(engine, [task])
        rows, prompts, cut, refused = self._prompts([encoder], texts, room)
        if refused:
            yield {i: Reply(error=why) for i, why in refused.items()}
        ids = [prompt for (prompt,) in prompts]
        config = self._generation(engine, encoder)
        for batch in engine.generate(ids, encoder.shared(ids), config, self.seed, self._budget(engine)):
            yield {rows[k]: replace(encoder.ended(reply), truncated=cut[k]) for k, reply in batch.items()}

    def ask_branches(
        self, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
    ) -> Iterator[dict[int, tuple[Reply, ...]]]:
        """
        Ask several questions about each text. In score mode a text is read once for all of them, cut for all of them alike,
        and the scores are those of asking one by one; see [`~teachers.base.ask_branches`].

        Raises:
            ValueError: A task does not fit the model; see [`~TransformersTeacher.ask`].
        """
        if self.mode == "generate":
            yield from ask_apart(self, tasks, texts, rank)
            return
        engine = self._load(rank)
        encoders, tries, room = self._encoding(engine, tasks)
        window = len(texts) if len(tasks) == 1 else max(_LEAST_WINDOW, _MOST_PROMPTS // len(tasks))
        for start in range(0, len(texts), max(window, 1)):
            rows, prompts, cut, refused = self._prompts(encoders, texts[start : start + window], room)
            if refused:
                yield {start + i: (Reply(error=why),) * len(tasks) for i, why in refused.items()}
            shared = encoders[0].shared(of_text[0] for of_text in prompts)
            for batch in engine.score_branches(prompts, shared, tries, self._budget(engine)):
                yield {
                    start + rows[k]: tuple(replace(reply, truncated=cut[k]) for reply in replies)
                    for k, replies in batch.items()
                }

    def warm_up(self, task: TaskSpec, text: str) -> None:
        """
        Load the model and run it on a batch of `text`, so that timing what follows measures asking only.

        Raises:
            ValueError: The task does not fit the model; see [`~TransformersTeacher.ask`].
        """
        for _ in range(2):  # the first pass also computes the shared prefix
            for _ in ask_branches(self, self._asked(task), [text] * _WARM_ROWS):
                pass

    def measure(self, task: TaskSpec, texts: Sequence[str]) -> tuple[list[int], list[int], int]:
        """
        How long prompts would be, counted quickly, without running the model.

        Args:
            task (`TaskSpec`): What would be asked.
            texts (`Sequence[str]`): The texts.

        Returns:
            `tuple[list[int], list[int], int]`: Tokens of each text; tokens of each prompt, give or take the one or two that
            join and cut a text, all questions of a text together; and the most tokens of a text that is not cut.

        Raises:
            ValueError: The task does not fit the model; see [`~TransformersTeacher.ask`].
        """
        engine = self._load(None)
        encoders, _, room = self._encoding(engine, self._asked(task))
        encode, own = engine.tokenizer, []
        for start in range(0, len(texts), _COUNTED_TOGETHER):
            part = list(texts[start : start + _COUNTED_TOGETHER])
            bare: dict = {"split_special_tokens": True, "return_attention_mask": False, "verbose": False}
            found = encode(part, add_special_tokens=False, **bare)
            own += [len(ids) for ids in found.input_ids]
        prompts = [encoder.encode(encoder.task.filled(".")) for encoder in encoders]
        read, times = engine.tokens_read(prompts)
        return own, [read + times * (min(n, room) - 1) for n in own], room

    def convert(self, output: str | Path) -> None:
        """
        Save the loaded model and its tokenizer as a plain safetensors directory: a GGUF file dequantized, an adapter
        merged. The result has the same weights and loads in a fraction of the time.
        """
        engine = self._load(None)
        engine.model.save_pretrained(output)
        engine.tokenizer.save_pretrained(output)

    def _asked(self, task: TaskSpec) -> list[TaskSpec]:
        """The tasks that are asked for a task's answers."""
        if self.mode == "generate":
            return [task]
        return [branch for branches in task.branches.values() for branch in branches]

    def _prompts(
        self, encoders: Sequence[PromptEncoder], texts: Sequence[str], room: int
    ) -> tuple[list[int], list[list[list[int]]], list[bool], dict[int, str]]:
        """Positions of texts, their prompts, whether each was cut; and by position why others cannot be asked about."""
        rows, prompts, cut, refused = [], [], [], {}
        for i, text in enumerate(texts):
            try:
                of_text, was_cut = fit_all(encoders, text, room, self.head_share)
            except ValueError as error:  # this text only: the frame of the prompt was encoded before
                refused[i] = str(error)
            else:
                rows.append(i)
                prompts.append(of_text)
                cut.append(was_cut)
        return rows, prompts, cut, refused

    def _budget(self, engine: Engine) -> int:
        return self.batch_tokens or (_GPU_BATCH if engine.model.device.type != "cpu" else _CPU_BATCH[self.mode])

    def _encoding(self, engine: Engine, tasks: Sequence[TaskSpec]) -> tuple[list[PromptEncoder], list[WordTrie], int]:
        """What makes the prompts, the label words of each in score mode, and the tokens that a text may have."""
        context = min(
            getattr(engine.model.config.get_text_config(), "max_position_embeddings", None) or 2**31,
            engine.tokenizer.model_max_length,
        )
        encoders, tries, rooms = [], [], []
        for task in tasks:
            encoder = PromptEncoder(engine.tokenizer, task, template_arguments(self.chat_template_kwargs))
            answer = encoder.answer_tokens(self.max_new_tokens)
            if self.mode == "score":
                check_branch(task)
                encoder.check_answers()
                tries.append(WordTrie(tuple(tuple(words) for words in encoder.words)))
                answer = max(map(len, tries[-1].words))
            encoders.append(encoder)
            rooms.append(encoder.room(self.model, context, answer, self.max_text_tokens))
        return encoders, tries, min(rooms)

    def _dtype(self, device: str) -> str:
        return choose_dtype(device) if self.dtype == "auto" else self.dtype

    def _load(self, rank: int | None) -> Engine:
        """The tokenizer and model, loaded once in each process."""
        limit_worker_threads()
        device = choose_device(self.device, rank)
        what = (self.model, self.revision, self.gguf_file, self.adapter)
        key = (*what, self._dtype(device), self.quantization, self.attention, device)
        if key not in _LOADED:
            _LOADED[key] = self._load_anew(device)
        return _LOADED[key]

    def _load_anew(self, device: str) -> Engine:
        dtype = self._dtype(device)
        if device == "cpu" and not cpu_computes(dtype):
            warnings.warn(f"This CPU has no {dtype} arithmetic: up to 80 times slower than dtype='float32'.")
        check_weights(None if self.gguf_file else self.model, self.revision, self.adapter)
        # Left out, trust_remote_code asks, and a "y" that happens to be on stdin runs a stranger's code.
        kwargs: dict[str, object] = {
            "revision": self.revision,
            "dtype": getattr(torch, dtype),
            "trust_remote_code": False,
            "output_attentions": False,  # whatever the checkpoint asks for: they would be kept of every layer
            "output_hidden_states": False,
        }
        if self.gguf_file:
            kwargs |= {"gguf_file": self.gguf_file, "quantization_config": GgufConfig(dequantize=True)}
        else:
            kwargs["use_safetensors"] = True
        if self.attention:
            kwargs["attn_implementation"] = self.attention
        if self.quantization:
            if not torch.cuda.is_available():
                raise ValueError(f"quantization='{self.quantization}' needs a GPU and there is none. Drop it.")
            four = self.quantization == "4bit"
            kwargs["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=four, load_in_8bit=not four, bnb_4bit_compute_dtype=getattr(torch, dtype)
            )
            kwargs["device_map"] = device
        elif device == "auto":
            if world_size() > 1:
                raise ValueError("device='auto' spreads one model over all GPUs: run one process, not several.")
            kwargs["device_map"] = "auto"
        tokenizer = AutoTokenizer.from_pretrained(
            self.model,
            revision=self.revision,
            trust_remote_code=False,
            **({"gguf_file": self.gguf_file} if self.gguf_file else {}),
        )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id or 0  # masked out, so any id will do
        model = AutoModelForCausalLM.from_pretrained(self.model, **kwargs)
        if self.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, self.adapter, use_safetensors=True).merge_and_unload()
        if "device_map" not in kwargs:
            model.to(device)  # type: ignore[arg-type]  # its stub lost self
        return Engine(tokenizer, model.eval())

    def _generation(self, engine: Engine, encoder: PromptEncoder) -> GenerationConfig:
        config = copy.deepcopy(engine.model.generation_config)
        ends = config.eos_token_id
        ends = list(ends) if isinstance(ends, list | tuple) else [] if ends is None else [ends]
        own = engine.tokenizer.eos_token_id
        config.update(
            max_new_tokens=encoder.answer_tokens(self.max_new_tokens),
            max_length=None,
            eos_token_id=[*ends, *([own] if own is not None and own not in ends else [])] or None,
            pad_token_id=engine.tokenizer.pad_token_id,
            do_sample=self.temperature > 0,
            temperature=self.temperature or None,
            top_k=self.top_k if self.temperature else None,
            top_p=None,
        )
        return config


_LOADED: dict[tuple, Engine] = model_cache()
