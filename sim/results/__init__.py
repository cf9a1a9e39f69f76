"""What a run says: pure functions of the recorded trace.

Contents
--------
- `sim.results.accounts`: the categories of both accounts of time, whole numbers that keep their sum, averages by kind.
- `sim.results.trace_arrays`: a trace as the arrays that are saved of it, and back.
- `sim.results.path`: the step time along what released what.
- `sim.results.stretches`: that path in words, stage by stage.
- `sim.results.stages`: the step time of each stage, category by category.
- `sim.results.exposed`: the transfers of streams, cut to the time in which their lane waits for them.
- `sim.results.metrics`: throughput, latency, bubble, FLOP use.
- `sim.results.serving`: what users of a server see, and the checks of its runs.
- `sim.results.memory`: the peak per GPU, when, where and from what.
- `sim.results.claims`: verdicts on a document's claims; `superlatives`: also on superlatives; `facts`: one fact each.
- `sim.results.uncertainty`: intervals of figures and claims, and what moves them.
- `sim.results.catalog`: every name that a claim may use as its metric; `quantities`: numbers for people.
"""
