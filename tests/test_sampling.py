"""How likely each row was drawn for a review, and what that is good for."""

import csv
import json
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value
from typer.testing import CliRunner

from hf_llambert import Review, build_queue, sampling_table, write_queue
from hf_llambert.cli import app
from hf_llambert.data import STAGE_FILE
from hf_llambert.review.drawing import choose_rows
from hf_llambert.review.sampling import write_table
from review_run import make_questions, make_questions_run, make_run

PAGE = Path(__file__).parent.parent / "docs" / "design_based.md"


@pytest.fixture
def run(tmp_path, cloze) -> Path:
    run = make_run(tmp_path / "run", cloze)
    write_queue(run / "review", build_queue(run, 16, 8))
    return run


def answer(run, places=None, label=1, who="Ann"):
    review = Review(run / "review")
    with review.session(who) as session:
        for place in range(len(review.queue.rows)) if places is None else places:
            session.answer(place, label)
    return review


@dataclass
class Given:
    """Draws what it was told to."""

    rows: tuple[int, ...]

    def sample(self, population, k):
        assert set(self.rows) <= set(population)
        assert len(self.rows) == k
        return list(self.rows)


def test_weighted_estimates_are_unbiased_over_all_draws_that_there_can_be():
    """Ten rows, of which four stand in two lists of doubtful ones that share one; every set of five at random, then two."""
    lists = {("disagree", ""): [0, 1], ("unsure", ""): [2, 1, 3]}
    wrong = np.array([1, 1, 0, 1, 1, 0, 0, 1, 0, 0])
    found, plain, naive = [], [], []
    for drawn in combinations(range(10), 5):
        chosen, certain = choose_rows(range(10), lists, 7, 5, Given(drawn))
        rest = [row for row in chosen if row not in certain]
        assert len(chosen) <= 7
        assert {*certain} <= {*chosen}
        assert {*rest} <= {*drawn}
        found.append(wrong[list(certain)].sum() + (10 - len(certain)) / len(rest) * wrong[rest].sum())
        plain.append(wrong[list(chosen)].mean() * 10)
        others = [row for row in chosen if row not in drawn]
        naive.append(wrong[others].sum() + 8 / 5 * wrong[list(drawn)].sum())  # as if drawn from what was not chosen
    assert np.mean(found) == pytest.approx(wrong.sum(), abs=1e-12)
    assert abs(np.mean(plain) - wrong.sum()) > 0.5
    assert abs(np.mean(naive) - wrong.sum()) > 0.1


def test_each_row_is_there_with_its_labels_and_its_probability(run):
    review = answer(run)
    table, queue = sampling_table(run), review.queue
    assert table.column_names == ["text", "row", "predicted", "reviewed", "sampling_prob", "reason"]
    assert table["row"][:] == list(range(40))
    assert table["predicted"][:4] == [None, None, "negative", "positive"]
    places = {row.row: row for row in queue.rows}
    rest = 16 - len(queue.drawn.certain)
    assert 0 < rest < 8
    for i, row in enumerate(table):
        assert row["reviewed"] == ("positive" if i in places else None)
        assert row["reason"] == (places[i].reason if i in places else None)
        expected = 1.0 if i in queue.drawn.certain else rest / (40 - len(queue.drawn.certain))
        assert row["sampling_prob"] == pytest.approx(expected)
    assert sampling_table(run, "student")["predicted"][:3] == ["positive", "positive", "negative"]


def test_answers_to_the_first_part_of_the_queue_have_that_share_of_the_probability(run):
    answer(run)
    whole = sampling_table(run)["sampling_prob"][:]
    (run / "review" / "answers").rename(run / "away")
    answer(run, range(12))
    assert sampling_table(run)["sampling_prob"][:] == pytest.approx([12 / 16 * one for one in whole])


