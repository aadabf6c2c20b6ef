import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset
from trl import TrlParser

from hf_llambert import StudentConfig, TaskSpec, load_task
from hf_llambert.annotation.ledger import Ledger

RECIPES = Path(__file__).parent.parent / "recipes"
sys.path.insert(0, str(RECIPES / "studies"))

import bias  # noqa: E402
import error_analysis  # noqa: E402
import prompts  # noqa: E402
import teachers  # noqa: E402

ARGUMENTS = {
    "prompts": prompts.PromptsArguments,
    "prompts_bbc": prompts.PromptsArguments,
    "teachers": teachers.TeachersArguments,
    "bias": bias.BiasArguments,
    "error_analysis": error_analysis.ErrorArguments,
}


@pytest.fixture
def data_file(reviews, tmp_path):
    texts = [f"{text} take {k}{', not that I mind' * (k % 2)}" for k in range(6) for text in reviews["text"]]
    path = tmp_path / "reviews.parquet"
    rows = Dataset.from_dict(
        {"text": texts, "label": reviews["label"][:] * 6, "source": [f"site {i % 3}" for i in range(len(texts))]}
    )
    rows.cast_column("label", ClassLabel(names=["negative", "positive"])).to_parquet(str(path))
    return path


@pytest.fixture
def recorded(data_file, tmp_path):
    """Answers given before: gold, but that every fifth text is called positive."""
    rows = Dataset.from_parquet(str(data_file))
    labels = [1 if i % 5 == 0 else label for i, label in enumerate(rows["label"])]
    path = tmp_path / "recorded.jsonl"
    Dataset.from_dict({"text": rows["text"][:], "llm_label": labels}).to_json(str(path))
    return path


@pytest.fixture
def parse(data_file, teacher_dir, student_dir, cloze, tmp_path):
    """The arguments of a study of tiny models, as from its YAML file, with some changed."""
    cloze.to_yaml(tmp_path / "task.yaml")
    settings = {
        "data": str(data_file), "teacher": teacher_dir, "student": student_dir, "task": str(tmp_path / "task.yaml"),
        "run": str(tmp_path / "run"), "num_held_out": 36, "num_annotated": 24, "max_length": 32, "num_train_epochs": 1,
        "learning_rate": 5e-3, "use_cpu": True, "disable_tqdm": True, "seed": 1,
    }  # fmt: skip

    def made(arguments, **changes):
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        parser = TrlParser((arguments, StudentConfig))
        parser.set_defaults(output_dir=None)
        own, training = parser.parse_args_and_config(["--config", str(path)])
        training.output_dir = str(tmp_path / "run" / "checkpoints")
        return own, training

    return made


def table_of(folder):
    return json.loads((folder / "table.json").read_text())["rows"]


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_shipped_studies_parse(name):
    parser = TrlParser((ARGUMENTS[name], StudentConfig))
    parser.set_defaults(output_dir=None)
    given = ["--config", str(RECIPES / "studies" / f"{name}.yaml"), "--output_dir", "x", "--bf16", "false"]
    arguments, _ = parser.parse_args_and_config(given)
    named = [arguments.task, *getattr(arguments, "prompts", [])]
    tasks = [load_task(RECIPES.parent / one if one.endswith(".yaml") else one) for one in named]
    assert {task.labels for task in tasks} == {tasks[0].labels}


# Prompts


@pytest.fixture
def wordings(cloze, question, tmp_path):
    TaskSpec.from_dict(cloze.to_dict() | {"name": "other", "lead_in": "In short:"}).to_yaml(tmp_path / "other.yaml")
    question.to_yaml(tmp_path / "question.yaml")
    return [str(tmp_path / "other.yaml"), str(tmp_path / "question.yaml")]


