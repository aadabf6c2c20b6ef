"""Tiny models built from a config, and small data. Nothing here or in the tests reaches a network."""

import gc
import io
import os
import re
import shutil
import string
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported
os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from hf_llambert import (
    LLMLabeler,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    TransformersTeacher,
    annotate,
    label_pool,
    load_data,
    saved_calibration,
    select_silver,
    train_student,
    write_report,
)
from hf_llambert.cli import main

SENTENCES = [
    "Overall, the movie was great good excellent wonderful terrible bad awful horrible positive negative",
    "Answer with one word. Is this review positive or negative? Review: a film that I liked very much",
    "business entertainment politics sport technology science fiction yes no not a newspaper section",
    "human interest human rights 1 2 10 12 the actors, the music and the pictures were dull and slow.",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))  # as a recipe that is run sees its neighbours
ASSETS = Path(os.environ.get("HF_LLAMBERT_ASSETS", Path(__file__).parent.parent / "assets"))


LONG = ("test_push", "test_recipes", "test_studies_a", "test_recipes_readme", "test_trainer", "test_studies_b")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process ends late with one of them."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later `gc.collect`, of which each training calls four."""
    gc.collect()
    gc.freeze()


class Terminal(io.StringIO):
    """An input that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch, capsys):
    """The command as a user types it, in this process: what it shows, and that it ends as expected."""

    def run(*words: object, expect: int = 0, answers: Sequence[str] | None = None) -> str:
        monkeypatch.setattr(sys, "argv", ["hf-llambert", *map(str, words)])
        given = io.StringIO() if answers is None else Terminal("".join(f"{answer}\n" for answer in answers))
        monkeypatch.setattr(sys, "stdin", given)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        shown = capsys.readouterr()
        assert code == expect, shown.out + shown.err
        assert "Traceback" not in shown.err
        return shown.out + shown.err

    return run


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    """Each test has its own cache, so that none passes on another's results."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


class Undrawn(Figure):
    """A figure that is put together and not rendered, which takes longer than a small training."""

    def savefig(self, path: str | Path, **kwargs: object) -> None:
        Path(path).write_bytes(b"not drawn")


@pytest.fixture(autouse=True)
def undrawn_trainings(request, monkeypatch):
    """The figures of trainings are rendered where a test asks for `drawn` only."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("hf_llambert.training.figures.Figure", Undrawn)


@pytest.fixture
def undrawn_reports(monkeypatch):
    """The figures of reports are not rendered."""
    monkeypatch.setattr("hf_llambert.report.figures._figure", lambda size: Undrawn(figsize=size, layout="constrained"))


@pytest.fixture
def drawn():
    """Figures of trainings are wanted."""


@pytest.fixture
def opening_dir(teacher_dir, tmp_path) -> str:
    """The same model with a chat template that opens a thought, unless it is told not to think."""
    folder = tmp_path / "thinker"
    shutil.copytree(teacher_dir, folder)
    opened = (
        "{{ '<|im_start|>assistant\\n<think>\\n' + ('' if enable_thinking | default(true) else '\\n</think>\\n\\n') }}"
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("{{ '<|im_start|>assistant\n' }}", opened))
    return str(folder)


@pytest.fixture(scope="session")
def teacher_dir(tmp_path_factory) -> str:
    """A chat model of two layers with a byte-level tokenizer; its answers mean nothing but are always the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        SENTENCES * 4,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=256,
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.5,  # far from uniform, so that a wrong position or mask shows
    )
    folder = str(tmp_path_factory.mktemp("teacher"))
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def student_dir(tmp_path_factory) -> str:
    """An untrained BERT of one layer with a word-piece tokenizer."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = sorted({word for sentence in SENTENCES for word in re.findall(r"\w+|[^\w\s]", sentence)})
    letters = sorted({letter for word in words for letter in word} | set(string.ascii_letters + string.digits))
    pieces = [*specials, *dict.fromkeys([*letters, *(f"##{letter}" for letter in letters), *words])]
    # Not trained: the trainer of tokenizers breaks ties by chance, and each session would have another student.
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
    )
    folder = str(tmp_path_factory.mktemp("student"))
    BertForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def cloze() -> TaskSpec:
    """A plain completion task with words of one and of several tokens."""
    return make_cloze()


def make_cloze() -> TaskSpec:
    return TaskSpec(
        name="tiny",
        labels=("negative", "positive"),
        instruction="Movie review: {text}",
        lead_in="Overall, the movie was",
        verbalizers=(("terrible", "not worth the ticket"), ("great", "wonderful")),
        chat=False,
    )


@pytest.fixture
def question() -> TaskSpec:
    """A chat task with a system turn and a worked example."""
    return TaskSpec.from_dict(
        {
            "name": "tiny-chat",
            "labels": ["negative", "positive"],
            "system": "Answer with one word.",
            "instruction": "Is this review positive or negative?\nReview: {text}",
            "examples": [{"text": "a film that I liked", "label": "positive"}],
        }
    )


@pytest.fixture
def reviews() -> Dataset:
    """Sixteen easy texts with gold labels."""
    return make_reviews(16)


def make_reviews(n: int) -> Dataset:
    good, bad = "the actors were wonderful and I liked it", "the music was awful and the film dull"
    return Dataset.from_dict(
        {
            "text": [f"{(bad, good)[i % 2]} {'very ' * (i % 5)}number {i}" for i in range(n)],
            "label": [i % 2 for i in range(n)],
        }
    )


@pytest.fixture(scope="session")
def finished_run(teacher_dir, student_dir, tmp_path_factory) -> Path:
    """A whole run of tiny models: annotated, student, baseline, labels. Copy it before changing it."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    task, data = make_cloze(), make_reviews(40)
    sample, held_out, pool = (data.select(range(a, b)) for a, b in ((0, 20), (20, 30), (30, 40)))
    labeler = LLMLabeler(task, TransformersTeacher(teacher_dir), run / "ledger")
    annotate(sample, labeler, run / "annotated", gold_column="label", show_progress=False)
    silver, selection = select_silver(load_data(run), task, calibration=saved_calibration(run))
    args = StudentConfig(str(run / "checkpoints"), use_cpu=True, num_train_epochs=1, report_to=[], disable_tqdm=True)
    given = {"eval_data": held_out, "eval_name": "10 held-out reviews", "max_length": 32}
    train_student(task, student_dir, run / "student", args, silver=silver, selection=selection, **given)
    train_student(task, student_dir, run / "baseline", args, gold=sample, **given)
    label_pool(pool, StudentLabeler(run / "student"), run / "labels", show_progress=False)
    write_report(run, choices={"seeds": "the first"})
    return run


@pytest.fixture(scope="session")
def assets() -> Path:
    """The real packaged models and reviews (make assets)."""
    if not (ASSETS / "imdb_train.parquet").exists():
        raise FileNotFoundError(f"No assets in '{ASSETS}'. Run: make assets")
    return ASSETS
