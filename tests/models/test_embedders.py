"""The embedding models in the layouts that are published, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.models import open_checkpoint
from tests.embedder_files import CONTEXT, HEAD_DIM, Embedder, Kind, write_pooling

KINDS: tuple[Kind, ...] = ("qwen3", "gemma3")
MODELS = {kind: Embedder(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Embedder:
    return MODELS[request.param]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_folder_and_gguf_file_mean_the_same(tmp_path: Path, model: Embedder, prefix: str) -> None:
    folder = model.write_folder(tmp_path / "folder", prefix=prefix)
    with (
        open_checkpoint(folder) as trained,
        open_checkpoint(model.write_gguf(tmp_path / "m.gguf")) as converted,
    ):
        assert trained.spec == converted.spec
        assert not trained.spec.has_head
        assert (trained.spec.head_dim, trained.spec.pooling) == (HEAD_DIM, "last")
        for name in trained.spec.dense_shapes():
            values = [c.dense(name).float32() for c in (trained, converted)]
            np.testing.assert_array_equal(*values)
        for name, (rows, _) in trained.spec.ternary_shapes().items():
            tensors = [c.ternary(name) for c in (trained, converted)]
            np.testing.assert_array_equal(*(t.codes(0, rows) for t in tensors))
            assert tensors[0].scale == tensors[1].scale


def test_only_native_norms_of_gemma_are_stored_less_one(tmp_path: Path) -> None:
    model = MODELS["gemma3"]
    with open_checkpoint(model.write_folder(tmp_path / "folder")) as checkpoint:
        for name, stored in model.tensors.items():
            if stored.ndim == 1:
                added = 0 if name.endswith("_proj.norm.weight") else 1
                read = checkpoint.dense(model.names[name]).float32()
                np.testing.assert_array_equal(read, stored + np.float32(added))


@pytest.mark.parametrize("kind", ["F16", "F32"])
def test_linears_of_converted_files_may_be_floats(tmp_path: Path, kind: str) -> None:
    model = MODELS["qwen3"]
    path = model.write_gguf(tmp_path / "m.gguf", linear_type=kind)
    with (
        open_checkpoint(path) as floats,
        open_checkpoint(model.write_gguf(tmp_path / "i2_s.gguf")) as packed,
    ):
        for name, (rows, _) in packed.spec.ternary_shapes().items():
            ours, theirs = (c.ternary(name) for c in (floats, packed))
            np.testing.assert_array_equal(ours.codes(0, rows), theirs.codes(0, rows))
            assert ours.scale == theirs.scale


@pytest.mark.parametrize(
    ("number", "pooling"), [(None, None), (0, None), (1, "mean"), (2, "cls"), (3, "last")]
)
def test_pooling_of_gguf_files(tmp_path: Path, number: int | None, pooling: str | None) -> None:
    path = MODELS["qwen3"].write_gguf(tmp_path / "m.gguf", pooling=number)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.spec.pooling == pooling


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [(None, None), ("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last")],
)
def test_pooling_of_folders(tmp_path: Path, mode: str | None, pooling: str | None) -> None:
    folder = MODELS["gemma3"].write_folder(tmp_path / "folder", pooling=mode)
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.spec.pooling == pooling


@pytest.mark.parametrize(
    ("modes", "message"),
    [
        ({}, "must choose one of pooling_mode_mean_tokens, .*, not None"),
        ({"pooling_mode_max_tokens": True}, "not pooling_mode_max_tokens"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": True}, "cls_token, pooling"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": False}, "without the prompt"),
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, modes: dict[str, Any], message: str) -> None:
    folder = MODELS["qwen3"].write_folder(tmp_path / "folder", pooling=None)
    write_pooling(folder, modes)
    with pytest.raises(UnsupportedModelError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "must be a list of objects with a type"),
        ([{"type": 3}], "must be a list of objects with a type"),
        ([{"type": "a.Pooling", "path": "../1_Pooling"}], "'../1_Pooling', not a folder"),
        ([{"type": "a.Pooling", "path": ".."}], "'..', not a folder"),
        ([{"type": "a.Pooling"}], "None, not a folder"),
        ([{"type": "a.Pooling", "path": "nowhere"}], "nowhere.config.json: cannot be read"),
    ],
)
def test_broken_lists_of_modules_are_refused(tmp_path: Path, modules: Any, message: str) -> None:
    folder = MODELS["qwen3"].write_folder(tmp_path / "folder")
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidModelError, match=message):
        open_checkpoint(folder)


def test_other_modules_than_pooling_do_not_matter(tmp_path: Path) -> None:
    folder = MODELS["qwen3"].write_folder(tmp_path / "folder")
    (folder / "modules.json").write_text('[{"type": "a.Normalize", "path": ""}]')
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.spec.pooling is None


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window is set"),
        (
            "qwen3",
            {"layer_types": ["full_attention", "sliding_attention"]},
            "sliding_attention are",
        ),
        ("qwen3", {"attention_bias": True}, "attention_bias is set"),
        ("gemma3", {"hidden_activation": "gelu"}, "is not supported"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is set"),
        ("gemma3", {"query_pre_attn_scalar": 256}, "256 is not supported, only head_dim 64"),
        ("gemma3", {"rope_theta": 1000000.0}, r"rope_theta .*: \[10000.0, 1000000.0\]"),
        ("gemma3", {"layer_types": ["full_attention", "other"]}, "layer_types other are"),
        (
            "gemma3",
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1e4}}},
            "rope scaling 'linear'",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(
    tmp_path: Path, kind: Kind, config: dict[str, Any], message: str
) -> None:
    folder = MODELS[kind].write_folder(tmp_path / "folder", config=config)
    with pytest.raises(UnsupportedModelError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("config", "theta", "context"),
    [
        ({"sliding_window": 64}, 1e4, 64),
        ({"layer_types": ["full_attention"] * 2, "rope_theta": 1e6}, 1e6, CONTEXT),
        ({"layer_types": ["full_attention"] * 2, "sliding_window": 64}, 1e4, CONTEXT),
        ({"layer_types": None, "rope_theta": 1e6}, 1e4, CONTEXT),  # both are local ones
        ({"layer_types": None, "sliding_window_pattern": 1, "rope_theta": 1e6}, 1e6, CONTEXT),
        (
            {
                "layer_types": ["sliding_attention", "full_attention"],
                "rope_parameters": {
                    kind: {"rope_type": "default", "rope_theta": 5e4}
                    for kind in ("sliding_attention", "full_attention")
                },
            },
            5e4,
            CONTEXT,
        ),
    ],
)
def test_layers_of_gemma_that_see_only_a_window(
    tmp_path: Path, config: dict[str, Any], theta: float, context: int
) -> None:
    """The context ends where the window would begin to matter."""
    folder = MODELS["gemma3"].write_folder(tmp_path / "folder", config=config)
    with open_checkpoint(folder) as checkpoint:
        assert (checkpoint.spec.rope_theta, checkpoint.spec.context_length) == (theta, context)


@pytest.mark.parametrize("kinds", ["full_attention", ["full_attention"]])
def test_layer_types_must_be_one_for_each_layer(tmp_path: Path, kinds: Any) -> None:
    folder = MODELS["gemma3"].write_folder(tmp_path / "folder", config={"layer_types": kinds})
    with pytest.raises(InvalidModelError, match="layer_types must be a list of 2 names"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"gemma3.attention.causal": False}, "attention to later tokens is not supported"),
        ({"gemma3.attention.scale": 0.5}, "attention.scale 0.5 is not supported, only 0.125"),
        ({"gemma3.attention.sliding_window": 512}, "sliding-window attention"),
        ({"gemma3.pooling_type": 4}, "gemma3.pooling_type 4 is not supported"),
    ],
)
def test_gguf_files_of_what_cannot_be_computed_are_refused(
    tmp_path: Path, metadata: dict[str, Any], message: str
) -> None:
    path = MODELS["gemma3"].write_gguf(tmp_path / "m.gguf", metadata=metadata)
    with pytest.raises(UnsupportedModelError, match=message):
        open_checkpoint(path)


def test_metadata_that_says_what_is_usual_does_no_harm(tmp_path: Path) -> None:
    usual = {"gemma3.attention.causal": True, "gemma3.attention.scale": np.float32(HEAD_DIM**-0.5)}
    open_checkpoint(MODELS["gemma3"].write_gguf(tmp_path / "m.gguf", metadata=usual)).close()


@pytest.mark.parametrize("missing", ["self_attn.k_proj.norm", "self_attn.q_norm", "mlp.up_proj"])
def test_a_missing_tensor_is_named(tmp_path: Path, missing: str) -> None:
    """A plain Qwen3 has no norms in its linear layers, and is no ternary model."""
    model = Embedder("qwen3")
    name = f"layers.1.{missing}.weight"
    del model.tensors[name]
    ours = name.replace("_proj.norm", "_proj.rms_norm")  # as transformers has it
    with pytest.raises(InvalidModelError, match=f"tensor model.{ours}: is missing"):
        open_checkpoint(model.write_folder(tmp_path / "folder"))
    with pytest.raises(InvalidModelError, match=f"tensor {model.names[name]}: is missing"):
        open_checkpoint(model.write_gguf(tmp_path / "m.gguf"))
