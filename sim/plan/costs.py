"""What things cost in one run: kernels, exchanges, and ops that come again."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.plan.exchange_costs import ExchangeCosts
from sim.plan.kernel_costs import KernelCosts
from sim.plan.loads import LoadLog
from sim.plan.ops import Op
from sim.plan.pairs import PairLog
from sim.plan.transfer_costs import TransferCosts
from sim.plan.transfer_sms import TransferSms, exchange_sms
from topology.cluster import Cluster
from workloads.collectives.settings import DEFAULT_NETWORK, NetworkSettings

__all__ = ["Costs"]

_Key = TypeVar("_Key")
_Built = TypeVar("_Built")


class Costs:
    """Prices of kernels and exchanges on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        dtype: str,
        network: NetworkSettings = DEFAULT_NETWORK,
        is_random: bool = False,
        sms: Mapping[str, TransferSms] | None = None,
    ) -> None:
        """Price what runs on `cluster`.

        Parameters
        ----------
        cluster, dtype
            Hardware, and the type in which kernels compute.
        network
            How transfers are simulated.
        is_random
            Whether tokens choose at random, so that no exchange and no experts' kernel comes twice.
        sms
            SMs of each collective that takes some, by its operation; None: those of dispatch and combine that `network`
            asks for, as operation `all_to_all`.
        """
        if sms is None:
            sms = exchange_sms(network)
        self.cluster = cluster
        self.is_random = is_random
        self.kernels = KernelCosts(cluster.device, dtype=dtype, is_random=is_random)
        self.pairs = PairLog()
        """Who sends what to whom, where that is asked for."""
        self.loads = LoadLog()
        """What experts computed, where that is asked for."""
        self.transfers = TransferCosts(cluster, all_reduce=network.all_reduce, sms=sms, pairs=self.pairs)
        self.exchanges = ExchangeCosts(
            cluster,
            algorithm=network.all_to_all,
            fidelity=network.fidelity,
            is_random=is_random,
            sms=sms.get("all_to_all"),
            pairs=self.pairs,
        )
        self.num_sms = cluster.device.num_sms if sms else None
        """SMs of a rank, where transfers take some; None where none does."""
        self._ops: dict[Hashable, list[Op]] = {}
        self._placed: dict[tuple[int, int], NDArray[np.intp]] = {}
        self._shared: dict[Hashable, Any] = {}
        self._recent: dict[Hashable, list[dict[Any, Any]]] = {}

    def recent(
        self, place: Hashable, key: Hashable, build: Callable[[], dict[_Key, _Built]], *, num_kept: int
    ) -> _Built:
        """Return the value of `key`, which `build` makes along with others; of each place the last builds are kept."""
        kept = self._recent.setdefault(place, [])
        for built in kept:
            if key in built:
                return cast("_Built", built[key])
        del kept[: len(kept) + 1 - num_kept]
        kept.append(build())
        return cast("_Built", kept[-1][key])

    def shared(self, key: Hashable, build: Callable[[], _Built]) -> _Built:
        """Return what lanes have in common: built when it is first asked for by `key`."""
        if key not in self._shared:
            self._shared[key] = build()
        return cast("_Built", self._shared[key])

    def placed(self, layer: int, plan: int, place: Callable[[], NDArray[np.intp]]) -> NDArray[np.intp]:
        """Return the expert in each slot of each rank of an expert group: placed when a layer is first asked for."""
        if (layer, plan) not in self._placed:
            self._placed[layer, plan] = place()
        return self._placed[layer, plan]

    def once(self, key: Hashable, build: Callable[[], list[Op]]) -> list[Op]:
        """Return ops that do not depend on the microbatch: built when they are first asked for by `key`."""
        if key not in self._ops:
            self._ops[key] = build()
        return self._ops[key]
