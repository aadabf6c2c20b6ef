"""The recipe for several languages: nothing held out is read in another language."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

import multilingual
from common import parse_arguments
from hf_llambert import Scale, StudentConfig, TaskSpec, load_task
from hf_llambert.training.trainer import StudentTrainer
from multilingual import MultilingualArguments, grouped, split, tasks_of

RECIPES = Path(__file__).parent.parent / "recipes"
WORDS = {"en": ("good", "dull"), "fr": ("wonderful", "slow")}


def rows(language, n=40, order=None):
    """Reviews of which row `n` says in each language what it says in the other."""
    order = range(n) if order is None else order
    good, bad = WORDS[language]
    texts = [f"{language} number {k} {'very ' * (k % 3)}{(bad, good)[k % 2]}" for k in range(n)]
    return {"text": [texts[k] for k in order], "label": [k % 2 for k in order], "key": [f"k{k}" for k in order]}


def number(text):
    return int(re.search(r"number (\d+)", text)[1])


@pytest.fixture
def make(cloze, student_dir, tmp_path):
    """Arguments of a small run; rows by language in place of the usual ones."""
    cloze.to_yaml(tmp_path / "task.yaml")

    def arguments(given=None, **changes):
        for name, data in (given or {name: rows(name) for name in WORDS}).items():
            Dataset.from_dict(data).to_parquet(str(tmp_path / f"{name}.parquet"))
        names = {name: str(tmp_path / f"{name}.parquet") for name in given or WORDS}
        base = {"languages": names, "tasks": dict.fromkeys(names, str(tmp_path / "task.yaml")), "num_held_out": 10}
        base |= {"run": str(tmp_path / "run"), "student": student_dir, "max_length": 16}
        return MultilingualArguments(**{**base, **changes})

    return arguments


@pytest.fixture
def training(tmp_path):
    return StudentConfig(
        str(tmp_path / "checkpoints"), use_cpu=True, num_train_epochs=1, disable_tqdm=True, seed=1, report_to=[]
    )


def parts(arguments):
    held, learnt = split(arguments, tasks_of(arguments))
    return (
        {name: sorted(map(number, data["text"])) for name, data in held.items()},
        {name: sorted(map(number, data["text"])) for name, data in learnt.items()},
    )


def test_no_student_learns_a_row_that_is_held_out_in_another_language(make):
    held, learnt = parts(make())
    assert held["en"] == held["fr"]
    assert learnt["en"] == learnt["fr"]
    assert len(held["en"]) == 10
    assert sorted(held["en"] + learnt["en"]) == list(range(40))


def test_translations_are_found_by_a_column_in_files_of_another_order(make):
    order = np.random.default_rng(3).permutation(40).tolist()
    given = {"en": rows("en"), "fr": rows("fr", order=order)}
    held, learnt = parts(make(given, translations="key"))
    assert held["en"] == held["fr"]
    assert not set(held["en"]) & set(learnt["fr"])
    with pytest.raises(ValueError, match=r"people's label of row .* Name a column that says which rows are"):
        parts(make(given))
    with pytest.raises(ValueError, match="No row in en has a value of 'text' that a row of another language has"):
        parts(make(given, translations="text"))


def test_rows_of_one_text_are_held_out_together_with_all_their_translations(make):
    """Two rows are one in French: what holds one of them out holds out the other in English."""
    given = {name: rows(name) for name in WORDS}
    for k in range(0, 36, 4):
        given["fr"]["text"][k + 2] = given["fr"]["text"][k]
    for seed in range(5):
        held, learnt = parts(make(given, split_seed=seed))
        for k in range(0, 36, 4):
            assert (k in learnt["en"]) == (k + 2 in learnt["en"])
            if k in held["fr"]:
                assert not {k, k + 2} & {*learnt["en"], *learnt["fr"]}
        assert len(held["fr"]) == 10


def test_files_that_are_no_translations_are_split_each_by_itself(make):
    held, _ = parts(make({"en": rows("en"), "fr": rows("fr", 30)}, translations="nothing"))
    assert len(held["en"]) == len(held["fr"]) == 10
    with pytest.raises(ValueError, match="en has 40 rows, fr 30"):
        parts(make({"en": rows("en"), "fr": rows("fr", 30)}))


def test_students_of_one_and_of_all_languages_are_compared_and_nothing_is_trained_twice(
    make, training, tmp_path, monkeypatch
):
    table = multilingual.main(make(num_train=12), training)
    assert table["rows"] == {"all": 24, "en": 12, "fr": 12}
    assert table["figure"] == "accuracy"
    for one in table["languages"].values():
        assert one["n"] == 10
        assert set(one["students"]) == {"all", "en", "fr"}
        assert one["all_less_own"]["low"] is None or one["all_less_own"]["low"] <= one["all_less_own"]["value"]
    run = tmp_path / "run"
    assert json.loads((run / "table.json").read_text()) == table
    assert "| fr | 10 |" in (run / "table.md").read_text()
    assert (run / "table.png").stat().st_size > 5000

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(StudentTrainer, "train", refuse)
    assert multilingual.main(make(num_train=12), training) == table


def test_recorded_teacher_is_learnt_in_each_language(make, training, tmp_path):
    recorded = {}
    for name in WORDS:
        given = rows(name)
        Dataset.from_dict({"text": given["text"], "llm_label": given["label"]}).to_json(
            str(tmp_path / f"{name}.jsonl")
        )
        recorded[name] = str(tmp_path / f"{name}.jsonl")
    more = {"own_epochs": 2, "teacher": "someone", "recorded": recorded, "calibration": "none", "num_train": 12}
    table = multilingual.main(make(**more), training)
    assert (table["source"], table["teacher"]) == ("silver", "someone")
    assert table["rows"] == {"all": 24, "en": 12, "fr": 12}
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"annotated-en", "annotated-fr", "ledger"}
    said = (tmp_path / "run" / "table.md").read_text()
    assert "Learnt from labels of someone" in said
    assert "1 epochs (2 of one language)" in said
    for name, epochs in (("all", 1), ("en", 2), ("fr", 2)):
        metrics = json.loads((tmp_path / "run" / "students" / name / "1" / "metrics.json").read_text())
        assert metrics["train"]["history"][-1]["epoch"] == epochs


def test_difference_of_two_students_has_an_interval_of_the_same_rows():
    gold = [0, 1] * 50
    right, worse = [gold], [[1 - one if k < 20 else one for k, one in enumerate(gold)]]
    found = multilingual.interval(multilingual.accuracy, gold, right, worse)
    assert found["value"] == pytest.approx(0.2)
    assert 0.1 < found["low"] < 0.2 < found["high"] < 0.3
    assert multilingual.interval(multilingual.accuracy, gold, right, right)["high"] == 0
    assert multilingual.interval(multilingual.spearman, gold, [[0.5] * 100])["value"] is None
    assert multilingual.micro_f1([[0], [0, 1], []], [[0], [1], [2]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"languages": {"en": "a"}}, "languages takes two or more, none called 'all'; got en"),
        ({"languages": {"en": "a", "all": "b"}}, "none called 'all'"),
        ({"tasks": {"en": "imdb"}}, "There is no task in fr: pass tasks fr=FILE"),
        ({"recorded": {"en": "a"}}, "recorded takes a file for each of the languages"),
        ({"num_held_out": 0}, "must be 1 or more, got 0"),
        ({"own_epochs": 0}, "own_epochs must be above 0, got 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_tasks_of_other_labels_and_too_many_held_out_rows_are_refused(make, tmp_path):
    TaskSpec("other", ("yes", "no"), "{text}").to_yaml(tmp_path / "other.yaml")
    given = make(tasks={"en": str(tmp_path / "task.yaml"), "fr": str(tmp_path / "other.yaml")})
    with pytest.raises(ValueError, match="must ask for the same labels about the same columns; en has"):
        tasks_of(given)
    with pytest.raises(ValueError, match="num_held_out must leave rows to learn from; 40 of en"):
        parts(make(num_held_out=40))


def test_shipped_settings_are_arguments_and_their_tasks_ask_for_one_scale():
    words = ["--config", str(RECIPES / "multilingual.yaml"), "--languages", "de=a", "fr=b", "zh=c"]
    arguments, training = parse_arguments((MultilingualArguments, StudentConfig), words)
    assert arguments.files == {"de": "a", "fr": "b", "zh": "c"}
    assert training.num_train_epochs > 0
    for name in arguments.files:
        task = load_task(RECIPES.parent / arguments.task_files[name])
        assert task.fields == ("sentence_a", "sentence_b")
        (question,) = task.questions
        assert isinstance(question, Scale)
        assert question.labels == ("0", "1", "2", "3", "4", "5")
        assert all(question.descriptions)
        assert task.parse("3")


def test_mistake_is_one_sentence(monkeypatch):
    words = ["--config", RECIPES / "multilingual.yaml", "--languages", "de=missing.jsonl"]
    monkeypatch.setattr(sys, "argv", ["multilingual", *map(str, words)])
    with pytest.raises(SystemExit, match="^Error: languages takes two or more"):
        multilingual.run_script(MultilingualArguments, multilingual.main)


def test_rows_with_one_text_are_in_one_group_in_all_languages():
    keys = {name: [(name, k) for k in range(2)] for name in ("de", "fr")}
    found = grouped(keys, {"de": ["OK", "gut"], "fr": ["bon", "OK"]})
    assert found == [[("de", 0), ("fr", 1)], [("de", 1)], [("fr", 0)]]
