"""What an answer says of itself: a label that is taken back, in words or in JSON, is none; one that is explained stays."""

import pytest

from answer_tables import SENTIMENT, YES_NO, check, read, table
from hf_llambert import ABSTAIN

TAKEN_BACK = [
    "I retract this.", "I retract that label.", "I withdraw that.", "I must correct myself.", "I stand corrected.",
    "I misread the text.", "I misunderstood it.", "I've changed my answer.", "I now think otherwise.", "I meant the other one.",
    "I got it backwards.", "I swapped the labels.", "I guessed.", "I had to guess.", "I picked one at random.", "I doubt it.",
    "I am unsure about this.", "I'm not confident.", "I disagree with this label.", "I would now choose the other label.",
    "That label does not fit.", "That doesn't fit.", "This cannot be right.", "That can't be right.",
    "My previous answer was wrong.", "The label above is incorrect.", "My answer has changed.", "This needs to be corrected.",
    "This answer should be discarded.", "Discard this.", "Disregard the previous line.", "On reflection that is incorrect.",
    "In hindsight that is wrong.", "On second reading, it's the other one.", "The other label fits better.",
    "The other option would be better.", "It is the other way round.", "It's the exact opposite.", "It's reversed.",
    "Quite the contrary.", "On the contrary.", "Far from it.", "Not really.", "Certainly not.", "Not quite.",
    "That was a joke.", "That was a typo.", "That was my first impression.", "This is only a guess.",
    "This is just a placeholder answer.", "This is not my final answer.", "Not my final answer.", "My final answer is different.",
    "The right answer is something else.", "That would be the naive reading, though.", "A naive reader would say so.",
    "That assumes the author is sincere.", "Unless it is sarcasm.", "Assuming the author is sincere.",
    "If the author were sincere.",
    "That is what I would say if the author were sincere.", "It would be a mistake to say so.", "Either label would fit.",
    "Both labels fit.", "None of the labels fits well.", "No label really fits.", "It depends.", "Could be either.",
    "Revised: mixed.", "Corrected: mixed.", "TBD", "To be decided.", "Something went wrong.", "Error: timeout",
    "I was too quick.", "I jumped to conclusions.", "I could be wrong.", "I may be wrong here.", "I probably misread it.",
    "I'm of two minds.", "I made this up.", "I have not read the text.", "Looking at it again, I was mistaken.",
    "Upon further review, I reject this label.", "The second label would be better.", "A different category would fit better.",
    "This label is questionable.", "This is debatable.", "That was premature.", "Do not use this label.", "Cancel that.",
    "Don't trust this answer.", "Ignore my previous message.", "Invalid answer.", "Just a guess.", "I'm guessing here.",
    "No text was given.", "The text was empty, so I invented one.",
    "That verdict was hasty.", "There is no correct label.", "Neither label applies.",
    "Please verify.", "More context is needed.", "Reconsidering.",
]  # fmt: skip
EXPLAINED = [
    "The reviewer did not regret it.", "There is no criticism.", "The reviewer had no complaints.",
    "The author corrected his first impression after the visit.", "The author changed his mind after the second visit.",
    "The reviewer admits that he was wrong about the hotel.", "The plot is reversed.", "The guest wanted to withdraw money.",
    "The reviewer disagrees with the critics and loved it.", "The text mentions a wrong order, which was corrected quickly.",
    "The reviewer doubted it at first but loved it.", "The hotel fixed the mistake.", "The wording is not ambiguous.",
    "I am confident about this.", "The error was corrected by the staff.", "The other actors are good too.",
    "The reviewer guessed the ending but still liked it.", "The book is about a test.", "The author is not being ironic.",
    "I chose this label because the author is happy.", "The other labels do not fit.", "No other label fits.",
    "I did not find any fault.", "I would recommend it.", "I rated it so because of the praise.",
    "This label reflects the praise.",
    "It doesn't get better than this.", "The reviewer would buy another one.", "I hope this helps!",
]  # fmt: skip
FORMS = ["Positive. {}", "The sentiment is positive.\n\n{}", "Answer: positive\n{}", '{{"label": "positive"}}\n{}']


@pytest.mark.parametrize("said", TAKEN_BACK)
def test_answer_that_says_of_itself_that_it_is_not_meant_abstains(said):
    answers = [form.format(said) for form in (*FORMS, "Positive - {}")]
    assert [answer for answer in answers if read(SENTIMENT, answer)[0] != ABSTAIN] == []


