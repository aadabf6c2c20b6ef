import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset
from trl import TrlParser

import active
from hf_llambert import StudentConfig, StudentLabeler, is_flat, next_to_annotate, student_silver, train_student
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.training.active import diverse_rows, most_doubtful
from test_training import TASK, arguments


@pytest.fixture(scope="module")
def student(student_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    good, bad = "the actors were wonderful and I liked it", "the music was awful and the film dull"
    data = Dataset.from_dict({"text": [(bad, good)[i % 2] for i in range(16)], "label": [i % 2 for i in range(16)]})
    train_student(TASK, student_dir, folder / "s", arguments(folder), silver=data)
    return StudentLabeler(folder / "s")


TEXTS = [
    "the actors were wonderful and I liked it",
    "the music was awful and the film dull",
    "the actors were awful and I liked the film dull",
    "I liked it and the actors were wonderful",
    "the film dull and the music was awful",
]


@pytest.mark.parametrize("by", ["entropy", "margin"])
def test_most_uncertain_rows_come_first(by):
    p = np.array([[0.9, 0.05, 0.05], [0.4, 0.35, 0.25], [0.51, 0.48, 0.01], [0.6, 0.2, 0.2]])
    assert most_doubtful([np.log(p)], 2, by) == {"entropy": [1, 3], "margin": [2, 1]}[by]


def test_text_that_the_student_is_least_sure_of_is_asked_about_next(student):
    p = np.sort(np.exp(student.label(TEXTS)["student_scores"]), axis=1)
    least = int(np.argmin(p[:, -1] - p[:, -2]))
    assert next_to_annotate(TEXTS, 1, student, "margin") == [least]
    assert next_to_annotate([None, *TEXTS], 1, student, "entropy") == [least + 1]


@pytest.mark.parametrize("strategy", ["random", "entropy", "margin", "diverse"])
def test_text_that_is_none_or_blank_is_never_asked_about(student, strategy):
    texts = [None, " ", *TEXTS, None]
    assert set(next_to_annotate(texts, 3, student, strategy)) <= set(range(2, 7))
    assert sorted(next_to_annotate(texts, 9, student, strategy)) == [2, 3, 4, 5, 6]
    assert next_to_annotate([None, ""], 2, student, strategy) == []


def test_diverse_rows_come_from_different_clusters():
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(4) * 10, 25, axis=0)
    rows = diverse_rows((centres + random.normal(0, 0.1, centres.shape)).astype(np.float32), 4)
    assert sorted(row // 25 for row in rows) == [0, 1, 2, 3]
    same = diverse_rows(np.ones((10, 3), np.float32), 4)
    assert len(set(same)) == 4


def test_diverse_texts_are_chosen_by_the_students_embeddings(student):
    chosen = next_to_annotate(TEXTS[:2] * 10, 2, student, "diverse")
    assert {row % 2 for row in chosen} == {0, 1}
    one, batched = student.embed([TEXTS[0]]), student.embed([TEXTS[1], TEXTS[0], "x " * 30])
    assert np.allclose(one[0], batched[1], atol=1e-5)


def test_random_choice_needs_no_student_and_depends_on_the_seed_alone():
    assert next_to_annotate(TEXTS, 3, strategy="random", seed=1) == next_to_annotate(
        TEXTS, 3, strategy="random", seed=1
    )
    assert sorted(next_to_annotate(TEXTS, 99, strategy="random")) == list(range(5))
    with pytest.raises(ValueError, match="pass labeler="):
        next_to_annotate(TEXTS, 2, strategy="margin")
    with pytest.raises(ValueError, match="strategy must be one of random, entropy, margin, diverse; got 'best'"):
        next_to_annotate(TEXTS, 2, strategy="best")
    with pytest.raises(ValueError, match="must be positive, got 0"):
        next_to_annotate(TEXTS, 0, strategy="random")


def test_confident_labels_of_the_student_become_balanced_silver(student):
    data = Dataset.from_dict({"text": [*TEXTS, None]})
    labelled = data.map(student, batched=True, features=student.features(data))
    sure = sorted(labelled["student_confidence"][:5])[1]
    silver = student_silver(labelled, TASK, min_confidence=sure)
    assert set(silver["text"]) <= set(TEXTS) - {TEXTS[2]}
    assert min(silver["llm_confidence"]) >= sure
    assert silver["label"][:].count(0) == silver["label"][:].count(1) >= 1


@pytest.mark.parametrize(
    ("curve", "flat"),
    [([0.7], False), ([0.7, 0.8, 0.803], False), ([0.8, 0.803, 0.804], True), ([0.8, 0.79, 0.9], False), ([], False)],
)
def test_curve_is_flat_when_no_late_point_gains_enough(curve, flat):
    assert is_flat(curve, patience=2, min_gain=0.005) == flat


def run_recipe(folder, reviews, teacher_dir, student_dir, cloze, learning=None, **changes):
    texts = [f"{text} take {k}" for k in range(5) for text in reviews["text"]]
    Dataset.from_dict({"text": [*texts, texts[0]], "label": [*reviews["label"][:] * 5, 0]}).to_parquet(
        str(folder / "reviews.parquet")
    )
    cloze.to_yaml(folder / "task.yaml")
    settings = {"budget": 40, "num_dev": 10, "round_size": 12, "num_pool": 30, "num_held_out": 16, "max_length": 32}
    settings |= {"label_column": "label", "min_gain": 0.0, "split_seed": 1}
    training = StudentConfig(
        str(folder / "checkpoints"), use_cpu=True, num_train_epochs=1, disable_tqdm=True, learning_rate=5e-3, seed=1,
        **(learning or {}),
    )  # fmt: skip
    files = {"data": str(folder / "reviews.parquet"), "task": str(folder / "task.yaml"), "run": str(folder / "run")}
    return active.main(
        active.ActiveArguments(teacher=teacher_dir, student=student_dir, **files, **(settings | changes)), training
    )


@pytest.mark.parametrize("strategy", ["margin", "diverse"])
def test_recipe_spends_its_budget_and_not_a_text_more(
    reviews, teacher_dir, student_dir, cloze, tmp_path, strategy, capsys
):
    folder = (tmp_path, reviews, teacher_dir, student_dir, cloze)
    found = run_recipe(*folder, strategy=strategy, patience=9)
    assert found["stopped"] == "the budget is spent"
    assert [point["annotated"] for point in found["curve"]] == [22, 34, 40]
    assert found["asked"] == 40
    assert found["n_silver"] == 30
    assert found["eval"]["n"] == 16
    assert all(0 <= point["accuracy"] <= 1 for point in found["curve"])
    assert found["curve"][-1]["accuracy"] == found["eval"]["accuracy"]  # of the same answers
    assert len(Ledger(tmp_path / "run" / "ledger")) == 40
    assert "40 texts asked about" in capsys.readouterr().out
    assert run_recipe(*folder, strategy=strategy, patience=9) == json.loads(json.dumps(found))
    assert len(Ledger(tmp_path / "run" / "ledger")) == 40


def test_recipe_stops_where_the_curve_is_flat_and_learns_its_own_labels(
    reviews, teacher_dir, student_dir, cloze, tmp_path
):
    found = run_recipe(
        tmp_path, reviews, teacher_dir, student_dir, cloze, patience=1, min_gain=1.0, self_training=0.01
    )
    assert found["stopped"] == "no gain of 100.0% in 1 rounds"
    assert found["asked"] == 34
    assert found["n_own_labels"] > 0
    assert found["n_silver"] == 24 + found["n_own_labels"]


def test_recipe_learns_from_soft_targets_and_confidences(reviews, teacher_dir, student_dir, cloze, tmp_path):
    learning = {"soft_targets": True, "weight_by_confidence": True}
    found = run_recipe(tmp_path, reviews, teacher_dir, student_dir, cloze, learning, self_training=0.01)
    assert found["asked"] == 40


def test_round_with_one_label_is_followed_by_another(reviews, teacher_dir, student_dir, cloze, tmp_path):
    found = run_recipe(tmp_path, reviews, teacher_dir, student_dir, cloze, round_size=1, budget=20)
    assert found["asked"] == 20
    assert found["curve"][0]["annotated"] > 11


def test_teacher_is_a_file_of_answers_or_a_yaml_file(reviews, student_dir, cloze, tmp_path):
    texts = [f"{text} take {k}" for k in range(5) for text in reviews["text"]]
    answers = tmp_path / "answers.csv"
    Dataset.from_dict({"text": texts, "llm_label": reviews["label"][:] * 5}).to_csv(str(answers))
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({"teacher": "recorded", "model": "m", "path": str(answers)}))
    small = {"strategy": "random", "budget": 22, "calibration": "none"}
    recorded = run_recipe(tmp_path, reviews, "m", student_dir, cloze, recorded=str(answers), **small)
    (tmp_path / "run").rename(tmp_path / "first")
    described = run_recipe(tmp_path, reviews, str(tmp_path / "teacher.yaml"), student_dir, cloze, **small)
    assert recorded["curve"] == described["curve"]
    assert recorded["curve"][0]["silver"] == 12


