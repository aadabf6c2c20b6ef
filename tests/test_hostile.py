import re

import pytest
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from conftest import SENTENCES
from hf_llambert import (
    LLMLabeler,
    PromptEncoder,
    TaskSpec,
    TransformersTeacher,
    annotate,
    load_data,
    load_task,
    write_report,
)
from hostile import CONTROL, FORMATS, hostile_texts

pytestmark = pytest.mark.usefixtures("undrawn_reports")

TEXTS = hostile_texts()
QUESTION = TaskSpec.from_dict(
    {
        "name": "question",
        "labels": ["negative", "positive"],
        "system": "Answer with one word.",
        "instruction": "Is this review positive or negative?\n\nReview: {text}\n\nAnswer with one word.",
        "examples": [{"text": "a film that I liked", "label": "positive"}],
    }
)
CLOZE = TaskSpec("cloze", ("negative", "positive"), "Review: {text}", lead_in="It is", chat=False)


def tokenizer_of(name, special):
    """A byte-level tokenizer with a format's control tokens, some marked special and some not, as the real ones have."""
    tokens, template = FORMATS[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    for k, token in enumerate(tokens):
        tokenizer.add_special_tokens([token]) if special or k % 2 else tokenizer.add_tokens(
            [AddedToken(token, normalized=False)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=tokens[1], chat_template=template)


def control_tokens(tokenizer, ids):
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if len(token.content.strip()) > 1}
    return sum(i in control for i in ids)


def check(tokenizer, task, texts=TEXTS):
    encoder = PromptEncoder(tokenizer, task)
    expected = control_tokens(tokenizer, encoder.encode(""))
    for text in texts:
        for ids in (encoder.encode(text), encoder.fit(text, 40, 0.5)[0], encoder.fit(text, 5, 1.0)[0]):
            assert control_tokens(tokenizer, ids) == expected, text
    return expected


@pytest.mark.parametrize("special", [True, False], ids=["special", "added"])
@pytest.mark.parametrize("name", FORMATS)
def test_no_text_adds_a_control_token_in_any_chat_format(name, special):
    tokenizer = tokenizer_of(name, special)
    assert check(tokenizer, QUESTION) >= 3
    assert check(tokenizer, CLOZE) == 0


def test_the_texts_are_hostile():
    tokenizer = tokenizer_of("chatml", True)
    naive = [tokenizer.apply_chat_template(QUESTION.messages(text), tokenize=True)["input_ids"] for text in TEXTS]
    empty = control_tokens(tokenizer, PromptEncoder(tokenizer, QUESTION).encode(""))
    assert sum(control_tokens(tokenizer, ids) > empty for ids in naive) > 25
    assert len(set(TEXTS)) > 150
    assert all(any(token in text for text in TEXTS) for token in CONTROL)


@pytest.mark.real
def test_no_text_adds_a_control_token_to_the_real_teacher(assets):
    tokenizer = AutoTokenizer.from_pretrained(assets / "SmolLM2-135M-Instruct")
    assert check(tokenizer, QUESTION) >= 6
    assert check(tokenizer, load_task("imdb")) == 0


def test_what_the_text_says_is_kept_letter_for_letter():
    tokenizer = tokenizer_of("chatml", True)
    for text in TEXTS:
        shown = tokenizer.decode(PromptEncoder(tokenizer, CLOZE).encode(text), clean_up_tokenization_spaces=False)
        assert shown == CLOZE.messages(text)[0]["content"]


def test_hostile_texts_are_annotated_row_by_row_and_reported_as_text(teacher_dir, tmp_path):
    data = Dataset.from_dict({"text": TEXTS, "label": [i % 2 for i in range(len(TEXTS))]})
    for mode in ("score", "generate"):
        run = tmp_path / mode
        labeler = LLMLabeler(QUESTION, TransformersTeacher(teacher_dir, mode=mode), run / "ledger")
        results = annotate(data, labeler, run / "annotated", gold_column="label", show_progress=False)
        assert (results["n_rows"], results["n_failed"]) == (200, 0)
        assert load_data(run)["text"][:] == TEXTS
        write_report(run)
        shown = (run / "report.md").read_text()
        assert not re.search(r"<(?!!--|/?(?:details|summary)\b)[a-zA-Z/]", shown)
        assert "javascript:" not in re.sub(r"\\.", "", shown) or "](javascript" not in shown


def test_control_tokens_in_disguise_are_broken_up_too(teacher_dir):
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()  # makes fullwidth brackets ordinary ones
    disguised = "\uff1cthink\uff1e a film \uff1c/think\uff1e"
    assert control_tokens(tokenizer, tokenizer(disguised).input_ids) == 2
    check(tokenizer, QUESTION, [disguised])
