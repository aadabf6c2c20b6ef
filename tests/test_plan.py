import dataclasses
import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from conftest import make_cloze, make_reviews
from endpoint_server import EndpointServer
from fakes import CountingTeacher
from hf_llambert import (
    EndpointTeacher,
    Limits,
    LLMLabeler,
    Price,
    PriceTable,
    RecordedTeacher,
    StudentPlan,
    TransformersTeacher,
    annotate,
    cli,
    load_data,
    load_prices,
    make_plan,
)
from hf_llambert.planning.costs import Answer, Costs, Lengths, at_once
from hf_llambert.planning.forecast import Forecast, Moments, break_even, share
from hf_llambert.teachers import asking
from hf_llambert.teachers.base import Reply

HOURLY = Price("EUR", per_hour=3600.0)  # one euro for a second
NARROW = {"max_text_tokens": 12, "batch_tokens": 64}


@pytest.fixture
def counting(tmp_path):
    return CountingTeacher(str(tmp_path / "asked.log"))


@pytest.fixture
def labeler(counting, tmp_path):
    return LLMLabeler(make_cloze(), counting, tmp_path / "ledger")


def call(*arguments) -> None:
    cli.app([*map(str, arguments)], standalone_mode=False)


# Prices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m: {per_hour: 2, currency: EUR", "cannot be read"),
        ("", "expected a mapping from model to its price"),
        ("- m", "expected a mapping from model to its price"),
        ("m: 3", "got 'm': 3"),
        ("m: {per_hr: 2, currency: EUR}", "has currency, input_per_million, .*, not per_hr"),
        ("m: {per_hour: 2}", "the price of 'm' has no currency"),
        ("m: {per_hour: -2, currency: EUR}", "per_hour must be a number of 0 or more, got -2"),
        ("m: {per_hour: two, currency: EUR}", "per_hour must be a number of 0 or more, got 'two'"),
        ("m: {per_hour: .nan, currency: EUR}", "per_hour must be a number"),
        ("m: {per_hour: yes, currency: EUR}", "per_hour must be a number"),
        ("m: {currency: EUR}", "one of the three, got none"),
        ("m: {currency: EUR, per_hour: 1, input_per_million: 1}", "one of the three, got several"),
        ("m: {currency: EUR, per_hour: 1, gpus: 2}", "gpus goes with per_gpu_hour"),
        ("m: {currency: EUR, per_gpu_hour: 1, gpus: 0}", "gpus must be a whole number"),
        ("m: {currency: 3, per_hour: 1}", "currency must be a name"),
    ],
)
def test_wrong_price_tables_are_refused_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_prices(path)


def test_missing_price_table_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")


