"""The benchmarks as one table, from the JSON of a run.

    python benchmarks/table.py out/benchmarks.json [--write README.md ...]

Prints the table; with `--write`, also puts it between the two marker comments of the files named.

A benchmark that keeps no rows of its own gets one, with the least of its rounds.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
HEADINGS = ("case", "figure", "bare timeouts", "at most", "")


def rows_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of all benchmarks, in the order in which they ran."""
    rows: list[dict[str, Any]] = []
    for one in report["benchmarks"]:
        least = {"case": one["name"].removeprefix("test_"), "figure": one["stats"]["min"], "unit": "s"}
        rows += one["extra_info"].get("rows", [least])
    return rows


def timeouts_s(report: dict[str, Any]) -> list[float]:
    """Return the least bare timeout next to each benchmark that ran some, ascending."""
    found = (one["extra_info"].get("timeout_s") for one in report["benchmarks"])
    return sorted(float(timeout_s) for timeout_s in found if timeout_s is not None)


def cells(row: dict[str, Any], timeout_s: float | None) -> tuple[str, ...]:
    """Return a row as text: case, figure, timeouts, bar, met or missed."""
    time_s, bar, unit = row.get("time_s"), row.get("bar"), row["unit"]
    timeouts = None if time_s is None or timeout_s is None else time_s / timeout_s
    on_timeouts = row.get("bar_on_timeouts", False)
    judged = timeouts if on_timeouts else row["figure"]
    return (
        row["case"],
        f"{digits(row['figure'])} {unit}".strip(),
        "" if timeouts is None else digits(timeouts),
        "" if bar is None else f"{bar:g} {'timeouts' if on_timeouts else unit}".strip(),
        "" if bar is None or judged is None else ("met" if judged <= bar else "**missed**"),
    )


def digits(value: float) -> str:
    """Return three digits, and thousands apart.

    >>> digits(0.0941), digits(35.44), digits(118734.0)
    ('0.0941', '35.4', '119,000')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{value:#.3g}"


def markdown(report: dict[str, Any]) -> str:
    """Return the table, in columns of equal width."""
    bare_s = timeouts_s(report)
    lines = [HEADINGS, *(cells(row, bare_s[0] if bare_s else None) for row in rows_of(report))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    rule = tuple("-" * max(3, width) for width in widths)
    text = "\n".join(joined(line, widths) for line in (lines[0], rule, *lines[1:]))
    machine = report["machine_info"]
    cpu = machine.get("cpu", {})
    where = (
        f"{cpu.get('brand_raw', machine['machine'])}, {cpu.get('count', '?')} cores, Python {machine['python_version']}"
    )
    spread = (
        f", bare timeouts {digits(bare_s[0] * 1e6)} to {digits(bare_s[-1] * 1e6)} us next to the cases"
        if bare_s
        else ""
    )
    return f"{text}\n\n{where}; one run{spread}."


def joined(line: Sequence[str], widths: Sequence[int]) -> str:
    """Return one line of the table."""
    padded = [text.ljust(max(3, width)) for text, width in zip(line, widths, strict=True)]
    return f"| {' | '.join(padded)} |"


def write(path: Path, table: str) -> None:
    """Put `table` between the markers of a file."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{path}: the lines {BEGIN!r} and {END!r} must each stand there once")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    path.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """Print the table, and write it where a file is named."""
    parser = argparse.ArgumentParser(description="Print the benchmarks' table.")
    parser.add_argument("report", type=Path, help="JSON of a run")
    parser.add_argument("--write", type=Path, nargs="+", default=[], help="files that hold the two markers")
    arguments = parser.parse_args()
    table = markdown(json.loads(arguments.report.read_text(encoding="utf-8")))
    print(table)
    for path in arguments.write:
        write(path, table)


if __name__ == "__main__":
    main()
