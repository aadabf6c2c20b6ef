"""The report of three questions: a section a question, the figures of its kind, and what each cannot tell."""

import json
import shutil

import numpy as np
import pytest

from hf_llambert import write_report
from hf_llambert.quality.report_parts import question_report
from hf_llambert.quality.words import Words
from hf_llambert.report.figures import draw_labels, draw_levels, draw_scale
from hf_llambert.report.findings import _noise
from hf_llambert.report.pooled import nearest_levels
from kind_run import TASK, make_kind_run

pytestmark = pytest.mark.usefixtures("undrawn_reports")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_kind_run(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def report(made):
    from conftest import Undrawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_llambert.report.figures._figure", lambda size: Undrawn(figsize=size, layout="constrained"))
        return write_report(made, gate={"tone.accuracy": {"at_least": 0.7}, "quality.spearman": {"at_least": 0.7}})


def test_each_question_has_its_figures_and_the_texts_have_theirs(report, made):
    assert list(report["questions"]) == ["tone", "quality", "topics"]
    mains = {"tone": "accuracy", "quality": "spearman", "topics": "micro_f1"}
    for name, main in mains.items():
        one = report["questions"][name]
        assert one["student"][f"{main}_low"] < one["student"][main] < one["student"][f"{main}_high"]
        assert one["teacher"]["coverage"] == 1
        assert one["student"]["train"]["selection"][0]["question"] == name
        assert question_report(report, name)["drift"] == report["drift"]
    assert report["teacher"]["n_failed"] == 0
    assert "accuracy" not in report["teacher"]
    assert report["gate"]["passed"]
    assert json.loads((made / "report.json").read_text())["questions"]["quality"]["mean"]["low"] > 2


def test_report_says_the_same_of_the_same(report, made):
    again = write_report(made)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(report))


def test_pool_is_counted_by_each_kind_and_put_right(report):
    of = {name: one["pool"] for name, one in report["questions"].items()}
    assert sum(of["tone"]["counts"].values()) == of["quality"]["n"] == of["topics"]["n"] == 500
    assert sum(of["quality"]["counts"].values()) == 500
    food = report["questions"]["topics"]["prevalence"]["food"]
    assert food["counted"] == of["topics"]["counts"]["food"] / 500
    assert food["low"] < 0.6 < food["high"]  # the student leaves food out
    assert food["counted"] < food["low"]
    mean = report["questions"]["quality"]["mean"]
    assert mean["low"] < np.mean([1, 2, 2.5, 3, 4, 5]) < mean["high"] < mean["counted"] + 0.05


def test_disagreement_on_a_scale_is_more_than_half_a_step(report):
    counts = {name: one["disagreements"] for name, one in report["questions"].items()}
    assert counts["tone"]["teacher_gold"] == 40
    assert 0 < counts["quality"]["teacher_gold"] < 60
    assert counts["topics"]["teacher_gold"] == 40
    right = report["questions"]["quality"]["teacher"]["within_half_step"]
    assert counts["quality"]["teacher_gold"] == round(200 * (1 - right))


def test_every_form_has_a_section_a_question(report, made):
    text, page = (made / "report.md").read_text(), (made / "report.html").read_text()
    for heading in ("## tone (choice)", "## quality (scale)", "## topics (choices)"):
        assert heading in text
    assert "half a step \\(0.5\\) off" in text
    assert "| quality: student, on held-out gold | Spearman 0." in text
    assert "| bad | – | good |" in text
    assert page.count("<section>") == 3
    assert "Spearman" in page
    assert "The mean over the pool is" in page
    names = {path.name for path in (made / "figures").glob("*.png")}
    assert {"tone-confusion.png", "quality-scale.png", "quality-levels.png", "topics-labels-student.png"} <= names
    assert "quality-confusion.png" not in names


def test_each_question_says_what_the_encoder_is_worth_beyond_counting_words(report, made):
    told = {name: one["student"]["linear"]["sentence"] for name, one in report["questions"].items()}
    assert told["tone"].endswith("counting words here (+1.0 points, -2.0 to +4.0)")  # quality is worth an encoder
    assert told["quality"].endswith("is worth 10.0 points (5.0 to 15.0; within half a step of gold)")
    assert "(2.0 times as fast) on the same 300 texts: " in told["topics"]
    assert "linear" not in report["student"]
    text, page = (made / "report.md").read_text(), (made / "report.html").read_text()
    assert "| tone: counting words (TF-IDF of words) on the same labels | accuracy" in text
    assert text.count("is worth 10.0 points") == 1
    for name in told:
        assert f"<p>{name[0].upper()}{name[1:]}: " in page


