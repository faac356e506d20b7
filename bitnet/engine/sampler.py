"""The next token of a request from its logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bitnet.engine.request import Request, TokenLogprobs
from bitnet.errors import GenerationError
from bitnet.kernels.sampling import scratch_bytes
from bitnet.program import Program
from bitnet.program.memory import allocate

_MASK = 2**64 - 1
_MOST_EXACT = 1024  # logits to compute one by one; with more, all are about as fast


class Sampler:
    """Applies a request's parameters to its logits with the program's compiled functions."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._scratch = allocate(scratch_bytes(program.plan.spec.vocab_size), np.uint8)

    def choose(self, request: Request, logits: npt.NDArray[np.float32]) -> int:
        """The next token. Changes `logits`. Raises GenerationError when they are not numbers."""
        params, program = request.params, self._program
        if params.repetition_penalty != 1:
            seen = Counter(request.prompt) + Counter(request.output)
            self._penalize(logits, seen, params.repetition_penalty, 0.0, 0.0)
        if params.frequency_penalty or params.presence_penalty:
            frequency, presence = params.frequency_penalty, params.presence_penalty
            self._penalize(logits, Counter(request.output), 1.0, frequency, presence)
        best = program.argmax(logits)
        if not np.isfinite(logits[best]):
            raise GenerationError(
                "the model's logits are not numbers: its weights are broken, or too large for "
                "a KV cache in f16"
            )
        if params.temperature == 0:
            return best
        return program.sample(
            logits,
            params.temperature,
            params.top_k,
            params.top_p,
            params.min_p,
            uniform(request.seed, len(request.output)),
            self._scratch,
        )

    def _penalize(
        self,
        logits: npt.NDArray[np.float32],
        seen: Counter[int],
        repetition: float,
        frequency: float,
        presence: float,
    ) -> None:
        ids = np.fromiter(seen.keys(), np.int32, len(seen))
        counts = np.fromiter(seen.values(), np.int32, len(seen))
        self._program.penalize(logits, ids, counts, repetition, frequency, presence)


def token_logprobs(logits: npt.NDArray[np.float32], token: int, n_top: int) -> TokenLogprobs:
    """What the logits say about a token and about the `n_top` likeliest; ties: smaller id first."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    n_top = min(n_top, len(wide))
    candidates = np.flatnonzero(wide >= np.partition(wide, -n_top)[-n_top])
    best = candidates[np.argsort(-wide[candidates], kind="stable")][:n_top]
    return TokenLogprobs(float(wide[token]), [(int(i), float(wide[i])) for i in best])


def exact_logits(request: Request) -> tuple[int, Sequence[int]]:
    """How many of a request's largest logits, and which others, its next token depends on.

    (0, ()) is all of them. Penalties can move tokens seen before past any others, so all of
    those count, and as many of the best more as may be among them.
    """
    params = request.params
    if params.logprobs:
        return 0, ()
    best = 1 if params.temperature == 0 else params.top_k
    seen: set[int] = set()
    if params.repetition_penalty != 1:
        seen.update(request.prompt)
    if params.repetition_penalty != 1 or params.frequency_penalty or params.presence_penalty:
        seen.update(request.output)
    if best == 0 or best + len(seen) > _MOST_EXACT:
        return 0, ()
    return best + len(seen), sorted(seen)


def uniform(seed: int, index: int) -> float:
    """The index-th number in [0, 1) of the stream `seed` (Steele et al., SplitMix64, 2014).

    A function of its arguments alone: what else runs beside a request does not change it.
    """
    z = (_mix(seed) + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    return (_mix(z) >> 11) * 2.0**-53


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
