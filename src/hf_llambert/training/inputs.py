"""How a student reads texts: cut to its length or in windows. The settings are saved beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert import __version__
from hf_llambert.tasks.texts import FIELD, GAP, cut_between, cut_text, fair_shares, shorten

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRAINING_FILE = "training.json"
"""Beside a student: how it reads and how it was trained."""


@dataclass(frozen=True)
class Reading:
    """
    How a student reads a text. Written beside the student, so that it reads later as it did in training.

    Args:
        max_length (`int`): Longest input in tokens, special tokens included.
        head_share (`float`, defaults to 1): Share of a cut text that is taken from its beginning.
        fields (`tuple[str, ...]`, defaults to `("text",)`): The columns that a row shows. Two are read as the tokenizer's
            pair; of more, all but the first are its second text, a line each. The longest is cut first.
    """

    max_length: int
    head_share: float = 1.0
    fields: tuple[str, ...] = ("text",)

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise ValueError(f"max_length must be at least 8 tokens, got {self.max_length}.")
        if not 0 <= self.head_share <= 1:
            raise ValueError(f"head_share must be a number from 0 to 1, got {self.head_share}.")

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with the model's special tokens, cut to fit. The text itself never becomes one."""
        if len(self.fields) > 1:
            return self._encode_pairs(tokenizer, texts)
        room = self.max_length - tokenizer.num_special_tokens_to_add()
        texts = [shorten(text, _LONGEST_TOKEN * room, self.head_share) for text in texts]
        bare: dict = {"split_special_tokens": True, "return_attention_mask": False, "return_token_type_ids": False}
        fit = {**bare, "truncation": True, "max_length": self.max_length}
        if self.head_share == 1:
            return tokenizer(texts, **fit).input_ids
        encoded = tokenizer(texts, verbose=False, **bare)
        rows = encoded.input_ids
        long = [i for i, row in enumerate(rows) if len(row) > self.max_length]
        if long and not tokenizer.is_fast:  # it does not know where its tokens stand in the text
            short = [_cut_by_tokens(tokenizer, texts[i], room, self.head_share) for i in long]
        elif long:
            short = [cut_between(texts[i], _own_offsets(encoded[i]), room, self.head_share) for i in long]
        if long:
            for i, row in zip(long, tokenizer(short, **fit).input_ids, strict=True):
                rows[i] = row
        return rows

    def _encode_pairs(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
        room = self.max_length - tokenizer.num_special_tokens_to_add(pair=True)
        pairs = [
            [shorten(_one_line(part), _LONGEST_TOKEN * room, self.head_share) for part in text.split(FIELD, 1)]
            for text in texts
        ]
        rows = _pair_ids(tokenizer, pairs)
        long = [i for i, row in enumerate(rows) if len(row) > self.max_length]
        if long:
            cut = [self._cut_pair(tokenizer, pairs[i], room) for i in long]
            for i, row in zip(long, _pair_ids(tokenizer, cut, self.max_length), strict=True):
                rows[i] = row
        return rows

    def _cut_pair(self, tokenizer: PreTrainedTokenizerBase, pair: Sequence[str], room: int) -> list[str]:
        if tokenizer.is_fast:
            return cut_text(tokenizer, FIELD.join(pair), room, self.head_share)[0].split(FIELD)
        lengths = [len(_own_tokens(tokenizer, part)) for part in pair]
        return [
            _cut_by_tokens(tokenizer, part, share, self.head_share) if share < length else part
            for part, length, share in zip(pair, lengths, fair_shares(lengths, room), strict=True)
        ]

    def type_separator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> int | None:
        """
        The token after which a pair's second text has another type (`token_type_ids`); `None` where types say nothing.

        Raises:
            ValueError: The tokenizer gives types in another way, or the `model` takes none.
        """
        if len(self.fields) == 1 or "token_type_ids" not in tokenizer.model_input_names:
            return None
        probe, separator = tokenizer("a", "b"), tokenizer.sep_token_id
        if separator is None or probe["token_type_ids"] != token_types(probe["input_ids"], separator):
            raise ValueError(
                f"The tokenizer of '{tokenizer.name_or_path}' tells the two texts of a pair apart in a way of its own. Use "
                f"an encoder of the kind of BERT, or one without token types."
            )
        if model is not None and (
            "token_type_ids" not in signature(model.forward).parameters
            or getattr(model.config, "type_vocab_size", 2) == 1
        ):
            raise ValueError(
                f"The tokenizer of '{tokenizer.name_or_path}' gives the two texts of a pair types, its model takes none. Write "
                f'"model_input_names": ["input_ids", "attention_mask"] into a copy of its tokenizer_config.json.'
            )
        return separator

    def windows(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Token ids of each text in overlapping parts that fit, and which text each part is of."""
        if not tokenizer.is_fast:
            return _slow_windows(tokenizer, texts, self.max_length)
        encoded = tokenizer(
            list(texts),
            split_special_tokens=True,
            truncation=True,
            max_length=self.max_length,
            stride=(self.max_length - tokenizer.num_special_tokens_to_add()) // _OVERLAP,
            return_overflowing_tokens=True,
        )
        return encoded.input_ids, encoded.overflow_to_sample_mapping


def _pair_ids(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Sequence[str]], max_length: int | None = None
) -> list[list[int]]:
    """Token ids of pairs. One whose second text is empty is its first text alone, as a `pipeline` reads it."""
    fit: dict = {"truncation": "longest_first" if max_length else False, "max_length": max_length, "verbose": False}
    fit |= {"split_special_tokens": True, "return_attention_mask": False, "return_token_type_ids": False}
    rows: list[list[int]] = [[]] * len(pairs)
    for paired in (True, False):
        places = [i for i, (_, second) in enumerate(pairs) if bool(second) is paired]
        if places:
            firsts, seconds = ([pairs[i][side] for i in places] for side in (0, 1))
            for i, row in zip(places, tokenizer(firsts, seconds if paired else None, **fit).input_ids, strict=True):
                rows[i] = row
    return rows


def token_types(ids: Sequence[int], separator: int) -> list[int]:
    """0 up to the first separator, which is among them; 1 after it."""
    first = ids.index(separator) if separator in ids else len(ids)
    return [int(place > first) for place in range(len(ids))]


def _one_line(text: str) -> str:
    return text.replace(FIELD, "\n")


def _own_offsets(encoding: Encoding) -> list[tuple[int, int]]:
    """Where a text's own tokens stand in it."""
    return [
        place for place, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
    ]


def _own_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A text's own token ids."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids


def _cut_by_tokens(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int, head_share: float) -> str:
    """As [`cut_between`], of the words that a slow tokenizer makes of its tokens."""
    tokens = _own_tokens(tokenizer, text)
    head = round(max_tokens * head_share)
    gap = len(_own_tokens(tokenizer, GAP)) if head and head < max_tokens else 0
    tail = max(max_tokens - head - gap, 0)
    parts = (tokens[:head], tokens[len(tokens) - tail :])
    first, last = (str(tokenizer.decode(part, clean_up_tokenization_spaces=False)) if part else "" for part in parts)
    return f"{first}{GAP if gap else ''}{last}"


def _slow_windows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """As [`~Reading.windows`], for a slow tokenizer."""
    room = max_length - tokenizer.num_special_tokens_to_add()
    step = room - room // _OVERLAP
    rows, of_text = [], []
    for i, text in enumerate(texts):
        tokens = _own_tokens(tokenizer, text)
        for start in range(0, max(len(tokens) - room + step, 1), step):
            rows.append(tokenizer.build_inputs_with_special_tokens(tokens[start : start + room]))
            of_text.append(i)
    return rows, of_text


_LONGEST_TOKEN = 200  # characters: more of a text than this for each token that is read need not be looked at
_OVERLAP = 4  # a part repeats a quarter of the one before


def save_reading(
    folder: Path, reading: Reading, training: Mapping[str, object], questions: Sequence[Mapping[str, object]] = ()
) -> None:
    """
    Write beside a student how it reads and how it was trained and, unless it is of one choice, whose logits are which: the
    notes of its heads.
    """
    noted = asdict(reading)
    if reading.fields == ("text",):
        del noted["fields"]
    save_notes(folder, {"reading": noted, **({"questions": list(questions)} if questions else {})}, training)


def save_notes(folder: Path, student: Mapping[str, object], training: Mapping[str, object]) -> None:
    """Write beside a student what it is and how it was trained."""
    note = {**student, "training": training, "hf_llambert": __version__}
    (folder / TRAINING_FILE).write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
