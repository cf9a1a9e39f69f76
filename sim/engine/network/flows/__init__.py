"""The network flow by flow: every pair of an all-to-all ends on its own.

Contents
--------
- `sim.engine.network.flows.network`: transfers whose flows run ahead, an event for each transfer.
- `sim.engine.network.flows.log`: what links carried.
- `sim.engine.network.flows.runs`: runs that are kept, for the same comes again. No clock from here on.
- `sim.engine.network.flows.interval`: flows of several transfers run until one of these ends.
- `sim.engine.network.flows.joined`: the links of the flows of several transfers, whatever these have still to send.
- `sim.engine.network.flows.state`: the first state of flows that start together.
- `sim.engine.network.flows.kernel`: from end to end of a flow, links shared max-min fairly; interpreted or compiled.
"""
