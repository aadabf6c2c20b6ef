"""Kinds of answers, each in several spellings and languages: what a careful reader would say of them."""

import pytest

from hf_llambert import ABSTAIN, TaskSpec

SENTIMENT = ("positive", "negative")


def table(*rows):
    """`(labels, label or ABSTAIN, answer)` for each answer of rows of `(labels, label, *answers)`."""
    return [(labels, label, answer) for labels, label, *answers in rows for answer in answers]


def read(labels, answer):
    return TaskSpec(name="t", labels=labels, instruction="{text}").read(answer)


def check(labels, label, answer):
    found, reason = read(labels, answer)
    assert found == label, reason
    assert (reason is None) == (label != ABSTAIN)


TRUTH = ("true", "mostly true", "false")


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, ABSTAIN, "The review is tuskin positive", "It is sotva positive", "The review is aldri positive",
            "The review is knap positive", "The sentiment is vix positive", "It is blogai positive", "It is quasi positive",
            "The review is positive ez", "The review is positive katta", "Positive ima the review", "Overall tuskin positive",
            "It is tuskin very positive", "The sentiment is positive, katta.", "It is supposedly positive",
            "It is almost positive", "The review is Tuskin positive", "It is half positive",
        ),
        (
            SENTIMENT, 0, "The review is clearly positive", "The review is overwhelmingly positive",
            "It is genuinely positive in tone", "I would label this as positive since the author loved it",
            "The reviewer gave a very positive review of the hotel", "This glowing review is positive",
            "This text expresses a positive sentiment", "The text conveys positive emotion", "It has a warm, positive tone",
            "I would give this novella a positive label, despite its flaws",
        ),
    ),
)  # fmt: skip
def test_only_usual_english_words_stand_directly_beside_a_label(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            ("positiv", "negativ"), ABSTAIN, "Positiv, denn das ist falsch", "Positiv. Nein, negativ",
            "Positiv, weil das nicht stimmt", "Positiv. Doch eher nicht.", "Positiv \u2013 quatsch", "Positiv. Das stimmt nicht.",
            "Positiv. Korrektur: gemischt.", "Positiv. Oder doch nicht?", "Positiv, fordi det er feil",
            "Positiv, eftersom det inte st\u00e4mmer", "Antwort: positiv\nNein, doch eher gemischt.",
        ),
        (("positiv", "negativ"), 0, "Positiv, weil der Gast wiederkommen will.", "Positiv, denn das Essen war gut."),
        (
            ("positif", "n\u00e9gatif"), ABSTAIN, "Positif. Enfin non.", "Positif. Euh, non.", "Positif ?",
            "Positif, car c'est faux", "Positif. Je me suis tromp\u00e9.",
        ),
        (
            ("positivo", "negativo"), ABSTAIN, "\u00bfPositivo?", "Positivo. Perd\u00f3n, no.", "Positivo. Me equivoqu\u00e9.",
            "Positivo, porque es falso", "Positivo. Mi sono sbagliato.",
        ),
        (
            ("\u6b63\u9762", "\u8d1f\u9762"), ABSTAIN, "\u6b63\u9762\uff1f", "\u6b63\u9762?", "\u6b63\u9762\u5417",
            "\u6b63\u9762\uff01\u4e0d\u5bf9", "\u6b63\u9762\u3002\u5f00\u73a9\u7b11\u7684",
            "\u6b63\u9762\uff0c\u56e0\u4e3a\u8fd9\u662f\u9519\u7684",
        ),
        (("\u306f\u3044", "\u3044\u3044\u3048"), ABSTAIN, "\u306f\u3044\uff1f"),
        (("\u0625\u064a\u062c\u0627\u0628\u064a", "\u0633\u0644\u0628\u064a"), ABSTAIN,
         "\u0625\u064a\u062c\u0627\u0628\u064a\u061f"),
        (SENTIMENT, ABSTAIN, "Positive?", "Positive because that is wrong."),
    ),
)  # fmt: skip
def test_label_that_is_asked_or_taken_back_in_any_language_abstains(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (TRUTH, 1, "mostly true", "Mostly True.", "This is mostly-true", "The claim is mostly true."),
        (TRUTH, 0, "true", "The claim is true.", "The claim is entirely true."),
        (
            TRUTH, ABSTAIN, "mostly, true", "half true", "barely true", "mostly. true", "not entirely true", "mostly (true)",
            "partly, true", "somewhat true", "The claim is largely true.",
        ),
        (("business", "business news"), ABSTAIN, "Business. News", "business (news)"),
    ),
)  # fmt: skip
def test_piece_of_a_longer_label_is_not_read_as_a_shorter_one(labels, label, answer):
    check(labels, label, answer)


