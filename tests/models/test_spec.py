"""ModelSpec refuses numbers that no model has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bitnet.errors import InvalidArgumentError

Maker = Callable[..., Any]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 0}, "n_layers must be an integer in 1..1024, not 0"),
        ({"n_layers": 1025}, "n_layers"),
        ({"n_layers": True}, "n_layers"),
        ({"hidden_size": 2**24}, "hidden_size"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"n_kv_heads": 3}, "n_heads .4. must be a multiple of n_kv_heads .3."),
        ({"head_dim": 33}, "head_dim must be even"),
        ({"n_heads": 4096, "n_kv_heads": 1, "head_dim": 4096}, "n_heads . head_dim"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"activation": "relu"}, "activation must be one of relu2, silu, gelu, not 'relu'"),
        ({"pooling": "max"}, "pooling must be one of None, mean, cls, last, not 'max'"),
        ({"has_head": False}, "without an output head there is no table for one"),
        ({"input_norms": True, "sub_norms": True}, "input_norms and sub_norms exclude"),
        ({"rope_pairing": "both"}, "rope_pairing"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tiny: Maker, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny("llama", **changes)


def test_shapes_follow_from_the_numbers(tiny: Maker) -> None:
    spec = tiny("llama").spec
    ternary, dense = spec.ternary_shapes(), spec.dense_shapes()
    assert len(ternary) == 14
    assert ternary["blk.1.attn_k.weight"] == (64, 128)
    assert ternary["blk.0.ffn_down.weight"] == (128, 256)
    assert dense["output.weight"] == dense["token_embd.weight"] == (40, 128)
    assert "blk.0.attn_sub_norm.weight" not in dense
    sub = tiny("bitnet", head_dim=64).spec.dense_shapes()
    assert sub["blk.0.attn_sub_norm.weight"] == (256,)
    assert sub["blk.0.ffn_sub_norm.weight"] == (256,)
    assert "output.weight" not in sub
