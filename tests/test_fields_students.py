"""Students that read several columns: trained, loaded by plain transformers, and what stands after them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from tokenizers import processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    pipeline,
)

from fakes import CountingTeacher
from hf_llambert import (
    LLMLabeler,
    Publication,
    Review,
    StudentLabeler,
    StudentStep,
    TaskSpec,
    TeacherStep,
    annotate,
    build_queue,
    calibrate_cascade,
    cascade,
    embed_texts,
    export_review,
    import_review,
    label_pool,
    load_data,
    next_to_annotate,
    out_of_fold,
    push_run,
    read_evaluation,
    read_pool,
    row_texts,
    saved_calibration,
    select_silver,
    student_silver,
    train_seeds,
    train_student,
    write_queue,
    write_report,
)
from hf_llambert.report.status import run_status
from hf_llambert.review.page import _shown
from hf_llambert.tasks.texts import FIELD
from hf_llambert.training.inputs import Reading
from hub_fixtures import client, environment, hub  # noqa: F401  (fixtures)
from test_fields import make_pairs, rows
from test_training import arguments

SHOWN = ("premise", "hypothesis")


def make_student(student_dir, folder, types: bool) -> str:
    """An untrained encoder of pairs: BERT with token types, or DistilBERT without."""
    tokenizer = AutoTokenizer.from_pretrained(student_dir)
    second = "$B:1 [SEP]:1" if types else "[SEP] $B [SEP]"  # RoBERTa's pair has two separators between
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", f"[CLS] $A [SEP] {second}", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "num_labels": 2, "max_position_embeddings": 64}
    if types:
        bert = BertConfig(**shape, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
        model = BertForSequenceClassification(bert)
        torch.nn.init.normal_(model.bert.embeddings.token_type_embeddings.weight, std=1.0)  # so that wrong types show
    else:
        model = DistilBertForSequenceClassification(
            DistilBertConfig(**shape, dim=32, hidden_dim=64, n_layers=1, n_heads=2)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    note = Path(folder) / "tokenizer_config.json"  # which the tokenizer keeps the names of its inputs out of
    note.write_text(json.dumps(json.loads(note.read_text()) | {"model_input_names": names}))
    return str(folder)


@pytest.fixture(scope="module")
def encoder(student_dir, tmp_path_factory) -> str:
    return make_student(student_dir, tmp_path_factory.mktemp("pair"), types=True)


@pytest.fixture(scope="module")
def finished(encoder, tmp_path_factory):
    """A run about two columns, from the annotation to the labelled pool."""
    run = tmp_path_factory.mktemp("run")
    task, data = make_pairs(), rows(24)
    teacher = CountingTeacher(str(run / "log"))
    annotate(
        data, LLMLabeler(task, teacher, run / "ledger"), run / "annotated", gold_column="label", show_progress=False
    )
    silver, selection = select_silver(load_data(run), task, calibration=saved_calibration(run))
    given = {"eval_data": rows(10), "eval_name": "10 rows", "max_length": 32}
    train_student(task, encoder, run / "student", arguments(run), silver=silver, selection=selection, **given)
    label_pool(rows(10), StudentLabeler(run / "student"), run / "labels", show_progress=False)
    write_report(run)
    return run


def stock_logits(student, texts) -> torch.Tensor:
    """What plain transformers makes of the rows, by the model's card."""
    classify = pipeline("text-classification", model=str(student), top_k=None, function_to_apply="none", device="cpu")
    split = [text.split(FIELD, 1) for text in texts]
    given = [{"text": first, "text_pair": rest.replace(FIELD, "\n")} for first, rest in split]
    ids = classify.model.config.label2id
    out = [sorted(one, key=lambda answer: ids[answer["label"]]) for one in map(classify, given)]
    return torch.tensor([[answer["score"] for answer in one] for one in out])


# Encoding


def test_types_are_given_where_the_tokenizer_has_them(student_dir, tmp_path):
    for types, separator in ((True, 3), (False, None)):
        tokenizer = AutoTokenizer.from_pretrained(make_student(student_dir, tmp_path / str(types), types))
        assert ("token_type_ids" in tokenizer("a", "b")) is types
        assert Reading(64, 0.5, SHOWN).type_separator(tokenizer) == separator
        assert Reading(64).type_separator(tokenizer) is None


