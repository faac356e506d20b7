from __future__ import annotations

from bitnet.engine.params import SamplingParams
from bitnet.engine.request import Request
from bitnet.engine.scheduler import schedule


def prefilling(n: int, seen: int = 0) -> Request:
    request = Request(list(range(n)), SamplingParams(), (), 0, 64)
    request.sequence.length = seen
    return request


def decoding(n: int = 5) -> Request:
    request = prefilling(n, seen=n)
    request.output.append(7)
    return request


def test_a_prompt_is_fed_in_chunks_of_a_step() -> None:
    request = prefilling(10)
    assert schedule([request], 4) == [(request, [0, 1, 2, 3])]
    request.sequence.length = 8
    assert schedule([request], 4) == [(request, [8, 9])]


def test_a_request_that_decodes_feeds_its_last_token() -> None:
    request = decoding()
    assert schedule([request], 4) == [(request, [7])]


def test_decoding_goes_before_prompts() -> None:
    prompt, decode = prefilling(10), decoding()
    assert schedule([prompt, decode], 4) == [(decode, [7]), (prompt, [0, 1, 2])]


def test_older_prompts_go_before_newer_ones() -> None:
    old, new = prefilling(10), prefilling(10)
    assert schedule([old, new], 12) == [(old, list(range(10))), (new, [0, 1])]


def test_a_full_step_leaves_the_rest_for_the_next_one() -> None:
    first, second, third = decoding(), decoding(), decoding()
    assert [r for r, _ in schedule([first, second, third], 2)] == [first, second]