def test_larger_budget_is_another_run_with_the_same_ledger(reviews, teacher_dir, student_dir, cloze, tmp_path):
    files = (reviews, teacher_dir, student_dir, cloze)
    shared = str(tmp_path / "ledger")
    run_recipe(tmp_path, *files, strategy="random", ledger=shared, budget=22)
    (tmp_path / "run").rename(tmp_path / "first")
    assert len(Ledger(shared)) == 22
    run_recipe(tmp_path, *files, strategy="random", ledger=shared, budget=34)
    assert len(Ledger(shared)) == 34


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patience": 0}, "patience must be a positive number"),
        ({"round_size": 0}, "round_size must be a positive number"),
        ({"num_pool": 0}, "num_pool must be a positive number"),
        ({"strategy": "best"}, "strategy must be one of random, entropy, margin, diverse; got 'best'"),
        ({"self_training": 90}, "self_training must be a confidence from 0 to 1"),
        ({"num_annotated": 9, "num_seeds": 2}, "budget instead of num_annotated, .* got num_annotated, num_seeds"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(
    reviews, teacher_dir, student_dir, cloze, tmp_path, wrong, message
):
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, reviews, teacher_dir, student_dir, cloze, **wrong)
    assert not (tmp_path / "run").exists()


def test_own_labels_are_taken_from_the_pool(student):
    wanted = active.ActiveArguments(teacher="t", student="s", data="d", run="r", self_training=0.5, num_pool=4)
    own = active._own_labels(student, Dataset.from_dict({"text": TEXTS}), TASK, wanted)
    assert len(own) >= 2
    assert set(own["text"]) <= set(TEXTS[:4])


