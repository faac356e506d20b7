"""The structs that the compiled program and its callers share, declared once.

    forward(model *, batch *, thread)   every thread of the team calls it, with its number

A batch is used for one step and not changed afterwards: a thread may still walk through it when
the others are done with it.

Rows are padded with zeros to the widths in `Plan`. The scratch buffers of the batch hold
`max_tokens` rows each. A KV page holds a run of positions of one sequence for all layers, one
`KVLayout` page after the other.
"""

from __future__ import annotations

from bitnet.codegen import Struct

LAYER = Struct(
    "bn_layer",
    tuple(
        (name, "ptr")
        for name in (
            "attn_norm",  # f32[hidden]
            "attn_sub_norm",  # f32[attention]; unused without sub-norms, like ffn_sub_norm
            "ffn_norm",  # f32[hidden]
            "ffn_sub_norm",  # f32[ffn]
            "attn_q_norm_in",  # f32[hidden]; the next seven are unused without input norms
            "attn_k_norm_in",  # f32[hidden]
            "attn_v_norm_in",  # f32[hidden]
            "attn_output_norm_in",  # f32[attention]
            "ffn_gate_norm_in",  # f32[hidden]
            "ffn_up_norm_in",  # f32[hidden]
            "ffn_down_norm_in",  # f32[ffn]
            "attn_q_norm",  # f32[head_dim]; unused without norms of heads, like attn_k_norm
            "attn_k_norm",
            "post_attention_norm",  # f32[hidden]; unused without post-norms, like post_ffw_norm
            "post_ffw_norm",
            "qkv",  # packed ternary, rows q, k, v, see `models.matrices`
            "qkv_scale",  # f32[qkv], one per row
            "attn_output",
            "attn_output_scale",  # f32[hidden]
            "gate_up",  # packed ternary, 16 rows of gate, then 16 of up, and so on, or all of gate
            "gate_up_scale",  # f32[2 ffn]
            "down",
            "down_scale",  # f32[hidden]
        )
    ),
)

HEAD = Struct(
    "bn_head",
    (
        ("table", "ptr"),  # [vocab][hidden_size] as stored
        ("packed", "ptr"),  # tiles of 16 rows, unless the table is used as it is
        ("scale", "ptr"),  # f32[padded vocab] each, of int8 rows; see `kernels.int8.RowBounds`
        ("residual", "ptr"),
        ("norm", "ptr"),
        ("largest_norm", "f32"),  # no row of the table has a larger one
    ),
)

MODEL = Struct(
    "bn_model",
    (
        ("layers", "ptr"),  # bn_layer[n_layers]
        ("embedding", "ptr"),  # [vocab][hidden_size] as stored
        ("output_norm", "ptr"),  # f32[hidden]
        ("head", "ptr"),  # bn_head
        ("rope_cos", "ptr"),  # f32[n_positions][head_dim / 2]
        ("rope_sin", "ptr"),
        ("n_positions", "i64"),
    ),
)

# Work for one kv head: neighbouring tokens of a sequence, all or one of the spans they see.
ATTENTION_ITEM = Struct(
    "bn_attention_item",
    (
        ("first_token", "i64"),
        ("n_tokens", "i64"),
        ("first_span", "i64"),
        ("end_span", "i64"),
        ("slot", "i64"),  # where the first token's result over a span goes, then the next one's
    ),
)

BATCH = Struct(
    "bn_batch",
    (
        ("n_tokens", "i64"),
        ("n_hidden", "i64"),  # rows of hidden states after the final norm
        ("n_logits", "i64"),  # the first of them become logits too
        ("n_certified", "i64"),  # the first of those; the others want all logits exact
        ("n_exact", "i64"),
        ("tokens", "ptr"),  # i32[n_tokens]
        ("positions", "ptr"),  # i32[n_tokens]
        ("sequences", "ptr"),  # i32[n_tokens], row of page_table
        ("hidden_tokens", "ptr"),  # i32[n_hidden], whose they are
        ("ranks", "ptr"),  # i64[n_certified], how many of the best logits must be exact
        ("exact_rows", "ptr"),  # i32[n_exact], logits that must be exact too: which row,
        ("exact_ids", "ptr"),  # i32[n_exact], and which token
        ("page_table", "ptr"),  # i64[n_sequences][pages_per_sequence], addresses of pages
        ("n_sequences", "i64"),
        ("pages_per_sequence", "i64"),
        ("attention_items", "ptr"),  # bn_attention_item[n_attention_items]
        ("n_attention_items", "i64"),
        ("n_blocks", "i64"),  # of tokens; the first of the items are one of each
        ("partials", "ptr"),  # f32[n_kv_heads][n_slots][heads of a group][partial_size]
        ("arrived", "ptr"),  # i64[n_kv_heads][n_slots], zero at first
        ("n_slots", "i64"),
        ("logits", "ptr"),  # f32[n_logits][vocab]
        ("max_tokens", "i64"),
        ("x", "ptr"),  # f32[hidden], the residual stream
        ("row", "ptr"),  # f32[widest row], input of the next linear; in the end the hidden states
        ("q", "ptr"),  # i8[widest], that input quantised; after all rows, those of a second input
        ("q_scale", "ptr"),  # f32 for each row of q
        ("q_total", "ptr"),  # i32
        ("qkv", "ptr"),  # f32[qkv]
        ("head_q", "ptr"),  # the next six are for rows of logits, see `program.head`
        ("head_offsets", "ptr"),
        ("head_scale", "ptr"),
        ("head_bounds", "ptr"),
        ("head_best", "ptr"),
        ("head_threshold", "ptr"),
        ("n_regions", "i64"),
        ("sync", "ptr"),  # i64[phases][1 + n_regions][SYNC_WORDS], zero at first; see `team`
        ("yield_thread", "ptr"),  # int (*)(void): give the core away, called in long waits
        ("profile", "ptr"),  # i64[PROFILE_START + PROFILE_ROW * rows], zero at first; see `timer`
        ("profile_rows", "i64"),  # one for each thread that may come
    ),
)

# Words of a counter: a cache line. A phase has one for the items done, then one for each region.
SYNC_WORDS = 8

# Where a profiled program keeps its times: a counter of the threads that have come, then a row
# for each of them with PROFILE_COLUMNS words a phase: how often it ran, items done, ticks
# spent on them, ticks spent waiting for others.
PROFILE_START = 8
PROFILE_PHASES = 32
PROFILE_CALLS, PROFILE_ITEMS, PROFILE_WORK, PROFILE_WAIT = range(4)
PROFILE_COLUMNS = 4
PROFILE_ROW = PROFILE_PHASES * PROFILE_COLUMNS

CDEF = LAYER.cdef + HEAD.cdef + MODEL.cdef + ATTENTION_ITEM.cdef + BATCH.cdef
