"""What the cluster is: GPUs, switches, NICs and links as a networkx graph. No clock, no workload.

Contents
--------
- `topology.device`: a GPU and the time of a kernel from its shape.
- `topology.profiles`: measured times of kernels by device, operation, format and shape.
- `topology.cluster`: a cluster, from the figures of a fabric or from any graph, and the interface of its paths.
- `topology.regular_links`: links of a regular cluster as arrays, without the graph; `topology.regular_paths`: its paths
  by class; `topology.regular_pairs`: its exchanges of all pairs of two groups of GPUs.
- `topology.graph_links`: links of any graph as arrays (`topology.check_graph`: what the graph must have);
  `topology.graph_paths`: its paths and exchanges; `topology.routes`: the search of paths.
- `topology.links`: a kind of link, and bytes spread over links, in all and flow by flow; `topology.pairs`: exchanges of
  all pairs.
- `topology.link_groups`: what a cluster has: vertices and NICs, and links, counted by kind and figures.
- `topology.files`: clusters from files, and back.
- `topology.fabric`: the figures of a fabric, and a graph from them; `topology.nodes`: what is inside a node;
  `topology.fabrics`: how nodes are wired.
- `topology.limits`: the largest cluster and the largest count.
- `topology.degraded`: the same cluster with something slower or gone.
- `topology.uncertainty`: how far times of kernels and links may be from the truth.
- `topology.presets`: named devices and clusters, each figure with its source.
"""
