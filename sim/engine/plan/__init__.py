"""Cluster and workload in, a plan out: passes lowered to ops with all costs known. No clock.

Contents
--------
- `sim.engine.plan.work`: what is to be planned, as one value.
- `sim.engine.plan.costs`: what things cost in one run.
- `sim.engine.plan.kernel_costs`: the device turns kernels into nanoseconds.
- `sim.engine.plan.transfer_costs`: the cluster turns collectives into transfers (`transfer_sms`: the SMs they take).
- `sim.engine.plan.route`: the routing of expert layers, drawn and priced.
- `sim.engine.plan.experts`: the ops of a layer's experts, under each reading of EP.
- `sim.engine.plan.alike`: lanes that would run alike, found by comparing values.
- `sim.engine.plan.layer`: the ops of a layer, forward and backward.
- `sim.engine.plan.finish`: gradient reduction and optimizer step.
- `sim.engine.plan.slow_ranks`: kernels on GPUs that are slower than the device says.
- `sim.engine.plan.neighbours`: what a pass needs, and where its output goes.
- `sim.engine.plan.bounds`: the arithmetic alone and the wires alone.
- `sim.engine.plan.pipeline`: the plan itself.
- `sim.engine.plan.passes`: a plan from measured pass times, without model and cluster.
"""
