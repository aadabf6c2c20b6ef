"""The same student on every backend, and texts longer than it reads."""

import builtins
import shutil

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from hf_llambert import StudentLabeler, fastest_backend, label_pool
from hf_llambert.training import backends, students
from hf_llambert.training import loaded as loaded_students
from hf_llambert.training.embeddings import embed_texts

TEXTS = [
    "a film that I liked very much",
    "dull and slow",
    "the actors, the music and the pictures " * 5,
    "no",
    "great",
] * 7


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(students, "_LOADED", {})


@pytest.fixture
def exact(student_dir):
    return StudentLabeler(student_dir).label(TEXTS)


def test_attention_takes_the_same_kernel_whether_or_not_a_batch_is_padded(student_dir, monkeypatch):
    masks = []
    whole = torch.nn.functional.scaled_dot_product_attention

    def attend(*args, attn_mask=None, **kwargs):
        masks.append(attn_mask)
        return whole(*args, attn_mask=attn_mask, **kwargs)

    labeler = StudentLabeler(student_dir)
    labeler.warm_up()
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    labeler.label(["great", "great"])
    labeler.label(["great", "dull and slow"])
    labeler.embed(["great", "great"])
    assert len(masks) == 3
    monkeypatch.setattr("hf_llambert.training.embeddings.longest_input", lambda *_: 64)  # it runs the model too
    embed_texts(student_dir, ["great", "great"])
    assert len(masks) == 4
    assert all(mask is not None for mask in masks)


def test_a_batch_is_never_waited_for_on_its_device(student_dir):
    model = (
        AutoModelForSequenceClassification.from_pretrained(student_dir).eval().to("meta")
    )  # no value can be read there
    ids = torch.ones(2, 5, dtype=torch.long)
    assert backends.torch_forward(model)(ids, torch.ones_like(ids)).shape == (2, 2)


def test_a_start_model_that_asks_for_its_attention_is_read_by_sdpa(student_dir, tmp_path):
    folder = shutil.copytree(student_dir, tmp_path / "student")
    model = AutoModelForSequenceClassification.from_pretrained(student_dir, attn_implementation="eager")
    model.config.output_attentions = model.config.output_hidden_states = True
    model.save_pretrained(folder)
    loaded = StudentLabeler(folder)._load(None).model
    assert "sdpa" in loaded.config._attn_implementation
    assert not (loaded.config.output_attentions or loaded.config.output_hidden_states)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_converted_students_score_as_pytorch_does(backend, student_dir, exact):
    labeler = StudentLabeler(student_dir, backend=backend, batch_tokens=90)
    out = labeler.label([None, *TEXTS])
    assert out["student_label"] == [-1, *exact["student_label"]]
    assert torch.tensor(out["student_scores"][1:]).allclose(torch.tensor(exact["student_scores"]), atol=1e-4)
    assert labeler.agreement(TEXTS) == 1.0
    assert labeler.settings() == {
        "student": labeler.identity, "backend": backend, "dtype": "float32", "long_texts": "truncate",
    }  # fmt: skip
    with pytest.raises(ValueError, match="Only backend='torch' embeds"):
        labeler.embed(["x"])


def test_int8_gives_nearly_the_same_scores(student_dir, exact):
    out = StudentLabeler(student_dir, backend="onnx", dtype="int8").label(TEXTS)
    apart = (torch.tensor(out["student_scores"]) - torch.tensor(exact["student_scores"])).abs().max()
    assert 0 < apart < 0.2


def test_bfloat16_gives_nearly_the_same_scores(student_dir, exact, monkeypatch):
    monkeypatch.setattr(loaded_students, "cpu_computes", lambda dtype: True)
    out = StudentLabeler(student_dir, dtype="bfloat16").label(TEXTS)
    assert torch.tensor(out["student_scores"]).allclose(torch.tensor(exact["student_scores"]), atol=0.1)


def test_a_cpu_without_the_arithmetic_is_warned_of(student_dir, monkeypatch):
    monkeypatch.setattr(loaded_students, "cpu_computes", lambda dtype: False)
    with pytest.warns(UserWarning, match="no bfloat16 arithmetic: up to 80 times slower"):
        StudentLabeler(student_dir, dtype="bfloat16").label(["x"])


def test_a_conversion_that_computes_something_else_is_refused(student_dir, monkeypatch):
    whole = backends.torch_forward
    plus = lambda model, *given: lambda ids, mask: whole(model, *given)(ids, mask) + 0.01  # noqa: E731
    monkeypatch.setattr(backends, "torch_forward", plus)
    with pytest.raises(RuntimeError, match="OpenVINO computes other logits than PyTorch for this student, by 0.01"):
        StudentLabeler(student_dir, backend="openvino").label(["x"])


