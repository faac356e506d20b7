from __future__ import annotations

import numpy as np

from bitnet.engine.sampler import uniform


def test_random_numbers_are_a_function_of_seed_and_index() -> None:
    assert uniform(1, 0) == uniform(1, 0)
    assert len({uniform(seed, index) for seed in range(50) for index in range(50)}) == 2500


def test_random_numbers_are_uniform_along_a_stream_and_across_seeds() -> None:
    for numbers in (
        [uniform(3, i) for i in range(20_000)],
        [uniform(i, 0) for i in range(20_000)],
    ):
        assert min(numbers) >= 0
        assert max(numbers) < 1
        counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
        # chi-squared with 19 degrees of freedom: above 60 about once in a million
        assert ((counts - 1000) ** 2 / 1000).sum() < 60


def test_neighbours_in_a_stream_are_not_correlated() -> None:
    numbers = np.array([uniform(5, i) for i in range(20_000)])
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03
