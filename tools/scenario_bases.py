"""Scenarios whose parts go together, drawn at random: what `scenario_draws` sets single keys on.

A base has a strategy, a cluster and a shape that fit, and features, each a group of keys that need one another (MLA, a
hybrid model, replicas, a degraded link), so that most bases run.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final

from scenario_keys import ENTRIES, SCHEMA, Data, value_of_key

from topology.fabrics import WIRINGS
from topology.presets.clusters import CLUSTERS
from topology.presets.devices import DEVICES
from workloads.placement import PLACEMENTS
from workloads.routing import ROUTINGS
from workloads.schedules import schedule_names

__all__ = ["BASES", "FEATURE_CHANCE"]

FEATURE_CHANCE: Final = 0.2
"""How often a base has a feature."""
_FIELDS_OF_LAYERS: Final[Mapping[str, Mapping[str, int]]] = {
    "sliding_attention": {"sliding_window": 8},
    "chunked_attention": {"attention_chunk_size": 8},
    "linear_attention": {
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
    },
    "mamba": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 16,
        "n_groups": 4,
        "conv_kernel": 4,
        "chunk_size": 8,
    },
}
"""Kind of layer -> fields that it needs."""


def _maybe(draw: random.Random, chance: float = FEATURE_CHANCE) -> bool:
    return draw.random() < chance


def _base_of_passes(draw: random.Random, files: dict[str, str]) -> Data:
    stages = draw.choice([1, 2, 3, 4, 6])
    times = [{"F": f"{draw.choice([0, 1, 2.5])} ms", "B": "2 ms", "W": draw.choice(["0 s", "1 ms"])}] * stages
    workload: Data = {"kind": "passes", "microbatches": draw.choice([1, 2, 4, 8, 12])}
    workload["pass_times"] = times if _maybe(draw) else times[0]
    if _maybe(draw, 0.5):
        workload["p2p"] = draw.choice(["0 s", "1 us", "0.5 ms"])
    data: Data = {"parallel": {"pp": stages}, "workload": workload}
    _add_schedule(draw, data, files, stages)
    return data


def _base_of_collective(draw: random.Random, _: dict[str, str]) -> Data:
    data: Data = {"cluster": _cluster(draw, 4)}
    operations = SCHEMA["$defs"]["CollectiveWorkload"]["properties"]["op"]["enum"]
    op, ranks = draw.choice(operations), draw.choice([2, 3, 4, 8, 16])
    data["workload"] = {"kind": "collective", "op": op, "num_ranks": ranks}
    if op in {"dispatch", "combine"} or (op == "all_to_all" and _maybe(draw)):
        data["workload"]["tokens"] = draw.choice([1, 7, 128])
        data["model"] = {"hidden": 64, "top_k": draw.choice([1, 2, 4]), "experts": draw.choice([2, 8, 16])}
        _add_routing(draw, data, {}, experts=data["model"]["experts"])
    else:
        data["workload"]["bytes"] = draw.choice(["1 B", "7 B", "64 kB", "8 MiB", "1 GB"])
    if _maybe(draw):
        data["network"] = {"fidelity": "flow"}
    return data


def _base_of_serving(draw: random.Random, _: dict[str, str]) -> Data:
    experts = draw.choice([0, 0, 4, 8])
    model: Data = {"layers": draw.choice([2, 4]), "hidden": 128, "heads": 4, "ffn": 64, "vocab": 512}
    if experts:
        model |= {"experts": experts, "top_k": draw.choice([1, 2])}
    tp, dp, pp = draw.choice([1, 1, 2]), draw.choice([1, 1, 2]), draw.choice([1, 1, 2])
    parallel: Data = {"tp": tp, "dp": dp, "pp": pp, "convention": "vllm"}
    if experts:
        parallel |= {"ep": tp * dp} if _maybe(draw, 0.7) else {"ep": 1, "etp": tp * dp}
    requests: Data = {"count": draw.choice([1, 5, 20]), "input": _lengths(draw, 64), "output": _lengths(draw, 8)}
    kind = draw.choice(["at_once", "poisson", "gamma", "uniform", "bursts", "concurrency"])
    requests |= {"concurrency": draw.choice([1, 3, 8])} if kind == "concurrency" else {"arrival": kind}
    if kind not in {"at_once", "concurrency"}:
        requests["rate"] = draw.choice(["1/s", "1000/s", "100000/s"])
    if _maybe(draw):
        requests |= {"shared_prefix": draw.choice([1, 16, 40]), "warmup": draw.choice([0, 1, 3])}
    workload: Data = {"kind": "serving", "requests": requests, "server": {"policy": draw.choice(["vllm", "sglang"])}}
    if _maybe(draw):
        workload["server"] |= {"max_num_seqs": draw.choice([1, 2, 8]), "kv_blocks": draw.choice([8, 64, 2000])}
    if _maybe(draw):
        workload["slo"] = {draw.choice(["ttft", "tpot", "latency"]): draw.choice(["1 ms", "1 s"])}
    cluster = {"preset": draw.choice([*CLUSTERS]), "num_nodes": 1, "gpus_per_node_used": tp * dp * pp}
    return {"cluster": cluster, "model": model, "parallel": parallel, "workload": workload}


def _lengths(draw: random.Random, tokens: int) -> Data:
    """Return tokens of prompts or answers, by any of the laws."""
    return draw.choice(
        [
            {"tokens": tokens},
            {"kind": "uniform", "most": tokens},
            {"kind": "lognormal", "mean": tokens, "most": 4 * tokens},
        ]
    )


def _cluster(draw: random.Random, most_nodes: int) -> Data:
    cluster: Data = {"preset": draw.choice([*CLUSTERS]), "num_nodes": draw.randint(1, most_nodes)}
    if _maybe(draw):
        cluster["device"] = draw.choice([*DEVICES])
    if _maybe(draw):
        cluster["fabric"] = _fabric(draw, cluster["num_nodes"])
    if _maybe(draw):
        cluster["degraded"] = [_degraded(draw) for _ in range(draw.choice([1, 1, 2]))]
    return cluster


def _fabric(draw: random.Random, num_nodes: int) -> Data | str:
    kind = draw.choice([*WIRINGS])
    if kind not in {"torus", "dragonfly"} and _maybe(draw, 0.3):
        return kind
    fabric: Data = {"kind": kind}
    if kind == "torus":
        fabric["shape"] = draw.choice([[1, num_nodes], [2, max(1, num_nodes // 2)], [1, 1, num_nodes]])
    if kind == "dragonfly":
        fabric |= {"nodes_per_switch": 1, "switches_per_group": draw.choice([1, 2])}
    if kind in {"rail_optimised", "fat_tree"} and _maybe(draw, 0.5):
        fabric["oversubscription"] = draw.choice([1, 2, 4])
    return fabric


def _degraded(draw: random.Random) -> Data:
    part = draw.choice([{"gpu": draw.randint(0, 9)}, {"nic": f"{draw.randint(0, 1)}.{draw.randint(0, 7)}"}])
    matter: Data = {"bandwidth": draw.choice([0.01, 0.5, "80 %"])} if _maybe(draw, 0.5) else {"gone": True}
    return {**part, **({"speed": draw.choice([0.01, 0.5, 1])} if "gpu" in part else matter)}


def _base_of_model(draw: random.Random, files: dict[str, str], *, trains: bool) -> Data:
    heads, layers = draw.choice([2, 4, 8]), draw.choice([1, 2, 3, 4, 6, 8])
    experts = draw.choice([0, 2, 4, 8, 8, 16, 16])
    model: Data = {
        "layers": layers,
        "hidden": heads * draw.choice([8, 16, 32]),
        "heads": heads,
        "ffn": draw.choice([16, 64, 96]),
        "vocab": draw.choice([100, 512]),
    }
    if experts:
        model |= {"experts": experts, "top_k": draw.choice([k for k in (1, 2, 4, 8) if k <= experts])}
        if _maybe(draw):
            model["shared_experts"] = draw.choice([1, 2])
        if _maybe(draw):
            model["dense_layers"] = draw.randint(0, layers)
        if _maybe(draw):
            model["moe_every"] = draw.choice([2, 3])
    _add_kinds_of_layers(draw, model)
    parallel = _parallel(draw, experts, layers, trains=trains)
    cluster = _cluster_of(draw, parallel)
    microbatches = draw.choice([1, 2, 3, 4, 8])
    workload: Data = {"kind": "training" if trains else "forward", "microbatches": microbatches}
    workload["sequences"] = microbatches * parallel.get("dp", 1) * draw.choice([1, 1, 2, 3])
    workload["sequence_length"] = draw.choice([8, 16, 48, 128])
    if not trains and _maybe(draw, 0.5):
        workload["batches"] = draw.choice([2, 3])
    data: Data = {"cluster": cluster, "model": model, "parallel": parallel, "workload": workload}
    _add_schedule(draw, data, files, parallel.get("pp", 1))
    if experts:
        _add_routing(draw, data, files, experts=experts)
        _add_placement(draw, data, experts, parallel.get("ep", 1))
    if trains and _maybe(draw):
        parallel["zero"] = draw.choice([1, 2, 3])
    if _maybe(draw):
        names = SCHEMA["$defs"]["NetworkSpec"]["properties"]
        data["network"] = {
            key: draw.choice(names[key]["enum"])
            for key in ("fidelity", "all_reduce", "all_to_all")
            if _maybe(draw, 0.6)
        }
    if _maybe(draw, 0.1):
        data["claims"] = [
            {"id": "best", "says": "best", "source": "page 1", "metric": "step_time_s", "superlative": "least"}
        ]
        data["rivals"] = [draw.choice(["TP2_PP2", "EP2_TP1_PP1_DP2", "EP8_TP1_PP1_DP8", "TP8"])]
        data["alternatives"] = [{"model.top_k": 1}, {"routing.kind": "balanced"}][: draw.randint(0, 2)]
    return data


def _cluster_of(draw: random.Random, parallel: Data) -> Data:
    """Return a cluster with as many GPUs as the axes of a mesh have ranks, but for a few."""
    world = parallel["tp"] * parallel["dp"] * parallel["pp"] * parallel.get("cp", 1)
    nodes = draw.choice([n for n in (1, 2, 3, 4, 6, 8, 16) if world % n == 0 and world // n <= 8] or [1])
    cluster = _cluster(draw, 4)
    if _maybe(draw, 0.95):
        cluster |= {"num_nodes": nodes, "gpus_per_node_used": world // nodes}
        if "fabric" in cluster:
            cluster["fabric"] = _fabric(draw, nodes)
    return cluster


def _parallel(draw: random.Random, experts: int, layers: int, *, trains: bool) -> Data:
    """Return axes of a mesh, mostly those that go together."""
    conventions = ["megatron", "megatron", *["vllm"] * (not trains), *["spanning"] * (experts > 0)]
    convention = draw.choice(conventions if _maybe(draw, 0.97) else ["vllm", "spanning"])
    tp, cp, dp = draw.choice([1, 1, 2, 4]), draw.choice([1] * 8 + [2, 2, 4]), draw.choice([1, 1, 2, 4])
    pp = draw.choice([n for n in (1, 1, 2, 2, 3, 4) if layers % n == 0 or _maybe(draw, 0.05)])
    if convention == "spanning":
        tp, dp = draw.choice([n for n in (1, 2, 4) if experts % (n * pp) == 0] or [1]), 1
    parallel: Data = {"tp": tp, "pp": pp, "dp": dp, "convention": convention}
    if cp > 1:
        parallel["cp"] = cp
        if _maybe(draw, 0.7):
            parallel["cp_kind"] = draw.choice(["ring", "all_gather", "all_to_all", "hierarchical"])
            if _maybe(draw, 0.3):
                parallel["cp_sizes"] = draw.choice([[1, cp], [cp, 1], [2, cp // 2]])
    if experts:
        full = {"megatron": tp * cp * dp, "vllm": tp * dp, "spanning": tp * pp}[convention]
        parallel |= _expert_axes(draw, convention, full, experts)
        if convention == "megatron" and tp > 1:
            parallel["sp"] = True
    if _maybe(draw, 0.1):
        parallel["sp"] = _maybe(draw, 0.7)
    if _maybe(draw):
        order = ["tp", "cp", "ep", "dp"]
        order.insert(draw.randint(0, 4), "pp")
        parallel["rank_order"] = order
    if _maybe(draw, 0.1) and layers >= pp:
        parallel["stage_layers"] = [layers - pp + 1, *[1] * (pp - 1)]
    if _maybe(draw, 0.05) and layers >= pp > 1:
        parallel["layout"] = "|".join(["E" + "t" * (layers - pp + 2 - 1), *["t"] * (pp - 2), "tL"])
    if _maybe(draw, 0.05):
        parallel["exchange"] = "blocking"
    return parallel


def _expert_axes(draw: random.Random, convention: str, ranks: int, experts: int) -> Data:
    """Return EP, and ETP where experts may be in slices, on the ranks that share the experts of a layer."""
    dividing = [n for n in range(1, ranks + 1) if ranks % n == 0 and experts % n == 0]
    whole = [ranks] * {"megatron": 0, "vllm": len(dividing), "spanning": 1}[convention]
    ep = draw.choice(whole if convention == "spanning" else [*dividing, *whole])
    slices = ranks // ep
    if convention == "vllm" and slices > 1:
        return {"ep": ep, "etp": slices}
    if convention == "megatron" and _maybe(draw, 0.4):
        return {"ep": ep, "etp": draw.choice([n for n in range(1, slices + 1) if slices % n == 0])}
    return {"ep": ep}


def _add_kinds_of_layers(draw: random.Random, model: Data) -> None:
    """Add kinds of attention, of layers and of FFNs, each with the fields that it needs."""
    if _maybe(draw):
        model["kv_heads"] = draw.choice([1, 2])
    if _maybe(draw):
        model |= {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
        if _maybe(draw, 0.5):
            model["q_lora_rank"] = 24
    if _maybe(draw, 0.1):
        model["sliding_window"] = draw.choice([1, 8, 1000])
        if _maybe(draw, 0.5):
            model["sliding_window_every"] = draw.choice([1, 2, 6])
    _add_layer_types(draw, model)
    if _maybe(draw, 0.1):
        model["num_nextn_predict_layers"] = draw.choice([1, 2])
    for key in ("gated", "fused_attention", "dropout", "tie_word_embeddings", "attention_sinks", "shared_expert_gate"):
        if _maybe(draw, 0.1) and f"model.{key}" in ENTRIES:
            model[key] = _maybe(draw, 0.6)


def _add_layer_types(draw: random.Random, model: Data) -> None:
    """Add a kind of attention for each layer, or a hybrid model's pattern, with the fields that they need."""
    layers = model["layers"]
    if _maybe(draw, 0.1):
        kinds = SCHEMA["$defs"]["ModelSpec"]["properties"]["layer_types"]["anyOf"][0]["items"]["enum"]
        model["layer_types"] = [draw.choice(kinds) for _ in range(draw.choice([1, 2, layers]))]
        for kind, fields in _FIELDS_OF_LAYERS.items():
            if kind in model["layer_types"]:
                model |= fields
    if _maybe(draw, 0.1):
        for key in ("sliding_window", "sliding_window_every", "dense_layers", "moe_every", "layer_types"):
            model.pop(key, None)
        model["hybrid_override_pattern"] = "*" + "".join(draw.choice("*M-E") for _ in range(layers - 1))
        if "M" in model["hybrid_override_pattern"]:
            model |= _FIELDS_OF_LAYERS["mamba"]


