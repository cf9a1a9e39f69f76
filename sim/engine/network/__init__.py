"""Transfers that share links: waits, rates, ends, and what the links carried.

Contents
--------
- `sim.engine.network.contention`: batches and contention components of transfers, for both networks.
- `sim.engine.network.fluid`: the network in bulk, a collective as one transfer; fast.
- `sim.engine.network.linkset`: sets of links and who uses them.
- `sim.engine.network.maxmin`: max-min fair rates of a few transfers.
- `sim.engine.network.linkuse`: what links carried, which of them were bottlenecks, the load of the hottest over time.
- `sim.engine.network.link_account`: its sums, over flat arrays of intervals.
- `sim.engine.network.flows`: the network flow by flow, every pair of an all-to-all with its own end.
"""
