import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import (
    LLMLabeler,
    Review,
    StudentLabeler,
    TaskSpec,
    annotate,
    build_queue,
    cascade,
    compare_labels,
    label_pool,
    load_data,
    read_pool,
    select_silver,
    show_report,
    train_student,
    write_queue,
    write_report,
)
from hf_llambert.report import drawings, findings, report
from hf_llambert.report.figures import label_turn
from test_review_page import chromium  # noqa: F401  (a fixture)
from test_training import arguments

FOUND = findings.find_all
TASK = TaskSpec("t|*<b>", ("negative", "positive"), "{text}", chat=False)
ATTACK = "https://evil.example @user $x$ <script>alert(1)</script> | ![x](http://evil) \n# Title `code` [link](javascript:x)"


@pytest.fixture
def data():
    texts = [f"{'xy'[i % 2]}{'x' * i} {ATTACK}" for i in range(12)]
    return Dataset.from_dict({"text": [*texts, ""], "label": [i % 2 for i in range(12)] + [0]})


@pytest.fixture
def run(tmp_path, data):
    run = tmp_path / "run"
    annotate(
        data,
        LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), run / "ledger"),
        run / "annotated",
        gold_column="label",
    )
    return run


def test_report_of_annotations_alone(run, data):
    report = write_report(run)
    assert report["n_annotated"] == 13
    assert report["teacher"]["coverage"] == 12 / 13
    assert report["teacher"]["texts_per_second"] == 2.0
    assert report["teacher"]["n_abstained"] == 1
    assert report["teacher"]["reasons"] == {"text is empty": 1}
    assert report["student"] is report["baseline"] is report["n_labelled"] is None
    assert json.loads((run / "report.json").read_text()) == json.loads(json.dumps(report))


@pytest.fixture
def finished(run, data, student_dir, tmp_path):
    silver, counts = select_silver(load_data(run), TASK)
    held_out = data.select(range(6))
    train_student(
        TASK,
        student_dir,
        run / "student",
        arguments(tmp_path, num_train_epochs=1),
        silver=silver,
        eval_data=held_out,
        selection=counts,
    )
    gold = silver.remove_columns("label").rename_column("gold_label", "label")
    train_student(
        TASK, student_dir, run / "baseline", arguments(tmp_path, num_train_epochs=1), gold=gold, eval_data=held_out
    )
    label_pool(data.remove_columns("label"), StudentLabeler(run / "student"), run / "labels")
    compare_labels(run)
    return run


def test_report_of_a_finished_run_holds_every_figure(finished):
    report = write_report(finished, choices={"seed": "the first"})
    for part, figure in (
        ("teacher", "accuracy"), ("teacher", "coverage"), ("teacher", "texts_per_second"), ("student", "accuracy"),
        ("student", "macro_f1"), ("student", "texts_per_second"), ("baseline", "accuracy"),
    ):  # fmt: skip
        assert isinstance(report[part][figure], float)
    assert (report["n_annotated"], report["n_silver"], report["n_labelled"]) == (13, 12, 12)
    words = report["student"]["linear"]
    assert words["difference"]["difference"] == pytest.approx(report["student"]["accuracy"] - words["accuracy"])
    assert "linear" not in report["baseline"]
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"confusion", "calibration", "confidence", "coverage", "prevalence", "training"}
    text = (finished / "report.md").read_text()
    assert "**seed**: the first" in text
    assert f"| counting words (TF-IDF of {words['unit']}) on the same labels | {words['accuracy']:.1%} (" in text
    page = html.unescape((finished / "report.html").read_text())
    for form in (text.replace("\\", ""), page):
        assert f"A{words['sentence'][1:]}{': ' if words['advice'] else ''}{words['advice']}." in form
    assert all((finished / path).exists() for path in re.findall(r"!\[[^]]+\]\((figures/[^)]+)\)", text))


def test_report_says_what_the_cascade_bought(finished, tmp_path):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), finished / "ledger")
    results = cascade(finished / "labels", labeler, finished / "cascade", below=1.0, max_asked=3, show_progress=False)
    report = write_report(finished)
    assert report["cascade"] == results
    assert (
        f"- cascade: asked about 3 of 13 rows, changed {results['n_changed']}" in (finished / "report.md").read_text()
    )


