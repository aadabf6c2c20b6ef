"""How far a column alone foretells labels: teacher's, student's and people's."""

import re

import numpy as np
import pytest

from hf_llambert import Choice, Choices, Scale, foretold_by
from hf_llambert.report.page import missing_parts
from hf_llambert.report.sentences import _source_sentences

PAIR = Choice("label", ("bad", "good"))
SCALE = Scale("stars", ("1", "2", "3", "4", "5"))


def rows(n=400, follows=0.85, seed=0):
    """Texts of two sources; a teacher that says what the source suggests, and people who do not care."""
    random = np.random.default_rng(seed)
    source = random.integers(2, size=n)
    teacher = np.where(random.random(n) < follows, source, 1 - source)
    return ["web" if one else "news" for one in source], teacher.tolist(), random.integers(2, size=n).tolist()


def test_a_teacher_that_follows_the_source_is_told_from_people_who_do_not():
    source, teacher, gold = rows()
    found = foretold_by(source, {"teacher": teacher, "student": teacher, "gold": gold}, PAIR)
    assert found["n"] == 400
    assert found["values"] == {"news": source.count("news"), "web": source.count("web")}
    assert found["foretold"]["teacher"]["auc"] == pytest.approx(0.85, abs=0.04)
    assert found["foretold"]["gold"]["low"] < 0.5 < found["foretold"]["gold"]["high"]
    assert found["less_gold"]["teacher"] == found["less_gold"]["student"]
    assert found["less_gold"]["teacher"]["low"] > 0.2
    assert found["why"] is None


def test_with_two_values_the_area_is_that_of_guessing_by_the_value():
    source, teacher, _ = rows(2000, 0.9)
    web, good = np.array([one == "web" for one in source]), np.array(teacher) == 1
    truth = (web[good].mean() + 1 - web[~good].mean()) / 2
    assert foretold_by(source, {"teacher": teacher}, PAIR)["foretold"]["teacher"]["auc"] == pytest.approx(
        truth, abs=0.005
    )


@pytest.mark.parametrize("values", [2, 12])
def test_a_column_that_says_nothing_foretells_as_chance_does(values):
    random, found = np.random.default_rng(0), []
    for k in range(30):
        of = random.integers(values, size=120).tolist()
        labels = {"teacher": random.integers(2, size=120).tolist(), "gold": random.integers(2, size=120).tolist()}
        found.append(foretold_by(of, labels, PAIR, seed=k))
    assert np.mean([one["foretold"]["teacher"]["auc"] for one in found]) == pytest.approx(0.5, abs=0.03)
    assert sum(one["foretold"]["teacher"]["low"] > 0.5 for one in found) <= 2
    assert sum(one["less_gold"]["teacher"]["low"] > 0 for one in found) <= 2


def test_several_labels_are_weighted_by_how_often_they_hold():
    random = np.random.default_rng(1)
    column = random.integers(3, size=600)
    sure, chance = np.where(column == 0, 0, 1 + random.integers(2, size=600)), random.integers(3, size=600)
    found = foretold_by(
        column.tolist(), {"teacher": sure.tolist(), "gold": chance.tolist()}, Choice("l", ("a", "b", "c"))
    )
    assert 0.7 < found["foretold"]["teacher"]["auc"] < 0.9  # the first is certain, the others are half known
    assert found["foretold"]["gold"]["auc"] == pytest.approx(0.5, abs=0.06)
    held = [[0] if one == 0 else [] for one in column]
    found = foretold_by(column.tolist(), {"teacher": held}, Choices("l", ("a", "b")))
    assert found["foretold"]["teacher"]["auc"] == 1


