"""The linear student: what it counts, what it learns, and that it is a labeler like any other."""

import errno
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as torch_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from hf_llambert import (
    Choice,
    Choices,
    Scale,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    label_pool,
    read_pool,
    train_fast,
    train_student,
)
from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.training import fast
from hf_llambert.training.fast import usable_strings
from hf_llambert.training.grams import fit_grams, split_units, windows
from hf_llambert.training.heads import heads_of
from hf_llambert.training.linear import LinearModel, choose_unit, fit_linear, weighed
from hf_llambert.whole import DiskFull

MOOD = TaskSpec("mood", ("bad", "good"), "{text} Good or bad?")
GOOD, BAD = (
    ("a fine and lovely day", "what a fine film", "lovely, so lovely"),
    ("a dull grey day", "dull film", "so grey"),
)
TEXTS = [f"{text} number {i}" for i in range(12) for text in (*GOOD, *BAD)]
LABELS = [int(text.split(" number")[0] in GOOD) for text in TEXTS]


def strings(texts):
    return pa.array(texts, pa.large_string())


def mood_rows(task=MOOD):
    data = Dataset.from_dict({"text": TEXTS, "label": LABELS})
    return data.cast_column("label", ClassLabel(names=list(task.labels)))


@pytest.fixture
def args(tmp_path):
    return StudentConfig(str(tmp_path / "checkpoints"), report_to=[], use_cpu=True, disable_tqdm=True)


@pytest.fixture
def student(args, tmp_path):
    train_fast(MOOD, "linear", tmp_path / "linear", args, gold=mood_rows(), eval_data=mood_rows())
    return tmp_path / "linear"


def test_features_are_those_of_scikit_learn_with_the_same_vocabulary():
    texts = [*TEXTS, "Nothing known here?", "LOVELY Film; a"]
    grams = fit_grams(pa.chunked_array([strings(TEXTS)]), "words", 1000)
    ours = weighed(grams.count(strings(texts)), np.ones(grams.size, np.float32)).toarray()
    names = grams.units.to_pylist()
    pairs = [f"{names[key >> 16]} {names[key & 0xFFFF]}" for key in grams.runs[2].tolist()]
    vectorizer = TfidfVectorizer(
        vocabulary=[*names, *pairs], ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True, use_idf=False
    )
    assert "lovely film" not in pairs
    assert "a fine" in pairs
    assert ours == pytest.approx(vectorizer.fit_transform(texts).toarray(), abs=1e-6)


def test_words_looked_into_once_are_those_of_the_whole_texts():
    texts = [
        "A film, a  film-noir!",
        "",
        "(\u212bngstr\u00f6m \u0301e\u0301 )",
        "\u00b4film\u00a0film  ",
        "\u7535\u5f71 x_1 \uff26ilm",
        "  ",
        "a",
    ]
    units, rows = split_units(strings(texts), "words")
    whole = pc.split_pattern_regex(pc.utf8_lower(pc.utf8_normalize(strings(texts), "NFKC")), r"[^\pL\pM\pN_]+")
    expected = [(word, i) for i, words in enumerate(whole.to_pylist()) for word in words if word]
    assert list(zip(units.to_pylist(), rows.tolist(), strict=True)) == expected
    assert split_units(strings([]), "words")[0].to_pylist() == []


def test_weights_are_those_of_scikit_learns_logistic_regression():
    task_heads = heads_of(TaskSpec("three", ("a", "b", "c"), "{text}?"))
    labels = np.array([i % 3 for i in range(len(TEXTS))])
    learnt = pa.chunked_array([strings(TEXTS)])
    model = fit_linear(learnt, torch.eye(3)[labels], torch.ones(len(TEXTS), 1), task_heads, "words", 2.0)
    rows = weighed(model.grams.count(strings(TEXTS)), model.idf)
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(rows, labels)
    logits = model.logits(strings(TEXTS))
    ours = torch.from_numpy(logits).softmax(-1).numpy()
    assert ours == pytest.approx(theirs.predict_proba(rows), abs=2e-3)


