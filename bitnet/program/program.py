"""A compiled program: the forward pass and the small functions beside it, ready to call."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet import config
from bitnet.codegen import Module, Target, jit
from bitnet.codegen.module import VIOLATION
from bitnet.errors import BoundsError
from bitnet.kernels import sampling, ternary
from bitnet.program.forward import add_forward
from bitnet.program.head_pack import add_pack_head
from bitnet.program.memory import address, ffi
from bitnet.program.plan import Plan

_SIGNATURES = {
    "forward": "void (*)(bn_model *, bn_batch *)",
    "penalize": "void (*)(void *, int64_t, void *, void *, int64_t, float, float, float)",
    "argmax": "int64_t (*)(void *, int64_t)",
    "sample": "int64_t (*)(void *, int64_t, float, int64_t, float, float, double, void *)",
}
_PACK_HEAD = "void (*)(bn_head *, int64_t, int64_t)"
_PACK = "void (*)(void *, int64_t, void *)"


def build_module(plan: Plan, target: Target, *, checked: bool = False) -> Module:
    """All functions of a program, not yet compiled."""
    module = Module(target, checked=checked)
    add_forward(module, plan)
    for columns in sorted({plan.hidden, plan.attention, plan.ffn}):
        ternary.pack(module, columns)
    if plan.head_kind != "stored":
        add_pack_head(module, plan)
    sampling.penalize(module)
    sampling.argmax(module)
    sampling.sample(module)
    return module


class Program:
    """The machine code for one plan on one target. Calls release the GIL.

    checked: every load and store is compared with its buffer's bounds; a call that went outside
    raises BoundsError.
    """

    def __init__(self, plan: Plan, target: Target, *, checked: bool | None = None) -> None:
        if checked is None:
            checked = "checked" in config.debug()
        self.plan = plan
        self.target = target
        module = build_module(plan, target, checked=checked)
        self._sites = module.sites
        widths = {plan.hidden, plan.attention, plan.ffn}
        signatures = _SIGNATURES | {f"pack_{columns}": _PACK for columns in widths}
        if plan.head_kind != "stored":
            signatures["pack_head"] = _PACK_HEAD
        names = [*signatures, VIOLATION] if checked else [*signatures]
        self._library = jit.load(module, names)
        self._functions = {
            name: ffi.cast(signature, self._library.address(name))
            for name, signature in signatures.items()
        }
        self._violation = (
            (ctypes.c_int64 * 2).from_address(self._library.address(VIOLATION)) if checked else None
        )

    def forward(self, model: Any, batch: Any) -> None:
        """Take part in a step until it is done; see `bitnet.program.abi`.

        Other threads may do the same. Bounds are not yet checked.
        """
        self._functions["forward"](model, batch)

    def pack(self, codes: npt.NDArray[np.uint8], packed: npt.NDArray[np.uint8]) -> None:
        """Pack codes (rows, columns), both multiples of 64, into the ternary layout."""
        rows, columns = codes.shape
        function = self._functions[f"pack_{columns}"]
        function(address(codes), rows // ternary.TILE, address(packed))
        self.check_bounds()

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

    def check_bounds(self) -> None:
        """Raise BoundsError if checked code has met a bad access since the last call of this."""
        if self._violation is None or self._violation[0] == 0:
            return
        site, index = self._sites[self._violation[0] - 1], self._violation[1]
        self._violation[0] = 0
        raise BoundsError(f"{site}: access at element {index} is outside the buffer")
