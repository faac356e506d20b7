"""From requests to tokens: parameters, scheduling, sampling, stop strings."""

from bitnet.engine.engine import Engine
from bitnet.engine.params import SamplingParams
from bitnet.engine.request import Request, Timings

__all__ = ["Engine", "Request", "SamplingParams", "Timings"]
