"""When it happens: the only room that imports simpy. No files, no printing.

Contents
--------
- `sim.engine.clock`: integer nanoseconds, the event loop and its guards.
- `sim.engine.maxmin`: max-min fair rates, the plain solver that stays as the oracle.
- `sim.engine.network`: transfers that share links; `sim.engine.plain_network` is its slow oracle.
- `sim.engine.flow_network`: the same flow by flow; `sim.engine.flows` is how, `sim.engine.flow_log` its account.
- `sim.engine.linkuse`: what links carried.
- `sim.engine.compute`: ranks that run one kernel at a time.
- `sim.engine.ops`: what a pass is made of.
- `sim.engine.world`: what the lanes of a run share, and what a plan answers.
- `sim.engine.lane`: the process that runs the passes of one lane of a stage.
- `sim.engine.deadlock`: who waits for whom when events run out.
- `sim.engine.trace`: the record of a run, as columns.
- `sim.engine.simulation`: a plan in, a trace out.
- `sim.engine.plan`: cluster and workload in, a plan out.
"""
