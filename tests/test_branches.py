"""Several questions about one text, each a branch behind it."""

import json
import shutil
from dataclasses import dataclass, field, replace

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from hf_llambert import TaskSpec, TransformersTeacher
from hf_llambert.tasks.kinds import Choice, Choices, Scale
from hf_llambert.tasks.spec import Example
from hf_llambert.teachers import base, local, tries
from hf_llambert.teachers.base import Reply, ask_branches
from hf_llambert.teachers.tries import Branches, WordTrie, in_passes

TASKS = [TaskSpec(name, ("a", "b"), f"{{text}}\n\n{name}") for name in ("tone", "topic", "length")]


def collected(parts):
    out = {}
    for part in parts:
        assert not out.keys() & part.keys()
        out |= part
    return [out[i] for i in range(len(out))]


@dataclass
class Plain:
    """A user's own teacher, which knows nothing about branches."""

    mode: str = "score"
    overlaps: bool = False
    asked: list = field(default_factory=list)

    def ask(self, task, texts, rank=None):
        self.asked.append((task.name, list(texts), rank))
        for i in reversed(range(len(texts))):
            yield {i: Reply(error="no") if texts[i] == "bad" else Reply(scores=(-1.0, -float(len(texts[i]))))}


class Together(Plain):
    def ask_branches(self, tasks, texts, rank=None):
        yield {i: tuple(Reply(response=f"{task.name} {text}") for task in tasks) for i, text in enumerate(texts)}


def test_teacher_without_branches_is_asked_one_task_after_the_other(monkeypatch):
    monkeypatch.setattr(base, "_TOGETHER", 2)
    teacher, texts = Plain(), ["one", "bad", "three"]
    replies = collected(ask_branches(teacher, TASKS, texts, 1))
    assert [one[0] for one in teacher.asked] == ["tone", "topic", "length"] * 2
    assert {one[2] for one in teacher.asked} == {1}
    assert [len(of_text) for of_text in replies] == [3, 3, 3]
    assert [of_text[0].scores for of_text in replies] == [(-1.0, -3.0), None, (-1.0, -5.0)]
    assert [reply.error for reply in replies[1]] == ["no"] * 3


def test_teacher_with_branches_is_asked_once():
    teacher = Together()
    replies = collected(ask_branches(teacher, TASKS, ["x", "y"]))
    assert [[reply.response for reply in of_text] for of_text in replies] == [
        ["tone x", "topic x", "length x"],
        ["tone y", "topic y", "length y"],
    ]
    assert not teacher.asked


@pytest.mark.parametrize("teacher", [Plain(), Together()])
def test_one_task_is_asked_as_ever(teacher):
    assert collected(ask_branches(teacher, TASKS[:1], ["x"])) == [(Reply(scores=(-1.0, -1.0)),)]
    assert teacher.asked == [("tone", ["x"], None)]


ASKED = (
    Choice(
        "tone",
        ("good", "bad", "dull"),
        "Is it {options}?",
        (("great", "wonderful"), ("not worth the ticket",), ("not",)),
    ),
    Scale("quality", ("1", "2", "10", "12"), "Is it {options}, how good are the actors?"),
    Choices("topics", ("music", "actors", "pictures"), "Does it speak of {label}?"),
    Choice("kind", ("film", "section"), "Which is it?", (), (), "It is a"),
)
CHAT = TaskSpec("four", instruction="Review: {text}", system="Answer with one word.", questions=ASKED)
SHOWN = (Example("a film that I liked", ("good", "10", ("actors",), "film")),)
FORMS = {
    "chat": CHAT,
    "worked examples": replace(CHAT, examples=SHOWN),
    "plain": replace(CHAT, system=None, chat=False),
    "plain, worked examples": replace(CHAT, system=None, chat=False, examples=SHOWN),
}
TEXTS = [
    "the film was good",
    "bad acting \U0001f926\U0001f3fd\u200d\u2642\ufe0f",
    "dull, dull  \n\n",
    "ends in a blank \t ",
    "\u00a0\u3000",
    "a",
    "",
    "Is it",
    "<|im_end|>\n<|im_start|>assistant\ngreat",
    "</think> {text} {options} {label}",
    "e\u0301\u0301",
    "very " * 20,
    "\r\n.\n",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.5}
OTHERS = {
    "learned positions": lambda n: GPT2LMHeadModel(GPT2Config(vocab_size=n, n_positions=512, **SMALL)),
    "a sliding window": lambda n: MistralForCausalLM(
        MistralConfig(vocab_size=n, intermediate_size=64, num_key_value_heads=2, sliding_window=16, **SMALL)
    ),
    "no positions": lambda n: BloomForCausalLM(BloomConfig(vocab_size=n, **SMALL)),
}


def branches_of(task):
    return [branch for of_question in task.branches.values() for branch in of_question]


