"""What the cluster is: GPUs, switches, NICs and links as a networkx graph. No clock, no workload.

Contents
--------
- `topology.device`: a GPU and the time of a kernel from its shape.
- `topology.cluster`: the graph, its links as arrays, paths by class.
- `topology.links`: a kind of link, and bytes spread over links; `topology.flow_links`: flow by flow.
- `topology.link_groups`: the links of a graph, counted by what they are.
- `topology.files`: clusters from files, and back.
- `topology.pairs`: exchanges of all pairs of two groups of GPUs, as loads on links.
- `topology.alike`: groups of GPUs that are wired alike.
- `topology.fabric`: how nodes, rails, leaves and spines are wired.
- `topology.presets`: named devices and clusters, each figure with its source.
"""
