"""`cluster:` and `network:` of a scenario: what the hardware is and how finely its network is simulated."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from sim.scenario.fabric_section import DegradedSpec, FabricSection
from sim.scenario.fields import Bandwidth, Bytes, Count, Efficiency, FlopRate, Ident, Seconds, Section

__all__ = ["ClusterSpec", "DeviceSpec", "NetworkSpec"]


class DeviceSpec(Section):
    """The GPU: a preset, and whatever is different from it."""

    preset: Ident | None = None
    """Name of a device, as `moesim list presets` shows them; without it the cluster's own."""
    memory: Bytes | None = None
    """Memory of one GPU [bytes]."""
    memory_bandwidth: Bandwidth | None = None
    """Peak bandwidth of that memory [bytes/s]."""
    peak_bf16: FlopRate | None = None
    """Dense peak of bf16 matrix products [FLOP/s]."""
    kernel_overhead: Seconds | None = None
    """Time every kernel takes beside its work [s]."""
    gemm_efficiency: Efficiency | None = None
    """Share of the peak that large matrix products reach."""
    memory_efficiency: Efficiency | None = None
    """Share of the memory bandwidth that streaming kernels reach."""
    attention_efficiency: Efficiency | None = None
    """Share of the peak that attention kernels reach."""


def _as_device(value: object) -> object:
    """Return a device written as a name alone as a mapping with that preset."""
    return {"preset": value} if isinstance(value, str) else value


def _as_fabric(value: object) -> object:
    """Return a wiring written as a kind alone as a mapping with that kind."""
    return {"kind": value} if isinstance(value, str) else value


class ClusterSpec(Section):
    """The machines: a preset, how many of them, and whatever is different from it."""

    preset: Ident
    """Name of a cluster, as `moesim list presets` shows them."""
    num_nodes: Count
    """How many nodes (hosts of GPUs; of gb200-nvl72: racks)."""
    device: Annotated[DeviceSpec, BeforeValidator(_as_device, json_schema_input_type=str | DeviceSpec)] = DeviceSpec()
    """The GPU: a name, or a mapping with `preset` and the fields that differ."""
    nic_bandwidth: Bandwidth | None = None
    """Bandwidth of the NIC of one GPU in one direction [bytes/s]."""
    nvlink_bandwidth: Bandwidth | None = None
    """Bandwidth of one GPU inside its node in one direction [bytes/s]."""
    file: str | None = None
    """A cluster described in a file of its own."""
    fabric: Annotated[FabricSection | None, BeforeValidator(_as_fabric, json_schema_input_type=str | FabricSection)] = (
        None
    )
    """How the nodes are wired: a kind, or a mapping with `kind` and its keys; without it as the preset is."""
    degraded: tuple[DegradedSpec, ...] = ()
    """Links, NICs and GPUs that are slower than the rest, or gone."""


class NetworkSpec(Section):
    """How transfers are simulated."""

    fidelity: Literal["bulk", "flow"] = "bulk"
    """`bulk`: a collective is one transfer; `flow`: each pair of ranks ends on its own."""
    all_reduce: Literal["auto", "ring", "tree", "nvls", "hierarchical"] = "auto"
    """Algorithm of all-reduce, all-gather and reduce-scatter."""
    all_to_all: Literal["direct", "hierarchical", "low_latency"] = "direct"
    """Algorithm of the experts' dispatch and combine."""
