import random
import time

import pytest

from hf_llambert import ABSTAIN, TaskSpec, load_task
from hf_llambert.tasks.answers import LONGEST_ANSWER


@pytest.fixture(scope="module")
def sentiment():
    return TaskSpec(name="t", labels=("negative", "positive"), instruction="{text}")


@pytest.fixture(scope="module")
def yes_no():
    return load_task("umls-neuro")


@pytest.fixture(scope="module")
def news():
    return TaskSpec(
        name="n",
        labels=("human_interest", "sport", "science fiction"),
        instruction="{text}",
        verbalizers=(("human interest",), ("sport", "sports"), ("science fiction", "sci-fi")),
    )


POSITIVE = [
    "positive",
    "Positive.",
    " POSITIVE!!! ",
    "**Positive**",
    "_positive_",
    "`positive`",
    '"positive"',
    "“Positive”",
    "'positive'",
    "<b>positive</b>",
    "<label>Positive</label>",
    "\\boxed{positive}",
    "ｐｏｓｉｔｉｖｅ",
    "pos\u200bitive",
    "- positive",
    "Answer: positive",
    "The sentiment of this review is positive.",
    'The answer is "positive".',
    "Sure! I would say this review is clearly positive, as the author enjoyed every minute.",
    '{"label": "positive"}',
    '```json\n{"label": "Positive", "reason": "not negative at all"}\n```',
    'Here you go: {"sentiment": "positive", "confidence": 0.9}',
    '["positive"]',
    '{"positive"}',
    "Label: positive\nReason: it is anything but negative.",
    "<think>Is it negative? It is not.</think>\npositive",
    "It is not bad, but positive.",
    "Positive 😀",
]
NONE = [
    "",
    "   ",
    "I cannot tell.",
    "mixed",
    "Mixed, leaning positive",
    "not positive",
    "Not really all that positive",
    "The review isn't positive.",
    "It is hardly positive",
    "I don't think that this review is positive",
    "The review is anything but positive.",
    "non-positive",
    "nonpositive",
    "positively",
    "positivenegative",
    "positive or negative",
    "not negative, positive",
    "neither positive nor negative",
    "Positive\nNegative",
    "Answer: positive\nFinal answer: negative",
    'The reviewer says "a positive delight" at the end.',
    'The review mentions the word "positive".',
    'The author calls it "positive"',
    '{"label": "positive", "label": "negative"}',
    '{"label": "not positive"}',
    '{"positive": 0.9, "negative": 0.1}',
    '{"label": ["positive", "negative"]}',
    '{"label": true}',
    "<think>it looks positive",
    "It is unclear whether it is positive",
    "positive is wrong",
    "positive? It isn't.",
    "[" * 100_000,
    '{"positive": false}',
    '{"positive": 0.02}',
    "{'positive': 0.1}",
    "positive: 0.1",
    "Positive? No.",
    "positive: false",
    "Positive can be ruled out.",
    "positive is unlikely",
    "positive can't be right",
    "~~positive~~",
    "[ ] positive",
    "There is nothing positive about it.",
    "The opposite of positive.",
    "I doubt it is positive",
    "It isnt positive",
    "There are no redeeming or otherwise noteworthy or remarkable or memorable positive aspects",
    "I am positive that this review hates the movie.",
    "It's difficult to say if the review is positive.",
    "a false positive",
    "Positive about the acting, but overall",
    "Okay, it looks positive at first.\n</think>\n\nIt is bad.",
    '{"label": "positive"} {"label": "negative"}',
    "The film fails to be positive",
    "It would be wrong to call it positive",
]


@pytest.mark.parametrize("response", POSITIVE)
def test_answer_naming_one_label_is_read(sentiment, response):
    assert sentiment.parse(response) == 1


@pytest.mark.parametrize("response", NONE)
def test_answer_not_clearly_naming_one_label_abstains(sentiment, response):
    label, reason = sentiment.read(response)
    assert label == ABSTAIN
    assert reason


