"""Loading students, and the student as a map function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hf_llambert.models import (
    choose_device,
    choose_dtype,
    content_id,
    free_models,
    limit_worker_threads,
    model_cache,
)
from hf_llambert.notes import ENCODER
from hf_llambert.tasks.texts import TextColumn, columns_of, why_unusable
from hf_llambert.training.backends import (
    DTYPES,
    Backend,
    mean_hidden,
    padded,
)
from hf_llambert.training.columns import answer_columns, own_features
from hf_llambert.training.fast import FastModel, in_threads, usable_strings
from hf_llambert.training.heads import Head
from hf_llambert.training.labeler import Encoded, Labeler
from hf_llambert.training.loaded import Loaded, load_fast, load_student
from hf_llambert.training.loading import noted_reading, student_heads, student_kind

LongTexts = Literal["truncate", "mean", "max"]
_CPU_BATCH, _GPU_BATCH = 1024, 65_536


class StudentLabeler(Labeler):
    """
    Labels batches of texts with a trained student; made for `dataset.map(student_label, batched=True)`.

    Adds `student_label` (-1 for an unusable text), `student_confidence` and `student_scores` (log-probabilities in label
    order). Where several labels may hold, `student_labels`, a list of ids, with log-odds as scores; where a scale is asked,
    also `student_value`. Of several questions each has such columns with its name in theirs: `student_NAME_label`. Pickles
    to its configuration, never to weights.

    Args:
        student (`str` or `Path`): Directory or Hub id of a sequence classification model, or of a static or linear student
            (see [`train_fast`]), which reads all of a text on the CPU and has none of the choices from `batch_tokens` on. Of
            a model that was not trained here one label holds, or any do where its configuration says
            `multi_label_classification`.
        text_column (`str` or `Sequence[str]`, defaults to `"text"`): Column of the texts. A student of several fields reads
            the columns that are called as they are in the task; others can be passed, in the same order.
        revision (`str`, *optional*): Revision of a Hub id.
        batch_tokens (`int`, *optional*): Padded tokens in one forward pass. Defaults to 1,024 on a CPU, where that measured
            fastest, and 65,536 on a GPU. Halved when memory runs out.
        device (`str`, *optional*): Defaults to this process's GPU, else the CPU.
        backend (`"torch"`, `"openvino"` or `"onnx"`, defaults to `"torch"`): What computes. The last two are for CPUs, and
            extras of their names.
        dtype (`str`, defaults to `"auto"`): `float32`; `bfloat16` (torch, openvino), `float16` (torch) or `int8` (onnx).
            `auto` is float32 on a CPU and, on a GPU, the half precision that it has (in [`label_pool`] float32 too, where that
            changes more than 0.5 % of the labels).
        attention (`str`, *optional*): With torch: `sdpa`, `eager`, `flash_attention_2` (which computes no padding at all) or
            another that transformers knows. Defaults to its choice.
        long_texts (`"truncate"`, `"mean"` or `"max"`, defaults to `"truncate"`): A text too long is cut as in training; or
            read in parts that overlap by a quarter, whose probabilities are averaged, or the largest of each label taken
            (and made to sum to 1). Several fields are always cut.

    Raises:
        FileNotFoundError: There is no such student.
        ValueError: An argument does not make sense, or the logits are not those of labels (regression).
    """

    def __init__(
        self,
        student: str | Path,
        text_column: TextColumn = "text",
        revision: str | None = None,
        batch_tokens: int | None = None,
        device: str | None = None,
        backend: Backend = "torch",
        dtype: str = "auto",
        attention: str | None = None,
        long_texts: LongTexts = "truncate",
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise ValueError(f"batch_tokens must be a positive number, got {batch_tokens}.")
        if backend not in DTYPES:
            raise ValueError(f"backend must be one of {', '.join(DTYPES)}, got {backend!r}.")
        if dtype not in ("auto", *DTYPES[backend]):
            raise ValueError(f"backend='{backend}' has the dtypes {', '.join(DTYPES[backend])}, got {dtype!r}.")
        if long_texts not in ("truncate", "mean", "max"):
            raise ValueError(f"long_texts must be truncate, mean or max, got {long_texts!r}.")
        if backend != "torch" and (attention or (device or "cpu") != "cpu"):
            raise ValueError(
                f"backend='{backend}' runs on the CPU and has no attention to choose. Drop those arguments."
            )
        self.student = str(student)
        self.revision = revision
        self.batch_tokens = batch_tokens
        self.device = device
        self.backend = backend
        self.dtype = dtype
        self.attention = attention
        self.long_texts = long_texts
        self.identity = content_id(self.student, revision)
        self.kind = student_kind(self.student, revision)
        """`encoder`, `static` or `linear`."""
        if self.kind != ENCODER:
            chosen = (
                batch_tokens,
                device in (None, "cpu"),
                backend,
                dtype in ("auto", "float32"),
                attention,
                long_texts,
            )
            if chosen != (None, True, "torch", True, None, "truncate"):
                raise ValueError(
                    f"'{self.student}' is a {self.kind} student: it computes in float32 on the CPU and reads all of a text. "
                    f"Leave batch_tokens, device, backend, dtype, attention and long_texts out."
                )
        fields = noted_reading(self.student, self.revision).get("fields", ("text",))
        self.text_column = columns_of(fields, text_column, f"Student '{self.student}'")
        if long_texts != "truncate" and len(fields) > 1:
            raise ValueError(
                f"A student of several fields ({', '.join(fields)}) reads them in one piece: long_texts='truncate', not "
                f"{long_texts!r}."
            )

    @classmethod
    def from_pretrained(cls, student: str | Path, **kwargs: object) -> StudentLabeler:
        """The same as the constructor, by the name that users of transformers look for."""
        return cls(student, **kwargs)  # type: ignore[arg-type]

    @property
    def encoder(self) -> StudentLabeler:
        """This student."""
        return self

    @property
    def reads_strings(self) -> bool:
        """A static or linear student reads Arrow strings."""
        return self.kind != ENCODER

    def encode(self, texts: Sequence[object] | pa.Array, rank: int | None = None) -> Encoded:
        """Tokenise texts; see [`~Labeler.encode`]."""
        if self.kind != ENCODER:
            limit_worker_threads()
            strings, places = usable_strings(texts)
            found = in_threads(self._fast().logits, strings)
            return Encoded(len(texts), [], places, torch.from_numpy(found))
        texts = texts.to_pylist() if isinstance(texts, pa.Array) else texts
        loaded = self._load(rank)
        usable = [i for i, text in enumerate(texts) if why_unusable(text) is None]
        read = [str(texts[i]) for i in usable]
        if not read:
            return Encoded(len(texts), [], [])
        if self.long_texts == "truncate":
            return Encoded(len(texts), loaded.reading.encode(loaded.tokenizer, read), usable)
        rows, of_text = loaded.reading.windows(loaded.tokenizer, read)
        return Encoded(len(texts), rows, [usable[k] for k in of_text])

    @torch.inference_mode()
    def score(
        self, encoded: Encoded, rank: int | None = None, progress: Callable[[int], None] | None = None
    ) -> dict[str, pa.Array]:
        """The columns of [`~Labeler.label`] for tokenised texts; see [`~Labeler.score`]."""
        logits, told = encoded.logits, 0
        if logits is None:
            logits, told = self._forward(encoded, rank, progress)
        if progress is not None:
            progress(encoded.n_texts - told)
        return answer_columns(
            self.heads, logits, np.array(encoded.of_text, np.int64), encoded.n_texts, self.long_texts
        )

    def _forward(
        self, encoded: Encoded, rank: int | None, progress: Callable[[int], None] | None
    ) -> tuple[Tensor, int]:
        """The logits of an encoder for each row of token ids, and for how many texts `progress` was told so."""
        if not encoded.rows:
            return torch.zeros(0, sum(head.size for head in self.heads)), 0
        loaded = self._load(rank)
        order: list[int] = []
        parts, told = [], 0
        budget = self.batch_tokens or (_CPU_BATCH if self._place(rank) == "cpu" else _GPU_BATCH)

        def logits(batch: list[int]) -> Tensor:
            return loaded.forward(*padded(loaded.tokenizer, [encoded.rows[i] for i in batch]))

        lengths = [len(row) for row in encoded.rows]
        for batch, found in loaded.budget.compute(lengths, budget, logits):
            if found is None:
                raise RuntimeError(
                    f"Out of memory on one text of {lengths[batch[0]]:,} tokens, with no other beside it. Use a smaller dtype, "
                    f"another device, or a student with a shorter max_length."
                )
            parts.append(found)
            order += batch
            done = encoded.n_texts * len(order) // len(lengths)
            if progress is not None:
                progress(done - told)
            told = done
        return torch.cat(parts).cpu()[torch.tensor(order).argsort()], told

    def agreement(self, texts: Sequence[str]) -> float:
        """
        Share of texts with the label, or the answers to all questions, that the same student gives in float32 on PyTorch.
        Both are never loaded at a time. Of a scale the level counts.
        """
        plain = StudentLabeler(
            self.student,
            self.text_column,
            self.revision,
            self.batch_tokens,
            self.device,
            dtype="float32",
            long_texts=self.long_texts,
        )
        names = [name for name in own_features(self.heads) if name.endswith(("_label", "_labels"))]
        answers = []
        for one in (plain, self):
            free_models()
            columns = one.label(texts)
            answers.append(list(zip(*(columns[name] for name in names), strict=True)))
        return sum(a == b for a, b in zip(*answers, strict=True)) / len(texts)

    def settings(self) -> dict[str, object]:
        """What decides the labels: the student's content, and how it is computed and read."""
        if self.kind != ENCODER:
            return {"student": self.identity, "backend": self.kind, "dtype": "float32", "long_texts": "whole"}
        return {
            "student": self.identity,
            "backend": self.backend,
            "dtype": self._dtype(self._place(None)),
            "long_texts": self.long_texts,
        }

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Mean of the encoder's last hidden states over the tokens of each text, float32, (texts, width)."""
        if self.kind != ENCODER:
            raise ValueError(f"Only an encoder embeds texts, '{self.student}' is a {self.kind} student.")
        loaded = self._load(None)
        if loaded.model is None:
            raise ValueError(f"Only backend='torch' embeds texts, this labeler has '{self.backend}'.")
        rows = loaded.reading.encode(loaded.tokenizer, texts)
        separator = loaded.reading.type_separator(loaded.tokenizer)
        batch_tokens = self.batch_tokens or 4 * _CPU_BATCH
        return mean_hidden(loaded.model.base_model, loaded.tokenizer, rows, batch_tokens, separator)

    def _read_heads(self) -> tuple[Head, ...]:
        return student_heads(self.student, self.revision)

    def _place(self, rank: int | None) -> str:
        return choose_device(self.device, rank) if self.backend == "torch" else "cpu"

    def _dtype(self, device: str) -> str:
        if self.dtype != "auto":
            return self.dtype
        return choose_dtype(device) if self.backend == "torch" else "float32"

    def _load(self, rank: int | None) -> Loaded:
        """The student, loaded once in each process."""
        limit_worker_threads()
        device = self._place(rank)
        dtype = self._dtype(device)
        key = (self.identity, device, self.backend, dtype, self.attention)
        with _LOADING:
            if key not in _LOADED:
                while len(_LOADED) >= _MOST_LOADED:
                    _LOADED.pop(next(iter(_LOADED)))  # the oldest: trainings by seed or fold must not fill the memory
                _LOADED[key] = load_student(self.student, self.revision, device, self.backend, dtype, self.attention)
            return _LOADED[key]

    def _fast(self) -> FastModel:
        """The static or linear student, loaded once in each process."""
        with _LOADING:
            if self.identity not in _FAST:
                while len(_FAST) >= _MOST_LOADED:
                    _FAST.pop(next(iter(_FAST)))
                _FAST[self.identity] = load_fast(self.student, self.revision, self.kind)
            return _FAST[self.identity]


_MOST_LOADED = 2
_LOADED: dict[tuple, Loaded] = model_cache()
_FAST: dict[str, FastModel] = model_cache()
_LOADING = threading.Lock()  # texts are tokenised in a thread of their own
