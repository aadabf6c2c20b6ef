"""A label counts only where a known frame says it: statements, what stands before and after them, codes, yes and no, JSON."""

import pytest

from answer_tables import OPTIONS, STARS, YES_NO, table
from hf_llambert import ABSTAIN, TaskSpec
from hf_llambert.tasks.answers import read_answer

SENTIMENT = ("negative", "positive")
TOPICS = ("world", "sports", "business", "tech")
NEWS = ("World", "Sports", "Business", "Sci/Tech")
INTENTS = ("card_arrival", "lost_or_stolen_card", "other")
NLI = ("entailment", "neutral", "contradiction")
TONES = ("positive", "neutral", "negative")
STAR_NAMES = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
CODES = ("I10", "E11", "E11.9", "J45", "F32", "F32.1")
TICKETS = ("billing", "bug", "feature request", "question")
EMOTIONS = ("joy", "sadness", "anger", "fear", "love", "surprise")
URGENCY = ("low", "medium", "high")
STANCE = ("favor", "against", "none")
SPAM = ("ham", "spam")
LANGUAGES = ("English", "German", "French", "Spanish", "Russian")


def check(labels, name, answer):
    label, reason = TaskSpec(name="t", labels=labels, instruction="{text}").read(answer)
    assert (labels[label] if label != ABSTAIN else None) == name, reason
    assert (reason is None) == (label != ABSTAIN)


