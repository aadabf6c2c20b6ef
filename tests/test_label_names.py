import logging
from decimal import Decimal

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_llambert import ABSTAIN, TaskSpec
from hf_llambert.data import question_gold
from hf_llambert.tasks.codes import common_meaning
from hf_llambert.tasks.label_names import is_missing, number_of, written
from hf_llambert.tasks.questions import label_ids, label_meanings

STARS = ("1", "2", "3", "4", "5")
TO_FIVE = ("0", "1", "2", "3", "4", "5")
MOOD = ("negative", "positive")


def ids(values, labels, **kwargs):
    return label_ids(values, labels, "label", **kwargs)


def recorded(values, labels, **kwargs):
    meanings = label_meanings(values, labels, "label", skip_strange=True, option="recorded", **kwargs)
    return {key[1]: label for key, label in meanings.items()}


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "0", "3", "4"],
        ["0", "2", "4"],
        [0, 3, 4, 4],
        [0.0, 1.0],
        ["０", "２", "４"],
        ["0", "1", ""],
        [Decimal(0), Decimal(1)],
    ],
)
def test_zero_among_the_names_of_stars_shifts_no_label(values):
    with pytest.raises(
        ValueError, match=r"'[0０][.0]*' is none of them.*--label_map '?[0０][.0]*='? .*--label_values ids"
    ):
        ids(values, STARS)
    numbers = [int(number_of(value)) if value != "" else 0 for value in values]
    by_id = [n if v != "" else ABSTAIN for n, v in zip(numbers, values, strict=True)]
    assert ids(values, STARS, label_values="ids") == by_id
    assert ids(values, STARS, label_map={"0": ""}) == [n - 1 for n in numbers]  # as names, though they be no texts


def test_zero_among_names_beside_one_that_is_no_id_is_refused():
    with pytest.raises(ValueError, match=r"some values are names \('5'\), others ids \('0'\)"):
        ids(["0", "1", "5"], STARS)
    with pytest.raises(ValueError, match="'2' is none of them"):
        ids([0, 1, 2], ("-1", "0", "1"))
    with pytest.raises(ValueError, match="'2' is none of them"):
        ids([0, 1, 2], ("0", "1", "more"))


def test_classes_that_are_some_of_the_names_are_refused():
    features = Features({"label": ClassLabel(names=["0", "1", "2", "3", "4"]), "text": Value("string")})
    data = Dataset.from_dict({"label": [0, 4], "text": ["a", "b"]}, features=features)
    task = TaskSpec("t", STARS, "{text}")
    with pytest.raises(ValueError, match="'0' is none of them"):
        question_gold(data, "label", task.question)
    assert question_gold(data, "label", task.question, label_values="ids") == [0, 4]


def test_strange_numbers_of_a_recorded_column_leave_the_others_as_they_are():
    assert recorded(["0", "1", "2", "10"], TO_FIVE) == {"0": 0, "1": 1, "2": 2}
    assert recorded(["6", "0", "3", "2"], TO_FIVE) == {"0": 0, "3": 3, "2": 2}
    assert recorded(["6", "0", "3", "2"], STARS) == {"3": 2, "2": 1}
    assert recorded([6, 0, 3, 2], STARS) == {3: 2, 2: 1}
    assert recorded(["4", "5", "n/a", "0"], STARS) == {"4": 3, "5": 4}


def test_recorded_zero_among_stars_that_could_be_an_id_is_refused():
    with pytest.raises(ValueError, match="--recorded_map 0= .*--recorded_values ids"):
        recorded(["4", "3", "n/a", "0"], STARS)
    assert recorded(["4", "3", "n/a", "0"], STARS, label_values="ids") == {"4": 4, "3": 3, "0": 0}
    assert recorded([4, 3, 0], STARS, label_map={"0": ""}) == {4: 3, 3: 2, 0: ABSTAIN}


@pytest.mark.parametrize("odd", ["7", "0.5", "01"])
def test_recorded_ids_beside_a_strange_number_are_not_assumed(odd):
    with pytest.raises(ValueError, match=f"'{odd}', which is none of the labels"):
        recorded(["0", "1", odd], MOOD)
    assert recorded(["0", "1", "no idea"], MOOD) == {"0": 0, "1": 1}


@pytest.mark.parametrize(
    "labels",
    [
        ("positive", "negative"),
        ("spam", "ham"),
        ("true", "false"),
        ("toxic", "non-toxic"),
        ("relevant", "irrelevant"),
        ("yes", "no"),
        ("Positiv", "Negativ"),
        ("not_entailment", "entailment"),
        ("phishing", "legitimate"),
        ("complaint", "other"),
        ("good", "bad"),
    ],
)
@pytest.mark.parametrize("values", [[0, 1], ["1", "1"], ["０", "１"]])
def test_zero_and_one_of_poles_in_the_other_order_are_refused_with_both_readings(labels, values):
    with pytest.raises(
        ValueError, match=f"codes as they are common .*0 is '{labels[1]}'|1 is '{labels[0]}'"
    ) as refused:
        ids(values, labels)
    assert f"--label_map 1={labels[0]}" in str(refused.value)
    assert "--label_values ids" in str(refused.value)
    assert ids(values, labels, label_values="ids") == [int(value) for value in values]
    assert ids(values, labels, label_map={"0": labels[1], "1": labels[0]}) == [1 - int(value) for value in values]