def test_probabilities_are_learnt_as_they_are():
    heads = heads_of(MOOD)
    learnt = pa.chunked_array([strings(["sun"] * 50 + ["rain"] * 50)])
    targets = torch.tensor([[0.3, 0.7]] * 50 + [[0.9, 0.1]] * 50)
    model = fit_linear(learnt, targets, torch.ones(100, 1), heads, "words")
    found = torch.from_numpy(model.logits(strings(["sun", "rain"]))).softmax(-1)
    assert found.numpy() == pytest.approx(np.array([[0.3, 0.7], [0.9, 0.1]]), abs=0.01)


def test_rows_of_no_weight_teach_nothing():
    learnt = pa.chunked_array([strings(["sun"] * 20 + ["rain"] * 20 + ["sun"] * 60)])
    targets = torch.eye(2)[torch.tensor([1] * 20 + [0] * 80)]
    weights = torch.tensor([1.0] * 40 + [0.0] * 60).unsqueeze(-1)
    model = fit_linear(learnt, targets, weights, heads_of(MOOD), "words")
    assert model.logits(strings(["sun", "rain"])).argmax(1).tolist() == [1, 0]


def test_a_linear_student_is_a_labeler_like_any_other(student):
    labeler = StudentLabeler(student)
    assert labeler.kind == "linear"
    assert labeler.labels == ("bad", "good")
    found = labeler.label(["lovely fine", "grey and dull", None, "  ", "zzz"])
    assert found["student_label"][:4] == [1, 0, -1, -1]
    assert found["student_confidence"][2:4] == [None, None]
    assert found["student_scores"][2] is None
    assert np.exp(found["student_scores"][0]).sum() == pytest.approx(1)
    data = Dataset.from_dict({"text": ["lovely", None]}).map(labeler, batched=True, features=None)
    assert data["student_label"][:] == [1, -1]
    again = pickle.loads(pickle.dumps(labeler)).label(["lovely fine"])
    assert again["student_scores"][0] == found["student_scores"][0]


def test_its_figures_are_noted_as_those_of_an_encoder(student):
    noted = json.loads((student / "metrics.json").read_text())
    assert noted["eval"]["accuracy"] == 1.0
    assert (noted["train"]["n_gold"], noted["train"]["student"]) == (72, "linear")
    assert noted["train"]["unit"] in ("words", "characters")
    assert sorted(path.name for path in student.iterdir() if path.suffix in (".safetensors", ".json")) == [
        "config.json", "linear.safetensors", "metrics.json", "stage.json", "training.json", "vocabulary.json",
    ]  # fmt: skip


def test_a_pool_in_arrow_gets_the_labels_of_lists(student, tmp_path, monkeypatch):
    texts = [*TEXTS, None, " ", "bad\ufdd0half", "ünïcode ﬁne", "\ufdd1"] * 5
    for name, kind in (("short", pa.string()), ("long", pa.large_string())):
        pq.write_table(pa.table({"text": pa.array(texts, kind)}), tmp_path / f"{name}.parquet")
        monkeypatch.setattr(fast, "_ROWS", 7)
        label_pool(tmp_path / f"{name}.parquet", StudentLabeler(student), tmp_path / name, 100, False)
        found = read_pool(tmp_path / name)
        expected = StudentLabeler(student).label(texts)
        assert found["student_label"][:] == expected["student_label"]
        assert found["student_label"][:].count(-1) == 20
        assert found["student_scores"][:] == expected["student_scores"]
        assert found.features["student_label"].names == ["bad", "good"]