def test_half_precision_that_nobody_asked_for_gives_way_to_float32(student_dir, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loaded_students, "cpu_computes", lambda dtype: True)
    monkeypatch.setattr(students, "choose_dtype", lambda device: "bfloat16")  # as on a GPU
    compared = []
    monkeypatch.setattr(StudentLabeler, "agreement", lambda self, texts: compared.append(len(texts)) or 0.9941)
    pool = Dataset.from_dict({"text": TEXTS})
    for _ in range(2):
        labeler = StudentLabeler(student_dir)
        caplog.clear()
        done = label_pool(pool, labeler, tmp_path / "labels", show_progress=False)
        assert (done["complete"], labeler.settings()["dtype"], "agreement" in done) == (True, "float32", False)
        said = (
            "With dtype='bfloat16' on torch only 99.41% of the texts compared keep the label that float32 gives them"
        )
        assert [said in record.message for record in caplog.records] == [True]
    assert compared == [35]  # not again where it was noted
    with pytest.raises(ValueError, match="only 99.41% of the texts compared .* Use another dtype or backend"):
        label_pool(pool, StudentLabeler(student_dir, dtype="bfloat16"), tmp_path / "stated", show_progress=False)


@pytest.mark.parametrize(("backend", "module"), [("openvino", "openvino"), ("onnx", "onnxscript")])
def test_a_missing_extra_is_named(backend, module, student_dir, monkeypatch):
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name == module:
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"pip install 'hf-llambert\[{backend}\]'"):
        StudentLabeler(student_dir, backend=backend).label(["x"])


def test_fastest_backend_is_openvino_where_it_is_installed(monkeypatch):
    assert fastest_backend() == ("torch" if torch.cuda.is_available() else "openvino")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fastest_backend() == "torch"


def test_wrong_arguments_are_refused(student_dir):
    for arguments, message in (
        ({"backend": "jax"}, "backend must be one of torch, openvino, onnx"),
        ({"dtype": "int8"}, "backend='torch' has the dtypes float32, bfloat16, float16, got 'int8'"),
        ({"backend": "onnx", "attention": "eager"}, "runs on the CPU"),
        ({"backend": "openvino", "device": "cuda"}, "runs on the CPU"),
        ({"long_texts": "median"}, "long_texts must be truncate, mean or max"),
        ({"batch_tokens": 0}, "batch_tokens must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            StudentLabeler(student_dir, **arguments)


def test_a_model_without_a_classification_head_is_refused(student_dir, tmp_path):
    folder = shutil.copytree(student_dir, tmp_path / "bare")
    AutoModel.from_pretrained(student_dir).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"is no trained classifier: it has no weights for classifier.bias"):
        StudentLabeler(folder).label(["x"])


@pytest.mark.parametrize("how", ["mean", "max"])
def test_long_texts_are_read_in_parts_and_joined(how, student_dir):
    labeler = StudentLabeler(student_dir, long_texts=how)
    long = " ".join(f"part {i} of a long film" for i in range(40))
    out = labeler.label(["", "short", long])
    assert out["student_label"][0] == -1
    plain = StudentLabeler(student_dir)
    assert out["student_scores"][1] == pytest.approx(plain.label(["short"])["student_scores"][0], abs=1e-5)
    encoded = labeler.encode([long])
    assert len(encoded.rows) > 3
    assert set(encoded.of_text) == {0}
    assert all(len(row) <= 64 for row in encoded.rows)
    parts = torch.stack(
        [
            torch.tensor(labeler.score(students.Encoded(1, [row], [0]))["student_scores"][0].as_py())
            for row in encoded.rows
        ]
    )
    joined = parts.exp().mean(0) if how == "mean" else parts.exp().amax(0)
    expected = (joined / joined.sum()).log()
    assert out["student_scores"][2] == pytest.approx(expected.tolist(), abs=1e-4)
    # Every token of the text is in some part.
    whole = plain._load(None).tokenizer(long, add_special_tokens=False).input_ids
    assert {token for row in encoded.rows for token in row} >= set(whole)


def test_the_middle_of_an_endless_text_is_never_tokenised(student_dir, monkeypatch):
    labeler = StudentLabeler(student_dir)
    seen = []
    loaded = labeler._load(None)
    kind = type(loaded.tokenizer)
    whole = kind.__call__
    monkeypatch.setattr(
        kind, "__call__", lambda self, texts, **k: seen.extend(map(len, texts)) or whole(self, texts, **k)
    )
    labeler.label(["a " * 1_000_000])
    assert max(seen) < 20_000


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_padded_as_the_tokenizer_pads_them(student_dir, side):
    tokenizer = AutoTokenizer.from_pretrained(student_dir, trust_remote_code=False, padding_side=side)
    rows = [[2, 7, 8, 9, 3], [2, 3], [2, 7, 3]]
    expected = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    ids, mask = backends.padded(tokenizer, rows)
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.tolist() == expected["input_ids"].tolist()
    assert mask.tolist() == expected["attention_mask"].tolist()
