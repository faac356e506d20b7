"""One model, stored in every way there is, computes the same logits.

Its scales are powers of two and its latent weights have them as their exact mean, so that every
type and convention holds the very same model: the bits are compared. Only interleaved rotary
pairs sum queries times keys in another order; they are held to the rules for other engines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bitnet
from bitnet.conversion import convert
from bitnet.formats.gguf_writer import TensorData
from bitnet.kernels.layouts import LayoutName
from bitnet.models import open_checkpoint
from bitnet.quant.tl_config import CONFIG_NAME, Blocks, Shape, TLName, write_config
from tests.models.conftest import (
    TinyModel,
    make_tiny,
    rounded,
    write_safetensors,
    write_tiny_folder,
    write_tiny_gguf,
)
from tests.parity.agreement import judge
from tests.parity.expected import Expected
from tests.parity.plain import PlainModel

ARCHITECTURES = ("bitnet-b1.58", "bitnet", "llama")
F32 = npt.NDArray[np.float32]


@dataclass
class LatentModel(TinyModel):
    """A tiny model that was quantised from latent weights."""

    latents: dict[str, F32] = field(default_factory=dict)

    def latent(self, name: str) -> F32:
        return self.latents[name]


@dataclass(frozen=True)
class Original:
    """A model and its logits for some sequences."""

    model: LatentModel
    expected: list[Expected]

    def assert_same_bits(self, path: Path) -> None:
        with open_checkpoint(path) as checkpoint:
            for name, codes in self.model.codes.items():
                tensor = checkpoint.ternary(name)
                np.testing.assert_array_equal(tensor.codes(0, len(codes)), codes)
                assert tensor.scale == self.model.scales[name]
        logits = run(path, self.expected)
        for mine, theirs in zip(logits, self.expected, strict=True):
            np.testing.assert_array_equal(mine.view(np.uint32), theirs.logits.view(np.uint32))


def run(path: Path, sequences: list[Expected]) -> list[F32]:
    with bitnet.load(path, kv="f32") as model:
        return [model.logits(sequence.ids) for sequence in sequences]


def make_model(architecture: str, unit: float = 1.0) -> LatentModel:
    """A model of two layers whose scales are `unit` times a power of two."""
    sizes = {"hidden_size": 256, "ffn_size": 512, "head_dim": 64, "vocab_size": 71}
    tiny = make_tiny(architecture, **sizes, context_length=128)
    model = LatentModel(tiny.spec, dense=tiny.dense)
    rng = np.random.default_rng(3)
    for name in sorted(model.dense):
        if name in ("token_embd.weight", "output.weight"):
            model.dense[name] = rounded(rng.normal(0, 0.15, model.dense[name].shape))
    for name, shape in model.spec.ternary_shapes().items():
        # Equally often 1/64, 3/64 ... 127/64: their mean is 1, and seven bits hold them.
        size = shape[0] * shape[1]
        magnitudes = (np.arange(size, dtype=np.float32) % 64 + 0.5) / 32
        weights = rng.permutation(magnitudes * np.resize(np.float32([1, -1]), size)).reshape(shape)
        scale = float(np.float32(unit * 2.0 ** -rng.integers(3, 6)))
        model.codes[name] = (np.clip(np.rint(weights), -1, 1) + 1).astype(np.uint8)
        model.scales[name] = scale
        model.latents[name] = weights * np.float32(scale)
    return model


def run_original(model: LatentModel, folder: Path) -> Original:
    """Run the model from one folder; the plain forward pass vouches for the logits."""
    write_tiny_folder(model, folder, "autobitlinear", kind="F32")
    plain = PlainModel(folder)
    rng = np.random.default_rng(4)
    sequences = [rng.choice(plain.settled_ids(), n).astype(np.int32) for n in (70, 3, 2, 2, 1)]
    exact = [plain.logits(ids) for ids in sequences]
    truth = [
        Expected(ids, logits.astype(np.float32), tie_free)
        for ids, (logits, tie_free) in zip(sequences, exact, strict=True)
    ]
    logits = run(folder, truth)
    judge(logits, truth, model.spec.n_layers)
    return Original(
        model,
        [Expected(t.ids, mine, t.tie_free) for t, mine in zip(truth, logits, strict=True)],
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Original]:
    folder = tmp_path_factory.mktemp("originals")
    return {name: run_original(make_model(name), folder / name) for name in ARCHITECTURES}


@pytest.mark.parametrize(
    ("convention", "kind"),
    [("online", "F32"), ("online", "BF16"), ("bitlinear", "BF16"), ("unpacked", "BF16")],
)
def test_hugging_face_folders(
    originals: dict[str, Original], convention: str, kind: str, tmp_path: Path
) -> None:
    original = originals["bitnet-b1.58"]
    path = write_tiny_folder(original.model, tmp_path / "model", convention, kind=kind)
    original.assert_same_bits(path)


def test_1bitllm_folders(originals: dict[str, Original], tmp_path: Path) -> None:
    original = originals["bitnet"]
    path = write_tiny_folder(original.model, tmp_path / "model", "1bitllm", kind="F32")
    original.assert_same_bits(path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sharded_folders(originals: dict[str, Original], architecture: str, tmp_path: Path) -> None:
    original, tensors = originals[architecture], {}
    write_tiny_folder(original.model, tmp_path, "bitlinear", kind="F32", change=tensors.update)
    (tmp_path / "model.safetensors").unlink()
    shards = {f"model-{n + 1:05}-of-00003.safetensors": list(tensors)[n::3] for n in range(3)}
    for file, names in shards.items():
        write_safetensors(tmp_path / file, {name: tensors[name] for name in names})
    files = {name: file for file, names in shards.items() for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    original.assert_same_bits(tmp_path)


@pytest.mark.parametrize(
    ("linear_type", "dense_type"),
    [("I2_S", "F32"), ("I2_S", "BF16"), ("F32", "F32"), ("F16", "F32")],
)
def test_gguf_files(
    originals: dict[str, Original], linear_type: str, dense_type: str, tmp_path: Path
) -> None:
    original, path = originals["bitnet-b1.58"], tmp_path / "model.gguf"
    write_tiny_gguf(original.model, path, linear_type=linear_type, dense_type=dense_type)
    original.assert_same_bits(path)


TL_BLOCKS: dict[TLName, dict[Shape, Blocks]] = {
    "TL1": {
        (256, 256): Blocks(128, 64, 64),
        (128, 256): Blocks(64, 32, 32),
        (512, 256): Blocks(256, 128, 64),
        (256, 512): Blocks(256, 64, 32),
    },
    "TL2": {
        (256, 256): Blocks(128, 96, 32),
        (128, 256): Blocks(64, 192, 32),
        (512, 256): Blocks(256, 192, 32),
        (256, 512): Blocks(256, 96, 32),
    },
}


@pytest.mark.parametrize("linear_type", TL_BLOCKS)
def test_gguf_files_for_look_ups(
    originals: dict[str, Original], linear_type: TLName, tmp_path: Path
) -> None:
    original, path = originals["bitnet-b1.58"], tmp_path / "model.gguf"
    blocks = TL_BLOCKS[linear_type]
    write_tiny_gguf(original.model, path, linear_type=linear_type, blocks=blocks)
    (tmp_path / CONFIG_NAME).write_text(write_config(blocks))
    original.assert_same_bits(path)
    layout: LayoutName = "tl1" if linear_type == "TL1" else "tl2"
    with bitnet.load(path, kv="f32", layout=layout) as model:
        for sequence in original.expected:
            np.testing.assert_array_equal(model.logits(sequence.ids), sequence.logits)


def test_gguf_files_with_scales_of_their_own(
    originals: dict[str, Original], tmp_path: Path
) -> None:
    original, path = originals["bitnet"], tmp_path / "model.gguf"
    model = original.model
    scales = [
        TensorData(name.replace("weight", "scale"), (1,), "F32", np.array([scale], np.float32))
        for name, scale in model.scales.items()
    ]
    unscaled = TinyModel(model.spec, model.codes, dict.fromkeys(model.scales, 1.0), model.dense)
    write_tiny_gguf(unscaled, path, change=lambda tensors: tensors + scales)
    original.assert_same_bits(path)


@pytest.mark.parametrize("linear_type", ["I2_S", "F16"])
def test_gguf_files_with_interleaved_rotary_pairs(
    originals: dict[str, Original], linear_type: str, tmp_path: Path
) -> None:
    original, path = originals["llama"], tmp_path / "model.gguf"
    write_tiny_gguf(original.model, path, linear_type=linear_type)
    logits = run(path, original.expected)
    judge(logits, original.expected, original.model.spec.n_layers)
    # The first token attends to itself alone, whatever the scores.
    for mine, theirs in zip(logits, original.expected, strict=True):
        np.testing.assert_array_equal(mine[0], theirs.logits[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folders_by_way_of_a_gguf_file(
    originals: dict[str, Original], architecture: str, tmp_path: Path
) -> None:
    original = originals[architecture]
    source = write_tiny_folder(original.model, tmp_path / "source", "autobitlinear", kind="F32")
    convert(source, tmp_path / "model.gguf", "i2_s")
    if architecture != "llama":
        original.assert_same_bits(tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "model", "hf")
    original.assert_same_bits(tmp_path / "model")


def test_scales_that_are_no_powers_of_two(tmp_path: Path) -> None:
    """Stored as they are they stay the same bits; as an inverse or a mean, nearly."""
    model = make_model("bitnet-b1.58", unit=0.7)
    original = run_original(model, tmp_path / "autobitlinear")
    for linear_type in ("I2_S", "F32"):
        path = tmp_path / f"{linear_type}.gguf"
        original.assert_same_bits(write_tiny_gguf(model, path, linear_type=linear_type))
    for convention in ("bitlinear", "online"):
        path = write_tiny_folder(model, tmp_path / convention, convention, kind="F32")
        judge(run(path, original.expected), original.expected, model.spec.n_layers)
