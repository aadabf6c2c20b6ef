"""The annotating stage and silver where a task has several questions, and where its one question is of another kind."""

import json

import numpy as np
import pytest
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import (
    Choice,
    Choices,
    LLMLabeler,
    Scale,
    TaskSpec,
    annotate,
    load_data,
    saved_calibration,
    select_silver,
)
from hf_llambert.annotation.alpha import answers_alpha, interval_alpha
from hf_llambert.annotation.calibration import batch_calibration, calibration_of
from hf_llambert.teachers.base import Reply

TONE = Choice("tone", ("good", "bad"), "Is it {options}?")
TOPICS = Choices("topics", ("food", "staff"), "Is it about {label}?")
STARS = Scale("stars", ("1", "2", "3"), "How many stars?")
TASK = TaskSpec("visit", instruction="{text}", questions=(TONE, TOPICS, STARS), chat=False)
ROWS = 40


class Leaning(CountingTeacher):
    """Its scores follow from the numbers in a text: how good, about what, how many stars."""

    lean = 0.0

    def _reply(self, task, text):
        if self.fails_on and self.fails_on in task.messages("")[0]["content"]:
            return Reply(error="no connection")
        if self.mode == "generate":
            return Reply(response="good")
        good, food, staff, stars = (int(word) for word in text.split()[1:])
        asked = task.messages("")[0]["content"]
        if "stars" in asked:
            return Reply(scores=tuple(-1.0 - abs(stars - level) - (level == 2) for level in (1, 2, 3)), seconds=0.1)
        holds = food if "food" in asked else staff if "staff" in asked else good
        return Reply(scores=(-0.5 - (not holds), -0.5 - holds), seconds=0.1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    rows = [
        [int(rng.integers(2)), int(rng.integers(2)), int(rng.integers(2)), int(rng.integers(1, 4))]
        for _ in range(ROWS)
    ]
    return Dataset.from_dict(
        {
            "text": [f"{i} " + " ".join(map(str, row)) for i, row in enumerate(rows)],
            "tone": ["good" if row[0] else "bad" for row in rows],
            "topics": [[name for name, holds in zip(TOPICS.labels, row[1:3], strict=True) if holds] for row in rows],
            "stars": [float(row[3]) if i else 2.5 for i, row in enumerate(rows)],
        }
    )


GOLD = {"tone": "tone", "topics": "topics", "stars": "stars"}


def labeler(tmp_path, task=TASK, **kwargs):
    return LLMLabeler(task, Leaning(str(tmp_path / "asked"), **kwargs), tmp_path / "ledger")


def run(data, tmp_path, name="run", labelers=None, **kwargs):
    folder = tmp_path / name / "annotated"
    results = annotate(data, labelers or labeler(tmp_path), folder, show_progress=False, **kwargs)
    return results, load_data(folder)


def test_each_question_is_counted_calibrated_and_measured(data, tmp_path):
    results, out = run(data, tmp_path, gold_column=GOLD)
    assert results["n_rows"] == ROWS
    assert results["n_failed"] == 0
    assert results["seconds"] == pytest.approx(0.1 * 4 * ROWS)
    questions = results["questions"]
    assert list(questions) == ["tone", "topics", "stars"]
    assert questions["tone"]["quality"]["accuracy"] == 1.0
    assert questions["topics"]["quality"]["micro_f1"] == 1.0
    assert questions["topics"]["calibration"] is None  # no prior, so nothing to calibrate by
    assert questions["topics"]["label_mass"] is None
    assert questions["stars"]["quality"]["spearman"] > 0.9
    assert questions["stars"]["calibration"]["kind"] == "scale"
    assert out["tone"][:] == data["tone"][:]
    assert out["llm_topics_labels"][:] == [[TOPICS.labels.index(x) for x in row] for row in data["topics"]]
    found = saved_calibration(tmp_path / "run")
    assert found["topics"].method == "none"
    assert found["stars"].probabilities(out["llm_stars_scores"][:]) @ STARS.levels == pytest.approx(
        out["llm_stars_value"][:], abs=1e-5
    )


def test_question_without_gold_is_not_measured(data, tmp_path):
    results, _ = run(data.remove_columns("stars"), tmp_path, gold_column={"tone": "tone"})
    assert "quality" in results["questions"]["tone"]
    assert "quality" not in results["questions"]["stars"]


def test_done_again_nothing_is_asked_and_the_results_are_the_same(data, tmp_path):
    first, _ = run(data, tmp_path, gold_column=GOLD)
    asked = len((tmp_path / "asked").read_text().splitlines())
    again, _ = run(data, tmp_path, gold_column=GOLD)
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(again))
    assert len((tmp_path / "asked").read_text().splitlines()) == asked == 4 * ROWS


