"""`runtime:` of a scenario: what the software does while the model runs."""

from typing import Annotated, Any

from sim.scenario.fields import name_of
from sim.scenario.sections import DerivedSection, keys_from
from workloads.runtime import ATTENTIONS, DEFAULT_RUNTIME, RUNTIMES, Runtime

__all__ = ["RuntimeSection"]


@keys_from(Runtime, section="runtime", all_optional=True, attention=name_of(lambda: ATTENTIONS))
class RuntimeSection(DerivedSection):
    """What the software does: a preset, and whatever differs from it."""

    preset: Annotated[str, name_of(lambda: RUNTIMES)] = DEFAULT_RUNTIME
    """Framework and version that fill the keys which are not given."""

    def given(self) -> dict[str, Any]:
        """Return the keys that are given, without `preset`.

        Examples
        --------
        >>> RuntimeSection(attention="unfused").given()
        {'attention': 'unfused'}
        """
        return {key: value for key, value in self.values_of(Runtime).items() if value is not None}
