"""Values of a pool's files are written as they stand, or refused."""

import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_llambert import StudentLabeler, label_pool, load_data, read_pool

UTC = pa.timestamp("us", "UTC")
AT = datetime.datetime(2024, 1, 2)
CHANGED = [
    (pa.array([1]), pa.array([None, "01234"]), "int64"),
    (pa.array([1]), pa.array([None, "7"]), "int64"),
    (pa.array([True]), pa.array([None, "1"]), "bool"),
    (pa.array([0.5]), pa.array([None, "1.50"]), "double"),
    (pa.array([True]), pa.array([None, 1]), "bool"),
    (pa.array([1]), pa.array([None, True]), "int64"),
    (pa.array(["a"]), pa.array([None, 1]), "string"),
    (pa.array(["a"]), pa.array([None, True]), "string"),
    (pa.array(["a"]), pa.array([None, datetime.date(2024, 1, 2)]), "string"),
    (pa.array([AT]), pa.array([None, "2024-01-02"]), "timestamp.us."),
    (pa.array([AT]), pa.array([None, AT], UTC), "timestamp.us."),
    (pa.array([[1]]), pa.array([None, ["01"]]), "list<item: int64>"),
    (pa.array([{"a": 1}]), pa.array([None, {"a": "01"}]), "struct<a: int64>"),
    (pa.array([1.5]), pa.array([None, 2**53 + 1]), "double"),
]


def _labelled(student_dir, tmp_path, first, second):
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, values in (("1", first), ("2", second)):
        texts = [f"a film {k}" for k in range(len(values))]
        pq.write_table(pa.table({"text": texts, "it": values}), pool / f"{name}.parquet")
    label_pool(pool, StudentLabeler(student_dir), tmp_path / "out", show_progress=False)
    return read_pool(tmp_path / "out")["it"][:]


@pytest.mark.parametrize(("first", "second", "kept"), CHANGED)
def test_a_value_that_another_type_would_change_is_refused_with_its_row(first, second, kept, student_dir, tmp_path):
    with pytest.raises(RuntimeError, match=f"'2.parquet' cannot be read: column 'it' of row 2 holds .* where {kept}"):
        _labelled(student_dir, tmp_path, first, second)


SAME = [
    (pa.array([1]), pa.array([None, 0.5]), [1, None, 0.5]),
    (pa.array([0.5]), pa.array([None, 1]), [0.5, None, 1]),
    (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40]),
    (pa.array([0.5], pa.float32()), pa.array([0.1]), [0.5, 0.1]),
    (pa.array(["a"]), pa.array(["b", None], pa.large_string()), ["a", "b", None]),
    (pa.array(["a"]), pa.array(["b", None, "b"]).dictionary_encode(), ["a", "b", None, "b"]),
    (pa.array(["b", "a"]).dictionary_encode(), pa.array(["a"]), ["b", "a", "a"]),
    (pa.array([3, 1]).dictionary_encode(), pa.array([2]), [3, 1, 2]),
    (pa.array([[1]]), pa.array([[2.5], None]), [[1.0], [2.5], None]),
    (pa.nulls(1), pa.array(["a"]), [None, "a"]),
    (pa.array(["a"]), pa.nulls(1), ["a", None]),
]


@pytest.mark.parametrize(("first", "second", "read"), SAME)
def test_types_that_hold_the_same_values_go_together(first, second, read, student_dir, tmp_path):
    assert _labelled(student_dir, tmp_path, first, second) == read
    assert load_data(tmp_path / "pool")["it"][:] == read


def test_categories_of_pandas_are_what_they_stand_for(tmp_path):
    rows = {"text": ["a", "b", "c"], "label": pd.Categorical(["pos", None, "neg"]), "n": [decimal.Decimal("1.10")] * 3}
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    dataset = load_data(tmp_path / "a.parquet")
    assert dataset["label"][:] == ["pos", None, "neg"] and dataset["n"][:] == [decimal.Decimal("1.10")] * 3
    assert dataset.features["label"].dtype in ("string", "large_string")
