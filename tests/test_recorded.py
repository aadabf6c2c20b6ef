"""Answers read from files: tables, and what a batch service answered to `write_batch`."""

import csv
import json
import math
import pickle
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec
from hf_llambert.teachers.batches import custom_id, write_batch
from hf_llambert.teachers.recorded import RecordedTeacher

TEXTS = ["a fine film", "a dull film", "no opinion", "never asked"]


def asked(teacher, task, texts=TEXTS):
    replies = {}
    for part in teacher.ask(task, texts):
        assert not replies.keys() & part.keys()
        replies |= part
    return [replies[i] for i in range(len(texts))]


def table(tmp_path, name="labels.parquet", **columns):
    path = str(tmp_path / name)
    data = Dataset.from_dict(columns)
    {"parquet": data.to_parquet, "jsonl": data.to_json, "csv": data.to_csv}[name.split(".")[1]](path)
    return path


def answer(task, text, content="positive", **choice):
    body = {
        "choices": [{"message": {"content": content}, **choice}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }
    return {"custom_id": custom_id(task, text), "response": {"status_code": 200, "body": body}, "error": None}


def lines(path, *objects):
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))
    return str(path)


@pytest.mark.parametrize("name", ["labels.parquet", "labels.jsonl", "labels.csv"])
def test_table_of_labels_gives_them_back_by_name(tmp_path, question, name):
    path = table(tmp_path, name, text=TEXTS[:3], label=[1, 0, -1])
    replies = asked(RecordedTeacher(path, "someone"), question)
    assert [reply.response for reply in replies] == ["positive", "negative", "", None]
    assert "no answer" in replies[3].error
    assert [question.parse(reply.response) for reply in replies[:3]] == [1, 0, -1]


@pytest.mark.parametrize(
    "values", [["pos", "negative", ""], ["positive", "neg", None], ["Positive", "NEGATIVE", "-1"]]
)
def test_labels_may_be_names_and_abstentions_may_be_null_or_empty(tmp_path, question, values):
    path = table(tmp_path, text=TEXTS[:3], label=values)
    assert [r.response for r in asked(RecordedTeacher(path, "x"), question, TEXTS[:3])] == ["positive", "negative", ""]


def test_classes_in_another_order_than_the_tasks_are_told_by_name(tmp_path, question):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["positive", "negative"])})
    Dataset.from_dict({"text": TEXTS[:2], "label": [0, 1]}, features=features).save_to_disk(str(tmp_path / "saved"))
    replies = asked(RecordedTeacher(str(tmp_path / "saved"), "x"), question, TEXTS[:2])
    assert [r.response for r in replies] == ["positive", "negative"]


def test_label_that_is_none_of_the_tasks_fails_on_its_row_only(tmp_path, question):
    path = table(tmp_path, text=TEXTS[:2], label=["sideways", "negative"])
    bad, good = asked(RecordedTeacher(path, "x"), question, TEXTS[:2])
    assert "sideways" in bad.error
    assert good.response == "negative"


def test_raw_responses_are_given_back_unchanged_and_a_null_one_fails(tmp_path, question):
    path = table(tmp_path, text=TEXTS[:3], response=["It is positive.", "don't know", None])
    replies = asked(RecordedTeacher(path, "x"), question)
    assert [r.response for r in replies] == ["It is positive.", "don't know", None, None]
    assert all("no answer" in r.error for r in replies[2:])


def test_scores_and_probabilities_become_finite_log_probabilities(tmp_path, question):
    scores = table(tmp_path, "s.parquet", text=TEXTS[:3], scores=[[-0.5, -2.0], [-0.1], [0.5, -1.0]])
    one, short, positive = asked(RecordedTeacher(scores, "x", mode="score"), question, TEXTS[:3])
    assert one.scores == (-0.5, -2.0)
    assert "expected 2" in short.error
    assert "logarithms" in positive.error
    chances = table(tmp_path, "p.csv", text=TEXTS[:3], probabilities=["[0.25, 0.75]", "[0, 1]", "[2, 3]"])
    half, zero, wrong = asked(RecordedTeacher(chances, "x", mode="score"), question, TEXTS[:3])
    assert half.scores == pytest.approx((math.log(0.25), math.log(0.75)))
    assert all(map(math.isfinite, zero.scores))
    assert "no probabilities" in wrong.error


