"""`cluster:` and `network:` of a scenario: what the hardware is and how finely its network is simulated."""

from pathlib import PurePath
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fabric_section import DegradedSpec, FabricSection
from sim.scenario.fields import Bandwidth, Bytes, Efficiency, FlopRate, Ident, Seconds, Section, Text, count_of, name_of
from workloads.collectives import algorithm_names
from workloads.collectives.settings import ALL_TO_ALLS, FIDELITIES

__all__ = ["CLUSTER_SUFFIXES", "ClusterSpec", "DeviceSpec", "NetworkSpec"]

CLUSTER_SUFFIXES: Final = (".yaml", ".graphml", ".xml", ".txt")
"""What files of clusters end in: nodes and links, GraphML, NCCL's topology, `nvidia-smi topo -m`."""


_OF_ONE_NODE: Final = ("nic_bandwidth", "nics", "gpus_per_node_used")
"""Keys that go with files of one node and not with files of all nodes."""


class DeviceSpec(Section):
    """The GPU: a preset, and whatever is different from it."""

    preset: Text | None = None
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
    """The machines: a preset or a file, how many of them, and whatever is different from it."""

    preset: Text | None = None
    """Name of a cluster, as `moesim list presets` shows them; this or `file`."""
    file: Text | None = None
    """A cluster described in a file beside the scenario: .yaml, .graphml, NCCL's .xml, .txt of `nvidia-smi topo -m` or
    rocm-smi."""
    num_nodes: Annotated[int, count_of("cluster.num_nodes")] | None = None
    """How many nodes (of gb200-nvl72: racks); at most 65,536 GPUs in all. A .yaml or .graphml file tells it itself."""
    device: Annotated[DeviceSpec, BeforeValidator(_as_device, json_schema_input_type=str | DeviceSpec)] = DeviceSpec()
    """The GPU: a name, or a mapping with `preset` and the fields that differ. A file needs it."""
    nic_bandwidth: Bandwidth | None = None
    """Bandwidth of the NIC of one GPU in one direction [bytes/s]."""
    nvlink_bandwidth: Bandwidth | None = None
    """Bandwidth of one GPU inside its node in one direction [bytes/s]."""
    fabric: Annotated[FabricSection | None, BeforeValidator(_as_fabric, json_schema_input_type=str | FabricSection)] = (
        None
    )
    """How the nodes are wired: a kind, or a mapping with `kind` and its keys; without it as the preset is."""
    nics: tuple[Ident, ...] = ()
    """NICs in use of the nodes of an .xml or .txt file, as `NCCL_IB_HCA` names them: [mlx5_0, mlx5_3], or [^mlx5_4] for
    all but mlx5_4; without names those that serve GPUs."""
    gpus_per_node_used: Annotated[int, count_of("cluster.gpus_per_node_used")] | None = None
    """How many GPUs of each node are used, from the first, such as 64 of a rack's 72; default: all."""
    degraded: tuple[DegradedSpec, ...] = ()
    """Links, NICs and GPUs that are slower than the rest, or gone."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check that there is a preset or a file, and what either needs."""
        if self.file is None:
            for key in ("preset", "num_nodes"):
                if getattr(self, key) is None:
                    hint = f"Add `{key}:` under cluster." if key == "num_nodes" else "Add `preset:` or `file:` there."
                    raise InvalidValueError((key,), rule="be given", value="nothing", hint=hint)
            if self.nics:
                hint = "A preset has the NICs of the compute network alone: remove the key."
                raise InvalidValueError(
                    ("nics",), rule="be left out with cluster.preset", value=list(self.nics), hint=hint
                )
            return self
        if self.preset is not None:
            raise InvalidValueError(
                ("file",), rule="be left out with cluster.preset", value=self.file, hint="Keep one of them."
            )
        suffix = PurePath(self.file).suffix
        if suffix not in CLUSTER_SUFFIXES:
            rule, hint = f"end in one of {', '.join(CLUSTER_SUFFIXES)}", "The suffix tells the format."
            raise InvalidValueError(("file",), rule=rule, value=self.file, hint=hint)
        if self.device.preset is None:
            hint = "The file tells links and not what GPUs compute: write for example `device: h100-sxm`."
            raise InvalidValueError(("device",), rule="be given with cluster.file", value="nothing", hint=hint)
        for key in ("fabric", "nvlink_bandwidth", *(_OF_ONE_NODE if suffix in {".yaml", ".graphml"} else ())):
            if getattr(self, key):
                hint = "Change the links in the file."
                raise InvalidValueError(
                    (key,), rule=f"be left out with a {suffix} file", value=getattr(self, key), hint=hint
                )
        return self


class NetworkSpec(Section):
    """How transfers are simulated."""

    fidelity: Annotated[str, name_of(lambda: FIDELITIES)] = "bulk"
    """`bulk`: a collective is one transfer; `flow`: each pair of ranks ends on its own."""
    all_reduce: Annotated[str, name_of(algorithm_names)] = "auto"
    """Algorithm of all-reduce, all-gather and reduce-scatter; auto: NCCL's cheapest, with its protocol."""
    all_to_all: Annotated[str, name_of(lambda: ALL_TO_ALLS)] = "direct"
    """Algorithm of the experts' dispatch and combine; hierarchical: a token crosses to each node once."""
    num_sms: Annotated[int, count_of("network.num_sms")] | None = None
    """SMs that dispatch and combine take on each rank; default: 20 for hierarchical, else none."""