def test_price_tables_give_money_by_token_and_by_hour(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(
        "served: {input_per_million: 2, output_per_million: 8, currency: EUR}\n"
        "SmolLM: {per_gpu_hour: 3, gpus: 4, currency: EUR}\n"
        "own: {per_hour: 0.5, currency: EUR}\n"
    )
    table = load_prices(path)
    assert table.of("served").cost(99.0, 1e6, 5e5) == pytest.approx(2 + 4)
    assert table.of("models/SmolLM").cost(7200, 1e9, 1e9) == pytest.approx(24)
    assert table.of("own").cost(1800, 1e9, 1e9) == pytest.approx(0.25)
    with pytest.raises(
        ValueError, match=r"no price of 'other/new'; it has served, SmolLM, own. Add a line such as 'new:"
    ):
        table.of("other/new")


# Forecasts


def test_forecast_finds_what_rows_tokens_and_attention_cost():
    lengths = np.arange(10, 200, 5)
    found = Forecast(lengths, 0.5 + 0.01 * lengths + 2e-4 * lengths**2).total(Moments.of([30, 150]))
    expected = sum(0.5 + 0.01 * n + 2e-4 * n**2 for n in (30, 150))
    assert found["value"] == pytest.approx(expected, rel=1e-6)
    assert found["low"] == pytest.approx(expected, rel=1e-3)


def test_interval_of_a_forecast_covers_the_truth_about_as_often_as_it_says():
    random, hits = np.random.default_rng(0), 0
    target = Moments.of(random.integers(20, 170, 400))
    truth = 0.1 * target.n + 0.003 * target.first
    for _ in range(200):
        lengths = random.integers(20, 170, 64)
        taken = (0.1 + 0.003 * lengths) * random.lognormal(-0.02, 0.2, 64)
        found = Forecast(lengths, taken).total(target)
        hits += found["low"] <= truth <= found["high"]
    assert 180 <= hits <= 200


def test_rows_of_one_batch_count_as_one_observation():
    lengths, taken = [50] * 12, [1.0] * 6 + [2.0] * 6
    alone, together = Forecast(lengths, taken), Forecast(lengths, taken, [0] * 6 + [1] * 6)
    wide, narrow = (one.total(Moments.of([50] * 100)) for one in (together, alone))
    assert wide["value"] == pytest.approx(narrow["value"]) == pytest.approx(150)
    assert wide["high"] - wide["low"] > 3 * (narrow["high"] - narrow["low"])


def test_forecast_of_nothing_is_refused():
    with pytest.raises(ValueError, match="got none"):
        Forecast([], [])
    assert share(0, 0) is None


def test_student_pays_from_the_number_of_texts_that_earns_its_training():
    fixed, teacher, student = ({"value": v, "low": v / 2, "high": 2 * v} for v in (10.0, 0.3, 0.05))
    found = break_even(fixed, teacher, student)
    assert found["value"] == pytest.approx(40)
    assert found["low"] == pytest.approx(5 / (0.6 - 0.025))
    assert found["high"] == pytest.approx(20 / (0.15 - 0.1))
    assert break_even(fixed, student, teacher) is None
    assert "high" not in break_even(fixed, {"value": 0.3, "low": 0.01, "high": 0.4}, student)


# Plans


def test_plan_asks_the_sample_only_and_nothing_twice(labeler, counting, tmp_path):
    data = make_reviews(40)
    first = make_plan(data, labeler, num_annotated=20, sample=8)
    assert first["sample"] == {"n": 8, "asked_now": 8, "answered": 8}
    assert len(counting.asked()) == 8
    second = make_plan(data, labeler, num_annotated=20, sample=8)
    assert second["sample"]["asked_now"] == 0
    assert second["annotate"] == first["annotate"]
    assert len(counting.asked()) == 8
    rows = data.shuffle(seed=42).select(range(20))
    assert set(counting.asked()) == set(rows.select(range(8))["text"])
    annotate(rows, labeler, tmp_path / "annotated", show_progress=False)
    assert sorted(counting.asked()) == sorted(rows["text"])


def test_plan_multiplies_what_a_row_takes(labeler):
    found = make_plan(
        make_reviews(40), labeler, num_annotated=20, num_pool=7200, sample=8, prices=PriceTable({"teacher": HOURLY})
    )
    assert found["annotate"]["hours"]["value"] == pytest.approx(20 * 0.5 / 3600)  # the teacher takes half a second
    assert found["teacher_for_all"]["hours"]["value"] == pytest.approx(1.0)
    assert found["annotate"]["money"]["value"] == pytest.approx(10.0)
    assert found["currency"] == "EUR"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_plan_without_prices_or_student_says_so(labeler):
    found = make_plan(make_reviews(20), labeler, num_annotated=10, sample=4)
    assert (found["annotate"]["money"], found["student"], found["break_even"], found["currency"]) == (None,) * 4
    assert any("no money" in note for note in found["notes"])
    assert any("No student" in note for note in found["notes"])


def test_wrong_gold_is_refused_before_anybody_is_asked(labeler, counting, reviews):
    wrong = reviews.remove_columns("label").add_column("label", ["maybe"] * len(reviews))
    with pytest.raises(ValueError, match="maybe"):
        make_plan(wrong, labeler, num_annotated=8, gold_column="label")
    assert not counting.asked()


def test_tokens_that_are_not_known_are_not_free(labeler):
    prices = PriceTable({"teacher": Price("EUR", input_per_million=1.0, output_per_million=1.0)})
    plan = make_plan(make_reviews(40), labeler, num_annotated=8, sample=4, prices=prices)
    assert plan["annotate"]["money"] is None
    assert any("do not say how many tokens" in note for note in plan["notes"])


def test_sample_of_one_batch_says_that_it_knows_no_interval(labeler):
    plan = make_plan(make_reviews(40), labeler, num_annotated=20, sample=2)
    assert any("filled one batch" in note for note in plan["notes"])


def test_plan_without_gold_says_that_nothing_is_known_about_right_and_wrong(labeler):
    found = make_plan(make_reviews(20).remove_columns("label"), labeler, num_annotated=10, sample=4)
    assert found["agreement"] is None
    assert any("no gold" in note for note in found["notes"])


def test_plan_with_gold_of_five_rows_measures_on_five(labeler):
    data = make_reviews(20).shuffle(seed=42)
    known = [label if i < 5 else None for i, label in enumerate(data["label"])]
    data = Dataset.from_dict({"text": data["text"][:], "label": known})
    found = make_plan(data, labeler, num_annotated=20, sample=20, gold_column="label", calibration="none")
    assert found["agreement"]["n"] == 5
    expected = share(round(5 * found["agreement"]["value"]), 5)
    assert found["agreement"] == expected
    empty = data.remove_columns("label").add_column("label", [-1] * 20)
    found = make_plan(empty, labeler, num_annotated=20, sample=20, gold_column="label")
    assert found["agreement"] is None
    assert any("both a label and gold" in note for note in found["notes"])


def test_coverage_counts_replies_that_could_not_be_read(tmp_path):
    teacher = CountingTeacher(str(tmp_path / "log"), mode="generate")
    found = make_plan(make_reviews(40), LLMLabeler(make_cloze(), teacher, tmp_path / "l"), num_annotated=40, sample=40)
    abstained = sum(len(text) % 5 == 0 for text in make_reviews(40)["text"])
    assert 0 < abstained < 40
    assert found["coverage"] == share(40 - abstained, 40)


def test_unusable_and_repeated_texts_are_counted_and_not_paid_for(labeler):
    texts = [None, "", *(f"a film number {i}" for i in range(8)), *["the same film"] * 10]
    found = make_plan(Dataset.from_dict({"text": texts}), labeler, num_annotated=20, sample=20)
    assert (found["texts"]["n_unusable"], found["texts"]["n_repeated"]) == (2, 9)
    assert found["annotate"]["n_asked"] == 9
    assert found["annotate"]["hours"]["value"] == pytest.approx(9 * 0.5 / 3600)
    assert found["teacher_for_all"]["hours"]["value"] == pytest.approx(9 * 0.5 / 3600)


def test_failed_rows_of_the_sample_are_said(tmp_path):
    teacher = CountingTeacher(str(tmp_path / "log"), fails_on="wonderful")
    labeler = LLMLabeler(make_cloze(), teacher, tmp_path / "ledger")
    found = make_plan(make_reviews(20), labeler, num_annotated=20, sample=20)
    assert found["sample"]["answered"] == 10
    assert any("10 rows of the sample failed" in note for note in found["notes"])
    every = CountingTeacher(str(tmp_path / "log"), fails_on=" ", version=2)
    with pytest.raises(ValueError, match=r"None of the 4 rows of the sample was answered \(no connection\)"):
        make_plan(make_reviews(20), LLMLabeler(make_cloze(), every, tmp_path / "l"), num_annotated=20, sample=4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_annotated": 0}, "num_annotated must be from 1 to the 16 rows"),
        ({"num_annotated": 17}, "num_annotated must be from 1 to the 16 rows"),
        ({"num_annotated": 8, "sample": 0}, "sample must be a positive number"),
        ({"num_annotated": 8, "num_pool": 0}, "num_pool must be a positive number"),
        ({"num_annotated": 8, "gold_column": "stars"}, "Column 'stars' not found"),
        ({"num_annotated": 8, "prices": PriceTable({"other": HOURLY}, "p.yaml")}, "p.yaml has no price of 'teacher'"),
    ],
)
def test_plans_that_make_no_sense_are_refused_before_anybody_is_asked(labeler, counting, reviews, given, message):
    with pytest.raises(ValueError, match=message):
        make_plan(reviews, labeler, **given)
    assert counting.asked() == []


