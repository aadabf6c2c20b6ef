import logging
import math

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_llambert import ABSTAIN, TaskSpec, with_gold
from hf_llambert.data import question_gold
from hf_llambert.tasks.questions import label_ids, label_meanings, label_reading, name_id, parse_label_map

STARS = ("1", "2", "3", "4", "5")
CODES = ("01", "02", "03", "04")
STANCE = ("-1", "0", "1")
NEWS = ("World", "Sports", "Business", "Sci/Tech")
MOOD = ("negative", "positive")


def ids(values, labels, **kwargs):
    return label_ids(values, labels, "label", **kwargs)


def test_texts_that_are_names_are_names_with_and_without_an_empty_cell():
    assert ids(["1", "2", "3", "4"], STARS) == [0, 1, 2, 3]
    assert ids(["1", "2", "", "4", None, " "], STARS) == [0, 1, ABSTAIN, 3, ABSTAIN, ABSTAIN]


def test_numeric_spellings_of_one_name_are_that_name():
    assert ids(["1.0", "2.0", "5.0"], STARS) == [0, 1, 4]
    assert ids([1.0, math.nan, 5.0], STARS) == [0, ABSTAIN, 4]
    assert ids(["1", "03", "4.0"], CODES) == [0, 2, 3]
    assert ids([1, 4], CODES) == [0, 3]


def test_task_with_two_spellings_of_a_number_takes_each_as_it_is_written():
    assert ids(["1", "01"], ("1", "01", "x")) == [0, 1]
    with pytest.raises(ValueError, match=r"others ids \('1\.0'\)"):
        ids(["1", "1.0", "x"], ("1", "01", "x"))


def test_column_is_all_ids_where_it_is_not_all_names():
    assert ids([0, 1, 2, 3], NEWS) == [0, 1, 2, 3]
    assert ids(["0", "3", "1"], NEWS) == [0, 3, 1]
    assert ids(["0", "1", "1"], MOOD) == [0, 1, 1]


def test_numbers_that_fit_names_and_ids_differently_are_refused_with_both():
    with pytest.raises(ValueError, match=r"'1', '2', '3', '4', which can be names .* or ids .*--label_values names"):
        ids([1, 2, 3, 4], STARS)
    assert ids([1, 2, 3, 4], STARS, label_values="names") == [0, 1, 2, 3]
    assert ids([1, 2, 3, 4], STARS, label_values="ids") == [1, 2, 3, 4]


def test_numbers_whose_names_are_their_ids_are_no_question():
    assert ids([2, 0, 1], ("0", "1", "2")) == [2, 0, 1]


def test_ids_without_a_zero_are_read_from_zero_with_a_warning_that_names_both(caplog):
    with caplog.at_level(logging.WARNING):
        assert ids(["1", "2", "3"], NEWS) == [1, 2, 3]
    assert "1 is 'Sports'" in caplog.text
    assert "1 is 'World'" in caplog.text
    assert "--label_values ids_from_1" in caplog.text
    assert ids(["1", "2", "3"], NEWS, label_values="ids_from_1") == [0, 1, 2]


def test_ids_with_a_zero_are_no_reason_to_warn(caplog):
    ids(["0", "3"], NEWS)
    assert not caplog.records


def test_ids_that_only_fit_a_count_from_one_are_refused_with_the_option():
    with pytest.raises(ValueError, match=r"ids from 0 to 3.*--label_values ids_from_1"):
        ids(["1", "2", "3", "4"], NEWS)
    assert ids([1, 2, 3, 4], NEWS, label_values="ids_from_1") == [0, 1, 2, 3]


def test_label_called_minus_one_is_a_label():
    assert ids(["-1", "-1", "0", "1"], STANCE) == [0, 0, 1, 2]
    assert ids(["−1", "0", ""], STANCE) == [0, 1, ABSTAIN]
    assert ids([-1, 0, 1], STANCE, label_values="names") == [0, 1, 2]


