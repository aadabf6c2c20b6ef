"""What the pages of a review have in common: texts as inert HTML, the head, what is kept when all is read."""

from __future__ import annotations

import html
from importlib import resources

from hf_llambert.review.queue import Queue, QueueRow
from hf_llambert.review.session import ReviewSession
from hf_llambert.review.summary import review_lines
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import visible


def escaped(text: str) -> str:
    """A text as inert HTML, in which gradio's templates find nothing to fill in."""
    shown = html.escape(visible(text))
    return "".join(f"&#{ord(c)};" if c in "${}`" else c for c in shown)


def template(name: str) -> str:
    """A file that comes with the page."""
    return (resources.files("hf_llambert.review") / "templates" / name).read_text(encoding="utf-8")


def shown_head(session: ReviewSession, done: int, skipped: int) -> str:
    """The head of a page: task, reviewer, and how many rows are done."""
    queue = session.review.queue
    return (
        f'<div id="review-head"><h1>{escaped(queue.task.name)} · {escaped(session.reviewer)}</h1>'
        f'<span class="count" id="review-count">{done:,} of {len(queue.rows):,}, {skipped:,} skipped</span></div>'
        f'<div class="review-bar"><span style="width: {100 * done / len(queue.rows):.1f}%"></span></div>'
    )


def shown_failure(failed: str) -> str:
    """What went wrong, in the head of a page; nothing where nothing did."""
    return f'<p id="review-failed" role="alert">{escaped(failed)}</p>' if failed else ""


def shown_end(session: ReviewSession) -> str:
    """What stands in place of a row when all are read."""
    lines = "".join(f"<li>{escaped(line)}</li>" for line in review_lines(session.review))
    return (
        f'<div class="review-done" id="review-done"><p><b>All rows are read. Thank you.</b></p><ul>{lines}</ul>'
        f"<p>Every answer is kept, and written as gold. Close the page, and stop the command with Ctrl-C.</p></div>"
    )


def shown_fields(queue: Queue, row: QueueRow) -> str:
    """A row's text; of several fields each with the name of its column."""
    fields = queue.fields(row)
    if len(fields) == 1:
        return escaped(row.text)
    return "\n\n".join(f"<b>{escaped(name)}</b>\n{escaped(value)}" for name, value in fields.items())


def machines_said(row: QueueRow, question: Question) -> str:
    """The answers of teacher and student for a row, in words."""
    said = []
    for who, answer, sure in (
        ("teacher", row.teacher, row.teacher_confidence),
        ("student", row.student, row.student_confidence),
    ):
        if question.is_answer(answer):
            words = question.in_words(answer)
            said.append(f"{who} says {words}" + ("" if sure is None else f" ({sure:.0%} sure)"))
    return ", ".join(said) or "neither gave a label"