def test_no_answer_at_all_abstains(sentiment):
    assert sentiment.parse(None) == ABSTAIN


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("no", 0),
        ("No, it does not.", 0),
        ("Yes.", 1),
        ("yes - it is a nucleus", 1),
        ("yes and no", ABSTAIN),
        ("nothing", ABSTAIN),
        ("Not yes", ABSTAIN),
        ("No idea.", ABSTAIN),
        ("I have no information about this", ABSTAIN),
        ("No, I cannot answer that.", ABSTAIN),
        ("No problem! It is part of the brain.", ABSTAIN),
        ("The answer is no.", 0),
    ],
)
def test_labels_that_are_negations_themselves(yes_no, response, label):
    assert yes_no.parse(response) == label


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("Human-Interest", 0),
        ("human_interest", 0),
        ("Category: human  interest", 0),
        ("sports", 1),
        ("sportsmanship", ABSTAIN),
        ("Sci-Fi", 2),
        ("science", ABSTAIN),
        ("human", ABSTAIN),
    ],
)
def test_labels_of_several_words(news, response, label):
    assert news.parse(response) == label


def test_label_that_contains_another_is_not_read_as_it():
    task = TaskSpec(name="t", labels=("business", "business news"), instruction="{text}")
    assert task.parse("business news") == 1
    assert task.parse("business") == 0


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("4", 3),
        ("Rating: 4", 3),
        ("4.", 3),
        ("4.7", -1),
        ("3/10", -1),
        ("0.5", -1),
        ("5%", -1),
        ("3½", -1),
        ("4, clearly", 3),
    ],
)
def test_digits_are_labels_only_where_they_are_whole_numbers(response, label):
    assert TaskSpec(name="t", labels=("1", "2", "3", "4", "5"), instruction="{text}").parse(response) == label


@pytest.mark.parametrize(
    ("response", "label"), [("A", 0), ("B.", 1), ("Answer: C", 2), ("It is a good film", -1), ("(b)", 1)]
)
def test_letters_are_labels_only_where_they_stand_alone(response, label):
    assert TaskSpec(name="t", labels=("A", "B", "C"), instruction="{text}").parse(response) == label


def task_of(*labels):
    return TaskSpec(name="t", labels=labels, instruction="{text}")


