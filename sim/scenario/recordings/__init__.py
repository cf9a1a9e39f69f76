"""Recorded routing: the tokens of each expert, layer by layer and step by step, from the files that recorders write.

Recorders are SGLang's expert distribution recorder, vLLM's expert load, and whatever writes tables or arrays of counts
or of chosen experts.

- `sim.scenario.recordings.read`: the file, by its suffix; `recording`: the value.
- `sim.scenario.recordings.table`, `parquet`: rows of tables, of Parquet files; `arrays`: arrays by name and shape.
- `sim.scenario.recordings.requests`: recorded requests; `step_times`: measured times of layers, for servers.
- `sim.scenario.recordings.numpy_file`, `torch_file`: arrays of a file; `names`: what recorders call things.
"""

from sim.scenario.recordings.read import find_recording, read_recording
from sim.scenario.recordings.recording import Recording

__all__ = ["Recording", "find_recording", "read_recording"]
