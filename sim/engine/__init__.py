"""When it happens: the only room that imports simpy. No files, no printing.

Contents
--------
- `sim.engine.simulation`: a plan in, a trace out.
- `sim.engine.clock`: integer nanoseconds, the event loop and its guards.
- `sim.engine.run_state`: what the lanes of a run share, and what a plan answers; ranks that run one kernel at a time.
- `sim.engine.lane`: the process that runs the passes of one lane of a stage; `program`: what runs the ops of each.
- `sim.engine.host`: when the host of a lane issues what the lane runs.
- `sim.engine.stream`: collectives that a lane has started and that run next to its kernels.
- `sim.engine.slowed_compute`, `slowed_lane`: ranks and lanes whose kernels slow down while transfers take SMs.
- `sim.engine.network`: transfers that share links, in bulk or flow by flow, and what the links carried.
- `sim.engine.serving`: requests, batches and steps of a server.
- `sim.engine.deadlock`: which lane waits for which when events run out.
- `sim.engine.recorder`: the record as it is taken; `rows`: its rows; `tokens`: copies of tokens, counted; `trace`: the
  record as columns.
- `sim.engine.compiled`: the same events in arrays, as a kernel that numba compiles.
- `sim.engine.optional_numba`: numba, if it is there.
"""