def test_row_numbers_are_joined_with_the_texts_they_count(tmp_path, question):
    texts = table(tmp_path, "texts.parquet", text=TEXTS)
    path = table(tmp_path, "rows.csv", row=[2, 0, 1], llm_label=[-1, 1, 0])
    replies = asked(RecordedTeacher(path, "x", texts=texts), question)
    assert [r.response for r in replies] == ["positive", "negative", "", None]


def test_ids_are_joined_with_the_texts_that_have_them(tmp_path, question):
    texts = table(tmp_path, "texts.jsonl", id=["a", "b", "c"], body=TEXTS[:3])
    path = table(tmp_path, "ids.csv", id=["b", "a"], label=["neg", "pos"])
    teacher = RecordedTeacher(path, "x", texts=texts, row_column="id", text_column="body")
    assert [r.response for r in asked(teacher, question)[:2]] == ["positive", "negative"]


def test_row_number_beyond_the_texts_is_refused(tmp_path, question):
    path = table(tmp_path, "rows.csv", row=[0, 4], label=[1, 0])
    with pytest.raises(ValueError, match="1 rows that the texts do not have, such as '?4"):
        asked(RecordedTeacher(path, "x", texts=table(tmp_path, text=TEXTS)), question)


def test_table_without_texts_says_what_to_pass(tmp_path, question):
    with pytest.raises(ValueError, match=r"texts=\.\.\."):
        asked(RecordedTeacher(table(tmp_path, "rows.csv", row=[0], label=[1]), "x"), question)


def test_text_with_two_different_labels_refuses_the_file_or_fails_alone(tmp_path, question):
    path = table(tmp_path, text=["twice", "twice", "same", "same", "once"], label=[0, 1, 1, 1, 0])
    with pytest.raises(ValueError, match="for 1 texts"):
        asked(RecordedTeacher(path, "x"), question)
    twice, same, once = asked(RecordedTeacher(path, "x", on_disagreement="fail"), question, ["twice", "same", "once"])
    assert "differ" in twice.error
    assert (same.response, once.response) == ("positive", "negative")


def test_several_columns_that_could_be_meant_are_not_guessed_among(tmp_path, question):
    path = table(tmp_path, text=["a"], label=[0], llm_label=[1])
    with pytest.raises(ValueError, match="label_column="):
        asked(RecordedTeacher(path, "x"), question, ["a"])
    assert asked(RecordedTeacher(path, "x", label_column="llm_label"), question, ["a"])[0].response == "positive"


def test_label_name_that_its_own_task_cannot_read_is_refused(tmp_path):
    task = TaskSpec("odd", ("~~struck", "plain"), "{text}")
    path = table(tmp_path, text=["a"], label=[0])
    with pytest.raises(ValueError, match="Rename the label"):
        asked(RecordedTeacher(path, "x"), task, ["a"])


def test_identity_follows_the_content_and_settings_show_no_path(tmp_path, question):
    first = RecordedTeacher(table(tmp_path, text=TEXTS[:2], label=[1, 0]), "meta-llama/Llama-2-70b-chat-hf")
    before = first.identity()
    assert pickle.loads(pickle.dumps(first)) == first
    settings = json.dumps(first.settings())
    assert str(tmp_path) not in settings
    assert all(word in settings for word in ("recorded", "Llama-2-70b", "labels.parquet"))
    table(tmp_path, text=TEXTS[:2], label=[1, 1])
    assert first.identity() != before
    assert [r.response for r in asked(first, question, TEXTS[:2])] == ["positive", "positive"]
    assert RecordedTeacher(first.path, "another").identity() != first.identity()


@pytest.mark.parametrize(
    "arguments",
    [{"model": " "}, {"mode": "guess"}, {"on_disagreement": "first"}, {"scores_column": "s"},
     {"response_column": "r", "label_column": "l"}],
)  # fmt: skip
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="model|mode|disagreement"):
        RecordedTeacher(**{"path": "x.csv", "model": "m", **arguments})


def test_recorded_rows_go_through_labeler_and_ledger(tmp_path, question):
    path = table(tmp_path, text=TEXTS[:3], label=[1, 0, -1])
    data = Dataset.from_dict({"text": [*TEXTS, TEXTS[0], ""]})
    labeler = LLMLabeler(question, RecordedTeacher(path, "x"), tmp_path / "ledger")
    out = data.map(labeler, batched=True, features=labeler.features(data))
    assert out["llm_label"][:] == [1, 0, -1, -1, 1, -1]
    assert out["llm_status"][:] == ["ok", "ok", "abstained", "failed", "ok", "abstained"]


# Batches


