"""The cards: true, merged with what people wrote, and accepted by the Hub's own validators."""

import copy
import json
import re

import pytest
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from hf_llambert import Publication
from hf_llambert.hub.cards import dataset_card, merge_cards, model_card
from hf_llambert.hub.files import column_types, dataset_configs
from hf_llambert.shown import shown_command

PUBLICATION = Publication("our-team/tiny", "cc-by-4.0", ("en",), "google/bert_uncased_L-2_H-128_A-2", ("org/reviews",))


@pytest.fixture
def report(finished_run) -> dict:
    return json.loads((finished_run / "report.json").read_text())


@pytest.fixture
def dataset_text(report, finished_run) -> str:
    configs = dataset_configs(finished_run, gold=False)
    described = {name: {"rows": len(d), "columns": column_types(d.features)} for name, d in configs.items()}
    return dataset_card(report, PUBLICATION, described)


def test_dataset_card_says_that_its_labels_are_machine_generated(dataset_text):
    data = DatasetCard(dataset_text).data
    assert isinstance(data, DatasetCardData)
    assert data.annotations_creators == ["machine-generated"]
    assert data.task_categories == ["text-classification"]
    assert (data.license, data.language, data.source_datasets) == ("cc-by-4.0", ["en"], ["org/reviews"])
    assert data.size_categories == ["n<1K"]
    assert [config["config_name"] for config in data["configs"]] == ["annotations", "silver", "labels"]


def test_model_card_carries_every_measured_figure_with_its_test_set(report):
    data = ModelCard(model_card(report, PUBLICATION)).data
    assert isinstance(data, ModelCardData)
    results = {result.metric_type: result for result in data.eval_results}
    assert all(isinstance(result, EvalResult) for result in results.values())
    for metric, name in (("accuracy", "accuracy"), ("f1", "macro_f1"), ("mcc", "mcc"), ("ece", "ece")):
        assert results[metric].metric_value == round(report["student"][name], 4)
        assert results[metric].dataset_name == "10 held-out reviews (10 texts with gold labels)"
        assert results[metric].dataset_type == "org/reviews"
    assert data.base_model == PUBLICATION.base_model
    assert data.datasets == ["our-team/tiny"]


def test_cards_tell_the_prompt_the_counts_and_all_three_accuracies(report, dataset_text):
    for text in (dataset_text, model_card(report, PUBLICATION)):
        assert "    Movie review: {text}\n    Overall, the movie was\n" in text
        assert "negative: terrible, not worth the ticket; positive: great, wonderful" in text
        assert "- seeds: the first" in text  # how things were chosen
        assert "20 texts asked about: 20 usable answers, 0 abstained, 0 failed" in text
        for who in ("teacher", "student", "baseline"):
            assert f"{report[who]['accuracy']:.1%} (" in text


def test_card_of_a_student_says_what_it_is_worth_beyond_counting_words(report):
    before = ModelCard(model_card(report, PUBLICATION)).data.eval_results
    report["student"]["linear"] |= {"sentence": "accuracy 90.0% by <b>", "advice": "distil it", "accuracy": 0.123}
    text = model_card(report, PUBLICATION)
    assert "\n\nAccuracy 90.0% by &lt;b&gt;.\n\n" in text  # what to do is for who has the run
    assert "on the same labels | 12.3% (" in text
    assert ModelCard(text).data.eval_results == before
    del report["student"]["linear"]
    assert "counting words" not in model_card(report, PUBLICATION)


def test_cards_have_the_codebook_as_text(report):
    assert "What the labels mean" not in model_card(report, PUBLICATION)
    report["task"]["descriptions"] = {"positive": "praise <b> [x](javascript:y)"}
    assert "What the labels mean:\n\n- positive: praise &lt;b&gt; \\[x\\]\\(javascript:y\\)\n" in model_card(
        report, PUBLICATION
    )


def test_student_that_was_not_measured_claims_nothing(report):
    for name in ("accuracy", "macro_f1", "per_class", "confusion", "reliability", "source"):
        report["student"].pop(name)
    report.pop("student_less_baseline")
    text = model_card(report, PUBLICATION)
    assert ModelCard(text).data.eval_results is None
    assert "It was not measured against labels by people." in text


def test_run_without_student_or_gold_has_a_dataset_card(report):
    report |= {"student": None, "baseline": None, "labels": None, "n_labelled": None, "n_silver": None}
    report.pop("student_less_baseline")
    for name in ("accuracy", "macro_f1", "per_class", "confusion", "reliability"):
        report["teacher"].pop(name)
    text = dataset_card(report, PUBLICATION, {"annotations": {"rows": 20, "columns": {"text": "string"}}})
    assert "nobody knows how often the teacher is right" in text


def test_names_and_reasons_in_a_card_are_text_not_markup(report):
    bad = "<script>alert(1)</script> ](http://evil.example) | x"
    report["task"]["labels"][0] = bad
    report["task"]["verbalizers"] = {bad: ["terrible"], "positive": ["great"]}
    report["teacher"]["reasons"] = {bad: 3}
    report["teacher"]["labels"] = {bad: 3}
    report["student"]["source"] = bad
    text = model_card(report, PUBLICATION)
    body = ModelCard(text).text
    assert "<script" not in body
    assert "](http://evil" not in body


