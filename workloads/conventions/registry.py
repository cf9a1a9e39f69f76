"""The conventions of expert parallelism by name."""

from sim.errors import InvalidValueError
from workloads.conventions.base import Convention
from workloads.conventions.megatron import MEGATRON, Megatron
from workloads.conventions.serving import Vllm
from workloads.conventions.spanning import Spanning

__all__ = ["CONVENTIONS", "get_convention"]

CONVENTIONS: dict[str, Convention] = {
    Megatron.name: MEGATRON,
    Vllm.name: Vllm(),
    Spanning.name: Spanning(),
}
"""Convention by name."""


def get_convention(name: str) -> Convention:
    """Return the convention called `name`, or refuse the name with those that are known."""
    if name not in CONVENTIONS:
        raise InvalidValueError(
            field="parallel.convention",
            rule="name a known convention",
            value=repr(name),
            hint=f"Known: {', '.join(CONVENTIONS)}.",
        )
    return CONVENTIONS[name]