def test_batch_asks_each_usable_text_once_in_the_services_format(tmp_path, question):
    path = tmp_path / "requests.jsonl"
    written = write_batch(question, [*TEXTS, TEXTS[0], "", None, 7], path, "m", max_tokens=5, top_logprobs=3)
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    assert (written.files, written.requests, written.duplicates) == ((str(path),), 4, 1)
    assert sum(written.left_out.values()) == 3
    assert written.prompt_characters == sum(len(m["content"]) for r in requests for m in r["body"]["messages"])
    assert requests[0] == {
        "custom_id": custom_id(question, TEXTS[0]),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m", "messages": question.messages(TEXTS[0]), "temperature": 0, "max_tokens": 5, "seed": 42,
            "logprobs": True, "top_logprobs": 3,
        },
    }  # fmt: skip


def test_plain_task_asks_for_completions_and_structured_asks_for_a_label(tmp_path, cloze, question):
    write_batch(cloze, TEXTS, tmp_path / "plain.jsonl", "m")
    first = json.loads((tmp_path / "plain.jsonl").read_text().splitlines()[0])
    assert first["url"] == "/v1/completions"
    assert first["body"]["prompt"].endswith("Overall, the movie was")
    write_batch(question, TEXTS, tmp_path / "chat.jsonl", "m", structured=True, seed=None)
    body = json.loads((tmp_path / "chat.jsonl").read_text().splitlines()[0])["body"]
    assert body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == list(question.labels)
    assert "seed" not in body


def test_big_batch_is_split_by_requests_and_by_size(tmp_path, question):
    written = write_batch(question, TEXTS, tmp_path / "few.jsonl", "m", max_requests=3)
    assert [len(Path(f).read_text().splitlines()) for f in written.files] == [3, 1]
    assert written.files[0].endswith("few-00001.jsonl")
    size = len(json.dumps(json.loads((tmp_path / "few-00001.jsonl").read_text().splitlines()[0]))) + 30
    written = write_batch(question, [*TEXTS, "x" * 5000], tmp_path / "small.jsonl", "m", max_bytes=size)
    assert (len(written.files), written.requests) == (4, 4)
    assert written.left_out == {"request is larger than a whole file may be": 1}


def test_batch_is_written_whole_or_not_at_all_and_over_nothing(tmp_path, question):
    def broken():
        yield TEXTS[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        write_batch(question, broken(), tmp_path / "r.jsonl", "m")
    assert list(tmp_path.iterdir()) == []
    write_batch(question, TEXTS, tmp_path / "r.jsonl", "m", max_requests=2)
    with pytest.raises(FileExistsError, match="r-00001"):
        write_batch(question, TEXTS, tmp_path / "r.jsonl", "m")


def test_batch_never_writes_over_a_later_part(tmp_path, question):
    (tmp_path / "r-00002.jsonl").write_text("precious")
    with pytest.raises(FileExistsError, match="r-00002"):
        write_batch(question, TEXTS, tmp_path / "r.jsonl", "m", max_requests=2)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r-00002.jsonl", "precious")]


def test_batch_that_could_not_work_is_refused(tmp_path, question, cloze):
    led = TaskSpec("led", ("a", "b"), "{text}", lead_in="It is")
    for task, arguments, words in [
        (led, {}, "lead_in"), (cloze, {"structured": True}, "response_format"), (question, {"max_tokens": 0}, "max_tokens"),
        (question, {"structured": True, "top_logprobs": 2}, "bracket"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            write_batch(task, TEXTS, tmp_path / "r.jsonl", "m", **arguments)
    with pytest.raises(ValueError, match="No text"):
        write_batch(question, ["", None], tmp_path / "r.jsonl", "m")


def test_answers_of_a_batch_find_their_texts_in_any_order_and_failures_say_why(tmp_path, question):
    failed = {"custom_id": custom_id(question, TEXTS[2]), "response": {"status_code": 429, "body": {}},
              "error": {"code": "rate_limit", "message": "key sk-secret"}}  # fmt: skip
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[1], "negative"), failed, answer(question, TEXTS[0]))
    replies = asked(RecordedTeacher(path, "m"), question)
    assert [r.response for r in replies] == ["positive", "negative", None, None]
    assert (replies[0].input_tokens, replies[0].output_tokens) == (9, 2)
    assert "429" in replies[2].error
    assert "rate_limit" in replies[2].error
    assert "secret" not in replies[2].error
    assert "no answer" in replies[3].error


def test_structured_and_refused_answers_are_kept_as_they_came(tmp_path, question):
    refused = answer(question, TEXTS[1], None)
    refused["response"]["body"]["choices"][0]["message"]["refusal"] = "I cannot say."
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[0], '{"label": "positive"}'), refused)
    replies = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert [question.parse(reply.response) for reply in replies] == [1, -1]
    assert replies[1].response == "I cannot say."


