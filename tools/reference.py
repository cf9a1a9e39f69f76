"""Writes the reference pages from schema, program and catalogue of metrics (`make reference`).

A test holds the pages against what stands here, so they cannot fall behind.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from sim.cli.app import app
from sim.results.catalog import CATALOG
from sim.scenario.json_schema import json_schema

__all__ = ["PAGES", "commands_page", "keys_page"]

Schema = dict[str, Any]

_FOLDER: Final = Path(__file__).parents[1] / "docs" / "reference"
_EXAMPLES: Final = {
    "B": "a size, such as `64 GB`",
    "B/s": "a bandwidth, such as `400 Gb/s`",
    "FLOP/s": "a speed, such as `989 TFLOP/s`",
    "ns": "a time, such as `3 us`",
    "%": "a percentage, such as `70 %`",
    "tokens": "a count of tokens, such as `4096`",
}
"""First unit of a kind of quantity -> how such a quantity is written."""
_GROUPS: Final = {"metrics": "Of the run", "memory": "Of memory, of one GPU", "mesh": "Of the mesh"}
"""Group of metrics -> its heading."""
_UNITS: Final = {"None": "a count", "ratio": "a ratio, printed in %", "ratio1": "a ratio", "flag": "`true`, `false`"}
"""Unit in the catalogue -> what readers see; other units stand for themselves."""
_NOTE: Final = "<!-- Written by `make reference` from {source}: change that, not this page. -->"


def keys_page() -> str:
    """Return the page of all keys that a scenario may have."""
    schema = json_schema()
    lines = [
        "# Keys of a scenario",
        "",
        _NOTE.format(source="sim/scenario/schema.py"),
        "",
        "A scenario is one YAML file. A quantity is written with its unit (`400 Gb/s`, `64 GB`, `3 us`), a count or a "
        "ratio without. An unknown key, a missing unit or a value out of range is refused before anything runs. The "
        "same as JSON Schema, for editors: [`moesim schema`](commands.md#moesim-schema).",
        "",
        "## Top level",
        "",
        *_table(schema, schema),
    ]
    for key, names in _sections(schema):
        for name in names:
            part = schema["$defs"][name]
            title = f"{key}, kind {part['properties']['kind']['const']}" if len(names) > 1 else key
            lines += ["", f"## {title}", "", _first_paragraph(part["description"]), "", *_table(schema, part)]
    return "\n".join([*lines, "", *_all_units(schema)]) + "\n"


def commands_page() -> str:
    """Return the page of all commands, with their arguments and options."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        _NOTE.format(source="sim/cli/app.py"),
        "",
        f"{group.help} Every command has `--help`, and ends with an [exit code](../quick_start.md#exit-codes).",
    ]
    for name, command in _commands(group):
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        usage = " ".join(["moesim", name, *(param.metavar for param in arguments), "[OPTIONS]"])
        lines += ["", f"## moesim {name}", "", command.help, "", "```text", usage, "```", ""]
        lines += ["| argument or option | meaning | default |", "|---|---|---|"]
        lines += [_row(_written(param), param.help, _default(param)) for param in command.params]
        example = (command.epilog or "").removeprefix("Example: ")
        if example:
            lines += ["", "```sh", *example.split(" && "), "```"]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return the page of all names that a claim may use as its metric."""
    lines = [
        "# Metrics",
        "",
        _NOTE.format(source="sim/results/catalog.py"),
        "",
        "Every name that a [claim](../claims.md) may use as its metric, alone or with its group (`fits`, "
        "`memory.fits`). The equations stand in `sim/results/metrics.py`; `result.json` holds all values in SI units.",
    ]
    for group, title in _GROUPS.items():
        rows = [(name, metric) for name, metric in CATALOG.items() if metric.group == group]
        lines += ["", f"## {title}", "", "| metric | unit | meaning |", "|---|---|---|"]
        lines += [_row(f"`{name}`", _UNITS.get(str(m.unit), str(m.unit)), m.meaning) for name, m in rows]
    return "\n".join(lines) + "\n"


PAGES: Final = {"keys.md": keys_page, "commands.md": commands_page, "metrics.md": metrics_page}
"""Name of a page below docs/reference, and what writes it."""


# ---- keys --------------------------------------------------------------------------------------------------------


def _sections(schema: Schema) -> Iterator[tuple[str, list[str]]]:
    """Yield the dotted key of each section, and the names of the models that may stand there."""
    todo = list(schema["properties"].items())
    while todo:
        key, entry = todo.pop(0)
        names = [ref.rpartition("/")[2] for ref in _references(entry)]
        if names:
            yield key, names
            todo = [(f"{key}.{k}", v) for name in names for k, v in schema["$defs"][name]["properties"].items()] + todo


def _references(entry: Schema) -> list[str]:
    """Return the models that the value of a key may be, or be a list of; each once."""
    parts = [entry, *entry.get("anyOf", ()), *entry.get("oneOf", ())]
    parts += [part["items"] for part in parts if isinstance(part.get("items"), dict)]
    return list(dict.fromkeys(part["$ref"] for part in parts if "$ref" in part))


def _table(schema: Schema, part: Schema) -> list[str]:
    """Return the table of a section's keys."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = part.get("required", ())
    for key, entry in part["properties"].items():
        if all(value in (None, 0, []) for value in entry.get("enum", ["any"])):
            continue  # nothing but its default is supported: it stands in the table of what is not
        default = "**required**" if key in required else _shown(entry.get("default"), _units(entry))
        description = (
            entry.get("description") or schema["$defs"][_references(entry)[0].rpartition("/")[2]]["description"]
        )
        rows.append(_row(f"`{key}`", _value(entry), default, description))
    return rows