READ = {
    ("positiv", "negativ"): [
        "Die Bewertung ist positiv.",
        "Antwort: **positiv**",
        "Diese Rezension ist eindeutig positiv.",
        "Sehr positiv!",
        "Ich würde die Bewertung als positiv einstufen.",
        "Gerne! Die Stimmung ist positiv.",
        "Positiv, weil der Gast wiederkommen will.",
        "Recensionen är positiv.",
        "Anmeldelsen er positiv.",
        "Omtalen er positiv",
        "positiv\n\nBegründung: Das Essen war heiß.",
    ],
    ("positif", "négatif"): ["L'avis est positif.", "Le sentiment est positif", "Réponse : positif", "Yorum positif."],
    ("positivo", "negativo"): [
        "La respuesta es positivo.",
        "Sentimiento: positivo",
        "A resposta é positivo.",
        "O sentimento é positivo",
        "La recensione è positivo.",
        "Respuesta: «positivo»",
    ],
    ("positief", "negatief"): ["De recensie is positief.", "Het sentiment is duidelijk positief"],
    ("pozytywna", "negatywna"): ["Recenzja jest pozytywna.", "Ta opinia jest zdecydowanie pozytywna."],
    ("положительный", "отрицательный"): [
        "Этот отзыв положительный.",
        "Ответ: положительный",
        "Отзыв — положительный.",
    ],
    ("olumlu", "olumsuz"): ["Bu yorum olumlu.", "Cevap: olumlu", "Bu olumlu bir yorumdur."],
    ("إيجابي", "سلبي"): ["التقييم إيجابي.", "الإجابة: إيجابي", "هذا التعليق إيجابي"],
    ("חיובי", "שלילי"): ["התשובה היא חיובי.", "חיובי"],
    ("正面", "负面"): [
        "正面。",
        "这条评论是正面的。",
        "该评论的情感倾向为正面。",
        "答案是正面",
        "根据评论内容，情感倾向是正面。",
        "情感：正面",
        "答案：「正面」",
        "这是一条正面评论。",
        "正面，因为顾客很满意。",
        "这条评论的情感是正面的。",
    ],
    ("ポジティブ", "ネガティブ"): [
        "この レビューは ポジティブ です。",
        "このレビューはポジティブです。",
        "答え：ポジティブ",
        "ポジティブなレビューです。",
    ],
    ("긍정", "부정"): ["이 리뷰는 긍정입니다.", "정답: 긍정", "리뷰의 감정은 긍정적입니다.", "긍정입니다"],
    ("เชิงบวก", "เชิงลบ"): ["รีวิวนี้เป็นเชิงบวก", "คำตอบคือเชิงบวก", "เชิงบวก"],
}
DENIED = {
    ("positiv", "negativ"): [
        "Die Bewertung ist nicht positiv.",
        "Keineswegs positiv.",
        "Die Bewertung ist alles andere als positiv.",
        "Positiv ist das nicht.",
        "Positiv. Nein.",
        "Positiv? Nein.",
        "Wohl kaum positiv",
        "Recensionen är inte positiv.",
        "Anmeldelsen er ikke positiv.",
        "Nu este positiv.",
    ],
    ("positif", "négatif"): [
        "Cet avis n'est pas positif.",
        "Pas du tout positif",
        "Ulasan ini tidak positif.",
        "Positif. Bukan.",
    ],
    ("positivo", "negativo"): [
        "La reseña no es positiva ni positivo",
        "La respuesta no es positivo.",
        "A avaliação não é positivo",
        "Il commento non è positivo.",
        "Nada positivo",
        "Tampoco positivo",
    ],
    ("positief", "negatief"): ["De recensie is niet positief.", "Geenszins positief."],
    ("pozytywna", "negatywna"): ["Recenzja nie jest pozytywna.", "Bynajmniej pozytywna", "To nie pozytywna"],
    ("положительный", "отрицательный"): ["Отзыв не положительный.", "Вовсе не положительный", "Положительный? Нет."],
    ("olumlu", "olumsuz"): ["Bu yorum olumlu değil.", "Olumlu değildir."],
    ("إيجابي", "سلبي"): ["التقييم ليس إيجابي.", "هذا التعليق غير إيجابي"],
    ("חיובי", "שלילי"): ["התשובה לא חיובי.", "הביקורת אינה חיובי"],
    ("正面", "负面"): [
        "这条评论不是正面的。",
        "不正面",
        "并非正面。",
        "这条评论是正面的吗？",
        "正面。不对。",
        "谈不上正面",
    ],
    ("ポジティブ", "ネガティブ"): [
        "このレビューはポジティブではありません。",
        "ポジティブじゃない",
        "ポジティブとは言えない",
    ],
    ("긍정", "부정"): ["이 리뷰는 긍정이 아닙니다.", "긍정적이지 않습니다", "비긍정"],
    ("เชิงบวก", "เชิงลบ"): ["รีวิวนี้ไม่เป็นเชิงบวก", "ไม่ใช่เชิงบวก"],
    ("positive", "negative"): [
        "La reseña no es positive",
        "评论不是positive",
        "这条评论不是 positive 的",
        "nicht positive",
        "pas positive",
        "non positive",
        "ikke positive",
        "Definitely nicht positive",
        "The review is nicht positive.",
        "The review is 不 positive",
        "ei ole positive",
        "nem positive",
        "Отзыв не positive",
        "レビューはpositiveではない",
        "Sentimen: tidak positive",
    ],
}


def each(cases):
    return [(labels, answer) for labels, answers in cases.items() for answer in answers]


