"""Skew against remedies: a grid of simulations with common random numbers.

- `sim.studies.stress.grid`: which scenarios the grid has.
- `sim.studies.stress.points`: the simulations of the grid, on several processes, kept in a store.
- `sim.studies.stress.summary`: means, intervals, and what the slowdown is made of.
- `sim.studies.stress.verdict`: which remedy at which skew, in a sentence.
- `sim.studies.stress.report`: the whole stress test.
"""