def test_failed_question_is_asked_again_and_the_others_are_not(data, tmp_path):
    results, out = run(data, tmp_path, labelers=labeler(tmp_path, fails_on="staff"))
    assert results["n_failed"] == ROWS
    assert results["questions"]["topics"]["n_failed"] == ROWS
    assert results["questions"]["tone"]["n_ok"] == ROWS
    before = len((tmp_path / "asked").read_text().splitlines())
    results, out = run(data, tmp_path)
    assert results["n_failed"] == 0
    assert len((tmp_path / "asked").read_text().splitlines()) == before + ROWS
    assert None not in out["llm_topics_labels"][:]


def test_fitted_calibration_of_every_kind(data, tmp_path):
    results, _ = run(data, tmp_path, calibration="fitted", calibration_rows=25, gold_column=GOLD)
    for found in results["questions"].values():
        assert found["calibration"]["method"] == "fitted"
        assert found["quality"]["n"] == ROWS - 25
    assert results["questions"]["topics"]["calibration"]["temperature"] > 0


def test_contextual_calibration_of_every_kind_asks_texts_that_say_nothing_once(data, tmp_path):
    class Silent(Leaning):
        def _reply(self, task, text):
            return super()._reply(task, text if text[0].isdigit() else "0 1 1 1 3")

    one = LLMLabeler(TASK, Silent(str(tmp_path / "asked")), tmp_path / "ledger")
    results, _ = run(data, tmp_path, labelers=one, calibration="contextual")
    assert {name: found["calibration"]["method"] for name, found in results["questions"].items()} == dict.fromkeys(
        GOLD, "contextual"
    )
    assert results["questions"]["topics"]["calibration"]["bias"] == pytest.approx([-1.0, -1.0])
    assert len((tmp_path / "asked").read_text().splitlines()) == 4 * (ROWS + 3)


def test_prior_is_the_mean_that_batch_calibration_gives(data, tmp_path):
    prior = {"topics": {"food": 0.1, "staff": 0.8}, "stars": {"1": 0.6, "2": 0.3, "3": 0.1}}
    results, out = run(data, tmp_path, prior=prior)
    found = saved_calibration(tmp_path / "run")
    p = found["topics"].probabilities(out["llm_topics_scores"][:])
    assert p.mean(0) == pytest.approx([0.1, 0.8], abs=1e-6)
    assert np.mean(out["llm_stars_value"][:]) == pytest.approx(0.6 + 2 * 0.3 + 3 * 0.1, abs=1e-5)
    with pytest.raises(ValueError, match=r"share for each label of \['food', 'staff'\]"):
        run(data, tmp_path, "other", prior={"topics": {"food": 0.5}})
    with pytest.raises(ValueError, match="no question 'topic'. Did you mean 'topics'"):
        run(data, tmp_path, "other", prior={"topic": {"food": 0.5}})


def test_batch_calibration_of_a_scale_keeps_its_order():
    rng = np.random.default_rng(1)
    scores = np.log(rng.dirichlet([8, 1, 1, 1, 2], size=300))
    scale = Scale("s", ("1", "2", "3", "4", "5"))
    found = calibration_of("batch", scale, scores)
    assert (found.probabilities(scores) @ scale.levels).mean() == pytest.approx(3.0, abs=1e-6)
    assert np.diff(found.bias) == pytest.approx(np.diff(found.bias)[0])  # on a line: no level passes another
    as_names = batch_calibration(scores)
    assert not (np.diff(as_names.bias) > 0).all()


def test_a_scale_that_leans_to_one_end_for_every_text_is_calibrated_without_an_error():
    scale = Scale("s", ("0", "1", "2"))
    found = calibration_of("batch", scale, np.full((5, 3), -1.0) + [0.0, -500.0, -900.0])
    assert np.isfinite(found.bias).all()


def test_one_question_of_another_kind_has_the_columns_of_one(data, tmp_path):
    task = TaskSpec("stars", instruction="{text}", questions=(STARS,), chat=False)
    results, out = run(data, tmp_path, labelers=labeler(tmp_path, task), gold_column="stars")
    assert "questions" not in results
    assert results["quality"]["spearman"] > 0.9
    assert {"llm_label", "llm_value", "llm_confidence"} <= set(out.column_names)
    assert saved_calibration(tmp_path / "run").kind == "scale"
    silver, counts = select_silver(out.remove_columns("stars"), task, calibration=saved_calibration(tmp_path / "run"))
    assert silver["label"][:] == out["llm_value"][:]
    assert np.array(silver["probabilities"][:]) @ STARS.levels == pytest.approx(out["llm_value"][:], abs=1e-5)


