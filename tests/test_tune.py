"""`hf-llambert tune`: finds the prompt that a teacher does best with, and keeps what chose it out of later promises."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import resource
import shlex
import shutil
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml
from datasets import Dataset

from conftest import make_cloze, make_reviews
from endpoint_server import EndpointServer
from hf_llambert import (
    Choice,
    Choices,
    EndpointTeacher,
    Limits,
    LLMLabeler,
    RecordedTeacher,
    TaskSpec,
    Tuning,
    annotate,
    load_task,
    load_variants,
    tune_lines,
    tune_task,
    tuned_texts,
)
from hf_llambert.cli.run_rows import Drawn, read_rows
from hf_llambert.tasks.spec import Example
from hf_llambert.teachers.base import Reply
from hf_llambert.tuning.asking import Answers
from hf_llambert.tuning.candidates import example_sets, wordings
from hf_llambert.tuning.found import merit
from hf_llambert.tuning.halving import agreement, choose, information, most_requests, rounds, spread
from hf_llambert.tuning.kept import leave_out
from hf_llambert.tuning.lines import annotate_command
from hf_llambert.tuning.page import draw
from hf_llambert.tuning.written import _Trying
from hf_llambert.whole import DiskFull


@dataclass(frozen=True)
class Moody:
    """
    A teacher that understands the prompts in which a word stands, and mostly guesses in others. Notes what it was asked.

    `dies_after` kills the process after so many questions, as the kernel would.
    """

    log: str
    understands: str = "Overall, it was"
    mode: str = "score"
    dies_after: int = 0
    overlaps = False

    def identity(self):
        return {"teacher": "moody", "understands": self.understands, "mode": self.mode}

    def settings(self):
        return {**self.identity(), "model": "moody"}

    def asked(self):
        path = Path(self.log)
        return path.read_text().splitlines() if path.exists() else []

    def ask(self, task, texts, rank=None):
        for start in range(0, len(texts), 10):
            yield {i: self._reply(task, texts[i]) for i in range(start, min(start + 10, len(texts)))}

    def _reply(self, task, text):
        if self.dies_after and len(self.asked()) >= self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        prompt = json.dumps([task.messages(text), task.verbalizers])
        digest = hashlib.sha256(prompt.encode())
        with Path(self.log).open("a") as file:
            file.write(digest.hexdigest() + "\n")
        luck, told = digest.digest()[0], 0 if "awful" in text else 1
        label = told if luck >= (20 if self.understands in prompt else 120) else 1 - told
        if self.mode == "generate":
            return Reply(response=task.labels[label], seconds=0.1, input_tokens=len(prompt) // 4)
        scores = tuple(-0.2 if k == label else -2.0 - luck / 500 for k in range(task.num_labels))
        return Reply(scores=scores, seconds=0.1, input_tokens=len(prompt) // 4)


TASK = TaskSpec("boxes", ("negative", "positive"), "Into which box?\n{text}")


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Figures are rendered where a test asks for `drawn` only."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("hf_llambert.tuning.page.draw", lambda path, results: path.write_bytes(b"not drawn"))


@pytest.fixture
def moody(tmp_path):
    return Moody(str(tmp_path / "asked"))


def tuned(teacher, output, rows=120, task=TASK, column="label", **kwargs):
    data = make_reviews(rows) if isinstance(rows, int) else rows
    return tune_task(task, teacher, output, data, label_column=column, show_progress=False, **kwargs)


def test_prompt_that_the_teacher_understands_is_found_and_written_as_a_task(moody, tmp_path):
    estimates = []
    found = tuned(moody, tmp_path / "run", before=estimates.append)
    chosen, given = found["chosen"], found["given"]
    assert chosen["name"].startswith("overall, it was")
    assert chosen["right"] > given["right"] + 0.2
    assert chosen["difference"]["low"] > 0
    assert chosen["better"] > 0.95
    assert given["low"] < given["right"] < given["high"]
    assert chosen["expected"] < chosen["right"] + 1e-9
    task = load_task(tmp_path / "run" / "tuned.yaml")
    assert (task.name, task.labels, task.lead_in) == ("boxes", TASK.labels, "Overall, it was")
    assert 0 < len(moody.asked()) <= estimates[0]["n_requests"] == found["n_requests"]
    said = "\n".join(tune_lines(found, tmp_path / "run", "--data x"))
    assert re.search(r"best: overall, it was.*right; \d+ prompts compared, \d+ of them on all 80 texts", said)
    assert f"hf-llambert annotate --task {tmp_path / 'run' / 'tuned.yaml'} --data x --mode score --calibration" in said
    assert "tokens a text read" in said


def test_same_call_again_asks_nothing_and_other_arguments_are_refused(moody, tmp_path):
    first = tuned(moody, tmp_path / "run")
    count = len(moody.asked())
    (tmp_path / "run" / "tuned.yaml").unlink()
    assert tuned(moody, tmp_path / "run") == first
    assert len(moody.asked()) == count
    assert (tmp_path / "run" / "tuned.yaml").is_file()
    with pytest.raises(FileExistsError, match=r"another run \(.*shots"):
        tuned(moody, tmp_path / "run", tuning=Tuning(shots=(0,)))
    with pytest.raises(FileExistsError, match="rows"):
        tuned(moody, tmp_path / "run", tuning=Tuning(num_gold=60))


def test_killed_tuning_goes_on_and_asks_nothing_twice(moody, tmp_path):
    dying = replace(moody, dies_after=150)
    worker = multiprocessing.get_context("fork").Process(target=tuned, args=(dying, tmp_path / "run"))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert len(moody.asked()) == 150
    assert not (tmp_path / "run" / "tune").exists()
    found = tuned(moody, tmp_path / "run")
    asked = Counter(moody.asked())
    assert max(asked.values()) <= 2
    assert sum(times > 1 for times in asked.values()) < 10  # what was in flight, at most
    assert found["chosen"]["name"].startswith("overall")
    other = tuned(replace(moody, log=str(tmp_path / "other")), tmp_path / "other_run")
    assert other == found


def test_best_of_given_ways_that_tie_is_the_prompt_as_given():
    right = np.tile(np.arange(40) % 4 > 0, (3, 1))
    found = choose(right, [0.0, 0.9, 0.8])
    assert (found.best, found.difference[0], found.surely_best, found.better) == (0, 0.0, 1.0, 0.0)


def test_what_is_expected_elsewhere_is_less_than_what_chance_chose():
    right = np.random.default_rng(0).random((60, 40)) < 0.6
    found = choose(right, np.zeros(60))
    assert right[found.best].mean() > 0.72
    assert found.expected < 0.66
    assert found.surely_best < 0.6
    assert found.difference[0] > found.gain[0]


def test_clearly_better_way_is_surely_best():
    right = np.random.default_rng(0).random((4, 200)) < np.array([[0.5], [0.6], [0.95], [0.4]])
    found = choose(right, np.zeros(4))
    assert found.best == 2
    assert found.surely_best > 0.99
    assert abs(found.expected - 0.95) < 0.04


@pytest.mark.parametrize(
    ("wordings_", "sets", "rows"), [(1, 0, 20), (20, 4, 80), (9, 2, 25), (40, 0, 400), (3, 4, 33)]
)
def test_rounds_end_with_few_prompts_on_all_rows_and_count_their_requests(wordings_, sets, rows):
    plan = rounds(wordings_, sets, rows)
    assert plan[0].prompts == wordings_
    assert plan[-1].rows == rows
    assert all(one.rows <= two.rows for one, two in zip(plan, plan[1:], strict=False))
    counted, had = 0, 0
    for one in plan:
        counted += one.fresh * one.rows + (one.prompts - one.fresh) * (one.rows - had)
        had = one.rows
    assert most_requests(plan) == counted


def test_every_beginning_of_spread_rows_is_like_the_whole():
    classes = ["a"] * 60 + ["b"] * 20 + ["c"] * 20
    order = spread(classes, seed=1)
    assert sorted(order) == list(range(100))
    assert Counter(classes[row] for row in order[:10]) == {"a": 6, "b": 2, "c": 2}
    assert spread(classes, seed=1) == order != spread(classes, seed=2)


def test_information_is_of_sure_answers_that_differ():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert information(sure) == pytest.approx(1)
    assert information(np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0)
    assert information(np.full((2, 2), 0.5)) == pytest.approx(0)


def test_agreement_is_with_the_majority_of_the_others():
    found = dict(agreement({"a": [0, 1, 1], "b": [0, 1, 0], "c": [0, 1, 1], "d": [1, 0, 1]}))
    assert found["d"] == pytest.approx(1 / 3)
    assert found["a"] == 1


def test_wordings_are_the_given_one_first_and_no_two_ask_the_same():
    words = {"negative": ["bad"], "positive": ["good"]}
    variant = TaskSpec.from_dict({**TASK.to_dict(), "verbalizers": words})
    found = wordings(TASK, {"label": variant, "again": TASK}, ["score"])
    assert [found[0].name, found[0].task, found[0].origin] == ["as given", TASK, "given"]
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    assert "again" not in names
    assert {one.task.verbalizers for one in found} == {TASK.verbalizers, variant.verbalizers}
    assert not any("{definitions}" in one.task.instruction for one in found)
    written = wordings(TASK, {}, ["score", "generate"])
    assert all(one.task.chat for one in written if one.mode == "generate")
    told = TaskSpec.from_dict({**TASK.to_dict(), "descriptions": {"negative": "did not like it"}})
    assert any("{definitions}" in one.task.instruction for one in wordings(told, {}, ["score"]))


def test_tasks_of_several_fields_are_shown_all_of_them():
    pair = TaskSpec("pair", ("yes", "no"), "Does {premise} mean {hypothesis}?")
    found = wordings(pair, {}, ["score"])
    assert len(found) > 5
    assert all(one.task.fields == ("premise", "hypothesis") for one in found)


def test_examples_are_so_many_of_each_label_and_never_long():
    gold = [(f"{label} {'word ' * k}{k}", label) for label in TASK.labels for k in range(1, 200, 20)]
    sets = dict(example_sets(TASK, gold, (0, 1, 2, 9), seed=0))
    assert list(sets) == ["2 shortest examples", "2 diverse examples", "4 shortest examples", "4 diverse examples"]
    for name, examples in sets.items():
        assert Counter(one.label for one in examples) == dict.fromkeys(TASK.labels, int(name[0]) // 2)
        assert max(len(one.text) for one in examples) < 410
    assert sets["2 shortest examples"][0].text == "negative word 1"
    assert example_sets(TASK, gold[:10], (1,), seed=0) == []  # no positive text


def test_examples_come_from_gold_that_nothing_is_compared_on(moody, tmp_path):
    tuned(moody, tmp_path / "run", tuning=Tuning(num_gold=60, num_examples=10))
    rows = [json.loads(line) for line in (tmp_path / "run" / "tune" / "rows.jsonl").read_text().splitlines()]
    uses = Counter(row["use"] for row in rows)
    assert uses == {"example": 10, "compare": 50}
    assert len({row["text"] for row in rows}) == 60
    assert all(row["sha256"] == hashlib.sha256(row["text"].encode()).hexdigest() for row in rows)
    assert Counter(row["label"] for row in rows if row["use"] == "example") == {"negative": 5, "positive": 5}


def test_prompts_that_become_the_same_with_examples_are_asked_once_and_names_are_unique(moody, tmp_path):
    own = replace(TASK, examples=(Example("dull", "negative"), Example("fine", "positive")))
    variants = {"few": own, "as given, 2 shortest examples": replace(TASK, instruction="Which?\n{text}")}
    found = tuned(moody, tmp_path / "run", tuning=Tuning(variants=variants, built_in=False))
    names = [row["name"] for row in found["prompts"]]
    assert len(set(names)) == len(names)
    assert {"as given, 2 shortest examples", "as given, 2 shortest examples (given)"} <= {*names}
    assert not any(name.startswith("few,") for name in names)
    assert max(Counter(moody.asked()).values()) == 1


@pytest.mark.parametrize(("labels", "num_gold", "examples"), [(2, 20, 0), (2, 30, 10), (2, 60, 20), (9, 60, 0)])
def test_few_gold_rows_and_many_labels_keep_no_row_apart_in_vain(moody, tmp_path, labels, num_gold, examples):
    task = TaskSpec("many", tuple(f"label {k}" for k in range(labels)), "Which?\n{text}")
    data = Dataset.from_dict(
        {"text": [f"text {k}" for k in range(90)], "label": [f"label {k % labels}" for k in range(90)]}
    )
    found = tuned(moody, tmp_path / "run", data, task, tuning=Tuning(built_in=False, num_gold=num_gold))
    assert (found["n_rows"], found["n_examples"]) == (num_gold - examples, examples)
    assert bool(found["left_out"]) == (not examples)
    said = "\n".join(tune_lines(found, "r"))
    assert ("of 9 labels these are more than a prompt is given" in said) == (labels == 9)
    assert ("left out: worked examples, 1 of each label: only 0 of the rarest label" in said) == (num_gold == 20)


def test_task_that_is_tuned_again_is_compared_on_other_gold_and_all_that_chose_is_noted(moody, tmp_path, caplog):
    data = make_reviews(120)
    tuned(moody, tmp_path / "first", data, tuning=Tuning(num_gold=50, shots=(0,)))
    first = tuned_texts(tmp_path / "first" / "tuned.yaml")
    again = load_task(tmp_path / "first" / "tuned.yaml")
    given = {"tuning": Tuning(num_gold=40, shots=(0,)), "earlier": first}
    found = tuned(moody, tmp_path / "second", data, again, **given)
    assert "50 gold texts chose this task in an earlier hf-llambert tune" in caplog.text
    assert tuned_texts(tmp_path / "second" / "tuned.yaml") > first
    assert len(tuned_texts(tmp_path / "second")) == 90
    assert tuned(moody, tmp_path / "second", data, again, **given) == found
    tuned(moody, tmp_path / "plain", data, again, column=None, earlier=first, tuning=Tuning(num_texts=40))
    assert tuned_texts(tmp_path / "plain") == first
    lines = [json.loads(line) for line in (tmp_path / "plain" / "tune" / "rows.jsonl").read_text().splitlines()]
    assert not first & {line["text"] for line in lines if line["use"] == "compare"}


def test_changed_task_file_stays_and_a_foreign_one_is_refused(moody, tmp_path, caplog):
    path = tmp_path / "run" / "tuned.yaml"
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"tuned.yaml' is there and .* is not. Move it away"):
        tuned(moody, tmp_path / "run")
    assert (path.read_text(), moody.asked()) == ("mine", [])
    path.unlink()
    tuned(moody, tmp_path / "run", tuning=Tuning(shots=(0,)))
    tuned(moody, tmp_path / "run", tuning=Tuning(shots=(0,)))
    assert "was changed" not in caplog.text
    path.write_text(path.read_text() + "# my note\n")
    tuned(moody, tmp_path / "run", tuning=Tuning(shots=(0,)))
    assert path.read_text().endswith("# my note\n")
    assert "was changed since it was chosen, and stays" in caplog.text


def test_question_without_the_calibration_that_is_wanted_is_compared_uncalibrated(moody, tmp_path):
    topics = TaskSpec("topics", (), "{text}", questions=(Choices("topics", ("negative", "positive"), "Which hold?"),))
    data = make_reviews(60).map(lambda row: {"topics": [topics.questions[0].labels[row["label"]]]})
    tuning = Tuning({"short": replace(topics, instruction="Text: {text}")}, calibrations=("batch",))
    found = tuned(moody, tmp_path / "run", data, topics, column="topics", tuning=tuning)
    assert [list(row["calibrations"]) for row in found["prompts"]] == [["none"], ["none"]]


def test_gold_that_contradicts_itself_or_stands_in_a_prompt_is_left_out(moody, tmp_path, caplog):
    rows = make_reviews(60)
    texts, labels = rows["text"][:], rows["label"][:]
    doubled = Dataset.from_dict({"text": [*texts, texts[0]], "label": [*labels, 1 - labels[0]]}).cast_column(
        "label", rows.features["label"]
    )
    shown = replace(TASK, name="few", examples=(Example(texts[1], TASK.labels[labels[1]]),))
    found = tuned(moody, tmp_path / "run", rows=doubled, tuning=Tuning(variants={"few": shown}))
    used = {json.loads(line)["text"] for line in (tmp_path / "run" / "tune" / "rows.jsonl").read_text().splitlines()}
    assert used == {*texts[2:]}
    assert found["n_rows"] + found["n_examples"] == 58
    assert "1 gold texts have different labels" in caplog.text
    assert "1 gold texts are examples in a prompt" in caplog.text


def test_command_that_comes_next_can_be_pasted():
    chosen = {"mode": "score", "calibration": "none"}
    words = shlex.split(annotate_command(chosen, "my runs", "--data d.csv"))
    assert words[2:4] == ["--task", "my runs/tuned.yaml"]
    assert words[-6:] == ["--mode", "score", "--calibration", "none", "--output", "my runs"]
    of_file = annotate_command(chosen, "r", "--data d.csv --teacher mine.yaml")
    assert "--mode" not in of_file
    assert of_file.endswith("--output r  # with 'mode: score' in mine.yaml")


def test_without_gold_the_most_informed_prompt_is_chosen_and_the_price_is_said(moody, tmp_path):
    found = tuned(moody, tmp_path / "run", column=None, tuning=Tuning(num_texts=40))
    assert found["by"] == "information"
    information_of = {
        row["name"]: row["calibrations"]["batch"]["information"] for row in found["prompts"] if row["left"] is None
    }
    assert found["chosen"]["name"] == max(information_of, key=information_of.get)
    said = " ".join(tune_lines(found, tmp_path / "run"))
    assert "how often it is right is not known" in said
    assert "about 3 points behind the best" in said
    assert tuned_texts(tmp_path / "run") == frozenset()


def test_texts_without_scores_tell_nothing():
    sure, unsure = np.array([[0.99, 0.01], [0.01, 0.99]]), np.array([[0.8, 0.2], [0.2, 0.8]] * 2)
    some = np.vstack([sure, np.full((2, 2), np.nan)])
    told = [
        {"batch": unsure, "none": np.vstack([sure, sure])},
        {"batch": some},
        {"batch": np.full((4, 2), np.nan)},
        {},
    ]
    found = [merit(Answers(None, {}, one, {}, 0, 0, 0), SimpleNamespace(gold=())) for one in told]
    assert found[0] == (information(unsure), 0.0)  # by what annotate does unless told otherwise
    assert found[1] == (information(sure) / 2, 0.0)
    assert found[2] == found[3] == (0.0, 0.0)


@dataclass(frozen=True)
class Fickle(Moody):
    """Cannot be asked in other words any more after a while."""

    def ask(self, task, texts, rank=None):
        if "Into which box?" not in task.instruction and len(self.asked()) > 180:
            raise ValueError("too long for this model")
        yield from super().ask(task, texts, rank)


def test_prompts_that_cannot_be_asked_further_are_left_out_and_the_others_compared(moody, tmp_path):
    found = tuned(Fickle(moody.log), tmp_path / "run")
    assert "too long for this model" in found["left_out"].values()
    assert found["chosen"]["name"] not in found["left_out"]
    assert {row["n"] for row in found["prompts"] if row["left"] is None} == {found["n_rows"]}


@dataclass(frozen=True)
class Down(Moody):
    """Fails on all texts of one built-in prompt, with these words, while a file is not there."""

    says: str = ""

    def ask(self, task, texts, rank=None):
        if task.lead_in == "Category:" and not Path(f"{self.log}.well").exists():
            yield {i: Reply(error=self.says) for i in range(len(texts))}
        else:
            yield from super().ask(task, texts, rank)


@pytest.mark.parametrize("says", ["503 busy (after 8 attempts)", "no answer within 60 s (given up: deadline 900 s)"])
def test_prompt_that_an_outage_hit_stops_the_comparison_and_is_asked_again(moody, tmp_path, says):
    teacher = Down(moody.log, says=says)
    with pytest.raises(RuntimeError, match="'category': 20 of 20 texts have no reply .*what was answered is kept"):
        tuned(teacher, tmp_path / "run")
    Path(f"{moody.log}.well").touch()
    found = tuned(teacher, tmp_path / "run")
    assert found["left_out"] == {}
    assert "category" in {row["name"] for row in found["prompts"]}
    assert max(Counter(moody.asked()).values()) == 1


@pytest.mark.parametrize(
    "says",
    [
        "refused: 400 no system turns here",
        "500 no system turns (after 8 attempts)",
        "the answer is empty (after 8 attempts)",
    ],
)
def test_built_in_prompt_that_a_server_refuses_is_left_out(moody, tmp_path, says):
    found = tuned(Down(moody.log, says=says), tmp_path / "run", tuning=Tuning(shots=(0,)))
    assert found["left_out"] == {"category": says}


def test_teacher_that_writes_is_tuned_with_chats(moody, tmp_path):
    found = tuned(replace(moody, mode="generate", understands="Answer with the label only"), tmp_path / "run")
    assert found["chosen"]["mode"] == "generate"
    assert list(found["prompts"][0]["calibrations"]) == ["none"]
    assert "--mode generate --calibration none" in tune_lines(found, "run")[-1]


@dataclass(frozen=True)
class Writer:
    """Writes another instruction each time; only the second is one that the moody teacher understands."""

    log: str
    mode: str = "generate"
    max_new_tokens: int = 16
    overlaps = False

    def identity(self):
        return {"teacher": "writer", "mode": self.mode}

    settings = identity

    def ask(self, task, texts, rank=None):
        for i, text in enumerate(texts):
            with Path(self.log).open("a") as file:
                file.write(json.dumps(text) + "\n")
            count = len(Path(self.log).read_text().splitlines())
            words = ["Put {odd} text into a box", "Overall, it was\n{text}", "{", "Say {options}: {text}"][
                count % 4 - 1
            ]
            yield {i: Reply(response=f"Here it is:\n```\n{words}\n```")}


@pytest.fixture
def gepa(monkeypatch):
    """What is used of gepa: it tries the seed, lets an LLM reflect on three rows, and tries what comes."""

    @dataclass
    class EvaluationBatch:
        outputs: list
        scores: list
        trajectories: list | None = None

    def optimize(seed_candidate, trainset, valset, adapter, reflection_lm, reflection_prompt_template, **kwargs):
        candidates, scores = [seed_candidate], [np.mean(adapter.evaluate(valset, seed_candidate).scores)]
        state = SimpleNamespace(program_candidates=candidates)
        while not kwargs["stop_callbacks"](state):
            seen = adapter.evaluate(trainset[:3], candidates[-1], capture_traces=True)
            shown = adapter.make_reflective_dataset(candidates[-1], seen, ["instruction"])["instruction"]
            prompt = reflection_prompt_template.replace("<curr_param>", candidates[-1]["instruction"])
            said = reflection_lm(prompt.replace("<side_info>", json.dumps(shown)))
            candidates.append({"instruction": said.split("```")[1].strip()})
            scores.append(np.mean(adapter.evaluate(valset, candidates[-1]).scores))
        kwargs["logger"].log("done")
        return SimpleNamespace(candidates=candidates, val_aggregate_scores=scores)

    core = ModuleType("gepa.core.adapter")
    core.EvaluationBatch = EvaluationBatch
    package = ModuleType("gepa")
    package.optimize = optimize
    for name, module in (("gepa", package), ("gepa.core", ModuleType("gepa.core")), ("gepa.core.adapter", core)):
        monkeypatch.setitem(sys.modules, name, module)


def test_instructions_that_an_llm_wrote_are_compared_too_and_written_once(moody, tmp_path, gepa):
    tuning = Tuning(writer=Writer(str(tmp_path / "written")), num_written=3, built_in=False, shots=(0,))
    estimates = []
    found = tuned(moody, tmp_path / "run", tuning=tuning, before=estimates.append)
    written = [row["name"] for row in found["prompts"] if row["origin"] == "written"]
    assert written == ["written 1", "written 2", "written 3"]
    assert found["chosen"]["name"] == "written 1"
    assert load_task(tmp_path / "run" / "tuned.yaml").instruction == "Overall, it was\n{text}"
    assert len(moody.asked()) <= estimates[0]["n_requests"]
    prompts = (tmp_path / "written").read_text()
    assert "people say" in prompts
    rows = [json.loads(line) for line in (tmp_path / "run" / "tune" / "rows.jsonl").read_text().splitlines()]
    assert not any(json.dumps(row["text"])[1:-1] in prompts for row in rows if row["use"] == "compare")
    shutil.rmtree(tmp_path / "run" / "tune")
    (tmp_path / "run" / "tuned.yaml").unlink()
    asked = len(moody.asked())
    assert tuned(moody, tmp_path / "run", tuning=tuning)["chosen"] == found["chosen"]
    assert len(moody.asked()) == asked
    assert (tmp_path / "written").read_text() == prompts


def test_instruction_that_swaps_the_fields_of_a_row_is_none_to_try():
    pair = TaskSpec("pair", ("yes", "no"), "Does {premise} mean {hypothesis}?")
    trying = _Trying(pair, None, "score", None)
    assert trying.task_of("Is {hypothesis} said by {premise}?") is None
    assert trying.task_of("Given {premise}: is it true that {hypothesis}?").fields == pair.fields


def test_writer_without_gold_or_without_the_extra_is_refused(moody, tmp_path, monkeypatch):
    tuning = Tuning(writer=Writer(str(tmp_path / "written")))
    with pytest.raises(ValueError, match="An LLM writes by what the teacher gets wrong: that needs"):
        tuned(moody, tmp_path / "run", column=None, tuning=tuning)
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-llambert\[tune\]'"):
        tuned(moody, tmp_path / "run", tuning=tuning)
    with pytest.raises(ValueError, match="num_written must be 1 or more"):
        Tuning(writer=tuning.writer, num_written=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 12}, "12 rows have a label, and fewer than 20 choose by chance. Label 8 more"),
        ({"rows": 60, "tuning": Tuning(num_gold=100)}, "num_gold asks for 100 rows, and 60 different texts with a label are"),
        ({"rows": make_reviews(60).filter(lambda row: row["label"] == 0)}, "too few have a label: 'positive' 0"),
        ({"task": TaskSpec("two", (), "{text}", questions=(Choice("a", ("x", "y"), "a?"), Choice("b", ("x", "y"), "b?")))},
         r"several questions \(a, b\)"),
        ({"tuning": Tuning({"odd": TaskSpec("t", ("no", "yes"), "{text}")})}, r"Variant 'odd' has the labels \['no', 'yes'\]"),
        ({"column": "nothing"}, "Column 'nothing' not found"),
    ],
)  # fmt: skip
def test_what_cannot_choose_is_refused_before_anybody_is_asked(moody, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        tuned(moody, tmp_path / "run", **change)
    assert moody.asked() == []
    assert not (tmp_path / "run" / "tune").exists()


def test_teachers_that_cannot_be_asked_in_other_words_are_refused(tmp_path):
    make_reviews(40).to_csv(tmp_path / "answers.csv")
    recorded = RecordedTeacher(str(tmp_path / "answers.csv"), "model")
    with pytest.raises(ValueError, match="Recorded answers were given to one prompt"):
        tuned(recorded, tmp_path / "run")
    with pytest.raises(ValueError, match="Without gold a prompt is chosen by the probabilities"):
        tuned(EndpointTeacher("m", "http://localhost:1", mode="generate"), tmp_path / "run", column=None)


@pytest.mark.parametrize(
    "given", [{"calibrations": ("fitted",)}, {"modes": ("guess",)}, {"shots": (-1,)}, {"num_gold": 0}]
)
def test_numbers_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match=r"got"):
        Tuning(**given)


def test_cap_stops_keeps_what_was_answered_and_a_larger_one_goes_on(moody, tmp_path):
    limits = Limits(5, lambda seconds, read, written: 0.1, currency="EUR")
    with pytest.raises(RuntimeError, match="a limit was reached.*what was answered is kept"):
        tuned(moody, tmp_path / "run", limits=limits)
    count = len(moody.asked())
    assert count <= 60
    found = tuned(moody, tmp_path / "run", limits=replace(limits, max_cost=1e6))
    assert max(Counter(moody.asked()).values()) == 1
    assert found["chosen"]["money"] == pytest.approx(0.1)
    assert "EUR a thousand texts" in " ".join(tune_lines(found, "run"))


def test_cap_counts_what_earlier_runs_spent_on_prompts_with_examples(moody, tmp_path):
    limits = Limits(80, lambda seconds, read, written: 0.1)
    few = {k: replace(TASK, examples=(Example(f"dull {k}", "negative"),)) for k in "abc"}  # all alike with others
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a limit was reached"):
            tuned(moody, tmp_path / "run", limits=limits, tuning=Tuning(few))
        assert 600 < len(moody.asked()) <= 800
    found = tuned(moody, tmp_path / "run", limits=replace(limits, max_cost=1e6), tuning=Tuning(few))
    spent = len(moody.asked()) * 0.1
    shutil.rmtree(tmp_path / "run" / "tune")
    (tmp_path / "run" / "tuned.yaml").unlink()
    again = tuned(moody, tmp_path / "run", limits=replace(limits, max_cost=spent + 0.01), tuning=Tuning(few))
    assert again["chosen"] == found["chosen"]  # what is known is counted once


def test_many_prompts_have_one_ledger_open(moody, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/dev/fd").iterdir()]) + 60, hard))
    try:
        found = tuned(moody, tmp_path / "run", limits=Limits(1e6, lambda seconds, read, written: 0.1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found["n_prompts"] > 30
    assert len(list((tmp_path / "run" / "ledger").glob("*.sqlite"))) == 1


def test_endpoint_is_tuned_and_its_own_cap_is_of_all_prompts_together(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server is on this machine
    data = make_reviews(40).map(lambda row: {"text": ("good " if row["label"] else "bad ") + row["text"]})
    tuning = Tuning(shots=(0,), num_gold=20)
    with EndpointServer() as server:
        cheap = EndpointTeacher("m", server.url, price_input=1.0, price_output=1.0)
        found = tuned(cheap, tmp_path / "run", data, tuning=tuning)
        assert found["chosen"]["mode"] == "generate"
        assert found["chosen"]["right"] == 1.0
        whole = server.requests
        paid = sum(row["n"] * (row["input_tokens"] + row["output_tokens"]) for row in found["prompts"]) / 1e6
        capped = replace(cheap, max_cost=paid / 2)
        with pytest.raises(RuntimeError, match="a limit was reached"):
            tuned(capped, tmp_path / "capped", data, tuning=tuning)
        asked = server.requests - whole
        assert 0 < asked < 0.75 * whole
        assert tuned(cheap, tmp_path / "capped", data, tuning=tuning)["chosen"]["name"] == found["chosen"]["name"]
        assert server.requests == 2 * whole


def test_full_disk_is_one_sentence_and_nothing_half_is_there(moody, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hf_llambert.tuning.tune.note_stage", full)
    with pytest.raises(DiskFull, match="cannot be written: No space left on device. Make room"):
        tuned(moody, tmp_path / "run", tuning=Tuning(shots=(0,), built_in=False, num_gold=20))
    assert not (tmp_path / "run" / "tune").exists()


def test_page_and_task_show_hostile_names_and_texts_as_text(moody, tmp_path, drawn):
    labels = ("negative", "<script>alert(1)</script>")
    evil = TaskSpec("t<b>", labels, "{text}", chat=False, lead_in="It was")
    variant = replace(evil, lead_in="<img src=x onerror=alert(2)>")
    data = make_reviews(60).map(lambda row: {"label": labels[row["label"]], "text": f"<i>{row['text']}</i> $x_1$"})
    found = tuned(
        moody, tmp_path / "run", data, evil, tuning=Tuning({"<u>$\\bad$\x1b[31m\n# a: b": variant}, shots=(0, 1))
    )
    page = (tmp_path / "run" / "tune.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<u>" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert (tmp_path / "run" / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert load_task(tmp_path / "run" / "tuned.yaml").labels == labels
    assert found["by"] == "gold"
    draw(tmp_path / "again.png", {**found, "by": "information"})


def test_gold_that_chose_is_left_out_of_what_is_measured_later(moody, tmp_path, caplog):
    data = make_reviews(120)
    tuned(moody, tmp_path / "run", data, tuning=Tuning(num_gold=50))
    texts = tuned_texts(tmp_path / "run", None, tmp_path / "nowhere")
    assert len(texts) == 50
    assert tuned_texts(tmp_path / "run" / "tuned.yaml") == texts
    kept, said = leave_out(data, "text", texts, "--eval_data")
    assert len(kept) == 70
    assert not set(kept["text"]) & texts
    assert said.startswith("50 of the 120 rows of --eval_data chose the prompt")
    assert leave_out(kept, "text", texts, "--eval_data") == (kept, "")
    with pytest.raises(ValueError, match="All 50 rows of --gold chose the prompt"):
        leave_out(data.filter(lambda row: row["text"] in texts), "text", texts, "--gold")
    listed = Dataset.from_dict({"text": [["no", "text"]]})
    assert leave_out(listed, "text", texts, "--gold") == (listed, "")
    labeler = LLMLabeler(load_task(tmp_path / "run" / "tuned.yaml"), moody, tmp_path / "run" / "ledger")
    found = annotate(
        data, labeler, tmp_path / "run" / "annotated", gold_column="label", unmeasured=texts, show_progress=False
    )
    assert (found["n_rows"], found["quality"]["n"]) == (120, 70)
    assert "50 of the 120 rows chose the prompt" in caplog.text
    (tmp_path / "run" / "tune" / "rows.jsonl").write_text("{")
    with pytest.raises(OSError, match="is damaged"):
        tuned_texts(tmp_path / "run")


VARIANTS = """
name: boxes
labels: [negative, positive]
instruction: "Into which box? {text}"
system: Be short.
variants:
  - name: plain
    chat: false
    system: null
    lead_in: It was
    verbalizers: {negative: [bad], positive: [good]}
  - {name: question, instruction: "Is it {options}? {text}"}