def test_tokens_of_a_teacher_that_runs_here_are_those_that_annotating_takes(teacher_dir, tmp_path):
    data, teacher = make_reviews(40), TransformersTeacher(teacher_dir, **NARROW)
    planned = make_plan(data, LLMLabeler(make_cloze(), teacher, tmp_path / "a"), num_annotated=40, sample=12)
    done = annotate(data, LLMLabeler(make_cloze(), teacher, tmp_path / "b"), tmp_path / "o", show_progress=False)
    assert planned["annotate"]["input_tokens"]["value"] == pytest.approx(done["input_tokens"], rel=0.03)
    assert planned["annotate"]["hours"]["value"] > 0
    assert planned["sample"]["asked_now"] == 12
    assert len(LLMLabeler(make_cloze(), teacher, tmp_path / "a").ledger) == 12  # the warm-up is not kept


def test_texts_that_the_teacher_cuts_are_counted_over_all_data(teacher_dir, tmp_path):
    short, long = [f"film {i}" for i in range(30)], [f"{'very ' * 30}good film {i}" for i in range(10)]
    data = Dataset.from_dict({"text": short + long})
    labeler = LLMLabeler(make_cloze(), TransformersTeacher(teacher_dir, **NARROW), tmp_path / "ledger")
    found = make_plan(data, labeler, num_annotated=10, sample=4)
    assert (found["texts"]["n_cut"], found["texts"]["limit"], found["texts"]["unit"]) == (10, 12, "tokens")
    assert found["texts"]["cut"] == {"value": 0.25, "low": 0.25, "high": 0.25, "n": 40}  # all were counted
    assert found["texts"]["longest"][0] > 12
    part = make_plan(data, labeler, num_annotated=10, sample=4, max_counted=20)["texts"]
    assert (part["n_rows"], part["n_counted"], part["cut"]["n"]) == (40, 20, 20)
    assert part["cut"] == share(part["n_cut"], 20)


