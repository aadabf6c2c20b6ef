import json

import numpy as np
import pytest
from datasets import Dataset, load_from_disk

from conftest import make_cloze
from fakes import CountingTeacher
from hf_llambert import (
    LLMLabeler,
    Publication,
    TaskSpec,
    TransformersTeacher,
    annotate,
    saved_calibration,
    select_silver,
    write_report,
)
from hf_llambert.annotation.jury import jury_columns, posterior
from hf_llambert.hub.cards import dataset_card
from hf_llambert.hub.files import annotation_note

pytestmark = pytest.mark.usefixtures("undrawn_reports")

TASK = TaskSpec("t", ("a", "b", "c"), "{text}")
ACCURACIES = {"good": 0.9, "fair": 0.8, "weak": 0.6, "weaker": 0.6, "poor": 0.55}


def simulated(accuracies, rows=500, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, rows)
    votes = {}
    for name, accuracy in accuracies.items():
        wrong = (truth + rng.integers(1, labels, rows)) % labels
        votes[name] = np.where(rng.random(rows) < accuracy, truth, wrong).tolist()
    return truth, votes


def features(task):
    return LLMLabeler(task, CountingTeacher("asked"), "unused").features()


def columns(votes, scores=None, status=None):
    data = {}
    for name, labels in votes.items():
        given = scores[name] if scores else [None] * len(labels)
        data |= {f"{name}_label": labels, f"{name}_scores": given, f"{name}_truncated": [False] * len(labels)}
        data[f"{name}_status"] = status[name] if status else ["ok" if x >= 0 else "abstained" for x in labels]
    return Dataset.from_dict(data)


def test_dawid_skene_beats_the_majority():
    truth, votes = simulated(ACCURACIES)
    right = {m: (posterior(votes, 3, m)[0].argmax(1) == truth).mean() for m in ("majority", "dawid_skene")}
    assert right["dawid_skene"] > right["majority"]


def test_spammers_are_seen_through_by_mace():
    truth, votes = simulated({"good": 0.9, "fair": 0.85, "third": 0.8}, rows=300)
    _, believed = posterior({"spam": [2] * 300, "more": [1] * 300, **votes}, 3, "mace")
    assert max(believed["spam"], believed["more"]) < min(believed["good"], believed["fair"], believed["third"])


@pytest.mark.parametrize("method", ["dawid_skene", "mace"])
def test_two_members_are_too_few_to_learn_from(method):
    with pytest.raises(ValueError, match="learns from 3 members or more whom to believe; 2 gave labels. Use majority"):
        posterior({"x": [0, 1], "y": [1, 1], "silent": [-1, -1]}, 2, method)


def test_mace_beats_the_majority():
    truth, votes = simulated(ACCURACIES)
    found, believed = posterior(votes, 3, "mace")
    assert (found.argmax(1) == truth).mean() > (posterior(votes, 3, "majority")[0].argmax(1) == truth).mean()
    assert sorted(believed, key=believed.get, reverse=True)[:2] == ["good", "fair"]


def test_dawid_skene_estimates_each_members_accuracy_without_gold():
    truth, votes = simulated(ACCURACIES, rows=2000)
    _, believed = posterior(votes, 3)
    for name, given in votes.items():
        assert believed[name] == pytest.approx(np.mean(np.array(given) == truth), abs=0.05)


def test_a_member_who_always_says_the_same_does_not_decide():
    truth, votes = simulated({"good": 0.85, "fair": 0.8, "third": 0.8})
    votes |= {"spam": [2] * 500}
    right = {m: (posterior(votes, 3, m)[0].argmax(1) == truth).mean() for m in ("majority", "dawid_skene")}
    assert right["dawid_skene"] >= right["majority"]
    assert min(posterior(votes, 3)[1], key=posterior(votes, 3)[1].get) == "spam"


