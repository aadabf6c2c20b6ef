"""Two students as one labeler: a fast one labels what it is sure of, an encoder the rest; with a teacher on top, three stages."""

import dataclasses
import json
import pickle
import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset
from scipy.stats import binomtest

from conftest import make_cloze, make_reviews
from fakes import CountingTeacher
from hf_llambert import (
    Choice,
    Choices,
    LLMLabeler,
    Scale,
    StudentCascade,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    calibrate_cascade,
    cascade,
    cascade_summary,
    choose_below,
    cli,
    distill_student,
    label_pool,
    read_pool,
    train_fast,
    train_student,
    write_report,
)
from hf_llambert.notes import read_stage
from hf_llambert.pool import first_stage, share
from hf_llambert.pool.certified import GRID
from hf_llambert.pool.first_stage import sample_texts
from hf_llambert.pool.labelled import read_labels
from hf_llambert.pool.sources import pool_pieces
from hf_llambert.pool.thresholds import guaranteed_threshold
from hf_llambert.report.sentences import stages_said
from hf_llambert.tasks.parts import part_of
from hf_llambert.teachers.base import Reply
from kind_run import make_kind_run

TASK = TaskSpec("mood", ("negative", "positive"), "{text} Good or bad?", chat=False)
GOOD, BAD = ("wonderful", "liked", "fine"), ("awful", "dull", "bored")
RANDOM = np.random.default_rng(3)
TEXTS = [f"the film was {' '.join(RANDOM.choice([*GOOD, *BAD], RANDOM.integers(1, 4)))} number {i}" for i in range(80)]
LABELS = [int(sum(word in text for word in GOOD) > sum(word in text for word in BAD)) for text in TEXTS]
UNUSABLE = [None, "  "]


def rows_of(task=TASK):
    return Dataset.from_dict({"text": TEXTS, "label": LABELS}).cast_column(
        "label", ClassLabel(names=list(task.labels))
    )


def arguments(folder):
    return StudentConfig(
        str(folder / "checkpoints"), report_to=[], use_cpu=True, disable_tqdm=True, max_steps=8, threshold_share=0.2
    )