def test_counts_of_disagreement_are_those_of_the_rows(finished):
    report = write_report(finished)
    rows = load_data(finished).to_list()
    expected = sum(row["llm_label"] != row["label"] for row in rows if row["llm_status"] == "ok")
    assert report["disagreements"]["teacher_gold"] == expected
    wrong = 1 - report["teacher"]["accuracy"]
    assert expected == pytest.approx(wrong * 12)


def test_texts_stay_texts_in_the_report(finished):
    write_report(finished)
    text = (finished / "report.md").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(?<!\\)\[link\]", text)
    assert "![x]" not in text
    assert "://" not in text
    assert "@user" not in text
    table = [line for line in text.splitlines() if "script" in line]
    assert table
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in table)


def test_report_can_be_read_on_a_phone(finished, chromium):  # noqa: F811
    write_report(finished)
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.get((finished / "report.html").as_uri())
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    texts = chromium.find_elements("css selector", "td.text")
    assert texts
    assert all(text.rect["width"] > 300 and text.rect["x"] + text.rect["width"] <= 390 for text in texts)


def test_report_again_is_the_same(finished):
    assert write_report(finished) == write_report(finished)


def make_another_student(run):
    """The same weights, read otherwise: another content."""
    note = run / "student" / "config.json"
    note.write_text(note.read_text() + "\n")


def test_labels_of_an_earlier_student_are_left_out_by_name_wherever_they_were_read(finished, tmp_path, caplog):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), finished / "ledger")
    cascade(finished / "labels", labeler, finished / "cascade", below=1.0, max_asked=3, show_progress=False)
    gate = {"each_class_share": {"at_least": 0.0}, "drift_p": {"at_least": 0.0}}
    assert write_report(finished, gate=gate)["left_out"] == {}
    earlier = StudentLabeler(finished / "student").identity
    make_another_student(finished)
    report = write_report(finished)
    here = StudentLabeler(finished / "student").identity
    said = (
        f"'labels' is left out: {earlier} labelled it, and 'student' holds {here}. Overwrite it by hf-llambert label."
    )
    assert report["left_out"]["labels"] == said
    assert set(report["left_out"]) == {"labels", "compared", "cascade"}
    for name in ("labels", "cascade", "n_labelled", "pool", "prevalence", "drift"):
        assert report[name] is None, name
    assert "labels" not in report["made"]
    assert report["disagreements"]["teacher_student"] == report["disagreements"]["student_gold"] == 0
    assert [one["why"] for one in report["gate"]["conditions"]] == [said, said]
    for form in ("report.md", "report.html"):
        text = html.unescape((finished / form).read_text()).replace("\\", "")
        assert said in text, form
        assert "The pool was not labelled" not in text
    assert said in caplog.text


def test_review_says_nothing_of_a_student_by_the_labels_of_an_earlier_one(finished):
    write_queue(finished / "review", build_queue(finished, 8, 4))
    review = Review(finished / "review")
    with review.session("Ann") as session:
        for place in range(8):
            session.answer(place, 0)
    assert write_report(finished)["review"]["control"]["student"]["n"] == 4
    make_another_student(finished)
    found = write_report(finished)["review"]
    assert found["control"]["student"] is found["n_student_overruled"] is None
    assert found["control"]["teacher"]["n"]
    assert "what the student said is left out" in (finished / "report.md").read_text()
    fresh = build_queue(finished, 8, 4)
    assert fresh.student is None
    assert {row.student for row in fresh.rows} == {-1}


def test_cascade_of_other_labels_is_left_out_by_name(finished, data, tmp_path):
    labeler = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked")), finished / "ledger")
    cascade(finished / "labels", labeler, finished / "cascade", below=1.0, max_asked=3, show_progress=False)
    pool = data.remove_columns("label").select(range(6))
    label_pool(pool, StudentLabeler(finished / "student"), finished / "labels", overwrite=True)
    report = write_report(finished)
    assert report["cascade"] is None
    assert report["n_labelled"] == 6
    assert report["left_out"] == {
        "cascade": "'cascade' is left out: it is of other labels. Run hf-llambert label with its options again."
    }