@pytest.mark.parametrize(("labels", "answer"), each(READ))
def test_known_frame_of_another_language_is_read(labels, answer):
    assert task_of(*labels).read(answer) == (0, None)


@pytest.mark.parametrize(("labels", "answer"), each(DENIED))
def test_denial_in_another_language_abstains(labels, answer):
    label, reason = task_of(*labels).read(answer)
    assert label == ABSTAIN
    assert reason


@pytest.mark.parametrize("answer", ["评论是positive的", "Die Bewertung ist positive.", "この評価はpositiveです"])
def test_english_label_in_a_frame_of_another_language_is_read(sentiment, answer):
    assert sentiment.read(answer) == (1, None)


@pytest.mark.parametrize(
    "answer",
    [
        "The author praises the acting, the café and the naïve charm; in the end this is a positive review.",
        "Positive - great food, nice service",
        "Positive. Great food!",
        "Based on the text, the sentiment is:\n\n**Positive**",
        "Sentiment: Positive\nConfidence: high",
        "Positive\n\nThe review says that Robert De Niro was never better.",
        "Definitely positive",
        "I'd go with positive here.",
        "The point of La La Land is that sin pays, and the review is positive.",
        "Positive.<|im_end|>",
        "The overall tone is positive because the customer, who came twice, would return.",
        "Overall sentiment: positive",
    ],
)
def test_english_explanations_are_read(sentiment, answer):
    assert sentiment.read(answer) == (1, None)


GRADES = ("A+", "A", "A-", "B", "C")
CODE = ("C", "C++", "Java")


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (GRADES, "The grade is A-.", 2),
        (GRADES, "Grade: A-", 2),
        (GRADES, "The grade is A.", 1),
        (GRADES, "a+", 0),
        (GRADES, "**A+**", 0),
        (GRADES, "A\u2212", 2),
        (GRADES, "I would give this essay an A+ because it is clear.", 0),
        (GRADES, "B+", ABSTAIN),
        (GRADES, "The grade is B-.", ABSTAIN),
        (GRADES, "A or A-", ABSTAIN),
        (GRADES, '{"grade": "A-"}', 2),
        (CODE, "C#", ABSTAIN),
        (CODE, "The language is C#.", ABSTAIN),
        (CODE, "C++", 1),
        (CODE, "This is C++.", 1),
        (CODE, "C", 0),
        (CODE, "C/C++", ABSTAIN),
        (CODE, "Objective-C", ABSTAIN),
        (CODE, "JavaScript", ABSTAIN),
        (CODE, "`C++`", 1),
        (("C", "C++", "C#", "F#"), "The language is C#.", 2),
        (("C", "C++", "C#", "F#"), "c#", 2),
        (("A*", "A", "B"), "A*", 0),
        (("A*", "A", "B"), "*A*", 1),
        (("A", "B"), "A*", ABSTAIN),
        (("sci/tech", "tech", "sport"), "Sci / Tech", 0),
        (("sci/tech", "tech", "sport"), "The topic is sci/tech.", 0),
        (("sci/tech", "tech", "sport"), "tech", 1),
        (("tech", "sport"), "Sci / Tech", ABSTAIN),
        (("tech", "sport"), "The topic is sci/tech.", ABSTAIN),
        (("climate change", "climate change denial", "sport"), "Climate change denial", 1),
        (("climate change", "climate change denial", "sport"), "climate change", 0),
        (("climate change", "sport"), "climate change denial", ABSTAIN),
        (("tech", "sport"), "Science & tech", ABSTAIN),
        (("<5", ">5", "5"), "<5", 0),
        (("1", "2"), ">1", ABSTAIN),
        (("满意", "不满意"), "这条评论是不满意的。", 1),
        (("是", "否"), "是否", ABSTAIN),
        (("是", "否"), "不是", ABSTAIN),
        (("是", "否"), "是的", 0),
        (("好", "不好"), "不太好", ABSTAIN),
    ],
)
def test_labels_that_differ_by_symbols_or_contain_each_other(labels, answer, label):
    assert task_of(*labels).parse(answer) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("-1", 0),
        ("\u22121", 0),
        ("\u2013 1", ABSTAIN),
        ("\u2212 1", 0),
        ("\u20111", 0),
        ("\uff0d1", 0),
        ("Sentiment: \u22121", 0),
        ("The sentiment is -1.", 0),
        ("The stance is \u22121", 0),
        ('{"stance": -1}', 0),
        ("0", 1),
        ("1", 2),
        ("+1", 2),
        ("- 1", ABSTAIN),
        ("1.5", ABSTAIN),
        ("-1.5", ABSTAIN),
        ("10", ABSTAIN),
        ("-10", ABSTAIN),
        ("0-1", ABSTAIN),
    ],
)
def test_numbers_below_zero_keep_their_sign(answer, label):
    assert task_of("-1", "0", "1").parse(answer) == label