def test_cut_texts_of_an_unknown_teacher_are_not_guessed(labeler):
    found = make_plan(make_reviews(20), labeler, num_annotated=10, sample=4)
    assert found["texts"]["n_cut"] is None
    assert any("How many texts the teacher cuts is not known" in note for note in found["notes"])


def test_student_is_measured_and_its_way_added_up(labeler, student_dir):
    prices = PriceTable({"teacher": HOURLY, student_dir: HOURLY})
    found = make_plan(
        make_reviews(40), labeler, num_annotated=20, num_pool=1_000_000, sample=20, prices=prices,
        student=StudentPlan(student_dir, max_length=32, epochs=2, batch_size=4),
    )  # fmt: skip
    student = found["student"]
    assert student["train"]["n"] == 20
    assert student["train"]["hours"]["value"] == pytest.approx(
        student["seconds_per_training_row"]["value"] * 20 * 2 / 3600
    )
    assert student["label"]["hours"]["value"] == pytest.approx(student["seconds_per_text"]["value"] * 1e6 / 3600)
    parts = [found["annotate"], student["train"], student["label"]]
    for what in ("hours", "money"):
        assert student["in_all"][what]["value"] == pytest.approx(sum(part[what]["value"] for part in parts))
    even = found["break_even"]["hours"]["value"]  # half a second of the teacher against a tiny student
    gain = found["teacher_for_all"]["hours"]["value"] - student["label"]["hours"]["value"]
    assert even == pytest.approx(1e6 * (parts[0]["hours"]["value"] + parts[1]["hours"]["value"]) / gain)
    assert found["break_even"]["money"]["value"] == pytest.approx(even)


