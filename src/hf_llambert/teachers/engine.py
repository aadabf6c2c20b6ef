"""The forward passes of a teacher that runs here: a shared prefix, batches that fit, label words through a trie."""

from __future__ import annotations

import copy
import inspect
import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from hf_llambert.tasks.budget import TokenBudget
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.templates import decoded

_MIN_PREFIX = 16  # a shorter one costs more to attach than to compute again
_KEPT_PREFIXES = 4
_KeyValues = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class WordTrie:
    """
    The label words as a trie of tokens: each beginning that several words share is computed once.

    Args:
        labels (`tuple[tuple[tuple[int, ...], ...], ...]`): For each label the token ids of each of its words.
    """

    labels: tuple[tuple[tuple[int, ...], ...], ...]

    @cached_property
    def words(self) -> list[tuple[int, ...]]:
        """All words, without repetition."""
        return list(dict.fromkeys(word for label in self.labels for word in label))

    @cached_property
    def nodes(self) -> list[tuple[int, ...]]:
        """What has to be fed to the model after the prompt: every proper beginning of a word, parents first."""
        return sorted(
            {word[:k] for word in self.words for k in range(1, len(word))}, key=lambda node: (len(node), node)
        )

    def label_scores(self, log_p: dict[tuple[int, ...], torch.Tensor]) -> torch.Tensor:
        """
        Log-probability of each label, (rows, labels): of any of its words, and of no longer listed word, so that `1`
        and `10` do not overlap. `log_p` has that of each word, (rows,).
        """
        alone = {}
        for word in self.words:
            longer = [w for w in self.words if len(w) > len(word) and w[: len(word)] == word]
            nearest = [w for w in longer if not any(w[: len(v)] == v for v in longer if len(v) < len(w))]
            alone[word] = _minus(log_p[word], [log_p[w] for w in nearest])
        labels = [torch.stack([alone[word] for word in dict.fromkeys(label)]).logsumexp(0) for label in self.labels]
        return torch.stack(labels, 1)


