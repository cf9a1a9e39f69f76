"""The report of `moesim stress`, from its JSON: what was found, then a small table for each question.

A row is a remedy and a column a skew. Of more skews than fit into the width, some are shown, the first and the last
among them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written

__all__ = ["print_stress"]

Row = Mapping[str, Any]

_LEAST_SHARE: Final = 5e-4
"""Least share of a step that a kind of work adds with any remedy and is shown."""
_PADDED: Final = "busiest rank: tokens without the empty rows with which experts are padded, which are computed as well"
_PLANS: Final = {
    "own": "planned from the very popularity that it is tested on, the best case",
    "outdated": "planned from another draw of the popularity, for comparison",
    "earlier": "planned from earlier loads of a popularity that changes",
}
"""What a placement is planned from -> its words."""


def print_stress(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print a stress test.

    Parameters
    ----------
    data
        The JSON object of `stress`.
    console
        Where to.
    written
        Content of each file -> its path.
    """
    kept = f", {data['num_kept']} of them from an earlier run" if data["num_kept"] else ""
    what = f"routing {data['routing']}, {data['num_points']} simulations{kept}"
    heading(console, "stress", f"{data['scenario']}: {what}")
    bullets(console, data["conclusion"], mark="•")
    table = _Tables(data, console)
    table.print("useful tokens/s", table.useful_note, table.useful)
    table.print("step time", table.step_note, lambda row: f"{row['step_time_s'] * table.scale:,.4g}")
    if any(row["lost_fraction"] > 0 for row in table.rows):
        table.print("lost copies", "% of the token copies, dropped or rerouted: lost quality", table.lost, where=_loses)
    table.print("busiest rank", "tokens over the mean / lower bound of every placement with as many slots", table.load)
    table.print("memory", "peak in GB per GPU; ✗ does not fit", table.memory)
    if any(row["padded_fraction"] for row in table.rows):
        bullets(console, [_PADDED], mark="•")
    _print_parts(data, console)
    _print_notes(data, console)
    print_written(written, console)


# ---- private -----------------------------------------------------------------------------------------------------


