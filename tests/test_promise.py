"""What a cascade promises: against people's labels or the teacher's, of all labels or of one."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from conftest import make_reviews
from fakes import CountingTeacher
from hf_llambert import (
    Choice,
    Choices,
    LLMLabeler,
    Scale,
    calibrate_cascade,
    calibrate_questions,
    cascade,
    cascade_summary,
    read_pool,
)
from hf_llambert.notes import read_stage
from hf_llambert.pool.promise import Guarantee, Promise, promised_of
from hf_llambert.pool.promised_rows import PoolRows, rows_for
from hf_llambert.pool.thresholds import certified_labels, certified_threshold, guaranteed_threshold
from hf_llambert.report.sentences import stages_said
from test_cascade import TASK, TellingTeacher, call, command, labels, run, spent, student, write_labels  # noqa: F401  (fixtures)
from test_kind_cascade import GOLD, Student, labeler, visits  # noqa: F401
from test_kind_cascade import TASK as SEVERAL

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "promises.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("promises", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["promises"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("against", "of", "rows", "teacher", "place", "least_found"),
    [
        ("teacher", "", 400, 0.97, 0.7, 0.95),
        ("teacher", "", 2000, 0.9, 0.6, 0.95),
        ("gold", "recall:rare", 2000, 0.97, 0.6, 0.95),
        ("gold", "precision:rare", 2000, 0.97, 0.7, 0.95),
        ("teacher", "recall:rare", 2000, 0.9, 0.6, 0.95),
        ("teacher", "precision:rare", 2000, 0.97, 0.6, 0.95),
    ],
)
def test_promises_are_broken_in_at_most_one_of_twenty_draws(
    simulation, against, of, rows, teacher, place, least_found
):
    found = simulation.simulated(simulation.World(teacher), against, of, place, rows, 500)
    assert found["promised"] >= least_found * 500
    assert found["broken"] <= binom.ppf(0.999, 500, 0.05)


# Two labels, 0 and 1, at two confidences: what each says of forty rows, and what is true.
SURE = np.repeat(np.float32([0.6, 0.97]), 200)
TRUE = np.tile([1, 1, 0, 0], 100)
EARLY = np.arange(400) < 200


def test_recall_rests_on_the_rows_that_are_so_in_truth():
    teacher = TRUE.copy()
    teacher[:8] = 0  # four of the hundred 1 among the unsure are lost
    found = certified_labels(SURE, np.where(EARLY, 0, TRUE), teacher, TRUE, Promise(0.9, 0.95, "gold", "recall:a"), 1)
    assert (found.n, found.n_rows, found.share, found.share_asked) == (200, 400, 196 / 200, 0.5)
    assert binom.sf(195, 200, found.lower) == pytest.approx(0.05)
    assert 0.6 < found.threshold < 0.63


def test_precision_rests_on_the_rows_that_the_cascade_calls_so_at_its_threshold():
    teacher = np.where(np.arange(400) % 40 == 2, 1, TRUE)  # ten rows too many, five among the unsure
    found = certified_labels(
        SURE, np.where(EARLY, 1, TRUE), teacher, TRUE, Promise(0.9, 0.95, "gold", "precision:a"), 1
    )
    assert (found.n, found.share) == (205, 200 / 205)  # the student alone called all two hundred unsure rows so
    assert binom.sf(199, 205, found.lower) == pytest.approx(0.05)
    assert found.share_asked == 0.5


def test_the_teachers_labels_count_as_right_and_rows_without_one_are_left_out():
    teacher = np.where(np.arange(400) % 40 == 0, -1, TRUE)
    found = guaranteed_threshold(SURE, np.where(EARLY, 0, TRUE), teacher, None, 0.95)
    assert (found.against, found.n, found.n_abstained) == ("teacher", 390, 10)
    assert (found.share, found.share_asked) == (1.0, 195 / 390)
    assert found.lower == pytest.approx(0.05 ** (1 / 390))  # one walk has all of the risk
    alone = guaranteed_threshold(SURE, TRUE, teacher, None, 0.95)
    assert alone.threshold == 0
    assert "the teacher gave no label to 10 more, and nothing is promised about such rows" in found.sentence()


def test_kinds_without_an_array_of_ids_are_certified_alike():
    said = [[1], [0, 1], [0], []] * 100
    question, promise = Choices("topics", ("a", "b"), "?"), Promise(0.9, 0.95, "gold", "recall:b")
    found = certified_threshold(SURE.tolist(), said, said, said, question, promise)
    assert (found.n, found.share, found.threshold) == (200, 1.0, 0)
    plain = Choice("x", ("a", "b"), "?")
    for of in ("", "recall:b", "precision:a"):
        for against in ("gold", "teacher"):
            promise = Promise(0.9, 0.95, against, of)
            teacher = np.where(np.arange(400) % 40 == 0, -1, TRUE)
            given = (SURE, np.where(EARLY, 0, TRUE), teacher, TRUE if against == "gold" else teacher)
            slow = certified_threshold(*(column.tolist() for column in given), plain, promise)
            assert slow == certified_labels(*given, promise, promised_of(of, plain))


def test_too_few_rows_of_a_label_are_refused_with_how_many_are_needed():
    truth = np.where(np.arange(400) % 40 == 0, 1, 0)
    said = certified_labels(SURE, truth, truth, truth, Promise(0.9, 0.95, "gold", "recall:a"), 1)
    assert said.startswith(
        "A recall of 'a' of 90.0% cannot be promised with 95% confidence: of 10 gold rows that are 'a' the"
    )
    least = rows_for(Promise(0.9, 0.975)).least
    assert f"At 100.0% about {least} gold rows that are 'a' would do, some {least * 40:,} drawn in all." in said
    none = certified_labels(SURE, 0 * truth, 0 * truth, 0 * truth, Promise(0.9, 0.95, "gold", "precision:a"), 1)
    assert "of 400 rows none are gold rows that are called 'a', and 36 are needed even if all are right" in none
    wrong = certified_labels(SURE, 1 - truth, 1 - truth, truth, Promise(0.9, 0.95, "gold", "precision:a"), 1)
    assert "of the gold rows that are called 'a' these are right: 0.0% of 390 with 400 asked about" in wrong
    by_teacher = certified_labels(SURE[:20], truth[:20], truth[:20], truth[:20], Promise(0.9, 0.95, "teacher"))
    assert "An agreement with the teacher of 90.0% cannot be promised" in by_teacher
    assert "accuracy" not in by_teacher


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("recall:pro: wy", "promises something of the label 'pro: wy', .* Did you mean 'pro: why'"),
        ("recal:con", "Expected what is promised as recall:pro: why or precision:pro: why, got 'recal:con'"),
        ("con", "Expected what is promised as recall"),
    ],
)
def test_what_is_promised_of_no_label_is_refused(of, message):
    with pytest.raises(ValueError, match=message):
        promised_of(of, Choice("stance", ("pro: why", "con"), "?"))


def test_label_may_have_colons_in_its_name_and_a_scale_has_no_labels():
    assert promised_of("precision:pro: why", Choice("stance", ("con", "pro: why"), "?")) == 1
    assert Promise(0.9, 0.95, "gold", "precision:pro: why").label == "pro: why"
    assert promised_of("", Scale("s", ("1", "2"), "?")) is None
    with pytest.raises(ValueError, match="'s' is a scale, .* Promise it of all answers"):
        promised_of("recall:2", Scale("s", ("1", "2"), "?"))


# With real parts


def test_promise_against_the_teacher_needs_no_gold(student, tmp_path):  # noqa: F811
    rows = make_reviews(120).remove_columns("label")
    asked = LLMLabeler(TASK, TellingTeacher(str(tmp_path / "asked.txt"), "generate"), tmp_path / "ledger")
    found = calibrate_cascade(rows, student, asked, 0.9, against="teacher", show_progress=False)
    columns, said = student.label(rows["text"][:]), asked.label(rows["text"][:])["llm_label"]
    alone = guaranteed_threshold(columns["student_confidence"], columns["student_label"], said, None, 0.9)
    assert found == dataclasses.replace(alone, n_told=120, **spent(asked, rows))
    assert sorted(asked.teacher.asked()) == sorted(set(rows["text"][:]))
    failing = LLMLabeler(TASK, dataclasses.replace(asked.teacher, fails_on="7"), tmp_path / "other")
    with pytest.raises(RuntimeError, match="could not be asked about [0-9]+ rows of the pool"):
        calibrate_cascade(rows, student, failing, 0.9, against="teacher", show_progress=False)
    with pytest.raises(ValueError, match="against gold or teacher, got against='encoder'"):
        calibrate_cascade(rows, student, asked, 0.9, against="encoder")


def test_recall_asks_only_about_rows_of_the_label(student, tmp_path):  # noqa: F811
    gold = make_reviews(160)
    asked = LLMLabeler(TASK, TellingTeacher(str(tmp_path / "asked.txt"), "generate"), tmp_path / "ledger")
    found = calibrate_cascade(gold, student, asked, 0.9, of="recall:positive", show_progress=False)
    positive = {text for text, label in zip(gold["text"][:], gold["label"][:], strict=True) if label == 1}
    assert set(asked.teacher.asked()) <= positive
    assert (found.n, found.of) == (gold["label"][:].count(1), "recall:positive")
    both = LLMLabeler(TASK, TellingTeacher(str(tmp_path / "b.txt"), "generate"), tmp_path / "b")
    precise = calibrate_cascade(gold, student, both, 0.9, of="precision:positive", show_progress=False)
    out = student.label(gold["text"][:])
    columns = [np.array(one) for one in (out["student_confidence"], out["student_label"], gold["label"][:])]
    sure, mine, truth = np.float32(columns[0]), *columns[1:]
    alone = certified_labels(sure, mine, truth, truth, precise.promise, 1)
    assert precise == dataclasses.replace(alone, n_told=len(both.teacher.asked()), **spent(both, gold))
    with pytest.raises(ValueError, match="Did you mean 'positive'"):
        calibrate_cascade(gold, student, both, 0.9, of="recall:positiv")


def test_each_of_several_questions_has_its_promise_against_the_teacher(labeler):  # noqa: F811
    data = visits(240, 4)
    given = {"against": "teacher", "show_progress": False}
    of = {
        "tone": f"precision:{SEVERAL.parts['tone'].labels[0]}",
        "topics": "recall:" + SEVERAL.parts["topics"].labels[1],
    }
    found = calibrate_questions(data, Student(data, 3), labeler, 0.5, of=of, **given)
    assert {name: one.of for name, one in found.items()} == {**dict.fromkeys(SEVERAL.parts, ""), **of}
    assert {one.against for one in found.values()} == {"teacher"}
    assert all(one.confidence == pytest.approx(1 - 0.05 / 3) and one.lower >= 0.5 for one in found.values())
    with pytest.raises(ValueError, match="says not of which one. Name it: --guarantee_of tone=recall:x"):
        calibrate_questions(data, Student(data, 3), labeler, 0.7, of="recall:x", **given)
    with pytest.raises(ValueError, match="'quality' is a scale"):
        calibrate_questions(data, Student(data, 3), labeler, 0.7, of={"quality": "recall:2"}, **given)
    with pytest.raises(ValueError, match="has no question 'tune'"):
        calibrate_questions(data, Student(data, 3), labeler, 0.7, of={"tune": "recall:2"}, **given)


def guarantee(**changes):
    made = Guarantee(0.7, 0.9, 0.95, 400, 0.95, 0.91, 0.4, 400, "teacher")
    return dataclasses.replace(made, **changes)


def test_promise_is_noted_with_whose_labels_count_and_said_wherever_it_is_shown(labels, tmp_path):  # noqa: F811
    asked = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked.txt")), tmp_path / "ledger")
    results = run(labels, asked, tmp_path / "out", below=guarantee())
    noted = read_stage(tmp_path / "out" / "stage.json", "cascade")
    assert noted["results"]["promise"] == {"": dataclasses.asdict(guarantee())}
    assert (results["below"], noted["config"]["below"]) == (0.7, 0.7)
    first, second, *_ = cascade_summary(results)
    assert first == (
        "promised with 95% confidence: an agreement with the teacher of 90.0%; below a confidence of 0.7000 the teacher decides, "
        "on 40.0% of 400 rows of the pool: it agrees with the teacher on "
        "95.0% of them, with 95% confidence on at least 91.0%"
    )
    assert second.startswith("asked about")
    assert stages_said({"cascade": results, "labels": None})[0] == first
    with pytest.raises(FileExistsError, match="another run \\(promise..against: 'teacher' there, 'gold' now"):
        run(labels, asked, tmp_path / "out", below=guarantee(against="gold"))
    cut = run(labels, asked, tmp_path / "cut", below=guarantee(of="recall:positive"), max_asked=3)
    assert cascade_summary(cut)[0] == (
        "a recall of the teacher's 'positive' of 90.0% is not promised: not all below its threshold was asked about. Raise "
        "max_asked, or where rows failed run again. It would be: below a confidence of 0.7000 the teacher decides, on 40.0% of "
        "400 rows of the pool: of the 400 that the teacher calls 'positive' it calls 95.0% so, with 95% confidence at least 91.0%"
    )
    assert cascade_summary(cut)[1].startswith("asked about 3 of")
    told = run(labels, asked, tmp_path / "told", below=guarantee(n_told=400, input_tokens=12_000, output_tokens=400))
    assert cascade_summary(told)[1] == (
        "finding that took the teacher's answers about 400 rows drawn: 12,000 tokens read, 400 written, in the ledger for all "
        "that follows"
    )


def test_same_promise_is_the_same_call_whatever_finding_it_took(labels, tmp_path):  # noqa: F811
    asked = LLMLabeler(TASK, CountingTeacher(str(tmp_path / "asked.txt")), tmp_path / "ledger")
    first = run(labels, asked, tmp_path / "out", below=guarantee())
    again = run(labels, asked, tmp_path / "out", below=guarantee(threshold=0.7 + 1e-6, n_told=9, input_tokens=7))
    assert again == first
    next((tmp_path / "out").glob("part-*.parquet")).unlink()
    assert run(labels, asked, tmp_path / "out", below=guarantee(threshold=0.7 - 1e-6)) == first
    for changed in ({"threshold": 0.71}, {"share": 0.96}, {"target": 0.8}, {"n_rows": 401}):
        with pytest.raises(FileExistsError, match="holds the results of another run"):
            run(labels, asked, tmp_path / "out", below=guarantee(**changed))


def test_a_promise_about_one_question_is_none_about_several(labeler, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="below is a promise about one question, and task .* has several"):
        cascade(tmp_path, labeler, tmp_path / "out", below=guarantee())


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"against": "gold"}, "on 40.0% of 400 gold rows: 95.0% of them right, with 95% confidence at least 91.0%"),
        (
            {"against": "gold", "of": "recall:x"},
            "of the 400 that are 'x' it calls 95.0% so, with 95% confidence at least 91.0%",
        ),
        (
            {"against": "gold", "of": "precision:x"},
            ": of the 400 that it calls 'x' 95.0% are, with 95% confidence at least 91.0%",
        ),
        ({"of": "precision:x"}, "calls 'x' the teacher calls 95.0% so, with 95% confidence at least 91.0%"),
    ],
)
def test_sentence_says_of_what_the_promise_is(changes, end):
    assert guarantee(**changes).sentence().endswith(end)


def test_rows_of_the_pool_are_drawn_at_random_among_those_with_a_label(labels, tmp_path):  # noqa: F811
    pool = PoolRows(labels, TASK, "text")
    assert len(pool) == 29
    drawn = pool.draw(12, 3)
    texts = read_pool(labels)["text"][:]
    places = [texts.index(text) for text in drawn["text"][:]]
    assert drawn.column_names == ["text"]
    assert places == sorted(set(places))
    assert len(places) == 12
    assert drawn["text"][:] == pool.draw(12, 3)["text"][:] != pool.draw(12, 4)["text"][:]
    counts = np.zeros(30)
    for seed in range(40):
        counts[[texts.index(text) for text in pool.draw(15, seed)["text"][:]]] += 1
    assert counts[4] == 0
    assert np.delete(counts, 4).min() > 6  # 20.7 of each are expected
    assert pool.number({"": Promise(0.5, 0.95, "teacher")}) == (29, rows_for(Promise(0.5, 0.95)))


def test_so_many_rows_are_drawn_as_a_label_needs_by_how_often_the_student_gives_it(labels, tmp_path):  # noqa: F811
    rows = read_pool(labels).to_dict()
    rows = {name: column * 200 for name, column in rows.items()}
    rows["student_label"] = [1 if i % 30 == 1 else one for i, one in enumerate(rows["student_label"])]
    pool = PoolRows(write_labels(tmp_path / "many", rows, size=3000), TASK, "text")
    number, needed = pool.number({"": Promise(0.5, 0.95, "teacher", "recall:positive")})
    assert number == 29 * needed.wanted  # one row in twenty-nine
    assert needed.least == 29 * rows_for(Promise(0.5, 0.95)).least  # of all rows
    assert pool.number({"": Promise(0.9, 0.95, "teacher", "recall:positive")})[0] == 5000
    with pytest.raises(ValueError, match="No number of rows that can be drawn certifies"):
        rows_for(Promise(1 - 1e-9, 0.95))


# On the command line


def test_student_with_labels_in_another_order_is_refused_against_the_teacher_too(student, tmp_path):  # noqa: F811
    turned = dataclasses.replace(TASK, labels=TASK.labels[::-1], verbalizers=TASK.verbalizers[::-1])
    labeler = LLMLabeler(turned, TellingTeacher(str(tmp_path / "asked.txt"), "generate"), tmp_path / "ledger")  # noqa: F811
    with pytest.raises(ValueError, match="The student has the labels"):
        calibrate_cascade(make_reviews(8), student, labeler, 0.5, against="teacher")


@pytest.fixture
def asked_of(command, tmp_path):  # noqa: F811
    make_reviews(60).remove_columns("label").to_json(str(tmp_path / "reviews.jsonl"))
    return {**command, "--against": "teacher"}


def test_label_promises_agreement_with_the_teacher(asked_of, tmp_path, capsys):
    call({**asked_of, "--guarantee": 0.3, "--guarantee_rows": 40})
    shown = capsys.readouterr().out
    assert (
        "the teacher is asked about 40 of the pool's 60 rows, drawn at random: 28 certify 30.0% where 47.5% " in shown
    )
    assert "rows of the pool: it agrees with the teacher on" in shown
    assert "accuracy" not in shown
    noted = json.loads((tmp_path / "run" / "cascade" / "stage.json").read_text())["results"]
    assert noted["promise"][""]["against"] == "teacher"
    assert noted["promise"][""]["n_rows"] == 40
    call({**asked_of, "--guarantee": 0.3, "--guarantee_rows": 40})
    shown = capsys.readouterr().out
    assert "promised with 95% confidence: an agreement with the teacher of 30.0%; below a confidence of" in shown
    assert "finding that took the teacher's answers about 40 rows drawn: " in shown


def test_folder_of_another_call_is_refused_before_anybody_is_asked(asked_of, command, monkeypatch):  # noqa: F811
    call({**asked_of, "--guarantee": 0.3, "--guarantee_rows": 40})
    monkeypatch.setattr("hf_llambert.cli.cascade.promises_of_asking", None)  # which asks
    with pytest.raises(FileExistsError, match="promise..target: 0.3 there, 0.2 now"):
        call({**asked_of, "--guarantee": 0.2})
    with pytest.raises(FileExistsError, match="max_asked: None there, 50 now"):
        call({**asked_of, "--guarantee": 0.3, "--max_asked": 50})


def test_label_promises_the_recall_of_a_label(command, tmp_path, capsys):  # noqa: F811
    call({**command, "--guarantee": 0.05, "--gold": tmp_path / "gold.jsonl", "--guarantee_of": "recall:positive"})
    assert ": of the 20 that are 'positive' it calls " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"--guarantee": 0.99},
            "An agreement with the teacher of 99.0% cannot be promised by 60 of the pool's 60 .* least 299",
        ),
        (
            {"--guarantee": 0.3, "--guarantee_rows": 40, "--max_asked": 39},
            "takes 40 rows .* and --max_asked allows 39. Raise it, or draw fewer",
        ),
        (
            {"--guarantee": 0.9, "--guarantee_rows": 20},
            "by 20 of the pool's 60 .* at least 29 .*Draw more .--guarantee_rows",
        ),
    ],
)
def test_pool_with_too_few_rows_is_told_before_anybody_is_asked(asked_of, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        call({**asked_of, **change})
    assert (tmp_path / "run" / "labels").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--guarantee": 0.9, "--gold": "x"}, "--against teacher asks for none"),
        ({"--guarantee": 90}, "--guarantee takes a share between 0 and 1, such as 0.95; got 90"),
        ({"--guarantee": 0.9, "--against": "encoder"}, "takes gold or teacher, got 'encoder'. .*--encoder_agreement"),
        ({"--ask_teacher_below": 0.9}, "--against say what --guarantee promises"),
        ({"--guarantee": 0.9, "--guarantee_rows": 0}, "takes 1 or more"),
        (
            {"--guarantee": 0.9, "--against": "gold", "--gold": "x", "--guarantee_rows": 5},
            "rows --against teacher draws",
        ),
        ({"--guarantee": 0.9, "--guarantee_of": "recall:positiv"}, "Did you mean 'positive'"),
        ({"--guarantee": 0.9, "--guarantee_of": "f1:positive"}, "Expected what is promised as recall:negative"),
    ],
)
def test_promises_that_make_no_sense_are_told_before_the_student_labels(asked_of, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        call({**asked_of, **change})
    assert not (tmp_path / "run").exists()


def test_the_confidence_of_one_of_ten_questions_is_not_called_certain():
    from hf_llambert.pool.certified import certified_right

    one = np.ones(1, dtype=bool)
    said = certified_right(np.ones(1, dtype=np.float32), one, one, Promise(0.95, 1 - 0.05 / 10))
    assert isinstance(said, str) and "with 99.5% confidence" in said