def each(*rows):
    return [(labels, name, answer) for labels, name, *answers in rows for answer in answers]


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (
            TOPICS, None, "Category: Religion\n\nThe article is about the pope's message to the world.",
            "Label: politics\nExplanation: The president met leaders from all over the world.", "Politics, world",
            "Finance (business)", "Other (business)", "Politics (world)", "Health: hospitals around the world are full.",
            "The category is Health. The article is about sports.", "Health. The topic is sports.",
            "The topic is Politics, as it concerns world leaders.", "Politics/World", "Politics, with some business",
        ),
        (SENTIMENT, None, "Label: mixed\nExplanation: The reviewer has a positive view of the food.",
         "Neutral\n\nThe text is factual, without positive wording.", "Mixed. The sentiment is positive."),
        (TICKETS, None, "Complaint. The user found a bug.", "Shipping\n\nThe customer has a question."),
        (EMOTIONS, None, "Disgust, with some anger.", "The emotion is nostalgia, with a touch of sadness."),
        (LANGUAGES, None, "Catalan (similar to Spanish)", "Ukrainian. It is often confused with Russian.",
         "The text is in Danish. In English it means \"I am hungry\"."),
    ),
)  # fmt: skip
def test_stated_label_that_is_none_of_the_task_abstains(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (CODES, None, "F32.A", "E11.X", "J45.NOS", "E11. 65", "E11.-", "E11.*", "F32:A", "F32.1.x", "The code is F32.A.",
         "Code: F32.A (Depression, unspecified)", "R05 (cough), with a history of J45", "E78.5, I10", "N18.3 (see also I10)",
         '{"label": "F32.A"}'),
        (CODES, "J45", "J45 \u2013 Asthma", "J45: Asthma", "**J45** (Asthma, unspecified)"),
        (CODES, "E11.9", "E11.9: Type 2 diabetes mellitus",
         "The code is E11.9 (Type 2 diabetes mellitus without complications)."),
        (CODES, "I10", "I10 (Essential hypertension)", "I10 - Essential (primary) hypertension", "ICD-10: I10",
         "I10. The patient has high blood pressure."),
    ),
)  # fmt: skip
def test_code_is_no_piece_of_another_and_may_be_described(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (YES_NO, None, "Yes, I can help with that.", "Yes, maybe.", "Yes, it depends on the context.", "No, I don't know.",
         "Yes, that is an interesting text.", "Yes, here is the summary of the text.", "No. 5 is the correct option.",
         "Yes, of course! What would you like to know?", "No, I have not seen the text.", "Yes, in part.",
         "Yes. However, the second paragraph says that it is not.", "No, there is not enough information to say."),
        (YES_NO, "no", "No, the text does not mention it.", "No. There is no mention of a drug.",
         "No\n\nThe review discusses the acting."),
        (YES_NO, "yes", "Yes, it does.", "Yes\n\nThe review contains a spoiler: it reveals who the murderer is."),
        (("toxic", "non-toxic"), "non-toxic", "No, the comment is not toxic."),
        (("ja", "nein"), None, "Ja, gerne! Bitte gib mir den Text.", "Ja, vielleicht.", "Nein, ich habe den Text nicht.",
         "Ja, das ist eine gute Frage.", "Nein, das wei\u00df ich nicht."),
        (("ja", "nein"), "nein", "Nein, der Text erw\u00e4hnt kein Medikament."),
        (("oui", "non"), None, "Oui, peut-\u00eatre.", "Oui, je peux vous aider.", "Non, je ne sais pas."),
        (("oui", "non"), "oui", "Oui, le texte mentionne un m\u00e9dicament."),
        (("s\u00ed", "no"), None, "No, no lo s\u00e9.", "S\u00ed, puedo ayudarte con eso."),
        (("\u662f", "\u5426"), None, "\u662f\u7684\uff0c\u8bf7\u63d0\u4f9b\u6587\u672c\u3002"),
        (("\u662f", "\u5426"), "\u662f", "\u662f\u7684\uff0c\u6587\u4e2d\u63d0\u5230\u4e86\u836f\u7269\u3002"),
    ),
)  # fmt: skip
def test_yes_and_no_that_only_open_an_answer_abstain(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (SENTIMENT, None, "Thank you for your positive review!", "I'm sorry to hear that you had a negative experience.",
         "The review has some positive aspects, but overall it is disappointing.", "There is little positive in this review.",
         "The sentiment is positive on the surface, but the author is being sarcastic.", "Nobody would call this positive.",
         "Okay, let's see. The user wants me to classify the review. It says great, which is positive. But they also",
         "Hmm, the reviewer says great things. That sounds positive. Let me check the second paragraph",
         "Step 1: Identify the tone of the first sentence. It is positive.\nStep 2:",
         "Your task is to label the review as positive.", "Use the label positive for reviews that praise the film.",
         'Please respond in the format {"label": "positive"}', 'Example output: {"label": "positive"}',
         "If I had to guess, I'd go with positive.", "The sentiment of the first half is positive.",
         "The patient tested positive.", "Review: fine\nThe sentiment might be positive"),
        (TICKETS, None, "Thank you for your question!", "Good question!", "The answer to the question is: shipping"),
        (EMOTIONS, None, "I'd love to help you with that!", "What a surprise!", "The author hides his anger."),
        (URGENCY, None, "The battery is low.", "The customer has a high bill.", "Urgent. The stock is low."),
        (STARS, None, "The hotel has 4 stars.", "The review is about Toy Story 3.", "The hotel is a 5 star hotel.",
         "The reviewer stayed 3 nights.", '{"rating": 4, "max": 10}'),
        (TOPICS, None, "The article is about the sports car market.", "The World Cup final was played in Doha."),
        (LANGUAGES, None, "Please answer in English.", "The text is about the German chancellor."),
        (STANCE, None, "The team plays against Chelsea.", "Do me a favor and send the tweet.", "None of the above"),
    ),
)  # fmt: skip
def test_sentence_that_is_no_known_frame_abstains(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (SENTIMENT, "positive", "Positive\n\nIs there anything else I can help you with?", "Overall, the review leans positive.",
         "I would classify the sentiment of this review as positive because the reviewer loved it.",
         "While the author mentions flaws, the overall sentiment is positive.", "Here is the classification: positive",
         "The reviewer praises the plot.\nThe reviewer recommends the film.\nTherefore, the sentiment is positive."),
        (SPAM, "ham", "The message is ham (not spam)."),
        (("A", "B", "C", "D"), "D", "The answer is D because the other options are false."),
        (("A", "B", "C", "D"), "B", "\u6b63\u786e\u7b54\u6848\u662fB\u3002", "\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4."),
        (("entailment", "contradiction"), "entailment",
         "Entailment\n\nIf two people are hugging, they are touching each other."),
        (STARS, "2", "Rating: 2\n\nReason: The product broke after 3 weeks."),
        (STARS, "4", "4 \u00e9toiles", "4 Sterne", "4 von 5 Sternen", "\u8bc4\u5206\uff1a4\u661f", "Bewertung: 4 von 5 Sternen"),
        (STANCE, "against", "The author is against gun control.", "The tweet is against the target."),
        (STANCE, "favor", "The author is in favor of the target."),
        (("positiv", "negativ"), "positiv", "Positiv. Der Gast war sehr zufrieden."),
        (("positiv", "negativ"), "negativ", "Insgesamt ist die Stimmung negativ."),
        (("positiv", "negativ"), None, "Positiv. Der Gast war nicht zufrieden.", "Positiv. Das war ein Scherz."),
        (("positif", "n\u00e9gatif"), "positif", "Le sentiment exprim\u00e9 dans cet avis est positif."),
    ),
)  # fmt: skip
def test_statement_and_its_explanation_are_read(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    each(
        (SENTIMENT, "positive", '{"sentiment": {"label": "positive", "score": 0.9}}'),
        (SENTIMENT, None, '{"sentiment": {"positive": 0.9, "negative": 0.1}}', '{"foo": "positive"}',
         '{"previous_type": "positive"}', '{"type": "positive", "genre": "drama"}', '{"type": "not positive"}'),
        (LANGUAGES, "French", '{"language": "French"}', '{"detected_language": "French", "confidence": 0.9}'),
        (CODES, "E11.9", '{"code": "E11.9"}', '{"icd_code": "E11.9", "description": "Type 2 diabetes mellitus"}'),
        (URGENCY, "high", '{"priority": "high"}', '{"severity": "high"}'),
        (STARS, None, '{"rating": 4, "label": "5"}'),
    ),
)  # fmt: skip
def test_json_with_one_ordinary_key_or_an_object_of_its_own_is_read(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sentiment: positive\nFinal label: mixed",
        "Positive. Overall sentiment: mixed",
        "I am not sure about this one. Positive.",
        "Positive. It could also be seen as the opposite.",
        "The sentiment is positive because it is sarcastic and means the reverse.",
        "Positive. But the rest says otherwise.",
    ],
)
def test_another_statement_or_a_doubt_beside_the_first_abstains(answer):
    check(SENTIMENT, None, answer)


