"""Copies drawn for hosts and experts alone: numbers for hosts stay, and those for experts keep their law."""

import numpy as np
import pytest

from workloads.routing import Skew, draw_counts, draw_for_hosts

CASES = [
    ("multinomial", {"num_experts": 16, "num_hosts": 4}),
    ("multinomial", {"num_experts": 16, "num_hosts": 1}),
    ("multinomial", {"num_experts": 12, "num_hosts": 3}),  # blocks of 8 and 4 are not those of hosts: drawn whole
    ("multinomial", {"num_experts": 16, "num_hosts": 8, "num_nodes": 4, "max_nodes": 2}),
    ("multinomial", {"num_experts": 16, "num_hosts": 4, "num_nodes": 4, "max_nodes": 1}),
    ("zipf", {"num_experts": 16, "num_hosts": 4}),
    ("zipf", {"num_experts": 12, "num_hosts": 3}),
    ("zipf", {"num_experts": 16, "num_hosts": 8, "num_nodes": 4, "max_nodes": 2}),
    ("stride", {"num_experts": 16, "num_hosts": 4}),
]


def keys(kind, changes, **more):
    """Return the parameters of both draws."""
    skew = Skew(skew=0.7 if kind == "zipf" else 0.0, stride=3)
    return {"num_sources": 3, "tokens": 40, "top_k": 4, "seed": 5, "skew": skew, **changes, **more}


@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_what_goes_to_hosts_is_the_sum_of_what_goes_to_their_experts(kind, changes):
    """The same numbers as of a draw of all counts, and experts of a host have them together."""
    request = keys(kind, changes, layers=[0, 3], microbatches=[2, 5])
    to_hosts, of_experts = draw_for_hosts(kind, **request)
    num_hosts = request.pop("num_hosts")
    whole = draw_counts(kind, **request).reshape(4, 3, num_hosts, -1)
    np.testing.assert_array_equal(to_hosts, whole.sum(axis=3))
    np.testing.assert_array_equal(of_experts.reshape(4, num_hosts, -1).sum(axis=2), whole.sum(axis=(1, 3)))


@pytest.mark.parametrize(("kind", "changes"), CASES[:1] + CASES[3:4] + CASES[5:6])
def test_the_law_of_what_goes_to_experts_is_that_of_whole_draws(kind, changes):
    """Means, variances and covariances of experts over 600 draws of each; 6 standard errors of a difference."""
    num = 600
    request = keys(kind, changes, layers=[0], microbatches=range(num))
    if kind == "zipf":  # of one popularity
        request["skew"] = Skew(skew=0.7, shuffled=False)
    _, apart = draw_for_hosts(kind, **request)
    del request["num_hosts"]
    together = draw_counts(kind, **request, lane=1).sum(axis=(1, 2))
    for power in (1, 2):
        first, second = (
            of - of.mean(axis=0) if power == 2 else of for of in (apart.astype(float), together.astype(float))
        )
        products = [np.einsum("ne,nf->nef", of, of) if power == 2 else of[:, :, None] for of in (first, second)]
        error = np.sqrt(sum(of.var(axis=0) for of in products) / num)
        difference = np.abs(products[0].mean(axis=0) - products[1].mean(axis=0))
        assert (difference <= 6 * error + 1e-9).all()
