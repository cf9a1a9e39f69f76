"""`cluster.fabric:` and `cluster.degraded:` of a scenario: how nodes are wired, and what is slower or gone."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import Bandwidth, Count, Efficiency, Flag, Ident, Ratio, Section, Whole, name_of
from topology.fabrics import WIRINGS, wiring_options

__all__ = ["DegradedSpec", "FabricSection"]


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
    """Whether the link or NIC is gone."""

    @property
    def part(self) -> str:
        """Which of link, nic and gpu is given."""
        return next(key for key in ("link", "nic", "gpu") if getattr(self, key) is not None)

    @model_validator(mode="after")
    def _one_part_one_matter(self) -> Self:
        """Check that one thing is named, and one thing is the matter with it."""
        given = [key for key in ("link", "nic", "gpu") if getattr(self, key) is not None]
        if len(given) != 1:
            shown = " and ".join(given) or "none"
            raise InvalidValueError(
                (), rule="name one of link, nic and gpu", value=shown, hint="Write an entry for each."
            )
        matters = ("speed",) if self.part == "gpu" else ("bandwidth", "gone")
        for key in ("speed", "bandwidth", "gone"):
            value = getattr(self, key)
            if value not in (None, False) and key not in matters:
                hint = f"Of a {self.part} give {' or '.join(matters)}."
                raise InvalidValueError((key,), rule=f"be left out with {self.part}", value=value, hint=hint)
        if sum(getattr(self, key) not in (None, False) for key in matters) != 1:
            hint = 'Write for example speed: "80 %".' if self.part == "gpu" else "Write bandwidth: 0.5, or gone: true."
            raise InvalidValueError((), rule=f"give {' or '.join(matters)}, one of them", value=self.part, hint=hint)
        return self