def test_minus_one_is_no_label_where_none_is_called_so():
    assert ids([0, 1, -1], MOOD) == [0, 1, ABSTAIN]
    assert ids(["negative", "-1"], MOOD) == [0, ABSTAIN]


@pytest.mark.parametrize("values", [[True, False], ["true", "false"], ["True", "FALSE"]])
def test_truth_is_no_label_unless_it_is_called_so_or_mapped(values):
    with pytest.raises(ValueError, match="--label_map (true|false|True|FALSE)=LABEL"):
        ids(values, MOOD)
    assert ids(values, ("false", "true")) == [1, 0]
    spelled = {str(v) if isinstance(v, str) else str(v).lower(): v for v in values}
    mapping = {name: "positive" if str(v).lower() == "true" else "negative" for name, v in spelled.items()}
    assert ids(values, MOOD, label_map=mapping) == [1, 0]


def test_strange_value_among_ids_is_refused_or_mapped_to_nothing():
    with pytest.raises(ValueError, match="'NA', which is none of the labels.*--label_map NA=LABEL"):
        ids(["0", "1", "NA"], MOOD)
    assert ids(["0", "1", "NA"], MOOD, label_map={"NA": ""}) == [0, 1, ABSTAIN]


def test_names_and_ids_in_one_column_are_refused():
    with pytest.raises(ValueError, match=r"some values are names \('negative'\), others ids \('1'\)"):
        ids(["negative", "1"], MOOD)


def test_beginning_of_one_label_is_that_label_and_of_two_none():
    assert ids(["neg", "POS"], MOOD) == [0, 1]
    with pytest.raises(ValueError, match="'ne', which is none of the labels"):
        ids(["ne", "positive"], ("negative", "neutral", "positive"))


def test_map_joins_and_renames():
    mapping = {"sci/tech": "tech", "science": "tech"}
    assert ids(["sci/tech", "sport", "science"], ("tech", "sport"), label_map=mapping) == [0, 1, 0]


def test_map_to_a_label_that_the_task_has_not_is_refused():
    with pytest.raises(ValueError, match="'good' is not among"):
        ids(["pos", "neg"], MOOD, label_map={"pos": "good"})


def test_one_map_serves_a_column_that_lacks_some_of_its_values_with_a_warning(caplog):
    assert ids(["good", "bad"], MOOD, label_map={"good": "positive", "bad": "negative", "fine": "positive"}) == [1, 0]
    assert "label_map has 'fine', which column 'label' does not hold. It holds 'bad', 'good'" in caplog.text
    with pytest.raises(ValueError, match="'god', which is none of the labels"):
        ids(["god"], MOOD, label_map={"good": "positive"})


def test_pairs_of_a_map_are_parted_at_the_last_sign():
    assert parse_label_map(["a=b=c", "NA="]) == {"a=b": "c", "NA": ""}
    for wrong in (["pos"], ["a=b", "a=c"]):
        with pytest.raises(ValueError, match="label_map"):
            parse_label_map(wrong)


def test_classes_are_read_by_name_and_minus_one_is_none_even_where_a_label_is_called_so():
    features = Features({"label": ClassLabel(names=["1", "-1", "0"]), "text": Value("string")})
    data = Dataset.from_dict({"label": [0, 1, -1, None, 2], "text": list("abcde")}, features=features)
    assert question_gold(data, "label", TaskSpec("t", STANCE, "{text}").question) == [2, 0, ABSTAIN, ABSTAIN, 1]


def test_gold_warns_of_contradictions_and_of_labels_that_no_row_has(caplog):
    task = TaskSpec("t", ("negative", "neutral", "positive"), "{text}")
    data = Dataset.from_dict({"text": ["a", "a", "b", "c"], "label": ["negative", "positive", "positive", "negative"]})
    with_gold(data, "text", "label", task)
    assert "1 of 3 different texts have several labels" in caplog.text
    assert "no row of 1 of the 3 labels: 'neutral'" in caplog.text


