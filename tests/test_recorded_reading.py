"""What a recorded answer means: how it ended, numbers, and lines that cannot be read."""

import json
import math
import pickle

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_llambert import LLMLabeler, TaskSpec
from hf_llambert.tasks.questions import parse_label_map
from hf_llambert.teachers.batches import custom_id, write_batch
from hf_llambert.teachers.kinds import load_teacher, teacher_from_arguments
from hf_llambert.teachers.recorded import RecordedTeacher

TEXTS = ["a fine film", "a dull film", "no opinion"]


def asked(teacher, task, texts=TEXTS):
    replies = {}
    for part in teacher.ask(task, texts):
        replies |= part
    return [replies[i] for i in range(len(texts))]


def labels(task, replies):
    return [task.read(r.response, r.finish, r.structured)[0] for r in replies]


def answer(task, text, content="positive", usage=None, **choice):
    body = {"choices": [{"message": {"content": content}, **choice}], "usage": usage or {}}
    return {"custom_id": custom_id(task, text), "response": {"status_code": 200, "body": body}, "error": None}


def lines(path, *objects):
    path.write_bytes(b"".join((o if isinstance(o, bytes) else json.dumps(o).encode()) + b"\n" for o in objects))
    return str(path)


def test_answer_of_a_batch_that_was_cut_or_filtered_is_no_label_and_says_why(tmp_path, question):
    path = lines(
        tmp_path / "o.jsonl",
        answer(question, TEXTS[0], "At first it sounds positive", finish_reason="length"),
        answer(question, TEXTS[1], None, finish_reason="content_filter"),
        answer(question, TEXTS[2], "negative", finish_reason="stop"),
    )
    data = Dataset.from_dict({"text": TEXTS})
    labeler = LLMLabeler(question, RecordedTeacher(path, "m"), tmp_path / "ledger")
    out = data.map(labeler, batched=True, features=labeler.features(data))
    assert out["llm_label"][:] == [-1, -1, 0]
    assert out["llm_status"][:] == ["abstained", "abstained", "ok"]
    replies = asked(RecordedTeacher(path, "m"), question)
    assert [r.finish for r in replies] == ["length", "content_filter", "stop"]
    assert replies[0].response == "At first it sounds positive"


def test_end_of_scored_answers_is_that_of_their_one_token_and_does_not_matter(tmp_path, question):
    likeliest = [{"token": "positive", "logprob": -0.1}, {"token": "negative", "logprob": -3.0}]
    top = {"content": [{"token": "positive", "logprob": -0.1, "top_logprobs": likeliest}]}
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[0], logprobs=top, finish_reason="length"))
    (reply,) = asked(RecordedTeacher(path, "m", mode="score"), question, TEXTS[:1])
    assert reply.finish is None
    assert reply.scores == pytest.approx((-3.0, -0.1))


def test_whole_answer_counts_beside_one_that_was_cut(tmp_path, question):
    cut = answer(question, TEXTS[0], "negative or", finish_reason="length")
    path = lines(tmp_path / "o.jsonl", cut, answer(question, TEXTS[0], "positive", finish_reason="stop"))
    assert labels(question, asked(RecordedTeacher(path, "m"), question, TEXTS[:1])) == [1]


@pytest.mark.parametrize("structured", [True, False])
def test_request_file_tells_that_one_label_was_asked_for_as_json(tmp_path, question, structured):
    requests = tmp_path / "requests.jsonl"
    write_batch(question, TEXTS, requests, "m", structured=structured)
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[0], '{"label": "positive"}'))
    (reply,) = asked(RecordedTeacher(path, "m", requests=str(requests)), question, TEXTS[:1])
    assert reply.structured is structured


@pytest.mark.parametrize("count", [2**70, -5, "1e999", [], {"a": 1}, True])
def test_senseless_counts_of_a_batch_cost_no_answer(tmp_path, question, count):
    usage = {"prompt_tokens": count, "completion_tokens": 3}
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[0], usage=usage), answer(question, TEXTS[1], "negative"))
    data = Dataset.from_dict({"text": TEXTS[:2]})
    labeler = LLMLabeler(question, RecordedTeacher(path, "m"), tmp_path / "ledger")
    assert data.map(labeler, batched=True, features=labeler.features(data))["llm_label"][:] == [1, 0]


