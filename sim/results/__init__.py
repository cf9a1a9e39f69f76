"""What a run says: pure functions of the recorded trace.

Contents
--------
- `sim.results.apportion`: whole numbers that keep their sum.
- `sim.results.path`: the step time along what released what.
- `sim.results.stages`: the step time of each stage, part by part.
- `sim.results.metrics`: throughput, latency, bubble, FLOP use.
- `sim.results.memory`: the peak per GPU, when, where and from what.
- `sim.results.claims`: verdicts on a document's claims.
"""
