"""One scenario, one result: build, check what the run needs, plan, run, work out what the run says.

Contents
--------
- `sim.run.simulate`: each kind of workload with its object; a scenario is built, or built and simulated.
- `sim.run.scenario_run`: what such an object answers, and what a simulation says.
- `sim.run.model_run`, `passes_run`, `collective_run`, `serving_run`: the kinds of workload.
- `sim.run.simulated_steps`: steps of a server that the engine runs one by one.
- `sim.run.resources`: the minimum of events and memory that a run needs, and the limits on them.
- `sim.run.estimates`: events, memory and processor time that a run is expected to take.
- `sim.run.memory_guard`: a bound on the memory of a run, which ends with a message where the system would kill it.
- `sim.run.stage_memory`: bytes on the GPUs of each stage, for the account of memory along the trace.
- `sim.run.explain`: sentences on what the figures of a run say about a metric.
- `sim.run.conservation`: no rank computes more copies of tokens than exist, checked on every run.
- `sim.run.imbalance_bound`: how evenly the best placement could have spread a run's tokens.
- `sim.run.engines`: which engine runs a plan: SimPy's processes, or the compiled kernel.
- `sim.run.parallel_runs`: many simulations on all cores.
- `sim.run.parent_watch`: workers that end with the process that started them.
- `sim.run.result`: what comes out, as Python values and as the contract's JSON.
- `sim.run.saved`: a run that was saved or measured, its trace with it.
"""