def test_student_without_a_price_has_no_money_and_the_plan_says_what_to_add(labeler, student_dir):
    plan = {"num_annotated": 8, "sample": 8, "student": StudentPlan(student_dir, max_length=32, batch_size=4)}
    found = make_plan(make_reviews(20), labeler, prices=PriceTable({"teacher": HOURLY}), **plan)
    assert (found["student"]["in_all"]["money"], found["break_even"]["money"]) == (None, None)
    assert any("add per_hour" in note for note in found["notes"])
    dollars = PriceTable({"teacher": HOURLY, student_dir: Price("USD", per_hour=1.0)})
    with pytest.raises(ValueError, match="priced in EUR and the student in USD"):
        make_plan(make_reviews(20), labeler, prices=dollars, **plan)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(asking, "_BUDGETS", {})
    with EndpointServer(seconds=0.02) as server:
        yield server


def test_plan_of_an_endpoint_counts_its_tokens_and_asks_once(server, question, tmp_path):
    teacher = EndpointTeacher("m", server.url, max_text_chars=60, concurrency=4)
    labeler = LLMLabeler(question, teacher, tmp_path / "ledger")
    prices = PriceTable({"m": Price("EUR", input_per_million=1e6, output_per_million=1e6)})
    found = make_plan(make_reviews(40), labeler, num_annotated=40, sample=20, prices=prices)
    assert server.requests == 20
    assert found["texts"]["unit"] == "characters"
    assert found["texts"]["n_cut"] == sum(len(text) > 60 for text in make_reviews(40)["text"])
    done = annotate(make_reviews(40), labeler, tmp_path / "annotated", show_progress=False)
    assert server.requests == 40
    read, written = done["input_tokens"], done["output_tokens"]
    assert found["annotate"]["input_tokens"]["value"] == pytest.approx(read, rel=0.05)
    assert found["annotate"]["money"]["value"] == pytest.approx(read + written, rel=0.05)
    hours = found["annotate"]["hours"]
    assert 0 < hours["low"] <= hours["value"] <= hours["high"]


def test_requests_in_flight_together_take_the_time_that_passed_once():
    ended = {"a": 102.0, "b": 103.0, "c": 203.0}  # a and b overlap for a second; c is of another run
    answers = [Answer(text, seconds, 1, 1) for text, seconds in (("a", 2.0), ("b", 2.0), ("c", 3.0))]
    labeler = SimpleNamespace(answered_at=lambda texts: {text: ended[text] for text in texts})
    assert at_once(labeler, answers) == pytest.approx(7.0 / 6.0)


def test_seconds_of_an_endpoint_are_those_that_passed(tmp_path, question):
    """Ten at once for a second each are a second of the server's time, which is what is paid by the hour."""
    labeler = LLMLabeler(question, EndpointTeacher("m", "http://localhost:1/v1", concurrency=10), tmp_path / "ledger")
    texts = [f"text {k}" for k in range(10)]
    replies = {labeler._asked.keys(text)[0]: Reply(response="yes", seconds=1.0, input_tokens=3) for text in texts}
    labeler.ledger.put(replies, labeler._identity)
    seconds, tokens = labeler.spent(texts)
    assert 1.0 <= seconds < 2.0
    assert tokens == (30, 0)