def test_every_prompt_is_measured_and_one_chosen_by_each_rule(parse, wordings, tmp_path):
    given = {"prompts": wordings, "shots": [0, 1], "modes": ["score", "generate"], "num_dev": 6, "num_example_rows": 8}
    choice = prompts.main(*parse(prompts.PromptsArguments, **given, num_annotated=16))
    table = table_of(tmp_path / "run")
    assert len(table) == 3 * 2 * (3 + 1)  # wordings, shots, three calibrations of scores and none of generated words
    assert {row["shots"] for row in table} == {0, 1}
    for row in table:
        assert row["low %"] <= row["accuracy %"] <= row["high %"]
        if row["mode"] == "generate":  # a written answer has no probability to choose by
            assert row["information %"] is row["confidence %"] is None
        else:
            assert 0 <= row["information %"] <= 1
            assert 0.5 <= row["confidence %"] <= 1
        assert 0 <= row["evenness %"] <= 1.0001
        assert row["tokens a text"] > 10
    assert all(row["coverage %"] == 1 for row in table if row["mode"] == "score")
    assert set(choice["rules"]) == set(prompts.RULES)
    for rule, column in prompts.RULES.items():
        assert table[choice["rules"][rule]["row"]][column] == max(
            row[column] for row in table if row[column] is not None
        )
    assert choice["chosen_without_gold"] == choice["rules"]["information"]
    assert choice["chosen_with_dev"]["num_dev"] == 6
    best = choice["best_in_hindsight"]["accuracy"]
    assert best == max(row["accuracy %"] for row in table)
    for found in (*choice["rules"].values(), choice["chosen_with_dev"]):
        assert found["behind_best"][0] == pytest.approx(best - found["accuracy"])
    chosen = load_task(tmp_path / "run" / "chosen.yaml")
    assert chosen.name == table[choice["chosen_without_gold"]["row"]]["prompt"]
    assert {"table.csv", "page.html", "figure.png"} <= {path.name for path in (tmp_path / "run").iterdir()}

    # Another rule asks nothing, and trains students behind the prompts where asked to.
    asked = len(Ledger(tmp_path / "run" / "ledger"))
    given |= {"rule": "agreement", "calibrations": ["batch"], "train_students": True, "modes": ["score"]}
    choice = prompts.main(*parse(prompts.PromptsArguments, **given, num_annotated=16))
    assert choice["rule"] == "agreement"
    assert len(Ledger(tmp_path / "run" / "ledger")) == asked
    table = table_of(tmp_path / "run")
    assert len(table) == 6
    assert all(0 <= row["student %"] <= 1 for row in table if row["student %"] is not None)
    folders = sorted((tmp_path / "run" / "students").glob("*/1/metrics.json"))
    written = [path.stat().st_mtime_ns for path in folders]
    assert written
    prompts.main(*parse(prompts.PromptsArguments, **given, num_annotated=16))
    assert [path.stat().st_mtime_ns for path in folders] == written


def test_a_single_prompt_is_measured_but_not_chosen_by_others(parse):
    given = {"calibrations": ["batch"], "num_annotated": 8}
    choice = prompts.main(*parse(prompts.PromptsArguments, **given))
    assert set(choice["rules"]) == {"information", "confidence"}
    assert choice["rules"]["confidence"]["rank_correlation"] is None
    with pytest.raises(ValueError, match="the others scores"):
        prompts.main(*parse(prompts.PromptsArguments, **given | {"modes": ["generate"]}))
    with pytest.raises(ValueError, match="agreement needs two prompts"):
        prompts.main(*parse(prompts.PromptsArguments, **given, rule="agreement"))


def test_worked_examples_are_the_shortest_gold_of_each_label_or_the_tasks_own(cloze, question):
    rows = Dataset.from_dict({"text": ["aaaa", "bb", "ccc", "d", " "], "label": [0, 1, 0, 1, 1]})
    task = prompts.with_examples(cloze, 3, rows, "text")
    assert [(one.text, one.label) for one in task.examples] == [
        ("ccc", "negative"),
        ("d", "positive"),
        ("aaaa", "negative"),
    ]
    assert prompts.with_examples(question, 1, rows, "text") == question
    assert prompts.with_examples(question, 0, rows, "text").examples == ()
    with pytest.raises(ValueError, match="5 worked examples need more gold texts of 'negative'"):
        prompts.with_examples(cloze, 5, rows, "text")


def test_rows_of_the_prompts_are_apart_and_from_the_end(parse):
    arguments, _ = parse(prompts.PromptsArguments, shots=[2], num_dev=10, num_example_rows=12)
    parts = prompts.read_rows(arguments, load_task(arguments.task))
    assert [len(part) for part in parts] == [36, 12, 10, 24]
    texts = [set(part["text"]) for part in parts]
    assert len(set.union(*texts)) == 36 + 12 + 10 + 24
    _, rest = prompts.split_rows(arguments, load_task(arguments.task))
    assert not texts[3] & set(rest["text"][:10])


