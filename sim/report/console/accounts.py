"""Where the time went: the stages account as a table, the path account beside it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.accounts import CATEGORIES

__all__ = ["print_accounts"]

_LARGE: Final = 0.10
"""Parts with a larger mean share of the step are bold."""
_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
Account = Mapping[str, float]


def print_accounts(stages_ns: Sequence[Mapping[str, int]], path_ns: Mapping[str, int], console: Console) -> None:
    """Print a row per part that is not 0: each stage, their mean, and the path.

    Where the stages do not fit beside each other, their shares are left out; where that is not enough, the least and
    the most of all stages stand for them.
    """
    if not stages_ns or not sum(stages_ns[0].values()):
        return
    step_ns = sum(stages_ns[0].values())
    scale, unit = next(((s, u) for s, u in _UNITS if step_ns >= 10 * s), _UNITS[-1])
    mean = {part: sum(stage.get(part, 0) for stage in stages_ns) / len(stages_ns) for part in CATEGORIES}
    shown = [part for part in CATEGORIES if mean[part] or path_ns.get(part)]
    stages = {f"stage {i}": stage for i, stage in enumerate(stages_ns)}
    whole = {"mean": mean, "path": path_ns}
    form = _Form(parts=shown, step_ns=step_ns, scale=scale)
    gap = 3 if console.is_terminal else 2
    table = form.columns(stages, with_share=True) | form.columns(whole, with_share=True)
    if _width(table, gap) > console.width:
        table = form.columns(stages, with_share=False) | form.columns(whole, with_share=True)
    if _width(table, gap) > console.width:
        table = form.columns(_extremes(stages_ns) | whole, with_share=True)
    heading(console, "where the time went", f"step {step_ns / scale:.4g} {unit} = 100 %, in {unit} and %")
    _print(shown, table, {part for part in shown if mean[part] > _LARGE * step_ns}, console)


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How times are written."""

    parts: Sequence[str]
    step_ns: int
    scale: float

    def columns(self, accounts: Mapping[str, Account], *, with_share: bool) -> dict[str, list[str]]:
        """Return the texts of each account's parts."""
        digits = max(0, 4 - len(str(int(self.step_ns / self.scale))))
        return {
            name: [
                _amount(account.get(part, 0), self.step_ns, self.scale, digits, with_share=with_share)
                for part in self.parts
            ]
            for name, account in accounts.items()
        }


def _extremes(stages_ns: Sequence[Account]) -> dict[str, Account]:
    """Return the least and the most of all stages, part by part."""
    return {
        "least": {part: min(stage.get(part, 0) for stage in stages_ns) for part in CATEGORIES},
        "most": {part: max(stage.get(part, 0) for stage in stages_ns) for part in CATEGORIES},
    }


def _width(columns: Mapping[str, Sequence[str]], gap: int) -> int:
    """Return the width of the table with its margin."""
    widths = [gap + max(len(text) for text in [name, *texts]) for name, texts in columns.items()]
    return 2 + max(len(part) for part in CATEGORIES) + sum(widths)


def _print(
    parts: Sequence[str], columns: Mapping[str, Sequence[str]], large: Collection[str], console: Console
) -> None:
    table = new_table(console, "", *columns, right=range(1, len(columns) + 1))
    for i, part in enumerate(parts):
        style = "bold" if part in large else ""
        table.add_row(cell(part.replace("_", " "), style), *(cell(texts[i], style) for texts in columns.values()))
    indented(console, table)


def _amount(time_ns: float, step_ns: int, scale: float, digits: int, *, with_share: bool) -> str:
    """Return a time and its share of the step.

    >>> _amount(25e6, 100_000_000, 1e6, 1, with_share=True), _amount(0, 100_000_000, 1e6, 1, with_share=True)
    ('25.0  25.0', '–     –')
    """
    if time_ns == 0:
        return "–     –" if with_share else "–"
    text = f"{time_ns / scale:,.{digits}f}"
    return f"{text} {100 * time_ns / max(1, step_ns):5.1f}" if with_share else text
