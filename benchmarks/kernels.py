"""Times each kernel on its own, on one thread, with data that stay in the caches.

    python benchmarks/kernels.py [--target avx2] [pyperf's options, such as --fast or -o FILE]

Beside pyperf's times stand the bytes of weights (or keys and values) read a second, and the
multiply-accumulates. A new kernel needs a function here, and a place in KERNELS.
"""

from __future__ import annotations

import ctypes
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitnet.codegen import Buffer, Function, Module, Target, Value, find_target, jit
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.attention import SPAN, attend_span
from bitnet.kernels.head import STORED, Kind, head_rows
from bitnet.kernels.kv_cache import Cached, KVLayout
from bitnet.kernels.layouts import Base3, InPlace, Layout, TiledLayout, TwoBit
from bitnet.kernels.lookup import LookUp, make_tables
from bitnet.kernels.norm import quantize, rms_norm
from bitnet.kernels.span_merge import partial_size
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, unit_block, unit_offsets
from bitnet.kernels.ternary_rows import rows_block
from bitnet.program.memory import allocate
from bitnet.quant import i2s, tl2
from bitnet.quant.tiled import TILE, TiledName
from bitnet.quant.tl_config import Blocks, Cut, TLName

COLUMNS = 2560  # the width of BitNet b1.58 2B-4T
ROWS = 640
TOKENS = 128
POSITIONS = 1024
HEAD_DIM = 128

CUTS: dict[TLName, Cut] = {
    "TL1": Cut("TL1", COLUMNS, Blocks(bm=64, bk=128, bmm=32)),
    "TL2": Cut("TL2", COLUMNS, Blocks(bm=64, bk=96, bmm=32)),
}
TILED: dict[TiledName, TiledLayout] = {"b3": Base3(), "2bit": TwoBit()}

_DTYPES = {t.i8: np.int8, t.i16: np.int16, t.i32: np.int32, t.f32: np.float32}


@dataclass
class Kernel:
    """One call of a kernel: body(k, *buffers).

    arrays: (element type, count) of each buffer.
    bytes, macs: what a call reads and multiplies; 0 where that is not the point.
    """

    body: Callable[..., None]
    arrays: dict[str, tuple[t.Type, int]]
    bytes: float = 0.0
    macs: float = 0.0
    _call: Callable[[int], None] | None = field(default=None, repr=False)

    def seconds(self, loops: int, target: Target) -> float:
        """The time of `loops` calls; compiles the kernel when it is called first."""
        if self._call is None:
            self._call = self._compile(target)
        start = time.perf_counter()
        self._call(loops)
        return time.perf_counter() - start

    def _compile(self, target: Target) -> Callable[[int], None]:
        module = Module(target)

        def write(k: Function) -> None:
            arguments = zip(k.args[1:], self.arrays.items(), strict=True)
            buffers = [Buffer(k, base, *of, name) for base, (name, of) in arguments]
            with k.loop(0, k.args[0]):
                self.body(k, *buffers)

        types = [t.i64, *[t.ptr] * len(self.arrays)]
        module.function("calls", types, write, exported=True)
        library = jit.load(module, ["calls"])
        # Ones: every format has them, and they are codes too.
        memory = [allocate(count, _DTYPES[element]) for element, count in self.arrays.values()]
        for array in memory:
            array[:] = 1
        signature = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * len(memory))
        function = signature(library.address("calls"))
        held: tuple[Any, ...] = (library, memory)

        def call(loops: int) -> None:
            function(loops, *(array.ctypes.data for array in held[1]))

        return call