def test_prompts_that_cannot_be_compared_are_refused(parse, wordings, tmp_path, recorded):
    with pytest.raises(ValueError, match="needs a name of its own"):
        prompts.main(*parse(prompts.PromptsArguments, prompts=[str(tmp_path / "task.yaml")]))
    TaskSpec("x", ("positive", "negative"), "{text}").to_yaml(tmp_path / "x.yaml")
    with pytest.raises(ValueError, match="same labels in the same order; 'x' has"):
        prompts.main(*parse(prompts.PromptsArguments, prompts=[str(tmp_path / "x.yaml")]))
    for wrong, said in (
        ({"rule": "luck"}, "rule takes information"),
        ({"shots": [-1]}, "0 or more"),
        ({"calibrations": []}, "calibrations takes"),
        ({"recorded": str(recorded)}, "given to one prompt"),
    ):
        with pytest.raises(ValueError, match=said):
            parse(prompts.PromptsArguments, **wrong)
    with pytest.raises(ValueError, match="too few"):
        prompts.main(*parse(prompts.PromptsArguments, num_dev=1000))


# Teachers


def test_teachers_are_compared_on_the_same_rows(parse, recorded, teacher_dir, tmp_path):
    written = {"teacher": "transformers", "model": teacher_dir, "mode": "generate"}
    (tmp_path / "writes.yaml").write_text(yaml.safe_dump(written))
    given = {"recorded": str(recorded), "teacher": "them/strong", "price_hour": 2.0, "num_annotated": 40}
    given |= {"teachers": [teacher_dir, str(tmp_path / "writes.yaml")], "student": []}
    found = teachers.main(*parse(teachers.TeachersArguments, **given))
    table = table_of(tmp_path / "run")
    assert [row["teacher"] for row in table] == ["strong", Path(teacher_dir).name, "writes"]
    strong, scored, wrote = table
    assert strong["accuracy %"] > max(scored["accuracy %"], wrote["accuracy %"])
    assert strong["money a million texts"] is None or strong["seconds a text"]
    assert scored["money a million texts"] == pytest.approx(scored["seconds a text"] / 3600 * 2 * 1e6)
    assert scored["tokens a text"] > 10
    assert len(found["pairs"]) == 3
    for pair in found["pairs"]:
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert pair["difference"] * 40 == pytest.approx(pair["only_first_right"] - pair["only_second_right"])
        assert 0 <= pair["p"] <= 1
    assert found["pairs"][0]["p"] < 0.05
    asked = len(Ledger(tmp_path / "run" / "ledger"))
    assert teachers.main(*parse(teachers.TeachersArguments, **given)) == found
    assert len(Ledger(tmp_path / "run" / "ledger")) == asked


def test_mcnemar_and_holm_are_as_in_the_books():
    assert teachers.mcnemar({"only_first_right": 0, "only_second_right": 0}) == 1
    assert teachers.mcnemar({"only_first_right": 5, "only_second_right": 0}) == pytest.approx(2 * 0.5**5)
    assert teachers.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert teachers.holm([0.9, 0.8]) == [1, 1]


def test_teachers_that_cannot_be_compared_are_refused(parse, teacher_dir, tmp_path):
    with pytest.raises(ValueError, match="at least one to compare"):
        parse(teachers.TeachersArguments)
    with pytest.raises(ValueError, match="one for each of the 2 teachers"):
        parse(teachers.TeachersArguments, teachers=["other"], tasks=["imdb"])
    with pytest.raises(ValueError, match="Two teachers have one name"):
        teachers.main(*parse(teachers.TeachersArguments, teachers=[teacher_dir]))
    arguments = parse(teachers.TeachersArguments, teachers=["other"], tasks=["bbc-news", "imdb"])
    with pytest.raises(ValueError, match="Task 'bbc-news' of teacher"):
        teachers.main(*arguments)


# Bias


