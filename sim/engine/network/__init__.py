"""Transfers that share links: waits, rates, ends, and what the links carried.

Contents
--------
- `sim.engine.network.batch`: what the networks have in common.
- `sim.engine.network.fluid`: the network in bulk, a collective as one transfer; fast.
- `sim.engine.network.maxmin`: max-min fair rates of a few transfers.
- `sim.engine.network.linkuse`, `hottest`: what links carried, which were the bottleneck, the course of the hottest.
- `sim.engine.network.flows`: the network flow by flow, every pair of an all-to-all with its own end.
"""
