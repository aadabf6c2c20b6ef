import json
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from trl import TrlParser

from hf_llambert import RecordedTeacher, StudentConfig
from hf_llambert.training.trainer import StudentTrainer

STUDIES = Path(__file__).parent.parent / "recipes" / "studies"
sys.path.insert(0, str(STUDIES))  # as a study that is run sees its neighbours

import active_vs_random  # noqa: E402
import gold_ratio  # noqa: E402
import noise  # noqa: E402
import subset_size  # noqa: E402


@pytest.fixture
def make(reviews, student_dir, cloze, tmp_path):
    """Arguments of a small study: 80 reviews, and a teacher that was wrong about every eighth."""
    texts = [f"{text} take {k}" for k in range(5) for text in reviews["text"]]
    labels = reviews["label"][:] * 5
    Dataset.from_dict({"text": texts, "label": labels}).to_parquet(str(tmp_path / "reviews.parquet"))
    answers = [label if i % 8 else 1 - label for i, label in enumerate(labels)]
    Dataset.from_dict({"text": texts, "llm_label": answers}).to_csv(str(tmp_path / "labels.csv"))
    cloze.to_yaml(tmp_path / "task.yaml")

    def arguments(kind, **changes):
        return kind(
            **{
                "data": str(tmp_path / "reviews.parquet"), "teacher": "a large model", "student": student_dir,
                "recorded": str(tmp_path / "labels.csv"), "calibration": "none", "task": str(tmp_path / "task.yaml"),
                "run": str(tmp_path / "run"), "num_held_out": 16, "split_seed": 3, "max_length": 32, **changes,
            }
        )  # fmt: skip

    return arguments


@pytest.fixture
def training(tmp_path):
    return StudentConfig(
        str(tmp_path / "checkpoints"), use_cpu=True, num_train_epochs=1, learning_rate=5e-3, disable_tqdm=True, seed=1,
        report_to=[],
    )  # fmt: skip


@pytest.fixture
def nothing_more(monkeypatch):
    """From when this is called, nothing may be asked or trained."""

    def refuse(*args, **kwargs):
        raise AssertionError("asked or trained again")

    def begin():
        monkeypatch.setattr(StudentTrainer, "train", refuse)
        monkeypatch.setattr(RecordedTeacher, "ask", refuse)

    return begin


def page_of(tmp_path):
    found = json.loads((tmp_path / "run" / "table.json").read_text())
    assert (tmp_path / "run" / "figure.png").stat().st_size > 5000
    assert "data:image/png" in (tmp_path / "run" / "page.html").read_text()
    return found


def shares_are_shares(rows):
    assert all(0 <= row["low %"] <= row["accuracy %"] <= row["high %"] <= 1 for row in rows)


SIZES = [4, 8, 12, 16, 32, 48]


def test_subsets_are_nested_measured_and_fitted(make, training, nothing_more, tmp_path, monkeypatch):
    monkeypatch.setattr(subset_size, "RESAMPLES", 12)
    arguments = make(subset_size.SubsetArguments, sizes=SIZES, least_steps=2)
    found = subset_size.main(arguments, training)
    assert [(row["source"], row["labels"]) for row in found["rows"]] == [
        (source, size) for source in ("gold", "silver") for size in SIZES
    ]
    shares_are_shares(found["rows"])
    folder = tmp_path / "run" / "students" / "silver"
    texts = [set(Dataset.from_parquet(str(folder / str(n) / "1" / "silver.parquet"))["text"]) for n in SIZES]
    assert [len(one) for one in texts] == SIZES
    assert all(small < large for small, large in zip(texts, texts[1:], strict=False))
    steps = [json.loads((folder / str(n) / "1" / "metrics.json").read_text())["train"]["epochs"] for n in SIZES]
    assert steps == [2, 2, 2, 2, 1, 1]
    for forms in found["fits"].values():
        assert set(forms) == {"free", "prior"}
        for one in forms.values():
            assert one["foretold"] == one["foretold_curve"][-1]
            assert one["enough_interval"][0] <= one["enough_interval"][1]
            assert 4 <= one["enough"] <= subset_size.FAR
    assert json.loads((tmp_path / "run" / "fits.json").read_text())["gold"]["prior"]["smallest"] == 4
    assert any(line.startswith("silver less gold at 48 labels") for line in page_of(tmp_path)["findings"])
    nothing_more()
    assert subset_size.main(arguments, training)["rows"] == found["rows"]


def test_known_power_law_is_found_and_foretold():
    sizes = np.array([100, 200, 400, 800, 1600, 3200])
    accuracy = 1 - 0.1 - 0.2 * (sizes / 100) ** -0.5
    draws = accuracy + np.random.default_rng(0).normal(0, 0.001, (20, 6))
    found = subset_size.fits(sizes, accuracy, draws, 0.01)
    law = found["free"]["power_law"]
    assert [law[name]["value"] for name in law] == pytest.approx([0.1, 0.2, 0.5], abs=0.01)
    assert all(one["interval"][0] <= one["value"] <= one["interval"][1] for one in law.values())
    gain = 0.2 * (1 - 0.5**0.5)
    assert found["free"]["enough"] == pytest.approx(100 * (gain / 0.01) ** 2, rel=0.05)
    assert abs(found["free"]["foretold_error"]) < 0.005
    assert abs(found["prior"]["foretold_error"]) < 0.03


