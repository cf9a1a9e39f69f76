"""The files of `--out`: result, trace, pictures and Perfetto trace, each written whole or not at all.

`trace.npz` holds an array for each column, with equal bytes for equal traces (NumPy's own writer adds the time).
"""

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.errors import OutputError
from sim.plan.logs import PairUse
from sim.results.accounts import COMPUTE_CATEGORIES, apportion
from sim.run.saved import DETAILS_FILE, RESULT_FILE, TRACE_FILE

if TYPE_CHECKING:
    from sim.report.html.details import RunDetails

__all__ = [
    "MEASURED_NAMES",
    "OUTPUT_NAMES",
    "PICTURES",
    "STRESS_NAMES",
    "SWEEP_NAMES",
    "VALIDATION_NAMES",
    "stage_notes",
    "write_drawing",
    "write_measured",
    "write_outputs",
    "write_stress",
    "write_sweep",
    "write_validation",
    "write_whole",
]

PICTURES: Final = (".png", ".svg", ".pdf")
"""Suffixes of files that can be drawn."""

OUTPUT_NAMES: Final = {
    "result": RESULT_FILE,
    "trace": TRACE_FILE,
    "report": "report.html",
    "details": DETAILS_FILE,
    "timeline": "timeline.png",
    "Perfetto trace": "trace.pftrace",
    "Chrome trace": "trace.json",
    "links": "links.png",
    "memory": "memory.png",
    "bytes per GPU pair": "pairs.npz",
    "their picture": "pairs.png",
}
"""Content of each file in the folder of a run -> the file's name; memory only with a model, pairs only with GPUs."""

MEASURED_NAMES: Final = {
    key: OUTPUT_NAMES[key]
    for key in ("result", "report", "trace", "details", "timeline", "Perfetto trace", "Chrome trace")
}
"""Content of each file in the folder of a measured run -> the file's name."""

VALIDATION_NAMES: Final = {"result": "validate.json", "picture": "validate.png", "order": "ranking.png"}
"""Content of each file in the folder of a validation -> the file's name; the order only where strategies are ranked."""

STRESS_NAMES: Final = {"result": "stress.json", "picture": "stress.png", "report": "stress.html"}
"""Content of each file in the folder of a stress test -> the file's name."""

SWEEP_NAMES: Final = {"result": "sweep.json", "picture": "sweep.png", "table": "sweep.csv"}
"""Content of each file in the folder of a sweep -> the file's name."""


def write_outputs(
    details: "RunDetails", data: Mapping[str, Any], folder: Path, *, pairs: PairUse | None = None
) -> dict[str, str]:
    """Write all files of a run into `folder`, which is created where it does not exist.

    Returns
    -------
    dict
        Content of each file -> its path.
    """
    from sim.report.html.details import arrays_of  # noqa: PLC0415  # only what is written is imported
    from sim.report.html.page import write_page  # noqa: PLC0415  # jinja2

    trace = details.trace
    _make(folder)
    name = str(data["scenario"].get("name") or "scenario")
    paths = {key: folder / file for key, file in OUTPUT_NAMES.items() if pairs is not None or "pair" not in file}
    if not data.get("memory"):
        del paths["memory"]
    write_json(data, paths["result"])
    write_whole(paths["trace"], lambda path: path.write_bytes(npz_bytes(trace.arrays())))
    write_whole(paths["details"], lambda path: path.write_bytes(npz_bytes(arrays_of(details))))
    write_whole(paths["report"], lambda path: write_page(data, path, details=details))
    for key in ("timeline", "Perfetto trace", "Chrome trace"):
        write_drawing(
            trace,
            paths[key],
            name=name,
            notes=stage_notes(data["stages_ns"]),
            memory=data.get("memory"),
            rank_tokens=details.rank_tokens,
        )
    from sim.report.charts.links import draw_links  # noqa: PLC0415  # matplotlib

    write_whole(paths["links"], lambda path: draw_links(trace, path, title=name))
    if "memory" in paths:
        from sim.report.charts.memory import draw_memory  # noqa: PLC0415  # matplotlib

        end_s = data["metrics"]["step_time_s"]
        write_whole(paths["memory"], lambda path: draw_memory(data["memory"], path, title=name, end_s=end_s))
    if pairs is not None:
        from sim.report.charts.links import draw_pairs  # noqa: PLC0415  # matplotlib

        columns = {"bytes": pairs.num_bytes, "node": pairs.node_of, "ranks_per_row": np.array(pairs.ranks_per_row)}
        columns |= {} if pairs.by_switch is None else {"by_switch": pairs.by_switch}
        write_whole(paths["bytes per GPU pair"], lambda path: path.write_bytes(npz_bytes(columns)))
        write_whole(paths["their picture"], lambda path: draw_pairs(pairs, path, title=name))
    return {key: str(path) for key, path in paths.items()}


def write_measured(trace: Trace, data: Mapping[str, Any], folder: Path, *, command: str) -> dict[str, str]:
    """Write the files of a run that was measured, as `command` read it; return the content of each file -> its path."""
    from sim.report.html.details import RunDetails, arrays_of  # noqa: PLC0415  # only what is written is imported
    from sim.report.html.page import write_page  # noqa: PLC0415  # jinja2

    _make(folder)
    paths = {key: folder / file for key, file in MEASURED_NAMES.items()}
    write_json(data, paths["result"])
    write_whole(paths["trace"], lambda path: path.write_bytes(npz_bytes(trace.arrays())))
    details = RunDetails(trace=trace, command=command)
    write_whole(paths["details"], lambda path: path.write_bytes(npz_bytes(arrays_of(details))))
    write_whole(paths["report"], lambda path: write_page(data, path, details=details))
    for key in ("timeline", "Perfetto trace", "Chrome trace"):
        write_drawing(trace, paths[key], name=str(data["scenario"]["name"]), notes=stage_notes(data["stages_ns"]))
    return {key: str(path) for key, path in paths.items()}