def _add_schedule(draw: random.Random, data: Data, files: dict[str, str], stages: int) -> None:
    if _maybe(draw, 0.4):
        return
    names = [name for name in schedule_names() if stages % 2 == 0 or name not in {"chimera", "dualpipe"}]
    kind = draw.choice(names)
    schedule: Data = {"kind": kind}
    if kind == "custom":
        num = data["workload"]["microbatches"]
        passes = "F" if data["workload"]["kind"] == "forward" else "FB"
        files["order.txt"] = "".join(
            " ".join(f"{letter}{i}" for letter in passes for i in range(num)) + "\n" for _ in range(stages)
        )
        schedule["file"] = "order.txt"
    if kind in {"interleaved", "breadth_first", "vpp"} and _maybe(draw, 0.9):
        layers = data.get("model", {}).get("layers", 6)
        data["parallel"]["vpp"] = draw.choice([n for n in (2, 3, 4) if layers % (n * stages) == 0] or [2])
    if data["workload"]["kind"] == "training" and _maybe(draw, 0.4):
        schedule["recompute"] = draw.choice(["selective", "full"])
        if schedule["recompute"] == "selective" and _maybe(draw, 0.5):
            modules = SCHEMA["$defs"]["ScheduleSpec"]["properties"]["recompute_modules"]["anyOf"][0]["items"]["enum"]
            schedule["recompute_modules"] = draw.sample(modules, draw.randint(1, len(modules)))
    data["schedule"] = schedule