def test_retry_in_another_output_file_replaces_a_failure(tmp_path, question):
    failed = {"custom_id": custom_id(question, TEXTS[0]), "response": None, "error": {"code": "expired"}}
    lines(tmp_path / "1.jsonl", failed)
    lines(tmp_path / "2.jsonl", answer(question, TEXTS[0]))
    assert asked(RecordedTeacher(str(tmp_path), "m"), question)[0].response == "positive"


def test_batch_that_answers_a_text_twice_differently_is_refused(tmp_path, question):
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[0]), answer(question, TEXTS[0], "negative"))
    with pytest.raises(ValueError, match="for 1 texts"):
        asked(RecordedTeacher(path, "m"), question)


def test_odd_answers_of_a_batch_fail_on_their_row(tmp_path, question):
    odd = answer(question, TEXTS[0])
    odd["response"]["body"] = {"choices": []}
    path = lines(tmp_path / "o.jsonl", odd, answer(question, TEXTS[1], None), answer(question, TEXTS[2], "negative"))
    shape, empty, good = asked(RecordedTeacher(path, "m"), question)[:3]
    assert "shape" in shape.error
    assert "no text" in empty.error
    assert good.response == "negative"


def test_output_that_was_cut_names_its_line(tmp_path, question):
    path = tmp_path / "o.jsonl"
    path.write_text(json.dumps(answer(question, TEXTS[0])) + '\n{"custom_id": "x", "resp')
    with pytest.raises(ValueError, match="Line 2 .* cut"):
        asked(RecordedTeacher(str(path), "m"), question)


def test_scores_come_from_the_first_tokens_and_none_is_made_up(tmp_path, question):
    def top(**tokens):
        items = [{"token": token, "logprob": p} for token, p in tokens.items()]
        return {"logprobs": {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": items}]}}

    both = answer(question, TEXTS[0], **top(**{" positive": -1.0, "positive": -2.0, "negative": -3.0, "posit": -0.9}))
    path = lines(
        tmp_path / "o.jsonl", both, answer(question, TEXTS[1], **top(positive=-0.1)), answer(question, TEXTS[2])
    )
    good, lone, none = asked(RecordedTeacher(path, "m", mode="score"), question)[:3]
    assert good.scores == pytest.approx((-3.0, math.log(math.exp(-1) + math.exp(-2))))
    assert "'negative' is among" in lone.error
    assert "top_logprobs" in none.error


def test_plain_completions_are_read_too(tmp_path, cloze):
    choice = {"text": " great", "logprobs": {"top_logprobs": [{" great": -0.2, " terrible": -3.0}]}}
    body = {"choices": [choice]}
    path = lines(
        tmp_path / "o.jsonl", {"custom_id": custom_id(cloze, "a"), "response": {"status_code": 200, "body": body}}
    )
    assert asked(RecordedTeacher(path, "m"), cloze, ["a"])[0].response == " great"


def test_batch_with_other_ids_is_matched_through_its_requests(tmp_path, question):
    asked_there = {"custom_id": "row-1", "body": {"messages": question.messages(TEXTS[1])}}
    requests = lines(tmp_path / "requests.jsonl", asked_there)
    path = lines(tmp_path / "o.jsonl", {**answer(question, "", "negative"), "custom_id": "row-1"})
    teacher = RecordedTeacher(path, "m", requests=requests)
    assert asked(teacher, question)[1].response == "negative"


def test_names_that_share_a_hash_are_told_apart(tmp_path, question, monkeypatch):
    monkeypatch.setattr("hf_llambert.teachers.recordings.name_hash", lambda name: 1)
    path = table(tmp_path, text=TEXTS[:2], label=[1, 0])
    replies = asked(RecordedTeacher(path, "collide"), question)
    assert [r.response for r in replies] == ["positive", "negative", None, None]


def test_csv_keeps_texts_that_look_like_nothing(tmp_path, question):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], ["NA", "positive"], ["None", "negative"]])
    replies = asked(RecordedTeacher(str(tmp_path / "t.csv"), "x"), question, ["NA", "None"])
    assert [r.response for r in replies] == ["positive", "negative"]


