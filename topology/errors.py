"""What `topology` refuses.

The tree: `ValueError` <- `TopologyError`. The message reads `subject: field must rule, got value. cure`, and the
parts stay readable as attributes, so that the scenario reader can add file and line.
"""

__all__ = ["TopologyError"]


class TopologyError(ValueError):
    """A cluster, device or link that cannot be."""

    def __init__(self, *, subject: str, field: str, rule: str, value: object, cure: str) -> None:
        super().__init__(f"{subject}: {field} must {rule}, got {value}. {cure}")
        self.subject, self.field, self.rule, self.value, self.cure = subject, field, rule, value, cure
