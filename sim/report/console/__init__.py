"""What commands print: tables and sentences, made from the contract's JSON.

Contents
--------
- `sim.report.console.summary`: the screen of `moesim run`; `run`: its whole report; `accounts`, `network`, `claims` and
  `uncertainty`: parts of it.
- `sim.report.console.schedules`, `stress`, `validation`: the reports of these commands.
- `sim.report.console.why`, `compare`: those of `moesim why` and `moesim compare`; `timelines`: of runs, as text.
- `sim.report.console.serving`: requests that were served.
- `sim.report.console.sweep`, `results`: those of `moesim sweep` and `moesim results`.
- `sim.report.console.measured`: those of `moesim import`.
- `sim.report.console.search`: that of `moesim search`.
- `sim.report.console.tables`: the pieces of all reports.
"""