@pytest.mark.parametrize(
    "labels",
    [MOOD, ("ham", "spam"), ("no", "yes"), ("non-toxic", "toxic"), ("entailment", "not_entailment"), ("other", "bug")],
)
def test_zero_and_one_of_poles_in_their_order_are_ids(labels):
    assert ids([0, 1, 1], labels) == [0, 1, 1]
    assert common_meaning({0, 1}, labels) == {}


def test_classes_called_zero_and_one_are_no_ids_of_poles_in_the_other_order():
    features = Features({"label": ClassLabel(names=["0", "1"]), "text": Value("string")})
    data = Dataset.from_dict({"label": [0, 1], "text": ["a", "b"]}, features=features)
    with pytest.raises(ValueError, match="--label_map 0=negative --label_map 1=positive"):
        question_gold(data, "label", TaskSpec("t", ("positive", "negative"), "{text}").question)
    assert question_gold(data, "label", TaskSpec("t", MOOD, "{text}").question) == [0, 1]


def test_abbreviation_is_read_with_a_warning_that_says_as_what(caplog):
    with caplog.at_level(logging.WARNING):
        assert ids(["neg", "POS.", "neu"], ("negative", "neutral", "positive sentiment")) == [0, 2, 1]
    assert "'neg' as 'negative', 'POS.' as 'positive sentiment', 'neu' as 'neutral'" in caplog.text
    assert len(caplog.records) == 1
    caplog.clear()
    assert ids(["negative", "positive"], MOOD) == [0, 1]
    assert not caplog.records


@pytest.mark.parametrize(
    ("short", "labels"),
    [
        ("pro", ("problem", "question")),
        ("art", ("article", "comment")),
        ("con", ("control", "case")),
        ("pos", ("position", "velocity")),
        ("sport", ("sportswear", "shoes")),
        ("neg", ("negative", "negligible")),
        ("neg", ("very negative", "positive")),
    ],
)
def test_word_of_its_own_is_no_abbreviation(short, labels):
    with pytest.raises(ValueError, match=f"'{short}', which is none of the labels.*--label_map {short}=LABEL"):
        ids([short], labels)


def test_decimals_are_numbers():
    assert ids([Decimal("1.00"), Decimal("0"), Decimal("NaN"), None], MOOD) == [1, 0, ABSTAIN, ABSTAIN]
    assert ids([Decimal("0.1"), Decimal("0.2")], ("0.1", "0.2")) == [0, 1]
    assert number_of(Decimal("1E+9999999")) is None


def test_floats_of_fewer_bits_are_the_number_that_they_were():
    for values in ([0.10000000149011612, 0.20000000298023224], [0.0999755859375, 0.199951171875], [0.1, 0.2]):
        assert ids(values, ("0.1", "0.2")) == [0, 1]
    assert ids([0.1, "0.1"], ("0.10", "0.5")) == [0, 0]
    with pytest.raises(ValueError, match=r"'0.1', which is none"):
        ids(["0.1"], ("0.10", "0.100"))
    with pytest.raises(ValueError, match=r"'0.5'"):
        ids([0.5], ("0.50000000001", "1.7"))


@pytest.mark.parametrize("grade", ["A–", "A−", "a—", "Ａ－", "A-\u200b"])
def test_dash_of_a_grade_is_its_minus(grade):
    assert ids([grade, "A"], ("A", "A-")) == [1, 0]


def test_signs_of_no_width_are_no_part_of_a_name():
    labels = ("negative", "so so", "positive", "non-toxic")
    values = ["positive\u200b", "\ufeffnegative", "posi\u00adtive", "so\u00a0so", "non\u2011toxic"]
    assert ids(values, labels) == [2, 0, 2, 1, 3]
    assert ids(["\u200b", "❤"], ("❤\ufe0f", "👎")) == [ABSTAIN, 0]
    assert ids(["1\u200b", "2"], STARS) == [0, 1]
    assert is_missing(" \u200b\ufeff")
    assert not is_missing("…")


def test_number_without_end_is_refused_in_a_sentence():
    for huge in (10**400, 10**9000, -(10**400)):
        with pytest.raises(ValueError, match="which is none of the labels") as refused:
            ids([0, 1, huge], MOOD)
        assert len(str(refused.value)) < 800
    assert written(10**9000) == "a number of about 9,000 digits"


def test_number_that_a_label_begins_with_is_its_name(caplog):
    labels = ("1 star", "2 stars", "3-stars", "4: good", "5 (best)")
    assert ids(["1", "2", "3", "4"], labels) == [0, 1, 2, 3]
    assert "as ids they would be 1 is '2 stars'" in caplog.text
    assert ids([1, 5, 3], labels) == [0, 4, 2]
    with pytest.raises(ValueError, match="names of the labels .* or ids"):
        ids([1, 2], labels)
    with pytest.raises(ValueError, match="'0' is none of them"):
        ids(["0", "1"], labels)


def test_number_of_a_range_or_of_two_labels_is_no_name():
    assert ids([0, 1, 2], ("0-17", "18 to 64", "65 and over")) == [0, 1, 2]
    assert ids([0, 1, 2], ("1/2", "2,000 words", "1.5x")) == [0, 1, 2]
    assert ids(["0", "1"], ("2 cats", "2 dogs")) == [0, 1]
    assert ids(["0", "1"], ("2D", "3D")) == [0, 1]
