"""`train --kind linear` and `static`: a run whose student is fast goes on like any other."""

import json

import pytest
from huggingface_hub import ModelCard

from conftest import make_reviews
from hf_llambert import Publication, StudentLabeler, distill_student, write_report
from hf_llambert.hub.cards import model_card
from hf_llambert.hub.push import _Plan
from test_cli import call, data_file, task_file  # noqa: F401  (fixtures)

pytestmark = pytest.mark.usefixtures("undrawn_reports")
SENT = {"linear": {"linear.safetensors", "vocabulary.json"}, "static": {"model.safetensors", "tokenizer.json"}}


def of(kind, student_dir):
    return ["--kind", kind, *(["--student", student_dir] if kind == "static" else [])]


@pytest.mark.parametrize("kind", ["linear", "static"])
def test_a_run_with_a_fast_student_is_labelled_reported_judged_and_published(
    kind, task_file, data_file, teacher_dir, student_dir, tmp_path, typed  # noqa: F811
):  # fmt: skip
    run = tmp_path / "run"
    common = ["--task", task_file, "--output", run]
    call("annotate", *common, "--data", data_file, "--teacher", teacher_dir)
    held_out = tmp_path / "held_out.jsonl"
    make_reviews(40).select(range(20, 40)).to_json(str(held_out))
    command = ["train", *common, *of(kind, student_dir), "--silver", run, "--gold", data_file, "--eval_data", held_out]
    shown = typed(*command)
    assert "trained on 32 labels" in shown
    assert "on 20 held-out texts" in shown
    assert StudentLabeler(run / "student").kind == kind
    assert len(list(run.glob("vectors-*"))) == (kind == "static")
    before = (run / "student" / "metrics.json").read_bytes()
    call(*command)  # the same again computes nothing
    assert (run / "student" / "metrics.json").read_bytes() == before
    assert "16 texts labelled" in typed("label", "--student", run / "student", "--data", data_file, "--output", run)
    assert "16 annotated, 16 silver, 16 labelled" in typed("report", run)
    assert "student" in typed("status", run)
    gate = tmp_path / "gate.yaml"
    gate.write_text("eval_rows: {at_least: 20}\n")
    assert "passed" in typed("gate", run, "--conditions", gate)
    report, publication = write_report(run), Publication("our-team/reviews", "mit")
    assert (report["student"]["kind"], report["student"]["reading"]) == (kind, {"fields": ["text"]})
    plan = _Plan.of(run, publication, False, False, False)
    (model,) = (one for one in plan.repositories if one.name == "model")
    files = set(plan.files(model, tmp_path))
    assert SENT[kind] | {"config.json", "training.json"} == {name for name in files if not name.startswith("figures/")}
    card = ModelCard(plan.card(model))
    assert card.data.library_name == {"linear": "hf_llambert", "static": "model2vec"}[kind]
    assert 'StudentLabeler("our-team/reviews")' in card.text
    assert ('StaticModel.from_pretrained("our-team/reviews")' in card.text) is (kind == "static")
    assert "pipeline(" not in card.text
    assert "- 16 silver labels (the teacher's), 16 gold ones (people's)\n" in card.text
    assert card.data.eval_results[0].metric_value == round(report["student"]["accuracy"], 4)
    with pytest.raises(ValueError, match=f"is {kind}: as fast as what could be distilled"):
        distill_student(run)
    with pytest.raises(ValueError, match="A demo runs an encoder, and this run's student is none"):
        _Plan.of(run, publication, False, True, False)


def test_a_static_student_names_the_model_of_the_hub_that_it_began_with(finished_run):
    report = json.loads((finished_run / "report.json").read_text())
    questions = [
        {
            "name": "", "kind": "choice", "labels": ["negative", "positive"], "first": 0, "size": 2,
            "loss": "cross_entropy",
        }
    ]  # fmt: skip
    report["student"] |= {"kind": "static", "questions": questions}
    report["student"]["train"] |= {"student": "static", "vectors": "org/potion@0123abc"}
    assert ModelCard(model_card(report, Publication("our-team/reviews", "mit"))).data.base_model == "org/potion"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "tree"], "--kind must be encoder, linear or static; got 'tree'"),
        ([], "--student is missing: an encoder to start from. Without one: --kind linear"),
        (["--kind", "static"], "--student is missing: an encoder, or a static model"),
        (
            ["--kind", "linear", "--student", "org/x"],
            "A linear student starts from nothing. Leave --student org/x out",
        ),
        (["--kind", "linear", "--seeds", "2"], "A linear student has no use for --seeds. Leave that out"),
        (["--kind", "linear", "--num_train_epochs", "2"], "has no use for --num_train_epochs"),
        (["--kind", "linear", "--learning_rate=1", "--revision", "x"], "no use for --revision, --learning_rate"),
        (["--kind", "static", "--student", "x", "--curve", "--max_length", "9"], "no use for --max_length, --curve"),
        (["--kind", "static", "--student", "x", "--label_error_folds", "2"], "no use for --label_error_folds"),
        (["--kind", "linear", "--no_baseline"], "no use for --baseline"),
    ],
)
def test_what_does_not_go_with_a_kind_is_refused(words, message, task_file, data_file, tmp_path, typed):  # noqa: F811
    given = ["train", "--task", task_file, "--gold", data_file, "--eval_data", data_file, "--output", tmp_path / "r"]
    assert message in typed(*given, *words, expect=1)
    assert not (tmp_path / "r").exists()
