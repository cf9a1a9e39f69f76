"""The pattern of ZB-H1 and ZB-H2: a warm-up of forward passes, then F B W with W some microbatches behind B."""

from workloads.schedules.base import Pass, Step

__all__ = ["delayed_weights"]


def delayed_weights(num_microbatches: int, *, warm_up: int, delay: int) -> list[Step]:
    """Return one stage's passes: `warm_up` times F, then F B W where W is of the microbatch `delay` before B's.

    >>> "".join(p.kind + str(p.microbatch) for p in delayed_weights(3, warm_up=1, delay=1))
    'F0F1B0F2B1W0B2W1W2'
    """
    m = num_microbatches
    passes: list[Step] = [Pass("F", i) for i in range(min(m, warm_up))]
    for i in range(m):
        passes += [Pass("F", i + warm_up)] if i + warm_up < m else []
        passes.append(Pass("B", i))
        passes += [Pass("W", i - delay)] if i >= delay else []
    return passes + [Pass("W", i) for i in range(max(0, m - delay), m)]
