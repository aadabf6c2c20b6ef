"""The forward passes of a teacher that runs here: a shared prefix, batches that fit, label words through a trie."""

from __future__ import annotations

import copy
import inspect
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from hf_llambert.tasks.budget import TokenBudget
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.templates import decoded
from hf_llambert.teachers.tries import Branches, Ids, WordTrie, branch_mask, common, in_passes

_MIN_PREFIX = 16  # a shorter one costs more to attach than to compute again
_KEPT_PREFIXES = 4
_OUT_OF_MEMORY = "out of memory on one text of {} tokens; cut it shorter"
_KeyValues = list[tuple[torch.Tensor, torch.Tensor]]


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
        self._takes_mask = model.config._attn_implementation in ("sdpa", "eager")
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
        for part in self.score_branches([[prompt] for prompt in prompts], shared, [trie], batch_tokens):
            yield {i: reply for i, (reply,) in part.items()}

    def score_branches(
        self,
        prompts: Sequence[Sequence[Sequence[int]]],
        shared: int,
        tries: Sequence[WordTrie],
        batch_tokens: int,
    ) -> Iterator[dict[int, tuple[Reply, ...]]]:
        """
        The log-probability of each label of several questions about each text. What the prompts about a text begin with is
        read once for all of them; where the model cannot do that, or memory is too small for it, once for each.

        Args:
            prompts (`Sequence[Sequence[Sequence[int]]]`): For each text the token ids of each question's prompt.
            shared (`int`): How many tokens at the beginning are the same in all of them.
            tries (`Sequence[WordTrie]`): The label words of each question.
            batch_tokens (`int`): Largest padded tokens of a batch, without the shared prefix.

        Yields:
            `dict[int, tuple[Reply, ...]]`: By position in `prompts`, a reply to each question.
        """
        together: dict[tuple[Ids, ...], list[int]] = {}  # by what the questions about a text end with
        apart: list[int] = []
        for i, of_text in enumerate(prompts):
            same = common(of_text)
            if len(tries) == 1 or (self._takes_mask and self._shares_prefix and same > shared):
                together.setdefault(tuple(tuple(prompt[same:]) for prompt in of_text), []).append(i)
            else:
                apart.append(i)
        prefix = self._prefix_of(prompts[0][0], shared) if prompts else []
        for suffixes, rows in together.items():
            for batch, replies in self._in_passes(prompts, prefix, rows, in_passes(suffixes, tries), batch_tokens):
                if replies or len(tries) == 1:
                    yield dict(zip(batch, replies or self._too_large(prompts, batch, 1), strict=True))
                else:
                    apart += batch
        each = [Branches((k,), ((),), (trie,)) for k, trie in enumerate(tries)]
        begun = [i for i in apart if all(list(prompt[: len(prefix)]) == prefix for prompt in prompts[i])]
        for start, rows in ((prefix, begun), ([], sorted(set(apart) - set(begun)))):
            for batch, replies in self._in_passes(prompts, start, rows, each, batch_tokens):
                yield dict(zip(batch, replies or self._too_large(prompts, batch, len(tries)), strict=True))

    def _in_passes(
        self,
        prompts: Sequence[Sequence[Sequence[int]]],
        prefix: list[int],
        rows: Sequence[int],
        passes: Sequence[Branches],
        batch_tokens: int,
    ) -> Iterator[tuple[list[int], list[tuple[Reply, ...]] | None]]:
        """Batches of `rows` with their replies, `None` for a single row that does not fit into memory."""

        def head(i: int, one: Branches) -> Sequence[int]:
            """What a text's prompts have before the tokens of single questions."""
            whole = prompts[i][one.members[0]]
            return whole[len(prefix) : len(whole) - len(one.suffixes[0])]

        def answer(batch: list[int]) -> list[tuple[Reply, ...]]:
            start = time.perf_counter()
            columns: list[list[Reply]] = []
            for one in passes:
                heads = [head(rows[k], one) for k in batch]
                fits = self._shares_prefix and (self._takes_mask or not one.nodes)
                log_p = self._packed(prefix, heads, one) if fits else [self._fed_apart(prefix, heads, *one.tries)]
                for k, (trie, own) in enumerate(zip(one.tries, one.own_tokens, strict=True)):
                    read = [own + (0 if k else len(prefix) + len(ids)) for ids in heads]
                    scores = trie.label_scores(log_p[k]).double().cpu().tolist()
                    columns.append([replace(_scored(s), input_tokens=n) for s, n in zip(scores, read, strict=True)])
            seconds = (time.perf_counter() - start) / (len(batch) * len(columns))
            return [tuple(replace(reply, seconds=seconds) for reply in row) for row in zip(*columns, strict=True)]

        lengths = [max(len(head(i, one)) + len(one.nodes) for one in passes) for i in rows]
        for batch, done in self._budget.compute(lengths, batch_tokens, answer):
            yield [rows[k] for k in batch], done

    @staticmethod
    def _too_large(
        prompts: Sequence[Sequence[Sequence[int]]], batch: Sequence[int], count: int
    ) -> list[tuple[Reply, ...]]:
        longest = max(map(len, prompts[batch[0]]))
        return [(Reply(error=_OUT_OF_MEMORY.format(longest)),) * count]

    def tokens_read(self, prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
        """How many tokens are read for several questions about a text, and how many times its own are among them."""
        if len(prompts) > 1 and not (self._takes_mask and self._shares_prefix):
            return sum(map(len, prompts)), len(prompts)
        same = common(prompts)
        return same + len({tuple(p[same:k]) for p in prompts for k in range(same + 1, len(p) + 1)}), 1

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

        if not prompts:
            return
        prefix = self._prefix_of(prompts[0], shared)
        lengths = [len(prompt) - len(prefix) + (config.max_new_tokens or 0) for prompt in prompts]

        def timed(batch: list[int]) -> tuple[list[Reply], float]:
            start = time.perf_counter()
            replies = answer(prefix, [prompts[i][len(prefix) :] for i in batch])
            return replies, (time.perf_counter() - start) / len(batch)

        for batch, done in self._budget.compute(lengths, batch_tokens, timed):
            replies, seconds = done or ([Reply(error=_OUT_OF_MEMORY.format(lengths[batch[0]]))], 0.0)
            yield {
                i: replace(reply, seconds=seconds, input_tokens=len(prompts[i]))
                for i, reply in zip(batch, replies, strict=True)
            }

    def _prefix_of(self, prompt: Sequence[int], shared: int) -> list[int]:
        return list(prompt[:shared]) if self._shares_prefix and shared >= _MIN_PREFIX else []

    @torch.inference_mode()
    def _packed(
        self, prefix: Sequence[int], rows: list[Sequence[int]], branches: Branches
    ) -> list[dict[Ids, torch.Tensor]]:
        """
        For each question the log-probability of each word, (rows,), all in one pass: the nodes stand behind each text, and
        each sees the text and its own ancestors only.
        """
        nodes, wanted = branches.nodes, branches.read
        width, device = max(map(len, rows)), self.model.device
        ids, lengths = _right_pad(rows, self.tokenizer.pad_token_id, device)
        positions = len(prefix) + torch.arange(width, device=device).expand(len(rows), -1)
        at = {node: width + k for k, node in enumerate(nodes)}
        read = torch.tensor([at.get(node, 0) for node in wanted], device=device).repeat(len(rows), 1)
        if () in wanted:
            read[:, wanted.index(())] = lengths - 1
        mask = None  # padding stands on the right, where no text looks
        if nodes:
            depths = torch.tensor([len(node) for node in nodes], device=device)
            tails = torch.tensor([node[-1] for node in nodes], device=device)
            ids = torch.cat([ids, tails.expand(len(rows), -1)], 1)
            positions = torch.cat([positions, len(prefix) + lengths[:, None] + depths - 1], 1)
            mask = branch_mask(len(prefix), width, lengths, branches.sees, self.model.dtype)
        cache = self._cache(prefix, len(rows)) if prefix else None
        with self._reading(read):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            ).logits
        column = {node: k for k, node in enumerate(wanted)}
        log_z = logits.float().logsumexp(-1)  # (rows, wanted)
        out: list[dict[Ids, torch.Tensor]] = []
        for suffix, trie in zip(branches.suffixes, branches.tries, strict=True):
            out.append({})
            for word in trie.words:
                steps = [column[suffix + word[:k]] for k in range(len(word))]
                out[-1][word] = (logits[:, steps, list(word)].float() - log_z[:, steps]).sum(1)
        return out

    @torch.inference_mode()
    def _fed_apart(self, prefix: Sequence[int], rows: list[Sequence[int]], trie: WordTrie) -> dict[Ids, torch.Tensor]:
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


def _scored(scores: list[float]) -> Reply:
    if all(map(math.isfinite, scores)):
        return Reply(scores=tuple(scores))
    return Reply(error="the model gave no finite scores; a wider dtype (bfloat16, float32) may help")