@pytest.mark.parametrize("method", ["majority", "dawid_skene"])
def test_odd_juries_give_probabilities_of_every_label(method):
    for votes in (
        {"x": [0, 0], "y": [0, 0], "z": [0, 0]},  # one label only
        {"x": [0, -1, -1], "y": [-1, 1, -1], "z": [-1, -1, 2]},  # nobody overlaps
        {"x": [2, -1, -1], "y": [-1, -1, -1], "z": [2, -1, -1], "w": [1, -1, -1]},  # one says nothing at all
        {"x": [-1, -1], "y": [-1, -1], "z": [-1, -1]},  # nobody says anything
    ):
        found, _ = posterior(votes, 3, method)
        said = (np.array(list(votes.values())) >= 0).any(0)
        assert found.shape == (len(said), 3)
        assert found.sum(1) == pytest.approx(said.astype(float))


def test_ties_and_silence_abstain_with_their_reason_and_nothing_vanishes():
    votes = {"x": [0, 0, -1, 1, -1], "y": [0, 1, -1, -1, -1]}
    status = {"x": ["ok", "ok", "abstained", "ok", "failed"], "y": ["ok", "ok", "abstained", "failed", "failed"]}
    out, found = jury_columns(columns(votes, status=status), ["x", "y"], TASK, "majority")
    assert out["llm_label"][:] == [0, -1, -1, 1, -1]
    assert out["llm_status"][:] == ["ok", "abstained", "abstained", "ok", "failed"]
    assert out["llm_reason"][:] == [
        None,
        "the jury is tied",
        "no member gave a label",
        None,
        "no teacher could be asked",
    ]
    assert found["n_ties"] == 1
    assert found["agreement"] == {"x": 1.0, "y": 1.0}
    assert found["pairs"][0] | {"kappa": None} == {"members": ["x", "y"], "n": 2, "equal": 0.5, "kappa": None}


def test_columns_of_a_jury_are_those_of_its_members_in_their_order_and_types():
    out, _ = jury_columns(columns({"x": [0], "y": [0]}), ["x", "y"], TASK, "majority")
    own = features(TASK)
    assert {name: out.features[name] for name in own} == own
    assert out.column_names[-len(own) :] == list(own)


def test_scores_are_the_logarithm_of_the_posterior():
    out, _ = jury_columns(columns({"x": [0, 1], "y": [0, 2], "z": [1, 1]}), ["x", "y", "z"], TASK, "majority")
    assert np.exp(out["llm_scores"][0]) == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)
    assert out["llm_confidence"][:] == pytest.approx([2 / 3, 2 / 3])


def test_the_mean_of_probabilities_listens_to_the_sure():
    scores = {"x": [np.log([0.9, 0.1]).tolist()], "y": [np.log([0.4, 0.6]).tolist()]}
    task = TaskSpec("t", ("a", "b"), "{text}")
    out, _ = jury_columns(columns({"x": [0], "y": [1]}, scores), ["x", "y"], task, "mean")
    assert out["llm_label"][:] == [0]
    assert out["llm_confidence"][:] == pytest.approx([0.65])
    with pytest.raises(ValueError, match="needs scores, and 'x' gave none"):
        jury_columns(columns({"x": [0], "y": [1]}), ["x", "y"], task, "mean")


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="got 'vote'"):
        posterior({"x": [0]}, 2, "vote")


def two_prompts(ledger, teacher):
    other = TaskSpec.from_dict({**make_cloze().to_dict(), "name": "other", "instruction": "A review: {text}"})
    return {name: LLMLabeler(task, teacher, ledger) for name, task in (("one", make_cloze()), ("two", other))}


