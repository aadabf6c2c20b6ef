"""The page of a task of questions: one text, all questions about it, one of them active."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from hf_llambert.review.drawing import REASONS
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.page_parts import escaped, machines_said, shown_end, shown_failure, shown_fields, shown_head
from hf_llambert.review.session import ReviewSession
from hf_llambert.tasks.question import Question

if TYPE_CHECKING:
    from gradio import Blocks

_KEYS = "123456789abcdefghijklmnopqrtvwxyz"  # without those that skip and undo


def questions_page(session: ReviewSession, show_labels: bool) -> Blocks:
    """The page as gradio's `Blocks`; see [`review_page`]."""
    import gradio as gr

    task, lock, failures = session.review.queue.task, threading.Lock(), count(1)

    def state(failed: str = "", failure: int = 0) -> tuple:
        is_open = session.open_row() is not None
        head, body = _shown(session, show_labels, failure)
        return (
            head + shown_failure(failed),
            body,
            session.step,
            gr.update(visible=is_open),
            gr.update(interactive=bool(session.standing)),
            gr.update(visible=not is_open and bool(session.skipped)),
        )

    def done(step: object, act: Callable[[], object]) -> tuple:
        with lock:
            # A second key, or a second tab, that came before its page changed is not about what is shown now.
            if step == session.step:
                try:
                    act()
                    if session.open_row() is None and session.review.has_gold:
                        session.review.save_gold()
                except (OSError, ValueError, KeyError) as error:
                    return state(str(error), next(failures))
            return state()

    def answer(message: str) -> tuple:
        told = json.loads(message)
        return done(told["step"], lambda: _answer(session, told["question"], told["labels"]))

    with gr.Blocks(analytics_enabled=False, title=f"{task.name} · review") as page:
        head, body = gr.HTML(), gr.HTML()
        step, message = gr.Number(visible="hidden", precision=0), gr.Textbox(visible="hidden")
        send = gr.Button(visible="hidden", elem_id="review-send")
        with gr.Row(elem_id="review-others"):
            skip = gr.Button("S  Skip the question", elem_id="review-skip", min_width=80)
            undo = gr.Button("U  Go back", elem_id="review-undo", min_width=80)
            again = gr.Button("Skipped questions again", elem_id="review-again", min_width=80, visible=False)
        gr.HTML(_help(session), elem_id="review-help")
        outputs = [head, body, step, skip, undo, again]
        quiet: dict = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        acts: tuple[Callable[[], object], ...] = (lambda: _skip(session), session.undo, session.reopen_skipped)
        for button, act in zip((skip, undo, again), acts, strict=True):
            button.click(lambda at, act=act: done(at, act), step, outputs, **quiet)
        # Keys that were typed ahead come before the event of the answer before them has ended.
        js = "() => [window.reviewAnswer]"
        send.click(answer, message, outputs, js=js, trigger_mode="multiple", **quiet)
        page.load(state, None, outputs, **quiet)
    return page


def _answer(session: ReviewSession, name: str, labels: list[int]) -> None:
    """Answer a question of the row that is shown with the labels that were pressed."""
    place, question = session.open_row(), session.review.queue.task.parts[name].question
    if place is None or not all(label in range(len(question.labels)) for label in labels):
        raise ValueError(f"There is no row or label to answer '{name}' with.")
    session.answer(place, sorted(labels) if reviewed(question).several else question.answers(labels)[0], name)


def _skip(session: ReviewSession) -> None:
    place, name = session.open_row(), session.open_question()
    if place is not None and name is not None:
        session.skip(place, name)


