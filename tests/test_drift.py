import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.feature_extraction.text import CountVectorizer

from hf_llambert import embed_texts, measure_drift
from hf_llambert.quality.words import letter_counts

WORDS = np.array(["film", "actor", "music", "scene", "plot", "story", "camera", "light", "voice", "ending"])
OTHER = np.array(["market", "shares", "profit", "bank", "trade", "film", "story", "budget", "rates", "growth"])


def texts_of(words, n, seed, length=12):
    random = np.random.default_rng(seed)
    return [
        " ".join(random.choice(words, random.integers(4, length))) + f" x{random.integers(1000)}" for _ in range(n)
    ]


def numbers(texts):
    """Stands for an encoder: counts of letters."""
    return np.array([[text.count(chr(97 + k)) for k in range(26)] for text in texts], dtype=float)


def test_pool_of_another_domain_is_told_apart_by_its_words():
    found = measure_drift(texts_of(WORDS, 300, 0), texts_of(OTHER, 500, 1))
    assert found["auc"] > 0.95
    assert found["p"] < 1e-10
    assert found["low"] <= found["accuracy"] <= found["high"]
    assert found["n_sample"] == found["n_pool"] <= 300
    assert {"actor", "music", "scene"} <= set(found["words"]["sample"])
    assert {"market", "profit"} <= set(found["words"]["pool"])
    assert not {"film", "story"} & {*found["words"]["sample"], *found["words"]["pool"]}


def test_embeddings_take_the_place_of_words():
    assert measure_drift(texts_of(WORDS, 200, 0), texts_of(OTHER, 200, 1), numbers)["p"] < 1e-6
    assert measure_drift(texts_of(WORDS, 200, 0), texts_of(WORDS, 200, 1), numbers)["p"] > 0.01


@pytest.mark.parametrize("kind", ["apart", "pool holds the sample", "frequent texts", "sample is much of the pool"])
def test_p_is_uniform_where_there_is_no_drift(kind):
    found = []
    for k in range(80):
        random = np.random.default_rng(k)
        size = 260 if kind == "sample is much of the pool" else 600
        rows = texts_of(WORDS, size, k)
        if kind == "frequent texts":  # half of the rows are some 40 short texts that come again and again
            rows[:300] = [f"{WORDS[j % 10]} {WORDS[j % 4]}" for j in random.integers(40, size=300)]
        order = random.permutation(size)
        sample = [rows[i] for i in order[:150]]
        rest = [rows[i] for i in order[150:]]
        pool = rows if kind.startswith(("pool holds", "sample is much")) else rest
        found.append(measure_drift(sample, pool, numbers, max_texts=100, seed=k)["p"])
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) < 0.05) <= 0.1375  # more has a chance of 0.1 %


def test_words_give_a_p_that_is_uniform_where_there_is_no_drift():
    found = [measure_drift(texts_of(WORDS, 60, k), texts_of(WORDS, 60, 1000 + k), seed=k)["p"] for k in range(60)]
    assert kstest(found, "uniform").pvalue > 0.01


def test_drift_shows_though_the_pool_holds_the_sample():
    rows = texts_of(WORDS, 400, 0) + texts_of(OTHER, 400, 1)
    found = measure_drift(rows[:300], rows)
    assert found["p"] < 1e-4
    assert found["n_shared"] > 250


def test_a_sample_that_is_the_whole_pool_has_no_drift():
    rows = texts_of(WORDS, 200, 0) + texts_of(OTHER, 200, 1)
    found = measure_drift(rows, rows[::-1])
    assert found["p"] > 0.01
    assert found["words"] == {"sample": [], "pool": []}


def test_the_same_call_gives_the_same_figures():
    given = texts_of(WORDS, 100, 0), texts_of(OTHER, 100, 1)
    assert measure_drift(*given, seed=3) == measure_drift(*given, seed=3)


@pytest.mark.parametrize(
    ("sample", "pool"), [([], []), (["a b"] * 500, texts_of(WORDS, 500, 0)), ([None, " "], ["x"])]
)
def test_too_few_different_texts_are_a_sentence(sample, pool):
    found = measure_drift(sample, pool)
    assert found["p"] is found["auc"] is None
    assert "takes 40 different texts of each, got" in found["why"]


def test_at_most_max_texts_of_each_are_read():
    read = []

    def counted(texts):
        read.append(len(texts))
        return numbers(texts)

    assert measure_drift(texts_of(WORDS, 300, 0), texts_of(WORDS, 300, 1), counted, max_texts=50)["n_sample"] == 50
    assert read == [100]
    with pytest.raises(ValueError, match="max_texts must be 40 or more, got 3"):
        measure_drift([], [], max_texts=3)


def test_scripts_without_blanks_are_told_apart_by_their_letters():
    random = np.random.default_rng(0)
    sample, pool = (
        ["".join(random.choice(list(letters), 30)) for _ in range(150)]
        for letters in ("电影演员音乐故事好看", "市场股票银行利润价格")
    )
    assert measure_drift(sample, pool)["auc"] > 0.95


def test_embedding_is_the_mean_over_tokens_whatever_the_batch(student_dir):
    from hf_llambert import StudentLabeler

    texts = ["the film", "I liked the actors very much and the music", "dull"]
    together = embed_texts(student_dir, texts)
    assert together.shape == (3, 32)
    for i, text in enumerate(texts):
        assert together[i].tolist() == pytest.approx(embed_texts(student_dir, [text])[0].tolist(), abs=1e-5)
    assert together[0].tolist() == pytest.approx(StudentLabeler(student_dir).embed(texts)[0].tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="Expected texts to embed, got none"):
        embed_texts(student_dir, [])


def test_letters_in_a_row_are_counted_as_scikit_learn_counts_them():
    texts = ["It was  great,\nnot dull!", "a b  c", "İstanbul I", "", "  ", "你好 世界。不错", "😀😀 x", "x" * 5000]
    ours = letter_counts(texts)
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)).fit_transform([text[:4000] for text in texts])
    assert ours.shape == theirs.shape
    assert ours.sum(axis=1).tolist() == theirs.sum(axis=1).tolist()
    assert sorted(ours.sum(axis=0).tolist()[0]) == sorted(theirs.sum(axis=0).tolist()[0])
    assert letter_counts([]).shape == (0, 0)
    assert letter_counts([""]).shape == (1, 0)