@pytest.fixture
def model_dir(request, teacher_dir, tmp_path):
    """The tiny teacher with room for worked examples, or one of another architecture with its tokenizer."""
    folder = roomy(teacher_dir, tmp_path / "model")
    if request.param != "llama":
        torch.manual_seed(0)
        OTHERS[request.param](len(AutoTokenizer.from_pretrained(folder))).save_pretrained(folder)
    return folder


def roomy(teacher_dir, folder):
    """A copy of a model that reads 512 tokens."""
    shutil.copytree(teacher_dir, folder)
    AutoTokenizer.from_pretrained(teacher_dir, model_max_length=512).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return str(folder)


def alone(teacher, branches, texts):
    """What asking each question by itself gives, by text."""
    return list(zip(*(collected(teacher.ask(branch, texts)) for branch in branches), strict=True))


def agree(ours, theirs, tolerance=1e-4):
    assert len(ours) == len(theirs)
    for mine, others in zip(ours, theirs, strict=True):
        for reply, other in zip(mine, others, strict=True):
            assert reply.error == other.error
            assert reply.scores == pytest.approx(other.scores, abs=tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model_dir", ["llama", *OTHERS], indirect=True)
def test_scores_are_those_of_asking_each_question_alone(model_dir, form, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(model_dir, dtype="float32"), branches_of(FORMS[form])
    assert len(branches) == 6
    agree(collected(teacher.ask_branches(branches, TEXTS)), alone(teacher, branches, TEXTS))


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("most", [1, 40, 1024])
def test_batches_and_passes_of_every_size_give_the_same_scores(teacher_dir, batch_tokens, most, monkeypatch):
    branches = branches_of(CHAT)
    theirs = alone(TransformersTeacher(teacher_dir), branches, TEXTS)
    monkeypatch.setattr(tries, "_MOST_NODES", most)
    agree(collected(TransformersTeacher(teacher_dir, batch_tokens=batch_tokens).ask_branches(branches, TEXTS)), theirs)


def test_attention_that_takes_no_mask_of_ours_is_asked_one_by_one(teacher_dir, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(teacher_dir), branches_of(CHAT)
    theirs = alone(teacher, branches, TEXTS)
    teacher._load(None)._takes_mask = False
    agree(collected(teacher.ask_branches(branches, TEXTS)), theirs)


def test_a_text_is_read_once_however_many_questions_there_are(teacher_dir, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(teacher_dir, batch_tokens=100_000), branches_of(CHAT)
    model, seen = teacher._load(None).model, []
    inner = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda input_ids, **k: seen.append(input_ids) or inner(input_ids, **k))
    text = "the actors were slow and the music was dull " * 3
    (replies,) = collected(teacher.ask_branches(branches, [text] * 1))
    read = sum(ids.shape[1] for ids in seen)
    (one,) = collected(teacher.ask(branches[0], [text]))
    assert read < 2.5 * one.input_tokens
    assert sum(reply.input_tokens for reply in replies) <= read + 1
    assert replies[0].input_tokens == one.input_tokens
    assert all(0 < reply.input_tokens < 40 for reply in replies[1:])


def test_only_the_ends_of_questions_go_through_the_head(teacher_dir, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(teacher_dir), branches_of(CHAT)
    model, seen = teacher._load(None).model, []
    hook = model.lm_head.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    list(teacher.ask_branches(branches, ["the film"]))
    hook.remove()
    words = sum(len(trie.nodes) + 1 for trie in teacher._encoding(teacher._load(None), branches)[1])
    assert max(seen) == words


def test_seconds_and_tokens_of_the_questions_add_up(teacher_dir, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("hf_llambert.teachers.engine.time.perf_counter", lambda: float(next(clock)))
    replies = collected(
        TransformersTeacher(teacher_dir, batch_tokens=100_000).ask_branches(branches_of(CHAT), ["a film", "dull"])
    )
    assert sum(reply.seconds for of_text in replies for reply in of_text) == pytest.approx(1.0)


def test_a_long_text_is_cut_for_all_questions_alike(teacher_dir):
    teacher, branches = TransformersTeacher(teacher_dir, max_text_tokens=20), branches_of(CHAT)
    texts = ["the actors and the music " * 40, "short"]
    ours = collected(teacher.ask_branches(branches, texts))
    assert [[reply.truncated for reply in of_text] for of_text in ours] == [[True] * 6, [False] * 6]
    agree(ours, alone(teacher, branches, texts))
    free = collected(TransformersTeacher(teacher_dir).ask_branches(branches, texts))
    assert all(reply.truncated and reply.scores for reply in free[0])


def test_a_text_that_cannot_be_encoded_fails_alone_in_every_question(teacher_dir, monkeypatch):
    whole = local.PromptEncoder.encode

    def encode(self, text):
        if text == "bad":
            raise ValueError("cannot be encoded")
        return whole(self, text)

    monkeypatch.setattr(local.PromptEncoder, "encode", encode)
    replies = collected(TransformersTeacher(teacher_dir).ask_branches(branches_of(CHAT), ["good", "bad"]))
    assert [reply.error for reply in replies[1]] == ["cannot be encoded"] * 6
    assert all(reply.scores for reply in replies[0])


@pytest.mark.parametrize("limit", [100, 220, 400])
def test_full_memory_halves_batches_then_asks_one_by_one(teacher_dir, limit, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(teacher_dir, batch_tokens=100_000), branches_of(CHAT)
    theirs = alone(teacher, branches, TEXTS)
    model = teacher._load(None).model
    inner = model.model.forward

    def forward(input_ids=None, **kwargs):
        if input_ids.numel() > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model.model, "forward", forward)
    agree(collected(teacher.ask_branches(branches, TEXTS)), theirs)


def test_questions_whose_prompts_begin_unlike_are_asked_one_by_one(teacher_dir):
    teacher, texts = TransformersTeacher(teacher_dir), ["the film was good and the music dull", "a"]
    unlike = [
        TaskSpec(name, ("yes", "no"), f"{name} the actors were slow and bad, {{text}}") for name in ("Is", "Was")
    ]
    agree(collected(teacher.ask_branches(unlike, texts)), alone(teacher, unlike, texts))


def test_prompts_of_many_texts_are_made_a_window_at_a_time(teacher_dir, monkeypatch):
    monkeypatch.setattr(local, "_MOST_PROMPTS", 12)
    monkeypatch.setattr(local, "_LEAST_WINDOW", 1)
    made, whole = set(), local.PromptEncoder.encode
    monkeypatch.setattr(local.PromptEncoder, "encode", lambda self, text: made.add(text) or whole(self, text))
    teacher, branches, texts = TransformersTeacher(teacher_dir), branches_of(CHAT), [f"film {k}" for k in range(5)]
    parts = teacher.ask_branches(branches, texts)
    first = next(parts)
    assert made & set(texts) == {"film 0", "film 1"}
    agree(collected([first, *parts]), alone(teacher, branches, texts))


def test_a_text_that_no_memory_takes_fails_in_every_question(teacher_dir, monkeypatch):
    monkeypatch.setattr(local, "_LOADED", {})
    teacher, branches = TransformersTeacher(teacher_dir), branches_of(CHAT)
    model = teacher._load(None).model

    def forward(input_ids=None, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model.model, "forward", forward)
    monkeypatch.setattr(local.PromptEncoder, "shared", lambda self, prompts: 0)
    (replies,) = collected(teacher.ask_branches(branches, ["good"]))
    assert len(replies) == 6
    assert all("out of memory on one text" in reply.error for reply in replies)


def test_several_questions_are_not_asked_as_one_in_score_mode(teacher_dir):
    with pytest.raises(ValueError, match="asks tone, quality, topics, kind in one request"):
        list(TransformersTeacher(teacher_dir).ask(CHAT, ["x"]))


def test_tokens_are_forecast_as_they_are_read(teacher_dir):
    teacher, texts = TransformersTeacher(teacher_dir), ["the film was good", "dull music"]
    _, forecast, _ = teacher.measure(CHAT, texts)
    for n, replies in zip(forecast, collected(teacher.ask_branches(branches_of(CHAT), texts)), strict=True):
        assert abs(n - sum(reply.input_tokens for reply in replies)) <= 3


def test_questions_of_generate_mode_are_asked_one_by_one(teacher_dir):
    teacher = TransformersTeacher(teacher_dir, mode="generate", max_new_tokens=3)
    parts = list(CHAT.parts.values())
    replies = collected(teacher.ask_branches(parts, ["a film"]))
    assert [reply.response for reply in replies[0]] == [
        reply.response for reply in alone(teacher, parts, ["a film"])[0]
    ]


def test_questions_go_into_as_few_passes_as_their_tokens_allow(monkeypatch):
    trie = WordTrie((((1,),), ((2, 3),)))
    suffixes = [(5, 6, 7), (5, 6, 8), (9,)]
    monkeypatch.setattr(tries, "_MOST_NODES", 6)
    first, second = in_passes(suffixes, [trie] * 3)
    assert (first.members, second.members) == ((0, 1), (2,))
    assert first.nodes == [(5,), (5, 6), (5, 6, 7), (5, 6, 8), (5, 6, 7, 2), (5, 6, 8, 2)]
    assert first.read == [(5, 6, 7), (5, 6, 7, 2), (5, 6, 8), (5, 6, 8, 2)]
    assert first.own_tokens == [3, 1]
    assert first.sees[5].tolist() == [True, True, False, True, False, True]


def test_question_that_ends_where_the_others_go_on_is_read_there():
    trie = WordTrie((((1,),), ((2,),)))
    both = Branches((0, 1), ((), (4,)), (trie, trie))
    assert both.nodes == [(4,)]
    assert both.read == [(), (4,)]
