"""What `topology` refuses.

The tree: `ValueError` <- `TopologyError`. The message reads `subject: field must rule, got value. cure`, and the
parts stay readable as attributes, so that the scenario reader can add file and line.
"""

__all__ = ["TopologyError"]


class TopologyError(ValueError):
    """A cluster, device or link that cannot be."""

    def __init__(self, subject: str, field: str, rule: str, value: object, cure: str) -> None:
        # All parts are the arguments, in order: SimPy and pickle make errors anew from them.
        super().__init__(subject, field, rule, value, cure)
        self.subject, self.field, self.rule, self.value, self.cure = subject, field, rule, value, cure

    def __str__(self) -> str:
        return f"{self.subject}: {self.field} must {self.rule}, got {self.value}. {self.cure}"