def test_other_teachers_annotations_can_be_read_again(tmp_path, cloze, reviews):
    labeler = LLMLabeler(cloze, CountingTeacher(str(tmp_path / "log")), tmp_path / "ledger")
    scored = reviews.map(labeler, batched=True, features=labeler.features(reviews))
    scored.save_to_disk(str(tmp_path / "annotated"))
    replies = asked(RecordedTeacher(str(tmp_path / "annotated"), "x", mode="score"), cloze, reviews["text"][:])
    assert [r.error for r in replies].count(None) > 0


@pytest.mark.parametrize("values", [["1", "2", "", "4"], ["4", "3", "2", "1"], ["1.0", "2.0", "5.0", ""]])
def test_recorded_numbers_that_are_names_stay_those_names(tmp_path, values):
    stars = TaskSpec("stars", ("1", "2", "3", "4", "5"), "{text}")
    path = table(tmp_path, text=TEXTS, label=values)
    names = [reply.response for reply in asked(RecordedTeacher(path, "someone"), stars)]
    assert names == [value.removesuffix(".0") for value in values]


def test_recorded_ids_of_which_some_are_names_are_refused_until_it_is_said(tmp_path):
    stars = TaskSpec("stars", ("1", "2", "3", "4", "5"), "{text}")
    path = table(tmp_path, text=TEXTS, label=[0, 1, 2, 4])
    with pytest.raises(ValueError, match="'0' is none of them.*--recorded_values ids"):
        asked(RecordedTeacher(path, "someone"), stars)
    said = asked(RecordedTeacher(path, "someone", recorded_values="ids"), stars)
    assert [reply.response for reply in said] == ["1", "2", "3", "5"]


def test_recorded_numbers_that_could_be_both_are_refused_until_it_is_said(tmp_path):
    stars = TaskSpec("stars", ("1", "2", "3", "4", "5"), "{text}")
    path = table(tmp_path, text=TEXTS, label=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="names of the labels .* or ids"):
        asked(RecordedTeacher(path, "someone"), stars)
    said = asked(RecordedTeacher(path, "someone", recorded_values="names"), stars)
    assert [reply.response for reply in said] == ["1", "2", "3", "4"]


def test_missing_id_is_nobodys_and_long_ids_stay_apart(tmp_path, question):
    (tmp_path / "texts.csv").write_text("id,text\n1234567890123456789,a fine film\n,a dull film\n")
    (tmp_path / "other.csv").write_text("id,label\n1234567890123456790,negative\n")
    (tmp_path / "gap.csv").write_text("id,label\n1234567890123456789,positive\n,negative\n")
    kwargs = {"texts": str(tmp_path / "texts.csv"), "row_column": "id"}
    with pytest.raises(ValueError, match="names 1 rows that the texts do not have, such as '?1234567890123456790"):
        asked(RecordedTeacher(str(tmp_path / "other.csv"), "someone", **kwargs), question)
    (tmp_path / "right.csv").write_text("id,label\n1234567890123456789,positive\n")
    replies = asked(RecordedTeacher(str(tmp_path / "right.csv"), "someone", **kwargs), question)
    assert [reply.response for reply in replies] == ["positive", None, None, None]


@pytest.mark.parametrize("name", ["gap.csv", "gap.parquet", "gap.jsonl"])
def test_row_without_an_id_is_left_out_alone_and_counted(tmp_path, question, caplog, name):
    path = table(tmp_path, name, id=[2, None, 1], label=["positive", "negative", "negative"])
    texts = table(tmp_path, "texts.parquet", id=[1, 2, 3], text=TEXTS[:3])
    replies = asked(RecordedTeacher(path, "someone", texts=texts, row_column="id"), question)
    assert [reply.response for reply in replies] == ["negative", "positive", None, None]
    assert "1 of 3 recorded answers have nothing in column 'id'" in caplog.text
    by_row = table(tmp_path, f"row{name}", row=[0, None, 2], label=["positive", "negative", "negative"])
    replies = asked(RecordedTeacher(by_row, "someone", texts=texts), question)
    assert [reply.response for reply in replies] == ["positive", None, "negative", None]


def test_table_without_any_id_is_refused(tmp_path, question):
    path = table(tmp_path, "none.csv", id=[None, " "], label=["positive", "negative"])
    with pytest.raises(ValueError, match="Column 'id' is empty"):
        asked(RecordedTeacher(path, "m", texts=table(tmp_path, id=["1"], text=TEXTS[:1]), row_column="id"), question)
