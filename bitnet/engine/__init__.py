"""From requests to tokens: parameters, scheduling, sampling, stop strings."""

from bitnet.engine.engine import Engine
from bitnet.engine.params import SamplingParams
from bitnet.engine.request import Request, Timings, TokenLogprobs

__all__ = ["Engine", "Request", "SamplingParams", "Timings", "TokenLogprobs"]
