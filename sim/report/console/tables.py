"""The pieces that printed reports are made of: headings, tables without frames, bullets.

A terminal gets colours and a rule under each head; a pipe or a file gets the same text without either. Texts from
scenarios are printed as they are: nothing in them is markup, and control characters are shown as a question mark.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["PIPE_WIDTH", "bullets", "cell", "heading", "make_console", "new_table", "print_rows"]

PIPE_WIDTH: Final = 120
"""Width where the output is no terminal."""

_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9.,]*( ?[A-Za-z%/]{1,12}){0,2}|–|")


def make_console(file: TextIO | None = None) -> Console:
    """Return a console for a report: as wide as the terminal, or `PIPE_WIDTH` (`COLUMNS` overrides both).

    Letters that the output's encoding does not have become question marks.
    """
    target = sys.stdout if file is None else file
    if hasattr(target, "reconfigure"):
        target.reconfigure(errors="replace")
    console = Console(file=target)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def cell(text: object, style: str = "") -> Text:
    """Return a text as it is.

    >>> cell("[bold]3[/bold]" + chr(27) + "[2J").plain
    '[bold]3[/bold]?[2J'
    """
    return Text("".join(c if c.isprintable() or c == "\n" else "?" for c in str(text)), style=style, overflow="fold")


def heading(console: Console, title: str, beside: str = "") -> None:
    """Print a heading with an empty line before it."""
    console.print()
    console.print(Text.assemble(cell(title.upper(), "bold"), cell(f"  {beside}" if beside else "", "dim")))


def new_table(console: Console, *columns: str, right: Iterable[int] = ()) -> Table:
    """Return an empty table; columns at the positions `right` are aligned there. No column, no head."""
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal and any(columns) else None,
        show_header=any(columns),
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_edge=False,
    )
    for i, name in enumerate(columns):
        table.add_column(cell(name), justify="right" if i in right else "left", overflow="fold")
    return table


def bullets(console: Console, texts: Iterable[str], *, mark: str, style: str = "") -> None:
    """Print each text after a mark, its further lines indented."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for text in texts:
        grid.add_row(cell(mark, style), cell(text))
    indented(console, grid)


def indented(console: Console, what: RenderableType) -> None:
    """Print with a margin of two columns."""
    console.print(Padding(what, (0, 0, 0, 2), expand=False))


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a titled table; columns of numbers are aligned at the right.

    Examples
    --------
    >>> print_rows("devices", ["name", "memory"], [["a", "64 GB"], ["b", "128 GB"]], Console(width=40))
    <BLANKLINE>
    DEVICES
      name  memory
      a      64 GB
      b     128 GB
    """
    numeric = [i for i in range(len(columns)) if rows and all(_NUMBER.fullmatch(row[i]) for row in rows)]
    table = new_table(console, *columns, right=numeric)
    for row in rows:
        table.add_row(*(cell(text, "bold" if i == 0 else "") for i, text in enumerate(row)))
    heading(console, title)
    indented(console, table)
