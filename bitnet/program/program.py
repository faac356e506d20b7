"""A compiled program: the forward pass and the small functions beside it, ready to call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet import config
from bitnet.codegen import Module, Target, jit
from bitnet.codegen.elf import Symbol, loaded_functions
from bitnet.codegen.module import VIOLATION
from bitnet.errors import BoundsError, InvalidArgumentError
from bitnet.kernels import sampling
from bitnet.kernels.layouts import I2_S_BLOCK, TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.pack import SourceKind, pack, pack_name
from bitnet.kernels.pack_tl import pack_tl, pack_tl_name
from bitnet.program import timer
from bitnet.program.forward import add_forward
from bitnet.program.head_pack import add_pack_head
from bitnet.program.memory import address, ffi
from bitnet.program.plan import Plan
from bitnet.quant.tl_config import Cut

_SIGNATURES = {
    "forward": "void (*)(bn_model *, bn_batch *, int64_t)",
    "penalize": "void (*)(void *, int64_t, void *, void *, int64_t, float, float, float)",
    "argmax": "int64_t (*)(void *, int64_t)",
    "sample": "int64_t (*)(void *, int64_t, float, int64_t, float, float, double, void *)",
}
_PACK_HEAD = "void (*)(bn_head *, int64_t, int64_t)"
_PACK = "int64_t (*)(void *, int64_t, int64_t, void *, int64_t, int64_t)"
_PACK_TL = "int64_t (*)(void *, void *, void *, void *, int64_t, int64_t)"
_TICKS = "int64_t (*)(void)"


def _packers(plan: Plan) -> list[tuple[SourceKind, int]]:
    """What has to be packed for a plan: kinds of sources and their columns."""
    if not isinstance(plan.weights_layout, TiledLayout):
        return []
    packers: list[tuple[SourceKind, int]] = []
    for columns in sorted(plan.linear_inputs):
        packers.append(("bytes", columns))
        if columns % I2_S_BLOCK == 0:
            packers.append(("i2_s", columns))
    return packers


def _tl_packers(plan: Plan) -> tuple[Cut, ...]:
    return plan.cuts if isinstance(plan.weights_layout, TiledLayout) else ()


def build_module(
    plan: Plan, target: Target, *, checked: bool = False, profiled: bool = False
) -> Module:
    """All functions of a program, not yet compiled."""
    module = Module(target, checked=checked, profiled=profiled)
    add_forward(module, plan)
    for kind, columns in _packers(plan):
        pack(module, plan.tiled, kind, columns)
    for cut in _tl_packers(plan):
        pack_tl(module, plan.tiled, cut)
    if plan.head_kind != "stored":
        add_pack_head(module, plan)
    sampling.penalize(module)
    sampling.argmax(module)
    sampling.sample(module)
    if profiled:
        timer.ticks(module)
    return module


class Program:
    """The machine code for one plan on one target. Calls release the GIL.

    checked: every load and store is compared with its buffer's bounds; a call that went outside
    raises BoundsError.
    profiled: steps record the time of every phase on every thread, see `Stepper.profiles`.
    """

    def __init__(
        self, plan: Plan, target: Target, *, checked: bool | None = None, profiled: bool = False
    ) -> None:
        if checked is None:
            checked = "checked" in config.debug()
        if isinstance(plan.weights_layout, LookUp) and not target.has_lookup16:
            raise InvalidArgumentError(
                f"layout {plan.layout!r} needs look-ups of bytes, which target {target.name} lacks"
            )
        self.plan = plan
        self.target = target
        self.profiled = profiled
        self._sites: list[str] = []
        self.phases: list[str] = []
        """Names of the phases that a profile has, in its order; empty when not profiled."""
        signatures = _SIGNATURES | {
            pack_name(plan.tiled, *packer): _PACK for packer in _packers(plan)
        }
        signatures |= {pack_tl_name(plan.tiled, cut): _PACK_TL for cut in _tl_packers(plan)}
        if plan.head_kind != "stored":
            signatures["pack_head"] = _PACK_HEAD
        if profiled:
            signatures["ticks"] = _TICKS
        names = [*signatures, VIOLATION] if checked else [*signatures]
        if checked or profiled:  # then more is needed than the machine code
            module = build_module(plan, target, checked=checked, profiled=profiled)
            self._sites, self.phases = module.sites, module.phases
            self._library = jit.load(module, names)
        else:
            build = partial(build_module, plan, target)
            self._library = jit.load_described(repr(plan), target, build, names)
        self._functions = {
            name: ffi.cast(signature, self._library.address(name))
            for name, signature in signatures.items()
        }
        self._violation = (
            (ctypes.c_int64 * 2).from_address(self._library.address(VIOLATION)) if checked else None
        )

    def forward(self, model: Any, batch: Any, thread: int) -> None:
        """Take part in a step as thread number `thread` until it is done; see `bitnet.program.abi`.

        Other threads may do the same. Bounds are not yet checked.
        """
        self._functions["forward"](model, batch, thread)

    def pack(
        self,
        kind: SourceKind,
        columns: int,
        source: npt.NDArray[np.uint8],
        n_strips: int,
        shift: int,
        packed: npt.NDArray[np.uint8],
        first: int,
        step: int,
    ) -> bool:
        """Pack strips of 16 rows, see `kernels.pack`; False when there was a code 3."""
        function = self._functions[pack_name(self.plan.tiled, kind, columns)]
        bad = function(address(source), n_strips, shift, address(packed), first, step)
        self.check_bounds()
        return not bad

    def pack_block(
        self,
        cut: Cut,
        sections: Sequence[npt.NDArray[np.uint8]],
        packed: npt.NDArray[np.uint8],
        first: int,
        step: int,
    ) -> bool:
        """Pack a block of a TL1 or TL2 tensor, see `kernels.pack_tl`; False when it has no codes.

        The plan has to know how it is cut.
        """
        function = self._functions[pack_tl_name(self.plan.tiled, cut)]
        a, b, c = [address(section) for section in sections] + [ffi.NULL] * (3 - len(sections))
        bad = function(a, b, c, address(packed), first, step)
        self.check_bounds()
        return not bad

    def pack_head(self, head: Any, first: int, stop: int) -> None:
        """Fill the tiles first..stop-1 of a bn_head; see `HeadWeights`.

        Other threads may fill other tiles. Bounds are not yet checked.
        """
        self._functions["pack_head"](head, first, stop)

    def penalize(
        self,
        logits: npt.NDArray[np.float32],
        ids: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int32],
        repetition: float,
        frequency: float,
        presence: float,
    ) -> None:
        """Apply the penalties of `kernels.sampling.penalize` to `logits` in place."""
        self._functions["penalize"](
            address(logits),
            len(logits),
            address(ids),
            address(counts),
            len(ids),
            repetition,
            frequency,
            presence,
        )
        self.check_bounds()

    def argmax(self, logits: npt.NDArray[np.float32]) -> int:
        token = int(self._functions["argmax"](address(logits), len(logits)))
        self.check_bounds()
        return token

    def sample(
        self,
        logits: npt.NDArray[np.float32],
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        uniform: float,
        scratch: npt.NDArray[np.uint8],
    ) -> int:
        """Draw a token; `scratch` holds `kernels.sampling.scratch_bytes(len(logits))` bytes."""
        token = self._functions["sample"](
            address(logits),
            len(logits),
            temperature,
            top_k,
            top_p,
            min_p,
            uniform,
            address(scratch),
        )
        self.check_bounds()
        return int(token)

    def ticks(self) -> int:
        """The clock of the profiles, which this program must be built for."""
        return int(self._functions["ticks"]())

    def functions(self) -> list[Symbol]:
        """The generated functions, internal ones too, with their addresses and sizes.

        Raises UnsupportedOperationError where object files are not ELF.
        """
        return loaded_functions(self._library, "forward")

    def check_bounds(self) -> None:
        """Raise BoundsError if checked code has met a bad access since the last call of this."""
        if self._violation is None or self._violation[0] == 0:
            return
        site, index = self._sites[self._violation[0] - 1], self._violation[1]
        self._violation[0] = 0
        raise BoundsError(f"{site}: access at element {index} is outside the buffer")
