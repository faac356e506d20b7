"""Measurements of a model's speed beside what the machine can do at best."""

from bitnet.bench.measure import measure
from bitnet.bench.options import Options
from bitnet.bench.random_source import RandomCheckpoint
from bitnet.bench.row import Row

__all__ = ["Options", "RandomCheckpoint", "Row", "measure"]
