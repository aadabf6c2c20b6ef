"""Embeddings of texts by an encoder as it was before it learnt from them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import AutoModel

from hf_llambert.models import choose_device
from hf_llambert.tasks.texts import FIELD
from hf_llambert.training.backends import always_masked, mean_hidden
from hf_llambert.training.inputs import Reading
from hf_llambert.training.loading import SAFE, fit_pad_token, load_tokenizer, longest_input

_LONGEST = 512  # tokens; whatever more the encoder takes


def embed_texts(
    encoder: str, texts: Sequence[str], reading: Reading | None = None, device: str | None = None
) -> Tensor:
    """
    Mean of an encoder's last hidden states over the tokens of each text, as (texts, width) in float32.

    Args:
        encoder (`str`): Directory or Hub id, of a classifier or not.
        texts (`Sequence[str]`): Usable texts; see [`why_unusable`]. Rows of several fields are as [`row_texts`] gives them.
        reading (`Reading`, *optional*): How texts are cut. Defaults to what the encoder takes, cut at its end, and several
            fields a line each.
        device (`str`, *optional*): Defaults to this process's GPU, else the CPU.

    Raises:
        OSError: There is no such encoder.
        ValueError: No texts.
    """
    if not texts:
        raise ValueError("Expected texts to embed, got none.")
    tokenizer = load_tokenizer(encoder)
    model = AutoModel.from_pretrained(encoder, **SAFE)
    fit_pad_token(tokenizer, model)
    always_masked(model)
    model = model.to(choose_device(device, None)).eval().float()
    if reading is None:
        reading = Reading(min(_LONGEST, longest_input(tokenizer, model)))
        texts = [text.replace(FIELD, "\n") for text in texts]
    rows, separator = reading.encode(tokenizer, texts), reading.type_separator(tokenizer)
    return mean_hidden(model, tokenizer, rows, separator=separator)
