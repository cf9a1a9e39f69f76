"""The files of `--out` for requests that were served: result, steps, and a picture of both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.report.charts.serving import draw_serving
from sim.report.files import npz_bytes, write_json, write_whole
from sim.results.serving import ServingSteps

__all__ = ["SERVING_NAMES", "write_serving"]

SERVING_NAMES: Final = {"result": "result.json", "steps": "steps.npz", "picture": "serving.png"}
"""Content of each file in the folder of a server's run -> the file's name."""
_COLUMNS: Final = (
    "start_ns", "end_ns", "group", "num_prefill_tokens", "num_decodes",
    "num_running", "num_waiting", "blocks_used", "largest_batch",
)  # fmt: skip


def write_serving(data: Mapping[str, Any], steps: ServingSteps, folder: Path) -> dict[str, str]:
    """Write the files of a run into `folder`; return the content of each file -> its path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / name for key, name in SERVING_NAMES.items()}
    columns = {name: np.asarray(getattr(steps, name)) for name in _COLUMNS}
    write_json(data, paths["result"])
    write_whole(paths["steps"], lambda path: path.write_bytes(npz_bytes(columns)))
    write_whole(paths["picture"], lambda path: draw_serving(data, steps, path))
    return {key: str(path) for key, path in paths.items()}
