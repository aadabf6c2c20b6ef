"""Cards of three questions: figures of each in the metadata, what each column is, and nobody's labels unasked."""

import json

import pytest
from datasets import Dataset
from huggingface_hub import DatasetCard, ModelCard

from hf_llambert import Publication, write_report
from hf_llambert.hub.cards import dataset_card, model_card
from hf_llambert.hub.files import annotation_note, column_types, dataset_configs
from hf_llambert.hub.push import logit_names
from kind_run import TASK, make_kind_run

PUBLICATION = Publication("our-team/visits", "cc-by-4.0", ("en",), "google/bert", ("org/visits",))
pytestmark = pytest.mark.usefixtures("undrawn_reports")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_kind_run(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def report(run):
    from conftest import Undrawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_llambert.report.figures._figure", lambda size: Undrawn(figsize=size, layout="constrained"))
        return write_report(run)


def test_metadata_has_the_figures_of_each_question(report):
    card = ModelCard(model_card(report, PUBLICATION))
    found = {(one.dataset_config, one.metric_name): one for one in card.data.eval_results}
    for question, name, key in (
        ("tone", "Accuracy", "accuracy"),
        ("quality", "Spearman correlation", "spearman"),
        ("topics", "Micro-F1", "micro_f1"),
        ("topics", "Macro-F1", "macro_f1"),
    ):
        one = found[question, name]
        assert one.metric_value == round(report["questions"][question]["student"][key], 4)
        assert one.dataset_name == f"{question}: held-out visits (300 texts with gold labels)"
    assert {"accuracy", "f1", "spearmanr", "mae"} <= set(card.data.metrics)


def test_model_card_says_whose_logits_are_whose(report):
    text = model_card(report, PUBLICATION)
    assert "answers 3 questions (*tone*, *quality*, *topics*)" in text
    assert "*quality* (scale: 1, 2, 3, 4, 5)" in text
    assert 'top_k=None, function_to_apply="none"' in text
    assert "![Answers by people's](figures/quality-scale.png)" in text
    assert "![Confusion matrices](figures/tone-confusion.png)" in text
    assert "- per label of topics: food 80, staff 80, price 80" in text
    assert "| topics: usable | 240 |" in text
    assert "### quality (scale)" in text


def test_dataset_card_says_what_the_columns_of_each_kind_are(report, run):
    silver = Dataset.from_dict({"text": ["a"]})
    text = dataset_card(report, PUBLICATION, {"silver": {"rows": 1, "columns": column_types(silver.features)}})
    assert DatasetCard(text).data.license == "cc-by-4.0"
    assert "quality: `value` is the expectation" in text
    assert "topics: `labels` is a list" in text
    assert "begin with `llm_tone_`" in text
    assert "**topics** (choices)" in text
    assert "Spearman" in text


def test_what_people_said_is_not_published_unasked(run):
    own = {one.name for one in TASK.questions}
    (run / "labels").rename(run / "hidden")  # made up: without the features of labels
    try:
        kept, hidden = dataset_configs(run, gold=True), dataset_configs(run, gold=False)
    finally:
        (run / "hidden").rename(run / "labels")
    assert own <= set(kept["annotations"].column_names)
    assert not own & set(hidden["annotations"].column_names)
    assert own <= set(hidden["silver"].column_names)  # the teacher's
    assert not {f"gold_{name}" for name in own} & set(hidden["silver"].column_names)
    assert hidden["silver"]["tone"][:5] == kept["annotations"]["llm_tone_label"][:5]


def test_note_of_the_teacher_has_a_calibration_for_each_question(run):
    stage = json.loads((run / "annotated" / "stage.json").read_text())
    (run / "annotated" / "stage.json").write_text(json.dumps({"made": {"hf_llambert": "0"}, **stage}))
    assert set(json.loads(annotation_note(run))["calibration"]) == {one.name for one in TASK.questions}


def test_logits_are_called_as_question_and_label_or_as_a_number():
    every, by_number = logit_names(TASK)
    assert every[:4] == ["tone: good", "tone: bad", "tone: neither", "quality: 1"]
    assert by_number[3:5] == ["quality", "topics: food"]
    assert logit_names(TASK.parts["tone"])[0][0].endswith("good")
