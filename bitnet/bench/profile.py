"""Where the time of a profiled program went: by phase and thread, waiting apart from work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.bench.cost import Cost
from bitnet.program.abi import PROFILE_CALLS, PROFILE_WAIT, PROFILE_WORK
from bitnet.program.timer import phase_times

_KERNELS = {
    "embed": "embedding",
    "attn_norm": "norm, quantize",
    "qkv": "ternary",
    "rope": "rope, store KV",
    "attention": "attention",
    "attn_sub_norm": "norm, quantize",
    "attn_output": "ternary, add",
    "post_attention_norm": "norm, add",
    "ffn_norm": "norm, quantize",
    "gate_up": "ternary, gate",
    "ffn_sub_norm": "norm, quantize",
    "down": "ternary, add",
    "post_ffw_norm": "norm, add",
    "output_norm": "norm",
    "head": "head",
    "head_int8": "head, bounds",
    "head_threshold": "k-th best",
    "head_rescore": "head, exact",
    "head_exact_ids": "head, exact",
}


@dataclass(frozen=True)
class PhaseProfile:
    """One phase over all repetitions of a test."""

    phase: str
    kernel: str
    calls: int
    work_ms: tuple[float, ...]
    """By thread, in the order in which they came to a step."""
    wait_ms: tuple[float, ...]
    """Waiting for the other threads at the end of the phase."""
    bytes: float | None
    """Read from memory at least, by all threads; None where that is not the point."""
    macs: float | None

    @property
    def wall_ms(self) -> float:
        """What the phase takes of a step: the mean of the threads."""
        return (sum(self.work_ms) + sum(self.wait_ms)) / len(self.work_ms)


def phase_profiles(
    tables: Sequence[npt.NDArray[np.int64]],
    phases: Sequence[str],
    seconds_per_tick: float,
    costs: dict[str, Cost],
    repetitions: int,
) -> tuple[PhaseProfile, ...]:
    """Add up the tables of `Stepper.profiles`; `costs` is that of one repetition."""
    total = np.sum([phase_times(table) for table in tables], axis=0)
    ms = 1e3 * seconds_per_tick * total
    return tuple(
        PhaseProfile(
            phase=name,
            kernel=_KERNELS.get(name, name),
            calls=int(total[:, i, PROFILE_CALLS].max()),
            work_ms=tuple(ms[:, i, PROFILE_WORK].tolist()),
            wait_ms=tuple(ms[:, i, PROFILE_WAIT].tolist()),
            bytes=costs[name].bytes * repetitions if name in costs else None,
            macs=costs[name].macs * repetitions if name in costs else None,
        )
        for i, name in enumerate(phases)
    )


def collapsed_stacks(label: str, profile: Sequence[PhaseProfile]) -> list[str]:
    """Lines "label;thread 0;phase;work MICROSECONDS", as flamegraph.pl and speedscope read them."""
    return [
        f"{label};thread {thread};{p.phase};{what} {round(1e3 * ms)}"
        for thread in range(len(profile[0].work_ms))
        for p in profile
        for what, ms in (("work", p.work_ms[thread]), ("wait", p.wait_ms[thread]))
    ]