class Engine:
    """
    Runs one loaded model over prompts, in batches of similar length within a budget of tokens.

    What all prompts begin with is computed once and kept. When memory runs out the budget halves, for the rest of the
    process, and the batch is tried again.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer, with a padding token.
        model (`PreTrainedModel`): A causal language model in evaluation mode.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self._budget = TokenBudget()
        self._prefixes: dict[tuple[int, ...], _KeyValues] = {}
        layers = DynamicCache(config=model.config).layers
        takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        # Sliding windows, recurrent states and the like cannot be handed from one batch to another.
        self._shares_prefix = takes_positions and bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def score(
        self, prompts: Sequence[Sequence[int]], shared: int, trie: WordTrie, batch_tokens: int
    ) -> Iterator[dict[int, Reply]]:
        """
        The log-probability of each label after each prompt.

        Args:
            prompts (`Sequence[Sequence[int]]`): Token ids.
            shared (`int`): How many tokens at the beginning are the same in all of them.
            trie (`WordTrie`): The label words.
            batch_tokens (`int`): Largest padded tokens of a batch, without the shared prefix.

        Yields:
            `dict[int, Reply]`: By position in `prompts`, batch by batch, the longest first.
        """
        own_mask = not trie.nodes or self.model.config._attn_implementation in ("sdpa", "eager")
        log_p_of = self._packed if self._shares_prefix and own_mask else self._fed_apart

        def answer(prefix: Sequence[int], rows: list[Sequence[int]]) -> list[Reply]:
            scores = trie.label_scores(log_p_of(prefix, rows, trie))
            return [_scored(row) for row in scores.double().cpu().tolist()]

        return self._in_batches(prompts, shared, batch_tokens, len(trie.nodes), answer)

    def generate(
        self, prompts: Sequence[Sequence[int]], shared: int, config: GenerationConfig, seed: int, batch_tokens: int
    ) -> Iterator[dict[int, Reply]]:
        """
        What the model writes after each prompt. As [`~Engine.score`].

        Args:
            prompts (`Sequence[Sequence[int]]`): Token ids.
            shared (`int`): How many tokens at the beginning are the same in all of them.
            config (`GenerationConfig`): How to write.
            seed (`int`): Seed of sampling; each batch draws from it and its own content.
            batch_tokens (`int`): Largest padded tokens of a batch, without the shared prefix.
        """

        def answer(prefix: Sequence[int], rows: list[Sequence[int]]) -> list[Reply]:
            written = self._written(prefix, rows, config, seed)
            texts = decoded(self.tokenizer, written)
            pad, most = self.tokenizer.pad_token_id, config.max_new_tokens or 0
            ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
            # Rows that ended are padded: one without an end is cut, unless it stopped before the last step.
            cut = [len(row) >= most and not any(end in row for end in ends) for row in written]
            lengths = [max((i + 1 for i, token in enumerate(row) if token != pad), default=0) for row in written]
            return [
                Reply(response=text, output_tokens=n, finish="length" if was_cut else "stop")
                for text, n, was_cut in zip(texts, lengths, cut, strict=True)
            ]

        return self._in_batches(prompts, shared, batch_tokens, config.max_new_tokens or 0, answer)

    def _in_batches(
        self,
        prompts: Sequence[Sequence[int]],
        shared: int,
        batch_tokens: int,
        extra: int,
        answer: Callable[[Sequence[int], list[Sequence[int]]], list[Reply]],
    ) -> Iterator[dict[int, Reply]]:
        if not prompts:
            return
        prefix = list(prompts[0][:shared]) if self._shares_prefix and shared >= _MIN_PREFIX else []
        lengths = [len(prompt) - len(prefix) + extra for prompt in prompts]

        def timed(batch: list[int]) -> tuple[list[Reply], float]:
            start = time.perf_counter()
            replies = answer(prefix, [prompts[i][len(prefix) :] for i in batch])
            return replies, (time.perf_counter() - start) / len(batch)

        for batch, done in self._budget.compute(lengths, batch_tokens, timed):
            error = f"out of memory on one text of {lengths[batch[0]]} tokens; cut it shorter"
            replies, seconds = done or ([Reply(error=error)], 0.0)
            yield {
                i: replace(reply, seconds=seconds, input_tokens=len(prompts[i]))
                for i, reply in zip(batch, replies, strict=True)
            }

    @torch.inference_mode()
    def _packed(
        self, prefix: Sequence[int], rows: list[Sequence[int]], trie: WordTrie
    ) -> dict[tuple[int, ...], torch.Tensor]:
        """
        Log-probability of each word, (rows,), in one pass: the trie's nodes stand behind each text, and each sees the
        text and its own ancestors only.
        """
        nodes = trie.nodes
        width, device = max(map(len, rows)), self.model.device
        ids, lengths = _right_pad(rows, self.tokenizer.pad_token_id, device)
        positions = len(prefix) + torch.arange(width, device=device).expand(len(rows), -1)
        read = lengths[:, None] - 1
        mask = None  # padding stands on the right, where no text looks
        if nodes:
            depths = torch.tensor([len(node) for node in nodes], device=device)
            tails = torch.tensor([node[-1] for node in nodes], device=device)
            ids = torch.cat([ids, tails.expand(len(rows), -1)], 1)
            positions = torch.cat([positions, len(prefix) + lengths[:, None] + depths - 1], 1)
            read = torch.cat([read, (width + torch.arange(len(nodes), device=device)).expand(len(rows), -1)], 1)
            mask = _trie_mask(len(prefix), width, lengths, nodes, self.model.dtype)
        cache = self._cache(prefix, len(rows)) if prefix else None
        with self._reading(read):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            ).logits
        at = {(): 0} | {node: 1 + k for k, node in enumerate(nodes)}
        log_z = logits.float().logsumexp(-1)  # (rows, 1 + nodes)
        out = {}
        for word in trie.words:
            steps = [at[word[:k]] for k in range(len(word))]
            out[word] = (logits[:, steps, list(word)].float() - log_z[:, steps]).sum(1)
        return out

    @torch.inference_mode()
    def _fed_apart(
        self, prefix: Sequence[int], rows: list[Sequence[int]], trie: WordTrie
    ) -> dict[tuple[int, ...], torch.Tensor]:
        """As `_packed`, where the attention takes no mask of ours: one pass for all words that differ in their end."""
        out = {}
        for parent in dict.fromkeys(word[:-1] for word in trie.words):
            ids, lengths = _right_pad(
                [[*row, *parent] for row in rows], self.tokenizer.pad_token_id, self.model.device
            )
            columns = torch.arange(ids.shape[1], device=ids.device)
            kwargs: dict[str, object] = {"attention_mask": (columns < lengths[:, None]).long(), "use_cache": False}
            if prefix:
                seen = torch.ones((len(rows), len(prefix)), dtype=torch.long, device=ids.device)
                kwargs = {
                    "attention_mask": torch.cat([seen, columns < lengths[:, None]], 1),
                    "position_ids": len(prefix) + columns.expand_as(ids),
                    "past_key_values": self._cache(prefix, len(rows)),
                    "use_cache": True,
                }
            with self._reading(lengths[:, None] - 1 - len(parent) + torch.arange(len(parent) + 1, device=ids.device)):
                logits = self.model(input_ids=ids, **kwargs).logits
            log_z = logits.float().logsumexp(-1)
            for word in trie.words:
                if word[:-1] == parent:
                    out[word] = (logits[:, range(len(word)), list(word)].float() - log_z).sum(1)
        return out

    @torch.inference_mode()
    def _written(
        self, prefix: Sequence[int], rows: list[Sequence[int]], config: GenerationConfig, seed: int
    ) -> list[list[int]]:
        """Token ids that the model writes after each row."""
        width, pad, device = max(map(len, rows)), self.tokenizer.pad_token_id, self.model.device
        gaps = [width - len(row) for row in rows]
        # The gap stands between prefix and text, so that all answers begin in one column.
        ids = torch.tensor([[*prefix, *[pad] * gap, *row] for gap, row in zip(gaps, rows, strict=True)], device=device)
        mask = torch.ones_like(ids)
        for k, gap in enumerate(gaps):
            mask[k, len(prefix) : len(prefix) + gap] = 0
        cache = {"past_key_values": self._cache(prefix, len(rows))} if prefix else {}
        with torch.random.fork_rng(enabled=bool(config.do_sample)):
            if config.do_sample:
                # From the batch itself, so that a resumed run does not repeat the draws of its first batch.
                torch.manual_seed(seed + zlib.crc32(ids.cpu().numpy().tobytes()))
            out = self.model.generate(  # type: ignore[operator]
                input_ids=ids, attention_mask=mask, generation_config=copy.deepcopy(config), **cache
            )
        return out[:, ids.shape[1] :].tolist()

    def _cache(self, prefix: Sequence[int], rows: int) -> DynamicCache:
        """A cache of so many rows that begins with the prefix. A forward pass writes into it, so each has its own."""
        key = tuple(prefix)
        if key not in self._prefixes:
            if len(self._prefixes) >= _KEPT_PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            first = DynamicCache(config=self.model.config)
            ids = torch.tensor([prefix], device=self.model.device)
            with self._reading(torch.zeros((1, 1), dtype=torch.long)):
                self.model(input_ids=ids, past_key_values=first, use_cache=True)
            self._prefixes[key] = [(keys, values) for keys, values, _ in first]
        cache = DynamicCache(config=self.model.config)
        for k, (keys, values) in enumerate(self._prefixes[key]):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), k)
        return cache

    @contextmanager
    def _reading(self, positions: torch.Tensor) -> Iterator[None]:
        """Let only these positions, (rows, positions), go through the head over the vocabulary."""

        def gather(module: torch.nn.Module, args: tuple) -> tuple:
            index = positions.to(args[0].device)[..., None].expand(-1, -1, args[0].shape[-1])
            return (args[0].gather(1, index), *args[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(gather)
        try:
            yield
        finally:
            handle.remove()


def _right_pad(rows: list[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, (rows, longest row), and lengths, (rows,)."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    return ids, torch.tensor([len(row) for row in rows], device=device)


def _trie_mask(
    prefix: int, width: int, lengths: torch.Tensor, nodes: list[tuple[int, ...]], dtype: torch.dtype
) -> torch.Tensor:
    """What each position may see, added to the attention's logits: (rows, 1, width + nodes, prefix + width + nodes)."""
    device, rows, n = lengths.device, len(lengths), len(nodes)
    sees = torch.zeros(rows, width + n, prefix + width + n, dtype=torch.bool, device=device)
    sees[:, :, :prefix] = True
    columns = torch.arange(width, device=device)
    sees[:, :width, prefix : prefix + width] = columns[None] <= columns[:, None]
    sees[:, width:, prefix : prefix + width] = (columns < lengths[:, None])[:, None]
    kin = torch.tensor([[one[: len(other)] == other for other in nodes] for one in nodes], device=device)
    sees[:, width:, prefix + width :] = kin
    return torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill(~sees, torch.finfo(dtype).min)[:, None]


def _scored(scores: list[float]) -> Reply:
    if all(map(math.isfinite, scores)):
        return Reply(scores=tuple(scores))
    return Reply(error="the model gave no finite scores; a wider dtype (bfloat16, float32) may help")


def _minus(log_p: torch.Tensor, log_parts: list[torch.Tensor]) -> torch.Tensor:
    """log(p − Σ parts), where the parts are within p but for rounding."""
    if not log_parts:
        return log_p
    share = (torch.stack(log_parts).logsumexp(0) - log_p).exp().clamp(max=1 - 1e-6)
    return log_p + torch.log1p(-share)
