"""The network flow by flow: every pair of an all-to-all ends on its own.

Contents
--------
- `sim.engine.network.flows.network`: transfers whose flows run ahead, an event for each transfer.
- `sim.engine.network.flows.interval`: flows of several transfers let run, and what links carried: no clock from here on.
- `sim.engine.network.flows.state`: the first state of flows that start together.
- `sim.engine.network.flows.kernel`: from end to end of a flow, links shared max-min fairly.
- `sim.engine.network.flows.compiled`: the kernel compiled, where numba is installed.
- `sim.engine.network.flows.log`: what links carried, flow by flow.
"""
