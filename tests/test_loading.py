import json
import math
import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    ByT5Tokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from hf_llambert import StudentConfig, StudentLabeler, TaskSpec, label_pool, load_data, train_student
from hf_llambert.planning.student_speed import student_speed
from hf_llambert.training.embeddings import embed_texts
from hf_llambert.training.inputs import Reading
from hf_llambert.training.loading import positions

TASK = TaskSpec("t", ("negative", "positive"), "{text}")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
NAMES = {"id2label": {0: "negative", 1: "positive"}}


def tokenizer_without(student_dir, folder, pad=None):
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    tokenizer.pad_token = pad
    tokenizer.model_max_length = 10_000
    tokenizer.save_pretrained(folder)
    if pad is None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}))
        assert AutoTokenizer.from_pretrained(folder).pad_token is None


def made(kind, student_dir, folder):
    """A tiny student of a family, with 130 positions."""
    words = len(AutoTokenizer.from_pretrained(student_dir))
    torch.manual_seed(0)
    if kind in ("roberta", "mpnet"):
        config, model = {
            "roberta": (RobertaConfig, RobertaForSequenceClassification),
            "mpnet": (MPNetConfig, MPNetForSequenceClassification),
        }[kind]
        made = model(config(vocab_size=words, max_position_embeddings=130, pad_token_id=1, **SMALL, **NAMES))
    elif kind == "gpt2":
        made = GPT2ForSequenceClassification(
            GPT2Config(vocab_size=words, n_positions=130, n_embd=32, n_layer=1, n_head=2, **NAMES)
        )
    else:
        made = LlamaForSequenceClassification(
            LlamaConfig(vocab_size=words, max_position_embeddings=130, **SMALL, **NAMES)
        )
    made.save_pretrained(folder)
    tokenizer_without(student_dir, folder, pad="[UNK]" if kind in ("roberta", "mpnet") else None)
    return folder


TEXTS = ["good film " * 200, "a dull film", "the music and the pictures were slow"]


@pytest.mark.parametrize(("kind", "tokens"), [("roberta", 128), ("mpnet", 128), ("gpt2", 130), ("llama", 130)])
def test_students_read_no_more_tokens_than_they_have_positions_for(kind, tokens, student_dir, tmp_path):
    student = made(kind, student_dir, tmp_path / kind)
    labeler = StudentLabeler(student, dtype="float32")
    assert max(map(len, labeler.encode(TEXTS).rows)) == tokens
    together = labeler.label(TEXTS)["student_scores"]
    alone = [labeler.label([text])["student_scores"][0] for text in TEXTS]
    for one, other in zip(together, alone, strict=True):  # padding changes nothing
        assert one == pytest.approx(other, abs=1e-5)
    assert embed_texts(str(student), TEXTS).shape == (3, 32)


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_students_of_other_families_learn(kind, student_dir, reviews, tmp_path):
    student = made(kind, student_dir, tmp_path / kind)
    long = reviews.map(lambda row: {"text": f"{row['text']} " * 40})
    args = StudentConfig(str(tmp_path / "c"), use_cpu=True, max_steps=2, report_to=[], disable_tqdm=True)
    results = train_student(TASK, str(student), tmp_path / "s", args, gold=long, max_length=512)
    assert results["train"]["max_length"] == {"roberta": 128, "gpt2": 130}[kind]
    note = json.loads((tmp_path / "s" / "training.json").read_text())
    note["reading"]["max_length"] = 512  # as an earlier version wrote it
    (tmp_path / "s" / "training.json").write_text(json.dumps(note))
    labels = StudentLabeler(tmp_path / "s").label(long["text"])["student_label"]
    assert set(labels) <= {0, 1}
    assert student_speed(str(student), TASK, long["text"][:], batch_size=2)["train"]["value"] > 0


def test_trained_copy_is_gone_before_labelling_is_measured(student_dir, monkeypatch):
    made, alive = [], []
    load = transformers.AutoModelForSequenceClassification.from_pretrained

    def loaded(*args, **kwargs):
        found = load(*args, **kwargs)
        made.append(weakref.ref(found[0]))  # the model, beside what was loaded
        return found

    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_pretrained", loaded)
    monkeypatch.setattr(
        "hf_llambert.planning.student_speed._label_seconds",
        lambda *_: alive.extend(one() is not None for one in made) or [1.0],
    )
    assert student_speed(student_dir, TASK, ["liked it", "a bore"], batch_size=2)["train"]["value"] > 0
    assert alive == [False]


