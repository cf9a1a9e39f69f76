"""What people see of a run: tables, charts, pictures, and the files that `--out` writes.

Contents
--------
- `sim.report.console`: the tables that commands print (`tables` has the pieces, `run` the report of `moesim run`).
- `sim.report.charts`: pictures of figures over time, skew or published values.
- `sim.report.timeline`: the pipeline timeline as PNG, SVG or PDF.
- `sim.report.topology`: a cluster as a picture.
- `sim.report.canvas`, `sim.report.palette`: the sheets and figures of all pictures, and their colours.
- `sim.report.track_events`: the trace in Perfetto's own format for https://ui.perfetto.dev, by `sim.report.protobuf`.
- `sim.report.perfetto`: the trace as Chrome JSON, which Perfetto opens too.
- `sim.report.thread_tracks`: the threads of a trace that both have.
- `sim.report.html`: a run as one HTML page that is complete in itself.
- `sim.report.files`: the files of `--out`; `serving_files`: those of requests that were served.

Nothing is imported here, so that a command loads only what it shows. Only charts, timelines (but for
`sim.report.timeline.bars`), topology pictures, canvas and palette import matplotlib.
"""
