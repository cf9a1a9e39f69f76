"""Skew against remedies: a grid of simulations with common random numbers.

- `sim.studies.stress.grid`: which scenarios the grid has.
- `sim.studies.stress.point`: one simulation of it, and the file that keeps those that are done.
- `sim.studies.stress.run`: all of them, on several processes.
- `sim.studies.stress.summary`: means, intervals, and what the slowdown is made of.
- `sim.studies.stress.verdict`: which remedy at which skew, in a sentence.
"""
