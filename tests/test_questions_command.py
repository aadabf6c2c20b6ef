"""Tasks of several questions on the command line."""

import json

import pytest
import yaml
from datasets import Dataset

from hf_llambert import Choice, Choices, Scale, TaskSpec, load_data
from hf_llambert.cli.cascade import below_of
from hf_llambert.cli.gold import gold_column, gold_options, label_columns, prior_of, warn_of_look_alikes
from hf_llambert.cli.lines import figure, quality_lines, unanswered

QUESTIONS = (
    Choice("mood", ("good", "bad"), "Is it {options}?"),
    Choices("about", ("music", "actors"), "What is it about: {options}?"),
    Scale("stars", ("1", "2", "3"), "How many stars?"),
)
TASK = TaskSpec("film", instruction="Review: {text}", questions=QUESTIONS, chat=False)
ONE = TaskSpec("film", instruction="Review: {text}", questions=QUESTIONS[2:], chat=False)
OLD = TaskSpec("old", ("good", "bad"), "{text}")
COLUMNS = ["text", "mood", "gold_a", "stars"]


@pytest.mark.parametrize(
    ("given", "columns", "found"),
    [
        (None, COLUMNS, {"mood": "mood", "stars": "stars"}),
        ("about=gold_a", COLUMNS, {"mood": "mood", "about": "gold_a", "stars": "stars"}),
        ("about=gold_a, mood=none", COLUMNS, {"about": "gold_a", "stars": "stars"}),
        ('"mood=a, b",stars=none', ["text", "a, b", "stars"], {"mood": "a, b"}),
        (None, ["text", "music", "actors"], {"about": ["music", "actors"]}),
        (None, ["text", "label"], None),
        ("none", COLUMNS, None),
        ("mood=none,stars=none", COLUMNS, None),
    ],
)
def test_gold_of_several_questions_is_named_by_them(given, columns, found):
    assert gold_column(given, columns, TASK, quiet=True) == found


def test_gold_of_the_only_question_is_named_plainly_or_by_it():
    for given, columns in ((None, ["stars"]), (None, ["label"]), ("n", ["n", "stars"]), ("stars=n", ["n", "stars"])):
        assert gold_column(given, columns, ONE) == (given or columns[0]).removeprefix("stars=")
    assert gold_column(None, ["stars"], OLD) is None
    assert gold_column("a=b", ["text"], OLD) == "a=b"
    with pytest.raises(ValueError, match="Columns 'stars' and 'label' both"):
        gold_column(None, ["stars", "label"], ONE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "gold_a",
            r"several questions \(mood, about, stars\).*--label_column gold_a .*such as --label_column mood=gold_a",
        ),
        ("mod=gold_a", "no question 'mod'. Did you mean 'mood'"),
        ("mood=gold_b", "Column 'gold_b' not found .* Did you mean 'gold_a'"),
        ("mood=gold_a,mood=stars", "says of 'mood' both 'gold_a' and 'stars'"),
        ("mood=", "says not of which one"),
        ('"mood=a', "Expected QUESTION=NAME"),
    ],
)
def test_wrong_columns_of_gold_are_refused_in_words(given, message):
    with pytest.raises(ValueError, match=message):
        gold_column(given, COLUMNS, TASK)


def test_questions_without_gold_are_warned_of_but_not_those_that_were_said_to_have_none(caplog):
    gold_column("about=none", COLUMNS, TASK)
    assert caplog.text == ""
    gold_column(None, COLUMNS, TASK)
    assert "No column has people's answers to 'about'" in caplog.text


def test_column_that_is_called_nearly_as_a_question_is_hinted_at(caplog):
    warn_of_look_alikes(None, ["text", "Mood"], TASK)
    assert "No column is called 'mood', but 'Mood'. Nothing is measured" in caplog.text
    assert "--label_column mood=Mood" in caplog.text


