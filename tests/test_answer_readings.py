"""Answers of all kinds as a careful reader would read them: the ordinary ones, and those that only look like an answer."""

import pytest

from hf_llambert import ABSTAIN, TaskSpec

SENTIMENT = ("positive", "negative")
STARS = ("1", "2", "3", "4", "5")
YES_NO = ("yes", "no")
OPTIONS = ("A", "B", "C", "D")


def table(*rows):
    """`(labels, label or ABSTAIN, answer)` for each answer of rows of `(labels, label, *answers)`."""
    return [(labels, label, answer) for labels, label, *answers in rows for answer in answers]


def read(labels, answer):
    return TaskSpec(name="t", labels=labels, instruction="{text}").read(answer)


def check(labels, label, answer):
    found, reason = read(labels, answer)
    assert found == label, reason
    assert (reason is None) == (label != ABSTAIN)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, 0, "Based on the language used, this review is positive.", "I'd classify this as positive.",
            "The sentiment expressed in this review is positive.", "This is a positive review.", "Positive sentiment.",
            "Overall, positive.", "The overall sentiment is positive, as the reviewer praises the acting and direction.",
            "Sentiment: Positive\n\nExplanation: The reviewer uses words such as 'great'.",
            "This review would be classified as positive.", "It's positive.", "The answer is: Positive",
            "Final answer: positive", "My answer is positive.", "I believe the sentiment is positive.",
            "**Sentiment:** Positive", "Sentiment analysis: positive", "Label: Positive.", "Output: positive",
            "The review has a positive sentiment.", "The reviewer's opinion is positive.",
            "This review is overwhelmingly positive due to the praise for Keaton.", "The text is positive in nature.",
            "Positive, because Al Pacino is superb.", "Positive: the reviewer loved the film.",
            "Positive - the author highly recommends it.", "In my opinion, positive", "I would say positive.",
            "It sounds positive to me.", "Class: positive", "The correct label is positive.",
            "positive.\n\nThe author says the movie isn't perfect but enjoyable.",
            "The review expresses a strongly positive opinion of Spielberg's movie.",
            "Although the reviewer mentions some flaws, the review is positive.",
            "The sentiment is positive. The reviewer didn't mind the length.",
            "Positive, with minor complaints about pacing.", "Here is the classification:\n\nPositive",
            "Certainly! The sentiment is positive.",
        ),
        (
            ("sports", "business", "politics", "tech"), 0, "Sports", "This article is about sports.",
            "The article belongs in the sports section.", "Category: sports", "Sports (tennis)",
            "The topic of this article is sports.", "It's a sports article about Arsenal.",
            "Sports. The article covers the Champions League.", "This would be classified under sports.",
            "Topic: Sports\nReason: Federer won.", "The main topic is sports, specifically tennis.",
            "I'd file this under sports.", "sports news", "Sports section",
        ),
        (
            YES_NO, 0, "Yes, the concept is part of the nervous system.", "Yes.", "Yes, it is a nerve.", "Answer: Yes",
            "Yes - nerve", "yes, definitely", "Yes, because it's a nucleus in the brain stem.",
            "The answer is yes, since it is a cranial nerve.", "Yes, I think so.", "Yes, absolutely.",
            "The concept is part of the brain, so yes.",
        ),
        (
            YES_NO, 1, "No, it is a blood vessel.", "No - it's a muscle.",
            "The answer is no because vessels don't count.", "No, it's not part of the nervous system.", "Answer: No",
            "No. This is a bone.", "No, the femur is a bone.", "No (bone)", "no, definitely not",
            "No, I don't think so.", "It is a bone, so the answer is no.", "No, neither of them is.",
        ),
    ),
)  # fmt: skip
def test_ordinary_english_answers_are_read(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, ABSTAIN, "The review is positivo", "It is hardly a positive review.",
            "I'd hesitate to call it positive.", "It is far from positive.",
            "Far from being positive, the review is scathing.", "No one would call this positive.",
            "positive is the last word I would use", "The review pretends to be positive", "The opposite of positive",
            "It lacks any positive qualities.", "On the surface positive, underneath scathing.",
            "This is positive... NOT", "If it were positive, the author would say so.",
            "The positive reviews are wrong.", "Calling it positive would be generous.", "positive (sarcasm)",
            "It would be positive if not for the ending.", "I was going to say positive.",
            "Unlike the positive reviews, this one is harsh.", "Other reviewers were positive.",
            "The reviewer expected a positive experience.", "Nothing about it is positive.",
            "It could be positive or not.", "The author rejects the positive view",
            "The reviewer disagrees with the positive reviews.", "Positive... or is it?",
            "Is this positive? Hard to say.", "I can't say it's positive.",
            "Positive reviews are common, but this is awful.", "The review was positive until the end.",
            "It tries to be positive but fails.", "Previously positive.", "No longer positive",
            "It used to be positive.", "The previous answer was positive.", "The review is no positive one.",
            "The opposite: positive", "Less than positive", "positive\n\nWait, actually no.", "positive\nnope",
            "Positive. I lied.", "positive -> wrong", "positive \u2717", "not, I repeat, not positive",
            "Anything but: positive", "Everything is positive except the verdict.", "a mix of positive and other things",
            "positive/mixed", "positive & mixed", "mixed positive", "The word positive appears.", "Neutral, positive",
            "neutral", "Neutral rather than positive", "Mixed or positive", "Positive or neutral",
            "Mostly neutral, slightly positive", "{\"label\":\"positive\"} is incorrect", "{\"label\":\"not positive\"}",
            "{\"review\":\"positive\"}", "{\"positive\":\"no\"}", "{\"positive\":false,\"label\":\"positive\"}",
            "{\"label\":\"positive\",\"correct\":false}", "{\"label\":\"positive?\"}",
            "{\"label\":\"positive or negative\"}", "{\"answer\":\"The review is not positive\"}",
            "{\"label_options\":[\"positive\"]}", "{\"possible_labels\":[\"positive\"]}",
            "{\"input\":\"positive\",\"label\":\"mixed\"}", "{\"label\":\"mixed\",\"text\":\"positive\"}",
            "{'label': 'positive', 'answer': 'unclear'}", "{\"label\": \"positive\", \"sentiment\": \"mixed",
            "{\"unlikely_label\":\"positive\"}", "[{\"label\":\"positive\"},{\"label\":\"neutral\"}]",
            "{\"label\":\"positive\"}\n{\"label\":\"mixed\"}",
        ),
        (
            ("positiv", "negativ"), ABSTAIN, "Eher nicht positiv", "Die Bewertung ist alles andere als positiv",
            "Die Bewertung ist mitnichten positiv", "Das ist kaum positiv", "Die Rezension wirkt nur scheinbar positiv",
            "positiv, oder?", "Positiv wäre übertrieben", "Positiv. Stimmt nicht.", "Von positiv keine Spur",
            "Fast positiv", "Halb positiv", "Positiv \u2013 von wegen!", "weniger positiv", "Ist das positiv",
            "Positiv ist anders", "Kein bisschen positiv", "Positiv, aber eigentlich negativ",
            "Die Bewertung ist ironisch positiv",
        ),
        (
            ("positif", "négatif"), ABSTAIN, "L'avis est peu positif", "Loin d'être positif",
            "L'avis est tout sauf positif", "Moins positif", "Positif, mais non", "Ce n'est guère positif",
            "Pas vraiment positif", "L'avis serait positif si", "Positif ou négatif", "Faussement positif",
            "Positif. C'est faux.", "À peine positif", "Point positif", "Presque positif",
        ),
        (
            ("positivo", "negativo"), ABSTAIN, "Para nada positivo", "Poco positivo", "Casi positivo",
            "Positivo, pero no", "Nada de positivo", "Lejos de ser positivo", "Apenas positivo", "Menos positivo",
            "Quase positivo", "Pouco positivo", "Falso positivo", "Mica positivo", "Per niente positivo",
            "Positivo. Scherzo.", "Positivo. Es broma.", "Positivo. Mentira.", "Per nulla positivo",
            "La recensione è tutt'altro che positivo", "Todo menos positivo",
        ),
        (
            ("positief", "negatief"), ABSTAIN, "Allesbehalve positief", "Verre van positief", "Positief? Nee",
            "Amper positief", "Positief. Grapje.", "Weinig positief",
        ),
        (
            ("позитивный", "негативный"), ABSTAIN, "Едва ли позитивный", "Далеко не позитивный", "Позитивный. Шутка.",
            "Отзыв мало позитивный", "Почти позитивный", "Якобы позитивный",
        ),
        (
            ("olumlu", "olumsuz"), ABSTAIN, "olumlu mu?", "Pek olumlu sayılmaz", "olumludur diyemem",
            "Olumlu olmaktan uzak", "neredeyse olumlu",
        ),
        (
            ("pozytywna", "negatywna"), ABSTAIN, "Daleka od pozytywna", "Prawie pozytywna", "Mało pozytywna",
            "Pozytywna? Skąd!",
        ),
        (
            ("正面", "负面"), ABSTAIN, "正面吗", "很难说是正面", "绝非正面", "几乎正面", "正面才怪", "假正面",
            "半正面", "正面\uff0c个屁", "正面的反面",
            "算不上正面的", "正面/负面", "正面和负面",
        ),
        (
            ("ポジティブ", "ネガティブ"), ABSTAIN, "ポジティブとは限らない", "ポジティブですか",
            "ポジティブなわけがない", "ポジティブの逆", "ポジティブ\uff1f",
        ),
        (
            ("긍정", "부정"), ABSTAIN, "긍정은 아님", "긍정인가요?", "긍정의 반대", "긍정이라고 할 수 없다",
        ),
        (
            ("เช\u0e34งบวก", "เช\u0e34งลบ"), ABSTAIN, "เช\u0e34งบวกหร\u0e37อไม\u0e48",
            "แทบไม\u0e48เป\u0e47นเช\u0e34งบวก",
        ),
        (
            STARS, ABSTAIN, "I'd give it a 4.5", "It's between 4 and 5", "Room 4", "4 people complained",
            "Two of the 5 were bad", "2 of 5 dishes were good", "Not 4", "Not a 4", "less than 4", "4 minus",
            "3.5 stars", "10", "0", "4 or so", "Minus 4 stars", "-4", "4+ hours", "Four", "It came out in 4 colors",
            "I watched it 3 times.", "The 4 actors are great.", "I have 2 kids who loved it.", "My 5 year old loved it",
            "5 years later still good", "4 \xbd", "\u2605\u2605", "The first 3 episodes are good.",
            "1 of the best movies", "1 in a million", "No 1", "Number 1 movie", "Question 2", "I ordered 3.",
            "Chapter 3 is the best", "3 of my friends liked it", "1 word: great", "2 thumbs up", "It is 2 hours long",
            "3D", "4K", "100%", "4 out of 4", "4/4", "between 1 and 5",
        ),
        (
            STARS, 4, "5 stars", "5/5", "The rating is 5.", "I would give it 5 stars.", "Five stars: 5",
            "Rating: 5 stars out of 5", "**Rating:** 5", "5 - excellent", "5 (excellent)",
            "This review deserves 5 stars because the food was great.", "Stars: 5", "Score: 5/5",
            "I'd rate this review a 5.", "A 5-star review", "The star rating is 5.", "5 out of 5 stars.", "My rating: 5",
            "5, the reviewer loved it.", "I'd say 5.", "The reviewer would give 5 stars.",
            "Based on the review, I predict a rating of 5.",
        ),
        (
            OPTIONS, 1, "B", "b)", "The answer is **B**.", "B. Because it fits", "Answer: B) Rome",
            "The correct answer is (B) Rome.", "B is the correct answer", "Answer is B", "I think the answer is B.",
            "Correct: B", "Option B is correct.", "It's B.", "B, since Rome is the capital.", '\\boxed{B}.',
            "Final answer: B", "The best choice is B",
        ),
        (
            OPTIONS, ABSTAIN, "A and B", "Both B and C", "B or maybe C", "Not sure, B?", "Anything but B", "B? No.",
            "All except B", "B isn't right", "I eliminated B", "Eliminate B", "B can be ruled out", "Vitamin B",
            "A great film", "Class B amplifier", "The B team", "B12", "AB", "I",
        ),
        (
            ("toxic", "non-toxic"), 1, "Not toxic at all.", "The comment is not toxic; it is a joke.",
            "This is not toxic, just blunt.", "Label: not toxic", "It's not toxic.",
        ),
        (
            ("toxic", "non-toxic"), ABSTAIN, "It is not clear if toxic", "I don't think it is non-toxic",
            "not exactly toxic", "Is it toxic?", "Toxic? Not at all.", "toxic, not non-toxic",
            "neither toxic nor non-toxic",
        ),
        (
            SENTIMENT, 0, "{\"label\":\"positive\",\"confidence\":\"high\"}",
            "```json\n{\n  \"sentiment\": \"positive\"\n}\n```", "{'label': 'positive'}", "{\"label\": \"positive\",}",
            "{\"answer\":\"positive\",\"explanation\":\"not negative\"}", "{\"predictedLabel\":\"positive\"}",
            "[{\"label\":\"positive\"}]", "{\"label\":\"POSITIVE\",\"score\":0.98}",
        ),
    ),
)  # fmt: skip
def test_answers_that_a_careful_reader_would_not_count(labels, label, answer):
    check(labels, label, answer)
