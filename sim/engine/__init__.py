"""When it happens: the only room that imports simpy. No files, no printing.

Contents
--------
- `sim.engine.clock`: integer nanoseconds, the event loop and its guards.
- `sim.engine.network`: transfers that share links, in bulk or flow by flow, and what the links carried.
- `sim.engine.compute`: ranks that run one kernel at a time.
- `sim.engine.slowed_compute`: the same where transfers take some of a rank's SMs (`sim.engine.occupancy`).
- `sim.plan.ops`: what a pass is made of.
- `sim.engine.run_state`: what the lanes of a run share, and what a plan answers.
- `sim.engine.lane`: the process that runs the passes of one lane of a stage.
- `sim.engine.slowed_lane`: the same where kernels slow down.
- `sim.plan.folding`: lanes that are alike, run once.
- `sim.engine.deadlock`: who waits for whom when events run out.
- `sim.engine.recorder`: the record as it is taken; `sim.engine.trace`: as columns.
- `sim.engine.simulation`: a plan in, a trace out.
- `sim.engine.plan`: cluster and workload in, a plan out.
"""
