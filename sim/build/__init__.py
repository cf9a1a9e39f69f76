"""A scenario becomes domain values, made once: cluster, model, mesh, work. Nothing here knows a clock or a plan.

Contents
--------
- `sim.build.build`: a scenario of kind forward, training or passes becomes work; `collective`: one of a collective.
- `sim.build.serving`: one of kind serving: limits of the server, KV blocks, measured times of layers;
  `served_requests`: its requests; `served_checks`: what a server does not do.
- `sim.build.cluster`, `layout`, `routing`: sections become the cluster; model, mesh and split of layers; the routing.
- `sim.build.described_cluster`: a cluster that a file of the user's describes.
- `sim.build.runtime`: what the software does: the preset of a framework, and what differs from it.
- `sim.build.exchange_overlap`: the dispatcher, what runs next to its exchanges, and what these cannot go with.
- `sim.build.work`, `passes_work`: what is to be planned, as one value; `work_checks`: what does not fit is refused.
- `sim.build.device_profile`: the measured kernels of the device.
- `sim.build.assumptions`: what the scenario leaves open, how it was filled in, and warnings.
- `sim.build.hints`: hints that lead out of a refused value.
"""
