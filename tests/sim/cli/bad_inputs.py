"""Input that is refused, and the whole message of each: the table of `test_bad_input.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sim.scenario.bundled import list_bundled
from workloads.schedules import SCHEDULES

GOOD: Final = Path(__file__).with_name("good_input.yaml").read_text(encoding="utf-8")
"""A scenario that runs; each row of `EDITS` breaks it in one place."""
KNOWN: Final = f"{', '.join(list_bundled())}."
"""The bundled scenarios, as messages name them."""

EDITS: Final[list[tuple[str, str, str]]] = [
    # what the scenario says, what it says now, the message after the file's name
    # ---- keys
    ("num_nodes: 1", "num_node: 1", "4: cluster.num_node must be a known key, got num_node. Did you mean `num_nodes`?"),
    ("cluster:", "clusters:", "2: clusters must be a known key, got clusters. Did you mean `cluster`?"),
    ("hidden: 2048", "Hidden: 2048", "7: model.Hidden must be a known key, got Hidden. Did you mean `hidden`?"),
    ("layers: 8", "num_layers: 8", "6: model.num_layers must be a known key, got num_layers. Did you mean `layers`?"),
    (
        "microbatches: 2",
        "microbatch: 2",
        "22: workload.microbatch must be a known key, got microbatch. Did you mean `microbatches`?",
    ),
    ("  - id: optimal", "  - ID: optimal", "32: claims.1.ID must be a known key, got ID. Did you mean `id`?"),
    (
        "seed: 1",
        "schema_version: 2",
        "25: schema_version must be a known key, got schema_version. Known are name, cluster, model, "
        "parallel, workload, schedule, routing, placement, network, seed, seeds, assumed, claims, "
        "alternatives, rivals, stress, published.",
    ),
    (
        "seed: 1",
        "seed: 1\nseed: 2",
        "26: seed must be given once, got a second one. It stands on line 25 already; remove one of the two.",
    ),
    (
        "seed: 1",
        "<<: {seed: 2}",
        "25: << must be a known key, got <<. Known are name, cluster, model, parallel, workload, schedule, "
        "routing, placement, network, seed, seeds, assumed, claims, alternatives, rivals, stress, published.",
    ),
    (
        "  hidden: 2048\n",
        "",
        "5: model.hidden must be given, got nothing. Add `hidden` under `model`, or name a model.preset. "
        "Width of the hidden state.",
    ),
    ("  num_nodes: 1\n", "", "2: cluster.num_nodes must be given, got nothing. Add `num_nodes:` under cluster."),
    ("workload:\n", "work:\n", "18: work must be a known key, got work. Did you mean `workload`?"),
    # ---- units
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400\n  num_nodes: 1",
        '4: cluster.nic_bandwidth must have a unit, got 400. Write a number and a unit, such as "400 Gb/s".',
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 GB\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be a bandwidth, got 400 GB. GB is a unit of a size: write for example "
        '"400 Gb/s".',
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 gbps\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must have a unit of the table, got 400 gbps. Units have one spelling: write"
        " Gb/s or GB/s (b is bits, B bytes).",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 gb/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must have a unit of the table, got 400 gb/s. Units are case sensitive: "
        "write Gb/s or GB/s (b is bits, B bytes).",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 furlongs\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must have a unit of the table, got 400 furlongs. furlongs is not one of "
        "B/s, kB/s, MB/s, GB/s, TB/s, KiB/s, MiB/s, GiB/s, b/s, kb/s, Mb/s, Gb/s.",
    ),
    (
        "  num_nodes: 1",
        "  device: {kernel_overhead: 5}\n  num_nodes: 1",
        '4: cluster.device.kernel_overhead must have a unit, got 5. Write a number and a unit, such as "3 us".',
    ),
    (
        "  num_nodes: 1",
        "  device: {memory: 64 KB}\n  num_nodes: 1",
        "4: cluster.device.memory must have a unit of the table, got 64 KB. Units are case sensitive: write "
        "kb or kB (b is bits, B bytes).",
    ),
    (
        "sequence_length: 2048",
        "sequence_length: 2048 bytes",
        '21: workload.sequence_length must be an integer of at least 1, got "2048 bytes". Write a number '
        "without unit, such as 1.",
    ),
    (
        "  num_nodes: 1",
        "  device: {gemm_efficiency: 150 %}\n  num_nodes: 1",
        "4: cluster.device.gemm_efficiency must be a ratio of more than 0 and at most 1, got 150 %. Write a "
        "number in that range.",
    ),
    (
        "layers: 8",
        "layers: 8 layers",
        '6: model.layers must be an integer of at least 1, got "8 layers". Write a number without unit, such as 1.',
    ),
    *[
        (
            "  num_nodes: 1",
            f"  nic_bandwidth: {written}\n  num_nodes: 1",
            f"4: cluster.nic_bandwidth must have a unit of the table, got {written}. Units have one spelling: write "
            f"{ours}.",
        )
        for written, ours in (
            ("400 Gbit/s", "400 Gb/s"),
            ("400 Gbps", "400 Gb/s"),
            ("50 GBps", "50 GB/s"),
        )
    ],
    *[
        (
            "  num_nodes: 1",
            f"  device: {{kernel_overhead: {written}}}\n  num_nodes: 1",
            f"4: cluster.device.kernel_overhead must be one number and one unit, got {written}. Write 3 us.",
        )
        for written in ("3 \u00b5s", "3 \u03bcs")
    ],
    *[
        (
            ">= 1.0e6 tokens/s",
            f">= {written}",
            f"31: claims.0.expect must {rule}, got {written}. {hint}.",
        )
        for written, rule, hint in (
            ("1M tokens/s", "be one number and one unit", "Write 1e6 tokens/s"),
            ("1,000,000 tokens/s", "be one number and one unit", "Write 1000000 tokens/s"),
            ("1e6 token/s", "have a unit of the table", "Units have one spelling: write 1e6 tokens/s"),
        )
    ],
    *[
        (
            ">= 1.0e6 tokens/s",
            expected,
            f"31: claims.0.expect must have a tolerance {rule}, got {expected}. {hint}",
        )
        for expected, rule, hint in (
            (">= 1e6 tokens/s +- 200%", "below 100 %", 'All values would meet it: write for example "+- 2 %".'),
            (">= 1e6 tokens/s +- 100 %", "below 100 %", 'All values would meet it: write for example "+- 2 %".'),
            ("== 1e6 tokens/s +- 101 %", "of at most 100 %", 'Write for example "+- 2 %".'),
        )
    ],
    (
        "seed: 1",
        "...\nseed: 1",
        "26: the file must be one YAML document, got several. Keep one scenario per file; remove the line `...`.",
    ),
    (
        "seed: 1",
        "...\n---\nseed: 1",
        "26: the file must be one YAML document, got several. Keep one scenario per file; remove the line `...` and "
        "the line `---`.",
    ),
    *[
        (
            "preset: dgx-h100",
            f"preset: {name}",
            f"3: cluster.preset must name a known cluster, got '{name}'. Did you mean 'dgx-h100'? Known: dgx-a100, "
            "dgx-h100, dgx-h200, h800, dgx-b200, gb200-nvl72, hgx-h100-roce, a3-mega, mi300x, pcie-8x-l40s.",
        )
        for name in ("DGX H100", "h100", "H100", "DGX_H100")
    ],
    # ---- numbers
    (
        "  num_nodes: 1",
        "  nic_bandwidth: -400 Gb/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be a bandwidth of at least 0, got -400 Gb/s. Remove the minus sign.",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: .nan\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be a finite number, got .nan. Write a number of at most 40 digits that"
        " is below 1e308.",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: nan Gb/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be a finite number and a unit, got nan Gb/s. Write a number and a "
        'unit, such as "400 Gb/s".',
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: inf Gb/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be a finite number and a unit, got inf Gb/s. Write a number and a "
        'unit, such as "400 Gb/s".',
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 9**9**9 GB/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be one number and one unit, got 9**9**9 GB/s. Nothing is calculated "
        'here. Write a number and a unit, such as "400 Gb/s".',
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e400 GB/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be finite, got 1e400 GB/s. Write a number below 1e308.",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e300 b/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be at most 10^24 bytes/s, got 1e300 b/s. Check the number and its unit.",
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e-300 GB/s\n  num_nodes: 1",
        "4: cluster.nic_bandwidth must be at least 1 bytes/s, got 1e-300 GB/s. Check the number and its unit.",
    ),
    (
        "  num_nodes: 1",
        "  device: {kernel_overhead: 1e300 s}\n  num_nodes: 1",
        "4: cluster.device.kernel_overhead must be at most 10^6 s, got 1e300 s. Check the number and its unit.",
    ),
    (
        "  num_nodes: 1",
        "  device: {memory: 0 GB}\n  num_nodes: 1",
        "4: cluster.device.memory must be more than 0, got 0 GB. Leave the key out to use the preset's.",
    ),
    ("layers: 8", "layers: -8", "6: model.layers must be an integer of at least 1, got -8. Write a larger number."),
    (
        "layers: 8",
        "layers: .inf",
        "6: model.layers must be a finite number, got .inf. Write a number of at most 40 digits that is below 1e308.",
    ),
    (
        "layers: 8",
        "layers: 1e30",
        "6: model.layers must be an integer of at least 1, got 1e+30. Write a number of at most 10,000, "
        "without point or exponent.",
    ),
    (
        "layers: 8",
        "layers: 8.5",
        "6: model.layers must be an integer of at least 1, got 8.5. Write a number without unit, such as 1.",
    ),
    (
        "layers: 8",
        "layers: 8.0",
        "6: model.layers must be an integer of at least 1, got 8.0. Write 8, without point or exponent.",
    ),
    (
        "seed: 1",
        "seed: 99999999999999999999",
        "25: seed must be an integer of at most 10^12, got 99999999999999999999. Write a smaller number.",
    ),
    (
        "seed: 1",
        "seed: 1\nseeds: 1e9",
        "26: seeds must be an integer from 1 to 100, got 1000000000.0. Write how many seeds to simulate, such as 5.",
    ),
    (
        "num_nodes: 1",
        "num_nodes: 0",
        "4: cluster.num_nodes must be an integer of at least 1, got 0. Write a larger number.",
    ),
    (
        "num_nodes: 1",
        "num_nodes: 10000",
        "4: cluster.num_nodes must give at most 65,536 GPUs, got 10000. Simulate a part of the cluster: "
        "replicas beyond it are alike.",
    ),
    (
        "layers: 8",
        "layers: 20000",
        "6: model.layers must be an integer of at most 10,000, got 20000. Write a smaller number.",
    ),
    (
        "microbatches: 2",
        "microbatches: 1000000000",
        "22: workload.microbatches must be an integer of at most 10,000,000, got 1000000000. Write a smaller number.",
    ),
    # ---- a mapping for a whole section
    (
        "{model.top_k: 1}",
        "{model: {top_k: 1}}",
        "38: alternatives.0 (model.layers) must be given, got nothing. What is given for model replaces all of it: "
        "write {model.top_k: 1} to change one key.",
    ),
    (
        "{model.top_k: 1}",
        "{workload: {}}",
        "38: alternatives.0 (workload.kind) must be one of forward, training, passes, collective, got nothing. What is "
        "given for workload replaces all of it: write {workload.KEY: VALUE} to change one key.",
    ),
    # ---- types
    (
        "num_nodes: 1",
        "num_nodes: one",
        '4: cluster.num_nodes must be an integer of at least 1, got "one". Write a number without unit, such as 1.',
    ),
    (
        "num_nodes: 1",
        "num_nodes: [1]",
        "4: cluster.num_nodes must be an integer of at least 1, got [1]. Write a number without unit, such as 1.",
    ),
    (
        "num_nodes: 1",
        "num_nodes: {a: 1}",
        "4: cluster.num_nodes must be an integer of at least 1, got a mapping. Write a number without unit, such as 1.",
    ),
    (
        "num_nodes: 1",
        "num_nodes:",
        "4: cluster.num_nodes must be given, got nothing. Add `num_nodes:` under cluster.",
    ),
    (
        "gated: true",
        "gated: yes",
        "10: model.gated must be true or false, got yes. Write true or false, without quotes.",
    ),
    ("name: one node", "name: [one, node]", "1: name must be a text, got [one, node]. Put it in quotes."),
    ("name: one node", "name: ''", "1: name must be a text, got an empty text. Write something, or leave the key out."),
    (
        "workload:\n",
        "workload: forward\nwork:\n",
        "18: workload must be a mapping of keys, got forward. Write `key: value` lines under it.",
    ),
    (
        "schedule: {kind: 1f1b, recompute: none}",
        "schedule: 1f1b",
        "23: schedule must be a mapping of keys, got 1f1b. Write it as a key, `{kind: 1f1b}`.",
    ),
    (
        "model:\n",
        "model: mixtral-8x7b\nmodels:\n",
        "5: model must be a mapping of keys, got mixtral-8x7b. Write it as a key, `{preset: mixtral-8x7b}`.",
    ),
    (
        "claims:\n",
        "claims: none\nmore:\n",
        "26: claims must be a list, got none. Write [...] or lines that start with `- `.",
    ),
    (
        "  - {model.top_k: 1}",
        "  - [model.top_k, 1]",
        "38: alternatives.0 must be a map of dotted keys to values, got [model.top_k, 1]. Write for example "
        "{model.top_k: 1}.",
    ),
    (
        "rivals: [EP1_TP8_PP1_DP1]",
        "rivals: EP1_TP8_PP1_DP1",
        "39: rivals must be a list, got EP1_TP8_PP1_DP1. Write [...] or lines that start with `- `.",
    ),
    (
        "rivals: [EP1_TP8_PP1_DP1]",
        "rivals: [3]",
        "39: rivals.0 must be the name of a strategy or a map of dotted keys to values, got 3. Write for "
        "example EP16_TP4_PP4_DP4 or {parallel.strategy: EP16_TP4_PP4_DP4}.",
    ),
    (
        "seed: 1",
        "seed: 1\nassumed: [model.top_k]",
        "26: assumed must be a map of dotted keys to reasons, got [model.top_k]. Write for example "
        "{model.top_k: the document does not say how many}.",
    ),
    # ---- names
    (
        "preset: dgx-h100",
        "preset: dgx-h10",
        "3: cluster.preset must name a known cluster, got 'dgx-h10'. Did you mean 'dgx-h100'? Known: "
        "dgx-a100, dgx-h100, dgx-h200, h800, dgx-b200, gb200-nvl72, hgx-h100-roce, a3-mega, mi300x, pcie-8x-l40s.",
    ),
    (
        "  num_nodes: 1",
        "  device: h100\n  num_nodes: 1",
        "4: cluster.device.preset must be a known preset, got h100. Did you mean 'h100-sxm'? Known: "
        "a100-sxm-40gb, a100-sxm-80gb, h100-sxm, h200-sxm, h800-sxm, b200-sxm, gb200, mi300x, l40s, "
        "mi250x-gcd, ascend-910b.",
    ),
    (
        "  layers: 8",
        "  preset: mixtral-8x7\n  layers: 8",
        "6: model.preset must name a known model, got 'mixtral-8x7'. Did you mean 'mixtral-8x7b'? Known: "
        "gpt-22b, gpt-175b, llama3-70b, mixtral-8x7b, qwen3-30b-a3b, gpt-oss-120b.",
    ),
    ("dtype: bf16", "dtype: fp32", "14: model.dtype must be one of bf16, fp16, fp8, got fp32. Write one of these."),
    (
        "convention: megatron",
        "convention: megatro",
        "17: parallel.convention must be one of megatron, vllm, spanning, got megatro. Did you mean `megatron`?",
    ),
    (
        "kind: forward",
        "kind: inference",
        "19: workload.kind must be one of forward, training, passes, collective, got inference. It decides which"
        " keys the workload has.",
    ),
    (
        "kind: 1f1b",
        "kind: 1F1B",
        f"23: schedule.kind must be one of {', '.join(SCHEDULES)}, custom, got 1F1B. Did you mean `1f1b`?",
    ),
    (
        "recompute: none",
        "recompute: some",
        "23: schedule.recompute must be one of none, selective, full, got some. Write one of these.",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_XX1",
        "16: parallel.strategy must be made of known parts, not 'XX1', got 'EP8_XX1'. RendezvousKey axes and sizes "
        "with _, as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP SP).",
    ),
    (
        "metric: tokens_per_s",
        "metric: token_per_s",
        "30: claims.0.metric must name a known metric, got token_per_s. Did you mean tokens_per_s? `moesim "
        "list metrics` shows all.",
    ),
    (
        "metric: tokens_per_s",
        "metric: happiness",
        "30: claims.0.metric must name a known metric, got happiness. `moesim list metrics` shows all.",
    ),
    (
        "superlative: least",
        "superlative: best",
        "36: claims.1.superlative must be one of least, most, got best. Did you mean `least`?",
    ),
    (
        "seed: 1",
        "seed: 1\nassumed: {model.topk: not said}",
        "26: assumed.model.topk must be a known key, got model.topk. Did you mean `top_k`?",
    ),
    # ---- mesh
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP2_PP1_DP8",
        "16: parallel.strategy must be legal under the megatron convention on 8 GPUs (TP x CP x DP x PP = 2 x"
        " 1 x 8 x 1 = 16 is more than 8 GPUs), got EP8_TP2_PP1_DP8. Nearest legal: EP8_TP2_PP1, EP4_TP2_PP1, "
        "EP8_TP1_PP1, EP8_TP4_PP1.",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP1_PP3_DP8",
        "16: parallel.strategy must be legal under the megatron convention on 8 GPUs (TP x CP x DP x PP = 1 x"
        " 1 x 8 x 3 = 24 is more than 8 GPUs), got EP8_TP1_PP3_DP8. Nearest legal: EP8_TP1_PP1, EP4_TP1_PP2, "
        "EP2_TP1_PP4, EP2_TP1_PP2.",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP0",
        "16: parallel.strategy must be made of known parts, not 'EP0', got 'EP0'. RendezvousKey axes and sizes with _,"
        " as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP SP).",
    ),
    ("EP8_TP1_PP1_DP8", "EP8_EP8", "16: parallel.strategy must name EP once, got 'EP8_EP8'. Drop one of the EP parts."),
    (
        "EP8_TP1_PP1_DP8",
        "EP99999999999999999999",
        "16: parallel.strategy must be made of known parts, not 'EP99999999999999999999', got "
        "'EP99999999999999999999'. RendezvousKey axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP "
        "SP).",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP1_PP1_DP8\n  tp: 2",
        "17: parallel.tp must agree with TP1 in parallel.strategy EP8_TP1_PP1_DP8, got 2. Drop one of the two.",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP3_DP2",
        "15: parallel.stage_layers must be given where 8 layers do not divide by PP3, got nothing. Give for "
        "example [3, 3, 2].",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP4_DP2\n  stage_layers: [2, 2, 2]",
        "17: parallel.stage_layers must give 4 counts, one per stage, that sum to layers = 8, got [2, 2, 2]. "
        "Correct the split.",
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP4_DP2\n  stage_layers: [2, 2, 2, 3]",
        "17: parallel.stage_layers must give 4 counts, one per stage, that sum to layers = 8, got [2, 2, 2, 3]. "
        "Correct the split.",
    ),
    ("experts: 8", "experts: 7", "15: parallel.ep must divide experts = 7, got 8. Choose EP among its divisors."),
    ("top_k: 2", "top_k: 9", "12: model.top_k must be at most model.experts = 8, got 9. Lower top_k."),
    (
        "heads: 16",
        "heads: 12",
        "7: model.hidden must be a multiple of model.heads = 12, got 2048. Give model.head_dim, or change "
        "hidden or heads.",
    ),
    (
        "sequences: 64",
        "sequences: 63",
        "20: workload.sequences must be a multiple of DP x microbatches = 8 x 2 = 16, got 63. Use 48, or "
        "change workload.microbatches.",
    ),
    (
        "microbatches: 2",
        "microbatches: 3",
        "20: workload.sequences must be a multiple of DP x microbatches = 8 x 3 = 24, got 64. Use 48, or "
        "change workload.microbatches.",
    ),
    # ---- claims
    (
        '">= 1.0e6 tokens/s"',
        '">= 1.0e6"',
        "31: claims.0.expect must be in tokens/s, as tokens_per_s is, got >= 1.0e6. Write the value with such a unit.",
    ),
    (
        '">= 1.0e6 tokens/s"',
        '">= 1.0e6 ms"',
        "31: claims.0.expect must be in tokens/s, as tokens_per_s is, got >= 1.0e6 ms. Write the value with "
        "such a unit.",
    ),
    (
        '">= 1.0e6 tokens/s"',
        '"about 1.0e6 tokens/s"',
        "31: claims.0.expect must be a comparison with a value, got about 1.0e6 tokens/s. Write a comparison,"
        ' such as ">= 26e6 tokens/s", "<= 50 ms +- 2 %" or "== true".',
    ),
    (
        '">= 1.0e6 tokens/s"',
        '"== true"',
        "31: claims.0.expect must be in tokens/s, as tokens_per_s is, got == true. Write the value with such a unit.",
    ),
    (
        '">= 1.0e6 tokens/s"',
        "5",
        '31: claims.0.expect must be a comparison with a value, got 5. Write a comparison, such as ">= 26e6 '
        'tokens/s", "<= 50 ms +- 2 %" or "== true".',
    ),
    (
        "id: optimal",
        "id: throughput",
        "32: claims.1.id must be unique, got throughput. claims.0 has that id already; choose another.",
    ),
    (
        "    superlative: least\n",
        "",
        '32: claims.1.expect must be given, or superlative, got nothing. Write for example expect: ">= 26e6 '
        'tokens/s", or superlative: least.',
    ),
    (
        "    superlative: least\n",
        "    superlative: least\n    supports: fame\n",
        "37: claims.1.supports must be the id of a claim, got fame. Write an id that stands in this list of claims.",
    ),
    # ---- variants
    (
        "{model.top_k: 1}",
        "{model.topk: 1}",
        "38: alternatives.0 (model.topk) must be a known key, got topk. Did you mean `top_k`?",
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 1, model: {top_k: 2}}",
        "38: alternatives.0.model.top_k must not lie inside another key, model, got model.top_k. Remove one: "
        "model sets all that is in it.",
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 1, model.top_k: 2}",
        "38: alternatives.0.model.top_k must be given once, got a second one. It stands on line 38 already; "
        "remove one of the two.",
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 9}",
        "38: alternatives.0 (model.top_k) must be at most model.experts = 8, got 9. Lower top_k.",
    ),
    (
        "{model.top_k: 1}",
        "{claims: []}",
        "38: alternatives.0.claims must be a key that can be altered, got claims. Start the key with one of "
        "cluster, model, parallel, workload, schedule, routing, placement, network, seed.",
    ),
    (
        "{model.top_k: 1}",
        "{parallel.strategy: EP8_TP1, parallel.tp: 2}",
        "38: alternatives.0 (parallel.tp) must agree with TP1 in parallel.strategy EP8_TP1, got 2. Drop one "
        "of the two.",
    ),
    (
        "{model.top_k: 1}",
        "{cluster.preset: dgx-h10}",
        "38: alternatives.0 (cluster.preset) must name a known cluster, got 'dgx-h10'. Did you mean "
        "'dgx-h100'? Known: dgx-a100, dgx-h100, dgx-h200, h800, dgx-b200, gb200-nvl72, hgx-h100-roce, a3-mega, mi300x, "
        "pcie-8x-l40s.",
    ),
    (
        "{model.top_k: 1}",
        "{cluster.device.preset: h100}",
        "38: alternatives.0 (cluster.device.preset) must be a known preset, got h100. Did you mean "
        "'h100-sxm'? Known: a100-sxm-40gb, a100-sxm-80gb, h100-sxm, h200-sxm, h800-sxm, b200-sxm, gb200, "
        "mi300x, l40s, mi250x-gcd, ascend-910b.",
    ),
    (
        "{model.top_k: 1}",
        "{seed.x: 1}",
        "38: alternatives.0 (seed.x) must be a key; seed has no keys, got x. Set seed itself.",
    ),
    (
        "{model.top_k: 1}",
        "{}",
        "38: alternatives.0 must be a map of dotted keys to values, got an empty mapping. Write for example "
        "{model.top_k: 1}.",
    ),
    (
        "EP1_TP8_PP1_DP1",
        "EP1_TP8_PP3_DP1",
        "39: rivals.0 (parallel.strategy) must be legal under the megatron convention on 8 GPUs (TP x CP x DP"
        " x PP = 8 x 1 x 1 x 3 = 24 is more than 8 GPUs), got EP1_TP8_PP3. Nearest legal: EP1_TP8_PP1, "
        "EP1_TP4_PP2, EP1_TP2_PP4, EP1_TP2_PP2.",
    ),
    (
        "EP1_TP8_PP1_DP1",
        "EP1_TP8_PP1_DQ1",
        "39: rivals.0 (parallel.strategy) must be made of known parts, not 'DQ1', got 'EP1_TP8_PP1_DQ1'. RendezvousKey"
        " axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP SP).",
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{model.top_k: 1}",
        "39: rivals.0.model.top_k must be a key of parallel, schedule, network, placement, or "
        "workload.microbatches, got model.top_k. A rival is another strategy on the same cluster and work: "
        "declare it under alternatives.",
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{parallel.tp: x}",
        '39: rivals.0 (parallel.tp) must be an integer of at least 1, got "x". Write a number without unit, such as 1.',
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{parallel: {tp: 8}, parallel.tp: 8}",
        "39: rivals.0.parallel.tp must not lie inside another key, parallel, got parallel.tp. Remove one: "
        "parallel sets all that is in it.",
    ),
    # ---- yaml
    ("seed: 1", "seed: &a 1", "25: seed must have no anchors, got &a. Remove it and write the value out."),
    ("seed: 1", "seed: *a", "25: seed must have no aliases, got *a. Write the value out."),
    ("seed: 1", "seed: !!int 1", "25: seed must have no tags, got !!int. Remove it; the type follows from the value."),
    (
        "seed: 1",
        "seed: !!python/object/apply:os.system ['touch pwned']",
        "25: seed must have no tags, got !!python/object/apply:os.system. Remove it; the type follows from the value.",
    ),
    (
        "seed: 1",
        "seed: !include ../../etc/passwd",
        "25: seed must have no tags, got !include. Remove it; the type follows from the value.",
    ),
    (
        "seed: 1",
        "---\nseed: 1",
        "25: the file must be one YAML document, got several. Keep one scenario per file; remove the line `---`.",
    ),
    (
        "seed: 1",
        "\tseed: 1",
        "25: the file must be valid YAML, got an error (found character '\\t' that cannot start any token). "
        "Write spaces instead of the tab.",
    ),
    (
        "seed: 1",
        "seed: 1\n  seeds: 3",
        "26: the file must be valid YAML, got an error (mapping values are not allowed here). Check "
        "indentation, brackets, colons and quotes on this line and the one before it.",
    ),
    (
        "seed: 1",
        "seed: [1",
        "26: the file must be valid YAML, got an error (expected ',' or ']', but got ':'). Check indentation,"
        " brackets, colons and quotes on this line and the one before it.",
    ),
    (
        "seed: 1",
        "seed: '1",
        "40: the file must be valid YAML, got an error (found unexpected end of stream). Check indentation, "
        "brackets, colons and quotes on this line and the one before it.",
    ),
    (
        "seed: 1",
        "? [a]\n: 1",
        "25: the file must have texts as keys, got a list or mapping as a key. Write `key: value`.",
    ),
    (
        "seed: 1",
        "seed 1",
        "26: the file must be valid YAML, got an error (could not find expected ':'). Check indentation, "
        "brackets, colons and quotes on this line and the one before it.",
    ),
    (
        "seed: 1",
        "seed: {a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: {l: {m: {n: {o: {p: {q: {r: {s: {t: 1}}}}}}}}}}}}}}}}}}}}",
        "25: seed.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s must be nested at most 20 deep, got a deeper level. A"
        " scenario needs four levels; check brackets and indentation.",
    ),
    # ---- files
    (
        "  num_nodes: 1",
        "  file: ../secret.yaml\n  num_nodes: 1",
        "4: cluster.file must be left out with cluster.preset, got ../secret.yaml. Keep one of them.",
    ),
    (
        "  preset: dgx-h100",
        "  file: ../secret.yaml\n  device: h100-sxm",
        "3: cluster.file must be in the scenario's folder, got ../secret.yaml. Copy it beside the scenario and "
        "write its name.",
    ),
    (
        "  layers: 8",
        "  hf_config: /etc/passwd\n  layers: 8",
        "6: model.hf_config must be supported, got /etc/passwd. model.hf_config is not supported yet. Name a "
        "model with model.preset, or give its fields.",
    ),
    (
        "recompute: none",
        "file: ../order.csv",
        "23: schedule.file must be left out with schedule.kind 1f1b, got ../order.csv. It belongs to kind custom; "
        "remove it.",
    ),
    (
        "kind: balanced",
        "kind: balanced, file: /etc/passwd",
        "24: routing.file must be left out with kind balanced, got /etc/passwd. It belongs to kind trace.",
    ),
    (
        "kind: balanced",
        "kind: trace, file: /etc/passwd",
        "24: routing.file must be in the scenario's folder, got /etc/passwd. Copy it beside the scenario and write its "
        "name.",
    ),
]
"""One wrong thing each."""

FILES: Final[Mapping[str, tuple[bytes, str]]] = {
    # name: content, the message after the file's name
    "empty": (b"", ": the file must hold a scenario, got an empty file. `moesim init FILE` writes one to start from."),
    "remarks": (
        b"# nothing\n",
        ": the file must hold a scenario, got an empty file. `moesim init FILE` writes one to start from.",
    ),
    "zeros": (
        b"\0" * 2000,
        ": the file must be UTF-8 text, got zero bytes, as in binary files. Save it as UTF-8, if it is a text"
        " in another encoding such as UTF-16.",
    ),
    "binary": (
        b"\x7fELF\x02\x01\x01" + bytes(range(256)),
        ": the file must be UTF-8 text, got zero bytes, as in binary files. Save it as UTF-8, if it is a text"
        " in another encoding such as UTF-16.",
    ),
    "picture": (b"\x89PNG\r\n\x1a\n", ":1: the file must be UTF-8 text, got byte 0x89. Save it as UTF-8."),
    "utf16": (
        GOOD.encode("utf-16"),
        ": the file must be UTF-8 text, got zero bytes, as in binary files. Save it as UTF-8, if it is a text"
        " in another encoding such as UTF-16.",
    ),
    "utf32": (
        GOOD.encode("utf-32"),
        ": the file must be UTF-8 text, got zero bytes, as in binary files. Save it as UTF-8, if it is a text"
        " in another encoding such as UTF-16.",
    ),
    "latin1": (b"name: caf\xe9\n", ":1: the file must be UTF-8 text, got byte 0xe9. Save it as UTF-8."),
    "enormous": (
        b"#" * 40_000_000,
        ": the file must be at most 256 KiB large, got more than that. Split it into several scenarios.",
    ),
    "deep": (
        b"a: " + b"[" * 100_000,
        ":1: a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 must be nested at most 20 deep, got a deeper level. A "
        "scenario needs four levels; check brackets and indentation.",
    ),
    "indented": (
        b"".join(b" " * i + b"a:\n" for i in range(100)),
        ":21: a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a must be nested at most 20 deep, got a deeper level. A "
        "scenario needs four levels; check brackets and indentation.",
    ),
    "laughs": (
        b"a: &a [ha, ha]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        ":1: a must have no anchors, got &a. Remove it and write the value out.",
    ),
    "cycle": (b"a: &a\n  b: *a\n", ":1: a must have no anchors, got &a. Remove it and write the value out."),
    "values": (
        b"claims: [" + b"a, " * 10_000 + b"]",
        ":1: the file must hold at most 10000 values, got more than that. Split it into several scenarios.",
    ),
    "keys": (
        b"".join(b"k%d: 1\n" % i for i in range(9000)),
        ":1: k0 must be a known key, got k0. Known are name, cluster, model, parallel, workload, schedule, "
        "routing, placement, network, seed, seeds, assumed, claims, alternatives, rivals, stress, published.",
    ),
    "list": (
        b"- a\n- b\n",
        ":1: the file must be a mapping of keys at the top level, got [a, b]. Write keys with values, such as"
        " `model:` and `cluster:`.",
    ),
    "scalar": (
        b"hello\n",
        ":1: the file must be a mapping of keys at the top level, got hello. Write keys with values, such as "
        "`model:` and `cluster:`.",
    ),
    "directive": (
        b"%YAML 1.1\n---\nseed: 1\n",
        ":2: the file must have no directives, got a line that starts with %. Remove that line.",
    ),
    "windows": (
        GOOD.replace("layers: 8", "layers: x").replace("\n", "\r\n").encode(),
        ':6: model.layers must be an integer of at least 1, got "x". Write a number without unit, such as 1.',
    ),
    "many": (
        GOOD.replace("  - {model.top_k: 1}\n", "  - {model.top_k: 1}\n" * 1001).encode(),
        ":37: alternatives must have at most 1000 items, got [a mapping, a mapping, a mapping, a mapping, a "
        "mapping, a ma.... Split the scenario into several.",
    ),
    "digits": (
        b"seed: " + b"9" * 200_000,
        ":1: seed must be a finite number, got "
        "999999999999999999999999999999999999999999999999999999999999.... Write a number of at most 40 digits"
        " that is below 1e308.",
    ),
    "anchor": (
        b"a: &" + b"x" * 200_000,
        ":1: a must have no anchors, got &xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.... "
        "Remove it and write the value out.",
    ),
    "text": (
        b"name: " + b"x" * 200_000,
        ":1: name must be at most 2000 characters long, got "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.... Shorten it.",
    ),
    "python": (
        b"!!python/object/apply:os.system ['touch pwned']\n",
        ":1: the file must have no tags, got !!python/object/apply:os.system. Remove it; the type follows "
        "from the value.",
    ),
    "quote": (
        b'name: "' + b"x\n" * 9000,
        ":9001: the file must be valid YAML, got an error (found unexpected end of stream). Check "
        "indentation, brackets, colons and quotes on this line and the one before it.",
    ),
}
"""Files that are no scenario, or none that is read."""

ARGUMENTS: Final[list[tuple[list[str], str]]] = [
    # arguments after `run`, the message; good.yaml is `GOOD`
    (
        ["nope.yaml"],
        "nope.yaml: the scenario must be a file or a bundled scenario, got nope.yaml. Known are " + KNOWN,
    ),
    (
        ["ep64_tp16_pp5"],
        "ep64_tp16_pp5: the scenario must be a file or a bundled scenario, got ep64_tp16_pp5. Did you mean "
        "`ep64_tp16_pp4`?",
    ),
    (["."], ".: the file must be a file, got a directory. Name a file in it."),
    (
        [""],
        "the scenario must be a file or a bundled scenario, got an empty text. Known are " + KNOWN,
    ),
    (
        ["/dev/null"],
        "/dev/null: the file must hold a scenario, got an empty file. `moesim init FILE` writes one to start from.",
    ),
    (
        ["good.yaml/x"],
        "good.yaml/x: the scenario must be a file or a bundled scenario, got good.yaml/x. Known are " + KNOWN,
    ),
    (
        ["../no/such.yaml"],
        "../no/such.yaml: the scenario must be a file or a bundled scenario, got ../no/such.yaml. Known are " + KNOWN,
    ),
    (
        ["https://example.org/a.yaml"],
        "https://example.org/a.yaml: the scenario must be a file or a bundled scenario, got "
        "https://example.org/a.yaml. Known are " + KNOWN,
    ),
    (
        ["a\nb"],
        "a\\nb: the scenario must be a file or a bundled scenario, got a\\nb. Known are " + KNOWN,
    ),
    (
        ["good.yaml", "--seed", "9" * 400],
        "--seed must be an integer of at least 0 and at most 1,000,000,000,000, got "
        f"{'9' * 60}.... For example: --seed 1",
    ),
    (
        ["good.yaml", "--set", "model.top_k=1", "--set", "model.top_k=2"],
        "model.top_k must be set once, got a second value. Remove --set model.top_k=1 or --set model.top_k=2.",
    ),
    (
        ["good.yaml", "--set", "seed=1", "--seed", "2"],
        "seed must be set once, got a second value. Remove --set seed=1 or --seed 2.",
    ),
    (
        ["good.yaml", "--set", f"{'k' * 3000}=1"],
        f"--set {'k' * 60}...: {'k' * 60}... must be a known key, got {'k' * 60}.... Known are name, cluster, model, "
        "parallel, workload, schedule, routing, placement, network, seed, seeds, assumed, claims, alternatives, "
        "rivals, stress, published.",
    ),
    (
        ["good.yaml", "--set", f"cluster.preset={'k' * 1000}"],
        f"--set cluster.preset={'k' * 45}...: cluster.preset must name a known cluster, got '{'k' * 59}.... Known: "
        "dgx-a100, dgx-h100, dgx-h200, h800, dgx-b200, gb200-nvl72, hgx-h100-roce, a3-mega, mi300x, pcie-8x-l40s.",
    ),
    (
        ["good.yaml", "--set", "model.vocab=1,000,000"],
        '--set model.vocab=1,000,000: model.vocab must be an integer of at least 1, got "1,000,000". Write 1000000.',
    ),
    *[
        (
            [name],
            f"{name}: the scenario must be a file or a bundled scenario, got {name}. Did you mean `good.yaml`, in the "
            "same folder?",
        )
        for name in ("good", "good.yml", "Good.YAML", "./god.yaml")
    ],
    (
        ["good.yaml", "--seed", "-1"],
        "--seed must be an integer of at least 0 and at most 1,000,000,000,000, got -1. For example: --seed 1",
    ),
    (
        ["good.yaml", "--set", "model.topk=1"],
        "--set model.topk=1: model.topk must be a known key, got topk. Did you mean `top_k`?",
    ),
    (
        ["good.yaml", "--set", "modl.top_k=1"],
        "--set modl.top_k=1: modl must be a known key, got modl. Did you mean `model`?",
    ),
    (
        ["good.yaml", "--set", "model.top_k"],
        "--set must be KEY=VALUE with a dotted key, got model.top_k. Write for example --set model.top_k=1.",
    ),
    (
        ["good.yaml", "--set", "=1"],
        "--set must be KEY=VALUE with a dotted key, got =1. Write for example --set model.top_k=1.",
    ),
    (
        ["good.yaml", "--set", ""],
        "--set must be KEY=VALUE with a dotted key, got an empty text. Write for example --set model.top_k=1.",
    ),
    (
        ["good.yaml", "--set", "model.top_k="],
        "--set model.top_k=: model.top_k must be given, got nothing. Add `top_k` under `model`, or name a "
        "model.preset. Number of routed experts a token is sent to.",
    ),
    (
        ["good.yaml", "--set", "model.top_k=one"],
        '--set model.top_k=one: model.top_k must be an integer of at least 1, got "one". Write a number '
        "without unit, such as 1.",
    ),
    (
        ["good.yaml", "--set", "model.top_k=[1"],
        "--set model.top_k=[1: model.top_k must be valid YAML, got an error (expected ',' or ']', but got "
        "'<stream end>'). Check its brackets, and put texts with special characters in double quotes inside "
        "single ones.",
    ),
    (
        ["good.yaml", "--set", "claims.9.metric=mfu"],
        "--set claims.9.metric=mfu: claims.9 must be a position in claims, got 9. It has positions 0 to 1.",
    ),
    (
        ["good.yaml", "--set", "claims.metric=mfu"],
        "--set claims.metric=mfu: claims.metric must be a position in claims, got metric. It has positions 0 to 1.",
    ),
    (
        ["good.yaml", "--set", "model.top_k.x=1"],
        "--set model.top_k.x=1: model.top_k.x must be a key; model.top_k has no keys, got x. Set model.top_k itself.",
    ),
    (
        ["good.yaml", "--set", "claims.0.metric=speed"],
        "--set claims.0.metric=speed: claims.0.metric must name a known metric, got speed. `moesim list "
        "metrics` shows all.",
    ),
    (
        ["good.yaml", "--set", "model=3"],
        "--set model=3: model must be a mapping of keys, got 3. Write `key: value` lines under it.",
    ),
    (
        ["good.yaml", "--set", "model={}"],
        "--set model={}: model.layers must be given, got nothing. What is given for model replaces all of it: "
        "write --set model.KEY=VALUE to change one key.",
    ),
    (
        ["good.yaml", "--set", "cluster={num_nodes: 2}"],
        "--set cluster={num_nodes: 2}: cluster.preset must be given, got nothing. What is given for cluster replaces "
        "all of it: write --set cluster.num_nodes=2 to change one key.",
    ),
    (
        ["good.yaml", "--set", "cluster.device.memory=64"],
        "--set cluster.device.memory=64: cluster.device.memory must have a unit, got 64. Write a number and a"
        ' unit, such as "64 GB".',
    ),
    (
        ["good.yaml", "--set", "model.top_k=!!python/name:os.system"],
        "--set model.top_k=!!python/name:os.system: model.top_k must have no tags, got "
        "!!python/name:os.system. Remove it; the type follows from the value.",
    ),
    (
        ["good.yaml", "--set", "model.top_k=*a"],
        "--set model.top_k=*a: model.top_k must have no aliases, got *a. Write the value out.",
    ),
    (
        ["good.yaml", "--set", "alternatives.0.model.topk=1"],
        "--set alternatives.0.model.topk=1: alternatives.0 (model.topk) must be a known key, got topk. Did "
        "you mean `top_k`?",
    ),
    (
        ["good.yaml", "--set", "cluster.file=/etc/passwd"],
        "--set cluster.file=/etc/passwd: cluster.file must be left out with cluster.preset, got /etc/passwd. Keep one "
        "of them.",
    ),
    (
        ["good.yaml", "--set", "parallel.strategy=EP8_TP2_PP1_DP8"],
        "--set parallel.strategy=EP8_TP2_PP1_DP8: parallel.strategy must be legal under the megatron "
        "convention on 8 GPUs (TP x CP x DP x PP = 2 x 1 x 8 x 1 = 16 is more than 8 GPUs), got "
        "EP8_TP2_PP1_DP8. Nearest legal: EP8_TP2_PP1, EP4_TP2_PP1, EP8_TP1_PP1, EP8_TP4_PP1.",
    ),
    (
        ["good.yaml", "--set", "model.top_k=9"],
        "--set model.top_k=9: model.top_k must be at most model.experts = 8, got 9. Lower top_k.",
    ),
    (
        ["good.yaml", "--set", "__class__=1"],
        "--set __class__=1: __class__ must be a known key, got __class__. Known are name, cluster, model, "
        "parallel, workload, schedule, routing, placement, network, seed, seeds, assumed, claims, "
        "alternatives, rivals, stress, published.",
    ),
    (
        ["good.yaml", "--set", "claims=" + "[" * 3000],
        "--set claims=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...: "
        "claims.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 must be nested at most 20 deep, got a deeper level. A"
        " scenario needs four levels; check brackets and indentation.",
    ),
]
"""Paths, names and changes."""
