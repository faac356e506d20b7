from __future__ import annotations

import math
from typing import Any

import pytest

from bitnet import InvalidArgumentError, SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", -1),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", math.nan),
        ("presence_penalty", math.inf),
        ("seed", -1),
        ("seed", 2**64),
        ("stop", "a plain string"),
        ("stop", ("",)),
        ("stop", (1,)),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    "allowed",
    [
        {"max_new_tokens": 1, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 1.0},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"stop": ["a", "b"]},
        {"frequency_penalty": -1.0, "presence_penalty": -1.0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(allowed: dict[str, Any]) -> None:
    SamplingParams(**allowed)