def jury_of(tmp_path, **modes):
    return {
        name: LLMLabeler(TASK, Leaning(str(tmp_path / name), version=k, mode=mode), tmp_path / "ledger")
        for k, (name, mode) in enumerate(modes.items())
    }


@pytest.mark.parametrize("method", ["majority", "dawid_skene", "mean"])
def test_jury_decides_each_question(data, tmp_path, method):
    members = jury_of(tmp_path, one="score", two="score", three="score")
    results, out = run(data, tmp_path, labelers=members, jury=method, gold_column=GOLD)
    assert results["questions"]["topics"]["quality"]["micro_f1"] == 1.0
    assert results["questions"]["stars"]["jury"]["alpha"] == pytest.approx(1.0)
    assert results["questions"]["tone"]["jury"]["agreement"] == {"one": 1.0, "two": 1.0, "three": 1.0}
    assert results["members"]["two"]["questions"]["tone"]["n_ok"] == ROWS
    assert out["llm_stars_value"][:] == pytest.approx(out["one_stars_value"][:])
    assert "two_topics_scores" in out.column_names
    own = members["one"].features()
    assert {name: out.features[name] for name in own} == dict(own)


def test_member_that_says_nothing_to_a_question_leaves_it_to_the_others(data, tmp_path):
    members = jury_of(tmp_path, one="score", two="generate")  # the second answers with a word, which is no object
    _, out = run(data, tmp_path, labelers=members, jury="majority")
    assert set(out["two_tone_status"][:]) == {"abstained"}
    assert out["llm_tone_label"][:] == out["one_tone_label"][:]
    assert out["llm_topics_labels"][:] == out["one_topics_labels"][:]
    assert out["llm_stars_value"][:] == pytest.approx(out["one_stars_value"][:])


def test_alpha_of_numbers_is_that_of_the_textbook():
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section D: interval data, alpha = 0.849.
    rows = [
        [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4],
        [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
    ]  # fmt: skip
    assert interval_alpha([[x for x in row if x is not None] for row in rows]) == pytest.approx(0.849, abs=5e-4)
    units = [[1.5, 2.0], [3.0, 3.25, 4.0], [2.0, 5.0]]
    assert interval_alpha(units) == pytest.approx(answers_alpha(units, lambda one, other: (one - other) ** 2))
    assert interval_alpha([[1], [2]]) is None
    assert interval_alpha([[1, 1], [1, 1]]) is None


def test_silver_has_a_column_for_each_question_and_rows_that_any_answers(data, tmp_path):
    _, out = run(data, tmp_path)
    broken = out.map(
        lambda row, i: {"llm_tone_status": "abstained", "llm_tone_label": -1} if i < 3 else row, with_indices=True
    )
    silver, counts = select_silver(broken, TASK, calibration=saved_calibration(tmp_path / "run"))
    assert len(silver) == ROWS
    assert silver["tone"][:4] == [-1, -1, -1, out["llm_tone_label"][3]]
    assert silver["tone_probabilities"][0] is None
    assert silver["topics"][:] == out["llm_topics_labels"][:]
    assert silver["stars"][:] == out["llm_stars_value"][:]
    assert silver["gold_tone"][:] == data["tone"][:]
    assert np.array(silver["topics_probabilities"][:]).shape == (ROWS, 2)
    assert [(one["question"], one["rule"], one["n"]) for one in counts[:3]] == [
        ("tone", "annotated", ROWS),
        ("tone", "usable label", ROWS - 3),
        ("topics", "annotated", ROWS),
    ]


def test_row_below_the_confidence_of_all_questions_is_no_silver(data, tmp_path):
    _, out = run(data, tmp_path, calibration="none")
    sure = np.array([out[f"llm_{name}_confidence"][:] for name in GOLD])
    silver, _ = select_silver(out, TASK, min_confidence=0.53)
    assert len(silver) == int((sure >= 0.53).any(0).sum())
    silver, _ = select_silver(out, TASK, others=[out], min_agreement=1.0)
    assert len(silver) == ROWS


def test_question_with_one_answer_only_is_named(data, tmp_path):
    _, out = run(data, tmp_path)
    same = out.map(lambda row: {"llm_topics_labels": [0]})
    with pytest.raises(ValueError, match="at least two labels to tell apart for 'topics'"):
        select_silver(same, TASK)
    with pytest.raises(ValueError, match="several may hold in 'topics'"):
        select_silver(out, TASK, balance=True)


def test_column_of_the_users_that_a_question_would_overwrite_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="llm_stars_value"):
        run(data.add_column("llm_stars_value", [0.0] * ROWS), tmp_path)
