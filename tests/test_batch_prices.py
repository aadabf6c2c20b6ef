"""Prices of batches and of tokens read from a cache, of a table's own and of the package genai-prices."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from datasets import Dataset

from hf_llambert import BatchTeacher, LLMLabeler, Price, PriceTable, TaskSpec, load_prices, make_plan
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.cli.plan import show_plan
from hf_llambert.cli.teachers import limits_of, prices_of
from hf_llambert.planning import public_prices
from hf_llambert.planning.prices import run_cost
from hf_llambert.teachers.base import Reply

TOKENS = {"input_per_million": 2.0, "output_per_million": 4.0, "currency": "EUR"}
BATCH = {"batch_input_per_million": 1.0, "batch_output_per_million": 3.0}
TEXTS = [f"film number {number}" for number in range(20)]


def table_of(tmp_path, text):
    (tmp_path / "prices.yaml").write_text(text)
    return load_prices(tmp_path / "prices.yaml")


def labeler_of(folder, task=None):
    task = task or TaskSpec("t", ("no", "yes"), "Yes or no?\n{text}")
    labeler = LLMLabeler(task, BatchTeacher("m", "openai"), folder)
    replies = {key: Reply(response="yes", input_tokens=1000, output_tokens=10) for key in labeler._keys(TEXTS)}
    Ledger(folder).put(replies, labeler.teacher.identity())
    return labeler


def test_batch_has_the_batch_price_of_the_table(tmp_path):
    table = table_of(tmp_path, f"m: {TOKENS | BATCH}".replace("'", ""))
    labelers = {"llm": labeler_of(tmp_path / "ledger")}
    paid = prices_of(labelers, table)
    assert paid["llm"].cost(0, 1_000_000, 1_000_000) == 4.0
    assert limits_of(labelers, Dataset.from_dict({"text": ["new"]}), 5.0, None, paid) is None
    teacher = labelers["llm"].teacher
    assert (teacher.price_input, teacher.price_output, teacher.max_cost) == (1.0, 3.0, 5.0)


def test_table_without_a_price_of_a_batch_is_refused(tmp_path):
    table = table_of(tmp_path, f"m: {TOKENS}".replace("'", ""))
    with pytest.raises(
        ValueError, match=r"no price of 'm' in a batch.*Add batch_input_per_million and batch_output_per"
    ):
        prices_of({"llm": labeler_of(tmp_path / "ledger")}, table)
    with pytest.raises(ValueError, match="stand beside input_per_million and output_per_million"):
        table_of(tmp_path, "m: {per_hour: 1, batch_input_per_million: 1, currency: EUR}")
    for half in BATCH:
        with pytest.raises(ValueError, match="batch_input_per_million and batch_output_per_million go together"):
            table_of(tmp_path, f"m: {TOKENS | {half: 1.0}}".replace("'", ""))


def test_cost_of_a_run_by_batch_is_that_of_a_batch():
    table = PriceTable({"m": Price("EUR", 2.0, 4.0, batch_input_per_million=1.0, batch_output_per_million=3.0)})
    taken = {"mode": "generate", "seconds": 0.0, "input_tokens": 1_000_000, "output_tokens": 1_000_000}
    for kind, cost in (("endpoint", 6.0), ("batch", 4.0)):
        report = {"teacher": {**taken, "settings": {"model": "m", "teacher": kind}}, "student": None, "labels": None}
        assert run_cost(report, table)["total"] == cost


def plan_of(labeler, price):
    data = Dataset.from_dict({"text": TEXTS})
    return make_plan(data, labeler, num_annotated=20, num_pool=2000, sample=20, prices=PriceTable({"m": price}))


def test_plan_counts_a_batch_by_its_price(tmp_path, capsys):
    found = plan_of(labeler_of(tmp_path), price())
    assert found["annotate"]["money"]["value"] == pytest.approx(20 * (1000 * 1.0 + 10 * 3.0) / 1e6)
    assert found["by_batch"] is None
    show_plan(found)
    assert "by batch" not in capsys.readouterr().out


def price(**more):
    return Price("EUR", 2.0, 4.0, batch_input_per_million=1.0, batch_output_per_million=3.0, **more)


def test_plan_of_an_endpoint_says_what_a_batch_would_take(tmp_path, capsys):
    labeler = labeler_of(tmp_path)
    served = LLMLabeler(labeler.task, labeler.teacher.served, tmp_path)  # their answers are one ledger's
    found = plan_of(served, price())
    assert found["annotate"]["money"]["value"] == pytest.approx(20 * (1000 * 2.0 + 10 * 4.0) / 1e6)
    assert found["by_batch"]["teacher_for_all"]["value"] == pytest.approx(2000 * (1000 * 1.0 + 10 * 3.0) / 1e6)
    show_plan(found)
    assert "by batch (--backend batch): 0.021" in capsys.readouterr().out


def test_plan_says_what_a_cache_would_save_of_a_long_beginning(tmp_path, capsys):
    task = TaskSpec("t", ("no", "yes"), "Yes or no?\n" * 400 + "{text}")
    labeler = LLMLabeler(task, BatchTeacher("m", "openai").served, tmp_path)
    replies = {key: Reply(response="yes", input_tokens=2000, output_tokens=1) for key in labeler._keys(TEXTS)}
    labeler.ledger.put(replies, labeler.teacher.identity())
    found = plan_of(labeler, price(cached_input_per_million=0.5))
    shared = found["cached"]["shared_tokens"]
    assert 1990 < shared < 2000
    full = found["annotate"]["money"]["value"]
    assert found["cached"]["annotate"]["value"] == pytest.approx(full - 19 * shared * 1.5 / 1e6)
    show_plan(found)
    assert "tokens that all prompts begin with are read from a cache" in capsys.readouterr().out
    assert plan_of(labeler, price())["cached"] is None
    assert plan_of(labeler_of(tmp_path / "short"), price(batch_cached_input_per_million=0.1))["cached"] is None


@pytest.fixture
def published(monkeypatch):
    """A stand-in with the interface of genai-prices 0.2.3 that is used."""

    def calc_price(usage, model_ref, price_context=None):
        if model_ref != "known":
            raise LookupError(model_ref)
        share = 0.5 if price_context == {"processing": "batch"} else 1.0
        read = usage.input_tokens - usage.cache_read_tokens
        total = share * (read * 8.0 + usage.cache_read_tokens * 1.0 + usage.output_tokens * 16.0) / 1e6
        variants = [SimpleNamespace(when={"processing": "batch"})]
        return SimpleNamespace(total_price=total, model=SimpleNamespace(price_variants=variants))

    class Usage(SimpleNamespace):
        cache_read_tokens = 0

    module = ModuleType("genai_prices")
    module.calc_price, module.Usage = calc_price, Usage
    monkeypatch.setitem(sys.modules, "genai_prices", module)
    monkeypatch.setattr(public_prices, "version", lambda name: "0.2.3")


def test_published_price_is_taken_where_the_table_has_none(published, tmp_path):
    table = table_of(tmp_path, f"m: {TOKENS}\nothers: genai-prices".replace("'", ""))
    assert table.of("m").input_per_million == 2.0
    found = table.of("known")
    assert (found.currency, found.input_per_million, found.output_per_million) == ("USD", 8.0, 16.0)
    assert found.cached_input_per_million == 1.0
    assert table.of("known", in_batch=True).input_per_million == 4.0
    assert (table.origin("known"), table.origin("m"), table.origin("other")) == ("genai-prices 0.2.3", None, None)
    with pytest.raises(ValueError, match="no price of 'other'"):
        table.of("other")


def test_table_of_ones_own_goes_before_published_prices(published, tmp_path):
    table = table_of(tmp_path, f"known: {TOKENS}\nothers: genai-prices".replace("'", ""))
    assert table.of("known").input_per_million == 2.0
    assert load_prices("genai-prices").of("known").input_per_million == 8.0
    with pytest.raises(ValueError, match="others must be genai-prices, got 'litellm'"):
        table_of(tmp_path, "others: litellm")


def test_plan_says_that_a_price_is_a_published_one(published, tmp_path):
    labeler = LLMLabeler(TaskSpec("t", ("no", "yes"), "{text}"), BatchTeacher("known", "openai"), tmp_path)
    replies = {key: Reply(response="yes", input_tokens=10, output_tokens=1) for key in labeler._keys(TEXTS)}
    labeler.ledger.put(replies, labeler.teacher.identity())
    table = load_prices("genai-prices")
    found = make_plan(Dataset.from_dict({"text": TEXTS}), labeler, num_annotated=20, prices=table)
    assert "The price of known is a published one, from genai-prices 0.2.3; yours may differ." in found["notes"]


def test_lack_of_the_package_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-llambert\[prices\]'"):
        load_prices("genai-prices")


def test_the_package_itself_has_prices_of_a_batch():
    pytest.importorskip("genai_prices")  # which Python 3.10 lacks
    found = load_prices("genai-prices").of("gpt-4o-mini")
    assert 0 < found.batch_input_per_million < found.input_per_million
    assert 0 < found.cached_input_per_million < found.input_per_million
