"""A model's forward pass as one compiled program, and the memory it works on."""

from bitnet.program.plan import Plan
from bitnet.program.program import Program

__all__ = ["Plan", "Program"]
