"""What kernels, collectives and exchanges cost in one run, and the logs of what they move."""

from collections.abc import Mapping
from functools import cached_property

from sim.plan.exchange_costs import ExchangeCosts
from sim.plan.gather_costs import GatherCosts
from sim.plan.kernel_costs import KernelCosts
from sim.plan.logs import LoadLog, PairLog
from sim.plan.transfer_costs import TransferCosts, TransferSms, exchange_sms
from topology.cluster import Cluster
from topology.profiles import DeviceProfile
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.collectives.settings import ALL_TO_ALLS, DEFAULT_NETWORK, NetworkSettings

__all__ = ["Costs"]


class Costs:
    """Prices of kernels and exchanges on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        dtype: str,
        network: NetworkSettings = DEFAULT_NETWORK,
        is_random: bool = False,
        gradient_bytes: int | None = None,
        fused_wgrad: bool = True,
        clock: float = 1.0,
        rate: float = 1.0,
        nvls: bool = True,
        sms: Mapping[str, TransferSms] | None = None,
        profile: DeviceProfile | None = None,
        factors: Factors = MODEL_ITSELF,
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
        gradient_bytes
            Bytes of a gradient in the sum of the microbatches; None: nothing is trained.
        fused_wgrad
            Whether products add gradients of weights to that sum.
        clock
            Clock of the GPUs over that under which kernels were measured.
        rate
            Rate of all kernels over the measured ones.
        nvls
            Whether NVSwitches may reduce where NCCL chooses the algorithm.
        sms
            SMs of each collective that takes some, by its operation; None: those of dispatch and combine that `network`
            asks for, as operation `all_to_all`.
        profile
            Measured kernels of the device; None: the closed form of the device.
        factors
            What times of kernels and transfers are multiplied by.
        """
        if sms is None:
            sms = exchange_sms(network)
        self.cluster = cluster
        self._fidelity = network.fidelity
        self._factors = factors
        self.is_random = is_random
        self.kernels = KernelCosts(
            cluster.device,
            dtype=dtype,
            is_random=is_random,
            gradient_bytes=gradient_bytes,
            fused_wgrad=fused_wgrad,
            clock=clock,
            rate=rate,
            profile=profile,
            factors=factors,
        )
        self.pairs = PairLog()
        """Bytes between every two ranks, where that log is switched on."""
        self.loads = LoadLog()
        """Tokens that experts computed, where that log is switched on."""
        self.transfers = TransferCosts(
            cluster, all_reduce=network.all_reduce, nvls=nvls, sms=sms, pairs=self.pairs, factors=factors
        )
        self.gathers = GatherCosts(self.transfers, self.pairs)
        self.exchanges = ExchangeCosts(
            cluster,
            algorithm=network.all_to_all_algorithm,
            fidelity=network.fidelity,
            is_random=is_random,
            sms=sms.get("all_to_all"),
            pairs=self.pairs,
            factors=factors,
        )
        self.num_sms = cluster.device.num_sms if sms else None
        """SMs of a rank, where transfers take some; None where none does."""

    @cached_property
    def head_exchanges(self) -> ExchangeCosts:
        """Prices of the all-to-alls of context parallelism, which are NCCL's, whatever dispatch and combine are."""
        return ExchangeCosts(
            self.cluster,
            algorithm=ALL_TO_ALLS["direct"],
            fidelity=self._fidelity,
            pairs=self.pairs,
            factors=self._factors,
        )