def test_symbols_tell_names_apart():
    assert ids(["c++", "C", "c#"], ("C", "C++", "C#")) == [1, 0, 2]
    assert ids(["A-", "a+", "A"], ("A+", "A", "A-")) == [2, 0, 1]
    for strange, labels in (("C#", ("C", "C++")), ("C", ("C++", "Java")), ("climate", ("climate denial", "other"))):
        with pytest.raises(ValueError, match=f"'{strange}', which is none"):
            ids([strange, labels[1]], labels)


@pytest.mark.parametrize("short", ["no", "NA", "nan", "None", "unk"])
def test_word_that_denies_or_says_missing_is_no_beginning_of_a_label(short):
    labels = ("normal", "national", "nanotech", "nonexistent", "unkind")
    with pytest.raises(ValueError, match=f"'{short}'"):
        ids([short], labels)


def test_beginning_of_a_label_that_stands_there_in_full_is_not_that_label():
    with pytest.raises(ValueError, match="'norm', which is none"):
        ids(["normal", "norm"], ("normal", "abnormal"))
    assert name_id("norm", ("normal", "abnormal")) is None
    assert name_id("NORMAL", ("normal", "abnormal")) == 0


def test_map_reads_what_it_names_however_it_is_spelled():
    assert ids(["no", "No", "yes"], ("normal", "abnormal"), label_map={"no": "abnormal", "yes": "normal"}) == [1, 1, 0]
    assert ids(["1", "1.0"], ("neg", "neu"), label_map={"1": "neg"}) == [0, 0]


def test_numbers_beside_mapped_numbers_are_not_read_as_ids_in_silence():
    with pytest.raises(ValueError, match="'1', '2' would be ids"):
        ids(["1", "2", "3"], ("neg", "neu", "pos"), label_map={"3": "pos"})


def test_texts_that_are_names_and_could_be_other_ids_are_read_with_a_warning(caplog):
    assert ids(["1", "2", "4"], STARS) == [0, 1, 3]
    assert "as ids they would be 1 is '2'" in caplog.text


def test_long_numbers_and_powers_stay_apart():
    assert ids(["9007199254740993", "5"], ("9007199254740993", "5")) == [0, 1]
    with pytest.raises(ValueError, match="'9007199254740992'"):
        ids(["9007199254740992"], ("9007199254740993", "5"))
    assert ids(["m²", "m2"], ("m2", "m²")) == [1, 0]


def test_number_with_a_leading_zero_is_no_id(caplog):
    assert ids(["01", "02"], CODES) == [0, 1]
    assert "ids" not in caplog.text
    with pytest.raises(ValueError, match="'01'"):
        ids(["00", "01"], MOOD)


OPINION = ("negative", "neutral", "positive")


@pytest.mark.parametrize("values", [[-1, 0, 1], ["-1", "0", "1"], [-1.0, 1.0], ["−1", "1", ""], [0, -1, None]])
def test_minus_one_zero_and_one_of_three_labels_are_refused_with_both_readings(values):
    with pytest.raises(
        ValueError, match=r"1(.0)? is no label.*-1 is 'negative'.*--label_values ids .*--label_map -1=neg"
    ):
        ids(values, OPINION)
    expected = [None if v in ("", None) else round(float(str(v).replace("−", "-"))) for v in values]
    by_id = ids(values, OPINION, label_values="ids")
    assert by_id == [ABSTAIN if v is None else v for v in expected]
    code = {"-1": "negative", "0": "neutral", "1": "positive"}
    assert ids(values, OPINION, label_map=code) == [ABSTAIN if v is None else v + 1 for v in expected]


def test_codes_of_labels_in_another_order_are_suggested_by_what_they_are_called():
    for labels in (("positive", "neutral", "negative"), ("neutral", "positive", "negative")):
        with pytest.raises(ValueError, match="--label_map -1=negative --label_map 0=neutral --label_map 1=positive"):
            ids([-1, 0, 1], labels)


def test_minus_one_beside_all_ids_is_no_label():
    assert ids([-1, 0, 1, 2], OPINION) == [ABSTAIN, 0, 1, 2]
    assert ids([-1, -1], OPINION) == [ABSTAIN, ABSTAIN]
    assert ids([-1, 0, 3], NEWS) == [ABSTAIN, 0, 3]


