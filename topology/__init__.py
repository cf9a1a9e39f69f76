"""What the cluster is: GPUs, switches, NICs and links as a networkx graph. No clock, no workload.

Contents
--------
- `topology.device`: a GPU and the time of a kernel from its shape.
- `topology.cluster`: the graph, its links as arrays, paths by class.
- `topology.fabric`: how nodes, rails, leaves and spines are wired.
- `topology.presets`: named devices and clusters, each figure with its source.
"""