@pytest.mark.parametrize("answer", ["\u22121", "\u20121", "\u20141", "-1", "The answer is \u22121."])
def test_number_below_zero_is_never_the_one_above(answer):
    assert task_of("1", "2").parse(answer) == ABSTAIN


STARS = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (STARS, '{"rating": 1}', 0),
        (STARS, '{"label": 4}', 3),
        (STARS, '{"label": 5.0, "reason": "great"}', 4),
        (STARS, '{"stars": 3, "confidence": 1}', 2),
        (STARS, '{"label": 4.5}', ABSTAIN),
        (STARS, '{"label": 50}', ABSTAIN),
        (STARS, '{"label": -1}', ABSTAIN),
        (STARS, '{"label": null}', ABSTAIN),
        (STARS, '{"confidence": 1}', ABSTAIN),
        (STARS, '{"label": 1e999}', ABSTAIN),
        (STARS, '{"label": [1, 2]}', ABSTAIN),
        (STARS, '{"label": {"value": 1}}', ABSTAIN),
        (STARS, '{"label": ' + "1" * 9000 + "}", ABSTAIN),
        (("true", "false"), '{"label": true}', 0),
        (("true", "false"), '{"label": false}', 1),
        (("False", "True"), '```json\n{"label": true}\n```', 1),
        (("no", "yes"), '{"label": true}', ABSTAIN),
        (("0", "1"), '{"label": true}', ABSTAIN),
        (("0", "1"), '{"positive": true}', ABSTAIN),
        (("null", "x"), '{"label": null}', ABSTAIN),
        (("positiv", "negativ"), '{"label": "nicht positiv"}', ABSTAIN),
    ],
)
def test_numbers_and_booleans_of_json_are_answers(labels, answer, label):
    assert task_of(*labels).parse(answer) == label


@pytest.mark.parametrize(
    "thought",
    [
        "[THINK]Is it negative? It is.[/THINK]",
        "<think>negative</think>",
        "<thought>negative</thought>",
        "<thinking time='3'>negative</thinking>",
        "<reasoning>\nnegative\n</reasoning>\n",
        "<seed:think>negative</seed:think>",
        "\u25c1think\u25b7negative\u25c1/think\u25b7",
        "<|channel|>analysis<|message|>negative<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|START_THINKING|>negative<|END_THINKING|>",
        "analysisThe text sounds negative.assistantfinal",
        "<unused94>thought\nnegative<unused95>",
        "negative, it seems.</think>",
    ],
)
def test_thoughts_are_no_answer(sentiment, thought):
    assert sentiment.read(thought + "positive") == (1, None)
    assert sentiment.parse(thought) == ABSTAIN


@pytest.mark.parametrize(
    "answer",
    [
        "[THINK]It is positive",
        "<reasoning>positive",
        "positive <think>or",
        "<|channel|>analysis<|message|>positive",
        "analysisPositive.",
    ],
)
def test_thought_left_open_leaves_nothing(sentiment, answer):
    assert sentiment.parse(answer) == ABSTAIN