"""


def test_variants_change_what_they_name_and_the_task_is_what_it_was(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(VARIANTS)
    task, found = load_task(path), load_variants(path)
    assert task == TaskSpec("boxes", ("negative", "positive"), "Into which box? {text}", system="Be short.")
    assert list(found) == ["plain", "question"]
    assert (found["plain"].chat, found["plain"].system, found["plain"].verbalizers) == (
        False,
        None,
        (("bad",), ("good",)),
    )
    assert found["question"] == replace(task, instruction="Is it {options}? {text}")
    assert load_variants("imdb") == load_variants(task) == {}


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"name": "x", "instuction": "{text}"},
            "variant 'x' has an unknown key 'instuction'. Did you mean 'instruction'",
        ),
        ({"name": "x", "labels": ["a", "b"]}, "variant 'x' has the labels"),
        ({"name": "x", "labels": 5}, "variant 'x' has the labels 5"),
        ({"instruction": "{text}"}, "variant 1 needs a name"),
        ({"name": "x", "instruction": "no text"}, "variant 'x'.*instruction must contain"),
        ({"name": "x", "verbalizers": {"negative": ["bad"]}}, "variant 'x'.*'verbalizers' must have exactly"),
        ("x", "variant 1 needs a name"),
    ],
)
def test_wrong_variants_are_refused_by_name(tmp_path, variant, message):
    content = yaml.safe_load(VARIANTS)
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**content, "variants": [variant]}))
    with pytest.raises(ValueError, match=message):
        load_variants(tmp_path / "task.yaml")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**content, "variants": "all"}))
    with pytest.raises(ValueError, match="'variants' must be a list"):
        load_variants(tmp_path / "task.yaml")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A task with a variant and 60 reviews with gold, in the folder where the test is."""
    monkeypatch.chdir(tmp_path)
    content = make_cloze().to_dict()
    variants = [{"name": "other words", "verbalizers": {"negative": ["bad"], "positive": ["good"]}}]
    Path("task.yaml").write_text(yaml.safe_dump({**content, "variants": variants}))
    make_reviews(60).to_json("reviews.jsonl")
    return tmp_path


