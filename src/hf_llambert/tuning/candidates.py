"""The ways of asking that are compared: the task's own, its variants, and built-in ones that hold for any labels."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from hf_llambert.tasks.spec import Example, TaskSpec
from hf_llambert.tasks.texts import shorten_fields
from hf_llambert.teachers.base import Mode

GIVEN, VARIANT, BUILT_IN, WRITTEN = "given", "variant", "built-in", "written"
"""Where a prompt comes from."""
CHOICES = ("shortest", "diverse")
"""Which gold texts become worked examples."""
_LONGEST_EXAMPLE = 400  # characters: an example is never cut by the teacher, and is paid for with every text
_MOST_SHOTS = 8  # in a prompt


@dataclass(frozen=True)
class Prompt:
    """
    One way of asking.

    Args:
        name (`str`): What it is called in tables.
        task (`TaskSpec`): What is asked, worked examples included.
        mode (`str`): The teacher's: `score` or `generate`.
        origin (`str`): `given`, `variant`, `built-in` or `written` (by an LLM).
    """

    name: str
    task: TaskSpec
    mode: Mode
    origin: str

    @property
    def asks(self) -> tuple[str, Mode]:
        """What it asks, whatever it is called."""
        return _asked(self.task), self.mode


@dataclass(frozen=True)
class _Way:
    """
    A built-in way: the words around the texts. `{shown}` stands for the task's fields, `{topic}` for what a text is, by the
    task's name: `support ticket` of `support-tickets`.
    """

    chat: bool
    instruction: str
    lead_in: str = ""
    system: str | None = None


_WAYS: dict[str, _Way] = {
    "label": _Way(False, "{shown}", "Label:"),
    "options first": _Way(False, "Labels: {options}.\n\n{shown}", "Label:"),
    "question after": _Way(False, "{shown}\n\nIs this {options}?", "It is"),
    "category": _Way(False, "{shown}", "Category:"),
    "this is about": _Way(False, "{shown}", "This is about"),
    "overall, this is": _Way(False, "{shown}", "Overall, this is"),
    "overall, it was": _Way(False, "{shown}", "Overall, it was"),
    "named, about": _Way(False, "{Topic}: {shown}", "This {topic} is about"),
    "named, overall": _Way(False, "{Topic}: {shown}", "Overall, the {topic} was"),
    "named, it was": _Way(False, "{Topic}: {shown}", "Overall, it was"),
    "definitions": _Way(False, "{definitions}\n\n{shown}", "Label:"),
    "chat, question first": _Way(
        True, "Which label fits this text: {options}?\n\n{shown}\n\nAnswer with the label only."
    ),
    "chat, question last": _Way(
        True, "{shown}\n\nWhich label fits the text: {options}?", system="Answer with one word."
    ),
    "chat, definitions": _Way(
        True, "Choose the label that fits the text.\n\n{definitions}\n\n{shown}\n\nAnswer with the label only."
    ),
}


def wordings(
    task: TaskSpec,
    variants: Mapping[str, TaskSpec],
    modes: Sequence[Mode],
    built_in: bool = True,
    written: Mapping[str, TaskSpec] | None = None,
) -> list[Prompt]:
    """
    The wordings to compare, without further worked examples; the first is the task as it was given. No two ask the same.

    Built-in ways are made for tasks with `labels`, with the label words of the task and with those of each variant.

    Args:
        task (`TaskSpec`): The task as given.
        variants (`Mapping[str, TaskSpec]`): Of [`load_variants`].
        modes (`Sequence[str]`): Ways of asking, the given task's first. Asked to write, only chats are made.
        built_in (`bool`, defaults to `True`): Make built-in ways too.
        written (`Mapping[str, TaskSpec]`, *optional*): Wordings by an LLM.
    """
    found = [("as given", task, GIVEN), *((name, one, VARIANT) for name, one in variants.items())]
    found += [(name, one, WRITTEN) for name, one in (written or {}).items()]
    if built_in and not task.questions:
        words = list(dict.fromkeys(one.verbalizers for _, one, _ in found))
        for number, of_labels in enumerate(words):
            extra = f", words {number + 1}" if len(words) > 1 else ""
            found += [(f"{name}{extra}", one, BUILT_IN) for name, one in _built_in(task, of_labels)]
    return unique(
        Prompt(f"{name}, {mode}" if len(modes) > 1 else name, one, mode, origin)
        for mode in modes
        for name, one, origin in found
        if mode != "generate" or origin != BUILT_IN or one.chat  # what continues a text seldom is a label alone
    )


def unique(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first of all prompts that ask the same, each with a name of its own."""
    found: dict[tuple[str, Mode], Prompt] = {}
    for prompt in prompts:
        if prompt.asks not in found:
            taken = {one.name for one in found.values()}
            others = (f"{prompt.name} ({more})" for more in itertools.chain([prompt.origin], itertools.count(2)))
            name = next(name for name in itertools.chain([prompt.name], others) if name not in taken)
            found[prompt.asks] = dataclasses.replace(prompt, name=name)
    return list(found.values())