def test_annotate_with_two_prompts_gives_each_its_columns_and_a_jury(teacher_dir, reviews, tmp_path):
    labelers = two_prompts(tmp_path / "ledger", TransformersTeacher(teacher_dir))
    out = annotate(
        reviews, labelers, tmp_path / "run/annotated", jury="mean", gold_column="label", show_progress=False
    )
    data = load_from_disk(str(tmp_path / "run/annotated"))
    assert data["text"][:] == reviews["text"][:]
    assert {"one_label", "one_scores", "two_label", "two_status", "llm_label", "llm_scores"} <= set(data.column_names)
    assert data["one_scores"][:] != data["two_scores"][:]
    assert out["mode"] == "jury"
    assert set(out["members"]) == {"one", "two"}
    assert out["members"]["one"]["quality"]["n"] == out["quality"]["n"] == 16
    for name in ("one", "two"):
        alone = annotate(reviews, labelers[name], tmp_path / name, show_progress=False)
        assert alone["labels"] == out["members"][name]["labels"]
    silver, _ = select_silver(data, make_cloze(), calibration=saved_calibration(tmp_path / "run"))
    assert np.allclose(np.exp(data["llm_scores"][0]), silver["probabilities"][0], atol=1e-5)


def test_a_jury_asks_nothing_twice_and_again_about_what_failed(reviews, tmp_path):
    teachers = {
        name: CountingTeacher(str(tmp_path / name), fails_on=fails, version=k)
        for k, (name, fails) in enumerate((("x", ""), ("y", "number 3"), ("z", "")))
    }

    def run(teachers):
        labelers = {name: LLMLabeler(TASK, t, tmp_path / "ledger") for name, t in teachers.items()}
        return annotate(reviews, labelers, tmp_path / "out", jury="majority", show_progress=False)

    first = run(teachers)
    assert (first["n_failed"], first["members"]["y"]["n_failed"]) == (1, 1)
    again = run({**teachers, "y": CountingTeacher(str(tmp_path / "y"), version=1)})
    assert again["n_failed"] == 0
    assert [len(teacher.asked()) for teacher in teachers.values()] == [16, 17, 16]
    assert json.loads((tmp_path / "out/stage.json").read_text())["results"]["jury"]["method"] == "majority"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"one": m["one"]}, "two members or more"),
        (lambda m: {"one": m["one"], "llm": m["two"]}, "got 'llm'"),
        (lambda m: {"one": m["one"], "a b": m["two"]}, "got 'a b'"),
        (
            lambda m: {"one": m["one"], "two": LLMLabeler(TASK, m["two"].teacher, m["two"].ledger.folder)},
            "the same labels in the same order",
        ),
    ],
)
def test_members_that_cannot_be_one_jury_are_refused(reviews, tmp_path, change, message):
    labelers = two_prompts(tmp_path / "ledger", CountingTeacher(str(tmp_path / "log")))
    with pytest.raises(ValueError, match=message):
        annotate(reviews, change(labelers), tmp_path / "out", show_progress=False)


def test_jury_stands_in_report_card_and_note_and_each_member_can_be_had_again(teacher_dir, reviews, tmp_path):
    run = tmp_path / "run"
    labelers = two_prompts(run / "ledger", TransformersTeacher(teacher_dir))
    labelers["three"] = LLMLabeler(make_cloze(), TransformersTeacher(teacher_dir, max_text_tokens=20), run / "ledger")
    annotate(reviews, labelers, run / "annotated", gold_column="label", show_progress=False)
    report = write_report(run)
    shown = (run / "report.md").read_text()
    assert "## The jury" in shown
    assert "| three |" in shown
    card = dataset_card(
        report, Publication("team/reviews", "apache-2.0"), {"annotations": {"rows": 16, "columns": {}}}
    )
    assert "a jury of 3, by dawid\\_skene" in card
    assert "one: teacher" in card
    (tmp_path / "note").mkdir()
    (tmp_path / "note/annotation.json").write_bytes(annotation_note(run))
    with pytest.raises(ValueError, match="annotated by a jury. Pass member=, one of one, two, three; got None"):
        LLMLabeler.from_dataset(str(tmp_path / "note"), tmp_path / "l")
    again = LLMLabeler.from_dataset(
        str(tmp_path / "note"), run / "ledger", teacher=TransformersTeacher(teacher_dir), member="two"
    )
    assert again.task.name == "other"
    expected = load_from_disk(str(run / "annotated"))["two_label"][:]
    assert again({"text": reviews["text"][:]})["llm_label"] == expected
