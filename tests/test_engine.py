import pytest
import torch
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from hf_llambert import LLMLabeler, TaskSpec, TransformersTeacher
from hf_llambert.teachers import local
from hf_llambert.teachers.engine import Engine, WordTrie

PREFIX = list(range(5, 45))
TEXTS = [[50, 51, 52], [60], [70, 71, 72, 73, 74, 75, 76, 77], [80, 81], [90, 91, 92, 93]]
TRIE = WordTrie((((3,), (4, 5)), ((4, 6, 7), (4, 6, 8, 9)), ((10, 11),)))
ONE_TOKEN = WordTrie((((3,), (4,)), ((5,),)))
SMALL = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.5}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama, eager": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attn_implementation="eager")),
    "a sliding window": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=16)),
    "learned positions": lambda: GPT2LMHeadModel(GPT2Config(**SMALL, initializer_range=0.5)),
    "no positions": lambda: BloomForCausalLM(BloomConfig(**SMALL, initializer_range=0.5)),
}


class Tokenizer:
    """What the engine needs of one."""

    pad_token_id = 0
    all_special_ids = (0,)
    added_tokens_decoder: dict = {}

    def decode(self, row, skip_special_tokens):
        return " ".join(str(token) for token in row if token)


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def expected(model, prompt, trie=TRIE):
    """The definition, one sequence at a time."""

    def log_p(word):
        with torch.inference_mode():
            out = model(torch.tensor([[*prompt, *word]])).logits[0].log_softmax(-1)
        return sum(out[len(prompt) - 1 + k, token] for k, token in enumerate(word))[None]

    return trie.label_scores({word: log_p(word) for word in trie.words})[0].tolist()


def collect(parts):
    out = {}
    for part in parts:
        assert not out.keys() & part.keys()
        out |= part
    return [out[i] for i in range(len(out))]