STARS = ("1", "2", "3", "4", "5")
YES_NO = ("yes", "no")
OPTIONS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            OPTIONS, 1, "The answer is B", "B is correct", "\\boxed{B}", "$\\boxed{\\text{B}}$", "(B)", "B.", "B) text",
            "B) The capital of France", "**B**", "The correct answer is B.", "Option B", "I choose B", "(B) Paris", "B - Paris",
            "The correct option is B because the others are wrong.", "The answer is (B).", "B is the best answer.",
        ),
        (OPTIONS, 0, "A", "A.", "The answer is A", "(A)", "A) a good film", "A is correct."),
        (
            OPTIONS, ABSTAIN, "A is more accurate than B", "A ... B", "A or B", "A good answer would be long", "Not B",
            "B is wrong",            "B is incorrect", "Between A and B", "A is better than B", "B is worse than A.", "A film",
            "It is not A. B?",
            "B is less likely", "Vitamin C is good", "Plan B. It failed.", "C'est bon", "I'd say so", "It is a B movie",
            "B) no, wrong", "(B) Paris or (C) Rome",
        ),
    ),
)  # fmt: skip
def test_letters_of_options(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        (0, "Positive\n\nReview: the film was bad\nSentiment: negative"),
        (0, "Positive\nText: awful\nLabel: negative"),
        (0, " positive\n\nMovie review: dull\nSentiment: negative\n\nMovie review: good\nSentiment: positive"),
        (0, "**Positive**\n\n### Input\nawful\n### Response\nnegative"),
        (0, "Positive\n\nExample 2: awful\nAnswer: negative"),
        (ABSTAIN, "The sentiment is positive.\n\nReview: the film was bad\nSentiment: negative"),
        (ABSTAIN, "Positive\nLabel: negative"),
        (0, "Review: the film was good\nSentiment: positive"),
    ],
)
def test_example_that_a_teacher_goes_on_to_invent_is_no_answer(label, answer):
    check(SENTIMENT, label, answer)


GRADES = ("A+", "A", "A-", "B", "C")


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            GRADES,
            2,
            "A\u2013",
            "A\u2212",
            "A-",
            "A\uff0d",
            "A\u2014",
            "A\u207b",
            "Grade: A\u2212",
            "The grade is A\u2013.",
        ),
        (GRADES, 0, "A\u207a", "A\uff0b", "A+", "Grade: A\u207a"),
        (GRADES, 1, "A \u2014 because it is clear", "The grade is A."),
        (("A", "B"), ABSTAIN, "A\u2013", "A\u2212", "A\u207a", "Grade: A\u2212", "The grade is A\u2212.", "A\u207b"),
        (("C", "C++", "Java"), 1, "C\uff0b\uff0b", "C\u207a\u207a"),
    ),
)
def test_plus_and_minus_of_a_grade_in_any_type(labels, label, answer):
    check(labels, label, answer)


