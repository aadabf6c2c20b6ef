"""Texts in scripts without spaces between words, and what counts words there."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer

from hf_llambert import StudentConfig, TaskSpec, find_slices, length_slices, measure_drift, train_fast
from hf_llambert.quality.slices import keyword_slices
from hf_llambert.quality.words import Words
from hf_llambert.tasks.scripts import count_words, has_signs, words_in
from hf_llambert.training.grams import fit_grams, split_units
from hf_llambert.training.linear import LinearModel

GOOD, BAD = "这部电影很好看，我喜欢。", "这部片子太无聊了。"
ENGLISH = [
    "A film that I liked, naïve and co-written; don’t ask: 2 x 2 is 4.",
    "Über-große Straße, déjà vu 3.5",
    "Ελλάδα Россия",
]


def find(text):
    return re.findall(r"\b\w\w+\b", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("这部电影很好", ["这部", "部电", "电影", "影很", "很好"]),
        ("我的iPhone手机 is great", ["我的", "iPhone", "手机", "is", "great"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("ที่นี่ดี", ["ที่นี่", "นี่ดี"]),  # a letter keeps its marks
        ("我, 7天", []),
        ("한국어 영화 좋다", ["한국어", "영화", "좋다"]),  # Korean has spaces
        ("ភាសាខ្មែរ", ["ភាសា", "សាខ្", "ខ្មែ", "មែរ"]),
    ],
)
def test_neighbouring_letters_are_a_word_where_a_script_has_no_spaces(text, words):
    assert words_in(text, find) == words


def test_texts_with_spaces_are_read_as_ever():
    for text in ENGLISH:
        assert not has_signs(text)
        assert words_in(text, find) == find(text)
        assert count_words(text) == len(text.split())
    table, names = Words().counts(ENGLISH)
    theirs = CountVectorizer(token_pattern=r"\b\w\w+\b")
    assert (theirs.fit_transform(ENGLISH) != table).nnz == 0
    assert theirs.get_feature_names_out().tolist() == names.tolist()
    for apart in (False, True):
        units, rows = split_units(pa.array(ENGLISH, pa.large_string()), "words", apart)
        assert (units.to_pylist()[:4], rows[:4].tolist()) == (["a", "film", "that", "i"], [0] * 4)
        assert units.to_pylist() == split_units(pa.array(ENGLISH, pa.large_string()), "words")[0].to_pylist()


def test_digits_and_stops_of_these_scripts_are_no_letters():
    assert not any(has_signs(text) for text in ("๑๒ ១២", "。、・", "１２Ａ", ""))
    assert count_words("这部 good电影") == 5


def test_stops_beside_letters_of_these_scripts_are_no_words():
    assert count_words("我喜欢它。很好！") == 6
    assert count_words("我喜欢 3 it's … 。") == 5


def test_columns_count_each_letter_with_its_marks_as_a_word():
    texts = pa.array(["Über 手机ABC很", "ที่นี่", ""], pa.large_string())
    units, rows = split_units(texts, "words", apart=True)
    assert units.to_pylist() == ["über", "手", "机", "abc", "很", "ที่", "นี่"]
    assert rows.tolist() == [0] * 5 + [1] * 2


def test_slices_by_words_and_by_length_are_found_in_chinese():
    texts = [f"{GOOD if k % 2 else BAD}{'很' * (k % 7)}" for k in range(200)]
    right = [k % 2 == 1 for k in range(200)]
    found = {row["name"]: row for row in find_slices(texts, right) if row["kind"] == "keyword"}
    assert found["无聊"]["difference"] == -1
    assert found["喜欢"]["difference"] == 1
    assert len(length_slices(texts)) == 4
    masks = keyword_slices(texts, ["无聊", "电影", "无", "film"])
    assert {name: int(mask.sum()) for (_, name), mask in masks.items()} == {
        "无聊": 100,
        "电影": 100,
        "无": 100,
        "film": 0,
    }


def test_words_that_tell_two_kinds_of_chinese_texts_apart_are_named():
    random = np.random.default_rng(0)
    fill = "天地人山水火木金土日月星"
    sample = ["".join(random.choice(list(fill), 8)) + "电影" for _ in range(80)]
    pool = ["".join(random.choice(list(fill), 8)) + "股票" for _ in range(80)]
    found = measure_drift(sample, pool)
    assert found["words"]["pool"][:1] == ["股票"]
    assert "电影" in found["words"]["sample"]


@pytest.fixture
def student(tmp_path):
    """A linear student of Chinese reviews that counts words."""
    texts = [f"{GOOD if k % 2 else BAD}{'长' * 420}{k}" for k in range(40)]
    rows = Dataset.from_dict({"text": texts, "label": [k % 2 for k in range(40)]})
    task = TaskSpec("t", ("bad", "good"), "{text}")
    train_fast(task, "linear", tmp_path / "student", StudentConfig(str(tmp_path / "checkpoints")), gold=rows)
    return tmp_path / "student"


def test_student_saved_before_keeps_its_features(student):
    note = json.loads((student / "vocabulary.json").read_text())
    assert note["apart"] is True
    older = {name: value for name, value in note.items() if name != "apart"}
    (student / "vocabulary.json").write_text(json.dumps(older, ensure_ascii=False))
    model = LinearModel.load(student)
    assert model.grams.apart is False
    assert model.grams.count(pa.array(["无聊"], pa.large_string())).nnz == 0  # one word, as it was fitted


def test_what_a_text_of_several_scripts_counts_is_the_same_saved_and_loaded(tmp_path):
    texts = pa.chunked_array([pa.array(["无聊 film", "好看 film ที่นี่", "无聊的 movie"], pa.large_string())])
    grams = fit_grams(texts, "words", 100)
    assert set(grams.units.to_pylist()) == {"film", "无", "聊"}
    ones = np.ones(grams.size, dtype=np.float32)
    LinearModel(grams, ones, ones[:, None], np.zeros(1, dtype=np.float32)).save(tmp_path)
    loaded = LinearModel.load(tmp_path)
    assert (loaded.grams.count(texts.chunk(0)) != grams.count(texts.chunk(0))).nnz == 0
    (tmp_path / "vocabulary.json").write_text('{"unit": "words", "apart": "yes", "units": []}')
    with pytest.raises(OSError, match="apart"):
        LinearModel.load(tmp_path)