def _value(entry: Schema) -> str:
    """Return in words what a key takes."""
    if _references(entry):
        is_list = entry.get("type") == "array"
        also = [_value(part) for part in entry.get("anyOf", ()) if part.get("type") == "string"]
        return " or ".join([*also, "a list of maps, below" if is_list else "a map, below"])
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_value(part) for part in entry["anyOf"] if part.get("type") != "null"))
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    return _plain_value(entry)


def _plain_value(entry: Schema) -> str:
    """Return in words what a key without alternatives takes."""
    kind = entry.get("type")
    if kind == "string":
        units = _units(entry)
        return _EXAMPLES[units[0]] if units else "a text"
    if kind in {"integer", "number"}:
        low = entry.get("minimum", entry.get("exclusiveMinimum"))
        above = "above" if "exclusiveMinimum" in entry else "from"
        high = f" to {entry['maximum']:,}" if "maximum" in entry else ""
        return f"{'an integer' if kind == 'integer' else 'a number'} {above} {low}{high}"
    if kind == "array":
        return f"a list, each item {_value(entry['items'])}"
    return {"boolean": "`true`, `false`", "object": "a map"}[str(kind)]


def _units(entry: Schema) -> list[str]:
    """Return the units of a quantity; none of anything else."""
    found = re.search(r"\(([^()?:\[\]]+)\)\$$", entry.get("pattern", ""))
    return found[1].split("|") if found else []


def _all_units(schema: Schema) -> list[str]:
    """Return the table of units."""
    rows = ["## Units", "", "| a value given as | may have the unit |", "|---|---|"]
    known: dict[str, list[str]] = {}
    for part in schema["$defs"].values():
        for entry in part.get("properties", {}).values():
            for choice in (entry, *entry.get("anyOf", ())):
                if units := _units(choice):
                    known.setdefault(_EXAMPLES[units[0]], units)
    rows += [_row(example, ", ".join(f"`{unit}`" for unit in units)) for example, units in sorted(known.items())]
    return [*rows, "", "`b` is a bit and `B` a byte; `GB` is 10^9 bytes and `GiB` 2^30."]


def _shown(default: object, units: list[str]) -> str:
    if default is None or isinstance(default, dict) or default in ([], ()):
        return "–"
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    if units:
        return f"`{default:g} {units[-1]}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# ---- commands ----------------------------------------------------------------------------------------------------


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as below
    """Yield each command with its name, those of groups with their group's before it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield above + name, command


def _written(param: Any) -> str:  # noqa: ANN401 - click's classes stand elsewhere in some versions of typer
    """Return an argument or option as one writes it."""
    if param.param_type_name == "argument":
        return f"`{param.metavar}`"
    names = ", ".join(param.opts)
    return f"`{names}`" if param.is_flag else f"`{names} {param.metavar or 'N'}`"


def _default(param: Any) -> str:  # noqa: ANN401 - as above
    if param.required:
        return "**required**"
    return "–" if param.default is None or param.is_flag else f"`{param.default}`"


# ---- both --------------------------------------------------------------------------------------------------------


def _first_paragraph(text: str) -> str:
    return text.split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    for file, page in PAGES.items():
        (_FOLDER / file).write_text(page(), encoding="utf-8")
