"""Publishing against a local Hub over real HTTP, with the real clients."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk
from huggingface_hub import DatasetCard, ModelCard

from conftest import make_reviews
from hf_llambert import StudentConfig, StudentLabeler, label_pool, select_silver, train_student, write_report
from hf_llambert.hub.files import dataset_configs
from hub_fixtures import TESTS, client, environment, hub  # noqa: F401  (fixtures)
from local_hub import LocalHub
from test_recipes import config, data_file  # noqa: F401  (fixtures)


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "tiny"))


def test_what_is_pushed_can_be_loaded_by_the_ecosystem_with_the_same_labels(hub, client, run, tmp_path):
    client.push(run, "tester/round-trip")
    script = """
        import json
        from datasets import load_dataset
        from transformers import AutoModelForSequenceClassification, pipeline
        from hf_llambert import LLMLabeler, StudentLabeler, TransformersTeacher

        name = "tester/round-trip"
        configs = {c: load_dataset(name, c, split="train") for c in ("annotations", "silver", "labels")}
        texts = configs["labels"]["text"][:]
        model = AutoModelForSequenceClassification.from_pretrained(name)
        print(json.dumps({
            "features": {c: str(d.features) for c, d in configs.items()},
            "columns": {c: d.column_names for c, d in configs.items()},
            "stored": configs["labels"]["student_scores"][:],
            "computed": StudentLabeler.from_pretrained(name).label(texts),
            "pipeline": [answer["label"] for answer in pipeline("text-classification", model=name)(texts)],
            "id2label": model.config.id2label,
            "labels": configs["labels"].features["student_label"].names,
        }))
    """
    found = json.loads(client.run(script).splitlines()[-1])
    assert found["stored"] == found["computed"]["student_scores"]  # bit for bit
    names = found["labels"]
    assert found["pipeline"] == [names[i] for i in found["computed"]["student_label"]]
    assert found["id2label"] == {"0": "negative", "1": "positive"}
    assert "ClassLabel" in found["features"]["silver"]
    assert not any({"label", "gold_label"} & set(found["columns"][c]) for c in ("annotations", "labels"))
    assert "gold_label" not in found["columns"]["silver"]
    here = load_from_disk(str(run / "annotated"))
    there = Dataset.from_parquet(_saved(hub, "dataset", "tester/round-trip", "annotations/", tmp_path))
    assert there["llm_label"][:] == here["llm_label"][:]
    assert there["llm_status"][:] == here["llm_status"][:]


def test_repositories_are_private_and_tagged_and_whole(hub, client, run):
    addresses = client.push(run, "tester/private", space=True)
    assert addresses == {
        "dataset": f"{hub.url}/datasets/tester/private",
        "model": f"{hub.url}/tester/private",
        "space": f"{hub.url}/spaces/tester/private",
    }
    for kind in addresses:
        assert hub.private(kind, "tester/private")
        assert [re.fullmatch("run-[0-9a-f]{12}", tag) is not None for tag in hub.tags(kind, "tester/private")] == [
            True
        ]
    files = hub.files("model", "tester/private")
    wanted = {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "training.json",
        "figures/confusion.png",
    }
    assert wanted <= set(files)
    assert not {"stage.json", "evaluation.parquet", "silver.parquet"} & set(files)
    beside = [path for path in (run / "student" / "baseline").iterdir() if path.is_file()]
    assert {"linear.safetensors", "vocabulary.json", "evaluation.parquet"} <= {path.name for path in beside}
    for kind in addresses:  # counting words is not published, under whatever name
        sent = hub.files(kind, "tester/private")
        assert not [name for name in sent if "baseline" in name or "linear" in name or "vocabulary" in name]
        assert not {path.read_bytes() for path in beside} & set(sent.values())
    assert json.loads(files["training.json"])["training"]["arguments"]["seed"] == 42
    assert {"app.py", "facts.json", "README.md", "requirements.txt"} <= set(hub.files("space", "tester/private"))


def test_public_and_gold_only_when_asked(hub, client, run, tmp_path):
    client.push(run, "tester/open", public=True, gold=True)
    assert not hub.private("dataset", "tester/open")
    assert not hub.private("model", "tester/open")
    rows = Dataset.from_parquet(_saved(hub, "dataset", "tester/open", "annotations/", tmp_path))
    assert rows["label"][:] == load_from_disk(str(run / "annotated"))["label"][:]
    with pytest.raises(RuntimeError, match="is public. Pass --public"):
        client.push(run, "tester/open")


def test_labels_that_nobody_called_gold_stay_here_too(finished_run, run, tmp_path):
    note = json.loads((run / "annotated" / "stage.json").read_text())
    note["config"]["gold_column"] = None
    (run / "annotated" / "stage.json").write_text(json.dumps(note))
    configs = dataset_configs(run, gold=False)
    assert "label" not in configs["annotations"].column_names
    assert "label" not in configs["labels"].features
    [copy] = configs["labels"].files(tmp_path).values()
    assert "label" not in Dataset.from_parquet(str(copy)).column_names
    assert configs["silver"]["label"][:] == configs["annotations"]["llm_label"][:]
    assert "label" in dataset_configs(finished_run, gold=True)["annotations"].column_names


def test_same_run_pushed_again_sends_no_file_and_makes_no_commit(hub, client, run):
    client.push(run, "tester/again")
    before = hub.commits("dataset", "tester/again"), hub.commits("model", "tester/again")
    uploads, sent = hub.uploads.copy(), hub.sent.copy()
    client.push(run, "tester/again")
    assert (hub.commits("dataset", "tester/again"), hub.commits("model", "tester/again")) == before
    assert (hub.uploads, hub.sent) == (uploads, sent)


def test_push_killed_at_three_instants_and_repeated_ends_complete_with_no_file_sent_twice(hub, run, environment):
    heavy = run / "student" / "model.safetensors"
    whole = heavy.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    header["__metadata__"] = {"format": "pt", "padding": "x" * 12_000_000}  # an upload of more than 10 MB
    text = json.dumps(header).encode()
    heavy.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    driver = f"""
        import multiprocessing, random, sys, time
        from hf_llambert import Publication, push_run, write_report
        import hf_llambert.hub.commits
        import hf_llambert.hub.files, hf_llambert.hub.space, hf_llambert.report.report, pyarrow.parquet, torch
        hf_llambert.hub.commits._FIRST_WAIT = 0.0  # only between attempts at one call

        def push(name):
            push_run({str(run)!r}, Publication(name, "apache-2.0"))

        def start(name, target=push):
            child = multiprocessing.get_context("fork").Process(target=target, args=(name,))
            child.start()
            return child

        # The first push alone would draw it. Not in this process: threads that it leaves may lock what a fork needs.
        start({str(run)!r}, write_report).join()
        begin = time.monotonic()
        child = start("tester/at-once")
        child.join()
        whole = time.monotonic() - begin
        instants = [random.uniform(0.05, 1) * whole for _ in range(3)]
        killed = 0
        for instant in sorted(instants):
            child = start("tester/killed")
            child.join(instant)
            if child.exitcode is None:
                killed += 1
                child.kill()
                child.join()
        child = start("tester/killed")
        child.join()
        print(child.exitcode, killed)
    """
    uploads = hub.uploads.copy()
    out = _run([sys.executable, "-c", textwrap.dedent(driver)], environment)
    assert out.returncode == 0, out.stderr
    code, killed = map(int, out.stdout.split()[-2:])
    assert code == 0, out.stderr
    assert killed, "no push was killed: nothing was tested"
    for kind in ("dataset", "model"):
        ended, wanted = hub.files(kind, "tester/killed"), hub.files(kind, "tester/at-once")
        cards = ended.pop("README.md"), wanted.pop("README.md")
        assert cards[0].replace(b"killed", b"at-once") == cards[1]
        assert ended == wanted
        assert len(hub.tags(kind, "tester/killed")) == 1
    assert max((hub.uploads - uploads).values()) == 1
    assert max(n for (_, name, _, _), n in hub.sent.items() if name == "tester/killed") == 1
    assert not list(run.glob(".push*"))  # what the killed ones left went with the last


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failures_that_pass_are_waited_out(hub, client, run, status):
    name = f"tester/trouble-{status}"
    headers = {"Retry-After": "0"} if status == 429 else None
    calls = (
        "/api/whoami-v2",
        "/api/repos/create",
        "/api/validate-yaml",
        "/commit/",
        "/tag/",
        f"/api/datasets/{name}$",
    )
    for pattern in calls:
        hub.fail(pattern, status=status, times=1, headers=headers)
    client.push(run, name)
    assert set(hub.files("dataset", name)) >= {"README.md", "annotation.json"}


def test_dropped_connections_and_lost_answers_leave_one_commit(hub, client, run):
    hub.drop("/_lfs/", times=1, after=100)
    hub.drop("/commit/", times=1)
    hub.lose("/commit/", times=1)
    client.push(run, "tester/dropped")
    assert len(hub.commits("dataset", "tester/dropped")) == 2  # the Hub's first, and ours
    assert len(hub.commits("model", "tester/dropped")) == 2


def test_upload_that_fails_longer_than_the_client_waits_goes_on(hub, client, run):
    weights = run / "student" / "model.safetensors"
    whole = weights.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + size].rstrip() + b" " * 8  # padding, so that these bytes are not on the Hub yet
    weights.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    hub.fail(".*", method="PUT", status=500, times=7)
    client.push(run, "tester/stubborn")
    assert hub.files("model", "tester/stubborn")["model.safetensors"] == weights.read_bytes()


def test_failure_that_does_not_pass_is_one_sentence(hub, client, run):
    hub.fail("/api/datasets/tester/down/commit/", status=503, times=6)
    with pytest.raises(RuntimeError, match="ConnectionError: The Hub went on failing .* the same command goes on"):
        client.push(run, "tester/down")
    client.push(run, "tester/down")


def test_card_edited_by_people_is_merged(hub, client, run):
    client.push(run, "tester/edited")
    client.run("""
        from huggingface_hub import HfApi
        api = HfApi()
        for kind in ("dataset", "model"):
            path = api.hf_hub_download("tester/edited", "README.md", repo_type=kind)
            text = open(path).read().replace("## Limits", "## Limits").replace("---\\n\\n#", "---\\n\\nAsk Ana first.\\n\\n#", 1)
            api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id="tester/edited", repo_type=kind)
    """)
    note = json.loads((run / "student" / "stage.json").read_text())
    note["results"]["eval"]["source"] = "other reviews"
    (run / "student" / "stage.json").write_text(json.dumps(note))
    client.push(run, "tester/edited")
    for kind, card in (("dataset", DatasetCard), ("model", ModelCard)):
        text = card(hub.files(kind, "tester/edited")["README.md"].decode()).text
        assert "Ask Ana first." in text
        assert "Held-out gold: other reviews." in text
        assert text.count("<!-- hf_llambert: about -->") == 1


def test_card_that_cannot_be_merged_is_refused_before_anything_is_sent(hub, client, run):
    client.push(run, "tester/torn")
    client.run("""
        from huggingface_hub import HfApi
        api = HfApi()
        text = open(api.hf_hub_download("tester/torn", "README.md")).read().replace("<!-- /hf_llambert: about -->", "")
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id="tester/torn")
    """)
    shutil.rmtree(run / "labels")
    before = hub.commits("dataset", "tester/torn")
    with pytest.raises(RuntimeError, match="beginning or end is missing. Mend its README.md"):
        client.push(run, "tester/torn")
    assert hub.commits("dataset", "tester/torn") == before


def test_settings_of_a_demo_that_is_there_stay(hub, client, run):
    client.push(run, "tester/demo", space=True)
    client.run("""
        from huggingface_hub import HfApi
        HfApi().upload_file(path_or_fileobj=b"---\\nsdk: gradio\\n---\\nours", path_in_repo="README.md", repo_id="tester/demo",
                            repo_type="space")
    """)
    client.push(run, "tester/demo", space=True)
    assert hub.files("space", "tester/demo")["README.md"].endswith(b"ours")


def test_file_that_a_new_run_no_longer_has_goes_and_files_of_people_stay(hub, client, run):
    client.push(run, "tester/changed")
    client.run("""
        from huggingface_hub import HfApi
        for place in ("notes.txt", "figures/mine.svg", "labels/mine.parquet"):
            HfApi().upload_file(path_or_fileobj=b"ours", path_in_repo=place, repo_id="tester/changed", repo_type="dataset")
    """)
    shutil.rmtree(run / "labels")
    client.push(run, "tester/changed")
    files = hub.files("dataset", "tester/changed")
    assert files["notes.txt"] == files["figures/mine.svg"] == b"ours"
    assert [name for name in files if name.startswith("labels/")] == ["labels/mine.parquet"]
    assert len(hub.tags("dataset", "tester/changed")) == 2


def test_pull_request_is_opened_once_and_main_stays(hub, client, run):
    client.push(run, "tester/proposed", public=True)
    before = hub.commits("dataset", "tester/proposed")
    shutil.rmtree(run / "labels")
    first = client.push(run, "tester/proposed", public=True, create_pr=True)
    again = client.push(run, "tester/proposed", public=True, create_pr=True)
    assert first["dataset"] == again["dataset"]
    assert hub.commits("dataset", "tester/proposed") == before
    assert len(hub.pulls("dataset", "tester/proposed")) == 1


def test_pull_request_with_nothing_to_change_says_so(hub, client, run):
    client.push(run, "tester/same", public=True)
    found = client.push(run, "tester/same", public=True, create_pr=True)
    assert found["dataset"].endswith("/datasets/tester/same") and found["model"].endswith("/tester/same")
    assert hub.pulls("dataset", "tester/same") == []


def test_half_a_pool_is_published_as_half_or_not_at_all(hub, client, run):
    note = run / "labels" / "stage.json"
    whole = json.loads(note.read_text())
    note.write_text(json.dumps({**whole, "results": {}}))  # as a labelling that was stopped leaves it
    with pytest.raises(RuntimeError, match="rows of a pool that is not labelled to its end.*--partial"):
        client.push(run, "tester/half")
    client.push(run, "tester/half", partial=True)
    assert b"**part of the pool only**" in hub.files("dataset", "tester/half")["README.md"]
    assert b"is left out" not in hub.files("dataset", "tester/half")["README.md"]
    note.write_text(json.dumps(whole))
    client.push(run, "tester/half")
    assert b"part of the pool only" not in hub.files("dataset", "tester/half")["README.md"]


def relabel(run, rows, rows_per_shard, **settings):
    pool = make_reviews(60).remove_columns("label").select(range(rows))
    labeler = StudentLabeler(run / "student")
    label_pool(pool, labeler, run / "labels", rows_per_shard, False, overwrite=True, **settings)


def pushed_labels(hub, name) -> list[tuple[str, int]]:
    return [
        (place, pq.read_metadata(pa.BufferReader(content)).num_rows)
        for place, content in sorted(hub.files("dataset", name).items())
        if place.startswith("labels/")
    ]


def test_relabelled_pool_replaces_the_one_that_was_there_row_for_row(hub, client, run):
    relabel(run, 50, 20)
    client.push(run, "tester/fewer")
    names = [f"labels/part-00000-{k:05d}.parquet" for k in range(3)]
    assert pushed_labels(hub, "tester/fewer") == list(zip(names, (20, 20, 10), strict=True))
    relabel(run, 30, 20)
    client.push(run, "tester/fewer")
    assert pushed_labels(hub, "tester/fewer") == list(zip(names[:2], (20, 10), strict=True))
    assert "| `labels` | 30 |" in hub.files("dataset", "tester/fewer")["README.md"].decode()


def test_labels_of_an_earlier_student_are_not_published_and_the_cards_name_them(hub, client, run):
    client.push(run, "tester/retrained")
    assert pushed_labels(hub, "tester/retrained")
    config = run / "student" / "config.json"
    config.write_text(config.read_text() + "\n")
    client.push(run, "tester/retrained")
    assert pushed_labels(hub, "tester/retrained") == []
    for kind in ("dataset", "model"):
        card = hub.files(kind, "tester/retrained")["README.md"].decode()
        assert re.search(r"'labels' is left out: sha256:\w+ labelled it, and 'student' holds sha256:", card), kind
    card = hub.files("dataset", "tester/retrained")["README.md"].decode()
    assert "`labels`" not in card
    assert "of labeling" not in card


def test_half_a_pool_has_no_shard_of_the_labelling_before(hub, client, run):
    relabel(run, 40, 10)
    stage = run / "labels" / "stage.json"
    whole = {path.name: path.read_bytes() for path in (run / "labels").rglob("part-*")}
    relabel(run, 40, 10, keep=[])  # other columns: another labelling
    for name in ("part-00000-00002.parquet", "part-00000-00003.parquet"):  # which was killed after two shards
        (run / "labels" / name).write_bytes(whole[name])
        (run / "labels" / ".manifest" / f"{name}.json").write_bytes(whole[f"{name}.json"])
    stage.write_text(json.dumps({**json.loads(stage.read_text()), "results": {}}))
    client.push(run, "tester/killed-half", partial=True)
    assert [place for place, _ in pushed_labels(hub, "tester/killed-half")] == [
        "labels/part-00000-00000.parquet",
        "labels/part-00000-00001.parquet",
    ]
    assert "| `labels` | 20 |" in hub.files("dataset", "tester/killed-half")["README.md"].decode()


def test_pull_request_on_nothing_is_refused(hub, client, run):
    with pytest.raises(RuntimeError, match="no dataset 'tester/nowhere' to open a pull request on"):
        client.push(run, "tester/nowhere", create_pr=True)


def test_token_is_in_no_file_and_in_no_log(hub, environment, run):
    command = [sys.executable, "-m", "hf_llambert.cli", "--debug", "push", str(run), "--to", "tester/secret"]
    out = _run([*command, "--license", "mit"], environment)
    assert out.returncode == 0, out.stderr
    assert hub.token not in out.stdout + out.stderr
    home = Path(environment["HF_HOME"])
    for path in [*run.rglob("*"), *home.rglob("*")]:
        assert not path.is_file() or hub.token.encode() not in path.read_bytes(), path
    for kind in ("dataset", "model"):
        for name, content in hub.files(kind, "tester/secret").items():
            assert hub.token.encode() not in content, name
            assert str(run).encode() not in content, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "somebody/reviews"}, "PermissionError: 'somebody' is neither you nor an organisation of yours"),
        ({"repo_id": "tester/two--dashes"}, "ValueError: The Hub refuses the name"),
        ({"repo_id": "reviews"}, "ValueError: Expected a name such as our-team/reviews"),
        ({"repo_id": "tester/x", "license": ""}, "ValueError: A licence is needed"),
        ({"repo_id": "tester/x", "license": "My own!"}, "ValueError: A licence is needed"),
    ],
)
def test_bad_request_is_refused_before_anything_is_sent(hub, client, run, arguments, message):
    seen = len(hub.requests)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        client.push(run, **arguments)
    assert all(request.method == "GET" for request in hub.requests[seen:])


def test_reading_token_is_refused_before_anything_is_sent(hub, client, run):
    hub.role, seen = "read", len(hub.requests)
    try:
        with pytest.raises(RuntimeError, match="PermissionError: This token may only read"):
            client.push(run, "tester/x")
    finally:
        hub.role = "write"
    assert all(request.method == "GET" for request in hub.requests[seen:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("os.environ.pop('HF_TOKEN')", "PermissionError: No token of the Hub was found. Run hf auth login"),
        (f"os.environ['HF_TOKEN'] = 'hf_{'x' * 34}'", "PermissionError: The Hub does not know this token"),
        ("constants.HF_HUB_OFFLINE = True", "ConnectionError: HF_HUB_OFFLINE is set"),
    ],
)
def test_missing_and_wrong_token_and_offline_are_one_sentence(hub, client, run, change, message):
    client.run(f"import os; from huggingface_hub import constants; token = os.environ['HF_TOKEN']; {change}")
    try:
        with pytest.raises(RuntimeError, match=re.escape(message)):
            client.push(run, "tester/x")
    finally:
        client.run("os.environ['HF_TOKEN'] = token; constants.HF_HUB_OFFLINE = False")


def test_commands_and_example_of_the_page_on_publishing_work_word_for_word(hub, client, environment, run, tmp_path):
    page = (TESTS.parent / "docs" / "publishing.md").read_text()
    login, push = re.search(r"```bash\n(.*?)```", page, re.DOTALL)[1].splitlines()
    assert login == "hf auth login"  # asks for a token; here it is in the environment
    run.rename(tmp_path / "mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine").rename(tmp_path / "runs" / "mine")
    words = [str(Path(sys.executable).parent / "hf-llambert"), *shlex.split(push)[1:]]
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    out = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    shown = client.run(example + "print(classify(silver['text'][0]), student_label.labels)")
    assert "('negative', 'positive')" in shown
    assert hub.private("dataset", "our-team/reviews")


def test_empty_folder_is_refused(client, tmp_path):
    with pytest.raises(RuntimeError, match="FileNotFoundError: .* holds neither an annotated dataset nor a student"):
        client.push(tmp_path, "tester/x")


def test_student_of_another_task_is_refused(hub, client, run):
    config = json.loads((run / "student" / "config.json").read_text())
    config["id2label"] = {"0": "positive", "1": "negative"}
    (run / "student" / "config.json").write_text(json.dumps(config))
    seen = len(hub.requests)
    with pytest.raises(RuntimeError, match="The student has the labels .* not of one run"):
        client.push(run, "tester/x")
    assert len(hub.requests) == seen


def test_student_alone_is_pushed_without_a_dataset(hub, client, run):
    for name in ("annotated", "labels"):
        shutil.rmtree(run / name)
    assert set(client.push(run, "tester/alone", space=True)) == {"model", "space"}
    card = hub.files("model", "tester/alone")["README.md"].decode()
    assert "Its teacher" not in card
    assert ModelCard(card).data.datasets is None


def test_demo_without_student_is_refused(client, run):
    shutil.rmtree(run / "student")
    with pytest.raises(RuntimeError, match="A demo needs a student"):
        client.push(run, "tester/x", space=True)


def test_labeler_of_a_published_dataset_asks_as_its_teacher_did(hub, client, run, teacher_dir, tmp_path):
    client.push(run, "tester/labeler")
    texts = load_from_disk(str(run / "annotated"))["text"][:]
    out = client.run(f"""
        import json
        from hf_llambert import LLMLabeler, TransformersTeacher
        labeler = LLMLabeler.from_dataset("tester/labeler", {str(tmp_path / "ledger")!r}, TransformersTeacher({teacher_dir!r}))
        print(json.dumps(labeler({{"text": {texts!r}}})))
    """)
    annotated = load_from_disk(str(run / "annotated"))
    found = json.loads(out.splitlines()[-1])
    assert found["llm_label"] == annotated["llm_label"][:]
    np.testing.assert_allclose(found["llm_confidence"], annotated["llm_confidence"][:], rtol=1e-5)
    with pytest.raises(RuntimeError, match=r"what only its annotator has: model \(teacher"):
        client.run("LLMLabeler.from_dataset('tester/labeler', 'x')")
    with pytest.raises(RuntimeError, match="FileNotFoundError: 'tester/nothing' is not a dataset that"):
        client.run("LLMLabeler.from_dataset('tester/nothing', 'x')")


def test_lora_student_is_pushed_merged_with_its_adapter_beside(hub, client, run, cloze, student_dir):
    shutil.rmtree(run / "student")
    args = StudentConfig(str(run / "ck"), use_cpu=True, max_steps=1, report_to=[], disable_tqdm=True, lora_rank=2)
    silver, _ = select_silver(load_from_disk(str(run / "annotated")), cloze)
    train_student(cloze, student_dir, run / "student", args, silver=silver)
    write_report(run)
    client.push(run, "tester/lora")
    files = hub.files("model", "tester/lora")
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "model.safetensors"} <= set(files)
    assert json.loads(files["adapter/adapter_config.json"])["base_model_name_or_path"] == Path(student_dir).name
    client.run("""
        from transformers import AutoModelForSequenceClassification
        model = AutoModelForSequenceClassification.from_pretrained("tester/lora")
        assert not any("lora" in name for name in model.state_dict())
    """)


def test_a_recipe_publishes_when_asked(hub, client, config):
    recipe = Path(__file__).parent.parent / "recipes" / "imdb.py"
    arguments = ["--columns", "silver", "--publish_as", "tester/recipe", "--license", "apache-2.0"]
    shown = client.run(f"""
        import runpy, sys
        sys.path.insert(0, {str(recipe.parent)!r})
        sys.argv = {["imdb.py", "--config", str(config), *arguments]}
        runpy.run_path({str(recipe)!r}, run_name="__main__")
    """)
    assert "dataset: " in shown
    assert "model: " in shown
    assert hub.private("model", "tester/recipe")
    assert {"model.safetensors", "README.md"} <= set(hub.files("model", "tester/recipe"))


def _run(command: list, env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def _saved(hub: LocalHub, kind: str, name: str, folder: str, tmp_path: Path) -> str:
    [(_, content)] = [(p, c) for p, c in hub.files(kind, name).items() if p.startswith(folder)]
    (tmp_path / "saved.parquet").write_bytes(content)
    return str(tmp_path / "saved.parquet")