def test_label_before_its_reasoning_is_read(sentiment):
    assert sentiment.parse("<label>positive</label><reasoning>It is not negative.</reasoning>") == 1


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('{"label": "positive"}', 1),
        (' {"label":"negative"}\n', 0),
        ("positive", 1),
        ('<think>negative</think>{"label": "positive"}', 1),
        ("Positive", ABSTAIN),
        ("It is positive.", ABSTAIN),
        ('{"label": "Positive"}', ABSTAIN),
        ('{"label": "positive."}', ABSTAIN),
        ('{"label": "positive", "label": "negative"}', ABSTAIN),
        ('{"label": "positive", "also": "negative"}', ABSTAIN),
        ('{"sentiment": "positive"}', ABSTAIN),
        ('{"label": 1}', ABSTAIN),
        ('{"label": ["positive"]}', ABSTAIN),
        ('[["label", "positive"]]', ABSTAIN),
        ('{"label": "posi', ABSTAIN),
        ('"positive"', ABSTAIN),
        ("[" * 100_000, ABSTAIN),
        ("", ABSTAIN),
    ],
)
def test_structured_answer_is_exactly_a_label_or_none(sentiment, answer, label):
    read, reason = sentiment.read(answer, structured=True)
    assert read == label
    assert (reason is None) == (label != ABSTAIN)


@pytest.mark.parametrize(
    "piece",
    ["positive: ", "positive ", "(", "[{", "{", '{"a":', '"', "'", "'a ", "`", "not ", "not positive ", "but positive ", 
     "the answer is ",
     "<b>", "<b ", "[THINK]", "<think ", "</think>", "<|", "\n", " ", "*", "**a", "-", "正面", "不", "a.", "x" * 50 + " ",
     "\u2212", "1", "\ufdfa"],
)  # fmt: skip
@pytest.mark.parametrize("size", [19_900, 100_000])
def test_reading_is_linear(sentiment, piece, size):
    answer = (piece * size)[:size]
    start = time.perf_counter()
    sentiment.read(answer)
    sentiment.read(answer, structured=True)
    assert time.perf_counter() - start < 2


def test_answer_that_is_too_long_to_read_abstains(sentiment):
    label, reason = sentiment.read("positive" + " and so on" * LONGEST_ANSWER)
    assert label == ABSTAIN
    assert "20,000 characters" in reason
    assert sentiment.parse("<think>" + "hm " * LONGEST_ANSWER + "</think>positive") == 1


def test_reading_never_raises():
    draw = random.Random(7)
    tasks = [
        task_of("negative", "positive"),
        task_of("-1", "0", "1"),
        task_of("A+", "A", "C#"),
        task_of("正面", "负面"),
    ]
    pieces = ["positive", "not", "\ud800", "\x00", "\x1b[31m", "{", "}", "[", "]", '"', ":", "label", "<think>", "</think>",
              "1e999", "true", "\u2212", "1", "A+", "正面", "是", "的", "。", "\u202e", "\n", " ", "'", "`", "*", 
              "\U0010ffff", "the"]  # fmt: skip
    for _ in range(2000):
        answer = "".join(draw.choices(pieces, k=draw.randrange(1, 12)))
        answer += chr(draw.randrange(0x110000))
        for task in tasks:
            for structured in (False, True):
                label, reason = task.read(answer, structured=structured)
                assert (reason is None) == (label in range(task.num_labels))


def test_lone_surrogates_and_control_characters_do_not_matter(sentiment):
    assert sentiment.parse("positive\ud83d") == 1
    assert sentiment.parse("\x1b[1mpositive\x1b[0m") in (1, ABSTAIN)


LANGUAGES = ("C", "C++", "C#")