def test_tune_and_what_comes_after_on_the_command_line(here, typed, teacher_dir, caplog):
    small = ["--teacher", teacher_dir, "--max_text_tokens", 40, "--output", "r"]
    command = [
        "tune",
        "--task",
        "task.yaml",
        "--gold",
        "reviews.jsonl",
        "--num_gold",
        24,
        "--shots",
        0,
        "--no_built_in",
    ]
    shown = typed(*command, *small)
    assert "at most 54 requests (2 prompts)" in shown
    assert re.search(r"best: .*, calibration \w+, ", shown)
    again = typed(*command, *small)
    assert [line for line in again.splitlines() if line.startswith("best")] == [
        line for line in shown.splitlines() if line.startswith("best")
    ]
    (here / "r" / "task.yaml").write_text(Path("task.yaml").read_text())  # beside what it chose, which was not earlier
    words = [*command, *small, "--encoding", "utf-8"]
    assert "--encoding" not in typed(*("r/task.yaml" if word == "task.yaml" else word for word in words))
    assert "holds the results of another run" in typed(*command, "--seed", 1, *small, expect=1)
    next_one = re.search(r"annotate with it: hf-llambert (.*)", shown)[1].split()
    assert "reviews.jsonl" not in next_one  # the gold is not what is to be annotated
    typed(*("reviews.jsonl" if word == "DATA" else word for word in next_one))
    assert "24 of the 60 rows chose the prompt" in caplog.text
    stage = json.loads(Path("r/annotated/stage.json").read_text())
    assert (stage["results"]["n_rows"], stage["results"]["quality"]["n"]) == (60, 36)
    train = ["train", "--task", "r/tuned.yaml", "--kind", "linear", "--silver", "r", "--output", "r"]
    shown = typed(*train, "--eval_data", "reviews.jsonl")
    assert "24 of the 60 rows of --eval_data chose the prompt" in shown
    assert len(Dataset.from_parquet("r/student/evaluation.parquet")) == 36
    report = json.loads(Path("r/report.json").read_text()) if typed("report", "r") else {}
    assert report["teacher"]["n"] == 36


