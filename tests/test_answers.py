import pytest

from hf_llambert import ABSTAIN, TaskSpec, load_task


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
    "positive, not negative",
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
