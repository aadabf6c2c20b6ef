"""What is asked: the labels, the prompt and how an answer is read.

A task knows nothing about models. It turns a text into messages (chat) or a prompt (plain completion) and a response
back into a label.
"""

from __future__ import annotations

import difflib
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TypedDict

import yaml

from hf_llambert.tasks import requests
from hf_llambert.tasks.answers import read_answer
from hf_llambert.tasks.checks import check_examples, check_labels, check_prompt
from hf_llambert.tasks.choice import Choice
from hf_llambert.tasks.file_values import read_labels, read_questions
from hf_llambert.tasks.json_answers import read_structured
from hf_llambert.tasks.question import Question, as_tuples
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import FIELD, TextColumn, columns_of

CUT = {
    "length": "the answer was cut (finish_reason length); allow more max_new_tokens",
    "content_filter": "the answer was filtered (finish_reason content_filter)",
}
"""Values of `finish` that leave no answer, with the reason that the row gets."""


class Message(TypedDict):
    """One turn of a chat: `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


_OWN_PLACES = ("options", "definitions")
_PLACE = re.compile(r"\{([^\W\d][\w.-]*)\}")


@dataclass(frozen=True)
class Example:
    """
    A worked example that stands in the prompt before the text; several fields as in [`row_texts`].

    Args:
        text (`str`): Its text.
        label (`str` or `tuple`): Its label; of a task with `questions` the answer to each of them: a label, a tuple of
            labels, or a level.
    """

    text: str
    label: str | tuple


@dataclass(frozen=True)
class TaskSpec:
    """
    A labeling task: the labels, the prompt and the words that stand for each label. Or several questions about one text.

    Args:
        name (`str`): Name of the task, used in folders and reports.
        labels (`tuple[str, ...]`): Label names. Their order is the order of ids, scores and `id2label` everywhere.
        instruction (`str`): The user turn (chat) or the whole prompt (plain), with a `{field}` where the value of each
            column goes, once each: `{text}`, which is any column that is named the text's, or columns by their own names,
            such as `{premise}` and `{hypothesis}`. `{options}`, at most once, becomes the labels' first words, as in
            `business, sport or tech`; `{definitions}`, at most once, a line for each label with its first word and its
            description.
        system (`str`, *optional*): A system turn. Only for chat tasks.
        examples (`tuple[Example, ...]`, defaults to none): Worked examples, shown in order before the text.
        verbalizers (`tuple[tuple[str, ...], ...]`, *optional*): For each label the words that name it in an answer.
            Defaults to the label's own name. The first word of each is the one that worked examples use.
        descriptions (`tuple[str, ...]`, *optional*): For each label what it means (the codebook), for `{definitions}`, the
            review page and the cards. An empty one says nothing.
        questions (`tuple[Question, ...]`, defaults to none): What is asked, in place of `labels` and what belongs to them;
            the instruction then shows the fields only. See [`Choice`], [`Choices`] and [`Scale`].
        shots (`tuple[tuple[str, str], ...]`, *optional*): Worked examples as they are sent, words and answer of each turn, in
            place of `examples`. For tasks that are made of others; no file has it.
        chat (`bool`, defaults to `True`): Ask through the tokenizer's chat template, or as plain completion.
        lead_in (`str`, defaults to none): Words that begin the answer and that the teacher continues, such as
            `"Overall, the movie was"`. A plain prompt has them on a line of their own.
        permute_options (`bool`, defaults to `False`): Give `{options}` (and `{definitions}`) in another order for each text,
            drawn by the text alone, so that a teacher's liking for the first or last option cancels out over the texts.

    Raises:
        ValueError: When a field does not make sense; the message names the field and what was expected.
    """

    name: str
    labels: tuple[str, ...] = ()
    instruction: str = ""
    system: str | None = None
    examples: tuple[Example, ...] = ()
    verbalizers: tuple[tuple[str, ...], ...] = ()
    chat: bool = True
    lead_in: str = ""
    permute_options: bool = False
    descriptions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    shots: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        for listed in ("labels", "verbalizers", "descriptions", "examples", "questions"):
            object.__setattr__(self, listed, as_tuples(getattr(self, listed)))
        if not self.name or not isinstance(self.name, str):
            raise ValueError(f"Task name must be a non-empty string, got {self.name!r}.")
        where = f"Task '{self.name}'"
        if self.questions:
            requests.check_questions(self, where)
        if len(self.questions) == 1:
            (only,) = self.questions
            for of_question in ("labels", "verbalizers", "descriptions", "lead_in"):
                if of_question != "lead_in" or not only.is_json:  # JSON is begun by no words
                    object.__setattr__(self, of_question, getattr(only, of_question))
            where = f"{where}, question '{only.name}'"
            if fault := only.fault():
                raise ValueError(f"{where}: {fault}.")
        check_prompt(self, where)
        if len(self.questions) < 2:
            check_labels(self, where)
        check_examples(self, where)
        if len(self.questions) > 1:
            requests.parts_of(self)  # each is checked when it is made

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the columns that the prompt shows, in its order; `text` is whichever column is named the text's."""
        return shown_fields(self.instruction)

    def columns(self, text_column: TextColumn = "text") -> TextColumn:
        """
        The columns that the prompt shows: that of the texts, or several, in the order of `fields`.

        Args:
            text_column (`str` or `Sequence[str]`, defaults to `"text"`): The column that stands for `{text}`; or all columns.

        Raises:
            ValueError: Not as many columns as fields.
        """
        columns = columns_of(self.fields, text_column, f"Task '{self.name}'")
        requests.refuse_gold_as_text(self, columns)
        return columns

    def filled(self, text: str) -> str:
        """A row that has `text` in every field."""
        return FIELD.join([text] * len(self.fields))

    @property
    def question(self) -> Question:
        """The only question, of labels a `Choice` called `label`. Raises `ValueError` where there are several; see `parts`."""
        if len(self.questions) > 1:
            names = ", ".join(question.name for question in self.questions)
            raise ValueError(f"Task '{self.name}' has several questions ({names}). Take one: task.parts[NAME].")
        if self.questions:
            return self.questions[0]
        return Choice("label", self.labels, "", self.verbalizers, self.descriptions, self.lead_in)

    @property
    def parts(self) -> dict[str, TaskSpec]:
        """A task for each of several questions, by name; a task of one question is its only part, by the empty name."""
        return requests.parts_of(self)

    @property
    def branches(self) -> dict[str, tuple[TaskSpec, ...]]:
        """For each part the tasks of labels whose scores make those of its question: one, or one for each label."""
        return requests.branches_of(self)

    @property
    def is_json(self) -> bool:
        """Whether its answer is a JSON object where text comes back."""
        return len(self.questions) > 1 or any(question.is_json for question in self.questions)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for one of several labels, and nothing else."""
        return len(self.parts) == 1 and self.question.kind == "choice"

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @property
    def id2label(self) -> dict[int, str]:
        """Label names by id, in the order of `labels`."""
        return dict(enumerate(self.labels))

    def answer(self, label: str) -> str:
        """The answer of a worked example: the lead-in and the first word of `label`."""
        word = self.verbalizers[self.labels.index(label)][0]
        return f"{self.lead_in} {word}".strip()

    def messages(self, text: str) -> list[Message]:
        """
        The exact words that are sent about `text`: turns of a chat, or one user turn that is a plain prompt.

        The lead-in is not among them for a chat (the answer's turn begins with it); a plain prompt ends with it.
        """
        if not self.chat:
            gap = "\n" if self.lead_in and not self.questions else " "  # of a question it stands in what is asked
            shown = [
                f"{asked}{'' if self.questions and asked.endswith(chr(10)) else gap}{answered}"
                for asked, answered in self._shown()
            ]
            last = f"{self._words(text)}\n{self.lead_in}" if self.lead_in else self._words(text)
            return [{"role": "user", "content": "\n\n".join([*shown, last])}]
        turns: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        for asked, answered in self._shown():
            turns.append({"role": "user", "content": asked})
            turns.append({"role": "assistant", "content": answered})
        return [*turns, {"role": "user", "content": self._words(text)}]

    def _shown(self) -> Sequence[tuple[str, str]]:
        """The worked examples: what is asked and what is answered."""
        if self.shots is not None:
            return self.shots
        if self.questions:
            return requests.json_turns(self) if self.is_json else requests.score_turns(self)
        return [(self.instruct(e.text), self.answer(str(e.label))) for e in self.examples]

    def _words(self, text: str) -> str:
        """The words of the last turn, or of the end of a plain prompt."""
        if self.is_json:
            return requests.json_words(self, text)
        return f"{self.instruct(text)}\n\n{self.question.filled()}" if self.questions else self.instruct(text)

    def instruct(self, text: str) -> str:
        """The instruction about `text`, its places filled."""
        values = text.split(FIELD) if len(self.fields) > 1 else [text]
        if len(values) != len(self.fields):
            raise ValueError(
                f"Task '{self.name}' shows {', '.join(self.fields)}, got {len(values)} of them. Join their values with "
                f"hf_llambert.row_texts."
            )
        words, definitions = ("", "") if self.questions else self._options(text)
        parts = {**dict(zip(self.fields, values, strict=True)), "options": words, "definitions": definitions}
        return _PLACE.sub(lambda found: parts[found[1]], self.instruction.rstrip())

    def _options(self, text: str) -> tuple[str, str]:
        """The labels' first words as a list, and a line for each with its description."""
        options = [(words[0], meaning) for words, meaning in zip(self.verbalizers, self.descriptions, strict=True)]
        if self.permute_options:
            # Of the digest, not of hash(): the same in every process and on every machine.
            drawn = random.Random(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
            drawn.shuffle(options)
        words = [word for word, _ in options]
        lines = [f"- {word}: {meaning}" if meaning else f"- {word}" for word, meaning in options]
        return f"{', '.join(words[:-1])} or {words[-1]}", "\n".join(lines)

    def read(
        self, response: str | None, finish: str | None = None, structured: bool = False
    ) -> tuple[int, str | None]:
        """
        The label id that a response names and, when it is [`ABSTAIN`], the reason in a few words.

        Case, punctuation, markup, quotation marks, chatter around the answer and a JSON answer are tolerated. A
        negated label, two labels, none, a label quoted from the text and a longer word that contains one are not. In
        other languages than English only known frames may stand beside the label; see `docs/tasks.md`.

        Args:
            response (`str`, *optional*): What the teacher wrote.
            finish (`str`, *optional*): Why it stopped writing; see [`Reply`]. An answer that was cut or filtered is no label.
            structured (`bool`, defaults to `False`): It was asked for JSON with one of the labels: only that is one.
        """
        if finish in CUT:
            return ABSTAIN, CUT[finish]
        if not structured:
            return self.read_words(response or "")
        label, reason = read_structured(response or "", self.labels)
        return (ABSTAIN if label is None else label), reason

    def read_answers(
        self, response: str | None, finish: str | None = None, structured: bool = False
    ) -> dict[str, tuple[object, str | None]]:
        """
        The answer to each question, by the names of `parts`, as people's answers are ([`Question.gold`]); where there is none,
        the reason in a few words. Arguments as in [`~TaskSpec.read`].
        """
        if not self.is_json:
            label, reason = self.read(response, finish, structured)
            (answer,) = self.question.answers([label])
            return {"": (answer, reason)}
        if finish in CUT:
            return {name: (one.question.missing, CUT[finish]) for name, one in self.parts.items()}
        return requests.read_object(self, response or "", structured)

    def read_words(self, text: str) -> tuple[int, str | None]:
        """The label id that a text names by itself, within a larger answer. See [`~TaskSpec.read`]."""
        words = tuple((*words, label) for words, label in zip(self.verbalizers, self.labels, strict=True))
        label, reason = read_answer(text, words)
        return (ABSTAIN if label is None else label), reason

    def parse(self, response: str | None) -> int:
        """The label id that a response names, or [`ABSTAIN`]. See [`~TaskSpec.read`] for what is tolerated."""
        return self.read(response)[0]

    def to_dict(self) -> dict[str, object]:
        """The task as plain lists and mappings, as its YAML file has it."""
        out: dict[str, object] = {"name": self.name}
        if not self.questions:
            out["labels"] = list(self.labels)
        out["instruction"] = self.instruction
        if self.system is not None:
            out["system"] = self.system
        out["chat"] = self.chat
        if self.questions:
            return out | requests.written(self)
        if self.lead_in:
            out["lead_in"] = self.lead_in
        if self.permute_options:
            out["permute_options"] = True
        out["verbalizers"] = {k: list(v) for k, v in zip(self.labels, self.verbalizers, strict=True)}
        if any(self.descriptions):
            out["descriptions"] = {k: v for k, v in zip(self.labels, self.descriptions, strict=True) if v}
        if self.examples:
            out["examples"] = [
                {**dict(zip(self.fields, e.text.split(FIELD), strict=True)), "label": e.label} for e in self.examples
            ]
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, object], source: str = "task") -> TaskSpec:
        """
        Build a task from the content of its YAML file.

        Args:
            data (`Mapping`): The keys of the file.
            source (`str`, defaults to `"task"`): What to call the file in errors.

        Raises:
            ValueError: A key is unknown or missing, or has the wrong shape.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{source}: expected a mapping with name, labels and instruction, got {data!r}.")
        data = {key: value for key, value in data.items() if key != "variants"}  # see load_variants
        known = [f.name for f in fields(cls) if f.name != "shots"]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else f" Known keys: {', '.join(known)}."
                raise ValueError(f"{source}: unknown key '{key}'.{hint}")
        for key in ("name", "questions" if "questions" in data else "labels", "instruction"):
            if key not in data:
                raise ValueError(f"{source}: key '{key}' is missing.")
        read = read_questions if "questions" in data else read_labels
        values = read(source, data, shown_fields(str(data["instruction"])))
        return cls(**{**values, "examples": tuple(Example(*pair) for pair in values["examples"])})

    def to_yaml(self, path: str | Path) -> None:
        """Write the task to a YAML file that [`~TaskSpec.from_yaml`] reads back unchanged."""
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def from_yaml(cls, path: str | Path) -> TaskSpec:
        """Read a task from a YAML file. Raises `ValueError` that names the file and the key that is wrong."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: not valid YAML: {error}") from error
        return cls.from_dict(data, source=str(path))


def builtin_tasks() -> list[str]:
    """Names of the tasks that come with the package."""
    folder = resources.files("hf_llambert") / "builtin_tasks"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_task(task: str | Path | TaskSpec) -> TaskSpec:
    """
    A task by the name of a built-in one or by the path of a YAML file.

    Raises:
        ValueError: Neither a built-in task nor a file has that name.
    """
    if isinstance(task, TaskSpec):
        return task
    if task in builtin_tasks():
        with resources.as_file(resources.files("hf_llambert") / "builtin_tasks" / f"{task}.yaml") as path:
            return TaskSpec.from_yaml(path)
    if Path(task).is_file():
        return TaskSpec.from_yaml(task)
    raise ValueError(
        f"No task '{task}'. Pass one of {', '.join(builtin_tasks())}, or the path of a YAML file (see docs/tasks.md)."
    )


def shown_fields(instruction: str) -> tuple[str, ...]:
    """The columns that an instruction shows, in its order."""
    return tuple(name for name in _PLACE.findall(instruction) if name not in _OWN_PLACES)