def test_minus_one_and_one_of_two_labels_are_refused():
    with pytest.raises(ValueError, match="--label_map -1=negative --label_map 1=positive"):
        ids([-1, 1, 1], MOOD)


def test_likert_codes_around_zero_are_refused():
    with pytest.raises(ValueError, match="-1 is 'b', 0 is 'c', 1 is 'd'"):
        ids([-1, 0, 1], ("a", "b", "c", "d", "e"))
    with pytest.raises(ValueError, match="'-2', which is none"):
        ids([-2, -1, 0, 1, 2], ("a", "b", "c", "d", "e"))


@pytest.mark.parametrize(
    "labels",
    [
        ("yes", "no"),
        ("True", "False"),
        ("Ja", "Nein"),
        ("sí", "no"),
        ("是", "否"),
        ("да", "нет"),
        ("spam", "not spam"),
        ("toxic", "non-toxic"),
        ("yes", "no", "unsure"),
        ("no", "maybe", "yes"),
    ],
)
def test_zero_and_one_that_would_be_yes_and_no_are_refused_with_both_readings(labels):
    with pytest.raises(ValueError, match=r"ids that count .*codes as they are common .*--label_values ids"):
        ids([0, 1, 1], labels)
    assert ids([0, 1, 1], labels, label_values="ids") == [0, 1, 1]


def test_zero_and_one_in_their_usual_order_or_of_other_labels_are_ids():
    for labels in (("no", "yes"), ("false", "true"), ("left", "right"), ("nein", "ja", "vielleicht"), NEWS):
        assert ids(["0", "1"], labels) == [0, 1]
    assert ids([0, 1, 2], ("yes", "no", "unsure")) == [0, 1, 2]


@pytest.mark.parametrize("short", ["p", "po", "ne", "P"])
def test_one_or_two_letters_are_no_abbreviation(short):
    with pytest.raises(ValueError, match=f"'{short}', which is none of the labels.*--label_map {short}=LABEL"):
        ids([short], MOOD)


def test_strange_values_are_left_out_whatever_reading_was_asked_for():
    found = label_meanings(["0", "1", "???"], MOOD, "c", label_values="ids", skip_strange=True)
    assert list(found.values()) == [0, 1]
    with pytest.raises(ValueError, match="--recorded_values"):
        label_meanings(["0", "x", "1"], MOOD, "c", label_values="names", skip_strange=True, option="recorded")


def test_reading_of_a_whole_column_reads_some_of_its_rows():
    column = [1, 2, 3, 0]
    assert label_reading(column, NEWS, "c") == "ids"
    assert ids(column[:2], NEWS, label_values="ids") == [1, 2]
    assert label_reading(["neg", "pos", -1], MOOD, "c") == "names"


def test_hint_can_be_typed_as_it_stands_and_many_labels_are_not_all_listed():
    with pytest.raises(ValueError, match="--label_map '0=not spam' --label_map 1=spam"):
        ids([0, 1], ("spam", "not spam"))
    with pytest.raises(ValueError, match="--label_map 'so so=LABEL'"):
        ids(["so so"], MOOD)
    with pytest.raises(ValueError, match="'l19'] and 1,180 more") as refused:
        ids(["?"], tuple(f"l{i}" for i in range(1200)))
    assert len(str(refused.value)) < 600


def test_few_numbers_among_more_strange_words_are_no_ids():
    labels = ("business", "tech")
    with pytest.raises(ValueError, match="'Biz', 'IT'.*which are none of the labels|some values"):
        label_meanings(["Biz", "IT", "1"], labels, "c", skip_strange=True)
    found = label_meanings(["0", "1", "error", "?"], labels, "c", skip_strange=True)
    assert list(found.values()) == [0, 1]
    assert list(label_meanings(["tech", "Biz", "IT"], labels, "c", skip_strange=True).values()) == [1]