def test_hours_of_an_endpoint_reach_from_all_places_full_to_what_the_sample_took(tmp_path, question):
    teacher = EndpointTeacher("m", "http://localhost:1/v1", concurrency=10)
    labeler = LLMLabeler(question, teacher, tmp_path / "ledger")
    labeler.answered_at = lambda texts: {text: 100.0 + k // 2 for k, text in enumerate(texts)}  # two at a time
    notes = []
    costs = Costs(labeler, [Answer("x" * 9 + str(k), 1.0, 10, 1) for k in range(8)], Lengths(labeler), notes)
    hours = costs.of(Moments.of([10] * 3600), None)["hours"]
    assert hours["value"] == pytest.approx(0.5)
    assert hours["low"] == pytest.approx(0.1)
    assert "On average 2.0 requests of the sample were in flight" in notes[0]


# Caps


def test_capped_annotation_stops_keeps_what_it_has_and_goes_on(labeler, counting, reviews, tmp_path, caplog):
    out, cost = tmp_path / "annotated", HOURLY.cost
    with caplog.at_level(logging.WARNING):
        found = annotate(reviews, labeler, out, limits=Limits(3.2, cost, currency="EUR"), show_progress=False)
    assert (found["n_ok"], found["n_failed"]) == (6, 10)  # half a euro each, two at a time
    assert found["reasons"] == {"not asked: a limit was reached (max_cost 3.2 EUR); raise it and run again": 10}
    assert "3 of 3.2 EUR is spent" in caplog.text
    assert "10 texts were not asked about" in caplog.text
    assert load_data(out)["llm_status"][:].count("failed") == 10
    again = annotate(reviews, labeler, out, limits=Limits(3.2, cost), show_progress=False)
    assert again["n_failed"] == 10  # what earlier runs spent counts
    assert len(counting.asked()) == 6
    more = annotate(reviews, labeler, out, limits=Limits(20.0, cost), show_progress=False)
    assert (more["n_ok"], more["n_failed"]) == (16, 0)
    assert sorted(counting.asked()) == sorted(reviews["text"])


class LongestFirst(CountingTeacher):
    """Asks about the last texts first, and takes a token for each letter."""

    def _reply(self, task, text):
        return dataclasses.replace(super()._reply(task, text), input_tokens=len(text))


def test_cap_is_used_where_what_is_left_is_cheaper(tmp_path):
    """The longest are asked first: what they cost says too much of the rest."""
    texts = Dataset.from_dict({"text": ["x" * n for n in range(1, 101)]})
    labeler = LLMLabeler(make_cloze(), LongestFirst(str(tmp_path / "asked")), tmp_path / "ledger")
    price = Price("EUR", input_per_million=1e4)  # 50.50 for all
    for cap in (10.0, 40.0):
        annotate(texts, labeler, tmp_path / "a", limits=Limits(cap, price.cost), show_progress=False)
        assert cap - 2 <= labeler.spent(texts["text"][:])[1][0] / 100 <= cap  # no two of them cost more
    annotate(texts, labeler, tmp_path / "a", limits=Limits(60.0, price.cost), show_progress=False)
    assert len(labeler.known(texts["text"][:])) == 100


def test_money_is_not_overspent_by_the_next_batch(labeler, counting, reviews, tmp_path):
    annotate(reviews, labeler, tmp_path / "annotated", limits=Limits(3.9, HOURLY.cost), show_progress=False)
    assert len(counting.asked()) * 0.5 <= 3.9


def test_hours_that_are_over_stop_before_the_next_batch(labeler, counting, reviews, tmp_path):
    found = annotate(reviews, labeler, tmp_path / "a", limits=Limits(max_hours=1e-12), show_progress=False)
    assert (found["n_failed"], len(counting.asked())) == (16, 0)
    assert list(found["reasons"]) == ["not asked: a limit was reached (max_hours 1e-12); raise it and run again"]
    found = annotate(reviews, labeler, tmp_path / "a", limits=Limits(max_hours=1.0), show_progress=False)
    assert found["n_failed"] == 0


def test_members_of_a_jury_share_the_money(tmp_path, reviews):
    teachers = {name: CountingTeacher(str(tmp_path / name), version=k) for k, name in enumerate(("one", "two"))}
    labelers = {name: LLMLabeler(make_cloze(), asked, tmp_path / "ledger") for name, asked in teachers.items()}
    limits = Limits(10.0, {"one": HOURLY.cost, "two": lambda *spent: 2 * HOURLY.cost(*spent)})
    found = annotate(reviews, labelers, tmp_path / "a", jury="majority", limits=limits, show_progress=False)
    assert len(teachers["one"].asked()) == 16  # 8 euros
    assert len(teachers["two"].asked()) == 2  # a euro each
    assert found["n_failed"] == 14
    with pytest.raises(ValueError, match="no cost of 'two', only of one"):
        annotate(reviews, labelers, tmp_path / "b", limits=Limits(10.0, {"one": HOURLY.cost}), show_progress=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_cost": 1.0}, "max_cost needs to know what is paid"),
        ({"max_cost": 0.0, "cost": HOURLY.cost}, "max_cost must be a positive number, got 0.0"),
        ({"max_hours": -1.0}, "max_hours must be a positive number, got -1.0"),
        ({"max_hours": float("nan")}, "max_hours must be a positive number, got nan"),
    ],
)
def test_caps_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Limits(**given)


