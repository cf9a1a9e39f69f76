"""The pieces of printed reports: headings, tables without frames, bullets.

A terminal gets colours and a line under each header; a pipe or a file gets the same text without them. Texts from
scenarios are printed unchanged: they hold no markup, and a control character is shown as a question mark.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_PADDING: Final = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)
"""Spaces at the end of a line, before the codes that end colours."""

__all__ = [
    "PIPE_WIDTH",
    "bullets",
    "cell",
    "heading",
    "indented",
    "make_console",
    "new_table",
    "percent",
    "print_rows",
    "print_written",
    "without_padding",
]

PIPE_WIDTH: Final = 120
"""Width of the output where it is not a terminal."""

_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9.,]*( ?[A-Za-z%/]{1,12}){0,2}|–|")


def make_console(file: TextIO | None = None) -> Console:
    """Return a console for a report: as wide as the terminal, or `PIPE_WIDTH` (`COLUMNS` overrides both).

    Characters that the encoding of the output does not have become question marks.
    """
    target = sys.stdout if file is None else file
    if hasattr(target, "reconfigure"):
        target.reconfigure(errors="replace")
    console = Console(file=target)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def cell(text: object, style: str = "") -> Text:
    """Return a text unchanged, but for control characters.

    >>> cell("[bold]3[/bold]" + chr(27) + "[2J").plain
    '[bold]3[/bold]?[2J'
    """
    return Text("".join(c if c.isprintable() or c == "\n" else "?" for c in str(text)), style=style, overflow="fold")


def heading(console: Console, title: str, note: str = "") -> None:
    """Print a heading, with an empty line before and a note behind."""
    console.print()
    console.print(Text.assemble(cell(title.upper(), "bold"), cell(f"  {note}" if note else "", "dim")))


def new_table(console: Console, *columns: str, right: Iterable[int] = ()) -> Table:
    """Return an empty table; columns at the positions `right` are aligned to the right. Without names, no header."""
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
    """Print each text behind a mark; further lines of the text are indented."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for text in texts:
        grid.add_row(cell(mark, style), cell(text))
    indented(console, grid)


def percent(share: float | None) -> str:
    """Return a share to a tenth of a percent; a dash where the share is not known.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return "–" if share is None else f"{100 * share:.1f} %"


def indented(console: Console, content: RenderableType) -> None:
    """Print with a margin of two columns."""
    console.print(Padding(content, (0, 0, 0, 2), expand=False))


@contextmanager
def without_padding(console: Console) -> Iterator[None]:
    """Print what is printed in this context without the spaces at the ends of lines."""
    with console.capture() as captured:
        yield
    console.file.write(_PADDING.sub(r"\1", captured.get()))


def print_written(written: Mapping[str, str], console: Console) -> None:
    """Print the content and the path of each file that was written."""
    if written:
        heading(console, "written")
        table = new_table(console, "", "")
        for content, path in written.items():
            table.add_row(cell(content), cell(path))
        indented(console, table)


def print_rows(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console, *, note: str = ""
) -> None:
    """Print a table under a title with a note; columns of numbers are aligned at the right.

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
    table.columns[0].no_wrap = columns[0] == "name"  # a user copies it
    for row in rows:
        table.add_row(*(cell(text, "bold" if i == 0 else "") for i, text in enumerate(row)))
    heading(console, title, note)
    indented(console, table)