class _Tables:
    """Tables of remedies over skews."""

    def __init__(self, data: Mapping[str, Any], console: Console) -> None:
        self._data, self._console = data, console
        self.rows: list[Row] = [row for row in data["rows"] if row["step_time_s"] is not None]
        longest = max((row["step_time_s"] for row in self.rows), default=1.0)
        self.scale, self._unit = (1e3, "ms") if longest < 10 else (1.0, "s")
        most = max((row["useful_tokens_per_s"] for row in self.rows), default=1.0)
        self._tokens, self._prefix = (1e6, "million ") if most >= 1e6 else (1e3, "thousand ")

    def print(
        self, title: str, note: str, text: Callable[[Row], str], *, where: Callable[[Row], bool] = lambda row: True
    ) -> None:
        """Print one table: `text` is what stands in a cell; remedies without a row `where` it holds are left out."""
        loads = {row["skew"]: str(row["load"]) for row in self.rows if "load" in row}
        shown = {row["remedy"] for row in self.rows if where(row)}
        remedies = [remedy["name"] for remedy in self._data["remedies"] if remedy["name"] in shown]
        skews = self._skews_that_fit(remedies, max((len(text(row)) for row in self.rows), default=1))
        names = [loads.get(skew, f"{skew:g}") for skew in skews]
        heading(self._console, title, note)
        table = new_table(
            self._console, "remedy" if loads else "remedy \\ skew", *names, right=range(1, 1 + len(names))
        )
        by_place = {(row["remedy"], row["skew"]): row for row in self.rows}
        for remedy in remedies:
            found = [by_place.get((remedy, skew)) for skew in skews]
            texts = [cell("–") if row is None else cell(text(row), _style(row)) for row in found]
            table.add_row(cell(remedy), *texts)
        indented(self._console, table)

    def _skews_that_fit(self, remedies: Sequence[str], cell_width: int) -> list[float]:
        """Return as many skews as fit into the width behind the names of remedies, spread over all."""
        skews: list[float] = self._data["skews"]
        room = self._console.width - 4 - max(map(len, (*remedies, "remedy")), default=0)
        most = max(2, room // (max(cell_width, 4) + 2))
        step = (len(skews) - 1) / max(1, most - 1)
        return skews if len(skews) <= most else [skews[round(i * step)] for i in range(most)]

    @property
    def useful_note(self) -> str:
        """The unit of useful tokens/s, and what they are."""
        return f"{self._prefix}per s; a lost copy of a token counts as not computed"

    @property
    def step_note(self) -> str:
        """The unit of the step time, and how wide its intervals are."""
        halves = [
            ((row["step_time_s_interval"][1] - row["step_time_s_interval"][0]) / 2 / row["step_time_s"], row)
            for row in self.rows
            if row["step_time_s_interval"] is not None
        ]
        if not halves:
            return self._unit
        half, row = max(halves, key=lambda pair: float(pair[0]))
        at = "" if "load" in row else f" at skew {row['skew']:g}"
        return f"{self._unit}; 95 % interval at most ± {100 * half:.1f} % ({row['remedy']}{at})"

    def useful(self, row: Row) -> str:
        """Return useful tokens/s."""
        return f"{row['useful_tokens_per_s'] / self._tokens:.4g}"

    @staticmethod
    def lost(row: Row) -> str:
        """Return the share of lost copies."""
        return f"{100 * row['lost_fraction']:.1f}" if row["lost_fraction"] else "–"

    @staticmethod
    def load(row: Row) -> str:
        """Return the load of the busiest rank and its bound."""
        return f"{row['imbalance_max_over_mean']:.2f}/{row['imbalance_bound_max_over_mean']:.2f}"

    @staticmethod
    def memory(row: Row) -> str:
        """Return the peak of memory."""
        return f"{'✗ ' if row['fits'] is False else ''}{row['peak_bytes_per_gpu'] / 1e9:.4g}"


def _loses(row: Row) -> bool:
    return bool(row["lost_fraction"] > 0)


def _style(row: Row) -> str:
    return "red" if row["fits"] is False else "dim" if row["is_comparison"] else ""


def _print_parts(data: Mapping[str, Any], console: Console) -> None:
    """Print which kinds of work the step at the largest skew takes longer for than the first row's step."""
    last = data["skews"][-1]
    rows = [row for row in data["rows"] if row["skew"] == last and row["slowdown"] is not None]
    if not rows or len(data["rows"]) < 2:
        return
    least_s = _LEAST_SHARE * rows[0]["step_time_s"]
    kinds = [kind for kind in rows[0]["slowdown_s"] if any(abs(row["slowdown_s"][kind]) > least_s for row in rows)]
    if not kinds:
        return
    at = f"with the {rows[0]['load']} tokens" if "load" in rows[0] else f"at skew {last:g}"
    note = f"ms that the step {at} takes longer than that of the first row, stages' mean"
    heading(console, "where the time goes", note)
    table = new_table(console, "remedy", *kinds, "sum", right=range(1, 2 + len(kinds)))
    for row in rows:
        added = [*(row["slowdown_s"][kind] for kind in kinds), sum(row["slowdown_s"].values())]
        texts = [f"{1e3 * value:+,.1f}" if abs(value) >= least_s else "–" for value in added]
        table.add_row(cell(row["remedy"]), *(cell(text, _style(row)) for text in texts))
    indented(console, table)


def _print_notes(data: Mapping[str, Any], console: Console) -> None:
    """Print what plans are made from, which remedies are comparisons, and what could not be simulated."""
    by_plan: dict[str, list[str]] = {}
    for remedy in data["remedies"]:
        if remedy["plan"]:
            by_plan.setdefault(remedy["plan"], []).append(remedy["name"])
    notes = [f"{_PLANS[plan]}: {', '.join(names)}" for plan, names in by_plan.items()]
    apart = dict.fromkeys(row["remedy"] for row in data["rows"] if row["is_comparison"] and row["plan"] != "outdated")
    notes += [f"for comparison, never the best: {', '.join(apart)}"] if apart else []
    notes += [
        f"not simulated: {problem}" for problem in dict.fromkeys(row["problem"] for row in data["rows"]) if problem
    ]
    if notes:
        console.print()
        bullets(console, notes, mark="•")