def test_half_a_character_in_an_answer_is_replaced_and_the_row_kept(tmp_path, question):
    bad = answer(question, TEXTS[0], "negative \ud83d")
    path = lines(tmp_path / "o.jsonl", bad, answer(question, TEXTS[1], "negative \ud83d\ude00"))
    replies = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert [r.response for r in replies] == ["negative \ufffd", "negative \U0001f600"]


@pytest.mark.parametrize("damage", [b"[" * 100_000, b'{"a":' * 100_000])
def test_answer_nested_too_deeply_is_its_rows_failure(tmp_path, question, damage):
    name = custom_id(question, TEXTS[0]).encode()
    deep = b'{"custom_id": "' + name + b'", "response": {"status_code": 200, "body": ' + damage
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[1], "negative"), deep)
    bad, good = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert "line 2 of 'o.jsonl' is nested too deeply" in bad.error
    assert good.response == "negative"


@pytest.mark.parametrize("place", ["status_code", "id"])
def test_number_of_too_many_digits_is_its_rows_failure(tmp_path, question, place):
    line = answer(question, TEXTS[0])
    line["response"][place] = "MANY"
    broken = json.dumps(line).replace('"MANY"', "9" * 5000)
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[1], "negative"), broken.encode())
    bad, good = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert "line 2 of 'o.jsonl' holds a number of thousands of digits" in bad.error
    assert good.response == "negative"


def test_answer_that_says_two_things_is_its_rows_failure(tmp_path, question):
    twice, several = (json.dumps(answer(question, text)) for text in TEXTS[:2])
    twice = twice.replace('"content": "positive"', '"content": "positive", "content": "negative"')
    several = json.loads(several)
    several["response"]["body"]["choices"] *= 2
    path = lines(tmp_path / "o.jsonl", twice.encode(), several, answer(question, TEXTS[2], "negative"))
    one, two, good = asked(RecordedTeacher(path, "m"), question, TEXTS[:3])
    assert "line 1 of 'o.jsonl' holds a field twice, with different values" in one.error
    assert two.error == "the answer has 2 choices, and one was asked for"
    assert good.response == "negative"


def test_bytes_that_are_no_text_are_their_rows_failure_with_the_line(tmp_path, question):
    bad = json.dumps(answer(question, TEXTS[0], "positive")).encode().replace(b"positive", b"positiv\xe9")
    path = lines(tmp_path / "o.jsonl", answer(question, TEXTS[1], "negative"), bad)
    failed, good = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert "line 2 of 'o.jsonl' is not UTF-8 at byte" in failed.error
    assert good.response == "negative"


def test_mark_of_utf8_before_the_first_line_is_no_damage(tmp_path, question):
    first = b"\xef\xbb\xbf" + json.dumps(answer(question, TEXTS[0])).encode()
    assert (
        asked(RecordedTeacher(lines(tmp_path / "o.jsonl", first), "m"), question, TEXTS[:1])[0].response == "positive"
    )


@pytest.mark.parametrize("log_p", [1000, 5, math.nan, math.inf, "x", None, [1], 10**400])
def test_number_that_is_no_log_probability_is_its_rows_failure(tmp_path, question, log_p):
    def top(first):
        likeliest = [{"token": "positive", "logprob": first}, {"token": "negative", "logprob": -3.0}]
        return {"content": [{"token": "x", "logprob": -0.1, "top_logprobs": likeliest}]}

    path = lines(
        tmp_path / "o.jsonl",
        answer(question, TEXTS[0], logprobs=top(log_p)),
        answer(question, TEXTS[1], logprobs=top(-0.2)),
    )
    bad, good = asked(RecordedTeacher(path, "m", mode="score"), question, TEXTS[:2])
    assert "shape" in bad.error
    assert good.scores == pytest.approx((-3.0, -0.2))


@pytest.mark.parametrize(
    "body",
    [None, [], "x", 7, {"choices": {}}, {"choices": [[]]}, {"choices": [{"message": []}]}, {"choices": [{"text": 7}]}],
)
def test_body_of_any_other_shape_is_its_rows_failure(tmp_path, question, body):
    odd = answer(question, TEXTS[0])
    odd["response"]["body"] = body
    path = lines(tmp_path / "o.jsonl", odd, answer(question, TEXTS[1], "negative"))
    bad, good = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert bad.error
    assert good.response == "negative"


