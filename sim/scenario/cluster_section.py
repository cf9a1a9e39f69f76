"""`cluster:` and `network:` of a scenario: the machines, their wiring, and how finely the network is simulated."""

from pathlib import PurePath
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import (
    Bandwidth,
    Bytes,
    Count,
    Efficiency,
    Flag,
    FlopRate,
    Ident,
    Ratio,
    Seconds,
    Section,
    Text,
    Whole,
    count_of,
    name_of,
)
from sim.scenario.sections import DerivedSection, keys_from
from topology.fabrics import WIRINGS, wiring_options
from workloads.collectives import algorithm_names
from workloads.collectives.settings import ALL_TO_ALLS, FIDELITIES, NetworkSettings

__all__ = ["CLUSTER_SUFFIXES", "ClusterSpec", "DeviceSpec", "NetworkSpec"]

CLUSTER_SUFFIXES: Final = (".yaml", ".graphml", ".xml", ".txt")
"""What files of clusters end in: nodes and links, GraphML, NCCL's topology, `nvidia-smi topo -m`."""


_OF_ONE_NODE: Final = ("nic_bandwidth", "nics", "gpus_per_node_used")
"""Keys that are allowed with files of one node and not with files of all nodes."""


class FabricSection(Section):
    """How the nodes are wired; which keys there are depends on the kind."""

    kind: Annotated[str, name_of(lambda: WIRINGS)]
    """Wiring by name."""
    oversubscription: Ratio | None = None
    """Bandwidth of NICs under a switch over that of its way up, at least 1 (rail_optimised, fat_tree, dragonfly)."""
    nodes_per_leaf: Count | None = None
    """Nodes under one leaf, or of one unit of rails (fat_tree, rail_optimised)."""
    nodes_per_switch: Count | None = None
    """Nodes on one switch (dragonfly)."""
    switches_per_group: Count | None = None
    """Switches of one group (dragonfly)."""
    global_links_per_switch: Count | None = None
    """Cables from one switch to other groups (dragonfly)."""
    shape: tuple[Count, ...] | None = None
    """Nodes in each of two or three dimensions (torus)."""
    link_bandwidth: Bandwidth | None = None
    """One cable between nodes in one direction [bytes/s] (torus)."""

    @property
    def options(self) -> dict[str, object]:
        """Options that are given, by key."""
        keys = (option.key for kind in WIRINGS for option in wiring_options(kind))
        return {key: getattr(self, key) for key in dict.fromkeys(keys) if getattr(self, key) is not None}

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        """Check that all options are those of the kind."""
        own = {option.key: option for option in wiring_options(self.kind)}
        for key, value in self.options.items():
            if key not in own:
                owners = [kind for kind in WIRINGS if any(option.key == key for option in wiring_options(kind))]
                hint = f"It belongs to kind {' or '.join(owners)}; remove it."
                raise InvalidValueError(
                    (key,), rule=f"be left out with fabric.kind {self.kind}", value=value, hint=hint
                )
        if self.kind == "torus" and self.shape is None:
            raise InvalidValueError(
                ("shape",),
                rule="be given with fabric.kind torus",
                value="nothing",
                hint="Write two or three counts whose product is cluster.num_nodes.",
            )
        return self


def _nic_name(value: object) -> object:
    """Return a NIC's name, `node.number`; a number such as 0.3 stands for itself."""
    if isinstance(value, float) and value >= 0:
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise InvalidValueError(rule="be a NIC as node.number", value=value, hint='Write for example "0.3".')


class DegradedSpec(Section):
    """One link, NIC or GPU, and what is the matter with it."""

    link: Ident | None = None
    """A link by its name in results, such as `nic0.3->leaf0.3`; with `<->` both directions."""
    nic: (
        Annotated[str, BeforeValidator(_nic_name, json_schema_input_type=str | Annotated[float, Field(ge=0)])] | None
    ) = None
    """A NIC as `node.number`."""
    gpu: Whole | None = None
    """A GPU by its rank."""
    bandwidth: Efficiency | None = None
    """What is left of the bandwidth of a link or of a NIC's links, of 1."""
    speed: Efficiency | None = None
    """What is left of the speed of a GPU's kernels, of 1."""
    gone: Flag = False
    """Whether the link or NIC is missing."""

    @property
    def part(self) -> str:
        """Which of link, nic and gpu is given."""
        return next(key for key in ("link", "nic", "gpu") if getattr(self, key) is not None)

    @model_validator(mode="after")
    def _one_part_one_matter(self) -> Self:
        """Check that the entry names one part, and gives one degradation of that part."""
        given = [key for key in ("link", "nic", "gpu") if getattr(self, key) is not None]
        if len(given) != 1:
            shown = " and ".join(given) or "none"
            raise InvalidValueError(
                (), rule="name one of link, nic and gpu", value=shown, hint="Write an entry for each."
            )
        degradations = ("speed",) if self.part == "gpu" else ("bandwidth", "gone")
        for key in ("speed", "bandwidth", "gone"):
            value = getattr(self, key)
            if value not in (None, False) and key not in degradations:
                hint = f"Of a {self.part} give {' or '.join(degradations)}."
                raise InvalidValueError((key,), rule=f"be left out with {self.part}", value=value, hint=hint)
        if sum(getattr(self, key) not in (None, False) for key in degradations) != 1:
            hint = 'Write for example speed: "80 %".' if self.part == "gpu" else "Write bandwidth: 0.5, or gone: true."
            raise InvalidValueError(
                (), rule=f"give {' or '.join(degradations)}, one of them", value=self.part, hint=hint
            )
        return self


class DeviceSpec(Section):
    """The GPU: a preset, and whatever is different from it."""

    preset: Text | None = None
    """Name of a device, as `moesim list presets` shows them; without it the cluster's own."""
    memory: Bytes | None = None
    """Memory of one GPU that a framework can allocate [bytes]."""
    memory_bandwidth: Bandwidth | None = None
    """Peak bandwidth of that memory [bytes/s]."""
    host_bandwidth: Bandwidth | None = None
    """Bandwidth of copies between the GPU and its host in one direction [bytes/s]."""
    peak_bf16: FlopRate | None = None
    """Dense peak of bf16 matrix products [FLOP/s]."""
    kernel_overhead: Seconds | None = None
    """Time that every kernel takes in addition to its work [s]."""
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
    """A cluster as a file in the scenario's folder: .yaml, .graphml, NCCL's .xml, .txt of `nvidia-smi topo -m`
    or rocm-smi."""
    num_nodes: Annotated[int, count_of("cluster.num_nodes")] | None = None
    """How many nodes (of gb200-nvl72: racks); at most 65,536 GPUs in all. A .yaml or .graphml file has its number."""
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
    """Links, NICs and GPUs that are slower than the rest, or missing."""

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


@keys_from(
    NetworkSettings,
    section="network",
    fidelity=name_of(lambda: FIDELITIES),
    all_reduce=name_of(algorithm_names),
    all_to_all=name_of(lambda: ALL_TO_ALLS),
)
class NetworkSpec(DerivedSection):
    """How transfers are simulated."""
