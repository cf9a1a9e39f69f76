"""What the cluster is: GPUs, switches, NICs and links as a networkx graph. No clock, no workload.

Contents
--------
- `topology.device`: a GPU and the time of a kernel from its shape.
- `topology.profiles`: measured times of kernels by device, operation, format and shape.
- `topology.cluster`: a cluster, built from a fabric (`topology.abstract_cluster`: the interface of all clusters).
- `topology.regular_cluster`: paths by class; `topology.regular_links`: its links as arrays, without the graph;
  `topology.regular_pairs`: exchanges of all pairs of two groups of GPUs; `topology.symmetry`: groups of GPUs with the
  same wiring.
- `topology.graph_cluster`: any graph (`topology.check_graph`: what it must have); `topology.routes`: its paths;
  `topology.graph_pairs`: its exchanges of all pairs.
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
