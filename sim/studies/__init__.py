"""Runs and what is asked of many of them.

Contents
--------
- `sim.studies.build`: a scenario becomes a `Work`: cluster, model, mesh, checks across sections.
- `sim.studies.simulate`: one simulation: plan, run, metrics, accounts, memory.
- `sim.studies.explain`: a line on what the figures of a run say about a metric.
- `sim.studies.many`: simulations side by side on all cores.
- `sim.studies.suites`, `figures`, `validate`: validation cases, errors against published figures.
- `sim.studies.judge`: the scenario, its alternatives, rivals and seeds; verdicts on its claims.
- `sim.studies.result`: what comes out, as Python values and as the contract's JSON.
"""
