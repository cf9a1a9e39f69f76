"""The report that `moesim validate` prints, from the contract's JSON.

For each suite: its published and modelled figures; median, 90th percentile and worst error for each system and over all
systems, apart for the figures that constants may be fitted to; the same errors when a table is left out of the fit; the
order of strategies; the figures set apart, with the reason; sources and notes. Of a suite of many figures those with
the largest errors are printed; `--worst` prints as many as wanted, with where the modelled time goes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.quantities import format_quantity

__all__ = ["label_of", "print_validation"]

Row = Mapping[str, Any]

_RIGHT = (2, 3, 4, 5)


def print_validation(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print a validation.

    Parameters
    ----------
    data
        The contract's JSON object of `validate`.
    console
        Where to.
    written
        Content of each file -> its path.
    """
    for name, suite in data["suites"].items():
        rows = [row for row in data["rows"] if row["suite"] == name]
        shown = rows if len(rows) <= _MOST_FIGURES else _worst(rows)
        apart = [row for row in data["apart"] if row["suite"] == name]
        _print_figures(f"{name}", suite.get("title") or "", rows, shown, console)
        _print_summary(name, suite, console)
        if "ranking" in suite:
            _print_rankings(name, suite["ranking"], data["groups"], console)
        _print_left_out(suite["left_out"], console)
        _print_apart(apart, console)
        _print_sources([*rows, *apart], console)
        if suite["skipped"]:
            heading(console, "no cases", "files without `published` figures")
            bullets(console, suite["skipped"], mark="•")
        if suite.get("not_split"):
            heading(console, "not split", "tables with too few shapes to leave one out")
            bullets(console, suite["not_split"], mark="•")
    _print_worst(data.get("worst", ()), console)
    if data.get("by_name"):
        heading(console, "run by name", "long tables: `moesim validate NAME`")
        bullets(console, (f"{name}: {', '.join(cases)}" for name, cases in data["by_name"].items()), mark="•")
    if len(data["suites"]) > 1:
        heading(console, "all suites")
        table = new_table(console, "", *_SUMMARY, right=range(1, 7))
        table.add_row(*map(cell, _summary_row("over all", data["over_all"])))
        indented(console, table)
    print_written(written, console)


def label_of(row: Row) -> str:
    """Return the case of a figure with its name, else with the changes of its `set` by the last word of each key.

    Changes that are maps or lists are left out.

    Examples
    --------
    >>> label_of({"case": "ring", "set": {"workload.bytes": "1 MiB", "workload.num_ranks": 16, "a.b": {}}})
    'ring, bytes 1 MiB, num_ranks 16'
    >>> label_of({"case": "ring", "name": "one node", "set": {"workload.bytes": "1 MiB"}})
    'ring: one node'
    """
    if row.get("name"):
        return f"{row['case']}: {', '.join(filter(None, (row.get('group'), row['name'])))}"
    changes = {
        key.rpartition(".")[2]: value for key, value in row["set"].items() if not isinstance(value, (dict, list))
    }
    return ", ".join([row["case"], *(f"{key} {value}" for key, value in changes.items())])


# ---- private -----------------------------------------------------------------------------------------------------

_SUMMARY = ("median", "signed median", "90th percentile", "worst", "rows", "within")
_MOST_FIGURES: Final = 60
"""Of a suite with more figures those with the largest errors are printed."""
_WORST_FIGURES: Final = 3
"""So many of each system."""
_MOST_GROUPS: Final = 24
"""So many groups of strategies are printed, the worst first."""
_MOST_PARTS: Final = 6
"""So many categories of an account of time are printed."""


def _worst(rows: Sequence[Row]) -> list[Row]:
    """Return the figures of each system with the largest errors, and those without a modelled value."""
    by_system: dict[str, list[Row]] = {}
    for row in rows:
        by_system.setdefault(row["system"], []).append(row)
    chosen: list[Row] = []
    for group in by_system.values():
        worst_first = sorted(group, key=lambda row: -abs(row["error_pct"]) if row["error_pct"] is not None else 0.0)
        chosen += worst_first[:_WORST_FIGURES]
    return chosen


def _print_figures(name: str, title: str, rows: Sequence[Row], shown_rows: Sequence[Row], console: Console) -> None:
    num_within = sum(row["within"] for row in rows)
    parts = [title, f"{num_within} of {len(rows)} within their tolerance"]
    parts += [f"the {_WORST_FIGURES} worst of each system are shown"] if len(shown_rows) < len(rows) else []
    heading(console, name, " · ".join(filter(None, parts)))
    table = new_table(console, "case", "metric", "published", "modelled", "error", "tolerance", "within", right=_RIGHT)
    for row in shown_rows:
        style = "" if row["within"] else "bold red"
        shown = (*_shown(row), _percent(row["tolerance_pct"]), "✓" if row["within"] else "✗")
        table.add_row(*(cell(text, style) for text in shown))
    indented(console, table)
    problems = [f"{label_of(row)}: {row['problem']}" for row in rows if row.get("problem")]
    if problems:
        bullets(console, problems, mark="✗", style="bold red")


def _shown(row: Row) -> tuple[str, ...]:
    published, modelled = (format_quantity(row[key], row["unit"]) for key in ("published", "modelled"))
    published = f"at most {published}" if row["at_most"] else published
    return label_of(row), row["metric"], published, modelled, _percent(row["error_pct"], signed=True)


