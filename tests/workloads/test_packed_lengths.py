"""Packed documents: attended lengths by hand, bounds, and streams of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.documents import attended_lengths
from workloads.serving.lengths import Lengths


def attended(documents, *, replicas=1, microbatches=1, sequences=1, length=1024, seed=1):
    return attended_lengths(
        documents,
        num_replicas=replicas,
        num_microbatches=microbatches,
        sequences=sequences,
        sequence_length=length,
        seed=seed,
    )


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (1024, 1024),  # one document
        (5000, 1024),  # cut at the end of the sequence
        (512, 512),
        (1, 1),
        (768, 640),  # pieces of 768 and 256: (768^2 + 256^2) / 1024
    ],
)
def test_documents_of_one_length_by_hand(tokens, expected):
    assert attended(Lengths(tokens=tokens)).tolist() == [[expected]]


def test_a_document_goes_on_in_the_next_sequence():
    """Sequences of 4, documents of 3: pieces 3, 1, 2, 2, 1, 3 of twelve tokens: (9 + 1 + 4 + 4 + 1 + 9) / 12 = 2.33."""
    assert attended(Lengths(tokens=3), sequences=3, length=4).tolist() == [[2]]


@settings(max_examples=30, deadline=None)
@given(mean=st.integers(1, 3000), cv=st.floats(0, 3), sequences=st.integers(1, 3), seed=st.integers(0, 9))
def test_no_token_attends_to_more_than_its_sequence(mean, cv, sequences, seed):
    found = attended(Lengths(kind="lognormal", mean=mean, cv=cv), replicas=2, sequences=sequences, seed=seed)
    assert 1 <= found.min() <= found.max() <= 1024


def test_more_microbatches_and_replicas_keep_the_draws_of_the_others():
    documents = Lengths(kind="lognormal", mean=300, cv=1.0)
    few, many = attended(documents, replicas=2, microbatches=2), attended(documents, replicas=3, microbatches=5)
    assert np.array_equal(many[:2, :2], few)
    assert np.unique(many).size > 10
