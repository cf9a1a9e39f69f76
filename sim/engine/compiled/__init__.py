"""A compiled engine: the events of `sim.engine.simulation`, in arrays.

Contents
--------
- `sim.engine.compiled.run`: a plan in, a trace out, by the kernel.
- `sim.engine.compiled.arrays`: a plan as arrays, of `columns` and `operations`; `layout`: how they stand in two arrays
  of numbers.
- The kernel: `events` (the queue, the record), `ranks`, `sharing` and `transfers` (the network), `programs`, `lanes`,
  `loop`; `compiler`: what compiles it, and where it is kept.
- `sim.engine.compiled.flows`: the network flow by flow, which is SimPy's, in the kernel's time.
- `sim.engine.compiled.record`: what the kernel has written down, as the columns of a trace.
"""
