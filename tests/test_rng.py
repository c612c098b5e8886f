"""Seeds: equal paths give equal streams, different paths independent ones."""

import numpy as np
import torch

from synthgen.rng import Seed


def test_streams_are_reproducible_and_named():
    seed = Seed.of(7)
    assert seed.child("a").numpy().random() == seed.child("a").numpy().random()
    assert torch.equal(torch.rand(3, generator=seed.torch()), torch.rand(3, generator=Seed(7).torch()))
    assert Seed.of(seed) is seed
    numbers = {
        s.integer() for s in (seed, seed.child("a"), seed.child("b"), seed.child("a", "b"), seed.child("ab"), Seed(8))
    }
    assert len(numbers) == 6


def test_sibling_streams_are_uncorrelated():
    """100 pairs of streams of 1,000: the mean correlation lies within 4 standard errors of zero (p < 1e-4)."""
    pairs = [
        np.corrcoef(Seed(i).child("x").numpy().normal(size=1000), Seed(i).child("y").numpy().normal(size=1000))[0, 1]
        for i in range(100)
    ]
    assert abs(np.mean(pairs)) < 4 / np.sqrt(100 * 1000)