@pytest.mark.parametrize("how", ["stopped", "lost", "cut"])
def test_pool_that_is_not_labelled_to_its_end_is_left_out_by_name(finished, how):
    note, shard = finished / "labels" / "stage.json", finished / "labels" / "part-00000-00000.parquet"
    if how == "stopped":
        note.write_text(json.dumps({**json.loads(note.read_text()), "results": {}}))
    elif how == "lost":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-9])
    report = write_report(finished)
    assert report["pool"] is report["labels"] is None
    assert (
        report["left_out"]["labels"]
        == "'labels' is left out: it is not labelled to its end. Run hf-llambert label again."
    )


def test_student_without_its_model_cannot_be_told_from_another(finished):
    (finished / "student" / "model.safetensors").unlink()
    assert "'student' holds no model any more" in write_report(finished)["left_out"]["labels"]


def test_table_on_the_screen(finished, capsys):
    show_report(write_report(finished), finished)
    shown = capsys.readouterr().out
    assert "13 annotated, 12 silver, 12 labelled" in shown
    assert "by counting words at " in shown
    assert "report.html" in shown


def test_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run hf-llambert annotate"):
        write_report(tmp_path)


def test_comparison_with_an_earlier_student_is_made_anew(finished, data, student_dir, tmp_path):
    shutil.rmtree(finished / "student")
    silver, _ = select_silver(load_data(finished), TASK)
    train_student(TASK, student_dir, finished / "student", arguments(tmp_path, num_train_epochs=2), silver=silver)
    compare_labels(finished)
    expected = StudentLabeler(finished / "student").label(load_data(finished)["text"])["student_label"]
    assert read_pool(finished / "compared")["student_label"][:] == expected


def test_cost_is_tokens_and_hours_by_the_price_table(finished, tmp_path):
    before = write_report(finished)
    table = tmp_path / "prices.yaml"
    student = before["student"]["train"]["student"]
    table.write_text(
        json.dumps({"None": {"per_hour": 3600, "currency": "EUR"}, student: {"per_hour": 7200, "currency": "EUR"}})
    )
    cost = write_report(finished, prices=table)["cost"]
    assert cost["annotate"] == pytest.approx(before["teacher"]["seconds"])
    assert cost["train"] == pytest.approx(2 * before["student"]["train"]["seconds"])
    assert cost["label"] == pytest.approx(2 * before["labels"]["seconds"])
    assert cost["total"] == pytest.approx(cost["annotate"] + cost["train"] + cost["label"])
    assert "EUR" in (finished / "report.html").read_text()
    for content, said in (
        ({"None": {"per_hour": 1, "currency": "EUR"}}, "has no price of"),
        ({"None": {"per_hour": 1, "currency": "EUR"}, student: {"per_hour": 1, "currency": "USD"}}, "one currency"),
        (
            {"None": {"per_hour": 1, "currency": "EUR"}, student: {"input_per_million": 1, "currency": "EUR"}},
            "by the hour",
        ),
    ):
        table.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said):
            write_report(finished, prices=table)


def test_report_says_what_people_reviewed_and_whether_the_student_learnt_from_it(finished):
    assert write_report(finished)["review"] is None
    write_queue(finished / "review", build_queue(finished, 8, 4))
    review = Review(finished / "review")
    with review.session("Ann") as session:
        for place, row in enumerate(review.queue.rows):
            session.answer(place, 1 - max(row.teacher, 0))
    report = write_report(finished)
    assert report["review"]["n_answered"] == 8
    assert report["review"]["n_teacher_overruled"] == sum(row.teacher >= 0 for row in review.queue.rows)
    for form in ("report.md", "report.html"):
        text = (finished / form).read_text()
        assert "What people reviewed" in text
        assert "8 of 8 rows labelled" in text
        assert "has not learnt from it" in text