@pytest.mark.parametrize("trie", [TRIE, ONE_TOKEN], ids=["long words", "one token each"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_scores_equal_one_by_one_scoring_in_every_kind_of_model(model, batch_tokens, trie):
    prompts = [PREFIX + text for text in TEXTS]
    replies = collect(Engine(Tokenizer(), model).score(prompts, len(PREFIX), trie, batch_tokens))
    for prompt, reply in zip(prompts, replies, strict=True):
        assert reply.scores == pytest.approx(expected(model, prompt, trie), abs=2e-4)
        assert reply.input_tokens == len(prompt)


def test_an_attention_that_takes_no_mask_of_ours_gives_the_same_scores():
    model = MODELS["llama"]().eval()
    prompts = [PREFIX + text for text in TEXTS]
    engine = Engine(Tokenizer(), model)
    rows = [prompt[len(PREFIX) :] for prompt in prompts]
    scores = TRIE.label_scores(engine._fed_apart(PREFIX, rows, TRIE)).tolist()
    assert scores == [pytest.approx(expected(model, prompt), abs=2e-4) for prompt in prompts]


def test_generation_equals_one_by_one_generation_in_every_kind_of_model(model):
    config = local.GenerationConfig(max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=1)
    prompts = [PREFIX + text for text in TEXTS]
    replies = collect(Engine(Tokenizer(), model).generate(prompts, len(PREFIX), config, 0, 10_000))
    for prompt, reply in zip(prompts, replies, strict=True):
        out = model.generate(torch.tensor([prompt]), generation_config=config)[0, len(prompt) :].tolist()
        assert reply.response == " ".join(str(token) for token in out if token)
        assert reply.output_tokens == len([token for token in out if token])
        assert reply.finish == ("stop" if 1 in out else "length")


@pytest.mark.parametrize("ends", [[1], [1, 2], 1])
def test_an_answer_without_its_end_is_cut_and_the_others_stop(monkeypatch, ends):
    config = local.GenerationConfig(max_new_tokens=3, pad_token_id=0, eos_token_id=ends)
    engine = Engine(Tokenizer(), MODELS["llama"]().eval())
    rows = [[7, 1, 0], [7, 8, 9], [7, 8, 1]]
    monkeypatch.setattr(engine, "_written", lambda *args: rows)
    replies = collect(engine.generate([PREFIX] * 3, 0, config, 0, 10_000))
    assert [reply.finish for reply in replies] == ["stop", "length", "stop"]
    monkeypatch.setattr(engine, "_written", lambda *args: [row[:2] for row in rows])
    assert [r.finish for r in collect(engine.generate([PREFIX] * 3, 0, config, 0, 10_000))] == ["stop"] * 3


def test_the_shared_prefix_is_computed_once(monkeypatch):
    model = MODELS["llama"]().eval()
    seen = []
    inner = model.model.forward

    def forward(input_ids=None, **kwargs):
        seen.append(input_ids.shape[1])
        return inner(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model.model, "forward", forward)
    engine = Engine(Tokenizer(), model)
    for _ in range(2):
        list(engine.score([PREFIX + text for text in TEXTS], len(PREFIX), TRIE, 20))
    assert seen.count(len(PREFIX)) == 1
    assert max(seen[1:]) < len(PREFIX)


def test_only_the_needed_positions_go_through_the_head():
    model = MODELS["llama"]().eval()
    rows = []
    model.lm_head.register_forward_hook(lambda module, args, out: rows.append(tuple(out.shape[:2])))
    list(Engine(Tokenizer(), model).score([PREFIX + text for text in TEXTS], len(PREFIX), TRIE, 10_000))
    assert rows == [(1, 1), (len(TEXTS), 1 + len(TRIE.nodes))]


def out_of_memory_above(model, limit, monkeypatch):
    """Let the model fail as a full GPU would."""
    inner = model.forward

    def forward(input_ids=None, **kwargs):
        if input_ids.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return inner(input_ids=input_ids, **kwargs)

    forward.__signature__ = __import__("inspect").signature(inner)
    monkeypatch.setattr(model, "forward", forward)


def test_out_of_memory_halves_the_budget_and_goes_on(monkeypatch):
    model = MODELS["llama"]().eval()
    prompts = [PREFIX + text for text in TEXTS]
    before = collect(Engine(Tokenizer(), model).score(prompts, len(PREFIX), TRIE, 10_000))
    out_of_memory_above(model, 40, monkeypatch)
    engine = Engine(Tokenizer(), model)
    for _ in range(2):
        after = collect(engine.score(prompts, len(PREFIX), TRIE, 10_000))
        for one, other in zip(before, after, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_one_text_too_large_for_the_memory_fails_alone(monkeypatch):
    model = MODELS["llama"]().eval()
    out_of_memory_above(model, 40, monkeypatch)
    prompts = [PREFIX + text for text in (*TEXTS, list(range(20, 70)))]
    replies = collect(Engine(Tokenizer(), model).score(prompts, len(PREFIX), TRIE, 10_000))
    assert [reply.error is None for reply in replies] == [True] * 5 + [False]
    assert "out of memory on one text" in replies[5].error


def test_another_error_of_the_model_is_not_taken_for_full_memory(monkeypatch):
    model = MODELS["llama"]().eval()
    monkeypatch.setattr(model, "lm_head", None)
    with pytest.raises(AttributeError):
        list(Engine(Tokenizer(), model).score([PREFIX, PREFIX], 0, TRIE, 100))


def test_nothing_to_ask_asks_nothing(teacher_dir, cloze):
    assert list(TransformersTeacher(teacher_dir).ask(cloze, [])) == []


def test_a_word_within_a_word_is_counted_once():
    p = {(1,): 0.5, (1, 0): 0.3, (1, 0, 2): 0.1, (3,): 0.2}
    log_p = {word: torch.tensor([value]).log() for word, value in p.items()}
    scores = WordTrie((((1,),), ((1, 0),), ((1, 0, 2), (3,)))).label_scores(log_p)[0].exp().tolist()
    assert scores == pytest.approx([0.2, 0.2, 0.3], abs=1e-5)


def test_prefix_of_a_task_is_kept_over_map_batches(teacher_dir, question, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    labeler = LLMLabeler(question, TransformersTeacher(teacher_dir), tmp_path)
    for batch in (["a film", "the actors"], ["a", "b", "music"], ["one alone"]):
        labeler({"text": batch})
    (engine,) = local._LOADED.values()
    assert len(engine._prefixes) == 1
    assert AutoTokenizer.from_pretrained(teacher_dir).decode(next(iter(engine._prefixes))).endswith("Review:")


def test_unlike_tasks_do_not_share_a_prefix(teacher_dir, question, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher = TransformersTeacher(teacher_dir)
    other = TaskSpec.from_dict({**question.to_dict(), "system": "Answer with one word, please."})
    first = [collect(teacher.ask(task, ["a film"]))[0].scores for task in (question, other, question)]
    assert first[0] == first[2] != first[1]
