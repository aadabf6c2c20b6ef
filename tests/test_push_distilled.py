"""Students distilled from a run's encoder on a Hub: what is sent, what comes back, and what their cards say."""

import json
import math
import re
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from conftest import make_reviews
from hf_llambert import Publication, StudentLabeler, distill_student, push_run, train_student, write_report
from hf_llambert.gold import with_gold
from hf_llambert.hub.distilled import DistilledStudent
from hf_llambert.hub.student_kinds import shown_logits
from hub_fixtures import client, environment, hub  # noqa: F401  (fixtures)
from kind_run import TASK, visits
from test_training import arguments

TEXTS = [*make_reviews(40)["text"][30:], "Nothing known: zzz.", "WONDERFUL wonderful\n music"]
SENT = {
    "linear": {"linear.safetensors", "vocabulary.json"},
    "static": {"model.safetensors", "tokenizer.json"},
}
KINDS = sorted(SENT)


@pytest.fixture(scope="module")
def distilled(finished_run, tmp_path_factory) -> Path:
    """The finished run with a student of each kind distilled from its encoder."""
    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("distilled") / "tiny"))
    distill_student(run, "auto", num_rows=10, show_progress=False)
    return run


@pytest.fixture
def run(distilled, tmp_path) -> Path:
    return Path(shutil.copytree(distilled, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def pushed(hub, client, distilled):  # noqa: F811
    """All of it published as tester/reviews."""
    return client.push(distilled, "tester/reviews", distilled=KINDS)


def test_each_student_has_a_repository_of_its_own_with_what_loads_it_and_no_rows(hub, pushed, distilled):  # noqa: F811
    assert pushed == {
        "dataset": f"{hub.url}/datasets/tester/reviews",
        "model": f"{hub.url}/tester/reviews",
        "linear": f"{hub.url}/tester/reviews-linear",
        "static": f"{hub.url}/tester/reviews-static",
    }
    for kind in KINDS:
        files = hub.files("model", f"tester/reviews-{kind}")
        own = {"README.md", ".gitattributes", "hf_llambert.json", "config.json", "training.json", *SENT[kind]}
        assert set(files) | {".gitattributes"} == own
        for name in own - {"README.md", ".gitattributes", "hf_llambert.json"}:
            assert files[name] == (distilled / "students" / kind / name).read_bytes()
        assert hub.private("model", f"tester/reviews-{kind}")
        assert [
            re.fullmatch("run-[0-9a-f]{12}", tag) is not None for tag in hub.tags("model", f"tester/reviews-{kind}")
        ]


def test_what_is_pulled_back_gives_the_labels_of_what_was_pushed(client, pushed, distilled):  # noqa: F811
    found = json.loads(
        client.run(f"""
            import json
            from hf_llambert import StudentLabeler
            print(json.dumps({{k: StudentLabeler("tester/reviews-" + k).label({TEXTS!r}) for k in {KINDS!r}}}))
        """).splitlines()[-1]
    )
    for kind in KINDS:
        assert found[kind] == StudentLabeler(distilled / "students" / kind).label(TEXTS)


def test_model2vec_alone_gives_the_logits_of_a_static_student(client, pushed, distilled):  # noqa: F811
    given = json.loads(
        client.run(f"""
            import json
            from model2vec import StaticModel
            print(json.dumps(StaticModel.from_pretrained("tester/reviews-static").encode({TEXTS[:-2]!r}).tolist()))
        """).splitlines()[-1]
    )
    scores = StudentLabeler(distilled / "students/static").label(TEXTS[:-2])["student_scores"]
    given = np.array(given)
    softmax = given - np.log(np.exp(given).sum(1, keepdims=True))
    np.testing.assert_allclose(softmax, scores, rtol=1e-4, atol=1e-5)


def test_the_logits_of_a_linear_student_can_be_computed_from_its_card(distilled):
    folder = distilled / "students/linear"
    note, arrays = json.loads((folder / "vocabulary.json").read_text()), load_file(folder / "linear.safetensors")
    places = {word: i for i, word in enumerate(note["units"])}
    assert note["unit"] == "words"
    for text, scores in zip(TEXTS, StudentLabeler(folder).label(TEXTS)["student_scores"], strict=True):
        words = re.split(r"[\W]+", unicodedata.normalize("NFKC", text).lower())
        numbers = [places.get(word) for word in words]
        pairs = [(a << 16) | b for a, b in zip(numbers, numbers[1:], strict=False) if a is not None and b is not None]
        runs = {key: len(places) + i for i, key in enumerate(arrays["runs_of_2"].tolist())}
        counts = Counter([*(n for n in numbers if n is not None), *(runs[pair] for pair in pairs if pair in runs)])
        weights = {i: (1 + math.log(c)) * arrays["idf"][i] for i, c in counts.items()}
        norm = math.sqrt(sum(w**2 for w in weights.values())) or 1.0
        logits = arrays["bias"] + sum(w / norm * arrays["weights"][i] for i, w in weights.items())
        np.testing.assert_allclose(logits - np.log(np.exp(logits).sum()), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_carries_what_was_measured_beside_the_encoder(kind, hub, pushed, distilled):  # noqa: F811
    card = ModelCard(hub.files("model", f"tester/reviews-{kind}")["README.md"].decode())
    one = json.loads((distilled / "students/distilled.json").read_text())["students"][kind]
    measured = json.loads((distilled / "students" / kind / "metrics.json").read_text())["eval"]
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["accuracy"] == round(measured["accuracy"], 4)
    assert card.data.library_name == {"linear": "hf_llambert", "static": "model2vec"}[kind]
    assert (card.data.license, card.data.language, card.data.datasets) == ("apache-2.0", ["en"], ["tester/reviews"])
    assert card.data.get("base_model") == {"linear": None, "static": "tester/reviews"}[kind]
    text = card.text
    assert f"| this student | {one['right']:.1%} |" in text
    assert f"| [the encoder](https://huggingface.co/tester/reviews) | {one['encoder']:.1%} |" in text
    difference = one["difference"]
    assert f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f} (paired bootstrap)" in text
    assert f"answer on {one['agreement']:.1%} of them" in text
    encoder = hub.files("model", "tester/reviews")["README.md"].decode()
    assert f"[tester/reviews-{kind}](https://huggingface.co/tester/reviews-{kind}) ({kind})" in encoder
    assert "- 10 texts of the pool that the encoder labelled" in text
    assert f'StudentLabeler("tester/reviews-{kind}")' in text
    assert ('StaticModel.from_pretrained("tester/reviews-static")' in text) is (kind == "static")
    assert "- 0 to 1: *negative*, *positive*; their softmax has the probability of each label" in text


def test_pushed_again_nothing_is_sent_and_a_killed_push_goes_on(hub, client, pushed, run):  # noqa: F811
    before = [hub.commits("model", f"tester/reviews-{kind}") for kind in KINDS]
    sent = hub.sent.copy()
    client.push(run, "tester/reviews", distilled=["static", "linear", "static"])
    assert [hub.commits("model", f"tester/reviews-{kind}") for kind in KINDS] == before
    assert hub.sent == sent
    hub.fail("/api/models/tester/cut-static/commit/", status=503, times=6)
    with pytest.raises(RuntimeError, match="the same command goes on"):
        client.push(run, "tester/cut", distilled=["static"])
    client.push(run, "tester/cut", distilled=["static"])
    assert "model.safetensors" in hub.files("model", "tester/cut-static")


def test_both_names_are_checked_before_anything_is_sent(hub, client, pushed, run):  # noqa: F811
    client.push(run, "tester/open", public=True, distilled=["linear"])
    assert not hub.private("model", "tester/open-linear")
    client.run("""
        from huggingface_hub import HfApi
        HfApi().create_repo("tester/half-linear", private=False)
    """)
    with pytest.raises(RuntimeError, match="The model 'tester/half-linear' is public. Pass --public"):
        client.push(run, "tester/half", distilled=["linear"])
    assert ("model", "tester/half") not in hub.repos
    with pytest.raises(RuntimeError, match="There is no model 'tester/open-static' to open a pull request on"):
        client.push(run, "tester/open", create_pr=True, public=True, distilled=["static"])
    long = f"tester/{'r' * 93}"
    with pytest.raises(ValueError, match="The Hub refuses the name 'tester/r*-linear'"):
        push_run(run, Publication(long, "mit"), distilled=["linear"])


def test_pull_requests_are_opened_on_each_repository(hub, client, pushed, run):  # noqa: F811
    note = json.loads((run / "student" / "stage.json").read_text())
    note["results"]["eval"]["source"] = "other reviews"
    (run / "student" / "stage.json").write_text(json.dumps(note))
    note = json.loads((run / "students/linear/stage.json").read_text())
    note["results"]["eval"]["source"] = "other reviews"
    (run / "students/linear/stage.json").write_text(json.dumps(note))
    found = client.push(run, "tester/reviews", create_pr=True, distilled=["linear"])
    assert found["linear"] == f"{hub.url}/tester/reviews-linear/discussions/1"


def test_a_student_that_is_not_there_or_of_another_encoder_is_refused(finished_run, run):
    publication = Publication("tester/none", "mit")
    with pytest.raises(
        ValueError, match="has no tree student that was distilled from its encoder, but linear, static"
    ):
        push_run(run, publication, distilled=["tree"])
    with pytest.raises(ValueError, match="has no static student .* but none. Run hf-llambert distill .* --to static"):
        DistilledStudent.all_of(finished_run, ["static"], publication)
    shutil.rmtree(run / "students/static")
    with pytest.raises(ValueError, match="has no static student"):
        push_run(run, publication, distilled=["linear", "static"])
    (run / "student/tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="it was distilled from another student. Run hf-llambert distill tiny again"):
        push_run(run, publication, distilled=["linear"])


def test_cards_say_what_makes_answers_of_logits_of_each_kind():
    common = {"name": "", "labels": ["1", "2", "4"], "first": 0}
    notes = {
        "choices": {
            **common,
            "kind": "choices",
            "size": 3,
            "loss": "binary_cross_entropy",
            "thresholds": [0.25, 0.5, 1],
        },
        "levels": {**common, "kind": "scale", "size": 3, "loss": "cross_entropy"},
        "number": {**common, "kind": "scale", "size": 1, "loss": "regression", "mean": 1.5, "width": 0.25},
    }
    found = {name: shown_logits([note])[0] for name, note in notes.items()}
    assert found["choices"].answer.endswith("it holds above 0.25 (1), 0.5 (2), 1 (4): thresholds in training.json")
    assert found["levels"].answer.endswith("the mean level is the answer")
    assert found["number"].answer == "1.5 + 0.25 times it, kept from 1 to 4, is the answer"
    assert (found["number"].names, found["number"].last) == (("the number",), 0)
    assert found["levels"].names == ("1", "2", "4")


@pytest.mark.parametrize("kind", KINDS)
def test_cards_of_several_questions_have_the_figures_of_each(kind, student_dir, tmp_path, undrawn_reports):
    run, gold = tmp_path / "visits", {one.name: one.name for one in TASK.questions}
    rows = [with_gold(visits(n, seed), "text", gold, TASK) for n, seed in ((40, 1), (20, 2))]
    args = arguments(tmp_path, max_steps=1)
    train_student(TASK, student_dir, run / "student", args, gold=rows[0], eval_data=rows[1], baseline=False)
    distill_student(run, kind, num_rows=20, pool=visits(30, 3).select_columns("text"), show_progress=False)
    publication = Publication("our-team/visits", "mit")
    (one,) = DistilledStudent.all_of(run, [kind], publication)
    card = ModelCard(one.card(write_report(run), publication, with_dataset=False))
    found = {(result.dataset_config, result.metric_name): result.metric_value for result in card.data.eval_results}
    measured = json.loads((one.folder / "metrics.json").read_text())["eval"]
    assert found["tone", "Accuracy"] == round(measured["tone"]["accuracy"], 4)
    assert found["topics", "Micro-F1"] == round(measured["topics"]["micro_f1"], 4)
    assert found["quality", "Mean absolute error"] == round(measured["quality"]["mae"], 4)
    assert "- 3 to 7, *quality*: *1*, *2*, *3*, *4*, *5*; their softmax has the probability of each level" in card.text
    for name in gold:
        assert f"{name}: this student less the encoder, on the same 20 texts: " in card.text
    assert card.data.datasets is None
