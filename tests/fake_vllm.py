"""
Stands where vLLM stands, with the part of vLLM 0.33's interface that the teacher uses: same names, same arguments, same
refusals. Behind it a transformers model computes, so that scores can be compared.
"""

import json
import sys
import types
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ENGINES: list["LLM"] = []


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: list | None
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class StructuredOutputsParams:
    json: str | dict | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


@dataclass
class SamplingParams:
    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self):
        if self.logprob_token_ids is not None:
            n = len(self.logprob_token_ids)
            if not 0 < n <= 128 or self.logprobs not in (None, n):
                raise ValueError(f"Requested logprob_token_ids of length {n}")


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class ModelConfig:
    max_model_len: int


class LLM:
    def __init__(
        self, model, *, tokenizer=None, trust_remote_code=False, tensor_parallel_size=1, dtype="auto", quantization=None,
        revision=None, tokenizer_revision=None, seed=0, gpu_memory_utilization=0.92, max_model_len=None,
        enable_prefix_caching=None, logprobs_mode="raw_logprobs", enable_lora=False, max_lora_rank=16,
        enforce_eager=False,
    ):  # fmt: skip
        self.arguments = {k: v for k, v in locals().items() if k != "self"}
        self._model = AutoModelForCausalLM.from_pretrained(model).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self.model_config = ModelConfig(max_model_len or self._model.config.max_position_embeddings)
        self.calls, self.disobeys, self.scrambles, self.gives_nan, self.aborts = [], False, False, False, False
        ENGINES.append(self)

    def get_tokenizer(self):
        return self._tokenizer

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        if lora_request is not None and not self.arguments["enable_lora"]:
            raise ValueError("LoRA is not enabled")
        self.calls.append((prompts, sampling_params, lora_request))
        for prompt in prompts:
            if len(prompt["prompt_token_ids"]) + 1 > self.model_config.max_model_len:
                raise ValueError("The decoder prompt is longer than the maximum model length")
        each = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        outputs = [
            self._answer(k, p["prompt_token_ids"], one) for k, (p, one) in enumerate(zip(prompts, each, strict=True))
        ]
        return outputs[::-1] if self.scrambles else outputs

    @torch.inference_mode()
    def _answer(self, number, ids, params):
        written, logprobs = [], [] if params.logprob_token_ids else None
        structured = params.structured_outputs
        for _ in range(params.max_tokens):
            row = self._model(torch.tensor([[*ids, *written]])).logits[0, -1].float().log_softmax(-1)
            if self.gives_nan:
                row = row * float("nan")
            token = int(row.argmax())
            written.append(token)
            if logprobs is not None:
                logprobs.append({t: Logprob(float(row[t])) for t in (token, *params.logprob_token_ids)})
            if structured or token == self._tokenizer.eos_token_id:
                break
        ended = bool(structured) or written[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(written, skip_special_tokens=True) if params.detokenize else ""
        if structured and not self.disobeys:
            if structured.json:
                fields = structured.json["properties"]
                firsts = {name: one.get("items", one)["enum"][0] for name, one in fields.items()}
                text = json.dumps({n: [v] if "items" in fields[n] else v for n, v in firsts.items()})
            else:
                text = structured.choice[written[0] % len(structured.choice)]
        output = CompletionOutput(
            0, text, written, None, logprobs, "abort" if self.aborts else "stop" if ended else "length"
        )
        return RequestOutput(str(number), None, list(ids), None, [output], True)


def install(monkeypatch, device_type="cuda"):
    """Put this module in vLLM's place for one test."""
    ENGINES.clear()
    here = sys.modules[__name__]
    names = ("platforms", "sampling_params", "lora", "lora.request")
    platforms, sampling, lora, request = (types.ModuleType(f"vllm.{name}") for name in names)
    platforms.current_platform = types.SimpleNamespace(device_type=device_type)
    sampling.StructuredOutputsParams, sampling.SamplingParams = StructuredOutputsParams, SamplingParams
    request.LoRARequest = LoRARequest
    monkeypatch.setitem(sys.modules, "vllm", here)
    for module in (platforms, sampling, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("hf_llambert.teachers.vllm._LOADED", {})