def test_map_and_values_say_their_question():
    found = gold_options(["mood:+=good", "mood:-=bad", "stars:n/a="], "mood=names", TASK)
    assert found == {
        "label_map": {"mood": {"+": "good", "-": "bad"}, "stars": {"n/a": ""}},
        "label_values": {"mood": "names"},
    }
    assert gold_options(["a:b=good"], "ids", OLD) == {"label_map": {"a:b": "good"}, "label_values": "ids"}
    for pairs, message in (
        (["+=good"], r"says not of which one. Expected QUESTION:VALUE=LABEL, such as mood:\+=good"),
        (["a=b:c"], "says not of which one"),
        (["moood:+=good"], "no question 'moood'. Did you mean 'mood'"),
        (["mood:+"], "takes pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            gold_options(pairs, "auto", TASK)


def test_believed_shares_say_their_question():
    assert prior_of(["mood:good=0.7", "mood:bad=0.3"], TASK) == {"mood": {"good": 0.7, "bad": 0.3}}
    assert prior_of(["good=0.7", "bad=0.3"], OLD) == {"good": 0.7, "bad": 0.3}
    assert prior_of(None, TASK) is None
    for given, message in (
        (
            ["good=0.7"],
            r"--prior good=0.7 says not of which one. Expected QUESTION:LABEL=SHARE, such as mood:good=0.7",
        ),
        (["mood:good=much"], "--prior takes a share for each label"),
        (["moood:good=1"], "no question 'moood'"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_of(given, TASK)


def test_threshold_of_the_cascade_is_one_for_all_or_says_its_question():
    every = {"mood": 0.7, "about": 0.5, "stars": 0.0}
    assert below_of(["mood=0.7", "about=0.5", "stars=0"], TASK) == every
    assert below_of(["mood=0.7,about=.5", "stars=0"], TASK) == every
    assert below_of(["0.7"], TASK) == 0.7
    assert below_of(["stars=0.7"], ONE) == below_of(["0.7"], ONE) == 0.7
    for given, message in (
        (["mood=0.7"], "no threshold of about, stars.*Give 0 to ask never"),
        (["moood=0.7"], "no question 'moood'. Did you mean 'mood'"),
        (["0.7", "mood=0.5"], "--ask_teacher_below 0.7,mood=0.5 says not of which one"),
        (["0.7", "0.5"], "takes confidences from 0 to 1, .* got '0.7,0.5'"),
        (["mood=7", "about=0", "stars=0"], "takes confidences from 0 to 1, .* got '7'"),
    ):
        with pytest.raises(ValueError, match=message):
            below_of(given, TASK)


def test_names_are_read_from_files_as_they_are_written():
    assert label_columns("mood=gold_a,stars=s", TASK) == ["gold_a"]
    assert label_columns(None, TASK) == ["mood"]
    assert label_columns(None, ONE) == []
    assert label_columns(None, OLD) == ["label"]


def test_figure_without_a_value_says_why():
    assert figure({"spearman": None, "undefined": {"spearman": "all gold are one number"}}, "spearman") == (
        "none (all gold are one number)"
    )
    assert (
        figure({"micro_f1": 0.5, "micro_f1_low": 0.25, "micro_f1_high": 0.75}, "micro_f1") == "0.500 (0.250 to 0.750)"
    )


def test_question_that_nobody_answered_is_named():
    assert unanswered({"questions": {"mood": {"n_ok": 1}, "about": {"n_ok": 0}}}) == (
        "No text got an answer to about; the reasons stand above."
    )
    assert unanswered({"n_ok": 0}) == "No text got a label; the reasons stand above."
    assert unanswered({"n_ok": 3}) is None


def test_question_that_was_not_measured_says_so():
    scale = {"spearman": 0.8, "spearman_low": 0.7, "spearman_high": 0.9, "mae": 0.25, "n": 12}
    choice = {
        "accuracy": 0.5,
        "accuracy_low": 0.4,
        "accuracy_high": 0.6,
        "macro_f1": 0.5,
        "n": 9,
        "macro_f1_classes": ["good"],
    }
    assert list(quality_lines({"mood": choice, "stars": scale}, TASK)) == [
        "mood: accuracy 50.0% (40.0% to 60.0%), macro-F1 0.500 on 9 held-out texts (over 1 of 2 classes)",
        "about: not measured, no held-out text has people's answers to it",
        "stars: Spearman 0.800 (0.700 to 0.900), MAE 0.250 on 12 held-out texts",
    ]


@pytest.fixture
def film(tmp_path):
    """A task of three questions and thirty rows with gold, as JSON lines and as CSV."""
    TASK.to_yaml(tmp_path / "film.yaml")
    good, bad = "the actors were wonderful", "the music was awful and dull"
    rows = [
        {
            "text": f"{(good, bad)[i % 2]} number {i}",
            "mood": ("good", "bad")[i % 2],
            "about": [("actors", "music")[i % 2]] if i % 3 else [],
            "stars": (3, 1.5)[i % 2],
        }
        for i in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Dataset.from_list([{**row, "about": "|".join(row["about"]) or "[]"} for row in rows]).to_csv(tmp_path / "rows.csv")
    return tmp_path


@pytest.mark.parametrize("data", ["rows.jsonl", "rows.csv"])
def test_annotate_says_a_line_for_each_question(film, typed, teacher_dir, data):
    shown = typed(
        "annotate", "--task", film / "film.yaml", "--data", film / data, "--teacher", teacher_dir,
        "--output", film / "run", "--num_rows", 20,
    )  # fmt: skip
    assert "20 texts, 3 questions" in shown
    assert "mood: 20 ok, 0 abstained, 0 failed. Labels: " in shown
    for name, what in (("mood", ""), ("about", "micro-F1 "), ("stars", "Spearman ")):
        assert f"{name}: agreement with gold {what}" in shown
    shown = typed("status", film / "run", expect=3)
    assert "mood: 20 ok, agreement with gold " in shown
    assert "stars: 20 ok, agreement with gold Spearman " in shown
    note = json.loads((film / "run/annotated/stage.json").read_text())
    assert note["config"]["gold_column"] == {"mood": "mood", "about": "about", "stars": "stars"}
    assert note["results"]["questions"]["about"]["quality"]["n"] == 20
    assert load_data(film / "run").num_rows == 20


def test_train_says_a_line_for_each_question_and_status_knows_them(film, typed, student_dir):
    shown = typed(
        "train", "--task", film / "film.yaml", "--gold", film / "rows.csv", "--eval_data", film / "rows.jsonl",
        "--label_column", "stars=none", "--student", student_dir, "--output", film / "run", "--use_cpu", "True",
        "--num_train_epochs", 1, "--max_length", 16, "--report_to", "none", expect=1,
    )  # fmt: skip
    assert "stars" in shown  # nobody says what it is to learn of that question
    shown = typed(
        "train", "--task", film / "film.yaml", "--gold", film / "rows.csv", "--eval_data", film / "rows.jsonl",
        "--student", student_dir, "--output", film / "run", "--use_cpu", "True", "--num_train_epochs", 1,
        "--max_length", 16, "--report_to", "none",
    )  # fmt: skip
    for beginning in ("mood: accuracy ", "about: micro-F1 ", "stars: Spearman "):
        line, worth = [line for line in shown.splitlines() if line.startswith(beginning)]
        assert line.endswith("on 30 held-out texts")
        assert "by counting words" in worth
    typed("label", "--student", film / "run", "--data", film / "rows.csv", "--output", film / "run")
    shown = typed("status", film / "run", expect=3)
    assert "held-out texts: mood accuracy " in shown
    assert "stars Spearman " in shown


def test_asking_apart_is_another_way_of_asking(film, typed, teacher_dir):
    asked = (Choice("a", ("x", "y"), "A?"), Scale("b", ("1", "2"), "B?"))
    TaskSpec("short", instruction="{text}", questions=asked, chat=False).to_yaml(film / "short.yaml")
    arguments = ("annotate", "--task", film / "short.yaml", "--data", film / "rows.jsonl", "--teacher", teacher_dir)
    more = ("--mode", "generate", "--num_rows", 2, "--label_column", "none")
    shown = typed(*arguments, "--output", film / "together", *more, expect=1)
    assert "No text got an answer to a, b; the reasons stand above." in shown
    typed(*arguments, "--output", film / "apart", *more, "--ask_apart", expect=1)
    together, apart = (
        json.loads((film / name / "annotated/stage.json").read_text()) for name in ("together", "apart")
    )
    assert "ask_apart" not in together["config"]
    assert apart["config"]["ask_apart"] is True
    assert together["config"]["gold_column"] is None


def test_prior_moves_what_several_labels_are(film, typed, teacher_dir):
    asked = (
        "annotate",
        "--task",
        film / "film.yaml",
        "--data",
        film / "rows.jsonl",
        "--teacher",
        teacher_dir,
        "--num_rows",
        9,
    )
    for share in (0.01, 0.99):
        priors = [word for label in ("music", "actors") for word in ("--prior", f"about:{label}={share}")]
        typed(*asked, "--output", film / str(share), *priors, "--ledger", film / "ledger")
    few, many = (sum(map(len, load_data(film / str(share))["llm_about_labels"])) for share in (0.01, 0.99))
    assert few < 5 < many


def test_misspelt_question_is_refused_before_anybody_is_asked(film, typed, teacher_dir):
    asked = ("annotate", "--task", film / "film.yaml", "--data", film / "rows.jsonl", "--teacher", teacher_dir)
    shown = typed(*asked, "--output", film / "run", "--label_column", "mod=mood", expect=1)
    assert "Error: Task 'film' has no question 'mod'. Did you mean 'mood'?" in shown
    data = yaml.safe_load((film / "film.yaml").read_text())
    data["questions"][0]["knd"] = data["questions"][0].pop("kind")
    (film / "wrong.yaml").write_text(yaml.safe_dump(data))
    shown = typed("annotate", "--task", film / "wrong.yaml", *asked[3:], "--output", film / "run", expect=1)
    assert "key 'kind' is missing, one of choice, choices, scale. Is 'knd' meant?" in shown
    assert not (film / "run").exists()


def test_init_writes_a_file_of_several_questions_that_is_a_task(typed, tmp_path):
    shown = typed("init", "--questions", "--output", tmp_path / "mine.yaml", "--instruction", "Title: {title}\n{text}")
    assert "change its questions to yours" in shown
    assert f"next: hf-llambert run {tmp_path / 'mine.yaml'} --data DATA" in shown
    task = TaskSpec.from_yaml(tmp_path / "mine.yaml")
    assert [one.question.kind for one in task.parts.values()] == ["choice", "choices", "scale"]
    assert (task.name, task.fields) == ("mine", ("title", "text"))
    shown = typed("init", "--questions", "--labels", "a,b", "--output", tmp_path / "other.yaml", expect=1)
    assert "--labels are of a task of one question" in shown
    shown = typed("init", "--questions", "--instruction", "{text} {topic}", "--output", tmp_path / "o.yaml", expect=1)
    assert "question 'topic' is called as a field" in shown
    assert not (tmp_path / "o.yaml").exists()