def test_guarantee_and_held_out_rows_leave_out_what_chose_the_prompt(here, typed, teacher_dir, student_dir):
    Path("r/tune").mkdir(parents=True)
    rows = make_reviews(60)
    lines = [json.dumps({"text": rows["text"][k], "label": "x", "use": "compare"}) for k in range(20)]
    Path("r/tune/rows.jsonl").write_text("\n".join(lines))
    label = ["label", "--student", student_dir, "--data", "reviews.jsonl", "--backend", "torch", "--task", "task.yaml"]
    promise = ["--teacher", teacher_dir, "--max_text_tokens", 40, "--output", "r", "--guarantee", 0.05]
    shown = typed(*label, *promise, "--gold", "reviews.jsonl")
    assert "20 of the 60 rows of --gold chose the prompt" in shown
    assert "of 40 gold rows" in shown
    rows.select(range(20)).to_json("chose.jsonl")
    shown = typed(*label, *promise, "--gold", "chose.jsonl", "--overwrite", expect=1)
    assert "All 20 rows of --gold chose the prompt" in shown


def test_run_holds_out_no_row_that_chose_the_prompt(here, capsys):
    tuned_ = frozenset(make_reviews(60)["text"][:30])
    given = ("reviews.jsonl", None, "text", "label", {"label_map": {}, "label_values": "auto"}, {}, 10)
    rows = read_rows(Drawn(*given, 30, None, None, None, None, 42, tuned_), make_cloze())
    assert len(rows.held_out) == 30
    assert not set(rows.held_out["text"]) & tuned_
    assert "30 of the 60 rows of --data" in capsys.readouterr().out
    with pytest.raises(ValueError, match="30 of them, and 31 are asked for"):
        read_rows(Drawn(*given, 31, None, None, None, None, 42, tuned_), make_cloze())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "task.yaml"], "Pass --data, texts with people's labels or without, or --gold"),
        (["--task", "task.yaml", "--gold", "plain.jsonl"], "has no column of people's labels"),
        (["--task", "task.yaml", "--gold", "reviews.jsonl", "--num_golds", "3"], "--num_gold"),
        (
            ["--task", "task.yaml", "--gold", "reviews.jsonl", "--num_texts", "3"],
            "--num_texts changes nothing where gold",
        ),
        (["--task", "task.yaml", "--data", "plain.jsonl", "--shots", "1"], "--shots changes nothing without gold"),
        (["--task", "task.yaml", "--gold", "reviews.jsonl", "--num_written", "3"], "changes nothing without --writer"),
    ],
)
def test_wrong_words_of_tune_are_one_sentence(here, typed, teacher_dir, words, message):
    make_reviews(30).select_columns(["text"]).to_json("plain.jsonl")
    assert message in typed("tune", *words, "--teacher", teacher_dir, "--output", "r", expect=1)


def test_task_that_would_be_overwritten_is_refused(here, typed, teacher_dir):
    (here / "r").mkdir()
    (here / "r" / "tuned.yaml").write_text(yaml.safe_dump(TASK.to_dict()))
    make_reviews(30).to_json("gold.jsonl")
    words = ("--task", "r/tuned.yaml", "--gold", "gold.jsonl", "--teacher", teacher_dir, "--output", "r")
    assert "is what this command writes" in typed("tune", *words, expect=1)
