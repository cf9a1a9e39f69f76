"""Work becomes operations with all their costs: kernels in nanoseconds, transfers as loads on links. No clock.

Contents
--------
- `sim.plan.pipeline`, `passes`, `collective`: the plans of a model, of passes of given times, and of one collective.
- `sim.plan.what_if`: a plan without some of its costs; `even_stages`: whose stages compute equally long;
  `jitter`: whose passes vary.
- `sim.plan.ops`: what a pass is made of.
- `sim.plan.lowering`: a pass becomes operations; `layers`: those of a layer; `expert_block`: those of its experts;
  `tp_overlap`: collectives over TP in pieces next to products; `expert_overlap`: exchanges of tokens next to kernels;
  `context`: those of attention whose sequences are split over ranks; `gradients`: those after the passes;
  `gradient_overlap`: those of gradients and parameters next to passes; `fsdp`: those around layers;
  `expert_replicas`: those of experts that several ranks hold, or that move; `offload`: waits for copies to the host.
- `sim.plan.host_lowering`: what the host does while a pass runs.
- `sim.plan.expert_routing`: the tokens of each expert, and the ranks of the experts; `expert_router`: both with costs.
- `sim.plan.costs`: all costs of a run; `kernel_costs`, `transfer_costs` and `exchange_costs`: those of kernels, of
  collectives and sends, and of all-to-alls; `measured_costs`: those of kernels that a profile of the device has;
  `gather_costs`: those of the collectives around sliced experts;
  `pricing`: what protocols make of messages.
- `sim.plan.serving_costs`: what a step of a server costs; `serving_kernels`: by kernels and collectives,
  `serving_layers`: those of layers; `custom_all_reduce`: all-reduces by kernels of serving frameworks;
  `serving_experts`: the experts that tokens need, under plans that age;
  `two_batches`: layers where one half of a batch computes while the tokens of the other travel;
  `serving_tables`: by measured times of layers; `serving_plan`: its operations, for the engine.
- `sim.plan.folding`: lanes that run alike are run once.
- `sim.plan.logs`: bytes between every two ranks, and tokens of experts, where a run wants them.
- `sim.plan.bounds`: lower bounds on the time of a batch.
"""
