"""What the collectives around sliced experts cost: all-gathers of the tokens that arrived, and reduce-scatters back.

Model
-----
Each group of ranks that hold slices of the same experts (ETP) gathers what each of its ranks received, and afterwards
reduces the results and scatters them to where the tokens came from::

    bytes [group]        = copies of tokens for the group * hidden * dtype_bytes
    load on a link       = bytes [group] * load of the same collective, of the mean group / its bytes
    latency              = that of the mean group's collective
    alone                = what the busiest link needs
    imbalance            = alone - alone with the same bytes spread evenly over the groups

The mean group's collective is NCCL's, with its cheapest algorithm and protocol (`sim.plan.transfer_costs`). Groups of a
lane have no rank in common and are waited for together: they are one transfer for each protocol that they use.

Assumptions
-----------
The parts of a group's ranks differ and are taken as equal: a ring carries the whole but one part over each link.

References
----------
Megatron-LM `MoEAlltoAllTokenDispatcher`: all-to-all over EP, all-gather over ETP, experts, and the same ways back.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.plan.logs import PairLog
from sim.plan.ops import Transfer
from sim.plan.transfer_costs import TransferCosts
from sim.time import TimeRangeError, to_ns
from topology.links import LinkLoad

__all__ = ["GatherCosts", "Trip"]

FloatArray = NDArray[np.float64]
Ranks = NDArray[np.intp]
Trip = tuple[tuple[Transfer, ...], tuple[Transfer, ...]]
"""The transfers of an all-gather, and those of the reduce-scatter that goes back."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Family:
    """Groups whose collective runs by one protocol."""

    transfer: Transfer
    """The collective of all of them, of the mean bytes; its latency is the longest."""
    members: NDArray[np.intp]
    """Which of the groups. Shape [M]."""
    per_byte: FloatArray
    """Load on each link of the transfer by a byte of each group. Shape [M, L]."""
    mean_bytes: float
    """Bytes of a group of which it was priced."""


class GatherCosts:
    """Prices of gathers around experts on one cluster."""

    def __init__(self, transfers: TransferCosts, pairs: PairLog) -> None:
        self._transfers, self._pairs = transfers, pairs
        self._families: dict[Hashable, list[_Family]] = {}

    def trips(self, groups: Ranks, num_bytes: FloatArray, *, mean_bytes: float, group: int) -> list[Trip]:
        """Return the all-gather over `groups` [G, R] of each of N sets of bytes [N, G], and the reduce-scatter back.

        Parameters
        ----------
        groups
            Ranks of each group; no rank is in two of them. Shape [G, R].
        num_bytes
            Bytes of the gathered tensor of each group. Shape [N, G].
        mean_bytes
            What a group has when every expert receives equally many, which chooses algorithm and protocol.
        group
            Number of the transfers' group.
        """
        gather, scatter = (
            self._families_of(operation, groups, mean_bytes, group) for operation in ("all_gather", "reduce_scatter")
        )
        return [
            (
                tuple(self._scaled(family, groups, each) for family in gather),
                tuple(self._scaled(family, groups, each) for family in scatter),
            )
            for each in num_bytes
        ]

    # ---- private -------------------------------------------------------------------------------------------------

    def _families_of(self, operation: str, groups: Ranks, mean_bytes: float, group: int) -> list[_Family]:
        key = (operation, groups.tobytes(), groups.shape, mean_bytes, group)
        if key not in self._families:
            priced = [self._transfers.collective(operation, ranks, mean_bytes, group=group) for ranks in groups]
            by_protocol: dict[int, list[int]] = {}
            for nth, transfer in enumerate(priced):
                by_protocol.setdefault(id(transfer.overhead), []).append(nth)
            self._families[key] = [
                _family([priced[nth] for nth in members], members, mean_bytes) for members in by_protocol.values()
            ]
        return self._families[key]

    def _scaled(self, family: _Family, groups: Ranks, num_bytes: FloatArray) -> Transfer:
        """Return the collective of a family with the bytes of each of all groups [G]."""
        whole, own, num_ranks = family.transfer, num_bytes[family.members], groups.shape[1]
        load = LinkLoad(links=whole.load.links, num_bytes=own @ family.per_byte)
        even = np.full(own.size, num_bytes.mean()) @ family.per_byte
        alone_ns, even_ns = self._alone_ns(load), self._alone_ns(LinkLoad(links=whole.load.links, num_bytes=even))
        total_bytes = float(own.sum()) * (num_ranks - 1)
        scaled = replace(
            whole,
            load=load,
            latency_ns=whole.latency_ns if total_bytes else 0,
            alone_ns=alone_ns,
            imbalance_ns=max(0, alone_ns - even_ns),
            flow_bytes=whole.flow_bytes * float(own.mean()) / family.mean_bytes,
            total_bytes=total_bytes,
        )
        if self._pairs.is_on:
            src = groups[family.members]
            sent = np.repeat(own * (num_ranks - 1) / num_ranks, num_ranks)
            self._pairs.note(scaled, src.ravel(), np.roll(src, -1, axis=1).ravel(), sent)
        return scaled

    def _alone_ns(self, load: LinkLoad) -> int:
        try:
            return to_ns(load.drain_time_s(self._transfers.cluster.capacity_bytes_per_s))
        except TimeRangeError as error:
            raise error.caused_by("a gather around experts, alone on its links") from None


def _family(priced: list[Transfer], members: list[int], mean_bytes: float) -> _Family:
    """Return groups that run by one protocol, priced one by one for the mean bytes, as one transfer."""
    links = np.unique(np.concatenate([transfer.load.links for transfer in priced]))
    per_byte = np.zeros((len(priced), links.size))
    for row, transfer in zip(per_byte, priced, strict=True):
        row[np.searchsorted(links, transfer.load.links)] = transfer.load.num_bytes / mean_bytes
    whole = replace(
        priced[0],
        latency_ns=max(transfer.latency_ns for transfer in priced),
        load=LinkLoad(links=links, num_bytes=per_byte.sum(axis=0) * mean_bytes),
        ranks=np.concatenate([transfer.ranks for transfer in priced]),
    )
    return _Family(transfer=whole, members=np.array(members), per_byte=per_byte, mean_bytes=mean_bytes)
