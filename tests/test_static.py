import json
import sys

import numpy as np
import pyarrow as pa
import pytest
import transformers
from datasets import Dataset
from model2vec import StaticModel as Model2Vec
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from conftest import make_cloze, make_reviews
from hf_llambert import StudentConfig, TaskSpec
from hf_llambert.models import content_id
from hf_llambert.tasks.texts import FIELD
from hf_llambert.training.heads import heads_of
from hf_llambert.training.static import StaticModel
from hf_llambert.training.static_training import STATIC_DEFAULTS, fit_static, static_arguments
from hf_llambert.training.vectors import Tokens, TokenVectors, distill
from test_loading import slow_student

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *[
        "the",
        "actors",
        "were",
        "wonderful",
        "and",
        "i",
        "liked",
        "it",
        "music",
        "was",
        "awful",
        "film",
        "dull",
        "very",
        "number",
    ]
]


def word_pieces() -> Tokenizer:
    """As BERT's: signs stand alone, words are in small letters."""
    pieces = [*SPECIALS, *WORDS, *"[]<>/", *"clsepadunk0123456789", *(f"##{sign}" for sign in "clsepadunk")]
    tokenizer = Tokenizer(models.WordPiece({one: i for i, one in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-RoBERTa's: its control tokens are pieces like others."""
    own = [(f"▁{word}", -4.0) for word in WORDS]
    signs = [(sign, -9.0) for sign in "▁[]<>/scplaedunkCLSEPADUNK"]
    tokenizer = Tokenizer(models.Unigram([*((one, 0.0) for one in SPECIALS), *own, *signs], unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def whole_words() -> Tokenizer:
    """A word is what stands between spaces, a control token too."""
    tokenizer = Tokenizer(models.WordLevel({one: i for i, one in enumerate([*WORDS, *SPECIALS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([*SPECIALS, "[MASK]"])  # the last is in no vocabulary
    return tokenizer


def byte_pieces() -> Tokenizer:
    """As GPT-2's, with a control token beside the vocabulary."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({one: i for i, one in enumerate([*letters, "[PAD]"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


KINDS = [word_pieces, unigram, whole_words, byte_pieces]


def vectors_of(tokenizer: Tokenizer, folder, dimensions: int = 6) -> TokenVectors:
    """Random vectors, by way of a folder that model2vec wrote."""
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), dimensions)).astype(np.float32)
    Model2Vec(table, tokenizer, normalize=True).save_pretrained(folder)
    return TokenVectors.read(folder)


@pytest.fixture
def vectors(tmp_path) -> TokenVectors:
    return vectors_of(word_pieces(), tmp_path / "vectors")


def arguments(tmp_path, **given) -> StudentConfig:
    given = {"num_train_epochs": 4, "use_cpu": True, "report_to": [], "disable_tqdm": True, **given}
    return static_arguments(str(tmp_path / "checkpoints"), **given)


def fit(vectors, tmp_path, silver=None, gold=None, task=None, dev=None, **given):
    task = task or make_cloze()
    args = arguments(tmp_path, **given)
    return fit_static(vectors, task, heads_of(task, args.scale_loss), args, silver, gold, "text", dev)


def made_silver(probabilities) -> Dataset:
    """Two reviews, again and again, that a teacher labelled with these probabilities."""
    labels = [int(np.argmax(row)) for row in probabilities]
    texts = [make_reviews(2)["text"][1 - i % 2] for i in range(len(labels))]
    return Dataset.from_dict({"text": texts, "label": labels, "probabilities": probabilities})


def test_a_student_learns_reviews_and_model2vec_gives_its_logits(vectors, tmp_path):
    reviews = make_reviews(60)
    student, noted = fit(vectors, tmp_path, gold=reviews)
    logits = student.logits(pa.array(reviews["text"]))
    assert logits.dtype == np.float32
    assert logits.argmax(1).tolist() == reviews["label"][:]
    assert noted["epochs"] == 4
    assert noted["history"][-1]["gold_seen"] == 240
    student.save(tmp_path / "student")
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    given = Model2Vec.from_pretrained(tmp_path / "student").encode(reviews["text"][:])
    np.testing.assert_allclose(given, logits, rtol=1e-5, atol=1e-5)
    again = StaticModel.load(tmp_path / "student").logits(pa.array(reviews["text"]))
    assert again.tobytes() == logits.tobytes()


def test_a_text_without_a_known_token_has_the_bias(vectors, tmp_path):
    student, _ = fit(vectors, tmp_path, gold=make_reviews(20))
    logits = student.logits(pa.array(["zzz qqq", "", "   ", "the film"]))
    assert logits[:3].tolist() == [student.bias.tolist()] * 3
    assert logits[3].tolist() != student.bias.tolist()
    assert student.logits(pa.array([], pa.string())).shape == (0, 2)


def test_logits_of_a_text_do_not_depend_on_the_others(vectors, tmp_path):
    student, _ = fit(vectors, tmp_path, gold=make_reviews(20))
    texts = [*make_reviews(9)["text"], "", "zzz", "film " * 3000]
    together = student.logits(pa.array(texts))
    alone = np.concatenate([student.logits(pa.array([text])) for text in texts])
    assert together.tobytes() == alone.tobytes()


STRANGE = [
    "the film  was\tvery\nwonderful , and ( awful ) !",
    "THE\u00a0FILM caf\u00e9 \u0301e e\u0301 \u0000the\u200bfilm \ufffd \u212b \u1fef",
    "\u7535\u5f71 the\u7535film \u3000 it",
    "[CLS] the [UNK] </s> ##s",
    "",
    "   ",
    f"{'film' * 300} the {'s' * 501}",
    FIELD.join(["the film", "was dull"]),
]


@pytest.mark.parametrize("more", ["", " a|b", " \u00a6 \u00a7 \u00ac | ~ ^ # *"], ids=["none", "one", "all"])
@pytest.mark.parametrize("real", [False, True], ids=["small", "real"])
def test_words_read_once_have_the_tokens_of_the_texts(more, real, assets, tmp_path):
    tokenizer = word_pieces()
    if real:
        tokenizer = Tokenizer.from_file(str(assets / "all-MiniLM-L6-v2/tokenizer.json"))
    vectors = vectors_of(tokenizer, tmp_path)
    assert vectors.tokens.by_words
    student = StaticModel(vectors.vectors, vectors.vectors[0], vectors.tokens)
    for texts in (STRANGE, [text + more for text in STRANGE[:6]]):  # a long word is in the first ones
        ids, starts = vectors.tokens.of(texts)
        words = [text.split(" ") for text in texts]
        found = [vectors.tokens.of_words(pa.array(row)) for row in words]
        assert np.concatenate([one for one, _ in found]).tolist() == ids.tolist()
        assert [one[-1] for _, one in found] == np.diff(starts).tolist()
        means = [student.table[ids[a:b]].mean(0) if b > a else student.bias for a, b in zip(starts, starts[1:])]  # noqa: B905
        np.testing.assert_allclose(student.logits(pa.array(texts)), means, rtol=1e-4, atol=1e-6)


def test_only_what_bert_reads_is_read_by_words(tmp_path):
    read = [vectors_of(kind(), tmp_path / kind.__name__).tokens.by_words for kind in KINDS]
    assert read == [True, False, False, False]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_text_becomes_a_control_token(kind, tmp_path):
    tokenizer = kind()
    vectors = vectors_of(tokenizer, tmp_path / "vectors")
    left = {token for token in vectors.tokens.tokenizer.get_vocab() if token in SPECIALS or token == "[MASK]"}
    assert left <= {"[UNK]"}
    table = load_file(tmp_path / "vectors" / "model.safetensors")["embeddings"]
    before, after = tokenizer.get_vocab(), vectors.tokens.tokenizer.get_vocab()
    assert all(np.array_equal(vectors.vectors[after[one]], table[before[one]]) for one in after)
    texts = ["[CLS] the film [SEP]", "[PAD]", "[UNK] [MASK]", "<s> the </s>"]
    student = StaticModel(vectors.vectors, np.zeros(6, np.float32), vectors.tokens)
    student.save(tmp_path / "student")
    given = Model2Vec.from_pretrained(tmp_path / "student").encode(texts)
    np.testing.assert_allclose(given, student.logits(pa.array(texts)), rtol=1e-5, atol=1e-6)


def test_a_control_token_in_a_text_is_read_as_its_signs(vectors):
    ids, starts = vectors.tokens.of(["[CLS] film", "[ cls ] film"])
    assert [vectors.tokens.tokenizer.id_to_token(i) for i in ids[: starts[1]]] == ["[", "c", "##l", "##s", "]", "film"]
    assert ids[: starts[1]].tolist() == ids[starts[1] :].tolist()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_text_read_in_pieces_has_the_tokens_of_the_whole(kind, tmp_path, monkeypatch):
    tokens = vectors_of(kind(), tmp_path / "vectors").tokens
    texts = ["the film was  wonderful and   I liked it " * 20, "", "film", "the actors\nwere dull " * 30]
    whole = tokens.of(texts)
    monkeypatch.setattr("hf_llambert.training.vectors._PIECE", 50)
    pieces = tokens.of(texts)
    assert [one.tolist() for one in pieces] == [one.tolist() for one in whole]
    long = tokens.of(["x" * 400])  # no space to cut at
    assert long[1][-1] == len(long[0])


def test_several_fields_are_read_as_lines(vectors):
    from hf_llambert.tasks.texts import FIELD

    assert vectors.tokens.of([f"film{FIELD}dull"])[0].tolist() == vectors.tokens.of(["film\ndull"])[0].tolist()


def test_same_seed_gives_the_same_student_byte_for_byte(vectors, tmp_path):
    first, second, other = (fit(vectors, tmp_path, gold=make_reviews(80), seed=seed)[0] for seed in (1, 1, 2))
    for name in ("first", "second"):
        locals()[name].save(tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert files[0] == files[1]
    assert other.table.tobytes() != first.table.tobytes()


def test_soft_targets_are_learnt_as_they_are(vectors, tmp_path):
    silver = made_silver([[0.3, 0.7], [0.7, 0.3]] * 20)
    texts = pa.array(silver["text"][:2])

    def learnt(**given):
        student, _ = fit(vectors, tmp_path, silver=silver, num_train_epochs=40, learning_rate=0.1, **given)
        odds = student.logits(texts)
        return 1 / (1 + np.exp(odds[:, 0] - odds[:, 1]))

    assert learnt(soft_targets=True) == pytest.approx([0.7, 0.3], abs=0.02)
    assert (np.abs(learnt() - [1, 0]) < 0.1).all()
    assert learnt(label_smoothing_factor=0.4) == pytest.approx([0.8, 0.2], abs=0.02)


def test_a_row_counts_by_its_weight(vectors, tmp_path):
    text = make_reviews(1)["text"][0]
    silver = Dataset.from_dict({"text": [text] * 40, "label": [0, 1] * 20, "llm_confidence": [0.9, 0.1] * 20})
    student, _ = fit(
        vectors,
        tmp_path,
        silver=silver,
        num_train_epochs=100,
        learning_rate=0.1,
        per_device_train_batch_size=40,
        weight_by_confidence=True,
    )
    odds = student.logits(pa.array([text]))[0]
    assert odds[0] - odds[1] == pytest.approx(np.log(9), abs=0.1)


def test_silver_comes_before_gold_as_the_mix_says(vectors, tmp_path):
    silver = made_silver([[0.9, 0.1], [0.1, 0.9]] * 20)
    gold = Dataset.from_dict({"text": silver["text"][:], "label": [1 - label for label in silver["label"]]})
    given = {"silver_epochs": 2, "gold_epochs": 10, "per_device_train_batch_size": 8, "learning_rate": 0.1}
    student, noted = fit(vectors, tmp_path, silver=silver, gold=gold, **given)
    assert [noted["history"][-1][f"{name}_seen"] for name in ("silver", "gold")] == [80, 400]
    assert student.logits(pa.array(gold["text"])).argmax(1).tolist() == gold["label"][:]
    student, noted = fit(
        vectors, tmp_path, silver=silver, gold=gold.select(range(10)), mix="ratio", gold_share=0.5, num_train_epochs=8
    )
    assert noted["history"][-1]["silver_seen"] == noted["history"][-1]["gold_seen"]


QUESTIONS = TaskSpec.from_dict(
    {
        "name": "several",
        "instruction": "Read: {text}",
        "questions": [
            {"name": "mood", "ask": "Which?", "kind": "choice", "labels": ["bad", "good"]},
            {"name": "words", "ask": "Which?", "kind": "choices", "labels": ["actors", "film", "spaceship"]},
            {"name": "stars", "ask": "Which?", "kind": "scale", "levels": ["1", "2", "3"]},
        ],
    }
)


@pytest.mark.parametrize("scale_loss", ["cross_entropy", "regression"])
def test_several_questions_are_learnt_side_by_side(scale_loss, vectors, tmp_path):
    reviews = make_reviews(60)
    good = reviews["label"][:]
    answers = {
        "mood": good,
        "words": [[0] if one else [1] for one in good],
        "stars": [3.0 if one else 1.5 for one in good],
    }
    answers["mood"] = [None if i % 5 == 0 else one for i, one in enumerate(good)]
    gold = Dataset.from_dict({"text": reviews["text"][:], **answers})
    heads = [head.fitted(answers[head.name]) for head in heads_of(QUESTIONS, scale_loss)]
    args = arguments(
        tmp_path, num_train_epochs=30, learning_rate=0.03, per_device_train_batch_size=8, scale_loss=scale_loss
    )
    student, _ = fit_static(vectors, QUESTIONS, heads, args, None, gold, "text")
    logits = student.logits(pa.array(reviews["text"]))
    assert logits.shape == (60, 6 if scale_loss == "regression" else 8)
    import torch

    columns = [head.columns(head.evidence(head.of(torch.tensor(logits)))) for head in heads]
    assert columns[0]["label"].to_pylist() == good
    assert columns[1]["labels"].to_pylist() == answers["words"]
    apart = np.subtract(
        columns[2]["value"], answers["stars"]
    )  # a longer text is a mean of more words that say nothing
    assert np.abs(apart).mean() < 0.2


def test_labels_that_never_hold_begin_rare(vectors, tmp_path):
    answers = {"mood": [0, 1] * 30, "stars": [1.0, 3.0] * 30, "words": [[0]] * 60}
    gold = Dataset.from_dict({"text": make_reviews(60)["text"][:], **answers})
    student, _ = fit(vectors, tmp_path, gold=gold, task=QUESTIONS, max_steps=1)
    assert student.bias[2] > 3
    assert student.bias[4] < -3


def test_the_epoch_is_chosen_on_rows_kept_back(vectors, tmp_path):
    reviews = make_reviews(60)
    wrong = Dataset.from_dict({"text": reviews["text"][:], "label": [1 - label for label in reviews["label"]]})
    given = {"num_train_epochs": 3, "dev_share": 0.2, "seed": 3}
    _, noted = fit(vectors, tmp_path, gold=reviews, dev={"gold": wrong}, **given)
    measured = [one["eval_gold_accuracy"] for one in noted["history"] if "eval_gold_accuracy" in one]
    assert len(measured) == 3
    student, _ = fit(vectors, tmp_path, gold=reviews, dev={"gold": wrong}, **given)
    reached = (student.logits(pa.array(wrong["text"])).argmax(1) == wrong["label"][:]).mean()
    assert reached == pytest.approx(max(measured))


@pytest.mark.parametrize("loss", ["gce", "symmetric_kl", "elr"])
def test_losses_for_wrong_labels_train_it_too(loss, vectors, tmp_path):
    reviews = make_reviews(60)
    student, _ = fit(vectors, tmp_path, gold=reviews, loss=loss, num_train_epochs=8)
    assert student.logits(pa.array(reviews["text"])).argmax(1).tolist() == reviews["label"][:]


def test_frozen_vectors_stay_and_unread_ones_always_do(vectors, tmp_path):
    def plane(table):  # how far the rows of a table are from a linear function of the vectors
        known = np.column_stack([vectors.vectors, np.ones(len(table))])
        return np.abs(known @ np.linalg.lstsq(known, table, rcond=None)[0] - table)

    frozen, _ = fit(vectors, tmp_path, gold=make_reviews(40), freeze_encoder=True)
    assert plane(frozen.table).max() < 1e-4
    trained, _ = fit(vectors, tmp_path, gold=make_reviews(40), learning_rate=0.1)
    assert plane(trained.table).max() > 0.01


def test_texts_without_a_known_token_are_refused_and_adapters_too(vectors, tmp_path):
    with pytest.raises(ValueError, match="knows no token of the texts"):
        fit(vectors, tmp_path, gold=Dataset.from_dict({"text": ["zzz", "qqq"], "label": [0, 1]}))
    with pytest.raises(ValueError, match="no layers for adapters"):
        fit(vectors, tmp_path, gold=make_reviews(8), lora_rank=4)
    with pytest.raises(ValueError, match="has no attention"):
        fit(vectors, tmp_path, gold=make_reviews(8), attention_dropout=0.0)


def test_a_training_that_goes_astray_is_refused(vectors, tmp_path):
    with pytest.raises(RuntimeError, match="have no numbers.* Nothing was saved. Train with a smaller learning_rate"):
        fit(vectors, tmp_path, gold=make_reviews(20), learning_rate=1e38)


def test_defaults_of_static_students_leave_those_of_encoders_alone(tmp_path):
    before = StudentConfig(str(tmp_path), report_to=[])
    own = static_arguments(str(tmp_path), report_to=[], learning_rate=0.5)
    assert own.learning_rate == 0.5
    assert own.num_train_epochs == STATIC_DEFAULTS["num_train_epochs"]
    assert before.learning_rate == StudentConfig(str(tmp_path), report_to=[]).learning_rate == 5e-5


def test_vectors_of_an_encoder_are_made_once_and_kept(student_dir, tmp_path, monkeypatch):
    made = TokenVectors.load(student_dir, dimensions=8, keep=tmp_path / "kept")
    assert made.source == content_id(student_dir)
    assert made.vectors.shape == (made.tokens.size, 8)
    monkeypatch.setitem(sys.modules, "model2vec.distill", None)
    again = TokenVectors.load(student_dir, dimensions=8, keep=tmp_path / "kept")
    assert again.vectors.tobytes() == made.vectors.tobytes()
    assert again.source == made.source
    assert again.tokens.of(["the actors"])[0].tolist() == made.tokens.of(["the actors"])[0].tolist()
    with pytest.raises(ImportError, match=r"pip install 'hf-llambert\[static\]'"):
        TokenVectors.load(student_dir, dimensions=9, keep=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_vectors_are_those_that_model2vec_makes(student_dir, tmp_path):
    from model2vec.distill import distill_from_model

    model = transformers.AutoModel.from_pretrained(student_dir)
    tokenizer = transformers.AutoTokenizer.from_pretrained(student_dir)
    expected = distill_from_model(model, tokenizer, device="cpu", pca_dims=8, quantize_to="float32")
    texts = ["the actors were wonderful", "the music was awful"]
    vectors = distill(student_dir, dimensions=8)
    student = StaticModel(vectors.vectors, np.zeros(8, np.float32), vectors.tokens)
    given = expected.encode(texts, normalize=False)
    np.testing.assert_allclose(student.logits(pa.array(texts)), given, rtol=1e-4, atol=1e-5)


def test_a_quantised_model_of_model2vec_is_taken_with_its_weights(tmp_path):
    tokenizer = word_pieces()
    size = tokenizer.get_vocab_size()
    rng = np.random.default_rng(0)
    model = Model2Vec(
        rng.normal(size=(5, 4)).astype(np.float16),
        tokenizer,
        weights=rng.random(size).astype(np.float32),
        token_mapping=rng.integers(0, 5, size),
    )
    model.save_pretrained(tmp_path / "quantised")
    vectors = TokenVectors.load(tmp_path / "quantised")
    student = StaticModel(vectors.vectors, np.zeros(4, np.float32), vectors.tokens)
    texts = ["the film was dull", "wonderful"]
    np.testing.assert_allclose(student.logits(pa.array(texts)), model.encode(texts), atol=2e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: {**found, "mapping": found["mapping"] + 9},
            "expected 'mapping' to name rows, got .*mapping int64",
        ),
        (lambda found: {**found, "mapping": -1 - found["mapping"]}, "expected 'mapping' to name rows"),
        (lambda found: {**found, "weights": found["weights"][1:]}, "expected a weight for each token"),
        (lambda found: {**found, "weights": found["weights"] * np.nan}, "expected finite numbers"),
    ],
)
def test_a_damaged_model_of_model2vec_is_refused(change, said, tmp_path):
    tokenizer, size = word_pieces(), word_pieces().get_vocab_size()
    places = np.arange(size) % 5
    model = Model2Vec(np.ones((5, 4), np.float32), tokenizer, weights=np.ones(size, np.float32), token_mapping=places)
    model.save_pretrained(tmp_path / "model")
    _arrays(tmp_path / "model" / "model.safetensors", change)
    with pytest.raises(OSError, match=said):
        TokenVectors.load(tmp_path / "model")


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is not a directory here"):
        TokenVectors.load("nobody/nothing")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        TokenVectors.load(tmp_path)


def test_a_model_of_the_hub_is_read_at_its_revision(tmp_path, monkeypatch):
    place = tmp_path / "snapshots" / ("c" * 40)
    made = vectors_of(word_pieces(), place)
    asked = []

    def download(name, file, revision=None):
        asked.append((name, file, revision))
        return str(place / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("hf_llambert.training.vectors.hf_hub_download", download)
    found = TokenVectors.load("somebody/static", revision="v1")
    assert found.source == f"somebody/static@{'c' * 40}"
    assert found.vectors.tobytes() == made.vectors.tobytes()
    assert {revision for _, _, revision in asked} == {"v1"}
    assert {file for _, file, _ in asked} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_static_student_is_a_model_to_begin_with(vectors, tmp_path):
    student, _ = fit(vectors, tmp_path, gold=make_reviews(20))
    student.save(tmp_path / "student")
    begin = TokenVectors.load(tmp_path / "student")
    assert begin.vectors.tobytes() == student.table.tobytes()
    again, _ = fit(begin, tmp_path, gold=make_reviews(20))
    assert again.table.shape == student.table.shape


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({one: i for i, one in enumerate(WORDS)}, unk_token="[UNK]"),
        models.Unigram([("▁a", -1.0), ("b", -2.0), ("▁", -3.0)]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_tokenizer_without_the_unknown_token_that_it_needs_is_refused(model, tmp_path):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    size = tokenizer.get_vocab_size()
    Model2Vec(np.ones((size, 2), np.float32), tokenizer).save_pretrained(tmp_path / "static")
    with pytest.raises(OSError, match=r"(?i)tokenizer.json' is damaged \(.*unk"):
        TokenVectors.read(tmp_path / "static")
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    encoder = transformers.BertModel(transformers.BertConfig(vocab_size=size, hidden_size=8, **shape))
    encoder.save_pretrained(tmp_path / "encoder")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="model2vec cannot take the tokenizer of .* Take another encoder"):
        distill(str(tmp_path / "encoder"))


def test_a_slow_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="has a slow tokenizer, without tokenizer.json; expected a fast one"):
        distill(str(slow_student(tmp_path)))
    with pytest.raises(ValueError, match="dimensions must be a positive number, got 0"):
        distill(str(tmp_path), dimensions=0)


def _rewrite(path, change):
    note = json.loads(path.read_text())
    change(note)
    path.write_text(json.dumps(note))


DAMAGE = {
    "config.json": [
        (lambda path: path.unlink(), "config.json"),
        (lambda path: path.write_text("{"), "damaged"),
        (
            lambda path: _rewrite(path, lambda note: note.update(model_type="bert")),
            "expected 'model2vec' .* got 'bert'",
        ),
        (lambda path: _rewrite(path, lambda note: note.update(normalize=True)), "without normalize"),
        (lambda path: _rewrite(path, lambda note: note.pop("normalize")), "normalize"),
    ],
    "model.safetensors": [
        (lambda path: path.unlink(), "model.safetensors"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "damaged"),
        (lambda path: save_file({"embeddings": np.zeros((3, 2), np.float32)}, path), "expected embeddings .* bias"),
        (lambda path: _arrays(path, lambda a: a | {"bias": np.zeros(3, np.float32)}), r"got bias float32 \(3,\)"),
        (lambda path: _arrays(path, lambda a: a | {"embeddings": a["embeddings"][:-1]}), "expected .* tokens"),
        (lambda path: _arrays(path, lambda a: a | {"embeddings": a["embeddings"] * np.nan}), "finite"),
        (lambda path: _arrays(path, lambda a: {k: v.astype(np.float64) for k, v in a.items()}), "float32"),
    ],
    "tokenizer.json": [
        (lambda path: path.unlink(), "tokenizer.json"),
        (lambda path: path.write_text("{}"), "damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "damaged"),
        (lambda path: path.write_text("[" * 100_000), "damaged"),
        (lambda path: _rewrite(path, lambda note: _shifted(note["model"]["vocab"])), "numbers from 0 to"),
        (lambda path: _rewrite(path, lambda note: _doubled(note["model"]["vocab"])), "numbers from 0 to"),
        (lambda path: _rewrite(path, lambda note: note["model"].update(type="Gigram")), "damaged"),
    ],
}


def _shifted(vocabulary):
    """The last token far behind the others: as many tokens as rows, and no row for it."""
    vocabulary[list(vocabulary)[-1]] = 1_000_000


def _doubled(vocabulary):
    """Two tokens of one number."""
    first, *_, last = vocabulary
    vocabulary[last] = vocabulary[first]


def _arrays(path, change):
    save_file({name: np.ascontiguousarray(one) for name, one in change(load_file(path)).items()}, path)


@pytest.mark.parametrize(
    ("file", "number"), [(file, i) for file, all_of in DAMAGE.items() for i in range(len(all_of))]
)
def test_damaged_and_foreign_files_are_refused_with_what_was_expected(file, number, vectors, tmp_path):
    StaticModel(vectors.vectors[:, :2], np.zeros(2, np.float32), vectors.tokens).save(tmp_path / "student")
    damage, said = DAMAGE[file][number]
    damage(tmp_path / "student" / file)
    with pytest.raises(OSError, match=said):
        StaticModel.load(tmp_path / "student")


def test_tokens_of_a_tokenizer_that_is_not_there_are_none():
    assert [one.tolist() for one in Tokens(whole_words(), None).of([])] == [[], [0]]


@pytest.mark.real
def test_a_real_tokenizer_learns_real_news(assets, tmp_path):
    import pyarrow.parquet as pq

    tokenizer = Tokenizer.from_file(str(assets / "all-MiniLM-L6-v2" / "tokenizer.json"))
    vectors = vectors_of(tokenizer, tmp_path / "vectors", dimensions=32)
    news = pq.read_table(assets / "bbc_news.parquet")
    order = np.random.default_rng(0).permutation(len(news))
    texts, labels = news["text"].take(order), [int(one) for one in news["label"].take(order).to_pylist()]
    task = TaskSpec("news", ("business", "entertainment", "politics", "sport", "technology"), "{text}")
    gold = Dataset.from_dict({"text": texts.slice(0, 400).to_pylist(), "label": labels[:400]})
    student, _ = fit(vectors, tmp_path, gold=gold, task=task, num_train_epochs=10, learning_rate=0.1)
    found = student.logits(texts.slice(400, 400).combine_chunks()).argmax(1)
    assert (found == labels[400:800]).mean() > 0.7  # from vectors that say nothing