def test_numbers_and_booleans_are_answers_as_they_would_be_written(tmp_path):
    stars = TaskSpec("stars", ("1", "2", "3"), "{text}")
    (tmp_path / "a.csv").write_text("text,response\none,1\nthree,3\nnone,\n")
    replies = asked(RecordedTeacher(str(tmp_path / "a.csv"), "m"), stars, ["one", "three", "none"])
    assert [r.response for r in replies] == ["1", "3", None]
    assert labels(stars, replies[:2]) == [0, 2]
    for column, expected in [([1.0, 2.5], ["1", "2.5"]), ([1, 2], ["1", "2"]), ([True, False], ["true", "false"])]:
        path = str(tmp_path / f"{expected[0]}{expected[1]}.parquet")
        Dataset.from_dict({"text": TEXTS[:2], "response": column}).to_parquet(path)
        assert [r.response for r in asked(RecordedTeacher(path, "m"), stars, TEXTS[:2])] == expected


def test_structured_column_is_read_as_the_json_that_it_was(tmp_path, question):
    path = str(tmp_path / "s.parquet")
    Dataset.from_dict({"text": TEXTS[:1], "response": [{"label": "positive"}]}).to_parquet(path)
    (reply,) = asked(RecordedTeacher(path, "m"), question, TEXTS[:1])
    assert json.loads(reply.response) == {"label": "positive"}
    assert labels(question, [reply]) == [1]


def test_column_of_ends_in_a_table_is_heeded(tmp_path, question):
    path = str(tmp_path / "t.parquet")
    columns = {"text": TEXTS, "response": ["positive"] * 3, "finish_reason": ["length", "stop", None]}
    Dataset.from_dict(columns).to_parquet(path)
    replies = asked(RecordedTeacher(path, "m"), question)
    assert [r.finish for r in replies] == ["length", "stop", None]
    assert labels(question, replies) == [-1, 1, 1]


def test_scores_that_no_float_holds_are_their_rows_failure(tmp_path, question):
    rows = ["[-1e3, -1]", "[" + "1" * 500 + ", 0]", "[" * 100_000, "[NaN, -1]", "{}", "[-0.5, -1.5]"]
    (tmp_path / "s.jsonl").write_text(
        "".join(json.dumps({"text": f"t{i}", "scores": row}) + "\n" for i, row in enumerate(rows))
    )
    teacher = RecordedTeacher(str(tmp_path / "s.jsonl"), "m", mode="score")
    replies = asked(teacher, question, [f"t{i}" for i in range(6)])
    assert [r.scores for r in replies] == [(-1000.0, -1.0), None, None, None, None, (-0.5, -1.5)]
    assert all(r.error for r in replies[1:5])


def test_refusals_other_words_for_a_cut_and_broken_answers_of_a_batch_are_no_labels(tmp_path, question):
    refusal = answer(question, TEXTS[0], None)
    refusal["response"]["body"]["choices"][0]["message"]["refusal"] = "I cannot. negative"
    path = lines(
        tmp_path / "o.jsonl",
        refusal,
        answer(question, TEXTS[1], "negative", finish_reason="FinishReason.MAX_TOKENS"),
        answer(question, TEXTS[2], "negative", finish_reason="stop", error={"code": 502}),
    )
    replies = asked(RecordedTeacher(path, "someone"), question)
    assert [reply.finish for reply in replies[:2]] == ["content_filter", "length"]
    assert labels(question, replies[:2]) == [-1, -1]
    assert "broke off" in replies[2].error


def test_without_its_requests_an_answer_that_is_json_of_a_label_alone_is_held_to_that(tmp_path, question):
    said = ['{"label": "positive"}', '{"label": "not positive, positive"}', 'Sure: {"label": "positive"}']
    path = lines(tmp_path / "o.jsonl", *(answer(question, t, a) for t, a in zip(TEXTS, said, strict=True)))
    replies = asked(RecordedTeacher(path, "m"), question)
    assert [reply.structured for reply in replies] == [True, True, False]
    assert labels(question, replies) == [1, -1, 1]


