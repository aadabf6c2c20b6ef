"""Answers of all kinds as a careful reader would read them: the ordinary ones, and those that only look like an answer."""

import pytest

from answer_tables import OPTIONS, SENTIMENT, STARS, YES_NO, check, table
from hf_llambert import ABSTAIN


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
            "3.5 stars", "10", "0", "4 or so", "Minus 4 stars", "-4", "4+ hours", "It came out in 4 colors",
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
            "not exactly toxic", "Is it toxic?", "Toxic? Not at all.", "toxic, not quite non-toxic",
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


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            ("joy", "anger", "fear", "sadness"), 1, "Anger", "The emotion is anger.", "The text expresses anger.",
            "Anger.\n\nThe author is furious.", "The dominant emotion in this text is anger.",
            "I detect anger in this message.", "The speaker feels anger toward the company.", "Emotion: anger",
            "anger \U0001f621", "The primary emotion expressed is **anger**.", "This tweet conveys anger.",
            "It seems to be anger.", "The best fit is anger.", "Anger, because the user is shouting.",
        ),
        (
            ("joy", "anger", "fear", "sadness"), ABSTAIN, "anger and fear", "anger, mixed with fear", "no anger",
            "without any anger", "The anger is gone.", "anger? maybe", "not so much anger", "rather than anger",
            "Anger management", "The author fears nothing", "jealousy", "a lack of joy", "joyful", "joyless", "killjoy",
            "More sadness than anger",
        ),
        (
            ("entailment", "neutral", "contradiction"), 0, "Entailment", "The relationship is entailment.",
            "The premise entails the hypothesis, so entailment.", "This is an entailment.", "Answer: entailment",
            "The correct label is entailment because the premise states it.",
        ),
        (
            ("entailment", "neutral", "contradiction"), 1, "Neutral",
            "The relationship between the sentences is neutral.", "Neutral. The premise does not say so.",
            "It is neutral: the text doesn't mention it.", "neutral, since nothing is said about it",
        ),
        (
            ("entailment", "neutral", "contradiction"), 2, "This is a contradiction.",
            "The hypothesis contradicts the premise, so the answer is contradiction.",
            "contradiction - both cannot be true",
        ),
        (
            ("entailment", "neutral", "contradiction"), ABSTAIN, "entailment or neutral", "not a contradiction",
            "No contradiction", "It is neither entailment nor contradiction", "not neutral",
            "There is no contradiction here, but no entailment.",
        ),
        (
            ("favor", "against", "none"), 0, "The author is in favor.", "Favor", "Stance: favor", "The stance is favor",
        ),
        (
            ("favor", "against", "none"), 1, "The author is against gun control.", "against", "The stance is against.",
            "Against.",
        ),
        (
            ("favor", "against", "none"), 2, "None", "none.", "The stance is none.", "Answer: none",
        ),
        (
            ("favor", "against", "none"), ABSTAIN, "Nobody can tell", "not in favor", "against or favor",
            "None of the above fits favor", "not against", "neither against nor in favor",
        ),
        (
            ("relevant", "irrelevant"), 1, "not relevant", "The document is not relevant.", "It's irrelevant.",
            "This document isn't relevant to the query.", "Irrelevant",
            "The passage is irrelevant because it covers other matters.",
        ),
        (
            ("relevant", "irrelevant"), 0, "Relevant", "The document is relevant.", "highly relevant",
            "It is relevant to the query.",
        ),
        (
            ("relevant", "irrelevant"), ABSTAIN, "not irrelevant", "hardly relevant", "partially relevant",
            "less relevant", "I'm not sure if it's relevant",
        ),
        (
            ("spam", "ham"), 0, "This is spam.", "Spam!", "The message is spam because it asks for money.",
            "It looks like spam.", "This email is clearly spam.",
        ),
        (
            ("spam", "ham"), ABSTAIN, "not spam", "no spam", "anti-spam", "spam filter", "It could be spam or ham",
            "This isn't spam.", "I doubt it's spam", "spam-free",
        ),
        (
            ("true", "false"), 0, "True", "The statement is true.", "This claim is true.", "true.",
        ),
        (
            ("true", "false"), 1, "False", "The statement is false.", "This is false because Rome is in Italy.",
            "false - it never happened", "The claim is false.",
        ),
        (
            ("true", "false"), ABSTAIN, "not true", "untrue", "not false", "It is not true.", "true or false", "neither",
            "half-true", "It isn't true", "True? No.", "That is wrong",
        ),
        (
            ("high", "medium", "low"), 0, "The urgency is high.", "High urgency", "Priority: high", "high priority",
            "Severity: High",
        ),
        (
            ("high", "medium", "low"), ABSTAIN, "Confidence: high", "high to medium", "medium-high",
            "between high and medium", "not high", "higher", "fairly high or low", "with high confidence",
            "I am highly confident", "low confidence",
        ),
        (
            STARS, 2, "3", "3 stars - it was okay", "I'd rate this a 3 out of 5.", "Rating: 3/5 stars",
            "The review gets 3 stars.", "3.0 stars", "score = 3", "<score>3</score>", "A rating of 3 seems right.",
            "The rating would be 3.", "3 because the food was average", "Predicted rating: 3",
            "I would assign a rating of 3.", "***3***", "Label: 3", "[3]", '\\boxed{3}', "The answer is 3.",
            "Three stars (3)",
        ),
        (
            STARS, ABSTAIN, "3 out of 10", "3.7", "~3", "\u22483", "3?", "3 or 4", "2-3", "more than 3 stars",
            "3 stars at most", "under 3 stars", "3 dishes were cold", "The 3rd star is lost",
            "3 star hotel nearby was better", "I stayed 3 nights", "3 \xd7 better", "1/3", "3:1", "v3", "3-year-old",
            "not even 3 stars", "3 stars is too generous", "I'd have given 3 stars if not for the staff", "instead of 3",
            "we were 3", "around 3", "3 and up", "3 point 5", "3,5",
        ),
        (
            YES_NO, 1, "No, nothing in the text says so.", "No; the review never mentions it.",
            "No, the reviewer did not like it.", "The answer is no.", "no \u2013 not part of it",
            "No.\n\nThe text is wrong about that.",
        ),
        (
            YES_NO, 0, "Yes, that's right.", "Yes, it does mention it.", "yes :)", "Yes!", "The answer would be yes.",
        ),
        (
            YES_NO, ABSTAIN, "I'd say yes and no", "No way of knowing", "not a clear yes", "There is no yes here",
            "yesterday", "No one says yes", "no? yes?", "Yes, no, maybe", "It depends", "Maybe yes", "hardly a yes",
            "no doubt", "no, yes", "No. Actually, yes.", "Yes. Correction: no.",
        ),
        (
            ("ja", "nein"), 1, "Nein, der Text erwähnt das nicht.", "Nein, davon ist keine Rede.",
            "Die Antwort ist nein.",
        ),
        (
            ("ja", "nein"), ABSTAIN, "Ja, aber nein", "Ja. Nein, doch nicht.", "Ja, das ist falsch.", "Na ja",
            "ja oder nein", "Nein, Moment, doch.",
        ),
        (
            ("ja", "nein"), 0, "Ja, der Text erwähnt es.", "Die Antwort ist ja.",
        ),
        (
            ("oui", "non"), 0, "Oui, le texte le mentionne.",
        ),
        (
            ("oui", "non"), ABSTAIN, "Oui et non", "Oui, mais non", "Ni oui ni non", "Oui... enfin non",
        ),
        (
            ("是", "否"), 1, "否\uff0c文本没有提到\u3002",
        ),
        (
            ("是", "否"), ABSTAIN, "是非", "不是的", "是或否", "是\uff0c但不完全是",
        ),
        (
            ("sì", "no"), 1, "No, il testo non lo dice.",
        ),
        (
            SENTIMENT, ABSTAIN, "Sentiment: positive \u2192 negative", "positive (was negative)",
            "From negative to positive", "positive\n---\nnegative", "Predicted: positive, actual: negative",
            "1. positive 2. negative", "positive 40%", "positive (30%)", "positive: 50/50", "p(positive)",
            "Positive vibes only? No.", "pos", "posit", "not-positive", "non positive", "un-positive",
            "The customer is positive the item was stolen.", "false positives", "Rh positive", "I am positive it is bad",
        ),
        (
            SENTIMENT, 0,
            "The sentiment of the text is positive as the reviewer expresses satisfaction with the product.",
            "Positive (the reviewer loved it)", "Positive review", "Positive feedback.", "I think it's positive",
            "Sentiment -> positive", "Result: *positive*", "> positive", "The sentiment is **positive**.", "positive\n",
            "positive \U0001f44d", "Positive\n\nNote: the reviewer was happy.", "It's a positive review overall.",
            "The sentiment in this movie review is positive.", "Definitely a positive review!",
            "The tone of this review is largely positive.", "In conclusion, the sentiment is positive.",
            "Therefore, the sentiment is positive.", "After reading the review, I conclude that it is positive.",
            "The given review is positive.", "The user review is positive.", "This IMDb review is positive.",
            "Overall, the review leans positive.", "The review can be classified as positive.",
            "The label for this review is positive.", "This review should be labeled positive.",
            "The final sentiment is positive.",
        ),
        (
            ("sports", "business", "politics", "tech"), 1, "Business",
            "This is a business article about Microsoft's earnings.", "The article is about business.",
            "Business (finance)", "I would categorize this under business.", "Section: Business",
            "The news belongs to the business category.", "It fits best in business.",
        ),
        (
            ("sports", "business", "politics", "tech"), ABSTAIN, "business and politics", "the business of politics",
            "show business", "not business", "business or tech", "It's none of your business? hm", "entertainment",
            "Art", "agribusiness", "tech-savvy", "fintech", "business/politics",
        ),
    ),
)  # fmt: skip
def test_answers_to_many_kinds_of_tasks(labels, label, answer):
    check(labels, label, answer)


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            YES_NO, 1, "No, that's incorrect.", "No, this is not correct.", "No, it is wrong.",
        ),
        (
            YES_NO, ABSTAIN, "No. That is wrong.", "Yes, that is wrong.", "No, scratch that.",
            "No... wait, that is wrong.",
        ),
        (
            SENTIMENT, ABSTAIN, "Best positive", "Positive criticism, negative", "Worse than positive",
            "Positive start, awful end", "Awful, boring, terrible.", "Positive title, terrible review",
            "Positive words, sad story", "Review text: positive vibes", "Say positive", "Write: positive",
            "Use positive or negative", "Positive if the reviewer likes it", "Positive = good", "Positive means good.",
            "The possible labels are positive", "positive could be one option", "Options are positive",
            "The first option is positive", "The definition of positive is good", "positive, whatever", "positive 5%",
            "Positive 10", "The user asked for positive", "The instruction says positive", "You want me to say positive",
            "Output positive or negative.", "Choose positive", "I need to decide whether it's positive",
            "Let me think. Positive would mean the reviewer liked it.", "The sentiment can be positive",
            "First, I check for positive words.", "Let's see if there are positive words.",
        ),
        (
            ("sports", "business", "politics", "tech"), ABSTAIN, "Sports are fun", "Politics aside",
            "The business of the day", "Big business", "tech support", "Nothing to do with sports",
            "It has nothing to do with sports.", "It is only marginally about sports.", "business as usual",
            "This is not about politics", "Besides sports", "Sports? Business?", "sports / business", "Sportsmanship",
        ),
        (
            ("question", "statement", "command"), 0, "Question", "This is a question.", "It is a question.",
        ),
        (
            ("question", "statement", "command"), ABSTAIN, "That is a good question.? ", "Please ask a question",
            "no question", "without question", "The question is unclear.",
        ),
        (
            ("en", "de", "fr", "no"), ABSTAIN, "no idea", "no en", "I speak en and de",
        ),
        (
            ("en", "de", "fr", "no"), 0, "en", "The language is en.", "Language: en",
        ),
        (
            ("male", "female"), ABSTAIN, "female or male", "not male", "The male reviewer met a female",
        ),
        (
            ("male", "female"), 1, "Female", "The author is female.",
        ),
        (
            STARS, ABSTAIN, "1-5", "1 to 5", "Scale: 1-5", "Rate from 1 to 5", "1 = bad, 5 = good", "5 is the best",
            "1 being worst", "On a scale of 1 to 5", "5 means great", "There is 1 label.", "Step 1",
            "Only 1 can be right", "Pick 1", "1 of the labels", "I have 1 question", "Please give me 1 moment", "1,2,3",
        ),
    ),
)  # fmt: skip
def test_words_about_labels_are_no_answer(labels, label, answer):
    check(labels, label, answer)


