"""What people see of a run: a picture, a trace file, tables.

Contents
--------
- `sim.report.files`: what `--out` writes.
- `sim.report.timeline.picture`: the pipeline timeline as PNG, SVG or PDF, with `bands`, `canvas`, `closeup`, `layout`,
  `legend`, `overview` and `palette`; but for them only topology pictures import matplotlib.
- `sim.report.topology.picture`: a cluster as a picture, with `topology_groups` (what is shown), `topology_layout`,
  `topology_nodes`, `topology_sketch` (where), `link_lines` (how links look) and `link_use` (a run's load, read back).
- `sim.report.perfetto`: the trace as Chrome JSON for https://ui.perfetto.dev.
- `sim.report.console.run`: the tables that a command prints; `tables`, `claims` and `accounts` are its parts.
- `sim.report.timeline.bars`, `sim.report.timeline.slots`, `sim.report.timeline.stalls`: which spans are drawn, and where.

Nothing is imported here, so that a command pays only for what it draws.
"""