def test_full_disk_leaves_the_report_that_was_there(finished, monkeypatch):
    write_report(finished, choices={"seed": "the first"})
    before = {name: (finished / name).read_text() for name in ("report.json", "report.md", "report.html")}
    real = Path.write_text

    def full(path, text, **kwargs):
        real(path, text[:20], **kwargs)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            write_report(finished, choices={"seed": "another"})
    assert before == {name: (finished / name).read_text() for name in before}
    assert not list(finished.glob(".*.part"))
    assert write_report(finished)["choices"] == {"seed": "the first"}


def test_damaged_report_is_made_anew(finished, caplog):
    (finished / "report.json").write_text('{"choices": ')
    assert "choices" not in write_report(finished)
    assert "was damaged and is made anew" in caplog.text


def test_markup_in_a_name_is_shown_as_it_is(finished, capsys):
    report = write_report(finished)
    report["task"]["name"] = "[/x] [bold]films[/bold]"
    show_report(report, finished)
    assert "[/x]" in capsys.readouterr().out


def test_labels_of_earlier_annotations_are_not_compared(finished):
    shown = write_report(finished)["disagreements"]
    assert shown["teacher_student"] or shown["student_gold"]
    path = next((finished / "compared").glob("part-*.parquet"))
    rows = Dataset.from_parquet(str(path))
    rows.map(lambda row: {"text": "other " + row["text"]}).to_parquet(str(path))
    assert write_report(finished)["disagreements"]["student_gold"] == 0


def test_confusions_of_many_classes_can_be_drawn(tmp_path):
    from hf_llambert.report.figures import draw_confusions

    labels = [f"class number {k} with quite a long name that goes on" for k in range(150)]
    quality = {"confusion": [[int(a == b) for a in range(150)] for b in range(150)], "accuracy": 1.0, "n": 150}
    draw_confusions(tmp_path / "x.png", labels, {"Teacher": quality, "Student": quality})
    assert (tmp_path / "x.png").stat().st_size < 2_000_000


def found_anew(run, monkeypatch):
    """Whether a report looks for findings, which it must not where it read the same before."""
    asked = []
    monkeypatch.setattr(findings, "find_all", lambda *args: asked.append(args) or FOUND(*args))
    write_report(run)
    return bool(asked)


def test_findings_are_looked_for_once_for_what_they_read(finished, monkeypatch):
    first = write_report(finished)
    assert not found_anew(finished, monkeypatch)
    assert json.loads(json.dumps(write_report(finished))) == json.loads(json.dumps(first))
    with (finished / "annotated" / "dataset_info.json").open("a") as file:
        file.write(" ")
    assert found_anew(finished, monkeypatch)
    assert not found_anew(finished, monkeypatch)
    shutil.rmtree(finished / "labels")
    assert found_anew(finished, monkeypatch)


@pytest.mark.parametrize("damage", [lambda text: text[:100], lambda text: text.replace("counts", "count")])
def test_damaged_note_of_findings_is_made_anew(finished, monkeypatch, damage):
    write_report(finished)
    note = finished / "findings.json"
    whole = note.read_text()
    note.write_text(damage(whole))
    assert found_anew(finished, monkeypatch)
    assert note.read_text() == whole


def test_figures_are_drawn_once_for_what_they_show(finished):
    write_report(finished)
    figures = finished / "figures"
    before = {path.name for path in figures.glob("*.png")}
    for name in before:
        os.utime(figures / name, (0, 0))
    (figures / "of_an_older_version.png").write_bytes(b"")
    (figures / "confusion.png").unlink()
    stage = finished / "student" / "stage.json"
    note = json.loads(stage.read_text())
    note["results"]["eval"]["ece"] /= 2
    stage.write_text(json.dumps(note))
    write_report(finished)
    after = {path.name: path.stat().st_mtime for path in figures.glob("*.png")}
    assert after.keys() == before
    assert {"calibration.png", "confusion.png"} == {name for name, drawn in after.items() if drawn}
    (figures / "drawn.json").write_text("{")
    write_report(finished)
    assert {path.name for path in figures.glob("*.png")} == before


