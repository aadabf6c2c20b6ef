import numpy as np
import pytest

from hf_llambert import find_slices
from hf_llambert.quality.slices import cluster_slices, keyword_slices, length_slices, value_slices

KEYS = {"kind", "name", "n", "accuracy", "low", "high", "difference", "p", "p_adjusted"}


def made(n=400, seed=0):
    """Texts of 5 to 44 words of which every fifth has the word 'irony'."""
    random = np.random.default_rng(seed)
    words = np.array(["film", "actor", "music", "scene", "plot", "story", "camera", "light"])
    return [" ".join(random.choice(words, 5 + i % 40)) + (" irony" if i % 5 == 0 else "") for i in range(n)]


def test_slice_on_which_the_labels_are_worse_is_found_first():
    texts = made()
    right = np.array(["irony" not in text or i % 10 == 0 for i, text in enumerate(texts)])
    found = find_slices(texts, right)
    worst = found[0]
    assert set(worst) == KEYS
    assert (worst["kind"], worst["name"], worst["n"]) == ("keyword", "irony", 80)
    assert worst["accuracy"] == 0.5
    assert worst["low"] < 0.5 < worst["high"]
    assert worst["difference"] == pytest.approx(-0.5)
    assert worst["p"] <= worst["p_adjusted"] < 1e-10
    assert [row["difference"] for row in found] == sorted(row["difference"] for row in found)


def test_where_errors_are_chance_no_slice_is_told_apart():
    random, told = np.random.default_rng(0), 0
    texts, embeddings = made(), random.normal(size=(400, 4))
    for _ in range(40):
        found = find_slices(texts, random.random(400) < 0.8, embeddings=embeddings, columns={"odd": [0, 1] * 200})
        assert {row["kind"] for row in found} == {"words", "keyword", "cluster", "odd"}
        told += any(row["p_adjusted"] < 0.05 for row in found)
    assert told <= 6  # 2 are expected; more than 6 in 40 has a chance of 0.3 %


def test_every_word_that_was_tested_counts_in_the_correction():
    random = np.random.default_rng(1)
    texts = [" ".join(f"w{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in random.choice(150, 30)) for _ in range(500)]
    found = find_slices(texts, random.random(500) < 0.7)
    words = [row for row in found if row["kind"] == "keyword"]
    assert len(words) == 20
    smallest = min(words, key=lambda row: row["p"])
    assert smallest["p_adjusted"] > 5 * smallest["p"]


def test_given_keywords_are_all_shown_case_ignored():
    texts = ["A Film I liked", "no music here"] * 40
    found = keyword_slices(texts, ["FILM", "music", "absent", " "])
    assert {name: int(mask.sum()) for (_, name), mask in found.items()} == {"film": 40, "music": 40, "absent": 0}
    rows = find_slices(texts, [True, False] * 40, keywords=["film", "music", "absent"])
    assert [row["name"] for row in rows if row["kind"] == "keyword"] == ["music", "film"]


def test_slices_by_length_are_quarters():
    found = length_slices([" ".join(["w"] * n) for n in range(1, 101)])
    assert [name for _, name in found] == ["1 to 25", "26 to 50", "51 to 75", "76 to 100"]
    assert [int(mask.sum()) for mask in found.values()] == [25, 25, 25, 25]
    assert sum(mask.sum() for mask in length_slices(["one word"] * 8).values()) == 8
    assert length_slices([]) == {}


def test_a_text_without_a_value_is_in_no_slice_of_its_column():
    found = value_slices("source", ["a", None, "b", "a"])
    assert {key: mask.tolist() for key, mask in found.items()} == {
        ("source", "a"): [True, False, False, True],
        ("source", "b"): [False, False, True, False],
    }


def test_clusters_are_the_same_every_time_and_separate_what_is_apart():
    points = np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0) + np.random.default_rng(0).normal(size=(100, 2)) / 9
    first, second = (cluster_slices(points, 2, seed=3) for _ in range(2))
    assert {key: mask.tolist() for key, mask in first.items()} == {key: mask.tolist() for key, mask in second.items()}
    assert sorted(mask[:50].sum() for mask in first.values()) == [0, 50]
    assert cluster_slices(np.ones((9, 2))) == {}


@pytest.mark.parametrize("texts", [[], ["?!", "..."], ["short"] * 10])
def test_too_few_texts_or_none_with_a_word_have_no_slices(texts):
    assert find_slices(texts, [True] * len(texts)) == []


def test_scripts_without_blanks_are_no_error():
    assert all(set(row) == KEYS for row in find_slices(["这部电影很好", "这部电影不好"] * 50, [True, False] * 50))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"right": [True]}, "each of the 2 texts, right has 1"),
        ({"columns": {"source": ["a"]}}, "Column 'source' has 1"),
        ({"min_slice": 1}, "min_slice must be 2 or more, got 1"),
        ({"embeddings": [[0.0], [1.0]], "num_clusters": 1}, "num_clusters must be 2 or more, got 1"),
    ],
)
def test_what_makes_no_sense_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        find_slices(["a b", "c d"], **{"right": [True, False], **given})


def test_column_with_too_many_values_is_refused():
    with pytest.raises(ValueError, match="Column 'id' has 30 values, more than 20: too many slices"):
        value_slices("id", list(range(30)))


def test_clusters_are_named_by_their_words():
    texts = [f"{'ghost knife scream' if k % 2 else 'kiss wedding letter'} number {k}" for k in range(80)]
    found = find_slices(texts, [True] * 80, embeddings=[[k % 2 * 9.0] for k in range(80)], num_clusters=2)
    names = {row["name"].split(" (")[1] for row in found if row["kind"] == "cluster"}
    assert names == {"ghost, knife, scream)", "kiss, letter, wedding)"}