def ternary_tiled(name: TiledName, tokens: int) -> Kernel:
    """A packed matrix times `tokens` tokens: the dot products of decoding, or a GEMM."""
    layout = TILED[name]
    size = layout.packed_bytes(BLOCK_ROWS, COLUMNS)

    def body(k: Function, weights: Buffer, q: Buffer, sums: Buffer) -> None:
        with k.loop(0, ROWS // BLOCK_ROWS) as block:
            part = weights.part(block * size, size)
            use = _store_sums(sums, block)
            ternary.tiled_block(k, layout, part, q, COLUMNS, tokens, use)

    return _linear(body, layout, (t.i8, layout.packed_bytes(ROWS, COLUMNS)), tokens)


def ternary_in_place(tokens: int) -> Kernel:
    """The same with the rows of an I2_S tensor."""
    layout = InPlace()

    def body(k: Function, weights: Buffer, q: Buffer, sums: Buffer) -> None:
        n_strips = BLOCK_ROWS // TILE
        strips = Buffer.local(k, t.i64, n_strips, "strips")
        base = Value(k.builder, k.builder.ptrtoint(weights.base.ir, t.i64))
        with k.loop(0, ROWS // BLOCK_ROWS) as block:
            for i in range(n_strips):
                strips[i] = base + (block * n_strips + i) * (TILE * COLUMNS // 4)
            rows_block(k, layout, strips, q, COLUMNS, tokens, _store_sums(sums, block))

    return _linear(body, layout, (t.i8, i2s.tensor_bytes(ROWS * COLUMNS)), tokens)


def ternary_look_up(kind: TLName) -> Kernel:
    """The same with a TL1 or TL2 tensor, and one token whose tables are there."""
    cut = CUTS[kind]
    layout, blocks = LookUp(kind, (cut,)), ROWS // BLOCK_ROWS
    sizes = [BLOCK_ROWS * COLUMNS // 4]
    if kind == "TL2":
        sizes = list(tl2.section_bytes((BLOCK_ROWS, COLUMNS), cut.blocks))

    def body(k: Function, weights: Buffer, q: Buffer, sums: Buffer) -> None:
        units = Buffer.local(k, t.i64, 2 * UNIT_FIELDS, "units")
        base = Value(k.builder, k.builder.ptrtoint(weights.base.ir, t.i64))
        with k.loop(0, blocks) as block:
            for number in range(2):
                unit = units.part(number * UNIT_FIELDS, UNIT_FIELDS)
                unit[UNIT_FIELDS - 1] = k.const(t.i64, 0)
                for i, offset in enumerate(unit_offsets(cut, number)):
                    unit[i] = base + (sum(sizes[:i]) * blocks + offset) + block * sizes[i]
            unit_block(k, layout, units, q, COLUMNS, TILE, 1, _store_sums(sums, block))

    return _linear(body, layout, (t.i8, layout.matrix_bytes(ROWS, COLUMNS)), 1)


def look_up_tables(kind: TLName) -> Kernel:
    layout = LookUp(kind, (CUTS[kind],))

    def body(k: Function, q: Buffer) -> None:
        make_tables(k, layout, COLUMNS, q)

    return Kernel(body, {"q": (t.i8, layout.q_width(COLUMNS))})


def _linear(
    body: Callable[..., None], layout: Layout, weights: tuple[t.Type, int], tokens: int
) -> Kernel:
    arrays = {
        "weights": weights,
        "q": (t.i8, tokens * layout.q_width(COLUMNS)),
        "sums": (t.i32, tokens * ROWS),
    }
    return Kernel(body, arrays, weights[1], tokens * ROWS * COLUMNS)


def _store_sums(sums: Buffer, block: Value) -> ternary.Use:
    def use(token: Value, dots: list[Value]) -> None:
        for i, dot in enumerate(dots):
            sums.store(token * ROWS + block * BLOCK_ROWS + i * TILE, dot)

    return use


def head(kind: Kind) -> Kernel:
    """One work item of the output head, for one token."""
    rows = 64

    def body(k: Function, table: Buffer, h: Buffer, logits: Buffer) -> None:
        first, stop = k.const(t.i64, 0), k.const(t.i64, rows)
        head_rows(k, table, first, stop, h, COLUMNS, 1, logits, rows, kind)

    count = rows * COLUMNS
    arrays = {"table": (STORED[kind], count), "h": (t.f32, COLUMNS), "logits": (t.f32, rows)}
    return Kernel(body, arrays, count * t.size(STORED[kind]), count)


def attention() -> Kernel:
    """The four query heads of a kv head over all positions, span by span."""
    kv = KVLayout(n_kv_heads=1, head_dim=HEAD_DIM, page_size=128, kind="f16")
    heads, n_pages = 4, POSITIONS // kv.page_size

    def body(k: Function, pages: Buffer, q: Buffer, out: Buffer) -> None:
        first = Value(k.builder, k.builder.ptrtoint(pages.base.ir, t.i64))
        table, seen = (Buffer.local(k, t.i64, n, "table") for n in (n_pages, heads))
        for i in range(n_pages):
            table[i] = first + i * kv.page_elements * t.size(kv.element)
        for i in range(heads):
            seen[i] = k.const(t.i64, POSITIONS)
        zero = k.const(t.i64, 0)
        with k.loop(0, POSITIONS, SPAN) as start:
            attend_span(k, Cached(kv, table, 1, zero), zero, start, q, seen, out, pages.part(0, 0))

    arrays = {
        "pages": (kv.element, n_pages * kv.page_elements),
        "q": (t.f32, heads * HEAD_DIM),
        "out": (t.f32, heads * partial_size(kv)),
    }
    count = 2 * POSITIONS * HEAD_DIM
    return Kernel(body, arrays, count * t.size(kv.element), heads * count)


def norm() -> Kernel:
    def body(k: Function, x: Buffer, weight: Buffer, y: Buffer) -> None:
        rms_norm(k, x, weight, y, COLUMNS, 1e-5)

    return Kernel(body, dict.fromkeys(("x", "weight", "y"), (t.f32, COLUMNS)))


def quantization() -> Kernel:
    layout = TILED["b3"]

    def body(k: Function, x: Buffer, q: Buffer, scale: Buffer, total: Buffer) -> None:
        quantize(k, x, layout, q, scale, total)

    arrays = {"x": (t.f32, COLUMNS), "q": (t.i8, layout.q_width(COLUMNS))}
    return Kernel(body, {**arrays, "scale": (t.f32, 1), "total": (t.i32, 1)})


KERNELS: dict[str, Callable[[], Kernel]] = {
    f"ternary b3 {ROWS}x{COLUMNS}, 1 token": lambda: ternary_tiled("b3", 1),
    f"ternary b3 {ROWS}x{COLUMNS}, {TOKENS} tokens": lambda: ternary_tiled("b3", TOKENS),
    f"ternary 2bit {ROWS}x{COLUMNS}, 1 token": lambda: ternary_tiled("2bit", 1),
    f"ternary 2bit {ROWS}x{COLUMNS}, {TOKENS} tokens": lambda: ternary_tiled("2bit", TOKENS),
    f"ternary i2_s {ROWS}x{COLUMNS}, 1 token": lambda: ternary_in_place(1),
    f"ternary i2_s {ROWS}x{COLUMNS}, {TOKENS} tokens": lambda: ternary_in_place(TOKENS),
    f"ternary tl1 {ROWS}x{COLUMNS}, 1 token": lambda: ternary_look_up("TL1"),
    f"ternary tl2 {ROWS}x{COLUMNS}, 1 token": lambda: ternary_look_up("TL2"),
    f"tables tl1 {COLUMNS}": lambda: look_up_tables("TL1"),
    f"tables tl2 {COLUMNS}": lambda: look_up_tables("TL2"),
    f"head f16 64x{COLUMNS}": lambda: head("f16"),
    f"head bf16 64x{COLUMNS}": lambda: head("bf16"),
    f"head f32 64x{COLUMNS}": lambda: head("f32"),
    f"attention f16, {POSITIONS} positions": attention,
    f"norm {COLUMNS}": norm,
    f"quantize {COLUMNS}": quantization,
}


def main() -> None:
    import pyperf

    def pass_on(command: list[str], args: Namespace) -> None:
        if args.target:
            command += ["--target", args.target]

    runner = pyperf.Runner(add_cmdline_args=pass_on)
    runner.argparser.add_argument("--target")
    target = find_target(runner.parse_args().target)
    for name, make in KERNELS.items():
        kernel = make()
        result = runner.bench_time_func(name, kernel.seconds, target)
        if result is not None and not runner.args.worker and kernel.bytes:
            print(rates(kernel, result.median()))


def rates(kernel: Kernel, seconds: float) -> str:
    """What a call in `seconds` comes to."""
    amounts = ((kernel.bytes, "GB/s"), (kernel.macs, "GMAC/s"))
    return "    " + ", ".join(f"{n / seconds / 1e9:.1f} {unit}" for n, unit in amounts)


if __name__ == "__main__":
    main()