def _add_routing(draw: random.Random, data: Data, files: dict[str, str], *, experts: int) -> None:
    if _maybe(draw):
        return
    kind = draw.choice([*ROUTINGS])
    routing: Data = {"kind": kind}
    for key in ROUTINGS[kind].settings:
        if key not in {"file", "skew"} and _maybe(draw, 0.4):
            routing[key] = value_of_key(draw, f"routing.{key}", ENTRIES[f"routing.{key}"])
    if ROUTINGS[kind].uses("skew") and _maybe(draw, 0.9):
        routing["skew"] = draw.choice([0, 0.1, 0.5, 0.9, 1, 1, 1.5, 3, 20, 400])
    if kind == "trace":
        files["trace.csv"] = _recording(draw, data, experts)
        routing["file"] = "trace.csv"
    if _maybe(draw, 0.3) and data["workload"]["kind"] != "collective":
        routing["capacity_factor"] = draw.choice([0.01, 0.5, 1, 1.25, 2, 100])
        routing["overflow"] = draw.choice(["drop", "pad", "reroute"])
    data["routing"] = routing


def _recording(draw: random.Random, data: Data, experts: int) -> str:
    """Return a recording in which some experts of some layers and microbatches have no tokens."""
    layers = data.get("model", {}).get("layers", 1)
    steps, idle = draw.choice([1, 2, data["workload"].get("microbatches", 1)]), draw.choice([0, 0.2, 0.8])
    rows = [
        f"{step},{layer},{expert},{draw.randint(1, 50)}"
        for step in range(steps)
        for layer in range(layers)
        for expert in range(experts)
        if expert == 0 or draw.random() >= idle
    ]
    return "\n".join(["microbatch,layer,expert,tokens", *rows]) + "\n"


