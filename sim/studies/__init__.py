"""Runs and what is asked of many of them.

Contents
--------
- `sim.build.build`, `build_cluster`, `build_collective`, `build_routing`: a scenario becomes what is run, with checks
  across sections; `layout`: model, strategy, mesh; `assumptions`: what was filled in; `located_errors`: where errors stand;
  `own_cluster`, `own_order`: files of the user's.
- `sim.run.limits`, `least`, `machine`: what a run needs, told before it starts.
- `sim.run.simulate`: one simulation: plan, run, metrics, accounts, memory.
- `sim.run.explain`: a line on what the figures of a run say about a metric.
- `sim.run.parallel_runs`: simulations side by side on all cores.
- `sim.studies.suites`, `figures`, `validate`: validation cases, errors against published figures.
- `sim.studies.schedules`: every schedule on the same work; `memory`, `fitting`: what a GPU holds, and what would fit.
- `sim.studies.stress`: skews of the routing against remedies.
- `sim.studies.rivals`: rivals as scenarios.
- `sim.studies.claims`: the scenario, its alternatives, rivals and seeds; verdicts on its claims.
- `sim.run.result`: what comes out, as Python values and as the contract's JSON.
"""
