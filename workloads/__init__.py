"""What must be done: model, strategy, routing, schedules, collectives. Values and numpy; no clock, no hardware.

Contents
--------
- `workloads.model`: a transformer's shape, parameters and FLOPs.
- `workloads.presets`: named models, with `dense_presets` and `nemotron_presets`; `published`: their published sizes.
- `workloads.mesh_metrics`: numbers of a mesh and a model that need no run.
- `workloads.documents`: documents packed into sequences, and how long their attention takes.
- `workloads.workload_kind`: forward or training; `pipeline_layout`: which model chunk holds what.
- `workloads.runtime`: what the software does; presets of frameworks.
- `workloads.what_if`: what a run can be without; `jitter`: how much the times of passes vary.
- `workloads.placement`: which rank holds which expert.
- `workloads.blocks`: attention and FFN of a layer, which answer for parameters, kernels and memory.
- `workloads.layer_kinds`: names of the kinds of layers, and the fields that they need.
- `workloads.formats`: which tensor has which type, under each recipe of fp8.
- `workloads.fusions`: which elementwise work runs inside of other kernels.
- `workloads.kernels`: kernels as values: shapes, FLOPs, bytes.
- `workloads.layers`: which kernels a layer runs on one rank, forward and backward.
- `workloads.strategy`: names such as `EP64_TP16_PP4`.
- `workloads.conventions`: how EP shares GPUs with the other axes: megatron, vllm and spanning.
- `workloads.mesh`: who is in which group.
- `workloads.context_parallel`: the tokens of a sequence split over ranks.
- `workloads.routing`: tokens per expert, drawn per source rank, layer and microbatch, even or skewed.
- `workloads.topk_sampling`: sets of experts for many tokens at once, all equally likely.
- `workloads.schedules`: the order of passes on a pipeline stage.
- `workloads.serving`: requests, KV blocks with a cache of prefixes, and which requests form a batch.
- `workloads.collectives`: which rank sends how many bytes to which, and in how many steps.
- `workloads.memory`: bytes per GPU, part by part.
"""