BEFORE_AN_ANSWER_LINE = [
    "The sentiment is neutral.\n\nLabel: positive",
    "I'm sorry, but I can't help with that.\n\nLabel: positive",
    "Mixed\n\nSentiment: positive",
    "Answer format:\nLabel: positive",
    "The format should be:\nSentiment: negative",
    "Example:\nThe food was cold.\nSentiment: negative",
    'Here is another review: "I hated this."\nSentiment: negative',
    "I cannot determine the sentiment of this text.\n\nSentiment: negative",
    "I'm unable to classify this text.\n\nLabel: negative",
    "I don't know. Answer: positive",
    "There is no review to rate.\n\nSentiment: negative",
    "None of the categories fit.\n\nCategory: positive",
    "Label: positive\n\nThis is only an example of the format.",
    "Label: positive\n\nI can't determine the sentiment, though.",
    "No text was provided. The sentiment is positive.",
    "None of the options is correct. The answer is positive.",
    "The text is too short to tell. The sentiment is negative.",
    "I do not have access to the text.\n\nAnswer: negative",
]


@pytest.mark.parametrize("answer", BEFORE_AN_ANSWER_LINE)
def test_answer_line_counts_only_where_nothing_beside_it_says_otherwise(answer):
    assert read_answer(answer, (("negative",), ("positive",)))[0] is None


