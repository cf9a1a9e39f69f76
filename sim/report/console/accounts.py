"""Where the time went: the account of the stages and the account of the path as a table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.accounts import CATEGORIES
from sim.results.quantities import time_unit_ns

__all__ = ["print_accounts"]

_LARGE: Final = 0.10
"""Categories with a larger mean share of the step are bold."""
Account = Mapping[str, float]


def print_accounts(stages_ns: Sequence[Mapping[str, int]], path_ns: Mapping[str, int], console: Console) -> None:
    """Print a row for each category that is not 0, with a column for each stage, their mean, and the path.

    Where the columns do not fit into the width, the shares of the stages are left out; where they still do not fit, the
    least and the most of all stages replace the stages.
    """
    if not stages_ns or not sum(stages_ns[0].values()):
        return
    step_ns = sum(stages_ns[0].values())
    scale, unit = time_unit_ns(step_ns)
    mean = {category: sum(stage.get(category, 0) for stage in stages_ns) / len(stages_ns) for category in CATEGORIES}
    shown = [category for category in CATEGORIES if mean[category] or path_ns.get(category)]
    stages = {f"stage {i}": stage for i, stage in enumerate(stages_ns)}
    whole = {"mean": mean, "path": path_ns}
    form = _Form(categories=shown, step_ns=step_ns, scale=scale)
    gap = 3 if console.is_terminal else 2
    table = form.columns(stages, with_share=True) | form.columns(whole, with_share=True)
    if _width(table, gap) > console.width:
        table = form.columns(stages, with_share=False) | form.columns(whole, with_share=True)
    if _width(table, gap) > console.width:
        table = form.columns(_extremes(stages_ns) | whole, with_share=True)
    heading(console, "where the time went", f"step {step_ns / scale:.4g} {unit} = 100 %, in {unit} and %")
    _print(shown, table, {category for category in shown if mean[category] > _LARGE * step_ns}, console)


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How times are printed."""

    categories: Sequence[str]
    step_ns: int
    scale: float

    def columns(self, accounts: Mapping[str, Account], *, with_share: bool) -> dict[str, list[str]]:
        """Return the texts of each account, category by category."""
        digits = max(0, 4 - len(str(int(self.step_ns / self.scale))))
        return {
            name: [
                _amount(account.get(category, 0), self.step_ns, self.scale, digits, with_share=with_share)
                for category in self.categories
            ]
            for name, account in accounts.items()
        }


def _extremes(stages_ns: Sequence[Account]) -> dict[str, Account]:
    """Return the least and the most of all stages, category by category."""
    return {
        "least": {category: min(stage.get(category, 0) for stage in stages_ns) for category in CATEGORIES},
        "most": {category: max(stage.get(category, 0) for stage in stages_ns) for category in CATEGORIES},
    }


def _width(columns: Mapping[str, Sequence[str]], gap: int) -> int:
    """Return the width of the table with its margin."""
    widths = [gap + max(len(text) for text in [name, *texts]) for name, texts in columns.items()]
    return 2 + max(len(category) for category in CATEGORIES) + sum(widths)


def _print(
    categories: Sequence[str], columns: Mapping[str, Sequence[str]], large: Collection[str], console: Console
) -> None:
    table = new_table(console, "", *columns, right=range(1, len(columns) + 1))
    for i, category in enumerate(categories):
        style = "bold" if category in large else ""
        table.add_row(cell(category.replace("_", " "), style), *(cell(texts[i], style) for texts in columns.values()))
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
