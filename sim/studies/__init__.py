"""Studies that need several simulations: claims, validation, comparisons of schedules, stress and fitting.

Contents
--------
- `sim.studies.claims`: a scenario with its alternatives, rivals and seeds, and its claims judged; `variants`: these
  scenarios; `parts`: changes of one part of a strategy; `verdicts`: what their runs make of each claim; `conclusion`:
  the sentences that come first.
- `sim.studies.sensitivity`: which assumption must change by how much before a verdict flips.
- `sim.studies.uncertainty`: a scenario under draws of its fitted constants.
- `sim.studies.why`: the critical path, and what each part being free would gain; `compare`: runs next to each other.
- `sim.studies.suites`, `figures`, `validate`: validation cases, and errors against published figures; `ranking`: the
  order of strategies against the measured order.
- `sim.studies.kernel_tables`: errors of the measured kernels on shapes that were left out.
- `sim.studies.schedules`: every schedule on the same work; `chunks`: the keys that put a scenario under a schedule.
- `sim.studies.fitting`: changes under which a work would fit into memory; `order_memory`: the peak of memory that the
  order of the passes decides.
- `sim.studies.stress`: skews of the routing against remedies.
- `sim.studies.sweep`: every combination of some keys' values; `executors`: where it runs; `store`: kept results.
- `sim.studies.measured`: runs that were measured.
- `sim.studies.search`: the best of all legal strategies.
- `sim.studies.source_digest`: a digest of the source files, which results carry.
"""