def test_errors_are_compared_slice_by_slice(parse, recorded, tmp_path):
    (tmp_path / "groups.yaml").write_text("dull ones: dull|awful\nrare: zebra\n")
    given = {
        "recorded": str(recorded),
        "teacher": "them/strong",
        "calibration": "none",
        "min_slice": 5,
        "num_seeds": 2,
    }
    given |= {"slice_columns": ["source"], "groups": str(tmp_path / "groups.yaml"), "num_held_out": 60}
    table = bias.main(*parse(bias.BiasArguments, **given))
    names = [row["slice"] for row in table]
    assert {"class: negative", "class: positive", "source: site 1", "group: dull ones"} <= set(names)
    assert "group: rare" not in names  # too few texts
    assert sum(name.startswith("words: ") for name in names) >= 2
    by_name = {row["slice"]: row for row in table}
    negative, positive = by_name["class: negative"], by_name["class: positive"]
    assert positive["teacher errors %"] == 0  # it errs by calling texts positive
    assert negative["teacher errors %"] > 0.1
    assert negative["teacher gap %"] == pytest.approx(negative["teacher errors %"])
    for row in table:
        for who in ("teacher", "student"):
            assert row[f"{who} low %"] <= row[f"{who} errors %"] + 0.02
            assert 0 <= row[f"{who} p"] <= 1
        assert row["amplified %"] == pytest.approx(row["student gap %"] - row["teacher gap %"])
        assert row["amplified low %"] <= row["amplified %"] <= row["amplified high %"]
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "run" / "students").glob("*/metrics.json"))]
    assert len(stamps) == 2
    assert bias.main(*parse(bias.BiasArguments, **given)) == table
    assert stamps == [
        path.stat().st_mtime_ns for path in sorted((tmp_path / "run" / "students").glob("*/metrics.json"))
    ]


def test_an_amplified_gap_is_found_and_noise_is_not():
    random = np.random.default_rng(0)
    inside = np.arange(4000) % 2 == 0
    teacher = random.random(4000) < np.where(inside, 0.15, 0.05)
    students = random.random((3, 4000)) < np.where(inside, 0.35, 0.05)
    noise = random.random(4000) < 0.5
    table = bias.compared({"hard": inside, "noise": noise}, teacher, students)
    hard, other = table
    assert hard["teacher p"] < 0.001
    assert hard["amplified %"] == pytest.approx(0.2, abs=0.03)
    assert hard["amplified low %"] > 0.1
    assert hard["amplified p"] < 0.001
    assert other["amplified p"] > 0.05
    said = " ".join(bias.findings(table, teacher, students))
    assert "hard: the student amplifies its teacher's gap" in said
    assert "noise: the student" not in said
    same = bias.compared({"hard": inside}, teacher, teacher[None])
    assert same[0]["amplified %"] == 0
    assert same[0]["amplified p"] == 1