@pytest.mark.slow
def test_two_processes_share_the_asking_and_agree_on_every_result(reviews, teacher_dir, student_dir, cloze, tmp_path):
    run_recipe(tmp_path, reviews, teacher_dir, student_dir, cloze, strategy="random")  # writes the files
    settings = {
        "data": str(tmp_path / "reviews.parquet"), "task": str(tmp_path / "task.yaml"), "run": str(tmp_path / "two"),
        "teacher": teacher_dir, "student": student_dir, "budget": 30, "num_dev": 10, "round_size": 12, "num_pool": 30,
        "num_held_out": 16, "label_column": "label", "max_length": 32, "use_cpu": True, "num_train_epochs": 1,
        "strategy": "diverse", "disable_tqdm": True,
    }  # fmt: skip
    (tmp_path / "active.yaml").write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", active.__file__,
         "--config", str(tmp_path / "active.yaml")],
        check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}, capture_output=True,
        text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "two" / "active.json").read_text())
    assert found["asked"] == 30
    assert found["eval"]["n"] == 16
    files = (tmp_path / "two" / "ledger").glob("*.sqlite")
    assert len({path.name.split("-")[-2] for path in files}) == 2  # the numbers of the processes that asked
    assert len(Ledger(tmp_path / "two" / "ledger")) == 30


def test_quickstart_settings_are_arguments_of_the_recipe():
    parser = TrlParser((active.ActiveArguments, StudentConfig))
    parser.set_defaults(output_dir=None)
    config = str(Path(active.__file__).parent / "active_quickstart.yaml")
    found, training = parser.parse_args_and_config(["--config", config])
    assert found.budget > found.num_dev + found.round_size
    assert training.learning_rate == 1e-4


@pytest.mark.parametrize("wrong", [{"num_dev": 40}, {"num_dev": 0}, {"num_held_out": 75}])
def test_numbers_that_leave_nothing_are_explained(reviews, teacher_dir, student_dir, cloze, tmp_path, wrong):
    with pytest.raises(ValueError, match="Expected num_dev from 1 to less than the budget"):
        run_recipe(tmp_path, reviews, teacher_dir, student_dir, cloze, **wrong)
