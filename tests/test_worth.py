"""What an encoder is worth beyond counting words: the sentence, and who hears it."""

import json

import pytest

from hf_llambert import train_seeds, worth_lines
from hf_llambert.training.worth import beside_words
from kind_run import TASK as THREE
from test_linear import MOOD, args, mood_rows  # noqa: F401  (a fixture)


def noted(differences, eval_=None, words=None, speeds=(50.0, 12_345.0)):
    """What a training noted, of one question or of several."""
    several = "low" not in differences
    given = eval_ or {"accuracy": 0.852}, words or {"accuracy": 0.841}
    return {
        "eval": given[0] if several else {**given[0], "texts_per_second": speeds[0]},
        "linear": {
            "unit": "words",
            "features": 900,
            "seconds": 1.5,
            "eval": given[1] if several else {**given[1], "texts_per_second": speeds[1]},
            "difference": differences,
        },
    }


def difference(low, value, high):
    return {"difference": value, "low": low, "high": high, "runs": 1, "n": 1000}


GIVEN = (
    "accuracy 85.2% by the encoder at 50.0 texts/s, 84.1% by counting words at 12,345 texts/s (247 times as fast) "
    "on the same 1,000 texts: "
)
DISTIL = ": distil it (hf-llambert distill runs/a --to linear)"
WORSE = ": train it better, or label by counting words (hf-llambert label --student runs/a/student/baseline)"


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.012, 0.031, 0.05), "the encoder is worth 3.1 points (1.2 to 5.0)"),
        (
            (-0.008, 0.011, 0.03),
            f"the encoder is not certainly better than counting words here (+1.1 points, -0.8 to +3.0){DISTIL}",
        ),
        ((0.0, 0.0, 0.0), f"the encoder is not better than counting words here (+0.0 points, +0.0 to +0.0){DISTIL}"),
        (
            (-0.05, -0.03, -0.01),
            f"the encoder is not better than counting words here (-3.0 points, -5.0 to -1.0){WORSE}",
        ),
    ],
)
def test_encoder_is_worth_its_time_only_where_the_interval_is_above_nothing(ends, said):
    assert list(worth_lines(noted(difference(*ends)), MOOD, "runs/a")) == [GIVEN + said]


def test_speed_that_was_not_measured_is_not_told():
    found = beside_words(noted(difference(0.1, 0.2, 0.3), speeds=(None, 9.0)), MOOD)
    assert found["times_as_fast"] is None
    assert found["sentence"] == (
        "accuracy 85.2% by the encoder, 84.1% by counting words on the same 1,000 texts: "
        "the encoder is worth 20.0 points (10.0 to 30.0)"
    )
    assert found["advice"] == ""


SEVERAL = {
    "tone": {"accuracy": 0.9},
    "quality": {"spearman": 0.812},
    "topics": {"micro_f1": None},
}


def test_each_question_is_told_by_its_own_figure_and_one_worth_an_encoder_keeps_it():
    differences = {name: difference(-0.01, 0.01, 0.03) for name in ("tone", "quality", "topics")}
    lines = list(worth_lines(noted(differences, SEVERAL, SEVERAL), THREE))
    assert [line.split(" by ")[0] for line in lines] == [
        "tone: accuracy 90.0%", "quality: Spearman 0.812", "topics: micro-F1 no value",
    ]  # fmt: skip
    assert "(+1.0 points, -1.0 to +3.0; within half a step of gold): distil it (hf-llambert distill RUN" in lines[1]
    assert all("distil it" in line for line in lines)
    differences["tone"] = difference(0.01, 0.02, 0.03)
    lines = list(worth_lines(noted(differences, SEVERAL, SEVERAL), THREE))
    assert lines[0].endswith("the encoder is worth 2.0 points (1.0 to 3.0)")
    assert lines[2].endswith("than counting words here (+1.0 points, -1.0 to +3.0; all labels as in gold)")


def test_nothing_is_said_where_nothing_was_compared():
    results = noted(difference(0, 0, 0))
    assert list(worth_lines({"eval": results["eval"]}, MOOD)) == []
    assert list(worth_lines({**results, "eval": None}, MOOD)) == []
    differences = {"tone": difference(-0.01, 0.01, 0.03)}
    answered = noted(differences, {"tone": SEVERAL["tone"]}, {"tone": SEVERAL["tone"]})
    assert len(list(worth_lines(answered, THREE))) == 1


def test_of_several_seeds_the_first_alone_has_a_linear_student(student_dir, args, tmp_path):  # noqa: F811
    args.max_steps = 1
    train_seeds(MOOD, student_dir, tmp_path, args, 2, gold=mood_rows(), eval_data=mood_rows())
    seeds = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("**/metrics.json"))]
    assert len(seeds) == 3
    assert [path.parent.parent.name for path in tmp_path.glob("**/linear.safetensors")] == ["student"]
    assert sum("linear" in one for one in seeds) == 1


def test_train_says_what_the_encoder_is_worth_unless_it_is_told_not_to(student_dir, typed, tmp_path):
    MOOD.to_yaml(tmp_path / "mood.yaml")
    mood_rows().to_parquet(str(tmp_path / "rows.parquet"))
    rows = tmp_path / "rows.parquet"
    words = ["train", "--task", tmp_path / "mood.yaml", "--student", student_dir, "--gold", rows, "--eval_data", rows]
    words += ["--max_steps", 1, "--use_cpu", "--output"]
    shown = " ".join(typed(*words, tmp_path / "a").split())
    assert "% by the encoder at " in shown
    assert " 100.0% by counting words at " in shown
    assert "points, " in shown
    beside = tmp_path / "a" / "student" / "baseline"  # where the encoder is worse, this is advised
    assert "72 texts labelled" in typed("label", "--student", beside, "--data", rows, "--output", tmp_path / "labels")
    without = typed(*words, tmp_path / "b", "--no_baseline")
    assert "counting words" not in without
    assert not (tmp_path / "b" / "student" / "baseline").exists()