def test_slices_that_make_no_sense_are_refused(parse, reviews, cloze, tmp_path):
    path = tmp_path / "groups.yaml"
    for content, said in (
        ("- a\n", "expected names of groups"),
        ("a: '('\n", "group 'a' is no regular"),
        ("a: [", "cannot be read"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=said):
            bias.read_groups(str(path))
    arguments, _ = parse(bias.BiasArguments, slice_columns=["where"], min_slice=2)
    with pytest.raises(ValueError, match="Pass slice_columns"):
        bias.slices(reviews, cloze, arguments)
    many = Dataset.from_dict({"text": ["a b"] * 30, "label": [0, 1] * 15, "id": list(range(30))})
    arguments, _ = parse(bias.BiasArguments, slice_columns=["id"])
    with pytest.raises(ValueError, match="too many slices"):
        bias.slices(many, cloze, arguments)
    arguments, _ = parse(bias.BiasArguments)
    with pytest.raises(ValueError, match="No slice of the 16 texts has 30"):
        bias.slices(reviews, cloze, arguments)
    with pytest.raises(ValueError, match="2 or more"):
        parse(bias.BiasArguments, min_slice=1)


# Error analysis


@pytest.fixture
def exported(parse, recorded):
    given = {"recorded": str(recorded), "teacher": "them/strong", "calibration": "none", "num_errors": 12}

    def run(**changes):
        return error_analysis.main(*parse(error_analysis.ErrorArguments, **(given | changes)))

    return run


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows, encoding="utf-8-sig", delimiter=","):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_errors_are_exported_blind_and_never_over_judgements(exported, tmp_path):
    key = exported()
    run = tmp_path / "run"
    assert (run / "errors.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    rows = read_csv(run / "errors.csv")
    assert list(rows[0]) == ["id", "text", "judgement", "comment"]
    assert 0 < len(rows) <= 12
    assert {row["id"] for row in rows} == set(key["errors"])
    for error in key["errors"].values():
        assert len({error["gold"], error["teacher"], error["student"]} - {None}) > 1
    counts = table_of(run)
    assert sum(row["texts"] for row in counts[:-1]) == counts[-1]["texts"] == 36
    rows[0]["judgement"] = "mixed"
    write_csv(run / "errors.csv", rows)
    assert exported() == key  # again: what a judge wrote stays
    assert read_csv(run / "errors.csv")[0]["judgement"] == "mixed"
    for change in ({"num_errors": 1}, {"labels_shown": "named"}):
        with pytest.raises(FileExistsError, match="holds other errors, which may have been judged"):
            exported(**change)
    (run / "errors_key.json").unlink()
    with pytest.raises(FileExistsError, match=r"is there without errors_key\.json"):
        exported()
    assert read_csv(run / "errors.csv")[0]["judgement"] == "mixed"


def test_labels_are_shown_shuffled_or_named_where_asked(exported, tmp_path):
    key = exported(labels_shown="shuffled", run=str(tmp_path / "run"))
    for row in read_csv(tmp_path / "run" / "errors.csv"):
        error = key["errors"][row["id"]]
        assert sorted(row[f"label_{k}"] for k in (1, 2, 3)) == sorted(
            error[who] for who in ("gold", "teacher", "student")
        )
    key = exported(labels_shown="named", run=str(tmp_path / "named"))
    for row in read_csv(tmp_path / "named" / "errors.csv"):
        assert {who: row[who] for who in ("gold", "teacher", "student")}.items() <= key["errors"][row["id"]].items()


def test_a_text_cannot_be_a_formula_or_break_the_file():
    assert error_analysis.cell('=HYPERLINK("http://x")') == '\'=HYPERLINK("http://x")'
    assert error_analysis.cell("\t@sum\x00\r\nnext\ud800") == "'@sum \nnext?"
    assert error_analysis.cell("plain – text") == "plain – text"
    assert len(error_analysis.cell("word " * 20_000)) < 32_767


@pytest.fixture
def key():
    labels = [
        ("positive", "negative", "positive"),
        ("negative", "positive", "positive"),
        ("positive", "negative", "negative"),
    ]
    errors = {
        f"t{i}": {"text": error_analysis._digest(f"text, {i}"), "gold": gold, "teacher": teacher, "student": student}
        for i, (gold, teacher, student) in enumerate(labels)
    }
    accuracy = {"teacher": 0.9, "student": 0.8}
    return {"task": "tiny", "labels": ["negative", "positive"], "accuracy": accuracy, "errors": errors}


def rows_for(*judgements):
    return [{"id": f"t{i}", "text": f"text, {i}", "judgement": one, "comment": ""} for i, one in enumerate(judgements)]


def test_judgements_are_read_as_spreadsheets_save_them(key, tmp_path):
    path = tmp_path / "a.csv"
    expected = {"t0": "negative", "t2": "mixed"}
    for encoding, delimiter in (("utf-8-sig", ","), ("utf-8", ";"), ("utf-8", "\t")):
        write_csv(path, rows_for(" Negative ", "", "MIXED"), encoding, delimiter)
        assert error_analysis.read_judged(path, key) == expected
    rows = rows_for("negative", "", "mixed")[::-1]
    rows[0]["text"] = "'text,\r\n 2"  # line ends, blanks and the apostrophe may change
    write_csv(path, rows[:1] + rows[2:])  # a row may be missing, and the order another
    assert error_analysis.read_judged(path, key) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ("id,text\nt0,a\n", "row 1, line 1: expected the columns id, text and judgement"),
        ('id,text,judgement\nt0,"text, 0"\n', "row 2, line 2: expected 3 cells, got 2"),
        ('id,text,judgement\nt9,"text, 9",mixed\n', "row 2, line 2: id 't9' was not exported"),
        ('id,text,judgement\nt0,"text,\n 0",mixed\nt0,"text, 0",mixed\n', "row 3, line 4: id 't0' stands there twice"),
        ('id,text,judgement\nt0,"text, zero",mixed\n', "row 2, line 2: the text of t0 was changed"),
        (
            'id,text,judgement\nt0,"text, 0",good\n',
            "row 2, line 2: judgement 'good' is none of negative, positive, mixed",
        ),
        ('id,text,judgement\nt0,"text, 0" x,mixed\n', "row 2, line 2: no CSV"),
    ],
)
def test_a_malformed_file_is_refused_by_name_and_line(key, tmp_path, content, said):
    path = tmp_path / "judge.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        error_analysis.read_judged(path, key)
    assert str(path) in str(caught.value)


