"""The schema of a scenario as JSON Schema (draft 2020-12), for editors and for the documentation.

It is made from the models, so it cannot fall behind them; values that are not supported yet are left out. Checks
between keys are not in it: an editor accepts a little more than `load_scenario` does.
"""

from typing import Any

from sim.scenario.not_supported import NOT_YET, NotYet
from sim.scenario.schema import ScenarioSpec

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file.

    Examples
    --------
    >>> json_schema()["$defs"]["ScheduleSpec"]["properties"]["kind"]["enum"]
    ['gpipe', '1f1b']
    """
    schema = ScenarioSpec.model_json_schema(mode="validation")
    for row in NOT_YET:
        _leave_out(schema, row)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "moesim scenario"}


def _leave_out(schema: dict[str, Any], row: NotYet) -> None:
    """Leave of a key only the values that are supported."""
    section, key = row.key.split(".")
    annotation = ScenarioSpec.model_fields[section].annotation
    name = next(name for name in schema["$defs"] if name in str(annotation))
    entry = schema["$defs"][name]["properties"][key]
    names = entry.pop("enum", [])
    for other in ("anyOf", "type", "items", "minimum"):
        entry.pop(other, None)
    entry["enum"] = list(row.allowed) if row.names is None else [value for value in names if value not in row.names]