@pytest.mark.parametrize(
    "answer", ['"C#"', "**C#**", "`C#`", "(C#)", "[C#]", "C#.", "# C#", "C#**", '"**C#**"', "C #"]
)
def test_symbol_of_a_label_survives_marks_around_it(answer):
    assert task_of(*LANGUAGES).parse(answer) == 2


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (("A*", "A"), '"A*"', 0),
        (("A*", "A"), "A*.", 0),
        (("A*", "A"), "**A**", 1),
        (("<5", "5", ">5"), '"<5"', 0),
        (("<5", "5", ">5"), "**>5**", 2),
        (("<5", "5", ">5"), "(<5)", 0),
        (("5", "6"), "<5>", 0),
        (("<5", "5", ">5"), "<5>", ABSTAIN),
        (("<5", "5", ">5"), "> 5", ABSTAIN),
        ((">=5", "<5"), "<=5", ABSTAIN),
        ((">=5", "<5"), "=5", ABSTAIN),
        ((">=5", "<5"), ">=5", 0),
        (("4", "5"), "<=5", ABSTAIN),
        (("p->q", "p"), "p- >q", 0),
        (("a...b", "b"), "a.. .b", 0),
        (LANGUAGES, "C + +", 1),
        (LANGUAGES, "C+ +", 1),
        (("true", "mostly true"), "mostly\u2011true", 1),
        (("vax", "other"), "anti\u2010vax", ABSTAIN),
        (("related", "other"), "It is un\u2011related.", ABSTAIN),
        (("18-64", "64"), "18\u201164", 0),
        (("18", "64"), "18\u201364", ABSTAIN),
    ],
)
def test_symbols_hyphens_and_blanks_tell_labels_apart(labels, answer, label):
    assert task_of(*labels).parse(answer) == label


@pytest.mark.parametrize("apostrophe", ["\u00b4", "`", "\u02bc", "\u2032", "\u2019", "'", ""])
@pytest.mark.parametrize("verb", ["is", "ai"])
def test_negation_is_seen_with_any_apostrophe(apostrophe, verb):
    assert task_of("toxic", "harmless").parse(f"It {verb}n{apostrophe}t toxic") == ABSTAIN


@pytest.mark.parametrize("mark", ["<|thinking|>", "<\uff5cthink\uff5c>", "< think >", "<scratch_pad>"])
def test_unusual_mark_of_a_thought_left_open_leaves_nothing(sentiment, mark):
    assert sentiment.parse(f"{mark}positive") == ABSTAIN


def test_symbols_and_blanks_in_any_order_never_raise():
    draw = random.Random(3)
    tasks = [task_of(*LANGUAGES), task_of("p->q", "a...b", "p"), task_of("A*", "A", "A-"), task_of("<5", "5", ">=5")]
    for _ in range(3000):
        answer = "".join(draw.choices("CpqabA5+#*-<>=./ \t\n()'\"", k=draw.randrange(1, 9)))
        for task in tasks:
            for text in (answer, f"The answer is {answer} here."):
                label, reason = task.read(text)
                assert (reason is None) == (label in range(task.num_labels))


@pytest.mark.parametrize(
    "answer",
    [
        "Wrong: positive",
        "It is incorrect, misleading and untrue that it is positive",
        "Anything except positive.",
        "Everything but positive.",
        "It is all but positive",
        "I rejected positive",
        "I would rule out positive.",
        "Avoid positive",
        "I refuse to say positive",
        "The least likely label is positive.",
        "I lean away from positive",
        "It is the antithesis of positive",
        "It would be a stretch to say positive",
        "Not: positive",
        "Not... positive",
        "not; positive",
        "Positive, not!",
        "Positive... NOT",
        "Positive (nope)",
        "Positive would be misleading.",
        "Positive should be excluded.",
        "Positive is ruled out",
        "Positive. This is not correct.",
        "Positive. Wrong!",
        "Positive. That would be the wrong answer.",
        "Positive. Actually, scratch that.",
        "Positive. Just kidding.",
        "Positive. Correction: it is mixed.",
        "Positive. Edit: wrong label",
        "Answer: positive\nNo wait, that is wrong.",
    ],
)
def test_english_denial_before_or_after_a_label_abstains(sentiment, answer):
    assert sentiment.parse(answer) == ABSTAIN


