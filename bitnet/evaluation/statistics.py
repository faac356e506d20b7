"""How far the mean of a sample may be from that of the whole."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Z95 = 1.959964  # of a normal distribution, 95 % lie within so many standard deviations


def standard_error(sample: npt.NDArray[np.float64]) -> float:
    """That of the mean of a sample whose values do not depend on each other; nan for one value."""
    if len(sample) < 2:
        return math.nan
    return float(sample.std(ddof=1)) / math.sqrt(len(sample))
