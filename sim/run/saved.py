"""A run that was saved or measured: its `result.json`, and the trace from the arrays in the same folder.

Everything that reads results reads them here: `why`, `compare`, `timeline` and `report`. The version of the result
(`schema_version`) is that of the arrays too. The arrays may be missing; then the run has no trace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

from numpy.typing import NDArray

from sim.engine.trace import COLUMNS, Trace
from sim.errors import InvalidValueError
from sim.results.trace_arrays import trace_of_arrays
from sim.run.result import SCHEMA_VERSION
from sim.scenario.file_bytes import parse_json, read_input, read_input_text
from sim.scenario.recordings.numpy_file import npz_arrays

__all__ = ["DETAILS_FILE", "RESULT_FILE", "TRACE_FILE", "SavedRun", "is_saved", "read_saved"]

RESULT_FILE: Final = "result.json"
TRACE_FILE: Final = "trace.npz"
"""Columns of the trace."""
DETAILS_FILE: Final = "details.npz"
"""What the trace and the page have but for columns."""

_MAX_BYTES: Final = 1 << 28
"""The largest result that is read."""
_MAX_UNPACKED_BYTES: Final = 1 << 31
"""The largest arrays that are read: a trace of 10 million rows."""
_HINT: Final = f"Name the {RESULT_FILE} that `moesim run SCENARIO --out DIR` wrote."


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedRun:
    """A run that was saved."""

    path: Path
    """The file of the result."""
    data: Mapping[str, Any]
    """Its JSON object: of a run, or of a stress test."""

    @property
    def name(self) -> str:
        """Name of the scenario, else of the file."""
        name = self.data["scenario"].get("name")
        return name if isinstance(name, str) and name else self.path.stem

    @property
    def is_stress_test(self) -> bool:
        """Whether it is the result of `moesim stress`."""
        return _is_stress_test(self.data)

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """The arrays of `details.npz`; None where it or `trace.npz` is not there."""
        is_whole = all((self.path.parent / name).is_file() for name in (TRACE_FILE, DETAILS_FILE))
        return _arrays(self.path.parent / DETAILS_FILE) if is_whole else None

    @cached_property
    def trace(self) -> Trace | None:
        """The trace; None where its arrays are not there.

        Raises
        ------
        InvalidValueError
            The arrays are damaged, or of another run.
        """
        if self.arrays is None:
            return None
        path = self.path.parent / TRACE_FILE
        columns = _arrays(path, COLUMNS)
        try:
            trace = trace_of_arrays(columns, self.arrays)
        except KeyError as error:
            _refuse(path, f"go with a {DETAILS_FILE} that `moesim run --out` wrote", f"no array {error.args[0]}")
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            _refuse(path, "be the trace of a run", str(error))
        step_ns = sum((self.data.get("path_ns") or {}).values())
        if step_ns and step_ns != trace.step_ns:
            _refuse(path, f"be of the run of {self.path.name}, of {step_ns:,} ns", f"{trace.step_ns:,} ns")
        return trace


def is_saved(source: str) -> bool:
    """Tell whether an argument names a saved result, and no scenario.

    >>> is_saved("out/result.json"), is_saved("mine.yaml"), is_saved("ep64_tp16_pp4")
    (True, False, False)
    """
    return Path(source).suffix == ".json"


def read_saved(source: str | Path) -> SavedRun:
    """Return the run, or the stress test, of a saved result.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or is no result of a run.
    """
    path = Path(source).expanduser()
    try:
        data = parse_json(read_input_text(path, _MAX_BYTES, field="RESULT", hint=_HINT))
    except InvalidValueError:
        raise
    except ValueError as error:
        _refuse(path, "be the JSON of a run", str(error))
    if isinstance(data, dict) and _is_stress_test(data):
        return SavedRun(path=path, data=data)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), Mapping) for key in ("scenario", "metrics")):
        _refuse(path, "be the JSON of a run", "JSON without `scenario` and `metrics`")
    if data.get("schema_version") != SCHEMA_VERSION:
        _refuse(path, f"have schema_version {SCHEMA_VERSION}", str(data.get("schema_version")))
    return SavedRun(path=path, data=data)


# ---- private -----------------------------------------------------------------------------------------------------


def _is_stress_test(data: Mapping[str, Any]) -> bool:
    return all(isinstance(data.get(key), list) for key in ("remedies", "rows", "skews"))


def _arrays(path: Path, wanted: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file, or those that are wanted of them."""
    content = read_input(path, _MAX_UNPACKED_BYTES, field="RESULT", hint=_HINT)
    return npz_arrays(
        path,
        content,
        lambda names: [name for name in names if wanted is None or name in wanted],
        has_texts=True,
        most_bytes=_MAX_UNPACKED_BYTES,
        hint="Write it again: moesim run SCENARIO --out DIR.",
    )


def _refuse(path: Path, rule: str, value: str) -> NoReturn:
    raise InvalidValueError(file=str(path), field="RESULT", rule=rule, value=value[:200], hint=_HINT) from None