FRENCH, SPANISH, ITALIAN = ("positif", "négatif"), ("positivo", "negativo"), ("positivo", "negativo")
HUNGARIAN, POLISH, CHINESE = ("pozitív", "negatív"), ("pozytywny", "negatywny"), ("正面", "负面")


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (
            SENTIMENT, 1, "The final answer is: $\\boxed{negative}$", "Therefore the answer is $\\boxed{\\text{negative}}$.",
            "This is a negative movie review.", "It's a negative customer review.", "I lean toward negative.",
            "I'm leaning negative.",
        ),
        (
            SENTIMENT, ABSTAIN, "The answer is not \\boxed{positive}", "\\boxed{positive} or \\boxed{negative}",
            "I don't lean positive", "I lean away from positive",
        ),
        (
            STARS, 2, "Rating: 3 (out of 5)", "3 (out of 5 stars)", "3 (of 5)", "Rating: 3 (average)",
            "Rating: 3 (average of the aspects)", "3 (above average)",
        ),
        (STARS, ABSTAIN, "Rating: 3 (out of 10)", "Rating: 3 (average of 2 and 4)", "Average: 3"),
        (("-1", "0", "1"), 0, "-1.0", "The score is -1.0.", "−1.0"),
        (("-1", "0", "1"), ABSTAIN, "-1.5", "0-1.0", "1.0-1.0", "- 1.0"),
        (("World", "Sports"), 0, "World (International)"),
        (STARS, ABSTAIN, "< 3", "> 3", "Rating: < 3", "<3", "≥ 3"),
        (("C", "C++"), 1, "C++ (not C)"),
        (SENTIMENT, 0, '{"label": "positive"}<|im_end|>', "```yaml\nlabel: positive\n```", "I'd flag this as positive."),
        (FRENCH, 0, "Je dirais que c'est positif.", "Je pense que l'avis est positif."),
        (FRENCH, ABSTAIN, "Je dirais que ce n'est pas positif.", "Je ne dirais pas que c'est positif."),
        (SPANISH, 1, "Creo que es negativo.", "Diría que el sentimiento es negativo.", "Acho que é negativo."),
        (SPANISH, ABSTAIN, "No creo que es negativo.", "Creo que no es negativo.", "Acho que não é negativo."),
        (ITALIAN, 0, "Direi che è positivo.", "Penso che il testo sia positivo."),
        (ITALIAN, ABSTAIN, "Non direi che è positivo.", "Penso che non sia positivo."),
        (HUNGARIAN, 1, "A szöveg hangulata negatív.", "Inkább negatív.", "Szerintem negatív."),
        (HUNGARIAN, ABSTAIN, "A szöveg hangulata nem negatív.", "Szerintem nem negatív."),
        (POLISH, 1, "Raczej negatywny.", "Tekst jest raczej negatywny."),
        (POLISH, ABSTAIN, "Raczej nie negatywny."),
        (("Sport", "Politik"), 0, "Der Text handelt von Sport."),
        (("Sport", "Politik"), ABSTAIN, "Der Text handelt nicht von Sport."),
        (CHINESE, 1, "我认为是负面的。", "我觉得是负面。"),
        (CHINESE, ABSTAIN, "我不认为是负面的。", "我认为不是负面的。"),
        (("スポーツ", "政治"), 1, "この記事は政治に関するものです。"),
        (("スポーツ", "政治"), ABSTAIN, "この記事は政治に関するものではありません。"),
    ),
)  # fmt: skip
def test_usual_forms_of_an_answer_are_read_and_their_denials_are_not(labels, label, answer):
    check(labels, label, answer)
