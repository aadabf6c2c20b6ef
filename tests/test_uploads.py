"""Shards that go to a local Hub, over real HTTP, while a pool is labelled."""

import json
import shutil

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
    assert titles.count("shard(s)") + titles.count("All labels") <= 2
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


def labels(hub, name):
    return sorted(place for place in hub.files("dataset", name) if place.startswith("labels/"))


def test_a_smaller_pool_replaces_the_one_that_was_there_and_files_of_people_stay(hub, client, student_dir, tmp_path):
    student, folder = str(student_dir), str(tmp_path / "labels")
    client.run(code("tester/smaller", student, folder))
    client.run("""
        for place in ("labels/part-00009-00000.parquet", "notes.txt"):
            api.upload_file(path_or_fileobj=b"ours", path_in_repo=place, repo_id="tester/smaller", repo_type="dataset")
    """)
    assert b"All 23 rows of the pool are there" in hub.files("dataset", "tester/smaller")["README.md"]
    client.run(f"""
        with ShardUploads("tester/smaller") as shards:
            label_pool(pool.select(range(7)), StudentLabeler({student!r}), {folder!r}, 5, False, on_shard=shards, overwrite=True)
    """)
    names = [f"labels/part-{k}.parquet" for k in ("00000-00000", "00000-00001", "00009-00000")]
    assert labels(hub, "tester/smaller") == names
    files = hub.files("dataset", "tester/smaller")
    assert files["notes.txt"] == files[names[2]] == b"ours"
    assert b"All 7 rows of the pool are there" in files["README.md"]
    assert json.loads(files["hf_llambert.json"])["files"] == names[:2]


def test_shards_of_another_student_go_with_the_first_commit(hub, client, student_dir, tmp_path):
    client.run(code("tester/other", student_dir, tmp_path / "labels"))
    other = shutil.copytree(student_dir, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(RuntimeError, match="killed"):
        client.run(f"""
            def stop(path):
                shards(path)
                raise RuntimeError("killed")
            with ShardUploads("tester/other") as shards:
                label_pool(pool, StudentLabeler({str(other)!r}), {str(tmp_path / "labels")!r}, 5, False, on_shard=stop,
                           overwrite=True)
        """)
    assert labels(hub, "tester/other") == ["labels/part-00000-00000.parquet"]
    assert b"**part of the pool only**" in hub.files("dataset", "tester/other")["README.md"]


def test_a_pool_uploaded_while_labelling_and_then_pushed_is_the_same_repository(hub, client, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "tiny")
    whole = run.parent / "pool.parquet"
    client.run(f"""
        import json
        from datasets import Dataset
        from hf_llambert import ShardUploads, StudentLabeler, label_pool, read_pool
        own = read_pool({str(run / "labels")!r}).select_columns(["text"])
        own.to_parquet({str(whole)!r})
        with ShardUploads("tester/grown-and-pushed") as shards:
            label_pool({str(whole)!r}, StudentLabeler({str(run / "student")!r}), {str(run / "labels")!r}, 3, False,
                       on_shard=shards, overwrite=True)
    """)
    uploads = hub.uploads.copy()
    client.push(run, "tester/grown-and-pushed")
    client.push(run, "tester/pushed")
    assert not any(sum_ in hub.uploads - uploads for sum_ in sums(run))
    grown, pushed = (hub.files("dataset", f"tester/{name}") for name in ("grown-and-pushed", "pushed"))
    assert len(labels(hub, "tester/pushed")) == 4
    cards = grown.pop("README.md"), pushed.pop("README.md")
    assert cards[0].replace(b"grown-and-pushed", b"pushed") == cards[1]
    assert grown == pushed


def sums(run):
    return [json.loads(note.read_text())["checksum"] for note in (run / "labels" / ".manifest").glob("part-*.json")]


def test_a_card_that_is_there_keeps_its_sections_and_says_what_the_pool_is(
    hub, client, finished_run, student_dir, tmp_path
):
    client.push(shutil.copytree(finished_run, tmp_path / "tiny"), "tester/first")
    client.run(code("tester/first", student_dir, tmp_path / "labels"))
    card = hub.files("dataset", "tester/first")["README.md"].decode()
    assert "How good the labels are" in card
    assert "All 23 rows of the pool are there" in card


@pytest.mark.parametrize(
    ("role", "name", "message"),
    [
        ("read", "tester/x", "This token may only read"),
        ("write", "somebody/x", "'somebody' is neither you nor an organisation of yours"),
    ],
)
def test_uploads_are_refused_where_a_push_is(hub, client, student_dir, tmp_path, role, name, message):
    hub.role = role
    try:
        with pytest.raises(RuntimeError, match=f"PermissionError: {message}"):
            client.run(code(name, student_dir, tmp_path / "labels"))
    finally:
        hub.role = "write"
