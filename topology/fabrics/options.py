"""Options of wirings: how they are refused."""

from topology.errors import TopologyError

__all__ = ["refuse", "require_oversubscription"]


def refuse(field: str, *, rule: str, value: object, cure: str) -> TopologyError:
    """Return the refusal of an option of a wiring."""
    return TopologyError(subject="cluster", field=f"fabric.{field}", rule=rule, value=value, cure=cure)


def require_oversubscription(value: float) -> None:
    """Refuse uplinks that carry more than the NICs below them."""
    if not 1 <= value < float("inf"):
        raise refuse("oversubscription", rule="be at least 1", value=value, cure="Write 1 for a non-blocking fabric.")
