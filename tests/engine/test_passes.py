"""Passes are cut into steps so that each token comes once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitnet.engine.passes import Pass, steps


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    n = draw(st.integers(0, 12))
    start = draw(st.integers(0, n))
    return Pass([*range(n)], range(start, draw(st.integers(start, n))))


@given(st.lists(passes(), max_size=6), st.integers(1, 7))
def test_every_token_comes_once_and_in_order(given_passes: list[Pass], max_tokens: int) -> None:
    plan = list(steps(given_passes, max_tokens))
    sizes = [sum(len(part.tokens) for part in parts) for parts in plan]
    assert all(size == max_tokens for size in sizes[:-1])
    assert all(0 < size <= max_tokens for size in sizes)
    parts = [part for some in plan for part in some]
    for number, each in enumerate(given_passes):
        mine = [part for part in parts if part.number == number]
        assert [token for part in mine for token in part.tokens] == list(each.tokens)
        assert [part.start + i for part in mine for i in part.wanted] == list(each.wanted)
        assert [part.is_last for part in mine] == [False] * (len(mine) - 1) + [True] * bool(mine)
    assert [part.number for part in parts] == sorted(part.number for part in parts)
