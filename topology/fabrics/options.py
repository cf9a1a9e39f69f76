"""Options of wirings: how they are refused."""

from sim.errors import InvalidValueError

__all__ = ["refuse", "require_oversubscription"]


def refuse(field: str, *, rule: str, value: object, hint: str) -> InvalidValueError:
    """Return the refusal of an option of a wiring."""
    return InvalidValueError(field=f"cluster.fabric.{field}", rule=rule, value=value, hint=hint)


def require_oversubscription(value: float) -> None:
    """Refuse uplinks that carry more than the NICs below them."""
    if not 1 <= value < float("inf"):
        raise refuse("oversubscription", rule="be at least 1", value=value, hint="Write 1 for a non-blocking fabric.")