def _add_placement(draw: random.Random, data: Data, experts: int, hosts: int) -> None:
    if _maybe(draw, 0.5):
        return
    kind = draw.choice([*PLACEMENTS])
    placement: Data = {"kind": kind}
    for key in PLACEMENTS[kind].settings:
        if key not in {"experts", "replicas"} and _maybe(draw, 0.3):
            placement[key] = value_of_key(draw, f"placement.{key}", ENTRIES[f"placement.{key}"])
    if PLACEMENTS[kind].uses("replicas") and _maybe(draw, 0.7):
        placement["replicas"] = draw.choice([0, hosts, 2 * hosts, -experts % hosts, experts])
    if PLACEMENTS[kind].uses("experts"):
        slots = -(-experts // hosts)
        ids = [*range(experts), *(draw.randrange(experts) for _ in range(slots * hosts - experts))]
        draw.shuffle(ids)
        placement["experts"] = [ids[rank * slots : (rank + 1) * slots] for rank in range(hosts)]
    data["placement"] = placement


BASES: Final[Mapping[str, Callable[[random.Random, dict[str, str]], Data]]] = {
    "forward": lambda draw, files: _base_of_model(draw, files, trains=False),
    "training": lambda draw, files: _base_of_model(draw, files, trains=True),
    "collective": _base_of_collective,
    "passes": _base_of_passes,
    "serving": _base_of_serving,
}