def test_threads_change_nothing(student, monkeypatch):
    expected = StudentLabeler(student).label(TEXTS)
    monkeypatch.setattr(fast, "_FEWEST", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert StudentLabeler(student).label(TEXTS) == expected


def test_strings_that_are_no_text_are_passed_over_alike():
    texts = ["a", None, "", " \n", "\ufdd1 \ufdd1", "x\ufdd0", "b\ufdd1c"]
    for given in (texts, pa.array(texts), pa.array(texts, pa.large_string())):
        found, places = usable_strings(given)
        assert found.to_pylist() == ["a", "b\ufdd1c"]
        assert places.tolist() == [0, 6]


def test_what_is_behind_the_longest_text_is_not_read(student, monkeypatch):
    monkeypatch.setattr(fast, "LONGEST_TEXT", 20)
    labeler = StudentLabeler(student)
    cut, whole = labeler.label(["lovely fine. grey dull", "lovely fine. grey du"])["student_scores"]
    assert cut == whole


def test_pieces_are_bounded_by_rows_and_bytes(monkeypatch):
    monkeypatch.setattr(fast, "_BYTES", 10)
    texts = strings(["aaaa", "bbbb", "c" * 30, "d", "e"])
    assert [piece.to_pylist() for piece in fast.pieces(texts, 2)] == [["aaaa", "bbbb"], ["c" * 30], ["d", "e"]]
    assert [piece.to_pylist() for piece in fast.pieces(strings([]), 2)] == [[]]


def test_several_questions_of_all_kinds_are_learnt(args, tmp_path):
    questions = (
        Choice("mood", ("bad", "good"), "?"),
        Choices("about", ("day", "film"), "?"),
        Scale("stars", ("1", "2", "3"), "?"),
    )
    task = TaskSpec("several", (), "{text}", questions=questions)
    about = [[i for i, word in enumerate(("day", "film")) if word in text] for text in TEXTS]
    stars = [1.0 + 2 * label for label in LABELS]
    stars[0] = None
    rows = Dataset.from_dict({"text": TEXTS, "mood": LABELS, "about": about, "stars": stars})
    args.threshold_share = 0.2
    found = train_fast(task, "linear", tmp_path / "s", args, gold=rows, eval_data=rows)
    assert found["eval"]["mood"]["accuracy"] == 1.0
    assert found["eval"]["about"]["micro_f1"] > 0.95
    assert found["eval"]["stars"]["spearman"] > 0.8
    assert StudentLabeler(tmp_path / "s").label(["what a fine film"])["student_about_labels"] == [[1]]
    args.scale_loss = "regression"
    found = train_fast(task, "linear", tmp_path / "r", args, gold=rows, eval_data=rows)
    assert found["eval"]["stars"]["mae"] < 0.3


def test_fields_are_read_as_one_text(args, tmp_path):
    task = TaskSpec("pairs", ("bad", "good"), "{first} then {second}: good or bad?")
    rows = mood_rows(task).rename_column("text", "second").add_column("first", ["well"] * len(TEXTS))
    train_fast(task, "linear", tmp_path / "s", args, gold=rows)
    labeler = StudentLabeler(tmp_path / "s", ("first", "second"))
    pq.write_table(pa.table({"first": ["well", "x"], "second": ["lovely", "grey"]}), tmp_path / "pool.parquet")
    label_pool(tmp_path / "pool.parquet", labeler, tmp_path / "labels", show_progress=False)
    assert read_pool(tmp_path / "labels")["student_label"][:] == [1, 0]


def test_texts_without_spaces_are_read_by_letters_or_characters_whichever_is_right_more_often():
    rng = np.random.default_rng(0)
    filler = [chr(0x4E00 + i) for i in range(200)]
    texts, labels = [], []
    for i in range(120):
        around = ["".join(rng.choice(filler, 6)) for _ in range(2)]
        texts.append(around[0] + ("天氣很好" if i % 2 else "非常糟糕") + around[1])
        labels.append(i % 2)
    targets, learnt = torch.eye(2)[torch.tensor(labels)], pa.chunked_array([strings(texts)])
    _, tried = choose_unit(learnt, targets, torch.ones(120, 1), heads_of(MOOD), "cross_entropy")
    assert tried == {"words": 1.0, "characters": 1.0}
    joined = [text.encode().hex() for text in texts]  # without spaces, in letters of a script that has them
    unit, tried = choose_unit(
        pa.chunked_array([strings(joined)]), targets, torch.ones(120, 1), heads_of(MOOD), "cross_entropy"
    )
    assert unit == "characters"
    assert tried["characters"] > tried["words"]


def test_long_texts_with_spaces_are_counted_by_words_untried():
    texts = pa.chunked_array([strings([f"{text} " * 40 for text in TEXTS])])
    targets = torch.eye(2)[torch.tensor(LABELS)]
    assert choose_unit(texts, targets, torch.ones(len(TEXTS), 1), heads_of(MOOD), "cross_entropy") == ("words", None)


def test_the_vocabulary_is_bounded():
    texts = pa.chunked_array([strings([f"w{i} w{i + 1} w{i}" for i in range(3000)] * 2)])
    grams = fit_grams(texts, "words", 1000)
    assert len(grams.units) == 500
    assert grams.size <= 1000
    assert fit_grams(pa.chunked_array([strings(["one two"])]), "words", 10).units.to_pylist() == ["one", "two"]


def test_what_is_no_word_is_not_learnt_however_often_it_comes():
    texts = pa.chunked_array([strings([f"{'x' * 257} {'ä' * 128} fine"] * 2)])
    assert fit_grams(texts, "words", 10).units.to_pylist() == ["fine", "ä" * 128]


def test_a_student_learns_what_it_will_read_in_pieces_of_bounded_bytes(monkeypatch):
    whole = pa.chunked_array([strings([f"{text} more" for text in TEXTS])])
    asked = fit_grams(pa.chunked_array([strings([text[:12] for text in TEXTS])]), "words", 100)
    monkeypatch.setattr(fast, "LONGEST_TEXT", 12)
    monkeypatch.setattr(fast, "_BYTES", 40)
    grams = fit_grams(whole, "words", 100)
    assert grams.units.equals(asked.units)
    assert grams.runs[2].tolist() == asked.runs[2].tolist()
    assert {len(part) for part in windows(whole)} == {3}


def test_texts_learnt_and_measured_on_are_told(args, tmp_path, caplog):
    held = mood_rows().select(range(5))
    train_fast(MOOD, "linear", tmp_path / "linear", args, gold=mood_rows(), eval_data=held)
    assert "5 of 72 gold texts to train on are also measured on: the figures will flatter" in caplog.text


def test_a_student_of_other_rows_is_replaced_only_where_it_may_be(student, args, tmp_path):
    before = (student / "linear.safetensors").read_bytes()
    fewer = {"gold": mood_rows().select(range(30)), "eval_data": mood_rows()}
    with pytest.raises(FileExistsError, match="holds the results of another run"):
        train_fast(MOOD, "linear", student, args, **fewer)
    assert (student / "linear.safetensors").read_bytes() == before
    assert train_fast(MOOD, "linear", student, args, **fewer, overwrite=True)["train"]["n_gold"] == 30
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="was not made by hf-llambert"):
        train_fast(MOOD, "linear", tmp_path / "mine", args, **fewer, overwrite=True)


