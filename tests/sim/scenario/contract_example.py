"""The contract's example, typed again in full."""

CONTRACT_EXAMPLE = """\
name: EP64_TP16_PP4 on 64 GPUs
cluster:
  preset: dgx-h100            # `moesim list presets`
  num_nodes: 8
  device: {preset: h100-sxm, memory: 64 GB}     # any device field may be overridden
  degraded: []                # network issue
model:                        # or  preset: NAME  or  hf_config: FILE  (accuracy issue), fields below override
  layers: 16
  hidden: 1024
  heads: 16
  kv_heads: 16
  head_dim: 64
  ffn: 14336                  # width of a dense FFN or of one expert: dense_ffn where they differ
  gated: false
  experts: 64
  shared_experts: 0
  top_k: 2
  dense_layers: 0             # the first n layers have a dense FFN
  vocab: 50304
  dtype: bf16
parallel:
  strategy: EP64_TP16_PP4     # or tp, pp, ep, etp, dp, cp, vpp one by one; the name and the keys must agree
  convention: spanning        # megatron | vllm | spanning
  sp: false
  zero: 0
  rank_order: [tp, cp, ep, dp, pp]     # fastest first
  stage_layers: [4, 4, 4, 4]  # optional, explicit split
workload:
  kind: forward               # forward | training | passes | collective
  batches: 4                  # batches in flight one after another (forward)
  sequences: 128              # of one batch, over all replicas
  sequence_length: 10240
  microbatches: 16            # per batch and pipeline
schedule: {kind: 1f1b, recompute: none}          # none | selective | full
routing: {kind: multinomial, skew: 0.0, capacity_factor: null, max_nodes_per_token: null}
placement: {kind: contiguous}
network: {fidelity: bulk, all_reduce: auto, all_to_all: direct}
seed: 1
claims:
  - {id: throughput, says: "26M tokens/second", source: "section 6", metric: steady_tokens_per_s, expect: ">= 26e6 tokens/s"}
  - {id: optimal, says: "optimally designed", source: "conclusion", superlative: least, metric: step_time_s}
alternatives:                 # each combination listed is one simulation
  - {model.top_k: 1}
  - {model.top_k: 2, cluster.device.preset: mi250x-gcd}
rivals: [EP16_TP4_PP4_DP4, {parallel.strategy: EP64_TP1_PP1_DP64, parallel.convention: megatron}]
published: []                 # makes it a validation case: {metric, value, source, tolerance_pct}
"""