def _print_summary(name: str, suite: Mapping[str, Any], console: Console) -> None:
    fitted = suite["num_fitted_constants"]
    note = f"of |error| · {fitted} fitted constant{'' if fitted == 1 else 's'}"
    heading(console, f"{name}: errors", note)
    table = new_table(console, "system", *_SUMMARY, right=range(1, 7))
    for system, summary in suite["systems"].items():
        for row in _summary_rows(system, summary):
            table.add_row(*map(cell, row))
    for row in _summary_rows("over all", suite):
        table.add_row(*(cell(text, "bold") for text in row))
    indented(console, table)


def _summary_rows(name: str, summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the row of a summary, and below it a row for each of its halves that has figures."""
    halves = [(half, summary[half]) for half in ("fitted", "scored") if summary.get(half, {}).get("num_rows")]
    return [_summary_row(name, summary), *(_summary_row(f"  {half}", errors) for half, errors in halves)]


def _summary_row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    errors = [_percent(summary[key]) for key in ("median_pct", "p90_pct", "worst_pct")]
    errors.insert(1, _percent(summary.get("signed_median_pct"), signed=True))
    return name, *errors, str(summary["num_rows"]), str(summary["num_within"])


def _print_rankings(
    suite: str, summary: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    """Print the groups of a suite, those with the least tau first."""
    own = sorted(
        ((name, group) for name, group in groups.items() if group["suite"] == suite),
        key=lambda item: (item[1]["kendall_tau"] is None, item[1]["kendall_tau"] or 0.0),
    )
    parts = [f"{len(own)} group{'' if len(own) == 1 else 's'}", f"median tau {_tau(summary['median_tau'])}"]
    parts += [f"regret {_percent(summary['median_regret_pct'])}, at worst {_percent(summary['worst_regret_pct'])}"]
    parts += [f"the {_MOST_GROUPS} of least tau are shown"] if len(own) > _MOST_GROUPS else []
    heading(console, f"{suite}: order of strategies", " · ".join(parts))
    columns = ("strategies", "tau of clear pairs", "tau of all", "regret", "best modelled")
    table = new_table(console, "group", *columns, right=range(1, 5))
    for name, group in own[:_MOST_GROUPS]:
        taus = (_tau(group["kendall_tau"]), _tau(group["kendall_tau_all"]))
        cells = (name, str(group["num"]), *taus, _percent(group["regret_pct"]), group["best_modelled"])
        table.add_row(*map(cell, cells))
    indented(console, table)


def _print_worst(rows: Sequence[Row], console: Console) -> None:
    """Print figures with the account of their modelled time: its largest categories."""
    if not rows:
        return
    heading(console, "largest errors", "of each system, with where the modelled step goes, averaged over stages")
    table = new_table(console, "case", "published", "modelled", "error", "goes to", right=(1, 2, 3))
    for row in rows:
        parts = sorted(row["parts_s"].items(), key=lambda part: -part[1])[:_MOST_PARTS]
        whole = sum(row["parts_s"].values())
        words = [f"{name.replace('_', ' ')} {100 * seconds / whole:.0f} %" for name, seconds in parts if seconds]
        label, _, published, modelled, error = _shown(row)
        table.add_row(*map(cell, (label, published, modelled, error, ", ".join(words))))
    indented(console, table)


def _tau(value: float | None) -> str:
    """Return a rank correlation; a dash where no pair is clear."""
    return "–" if value is None else f"{value:.2f}"


def _print_left_out(left_out: Mapping[str, Any], console: Console) -> None:
    if not left_out:
        return
    heading(
        console,
        "left out of the fit",
        "errors of each table predicted from a fit to all others, and the errors of the full fit",
    )
    columns = ("median left out", "fitted", "90th percentile left out", "fitted")
    table = new_table(console, "table", *columns, right=range(1, 5))
    for name, table_errors in left_out.items():
        fitted = table_errors["fitted"]
        errors = (table_errors["median_pct"], fitted["median_pct"], table_errors["p90_pct"], fitted["p90_pct"])
        table.add_row(cell(name), *(cell(_percent(error)) for error in errors))
    indented(console, table)


def _print_apart(apart: Sequence[Row], console: Console) -> None:
    if not apart:
        return
    heading(console, "set apart", "counted in no summary")
    table = new_table(console, "case", "metric", "published", "modelled", "error", right=(2, 3, 4))
    for row in apart:
        table.add_row(*map(cell, _shown(row)))
    indented(console, table)
    by_reason: dict[str, list[str]] = {}
    for row in apart:
        by_reason.setdefault(row["reason"], []).append(label_of(row))
    bullets(
        console, (f"{'; '.join(dict.fromkeys(labels))}: {reason}" for reason, labels in by_reason.items()), mark="•"
    )


def _print_sources(rows: Sequence[Row], console: Console) -> None:
    for title, key in (("notes", "note"), ("sources", "source")):
        texts = list(dict.fromkeys(_with_cases(rows, key)))
        if texts:
            heading(console, title)
            bullets(console, texts, mark="•")


def _with_cases(rows: Sequence[Row], key: str) -> Iterable[str]:
    """Yield each text once, behind the names of its cases."""
    cases: dict[str, dict[str, None]] = {}
    for row in rows:
        if row[key]:
            cases.setdefault(row[key], {})[row["case"]] = None
    for text, names in cases.items():
        yield f"{', '.join(names)}: {text}"


def _percent(value: float | None, *, signed: bool = False) -> str:
    """Return a percentage with two decimals below 10 and one decimal above; `signed` shows the plus."""
    if value is None:
        return "–"
    digits = 1 if abs(value) >= 10 else 2
    return f"{value:{'+' if signed else ''},.{digits}f} %"