def encodes_as_stock(folder, fields, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = [text.split(FIELD, 1) for text in texts]
    stock = [tokenizer(text=a, text_pair=b.replace(FIELD, "\n")).input_ids for a, b in pairs]
    return Reading(64, 0.5, fields).encode(tokenizer, texts) == stock


@pytest.mark.parametrize("types", [True, False])
def test_fields_are_the_tokenizers_pair(student_dir, tmp_path, types):
    folder = make_student(student_dir, tmp_path / "s", types)
    texts = [f"the film{FIELD}was dull", f"{FIELD}b", f"a{FIELD}"]
    assert encodes_as_stock(folder, SHOWN, texts)
    assert encodes_as_stock(folder, ("a", "b", "c"), [f"{text}{FIELD}third" for text in texts])


def test_rows_that_need_no_cut_are_tokenised_in_one_call(encoder, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    calls = []
    plain = type(tokenizer).__call__
    monkeypatch.setattr(type(tokenizer), "__call__", lambda *a, **k: calls.append(1) or plain(*a, **k))
    Reading(64, 0.5, SHOWN).encode(tokenizer, row_texts(rows(200), SHOWN))
    assert len(calls) == 1


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("head_share", [0.0, 0.5, 1.0])
def test_student_cuts_the_longest_field_alone(encoder, slow, head_share):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    if slow:
        tokenizer = Slow(tokenizer)
    long = " ".join(["film"] * 300)
    for text, kept in ((f"a b c{FIELD}{long}", "a b c"), (f"{long}{FIELD}x y z", "x y z")):
        [row] = Reading(24, head_share, SHOWN).encode(tokenizer, [text])
        assert 18 <= len(row) <= 24
        assert f"[SEP] {kept} [SEP]" in tokenizer.decode(row).replace("[CLS]", "[SEP]")
    [row] = Reading(8, head_share, SHOWN).encode(tokenizer, [f"{long}{FIELD}{long}"])
    assert len(row) <= 8


class Slow:
    """A tokenizer that does not know where its tokens stand in the text."""

    is_fast = False

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, *args, **kwargs):
        assert "return_offsets_mapping" not in kwargs
        return self.tokenizer(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def test_control_tokens_in_a_field_are_text(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    rows = Reading(64, 0.5, SHOWN).encode(tokenizer, [f"a [SEP] b{FIELD}[CLS] c", f"a b{FIELD}c"])
    assert [row.count(3) for row in rows] == [2, 2]
    assert [row.count(2) for row in rows] == [1, 1]


def test_tokenizer_with_types_of_its_own_is_refused(student_dir, tmp_path):
    data = rows(8)
    folder = make_student(student_dir, tmp_path / "own", types=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP]:1 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.backend_tokenizer.save(f"{folder}/tokenizer.json")
    with pytest.raises(ValueError, match="tells the two texts of a pair apart in a way of its own"):
        train_student(make_pairs(), folder, tmp_path / "s", arguments(tmp_path), gold=data)


def test_tokenizer_with_types_for_a_model_without_is_refused(student_dir, tmp_path):
    folder, model = (Path(make_student(student_dir, tmp_path / str(types), types)) for types in (True, False))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model / name, folder / name)
    with pytest.raises(ValueError, match="model takes none"):
        train_student(make_pairs(), str(folder), tmp_path / "t", arguments(tmp_path), gold=rows(8))


# Training and labelling


@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("fields", [2, 3])
def test_student_is_what_plain_transformers_loads(student_dir, tmp_path, types, fields):
    folder = make_student(student_dir, tmp_path / "encoder", types)
    task = make_pairs() if fields == 2 else make_pairs("{premise} {hypothesis} {more}")
    data = rows(16).add_column("more", [f"number {i}" for i in range(16)])
    train_student(task, folder, tmp_path / "s", arguments(tmp_path), gold=data, eval_data=data, max_length=48)
    texts = row_texts(data, task.columns())
    assert read_evaluation(tmp_path / "s")["text"][:] == texts
    note = json.loads((tmp_path / "s" / "training.json").read_text())
    assert note["reading"]["fields"] == list(task.fields)
    assert ("token_type_ids" in AutoTokenizer.from_pretrained(tmp_path / "s")("a", "b")) is types
    texts += [FIELD.join(["", "bad film", "x"][:fields]), FIELD.join(["good", "", ""][:fields])]
    scores = torch.tensor(StudentLabeler(tmp_path / "s").label(texts)["student_scores"])
    assert scores == pytest.approx(stock_logits(tmp_path / "s", texts).log_softmax(-1), abs=1e-5)


def test_mix_of_silver_and_gold_seeds_and_folds_learn_pairs(encoder, tmp_path):
    task, data = make_pairs(), rows(16)
    args = arguments(tmp_path)
    args.dev_share = 0.25
    found = train_student(task, encoder, tmp_path / "s", args, silver=data.select(range(8)), gold=data)
    assert (found["train"]["n_silver"], found["train"]["n_gold"]) != (0, 0)
    seeds = train_seeds(task, encoder, tmp_path / "run", arguments(tmp_path), 2, gold=data, eval_data=data)
    assert len(seeds["accuracy"]["values"]) == 2
    p = out_of_fold(data, task, encoder, tmp_path / "folds", arguments(tmp_path), folds=2)
    assert p.shape == (16, 2)
    assert np.allclose(p.sum(1), 1)


def test_columns_of_other_names_are_passed_in_order_and_missing_ones_named(finished):
    data = rows(4)
    plain = StudentLabeler(finished / "student")(data[:])
    renamed = StudentLabeler(finished / "student", ("a", "b"))({"a": data["premise"][:], "b": data["hypothesis"][:]})
    assert plain == renamed
    with pytest.raises(ValueError, match="Column 'hypothesis' not found"):
        StudentLabeler(finished / "student")({"premise": ["x"]})
    with pytest.raises(ValueError, match="shows 2 columns"):
        StudentLabeler(finished / "student", ("a", "b", "c"))
    out = StudentLabeler(finished / "student")({"premise": [None, "a"], "hypothesis": [None, None]})
    assert out["student_label"][0] == -1 != out["student_label"][1]


@pytest.mark.parametrize("how", ["mean", "max"])
def test_parts_of_pairs_are_refused(finished, how):
    with pytest.raises(ValueError, match="reads them in one piece"):
        StudentLabeler(finished / "student", long_texts=how)


def test_note_without_a_field_is_damaged(finished, tmp_path):
    folder = shutil.copytree(finished / "student", tmp_path / "s")
    note = json.loads((folder / "training.json").read_text())
    note["reading"]["fields"] = []
    (folder / "training.json").write_text(json.dumps(note))
    with pytest.raises(OSError, match="damaged"):
        StudentLabeler(folder)


def test_map_in_processes_and_streaming_agree(finished):
    data, labeler = rows(8), StudentLabeler(finished / "student")
    plain = data.map(labeler, batched=True, features=labeler.features(data))
    several = data.map(labeler, batched=True, num_proc=2, features=labeler.features(data))
    stream = data.to_iterable_dataset().map(labeler, batched=True, features=labeler.features(data))
    assert plain["student_label"][:] == several["student_label"][:] == [row["student_label"] for row in stream]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "dataset"])