@pytest.fixture(scope="module")
def students(student_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    train_student(TASK, student_dir, folder / "encoder", arguments(folder), gold=rows_of())
    train_fast(TASK, "linear", folder / "linear", arguments(folder), gold=rows_of().select(range(40)))
    return StudentLabeler(folder / "linear"), StudentLabeler(folder / "encoder")


QUESTIONS = (
    Choice("mood", ("bad", "good"), "?"),
    Choices("about", ("film", "number"), "?"),
    Scale("stars", ("1", "2", "3"), "?"),
)
SEVERAL = TaskSpec("several", (), "{text}", questions=QUESTIONS)


@pytest.fixture(scope="module")
def of_several(student_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    about = [[k for k, word in enumerate(("wonderful", "dull")) if word in text] for text in TEXTS]
    columns = {"text": TEXTS, "mood": LABELS, "about": about, "stars": [1.0 + 2 * label for label in LABELS]}
    rows = Dataset.from_dict(columns)
    train_student(SEVERAL, student_dir, folder / "encoder", arguments(folder), gold=rows, baseline=False)
    train_fast(SEVERAL, "linear", folder / "linear", arguments(folder), gold=rows.select(range(50)))
    return StudentLabeler(folder / "linear"), StudentLabeler(folder / "encoder")


def close(one, other):
    """Equal, floats to what a batch of other lengths may change."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other


def by_hand(fast, encoder, texts, below, names=("",)):
    """Row by row: the encoder's answer where the fast student is below its threshold, else the fast student's."""
    first, second = fast.label(texts), encoder.label(texts)
    out, read = {}, set()
    for name in names:
        begin = f"student_{name}" if name else "student"
        columns = [column for column in first if column.startswith(f"{begin}_")]
        source = []
        for i, sure in enumerate(first[f"{begin}_confidence"]):
            unsure = sure is not None and np.float32(sure) < np.float32(below[name])
            read |= {i} if unsure else set()
            source.append(None if sure is None else "encoder" if unsure else "linear")
        for column in columns:
            out[column] = [(second if source[i] == "encoder" else first)[column][i] for i in range(len(texts))]
        out[f"{begin}_source"] = source
    return out, read


def middle(labeler, name=""):
    """A threshold that about half of the texts are below."""
    return float(np.median(labeler.label(TEXTS)[f"student_{name}_confidence" if name else "student_confidence"]))


def test_answers_are_those_of_doing_it_by_hand(students):
    fast, encoder = students
    below = middle(fast)
    texts = [*TEXTS[:30], *UNUSABLE, *TEXTS[30:]]
    found = StudentCascade(fast, encoder, below).label(texts)
    expected, _ = by_hand(fast, encoder, texts, {"": below})
    assert list(found) == [*fast.features(), "student_source"]
    assert all(close(found[name], expected[name]) for name in found)
    assert 20 < found["student_source"].count("encoder") < 60
    assert [found[name][30:32] for name in found] == [[-1, -1], [None, None], [None, None], [None, None]]


def test_each_of_several_questions_is_decided_by_its_own_threshold(of_several):
    fast, encoder = of_several
    below = {"mood": middle(fast, "mood"), "about": 0.0, "stars": middle(fast, "stars")}
    texts = [*TEXTS, *UNUSABLE]
    labeler = StudentCascade(fast, encoder, below)
    expected, read = by_hand(fast, encoder, texts, below, below)
    found = labeler.label(texts)
    assert set(found) == set(expected) == set(labeler.features())
    assert all(close(found[name], expected[name]) for name in found)
    assert set(found["student_about_source"]) == {"linear", None}
    assert len(set(found["student_mood_source"]) & set(found["student_stars_source"])) == 3
    assert 0 < len(read) < len(texts)
    assert len(set(labeler.encode(texts).of_text)) == len(read)


@pytest.mark.parametrize(("below", "source"), [(0, "linear"), (1, "encoder")])
def test_one_of_them_labels_all_at_the_ends_of_the_thresholds(students, below, source):
    labeler = StudentCascade(*students, below)
    found = labeler.label([*TEXTS, None])
    alone = students[source == "encoder"].label([*TEXTS, None])
    assert found.pop("student_source") == [source] * len(TEXTS) + [None]
    assert all(close(found[name], alone[name]) for name in alone)
    assert labeler.label([]) == {name: [] for name in labeler.features()}
    assert labeler.label(UNUSABLE)["student_label"] == [-1, -1]


def test_a_fast_student_as_sure_as_can_be_is_not_believed_at_a_threshold_of_one(students, monkeypatch):
    fast, encoder = students
    sure = pa.array([1.0] * 3, pa.float32())
    score = fast.score
    monkeypatch.setattr(fast, "score", lambda *given: {**score(*given), "student_confidence": sure})
    labeler = StudentCascade(fast, encoder, 1.0)
    assert labeler.label(TEXTS[:3])["student_source"] == ["encoder"] * 3


def test_it_is_mapped_and_pickled_like_one_student(students):
    labeler = StudentCascade(*students, middle(students[0]))
    size = len(pickle.dumps(labeler))
    data = Dataset.from_dict({"text": [*TEXTS, None]})
    found = data.map(labeler, batched=True, batch_size=30, features=labeler.features(data))
    again = pickle.loads(pickle.dumps(labeler))
    assert len(pickle.dumps(labeler)) == size < 3000
    assert again.settings() == labeler.settings()
    expected = again.label([*TEXTS, None])
    assert all(close(found[name][:], expected[name]) for name in expected)
    assert found.features["student_label"].names == ["negative", "positive"]
    with pytest.raises(ValueError, match="student_source|columns"):
        labeler(found[:3])


def test_settings_and_identity_are_of_both_students_and_the_threshold(students):
    fast, encoder = students
    labeler, other = (StudentCascade(fast, encoder, below) for below in (0.7, 0.8))
    assert labeler.identity != other.identity
    assert labeler.settings()["student"] == encoder.identity
    assert labeler.settings()["first"]["student"] == fast.identity
    assert (labeler.settings()["encoder_below"], other.settings()["encoder_below"]) == ({"": 0.7}, {"": 0.8})
    assert labeler.identity == StudentCascade(fast, encoder, {"label": 0.7}).identity
    assert labeler.labels == encoder.labels
    assert labeler.agreement(TEXTS[:10]) == 1.0
    labeler.check_task(TASK)
    with pytest.raises(ValueError, match="The student has the labels"):
        labeler.check_task(replace(TASK, labels=("a", "b"), verbalizers=()))


def test_a_pool_is_labelled_as_by_hand_by_processes_of_their_own(students, tmp_path, monkeypatch):
    monkeypatch.setattr(share, "_WINDOW", 16)
    fast, encoder = students
    below = middle(fast)
    texts = [*TEXTS, *UNUSABLE]
    pq.write_table(pa.table({"text": texts}), tmp_path / "pool.parquet")
    given = (tmp_path / "pool.parquet", StudentCascade(fast, encoder, below), tmp_path / "labels", 20, False)
    first = label_pool(*given, process=(0, 2))
    assert not first["complete"]
    last = label_pool(*given, process=(1, 2))
    assert (last["complete"], last["n_labelled"], last["n_unusable"]) == (True, 80, 2)
    expected, _ = by_hand(fast, encoder, texts, {"": below})
    found = read_pool(tmp_path / "labels")
    assert all(close(found[name][:], expected[name]) for name in expected)


def test_a_pool_goes_on_where_it_stopped_and_refuses_another_threshold(students, tmp_path):
    fast, encoder = students
    pool = Dataset.from_dict({"text": TEXTS})
    labeler = StudentCascade(fast, encoder, middle(fast))
    label_pool(pool, labeler, tmp_path / "labels", 20, False)
    before = {path: path.read_bytes() for path in (tmp_path / "labels").glob("*.parquet")}
    lost = sorted(before)[2]
    lost.unlink()
    written = {path: path.stat().st_mtime_ns for path in before if path != lost}
    label_pool(pool, labeler, tmp_path / "labels", 20, False)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert pq.read_table(lost)["student_source"].to_pylist() == read_pool(tmp_path / "labels")["student_source"][40:60]
    for other in (StudentCascade(fast, encoder, 0.5), encoder):
        with pytest.raises(FileExistsError):
            label_pool(pool, other, tmp_path / "labels", 20, False)


def test_two_that_do_not_answer_alike_are_refused_by_name(students, of_several, student_dir):
    (fast, encoder), (fast_of_several, _) = students, of_several
    with pytest.raises(ValueError, match="is an encoder; the first of two students is a fast one"):
        StudentCascade(encoder, encoder, 0.9)
    with pytest.raises(ValueError, match="is a linear student; the second of two students is an encoder"):
        StudentCascade(fast, fast, 0.9)
    with pytest.raises(
        ValueError, match="linear' answers mood: choice of bad, good; about: .*encoder' answers one quest"
    ):
        StudentCascade(fast_of_several, encoder, 0.9)
    with pytest.raises(ValueError, match="read the same columns"):
        StudentCascade(StudentLabeler(fast.student, "review"), encoder, 0.9)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        StudentCascade(fast, encoder, 1.5)
    with pytest.raises(ValueError, match=r"of each question \(mood, about, stars\), got \{'mood': 0.5\}"):
        StudentCascade(*of_several, {"mood": 0.5})


# Which threshold


def hand_chosen(fast, encoder, texts, agreement):
    """The least threshold of the grid that the sequence of tests comes to, each test by itself."""
    first, second = fast.label(texts), encoder.label(texts)
    found = 1.0
    for below in GRID:
        kept = sum(
            np.float32(sure) < np.float32(below) or one == other
            for sure, one, other in zip(
                first["student_confidence"], first["student_label"], second["student_label"], strict=True
            )
        )
        if binomtest(kept, len(texts), agreement, alternative="greater").pvalue > 0.05:
            break
        found = below
    return found


def test_threshold_is_the_least_that_certainly_keeps_the_encoders_labels(students):
    fast, encoder = students
    texts = [text.replace("film", word) for word in ("film", "actor", "music", "plot") for text in TEXTS]
    found = choose_below(fast, encoder, [*texts, None], 0.9)
    assert found.below == {"": hand_chosen(fast, encoder, texts, 0.9)}
    assert 0 < found.below[""] < 1
    assert found.n == len(texts)
    together = StudentCascade(fast, encoder, found.below).label(texts)
    assert found.share_fast == pytest.approx(together["student_source"].count("linear") / len(texts))
    assert 0 < found.share_fast < 1
    same = np.mean(np.array(together["student_label"]) == encoder.label(texts)["student_label"])
    assert found.kept[""] == pytest.approx(same)
    assert 0.9 <= found.lower[""] < found.kept[""]
    assert found.sentences("linear")[-1] == f"the linear student answers {found.share_fast:.1%} of 320 texts itself"


def test_threshold_is_one_where_too_few_texts_tell(students):
    found = choose_below(*students, TEXTS)
    assert (found.below, found.share_fast, found.kept) == ({"": 1.0}, 0.0, {"": 1.0})
    [line] = found.sentences("linear")
    assert line.startswith("the encoder answers all: of 80 texts no threshold is certain to keep 99.5% of its labels")
    assert line.endswith("fewer than 598 cannot tell")
    with pytest.raises(ValueError, match="None of the 2 texts is usable"):
        choose_below(*students, UNUSABLE)
    with pytest.raises(ValueError, match=r"agreement and confidence must lie between 0 and 1, got 1\.0"):
        choose_below(*students, TEXTS, 1.0)


def test_each_question_has_its_threshold_and_the_risk_is_split(of_several):
    texts = [text.replace("film", word) for word in ("film", "actor", "music", "plot") for text in TEXTS]
    found = choose_below(*of_several, texts, 0.9)
    assert list(found.below) == ["mood", "about", "stars"]
    assert min(found.lower.values()) >= 0.9
    alone = choose_below(*of_several, texts, 0.9, confidence=1 - 0.05 / 3)
    assert alone.below["mood"] <= found.below["mood"]
    together, encoders = StudentCascade(*of_several, found.below).label(texts), of_several[1].label(texts)
    for name, question in ((one.name, one) for one in QUESTIONS):
        column = f"student_{name}_{question.answer_column}"
        assert question.right(together[column], encoders[column]).mean() == pytest.approx(found.kept[name])


def test_sample_of_a_pool_is_drawn_from_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(first_stage, "_READ", 200)
    monkeypatch.setattr(first_stage, "_BLOCK", 10)
    texts = [f"text {i}" if i % 4 else None for i in range(1000)]
    pq.write_table(pa.table({"text": texts[:700]}), tmp_path / "a.parquet", row_group_size=37)
    pq.write_table(pa.table({"text": texts[700:]}), tmp_path / "b.parquet")
    found = sample_texts(pool_pieces(tmp_path), "text", 60)
    places = [int(text.split()[1]) for text in found]
    assert len(set(places)) == 60
    assert min(places) < 150
    assert max(places) > 850
    assert found == sample_texts(pool_pieces(tmp_path), "text", 60)
    assert found != sample_texts(pool_pieces(tmp_path), "text", 60, seed=1)
    assert sorted(sample_texts(pool_pieces(tmp_path / "b.parquet"), "text", 999))[:1] == ["text 701"]
    (tmp_path / "lines.jsonl").write_text("".join(f'{{"text": "line {i}"}}\n' for i in range(30)))
    assert len(sample_texts(pool_pieces(tmp_path / "lines.jsonl"), "text", 20)) == 20


# A teacher on top


@dataclass(frozen=True)
class Counting(CountingTeacher):
    """Right about every text."""

    def _reply(self, task, text):
        return Reply(response=task.labels[LABELS[int(text.split()[-1])]])


@pytest.fixture
def asking(tmp_path):
    return LLMLabeler(TASK, Counting(str(tmp_path / "asked"), "generate"), tmp_path / "ledger")


@pytest.fixture
def labelled(students, tmp_path):
    """Eighty texts and two unusable ones, labelled by two students; with the labeler."""
    labeler = StudentCascade(*students, middle(students[0]))
    pool = Dataset.from_dict({"text": [*TEXTS, *UNUSABLE], "label": [*LABELS, -1, -1]})
    results = label_pool(pool, labeler, tmp_path / "labels", 30, False)
    return tmp_path / "labels", labeler, results


def test_teacher_is_asked_where_whichever_student_answered_is_unsure(labelled, asking, tmp_path):
    labels, labeler, results = labelled
    before = labeler.label([*TEXTS, *UNUSABLE])
    sure = np.array(before["student_confidence"], dtype=np.float32)
    below = float(np.nanmedian(sure))
    found = cascade(labels, asking, tmp_path / "out", below=below, gold_column="label", show_progress=False)
    out = read_pool(tmp_path / "out")
    unsure = sure < np.float32(below)
    expected = np.where(unsure, "teacher", np.array(before["student_source"], dtype=object))
    assert out["cascade_source"][:] == expected.tolist()
    assert out["cascade_source"][-2:] == [None, None]
    decided = np.where(unsure, [*LABELS, -1, -1], before["student_label"])
    assert out["cascade_label"][:] == decided.tolist()
    counts = {stage: int((expected == stage).sum()) for stage in ("linear", "encoder", "teacher")}
    assert found["by_stage"] == {stage: count for stage, count in counts.items() if count}
    assert list(found["by_stage"])[-1] == "teacher"
    right = {stage: (decided[:80] == LABELS)[expected[:80] == stage].mean() for stage in found["by_stage"]}
    noted = {stage: one["value"] for stage, one in found["gold"]["by_stage"].items()}
    assert noted == pytest.approx(right)
    of_students = {stage: before["student_source"].count(stage) for stage in ("linear", "encoder")}
    assert results["by_stage"] == of_students
    assert read_stage(labels / "stage.json", "labels")["results"]["by_stage"] == of_students
    assert read_stage(tmp_path / "out" / "stage.json", "cascade")["results"] == found
    assert f"the teacher answered {counts['teacher']} of 80 texts" in "\n".join(cascade_summary(found))


def test_labels_of_one_student_have_no_stages(students, asking, tmp_path):
    results = label_pool(Dataset.from_dict({"text": TEXTS}), students[1], tmp_path / "labels", 30, False)
    found = cascade(tmp_path / "labels", asking, tmp_path / "out", below=0.6, show_progress=False)
    assert "by_stage" not in results
    assert "by_stage" not in found
    assert set(read_pool(tmp_path / "out")["cascade_source"]) <= {"student", "teacher"}


def test_one_promise_is_about_all_three_stages(students, asking):
    labeler = StudentCascade(*students, middle(students[0]))
    columns = labeler.label(TEXTS)
    promise = calibrate_cascade(rows_of(), labeler, asking, 0.9, show_progress=False)
    expected = guaranteed_threshold(columns["student_confidence"], columns["student_label"], LABELS, LABELS, 0.9)
    assert dataclasses.replace(promise, n_told=0, input_tokens=0, output_tokens=0) == expected


def test_stages_of_several_questions_are_counted_by_question(of_several, tmp_path):
    below = {"mood": middle(of_several[0], "mood"), "about": 0.0, "stars": 1.0}
    results = label_pool(
        Dataset.from_dict({"text": TEXTS}), StudentCascade(*of_several, below), tmp_path / "labels", 30, False
    )
    assert results["by_stage"]["about"] == {"linear": 80}
    assert results["by_stage"]["stars"] == {"encoder": 80}
    assert sum(results["by_stage"]["mood"].values()) == 80
    table = read_pool(tmp_path / "labels")
    seen = part_of(table, SEVERAL, "mood")
    assert seen["student_source"][:] == table["student_mood_source"][:]
    assert not [name for name in seen.column_names if "stars" in name or "about" in name]
    teacher = CountingTeacher(str(tmp_path / "asked"))
    labeler = LLMLabeler(SEVERAL, teacher, tmp_path / "ledger")
    found = cascade(
        tmp_path / "labels", labeler, tmp_path / "out", below={"mood": 0.0, "about": 0.0, "stars": 1.0}, max_asked=10,
        show_progress=False,
    )  # fmt: skip
    assert found["questions"]["about"]["by_stage"] == {"linear": 80}
    assert found["questions"]["stars"]["by_stage"] == {"encoder": 70, "teacher": 10}
    report = {"questions": {}, "cascade": found, "labels": results}
    assert "stars: the teacher answered 10 of 80 texts (12.5%)" in stages_said(report)
    assert "stars: the encoder answered 80 of 80 texts (100.0%)" in stages_said({**report, "cascade": None})


# On the command line


@pytest.fixture
def command(students, tmp_path):
    fast, encoder = students
    TASK.to_yaml(tmp_path / "task.yaml")
    lines = [{"text": text, "label": TASK.labels[label]} for text, label in zip(TEXTS, LABELS, strict=True)]
    Dataset.from_list(lines).to_parquet(str(tmp_path / "pool.parquet"))
    answers = [{"text": text, "answer": TASK.labels[label]} for text, label in zip(TEXTS, LABELS, strict=True)]
    Dataset.from_list(answers).to_json(str(tmp_path / "answers.jsonl"))
    return {
        "--student": encoder.student,
        "--first": fast.student,
        "--data": tmp_path / "pool.parquet",
        "--output": tmp_path / "run",
        "--backend": "torch",
        "--task": tmp_path / "task.yaml",
    }


def call(options):
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    cli.app(["label", *words], standalone_mode=False)


def teacher(tmp_path):
    said = {"teacher": "recorded", "path": str(tmp_path / "answers.jsonl"), "model": "m", "response_column": "answer"}
    (tmp_path / "teacher.yaml").write_text(json.dumps(said))
    return {"--teacher": tmp_path / "teacher.yaml"}


def test_label_says_what_each_stage_answered(command, students, tmp_path, capsys):
    below = middle(students[0])
    call({**command, "--encoder_below": below, "--ask_teacher_below": 0.6, **teacher(tmp_path)})
    shown = capsys.readouterr().out
    labels, out = (read_pool(tmp_path / "run" / folder) for folder in ("labels", "cascade"))
    expected = StudentCascade(*students, below).label(TEXTS)
    assert labels["student_source"][:] == expected["student_source"]
    for stage in ("the linear student", "the encoder"):
        count = labels["student_source"][:].count(stage.split()[1])
        assert f"{stage} answered {count} of 80 texts ({count / 80:.1%})\n" in shown
    count = out["cascade_source"][:].count("teacher")
    assert 0 < count < 80
    assert f"the teacher answered {count} of 80 texts ({count / 80:.1%}); 100.0% right (" in shown


def test_label_chooses_the_threshold_once_and_says_it(command, students, tmp_path, capsys, monkeypatch):
    call({**command, "--encoder_agreement": 0.8})
    chosen = choose_below(*students, TEXTS, 0.8)
    assert 0 < chosen.share_fast < 1
    shown = capsys.readouterr().out
    assert all(line in shown for line in chosen.sentences("linear"))
    found = read_pool(tmp_path / "run" / "labels")["student_source"][:]
    assert found.count("linear") / 80 == pytest.approx(chosen.share_fast)
    monkeypatch.setattr("hf_llambert.pool.first_stage.certified_right", None)
    call({**command, "--encoder_agreement": 0.8})
    assert chosen.sentences("linear")[-1] in capsys.readouterr().out


def test_promise_of_the_command_is_about_three_stages(command, students, tmp_path, capsys):
    options = {**command, "--encoder_below": middle(students[0]), **teacher(tmp_path)}
    call({**options, "--guarantee": 0.9, "--gold": tmp_path / "pool.parquet"})
    shown = capsys.readouterr().out
    assert "the teacher decides, on" in shown
    assert "with 95% confidence at least 9" in shown
    out = read_pool(tmp_path / "run" / "cascade")
    assert set(out["cascade_source"][:]) <= {"linear", "encoder", "teacher"}
    assert np.mean(np.array(out["cascade_label"][:]) == LABELS) >= 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--first": None, "--encoder_below": 0.9}, "--encoder_below is about the fast student that --first names"),
        ({"--first": None, "--encoder_agreement": 0.9}, "--encoder_agreement is about the fast student"),
        ({"--encoder_below": 0.9, "--encoder_agreement": 0.9}, "Pass one of them"),
        ({"--encoder_below": 1.5}, "--encoder_below takes confidences from 0 to 1, such as 0.9.*got '1.5'"),
        ({"--encoder_below": "often"}, "got 'often'"),
        ({"--encoder_below": "label=0.9,label=0.8"}, "QUESTION=0.9 once for each"),
        ({"--encoder_below": "tone=0.9"}, r"a threshold of each question \(label\), got \{'tone': 0.9\}"),
        ({"--encoder_agreement": 95}, "--encoder_agreement takes a share between 0 and 1, such as 0.995; got 95"),
        ({"--first": "encoder"}, "is an encoder; the first of two students is a fast one"),
        ({"--first": "several"}, "answer the same questions with the same labels"),
    ],
)
def test_mistakes_about_the_first_student_are_told_before_anything_is_labelled(
    command, students, of_several, tmp_path, change, message
):
    named = {"encoder": students[1].student, "several": of_several[0].student}
    options = {**command, **{name: named.get(value, value) for name, value in change.items()}}
    with pytest.raises(ValueError, match=message):
        call(options)
    assert not (tmp_path / "run").exists()


# In the report


@pytest.mark.usefixtures("undrawn_reports")
def test_report_says_what_each_stage_answered_and_how_often_it_was_right(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    fast, encoder = StudentLabeler(run / "student" / "baseline"), StudentLabeler(run / "student")
    pool = make_reviews(40).select(range(30, 40))
    labeler = StudentCascade(fast, encoder, max(fast.label(pool["text"][:])["student_confidence"]))
    found = label_pool(pool, labeler, run / "labels", show_progress=False, overwrite=True)["by_stage"]
    assert len(found) == 2
    report = write_report(run)
    assert report["labels"]["by_stage"] == found
    assert list(report["left_out"]) == ["prevalence"]
    assert report["prevalence"] is None
    assert report["student"]["texts_per_second"] != report["labels"]["texts_per_second"]
    with pytest.raises(ValueError, match="holds answers of a fast student too"):
        distill_student(run, show_progress=False)
    pages = [(run / f"report.{end}").read_text() for end in ("md", "html")]
    for page in pages:
        assert f"the linear student answered {found['linear']} of 10 texts ({found['linear'] / 10:.1%})" in page
        assert f"the encoder answered {found['encoder']} of 10 texts" in page
        assert "How common each class is in the pool is not told: a fast student answered some of it" in page
    assert "it and a fast student labelled 10 texts" in pages[1]
    teacher = LLMLabeler(make_cloze(), CountingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")
    cascade(run / "labels", teacher, run / "cascade", below=1, max_asked=4, gold_column="label", show_progress=False)
    write_report(run)
    for end in ("md", "html"):
        page = (run / f"report.{end}").read_text()
        assert re.search(
            r"the teacher answered 4 of 10 texts \(40.0%\); [\d.]+% right \([\d.]+% to [\d.]+%, 4 gold r", page
        )
        assert re.search(r"the (linear student|encoder) answered \d+ of 10 texts \([\d.]+%\); [\d.]+% right", page)


@pytest.mark.usefixtures("undrawn_reports")
def test_report_of_several_questions_says_it_of_each(tmp_path):
    run = make_kind_run(tmp_path, 40)
    note = json.loads((run / "labels" / "stage.json").read_text())
    note["results"]["by_stage"] = {"tone": {"linear": 400, "encoder": 100}, "quality": {"linear": 500}, "topics": {}}
    (run / "labels" / "stage.json").write_text(json.dumps(note))
    write_report(run)
    for end in ("md", "html"):
        page = (run / f"report.{end}").read_text()
        assert "tone: the encoder answered 100 of 500 texts (20.0%)" in page
        assert "quality: the linear student answered 500 of 500 texts" in page
    note["results"]["by_stage"]["tone"]["encoder"] = -1
    (run / "labels" / "stage.json").write_text(json.dumps(note))
    with pytest.raises(
        OSError, match=r"a whole number from 0.*at 'results\.by_stage\.tone\.encoder', got a whole number: -1"
    ):
        read_stage(run / "labels" / "stage.json", "labels")


def test_labels_of_two_students_are_told_from_those_of_the_encoder(students, tmp_path):
    fast, encoder = students
    pool = Dataset.from_dict({"text": TEXTS[:4]})
    label_pool(pool, StudentCascade(fast, encoder, 0.75), tmp_path / "both", show_progress=False)
    label_pool(pool, encoder, tmp_path / "one", show_progress=False)
    both, one = (read_labels(tmp_path / name) for name in ("both", "one"))
    assert both.student == one.student == one.made_by == encoder.identity
    assert both.made_by == f"{encoder.identity}, where linear student {fast.identity} is less sure than 0.75"


def test_command_takes_a_threshold_for_each_question(of_several, tmp_path, capsys):
    fast, encoder = of_several
    below = {"mood": middle(fast, "mood"), "about": 0.0, "stars": 1.0}
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "pool.parquet")
    said = ",".join(f"{name}={one}" for name, one in below.items())
    options = {"--student": encoder.student, "--first": fast.student, "--backend": "torch"}
    call({**options, "--data": tmp_path / "pool.parquet", "--output": tmp_path / "run", "--encoder_below": said})
    shown = capsys.readouterr().out
    expected = StudentCascade(fast, encoder, below).label(TEXTS)
    found = read_pool(tmp_path / "run" / "labels")
    for name in below:
        assert found[f"student_{name}_source"][:] == expected[f"student_{name}_source"]
    assert "about: the linear student answered 80 of 80 texts (100.0%)" in shown
    assert "stars: the encoder answered 80 of 80 texts (100.0%)" in shown
