"""Shards that go to a local Hub, over real HTTP, while a pool is labelled."""

import pytest

from hub_fixtures import client, environment, hub  # noqa: F401  (fixtures)

LABEL = """
    import json
    from pathlib import Path
    from huggingface_hub import HfApi
    from datasets import Dataset, load_dataset
    from hf_llambert import ShardUploads, StudentLabeler, label_pool
    from hf_llambert.hub import uploads
    uploads._PAUSE = {pause}
    pool = Dataset.from_dict({{"id": range(23), "text": [f"text {{i}}" for i in range(23)]}})
    with ShardUploads({repo!r}{public}) as shards:
        label_pool(pool, StudentLabeler({student!r}), {folder!r}, 5, False, on_shard=shards)
    api = HfApi()
    print(json.dumps([c.title for c in api.list_repo_commits({repo!r}, repo_type="dataset")]))
"""

LISTED = "print([f.lfs.sha256[:8] for f in api.list_repo_tree('tester/changed', 'labels', repo_type='dataset')])"


def code(repo, student, folder, pause=0.0, public=""):
    return LABEL.format(repo=repo, student=str(student), folder=str(folder), pause=pause, public=public)


def test_each_shard_arrives_and_the_dataset_loads(client, student_dir, tmp_path):
    client.run(code("tester/grown", student_dir, tmp_path / "labels"))
    loaded = client.run("""
        data = load_dataset("tester/grown", "labels", split="train")
        print(data["id"] == list(range(23)), data.features["student_label"].names)
        info = api.repo_info("tester/grown", repo_type="dataset")
        print(info.private, sorted(info.card_data.tags))
    """)
    assert loaded == "True ['negative', 'positive']\nTrue ['hf_llambert']\n"


def test_waiting_shards_go_in_one_commit_and_none_twice(client, student_dir, tmp_path):
    titles = client.run(code("tester/few", student_dir, tmp_path / "labels", pause=30.0))
    assert titles.count("shard(s)") <= 2
    again = client.run(code("tester/few", student_dir, tmp_path / "labels"))
    assert again == titles


def test_a_shard_that_changed_is_sent_again(client, student_dir, tmp_path):
    folder = tmp_path / "labels"
    client.run(code("tester/changed", student_dir, folder))
    before = client.run(
        "print([f.lfs.sha256[:8] for f in api.list_repo_tree('tester/changed', 'labels', repo_type='dataset')])"
    )
    sums = client.run(f"""
        from hf_llambert.pool.manifest import file_checksum
        for path in sorted(Path({str(folder)!r}).glob("part-*")):
            path.unlink()
        student = StudentLabeler({student_dir!r})
        label_pool(pool, student, {str(folder)!r}, 5, False, keep=["id"], overwrite=True)
        print([file_checksum(p)[:8] for p in sorted(Path({str(folder)!r}).glob("part-*"))])
    """)
    assert sums != before
    client.run(f"""
        with ShardUploads("tester/changed") as shards:
            for path in sorted(Path({str(folder)!r}).glob("part-*")):
                shards(path)
    """)
    after = client.run(
        "print([f.lfs.sha256[:8] for f in api.list_repo_tree('tester/changed', 'labels', repo_type='dataset')])"
    )
    assert after == sums


def test_a_public_repository_needs_a_word(client, student_dir, tmp_path):
    client.run(code("tester/open", student_dir, tmp_path / "labels", public=", public=True"))
    with pytest.raises(RuntimeError, match="is public. Pass --public"):
        client.run(code("tester/open", student_dir, tmp_path / "labels"))


def test_an_upload_that_fails_stops_the_run_with_its_reason(client, student_dir, tmp_path):
    client.run(code("tester/broken", student_dir, tmp_path / "labels"))
    with pytest.raises(RuntimeError, match="no such file"):
        client.run("""
            with ShardUploads("tester/broken") as shards:
                shards(Path("/nowhere/no such file.parquet"))
        """)
