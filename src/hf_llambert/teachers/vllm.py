"""A teacher on vLLM's offline engine: big models on GPUs, many texts at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from hf_llambert.models import content_id
from hf_llambert.tasks.requests import obeys_schema, schema_of, tokens_for
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Mode, Reply, ask_apart, check, check_branch
from hf_llambert.teachers.prompting import PromptEncoder, fit_all
from hf_llambert.teachers.templates import canonical, decoded, template_arguments
from hf_llambert.teachers.tries import Ids, common, found_scores
from hf_llambert.teachers.weights import check_weights, lora_rank

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.lora.request import LoRARequest

_MOST_TOKEN_IDS = 128  # vLLM's limit on logprob_token_ids

_Words = list[list[Ids]]
_Prompt = tuple[int, list[int], bool]  # position of the text, token ids, whether the text was cut
_Branches = tuple[int, list[list[int]], bool]  # the same with the token ids of each question's prompt


@dataclass(frozen=True)
class VLLMTeacher:
    """
    A causal language model asked through vLLM's offline engine, in this process.

    Written against vLLM 0.33 and run on vLLM 0.32 for CPUs (`make engine-vllm`); not run on a GPU.

    *Score* mode reads the log-probabilities of exactly the label words' tokens. Where words have several tokens, each
    further one is a request of its own whose prompt is the text's prompt and the word so far, which the engine has in
    its prefix cache. The scores are those of [`TransformersTeacher`]. *Generate* mode lets the model write, greedily.

    One process drives one engine, on `tensor_parallel_size` GPUs. vLLM's offline engine refuses data parallelism within
    a process: to use more GPUs start one process for each group of GPUs, each with its own `CUDA_VISIBLE_DEVICES` and
    its share of the texts, all with one ledger; or serve the model and ask the endpoint.

    Args:
        model (`str`): A Hub id or a local directory.
        revision (`str`, *optional*): Branch, tag or commit of a Hub id. The commit it stands for enters the ledger.
        adapter (`str`, *optional*): A LoRA adapter (Hub id or directory).
        mode (`"score"` or `"generate"`, defaults to `"score"`): How to ask.
        structured (`bool`, defaults to `False`): In generate mode, allow only the labels' words, or JSON by the schema of
            all questions. An answer that is none of them all the same is a failed one.
        dtype (`str`, defaults to `"auto"`): `float32`, `float16`, `bfloat16`, or what vLLM chooses for the model.
        quantization (`str`, *optional*): A method of vLLM, such as `fp8` or `bitsandbytes`. A model that is stored
            quantized needs none.
        tensor_parallel_size (`int`, defaults to 1): GPUs that share the model.
        gpu_memory_utilization (`float`, defaults to 0.9): Share of each GPU's memory that the engine takes.
        max_model_len (`int`, *optional*): Longest prompt and answer in tokens. Defaults to the model's context.
        max_text_tokens (`int`, *optional*): Longest text in tokens; a longer one loses its middle. Defaults to what
            the context leaves.
        head_share (`float`, defaults to 0.5): Share of a cut text taken from its beginning.
        max_new_tokens (`int`, defaults to 64): Longest answer in generate mode. A longer one is cut, and is no label. An
            answer in JSON (several questions, or `choices`) may always have as many as the longest that answers.
        enforce_eager (`bool`, defaults to `False`): Start without compiling, which takes minutes on a CPU; slower on a GPU.
        chunk (`int`, defaults to 512): Texts handed to the engine at a time. They are in the ledger before the next
            chunk begins, so a kill costs one chunk at most.
        seed (`int`, defaults to 42): Seed of the engine.
        chat_template_kwargs (`str`, *optional*): JSON object of variables for the model's chat template, such as
            `{"enable_thinking": false}`.

    Raises:
        ValueError: An argument does not make sense.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    mode: Mode = "score"
    structured: bool = False
    dtype: str = "auto"
    quantization: str | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    max_model_len: int | None = None
    max_text_tokens: int | None = None
    head_share: float = 0.5
    max_new_tokens: int = 64
    chunk: int = 512
    seed: int = 42
    chat_template_kwargs: str | None = None

    overlaps = False

    def __post_init__(self) -> None:
        check(self.mode in ("score", "generate"), "mode", "score or generate", self.mode)
        check(not (self.structured and self.mode == "score"), "structured", "off in score mode", self.structured)
        dtypes = ("auto", "float32", "float16", "bfloat16")
        check(self.dtype in dtypes, "dtype", "auto or a float type", self.dtype)
        check(
            0 < self.gpu_memory_utilization <= 1,
            "gpu_memory_utilization",
            "over 0, up to 1",
            self.gpu_memory_utilization,
        )
        check(0 <= self.head_share <= 1, "head_share", "a number from 0 to 1", self.head_share)
        for name in ("tensor_parallel_size", "max_model_len", "max_text_tokens", "max_new_tokens", "chunk"):
            value = getattr(self, name)
            check(value is None or value > 0, name, "a positive number", value)
        template_arguments(self.chat_template_kwargs)

    def identity(self) -> dict[str, object]:
        """What decides a reply: model content, adapter, dtype, quantisation, cutting and answering. See [`Teacher`]."""
        out: dict[str, object] = {
            "teacher": "vllm",
            "model": content_id(self.model, self.revision),
            "adapter": content_id(self.adapter, config_file="adapter_config.json") if self.adapter else None,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "max_model_len": self.max_model_len,
            "max_text_tokens": self.max_text_tokens,
            "head_share": self.head_share,
            "mode": self.mode,
        }
        if (variables := canonical(self.chat_template_kwargs)) is not None:
            out["chat_template_kwargs"] = variables
        if self.mode == "generate":
            out |= {"structured": self.structured} if self.structured else {"max_new_tokens": self.max_new_tokens}
        return out

    def settings(self) -> dict[str, object]:
        """The arguments that make this teacher elsewhere. See [`Teacher`]."""
        here = (
            *("model", "revision", "adapter", "chunk"),
            *("tensor_parallel_size", "gpu_memory_utilization", "enforce_eager"),
        )
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in here}
        out: dict[str, object] = {**fields, "teacher": "vllm"}
        for name in ("model", "adapter"):
            place = getattr(self, name)
            if place is not None:
                local = Path(place).is_dir()
                out[name] = Path(place).resolve().name if local else place
                out[f"{name}_is_local"] = local
        if not out["model_is_local"]:
            out["revision"] = content_id(self.model, self.revision).split("@")[1]
        return out

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Ask about each text, a chunk at a time; texts that begin alike are asked together. See [`Teacher`].

        Raises:
            ImportError: vLLM is not installed.
            RuntimeError: vLLM finds no GPU, or its answers are not those to the requests.
            ValueError: The task does not fit the model, or several processes of one machine would share its GPUs.
        """
        if self.mode == "score":
            for scored in self.ask_branches([task], texts, rank):
                yield {i: reply for i, (reply,) in scored.items()}
            return
        llm, (encoder,), context = self._asking([task], rank)
        choices: list[str] = []
        if self.structured:
            encoder.check_answers()
        if self.structured and not task.is_json:
            choices = [str(encoder.tokenizer.decode(list(label[0]))) for label in encoder.words]
        # A constrained answer may be spelt out in small tokens.
        answer = max(len(c.encode()) for c in choices) + 1 if choices else encoder.answer_tokens(self.max_new_tokens)
        if self.structured and task.is_json:
            answer = tokens_for(task, 1)  # by the schema alone: the identity has no max_new_tokens here
        room = encoder.room(self.model, context, answer, self.max_text_tokens)
        for rows, prompts, refused, start in self._chunks([encoder], texts, room, [answer], context):
            single = [(i, ids, cut) for i, (ids,), cut in prompts]
            replies = {i: reply for i, (reply,) in refused.items()}
            if single:
                replies |= self._write(llm, single, choices, answer, encoder)
            share = (time.perf_counter() - start) / len(rows)
            yield {i: replace(reply, seconds=share) for i, reply in replies.items()}

    def ask_branches(
        self, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
    ) -> Iterator[dict[int, tuple[Reply, ...]]]:
        """
        Ask several questions about each text. In score mode the prompts about a text stand next to each other and begin
        alike, so that the engine finds the text in its prefix cache for all but the first; see [`~teachers.base.ask_branches`].

        Raises:
            ImportError, RuntimeError, ValueError: See [`~VLLMTeacher.ask`].
        """
        if self.mode == "generate":
            yield from ask_apart(self, tasks, texts, rank)
            return
        llm, encoders, context = self._asking(tasks, rank)
        for encoder in encoders:
            check_branch(encoder.task)
            encoder.check_answers()
        words = [encoder.words for encoder in encoders]
        answers = [max(len(word) for label in of_task for word in label) for of_task in words]
        rooms = [
            encoder.room(self.model, context, answer, self.max_text_tokens)
            for encoder, answer in zip(encoders, answers, strict=True)
        ]
        for rows, prompts, refused, start in self._chunks(encoders, texts, min(rooms), answers, context):
            replies = {**refused, **(self._score(llm, prompts, words) if prompts else {})}
            share = (time.perf_counter() - start) / (len(rows) * len(tasks))
            yield {i: tuple(replace(reply, seconds=share) for reply in of_text) for i, of_text in replies.items()}

    def _asking(self, tasks: Sequence[TaskSpec], rank: int | None) -> tuple[LLM, list[PromptEncoder], int]:
        """The engine, what makes the prompts of each task, and the tokens that it reads."""
        _check_alone(rank)
        llm = self._engine()
        tokenizer = AutoTokenizer.from_pretrained(self.model, revision=self.revision, trust_remote_code=False)
        variables = template_arguments(self.chat_template_kwargs)
        encoders = [PromptEncoder(tokenizer, task, variables) for task in tasks]
        return llm, encoders, min(llm.model_config.max_model_len, tokenizer.model_max_length)

    def _chunks(
        self, encoders: Sequence[PromptEncoder], texts: Sequence[str], room: int, answers: Sequence[int], context: int
    ) -> Iterator[tuple[list[int], list[_Branches], dict[int, tuple[Reply, ...]], float]]:
        """Positions of a chunk's texts, those beginning alike together; their prompts, why others have none, and the time."""
        order = iter(sorted(range(len(texts)), key=lambda i: (texts[i], i)))
        while rows := list(islice(order, self.chunk)):
            start = time.perf_counter()
            prompts: list[_Branches] = []
            refused: dict[int, tuple[Reply, ...]] = {}
            for i in rows:
                try:
                    of_text, cut = fit_all(encoders, texts[i], room, self.head_share)
                    for ids, answer in zip(of_text, answers, strict=True):
                        if len(ids) + answer > context:  # one such prompt would stop the whole chunk
                            raise ValueError(f"the prompt has {len(ids)} tokens, {context - answer} fit")
                    prompts.append((i, of_text, cut))
                except ValueError as error:  # this text only: the frame of the prompt was encoded above
                    refused[i] = (Reply(error=str(error)),) * len(encoders)
            yield rows, prompts, refused, start

    def _score(self, llm: LLM, prompts: list[_Branches], words: Sequence[_Words]) -> dict[int, tuple[Reply, ...]]:
        from vllm import SamplingParams

        first: list[list[tuple[Ids, list[int], SamplingParams]]] = []  # of each question
        later: list[list[tuple[Ids, list[int], SamplingParams]]] = []
        for of_task in words:
            following: dict[Ids, set[int]] = {}
            for word in {word for label in of_task for word in label}:
                for k in range(len(word)):
                    following.setdefault(word[:k], set()).add(word[k])
            first.append([])
            later.append([])
            for begun in sorted(following, key=len):
                wanted = sorted(following[begun])
                for start in range(0, len(wanted), _MOST_TOKEN_IDS):
                    part = wanted[start : start + _MOST_TOKEN_IDS]
                    params = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=part, detokenize=False)
                    (later if begun else first)[-1].append((begun, part, params))
        found: list[list[dict[Ids, float]]] = [[{} for _ in words] for _ in prompts]
        # The empty beginnings go first: then the prompts are in the prefix cache when the longer ones need them.
        for stage in (first, later):
            wanted_of = [
                (of_text[k], [*ids, *begun], begun, part, params)
                for (_, branches, _), of_text in zip(prompts, found, strict=True)
                for k, ids in enumerate(branches)
                for begun, part, params in stage[k]
            ]
            if not wanted_of:
                continue
            outputs = self._run(llm, [ids for _, ids, _, _, _ in wanted_of], [one[-1] for one in wanted_of])
            for output, (log_p, _, begun, part, _) in zip(outputs, wanted_of, strict=True):
                likely = (output.outputs[0].logprobs or [{}])[0]
                log_p.update({(*begun, token): likely[token].logprob for token in part if token in likely})
        replies = {}
        for (i, branches, cut), of_text in zip(prompts, found, strict=True):
            same, row = common(branches), []
            for k, (of_task, log_p) in enumerate(zip(words, of_text, strict=True)):
                scores = found_scores(of_task, log_p)
                tokens = len(branches[k]) - (same if k else 0)  # the text is read once
                if scores is None:
                    row.append(Reply(error="the engine gave no finite scores for all label words", truncated=cut))
                else:
                    row.append(Reply(scores=scores, truncated=cut, input_tokens=tokens))
            replies[i] = tuple(row)
        return replies

    def _write(
        self, llm: LLM, prompts: list[_Prompt], choices: list[str], longest: int, encoder: PromptEncoder
    ) -> dict[int, Reply]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        task = encoder.task
        by_schema = self.structured and task.is_json
        allowed_only = {"json": schema_of(task)} if by_schema else {"choice": choices} if choices else None
        params = SamplingParams(
            temperature=0.0,
            max_tokens=longest,
            structured_outputs=StructuredOutputsParams(**allowed_only) if allowed_only else None,
        )
        allowed = {choice.strip() for choice in choices}
        replies = {}
        for (i, ids, cut), output in zip(prompts, self._run(llm, [ids for _, ids, _ in prompts], params), strict=True):
            answer = output.outputs[0]
            if answer.finish_reason not in ("stop", "length"):
                error = f"the engine broke the answer off ({str(answer.finish_reason)[:40]})"
                replies[i] = Reply(error=error, truncated=cut)
                continue
            if allowed and answer.text.strip() not in allowed:
                error = f"the engine did not keep to the label words: it wrote {answer.text[:100]!r}"
                replies[i] = Reply(error=error, truncated=cut)
                continue
            if by_schema and answer.finish_reason == "stop" and not obeys_schema(task, answer.text):
                error = f"the engine did not keep to the schema: it wrote {answer.text[:100]!r}"
                replies[i] = Reply(error=error, truncated=cut)
                continue
            tokens = list(answer.token_ids)
            reply = Reply(
                response=answer.text if allowed_only else decoded(encoder.tokenizer, [tokens])[0],
                truncated=cut,
                input_tokens=len(ids),
                output_tokens=len(tokens),
                finish=answer.finish_reason,
                structured=by_schema,
            )
            replies[i] = reply if allowed_only else encoder.ended(reply)
        return replies

    def _run(self, llm: LLM, prompts: list[list[int]], params: object) -> list[RequestOutput]:
        """The engine's outputs, checked to be one for each prompt, in order."""
        outputs = llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False, lora_request=self._lora()
        )
        answered = [list(output.prompt_token_ids or []) for output in outputs if output.finished and output.outputs]
        if answered != prompts:
            raise RuntimeError(
                f"vLLM's answers are not those to the {len(prompts)} requests: {len(answered)} came, or in another order. "
                f"Nothing of this chunk is kept; what came before is in the ledger."
            )
        return outputs

    def _lora(self) -> LoRARequest | None:
        if self.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, self.adapter)

    def _engine(self) -> LLM:
        """The engine, started once in each process."""
        try:
            from vllm import LLM, SamplingParams
            from vllm.platforms import current_platform
        except ImportError as error:
            raise ImportError(
                "VLLMTeacher needs vLLM, which is not installed. Run: pip install 'hf-llambert[vllm]'"
            ) from error
        if not hasattr(SamplingParams, "logprob_token_ids"):
            raise ImportError(
                "This vLLM cannot give the probabilities of chosen tokens (logprob_token_ids). Upgrade it: pip install -U vllm"
            )
        arguments: dict[str, object] = {
            "model": self.model,
            "revision": self.revision,
            "tokenizer_revision": self.revision,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "enforce_eager": self.enforce_eager,
            "max_model_len": self.max_model_len,
            "seed": self.seed,
            "trust_remote_code": False,
            "enable_prefix_caching": True,
            "logprobs_mode": "raw_logprobs",
        }
        if self.adapter:
            arguments |= {"enable_lora": True, "max_lora_rank": lora_rank(self.adapter)}
        key = json.dumps(arguments, sort_keys=True)
        if key not in _LOADED:
            check_weights(self.model, self.revision, self.adapter)
            # Asked of vLLM, not of torch: torch would start CUDA here, and then the engine's process cannot fork.
            if not current_platform.device_type:
                raise RuntimeError("vLLM finds no GPU here. Use TransformersTeacher, or a machine that has one.")
            _LOADED[key] = LLM(**arguments)
        return _LOADED[key]


_LOADED: dict[str, LLM] = {}


def _check_alone(rank: int | None) -> None:
    if rank or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "VLLMTeacher wants one process on a machine, or one for each group of GPUs: several would take the same "
            "ones. Use tensor_parallel_size, or start each process by itself with its own CUDA_VISIBLE_DEVICES."
        )
