"""Flows one by one: what `sim.engine.flow_network` runs when every pair of an all-to-all ends on its own. No clock.

Contents
--------
- `sim.engine.flows.kernel`: from end to end of a flow, links shared max-min fairly.
- `sim.engine.flows.state`: the first state of flows that start together.
- `sim.engine.flows.compiled`: the kernel compiled, where numba is installed.
- `sim.engine.flows.course`: flows of several transfers let run, and what the links carried.
"""