def write_validation(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the files of a validation into `folder`; return the content of each file -> its path."""
    from sim.report.charts.validation import draw_validation  # noqa: PLC0415  # matplotlib

    title = f"Validation: {', '.join(data['suites'])}"
    names = {key: name for key, name in VALIDATION_NAMES.items() if key != "order"}
    written = _write_study(data, folder, names, lambda path: draw_validation(data, path, title=title))
    if not data.get("groups"):
        return written
    from sim.report.charts.ranking import draw_rankings  # noqa: PLC0415  # matplotlib

    path = folder / VALIDATION_NAMES["order"]
    write_whole(path, lambda target: draw_rankings(data["groups"], target))
    return written | {"order": str(path)}


def write_stress(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the files of a stress test into `folder`; return the content of each file -> its path."""
    from sim.report.charts.stress import draw_stress  # noqa: PLC0415  # matplotlib
    from sim.report.html.stress import write_stress_page  # noqa: PLC0415  # jinja2

    names = {key: name for key, name in STRESS_NAMES.items() if key != "report"}
    written = _write_study(data, folder, names, lambda path: draw_stress(data, path))
    page = folder / STRESS_NAMES["report"]
    write_whole(page, lambda path: write_stress_page(data, path))
    return written | {"report": str(page)}


def write_drawing(
    trace: Trace,
    path: Path,
    *,
    name: str,
    notes: Sequence[str] | None = None,
    window_ns: tuple[int, int] | None = None,
    lane: int = 0,
    colour: str = "microbatch",
    memory: Mapping[str, Any] | None = None,
    rank_tokens: NDArray[np.int64] | None = None,
) -> None:
    """Write the timeline (.png, .svg, .pdf) or the Perfetto trace (.json, .pftrace)."""
    if path.suffix == ".pftrace":
        from sim.report.track_events import write_track_events  # noqa: PLC0415  # only what is written is imported

        write_whole(
            path,
            lambda target: write_track_events(trace, target, name=name, memory=memory, rank_tokens=rank_tokens),
        )
        return
    if path.suffix == ".json":
        from sim.report.perfetto import write_perfetto  # noqa: PLC0415  # only what is written is imported

        write_whole(path, lambda target: write_perfetto(trace, target, name=name))
        return
    from sim.report.timeline.picture import draw_timeline  # noqa: PLC0415  # matplotlib

    write_whole(
        path,
        lambda target: draw_timeline(
            trace, target, title=name, notes=notes, window_ns=window_ns, lane=lane, colour=colour
        ),
    )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename the file: nobody sees half a file.

    Raises
    ------
    OutputError
        The folder or the file cannot be written.
    """
    try:
        handle, made = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _unwritten(path, error, "Choose a folder that can be written.") from error
    temporary = Path(made)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _unwritten(path, error, "Make room or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def stage_notes(stages_ns: Sequence[Mapping[str, int]]) -> list[str]:
    """Return for the picture's margin how each stage spends the step: shares that sum to 100 %.

    `waiting` is the stage's `stall_fraction`: a pass is open, and its compute waits for transfers or for anything else.

    >>> stage_notes([{"expert": 2, "tp": 1, "foreign": 0, "idle": 0}])
    ['compute 66.7 %, waiting 33.3 %, idle 0 %']
    """
    notes = []
    for stage in stages_ns:
        compute = sum(stage.get(kind, 0) for kind in COMPUTE_CATEGORIES)
        foreign, idle = stage.get("foreign", 0), stage.get("idle", 0)
        waiting = sum(stage.values()) - compute - foreign - idle
        spent = {"compute": compute, "foreign": foreign, "waiting": waiting, "idle": idle}
        tenths = zip(spent, apportion(1000, list(spent.values())), strict=True)
        notes.append(", ".join(f"{name} {share / 10:g} %" for name, share in tenths if share or name != "foreign"))
    return notes


def write_sweep(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the files of a sweep into `folder`, which is created where it does not exist; content -> path."""
    from sim.report.charts.sweep import draw_sweep  # noqa: PLC0415  # matplotlib
    from sim.studies.store.export import write_table  # noqa: PLC0415  # only what is written is imported

    written = _write_study(data, folder, SWEEP_NAMES, lambda path: draw_sweep(data, path))
    write_whole(folder / SWEEP_NAMES["table"], lambda path: write_table(data["rows"], path))
    return written


def _write_study(
    data: Mapping[str, Any], folder: Path, names: Mapping[str, str], draw: Callable[[Path], None]
) -> dict[str, str]:
    """Write the JSON and the picture of a study into `folder`, which is created where it does not exist."""
    _make(folder)
    paths = {key: folder / file for key, file in names.items()}
    write_json(data, paths["result"])
    write_whole(paths["picture"], draw)
    return {key: str(path) for key, path in paths.items()}


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write an object as JSON of finite numbers."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


def _make(folder: Path) -> None:
    """Create a folder, or raise why it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(folder, error, "Choose a folder that can be written.") from error


def _unwritten(path: Path, error: OSError, hint: str) -> OutputError:
    """Return the error for a file or folder that the system refused."""
    return OutputError(file=str(path), reason=error.strerror or str(error), hint=hint)


def npz_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an NPZ file of arrays, equal bytes for equal arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in columns.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(column), allow_pickle=False)
    return buffer.getvalue()
