"""What is in a model's files, whether it is sound, and mending what is known to go wrong."""

from __future__ import annotations

from bitnet.checkup.faults import Fault
from bitnet.checkup.repair import find_repairs, write_repaired
from bitnet.checkup.report import Report, inspect_model
from bitnet.checkup.verify import Verification, verify_model

__all__ = [
    "Fault",
    "Report",
    "Verification",
    "find_repairs",
    "inspect_model",
    "verify_model",
    "write_repaired",
]
