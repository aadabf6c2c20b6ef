"""Whether the teacher may stand in for people: the statistics."""

import math

import pytest

from hf_llambert import Choice, Choices, Scale, alternative_annotator_test
from hf_llambert.quality.alternative import FAR
from hf_llambert.tasks.kinds import KINDS

TONE = Choice("tone", ("bad", "middling", "good"))


def said(rows, seed, wrong):
    """Answers of one who errs on about `wrong` of a hundred rows; without a random generator, so that anyone can make them."""
    true = [(i * 7 + i // 5) % 3 for i in range(rows)]
    return [one if (i * seed + i * i) % 100 >= wrong else (one + 1 + i % 2) % 3 for i, one in enumerate(true)]


def people(rows, **errs):
    seeds = {"Ann": 11, "Bob": 23, "Cid": 51, "Dot": 79}
    return {name: said(rows, seeds[name], wrong) for name, wrong in errs.items()}


# What the authors' published code says of these answers.
THEIRS = [
    ((60, 8, {"Ann": 10, "Bob": 12}, 0.1), 1, 0.983333, {"Ann": 8.94803e-05, "Bob": 5.57442e-05}),
    ((60, 30, {"Ann": 10, "Bob": 12}, 0.2), 0, 0.65, {"Ann": 0.862883, "Bob": 0.862883}),
    (
        (100, 14, {"Ann": 10, "Bob": 12, "Cid": 15}, 0.1),
        2 / 3,
        0.91,
        {"Ann": 0.0558698, "Bob": 0.0161017, "Cid": 2.63982e-05},
    ),
    (
        (200, 22, {"Ann": 10, "Bob": 12, "Cid": 15, "Dot": 25}, 0.2),
        0.5,
        0.7575,
        {"Ann": 0.293045, "Bob": 0.165178, "Cid": 0.000983528, "Dot": 0.0107014},
    ),
]


@pytest.mark.parametrize(("given", "winning_rate", "advantage", "p"), THEIRS)
def test_figures_are_those_of_the_authors_code(given, winning_rate, advantage, p):
    rows, wrong, errs, epsilon = given
    found = alternative_annotator_test(said(rows, 37, wrong), people(rows, **errs), TONE, epsilon)
    assert found["winning_rate"] == pytest.approx(winning_rate)
    assert found["passes"] == (winning_rate >= 0.5)
    assert found["advantage"] == pytest.approx(advantage, abs=1e-6)
    assert {name: one["p"] for name, one in found["reviewers"].items()} == pytest.approx(p, rel=1e-5)


def test_the_one_p_is_the_rate_from_which_on_it_passes():
    answers = said(100, 37, 14), people(100, Ann=10, Bob=12, Cid=15), TONE, 0.1
    p = alternative_annotator_test(*answers)["p"]
    assert 0 < p < 0.05
    assert not alternative_annotator_test(*answers, q=p * 0.999)["passes"]
    assert alternative_annotator_test(*answers, q=p * 1.001)["passes"]


def test_adjusted_p_values_are_those_of_scipy():
    from scipy.stats import false_discovery_control

    found = alternative_annotator_test(said(200, 37, 22), people(200, Ann=10, Bob=12, Cid=15, Dot=25), TONE, 0.2)
    each = found["reviewers"].values()
    expected = false_discovery_control([one["p"] for one in each], method="by")
    assert [one["p_adjusted"] for one in each] == pytest.approx(expected)


def test_teacher_that_answers_as_all_do_passes_and_one_that_never_does_fails():
    given = said(60, 11, 10)
    same = alternative_annotator_test(given, {"Ann": given, "Bob": given}, TONE)
    assert (same["passes"], same["p"], same["advantage"]) == (True, 0, 1)
    never = alternative_annotator_test([(one + 1) % 3 for one in given], {"Ann": given, "Bob": given}, TONE)
    assert (never["passes"], never["p"], never["advantage"]) == (False, 1, 0)


def test_teacher_without_an_answer_loses_the_row():
    given = said(60, 11, 10)
    found = alternative_annotator_test([-1] * 15 + given[15:], {"Ann": given, "Bob": given}, TONE)
    assert found["n_abstained"] == 15
    assert found["reviewers"]["Ann"]["teacher"] == 0.75
    assert found["reviewers"]["Ann"]["person"] == 1
    assert not found["passes"]


def test_row_that_one_person_answered_is_left_out_and_so_is_a_person_with_few():
    given = said(60, 11, 10)
    some = [-1] * 5 + given[5:]
    found = alternative_annotator_test(given, {"Ann": given, "Bob": some, "Cid": [*given[:20], *[-1] * 40]}, TONE)
    assert found["n"] == 60
    assert {name: one["n"] for name, one in found["reviewers"].items()} == {"Ann": 60, "Bob": 55}
    assert found["too_few"] == {"Cid": 20}


def test_every_kind_of_question_has_a_distance():
    assert set(FAR) == set(KINDS)


def test_a_set_of_labels_is_nearer_the_more_it_shares():
    topics = Choices("topics", ("a", "b", "c"))
    ann, bob = [[0, 1]] * 60, [[0]] * 30 + [[2]] * 30
    found = alternative_annotator_test([[0, 1, 2]] * 60, {"Ann": ann, "Bob": bob}, topics)
    assert found["reviewers"]["Bob"]["teacher"] == 1  # nearer to Ann than either of Bob's
    assert (
        found["reviewers"]["Ann"]["teacher"] == 0.5
    )  # of [0] she has a half, the teacher a third; of [2] she has none


def test_a_level_counts_by_its_distance_and_the_teachers_number_as_its_nearest_level():
    stars = Scale("stars", ("1", "2", "3", "4", "5"))
    ann, bob = [1.0 + i % 3 for i in range(60)], [1.0 + i % 3 for i in range(60)]
    found = alternative_annotator_test([one + 0.4 for one in ann], {"Ann": ann, "Bob": bob}, stars)
    assert found["advantage"] == 1
    assert alternative_annotator_test([one + 0.6 for one in ann], {"Ann": ann, "Bob": bob}, stars)["advantage"] == 0


GIVEN = said(60, 11, 10)


@pytest.mark.parametrize(
    ("reviewers", "message"),
    [
        ({}, "0 of at least 2 reviewers have answered, 2 are lacking"),
        ({"Ann": GIVEN}, "1 of at least 2 reviewers have answered, 1 is lacking"),
        ({"Ann": GIVEN, "Bob": [-1] * 60}, "1 of at least 2 reviewers have answered, 1 is lacking"),
        ({"Ann": GIVEN, "Bob": GIVEN[:48] + [-1] * 12}, "48 of at least 50 rows .*, 2 are lacking"),
        ({"Ann": GIVEN[:30] + [-1] * 30, "Bob": [-1] * 30 + GIVEN[30:]}, "0 of at least 50 rows .*, 50 are lacking"),
        ({"Ann": [1] * 60, "Bob": [1] * 60}, "people gave one answer to all 60 rows, middling"),
    ],
)
def test_too_few_answers_are_told_with_how_many_are_lacking(reviewers, message):
    with pytest.raises(ValueError, match=message):
        alternative_annotator_test(GIVEN, reviewers, TONE)


def test_people_who_share_rows_with_nobody_are_lacking():
    four = {f"r{k}": [one if i // 20 == k // 2 else -1 for i, one in enumerate(GIVEN)] for k in range(6)}
    with pytest.raises(ValueError, match="0 of at least 2 reviewers have 30 rows or more .*, 2 are lacking"):
        alternative_annotator_test(GIVEN, four, TONE)


@pytest.mark.parametrize("epsilon", [-0.01, 1, math.nan, math.inf])
def test_epsilon_that_is_no_share_of_rows_is_refused(epsilon):
    with pytest.raises(ValueError, match="Expected epsilon, a share of rows"):
        alternative_annotator_test(GIVEN, {"Ann": GIVEN, "Bob": GIVEN}, TONE, epsilon)


@pytest.mark.parametrize("q", [0, 1, math.nan])
def test_rate_that_is_none_is_refused(q):
    with pytest.raises(ValueError, match="Expected q"):
        alternative_annotator_test(GIVEN, {"Ann": GIVEN, "Bob": GIVEN}, TONE, q=q)


@pytest.mark.parametrize(
    ("question", "teacher", "message"),
    [
        (TONE, GIVEN[1:], "Expected answers to the same 59 rows from all, got 60 of Ann"),
        (TONE, [3, *GIVEN[1:]], "Expected ids from 0 to 2 as answers of the teacher, got 3"),
        (TONE, [math.nan, *GIVEN[1:]], "as answers of the teacher, got nan"),
        (
            Scale("s", ("0", "1", "2")),
            [math.nan, *GIVEN[1:]],
            "Expected numbers from 0 to 2 as answers of the teacher",
        ),
    ],
)
def test_answers_that_are_none_are_refused(question, teacher, message):
    with pytest.raises(ValueError, match=message):
        alternative_annotator_test(teacher, {"Ann": GIVEN, "Bob": GIVEN}, question)
