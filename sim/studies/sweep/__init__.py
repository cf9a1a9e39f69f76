"""A scenario under every combination of some keys' values, kept in a store, wherever it runs.

- `sim.studies.sweep.grid`: the combinations.
- `sim.studies.sweep.look_up`: keys of the points of any study, and which of them the store has.
- `sim.studies.sweep.points`: points of any study: found in the store, or simulated by an executor and kept.
- `sim.studies.sweep.plan`: what a study will take, from a measured sample.
- `sim.studies.sweep.report`: the whole sweep.

"""
