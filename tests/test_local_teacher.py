import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_llambert import LLMLabeler, TaskSpec, TransformersTeacher
from hf_llambert.models import content_id
from hf_llambert.teachers.engine import WordTrie
from hf_llambert.teachers.prompting import PromptEncoder
from hf_llambert.teachers.weights import check_weights

TEXTS = ["a film", "the actors, the music and the pictures were dull " * 6, "", "great", "I liked it very much. " * 3]


def ask(teacher, task, texts=TEXTS):
    replies = {}
    for part in teacher.ask(task, texts):
        assert not replies.keys() & part.keys()
        replies |= part
    return [replies[i] for i in range(len(texts))]


def plain_scores(folder, task, text, words_of):
    """The definition, one sequence at a time: log Σ over words of P(word | prompt)."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = PromptEncoder(tokenizer, task).encode(text)
    out = []
    for words in words_of:
        p = 0.0
        for word in words:
            with torch.inference_mode():
                logp = model(torch.tensor([prompt + list(word)])).logits[0].log_softmax(-1)
            p += sum(logp[len(prompt) - 1 + k, token] for k, token in enumerate(word)).exp()
        out.append(float(torch.as_tensor(p).log()))
    return out


@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
@pytest.mark.parametrize("kind", ["cloze", "question"])
def test_scores_are_the_likelihoods_of_the_words_however_batched(teacher_dir, kind, batch_tokens, request):
    task = request.getfixturevalue(kind)
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir)
    words = PromptEncoder(tokenizer, task).words
    replies = ask(TransformersTeacher(teacher_dir, batch_tokens=batch_tokens), task)
    for text, reply in zip(TEXTS, replies, strict=True):
        assert reply.response is None
        assert reply.scores == pytest.approx(plain_scores(teacher_dir, task, text, words), abs=2e-4)


def test_a_word_that_begins_another_counts_only_where_it_ends(teacher_dir):
    task = TaskSpec(
        "t", ("one", "ten"), "{text}", lead_in="It is", chat=False, verbalizers=(("human",), ("human rights",))
    )
    words = PromptEncoder(AutoTokenizer.from_pretrained(teacher_dir), task).words
    assert words[1][0][: len(words[0][0])] == words[0][0]
    short, both = plain_scores(teacher_dir, task, "x", words)
    (reply,) = ask(TransformersTeacher(teacher_dir), task, ["x"])
    expected = torch.tensor([short]).exp() - torch.tensor([both]).exp()
    assert reply.scores[0] == pytest.approx(float(expected.log()), abs=1e-3)
    assert reply.scores[1] == pytest.approx(both, abs=1e-3)


def test_many_labels_keep_their_order(teacher_dir):
    names = ("business", "sport", "politics", "science fiction", "entertainment", "newspaper", "technology")
    task = TaskSpec("t", names, "{text}", lead_in="Section:", chat=False)
    turned = TaskSpec("t", names[::-1], "{text}", lead_in="Section:", chat=False)
    (there,), (back,) = (ask(TransformersTeacher(teacher_dir), t, ["x"]) for t in (task, turned))
    assert there.scores == pytest.approx(back.scores[::-1], abs=1e-5)
    assert len(set(there.scores)) == len(names)


def test_greedy_generation_is_the_same_however_batched(teacher_dir, question):
    one, many = (
        ask(TransformersTeacher(teacher_dir, mode="generate", batch_tokens=n), question) for n in (1, 100_000)
    )
    assert [r.response for r in one] == [r.response for r in many]
    assert all(r.scores is None for r in one)


def test_sampling_repeats_with_its_seed_and_only_with_it(teacher_dir, question):
    def responses(seed):
        teacher = TransformersTeacher(teacher_dir, mode="generate", temperature=1.0, seed=seed)
        return [r.response for r in ask(teacher, question)]

    state = torch.random.get_rng_state()
    assert responses(1) == responses(1) != responses(2)
    assert torch.equal(state, torch.random.get_rng_state())


def test_long_text_loses_its_middle_and_says_so(teacher_dir, cloze):
    text = "BEGIN " + "very " * 500 + "END"
    cut, whole = ask(TransformersTeacher(teacher_dir), cloze, [text, "short"])
    assert (cut.truncated, whole.truncated) == (True, False)
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir)
    ids, was_cut = PromptEncoder(tokenizer, cloze).fit(text, 20, 0.5)
    assert was_cut
    shown = tokenizer.decode(ids)
    assert "BEGIN" in shown
    assert "END" in shown
    assert " … " in shown
    assert "END" not in tokenizer.decode(PromptEncoder(tokenizer, cloze).fit(text, 20, 1.0)[0])
    assert "BEGIN" not in tokenizer.decode(PromptEncoder(tokenizer, cloze).fit(text, 20, 0.0)[0])


def test_adapter_is_loaded_on_top_and_changes_identity(teacher_dir, cloze, tmp_path):
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(teacher_dir),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    model.save_pretrained(tmp_path)
    plain, adapted = TransformersTeacher(teacher_dir), TransformersTeacher(teacher_dir, adapter=str(tmp_path))
    assert plain.identity() != adapted.identity()
    assert ask(plain, cloze)[0].scores != ask(adapted, cloze)[0].scores
    adapted.convert(tmp_path / "merged")
    merged = ask(TransformersTeacher(str(tmp_path / "merged")), cloze)
    for one, other in zip(merged, ask(adapted, cloze), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_identity_is_of_the_content_not_of_the_place(teacher_dir, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(teacher_dir, moved)
    assert content_id(str(moved)) == content_id(teacher_dir)
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert content_id(str(moved)) != content_id(teacher_dir)


@pytest.mark.parametrize(
    "change",
    [{"mode": "generate"}, {"dtype": "bfloat16"}, {"max_text_tokens": 50}, {"head_share": 0.1}],
)
def test_what_changes_answers_changes_identity(teacher_dir, change):
    assert TransformersTeacher(teacher_dir).identity() != TransformersTeacher(teacher_dir, **change).identity()


def test_what_only_changes_speed_does_not_change_identity(teacher_dir):
    assert TransformersTeacher(teacher_dir).identity() == TransformersTeacher(teacher_dir, batch_tokens=7).identity()


def test_another_attention_gives_the_same_scores(teacher_dir, cloze):
    for one, other in zip(
        ask(TransformersTeacher(teacher_dir), cloze),
        ask(TransformersTeacher(teacher_dir, attention="eager"), cloze),
        strict=True,
    ):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_identity_is_json_and_names_no_path(teacher_dir):
    assert teacher_dir not in json.dumps(TransformersTeacher(teacher_dir).identity())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "guess"}, "mode must be score or generate, got 'guess'"),
        ({"dtype": "int3"}, "dtype must be auto or a float type, got 'int3'"),
        ({"quantization": "2bit"}, "quantization must be 4bit or 8bit"),
        ({"head_share": 2}, "head_share must be a number from 0 to 1, got 2"),
        ({"batch_tokens": 0}, "batch_tokens must be a positive number, got 0"),
        ({"max_text_tokens": 0}, "max_text_tokens must be a positive number, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a positive number"),
        ({"temperature": -1}, "temperature must be 0 or more"),
    ],
)
def test_wrong_setting_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        TransformersTeacher("x", **change)


def test_quantization_without_a_gpu_is_refused(teacher_dir, cloze):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="needs a GPU and there is none"):
        ask(TransformersTeacher(teacher_dir, quantization="4bit"), cloze)


def test_half_precision_warns_on_a_cpu_without_it_and_float32_is_chosen(teacher_dir, cloze, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    monkeypatch.setattr("hf_llambert.teachers.local._LOADED", {})
    assert TransformersTeacher(teacher_dir, device="cpu").identity()["dtype"] == "float32"
    with pytest.warns(UserWarning, match="no bfloat16 arithmetic: up to 80 times slower"):
        ask(TransformersTeacher(teacher_dir, dtype="bfloat16", device="cpu"), cloze)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither|not a directory here"):
        TransformersTeacher("nobody/nothing-here").identity()
    with pytest.raises(FileNotFoundError, match="holds no model"):
        TransformersTeacher(str(tmp_path)).identity()
    with pytest.raises(FileNotFoundError, match="expected other.gguf"):
        TransformersTeacher(str(tmp_path), gguf_file="other.gguf").identity()


def test_hub_id_is_known_by_the_commit_it_resolved_to(monkeypatch, tmp_path):
    commit = "c0ffee" * 6
    path = tmp_path / "snapshots" / commit / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(path))
    assert content_id("org/model", "main") == f"org/model@{commit}"
    assert Path(path).exists()


def test_scores_that_are_no_numbers_fail_the_row_and_are_not_kept(teacher_dir, cloze, monkeypatch, tmp_path):
    labeler = LLMLabeler(cloze, TransformersTeacher(teacher_dir), tmp_path / "ledger")
    with monkeypatch.context() as broken:
        nan = float("nan")
        broken.setattr(WordTrie, "label_scores", lambda trie, log_p: torch.tensor([[nan, -1.0]]))
        out = labeler({"text": ["a film"]})
    assert (out["llm_status"], out["llm_label"]) == (["failed"], [-1])
    assert "no finite scores" in out["llm_reason"][0]
    assert labeler({"text": ["a film"]})["llm_status"] == ["ok"]


def test_text_that_cannot_be_encoded_fails_alone(teacher_dir, cloze, monkeypatch):
    whole = PromptEncoder.encode

    def encode(self, text):
        if text == "great":
            raise ValueError("cannot be encoded")
        return whole(self, text)

    monkeypatch.setattr(PromptEncoder, "encode", encode)
    replies = ask(TransformersTeacher(teacher_dir), cloze)
    assert [reply.error for reply in replies] == [None, None, None, "cannot be encoded", None]


def test_one_model_over_all_gpus_is_refused_in_several_processes(teacher_dir, cloze, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="run one process, not several"):
        ask(TransformersTeacher(teacher_dir, device="auto"), cloze)


def test_half_precision_does_not_warn_on_a_cpu_that_has_it(teacher_dir, cloze, monkeypatch, recwarn):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr("hf_llambert.teachers.local._LOADED", {})
    ask(TransformersTeacher(teacher_dir, dtype="bfloat16", device="cpu"), cloze)
    assert not [warning for warning in recwarn if "arithmetic" in str(warning.message)]


def copied(teacher_dir, folder):
    shutil.copytree(teacher_dir, folder)
    return folder


def test_code_beside_a_model_is_not_run_whatever_stands_on_stdin(teacher_dir, tmp_path):
    folder, marker = copied(teacher_dir, tmp_path / "model"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nConfig = Model = Tokenizer = dict\n")
    for name, classes in {
        "config.json": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
    }.items():
        config = json.loads((folder / name).read_text())
        config |= {"auto_map": classes}
        if name == "config.json":
            config["model_type"] = "evil"
        else:
            config["tokenizer_class"] = "Evil"
        (folder / name).write_text(json.dumps(config))
    code = (
        "from hf_llambert import TaskSpec, TransformersTeacher\n"
        f"t = TransformersTeacher({str(folder)!r})\n"
        "list(t.ask(TaskSpec('t', ('a', 'b'), '{text}', chat=False), ['x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, input="y\n" * 9, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert "trust_remote_code" in done.stderr
    assert not marker.exists()


def test_weights_that_are_not_safetensors_are_refused_before_they_are_read(teacher_dir, tmp_path, cloze):
    folder = copied(teacher_dir, tmp_path / "model")
    index = folder / "model.safetensors.index.json"
    for content, message in (
        ('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}', "names 'pytorch_model-00001-of-00002.bin'"),
        ('{"weight_map": {"a": "../elsewhere/model.safetensors"}}', "names '../elsewhere/model.safetensors'"),
        ('{"weight_map": [' + "[" * 100_000, "no index of weights"),
        ("{}", "no index of weights"),
    ):
        index.write_text(content)
        with pytest.raises(ValueError, match=message):
            ask(TransformersTeacher(str(folder)), cloze)


def test_adapter_that_is_a_pickle_is_refused_before_it_is_read(teacher_dir, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (tmp_path / "adapter_model.bin").write_bytes(b"not to be read")
    with pytest.raises(
        ValueError, match=r"no adapter_model.safetensors, but adapter_model.bin. Such files can hold code"
    ):
        check_weights(teacher_dir, None, str(tmp_path))
    folder = copied(teacher_dir, tmp_path / "model")
    for name in ("adapter_config.json", "adapter_model.bin"):  # loaded unasked with the model beside it
        shutil.copy(tmp_path / name, folder)
    with pytest.raises(ValueError, match="no adapter_model.safetensors, but adapter_model.bin"):
        check_weights(str(folder))


def test_cut_answer_is_no_label(teacher_dir, question):
    (reply,) = ask(TransformersTeacher(teacher_dir, mode="generate", max_new_tokens=2), question, ["a film"])
    assert reply.finish == "length"
    assert question.read("positive", reply.finish)[0] == -1


def test_template_variables_enter_the_identity_only_where_they_are_set(teacher_dir):
    plain, told = (
        TransformersTeacher(teacher_dir, chat_template_kwargs=v) for v in (None, '{"enable_thinking": false}')
    )
    assert "chat_template_kwargs" not in plain.identity()
    assert told.identity() != plain.identity()
    assert told.settings()["chat_template_kwargs"] == '{"enable_thinking": false}'