def test_another_topic_before_the_answer_is_another_answer():
    words = (("world",), ("business",), ("health care",))
    assert read_answer("This article is about health. The category is business.", words)[0] is None
    assert read_answer("This article is about a merger of two large banks. The category is business.", words)[0] == 1


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Sure! Here is the classification:\n\nLabel: positive", 1),
        ("Positive\n\nLabel: positive", 1),
        ("The reviewer praises the acting and the story.\n\nSentiment: positive", 1),
        ("Label: positive\nExplanation: the reviewer can hardly wait to see it again.", 1),
        ("Ich würde den Text als positive einstufen.", 1),
        ("Je classerais ce texte comme positive.", 1),
        ("El texto expresa un sentimiento negative.", 0),
        ("Эта статья относится к категории positive.", 1),
        ("这条评论表达了positive情感。", 1),
    ],
)
def test_ordinary_words_around_an_answer_leave_it(answer, label):
    assert read_answer(answer, (("negative",), ("positive",))) == (label, None)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    table(
        (SPAM, "ham", "Ham. This message is not spam.", "Ham - this is a legitimate message, not spam.", "Ham, not spam."),
        (SENTIMENT, "positive", "Positive, not negative.", "The review is positive, not negative."),
        (TONES, "neutral", "Neutral. It is neither positive nor negative.",
         "Neutral - neither positive nor negative sentiment is expressed."),
        (STANCE, "none", "None. The tweet is neither favor nor against."),
        (OPTIONS, "B", "B, not A.", "B. Not A, since Paris is right."),
        (YES_NO, "yes", "Yes, not no."),
        (SPAM, None, "Not spam, ham.", "Ham. Not spam?", "Ham. Not spam, but marketing.", "Ham or not spam"),
        (SENTIMENT, None, "Positive. I'm not sure it is not negative.", "Positive. No wait, not positive. Negative.",
         "Not positive nor negative", "The review is positive, not negative, but mixed."),
    ),
)  # fmt: skip
def test_other_labels_that_are_denied_after_the_first_leave_it(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    table(
        (NLI, "neutral", "Neutral - there is not enough information to determine.",
         "Neutral. There is not enough information in the premise.", "Neutral because there's not enough information to say.",
         "Neutral. It is impossible to know whether he is sad."),
        (NLI, None, "Entailment. There is not enough information.", "Not enough information",
         "There is not enough information. Neutral.", "Neutral. I cannot answer."),
    ),
)  # fmt: skip
def test_lack_of_information_explains_only_a_label_that_decides_nothing(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    table(
        (NEWS, "Sci/Tech", "Sci-Tech", "SciTech", "sci tech", "4. Sci/Tech", "D) Sci/Tech"),
        (NEWS, None, "Sci, Tech", "Sci. Tech", "Tech"),
        (INTENTS, "card_arrival", r"card\_arrival", r"**card\_arrival**", "1. card_arrival", "2) Card arrival"),
        (INTENTS, None, "1. card_arrival\n2. other"),
        (STAR_NAMES, "4 stars", "4", "4/5", "4 star", "4 out of 5 stars", "Rating: 4", "Four stars", "★★★★☆"),
        (STAR_NAMES, None, "4.5", "4 people liked it", "10", "4-5", "4/10", "1 star for service"),
        (STARS, "4", "Four", "four stars.", "**Four**", "★★★★☆", "Rating: ⭐⭐⭐⭐☆"),
        (STARS, None, "★★", "★★★★½", "⭐ Great", "Six", "One thing is clear", "Four or five"),
    ),
)  # fmt: skip
def test_other_spellings_of_a_name_are_that_name(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    table(
        (SENTIMENT, "positive", "Positive [/INST]", "Positive</s><s>[INST] Is this review positive or negative?",
         "Positive\n<|user|>\nIs it positive or negative?\n<|assistant|>\nNegative",
         "Positive<|im_end|>\n<|im_start|>user\nNegative?", "<|im_start|>assistant\nPositive<|im_end|>",
         "The review is positive.</s>", "One word: Positive", "In one word, the sentiment is positive.",
         '{"response": "Positive"}'),
        (SENTIMENT, None, "Positive or negative?</s>Positive", "Is it positive?</s>",
         "<|im_start|>user\\nThis film is positive.<|im_end|>\\n<|im_start|>assistant\\nnegative",
         "<start_of_turn>user\\nThis film is positive.<end_of_turn>\\n<start_of_turn>model\\nnegative",
         "[INST] The film is positive. [/INST] Negative"),
        (SPAM, "spam", "Spam\n\nMessage: Hi, how are you?\nLabel: Ham", "Spam\n\nEmail: Hello\nLabel: ham"),
        (TICKETS, None, "Question:"),
        (TICKETS, "question", "Question", "Question.", "The ticket is a question."),
    ),
)  # fmt: skip
def test_what_a_model_writes_after_its_turn_is_none_of_its_answer(labels, name, answer):
    check(labels, name, answer)


@pytest.mark.parametrize(
    ("labels", "name", "answer"),
    table(
        (YES_NO, None, "No, it is.", "No, it does.", "Yes, it isn't.", "Yes, it does not."),
        (YES_NO, "no", "No, it is not.", "No, it doesn't.", "No, this is correct.", "No, it is about cats."),
        (YES_NO, "yes", "Yes, it is.", "Yes, it does.", "Yes, it is about cats."),
    ),
)
def test_yes_or_no_that_its_own_claim_contradicts_abstains(labels, name, answer):
    check(labels, name, answer)