def test_curve_that_gains_nothing_is_enough_from_its_smallest_size():
    assert subset_size.Fit(0.1, 0.001, 0.3, 100).enough(0.0025) == 100
    assert subset_size.Fit(0.0, 0.9, 0.01, 100).enough(0.0025) == pytest.approx(subset_size.FAR)


def test_last_published_accuracy_is_foretold_by_the_first_four_within_a_point(
    make, training, tmp_path, nothing_more, monkeypatch
):
    nothing_more()
    monkeypatch.setattr(subset_size, "RESAMPLES", 12)
    found = subset_size.main(make(subset_size.SubsetArguments, published=True), training)
    for forms in found["fits"].values():
        for one in forms.values():
            assert abs(one["foretold_error"]) < 0.01
    assert found["rows"][-1]["accuracy %"] == 0.9477
    assert len(page_of(tmp_path)["rows"]) == 16


def test_texts_without_an_answer_make_the_largest_subset_smaller(make, training, tmp_path, monkeypatch):
    monkeypatch.setattr(subset_size, "RESAMPLES", 3)
    monkeypatch.setattr(subset_size, "learn", lambda *args, **kwargs: np.arange(16) % 4 > 0)
    path = tmp_path / "labels.csv"
    answers = Dataset.from_csv(str(path)).map(
        lambda row, i: {"llm_label": row["llm_label"] if i % 5 else -1}, with_indices=True
    )
    answers.to_csv(str(path))
    arguments = make(subset_size.SubsetArguments, sizes=[8, 9, 10, 11, 12, 32], least_steps=1)
    labels = {row["labels"] for row in subset_size.main(arguments, training)["rows"]}
    assert labels >= {8, 12}
    assert 12 < max(labels) < 32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": [4, 8, 8]}, "six or more different numbers"),
        ({"sizes": [1, 2, 3, 4, 5, 6]}, "above 1"),
        ({"worth": 0}, "worth must be above 0 points, got 0"),
    ],
)
def test_wrong_arguments_of_subset_size_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(subset_size.SubsetArguments, **wrong)


def test_flips_are_of_the_share_and_kind_asked_for():
    labels = np.arange(200) % 2
    wrong = noise.flipped(labels, 0.2, "random", 2, seed=1)
    assert (wrong != labels).sum() == 40
    assert 5 < (wrong != labels)[labels == 0].sum() < 35
    one_way = noise.flipped(labels, 0.2, "one way", 2, seed=1)
    assert (one_way != labels).sum() == 40
    assert (one_way == labels)[labels == 1].all()
    assert noise.flipped(labels, 0.9, "one way", 2, seed=1).tolist() == [1] * 200
    more = noise.flipped(labels, 0.3, "random", 2, seed=1)
    assert (more != labels)[wrong != labels].all()
    of_four = np.arange(400) % 4
    assert set((noise.flipped(of_four, 0.5, "one way", 4, seed=1) - of_four) % 4) == {0, 1}
    first, second = (noise.flipped(of_four, share, "random", 4, seed=1) for share in (0.25, 0.5))
    assert set((second - of_four) % 4) == {0, 1, 2, 3}
    assert (first == second)[first != of_four].all()


def test_noise_is_measured_end_to_end_and_frozen(make, training, nothing_more, tmp_path):
    arguments = make(
        noise.NoiseArguments, recorded=None, teacher="", shares=[0.25, 0.6], num_annotated=32, num_seeds=2
    )
    table = noise.main(arguments, training)
    assert [(row["training"], row["flips"]) for row in table[::3]] == [
        ("end to end", "random"), ("end to end", "one way"), ("frozen encoder", "random"), ("frozen encoder", "one way"),
    ]  # fmt: skip
    shares_are_shares(table)
    assert [row["flipped %"] for row in table[:3]] == [0, 0.25, pytest.approx(0.6, abs=0.02)]
    assert table[5]["flipped %"] < 0.6  # no more than there are of the first label
    assert table[0]["accuracy %"] == table[3]["accuracy %"]
    assert {row["less clean %"] for row in table if not row["flipped %"]} == {0}
    settings = [
        json.loads((tmp_path / "run" / "students" / name / "clean" / "1" / "stage.json").read_text())["config"][
            "arguments"
        ]
        for name in ("end-to-end", "frozen-encoder")
    ]
    assert [one["freeze_encoder"] for one in settings] == [False, True]
    assert settings[1]["learning_rate"] == arguments.frozen_learning_rate
    assert len(page_of(tmp_path)["findings"]) == 8
    nothing_more()
    assert noise.main(arguments, training) == table


def test_share_of_noise_that_is_none_is_refused(make):
    with pytest.raises(ValueError, match="shares must be from 0 to less than 1"):
        make(noise.NoiseArguments, shares=[20])


