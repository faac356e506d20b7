"""Makes `fixtures/`: random models with the logits that transformers computes for them.

    python -m tests.parity.make_fixtures

Needs torch and transformers. The models depend on the seeds alone; the last bits of the logits,
and which way ties fall, also on the machine.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.parity import expected
from tests.parity.cases import FIXTURES
from tests.parity.random_models import write

FOLDER = Path(__file__).parent / "fixtures"


def main() -> None:
    torch.set_num_threads(1)
    libraries = ((module.__name__, module.__version__) for module in (torch, transformers, np))
    print("Python", platform.python_version(), *(" ".join(pair) for pair in libraries))  # noqa: T201
    shutil.rmtree(FOLDER, ignore_errors=True)
    for case in FIXTURES:
        sequences, agreement = write(case, FOLDER / case.name)
        expected.save(FOLDER / case.name, sequences)
        print(f"{case.name}: transformers against float64: {agreement}")  # noqa: T201


if __name__ == "__main__":
    main()
