"""The page on which a person reviews: one text, the labels, keys. Of questions see `questions_page.py`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hf_llambert.review.drawing import REASONS
from hf_llambert.review.page_guard import PageGuard
from hf_llambert.review.page_parts import (
    escaped,
    machines_said,
    shown_end,
    shown_failure,
    shown_fields,
    shown_head,
    template,
)
from hf_llambert.review.questions_page import questions_page
from hf_llambert.review.session import ReviewSession
from hf_llambert.tasks.questions import ABSTAIN

if TYPE_CHECKING:
    from gradio import Blocks
    from starlette.types import ASGIApp

_ADDRESS = "127.0.0.1"  # nobody but this machine
_KEYS = 9
_FEW = 4  # labels that stand beside each other


@contextmanager
def serve_review(session: ReviewSession, port: int | None = None, show_labels: bool = False) -> Iterator[str]:
    """
    Serve the page to this machine only, while the block runs. Gives its address, which holds a secret: who does not know it
    is refused.

    Args:
        session (`ReviewSession`): Whose answers; closing it is the caller's.
        port (`int`, *optional*): Port. Defaults to the first free one from 7860 on.
        show_labels (`bool`, defaults to `False`): Show what teacher and student say before the person has answered. People
            then tend to agree with them; so it is not shown on rows drawn at random, which measure.

    Raises:
        ImportError: gradio is not installed.
        OSError: The port is taken.
    """
    page = review_page(session, show_labels)
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # A site whose name was made to lead to this machine (DNS rebinding) could read the texts and answer otherwise.
    files = ("review", "questions") if session.review.queue.task.questions else ("review",)
    own = Middleware(TrustedHostMiddleware, allowed_hosts=[_ADDRESS, "localhost"])
    guard = PageGuard()
    system = ("system-ui", "sans-serif")  # no fonts from elsewhere
    theme = gr.themes.Default(primary_hue="blue", font=system, font_mono=("ui-monospace", "monospace")).set(
        button_primary_background_fill="*primary_600",  # a contrast of 5.2 to the white on it, not 3.7
        button_primary_background_fill_hover="*primary_700",
    )
    try:
        _, address, _ = page.launch(
            server_name=_ADDRESS,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            app_kwargs={"middleware": [own, Middleware(_guarded, guard=guard)]},
            theme=theme,
            css="".join(template(f"{name}.css") for name in files),
            head="".join(f"<script>{template(f'{name}.js')}</script>" for name in files),
        )
    except OSError as error:
        where = "no port from 7860 on is free" if port is None else f"port {port} is taken"
        raise OSError(f"The page cannot be served: {where}. Pass another --port.") from error
    try:
        yield guard.closed(address)
    finally:
        page.close(verbose=False)


def review_page(session: ReviewSession, show_labels: bool = False) -> Blocks:
    """
    The page as gradio's `Blocks`, to be launched; see [`serve_review`].

    Raises:
        ImportError: gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError("The review page needs gradio: pip install 'hf-llambert[review]'.") from error
    task, lock = session.review.queue.task, threading.Lock()
    if task.questions:
        return questions_page(session, show_labels)

    def state(failed: str = "") -> tuple:
        (head, body), place = _shown(session, show_labels), session.open_row()
        skipped = any(answer.label == ABSTAIN for answer in session.answers.values())
        return (
            head + shown_failure(failed),
            body,
            -1 if place is None else place,
            gr.update(visible=place is not None),
            gr.update(visible=place is not None),
            gr.update(interactive=bool(session.answers)),
            gr.update(visible=place is None and skipped),
        )

    def acting(act: Callable[[int], object]) -> Callable[[int], tuple]:
        def handler(place: int) -> tuple:
            with lock:
                standing = session.open_row()
                # A second key, or a second tab, that came before its page changed is not about the row shown now.
                if place == (-1 if standing is None else standing):
                    try:
                        act(place)
                        if session.open_row() is None and session.review.labels():
                            session.review.save_gold()
                    except (OSError, ValueError) as error:  # gradio shows none of its own errors outside its queue
                        return state(str(error))
                return state()

        return handler

    with gr.Blocks(analytics_enabled=False, title=f"{task.name} · review") as page:
        head, body = gr.HTML(), gr.HTML()
        place = gr.Number(visible="hidden", precision=0)
        with gr.Row(elem_id="review-labels", elem_classes="many" if task.num_labels > _FEW else "") as labels:
            buttons = [
                gr.Button(
                    f"{k + 1}  {name}" if k < _KEYS else name,
                    elem_id=f"review-label-{k + 1}",
                    variant="primary",
                    min_width=100,
                )
                for k, name in enumerate(task.labels)
            ]
        with gr.Row(elem_id="review-others"):
            skip = gr.Button("S  Skip", elem_id="review-skip", min_width=80)
            undo = gr.Button("U  Undo", elem_id="review-undo", min_width=80)
            again = gr.Button("Skipped rows again", elem_id="review-again", min_width=80, visible=False)
        gr.HTML(_help(session), elem_id="review-help")
        outputs = [head, body, place, labels, skip, undo, again]
        actions: list[tuple] = [
            (skip, session.skip),
            (undo, lambda _: session.undo()),
            (again, lambda _: session.reopen_skipped()),
            *((button, _answering(session, k)) for k, button in enumerate(buttons)),
        ]
        for button, act in actions:
            button.click(acting(act), place, outputs, queue=False, show_progress="hidden", api_visibility="private")
        page.load(state, None, outputs, queue=False, show_progress="hidden", api_visibility="private")
    return page


def _guarded(app: ASGIApp, guard: PageGuard) -> ASGIApp:
    return guard.around(app)


def _answering(session: ReviewSession, label: int) -> Callable[[int], None]:
    return lambda place: session.answer(place, label)


def _shown(session: ReviewSession, show_labels: bool) -> tuple[str, str]:
    """Head and body of the page as it stands."""
    queue, answers = session.review.queue, session.answers
    skipped = sum(answer.label == ABSTAIN for answer in answers.values())
    head, place = shown_head(session, len(answers), skipped), session.open_row()
    if place is None:
        return head, shown_end(session)
    row = queue.rows[place]
    size = " short" if queue.task.num_labels > _FEW else ""
    why = REASONS[row.reason] + (
        f": {machines_said(row, queue.task.question)}" if show_labels and not row.is_blind else ""
    )
    return head, (
        f'<p class="review-why">This row: {escaped(why)}.</p>'
        f'<div class="review-text{size}" tabindex="0" dir="auto" data-place="{place}">{shown_fields(queue, row)}</div>'
    )


def _help(session: ReviewSession) -> str:
    task = session.review.queue.task
    keys = " · ".join(f"<kbd>{k + 1}</kbd> {escaped(name)}" for k, name in enumerate(task.labels[:_KEYS]))
    meant = "".join(
        f"<li><b>{escaped(name)}</b>: {escaped(meaning)}</li>"
        for name, meaning in zip(task.labels, task.descriptions, strict=True)
        if meaning
    )
    legend = f'<ul id="review-meanings">{meant}</ul>' if meant else ""
    return (
        f"{legend}<details><summary>Keys and question (<kbd>?</kbd>)</summary><p>{keys}</p>"
        f"<p><kbd>S</kbd> skip · <kbd>U</kbd> or <kbd>Backspace</kbd> undo · <kbd>?</kbd> this help</p>"
        f"<p>The teacher was asked:</p><pre>{escaped(task.instruction)}</pre>"
        f"<p>Answer what you would say yourself. Each answer is on disk before the next text is shown.</p></details>"
    )
