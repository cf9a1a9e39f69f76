"""Input that is refused, and where, with which field, rule and hint: the table of `test_bad_input.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sim.scenario.scenario_files import list_bundled
from workloads.schedules import SCHEDULES

GOOD: Final = Path(__file__).with_name("good_input.yaml").read_text(encoding="utf-8")
"""A scenario that runs; each row of `EDITS` breaks it in one place."""
KNOWN: Final = f"{', '.join(list_bundled())}."
"""The bundled scenarios, as messages name them."""

Refused = tuple[int | str | None, str, str, str]
"""The line, or the file or argument, the field, and the beginnings of the rule and of the hint."""

EDITS: Final[list[tuple[str, str, Refused]]] = [
    # what the scenario says, what it says now, how it is refused
    # ---- keys
    ("num_nodes: 1", "num_node: 1", (4, "cluster.num_node", "be a known key", "Did you mean `num_nodes`?")),
    ("cluster:", "clusters:", (2, "clusters", "be a known key", "Did you mean `cluster`?")),
    ("hidden: 2048", "Hidden: 2048", (7, "model.Hidden", "be a known key", "Did you mean `hidden`?")),
    ("layers: 8", "num_layers: 8", (6, "model.num_layers", "be a known key", "Did you mean `layers`?")),
    ("microbatches: 2", "microbatch: 2", (22, "workload.microbatch", "be a known key", "Did you mean `microbatches`?")),
    ("  - id: optimal", "  - ID: optimal", (32, "claims.1.ID", "be a known key", "Did you mean `id`?")),
    (
        "seed: 1",
        "schema_version: 2",
        (25, "schema_version", "be a known key", "Known are name, cluster, model, parallel, workload,"),
    ),
    (
        "seed: 1",
        "seed: 1\nseed: 2",
        (26, "seed", "be given once", "It stands on line 25 already; remove one of the two."),
    ),
    ("seed: 1", "<<: {seed: 2}", (25, "<<", "be a known key", "Known are name, cluster, model, parallel, workload,")),
    (
        "  hidden: 2048\n",
        "",
        (5, "model.hidden", "be given", "Add `hidden` under `model`, or name a model.preset. Width"),
    ),
    ("  num_nodes: 1\n", "", (2, "cluster.num_nodes", "be given", "Add `num_nodes:` under cluster.")),
    ("workload:\n", "work:\n", (18, "work", "be a known key", "Did you mean `workload`?")),
    # ---- units
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "have a unit", 'Write a number and a unit, such as "400 Gb/s".'),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 GB\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be a bandwidth", 'GB is a unit of a size: write for example "400 Gb/s".'),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 gbps\n  num_nodes: 1",
        (
            4,
            "cluster.nic_bandwidth",
            "have a unit of the table",
            "Units have one spelling: write Gb/s or GB/s (b is bits, B",
        ),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 gb/s\n  num_nodes: 1",
        (
            4,
            "cluster.nic_bandwidth",
            "have a unit of the table",
            "Units are case sensitive: write Gb/s or GB/s (b is bits, B",
        ),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 400 furlongs\n  num_nodes: 1",
        (
            4,
            "cluster.nic_bandwidth",
            "have a unit of the table",
            "furlongs is not one of B/s, kB/s, MB/s, GB/s, TB/s, KiB/s,",
        ),
    ),
    (
        "  num_nodes: 1",
        "  device: {kernel_overhead: 5}\n  num_nodes: 1",
        (4, "cluster.device.kernel_overhead", "have a unit", 'Write a number and a unit, such as "3 us".'),
    ),
    (
        "  num_nodes: 1",
        "  device: {memory: 64 KB}\n  num_nodes: 1",
        (
            4,
            "cluster.device.memory",
            "have a unit of the table",
            "Units are case sensitive: write kb or kB (b is bits, B",
        ),
    ),
    (
        "sequence_length: 2048",
        "sequence_length: 2048 bytes",
        (21, "workload.sequence_length", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    (
        "  num_nodes: 1",
        "  device: {gemm_efficiency: 150 %}\n  num_nodes: 1",
        (
            4,
            "cluster.device.gemm_efficiency",
            "be a ratio of more than 0 and at most 1",
            "Write a number in that range.",
        ),
    ),
    (
        "layers: 8",
        "layers: 8 layers",
        (6, "model.layers", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    *[
        (
            "  num_nodes: 1",
            f"  nic_bandwidth: {written}\n  num_nodes: 1",
            (4, "cluster.nic_bandwidth", "have a unit of the table", f"Units have one spelling: write {ours}."),
        )
        for written, ours in (("400 Gbit/s", "400 Gb/s"), ("400 Gbps", "400 Gb/s"), ("50 GBps", "50 GB/s"))
    ],
    *[
        (
            "  num_nodes: 1",
            f"  device: {{kernel_overhead: {written}}}\n  num_nodes: 1",
            (4, "cluster.device.kernel_overhead", "be one number and one unit", "Write 3 us."),
        )
        for written in ("3 \u00b5s", "3 \u03bcs")
    ],
    *[
        (">= 1.0e6 tokens/s", f">= {written}", (31, "claims.0.expect", rule, f"{hint}."))
        for written, rule, hint in (
            ("1M tokens/s", "be one number and one unit", "Write 1e6 tokens/s"),
            ("1,000,000 tokens/s", "be one number and one unit", "Write 1000000 tokens/s"),
            ("1e6 token/s", "have a unit of the table", "Units have one spelling: write 1e6 tokens/s"),
        )
    ],
    *[
        (">= 1.0e6 tokens/s", expected, (31, "claims.0.expect", f"have a tolerance {rule}", hint))
        for expected, rule, hint in (
            (">= 1e6 tokens/s +- 200%", "below 100 %", 'All values would meet it: write for example "+- 2 %".'),
            (">= 1e6 tokens/s +- 100 %", "below 100 %", 'All values would meet it: write for example "+- 2 %".'),
            ("== 1e6 tokens/s +- 101 %", "of at most 100 %", 'Write for example "+- 2 %".'),
        )
    ],
    (
        "seed: 1",
        "...\nseed: 1",
        (26, "the file", "be one YAML document", "Keep one scenario per file; remove the line `...`."),
    ),
    (
        "seed: 1",
        "...\n---\nseed: 1",
        (26, "the file", "be one YAML document", "Keep one scenario per file; remove the line `...` and the"),
    ),
    *[
        (
            "preset: dgx-h100",
            f"preset: {name}",
            (3, "cluster.preset", "name a known cluster", "Did you mean `dgx-h100`? `moesim list presets` shows all."),
        )
        for name in ("DGX H100", "h100", "H100", "DGX_H100")
    ],
    # ---- numbers
    (
        "  num_nodes: 1",
        "  nic_bandwidth: -400 Gb/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be a bandwidth of at least 0", "Remove the minus sign."),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: .nan\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be a finite number", "Write a number of at most 40 digits that is below 1e308."),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: nan Gb/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be a finite number and a unit", 'Write a number and a unit, such as "400 Gb/s".'),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: inf Gb/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be a finite number and a unit", 'Write a number and a unit, such as "400 Gb/s".'),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 9**9**9 GB/s\n  num_nodes: 1",
        (
            4,
            "cluster.nic_bandwidth",
            "be one number and one unit",
            "Nothing is calculated here. Write a number and a unit, such",
        ),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e400 GB/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be finite", "Write a number below 1e308."),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e300 b/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be at most 10^24 bytes/s", "Check the number and its unit."),
    ),
    (
        "  num_nodes: 1",
        "  nic_bandwidth: 1e-300 GB/s\n  num_nodes: 1",
        (4, "cluster.nic_bandwidth", "be at least 1 bytes/s", "Check the number and its unit."),
    ),
    (
        "  num_nodes: 1",
        "  device: {kernel_overhead: 1e300 s}\n  num_nodes: 1",
        (4, "cluster.device.kernel_overhead", "be at most 10^6 s", "Check the number and its unit."),
    ),
    (
        "  num_nodes: 1",
        "  device: {memory: 0 GB}\n  num_nodes: 1",
        (4, "cluster.device.memory", "be more than 0", "Leave the key out to use the preset's."),
    ),
    ("layers: 8", "layers: -8", (6, "model.layers", "be an integer of at least 1", "Write a larger number.")),
    (
        "layers: 8",
        "layers: .inf",
        (6, "model.layers", "be a finite number", "Write a number of at most 40 digits that is below 1e308."),
    ),
    (
        "layers: 8",
        "layers: 1e30",
        (
            6,
            "model.layers",
            "be an integer of at least 1",
            "Write a number of at most 10,000, without point or exponent.",
        ),
    ),
    (
        "layers: 8",
        "layers: 8.5",
        (6, "model.layers", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    (
        "layers: 8",
        "layers: 8.0",
        (6, "model.layers", "be an integer of at least 1", "Write 8, without point or exponent."),
    ),
    (
        "seed: 1",
        "seed: 99999999999999999999",
        (25, "seed", "be an integer of at most 10^12", "Write a smaller number."),
    ),
    (
        "seed: 1",
        "seed: 1\nseeds: 1e9",
        (26, "seeds", "be an integer from 1 to 100", "Write how many seeds to simulate, such as 5."),
    ),
    ("num_nodes: 1", "num_nodes: 0", (4, "cluster.num_nodes", "be an integer of at least 1", "Write a larger number.")),
    (
        "num_nodes: 1",
        "num_nodes: 10000",
        (4, "cluster.num_nodes", "give at most 65,536 GPUs", "Simulate a part of the cluster:"),
    ),
    ("layers: 8", "layers: 20000", (6, "model.layers", "be an integer of at most 10,000", "Write a smaller number.")),
    (
        "microbatches: 2",
        "microbatches: 1000000000",
        (22, "workload.microbatches", "be an integer of at most 10,000,000", "Write a smaller number."),
    ),
    # ---- a mapping for a whole section
    (
        "{model.top_k: 1}",
        "{model: {top_k: 1}}",
        (38, "alternatives.0 (model.layers)", "be given", "What is given for model replaces all of it: write"),
    ),
    (
        "{model.top_k: 1}",
        "{workload: {}}",
        (
            38,
            "alternatives.0 (workload.kind)",
            "be one of forward, training, passes, collective, serving",
            "What is given for workload replaces all of it: write",
        ),
    ),
    # ---- types
    (
        "num_nodes: 1",
        "num_nodes: one",
        (4, "cluster.num_nodes", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    (
        "num_nodes: 1",
        "num_nodes: [1]",
        (4, "cluster.num_nodes", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    (
        "num_nodes: 1",
        "num_nodes: {a: 1}",
        (4, "cluster.num_nodes", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    ("num_nodes: 1", "num_nodes:", (4, "cluster.num_nodes", "be given", "Add `num_nodes:` under cluster.")),
    ("gated: true", "gated: yes", (10, "model.gated", "be true or false", "Write true or false, without quotes.")),
    ("name: one node", "name: [one, node]", (1, "name", "be a text", "Put it in quotes.")),
    ("name: one node", "name: ''", (1, "name", "be a text", "Write something, or leave the key out.")),
    (
        "workload:\n",
        "workload: forward\nwork:\n",
        (18, "workload", "be a mapping of keys", "Write `key: value` lines under it."),
    ),
    (
        "schedule: {kind: 1f1b, recompute: none}",
        "schedule: 1f1b",
        (23, "schedule", "be a mapping of keys", "Write it as a key, `{kind: 1f1b}`."),
    ),
    (
        "model:\n",
        "model: mixtral-8x7b\nmodels:\n",
        (5, "model", "be a mapping of keys", "Write it as a key, `{preset: mixtral-8x7b}`."),
    ),
    ("claims:\n", "claims: none\nmore:\n", (26, "claims", "be a list", "Write [...] or lines that start with `- `.")),
    (
        "  - {model.top_k: 1}",
        "  - [model.top_k, 1]",
        (38, "alternatives.0", "be a map of dotted keys to values", "Write for example {model.top_k: 1}."),
    ),
    (
        "rivals: [EP1_TP8_PP1_DP1]",
        "rivals: EP1_TP8_PP1_DP1",
        (39, "rivals", "be a list", "Write [...] or lines that start with `- `."),
    ),
    (
        "rivals: [EP1_TP8_PP1_DP1]",
        "rivals: [3]",
        (
            39,
            "rivals.0",
            "be the name of a strategy or a map of dotted keys to values",
            "Write for example EP16_TP4_PP4_DP4 or {parallel.strategy:",
        ),
    ),
    (
        "seed: 1",
        "seed: 1\nassumed: [model.top_k]",
        (
            26,
            "assumed",
            "be a map of dotted keys to reasons",
            "Write for example {model.top_k: the document does not say",
        ),
    ),
    # ---- names
    (
        "preset: dgx-h100",
        "preset: dgx-h10",
        (3, "cluster.preset", "name a known cluster", "Did you mean `dgx-h100`? `moesim list presets` shows all."),
    ),
    (
        "  num_nodes: 1",
        "  device: h100\n  num_nodes: 1",
        (4, "cluster.device.preset", "be a known preset", "Did you mean `h100-sxm`? `moesim list presets` shows all."),
    ),
    (
        "  layers: 8",
        "  preset: mixtral-8x7\n  layers: 8",
        (6, "model.preset", "name a known model", "Did you mean `mixtral-8x7b`? `moesim list models` shows all."),
    ),
    ("dtype: bf16", "dtype: fp32", (14, "model.dtype", "be one of bf16, fp16, fp8", "Write one of these.")),
    (
        "convention: megatron",
        "convention: megatro",
        (17, "parallel.convention", "be one of megatron, vllm, spanning", "Did you mean `megatron`?"),
    ),
    (
        "kind: forward",
        "kind: inference",
        (
            19,
            "workload.kind",
            "be one of forward, training, passes, collective, serving",
            "Prefill is `kind: forward`. Decode with a context",
        ),
    ),
    (
        "kind: 1f1b",
        "kind: 1F1B",
        (23, "schedule.kind", f"be one of {', '.join(SCHEDULES)}, custom", "Did you mean `1f1b`?"),
    ),
    (
        "recompute: none",
        "recompute: some",
        (23, "schedule.recompute", "be one of none, selective, full", "Write one of these."),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_XX1",
        (
            16,
            "parallel.strategy",
            "be made of known parts, not 'XX1'",
            "Join axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP",
        ),
    ),
    (
        "metric: tokens_per_s",
        "metric: token_per_s",
        (30, "claims.0.metric", "name a known metric", "Did you mean `tokens_per_s`? `moesim list metrics` shows"),
    ),
    (
        "metric: tokens_per_s",
        "metric: happiness",
        (30, "claims.0.metric", "name a known metric", "`moesim list metrics` shows all."),
    ),
    (
        "superlative: least",
        "superlative: best",
        (36, "claims.1.superlative", "be one of least, most", "Did you mean `least`?"),
    ),
    (
        "seed: 1",
        "seed: 1\nassumed: {model.topk: not said}",
        (26, "assumed.model.topk", "be a known key", "Did you mean `top_k`?"),
    ),
    # ---- mesh
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP2_PP1_DP8",
        (
            16,
            "parallel.strategy",
            "be legal under the megatron convention on 8 GPUs (TP x CP x",
            "DP8 is what is wrong: write DP4, or leave DP out. Nearest legal: EP8_TP2_PP1_DP4, EP4_TP2_PP1,",
        ),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP1_PP3_DP8",
        (
            16,
            "parallel.strategy",
            "be legal under the megatron convention on 8 GPUs (TP x CP x",
            "Nearest legal: EP8_TP1_PP1, EP4_TP1_PP2, EP2_TP1_PP4,",
        ),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP0",
        (
            16,
            "parallel.strategy",
            "have degrees of at least 1, not EP0",
            "Write EP1, or leave it out.",
        ),
    ),
    ("EP8_TP1_PP1_DP8", "EP8_EP8", (16, "parallel.strategy", "name EP once", "Drop one of the EP parts.")),
    (
        "EP8_TP1_PP1_DP8",
        "EP99999999999999999999",
        (
            16,
            "parallel.strategy",
            "be made of known parts, not 'EP99999999999999999999'",
            "Join axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP",
        ),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP8_TP1_PP1_DP8\n  tp: 2",
        (17, "parallel.tp", "agree with TP1 in parallel.strategy EP8_TP1_PP1_DP8", "Drop one of the two."),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP3_DP2",
        (15, "parallel.stage_layers", "be given where 8 layers do not divide by PP3", "Give for example [3, 3, 2]."),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP4_DP2\n  stage_layers: [2, 2, 2]",
        (17, "parallel.stage_layers", "give 4 counts, one per stage, that sum to layers = 8", "Use [2, 2, 2, 2]."),
    ),
    (
        "EP8_TP1_PP1_DP8",
        "EP1_TP1_PP4_DP2\n  stage_layers: [2, 2, 2, 3]",
        (17, "parallel.stage_layers", "give 4 counts, one per stage, that sum to layers = 8", "Use [2, 2, 2, 2]."),
    ),
    ("experts: 8", "experts: 7", (15, "parallel.ep", "divide experts = 7", "Use placement.replicas: 1")),
    ("top_k: 2", "top_k: 9", (12, "model.top_k", "be at most model.experts = 8", "Lower top_k.")),
    (
        "heads: 16",
        "heads: 12",
        (7, "model.hidden", "be a multiple of model.heads = 12", "Give model.head_dim, or change hidden or heads."),
    ),
    (
        "sequences: 64",
        "sequences: 63",
        (
            20,
            "workload.sequences",
            "be a multiple of DP x microbatches = 8 x 2 = 16",
            "Use workload.sequences: 48.",
        ),
    ),
    (
        "microbatches: 2",
        "microbatches: 3",
        (
            20,
            "workload.sequences",
            "be a multiple of DP x microbatches = 8 x 3 = 24",
            "Use workload.microbatches: 2, workload.sequences: 48.",
        ),
    ),
    # ---- claims
    (
        '">= 1.0e6 tokens/s"',
        '">= 1.0e6"',
        (31, "claims.0.expect", "be in tokens/s, as tokens_per_s is", "Write the value with such a unit."),
    ),
    (
        '">= 1.0e6 tokens/s"',
        '">= 1.0e6 ms"',
        (31, "claims.0.expect", "be in tokens/s, as tokens_per_s is", "Write the value with such a unit."),
    ),
    (
        '">= 1.0e6 tokens/s"',
        '"about 1.0e6 tokens/s"',
        (
            31,
            "claims.0.expect",
            "be a comparison with a value",
            'Write a comparison, such as ">= 26e6 tokens/s", "<= 50 ms',
        ),
    ),
    (
        '">= 1.0e6 tokens/s"',
        '"== true"',
        (31, "claims.0.expect", "be in tokens/s, as tokens_per_s is", "Write the value with such a unit."),
    ),
    (
        '">= 1.0e6 tokens/s"',
        "5",
        (
            31,
            "claims.0.expect",
            "be a comparison with a value",
            'Write a comparison, such as ">= 26e6 tokens/s", "<= 50 ms',
        ),
    ),
    (
        "id: optimal",
        "id: throughput",
        (32, "claims.1.id", "be unique", "claims.0 has that id already; choose another."),
    ),
    (
        "    superlative: least\n",
        "",
        (32, "claims.1.expect", "be given, or superlative", 'Write for example expect: ">= 26e6 tokens/s", or'),
    ),
    (
        "    superlative: least\n",
        "    superlative: least\n    supports: fame\n",
        (37, "claims.1.supports", "be the id of a claim", "Write an id that stands in this list of claims."),
    ),
    # ---- variants
    (
        "{model.top_k: 1}",
        "{model.topk: 1}",
        (38, "alternatives.0 (model.topk)", "be a known key", "Did you mean `top_k`?"),
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 1, model: {top_k: 2}}",
        (
            38,
            "alternatives.0.model.top_k",
            "not lie inside another key, model",
            "Remove one: model sets all that is in it.",
        ),
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 1, model.top_k: 2}",
        (38, "alternatives.0.model.top_k", "be given once", "It stands on line 38 already; remove one of the two."),
    ),
    (
        "{model.top_k: 1}",
        "{model.top_k: 9}",
        (38, "alternatives.0 (model.top_k)", "be at most model.experts = 8", "Lower top_k."),
    ),
    (
        "{model.top_k: 1}",
        "{claims: []}",
        (
            38,
            "alternatives.0.claims",
            "be a key that can be altered",
            "Start the key with one of cluster, model, parallel,",
        ),
    ),
    (
        "{model.top_k: 1}",
        "{parallel.strategy: EP8_TP1, parallel.tp: 2}",
        (38, "alternatives.0 (parallel.tp)", "agree with TP1 in parallel.strategy EP8_TP1", "Drop one of the two."),
    ),
    (
        "{model.top_k: 1}",
        "{cluster.preset: dgx-h10}",
        (
            38,
            "alternatives.0 (cluster.preset)",
            "name a known cluster",
            "Did you mean `dgx-h100`?",
        ),
    ),
    (
        "{model.top_k: 1}",
        "{cluster.device.preset: h100}",
        (
            38,
            "alternatives.0 (cluster.device.preset)",
            "be a known preset",
            "Did you mean `h100-sxm`?",
        ),
    ),
    (
        "{model.top_k: 1}",
        "{seed.x: 1}",
        (38, "alternatives.0 (seed.x)", "be a key; seed has no keys", "Set seed itself."),
    ),
    (
        "{model.top_k: 1}",
        "{}",
        (38, "alternatives.0", "be a map of dotted keys to values", "Write for example {model.top_k: 1}."),
    ),
    (
        "EP1_TP8_PP1_DP1",
        "EP1_TP8_PP3_DP1",
        (
            39,
            "rivals.0 (parallel.strategy)",
            "be legal under the megatron convention on 8 GPUs (TP x CP x",
            "Nearest legal: EP1_TP8_PP1, EP1_TP4_PP2, EP1_TP2_PP4,",
        ),
    ),
    (
        "EP1_TP8_PP1_DP1",
        "EP1_TP8_PP1_DQ1",
        (
            39,
            "rivals.0 (parallel.strategy)",
            "be made of known parts, not 'DQ1'",
            "Join axes and sizes with _, as in EP64_TP16_PP4",
        ),
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{model.top_k: 1}",
        (
            39,
            "rivals.0.model.top_k",
            "be a key of parallel, schedule, network, placement, runtime, or",
            "A rival is another strategy on the same cluster and work:",
        ),
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{parallel.tp: x}",
        (39, "rivals.0 (parallel.tp)", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    (
        "EP1_TP8_PP1_DP1",
        "{parallel: {tp: 8}, parallel.tp: 8}",
        (
            39,
            "rivals.0.parallel.tp",
            "not lie inside another key, parallel",
            "Remove one: parallel sets all that is in it.",
        ),
    ),
    # ---- yaml
    ("seed: 1", "seed: &a 1", (25, "seed", "have no anchors", "Remove it and write the value out.")),
    ("seed: 1", "seed: *a", (25, "seed", "have no aliases", "Write the value out.")),
    ("seed: 1", "seed: !!int 1", (25, "seed", "have no tags", "Remove it; the type follows from the value.")),
    (
        "seed: 1",
        "seed: !!python/object/apply:os.system ['touch pwned']",
        (25, "seed", "have no tags", "Remove it; the type follows from the value."),
    ),
    (
        "seed: 1",
        "seed: !include ../../etc/passwd",
        (25, "seed", "have no tags", "Remove it; the type follows from the value."),
    ),
    (
        "seed: 1",
        "---\nseed: 1",
        (25, "the file", "be one YAML document", "Keep one scenario per file; remove the line `---`."),
    ),
    ("seed: 1", "\tseed: 1", (25, "the file", "be valid YAML", "Write spaces instead of the tab.")),
    (
        "seed: 1",
        "seed: 1\n  seeds: 3",
        (26, "the file", "be valid YAML", "Check indentation, brackets, colons and quotes on this line"),
    ),
    (
        "seed: 1",
        "seed: [1",
        (26, "the file", "be valid YAML", "Check indentation, brackets, colons and quotes on this line"),
    ),
    (
        "seed: 1",
        "seed: '1",
        (40, "the file", "be valid YAML", "Check indentation, brackets, colons and quotes on this line"),
    ),
    ("seed: 1", "? [a]\n: 1", (25, "the file", "have texts as keys", "Write `key: value`.")),
    (
        "seed: 1",
        "seed 1",
        (26, "the file", "be valid YAML", "Check indentation, brackets, colons and quotes on this line"),
    ),
    (
        "seed: 1",
        "seed: {a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: {l: {m: {n: {o: {p: {q: {r: {s: {t: 1}}}}}}}}}}}}}}}}}}}}",
        (
            25,
            "seed.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s",
            "be nested at most 20 deep",
            "A scenario needs four levels; check brackets and",
        ),
    ),
    # ---- files
    (
        "  num_nodes: 1",
        "  file: ../secret.yaml\n  num_nodes: 1",
        (4, "cluster.file", "be left out with cluster.preset", "Keep one of them."),
    ),
    (
        "  preset: dgx-h100",
        "  file: ../secret.yaml\n  device: h100-sxm",
        (3, "cluster.file", "be in the scenario's folder", "Copy it into the scenario's folder and write its name."),
    ),
    (
        "  layers: 8",
        "  hf_config: /etc/passwd\n  layers: 8",
        (6, "model.hf_config", "be in the scenario's folder", "Copy it into the scenario's folder and write its name."),
    ),
    (
        "recompute: none",
        "file: ../order.csv",
        (
            23,
            "schedule.file",
            "be left out with schedule.kind 1f1b",
            "The key belongs to schedule.kind custom; remove it.",
        ),
    ),
    (
        "kind: balanced",
        "kind: balanced, file: /etc/passwd",
        (
            24,
            "routing.file",
            "be left out with routing.kind balanced",
            "The key belongs to routing.kind trace; remove it.",
        ),
    ),
    (
        "kind: balanced",
        "kind: trace, file: /etc/passwd",
        (24, "routing.file", "be in the scenario's folder", "Copy it into the scenario's folder and write its name."),
    ),
]
"""One wrong thing each."""

FILES: Final[Mapping[str, tuple[bytes, Refused]]] = {
    # name: content, how it is refused
    "empty": (b"", (None, "the file", "hold a scenario", "`moesim init FILE` writes one to start from.")),
    "remarks": (b"# nothing\n", (None, "the file", "hold a scenario", "`moesim init FILE` writes one to start from.")),
    "zeros": (
        b"\0" * 2000,
        (None, "the file", "be UTF-8 text", "Save it as UTF-8, if it is a text in another encoding such"),
    ),
    "binary": (
        b"\x7fELF\x02\x01\x01" + bytes(range(256)),
        (None, "the file", "be UTF-8 text", "Save it as UTF-8, if it is a text in another encoding such"),
    ),
    "picture": (b"\x89PNG\r\n\x1a\n", (1, "the file", "be UTF-8 text", "Save it as UTF-8.")),
    "utf16": (
        GOOD.encode("utf-16"),
        (None, "the file", "be UTF-8 text", "Save it as UTF-8, if it is a text in another encoding such"),
    ),
    "utf32": (
        GOOD.encode("utf-32"),
        (None, "the file", "be UTF-8 text", "Save it as UTF-8, if it is a text in another encoding such"),
    ),
    "latin1": (b"name: caf\xe9\n", (1, "the file", "be UTF-8 text", "Save it as UTF-8.")),
    "enormous": (b"#" * 40_000_000, (None, "the file", "be at most 256 KiB large", "Split it into several scenarios.")),
    "deep": (
        b"a: " + b"[" * 100_000,
        (
            1,
            "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
            "be nested at most 20 deep",
            "A scenario needs four levels; check brackets and",
        ),
    ),
    "indented": (
        b"".join(b" " * i + b"a:\n" for i in range(100)),
        (
            21,
            "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
            "be nested at most 20 deep",
            "A scenario needs four levels; check brackets and",
        ),
    ),
    "laughs": (
        b"a: &a [ha, ha]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        (1, "a", "have no anchors", "Remove it and write the value out."),
    ),
    "cycle": (b"a: &a\n  b: *a\n", (1, "a", "have no anchors", "Remove it and write the value out.")),
    "values": (
        b"claims: [" + b"a, " * 10_000 + b"]",
        (1, "the file", "hold at most 10000 values", "Split it into several scenarios."),
    ),
    "keys": (
        b"".join(b"k%d: 1\n" % i for i in range(9000)),
        (1, "k0", "be a known key", "Known are name, cluster, model, parallel, workload,"),
    ),
    "list": (
        b"- a\n- b\n",
        (
            1,
            "the file",
            "be a mapping of keys at the top level",
            "Write keys with values, such as `model:` and `cluster:`.",
        ),
    ),
    "scalar": (
        b"hello\n",
        (
            1,
            "the file",
            "be a mapping of keys at the top level",
            "Write keys with values, such as `model:` and `cluster:`.",
        ),
    ),
    "directive": (b"%YAML 1.1\n---\nseed: 1\n", (2, "the file", "have no directives", "Remove that line.")),
    "windows": (
        GOOD.replace("layers: 8", "layers: x").replace("\n", "\r\n").encode(),
        (6, "model.layers", "be an integer of at least 1", "Write a number without unit, such as 1."),
    ),
    "many": (
        GOOD.replace("  - {model.top_k: 1}\n", "  - {model.top_k: 1}\n" * 1001).encode(),
        (37, "alternatives", "have at most 1000 items", "Split the scenario into several."),
    ),
    "digits": (
        b"seed: " + b"9" * 200_000,
        (1, "seed", "be a finite number", "Write a number of at most 40 digits that is below 1e308."),
    ),
    "anchor": (b"a: &" + b"x" * 200_000, (1, "a", "have no anchors", "Remove it and write the value out.")),
    "text": (b"name: " + b"x" * 200_000, (1, "name", "be at most 2000 characters long", "Shorten it.")),
    "python": (
        b"!!python/object/apply:os.system ['touch pwned']\n",
        (1, "the file", "have no tags", "Remove it; the type follows from the value."),
    ),
    "quote": (
        b'name: "' + b"x\n" * 9000,
        (9001, "the file", "be valid YAML", "Check indentation, brackets, colons and quotes on this line"),
    ),
}
"""Files that are no scenario, or none that is read."""

ARGUMENTS: Final[list[tuple[list[str], Refused]]] = [
    # arguments after `run`, how they are refused; good.yaml is `GOOD`
    (["nope.yaml"], ("nope.yaml", "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}")),
    (
        ["ep64_tp16_pp5"],
        ("ep64_tp16_pp5", "the scenario", "be a file or a bundled scenario", "Did you mean `ep64_tp16_pp4`?"),
    ),
    (["."], (".", "the file", "be a file", "Name a file in it.")),
    ([""], (None, "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}")),
    (["/dev/null"], ("/dev/null", "the file", "hold a scenario", "`moesim init FILE` writes one to start from.")),
    (["good.yaml/x"], ("good.yaml/x", "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}")),
    (["../no/such.yaml"], ("../no/such.yaml", "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}")),
    (
        ["https://example.org/a.yaml"],
        ("https://example.org/a.yaml", "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}"),
    ),
    (["a\nb"], ("a\nb", "the scenario", "be a file or a bundled scenario", f"Known are {KNOWN}")),
    (
        ["good.yaml", "--seed", "9" * 400],
        (None, "--seed", "be an integer of at least 0 and at most 1,000,000,000,000", "For example: --seed 1"),
    ),
    (
        ["good.yaml", "--set", "model.top_k=1", "--set", "model.top_k=2"],
        (None, "model.top_k", "be set once", "Remove --set model.top_k=1 or --set model.top_k=2."),
    ),
    (
        ["good.yaml", "--set", "seed=1", "--seed", "2"],
        (None, "seed", "be set once", "Remove --set seed=1 or --seed 2."),
    ),
    (
        ["good.yaml", "--set", f"{'k' * 3000}=1"],
        (
            f"--set {'k' * 60}...",
            f"{'k' * 60}...",
            "be a known key",
            "Known are name, cluster, model, parallel, workload,",
        ),
    ),
    (
        ["good.yaml", "--set", f"cluster.preset={'k' * 1000}"],
        (
            f"--set cluster.preset={'k' * 45}...",
            "cluster.preset",
            "name a known cluster",
            "Known are dgx-a100, dgx-h100, dgx-h200, h800, dgx-b200,",
        ),
    ),
    (
        ["good.yaml", "--set", "model.vocab=1,000,000"],
        ("--set model.vocab=1,000,000", "model.vocab", "be an integer of at least 1", "Write 1000000."),
    ),
    *[
        (
            [name],
            (name, "the scenario", "be a file or a bundled scenario", "Did you mean `good.yaml`, in the same folder?"),
        )
        for name in ("good", "good.yml", "Good.YAML", "./god.yaml")
    ],
    (
        ["good.yaml", "--seed", "-1"],
        (None, "--seed", "be an integer of at least 0 and at most 1,000,000,000,000", "For example: --seed 1"),
    ),
    (
        ["good.yaml", "--set", "model.topk=1"],
        ("--set model.topk=1", "model.topk", "be a known key", "Did you mean `top_k`?"),
    ),
    (["good.yaml", "--set", "modl.top_k=1"], ("--set modl.top_k=1", "modl", "be a known key", "Did you mean `model`?")),
    (
        ["good.yaml", "--set", "model.top_k"],
        (None, "--set", "be KEY=VALUE with a dotted key", "Write for example --set model.top_k=1."),
    ),
    (
        ["good.yaml", "--set", "=1"],
        (None, "--set", "be KEY=VALUE with a dotted key", "Write for example --set model.top_k=1."),
    ),
    (
        ["good.yaml", "--set", ""],
        (None, "--set", "be KEY=VALUE with a dotted key", "Write for example --set model.top_k=1."),
    ),
    (
        ["good.yaml", "--set", "model.top_k="],
        ("--set model.top_k=", "model.top_k", "be given", "Add `top_k` under `model`, or name a model.preset. Number"),
    ),
    (
        ["good.yaml", "--set", "model.top_k=one"],
        (
            "--set model.top_k=one",
            "model.top_k",
            "be an integer of at least 1",
            "Write a number without unit, such as 1.",
        ),
    ),
    (
        ["good.yaml", "--set", "model.top_k=[1"],
        (
            "--set model.top_k=[1",
            "model.top_k",
            "be valid YAML",
            "Check its brackets, and put texts with special characters",
        ),
    ),
    (
        ["good.yaml", "--set", "claims.9.metric=mfu"],
        ("--set claims.9.metric=mfu", "claims.9", "be a position in claims", "It has positions 0 to 1."),
    ),
    (
        ["good.yaml", "--set", "claims.metric=mfu"],
        ("--set claims.metric=mfu", "claims.metric", "be a position in claims", "It has positions 0 to 1."),
    ),
    (
        ["good.yaml", "--set", "model.top_k.x=1"],
        ("--set model.top_k.x=1", "model.top_k.x", "be a key; model.top_k has no keys", "Set model.top_k itself."),
    ),
    (
        ["good.yaml", "--set", "claims.0.metric=speed"],
        ("--set claims.0.metric=speed", "claims.0.metric", "name a known metric", "`moesim list metrics` shows all."),
    ),
    (
        ["good.yaml", "--set", "model=3"],
        ("--set model=3", "model", "be a mapping of keys", "Write `key: value` lines under it."),
    ),
    (
        ["good.yaml", "--set", "model={}"],
        ("--set model={}", "model.layers", "be given", "What is given for model replaces all of it: write --set"),
    ),
    (
        ["good.yaml", "--set", "cluster={num_nodes: 2}"],
        (
            "--set cluster={num_nodes: 2}",
            "cluster.preset",
            "be given",
            "What is given for cluster replaces all of it: write --set",
        ),
    ),
    (
        ["good.yaml", "--set", "cluster.device.memory=64"],
        (
            "--set cluster.device.memory=64",
            "cluster.device.memory",
            "have a unit",
            'Write a number and a unit, such as "64 GB".',
        ),
    ),
    (
        ["good.yaml", "--set", "model.top_k=!!python/name:os.system"],
        (
            "--set model.top_k=!!python/name:os.system",
            "model.top_k",
            "have no tags",
            "Remove it; the type follows from the value.",
        ),
    ),
    (
        ["good.yaml", "--set", "model.top_k=*a"],
        ("--set model.top_k=*a", "model.top_k", "have no aliases", "Write the value out."),
    ),
    (
        ["good.yaml", "--set", "alternatives.0.model.topk=1"],
        ("--set alternatives.0.model.topk=1", "alternatives.0 (model.topk)", "be a known key", "Did you mean `top_k`?"),
    ),
    (
        ["good.yaml", "--set", "cluster.file=/etc/passwd"],
        ("--set cluster.file=/etc/passwd", "cluster.file", "be left out with cluster.preset", "Keep one of them."),
    ),
    (
        ["good.yaml", "--set", "parallel.strategy=EP8_TP2_PP1_DP8"],
        (
            "--set parallel.strategy=EP8_TP2_PP1_DP8",
            "parallel.strategy",
            "be legal under the megatron convention on 8 GPUs (TP x CP x",
            "DP8 is what is wrong: write DP4, or leave DP out. Nearest legal: EP8_TP2_PP1_DP4, EP4_TP2_PP1,",
        ),
    ),
    (
        ["good.yaml", "--set", "model.top_k=9"],
        ("--set model.top_k=9", "model.top_k", "be at most model.experts = 8", "Lower top_k."),
    ),
    (
        ["good.yaml", "--set", "__class__=1"],
        ("--set __class__=1", "__class__", "be a known key", "Did you mean `claims`?"),
    ),
    (
        ["good.yaml", "--set", "claims=" + "[" * 3000],
        (
            "--set claims=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[...",
            "claims.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
            "be nested at most 20 deep",
            "A scenario needs four levels; check brackets and",
        ),
    ),
]
"""Paths, names and changes."""
