from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bitnet.engine.text import StopStrings

_letters = st.text("ab", max_size=20)


def run(stop: list[str], pieces: list[str]) -> tuple[str, bool]:
    strings = StopStrings(stop)
    out = ""
    for piece in pieces:
        out += strings.push(piece)
        if strings.found:
            return out, True
    return out + strings.flush(), False


@given(
    text=_letters,
    cuts=st.lists(st.integers(0, 20), max_size=5),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_the_first_stop_string_however_it_is_cut(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    ends = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(ends)]
    # A stop string counts once its last letter is there; then the earliest start wins.
    expected, found = text, False
    for end in ends[1:]:
        starts = [at for s in stop if (at := text[:end].find(s)) >= 0]
        if starts:
            expected, found = text[: min(starts)], True
            break
    assert run(stop, pieces) == (expected, found)


def test_text_that_cannot_be_a_stop_string_is_not_held_back() -> None:
    strings = StopStrings(["END"])
    assert strings.push("hello") == "hello"
    assert strings.push(" E") == " "
    assert strings.push("N") == ""
    assert strings.push("x") == "ENx"
