"""The dispatcher and what runs next to its exchanges: keys reach the work, and contradictions are refused by name."""

import pytest

from sim.build.build import build
from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario import load_scenario
from workloads.collectives.settings import ALL_TO_ALLS
from workloads.memory import deepep_buffer_bytes, reserved_bytes
from workloads.runtime import DISPATCHERS

TRAINS = (
    "parallel={strategy: EP8_TP1_PP1_DP64, convention: megatron}",
    "workload={kind: training, sequences: 128, sequence_length: 1024, microbatches: 2}",
    "model.shared_experts=1",
)
VPP = "parallel={strategy: EP8_TP1_PP2_DP32_VPP2, convention: megatron}"
PP = "parallel={strategy: EP8_TP1_PP2_DP32, convention: megatron}"


def _built(*settings: str) -> Work:
    return build(load_scenario("ep64_tp16_pp4", overrides=[*TRAINS, *settings])).work


@pytest.mark.parametrize(("dispatcher", "algorithms"), DISPATCHERS.items())
def test_a_dispatcher_is_an_all_to_all(dispatcher: str, algorithms: tuple[str, ...]) -> None:
    """The first of its algorithms, or another of them that the network names."""
    assert _built(f"runtime.dispatcher={dispatcher}").network.all_to_all == algorithms[0]
    for algorithm in algorithms:
        named = _built(f"runtime.dispatcher={dispatcher}", f"network.all_to_all={algorithm}")
        assert named.network.all_to_all == algorithm in ALL_TO_ALLS


def test_every_all_to_all_belongs_to_one_dispatcher() -> None:
    """So that a contradiction can name it."""
    algorithms = [algorithm for owned in DISPATCHERS.values() for algorithm in owned]
    assert sorted(algorithms) == sorted(ALL_TO_ALLS)


def test_without_a_dispatcher_the_network_says_it() -> None:
    """The default stays NCCL's."""
    assert _built().network.all_to_all == "direct"
    assert _built("network.all_to_all=low_latency").network.all_to_all == "low_latency"


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("overlap_moe", ()),
        ("overlap_moe", (VPP, "schedule.kind=interleaved")),
        ("overlap_shared_experts", ()),
        ("delay_wgrad", ()),
        ("delay_wgrad", (PP,)),
    ],
)
def test_overlap_reaches_the_work(key: str, more: tuple[str, ...]) -> None:
    """Each key alone."""
    work = _built(f"runtime.{key}=true", *more)
    assert getattr(work.runtime, key)
    assert work.runs_pairs is (key == "overlap_moe")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ("dispatcher=deepep", "network.all_to_all=direct"),
            r"dispatcher must agree with network\.all_to_all direct, which is dispatcher alltoall",
        ),
        (("dispatcher=alltoall", "network.all_to_all=deepep"), "which is dispatcher deepep"),
        (("dispatcher=flex",), r"dispatcher must be one of alltoall, deepep, hybridep"),
        (
            ("dispatcher=deepep", "parallel={strategy: EP1_TP1_PP1_DP64, convention: megatron}"),
            "dispatcher must be left out where no token is sent",
        ),
        (("overlap_moe=true", "parallel={strategy: EP1_TP1_PP1_DP64, convention: megatron}"), "where no token is sent"),
        (("overlap_moe=true", PP), r"overlap_moe must be false with schedule\.kind 1f1b and PP > 1"),
        (("overlap_moe=true", "schedule.kind=gpipe"), r"with schedule\.kind gpipe, which does not alternate"),
        (("overlap_moe=true", "schedule.recompute=full"), "where the expert block is recomputed"),
        (("overlap_moe=true", "runtime.overlap_shared_experts=true"), r"with runtime\.overlap_shared_experts"),
        (("overlap_moe=true", "workload={kind: forward, sequences: 128, sequence_length: 1024}"), "in a forward pass"),
        (
            ("overlap_moe=true", "schedule.kind=interleaved", VPP, "parallel.fsdp=full"),
            r"with parallel\.fsdp and virtual stages",
        ),
        (("overlap_moe=true", "parallel={strategy: EP64_TP1_PP1_DP64, convention: spanning}"), "spanning"),
        (("overlap_shared_experts=true", "model.shared_experts=0"), "without shared experts"),
        (
            ("overlap_shared_experts=true", "schedule={recompute: selective, recompute_modules: [shared_experts]}"),
            "where shared experts are recomputed",
        ),
        (("delay_wgrad=true", "workload={kind: forward, sequences: 128, sequence_length: 1024}"), "makes no gradients"),
        (("delay_wgrad=true", "schedule.kind=zb_h1"), r"in passes of their own"),
    ],
)
def test_what_cannot_go_together_is_refused(settings: tuple[str, ...], said: str) -> None:
    """By the key and the rule."""
    with pytest.raises(InvalidValueError, match=said):
        _built(f"runtime.{settings[0]}", *settings[1:])


def test_deepep_keeps_buffers_and_others_are_not_known_to() -> None:
    """EP8, hidden 1024: 10 channels, 8 ranks, 256 tokens of 2,048 + 2,056 bytes."""
    of_deepep = _built("runtime.dispatcher=deepep")
    assert of_deepep.dispatcher_buffer_bytes == 10 * 8 * 256 * (2048 + 2056)
    assert reserved_bytes(of_deepep.mesh, of_deepep.dispatcher_buffer_bytes)["dispatcher"] > 0
    for settings in (("runtime.dispatcher=hybridep",), ("network.all_to_all=hierarchical",), ()):
        assert _built(*settings).dispatcher_buffer_bytes == 0


def test_buffers_of_deepep_between_nodes() -> None:
    """64 ranks: 10 channels * (8 * 288 slots + 8 nodes * 2 * 140 slots of 16 bytes more), and 1 MiB."""
    slot = 14336 + 2056
    assert deepep_buffer_bytes(14336, 64, 20) == 10 * (8 * 288 * slot + 8 * 2 * 140 * (slot + 16)) + 2**20
