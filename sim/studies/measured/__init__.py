"""Runs that were measured: read into the trace's columns, and replayed to find what stragglers cost.

Contents
--------
- `sim.studies.measured.operations`: the operations of a job, from a table; `dependencies`: which waits for which;
  `replay`: when each would run with other durations; `stragglers`: what each cause costs.
- `sim.studies.measured.kineto`: traces of PyTorch's profiler.
- `sim.studies.measured.as_result`: a measured step as a trace and as the JSON of a run.
"""
