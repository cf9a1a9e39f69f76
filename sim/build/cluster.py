"""`cluster:` of a scenario becomes a cluster: a preset or a file, what differs, how it is wired, what is degraded."""

from dataclasses import replace
from functools import lru_cache

from sim.errors import InvalidValueError
from sim.scenario.cluster_section import ClusterSpec
from sim.scenario.scenario import Scenario
from topology.cluster import Cluster, build_cluster
from topology.degraded import Change
from topology.device import Device
from topology.fabric import FabricSpec
from topology.fabrics import build_wiring
from topology.presets.clusters import get_cluster_preset
from topology.presets.devices import get_device

__all__ = ["cluster_of"]

_MOST_PLAIN_NICS = 10
"""NICs of a node up to which a number such as 0.1 can be no other NIC's name."""


def cluster_of(scenario: Scenario) -> Cluster:
    """Return the cluster of a scenario, the same for equal ones.

    Raises
    ------
    InvalidValueError
        Where there is no section, or it names what does not exist or cannot be.
    """
    spec = scenario.spec.cluster
    if spec is None:
        raise InvalidValueError("cluster", rule="be given", value="nothing", hint="Add a section `cluster:`.")
    changes = tuple(
        Change(
            part=entry.part,
            name=str(getattr(entry, entry.part)),
            factor=None if entry.gone else entry.speed if entry.part == "gpu" else entry.bandwidth,
        )
        for entry in spec.degraded
    )
    if spec.preset is None:
        from sim.build.described_cluster import build_described_cluster  # noqa: PLC0415  # most runs read no such file

        return build_described_cluster(scenario, spec, _device(scenario, ""), changes)
    preset = get_cluster_preset(spec.preset)
    fabric = _wired(spec, _with_bandwidths(spec, _with_gpus_used(spec, preset.fabric)))
    _check_nic_names(scenario, fabric)
    return _preset_cluster(fabric, spec.num_nodes or 1, _device(scenario, preset.device), changes)


# ---- private -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _preset_cluster(fabric: FabricSpec, num_nodes: int, device: Device, changes: tuple[Change, ...]) -> Cluster:
    """Return a cluster, the same for equal ones: a cluster never changes, and alternatives share most of theirs."""
    return build_cluster(fabric, num_nodes, device, changes)


def _with_gpus_used(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    """Return a fabric whose nodes have the GPUs in use alone."""
    used = spec.gpus_per_node_used
    if used is None:
        return fabric
    if used > fabric.gpus_per_node:
        raise InvalidValueError(
            "cluster.gpus_per_node_used",
            rule=f"be from 1 to {fabric.gpus_per_node}, the GPUs of a node of {fabric.name}",
            value=used,
            hint=f"Write {fabric.gpus_per_node}, or leave the key out.",
        )
    return replace(fabric, gpus_per_node=used)


def _with_bandwidths(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    if spec.nic_bandwidth is not None:
        fabric = replace(fabric, nic=replace(fabric.nic, bandwidth_bytes_per_s=spec.nic_bandwidth))
        if spec.nic_bandwidth > fabric.pcie.bandwidth_bytes_per_s:
            fabric = replace(fabric, pcie=replace(fabric.pcie, bandwidth_bytes_per_s=spec.nic_bandwidth))
    if spec.nvlink_bandwidth is not None:
        one_link = spec.nvlink_bandwidth / fabric.node.num_links(fabric)
        fabric = replace(fabric, nvlink=replace(fabric.nvlink, bandwidth_bytes_per_s=one_link))
    return fabric


def _wired(spec: ClusterSpec, fabric: FabricSpec) -> FabricSpec:
    if spec.fabric is None:
        return fabric
    return replace(fabric, wiring=build_wiring(spec.fabric.kind, spec.fabric.options))


def _check_nic_names(scenario: Scenario, fabric: FabricSpec) -> None:
    """Refuse numbers as names of NICs where 0.1 may be 0.10."""
    if fabric.nics_per_node <= _MOST_PLAIN_NICS:
        return
    entries = scenario.raw.get("cluster", {}).get("degraded") or []
    for i, entry in enumerate(entries):
        if isinstance(entry.get("nic"), float):
            raise InvalidValueError(
                ("cluster", "degraded", i, "nic"),
                rule=f"be in quotes on a node of {fabric.nics_per_node} NICs, for 0.1 and 0.10 are one number",
                value=entry["nic"],
                hint=f'Write "{entry["nic"]}".',
            )


def _device(scenario: Scenario, default: str) -> Device:
    given = scenario.spec.cluster.device if scenario.spec.cluster else None
    if given is None:
        return get_device(default)
    device = get_device(given.preset or default)
    changes: dict[str, float | int | str] = {}
    for key, name in (
        ("memory_bandwidth", "memory_bandwidth_bytes_per_s"),
        ("host_bandwidth", "host_bytes_per_s"),
        ("peak_bf16", "peak_bf16_flops_per_s"),
        ("kernel_overhead", "kernel_overhead_s"),
        ("gemm_efficiency", "gemm_efficiency"),
        ("memory_efficiency", "memory_efficiency"),
        ("attention_efficiency", "attention_efficiency"),
    ):
        value = getattr(given, key)
        if value is not None:
            changes[name] = value
    if given.memory is not None:
        changes |= {"memory_bytes": round(given.memory), "memory_source": "cluster.device.memory"}
    return replace(device, **changes) if changes else device  # type: ignore[arg-type]  # fields and types as listed