def test_scale_is_foretold_by_its_order():
    random = np.random.default_rng(2)
    column = random.integers(5, size=300)
    near = np.clip(column + 1 + random.normal(size=300) / 4, 1, 5)
    found = foretold_by(column.tolist(), {"teacher": near.tolist(), "gold": random.uniform(1, 5, 300).tolist()}, SCALE)
    assert found["foretold"]["teacher"]["auc"] > 0.85
    assert found["less_gold"]["teacher"]["low"] > 0.2
    turned = foretold_by((4 - column).tolist(), {"teacher": near.tolist()}, SCALE)  # values have no order of their own
    assert turned["foretold"]["teacher"]["auc"] == found["foretold"]["teacher"]["auc"]


def test_rows_without_a_value_are_a_value_and_rare_values_are_one_together():
    source = ["a"] * 40 + [None] * 20 + [float("nan")] * 20 + [f"rare {k}" for k in range(8)] * 2
    labels = [0] * 40 + [1] * 56
    found = foretold_by(source, {"teacher": labels}, PAIR)
    assert found["values"] == {"(no value)": 40, "(rare values)": 16, "a": 40}
    assert found["foretold"]["teacher"]["auc"] == 1


def test_rows_that_lack_one_of_the_labels_are_left_out_of_all():
    source, teacher, gold = rows()
    found = foretold_by(source, {"teacher": teacher, "gold": [-1] * 100 + gold[100:]}, PAIR)
    assert found["n"] == 300
    rest = foretold_by(source[100:], {"teacher": teacher[100:], "gold": gold[100:]}, PAIR)
    assert found["foretold"] == rest["foretold"]


@pytest.mark.parametrize(
    ("source", "labels", "why"),
    [
        (["a"] * 60, [0, 1] * 30, "takes two values of ten rows or more each, .* there are only a"),
        (["a", "b"] * 10, [0, 1] * 10, "takes 40 rows or more; there are 20 rows"),
        (["a", "b"] * 30, [1] * 60, "All rows have one label of 'teacher'"),
    ],
)
def test_what_cannot_be_said_has_a_reason(source, labels, why):
    found = foretold_by(source, {"teacher": labels}, PAIR, "source")
    assert found["foretold"]["teacher"] == {"auc": None, "low": None, "high": None}
    assert re.search(why, found["why"])


@pytest.mark.parametrize(
    ("source", "labels", "said"),
    [
        (["a"], {"teacher": [0, 1]}, "Expected a label of 'teacher' for each of 1 rows of 'column', got 2"),
        (["a"], {}, "Expected the labels of at least one"),
        ([*range(30)], {"teacher": [0] * 30}, "Column 'column' has 30 values, more than 20"),
    ],
)
def test_what_makes_no_sense_is_refused(source, labels, said):
    with pytest.raises(ValueError, match=said):
        foretold_by(source, labels, PAIR)


def test_report_says_who_follows_a_column_more_than_people_do():
    source, teacher, gold = rows()
    found = foretold_by(source, {"teacher": teacher, "student": gold, "gold": gold}, PAIR)
    (said,) = _source_sentences({"sources": [{"column": "source", **found}]})
    assert said.startswith("Column source alone foretells the teacher's labels better than people's, with AUC 0.8")
    assert said.endswith("on 400 texts. The teacher follows it more than people do.")
    alone = foretold_by(source, {"teacher": teacher}, PAIR)
    (said,) = _source_sentences({"sources": [{"column": "source", **alone}]})
    assert "whether it foretells people's too is not known" in said
    same = foretold_by(source, {"teacher": gold, "gold": gold}, PAIR)
    (said,) = _source_sentences({"sources": [{"column": "source", **same}]})
    assert said == "No column was found that foretells the labels certainly better than people's, of source."
    nothing = foretold_by(source, {"teacher": [1] * 400}, PAIR)
    assert _source_sentences({"sources": [{"column": "source", **nothing}]}) == []


def test_too_few_rows_to_look_at_columns_are_named():
    report = {"teacher": None, "student": None, "labels": None, "sources": []}
    assert any("Fewer than 100 annotated texts" in line for line in missing_parts(report))
    assert not any("Fewer than 100" in line for line in missing_parts({**report, "sources": None}))