@pytest.mark.parametrize(
    ("end", "label"),
    [
        ("max_tokens", -1), ("MAX_TOKENS", -1), ("FinishReason.MAX_TOKENS", -1), ("SAFETY", -1), ("model_length", -1),
        ("refusal", -1), ("content-filter", -1), ("end_turn", 1), ("STOP", 1), ("eos", 1), (None, 1), ("odd", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "column",
    ["finish_reason", "stop_reason", "native_finish_reason", "finishReason", "done_reason", "llm_finish_reason"],
)
def test_end_in_a_table_is_read_as_an_endpoints(tmp_path, question, end, label, column):
    path = str(tmp_path / "t.parquet")
    Dataset.from_dict({"text": TEXTS[:2], "response": ["positive"] * 2, column: [end, "stop"]}).to_parquet(path)
    replies = asked(RecordedTeacher(path, "m"), question, TEXTS[:2])
    assert labels(question, replies) == [label, 1]


def test_end_in_a_table_may_be_an_object_and_a_status_is_none(tmp_path, question):
    path = str(tmp_path / "t.parquet")
    ends = [{"type": "length"}, {"type": "stop"}]
    columns = {"text": TEXTS[:2], "response": ["positive"] * 2, "finish_reason": ends, "status": ["blocked"] * 2}
    Dataset.from_dict(columns).to_parquet(path)
    assert labels(question, asked(RecordedTeacher(path, "m"), question, TEXTS[:2])) == [-1, 1]


def test_broken_answer_of_a_table_fails(tmp_path, question):
    path = str(tmp_path / "t.parquet")
    Dataset.from_dict({"text": TEXTS[:1], "response": ["positive"], "finish_reason": ["error"]}).to_parquet(path)
    assert "broken off" in asked(RecordedTeacher(path, "m"), question, TEXTS[:1])[0].error


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
@pytest.mark.parametrize("column", ["response", "label"])
def test_half_a_character_in_a_row_of_a_table_costs_at_most_that_row(tmp_path, question, name, column):
    rows = [{"text": TEXTS[0], column: "negative \ud83d"}, {"text": TEXTS[1] + "\udc00", column: "positive"}]
    rows += [{"text": TEXTS[2] + " \U0001f600 \\ud83d", column: "negative"}]
    (tmp_path / name).write_text(json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows)))
    texts = [TEXTS[0], TEXTS[1] + "\ufffd", TEXTS[2] + " \U0001f600 \\ud83d"]
    replies = asked(RecordedTeacher(str(tmp_path / name), "m"), question, texts)
    assert replies[1].error == "the recorded file has no answer about this text"  # with such a text nobody asks
    assert labels(question, replies[2:]) == [0]
    assert (
        replies[0].response == "negative \ufffd" if column == "response" else "none of the labels" in replies[0].error
    )


def test_column_of_responses_that_are_all_null_gives_way_to_the_labels(tmp_path, question):
    path = str(tmp_path / "t.parquet")
    columns = {"text": TEXTS, "llm_response": [None, None, ""], "llm_label": ["positive", "negative", None]}
    Dataset.from_dict(columns).to_parquet(path)
    assert [r.response for r in asked(RecordedTeacher(path, "m"), question)] == ["positive", "negative", ""]
    Dataset.from_dict(columns | {"llm_response": ["negative", None, None]}).to_parquet(path)
    assert [r.response for r in asked(RecordedTeacher(path, "m"), question)] == ["negative", None, None]


@pytest.mark.parametrize(
    ("column", "values"),
    [("label", ["positive", "Positive", "pos"]), ("response", ["positive", "Positive.", "The answer is positive"])],
)
def test_one_label_spelled_in_several_ways_is_no_disagreement(tmp_path, question, column, values):
    if column == "label":
        values = [*values[:2], values[0]]  # no abbreviation beside the label in full
    path = str(tmp_path / "t.parquet")
    Dataset.from_dict({"text": ["a"] * 3 + ["b"], column: [*values, "negative"]}).to_parquet(path)
    replies = asked(RecordedTeacher(path, "m"), question, ["a", "b"])
    assert labels(question, replies) == [1, 0]
    Dataset.from_dict({"text": ["a", "a"], column: ["positive", "NEGATIVE"]}).to_parquet(path)
    with pytest.raises(ValueError, match="different answers about the same text for 1 texts.*--on_disagreement fail"):
        asked(RecordedTeacher(path, "m"), question, ["a"])
    assert "differ" in asked(RecordedTeacher(path, "m", on_disagreement="fail"), question, ["a"])[0].error


def test_ids_and_mapped_names_of_one_label_are_no_disagreement(tmp_path, question):
    (tmp_path / "t.csv").write_text("text,label\na,good\na,fine\nb,bad\nc,NA\n")
    mapping = {"good": "positive", "fine": "positive", "bad": "negative", "NA": ""}
    replies = asked(RecordedTeacher(str(tmp_path / "t.csv"), "m", recorded_map=mapping), question, ["a", "b", "c"])
    assert [r.response for r in replies] == ["positive", "negative", ""]
    assert labels(question, replies) == [1, 0, -1]