def test_splits_are_of_as_many_labels_or_as_much_money(make):
    splits = make(gold_ratio.RatioArguments, budget=40, shares=[1, 0, 0.25]).splits()
    assert splits == [
        ("labels", 0, 0, 40), ("labels", 0.25, 10, 30), ("labels", 1, 40, 0),
        ("money", 0, 0, 100), ("money", 0.25, 5, 75), ("money", 1, 20, 0),
    ]  # fmt: skip


def test_gold_ratio_is_measured_with_both_mixes(make, training, nothing_more, tmp_path):
    arguments = make(
        gold_ratio.RatioArguments, budget=24, shares=[0, 0.5, 1], gold_price=1.0, silver_price=0.25, num_seeds=2
    )
    table = gold_ratio.main(arguments, training)
    assert [(row["same"], row["gold"], row["silver"], row["mix"]) for row in table] == [
        ("labels", 0, 24, None), ("labels", 12, 12, "concat"), ("labels", 12, 12, "silver_then_gold"), ("labels", 24, 0, None),
        ("money", 0, 48, None), ("money", 6, 24, "concat"), ("money", 6, 24, "silver_then_gold"), ("money", 12, 0, None),
    ]  # fmt: skip
    assert {row["cost"] for row in table if row["same"] == "money"} == {12}
    assert [row["cost"] for row in table[:4]] == [6, 15, 15, 24]
    shares_are_shares(table)
    for comparison in ("labels", "money"):
        mine = [row for row in table if row["same"] == comparison]
        assert sum(row["best in %"] for row in mine) == pytest.approx(1)
        assert max(row["less best %"] for row in mine) == 0
    findings = page_of(tmp_path)["findings"]
    assert len(findings) == 6
    assert "gold alone less silver alone" in findings[1]
    nothing_more()
    assert gold_ratio.main(arguments, training) == table


def test_best_that_cannot_be_told_from_chance_says_so():
    random = np.random.default_rng(0)
    shares = [random.random((3, 400)) < p for p in (0.8, 0.79, 0.3)]
    rows = [
        {
            "same": "labels",
            "gold": 9 - k,
            "silver": k,
            "mix": None,
            "accuracy %": one.mean(),
            "low %": 0.0,
            "high %": 1.0,
        }
        for k, one in enumerate(shares)
    ]
    told = gold_ratio.compare(rows, np.array(shares))[0]
    assert "the best of 3" in told
    assert "not to be told from chance: " in told
    assert "7 gold and 2 silver" not in told
    assert rows[2]["best in %"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shares": [0, 1.5]}, "numbers from 0 to 1"),
        ({"shares": [1]}, "two or more different numbers"),
        ({"silver_price": 0}, "prices above 0"),
    ],
)
def test_wrong_arguments_of_gold_ratio_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(gold_ratio.RatioArguments, **wrong)


def test_too_few_texts_for_a_budget_are_explained(make, training):
    with pytest.raises(ValueError, match="The splits need 100 texts with gold and a usable answer, and of 64"):
        gold_ratio.main(make(gold_ratio.RatioArguments, budget=40), training)


ROUNDS = {"budget": 28, "num_dev": 12, "round_size": 8, "num_pool": 30, "label_column": "label"}


def test_strategies_are_compared_at_each_budget(make, training, nothing_more, tmp_path):
    arguments = make(active_vs_random.StudyArguments, strategies=["margin"], num_seeds=2, **ROUNDS)
    table = active_vs_random.main(arguments, training)
    assert [(row["strategy"], row["asked"]) for row in table] == [
        (strategy, asked) for strategy in ("random", "margin") for asked in (20, 28)
    ]
    shares_are_shares(table)
    assert {row["difference %"] for row in table if row["strategy"] == "random" or row["asked"] == 20} == {0}
    last = json.loads((tmp_path / "run" / "margin" / "2" / "active.json").read_text())
    assert [point["annotated"] for point in last["curve"]] == [20, 28]
    findings = page_of(tmp_path)["findings"]
    assert [line.split(":")[0] for line in findings] == ["margin less random"]
    nothing_more()
    assert active_vs_random.main(arguments, training) == table


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strategies": ["best"]}, r"some of random, margin, entropy, diverse, .* got \['best'\]"),
        ({"strategies": ["random"]}, "not only random"),
        ({"budget": 20}, "Expected two rounds or more, got budget 20"),
        ({"num_held_out": 0}, "pass label_column, and num_held_out above 0"),
    ],
)
def test_wrong_arguments_of_active_vs_random_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(active_vs_random.StudyArguments, **(ROUNDS | wrong))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("subset_size", subset_size.SubsetArguments),
        ("noise", noise.NoiseArguments),
        ("gold_ratio", gold_ratio.RatioArguments),
        ("active_vs_random", active_vs_random.StudyArguments),
    ],
)
def test_shipped_settings_are_arguments_of_their_study(name, kind):
    parser = TrlParser((kind, StudentConfig))
    parser.set_defaults(output_dir=None)
    arguments, training = parser.parse_args_and_config(["--config", str(STUDIES / f"{name}.yaml"), "--bf16", "false"])
    assert arguments.num_seeds > 1
    assert training.learning_rate == 1e-4
