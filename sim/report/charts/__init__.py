"""Pictures of figures.

Contents
--------
- `sim.report.charts.memory`: memory over time, by component.
- `sim.report.charts.links`: the load of links over time, and the bytes between every two GPUs.
- `sim.report.charts.schedules`: several schedules on the same work.
- `sim.report.charts.stress`: a stress test.
- `sim.report.charts.sweep`: small multiples of a sweep.
- `sim.report.charts.validation`: modelled against published figures.
- `sim.report.charts.why`: the critical path as a waterfall, and what would be gained.
- `sim.report.charts.compare`: timelines of several runs on one axis, and where their time goes.
- `sim.report.charts.serving`: requests that were served.
- `sim.report.charts.ranking`: the measured against the modelled order of strategies.
"""