def test_endpoint_keeps_its_own_cap_on_money(question, reviews, tmp_path):
    labeler = LLMLabeler(question, EndpointTeacher("m", "http://localhost:1/v1"), tmp_path / "ledger")
    with pytest.raises(ValueError, match="has caps of its own"):
        annotate(reviews, labeler, tmp_path / "a", limits=Limits(1.0, HOURLY.cost), show_progress=False)


# The command line


@pytest.fixture
def files(cloze, question, reviews, tmp_path):
    cloze.to_yaml(tmp_path / "task.yaml")
    question.to_yaml(tmp_path / "question.yaml")
    reviews.to_json(str(tmp_path / "reviews.jsonl"))
    return tmp_path


def test_plan_on_the_command_line_shows_and_writes_and_annotate_goes_on(
    files, teacher_dir, student_dir, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "30")
    (files / "prices.yaml").write_text(f"'{teacher_dir}': {{per_hour: 2, currency: EUR}}\n")
    name = teacher_dir.rstrip("/").rsplit("/", 1)[-1]
    (files / "prices.yaml").write_text(f"{name}: {{per_hour: 2, currency: EUR}}\n")
    common = ["--task", files / "task.yaml", "--data", files / "reviews.jsonl", "--teacher", teacher_dir]
    common += ["--output", files / "run", "--max_text_tokens", 40]
    call(
        "plan", *common, "--num_annotated", 12, "--sample", 8, "--student", student_dir, "--max_length", 32,
        "--prices", files / "prices.yaml", "--json", files / "made" / "plan.json",
    )  # fmt: skip
    shown = capsys.readouterr().out
    for words in ("annotate", "train", "label", "teacher alone", "EUR", "from 8 texts (8 asked now)"):
        assert words in shown
    assert "…" not in shown  # no number is cut, however narrow the terminal
    assert "agreement with gold" in shown
    found = json.loads((files / "made" / "plan.json").read_text())
    assert (found["sample"]["asked_now"], found["annotate"]["n"], found["currency"]) == (8, 12, "EUR")
    call("annotate", *common, "--num_rows", 12)
    ledger = LLMLabeler(make_cloze(), TransformersTeacher(teacher_dir, max_text_tokens=40), files / "run" / "ledger")
    assert len(ledger.ledger) == 12