def test_pool_of_any_form_keeps_its_columns(finished, tmp_path, kind):
    data, pool = rows(10), tmp_path / f"pool.{kind}"
    {"parquet": data.to_parquet, "jsonl": data.to_json, "dataset": data.save_to_disk}[kind](str(pool))
    given = str(pool) if kind != "dataset" else load_from_disk(str(pool))
    label_pool(given, StudentLabeler(finished / "student"), tmp_path / "labels", show_progress=False)
    found, plain = read_pool(tmp_path / "labels"), StudentLabeler(finished / "student")(data[:])
    assert found["student_label"][:] == plain["student_label"]
    assert found["hypothesis"][:] == data["hypothesis"][:]
    lacking = data.remove_columns("hypothesis")
    with pytest.raises(ValueError, match="Column 'hypothesis' not found"):
        label_pool(lacking, StudentLabeler(finished / "student"), tmp_path / "other", show_progress=False)


def test_texts_of_fields_are_embedded_and_chosen(finished, encoder):
    student, texts = StudentLabeler(finished / "student"), row_texts(rows(8), SHOWN)
    assert student.embed(texts).shape == embed_texts(encoder, texts).shape == (8, 32)
    typed = embed_texts(encoder, texts, Reading(64, 1.0, SHOWN))
    assert not torch.allclose(typed, embed_texts(encoder, texts))
    for strategy in ("margin", "diverse"):
        assert len(next_to_annotate(texts, 3, student, strategy)) == 3
    pool = rows(8).remove_columns("label")
    labelled = pool.map(student, batched=True, features=student.features(pool))
    assert {"premise", "hypothesis"} <= set(student_silver(labelled, make_pairs(), 0.0).column_names)


