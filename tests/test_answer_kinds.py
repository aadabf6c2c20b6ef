"""Kinds of answers, each in several spellings and languages: what a careful reader would say of them."""

import pytest

from answer_tables import OPTIONS, SENTIMENT, STARS, YES_NO, check, table
from hf_llambert import ABSTAIN

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


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            YES_NO, 1, "No (the text is about wine)", "No because it is about wine", "No, it does not mention wine",
            "No. It does not mention wine", "No", "no.", "No - it is about wine", "No; it is not.",
            "It does not mention X, so no", "It does not mention X, so the answer is no.", "The answer is no",
            "No, the text doesn't mention it.", "No, because it isn't there", "No, this is not spam.", "No, not at all",
            "No, there is no mention of it.", "Answer: No, it isn't.", "No (it isn't mentioned)",
            "The text does not say so. No.", "No, nothing suggests it.",
        ),
        (
            YES_NO, 0, "Yes (the text is about wine)", "Yes, it does", "Yes because it is about wine", "Yes, it is.",
            "Yes. It mentions wine.", "Yes", "Yes, the text says it is not wrong.", "It mentions wine, so yes",
            "The answer is yes", "Yes, it is part of the brain", "Yes, there is no doubt.", "Yes (it is mentioned)",
            "Yes: wine is mentioned",
        ),
        (
            YES_NO, ABSTAIN, "No idea", "No problem", "Not yes", "yes and no", "Yes? No.", "No, yes",
            "I have no information", "Yes, no", "No answer", "no one knows", "No way to tell", "No, I cannot answer that.",
            "Yes or no", "No comment", "No clue", "Yes, but no", "Well, yes and no", "No, wait, yes", "I can't say no",
            "not no", "Yes. Wait, no.", "No (wait, yes)", "Yes is wrong", "No opinion.",
        ),
        (
            ("\u662f", "\u5426"), 0, "\u662f", "\u662f\u7684", "\u662f\u3002", "\u7b54\u6848\uff1a\u662f",
            "\u7b54\u6848\u662f\u662f", "\u662f\uff0c\u56e0\u4e3a\u63d0\u5230\u4e86",
            "\u662f\u7684\uff0c\u6587\u672c\u63d0\u5230\u4e86\u3002",
        ),
        (
            ("\u662f", "\u5426"), 1, "\u5426", "\u5426\u3002", "\u7b54\u6848\uff1a\u5426",
        ),
        (
            ("\u662f", "\u5426"), ABSTAIN, "\u4e0d\u662f", "\u662f\u5426", "\u662f\u5417\uff1f", "\u662f\u4e0d\u662f",
            "\u4e5f\u8bb8\u662f",
        ),
        (
            ("\u306f\u3044", "\u3044\u3044\u3048"), 0, "\u306f\u3044", "\u306f\u3044\u3002",
            "\u306f\u3044\u3001\u305d\u3046\u3067\u3059", "\u7b54\u3048\uff1a\u306f\u3044",
            "\u7b54\u3048\u306f\u306f\u3044\u3067\u3059",
        ),
        (
            ("\u306f\u3044", "\u3044\u3044\u3048"), 1, "\u3044\u3044\u3048", "\u3044\u3044\u3048\u3002",
            "\u3044\u3044\u3048\u3001\u9055\u3044\u307e\u3059",
        ),
        (
            ("\u306f\u3044", "\u3044\u3044\u3048"), ABSTAIN, "\u306f\u3044\uff1f", "\u306f\u3044\u3068\u3044\u3044\u3048",
            "\u306f\u3044\u3067\u306f\u306a\u3044",
        ),
        (
            ("\uc608", "\uc544\ub2c8\uc694"), 0, "\uc608", "\uc608.", "\uc608, \uadf8\ub807\uc2b5\ub2c8\ub2e4",
            "\uc815\ub2f5: \uc608",
        ),
        (
            ("\uc608", "\uc544\ub2c8\uc694"), 1, "\uc544\ub2c8\uc694",
            "\uc544\ub2c8\uc694, \uadf8\ub807\uc9c0 \uc54a\uc2b5\ub2c8\ub2e4", "\uc815\ub2f5: \uc544\ub2c8\uc694",
        ),
        (
            ("\uc608", "\uc544\ub2c8\uc694"), ABSTAIN, "\uc608?", "\uc608\uac00 \uc544\ub2d9\ub2c8\ub2e4",
            "\uc608\ub97c \ub4e4\uba74",
        ),
        (
            ("ja", "nein"), 0, "Ja", "Ja.", "Ja, das stimmt.", "Antwort: ja", "Ja, weil es erw\xe4hnt wird",
        ),
        (
            ("ja", "nein"), 1, "Nein", "Nein.", "Nein, das ist nicht der Fall.", "Antwort: nein",
            "Nein, weil es nicht erw\xe4hnt wird",
        ),
        (
            ("ja", "nein"), ABSTAIN, "Ja? Nein.", "nicht ja", "Jein", "ja nein",
        ),
        (
            ("oui", "non"), 1, "Non", "Non, ce n'est pas le cas.", "R\xe9ponse : non",
        ),
        (
            ("s\xed", "no"), 1, "No, no lo menciona.", "No", "La respuesta es no",
        ),
        (
            ("s\xed", "no"), 0, "S\xed, lo menciona.", "S\xed",
        ),
    ),
)  # fmt: skip
def test_yes_and_no_are_read_alike(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            ("toxic", "non-toxic"), 1, "Not toxic", "not toxic.", "This is not toxic", "The comment is not toxic.",
            "non-toxic", "nontoxic", "Non toxic", "It isn't toxic.", "This comment is non-toxic.",
        ),
        (
            ("toxic", "non-toxic"), 0, "toxic", "The comment is toxic", "It is toxic.",
        ),
        (
            ("toxic", "non-toxic"), ABSTAIN, "not non-toxic", "It is not clear whether it is toxic", "toxic or non-toxic",
            "I do not know if it is toxic",
        ),
        (
            ("related", "unrelated"), 1, "not related", "It is not related.", "unrelated", "un-related",
        ),
        (
            ("spam", "not spam"), 1, "not spam", "It's not spam", "This is not spam.", "non-spam", "Not spam",
            "This isn't spam",
        ),
        (
            ("spam", "not spam"), 0, "spam", "This is spam.",
        ),
        (
            ("spam", "ham"), ABSTAIN, "not spam", "It is not spam",
        ),
        (
            SENTIMENT, ABSTAIN, "not positive", "It is not positive", "nonpositive",
        ),
        (
            ("happy", "unhappy", "sad"), ABSTAIN, "not happy",
        ),
    ),
)  # fmt: skip
def test_denied_label_is_its_opposite_where_the_task_has_just_that(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, ABSTAIN, "I'm sorry, but I can't classify this as positive or negative",
            "I'm sorry, but I can't classify this as positive", "As an AI language model, I cannot have a positive opinion",
            "As an AI language model I do not have opinions, positive", "As an AI language model, I find it positive.",
            "Positive or negative?", "Positive/Negative", "positive, negative", "Options: positive",
            "Sorry, I can't help with calling this positive", "I apologize, but I am unable to label this text positive.",
            "Classify the review as positive", "Is it positive?",
            "Please provide the review so that I can say if it is positive", "I won't call this positive.",
            "I must decline to say positive", "I cannot assist with that. Positive",
            "Sure, please provide the text. Positive", "Label: positive or", "positive|negative",
            "As an AI, I don't have feelings, positive or otherwise.",
        ),
    ),
)  # fmt: skip
def test_refusals_and_echoes_abstain(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, ABSTAIN, "Positive, although half of it is negative", "half positive", "50 % positive",
            "somewhere between", "50% positive", "between positive and negative", "half-positive", "partly positive",
            "partially positive", "semi-positive", "more negative than positive", "as positive as negative",
            "equally positive", "Both positive", "neutral to positive", "pseudo-positive", "not so positive",
            "less positive", "too positive to be true", "positive at first", "positive, then bad", "It starts positive",
            "supposedly positive", "almost positive", "I wish it were positive", "ironically positive",
            "sarcastically positive",
        ),
    ),
)  # fmt: skip
def test_mixed_answers_abstain(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, 0, "Positive. Tom Hanks shines in this one.", "Positive (95% confident)",
            "Positive\nConfidence: high", "Sentiment: positive", "Polarity: Positive",
            "Positive. Robert De Niro and Joe Pesci are superb.", "Positive. Loved it!",
            "Positive! Brilliant acting throughout.", "Positive (0.95)", "Positive, 95%",
            "Positive - 9/10 from the reviewer.", "Positive\n\nThe reviewer enjoyed it.",
            "Positive. Strong performances, gripping plot.", "1. Positive", "B. Positive", "B) Positive", "(b) positive",
            "1) Positive",
        ),
        (
            SENTIMENT, 1, "Polarity: Negative", "Negative. Dull plot, wooden acting.",
        ),
        (
            ("sports", "business"), 0, "Sports (football)", "Sports: football", "Sports (basketball).", "Topic: Sports",
            "Sports - football",
        ),
        (
            ("high", "low"), ABSTAIN, "Confidence: high", "Confidence: low",
        ),
        (
            ("high", "low"), 0, "Priority: high", "high", "The priority is high.",
        ),
        (
            STARS, 3, "4 wonderful", "4 - wonderful", "4, great food",
        ),
        (
            ("A. Negative", "B. Positive"), 1, "B. Positive", "B. positive",
        ),
        (
            ("olumlu", "olumsuz"), 0, "olumludur", "Bu yorum olumludur.", "olumlu", "Olumludur",
        ),
        (
            ("olumlu", "olumsuz"), 1, "Bu yorum olumsuzdur.", "olumsuzdur",
        ),
        (
            ("olumlu", "olumsuz"), ABSTAIN, "olumlu de\u011fildir", "olumlu de\u011fil",
        ),
    ),
)  # fmt: skip
def test_ordinary_answers_are_read(labels, label, answer):
    check(labels, label, answer)
