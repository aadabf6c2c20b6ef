"""Encodes a task and a text as token ids. Nothing in the text becomes a control token."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from hf_llambert.tasks.requests import first_object, longest_object
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import cut_text
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.templates import first_line, open_thought
from hf_llambert.teachers.tries import common

_SLACK = 6  # tokens that moved boundaries may add to a cut text
_CONTEXT_MARGIN = 8  # the same, for a whole prompt


@dataclass(frozen=True)
class PromptEncoder:
    """
    Encodes prompts of one task for one tokenizer.

    The chat template's own markers become control tokens; what stands inside a turn never does: it is tokenised apart,
    with control tokens switched off, and spliced in.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The model's tokenizer.
        task (`TaskSpec`): What is asked.
        template (`Mapping`, defaults to none): Variables for the chat template; see [`template_arguments`].
    """

    tokenizer: PreTrainedTokenizerBase
    task: TaskSpec
    template: Mapping[str, object] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """Token ids of the whole prompt about `text`, up to where the answer continues."""
        before, after = self._frame
        return before + self._plain_ids(self.task.messages(text)[-1]["content"]) + after

    @cached_property
    def thought(self) -> str:
        """What the answer continues where the prompt ends inside a thought, from its opening mark; else empty."""
        if not self.task.chat:
            return open_thought(self.task.lead_in)
        return open_thought(self._template_pieces[-1] + self.task.lead_in)

    def check_answers(self) -> None:
        """
        Refuse a prompt that ends inside a thought, since no answer follows it.

        Raises:
            ValueError: The prompt ends inside a thought.
        """
        if self.thought:
            given = ", which its chat_template_kwargs do not close" if self.template else ""
            raise ValueError(
                f"The prompt of task '{self.task.name}' for '{self.tokenizer.name_or_path}' ends inside a thought "
                f"({self.thought.strip()[:40]!r}){given}: what comes next is no answer. Pass --chat_template_kwargs "
                f"'{{\"enable_thinking\": false}}' if the template knows it, close the thought in the task's lead_in, "
                f"or use mode='generate' with a large max_new_tokens."
            )

    def ended(self, reply: Reply) -> Reply:
        """
        What was written, with how it ended: a plain completion is over at the end of its line, though the model goes on,
        and one that continues a thought begins with the mark of that thought.
        """
        if reply.response is None:
            return reply
        if not self.task.chat:
            over = (first_object if self.task.is_json else first_line)(reply.response)
            reply = reply if over is None else replace(reply, response=over, finish="stop")
        return replace(reply, response=self.thought + (reply.response or ""))

    def answer_tokens(self, most: int) -> int:
        """The most tokens of an answer that is written: `most`, and as many as a JSON object that answers may take."""
        if not self.task.is_json:
            return most
        fenced = f"```json\n{longest_object(self.task)}\n```\n"
        return max(most, len(self._control_ids(fenced)) + 1)

    @cached_property
    def overhead(self) -> int:
        """Tokens of a prompt beside those of the text, for the text's context budget."""
        return len(self.encode(self.task.filled(".")))

    def room(self, model: str, context: int, answer: int, most: int | None) -> int:
        """
        Tokens that a text may have.

        Args:
            model (`str`): The model's name, for the error.
            context (`int`): Tokens that it reads.
            answer (`int`): Tokens of the longest answer.
            most (`int`, *optional*): A limit of the user's.

        Raises:
            ValueError: The prompt alone is too long.
        """
        room = context - self.overhead - answer - _CONTEXT_MARGIN
        if room < 1:
            raise ValueError(
                f"The prompt of task '{self.task.name}' takes {self.overhead + answer} tokens without a text, but "
                f"'{model}' reads {context}. Use fewer or shorter examples, or a model (max_model_len) that reads more."
            )
        return min(room, most or room)

    def shared(self, prompts: Iterable[list[int]]) -> int:
        """How many tokens at the beginning the prompts share with each other and with those about other texts."""
        return common([*prompts, *self._probes])

    @cached_property
    def _probes(self) -> list[list[int]]:
        return [self.encode(self.task.filled(text)) for text in (".", "A", "the", "7", "\n")]

    def fit(self, text: str, max_tokens: int, head_share: float) -> tuple[list[int], bool]:
        """The prompt with the text cut to `max_tokens`, and whether it was cut."""
        (prompt,), cut = fit_all([self], text, max_tokens, head_share)
        return prompt, cut

    @cached_property
    def words(self) -> list[list[tuple[int, ...]]]:
        """
        For each label the token ids of each of its words, as they continue the prompt.

        Raises:
            ValueError: A word becomes no token or an unknown one, or the same tokens as another label's word.
        """
        owner: dict[tuple[int, ...], str] = {}
        out = []
        for label, words in zip(self.task.labels, self.task.verbalizers, strict=True):
            ids_of_label = []
            for word in words:
                ids = self._continuation(word)
                if not ids or self.tokenizer.unk_token_id in ids:
                    raise ValueError(
                        f"Label word {word!r} of '{label}' becomes {'no' if not ids else 'an unknown'} token in this "
                        f"teacher's tokenizer. Choose another verbalizer."
                    )
                if owner.setdefault(ids, label) != label:
                    raise ValueError(
                        f"Label word {word!r} of '{label}' becomes the same tokens as a word of '{owner[ids]}'. "
                        f"Choose verbalizers that differ for this teacher's tokenizer."
                    )
                ids_of_label.append(ids)
            out.append(ids_of_label)
        return out

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Token ids before and after the content of the last message."""
        tokenizer, task = self.tokenizer, self.task
        messages = task.messages(task.filled(""))
        if not task.chat:
            starts_with_bos = tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
            return ([tokenizer.bos_token_id] if starts_with_bos else []), []
        *pieces, last = self._template_pieces
        before: list[int] = []
        for piece, message in zip(pieces, messages, strict=True):
            before += self._control_ids(piece)
            if message is not messages[-1]:
                before += self._plain_ids(message["content"])
        return before, self._control_ids(last + task.lead_in)

    @cached_property
    def _template_pieces(self) -> list[str]:
        """The chat template's own words: before, between and after the messages' contents."""
        if not self.tokenizer.chat_template:
            raise ValueError(
                f"Task '{self.task.name}' is a chat task, but the tokenizer of '{self.tokenizer.name_or_path}' has no "
                f"chat template. Use an instruct model, or set chat: false in the task."
            )
        messages = self.task.messages(self.task.filled(""))
        marks = [f"␂{secrets.token_hex(8)}␃" for _ in messages]
        turns = [{"role": m["role"], "content": mark} for m, mark in zip(messages, marks, strict=True)]
        variables: dict = {**self.template, "tokenize": False, "add_generation_prompt": True}
        try:
            rest = str(self.tokenizer.apply_chat_template(turns, **variables))
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(
                f"The chat template of '{self.tokenizer.name_or_path}' refuses task '{self.task.name}': {error}. "
                f"Many templates know no system turn: move its words into the instruction."
            ) from error
        pieces = []
        for mark in marks:
            piece, found, rest = rest.partition(mark)
            if not found or mark in rest:
                raise ValueError(
                    f"The chat template of '{self.tokenizer.name_or_path}' drops or repeats a turn of task "
                    f"'{self.task.name}'. Set chat: false, or use another model."
                )
            pieces.append(piece)
        return [*pieces, rest]

    def _control_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _plain_ids(self, text: str) -> list[int]:
        """Token ids of a text. None of them is a control token, whatever the text holds."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if self._added.isdisjoint(ids):
            return ids
        # Added tokens that are not marked special (<think>, <tool_call>) are matched all the same: break them up.
        # Where a normalizer makes them of other characters (fullwidth brackets), they are found letter by letter.
        split = self._added_pattern.split(text)
        pieces = [
            p for part in split for p in ((part[:1], part[1:]) if self._added_pattern.fullmatch(part) else (part,))
        ]
        for parts in (pieces, list(text)):
            ids = []
            for piece in parts:
                ids += self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True).input_ids
            if self._added.isdisjoint(ids):
                return ids
        raise ValueError(f"A text cannot be encoded without control tokens: {text[:200]!r}")

    @cached_property
    def _added(self) -> frozenset[int]:
        """Added tokens that a text must not produce: all but runs of blanks and single characters, which are ordinary."""
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset(i for i, t in added if t.special or len(t.content.strip(" \t\r\n▁")) > 1)

    @cached_property
    def _added_pattern(self) -> re.Pattern[str]:
        tokens = (self.tokenizer.added_tokens_decoder[i].content for i in self._added)
        return re.compile("(" + "|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)) + ")")

    def _continuation(self, word: str) -> tuple[int, ...]:
        """The tokens of `word` where the answer begins, with the blank that goes before it."""
        task = self.task
        tail = task.lead_in or (
            self._template_pieces[-1] if task.chat else task.messages(task.filled(""))[-1]["content"]
        )
        base = self._control_ids(tail)
        # After a blank or a control token (<|im_sep|>) an answer begins without one.
        gap = "" if not tail or tail[-1].isspace() or base[-1] in self.tokenizer.all_special_ids else " "
        joint = self._control_ids(tail + gap + word)
        if joint[: len(base)] == base:
            return tuple(joint[len(base) :])
        return tuple(self._control_ids(gap + word))


def fit_all(
    encoders: Sequence[PromptEncoder], text: str, max_tokens: int, head_share: float
) -> tuple[list[list[int]], bool]:
    """The prompts of several questions about a text that is cut for all of them alike, and whether it was cut."""
    keep = max_tokens
    while True:
        short, cut = cut_text(encoders[0].tokenizer, text, keep, head_share)
        prompts = [encoder.encode(short) for encoder in encoders]
        # A text full of what looks like control tokens grows when they are broken up.
        longest = max(len(ids) - encoder.overhead for ids, encoder in zip(prompts, encoders, strict=True))
        if longest <= max_tokens + _SLACK or keep <= 1:
            return prompts, cut
        keep = max(1, min(keep // 2, max_tokens * keep // (longest + 1)))