def test_rows_without_an_answer_count_as_not_drawn_and_are_told(run, caplog):
    answer(run)
    whole = sampling_table(run)
    review = Review(run / "review")
    with review.session("Ann") as session:
        session.skip(3)
    table = sampling_table(run)
    assert "1 of the 16 rows that were reached have no answer (1 skipped)" in caplog.text
    skipped = review.queue.rows[3].row
    assert table["reviewed"][skipped] is None
    kind = [whole["sampling_prob"][i] == whole["sampling_prob"][skipped] for i in range(40)]
    number = sum(place.row in range(40) and kind[place.row] for place in review.queue.rows)
    for i in range(40):
        factor = (number - 1) / number if kind[i] else 1
        assert table["sampling_prob"][i] == pytest.approx(factor * whole["sampling_prob"][i])
    with review.session("Bob") as session:
        session.answer(5, 0)
    with pytest.raises(
        ValueError, match="2 of the 16 rows that were reached have no answer .1 skipped, 1 tied.: too many"
    ):
        sampling_table(run)


def test_rows_that_were_passed_over_are_refused(run):
    answer(run, [0, 1, 9])
    with pytest.raises(ValueError, match="7 of the 10 rows .* .7 passed over.* answer the queue in its order"):
        sampling_table(run)


def test_rows_for_the_test_come_first_so_that_all_of_the_queue_is_to_be_answered(tmp_path, cloze):
    run = make_run(tmp_path / "tested", cloze, 80)
    write_queue(run / "review", build_queue(run, 70, 4, for_test=56))
    answer(run, range(60))
    with pytest.raises(ValueError, match="take answers to the whole queue; 60 of its 70 rows were reached"):
        sampling_table(run)
    review = answer(run, range(60, 70))
    table, certain = sampling_table(run), review.queue.drawn.certain
    random = [row.row for row in review.queue.rows if row.row not in certain]
    assert {"for_test", "random"} <= {table["reason"][row] for row in random}
    assert sum(1 / table["sampling_prob"][row] for row in [*random, *certain]) == pytest.approx(80)


def test_without_random_rows_nothing_is_known_of_the_rest(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze)
    write_queue(run / "review", build_queue(run, 10, 0))
    with pytest.raises(ValueError, match="Nobody has labelled a row"):
        sampling_table(run)
    answer(run)
    with pytest.raises(ValueError, match="None of the 30 rows .* Make a queue with more random rows"):
        sampling_table(run)


def test_queue_of_an_earlier_version_says_nothing_of_its_drawing(run):
    answer(run)
    path = run / "review" / "queue.json"
    made = json.loads(path.read_text())
    del made["drawn"]
    path.write_text(json.dumps(made))
    with pytest.raises(ValueError, match="does not say how its rows were drawn"):
        sampling_table(run)
    path.write_text(json.dumps({**made, "drawn": {"num_rows": 3, "certain": []}}))
    with pytest.raises(OSError, match="'drawn' names rows"):
        sampling_table(run)


def saved(run, texts, more):
    """The annotated rows with other texts and more columns."""
    from datasets import load_from_disk

    rows = load_from_disk(str(run / "annotated"))
    columns = {**{name: rows[name][:] for name in rows.column_names}, "text": texts, **more}
    features = Features({**rows.features, **{name: Value("float64") for name in more}})
    made = Dataset.from_dict(columns, features=features)
    made.save_to_disk(str(run / "again"))
    note = (run / "annotated" / STAGE_FILE).read_text()
    (run / "annotated").rename(run / "before")
    (run / "again").rename(run / "annotated")
    (run / "annotated" / STAGE_FILE).write_text(note)


def test_equal_texts_share_their_answer_and_unusable_ones_cannot_be_drawn(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze)
    texts = [f"text {i}" for i in range(40)]
    texts[7], texts[9] = texts[3], " "
    saved(run, texts, {"price": [float(i) for i in range(40)]})
    write_queue(run / "review", build_queue(run, 38, 8))
    review = answer(run)
    assert review.queue.drawn.num_rows == 38
    table = sampling_table(run)
    assert table["price"][7] == 7.0
    for name in ("reviewed", "sampling_prob", "reason"):
        assert table[name][7] == table[name][3]
    assert (table["reviewed"][3], table["reviewed"][9], table["sampling_prob"][9]) == ("positive", None, 0.0)
    assert {one for i, one in enumerate(table["sampling_prob"][:]) if i != 9} == {1.0}  # all were in the queue