def test_abstention_beside_a_label_about_the_same_text_is_a_disagreement(tmp_path, question):
    (tmp_path / "t.csv").write_text("text,label\na,positive\na,\n")
    with pytest.raises(ValueError, match="different answers"):
        asked(RecordedTeacher(str(tmp_path / "t.csv"), "m"), question, ["a"])


def test_class_column_abstains_where_it_has_no_class(tmp_path, question):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["Positive", "negative"])})
    path = str(tmp_path / "t.parquet")
    Dataset.from_dict({"text": TEXTS, "label": [0, -1, None]}, features=features).to_parquet(path)
    assert [r.response for r in asked(RecordedTeacher(path, "m"), question)] == ["positive", "", ""]


def test_recorded_file_has_an_encoding_a_delimiter_and_a_map_of_its_own(tmp_path, question):
    (tmp_path / "t.csv").write_bytes("text;label\nschön;gut\nöde;schlecht\n".encode("utf-16"))
    kwargs = {"recorded_map": ["gut=positive", "schlecht=negative"]}
    with pytest.raises(ValueError, match=r"Pass recorded_encoding='utf-16' \(--recorded_encoding utf-16\)"):
        asked(RecordedTeacher(str(tmp_path / "t.csv"), "m", **kwargs), question, ["schön"])
    kwargs["recorded_encoding"] = "utf-16"
    with pytest.raises(ValueError, match=r"Pass recorded_delimiter=';' \(--recorded_delimiter ';'\)"):
        asked(RecordedTeacher(str(tmp_path / "t.csv"), "m", **kwargs), question, ["schön"])
    kwargs["recorded_delimiter"] = ";"
    replies = asked(RecordedTeacher(str(tmp_path / "t.csv"), "m", **kwargs), question, ["schön", "öde"])
    assert [r.response for r in replies] == ["positive", "negative"]
    (tmp_path / "t.jsonl").write_bytes('{"text": "schön", "label": "gut"}\n'.encode("utf-16"))
    (reply,) = asked(RecordedTeacher(str(tmp_path / "t.jsonl"), "m", **kwargs), question, ["schön"])
    assert reply.response == "positive"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"recorded_encoding": "klingon"}, "--recorded_encoding"),
        ({"recorded_delimiter": ";;"}, "recorded_delimiter .--recorded_delimiter. must be one"),
        ({"recorded_map": ["positive"]}, "recorded_map takes pairs"),
        ({"recorded_map": "a=b"}, "recorded_map takes a mapping or pairs"),
        ({"recorded_map": {"1": True}}, "in quotes"),
        ({"recorded_map": {None: "positive"}}, "in quotes"),
    ],
)
def test_senseless_reading_of_a_recorded_file_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RecordedTeacher("a.csv", "m", **kwargs)


def test_another_reading_of_recorded_labels_is_another_answer_in_the_ledger(tmp_path):
    stars = TaskSpec("stars", ("1", "2", "3"), "{text}")
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 2]}).to_parquet(str(tmp_path / "t.parquet"))
    data = Dataset.from_dict({"text": ["a", "b"]})
    found = []
    for kwargs in ({"recorded_values": "names"}, {"recorded_values": "ids"}, {"recorded_map": {1: "3", 2: "1"}}):
        teacher = RecordedTeacher(str(tmp_path / "t.parquet"), "m", **kwargs)
        labeler = LLMLabeler(stars, teacher, tmp_path / "ledger")
        found.append(data.map(labeler, batched=True, features=labeler.features(data))["llm_label"][:])
    assert found == [[0, 1], [1, 2], [2, 0]]


def test_map_of_a_recorded_file_comes_from_the_command_line_and_from_yaml(tmp_path):
    words = ["--path", "a.csv", "--model", "m", "--recorded_map", "-1=negative", "--recorded_map", "1=positive", "NA="]
    made = teacher_from_arguments("recorded", words, 42)
    assert parse_label_map(made.recorded_map) == {"-1": "negative", "1": "positive", "NA": ""}
    (tmp_path / "t.yaml").write_text(
        "teacher: recorded\nmodel: m\npath: a.csv\nrecorded_map: {-1: negative, 1: positive, NA: null}\n"
    )
    assert load_teacher(tmp_path / "t.yaml") == made
    assert pickle.loads(pickle.dumps(made)) == made
