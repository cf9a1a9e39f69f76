"""Facts: claims of a document that follow from one another, counted once.

Model
-----
A claim with `because_of` states the same fact as the claim at the end of that chain, as long as both have the same
verdict. Where a run finds otherwise, the claim is a fact of its own: no fact both holds and is refuted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim.results.claims import Verdict

__all__ = ["Fact", "facts_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One fact, and the verdicts on the claims that state it."""

    claims: Sequence[Verdict]
    """The claim that the others follow from, then those."""

    @property
    def leader(self) -> Verdict:
        """The claim that the others follow from."""
        return self.claims[0]

    @property
    def sentence(self) -> str:
        """What was found, in plain sentences: the leader's, or each claim's after its note where they differ."""
        said = dict.fromkeys(verdict.sentence for verdict in self.claims if verdict.sentence)
        if len(said) > 1 and all(verdict.claim.note for verdict in self.claims):
            pairs = [(str(verdict.claim.note), verdict.sentence) for verdict in self.claims]
            return " ".join(f"{note[:1].upper()}{note[1:]}: {text}" for note, text in pairs)
        return self.leader.sentence

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON has of a fact."""
        return {
            "claims": [verdict.claim.id for verdict in self.claims],
            "verdict": self.leader.verdict,
            "relevance": self.leader.relevance,
            "sentence": self.sentence,
        }


def facts_of(verdicts: Sequence[Verdict]) -> list[Fact]:
    """Return the facts that claims state, in the order of the claims that lead them.

    >>> from sim.results.claims import Claim, Evidence
    >>> one, two = (Claim(id=i, says=i, source="", metric="fits", because_of=of) for i, of in (("a", None), ("b", "a")))
    >>> found = [Verdict(claim=c, evidence=Evidence(value=1), verdict="holds", reason="") for c in (one, two)]
    >>> [[verdict.claim.id for verdict in fact.claims] for fact in facts_of(found)]
    [['a', 'b']]
    """
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    members: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        root = _root(verdict, by_id)
        leader = root if root.verdict == verdict.verdict else verdict
        of_fact = members.setdefault(leader.claim.id, [])
        of_fact.insert(0 if leader is verdict else len(of_fact), verdict)
    order = {verdict.claim.id: i for i, verdict in enumerate(verdicts)}
    return [Fact(claims=members[leader]) for leader in sorted(members, key=order.__getitem__)]


def _root(verdict: Verdict, by_id: Mapping[str, Verdict]) -> Verdict:
    """Return the claim at the end of a chain of `because_of`."""
    while verdict.claim.because_of is not None:
        verdict = by_id[verdict.claim.because_of]
    return verdict
