import pytest
from datasets import Dataset

from hf_llambert import StudentLabeler, label_pool, load_data, read_pool


@pytest.fixture
def pool():
    rows = {"id": list(range(23)), "text": [f"text number {i} " * (1 + i % 3) for i in range(23)]}
    rows["text"][5] = None
    rows["text"][7] = rows["text"][6]
    return Dataset.from_dict(rows)


@pytest.fixture
def labeler(student_dir):
    return StudentLabeler(student_dir)


def test_rows_come_out_in_order_beside_their_columns(pool, labeler, tmp_path):
    results = label_pool(pool, labeler, tmp_path / "labels", rows_per_shard=10)
    out = read_pool(tmp_path / "labels")
    assert out.column_names == ["id", "text", "student_label", "student_confidence", "student_scores"]
    assert out["id"][:] == pool["id"][:]
    assert out["text"][:] == pool["text"][:]
    assert out["student_label"][:] == labeler.label(pool["text"])["student_label"]
    assert out.features["student_label"].names == ["negative", "positive"]
    assert (results["n_labelled"], results["n_unusable"]) == (22, 1)
    assert load_data(tmp_path / "labels").to_dict() == out.to_dict()


def test_only_missing_shards_are_computed(pool, labeler, tmp_path, monkeypatch):
    folder = tmp_path / "labels"
    whole = StudentLabeler.__call__
    calls = []

    def dies_in_the_second_shard(self, batch, rank=None):
        calls.append(len(batch["text"]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, batch, rank)

    monkeypatch.setattr(StudentLabeler, "__call__", dies_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        label_pool(pool, labeler, folder, rows_per_shard=10)
    assert [p.name for p in sorted(folder.glob("part-*.parquet"))] == ["part-00000.parquet"]
    assert not list(folder.glob(".part-*"))
    label_pool(pool, labeler, folder, rows_per_shard=10)
    assert calls == [10, 10, 10, 3]
    label_pool(pool, labeler, folder, rows_per_shard=10)
    assert calls == [10, 10, 10, 3]
    assert read_pool(folder)["id"][:] == pool["id"][:]


def test_lost_shard_is_noticed(pool, labeler, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hf_llambert.pool.shards._label_shard",
        lambda rows, labeler, features, path, progress: rows.select(range(len(rows) - 1)).to_parquet(str(path)),
    )
    with pytest.raises(RuntimeError, match="holds 20 rows, expected 23"):
        label_pool(pool, labeler, tmp_path / "labels", rows_per_shard=10)


def test_labels_of_another_pool_or_student_are_refused(pool, labeler, tmp_path):
    label_pool(pool, labeler, tmp_path / "labels")
    with pytest.raises(FileExistsError, match="another run \\(pool"):
        label_pool(pool.select(range(3)), labeler, tmp_path / "labels")


def test_wrong_pools_are_refused(pool, labeler, tmp_path):
    with pytest.raises(ValueError, match="Column 'text' not found"):
        label_pool(pool.remove_columns("text"), labeler, tmp_path / "labels")
    with pytest.raises(ValueError, match="Expected rows"):
        label_pool(pool.select([]), labeler, tmp_path / "labels")
    with pytest.raises(ValueError, match="has the columns \\['student_label'\\] already"):
        label_pool(pool.add_column("student_label", [0] * 23), labeler, tmp_path / "labels")
    with pytest.raises(FileNotFoundError, match="holds no part-"):
        read_pool(tmp_path)
