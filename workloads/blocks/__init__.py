"""The blocks that a transformer layer is made of: an attention and an FFN, each of which answers for itself.

Contents
--------
- `workloads.blocks.attention`: attention with grouped key and value heads, over all tokens, a window or chunks.
- `workloads.blocks.latent_attention`: multi-head latent attention.
- `workloads.blocks.state_space`: Mamba-2 and the gated delta net, which mix tokens through a recurrent state.
- `workloads.blocks.core`: what of these needs other tokens than its own, for context parallelism.
- `workloads.blocks.ffn`: a dense FFN, and an FFN of routed and shared experts.
- `workloads.blocks.layer`: a layer of an attention and an FFN, or of one of the two.
- `workloads.blocks.recompute`: which modules of a block a backward pass recomputes.

A block knows its parameters, FLOPs, kernels, and the elements that a token leaves in memory; `ModelSpec.layer` says
which blocks a layer has. A further kind of attention or FFN is a further class here.

In this package, `tp` is the number of tensor-parallel ranks, and `sequence_shards` the number of ranks that the
residual stream is split over: `tp` with sequence parallelism, 1 without. Elements and bytes are those of one rank for
each token of the replica.
"""
