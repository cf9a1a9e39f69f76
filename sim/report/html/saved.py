"""A run that was saved: its result.json, and the arrays that `run --out` writes next to it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.report.files import OUTPUT_NAMES
from sim.report.html.details import RunDetails, details_from_arrays
from sim.scenario.file_bytes import parse_json, read_input_text

__all__ = ["is_stress_test", "read_details", "read_result"]

_MAX_BYTES: Final = 1 << 28
"""The largest result that is read."""
_SCHEMA_VERSION: Final = 1
_HINT: Final = "Name the result.json that `moesim run SCENARIO --out DIR` wrote."


def read_result(path: Path) -> dict[str, Any]:
    """Return the JSON object of a run or of a stress test.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or is not the result of a run.
    """
    try:
        data = parse_json(read_input_text(path, _MAX_BYTES, field="RESULT", hint=_HINT))
    except InvalidValueError:
        raise
    except ValueError as error:
        _refuse(path, "be the JSON of a run", str(error))
    if isinstance(data, dict) and is_stress_test(data):
        return data
    if not isinstance(data, dict) or not all(isinstance(data.get(key), Mapping) for key in ("scenario", "metrics")):
        _refuse(path, "be the JSON of a run", "JSON without `scenario` and `metrics`")
    if data.get("schema_version") != _SCHEMA_VERSION:
        _refuse(path, f"have schema_version {_SCHEMA_VERSION}", str(data.get("schema_version")))
    return data


def is_stress_test(data: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object is that of `moesim stress`."""
    return all(isinstance(data.get(key), list) for key in ("remedies", "rows", "skews"))


def read_details(result: Path) -> RunDetails | None:
    """Return the record of the run whose result stands next to it; None where the two files are not there.

    Raises
    ------
    InvalidValueError
        The files are there and cannot be read.
    """
    trace, details = (result.parent / OUTPUT_NAMES[key] for key in ("trace", "details"))
    if not (trace.is_file() and details.is_file()):
        return None
    try:
        return details_from_arrays(_arrays(trace), _arrays(details))
    except (OSError, KeyError, IndexError, TypeError, ValueError, zipfile.BadZipFile) as error:
        _refuse(details, f"go with {trace.name} of the same run", str(error) or type(error).__name__)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _refuse(path: Path, rule: str, value: str) -> NoReturn:
    raise InvalidValueError(file=str(path), field="RESULT", rule=rule, value=value, hint=_HINT) from None