def test_prompt_cannot_end_its_section(report):
    report["task"]["instruction"] = "{text}\n<!-- /hf_llambert: teacher -->\n<!-- hf_llambert: evil -->\n# Mine now"
    text = model_card(report, PUBLICATION)
    assert merge_cards(text, text, ModelCard) == text


def test_card_merged_with_itself_does_not_change(report, dataset_text):
    assert merge_cards(dataset_text, dataset_text, DatasetCard) == dataset_text
    text = model_card(report, PUBLICATION)
    assert merge_cards(text, text, ModelCard) == text


def test_what_a_person_wrote_stays_and_what_was_generated_is_renewed(report):
    old = model_card(report, PUBLICATION)
    edited = old.replace("# tiny\n", "# Our reviews model\n\nAsk Ana before you use it.\n").replace(
        "<!-- hf_llambert: limits -->", "## Thanks\n\nTo all.\n\n<!-- hf_llambert: limits -->"
    )
    newer = copy.deepcopy(report)
    newer["student"] |= {"accuracy": 0.777, "n": 1234}
    merged = merge_cards(edited, model_card(newer, PUBLICATION), ModelCard)
    assert "# Our reviews model\n\nAsk Ana before you use it.\n" in merged
    assert "## Thanks\n\nTo all.\n" in merged
    assert "# tiny\n" not in merged
    assert "77.7% (" in merged
    assert "n=1,234" in merged
    assert merged.count("<!-- hf_llambert: quality -->") == 1


def test_metadata_of_people_stays(report):
    old = (
        "---\nlicense: mit\ntags:\n- cinema\ndatasets: imdb\nthumbnail: a.png\nmodel-index:\n- name: x\n  results:\n"
        "  - task:\n      type: text-classification\n    dataset:\n      name: Other\n      type: other\n    metrics:\n"
        "    - type: accuracy\n      value: 0.5\n---\nWritten by hand.\n"
    )
    merged = ModelCard(merge_cards(old, model_card(report, PUBLICATION), ModelCard))
    data = merged.data
    assert data.license == "cc-by-4.0"
    assert data.tags == ["cinema", "hf_llambert", "text-classification"]
    assert data.datasets == ["imdb", "our-team/tiny"]
    assert data["thumbnail"] == "a.png"
    assert [r.dataset_name for r in data.eval_results] == ["10 held-out reviews (10 texts with gold labels)"] * 4 + [
        "Other"
    ]
    assert merged.text.startswith("Written by hand.\n")
    assert "<!-- hf_llambert: about -->" in merged.text


def test_section_that_no_longer_applies_goes():
    old = "---\nlicense: mit\n---\nA\n<!-- hf_llambert: audit -->\nold\n<!-- /hf_llambert: audit -->\nB\n"
    new = "---\nlicense: mit\n---\n<!-- hf_llambert: about -->\nnew\n<!-- /hf_llambert: about -->\n"
    merged = merge_cards(old, new, ModelCard)
    assert "old" not in merged
    assert merged.index("A\n") < merged.index("B\n") < merged.index("new\n")


def test_card_with_a_torn_section_is_refused(report):
    text = model_card(report, PUBLICATION)
    with pytest.raises(ValueError, match="beginning or end is missing"):
        merge_cards(text.replace("<!-- /hf_llambert: quality -->\n", ""), text, ModelCard)


def test_card_with_unreadable_metadata_is_refused(report):
    text = model_card(report, PUBLICATION)
    with pytest.raises(ValueError, match="cannot be read"):
        merge_cards("---\nlicense: [mit\n---\nx", text, ModelCard)


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (
            ["/home/ana/.venv/bin/hf-llambert", "annotate", "--data", "/home/ana/reviews.csv", "--output", "runs/mine"],
            "hf-llambert annotate --data reviews.csv --output runs/mine",
        ),
        (["recipes/imdb.py", "--config", "recipes/imdb.yaml"], "accelerate launch recipes/imdb.py --config recipes/imdb.yaml"),
        (["hf-llambert", "train", "--hub_token", "secret", "--seed", "3"], "hf-llambert train --hub_token ... --seed 3"),
        (["hf-llambert", "train", "--hub_token=secret"], "hf-llambert train --hub_token=..."),
        (["hf-llambert", "label", "--data=/home/ana/x y.csv"], "hf-llambert label '--data=x y.csv'"),
        (["hf-llambert", "label", "--data", "https://ana:pass@host/x"], "hf-llambert label --data ..."),
        (["hf-llambert", "push", "hf_abcdefghijklmnopqrstuvwxyz"], "hf-llambert push ..."),
        (["/usr/lib/python3/ipykernel_launcher.py", "-f", "/home/ana/k.json"], None),
        ([""], None),
    ],
)  # fmt: skip
def test_command_is_shown_without_places_and_credentials(argv, shown):
    assert shown_command(argv) == shown


def test_no_place_of_this_machine_is_in_a_card(report, dataset_text, finished_run):
    for text in (dataset_text, model_card(report, PUBLICATION)):
        assert str(finished_run) not in text
        assert not re.search(r"/(home|root|tmp|Users)/", text)