def test_a_file_in_another_encoding_is_refused(key, tmp_path):
    path = tmp_path / "judge.csv"
    path.write_bytes("id,text,judgement,für\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 at byte 19"):
        error_analysis.read_judged(path, key)


def test_verdicts_count_what_was_right_after_all(key):
    teacher = error_analysis.verdict("a", "teacher", {"t0": "negative", "t1": "mixed", "t2": "positive"}, key)
    assert teacher["errors judged"] == 3
    assert [teacher[f"{kind} %"] for kind in ("right", "mixed", "unclear", "wrong")] == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3]
    )
    assert teacher["right low %"] < 1 / 3 < teacher["right high %"]
    assert teacher["right or mixed low %"] < 2 / 3 < teacher["right or mixed high %"]
    assert teacher["judged accuracy %"] == pytest.approx(0.9 + 0.1 / 3)
    student = error_analysis.verdict("a", "student", {"t0": "negative", "t1": "positive"}, key)
    assert student["errors judged"] == 1  # on t0 it agrees with gold
    nobody = error_analysis.verdict("a", "student", {}, key)
    assert nobody["right %"] is None
    assert nobody["judged accuracy %"] is None


def test_judges_are_compared():
    # Krippendorff 2011, example C: 3 or 4 observers, 12 units, nominal; alpha is 0.743.
    table = """
        1 2 3 3 2 1 4 1 2 . . .
        1 2 3 3 2 2 4 1 2 5 . 3
        . 3 3 3 2 3 4 2 2 5 1 .
        1 2 3 3 2 4 4 1 2 5 1 .
    """
    judges = {
        f"judge {k}": {f"t{i}": value for i, value in enumerate(line.split()) if value != "."}
        for k, line in enumerate(table.strip().splitlines())
    }
    found = error_analysis.agreement(judges)
    assert found["alpha"] == pytest.approx(0.743, abs=0.0005)
    assert len(found["pairs"]) == 6
    assert error_analysis.agreement({"a": {"t0": "mixed"}, "b": {"t1": "mixed"}}) == {
        "pairs": [{"judges": ["a", "b"], "n": 0, "equal": None, "kappa": None}],
        "alpha": None,
    }
    assert error_analysis.majority({"a": {"t0": "x", "t1": "x"}, "b": {"t0": "y"}, "c": {"t1": "x"}}) == {
        "t0": "unclear",
        "t1": "x",
    }


def test_two_judges_are_read_back(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="Export the errors first"):
        exported(judged=["anna.csv"])
    key = exported()
    rows = read_csv(tmp_path / "run" / "errors.csv")
    gold = [key["errors"][row["id"]]["gold"] for row in rows]
    anna, ben = (
        [row | {"judgement": "mixed" if i < unsure else gold[i]} for i, row in enumerate(rows)] for unsure in (1, 2)
    )
    files = [write_csv(tmp_path / "anna.csv", anna), write_csv(tmp_path / "ben.csv", ben[:-1])]
    found = exported(judged=files)
    table = table_of(tmp_path / "run" / "judged")
    assert found["table"] == table
    assert [(row["judge"], row["model"]) for row in table] == [
        (judge, model) for judge in ("all judges", "anna", "ben") for model in ("teacher", "student")
    ]
    assert all(row["right %"] in (0, None) for row in table)  # the judges side with gold
    assert found["agreement"]["pairs"][0]["n"] == len(rows) - 1
    assert 0 < found["agreement"]["alpha"] < 1
    notes = json.loads((tmp_path / "run" / "judged" / "table.json").read_text())["how"]
    assert "1 have no judgement" in " ".join(notes)
    with pytest.raises(ValueError, match="needs a name of its own"):
        exported(judged=[files[0], files[0]])
    blank = write_csv(tmp_path / "blank.csv", rows)
    with pytest.raises(ValueError, match="has a judgement"):
        exported(judged=[blank])


def test_choices_that_make_no_sense_are_refused(exported):
    with pytest.raises(ValueError, match="labels_shown takes hidden, shuffled or named"):
        exported(labels_shown="all")
    with pytest.raises(ValueError, match="num_errors must be 1 or more"):
        exported(num_errors=0)