@pytest.mark.parametrize("said", EXPLAINED)
def test_explanation_with_words_of_a_takeback_is_read(said):
    assert [answer for form in FORMS if read(SENTIMENT, answer := form.format(said)) != (0, None)] == []


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (("positiv", "negativ"), ABSTAIN, "Positiv. Der Text sagt das Gegenteil.", "Positiv. Der Kunde wäre anderer Meinung."),
        (("positif", "négatif"), ABSTAIN, "Positif. Le texte dit le contraire."),
        (("positivo", "negativo"), ABSTAIN, "Positivo. El texto dice lo contrario.", "Positivo. Il testo dice il contrario."),
        (("positief", "negatief"), ABSTAIN, "Positief. De tekst zegt het tegenovergestelde."),
        (("pozytywny", "negatywny"), ABSTAIN, "Pozytywny. Tekst mówi coś przeciwnego."),
        (("положительный", "отрицательный"), ABSTAIN, "Положительный. Текст говорит об обратном."),
        (("正面", "负面"), ABSTAIN, "正面。评论其实相反。", "正面。作者是在反讽。"),
        (("肯定的", "否定的"), ABSTAIN, "肯定的。レビューの意味は逆です。"),
        (("긍정", "부정"), ABSTAIN, "긍정. 리뷰는 반대입니다."),
        (("إيجابي", "سلبي"), ABSTAIN, "إيجابي. النص يقول العكس."),
        (("olumlu", "olumsuz"), ABSTAIN, "Olumlu. Yorum tam tersini söylüyor."),
        (("nein", "ja"), 0, "Nein, der Text sagt das Gegenteil."),
        (YES_NO, 1, "No, not at all.", "No, definitely not.", "No. The text says the opposite.", "No, quite the opposite.",
         "No. On the contrary, it praises the hotel.", "No, far from it."),
        (YES_NO, ABSTAIN, "Yes, quite the opposite.", "Yes. On the contrary, it praises the hotel.", "Yes, far from it."),
        (("false", "true"), 0, "False. The opposite is the case."),
        (("contradiction", "neutral"), 0, "Contradiction. The premise says the opposite."),
        (("contradiction", "neutral"), 1, "Neutral. It is unclear whether he sleeps.", "Neutral. Both could be true."),
        (SENTIMENT, ABSTAIN, "Positive. The text says the opposite.", "Positive. The right answer is mixed."),
        (SENTIMENT, 0, "Positive. My answer is based on the tone.", "Positive. The classification is based on the tone."),
    ),
)  # fmt: skip
def test_text_that_is_said_to_mean_the_contrary_takes_the_label_back(labels, label, answer):
    check(labels, label, answer)


BESIDE_A_LABEL = [
    '"error": "timeout"', '"error": true', '"errors": ["bad"]', '"error_message": "timeout"', '"refusal": "I cannot"',
    '"refused": true', '"retracted": true', '"wrong": true', '"is_wrong": true', '"negated": true', '"abstain": true',
    '"unsure": true', '"status": "error"', '"status": "failed"', '"success": false', '"valid": false', '"is_correct": false',
    '"applicable": false', '"note": "This is wrong."', '"comment": "Not my final answer."', '"note": "I cannot tell"',
    '"correction": "negative"', '"corrected_label": "negative"', '"revised_label": "negative"', '"actual_label": "negative"',
    '"true_label": "negative"', '"new_label": "negative"', '"is_positive": false', '"positive": false', '"negative": true',
]  # fmt: skip
NO_MATTER = [
    '"error": null', '"error": ""', '"error": false', '"errors": []', '"error": "none"', '"status": "ok"', '"success": true',
    '"refused": false', '"refusal": null', '"negated": false', '"is_negative": false', '"is_positive": true',
    '"alternative_label": "negative"', '"second_best": "negative"', '"previous_label": "negative"', '"wrong_label": "negative"',
    '"rejected_label": "negative"', '"note": "The guest was happy."', '"reason": "The guest says that this is wrong."',
    '"error_rate": 0.1', '"confidence": 0.2', '"corrected_label": "positive"',
]  # fmt: skip


@pytest.mark.parametrize("said", BESIDE_A_LABEL)
def test_object_that_says_that_it_gives_no_answer_abstains(said):
    for answer in (f'{{"label": "positive", {said}}}', f'{{{said}, "label": "positive"}}'):
        check(SENTIMENT, ABSTAIN, answer)


@pytest.mark.parametrize("said", NO_MATTER)
def test_object_with_another_label_aside_or_without_a_fault_is_read(said):
    check(SENTIMENT, 0, f'{{"label": "positive", {said}}}')


@pytest.mark.parametrize(
    ("labels", "label", "answer"),
    table(
        (SENTIMENT, ABSTAIN, '{"alternative_label": "positive"}', '{"error": "no text"}', '{"is_positive": false}'),
        (SENTIMENT, 0, '{"corrected_label": "positive"}', '{"original_label": "negative", "corrected_label": "positive"}'),
        (("toxic", "not toxic"), 1, '{"label": "not toxic", "is_toxic": false}', '{"label": "not toxic", "toxic": false}'),
        (("wrong", "right"), 0, '{"label": "wrong", "error": ""}'),
    ),
)  # fmt: skip
def test_keys_beside_a_label(labels, label, answer):
    check(labels, label, answer)
