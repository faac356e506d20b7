"""From requests to tokens: parameters, scheduling, sampling, stop strings."""

from bitnet.engine.engine import Engine
from bitnet.engine.params import SamplingParams
from bitnet.engine.passes import Pass
from bitnet.engine.request import Request, Timings, TokenLogprobs

__all__ = ["Engine", "Pass", "Request", "SamplingParams", "Timings", "TokenLogprobs"]
