"""The report that `moesim validate` prints, from the contract's JSON.

For each suite: its published and modelled figures; median, 90th percentile and worst error for each system and over all
systems; the same errors when a table is left out of the fit; the figures set apart, with the reason; sources and notes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
        apart = [row for row in data["apart"] if row["suite"] == name]
        _print_figures(f"{name}", suite.get("title") or "", rows, console)
        _print_summary(name, suite, console)
        _print_left_out(suite["left_out"], console)
        _print_apart(apart, console)
        _print_sources([*rows, *apart], console)
        if suite["skipped"]:
            heading(console, "no cases", "files without `published` figures")
            bullets(console, suite["skipped"], mark="•")
        if suite.get("not_split"):
            heading(console, "not split", "tables with too few shapes to leave one out")
            bullets(console, suite["not_split"], mark="•")
    if len(data["suites"]) > 1:
        heading(console, "all suites")
        table = new_table(console, "", *_SUMMARY, right=range(1, 6))
        table.add_row(*map(cell, _summary_row("over all", data["over_all"])))
        indented(console, table)
    print_written(written, console)


def label_of(row: Row) -> str:
    """Return the case of a figure with the changes of its `set`, by the last word of each key, without maps and lists.

    Examples
    --------
    >>> label_of({"case": "ring", "set": {"workload.bytes": "1 MiB", "workload.num_ranks": 16, "a.b": {}}})
    'ring, bytes 1 MiB, num_ranks 16'
    """
    changes = {
        key.rpartition(".")[2]: value for key, value in row["set"].items() if not isinstance(value, (dict, list))
    }
    return ", ".join([row["case"], *(f"{key} {value}" for key, value in changes.items())])


# ---- private -----------------------------------------------------------------------------------------------------

_SUMMARY = ("median", "90th percentile", "worst", "rows", "within")


def _print_figures(name: str, title: str, rows: Sequence[Row], console: Console) -> None:
    num_within = sum(row["within"] for row in rows)
    heading(console, name, " · ".join(filter(None, (title, f"{num_within} of {len(rows)} within their tolerance"))))
    table = new_table(console, "case", "metric", "published", "modelled", "error", "tolerance", "within", right=_RIGHT)
    for row in rows:
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
    table = new_table(console, "system", *_SUMMARY, right=range(1, 6))
    systems = suite["systems"]
    for system, summary in systems.items():
        table.add_row(*map(cell, _summary_row(system, summary)))
    table.add_row(*(cell(text, "bold") for text in _summary_row("over all", suite)))
    indented(console, table)


def _summary_row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    errors = (_percent(summary[key]) for key in ("median_pct", "p90_pct", "worst_pct"))
    return name, *errors, str(summary["num_rows"]), str(summary["num_within"])


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
