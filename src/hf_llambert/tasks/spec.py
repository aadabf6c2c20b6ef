"""What is asked: the labels, the prompt and how an answer is read.

A task knows nothing about models. It turns a text into messages (chat) or a prompt (plain completion) and a response
back into a label.
"""

from __future__ import annotations

import difflib
import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TypedDict

import yaml

from hf_llambert.tasks.answers import read_answer
from hf_llambert.tasks.file_values import as_tuple, check_strings, read_descriptions, read_verbalizers
from hf_llambert.tasks.json_answers import read_structured
from hf_llambert.tasks.names import normalize
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
    """A worked example that stands in the prompt before the text; several fields as in [`row_texts`]."""

    text: str
    label: str


@dataclass(frozen=True)
class TaskSpec:
    """
    A labeling task: the labels, the prompt and the words that stand for each label.

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
        chat (`bool`, defaults to `True`): Ask through the tokenizer's chat template, or as plain completion.
        lead_in (`str`, defaults to none): Words that begin the answer and that the teacher continues, such as
            `"Overall, the movie was"`. A plain prompt has them on a line of their own.
        permute_options (`bool`, defaults to `False`): Give `{options}` (and `{definitions}`) in another order for each text,
            drawn by the text alone, so that a teacher's liking for the first or last option cancels out over the texts.

    Raises:
        ValueError: When a field does not make sense; the message names the field and what was expected.
    """

    name: str
    labels: tuple[str, ...]
    instruction: str
    system: str | None = None
    examples: tuple[Example, ...] = ()
    verbalizers: tuple[tuple[str, ...], ...] = ()
    chat: bool = True
    lead_in: str = ""
    permute_options: bool = False
    descriptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ValueError(f"Task name must be a non-empty string, got {self.name!r}.")
        where = f"Task '{self.name}'"
        check_strings(where, "labels", self.labels)
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{where}: expected at least two different labels, got {list(self.labels)}.")
        if not isinstance(self.instruction, str) or not self.fields or len(set(self.fields)) < len(self.fields):
            raise ValueError(
                f"{where}: instruction must contain {{text}} exactly once, where the text goes, or the names of several "
                f"columns so, once each; got {self.instruction!r}."
            )
        if "label" in self.fields:
            raise ValueError(
                f"{where}: instruction has {{label}}, but a column 'label' holds people's labels, which no prompt shows. Give "
                f"the column another name, or write the word without braces."
            )
        if self.instruction.count("{options}") > 1 or not isinstance(self.permute_options, bool):
            raise ValueError(
                f"{where}: instruction may contain {{options}} once, and permute_options is true or false; got "
                f"{self.instruction!r} and {self.permute_options!r}."
            )
        if self.permute_options and "{options}" not in self.instruction:
            raise ValueError(
                f"{where}: permute_options needs {{options}} in the instruction, where they are to stand."
            )
        if not isinstance(self.lead_in, str) or not isinstance(self.chat, bool):
            raise ValueError(
                f"{where}: lead_in must be a string and chat true or false, got {self.lead_in!r} and {self.chat!r}."
            )
        object.__setattr__(self, "lead_in", self.lead_in.strip())  # a blank before the answer belongs to its word
        if self.system is not None and not self.chat:
            raise ValueError(f"{where}: a plain completion has no system turn. Set chat: true or drop system.")
        if self.system is not None and not isinstance(self.system, str):
            raise ValueError(f"{where}: system must be a string, got {self.system!r}.")
        self._check_descriptions(where)
        if not self.verbalizers:
            object.__setattr__(self, "verbalizers", tuple((label,) for label in self.labels))
        self._check_verbalizers(where)
        self._check_examples(where)

    def _check_examples(self, where: str) -> None:
        for example in self.examples:
            if not isinstance(example.text, str) or not example.text.replace(FIELD, "").strip():
                raise ValueError(f"{where}: an example's text must be a non-empty string, got {example.text!r}.")
            if example.text.count(FIELD) != len(self.fields) - 1:
                raise ValueError(f"{where}: an example has {', '.join(self.fields)}, got {example.text.split(FIELD)}.")
            if example.label not in self.labels:
                raise ValueError(
                    f"{where}: example label {example.label!r} is not one of the labels {list(self.labels)}."
                )

    def _check_descriptions(self, where: str) -> None:
        if not self.descriptions:
            object.__setattr__(self, "descriptions", ("",) * len(self.labels))
        if len(self.descriptions) != len(self.labels) or not all(isinstance(one, str) for one in self.descriptions):
            raise ValueError(
                f"{where}: expected descriptions of {len(self.labels)} labels, strings, got {list(self.descriptions)}."
            )
        if self.instruction.count("{definitions}") > 1 or (
            "{definitions}" in self.instruction and not any(self.descriptions)
        ):
            raise ValueError(
                f"{where}: instruction may contain {{definitions}} once, where the labels have descriptions; got "
                f"{self.instruction!r} and {list(self.descriptions)}."
            )

    def _check_verbalizers(self, where: str) -> None:
        if len(self.verbalizers) != len(self.labels):
            raise ValueError(
                f"{where}: expected verbalizers for {len(self.labels)} labels, got {len(self.verbalizers)}."
            )
        owner: dict[str, str] = {}
        for label, words in zip(self.labels, self.verbalizers, strict=True):
            check_strings(where, f"verbalizers of '{label}'", words)
            if not words:
                raise ValueError(f"{where}: label '{label}' has no verbalizer. Give it at least one word.")
            for word in (*words, label):
                key = normalize(word)
                if not key:
                    raise ValueError(
                        f"{where}: {word!r} of label '{label}' has no letter or digit to recognise it by."
                    )
                if owner.setdefault(key, label) != label:
                    raise ValueError(
                        f"{where}: {word!r} stands for both '{owner[key]}' and '{label}'. A word may name one label."
                    )

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
        return columns_of(self.fields, text_column, f"Task '{self.name}'")

    def filled(self, text: str) -> str:
        """A row that has `text` in every field."""
        return FIELD.join([text] * len(self.fields))

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
            gap = "\n" if self.lead_in else " "
            shown = [f"{self._instruct(e.text)}{gap}{self.answer(e.label)}" for e in self.examples]
            last = f"{self._instruct(text)}\n{self.lead_in}" if self.lead_in else self._instruct(text)
            return [{"role": "user", "content": "\n\n".join([*shown, last])}]
        turns: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        for example in self.examples:
            turns.append({"role": "user", "content": self._instruct(example.text)})
            turns.append({"role": "assistant", "content": self.answer(example.label)})
        return [*turns, {"role": "user", "content": self._instruct(text)}]

    def _instruct(self, text: str) -> str:
        values = text.split(FIELD) if len(self.fields) > 1 else [text]
        if len(values) != len(self.fields):
            raise ValueError(
                f"Task '{self.name}' shows {', '.join(self.fields)}, got {len(values)} of them. Join their values with "
                f"hf_llambert.row_texts."
            )
        words, definitions = self._options(text)
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
        words = tuple((*words, label) for words, label in zip(self.verbalizers, self.labels, strict=True))
        if structured:
            label, reason = read_structured(response or "", self.labels)
        else:
            label, reason = read_answer(response or "", words)
        return (ABSTAIN if label is None else label), reason

    def parse(self, response: str | None) -> int:
        """The label id that a response names, or [`ABSTAIN`]. See [`~TaskSpec.read`] for what is tolerated."""
        return self.read(response)[0]

    def to_dict(self) -> dict[str, object]:
        """The task as plain lists and mappings, as its YAML file has it."""
        out: dict[str, object] = {"name": self.name, "labels": list(self.labels), "instruction": self.instruction}
        if self.system is not None:
            out["system"] = self.system
        out["chat"] = self.chat
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
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else f" Known keys: {', '.join(known)}."
                raise ValueError(f"{source}: unknown key '{key}'.{hint}")
        for key in ("name", "labels", "instruction"):
            if key not in data:
                raise ValueError(f"{source}: key '{key}' is missing.")
        values = dict(data)
        labels = values["labels"] = as_tuple(source, "labels", values["labels"])
        if values.get("verbalizers") is not None:
            values["verbalizers"] = read_verbalizers(source, values["verbalizers"], labels)
        else:
            values.pop("verbalizers", None)
        if values.get("descriptions") is not None:
            values["descriptions"] = read_descriptions(source, values["descriptions"], labels)
        else:
            values.pop("descriptions", None)
        places = shown_fields(str(values["instruction"]))
        rows = as_tuple(source, "examples", values.get("examples") or ())
        for row in rows:
            if not isinstance(row, Mapping) or set(row) != {*places, "label"}:
                raise ValueError(
                    f"{source}: an example needs exactly the keys {', '.join(places)} and label, got {row!r}."
                )
            wrong = [row[name] for name in places if not isinstance(row[name], str) or FIELD in row[name]]
            if wrong:
                raise ValueError(f"{source}: an example's text must be a non-empty string, got {wrong[0]!r}.")
        values["examples"] = tuple(Example(FIELD.join(row[name] for name in places), row["label"]) for row in rows)
        return cls(**values)  # type: ignore[arg-type]  # checked in __post_init__

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