def test_two_that_train_the_same_student_at_once_are_refused(args, tmp_path):
    with one_at_a_time(tmp_path / "linear"), pytest.raises(BlockingIOError, match="this very process"):
        train_fast(MOOD, "linear", tmp_path / "linear", args, gold=mood_rows())


def test_the_same_rows_give_the_same_student_byte_for_byte(args, tmp_path):
    for name in "ab":
        train_fast(MOOD, "linear", tmp_path / name, args, gold=mood_rows())
    for name in ("linear.safetensors", "vocabulary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_same_call_fits_nothing_again(student, args, monkeypatch):
    monkeypatch.setattr("hf_llambert.training.train_fast.fit_linear", None)
    found = train_fast(MOOD, "linear", student, args, gold=mood_rows(), eval_data=mood_rows())
    assert found["eval"]["accuracy"] == 1.0
    with pytest.raises(FileExistsError):
        train_fast(MOOD, "linear", student, args, gold=mood_rows().select(range(60)), eval_data=mood_rows())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tree"}, "kind must be one of linear, static, got 'tree'"),
        ({"gold": None}, "Nothing to train on"),
        ({"gold": mood_rows().select([0, 1, 2])}, "at least two labels"),
        ({"loss": "elr"}, "loss='elr' looks at epochs"),
    ],
)
def test_what_a_linear_student_cannot_learn_is_refused(change, message, args, tmp_path):
    given = {"kind": "linear", "gold": mood_rows(), **change}
    args.loss = given.pop("loss", args.loss)
    with pytest.raises(ValueError, match=message):
        train_fast(MOOD, given.pop("kind"), tmp_path / "s", args, **given)


def test_choices_of_encoders_are_refused_for_a_linear_student(student):
    for choice in ({"backend": "openvino"}, {"dtype": "bfloat16"}, {"long_texts": "mean"}, {"batch_tokens": 5}):
        with pytest.raises(ValueError, match="is a linear student: it computes in float32"):
            StudentLabeler(student, **choice)
    with pytest.raises(ValueError, match="Only an encoder embeds"):
        StudentLabeler(student).embed(["x"])


def _arrays(change):
    return lambda folder: save_file(
        {name: np.ascontiguousarray(one) for name, one in change(load_file(folder / "linear.safetensors")).items()},
        folder / "linear.safetensors",
    )


