"""The gate passes an honest run, stops poisoned ones, and nothing that missed it is published."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import (
    LLMLabeler,
    StudentLabeler,
    TaskSpec,
    annotate,
    check_gate,
    label_pool,
    load_data,
    load_gate,
    select_silver,
    train_student,
    write_report,
)
from hf_llambert.quality.gate import Condition
from hf_llambert.quality.gate_figures import Figure, figures_of
from hf_llambert.teachers.base import Reply
from hub_fixtures import client, environment, hub  # noqa: F401  (fixtures)
from test_cli import call
from test_cli import run as command
from test_training import arguments

pytestmark = pytest.mark.usefixtures("undrawn_reports")
TASK = TaskSpec("films", ("negative", "positive"), "{text}", chat=False)
GOOD, BAD = ["fine", "great", "warm", "keen"], ["dull", "slow", "poor", "weak"]
GATE = {
    "accuracy": {"at_least": 0.7, "certain": True},
    "student_less_teacher": {"at_least": -0.1},
    "each_class_recall": {"at_least": 0.7},
    "coverage": {"at_least": 0.95},
    "each_class_silver": {"at_least": 20},
    "noise": {"at_most": 0.2},
    "drift_p": {"at_least": 0.01},
}


def films(n, seed, place="film"):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=n)
    fill = ["the", "a", "this", place]
    texts = [
        " ".join([*random.choice((BAD, GOOD)[k], 4), *random.choice(fill, random.integers(3, 9)), str(i)])
        for i, k in enumerate(labels)
    ]
    return Dataset.from_dict({"text": texts, "label": labels})


@dataclass(frozen=True)
class ReadingTeacher(CountingTeacher):
    """Counts good and bad words; `poison` is what it does wrong: "flips" two in five, or knows no "positive"."""

    poison: str = ""

    def _reply(self, task: TaskSpec, text: str) -> Reply:
        label = int(sum(word in GOOD for word in text.split()) > 2)
        if self.poison == "flips" and int(text.rsplit(maxsplit=1)[-1]) % 5 < 2:
            label = 1 - label
        if self.poison == "no positive" and label and int(text.rsplit(maxsplit=1)[-1]) % 40:
            label = 0
        return Reply(scores=tuple(-0.1 if k == label else -3.0 for k in range(2)), seconds=0.5)


def make_run(folder, student_dir, poison=""):
    run = folder / "run"
    sample, held_out, pool = films(300, 1), films(120, 2), films(200, 3)
    if poison == "other pool":
        pool = pool.map(
            lambda row: {"text": f"the ticket says my invoice {row['text'].replace('film', 'order')} is late"}
        )
    labeler = LLMLabeler(TASK, ReadingTeacher(str(folder / "asked"), poison=poison), run / "ledger")
    annotate(sample, labeler, run / "annotated", gold_column="label", calibration="none", show_progress=False)
    silver, selection = select_silver(load_data(run), TASK)
    settings = arguments(folder, num_train_epochs=4, per_device_train_batch_size=16)
    train_student(
        TASK,
        student_dir,
        run / "student",
        settings,
        silver=silver,
        selection=selection,
        eval_data=held_out,
        max_length=32,
    )
    label_pool(pool.remove_columns("label"), StudentLabeler(run / "student"), run / "labels", show_progress=False)
    return run


@pytest.fixture(scope="module")
def honest(student_dir, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("honest"), student_dir)


def missed(report):
    return {one["name"] for one in report["gate"]["conditions"] if not one["passed"]}


def test_honest_run_passes(honest):
    report = write_report(honest, gate=GATE)
    assert report["gate"]["passed"], report["gate"]
    assert missed(report) == set()
    assert "✓ passed" in (honest / "report.html").read_text()
    assert "## The gate: passed" in (honest / "report.md").read_text()
    assert "## How common each class is" in (honest / "report.md").read_text()


@pytest.mark.parametrize(
    ("poison", "by"),
    [("flips", {"noise"}), ("no positive", {"each_class_silver", "each_class_recall"}), ("other pool", {"drift_p"})],
)
def test_poisoned_run_is_stopped(poison, by, student_dir, tmp_path):
    report = write_report(make_run(tmp_path, student_dir, poison), gate=GATE)
    assert not report["gate"]["passed"]
    assert by <= missed(report)
    if poison == "other pool":
        assert missed(report) == by


def test_gate_is_kept_and_judges_every_later_report(honest, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    write_report(run, gate=GATE | {"accuracy": {"at_least": 1.01, "certain": True}})
    again = write_report(run)
    assert missed(again) == {"accuracy"}
    kept = yaml.safe_load((run / "gate.yaml").read_text())
    assert kept == GATE | {"accuracy": {"at_least": 1.01, "certain": True}}
    json.dumps(again, allow_nan=False)


def test_condition_without_its_figure_is_missed(tmp_path):
    run = tmp_path / "run"
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), run / "ledger")
    annotate(Dataset.from_dict({"text": ["a", "b b"]}), labeler, run / "annotated", show_progress=False)
    report = write_report(run, gate={name: {"at_least": 0} for name in figures_of("choice")})
    measured = {one["name"] for one in report["gate"]["conditions"] if one["passed"]}
    assert measured == {"coverage", "failed", "eval_rows"}  # no gold is 0 rows to measure on, not an unknown number
    for one in report["gate"]["conditions"]:
        assert one["passed"] or (one["got"] == "not measured" and one["why"])


def test_five_gold_rows_pass_no_condition_that_must_be_certain(student_dir, tmp_path):
    report = {"student": {"accuracy": 1.0, "accuracy_low": 0.57, "accuracy_high": 1.0, "n": 5}}
    sure, estimate = (Condition("accuracy", at_least=0.8, certain=certain) for certain in (True, False))
    assert not check_gate(report, [sure])["passed"]
    assert check_gate(report, [estimate])["passed"]


def test_an_encoder_that_must_be_better_than_counting_words_is_judged_by_the_paired_difference(honest):
    report = {
        "student": {"linear": {"difference": {"difference": 0.03, "low": 0.01, "high": 0.05, "runs": 1, "n": 9}}}
    }
    for certain, bound, passed in ((True, 0.01, True), (True, 0.02, False), (False, 0.02, True)):
        [one] = check_gate(report, [Condition("better_than_baseline", bound, certain=certain)])["conditions"]
        assert one["passed"] is passed
        assert one["got"] == "0.03 (0.01 to 0.05)"
    [one] = check_gate({"student": {}}, [Condition("better_than_baseline", 0)])["conditions"]
    assert one["why"] == "nobody counted words on the same texts: train --eval_data, without --no_baseline"
    assert check_gate(write_report(honest), [Condition("better_than_baseline", -1)])["passed"]


def test_class_without_gold_rows_has_no_recall():
    one = {"recall": 0.0, "recall_low": 0.0, "recall_high": 1.0, "support": 0}
    report = {"student": {"per_class": {"a": {**one, "recall": 0.9, "support": 9}, "b": one}}}
    found = check_gate(report, [Condition("each_class_recall", at_least=0.5)])["conditions"][0]
    assert not found["passed"]
    assert found["why"] == "no gold row of b"


@pytest.mark.parametrize(
    ("bounds", "figure", "passed"),
    [
        ({"at_least": 0.5}, Figure(0.5), True),
        ({"at_least": 0.5}, Figure(0.4999), False),
        ({"at_most": 0.5}, Figure(0.5), True),
        ({"at_most": 0.5}, Figure(0.6), False),
        ({"at_least": 0.5, "certain": True}, Figure(0.6, 0.49, 0.7), False),
        ({"at_most": 0.5, "certain": True}, Figure(0.4, 0.3, 0.51), False),
        ({"at_most": 0.5, "certain": True}, Figure(0.4, 0.3, 0.5), True),
        ({"at_most": 0.5, "certain": True}, Figure(0.1), False),
        ({"at_least": 0.5}, Figure(float("nan")), False),
    ],
)
def test_bounds_are_kept_to(bounds, figure, passed):
    assert Condition("accuracy", **bounds).judge(figure)["passed"] is passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acuracy: {at_least: 0.8}", "no figure 'acuracy'. Did you mean accuracy"),
        ("accuracy: {atleast: 0.8}", "Expected {at_least: number}"),
        ("accuracy: 0.8", "Expected {at_least: number}"),
        ("accuracy: {at_least: much}", "takes a number"),
        ("accuracy: {at_least: .nan}", "takes a number"),
        ("accuracy: {at_least: true}", "takes a number"),
        (f"accuracy: {{at_least: {10**400}}}", "takes a number"),
        ("accuracy: {at_least: 0.8, at_most: 0.9}", "one of them"),
        ("accuracy: {certain: true}", "takes a number"),
        ("accuracy: {at_least: 0.8, certain: 1}", "true or false"),
        ("", "Expected figures with their conditions"),
        ("- accuracy", "Expected figures with their conditions"),
        ("accuracy: {", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_malformed_conditions_are_refused(text, said, tmp_path):
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(ValueError, match="(?s)" + said.replace("{", r"\{")):
        load_gate(tmp_path / "gate.yaml")


def test_malformed_conditions_leave_the_old_ones(honest, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    write_report(run, gate=GATE)
    with pytest.raises(ValueError, match="no figure 'x'"):
        write_report(run, gate={"x": {"at_least": 1}})
    assert yaml.safe_load((run / "gate.yaml").read_text()) == GATE


def test_command_exits_with_1_where_the_gate_is_missed(honest, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    (run / "gate.yaml").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"has no gate\.yaml yet"):
        call("gate", run)
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(GATE))
    call("gate", run, "--conditions", tmp_path / "gate.yaml")
    assert "The gate: passed" in capsys.readouterr().out
    (tmp_path / "gate.yaml").write_text("accuracy: {at_least: 1.01}")
    assert "The gate: missed" in command("gate", run, "--conditions", tmp_path / "gate.yaml", expect=1)


def test_nothing_of_a_gated_run_is_sent_while_it_is_made(honest, tmp_path):
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(GATE))
    with pytest.raises(ValueError, match="has a gate"):
        call("label", "--student", honest, "--data", "none.jsonl", "--output", tmp_path, "--push_to_hub", "me/x")


def test_pool_is_compared_by_its_own_text_column(honest, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    shutil.rmtree(run / "labels")
    pool = films(200, 3).remove_columns("label").rename_column("text", "review")
    label_pool(pool, StudentLabeler(run / "student", "review"), run / "labels", show_progress=False)
    assert write_report(run)["drift"]["p"] is not None


def test_missed_gate_publishes_nothing(hub, client, honest, tmp_path):  # noqa: F811
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    write_report(run, gate={"accuracy": {"at_least": 1.01}})
    with pytest.raises(RuntimeError, match="misses its gate, so nothing is published: accuracy"):
        client.push(run, "tester/gated")
    for kind in ("dataset", "model"):
        with pytest.raises(KeyError):
            hub.files(kind, "tester/gated")
    write_report(run, gate={"coverage": {"at_least": 0.9}})
    assert set(client.push(run, "tester/gated")) == {"dataset", "model"}


def test_zero_is_a_bound_too(honest, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    asked = {"slice_difference": {"at_least": 0}, "failed": {"at_most": 0}}
    write_report(run, gate=asked)
    assert yaml.safe_load((run / "gate.yaml").read_text()) == asked
    assert {one["name"] for one in write_report(run)["gate"]["conditions"]} == set(asked)


def test_two_conditions_for_one_figure_are_refused(tmp_path):
    (tmp_path / "gate.yaml").write_text("accuracy: {at_least: 0.9}\naccuracy: {at_least: 0.1}")
    with pytest.raises(ValueError, match="two conditions for accuracy"):
        load_gate(tmp_path / "gate.yaml")


def test_lost_conditions_let_nothing_pass(honest, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    (run / "gate.yaml").unlink(missing_ok=True)
    (run / "gate.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(FileNotFoundError):
        write_report(run)


def test_lowest_recall_is_certain_only_where_each_class_is():
    classes = {
        "a": {"recall": 0.80, "recall_low": 0.75, "recall_high": 0.85, "support": 300},
        "b": {"recall": 0.83, "recall_low": 0.44, "recall_high": 0.97, "support": 6},
    }
    sure = Condition("each_class_recall", at_least=0.7, certain=True)
    assert not check_gate({"student": {"per_class": classes}}, [sure])["passed"]