def test_worst_on_a_scale_are_the_furthest(report, made):
    section = (made / "report.md").read_text().split("## quality (scale)")[1].split("## topics (")[0]
    rows = [line.split(" | ") for line in section.split("| text |")[1].splitlines() if line.count(" | ") == 4]
    apart = [abs(float(row[0].strip("| ")) - float(row[2])) for row in rows if "-" not in row[0]]
    assert apart == sorted(apart, reverse=True)
    assert min(apart) > 0.5


def test_figures_of_another_task_are_damage(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    note = json.loads((run / "student" / "stage.json").read_text())
    flat = {**note, "results": {**note["results"], "eval": note["results"]["eval"]["tone"]}}
    (run / "student" / "stage.json").write_text(json.dumps(flat))
    with pytest.raises(OSError, match=r"expected figures of 3 question\(s\) at 'results.eval'"):
        write_report(run)
    words = {**note["results"]["linear"], "eval": note["results"]["eval"]["tone"]}
    (run / "student" / "stage.json").write_text(json.dumps({**note, "results": {**note["results"], "linear": words}}))
    with pytest.raises(OSError, match=r"expected figures of 3 question\(s\) at 'results.linear.eval'"):
        write_report(run)
    note["results"]["eval"]["tone"]["confusion"].pop()
    (run / "student" / "stage.json").write_text(json.dumps(note))
    with pytest.raises(OSError, match="damaged"):
        write_report(run)


def test_likely_errors_of_several_labels_are_found_label_by_label():
    random = np.random.default_rng(0)
    holds = random.random((200, 3)) < 0.5
    words = np.array(["soup", "waiter", "bill"])
    texts = [" ".join([*words[row], "visit", str(i)]) for i, row in enumerate(holds)]
    wrong = holds.copy()
    wrong[:20, 2] ^= True
    rows = [{"text": text, "teacher": np.flatnonzero(row).tolist()} for text, row in zip(texts, wrong, strict=True)]
    found = _noise(rows, TASK.questions[2], Words())
    assert found["per_label"]["price"] == pytest.approx(0.1, abs=0.03)
    assert max(found["per_label"]["food"], found["per_label"]["staff"]) < 0.03
    assert _noise(rows, TASK.questions[1], Words())["share"] is None


def test_nearest_level_is_the_lower_of_two():
    values = np.array([1.0, 1.5, 1.51, 4.9])
    assert nearest_levels(TASK.questions[1], values).tolist() == TASK.questions[1].nearest(values.tolist())


def test_figures_are_drawn(tmp_path, monkeypatch):
    monkeypatch.undo()
    one = {"precision": 0.5, "precision_low": 0.1, "precision_high": 0.9, "recall": 1.0, "f1": 0.6, "support": 3}
    draw_labels(tmp_path / "a.png", "Labels", {"x" * 80: one, "$y_{": {**one, "recall_low": 0.4, "recall_high": 1.0}})
    pairs = {"Teacher": ([1.0, 2.5, 3.0], [1.2, 2.0, 3.0]), "Student": ([2.0], [2.0])}
    draw_scale(tmp_path / "b.png", [1.0, 2.0, 3.0], pairs)
    draw_levels(tmp_path / "c.png", [1.0, 2.0, 3.0], pairs)
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in "abc")


def test_worth_of_more_labels_is_told_of_each_question(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    sizes = [50, 50, 50, 100, 100, 100, 200, 200, 400]
    values = [0.9 - 1.5 * n**-0.5 for n in sizes]
    questions = {
        "quality": {"figure": "spearman", "values": values, "n_eval": 300},
        "topics": {"figure": "micro_f1", "values": [None, *values[1:]], "n_eval": 300},
    }
    (run / "curve.json").write_text(json.dumps({"sizes": sizes, "n_train": 250, "questions": questions}))
    found = write_report(run)["questions"]
    assert (found["tone"]["advice"], found["topics"]["advice"]) == (None, None)
    assert found["quality"]["advice"]["gain"] > 0
    assert "another 400 labels on top of 400 are worth" in found["quality"]["advice"]["sentence"]
    assert "Another 400 labels" in (run / "report.md").read_text().split("## quality (scale)")[1]


def test_curve_notes_the_main_figure_of_each_question():
    from hf_llambert.quality.curves import _reached

    evals = [{"tone": {"accuracy": 0.5, "n": 9}, "quality": {"spearman": None, "n": 8}}] * 2
    assert _reached(TASK, evals) == {
        "questions": {
            "tone": {"figure": "accuracy", "values": [0.5, 0.5], "n_eval": 9},
            "quality": {"figure": "spearman", "values": [None, None], "n_eval": 8},
        }
    }