@pytest.mark.parametrize(
    "answer",
    [
        "Positive. Not a single complaint was made.",
        "Positive. No complaints, the food was right.",
        "Positive. It is true that the soup was cold, but the guest loved it.",
        "Positive. The waiter got the order wrong, but was nice about it.",
        "The review is positive because it is not right to ask for more.",
    ],
)
def test_explanation_with_words_of_denial_is_still_read(sentiment, answer):
    assert sentiment.parse(answer) == 1


@pytest.mark.parametrize(
    "piece",
    [
        "& ",
        "B) ",
        "– ",
        ",  }",
        "if so ",
        "1. ",
        "(",
        ". ",
        ", no",
        " not",
        "*#",
        "<",
        "\n",
        "it is ",
        "wrong ",
        "1 ",
        "- ",
    ],
)
def test_reading_what_follows_a_label_is_linear(sentiment, piece):
    start = time.perf_counter()
    sentiment.read("positive " + (piece * 19_000)[:19_900])
    sentiment.read("positive " + (piece * 19_000)[:19_900] + " positive")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "answer",
    [
        'Not {"label":"positive"}',
        '{"label":"positive"} is wrong',
        '{"label":"positive"}\n\nActually negative',
        '{"label":"positive"} Scratch that.',
        'It is not {"label": "positive"}',
        *(
            f'{{"{key}": "positive"}}'
            for key in ("reasoning", "opposite", "not", "excluded", "text", "input", "is_correct")
        ),
    ],
)
def test_json_denied_by_words_beside_it_or_under_a_key_that_is_no_answer_abstains(sentiment, answer):
    assert sentiment.parse(answer) == ABSTAIN


@pytest.mark.parametrize(
    "answer",
    [
        'The answer is {"label": "positive"}.',
        '{"label": "positive"}\n\nThe review is positive because the guest was happy.',
        'Sure!\n```json\n{"label": "positive"}\n```\nI did not find any fault.',
    ],
)
def test_json_with_words_that_agree_is_read(sentiment, answer):
    assert sentiment.parse(answer) == 1


@pytest.mark.parametrize(
    "answer", ['positive {"x": 1, "y": 2}', 'positive {"confidence": 0.9}', 'positive {"opposite": "x"}']
)
def test_label_beside_json_without_an_answer_abstains(sentiment, answer):
    assert sentiment.parse(answer) == ABSTAIN


@pytest.mark.parametrize(
    "answer",
    [
        "I would rate it 5 out of 10",
        "3 stars out of 10",
        "3 1/2 stars",
        "3 \u00bd stars",
        "4 and a half",
        "The guest waited 3 hours for the food.",
        "There are 4 pools at the hotel.",
        "I think so for 2 reasons.",
        "It is more than 3",
        "The review gives almost 5 stars",
    ],
)
def test_number_that_is_no_grade_abstains(answer):
    assert task_of(*STARS).parse(answer) == ABSTAIN


@pytest.mark.parametrize(
    "answer",
    [
        "4 stars",
        "I would rate this 4.",
        "4 out of 5",
        "I would give it 4 out of 5 stars.",
        "4 stars out of 5",
        "The rating is 4 because the food was great.",
        "Rating: 4 stars",
        "4 - the guest was happy",
        "This is a 4 star review",
    ],
)
def test_grade_in_a_sentence_is_read(answer):
    assert task_of(*STARS).parse(answer) == 3


@pytest.mark.parametrize(
    "frame",
    ["Tone: X", "Subject: X", "Theme: X", "Main topic: X", "Primary category: X", "Mood: X", "Response: X", "Conclusion: X", 
     "I choose X."],
)  # fmt: skip
def test_usual_heads_of_an_answer_are_read(sentiment, frame):
    assert sentiment.parse(frame.replace("X", "Positive")) == 1
    assert sentiment.parse(frame.replace("X", "not positive")) == ABSTAIN
