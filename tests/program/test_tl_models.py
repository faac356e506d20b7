"""Models of TL1 and TL2 tensors give the bits of the reference."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from bitnet.codegen import Target, find_target
from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.kernels.layouts import LayoutName
from bitnet.models.tensors import DenseTensor
from bitnet.models.ternary_tensors import TLTensor
from bitnet.program.footprint import model_bytes
from bitnet.program.program import Program
from bitnet.program.step import Stepper
from bitnet.program.ternary_weights import cuts_of
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from bitnet.quant import tl1, tl2
from bitnet.quant.tl_config import PRESETS, Blocks, Shape, TLName
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    LENGTH,
    MAX_TOKENS,
    N_POSITIONS,
    Array,
    Case,
    all_logits,
    prompt,
    reference,
    spec,
)
from tests.program.test_footprint import allocated_bytes

CASE = Case(
    replace(spec(), n_layers=2, hidden_size=256, ffn_size=384, n_kv_heads=2, head_dim=64),
    "f16",
    "f16",
    "f16",
)
CODECS: dict[TLName, ModuleType] = {"TL1": tl1, "TL2": tl2}
# Query, key and value have the same columns and other blocks.
BLOCKS: dict[TLName, dict[Shape, Blocks]] = {
    "TL1": {
        (256, 256): Blocks(128, 64, 64),
        (128, 256): Blocks(64, 32, 32),
        (384, 256): Blocks(192, 128, 64),
        (256, 384): Blocks(256, 96, 32),
    },
    "TL2": {
        (256, 256): Blocks(128, 96, 32),
        (128, 256): Blocks(64, 192, 32),
        (384, 256): Blocks(192, 96, 32),
        (256, 384): Blocks(256, 192, 32),
    },
}


class TLTensors:
    """The tensors of the case, the ternary ones as TL1 or TL2."""

    def __init__(self, kind: TLName) -> None:
        self._kind = kind
        self.data: dict[str, Array] = {}
        for name, shape in CASE.spec.ternary_shapes().items():
            tensor = CASE.tensors.ternary(name)
            codes = tensor.codes(0, shape[0])
            self.data[name] = CODECS[kind].pack(codes, tensor.scale, BLOCKS[kind][shape])

    def ternary(self, name: str) -> TLTensor:
        shape = CASE.spec.ternary_shapes()[name]
        blocks = BLOCKS[self._kind][shape]
        source = lambda: self.data[name]  # noqa: E731
        return TLTensor("a.gguf", name, shape, source, kind=self._kind, blocks=blocks)

    def dense(self, name: str) -> DenseTensor:
        return CASE.tensors.dense(name)

    def packed(self, name: str) -> None:
        """There is no file."""

    def release(self) -> None:
        """There is no file."""


tensors_as = cache(TLTensors)


@cache
def program(kind: TLName, target: Target, layout: LayoutName, *, checked: bool) -> Program:
    cuts = cuts_of(CASE.spec, tensors_as(kind).ternary)
    return Program(replace(CASE.plan(), layout=layout, cuts=cuts), target, checked=checked)


def stepper(
    tensors: Any, kind: TLName, target: Target, layout: LayoutName, *, checked: bool = False
) -> Stepper:
    compiled = program(kind, target, layout, checked=checked)
    weights = Weights(compiled, tensors, N_POSITIONS, Workers(2))
    return Stepper(compiled, weights, Workers(1), MAX_TOKENS)


kinds = pytest.mark.parametrize("kind", PRESETS)
in_place: dict[TLName, LayoutName] = {"TL1": "tl1", "TL2": "tl2"}
packed = pytest.mark.parametrize("layout", ["b3", "2bit"])


@kinds
@packed
def test_packed_tensors_give_the_reference(
    target: Target, kind: TLName, layout: LayoutName
) -> None:
    steps = stepper(tensors_as(kind), kind, target, layout)
    assert_same_bits(all_logits(steps, prompt(), LENGTH), reference(CASE))


@kinds
def test_tensors_used_in_place_give_the_reference(target: Target, kind: TLName) -> None:
    if not target.has_lookup16:
        with pytest.raises(InvalidArgumentError, match=f"{in_place[kind]}.*{target.name} lacks"):
            program(kind, target, in_place[kind], checked=False)
        return
    steps = stepper(tensors_as(kind), kind, target, in_place[kind])
    for chunk in (LENGTH, 5):
        assert_same_bits(all_logits(steps, prompt(), chunk), reference(CASE))


@kinds
def test_checked_look_ups_stay_inside_their_buffers(kind: TLName) -> None:
    steps = stepper(tensors_as(kind), kind, find_target(), in_place[kind], checked=True)
    logits = all_logits(steps, prompt()[:9], 5)
    assert_same_bits(logits, reference(CASE)[:9].copy())


@kinds
def test_every_byte_is_known_before(kind: TLName) -> None:
    steps = stepper(tensors_as(kind), kind, find_target(), in_place[kind])
    plan = program(kind, find_target(), in_place[kind], checked=False).plan
    assert model_bytes(plan, N_POSITIONS, MAX_TOKENS) == allocated_bytes(steps)


@kinds
def test_a_token_reads_the_bytes_of_the_tensors(kind: TLName) -> None:
    plan = program(kind, find_target(), in_place[kind], checked=False).plan
    unused = 32 + (0 if kind == "TL1" else 10**5)  # the trailer, and zeros
    sizes = [data.size for data in tensors_as(kind).data.values()]
    assert sum(sizes) - unused * len(sizes) <= plan.ternary_bytes <= sum(sizes)


def test_tensors_of_another_type_are_not_used_in_place() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'tl1'.*columns are not TL1"):
        CASE.plan("tl1")
    cuts = cuts_of(CASE.spec, tensors_as("TL2").ternary)
    with pytest.raises(InvalidArgumentError, match=r"'tl1'.*columns are not TL1"):
        replace(CASE.plan("2bit"), layout="tl1", cuts=cuts)
    with pytest.raises(InvalidArgumentError, match=r"'tl2' needs multiples of 32 outputs"):
        replace(CASE.plan("2bit"), layout="tl2", cuts=cuts, spec=replace(CASE.spec, ffn_size=400))
    compiled = Program(replace(CASE.plan("2bit"), layout="tl2", cuts=cuts), find_target())
    with pytest.raises(InvalidArgumentError, match=r"'tl2'.*blk.0.attn_q.weight is not TL2"):
        Weights(compiled, CASE.tensors, N_POSITIONS, Workers(1))


@kinds
def test_checked_packing_stays_inside_its_buffers(kind: TLName) -> None:
    steps = stepper(tensors_as(kind), kind, find_target(), "2bit", checked=True)
    logits = all_logits(steps, prompt()[:9], 9)
    assert_same_bits(logits, reference(CASE)[:9].copy())


@kinds
def test_packing_refuses_what_stands_for_no_codes(kind: TLName) -> None:
    tensors = TLTensors(kind)
    data = tensors.data["blk.1.ffn_up.weight"].copy()
    data[200 * 256 // 6 if kind == "TL2" else 200 * 64] = 0xFF
    tensors.data["blk.1.ffn_up.weight"] = data
    rule = "a.gguf: tensor blk.1.ffn_up.weight: .*rows 192 to 384 stands for no ternary code"
    with pytest.raises(InvalidModelError, match=rule):
        stepper(tensors, kind, find_target(), "2bit")