def test_annotate_on_the_command_line_stops_at_its_cap(files, teacher_dir, capsys):
    name = teacher_dir.rstrip("/").rsplit("/", 1)[-1]
    (files / "prices.yaml").write_text(f"{name}: {{per_hour: 1000000, currency: EUR}}\n")
    common = ["annotate", "--task", files / "task.yaml", "--data", files / "reviews.jsonl", "--teacher", teacher_dir]
    common += ["--output", files / "run"]
    with pytest.raises(ValueError, match="--max_cost needs --prices FILE"):
        call(*common, "--max_cost", 1)
    call(*common, "--max_cost", 1e-9, "--prices", files / "prices.yaml", "--batch_tokens", 1)
    assert "1 ok, 0 abstained, 15 failed" in capsys.readouterr().out  # what a first batch costs is not known before
    call(*common, "--max_cost", 1e9, "--max_hours", 10, "--prices", files / "prices.yaml")
    shown = capsys.readouterr().out
    assert "16 ok, 0 abstained, 0 failed" in shown
    assert re.search(r"cost of these replies: [\d.,e+]+ EUR\n", shown)


def test_endpoint_on_the_command_line_is_capped_with_the_tables_price(files, server, capsys):
    (files / "prices.yaml").write_text("m: {input_per_million: 1000000, currency: EUR}\n")
    common = [
        "annotate",
        "--task",
        files / "question.yaml",
        "--data",
        files / "reviews.jsonl",
        "--backend",
        "endpoint",
    ]
    common += ["--teacher", "m", "--base_url", server.url, "--output", files / "run", "--concurrency", 1]
    common += ["--prices", files / "prices.yaml"]
    call(*common, "--max_cost", 300)
    first = server.requests
    assert 0 < first < 16
    for wrong, message in (
        (["--max_cost", -1], "must be a positive"),
        (["--max_cost", 1, "--max_hours", 0], "max_hours"),
    ):
        with pytest.raises(ValueError, match=message):
            call(*common, *wrong)
    (files / "hourly.yaml").write_text("m: {per_hour: 1, currency: EUR}\n")
    with pytest.raises(ValueError, match="by the token, the price of 'm' is by the hour"):
        call(*common[:-1], files / "hourly.yaml", "--max_cost", 1)
    with pytest.raises(ValueError, match="Give the price once"):
        call(*common, "--max_cost", 300, "--price_input", 1)
    call(*common, "--max_cost", 1)  # less than is spent already
    assert server.requests == first
    call(*common, "--max_cost", 1_000_000)
    assert server.requests == 16
    assert "16 ok, 0 abstained, 0 failed" in capsys.readouterr().out


def test_teachers_priced_in_two_currencies_are_refused(files, server):
    (files / "a.yaml").write_text(f"{{teacher: endpoint, model: a, base_url: '{server.url}'}}")
    (files / "b.yaml").write_text(f"{{teacher: endpoint, model: b, base_url: '{server.url}'}}")
    common = [
        "annotate",
        "--task",
        files / "question.yaml",
        "--data",
        files / "reviews.jsonl",
        "--output",
        files / "run",
    ]
    common += ["--teacher", files / "a.yaml", "--teacher", files / "b.yaml", "--prices", files / "prices.yaml"]
    prices = "a: {input_per_million: 1, currency: EUR}\nb: {input_per_million: 1, currency: %s}\n"
    (files / "prices.yaml").write_text(prices % "USD")
    with pytest.raises(ValueError, match="priced in EUR and USD"):
        call(*common)
    (files / "prices.yaml").write_text(prices % "EUR")
    with pytest.raises(ValueError, match="Of a jury give each teacher its own max_cost"):
        call(*common, "--max_cost", 1)
    assert server.requests == 0


def test_recorded_answers_take_no_time_and_the_plan_says_so(reviews, tmp_path):
    rows = [{"text": text, "label": "positive"} for text in reviews["text"]]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = RecordedTeacher(str(tmp_path / "answers.jsonl"), "somebody", label_column="label")
    found = make_plan(reviews, LLMLabeler(make_cloze(), teacher, tmp_path / "ledger"), num_annotated=16, sample=8)
    assert found["annotate"]["hours"]["value"] == 0
    assert any("hours are 0" in note for note in found["notes"])
