from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitnet.bench.random_source import RandomCheckpoint, RandomSource
from bitnet.errors import InvalidArgumentError, UnsupportedOperationError
from tests.program.random_models import spec as small_spec

# Every tensor is a number of whole blocks of I2_S.
SPEC = replace(small_spec(), hidden_size=128, ffn_size=256, n_heads=8, head_dim=16)
Q, V = "blk.0.attn_q.weight", "blk.1.attn_v.weight"


def source(seed: int = 0) -> RandomSource:
    return RandomSource("random", SPEC, seed)


def all_codes(of: RandomSource, name: str) -> np.ndarray:
    tensor = of.ternary(name)
    return tensor.codes(0, tensor.shape[0])


def test_every_tensor_of_the_shape_is_there() -> None:
    random = source()
    for name, shape in random.spec.ternary_shapes().items():
        assert all_codes(random, name).shape == shape
    for name, shape in random.spec.dense_shapes().items():
        assert random.dense(name).data.shape == shape
        assert np.isfinite(random.dense(name).float32()).all()


def test_codes_come_about_equally_often() -> None:
    counts = np.bincount(all_codes(source(), "blk.0.ffn_gate.weight").reshape(-1), minlength=3)
    assert len(counts) == 3
    assert counts.min() > 0.3 * counts.sum()


def test_a_seed_repeats_its_tensors_and_no_two_are_the_same() -> None:
    assert (all_codes(source(), Q) == all_codes(source(), Q)).all()
    assert (all_codes(source(), Q) != all_codes(source(1), Q)).any()
    first, second = (all_codes(source(), f"blk.{n}.attn_q.weight") for n in (0, 1))
    assert (first != second).any()
    table = "token_embd.weight"
    assert (source().dense(table).data == source().dense(table).data).all()


def test_a_scale_keeps_the_variance_of_activations() -> None:
    tensor = source().ternary(V)
    assert tensor.scale == pytest.approx(tensor.shape[1] ** -0.5)


def test_a_shape_can_be_cut() -> None:
    checkpoint = RandomCheckpoint("2b4t", 2)
    assert checkpoint.spec.n_layers == 2
    assert checkpoint.name == "random 2b4t, 2 of 30 layers"
    assert checkpoint.spec.hidden_size == 2560


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [("4b", None, "unknown shape '4b'"), ("3b", 0, "1..26 layers"), ("3b", 27, "not 27")],
)
def test_a_senseless_shape_is_refused(shape: str, layers: int | None, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        RandomCheckpoint(shape, layers)


def test_there_is_no_tokenizer() -> None:
    with pytest.raises(UnsupportedOperationError, match="tokenizer"):
        source().tokenizer()