def test_a_tokenizer_without_any_special_token_is_refused(student_dir, tmp_path):
    student = made("gpt2", student_dir, tmp_path / "gpt2")
    path = student / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith("_token")}
    path.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="has no pad token, and no eos, unk or sep"):
        StudentLabeler(student).label(["a"])


CODE = "import pathlib; pathlib.Path(r'{marker}').write_text('ran')\n"


@pytest.mark.parametrize("config", [pytest.param("config.json", marks=pytest.mark.slow), "tokenizer_config.json"])
def test_code_beside_a_student_never_runs_though_the_user_says_yes(config, student_dir, tmp_path):
    student, marker = tmp_path / "student", tmp_path / "ran"
    shutil.copytree(student_dir, student)
    (student / "theirs.py").write_text(CODE.format(marker=marker))
    note = json.loads((student / config).read_text())
    if config == "config.json":
        note |= {"model_type": "theirs"}
        names = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
        note["auto_map"] = dict.fromkeys(names, "theirs.Theirs")
    else:
        note |= {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}}
    (student / config).write_text(json.dumps(note))
    code = f"""
import sys
from datasets import Dataset
from hf_llambert import StudentConfig, StudentLabeler, TaskSpec, train_student
from hf_llambert.planning.student_speed import student_speed
from hf_llambert.training.embeddings import embed_texts
student, task = {str(student)!r}, TaskSpec("t", ("negative", "positive"), "{{text}}")
args = StudentConfig({str(tmp_path / "c")!r}, use_cpu=True, max_steps=1, report_to=[])
data = Dataset.from_dict({{"text": ["a", "b"], "label": [0, 1]}})
for use in (
    lambda: StudentLabeler(student).label(["a"]),
    lambda: StudentLabeler(student).labels,
    lambda: embed_texts(student, ["a"]),
    lambda: student_speed(student, task, ["a"]),
    lambda: train_student(task, student, {str(tmp_path / "o")!r}, args, gold=data),
):
    try:
        use()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        input="y\n" * 20,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"},
    )
    assert not marker.exists()
    assert "Do you wish to run" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_weights_that_are_no_safetensors_are_refused(student_dir, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(student_dir, student)
    (student / "model.safetensors").unlink()
    torch.save({}, student / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="has its weights in pytorch_model.bin only. Expected safetensors: convert it"
    ):
        embed_texts(str(student), ["a"])
    index = {"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model.bin"}}
    (student / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="index.json' names pytorch_model.bin. Expected safetensors"):
        embed_texts(str(student), ["a"])
    (student / "model.safetensors.index.json").write_text("[" * 100_000)
    with pytest.raises(OSError, match="index.json' is damaged"):
        embed_texts(str(student), ["a"])
    (student / "model.safetensors.index.json").unlink()
    (student / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter, expected a whole model"):
        embed_texts(str(student), ["a"])
    (student / "adapter_config.json").unlink()
    note = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(note | {"transformers_weights": "adapter_model.bin"}))
    with pytest.raises(ValueError, match="has its weights in adapter_model.bin"):
        embed_texts(str(student), ["a"])


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"reading": ',
        b"\x80\xff",
        b"[]",
        b"{}",
        b'{"reading": {"max_length": "a"}}',
        b'{"reading": {"max_length": 1}}',
        b'{"reading": {"max_length": 64, "head_share": "x"}}',
    ],
)
def test_a_damaged_note_of_a_student_is_a_sentence(content, student_dir, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(student_dir, student)
    (student / "training.json").write_bytes(content)
    with pytest.raises(OSError, match="training.json' is damaged"):
        StudentLabeler(student).label(["a"])


def test_the_table_of_positions_of_a_bert_is_counted_whole(student_dir):
    from transformers import AutoModelForSequenceClassification

    assert positions(AutoModelForSequenceClassification.from_pretrained(student_dir)) == 64


WIDE = {**SMALL, "max_position_embeddings": 130}
FAMILIES = {
    "Roberta": ({**WIDE, "pad_token_id": 1}, 128),
    "XLMRoberta": ({**WIDE, "pad_token_id": 1}, 128),
    "Camembert": ({**WIDE, "pad_token_id": 3}, 126),
    "RobertaPreLayerNorm": ({**WIDE, "pad_token_id": 0}, 129),
    "IBert": ({**WIDE, "pad_token_id": 1}, 128),
    "MPNet": ({**WIDE, "pad_token_id": 1}, 128),
    "Longformer": ({**WIDE, "pad_token_id": 1, "attention_window": [8]}, 128),
    "Bert": (WIDE, 130),
    "Deberta": (WIDE, 130),
    "DebertaV2": (WIDE, 130),
    "Electra": ({**WIDE, "embedding_size": 32}, 130),
    "DistilBert": ({"max_position_embeddings": 130, "dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2}, 130),
    "XLNet": ({"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}, None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_those_that_a_family_looks_up(family):
    kwargs, expected = FAMILIES[family]
    config = getattr(transformers, f"{family}Config")(vocab_size=50, **kwargs)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    assert model.training
    found = positions(model)
    assert model.training
    if expected is None:
        assert found > 10**6
        expected, fails = 600, False
    else:
        assert found == expected
        fails = True
    with torch.inference_mode():
        assert model.eval()(input_ids=torch.full((1, expected), 10)).logits.shape == (1, 2)
        if fails:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, expected + 1), 10))


def slow_student(folder):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=400, max_position_embeddings=40, **SMALL, **NAMES)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    ByT5Tokenizer(model_max_length=10_000).save_pretrained(folder)
    assert not AutoTokenizer.from_pretrained(folder).is_fast
    return folder


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_slow_tokenizer_cuts_a_text_by_its_tokens(share, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(slow_student(tmp_path))
    texts = ["begin " + "x" * 500 + " the end", "short", "é" * 100]
    rows = Reading(40, share).encode(tokenizer, texts)
    assert [len(row) <= 40 for row in rows] == [True] * 3
    assert len(rows[0]) >= 36
    assert rows[1] == tokenizer("short").input_ids
    said = tokenizer.decode(rows[0], skip_special_tokens=True)
    assert said.startswith("begin ") == (share > 0)
    assert said.endswith(" the end") == (share < 1)


@pytest.mark.parametrize("how", ["truncate", "mean"])
def test_a_student_with_a_slow_tokenizer_labels_long_texts(how, tmp_path):
    labeler = StudentLabeler(slow_student(tmp_path), dtype="float32", long_texts=how)
    encoded = labeler.encode(["a" * 100, "b", ""])
    assert max(map(len, encoded.rows)) == 40
    assert labeler.label(["a" * 100, "b", ""])["student_label"][2] == -1
    if how == "mean":
        tokens = AutoTokenizer.from_pretrained(tmp_path)("a" * 100).input_ids
        assert encoded.of_text == [0, 0, 0, 0, 1]
        assert encoded.rows[0] == [*tokens[:39], 1]


def from_elsewhere(student_dir, folder, n: int, problem_type: str | None) -> str:
    """A model with a tokenizer and no note of ours."""
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    torch.manual_seed(0)
    names = {i: f"topic {i}" for i in range(n)}
    config = BertConfig(
        vocab_size=len(tokenizer), **SMALL, id2label=names, problem_type=problem_type, initializer_range=0.5
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("n", [1, 4])
def test_model_of_several_labels_from_elsewhere_says_those_that_a_pipeline_gives_more_than_half(
    n, student_dir, tmp_path
):
    model = from_elsewhere(student_dir, tmp_path / "s", n, "multi_label_classification")
    texts = [*TEXTS[1:], "good", "the actors were wonderful", "a terrible film, not worth the ticket", "1 2 10 12"]
    found = pipeline("text-classification", model=model, device="cpu", top_k=None)(texts)
    holds = [sorted(int(one["label"][-1]) for one in text if one["score"] > 0.5) for text in found]
    label_pool(Dataset.from_dict({"text": texts}), StudentLabeler(model), tmp_path / "run/labels", show_progress=False)
    out = load_data(tmp_path / "run/labels")
    assert out["student_labels"][:] == holds
    assert n == 1 or len(set(map(tuple, holds))) > 1
    scores = [[1 / (1 + math.exp(-x)) for x in row] for row in out["student_scores"]]
    expected = [[one["score"] for one in sorted(text, key=lambda one: one["label"])] for text in found]
    assert np.allclose(scores, expected, atol=1e-5)
    with pytest.raises(ValueError, match="The student answers one question: choices of topic 0"):
        StudentLabeler(model).check_task(TaskSpec("t", ("topic 0", "topic 1"), "{text}"))


@pytest.mark.parametrize(("n", "problem_type"), [(1, "regression"), (1, None), (2, "regression")])
def test_model_of_numbers_from_elsewhere_is_refused(n, problem_type, student_dir, tmp_path):
    model = from_elsewhere(student_dir, tmp_path / "s", n, problem_type)
    with pytest.raises(
        ValueError, match=f"{n} logit.*problem_type {problem_type or 'not said'}.*Train a student from"
    ):
        StudentLabeler(model).label(["good"])
    assert StudentLabeler(from_elsewhere(student_dir, tmp_path / "t", 2, None)).questions[""].kind == "choice"