def test_column_of_the_users_is_not_overwritten(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze)
    saved(run, [f"text {i}" for i in range(40)], {"row": [0.0] * 40})
    write_queue(run / "review", build_queue(run, 40, 8))
    answer(run)
    with pytest.raises(ValueError, match="has a column 'row', and so has what is exported"):
        sampling_table(run)


def test_each_question_has_its_columns(tmp_path):
    run = make_questions_run(tmp_path / "run", make_questions())
    write_queue(run / "review", build_queue(run, 20, 8))
    review = Review(run / "review")
    with review.session("Ann") as session:
        for place in range(20):
            session.answer(place, 1, "tone")
            session.answer(place, [0, 3], "topics")
            if place < 15:
                session.answer(place, 4.0, "length")
    row = review.queue.rows[0].row
    table = sampling_table(run)
    assert (table["reviewed_tone"][row], table["reviewed_length"][row]) == ("positive", 4.0)
    assert [table[f"reviewed_topics_{one}"][row] for one in ("people", "animals", "sport", "food")] == [1, 0, 0, 1]
    tone, length = (table[f"sampling_prob_{name}"][:] for name in ("tone", "length"))
    assert length == pytest.approx([15 / 20 * one for one in tone])
    write_table(table, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["reviewed_topics_food"] in ("", "1")
    assert [float(one["sampling_prob_tone"]) for one in rows] == tone


def test_command_writes_parquet_or_csv(run, tmp_path):
    answer(run)
    call = ["review", "--run", str(run), "--export", "dsl"]
    done = CliRunner().invoke(app, [*call, str(tmp_path / "out.parquet")])
    assert done.exit_code == 0, done.output
    assert re.search(r"probability of being labelled by people: 0\.\d+ on \d+ rows, 1 on \d+ rows", done.output)
    assert "40 rows written to" in done.output
    assert pq.read_table(tmp_path / "out.parquet")["reviewed"].to_pylist() == sampling_table(run)["reviewed"][:]
    done = CliRunner().invoke(app, [*call, str(tmp_path / "out.csv"), "--predictions", "student"])
    with (tmp_path / "out.csv").open() as file:
        assert [row["predicted"] for row in csv.DictReader(file)][:2] == ["positive", "positive"]
    for words, error in (
        ([str(tmp_path / "out.csv")], FileExistsError),
        ([str(tmp_path / "out.txt")], ValueError),
        ([str(tmp_path / "new.csv"), "--predictions", "people"], ValueError),
    ):
        assert isinstance(CliRunner().invoke(app, [*call, *words]).exception, error)
    done = CliRunner().invoke(app, ["review", "--run", str(run), "--summary", "--predictions", "student"])
    assert "--predictions is of --export dsl" in str(done.exception)


def test_code_of_the_page_runs_on_what_is_exported(tmp_path, cloze, monkeypatch, capsys):
    run = make_run(tmp_path / "run", cloze, wrong=(3, 9, 21))
    saved(run, [f"text {i}" + " more" * (i % 5) for i in range(40)], {})
    write_queue(run / "review", build_queue(run, 40, 20))
    review = Review(run / "review")
    with review.session("Ann") as session:
        for place, row in enumerate(review.queue.rows):
            session.answer(place, row.row % 2)
    write_table(sampling_table(run), tmp_path / "reviewed.parquet")
    monkeypatch.chdir(tmp_path)
    exec(compile(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], PAGE.name, "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["machine alone", "people, weighted", "corrected"]
    assert all("share 0.500 ±" in line for line in lines[2:])  # everybody was read: the truth


def test_output_on_the_page_is_of_its_code():
    lines = re.search(r"```\n(share of .*?)```", PAGE.read_text(), re.DOTALL)[1].splitlines()
    printed = re.findall(r'print\(f?"([\w ,]+)', PAGE.read_text())
    assert lines[0].startswith(printed[0])
    assert len(lines) == 4