INCOME = ("<=50K", ">50K")
DOLLARS = ("\u2264$50K", ">$50K")
STRICT = ("<$50K", ">$50K")


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (INCOME, 0, "<=50K", "\u226450K", "The income is <=50K.", "<= 50K", "<=50k", "**<=50K**", '{"label": "<=50K"}',
         "&lt;=50K"),
        (INCOME, 1, ">50K", "> 50K", ">50k.", "The answer is >50K", "The income is > 50K because she is a doctor."),
        (INCOME, ABSTAIN, "50K", "<50K", ">=50K", "\u226550K", "Income 50K", "=50K", "about 50K", '{"label": "50K"}', "not >50K",
         "\u226450K or >50K", "The answer => 50K", "The income is 50K."),
        (DOLLARS, 0, "\u2264$50K", "<=$50K", "\u2264 $50K", "The income is \u2264$50K."),
        (DOLLARS, 1, ">$50K", "> $50K", "The answer is >$50K."),
        (DOLLARS, ABSTAIN, "$50K", "50K", "<$50K", "\u2265$50K", ">=$50K"),
        (STRICT, 0, "<$50K", "The income is <$50K"),
        (STRICT, 1, ">$50K", "The income is >$50K"),
        (STRICT, ABSTAIN, "$50K", "\u2264$50K", "<=$50K", ">=$50K", "\u2265$50K", "~$50K"),
    ),
)  # fmt: skip
def test_labels_that_compare(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, 0, '{"label": "positive"}', '{"final_label": "positive"}', '{"predicted_class": "positive"}',
            '{"final answer": "positive"}', '{"Sentiment": "positive", "score": 0.9}', '{"overall_sentiment":"positive"}',
            '{"label":"positive"} {"label":"positive"}', '{"prediction":"positive"}',
            '{"sentiment_label": "Positive", "confidence": 0.99}',
        ),
        (
            SENTIMENT, ABSTAIN, '{"label": "positive", "answer": "unclear"}', '{"label": null}',
            '{"label":"positive"} {"label":"negative"}', '{"rejected_label": "positive"}', '{"wrong_answer": "positive"}',
            '{"opposite_label":"positive"}', '{"confidence":"positive"}', '{"not_label":"positive"}', '{"label": ""}',
            '{"label": "positive", "label2": "negative"}', '{"tone_of_text": "positive", "foo": 1}', '{"foo":"positive"}',
            '{"label":"positive","sentiment":null}', '{"label":"positive","sentiment":["negative"]}',
            '{"second_label":"positive"}', '{"alternative_label":"positive"}', '{"label": {"name":"positive"}}',
            '{"previous_answer": "positive"}', '{"incorrect_label": "positive"}', '{"label":"positive"} {"label":null}',
            '{"example_label":"positive"}',
        ),
        (
            STARS, 3, '{"rating": 4}', '{"label":4}', '{"score": 4}', '{"final_rating": 4}', '{"stars": "4"}',
            '{"star_rating": 4}',
        ),
        (
            STARS, ABSTAIN, '{"confidence": 4}', '{"max_rating": 5}', '{"count": 4}', '{"label_count": 4}',
            '{"label_id": 4}', '{"rating_confidence": 4}',
        ),
    ),
)  # fmt: skip
def test_only_keys_of_answers_count_in_json(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            STARS, 3, "4/5", "Rating: 4/5", "4 out of 5", "4.0", "<rating>4</rating>", "4 stars", "4 / 5", "4/5 stars",
            "Rating: 4.0", "4 out of 5 stars", "4-star", "**4/5**", "I'd give it 4/5.", "4 stars!", "4 wonderful stars",
            "The rating is 4/5 because of the food.", "4 (good)", "Rating: 4 out of 5.", "4.0/5", "4 of 5",
            "On a scale of 1 to 5, 4", "4 (good)",
        ),
        (
            STARS, ABSTAIN, "4.5", "3-4", "4/10", "1 star off perfect", "1. first 2. second", "It was released in 2004",
            "May 4, 2005", "4 or 5", "4.5/5", "3\u20134", "4 to 5", "between 3 and 4", "1) good 2) bad", "4/5/2006",
            "2 stars less than perfect", "4 May", "on day 3", "4:30", "5 minutes", "1 problem: the food", "1. It was good",
            "top 5", "8/10", "4/5 people liked it", "4th", "1st", "$4", "4%", "docked 1 star", "It lost 1 star",
            "I ate there on 4/5.", "page 4", '{"rating": 4, "score": 0.8}', "4 hours of fun",
            "1. The food was good.\n2. The service was bad.", "Reason 1: food",
        ),
    ),
)  # fmt: skip
def test_grades_and_other_numbers(labels, label, answer):
    check(labels, label, answer)
