"""The last phases of the forward pass: the final norm and the output head.

What a head does depends on `Plan.head_kind`. A certified one computes all logits with int8 rows,
finds for each row of logits how large one must at least be to be among its `ranks` best, computes
those that may be again from the stored table, exactly, and makes -inf of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from bitnet.codegen import Buffer, Dim, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels import certify, int8, q6_k, q8_0
from bitnet.kernels.head import STORED, head_rows, row_dot
from bitnet.kernels.hilo import Format, Split, split
from bitnet.kernels.norm import rms_norm
from bitnet.models.tensors import FLOAT_DTYPES
from bitnet.program.abi import HEAD
from bitnet.program.memory import Sizes
from bitnet.program.plan import HeadKind, Plan
from bitnet.program.team import Team
from bitnet.quant.tiled import TILE

LAYOUTS: dict[HeadKind, ModuleType] = {
    "int8": int8,
    "certified": int8,
    "q8_0": q8_0,
    "q6_k": q6_k,
}
_ITEM_TILES = 4  # a work item, where all rows of the table are computed
_CHUNK_TILES = 64  # and where only few are
_TOKENS = 4  # that share a pass over a tile

# Takes (row of logits, tile of the table, f32x16 of logits).
Use = Callable[[Value, Value, Value], None]


def n_head_phases(plan: Plan) -> int:
    if not plan.spec.has_head:
        return 1
    return 6 if plan.head_kind == "certified" else 2


def n_tiles(plan: Plan) -> int:
    return -(-plan.spec.vocab_size // TILE)


def head_bytes(plan: Plan) -> int:
    """What a pass over the whole head reads: of a certified one, its int8 rows."""
    spec = plan.spec
    if not spec.has_head:
        return 0
    if plan.head_kind == "stored":
        return spec.vocab_size * spec.hidden_size * FLOAT_DTYPES[plan.stored_head].itemsize
    return n_tiles(plan) * int(LAYOUTS[plan.head_kind].tile_bytes(spec.hidden_size))


def head_scratch(plan: Plan, n: int) -> Sizes:
    """The buffers of bn_batch for `n` rows of logits."""
    if plan.head_kind == "stored":
        return {}
    form: Format = LAYOUTS[plan.head_kind].split_format(plan.spec.hidden_size)
    sizes: Sizes = {
        "head_q": (n * 2 * form.columns, np.int8),
        "head_offsets": (n * 2 * form.n_blocks, np.int32),
        "head_scale": (n, np.float32),
    }
    if plan.head_kind == "certified":
        sizes |= {
            "head_bounds": (n * 2, np.float32),
            "head_best": (n * n_tiles(plan), np.float32),
            "head_threshold": (n, np.float32),
        }
    return sizes


class Head:
    def __init__(
        self, k: Function, plan: Plan, model: StructRef, batch: StructRef, team: Team
    ) -> None:
        self.k = k
        self.plan = plan
        self.vocab = plan.spec.vocab_size
        self.n = plan.spec.hidden_size
        self.kind = plan.head_kind
        self.model = model
        self.head = HEAD.at(k, model["head"])
        self.batch = batch
        self.team = team
        self.n_hidden = batch["n_hidden"]
        self.n_logits = batch["n_logits"]

    # -- memory -----------------------------------------------------------------------------

    def hidden(self, row: Dim, count: Dim = 1) -> Buffer:
        """`count` rows of hidden states after the final norm."""
        width = self.plan.hidden
        return self.batch.buffer("row", t.f32, self.n_hidden * width).part(
            row * width, count * width
        )

    def logits(self, row: Dim, count: Dim = 1) -> Buffer:
        whole = self.batch.buffer("logits", t.f32, self.n_logits * self.vocab)
        return whole.part(row * self.vocab, count * self.vocab)

    def per_row(self, field: str, element: t.Type, row: Dim, count: int = 1) -> Buffer:
        """`count` elements of a buffer that has as many for each row of logits."""
        whole = self.batch.buffer(field, element, self.batch["max_tokens"] * count)
        return whole.part(row * count, count)

    def split(self, row: Dim, count: int = 1) -> Split:
        form: Format = LAYOUTS[self.kind].split_format(self.n)
        most = self.batch["max_tokens"]
        q = self.batch.buffer("head_q", t.i8, most * (2 * form.columns))
        offsets = self.batch.buffer("head_offsets", t.i32, most * (2 * form.n_blocks))
        scale = self.batch.buffer("head_scale", t.f32, most)
        return Split(form, q, offsets, scale).rows(row, count)

    def table(self) -> Buffer:
        return self.head.buffer("table", STORED[self.plan.stored_head], self.vocab * self.n)

    def row_bounds(self) -> int8.RowBounds:
        return int8.row_bounds(self.head, n_tiles(self.plan) * TILE)

    # -- phases -----------------------------------------------------------------------------

    def write(self) -> None:
        self.norm()
        if not self.plan.spec.has_head:
            return
        if self.kind == "stored":
            self.stored(0)
        elif self.kind == "certified":
            n_certified = self.batch["n_certified"]
            self.quantised(n_certified, self.note_bounds)
            self.find_thresholds(n_certified)
            self.rescore(n_certified)
            self.compute_exact_ids()
            self.stored(n_certified)
        else:
            self.quantised(self.n_logits, self.store)

    def norm(self) -> None:
        """Norm the rows that are wanted, and quantise them if the head does."""
        k, spec, width = self.k, self.plan.spec, self.plan.hidden
        tokens = self.batch.buffer("hidden_tokens", t.i32, self.n_hidden)
        with self.team.phase("output_norm", self.n_hidden) as i:
            x = self.batch.buffer("x", t.f32, self.batch["max_tokens"] * width)
            x = x.part(tokens[i].zext(t.i64) * width, width)
            weight = self.model.buffer("output_norm", t.f32, width)
            y = self.hidden(i)
            rms_norm(k, x, weight, y, spec.hidden_size, spec.rms_norm_eps)
            if self.kind != "stored":
                split(k, y, self.split(i))
            if self.kind == "certified":
                bounds = self.per_row("head_bounds", t.f32, i, 2)
                norm = self.head["largest_norm"]
                certify.token_bound(k, y, self.split(i), self.n, norm, bounds)

    def stored(self, first: Dim) -> None:
        """The rows of logits from `first` on, with the table as it is."""
        k = self.k
        n = self.n_logits - first
        n_items = -(-self.vocab // (_ITEM_TILES * TILE))
        with self.team.phase("head", (n > 0).select(n_items, k.index(0))) as item:
            start = item * (_ITEM_TILES * TILE)
            stop = k.min(start + _ITEM_TILES * TILE, self.vocab)
            h, logits = self.hidden(first, n), self.logits(first, n)
            kind = self.plan.stored_head
            head_rows(k, self.table(), start, stop, h, self.n, n, logits, self.vocab, kind)

    def quantised(self, n: Value, use: Use) -> None:
        """Write use(row, tile, logits) for the first n rows of logits and all tiles."""
        k, tiles = self.k, n_tiles(self.plan)
        whole = n // _TOKENS * _TOKENS
        n_items = (n > 0).select(-(-tiles // _ITEM_TILES), k.index(0))
        with self.team.phase("head_int8" if self.kind == "certified" else "head", n_items) as item:
            first = item * _ITEM_TILES
            with k.loop(first, k.min(first + _ITEM_TILES, tiles)) as tile:
                for start, stop, count in ((0, whole, _TOKENS), (whole, n, 1)):
                    with k.loop(start, stop, count) as row:
                        for i, logits in enumerate(self.products(row, count, tile)):
                            use(row + i, tile, logits)

    def products(self, row: Value, count: int, tile: Value) -> list[Value]:
        """The logits of a tile for `count` rows of activations: f32x16 each."""
        layout = LAYOUTS[self.kind]
        size = layout.tile_bytes(self.n)
        packed = self.head.buffer("packed", t.i8, n_tiles(self.plan) * size).part(tile * size, size)
        x = self.split(row, count)
        if layout is int8:
            scales = self.row_bounds().scale.load(tile * TILE, TILE)
            return int8.dots(self.k, packed, scales, x, count)
        results: list[Value] = layout.dots(self.k, packed, x, count)
        return results

    def store(self, row: Value, tile: Value, logits: Value) -> None:
        out, whole = self.logits(row), self.vocab // TILE
        with self.k.if_(tile < whole):
            out.store(tile * TILE, logits)
        if self.vocab % TILE:
            with self.k.if_(tile.equals(whole)):
                out.store(tile * TILE, logits, valid=self.vocab % TILE)

    def note_bounds(self, row: Value, tile: Value, logits: Value) -> None:
        self.store(row, tile, logits)
        token = self.per_row("head_bounds", t.f32, row, 2)
        bound = certify.bounds(self.k, self.row_bounds(), tile * TILE, token)
        best = self.per_row("head_best", t.f32, row, n_tiles(self.plan))
        best[tile] = certify.best_lower(self.k, logits, bound)

    def find_thresholds(self, n: Value) -> None:
        ranks = self.batch.buffer("ranks", t.i64, n)
        with self.team.phase("head_threshold", n) as row:
            best = self.per_row("head_best", t.f32, row, n_tiles(self.plan))
            threshold = self.per_row("head_threshold", t.f32, row)
            threshold[0] = certify.kth_largest(self.k, best, ranks[row])

    def rescore(self, n: Value) -> None:
        """Compute what may be among the best again, exactly; the rest becomes -inf."""
        k, whole = self.k, self.vocab // TILE
        chunks = -(-n_tiles(self.plan) // _CHUNK_TILES)
        with self.team.phase("head_rescore", n * chunks) as item:
            row, chunk = item // chunks, item % chunks
            first = chunk * _CHUNK_TILES
            with k.loop(first, k.min(first + _CHUNK_TILES, whole)) as tile:
                self.rescore_tile(row, tile * TILE, TILE)
            if self.vocab % TILE:
                with k.if_(chunk.equals(chunks - 1)):
                    self.rescore_tile(row, k.index(whole * TILE), self.vocab % TILE)

    def rescore_tile(self, row: Value, first: Value, valid: int) -> None:
        """The tokens first..first+valid-1."""
        k, logits = self.k, self.logits(row)
        p = logits.load(first, TILE, valid=valid)
        token = self.per_row("head_bounds", t.f32, row, 2)
        bound = certify.bounds(k, self.row_bounds(), first, token)
        # Not "not below": what is not a number must be computed exactly.
        out = p + bound < self.per_row("head_threshold", t.f32, row)[0]
        logits.store(first, out.select(float("-inf"), p), valid=valid)
        left = (out.bitcast(t.i16) ^ -1) & ((1 << valid) - 1)
        with k.if_(left.equals(0) ^ 1), k.loop(0, valid) as lane:
            bit = left.zext(t.i64).lshr(lane) & 1
            with k.if_(bit.equals(1)):
                self.compute(row, first + lane)

    def compute_exact_ids(self) -> None:
        n = self.batch["n_exact"]
        rows, ids = (self.batch.buffer(f, t.i32, n) for f in ("exact_rows", "exact_ids"))
        with self.team.phase("head_exact_ids", n) as i:
            self.compute(rows[i].zext(t.i64), ids[i].zext(t.i64))

    def compute(self, row: Value, token: Value) -> None:
        """One logit, from the stored table."""
        kind = self.plan.stored_head
        dot = row_dot(self.k, self.table(), token, self.hidden(row), self.n, kind)
        self.logits(row)[token] = dot