def _shown(session: ReviewSession, show_labels: bool, failure: int = 0) -> tuple[str, str]:
    """Head and body of the page as it stands; `failure` is another number where the same is shown after an error."""
    queue, standing, place = session.review.queue, session.standing, session.open_row()
    names = list(queue.task.parts)
    done = sum(all((k, name) in standing for name in names) for k in range(len(queue.rows)))
    head = shown_head(session, done, len(session.skipped))
    if place is None:
        return head, shown_end(session)
    row, active = queue.rows[place], session.open_question()
    asked = []
    for name, one in queue.task.parts.items():
        said = machines_said(row.part(name), one.question) if show_labels and not row.is_blind else ""
        given = standing.get((place, name))
        stands = "active" if name == active else "waiting" if given is None else "answered"
        if given is not None and not one.question.is_answer(given.label):
            stands = "skipped"
        asked.append(_section(name, one.question, stands, None if given is None else given.label, said))
    about = f"{row.question}: " if row.question else ""
    return head, (
        f'<div id="review-board" data-step="{session.step}" data-shown="{session.step}.{failure}" data-place="{place}"><div>'
        f'<p class="review-why">This row: {escaped(about + REASONS[row.reason])}.</p>'
        f'<div class="review-text" tabindex="0" dir="auto" data-place="{place}">{shown_fields(queue, row)}</div></div>'
        f'<div id="review-questions">{"".join(asked)}</div></div>'
    )


def _section(name: str, question: Question, stands: str, given: object, said: str) -> str:
    """A question with its labels; `given` is the reviewer's answer and `said` what machines say."""
    kind = reviewed(question)
    pressed = question.named(given) if stands == "answered" else []
    how = "any" if kind.several else "number" if kind.by_number else "one"
    keys = question.labels if kind.by_number else [*_KEYS, *[""] * len(question.labels)]
    options = []
    for k, (label, key) in enumerate(zip(question.labels, keys, strict=False)):
        sign = f"<kbd>{key}</kbd> " if key and not kind.by_number else ""
        meant = _meaning(question, k)
        options.append(
            f'<button type="button" data-label="{k}" data-key="{escaped(key)}" aria-pressed="{_said(label in pressed)}">'
            f"{sign}<span>{escaped(label)}</span>{f'<small>{escaped(meant)}</small>' if meant else ''}</button>"
        )
    confirm = (
        '<button type="button" data-confirm><kbd>Enter</kbd> <span class="some">These hold</span>'
        '<span class="none">None holds</span></button>'
    )
    shown = {"active": "now", "skipped": "skipped", "answered": "answered", "waiting": ""}[stands]
    ask = replace(question, ask=question.ask.replace("{definitions}", "")).filled().strip()
    current = ' aria-current="step"' if stands == "active" else ""
    machines = f'<p class="review-said">{escaped(said)}</p>' if said else ""
    typed = '<p class="review-typed" aria-live="polite"></p>' if kind.by_number else ""
    return (
        f'<section class="review-question {stands}" data-question="{escaped(name)}" data-kind="{how}"{current}>'
        f'<h2 title="{escaped(ask)}"><span>{escaped(question.name)}</span> <span class="review-stands">{shown}</span></h2>'
        f'<p class="review-ask" dir="auto">{escaped(ask)}</p>{machines}'
        f'<div class="review-options" role="group">{"".join(options)}{confirm if kind.several else ""}</div>{typed}</section>'
    )


def _meaning(question: Question, label: int) -> str:
    """The description of a label; without one, the first word for a level that is not its number."""
    words = [word for word in question.verbalizers[label] if word != question.labels[label]]
    return question.descriptions[label] or (words[0] if reviewed(question).by_number and words else "")


def _said(holds: bool) -> str:
    return "true" if holds else "false"


def _help(session: ReviewSession) -> str:
    task = session.review.queue.task
    return (
        f"<details><summary>Keys and prompt (<kbd>?</kbd>)</summary>"
        f"<p>The key on a label answers the question that is marked, and moves on to the next. Where several labels may "
        f"hold, keys press and release them, and <kbd>Enter</kbd> confirms; with none pressed, none holds. For a level type "
        f"its number; <kbd>Enter</kbd> ends one with which another begins, as 1 does 10.</p>"
        f"<p><kbd>S</kbd> skip the question · <kbd>U</kbd> or <kbd>Backspace</kbd> go back a question · <kbd>?</kbd> this "
        f"help</p><p>The teacher was shown:</p><pre>{escaped(task.instruction)}</pre>"
        f"<p>Answer what you would say yourself. Each answer is on disk before the next question is marked.</p></details>"
    )
