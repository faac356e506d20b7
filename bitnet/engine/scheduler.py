"""Which tokens of which requests go into the next step. Knows nothing of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from bitnet.engine.request import Request


def schedule(
    requests: Iterable[Request], max_tokens: int, max_requests: int | None = None
) -> list[tuple[Request, Sequence[int]]]:
    """The next tokens of each request that gets a share of a step of `max_tokens` tokens.

    Only the `max_requests` oldest get one. Of these, requests that are decoding come first, a
    token each, so that a long prompt elsewhere does not stall them; the rest of the step goes to
    prompts, oldest request first.
    """
    waiting = sorted(islice(requests, max_requests), key=lambda r: len(r.pending) > 1)
    plan = []
    room = max_tokens
    for request in waiting:
        if room == 0:
            break
        tokens = request.pending[:room]
        room -= len(tokens)
        plan.append((request, tokens))
    return plan
