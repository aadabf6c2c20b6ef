"""Label words, and whole questions, as tries of tokens behind a text: what several share is computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

_MOST_NODES = 1024  # tokens behind a text that are read in one pass

Ids = tuple[int, ...]


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


@dataclass(frozen=True)
class Branches:
    """
    Questions behind one text: each is the tokens that only its prompt ends with, and the words of its answers.

    Args:
        members (`tuple[int, ...]`): Which of the questions that are asked these are.
        suffixes (`tuple[tuple[int, ...], ...]`): What each prompt has after the tokens that all of them begin with.
        tries (`tuple[WordTrie, ...]`): The words of each.
    """

    members: tuple[int, ...]
    suffixes: tuple[Ids, ...]
    tries: tuple[WordTrie, ...]

    @cached_property
    def nodes(self) -> list[Ids]:
        """What has to be fed to the model after the text, parents first."""
        whole = [(*s, *word) for s, trie in zip(self.suffixes, self.tries, strict=True) for word in trie.words]
        begun = {one[:k] for one in whole for k in range(1, len(one))}
        return sorted(begun, key=lambda node: (len(node), node))

    @cached_property
    def read(self) -> list[Ids]:
        """The nodes after which a word goes on, the empty one among them where a question has no tokens of its own."""
        return list(
            dict.fromkeys(
                (*suffix, *word[:k])
                for suffix, trie in zip(self.suffixes, self.tries, strict=True)
                for word in trie.words
                for k in range(len(word))
            )
        )

    @cached_property
    def sees(self) -> torch.Tensor:
        """Which nodes each node sees, (nodes, nodes): its beginnings and itself."""
        at = {node: k for k, node in enumerate(self.nodes)}
        out = torch.zeros(len(at), len(at), dtype=torch.bool)
        for node, k in at.items():
            out[k, [at[node[:depth]] for depth in range(1, len(node) + 1)]] = True
        return out

    @cached_property
    def own_tokens(self) -> list[int]:
        """For each question the tokens of its prompt that no earlier one has, without the text that all have."""
        seen: set[Ids] = set()
        out = []
        for suffix in self.suffixes:
            begun = {suffix[:k] for k in range(1, len(suffix) + 1)}
            out.append(len(begun - seen))
            seen |= begun
        return out


def common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens at the beginning all of them share."""
    low, high = min(prompts, key=list), max(prompts, key=list)  # what these two share, all between them share
    return next((k for k, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def in_passes(suffixes: Sequence[Ids], tries: Sequence[WordTrie]) -> list[Branches]:
    """Questions in as few passes over the text as stay within a number of tokens behind it, in their order."""
    out: list[Branches] = []
    for k, (suffix, trie) in enumerate(zip(suffixes, tries, strict=True)):
        alone = Branches((k,), (suffix,), (trie,))
        if out:
            last = out[-1]
            joined = Branches((*last.members, k), (*last.suffixes, suffix), (*last.tries, trie))
            if len(last.nodes) + len(alone.nodes) <= _MOST_NODES or len(joined.nodes) <= _MOST_NODES:
                out[-1] = joined
                continue
        out.append(alone)
    return out


def branch_mask(
    prefix: int, width: int, lengths: torch.Tensor, nodes: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """
    What each position may see, added to the attention's logits: (rows, 1, width + nodes, prefix + width + nodes).

    Args:
        prefix (`int`): Tokens before the rows.
        width (`int`): Tokens of the longest row.
        lengths (`torch.Tensor` of shape (rows,)): Tokens of each row.
        nodes (`torch.Tensor` of shape (nodes, nodes)): See [`Branches.sees`].
        dtype (`torch.dtype`): That of the model.
    """
    device, rows, n = lengths.device, len(lengths), len(nodes)
    sees = torch.zeros(rows, width + n, prefix + width + n, dtype=torch.bool, device=device)
    sees[:, :, :prefix] = True
    columns = torch.arange(width, device=device)
    sees[:, :width, prefix : prefix + width] = columns[None] <= columns[:, None]
    sees[:, width:, prefix : prefix + width] = (columns < lengths[:, None])[:, None]
    sees[:, width:, prefix + width :] = nodes.to(device)
    return torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill(~sees, torch.finfo(dtype).min)[:, None]


def _minus(log_p: torch.Tensor, log_parts: list[torch.Tensor]) -> torch.Tensor:
    """log(p − Σ parts), where the parts are within p but for rounding."""
    if not log_parts:
        return log_p
    share = (torch.stack(log_parts).logsumexp(0) - log_p).exp().clamp(max=1 - 1e-6)
    return log_p + torch.log1p(-share)


def found_scores(words: Sequence[Sequence[Ids]], found: Mapping[Ids, float]) -> tuple[float, ...] | None:
    """
    Log-probability of each label: of any of its words, and of no longer listed word. `None` if a token has none.

    `found` has, for each beginning of a word, the log-probability of its last token after the others.
    """
    trie = WordTrie(tuple(tuple(label) for label in words))
    whole = {word: sum(found.get(word[:k], math.nan) for k in range(1, len(word) + 1)) for word in trie.words}
    if not all(map(math.isfinite, whole.values())):
        return None
    log_p = {word: torch.tensor([p], dtype=torch.float64) for word, p in whole.items()}
    return tuple(trie.label_scores(log_p)[0].tolist())
