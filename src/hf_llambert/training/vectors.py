"""A vector for each token: from an encoder by model2vec, or from a model of model2vec; and the tokens of texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from huggingface_hub import hf_hub_download
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from hf_llambert.models import choose_device, content_id
from hf_llambert.notes import damaged_note, read_note
from hf_llambert.tasks.texts import FIELD
from hf_llambert.training.fast import read_arrays, shapes_of
from hf_llambert.training.loading import SAFE, load_tokenizer, quiet_transformers
from hf_llambert.whole import whole_folder

CONFIG_FILE, TABLE_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
"""What a folder of model2vec has."""
MODEL_TYPE = "model2vec"
DIMENSIONS = 256
SIF = 1e-4
"""How much less a frequent token weighs to begin with: model2vec's own value."""

_PIECE = 1 << 20  # characters that are tokenised at once: about 0.1 GB of memory while it lasts
_JOINED, _LONG_WORD = 1000, 500  # words that are tokenised as one text, and characters of the longest that is
_STRANGE = "\ua66e \U00013000"  # a letter of one old book, and a hieroglyph
_BETWEEN = "\u00a6\u00a7\u00ac|~^#*"  # signs that a BERT reads as tokens of their own, wherever they stand


@dataclass(frozen=True, eq=False)
class Tokens:
    """
    The tokens of texts: all of them, however long a text is, without special tokens and without unknown ones, as model2vec
    takes them. A text of more than a million characters is cut before a space, where it has one, and read in pieces.

    Nothing in a text becomes a control token: `[CLS]` is read as any other four signs.

    Args:
        tokenizer (`Tokenizer`): From [`plain_tokenizer`].
        unknown (`int`, *optional*): The number of its unknown token.
    """

    tokenizer: Tokenizer
    unknown: int | None = None

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.tokenizer.get_vocab_size()

    def of(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The numbers of the tokens of all texts, one behind the other, and where each text's begin, with the end."""
        found: list[NDArray[np.int32]] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        for places, pieces in _batches(texts):
            rows = [one.ids for one in self.tokenizer.encode_batch_fast(pieces, add_special_tokens=False)]
            sizes = np.array([len(row) for row in rows])
            ids = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(sizes.sum()))
            if self.unknown is not None:
                known = ids != self.unknown
                sizes = np.bincount(np.repeat(np.arange(len(rows)), sizes)[known], minlength=len(rows))
                ids = ids[known]
            found.append(ids)
            np.add.at(lengths, places, sizes)
        ids = np.concatenate(found) if found else np.zeros(0, dtype=np.int32)
        return ids, np.concatenate([[0], lengths.cumsum()])

    @cached_property
    def by_words(self) -> bool:
        """Whether the tokens of a text are those of what stands between its spaces, one behind the other, as a BERT's are."""
        note = json.loads(self.to_json())
        parts = [(note[name] or {}).get("type") for name in ("normalizer", "pre_tokenizer", "model")]
        return parts == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and not note["added_tokens"]

    def of_words(self, words: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """
        As `of`, of different words without spaces, in a third of the time: many are read as one text, with a sign that is in
        none of them behind each. For tokenizers that are `by_words`.
        """
        longest = pc.max(pc.utf8_length(words)).as_py() or 0
        absent = (sign for sign in _BETWEEN if not pc.any(pc.match_substring(words, sign)).as_py())
        sign = next((sign for sign in absent if self.tokenizer.token_to_id(sign) not in (None, self.unknown)), None)
        plain = words.to_pylist()
        if sign is None or longest > _LONG_WORD:
            return self.of(plain)
        joined = (plain[start : start + _JOINED] for start in range(0, len(plain), _JOINED))
        ids, _ = self.of([f" {sign} ".join(part) + f" {sign}" for part in joined])
        ends = np.flatnonzero(ids == self.tokenizer.token_to_id(sign))
        if len(ends) != len(plain):  # some other sign is read as this one
            return self.of(plain)
        return np.delete(ids, ends), np.concatenate([[0], ends - np.arange(len(ends))])

    def to_json(self) -> str:
        """What `tokenizer.json` has."""
        return self.tokenizer.to_str()


def _batches(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of texts, of some million characters in all at most, and the number of the text that each is of."""
    places: list[int] = []
    pieces: list[str] = []
    room = _PIECE
    for place, text in enumerate(texts):
        for piece in _pieces(text.replace(FIELD, "\n")):
            if pieces and len(piece) > room:
                yield places, pieces
                places, pieces, room = [], [], _PIECE
            places.append(place)
            pieces.append(piece)
            room -= len(piece)
    if pieces:
        yield places, pieces


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        space = text.rfind(" ", start + _PIECE // 2, end)
        while space > start and text[space - 1].isspace():
            space -= 1  # to the first of several
        end = space if space > start else end
        yield text[start:end]
        start = end
    yield text[start:]


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """
    What a static student begins with.

    Args:
        vectors (`NDArray[np.float32]` of shape (tokens, dimensions)): A vector for each token.
        tokens (`Tokens`): Whose they are.
        source (`str`): The content of the model that they were made of; see [`content_id`].
    """

    vectors: NDArray[np.float32]
    tokens: Tokens
    source: str

    @classmethod
    def load(
        cls, model: str | Path, revision: str | None = None, dimensions: int = DIMENSIONS, keep: Path | None = None
    ) -> TokenVectors:
        """
        The vectors of a model: of model2vec as they are, of an encoder by [`distill`].

        Args:
            model (`str` or `Path`): Directory or Hub id.
            revision (`str`, *optional*): Revision of a Hub id.
            dimensions (`int`, defaults to 256): How many numbers a vector made of an encoder has at most.
            keep (`Path`, *optional*): Folder in which the vectors of encoders are kept, for later calls. Making them takes
                a minute for a small encoder.

        Raises:
            ImportError: An encoder, and model2vec is not installed.
            ValueError: An encoder that has no tokenizer to take.
            OSError: There is no such model, or a file of it is damaged.
        """
        source = content_id(str(model), revision)
        if is_static(model, revision):
            return cls.read(model, revision)
        if keep is None:
            return distill(str(model), revision, dimensions)
        digest = hashlib.sha256(f"{source}\0{dimensions}\0{SIF}".encode()).hexdigest()[:16]
        folder = keep / f"vectors-{digest}"
        if not folder.is_dir():
            made = distill(str(model), revision, dimensions)
            try:
                with whole_folder(folder) as part:
                    made.save(part)
            except FileExistsError:
                pass  # another process made them meanwhile
        found = cls.read(folder)
        return cls(found.vectors, found.tokens, source)

    @classmethod
    def read(cls, model: str | Path, revision: str | None = None) -> TokenVectors:
        """The vectors of a model of model2vec, in float32, their weights multiplied in. Raises `OSError` where damaged."""
        files = [_file(model, name, revision) for name in (CONFIG_FILE, TABLE_FILE, TOKENIZER_FILE)]
        read_note(files[0])
        arrays = read_arrays(files[1], _AGAIN)
        vectors = arrays.get("embeddings")
        if vectors is None or vectors.ndim != 2:
            raise damaged_note(files[1], f"expected a table 'embeddings', got {shapes_of(arrays)}", _AGAIN)
        if (mapping := arrays.get("mapping")) is not None:
            if (
                mapping.ndim != 1
                or mapping.dtype.kind not in "iu"
                or not ((mapping >= 0) & (mapping < len(vectors))).all()
            ):
                raise damaged_note(files[1], f"expected 'mapping' to name rows, got {shapes_of(arrays)}", _AGAIN)
            vectors = vectors[mapping]
        vectors = vectors.astype(np.float32)
        if (weights := arrays.get("weights")) is not None:
            if weights.shape != vectors.shape[:1]:
                raise damaged_note(files[1], f"expected a weight for each token, got {shapes_of(arrays)}", _AGAIN)
            vectors = vectors * weights.astype(np.float32)[:, None]
        if not np.isfinite(vectors).all():
            raise damaged_note(files[1], "expected finite numbers", _AGAIN)
        tokens, vectors = plain_tokenizer(files[2], vectors)
        return cls(vectors, tokens, content_id(str(model), revision))

    def save(self, folder: Path) -> None:
        """Write a folder that model2vec loads."""
        note = {"hidden_dim": self.vectors.shape[1], "normalize": False}
        write_table(folder, {"embeddings": self.vectors}, self.tokens, note)


def is_static(model: str | Path, revision: str | None = None) -> bool:
    """Whether a model is one of model2vec, a static student among them. Raises `OSError` where there is none."""
    path = _file(model, CONFIG_FILE, revision)
    note = read_note(path) if path.is_file() else {}
    return note.get("model_type", MODEL_TYPE if "normalize" in note else None) == MODEL_TYPE


def distill(encoder: str, revision: str | None = None, dimensions: int = DIMENSIONS) -> TokenVectors:
    """
    Vectors of an encoder's tokens by model2vec: each token read alone, then principal components, then less weight for
    frequent tokens.

    Raises:
        ImportError: model2vec is not installed.
        ValueError: It has no fast tokenizer, or one that model2vec cannot take.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions must be a positive number, got {dimensions}.")
    try:
        from model2vec.distill import distill_from_model
    except ImportError as error:
        raise ImportError(
            "Vectors of an encoder's tokens need model2vec: pip install 'hf-llambert[static]'. A model of model2vec is "
            "taken without it."
        ) from error
    tokenizer = load_tokenizer(encoder, revision)
    instead = "Take another encoder, or a model of model2vec."
    if not tokenizer.is_fast:
        raise ValueError(f"'{encoder}' has a slow tokenizer, without tokenizer.json; expected a fast one. {instead}")
    model = AutoModel.from_pretrained(encoder, revision=revision, **SAFE).float()
    model.name_or_path = os.curdir  # else it asks the Hub for the language in its card
    try:
        with quiet_transformers():  # it remarks on the size of the embeddings
            found = distill_from_model(
                model,
                tokenizer,  # type: ignore[arg-type]
                device=choose_device(),
                pca_dims=dimensions,
                sif_coefficient=SIF,
                quantize_to="float32",
            )
        tokens, vectors = _plain(found.tokenizer, found.embedding.astype(np.float32))
    except Exception as error:  # tokenizers raises nothing narrower
        if isinstance(error, (OSError, MemoryError, RuntimeError)) and not isinstance(error, NotImplementedError):
            raise  # the machine's
        raise ValueError(f"model2vec cannot take the tokenizer of '{encoder}': {error!s:.300}. {instead}") from error
    return TokenVectors(vectors, tokens, content_id(encoder, revision))


def plain_tokenizer(path: Path, vectors: NDArray[np.float32]) -> tuple[Tokens, NDArray[np.float32]]:
    """
    The tokenizer of a file without special tokens, and the rows of its tokens.

    Raises:
        OSError: It is damaged, or has not as many tokens as there are vectors.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  (tokenizers raises nothing narrower)
        raise damaged_note(path, f"{error!s:.200}", _AGAIN) from error
    if (size := tokenizer.get_vocab_size()) != len(vectors):
        raise damaged_note(path, f"expected {len(vectors):,} tokens, as many as vectors, got {size:,}", _AGAIN)
    try:
        return _plain(tokenizer, vectors)
    except Exception as error:  # noqa: BLE001  (a vocabulary that contradicts its model)
        raise damaged_note(path, f"{error!s:.200}", _AGAIN) from error


def _plain(tokenizer: Tokenizer, vectors: NDArray[np.float32]) -> tuple[Tokens, NDArray[np.float32]]:
    """
    A tokenizer that reads whole texts and has no special token but the unknown one, and the rows of its tokens. Without
    them in the vocabulary nothing in a text can become one, whoever loads the file.
    """
    note = json.loads(tokenizer.to_str())
    special = {token["content"] for token in note["added_tokens"] if token["special"]}
    note["added_tokens"] = [token for token in note["added_tokens"] if not token["special"]]
    note["truncation"] = note["padding"] = note["post_processor"] = None
    model, vocabulary = note["model"], note["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram
        unknown = None if model["unk_id"] is None else vocabulary[model["unk_id"]][0]
        model["vocab"] = [piece for piece in vocabulary if piece[0] == unknown or piece[0] not in special]
        model["unk_id"] = next((i for i, piece in enumerate(model["vocab"]) if piece[0] == unknown), None)
    else:
        unknown = model.get("unk_token")
        kept = [token for token in vocabulary if token == unknown or token not in special]
        model["vocab"] = {token: i for i, token in enumerate(sorted(kept, key=vocabulary.__getitem__))}
    plain = Tokenizer.from_str(json.dumps(note))
    places = tokenizer.get_vocab()
    names = sorted(own := plain.get_vocab(), key=own.__getitem__)
    for numbers, size in ((places.values(), len(vectors)), (own.values(), len(own))):
        if sorted(numbers) != list(range(size)):
            raise ValueError(f"expected tokens with the numbers from 0 to {size - 1:,}, each once")
    plain.encode(_STRANGE)  # fails where an unknown token is wanted and there is none: not in the middle of a pool
    rows = vectors[[places[name] for name in names]]
    return Tokens(plain, None if unknown is None else plain.token_to_id(unknown)), rows


def write_table(folder: Path, arrays: dict[str, NDArray[np.float32]], tokens: Tokens, note: dict[str, object]) -> None:
    """Write the three files that model2vec loads."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "model_type": MODEL_TYPE,
        "architectures": ["StaticModel"],
        "max_length": None,
        "embedding_dtype": "float32",
    }
    (folder / CONFIG_FILE).write_text(json.dumps({**own, **note}, indent=2) + "\n", encoding="utf-8")
    (folder / TOKENIZER_FILE).write_text(tokens.to_json(), encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / TABLE_FILE)


def _file(model: str | Path, name: str, revision: str | None) -> Path:
    if Path(model).is_dir():
        return Path(model) / name
    return Path(hf_hub_download(str(model), name, revision=revision))


_AGAIN = "Restore it, or make the model again."
