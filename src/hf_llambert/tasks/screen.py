"""A console that prints text as it is: no markup, no emoji codes, signs in place of control characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import HEAVY_HEAD, Box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from hf_llambert.tasks.texts import visible


class Screen(Console):
    """
    A console that shows markup and control characters instead of obeying them.

    Args:
        stderr (`bool`, defaults to `False`): Whether it is standard error.
        width (`int`, *optional*): Columns. Defaults to the terminal's.
    """

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """See `rich.console.Console`, which would drop some control characters without a word."""
        return super().render_str(visible(text), **kwargs)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console`; the text of each piece is made visible."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)

    def table(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str | tuple[str, str]]],
        title: str | None = None,
        *,
        numbers: bool = False,
        box: Box = HEAVY_HEAD,
        sections: Iterable[str] = (),
    ) -> None:
        """
        Draw a table.

        Args:
            headings (`Sequence[str]`): Of the columns.
            rows (`Iterable`): Cells; one with a color is (text, style).
            title (`str`, *optional*): What stands above.
            numbers (`bool`, defaults to `False`): All columns but the first are numbers: to the right, never broken.
            box (`Box`): The lines around.
            sections (`Iterable[str]`): First cells before which a line is drawn.
        """
        table = Table(title=None if title is None else _shown(title), box=box)
        if numbers:
            table.pad_edge, table.padding = False, (0, 1, 0, 0)
        for k, heading in enumerate(headings):
            right = numbers and k > 0
            table.add_column(_shown(heading), justify="right" if right else "left", no_wrap=numbers, overflow="fold")
        starts = set(sections)
        for row in rows:
            if row[0] in starts:
                table.add_section()
            table.add_row(*(_shown(*cell) if isinstance(cell, tuple) else _shown(cell) for cell in row))
        self.print(table)


def _shown(text: str, style: str = "") -> Text:
    return Text(visible(text), style)
