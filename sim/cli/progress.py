"""How many simulations are done, on standard error while they run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["showing_progress"]


@contextmanager
def showing_progress() -> Iterator[Callable[[int, int], None]]:
    """Show how many simulations are done on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulations", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