# After the student


def test_report_shows_both_fields_and_its_table_stays_a_table(finished):
    text = (finished / "report.md").read_text()
    assert FIELD not in text
    cells = [line for line in text.splitlines() if line.startswith("| ") and " / the film" in line]
    assert cells
    assert all(line.count(" | ") == 4 for line in cells)
    page = (finished / "report.html").read_text()
    assert FIELD not in page
    shown = re.findall(r'<td class="text"[^>]*>(.*?)</td>', page, re.DOTALL)
    assert shown
    assert all(re.match(r"the (music|actors) .*\nthe film", one) for one in shown)


def test_cascade_asks_the_teacher_about_both_fields(finished, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "log"))
    labeler = LLMLabeler(make_pairs(), teacher, tmp_path / "l")
    student = StudentLabeler(finished / "student")
    label_pool(rows(10), student, tmp_path / "labels", show_progress=False)
    found = cascade(tmp_path / "labels", labeler, tmp_path / "cascade", below=1.0, show_progress=False)
    assert found
    assert set(teacher.asked()) <= set(row_texts(rows(10), SHOWN))
    assert len(teacher.asked()) == 10
    gold = rows(10).map(lambda row: {"hypothesis": row["hypothesis"] + " indeed"})
    assert calibrate_cascade(gold, student, labeler, 0.01, show_progress=False).n == 10
    assert set(teacher.asked()[10:]) <= set(row_texts(gold, SHOWN))
    assert len(teacher.asked()) > 10


def test_people_review_both_fields_and_gold_has_both_columns(finished, tmp_path):
    write_queue(tmp_path / "review", build_queue(finished, 6, 2))
    review = Review(tmp_path / "review")
    with review.session("Ann") as session:
        _, body = _shown(session, False)
        assert re.search(r"<b>premise</b>\nthe .*\n\n<b>hypothesis</b>\nthe film", body)
        session.answer(0, 1)
    gold = review.gold()
    assert gold.column_names[:3] == ["premise", "hypothesis", "label"]
    assert FIELD not in gold["premise"][0]
    assert gold["hypothesis"][0].startswith("the film")


@pytest.mark.parametrize("format", ["argilla", "label_studio"])
def test_other_tools_get_a_field_for_each_column(finished, tmp_path, format):
    write_queue(tmp_path / "review", build_queue(finished, 6, 2))
    review = Review(tmp_path / "review")
    with review.session("Ann") as session:
        session.answer(0, 1)
    export_review(review, tmp_path / "out.json", format, answers=True)
    [first, *_] = json.loads((tmp_path / "out.json").read_text())
    assert set(first["fields" if format == "argilla" else "data"]) - {"review_id"} == set(SHOWN)
    write_queue(tmp_path / "again", build_queue(finished, 6, 2))
    back = Review(tmp_path / "again")
    assert import_review(back, tmp_path / "out.json")
    assert [answer.label for given in back.answers().values() for answer in given.values()] == [1]


def test_column_called_as_the_id_of_a_row_is_not_exported(tmp_path):
    task, data = make_pairs("{premise} {review_id}"), rows().rename_column("hypothesis", "review_id")
    annotate(data, LLMLabeler(task, CountingTeacher(str(tmp_path / "log")), tmp_path / "l"), tmp_path / "annotated")
    write_queue(tmp_path / "review", build_queue(tmp_path, 4, 1))
    with pytest.raises(ValueError, match="'review_id'"):
        export_review(Review(tmp_path / "review"), tmp_path / "out.json", "label_studio")


def test_text_column_that_gold_has_too_is_refused(tmp_path):
    task = make_pairs("{premise} {reason}")
    data = rows().rename_column("hypothesis", "reason")
    annotate(data, LLMLabeler(task, CountingTeacher(str(tmp_path / "log")), tmp_path / "l"), tmp_path / "annotated")
    with pytest.raises(ValueError, match="'reason' has the name of a column of the gold dataset"):
        build_queue(tmp_path, 4, 1)