def _note(name, change):
    def rewrite(folder):
        note = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**note, **change(note)}))

    return rewrite


def _vocabulary(change):
    return _note("vocabulary.json", change)


def _runs(change):
    return _arrays(lambda found: {**found, "runs_of_2": change(found["runs_of_2"])})


DAMAGE = {
    "no arrays": (
        lambda folder: (folder / "linear.safetensors").write_bytes(b"no tensors"),
        "linear.safetensors' is damaged",
    ),
    "cut": (
        lambda folder: (folder / "linear.safetensors").write_bytes((folder / "linear.safetensors").read_bytes()[:99]),
        "linear.safetensors' is damaged",
    ),
    "no file": (lambda folder: (folder / "linear.safetensors").unlink(), "expected a .safetensors file in it"),
    "no vocabulary": (lambda folder: (folder / "vocabulary.json").unlink(), "vocabulary.json"),
    "bfloat16": (
        lambda folder: torch_file({"bias": torch.zeros(2, dtype=torch.bfloat16)}, folder / "linear.safetensors"),
        "linear.safetensors' is damaged",
    ),
    "fewer idf": (_arrays(lambda found: {**found, "idf": found["idf"][:-1]}), "expected idf, weights and bias of the"),
    "no bias": (
        _arrays(lambda found: {k: v for k, v in found.items() if k != "bias"}),
        "expected idf, weights and bias",
    ),
    "bias of no logits": (
        _arrays(lambda found: {**found, "bias": found["bias"].sum()}),
        "expected idf, weights and bias",
    ),
    "one more": (_arrays(lambda found: {**found, "code": found["bias"]}), "got bias float32 .*code float32"),
    "another width": (
        _arrays(lambda found: {**found, "weights": found["weights"].T}),
        "expected idf, weights and bias",
    ),
    "NaN": (
        _arrays(lambda found: {**found, "weights": found["weights"] * np.nan}),
        "expected finite numbers in float32",
    ),
    "infinite": (
        _arrays(lambda found: {**found, "bias": found["bias"] + np.inf}),
        "expected finite numbers in float32",
    ),
    "float64": (
        _arrays(lambda found: {**found, "weights": found["weights"].astype(np.float64)}),
        "expected finite numbers in float32",
    ),
    "idf of zero": (_arrays(lambda found: {**found, "idf": found["idf"] * 0}), "idf from 1 to 100"),
    "no pairs": (
        _arrays(lambda found: {k: v for k, v in found.items() if k != "runs_of_2"}),
        "expected runs of 2 to 2 words, got of none",
    ),
    "descending": (_runs(lambda keys: keys[::-1]), "expected runs of 2 words as ascending numbers, each once"),
    "twice": (_runs(lambda keys: np.sort(np.append(keys[1:], keys[-1]))), "as ascending numbers, each once"),
    "int32": (_runs(lambda keys: keys.astype(np.int32)), "as ascending numbers"),
    "a table": (_runs(lambda keys: keys[:, None]), "as ascending numbers"),
    "unknown words": (
        _runs(lambda keys: np.append(keys[:-1], (9 << 16) | 60_000)),
        "linear.safetensors.*of the 23 words, got some of others",
    ),
    "negative": (
        _runs(lambda keys: np.append(np.int64(-1), keys[1:])),
        "linear.safetensors.*of the 23 words, got some of others",
    ),
    "too long": (
        _runs(lambda keys: np.append(keys[:-1], np.int64(1) << 40)),
        "linear.safetensors.*of the 23 words, got some of others",
    ),
    "letters": (
        _vocabulary(lambda note: {"unit": "letters"}),
        "expected words or characters at 'unit', got 'letters'",
    ),
    "no words": (_vocabulary(lambda note: {"units": [*note["units"][1:], None]}), "expected a string at 'units"),
    "a word twice": (
        _vocabulary(lambda note: {"units": [*note["units"][1:], "film"]}),
        "vocabulary.json.*got 23, 22 different",
    ),
    "an empty word": (_vocabulary(lambda note: {"units": [*note["units"][1:], ""]}), "none empty"),
    "many words": (
        _vocabulary(lambda note: {"units": [str(i) for i in range(60_000)]}),
        "expected 50,000 words at most",
    ),
    "words as characters": (_vocabulary(lambda note: {"unit": "characters"}), "expected characters, got '"),
    "half a character": (
        _vocabulary(lambda note: {"units": [*note["units"][1:], "\ud800"]}),
        "vocabulary.json' is damaged",
    ),
    "other questions": (
        _note(
            "training.json", lambda note: {"questions": [{**note["questions"][0], "labels": list("abc"), "size": 3}]}
        ),
        "its questions have 3 logits, the model 2",
    ),
    "no questions": (
        _note("training.json", lambda note: {"questions": []}),
        "expected a question at 'questions', got none",
    ),
    "another loss": (
        _note(
            "training.json", lambda note: {"questions": [{**note["questions"][0], "loss": "regression", "size": 1}]}
        ),
        "expected a kind and its loss, got 'choice' and 'regression'",
    ),
    "no width": (
        _note(
            "training.json",
            lambda note: {
                "questions": [
                    {
                        **note["questions"][0],
                        "kind": "scale",
                        "labels": ["1", "2"],
                        "loss": "regression",
                        "width": math.nan,
                    }
                ]
            },
        ),
        "expected a finite mean, and width and spread above 0, got .1.0, nan",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_and_hostile_files_are_refused_with_what_was_expected(name, student):
    damage, said = DAMAGE[name]
    damage(student)
    with pytest.raises(OSError, match=said):
        StudentLabeler(student).label(["a fine film"])


def test_a_vocabulary_that_is_too_long_is_not_read(student):
    with (student / "vocabulary.json").open("ab") as file:
        file.truncate(1 << 27)
    with pytest.raises(OSError, match="expected at most 67,108,864 bytes, got 134,217,728"):
        LinearModel.load(student)


def test_a_student_of_an_unknown_kind_is_named(student):
    training = json.loads((student / "training.json").read_text())
    (student / "training.json").write_text(json.dumps({**training, "kind": "quantum"}))
    with pytest.raises(ValueError, match="a student of kind 'quantum'; known are encoder, linear, static"):
        StudentLabeler(student).label(["x"])


def test_logits_that_overflow_are_no_label(student):
    _arrays(lambda found: {**found, "weights": np.sign(found["weights"]) * np.float32(3e38)})(student)
    with pytest.warns(UserWarning, match="gave no numbers"):
        found = StudentLabeler(student).label(["a fine and lovely day, what a fine film", "zzz"])
    assert found["student_label"][0] == -1
    assert found["student_label"][1] >= 0


def test_a_file_that_is_missing_is_named_with_what_to_do(student):
    (student / "vocabulary.json").unlink()
    with pytest.raises(FileNotFoundError, match="is a linear student without vocabulary.json. Restore it, or train"):
        StudentLabeler(student).label(["fine"])


def test_a_full_disk_is_one_sentence_where_a_student_is_measured(args, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hf_llambert.training.train_fast.evaluate_student", full)
    with pytest.raises(DiskFull, match="linear' cannot be written: No space left on device. Make room"):
        train_fast(MOOD, "linear", tmp_path / "linear", args, gold=mood_rows(), eval_data=mood_rows())


def test_an_encoder_is_measured_beside_the_linear_student_of_its_rows(student_dir, args, tmp_path):
    args.max_steps = 2
    task = replace(MOOD, labels=("negative", "positive"))
    rows = mood_rows(task)
    found = train_student(task, student_dir, tmp_path / "s", args, gold=rows, eval_data=rows)
    linear = found["linear"]
    assert linear["eval"]["accuracy"] == 1.0
    assert linear["difference"]["difference"] == pytest.approx(found["eval"]["accuracy"] - 1.0)
    assert StudentLabeler(tmp_path / "s" / "baseline").label(["lovely"])["student_label"] == [1]
    assert json.loads((tmp_path / "s" / "metrics.json").read_text())["linear"] == linear
    without = train_student(task, student_dir, tmp_path / "t", args, gold=rows, eval_data=rows, baseline=False)
    assert "linear" not in without
    assert not (tmp_path / "t" / "baseline").exists()


def test_vectors_are_for_static_students_and_no_others(args, tmp_path):
    with pytest.raises(
        ValueError, match="Expected vectors for a static student and for no other, got none for a static"
    ):
        train_fast(MOOD, "static", tmp_path / "s", args, gold=mood_rows())
