"""The scenario that `moesim init FILE` writes: a small mixture-of-experts model on one node, explained line by line."""

from typing import Final

__all__ = ["STARTER"]

STARTER: Final = """\
# A scenario: is a parallel strategy as good as somebody says?
#   moesim run THIS_FILE                            answers the claims below
#   moesim run THIS_FILE --set model.top_k=1        the same with one value changed
# Quantities have a unit (Gb is 10^9 bits, GB 10^9 bytes, GiB 2^30 bytes); counts and ratios have none.

name: EP8_TP1_PP1_DP8 on one DGX H100

cluster:
  preset: dgx-h100          # `moesim list presets` shows all
  num_nodes: 1              # 8 GPUs each
  # device: {preset: h100-sxm, memory: 64 GB}     any field of the preset may be overridden

model:
  layers: 8
  hidden: 2048
  heads: 16
  ffn: 5632                 # width of one expert
  gated: true               # three matrices (SwiGLU) instead of two
  experts: 8                # 0: a dense model
  top_k: 2                  # experts each token is sent to
  vocab: 32000
  dtype: bf16

parallel:
  strategy: EP8_TP1_PP1_DP8 # or tp, pp, ep, etp, dp, cp one by one
  convention: megatron      # how EP combines with the rest: megatron, vllm or spanning

workload:
  kind: forward             # or training
  sequences: 64             # of one batch, over all replicas
  sequence_length: 2048
  microbatches: 2           # per batch and pipeline

schedule: {kind: 1f1b, recompute: none}
routing: {kind: multinomial}      # each token draws its experts at random; balanced: all get the same
seed: 1

# What is said about it. A number is met to the precision it is quoted with, or to the tolerance after +-.
claims:
  - id: throughput
    says: "more than a million tokens per second"
    source: "this file"
    metric: tokens_per_s
    expect: ">= 1.0e6 tokens/s"
  - id: optimal
    says: "the fastest strategy for this node"
    source: "this file"
    metric: step_time_s
    superlative: least            # judged against the rivals below

# Facts that are open: the claims are judged once more under each.
alternatives:
  - {model.top_k: 1}
  - {routing.kind: balanced}

# Strategies that could be better.
rivals: [EP1_TP8_PP1_DP1, EP4_TP1_PP2_DP4]
"""
"""Text of the scenario."""