def test_figures_of_a_report_that_stopped_are_not_taken_for_others(finished, monkeypatch):
    write_report(finished)
    figure, stage = finished / "figures" / "calibration.png", finished / "student" / "stage.json"
    first, noted = figure.read_bytes(), stage.read_text()
    note = json.loads(noted)
    note["results"]["eval"]["ece"] /= 2
    stage.write_text(json.dumps(note))
    with monkeypatch.context() as patch:
        patch.setattr(drawings, "draw_coverage", lambda *args, **kwargs: sys.exit("stopped"))
        (finished / "figures" / "coverage.png").unlink()
        with pytest.raises(SystemExit):
            write_report(finished)
    assert figure.read_bytes() != first
    stage.write_text(noted)
    write_report(finished)
    assert figure.read_bytes() == first


def test_damaged_figure_is_drawn_again(finished):
    write_report(finished)
    figure = finished / "figures" / "confusion.png"
    whole = figure.read_bytes()
    figure.write_bytes(whole[:1000])
    write_report(finished)
    assert figure.read_bytes() == whole


def test_another_report_may_remove_an_old_figure_first(finished, monkeypatch):
    old = finished / "figures" / "of_an_older_version.png"
    write_report(finished)
    old.write_bytes(b"")
    glob = Path.glob

    def found_and_gone(folder, pattern):
        found = list(glob(folder, pattern))
        if folder.name == "figures":
            old.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", found_and_gone)
    write_report(finished)
    assert not old.exists()


def test_findings_are_looked_for_again_by_other_versions_and_for_other_labels(finished, monkeypatch):
    write_report(finished)
    version = report.version
    monkeypatch.setattr(report, "version", lambda name: "0" if name == "scikit-learn" else version(name))
    assert found_anew(finished, monkeypatch)
    shutil.rmtree(finished / "annotated")  # whose note says which labels there are
    assert found_anew(finished, monkeypatch)
    assert not found_anew(finished, monkeypatch)
    stage = finished / "student" / "stage.json"
    stage.write_text(stage.read_text().replace('"positive"', '"good"'))
    assert found_anew(finished, monkeypatch)
    assert set(write_report(finished)["prevalence"]) == {"negative", "good"}


def test_long_names_under_a_matrix_are_turned():
    assert label_turn(["negative", "positive"], 2.6) == 0
    assert label_turn(["entailment", "neutral", "contradiction"], 3.05) == 45
    assert label_turn(["business"] * 12, 8.0) == 90


def test_report_and_gate_load_no_model_library(finished):
    code = """
import sys
from hf_llambert.cli import app
app(sys.argv[1:], standalone_mode=False)
print(*[name for name in ("torch", "transformers", "evaluate", "accelerate") if name in sys.modules], file=sys.stderr)
"""
    conditions = finished / "conditions.yaml"
    conditions.write_text("coverage: {at_least: 0.5}\n")
    for arguments_ in (["report", str(finished)], ["gate", str(finished), "--conditions", str(conditions)]):
        done = subprocess.run([sys.executable, "-c", code, *arguments_], capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1].strip() == "", done.stderr


def test_student_is_asked_about_the_annotated_texts_once(finished, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("labelled again")

    monkeypatch.setattr("hf_llambert.pool.shards.label_pool", refuse)
    compare_labels(finished)


def test_annotated_texts_of_another_column_are_labelled_anew(finished, data):
    shutil.rmtree(finished / "annotated")
    asked = str(finished / "asked")
    labeler = LLMLabeler(TASK, CountingTeacher(asked), finished / "ledger", text_column="review")
    annotate(data.rename_column("text", "review"), labeler, finished / "annotated", gold_column="label")
    assert write_report(finished)["disagreements"]["student_gold"] == 0
    compare_labels(finished)
    assert read_pool(finished / "compared")["review"][:] == data["text"][:]


def test_damaged_comparison_is_made_anew(finished):
    shard = next((finished / "compared").glob("part-*.parquet"))
    before, whole = read_pool(finished / "compared")["student_label"][:], shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes(100) + whole[200:])
    compare_labels(finished)
    assert read_pool(finished / "compared")["student_label"][:] == before