def wordings_digest(prompts: Sequence[Prompt]) -> str:
    """A hash of what some prompts ask."""
    return hashlib.sha256(repr([one.asks for one in prompts]).encode()).hexdigest()[:32]


def _asked(task: TaskSpec) -> str:
    return repr({key: value for key, value in task.to_dict().items() if key != "name"})


def with_examples(prompts: Sequence[Prompt], sets: Sequence[tuple[str, tuple[Example, ...]]]) -> list[Prompt]:
    """Prompts with each of some sets of worked examples, in place of their own."""
    return [
        dataclasses.replace(
            prompt, name=f"{prompt.name}, {shown}", task=dataclasses.replace(prompt.task, examples=examples)
        )
        for prompt in prompts
        for shown, examples in sets
    ]


def _built_in(task: TaskSpec, words: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, TaskSpec]]:
    """The built-in ways, with these words for the labels."""
    names = task.fields
    shown = "{text}" if names == ("text",) else "\n".join(f"{name}: {{{name}}}" for name in names)
    if len(names) == 1:
        shown = f"{{{names[0]}}}"
    topic = _topic(task.name)
    for name, way in _WAYS.items():
        if "{definitions}" in way.instruction and not any(task.descriptions):
            continue
        yield (
            name,
            TaskSpec(
                name=task.name,
                labels=task.labels,
                instruction=way.instruction.replace("{Topic}", topic[:1].upper() + topic[1:]).replace(
                    "{shown}", shown
                ),
                system=way.system,
                verbalizers=words,
                descriptions=task.descriptions,
                chat=way.chat,
                lead_in=way.lead_in.replace("{topic}", topic),
            ),
        )


def _topic(name: str) -> str:
    """What a text is, by the name of its task, in the singular."""
    words = " ".join(re.sub(r"[{}]", "", name).replace("-", " ").replace("_", " ").split())
    return words if re.search(r"(?:[^s]s)$", words) is None or re.search(r"(?:news|us|is)$", words) else words[:-1]


def example_sets(
    task: TaskSpec, gold: Sequence[tuple[str, str]], shots: Sequence[int], seed: int
) -> list[tuple[str, tuple[Example, ...]]]:
    """
    Worked examples from gold texts, with what they are called: so many of each label, the labels in turn.

    Args:
        task (`TaskSpec`): Its labels.
        gold (`Sequence[tuple[str, str]]`): Texts and labels.
        shots (`Sequence[int]`): How many of each label.
        seed (`int`): Which text comes first among diverse ones.
    """
    found = []
    for count in shots_that_fit(task, shots):
        for choice in CHOICES:
            texts = {
                label: _chosen([t for t, own in gold if own == label], count, choice, seed) for label in task.labels
            }
            if min(map(len, texts.values())) < count:
                continue
            examples = tuple(
                Example(shorten_fields(texts[label][turn], _LONGEST_EXAMPLE, 0.5), label)
                for turn in range(count)
                for label in task.labels
            )
            found.append((f"{len(examples)} {choice} examples", examples))
    return found


def shots_that_fit(task: TaskSpec, shots: Sequence[int]) -> list[int]:
    """Of some numbers of worked examples of each label those that a prompt has room for. Only a task with labels has any."""
    most = 0 if task.questions else _MOST_SHOTS // task.num_labels
    return [count for count in sorted(set(shots) - {0}) if count <= most]


def _chosen(texts: Sequence[str], count: int, choice: str, seed: int) -> list[str]:
    """So many of some texts: the shortest, or those that lie furthest apart by their words (farthest first)."""
    if choice == "shortest" or len(texts) <= 1:
        return sorted(texts, key=lambda text: (len(text), text))[:count]
    try:
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    except ValueError:  # no words in any
        return list(texts[:count])
    taken = [int(np.random.default_rng(seed).integers(len(texts)))]
    while len(taken) < min(count, len(texts)):
        likeness = (vectors @ vectors[taken].T).max(1)
        likeness[taken] = np.inf
        taken.append(int(likeness.argmin()))
    return [texts[k] for k in taken]