def test_steps_of_datatrove_take_fields_from_metadata(finished, tmp_path):
    from datatrove.data import Document

    def documents(n=4):
        return [Document(f"text {i}", str(i), metadata={k: rows(n)[k][i] for k in SHOWN}) for i in range(n)]

    labelled = list(StudentStep(finished / "student").run(iter(documents())))
    plain = StudentLabeler(finished / "student")(rows(4)[:])
    assert [one.metadata["student_label"] for one in labelled] == plain["student_label"]
    teacher = CountingTeacher(str(tmp_path / "log"))
    assert len(list(TeacherStep(make_pairs(), teacher, tmp_path / "l").run(iter(documents())))) == 4
    assert sorted(teacher.asked()) == sorted(row_texts(rows(4), SHOWN))
    with pytest.raises(ValueError, match="no document with 'hypothesis'"):
        list(StudentStep(finished / "student").run(iter([Document("a", "0", metadata={"premise": "x"})])))


def test_card_says_how_plain_transformers_reads_the_pair(hub, client, finished, tmp_path):  # noqa: F811
    run = shutil.copytree(finished, tmp_path / "run")
    client.push(run, "tester/pairs")
    code = """
        import json
        from datasets import load_dataset
        from huggingface_hub import ModelCard
        from transformers import pipeline
        from hf_llambert import LLMLabeler, StudentLabeler

        card = ModelCard.load("tester/pairs").text
        rows = load_dataset("tester/pairs", "labels", split="train")
        classify = pipeline("text-classification", model="tester/pairs")
        pairs = [{"text": a, "text_pair": b} for a, b in zip(rows["premise"], rows["hypothesis"])]
        print(json.dumps({
            "card": card,
            "stored": [rows.features["student_label"].int2str(k) for k in rows["student_label"]],
            "pipeline": [classify(pair)["label"] for pair in pairs],
            "column": StudentLabeler("tester/pairs").text_column,
        }))
    """
    found = json.loads(client.run(code))
    assert 'classify({"text": "...", "text_pair": "..."})' in found["card"]
    assert "`text` is *premise*, `text_pair` is *hypothesis*." in found["card"]
    assert found["pipeline"] == found["stored"]
    assert found["column"] == list(SHOWN)


def test_published_annotations_give_the_labeler_back(finished, tmp_path):
    teacher = CountingTeacher(str(tmp_path / "log"))
    note = json.loads((finished / "annotated" / "stage.json").read_text())
    assert TaskSpec.from_dict(note["config"]["task"]) == make_pairs()
    published = {
        "task": note["config"]["task"], "text_column": list(SHOWN), "teacher": {}, "identity": {}, "calibration": None,
    }  # fmt: skip
    (tmp_path / "annotation.json").write_text(json.dumps(published))
    labeler = LLMLabeler.from_dataset(str(tmp_path), tmp_path / "l", teacher)
    assert labeler.text_column == SHOWN


def test_next_command_names_the_column_of_the_text_alone(tmp_path):
    teacher, data = CountingTeacher(str(tmp_path / "log")), rows().rename_column("hypothesis", "body")
    for name, task, column in (("one", make_pairs("{premise} {text}"), "body"), ("two", make_pairs(), None)):
        shown = data if column else rows()
        annotate(shown, LLMLabeler(task, teacher, tmp_path / "l", column or "text"), tmp_path / name / "annotated")
        said = run_status(tmp_path / name)["next"]
        assert (" --text_column body" in said) is bool(column)
        assert ("--text_column" in said) is bool(column)


def test_missing_column_of_several_says_what_to_do(finished, encoder, tmp_path):
    lacking = rows(4).remove_columns("hypothesis")
    student = StudentLabeler(finished / "student")
    for do in (
        lambda: student(lacking[:]),
        lambda: label_pool(lacking, student, tmp_path / "p", show_progress=False),
        lambda: train_student(make_pairs(), encoder, tmp_path / "s", arguments(tmp_path), gold=lacking),
    ):
        with pytest.raises(
            ValueError, match=r"'hypothesis' not found .* premise, hypothesis are read together: rename the column"
        ):
            do()


def test_demo_of_several_fields_is_refused(finished):
    with pytest.raises(ValueError, match="A demo shows one text"):
        push_run(finished, Publication("tester/pairs", "apache-2.0", ("en",)), space=True)
